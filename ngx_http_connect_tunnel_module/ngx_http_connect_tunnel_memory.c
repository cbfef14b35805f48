
/*
 * Memory: what a request has, and a tunnel, which may be idle for long, needs
 * not.
 *
 * nginx makes room for twenty header fields of a request, and for as many of
 * its response.  A CONNECT has few, so the room that is left becomes a block
 * of the request's pool, which then does not need another page.
 */


#include "ngx_http_connect_tunnel_module.h"


/* header fields that may be added to a list before it needs a new part */

#define NGX_HTTP_TUNNEL_FIELDS  4

/* what a tunnel takes of the pool of its request, about */

#define NGX_HTTP_TUNNEL_NEEDS   1216


/* a block of a pool, whose bytes belong to another one */

typedef struct {
    ngx_pool_data_t    d;
    ngx_pool_t        *pool;
} ngx_http_tunnel_block_t;


static void ngx_http_connect_tunnel_link(ngx_pool_t *pool,
    ngx_pool_data_t *d, u_char *start, u_char *end);
static void ngx_http_connect_tunnel_unlink(void *data);


void
ngx_http_connect_tunnel_reuse(ngx_pool_t *pool, ngx_list_t *list)
{
    u_char                   *start, *end, *elts;
    size_t                    size;
    ngx_pool_cleanup_t       *cln;
    ngx_http_tunnel_block_t  *block;

    start = list->part.elts;
    end = start + list->nalloc * list->size;
    size = NGX_HTTP_TUNNEL_FIELDS * list->size;

    if (list->last != &list->part
        || list->nalloc <= NGX_HTTP_TUNNEL_FIELDS
        || list->part.nelts + 1 >= list->nalloc
        || (size_t) (pool->d.end - pool->d.last)
           < size + sizeof(ngx_pool_cleanup_t)
             + sizeof(ngx_http_tunnel_block_t) + 3 * NGX_ALIGNMENT)
    {
        return;
    }

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_http_tunnel_block_t));
    if (cln == NULL) {
        return;
    }

    if (list->part.nelts == 0) {
        elts = ngx_palloc(pool, size);
        if (elts == NULL) {
            return;
        }

        list->part.elts = elts;
        list->nalloc = NGX_HTTP_TUNNEL_FIELDS;

    } else {
        list->nalloc = ngx_max(list->part.nelts, NGX_HTTP_TUNNEL_FIELDS);
        start += list->nalloc * list->size;
    }

    block = cln->data;
    block->pool = pool;

    /* a pool frees its blocks, after its cleanups */

    cln->handler = ngx_http_connect_tunnel_unlink;

    ngx_http_connect_tunnel_link(pool, &block->d, start, end);
}


void
ngx_http_connect_tunnel_room(ngx_pool_t *pool)
{
    u_char      *block;
    size_t       size;
    ngx_pool_t  *p;

    size = 0;

    for (p = pool->current; p; p = p->d.next) {
        size += p->d.end - p->d.last;
    }

    if (size >= NGX_HTTP_TUNNEL_NEEDS) {
        return;
    }

    /* this one the pool frees */

    size = NGX_HTTP_TUNNEL_NEEDS - size + sizeof(ngx_pool_data_t);
    size = ngx_align(size, NGX_POOL_ALIGNMENT);

    block = ngx_memalign(NGX_POOL_ALIGNMENT, size, pool->log);

    if (block) {
        ngx_http_connect_tunnel_link(pool, (ngx_pool_data_t *) block,
                                     block + sizeof(ngx_pool_data_t),
                                     block + size);
    }
}


static void
ngx_http_connect_tunnel_link(ngx_pool_t *pool, ngx_pool_data_t *d,
    u_char *start, u_char *end)
{
    ngx_pool_t  *p;

    d->last = start;
    d->end = end;
    d->next = NULL;
    d->failed = 0;

    for (p = pool; p->d.next; p = p->d.next) { /* void */ }

    p->d.next = (ngx_pool_t *) d;
}


static void
ngx_http_connect_tunnel_unlink(void *data)
{
    ngx_http_tunnel_block_t *block = data;

    ngx_pool_t  *p;

    for (p = block->pool; p->d.next; p = p->d.next) {

        if (p->d.next == (ngx_pool_t *) &block->d) {
            p->d.next = block->d.next;
            return;
        }
    }
}
