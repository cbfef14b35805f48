
/*
 * What is in the shared memory of a zone; for the zone's own files.
 */


#ifndef _NGX_TUNNEL_SHARED_H_INCLUDED_
#define _NGX_TUNNEL_SHARED_H_INCLUDED_


#include "ngx_tunnel_zone.h"


#pragma GCC visibility push(hidden)


/* how often a worker looks whether tunnels of its own are to end, msec */

#define NGX_TUNNEL_ZONE_TICK     250

/* entries of the table come by the page */

typedef struct {
    ngx_queue_t                   queue;
    ngx_tunnel_live_t            *free;
    ngx_uint_t                    used;
    ngx_uint_t                    n;             /* of live */
    ngx_tunnel_live_t             live[1];
} ngx_tunnel_chunk_t;


typedef enum {
    NGX_TUNNEL_NODE_TARGET = 0,
    NGX_TUNNEL_NODE_KEY,
    NGX_TUNNEL_NO_NODE
} ngx_tunnel_node_e;


/* of a target, or of a key */

struct ngx_tunnel_node_s {
    ngx_str_node_t                sn;            /* the name is data */

    union {
        ngx_queue_t               queue;         /* if no tunnel holds it */

        struct {
            uint64_t              received;      /* of open ones, for those */
            uint64_t              sent;          /* who add up */
        } moving;
    } u;

    uint32_t                      kind;          /* ngx_tunnel_node_e */
    uint32_t                      active;        /* tunnels that hold it */
    uint64_t                      opened;
    uint64_t                      received;      /* bytes of ended ones */
    uint64_t                      sent;
    u_char                        data[1];
};


typedef struct {
    ngx_queue_t                   queue;
    ngx_tunnel_front_e            front;
    ngx_uint_t                    index;
    ngx_uint_t                    generation;    /* the last that had it */
    size_t                        len;
    u_char                       *data;          /* the label */
} ngx_tunnel_shared_series_t;


/* a worker's; the process that comes next goes on with it */

typedef struct {
    ngx_pid_t                     pid;           /* 0: nobody's */
    ngx_uint_t                    generation;    /* of its configuration */
    ngx_uint_t                    nlive;
    uint64_t                      connections;
    uint64_t                      buffers;
    uint64_t                      pipes;
    ngx_queue_t                   chunks;        /* those with free entries
                                                    are the first */
    ngx_tunnel_counters_t       **counters;      /* by series, or NULL */
    ngx_uint_t                    ncounters;
    ngx_atomic_t                  look;          /* changes if there is one */
} ngx_tunnel_slot_t;


/*
 * Of what is in the memory: after an upgrade of the module, a reload may find
 * what another version of it made.
 */

#define NGX_TUNNEL_ZONE_LAYOUT                                                \
    (1 + sizeof(ngx_tunnel_live_t) * 8 + sizeof(ngx_tunnel_counters_t) * 65536)


typedef struct {
    ngx_uint_t                    layout;
    ngx_atomic_t                  connections;
    uint64_t                      start;         /* msec since the epoch */
    uint64_t                      untracked;
    ngx_uint_t                    generation;

    ngx_queue_t                   series;
    ngx_queue_t                   unused;        /* series */
    ngx_uint_t                    nseries;       /* of both */
    ngx_tunnel_counters_t         gone;          /* of series that went */

    ngx_rbtree_t                  rbtree[NGX_TUNNEL_NO_NODE];
    ngx_rbtree_node_t             sentinel[NGX_TUNNEL_NO_NODE];
    ngx_queue_t                   nodes[NGX_TUNNEL_NO_NODE];
                                                 /* that no tunnel holds, the
                                                    last used one first */
    ngx_uint_t                    nnodes[NGX_TUNNEL_NO_NODE];
    ngx_uint_t                    max[NGX_TUNNEL_NO_NODE];

    ngx_tunnel_slot_t            *slots[NGX_MAX_PROCESSES];
} ngx_tunnel_zone_shared_t;


/* rules that are asked again */

typedef struct {
    ngx_tunnel_stat_conf_t       *conf;
    ngx_tunnel_zone_check_pt      check;
    void                         *data;
} ngx_tunnel_zone_rule_t;


struct ngx_tunnel_zone_s {
    ngx_shm_zone_t               *shm_zone;
    ngx_tunnel_zone_shared_t     *sh;
    ngx_slab_pool_t              *shpool;
    ngx_uint_t                    generation;
    ngx_cycle_t                  *cycle;
    ngx_uint_t                    reserve;       /* pages */

    ngx_array_t                   series;        /* ngx_tunnel_series_t * */
    ngx_array_t                   workers;       /* ngx_tunnel_worker_t * */
    ngx_array_t                   rules;         /* ngx_tunnel_zone_rule_t */

    /* of this process */

    ngx_tunnel_slot_t            *slot;
    ngx_uint_t                    looked;
    ngx_event_t                   timer;
    ngx_event_t                   recheck;
    time_t                        tried;         /* to have a slot */
    ngx_uint_t                    scanning;      /* the chunks stay */
    time_t                        swept;
    time_t                        full;          /* when that was logged */
    ngx_tunnel_live_t             untracked;     /* of tunnels that are not in
                                                    the table */
};


/* the zone of shared memory that is configured */

ngx_tunnel_zone_t *ngx_tunnel_zone_of(ngx_conf_t *cf,
    ngx_shm_zone_t *shm_zone);

/* all with the mutex held; memory that leaves so many pages free */

void *ngx_tunnel_zone_alloc(ngx_tunnel_zone_t *zone, size_t size,
    ngx_uint_t reserve);

/*
 * An entry of the worker's own in the table, NULL if there is no room; while
 * the worker looks at all of them, zone->scanning, ngx_tunnel_live_put()
 * leaves their pages for ngx_tunnel_slot_sort() to see to.
 */

ngx_tunnel_live_t *ngx_tunnel_live_get(ngx_tunnel_zone_t *zone);
void ngx_tunnel_live_put(ngx_tunnel_zone_t *zone, ngx_tunnel_live_t *live);
void ngx_tunnel_slot_sort(ngx_tunnel_zone_t *zone);

/*
 * One more tunnel of a target or a key, of which at most so many are known;
 * NULL if there is no room.  Such a tunnel is gone, with what it has moved.
 */

ngx_tunnel_node_t *ngx_tunnel_node_get(ngx_tunnel_zone_t *zone,
    ngx_tunnel_node_e kind, ngx_str_t *name, ngx_uint_t max);
void ngx_tunnel_node_release(ngx_tunnel_zone_t *zone, ngx_tunnel_node_t *node,
    ngx_tunnel_live_t *live);

/*
 * Puts right what workers that died have left; has a tunnel end in its worker;
 * and adds counters up.
 */

void ngx_tunnel_zone_sweep(ngx_tunnel_zone_t *zone);
void ngx_tunnel_zone_end_soon(ngx_tunnel_slot_t *slot,
    ngx_tunnel_live_t *live, ngx_tunnel_reason_e reason);

void ngx_tunnel_counters_add(ngx_tunnel_counters_t *sum,
    ngx_tunnel_counters_t *counters);

/* for the timer of a worker that has a configuration newer than others' */

void ngx_tunnel_zone_recheck(ngx_event_t *ev);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_SHARED_H_INCLUDED_ */
