
/*
 * The stream layer: directives and variables that its front ends share, and
 * what they do between a target and the end of a tunnel.
 */


#include "ngx_stream_connect_tunnel_module.h"


/* what a client sends where nothing is expected is read so much at a time */

#define NGX_STREAM_CONTROL_BUFFER  512

/* how long a refused client may take to go, msec */

#define NGX_STREAM_LINGER_TIMEOUT  2000

/* what it sends meanwhile is read so much at a time, and so many times */

#define NGX_STREAM_LINGER_BUFFER   4096
#define NGX_STREAM_LINGER_READS    8

/* a line of the log and its variables; what there is more of is allocated */

#define NGX_STREAM_LOG_POOL        2048


static ngx_int_t ngx_stream_connect_tunnel_group(ngx_stream_session_t *s,
    ngx_tunnel_session_t *ts, ngx_stream_upstream_srv_conf_t *uscf);
static ngx_int_t ngx_stream_connect_tunnel_balancer(ngx_stream_session_t *s,
    ngx_tunnel_session_t *ts);
static void ngx_stream_connect_tunnel_check_client(ngx_event_t *rev);
static void ngx_stream_connect_tunnel_connected(ngx_tunnel_session_t *ts);
static void ngx_stream_connect_tunnel_process(ngx_event_t *ev);
static void ngx_stream_connect_tunnel_empty_handler(ngx_event_t *ev);
static void ngx_stream_connect_tunnel_control(ngx_event_t *rev);
static void ngx_stream_connect_tunnel_ended(ngx_tunnel_session_t *ts);
static void ngx_stream_connect_tunnel_drain(ngx_event_t *rev);
static void ngx_stream_connect_tunnel_log(ngx_tunnel_session_t *ts);
static void ngx_stream_connect_tunnel_client(ngx_tunnel_session_t *ts,
    ngx_str_t *name);
static void ngx_stream_connect_tunnel_cleanup(void *data);
static u_char *ngx_stream_connect_tunnel_log_error(ngx_log_t *log, u_char *buf,
    size_t len);

static ngx_int_t ngx_stream_connect_tunnel_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data);

static void *ngx_stream_connect_tunnel_compile(ngx_conf_t *cf,
    ngx_str_t *value);
static ngx_int_t ngx_stream_connect_tunnel_value(void *data, void *compiled,
    ngx_str_t *value);
static ngx_int_t ngx_stream_connect_tunnel_add_variables(ngx_conf_t *cf);
static void *ngx_stream_connect_tunnel_create_main_conf(ngx_conf_t *cf);
static void *ngx_stream_connect_tunnel_create_srv_conf(ngx_conf_t *cf);
static char *ngx_stream_connect_tunnel_merge_srv_conf(ngx_conf_t *cf,
    void *parent, void *child);
static ngx_int_t ngx_stream_connect_tunnel_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_stream_connect_tunnel_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_stream_connect_tunnel_init_process(ngx_cycle_t *cycle);
static void ngx_stream_connect_tunnel_exit_process(ngx_cycle_t *cycle);


static char  ngx_stream_connect_tunnel_conflict[] =
    "is in a server that has another handler, such as \"proxy_pass\"";


const ngx_tunnel_layer_t  ngx_stream_connect_tunnel_layer = {
    &ngx_stream_connect_tunnel_module,
    ngx_stream_connect_tunnel_compile,
    ngx_stream_connect_tunnel_value
};


static ngx_command_t  ngx_stream_connect_tunnel_commands[] = {

    NGX_TUNNEL_COMMANDS(NGX_STREAM_MAIN_CONF,
                        NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF,
                        NGX_STREAM_SRV_CONF_OFFSET,
                        ngx_stream_connect_tunnel_srv_conf_t,
                        (void *) &ngx_stream_connect_tunnel_layer),

    { ngx_string("tunnel_anonymous_log"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_connect_tunnel_srv_conf_t, anonymous),
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_stream_connect_tunnel_module_ctx = {
    ngx_stream_connect_tunnel_add_variables,     /* preconfiguration */
    ngx_stream_connect_tunnel_postconfiguration, /* postconfiguration */

    ngx_stream_connect_tunnel_create_main_conf,  /* create main conf */
    NULL,                                        /* init main conf */

    ngx_stream_connect_tunnel_create_srv_conf,   /* create server conf */
    ngx_stream_connect_tunnel_merge_srv_conf     /* merge server conf */
};


ngx_module_t  ngx_stream_connect_tunnel_module = {
    NGX_MODULE_V1,
    &ngx_stream_connect_tunnel_module_ctx,       /* module context */
    ngx_stream_connect_tunnel_commands,          /* module directives */
    NGX_STREAM_MODULE,                           /* module type */
    NULL,                                        /* init master */
    ngx_stream_connect_tunnel_init_module,       /* init module */
    ngx_stream_connect_tunnel_init_process,      /* init process */
    NULL,                                        /* init thread */
    NULL,                                        /* exit thread */
    ngx_stream_connect_tunnel_exit_process,      /* exit process */
    NULL,                                        /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_tunnel_session_t *
ngx_stream_connect_tunnel_create(ngx_stream_session_t *s,
    ngx_stream_tunnel_pt handler)
{
    ngx_connection_t                       *c;
    ngx_pool_cleanup_t                     *cln;
    ngx_tunnel_session_t                   *ts;
    ngx_stream_core_srv_conf_t             *cscf;
    ngx_stream_connect_tunnel_ctx_t        *ctx;
    ngx_stream_connect_tunnel_srv_conf_t   *ctscf;
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    c = s->connection;

    cln = ngx_pool_cleanup_add(c->pool,
                               sizeof(ngx_stream_connect_tunnel_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    cscf = ngx_stream_get_module_srv_conf(s, ngx_stream_core_module);
    ctscf = ngx_stream_get_module_srv_conf(s,
                                           ngx_stream_connect_tunnel_module);
    ctmcf = ngx_stream_get_module_main_conf(s,
                                            ngx_stream_connect_tunnel_module);

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_stream_connect_tunnel_ctx_t));

    cln->handler = ngx_stream_connect_tunnel_cleanup;

    ctx->handler = handler;

    ngx_stream_set_ctx(s, ctx, ngx_stream_connect_tunnel_module);

    ngx_stream_connect_tunnel_anonymize(s);

    ts = &ctx->session;

    ts->pool = c->pool;
    ts->log = c->log;
    ts->conf = &ctscf->tunnel;
    ts->layer = &ngx_stream_connect_tunnel_layer;
    ts->data = s;
    ts->main = &ctmcf->main;
    ts->id = ngx_tunnel_worker_id(&ctmcf->main.worker);
    ts->resolver = cscf->resolver;
    ts->connected = ngx_stream_connect_tunnel_connected;
    ts->ended = ngx_stream_connect_tunnel_ended;
    ts->log_line = ngx_stream_connect_tunnel_log;
    ts->client = ngx_stream_connect_tunnel_client;

    ngx_tunnel_session_reset(ts);

    return ts;
}


ngx_stream_upstream_srv_conf_t *
ngx_stream_connect_tunnel_upstream(ngx_stream_session_t *s, ngx_str_t *name)
{
    ngx_uint_t                        i;
    ngx_stream_upstream_srv_conf_t  **uscf;
    ngx_stream_upstream_main_conf_t  *umcf;

    umcf = ngx_stream_get_module_main_conf(s, ngx_stream_upstream_module);
    uscf = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        /* the others were made for a literal address elsewhere */

        if ((uscf[i]->flags & NGX_STREAM_UPSTREAM_CREATE)
            && uscf[i]->host.len == name->len
            && ngx_strncasecmp(uscf[i]->host.data, name->data, name->len)
               == 0)
        {
            return uscf[i];
        }
    }

    return NULL;
}


void
ngx_stream_connect_tunnel_open(ngx_stream_session_t *s,
    ngx_stream_upstream_srv_conf_t *uscf)
{
    ngx_int_t                         rc;
    ngx_connection_t                 *c;
    ngx_tunnel_session_t             *ts;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    c = s->connection;
    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);
    ts = &ctx->session;

    if (c->type != SOCK_STREAM) {
        ngx_str_set(&ts->what, "a tunnel needs TCP");
        ngx_tunnel_session_fail(ts, NGX_TUNNEL_INTERNAL);
        ctx->handler(s, NGX_TUNNEL_INTERNAL);
        return;
    }

    if (uscf) {
        ts->trusted = 1;

        if (ngx_stream_connect_tunnel_group(s, ts, uscf) != NGX_OK) {
            ngx_tunnel_session_fail(ts, NGX_TUNNEL_INTERNAL);
            ctx->handler(s, NGX_TUNNEL_INTERNAL);
            return;
        }
    }

    rc = ngx_tunnel_session_open(ts);

    if (rc != NGX_AGAIN) {
        ctx->handler(s, rc);
        return;
    }

    c->read->handler = ngx_stream_connect_tunnel_check_client;
    c->write->handler = ngx_stream_connect_tunnel_empty_handler;

    /* bytes may wait, but an end may have had its event already */

    if (c->read->ready && c->read->pending_eof) {
        ngx_post_event(c->read, &ngx_posted_events);
        return;
    }

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_stream_connect_tunnel_finalize(s,
                                           NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


static ngx_int_t
ngx_stream_connect_tunnel_group(ngx_stream_session_t *s,
    ngx_tunnel_session_t *ts, ngx_stream_upstream_srv_conf_t *uscf)
{
    if (uscf->peer.init == NULL
        || ngx_stream_connect_tunnel_balancer(s, ts) != NGX_OK)
    {
        return NGX_ERROR;
    }

    s->upstream->upstream = uscf;

    return uscf->peer.init(s, uscf);
}


ngx_tunnel_result_e
ngx_stream_connect_tunnel_unix(ngx_stream_session_t *s, ngx_str_t *name)
{
    ngx_url_t                         url;
    ngx_tunnel_session_t             *ts;
    ngx_stream_upstream_resolved_t   *ur;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);
    ts = &ctx->session;

    ngx_memzero(&url, sizeof(ngx_url_t));

    url.url = *name;
    url.no_resolve = 1;

    if (ngx_parse_url(ts->pool, &url) != NGX_OK) {

        if (url.err) {
            ts->what.data = (u_char *) url.err;
            ts->what.len = ngx_strlen(url.err);
        }

        return url.err ? NGX_TUNNEL_BAD_REQUEST : NGX_TUNNEL_INTERNAL;
    }

    ur = ngx_pcalloc(ts->pool, sizeof(ngx_stream_upstream_resolved_t));

    if (ur == NULL || ngx_stream_connect_tunnel_balancer(s, ts) != NGX_OK) {
        return NGX_TUNNEL_INTERNAL;
    }

    ur->host = *name;
    ur->name = *name;
    ur->sockaddr = url.addrs[0].sockaddr;
    ur->socklen = url.addrs[0].socklen;
    ur->naddrs = 1;

    return (ngx_stream_upstream_create_round_robin_peer(s, ur) == NGX_OK)
           ? NGX_TUNNEL_OK : NGX_TUNNEL_INTERNAL;
}


/* what nginx's balancers need of a proxied session */

static ngx_int_t
ngx_stream_connect_tunnel_balancer(ngx_stream_session_t *s,
    ngx_tunnel_session_t *ts)
{
    ngx_stream_upstream_t  *u;

    u = ngx_pcalloc(ts->pool, sizeof(ngx_stream_upstream_t));
    if (u == NULL) {
        return NGX_ERROR;
    }

    s->upstream = u;

    u->peer.log = ts->log;
    u->peer.log_error = NGX_ERROR_ERR;
    u->peer.type = SOCK_STREAM;
    u->peer.start_time = ngx_current_msec;
    u->start_sec = ngx_time();

    /* balancers that measure find no response here */

    u->state = ngx_pcalloc(ts->pool, sizeof(ngx_stream_upstream_state_t));
    if (u->state == NULL) {
        return NGX_ERROR;
    }

    u->state->connect_time = (ngx_msec_t) -1;
    u->state->first_byte_time = (ngx_msec_t) -1;

    ts->balancer = &u->peer;

    return NGX_OK;
}


/* a client that has closed its sending half may still want the tunnel */

static void
ngx_stream_connect_tunnel_check_client(ngx_event_t *rev)
{
    ngx_int_t              rc;
    ngx_connection_t      *c;
    ngx_stream_session_t  *s;

    c = rev->data;
    s = c->data;

    if (c->close) {
        ngx_stream_connect_tunnel_finalize(s, NGX_STREAM_SERVICE_UNAVAILABLE);
        return;
    }

    rc = ngx_tunnel_socket_check(c);

    if (rc != NGX_OK) {
        ngx_stream_connect_tunnel_finalize(s, (rc == NGX_DECLINED)
                                           ? NGX_STREAM_CLIENT_CLOSED
                                           : NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_stream_connect_tunnel_empty_handler(ngx_event_t *ev)
{
    return;
}


static void
ngx_stream_connect_tunnel_connected(ngx_tunnel_session_t *ts)
{
    ngx_stream_session_t             *s;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    s = ts->data;
    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);

    ctx->handler(s, ts->result);
}


void
ngx_stream_connect_tunnel_relay(ngx_stream_session_t *s)
{
    ngx_connection_t                 *c;
    ngx_tunnel_end_t                  control;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    c = s->connection;
    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);

    if (ngx_tunnel_session_prepare(&ctx->session, c, c->buffer) != NGX_OK) {
        ngx_stream_connect_tunnel_finalize(s,
                                           NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    c->read->handler = ngx_stream_connect_tunnel_process;
    c->write->handler = ngx_stream_connect_tunnel_process;

    if (ctx->session.udp) {

        /* the client's connection only tells how long it wants the tunnel */

        control.connection = c;

        if (ngx_tunnel_end_socket.open(&control,
                                    ctx->session.relay->policy->keepalive)
            != NGX_OK)
        {
            ngx_stream_connect_tunnel_finalize(s,
                                            NGX_STREAM_INTERNAL_SERVER_ERROR);
            return;
        }

        c->read->handler = ngx_stream_connect_tunnel_control;
        c->write->handler = ngx_stream_connect_tunnel_empty_handler;

        ngx_post_event(c->read, &ngx_posted_events);
    }

    ngx_tunnel_relay(ctx->session.relay);
}


static void
ngx_stream_connect_tunnel_process(ngx_event_t *ev)
{
    ngx_connection_t                 *c;
    ngx_stream_session_t             *s;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    c = ev->data;
    s = c->data;

    if (c->close) {
        ngx_stream_connect_tunnel_finalize(s, NGX_STREAM_OK);
        return;
    }

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);

    ngx_tunnel_relay_process(ctx->session.relay);
}


static void
ngx_stream_connect_tunnel_control(ngx_event_t *rev)
{
    u_char                            buf[NGX_STREAM_CONTROL_BUFFER];
    ssize_t                           n;
    ngx_connection_t                 *c;
    ngx_stream_session_t             *s;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    c = rev->data;
    s = c->data;

    if (c->close) {
        ngx_stream_connect_tunnel_finalize(s, NGX_STREAM_OK);
        return;
    }

    n = c->recv(c, buf, NGX_STREAM_CONTROL_BUFFER);

    if (n > 0) {

        /* whatever it is, nobody wants it */

        ngx_post_event(rev, &ngx_posted_next_events);
        return;
    }

    if (n == NGX_AGAIN && ngx_handle_read_event(rev, 0) == NGX_OK) {
        return;
    }

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);

    ngx_tunnel_relay_abort(ctx->session.relay, n ? NGX_TUNNEL_CLIENT_RESET
                                                 : NGX_TUNNEL_CLIENT_CLOSED);

    ngx_stream_connect_tunnel_finalize(s, NGX_STREAM_OK);
}


static void
ngx_stream_connect_tunnel_ended(ngx_tunnel_session_t *ts)
{
    ngx_stream_connect_tunnel_finalize(ts->data, NGX_STREAM_OK);
}


void
ngx_stream_connect_tunnel_finalize(ngx_stream_session_t *s,
    ngx_uint_t status)
{
    ngx_tunnel_session_t             *ts;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);
    ts = &ctx->session;

    ngx_tunnel_session_close(ts);

    if (ts->relay) {
        s->received = ts->relay->client.received;
    }

    ngx_stream_finalize_session(s, status);
}


void
ngx_stream_connect_tunnel_linger(ngx_stream_session_t *s, ngx_uint_t status)
{
    ngx_tunnel_end_t                  e;
    ngx_connection_t                 *c;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    c = s->connection;
    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);

    ctx->status = status;

    e.connection = c;
    (void) ngx_tunnel_end_socket.shutdown(&e, 0);

#if (NGX_SSL)
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
    }
#endif

    c->read->handler = ngx_stream_connect_tunnel_drain;
    c->write->handler = ngx_stream_connect_tunnel_empty_handler;

    ngx_add_timer(c->read, NGX_STREAM_LINGER_TIMEOUT);

    ngx_stream_connect_tunnel_drain(c->read);
}


static void
ngx_stream_connect_tunnel_drain(ngx_event_t *rev)
{
    u_char                            buf[NGX_STREAM_LINGER_BUFFER];
    ssize_t                           n;
    ngx_uint_t                        i;
    ngx_connection_t                 *c;
    ngx_stream_session_t             *s;
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    c = rev->data;
    s = c->data;

    if (!c->close && !rev->timedout) {

        n = 1;

        for (i = 0; n > 0 && i < NGX_STREAM_LINGER_READS; i++) {
            n = c->recv(c, buf, NGX_STREAM_LINGER_BUFFER);
        }

        if (n > 0) {
            ngx_post_event(rev, &ngx_posted_next_events);
            return;
        }

        if (n == NGX_AGAIN && ngx_handle_read_event(rev, 0) == NGX_OK) {
            return;
        }
    }

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);

    ngx_stream_connect_tunnel_finalize(s, ctx->status);
}


/* as that of http */

static void
ngx_stream_connect_tunnel_log(ngx_tunnel_session_t *ts)
{
    void                                  **ctx;
    size_t                                  nctx, nvar;
    ngx_pool_t                             *pool, *own;
    ngx_connection_t                       *c;
    ngx_stream_session_t                   *s;
    ngx_stream_variable_value_t            *variables;
    ngx_stream_core_main_conf_t            *cmcf;
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;
#if (NGX_PCRE)
    ngx_stream_session_t                    saved;
    int                                    *captures;
    size_t                                  ncaptures;
#endif

    s = ts->data;
    c = s->connection;

    cmcf = ngx_stream_get_module_main_conf(s, ngx_stream_core_module);
    ctmcf = ngx_stream_get_module_main_conf(s,
                                            ngx_stream_connect_tunnel_module);

    if (ctmcf->log == NULL) {
        return;
    }

    pool = ngx_create_pool(NGX_STREAM_LOG_POOL, ts->log);
    if (pool == NULL) {
        return;
    }

    nctx = ngx_stream_max_module * sizeof(void *);
    nvar = cmcf->variables.nelts * sizeof(ngx_stream_variable_value_t);

    ctx = ngx_palloc(pool, nctx);
    variables = ngx_palloc(pool, nvar);

    if (ctx == NULL || variables == NULL) {
        ngx_destroy_pool(pool);
        return;
    }

    s->received = ts->relay->client.received;

    /* as it will be in the end */

    s->status = NGX_STREAM_OK;

    ngx_memcpy(ctx, s->ctx, nctx);
    ngx_memcpy(variables, s->variables, nvar);
#if (NGX_PCRE)
    saved = *s;
    ncaptures = cmcf->ncaptures * sizeof(int);
    captures = s->captures ? ngx_palloc(pool, ncaptures) : NULL;

    if (captures) {
        ngx_memcpy(captures, s->captures, ncaptures);
    }
#endif

    own = c->pool;
    ts->pool = pool;
    c->pool = pool;

    (void) ctmcf->log(s);

    c->pool = own;
    ts->pool = own;

#if (NGX_PCRE)
    s->ncaptures = saved.ncaptures;
    s->captures = saved.captures;
    s->captures_data = saved.captures_data;

    if (captures) {
        ngx_memcpy(s->captures, captures, ncaptures);
    }
#endif

    ngx_memcpy(s->variables, variables, nvar);
    ngx_memcpy(s->ctx, ctx, nctx);

    ngx_destroy_pool(pool);
}


static void
ngx_stream_connect_tunnel_client(ngx_tunnel_session_t *ts, ngx_str_t *name)
{
    ngx_stream_session_t                  *s;
    ngx_stream_connect_tunnel_srv_conf_t  *ctscf;

    s = ts->data;
    ctscf = ngx_stream_get_module_srv_conf(s,
                                           ngx_stream_connect_tunnel_module);

    if (!ctscf->anonymous) {
        *name = s->connection->addr_text;
    }
}


static void
ngx_stream_connect_tunnel_cleanup(void *data)
{
    ngx_stream_connect_tunnel_ctx_t  *ctx = data;

    ngx_tunnel_session_close(&ctx->session);
}


void
ngx_stream_connect_tunnel_anonymize(ngx_stream_session_t *s)
{
    ngx_stream_connect_tunnel_srv_conf_t  *ctscf;

    ctscf = ngx_stream_get_module_srv_conf(s,
                                           ngx_stream_connect_tunnel_module);

    if (ctscf->anonymous) {
        s->connection->log->handler = ngx_stream_connect_tunnel_log_error;
    }
}


/* as nginx's, without the client */

static u_char *
ngx_stream_connect_tunnel_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                *p;
    ngx_stream_session_t  *s;

    p = buf;

    if (log->action) {
        p = ngx_snprintf(buf, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    s = log->data;

    return ngx_snprintf(p, len, ", server: %V",
                        &s->connection->listening->addr_text);
}


static ngx_int_t
ngx_stream_connect_tunnel_variable(ngx_stream_session_t *s,
    ngx_stream_variable_value_t *v, uintptr_t data)
{
    ngx_stream_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_connect_tunnel_module);

    return ngx_tunnel_session_variable(ctx ? &ctx->session : NULL, data, v);
}


static void *
ngx_stream_connect_tunnel_compile(ngx_conf_t *cf, ngx_str_t *value)
{
    ngx_stream_complex_value_t          *cv;
    ngx_stream_compile_complex_value_t   ccv;

    cv = ngx_palloc(cf->pool, sizeof(ngx_stream_complex_value_t));
    if (cv == NULL) {
        return NULL;
    }

    ngx_memzero(&ccv, sizeof(ngx_stream_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = cv;

    return (ngx_stream_compile_complex_value(&ccv) == NGX_OK) ? cv : NULL;
}


static ngx_int_t
ngx_stream_connect_tunnel_value(void *data, void *compiled, ngx_str_t *value)
{
    return ngx_stream_complex_value(data, compiled, value);
}


char *
ngx_stream_connect_tunnel_enable(ngx_conf_t *cf,
    ngx_stream_content_handler_pt handler, ngx_tunnel_front_e front,
    ngx_uint_t resolve)
{
    ngx_stream_core_srv_conf_t             *cscf;
    ngx_stream_connect_tunnel_srv_conf_t   *ctscf;
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_stream_connect_tunnel_module);
    ctscf = ngx_stream_conf_get_module_srv_conf(cf,
                                            ngx_stream_connect_tunnel_module);

    cscf = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_core_module);

    if (cscf->handler) {
        return ngx_stream_connect_tunnel_conflict;
    }

    cscf->handler = handler;

    ctmcf->enabled = 1;
    ctscf->enabled = 1;
    ctscf->front = front;
    ctscf->resolve |= resolve;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_stream_connect_tunnel_check_handler(ngx_conf_t *cf, const char *directive,
    ngx_stream_content_handler_pt handler)
{
    ngx_stream_core_srv_conf_t  *cscf;

    cscf = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_core_module);

    if (cscf->handler == handler) {
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%s\" directive %s", directive,
                       ngx_stream_connect_tunnel_conflict);

    return NGX_ERROR;
}


static ngx_int_t
ngx_stream_connect_tunnel_add_variables(ngx_conf_t *cf)
{
    return ngx_stream_connect_tunnel_variables(cf, ngx_tunnel_variables,
                                           ngx_stream_connect_tunnel_variable);
}


ngx_int_t
ngx_stream_connect_tunnel_variables(ngx_conf_t *cf,
    const ngx_tunnel_variable_t *v, ngx_stream_get_variable_pt handler)
{
    ngx_str_t               name;
    ngx_stream_variable_t  *var;

    for ( /* void */ ; v->name.len; v++) {

        name = v->name;

        var = ngx_stream_add_variable(cf, &name, NGX_STREAM_VAR_NOCACHEABLE);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = handler;
        var->data = v->id;
    }

    return NGX_OK;
}


static void *
ngx_stream_connect_tunnel_create_main_conf(ngx_conf_t *cf)
{
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_pcalloc(cf->pool,
                        sizeof(ngx_stream_connect_tunnel_main_conf_t));
    if (ctmcf == NULL) {
        return NULL;
    }

    if (ngx_tunnel_main_create(cf, &ctmcf->main) != NGX_OK) {
        return NULL;
    }

    return ctmcf;
}


static void *
ngx_stream_connect_tunnel_create_srv_conf(ngx_conf_t *cf)
{
    ngx_stream_connect_tunnel_srv_conf_t  *ctscf;

    ctscf = ngx_pcalloc(cf->pool,
                        sizeof(ngx_stream_connect_tunnel_srv_conf_t));
    if (ctscf == NULL) {
        return NULL;
    }

    ctscf->anonymous = NGX_CONF_UNSET;

    ngx_tunnel_conf_create(&ctscf->tunnel);

    return ctscf;
}


static char *
ngx_stream_connect_tunnel_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_stream_connect_tunnel_srv_conf_t *prev = parent;
    ngx_stream_connect_tunnel_srv_conf_t *conf = child;

    ngx_str_t                               label;
    ngx_stream_core_srv_conf_t             *cscf;
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    if (ngx_tunnel_conf_merge(cf, &conf->tunnel, &prev->tunnel)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_value(conf->anonymous, prev->anonymous, 0);

    if (!conf->enabled) {
        return NGX_CONF_OK;
    }

    ctmcf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_stream_connect_tunnel_module);
    cscf = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_core_module);

    ngx_str_set(&label, "");

    if (ngx_tunnel_main_count(cf, &ctmcf->main, &conf->tunnel, conf->front,
                              &label)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_tunnel_main_add(cf, &ctmcf->main, &conf->tunnel,
                            conf->resolve ? cscf->resolver : NULL)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_stream_connect_tunnel_postconfiguration(ngx_conf_t *cf)
{
    ngx_array_t                            *handlers;
    ngx_stream_handler_pt                  *h;
    ngx_stream_core_main_conf_t            *cmcf;
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    cmcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_core_module);
    ctmcf = ngx_stream_conf_get_module_main_conf(cf,
                                            ngx_stream_connect_tunnel_module);

    /* the log module comes next to the core, before all others */

    handlers = &cmcf->phases[NGX_STREAM_LOG_PHASE].handlers;

    if (handlers->nelts) {
        h = handlers->elts;
        ctmcf->log = h[0];
    }

    return NGX_OK;
}


static ngx_int_t
ngx_stream_connect_tunnel_init_module(ngx_cycle_t *cycle)
{
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                            ngx_stream_connect_tunnel_module);

    if (ctmcf == NULL || !ctmcf->enabled) {
        return NGX_OK;
    }

    return ngx_tunnel_main_init(cycle, &ctmcf->main);
}


static ngx_int_t
ngx_stream_connect_tunnel_init_process(ngx_cycle_t *cycle)
{
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                            ngx_stream_connect_tunnel_module);

    if (ctmcf) {
        ngx_tunnel_main_start(cycle, &ctmcf->main);
    }

    return NGX_OK;
}


static void
ngx_stream_connect_tunnel_exit_process(ngx_cycle_t *cycle)
{
    ngx_stream_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_stream_cycle_get_module_main_conf(cycle,
                                            ngx_stream_connect_tunnel_module);

    if (ctmcf) {
        ngx_tunnel_main_exit(&ctmcf->main);
    }
}
