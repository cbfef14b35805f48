
/*
 * Stubs for what nginx's files link with.  They are not called: parsers do not
 * allocate, and a target of one that does has its own ngx_alloc().
 */


#include "fuzz.h"


volatile ngx_cycle_t  *ngx_cycle;


__attribute__((weak)) void *
ngx_alloc(size_t size, ngx_log_t *log)
{
    abort();
}


void *
ngx_palloc(ngx_pool_t *pool, size_t size)
{
    abort();
}


void *
ngx_pnalloc(ngx_pool_t *pool, size_t size)
{
    abort();
}
