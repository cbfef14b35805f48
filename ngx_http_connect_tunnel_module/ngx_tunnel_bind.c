
/*
 * Bind: the local address of connections to targets.
 */


#include "ngx_tunnel_connect.h"


char *
ngx_tunnel_bind_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_int_t             rc;
    ngx_str_t            *value;
    ngx_tunnel_bind_t   **bindp, *bind;
    ngx_tunnel_layer_t   *layer;
#if (NGX_HAVE_TRANSPARENT_PROXY)
    ngx_core_conf_t      *ccf;
#endif

    bindp = (ngx_tunnel_bind_t **) (p + cmd->offset);

    if (*bindp != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        *bindp = NULL;
        return NGX_CONF_OK;
    }

    bind = ngx_pcalloc(cf->pool, sizeof(ngx_tunnel_bind_t));
    if (bind == NULL) {
        return NGX_CONF_ERROR;
    }

    *bindp = bind;

    if (ngx_strlchr(value[1].data, value[1].data + value[1].len, '$')) {
        layer = cmd->post;

        bind->compiled = layer->compile(cf, &value[1]);
        if (bind->compiled == NULL) {
            return NGX_CONF_ERROR;
        }

    } else {
        bind->addr = ngx_palloc(cf->pool, sizeof(ngx_addr_t));
        if (bind->addr == NULL) {
            return NGX_CONF_ERROR;
        }

        rc = ngx_parse_addr_port(cf->pool, bind->addr, value[1].data,
                                 value[1].len);

        if (rc == NGX_DECLINED) {
            return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                           cf->args->nelts == 2
                                           ? "\"off\" or an address"
                                           : "an address");
        }

        if (rc != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        bind->addr->name = value[1];
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[2].data, "transparent") != 0) {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[2], "\"transparent\"");
    }

#if (NGX_HAVE_TRANSPARENT_PROXY)

    bind->transparent = 1;

    /* the workers keep the right to do this */

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);
    ccf->transparent = 1;

    return NGX_CONF_OK;

#else

    return "transparent proxying is not supported on this platform, ignored";

#endif
}


ngx_int_t
ngx_tunnel_bind_eval(ngx_tunnel_bind_t *bind, const ngx_tunnel_layer_t *layer,
    void *data, ngx_pool_t *pool, ngx_log_t *log, ngx_addr_t **addr)
{
    ngx_str_t  value;

    *addr = bind->addr;

    if (bind->compiled == NULL) {
        return NGX_OK;
    }

    if (layer->eval(data, bind->compiled, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        return NGX_OK;
    }

    *addr = ngx_palloc(pool, sizeof(ngx_addr_t));
    if (*addr == NULL) {
        return NGX_ERROR;
    }

    if (ngx_parse_addr_port(pool, *addr, value.data, value.len) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "invalid local address \"%V\"",
                      &value);
        return NGX_ERROR;
    }

    (*addr)->name = value;

    return NGX_OK;
}
