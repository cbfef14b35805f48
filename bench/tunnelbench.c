/*
 * tunnelbench: a load generator for tunnelling proxies.
 *
 * It is both ends of every tunnel: an origin on 127.1.0.1 to 127.1.0.8, and
 * clients on 127.2.0.x that reach it directly or through a proxy.  A client
 * says, after the proxy's own handshake, an order of 12 bytes that tells the
 * origin what to do with the connection: echo, or be an end of a bulk
 * transfer.  So one port of the origin serves all workloads, and a proxy that
 * has one fixed target is driven like one that is told where to connect to.
 *
 * A proxy that listens with TLS is spoken to by link.c.  The origin never has
 * TLS.
 *
 * All that is sent is a part of one pattern and is compared where it arrives.
 * The result is a line of JSON.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "link.h"


enum {
    TARGETS = 8,                /* addresses of the origin, */
    SOURCES = 64,               /* of the clients: for more ephemeral ports */

    MAX_THREADS = 16,
    MAX_TUNNELS = 9000,
    MAX_ERRORS = 1000,          /* a run with more of them is given up */
    MAX_REPORTED = 5,

    OPENING = 64,               /* tunnels being opened at a time */
    BLOCK = 65536,              /* a bulk write, and the largest echo */
    BULK_READ = 262144,
    SAMPLE = 16,                /* one bulk read of so many is compared */

    PERIOD = 65521,             /* of the pattern, a prime */
    ORDER_LEN = 12,
    RECORD_LEN = 5,             /* the header of a record of TLS */
    HELLO_LEN = 517,
    PREFIX_LEN = 768,
    EVENTS = 256,
    TICK_MS = 20,
    TIMEOUT = 5,                /* seconds without progress, to open */
    HOLD_MS = 500,              /* that idle tunnels settle before a look */
};


typedef enum { RATE, BURST, PING, BULK, IDLE } workload_e;

/* The threads follow the phases that main() sets. */
typedef enum {
    OPEN, RUN, MEASURE, DRAIN, CHECK, CLIENTS_EXIT, ORIGINS_EXIT
} phase_e;

typedef struct front_s  front_t;

static workload_e          workload;
static const front_t      *front;
static struct sockaddr_in  proxy;
static pid_t               proxy_pid;
static double              duration = 3;
static double              warmup = 0.3;
static int                 tunnels = 64;
static int                 share = 64;
static int                 size = 1;
static char                mode = 'S';
static int                 port = 19900;
static int                 threads = 1;

static _Atomic int         phase = OPEN;
static _Atomic int         errors;


static void
die(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    fprintf(stderr, "tunnelbench: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);

    exit(2);
}


static void
failed(const char *fmt, ...)
{
    char     text[256];
    va_list  args;

    if (atomic_fetch_add(&errors, 1) >= MAX_REPORTED) {
        return;
    }

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    fprintf(stderr, "tunnelbench: %s\n", text);
}


static void *
allocate(size_t n)
{
    void  *p;

    p = calloc(1, n);
    if (p == NULL) {
        die("no memory");
    }

    return p;
}


static uint64_t
now_ns(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


static void
sleep_ms(int ms)
{
    struct timespec  ts = { ms / 1000, ms % 1000 * 1000000L };

    nanosleep(&ts, NULL);
}


/*
 * Times are counted in buckets, 32 to each power of two, so that a quantile is
 * right within 3 %.
 */

enum { BUCKETS = 32 * 40 };

typedef struct {
    uint64_t  n;
    uint64_t  bucket[BUCKETS];
} times_t;


static void
times_add(times_t *h, uint64_t ns)
{
    unsigned  i, shift;

    shift = ns < 64 ? 0 : 58 - (unsigned) __builtin_clzll(ns);
    i = shift * 32 + (unsigned) (ns >> shift);

    h->bucket[i < BUCKETS ? i : BUCKETS - 1]++;
    h->n++;
}


static double
times_us(const times_t *h, double quantile)
{
    double    seen;
    unsigned  i, shift;

    seen = 0;

    for (i = 0; i < BUCKETS - 1; i++) {
        seen += (double) h->bucket[i];
        if (seen >= quantile * (double) h->n) {
            break;
        }
    }

    shift = i < 64 ? 0 : i / 32 - 1;

    return ((double) (i - shift * 32) + 0.5) * (double) (1ULL << shift) / 1000;
}


/*
 * The byte at a position of a stream follows from the position and the tunnel,
 * so that bytes lost, repeated, or of another tunnel are seen.
 */

typedef struct {
    uint64_t  pos;
    uint32_t  base;
    uint32_t  reads;
} stream_t;

static unsigned char  pattern[PERIOD + BULK_READ];


static void
pattern_init(void)
{
    size_t    i;
    uint64_t  x;

    x = 88172645463325252ULL;

    for (i = 0; i < PERIOD; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pattern[i] = (unsigned char) (x >> 32);
    }

    for ( /* void */ ; i < sizeof(pattern); i++) {
        pattern[i] = pattern[i - PERIOD];
    }
}


static void
stream_init(stream_t *s, uint32_t id)
{
    s->pos = 0;
    s->base = id * 7919 % PERIOD;
    s->reads = 0;
}


static const unsigned char *
stream_at(const stream_t *s)
{
    return pattern + (s->base + s->pos) % PERIOD;
}


/*
 * Most bulk reads only have the kernel drop the bytes, which keeps this end
 * from being the limit.  As a byte's value depends on its position, what is
 * wrong in a part that is dropped shows in the next one that is not.  Returns
 * what recv() does, or -2 for wrong bytes.
 */

static ssize_t
stream_drop(int fd, stream_t *s, unsigned char *scratch)
{
    bool     look;
    ssize_t  n;

    look = s->reads++ % SAMPLE == 0;

    n = recv(fd, scratch, BULK_READ, look ? 0 : MSG_TRUNC);

    if (n > 0) {
        if (look && memcmp(scratch, stream_at(s), (size_t) n) != 0) {
            return -2;
        }

        s->pos += (uint64_t) n;
    }

    return n;
}


/* The same with bytes that had to be decrypted, so nothing can be dropped. */

static bool
stream_take(stream_t *s, const unsigned char *p, size_t n)
{
    if (s->reads++ % SAMPLE == 0 && memcmp(p, stream_at(s), n) != 0) {
        return false;
    }

    s->pos += n;

    return true;
}


/* What the ends of a bulk tunnel have moved has to agree in the end. */

typedef struct {
    _Atomic uint64_t  sent;             /* by the origin */
    _Atomic uint64_t  received;
    _Atomic bool      done;
} flow_t;

static flow_t  flows[MAX_TUNNELS];


static bool
again(ssize_t n)
{
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}


static struct sockaddr_in
loopback(unsigned net, unsigned host, int at)
{
    struct sockaddr_in  sin = { .sin_family = AF_INET };

    sin.sin_port = htons((uint16_t) at);
    sin.sin_addr.s_addr = htonl(0x7f000000 | net << 16 | (host + 1));

    return sin;
}


static void
set_option(int fd, int level, int name)
{
    int  on = 1;

    setsockopt(fd, level, name, &on, sizeof(on));
}


static void
watch(int ep, int op, int fd, uint32_t events, void *data)
{
    struct epoll_event  ev = { .events = events, .data.ptr = data };

    if (epoll_ctl(ep, op, fd, &ev) != 0) {
        failed("epoll_ctl: %s", strerror(errno));
    }
}


/* The origin. */

/* what it says to a ClientHello: a record that is none of TLS's */

static const unsigned char  hello_answer[] = { 0x16, 3, 3, 0, 1, 0 };

typedef struct {
    int             fd;
    bool            listening;
    bool            eof;
    char            mode;               /* 0 before the order is complete */
    uint32_t        events;
    unsigned char   record[RECORD_LEN]; /* header of a ClientHello's */
    size_t          record_len;
    size_t          hello;              /* what is to come of it */
    unsigned char   order[ORDER_LEN];
    size_t          order_len;
    stream_t        in;
    stream_t        out;
    flow_t         *flow;
    unsigned char  *pending;            /* echo that the socket did not take */
    size_t          pending_len;
} peer_t;

typedef struct {
    _Atomic uint64_t  bytes;
    pthread_t         thread;
    int               ep;
    unsigned char     scratch[BULK_READ];
} origin_t;

static origin_t     origins[MAX_THREADS];
static _Atomic int  origins_ready;


static void
origin_want(origin_t *o, peer_t *p, uint32_t events)
{
    if (p->events != events) {
        p->events = events;
        watch(o->ep, EPOLL_CTL_MOD, p->fd, events, p);
    }
}


static bool
origin_echo(origin_t *o, peer_t *p, const unsigned char *data, size_t len)
{
    ssize_t  n;

    n = 0;

    if (p->pending_len == 0) {
        n = send(p->fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && !again(n)) {
            return false;
        }

        n = n < 0 ? 0 : n;
    }

    len -= (size_t) n;

    if (len > 0) {
        p->pending = realloc(p->pending, p->pending_len + len);
        if (p->pending == NULL) {
            die("no memory");
        }

        memcpy(p->pending + p->pending_len, data + n, len);
        p->pending_len += len;
        origin_want(o, p, EPOLLOUT);
    }

    return true;
}


static bool
origin_flush(origin_t *o, peer_t *p)
{
    ssize_t  n;

    n = send(p->fd, p->pending, p->pending_len, MSG_NOSIGNAL);
    if (n < 0) {
        return again(n);
    }

    p->pending_len -= (size_t) n;
    memmove(p->pending, p->pending + n, p->pending_len);

    if (p->pending_len == 0) {
        free(p->pending);
        p->pending = NULL;
        origin_want(o, p, EPOLLIN);
        return !p->eof;
    }

    return true;
}


static void
origin_count(origin_t *o, peer_t *p, size_t n)
{
    atomic_fetch_add(&o->bytes, n);
    atomic_store(&p->flow->received, p->in.pos);
}


/*
 * Takes a ClientHello, which may come before the order, and answers it.  Sets
 * *len to what is left of the data.
 */

static bool
origin_hello(origin_t *o, peer_t *p, const unsigned char **data, size_t *len)
{
    size_t  n;

    if (p->order_len > 0 || (p->record_len == 0 && (*data)[0] != 0x16)
        || (p->record_len == RECORD_LEN && p->hello == 0))
    {
        return true;
    }

    while (p->record_len < RECORD_LEN && *len > 0) {
        p->record[p->record_len++] = *(*data)++;
        (*len)--;

        if (p->record_len == RECORD_LEN) {
            p->hello = (size_t) (p->record[3] << 8 | p->record[4]);
        }
    }

    n = p->hello < *len ? p->hello : *len;
    p->hello -= n;
    *data += n;
    *len -= n;

    return n == 0 || p->hello > 0
           || origin_echo(o, p, hello_answer, sizeof(hello_answer));
}


/* Takes the order, and whatever comes right behind it. */

static bool
origin_order(origin_t *o, peer_t *p, const unsigned char *data, size_t len)
{
    size_t    n;
    uint32_t  id, check;

    if (!origin_hello(o, p, &data, &len)) {
        return false;
    }

    if (len == 0) {
        return true;
    }

    n = ORDER_LEN - p->order_len < len ? ORDER_LEN - p->order_len : len;
    memcpy(p->order + p->order_len, data, n);
    p->order_len += n;
    data += n;
    len -= n;

    if (p->order_len < ORDER_LEN) {
        return true;
    }

    memcpy(&id, p->order + 4, 4);
    memcpy(&check, p->order + 8, 4);

    if (memcmp(p->order, "TNB", 3) != 0 || check != ~id
        || id >= (uint32_t) tunnels)
    {
        failed("the origin got a broken order");
        return false;
    }

    p->mode = (char) p->order[3];
    p->flow = &flows[id];
    stream_init(&p->in, id);
    stream_init(&p->out, id);

    if (p->mode == 'S' || p->mode == 'B') {
        origin_want(o, p, EPOLLIN|EPOLLOUT);
    }

    if (len == 0) {
        return true;
    }

    if (p->mode == 'E') {
        return origin_echo(o, p, data, len);
    }

    if (memcmp(data, stream_at(&p->in), len) != 0) {
        failed("the origin got wrong bytes");
        return false;
    }

    p->in.pos += len;
    origin_count(o, p, len);

    return true;
}


static bool
origin_read(origin_t *o, peer_t *p)
{
    ssize_t  n;

    if (p->mode == 'D' || p->mode == 'B') {
        n = stream_drop(p->fd, &p->in, o->scratch);

        if (n == -2) {
            failed("the origin got wrong bytes");
            return false;
        }

        if (n > 0) {
            origin_count(o, p, (size_t) n);
            return true;
        }

    } else {
        n = recv(p->fd, o->scratch, BLOCK, 0);

        if (n > 0) {
            return p->mode == 0
                   ? origin_order(o, p, o->scratch, (size_t) n)
                   : origin_echo(o, p, o->scratch, (size_t) n);
        }
    }

    if (n == 0 && p->pending_len > 0) {
        p->eof = true;
        origin_want(o, p, EPOLLOUT);
        return true;
    }

    return again(n);
}


static bool
origin_write(origin_t *o, peer_t *p)
{
    ssize_t  n;

    if (p->pending_len > 0) {
        return origin_flush(o, p);
    }

    if (atomic_load(&phase) >= DRAIN) {
        origin_want(o, p, EPOLLIN);
        atomic_store(&p->flow->done, true);
        return true;
    }

    n = send(p->fd, stream_at(&p->out), BLOCK, MSG_NOSIGNAL);
    if (n < 0) {
        return again(n);
    }

    p->out.pos += (uint64_t) n;
    atomic_store(&p->flow->sent, p->out.pos);

    return true;
}


static void
origin_accept(origin_t *o, peer_t *listening)
{
    int      fd, i;
    peer_t  *p;

    for (i = 0; i < OPENING; i++) {
        fd = accept4(listening->fd, NULL, NULL, SOCK_NONBLOCK|SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
                failed("accept: %s", strerror(errno));
            }

            return;
        }

        set_option(fd, IPPROTO_TCP, TCP_NODELAY);

        p = allocate(sizeof(peer_t));
        p->fd = fd;
        p->events = EPOLLIN;
        watch(o->ep, EPOLL_CTL_ADD, fd, EPOLLIN, p);
    }
}


static void
origin_event(origin_t *o, peer_t *p, uint32_t events)
{
    bool  ok;

    if (p->listening) {
        origin_accept(o, p);
        return;
    }

    ok = true;

    if (events & EPOLLOUT) {
        ok = origin_write(o, p);
    }

    if (ok && (events & (EPOLLIN|EPOLLHUP|EPOLLERR))) {
        ok = p->pending_len == 0 ? origin_read(o, p)
                                 : !(events & (EPOLLHUP|EPOLLERR));
    }

    if (!ok) {
        close(p->fd);
        free(p->pending);
        free(p);
    }
}


static void
origin_listen(origin_t *o, unsigned target)
{
    int                 fd;
    peer_t             *p;
    struct sockaddr_in  sin;

    sin = loopback(1, target, port);

    fd = socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);
    set_option(fd, SOL_SOCKET, SO_REUSEADDR);

    if (threads > 1) {
        set_option(fd, SOL_SOCKET, SO_REUSEPORT);
    }

    if (bind(fd, (struct sockaddr *) &sin, sizeof(sin)) != 0
        || listen(fd, 4096) != 0)
    {
        die("origin %s:%d: %s", inet_ntoa(sin.sin_addr), port,
            strerror(errno));
    }

    p = allocate(sizeof(peer_t));
    p->fd = fd;
    p->listening = true;
    watch(o->ep, EPOLL_CTL_ADD, fd, EPOLLIN, p);
}


static void *
origin_main(void *data)
{
    int                 i, n;
    origin_t           *o = data;
    struct epoll_event  ev[EVENTS];

    o->ep = epoll_create1(EPOLL_CLOEXEC);

    for (i = 0; i < TARGETS; i++) {
        origin_listen(o, (unsigned) i);
    }

    atomic_fetch_add(&origins_ready, 1);

    while (atomic_load(&phase) < ORIGINS_EXIT) {
        n = epoll_wait(o->ep, ev, EVENTS, TICK_MS);

        for (i = 0; i < n; i++) {
            origin_event(o, ev[i].data.ptr, ev[i].events);
        }
    }

    return NULL;
}


/* The clients. */

typedef enum {
    FREE, CONNECTING, HANDSHAKE, ECHO, READY, BUSY, LOST
} state_e;

typedef struct conn_s  conn_t;

typedef struct {
    int            fd;
    conn_t        *conn;                /* in place of fd, with TLS */
    int32_t        stream;
    unsigned char  prefix[PREFIX_LEN];  /* that it has not sent yet */
    size_t         prefix_len;
    state_e        state;
    uint32_t       id;
    uint32_t       events;
    int            step;                /* of the handshake */
    size_t         seen;                /* bytes of the step's answer */
    unsigned char  head[12];
    uint32_t       tail;                /* its last four bytes */
    bool           ordered;
    uint64_t       goal;                /* bytes to send, all in all */
    stream_t       in;
    stream_t       out;
    uint64_t       started;
    uint64_t       progress;
} tunnel_t;

typedef struct {
    _Atomic uint64_t  bytes;            /* received by bulk tunnels */
    _Atomic uint64_t  done;             /* tunnels or pings */
    _Atomic int       settled;          /* tunnels that are open, or lost */
    _Atomic int       lost;
    _Atomic int       quiet;            /* that have drained, or been checked */
    _Atomic int       bursts;           /* measured */
    pthread_t         thread;
    int               ep;
    tunnel_t         *tunnels;
    int               n;
    int               opened;
    int               opening;
    int               concurrency;
    int               finished;         /* of a burst */
    uint64_t          burst_started;
    conn_t          **conns;            /* one for each so many tunnels */
    conn_t           *dirty;            /* that may have bytes to send */
    conn_t           *closed;
    phase_e           phase;            /* the one that was acted on */
    uint64_t          ticked;
    unsigned          source;
    times_t           times;
    unsigned char     scratch[BULK_READ];
} client_t;

static client_t  clients[MAX_THREADS];


/*
 * How a proxy is spoken to: in each step one message, and then an answer, of
 * which feed() takes what it can.  It returns the number of bytes, or -1, and
 * sets *done at the end of the answer.
 */

struct front_s {
    const char  *name;
    int          steps;
    size_t     (*compose)(tunnel_t *t, unsigned char *p);
    ssize_t    (*feed)(tunnel_t *t, const unsigned char *p, size_t n,
                       bool *done);
    bool         tls;
    bool         h2;                    /* whose step is a stream */
};


static struct sockaddr_in
target_address(const tunnel_t *t)
{
    return loopback(1, t->id % TARGETS, port);
}


static void
authority(const tunnel_t *t, char host[static 32])
{
    snprintf(host, 32, "127.1.0.%d:%d", (int) (t->id % TARGETS + 1), port);
}


static size_t
connect_compose(tunnel_t *t, unsigned char *p)
{
    char  host[32];

    authority(t, host);

    return (size_t) snprintf((char *) p, PREFIX_LEN, "CONNECT %s HTTP/1.1\r\n"
                             "Host: %s\r\n\r\n", host, host);
}


static ssize_t
connect_feed(tunnel_t *t, const unsigned char *p, size_t n, bool *done)
{
    size_t  i;

    for (i = 0; i < n && !*done; i++) {
        if (t->seen < sizeof(t->head)) {
            t->head[t->seen] = p[i];
        }

        t->seen++;
        t->tail = t->tail << 8 | p[i];
        *done = t->tail == 0x0d0a0d0a;
    }

    if (t->seen >= 12
        && (memcmp(t->head, "HTTP/1.", 7) != 0 || t->head[9] != '2'))
    {
        failed("the answer to CONNECT is \"%.12s\"", (char *) t->head);
        return -1;
    }

    return (ssize_t) i;
}


static size_t
socks5_compose(tunnel_t *t, unsigned char *p)
{
    struct sockaddr_in  sin;

    if (t->step == 0) {
        memcpy(p, "\5\1\0", 3);
        return 3;
    }

    sin = target_address(t);
    memcpy(p, "\5\1\0\1", 4);
    memcpy(p + 4, &sin.sin_addr, 4);
    memcpy(p + 8, &sin.sin_port, 2);

    return 10;
}


static ssize_t
socks5_feed(tunnel_t *t, const unsigned char *p, size_t n, bool *done)
{
    size_t  i, need;

    need = t->step == 0 ? 2 : 10;

    for (i = 0; i < n && t->seen < need; i++) {
        t->head[t->seen++] = p[i];
    }

    *done = t->seen == need;

    if (*done && (t->head[0] != 5 || t->head[1] != 0
                  || (t->step == 1 && t->head[3] != 1)))
    {
        failed("the answer to SOCKS is %d %d", t->head[0], t->head[1]);
        return -1;
    }

    return (ssize_t) i;
}


/* A ClientHello of 517 bytes, as many browsers' are, with a name. */

static size_t
sni_compose(tunnel_t *t, unsigned char *p)
{
    int     len;
    char    name[32];
    size_t  pad;

    len = snprintf(name, sizeof(name), "t%d.test", (int) (t->id % TARGETS + 1));
    pad = HELLO_LEN - 93 - (size_t) len - 4;

    memset(p, 0, HELLO_LEN);

    /* record, message, version, random, session, one cipher, compression */
    memcpy(p, "\x16\3\1", 3);
    p[3] = (HELLO_LEN - RECORD_LEN) >> 8;
    p[4] = (HELLO_LEN - RECORD_LEN) & 0xff;
    p[5] = 1;
    p[7] = (HELLO_LEN - RECORD_LEN - 4) >> 8;
    p[8] = (HELLO_LEN - RECORD_LEN - 4) & 0xff;
    memcpy(p + 9, "\3\3", 2);
    p[43] = 32;
    memcpy(p + 76, "\0\2\x13\1\1\0", 6);

    /* extensions: server_name and padding */
    p[82] = (HELLO_LEN - 84) >> 8;
    p[83] = (HELLO_LEN - 84) & 0xff;
    p[87] = (unsigned char) (len + 5);
    p[89] = (unsigned char) (len + 3);
    p[92] = (unsigned char) len;
    memcpy(p + 93, name, (size_t) len);
    p += 93 + len;
    p[1] = 21;
    p[2] = (unsigned char) (pad >> 8);
    p[3] = (unsigned char) (pad & 0xff);

    return HELLO_LEN;
}


static ssize_t
sni_feed(tunnel_t *t, const unsigned char *p, size_t n, bool *done)
{
    size_t  i;

    for (i = 0; i < n && t->seen < sizeof(hello_answer); i++) {
        t->head[t->seen++] = p[i];
    }

    *done = t->seen == sizeof(hello_answer);

    if (*done && memcmp(t->head, hello_answer, sizeof(hello_answer)) != 0) {
        failed("the answer to a ClientHello is %d %d", t->head[0],
               t->head[5]);
        return -1;
    }

    return (ssize_t) i;
}


static const front_t  fronts[] = {
    { "direct", 0, NULL, NULL, false, false },
    { "relay", 0, NULL, NULL, false, false },
    { "connect", 1, connect_compose, connect_feed, false, false },
    { "connect-tls", 1, connect_compose, connect_feed, true, false },
    { "connect-h2", 1, NULL, NULL, true, true },
    { "socks5", 2, socks5_compose, socks5_feed, false, false },
    { "sni", 1, sni_compose, sni_feed, false, false },
    { NULL, 0, NULL, NULL, false, false },
};


static void  client_advance(client_t *c, tunnel_t *t);
static void  client_fail(client_t *c, tunnel_t *t, const char *what);


/* Connections with TLS. */

struct conn_s {
    int        fd;
    uint32_t   events;
    bool       opened;
    bool       dirty;
    bool       dead;
    int        group;                   /* its place in the client's conns */
    int        n;                       /* tunnels that it has */
    link_t    *link;
    client_t  *client;
    conn_t    *next_dirty;
    conn_t    *next_closed;
};


/* It is looked at before the next wait. */

static void
conn_touch(conn_t *cn)
{
    if (!cn->dirty && !cn->dead) {
        cn->dirty = true;
        cn->next_dirty = cn->client->dirty;
        cn->client->dirty = cn;
    }
}


static void
conn_want(conn_t *cn, uint32_t events)
{
    if (cn->events != events) {
        watch(cn->client->ep, cn->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
              cn->fd, events, cn);
        cn->events = events;
    }
}


/* It is freed when no event and no list can have it any more. */

static void
conn_close(conn_t *cn)
{
    client_t  *c = cn->client;

    if (cn->dead) {
        return;
    }

    cn->dead = true;
    close(cn->fd);

    if (c->conns[cn->group] == cn) {
        c->conns[cn->group] = NULL;
    }

    cn->next_closed = c->closed;
    c->closed = cn;
}


static tunnel_t *
conn_tunnel(const conn_t *cn, int i)
{
    int  k;

    k = cn->group * share + i;

    return i < share && k < cn->client->n ? &cn->client->tunnels[k] : NULL;
}


static void
conn_fail(conn_t *cn, const char *why)
{
    int        i;
    tunnel_t  *t;

    if (!cn->opened && cn->n == 0) {
        failed("a connection with TLS: %s", why);
    }

    conn_close(cn);

    for (i = 0; (t = conn_tunnel(cn, i)) != NULL; i++) {
        if (t->conn == cn) {
            client_fail(cn->client, t, why);
        }
    }
}


/* Sends what there is, but has the others have their turns. */

static void
conn_flush(conn_t *cn)
{
    size_t                n, sent;
    ssize_t               rc;
    const char           *why;
    const unsigned char  *p;

    for (sent = 0; sent < BULK_READ; sent += (size_t) rc) {

        if (!link_output(cn->link, &p, &n, &why)) {
            conn_fail(cn, why);
            return;
        }

        if (n == 0) {
            conn_want(cn, EPOLLIN);

            if (cn->n == 0 && cn->opened && !link_usable(cn->link)) {
                conn_close(cn);
            }

            return;
        }

        rc = send(cn->fd, p, n, MSG_NOSIGNAL);

        if (rc < 0) {
            if (!again(rc)) {
                conn_fail(cn, strerror(errno));
                return;
            }

            break;
        }

        link_sent(cn->link, (size_t) rc);
    }

    conn_want(cn, EPOLLIN|EPOLLOUT);
}


static void
conn_event(conn_t *cn, uint32_t events)
{
    ssize_t      n;
    client_t    *c = cn->client;
    const char  *why;

    if (cn->dead) {
        return;
    }

    if (events & (EPOLLIN|EPOLLHUP|EPOLLERR)) {
        n = recv(cn->fd, c->scratch, BULK_READ, 0);

        if (n <= 0) {
            if (!again(n)) {
                conn_fail(cn, n == 0 ? "closed" : strerror(errno));
            }

            return;
        }

        if (!link_receive(cn->link, c->scratch, (size_t) n, &why)) {
            conn_fail(cn, why);
            return;
        }
    }

    conn_touch(cn);
}


static void
conns_flush(client_t *c)
{
    conn_t  *cn;

    while ((cn = c->dirty) != NULL) {
        c->dirty = cn->next_dirty;
        cn->dirty = false;

        if (!cn->dead) {
            conn_flush(cn);
        }
    }

    while ((cn = c->closed) != NULL) {
        c->closed = cn->next_closed;
        link_free(cn->link);
        free(cn);
    }
}


static void
conn_opened(void *data)
{
    int        i;
    conn_t    *cn = data;
    tunnel_t  *t;

    cn->opened = true;

    for (i = 0; (t = conn_tunnel(cn, i)) != NULL; i++) {
        if (t->conn == cn) {
            client_advance(cn->client, t);
        }
    }
}


/* The part of a tunnel in it. */

static void
conn_request(tunnel_t *t)
{
    char  host[32];

    authority(t, host);

    t->stream = link_open_stream(t->conn->link, t, host);
    t->state = HANDSHAKE;
    t->progress = now_ns();

    conn_touch(t->conn);
}


static void
conn_send(tunnel_t *t, const unsigned char *prefix, size_t len)
{
    memcpy(t->prefix, prefix, len);
    t->prefix_len = len;

    if (!front->h2) {
        link_open_stream(t->conn->link, t, NULL);
    }

    link_wake(t->conn->link, t->stream);
    conn_touch(t->conn);
}


static size_t
conn_pull(void *tunnel, unsigned char *p, size_t n)
{
    size_t     len, payload;
    tunnel_t  *t = tunnel;

    len = t->prefix_len;
    memcpy(p, t->prefix, len);
    t->prefix_len = 0;

    if (t->ordered && !(t->state == BUSY && atomic_load(&phase) >= DRAIN)) {
        payload = t->goal - t->out.pos < n - len ? t->goal - t->out.pos
                                                 : n - len;

        memcpy(p + len, stream_at(&t->out), payload);
        t->out.pos += payload;
        len += payload;
    }

    return len;
}


/* Ends a tunnel: with HTTP/2 its stream, else the connection. */

static void
conn_release(tunnel_t *t, bool reset)
{
    conn_t  *cn = t->conn;

    t->conn = NULL;
    cn->n--;

    if (!cn->dead) {
        link_close_stream(cn->link, t->stream, reset);
        conn_touch(cn);
    }

    if (!front->h2) {
        conn_close(cn);
    }
}


static void
client_want(client_t *c, tunnel_t *t, uint32_t events)
{
    if (!front->tls && t->events != events) {
        watch(c->ep, t->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, t->fd, events,
              t);
        t->events = events;
    }
}


/* A tunnel is open, or will never be. */

static void
client_settle(client_t *c, tunnel_t *t, state_e state)
{
    t->state = state;
    c->opening--;
    atomic_fetch_add(&c->settled, 1);
}


static void
client_lose(client_t *c, tunnel_t *t)
{
    struct linger  reset = { 1, 0 };

    if (t->fd >= 0) {
        setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(t->fd);
        t->fd = -1;
    }

    if (t->conn != NULL) {
        conn_release(t, true);
    }

    if (workload == BURST) {
        t->state = LOST;
        c->finished++;
        return;
    }

    if (workload == RATE) {
        t->state = FREE;                /* a tick starts it anew */
        c->opening--;
        return;
    }

    atomic_fetch_add(&c->lost, 1);

    if (c->phase == OPEN) {
        client_settle(c, t, LOST);
        return;
    }

    t->state = LOST;
    atomic_fetch_add(&c->quiet, 1);
}


static void
client_fail(client_t *c, tunnel_t *t, const char *what)
{
    failed("tunnel %u: %s", t->id, what);
    client_lose(c, t);
}


/*
 * Sends what there is of a handshake, the order with the first payload, and
 * payload up to the tunnel's goal.  Returns false if the tunnel is lost.
 */

static bool
client_send(client_t *c, tunnel_t *t, unsigned char *prefix, size_t len,
    bool payload)
{
    size_t         chunk;
    ssize_t        n;
    uint32_t       check;
    struct iovec   iov[2];
    struct msghdr  msg = { .msg_iov = iov, .msg_iovlen = 2 };

    chunk = 0;

    if (payload) {
        chunk = t->goal - t->out.pos < BLOCK ? t->goal - t->out.pos : BLOCK;

        if (!t->ordered) {
            check = ~t->id;
            memcpy(prefix + len, "TNB", 3);
            prefix[len + 3] = (unsigned char) (workload == BULK ? mode : 'E');
            memcpy(prefix + len + 4, &t->id, 4);
            memcpy(prefix + len + 8, &check, 4);
            len += ORDER_LEN;
        }
    }

    if (front->tls) {
        conn_send(t, prefix, len);
        t->ordered |= payload;
        t->progress = now_ns();

        if (t->state == CONNECTING) {
            t->state = HANDSHAKE;
        }

        return true;
    }

    iov[0].iov_base = prefix;
    iov[0].iov_len = len;
    iov[1].iov_base = (void *) stream_at(&t->out);
    iov[1].iov_len = chunk;

    n = len + chunk == 0 ? 0 : sendmsg(t->fd, &msg, MSG_NOSIGNAL);

    if (again(n) && (t->state == CONNECTING || len == 0)) {
        client_want(c, t, EPOLLIN|EPOLLOUT);
        return true;
    }

    if (n < (ssize_t) len) {
        client_fail(c, t, n < 0 ? strerror(errno)
                                : "a message was not taken as a whole");
        return false;
    }

    t->ordered |= payload;
    t->out.pos += (uint64_t) n - len;
    t->progress = now_ns();

    client_want(c, t, payload && t->out.pos < t->goal ? EPOLLIN|EPOLLOUT
                                                      : EPOLLIN);

    if (t->state == CONNECTING) {
        t->state = HANDSHAKE;
    }

    return true;
}


/* Says what is next in opening a tunnel: a step, and at the end an echo. */

static void
client_advance(client_t *c, tunnel_t *t)
{
    size_t         len;
    unsigned char  prefix[PREFIX_LEN];

    if (t->step < front->steps) {
        if (front->h2) {
            conn_request(t);
            return;
        }

        len = front->compose(t, prefix);
        client_send(c, t, prefix, len, false);
        return;
    }

    if (workload == BULK) {
        client_want(c, t, EPOLLIN);
        client_settle(c, t, READY);
        return;
    }

    if (client_send(c, t, prefix, 0, true) && t->state == HANDSHAKE) {
        t->state = ECHO;
    }
}


/* A new socket, which may be connected by now; -1 if not even that. */

static int
client_connect(client_t *c, struct sockaddr_in to)
{
    int                 fd;
    struct sockaddr_in  from;

    from = loopback(2, c->source++ % SOURCES, 0);

    fd = socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);

    /* the port is chosen by connect(), which may share it between peers */
    set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY);

    if (bind(fd, (struct sockaddr *) &from, sizeof(from)) != 0
        || (connect(fd, (struct sockaddr *) &to, sizeof(to)) != 0
            && errno != EINPROGRESS))
    {
        if (fd >= 0) {
            close(fd);
        }

        return -1;
    }

    return fd;
}


/* Finds a tunnel the connection of its group, or makes a new one. */

static void
client_attach(client_t *c, tunnel_t *t)
{
    int      fd, group;
    conn_t  *cn;

    group = (int) (t - c->tunnels) / share;
    cn = c->conns[group];

    if (cn == NULL || (cn->opened && !link_usable(cn->link))) {
        fd = client_connect(c, proxy);
        if (fd < 0) {
            client_fail(c, t, strerror(errno));
            return;
        }

        cn = allocate(sizeof(conn_t));
        cn->fd = fd;
        cn->group = group;
        cn->client = c;
        cn->link = link_new(front->h2, cn);
        if (cn->link == NULL) {
            die("no memory");
        }

        c->conns[group] = cn;
        conn_touch(cn);
    }

    t->conn = cn;
    cn->n++;

    if (cn->opened) {
        client_advance(c, t);
    }
}


static void
client_start(client_t *c, tunnel_t *t)
{
    t->state = CONNECTING;
    t->events = 0;
    t->step = 0;
    t->seen = 0;
    t->tail = 0;
    t->prefix_len = 0;
    t->ordered = false;
    t->goal = workload == BULK ? 0 : (uint64_t) size;
    t->started = t->progress = now_ns();
    stream_init(&t->in, t->id);
    stream_init(&t->out, t->id);

    c->opening++;

    if (front->tls) {
        client_attach(c, t);
        return;
    }

    t->fd = client_connect(c, proxy.sin_port ? proxy : target_address(t));
    if (t->fd < 0) {
        client_fail(c, t, strerror(errno));
        return;
    }

    if (workload == BULK && front->steps == 0) {
        client_want(c, t, EPOLLOUT);
        return;
    }

    /* on the loopback it is mostly connected by now */
    client_advance(c, t);
}


static void
client_ping(client_t *c, tunnel_t *t)
{
    unsigned char  prefix[PREFIX_LEN];

    t->state = ECHO;
    t->goal += (uint64_t) size;
    t->started = t->progress = now_ns();

    client_send(c, t, prefix, 0, true);
}


/* An echo is complete. */

static void
client_echoed(client_t *c, tunnel_t *t)
{
    phase_e   now;
    uint64_t  took;

    now = (phase_e) atomic_load(&phase);
    took = now_ns() - t->started;

    if (workload > BURST && c->phase == OPEN) {
        client_settle(c, t, READY);
        return;
    }

    if (workload == IDLE) {
        t->state = READY;
        atomic_fetch_add(&c->quiet, 1);
        return;
    }

    atomic_fetch_add(&c->done, 1);

    if (workload == BURST) {
        t->state = READY;
        c->finished++;
        return;
    }

    if (now == MEASURE) {
        times_add(&c->times, took);
    }

    if (workload == PING) {
        t->state = READY;

        if (now < DRAIN) {
            client_ping(c, t);
        }

        return;
    }

    if (front->tls) {
        conn_release(t, false);

    } else {
        close(t->fd);
        t->fd = -1;
    }

    t->state = FREE;
    c->opening--;

    if (now < DRAIN) {
        client_start(c, t);
    }
}


/* All tunnels of a burst have echoed: closes all of them, and begins anew. */

static void
client_burst(client_t *c)
{
    int        i;
    tunnel_t  *t;

    if (c->burst_started != 0 && c->phase == MEASURE) {
        times_add(&c->times, now_ns() - c->burst_started);
        atomic_fetch_add(&c->bursts, 1);
    }

    for (i = 0; i < c->n; i++) {
        t = &c->tunnels[i];

        if (t->conn != NULL) {
            conn_close(t->conn);
            t->conn = NULL;
        }

        if (t->fd >= 0) {
            close(t->fd);
            t->fd = -1;
        }
    }

    c->finished = 0;
    c->opening = 0;
    c->burst_started = now_ns();

    for (i = 0; i < c->n; i++) {
        client_start(c, &c->tunnels[i]);
    }
}


static void
client_echo(client_t *c, tunnel_t *t, const unsigned char *p, size_t n)
{
    if (n > t->out.pos - t->in.pos || memcmp(p, stream_at(&t->in), n) != 0) {
        client_fail(c, t, "the echo differs");
        return;
    }

    t->in.pos += n;

    if (t->in.pos == t->goal) {
        client_echoed(c, t);
    }
}


static void
client_handshake(client_t *c, tunnel_t *t, const unsigned char *p, size_t n)
{
    bool     done;
    ssize_t  used;

    done = false;
    used = front->feed(t, p, n, &done);

    if (used < 0) {
        client_lose(c, t);
        return;
    }

    if ((size_t) used < n) {
        client_fail(c, t, "bytes behind the answer to the handshake");
        return;
    }

    if (done) {
        t->step++;
        t->seen = 0;
        client_advance(c, t);
    }
}


/* Bytes that are no part of a bulk transfer. */

static void
client_take(client_t *c, tunnel_t *t, const unsigned char *p, size_t n)
{
    switch (t->state) {

    case HANDSHAKE:
        client_handshake(c, t, p, n);
        break;

    case ECHO:
        client_echo(c, t, p, n);
        break;

    default:
        client_fail(c, t, "bytes that nobody sent");
    }
}


static void
client_read(client_t *c, tunnel_t *t)
{
    ssize_t  n;

    n = t->state == BUSY ? stream_drop(t->fd, &t->in, c->scratch)
                         : recv(t->fd, c->scratch, BLOCK, 0);

    if (n <= 0) {
        if (!again(n)) {
            client_fail(c, t, n == -2 ? "wrong bytes"
                              : n == 0 ? "closed" : strerror(errno));
        }

        return;
    }

    t->progress = now_ns();

    if (t->state == BUSY) {
        atomic_fetch_add(&c->bytes, (uint64_t) n);
        return;
    }

    client_take(c, t, c->scratch, (size_t) n);
}


/* What a link tells of a tunnel. */

static void
conn_received(void *tunnel, const unsigned char *p, size_t n)
{
    tunnel_t  *t = tunnel;
    client_t  *c = t->conn->client;

    t->progress = now_ns();

    if (t->state != BUSY) {
        client_take(c, t, p, n);

    } else if (stream_take(&t->in, p, n)) {
        atomic_fetch_add(&c->bytes, n);

    } else {
        client_fail(c, t, "wrong bytes");
    }
}


static void
conn_answered(void *tunnel, int status)
{
    tunnel_t  *t = tunnel;
    client_t  *c = t->conn->client;

    if (status / 100 != 2) {
        failed("the answer to CONNECT is %d", status);
        client_lose(c, t);
        return;
    }

    t->step++;
    client_advance(c, t);
}


static void
conn_closed(void *tunnel, uint32_t code)
{
    tunnel_t  *t = tunnel;
    client_t  *c = t->conn->client;

    enum { REFUSED_STREAM = 7 };

    if (code == REFUSED_STREAM && t->state == HANDSHAKE) {
        /* the proxy was about to close the connection when this came */

        conn_release(t, false);
        c->opening--;
        client_start(c, t);
        return;
    }

    client_fail(c, t, code ? "its stream was reset" : "closed");
}


static const link_events_t  link_events = {
    conn_opened, conn_received, conn_pull, conn_answered, conn_closed
};


static void
client_event(client_t *c, tunnel_t *t, uint32_t events)
{
    unsigned char  prefix[PREFIX_LEN];

    if (t->fd < 0) {
        return;
    }

    if (t->state == CONNECTING) {
        /* an error shows in what is sent, or read */

        if (events & (EPOLLHUP|EPOLLERR)) {
            client_read(c, t);

        } else if (events & EPOLLOUT) {
            client_advance(c, t);
        }

        return;
    }

    if (events & EPOLLOUT) {
        if (t->state == BUSY && atomic_load(&phase) >= DRAIN) {
            t->goal = t->out.pos;
        }

        if (!client_send(c, t, prefix, 0, true)) {
            return;
        }
    }

    if (events & (EPOLLIN|EPOLLHUP|EPOLLERR)) {
        client_read(c, t);
    }
}


/* What the tunnels are for begins as soon as all of them are open. */

static void
client_phase(client_t *c, phase_e new)
{
    int            i;
    bool           begin;
    tunnel_t      *t;
    unsigned char  prefix[PREFIX_LEN];

    begin = c->phase == OPEN;
    c->phase = new;

    for (i = 0; begin && i < c->n; i++) {
        t = &c->tunnels[i];

        if (t->state != READY) {
            continue;
        }

        if (workload == BULK) {
            t->state = BUSY;
            t->goal = mode == 'S' ? 0 : UINT64_MAX;
            client_send(c, t, prefix, 0, true);

        } else {
            client_ping(c, t);
        }
    }
}


static bool
client_drained(const tunnel_t *t)
{
    const flow_t  *f = &flows[t->id];

    if (mode != 'S'
        && (t->goal != t->out.pos || atomic_load(&f->received) != t->out.pos))
    {
        return false;
    }

    return mode == 'D'
           || (atomic_load(&f->done) && atomic_load(&f->sent) == t->in.pos);
}


static void
client_tick(client_t *c)
{
    int        i;
    uint64_t   now;
    tunnel_t  *t;

    now = now_ns();

    if (now - c->ticked < TICK_MS * 1000000) {
        return;
    }

    c->ticked = now;

    for (i = 0; i < c->opened; i++) {
        t = &c->tunnels[i];

        switch (t->state) {

        case FREE:
            if (c->phase < DRAIN) {
                client_start(c, t);
            }

            break;

        case BUSY:
            /* while it is sent, the counters tell of a stall */

            if (c->phase >= DRAIN) {
                t->goal = mode == 'S' ? 0 : t->out.pos;

                if (client_drained(t)) {
                    t->state = READY;
                    atomic_fetch_add(&c->quiet, 1);
                }
            }

            break;

        case CONNECTING:
        case HANDSHAKE:
        case ECHO:
            if (now > t->progress && now - t->progress > TIMEOUT * 1000000000L)
            {
                client_fail(c, t, "no progress");
            }

            break;

        default:
            break;
        }
    }
}


static void *
client_main(void *data)
{
    int                 i, n;
    phase_e             now;
    client_t           *c = data;
    struct epoll_event  ev[EVENTS];

    c->ep = epoll_create1(EPOLL_CLOEXEC);

    for ( ;; ) {
        now = (phase_e) atomic_load(&phase);

        if (now >= CLIENTS_EXIT) {
            return NULL;
        }

        if (now != c->phase) {
            client_phase(c, now);
        }

        while (c->opening < c->concurrency && c->opened < c->n && now < DRAIN)
        {
            client_start(c, &c->tunnels[c->opened++]);
        }

        if (workload == BURST && c->finished == c->n && now < DRAIN) {
            client_burst(c);
        }

        conns_flush(c);

        n = epoll_wait(c->ep, ev, EVENTS, TICK_MS);

        for (i = 0; i < n; i++) {
            if (front->tls) {
                conn_event(ev[i].data.ptr, ev[i].events);
            } else {
                client_event(c, ev[i].data.ptr, ev[i].events);
            }
        }

        client_tick(c);
    }
}


/* The proxy's processes: CPU and memory. */

typedef struct {
    pid_t   pid;
    pid_t   parent;
    bool    member;
    double  cpu;                        /* seconds, with children reaped */
} process_t;

typedef struct {
    double    at;
    double    cpu;                      /* of the proxy, */
    double    self;                     /* of this program, */
    double    busy;                     /* of all there is */
    double    memory;                   /* of the proxy, bytes */
    uint64_t  done;
    uint64_t  down;
    uint64_t  up;
} sample_t;


static bool
read_file(const char *path, char *buf, size_t len)
{
    FILE    *f;
    size_t   n;

    f = fopen(path, "r");
    if (f == NULL) {
        return false;
    }

    n = fread(buf, 1, len - 1, f);
    buf[n] = '\0';
    fclose(f);

    return true;
}


static bool
process_read(process_t *p, int pid)
{
    int            parent;
    long           rest[2];
    char           path[64], buf[1024], *q;
    unsigned long  own[2];

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);

    if (!read_file(path, buf, sizeof(buf))) {
        return false;
    }

    q = strrchr(buf, ')');
    if (q == NULL
        || sscanf(q + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u"
                  " %lu %lu %ld %ld", &parent, &own[0], &own[1], &rest[0],
                  &rest[1]) != 5)
    {
        return false;
    }

    p->pid = pid;
    p->parent = parent;
    p->member = pid == proxy_pid;
    p->cpu = ((double) own[0] + (double) own[1] + (double) rest[0]
              + (double) rest[1]) / (double) sysconf(_SC_CLK_TCK);

    return true;
}


static double
process_memory(pid_t pid)
{
    char  path[64], buf[4096], *p;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int) pid);

    if (!read_file(path, buf, sizeof(buf))) {
        return 0;
    }

    p = strstr(buf, "\nPss:");

    return p ? 1024 * strtod(p + 5, NULL) : 0;
}


/* Adds up the process that --pid names and all that descend from it. */

static void
sample_proxy(sample_t *s, bool memory)
{
    DIR            *dir;
    bool            grown;
    size_t          i, k, n;
    process_t      *all;
    struct dirent  *e;

    dir = proxy_pid ? opendir("/proc") : NULL;
    if (dir == NULL) {
        return;
    }

    n = 0;
    all = NULL;

    while ((e = readdir(dir)) != NULL) {
        if (n % 256 == 0) {
            all = realloc(all, (n + 256) * sizeof(process_t));
            if (all == NULL) {
                die("no memory");
            }
        }

        n += e->d_name[0] > '0' && e->d_name[0] <= '9'
             && process_read(&all[n], atoi(e->d_name));
    }

    closedir(dir);

    do {
        grown = false;

        for (i = 0; i < n; i++) {
            for (k = 0; k < n && !all[i].member; k++) {
                if (all[k].member && all[i].parent == all[k].pid) {
                    all[i].member = grown = true;
                }
            }
        }
    } while (grown);

    for (i = 0; i < n; i++) {
        if (all[i].member) {
            s->cpu += all[i].cpu;
            s->memory += memory ? process_memory(all[i].pid) : 0;
        }
    }

    free(all);
}


static sample_t
sample(bool memory)
{
    int            i;
    char           buf[1024];
    double         v[8];
    sample_t       s = { 0 };
    struct rusage  ru;

    sample_proxy(&s, memory);

    if (read_file("/proc/stat", buf, sizeof(buf))
        && sscanf(buf, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1],
                  &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 8)
    {
        /* all but idle and iowait */
        s.busy = (v[0] + v[1] + v[2] + v[5] + v[6] + v[7])
                 / (double) sysconf(_SC_CLK_TCK);
    }

    getrusage(RUSAGE_SELF, &ru);
    s.self = (double) (ru.ru_utime.tv_sec + ru.ru_stime.tv_sec)
             + (double) (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;

    for (i = 0; i < threads; i++) {
        s.done += atomic_load(&clients[i].done);
        s.down += atomic_load(&clients[i].bytes);
        s.up += atomic_load(&origins[i].bytes);
    }

    s.at = (double) now_ns() / 1e9;

    return s;
}


/* The course of a run. */

static int
settled(void)
{
    int  i, n;

    for (i = 0, n = 0; i < threads; i++) {
        n += atomic_load(&clients[i].settled);
    }

    return n;
}


static int
lost(void)
{
    int  i, n;

    for (i = 0, n = 0; i < threads; i++) {
        n += atomic_load(&clients[i].lost);
    }

    return n;
}


static int
quiet(void)
{
    int  i, n;

    for (i = 0, n = 0; i < threads; i++) {
        n += atomic_load(&clients[i].quiet);
    }

    return n;
}


static int
bursts(void)
{
    int  i, n;

    for (i = 0, n = 0; i < threads; i++) {
        n += atomic_load(&clients[i].bursts);
    }

    return n;
}


static bool
wait_for(int (*value)(void), int want, double seconds)
{
    uint64_t  end;

    end = now_ns() + (uint64_t) (seconds * 1e9);

    while (value() < want) {
        if (now_ns() > end || atomic_load(&errors) > MAX_ERRORS) {
            return false;
        }

        sleep_ms(5);
    }

    return true;
}


static void
wait_seconds(double seconds)
{
    uint64_t  end;

    end = now_ns() + (uint64_t) (seconds * 1e9);

    while (now_ns() < end && atomic_load(&errors) <= MAX_ERRORS) {
        sleep_ms(5);
    }
}


static void
start(void)
{
    int        i, k;
    uint32_t   id;
    client_t  *c;

    for (i = 0; i < threads; i++) {
        if (pthread_create(&origins[i].thread, NULL, origin_main, &origins[i])
            != 0)
        {
            die("no thread");
        }
    }

    while (atomic_load(&origins_ready) < threads) {
        sleep_ms(1);
    }

    for (i = 0, id = 0; i < threads; i++) {
        c = &clients[i];
        c->n = tunnels / threads + (i < tunnels % threads);
        c->concurrency = workload <= BURST ? c->n
                                           : (OPENING + threads - 1) / threads;
        c->source = (unsigned) (i * SOURCES / threads);
        c->tunnels = allocate((size_t) c->n * sizeof(tunnel_t));
        c->conns = allocate((size_t) c->n * sizeof(conn_t *));

        for (k = 0; k < c->n; k++) {
            c->tunnels[k].id = id++;
            c->tunnels[k].fd = -1;
        }

        if (pthread_create(&c->thread, NULL, client_main, c) != 0) {
            die("no thread");
        }
    }
}


static void
stop(void)
{
    int  i;

    atomic_store(&phase, CLIENTS_EXIT);

    for (i = 0; i < threads; i++) {
        pthread_join(clients[i].thread, NULL);
    }

    atomic_store(&phase, ORIGINS_EXIT);

    for (i = 0; i < threads; i++) {
        pthread_join(origins[i].thread, NULL);
    }
}


static void
result(const char *key, double value)
{
    printf(", \"%s\": %.6g", key, value);
}


static void
run_idle(void)
{
    int       up;
    sample_t  before, after;

    before = sample(true);
    start();

    if (!wait_for(settled, tunnels, TIMEOUT + tunnels / 100)) {
        failed("%d of %d tunnels opened", settled(), tunnels);
    }

    sleep_ms(HOLD_MS);

    after = sample(true);
    up = settled() - lost();

    atomic_store(&phase, CHECK);

    if (!wait_for(quiet, up, TIMEOUT + tunnels / 100)) {
        failed("%d of %d idle tunnels still work", quiet(), up);
    }

    stop();

    if (up > 0) {
        result("bytes_per_tunnel", (after.memory - before.memory) / up);
    }
}


static void
run_measured(void)
{
    int       i, k;
    double    cpu, done, gib, self, time;
    times_t   all = { 0 };
    sample_t  a, b;

    start();

    if (workload > BURST && !wait_for(settled, tunnels, TIMEOUT)) {
        failed("%d of %d tunnels opened", settled(), tunnels);
    }

    atomic_store(&phase, RUN);
    wait_seconds(warmup);

    a = sample(false);
    atomic_store(&phase, MEASURE);
    wait_seconds(duration);

    if (workload == BURST && !wait_for(bursts, 1, TIMEOUT)) {
        failed("no burst of tunnels came to its end");
    }

    b = sample(false);
    atomic_store(&phase, DRAIN);

    if (workload == BULK && !wait_for(quiet, tunnels, TIMEOUT)) {
        failed("%d of %d tunnels did not drain: bytes are missing",
               tunnels - quiet(), tunnels);
    }

    stop();

    time = b.at - a.at;
    cpu = b.cpu - a.cpu;
    self = b.self - a.self;
    done = (double) (b.done - a.done);
    gib = (double) (b.down - a.down + b.up - a.up) / (1 << 30);

    if (done + gib <= 0) {
        failed("nothing was moved");
        return;
    }

    for (i = 0; i < threads; i++) {
        for (k = 0; k < BUCKETS; k++) {
            all.bucket[k] += clients[i].times.bucket[k];
        }

        all.n += clients[i].times.n;
    }

    switch (workload) {

    case BULK:
        result("gib_per_s", gib / time);
        result("down_gib_per_s", (double) (b.down - a.down) / (1 << 30) / time);
        result("up_gib_per_s", (double) (b.up - a.up) / (1 << 30) / time);
        break;

    case RATE:
    case BURST:
        result("tunnels_per_s", done / time);
        break;

    default:
        result("pings_per_s", done / time);
    }

    if (workload != BULK) {
        result("p50_us", times_us(&all, 0.5));
        result("p99_us", times_us(&all, 0.99));
    }

    if (proxy_pid) {
        if (workload == BULK) {
            result("cpu_s_per_gib", cpu / gib);
        } else {
            result(workload == PING ? "cpu_us_per_ping" : "cpu_us_per_tunnel",
                   cpu / done * 1e6);
        }

        result("proxy_cpus", cpu / time);
    }

    result("generator_cpus", self / time);
    result("other_cpus", (b.busy - a.busy - cpu - self) / time);
}


/* The command line. */

static const char  usage[] =
"usage: tunnelbench rate|burst|ping|bulk|idle [option ...]\n"
"\n"
"  rate        tunnels are opened, echo some bytes, and are closed\n"
"  burst       the same, but all at once; the times are those of all\n"
"  ping        tunnels echo some bytes, again and again\n"
"  bulk        tunnels carry as much as they can\n"
"  idle        tunnels are opened, echo some bytes, and stay\n"
"\n"
"  -f FRONT    direct, relay, connect, connect-tls, connect-h2, socks5, sni\n"
"              [direct]\n"
"  -p A:P      the proxy, within 127.0.0.0/8\n"
"  -P PID      its first process, for its use of CPU and memory\n"
"  -n N        tunnels [64]\n"
"  -c N        of these, how many share a connection of connect-h2 [64]\n"
"  -s N        bytes of an echo [1]\n"
"  -D DIR      of bulk: down, up, or both [down]\n"
"  -d SECONDS  measured [3]\n"
"  -w SECONDS  before that [0.3]\n"
"  -o PORT     of the origin on 127.1.0.1 to 127.1.0.8 [19900]\n"
"  -t N        threads of each end [1]\n"
"\n"
"The status is 0 if no tunnel failed and no byte differed, else 1; it is 2 if\n"
"the run was not possible, and 3 if it did not come to its end.\n";


static double
number(const char *text, double min, double max)
{
    char    *end;
    double   v;

    v = strtod(text, &end);

    if (end == text || *end != '\0' || !(v >= min && v <= max)) {
        die("\"%s\" is not a number from %g to %g", text, min, max);
    }

    return v;
}


static int
choice(const char *text, const char *const *words)
{
    int  i;

    for (i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            return i;
        }
    }

    die("\"%s\" is not known, see tunnelbench -h", text);
    return 0;
}


static void
parse_proxy(char *text)
{
    char  *colon;

    colon = strchr(text, ':');
    if (colon == NULL) {
        die("the proxy is an address and a port");
    }

    *colon = '\0';
    proxy.sin_family = AF_INET;
    proxy.sin_port = htons((uint16_t) number(colon + 1, 1, 65535));

    if (inet_pton(AF_INET, text, &proxy.sin_addr) != 1
        || ntohl(proxy.sin_addr.s_addr) >> 24 != 127)
    {
        die("the proxy is not within 127.0.0.0/8");
    }
}


static void
parse_options(int argc, char **argv)
{
    int          o;
    const char  *why;

    static const char *const  workloads[] = {
        "rate", "burst", "ping", "bulk", "idle", NULL
    };

    static const char *const  directions[] = { "down", "up", "both", NULL };

    front = &fronts[0];

    while ((o = getopt(argc, argv, "f:p:P:n:c:s:D:d:w:o:t:h")) != -1) {
        switch (o) {

        case 'f':
            for (front = fronts; front->name; front++) {
                if (strcmp(front->name, optarg) == 0) {
                    break;
                }
            }

            if (front->name == NULL) {
                die("there is no front \"%s\"", optarg);
            }

            break;

        case 'p':
            parse_proxy(optarg);
            break;
        case 'P':
            proxy_pid = (pid_t) number(optarg, 1, 1e9);
            break;
        case 'n':
            tunnels = (int) number(optarg, 1, MAX_TUNNELS);
            break;
        case 'c':
            share = (int) number(optarg, 1, MAX_TUNNELS);
            break;
        case 's':
            size = (int) number(optarg, 1, BLOCK);
            break;
        case 'D':
            mode = "SDB"[choice(optarg, directions)];
            break;
        case 'd':
            duration = number(optarg, 0.1, 300);
            break;
        case 'w':
            warmup = number(optarg, 0, 300);
            break;
        case 'o':
            port = (int) number(optarg, 1, 65535);
            break;
        case 't':
            threads = (int) number(optarg, 1, MAX_THREADS);
            break;
        case 'h':
            fputs(usage, stdout);
            why = link_init(NULL);

            if (why != NULL) {
                printf("\nWithout connect-tls and connect-h2: it is %s.\n",
                       why);
            }

            exit(0);
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }

    if (optind + 1 != argc) {
        fputs(usage, stderr);
        exit(2);
    }

    workload = (workload_e) choice(argv[optind], workloads);

    if ((front == &fronts[0]) != (proxy.sin_port == 0)) {
        die("a proxy goes with all fronts but \"direct\"");
    }

    if (threads > tunnels) {
        threads = tunnels;
    }

    if (!front->h2) {
        share = 1;
    }
}


static void
overrun(int sig)
{
    static const char  text[] = "tunnelbench: the run did not come to its end";

    (void) sig;
    _exit(write(STDERR_FILENO, text, sizeof(text) - 1) < 0 ? 4 : 3);
}


int
main(int argc, char **argv)
{
    rlim_t         need;
    const char    *why;
    struct rlimit  rl;

    parse_options(argc, argv);

    why = front->tls ? link_init(&link_events) : NULL;
    if (why != NULL) {
        die("front \"%s\": %s", front->name, why);
    }

    /* both ends are here, and one that was closed may have to be accepted */
    need = (rlim_t) (2 * tunnels + 2 * OPENING + 128);

    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;

    if (rl.rlim_max < need || setrlimit(RLIMIT_NOFILE, &rl) != 0) {
        die("%d tunnels take %d open files, the limit is %d", tunnels,
            (int) need, (int) rl.rlim_max);
    }

    signal(SIGALRM, overrun);
    alarm((unsigned) (duration + warmup + 2 * (TIMEOUT + tunnels / 100) + 10));

    pattern_init();

    printf("{\"front\": \"%s\", \"tunnels\": %d", front->name, tunnels);

    if (workload == IDLE) {
        run_idle();
    } else {
        run_measured();
    }

    result("errors", atomic_load(&errors));
    printf("}\n");

    return atomic_load(&errors) != 0;
}
