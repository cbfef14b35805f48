
/*
 * How a tunnel begins: the target may be told who the client is, and the
 * client's first bytes may have to be a ClientHello.
 */


#include "ngx_tunnel_session.h"
#include "ngx_tunnel_sniff.h"


/*
 * The longest header of the PROXY protocol, which is one of text; see 2.1 and
 * 2.2 of HAProxy's doc/proxy-protocol.txt.
 */

#define NGX_TUNNEL_PROXY_LEN  107


/* reads of what is dropped behind an alert, at most */

#define NGX_TUNNEL_BEGIN_READS  8


/* the ends of a client's connection, see ngx_tunnel_ip() */

typedef struct {
    int         family;              /* AF_UNSPEC: they are not known */
    u_char      src[NGX_TUNNEL_IP_LEN];
    u_char      dst[NGX_TUNNEL_IP_LEN];
    in_port_t   src_port;
    in_port_t   dst_port;
} ngx_tunnel_begin_ends_t;


static ngx_int_t ngx_tunnel_begin_header(ngx_tunnel_session_t *s,
    ngx_connection_t *c, ngx_str_t *header);
static ngx_int_t ngx_tunnel_begin_ends(ngx_tunnel_session_t *s,
    ngx_connection_t *c, ngx_tunnel_begin_ends_t *ends);
static u_char *ngx_tunnel_begin_proxy_v1(ngx_tunnel_begin_ends_t *ends,
    u_char *p);
static u_char *ngx_tunnel_begin_proxy_v2(ngx_tunnel_begin_ends_t *ends,
    u_char *p);
static ngx_int_t ngx_tunnel_begin_check(ngx_tunnel_relay_t *relay, u_char *p,
    size_t len, ngx_tunnel_reason_e *reason);
static void ngx_tunnel_begin_alert(ngx_tunnel_relay_t *relay);
static ngx_uint_t ngx_tunnel_begin_same(ngx_tunnel_sniff_t *sn,
    ngx_tunnel_target_t *target);


ngx_int_t
ngx_tunnel_session_begin(ngx_tunnel_session_t *s, ngx_tunnel_relay_t *relay)
{
    ngx_uint_t                 header, check;
    ngx_tunnel_relay_begin_t  *begin;

    check = (s->policy->require_tls != NGX_TUNNEL_TLS_OFF);
    header = (s->policy->proxy_protocol && !s->passive);

    if (!check && !header) {
        return NGX_OK;
    }

    begin = ngx_pcalloc(s->pool, sizeof(ngx_tunnel_relay_begin_t));
    if (begin == NULL) {
        return NGX_ERROR;
    }

    relay->begin = begin;

    if (check) {
        begin->check = ngx_tunnel_begin_check;
    }

    if (header) {
        return ngx_tunnel_begin_header(s, relay->client.connection,
                                       &begin->header);
    }

    return NGX_OK;
}


/* nginx's own writer goes by the client's family, whatever the other end's */

static ngx_int_t
ngx_tunnel_begin_header(ngx_tunnel_session_t *s, ngx_connection_t *c,
    ngx_str_t *header)
{
    u_char                   *p;
    ngx_tunnel_begin_ends_t   ends;

    if (ngx_tunnel_begin_ends(s, c, &ends) != NGX_OK) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(s->pool, NGX_TUNNEL_PROXY_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    header->data = p;

    p = (s->policy->proxy_protocol == 1) ? ngx_tunnel_begin_proxy_v1(&ends, p)
                                         : ngx_tunnel_begin_proxy_v2(&ends, p);

    header->len = p - header->data;

    return NGX_OK;
}


static ngx_int_t
ngx_tunnel_begin_ends(ngx_tunnel_session_t *s, ngx_connection_t *c,
    ngx_tunnel_begin_ends_t *ends)
{
    ngx_addr_t        addr;
    struct sockaddr  *src, *dst;

    if (ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    ends->family = AF_UNSPEC;

    src = c->sockaddr;
    dst = c->local_sockaddr;

    if (dst->sa_family == AF_UNIX
        && c->proxy_protocol
        && ngx_parse_addr(s->pool, &addr, c->proxy_protocol->dst_addr.data,
                          c->proxy_protocol->dst_addr.len)
           == NGX_OK)
    {
        /* whom the client has connected to before it came to us */

        ngx_inet_set_port(addr.sockaddr, c->proxy_protocol->dst_port);
        dst = addr.sockaddr;
    }

    if (src->sa_family == AF_UNIX || dst->sa_family == AF_UNIX) {
        return NGX_OK;
    }

    ends->src_port = ngx_tunnel_socket_ip(ends->src, src);
    ends->dst_port = ngx_tunnel_socket_ip(ends->dst, dst);

    ends->family = (ngx_tunnel_ip_family(ends->src) == AF_INET
                    && ngx_tunnel_ip_family(ends->dst) == AF_INET)
                   ? AF_INET : AF_INET6;

    return NGX_OK;
}


static u_char *
ngx_tunnel_begin_proxy_v1(ngx_tunnel_begin_ends_t *ends, u_char *p)
{
    size_t  skip;

    if (ends->family == AF_UNSPEC) {
        return ngx_cpymem(p, "PROXY UNKNOWN" CRLF,
                          sizeof("PROXY UNKNOWN" CRLF) - 1);
    }

    skip = (ends->family == AF_INET) ? NGX_TUNNEL_IP_LEN - 4 : 0;

    p = ngx_cpymem(p, skip ? "PROXY TCP4 " : "PROXY TCP6 ",
                   sizeof("PROXY TCP4 ") - 1);

    p += ngx_inet_ntop(ends->family, ends->src + skip, p,
                       NGX_INET6_ADDRSTRLEN);
    *p++ = ' ';
    p += ngx_inet_ntop(ends->family, ends->dst + skip, p,
                       NGX_INET6_ADDRSTRLEN);

    return ngx_sprintf(p, " %ui %ui" CRLF, (ngx_uint_t) ends->src_port,
                       (ngx_uint_t) ends->dst_port);
}


static u_char *
ngx_tunnel_begin_proxy_v2(ngx_tunnel_begin_ends_t *ends, u_char *p)
{
    size_t  skip, len;

    p = ngx_cpymem(p, "\r\n\r\n\0\r\nQUIT\n", 12);

    /* version and command, family and TCP, and the length of what follows */

    if (ends->family == AF_UNSPEC) {
        return ngx_cpymem(p, "\x20\0\0\0", 4);             /* LOCAL */
    }

    skip = (ends->family == AF_INET) ? NGX_TUNNEL_IP_LEN - 4 : 0;
    len = NGX_TUNNEL_IP_LEN - skip;

    *p++ = 0x21;                                          /* PROXY */
    *p++ = skip ? 0x11 : 0x21;
    *p++ = 0;
    *p++ = (u_char) (2 * (len + 2));

    p = ngx_cpymem(p, ends->src + skip, len);
    p = ngx_cpymem(p, ends->dst + skip, len);

    *p++ = (u_char) (ends->src_port >> 8);
    *p++ = (u_char) ends->src_port;
    *p++ = (u_char) (ends->dst_port >> 8);
    *p++ = (u_char) ends->dst_port;

    return p;
}


/* see ngx_tunnel_relay_check_pt; what is wrong is said in the log */

static ngx_int_t
ngx_tunnel_begin_check(ngx_tunnel_relay_t *relay, u_char *p, size_t len,
    ngx_tunnel_reason_e *reason)
{
    ngx_int_t              rc;
    ngx_tunnel_sniff_t     sn;
    ngx_tunnel_target_t   *target;
    ngx_tunnel_session_t  *s;

    s = relay->data;

    rc = ngx_tunnel_sniff_tls(&sn, p, len);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc == NGX_DECLINED) {
        *reason = NGX_TUNNEL_NOT_TLS;

        if (sn.error) {
            ngx_log_error(NGX_LOG_INFO, s->log, 0,
                          "malformed ClientHello: %s", sn.error);
        }

        return NGX_DECLINED;
    }

    if (sn.host.len) {
        s->sni.data = ngx_pstrdup(s->pool, &sn.host);
        if (s->sni.data == NULL) {
            *reason = NGX_TUNNEL_ERROR;
            return NGX_DECLINED;
        }

        s->sni.len = sn.host.len;
    }

    target = s->requested ? s->requested : s->target;

    if (s->policy->require_tls == NGX_TUNNEL_TLS_SNI
        && target
        && !ngx_tunnel_begin_same(&sn, target))
    {
        if (sn.error) {
            ngx_log_error(NGX_LOG_INFO, s->log, 0,
                          "invalid name in ClientHello: %s", sn.error);
        }

        ngx_tunnel_begin_alert(relay);

        *reason = NGX_TUNNEL_SNI_MISMATCH;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* what the client has sent behind the hello would turn the end to a reset */

static void
ngx_tunnel_begin_alert(ngx_tunnel_relay_t *relay)
{
    u_char             alert[NGX_TUNNEL_ALERT_LEN];
    ssize_t            n;
    ngx_uint_t         i;
    ngx_tunnel_end_t  *client;

    client = &relay->client;

    n = client->ops->send(client,
                       ngx_tunnel_alert(alert, NGX_TUNNEL_UNRECOGNIZED_NAME),
                       NGX_TUNNEL_ALERT_LEN);

    for (i = 0; n > 0 && i < NGX_TUNNEL_BEGIN_READS; i++) {
        n = client->ops->recv(client, relay->worker->scratch,
                              relay->worker->size);
    }
}


/* both are in canonical form; whom an address means it need not tell again */

static ngx_uint_t
ngx_tunnel_begin_same(ngx_tunnel_sniff_t *sn, ngx_tunnel_target_t *target)
{
    if (sn->kind == NGX_TUNNEL_HOST_NONE) {
        return target->family != AF_UNSPEC;
    }

    return sn->host.len == target->host.len
           && ngx_memcmp(sn->host.data, target->host.data, sn->host.len) == 0;
}
