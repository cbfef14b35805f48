
/*
 * Connector: from a target to a connection, by way of a resolver and Happy
 * Eyeballs (RFC 8305), or from a balancer of nginx to a connection.
 */


#ifndef _NGX_TUNNEL_CONNECT_H_INCLUDED_
#define _NGX_TUNNEL_CONNECT_H_INCLUDED_


#include "ngx_tunnel_conf.h"
#include "ngx_tunnel_rules.h"
#include "ngx_tunnel_resolve.h"

#include <ngx_event_connect.h>


#pragma GCC visibility push(hidden)


typedef enum {
    NGX_TUNNEL_PREFER_ANY = 0,           /* IPv6 first, as RFC 6724 has it */
    NGX_TUNNEL_PREFER_IPV4,
    NGX_TUNNEL_PREFER_IPV6
} ngx_tunnel_prefer_e;


/* which failures of a balancer's peer let the next one be asked */

#define NGX_TUNNEL_NEXT_ERROR    0x0002
#define NGX_TUNNEL_NEXT_TIMEOUT  0x0004
#define NGX_TUNNEL_NEXT_OFF      0x0008


/* target_bind */

typedef struct {
    ngx_addr_t                   *addr;          /* or NULL */
    void                         *compiled;      /* with variables, or NULL */
    ngx_uint_t                    transparent;
} ngx_tunnel_bind_t;


/* directive handler: cmd->offset is of a pointer, cmd->post is the layer */

char *ngx_tunnel_bind_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* sets *addr, to NULL for none; NGX_OK or, said in the log, NGX_ERROR */

ngx_int_t ngx_tunnel_bind_eval(ngx_tunnel_bind_t *bind,
    const ngx_tunnel_layer_t *layer, void *data, ngx_pool_t *pool,
    ngx_log_t *log, ngx_addr_t **addr);


typedef struct {
    ngx_msec_t                    connect_timeout;
    ngx_msec_t                    resolve_timeout;
    ngx_uint_t                    prefer;        /* ngx_tunnel_prefer_e */
    ngx_uint_t                    next_upstream; /* NGX_TUNNEL_NEXT_* */
    ngx_uint_t                    next_tries;    /* 0: no limit */
    ngx_msec_t                    next_timeout;  /* 0: no limit */
    ngx_tunnel_bind_t            *bind;          /* or NULL */
} ngx_tunnel_connect_conf_t;


void ngx_tunnel_connect_conf_create(ngx_tunnel_connect_conf_t *conf);
void ngx_tunnel_connect_conf_merge(ngx_tunnel_connect_conf_t *conf,
    ngx_tunnel_connect_conf_t *prev);


typedef struct ngx_tunnel_connect_s  ngx_tunnel_connect_t;
typedef struct ngx_tunnel_attempt_s  ngx_tunnel_attempt_t;

/* called once, in an event handler; may destroy the connector's pool */

typedef void (*ngx_tunnel_connect_pt)(ngx_tunnel_connect_t *cn,
    ngx_tunnel_result_e result);


struct ngx_tunnel_connect_s {

    /* set by the caller, zeroes elsewhere */

    ngx_pool_t                   *pool;
    ngx_log_t                    *log;
    ngx_tunnel_connect_conf_t    *conf;
    ngx_tunnel_rules_t           *rules;
    ngx_array_t                  *own;           /* own listening addresses */
    ngx_tunnel_target_t          *target;        /* if there is no balancer */
    ngx_resolver_t               *resolver;
    ngx_tunnel_system_t          *system;        /* hosts file, or NULL */
    ngx_addr_t                   *local;         /* to bind to, or NULL */
    ngx_peer_connection_t        *balancer;      /* or NULL */
    ngx_tunnel_connect_pt         handler;
    void                         *data;
    unsigned                      transparent:1;
    unsigned                      trusted:1;     /* see the rules */

    /*
     * results; the connection is the caller's from the handler on; the times
     * are to be set to -1 before
     */

    ngx_connection_t             *connection;
    ngx_str_t                     address;       /* of the connection */
    ngx_str_t                     failed;        /* address that failed */
    ngx_str_t                     what;          /* rule or resolver's word */
    ngx_err_t                     err;           /* of the failure, or 0 */
    ngx_msec_t                    resolve_time;  /* -1: nothing resolved */
    ngx_msec_t                    connect_time;  /* -1: not connected */

    /* private */

    ngx_resolver_ctx_t           *ctx;
    ngx_tunnel_attempt_t         *attempts;      /* those under way */
    ngx_tunnel_attempt_t         *free;
    ngx_addr_t                   *addrs;
    ngx_uint_t                    naddrs;
    ngx_uint_t                    next;
    ngx_uint_t                    tries;
    ngx_event_t                   timer;
    ngx_msec_t                    start;
    ngx_msec_t                    deadline;
    ngx_log_t                     quiet;
    ngx_tunnel_result_e           result;        /* the most telling one */
    unsigned                      cached:1;      /* the name was at hand */
    unsigned                      taken:1;       /* a peer of the balancer */
    unsigned                      resolving:1;   /* in ngx_resolve_name() */
    unsigned                      done:1;
};


/*
 * Starts connecting.  Returns NGX_AGAIN if the handler will be called, or the
 * result, a ngx_tunnel_result_e, if it is known at once, and the handler is
 * not called then.  Destroying the pool ends everything but a connection that
 * was handed over, which is the caller's.
 */

ngx_int_t ngx_tunnel_connect(ngx_tunnel_connect_t *cn);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_CONNECT_H_INCLUDED_ */
