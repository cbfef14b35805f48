
/*
 * Setters of directives that say what is wrong and what is allowed.
 */


#ifndef _NGX_TUNNEL_CONF_H_INCLUDED_
#define _NGX_TUNNEL_CONF_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


/* as the slots of nginx, whose messages lack the value or what is allowed */

char *ngx_tunnel_conf_msec_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_conf_size_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_conf_num_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* cmd->post is an array of ngx_conf_enum_t, of ngx_conf_bitmask_t */

char *ngx_tunnel_conf_enum_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_conf_bitmask_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_CONF_H_INCLUDED_ */
