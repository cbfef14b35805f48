
/*
 * What the front ends of the stream layer share.
 */


#ifndef _NGX_STREAM_CONNECT_TUNNEL_MODULE_H_INCLUDED_
#define _NGX_STREAM_CONNECT_TUNNEL_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_stream.h>

#include "ngx_tunnel_compat.h"
#include "ngx_tunnel_session.h"


#pragma GCC visibility push(hidden)


/* of a client that leaves before there is a tunnel, as nginx's http has it */

#define NGX_STREAM_CLIENT_CLOSED  499


typedef struct {
    ngx_uint_t                    enabled;   /* a server has a front end */
    ngx_tunnel_main_t             main;
    ngx_stream_handler_pt         log;       /* of the log module */
} ngx_stream_connect_tunnel_main_conf_t;


typedef struct {
    ngx_uint_t                    enabled;   /* has a front end */
    ngx_uint_t                    resolve;   /* whose targets may be names */
    ngx_tunnel_front_e            front;     /* which one that is */
    ngx_flag_t                    anonymous; /* log */
    ngx_tunnel_conf_t             tunnel;
} ngx_stream_connect_tunnel_srv_conf_t;


/* called with the result of an attempt, once */

typedef void (*ngx_stream_tunnel_pt)(ngx_stream_session_t *s,
    ngx_tunnel_result_e result);


typedef struct {
    ngx_tunnel_session_t          session;
    ngx_stream_tunnel_pt          handler;
    ngx_uint_t                    status;    /* while it lingers */
} ngx_stream_connect_tunnel_ctx_t;


extern const ngx_tunnel_layer_t  ngx_stream_connect_tunnel_layer;


/*
 * For the directive of a front end: the server of the configuration that is
 * read has one, whose targets may be names if resolve is set.  Returns NULL,
 * or an error for the configuration to report.
 */

char *ngx_stream_connect_tunnel_enable(ngx_conf_t *cf,
    ngx_stream_content_handler_pt handler, ngx_tunnel_front_e front,
    ngx_uint_t resolve);

/*
 * For the merge of its configuration: whether no other directive has taken the
 * server's place; NGX_OK or, which the log tells, NGX_ERROR.
 */

ngx_int_t ngx_stream_connect_tunnel_check_handler(ngx_conf_t *cf,
    const char *directive, ngx_stream_content_handler_pt handler);

/* adds variables, whose ids the handler is given; NGX_OK or NGX_ERROR */

ngx_int_t ngx_stream_connect_tunnel_variables(ngx_conf_t *cf,
    const ngx_tunnel_variable_t *v, ngx_stream_get_variable_pt handler);

/*
 * Creates the tunnel session of a client, whose target and asked are then the
 * caller's to set.  The handler is called when an attempt that is under way
 * has come to its result; it is for it to relay or to finalize.  Returns NULL
 * if there is no memory.
 */

ngx_tunnel_session_t *ngx_stream_connect_tunnel_create(
    ngx_stream_session_t *s, ngx_stream_tunnel_pt handler);

/* the upstream group of that name, or NULL */

ngx_stream_upstream_srv_conf_t *ngx_stream_connect_tunnel_upstream(
    ngx_stream_session_t *s, ngx_str_t *name);

/*
 * Has the tunnel go to a UNIX-domain socket, "unix:/path", which only rules
 * can allow; NGX_TUNNEL_OK or why it can't.
 */

ngx_tunnel_result_e ngx_stream_connect_tunnel_unix(ngx_stream_session_t *s,
    ngx_str_t *name);

/*
 * Opens the tunnel, to the session's target or, if that is not NULL, to a
 * server of the upstream; the handler may be called before it returns.
 */

void ngx_stream_connect_tunnel_open(ngx_stream_session_t *s,
    ngx_stream_upstream_srv_conf_t *uscf);

/* sends what the client has sent already, and relays */

void ngx_stream_connect_tunnel_relay(ngx_stream_session_t *s);

/* ends the client's session, in any state; status is that of the log */

void ngx_stream_connect_tunnel_finalize(ngx_stream_session_t *s,
    ngx_uint_t status);

/*
 * The same for a client that has been sent the last of what it gets.  To close
 * at once could have that lost to a reset, if the client has sent more than
 * was read.
 */

void ngx_stream_connect_tunnel_linger(ngx_stream_session_t *s,
    ngx_uint_t status);

/* leaves the client out of its lines in the error log, if that is wanted */

void ngx_stream_connect_tunnel_anonymize(ngx_stream_session_t *s);

/*
 * Whom a client of TLS names, as tunnel_preread saw it, maybe an empty string;
 * NULL: it did not, or there is no ClientHello.
 */

ngx_str_t *ngx_stream_tunnel_preread_sni(ngx_stream_session_t *s);


#pragma GCC visibility pop


extern ngx_module_t  ngx_stream_connect_tunnel_module;
extern ngx_module_t  ngx_stream_tunnel_preread_module;


#endif /* _NGX_STREAM_CONNECT_TUNNEL_MODULE_H_INCLUDED_ */
