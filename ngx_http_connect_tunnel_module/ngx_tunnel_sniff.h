
/*
 * Sniff: what protocol the first bytes of a client are, and whom they name.
 *
 * Pure functions: they look at all that has come so far, from its beginning,
 * and keep nothing.
 */


#ifndef _NGX_TUNNEL_SNIFF_H_INCLUDED_
#define _NGX_TUNNEL_SNIFF_H_INCLUDED_


#include "ngx_tunnel_target.h"


#pragma GCC visibility push(hidden)


typedef enum {
    NGX_TUNNEL_UNKNOWN = 0,          /* none of these */
    NGX_TUNNEL_TIMEOUT,              /* nothing came */
    NGX_TUNNEL_TLS,                  /* a whole and valid ClientHello */
    NGX_TUNNEL_SSLV2,                /* the hello of SSLv2, RFC 5246 E.2 */
    NGX_TUNNEL_HTTP,                 /* HTTP/1.x */
    NGX_TUNNEL_HTTP2,                /* the preface, RFC 9113 3.4 */
    NGX_TUNNEL_SSH,
    NGX_TUNNEL_SOCKS4,
    NGX_TUNNEL_SOCKS5,
    NGX_TUNNEL_PROXY_PROTOCOL,       /* versions 1 and 2 */
    NGX_TUNNEL_RDP,                  /* X.224 connection request in TPKT */
    NGX_TUNNEL_POSTGRESQL,
    NGX_TUNNEL_PROTOCOLS             /* how many there are */
} ngx_tunnel_protocol_e;


/* what the name of TLS or HTTP is */

typedef enum {
    NGX_TUNNEL_HOST_NONE = 0,        /* there is none */
    NGX_TUNNEL_HOST_NAME,
    NGX_TUNNEL_HOST_ADDRESS,         /* an IP address */
    NGX_TUNNEL_HOST_INVALID          /* malformed, or not only one */
} ngx_tunnel_host_e;


#define NGX_TUNNEL_ALPN_LEN     255  /* of the text that is kept */
#define NGX_TUNNEL_METHOD_LEN   32   /* of an HTTP method */


typedef struct {
    ngx_tunnel_protocol_e  protocol;

    /*
     * TLS: server_name; HTTP: the host of the request target or, if it has
     * none, of the field Host; if there are both, they have to be the same.
     * In canonical form, see ngx_tunnel_target_t, and without a port; it
     * points into name, and is empty unless kind is HOST_NAME or
     * HOST_ADDRESS.
     */

    ngx_tunnel_host_e      kind;
    ngx_str_t              host;
    ngx_tunnel_target_t    name;

    /* HTTP */

    size_t                 method_len;
    u_char                 method[NGX_TUNNEL_METHOD_LEN];

    /*
     * TLS: the protocols of ALPN with a comma between, bytes that are not
     * printable ASCII, commas and percent signs percent-encoded; those that do
     * not fit are left out
     */

    size_t                 alpn_len;
    u_char                 alpn[NGX_TUNNEL_ALPN_LEN];

    /* TLS: 0x0300 .. 0x0304; 0: the client does not tell */

    ngx_uint_t             tls_version;      /* the highest offered */
    ngx_uint_t             tls_min_version;  /* the lowest */
    ngx_uint_t             ech;              /* encrypted_client_hello */

    const char            *error;            /* what is wrong, or NULL */
} ngx_tunnel_sniff_t;


/*
 * Looks at so many bytes; last is set if no more will come.  Returns NGX_OK if
 * sn is filled, with one of the protocols or NGX_TUNNEL_UNKNOWN, or NGX_AGAIN
 * if more bytes are needed to tell; never NGX_AGAIN if last is set.
 */

ngx_int_t ngx_tunnel_sniff(ngx_tunnel_sniff_t *sn, u_char *data, size_t len,
    ngx_uint_t last);

/*
 * Only whether they are a ClientHello of TLS (RFC 8446 4.1.2, RFC 6066 3), in
 * any number of records: NGX_OK, then sn is filled, NGX_AGAIN, or NGX_DECLINED
 * if it is none or, which sn->error tells, is malformed.
 */

ngx_int_t ngx_tunnel_sniff_tls(ngx_tunnel_sniff_t *sn, u_char *data,
    size_t len);

/*
 * A fatal alert of TLS (RFC 8446 6), for a client that gets no other answer;
 * buf has room for NGX_TUNNEL_ALERT_LEN bytes and is returned.
 */

#define NGX_TUNNEL_ALERT_LEN          7
#define NGX_TUNNEL_INTERNAL_ERROR     80
#define NGX_TUNNEL_UNRECOGNIZED_NAME  112

u_char *ngx_tunnel_alert(u_char *buf, ngx_uint_t description);

/* the name of a protocol, as in $preread_protocol */

const ngx_str_t *ngx_tunnel_protocol(ngx_tunnel_protocol_e protocol);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_SNIFF_H_INCLUDED_ */
