
/*
 * Variables of a tunnel.  All are not found where a request is no CONNECT.
 */


#include "ngx_http_connect_tunnel_module.h"


typedef enum {
    ngx_http_tunnel_var_target = 0,
    ngx_http_tunnel_var_host,
    ngx_http_tunnel_var_port,
    ngx_http_tunnel_var_address,
    ngx_http_tunnel_var_result,
    ngx_http_tunnel_var_reason,
    ngx_http_tunnel_var_bytes_sent,
    ngx_http_tunnel_var_bytes_received,
    ngx_http_tunnel_var_resolve_time,
    ngx_http_tunnel_var_connect_time,
    ngx_http_tunnel_var_first_byte_time,
    ngx_http_tunnel_var_time
} ngx_http_tunnel_var_e;


static ngx_int_t ngx_http_connect_tunnel_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_connect_tunnel_variable_str(
    ngx_http_variable_value_t *v, const ngx_str_t *s);
static ngx_int_t ngx_http_connect_tunnel_variable_off(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, off_t n);
static ngx_int_t ngx_http_connect_tunnel_variable_msec(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, ngx_msec_t ms);
static ngx_int_t ngx_http_connect_tunnel_relay_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, ngx_tunnel_relay_t *relay, uintptr_t data);


static ngx_http_variable_t  ngx_http_connect_tunnel_vars[] = {

    { ngx_string("tunnel_target"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_target, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_host"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_host, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_port"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_port, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_address"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_address, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_result"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_result, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_reason"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_reason, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_bytes_sent"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_bytes_sent, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_bytes_received"), NULL,
      ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_bytes_received, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_resolve_time"), NULL,
      ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_resolve_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_connect_time"), NULL,
      ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_connect_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_first_byte_time"), NULL,
      ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_first_byte_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("tunnel_time"), NULL, ngx_http_connect_tunnel_variable,
      ngx_http_tunnel_var_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_connect_tunnel_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_connect_tunnel_vars; v->name.len; v++) {

        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_tunnel_target_t            *target;
    ngx_tunnel_connect_t           *cn;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    v->not_found = 1;

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    if (ctx == NULL) {
        return NGX_OK;
    }

    target = ctx->target;
    cn = ctx->connect;

    switch (data) {

    case ngx_http_tunnel_var_target:
        return target ? ngx_http_connect_tunnel_variable_str(v, &target->text)
                      : NGX_OK;

    case ngx_http_tunnel_var_host:
        return target ? ngx_http_connect_tunnel_variable_str(v, &target->host)
                      : NGX_OK;

    case ngx_http_tunnel_var_port:
        return target ? ngx_http_connect_tunnel_variable_off(r, v,
                                                             target->port)
                      : NGX_OK;

    case ngx_http_tunnel_var_result:
        return ngx_http_connect_tunnel_variable_str(v,
                                      &ngx_tunnel_result(ctx->result)->token);

    case ngx_http_tunnel_var_address:
        return cn ? ngx_http_connect_tunnel_variable_str(v, &cn->address)
                  : NGX_OK;

    case ngx_http_tunnel_var_resolve_time:
        return cn ? ngx_http_connect_tunnel_variable_msec(r, v,
                                                          cn->resolve_time)
                  : NGX_OK;

    case ngx_http_tunnel_var_connect_time:
        return cn ? ngx_http_connect_tunnel_variable_msec(r, v,
                                                          cn->connect_time)
                  : NGX_OK;
    }

    if (ctx->relay) {
        return ngx_http_connect_tunnel_relay_variable(r, v, ctx->relay, data);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_relay_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, ngx_tunnel_relay_t *relay, uintptr_t data)
{
    ngx_msec_t  end;

    switch (data) {

    case ngx_http_tunnel_var_reason:
        return ngx_http_connect_tunnel_variable_str(v,
                                            ngx_tunnel_reason(relay->reason));

    case ngx_http_tunnel_var_bytes_sent:
        return ngx_http_connect_tunnel_variable_off(r, v, relay->client.sent);

    case ngx_http_tunnel_var_bytes_received:
        return ngx_http_connect_tunnel_variable_off(r, v,
                                                    relay->client.received);

    case ngx_http_tunnel_var_first_byte_time:
        return relay->first_byte
               ? ngx_http_connect_tunnel_variable_msec(r, v,
                                             relay->first_byte - relay->start)
               : NGX_OK;

    default: /* ngx_http_tunnel_var_time */
        end = relay->done ? relay->end : ngx_current_msec;
        return ngx_http_connect_tunnel_variable_msec(r, v,
                                                     end - relay->start);
    }
}


static ngx_int_t
ngx_http_connect_tunnel_variable_str(ngx_http_variable_value_t *v,
    const ngx_str_t *s)
{
    if (s->len == 0) {
        return NGX_OK;
    }

    v->len = s->len;
    v->data = s->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_variable_off(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, off_t n)
{
    ngx_str_t  s;

    s.data = ngx_pnalloc(r->pool, NGX_OFF_T_LEN);
    if (s.data == NULL) {
        return NGX_ERROR;
    }

    s.len = ngx_sprintf(s.data, "%O", n) - s.data;

    return ngx_http_connect_tunnel_variable_str(v, &s);
}


/* seconds with milliseconds; -1 was not measured */

static ngx_int_t
ngx_http_connect_tunnel_variable_msec(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, ngx_msec_t ms)
{
    ngx_str_t  s;

    if (ms == (ngx_msec_t) -1) {
        return NGX_OK;
    }

    s.data = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (s.data == NULL) {
        return NGX_ERROR;
    }

    s.len = ngx_sprintf(s.data, "%T.%03M", (time_t) ms / 1000, ms % 1000)
            - s.data;

    return ngx_http_connect_tunnel_variable_str(v, &s);
}
