
/*
 * What fuzz targets share, and stubs for what nginx's files link with.
 */


#include "fuzz.h"

#include <sanitizer/asan_interface.h>


void
fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}


u_char *
fuzz_copy(const void *data, size_t len)
{
    u_char  *p;

    p = malloc(len);
    if (p == NULL) {
        abort();
    }

    /* malloc() has one byte for those who want none */

    if (len == 0) {
        ASAN_POISON_MEMORY_REGION(p, 1);
        return p;
    }

    return memcpy(p, data, len);
}


/*
 * stubs: linked with, and not called; parsers do not allocate, and a target of
 * one that does has its own ngx_alloc()
 */


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
