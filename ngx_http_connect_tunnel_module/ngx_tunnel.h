
/*
 * The tunnel engine: what its parts share.
 *
 * The engine knows nothing of http or stream.  A front end negotiates a
 * target with a client, asks the rules, lets the connector reach it and the
 * relay move bytes.  An attempt ends in one result, a tunnel in one reason;
 * both are translated in one table, see ngx_tunnel_result.c.
 */


#ifndef _NGX_TUNNEL_H_INCLUDED_
#define _NGX_TUNNEL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


/*
 * Two modules carry a copy of the engine each; hidden symbols keep the second
 * one loaded from running the first one's code.
 */

#pragma GCC visibility push(hidden)


/* how an attempt to open a tunnel ended */

typedef enum {
    NGX_TUNNEL_OK = 0,
    NGX_TUNNEL_BAD_REQUEST,
    NGX_TUNNEL_BAD_VERSION,
    NGX_TUNNEL_TOO_EARLY,
    NGX_TUNNEL_DENIED_NAME,
    NGX_TUNNEL_DENIED_ADDRESS,
    NGX_TUNNEL_RESOLVE_FAILED,
    NGX_TUNNEL_RESOLVE_TIMEOUT,
    NGX_TUNNEL_REFUSED,
    NGX_TUNNEL_UNREACHABLE,
    NGX_TUNNEL_CONNECT_TIMEOUT,
    NGX_TUNNEL_CLIENT_LIMIT,
    NGX_TUNNEL_MACHINE_LIMIT,
    NGX_TUNNEL_INTERNAL,
    NGX_TUNNEL_BAD_COMMAND,
    NGX_TUNNEL_BAD_ADDRESS,
    NGX_TUNNEL_AUTH_FAILED,
    NGX_TUNNEL_HANDSHAKE_TIMEOUT,
    NGX_TUNNEL_REJECTED,
    NGX_TUNNEL_LIMIT,
    NGX_TUNNEL_NO_RESULT
} ngx_tunnel_result_e;


/* how an opened tunnel ended */

typedef enum {
    NGX_TUNNEL_COMPLETED = 0,
    NGX_TUNNEL_CLIENT_CLOSED,
    NGX_TUNNEL_TARGET_CLOSED,
    NGX_TUNNEL_CLIENT_RESET,
    NGX_TUNNEL_TARGET_RESET,
    NGX_TUNNEL_IDLE_TIMEOUT,
    NGX_TUNNEL_SEND_TIMEOUT,
    NGX_TUNNEL_MIN_RATE,
    NGX_TUNNEL_MAX_LIFETIME,
    NGX_TUNNEL_MAX_PAYLOAD,
    NGX_TUNNEL_QUOTA,
    NGX_TUNNEL_NOT_TLS,
    NGX_TUNNEL_SNI_MISMATCH,
    NGX_TUNNEL_KILLED,
    NGX_TUNNEL_DENIED,
    NGX_TUNNEL_SHUTDOWN,
    NGX_TUNNEL_WORKER_EXITED,    /* is counted, and can't be logged */
    NGX_TUNNEL_ERROR,
    NGX_TUNNEL_NO_REASON
} ngx_tunnel_reason_e;


typedef struct {
    ngx_str_t    token;          /* $tunnel_result */
    ngx_uint_t   status;         /* HTTP status */
    ngx_uint_t   socks5;         /* reply code, RFC 1928 6 */
    ngx_uint_t   socks4;         /* and that of SOCKS4 */
    ngx_uint_t   level;          /* of the error log */
    ngx_str_t    error;          /* Proxy-Status error type, RFC 9209 */
} ngx_tunnel_result_t;


/*
 * Both return a constant; an index out of range gives an entry with an empty
 * token.
 */

const ngx_tunnel_result_t *ngx_tunnel_result(ngx_tunnel_result_e result);
const ngx_str_t *ngx_tunnel_reason(ngx_tunnel_reason_e reason);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_H_INCLUDED_ */
