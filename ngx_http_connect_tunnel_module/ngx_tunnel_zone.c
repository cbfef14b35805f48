
/*
 * Zone: its memory, and each worker's part of it.
 */


#include "ngx_tunnel_shared.h"


static void ngx_tunnel_zone_cleanup(void *data);
static ngx_int_t ngx_tunnel_zone_init(ngx_shm_zone_t *shm_zone, void *data);
static ngx_uint_t ngx_tunnel_zone_reserve(ngx_tunnel_zone_t *zone);
static ngx_int_t ngx_tunnel_zone_create(ngx_tunnel_zone_t *zone);
static ngx_int_t ngx_tunnel_zone_series(ngx_tunnel_zone_t *zone,
    ngx_tunnel_series_t *series);
static void ngx_tunnel_zone_retire(ngx_tunnel_zone_t *zone);
static ngx_int_t ngx_tunnel_slot_claim(ngx_tunnel_zone_t *zone);
static ngx_int_t ngx_tunnel_slot_counters(ngx_tunnel_zone_t *zone,
    ngx_tunnel_slot_t *slot);
static void ngx_tunnel_slot_reap(ngx_tunnel_zone_t *zone,
    ngx_tunnel_slot_t *slot);
static void ngx_tunnel_zone_tick(ngx_event_t *ev);


ngx_tunnel_zone_t *
ngx_tunnel_zone_of(ngx_conf_t *cf, ngx_shm_zone_t *shm_zone)
{
    ngx_tunnel_zone_t   *zone;
    ngx_pool_cleanup_t  *cln;

    if (shm_zone->data) {
        return shm_zone->data;
    }

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_tunnel_zone_t));
    if (zone == NULL) {
        return NULL;
    }

    if (ngx_array_init(&zone->series, cf->pool, 4,
                       sizeof(ngx_tunnel_series_t *))
        != NGX_OK
        || ngx_array_init(&zone->workers, cf->pool, 2,
                          sizeof(ngx_tunnel_worker_t *))
           != NGX_OK
        || ngx_array_init(&zone->rules, cf->pool, 4,
                          sizeof(ngx_tunnel_zone_rule_t))
           != NGX_OK)
    {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_tunnel_zone_cleanup;
    cln->data = zone;

    zone->shm_zone = shm_zone;
    zone->cycle = cf->cycle;

    shm_zone->init = ngx_tunnel_zone_init;
    shm_zone->data = zone;

    return zone;
}


/* a single process outlives its configurations */

static void
ngx_tunnel_zone_cleanup(void *data)
{
    ngx_tunnel_zone_t  *zone = data;

    if (zone->timer.timer_set) {
        ngx_del_timer(&zone->timer);
    }

    if (zone->recheck.timer_set) {
        ngx_del_timer(&zone->recheck);
    }
}


static ngx_int_t
ngx_tunnel_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_tunnel_zone_t *old = data;

    ngx_int_t              rc;
    ngx_uint_t             i;
    ngx_tunnel_zone_t     *zone;
    ngx_tunnel_series_t  **series;

    zone = shm_zone->data;
    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (old) {
        zone->sh = old->sh;

        if (zone->sh->layout != NGX_TUNNEL_ZONE_LAYOUT) {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "tunnel_zone \"%V\" was made by another version of "
                          "the module, it needs another name or size",
                          &shm_zone->shm.name);
            return NGX_ERROR;
        }

    } else if (shm_zone->shm.exists) {
        zone->sh = zone->shpool->data;

    } else if (ngx_tunnel_zone_create(zone) != NGX_OK) {
        goto full;
    }

    ngx_shmtx_lock(&zone->shpool->mutex);

    zone->generation = ++zone->sh->generation;

    ngx_tunnel_zone_retire(zone);

    rc = NGX_OK;
    series = zone->series.elts;

    for (i = 0; i < zone->series.nelts && rc == NGX_OK; i++) {
        rc = ngx_tunnel_zone_series(zone, series[i]);
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    zone->reserve = ngx_tunnel_zone_reserve(zone);

    if (rc == NGX_OK && (old || zone->shpool->pfree > zone->reserve)) {
        return NGX_OK;
    }

full:

    ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                  "tunnel_zone \"%V\" is too small", &shm_zone->shm.name);

    return NGX_ERROR;
}


/* pages that the counters of as many workers take as are configured */

static ngx_uint_t
ngx_tunnel_zone_reserve(ngx_tunnel_zone_t *zone)
{
    size_t            size;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(zone->cycle->conf_ctx,
                                           ngx_core_module);

    size = sizeof(ngx_tunnel_slot_t)
           + zone->sh->nseries * sizeof(ngx_tunnel_counters_t *)
           + zone->series.nelts * 1024;

    return ccf->worker_processes * size / ngx_pagesize + 2;
}


static ngx_int_t
ngx_tunnel_zone_create(ngx_tunnel_zone_t *zone)
{
    size_t                     len;
    ngx_str_t                 *name;
    ngx_uint_t                 i;
    ngx_time_t                *tp;
    ngx_slab_pool_t           *shpool;
    ngx_tunnel_zone_shared_t  *sh;

    shpool = zone->shpool;
    name = &zone->shm_zone->shm.name;

    sh = ngx_slab_calloc(shpool, sizeof(ngx_tunnel_zone_shared_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    shpool->data = sh;
    zone->sh = sh;

    sh->layout = NGX_TUNNEL_ZONE_LAYOUT;

    tp = ngx_timeofday();
    sh->start = (uint64_t) tp->sec * 1000 + tp->msec;

    ngx_queue_init(&sh->series);
    ngx_queue_init(&sh->unused);

    /* nginx's own function is there after any reload */

    for (i = 0; i < NGX_TUNNEL_NO_NODE; i++) {
        ngx_rbtree_init(&sh->rbtree[i], &sh->sentinel[i],
                        ngx_str_rbtree_insert_value);
        ngx_queue_init(&sh->nodes[i]);
    }

    len = sizeof(" in tunnel_zone \"\"") + name->len;

    shpool->log_ctx = ngx_slab_alloc(shpool, len);
    if (shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(shpool->log_ctx, " in tunnel_zone \"%V\"%Z", name);

    /* whoever finds no room says so, and less often */

    shpool->log_nomem = 0;

    return NGX_OK;
}


/*
 * A front end and label have a place that workers of several configurations
 * may know; a place that none of them knows any more is another's.
 */

static ngx_int_t
ngx_tunnel_zone_series(ngx_tunnel_zone_t *zone, ngx_tunnel_series_t *series)
{
    u_char                      *data;
    ngx_queue_t                 *q;
    ngx_tunnel_zone_shared_t    *sh;
    ngx_tunnel_shared_series_t  *s;

    sh = zone->sh;

    for (q = ngx_queue_head(&sh->series);
         q != ngx_queue_sentinel(&sh->series);
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_tunnel_shared_series_t, queue);

        if (s->front == series->front
            && s->len == series->label.len
            && ngx_memcmp(s->data, series->label.data, s->len) == 0)
        {
            goto found;
        }
    }

    data = ngx_tunnel_zone_alloc(zone, series->label.len + 1, 0);
    if (data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(data, series->label.data, series->label.len);

    if (ngx_queue_empty(&sh->unused)) {
        s = ngx_tunnel_zone_alloc(zone, sizeof(ngx_tunnel_shared_series_t), 0);
        if (s == NULL) {
            ngx_slab_free_locked(zone->shpool, data);
            return NGX_ERROR;
        }

        s->index = sh->nseries++;

    } else {
        q = ngx_queue_head(&sh->unused);
        ngx_queue_remove(q);

        s = ngx_queue_data(q, ngx_tunnel_shared_series_t, queue);
    }

    s->front = series->front;
    s->len = series->label.len;
    s->data = data;

    ngx_queue_insert_tail(&sh->series, &s->queue);

found:

    s->generation = zone->generation;
    series->index = s->index;

    return NGX_OK;
}


/* those of configurations whose workers have gone */

static void
ngx_tunnel_zone_retire(ngx_tunnel_zone_t *zone)
{
    ngx_uint_t                   i, oldest;
    ngx_queue_t                 *q, *next;
    ngx_tunnel_slot_t           *slot;
    ngx_tunnel_zone_shared_t    *sh;
    ngx_tunnel_shared_series_t  *s;

    sh = zone->sh;

    ngx_tunnel_zone_sweep(zone);

    /* workers of the last one may be there that have no slot yet */

    oldest = zone->generation - 1;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        slot = sh->slots[i];

        if (slot && slot->pid) {
            oldest = ngx_min(oldest, slot->generation);
        }
    }

    for (q = ngx_queue_head(&sh->series);
         q != ngx_queue_sentinel(&sh->series);
         q = next)
    {
        next = ngx_queue_next(q);
        s = ngx_queue_data(q, ngx_tunnel_shared_series_t, queue);

        if (s->generation >= oldest) {
            continue;
        }

        for (i = 0; i < NGX_MAX_PROCESSES; i++) {
            slot = sh->slots[i];

            if (slot && s->index < slot->ncounters
                && slot->counters[s->index])
            {
                ngx_tunnel_counters_add(&sh->gone, slot->counters[s->index]);

                ngx_slab_free_locked(zone->shpool, slot->counters[s->index]);
                slot->counters[s->index] = NULL;
            }
        }

        ngx_slab_free_locked(zone->shpool, s->data);

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&sh->unused, q);
    }
}


/* counters are nothing but numbers of one type */

void
ngx_tunnel_counters_add(ngx_tunnel_counters_t *sum,
    ngx_tunnel_counters_t *counters)
{
    uint64_t    *to, *from;
    ngx_uint_t   i;

    to = (uint64_t *) sum;
    from = (uint64_t *) counters;

    for (i = 0; i < sizeof(ngx_tunnel_counters_t) / sizeof(uint64_t); i++) {
        to[i] += from[i];
    }
}


void
ngx_tunnel_zone_start(ngx_tunnel_zone_t *zone, ngx_cycle_t *cycle)
{
    ngx_int_t                rc;
    ngx_uint_t               i, recheck;
    ngx_tunnel_zone_rule_t  *rules;

    if (ngx_process == NGX_PROCESS_HELPER || zone->slot
        || zone->tried == ngx_time())
    {
        return;
    }

    zone->tried = ngx_time();

    zone->timer.handler = ngx_tunnel_zone_tick;
    zone->timer.data = zone;
    zone->timer.log = cycle->log;
    zone->timer.cancelable = 1;

    zone->recheck.handler = ngx_tunnel_zone_recheck;
    zone->recheck.data = zone;
    zone->recheck.log = cycle->log;
    zone->recheck.cancelable = 1;

    ngx_shmtx_lock(&zone->shpool->mutex);

    rc = ngx_tunnel_slot_claim(zone);

    ngx_shmtx_unlock(&zone->shpool->mutex);

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_CRIT, cycle->log, 0,
                      "tunnel_zone \"%V\" has no room for a worker, whose "
                      "tunnels are not counted", &zone->shm_zone->shm.name);
        return;
    }

    /* one worker is enough for the tunnels of those before */

    recheck = 0;
    rules = zone->rules.elts;

    for (i = 0; i < zone->rules.nelts; i++) {
        recheck |= rules[i].conf->recheck;
    }

    if (recheck && ngx_worker == 0 && zone->generation > 1) {
        ngx_add_timer(&zone->recheck, NGX_TUNNEL_ZONE_TICK);
    }
}


void
ngx_tunnel_zone_exit(ngx_tunnel_zone_t *zone)
{
    if (zone->slot == NULL) {
        return;
    }

    ngx_shmtx_lock(&zone->shpool->mutex);

    ngx_tunnel_slot_reap(zone, zone->slot);

    ngx_shmtx_unlock(&zone->shpool->mutex);

    zone->slot = NULL;
}


/* the master gives a process that it starts anew the place of the old one */

static ngx_int_t
ngx_tunnel_slot_claim(ngx_tunnel_zone_t *zone)
{
    ngx_tunnel_slot_t         *slot;
    ngx_tunnel_zone_shared_t  *sh;

    sh = zone->sh;
    slot = sh->slots[ngx_process_slot];

    if (slot == NULL) {
        slot = ngx_tunnel_zone_alloc(zone, sizeof(ngx_tunnel_slot_t), 0);
        if (slot == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(slot, sizeof(ngx_tunnel_slot_t));
        ngx_queue_init(&slot->chunks);

        sh->slots[ngx_process_slot] = slot;
    }

    if (slot->pid && slot->pid != ngx_pid) {
        ngx_tunnel_slot_reap(zone, slot);
    }

    if (ngx_tunnel_slot_counters(zone, slot) != NGX_OK) {
        return NGX_ERROR;
    }

    slot->pid = ngx_pid;
    slot->generation = zone->generation;

    zone->slot = slot;
    zone->looked = slot->look;

    return NGX_OK;
}


/* there are counters for all that is configured, so all is counted */

static ngx_int_t
ngx_tunnel_slot_counters(ngx_tunnel_zone_t *zone, ngx_tunnel_slot_t *slot)
{
    size_t                     size;
    ngx_uint_t                 i, n;
    ngx_tunnel_series_t      **series;
    ngx_tunnel_counters_t    **counters, *c;
    ngx_tunnel_zone_shared_t  *sh;

    sh = zone->sh;

    if (slot->ncounters < sh->nseries) {

        size = sh->nseries * sizeof(ngx_tunnel_counters_t *);

        counters = ngx_tunnel_zone_alloc(zone, size, 0);
        if (counters == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(counters, size);

        if (slot->counters) {
            ngx_memcpy(counters, slot->counters,
                       slot->ncounters * sizeof(ngx_tunnel_counters_t *));
            ngx_slab_free_locked(zone->shpool, slot->counters);
        }

        slot->counters = counters;
        slot->ncounters = sh->nseries;
    }

    series = zone->series.elts;

    for (i = 0; i < zone->series.nelts; i++) {
        n = series[i]->index;

        if (slot->counters[n]) {
            continue;
        }

        c = ngx_tunnel_zone_alloc(zone, sizeof(ngx_tunnel_counters_t), 0);
        if (c == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(c, sizeof(ngx_tunnel_counters_t));
        slot->counters[n] = c;
    }

    return NGX_OK;
}


/* the process has gone, and with it the tunnels it had */

static void
ngx_tunnel_slot_reap(ngx_tunnel_zone_t *zone, ngx_tunnel_slot_t *slot)
{
    ngx_uint_t                 i;
    ngx_queue_t               *q;
    ngx_tunnel_live_t         *live;
    ngx_tunnel_chunk_t        *chunk;
    ngx_tunnel_counters_t     *counters;
    ngx_tunnel_zone_shared_t  *sh;

    sh = zone->sh;

    for (i = 0; i < slot->ncounters; i++) {
        counters = slot->counters[i];

        if (counters) {
            counters->ended[NGX_TUNNEL_WORKER_EXITED] += counters->active;
            counters->results[NGX_TUNNEL_NO_RESULT] += counters->connecting;
            counters->active = 0;
            counters->connecting = 0;
            counters->memory = 0;
        }
    }

    while (!ngx_queue_empty(&slot->chunks)) {
        q = ngx_queue_head(&slot->chunks);
        ngx_queue_remove(q);

        chunk = ngx_queue_data(q, ngx_tunnel_chunk_t, queue);

        for (i = 0; i < chunk->n; i++) {
            live = &chunk->live[i];

            if (live->id) {
                live->id = 0;
                ngx_tunnel_node_release(zone, live->target, live);
                ngx_tunnel_node_release(zone, live->key, live);
            }
        }

        ngx_slab_free_locked(zone->shpool, chunk);
    }

    (void) ngx_atomic_fetch_add(&sh->connections,
                                -(ngx_atomic_int_t) slot->connections);

    slot->pid = 0;
    slot->nlive = 0;
    slot->connections = 0;
    slot->buffers = 0;
    slot->pipes = 0;
}


void
ngx_tunnel_zone_sweep(ngx_tunnel_zone_t *zone)
{
    ngx_uint_t          i;
    ngx_tunnel_slot_t  *slot;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        slot = zone->sh->slots[i];

        if (slot && slot->pid && kill(slot->pid, 0) == -1
            && ngx_errno == ESRCH)
        {
            ngx_tunnel_slot_reap(zone, slot);
        }
    }
}


/* tunnels that someone else wants to end, and what is sampled */

static void
ngx_tunnel_zone_tick(ngx_event_t *ev)
{
    ngx_uint_t             i;
    ngx_queue_t           *q;
    ngx_tunnel_live_t     *live;
    ngx_tunnel_stat_t     *st;
    ngx_tunnel_slot_t     *slot;
    ngx_tunnel_zone_t     *zone;
    ngx_tunnel_chunk_t    *chunk;
    ngx_tunnel_worker_t  **workers;

    zone = ev->data;
    slot = zone->slot;

    if (zone->looked != slot->look) {
        zone->looked = slot->look;
        ngx_memory_barrier();

        zone->scanning = 1;

        for (q = ngx_queue_head(&slot->chunks);
             q != ngx_queue_sentinel(&slot->chunks);
             q = ngx_queue_next(q))
        {
            chunk = ngx_queue_data(q, ngx_tunnel_chunk_t, queue);

            for (i = 0; i < chunk->n; i++) {
                live = &chunk->live[i];

                if (live->id && live->kill == live->id) {
                    st = live->stat;
                    st->handler(st->data, live->reason);
                }
            }
        }

        zone->scanning = 0;

        ngx_shmtx_lock(&zone->shpool->mutex);
        ngx_tunnel_slot_sort(zone);
        ngx_shmtx_unlock(&zone->shpool->mutex);
    }

    slot->buffers = 0;
    slot->pipes = 0;

    workers = zone->workers.elts;

    for (i = 0; i < zone->workers.nelts; i++) {
        slot->buffers += workers[i]->held;
        slot->pipes += workers[i]->used;
    }

    if (slot->nlive) {
        ngx_add_timer(ev, NGX_TUNNEL_ZONE_TICK);
    }
}


void
ngx_tunnel_zone_end_soon(ngx_tunnel_slot_t *slot, ngx_tunnel_live_t *live,
    ngx_tunnel_reason_e reason)
{
    live->reason = reason;
    live->kill = live->id;

    (void) ngx_atomic_fetch_add(&slot->look, 1);
}
