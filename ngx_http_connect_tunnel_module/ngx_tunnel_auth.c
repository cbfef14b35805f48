
/*
 * Auth: users and passwords of an htpasswd file, in the formats that nginx's
 * auth_basic has.
 */


#include "ngx_tunnel_auth.h"

#if (NGX_TUNNEL_HAVE_AUTH)

#include <ngx_crypt.h>

#if (NGX_TUNNEL_AUTH_THREADS)
#include <ngx_thread_pool.h>
#endif

#if (NGX_OPENSSL)
#include <openssl/hmac.h>
#include <openssl/rand.h>
#endif


#define NGX_TUNNEL_AUTH_BUFFER   4096

/* the longest hash, with its format and salt, and its null byte, bytes */

#define NGX_TUNNEL_AUTH_HASH     512

/* what a message to be authenticated takes at most: RFC 1929's two names */

#define NGX_TUNNEL_AUTH_MESSAGE  (2 * 256 + NGX_TUNNEL_AUTH_HASH)

/* how many are remembered to have matched */

#define NGX_TUNNEL_AUTH_MATCHES  1024

#define NGX_TUNNEL_AUTH_DIGEST   32


struct ngx_tunnel_users_s {
#if (NGX_TUNNEL_AUTH_THREADS)
    ngx_thread_pool_t            *threads;       /* NULL: none can be had */
#endif

#if (NGX_OPENSSL)

    /*
     * HMACs of users with their passwords and hashes, by a key that each
     * worker makes itself; what matched once is not hashed again
     */

    u_char                        key[NGX_TUNNEL_AUTH_DIGEST];
    u_char                       *matches;
    unsigned                      keyed:1;
#endif
};


struct ngx_tunnel_auth_task_s {
    ngx_tunnel_auth_t   *volatile auth;          /* NULL: has gone, which the
                                                    thread looks at */
    ngx_pool_t                   *pool;
    u_char                        digest[NGX_TUNNEL_AUTH_DIGEST];
    ngx_uint_t                    digested;
    ngx_int_t                     rc;
    ngx_str_t                     password;
    u_char                        hash[NGX_TUNNEL_AUTH_HASH];
};


typedef enum {
    ngx_tunnel_auth_user = 0,
    ngx_tunnel_auth_hash,
    ngx_tunnel_auth_skip
} ngx_tunnel_auth_state_e;


/* where reading a file has come to */

typedef struct {
    ngx_tunnel_auth_state_e       state;
    size_t                        n;             /* bytes that match, or of
                                                    the hash */
} ngx_tunnel_auth_scan_t;


#if (NGX_TUNNEL_AUTH_THREADS)
static ngx_uint_t ngx_tunnel_auth_notified(ngx_conf_t *cf);
#endif
static ngx_int_t ngx_tunnel_auth_find(ngx_tunnel_auth_t *a, u_char *hash);
static ngx_int_t ngx_tunnel_auth_scan(ngx_tunnel_auth_scan_t *scan,
    ngx_str_t *user, u_char *hash, u_char *p, u_char *last);
static ngx_int_t ngx_tunnel_auth_hash_password(ngx_pool_t *pool,
    u_char *password, u_char *hash);
static ngx_uint_t ngx_tunnel_auth_equal(u_char *a, u_char *b);
static ngx_int_t ngx_tunnel_auth_start(ngx_tunnel_auth_t *a, u_char *hash);
static ngx_int_t ngx_tunnel_auth_done(ngx_tunnel_auth_task_t *task);
static void ngx_tunnel_auth_release(ngx_pool_t *pool,
    ngx_tunnel_auth_task_t *task);
#if (NGX_TUNNEL_AUTH_THREADS)
static void ngx_tunnel_auth_thread(void *data, ngx_log_t *log);
static void ngx_tunnel_auth_event(ngx_event_t *ev);
#endif
static ngx_uint_t ngx_tunnel_auth_digest(ngx_tunnel_auth_t *a, u_char *hash,
    u_char *digest);
#if (NGX_OPENSSL)
static u_char *ngx_tunnel_auth_match(ngx_tunnel_users_t *users,
    u_char *digest);
#endif
static ngx_uint_t ngx_tunnel_auth_matched(ngx_tunnel_users_t *users,
    u_char *digest);
static void ngx_tunnel_auth_remember(ngx_tunnel_users_t *users,
    u_char *digest);


ngx_tunnel_users_t *
ngx_tunnel_users_create(ngx_conf_t *cf)
{
    ngx_tunnel_users_t  *users;

    users = ngx_pcalloc(cf->pool, sizeof(ngx_tunnel_users_t));
    if (users == NULL) {
        return NULL;
    }

#if (NGX_TUNNEL_AUTH_THREADS)

    if (ngx_tunnel_auth_notified(cf)) {

        users->threads = ngx_thread_pool_add(cf, NULL);
        if (users->threads == NULL) {
            return NULL;
        }
    }

#endif

#if (NGX_OPENSSL)

    users->matches = ngx_pcalloc(cf->pool, NGX_TUNNEL_AUTH_MATCHES
                                           * NGX_TUNNEL_AUTH_DIGEST);
    if (users->matches == NULL) {
        return NULL;
    }

#endif

    return users;
}


#if (NGX_TUNNEL_AUTH_THREADS)

/*
 * Whether a thread can notify the event method, which has to be configured
 * already: with some of them nginx would not start with a thread pool.
 */

static ngx_uint_t
ngx_tunnel_auth_notified(ngx_conf_t *cf)
{
    ngx_cycle_t          *cycle;
    ngx_uint_t            i;
    ngx_event_conf_t     *ecf;
    ngx_event_module_t   *module;

    cycle = cf->cycle;

    if (ngx_get_conf(cycle->conf_ctx, ngx_events_module) == NULL) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"events\" comes behind, so passwords are hashed "
                           "in worker processes and not in threads");
        return 0;
    }

    ecf = ngx_event_get_conf(cycle->conf_ctx, ngx_event_core_module);

    for (i = 0; cycle->modules[i]; i++) {

        if (cycle->modules[i]->type == NGX_EVENT_MODULE
            && cycle->modules[i]->ctx_index == ecf->use)
        {
            module = cycle->modules[i]->ctx;

            return module->actions.notify != NULL;
        }
    }

    return 0;
}

#endif


ngx_int_t
ngx_tunnel_auth(ngx_tunnel_auth_t *a)
{
    u_char     hash[NGX_TUNNEL_AUTH_HASH];
    ngx_int_t  rc;

    /* no line of a file has such a user, and crypt() ends at a null byte */

    if (a->user.len == 0
        || a->user.data[0] == '#'
        || ngx_strlchr(a->user.data, a->user.data + a->user.len, ':')
        || ngx_strlchr(a->user.data, a->user.data + a->user.len, LF)
        || ngx_strlchr(a->user.data, a->user.data + a->user.len, CR))
    {
        a->what = "user not found";
        return NGX_DECLINED;
    }

    if (ngx_strlchr(a->password.data, a->password.data + a->password.len,
                    '\0'))
    {
        a->what = "password mismatch";
        return NGX_DECLINED;
    }

    rc = ngx_tunnel_auth_find(a, hash);

    if (rc == NGX_OK) {
        rc = ngx_tunnel_auth_start(a, hash);
    }

    ngx_explicit_memzero(hash, sizeof(hash));

    return rc;
}


/* NGX_OK with the user's hash, which ends with a null byte */

static ngx_int_t
ngx_tunnel_auth_find(ngx_tunnel_auth_t *a, u_char *hash)
{
    u_char                   buf[NGX_TUNNEL_AUTH_BUFFER];
    ssize_t                  n;
    ngx_fd_t                 fd;
    ngx_int_t                rc;
    ngx_tunnel_auth_scan_t   scan;

    fd = ngx_open_file(a->file.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_CRIT, a->log, ngx_errno,
                      ngx_open_file_n " \"%s\" failed", a->file.data);
        a->what = "the file of users cannot be opened";
        return NGX_ERROR;
    }

    ngx_memzero(&scan, sizeof(ngx_tunnel_auth_scan_t));

    rc = NGX_AGAIN;

    while (rc == NGX_AGAIN) {

        n = ngx_read_fd(fd, buf, NGX_TUNNEL_AUTH_BUFFER);

        if (n == -1) {
            ngx_log_error(NGX_LOG_CRIT, a->log, ngx_errno,
                          ngx_read_fd_n " \"%s\" failed", a->file.data);
            a->what = "the file of users cannot be read";
            rc = NGX_ERROR;
            break;
        }

        if (n == 0) {

            /* the last line need not have an end */

            buf[0] = LF;
            rc = ngx_tunnel_auth_scan(&scan, &a->user, hash, buf, buf + 1);

            if (rc == NGX_AGAIN) {
                a->what = "user not found";
                rc = NGX_DECLINED;
            }

            break;
        }

        rc = ngx_tunnel_auth_scan(&scan, &a->user, hash, buf, buf + n);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, a->log, ngx_errno,
                      ngx_close_file_n " \"%s\" failed", a->file.data);
    }

    ngx_explicit_memzero(buf, NGX_TUNNEL_AUTH_BUFFER);

    return rc;
}


/*
 * Lines are "user:hash" or "user:hash:comment", or begin with "#".  Returns
 * NGX_OK if hash is the user's, or NGX_AGAIN if it has to come yet.
 */

static ngx_int_t
ngx_tunnel_auth_scan(ngx_tunnel_auth_scan_t *scan, ngx_str_t *user,
    u_char *hash, u_char *p, u_char *last)
{
    u_char  ch;

    for ( /* void */ ; p < last; p++) {

        ch = *p;

        switch (scan->state) {

        case ngx_tunnel_auth_user:

            if (scan->n < user->len && ch == user->data[scan->n]) {
                scan->n++;
                continue;
            }

            if (scan->n == user->len && ch == ':') {
                scan->state = ngx_tunnel_auth_hash;
                scan->n = 0;
                continue;
            }

            scan->state = ngx_tunnel_auth_skip;
            break;

        case ngx_tunnel_auth_hash:

            if (ch == LF || ch == CR || ch == ':') {
                hash[scan->n] = '\0';
                return NGX_OK;
            }

            if (scan->n < NGX_TUNNEL_AUTH_HASH - 1) {
                hash[scan->n++] = ch;
                continue;
            }

            scan->state = ngx_tunnel_auth_skip;
            break;

        default: /* ngx_tunnel_auth_skip */
            break;
        }

        if (ch == LF) {
            scan->state = ngx_tunnel_auth_user;
            scan->n = 0;
        }
    }

    return NGX_AGAIN;
}


/* hashes here what is hashed fast, and else where it holds nobody up */

static ngx_int_t
ngx_tunnel_auth_start(ngx_tunnel_auth_t *a, u_char *hash)
{
    u_char                   digest[NGX_TUNNEL_AUTH_DIGEST];
    ngx_pool_t              *pool;
    ngx_uint_t               slow, digested;
    ngx_tunnel_auth_task_t  *task;
#if (NGX_TUNNEL_AUTH_THREADS)
    ngx_thread_task_t       *thread;
#endif

    slow = (hash[0] != '{');

    digested = slow && ngx_tunnel_auth_digest(a, hash, digest);

    if (digested && ngx_tunnel_auth_matched(a->users, digest)) {
        return NGX_OK;
    }

    pool = ngx_create_pool(NGX_MIN_POOL_SIZE + 2 * NGX_TUNNEL_AUTH_HASH,
                           ngx_cycle->log);
    if (pool == NULL) {
        a->what = "no memory";
        return NGX_ERROR;
    }

#if (NGX_TUNNEL_AUTH_THREADS)

    thread = ngx_thread_task_alloc(pool, sizeof(ngx_tunnel_auth_task_t));
    task = thread ? thread->ctx : NULL;

#else

    task = ngx_pcalloc(pool, sizeof(ngx_tunnel_auth_task_t));

#endif

    if (task == NULL) {
        goto failed;
    }

    task->auth = a;
    task->pool = pool;

    ngx_cpystrn(task->hash, hash, NGX_TUNNEL_AUTH_HASH);

    task->password.data = ngx_pnalloc(pool, a->password.len + 1);

    if (task->password.data == NULL) {
        goto failed;
    }

    task->password.len = a->password.len;

    ngx_cpystrn(task->password.data, a->password.data, a->password.len + 1);

    task->digested = digested;

    if (digested) {
        ngx_memcpy(task->digest, digest, NGX_TUNNEL_AUTH_DIGEST);
    }

#if (NGX_TUNNEL_AUTH_THREADS)

    if (slow && a->users->threads) {
        thread->handler = ngx_tunnel_auth_thread;
        thread->event.handler = ngx_tunnel_auth_event;
        thread->event.data = task;

        if (ngx_thread_task_post(a->users->threads, thread) != NGX_OK) {
            goto failed;
        }

        a->task = task;
        return NGX_AGAIN;
    }

#endif

    task->rc = ngx_tunnel_auth_hash_password(pool, task->password.data,
                                             task->hash);

    return ngx_tunnel_auth_done(task);

failed:

    ngx_tunnel_auth_release(pool, task);

    a->what = "the password cannot be hashed";

    return NGX_ERROR;
}


static ngx_int_t
ngx_tunnel_auth_hash_password(ngx_pool_t *pool, u_char *password, u_char *hash)
{
    u_char     *encrypted;
    ngx_int_t   rc;

    if (ngx_crypt(pool, password, hash, &encrypted) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_tunnel_auth_equal(encrypted, hash) ? NGX_OK : NGX_DECLINED;

    ngx_explicit_memzero(encrypted, ngx_strlen(encrypted));

    return rc;
}


/* takes as long wherever they differ */

static ngx_uint_t
ngx_tunnel_auth_equal(u_char *a, u_char *b)
{
    size_t           i, len;
    volatile u_char  diff;

    len = ngx_strlen(b);

    if (ngx_strlen(a) != len) {
        return 0;
    }

    diff = 0;

    for (i = 0; i < len; i++) {
        diff |= a[i] ^ b[i];
    }

    return diff == 0;
}


/* takes the result, and lets the task go */

static ngx_int_t
ngx_tunnel_auth_done(ngx_tunnel_auth_task_t *task)
{
    ngx_int_t           rc;
    ngx_tunnel_auth_t  *a;

    a = task->auth;
    rc = task->rc;

    if (a) {
        a->task = NULL;

        if (rc == NGX_OK) {

            if (task->digested) {
                ngx_tunnel_auth_remember(a->users, task->digest);
            }

        } else if (rc == NGX_DECLINED) {
            a->what = "password mismatch";

        } else {
            a->what = "the password's hash is invalid";
            rc = NGX_DECLINED;
        }
    }

    ngx_tunnel_auth_release(task->pool, task);

    return rc;
}


static void
ngx_tunnel_auth_release(ngx_pool_t *pool, ngx_tunnel_auth_task_t *task)
{
    if (task) {
        ngx_explicit_memzero(task->password.data, task->password.len);
        ngx_explicit_memzero(task->hash, NGX_TUNNEL_AUTH_HASH);
    }

    ngx_destroy_pool(pool);
}


#if (NGX_TUNNEL_AUTH_THREADS)

static void
ngx_tunnel_auth_thread(void *data, ngx_log_t *log)
{
    ngx_tunnel_auth_task_t  *task = data;

    /* those that have gone do not hold up those that wait */

    if (task->auth == NULL) {
        task->rc = NGX_DECLINED;
        return;
    }

    task->rc = ngx_tunnel_auth_hash_password(task->pool, task->password.data,
                                             task->hash);
}


static void
ngx_tunnel_auth_event(ngx_event_t *ev)
{
    ngx_int_t                rc;
    ngx_tunnel_auth_t       *a;
    ngx_tunnel_auth_task_t  *task;

    task = ev->data;
    a = task->auth;

    rc = ngx_tunnel_auth_done(task);

    if (a) {
        a->handler(a, rc);
    }
}

#endif


void
ngx_tunnel_auth_cancel(ngx_tunnel_auth_t *a)
{
    if (a->task) {
        a->task->auth = NULL;
        a->task = NULL;
    }
}


#if (NGX_OPENSSL)

/* of a user, hash, and password; whether there is one */

static ngx_uint_t
ngx_tunnel_auth_digest(ngx_tunnel_auth_t *a, u_char *hash, u_char *digest)
{
    u_char               message[NGX_TUNNEL_AUTH_MESSAGE], *p;
    ngx_uint_t           digested;
    unsigned int         len;
    ngx_tunnel_users_t  *users;

    users = a->users;

    if (a->user.len > 255 || a->password.len > 255) {
        return 0;
    }

    if (!users->keyed) {

        if (RAND_bytes(users->key, NGX_TUNNEL_AUTH_DIGEST) != 1) {
            return 0;
        }

        users->keyed = 1;
    }

    p = ngx_cpymem(message, a->user.data, a->user.len);
    *p++ = '\0';
    p = ngx_cpymem(p, hash, ngx_strlen(hash) + 1);
    p = ngx_cpymem(p, a->password.data, a->password.len);

    digested = (HMAC(EVP_sha256(), users->key, NGX_TUNNEL_AUTH_DIGEST, message,
                     p - message, digest, &len)
                != NULL);

    ngx_explicit_memzero(message, sizeof(message));

    return digested;
}


/* where a digest is if it has matched; another one may be there */

static u_char *
ngx_tunnel_auth_match(ngx_tunnel_users_t *users, u_char *digest)
{
    ngx_uint_t  slot;

    slot = (digest[0] << 8 | digest[1]) % NGX_TUNNEL_AUTH_MATCHES;

    return users->matches + slot * NGX_TUNNEL_AUTH_DIGEST;
}


static ngx_uint_t
ngx_tunnel_auth_matched(ngx_tunnel_users_t *users, u_char *digest)
{
    return CRYPTO_memcmp(ngx_tunnel_auth_match(users, digest), digest,
                         NGX_TUNNEL_AUTH_DIGEST)
           == 0;
}


static void
ngx_tunnel_auth_remember(ngx_tunnel_users_t *users, u_char *digest)
{
    ngx_memcpy(ngx_tunnel_auth_match(users, digest), digest,
               NGX_TUNNEL_AUTH_DIGEST);
}

#else

static ngx_uint_t
ngx_tunnel_auth_digest(ngx_tunnel_auth_t *a, u_char *hash, u_char *digest)
{
    return 0;
}


static ngx_uint_t
ngx_tunnel_auth_matched(ngx_tunnel_users_t *users, u_char *digest)
{
    return 0;
}


static void
ngx_tunnel_auth_remember(ngx_tunnel_users_t *users, u_char *digest)
{
    return;
}

#endif


#else /* !NGX_TUNNEL_HAVE_AUTH */


ngx_tunnel_users_t *
ngx_tunnel_users_create(ngx_conf_t *cf)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "passwords need an nginx with auth_basic");
    return NULL;
}


ngx_int_t
ngx_tunnel_auth(ngx_tunnel_auth_t *a)
{
    a->what = "passwords are not supported";
    return NGX_ERROR;
}


void
ngx_tunnel_auth_cancel(ngx_tunnel_auth_t *a)
{
    return;
}


#endif
