
/*
 * Relay: moves bytes between two ends under a policy.
 */


#ifndef _NGX_TUNNEL_RELAY_H_INCLUDED_
#define _NGX_TUNNEL_RELAY_H_INCLUDED_


#include "ngx_tunnel_end.h"
#include "ngx_tunnel_policy.h"
#include "ngx_tunnel_zone.h"


#pragma GCC visibility push(hidden)


typedef struct ngx_tunnel_relay_s  ngx_tunnel_relay_t;


typedef void (*ngx_tunnel_relay_pt)(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);

/*
 * Whether what the client has sent may be let through, by its first bytes:
 * NGX_OK, NGX_AGAIN if more are needed to tell, or NGX_DECLINED, with the
 * reason for the tunnel to end.
 */

typedef ngx_int_t (*ngx_tunnel_relay_check_pt)(ngx_tunnel_relay_t *relay,
    u_char *p, size_t len, ngx_tunnel_reason_e *reason);


/* called time and again; the relay is there behind it */

typedef void (*ngx_tunnel_relay_tick_pt)(ngx_tunnel_relay_t *relay);


/* how a tunnel begins, if not at once */

typedef struct {
    ngx_tunnel_relay_check_pt     check;         /* or NULL; asked before
                                                    anything moves */
    ngx_str_t                     header;        /* that the target gets ahead
                                                    of all, not counted */
} ngx_tunnel_relay_begin_t;


struct ngx_tunnel_relay_s {

    /* set by the caller, zeroes elsewhere */

    ngx_pool_t                   *pool;
    ngx_log_t                    *log;
    ngx_tunnel_policy_t          *policy;
    ngx_tunnel_usage_t           *usage;         /* of quotas, or NULL */
    ngx_tunnel_stat_t            *stat;          /* of a zone, or NULL */
    ngx_tunnel_worker_t          *worker;
    ngx_tunnel_end_t              client;        /* connection and ops */
    ngx_tunnel_end_t              target;
    ngx_tunnel_relay_begin_t     *begin;         /* or NULL, as later on */
    ngx_tunnel_relay_pt           handler;
    void                         *data;
    ngx_tunnel_relay_tick_pt      tick;
    ngx_msec_t                    interval;      /* of it, 0: never */

    /* results */

    ngx_msec_t                    start;
    ngx_msec_t                    end;
    ngx_msec_t                    first_byte;    /* 0: none came */
    ngx_tunnel_reason_e           reason;

    /* private */

    ngx_event_t                   timer;
    ngx_msec_t                    active;        /* when bytes last moved */
    ngx_msec_t                    ticked;
    off_t                         left;          /* bytes, both ways */
    ngx_tunnel_window_t           window;        /* of the minimum rate */
    ngx_tunnel_reason_e           ending;        /* when all is delivered */
    size_t                        unsent;        /* what was not, last time */
    ngx_msec_t                    progress;      /* when that was more */
    unsigned                      limited:1;     /* in rate or bytes */
    unsigned                      splice:1;      /* can be */
    unsigned                      done:1;
};


/*
 * Starts relaying.  The target's connection is the relay's from here on.  The
 * client's stays the caller's, who calls ngx_tunnel_relay_process() on its
 * events.  Bytes that the client sent early are given as client.pos and
 * client.last; those that can't be sent at once are copied.
 *
 * When the tunnel ends, the target's connection is closed and the handler is
 * called, once; that may be before a function of the relay returns, and the
 * relay may be gone by then.
 */

void ngx_tunnel_relay(ngx_tunnel_relay_t *relay);
void ngx_tunnel_relay_process(ngx_tunnel_relay_t *relay);

/* ends a tunnel for a reason of the caller's; the handler is called */

void ngx_tunnel_relay_end(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);

/*
 * Ends a tunnel whose client is taken away, without calling the handler; for
 * cleanups, safe in any state.
 */

void ngx_tunnel_relay_abort(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_RELAY_H_INCLUDED_ */
