
/*
 * Zone: the table of open tunnels, and what is known of targets and keys; all
 * with the mutex held.
 */


#include "ngx_tunnel_shared.h"


/* nodes that are given up at once for a page */

#define NGX_TUNNEL_ZONE_EXPIRE   16


static ngx_tunnel_chunk_t *ngx_tunnel_chunk_create(ngx_tunnel_zone_t *zone);
static ngx_uint_t ngx_tunnel_node_expire(ngx_tunnel_zone_t *zone,
    ngx_tunnel_node_e kind, ngx_uint_t n);


ngx_tunnel_live_t *
ngx_tunnel_live_get(ngx_tunnel_zone_t *zone)
{
    ngx_tunnel_live_t   *live;
    ngx_tunnel_slot_t   *slot;
    ngx_tunnel_chunk_t  *chunk;

    slot = zone->slot;
    chunk = NULL;

    if (!ngx_queue_empty(&slot->chunks)) {
        chunk = ngx_queue_data(ngx_queue_head(&slot->chunks),
                               ngx_tunnel_chunk_t, queue);
    }

    if (chunk == NULL || chunk->free == NULL) {
        chunk = ngx_tunnel_chunk_create(zone);
        if (chunk == NULL) {
            return NULL;
        }

        ngx_queue_insert_head(&slot->chunks, &chunk->queue);
    }

    live = chunk->free;
    chunk->free = live->next;
    chunk->used++;

    if (chunk->free == NULL) {
        ngx_queue_remove(&chunk->queue);
        ngx_queue_insert_tail(&slot->chunks, &chunk->queue);
    }

    slot->nlive++;

    return live;
}


static ngx_tunnel_chunk_t *
ngx_tunnel_chunk_create(ngx_tunnel_zone_t *zone)
{
    ngx_uint_t           i;
    ngx_tunnel_chunk_t  *chunk;

    chunk = ngx_tunnel_zone_alloc(zone, ngx_pagesize, zone->reserve);
    if (chunk == NULL) {
        return NULL;
    }

    ngx_memzero(chunk, ngx_pagesize);

    chunk->n = (ngx_pagesize - offsetof(ngx_tunnel_chunk_t, live))
               / sizeof(ngx_tunnel_live_t);

    for (i = 0; i < chunk->n; i++) {
        chunk->live[i].next = chunk->free;
        chunk->free = &chunk->live[i];
    }

    return chunk;
}


/* a page that is empty is for all workers, but for the last one with room */

void
ngx_tunnel_live_put(ngx_tunnel_zone_t *zone, ngx_tunnel_live_t *live)
{
    ngx_tunnel_slot_t   *slot;
    ngx_tunnel_chunk_t  *chunk, *last;

    slot = zone->slot;

    /* the slab gives pages at their bounds */

    chunk = (ngx_tunnel_chunk_t *) ((uintptr_t) live
                                    & ~((uintptr_t) ngx_pagesize - 1));

    live->id = 0;
    live->next = chunk->free;

    chunk->free = live;
    chunk->used--;

    slot->nlive--;

    if (zone->scanning) {
        return;
    }

    ngx_queue_remove(&chunk->queue);

    if (chunk->used == 0 && !ngx_queue_empty(&slot->chunks)) {
        last = ngx_queue_data(ngx_queue_head(&slot->chunks),
                              ngx_tunnel_chunk_t, queue);

        if (last->free) {
            ngx_slab_free_locked(zone->shpool, chunk);
            return;
        }
    }

    ngx_queue_insert_head(&slot->chunks, &chunk->queue);
}


void
ngx_tunnel_slot_sort(ngx_tunnel_zone_t *zone)
{
    ngx_queue_t         *q, *next, full;
    ngx_tunnel_slot_t   *slot;
    ngx_tunnel_chunk_t  *chunk;

    slot = zone->slot;

    ngx_queue_init(&full);

    for (q = ngx_queue_head(&slot->chunks);
         q != ngx_queue_sentinel(&slot->chunks);
         q = next)
    {
        next = ngx_queue_next(q);
        chunk = ngx_queue_data(q, ngx_tunnel_chunk_t, queue);

        if (chunk->used == 0) {
            ngx_queue_remove(q);
            ngx_slab_free_locked(zone->shpool, chunk);

        } else if (chunk->free == NULL) {
            ngx_queue_remove(q);
            ngx_queue_insert_tail(&full, q);
        }
    }

    if (!ngx_queue_empty(&full)) {
        ngx_queue_add(&slot->chunks, &full);
    }
}


ngx_tunnel_node_t *
ngx_tunnel_node_get(ngx_tunnel_zone_t *zone, ngx_tunnel_node_e kind,
    ngx_str_t *name, ngx_uint_t max)
{
    uint32_t                   hash;
    ngx_tunnel_node_t         *node;
    ngx_tunnel_zone_shared_t  *sh;

    sh = zone->sh;
    sh->max[kind] = max;

    hash = ngx_crc32_short(name->data, name->len);

    node = (ngx_tunnel_node_t *)
               ngx_str_rbtree_lookup(&sh->rbtree[kind], name, hash);

    if (node) {

        if (node->active == 0) {
            ngx_queue_remove(&node->u.queue);
        }

        goto found;
    }

    /* keys are labels elsewhere, so there are no more of them */

    if (sh->nnodes[kind] >= max
        && !ngx_tunnel_node_expire(zone, kind, 1)
        && kind == NGX_TUNNEL_NODE_KEY)
    {
        return NULL;
    }

    node = ngx_tunnel_zone_alloc(zone, offsetof(ngx_tunnel_node_t, data)
                                       + name->len, zone->reserve);
    if (node == NULL) {
        return NULL;
    }

    node->sn.node.key = hash;
    node->sn.str.len = name->len;
    node->sn.str.data = node->data;
    node->kind = kind;
    node->active = 0;
    node->opened = 0;
    node->received = 0;
    node->sent = 0;
    ngx_memcpy(node->data, name->data, name->len);

    ngx_rbtree_insert(&sh->rbtree[kind], &node->sn.node);
    sh->nnodes[kind]++;

found:

    node->active++;
    node->opened++;

    return node;
}


void
ngx_tunnel_node_release(ngx_tunnel_zone_t *zone, ngx_tunnel_node_t *node,
    ngx_tunnel_live_t *live)
{
    ngx_tunnel_zone_shared_t  *sh;

    if (node == NULL) {
        return;
    }

    sh = zone->sh;

    node->received += live->received;
    node->sent += live->sent;
    node->active--;

    if (node->active) {
        return;
    }

    ngx_queue_insert_head(&sh->nodes[node->kind], &node->u.queue);

    if (sh->nnodes[node->kind] > sh->max[node->kind]) {
        (void) ngx_tunnel_node_expire(zone, node->kind, 1);
    }
}


/* forgets up to n that no tunnel holds, least recently used; how many */

static ngx_uint_t
ngx_tunnel_node_expire(ngx_tunnel_zone_t *zone, ngx_tunnel_node_e kind,
    ngx_uint_t n)
{
    ngx_uint_t                 i;
    ngx_queue_t               *q;
    ngx_tunnel_node_t         *node;
    ngx_tunnel_zone_shared_t  *sh;

    sh = zone->sh;

    for (i = 0; i < n && !ngx_queue_empty(&sh->nodes[kind]); i++) {

        q = ngx_queue_last(&sh->nodes[kind]);
        node = ngx_queue_data(q, ngx_tunnel_node_t, u.queue);

        ngx_queue_remove(q);
        ngx_rbtree_delete(&sh->rbtree[kind], &node->sn.node);
        ngx_slab_free_locked(zone->shpool, node);

        sh->nnodes[kind]--;
    }

    return i;
}


/* what is only for the top lists makes room */

void *
ngx_tunnel_zone_alloc(ngx_tunnel_zone_t *zone, size_t size,
    ngx_uint_t reserve)
{
    void        *p;
    ngx_uint_t   n, small;

    p = NULL;

    if (zone->shpool->pfree > reserve) {
        p = ngx_slab_alloc_locked(zone->shpool, size);
    }

    /* a node takes the place of another one, and a page that of many */

    small = (size < ngx_pagesize / 2);
    n = small ? 1 : NGX_TUNNEL_ZONE_EXPIRE;

    if (p == NULL
        && (ngx_tunnel_node_expire(zone, NGX_TUNNEL_NODE_TARGET, n)
            || ngx_tunnel_node_expire(zone, NGX_TUNNEL_NODE_KEY, n))
        && (zone->shpool->pfree > reserve || small))
    {
        p = ngx_slab_alloc_locked(zone->shpool, size);
    }

    return p;
}
