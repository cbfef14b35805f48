
/*
 * What the files of the HTTP front end share.
 */


#ifndef _NGX_HTTP_CONNECT_TUNNEL_MODULE_H_INCLUDED_
#define _NGX_HTTP_CONNECT_TUNNEL_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_tunnel_compat.h"
#include "ngx_tunnel_session.h"


/* nginx has HTTP/2, and this module libnghttp2 */

#if (NGX_HTTP_V2 && NGX_TUNNEL_NGHTTP2)

#include <ngx_http_v2_module.h>

#define NGX_HTTP_TUNNEL_V2  1

#endif


#pragma GCC visibility push(hidden)


typedef struct {
    ngx_uint_t                    enabled;   /* a server has a tunnel */
    ngx_tunnel_main_t             main;
    ngx_http_upstream_conf_t      upstream;  /* what balancers look at */
    ngx_http_handler_pt           log;       /* of the log module */
} ngx_http_connect_tunnel_main_conf_t;


typedef struct {
    ngx_uint_t                    enabled;   /* the server has a tunnel */
} ngx_http_connect_tunnel_srv_conf_t;


typedef struct ngx_http_connect_tunnel_loc_conf_s
    ngx_http_connect_tunnel_loc_conf_t;

struct ngx_http_connect_tunnel_loc_conf_s {
    ngx_http_connect_tunnel_loc_conf_t  *parent;

    ngx_flag_t                    enable;    /* set here or inherited by "if"
                                                and "limit_except" */
    ngx_flag_t                    nested;    /* set in an "if" in here */
    ngx_http_complex_value_t     *target;    /* with variables */
    ngx_http_upstream_srv_conf_t *upstream;  /* without; NULL: authority */

    ngx_tunnel_conf_t             tunnel;

    ngx_uint_t                    min_version;
    ngx_flag_t                    anonymous;
    ngx_str_t                     proxy_status;  /* empty: off */
};


/* of a CONNECT request, kept over internal redirects */

typedef struct {
    ngx_http_request_t           *request;

    ngx_tunnel_target_t          *target;    /* that was asked for; NULL: the
                                                authority is invalid */
    ngx_tunnel_session_t          session;

#if (NGX_HTTP_TUNNEL_V2)
    struct ngx_http_tunnel_stream_s  *stream;  /* of a tunnel over HTTP/2 */
#endif

    ngx_tunnel_result_e           refuse;    /* for the end of POST_READ */

    unsigned                      tunnel:1;  /* the answer is a tunnel's */
    unsigned                      auth:1;    /* 401 was turned into 407 */
    unsigned                      logged:1;  /* a line of the access log */
} ngx_http_connect_tunnel_ctx_t;


/* returns NULL unless the request is a CONNECT that came by the intake */

ngx_http_connect_tunnel_ctx_t *ngx_http_connect_tunnel_get_ctx(
    ngx_http_request_t *r);

/*
 * Called once for each CONNECT, at the start of the first phase.  What is
 * wrong with the request is kept in its context for the end of the phase,
 * when the client's address is known.  Returns NGX_OK or NGX_ERROR.
 */

ngx_int_t ngx_http_connect_tunnel_accept(ngx_http_request_t *r,
    ngx_str_t *authority);

/*
 * Makes the proxy credentials of a CONNECT those that nginx looks at; and
 * hides them, before the request is logged.
 */

void ngx_http_connect_tunnel_credentials(ngx_http_request_t *r);
void ngx_http_connect_tunnel_forget(ngx_http_request_t *r);

/*
 * Gives a pool what is unused of the first part of a list of header fields,
 * which can still grow.
 */

void ngx_http_connect_tunnel_reuse(ngx_pool_t *pool, ngx_list_t *list);

/* makes sure that a tunnel fits into a pool without a page more */

void ngx_http_connect_tunnel_room(ngx_pool_t *pool);

/* and so many bytes of it in a row */

void ngx_http_connect_tunnel_fit(ngx_pool_t *pool, size_t size);

/*
 * Frees the buffers that a request's header was read into; what points to
 * them then points to a copy.
 */

void ngx_http_connect_tunnel_compact(ngx_http_request_t *r);

/*
 * Finds the handler of the access log, for postconfiguration, before a phase
 * has handlers of ours; and writes a line of a tunnel that goes on.
 */

void ngx_http_connect_tunnel_log_init(ngx_conf_t *cf);
void ngx_http_connect_tunnel_log(ngx_tunnel_session_t *s);

/* adds the header and body filters; called in postconfiguration */

void ngx_http_connect_tunnel_filters(void);

/* whether a server takes CONNECT at all */

ngx_uint_t ngx_http_connect_tunnel_enabled(ngx_http_conf_ctx_t *ctx);

ngx_int_t ngx_http_connect_tunnel_add_variables(ngx_conf_t *cf);

/* adds a handler to a phase, in front of those that are there */

ngx_int_t ngx_http_connect_tunnel_prepend(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler);


#pragma GCC visibility pop


extern ngx_module_t  ngx_http_connect_tunnel_module;


#endif /* _NGX_HTTP_CONNECT_TUNNEL_MODULE_H_INCLUDED_ */
