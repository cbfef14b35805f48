
/*
 * Zone: counters and the table of open tunnels.
 */


#include "ngx_tunnel_shared.h"


/* targets that are known, at most */

#define NGX_TUNNEL_ZONE_TARGETS  1000

/* nodes that are given up at once when memory is short */

#define NGX_TUNNEL_ZONE_EXPIRE   16


static void ngx_tunnel_zone_cleanup(void *data);
static ngx_int_t ngx_tunnel_zone_init(ngx_shm_zone_t *shm_zone, void *data);
static ngx_uint_t ngx_tunnel_zone_reserve(ngx_tunnel_zone_t *zone);
static ngx_int_t ngx_tunnel_zone_create(ngx_tunnel_zone_t *zone);
static ngx_int_t ngx_tunnel_zone_series(ngx_tunnel_zone_t *zone,
    ngx_tunnel_series_t *series);
static void ngx_tunnel_zone_retire(ngx_tunnel_zone_t *zone);
static ngx_int_t ngx_tunnel_slot_claim(ngx_tunnel_zone_t *zone);
static void ngx_tunnel_slot_reap(ngx_tunnel_zone_t *zone,
    ngx_tunnel_slot_t *slot);
static void ngx_tunnel_zone_tick(ngx_event_t *ev);
static ngx_int_t ngx_tunnel_slot_counters(ngx_tunnel_zone_t *zone,
    ngx_tunnel_slot_t *slot);
static ngx_int_t ngx_tunnel_stat_init(ngx_tunnel_stat_t *st,
    ngx_tunnel_stat_conf_t *conf);
static ngx_tunnel_live_t *ngx_tunnel_live_get(ngx_tunnel_zone_t *zone);
static ngx_tunnel_chunk_t *ngx_tunnel_chunk_create(ngx_tunnel_zone_t *zone);
static void ngx_tunnel_slot_sort(ngx_tunnel_zone_t *zone);
static void ngx_tunnel_live_put(ngx_tunnel_zone_t *zone,
    ngx_tunnel_live_t *live);
static void ngx_tunnel_node_release(ngx_tunnel_zone_t *zone,
    ngx_tunnel_node_t *node, ngx_tunnel_live_t *live);
static ngx_tunnel_node_t *ngx_tunnel_node_get(ngx_tunnel_zone_t *zone,
    ngx_tunnel_node_e kind, ngx_str_t *name, ngx_uint_t max);
static ngx_tunnel_node_t *ngx_tunnel_node_lookup(ngx_tunnel_zone_t *zone,
    ngx_tunnel_node_e kind, ngx_str_t *name, uint32_t hash);
static ngx_uint_t ngx_tunnel_node_expire(ngx_tunnel_zone_t *zone,
    ngx_tunnel_node_e kind, ngx_uint_t n);
static void *ngx_tunnel_zone_alloc(ngx_tunnel_zone_t *zone, size_t size,
    ngx_uint_t reserve);
static void ngx_tunnel_node_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_int_t ngx_tunnel_node_compare(ngx_tunnel_node_e kind,
    ngx_str_t *name, ngx_tunnel_node_t *node);


const ngx_str_t  ngx_tunnel_fronts[] = {
    ngx_string("connect"),
    ngx_string("socks"),
    ngx_string("passthrough")
};


const ngx_str_t  ngx_tunnel_dns_outcomes[] = {
    ngx_string("answered"),
    ngx_string("cached"),
    ngx_string("failed"),
    ngx_string("timeout")
};


const ngx_tunnel_bounds_t  ngx_tunnel_histograms[] = {

    { ngx_string("connect_time"),
      { 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000 } },

    { ngx_string("resolve_time"),
      { 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000 } },

    { ngx_string("first_byte_time"),
      { 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000 } },

    { ngx_string("lifetime"),
      { 100, 1000, 5000, 10000, 30000, 60000, 300000, 600000, 1800000,
        3600000, 21600000, 86400000 } },

    { ngx_string("size"),
      { 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216,
        67108864, 268435456, 1073741824, 4294967296 } }
};


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

    ngx_rbtree_init(&sh->rbtree, &sh->sentinel, ngx_tunnel_node_insert);

    for (i = 0; i < NGX_TUNNEL_NO_NODE; i++) {
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

    oldest = zone->generation;

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


static ngx_int_t
ngx_tunnel_stat_init(ngx_tunnel_stat_t *st, ngx_tunnel_stat_conf_t *conf)
{
    ngx_tunnel_zone_t  *zone;

    if (conf->series == NULL) {
        return NGX_DECLINED;
    }

    zone = conf->zone->data;

    if (zone->slot == NULL) {

        /*
         * a single process does not start anew with its configuration, and a
         * worker that had no room may have it now
         */

        ngx_tunnel_zone_start(zone, (ngx_cycle_t *) ngx_cycle);

        if (zone->slot == NULL) {
            return NGX_DECLINED;
        }
    }

    st->zone = zone;
    st->counters = zone->slot->counters[conf->series->index];

    return NGX_OK;
}


void
ngx_tunnel_stat_result(ngx_tunnel_stat_t *st, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_result_e result)
{
    ngx_tunnel_stat_t  none;

    if (st->counters == NULL) {

        /* it is refused before it has begun */

        st = &none;

        if (ngx_tunnel_stat_init(st, conf) != NGX_OK) {
            return;
        }

        st->connecting = 0;
    }

    st->counters->results[result]++;

    if (st->connecting) {
        st->connecting = 0;
        st->counters->connecting--;
    }
}


ngx_int_t
ngx_tunnel_stat_enter(ngx_tunnel_stat_t *st, ngx_tunnel_stat_conf_t *conf)
{
    ngx_uint_t                 n;
    ngx_tunnel_zone_t         *zone;
    ngx_tunnel_zone_shared_t  *sh;

    if (ngx_tunnel_stat_init(st, conf) != NGX_OK) {

        /* a limit that can't be seen to is not let go */

        return conf->max_connections ? NGX_BUSY : NGX_OK;
    }

    zone = st->zone;
    sh = zone->sh;

    n = ngx_atomic_fetch_add(&sh->connections, 1);

    if (conf->max_connections && n >= conf->max_connections
        && zone->swept != ngx_time())
    {
        /* maybe some of them are of a worker that died */

        zone->swept = ngx_time();

        ngx_shmtx_lock(&zone->shpool->mutex);
        ngx_tunnel_zone_sweep(zone);
        ngx_shmtx_unlock(&zone->shpool->mutex);

        n = sh->connections - 1;
    }

    if (conf->max_connections && n >= conf->max_connections) {
        (void) ngx_atomic_fetch_add(&sh->connections, -1);
        return NGX_BUSY;
    }

    zone->slot->connections++;
    st->counters->connecting++;

    st->entered = 1;
    st->connecting = 1;

    return NGX_OK;
}


void
ngx_tunnel_stat_leave(ngx_tunnel_stat_t *st)
{
    if (st->connecting) {
        ngx_tunnel_stat_result(st, NULL, NGX_TUNNEL_NO_RESULT);
    }

    if (st->entered) {
        st->entered = 0;

        st->zone->slot->connections--;
        (void) ngx_atomic_fetch_add(&st->zone->sh->connections, -1);
    }

    st->counters = NULL;
}


void
ngx_tunnel_stat_observe(ngx_tunnel_stat_t *st,
    ngx_tunnel_histogram_e histogram, uint64_t value)
{
    ngx_uint_t               i;
    const uint64_t          *bounds;
    ngx_tunnel_histogram_t  *h;

    if (st->counters == NULL) {
        return;
    }

    h = &st->counters->histograms[histogram];
    bounds = ngx_tunnel_histograms[histogram].bounds;

    for (i = 0; bounds[i] && value > bounds[i]; i++) { /* void */ }

    /* the last one is that of all that is greater */

    h->buckets[i]++;
    h->count++;
    h->sum += value;
}


void
ngx_tunnel_stat_dns(ngx_tunnel_stat_t *st, ngx_tunnel_dns_e outcome)
{
    if (st->counters) {
        st->counters->dns[outcome]++;
    }
}


void
ngx_tunnel_stat_open(ngx_tunnel_stat_t *st, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_opened_t *opened, ngx_log_t *log)
{
    ngx_time_t         *tp;
    ngx_tunnel_live_t  *live;
    ngx_tunnel_zone_t  *zone;

    if (st->counters == NULL) {
        return;
    }

    zone = st->zone;

    st->active = 1;
    st->memory = opened->memory;

    st->counters->active++;
    st->counters->opened++;
    st->counters->memory += st->memory;

    ngx_shmtx_lock(&zone->shpool->mutex);

    live = ngx_tunnel_live_get(zone);

    if (live) {
        live->target = ngx_tunnel_node_get(zone, NGX_TUNNEL_NODE_TARGET,
                                           opened->target,
                                           NGX_TUNNEL_ZONE_TARGETS);
        if (live->target == NULL) {
            ngx_tunnel_live_put(zone, live);
            live = NULL;
        }
    }

    if (live) {
        live->key = opened->key.len
                    ? ngx_tunnel_node_get(zone, NGX_TUNNEL_NODE_KEY,
                                          &opened->key, conf->keys)
                    : NULL;

        tp = ngx_timeofday();

        live->received = 0;
        live->sent = 0;
        live->active = ngx_current_msec;
        live->start = (uint64_t) tp->sec * 1000 + tp->msec;
        live->begin = ngx_current_msec;
        live->stat = st;
        live->series = conf->series->index;
        live->generation = zone->generation;
        live->checked = opened->exempt ? (ngx_uint_t) -1 : zone->generation;
        live->named = opened->named;
        live->trusted = opened->trusted;

        ngx_memcpy(live->limits, opened->policy, sizeof(live->limits));

        live->client_len = (u_char) ngx_min(opened->client.len,
                                            NGX_TUNNEL_CLIENT_LEN);
        live->address_len = (u_char) ngx_min(opened->address->len,
                                             NGX_TUNNEL_ADDRESS_LEN);

        if (live->client_len) {
            ngx_memcpy(live->client, opened->client.data, live->client_len);
        }

        if (live->address_len) {
            ngx_memcpy(live->address, opened->address->data,
                       live->address_len);
        }

        live->kill = 0;
        live->id = opened->id;

    } else {
        zone->sh->untracked++;
    }

    ngx_shmtx_unlock(&zone->shpool->mutex);

    if (live == NULL) {
        live = &zone->untracked;

        if (zone->full != ngx_time()) {
            zone->full = ngx_time();

            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "tunnel_zone \"%V\" is full, not all open tunnels "
                          "are in its table", &zone->shm_zone->shm.name);
        }
    }

    st->live = live;

    if (!zone->timer.timer_set) {
        ngx_add_timer(&zone->timer, NGX_TUNNEL_ZONE_TICK);
    }
}


void
ngx_tunnel_stat_end(ngx_tunnel_stat_t *st, ngx_tunnel_reason_e reason,
    ngx_msec_t lifetime)
{
    ngx_tunnel_zone_t  *zone;

    if (!st->active) {
        return;
    }

    zone = st->zone;

    st->active = 0;

    st->counters->active--;
    st->counters->ended[reason]++;
    st->counters->memory -= st->memory;

    ngx_tunnel_stat_observe(st, NGX_TUNNEL_LIFETIMES, lifetime);

    if (st->live != &zone->untracked) {

        ngx_shmtx_lock(&zone->shpool->mutex);

        /* once, also if this worker is killed here */

        st->live->id = 0;
        ngx_memory_barrier();

        ngx_tunnel_node_release(zone, st->live->target, st->live);
        ngx_tunnel_node_release(zone, st->live->key, st->live);

        ngx_tunnel_live_put(zone, st->live);

        ngx_shmtx_unlock(&zone->shpool->mutex);
    }

    st->live = NULL;
}


static ngx_tunnel_live_t *
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

static void
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


/* what ngx_tunnel_live_put() has left */

static void
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


/* one more tunnel of a target or a key; NULL if there is no room */

static ngx_tunnel_node_t *
ngx_tunnel_node_get(ngx_tunnel_zone_t *zone, ngx_tunnel_node_e kind,
    ngx_str_t *name, ngx_uint_t max)
{
    size_t                     len;
    uint32_t                   hash;
    ngx_rbtree_node_t         *rn;
    ngx_tunnel_node_t         *node;
    ngx_tunnel_zone_shared_t  *sh;

    sh = zone->sh;
    sh->max[kind] = max;

    hash = ngx_crc32_short(name->data, name->len) ^ kind;

    node = ngx_tunnel_node_lookup(zone, kind, name, hash);

    if (node) {

        if (node->active == 0) {
            ngx_queue_remove(&node->queue);
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

    len = offsetof(ngx_rbtree_node_t, color)
          + offsetof(ngx_tunnel_node_t, data) + name->len;

    rn = ngx_tunnel_zone_alloc(zone, len, zone->reserve);
    if (rn == NULL) {
        return NULL;
    }

    rn->key = hash;

    node = (ngx_tunnel_node_t *) &rn->color;

    node->kind = (u_char) kind;
    node->len = (u_short) name->len;
    node->active = 0;
    node->opened = 0;
    node->received = 0;
    node->sent = 0;
    ngx_memcpy(node->data, name->data, name->len);

    /* the module that made the tree may be loaded no more */

    sh->rbtree.insert = ngx_tunnel_node_insert;

    ngx_rbtree_insert(&sh->rbtree, rn);
    sh->nnodes[kind]++;

found:

    node->active++;
    node->opened++;

    return node;
}


static void
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

    ngx_queue_insert_head(&sh->nodes[node->kind], &node->queue);

    if (sh->nnodes[node->kind] > sh->max[node->kind]) {
        (void) ngx_tunnel_node_expire(zone, node->kind, 1);
    }
}


static ngx_tunnel_node_t *
ngx_tunnel_node_lookup(ngx_tunnel_zone_t *zone, ngx_tunnel_node_e kind,
    ngx_str_t *name, uint32_t hash)
{
    ngx_int_t           rc;
    ngx_rbtree_node_t  *rn, *sentinel;

    rn = zone->sh->rbtree.root;
    sentinel = zone->sh->rbtree.sentinel;

    while (rn != sentinel) {

        if (hash != rn->key) {
            rn = (hash < rn->key) ? rn->left : rn->right;
            continue;
        }

        rc = ngx_tunnel_node_compare(kind, name,
                                     (ngx_tunnel_node_t *) &rn->color);

        if (rc == 0) {
            return (ngx_tunnel_node_t *) &rn->color;
        }

        rn = (rc < 0) ? rn->left : rn->right;
    }

    return NULL;
}


/* forgets up to n that no tunnel holds, least recently used; how many */

static ngx_uint_t
ngx_tunnel_node_expire(ngx_tunnel_zone_t *zone, ngx_tunnel_node_e kind,
    ngx_uint_t n)
{
    ngx_uint_t                 i;
    ngx_queue_t               *q;
    ngx_rbtree_node_t         *rn;
    ngx_tunnel_node_t         *node;
    ngx_tunnel_zone_shared_t  *sh;

    sh = zone->sh;

    for (i = 0; i < n && !ngx_queue_empty(&sh->nodes[kind]); i++) {

        q = ngx_queue_last(&sh->nodes[kind]);
        node = ngx_queue_data(q, ngx_tunnel_node_t, queue);

        rn = (ngx_rbtree_node_t *)
                 ((u_char *) node - offsetof(ngx_rbtree_node_t, color));

        ngx_queue_remove(q);
        ngx_rbtree_delete(&sh->rbtree, rn);
        ngx_slab_free_locked(zone->shpool, rn);

        sh->nnodes[kind]--;
    }

    return i;
}


/*
 * What is only for the top lists makes room; and the table leaves so many pages
 * for the counters of workers to come.
 */

static void *
ngx_tunnel_zone_alloc(ngx_tunnel_zone_t *zone, size_t size, ngx_uint_t reserve)
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


static void
ngx_tunnel_node_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_str_t            name;
    ngx_rbtree_node_t  **p;
    ngx_tunnel_node_t   *n, *t;

    n = (ngx_tunnel_node_t *) &node->color;

    ngx_tunnel_node_name(n, &name);

    for ( ;; ) {

        if (node->key != temp->key) {
            p = (node->key < temp->key) ? &temp->left : &temp->right;

        } else {
            t = (ngx_tunnel_node_t *) &temp->color;

            p = (ngx_tunnel_node_compare(n->kind, &name, t) < 0)
                ? &temp->left : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


static ngx_int_t
ngx_tunnel_node_compare(ngx_tunnel_node_e kind, ngx_str_t *name,
    ngx_tunnel_node_t *node)
{
    if (kind != (ngx_tunnel_node_e) node->kind) {
        return (kind < (ngx_tunnel_node_e) node->kind) ? -1 : 1;
    }

    return ngx_memn2cmp(name->data, node->data, name->len,
                        (size_t) node->len);
}
