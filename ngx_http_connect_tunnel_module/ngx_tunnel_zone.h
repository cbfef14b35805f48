
/*
 * Zone: what all tunnels of all workers count, and the table of those that
 * are open, in shared memory.
 *
 * A worker counts in memory of its own there, so bytes are counted without a
 * lock and without a cache line that others write.  To open or to end a
 * tunnel changes the table and takes the zone's mutex.  What a worker that
 * died has left behind is put right by whoever looks next.
 */


#ifndef _NGX_TUNNEL_ZONE_H_INCLUDED_
#define _NGX_TUNNEL_ZONE_H_INCLUDED_


#include "ngx_tunnel_conf.h"
#include "ngx_tunnel_policy.h"
#include "ngx_tunnel_worker.h"


#pragma GCC visibility push(hidden)


/* http and stream may share a zone, if they agree on what is in it */

#define NGX_TUNNEL_ZONE_TAG   ((void *) ((u_char *) &ngx_core_module + 1))


typedef enum {
    NGX_TUNNEL_CONNECT_FRONT = 0,
    NGX_TUNNEL_SOCKS_FRONT,
    NGX_TUNNEL_PASSTHROUGH_FRONT,
    NGX_TUNNEL_NO_FRONT
} ngx_tunnel_front_e;


typedef enum {
    NGX_TUNNEL_DNS_ANSWERED = 0,
    NGX_TUNNEL_DNS_CACHED,
    NGX_TUNNEL_DNS_FAILED,
    NGX_TUNNEL_DNS_TIMEOUT,
    NGX_TUNNEL_NO_DNS
} ngx_tunnel_dns_e;


typedef enum {
    NGX_TUNNEL_CONNECT_TIMES = 0,                /* msec */
    NGX_TUNNEL_RESOLVE_TIMES,
    NGX_TUNNEL_FIRST_BYTE_TIMES,
    NGX_TUNNEL_LIFETIMES,
    NGX_TUNNEL_SIZES,                            /* bytes, both ways */
    NGX_TUNNEL_NO_HISTOGRAM
} ngx_tunnel_histogram_e;


#define NGX_TUNNEL_BUCKETS    13


typedef struct {
    uint64_t                      count;         /* in a snapshot */
    uint64_t                      sum;
    uint64_t                      buckets[NGX_TUNNEL_BUCKETS];
} ngx_tunnel_histogram_t;


/* upper bounds, a 0 behind the last one, and the name of a histogram */

typedef struct {
    ngx_str_t                     name;
    uint64_t                      bounds[NGX_TUNNEL_BUCKETS];
} ngx_tunnel_bounds_t;


/*
 * Of a front end and label; all but the first three only grow.  The slab has
 * 1024 bytes for it.
 */

typedef struct {
    uint64_t                      connecting;
    uint64_t                      active;
    uint64_t                      memory;        /* bytes, of open tunnels */

    uint64_t                      opened;
    uint64_t                      received;      /* bytes, from clients */
    uint64_t                      sent;          /* bytes, to clients */
    uint64_t                      spliced;       /* bytes of both */

    uint64_t                      dns[NGX_TUNNEL_NO_DNS];
    uint64_t                      results[NGX_TUNNEL_NO_RESULT + 1];
    uint64_t                      ended[NGX_TUNNEL_NO_REASON];

    ngx_tunnel_histogram_t        histograms[NGX_TUNNEL_NO_HISTOGRAM];
} ngx_tunnel_counters_t;


typedef struct ngx_tunnel_zone_s  ngx_tunnel_zone_t;
typedef struct ngx_tunnel_node_s  ngx_tunnel_node_t;
typedef struct ngx_tunnel_stat_s  ngx_tunnel_stat_t;


/* of keys, longer ones are cut */

#define NGX_TUNNEL_KEY_LEN      255

#define NGX_TUNNEL_CLIENT_LEN   NGX_INET6_ADDRSTRLEN
#define NGX_TUNNEL_ADDRESS_LEN  64


/*
 * An open tunnel in the table; the worker it is of writes it, but for kill and
 * what follows that.
 */

typedef struct ngx_tunnel_live_s  ngx_tunnel_live_t;

struct ngx_tunnel_live_s {
    uint64_t                      received;      /* bytes, from the client */
    uint64_t                      sent;          /* and to it */
    ngx_msec_t                    active;        /* when they last moved */

    uint64_t                      id;            /* 0: the entry is free */
    uint64_t                      start;         /* msec since the epoch */
    ngx_msec_t                    begin;         /* the same, to compare */
    ngx_tunnel_node_t            *target;
    ngx_tunnel_node_t            *key;           /* or NULL */
    ngx_tunnel_stat_t            *stat;          /* in its worker's memory */
    ngx_tunnel_live_t            *next;          /* free one of its chunk */
    ngx_uint_t                    series;
    ngx_uint_t                    generation;    /* of the configuration */
    off_t                         limits[NGX_TUNNEL_POLICY_LIMITS];
    unsigned                      named:1;       /* the target is host:port */
    unsigned                      trusted:1;     /* see the rules */
    u_char                        client_len;    /* 0: not to be known */
    u_char                        address_len;
    u_char                        client[NGX_TUNNEL_CLIENT_LEN];
    u_char                        address[NGX_TUNNEL_ADDRESS_LEN];

    uint64_t                      kill;          /* the id that is to end */
    ngx_uint_t                    reason;        /* for that */
    ngx_uint_t                    checked;       /* by that generation */
};


/* a front end and label, of the configuration */

typedef struct {
    ngx_tunnel_front_e            front;
    ngx_str_t                     label;
    ngx_uint_t                    index;         /* in the zone */
} ngx_tunnel_series_t;


/* whether rules refuse a tunnel of another configuration, see zone_check */

typedef ngx_uint_t (*ngx_tunnel_zone_check_pt)(void *data, ngx_str_t *target,
    ngx_str_t *address, ngx_uint_t named, ngx_uint_t trusted, ngx_log_t *log);


/* of a configuration level */

typedef struct {
    ngx_shm_zone_t               *zone;          /* NULL: off */
    ngx_str_t                     label;         /* data is NULL: not set */
    void                         *key;           /* compiled, or NULL */
    ngx_uint_t                    keys;          /* at most */
    ngx_uint_t                    max_connections;
    ngx_msec_t                    log_interval;
    ngx_flag_t                    recheck;
    ngx_tunnel_series_t          *series;        /* NULL: no front end here */
} ngx_tunnel_stat_conf_t;


/*
 * Directive handlers: cmd->offset is that of the ngx_tunnel_stat_conf_t, and
 * cmd->post the layer.
 */

char *ngx_tunnel_zone_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_tunnel_zone_key_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_zone_label_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_zone_interval_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

void ngx_tunnel_stat_conf_create(ngx_tunnel_stat_conf_t *conf);

/* returns NULL, or an error for the configuration to report */

char *ngx_tunnel_stat_conf_merge(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_stat_conf_t *prev);

/*
 * Has a level that tunnels may be of count them: label is the one by default.
 * Adds the zone to the array, if it is not there.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_tunnel_zone_add(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_front_e front, ngx_str_t *label, ngx_array_t *zones);

/* and has that level's rules asked for tunnels of the configuration before */

ngx_int_t ngx_tunnel_zone_check(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_zone_check_pt check, void *data);

/* whose buffers and pipes are shown; NGX_OK or NGX_ERROR */

ngx_int_t ngx_tunnel_zone_worker(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_worker_t *worker);


/* for each zone when a worker starts, and when it exits */

void ngx_tunnel_zone_start(ngx_tunnel_zone_t *zone, ngx_cycle_t *cycle);
void ngx_tunnel_zone_exit(ngx_tunnel_zone_t *zone);


/* ends a tunnel of this worker */

typedef void (*ngx_tunnel_stat_pt)(void *data, ngx_tunnel_reason_e reason);


/* of one session; all is private, zeroes at first */

struct ngx_tunnel_stat_s {
    ngx_tunnel_zone_t            *zone;
    ngx_tunnel_counters_t        *counters;      /* NULL: nothing is counted */
    ngx_tunnel_live_t            *live;
    ngx_tunnel_stat_pt            handler;
    void                         *data;
    uint64_t                      memory;        /* bytes */
    unsigned                      entered:1;     /* is one of the zone's
                                                    connections */
    unsigned                      connecting:1;
    unsigned                      active:1;
};


/*
 * An attempt that has come to a result, or been given up before there was one
 * (NGX_TUNNEL_NO_RESULT).
 */

void ngx_tunnel_stat_result(ngx_tunnel_stat_t *st,
    ngx_tunnel_stat_conf_t *conf, ngx_tunnel_result_e result);

/*
 * An attempt begins: NGX_OK, or NGX_BUSY if there are too many connections.
 * ngx_tunnel_stat_leave() is for when it is over in whatever way, and safe in
 * any state.
 */

ngx_int_t ngx_tunnel_stat_enter(ngx_tunnel_stat_t *st,
    ngx_tunnel_stat_conf_t *conf);
void ngx_tunnel_stat_leave(ngx_tunnel_stat_t *st);

/* one more value; msec or bytes */

void ngx_tunnel_stat_observe(ngx_tunnel_stat_t *st,
    ngx_tunnel_histogram_e histogram, uint64_t value);
void ngx_tunnel_stat_dns(ngx_tunnel_stat_t *st, ngx_tunnel_dns_e outcome);


/* what is known of a tunnel that opens */

typedef struct {
    uint64_t                      id;
    ngx_str_t                    *target;
    ngx_str_t                    *address;
    ngx_str_t                     client;        /* empty: anonymous */
    ngx_str_t                     key;           /* empty: none */
    ngx_tunnel_policy_t          *policy;
    uint64_t                      memory;
    ngx_uint_t                    named;         /* the target is host:port */
    ngx_uint_t                    trusted;
    ngx_uint_t                    exempt;        /* rules are not asked again,
                                                    or for each datagram */
} ngx_tunnel_opened_t;


/*
 * A tunnel has opened, which the handler ends.  It is to be ended with
 * ngx_tunnel_stat_end() before ngx_tunnel_stat_leave().
 */

void ngx_tunnel_stat_open(ngx_tunnel_stat_t *st, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_opened_t *opened, ngx_log_t *log);
void ngx_tunnel_stat_end(ngx_tunnel_stat_t *st, ngx_tunnel_reason_e reason,
    ngx_msec_t lifetime);


/* bytes have moved; for each read and write */

#define ngx_tunnel_stat_received(st, n)                                       \
    (st)->counters->received += n;                                            \
    (st)->live->received += n;                                                \
    (st)->live->active = ngx_current_msec

#define ngx_tunnel_stat_sent(st, n)                                           \
    (st)->counters->sent += n;                                                \
    (st)->live->sent += n;                                                    \
    (st)->live->active = ngx_current_msec

#define ngx_tunnel_stat_spliced(st, n)  (st)->counters->spliced += n


/* what a zone holds, copied; strings end with their len */

typedef struct {
    ngx_pid_t                     pid;
    uint64_t                      connecting;
    uint64_t                      active;
    uint64_t                      memory;
    uint64_t                      buffers;       /* bytes tunnels hold */
    uint64_t                      pipes;
} ngx_tunnel_snapshot_worker_t;


typedef struct {
    ngx_tunnel_front_e            front;         /* NGX_TUNNEL_NO_FRONT: this
                                                    one is not to be shown */
    ngx_str_t                     label;
    ngx_tunnel_counters_t         counters;
} ngx_tunnel_snapshot_series_t;


typedef struct {
    ngx_str_t                     name;
    uint64_t                      active;
    uint64_t                      opened;
    uint64_t                      received;
    uint64_t                      sent;
} ngx_tunnel_snapshot_node_t;


typedef struct {
    ngx_tunnel_live_t             live;          /* its pointers are not to be
                                                    followed */
    ngx_pid_t                     pid;
    ngx_str_t                     target;
    ngx_str_t                     key;
} ngx_tunnel_snapshot_live_t;


typedef struct {
    ngx_str_t                     name;
    size_t                        size;
    size_t                        free;
    uint64_t                      untracked;
    uint64_t                      start;         /* msec since the epoch */
    ngx_tunnel_counters_t         total;
    ngx_array_t                   workers;
    ngx_array_t                   series;
    ngx_array_t                   keys;          /* most bytes first */
    ngx_array_t                   targets;       /* likewise */
    ngx_array_t                   tunnels;       /* oldest first */

    /* private */

    u_char                       *pos;           /* room for names */
    u_char                       *last;
} ngx_tunnel_snapshot_t;


/* what else is to be in a picture than counters */

#define NGX_TUNNEL_SNAPSHOT_TUNNELS  1
#define NGX_TUNNEL_SNAPSHOT_NODES    2           /* keys and targets */

/*
 * Takes a picture, from the pool; of the tunnels only that of an id, if that
 * is not 0.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_tunnel_zone_snapshot(ngx_shm_zone_t *shm_zone, ngx_pool_t *pool,
    uint64_t id, ngx_uint_t what, ngx_tunnel_snapshot_t *snap);


/* which tunnels: an id if it is not 0, or the string that is not empty */

typedef struct {
    uint64_t                      id;
    ngx_str_t                     target;
    ngx_str_t                     key;
    ngx_str_t                     client;
} ngx_tunnel_match_t;


/* has these tunnels end, soon; returns how many there are */

ngx_uint_t ngx_tunnel_zone_kill(ngx_shm_zone_t *shm_zone,
    ngx_tunnel_match_t *match);


extern const ngx_str_t            ngx_tunnel_fronts[];
extern const ngx_str_t            ngx_tunnel_dns_outcomes[];
extern const ngx_tunnel_bounds_t  ngx_tunnel_histograms[];


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_ZONE_H_INCLUDED_ */
