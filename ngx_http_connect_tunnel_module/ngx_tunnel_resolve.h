
/*
 * Resolve: the system's own name servers and hosts file, for configurations
 * that name no resolver.
 */


#ifndef _NGX_TUNNEL_RESOLVE_H_INCLUDED_
#define _NGX_TUNNEL_RESOLVE_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


/*
 * Both are read when the configuration is, and live as long.  hosts is NULL
 * where the file cannot be read or is empty.
 */

typedef struct {
    ngx_resolver_t    *resolver;
    ngx_hash_t        *hosts;        /* of ngx_array_t of ngx_addr_t */
} ngx_tunnel_system_t;


/* returns NULL after an error that it has logged */

ngx_tunnel_system_t *ngx_tunnel_system_create(ngx_conf_t *cf);

/*
 * Finds a name, which is in lower case, in the hosts file.  Returns an array
 * of ngx_addr_t that belongs to the configuration, ports are 0; or NULL.
 */

ngx_array_t *ngx_tunnel_system_hosts(ngx_tunnel_system_t *system,
    ngx_str_t *name);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_RESOLVE_H_INCLUDED_ */
