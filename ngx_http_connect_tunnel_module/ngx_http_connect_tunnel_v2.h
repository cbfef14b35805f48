
/*
 * HTTP/2: connections whose header blocks nginx gets as it can read them, and
 * streams as ends of tunnels.
 */


#ifndef _NGX_HTTP_CONNECT_TUNNEL_V2_H_INCLUDED_
#define _NGX_HTTP_CONNECT_TUNNEL_V2_H_INCLUDED_


#include "ngx_http_connect_tunnel_module.h"


#if (NGX_HTTP_TUNNEL_V2)

#include "ngx_http_connect_tunnel_hpack.h"


#pragma GCC visibility push(hidden)


/* a connection begins with it, RFC 9113 3.4 */

#define NGX_HTTP_TUNNEL_PREFACE  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


typedef struct ngx_http_tunnel_stream_s  ngx_http_tunnel_stream_t;


/* of a connection, between it and nginx */

typedef struct {
    ngx_connection_t          *connection;
    ngx_http_connection_t     *hc;
    ngx_recv_pt                recv;         /* of the connection itself */

    ngx_http_hpack_t           hpack;

    size_t                     skip;         /* bytes before the preface */
    size_t                     preface;      /* of which so many come */

    u_char                     held[NGX_HTTP_HPACK_FRAME];
    size_t                     nheld;        /* of a frame's header */

    u_char                    *raw;          /* memory, or NULL */
    u_char                    *pos;          /* read, not looked at */
    u_char                    *last;

    /* the frame that passes */

    size_t                     rest;         /* bytes that come */
    size_t                     padding;      /* at its end */
    ngx_uint_t                 sid;

    size_t                     nread;        /* of what nginx will count */

    ngx_http_tunnel_stream_t  *feeding;      /* gets bytes right now */

    unsigned                   verified:1;   /* the preface is one */
    unsigned                   data:1;       /* the frame may be a tunnel's */
    unsigned                   eof:1;        /* and its last */
    unsigned                   padded:1;     /* its first byte tells */
    unsigned                   more:1;       /* to read of the connection */
    unsigned                   lost:1;       /* the client has gone */
    unsigned                   connect:1;    /* that was read last is a
                                                CONNECT, or part of one */
} ngx_http_tunnel_v2_t;


/* whether nginx takes HTTP/2 on a connection */

ngx_uint_t ngx_http_connect_tunnel_v2_enabled(ngx_http_connection_t *hc);

/*
 * For a connection that nothing of HTTP/2 was read from; the memory is its
 * pool's until ngx_http_connect_tunnel_v2_free(), which is called last.
 * Returns NULL if there is none.
 */

ngx_http_tunnel_v2_t *ngx_http_connect_tunnel_v2_create(ngx_connection_t *c,
    ngx_http_connection_t *hc, ngx_recv_pt recv);
void ngx_http_connect_tunnel_v2_free(ngx_http_tunnel_v2_t *v);

/*
 * Bytes that were read already, so many of them before HTTP/2 begins; NGX_OK
 * or NGX_ERROR.
 */

ngx_int_t ngx_http_connect_tunnel_v2_unread(ngx_http_tunnel_v2_t *v,
    u_char *p, size_t size, size_t skip);

/*
 * As the connection's.  When it has read of a block that is a CONNECT, there
 * is nothing else in the buffer, and hpack.sid is its stream.
 */

ssize_t ngx_http_connect_tunnel_v2_recv(ngx_http_tunnel_v2_t *v, u_char *buf,
    size_t size);

/*
 * Makes the stream of a request the client's end of its relay, which is not
 * begun; NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_connect_tunnel_v2_end(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_tunnel_v2_t *v);

/* for the events of the stream: whether the tunnel goes on */

ngx_uint_t ngx_http_connect_tunnel_v2_event(ngx_http_tunnel_stream_t *st);

/* the tunnel has ended: tells the client, unless it knows */

void ngx_http_connect_tunnel_v2_close(ngx_http_tunnel_stream_t *st,
    ngx_tunnel_reason_e reason);


#pragma GCC visibility pop

#endif


#endif /* _NGX_HTTP_CONNECT_TUNNEL_V2_H_INCLUDED_ */
