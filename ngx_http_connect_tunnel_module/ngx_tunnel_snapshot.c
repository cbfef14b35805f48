
/*
 * Zone: what others read of it, and tunnels that are to end.
 */


#include "ngx_tunnel_shared.h"
#include "ngx_tunnel_target.h"


/* bytes of the name of a target or key, as most of them have */

#define NGX_TUNNEL_SNAPSHOT_NAME    32

/*
 * Tunnels that are looked at before others may open theirs, how often that is
 * before other events have their turn, and the time until it goes on, msec
 */

#define NGX_TUNNEL_RECHECK_BATCH    32
#define NGX_TUNNEL_RECHECK_BATCHES  8
#define NGX_TUNNEL_RECHECK_TICK     50
#define NGX_TUNNEL_RECHECK_IDLE     1000


/* a place in the table; all zeroes is in front of it */

typedef struct {
    ngx_uint_t                    next;          /* slot */
    ngx_tunnel_slot_t            *slot;
    ngx_queue_t                  *chunk;         /* or NULL */
    ngx_uint_t                    entry;
} ngx_tunnel_walk_t;


/* a tunnel whose rules are asked again */

typedef struct {
    ngx_tunnel_slot_t            *slot;
    ngx_tunnel_live_t            *live;
    uint64_t                      id;
    ngx_uint_t                    series;
    ngx_uint_t                    named;
    ngx_uint_t                    trusted;
    ngx_str_t                     target;
    ngx_str_t                     address;
    u_char                        names[NGX_TUNNEL_TARGET_LEN
                                        + NGX_TUNNEL_ADDRESS_LEN];
} ngx_tunnel_recheck_tunnel_t;


static ngx_tunnel_live_t *ngx_tunnel_walk(ngx_tunnel_walk_t *w,
    ngx_tunnel_zone_shared_t *sh);
static ngx_int_t ngx_tunnel_snapshot_init(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh, ngx_pool_t *pool, ngx_uint_t what);
static ngx_int_t ngx_tunnel_snapshot_slot(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_slot_t *slot);
static void ngx_tunnel_snapshot_count(ngx_tunnel_counters_t *counters);
static ngx_int_t ngx_tunnel_snapshot_series(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh);
static ngx_int_t ngx_tunnel_snapshot_nodes(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh);
static ngx_int_t ngx_tunnel_snapshot_tunnels(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh, uint64_t id);
static ngx_rbtree_node_t *ngx_tunnel_node_first(ngx_tunnel_zone_shared_t *sh,
    ngx_uint_t kind);
static void ngx_tunnel_snapshot_moving(ngx_tunnel_zone_shared_t *sh);
static ngx_int_t ngx_tunnel_snapshot_copy(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_node_t *node, ngx_str_t *name);
static int ngx_libc_cdecl ngx_tunnel_snapshot_bytes(const void *one,
    const void *two);
static int ngx_libc_cdecl ngx_tunnel_snapshot_age(const void *one,
    const void *two);
static ngx_uint_t ngx_tunnel_zone_matches(ngx_tunnel_match_t *match,
    ngx_tunnel_live_t *live);
static ngx_uint_t ngx_tunnel_zone_unchecked(ngx_tunnel_zone_t *zone,
    ngx_tunnel_recheck_tunnel_t *t, ngx_uint_t *others);
static void ngx_tunnel_zone_copy(ngx_tunnel_recheck_tunnel_t *t,
    ngx_tunnel_slot_t *slot, ngx_tunnel_live_t *live);
static ngx_uint_t ngx_tunnel_zone_refused(ngx_tunnel_zone_t *zone,
    ngx_tunnel_recheck_tunnel_t *t, ngx_log_t *log);


ngx_int_t
ngx_tunnel_zone_snapshot(ngx_shm_zone_t *shm_zone, ngx_pool_t *pool,
    uint64_t id, ngx_uint_t what, ngx_tunnel_snapshot_t *snap)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i;
    ngx_tunnel_zone_t             *zone;
    ngx_tunnel_zone_shared_t      *sh;
    ngx_tunnel_snapshot_series_t  *series;

    zone = shm_zone->data;
    sh = zone->sh;

    ngx_memzero(snap, sizeof(ngx_tunnel_snapshot_t));

    snap->name = shm_zone->shm.name;
    snap->size = shm_zone->shm.size;

    if (ngx_tunnel_snapshot_init(snap, sh, pool, what) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_shmtx_lock(&zone->shpool->mutex);

    ngx_tunnel_zone_sweep(zone);

    snap->free = zone->shpool->pfree * ngx_pagesize;
    snap->untracked = sh->untracked;
    snap->start = sh->start;

    rc = ngx_tunnel_snapshot_series(snap, sh);

    for (i = 0; i < NGX_MAX_PROCESSES && rc == NGX_OK; i++) {

        if (sh->slots[i]) {
            rc = ngx_tunnel_snapshot_slot(snap, sh->slots[i]);
        }
    }

    if (rc == NGX_OK && (what & NGX_TUNNEL_SNAPSHOT_NODES)) {
        rc = ngx_tunnel_snapshot_nodes(snap, sh);
    }

    if (rc == NGX_OK && ((what & NGX_TUNNEL_SNAPSHOT_TUNNELS) || id)) {
        rc = ngx_tunnel_snapshot_tunnels(snap, sh, id);
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    series = snap->series.elts;

    for (i = 0; i < snap->series.nelts; i++) {
        ngx_tunnel_counters_add(&snap->total, &series[i].counters);
        ngx_tunnel_snapshot_count(&series[i].counters);
    }

    ngx_tunnel_snapshot_count(&snap->total);

    ngx_qsort(snap->keys.elts, snap->keys.nelts,
              sizeof(ngx_tunnel_snapshot_node_t), ngx_tunnel_snapshot_bytes);
    ngx_qsort(snap->targets.elts, snap->targets.nelts,
              sizeof(ngx_tunnel_snapshot_node_t), ngx_tunnel_snapshot_bytes);
    ngx_qsort(snap->tunnels.elts, snap->tunnels.nelts,
              sizeof(ngx_tunnel_snapshot_live_t), ngx_tunnel_snapshot_age);

    return NGX_OK;
}


/*
 * While the mutex is held, no tunnel opens or ends, so the memory that it will
 * take is had, and touched, before.  If tunnels come meanwhile there is more.
 */

static ngx_int_t
ngx_tunnel_snapshot_init(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh, ngx_pool_t *pool, ngx_uint_t what)
{
    size_t      size;
    ngx_uint_t  i, n, targets, keys;

    n = 1;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {

        if (sh->slots[i] && (what & NGX_TUNNEL_SNAPSHOT_TUNNELS)) {
            n += sh->slots[i]->nlive;
        }
    }

    targets = 1;
    keys = 1;

    if (what & NGX_TUNNEL_SNAPSHOT_NODES) {
        targets += sh->nnodes[NGX_TUNNEL_NODE_TARGET];
        keys += sh->nnodes[NGX_TUNNEL_NODE_KEY];
    }

    size = (n + targets + keys) * NGX_TUNNEL_SNAPSHOT_NAME;

    snap->pos = ngx_pcalloc(pool, size);
    if (snap->pos == NULL) {
        return NGX_ERROR;
    }

    snap->last = snap->pos + size;

    if (ngx_array_init(&snap->workers, pool, 8,
                       sizeof(ngx_tunnel_snapshot_worker_t))
        != NGX_OK
        || ngx_array_init(&snap->series, pool, sh->nseries + 1,
                          sizeof(ngx_tunnel_snapshot_series_t))
           != NGX_OK
        || ngx_array_init(&snap->keys, pool, keys,
                          sizeof(ngx_tunnel_snapshot_node_t))
           != NGX_OK
        || ngx_array_init(&snap->targets, pool, targets,
                          sizeof(ngx_tunnel_snapshot_node_t))
           != NGX_OK
        || ngx_array_init(&snap->tunnels, pool, n,
                          sizeof(ngx_tunnel_snapshot_live_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_memzero(snap->tunnels.elts, n * sizeof(ngx_tunnel_snapshot_live_t));

    return NGX_OK;
}


/* at the places that counters and tunnels go by */

static ngx_int_t
ngx_tunnel_snapshot_series(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh)
{
    ngx_str_t                      label;
    ngx_uint_t                     i;
    ngx_queue_t                   *q;
    ngx_tunnel_shared_series_t    *s;
    ngx_tunnel_snapshot_series_t  *series;

    series = ngx_array_push_n(&snap->series, sh->nseries);
    if (series == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(series, sh->nseries * sizeof(ngx_tunnel_snapshot_series_t));

    for (i = 0; i < sh->nseries; i++) {
        series[i].front = NGX_TUNNEL_NO_FRONT;
    }

    for (q = ngx_queue_head(&sh->series);
         q != ngx_queue_sentinel(&sh->series);
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_tunnel_shared_series_t, queue);

        label.len = s->len;
        label.data = s->data;

        series[s->index].front = s->front;
        series[s->index].label.len = s->len;
        series[s->index].label.data = ngx_pstrdup(snap->series.pool, &label);

        if (series[s->index].label.data == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_tunnel_counters_add(&snap->total, &sh->gone);

    return NGX_OK;
}


static ngx_int_t
ngx_tunnel_snapshot_slot(ngx_tunnel_snapshot_t *snap, ngx_tunnel_slot_t *slot)
{
    ngx_uint_t                     i;
    ngx_tunnel_counters_t         *counters;
    ngx_tunnel_snapshot_series_t  *series;
    ngx_tunnel_snapshot_worker_t  *worker, none;

    worker = &none;

    if (slot->pid) {
        worker = ngx_array_push(&snap->workers);
        if (worker == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(worker, sizeof(ngx_tunnel_snapshot_worker_t));

        worker->pid = slot->pid;
        worker->buffers = slot->buffers;
        worker->pipes = slot->pipes;
    }

    series = snap->series.elts;

    for (i = 0; i < slot->ncounters; i++) {
        counters = slot->counters[i];

        if (counters == NULL) {
            continue;
        }

        ngx_tunnel_counters_add(&series[i].counters, counters);

        worker->connecting += counters->connecting;
        worker->active += counters->active;
        worker->memory += counters->memory;
    }

    return NGX_OK;
}


/* of what was added up: values may have come meanwhile */

static void
ngx_tunnel_snapshot_count(ngx_tunnel_counters_t *counters)
{
    ngx_uint_t               i, n;
    ngx_tunnel_histogram_t  *h;

    for (i = 0; i < NGX_TUNNEL_NO_HISTOGRAM; i++) {
        h = &counters->histograms[i];
        h->count = 0;

        for (n = 0; n < NGX_TUNNEL_BUCKETS; n++) {
            h->count += h->buckets[n];
        }
    }
}


static ngx_int_t
ngx_tunnel_snapshot_nodes(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh)
{
    ngx_uint_t                   kind;
    ngx_array_t                 *nodes;
    ngx_rbtree_node_t           *rn;
    ngx_tunnel_node_t           *node;
    ngx_tunnel_snapshot_node_t  *n;

    ngx_tunnel_snapshot_moving(sh);

    for (kind = 0; kind < NGX_TUNNEL_NO_NODE; kind++) {

        nodes = (kind == NGX_TUNNEL_NODE_KEY) ? &snap->keys : &snap->targets;

        for (rn = ngx_tunnel_node_first(sh, kind);
             rn;
             rn = ngx_rbtree_next(&sh->rbtree[kind], rn))
        {
            node = (ngx_tunnel_node_t *) rn;

            n = ngx_array_push(nodes);
            if (n == NULL
                || ngx_tunnel_snapshot_copy(snap, node, &n->name) != NGX_OK)
            {
                return NGX_ERROR;
            }

            n->active = node->active;
            n->opened = node->opened;
            n->received = node->received;
            n->sent = node->sent;

            if (node->active) {
                n->received += node->u.moving.received;
                n->sent += node->u.moving.sent;
            }
        }
    }

    return NGX_OK;
}


static ngx_rbtree_node_t *
ngx_tunnel_node_first(ngx_tunnel_zone_shared_t *sh, ngx_uint_t kind)
{
    ngx_rbtree_t  *tree;

    tree = &sh->rbtree[kind];

    return (tree->root == tree->sentinel)
           ? NULL : ngx_rbtree_min(tree->root, tree->sentinel);
}


/* what open tunnels have moved is with their targets and keys at the end */

static void
ngx_tunnel_snapshot_moving(ngx_tunnel_zone_shared_t *sh)
{
    ngx_uint_t          kind;
    ngx_rbtree_node_t  *rn;
    ngx_tunnel_node_t  *node;
    ngx_tunnel_live_t  *live;
    ngx_tunnel_walk_t   walk;

    for (kind = 0; kind < NGX_TUNNEL_NO_NODE; kind++) {

        for (rn = ngx_tunnel_node_first(sh, kind);
             rn;
             rn = ngx_rbtree_next(&sh->rbtree[kind], rn))
        {
            node = (ngx_tunnel_node_t *) rn;

            if (node->active) {
                node->u.moving.received = 0;
                node->u.moving.sent = 0;
            }
        }
    }

    ngx_memzero(&walk, sizeof(ngx_tunnel_walk_t));

    while ((live = ngx_tunnel_walk(&walk, sh)) != NULL) {

        live->target->u.moving.received += live->received;
        live->target->u.moving.sent += live->sent;

        if (live->key) {
            live->key->u.moving.received += live->received;
            live->key->u.moving.sent += live->sent;
        }
    }
}


static ngx_int_t
ngx_tunnel_snapshot_tunnels(ngx_tunnel_snapshot_t *snap,
    ngx_tunnel_zone_shared_t *sh, uint64_t id)
{
    ngx_tunnel_live_t           *live;
    ngx_tunnel_walk_t            walk;
    ngx_tunnel_snapshot_live_t  *t;

    ngx_memzero(&walk, sizeof(ngx_tunnel_walk_t));

    while ((live = ngx_tunnel_walk(&walk, sh)) != NULL) {

        if (id && live->id != id) {
            continue;
        }

        t = ngx_array_push(&snap->tunnels);
        if (t == NULL) {
            return NGX_ERROR;
        }

        t->live = *live;
        t->pid = walk.slot->pid;

        if (ngx_tunnel_snapshot_copy(snap, live->target, &t->target) != NGX_OK
            || ngx_tunnel_snapshot_copy(snap, live->key, &t->key) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* the next open tunnel of the table, with the mutex held; NULL at the end */

static ngx_tunnel_live_t *
ngx_tunnel_walk(ngx_tunnel_walk_t *w, ngx_tunnel_zone_shared_t *sh)
{
    ngx_tunnel_live_t   *live;
    ngx_tunnel_chunk_t  *chunk;

    for ( ;; ) {

        while (w->chunk == NULL) {

            if (w->next == NGX_MAX_PROCESSES) {
                return NULL;
            }

            w->slot = sh->slots[w->next++];

            if (w->slot && !ngx_queue_empty(&w->slot->chunks)) {
                w->chunk = ngx_queue_head(&w->slot->chunks);
                w->entry = 0;
            }
        }

        chunk = ngx_queue_data(w->chunk, ngx_tunnel_chunk_t, queue);

        while (w->entry < chunk->n) {
            live = &chunk->live[w->entry++];

            if (live->id) {
                return live;
            }
        }

        w->entry = 0;
        w->chunk = ngx_queue_next(w->chunk);

        if (w->chunk == ngx_queue_sentinel(&w->slot->chunks)) {
            w->chunk = NULL;
        }
    }
}


static ngx_int_t
ngx_tunnel_snapshot_copy(ngx_tunnel_snapshot_t *snap, ngx_tunnel_node_t *node,
    ngx_str_t *name)
{
    ngx_str_t  *src;

    ngx_str_null(name);

    if (node == NULL) {
        return NGX_OK;
    }

    src = &node->sn.str;

    name->len = src->len;

    if (src->len <= (size_t) (snap->last - snap->pos)) {
        name->data = snap->pos;
        snap->pos = ngx_cpymem(snap->pos, src->data, src->len);

        return NGX_OK;
    }

    name->data = ngx_pstrdup(snap->keys.pool, src);

    return name->data ? NGX_OK : NGX_ERROR;
}


static int ngx_libc_cdecl
ngx_tunnel_snapshot_bytes(const void *one, const void *two)
{
    uint64_t                     a, b;
    ngx_tunnel_snapshot_node_t  *first, *second;

    first = (ngx_tunnel_snapshot_node_t *) one;
    second = (ngx_tunnel_snapshot_node_t *) two;

    a = first->received + first->sent;
    b = second->received + second->sent;

    if (a == b) {
        a = first->opened;
        b = second->opened;
    }

    return (a > b) ? -1 : (a < b);
}


static int ngx_libc_cdecl
ngx_tunnel_snapshot_age(const void *one, const void *two)
{
    ngx_tunnel_snapshot_live_t  *first, *second;

    first = (ngx_tunnel_snapshot_live_t *) one;
    second = (ngx_tunnel_snapshot_live_t *) two;

    if (first->live.start == second->live.start) {
        return (first->live.id < second->live.id)
               ? -1 : (first->live.id > second->live.id);
    }

    return (first->live.start < second->live.start) ? -1 : 1;
}


ngx_uint_t
ngx_tunnel_zone_kill(ngx_shm_zone_t *shm_zone, ngx_tunnel_match_t *match)
{
    ngx_uint_t          killed;
    ngx_tunnel_live_t  *live;
    ngx_tunnel_walk_t   walk;
    ngx_tunnel_zone_t  *zone;

    zone = shm_zone->data;
    killed = 0;

    ngx_memzero(&walk, sizeof(ngx_tunnel_walk_t));

    ngx_shmtx_lock(&zone->shpool->mutex);

    ngx_tunnel_zone_sweep(zone);

    while ((live = ngx_tunnel_walk(&walk, zone->sh)) != NULL) {

        if (ngx_tunnel_zone_matches(match, live)) {
            ngx_tunnel_zone_end_soon(walk.slot, live, NGX_TUNNEL_KILLED);
            killed++;
        }
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return killed;
}


static ngx_uint_t
ngx_tunnel_zone_matches(ngx_tunnel_match_t *match, ngx_tunnel_live_t *live)
{
    ngx_str_t           *value;
    ngx_tunnel_node_t   *node;

    if (match->id) {
        return live->id == match->id;
    }

    if (match->client.len) {
        return live->client_len == match->client.len
               && ngx_strncasecmp(live->client, match->client.data,
                                  live->client_len)
                  == 0;
    }

    value = match->target.len ? &match->target : &match->key;
    node = match->target.len ? live->target : live->key;

    return node && value->len && node->sn.str.len == value->len
           && ngx_memcmp(node->sn.str.data, value->data, value->len) == 0;
}


/*
 * Tunnels of workers that are on their way out are asked for as long as there
 * are such workers, each tunnel once.
 */

void
ngx_tunnel_zone_recheck(ngx_event_t *ev)
{
    ngx_uint_t                    i, k, n, others;
    ngx_tunnel_zone_t            *zone;
    ngx_tunnel_recheck_tunnel_t   tunnels[NGX_TUNNEL_RECHECK_BATCH], *t;

    zone = ev->data;

    n = 0;
    others = 0;

    for (i = 0; i < NGX_TUNNEL_RECHECK_BATCHES; i++) {

        n = ngx_tunnel_zone_unchecked(zone, tunnels, &others);

        /* there may be many rules, so they are asked without the mutex */

        for (k = 0; k < n; k++) {
            t = &tunnels[k];

            if (!ngx_tunnel_zone_refused(zone, t, ev->log)) {
                t->id = 0;
            }
        }

        ngx_shmtx_lock(&zone->shpool->mutex);

        for (k = 0; k < n; k++) {
            t = &tunnels[k];

            /* by now it may have ended, and its memory be another's */

            if (t->id && t->live->id == t->id) {
                ngx_tunnel_zone_end_soon(t->slot, t->live, NGX_TUNNEL_DENIED);
            }
        }

        ngx_shmtx_unlock(&zone->shpool->mutex);

        if (n < NGX_TUNNEL_RECHECK_BATCH) {
            break;
        }
    }

    if (others) {
        ngx_add_timer(ev, (n < NGX_TUNNEL_RECHECK_BATCH)
                          ? NGX_TUNNEL_RECHECK_IDLE
                          : NGX_TUNNEL_RECHECK_TICK);
    }
}


/* returns how many there are, and sets others if there are such workers */

static ngx_uint_t
ngx_tunnel_zone_unchecked(ngx_tunnel_zone_t *zone,
    ngx_tunnel_recheck_tunnel_t *t, ngx_uint_t *others)
{
    ngx_uint_t          i, n;
    ngx_tunnel_live_t  *live;
    ngx_tunnel_slot_t  *slot;
    ngx_tunnel_walk_t   walk;

    n = 0;

    ngx_memzero(&walk, sizeof(ngx_tunnel_walk_t));

    ngx_shmtx_lock(&zone->shpool->mutex);

    ngx_tunnel_zone_sweep(zone);

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        slot = zone->sh->slots[i];

        if (slot && slot->pid && slot->generation < zone->generation) {
            *others = 1;
        }
    }

    while (n < NGX_TUNNEL_RECHECK_BATCH
           && (live = ngx_tunnel_walk(&walk, zone->sh)) != NULL)
    {
        if (live->checked < zone->generation) {
            live->checked = zone->generation;
            ngx_tunnel_zone_copy(&t[n++], walk.slot, live);
        }
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return n;
}


static void
ngx_tunnel_zone_copy(ngx_tunnel_recheck_tunnel_t *t, ngx_tunnel_slot_t *slot,
    ngx_tunnel_live_t *live)
{
    u_char     *p;
    ngx_str_t  *name;

    name = &live->target->sn.str;

    t->slot = slot;
    t->live = live;
    t->id = live->id;
    t->series = live->series;
    t->trusted = live->trusted;

    /* a target that is no host:port may be longer, and is not asked for */

    t->named = (live->named && name->len <= NGX_TUNNEL_TARGET_LEN);

    p = t->names;

    t->target.data = p;
    t->target.len = t->named ? name->len : 0;

    p = ngx_cpymem(p, name->data, t->target.len);

    t->address.data = p;
    t->address.len = live->address_len;

    ngx_memcpy(p, live->address, live->address_len);
}


/* whether no level that could have let it through lets it through now */

static ngx_uint_t
ngx_tunnel_zone_refused(ngx_tunnel_zone_t *zone,
    ngx_tunnel_recheck_tunnel_t *t, ngx_log_t *log)
{
    ngx_uint_t               i, recheck;
    ngx_tunnel_zone_rule_t  *rules;

    rules = zone->rules.elts;
    recheck = 0;

    for (i = 0; i < zone->rules.nelts; i++) {

        if (rules[i].conf->series->index != t->series) {
            continue;
        }

        recheck |= rules[i].conf->recheck;

        if (!rules[i].check(rules[i].data, &t->target, &t->address, t->named,
                            t->trusted, log))
        {
            return 0;
        }
    }

    return recheck;
}
