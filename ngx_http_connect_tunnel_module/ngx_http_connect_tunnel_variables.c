
/*
 * Variables of a tunnel.  All are not found where a request is no CONNECT.
 */


#include "ngx_http_connect_tunnel_module.h"


static ngx_int_t ngx_http_connect_tunnel_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


ngx_int_t
ngx_http_connect_tunnel_add_variables(ngx_conf_t *cf)
{
    ngx_str_t                     name;
    ngx_http_variable_t          *var;
    const ngx_tunnel_variable_t  *v;

    for (v = ngx_tunnel_variables; v->name.len; v++) {

        name = v->name;

        var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = ngx_http_connect_tunnel_variable;
        var->data = v->id;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_int_t                       rc;
    ngx_str_t                       value;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    rc = ctx ? ngx_tunnel_session_variable(&ctx->session, data, r->pool,
                                           &value)
             : NGX_DECLINED;

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->len = value.len;
    v->data = value.data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}
