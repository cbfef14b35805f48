
/*
 * Relay: moves bytes between two ends under a policy.
 */


#ifndef _NGX_TUNNEL_RELAY_H_INCLUDED_
#define _NGX_TUNNEL_RELAY_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


typedef struct {
    ngx_msec_t                idle_timeout;      /* 0: none */
    size_t                    buffer_size;
} ngx_tunnel_policy_t;


void ngx_tunnel_policy_create(ngx_tunnel_policy_t *policy);

/* returns NULL, or an error for the configuration to report */

char *ngx_tunnel_policy_merge(ngx_conf_t *cf, ngx_tunnel_policy_t *policy,
    ngx_tunnel_policy_t *prev);


/*
 * What the relays of one worker and configuration share: one buffer to read
 * into, and a few for bytes that a peer has not taken yet.  Memory is taken
 * when first needed.
 */

typedef struct ngx_tunnel_buf_s  ngx_tunnel_buf_t;

typedef struct {
    size_t                    size;      /* the largest relay_buffer_size */
    u_char                   *scratch;
    ngx_tunnel_buf_t         *free;
    ngx_uint_t                nfree;
} ngx_tunnel_worker_t;


/* registers the release of the memory with the configuration's pool */

ngx_int_t ngx_tunnel_worker_init(ngx_tunnel_worker_t *w, ngx_pool_t *pool);


typedef struct ngx_tunnel_relay_s  ngx_tunnel_relay_t;
typedef struct ngx_tunnel_end_s  ngx_tunnel_end_t;

/*
 * How an end is read, written and half closed.  recv and send return as those
 * of a connection; shutdown ends the sending half and returns NGX_OK,
 * NGX_AGAIN if it is to be called again on a write event, or NGX_ERROR; reset
 * has the next close be an abort; unsent tells whether an abort would take
 * bytes that were sent and have not arrived.
 */

typedef struct {
    ssize_t                 (*recv)(ngx_tunnel_end_t *e, u_char *buf,
                                 size_t size);
    ssize_t                 (*send)(ngx_tunnel_end_t *e, u_char *buf,
                                 size_t size);
    ngx_int_t               (*shutdown)(ngx_tunnel_end_t *e);
    void                    (*reset)(ngx_tunnel_end_t *e);
    ngx_uint_t              (*unsent)(ngx_tunnel_end_t *e);
} ngx_tunnel_end_ops_t;

extern const ngx_tunnel_end_ops_t  ngx_tunnel_end_socket;


/* an end, and what was read from it and still has to be sent to the other */

struct ngx_tunnel_end_s {
    ngx_connection_t             *connection;
    const ngx_tunnel_end_ops_t   *ops;

    off_t                         received;      /* from this end */
    off_t                         sent;          /* to this end */

    u_char                       *pos;           /* bytes that wait */
    u_char                       *last;
    ngx_tunnel_buf_t             *buf;           /* they are in, or NULL */

    unsigned                      eof:1;         /* has ended its sending */
    unsigned                      shut:1;        /* eof is passed on */
    unsigned                      gone:1;        /* and cannot be sent to */
};


typedef void (*ngx_tunnel_relay_pt)(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);


struct ngx_tunnel_relay_s {

    /* set by the caller, zeroes elsewhere */

    ngx_pool_t                   *pool;
    ngx_log_t                    *log;
    ngx_tunnel_policy_t          *policy;
    ngx_tunnel_worker_t          *worker;
    ngx_tunnel_end_t              client;        /* connection and ops */
    ngx_tunnel_end_t              target;
    ngx_tunnel_relay_pt           handler;
    void                         *data;

    /* results */

    ngx_msec_t                    start;
    ngx_msec_t                    end;
    ngx_msec_t                    first_byte;    /* 0: none came */
    ngx_tunnel_reason_e           reason;

    /* private */

    ngx_event_t                   timer;
    ngx_msec_t                    active;        /* when bytes last moved */
    unsigned                      done:1;
};


/*
 * Starts relaying.  The target's connection is the relay's from here on.  The
 * client's stays the caller's, who calls ngx_tunnel_relay_process() on its
 * events.  Bytes that the client sent early are given as client.pos and
 * client.last and have to stay until the end.
 *
 * When the tunnel ends, the target's connection is closed and the handler is
 * called, once; that may be before a function of the relay returns, and the
 * pool may be gone by then.
 */

void ngx_tunnel_relay(ngx_tunnel_relay_t *relay);
void ngx_tunnel_relay_process(ngx_tunnel_relay_t *relay);

/*
 * Ends a tunnel whose client is taken away, without calling the handler; for
 * cleanups, safe in any state.
 */

void ngx_tunnel_relay_abort(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_RELAY_H_INCLUDED_ */
