
/*
 * Session: from target, rules, policy and connector to the relay.
 */


#include "ngx_tunnel_session.h"
#include "ngx_tunnel_compat.h"


/*
 * The connector has a pool of its own, which is gone when there is a tunnel.
 * It starts with so many bytes.
 */

#define NGX_TUNNEL_CONNECT_POOL  1024


/* what the rules of a level are asked with */

typedef struct {
    ngx_tunnel_rules_t           *rules;
    ngx_tunnel_main_t            *main;
} ngx_tunnel_recheck_t;


typedef enum {
    ngx_tunnel_var_target = 0,
    ngx_tunnel_var_host,
    ngx_tunnel_var_port,
    ngx_tunnel_var_address,
    ngx_tunnel_var_sni,
    ngx_tunnel_var_id,
    ngx_tunnel_var_result,
    ngx_tunnel_var_reason,
    ngx_tunnel_var_bytes_sent,
    ngx_tunnel_var_bytes_received,
    ngx_tunnel_var_resolve_time,
    ngx_tunnel_var_connect_time,
    ngx_tunnel_var_first_byte_time,
    ngx_tunnel_var_time
} ngx_tunnel_var_e;


static ngx_uint_t ngx_tunnel_session_refused(void *data, ngx_str_t *target,
    ngx_str_t *address, ngx_uint_t named, ngx_uint_t trusted, ngx_log_t *log);
static ngx_uint_t ngx_tunnel_session_declined(ngx_tunnel_rules_t *rules,
    ngx_int_t rc);
static void ngx_tunnel_session_release(ngx_tunnel_session_t *s);
static ngx_tunnel_result_e ngx_tunnel_session_check(ngx_tunnel_session_t *s);
static ngx_tunnel_result_e ngx_tunnel_session_policy(ngx_tunnel_session_t *s);
static ngx_int_t ngx_tunnel_session_connect(ngx_tunnel_session_t *s);
static void ngx_tunnel_session_connected(ngx_tunnel_connect_t *cn,
    ngx_tunnel_result_e result);
static void ngx_tunnel_session_measure(ngx_tunnel_session_t *s,
    ngx_tunnel_connect_t *cn, ngx_tunnel_result_e result);
static ngx_int_t ngx_tunnel_session_register(ngx_tunnel_session_t *s);
static size_t ngx_tunnel_session_memory(ngx_pool_t *pool);
static void ngx_tunnel_session_kill(void *data, ngx_tunnel_reason_e reason);
static void ngx_tunnel_session_tick(ngx_tunnel_relay_t *relay);
static void ngx_tunnel_session_ended(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e reason);
static ngx_int_t ngx_tunnel_session_get(ngx_tunnel_session_t *s,
    ngx_uint_t id, ngx_str_t *value);
static ngx_int_t ngx_tunnel_session_value(const ngx_str_t *from,
    ngx_str_t *value);
static ngx_int_t ngx_tunnel_session_number(ngx_pool_t *pool, off_t n,
    ngx_str_t *value);
static ngx_int_t ngx_tunnel_session_hex(ngx_pool_t *pool, uint64_t n,
    ngx_str_t *value);
static ngx_int_t ngx_tunnel_session_msec(ngx_pool_t *pool, ngx_msec_t ms,
    ngx_str_t *value);


ngx_conf_enum_t  ngx_tunnel_prefer[] = {
    { ngx_string("any"), NGX_TUNNEL_PREFER_ANY },
    { ngx_string("ipv4"), NGX_TUNNEL_PREFER_IPV4 },
    { ngx_string("ipv6"), NGX_TUNNEL_PREFER_IPV6 },
    { ngx_null_string, 0 }
};


ngx_conf_bitmask_t  ngx_tunnel_next_upstream[] = {
    { ngx_string("error"), NGX_TUNNEL_NEXT_ERROR },
    { ngx_string("timeout"), NGX_TUNNEL_NEXT_TIMEOUT },
    { ngx_string("off"), NGX_TUNNEL_NEXT_OFF },
    { ngx_null_string, 0 }
};


const ngx_tunnel_variable_t  ngx_tunnel_variables[] = {
    { ngx_string("tunnel_target"), ngx_tunnel_var_target },
    { ngx_string("tunnel_host"), ngx_tunnel_var_host },
    { ngx_string("tunnel_port"), ngx_tunnel_var_port },
    { ngx_string("tunnel_address"), ngx_tunnel_var_address },
    { ngx_string("tunnel_sni"), ngx_tunnel_var_sni },
    { ngx_string("tunnel_id"), ngx_tunnel_var_id },
    { ngx_string("tunnel_result"), ngx_tunnel_var_result },
    { ngx_string("tunnel_reason"), ngx_tunnel_var_reason },
    { ngx_string("tunnel_bytes_sent"), ngx_tunnel_var_bytes_sent },
    { ngx_string("tunnel_bytes_received"), ngx_tunnel_var_bytes_received },
    { ngx_string("tunnel_resolve_time"), ngx_tunnel_var_resolve_time },
    { ngx_string("tunnel_connect_time"), ngx_tunnel_var_connect_time },
    { ngx_string("tunnel_first_byte_time"), ngx_tunnel_var_first_byte_time },
    { ngx_string("tunnel_time"), ngx_tunnel_var_time },
    { ngx_null_string, 0 }
};


void
ngx_tunnel_conf_create(ngx_tunnel_conf_t *conf)
{
    ngx_tunnel_rules_create(&conf->rules);
    ngx_tunnel_connect_conf_create(&conf->connect);
    ngx_tunnel_policy_create(&conf->policy);
    ngx_tunnel_stat_conf_create(&conf->stat);
}


char *
ngx_tunnel_conf_merge(ngx_conf_t *cf, ngx_tunnel_conf_t *conf,
    ngx_tunnel_conf_t *prev)
{
    ngx_tunnel_rules_merge(&conf->rules, &prev->rules);
    ngx_tunnel_connect_conf_merge(&conf->connect, &prev->connect);

    if (ngx_tunnel_stat_conf_merge(cf, &conf->stat, &prev->stat)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_tunnel_policy_merge(cf, &conf->policy, &prev->policy);
}


ngx_int_t
ngx_tunnel_main_create(ngx_conf_t *cf, ngx_tunnel_main_t *main)
{
    if (ngx_array_init(&main->zones, cf->pool, 1, sizeof(ngx_tunnel_zone_t *))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_tunnel_worker_init(&main->worker, cf->pool);
}


ngx_int_t
ngx_tunnel_main_add(ngx_conf_t *cf, ngx_tunnel_main_t *main,
    ngx_tunnel_conf_t *conf, ngx_resolver_t *resolver)
{
    ngx_tunnel_recheck_t  *recheck;

    main->worker.size = ngx_max(main->worker.size,
                                conf->policy.policy.buffer_size);

    recheck = ngx_palloc(cf->pool, sizeof(ngx_tunnel_recheck_t));
    if (recheck == NULL) {
        return NGX_ERROR;
    }

    recheck->rules = &conf->rules;
    recheck->main = main;

    if (ngx_tunnel_zone_worker(cf, &conf->stat, &main->worker) != NGX_OK
        || ngx_tunnel_zone_check(cf, &conf->stat, ngx_tunnel_session_refused,
                                 recheck)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (resolver == NULL || ngx_tunnel_resolver_configured(resolver)
        || main->system)
    {
        return NGX_OK;
    }

    main->system = ngx_tunnel_system_create(cf);

    return main->system ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_tunnel_main_count(ngx_conf_t *cf, ngx_tunnel_main_t *main,
    ngx_tunnel_conf_t *conf, ngx_tunnel_front_e front, ngx_str_t *label)
{
    return ngx_tunnel_zone_add(cf, &conf->stat, front, label, &main->zones);
}


/* of a tunnel of a configuration before */

static ngx_uint_t
ngx_tunnel_session_refused(void *data, ngx_str_t *target, ngx_str_t *address,
    ngx_uint_t named, ngx_uint_t trusted, ngx_log_t *log)
{
    ngx_tunnel_recheck_t *recheck = data;

    u_char                *port;
    ngx_int_t              rc;
    ngx_str_t              what;
    ngx_addr_t             addr;
    ngx_pool_t            *pool;
    struct sockaddr_un     sun;
    ngx_tunnel_rules_t    *rules;
    ngx_tunnel_target_t    t;

    rules = recheck->rules;

    if (named) {

        /* that of BIND may have port 0 */

        for (port = target->data + target->len; port[-1] != ':'; port--) {
            /* void */
        }

        if (ngx_tunnel_target_set(&t, target->data, port - 1 - target->data,
                                  (in_port_t) ngx_atoi(port, target->data
                                                       + target->len - port)))
        {
            return 1;
        }

        rc = ngx_tunnel_rules_check_target(rules, &t, trusted, log, &what);

        if (ngx_tunnel_session_declined(rules, rc)) {
            return 1;
        }
    }

    pool = ngx_create_pool(NGX_MIN_POOL_SIZE, log);
    if (pool == NULL) {
        return 0;
    }

    if (address->len > 5 && ngx_strncmp(address->data, "unix:", 5) == 0) {

        /* rules do not look at the path */

        ngx_memzero(&sun, sizeof(struct sockaddr_un));
        sun.sun_family = AF_UNIX;

        addr.sockaddr = (struct sockaddr *) &sun;
        rc = NGX_OK;

    } else {
        rc = ngx_parse_addr_port(pool, &addr, address->data, address->len);
    }

    if (rc == NGX_OK) {
        rc = ngx_tunnel_rules_check_address(rules, addr.sockaddr, trusted,
                                            recheck->main->own, &what);
    }

    ngx_destroy_pool(pool);

    return ngx_tunnel_session_declined(rules, rc);
}


static ngx_uint_t
ngx_tunnel_session_declined(ngx_tunnel_rules_t *rules, ngx_int_t rc)
{
    return rc != NGX_OK && !(rc == NGX_DECLINED && rules->dry_run);
}


void
ngx_tunnel_main_start(ngx_cycle_t *cycle, ngx_tunnel_main_t *main)
{
    ngx_uint_t           i;
    ngx_tunnel_zone_t  **zones;

    zones = main->zones.elts;

    for (i = 0; i < main->zones.nelts; i++) {
        ngx_tunnel_zone_start(zones[i], cycle);
    }
}


void
ngx_tunnel_main_exit(ngx_tunnel_main_t *main)
{
    ngx_uint_t           i;
    ngx_tunnel_zone_t  **zones;

    zones = main->zones.elts;

    for (i = 0; i < main->zones.nelts; i++) {
        ngx_tunnel_zone_exit(zones[i]);
    }
}


ngx_int_t
ngx_tunnel_main_init(ngx_cycle_t *cycle, ngx_tunnel_main_t *main)
{
    main->own = ngx_tunnel_rules_own_addresses(cycle, cycle->pool);

    return main->own ? NGX_OK : NGX_ERROR;
}


void
ngx_tunnel_session_reset(ngx_tunnel_session_t *s)
{
    ngx_tunnel_session_release(s);

    s->balancer = NULL;
    s->result = NGX_TUNNEL_NO_RESULT;
    s->resolve_time = (ngx_msec_t) -1;
    s->connect_time = (ngx_msec_t) -1;

    ngx_str_null(&s->what);
    ngx_str_null(&s->address);
    s->err = 0;
}


/* ends what is under way, and gives back what was taken */

static void
ngx_tunnel_session_release(ngx_tunnel_session_t *s)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    if (s->connect) {
        pool = s->connect->pool;
        s->connect = NULL;

        ngx_destroy_pool(pool);
    }

    if (s->connection) {
        c = s->connection;
        s->connection = NULL;

        ngx_close_connection(c);
    }

    if (s->udp) {
        ngx_tunnel_udp_close(s->udp);
        s->udp = NULL;
    }

    if (s->taken) {
        s->taken = 0;
        s->balancer->free(s->balancer, s->balancer->data, 0);
    }

    ngx_tunnel_stat_leave(&s->stat);
}


ngx_int_t
ngx_tunnel_session_open(ngx_tunnel_session_t *s)
{
    ngx_int_t  rc;

    rc = ngx_tunnel_session_admit(s);

    if (rc == NGX_TUNNEL_OK) {
        rc = ngx_tunnel_session_connect(s);
    }

    if (rc != NGX_AGAIN) {
        rc = ngx_tunnel_session_settle(s, rc);
    }

    return rc;
}


ngx_tunnel_result_e
ngx_tunnel_session_admit(ngx_tunnel_session_t *s)
{
    ngx_tunnel_result_e  result;

    result = ngx_tunnel_session_check(s);

    if (result != NGX_TUNNEL_OK) {
        return result;
    }

    if (ngx_tunnel_stat_enter(&s->stat, &s->conf->stat) != NGX_OK) {
        ngx_str_set(&s->what, "\"tunnel_max_connections\" are open");
        return NGX_TUNNEL_LIMIT;
    }

    return ngx_tunnel_session_policy(s);
}


static ngx_tunnel_result_e
ngx_tunnel_session_check(ngx_tunnel_session_t *s)
{
    ngx_str_t  what;

    if (s->target == NULL) {

        /* a socket or a group of servers of the configuration */

        return NGX_TUNNEL_OK;
    }

    if (ngx_tunnel_rules_allow_target(&s->conf->rules, s->target, s->trusted,
                                      s->log, &what)
        != NGX_OK)
    {
        s->what = what;
        return NGX_TUNNEL_DENIED_NAME;
    }

    return NGX_TUNNEL_OK;
}


static ngx_tunnel_result_e
ngx_tunnel_session_policy(ngx_tunnel_session_t *s)
{
    ngx_int_t  rc;

    s->policy = ngx_tunnel_policy_eval(&s->conf->policy, s->layer, s->data,
                                       s->pool, s->log);
    if (s->policy == NULL) {
        return NGX_TUNNEL_INTERNAL;
    }

    rc = ngx_tunnel_quota_use(s->conf->policy.quotas, s->layer, s->data,
                              s->pool, s->log, &s->usage, &s->what);

    switch (rc) {

    case NGX_OK:
        return NGX_TUNNEL_OK;

    case NGX_BUSY:
        return NGX_TUNNEL_CLIENT_LIMIT;

    case NGX_DECLINED:
        return NGX_TUNNEL_MACHINE_LIMIT;

    default: /* NGX_ERROR */
        return NGX_TUNNEL_INTERNAL;
    }
}


static ngx_int_t
ngx_tunnel_session_connect(ngx_tunnel_session_t *s)
{
    ngx_pool_t            *pool;
    ngx_tunnel_connect_t  *cn;

    pool = ngx_create_pool(NGX_TUNNEL_CONNECT_POOL, s->log);
    if (pool == NULL) {
        return NGX_TUNNEL_INTERNAL;
    }

    cn = ngx_pcalloc(pool, sizeof(ngx_tunnel_connect_t));
    if (cn == NULL) {
        ngx_destroy_pool(pool);
        return NGX_TUNNEL_INTERNAL;
    }

    s->connect = cn;

    cn->pool = pool;
    cn->log = s->log;
    cn->conf = &s->conf->connect;
    cn->rules = &s->conf->rules;
    cn->own = s->main->own;
    cn->target = s->target;
    cn->balancer = s->balancer;
    cn->trusted = s->trusted;
    cn->handler = ngx_tunnel_session_connected;
    cn->data = s;
    cn->resolve_time = (ngx_msec_t) -1;
    cn->connect_time = (ngx_msec_t) -1;

    cn->resolver = ngx_tunnel_session_resolver(s, &cn->system);

    if (ngx_tunnel_session_bind(s, pool, &cn->local) != NGX_OK) {
        ngx_str_set(&cn->what, "invalid \"target_bind\" address");
        return NGX_TUNNEL_INTERNAL;
    }

    cn->transparent = s->conf->connect.bind
                      && s->conf->connect.bind->transparent;

    s->log->action = "connecting to target";

    return ngx_tunnel_connect(cn);
}


ngx_connection_t *
ngx_tunnel_session_socket(ngx_tunnel_session_t *s, ngx_socket_t fd, int type)
{
    ngx_connection_t  *c;

    c = ngx_tunnel_socket_connection(fd, type, s->log);

    if (c == NULL) {
        s->err = ngx_socket_errno;

        if (s->err == 0) {
            ngx_str_set(&s->what, "worker_connections are not enough");
        }
    }

    return c;
}


ngx_resolver_t *
ngx_tunnel_session_resolver(ngx_tunnel_session_t *s,
    ngx_tunnel_system_t **system)
{
    *system = NULL;

    if (ngx_tunnel_resolver_configured(s->resolver)) {
        return s->resolver;
    }

    *system = s->main->system;

    return *system ? (*system)->resolver : NULL;
}


ngx_int_t
ngx_tunnel_session_bind(ngx_tunnel_session_t *s, ngx_pool_t *pool,
    ngx_addr_t **addr)
{
    ngx_tunnel_bind_t  *bind;

    bind = s->conf->connect.bind;

    if (bind == NULL) {
        *addr = NULL;
        return NGX_OK;
    }

    return ngx_tunnel_bind_eval(bind, s->layer, s->data, pool, s->log, addr);
}


static void
ngx_tunnel_session_connected(ngx_tunnel_connect_t *cn,
    ngx_tunnel_result_e result)
{
    ngx_tunnel_session_t  *s;

    s = cn->data;

    (void) ngx_tunnel_session_settle(s, result);

    s->connected(s);
}


/* takes over what the connector has come to, and lets it go */

ngx_tunnel_result_e
ngx_tunnel_session_settle(ngx_tunnel_session_t *s, ngx_tunnel_result_e result)
{
    ngx_tunnel_connect_t  *cn;

    cn = s->connect;

    if (cn) {
        s->resolve_time = cn->resolve_time;
        s->connect_time = cn->connect_time;

        s->connection = cn->connection;
        s->err = cn->err;

        s->taken = cn->taken;
        cn->taken = 0;

        ngx_tunnel_session_measure(s, cn, result);

        if (cn->address.len) {
            s->address.len = cn->address.len;
            s->address.data = ngx_pstrdup(s->pool, &cn->address);

            if (s->address.data == NULL) {
                ngx_str_null(&s->address);
                result = NGX_TUNNEL_INTERNAL;
            }
        }
    }

    if (result == NGX_TUNNEL_OK) {
        s->result = result;
        ngx_tunnel_stat_result(&s->stat, &s->conf->stat, result);

    } else {
        ngx_tunnel_session_fail(s, result);
    }

    s->connect = NULL;

    if (cn) {
        ngx_destroy_pool(cn->pool);
    }

    return result;
}


static void
ngx_tunnel_session_measure(ngx_tunnel_session_t *s, ngx_tunnel_connect_t *cn,
    ngx_tunnel_result_e result)
{
    ngx_tunnel_dns_e  outcome;

    if (cn->resolve_time != (ngx_msec_t) -1) {

        switch (result) {

        case NGX_TUNNEL_RESOLVE_FAILED:
            outcome = NGX_TUNNEL_DNS_FAILED;
            break;

        case NGX_TUNNEL_RESOLVE_TIMEOUT:
            outcome = NGX_TUNNEL_DNS_TIMEOUT;
            break;

        default:
            outcome = cn->cached ? NGX_TUNNEL_DNS_CACHED
                                 : NGX_TUNNEL_DNS_ANSWERED;
        }

        ngx_tunnel_stat_dns(&s->stat, outcome);
        ngx_tunnel_stat_observe(&s->stat, NGX_TUNNEL_RESOLVE_TIMES,
                                cn->resolve_time);
    }

    if (cn->connect_time != (ngx_msec_t) -1) {
        ngx_tunnel_stat_observe(&s->stat, NGX_TUNNEL_CONNECT_TIMES,
                                cn->connect_time);
    }
}


void
ngx_tunnel_session_fail(ngx_tunnel_session_t *s, ngx_tunnel_result_e result)
{
    ngx_str_t                  *target, *what, failed;
    ngx_tunnel_connect_t       *cn;
    const ngx_tunnel_result_t  *res;

    s->result = result;
    res = ngx_tunnel_result(result);

    if (s->conf) {
        ngx_tunnel_stat_result(&s->stat, &s->conf->stat, result);

        /* the client may stay for long to hear it */

        ngx_tunnel_stat_leave(&s->stat);
    }

    target = s->target ? &s->target->text : &s->asked;
    what = &s->what;
    failed = s->address;

    cn = s->connect;

    if (cn) {
        failed = cn->failed;
        what = &cn->what;
    }

    if (target->len == 0) {
        ngx_log_error(res->level, s->log, s->err,
                      "tunnel failed: %V%s%V, id: %016xL",
                      &res->token, what->len ? ", " : "", what, s->id);
        return;
    }

    ngx_log_error(res->level, s->log, s->err,
                  "tunnel to \"%V\" failed: %V%s%V%s%V, id: %016xL",
                  target, &res->token, failed.len ? ", address " : "", &failed,
                  what->len ? ", " : "", what, s->id);
}


ngx_int_t
ngx_tunnel_session_local(ngx_tunnel_session_t *s, ngx_sockaddr_t *sa)
{
    socklen_t          socklen;
    ngx_connection_t  *c;

    c = s->udp ? ngx_tunnel_udp_connection(s->udp) : s->connection;
    socklen = sizeof(ngx_sockaddr_t);

    return getsockname(c->fd, &sa->sockaddr, &socklen) ? NGX_ERROR : NGX_OK;
}


ngx_int_t
ngx_tunnel_session_remote(ngx_tunnel_session_t *s, ngx_sockaddr_t *sa)
{
    socklen_t  socklen;

    socklen = sizeof(ngx_sockaddr_t);

    return getpeername(s->connection->fd, &sa->sockaddr, &socklen) ? NGX_ERROR
                                                                   : NGX_OK;
}


ngx_int_t
ngx_tunnel_session_prepare(ngx_tunnel_session_t *s, ngx_connection_t *c,
    ngx_buf_t *early)
{
    ngx_tunnel_relay_t  *relay;

    relay = ngx_pcalloc(s->pool, sizeof(ngx_tunnel_relay_t));
    if (relay == NULL) {
        return NGX_ERROR;
    }

    relay->pool = s->pool;
    relay->log = s->log;
    relay->policy = s->policy;
    relay->usage = s->usage;
    relay->worker = &s->main->worker;
    relay->client.connection = c;
    relay->client.ops = &ngx_tunnel_end_socket;
    relay->target.connection = s->connection;
    relay->target.ops = &ngx_tunnel_end_socket;
    relay->handler = ngx_tunnel_session_ended;
    relay->data = s;
    relay->tick = ngx_tunnel_session_tick;
    relay->interval = s->conf->stat.log_interval;

    if (s->udp) {
        ngx_tunnel_udp_relay(s->udp, relay);

    } else {

        if (ngx_tunnel_session_begin(s, relay) != NGX_OK) {
            return NGX_ERROR;
        }

        if (early) {
            relay->client.pos = early->pos;
            relay->client.last = early->last;
            early->pos = early->last;
        }
    }

    if (s->stat.counters) {

        if (ngx_tunnel_session_register(s) != NGX_OK) {
            return NGX_ERROR;
        }

        relay->stat = &s->stat;
    }

    s->relay = relay;
    s->connection = NULL;

    return NGX_OK;
}


/* the tunnel is one of the zone's from now on */

static ngx_int_t
ngx_tunnel_session_register(ngx_tunnel_session_t *s)
{
    ngx_tunnel_opened_t      opened;
    ngx_tunnel_stat_conf_t  *conf;

    conf = &s->conf->stat;

    ngx_str_null(&opened.key);
    ngx_str_null(&opened.client);

    if (conf->key
        && s->layer->eval(s->data, conf->key, &opened.key) != NGX_OK)
    {
        return NGX_ERROR;
    }

    opened.key.len = ngx_min(opened.key.len, NGX_TUNNEL_KEY_LEN);

    s->client(s, &opened.client);

    opened.id = s->id;
    opened.target = s->target ? &s->target->text : &s->asked;
    opened.address = &s->address;
    opened.policy = s->policy;
    opened.memory = ngx_tunnel_session_memory(s->pool);
    opened.named = (s->target != NULL);
    opened.exempt = (s->udp != NULL);
    opened.trusted = s->trusted;

    s->stat.handler = ngx_tunnel_session_kill;
    s->stat.data = s;

    ngx_tunnel_stat_open(&s->stat, conf, &opened, s->log);

    return NGX_OK;
}


/*
 * Of the blocks of a pool, which are of one size; others are parts of them
 * that were given back.  What is larger is gone by now.
 */

static size_t
ngx_tunnel_session_memory(ngx_pool_t *pool)
{
    size_t       size, block;
    ngx_pool_t  *p;

    size = 0;
    block = pool->d.end - (u_char *) pool;

    for (p = pool; p; p = p->d.next) {

        if ((size_t) (p->d.end - (u_char *) p) == block) {
            size += block;
        }
    }

    return size;
}


static void
ngx_tunnel_session_kill(void *data, ngx_tunnel_reason_e reason)
{
    ngx_tunnel_session_t *s = data;

    ngx_tunnel_relay_end(s->relay, reason);
}


static void
ngx_tunnel_session_tick(ngx_tunnel_relay_t *relay)
{
    ngx_tunnel_session_t  *s;

    s = relay->data;

    s->log_line(s);
}


static void
ngx_tunnel_session_ended(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e reason)
{
    ngx_str_t             *asked;
    ngx_tunnel_session_t  *s;

    s = relay->data;
    asked = s->target ? &s->target->text : &s->asked;

    if (s->requested) {
        asked = &s->requested->text;
    }

    if (reason == NGX_TUNNEL_NOT_TLS) {
        ngx_log_error(NGX_LOG_ERR, s->log, 0,
                      "tunnel to \"%V\" refused: the client sent no "
                      "ClientHello", asked);

    } else if (reason == NGX_TUNNEL_SNI_MISMATCH && s->sni.len) {
        ngx_log_error(NGX_LOG_ERR, s->log, 0,
                      "tunnel to \"%V\" refused: the client named \"%V\" in "
                      "its ClientHello", asked, &s->sni);

    } else if (reason == NGX_TUNNEL_SNI_MISMATCH) {
        ngx_log_error(NGX_LOG_ERR, s->log, 0,
                      "tunnel to \"%V\" refused: the client named no valid "
                      "server in its ClientHello", asked);
    }

    s->ended(s);
}


void
ngx_tunnel_session_close(ngx_tunnel_session_t *s)
{
    ngx_msec_t           time;
    ngx_tunnel_relay_t  *relay;

    if (s->closed) {
        return;
    }

    s->closed = 1;

    relay = s->relay;

    if (relay) {
        ngx_tunnel_relay_abort(relay, NGX_TUNNEL_SHUTDOWN);

        time = relay->end - relay->start;

        ngx_log_error(NGX_LOG_INFO, s->log, 0,
                      "tunnel to \"%V\" at %V ended: %V, "
                      "received: %O, sent: %O, time: %M.%03M, id: %016xL",
                      s->target ? &s->target->text : &s->asked, &s->address,
                      ngx_tunnel_reason(relay->reason),
                      relay->client.received, relay->client.sent,
                      time / 1000, time % 1000, s->id);

        if (relay->first_byte) {
            ngx_tunnel_stat_observe(&s->stat, NGX_TUNNEL_FIRST_BYTE_TIMES,
                                    relay->first_byte - relay->start);
        }

        if (s->stat.active) {
            ngx_tunnel_stat_observe(&s->stat, NGX_TUNNEL_SIZES,
                                    relay->client.received
                                    + relay->client.sent);
            ngx_tunnel_stat_end(&s->stat, relay->reason, time);
        }
    }

    ngx_tunnel_session_release(s);
}


ngx_int_t
ngx_tunnel_session_variable(ngx_tunnel_session_t *s, ngx_uint_t id,
    ngx_variable_value_t *v)
{
    ngx_int_t  rc;
    ngx_str_t  value;

    rc = s ? ngx_tunnel_session_get(s, id, &value) : NGX_DECLINED;

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED) {
        ngx_str_null(&value);
    }

    ngx_tunnel_variable_set(v, &value);

    return NGX_OK;
}


void
ngx_tunnel_variable_set(ngx_variable_value_t *v, ngx_str_t *value)
{
    if (value->len == 0) {
        v->not_found = 1;
        return;
    }

    v->len = value->len;
    v->data = value->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
}


/* NGX_OK, NGX_DECLINED if there is no value, or NGX_ERROR */

static ngx_int_t
ngx_tunnel_session_get(ngx_tunnel_session_t *s, ngx_uint_t id,
    ngx_str_t *value)
{
    ngx_msec_t            end;
    ngx_pool_t           *pool;
    ngx_tunnel_relay_t   *relay;
    ngx_tunnel_target_t  *target;

    pool = s->pool;
    target = s->target;
    relay = s->relay;

    if (id <= ngx_tunnel_var_port && target == NULL) {
        return NGX_DECLINED;
    }

    switch (id) {

    case ngx_tunnel_var_target:
        return ngx_tunnel_session_value(&target->text, value);

    case ngx_tunnel_var_host:
        return ngx_tunnel_session_value(&target->host, value);

    case ngx_tunnel_var_port:
        return ngx_tunnel_session_number(pool, target->port, value);

    case ngx_tunnel_var_result:
        return ngx_tunnel_session_value(&ngx_tunnel_result(s->result)->token,
                                        value);

    case ngx_tunnel_var_address:
        return ngx_tunnel_session_value(&s->address, value);

    case ngx_tunnel_var_sni:
        return ngx_tunnel_session_value(&s->sni, value);

    case ngx_tunnel_var_id:
        return ngx_tunnel_session_hex(pool, s->id, value);

    case ngx_tunnel_var_resolve_time:
        return ngx_tunnel_session_msec(pool, s->resolve_time, value);

    case ngx_tunnel_var_connect_time:
        return ngx_tunnel_session_msec(pool, s->connect_time, value);
    }

    if (relay == NULL) {
        return NGX_DECLINED;
    }

    switch (id) {

    case ngx_tunnel_var_reason:
        return ngx_tunnel_session_value(ngx_tunnel_reason(relay->reason),
                                        value);

    case ngx_tunnel_var_bytes_sent:
        return ngx_tunnel_session_number(pool, relay->client.sent, value);

    case ngx_tunnel_var_bytes_received:
        return ngx_tunnel_session_number(pool, relay->client.received, value);

    case ngx_tunnel_var_first_byte_time:
        return relay->first_byte
               ? ngx_tunnel_session_msec(pool,
                                         relay->first_byte - relay->start,
                                         value)
               : NGX_DECLINED;

    default: /* ngx_tunnel_var_time */
        end = relay->done ? relay->end : ngx_current_msec;
        return ngx_tunnel_session_msec(pool, end - relay->start, value);
    }
}


static ngx_int_t
ngx_tunnel_session_value(const ngx_str_t *from, ngx_str_t *value)
{
    *value = *from;

    return value->len ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_tunnel_session_number(ngx_pool_t *pool, off_t n, ngx_str_t *value)
{
    value->data = ngx_pnalloc(pool, NGX_OFF_T_LEN);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    value->len = ngx_sprintf(value->data, "%O", n) - value->data;

    return NGX_OK;
}


static ngx_int_t
ngx_tunnel_session_hex(ngx_pool_t *pool, uint64_t n, ngx_str_t *value)
{
    value->data = ngx_pnalloc(pool, 16);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    value->len = ngx_sprintf(value->data, "%016xL", n) - value->data;

    return NGX_OK;
}


/* seconds with milliseconds; -1 was not measured */

static ngx_int_t
ngx_tunnel_session_msec(ngx_pool_t *pool, ngx_msec_t ms, ngx_str_t *value)
{
    if (ms == (ngx_msec_t) -1) {
        return NGX_DECLINED;
    }

    value->data = ngx_pnalloc(pool, NGX_TIME_T_LEN + 4);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    value->len = ngx_sprintf(value->data, "%T.%03M", (time_t) ms / 1000,
                             ms % 1000)
                 - value->data;

    return NGX_OK;
}
