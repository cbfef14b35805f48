
/*
 * SOCKS: messages.  Pure functions over bytes; nothing here allocates or logs.
 */


#include "ngx_tunnel_socks.h"


/* address types, RFC 1928 5 */

#define NGX_TUNNEL_SOCKS_INET   1
#define NGX_TUNNEL_SOCKS_NAMED  3
#define NGX_TUNNEL_SOCKS_INET6  4


#define ngx_tunnel_socks_port(p)  ((in_port_t) ((p)[0] << 8 | (p)[1]))


static ngx_int_t ngx_tunnel_socks_address(u_char **pos, u_char *last,
    u_char **addr, size_t *len, in_port_t *port);
static void ngx_tunnel_socks_invalid(ngx_tunnel_socks_request_t *r,
    const char *what);
static void ngx_tunnel_socks_check(ngx_tunnel_socks_request_t *r);
static u_char *ngx_tunnel_socks_write_address(u_char *p, struct sockaddr *sa);
static u_char *ngx_tunnel_socks_inet(struct sockaddr *sa, in_port_t *port);


static u_char  ngx_tunnel_socks_any[4] = { 0, 0, 0, 0 };


ngx_int_t
ngx_tunnel_socks5_methods(u_char **pos, u_char *last, ngx_str_t *methods)
{
    u_char  *p;

    /* VER NMETHODS METHODS */

    p = *pos;

    if (last - p < 2 || last - p < 2 + p[1]) {
        return NGX_AGAIN;
    }

    methods->len = p[1];
    methods->data = p + 2;

    *pos = p + 2 + p[1];

    return NGX_OK;
}


ngx_int_t
ngx_tunnel_socks5_password(u_char **pos, u_char *last, ngx_str_t *user,
    ngx_str_t *password)
{
    u_char  *p, *name;

    /* VER ULEN UNAME PLEN PASSWD */

    p = *pos;

    if (p < last && p[0] != 1) {
        return NGX_ERROR;
    }

    if (last - p < 2 || last - p < 2 + p[1] + 1) {
        return NGX_AGAIN;
    }

    name = p + 2;
    p = name + p[1];

    if (last - p < 1 + p[0]) {
        return NGX_AGAIN;
    }

    user->len = p - name;
    user->data = name;

    password->len = p[0];
    password->data = p + 1;

    *pos = p + 1 + p[0];

    return NGX_OK;
}


ngx_int_t
ngx_tunnel_socks5_request(u_char **pos, u_char *last,
    ngx_tunnel_socks_request_t *r)
{
    u_char      *p, *addr;
    size_t       len;
    in_port_t    port;
    ngx_int_t    rc;
    ngx_uint_t   type;
    const char  *what;

    /* VER CMD RSV ATYP DST.ADDR DST.PORT */

    p = *pos;

    r->result = NGX_TUNNEL_OK;
    r->what = NULL;
    r->command = 0;
    r->named = 0;
    ngx_str_null(&r->user);

    if (p < last && p[0] != 5) {
        *pos = last;
        ngx_tunnel_socks_invalid(r, "the version is not 5");
        return NGX_OK;
    }

    if (last - p < 4) {
        return NGX_AGAIN;
    }

    r->command = p[1];

    p += 3;
    type = p[0];

    rc = ngx_tunnel_socks_address(&p, last, &addr, &len, &port);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_DECLINED) {
        *pos = last;
        r->result = NGX_TUNNEL_BAD_ADDRESS;
        return NGX_OK;
    }

    *pos = p;

    switch (type) {

    case NGX_TUNNEL_SOCKS_INET:
        ngx_tunnel_target_set_address(&r->target, AF_INET, addr, port);
        break;

    case NGX_TUNNEL_SOCKS_INET6:
        ngx_tunnel_target_set_address(&r->target, AF_INET6, addr, port);
        break;

    default: /* NGX_TUNNEL_SOCKS_NAMED */
        what = ngx_tunnel_target_set(&r->target, addr, len, port);

        if (what && r->command == NGX_TUNNEL_SOCKS_UDP) {

            /* where datagrams will come from; clients write "0", too */

            ngx_tunnel_target_set_address(&r->target, AF_INET,
                                          ngx_tunnel_socks_any, port);
            what = NULL;
        }

        ngx_tunnel_socks_invalid(r, what);
    }

    ngx_tunnel_socks_check(r);

    return NGX_OK;
}


/*
 * ATYP and what follows, for requests and datagrams, there is one byte at
 * least; NGX_DECLINED if the type is unknown
 */

static ngx_int_t
ngx_tunnel_socks_address(u_char **pos, u_char *last, u_char **addr,
    size_t *len, in_port_t *port)
{
    u_char  *p;

    p = *pos;

    switch (*p++) {

    case NGX_TUNNEL_SOCKS_INET:
        *len = 4;
        break;

#if (NGX_HAVE_INET6)

    case NGX_TUNNEL_SOCKS_INET6:
        *len = 16;
        break;

#endif

    case NGX_TUNNEL_SOCKS_NAMED:

        if (p == last) {
            return NGX_AGAIN;
        }

        *len = *p++;
        break;

    default:
        return NGX_DECLINED;
    }

    if ((size_t) (last - p) < *len + 2) {
        return NGX_AGAIN;
    }

    *addr = p;
    *port = ngx_tunnel_socks_port(p + *len);
    *pos = p + *len + 2;

    return NGX_OK;
}


/* for an error that may be NULL */

static void
ngx_tunnel_socks_invalid(ngx_tunnel_socks_request_t *r, const char *what)
{
    if (what) {
        r->result = NGX_TUNNEL_BAD_REQUEST;
        r->what = what;
    }
}


/* what a request of either version may not have */

static void
ngx_tunnel_socks_check(ngx_tunnel_socks_request_t *r)
{
    if (r->result == NGX_TUNNEL_OK
        && r->command == NGX_TUNNEL_SOCKS_CONNECT
        && r->target.port == 0)
    {
        r->result = NGX_TUNNEL_BAD_REQUEST;
        r->what = "the port is 0";
    }
}


ngx_int_t
ngx_tunnel_socks4_request(u_char **pos, u_char *last,
    ngx_tunnel_socks_request_t *r)
{
    u_char     *p, *user, *end;
    in_port_t   port;

    /* VN CD DSTPORT DSTIP USERID NUL, and with 0.0.0.x: HOST NUL */

    p = *pos;

    r->result = NGX_TUNNEL_OK;
    r->what = NULL;
    r->named = 0;
    ngx_str_null(&r->user);

    if (last - p < 8) {
        return NGX_AGAIN;
    }

    r->command = p[1];
    r->named = (p[4] == 0 && p[5] == 0 && p[6] == 0 && p[7] != 0);

    port = ngx_tunnel_socks_port(p + 2);

    user = p + 8;
    end = ngx_strlchr(user, ngx_min(last, user + NGX_TUNNEL_SOCKS_NAME + 1),
                      '\0');

    if (end == NULL) {

        if (last - user <= NGX_TUNNEL_SOCKS_NAME) {
            return NGX_AGAIN;
        }

        *pos = last;
        ngx_tunnel_socks_invalid(r, "the userid is longer than 255 bytes");
        return NGX_OK;
    }

    r->user.data = user;
    r->user.len = end - user;

    if (!r->named) {
        ngx_tunnel_target_set_address(&r->target, AF_INET, p + 4, port);
        ngx_tunnel_socks_check(r);

        *pos = end + 1;

        return NGX_OK;
    }

    p = end + 1;
    end = ngx_strlchr(p, ngx_min(last, p + NGX_TUNNEL_SOCKS_NAME + 1), '\0');

    if (end == NULL) {

        if (last - p <= NGX_TUNNEL_SOCKS_NAME) {
            return NGX_AGAIN;
        }

        *pos = last;
        ngx_tunnel_socks_invalid(r, "the host is longer than 255 bytes");
        return NGX_OK;
    }

    *pos = end + 1;

    ngx_tunnel_socks_invalid(r, ngx_tunnel_target_set(&r->target, p, end - p,
                                                      port));
    ngx_tunnel_socks_check(r);

    return NGX_OK;
}


u_char *
ngx_tunnel_socks5_reply(u_char *buf, ngx_uint_t code, struct sockaddr *sa)
{
    /* VER REP RSV ATYP BND.ADDR BND.PORT */

    *buf++ = 5;
    *buf++ = (u_char) code;
    *buf++ = 0;

    return ngx_tunnel_socks_write_address(buf, sa);
}


u_char *
ngx_tunnel_socks4_reply(u_char *buf, ngx_uint_t code, struct sockaddr *sa)
{
    u_char     *addr;
    in_port_t   port;

    /* VN CD DSTPORT DSTIP; there is no room for an IPv6 address */

    addr = ngx_tunnel_socks_inet(sa, &port);

    *buf++ = 0;
    *buf++ = (u_char) code;
    *buf++ = (u_char) (port >> 8);
    *buf++ = (u_char) port;

    if (addr) {
        return ngx_cpymem(buf, addr, 4);
    }

    ngx_memzero(buf, 4);

    return buf + 4;
}


ngx_int_t
ngx_tunnel_socks5_datagram(u_char **pos, u_char *last, ngx_sockaddr_t *sa,
    ngx_str_t *host, in_port_t *port)
{
    u_char      *p, *addr;
    size_t       len;
    ngx_uint_t   type;

    /* RSV RSV FRAG ATYP DST.ADDR DST.PORT DATA */

    p = *pos;

    if (last - p < 4 || p[2] != 0) {
        return NGX_DECLINED;
    }

    p += 3;
    type = p[0];

    if (ngx_tunnel_socks_address(&p, last, &addr, &len, port) != NGX_OK
        || *port == 0)
    {
        return NGX_DECLINED;
    }

    ngx_memzero(sa, sizeof(ngx_sockaddr_t));
    ngx_str_null(host);

    switch (type) {

    case NGX_TUNNEL_SOCKS_INET:
        sa->sockaddr_in.sin_family = AF_INET;
        sa->sockaddr_in.sin_port = htons(*port);
        ngx_memcpy(&sa->sockaddr_in.sin_addr, addr, 4);
        break;

#if (NGX_HAVE_INET6)

    case NGX_TUNNEL_SOCKS_INET6:
        sa->sockaddr_in6.sin6_family = AF_INET6;
        sa->sockaddr_in6.sin6_port = htons(*port);
        ngx_memcpy(&sa->sockaddr_in6.sin6_addr, addr, 16);
        break;

#endif

    default: /* NGX_TUNNEL_SOCKS_NAMED */

        if (len == 0) {
            return NGX_DECLINED;
        }

        host->len = len;
        host->data = addr;
    }

    *pos = p;

    return NGX_OK;
}


u_char *
ngx_tunnel_socks5_datagram_header(u_char *buf, struct sockaddr *sa)
{
    *buf++ = 0;
    *buf++ = 0;
    *buf++ = 0;

    return ngx_tunnel_socks_write_address(buf, sa);
}


/* ATYP, address, and port */

static u_char *
ngx_tunnel_socks_write_address(u_char *p, struct sockaddr *sa)
{
    u_char               *addr;
    in_port_t             port;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    addr = ngx_tunnel_socks_inet(sa, &port);

#if (NGX_HAVE_INET6)

    if (addr == NULL && sa && sa->sa_family == AF_INET6) {
        sin6 = (struct sockaddr_in6 *) sa;

        *p++ = NGX_TUNNEL_SOCKS_INET6;
        p = ngx_cpymem(p, &sin6->sin6_addr, 16);

    } else

#endif
    {
        *p++ = NGX_TUNNEL_SOCKS_INET;

        if (addr) {
            p = ngx_cpymem(p, addr, 4);

        } else {
            ngx_memzero(p, 4);
            p += 4;
        }
    }

    *p++ = (u_char) (port >> 8);
    *p++ = (u_char) port;

    return p;
}


/* the IPv4 address that there is, maybe as an IPv4-mapped one, and the port */

static u_char *
ngx_tunnel_socks_inet(struct sockaddr *sa, in_port_t *port)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    *port = 0;

    if (sa == NULL) {
        return NULL;
    }

    switch (sa->sa_family) {

    case AF_INET:
        sin = (struct sockaddr_in *) sa;
        *port = ntohs(sin->sin_port);

        return (u_char *) &sin->sin_addr;

#if (NGX_HAVE_INET6)

    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) sa;
        *port = ntohs(sin6->sin6_port);

        return IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)
               ? &sin6->sin6_addr.s6_addr[12] : NULL;
#endif

    default: /* AF_UNIX */
        return NULL;
    }
}
