
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

/* what a tunnel takes of the pool of its request, about, besides the relay */

#define NGX_HTTP_TUNNEL_NEEDS   728

/* a header in more buffers stays where it is; nginx has up to 5 by default */

#define NGX_HTTP_TUNNEL_BUFFERS  16


/* a block of a pool, whose bytes belong to another one */

typedef struct {
    ngx_pool_data_t    d;
    ngx_pool_t        *pool;
} ngx_http_tunnel_block_t;


/* where the bytes of a header buffer are, and where they go */

typedef struct {
    u_char            *start;
    u_char            *end;
    u_char            *to;
} ngx_http_tunnel_move_t;


typedef struct {
    ngx_uint_t                n;
    ngx_http_tunnel_move_t    moves[NGX_HTTP_TUNNEL_BUFFERS];
} ngx_http_tunnel_moves_t;


static void ngx_http_connect_tunnel_link(ngx_pool_t *pool,
    ngx_pool_data_t *d, u_char *start, u_char *end);
static ngx_int_t ngx_http_connect_tunnel_copy(ngx_http_request_t *r,
    ngx_http_tunnel_moves_t *m);
static void ngx_http_connect_tunnel_free(ngx_pool_t *pool, ngx_chain_t *cl);
static void ngx_http_connect_tunnel_move(ngx_http_request_t *r,
    ngx_http_tunnel_moves_t *m);
static void ngx_http_connect_tunnel_move_list(ngx_list_t *list,
    ngx_uint_t lowcase, ngx_http_tunnel_moves_t *m);
static void ngx_http_connect_tunnel_move_ptr(u_char **p,
    ngx_http_tunnel_moves_t *m);
static void ngx_http_connect_tunnel_unlink(void *data);
static ngx_pool_data_t *ngx_http_connect_tunnel_block(ngx_pool_t *pool,
    size_t size);


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
    size_t       size;
    ngx_pool_t  *p;

    size = 0;

    for (p = pool->current; p; p = p->d.next) {
        size += p->d.end - p->d.last;
    }

    if (size < NGX_HTTP_TUNNEL_NEEDS) {
        (void) ngx_http_connect_tunnel_block(pool,
                                             NGX_HTTP_TUNNEL_NEEDS - size);
    }
}


void
ngx_http_connect_tunnel_fit(ngx_pool_t *pool, size_t size)
{
    ngx_pool_t  *p;

    size += NGX_ALIGNMENT;

    for (p = pool->current; p; p = p->d.next) {
        if ((size_t) (p->d.end - p->d.last) >= size) {
            return;
        }
    }

    (void) ngx_http_connect_tunnel_block(pool, size);
}


/* adds a block with room for so many bytes, and returns it */

static ngx_pool_data_t *
ngx_http_connect_tunnel_block(ngx_pool_t *pool, size_t size)
{
    u_char           *start;
    ngx_pool_data_t  *d;

    size = ngx_align(size + sizeof(ngx_pool_data_t), NGX_POOL_ALIGNMENT);

    d = ngx_memalign(NGX_POOL_ALIGNMENT, size, pool->log);

    if (d) {
        start = (u_char *) d;

        ngx_http_connect_tunnel_link(pool, d, start + sizeof(ngx_pool_data_t),
                                     start + size);
    }

    return d;
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
            break;
        }
    }

    block->pool->current = block->pool;
}


/*
 * The buffers of the header are of the sizes that a header may have.  What it
 * does have, for the log, fits into less: it is moved, and with it all that
 * points to it, and the buffers are freed.
 */

void
ngx_http_connect_tunnel_compact(ngx_http_request_t *r)
{
    ngx_buf_t                *b;
    ngx_connection_t         *c;
    ngx_http_connection_t    *hc;
    ngx_http_tunnel_moves_t   m;

    c = r->connection;
    hc = r->http_connection;

    if (c->buffer == NULL
        || ngx_http_connect_tunnel_copy(r, &m) != NGX_OK)
    {
        return;
    }

    ngx_http_connect_tunnel_move(r, &m);

    b = c->buffer;

    b->pos = r->header_in->pos;
    b->last = r->header_in->last;
    b->end = b->last;

    r->header_in = b;

    ngx_http_connect_tunnel_free(c->pool, hc->busy);
    ngx_http_connect_tunnel_free(c->pool, hc->free);

    hc->busy = NULL;
    hc->nbusy = 0;
    hc->free = NULL;

    if (ngx_pfree(c->pool, b->start) == NGX_OK) {
        b->start = NULL;
    }
}


static void
ngx_http_connect_tunnel_free(ngx_pool_t *pool, ngx_chain_t *cl)
{
    ngx_chain_t  *ln;

    while (cl) {
        ln = cl;
        cl = cl->next;

        (void) ngx_pfree(pool, ln->buf->start);

        ngx_free_chain(pool, ln);
    }
}


static ngx_int_t
ngx_http_connect_tunnel_copy(ngx_http_request_t *r,
    ngx_http_tunnel_moves_t *m)
{
    size_t                   size;
    ngx_uint_t               i;
    ngx_chain_t             *cl, first;
    ngx_pool_data_t         *d;
    ngx_http_tunnel_move_t  *move;

    first.buf = r->connection->buffer;
    first.next = r->http_connection->busy;

    size = 0;
    m->n = 0;

    for (cl = &first; cl; cl = cl->next) {

        if (m->n == NGX_HTTP_TUNNEL_BUFFERS) {
            return NGX_DECLINED;
        }

        move = &m->moves[m->n++];

        move->start = cl->buf->start;
        move->end = cl->buf->last;

        size += move->end - move->start;
    }

    d = ngx_http_connect_tunnel_block(r->pool, size);
    if (d == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < m->n; i++) {
        move = &m->moves[i];

        move->to = d->last;
        d->last = ngx_cpymem(d->last, move->start, move->end - move->start);
    }

    return NGX_OK;
}


static void
ngx_http_connect_tunnel_move(ngx_http_request_t *r,
    ngx_http_tunnel_moves_t *m)
{
    ngx_uint_t                  i;
    ngx_http_core_main_conf_t  *cmcf;

    ngx_str_t  *strings[] = {
        &r->request_line, &r->uri, &r->args, &r->exten, &r->unparsed_uri,
        &r->method_name, &r->http_protocol, &r->schema,
        &r->headers_in.server, &r->headers_in.user, &r->headers_in.passwd
    };

    u_char  **pointers[] = {
        &r->uri_start, &r->uri_end, &r->uri_ext, &r->args_start,
        &r->request_start, &r->request_end, &r->method_end,
        &r->schema_start, &r->schema_end, &r->host_start, &r->host_end,
        &r->header_name_start, &r->header_name_end, &r->header_start,
        &r->header_end, &r->header_in->pos, &r->header_in->last
    };

    for (i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        ngx_http_connect_tunnel_move_ptr(&strings[i]->data, m);
    }

    for (i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++) {
        ngx_http_connect_tunnel_move_ptr(pointers[i], m);
    }

    ngx_http_connect_tunnel_move_list(&r->headers_in.headers, 1, m);
    ngx_http_connect_tunnel_move_list(&r->headers_out.headers, 0, m);

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    for (i = 0; i < cmcf->variables.nelts; i++) {
        ngx_http_connect_tunnel_move_ptr(&r->variables[i].data, m);
    }

#if (NGX_PCRE)
    ngx_http_connect_tunnel_move_ptr(&r->captures_data, m);
#endif
}


static void
ngx_http_connect_tunnel_move_list(ngx_list_t *list, ngx_uint_t lowcase,
    ngx_http_tunnel_moves_t *m)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            ngx_http_connect_tunnel_move_ptr(&h[i].key.data, m);
            ngx_http_connect_tunnel_move_ptr(&h[i].value.data, m);

            /* what is sent has none, and may have anything there */

            if (lowcase) {
                ngx_http_connect_tunnel_move_ptr(&h[i].lowcase_key, m);
            }
        }
    }
}


static void
ngx_http_connect_tunnel_move_ptr(u_char **p, ngx_http_tunnel_moves_t *m)
{
    ngx_uint_t               i;
    ngx_http_tunnel_move_t  *move;

    for (i = 0; i < m->n; i++) {
        move = &m->moves[i];

        /* what is empty may be at the end */

        if (*p >= move->start && *p <= move->end) {
            *p = move->to + (*p - move->start);
            return;
        }
    }
}
