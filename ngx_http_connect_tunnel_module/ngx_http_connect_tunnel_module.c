
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
static ngx_int_t ngx_http_connect_tunnel_check(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_uint_t trusted);
static ngx_int_t ngx_http_connect_tunnel_connect(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_upstream_srv_conf_t *uscf);
static ngx_int_t ngx_http_connect_tunnel_balancer(ngx_http_request_t *r,
    ngx_tunnel_connect_t *cn, ngx_http_upstream_srv_conf_t *uscf);
static ngx_int_t ngx_http_connect_tunnel_local(ngx_http_request_t *r,
    ngx_tunnel_connect_t *cn, ngx_http_upstream_local_t *local);
static void ngx_http_connect_tunnel_connected(ngx_tunnel_connect_t *cn,
    ngx_tunnel_result_e result);
static void ngx_http_connect_tunnel_check_client(ngx_http_request_t *r);
static ngx_int_t ngx_http_connect_tunnel_fail(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_tunnel_result_e result);
static void ngx_http_connect_tunnel_begin(ngx_http_request_t *r);
static void ngx_http_connect_tunnel_establish(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx);
static void ngx_http_connect_tunnel_flush(ngx_http_request_t *r);
static void ngx_http_connect_tunnel_relay(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx);
static void ngx_http_connect_tunnel_process(ngx_http_request_t *r);
static void ngx_http_connect_tunnel_ended(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);
static void ngx_http_connect_tunnel_close(void *data);
static void ngx_http_connect_tunnel_cleanup(void *data);


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


static ngx_conf_enum_t  ngx_http_connect_tunnel_versions[] = {
    { ngx_string("1.0"), NGX_HTTP_VERSION_10 },
    { ngx_string("1.1"), NGX_HTTP_VERSION_11 },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_connect_tunnel_prefer[] = {
    { ngx_string("any"), NGX_TUNNEL_PREFER_ANY },
    { ngx_string("ipv4"), NGX_TUNNEL_PREFER_IPV4 },
    { ngx_string("ipv6"), NGX_TUNNEL_PREFER_IPV6 },
    { ngx_null_string, 0 }
};


static ngx_conf_bitmask_t  ngx_http_connect_tunnel_next_masks[] = {
    { ngx_string("error"), NGX_TUNNEL_NEXT_ERROR },
    { ngx_string("timeout"), NGX_TUNNEL_NEXT_TIMEOUT },
    { ngx_string("off"), NGX_TUNNEL_NEXT_OFF },
    { ngx_null_string, 0 }
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

    { ngx_string("target_allow"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_tunnel_rules_pattern_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, rules.allow),
      NULL },

    { ngx_string("target_deny"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_tunnel_rules_pattern_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, rules.deny),
      NULL },

    { ngx_string("target_allow_address"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_tunnel_rules_address_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, rules.allow_address),
      NULL },

    { ngx_string("target_deny_address"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_tunnel_rules_address_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, rules.deny_address),
      NULL },

    { ngx_string("target_dry_run"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, rules.dry_run),
      NULL },

    { ngx_string("target_connect_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, connect.connect_timeout),
      NULL },

    { ngx_string("target_resolve_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, connect.resolve_timeout),
      NULL },

    { ngx_string("target_prefer"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, connect.prefer),
      &ngx_http_connect_tunnel_prefer },

    { ngx_string("target_bind"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_upstream_bind_set_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, local),
      NULL },

    { ngx_string("target_next_upstream"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_tunnel_conf_bitmask_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, connect.next_upstream),
      &ngx_http_connect_tunnel_next_masks },

    { ngx_string("target_next_upstream_tries"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, connect.next_tries),
      NULL },

    { ngx_string("target_next_upstream_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, connect.next_timeout),
      NULL },

    { ngx_string("relay_idle_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, policy.idle_timeout),
      NULL },

    { ngx_string("relay_buffer_size"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_tunnel_conf_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_connect_tunnel_loc_conf_t, policy.buffer_size),
      NULL },

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
    NULL,                                      /* init process */
    NULL,                                      /* init thread */
    NULL,                                      /* exit thread */
    NULL,                                      /* exit process */
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
    const char                     *err;
    ngx_pool_cleanup_t             *cln;
    ngx_tunnel_target_t            *target;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_connect_tunnel_ctx_t));
    target = ngx_palloc(r->pool, sizeof(ngx_tunnel_target_t));

    if (cln == NULL || target == NULL) {
        return NGX_ERROR;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_connect_tunnel_ctx_t));

    cln->handler = ngx_http_connect_tunnel_cleanup;

    ctx->request = r;
    ctx->authority = *authority;
    ctx->refuse = NGX_TUNNEL_NO_RESULT;
    ctx->result = NGX_TUNNEL_NO_RESULT;

    ngx_http_set_ctx(r, ctx, ngx_http_connect_tunnel_module);

    ngx_http_connect_tunnel_credentials(r);

    err = ngx_tunnel_target_parse(target, authority->data, authority->len);

    if (err) {
        ngx_str_null(&r->headers_in.server);

        ctx->failed.data = (u_char *) err;
        ctx->failed.len = ngx_strlen(err);
        ctx->refuse = NGX_TUNNEL_BAD_REQUEST;

        return NGX_OK;
    }

    ctx->target = target;

    r->headers_in.server = target->host;
    ngx_http_connect_tunnel_set_port(r, target->port);

    if (r->headers_in.content_length_n > 0 || r->headers_in.chunked) {
        ngx_str_set(&ctx->failed, "a body is not allowed");
        ctx->refuse = NGX_TUNNEL_BAD_REQUEST;
    }

#if (NGX_HTTP_SSL)

    if (r->connection->ssl && r->connection->ssl->in_early) {

        /* RFC 8470: might be a replay, and would open a connection */

        ngx_str_set(&ctx->failed, "CONNECT in early data");
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

    return ngx_http_connect_tunnel_fail(r, ctx, ctx->refuse);
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
        ngx_str_set(&ctx->failed, "the HTTP version is too low");

        ngx_http_finalize_request(r,
                 ngx_http_connect_tunnel_fail(r, ctx, NGX_TUNNEL_BAD_VERSION));
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

        return ngx_http_connect_tunnel_fail(r, ctx, NGX_TUNNEL_BAD_VERSION);
    }

    if (!ctlcf->enable && ctx->result != NGX_TUNNEL_NO_RESULT) {

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

    /* an attempt before this one has failed */

    ctx->connect = NULL;
    ngx_str_null(&ctx->failed);

    if (ctlcf->target) {
        rc = ngx_http_connect_tunnel_eval(r, ctx, &uscf);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    rc = ngx_http_connect_tunnel_check(r, ctx, uscf != NULL);

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_connect_tunnel_connect(r, ctx, uscf);
}


/* a target with variables is an upstream's name or host:port */

static ngx_int_t
ngx_http_connect_tunnel_eval(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_upstream_srv_conf_t **uscf)
{
    ngx_str_t                            value;
    const char                          *err;
    ngx_tunnel_target_t                 *target;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    if (ngx_http_complex_value(r, ctlcf->target, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (value.len == 0) {
        ngx_str_set(&ctx->failed, "empty \"connect_tunnel\" target");
        return ngx_http_connect_tunnel_fail(r, ctx, NGX_TUNNEL_DENIED_NAME);
    }

    *uscf = ngx_http_connect_tunnel_upstream(r, &value);

    if (*uscf) {
        return NGX_OK;
    }

    target = ngx_palloc(r->pool, sizeof(ngx_tunnel_target_t));
    if (target == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    err = ngx_tunnel_target_parse(target, value.data, value.len);

    if (err) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "invalid target \"%V\": %s", &value, err);

        ngx_str_set(&ctx->failed, "invalid \"connect_tunnel\" target");
        return ngx_http_connect_tunnel_fail(r, ctx, NGX_TUNNEL_INTERNAL);
    }

    ctx->target = target;

    return NGX_OK;
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
ngx_http_connect_tunnel_check(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_uint_t trusted)
{
    ngx_int_t                            rc;
    ngx_str_t                            what;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    rc = ngx_tunnel_rules_check_target(&ctlcf->rules, ctx->target, trusted,
                                       r->connection->log, &what);
    if (rc == NGX_OK) {
        return NGX_OK;
    }

    if (rc == NGX_DECLINED && ctlcf->rules.dry_run) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "target \"%V\" would be denied by \"%V\"",
                      &ctx->target->text, &what);
        return NGX_OK;
    }

    ctx->failed = what;

    return ngx_http_connect_tunnel_fail(r, ctx, NGX_TUNNEL_DENIED_NAME);
}


static ngx_int_t
ngx_http_connect_tunnel_connect(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_upstream_srv_conf_t *uscf)
{
    ngx_int_t                             rc;
    ngx_tunnel_connect_t                 *cn;
    ngx_http_core_loc_conf_t             *clcf;
    ngx_http_connect_tunnel_loc_conf_t   *ctlcf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_http_get_module_main_conf(r, ngx_http_connect_tunnel_module);
    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    cn = ngx_pcalloc(r->pool, sizeof(ngx_tunnel_connect_t));
    if (cn == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->connect = cn;

    cn->pool = r->pool;
    cn->log = r->connection->log;
    cn->conf = &ctlcf->connect;
    cn->rules = &ctlcf->rules;
    cn->own = ctmcf->own;
    cn->target = ctx->target;
    cn->handler = ngx_http_connect_tunnel_connected;
    cn->data = ctx;

    if (ngx_http_connect_tunnel_local(r, cn, ctlcf->local) != NGX_OK) {
        return ngx_http_connect_tunnel_fail(r, ctx, NGX_TUNNEL_INTERNAL);
    }

    if (uscf) {

        if (ngx_http_connect_tunnel_balancer(r, cn, uscf) != NGX_OK) {
            return ngx_http_connect_tunnel_fail(r, ctx, NGX_TUNNEL_INTERNAL);
        }

    } else if (clcf->resolver->connections.nelts) {
        cn->resolver = clcf->resolver;

    } else {
        cn->system = ctmcf->system;
        cn->resolver = ctmcf->system->resolver;
    }

    r->connection->log->action = "connecting to target";

    rc = ngx_tunnel_connect(cn);

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

    return ngx_http_connect_tunnel_fail(r, ctx, rc);
}


static ngx_int_t
ngx_http_connect_tunnel_balancer(ngx_http_request_t *r,
    ngx_tunnel_connect_t *cn, ngx_http_upstream_srv_conf_t *uscf)
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

    cn->balancer = &u->peer;
    cn->trusted = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_local(ngx_http_request_t *r, ngx_tunnel_connect_t *cn,
    ngx_http_upstream_local_t *local)
{
    ngx_str_t    value;
    ngx_addr_t  *addr;

    if (local == NULL) {
        return NGX_OK;
    }

#if (NGX_HAVE_TRANSPARENT_PROXY)
    cn->transparent = local->transparent;
#endif

    if (local->value == NULL) {
        cn->local = local->addr;
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, local->value, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        return NGX_OK;
    }

    addr = ngx_palloc(r->pool, sizeof(ngx_addr_t));
    if (addr == NULL) {
        return NGX_ERROR;
    }

    if (ngx_parse_addr_port(r->pool, addr, value.data, value.len) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "invalid local address \"%V\"", &value);
        return NGX_ERROR;
    }

    addr->name = value;
    cn->local = addr;

    return NGX_OK;
}


static void
ngx_http_connect_tunnel_connected(ngx_tunnel_connect_t *cn,
    ngx_tunnel_result_e result)
{
    ngx_connection_t               *c;
    ngx_http_request_t             *r;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = cn->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (result == NGX_TUNNEL_OK) {
        ngx_http_connect_tunnel_establish(r, ctx);

    } else {
        ngx_http_finalize_request(r,
                              ngx_http_connect_tunnel_fail(r, ctx, result));
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
    char                            buf[1];
    ssize_t                         n;
    ngx_err_t                       err;
    ngx_event_t                    *rev;
    ngx_connection_t               *c;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    c = r->connection;
    rev = c->read;

    n = recv(c->fd, buf, 1, MSG_PEEK);
    err = ngx_socket_errno;

    if (n == -1 && err != NGX_EAGAIN) {
        c->error = 1;

        ngx_log_error(NGX_LOG_INFO, c->log, err,
                      "client prematurely closed connection");

        ctx = ngx_http_connect_tunnel_get_ctx(r);
        ngx_tunnel_connect_cancel(ctx->connect);

        ngx_http_finalize_request(r, NGX_HTTP_CLIENT_CLOSED_REQUEST);
        return;
    }

    /* the bytes stay where they are until there is a tunnel */

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && rev->active) {

        if (ngx_del_event(rev, NGX_READ_EVENT, 0) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        }
    }
}


/* says why, once, and gives the status to answer with */

static ngx_int_t
ngx_http_connect_tunnel_fail(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_tunnel_result_e result)
{
    ngx_str_t                  *target, *what, failed;
    ngx_tunnel_connect_t       *cn;
    const ngx_tunnel_result_t  *res;

    ctx->result = result;
    res = ngx_tunnel_result(result);

    target = ctx->target ? &ctx->target->text : &ctx->authority;
    what = &ctx->failed;
    ngx_str_null(&failed);

    cn = ctx->connect;

    if (cn) {
        failed = cn->failed;
        what = &cn->what;
    }

    ngx_log_error(res->level, r->connection->log, cn ? cn->err : 0,
                  "tunnel to \"%V\" failed: %V%s%V%s%V",
                  target, &res->token, failed.len ? ", address " : "", &failed,
                  what->len ? ", " : "", what);

    return res->status;
}


static void
ngx_http_connect_tunnel_begin(ngx_http_request_t *r)
{
    ngx_http_connect_tunnel_establish(r, ngx_http_connect_tunnel_get_ctx(r));
}


static void
ngx_http_connect_tunnel_establish(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    ctx->result = NGX_TUNNEL_OK;
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

    ngx_http_connect_tunnel_relay(r, ngx_http_connect_tunnel_get_ctx(r));
}


static void
ngx_http_connect_tunnel_relay(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx)
{
    ngx_connection_t                     *c;
    ngx_http_cleanup_t                   *cln;
    ngx_tunnel_relay_t                   *relay;
    ngx_http_connect_tunnel_loc_conf_t   *ctlcf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    c = r->connection;

    ctmcf = ngx_http_get_module_main_conf(r, ngx_http_connect_tunnel_module);
    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    cln = ngx_http_cleanup_add(r, 0);
    relay = ngx_pcalloc(r->pool, sizeof(ngx_tunnel_relay_t));

    if (relay == NULL || cln == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    cln->handler = ngx_http_connect_tunnel_close;
    cln->data = ctx;

    relay->pool = r->pool;
    relay->log = c->log;
    relay->policy = &ctlcf->policy;
    relay->worker = &ctmcf->worker;
    relay->client.connection = c;
    relay->client.ops = &ngx_tunnel_end_socket;
    relay->client.pos = r->header_in->pos;
    relay->client.last = r->header_in->last;
    relay->target.connection = ctx->connect->connection;
    relay->target.ops = &ngx_tunnel_end_socket;
    relay->handler = ngx_http_connect_tunnel_ended;
    relay->data = ctx;

    ctx->relay = relay;
    ctx->connect->connection = NULL;

    r->header_in->pos = r->header_in->last;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    c->write->delayed = 0;

    ngx_http_connect_tunnel_intake_detach(c);

    r->read_event_handler = ngx_http_connect_tunnel_process;
    r->write_event_handler = ngx_http_connect_tunnel_process;

    ngx_tunnel_relay(relay);
}


static void
ngx_http_connect_tunnel_process(ngx_http_request_t *r)
{
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    ngx_tunnel_relay_process(ctx->relay);
}


static void
ngx_http_connect_tunnel_ended(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason)
{
    ngx_connection_t               *c;
    ngx_http_request_t             *r;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = relay->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (reason == NGX_TUNNEL_COMPLETED) {
        r->request_complete = 1;

    } else if (reason == NGX_TUNNEL_IDLE_TIMEOUT) {
        c->timedout = 1;
    }

    ngx_http_finalize_request(r, NGX_ERROR);
    ngx_http_run_posted_requests(c);
}


/* a request ends here, whatever ended it, before it is logged */

static void
ngx_http_connect_tunnel_close(void *data)
{
    ngx_http_connect_tunnel_ctx_t  *ctx = data;

    ngx_tunnel_relay_t  *relay;

    relay = ctx->relay;

    ngx_tunnel_relay_abort(relay, NGX_TUNNEL_SHUTDOWN);

    ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                  "tunnel to \"%V\" at %V ended: %V, "
                  "received: %O, sent: %O",
                  &ctx->target->text, &ctx->connect->address,
                  ngx_tunnel_reason(relay->reason), relay->client.received,
                  relay->client.sent);
}


static void
ngx_http_connect_tunnel_cleanup(void *data)
{
    ngx_http_connect_tunnel_ctx_t  *ctx = data;

    if (ctx->connect && ctx->connect->connection) {
        ngx_close_connection(ctx->connect->connection);
        ctx->connect->connection = NULL;
    }
}


static void *
ngx_http_connect_tunnel_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    ctmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_connect_tunnel_main_conf_t));
    if (ctmcf == NULL) {
        return NULL;
    }

    if (ngx_tunnel_worker_init(&ctmcf->worker, cf->pool) != NGX_OK) {
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

    ngx_tunnel_rules_create(&ctlcf->rules);
    ngx_tunnel_connect_conf_create(&ctlcf->connect);
    ngx_tunnel_policy_create(&ctlcf->policy);

    ctlcf->local = NGX_CONF_UNSET_PTR;
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
    ngx_http_connect_tunnel_loc_conf_t   *p;
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

    ngx_tunnel_rules_merge(&conf->rules, &prev->rules);
    ngx_tunnel_connect_conf_merge(&conf->connect, &prev->connect);

    if (ngx_tunnel_policy_merge(cf, &conf->policy, &prev->policy)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_ptr_value(conf->local, prev->local, NULL);
    ngx_conf_merge_uint_value(conf->min_version, prev->min_version,
                              NGX_HTTP_VERSION_10);
    ngx_conf_merge_value(conf->anonymous, prev->anonymous, 0);

    if (conf->proxy_status.data == NULL) {
        conf->proxy_status = prev->proxy_status;
    }

    if (conf->proxy_status.data == NULL) {
        ngx_str_set(&conf->proxy_status, "nginx");
    }

    if (!conf->enable) {
        return NGX_CONF_OK;
    }

    ctmcf->worker.size = ngx_max(ctmcf->worker.size, conf->policy.buffer_size);

    if (conf->upstream == NULL
        && clcf->resolver->connections.nelts == 0
        && ctmcf->system == NULL)
    {

        ctmcf->system = ngx_tunnel_system_create(cf);
        if (ctmcf->system == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_connect_tunnel(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_connect_tunnel_loc_conf_t *ctlcf = conf;

    ngx_str_t                            *value;
    ngx_url_t                             u;
    ngx_http_compile_complex_value_t      ccv;
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

        ctlcf->target = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
        if (ctlcf->target == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &value[1];
        ccv.complex_value = ctlcf->target;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
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

    ctmcf->own = ngx_tunnel_rules_own_addresses(cycle, cycle->pool);
    if (ctmcf->own == NULL) {
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
