
/*
 * End: sockets, with TLS or without.
 */


#include "ngx_tunnel_end.h"


static ngx_int_t ngx_tunnel_socket_open(ngx_tunnel_end_t *e,
    ngx_uint_t keepalive);
static ssize_t ngx_tunnel_socket_recv(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ssize_t ngx_tunnel_socket_send(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ngx_int_t ngx_tunnel_socket_shutdown(ngx_tunnel_end_t *e,
    ngx_uint_t last);
static void ngx_tunnel_socket_reset(ngx_tunnel_end_t *e);
static void ngx_tunnel_socket_cut(ngx_tunnel_end_t *e);
static size_t ngx_tunnel_socket_unsent(ngx_tunnel_end_t *e);
static ngx_uint_t ngx_tunnel_socket_is_closed(ngx_connection_t *c);
static ngx_uint_t ngx_tunnel_socket_failed(ngx_tunnel_end_t *e);
static ngx_int_t ngx_tunnel_socket_events(ngx_tunnel_end_t *e);


const ngx_tunnel_end_ops_t  ngx_tunnel_end_socket = {
    ngx_tunnel_socket_open,
    ngx_tunnel_socket_recv,
    ngx_tunnel_socket_send,
    ngx_tunnel_socket_shutdown,
    ngx_tunnel_socket_reset,
    ngx_tunnel_socket_cut,
    ngx_tunnel_socket_unsent,
    ngx_tunnel_socket_failed,
    ngx_tunnel_socket_events
};


static ngx_int_t
ngx_tunnel_socket_open(ngx_tunnel_end_t *e, ngx_uint_t keepalive)
{
    int                on;
    ngx_connection_t  *c;

    c = e->connection;

    if (ngx_tcp_nodelay(c) != NGX_OK) {
        return NGX_ERROR;
    }

    on = 1;

    if (keepalive
        && setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, (const void *) &on,
                      sizeof(int))
           == -1)
    {
        ngx_connection_error(c, ngx_socket_errno,
                             "setsockopt(SO_KEEPALIVE) failed");
        return NGX_ERROR;
    }

#if (NGX_SSL)

    if (c->ssl) {

        /* what SSL_write() did not take is written from elsewhere */

        SSL_set_mode(c->ssl->connection, SSL_MODE_ENABLE_PARTIAL_WRITE
                                         |SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }

#endif

    return NGX_OK;
}


static ssize_t
ngx_tunnel_socket_recv(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = e->connection;

    n = c->recv(c, buf, size);

#if (NGX_SSL)

    /* nginx's TLS reports a reset as an end, as it does a FIN */

    if (n == 0 && c->ssl
        && !(SSL_get_shutdown(c->ssl->connection) & SSL_RECEIVED_SHUTDOWN)
        && ngx_tunnel_socket_is_closed(c))
    {
        return NGX_ERROR;
    }

#endif

    return n;
}


static ssize_t
ngx_tunnel_socket_send(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    return e->connection->send(e->connection, buf, size);
}


static ngx_int_t
ngx_tunnel_socket_shutdown(ngx_tunnel_end_t *e, ngx_uint_t last)
{
    ngx_connection_t  *c;

    c = e->connection;

#if (NGX_SSL)

    if (c->ssl) {
        int  n, err;

        /* RFC 8446 6.1: closes this direction only */

        ERR_clear_error();

        n = SSL_shutdown(c->ssl->connection);

        if (n >= 0) {
            return NGX_OK;
        }

        err = SSL_get_error(c->ssl->connection, n);

        ERR_clear_error();

        if (err == SSL_ERROR_WANT_WRITE) {
            c->write->ready = 0;
            return NGX_AGAIN;
        }

        /* the alert is out, only the peer's one is missing */

        return (err == SSL_ERROR_WANT_READ) ? NGX_OK : NGX_ERROR;
    }

#endif

    /* to close it says the same, in one call less */

    if (last) {
        return NGX_OK;
    }

    if (ngx_shutdown_socket(c->fd, NGX_WRITE_SHUTDOWN) == -1) {
        return (ngx_socket_errno == NGX_ENOTCONN) ? NGX_OK : NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_tunnel_socket_reset(ngx_tunnel_end_t *e)
{
    struct linger      linger;
    ngx_connection_t  *c;

    c = e->connection;

    linger.l_onoff = 1;
    linger.l_linger = 0;

    if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, (const void *) &linger,
                   sizeof(struct linger))
        == -1)
    {
        ngx_log_error(NGX_LOG_ALERT, c->log, ngx_socket_errno,
                      "setsockopt(SO_LINGER) failed");
    }

    ngx_tunnel_socket_cut(e);
}


static void
ngx_tunnel_socket_cut(ngx_tunnel_end_t *e)
{
#if (NGX_SSL)

    ngx_connection_t  *c;

    /* a record that is half sent leaves no room for an alert */

    c = e->connection;

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;
    }

#endif
}


static size_t
ngx_tunnel_socket_unsent(ngx_tunnel_end_t *e)
{
#if defined TIOCOUTQ

    int  n;

    /* of one that is closed the number stays as it was */

    if (ngx_tunnel_socket_is_closed(e->connection)
        || ioctl(e->connection->fd, TIOCOUTQ, &n) == -1)
    {
        return 0;
    }

    return n;

#else

    return 0;

#endif
}


static ngx_uint_t
ngx_tunnel_socket_is_closed(ngx_connection_t *c)
{
#if (NGX_HAVE_TCP_INFO)

    socklen_t        len;
    struct tcp_info  ti;

    len = sizeof(struct tcp_info);

    return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0
           && ti.tcpi_state == TCP_CLOSE;

#else

    return 0;

#endif
}


static ngx_uint_t
ngx_tunnel_socket_failed(ngx_tunnel_end_t *e)
{
    return ngx_tunnel_socket_error(e->connection) != 0;
}


ngx_connection_t *
ngx_tunnel_socket_connection(ngx_socket_t fd, int type, ngx_log_t *log)
{
    ngx_err_t          err;
    ngx_connection_t  *c;

    if (!ngx_tunnel_socket_available()) {
        err = 0;
        goto failed;
    }

    if (ngx_nonblocking(fd) == -1) {
        err = ngx_socket_errno;
        goto failed;
    }

    c = ngx_get_connection(fd, log);
    if (c == NULL) {
        err = 0;
        goto failed;
    }

    c->type = type;
    c->log_error = NGX_ERROR_INFO;
    c->start_time = ngx_current_msec;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);

    c->recv = ngx_recv;
    c->send = ngx_send;

    c->read->log = log;
    c->write->log = log;
    c->write->ready = 1;

    return c;

failed:

    (void) ngx_close_socket(fd);

    ngx_set_socket_errno(err);

    return NULL;
}


int
ngx_tunnel_socket_dual(ngx_socket_t fd, int family)
{
#if (NGX_HAVE_INET6 && defined IPV6_V6ONLY)

    int  off;

    if (family == AF_INET6) {
        off = 0;

        return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, (const void *) &off,
                          sizeof(int));
    }

#endif

    return 0;
}


ngx_uint_t
ngx_tunnel_socket_available(void)
{
    return ngx_cycle->free_connection_n || ngx_cycle->reusable_connections_n;
}


in_port_t
ngx_tunnel_socket_ip(u_char *ip, struct sockaddr *sa)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    switch (sa->sa_family) {

    case AF_INET:
        sin = (struct sockaddr_in *) sa;
        ngx_tunnel_ip(ip, AF_INET, &sin->sin_addr);

        return ntohs(sin->sin_port);

#if (NGX_HAVE_INET6)

    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) sa;
        ngx_tunnel_ip(ip, AF_INET6, &sin6->sin6_addr);

        return ntohs(sin6->sin6_port);

#endif

    default: /* AF_UNIX */
        ngx_memzero(ip, NGX_TUNNEL_IP_LEN);

        return 0;
    }
}


ngx_int_t
ngx_tunnel_socket_name(ngx_pool_t *pool, struct sockaddr *sa,
    socklen_t socklen, ngx_str_t *name)
{
    struct sockaddr_in  sin;

    sa = ngx_tunnel_unmapped(sa, &sin);

    if (sa == (struct sockaddr *) &sin) {
        socklen = sizeof(struct sockaddr_in);
    }

    name->data = ngx_pnalloc(pool, NGX_SOCKADDR_STRLEN);
    if (name->data == NULL) {
        return NGX_ERROR;
    }

    name->len = ngx_sock_ntop(sa, socklen, name->data, NGX_SOCKADDR_STRLEN, 1);

    return NGX_OK;
}


void
ngx_tunnel_socket_note(ngx_event_t *ev)
{
    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && ev->active) {
        (void) ngx_del_event(ev, ev->write ? NGX_WRITE_EVENT : NGX_READ_EVENT,
                             0);
    }
}


ngx_err_t
ngx_tunnel_socket_error(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    /* BSDs and Linux return 0 and the error in err */

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        return ngx_socket_errno;
    }

    return err;
}


static ngx_int_t
ngx_tunnel_socket_events(ngx_tunnel_end_t *e)
{
    ngx_event_t       *rev, *wev;
    ngx_connection_t  *c;

    c = e->connection;
    rev = c->read;
    wev = c->write;

    if (ngx_event_flags & NGX_USE_LEVEL_EVENT) {

        /* these methods tell of an end or an error again and again */

        if ((e->eof || e->gone) && rev->active
            && ngx_del_event(rev, NGX_READ_EVENT, 0) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (e->gone && wev->active
            && ngx_del_event(wev, NGX_WRITE_EVENT, 0) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (e->gone) {
            return NGX_OK;
        }

        if (e->eof) {
            return ngx_handle_write_event(wev, 0);
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_handle_write_event(wev, 0);
}


ngx_int_t
ngx_tunnel_socket_check(ngx_connection_t *c)
{
    ngx_err_t     err;
    ngx_event_t  *rev;

    rev = c->read;

    err = ngx_tunnel_socket_error(c);

    if (err) {
        c->error = 1;

        ngx_log_error(NGX_LOG_INFO, c->log, err,
                      "client prematurely closed connection");

        return NGX_DECLINED;
    }

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && rev->active) {
        return ngx_del_event(rev, NGX_READ_EVENT, 0);
    }

    return NGX_OK;
}


#if (NGX_TUNNEL_HAVE_SPLICE)

ngx_uint_t
ngx_tunnel_end_is_raw(ngx_tunnel_end_t *e)
{
    if (e->ops != &ngx_tunnel_end_socket) {
        return 0;
    }

#if (NGX_SSL)
    if (e->connection->ssl) {
        return 0;
    }
#endif

    return 1;
}


ssize_t
ngx_tunnel_end_splice_recv(ngx_tunnel_end_t *e, ngx_tunnel_pipe_t *pipe,
    size_t size)
{
    ssize_t            n;
    ngx_err_t          err;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    c = e->connection;
    rev = c->read;

    do {
        n = splice(c->fd, NULL, pipe->fd[1], NULL, size,
                   SPLICE_F_MOVE|SPLICE_F_NONBLOCK);

        err = (n == -1) ? ngx_errno : 0;

    } while (err == NGX_EINTR);

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, c->log, err,
                   "splice: fd:%d %z of %uz", c->fd, n, size);

    if (n > 0) {

        /* what nginx knew of how much there is no longer holds */

        rev->available = -1;

        return n;
    }

    if (err == NGX_EINVAL) {
        return NGX_DECLINED;
    }

    rev->ready = 0;

    if (n == 0) {
        rev->eof = 1;
        return 0;
    }

    if (err == NGX_EAGAIN) {
        return NGX_AGAIN;
    }

    rev->error = 1;
    (void) ngx_connection_error(c, err, "splice() failed");

    return NGX_ERROR;
}


ssize_t
ngx_tunnel_end_splice_send(ngx_tunnel_end_t *e, ngx_tunnel_pipe_t *pipe,
    size_t size)
{
    ssize_t            n;
    ngx_err_t          err;
    ngx_connection_t  *c;

    c = e->connection;

    do {
        n = splice(pipe->fd[0], NULL, c->fd, NULL, size,
                   SPLICE_F_MOVE|SPLICE_F_NONBLOCK);

        err = (n == -1) ? ngx_errno : 0;

    } while (err == NGX_EINTR);

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, c->log, err,
                   "splice: to fd:%d %z of %uz", c->fd, n, size);

    if (n > 0) {
        c->sent += n;
        return n;
    }

    c->write->ready = 0;

    if (n == 0 || err == NGX_EAGAIN) {
        return NGX_AGAIN;
    }

    c->write->error = 1;
    (void) ngx_connection_error(c, err, "splice() failed");

    return NGX_ERROR;
}

#endif
