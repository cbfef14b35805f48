
/*
 * Setters of directives that say what is wrong and what is allowed.
 */


#ifndef _NGX_TUNNEL_CONF_H_INCLUDED_
#define _NGX_TUNNEL_CONF_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


/*
 * What a front end's layer, http or stream, does for the engine: compiles a
 * value, which may have variables, and evaluates what it compiled for one
 * request or session, its data.
 */

typedef struct {
    void                     *tag;               /* of its shared zones */

    /* returns NULL if there is no memory or, said in the log, it can't be */

    void                   *(*compile)(ngx_conf_t *cf, ngx_str_t *value);

    /* returns NGX_OK or NGX_ERROR */

    ngx_int_t               (*eval)(void *data, void *compiled,
                                 ngx_str_t *value);
} ngx_tunnel_layer_t;


/* as the slots of nginx, whose messages lack the value or what is allowed */

char *ngx_tunnel_conf_msec_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_conf_size_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_conf_num_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* cmd->post is an array of ngx_conf_enum_t, of ngx_conf_bitmask_t */

char *ngx_tunnel_conf_enum_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_conf_bitmask_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* the choice that a value is, or NULL; and to say which ones there are */

ngx_conf_enum_t *ngx_tunnel_conf_choice(ngx_conf_enum_t *e, ngx_str_t *value);
char *ngx_tunnel_conf_invalid_choice(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *value, ngx_conf_enum_t *e);

#if (NGX_PCRE)

/*
 * Compiles "~regex" or "~*regex", which is what; returns NULL after an error
 * that it has logged
 */

ngx_regex_t *ngx_tunnel_conf_regex(ngx_conf_t *cf, ngx_str_t *value,
    const char *what);

#endif

/* says that a value is not what is allowed; returns NGX_CONF_ERROR */

char *ngx_tunnel_conf_invalid(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *value, const char *allowed);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_CONF_H_INCLUDED_ */
