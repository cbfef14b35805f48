
/*
 * SOCKS4, SOCKS4a, SOCKS5 (RFC 1928), and its username/password method (RFC
 * 1929): messages, as pure functions over bytes.
 */


#ifndef _NGX_TUNNEL_SOCKS_H_INCLUDED_
#define _NGX_TUNNEL_SOCKS_H_INCLUDED_


#include "ngx_tunnel_target.h"


#pragma GCC visibility push(hidden)


/* commands, of both versions */

#define NGX_TUNNEL_SOCKS_CONNECT    1
#define NGX_TUNNEL_SOCKS_BIND       2
#define NGX_TUNNEL_SOCKS_UDP        3            /* of SOCKS5 */

/* methods, RFC 1928 3 */

#define NGX_TUNNEL_SOCKS_NO_AUTH    0x00
#define NGX_TUNNEL_SOCKS_PASSWORD   0x02
#define NGX_TUNNEL_SOCKS_NO_METHOD  0xff

/* the code for a network that cannot be reached, which is no result of ours */

#define NGX_TUNNEL_SOCKS_NETWORK    3

/* what a name of SOCKS may have, also a userid */

#define NGX_TUNNEL_SOCKS_NAME       255

/*
 * The longest message of a client, bytes: SOCKS4a with a userid and a host.
 * With that many bytes a message is complete or has an error.
 */

#define NGX_TUNNEL_SOCKS_MESSAGE    (8 + 2 * (NGX_TUNNEL_SOCKS_NAME + 1))

/* the longest reply, and the longest header of a datagram to a client */

#define NGX_TUNNEL_SOCKS_REPLY      (4 + 16 + 2)


/*
 * What a client asks for.  The strings point into the input, and host:port of
 * the target into itself.  A target that is an IPv4 or IPv6 address may have
 * come as text.  The port may be 0, but not for CONNECT.  With UDP ASSOCIATE
 * the target is where the client will send from, as far as it knows.
 */

typedef struct {
    ngx_tunnel_result_e      result;     /* NGX_TUNNEL_OK, or what is wrong */
    const char              *what;       /* in English, or NULL */
    ngx_uint_t               command;    /* as it is in the message, or 0 */
    ngx_str_t                user;       /* SOCKS4: userid */
    unsigned                 named:1;    /* SOCKS4a */
    ngx_tunnel_target_t      target;     /* if the result is NGX_TUNNEL_OK */
} ngx_tunnel_socks_request_t;


/*
 * Each takes one message, from *pos on, that is complete before last.  Returns
 * NGX_OK with *pos behind it, NGX_AGAIN if there have to be more bytes, or
 * NGX_ERROR if it is no such message; then *pos is as it was.
 *
 * A request that is well-formed or not is NGX_OK: its result tells, and how to
 * reply.  If its end cannot be told, *pos is last.
 */

/*
 * RFC 1928 3: the methods are one byte each.  The version was looked at, for
 * it tells what the message is.
 */

ngx_int_t ngx_tunnel_socks5_methods(u_char **pos, u_char *last,
    ngx_str_t *methods);

/* RFC 1929 2 */

ngx_int_t ngx_tunnel_socks5_password(u_char **pos, u_char *last,
    ngx_str_t *user, ngx_str_t *password);

/* RFC 1928 4 */

ngx_int_t ngx_tunnel_socks5_request(u_char **pos, u_char *last,
    ngx_tunnel_socks_request_t *r);

/*
 * The memo "SOCKS: A protocol for TCP proxy across firewalls", and that of 4A.
 * The version was looked at.
 */

ngx_int_t ngx_tunnel_socks4_request(u_char **pos, u_char *last,
    ngx_tunnel_socks_request_t *r);


/*
 * Each writes a reply, whose code is that of the result table, and an address,
 * which may be NULL or none of IP for one of zeroes, to buf, which has room
 * for NGX_TUNNEL_SOCKS_REPLY bytes, and returns its end.
 */

u_char *ngx_tunnel_socks5_reply(u_char *buf, ngx_uint_t code,
    struct sockaddr *sa);
u_char *ngx_tunnel_socks4_reply(u_char *buf, ngx_uint_t code,
    struct sockaddr *sa);


/*
 * The header of a datagram, RFC 1928 7.  The first takes the one that is at
 * *pos, and returns NGX_OK with *pos at the payload, or NGX_DECLINED if the
 * datagram is to be dropped: it is a fragment, or invalid, or for port 0.  It
 * is for an address, and then host is empty, or for a host, which has to be
 * looked at with ngx_tunnel_target_set(), and then the family is AF_UNSPEC.
 *
 * The second writes one, for a datagram from sa, and returns its end.
 */

ngx_int_t ngx_tunnel_socks5_datagram(u_char **pos, u_char *last,
    ngx_sockaddr_t *sa, ngx_str_t *host, in_port_t *port);
u_char *ngx_tunnel_socks5_datagram_header(u_char *buf, struct sockaddr *sa);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_SOCKS_H_INCLUDED_ */
