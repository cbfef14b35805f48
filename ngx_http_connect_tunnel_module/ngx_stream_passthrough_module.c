
/*
 * Passthrough: bytes go to a target of the configuration as they are.
 */


#include "ngx_stream_connect_tunnel_module.h"


typedef struct {
    ngx_str_t                        name;      /* as it is configured */
    void                            *compiled;  /* with variables, or NULL */
    ngx_stream_upstream_srv_conf_t  *upstream;  /* without */
    ngx_tunnel_target_t             *target;    /* without, unless it is no
                                                   host and port */
} ngx_stream_passthrough_srv_conf_t;


static void ngx_stream_passthrough_handler(ngx_stream_session_t *s);
static ngx_tunnel_result_e ngx_stream_passthrough_eval(
    ngx_stream_session_t *s, ngx_tunnel_session_t *ts,
    ngx_stream_upstream_srv_conf_t **uscf);
static void ngx_stream_passthrough_connected(ngx_stream_session_t *s,
    ngx_tunnel_result_e result);
static void *ngx_stream_passthrough_create_srv_conf(ngx_conf_t *cf);
static char *ngx_stream_passthrough_merge_srv_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_stream_passthrough(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static ngx_command_t  ngx_stream_passthrough_commands[] = {

    { ngx_string("passthrough"),
      NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_stream_passthrough,
      NGX_STREAM_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_stream_module_t  ngx_stream_passthrough_module_ctx = {
    NULL,                                   /* preconfiguration */
    NULL,                                   /* postconfiguration */

    NULL,                                   /* create main configuration */
    NULL,                                   /* init main configuration */

    ngx_stream_passthrough_create_srv_conf, /* create server configuration */
    ngx_stream_passthrough_merge_srv_conf   /* merge server configuration */
};


ngx_module_t  ngx_stream_passthrough_module = {
    NGX_MODULE_V1,
    &ngx_stream_passthrough_module_ctx,     /* module context */
    ngx_stream_passthrough_commands,        /* module directives */
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


static void
ngx_stream_passthrough_handler(ngx_stream_session_t *s)
{
    ngx_tunnel_result_e                 result;
    ngx_tunnel_session_t               *ts;
    ngx_stream_upstream_srv_conf_t     *uscf;
    ngx_stream_passthrough_srv_conf_t  *pscf;

    ts = ngx_stream_connect_tunnel_create(s, ngx_stream_passthrough_connected);
    if (ts == NULL) {
        ngx_stream_finalize_session(s, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    pscf = ngx_stream_get_module_srv_conf(s, ngx_stream_passthrough_module);

    ts->asked = pscf->name;
    ts->target = pscf->target;
    uscf = pscf->upstream;

    if (pscf->compiled) {
        result = ngx_stream_passthrough_eval(s, ts, &uscf);

        if (result != NGX_TUNNEL_OK) {
            ngx_tunnel_session_fail(ts, result);
            ngx_stream_connect_tunnel_finalize(s,
                                           ngx_tunnel_result(result)->status);
            return;
        }
    }

    ngx_stream_connect_tunnel_open(s, uscf);
}


/* a target with variables is an upstream's name or host:port */

static ngx_tunnel_result_e
ngx_stream_passthrough_eval(ngx_stream_session_t *s, ngx_tunnel_session_t *ts,
    ngx_stream_upstream_srv_conf_t **uscf)
{
    ngx_str_t                           value;
    const char                         *err;
    ngx_tunnel_target_t                 target;
    ngx_stream_passthrough_srv_conf_t  *pscf;

    pscf = ngx_stream_get_module_srv_conf(s, ngx_stream_passthrough_module);

    if (ngx_stream_complex_value(s, pscf->compiled, &value) != NGX_OK) {
        return NGX_TUNNEL_INTERNAL;
    }

    if (value.len == 0) {
        ngx_str_set(&ts->what, "empty \"passthrough\" target");
        return NGX_TUNNEL_DENIED_NAME;
    }

    ts->asked = value;

    *uscf = ngx_stream_connect_tunnel_upstream(s, &value);

    if (*uscf) {
        return NGX_TUNNEL_OK;
    }

    err = ngx_tunnel_target_parse(&target, value.data, value.len);

    if (err) {
        ts->what.data = (u_char *) err;
        ts->what.len = ngx_strlen(err);

        return NGX_TUNNEL_BAD_REQUEST;
    }

    ts->target = ngx_tunnel_target_copy(ts->pool, &target);

    return ts->target ? NGX_TUNNEL_OK : NGX_TUNNEL_INTERNAL;
}


static void
ngx_stream_passthrough_connected(ngx_stream_session_t *s,
    ngx_tunnel_result_e result)
{
    if (result == NGX_TUNNEL_OK) {
        ngx_stream_connect_tunnel_relay(s);

    } else {
        ngx_stream_connect_tunnel_finalize(s,
                                           ngx_tunnel_result(result)->status);
    }
}


static void *
ngx_stream_passthrough_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_stream_passthrough_srv_conf_t));
}


static char *
ngx_stream_passthrough_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_stream_passthrough_srv_conf_t *conf = child;

    if (conf->name.len
        && ngx_stream_connect_tunnel_check_handler(cf, "passthrough",
                                               ngx_stream_passthrough_handler)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_stream_passthrough(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_stream_passthrough_srv_conf_t *pscf = conf;

    char                 *rv;
    ngx_str_t            *value;
    ngx_url_t             u;
    ngx_uint_t            variables;
    ngx_tunnel_target_t  *target;

    if (pscf->name.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty target";
    }

    pscf->name = value[1];

    variables = (ngx_strlchr(value[1].data, value[1].data + value[1].len, '$')
                 != NULL);

    rv = ngx_stream_connect_tunnel_enable(cf, ngx_stream_passthrough_handler,
                                          variables);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (variables) {
        pscf->compiled = ngx_stream_connect_tunnel_layer.compile(cf,
                                                                 &value[1]);

        return pscf->compiled ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    target = ngx_palloc(cf->pool, sizeof(ngx_tunnel_target_t));
    if (target == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_tunnel_target_parse(target, value[1].data, value[1].len) == NULL)
    {
        pscf->target = target;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = value[1];
    u.no_resolve = 1;

    pscf->upstream = ngx_stream_upstream_add(cf, &u, 0);

    return pscf->upstream ? NGX_CONF_OK : NGX_CONF_ERROR;
}
