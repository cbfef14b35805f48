
/*
 * Intake: how CONNECT gets past the stock parser.  Nothing else knows.
 */


#ifndef _NGX_HTTP_CONNECT_TUNNEL_INTAKE_H_INCLUDED_
#define _NGX_HTTP_CONNECT_TUNNEL_INTAKE_H_INCLUDED_


#include "ngx_http_connect_tunnel_module.h"
#include "ngx_http_connect_tunnel_v2.h"


#pragma GCC visibility push(hidden)


/* adds the phase handlers; called in postconfiguration */

ngx_int_t ngx_http_connect_tunnel_intake_phases(ngx_conf_t *cf);

/* hooks the listening sockets; called in init_module */

void ngx_http_connect_tunnel_intake_listen(ngx_cycle_t *cycle);

/*
 * Gives a request that failed before the first phase its CONNECT back; called
 * when its response header is about to be made.  Returns whether it was one.
 */

ngx_uint_t ngx_http_connect_tunnel_intake_restore(ngx_http_request_t *r);

#if (NGX_HTTP_TUNNEL_V2)

/* that of the connection of a CONNECT that came over HTTP/2 */

ngx_http_tunnel_v2_t *ngx_http_connect_tunnel_intake_v2(
    ngx_http_request_t *r);

#endif

/* the connection is no longer read as HTTP */

void ngx_http_connect_tunnel_intake_detach(ngx_connection_t *c);

/* a CONNECT was refused: nothing but another CONNECT may follow */

void ngx_http_connect_tunnel_intake_refused(ngx_connection_t *c);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_CONNECT_TUNNEL_INTAKE_H_INCLUDED_ */
