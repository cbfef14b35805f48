
/*
 * Target: what a client asks for, in canonical form.  Pure functions over
 * bytes; nothing here allocates or logs.
 */


#include "ngx_tunnel_target.h"


static const char *ngx_tunnel_target_name(ngx_tunnel_target_t *t, u_char *data,
    size_t len);
static const char *ngx_tunnel_target_inet6(ngx_tunnel_target_t *t,
    u_char *data, size_t len);
static void ngx_tunnel_target_inet6_text(ngx_tunnel_target_t *t);
static void ngx_tunnel_target_inet_text(ngx_tunnel_target_t *t);
static void ngx_tunnel_target_port(ngx_tunnel_target_t *t, ngx_uint_t port);
static ngx_uint_t ngx_tunnel_target_numeric(u_char *data, size_t len);


const char *
ngx_tunnel_target_parse(ngx_tunnel_target_t *t, u_char *data, size_t len)
{
    u_char      *p, *last, *colon;
    ngx_uint_t   port;
    const char  *err;

    last = data + len;
    colon = NULL;

    for (p = data; p < last; p++) {

        switch (*p) {

        case ':':
            colon = p;
            break;

        case '@':
            return "user information is not allowed";

        case '/':
            return "a scheme or a path is not allowed";

        case '?':
            return "a query is not allowed";

        case '#':
            return "a fragment is not allowed";

        case '%':
            return "percent-encoding is not allowed";
        }
    }

    if (colon == NULL || (data[0] == '[' && last[-1] == ']')) {
        return "a port is missing";
    }

    err = ngx_tunnel_target_parse_host(t, data, colon - data);
    if (err) {
        return err;
    }

    if (colon + 1 == last) {
        return "the port is empty";
    }

    port = ngx_tunnel_target_parse_port(colon + 1, last - colon - 1);
    if (port == 0) {
        return "the port is not a number from 1 to 65535";
    }

    ngx_tunnel_target_port(t, port);

    return NULL;
}


const char *
ngx_tunnel_target_set(ngx_tunnel_target_t *t, u_char *host, size_t len,
    in_port_t port)
{
    const char  *err;

    if (len && host[0] != '[' && ngx_strlchr(host, host + len, ':')) {
        err = ngx_tunnel_target_inet6(t, host, len);

    } else {
        err = ngx_tunnel_target_parse_host(t, host, len);
    }

    if (err == NULL) {
        ngx_tunnel_target_port(t, port);
    }

    return err;
}


void
ngx_tunnel_target_set_address(ngx_tunnel_target_t *t, int family, u_char *addr,
    in_port_t port)
{
    t->family = family;

    if (family == AF_INET) {
        ngx_memcpy(&t->addr.in, addr, sizeof(struct in_addr));
        ngx_tunnel_target_inet_text(t);

    } else {
        ngx_memcpy(&t->addr.in6, addr, sizeof(struct in6_addr));
        ngx_tunnel_target_inet6_text(t);
    }

    ngx_tunnel_target_port(t, port);
}


const char *
ngx_tunnel_target_parse_host(ngx_tunnel_target_t *t, u_char *data, size_t len)
{
    if (len == 0) {
        return "the host is empty";
    }

    if (data[0] == '[') {

        if (len < 2 || data[len - 1] != ']') {
            return "a bracket is not closed";
        }

        return ngx_tunnel_target_inet6(t, data + 1, len - 2);
    }

    return ngx_tunnel_target_name(t, data, len);
}


ngx_tunnel_target_t *
ngx_tunnel_target_copy(ngx_pool_t *pool, ngx_tunnel_target_t *t)
{
    size_t                size;
    ngx_tunnel_target_t  *copy;

    size = offsetof(ngx_tunnel_target_t, buf)
           + (t->text.data - t->buf) + t->text.len;

    copy = ngx_palloc(pool, size);
    if (copy == NULL) {
        return NULL;
    }

    ngx_memcpy(copy, t, size);

    copy->text.data = copy->buf + (t->text.data - t->buf);
    copy->host.data = copy->buf + (t->host.data - t->buf);

    return copy;
}


void
ngx_tunnel_ip(u_char *ip, int family, void *addr)
{
    if (family == AF_INET6) {
        ngx_memcpy(ip, addr, 16);
        return;
    }

    ngx_memzero(ip, 10);

    ip[10] = 0xff;
    ip[11] = 0xff;

    ngx_memcpy(ip + 12, addr, 4);
}


int
ngx_tunnel_ip_family(u_char *ip)
{
    struct in6_addr  in6;

    ngx_memcpy(&in6, ip, sizeof(struct in6_addr));

    return IN6_IS_ADDR_V4MAPPED(&in6) ? AF_INET : AF_INET6;
}


struct sockaddr *
ngx_tunnel_unmapped(struct sockaddr *sa, struct sockaddr_in *sin)
{
    struct sockaddr_in6  *sin6;

    sin6 = (struct sockaddr_in6 *) sa;

    if (sa->sa_family != AF_INET6
        || !IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr))
    {
        return sa;
    }

    ngx_memzero(sin, sizeof(struct sockaddr_in));
    sin->sin_family = AF_INET;
    sin->sin_port = sin6->sin6_port;
    ngx_memcpy(&sin->sin_addr.s_addr, sin6->sin6_addr.s6_addr + 12, 4);

    return (struct sockaddr *) sin;
}


ngx_uint_t
ngx_tunnel_target_parse_port(u_char *data, size_t len)
{
    ngx_uint_t  port;

    /* one digit more than needed lets a zero stand in front */

    if (len == 0 || len > sizeof("065535") - 1) {
        return 0;
    }

    for (port = 0; len; len--, data++) {

        if (*data < '0' || *data > '9') {
            return 0;
        }

        port = port * 10 + (*data - '0');
    }

    return port > 65535 ? 0 : port;
}


static const char *
ngx_tunnel_target_name(ngx_tunnel_target_t *t, u_char *data, size_t len)
{
    u_char  *p, *last, *label, ch, text[NGX_INET_ADDRSTRLEN + 1];

    if (data[len - 1] == '.') {
        len--;
    }

    if (len == 0) {
        return "the host is empty";
    }

    if (len > NGX_TUNNEL_HOST_LEN) {
        return "the host is longer than 253 bytes";
    }

    p = t->buf;
    last = data + len;
    label = data;

    for ( /* void */ ; data < last; data++) {

        ch = *data;

        if (ch == '.') {

            if (data == label) {
                return "the host has an empty label";
            }

            label = data + 1;

        } else if (ch >= 'A' && ch <= 'Z') {
            ch |= 0x20;

        } else if (ch == ':') {
            return "an IPv6 address must be in brackets";

        } else if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')
                     || ch == '-' || ch == '_'))
        {
            return "the host has an invalid character";
        }

        if (data - label >= NGX_TUNNEL_LABEL_LEN) {
            return "the host has a label longer than 63 bytes";
        }

        *p++ = ch;
    }

    if (label == last) {
        return "the host has an empty label";
    }

    t->host.data = t->buf;
    t->host.len = p - t->buf;
    t->family = AF_UNSPEC;

    /*
     * Resolvers and inet_aton() take "127.1", "0x7f000001" and "017700000001"
     * for addresses.  A host that ends in a number is an address to us as
     * well, and it has to be written as one.
     */

    if (ngx_tunnel_target_numeric(p - (last - label), last - label)) {

        /* inet_pton() refuses leading zeros, which mean octal to some */

        ngx_cpystrn(text, t->buf, ngx_min(t->host.len + 1, sizeof(text)));

        if (t->host.len >= sizeof(text)
            || inet_pton(AF_INET, (char *) text, &t->addr.in) != 1)
        {
            return "an IPv4 address must be four decimal numbers";
        }

        t->family = AF_INET;
    }

    return NULL;
}


static const char *
ngx_tunnel_target_inet6(ngx_tunnel_target_t *t, u_char *data, size_t len)
{
    u_char  text[INET6_ADDRSTRLEN];

    if (len < sizeof(text)) {
        ngx_cpystrn(text, data, len + 1);
    }

    if (len >= sizeof(text)
        || ngx_strlen(text) != len
        || inet_pton(AF_INET6, (char *) text, &t->addr.in6) != 1)
    {
        return "the IPv6 address is invalid";
    }

    ngx_tunnel_target_inet6_text(t);

    return NULL;
}


static void
ngx_tunnel_target_inet6_text(ngx_tunnel_target_t *t)
{
    u_char          text[INET6_ADDRSTRLEN];
    struct in_addr  in;

    if (IN6_IS_ADDR_V4MAPPED(&t->addr.in6)) {

        /* RFC 4291 2.5.5.2: it is the IPv4 address, also to the rules */

        ngx_memcpy(&in, &t->addr.in6.s6_addr[12], 4);

        t->addr.in = in;

        ngx_tunnel_target_inet_text(t);

        return;
    }

    /* a valid address always fits, brackets and all */

    (void) inet_ntop(AF_INET6, &t->addr.in6, (char *) text, sizeof(text));

    t->family = AF_INET6;
    t->host.data = t->buf;
    t->host.len = ngx_sprintf(t->buf, "[%s]", text) - t->buf;
}


static void
ngx_tunnel_target_inet_text(ngx_tunnel_target_t *t)
{
    u_char  text[INET_ADDRSTRLEN];

    (void) inet_ntop(AF_INET, &t->addr.in, (char *) text, sizeof(text));

    t->family = AF_INET;
    t->host.data = t->buf;
    t->host.len = ngx_sprintf(t->buf, "%s", text) - t->buf;
}


/* behind the host */

static void
ngx_tunnel_target_port(ngx_tunnel_target_t *t, ngx_uint_t port)
{
    t->port = (in_port_t) port;
    t->text.data = t->buf;
    t->text.len = ngx_sprintf(t->host.data + t->host.len, ":%ui", port)
                  - t->buf;
}


/* whether a label is a number as the URL standard's host parser has it */

static ngx_uint_t
ngx_tunnel_target_numeric(u_char *data, size_t len)
{
    size_t  i;

    if (len >= 2 && data[0] == '0' && data[1] == 'x') {

        for (i = 2; i < len; i++) {

            if (!((data[i] >= '0' && data[i] <= '9')
                  || (data[i] >= 'a' && data[i] <= 'f')))
            {
                return 0;
            }
        }

        return 1;
    }

    for (i = 0; i < len; i++) {

        if (data[i] < '0' || data[i] > '9') {
            return 0;
        }
    }

    return 1;
}
