
/*
 * What differs between nginx versions, outside of the intake.
 */


#ifndef _NGX_TUNNEL_COMPAT_H_INCLUDED_
#define _NGX_TUNNEL_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#if (nginx_version < 1022000)
#error nginx 1.22.0 or newer is required
#endif


/* 1.23.0: headers of one name are chained */

#if (nginx_version >= 1023000)
#define ngx_http_connect_tunnel_header_next(h)  (h)->next = NULL
#else
#define ngx_http_connect_tunnel_header_next(h)
#endif


/* 1.25.1: the "http2" directive, besides the parameter of "listen" */

#define NGX_TUNNEL_HTTP2_BY_SERVER  (nginx_version >= 1025001)


/*
 * 1.25.5: the preread phase of stream leaves in the socket what it sees; not
 * that of freenginx, which has this macro
 */

#if (nginx_version >= 1025005 && !(defined NGINX_NAME))
#define NGX_TUNNEL_PREREAD_PEEKS  1
#else
#define NGX_TUNNEL_PREREAD_PEEKS  0
#endif


/* 1.29.3: $request_port */

#if (nginx_version >= 1029003)
#define ngx_http_connect_tunnel_set_port(r, p)  (r)->port = (p)
#else
#define ngx_http_connect_tunnel_set_port(r, p)
#endif


/* 1.31.0: to the core, a CONNECT is authorized by this header field */

#ifdef ngx_http_proxy_auth
#define ngx_http_connect_tunnel_set_proxy_auth(r, h)                          \
    (r)->headers_in.proxy_authorization = (h)
#else
#define ngx_http_connect_tunnel_set_proxy_auth(r, h)
#endif


/*
 * Angie 1.12: without "resolver", there is one with the system's name servers,
 * but not its hosts file; and what a line of the log says of a request is said
 * one by one
 */

#if (defined angie_version && angie_version >= 1012000)

#define ngx_tunnel_resolver_configured(r)                                     \
    ((r)->resolv_conf.len != sizeof("/etc/resolv.conf") - 1                   \
     || ngx_strcmp((r)->resolv_conf.data, "/etc/resolv.conf") != 0)

#define ngx_http_connect_tunnel_log_request(r, log, ctx, p, len)              \
    (r)->log_handler(log, p, (p) + (len), ctx)

#else

#define ngx_tunnel_resolver_configured(r)  ((r)->connections.nelts != 0)

#define ngx_http_connect_tunnel_log_request(r, log, ctx, p, len)              \
    (r)->log_handler(r, (ctx)->current_request, p, len)

#endif


#endif /* _NGX_TUNNEL_COMPAT_H_INCLUDED_ */
