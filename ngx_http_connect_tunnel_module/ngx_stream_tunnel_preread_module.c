
/*
 * Preread: what protocol a client speaks, and whom it names, told by its first
 * bytes before anything is decided about it.
 */


#include "ngx_stream_connect_tunnel_module.h"
#include "ngx_tunnel_sniff.h"


#define NGX_STREAM_PREFIX_LEN  255
#define NGX_STREAM_MIN_LEN     65536


/* tunnel_protocol */

typedef struct {
    ngx_str_t                     name;
    ngx_str_t                     prefix;
#if (NGX_PCRE)
    ngx_regex_t                  *regex;         /* or NULL */
#endif
    size_t                        min;           /* bytes to judge by */
} ngx_stream_tunnel_protocol_t;


typedef struct {
    ngx_flag_t                    enable;
    ngx_array_t                  *protocols;     /* as they are configured */
} ngx_stream_tunnel_preread_srv_conf_t;


/* what is looked at while it stays in the socket is looked at here */

typedef struct {
    size_t                        size;
    u_char                       *scratch;
} ngx_stream_tunnel_preread_main_conf_t;


typedef struct {
    ngx_str_t                     protocol;
    ngx_str_t                     host;
    ngx_str_t                     method;
    ngx_str_t                     alpn;
    ngx_uint_t                    tls_version;
    ngx_uint_t                    tls_min_version;
    unsigned                      ech:1;
    unsigned                      tls:1;
} ngx_stream_tunnel_preread_ctx_t;


typedef enum {
    ngx_stream_preread_var_protocol = 0,
    ngx_stream_preread_var_host,
    ngx_stream_preread_var_method,
    ngx_stream_preread_var_alpn,
    ngx_stream_preread_var_tls_version,
    ngx_stream_preread_var_tls_min_version,
    ngx_stream_preread_var_ech
} ngx_stream_preread_var_e;


static ngx_int_t ngx_stream_tunnel_preread_handler(ngx_stream_session_t *s);
static void ngx_stream_tunnel_preread_read_handler(ngx_event_t *rev);
static void ngx_stream_tunnel_preread_timeout_handler(ngx_event_t *wev);
static void ngx_stream_tunnel_preread_resume(ngx_stream_session_t *s,
    ngx_int_t rc);
static ngx_int_t ngx_stream_tunnel_preread_look(ngx_stream_session_t *s,
    ngx_stream_tunnel_preread_ctx_t *ctx, ngx_uint_t last);
static ngx_int_t ngx_stream_tunnel_preread_peek(ngx_stream_session_t *s,
    ngx_str_t *data, ngx_uint_t *last);
static ngx_int_t ngx_stream_tunnel_preread_read(ngx_stream_session_t *s,
    ngx_str_t *data, ngx_uint_t *last);
static ngx_uint_t ngx_stream_tunnel_preread_can_peek(ngx_stream_session_t *s);
static ngx_int_t ngx_stream_tunnel_preread_decide(ngx_stream_session_t *s,
    ngx_stream_tunnel_preread_ctx_t *ctx, ngx_str_t *data, ngx_uint_t last);
static ngx_int_t ngx_stream_tunnel_preread_match(
    ngx_stream_tunnel_protocol_t *protocol, ngx_str_t *data, ngx_log_t *log);
static ngx_int_t ngx_stream_tunnel_preread_set(ngx_stream_session_t *s,
    ngx_stream_tunnel_preread_ctx_t *ctx, ngx_tunnel_sniff_t *sn);
static ngx_int_t ngx_stream_tunnel_preread_copy(ngx_pool_t *pool,
    ngx_str_t *to, u_char *data, size_t len);

static ngx_int_t ngx_stream_tunnel_preread_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);
static void ngx_stream_tunnel_preread_version(ngx_uint_t version,
    ngx_str_t *value);

static char *ngx_stream_tunnel_protocol(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_stream_tunnel_protocol_name(ngx_str_t *name);
static ngx_int_t ngx_stream_tunnel_protocol_prefix(ngx_conf_t *cf,
    ngx_str_t *value, ngx_str_t *prefix);
static u_char *ngx_stream_tunnel_protocol_escape(u_char *src, u_char *last,
    u_char *dst);
static ngx_int_t ngx_stream_tunnel_preread_add_variables(ngx_conf_t *cf);
static void *ngx_stream_tunnel_preread_create_main_conf(ngx_conf_t *cf);
static void *ngx_stream_tunnel_preread_create_srv_conf(ngx_conf_t *cf);
static char *ngx_stream_tunnel_preread_merge_srv_conf(ngx_conf_t *cf,
    void *parent, void *child);
static ngx_int_t ngx_stream_tunnel_preread_init(ngx_conf_t *cf);


static ngx_command_t  ngx_stream_tunnel_preread_commands[] = {

    { ngx_string("tunnel_preread"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_tunnel_preread_srv_conf_t, enable),
      NULL },

    { ngx_string("tunnel_protocol"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE23,
      ngx_stream_tunnel_protocol,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_stream_tunnel_preread_module_ctx = {
    ngx_stream_tunnel_preread_add_variables,     /* preconfiguration */
    ngx_stream_tunnel_preread_init,              /* postconfiguration */

    ngx_stream_tunnel_preread_create_main_conf,  /* create main conf */
    NULL,                                        /* init main conf */

    ngx_stream_tunnel_preread_create_srv_conf,   /* create server conf */
    ngx_stream_tunnel_preread_merge_srv_conf     /* merge server conf */
};


ngx_module_t  ngx_stream_tunnel_preread_module = {
    NGX_MODULE_V1,
    &ngx_stream_tunnel_preread_module_ctx,       /* module context */
    ngx_stream_tunnel_preread_commands,          /* module directives */
    NGX_STREAM_MODULE,                           /* module type */
    NULL,                                        /* init master */
    NULL,                                        /* init module */
    NULL,                                        /* init process */
    NULL,                                        /* init thread */
    NULL,                                        /* exit thread */
    NULL,                                        /* exit process */
    NULL,                                        /* exit master */
    NGX_MODULE_V1_PADDING
};


static const ngx_tunnel_variable_t  ngx_stream_tunnel_preread_vars[] = {
    { ngx_string("preread_protocol"), ngx_stream_preread_var_protocol },
    { ngx_string("preread_host"), ngx_stream_preread_var_host },
    { ngx_string("preread_method"), ngx_stream_preread_var_method },
    { ngx_string("preread_alpn"), ngx_stream_preread_var_alpn },
    { ngx_string("preread_tls_version"), ngx_stream_preread_var_tls_version },
    { ngx_string("preread_tls_min_version"),
      ngx_stream_preread_var_tls_min_version },
    { ngx_string("preread_ech"), ngx_stream_preread_var_ech },
    { ngx_null_string, 0 }
};


/*
 * The core's own waiting ends the session at its timeout, and here that is a
 * protocol like others; so this waits itself.  The timer is that of the write
 * event, for the core takes the other one away.
 */

static ngx_int_t
ngx_stream_tunnel_preread_handler(ngx_stream_session_t *s)
{
    ngx_int_t                              rc;
    ngx_connection_t                      *c;
    ngx_stream_tunnel_preread_ctx_t       *ctx;
    ngx_stream_tunnel_preread_srv_conf_t  *pscf;
    ngx_stream_connect_tunnel_srv_conf_t  *ctscf;

    c = s->connection;

    pscf = ngx_stream_get_module_srv_conf(s, ngx_stream_tunnel_preread_module);

    if (!pscf->enable || c->type != SOCK_STREAM) {
        return NGX_DECLINED;
    }

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_tunnel_preread_module);

    if (ctx) {
        return NGX_DECLINED;
    }

    ctx = ngx_pcalloc(c->pool, sizeof(ngx_stream_tunnel_preread_ctx_t));
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_stream_set_ctx(s, ctx, ngx_stream_tunnel_preread_module);

    ngx_stream_connect_tunnel_anonymize(s);

    rc = ngx_stream_tunnel_preread_look(s, ctx, 0);

    if (rc == NGX_OK) {
        return NGX_DECLINED;
    }

    if (rc == NGX_DECLINED) {
        return NGX_STREAM_CLIENT_CLOSED;
    }

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    ctscf = ngx_stream_get_module_srv_conf(s,
                                           ngx_stream_connect_tunnel_module);

    c->read->handler = ngx_stream_tunnel_preread_read_handler;
    c->write->handler = ngx_stream_tunnel_preread_timeout_handler;

    ngx_add_timer(c->write, ctscf->tunnel.policy.policy.preread_timeout);

    return NGX_DONE;
}


static void
ngx_stream_tunnel_preread_read_handler(ngx_event_t *rev)
{
    ngx_int_t                         rc;
    ngx_connection_t                 *c;
    ngx_stream_session_t             *s;
    ngx_stream_tunnel_preread_ctx_t  *ctx;

    c = rev->data;
    s = c->data;

    if (c->close) {
        ngx_stream_finalize_session(s, NGX_STREAM_SERVICE_UNAVAILABLE);
        return;
    }

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_tunnel_preread_module);

    rc = ngx_stream_tunnel_preread_look(s, ctx, 0);

    if (rc != NGX_AGAIN) {
        ngx_stream_tunnel_preread_resume(s, rc);
    }
}


/* nothing is sent yet, so a write event is the timer's */

static void
ngx_stream_tunnel_preread_timeout_handler(ngx_event_t *wev)
{
    ngx_int_t                         rc;
    ngx_connection_t                 *c;
    ngx_stream_session_t             *s;
    ngx_stream_tunnel_preread_ctx_t  *ctx;

    c = wev->data;
    s = c->data;

    if (!wev->timedout) {
        return;
    }

    wev->timedout = 0;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_tunnel_preread_module);

    rc = ngx_stream_tunnel_preread_look(s, ctx, 1);

    ngx_stream_tunnel_preread_resume(s, rc);
}


static void
ngx_stream_tunnel_preread_resume(ngx_stream_session_t *s, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = s->connection;

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    switch (rc) {

    case NGX_OK:
        c->read->handler = ngx_stream_session_handler;
        ngx_stream_core_run_phases(s);
        return;

    case NGX_DECLINED:
        ngx_stream_finalize_session(s, NGX_STREAM_CLIENT_CLOSED);
        return;

    default: /* NGX_ERROR */
        ngx_stream_finalize_session(s, NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


/*
 * NGX_OK: it is known what the client speaks, NGX_AGAIN: more may tell,
 * NGX_DECLINED: the client has gone
 */

static ngx_int_t
ngx_stream_tunnel_preread_look(ngx_stream_session_t *s,
    ngx_stream_tunnel_preread_ctx_t *ctx, ngx_uint_t last)
{
    ngx_int_t          rc;
    ngx_str_t          data;
    ngx_connection_t  *c;

    c = s->connection;
    c->log->action = "prereading client data";

    rc = ngx_stream_tunnel_preread_can_peek(s)
         ? ngx_stream_tunnel_preread_peek(s, &data, &last)
         : ngx_stream_tunnel_preread_read(s, &data, &last);

    if (rc == NGX_OK) {
        rc = ngx_stream_tunnel_preread_decide(s, ctx, &data, last);
    }

    if (rc == NGX_AGAIN) {

        /* what is there is all seen, and an event tells of more */

        c->read->ready = 0;

        if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return rc;
}


/*
 * Without reading, an idle client costs no buffer, and "pass" has something to
 * pass.  Other event methods would tell again and again what is there.  Where
 * the core itself reads, a handler that does not, such as "return", would lose
 * its answer to a reset.
 */

static ngx_uint_t
ngx_stream_tunnel_preread_can_peek(ngx_stream_session_t *s)
{
#if (NGX_HAVE_EPOLLRDHUP)

    ngx_connection_t                      *c;
    ngx_stream_connect_tunnel_srv_conf_t  *ctscf;

    c = s->connection;
    ctscf = ngx_stream_get_module_srv_conf(s,
                                           ngx_stream_connect_tunnel_module);

    return (ngx_event_flags & NGX_USE_EPOLL_EVENT)
           && ngx_use_epoll_rdhup
           && (NGX_TUNNEL_PREREAD_PEEKS || ctscf->enabled)
           && c->recv == ngx_recv
           && (c->buffer == NULL || c->buffer->pos == c->buffer->last);

#else

    return 0;

#endif
}


static ngx_int_t
ngx_stream_tunnel_preread_peek(ngx_stream_session_t *s, ngx_str_t *data,
    ngx_uint_t *last)
{
    size_t                                  size;
    ssize_t                                 n;
    ngx_err_t                               err;
    ngx_event_t                            *rev;
    ngx_connection_t                       *c;
    ngx_stream_core_srv_conf_t             *cscf;
    ngx_stream_tunnel_preread_main_conf_t  *pmcf;

    c = s->connection;
    rev = c->read;

    pmcf = ngx_stream_get_module_main_conf(s,
                                           ngx_stream_tunnel_preread_module);
    cscf = ngx_stream_get_module_srv_conf(s, ngx_stream_core_module);

    data->data = pmcf->scratch;
    data->len = 0;

    if (!rev->ready && !*last) {
        return NGX_OK;
    }

    size = cscf->preread_buffer_size;

    do {
        n = recv(c->fd, (char *) data->data, size, MSG_PEEK);
        err = ngx_socket_errno;

    } while (n == -1 && err == NGX_EINTR);

    if (n == 0) {
        return NGX_DECLINED;
    }

    if (n == -1) {

        if (err == NGX_EAGAIN) {
            rev->ready = 0;
            return NGX_OK;
        }

        (void) ngx_connection_error(c, err, "recv() failed");
        return NGX_DECLINED;
    }

    data->len = n;

    if (data->len == size || rev->pending_eof) {
        *last = 1;
    }

    /* it is still there for whoever is next */

    rev->ready = 1;
    rev->available = -1;

    return NGX_OK;
}


static ngx_int_t
ngx_stream_tunnel_preread_read(ngx_stream_session_t *s, ngx_str_t *data,
    ngx_uint_t *last)
{
    ssize_t                      n;
    ngx_buf_t                   *b;
    ngx_connection_t            *c;
    ngx_stream_core_srv_conf_t  *cscf;

    c = s->connection;

    if (c->buffer == NULL) {
        cscf = ngx_stream_get_module_srv_conf(s, ngx_stream_core_module);

        c->buffer = ngx_create_temp_buf(c->pool, cscf->preread_buffer_size);
        if (c->buffer == NULL) {
            return NGX_ERROR;
        }
    }

    b = c->buffer;

    while (c->read->ready && b->last < b->end) {

        n = c->recv(c, b->last, b->end - b->last);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || (n == 0 && b->pos == b->last)) {
            return NGX_DECLINED;
        }

        if (n == 0) {
            *last = 1;
            break;
        }

        b->last += n;
    }

    if (b->last == b->end) {
        *last = 1;
    }

    data->data = b->pos;
    data->len = b->last - b->pos;

    return NGX_OK;
}


static ngx_int_t
ngx_stream_tunnel_preread_decide(ngx_stream_session_t *s,
    ngx_stream_tunnel_preread_ctx_t *ctx, ngx_str_t *data, ngx_uint_t last)
{
    ngx_int_t                              rc;
    ngx_uint_t                             i, n;
    ngx_tunnel_sniff_t                     sn;
    ngx_stream_tunnel_protocol_t          *protocol;
    ngx_stream_tunnel_preread_srv_conf_t  *pscf;

    pscf = ngx_stream_get_module_srv_conf(s, ngx_stream_tunnel_preread_module);

    protocol = pscf->protocols ? pscf->protocols->elts : NULL;
    n = (pscf->protocols && data->len) ? pscf->protocols->nelts : 0;
    rc = NGX_DECLINED;

    for (i = 0; i < n; i++) {

        rc = ngx_stream_tunnel_preread_match(&protocol[i], data,
                                             s->connection->log);

        if (rc == NGX_OK) {
            ctx->protocol = protocol[i].name;
            break;
        }

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_AGAIN && !last) {
            return NGX_AGAIN;
        }
    }

    if (rc != NGX_OK) {
        rc = ngx_tunnel_sniff(&sn, data->data, data->len, last);

        if (rc == NGX_OK) {
            rc = ngx_stream_tunnel_preread_set(s, ctx, &sn);
        }
    }

    return rc;
}


static ngx_int_t
ngx_stream_tunnel_preread_match(ngx_stream_tunnel_protocol_t *protocol,
    ngx_str_t *data, ngx_log_t *log)
{
    size_t     len;
#if (NGX_PCRE)
    ngx_int_t  rc;
#endif

    len = ngx_min(data->len, protocol->prefix.len);

    if (len && ngx_memcmp(data->data, protocol->prefix.data, len) != 0) {
        return NGX_DECLINED;
    }

    if (data->len < protocol->min) {
        return NGX_AGAIN;
    }

#if (NGX_PCRE)

    if (protocol->regex) {
        rc = ngx_regex_exec(protocol->regex, data, NULL, 0);

        if (rc == NGX_REGEX_NO_MATCHED) {
            return NGX_DECLINED;
        }

        if (rc < 0) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          ngx_regex_exec_n " failed: %i for "
                          "\"tunnel_protocol\" \"%V\"", rc, &protocol->name);
            return NGX_ERROR;
        }
    }

#endif

    return NGX_OK;
}


/* what is in sn and of use is kept as long as the session */

static ngx_int_t
ngx_stream_tunnel_preread_set(ngx_stream_session_t *s,
    ngx_stream_tunnel_preread_ctx_t *ctx, ngx_tunnel_sniff_t *sn)
{
    ngx_pool_t  *pool;

    pool = s->connection->pool;

    ctx->protocol = *ngx_tunnel_protocol(sn->protocol);
    ctx->tls = (sn->protocol == NGX_TUNNEL_TLS);
    ctx->tls_version = sn->tls_version;
    ctx->tls_min_version = sn->tls_min_version;
    ctx->ech = sn->ech;

    if (sn->error) {
        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "client sent %s: %s",
                      sn->protocol == NGX_TUNNEL_UNKNOWN
                      ? "malformed ClientHello" : "no valid host", sn->error);
    }

    /* an address is no name, RFC 6066 3 */

    if ((sn->kind == NGX_TUNNEL_HOST_NAME || !ctx->tls)
        && ngx_stream_tunnel_preread_copy(pool, &ctx->host, sn->host.data,
                                          sn->host.len)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_stream_tunnel_preread_copy(pool, &ctx->method, sn->method,
                                       sn->method_len)
           != NGX_OK
        || ngx_stream_tunnel_preread_copy(pool, &ctx->alpn, sn->alpn,
                                          sn->alpn_len)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_stream_tunnel_preread_copy(ngx_pool_t *pool, ngx_str_t *to, u_char *data,
    size_t len)
{
    if (len == 0) {
        return NGX_OK;
    }

    to->data = ngx_pnalloc(pool, len);
    if (to->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(to->data, data, len);
    to->len = len;

    return NGX_OK;
}


ngx_str_t *
ngx_stream_tunnel_preread_sni(ngx_stream_session_t *s)
{
    ngx_stream_tunnel_preread_ctx_t  *ctx;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_tunnel_preread_module);

    return (ctx && ctx->tls) ? &ctx->host : NULL;
}


static ngx_int_t
ngx_stream_tunnel_preread_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                         value;
    ngx_stream_tunnel_preread_ctx_t  *ctx;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_tunnel_preread_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    switch (data) {

    case ngx_stream_preread_var_protocol:
        value = ctx->protocol;
        break;

    case ngx_stream_preread_var_host:
        value = ctx->host;
        break;

    case ngx_stream_preread_var_method:
        value = ctx->method;
        break;

    case ngx_stream_preread_var_alpn:
        value = ctx->alpn;
        break;

    case ngx_stream_preread_var_tls_version:
        ngx_stream_tunnel_preread_version(ctx->tls_version, &value);
        break;

    case ngx_stream_preread_var_tls_min_version:
        ngx_stream_tunnel_preread_version(ctx->tls_min_version, &value);
        break;

    default: /* ngx_stream_preread_var_ech */
        ngx_str_set(&value, "1");
        value.len = ctx->ech;
    }

    ngx_tunnel_variable_set(v, &value);

    return NGX_OK;
}


/* the names are those of $ssl_protocol */

static void
ngx_stream_tunnel_preread_version(ngx_uint_t version, ngx_str_t *value)
{
    static ngx_str_t  versions[] = {
        ngx_string("SSLv3"),
        ngx_string("TLSv1"),
        ngx_string("TLSv1.1"),
        ngx_string("TLSv1.2"),
        ngx_string("TLSv1.3")
    };

    ngx_str_null(value);

    if (version) {
        *value = versions[version & 0xff];
    }
}


static char *
ngx_stream_tunnel_protocol(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_stream_tunnel_preread_srv_conf_t *pscf = conf;

    ngx_int_t                      n;
    ngx_str_t                     *value, s;
    ngx_uint_t                     i;
    ngx_stream_tunnel_protocol_t  *protocol;

    if (pscf->protocols == NGX_CONF_UNSET_PTR) {
        pscf->protocols = ngx_array_create(cf->pool, 4,
                                         sizeof(ngx_stream_tunnel_protocol_t));
        if (pscf->protocols == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    protocol = ngx_array_push(pscf->protocols);
    if (protocol == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(protocol, sizeof(ngx_stream_tunnel_protocol_t));

    value = cf->args->elts;

    if (ngx_stream_tunnel_protocol_name(&value[1]) != NGX_OK) {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                       "a name of a-z, 0-9, \"_\", \"-\", and "
                                       "\".\" that no built-in protocol has");
    }

    protocol->name = value[1];

    if (ngx_strncmp(value[2].data, "prefix=", 7) == 0) {
        s.data = value[2].data + 7;
        s.len = value[2].len - 7;

        switch (ngx_stream_tunnel_protocol_prefix(cf, &s, &protocol->prefix)) {

        case NGX_OK:
            break;

        case NGX_DECLINED:
            return ngx_tunnel_conf_invalid(cf, cmd, &value[2],
                                           "prefix= and 1 to 255 bytes, as "
                                           "pairs of hex digits or as text "
                                           "in double quotes");

        default: /* NGX_ERROR */
            return NGX_CONF_ERROR;
        }

    } else if (value[2].len && value[2].data[0] == '~') {

#if (NGX_PCRE)

        protocol->regex = ngx_tunnel_conf_regex(cf, &value[2],
                                                "\"tunnel_protocol\"");
        if (protocol->regex == NULL) {
            return NGX_CONF_ERROR;
        }

#else

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "using regex \"%V\" requires PCRE library",
                           &value[2]);
        return NGX_CONF_ERROR;

#endif

    } else {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[2],
                                       "~regex, ~*regex, or prefix=");
    }

    protocol->min = ngx_max(protocol->prefix.len, 1);

    for (i = 3; i < cf->args->nelts; i++) {

        n = (ngx_strncmp(value[i].data, "min=", 4) == 0)
            ? ngx_atoi(value[i].data + 4, value[i].len - 4) : NGX_ERROR;

        if (n < 1 || n > NGX_STREAM_MIN_LEN) {
            return ngx_tunnel_conf_invalid(cf, cmd, &value[i],
                                           "min= and 1 to 65536 bytes");
        }

        protocol->min = ngx_max(protocol->min, (size_t) n);
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_stream_tunnel_protocol_name(ngx_str_t *name)
{
    size_t            i;
    u_char            ch;
    ngx_uint_t        n;
    const ngx_str_t  *known;

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if ((ch < 'a' || ch > 'z') && (ch < '0' || ch > '9')
            && ch != '_' && ch != '-' && ch != '.')
        {
            return NGX_DECLINED;
        }
    }

    for (n = 0; n < NGX_TUNNEL_PROTOCOLS; n++) {
        known = ngx_tunnel_protocol(n);

        if (known->len == name->len
            && ngx_memcmp(known->data, name->data, name->len) == 0)
        {
            return NGX_DECLINED;
        }
    }

    return name->len ? NGX_OK : NGX_DECLINED;
}


/* NGX_DECLINED if the value is neither hex digits nor a text in quotes */

static ngx_int_t
ngx_stream_tunnel_protocol_prefix(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *prefix)
{
    u_char     *src, *last, *dst;
    ngx_int_t   n;

    prefix->data = ngx_pnalloc(cf->pool, ngx_max(value->len, 1));
    if (prefix->data == NULL) {
        return NGX_ERROR;
    }

    src = value->data;
    last = src + value->len;
    dst = prefix->data;

    if (value->len >= 2 && src[0] == '"' && last[-1] == '"') {

        for (src++, last--; src < last; dst++) {

            src = ngx_stream_tunnel_protocol_escape(src, last, dst);

            if (src == NULL) {
                return NGX_DECLINED;
            }
        }

    } else {

        if (value->len % 2) {
            return NGX_DECLINED;
        }

        for ( /* void */ ; src < last; src += 2) {

            n = ngx_hextoi(src, 2);

            if (n == NGX_ERROR) {
                return NGX_DECLINED;
            }

            *dst++ = (u_char) n;
        }
    }

    prefix->len = dst - prefix->data;

    return (prefix->len && prefix->len <= NGX_STREAM_PREFIX_LEN)
           ? NGX_OK : NGX_DECLINED;
}


/* one character, or what stands for it; nginx leaves these of the escapes */

static u_char *
ngx_stream_tunnel_protocol_escape(u_char *src, u_char *last, u_char *dst)
{
    ngx_int_t  n;

    if (*src != '\\') {
        *dst = *src;
        return src + 1;
    }

    if (last - src < 2) {
        return NULL;
    }

    switch (src[1]) {

    case '\\':
    case '"':
        *dst = src[1];
        return src + 2;

    case 'r':
        *dst = '\r';
        return src + 2;

    case 'n':
        *dst = '\n';
        return src + 2;

    case 't':
        *dst = '\t';
        return src + 2;

    case '0':
        *dst = '\0';
        return src + 2;

    case 'x':
        n = (last - src < 4) ? NGX_ERROR : ngx_hextoi(src + 2, 2);

        if (n == NGX_ERROR) {
            return NULL;
        }

        *dst = (u_char) n;
        return src + 4;

    default:
        return NULL;
    }
}


static ngx_int_t
ngx_stream_tunnel_preread_add_variables(ngx_conf_t *cf)
{
    return ngx_stream_connect_tunnel_variables(cf,
                                           ngx_stream_tunnel_preread_vars,
                                           ngx_stream_tunnel_preread_variable);
}


static void *
ngx_stream_tunnel_preread_create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool,
                       sizeof(ngx_stream_tunnel_preread_main_conf_t));
}


static void *
ngx_stream_tunnel_preread_create_srv_conf(ngx_conf_t *cf)
{
    ngx_stream_tunnel_preread_srv_conf_t  *pscf;

    pscf = ngx_pcalloc(cf->pool, sizeof(ngx_stream_tunnel_preread_srv_conf_t));
    if (pscf == NULL) {
        return NULL;
    }

    pscf->enable = NGX_CONF_UNSET;
    pscf->protocols = NGX_CONF_UNSET_PTR;

    return pscf;
}


static char *
ngx_stream_tunnel_preread_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_stream_tunnel_preread_srv_conf_t *prev = parent;
    ngx_stream_tunnel_preread_srv_conf_t *conf = child;

    ngx_uint_t                              i, n;
    ngx_stream_core_srv_conf_t             *cscf;
    ngx_stream_tunnel_protocol_t           *protocol;
    ngx_stream_tunnel_preread_main_conf_t  *pmcf;

    ngx_conf_merge_value(conf->enable, prev->enable, 0);
    ngx_conf_merge_ptr_value(conf->protocols, prev->protocols, NULL);

    if (!conf->enable) {
        return NGX_CONF_OK;
    }

    pmcf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_stream_tunnel_preread_module);
    cscf = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_core_module);

    pmcf->size = ngx_max(pmcf->size, cscf->preread_buffer_size);

    n = conf->protocols ? conf->protocols->nelts : 0;
    protocol = n ? conf->protocols->elts : NULL;

    for (i = 0; i < n; i++) {

        if (protocol[i].min > cscf->preread_buffer_size) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"tunnel_protocol\" \"%V\" needs %uz bytes, "
                               "\"preread_buffer_size\" is %uz",
                               &protocol[i].name, protocol[i].min,
                               cscf->preread_buffer_size);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_stream_tunnel_preread_init(ngx_conf_t *cf)
{
    ngx_stream_handler_pt                  *h;
    ngx_stream_core_main_conf_t            *cmcf;
    ngx_stream_tunnel_preread_main_conf_t  *pmcf;

    pmcf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_stream_tunnel_preread_module);
    if (pmcf->size == 0) {
        return NGX_OK;
    }

    pmcf->scratch = ngx_palloc(cf->pool, pmcf->size);
    if (pmcf->scratch == NULL) {
        return NGX_ERROR;
    }

    cmcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_STREAM_PREREAD_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_stream_tunnel_preread_handler;

    return NGX_OK;
}
