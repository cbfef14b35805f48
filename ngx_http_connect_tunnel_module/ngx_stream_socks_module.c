
/*
 * SOCKS4, 4a and 5: what a client wants is negotiated here, and the engine
 * does it.
 *
 * The negotiation has memory of its own, which is gone when there is a tunnel.
 */


#include "ngx_stream_connect_tunnel_module.h"
#include "ngx_tunnel_auth.h"
#include "ngx_tunnel_socks.h"


#define NGX_STREAM_SOCKS_4    0x0002
#define NGX_STREAM_SOCKS_4A   0x0004
#define NGX_STREAM_SOCKS_5    0x0008


/* a client that was refused may still be sending: so long it is read, msec */

#define NGX_STREAM_SOCKS_LINGER  2000

/* and so many times in one event */

#define NGX_STREAM_SOCKS_READS   8

#define NGX_STREAM_SOCKS_BUFFER  4096


/* its memory starts with so many bytes */

#define NGX_STREAM_SOCKS_POOL    2048


typedef enum {
    ngx_stream_socks_var_version = 0,
    ngx_stream_socks_var_command,
    ngx_stream_socks_var_user
} ngx_stream_socks_var_e;


/* what of a negotiation lasts as long as the session */

typedef struct ngx_stream_socks_s  ngx_stream_socks_t;

typedef struct {
    ngx_stream_socks_t           *socks;         /* NULL: it is over */
    ngx_str_t                     user;
    unsigned                      version:3;     /* 4, 5, or 0 */
    unsigned                      named:1;       /* 4a */
    unsigned                      command:2;     /* if it is a known one */
} ngx_stream_socks_ctx_t;


typedef enum {
    ngx_stream_socks_start = 0,          /* messages that are read */
    ngx_stream_socks_methods,
    ngx_stream_socks_password,
    ngx_stream_socks_request4,
    ngx_stream_socks_request5,
    ngx_stream_socks_waiting,            /* for what is not the client */
    ngx_stream_socks_delayed,            /* the reply has to wait */
    ngx_stream_socks_listening,          /* for the target to connect */
    ngx_stream_socks_granted,            /* relays once the reply is out */
    ngx_stream_socks_refused             /* closes once the reply is out */
} ngx_stream_socks_state_e;


struct ngx_stream_socks_s {
    ngx_pool_t                   *pool;
    ngx_stream_session_t         *session;
    ngx_tunnel_session_t         *tunnel;
    ngx_stream_socks_ctx_t       *ctx;

    ngx_stream_socks_state_e      state;
    ngx_stream_socks_state_e      message;       /* that was read last */
    ngx_tunnel_result_e           result;
    ngx_event_t                   timer;
    ngx_msec_t                    received;      /* when what is to be
                                                    authenticated came */

    ngx_buf_t                    *buf;           /* of the client */
    ngx_tunnel_socks_request_t    request;
    ngx_tunnel_auth_t             auth;

    u_char                       *pos;           /* of the reply */
    u_char                       *last;
    u_char                        reply[2 * NGX_TUNNEL_SOCKS_REPLY];
};


typedef struct {
    ngx_str_t                     realm;
    ngx_stream_complex_value_t    file;
} ngx_stream_socks_auth_t;


/* userids that SOCKS4 is for */

typedef struct {
    ngx_array_t                   strings;       /* of ngx_str_t */
#if (NGX_PCRE)
    ngx_array_t                   regexes;       /* of ngx_regex_elt_t */
#endif
    unsigned                      any:1;
} ngx_stream_socks_userids_t;


typedef struct {
    ngx_tunnel_users_t           *users;         /* if there are any */
} ngx_stream_socks_main_conf_t;


typedef struct {
    ngx_uint_t                    versions;      /* NGX_STREAM_SOCKS_*, 0: the
                                                    server has no socks */
    ngx_msec_t                    handshake_timeout;

    ngx_stream_socks_auth_t      *auth;          /* NULL: none */
    ngx_msec_t                    auth_delay;
    ngx_stream_socks_userids_t   *userids;       /* NULL: no SOCKS4 */

    ngx_flag_t                    bind;
    ngx_addr_t                   *bind_address;  /* NULL: that of the server */
    ngx_msec_t                    bind_timeout;
    ngx_flag_t                    udp;
} ngx_stream_socks_srv_conf_t;


static void ngx_stream_socks_handler(ngx_stream_session_t *s);
static ngx_stream_socks_t *ngx_stream_socks_create(ngx_stream_session_t *s);
static void ngx_stream_socks_read_handler(ngx_event_t *rev);
static void ngx_stream_socks_write_handler(ngx_event_t *wev);
static void ngx_stream_socks_timer_handler(ngx_event_t *ev);
static void ngx_stream_socks_process(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_flush(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_read(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_read_message(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_version(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_choose_method(ngx_stream_socks_t *sk,
    ngx_str_t *methods);
static ngx_int_t ngx_stream_socks_check_password(ngx_stream_socks_t *sk,
    ngx_str_t *user, ngx_str_t *password);
static void ngx_stream_socks_hashed(ngx_tunnel_auth_t *a, ngx_int_t rc);
static ngx_int_t ngx_stream_socks_authenticated(ngx_stream_socks_t *sk,
    ngx_int_t rc);
static ngx_int_t ngx_stream_socks_check_userid(ngx_stream_socks_t *sk);
static ngx_uint_t ngx_stream_socks_userid_matches(
    ngx_stream_socks_userids_t *userids, ngx_str_t *user, ngx_log_t *log);
static ngx_int_t ngx_stream_socks_keep_user(ngx_stream_socks_t *sk,
    ngx_str_t *user);
static ngx_int_t ngx_stream_socks_request(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_command(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_bind(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_associate(ngx_stream_socks_t *sk);
static ngx_int_t ngx_stream_socks_local(ngx_connection_t *c,
    ngx_sockaddr_t *sa, socklen_t *socklen);
static void ngx_stream_socks_connected(ngx_stream_session_t *s,
    ngx_tunnel_result_e result);
static void ngx_stream_socks_reply(ngx_stream_socks_t *sk, ngx_uint_t peer);
static void ngx_stream_socks_answer(ngx_stream_socks_t *sk,
    ngx_tunnel_result_e result, struct sockaddr *sa);
static ngx_int_t ngx_stream_socks_fail(ngx_stream_socks_t *sk,
    ngx_tunnel_result_e result, const char *what);
static void ngx_stream_socks_refuse(ngx_stream_socks_t *sk,
    ngx_tunnel_result_e result);
static void ngx_stream_socks_bytes(ngx_stream_socks_t *sk, u_char version,
    u_char byte);
static ngx_int_t ngx_stream_socks_delay(ngx_stream_socks_t *sk);
static void ngx_stream_socks_wait(ngx_stream_socks_t *sk);
static void ngx_stream_socks_check_client(ngx_stream_socks_t *sk);
static void ngx_stream_socks_check_listening(ngx_stream_socks_t *sk);
static void ngx_stream_socks_relay(ngx_stream_socks_t *sk);
static void ngx_stream_socks_linger(ngx_stream_socks_t *sk);
static void ngx_stream_socks_leave(ngx_stream_socks_t *sk, ngx_uint_t status);
static void ngx_stream_socks_close(ngx_stream_socks_t *sk);
static void ngx_stream_socks_finalize(ngx_stream_socks_t *sk,
    ngx_uint_t status);
static void ngx_stream_socks_free(ngx_stream_socks_ctx_t *ctx);
static void ngx_stream_socks_cleanup(void *data);

static ngx_int_t ngx_stream_socks_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);

static ngx_int_t ngx_stream_socks_add_variables(ngx_conf_t *cf);
static void *ngx_stream_socks_create_main_conf(ngx_conf_t *cf);
static void *ngx_stream_socks_create_srv_conf(ngx_conf_t *cf);
static char *ngx_stream_socks_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_stream_socks(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_stream_socks_auth(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_stream_socks_userid(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_stream_socks_userid_add(ngx_conf_t *cf,
    ngx_stream_socks_userids_t *userids, ngx_str_t *value);
static char *ngx_stream_socks_bind_address(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static ngx_stream_socks_userids_t  ngx_stream_socks_any = { .any = 1 };


static ngx_conf_bitmask_t  ngx_stream_socks_versions[] = {
    { ngx_string("4"), NGX_STREAM_SOCKS_4 },
    { ngx_string("4a"), NGX_STREAM_SOCKS_4A },
    { ngx_string("5"), NGX_STREAM_SOCKS_5 },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_stream_socks_commands[] = {

    { ngx_string("socks"),
      NGX_STREAM_SRV_CONF|NGX_CONF_ANY,
      ngx_stream_socks,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_socks_srv_conf_t, versions),
      ngx_stream_socks_versions },

    { ngx_string("socks_handshake_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_socks_srv_conf_t, handshake_timeout),
      NULL },

    { ngx_string("socks_auth"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE13,
      ngx_stream_socks_auth,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("socks_auth_delay"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_socks_srv_conf_t, auth_delay),
      NULL },

    { ngx_string("socks_userid"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_1MORE,
      ngx_stream_socks_userid,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("socks_bind"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_socks_srv_conf_t, bind),
      NULL },

    { ngx_string("socks_bind_address"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_stream_socks_bind_address,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("socks_bind_timeout"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_msec_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_socks_srv_conf_t, bind_timeout),
      NULL },

    { ngx_string("socks_udp"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_socks_srv_conf_t, udp),
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_stream_socks_module_ctx = {
    ngx_stream_socks_add_variables,         /* preconfiguration */
    NULL,                                   /* postconfiguration */

    ngx_stream_socks_create_main_conf,      /* create main configuration */
    NULL,                                   /* init main configuration */

    ngx_stream_socks_create_srv_conf,       /* create server configuration */
    ngx_stream_socks_merge_srv_conf         /* merge server configuration */
};


ngx_module_t  ngx_stream_socks_module = {
    NGX_MODULE_V1,
    &ngx_stream_socks_module_ctx,           /* module context */
    ngx_stream_socks_commands,              /* module directives */
    NGX_STREAM_MODULE,                      /* module type */
    NULL,                                   /* init master */
    NULL,                                   /* init module */
    NULL,                                   /* init process */
    NULL,                                   /* init thread */
    NULL,                                   /* exit thread */
    NULL,                                   /* exit process */
    NULL,                                   /* exit master */
    NGX_MODULE_V1_PADDING
};


static const ngx_tunnel_variable_t  ngx_stream_socks_vars[] = {
    { ngx_string("socks_version"), ngx_stream_socks_var_version },
    { ngx_string("socks_command"), ngx_stream_socks_var_command },
    { ngx_string("socks_user"), ngx_stream_socks_var_user },
    { ngx_null_string, 0 }
};


static ngx_str_t  ngx_stream_socks_command_names[] = {
    ngx_null_string,
    ngx_string("connect"),
    ngx_string("bind"),
    ngx_string("udp_associate")
};


static void
ngx_stream_socks_handler(ngx_stream_session_t *s)
{
    ngx_connection_t             *c;
    ngx_stream_socks_t           *sk;
    ngx_tunnel_session_t         *ts;
    ngx_stream_socks_srv_conf_t  *sscf;

    c = s->connection;

    ts = ngx_stream_connect_tunnel_create(s, ngx_stream_socks_connected);
    if (ts == NULL) {
        ngx_stream_finalize_session(s, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    sk = ngx_stream_socks_create(s);

    if (sk == NULL || c->type != SOCK_STREAM) {

        if (sk) {
            ngx_str_set(&ts->what, "SOCKS needs TCP");
        }

        ngx_tunnel_session_fail(ts, NGX_TUNNEL_INTERNAL);
        ngx_stream_connect_tunnel_finalize(s,
                                           NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    sk->tunnel = ts;

    c->log->action = "negotiating SOCKS";

    c->read->handler = ngx_stream_socks_read_handler;
    c->write->handler = ngx_stream_socks_write_handler;

    sscf = ngx_stream_get_module_srv_conf(s, ngx_stream_socks_module);

    ngx_add_timer(&sk->timer, sscf->handshake_timeout);

    ngx_stream_socks_process(sk);
}


static ngx_stream_socks_t *
ngx_stream_socks_create(ngx_stream_session_t *s)
{
    size_t                   len;
    ngx_buf_t               *preread;
    ngx_pool_t              *pool;
    ngx_connection_t        *c;
    ngx_pool_cleanup_t      *cln;
    ngx_stream_socks_t      *sk;
    ngx_stream_socks_ctx_t  *ctx;

    c = s->connection;

    cln = ngx_pool_cleanup_add(c->pool, sizeof(ngx_stream_socks_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_stream_socks_ctx_t));

    ngx_stream_set_ctx(s, ctx, ngx_stream_socks_module);

    pool = ngx_create_pool(NGX_STREAM_SOCKS_POOL, c->log);
    if (pool == NULL) {
        return NULL;
    }

    /* what the preread phase has read comes first */

    preread = c->buffer;
    len = preread ? preread->last - preread->pos : 0;

    sk = ngx_pcalloc(pool, sizeof(ngx_stream_socks_t));

    if (sk) {
        sk->buf = ngx_create_temp_buf(pool, len + NGX_TUNNEL_SOCKS_MESSAGE);
    }

    if (sk == NULL || sk->buf == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    ctx->socks = sk;
    cln->handler = ngx_stream_socks_cleanup;

    sk->pool = pool;
    sk->session = s;
    sk->ctx = ctx;

    sk->timer.handler = ngx_stream_socks_timer_handler;
    sk->timer.data = sk;
    sk->timer.log = c->log;

    if (len) {
        sk->buf->last = ngx_cpymem(sk->buf->last, preread->pos, len);
        preread->pos = preread->last;
    }

    return sk;
}


static void
ngx_stream_socks_read_handler(ngx_event_t *rev)
{
    ngx_connection_t        *c;
    ngx_stream_socks_t      *sk;
    ngx_stream_session_t    *s;
    ngx_stream_socks_ctx_t  *ctx;

    c = rev->data;
    s = c->data;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_socks_module);
    sk = ctx->socks;

    if (c->close) {
        ngx_stream_socks_leave(sk, NGX_STREAM_SERVICE_UNAVAILABLE);
        return;
    }

    if (sk->state < ngx_stream_socks_waiting && sk->pos == sk->last) {
        ngx_stream_socks_process(sk);

    } else {
        ngx_stream_socks_check_client(sk);
    }
}


static void
ngx_stream_socks_write_handler(ngx_event_t *wev)
{
    ngx_connection_t        *c;
    ngx_stream_socks_t      *sk;
    ngx_stream_session_t    *s;
    ngx_stream_socks_ctx_t  *ctx;

    c = wev->data;
    s = c->data;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_socks_module);
    sk = ctx->socks;

    if (sk->pos != sk->last && sk->state != ngx_stream_socks_delayed) {
        ngx_stream_socks_process(sk);
    }
}


static void
ngx_stream_socks_timer_handler(ngx_event_t *ev)
{
    ngx_stream_socks_t  *sk;

    sk = ev->data;

    switch (sk->state) {

    case ngx_stream_socks_delayed:
        sk->state = ngx_stream_socks_refused;
        ngx_stream_socks_process(sk);
        return;

    case ngx_stream_socks_granted:
    case ngx_stream_socks_refused:
    case ngx_stream_socks_listening:

        /* the client does not take the reply */

        ngx_log_error(NGX_LOG_INFO, sk->session->connection->log,
                      NGX_ETIMEDOUT, "client timed out");

        ngx_stream_socks_leave(sk, NGX_STREAM_CLIENT_CLOSED);
        return;

    default:
        sk->result = NGX_TUNNEL_HANDSHAKE_TIMEOUT;

        ngx_tunnel_session_fail(sk->tunnel, sk->result);
        ngx_stream_socks_close(sk);
    }
}


/* goes on as far as it gets; the session may be gone then */

static void
ngx_stream_socks_process(ngx_stream_socks_t *sk)
{
    ngx_int_t  rc;

    for ( ;; ) {

        rc = ngx_stream_socks_flush(sk);

        if (rc == NGX_OK) {

            switch (sk->state) {

            case ngx_stream_socks_listening:

                if (sk->timer.timer_set) {
                    ngx_del_timer(&sk->timer);
                }

                ngx_stream_socks_wait(sk);
                return;

            case ngx_stream_socks_granted:
                ngx_stream_socks_relay(sk);
                return;

            case ngx_stream_socks_refused:
                ngx_stream_socks_linger(sk);
                return;

            default:
                rc = ngx_stream_socks_read_message(sk);
            }

            if (rc == NGX_AGAIN) {
                rc = ngx_stream_socks_read(sk);
            }
        }

        if (rc == NGX_DONE || rc == NGX_AGAIN) {
            return;
        }

        if (rc == NGX_ERROR) {
            ngx_stream_socks_leave(sk, NGX_STREAM_CLIENT_CLOSED);
            return;
        }
    }
}


static ngx_int_t
ngx_stream_socks_flush(ngx_stream_socks_t *sk)
{
    ssize_t                       n;
    ngx_connection_t             *c;
    ngx_stream_socks_srv_conf_t  *sscf;

    c = sk->session->connection;

    while (sk->pos != sk->last) {

        n = c->send(c, sk->pos, sk->last - sk->pos);

        if (n == NGX_AGAIN) {

            if (!sk->timer.timer_set) {
                sscf = ngx_stream_get_module_srv_conf(sk->session,
                                                      ngx_stream_socks_module);
                ngx_add_timer(&sk->timer, sscf->handshake_timeout);
            }

            if (ngx_handle_write_event(c->write, 0) != NGX_OK
                || ngx_handle_read_event(c->read, 0) != NGX_OK)
            {
                return NGX_ERROR;
            }

            return NGX_AGAIN;
        }

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        sk->pos += n;
    }

    /* had it to wait for that, level-triggered methods still tell */

    return c->write->active ? ngx_handle_write_event(c->write, 0) : NGX_OK;
}


/* NGX_OK: there are more bytes, NGX_AGAIN, or NGX_ERROR: client has gone */

static ngx_int_t
ngx_stream_socks_read(ngx_stream_socks_t *sk)
{
    size_t             len;
    ssize_t            n;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = sk->session->connection;
    b = sk->buf;

    /* a message always fits in */

    len = b->last - b->pos;

    if (b->pos != b->start) {
        ngx_memmove(b->start, b->pos, len);

        b->pos = b->start;
        b->last = b->start + len;
    }

    n = c->recv(c, b->last, b->end - b->last);

    if (n == NGX_AGAIN) {
        return (ngx_handle_read_event(c->read, 0) == NGX_OK) ? NGX_AGAIN
                                                             : NGX_ERROR;
    }

    if (n == 0) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0, "client closed connection");
    }

    if (n <= 0) {
        return NGX_ERROR;
    }

    b->last += n;

    return NGX_OK;
}


/*
 * NGX_OK: goes on, NGX_AGAIN: there has to be more, NGX_DONE: somebody else
 * goes on, or the session is gone
 */

static ngx_int_t
ngx_stream_socks_read_message(ngx_stream_socks_t *sk)
{
    ngx_int_t    rc;
    ngx_str_t    methods, user, password;
    ngx_buf_t   *b;

    b = sk->buf;

    if (b->pos == b->last) {
        return NGX_AGAIN;
    }

    sk->message = sk->state;

    switch (sk->state) {

    case ngx_stream_socks_start:
        return ngx_stream_socks_version(sk);

    case ngx_stream_socks_methods:
        rc = ngx_tunnel_socks5_methods(&b->pos, b->last, &methods);

        return (rc == NGX_OK) ? ngx_stream_socks_choose_method(sk, &methods)
                              : rc;

    case ngx_stream_socks_password:
        rc = ngx_tunnel_socks5_password(&b->pos, b->last, &user, &password);

        if (rc == NGX_ERROR) {
            return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_REQUEST,
                                         "the version of the password "
                                         "message is not 1");
        }

        return (rc == NGX_OK) ? ngx_stream_socks_check_password(sk, &user,
                                                                &password)
                              : rc;

    case ngx_stream_socks_request4:
        rc = ngx_tunnel_socks4_request(&b->pos, b->last, &sk->request);

        return (rc == NGX_OK) ? ngx_stream_socks_check_userid(sk) : rc;

    default: /* ngx_stream_socks_request5 */
        rc = ngx_tunnel_socks5_request(&b->pos, b->last, &sk->request);

        return (rc == NGX_OK) ? ngx_stream_socks_request(sk) : rc;
    }
}


static ngx_int_t
ngx_stream_socks_version(ngx_stream_socks_t *sk)
{
    switch (*sk->buf->pos) {

    case 4:
        sk->ctx->version = 4;
        sk->state = ngx_stream_socks_request4;
        return NGX_OK;

    case 5:
        sk->ctx->version = 5;
        sk->state = ngx_stream_socks_methods;
        return NGX_OK;

    default:
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_VERSION,
                                     "this is not SOCKS");
    }
}


static ngx_int_t
ngx_stream_socks_choose_method(ngx_stream_socks_t *sk, ngx_str_t *methods)
{
    u_char                        method;
    ngx_stream_socks_srv_conf_t  *sscf;

    sscf = ngx_stream_get_module_srv_conf(sk->session,
                                          ngx_stream_socks_module);

    if (!(sscf->versions & NGX_STREAM_SOCKS_5)) {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_VERSION,
                                     "SOCKS5 is not served here");
    }

    method = sscf->auth ? NGX_TUNNEL_SOCKS_PASSWORD : NGX_TUNNEL_SOCKS_NO_AUTH;

    if (ngx_strlchr(methods->data, methods->data + methods->len, method)
        == NULL)
    {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_AUTH_FAILED, sscf->auth
                                     ? "the client offers no password"
                                     : "the client insists on authentication");
    }

    ngx_stream_socks_bytes(sk, 5, method);

    sk->state = sscf->auth ? ngx_stream_socks_password
                           : ngx_stream_socks_request5;
    return NGX_OK;
}


/* user and password are in the buffer */

static ngx_int_t
ngx_stream_socks_check_password(ngx_stream_socks_t *sk, ngx_str_t *user,
    ngx_str_t *password)
{
    ngx_int_t                      rc;
    ngx_tunnel_auth_t             *a;
    ngx_stream_socks_srv_conf_t   *sscf;
    ngx_stream_socks_main_conf_t  *smcf;

    sscf = ngx_stream_get_module_srv_conf(sk->session,
                                          ngx_stream_socks_module);
    smcf = ngx_stream_get_module_main_conf(sk->session,
                                           ngx_stream_socks_module);

    sk->received = ngx_current_msec;

    a = &sk->auth;

    a->users = smcf->users;
    a->log = sk->session->connection->log;
    a->user = *user;
    a->password = *password;
    a->handler = ngx_stream_socks_hashed;
    a->data = sk;

    if (ngx_stream_socks_keep_user(sk, user) != NGX_OK
        || ngx_stream_complex_value(sk->session, &sscf->auth->file, &a->file)
           != NGX_OK)
    {
        a->what = "no memory";
        rc = NGX_ERROR;

    } else {
        rc = ngx_tunnel_auth(a);
    }

    ngx_explicit_memzero(password->data, password->len);

    if (rc == NGX_AGAIN) {
        sk->state = ngx_stream_socks_waiting;
        ngx_stream_socks_wait(sk);

        return NGX_DONE;
    }

    return ngx_stream_socks_authenticated(sk, rc);
}


static void
ngx_stream_socks_hashed(ngx_tunnel_auth_t *a, ngx_int_t rc)
{
    ngx_stream_socks_t  *sk;

    sk = a->data;

    rc = ngx_stream_socks_authenticated(sk, rc);

    if (rc != NGX_DONE) {
        ngx_stream_socks_process(sk);
    }
}


static ngx_int_t
ngx_stream_socks_authenticated(ngx_stream_socks_t *sk, ngx_int_t rc)
{
    size_t                        len;
    u_char                       *what;
    ngx_stream_socks_srv_conf_t  *sscf;

    if (rc == NGX_OK) {
        ngx_stream_socks_bytes(sk, 1, 0);

        sk->state = ngx_stream_socks_request5;

        return NGX_OK;
    }

    /* a user that there is must not be told by the time, so this waits, too */

    if (rc == NGX_ERROR) {
        (void) ngx_stream_socks_fail(sk, NGX_TUNNEL_INTERNAL, sk->auth.what);

        return ngx_stream_socks_delay(sk);
    }

    /* who it was is for the access log, if wanted */

    sscf = ngx_stream_get_module_srv_conf(sk->session,
                                          ngx_stream_socks_module);

    len = ngx_strlen(sk->auth.what) + sizeof(" in \"\"") - 1
          + sscf->auth->realm.len + 1;

    what = ngx_pnalloc(sk->tunnel->pool, len);

    if (what) {
        *ngx_snprintf(what, len - 1, "%s in \"%V\"", sk->auth.what,
                      &sscf->auth->realm) = '\0';
    }

    (void) ngx_stream_socks_fail(sk, NGX_TUNNEL_AUTH_FAILED, (char *) what);

    return ngx_stream_socks_delay(sk);
}


static ngx_int_t
ngx_stream_socks_check_userid(ngx_stream_socks_t *sk)
{
    ngx_uint_t                    version;
    ngx_stream_socks_srv_conf_t  *sscf;

    sscf = ngx_stream_get_module_srv_conf(sk->session,
                                          ngx_stream_socks_module);

    sk->received = ngx_current_msec;
    sk->ctx->named = sk->request.named;

    version = sk->request.named ? NGX_STREAM_SOCKS_4A : NGX_STREAM_SOCKS_4;

    if (!(sscf->versions & version)) {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_VERSION,
                                     sk->request.named
                                     ? "SOCKS4a is not served here"
                                     : "SOCKS4 is not served here");
    }

    if (sk->request.result != NGX_TUNNEL_OK) {
        return ngx_stream_socks_request(sk);
    }

    if (ngx_stream_socks_keep_user(sk, &sk->request.user) != NGX_OK) {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_INTERNAL, "no memory");
    }

    if (!ngx_stream_socks_userid_matches(sscf->userids, &sk->ctx->user,
                                         sk->session->connection->log))
    {
        (void) ngx_stream_socks_fail(sk, NGX_TUNNEL_AUTH_FAILED,
                                     sscf->userids
                                     ? "the userid is none of \"socks_userid\""
                                     : "SOCKS4 has no password");

        return ngx_stream_socks_delay(sk);
    }

    return ngx_stream_socks_request(sk);
}


static ngx_uint_t
ngx_stream_socks_userid_matches(ngx_stream_socks_userids_t *userids,
    ngx_str_t *user, ngx_log_t *log)
{
    ngx_str_t   *string;
    ngx_uint_t   i;

    if (userids == NULL) {
        return 0;
    }

    if (userids->any) {
        return 1;
    }

    string = userids->strings.elts;

    for (i = 0; i < userids->strings.nelts; i++) {

        if (string[i].len == user->len
            && ngx_memcmp(string[i].data, user->data, user->len) == 0)
        {
            return 1;
        }
    }

#if (NGX_PCRE)

    return ngx_regex_exec_array(&userids->regexes, user, log) == NGX_OK;

#else

    return 0;

#endif
}


static ngx_int_t
ngx_stream_socks_keep_user(ngx_stream_socks_t *sk, ngx_str_t *user)
{
    ngx_str_t  *kept;

    kept = &sk->ctx->user;

    kept->data = ngx_pstrdup(sk->session->connection->pool, user);
    if (kept->data == NULL) {
        return NGX_ERROR;
    }

    kept->len = user->len;

    return NGX_OK;
}


static ngx_int_t
ngx_stream_socks_request(ngx_stream_socks_t *sk)
{
    ngx_tunnel_session_t        *ts;
    ngx_tunnel_socks_request_t  *r;

    ts = sk->tunnel;
    r = &sk->request;

    if (sk->timer.timer_set) {
        ngx_del_timer(&sk->timer);
    }

    if (r->command == NGX_TUNNEL_SOCKS_CONNECT
        || r->command == NGX_TUNNEL_SOCKS_BIND
        || (r->command == NGX_TUNNEL_SOCKS_UDP && sk->ctx->version == 5))
    {
        sk->ctx->command = r->command;
    }

    if (r->result != NGX_TUNNEL_OK) {
        return ngx_stream_socks_fail(sk, r->result, r->what);
    }

    ts->target = ngx_tunnel_target_copy(ts->pool, &r->target);

    if (ts->target == NULL) {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_INTERNAL, "no memory");
    }

    return ngx_stream_socks_command(sk);
}


static ngx_int_t
ngx_stream_socks_command(ngx_stream_socks_t *sk)
{
    ngx_stream_socks_srv_conf_t  *sscf;

    sscf = ngx_stream_get_module_srv_conf(sk->session,
                                          ngx_stream_socks_module);

    switch (sk->request.command) {

    case NGX_TUNNEL_SOCKS_CONNECT:
        sk->state = ngx_stream_socks_waiting;
        ngx_stream_connect_tunnel_open(sk->session, NULL);

        return NGX_DONE;

    case NGX_TUNNEL_SOCKS_BIND:

        if (!sscf->bind) {
            return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_COMMAND,
                                         "\"socks_bind\" is off");
        }

        return ngx_stream_socks_bind(sk);

    case NGX_TUNNEL_SOCKS_UDP:

        if (sk->ctx->version == 4) {
            break;
        }

        if (!sscf->udp) {
            return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_COMMAND,
                                         "\"socks_udp\" is off");
        }

        return ngx_stream_socks_associate(sk);
    }

    return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_COMMAND, NULL);
}


static ngx_int_t
ngx_stream_socks_bind(ngx_stream_socks_t *sk)
{
    ngx_int_t                     rc;
    socklen_t                     socklen;
    ngx_sockaddr_t                sa;
    ngx_connection_t             *c;
    ngx_stream_socks_srv_conf_t  *sscf;

    c = sk->session->connection;

    sscf = ngx_stream_get_module_srv_conf(sk->session,
                                          ngx_stream_socks_module);

    if (sk->tunnel->target->family == AF_UNSPEC) {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_BAD_ADDRESS,
                                     "BIND takes an address");
    }

    if (sscf->bind_address) {
        socklen = sscf->bind_address->socklen;
        ngx_memcpy(&sa, sscf->bind_address->sockaddr, socklen);

    } else if (ngx_stream_socks_local(c, &sa, &socklen) != NGX_OK) {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_INTERNAL,
                                     "there is no address to listen on");
    }

    rc = ngx_tunnel_session_listen(sk->tunnel, &sa.sockaddr, socklen,
                                   sscf->bind_timeout);

    if (rc != NGX_AGAIN) {
        ngx_stream_socks_refuse(sk, rc);
        return NGX_OK;
    }

    ngx_stream_socks_reply(sk, 0);
    sk->state = ngx_stream_socks_listening;

    return NGX_OK;
}


static ngx_int_t
ngx_stream_socks_associate(ngx_stream_socks_t *sk)
{
    u_char                 ip[NGX_TUNNEL_IP_LEN], expected[NGX_TUNNEL_IP_LEN];
    in_port_t              port;
    ngx_int_t              rc;
    socklen_t              socklen;
    ngx_sockaddr_t         sa, client;
    ngx_connection_t      *c;
    ngx_tunnel_session_t  *ts;

    c = sk->session->connection;
    ts = sk->tunnel;

    if (ngx_stream_socks_local(c, &sa, &socklen) != NGX_OK) {
        return ngx_stream_socks_fail(sk, NGX_TUNNEL_INTERNAL,
                                     "UDP needs a client that connects over "
                                     "IP");
    }

    /*
     * The target is where the client will send from, as it sees that, and with
     * a translator of addresses between us that is not so
     */

    port = 0;

    if (ts->target->family != AF_UNSPEC) {
        ngx_tunnel_ip(expected, ts->target->family, &ts->target->addr);
        (void) ngx_tunnel_socket_ip(ip, c->sockaddr);

        if (ngx_memcmp(expected, ip, NGX_TUNNEL_IP_LEN) == 0) {
            port = ts->target->port;
        }
    }

    ngx_memcpy(&client, c->sockaddr, c->socklen);
    ngx_inet_set_port(&client.sockaddr, port);

    ts->target = NULL;
    ngx_str_set(&ts->asked, "UDP");

    rc = ngx_tunnel_session_associate(ts, &sa.sockaddr, socklen,
                                      &client.sockaddr);

    if (rc == NGX_TUNNEL_OK) {
        ngx_stream_socks_reply(sk, 0);
        sk->state = ngx_stream_socks_granted;

    } else {
        ngx_stream_socks_refuse(sk, rc);
    }

    return NGX_OK;
}


/* the address that the client reached us by, with a port of the system's */

static ngx_int_t
ngx_stream_socks_local(ngx_connection_t *c, ngx_sockaddr_t *sa,
    socklen_t *socklen)
{
    if (ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK
        || c->local_sockaddr->sa_family == AF_UNIX
        || c->sockaddr->sa_family == AF_UNIX)
    {
        return NGX_ERROR;
    }

    *socklen = c->local_socklen;
    ngx_memcpy(sa, c->local_sockaddr, *socklen);
    ngx_inet_set_port(&sa->sockaddr, 0);

    return NGX_OK;
}


/* an attempt to reach the target, or to be reached by it, is over */

static void
ngx_stream_socks_connected(ngx_stream_session_t *s, ngx_tunnel_result_e result)
{
    ngx_connection_t        *c;
    ngx_stream_socks_t      *sk;
    ngx_stream_socks_ctx_t  *ctx;

    c = s->connection;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_socks_module);
    sk = ctx->socks;

    c->read->handler = ngx_stream_socks_read_handler;
    c->write->handler = ngx_stream_socks_write_handler;

    if (result == NGX_TUNNEL_OK) {
        ngx_stream_socks_reply(sk,
                               sk->request.command == NGX_TUNNEL_SOCKS_BIND);
        sk->state = ngx_stream_socks_granted;

    } else {
        ngx_stream_socks_refuse(sk, result);
    }

    ngx_stream_socks_process(sk);
}


/* of success, with our address, or that of the peer */

static void
ngx_stream_socks_reply(ngx_stream_socks_t *sk, ngx_uint_t peer)
{
    ngx_int_t        rc;
    ngx_sockaddr_t   sa;

    rc = peer ? ngx_tunnel_session_remote(sk->tunnel, &sa)
              : ngx_tunnel_session_local(sk->tunnel, &sa);

    ngx_stream_socks_answer(sk, NGX_TUNNEL_OK,
                            (rc == NGX_OK) ? &sa.sockaddr : NULL);
}


static void
ngx_stream_socks_answer(ngx_stream_socks_t *sk, ngx_tunnel_result_e result,
    struct sockaddr *sa)
{
    u_char                     *p;
    ngx_uint_t                  code;
    const ngx_tunnel_result_t  *res;

    res = ngx_tunnel_result(result);

    /* the first reply to BIND may not be out yet */

    p = sk->reply;

    if (sk->pos != sk->last) {
        p = ngx_movemem(p, sk->pos, sk->last - sk->pos);
    }

    sk->pos = sk->reply;

    if (sk->ctx->version == 4) {
        sk->last = ngx_tunnel_socks4_reply(p, res->socks4, sa);
        return;
    }

    code = res->socks5;

    if (result == NGX_TUNNEL_UNREACHABLE
        && sk->tunnel->err == NGX_ENETUNREACH)
    {
        code = NGX_TUNNEL_SOCKS_NETWORK;
    }

    sk->last = ngx_tunnel_socks5_reply(p, code, sa);
}


/* what may be NULL; returns NGX_OK, for there is a reply to be sent */

static ngx_int_t
ngx_stream_socks_fail(ngx_stream_socks_t *sk, ngx_tunnel_result_e result,
    const char *what)
{
    ngx_str_t  *s;

    s = &sk->tunnel->what;

    if (what) {
        s->data = (u_char *) what;
        s->len = ngx_strlen(what);
    }

    ngx_tunnel_session_fail(sk->tunnel, result);
    ngx_stream_socks_refuse(sk, result);

    return NGX_OK;
}


/* replies as the client's last message has it */

static void
ngx_stream_socks_refuse(ngx_stream_socks_t *sk, ngx_tunnel_result_e result)
{
    sk->state = ngx_stream_socks_refused;
    sk->result = result;

    switch (sk->message) {

    case ngx_stream_socks_start:
        return;

    case ngx_stream_socks_methods:
        ngx_stream_socks_bytes(sk, 5, NGX_TUNNEL_SOCKS_NO_METHOD);
        return;

    case ngx_stream_socks_password:
        ngx_stream_socks_bytes(sk, 1, 1);
        return;

    default:
        ngx_stream_socks_answer(sk, result, NULL);
    }
}


/* the reply to methods or a password, in two bytes */

static void
ngx_stream_socks_bytes(ngx_stream_socks_t *sk, u_char version, u_char byte)
{
    sk->reply[0] = version;
    sk->reply[1] = byte;

    sk->pos = sk->reply;
    sk->last = sk->reply + 2;
}


/* the reply, which is ready, has to wait: NGX_OK if not */

static ngx_int_t
ngx_stream_socks_delay(ngx_stream_socks_t *sk)
{
    ngx_msec_t                    past;
    ngx_stream_socks_srv_conf_t  *sscf;

    sscf = ngx_stream_get_module_srv_conf(sk->session,
                                          ngx_stream_socks_module);

    /* however long it took to see that it is wrong */

    past = ngx_current_msec - sk->received;

    if (past >= sscf->auth_delay) {
        return NGX_OK;
    }

    sk->state = ngx_stream_socks_delayed;

    if (sk->timer.timer_set) {
        ngx_del_timer(&sk->timer);
    }

    ngx_add_timer(&sk->timer, sscf->auth_delay - past);

    ngx_stream_socks_wait(sk);

    return NGX_DONE;
}


/* somebody else goes on; the client may leave meanwhile */

static void
ngx_stream_socks_wait(ngx_stream_socks_t *sk)
{
    ngx_event_t  *rev;

    rev = sk->session->connection->read;

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);
        return;
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_stream_socks_finalize(sk, NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_stream_socks_check_client(ngx_stream_socks_t *sk)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = sk->session->connection;

    if (sk->state == ngx_stream_socks_listening) {
        ngx_stream_socks_check_listening(sk);
        return;
    }

    rc = ngx_tunnel_socket_check(c);

    if (rc != NGX_OK) {
        ngx_stream_socks_leave(sk, NGX_STREAM_CLIENT_CLOSED);
    }
}


/*
 * A client that has ended its sending is not there to be connected to.  What
 * it sends meanwhile is read as long as there is room, for its end is behind;
 * without room, level-triggered methods leave it to the timeout.
 */

static void
ngx_stream_socks_check_listening(ngx_stream_socks_t *sk)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = sk->session->connection;

    do {
        rc = (sk->buf->last - sk->buf->pos < sk->buf->end - sk->buf->start)
             ? ngx_stream_socks_read(sk) : NGX_DECLINED;

    } while (rc == NGX_OK);

    if (rc == NGX_DECLINED) {
        rc = ngx_tunnel_socket_check(c);

        if (rc == NGX_OK && c->read->pending_eof) {
            ngx_log_error(NGX_LOG_INFO, c->log, 0, "client closed connection");
            rc = NGX_DECLINED;
        }
    }

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_stream_socks_leave(sk, NGX_STREAM_CLIENT_CLOSED);
    }
}


/* what the client has sent behind its request is the target's */

static void
ngx_stream_socks_relay(ngx_stream_socks_t *sk)
{
    size_t                 len;
    ngx_buf_t             *b;
    ngx_connection_t      *c;
    ngx_stream_session_t  *s;

    s = sk->session;
    c = s->connection;

    len = sk->buf->last - sk->buf->pos;

    c->buffer = NULL;

    if (len) {
        b = ngx_create_temp_buf(c->pool, len);

        if (b == NULL) {
            ngx_stream_socks_finalize(sk, NGX_STREAM_INTERNAL_SERVER_ERROR);
            return;
        }

        b->last = ngx_cpymem(b->last, sk->buf->pos, len);
        c->buffer = b;
    }

    ngx_stream_socks_free(sk->ctx);

    ngx_stream_connect_tunnel_relay(s);
}


/* the reply is out */

static void
ngx_stream_socks_linger(ngx_stream_socks_t *sk)
{
    ngx_uint_t             status;
    ngx_stream_session_t  *s;

    if (sk->message == ngx_stream_socks_start) {
        ngx_stream_socks_close(sk);
        return;
    }

    s = sk->session;
    status = ngx_tunnel_result(sk->result)->status;

    ngx_stream_socks_free(sk->ctx);

    ngx_stream_connect_tunnel_linger(s, status);
}


/* ends in the midst of it, with a status for a client that was not refused */

static void
ngx_stream_socks_leave(ngx_stream_socks_t *sk, ngx_uint_t status)
{
    switch (sk->state) {

    case ngx_stream_socks_delayed:
    case ngx_stream_socks_refused:
        ngx_stream_socks_close(sk);
        return;

    default:
        ngx_stream_socks_finalize(sk, status);
    }
}


/* for a reason that is the session's result */

static void
ngx_stream_socks_close(ngx_stream_socks_t *sk)
{
    ngx_stream_socks_finalize(sk, ngx_tunnel_result(sk->result)->status);
}


/* nothing of a negotiation is under way when its session ends */

static void
ngx_stream_socks_finalize(ngx_stream_socks_t *sk, ngx_uint_t status)
{
    ngx_stream_session_t  *s;

    s = sk->session;

    ngx_stream_socks_free(sk->ctx);

    ngx_stream_connect_tunnel_finalize(s, status);
}


static void
ngx_stream_socks_free(ngx_stream_socks_ctx_t *ctx)
{
    ngx_stream_socks_t  *sk;

    sk = ctx->socks;

    if (sk == NULL) {
        return;
    }

    ctx->socks = NULL;

    if (sk->timer.timer_set) {
        ngx_del_timer(&sk->timer);
    }

    ngx_tunnel_auth_cancel(&sk->auth);

    /* there may have been a password */

    ngx_explicit_memzero(sk->buf->start, sk->buf->end - sk->buf->start);

    ngx_destroy_pool(sk->pool);
}


static void
ngx_stream_socks_cleanup(void *data)
{
    ngx_stream_socks_free(data);
}


static ngx_int_t
ngx_stream_socks_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                value;
    ngx_stream_socks_ctx_t  *ctx;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_socks_module);

    ngx_str_null(&value);

    if (ctx) {

        switch (data) {

        case ngx_stream_socks_var_version:

            if (ctx->version == 5) {
                ngx_str_set(&value, "5");

            } else if (ctx->version == 4) {
                ngx_str_set(&value, "4a");
                value.len -= !ctx->named;
            }

            break;

        case ngx_stream_socks_var_command:
            value = ngx_stream_socks_command_names[ctx->command];
            break;

        default: /* ngx_stream_socks_var_user */
            value = ctx->user;
        }
    }

    ngx_tunnel_variable_set(v, &value);

    return NGX_OK;
}


static ngx_int_t
ngx_stream_socks_add_variables(ngx_conf_t *cf)
{
    return ngx_stream_connect_tunnel_variables(cf, ngx_stream_socks_vars,
                                               ngx_stream_socks_variable);
}


static void *
ngx_stream_socks_create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_stream_socks_main_conf_t));
}


static void *
ngx_stream_socks_create_srv_conf(ngx_conf_t *cf)
{
    ngx_stream_socks_srv_conf_t  *sscf;

    sscf = ngx_pcalloc(cf->pool, sizeof(ngx_stream_socks_srv_conf_t));
    if (sscf == NULL) {
        return NULL;
    }

    sscf->handshake_timeout = NGX_CONF_UNSET_MSEC;
    sscf->auth = NGX_CONF_UNSET_PTR;
    sscf->auth_delay = NGX_CONF_UNSET_MSEC;
    sscf->userids = NGX_CONF_UNSET_PTR;
    sscf->bind = NGX_CONF_UNSET;
    sscf->bind_address = NGX_CONF_UNSET_PTR;
    sscf->bind_timeout = NGX_CONF_UNSET_MSEC;
    sscf->udp = NGX_CONF_UNSET;

    return sscf;
}


static char *
ngx_stream_socks_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_stream_socks_srv_conf_t *prev = parent;
    ngx_stream_socks_srv_conf_t *conf = child;

    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    ngx_conf_merge_msec_value(conf->handshake_timeout,
                              prev->handshake_timeout, 10000);
    ngx_conf_merge_ptr_value(conf->auth, prev->auth, NULL);
    ngx_conf_merge_msec_value(conf->auth_delay, prev->auth_delay, 1000);
    ngx_conf_merge_value(conf->bind, prev->bind, 0);
    ngx_conf_merge_ptr_value(conf->bind_address, prev->bind_address, NULL);
    ngx_conf_merge_msec_value(conf->bind_timeout, prev->bind_timeout, 60000);
    ngx_conf_merge_value(conf->udp, prev->udp, 0);

    if (conf->userids == NGX_CONF_UNSET_PTR) {
        conf->userids = prev->userids;
    }

    if (!conf->versions) {
        return NGX_CONF_OK;
    }

    if (ngx_stream_connect_tunnel_check_handler(cf, "socks",
                                                ngx_stream_socks_handler)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->userids == NGX_CONF_UNSET_PTR) {

        /* a userid is no password */

        if (conf->auth && !(conf->versions & NGX_STREAM_SOCKS_5)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"socks_auth\" is for SOCKS5 only, and SOCKS4 "
                               "needs \"socks_userid\" beside it");
            return NGX_CONF_ERROR;
        }

        conf->userids = conf->auth ? NULL : &ngx_stream_socks_any;
    }

    if (conf->auth && conf->userids && conf->userids->any
        && conf->versions != (NGX_CONF_BITMASK_SET|NGX_STREAM_SOCKS_5))
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"socks_userid any\" lets clients of SOCKS4 in "
                           "without the passwords of \"socks_auth\"");
    }

    if (conf->handshake_timeout == 0 || conf->bind_timeout == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"socks_handshake_timeout\" and "
                           "\"socks_bind_timeout\" must not be 0");
        return NGX_CONF_ERROR;
    }

    if (conf->udp) {
        ctmcf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_stream_connect_tunnel_module);

        ctmcf->main.worker.size = ngx_max(ctmcf->main.worker.size,
                                          NGX_TUNNEL_DATAGRAM);
    }

    return NGX_CONF_OK;
}


static char *
ngx_stream_socks(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_stream_socks_srv_conf_t *sscf = conf;

    if (sscf->versions) {
        return "is duplicate";
    }

    if (cf->args->nelts == 1) {
        sscf->versions = NGX_STREAM_SOCKS_4 | NGX_STREAM_SOCKS_4A
                         | NGX_STREAM_SOCKS_5;

    } else if (ngx_tunnel_conf_bitmask_slot(cf, cmd, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_stream_connect_tunnel_enable(cf, ngx_stream_socks_handler,
                                            NGX_TUNNEL_SOCKS_FRONT, 1);
}


static char *
ngx_stream_socks_auth(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_stream_socks_srv_conf_t *sscf = conf;

    ngx_str_t                           *value;
    ngx_stream_socks_auth_t             *auth;
    ngx_stream_socks_main_conf_t        *smcf;
    ngx_stream_compile_complex_value_t   ccv;

    if (sscf->auth != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2) {

        if (ngx_strcmp(value[1].data, "none") != 0) {
            return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                           "\"none\", or \"basic\", a realm, "
                                           "and a file");
        }

        sscf->auth = NULL;

        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "basic") != 0) {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                       "\"basic\" with a realm and a file");
    }

    if (value[3].len == 0) {
        return "has an empty file name";
    }

    smcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_socks_module);

    if (smcf->users == NULL) {
        smcf->users = ngx_tunnel_users_create(cf);
        if (smcf->users == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    auth = ngx_pcalloc(cf->pool, sizeof(ngx_stream_socks_auth_t));
    if (auth == NULL) {
        return NGX_CONF_ERROR;
    }

    sscf->auth = auth;

    auth->realm = value[2];

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[3];
    ccv.complex_value = &auth->file;
    ccv.zero = 1;
    ccv.conf_prefix = 1;

    if (ngx_stream_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_stream_socks_userid(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_stream_socks_srv_conf_t *sscf = conf;

    ngx_str_t                   *value;
    ngx_uint_t                   i, any;
    ngx_stream_socks_userids_t  *userids;

    if (sscf->userids != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        any = (ngx_strcmp(value[i].data, "any") == 0);

        if (!any && ngx_strcmp(value[i].data, "off") != 0) {
            continue;
        }

        if (cf->args->nelts > 2) {
            return ngx_tunnel_conf_invalid(cf, cmd, &value[i],
                                           "the only one then");
        }

        sscf->userids = any ? &ngx_stream_socks_any : NULL;

        return NGX_CONF_OK;
    }

    userids = ngx_pcalloc(cf->pool, sizeof(ngx_stream_socks_userids_t));
    if (userids == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_array_init(&userids->strings, cf->pool, 4, sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

#if (NGX_PCRE)
    if (ngx_array_init(&userids->regexes, cf->pool, 4, sizeof(ngx_regex_elt_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }
#endif

    sscf->userids = userids;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_stream_socks_userid_add(cf, userids, &value[i])
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_stream_socks_userid_add(ngx_conf_t *cf,
    ngx_stream_socks_userids_t *userids, ngx_str_t *value)
{
    ngx_str_t        *string;
#if (NGX_PCRE)
    ngx_regex_elt_t  *elt;
#endif

    if (value->len == 0 || value->data[0] != '~') {

        string = ngx_array_push(&userids->strings);
        if (string == NULL) {
            return NGX_CONF_ERROR;
        }

        *string = *value;

        return NGX_CONF_OK;
    }

#if (NGX_PCRE)

    elt = ngx_array_push(&userids->regexes);
    if (elt == NULL) {
        return NGX_CONF_ERROR;
    }

    elt->regex = ngx_tunnel_conf_regex(cf, value, "userid");
    elt->name = value->data;

    return elt->regex ? NGX_CONF_OK : NGX_CONF_ERROR;

#else

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "userid \"%V\" requires PCRE library", value);
    return NGX_CONF_ERROR;

#endif
}


static char *
ngx_stream_socks_bind_address(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_stream_socks_srv_conf_t *sscf = conf;

    ngx_int_t    rc;
    ngx_str_t   *value;
    ngx_addr_t  *addr;

    if (sscf->bind_address != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        sscf->bind_address = NULL;
        return NGX_CONF_OK;
    }

    addr = ngx_pcalloc(cf->pool, sizeof(ngx_addr_t));
    if (addr == NULL) {
        return NGX_CONF_ERROR;
    }

    rc = ngx_parse_addr(cf->pool, addr, value[1].data, value[1].len);

    if (rc == NGX_DECLINED) {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                       "\"off\" or an IP address without a "
                                       "port");
    }

    if (rc != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    addr->name = value[1];
    sscf->bind_address = addr;

    return NGX_CONF_OK;
}
