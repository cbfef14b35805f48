
/*
 * Rates: a token bucket, and windows that follow one another.
 */


#include "ngx_tunnel_rate.h"


/* a throttled flow that is always full is read this often, msec */

#define NGX_TUNNEL_RATE_TICK   100

/* what a fast one may make up for when the worker was late, msec */

#define NGX_TUNNEL_RATE_SLACK  5


void
ngx_tunnel_rate_init(ngx_tunnel_rate_t *r, off_t rate, size_t size,
    ngx_msec_t now)
{
    r->rate = rate;
    r->chunk = ngx_max(rate * NGX_TUNNEL_RATE_TICK / 1000, 1);
    r->chunk = ngx_min(r->chunk, (off_t) size);
    r->credit = r->chunk * 1000;
    r->last = now;
    r->next = now;
}


off_t
ngx_tunnel_rate_allowed(ngx_tunnel_rate_t *r, ngx_msec_t now)
{
    off_t       full;
    ngx_msec_t  elapsed;

    elapsed = now - r->last;
    r->last = now;

    full = r->chunk * 1000 + r->rate * NGX_TUNNEL_RATE_SLACK;

    /* as long as it takes to be full, at most: no product is too large */

    if (elapsed > (ngx_msec_t) ((full - r->credit) / r->rate)) {
        r->credit = full;

    } else {
        r->credit += (off_t) elapsed * r->rate;
    }

    if (r->credit >= r->chunk * 1000) {
        r->next = now;
    }

    if ((ngx_msec_int_t) (r->next - now) > 0) {
        return 0;
    }

    return r->credit / 1000;
}


void
ngx_tunnel_rate_spend(ngx_tunnel_rate_t *r, off_t n)
{
    r->credit -= n * 1000;

    if (r->credit < 1000) {
        r->next = r->last + (r->chunk * 1000 - r->credit + r->rate - 1)
                            / r->rate;
    }
}


void
ngx_tunnel_window_init(ngx_tunnel_window_t *w, ngx_msec_t grace,
    ngx_msec_t window, ngx_msec_t now)
{
    w->end = now + (grace ? grace : window);
    w->bytes = grace ? -1 : 0;
}


ngx_uint_t
ngx_tunnel_window_slow(ngx_tunnel_window_t *w, off_t rate, ngx_msec_t window,
    off_t bytes, ngx_msec_t now)
{
    off_t       least;
    ngx_uint_t  slow;

    if ((ngx_msec_int_t) (w->end - now) > 0) {
        return 0;
    }

    /* rate * window / 60000, rounded up, without an overflow */

    least = rate / 60000 * (off_t) window
            + (rate % 60000 * (off_t) window + 59999) / 60000;

    slow = (w->bytes != -1 && bytes - w->bytes < least);

    w->end = now + window;
    w->bytes = bytes;

    return slow;
}
