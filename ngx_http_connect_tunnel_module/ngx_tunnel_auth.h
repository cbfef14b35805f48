
/*
 * Auth: users and passwords of an htpasswd file.
 */


#ifndef _NGX_TUNNEL_AUTH_H_INCLUDED_
#define _NGX_TUNNEL_AUTH_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


/* without crypt() nginx has no password formats */

#if (NGX_CRYPT)
#define NGX_TUNNEL_HAVE_AUTH     1
#endif

/* a crypt() that is not reentrant is not for threads */

#if (NGX_THREADS && NGX_HAVE_GNU_CRYPT_R)
#define NGX_TUNNEL_AUTH_THREADS  1
#endif


/* what the checks of one configuration share: threads, and what has matched */

typedef struct ngx_tunnel_users_s  ngx_tunnel_users_t;

/* a check whose password is being hashed */

typedef struct ngx_tunnel_auth_task_s  ngx_tunnel_auth_task_t;

typedef struct ngx_tunnel_auth_s  ngx_tunnel_auth_t;

typedef void (*ngx_tunnel_auth_pt)(ngx_tunnel_auth_t *a, ngx_int_t rc);


struct ngx_tunnel_auth_s {

    /* set by the caller, zeroes elsewhere */

    ngx_tunnel_users_t           *users;
    ngx_log_t                    *log;
    ngx_str_t                     file;          /* ends with a null byte */
    ngx_str_t                     user;
    ngx_str_t                     password;
    ngx_tunnel_auth_pt            handler;
    void                         *data;

    /* why it is not NGX_OK */

    const char                   *what;

    /* private */

    ngx_tunnel_auth_task_t       *task;
};


/* returns NULL after an error that it has logged */

ngx_tunnel_users_t *ngx_tunnel_users_create(ngx_conf_t *cf);

/*
 * Looks the user up in the file, which is read anew, and compares passwords.
 * Returns NGX_OK, NGX_DECLINED if there is no such user with that password,
 * or NGX_ERROR, which is in the log if it is not the machine's limit; or
 * NGX_AGAIN if the handler will be called with one of these.
 *
 * To hash a password takes long, and is for other threads to do, where nginx
 * has them.  User and password are copied then.
 */

ngx_int_t ngx_tunnel_auth(ngx_tunnel_auth_t *a);

/* the handler is not called any more; safe in any state */

void ngx_tunnel_auth_cancel(ngx_tunnel_auth_t *a);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_AUTH_H_INCLUDED_ */
