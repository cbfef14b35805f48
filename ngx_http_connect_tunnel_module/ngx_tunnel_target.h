
/*
 * Target: what a client asks for, in canonical form.
 */


#ifndef _NGX_TUNNEL_TARGET_H_INCLUDED_
#define _NGX_TUNNEL_TARGET_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


#define NGX_TUNNEL_HOST_LEN    253       /* RFC 1035 2.3.4, without root */
#define NGX_TUNNEL_LABEL_LEN   63

#define NGX_TUNNEL_IP_LEN      16        /* bytes */

/* the longest canonical text: a host, a colon and five digits */

#define NGX_TUNNEL_TARGET_LEN  (NGX_TUNNEL_HOST_LEN + sizeof(":65535") - 1)


/*
 * A target in canonical form: a name in lower case and without a trailing
 * dot, an IPv4 address as a dotted quad, an IPv6 address as RFC 5952 has it
 * and in brackets, an IPv4-mapped one as the IPv4 address.  The strings point
 * into buf, which the owner keeps.
 */

typedef struct {
    ngx_str_t    text;           /* host:port */
    ngx_str_t    host;           /* the part of text before the colon */
    in_port_t    port;           /* host byte order */
    int          family;         /* AF_INET, AF_INET6, AF_UNSPEC: a name */

    union {
        struct in_addr   in;
        struct in6_addr  in6;
    } addr;                      /* if family is not AF_UNSPEC */

    u_char       buf[NGX_TUNNEL_TARGET_LEN];
} ngx_tunnel_target_t;


/*
 * Parses an authority in the form that CONNECT takes (RFC 9110 9.3.6, RFC
 * 9112 3.2.3): a host, a colon and a port, and nothing else; the port is not
 * 0.  Returns NULL and fills the target, or says in English what is wrong with
 * the input.
 */

const char *ngx_tunnel_target_parse(ngx_tunnel_target_t *t, u_char *data,
    size_t len);

/*
 * Canonicalises a host without a port; t->port and t->text are not set.  The
 * input has brackets around an IPv6 address.  Returns as above.
 */

const char *ngx_tunnel_target_parse_host(ngx_tunnel_target_t *t, u_char *data,
    size_t len);

/*
 * The same of a host and a port that came apart; the port may be 0, and there
 * may be no brackets around an IPv6 address.  Returns as above.
 */

const char *ngx_tunnel_target_set(ngx_tunnel_target_t *t, u_char *host,
    size_t len, in_port_t port);

/* the same of an IP address as it is in a sockaddr, of AF_INET or AF_INET6 */

void ngx_tunnel_target_set_address(ngx_tunnel_target_t *t, int family,
    u_char *addr, in_port_t port);

/*
 * An address of AF_INET or AF_INET6, which points to so many bytes, in one
 * form for both: IPv6, an IPv4 one as an IPv4-mapped one.
 */

void ngx_tunnel_ip(u_char *ip, int family, void *addr);

/* an IPv4-mapped address as the IPv4 one, in sin, any other one as it is */

struct sockaddr *ngx_tunnel_unmapped(struct sockaddr *sa,
    struct sockaddr_in *sin);

/* the family of such an address, AF_INET for an IPv4-mapped one */

int ngx_tunnel_ip_family(u_char *ip);

/* a copy without the room that the text does not take; NULL: no memory */

ngx_tunnel_target_t *ngx_tunnel_target_copy(ngx_pool_t *pool,
    ngx_tunnel_target_t *t);

/* 1 to 65535 in decimal digits only; 0 is an error */

ngx_uint_t ngx_tunnel_target_parse_port(u_char *data, size_t len);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_TARGET_H_INCLUDED_ */
