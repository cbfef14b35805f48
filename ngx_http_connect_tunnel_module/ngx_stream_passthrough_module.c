
/*
 * Passthrough: bytes go to a target of the configuration as they are, or the
 * client is refused.
 */


#include "ngx_stream_connect_tunnel_module.h"
#include "ngx_tunnel_sniff.h"


/* how a client is refused */

typedef enum {
    ngx_stream_passthrough_none = 0,             /* it is not */
    ngx_stream_passthrough_close,
    ngx_stream_passthrough_reset,
    ngx_stream_passthrough_alert                 /* if it speaks TLS */
} ngx_stream_passthrough_reject_e;


typedef struct {
    ngx_str_t                        name;      /* as it is configured */
    void                            *compiled;  /* with variables, or NULL */
    ngx_stream_upstream_srv_conf_t  *upstream;  /* without */
    ngx_tunnel_target_t             *target;    /* without, unless it is no
                                                   host and port */
    ngx_stream_passthrough_reject_e  reject;
} ngx_stream_passthrough_srv_conf_t;


static void ngx_stream_passthrough_handler(ngx_stream_session_t *s);
static ngx_tunnel_result_e ngx_stream_passthrough_eval(
    ngx_stream_session_t *s, ngx_tunnel_session_t *ts,
    ngx_stream_upstream_srv_conf_t **uscf,
    ngx_stream_passthrough_reject_e *reject);
static ngx_stream_passthrough_reject_e ngx_stream_passthrough_rejects(
    ngx_str_t *value);
static ngx_stream_passthrough_reject_e ngx_stream_passthrough_mode(
    u_char *data, size_t len);
static void ngx_stream_passthrough_refuse(ngx_stream_session_t *s,
    ngx_tunnel_result_e result, ngx_stream_passthrough_reject_e reject);
static void ngx_stream_passthrough_connected(ngx_stream_session_t *s,
    ngx_tunnel_result_e result);
static void *ngx_stream_passthrough_create_srv_conf(ngx_conf_t *cf);
static char *ngx_stream_passthrough_merge_srv_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_stream_passthrough(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static ngx_command_t  ngx_stream_passthrough_commands[] = {

    { ngx_string("passthrough"),
      NGX_STREAM_SRV_CONF|NGX_CONF_TAKE12,
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
    ngx_str_t                          *sni;
    ngx_tunnel_result_e                 result;
    ngx_tunnel_session_t               *ts;
    ngx_stream_upstream_srv_conf_t     *uscf;
    ngx_stream_passthrough_reject_e     reject;
    ngx_stream_passthrough_srv_conf_t  *pscf;

    ts = ngx_stream_connect_tunnel_create(s, ngx_stream_passthrough_connected);
    if (ts == NULL) {
        ngx_stream_finalize_session(s, NGX_STREAM_INTERNAL_SERVER_ERROR);
        return;
    }

    pscf = ngx_stream_get_module_srv_conf(s, ngx_stream_passthrough_module);

    sni = ngx_stream_tunnel_preread_sni(s);

    if (sni) {
        ts->sni = *sni;
    }

    ts->asked = pscf->name;
    ts->target = pscf->target;
    uscf = pscf->upstream;

    reject = pscf->reject;
    result = reject ? NGX_TUNNEL_REJECTED : NGX_TUNNEL_OK;

    if (pscf->compiled) {
        result = ngx_stream_passthrough_eval(s, ts, &uscf, &reject);
    }

    if (result != NGX_TUNNEL_OK) {

        if (reject) {
            ts->asked = ts->sni;
        }

        ngx_tunnel_session_fail(ts, result);
        ngx_stream_passthrough_refuse(s, result, reject);
        return;
    }

    ngx_stream_connect_tunnel_open(s, uscf);
}


/*
 * A target with variables is an upstream's name, a UNIX-domain socket, or
 * host:port.  Only the first one is sure to be of the configuration.
 */

static ngx_tunnel_result_e
ngx_stream_passthrough_eval(ngx_stream_session_t *s, ngx_tunnel_session_t *ts,
    ngx_stream_upstream_srv_conf_t **uscf,
    ngx_stream_passthrough_reject_e *reject)
{
    ngx_str_t                           value;
    const char                         *err;
    ngx_tunnel_target_t                 target;
    ngx_stream_passthrough_srv_conf_t  *pscf;

    pscf = ngx_stream_get_module_srv_conf(s, ngx_stream_passthrough_module);

    if (ngx_stream_complex_value(s, pscf->compiled, &value) != NGX_OK) {
        return NGX_TUNNEL_INTERNAL;
    }

    ts->asked = value;

    *reject = ngx_stream_passthrough_rejects(&value);

    if (*reject) {
        return NGX_TUNNEL_REJECTED;
    }

    *uscf = ngx_stream_connect_tunnel_upstream(s, &value);

    if (*uscf) {
        return NGX_TUNNEL_OK;
    }

    if (value.len > 5 && ngx_strncmp(value.data, "unix:", 5) == 0) {
        return ngx_stream_connect_tunnel_unix(s, &value);
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


/* a target without a host has a variable that was empty */

static ngx_stream_passthrough_reject_e
ngx_stream_passthrough_rejects(ngx_str_t *value)
{
    if (value->len == 0 || value->data[0] == ':') {
        return ngx_stream_passthrough_alert;
    }

    if (value->len < 6 || ngx_strncmp(value->data, "reject", 6) != 0) {
        return ngx_stream_passthrough_none;
    }

    if (value->len == 6) {
        return ngx_stream_passthrough_alert;
    }

    if (value->data[6] != ' ') {
        return ngx_stream_passthrough_none;
    }

    return ngx_stream_passthrough_mode(value->data + 7, value->len - 7);
}


static ngx_stream_passthrough_reject_e
ngx_stream_passthrough_mode(u_char *data, size_t len)
{
    if (len == 5 && ngx_strncmp(data, "close", 5) == 0) {
        return ngx_stream_passthrough_close;
    }

    if (len == 5 && ngx_strncmp(data, "reset", 5) == 0) {
        return ngx_stream_passthrough_reset;
    }

    if (len == 9 && ngx_strncmp(data, "tls_alert", 9) == 0) {
        return ngx_stream_passthrough_alert;
    }

    return ngx_stream_passthrough_none;
}


static void
ngx_stream_passthrough_connected(ngx_stream_session_t *s,
    ngx_tunnel_result_e result)
{
    if (result == NGX_TUNNEL_OK) {
        ngx_stream_connect_tunnel_relay(s);

    } else {
        ngx_stream_passthrough_refuse(s, result, ngx_stream_passthrough_none);
    }
}


/* a client of TLS is told why, any other one sees no more than an end */

static void
ngx_stream_passthrough_refuse(ngx_stream_session_t *s,
    ngx_tunnel_result_e result, ngx_stream_passthrough_reject_e reject)
{
    u_char             alert[NGX_TUNNEL_ALERT_LEN];
    ngx_uint_t         status, tls;
    ngx_tunnel_end_t   e;
    ngx_connection_t  *c;

    c = s->connection;
    status = ngx_tunnel_result(result)->status;

    tls = (ngx_stream_tunnel_preread_sni(s) != NULL);

    if (c->type != SOCK_STREAM) {

        /* the socket is the one that listens */

        reject = ngx_stream_passthrough_none;

    } else if (reject == ngx_stream_passthrough_none && tls) {
        reject = ngx_stream_passthrough_alert;
    }

    switch (reject) {

    case ngx_stream_passthrough_none:
        ngx_stream_connect_tunnel_finalize(s, status);
        return;

    case ngx_stream_passthrough_reset:
        e.connection = c;
        ngx_tunnel_end_socket.reset(&e);
        ngx_stream_connect_tunnel_finalize(s, status);
        return;

    case ngx_stream_passthrough_alert:

        if (tls) {
            (void) c->send(c, ngx_tunnel_alert(alert, (status == 403)
                                              ? NGX_TUNNEL_UNRECOGNIZED_NAME
                                              : NGX_TUNNEL_INTERNAL_ERROR),
                           NGX_TUNNEL_ALERT_LEN);
        }

        break;

    case ngx_stream_passthrough_close:
        break;
    }

    ngx_stream_connect_tunnel_linger(s, status);
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

    if (value[1].len == 6 && ngx_strncmp(value[1].data, "reject", 6) == 0) {

        pscf->reject = (cf->args->nelts == 2)
                       ? ngx_stream_passthrough_alert
                       : ngx_stream_passthrough_mode(value[2].data,
                                                     value[2].len);

        if (pscf->reject == ngx_stream_passthrough_none) {
            return ngx_tunnel_conf_invalid(cf, cmd, &value[2],
                                           "\"close\", \"reset\", or "
                                           "\"tls_alert\"");
        }

        return ngx_stream_connect_tunnel_enable(cf,
                                            ngx_stream_passthrough_handler,
                                            NGX_TUNNEL_PASSTHROUGH_FRONT, 0);
    }

    if (cf->args->nelts == 3) {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[2],
                                       "left out behind a target");
    }

    variables = (ngx_strlchr(value[1].data, value[1].data + value[1].len, '$')
                 != NULL);

    rv = ngx_stream_connect_tunnel_enable(cf, ngx_stream_passthrough_handler,
                                          NGX_TUNNEL_PASSTHROUGH_FRONT,
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
