
/*
 * Rates: when how many bytes may move, and whether enough did.  Pure functions
 * of bytes and milliseconds.
 */


#ifndef _NGX_TUNNEL_RATE_H_INCLUDED_
#define _NGX_TUNNEL_RATE_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


/* a rate above this one, bytes a second, is no limit */

#define NGX_TUNNEL_MAX_RATE  ((off_t) 1 << 40)


/*
 * A throttle for one direction.  Credit grows with time, up to what may move
 * at once, and reading spends it.
 */

typedef struct {
    off_t         rate;          /* bytes a second */
    off_t         credit;        /* bytes * 1000; below 0 it is a debt */
    off_t         chunk;         /* bytes that a wait is for */
    ngx_msec_t    last;          /* when credit was counted */
    ngx_msec_t    next;          /* nothing moves before */
} ngx_tunnel_rate_t;


/*
 * The rate is 1 to NGX_TUNNEL_MAX_RATE; size is the largest read, bytes; now
 * and all times are msec.
 */

void ngx_tunnel_rate_init(ngx_tunnel_rate_t *r, off_t rate, size_t size,
    ngx_msec_t now);

/* how many bytes may be read now; 0: none before r->next */

off_t ngx_tunnel_rate_allowed(ngx_tunnel_rate_t *r, ngx_msec_t now);

/* n bytes were read, at the time of the last ngx_tunnel_rate_allowed() */

void ngx_tunnel_rate_spend(ngx_tunnel_rate_t *r, off_t n);


/* a window in which no fewer bytes than some are to move */

typedef struct {
    ngx_msec_t    end;           /* of the window */
    off_t         bytes;         /* that had moved before; -1: in grace */
} ngx_tunnel_window_t;


/*
 * The first window follows the grace.  To be called with the number of bytes
 * that moved so far when a window is over, or at any other time; returns 1 if
 * in the last window fewer bytes moved than rate, bytes a minute, has it.
 */

void ngx_tunnel_window_init(ngx_tunnel_window_t *w, ngx_msec_t grace,
    ngx_msec_t window, ngx_msec_t now);
ngx_uint_t ngx_tunnel_window_slow(ngx_tunnel_window_t *w, off_t rate,
    ngx_msec_t window, off_t bytes, ngx_msec_t now);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_RATE_H_INCLUDED_ */
