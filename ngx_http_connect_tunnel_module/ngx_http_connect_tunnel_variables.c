
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
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    return ngx_tunnel_session_variable(ctx ? &ctx->session : NULL, data, v);
}
