
/*
 * What the files of the status module share.
 */


#ifndef _NGX_HTTP_TUNNEL_STATUS_MODULE_H_INCLUDED_
#define _NGX_HTTP_TUNNEL_STATUS_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_tunnel_zone.h"


#pragma GCC visibility push(hidden)


#define NGX_HTTP_TUNNEL_STATUS_VERSION  "0.1.0"


/* text that grows, a chain of buffers from the pool */

typedef struct {
    ngx_pool_t                   *pool;
    ngx_chain_t                  *first;
    ngx_chain_t                 **last;
    ngx_buf_t                    *buf;
    off_t                         size;          /* bytes, all but of buf */
    ngx_uint_t                    failed;        /* there was no memory */
} ngx_http_tunnel_text_t;


/* how a string is made part of a text; of what is no UTF-8, "\xff" is made */

typedef enum {
    NGX_HTTP_TUNNEL_JSON = 0,
    NGX_HTTP_TUNNEL_LABEL,                       /* of Prometheus */
    NGX_HTTP_TUNNEL_HTML
} ngx_http_tunnel_escape_e;


void ngx_http_tunnel_text_init(ngx_http_tunnel_text_t *text, ngx_pool_t *pool);

/* as ngx_sprintf(), of at most 2048 bytes; and a string of any length */

void ngx_cdecl ngx_http_tunnel_text(ngx_http_tunnel_text_t *text,
    const char *fmt, ...);
void ngx_http_tunnel_text_escape(ngx_http_tunnel_text_t *text, u_char *p,
    size_t len, ngx_http_tunnel_escape_e escape);
void ngx_http_tunnel_text_raw(ngx_http_tunnel_text_t *text, const u_char *p,
    size_t len);

/* ends the text, maybe with the response; returns its length, or NGX_ERROR */

off_t ngx_http_tunnel_text_end(ngx_http_tunnel_text_t *text, ngx_uint_t last);


/* what there is to show: at most limit tunnels, which can be ended or not */

typedef struct {
    ngx_tunnel_snapshot_t         snap;
    ngx_uint_t                    limit;
    ngx_uint_t                    control;
    uint64_t                      now;           /* msec since the epoch */
} ngx_http_tunnel_status_t;


void ngx_http_tunnel_status_json(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st);
void ngx_http_tunnel_status_tunnel(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st, ngx_tunnel_snapshot_live_t *t);
void ngx_http_tunnel_status_prometheus(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st);
void ngx_http_tunnel_status_html(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_TUNNEL_STATUS_MODULE_H_INCLUDED_ */
