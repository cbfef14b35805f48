
/*
 * Worker: what the relays of one worker and configuration share.  Memory and
 * pipes are taken when first needed, and a few are kept for the next one.
 */


#ifndef _NGX_TUNNEL_WORKER_H_INCLUDED_
#define _NGX_TUNNEL_WORKER_H_INCLUDED_


#include "ngx_tunnel.h"


#pragma GCC visibility push(hidden)


#if (NGX_LINUX && defined SPLICE_F_MOVE)
#define NGX_TUNNEL_HAVE_SPLICE  1
#endif


/* bytes are behind it */

typedef struct ngx_tunnel_buf_s  ngx_tunnel_buf_t;

struct ngx_tunnel_buf_s {
    ngx_tunnel_buf_t         *next;
    size_t                    size;
};


typedef struct ngx_tunnel_pipe_s  ngx_tunnel_pipe_t;

struct ngx_tunnel_pipe_s {
    ngx_tunnel_pipe_t        *next;
    int                       fd[2];     /* non-blocking: to read, to write */
};


typedef struct {
    size_t                    size;      /* of a buffer: the largest
                                            relay_buffer_size */

    u_char                   *scratch;   /* NULL until the first relay */

    ngx_tunnel_buf_t         *bufs;
    ngx_uint_t                nbufs;     /* free ones */
    size_t                    held;      /* bytes of those that flows have */

    ngx_tunnel_pipe_t        *pipes;
    ngx_uint_t                npipes;    /* free ones */
    ngx_uint_t                used;      /* pipes that flows have */
    ngx_msec_t                retry;     /* no pipe is made before, or 0 */

    uint64_t                  id;        /* of the last session, or 0 */
} ngx_tunnel_worker_t;


/* registers the release of what is free with the configuration's pool */

ngx_int_t ngx_tunnel_worker_init(ngx_tunnel_worker_t *w, ngx_pool_t *pool);

/* makes sure that there is the scratch buffer; NGX_OK or NGX_ERROR */

ngx_int_t ngx_tunnel_worker_scratch(ngx_tunnel_worker_t *w, ngx_log_t *log);

/*
 * Gives the scratch buffer away, with what is in it, to one who frees it
 * later; another one takes its place.  NULL if there is no memory.
 */

ngx_tunnel_buf_t *ngx_tunnel_worker_take_scratch(ngx_tunnel_worker_t *w,
    ngx_log_t *log);

/* a number for a session, which no other one has, also of other workers */

uint64_t ngx_tunnel_worker_id(ngx_tunnel_worker_t *w);

/* for so many bytes; NULL if there is no memory */

ngx_tunnel_buf_t *ngx_tunnel_worker_get_buf(ngx_tunnel_worker_t *w,
    size_t size, ngx_log_t *log);
void ngx_tunnel_worker_free_buf(ngx_tunnel_worker_t *w, ngx_tunnel_buf_t *buf);

#if (NGX_TUNNEL_HAVE_SPLICE)

/* NULL if there are too many, or the system has none to give for now */

ngx_tunnel_pipe_t *ngx_tunnel_worker_get_pipe(ngx_tunnel_worker_t *w,
    ngx_log_t *log);

/* a pipe that is not empty is closed */

void ngx_tunnel_worker_free_pipe(ngx_tunnel_worker_t *w,
    ngx_tunnel_pipe_t *pipe, ngx_uint_t empty);

#endif


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_WORKER_H_INCLUDED_ */
