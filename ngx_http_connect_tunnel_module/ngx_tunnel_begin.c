
/*
 * How a tunnel begins: the target may be told who the client is, and the
 * client's first bytes may have to be a ClientHello.
 */


#include "ngx_tunnel_session.h"
#include "ngx_tunnel_sniff.h"


/* the PROXY protocol of HAProxy, doc/proxy-protocol.txt there, 2.1 and 2.2 */

#define NGX_TUNNEL_PROXY_V1_LEN    107
#define NGX_TUNNEL_PROXY_V2_LEN    16
#define NGX_TUNNEL_PROXY_V2_INET   (4 + 4 + 2 + 2)
#define NGX_TUNNEL_PROXY_V2_INET6  (16 + 16 + 2 + 2)


static u_char *ngx_tunnel_begin_proxy_v2(ngx_connection_t *c, u_char *p);
static ngx_int_t ngx_tunnel_begin_check(ngx_tunnel_relay_t *relay,
    ngx_tunnel_reason_e *reason);
static ngx_uint_t ngx_tunnel_begin_same(ngx_tunnel_sniff_t *sn,
    ngx_tunnel_target_t *target);


ngx_int_t
ngx_tunnel_session_begin(ngx_tunnel_session_t *s, ngx_tunnel_relay_t *relay)
{
    u_char            *p;
    ngx_connection_t  *c;

    if (s->policy->require_tls != NGX_TUNNEL_TLS_OFF) {
        relay->check = ngx_tunnel_begin_check;
    }

    if (s->policy->proxy_protocol == 0 || s->passive) {
        return NGX_OK;
    }

    c = relay->client.connection;

    if (ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(s->pool, NGX_TUNNEL_PROXY_V1_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    relay->header.data = p;

    p = (s->policy->proxy_protocol == 1)
        ? ngx_proxy_protocol_write(c, p, p + NGX_TUNNEL_PROXY_V1_LEN)
        : ngx_tunnel_begin_proxy_v2(c, p);

    if (p == NULL) {
        return NGX_ERROR;
    }

    relay->header.len = p - relay->header.data;

    return NGX_OK;
}


static u_char *
ngx_tunnel_begin_proxy_v2(ngx_connection_t *c, u_char *p)
{
    struct sockaddr      *src, *dst;
    struct sockaddr_in    sin[2], *sin_src, *sin_dst;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6_src, *sin6_dst;
#endif

    src = ngx_tunnel_unmapped(c->sockaddr, &sin[0]);
    dst = ngx_tunnel_unmapped(c->local_sockaddr, &sin[1]);

    p = ngx_cpymem(p, "\r\n\r\n\0\r\nQUIT\n", 12);

    *p++ = 0x21;                             /* version 2, PROXY */

    switch (src->sa_family == dst->sa_family ? src->sa_family : AF_UNSPEC) {

    case AF_INET:
        sin_src = (struct sockaddr_in *) src;
        sin_dst = (struct sockaddr_in *) dst;

        *p++ = 0x11;                         /* TCP over IPv4 */
        *p++ = 0;
        *p++ = NGX_TUNNEL_PROXY_V2_INET;

        p = ngx_cpymem(p, &sin_src->sin_addr, 4);
        p = ngx_cpymem(p, &sin_dst->sin_addr, 4);
        p = ngx_cpymem(p, &sin_src->sin_port, 2);

        return ngx_cpymem(p, &sin_dst->sin_port, 2);

#if (NGX_HAVE_INET6)

    case AF_INET6:
        sin6_src = (struct sockaddr_in6 *) src;
        sin6_dst = (struct sockaddr_in6 *) dst;

        *p++ = 0x21;                         /* TCP over IPv6 */
        *p++ = 0;
        *p++ = NGX_TUNNEL_PROXY_V2_INET6;

        p = ngx_cpymem(p, &sin6_src->sin6_addr, 16);
        p = ngx_cpymem(p, &sin6_dst->sin6_addr, 16);
        p = ngx_cpymem(p, &sin6_src->sin6_port, 2);

        return ngx_cpymem(p, &sin6_dst->sin6_port, 2);

#endif

    default:

        /* such as UNIX-domain sockets, whose names are of no use elsewhere */

        *p++ = 0;                            /* unspecified */
        *p++ = 0;
        *p++ = 0;

        return p;
    }
}


/* see ngx_tunnel_relay_t; what is wrong is said in the log */

static ngx_int_t
ngx_tunnel_begin_check(ngx_tunnel_relay_t *relay, ngx_tunnel_reason_e *reason)
{
    u_char                 alert[NGX_TUNNEL_ALERT_LEN];
    ngx_int_t              rc;
    ngx_tunnel_end_t      *client;
    ngx_tunnel_sniff_t     sn;
    ngx_tunnel_session_t  *s;

    s = relay->data;
    client = &relay->client;

    rc = ngx_tunnel_sniff_tls(&sn, client->pos, client->last - client->pos);

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

    if (s->policy->require_tls == NGX_TUNNEL_TLS_SNI
        && s->target
        && !ngx_tunnel_begin_same(&sn, s->target))
    {
        (void) client->ops->send(client,
                      ngx_tunnel_alert(alert, NGX_TUNNEL_UNRECOGNIZED_NAME),
                      NGX_TUNNEL_ALERT_LEN);

        *reason = NGX_TUNNEL_SNI_MISMATCH;
        return NGX_DECLINED;
    }

    return NGX_OK;
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
