
/*
 * Policy: how long, how fast, and how much a tunnel may be, and how it begins.
 *
 * A value of a directive is a constant, or has variables and is evaluated for
 * each tunnel by the front end.
 */


#ifndef _NGX_TUNNEL_POLICY_H_INCLUDED_
#define _NGX_TUNNEL_POLICY_H_INCLUDED_


#include "ngx_tunnel_conf.h"
#include "ngx_tunnel_quota.h"


#pragma GCC visibility push(hidden)


typedef enum {
    NGX_TUNNEL_SPLICE_OFF = 0,
    NGX_TUNNEL_SPLICE_AUTO,              /* once a flow is bulk */
    NGX_TUNNEL_SPLICE_ON
} ngx_tunnel_splice_e;


/* whether the first bytes of the client have to be a ClientHello */

typedef enum {
    NGX_TUNNEL_TLS_OFF = 0,
    NGX_TUNNEL_TLS_ON,
    NGX_TUNNEL_TLS_SNI                   /* that names the host asked for */
} ngx_tunnel_require_tls_e;


/* what a relay goes by; times are msec, sizes are bytes, and 0 is no limit */

typedef struct {
    off_t                     idle_timeout;
    off_t                     send_timeout;
    off_t                     max_lifetime;

    off_t                     min_rate;          /* bytes a minute */
    off_t                     min_rate_window;
    off_t                     min_rate_grace;

    off_t                     max_rate;          /* bytes a second */
    off_t                     upload_rate;       /* -1: max_rate */
    off_t                     download_rate;

    off_t                     max_payload;       /* both ways together */
    off_t                     max_upload;
    off_t                     max_download;

    off_t                     proxy_protocol;    /* version, or 0 */
    off_t                     require_tls;       /* ngx_tunnel_require_tls_e */

    size_t                    buffer_size;
    ngx_flag_t                half_close;
    ngx_flag_t                keepalive;
    ngx_uint_t                splice;            /* ngx_tunnel_splice_e */
    ngx_msec_t                preread_timeout;
} ngx_tunnel_policy_t;


#define NGX_TUNNEL_POLICY_VALUES  14             /* those of off_t */
#define NGX_TUNNEL_POLICY_LIMITS  12             /* and the first of those */


/* of a configuration level */

typedef struct {
    ngx_tunnel_policy_t       policy;            /* the constants */

    /* those with variables, as the layer compiled them, or NULL */

    void                     *compiled[NGX_TUNNEL_POLICY_VALUES];
    ngx_uint_t                ncompiled;

    ngx_array_t              *quotas;            /* of ngx_shm_zone_t * */
} ngx_tunnel_policy_conf_t;


void ngx_tunnel_policy_create(ngx_tunnel_policy_conf_t *conf);

/* returns NULL, or an error for the configuration to report */

char *ngx_tunnel_policy_merge(ngx_conf_t *cf, ngx_tunnel_policy_conf_t *conf,
    ngx_tunnel_policy_conf_t *prev);


/*
 * Directive handlers: cmd->offset is that of the ngx_tunnel_policy_conf_t,
 * and cmd->post is a ngx_tunnel_layer_t.
 */

char *ngx_tunnel_policy_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_tunnel_policy_min_rate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_policy_max_payload(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

extern ngx_conf_enum_t  ngx_tunnel_splice[];


/*
 * The policy of one tunnel: that of the configuration if it has no variables,
 * or else one from the pool.  data is for the layer.  Returns NULL if there is
 * no memory or, said in the log, a value is invalid.
 */

ngx_tunnel_policy_t *ngx_tunnel_policy_eval(ngx_tunnel_policy_conf_t *conf,
    const ngx_tunnel_layer_t *layer, void *data, ngx_pool_t *pool,
    ngx_log_t *log);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_POLICY_H_INCLUDED_ */
