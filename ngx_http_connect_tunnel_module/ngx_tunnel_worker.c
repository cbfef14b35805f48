
/*
 * Worker: free lists of buffers and pipes.
 */


#include "ngx_tunnel_worker.h"

#if (NGX_OPENSSL)
#include <openssl/rand.h>
#endif


/* what is kept for the next tunnel: bytes, and pipes */

#define NGX_TUNNEL_FREE_BYTES   (1024 * 1024)
#define NGX_TUNNEL_FREE_PIPES   16

/* a pipe is two descriptors, a tunnel has two of its own */

#define NGX_TUNNEL_MAX_PIPES    256

/* a system that has no pipe is not asked again for so long, msec */

#define NGX_TUNNEL_PIPE_RETRY   1000

/* what a pipe is to hold, and what is too little to be worth a splice() */

#define NGX_TUNNEL_PIPE_SIZE    (256 * 1024)
#define NGX_TUNNEL_PIPE_LEAST   (64 * 1024)


static void ngx_tunnel_worker_cleanup(void *data);
#if (NGX_TUNNEL_HAVE_SPLICE)
static void ngx_tunnel_worker_close_pipe(ngx_tunnel_pipe_t *pipe);
#endif


ngx_int_t
ngx_tunnel_worker_init(ngx_tunnel_worker_t *w, ngx_pool_t *pool)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_tunnel_worker_cleanup;
    cln->data = w;

    return NGX_OK;
}


static void
ngx_tunnel_worker_cleanup(void *data)
{
    ngx_tunnel_worker_t  *w = data;

    ngx_tunnel_buf_t   *buf;
#if (NGX_TUNNEL_HAVE_SPLICE)
    ngx_tunnel_pipe_t  *pipe;

    while (w->pipes) {
        pipe = w->pipes;
        w->pipes = pipe->next;
        ngx_tunnel_worker_close_pipe(pipe);
    }
#endif

    while (w->bufs) {
        buf = w->bufs;
        w->bufs = buf->next;
        ngx_free(buf);
    }

    if (w->scratch) {
        ngx_free((ngx_tunnel_buf_t *) w->scratch - 1);
        w->scratch = NULL;
    }
}


ngx_int_t
ngx_tunnel_worker_scratch(ngx_tunnel_worker_t *w, ngx_log_t *log)
{
    ngx_tunnel_buf_t  *buf;

    if (w->scratch == NULL) {
        buf = ngx_tunnel_worker_get_buf(w, w->size, log);
        if (buf == NULL) {
            return NGX_ERROR;
        }

        w->scratch = (u_char *) (buf + 1);
    }

    return NGX_OK;
}


ngx_tunnel_buf_t *
ngx_tunnel_worker_take_scratch(ngx_tunnel_worker_t *w, ngx_log_t *log)
{
    u_char  *scratch;

    scratch = w->scratch;
    w->scratch = NULL;

    if (ngx_tunnel_worker_scratch(w, log) != NGX_OK) {
        w->scratch = scratch;
        return NULL;
    }

    return (ngx_tunnel_buf_t *) scratch - 1;
}


uint64_t
ngx_tunnel_worker_id(ngx_tunnel_worker_t *w)
{
    while (w->id == 0) {

#if (NGX_OPENSSL)
        if (RAND_bytes((u_char *) &w->id, sizeof(w->id)) == 1) {
            continue;
        }
#endif

        w->id = ((uint64_t) ngx_random() << 33)
                ^ ((uint64_t) ngx_random() << 11)
                ^ ((uint64_t) ngx_pid << 40) ^ (uint64_t) ngx_time();
    }

    /* 0 is none */

    return ++w->id ? w->id : ++w->id;
}


ngx_tunnel_buf_t *
ngx_tunnel_worker_get_buf(ngx_tunnel_worker_t *w, size_t size, ngx_log_t *log)
{
    ngx_tunnel_buf_t  *buf;

    buf = w->bufs;

    if (buf && size <= w->size) {
        w->bufs = buf->next;
        w->nbufs--;

        return buf;
    }

    /* what comes before a relay may be more than it reads at once */

    size = ngx_max(size, w->size);

    buf = ngx_alloc(sizeof(ngx_tunnel_buf_t) + size, log);

    if (buf) {
        buf->size = size;
    }

    return buf;
}


void
ngx_tunnel_worker_free_buf(ngx_tunnel_worker_t *w, ngx_tunnel_buf_t *buf)
{
    if ((w->nbufs + 1) * w->size > NGX_TUNNEL_FREE_BYTES
        || buf->size != w->size)
    {
        ngx_free(buf);
        return;
    }

    buf->next = w->bufs;
    w->bufs = buf;
    w->nbufs++;
}


#if (NGX_TUNNEL_HAVE_SPLICE)

ngx_tunnel_pipe_t *
ngx_tunnel_worker_get_pipe(ngx_tunnel_worker_t *w, ngx_log_t *log)
{
    ngx_tunnel_pipe_t  *pipe;

    pipe = w->pipes;

    if (pipe) {
        w->pipes = pipe->next;
        w->npipes--;
        w->used++;

        return pipe;
    }

    if (w->used >= NGX_TUNNEL_MAX_PIPES) {
        return NULL;
    }

    if (w->retry) {

        if ((ngx_msec_int_t) (w->retry - ngx_current_msec) > 0) {
            return NULL;
        }

        w->retry = 0;
    }

    pipe = ngx_alloc(sizeof(ngx_tunnel_pipe_t), log);
    if (pipe == NULL) {
        return NULL;
    }

    if (pipe2(pipe->fd, O_NONBLOCK|O_CLOEXEC) == -1) {
        ngx_log_error(NGX_LOG_INFO, log, ngx_errno,
                      "pipe2() failed, bytes are copied instead");

        ngx_free(pipe);
        w->retry = ngx_current_msec + NGX_TUNNEL_PIPE_RETRY;

        return NULL;
    }

    /* a user who has many pipes gets small ones */

    if (fcntl(pipe->fd[1], F_SETPIPE_SZ, NGX_TUNNEL_PIPE_SIZE) == -1
        && fcntl(pipe->fd[1], F_GETPIPE_SZ) < NGX_TUNNEL_PIPE_LEAST)
    {
        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "pipe buffers are used up, bytes are copied instead");

        ngx_tunnel_worker_close_pipe(pipe);
        w->retry = ngx_current_msec + NGX_TUNNEL_PIPE_RETRY;

        return NULL;
    }

    w->used++;

    return pipe;
}


void
ngx_tunnel_worker_free_pipe(ngx_tunnel_worker_t *w, ngx_tunnel_pipe_t *pipe,
    ngx_uint_t empty)
{
    w->used--;

    if (!empty || w->npipes == NGX_TUNNEL_FREE_PIPES) {
        ngx_tunnel_worker_close_pipe(pipe);
        return;
    }

    pipe->next = w->pipes;
    w->pipes = pipe;
    w->npipes++;
}


static void
ngx_tunnel_worker_close_pipe(ngx_tunnel_pipe_t *pipe)
{
    (void) close(pipe->fd[0]);
    (void) close(pipe->fd[1]);

    ngx_free(pipe);
}

#endif
