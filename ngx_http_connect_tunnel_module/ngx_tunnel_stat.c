
/*
 * Zone: how the attempts and tunnels of a worker are counted.
 */


#include "ngx_tunnel_shared.h"


/* targets that are known, at most, but for those of open tunnels */

#define NGX_TUNNEL_ZONE_TARGETS  1000


static ngx_int_t ngx_tunnel_stat_init(ngx_tunnel_stat_t *st,
    ngx_tunnel_stat_conf_t *conf);


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

        /* an exiting process has given back what it had */

        if (st->zone->slot) {
            st->zone->slot->connections--;
            (void) ngx_atomic_fetch_add(&st->zone->sh->connections, -1);
        }
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

    zone = st->zone;

    if (!st->active || zone->slot == NULL) {
        return;
    }

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
