
/*
 * The HTTP front end: CONNECT (RFC 9110 9.3.6) in the content phase.
 */


#include "ngx_http_connect_tunnel_module.h"
#include "ngx_http_connect_tunnel_intake.h"


static ngx_int_t ngx_http_connect_tunnel_post_read_handler(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_connect_tunnel_find_config_phase(
    ngx_http_request_t *r, ngx_http_phase_handler_t *ph);
static ngx_int_t ngx_http_connect_tunnel_precontent_handler(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_connect_tunnel_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_connect_tunnel_eval(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_upstream_srv_conf_t **uscf);
static ngx_http_upstream_srv_conf_t *ngx_http_connect_tunnel_upstream(
    ngx_http_request_t *r, ngx_str_t *name);
static ngx_int_t ngx_http_connect_tunnel_open(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_upstream_srv_conf_t *uscf);
static ngx_int_t ngx_http_connect_tunnel_balancer(ngx_http_request_t *r,
    ngx_tunnel_session_t *s, ngx_http_upstream_srv_conf_t *uscf);
static void ngx_http_connect_tunnel_connected(ngx_tunnel_session_t *s);
static void ngx_http_connect_tunnel_check_client(ngx_http_request_t *r);
static ngx_int_t ngx_http_connect_tunnel_fail(
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_tunnel_result_e result);
static void ngx_http_connect_tunnel_begin(ngx_http_request_t *r);
static void ngx_http_connect_tunnel_flush(ngx_http_request_t *r);
static void ngx_http_connect_tunnel_relay(ngx_http_request_t *r);
static void ngx_http_connect_tunnel_process(ngx_http_request_t *r);
static void ngx_http_connect_tunnel_ended(ngx_tunnel_session_t *s);
static void ngx_http_connect_tunnel_client(ngx_tunnel_session_t *s,
    ngx_str_t *name);
static void ngx_http_connect_tunnel_cleanup(void *data);


static void *ngx_http_connect_tunnel_compile(ngx_conf_t *cf,
    ngx_str_t *value);
static ngx_int_t ngx_http_connect_tunnel_value(void *data, void *compiled,
    ngx_str_t *value);
static void *ngx_http_connect_tunnel_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_connect_tunnel_create_srv_conf(ngx_conf_t *cf);
static void *ngx_http_connect_tunnel_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_connect_tunnel_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_connect_tunnel(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_connect_tunnel_status_name(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_connect_tunnel_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_connect_tunnel_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_connect_tunnel_init_process(ngx_cycle_t *cycle);
static void ngx_http_connect_tunnel_exit_process(ngx_cycle_t *cycle);


static ngx_conf_enum_t  ngx_http_connect_tunnel_versions[] = {
    { ngx_string("1.0"), NGX_HTTP_VERSION_10 },
    { ngx_string("1.1"), NGX_HTTP_VERSION_11 },
    { ngx_string("2.0"), NGX_HTTP_VERSION_20 },
    { ngx_null_string, 0 }
};


static const ngx_tunnel_layer_t  ngx_http_connect_tunnel_layer = {
    &ngx_http_connect_tunnel_module,
    ngx_http_connect_tunnel_compile,
    ngx_http_connect_tunnel_value
};


static ngx_command_t  ngx_http_connect_tunnel_commands[] = {

    { ngx_string("connect_tunnel"),
      NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_CONF_NOARGS
      |NGX_CONF_TAKE1,
      ngx_http_connect_tunnel,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("connect_tunnel_min_version"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, min_version),
      &ngx_http_connect_tunnel_versions },

    { ngx_string("connect_tunnel_proxy_status"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_connect_tunnel_status_name,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    NGX_TUNNEL_COMMANDS(NGX_HTTP_MAIN_CONF,
                        NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF
                        |NGX_HTTP_LOC_CONF,
                        NGX_HTTP_LOC_CONF_OFFSET,
                        ngx_http_connect_tunnel_loc_conf_t,
                        (void *) &ngx_http_connect_tunnel_layer),

    { ngx_string("tunnel_anonymous_log"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, anonymous),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_connect_tunnel_module_ctx = {
    ngx_http_connect_tunnel_add_variables,      /* preconfiguration */
    ngx_http_connect_tunnel_postconfiguration,  /* postconfiguration */

    ngx_http_connect_tunnel_create_main_conf,   /* create main conf */
    NULL,                                       /* init main conf */

    ngx_http_connect_tunnel_create_srv_conf,    /* create server conf */
    NULL,                                       /* merge server conf */

    ngx_http_connect_tunnel_create_loc_conf,    /* create location conf */
    ngx_http_connect_tunnel_merge_loc_conf      /* merge location conf */
};


ngx_module_t  ngx_http_connect_tunnel_module = {
    NGX_MODULE_V1,
    &ngx_http_connect_tunnel_module_ctx,       /* module context */
    ngx_http_connect_tunnel_commands,          /* module directives */
    NGX_HTTP_MODULE,                           /* module type */
    NULL,                                      /* init master */
    ngx_http_connect_tunnel_init_module,       /* init module */
    ngx_http_connect_tunnel_init_process,      /* init process */
    NULL,                                      /* init thread */
    NULL,                                      /* exit thread */
    ngx_http_connect_tunnel_exit_process,      /* exit process */
    NULL,                                      /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_http_connect_tunnel_ctx_t *
ngx_http_connect_tunnel_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t             *cln;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_connect_tunnel_module);

    if (ctx == NULL && (r->main->internal || r->main->filter_finalize)) {

        /*
         * if module context was reset, the original one
         * can still be found in the cleanup handler
         */

        for (cln = r->main->pool->cleanup; cln; cln = cln->next) {

            if (cln->handler == ngx_http_connect_tunnel_cleanup) {
                return cln->data;
            }
        }
    }

    return ctx;
}


ngx_uint_t
ngx_http_connect_tunnel_enabled(ngx_http_conf_ctx_t *conf_ctx)
{
    ngx_http_connect_tunnel_srv_conf_t  *ctscf;

    ctscf = conf_ctx->srv_conf[ngx_http_connect_tunnel_module.ctx_index];

    return ctscf->enabled;
}


ngx_int_t
ngx_http_connect_tunnel_accept(ngx_http_request_t *r, ngx_str_t *authority)
{
    const char                           *err;
    ngx_pool_cleanup_t                   *cln;
    ngx_tunnel_target_t                   target;
    ngx_tunnel_session_t                 *s;
    ngx_http_connect_tunnel_ctx_t        *ctx;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ngx_http_connect_tunnel_reuse(r->pool, &r->headers_in.headers);
    ngx_http_connect_tunnel_room(r->pool);

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_connect_tunnel_ctx_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_connect_tunnel_ctx_t));

    cln->handler = ngx_http_connect_tunnel_cleanup;

    ctx->request = r;
    ctx->refuse = NGX_TUNNEL_NO_RESULT;

    ctmcf = ngx_http_get_module_main_conf(r, ngx_http_connect_tunnel_module);

    s = &ctx->session;

    s->pool = r->pool;
    s->log = r->connection->log;
    s->layer = &ngx_http_connect_tunnel_layer;
    s->data = r;
    s->main = &ctmcf->main;
    s->id = ngx_tunnel_worker_id(&ctmcf->main.worker);
    s->asked = *authority;
    s->connected = ngx_http_connect_tunnel_connected;
    s->ended = ngx_http_connect_tunnel_ended;
    s->log_line = ngx_http_connect_tunnel_log;
    s->client = ngx_http_connect_tunnel_client;

    ngx_tunnel_session_reset(s);

    ngx_http_set_ctx(r, ctx, ngx_http_connect_tunnel_module);

    ngx_http_connect_tunnel_credentials(r);

    err = ngx_tunnel_target_parse(&target, authority->data, authority->len);

    if (err) {
        ngx_str_null(&r->headers_in.server);

        s->what.data = (u_char *) err;
        s->what.len = ngx_strlen(err);
        ctx->refuse = NGX_TUNNEL_BAD_REQUEST;

        return NGX_OK;
    }

    ctx->target = ngx_tunnel_target_copy(r->pool, &target);
    if (ctx->target == NULL) {
        return NGX_ERROR;
    }

    s->target = ctx->target;

    r->headers_in.server = s->target->host;
    ngx_http_connect_tunnel_set_port(r, s->target->port);

    /* nginx takes any stream that goes on for one with a chunked body */

    if (r->headers_in.content_length_n > 0
        || (r->headers_in.chunked && r->stream == NULL))
    {
        ngx_str_set(&s->what, "a body is not allowed");
        ctx->refuse = NGX_TUNNEL_BAD_REQUEST;
    }

#if (NGX_HTTP_SSL)

    if (r->connection->ssl && r->connection->ssl->in_early) {

        /* RFC 8470: might be a replay, and would open a connection */

        ngx_str_set(&s->what, "CONNECT in early data");
        ctx->refuse = NGX_TUNNEL_TOO_EARLY;
    }

#endif

    return NGX_OK;
}


/* the last one of its phase: by now realip has found the client */

static ngx_int_t
ngx_http_connect_tunnel_post_read_handler(ngx_http_request_t *r)
{
    ngx_http_connect_tunnel_ctx_t  *ctx;

    if (r->method != NGX_HTTP_CONNECT) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    if (ctx == NULL || ctx->refuse == NGX_TUNNEL_NO_RESULT) {
        return NGX_DECLINED;
    }

    return ngx_http_connect_tunnel_fail(ctx, ctx->refuse);
}


/*
 * A CONNECT goes to the tunnel of the location that "/" selects or, where it
 * has none, to the server's own, under the server's own configuration.
 */

static ngx_int_t
ngx_http_connect_tunnel_find_config_phase(ngx_http_request_t *r,
    ngx_http_phase_handler_t *ph)
{
    ngx_int_t                            rc;
    ngx_uint_t                           internal;
    ngx_http_core_srv_conf_t            *cscf;
    ngx_http_connect_tunnel_ctx_t       *ctx;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    if (r->method != NGX_HTTP_CONNECT || r != r->main || r->err_status
        || r->post_action)
    {
        return ngx_http_core_find_config_phase(r, ph);
    }

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    if (ctx == NULL) {
        return ngx_http_core_find_config_phase(r, ph);
    }

    /* an internal location takes no requests, but it need not take this one */

    internal = r->internal;
    r->internal = 1;

    rc = ngx_http_core_find_config_phase(r, ph);

    if (rc != NGX_AGAIN) {
        return rc;
    }

    r->internal = internal;

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    if (!ctlcf->enable && !ctlcf->nested) {
        cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
        r->loc_conf = cscf->ctx->loc_conf;
        r->content_handler = NULL;

        ngx_http_update_location_config(r);

        ctlcf = ngx_http_get_module_loc_conf(r,
                                             ngx_http_connect_tunnel_module);
    }

    if (r->http_version < ctlcf->min_version) {
        ngx_str_set(&ctx->session.what, "the HTTP version is too low");

        ngx_http_finalize_request(r,
                 ngx_http_connect_tunnel_fail(ctx, NGX_TUNNEL_BAD_VERSION));
        return NGX_OK;
    }

    return NGX_AGAIN;
}


/*
 * The first one of its phase: try_files and mirror have nothing to do with a
 * CONNECT.
 */

static ngx_int_t
ngx_http_connect_tunnel_precontent_handler(ngx_http_request_t *r)
{
    ngx_http_connect_tunnel_ctx_t       *ctx;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    if (r->method != NGX_HTTP_CONNECT || r != r->main || r->err_status
        || r->post_action)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    if (ctx == NULL || ctx->refuse != NGX_TUNNEL_NO_RESULT) {
        return NGX_DECLINED;
    }

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    if (ctlcf->enable && r->http_version < ctlcf->min_version) {

        /* a named location is not found by its configuration phase */

        return ngx_http_connect_tunnel_fail(ctx, NGX_TUNNEL_BAD_VERSION);
    }

    if (!ctlcf->enable && ctx->session.result != NGX_TUNNEL_NO_RESULT) {

        /* the page of an error */

        return NGX_DECLINED;
    }

    if (!ctlcf->enable) {

        /* other locations of this server have a tunnel */

        return NGX_HTTP_NOT_ALLOWED;
    }

    r->content_handler = ngx_http_connect_tunnel_handler;

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_handler(ngx_http_request_t *r)
{
    ngx_int_t                            rc;
    ngx_http_upstream_srv_conf_t        *uscf;
    ngx_http_connect_tunnel_ctx_t       *ctx;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctx = ngx_http_connect_tunnel_get_ctx(r);
    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    uscf = ctlcf->upstream;

    /* an attempt before this one, of another location, has failed */

    ngx_tunnel_session_reset(&ctx->session);

    ctx->session.requested = ctx->target;
    ctx->session.target = ctx->target;

    if (ctlcf->target) {
        rc = ngx_http_connect_tunnel_eval(r, ctx, &uscf);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_http_connect_tunnel_open(r, ctx, uscf);
}


/* a target with variables is an upstream's name or host:port */

static ngx_int_t
ngx_http_connect_tunnel_eval(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_upstream_srv_conf_t **uscf)
{
    ngx_str_t                            value;
    const char                          *err;
    ngx_tunnel_target_t                  target;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    if (ngx_http_complex_value(r, ctlcf->target, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (value.len == 0) {
        ngx_str_set(&ctx->session.what, "empty \"connect_tunnel\" target");
        return ngx_http_connect_tunnel_fail(ctx, NGX_TUNNEL_DENIED_NAME);
    }

    *uscf = ngx_http_connect_tunnel_upstream(r, &value);

    if (*uscf) {
        return NGX_OK;
    }

    err = ngx_tunnel_target_parse(&target, value.data, value.len);

    if (err) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "invalid target \"%V\": %s", &value, err);

        ngx_str_set(&ctx->session.what,
                    "invalid \"connect_tunnel\" target");
        return ngx_http_connect_tunnel_fail(ctx, NGX_TUNNEL_INTERNAL);
    }

    ctx->session.target = ngx_tunnel_target_copy(r->pool, &target);

    return ctx->session.target ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


static ngx_http_upstream_srv_conf_t *
ngx_http_connect_tunnel_upstream(ngx_http_request_t *r, ngx_str_t *name)
{
    ngx_uint_t                       i;
    ngx_http_upstream_srv_conf_t   **uscf;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_get_module_main_conf(r, ngx_http_upstream_module);
    uscf = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        /* those without a file were made for a literal address elsewhere */

        if ((uscf[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            && uscf[i]->host.len == name->len
            && ngx_strncasecmp(uscf[i]->host.data, name->data, name->len)
               == 0)
        {
            return uscf[i];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_connect_tunnel_open(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_upstream_srv_conf_t *uscf)
{
    ngx_int_t                            rc;
    ngx_tunnel_session_t                *s;
    ngx_http_core_loc_conf_t            *clcf;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    s = &ctx->session;

    s->conf = &ctlcf->tunnel;
    s->resolver = clcf->resolver;
    s->trusted = (uscf != NULL);

    if (uscf) {

        if (ngx_http_connect_tunnel_balancer(r, s, uscf) != NGX_OK) {
            return ngx_http_connect_tunnel_fail(ctx, NGX_TUNNEL_INTERNAL);
        }

    }

    rc = ngx_tunnel_session_open(s);

    if (rc == NGX_AGAIN) {
        r->main->count++;
        r->read_event_handler = ngx_http_connect_tunnel_check_client;
        r->write_event_handler = ngx_http_request_empty_handler;

        return NGX_DONE;
    }

    if (rc == NGX_TUNNEL_OK) {

        /* a tunnel may end at once, and not while a phase has the request */

        r->main->count++;
        r->read_event_handler = ngx_http_connect_tunnel_check_client;
        r->write_event_handler = ngx_http_connect_tunnel_begin;

        ngx_post_event(r->connection->write, &ngx_posted_events);

        return NGX_DONE;
    }

    return ngx_tunnel_result(rc)->status;
}


static ngx_int_t
ngx_http_connect_tunnel_balancer(ngx_http_request_t *r,
    ngx_tunnel_session_t *s, ngx_http_upstream_srv_conf_t *uscf)
{
    ngx_http_upstream_t                  *u;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    if (uscf->peer.init == NULL || ngx_http_upstream_create(r) != NGX_OK) {
        return NGX_ERROR;
    }

    ctmcf = ngx_http_get_module_main_conf(r, ngx_http_connect_tunnel_module);

    u = r->upstream;
    u->conf = &ctmcf->upstream;
    u->upstream = uscf;
    u->peer.start_time = ngx_current_msec;

    /* balancers that measure find no response here */

    u->state = ngx_pcalloc(r->pool, sizeof(ngx_http_upstream_state_t));
    if (u->state == NULL) {
        return NGX_ERROR;
    }

    u->state->connect_time = (ngx_msec_t) -1;
    u->state->header_time = (ngx_msec_t) -1;

    if (uscf->peer.init(r, uscf) != NGX_OK) {
        return NGX_ERROR;
    }

    s->balancer = &u->peer;

    return NGX_OK;
}


static void
ngx_http_connect_tunnel_connected(ngx_tunnel_session_t *s)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = s->data;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (s->result == NGX_TUNNEL_OK) {
        ngx_http_connect_tunnel_begin(r);

    } else {
        ngx_http_finalize_request(r, ngx_tunnel_result(s->result)->status);
    }

    ngx_http_run_posted_requests(c);
}


/*
 * A client that has closed its sending half may still wait for the answer;
 * one that has reset the connection does not.
 */

static void
ngx_http_connect_tunnel_check_client(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    if (r->stream) {
        rc = r->connection->error ? NGX_DECLINED : NGX_OK;

    } else {
        rc = ngx_tunnel_socket_check(r->connection);
    }

    if (rc == NGX_OK) {
        return;
    }

    ctx = ngx_http_connect_tunnel_get_ctx(r);
    ngx_tunnel_session_reset(&ctx->session);

    ngx_http_finalize_request(r, (rc == NGX_DECLINED)
                                 ? NGX_HTTP_CLIENT_CLOSED_REQUEST
                                 : NGX_HTTP_INTERNAL_SERVER_ERROR);
}


/* says why, and gives the status to answer with */

static ngx_int_t
ngx_http_connect_tunnel_fail(ngx_http_connect_tunnel_ctx_t *ctx,
    ngx_tunnel_result_e result)
{
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_http_get_module_loc_conf(ctx->request,
                                         ngx_http_connect_tunnel_module);

    ctx->session.conf = &ctlcf->tunnel;

    ngx_tunnel_session_fail(&ctx->session, result);

    return ngx_tunnel_result(result)->status;
}


/* the answer to a target that is connected */

static void
ngx_http_connect_tunnel_begin(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_chain_t                     out;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_http_connect_tunnel_get_ctx(r);
    ctx->tunnel = 1;

    r->keepalive = 0;
    r->disable_not_modified = 1;
    r->headers_out.status = NGX_HTTP_OK;
    ngx_str_set(&r->headers_out.status_line, "200 Connection established");

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->post_action) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    /* what follows the header is no response, so no filter is to see it */

    out.buf = ngx_calloc_buf(r->pool);
    if (out.buf == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    out.buf->flush = 1;
    out.next = NULL;

    if (ngx_http_write_filter(r, &out) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    r->read_event_handler = ngx_http_connect_tunnel_check_client;
    r->write_event_handler = ngx_http_connect_tunnel_flush;

    ngx_http_connect_tunnel_flush(r);
}


/* the tunnel begins when the answer is out */

static void
ngx_http_connect_tunnel_flush(ngx_http_request_t *r)
{
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_http_core_loc_conf_t  *clcf;

    c = r->connection;
    wev = c->write;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT, "client timed out");
        c->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (r->out || c->buffered) {

        if (ngx_http_write_filter(r, NULL) == NGX_ERROR) {
            ngx_http_finalize_request(r, NGX_ERROR);
            return;
        }
    }

    if (r->out || c->buffered) {
        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        if (!wev->delayed) {
            ngx_add_timer(wev, clcf->send_timeout);
        }

        if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_ERROR);
        }

        return;
    }

    ngx_http_connect_tunnel_relay(r);
}


static void
ngx_http_connect_tunnel_relay(ngx_http_request_t *r)
{
    ngx_connection_t               *c;
    ngx_http_cleanup_t             *cln;
    ngx_tunnel_session_t           *s;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    c = r->connection;
    ctx = ngx_http_connect_tunnel_get_ctx(r);
    s = &ctx->session;

    if (r->stream == NULL) {
        ngx_http_connect_tunnel_compact(r);

#if (NGX_HTTP_SSL)
        if (c->ssl) {
            ngx_ssl_free_buffer(c);
        }
#endif
    }

    ngx_str_null(&s->asked);

    cln = ngx_http_cleanup_add(r, 0);

    ngx_http_connect_tunnel_fit(r->pool, sizeof(ngx_tunnel_relay_t));

    if (cln == NULL
        || ngx_tunnel_session_prepare(s, c, r->header_in) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

#if (NGX_HTTP_TUNNEL_V2)

    if (r->stream
        && ngx_http_connect_tunnel_v2_end(r, ctx,
                                          ngx_http_connect_tunnel_intake_v2(r))
           != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

#endif

    cln->handler = ngx_http_connect_tunnel_cleanup;
    cln->data = ctx;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    c->write->delayed = 0;

    if (r->stream == NULL) {
        ngx_http_connect_tunnel_intake_detach(c);
    }

    r->read_event_handler = ngx_http_connect_tunnel_process;
    r->write_event_handler = ngx_http_connect_tunnel_process;

    ngx_tunnel_relay(s->relay);
}


static void
ngx_http_connect_tunnel_process(ngx_http_request_t *r)
{
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_http_connect_tunnel_get_ctx(r);

#if (NGX_HTTP_TUNNEL_V2)

    if (ctx->stream && !ngx_http_connect_tunnel_v2_event(ctx->stream)) {

        /* nginx closes the connection */

        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

#endif

    ngx_tunnel_relay_process(ctx->session.relay);
}


static void
ngx_http_connect_tunnel_ended(ngx_tunnel_session_t *s)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = s->data;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    /* the request may go on, with a post_action */

    ngx_tunnel_session_close(s);

    switch (s->relay->reason) {

    case NGX_TUNNEL_COMPLETED:
        r->request_complete = 1;
        break;

    case NGX_TUNNEL_IDLE_TIMEOUT:
    case NGX_TUNNEL_SEND_TIMEOUT:
        c->timedout = (r->stream == NULL);
        break;

    default:
        break;
    }

    ngx_http_finalize_request(r, NGX_ERROR);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_connect_tunnel_client(ngx_tunnel_session_t *s, ngx_str_t *name)
{
    ngx_http_request_t                  *r;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    r = s->data;
    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    if (!ctlcf->anonymous) {
        *name = r->connection->addr_text;
    }
}


/* of a tunnel, which ends here before it is logged, and of the pool */

static void
ngx_http_connect_tunnel_cleanup(void *data)
{
    ngx_http_connect_tunnel_ctx_t  *ctx = data;

    ngx_tunnel_session_close(&ctx->session);

#if (NGX_HTTP_TUNNEL_V2)

    if (ctx->stream) {
        ngx_http_connect_tunnel_v2_close(ctx->stream,
                                         ctx->session.relay->reason);
        ctx->stream = NULL;
    }

#endif
}


static void *
ngx_http_connect_tunnel_compile(ngx_conf_t *cf, ngx_str_t *value)
{
    ngx_http_complex_value_t          *cv;
    ngx_http_compile_complex_value_t   ccv;

    cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (cv == NULL) {
        return NULL;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = cv;

    return (ngx_http_compile_complex_value(&ccv) == NGX_OK) ? cv : NULL;
}


static ngx_int_t
ngx_http_connect_tunnel_value(void *data, void *compiled, ngx_str_t *value)
{
    return ngx_http_complex_value(data, compiled, value);
}


static void *
ngx_http_connect_tunnel_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_connect_tunnel_main_conf_t));
    if (ctmcf == NULL) {
        return NULL;
    }

    if (ngx_tunnel_main_create(cf, &ctmcf->main) != NGX_OK) {
        return NULL;
    }

    ngx_str_set(&ctmcf->upstream.module, "connect_tunnel");

    return ctmcf;
}


static void *
ngx_http_connect_tunnel_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_connect_tunnel_srv_conf_t));
}


static void *
ngx_http_connect_tunnel_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_connect_tunnel_loc_conf_t));
    if (ctlcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     ctlcf->parent = NULL;
     *     ctlcf->enable = 0;
     *     ctlcf->nested = 0;
     *     ctlcf->target = NULL;
     *     ctlcf->upstream = NULL;
     *     ctlcf->proxy_status = { 0, NULL };
     */

    ngx_tunnel_conf_create(&ctlcf->tunnel);

    ctlcf->min_version = NGX_CONF_UNSET_UINT;
    ctlcf->anonymous = NGX_CONF_UNSET;

    return ctlcf;
}


static char *
ngx_http_connect_tunnel_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_connect_tunnel_loc_conf_t *prev = parent;
    ngx_http_connect_tunnel_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t             *clcf;
    ngx_http_core_srv_conf_t             *cscf;
    ngx_http_connect_tunnel_loc_conf_t   *p;
    ngx_http_connect_tunnel_srv_conf_t   *ctscf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    ctmcf = ngx_http_conf_get_module_main_conf(cf,
                                               ngx_http_connect_tunnel_module);

    conf->parent = clcf->noname ? prev : NULL;

    if (clcf->noname && !conf->enable) {
        conf->enable = prev->enable;
        conf->target = prev->target;
        conf->upstream = prev->upstream;

    } else if (conf->enable) {

        for (p = conf->parent; p; p = p->parent) {
            p->nested = 1;
        }
    }

    if (ngx_tunnel_conf_merge(cf, &conf->tunnel, &prev->tunnel)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_uint_value(conf->min_version, prev->min_version,
                              NGX_HTTP_VERSION_10);
    ngx_conf_merge_value(conf->anonymous, prev->anonymous, 0);

    if (conf->proxy_status.data == NULL) {
        conf->proxy_status = prev->proxy_status;
    }

    if (conf->proxy_status.data == NULL) {
        ngx_str_set(&conf->proxy_status, "nginx");
    }

    ctscf = ngx_http_conf_get_module_srv_conf(cf,
                                              ngx_http_connect_tunnel_module);
    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);

    if (ctscf->enabled
        && ngx_tunnel_main_count(cf, &ctmcf->main, &conf->tunnel,
                                 NGX_TUNNEL_CONNECT_FRONT, &cscf->server_name)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (!conf->enable) {
        return NGX_CONF_OK;
    }

    if (ngx_tunnel_main_add(cf, &ctmcf->main, &conf->tunnel,
                            conf->upstream ? NULL : clcf->resolver)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_connect_tunnel(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_connect_tunnel_loc_conf_t *ctlcf = conf;

    ngx_str_t                            *value;
    ngx_url_t                             u;
    ngx_http_connect_tunnel_srv_conf_t   *ctscf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    if (ctlcf->enable) {
        return "is duplicate";
    }

    ctmcf = ngx_http_conf_get_module_main_conf(cf,
                                               ngx_http_connect_tunnel_module);
    ctscf = ngx_http_conf_get_module_srv_conf(cf,
                                              ngx_http_connect_tunnel_module);

    ctlcf->enable = 1;
    ctscf->enabled = 1;
    ctmcf->enabled = 1;

    if (cf->args->nelts == 1) {
        return NGX_CONF_OK;
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty target";
    }

    if (ngx_http_script_variables_count(&value[1])) {

        ctlcf->target = ngx_http_connect_tunnel_compile(cf, &value[1]);

        return ctlcf->target ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = value[1];
    u.no_resolve = 1;

    ctlcf->upstream = ngx_http_upstream_add(cf, &u, 0);
    if (ctlcf->upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_connect_tunnel_status_name(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_connect_tunnel_loc_conf_t *ctlcf = conf;

    u_char      ch;
    ngx_str_t  *value;
    ngx_uint_t  i;

    if (ctlcf->proxy_status.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        ngx_str_set(&ctlcf->proxy_status, "");
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "on") == 0) {
        ngx_str_set(&ctlcf->proxy_status, "nginx");
        return NGX_CONF_OK;
    }

    /* a token of RFC 8941 3.3.4, as far as host names need it */

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
            || (i && ((ch >= '0' && ch <= '9') || ch == '.' || ch == '-'
                      || ch == '_' || ch == ':')))
        {
            continue;
        }

        break;
    }

    if (i == 0 || i < value[1].len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\", it must be \"off\", \"on\", "
                           "or a name of a letter and of letters, digits, "
                           "\".\", \"-\", \"_\", and \":\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    ctlcf->proxy_status = value[1];

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_connect_tunnel_prepend(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler)
{
    ngx_uint_t                  n;
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handlers = &cmcf->phases[phase].handlers;

    if (ngx_array_push(handlers) == NULL) {
        return NGX_ERROR;
    }

    h = handlers->elts;

    for (n = handlers->nelts - 1; n; n--) {
        h[n] = h[n - 1];
    }

    h[0] = handler;

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_handler_pt                  *h;
    ngx_http_core_main_conf_t            *cmcf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_http_conf_get_module_main_conf(cf,
                                               ngx_http_connect_tunnel_module);

    if (!ctmcf->enabled) {
        return NGX_OK;
    }

    ngx_http_connect_tunnel_log_init(cf);

    if (ngx_http_connect_tunnel_intake_phases(cf) != NGX_OK
        || ngx_http_connect_tunnel_prepend(cf, NGX_HTTP_POST_READ_PHASE,
                                    ngx_http_connect_tunnel_post_read_handler)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_connect_tunnel_precontent_handler;

    ngx_http_connect_tunnel_filters();

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_init_module(ngx_cycle_t *cycle)
{
    ngx_http_phase_handler_t             *ph;
    ngx_http_core_main_conf_t            *cmcf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_connect_tunnel_module);

    if (ctmcf == NULL || !ctmcf->enabled) {
        return NGX_OK;
    }

    if (ngx_tunnel_main_init(cycle, &ctmcf->main) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_connect_tunnel_intake_listen(cycle);

    /* the phase of the core has no handlers to add to */

    cmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module);

    for (ph = cmcf->phase_engine.handlers; ph->checker; ph++) {

        if (ph->checker == ngx_http_core_find_config_phase) {
            ph->checker = ngx_http_connect_tunnel_find_config_phase;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_init_process(ngx_cycle_t *cycle)
{
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_connect_tunnel_module);

    if (ctmcf) {
        ngx_tunnel_main_start(cycle, &ctmcf->main);
    }

    return NGX_OK;
}


static void
ngx_http_connect_tunnel_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_connect_tunnel_module);

    if (ctmcf) {
        ngx_tunnel_main_exit(&ctmcf->main);
    }
}
