
/*
 * Rates: the throttle and the window, under a clock of the tests.
 */


#include "unit.h"


#define UNIT_SIZE      65536            /* the default relay_buffer_size */

/* how late a worker may be without a throttled flow being any slower, msec */

#define UNIT_LATE      4


/*
 * A reader behind a throttle, and what it may have got at most: credit, bytes
 * * 1000, that grows with the rate and never above the burst.  It is kept here
 * anew, and below zero is too fast.
 */

typedef struct {
    ngx_tunnel_rate_t  rate;
    off_t              limit;           /* bytes a second */
    size_t             size;
    ngx_msec_t         start;
    ngx_msec_t         now;
    __int128           credit;
    off_t              moved;
} unit_reader_t;


static const off_t  unit_rates[] = {
    1, 2, 3, 7, 10, 99, 100, 101, 333, 999, 1000, 1001, 1023, 1024, 4096,
    9999, 10000, 65535, 65536, 99991, 153600, 655359, 655360, 655361,
    1000000, 1048576, 1500000, 10485760, 12582912, 13107200, 13107201,
    13631488, 104857600, 123456789, 1073741824, 10000000000,
    (off_t) 1 << 36, NGX_TUNNEL_MAX_RATE - 1, NGX_TUNNEL_MAX_RATE
};

static const size_t  unit_sizes[] = { 1, 1024, 4096, 65536, 16 * 1048576 };


/* one buffer, less of a low rate, and what a late worker makes up for */

static __int128
unit_burst(off_t rate, size_t size)
{
    off_t  chunk;

    chunk = ngx_min(rate / 10, (off_t) size);

    return (__int128) ngx_max(chunk, 1) * 1000 + (__int128) rate * 5;
}


static void
unit_reader(unit_reader_t *r, off_t rate, size_t size, ngx_msec_t now)
{
    ngx_tunnel_rate_init(&r->rate, rate, size, now);

    r->limit = rate;
    r->size = size;
    r->start = now;
    r->now = now;
    r->credit = unit_burst(rate, size);
    r->moved = 0;
}


static void
unit_pass(unit_reader_t *r, ngx_msec_t msec)
{
    __int128  burst;

    burst = unit_burst(r->limit, r->size);

    r->now += msec;
    r->credit += (__int128) msec * r->limit;
    r->credit = ngx_min(r->credit, burst);
}


static void
unit_spend(unit_reader_t *r, off_t n)
{
    ngx_tunnel_rate_spend(&r->rate, n);

    r->credit -= (__int128) n * 1000;
    r->moved += n;
}


/* reads as the relay does, up to n bytes; returns how many, 0: to wait */

static off_t
unit_read(unit_reader_t *r, off_t n)
{
    off_t  allowed;

    allowed = ngx_tunnel_rate_allowed(&r->rate, r->now);

    if (allowed == 0) {
        unit_check((ngx_msec_int_t) (r->rate.next - r->now) > 0,
                   "rate %ld, size %zu: nothing is allowed, and no time set",
                   r->limit, r->size);
        return 0;
    }

    unit_check(allowed > 0, "rate %ld, size %zu: %ld allowed",
               r->limit, r->size, allowed);

    n = ngx_min(n, allowed);
    n = ngx_min(n, (off_t) r->size);

    unit_spend(r, n);

    return n;
}


/* a flow that is always full: all that it may have, until it has to wait */

static ngx_uint_t
unit_read_all(unit_reader_t *r)
{
    ngx_uint_t  i;

    /* at a high rate and with a small buffer that is many reads */

    for (i = 0; i < 100000; i++) {

        if (unit_read(r, r->size) == 0) {
            return 1;
        }
    }

    return 0;
}


/* what is asked for is never too much, whenever and in whatever pieces */

void
unit_rate_random(void)
{
    off_t          n;
    ngx_uint_t     i, k, step, turns;
    ngx_msec_t     wait;
    unit_reader_t  r;

    for (i = 0; i < unit_nelts(unit_rates); i++) {

        for (k = 0; k < unit_nelts(unit_sizes); k++) {

            unit_reader(&r, unit_rates[i], unit_sizes[k], unit_random());

            turns = 0;

            for (step = 0; step < 300; step++) {

                /* idle, early, in time, a little late, very late */

                wait = 0;

                switch (unit_random() % 8) {
                case 0:
                    wait = unit_random() % 100000;
                    break;
                case 1:
                case 2:
                    wait = unit_random() % 20;
                    break;
                case 3:
                    wait = unit_random() % 500;
                    break;
                case 4:
                case 5:
                    if ((ngx_msec_int_t) (r.rate.next - r.now) > 0) {
                        wait = r.rate.next - r.now + unit_random() % 3;
                    }
                    break;
                }

                unit_pass(&r, wait);

                n = r.size;

                if (unit_random() % 2) {
                    n = 1 + unit_random() % n;
                }

                turns += (unit_read(&r, n) > 0);

                if (!unit_check(r.credit >= 0, "rate %ld, size %zu: too fast "
                                "by %ld bytes", r.limit, r.size,
                                (off_t) (-r.credit / 1000)))
                {
                    break;
                }
            }

            unit_check(turns > 10, "rate %ld, size %zu: %lu reads",
                       r.limit, r.size, turns);
        }
    }
}


/*
 * A flow that is always full, and read when the throttle says it or a little
 * later, gets its rate: no more than what a wait is for is missing.
 */

static void
unit_rate_full_speed(ngx_uint_t late)
{
    off_t           least;
    ngx_uint_t      i, k;
    ngx_msec_t      until;
    unit_reader_t   r;

    for (i = 0; i < unit_nelts(unit_rates); i++) {

        for (k = 0; k < unit_nelts(unit_sizes); k++) {

            /* that many reads are more than a worker can do */

            if (unit_rates[i] / (off_t) unit_sizes[k] > 100000) {
                continue;
            }

            unit_reader(&r, unit_rates[i], unit_sizes[k], 1000);

            until = 1000 + ngx_max(1000, 10000 / unit_rates[i]);

            while (r.now < until) {

                if (!unit_read_all(&r)) {
                    break;
                }

                unit_pass(&r, r.rate.next - r.now
                              + (late ? unit_random() % (late + 1) : 0));
            }

            (void) unit_read_all(&r);

            least = (__int128) r.limit * (r.now - r.start) / 1000
                    - ngx_max(1, ngx_min(r.limit / 10, (off_t) r.size));

            unit_check(r.moved >= least, "rate %ld, size %zu, late by %lu at "
                       "most: %ld bytes in %lu msec, %.1f%% of the rate",
                       r.limit, r.size, late, r.moved, r.now - r.start,
                       r.moved * 100000.0
                           / ((double) r.limit * (r.now - r.start)));

            unit_check(r.credit >= 0, "rate %ld, size %zu: too fast",
                       r.limit, r.size);
        }
    }
}


void
unit_rate_speed(void)
{
    unit_rate_full_speed(0);
}


void
unit_rate_late(void)
{
    unit_rate_full_speed(UNIT_LATE);
}


/* after any time without a byte, and at the start, there is one burst */

void
unit_rate_idle(void)
{
    off_t          burst, moved;
    ngx_uint_t     i, k;
    unit_reader_t  r;

    static const ngx_msec_t  idle[] = {
        0, 1000, 60000, 86400000, (ngx_msec_t) 365 * 86400000,
        (ngx_msec_t) 1 << 62, ((ngx_msec_t) 1 << 63) + 1000
    };

    for (i = 0; i < unit_nelts(unit_rates); i++) {

        for (k = 0; k < unit_nelts(idle); k++) {

            unit_reader(&r, unit_rates[i], UNIT_SIZE, 77);

            burst = unit_burst(unit_rates[i], UNIT_SIZE) / 1000;

            if (idle[k]) {
                (void) unit_read_all(&r);
                unit_pass(&r, idle[k]);
            }

            moved = r.moved;

            unit_check(ngx_tunnel_rate_allowed(&r.rate, r.now) <= burst,
                       "rate %ld, %lu msec idle: more than a burst allowed",
                       r.limit, idle[k]);

            unit_check(unit_read_all(&r), "rate %ld, %lu msec idle: no end",
                       r.limit, idle[k]);

            moved = r.moved - moved;

            /* of a rate of 1, there is a byte a second */

            unit_check(moved <= burst && moved >= 1,
                       "rate %ld, %lu msec idle: %ld bytes at once, burst %ld",
                       r.limit, idle[k], moved, burst);
        }
    }
}


/* the smallest ones, to the msec */

void
unit_rate_slow(void)
{
    ngx_uint_t     i, k;
    unit_reader_t  r;

    /* a byte every 1000, 500, 334 (of 1000/3) and 100 msec */

    static const struct {
        off_t       rate;
        ngx_msec_t  at[6];
    } cases[] = {
        { 1, { 0, 1000, 2000, 3000, 4000, 5000 } },
        { 2, { 0, 500, 1000, 1500, 2000, 2500 } },
        { 3, { 0, 334, 667, 1000, 1334, 1667 } },
        { 10, { 0, 100, 200, 300, 400, 500 } }
    };

    for (i = 0; i < unit_nelts(cases); i++) {

        unit_reader(&r, cases[i].rate, UNIT_SIZE, 0);

        for (k = 0; k < 6; k++) {

            while (unit_read(&r, 1) == 0) {
                unit_pass(&r, 1);

                if (!unit_check(r.now < 10000, "rate %ld: no byte", r.limit)) {
                    break;
                }
            }

            unit_check(r.now == cases[i].at[k],
                       "rate %ld: byte %lu after %lu msec, not %lu",
                       r.limit, k, r.now, cases[i].at[k]);
        }
    }

    /*
     * asked for early, that is while it has to wait, nothing is lost, and the
     * time for which it waits stays
     */

    unit_reader(&r, 1000, UNIT_SIZE, 0);

    unit_check(unit_read(&r, UNIT_SIZE) == 100, "100 msec of the rate");
    unit_check(unit_read(&r, UNIT_SIZE) == 0 && r.rate.next == 100, "waits");

    for (i = 1; i < 100; i++) {
        unit_pass(&r, 1);

        unit_check(unit_read(&r, UNIT_SIZE) == 0 && r.rate.next == 100,
                   "after %lu msec: next %lu", i, r.rate.next);
    }

    unit_pass(&r, 1);
    unit_check(unit_read(&r, UNIT_SIZE) == 100, "100 msec later");

    /* what is left of it can be had */

    unit_pass(&r, 100);
    unit_check(unit_read(&r, 40) == 40, "a part of it");
    unit_check(unit_read(&r, UNIT_SIZE) == 60, "the rest");
    unit_check(unit_read(&r, UNIT_SIZE) == 0, "and no more");
}


/* a high rate in one go is a burst; a wait is of a msec or more */

void
unit_rate_fast(void)
{
    off_t              n;
    ngx_uint_t         i;
    ngx_tunnel_rate_t  r;

    for (i = 0; i < unit_nelts(unit_rates); i++) {

        if (unit_rates[i] < 100000000) {
            continue;
        }

        ngx_tunnel_rate_init(&r, unit_rates[i], UNIT_SIZE, 0);

        unit_check(r.rate == unit_rates[i], "rate %ld", r.rate);

        n = ngx_tunnel_rate_allowed(&r, 0);
        unit_check(n == UNIT_SIZE, "rate %ld: %ld at once", unit_rates[i], n);

        ngx_tunnel_rate_spend(&r, n);
        unit_check(ngx_tunnel_rate_allowed(&r, 0) == 0 && r.next == 1,
                   "rate %ld: waits until %lu", unit_rates[i], r.next);

        n = ngx_tunnel_rate_allowed(&r, 1);
        unit_check(n == unit_rates[i] / 1000, "rate %ld: %ld after a msec",
                   unit_rates[i], n);
    }
}


/* what came without being asked for is waited for, as long as it takes */

void
unit_rate_debt(void)
{
    off_t          debt;
    ngx_uint_t     i, k;
    ngx_msec_t     waited, due;
    unit_reader_t  r;

    static const off_t  debts[] = {
        1, 99, 1000, 65536, 1000000, (off_t) 1 << 30
    };

    for (i = 0; i < unit_nelts(unit_rates); i++) {

        for (k = 0; k < unit_nelts(debts); k++) {

            unit_reader(&r, unit_rates[i], UNIT_SIZE, 5);

            (void) unit_read_all(&r);

            debt = debts[k];
            unit_spend(&r, debt);

            unit_check(ngx_tunnel_rate_allowed(&r.rate, r.now) == 0,
                       "rate %ld: debt of %ld", r.limit, debt);

            waited = r.rate.next - r.now;
            due = (__int128) debt * 1000 / r.limit;

            unit_check(waited >= due && waited <= due + 1000 / r.limit + 101,
                       "rate %ld: debt of %ld: waits %lu msec, not %lu",
                       r.limit, debt, waited, due);

            unit_pass(&r, waited - 1);
            unit_check(ngx_tunnel_rate_allowed(&r.rate, r.now) == 0,
                       "rate %ld: debt of %ld, a msec early", r.limit, debt);

            unit_pass(&r, 1);
            unit_check(unit_read(&r, 1) == 1,
                       "rate %ld: debt of %ld, in time", r.limit, debt);
        }
    }
}


/* the clock starts again at zero, or is one that has just begun */

void
unit_rate_wrap(void)
{
    off_t          moved;
    ngx_uint_t     i, k;
    unit_reader_t  r;

    static const ngx_msec_t  starts[] = {
        0, 1, (ngx_msec_t) -1, (ngx_msec_t) -500, (ngx_msec_t) -2500,
        (ngx_msec_t) 1 << 63, ((ngx_msec_t) 1 << 63) - 500,
        ((ngx_msec_t) 1 << 32) - 500, ((ngx_msec_t) 1 << 31) - 500
    };

    for (i = 0; i < unit_nelts(unit_rates); i++) {

        /* those above need too many reads */

        if (unit_rates[i] > 10000000) {
            break;
        }

        moved = -1;

        for (k = 0; k < unit_nelts(starts); k++) {

            unit_reader(&r, unit_rates[i], UNIT_SIZE, starts[k]);

            while (r.now - r.start < 5000) {

                if (!unit_check(unit_read_all(&r), "rate %ld at %lx: no end",
                                r.limit, r.now))
                {
                    break;
                }

                unit_check(r.rate.next - r.now <= 1000,
                           "rate %ld at %lx: waits until %lx",
                           r.limit, r.now, r.rate.next);

                unit_pass(&r, ngx_max(r.rate.next - r.now, 20));
            }

            if (moved == -1) {
                moved = r.moved;
            }

            unit_check(r.moved == moved && moved > 0,
                       "rate %ld from %lx: %ld bytes, not %ld",
                       r.limit, starts[k], r.moved, moved);
        }
    }
}


void
unit_rate_window(void)
{
    ngx_uint_t           i;
    ngx_tunnel_window_t  w;

    /* what rate and window have it, rounded up, in bytes */

    static const struct {
        off_t       rate;
        ngx_msec_t  window;
        off_t       least;
    } cases[] = {
        { 1000, 60000, 1000 },
        { 1000, 30000, 500 },
        { 1000, 1000, 17 },
        { 1, 60000, 1 },
        { 1, 1000, 1 },
        { 1, 59999, 1 },
        { 1, 60001, 2 },
        { 1, 120000, 2 },
        { 60, 1000, 1 },
        { 60, 1001, 2 },
        { 61, 1000, 2 },
        { 59999, 60000, 59999 },
        { 60000, 60000, 60000 },
        { 60001, 60000, 60001 },
        { 60001, 1000, 1001 },
        { 60000, 1000, 1000 },
        { 119999, 1000, 2000 },
        { 7, 86400000, 10080 },
        { (off_t) 1 << 40, 60000, (off_t) 1 << 40 },
        { (off_t) 1 << 40, 1000, 18325193797 },

        /* ten years, the longest time that there is */

        { 1, 315360000000, 5256000 },
        { (off_t) 1 << 38, 315360000000, ((off_t) 1 << 38) * 5256000 }
    };

    for (i = 0; i < unit_nelts(cases); i++) {

#define unit_window(grace)                                                    \
        ngx_tunnel_window_init(&w, grace, cases[i].window, 100)

#define unit_slow(bytes, now)                                                 \
        ngx_tunnel_window_slow(&w, cases[i].rate, cases[i].window, bytes,     \
                               100 + (now))

#define unit_says(ok, what)                                                   \
        unit_check(ok, "rate %ld, window %lu: %s",                            \
                   cases[i].rate, cases[i].window, what)

        unit_window(0);
        unit_says(w.end == 100 + cases[i].window, "end");
        unit_says(!unit_slow(0, 0), "at the start");
        unit_says(!unit_slow(0, cases[i].window - 1), "just before the end");
        unit_says(w.end == 100 + cases[i].window, "end, still");
        unit_says(unit_slow(0, cases[i].window), "nothing");

        unit_window(0);
        unit_says(!unit_slow(cases[i].least, cases[i].window), "enough");
        unit_says(w.end == 100 + 2 * cases[i].window, "second end");
        unit_says(!unit_slow(cases[i].least, 2 * cases[i].window - 1),
                  "second window goes on");
        unit_says(!unit_slow(2 * cases[i].least, 2 * cases[i].window),
                  "enough again");
        unit_says(unit_slow(3 * cases[i].least - 1, 3 * cases[i].window),
                  "a byte less in the third");

        unit_window(0);
        unit_says(unit_slow(cases[i].least - 1, cases[i].window),
                  "a byte less");

        /* a burst in one window is none in the next */

        unit_window(0);
        unit_says(!unit_slow(2 * cases[i].least, cases[i].window), "burst");
        unit_says(unit_slow(2 * cases[i].least, 2 * cases[i].window),
                  "nothing after a burst");

        /* late: the bytes until then count, and the next one is from then */

        unit_window(0);
        unit_says(!unit_slow(cases[i].least, 3 * cases[i].window), "late");
        unit_says(w.end == 100 + 4 * cases[i].window, "end after a late one");
        unit_says(unit_slow(2 * cases[i].least - 1, 4 * cases[i].window),
                  "a byte less after a late one");
        unit_window(0);
        unit_says(unit_slow(cases[i].least - 1, 3 * cases[i].window),
                  "late, and a byte less");

        /* the grace is no window: nothing has to move, and nothing counts */

        unit_window(500);
        unit_says(w.end == 600, "end of grace");
        unit_says(!unit_slow(0, 499), "in grace");
        unit_says(!unit_slow(0, 500), "end of grace, nothing");
        unit_says(w.end == 600 + cases[i].window, "end of the first");
        unit_says(!unit_slow(0, 499 + cases[i].window), "first goes on");
        unit_says(unit_slow(0, 500 + cases[i].window), "nothing after grace");

        unit_window(500);
        unit_says(!unit_slow(1000000, 500), "grace with bytes");
        unit_says(unit_slow(1000000 + cases[i].least - 1,
                            500 + cases[i].window),
                  "bytes of the grace do not count");

        unit_window(500);
        unit_says(!unit_slow(1000000, 500), "grace with bytes");
        unit_says(!unit_slow(1000000 + cases[i].least,
                             500 + cases[i].window),
                  "enough after grace");
        unit_says(unit_slow(1000000 + cases[i].least,
                            500 + 2 * cases[i].window),
                  "nothing in the second after grace");
    }

#undef unit_window
#undef unit_slow
#undef unit_says
}


/* sums and products at their extremes; UBSan sees one that overflows */

void
unit_rate_window_extremes(void)
{
    off_t                rate, bytes, least;
    ngx_msec_t           window, now;
    ngx_uint_t           i;
    ngx_tunnel_window_t  w;

    for (i = 0; i < 20000; i++) {

        rate = ((off_t) unit_random() << 8 | unit_random() % 256)
               & (((off_t) 1 << unit_random() % 41) - 1);
        rate = ngx_max(rate, 1);
        window = 1000 + ((ngx_msec_t) unit_random() << 8)
                        % ((ngx_msec_t) 315360000000 >> unit_random() % 28);
        now = (unit_random() % 2) ? (ngx_msec_t) -1000 : unit_random();

        least = ((__int128) rate * window + 59999) / 60000;

        ngx_tunnel_window_init(&w, 0, window, now);

        unit_check(ngx_tunnel_window_slow(&w, rate, window, least - 1,
                                          now + window),
                   "rate %ld, window %lu at %lx: a byte less",
                   rate, window, now);

        ngx_tunnel_window_init(&w, 0, window, now);

        unit_check(!ngx_tunnel_window_slow(&w, rate, window, least,
                                           now + window),
                   "rate %ld, window %lu at %lx: enough", rate, window, now);
    }

    /* all the bytes that there can be */

    bytes = NGX_MAX_OFF_T_VALUE;

    ngx_tunnel_window_init(&w, 0, 60000, 0);

    unit_check(!ngx_tunnel_window_slow(&w, NGX_TUNNEL_MAX_RATE, 60000, bytes,
                                       60000), "all bytes");
    unit_check(ngx_tunnel_window_slow(&w, 1, 60000, bytes, 120000),
               "none after that");

    /* windows over the end of the clock */

    now = (ngx_msec_t) -90000;

    ngx_tunnel_window_init(&w, 30000, 60000, now);

    for (i = 0; i < 5; i++) {
        now = w.end;

        unit_check(!ngx_tunnel_window_slow(&w, 1000, 60000, 1000 * i, now - 1),
                   "window %lu, not over", i);
        unit_check(!ngx_tunnel_window_slow(&w, 1000, 60000, 1000 * i, now),
                   "window %lu, over", i);
        unit_check(w.end == now + 60000, "window %lu, end", i);
    }
}
