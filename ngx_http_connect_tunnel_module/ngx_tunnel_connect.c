
/*
 * Connector: resolves, asks the rules for every address, races addresses.
 */


#include "ngx_tunnel_connect.h"
#include "ngx_tunnel_end.h"


/* RFC 8305 5: the recommended Connection Attempt Delay, msec */

#define NGX_TUNNEL_ATTEMPT_DELAY  250

#define NGX_TUNNEL_MAX_ADDRS      64


struct ngx_tunnel_attempt_s {
    ngx_tunnel_attempt_t    *next;
    ngx_tunnel_connect_t    *cn;
    ngx_str_t                name;
    ngx_peer_connection_t    peer;
};


static void ngx_tunnel_connect_cleanup(void *data);
static void ngx_tunnel_connect_abort(ngx_tunnel_connect_t *cn);
static ngx_int_t ngx_tunnel_connect_resolve(ngx_tunnel_connect_t *cn);
static void ngx_tunnel_connect_resolved(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_tunnel_connect_literal(ngx_tunnel_connect_t *cn);
static ngx_int_t ngx_tunnel_connect_hosts(ngx_tunnel_connect_t *cn,
    ngx_array_t *addrs);
static ngx_int_t ngx_tunnel_connect_order(ngx_tunnel_connect_t *cn,
    ngx_resolver_addr_t *addrs, ngx_uint_t n);
static ngx_int_t ngx_tunnel_connect_next(ngx_tunnel_connect_t *cn,
    ngx_uint_t why);
static ngx_uint_t ngx_tunnel_connect_again(ngx_tunnel_connect_t *cn,
    ngx_uint_t why);
static ngx_int_t ngx_tunnel_connect_address(ngx_tunnel_connect_t *cn,
    ngx_addr_t *addr);
static ngx_int_t ngx_tunnel_connect_balanced(ngx_tunnel_connect_t *cn);
static void ngx_tunnel_connect_discard(ngx_connection_t *c);
static ngx_uint_t ngx_tunnel_connect_next_peer(ngx_tunnel_connect_t *cn,
    ngx_uint_t why, ngx_uint_t state);
static ngx_int_t ngx_tunnel_connect_allowed(ngx_tunnel_connect_t *cn,
    struct sockaddr *sa, ngx_str_t *name);
static ngx_int_t ngx_tunnel_connect_peer(ngx_tunnel_connect_t *cn,
    ngx_tunnel_attempt_t *at);
static void ngx_tunnel_connect_write_handler(ngx_event_t *wev);
static void ngx_tunnel_connect_read_handler(ngx_event_t *rev);
static void ngx_tunnel_connect_timer_handler(ngx_event_t *ev);
static void ngx_tunnel_connect_timer(ngx_tunnel_connect_t *cn);
static void ngx_tunnel_connect_win(ngx_tunnel_connect_t *cn,
    ngx_tunnel_attempt_t *at);
static void ngx_tunnel_connect_close(ngx_tunnel_connect_t *cn,
    ngx_tunnel_attempt_t *at);
static ngx_tunnel_result_e ngx_tunnel_connect_error(ngx_err_t err);
static ngx_uint_t ngx_tunnel_connect_failed(ngx_tunnel_connect_t *cn,
    ngx_tunnel_result_e result, ngx_err_t err, ngx_str_t *name);
static void ngx_tunnel_connect_done(ngx_tunnel_connect_t *cn, ngx_int_t rc);


/* of several failures the one that tells most is reported */

static ngx_uint_t  ngx_tunnel_connect_rank[] = {
    0,                                   /* ok */
    0,                                   /* bad_request */
    0,                                   /* bad_version */
    0,                                   /* too_early */
    0,                                   /* denied_name */
    1,                                   /* denied_address */
    0,                                   /* resolve_failed */
    0,                                   /* resolve_timeout */
    4,                                   /* refused */
    2,                                   /* unreachable */
    3,                                   /* connect_timeout */
    0,                                   /* client_limit */
    6,                                   /* machine_limit */
    5,                                   /* internal */
    0,                                   /* unsupported_command */
    0,                                   /* unsupported_address */
    0,                                   /* auth_failed */
    0,                                   /* handshake_timeout */
    0
};


void
ngx_tunnel_connect_conf_create(ngx_tunnel_connect_conf_t *conf)
{
    conf->connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->resolve_timeout = NGX_CONF_UNSET_MSEC;
    conf->prefer = NGX_CONF_UNSET_UINT;
    conf->next_upstream = 0;
    conf->next_tries = NGX_CONF_UNSET_UINT;
    conf->next_timeout = NGX_CONF_UNSET_MSEC;
    conf->bind = NGX_CONF_UNSET_PTR;
}


void
ngx_tunnel_connect_conf_merge(ngx_tunnel_connect_conf_t *conf,
    ngx_tunnel_connect_conf_t *prev)
{
    ngx_conf_merge_msec_value(conf->connect_timeout, prev->connect_timeout,
                              10000);
    ngx_conf_merge_msec_value(conf->resolve_timeout, prev->resolve_timeout,
                              10000);
    ngx_conf_merge_uint_value(conf->prefer, prev->prefer,
                              NGX_TUNNEL_PREFER_ANY);
    ngx_conf_merge_bitmask_value(conf->next_upstream, prev->next_upstream,
                                 (NGX_CONF_BITMASK_SET|NGX_TUNNEL_NEXT_ERROR
                                  |NGX_TUNNEL_NEXT_TIMEOUT));
    ngx_conf_merge_uint_value(conf->next_tries, prev->next_tries, 0);
    ngx_conf_merge_msec_value(conf->next_timeout, prev->next_timeout, 0);
    ngx_conf_merge_ptr_value(conf->bind, prev->bind, NULL);
}


ngx_int_t
ngx_tunnel_connect(ngx_tunnel_connect_t *cn)
{
    ngx_int_t            rc;
    ngx_pool_cleanup_t  *cln;

    cn->result = NGX_TUNNEL_NO_RESULT;

    cln = ngx_pool_cleanup_add(cn->pool, 0);
    if (cln == NULL) {
        return NGX_TUNNEL_INTERNAL;
    }

    cln->handler = ngx_tunnel_connect_cleanup;
    cln->data = cn;

    cn->timer.handler = ngx_tunnel_connect_timer_handler;
    cn->timer.data = cn;
    cn->timer.log = cn->log;

    /* nginx's own words on each attempt; ours name the target and the end */

    cn->quiet = *cn->log;
    cn->quiet.log_level = NGX_LOG_EMERG;

    if (cn->balancer) {
        cn->start = ngx_current_msec;

        rc = ngx_tunnel_connect_balanced(cn);

    } else if (cn->target->family != AF_UNSPEC) {
        rc = ngx_tunnel_connect_literal(cn);

    } else {
        rc = ngx_tunnel_connect_resolve(cn);
    }

    if (rc != NGX_AGAIN) {
        cn->done = 1;
        ngx_tunnel_connect_abort(cn);
    }

    return rc;
}


static void
ngx_tunnel_connect_cleanup(void *data)
{
    ngx_tunnel_connect_t  *cn = data;

    cn->done = 1;

    ngx_tunnel_connect_abort(cn);

    /* a balancer counts connections until the tunnel has ended */

    if (cn->taken) {
        cn->taken = 0;
        cn->balancer->free(cn->balancer, cn->balancer->data, 0);
    }
}


/* ends all that is under way; what was handed over is not */

static void
ngx_tunnel_connect_abort(ngx_tunnel_connect_t *cn)
{
    if (cn->ctx) {
        ngx_resolve_name_done(cn->ctx);
        cn->ctx = NULL;
    }

    if (cn->timer.timer_set) {
        ngx_del_timer(&cn->timer);
    }

    while (cn->attempts) {
        ngx_tunnel_connect_close(cn, cn->attempts);
    }
}


static ngx_int_t
ngx_tunnel_connect_resolve(ngx_tunnel_connect_t *cn)
{
    ngx_array_t         *addrs;
    ngx_resolver_ctx_t  *ctx;

    cn->start = ngx_current_msec;

    if (cn->system) {
        addrs = ngx_tunnel_system_hosts(cn->system, &cn->target->host);

        if (addrs) {
            return ngx_tunnel_connect_hosts(cn, addrs);
        }
    }

    ctx = ngx_resolve_start(cn->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return NGX_TUNNEL_INTERNAL;
    }

    ctx->name = cn->target->host;
    ctx->handler = ngx_tunnel_connect_resolved;
    ctx->data = cn;
    ctx->timeout = cn->conf->resolve_timeout;

    cn->ctx = ctx;
    cn->resolving = 1;

    if (ngx_resolve_name(ctx) != NGX_OK) {

        /* the context is gone */

        cn->ctx = NULL;
        cn->resolving = 0;

        return NGX_TUNNEL_INTERNAL;
    }

    cn->resolving = 0;

    if (cn->ctx) {
        return NGX_AGAIN;
    }

    /* answered from the cache */

    if (cn->result != NGX_TUNNEL_NO_RESULT) {
        return cn->result;
    }

    return ngx_tunnel_connect_next(cn, NGX_TUNNEL_NEXT_ERROR);
}


static void
ngx_tunnel_connect_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_tunnel_connect_t  *cn = ctx->data;

    cn->resolve_time = ngx_current_msec - cn->start;

    if (ctx->state == NGX_OK) {
        cn->cached = cn->resolving;

        if (ngx_tunnel_connect_order(cn, ctx->addrs, ctx->naddrs) != NGX_OK) {
            cn->result = NGX_TUNNEL_INTERNAL;
        }

    } else {
        cn->result = (ctx->state == NGX_RESOLVE_TIMEDOUT)
                     ? NGX_TUNNEL_RESOLVE_TIMEOUT : NGX_TUNNEL_RESOLVE_FAILED;

        cn->what.data = (u_char *) ngx_resolver_strerror(ctx->state);
        cn->what.len = ngx_strlen(cn->what.data);
    }

    ngx_resolve_name_done(ctx);
    cn->ctx = NULL;

    if (cn->resolving) {
        return;
    }

    if (cn->result != NGX_TUNNEL_NO_RESULT) {
        ngx_tunnel_connect_done(cn, cn->result);
        return;
    }

    ngx_tunnel_connect_done(cn, ngx_tunnel_connect_next(cn,
                                                      NGX_TUNNEL_NEXT_ERROR));
}


static ngx_int_t
ngx_tunnel_connect_literal(ngx_tunnel_connect_t *cn)
{
    ngx_resolver_addr_t   addr;
    struct sockaddr_in    sin;
    struct sockaddr_in6   sin6;

    if (cn->target->family == AF_INET) {
        ngx_memzero(&sin, sizeof(struct sockaddr_in));
        sin.sin_family = AF_INET;
        sin.sin_addr = cn->target->addr.in;

        addr.sockaddr = (struct sockaddr *) &sin;
        addr.socklen = sizeof(struct sockaddr_in);

    } else {
        ngx_memzero(&sin6, sizeof(struct sockaddr_in6));
        sin6.sin6_family = AF_INET6;
        sin6.sin6_addr = cn->target->addr.in6;

        addr.sockaddr = (struct sockaddr *) &sin6;
        addr.socklen = sizeof(struct sockaddr_in6);
    }

    if (ngx_tunnel_connect_order(cn, &addr, 1) != NGX_OK) {
        return NGX_TUNNEL_INTERNAL;
    }

    return ngx_tunnel_connect_next(cn, NGX_TUNNEL_NEXT_ERROR);
}


static ngx_int_t
ngx_tunnel_connect_hosts(ngx_tunnel_connect_t *cn, ngx_array_t *addrs)
{
    ngx_uint_t            i, n;
    ngx_addr_t           *addr;
    ngx_resolver_addr_t   ra[NGX_TUNNEL_MAX_ADDRS];

    cn->resolve_time = 0;
    cn->cached = 1;

    addr = addrs->elts;
    n = ngx_min(addrs->nelts, NGX_TUNNEL_MAX_ADDRS);

    for (i = 0; i < n; i++) {
        ra[i].sockaddr = addr[i].sockaddr;
        ra[i].socklen = addr[i].socklen;
    }

    if (ngx_tunnel_connect_order(cn, ra, n) != NGX_OK) {
        return NGX_TUNNEL_INTERNAL;
    }

    return ngx_tunnel_connect_next(cn, NGX_TUNNEL_NEXT_ERROR);
}


/*
 * Copies the addresses with the target's port, the families interleaved
 * (RFC 8305 4), the preferred one first.
 */

static ngx_int_t
ngx_tunnel_connect_order(ngx_tunnel_connect_t *cn, ngx_resolver_addr_t *addrs,
    ngx_uint_t n)
{
    u_char      *p;
    int          family;
    size_t       len;
    ngx_uint_t   i, left, pos[2];
    ngx_addr_t  *addr;

    n = ngx_min(n, NGX_TUNNEL_MAX_ADDRS);

    cn->addrs = ngx_palloc(cn->pool, n * sizeof(ngx_addr_t));
    if (cn->addrs == NULL) {
        return NGX_ERROR;
    }

    family = (cn->conf->prefer == NGX_TUNNEL_PREFER_IPV4) ? AF_INET : AF_INET6;

    /* pos[0] walks the addresses of the preferred family, pos[1] the others */

    pos[0] = 0;
    pos[1] = 0;

    for (left = n, i = 0; left; i ^= 1) {

        while (pos[i] < n
               && (addrs[pos[i]].sockaddr->sa_family == family) == (i == 1))
        {
            pos[i]++;
        }

        if (pos[i] == n) {
            continue;
        }

        left--;

        addr = &cn->addrs[cn->naddrs++];

        addr->socklen = addrs[pos[i]].socklen;

        addr->sockaddr = ngx_palloc(cn->pool, addr->socklen);
        if (addr->sockaddr == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(addr->sockaddr, addrs[pos[i]].sockaddr, addr->socklen);
        ngx_inet_set_port(addr->sockaddr, cn->target->port);

        len = (addr->sockaddr->sa_family == AF_INET)
              ? NGX_INET_ADDRSTRLEN + sizeof(":65535") - 1
              : NGX_SOCKADDR_STRLEN;

        p = ngx_pnalloc(cn->pool, len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        addr->name.data = p;
        addr->name.len = ngx_sock_ntop(addr->sockaddr, addr->socklen, p, len,
                                       1);

        pos[i]++;
    }

    return NGX_OK;
}


/*
 * Starts the next attempt, because of an error or of a delay.  Returns
 * NGX_AGAIN while one is under way, else the result.
 */

static ngx_int_t
ngx_tunnel_connect_next(ngx_tunnel_connect_t *cn, ngx_uint_t why)
{
    ngx_int_t  rc;

    if (cn->next == 0) {
        cn->start = ngx_current_msec;
        cn->deadline = cn->start + cn->conf->connect_timeout;
    }

    while (cn->next < cn->naddrs && ngx_tunnel_connect_again(cn, why)) {

        rc = ngx_tunnel_connect_address(cn, &cn->addrs[cn->next++]);

        if (rc == NGX_OK) {
            return NGX_TUNNEL_OK;
        }

        if (rc == NGX_AGAIN || rc == NGX_ERROR) {
            break;
        }

        why = NGX_TUNNEL_NEXT_ERROR;
    }

    if (cn->attempts == NULL) {

        if (cn->result == NGX_TUNNEL_NO_RESULT) {

            cn->result = NGX_TUNNEL_UNREACHABLE;
        }

        return cn->result;
    }

    ngx_tunnel_connect_timer(cn);

    return NGX_AGAIN;
}


/* whether there may be another attempt; what a rule denied was none */

static ngx_uint_t
ngx_tunnel_connect_again(ngx_tunnel_connect_t *cn, ngx_uint_t why)
{
    ngx_tunnel_connect_conf_t  *conf;

    conf = cn->conf;

    return cn->tries == 0
           || ((conf->next_upstream & why)
               && (conf->next_tries == 0 || cn->tries < conf->next_tries)
               && (conf->next_timeout == 0
                   || ngx_current_msec - cn->start < conf->next_timeout));
}


/*
 * NGX_OK: connected, NGX_AGAIN: under way, NGX_DECLINED: failed, NGX_ABORT:
 * must not be tried, NGX_ERROR: failed by no fault of the target.
 */

static ngx_int_t
ngx_tunnel_connect_address(ngx_tunnel_connect_t *cn, ngx_addr_t *addr)
{
    ngx_int_t              rc;
    ngx_addr_t            *local;
    ngx_tunnel_attempt_t  *at;

    local = cn->local;

    if (addr->sockaddr->sa_family == AF_UNIX) {
        local = NULL;
    }

    if (local && local->sockaddr->sa_family != addr->sockaddr->sa_family) {
        if (ngx_tunnel_connect_failed(cn, NGX_TUNNEL_UNREACHABLE, 0,
                                      &addr->name))
        {
            ngx_str_set(&cn->what, "not of the family of \"target_bind\"");
        }

        return NGX_ABORT;
    }

    if (ngx_tunnel_connect_allowed(cn, addr->sockaddr, &addr->name)
        != NGX_OK)
    {
        return NGX_ABORT;
    }

    at = cn->free;

    if (at) {
        cn->free = at->next;

    } else {
        at = ngx_palloc(cn->pool, sizeof(ngx_tunnel_attempt_t));
        if (at == NULL) {
            ngx_tunnel_connect_failed(cn, NGX_TUNNEL_INTERNAL, NGX_ENOMEM,
                                      &addr->name);
            return NGX_ERROR;
        }
    }

    ngx_memzero(at, sizeof(ngx_tunnel_attempt_t));

    at->cn = cn;
    at->peer.sockaddr = addr->sockaddr;
    at->peer.socklen = addr->socklen;
    at->name = addr->name;
    at->peer.name = &at->name;
    at->peer.get = ngx_event_get_peer;
    at->peer.local = local;
    at->peer.transparent = cn->transparent;

    at->next = cn->attempts;
    cn->attempts = at;

    rc = ngx_tunnel_connect_peer(cn, at);

    if (rc == NGX_OK) {
        ngx_tunnel_connect_win(cn, at);
        return NGX_OK;
    }

    if (rc != NGX_AGAIN) {
        ngx_tunnel_connect_close(cn, at);
    }

    return rc;
}


/*
 * Asks the balancer for one server after another.  The balancer keeps its own
 * structure, the attempt has the connection.
 */

static ngx_int_t
ngx_tunnel_connect_balanced(ngx_tunnel_connect_t *cn)
{
    ngx_int_t               rc;
    ngx_addr_t              addr;
    ngx_uint_t              state;
    ngx_peer_connection_t  *pc;

    pc = cn->balancer;

    do {
        rc = pc->get(pc, pc->data);

        if (rc != NGX_OK && rc != NGX_DONE) {

            if (rc == NGX_BUSY) {
                ngx_str_set(&cn->what, "no live upstreams");
                ngx_tunnel_connect_failed(cn, NGX_TUNNEL_UNREACHABLE, 0, NULL);

            } else {
                ngx_tunnel_connect_failed(cn, NGX_TUNNEL_INTERNAL, 0, NULL);
            }

            return cn->result;
        }

        cn->taken = 1;

        if (pc->connection) {
            ngx_tunnel_connect_discard(pc->connection);
            pc->connection = NULL;
        }

        /* the name may be in memory that is shared, and go with the peer */

        addr.sockaddr = pc->sockaddr;
        addr.socklen = pc->socklen;
        addr.name.len = pc->name->len;
        addr.name.data = ngx_pstrdup(cn->pool, pc->name);

        if (addr.name.data == NULL) {
            ngx_tunnel_connect_failed(cn, NGX_TUNNEL_INTERNAL, NGX_ENOMEM,
                                      NULL);
            return cn->result;
        }

        rc = ngx_tunnel_connect_address(cn, &addr);

        if (rc == NGX_OK) {
            return NGX_TUNNEL_OK;
        }

        if (rc == NGX_AGAIN) {
            cn->deadline = ngx_current_msec + cn->conf->connect_timeout;
            ngx_tunnel_connect_timer(cn);
            return NGX_AGAIN;
        }

        if (rc == NGX_ERROR) {
            cn->taken = 0;
            pc->free(pc, pc->data, 0);
            return cn->result;
        }

        state = (rc == NGX_ABORT) ? NGX_PEER_NEXT : NGX_PEER_FAILED;

    } while (ngx_tunnel_connect_next_peer(cn, NGX_TUNNEL_NEXT_ERROR, state));

    return cn->result;
}


/* closes a connection that a group keeps alive for another protocol */

static void
ngx_tunnel_connect_discard(ngx_connection_t *c)
{
    ngx_pool_t  *pool;

#if (NGX_SSL)
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        (void) ngx_ssl_shutdown(c);
    }
#endif

    pool = c->pool;

    ngx_close_connection(c);

    if (pool) {
        ngx_destroy_pool(pool);
    }
}


/* gives a peer back; returns whether another one may be asked for */

static ngx_uint_t
ngx_tunnel_connect_next_peer(ngx_tunnel_connect_t *cn, ngx_uint_t why,
    ngx_uint_t state)
{
    ngx_peer_connection_t  *pc;

    pc = cn->balancer;

    cn->taken = 0;

    pc->free(pc, pc->data, state);
    pc->sockaddr = NULL;

    return pc->tries && ngx_tunnel_connect_again(cn, why);
}


/* whether rules and the local address let an address be tried */

static ngx_int_t
ngx_tunnel_connect_allowed(ngx_tunnel_connect_t *cn, struct sockaddr *sa,
    ngx_str_t *name)
{
    ngx_str_t  what;

    if (ngx_tunnel_rules_allow_address(cn->rules, sa, name, cn->trusted,
                                       cn->own, cn->log, &what)
        == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_INFO, cn->log, 0, "address %V is denied by \"%V\"",
                  name, &what);

    if (ngx_tunnel_connect_failed(cn, NGX_TUNNEL_DENIED_ADDRESS, 0, name)) {
        cn->what = what;
    }

    return NGX_ABORT;
}


/* makes one connection; returns as ngx_tunnel_connect_address() does */

static ngx_int_t
ngx_tunnel_connect_peer(ngx_tunnel_connect_t *cn, ngx_tunnel_attempt_t *at)
{
    ngx_int_t             rc;
    ngx_err_t             err;
    ngx_connection_t     *c;
    ngx_tunnel_result_e   result;

    if (!ngx_tunnel_socket_available()) {
        if (ngx_tunnel_connect_failed(cn, NGX_TUNNEL_MACHINE_LIMIT, 0,
                                      at->peer.name))
        {
            ngx_str_set(&cn->what, "worker_connections are not enough");
        }

        return NGX_ERROR;
    }

    cn->tries++;

    at->peer.type = SOCK_STREAM;
    at->peer.log = &cn->quiet;
    at->peer.log_error = NGX_ERROR_ERR;

    ngx_set_errno(0);

    rc = ngx_event_connect_peer(&at->peer);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        err = ngx_socket_errno;

        ngx_log_error(NGX_LOG_INFO, cn->log, err, "connect() to %V failed",
                      at->peer.name);

        result = ngx_tunnel_connect_error(err);

        if (err == EADDRNOTAVAIL
            && at->peer.sockaddr->sa_family == AF_INET6
            && at->peer.local == NULL)
        {
            /* a machine without an IPv6 address, and not one out of ports */

            result = NGX_TUNNEL_UNREACHABLE;
        }

        ngx_tunnel_connect_failed(cn, result, err, at->peer.name);

        return (result == NGX_TUNNEL_MACHINE_LIMIT
                || (result == NGX_TUNNEL_INTERNAL && at->peer.local))
               ? NGX_ERROR : NGX_DECLINED;
    }

    c = at->peer.connection;

    c->data = at;
    c->read->handler = ngx_tunnel_connect_read_handler;
    c->write->handler = ngx_tunnel_connect_write_handler;

    return rc;
}


static void
ngx_tunnel_connect_write_handler(ngx_event_t *wev)
{
    ngx_int_t              rc;
    ngx_err_t              err;
    ngx_connection_t      *c;
    ngx_tunnel_connect_t  *cn;
    ngx_tunnel_attempt_t  *at;

    c = wev->data;
    at = c->data;
    cn = at->cn;

    if (c->close) {
        ngx_str_set(&cn->what, "worker is shutting down");
        ngx_tunnel_connect_done(cn, NGX_TUNNEL_MACHINE_LIMIT);
        return;
    }

    err = ngx_tunnel_socket_error(c);

    if (err == 0) {
        ngx_tunnel_connect_win(cn, at);
        ngx_tunnel_connect_done(cn, NGX_TUNNEL_OK);
        return;
    }

    ngx_log_error(NGX_LOG_INFO, cn->log, err, "connect() to %V failed",
                  at->peer.name);

    ngx_tunnel_connect_failed(cn, ngx_tunnel_connect_error(err), err,
                              at->peer.name);
    ngx_tunnel_connect_close(cn, at);

    if (cn->balancer) {

        rc = cn->result;

        if (ngx_tunnel_connect_next_peer(cn, NGX_TUNNEL_NEXT_ERROR,
                                         NGX_PEER_FAILED))
        {
            rc = ngx_tunnel_connect_balanced(cn);
        }

        ngx_tunnel_connect_done(cn, rc);
        return;
    }

    /* RFC 8305 5: a failed attempt lets the next one start at once */

    ngx_tunnel_connect_done(cn, ngx_tunnel_connect_next(cn,
                                                      NGX_TUNNEL_NEXT_ERROR));
}


static void
ngx_tunnel_connect_read_handler(ngx_event_t *rev)
{
    ngx_connection_t  *c;

    c = rev->data;

    /* bytes wait for the relay; errors come with a write event, too */

    if (c->close) {
        ngx_tunnel_connect_write_handler(c->write);
    }
}


static void
ngx_tunnel_connect_timer_handler(ngx_event_t *ev)
{
    ngx_tunnel_connect_t  *cn;

    cn = ev->data;

    if ((ngx_msec_int_t) (cn->deadline - ngx_current_msec) > 0) {
        ngx_tunnel_connect_done(cn, ngx_tunnel_connect_next(cn,
                                                    NGX_TUNNEL_NEXT_TIMEOUT));
        return;
    }

    ngx_log_error(NGX_LOG_INFO, cn->log, NGX_ETIMEDOUT,
                  "connect() to %V timed out", &cn->attempts->name);

    ngx_tunnel_connect_failed(cn, NGX_TUNNEL_CONNECT_TIMEOUT, NGX_ETIMEDOUT,
                              &cn->attempts->name);

    if (cn->balancer) {
        ngx_tunnel_connect_close(cn, cn->attempts);

        if (ngx_tunnel_connect_next_peer(cn, NGX_TUNNEL_NEXT_TIMEOUT,
                                         NGX_PEER_FAILED))
        {
            ngx_tunnel_connect_done(cn, ngx_tunnel_connect_balanced(cn));
            return;
        }
    }

    ngx_tunnel_connect_done(cn, cn->result);
}


/* one timer: for the next attempt, and for the end of all */

static void
ngx_tunnel_connect_timer(ngx_tunnel_connect_t *cn)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (cn->deadline - ngx_current_msec);
    left = ngx_max(left, 0);

    if (cn->next < cn->naddrs
        && ngx_tunnel_connect_again(cn, NGX_TUNNEL_NEXT_TIMEOUT))
    {
        left = ngx_min(left, NGX_TUNNEL_ATTEMPT_DELAY);
    }

    if (cn->timer.timer_set) {
        ngx_del_timer(&cn->timer);
    }

    ngx_add_timer(&cn->timer, (ngx_msec_t) left);
}


static void
ngx_tunnel_connect_win(ngx_tunnel_connect_t *cn, ngx_tunnel_attempt_t *at)
{
    ngx_connection_t  *c;

    c = at->peer.connection;

    c->read->handler = ngx_tunnel_socket_note;
    c->write->handler = ngx_tunnel_socket_note;

    c->log = cn->log;
    c->read->log = cn->log;
    c->write->log = cn->log;
    c->log_error = NGX_ERROR_INFO;

    cn->connection = c;
    cn->address = *at->peer.name;
    cn->connect_time = ngx_current_msec - cn->start;

    at->peer.connection = NULL;
}


static void
ngx_tunnel_connect_close(ngx_tunnel_connect_t *cn, ngx_tunnel_attempt_t *at)
{
    ngx_tunnel_attempt_t  **p;

    for (p = &cn->attempts; *p; p = &(*p)->next) {

        if (*p == at) {
            *p = at->next;
            break;
        }
    }

    if (at->peer.connection) {
        ngx_close_connection(at->peer.connection);
        at->peer.connection = NULL;
    }

    at->next = cn->free;
    cn->free = at;
}


static ngx_tunnel_result_e
ngx_tunnel_connect_error(ngx_err_t err)
{
    switch (err) {

    case NGX_ECONNREFUSED:
    case NGX_ECONNRESET:
    case NGX_ENOENT:                     /* of a unix socket */
    case NGX_EAGAIN:                     /* of a full one on Linux */
        return NGX_TUNNEL_REFUSED;

    case NGX_ETIMEDOUT:
        return NGX_TUNNEL_CONNECT_TIMEOUT;

    case NGX_EMFILE:
    case NGX_ENFILE:
    case NGX_ENOMEM:
    case ENOBUFS:
    case EADDRNOTAVAIL:                  /* out of local ports */
        return NGX_TUNNEL_MACHINE_LIMIT;

    case NGX_ENETDOWN:
    case NGX_ENETUNREACH:
    case NGX_EHOSTDOWN:
    case NGX_EHOSTUNREACH:
    case NGX_EACCES:                     /* a firewall's or a route's no */
    case NGX_EPERM:
    case EAFNOSUPPORT:
        return NGX_TUNNEL_UNREACHABLE;
    }

    return NGX_TUNNEL_INTERNAL;
}


/* keeps the most telling failure; returns whether it is this one */

static ngx_uint_t
ngx_tunnel_connect_failed(ngx_tunnel_connect_t *cn, ngx_tunnel_result_e result,
    ngx_err_t err, ngx_str_t *name)
{
    if (cn->result != NGX_TUNNEL_NO_RESULT
        && ngx_tunnel_connect_rank[result]
           <= ngx_tunnel_connect_rank[cn->result])
    {
        return 0;
    }

    cn->result = result;
    cn->err = err;

    if (name) {
        cn->failed = *name;
        ngx_str_null(&cn->what);
    }

    return 1;
}


/* rc is a result or NGX_AGAIN */

static void
ngx_tunnel_connect_done(ngx_tunnel_connect_t *cn, ngx_int_t rc)
{
    if (rc == NGX_AGAIN || cn->done) {
        return;
    }

    cn->done = 1;

    ngx_tunnel_connect_abort(cn);

    cn->handler(cn, (ngx_tunnel_result_e) rc);
}
