
/*
 * Lines of the access log for tunnels that go on.
 */


#include "ngx_http_connect_tunnel_module.h"


/* a line and its variables; what there is more of is allocated */

#define NGX_HTTP_TUNNEL_LOG_POOL  2048


static void ngx_http_connect_tunnel_log_prepare(ngx_http_request_t *r);


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

    /* the log module comes next to the core, before all others */

    handlers = &cmcf->phases[NGX_HTTP_LOG_PHASE].handlers;

    if (handlers->nelts) {
        h = handlers->elts;
        ctmcf->log = h[0];
    }
}


/*
 * A line must not add to the request's pool, for there is no end to them, nor
 * may it leave behind what was evaluated for it: the next one is to see how
 * things are then.
 */

void
ngx_http_connect_tunnel_log(ngx_tunnel_session_t *s)
{
    void                                **ctx;
    size_t                                nctx, nvar;
    ngx_pool_t                           *pool;
    ngx_http_request_t                   *r, saved;
    ngx_http_variable_value_t            *variables;
    ngx_http_core_main_conf_t            *cmcf;
    ngx_http_connect_tunnel_main_conf_t  *ctmcf;
#if (NGX_PCRE)
    int                                  *captures;
    size_t                                ncaptures;
#endif

    r = s->data;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ctmcf = ngx_http_get_module_main_conf(r, ngx_http_connect_tunnel_module);

    if (ctmcf->log == NULL) {
        return;
    }

    pool = ngx_create_pool(NGX_HTTP_TUNNEL_LOG_POOL, s->log);
    if (pool == NULL) {
        return;
    }

    nctx = ngx_http_max_module * sizeof(void *);
    nvar = cmcf->variables.nelts * sizeof(ngx_http_variable_value_t);

    ctx = ngx_palloc(pool, nctx);
    variables = ngx_palloc(pool, nvar);

    if (ctx == NULL || variables == NULL) {
        ngx_destroy_pool(pool);
        return;
    }

    ngx_http_set_log_request(r->connection->log, r);

    ngx_http_connect_tunnel_log_prepare(r);

    ngx_memcpy(ctx, r->ctx, nctx);
    ngx_memcpy(variables, r->variables, nvar);
    saved = *r;

#if (NGX_PCRE)
    ncaptures = cmcf->ncaptures * sizeof(int);
    captures = r->captures ? ngx_palloc(pool, ncaptures) : NULL;

    if (captures) {
        ngx_memcpy(captures, r->captures, ncaptures);
    }
#endif

    s->pool = pool;
    r->pool = pool;

    (void) ctmcf->log(r);

    r->pool = saved.pool;
    s->pool = saved.pool;

#if (NGX_PCRE)
    r->realloc_captures = saved.realloc_captures;
    r->ncaptures = saved.ncaptures;
    r->captures = saved.captures;
    r->captures_data = saved.captures_data;

    if (captures) {
        ngx_memcpy(r->captures, captures, ncaptures);
    }
#endif

    ngx_memcpy(r->variables, variables, nvar);
    ngx_memcpy(r->ctx, ctx, nctx);

    ngx_destroy_pool(pool);
}


/* what all lines are to have in common, once */

static void
ngx_http_connect_tunnel_log_prepare(ngx_http_request_t *r)
{
    ngx_uint_t                      i;
    ngx_http_variable_t            *v;
    ngx_http_core_main_conf_t      *cmcf;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    if (ctx->logged) {
        return;
    }

    ctx->logged = 1;

    ngx_http_connect_tunnel_forget(r);

    /* a random number, each time that it is evaluated */

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {

        if (v[i].name.len == sizeof("request_id") - 1
            && ngx_strncmp(v[i].name.data, "request_id", v[i].name.len) == 0)
        {
            (void) ngx_http_get_indexed_variable(r, i);
        }
    }
}
