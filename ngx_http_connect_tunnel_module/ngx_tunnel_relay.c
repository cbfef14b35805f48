
/*
 * Relay: two flows, one for each direction.
 *
 * A flow reads into a buffer that all tunnels of a worker share and writes at
 * once.  Only what the peer does not take is copied to a buffer of its own,
 * and the flow does not read before that is gone.  So an idle tunnel holds no
 * buffer, and a slow peer slows its sender.
 *
 * A flow whose reads are full is bulk: its bytes go through a pipe, which the
 * flow holds only as long as there are bytes in it.
 *
 * Bytes that move write a time stamp.  One timer looks at it, and at whatever
 * else the policy has.
 */


#include "ngx_tunnel_relay.h"


/* reads of one flow for each event: others' bytes wait no longer than that */

#define NGX_TUNNEL_RELAY_READS      2

/* a splice() moves pages, and so many as fast as a read copies few bytes */

#define NGX_TUNNEL_SPLICE_SIZE      (256 * 1024)

/* a flow that comes in less than this at a time is no bulk */

#define NGX_TUNNEL_SPLICE_RUN       (32 * 1024)

/*
 * When a tunnel ends, what is on its way to an end is waited for: how often
 * is looked, and how long may nothing arrive, msec
 */

#define NGX_TUNNEL_LINGER_TICK      200
#define NGX_TUNNEL_LINGER_TIMEOUT   60000

/* how often a tunnel looks whether others have spent its quota, msec */

#define NGX_TUNNEL_QUOTA_TICK       1000

/* nginx waits for timers, so an untimed tunnel keeps one to stay alive */

#define NGX_TUNNEL_NO_TIMEOUT       3600000

/* a check has to come to an end by so many of the client's first bytes */

#define NGX_TUNNEL_CHECK_SIZE       65536


/* bytes that wait for the other end */

#define ngx_tunnel_relay_waits(e)   ((size_t) ((e)->last - (e)->pos)          \
                                     + (e)->piped)


static ngx_int_t ngx_tunnel_relay_open(ngx_tunnel_relay_t *relay);
static ngx_int_t ngx_tunnel_relay_limit(ngx_tunnel_relay_t *relay);
static ngx_int_t ngx_tunnel_relay_throttle(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *e, off_t rate);
static void ngx_tunnel_relay_hold(ngx_tunnel_relay_t *relay);
static ngx_tunnel_reason_e ngx_tunnel_relay_held(ngx_tunnel_relay_t *relay);
static void ngx_tunnel_relay_start(ngx_tunnel_relay_t *relay);
static ngx_tunnel_reason_e ngx_tunnel_relay_header(ngx_tunnel_relay_t *relay,
    ngx_str_t *header);
static ngx_int_t ngx_tunnel_relay_early(ngx_tunnel_relay_t *relay);
static void ngx_tunnel_relay_handler(ngx_event_t *ev);
static void ngx_tunnel_relay_wait(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);
static void ngx_tunnel_relay_timer_handler(ngx_event_t *ev);
static ngx_tunnel_reason_e ngx_tunnel_relay_expired(ngx_tunnel_relay_t *relay,
    ngx_msec_t *next);
static ngx_uint_t ngx_tunnel_relay_over(ngx_msec_t at, ngx_msec_t *next);
static void ngx_tunnel_relay_arm(ngx_tunnel_relay_t *relay, ngx_msec_t at);
static ngx_tunnel_reason_e ngx_tunnel_relay_flow(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ngx_tunnel_end_t *to);
static ngx_tunnel_reason_e ngx_tunnel_relay_eof(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ngx_tunnel_end_t *to);
static off_t ngx_tunnel_relay_allowed(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from);
static ngx_tunnel_reason_e ngx_tunnel_relay_read(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ngx_tunnel_end_t *to, off_t allowed);
static ngx_uint_t ngx_tunnel_relay_exceeds(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ssize_t n);
#if (NGX_TUNNEL_HAVE_SPLICE)
static ssize_t ngx_tunnel_relay_splice(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, off_t allowed);
#endif
static void ngx_tunnel_relay_count(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, off_t n);
static ngx_tunnel_reason_e ngx_tunnel_relay_send(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, ngx_tunnel_end_t *to);
static void ngx_tunnel_relay_stalled(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from);
static ngx_int_t ngx_tunnel_relay_keep(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from, size_t size);
static void ngx_tunnel_relay_release(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *from);
static ngx_tunnel_reason_e ngx_tunnel_relay_broken(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *e);
static ngx_tunnel_reason_e ngx_tunnel_relay_closed(ngx_tunnel_relay_t *relay,
    ngx_tunnel_end_t *e);
static ngx_uint_t ngx_tunnel_relay_linger(ngx_tunnel_relay_t *relay,
    size_t unsent);
static void ngx_tunnel_relay_done(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);


void
ngx_tunnel_relay(ngx_tunnel_relay_t *relay)
{
    ngx_msec_t         next;
    ngx_connection_t  *c;

    relay->start = ngx_current_msec;
    relay->active = ngx_current_msec;
    relay->ticked = ngx_current_msec;
    relay->reason = NGX_TUNNEL_NO_REASON;
    relay->ending = NGX_TUNNEL_NO_REASON;

    c = relay->target.connection;

    c->data = relay;
    c->read->handler = ngx_tunnel_relay_handler;
    c->write->handler = ngx_tunnel_relay_handler;

    relay->timer.handler = ngx_tunnel_relay_timer_handler;
    relay->timer.data = relay;
    relay->timer.log = relay->log;

    if (ngx_tunnel_relay_open(relay) != NGX_OK
        || ngx_tunnel_relay_limit(relay) != NGX_OK)
    {
        ngx_tunnel_relay_done(relay, NGX_TUNNEL_ERROR);
        return;
    }

    relay->log->action = "relaying";

    next = ngx_current_msec + (relay->interval ? relay->interval
                                               : NGX_TUNNEL_NO_TIMEOUT);

    /* a timeout of 0 is over, though not before what is there is looked at */

    if (ngx_tunnel_relay_expired(relay, &next) != NGX_TUNNEL_NO_REASON) {
        next = ngx_current_msec;
    }

    ngx_tunnel_relay_arm(relay, next);

    /* bytes may be there already, and their events gone */

    relay->client.connection->read->ready = 1;

    if (relay->begin && relay->begin->check) {
        ngx_tunnel_relay_hold(relay);

    } else {
        ngx_tunnel_relay_start(relay);
    }
}


/* as long as the client's first bytes are checked, nothing goes either way */

static void
ngx_tunnel_relay_hold(ngx_tunnel_relay_t *relay)
{
    ngx_tunnel_end_t     *target;
    ngx_tunnel_reason_e   reason;

    target = &relay->target;
    reason = relay->ending;

    if (reason == NGX_TUNNEL_NO_REASON) {
        reason = ngx_tunnel_relay_held(relay);
    }

    if (reason == NGX_TUNNEL_NO_REASON && relay->begin->check == NULL) {
        ngx_tunnel_relay_start(relay);
        return;
    }

    /* the target is not read, so that it was reset is to be asked for */

    if (reason == NGX_TUNNEL_NO_REASON
        && target->connection->read->pending_eof
        && target->ops->failed(target))
    {
        reason = ngx_tunnel_relay_broken(relay, target);
    }

    ngx_tunnel_relay_wait(relay, reason);
}


/* there is no check any more once it is passed */

static ngx_tunnel_reason_e
ngx_tunnel_relay_held(ngx_tunnel_relay_t *relay)
{
    u_char               *p;
    size_t                len, size;
    ssize_t               n;
    ngx_int_t             rc;
    ngx_uint_t            reads;
    ngx_event_t          *rev;
    ngx_tunnel_end_t     *client;
    ngx_tunnel_reason_e   reason;

    client = &relay->client;
    rev = client->connection->read;

    for (reads = NGX_TUNNEL_RELAY_READS; /* void */ ; reads--) {

        len = ngx_min((size_t) (client->last - client->pos),
                      NGX_TUNNEL_CHECK_SIZE);
        size = NGX_TUNNEL_CHECK_SIZE - len;

        if (len) {
            rc = relay->begin->check(relay, client->pos, len, &reason);

            if (rc == NGX_OK) {
                relay->begin->check = NULL;
                return NGX_TUNNEL_NO_REASON;
            }

            if (rc == NGX_DECLINED) {
                return reason;
            }

            if (size == 0) {
                return NGX_TUNNEL_NOT_TLS;
            }

            if (client->buf == NULL
                && ngx_tunnel_relay_keep(relay, client, NGX_TUNNEL_CHECK_SIZE)
                   != NGX_OK)
            {
                return NGX_TUNNEL_ERROR;
            }
        }

        if (!rev->ready) {
            return NGX_TUNNEL_NO_REASON;
        }

        if (reads == 0) {
            ngx_post_event(rev, &ngx_posted_next_events);
            return NGX_TUNNEL_NO_REASON;
        }

        p = client->last;

        if (client->buf == NULL) {
            p = relay->worker->scratch;
            size = ngx_min(size, relay->worker->size);
        }

        n = client->ops->recv(client, p, size);

        if (n == NGX_AGAIN) {
            return NGX_TUNNEL_NO_REASON;
        }

        if (n == NGX_ERROR) {
            return NGX_TUNNEL_CLIENT_RESET;
        }

        if (n == 0) {
            return len ? NGX_TUNNEL_NOT_TLS : NGX_TUNNEL_CLIENT_CLOSED;
        }

        if (client->buf == NULL) {
            client->pos = p;
        }

        client->last = p + n;
    }
}


static void
ngx_tunnel_relay_start(ngx_tunnel_relay_t *relay)
{
    ngx_tunnel_reason_e        reason;
    ngx_tunnel_relay_begin_t  *begin;

    begin = relay->begin;
    relay->begin = NULL;

    reason = NGX_TUNNEL_NO_REASON;

    if (begin && begin->header.len) {
        reason = ngx_tunnel_relay_header(relay, &begin->header);
    }

    if (reason == NGX_TUNNEL_NO_REASON
        && ngx_tunnel_relay_early(relay) != NGX_OK)
    {
        reason = NGX_TUNNEL_ERROR;
    }

    if (reason != NGX_TUNNEL_NO_REASON) {
        ngx_tunnel_relay_done(relay, reason);
        return;
    }

    ngx_tunnel_relay_process(relay);
}


/* a connection that is new takes so few bytes at once */

static ngx_tunnel_reason_e
ngx_tunnel_relay_header(ngx_tunnel_relay_t *relay, ngx_str_t *header)
{
    ssize_t            n;
    ngx_tunnel_end_t  *target;

    target = &relay->target;

    n = target->ops->send(target, header->data, header->len);

    if (n == (ssize_t) header->len) {
        return NGX_TUNNEL_NO_REASON;
    }

    if (n == NGX_ERROR) {
        relay->client.ops->reset(&relay->client);
        return NGX_TUNNEL_TARGET_RESET;
    }

    ngx_log_error(NGX_LOG_ERR, relay->log, 0,
                  "the target did not take the PROXY protocol header at once");

    return NGX_TUNNEL_ERROR;
}


static ngx_int_t
ngx_tunnel_relay_open(ngx_tunnel_relay_t *relay)
{
    ngx_tunnel_end_t     *client, *target;
    ngx_tunnel_policy_t  *policy;

    client = &relay->client;
    target = &relay->target;
    policy = relay->policy;

    if (ngx_tunnel_worker_scratch(relay->worker, relay->log) != NGX_OK
        || client->ops->open(client, policy->keepalive) != NGX_OK
        || target->ops->open(target, policy->keepalive) != NGX_OK)
    {
        return NGX_ERROR;
    }

#if (NGX_TUNNEL_HAVE_SPLICE)

    if (policy->splice != NGX_TUNNEL_SPLICE_OFF
        && ngx_tunnel_end_is_raw(client)
        && ngx_tunnel_end_is_raw(target))
    {
        relay->splice = 1;

        client->bulk = (policy->splice == NGX_TUNNEL_SPLICE_ON);
        target->bulk = client->bulk;
    }

#endif

    return NGX_OK;
}


static ngx_int_t
ngx_tunnel_relay_limit(ngx_tunnel_relay_t *relay)
{
    off_t                 upload, download;
    ngx_tunnel_policy_t  *policy;

    policy = relay->policy;

    upload = (policy->upload_rate == -1) ? policy->max_rate
                                         : policy->upload_rate;
    download = (policy->download_rate == -1) ? policy->max_rate
                                             : policy->download_rate;

    if (ngx_tunnel_relay_throttle(relay, &relay->client, upload) != NGX_OK
        || ngx_tunnel_relay_throttle(relay, &relay->target, download)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    relay->left = policy->max_payload ? policy->max_payload
                                      : NGX_MAX_OFF_T_VALUE;
    relay->client.left = policy->max_upload ? policy->max_upload
                                            : NGX_MAX_OFF_T_VALUE;
    relay->target.left = policy->max_download ? policy->max_download
                                              : NGX_MAX_OFF_T_VALUE;

    if (policy->min_rate) {
        ngx_tunnel_window_init(&relay->window,
                               policy->min_rate_grace == -1
                               ? policy->min_rate_window
                               : policy->min_rate_grace,
                               policy->min_rate_window, ngx_current_msec);
    }

    relay->limited = relay->client.rate || relay->target.rate
                     || policy->max_payload || policy->max_upload
                     || policy->max_download || relay->usage;

    return NGX_OK;
}


static ngx_int_t
ngx_tunnel_relay_throttle(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *e,
    off_t rate)
{
    if (rate == 0 || rate > NGX_TUNNEL_MAX_RATE) {
        return NGX_OK;
    }

    e->rate = ngx_palloc(relay->pool, sizeof(ngx_tunnel_rate_t));
    if (e->rate == NULL) {
        return NGX_ERROR;
    }

    ngx_tunnel_rate_init(e->rate, rate, relay->policy->buffer_size,
                         ngx_current_msec);
    return NGX_OK;
}


/* bytes that came before the relay count as those that it reads */

static ngx_int_t
ngx_tunnel_relay_early(ngx_tunnel_relay_t *relay)
{
    off_t              n, left;
    ngx_tunnel_end_t  *client;

    client = &relay->client;

    n = client->last - client->pos;

    if (n == 0) {
        return NGX_OK;
    }

    if (n > client->left || n > relay->left) {
        relay->ending = NGX_TUNNEL_MAX_PAYLOAD;
        n = ngx_min(client->left, relay->left);
    }

    if (relay->usage) {
        left = ngx_tunnel_quota_left(relay->usage);

        if (n >= left) {
            relay->ending = NGX_TUNNEL_QUOTA;
            n = ngx_max(left, 0);
        }
    }

    client->last = client->pos + n;

    ngx_tunnel_relay_count(relay, client, n);

    return (n > 0 && client->buf == NULL)
           ? ngx_tunnel_relay_keep(relay, client, 0) : NGX_OK;
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

    if (relay->begin) {
        ngx_tunnel_relay_hold(relay);
        return;
    }

    client = &relay->client;
    target = &relay->target;

    reason = ngx_tunnel_relay_flow(relay, client, target);

    if (reason == NGX_TUNNEL_NO_REASON) {
        reason = ngx_tunnel_relay_flow(relay, target, client);
    }

    /* if one has gone, the timer looks whether the other one has it all */

    if (reason == NGX_TUNNEL_NO_REASON
        && client->shut && target->shut && !client->gone && !target->gone)
    {
        reason = NGX_TUNNEL_COMPLETED;
    }

    if (reason == NGX_TUNNEL_NO_REASON
        && relay->ending != NGX_TUNNEL_NO_REASON)
    {
        if (!ngx_tunnel_relay_linger(relay, ngx_tunnel_relay_waits(client)
                                            + ngx_tunnel_relay_waits(target)
                                            + client->ops->unsent(client)
                                            + target->ops->unsent(target)))
        {
            reason = relay->ending;
        }
    }

    ngx_tunnel_relay_wait(relay, reason);
}


/* for what the ends need next, or for nothing more if there is a reason */

static void
ngx_tunnel_relay_wait(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e reason)
{
    ngx_tunnel_end_t  *client, *target;

    client = &relay->client;
    target = &relay->target;

    if (reason == NGX_TUNNEL_NO_REASON
        && (client->ops->events(client) != NGX_OK
            || target->ops->events(target) != NGX_OK))
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
    ngx_msec_t            next;
    ngx_tunnel_end_t     *client, *target;
    ngx_tunnel_relay_t   *relay;
    ngx_tunnel_reason_e   reason;

    relay = ev->data;
    client = &relay->client;
    target = &relay->target;

    next = ngx_current_msec + NGX_TUNNEL_NO_TIMEOUT;

    reason = ngx_tunnel_relay_expired(relay, &next);

    if (reason == NGX_TUNNEL_NO_REASON && (client->gone || target->gone)) {
        reason = ngx_tunnel_relay_broken(relay, client->gone ? client
                                                             : target);
    }

    if (reason != NGX_TUNNEL_NO_REASON) {
        ngx_tunnel_relay_done(relay, relay->ending != NGX_TUNNEL_NO_REASON
                                     ? relay->ending : reason);
        return;
    }

    if (relay->interval
        && ngx_tunnel_relay_over(relay->ticked + relay->interval, &next))
    {
        relay->ticked = ngx_current_msec;
        relay->tick(relay);

        (void) ngx_tunnel_relay_over(relay->ticked + relay->interval, &next);
    }

    ngx_tunnel_relay_arm(relay, next);

    if (client->delayed || target->delayed
        || relay->ending != NGX_TUNNEL_NO_REASON)
    {
        ngx_tunnel_relay_process(relay);
    }
}


/*
 * Whether a time of the policy is over; if not, next is lowered to when one
 * may be.
 */

static ngx_tunnel_reason_e
ngx_tunnel_relay_expired(ngx_tunnel_relay_t *relay, ngx_msec_t *next)
{
    ngx_uint_t            i;
    ngx_tunnel_end_t     *e;
    ngx_tunnel_policy_t  *policy;

    policy = relay->policy;

    if (policy->max_lifetime
        && ngx_tunnel_relay_over(relay->start + policy->max_lifetime, next))
    {
        return NGX_TUNNEL_MAX_LIFETIME;
    }

    if (relay->begin && relay->begin->check
        && ngx_tunnel_relay_over(relay->start + policy->preread_timeout, next))
    {
        return NGX_TUNNEL_NOT_TLS;
    }

    if (policy->min_rate) {

        if (ngx_tunnel_window_slow(&relay->window, policy->min_rate,
                                   policy->min_rate_window,
                                   relay->client.received
                                   + relay->target.received,
                                   ngx_current_msec))
        {
            return NGX_TUNNEL_MIN_RATE;
        }

        (void) ngx_tunnel_relay_over(relay->window.end, next);
    }

    if (policy->idle_timeout
        && ngx_tunnel_relay_over(relay->active + policy->idle_timeout, next))
    {
        return NGX_TUNNEL_IDLE_TIMEOUT;
    }

    for (i = 0; i < 2; i++) {
        e = i ? &relay->target : &relay->client;

        if (policy->send_timeout && e->stalled
            && ngx_tunnel_relay_over(e->stalled + policy->send_timeout, next))
        {
            return NGX_TUNNEL_SEND_TIMEOUT;
        }

        if (e->delayed) {
            (void) ngx_tunnel_relay_over(e->rate->next, next);
        }
    }

    if (relay->usage) {

        if (relay->ending == NGX_TUNNEL_NO_REASON
            && ngx_tunnel_quota_left(relay->usage) <= 0)
        {
            relay->ending = NGX_TUNNEL_QUOTA;
        }

        (void) ngx_tunnel_relay_over(ngx_current_msec + NGX_TUNNEL_QUOTA_TICK,
                                     next);
    }

    return NGX_TUNNEL_NO_REASON;
}


static ngx_uint_t
ngx_tunnel_relay_over(ngx_msec_t at, ngx_msec_t *next)
{
    if ((ngx_msec_int_t) (at - ngx_current_msec) <= 0) {
        return 1;
    }

    if ((ngx_msec_int_t) (at - *next) < 0) {
        *next = at;
    }

    return 0;
}


/* the timer fires at a time, or earlier, and then sees what it is for */

static void
ngx_tunnel_relay_arm(ngx_tunnel_relay_t *relay, ngx_msec_t at)
{
    ngx_event_t     *timer;
    ngx_msec_int_t   wait;

    timer = &relay->timer;

    if (timer->timer_set) {

        if ((ngx_msec_int_t) (timer->timer.key - at) <= 0) {
            return;
        }

        ngx_del_timer(timer);
    }

    wait = at - ngx_current_msec;

    ngx_add_timer(timer, ngx_max(wait, 0));
}


/* moves what can be moved one way; returns a reason to end, or none */

static ngx_tunnel_reason_e
ngx_tunnel_relay_flow(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ngx_tunnel_end_t *to)
{
    off_t                 allowed;
    ngx_uint_t            reads;
    ngx_tunnel_reason_e   reason;

    for (reads = NGX_TUNNEL_RELAY_READS; /* void */ ; reads--) {

        if (ngx_tunnel_relay_waits(from)) {

            reason = ngx_tunnel_relay_send(relay, from, to);

            if (reason != NGX_TUNNEL_NO_REASON) {
                return reason;
            }

            if (ngx_tunnel_relay_waits(from)) {

                /* a reset is not read, as nothing is */

                return from->connection->read->pending_eof
                       && !from->gone && from->ops->failed(from)
                       ? ngx_tunnel_relay_broken(relay, from)
                       : NGX_TUNNEL_NO_REASON;
            }
        }

        if (from->eof) {
            return ngx_tunnel_relay_eof(relay, from, to);
        }

        if (!from->connection->read->ready
            || relay->ending != NGX_TUNNEL_NO_REASON)
        {
            return NGX_TUNNEL_NO_REASON;
        }

        if (reads == 0) {
            ngx_post_event(from->connection->read, &ngx_posted_next_events);
            return NGX_TUNNEL_NO_REASON;
        }

        allowed = NGX_MAX_OFF_T_VALUE;

        if (relay->limited) {
            allowed = ngx_tunnel_relay_allowed(relay, from);

            if (from->delayed || relay->ending != NGX_TUNNEL_NO_REASON) {
                return NGX_TUNNEL_NO_REASON;
            }
        }

        reason = ngx_tunnel_relay_read(relay, from, to, allowed);

        if (reason != NGX_TUNNEL_NO_REASON) {
            return reason;
        }
    }
}


/* an end has no more to send, and the other one has it all */

static ngx_tunnel_reason_e
ngx_tunnel_relay_eof(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ngx_tunnel_end_t *to)
{
    ngx_int_t     rc;
    ngx_event_t  *rev;

    rev = from->connection->read;

    if (to->gone) {
        from->shut = 1;
    }

    if (!from->shut) {
        rc = to->ops->shutdown(to, to->shut);

        if (rc == NGX_ERROR) {
            return ngx_tunnel_relay_broken(relay, to);
        }

        if (rc == NGX_AGAIN) {
            ngx_tunnel_relay_stalled(relay, from);
            return NGX_TUNNEL_NO_REASON;
        }

        from->shut = 1;
        from->stalled = 0;

        /* a reset right behind the end came with its event */

        rev->ready = !to->shut;

        if (!relay->policy->half_close
            && relay->ending == NGX_TUNNEL_NO_REASON)
        {
            relay->ending = ngx_tunnel_relay_closed(relay, from);
        }
    }

    if (!rev->ready || from->gone) {
        return NGX_TUNNEL_NO_REASON;
    }

    /* whatever else there is behind the end, it is not read */

    rev->ready = 0;

    return from->ops->failed(from) ? ngx_tunnel_relay_broken(relay, from)
                                   : NGX_TUNNEL_NO_REASON;
}


/*
 * How many bytes may be read now.  None: the flow is delayed, or the tunnel
 * is ending, or there may be no more at all, which one that comes will tell.
 */

static off_t
ngx_tunnel_relay_allowed(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from)
{
    off_t  allowed, n;

    allowed = ngx_min(from->left, relay->left);

    if (relay->usage) {
        n = ngx_tunnel_quota_left(relay->usage);

        if (n <= 0) {
            relay->ending = NGX_TUNNEL_QUOTA;
            return 0;
        }

        allowed = ngx_min(allowed, n);
    }

    if (from->rate) {
        n = ngx_tunnel_rate_allowed(from->rate, ngx_current_msec);

        from->delayed = (n <= 0);

        if (from->delayed) {
            ngx_tunnel_relay_arm(relay, from->rate->next);
            return 0;
        }

        allowed = ngx_min(allowed, n);
    }

    return allowed;
}


/* reads once and sends what was read, as far as it goes */

static ngx_tunnel_reason_e
ngx_tunnel_relay_read(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ngx_tunnel_end_t *to, off_t allowed)
{
    size_t                size;
    ssize_t               n;
    ngx_tunnel_reason_e   reason;

#if (NGX_TUNNEL_HAVE_SPLICE)

    if (from->bulk && allowed && !to->gone) {
        n = ngx_tunnel_relay_splice(relay, from, allowed);

    } else {
        n = NGX_DECLINED;
    }

    if (n == NGX_DECLINED)

#endif
    {
        size = ngx_min(allowed, (off_t) relay->policy->buffer_size);

        if (from->whole) {
            size = relay->worker->size;
        }

        n = from->ops->recv(from, relay->worker->scratch, size ? size : 1);

        if (n > 0 && ngx_tunnel_relay_exceeds(relay, from, n)) {
            return NGX_TUNNEL_NO_REASON;
        }

        if (n > 0 && !to->gone) {
            from->pos = relay->worker->scratch;
            from->last = from->pos + n;
        }

        /* twice in a row is bulk */

        from->bulk = relay->splice
                     && (relay->policy->splice == NGX_TUNNEL_SPLICE_ON
                         || (from->full
                             && n == (ssize_t) relay->policy->buffer_size));

        from->full = (n == (ssize_t) relay->policy->buffer_size);
    }

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

    ngx_tunnel_relay_count(relay, from, n);

    if (to->gone) {
        return NGX_TUNNEL_NO_REASON;
    }

    reason = ngx_tunnel_relay_send(relay, from, to);

    if (reason == NGX_TUNNEL_NO_REASON
        && from->pos != from->last
        && ngx_tunnel_relay_keep(relay, from, 0) != NGX_OK)
    {
        reason = NGX_TUNNEL_ERROR;
    }

    if (reason != NGX_TUNNEL_NO_REASON) {
        ngx_tunnel_relay_release(relay, from);
    }

    return reason;
}


/* whether so many bytes are too many; then nothing of them is passed */

static ngx_uint_t
ngx_tunnel_relay_exceeds(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ssize_t n)
{
    off_t  left;

    if (n > from->left || n > relay->left) {
        relay->ending = NGX_TUNNEL_MAX_PAYLOAD;
        return 1;
    }

    if (!from->whole || relay->usage == NULL) {
        return 0;
    }

    left = ngx_tunnel_quota_left(relay->usage);

    if (n <= left) {
        return 0;
    }

    /* what is left is spent with it, or others would find it */

    if (left > 0) {
        ngx_tunnel_quota_spend(relay->usage, left);
    }

    relay->ending = NGX_TUNNEL_QUOTA;

    return 1;
}


#if (NGX_TUNNEL_HAVE_SPLICE)

/* returns as recv, or NGX_DECLINED if bytes are to be copied */

static ssize_t
ngx_tunnel_relay_splice(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    off_t allowed)
{
    size_t   size;
    ssize_t  n;

    from->pipe = ngx_tunnel_worker_get_pipe(relay->worker, relay->log);

    if (from->pipe == NULL) {
        return NGX_DECLINED;
    }

    /* a throttled flow is as smooth as with copies */

    size = from->rate ? relay->policy->buffer_size : NGX_TUNNEL_SPLICE_SIZE;

    n = ngx_tunnel_end_splice_recv(from, from->pipe,
                                   ngx_min(allowed, (off_t) size));

    if (n > 0) {
        from->piped = n;
        from->run += n;

        return n;
    }

    ngx_tunnel_relay_release(relay, from);

    if (n == NGX_DECLINED) {
        relay->splice = 0;
    }

    if (from->run < NGX_TUNNEL_SPLICE_RUN
        && relay->policy->splice == NGX_TUNNEL_SPLICE_AUTO)
    {
        from->bulk = 0;
        from->full = 0;
    }

    from->run = 0;

    return n;
}

#endif


static void
ngx_tunnel_relay_count(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    off_t n)
{
    from->received += n;
    relay->active = ngx_current_msec;

    if (from == &relay->target) {

        if (relay->first_byte == 0) {
            relay->first_byte = ngx_current_msec;
        }

    } else if (relay->stat) {
        ngx_tunnel_stat_received(relay->stat, n);
    }

    if (!relay->limited) {
        return;
    }

    from->left -= n;
    relay->left -= n;

    if (from->rate) {
        ngx_tunnel_rate_spend(from->rate, n);
    }

    if (relay->usage) {
        ngx_tunnel_quota_spend(relay->usage, n);
    }
}


static ngx_tunnel_reason_e
ngx_tunnel_relay_send(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    ngx_tunnel_end_t *to)
{
    ssize_t  n;

    while (ngx_tunnel_relay_waits(from)) {

        if (!to->connection->write->ready) {
            n = NGX_AGAIN;

#if (NGX_TUNNEL_HAVE_SPLICE)

        } else if (from->piped) {
            n = ngx_tunnel_end_splice_send(to, from->pipe, from->piped);
#endif

        } else {
            n = to->ops->send(to, from->pos, from->last - from->pos);
        }

        if (n == NGX_AGAIN) {
            ngx_tunnel_relay_stalled(relay, from);
            return NGX_TUNNEL_NO_REASON;
        }

        if (n == NGX_ERROR) {
            return ngx_tunnel_relay_broken(relay, to);
        }

        if (from->piped) {
            from->piped -= n;

            if (relay->stat) {
                ngx_tunnel_stat_spliced(relay->stat, n);
            }

        } else {
            from->pos += n;
        }

        to->sent += n;
        from->stalled = 0;

        if (relay->stat && to == &relay->client) {
            ngx_tunnel_stat_sent(relay->stat, n);
        }

        relay->active = ngx_current_msec;
    }

    ngx_tunnel_relay_release(relay, from);

    return NGX_TUNNEL_NO_REASON;
}


static void
ngx_tunnel_relay_stalled(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from)
{
    if (from->stalled) {
        return;
    }

    from->stalled = ngx_current_msec;

    if (relay->policy->send_timeout) {
        ngx_tunnel_relay_arm(relay,
                             ngx_current_msec + relay->policy->send_timeout);
    }
}


/*
 * Copies bytes out of a buffer that others will read into, to one that has
 * room for so many or more.
 */

static ngx_int_t
ngx_tunnel_relay_keep(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from,
    size_t size)
{
    size_t             len;
    ngx_tunnel_buf_t  *buf;

    len = from->last - from->pos;

    buf = ngx_tunnel_worker_get_buf(relay->worker, ngx_max(len, size),
                                    relay->log);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(buf + 1, from->pos, len);

    relay->worker->held += buf->size;

    from->buf = buf;
    from->pos = (u_char *) (buf + 1);
    from->last = from->pos + len;

    return NGX_OK;
}


/* nothing waits any more, sent or given up */

static void
ngx_tunnel_relay_release(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *from)
{
    from->pos = from->last;
    from->stalled = 0;

    if (from->buf) {
        relay->worker->held -= from->buf->size;
        ngx_tunnel_worker_free_buf(relay->worker, from->buf);
        from->buf = NULL;
    }

#if (NGX_TUNNEL_HAVE_SPLICE)

    if (from->pipe) {
        ngx_tunnel_worker_free_pipe(relay->worker, from->pipe,
                                    from->piped == 0);
        from->pipe = NULL;
        from->piped = 0;
    }

#endif
}


/*
 * An end failed: after its FIN it has merely gone, otherwise it was reset,
 * and the other end is to see that, too.
 */

static ngx_tunnel_reason_e
ngx_tunnel_relay_broken(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *e)
{
    ngx_tunnel_end_t     *other;
    ngx_tunnel_reason_e   reason;

    other = (e == &relay->client) ? &relay->target : &relay->client;

    if (relay->ending != NGX_TUNNEL_NO_REASON) {
        reason = relay->ending;

    } else if (e->eof) {
        reason = ngx_tunnel_relay_closed(relay, e);

    } else {
        reason = (e == &relay->client) ? NGX_TUNNEL_CLIENT_RESET
                                       : NGX_TUNNEL_TARGET_RESET;
    }

    if (e->eof || relay->ending != NGX_TUNNEL_NO_REASON) {

        /* a reset would take what the other end has not got yet */

        ngx_tunnel_relay_release(relay, other);

        if (ngx_tunnel_relay_linger(relay, ngx_tunnel_relay_waits(e)
                                           + other->ops->unsent(other)))
        {
            e->gone = 1;
            return NGX_TUNNEL_NO_REASON;
        }
    }

    other->ops->reset(other);

    return reason;
}


static ngx_tunnel_reason_e
ngx_tunnel_relay_closed(ngx_tunnel_relay_t *relay, ngx_tunnel_end_t *e)
{
    return (e == &relay->client) ? NGX_TUNNEL_CLIENT_CLOSED
                                 : NGX_TUNNEL_TARGET_CLOSED;
}


/* whether to wait until what is on its way, so many bytes, has arrived */

static ngx_uint_t
ngx_tunnel_relay_linger(ngx_tunnel_relay_t *relay, size_t unsent)
{
    if (unsent == 0) {
        return 0;
    }

    if (unsent != relay->unsent) {
        relay->unsent = unsent;
        relay->progress = ngx_current_msec;
    }

    if (ngx_current_msec - relay->progress >= NGX_TUNNEL_LINGER_TIMEOUT) {
        return 0;
    }

    ngx_tunnel_relay_arm(relay, ngx_current_msec + NGX_TUNNEL_LINGER_TICK);

    return 1;
}


static void
ngx_tunnel_relay_done(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e reason)
{
    ngx_tunnel_relay_abort(relay, reason);

    relay->handler(relay, reason);
}


void
ngx_tunnel_relay_end(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e reason)
{
    if (!relay->done) {
        ngx_tunnel_relay_done(relay, reason);
    }
}


void
ngx_tunnel_relay_abort(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e reason)
{
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

    if (ngx_tunnel_relay_waits(&relay->target)) {
        relay->client.ops->cut(&relay->client);
    }

    ngx_tunnel_relay_release(relay, &relay->client);
    ngx_tunnel_relay_release(relay, &relay->target);

    rev = relay->client.connection->read;

    if (rev->posted) {
        ngx_delete_posted_event(rev);
    }

    ngx_close_connection(relay->target.connection);
    relay->target.connection = NULL;

    relay->log->action = NULL;
}
