
/*
 * UDP: a client's datagrams, in the wrapping of SOCKS5 (RFC 1928 7).
 *
 * One socket faces the client, one all targets.  The relay moves payloads
 * between the two ends as it moves bytes elsewhere, a datagram with each read;
 * here is what it does not know: who they are from and for.
 *
 * Each target is admitted by the rules, and remembered, so that what it
 * answers is let in, and nothing else is.
 */


#include "ngx_tunnel_session.h"
#include "ngx_tunnel_socks.h"


/* targets of a client that are remembered */

#define NGX_TUNNEL_UDP_PEERS     256

/* datagrams, and bytes of them, that wait for a name to be resolved */

#define NGX_TUNNEL_UDP_QUERIES   16
#define NGX_TUNNEL_UDP_HELD      (64 * 1024)

/* addresses of a name that are looked at */

#define NGX_TUNNEL_UDP_ADDRS     16

/* datagrams that are dropped in one event, before others have their turn */

#define NGX_TUNNEL_UDP_DROPS     16


typedef struct {
    u_char                        ip[NGX_TUNNEL_IP_LEN];
    in_port_t                     port;
} ngx_tunnel_udp_address_t;


typedef struct {
    ngx_queue_t                   queue;         /* the latest one is first */
    ngx_tunnel_udp_address_t      address;
    unsigned                      literal:1;     /* admitted as an address,
                                                    not just by its name */
    unsigned                      failed:1;      /* could not be sent to */
} ngx_tunnel_udp_peer_t;


/* a datagram whose target is a name; its payload and the name are behind */

typedef struct {
    ngx_queue_t                   queue;
    ngx_tunnel_udp_t             *udp;
    ngx_resolver_ctx_t           *ctx;           /* until it is resolved */
    ngx_tunnel_udp_address_t      address;
    size_t                        len;
    ngx_int_t                     state;         /* NGX_AGAIN, NGX_OK: there
                                                    is the address, or
                                                    NGX_DECLINED */
} ngx_tunnel_udp_query_t;


struct ngx_tunnel_udp_s {
    ngx_tunnel_session_t         *session;

    ngx_connection_t             *connection;    /* to the client */
    int                           client_family; /* of this one's socket */
    int                           target_family; /* and of the other one's */
    int                           bound_family;  /* 0: targets of both */

    ngx_tunnel_udp_address_t      client;        /* port 0: not known yet */
    ngx_tunnel_udp_address_t      to;            /* of the last from there */
    ngx_sockaddr_t                from;          /* of the last from a
                                                    target */

    ngx_queue_t                   peers;
    ngx_uint_t                    npeers;

    ngx_queue_t                   queries;
    ngx_uint_t                    nqueries;
    size_t                        held;          /* bytes of their payloads */

    unsigned                      resolving:1;   /* in ngx_resolve_name() */
    unsigned                      denied:1;      /* and it is in the log */
    unsigned                      unsent:1;      /* the same */
};


static ngx_tunnel_result_e ngx_tunnel_udp_create(ngx_tunnel_session_t *s,
    struct sockaddr *sa, socklen_t socklen, struct sockaddr *client);
static ngx_tunnel_result_e ngx_tunnel_udp_open(ngx_tunnel_session_t *s,
    ngx_connection_t **cp, struct sockaddr *sa, socklen_t socklen,
    ngx_uint_t transparent);
static ngx_tunnel_result_e ngx_tunnel_udp_target(ngx_tunnel_session_t *s);
static void ngx_tunnel_udp_handler(ngx_event_t *ev);
static ssize_t ngx_tunnel_udp_client_recv(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ssize_t ngx_tunnel_udp_client_datagram(ngx_tunnel_udp_t *udp,
    u_char *buf, size_t len, ngx_tunnel_udp_address_t *from);
static ssize_t ngx_tunnel_udp_client_send(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ssize_t ngx_tunnel_udp_target_recv(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ssize_t ngx_tunnel_udp_target_send(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ssize_t ngx_tunnel_udp_lost(ngx_tunnel_end_t *e, size_t size);
static ssize_t ngx_tunnel_udp_recv(ngx_connection_t *c, u_char *buf,
    size_t size, ngx_sockaddr_t *sa);
static ssize_t ngx_tunnel_udp_send(ngx_tunnel_end_t *e, struct iovec *iov,
    ngx_uint_t n, ngx_sockaddr_t *sa, socklen_t socklen, size_t size);
static ngx_int_t ngx_tunnel_udp_admit(ngx_tunnel_udp_t *udp);
static ngx_int_t ngx_tunnel_udp_admit_host(ngx_tunnel_udp_t *udp,
    ngx_str_t *host, in_port_t port, u_char *data, size_t len);
static ngx_int_t ngx_tunnel_udp_resolve(ngx_tunnel_udp_t *udp,
    ngx_tunnel_target_t *t, u_char *data, size_t len);
static void ngx_tunnel_udp_resolved(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_tunnel_udp_choose(ngx_tunnel_udp_t *udp,
    ngx_resolver_addr_t *addrs, ngx_uint_t n, in_port_t port,
    ngx_tunnel_udp_address_t *address);
static size_t ngx_tunnel_udp_take(ngx_tunnel_udp_t *udp, u_char *buf);
static ngx_int_t ngx_tunnel_udp_free(ngx_tunnel_udp_t *udp,
    ngx_tunnel_udp_query_t *q);
static ngx_err_t ngx_tunnel_udp_route(ngx_tunnel_udp_t *udp,
    ngx_tunnel_udp_address_t *address);
static ngx_int_t ngx_tunnel_udp_check_target(ngx_tunnel_udp_t *udp,
    ngx_tunnel_target_t *t);
static ngx_int_t ngx_tunnel_udp_check_address(ngx_tunnel_udp_t *udp,
    ngx_tunnel_udp_address_t *address, ngx_uint_t log);
static ngx_int_t ngx_tunnel_udp_denied(ngx_tunnel_udp_t *udp, ngx_int_t rc,
    ngx_str_t *target, ngx_str_t *what, ngx_uint_t log);
static void ngx_tunnel_udp_unsent(ngx_tunnel_udp_t *udp, ngx_err_t err);
static ngx_tunnel_udp_peer_t *ngx_tunnel_udp_find(ngx_tunnel_udp_t *udp,
    ngx_tunnel_udp_address_t *address);
static ngx_int_t ngx_tunnel_udp_remember(ngx_tunnel_udp_t *udp,
    ngx_tunnel_udp_address_t *address, ngx_uint_t literal);
static socklen_t ngx_tunnel_udp_sockaddr(ngx_tunnel_udp_address_t *address,
    int family, ngx_sockaddr_t *sa);
static ngx_int_t ngx_tunnel_udp_end_open(ngx_tunnel_end_t *e,
    ngx_uint_t keepalive);
static ngx_int_t ngx_tunnel_udp_end_shutdown(ngx_tunnel_end_t *e,
    ngx_uint_t last);
static void ngx_tunnel_udp_end_void(ngx_tunnel_end_t *e);
static size_t ngx_tunnel_udp_end_unsent(ngx_tunnel_end_t *e);
static ngx_uint_t ngx_tunnel_udp_end_failed(ngx_tunnel_end_t *e);
static ngx_int_t ngx_tunnel_udp_end_events(ngx_tunnel_end_t *e);


static const ngx_tunnel_end_ops_t  ngx_tunnel_udp_client_ops = {
    ngx_tunnel_udp_end_open,
    ngx_tunnel_udp_client_recv,
    ngx_tunnel_udp_client_send,
    ngx_tunnel_udp_end_shutdown,
    ngx_tunnel_udp_end_void,
    ngx_tunnel_udp_end_void,
    ngx_tunnel_udp_end_unsent,
    ngx_tunnel_udp_end_failed,
    ngx_tunnel_udp_end_events
};


static const ngx_tunnel_end_ops_t  ngx_tunnel_udp_target_ops = {
    ngx_tunnel_udp_end_open,
    ngx_tunnel_udp_target_recv,
    ngx_tunnel_udp_target_send,
    ngx_tunnel_udp_end_shutdown,
    ngx_tunnel_udp_end_void,
    ngx_tunnel_udp_end_void,
    ngx_tunnel_udp_end_unsent,
    ngx_tunnel_udp_end_failed,
    ngx_tunnel_udp_end_events
};


ngx_int_t
ngx_tunnel_session_associate(ngx_tunnel_session_t *s, struct sockaddr *sa,
    socklen_t socklen, struct sockaddr *client)
{
    ngx_tunnel_result_e  result;

    result = ngx_tunnel_session_admit(s);

    if (result == NGX_TUNNEL_OK
        && s->policy->require_tls != NGX_TUNNEL_TLS_OFF)
    {
        /* datagrams are no stream that a ClientHello could begin */

        ngx_str_set(&s->what, "denied by \"target_require_tls\"");
        result = NGX_TUNNEL_DENIED_NAME;
    }

    if (result == NGX_TUNNEL_OK) {
        result = ngx_tunnel_udp_create(s, sa, socklen, client);
    }

    return ngx_tunnel_session_settle(s, result);
}


static ngx_tunnel_result_e
ngx_tunnel_udp_create(ngx_tunnel_session_t *s, struct sockaddr *sa,
    socklen_t socklen, struct sockaddr *client)
{
    u_char                ip[NGX_TUNNEL_IP_LEN];
    ngx_sockaddr_t        local;
    ngx_tunnel_udp_t     *udp;
    ngx_tunnel_result_e   result;

    udp = ngx_pcalloc(s->pool, sizeof(ngx_tunnel_udp_t));
    if (udp == NULL) {
        return NGX_TUNNEL_INTERNAL;
    }

    udp->session = s;
    udp->client_family = sa->sa_family;
    udp->client.port = ngx_tunnel_socket_ip(udp->client.ip, client);

    (void) ngx_tunnel_socket_ip(ip, sa);

    if (ngx_tunnel_ip_family(ip) != ngx_tunnel_ip_family(udp->client.ip)) {
        ngx_str_set(&s->what, "the client's address is of another family than "
                              "ours");
        return NGX_TUNNEL_INTERNAL;
    }

    ngx_queue_init(&udp->peers);
    ngx_queue_init(&udp->queries);

    s->udp = udp;

    result = ngx_tunnel_udp_open(s, &udp->connection, sa, socklen, 0);

    if (result == NGX_TUNNEL_OK) {
        result = ngx_tunnel_udp_target(s);
    }

    if (result != NGX_TUNNEL_OK) {
        return result;
    }

    if (ngx_tunnel_session_local(s, &local) != NGX_OK) {
        s->err = ngx_socket_errno;
        return NGX_TUNNEL_INTERNAL;
    }

    return (ngx_tunnel_socket_name(s->pool, &local.sockaddr, socklen,
                                   &s->address)
            == NGX_OK) ? NGX_TUNNEL_OK : NGX_TUNNEL_INTERNAL;
}


static ngx_tunnel_result_e
ngx_tunnel_udp_open(ngx_tunnel_session_t *s, ngx_connection_t **cp,
    struct sockaddr *sa, socklen_t socklen, ngx_uint_t transparent)
{
    int                failed;
    ngx_socket_t       fd;
    ngx_connection_t  *c;

    fd = ngx_socket(sa->sa_family, SOCK_DGRAM, 0);

    if (fd == (ngx_socket_t) -1) {
        s->err = ngx_socket_errno;

        return (s->err == EAFNOSUPPORT) ? NGX_TUNNEL_UNREACHABLE
                                        : NGX_TUNNEL_MACHINE_LIMIT;
    }

    failed = ngx_tunnel_socket_dual(fd, sa->sa_family);

#if (NGX_HAVE_TRANSPARENT_PROXY && defined IP_TRANSPARENT)

    if (transparent && failed == 0) {
        int  on = 1;

        failed = (sa->sa_family == AF_INET6)
                 ? setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT,
                              (const void *) &on, sizeof(int))
                 : setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT,
                              (const void *) &on, sizeof(int));
    }

#endif

    if (failed == -1 || bind(fd, sa, socklen) == -1) {
        s->err = ngx_socket_errno;
        ngx_str_set(&s->what, "cannot bind a UDP socket");

        (void) ngx_close_socket(fd);

        return NGX_TUNNEL_INTERNAL;
    }

    c = ngx_tunnel_session_socket(s, fd, SOCK_DGRAM);
    if (c == NULL) {
        return NGX_TUNNEL_MACHINE_LIMIT;
    }

    c->read->handler = ngx_tunnel_socket_note;
    c->write->handler = ngx_tunnel_socket_note;

    *cp = c;

    return NGX_TUNNEL_OK;
}


/* one socket for targets of both families, where the system has both */

static ngx_tunnel_result_e
ngx_tunnel_udp_target(ngx_tunnel_session_t *s)
{
    u_char                ip[NGX_TUNNEL_IP_LEN];
    ngx_addr_t           *local;
    ngx_sockaddr_t        sa;
#if (NGX_HAVE_INET6 && defined IPV6_V6ONLY)
    ngx_tunnel_result_e   result;
#endif

    if (ngx_tunnel_session_bind(s, s->pool, &local) != NGX_OK) {
        ngx_str_set(&s->what, "invalid \"target_bind\" address");
        return NGX_TUNNEL_INTERNAL;
    }

    if (local) {

        /* a port that is set could be had only once */

        ngx_memcpy(&sa, local->sockaddr, local->socklen);
        ngx_inet_set_port(&sa.sockaddr, 0);

        (void) ngx_tunnel_socket_ip(ip, &sa.sockaddr);

        s->udp->target_family = sa.sockaddr.sa_family;
        s->udp->bound_family = ngx_tunnel_ip_family(ip);

        return ngx_tunnel_udp_open(s, &s->connection, &sa.sockaddr,
                                   local->socklen,
                                   s->conf->connect.bind->transparent);
    }

    ngx_memzero(&sa, sizeof(ngx_sockaddr_t));

#if (NGX_HAVE_INET6 && defined IPV6_V6ONLY)

    sa.sockaddr_in6.sin6_family = AF_INET6;
    s->udp->target_family = AF_INET6;

    result = ngx_tunnel_udp_open(s, &s->connection, &sa.sockaddr,
                                 sizeof(struct sockaddr_in6), 0);

    if (result != NGX_TUNNEL_UNREACHABLE) {
        return result;
    }

    s->err = 0;
    ngx_memzero(&sa, sizeof(ngx_sockaddr_t));

#endif

    sa.sockaddr_in.sin_family = AF_INET;
    s->udp->target_family = AF_INET;
    s->udp->bound_family = AF_INET;

    return ngx_tunnel_udp_open(s, &s->connection, &sa.sockaddr,
                               sizeof(struct sockaddr_in), 0);
}


ngx_connection_t *
ngx_tunnel_udp_connection(ngx_tunnel_udp_t *udp)
{
    return udp->connection;
}


void
ngx_tunnel_udp_relay(ngx_tunnel_udp_t *udp, ngx_tunnel_relay_t *relay)
{
    ngx_connection_t  *c;

    c = udp->connection;

    c->data = udp;
    c->read->handler = ngx_tunnel_udp_handler;
    c->write->handler = ngx_tunnel_udp_handler;

    relay->client.connection = c;
    relay->client.ops = &ngx_tunnel_udp_client_ops;
    relay->client.data = udp;
    relay->client.whole = 1;

    relay->target.ops = &ngx_tunnel_udp_target_ops;
    relay->target.data = udp;
    relay->target.whole = 1;
}


void
ngx_tunnel_udp_close(ngx_tunnel_udp_t *udp)
{
    ngx_queue_t             *q;
    ngx_tunnel_udp_query_t  *query;

    while (!ngx_queue_empty(&udp->queries)) {
        q = ngx_queue_head(&udp->queries);
        query = ngx_queue_data(q, ngx_tunnel_udp_query_t, queue);

        if (query->ctx) {
            ngx_resolve_name_done(query->ctx);
        }

        (void) ngx_tunnel_udp_free(udp, query);
    }

    if (udp->connection) {
        ngx_close_connection(udp->connection);
        udp->connection = NULL;
    }
}


static void
ngx_tunnel_udp_handler(ngx_event_t *ev)
{
    ngx_connection_t      *c;
    ngx_tunnel_udp_t      *udp;
    ngx_tunnel_session_t  *s;

    c = ev->data;
    udp = c->data;
    s = udp->session;

    if (c->close) {
        ngx_tunnel_relay_abort(s->relay, NGX_TUNNEL_SHUTDOWN);
        s->ended(s);
        return;
    }

    ngx_tunnel_relay_process(s->relay);
}


/* gives the payload of the next datagram that may go; to is where */

static ssize_t
ngx_tunnel_udp_client_recv(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    ssize_t                    n;
    ngx_uint_t                 i;
    ngx_event_t               *rev;
    ngx_sockaddr_t             sa;
    ngx_tunnel_udp_t          *udp;
    ngx_tunnel_udp_address_t   from;

    udp = e->data;
    rev = e->connection->read;

    n = ngx_tunnel_udp_take(udp, buf);

    if (n) {
        return n;
    }

    for (i = 0; i < NGX_TUNNEL_UDP_DROPS; i++) {

        n = ngx_tunnel_udp_recv(e->connection, buf, size, &sa);

        if (n == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        from.port = ngx_tunnel_socket_ip(from.ip, &sa.sockaddr);

        n = ngx_tunnel_udp_client_datagram(udp, buf, n, &from);

        if (n > 0) {
            return n;
        }
    }

    ngx_post_event(rev, &ngx_posted_next_events);

    return NGX_AGAIN;
}


/*
 * Unwraps a datagram in buf; returns the length of its payload, which is then
 * in buf, or 0 if nothing of it is for the relay.
 */

static ssize_t
ngx_tunnel_udp_client_datagram(ngx_tunnel_udp_t *udp, u_char *buf, size_t len,
    ngx_tunnel_udp_address_t *from)
{
    u_char            *p, *last;
    in_port_t          port;
    ngx_int_t          rc;
    ngx_str_t          host;
    ngx_sockaddr_t     sa;

    /* RFC 1928 7: datagrams that are not the client's are dropped */

    if (ngx_memcmp(from->ip, udp->client.ip, NGX_TUNNEL_IP_LEN) != 0
        || (udp->client.port && udp->client.port != from->port))
    {
        return 0;
    }

    p = buf;
    last = buf + len;

    if (ngx_tunnel_socks5_datagram(&p, last, &sa, &host, &port) != NGX_OK) {
        return 0;
    }

    udp->client.port = from->port;

    if (host.len) {
        rc = ngx_tunnel_udp_admit_host(udp, &host, port, p, last - p);

    } else {
        udp->to.port = ngx_tunnel_socket_ip(udp->to.ip, &sa.sockaddr);
        rc = ngx_tunnel_udp_admit(udp);
    }

    if (rc != NGX_OK) {
        return 0;
    }

    if (p == last) {

        /* an empty one would be an end to the relay */

        (void) ngx_tunnel_udp_target_send(&udp->session->relay->target, p, 0);
        return 0;
    }

    ngx_memmove(buf, p, last - p);

    return last - p;
}


static ssize_t
ngx_tunnel_udp_client_send(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    u_char             header[NGX_TUNNEL_SOCKS_REPLY];
    ssize_t            n;
    socklen_t          socklen;
    struct iovec       iov[2];
    ngx_sockaddr_t     sa;
    ngx_tunnel_udp_t  *udp;

    udp = e->data;

    iov[0].iov_base = header;
    iov[0].iov_len = ngx_tunnel_socks5_datagram_header(header,
                                                       &udp->from.sockaddr)
                     - header;
    iov[1].iov_base = buf;
    iov[1].iov_len = size;

    socklen = ngx_tunnel_udp_sockaddr(&udp->client, udp->client_family, &sa);

    n = ngx_tunnel_udp_send(e, iov, 2, &sa, socklen, size);

    return (n == NGX_DECLINED) ? ngx_tunnel_udp_lost(e, size) : n;
}


/* gives the next datagram of a target that was sent to; from is which */

static ssize_t
ngx_tunnel_udp_target_recv(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    ssize_t                    n;
    ngx_uint_t                 i;
    ngx_tunnel_udp_t          *udp;
    ngx_tunnel_udp_address_t   from;

    udp = e->data;

    for (i = 0; i < NGX_TUNNEL_UDP_DROPS; i++) {

        n = ngx_tunnel_udp_recv(e->connection, buf, size, &udp->from);

        if (n == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        from.port = ngx_tunnel_socket_ip(from.ip, &udp->from.sockaddr);

        if (ngx_tunnel_udp_find(udp, &from) == NULL) {
            continue;
        }

        if (n > 0) {
            return n;
        }

        (void) ngx_tunnel_udp_client_send(&udp->session->relay->client, buf,
                                          0);
    }

    ngx_post_event(e->connection->read, &ngx_posted_next_events);

    return NGX_AGAIN;
}


static ssize_t
ngx_tunnel_udp_target_send(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    ssize_t                 n;
    socklen_t               socklen;
    struct iovec            iov;
    ngx_sockaddr_t          sa;
    ngx_tunnel_udp_t       *udp;
    ngx_tunnel_udp_peer_t  *peer;

    udp = e->data;

    iov.iov_base = buf;
    iov.iov_len = size;

    socklen = ngx_tunnel_udp_sockaddr(&udp->to, udp->target_family, &sa);

    n = ngx_tunnel_udp_send(e, &iov, 1, &sa, socklen, size);

    if (n != NGX_DECLINED) {
        return n;
    }

    /* another address of a name may do better */

    peer = ngx_tunnel_udp_find(udp, &udp->to);

    if (peer) {
        peer->failed = 1;
    }

    return ngx_tunnel_udp_lost(e, size);
}


/* as if it had been sent, but for the relay's count */

static ssize_t
ngx_tunnel_udp_lost(ngx_tunnel_end_t *e, size_t size)
{
    e->sent -= size;

    return size;
}


/* NGX_AGAIN, or the length of a datagram */

static ssize_t
ngx_tunnel_udp_recv(ngx_connection_t *c, u_char *buf, size_t size,
    ngx_sockaddr_t *sa)
{
    ssize_t       n;
    ngx_err_t     err;
    socklen_t     socklen;
    ngx_uint_t    i;

    /* an error is of a datagram that was sent, and there may be some */

    for (i = 0; i < NGX_TUNNEL_UDP_DROPS; i++) {

        socklen = sizeof(ngx_sockaddr_t);

        n = recvfrom(c->fd, (char *) buf, size, 0, &sa->sockaddr, &socklen);

        if (n >= 0) {
            return n;
        }

        err = ngx_socket_errno;

        if (err == NGX_EAGAIN) {
            break;
        }

        ngx_log_debug1(NGX_LOG_DEBUG_EVENT, c->log, err,
                       "tunnel recvfrom: fd:%d", c->fd);
    }

    c->read->ready = 0;

    return NGX_AGAIN;
}


/*
 * A datagram that the system does not take is lost, as others are elsewhere;
 * returns the size of its payload, NGX_AGAIN, or NGX_DECLINED if it is lost.
 */

static ssize_t
ngx_tunnel_udp_send(ngx_tunnel_end_t *e, struct iovec *iov, ngx_uint_t n,
    ngx_sockaddr_t *sa, socklen_t socklen, size_t size)
{
    ngx_err_t          err;
    struct msghdr      msg;
    ngx_connection_t  *c;

    c = e->connection;

    ngx_memzero(&msg, sizeof(struct msghdr));

    msg.msg_name = (void *) &sa->sockaddr;
    msg.msg_namelen = socklen;
    msg.msg_iov = iov;
    msg.msg_iovlen = n;

    while (sendmsg(c->fd, &msg, 0) == -1) {
        err = ngx_socket_errno;

        if (err == NGX_EAGAIN) {
            c->write->ready = 0;
            return NGX_AGAIN;
        }

        if (err != NGX_EINTR) {
            ngx_tunnel_udp_unsent(e->data, err);
            return NGX_DECLINED;
        }
    }

    return size;
}


/* whether a datagram may go to an address, which is in udp->to */

static ngx_int_t
ngx_tunnel_udp_admit(ngx_tunnel_udp_t *udp)
{
    ngx_tunnel_target_t     target;
    ngx_tunnel_udp_peer_t  *peer;

    peer = ngx_tunnel_udp_find(udp, &udp->to);

    if (peer && peer->literal) {
        return NGX_OK;
    }

    ngx_tunnel_target_set_address(&target, AF_INET6, udp->to.ip,
                                  udp->to.port);

    if (ngx_tunnel_udp_check_target(udp, &target) != NGX_OK
        || ngx_tunnel_udp_check_address(udp, &udp->to, 1) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return ngx_tunnel_udp_remember(udp, &udp->to, 1);
}


/* the same for a host; NGX_AGAIN if its name is being resolved */

static ngx_int_t
ngx_tunnel_udp_admit_host(ngx_tunnel_udp_t *udp, ngx_str_t *host,
    in_port_t port, u_char *data, size_t len)
{
    ngx_tunnel_target_t  target;

    if (ngx_tunnel_target_set(&target, host->data, host->len, port) != NULL) {
        return NGX_DECLINED;
    }

    if (target.family != AF_UNSPEC) {
        ngx_tunnel_ip(udp->to.ip, target.family, &target.addr);
        udp->to.port = port;

        return ngx_tunnel_udp_admit(udp);
    }

    if (ngx_tunnel_udp_check_target(udp, &target) != NGX_OK) {
        return NGX_DECLINED;
    }

    return ngx_tunnel_udp_resolve(udp, &target, data, len);
}


static ngx_int_t
ngx_tunnel_udp_resolve(ngx_tunnel_udp_t *udp, ngx_tunnel_target_t *t,
    u_char *data, size_t len)
{
    u_char                  *name;
    ngx_uint_t               i;
    ngx_addr_t              *addr;
    ngx_array_t             *hosts;
    ngx_resolver_t          *resolver;
    ngx_resolver_ctx_t      *ctx;
    ngx_resolver_addr_t      addrs[NGX_TUNNEL_UDP_ADDRS];
    ngx_tunnel_system_t     *system;
    ngx_tunnel_session_t    *s;
    ngx_tunnel_udp_query_t  *q;

    s = udp->session;

    resolver = ngx_tunnel_session_resolver(s, &system);

    if (system) {
        hosts = ngx_tunnel_system_hosts(system, &t->host);

        if (hosts) {
            addr = hosts->elts;

            for (i = 0; i < hosts->nelts && i < NGX_TUNNEL_UDP_ADDRS; i++) {
                addrs[i].sockaddr = addr[i].sockaddr;
                addrs[i].socklen = addr[i].socklen;
            }

            return ngx_tunnel_udp_choose(udp, addrs, i, t->port, &udp->to);
        }
    }

    if (udp->nqueries == NGX_TUNNEL_UDP_QUERIES
        || udp->held + len > NGX_TUNNEL_UDP_HELD)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_resolve_start(resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_DECLINED;
    }

    q = ngx_alloc(sizeof(ngx_tunnel_udp_query_t) + len + t->host.len, s->log);

    if (q == NULL) {
        ngx_resolve_name_done(ctx);
        return NGX_DECLINED;
    }

    q->udp = udp;
    q->ctx = ctx;
    q->address.port = t->port;
    q->len = len;
    q->state = NGX_AGAIN;

    name = ngx_cpymem(q + 1, data, len);
    ngx_memcpy(name, t->host.data, t->host.len);

    ngx_queue_insert_tail(&udp->queries, &q->queue);
    udp->nqueries++;
    udp->held += len;

    ctx->name.data = name;
    ctx->name.len = t->host.len;
    ctx->handler = ngx_tunnel_udp_resolved;
    ctx->data = q;
    ctx->timeout = s->conf->connect.resolve_timeout;

    udp->resolving = 1;

    if (ngx_resolve_name(ctx) != NGX_OK) {

        /* the context is gone */

        q->ctx = NULL;
        q->state = NGX_DECLINED;
    }

    udp->resolving = 0;

    if (q->state == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    /* answered from the cache, and the datagram need not wait */

    if (q->state == NGX_OK) {
        udp->to = q->address;
    }

    return ngx_tunnel_udp_free(udp, q);
}


static void
ngx_tunnel_udp_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_event_t             *rev;
    ngx_tunnel_udp_t        *udp;
    ngx_tunnel_udp_query_t  *q;

    q = ctx->data;
    udp = q->udp;

    q->state = NGX_DECLINED;

    if (ctx->state == NGX_OK) {
        q->state = ngx_tunnel_udp_choose(udp, ctx->addrs, ctx->naddrs,
                                         q->address.port, &q->address);
    }

    ngx_resolve_name_done(ctx);
    q->ctx = NULL;

    if (udp->resolving) {
        return;
    }

    if (q->state != NGX_OK) {
        (void) ngx_tunnel_udp_free(udp, q);
        return;
    }

    /* the relay reads it as if it had just come */

    rev = udp->connection->read;
    rev->ready = 1;

    ngx_post_event(rev, &ngx_posted_events);
}


/*
 * Takes of a name's addresses one that may be sent to: one that was taken
 * before if it can be, for the resolver has them in another order each time;
 * else one that there is a route to, of the preferred family if it can be.
 */

static ngx_int_t
ngx_tunnel_udp_choose(ngx_tunnel_udp_t *udp, ngx_resolver_addr_t *addrs,
    ngx_uint_t n, in_port_t port, ngx_tunnel_udp_address_t *address)
{
    int                     family;
    ngx_err_t               err;
    ngx_uint_t              i, pass, last;
    ngx_tunnel_udp_peer_t  *peer;

    family = (udp->session->conf->connect.prefer == NGX_TUNNEL_PREFER_IPV4)
             ? AF_INET : AF_INET6;

    address->port = port;
    err = 0;

    /* passes: known ones, of the family, of the other, and to tell why none */

    for (pass = 0; pass < 4; pass++) {

        last = (pass == 3);

        for (i = 0; i < n; i++) {

            (void) ngx_tunnel_socket_ip(address->ip, addrs[i].sockaddr);

            peer = (pass == 0) ? ngx_tunnel_udp_find(udp, address) : NULL;

            if ((pass == 0 && (peer == NULL || peer->failed))
                || (pass == 1 && addrs[i].sockaddr->sa_family != family)
                || (pass == 2 && addrs[i].sockaddr->sa_family == family))
            {
                continue;
            }

            if (ngx_tunnel_udp_check_address(udp, address, last) != NGX_OK
                || last)
            {
                continue;
            }

            if (pass) {
                err = ngx_tunnel_udp_route(udp, address);

                if (err) {
                    continue;
                }
            }

            return ngx_tunnel_udp_remember(udp, address, 0);
        }
    }

    if (err) {
        ngx_tunnel_udp_unsent(udp, err);
    }

    return NGX_DECLINED;
}


/* whether there is a route to an address: 0, or the error */

static ngx_err_t
ngx_tunnel_udp_route(ngx_tunnel_udp_t *udp, ngx_tunnel_udp_address_t *address)
{
    socklen_t       socklen;
    ngx_err_t       err;
    ngx_socket_t    fd;
    ngx_sockaddr_t  sa;

    socklen = ngx_tunnel_udp_sockaddr(address, udp->target_family, &sa);

    fd = ngx_socket(udp->target_family, SOCK_DGRAM, 0);

    if (fd == (ngx_socket_t) -1) {
        return ngx_socket_errno;
    }

    /* this sends nothing */

    err = (ngx_tunnel_socket_dual(fd, udp->target_family) == -1
           || connect(fd, &sa.sockaddr, socklen) == -1)
          ? ngx_socket_errno : 0;

    (void) ngx_close_socket(fd);

    return err;
}


/*
 * Takes a datagram whose name has been resolved: its payload is in buf then,
 * and its address in udp->to.  Returns the length, or 0 if there is none.
 */

static size_t
ngx_tunnel_udp_take(ngx_tunnel_udp_t *udp, u_char *buf)
{
    size_t                   len;
    ngx_queue_t             *q, *next;
    ngx_tunnel_udp_query_t  *query;

    for (q = ngx_queue_head(&udp->queries);
         q != ngx_queue_sentinel(&udp->queries);
         q = next)
    {
        next = ngx_queue_next(q);
        query = ngx_queue_data(q, ngx_tunnel_udp_query_t, queue);

        if (query->state != NGX_OK) {
            continue;
        }

        len = query->len;
        udp->to = query->address;

        ngx_memcpy(buf, query + 1, len);

        (void) ngx_tunnel_udp_free(udp, query);

        if (len) {
            return len;
        }

        (void) ngx_tunnel_udp_target_send(&udp->session->relay->target, buf,
                                          0);
    }

    return 0;
}


/* returns the state that the query was in */

static ngx_int_t
ngx_tunnel_udp_free(ngx_tunnel_udp_t *udp, ngx_tunnel_udp_query_t *q)
{
    ngx_int_t  state;

    state = q->state;

    ngx_queue_remove(&q->queue);
    udp->nqueries--;
    udp->held -= q->len;

    ngx_free(q);

    return state;
}


static ngx_int_t
ngx_tunnel_udp_check_target(ngx_tunnel_udp_t *udp, ngx_tunnel_target_t *t)
{
    ngx_int_t              rc;
    ngx_str_t              what;
    ngx_tunnel_session_t  *s;

    s = udp->session;

    rc = ngx_tunnel_rules_check_target(&s->conf->rules, t, 0, s->log, &what);

    return (rc == NGX_OK) ? NGX_OK
                          : ngx_tunnel_udp_denied(udp, rc, &t->text, &what, 1);
}


static ngx_int_t
ngx_tunnel_udp_check_address(ngx_tunnel_udp_t *udp,
    ngx_tunnel_udp_address_t *address, ngx_uint_t log)
{
    int                    family;
    u_char                 text[NGX_SOCKADDR_STRLEN];
    ngx_int_t              rc;
    socklen_t              socklen;
    ngx_str_t              name, what;
    ngx_sockaddr_t         sa;
    ngx_tunnel_session_t  *s;

    s = udp->session;

    family = ngx_tunnel_ip_family(address->ip);

    if (udp->bound_family && udp->bound_family != family) {

        if (log) {
            ngx_tunnel_udp_unsent(udp, EAFNOSUPPORT);
        }

        return NGX_DECLINED;
    }

    socklen = ngx_tunnel_udp_sockaddr(address, family, &sa);

    rc = ngx_tunnel_rules_check_address(&s->conf->rules, &sa.sockaddr, 0,
                                        s->main->own, &what);
    if (rc == NGX_OK) {
        return NGX_OK;
    }

    name.data = text;
    name.len = ngx_sock_ntop(&sa.sockaddr, socklen, text, NGX_SOCKADDR_STRLEN,
                             1);

    return ngx_tunnel_udp_denied(udp, rc, &name, &what, log);
}


/*
 * NGX_OK if the rules are only tried.  It is one line a client, for the others
 * would be as many as it likes.
 */

static ngx_int_t
ngx_tunnel_udp_denied(ngx_tunnel_udp_t *udp, ngx_int_t rc, ngx_str_t *target,
    ngx_str_t *what, ngx_uint_t log)
{
    ngx_uint_t  tried, level;

    tried = (rc == NGX_DECLINED && udp->session->conf->rules.dry_run);

    if ((log || tried) && !udp->denied) {
        udp->denied = 1;
        level = tried ? NGX_LOG_WARN : NGX_LOG_ERR;

        ngx_log_error(level, udp->session->log, 0,
                      "datagram to \"%V\" %s denied by \"%V\", and so may be "
                      "others of this client",
                      target, tried ? "would be" : "is", what);
    }

    return tried ? NGX_OK : NGX_DECLINED;
}


/* the same for datagrams that the system does not send */

static void
ngx_tunnel_udp_unsent(ngx_tunnel_udp_t *udp, ngx_err_t err)
{
    if (udp->unsent) {
        return;
    }

    udp->unsent = 1;

    ngx_log_error(NGX_LOG_INFO, udp->session->log, err,
                  "datagram cannot be sent, others of this client are not "
                  "logged");
}


static ngx_tunnel_udp_peer_t *
ngx_tunnel_udp_find(ngx_tunnel_udp_t *udp, ngx_tunnel_udp_address_t *address)
{
    ngx_queue_t            *q;
    ngx_tunnel_udp_peer_t  *peer;

    for (q = ngx_queue_head(&udp->peers);
         q != ngx_queue_sentinel(&udp->peers);
         q = ngx_queue_next(q))
    {
        peer = ngx_queue_data(q, ngx_tunnel_udp_peer_t, queue);

        if (ngx_memcmp(&peer->address, address,
                       sizeof(ngx_tunnel_udp_address_t))
            == 0)
        {
            ngx_queue_remove(q);
            ngx_queue_insert_head(&udp->peers, q);

            return peer;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_tunnel_udp_remember(ngx_tunnel_udp_t *udp,
    ngx_tunnel_udp_address_t *address, ngx_uint_t literal)
{
    ngx_queue_t            *q;
    ngx_tunnel_udp_peer_t  *peer;

    peer = ngx_tunnel_udp_find(udp, address);

    if (peer) {
        peer->literal |= literal;
        peer->failed = 0;
        return NGX_OK;
    }

    if (udp->npeers < NGX_TUNNEL_UDP_PEERS) {
        peer = ngx_palloc(udp->session->pool, sizeof(ngx_tunnel_udp_peer_t));
        if (peer == NULL) {
            return NGX_DECLINED;
        }

        udp->npeers++;

    } else {
        q = ngx_queue_last(&udp->peers);
        ngx_queue_remove(q);

        peer = ngx_queue_data(q, ngx_tunnel_udp_peer_t, queue);
    }

    peer->address = *address;
    peer->literal = literal;
    peer->failed = 0;

    ngx_queue_insert_head(&udp->peers, &peer->queue);

    return NGX_OK;
}


/* an address as sockets of a family have it */

static socklen_t
ngx_tunnel_udp_sockaddr(ngx_tunnel_udp_address_t *address, int family,
    ngx_sockaddr_t *sa)
{
    ngx_memzero(sa, sizeof(ngx_sockaddr_t));

#if (NGX_HAVE_INET6)

    if (family == AF_INET6) {
        sa->sockaddr_in6.sin6_family = AF_INET6;
        sa->sockaddr_in6.sin6_port = htons(address->port);
        ngx_memcpy(&sa->sockaddr_in6.sin6_addr, address->ip, 16);

        return sizeof(struct sockaddr_in6);
    }

#endif

    sa->sockaddr_in.sin_family = AF_INET;
    sa->sockaddr_in.sin_port = htons(address->port);
    ngx_memcpy(&sa->sockaddr_in.sin_addr, &address->ip[12], 4);

    return sizeof(struct sockaddr_in);
}


static ngx_int_t
ngx_tunnel_udp_end_open(ngx_tunnel_end_t *e, ngx_uint_t keepalive)
{
    return NGX_OK;
}


/* datagrams have no end */

static ngx_int_t
ngx_tunnel_udp_end_shutdown(ngx_tunnel_end_t *e, ngx_uint_t last)
{
    return NGX_OK;
}


static void
ngx_tunnel_udp_end_void(ngx_tunnel_end_t *e)
{
    return;
}


static size_t
ngx_tunnel_udp_end_unsent(ngx_tunnel_end_t *e)
{
    return 0;
}


static ngx_uint_t
ngx_tunnel_udp_end_failed(ngx_tunnel_end_t *e)
{
    return 0;
}


static ngx_int_t
ngx_tunnel_udp_end_events(ngx_tunnel_end_t *e)
{
    if (ngx_handle_read_event(e->connection->read, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_handle_write_event(e->connection->write, 0);
}
