
/*
 * Quotas: how many bytes the tunnels of one key may move in a period, counted
 * in shared memory for all workers.
 */


#ifndef _NGX_TUNNEL_QUOTA_H_INCLUDED_
#define _NGX_TUNNEL_QUOTA_H_INCLUDED_


#include "ngx_tunnel_conf.h"


#pragma GCC visibility push(hidden)


/* of a zone */

typedef struct ngx_tunnel_quota_s  ngx_tunnel_quota_t;

/* of one tunnel and all its zones */

typedef struct ngx_tunnel_usage_s  ngx_tunnel_usage_t;


/*
 * Directive handlers: relay_quota_zone, whose cmd->post is the layer, and
 * relay_quota, whose cmd->offset is that of an array of quotas.  Zones belong
 * to the module tag.
 */

char *ngx_tunnel_quota_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_tunnel_quota(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/*
 * Looks the keys of a tunnel up, and registers with the pool that they are
 * given back.  Returns NGX_OK with *usage set, to NULL if nothing is counted;
 * NGX_BUSY if a quota is spent; NGX_DECLINED if a zone has no room, which the
 * log tells; or NGX_ERROR.  what is then set to the zone's name.
 */

ngx_int_t ngx_tunnel_quota_use(ngx_array_t *quotas,
    const ngx_tunnel_layer_t *layer, void *data, ngx_pool_t *pool,
    ngx_log_t *log, ngx_tunnel_usage_t **usage, ngx_str_t *what);

/* bytes that may still move, of the zone with fewest; below 0 if overdrawn */

off_t ngx_tunnel_quota_left(ngx_tunnel_usage_t *usage);

/* n bytes moved */

void ngx_tunnel_quota_spend(ngx_tunnel_usage_t *usage, off_t n);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_QUOTA_H_INCLUDED_ */
