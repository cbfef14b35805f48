
/*
 * Lines of the access log for tunnels that go on.
 */


#include "ngx_http_connect_tunnel_module.h"


/* a line and its variables; what there is more of is allocated */

#define NGX_HTTP_TUNNEL_LOG_POOL  2048


void
ngx_http_connect_tunnel_log_init(ngx_conf_t *cf)
{
    ngx_array_t                          *handlers;
    ngx_http_handler_pt                  *h;
    ngx_http_core_main_conf_t            *cmcf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    ctmcf = ngx_http_conf_get_module_main_conf(cf,
                                               ngx_http_connect_tunnel_module);

    /* the core's, and the log module comes next to it, before all others */

    handlers = &cmcf->phases[NGX_HTTP_LOG_PHASE].handlers;

    if (handlers->nelts) {
        h = handlers->elts;
        ctmcf->log = h[0];
    }
}


/*
 * The first line leaves in the request's pool what is cached of variables;
 * those after it must not add to that for as long as the tunnel goes on.
 */

void
ngx_http_connect_tunnel_log(ngx_tunnel_session_t *s)
{
    size_t                                size;
    ngx_pool_t                           *pool, *saved;
    ngx_http_request_t                   *r;
    ngx_http_variable_value_t            *variables;
    ngx_http_core_main_conf_t            *cmcf;
    ngx_http_connect_tunnel_ctx_t        *ctx;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;

    r = s->data;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ctmcf = ngx_http_get_module_main_conf(r, ngx_http_connect_tunnel_module);

    if (ctmcf->log == NULL) {
        return;
    }

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    ngx_http_set_log_request(r->connection->log, r);

    if (!ctx->logged) {
        ctx->logged = 1;

        ngx_http_connect_tunnel_forget(r);
        (void) ctmcf->log(r);

        return;
    }

    pool = ngx_create_pool(NGX_HTTP_TUNNEL_LOG_POOL, s->log);
    if (pool == NULL) {
        return;
    }

    size = cmcf->variables.nelts * sizeof(ngx_http_variable_value_t);

    variables = ngx_palloc(pool, size);

    if (variables) {
        ngx_memcpy(variables, r->variables, size);

        saved = r->pool;
        s->pool = pool;
        r->pool = pool;

        (void) ctmcf->log(r);

        r->pool = saved;
        s->pool = saved;

        ngx_memcpy(r->variables, variables, size);
    }

    ngx_destroy_pool(pool);
}
