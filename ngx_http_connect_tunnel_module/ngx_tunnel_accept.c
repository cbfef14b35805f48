
/*
 * Accept: tunnels whose target connects to us.
 */


#include "ngx_tunnel_session.h"


static ngx_tunnel_result_e ngx_tunnel_session_wait(ngx_tunnel_session_t *s,
    struct sockaddr *sa, socklen_t socklen, ngx_msec_t timeout);
static void ngx_tunnel_session_accept(ngx_event_t *rev);
static ngx_uint_t ngx_tunnel_session_transient(ngx_err_t err);
static ngx_tunnel_result_e ngx_tunnel_session_accepted(ngx_tunnel_session_t *s,
    ngx_socket_t fd, struct sockaddr *sa, socklen_t socklen);
static ngx_uint_t ngx_tunnel_session_expected(ngx_tunnel_target_t *t,
    struct sockaddr *sa);


ngx_int_t
ngx_tunnel_session_listen(ngx_tunnel_session_t *s, struct sockaddr *sa,
    socklen_t socklen, ngx_msec_t timeout)
{
    ngx_tunnel_result_e  result;

    s->passive = 1;

    result = ngx_tunnel_session_admit(s);

    if (result == NGX_TUNNEL_OK) {
        result = ngx_tunnel_session_wait(s, sa, socklen, timeout);
    }

    if (result == NGX_TUNNEL_OK) {
        s->log->action = "waiting for target";
        return NGX_AGAIN;
    }

    return ngx_tunnel_session_settle(s, result);
}


/* the session's connection listens until it is the target's */

static ngx_tunnel_result_e
ngx_tunnel_session_wait(ngx_tunnel_session_t *s, struct sockaddr *sa,
    socklen_t socklen, ngx_msec_t timeout)
{
    ngx_socket_t       fd;
    ngx_connection_t  *c;

    fd = ngx_socket(sa->sa_family, SOCK_STREAM, 0);

    if (fd == (ngx_socket_t) -1) {
        s->err = ngx_socket_errno;
        return NGX_TUNNEL_MACHINE_LIMIT;
    }

    if (ngx_tunnel_socket_dual(fd, sa->sa_family) == -1
        || bind(fd, sa, socklen) == -1
        || listen(fd, 1) == -1)
    {
        s->err = ngx_socket_errno;
        ngx_str_set(&s->what, "cannot listen");

        (void) ngx_close_socket(fd);

        return NGX_TUNNEL_INTERNAL;
    }

    c = ngx_tunnel_session_socket(s, fd, SOCK_STREAM);
    if (c == NULL) {
        return NGX_TUNNEL_MACHINE_LIMIT;
    }

    s->connection = c;

    c->data = s;
    c->read->handler = ngx_tunnel_session_accept;
    c->write->handler = ngx_tunnel_socket_note;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        return NGX_TUNNEL_INTERNAL;
    }

    ngx_add_timer(c->read, timeout);

    return NGX_TUNNEL_OK;
}


static void
ngx_tunnel_session_accept(ngx_event_t *rev)
{
    socklen_t              socklen;
    ngx_err_t              err;
    ngx_socket_t           fd;
    ngx_sockaddr_t         sa;
    ngx_connection_t      *c;
    ngx_tunnel_result_e    result;
    ngx_tunnel_session_t  *s;

    c = rev->data;
    s = c->data;

    if (c->close) {
        ngx_str_set(&s->what, "worker is shutting down");
        result = NGX_TUNNEL_MACHINE_LIMIT;
        goto done;
    }

    if (rev->timedout) {
        ngx_str_set(&s->what, "no connection came");
        result = NGX_TUNNEL_CONNECT_TIMEOUT;
        goto done;
    }

    do {
        socklen = sizeof(ngx_sockaddr_t);

        fd = accept(c->fd, &sa.sockaddr, &socklen);

        err = (fd == (ngx_socket_t) -1) ? ngx_socket_errno : 0;

    } while (ngx_tunnel_session_transient(err));

    if (err == NGX_EAGAIN) {
        rev->ready = 0;

        if (ngx_handle_read_event(rev, 0) == NGX_OK) {
            return;
        }

        result = NGX_TUNNEL_INTERNAL;
        goto done;
    }

    if (err) {
        s->err = err;
        result = NGX_TUNNEL_MACHINE_LIMIT;
        goto done;
    }

    result = ngx_tunnel_session_accepted(s, fd, &sa.sockaddr, socklen);

done:

    if (c == s->connection && result != NGX_TUNNEL_OK) {
        s->connection = NULL;
        ngx_close_connection(c);
    }

    (void) ngx_tunnel_session_settle(s, result);

    s->connected(s);
}


/* errors of one connection, who may have gone again, see accept(2) */

static ngx_uint_t
ngx_tunnel_session_transient(ngx_err_t err)
{
    switch (err) {

    case NGX_EINTR:
    case NGX_ECONNABORTED:
    case NGX_ENETDOWN:
    case NGX_ENETUNREACH:
    case NGX_EHOSTDOWN:
    case NGX_EHOSTUNREACH:
    case NGX_ENOPROTOOPT:
    case EPROTO:
        return 1;
    }

    return 0;
}


/* the descriptor is ours from here on */

static ngx_tunnel_result_e
ngx_tunnel_session_accepted(ngx_tunnel_session_t *s, ngx_socket_t fd,
    struct sockaddr *sa, socklen_t socklen)
{
    ngx_connection_t  *c;

    if (ngx_tunnel_socket_name(s->pool, sa, socklen, &s->address) != NGX_OK) {
        (void) ngx_close_socket(fd);
        return NGX_TUNNEL_INTERNAL;
    }

    if (!ngx_tunnel_session_expected(s->target, sa)) {
        ngx_str_set(&s->what, "another address connected");
        (void) ngx_close_socket(fd);
        return NGX_TUNNEL_DENIED_ADDRESS;
    }

    if (ngx_tunnel_rules_allow_address(&s->conf->rules, sa, &s->address, 0,
                                       NULL, s->log, &s->what)
        != NGX_OK)
    {
        (void) ngx_close_socket(fd);
        return NGX_TUNNEL_DENIED_ADDRESS;
    }

    c = ngx_tunnel_session_socket(s, fd, SOCK_STREAM);
    if (c == NULL) {
        return NGX_TUNNEL_MACHINE_LIMIT;
    }

    c->read->handler = ngx_tunnel_socket_note;
    c->write->handler = ngx_tunnel_socket_note;

    s->connect_time = ngx_current_msec - s->connection->start_time;

    ngx_close_connection(s->connection);
    s->connection = c;

    /* level-triggered methods ask for events when there is a relay */

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) || ngx_add_conn == NULL) {
        return NGX_TUNNEL_OK;
    }

    return (ngx_add_conn(c) == NGX_OK) ? NGX_TUNNEL_OK : NGX_TUNNEL_INTERNAL;
}


static ngx_uint_t
ngx_tunnel_session_expected(ngx_tunnel_target_t *t, struct sockaddr *sa)
{
    u_char  wanted[NGX_TUNNEL_IP_LEN], ip[NGX_TUNNEL_IP_LEN];

    if ((t->family == AF_INET && t->addr.in.s_addr == INADDR_ANY)
        || (t->family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&t->addr.in6)))
    {
        return 1;
    }

    ngx_tunnel_ip(wanted, t->family, &t->addr);
    ngx_tunnel_socket_ip(ip, sa);

    return ngx_memcmp(wanted, ip, NGX_TUNNEL_IP_LEN) == 0;
}
