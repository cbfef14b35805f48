
/*
 * Session: one tunnel from the request for it to its end, as all front ends
 * have it.
 */


#ifndef _NGX_TUNNEL_SESSION_H_INCLUDED_
#define _NGX_TUNNEL_SESSION_H_INCLUDED_


#include "ngx_tunnel_connect.h"
#include "ngx_tunnel_relay.h"
#include "ngx_tunnel_zone.h"


#pragma GCC visibility push(hidden)


/* what is configured alike for all front ends: target_* and relay_* */

typedef struct {
    ngx_tunnel_rules_t            rules;
    ngx_tunnel_connect_conf_t     connect;
    ngx_tunnel_policy_conf_t      policy;
    ngx_tunnel_stat_conf_t        stat;
} ngx_tunnel_conf_t;


void ngx_tunnel_conf_create(ngx_tunnel_conf_t *conf);

/* returns NULL, or an error for the configuration to report */

char *ngx_tunnel_conf_merge(ngx_conf_t *cf, ngx_tunnel_conf_t *conf,
    ngx_tunnel_conf_t *prev);


/* what the sessions of one layer and configuration share */

typedef struct {
    ngx_tunnel_system_t          *system;        /* if a front end needs it */
    ngx_array_t                  *own;           /* own listening addresses */
    ngx_array_t                   zones;         /* of ngx_tunnel_zone_t * */
    ngx_tunnel_worker_t           worker;
} ngx_tunnel_main_t;


/*
 * For the configuration's creation, for each merged level that has a front
 * end (resolver is that of the level, or NULL if no target is a name), and
 * for the start of a cycle; each returns NGX_OK or NGX_ERROR.  Another level
 * may be one whose failures are counted: label is that by default.
 */

ngx_int_t ngx_tunnel_main_create(ngx_conf_t *cf, ngx_tunnel_main_t *main);
ngx_int_t ngx_tunnel_main_add(ngx_conf_t *cf, ngx_tunnel_main_t *main,
    ngx_tunnel_conf_t *conf, ngx_resolver_t *resolver);
ngx_int_t ngx_tunnel_main_count(ngx_conf_t *cf, ngx_tunnel_main_t *main,
    ngx_tunnel_conf_t *conf, ngx_tunnel_front_e front, ngx_str_t *label);
ngx_int_t ngx_tunnel_main_init(ngx_cycle_t *cycle, ngx_tunnel_main_t *main);

/* for a worker's start and exit */

void ngx_tunnel_main_start(ngx_cycle_t *cycle, ngx_tunnel_main_t *main);
void ngx_tunnel_main_exit(ngx_tunnel_main_t *main);


/*
 * The directives: type is that of a configuration which has an
 * ngx_tunnel_conf_t as its member "tunnel"; levels are the contexts, main
 * that of relay_quota_zone; layer is a pointer to the front end's.
 */

#define NGX_TUNNEL_COMMANDS(main, levels, conf, type, layer)                  \
                                                                              \
    { ngx_string("target_allow"), levels|NGX_CONF_1MORE,                      \
      ngx_tunnel_rules_pattern_slot, conf,                                    \
      offsetof(type, tunnel.rules.allow), NULL },                             \
                                                                              \
    { ngx_string("target_deny"), levels|NGX_CONF_1MORE,                       \
      ngx_tunnel_rules_pattern_slot, conf,                                    \
      offsetof(type, tunnel.rules.deny), NULL },                              \
                                                                              \
    { ngx_string("target_allow_address"), levels|NGX_CONF_1MORE,              \
      ngx_tunnel_rules_address_slot, conf,                                    \
      offsetof(type, tunnel.rules.allow_address), NULL },                     \
                                                                              \
    { ngx_string("target_deny_address"), levels|NGX_CONF_1MORE,               \
      ngx_tunnel_rules_address_slot, conf,                                    \
      offsetof(type, tunnel.rules.deny_address), NULL },                      \
                                                                              \
    { ngx_string("target_dry_run"), levels|NGX_CONF_FLAG,                     \
      ngx_conf_set_flag_slot, conf,                                           \
      offsetof(type, tunnel.rules.dry_run), NULL },                           \
                                                                              \
    { ngx_string("target_connect_timeout"), levels|NGX_CONF_TAKE1,            \
      ngx_tunnel_conf_msec_slot, conf,                                        \
      offsetof(type, tunnel.connect.connect_timeout), NULL },                 \
                                                                              \
    { ngx_string("target_resolve_timeout"), levels|NGX_CONF_TAKE1,            \
      ngx_tunnel_conf_msec_slot, conf,                                        \
      offsetof(type, tunnel.connect.resolve_timeout), NULL },                 \
                                                                              \
    { ngx_string("target_prefer"), levels|NGX_CONF_TAKE1,                     \
      ngx_tunnel_conf_enum_slot, conf,                                        \
      offsetof(type, tunnel.connect.prefer), ngx_tunnel_prefer },             \
                                                                              \
    { ngx_string("target_bind"), levels|NGX_CONF_TAKE12,                      \
      ngx_tunnel_bind_slot, conf,                                             \
      offsetof(type, tunnel.connect.bind), layer },                           \
                                                                              \
    { ngx_string("target_next_upstream"), levels|NGX_CONF_1MORE,              \
      ngx_tunnel_conf_bitmask_slot, conf,                                     \
      offsetof(type, tunnel.connect.next_upstream),                           \
      ngx_tunnel_next_upstream },                                             \
                                                                              \
    { ngx_string("target_next_upstream_tries"), levels|NGX_CONF_TAKE1,        \
      ngx_tunnel_conf_num_slot, conf,                                         \
      offsetof(type, tunnel.connect.next_tries), NULL },                      \
                                                                              \
    { ngx_string("target_next_upstream_timeout"), levels|NGX_CONF_TAKE1,      \
      ngx_tunnel_conf_msec_slot, conf,                                        \
      offsetof(type, tunnel.connect.next_timeout), NULL },                    \
                                                                              \
    { ngx_string("relay_idle_timeout"), levels|NGX_CONF_TAKE1,                \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("relay_send_timeout"), levels|NGX_CONF_TAKE1,                \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("relay_max_lifetime"), levels|NGX_CONF_TAKE1,                \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("relay_min_rate"), levels|NGX_CONF_TAKE123,                  \
      ngx_tunnel_policy_min_rate, conf, offsetof(type, tunnel.policy),        \
      layer },                                                                \
                                                                              \
    { ngx_string("relay_max_rate"), levels|NGX_CONF_TAKE1,                    \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("relay_upload_rate"), levels|NGX_CONF_TAKE1,                 \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("relay_download_rate"), levels|NGX_CONF_TAKE1,               \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("relay_max_payload"), levels|NGX_CONF_TAKE12,                \
      ngx_tunnel_policy_max_payload, conf, offsetof(type, tunnel.policy),     \
      layer },                                                                \
                                                                              \
    { ngx_string("relay_half_close"), levels|NGX_CONF_FLAG,                   \
      ngx_conf_set_flag_slot, conf,                                           \
      offsetof(type, tunnel.policy.policy.half_close), NULL },                \
                                                                              \
    { ngx_string("relay_buffer_size"), levels|NGX_CONF_TAKE1,                 \
      ngx_tunnel_conf_size_slot, conf,                                        \
      offsetof(type, tunnel.policy.policy.buffer_size), NULL },               \
                                                                              \
    { ngx_string("relay_socket_keepalive"), levels|NGX_CONF_FLAG,             \
      ngx_conf_set_flag_slot, conf,                                           \
      offsetof(type, tunnel.policy.policy.keepalive), NULL },                 \
                                                                              \
    { ngx_string("relay_splice"), levels|NGX_CONF_TAKE1,                      \
      ngx_tunnel_conf_enum_slot, conf,                                        \
      offsetof(type, tunnel.policy.policy.splice), ngx_tunnel_splice },       \
                                                                              \
    { ngx_string("target_proxy_protocol"), levels|NGX_CONF_TAKE1,             \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("target_require_tls"), levels|NGX_CONF_TAKE1,                \
      ngx_tunnel_policy_slot, conf, offsetof(type, tunnel.policy), layer },   \
                                                                              \
    { ngx_string("tunnel_preread_timeout"), levels|NGX_CONF_TAKE1,            \
      ngx_tunnel_conf_msec_slot, conf,                                        \
      offsetof(type, tunnel.policy.policy.preread_timeout), NULL },           \
                                                                              \
    { ngx_string("relay_quota_zone"), main|NGX_CONF_TAKE4,                    \
      ngx_tunnel_quota_zone, 0, 0, layer },                                   \
                                                                              \
    { ngx_string("relay_quota"), levels|NGX_CONF_TAKE1,                       \
      ngx_tunnel_quota, conf, offsetof(type, tunnel.policy.quotas), layer },  \
                                                                              \
    { ngx_string("tunnel_zone"), levels|NGX_CONF_TAKE1,                       \
      ngx_tunnel_zone_slot, conf, offsetof(type, tunnel.stat), layer },       \
                                                                              \
    { ngx_string("tunnel_zone_key"), levels|NGX_CONF_TAKE12,                  \
      ngx_tunnel_zone_key_slot, conf, offsetof(type, tunnel.stat), layer },   \
                                                                              \
    { ngx_string("tunnel_label"), levels|NGX_CONF_TAKE1,                      \
      ngx_tunnel_zone_label_slot, conf, offsetof(type, tunnel.stat), NULL },  \
                                                                              \
    { ngx_string("tunnel_max_connections"), levels|NGX_CONF_TAKE1,            \
      ngx_tunnel_conf_num_slot, conf,                                         \
      offsetof(type, tunnel.stat.max_connections), NULL },                    \
                                                                              \
    { ngx_string("tunnel_log_interval"), levels|NGX_CONF_TAKE1,               \
      ngx_tunnel_zone_interval_slot, conf,                                    \
      offsetof(type, tunnel.stat.log_interval), NULL },                       \
                                                                              \
    { ngx_string("target_recheck"), levels|NGX_CONF_FLAG,                     \
      ngx_conf_set_flag_slot, conf,                                           \
      offsetof(type, tunnel.stat.recheck), NULL }


/* the values of directives */

extern ngx_conf_enum_t     ngx_tunnel_prefer[];
extern ngx_conf_bitmask_t  ngx_tunnel_next_upstream[];


typedef struct ngx_tunnel_session_s  ngx_tunnel_session_t;
typedef struct ngx_tunnel_udp_s  ngx_tunnel_udp_t;

typedef void (*ngx_tunnel_session_pt)(ngx_tunnel_session_t *s);


struct ngx_tunnel_session_s {

    /* set by the front end, zeroes elsewhere */

    ngx_pool_t                   *pool;
    ngx_log_t                    *log;
    ngx_tunnel_conf_t            *conf;
    const ngx_tunnel_layer_t     *layer;
    void                         *data;          /* of the layer */
    uint64_t                      id;            /* of the worker's */

    ngx_str_t                     asked;         /* as the client sent it */
    ngx_tunnel_target_t          *target;        /* NULL: that is invalid, or
                                                    no host and port */

    ngx_tunnel_target_t          *requested;     /* by the client, NULL: that
                                                    is target */

    ngx_tunnel_main_t            *main;
    ngx_resolver_t               *resolver;      /* if it has name servers */
    ngx_peer_connection_t        *balancer;      /* or NULL */

    /*
     * connected is called once when an attempt that was under way has come to
     * its result, ended when a tunnel has; either may destroy the pool
     */

    ngx_tunnel_session_pt         connected;
    ngx_tunnel_session_pt         ended;

    /*
     * log writes a line of the access log for a tunnel that goes on, client
     * sets the address that the table of tunnels shows, to an empty one if
     * that is not to be known
     */

    ngx_tunnel_session_pt         log_line;
    void                        (*client)(ngx_tunnel_session_t *s,
                                      ngx_str_t *name);

    /* results */


    ngx_tunnel_result_e           result;
    ngx_str_t                     what;          /* is said of a failure */
    ngx_err_t                     err;           /* of the failure, or 0 */
    ngx_str_t                     address;       /* that is connected */
    ngx_str_t                     sni;           /* of the client, if asked */
    ngx_msec_t                    resolve_time;  /* -1: nothing resolved */
    ngx_msec_t                    connect_time;  /* -1: not connected */
    ngx_tunnel_relay_t           *relay;         /* or NULL */

    /* private */

    ngx_tunnel_policy_t          *policy;
    ngx_tunnel_usage_t           *usage;
    ngx_tunnel_stat_t             stat;
    ngx_tunnel_connect_t         *connect;       /* while it is under way */
    ngx_connection_t             *connection;    /* until it is relayed */
    ngx_tunnel_udp_t             *udp;           /* or NULL */

    unsigned                      trusted:1;     /* see the rules */
    unsigned                      taken:1;       /* a peer of the balancer */
    unsigned                      passive:1;     /* the target has connected */
    unsigned                      closed:1;
};


/*
 * Forgets an attempt, and ends what of it is under way; to be called for each
 * attempt, before what differs between them is set.
 */

void ngx_tunnel_session_reset(ngx_tunnel_session_t *s);

/*
 * Asks the rules, evaluates the policy, and starts connecting.  Returns
 * NGX_AGAIN if connected will be called, or the result, which then is in
 * s->result, too.  A failure is in the log.
 */

ngx_int_t ngx_tunnel_session_open(ngx_tunnel_session_t *s);

/*
 * Instead of ngx_tunnel_session_open(), for a target that connects to us, one
 * time within timeout, msec.  The rules are asked for the target before, and
 * for the address that connects; if the target's own is not the unspecified
 * one, that must be it.  Returns NGX_AGAIN if connected will be called, and s
 * then listens on an address of the caller's at a port of the system's, or the
 * result.
 */

ngx_int_t ngx_tunnel_session_listen(ngx_tunnel_session_t *s,
    struct sockaddr *sa, socklen_t socklen, ngx_msec_t timeout);

/* the buffers of a worker have to have room for a datagram, bytes */

#define NGX_TUNNEL_DATAGRAM       65536

/*
 * Instead of ngx_tunnel_session_open(), for datagrams, in SOCKS5's wrapping,
 * that a client exchanges with any targets that the rules allow.  They are
 * taken at the address sa, and a port of the system's, from the client's
 * address, and its port if that is not 0.  Returns the result.
 */

ngx_int_t ngx_tunnel_session_associate(ngx_tunnel_session_t *s,
    struct sockaddr *sa, socklen_t socklen, struct sockaddr *client);

/*
 * Our own address as the peer of a tunnel sees it: of the connection to the
 * target, or of the socket that listens, or that takes the client's datagrams.
 * Valid before the relay; NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_tunnel_session_local(ngx_tunnel_session_t *s,
    ngx_sockaddr_t *sa);

/* and the address of the target that is connected */

ngx_int_t ngx_tunnel_session_remote(ngx_tunnel_session_t *s,
    ngx_sockaddr_t *sa);

/* sets the result of a session that fails elsewhere, and logs it */

void ngx_tunnel_session_fail(ngx_tunnel_session_t *s,
    ngx_tunnel_result_e result);

/*
 * Makes the relay of a connected session, for ngx_tunnel_relay() to start.
 * The client is a connection, which may be changed then, and has sent what is
 * in early, which may be NULL; of datagrams it is not that one's but our own
 * that the relay reads.  NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_tunnel_session_prepare(ngx_tunnel_session_t *s,
    ngx_connection_t *c, ngx_buf_t *early);

/*
 * Ends what is under way, without calling a handler, closes the connection,
 * and logs the end of a tunnel; to be called before the request or session of
 * the client is logged, and safe in any state.
 */

void ngx_tunnel_session_close(ngx_tunnel_session_t *s);


/*
 * What the parts of the engine that open tunnels share.  admit asks the rules
 * for the target, if there is one, and evaluates the policy; settle takes the
 * result of an attempt, logs a failure, and returns it.
 */

ngx_tunnel_result_e ngx_tunnel_session_admit(ngx_tunnel_session_t *s);
ngx_tunnel_result_e ngx_tunnel_session_settle(ngx_tunnel_session_t *s,
    ngx_tunnel_result_e result);

/* a connection of a socket, which is closed otherwise; NULL: machine_limit */

ngx_connection_t *ngx_tunnel_session_socket(ngx_tunnel_session_t *s,
    ngx_socket_t fd, int type);

/* the resolver that there is for the session, and the hosts file or NULL */

ngx_resolver_t *ngx_tunnel_session_resolver(ngx_tunnel_session_t *s,
    ngx_tunnel_system_t **system);

/* the address of target_bind, or NULL for none; NGX_OK or NGX_ERROR */

ngx_int_t ngx_tunnel_session_bind(ngx_tunnel_session_t *s, ngx_pool_t *pool,
    ngx_addr_t **addr);


/*
 * How a tunnel begins: what the relay sends to the target first, and what the
 * client's first bytes have to be, see ngx_tunnel_relay_begin_t; NGX_OK or
 * NGX_ERROR.
 */

ngx_int_t ngx_tunnel_session_begin(ngx_tunnel_session_t *s,
    ngx_tunnel_relay_t *relay);


/* the part of a session that is for datagrams, see ngx_tunnel_udp.c */

ngx_connection_t *ngx_tunnel_udp_connection(ngx_tunnel_udp_t *udp);
void ngx_tunnel_udp_relay(ngx_tunnel_udp_t *udp, ngx_tunnel_relay_t *relay);
void ngx_tunnel_udp_close(ngx_tunnel_udp_t *udp);


typedef struct {
    ngx_str_t                     name;
    ngx_uint_t                    id;
} ngx_tunnel_variable_t;

/* the variables of all front ends; the last one has an empty name */

extern const ngx_tunnel_variable_t  ngx_tunnel_variables[];

/* gives a variable a value, which stays the caller's; an empty one is none */

void ngx_tunnel_variable_set(ngx_variable_value_t *v, ngx_str_t *value);

/* a variable of a session, which may be NULL; NGX_OK or NGX_ERROR */

ngx_int_t ngx_tunnel_session_variable(ngx_tunnel_session_t *s,
    ngx_uint_t id, ngx_variable_value_t *v);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_SESSION_H_INCLUDED_ */
