
/*
 * Relay: two flows, one for each direction.
 *
 * A flow reads into a buffer that all tunnels of a worker share and writes at
 * once.  Only what the peer does not take is copied to a buffer of its own,
 * and the flow does not read before that is gone.  So an idle tunnel holds no
 * buffer, and a slow peer slows its sender.
 */


#include "ngx_tunnel_relay.h"


/* reads of one flow for each event: others' bytes wait no longer than that */

#define NGX_TUNNEL_RELAY_READS      2

#define NGX_TUNNEL_MAX_FREE_BUFS    16

/*
 * When an end has gone, what is on its way to the other is waited for: how
 * often is looked, and for how long, msec
 */

#define NGX_TUNNEL_LINGER_TICK      200
#define NGX_TUNNEL_LINGER_TIMEOUT   60000

/* nginx waits for timers, so an untimed tunnel keeps one to stay alive */

#define NGX_TUNNEL_NO_TIMEOUT       3600000


struct ngx_tunnel_buf_s {
    ngx_tunnel_buf_t  *next;
};


static ssize_t ngx_tunnel_socket_recv(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ssize_t ngx_tunnel_socket_send(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
#if (NGX_SSL)
static ngx_uint_t ngx_tunnel_socket_is_reset(ngx_connection_t *c);
#endif
static ngx_int_t ngx_tunnel_socket_shutdown(ngx_tunnel_end_t *e);
static void ngx_tunnel_socket_reset(ngx_tunnel_end_t *e);
static ngx_uint_t ngx_tunnel_socket_unsent(ngx_tunnel_end_t *e);

static void ngx_tunnel_relay_handler(ngx_event_t *ev);
static void ngx_tunnel_relay_timer_handler(ngx_event_t *ev);
static ngx_tunnel_reason_e ngx_tunnel_relay_flow(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ngx_tunnel_end_t *to);
static ngx_tunnel_reason_e ngx_tunnel_relay_read(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ngx_tunnel_end_t *to);
static ngx_tunnel_reason_e ngx_tunnel_relay_send(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ngx_tunnel_end_t *to);
static ngx_int_t ngx_tunnel_relay_keep(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, u_char *data, size_t len);
static void ngx_tunnel_relay_release(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from);
static ngx_uint_t ngx_tunnel_relay_gone(ngx_tunnel_end_t *e);
static ngx_tunnel_reason_e ngx_tunnel_relay_broken(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *e);
static void ngx_tunnel_relay_linger(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *e);
static ngx_int_t ngx_tunnel_relay_events(ngx_tunnel_end_t *e);
static void ngx_tunnel_relay_done(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);
static void ngx_tunnel_worker_cleanup(void *data);


const ngx_tunnel_end_ops_t  ngx_tunnel_end_socket = {
    ngx_tunnel_socket_recv,
    ngx_tunnel_socket_send,
    ngx_tunnel_socket_shutdown,
    ngx_tunnel_socket_reset,
    ngx_tunnel_socket_unsent
};


void
ngx_tunnel_policy_create(ngx_tunnel_policy_t *policy)
{
    policy->idle_timeout = NGX_CONF_UNSET_MSEC;
    policy->buffer_size = NGX_CONF_UNSET_SIZE;
}


char *
ngx_tunnel_policy_merge(ngx_conf_t *cf, ngx_tunnel_policy_t *policy,
    ngx_tunnel_policy_t *prev)
{
    ngx_conf_merge_msec_value(policy->idle_timeout, prev->idle_timeout,
                              600000);
    ngx_conf_merge_size_value(policy->buffer_size, prev->buffer_size,
                              64 * 1024);

    if (policy->buffer_size < 1024 || policy->buffer_size > 16 * 1024 * 1024) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"relay_buffer_size\" %uz, "
                           "it must be from 1k to 16m", policy->buffer_size);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_tunnel_worker_init(ngx_tunnel_worker_t *w, ngx_pool_t *pool)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_tunnel_worker_cleanup;
    cln->data = w;

    return NGX_OK;
}


static void
ngx_tunnel_worker_cleanup(void *data)
{
    ngx_tunnel_worker_t  *w = data;

    ngx_tunnel_buf_t  *buf;

    while (w->free) {
        buf = w->free;
        w->free = buf->next;
        ngx_free(buf);
    }

    if (w->scratch) {
        ngx_free(w->scratch);
        w->scratch = NULL;
    }
}


static ssize_t
ngx_tunnel_socket_recv(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = e->connection;

    n = c->recv(c, buf, size);

#if (NGX_SSL)
    if (n == 0 && c->ssl && ngx_tunnel_socket_is_reset(c)) {
        return NGX_ERROR;
    }
#endif

    return n;
}


#if (NGX_SSL)

/* nginx's TLS reports a reset as an end, as it does a FIN */

static ngx_uint_t
ngx_tunnel_socket_is_reset(ngx_connection_t *c)
{
#if (NGX_HAVE_TCP_INFO)

    socklen_t        len;
    struct tcp_info  ti;

    if (SSL_get_shutdown(c->ssl->connection) & SSL_RECEIVED_SHUTDOWN) {
        return 0;
    }

    len = sizeof(struct tcp_info);

    return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0
           && ti.tcpi_state == TCP_CLOSE;

#else

    return 0;

#endif
}

#endif


static ssize_t
ngx_tunnel_socket_send(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    return e->connection->send(e->connection, buf, size);
}


static ngx_int_t
ngx_tunnel_socket_shutdown(ngx_tunnel_end_t *e)
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

#if (NGX_SSL)
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;
    }
#endif
}


static ngx_uint_t
ngx_tunnel_socket_unsent(ngx_tunnel_end_t *e)
{
#if defined TIOCOUTQ

    int  n;

    return ioctl(e->connection->fd, TIOCOUTQ, &n) == 0 && n > 0;

#else

    return 0;

#endif
}


void
ngx_tunnel_relay(ngx_tunnel_relay_t *relay)
{
    ngx_connection_t     *c;
    ngx_tunnel_worker_t  *w;

    relay->start = ngx_current_msec;
    relay->active = ngx_current_msec;
    relay->reason = NGX_TUNNEL_NO_REASON;

    relay->client.received = relay->client.last - relay->client.pos;

    c = relay->target.connection;

    c->data = relay;
    c->read->handler = ngx_tunnel_relay_handler;
    c->write->handler = ngx_tunnel_relay_handler;

    w = relay->worker;

    if (w->scratch == NULL) {
        w->scratch = ngx_alloc(w->size, relay->log);
    }

    if (w->scratch == NULL
        || ngx_tcp_nodelay(c) != NGX_OK
        || ngx_tcp_nodelay(relay->client.connection) != NGX_OK)
    {
        ngx_tunnel_relay_done(relay, NGX_TUNNEL_ERROR);
        return;
    }

#if (NGX_SSL)

    c = relay->client.connection;

    if (c->ssl) {

        /* what SSL_write() did not take is written from elsewhere */

        SSL_set_mode(c->ssl->connection, SSL_MODE_ENABLE_PARTIAL_WRITE
                                         |SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }

#endif

    relay->timer.handler = ngx_tunnel_relay_timer_handler;
    relay->timer.data = relay;
    relay->timer.log = relay->log;

    ngx_add_timer(&relay->timer, relay->policy->idle_timeout
                                 ? relay->policy->idle_timeout
                                 : NGX_TUNNEL_NO_TIMEOUT);

    relay->log->action = "relaying";

    /* bytes may be there already, and their events gone */

    relay->client.connection->read->ready = 1;

    ngx_tunnel_relay_process(relay);
}


static void
ngx_tunnel_relay_handler(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_tunnel_relay_t  *relay;

    c = ev->data;
    relay = c->data;

    if (c->close) {
        ngx_tunnel_relay_done(relay, NGX_TUNNEL_SHUTDOWN);
        return;
    }

    ngx_tunnel_relay_process(relay);
}


/* an event is of one end, but may let both flows go on */

void
ngx_tunnel_relay_process(ngx_tunnel_relay_t *relay)
{
    ngx_tunnel_end_t     *client, *target;
    ngx_tunnel_reason_e   reason;

    client = &relay->client;
    target = &relay->target;

    reason = ngx_tunnel_relay_flow(relay, client, target);

    if (reason == NGX_TUNNEL_NO_REASON) {
        reason = ngx_tunnel_relay_flow(relay, target, client);
    }

    if (reason == NGX_TUNNEL_NO_REASON && client->shut && target->shut) {

        /* of one that has gone, the timer knows when */

        if (client->gone || target->gone) {
            return;
        }

        reason = NGX_TUNNEL_COMPLETED;
    }

    if (reason == NGX_TUNNEL_NO_REASON
        && (ngx_tunnel_relay_events(client) != NGX_OK
            || ngx_tunnel_relay_events(target) != NGX_OK))
    {
        reason = NGX_TUNNEL_ERROR;
    }

    if (reason != NGX_TUNNEL_NO_REASON) {
        ngx_tunnel_relay_done(relay, reason);
    }
}


static void
ngx_tunnel_relay_timer_handler(ngx_event_t *ev)
{
    ngx_msec_t           idle;
    ngx_tunnel_relay_t  *relay;

    relay = ev->data;

    if (relay->client.gone || relay->target.gone) {
        ngx_tunnel_relay_linger(relay, relay->client.gone ? &relay->client
                                                          : &relay->target);
        return;
    }

    if (relay->policy->idle_timeout == 0) {
        ngx_add_timer(ev, NGX_TUNNEL_NO_TIMEOUT);
        return;
    }

    /* bytes that move write a time stamp only, so the timer looks at it */

    idle = ngx_current_msec - relay->active;

    if (idle < relay->policy->idle_timeout) {
        ngx_add_timer(ev, relay->policy->idle_timeout - idle);
        return;
    }

    ngx_tunnel_relay_done(relay, NGX_TUNNEL_IDLE_TIMEOUT);
}


/* moves what can be moved one way; returns a reason to end, or none */

static ngx_tunnel_reason_e
ngx_tunnel_relay_flow(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ngx_tunnel_end_t *to)
{
    ngx_int_t             rc;
    ngx_uint_t            reads;
    ngx_tunnel_reason_e   reason;

    for (reads = NGX_TUNNEL_RELAY_READS; /* void */ ; reads--) {

        if (from->pos != from->last) {

            reason = ngx_tunnel_relay_send(relay, from, to);

            if (reason != NGX_TUNNEL_NO_REASON || from->pos != from->last) {
                return reason;
            }
        }

        if (from->eof) {

            if (to->gone) {
                from->shut = 1;
            }

            if (!from->shut) {
                rc = to->ops->shutdown(to);

                if (rc == NGX_ERROR) {
                    return ngx_tunnel_relay_broken(relay, to);
                }

                from->shut = (rc == NGX_OK);
            }

            return !from->gone && ngx_tunnel_relay_gone(from)
                   ? ngx_tunnel_relay_broken(relay, from)
                   : NGX_TUNNEL_NO_REASON;
        }

        if (!from->connection->read->ready) {
            return NGX_TUNNEL_NO_REASON;
        }

        if (reads == 0) {
            ngx_post_event(from->connection->read, &ngx_posted_next_events);
            return NGX_TUNNEL_NO_REASON;
        }

        reason = ngx_tunnel_relay_read(relay, from, to);

        if (reason != NGX_TUNNEL_NO_REASON) {
            return reason;
        }
    }
}


/* reads once and sends what was read, as far as it goes */

static ngx_tunnel_reason_e
ngx_tunnel_relay_read(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ngx_tunnel_end_t *to)
{
    u_char               *scratch;
    ssize_t               n;
    ngx_tunnel_reason_e   reason;

    scratch = relay->worker->scratch;

    n = from->ops->recv(from, scratch, relay->policy->buffer_size);

    if (n == NGX_AGAIN) {
        return NGX_TUNNEL_NO_REASON;
    }

    if (n == NGX_ERROR) {
        return ngx_tunnel_relay_broken(relay, from);
    }

    if (n == 0) {
        from->eof = 1;
        return NGX_TUNNEL_NO_REASON;
    }

    from->received += n;

    if (to->gone) {
        return NGX_TUNNEL_NO_REASON;
    }

    relay->active = ngx_current_msec;

    if (from == &relay->target && relay->first_byte == 0) {
        relay->first_byte = ngx_current_msec;
    }

    from->pos = scratch;
    from->last = scratch + n;

    reason = ngx_tunnel_relay_send(relay, from, to);

    if (reason != NGX_TUNNEL_NO_REASON) {
        from->pos = from->last;
        return reason;
    }

    if (from->pos != from->last
        && ngx_tunnel_relay_keep(relay, from, from->pos,
                                 from->last - from->pos)
           != NGX_OK)
    {
        from->pos = from->last;
        return NGX_TUNNEL_ERROR;
    }

    return NGX_TUNNEL_NO_REASON;
}


static ngx_tunnel_reason_e
ngx_tunnel_relay_send(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ngx_tunnel_end_t *to)
{
    ssize_t  n;

    while (from->pos != from->last) {

        if (!to->connection->write->ready) {
            return NGX_TUNNEL_NO_REASON;
        }

        n = to->ops->send(to, from->pos, from->last - from->pos);

        if (n == NGX_AGAIN) {
            return NGX_TUNNEL_NO_REASON;
        }

        if (n == NGX_ERROR) {
            return ngx_tunnel_relay_broken(relay, to);
        }

        from->pos += n;
        to->sent += n;
        relay->active = ngx_current_msec;
    }

    ngx_tunnel_relay_release(relay, from);

    return NGX_TUNNEL_NO_REASON;
}


/* copies bytes out of the shared buffer, where others will read into */

static ngx_int_t
ngx_tunnel_relay_keep(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    u_char *data, size_t len)
{
    ngx_tunnel_buf_t     *buf;
    ngx_tunnel_worker_t  *w;

    w = relay->worker;
    buf = w->free;

    if (buf) {
        w->free = buf->next;
        w->nfree--;

    } else {
        buf = ngx_alloc(sizeof(ngx_tunnel_buf_t) + w->size, relay->log);
        if (buf == NULL) {
            return NGX_ERROR;
        }
    }

    from->buf = buf;
    from->pos = (u_char *) buf + sizeof(ngx_tunnel_buf_t);
    from->last = ngx_cpymem(from->pos, data, len);

    return NGX_OK;
}


/* nothing waits any more, sent or given up: the buffer goes back */

static void
ngx_tunnel_relay_release(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from)
{
    ngx_tunnel_buf_t     *buf;
    ngx_tunnel_worker_t  *w;

    from->pos = from->last;

    buf = from->buf;

    if (buf == NULL) {
        return;
    }

    from->buf = NULL;
    w = relay->worker;

    if (w->nfree < NGX_TUNNEL_MAX_FREE_BUFS) {
        buf->next = w->free;
        w->free = buf;
        w->nfree++;

    } else {
        ngx_free(buf);
    }
}


/* an event behind the end of an end's data may be a reset */

static ngx_uint_t
ngx_tunnel_relay_gone(ngx_tunnel_end_t *e)
{
    int                err;
    socklen_t          len;
    ngx_connection_t  *c;

    c = e->connection;

    if (!c->read->ready) {
        return 0;
    }

    c->read->ready = 0;

    err = 0;
    len = sizeof(int);

    return getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1
           || err != 0;
}


/*
 * An end failed: after its FIN it has merely gone, otherwise it was reset,
 * and the other end is to see that, too.
 */

static ngx_tunnel_reason_e
ngx_tunnel_relay_broken(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *e)
{
    ngx_tunnel_end_t  *other;

    other = (e == &relay->client) ? &relay->target : &relay->client;

    if (e->eof && (e->pos != e->last || other->ops->unsent(other))) {

        /* a reset would take what the other end has not got yet */

        if (!e->gone) {
            e->gone = 1;
            relay->active = ngx_current_msec;

            ngx_add_timer(&relay->timer, NGX_TUNNEL_LINGER_TICK);
        }

        ngx_tunnel_relay_release(relay, other);

        return NGX_TUNNEL_NO_REASON;
    }

    other->ops->reset(other);

    if (e == &relay->client) {
        return e->eof ? NGX_TUNNEL_CLIENT_CLOSED : NGX_TUNNEL_CLIENT_RESET;
    }

    return e->eof ? NGX_TUNNEL_TARGET_CLOSED : NGX_TUNNEL_TARGET_RESET;
}


/* an end has gone: ends the tunnel when the other one has got everything */

static void
ngx_tunnel_relay_linger(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *e)
{
    ngx_tunnel_reason_e  reason;

    if (ngx_current_msec - relay->active >= NGX_TUNNEL_LINGER_TIMEOUT) {
        reason = (e == &relay->client) ? NGX_TUNNEL_CLIENT_CLOSED
                                       : NGX_TUNNEL_TARGET_CLOSED;

    } else {
        reason = ngx_tunnel_relay_broken(relay, e);
    }

    if (reason != NGX_TUNNEL_NO_REASON) {
        ngx_tunnel_relay_done(relay, reason);
        return;
    }

    ngx_add_timer(&relay->timer, NGX_TUNNEL_LINGER_TICK);
}


static ngx_int_t
ngx_tunnel_relay_events(ngx_tunnel_end_t *e)
{
    ngx_connection_t  *c;

    c = e->connection;

    if (ngx_handle_read_event(c->read, e->eof ? NGX_CLOSE_EVENT : 0)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_handle_write_event(c->write, 0);
}


static void
ngx_tunnel_relay_done(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e reason)
{
    ngx_tunnel_relay_abort(relay, reason);

    relay->handler(relay, reason);
}


void
ngx_tunnel_relay_abort(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e reason)
{
    ngx_uint_t    i;
    ngx_event_t  *rev;

    if (relay->done) {
        return;
    }

    relay->done = 1;
    relay->reason = reason;
    relay->end = ngx_current_msec;

    if (relay->timer.timer_set) {
        ngx_del_timer(&relay->timer);
    }

    for (i = 0; i < 2; i++) {
        ngx_tunnel_relay_release(relay, i ? &relay->target : &relay->client);
    }

    rev = relay->client.connection->read;

    if (rev->posted) {
        ngx_delete_posted_event(rev);
    }

    ngx_close_connection(relay->target.connection);
    relay->target.connection = NULL;

    relay->log->action = NULL;
}
