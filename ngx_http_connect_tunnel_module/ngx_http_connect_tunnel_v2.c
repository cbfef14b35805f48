
/*
 * HTTP/2: what is between a client and nginx's own HTTP/2, which has no
 * CONNECT.
 *
 * Whatever the client sends is looked at before nginx reads it.  From the
 * first CONNECT on, header blocks are written anew, see
 * ngx_http_connect_tunnel_hpack.c; all other frames pass as they are.  From
 * the DATA frames of a tunnel the relay takes the bytes as they pass, and
 * nginx, which is told to skip them, still looks after windows and errors.
 *
 * What a tunnel sends goes through nginx's own frames and queues.
 */


#include "ngx_http_connect_tunnel_v2.h"


/* what the client of a tunnel may send before it is read */

#define NGX_HTTP_TUNNEL_WINDOW         (256 * 1024)

/* error codes, RFC 9113 7 */

#define NGX_HTTP_TUNNEL_NO_ERROR       0x0
#define NGX_HTTP_TUNNEL_CANCEL         0x8
#define NGX_HTTP_TUNNEL_CONNECT_ERROR  0xa

/* as many as nginx has for a connection, and of this size */

#define NGX_HTTP_TUNNEL_FRAMES         10000
#define NGX_HTTP_TUNNEL_FRAME_SIZE     24

/* what was read, and comes behind a block */

#define NGX_HTTP_TUNNEL_SCRATCH        16384

/* room for the header of a frame, and something of it */

#define NGX_HTTP_TUNNEL_LEAST          (2 * NGX_HTTP_HPACK_FRAME)


/* of a tunnel, in its request's pool */

struct ngx_http_tunnel_stream_s {
    ngx_http_request_t        *request;
    ngx_http_tunnel_v2_t      *v2;
    ngx_tunnel_worker_t       *worker;

    u_char                    *pos;          /* came, and was not read */
    u_char                    *last;
    ngx_tunnel_buf_t          *in;           /* they are in, or NULL */

    size_t                     window;       /* as nginx has it when it has
                                                seen what has passed */

    ngx_tunnel_buf_t          *out;          /* frames have it, or NULL */
    ngx_buf_t                  buf;          /* bytes of the last frames */

    ngx_uint_t                 code;         /* to be reset with */

    unsigned                   eof:1;        /* END_STREAM has come */
    unsigned                   ended:1;      /* and was sent */
};


static ssize_t ngx_http_tunnel_v2_block(ngx_http_tunnel_v2_t *v, u_char *buf,
    size_t size);
static ssize_t ngx_http_tunnel_v2_raw(ngx_http_tunnel_v2_t *v, u_char *buf,
    size_t size);
static ssize_t ngx_http_tunnel_v2_read(ngx_http_tunnel_v2_t *v, u_char *buf,
    size_t size);
static ngx_int_t ngx_http_tunnel_v2_stash(ngx_http_tunnel_v2_t *v, u_char *p,
    size_t size, ngx_uint_t keep);
static ngx_int_t ngx_http_tunnel_v2_hold(ngx_http_tunnel_v2_t *v, u_char *p,
    u_char *last);
static ngx_uint_t ngx_http_tunnel_v2_goaway(ngx_http_tunnel_v2_t *v);
static ngx_http_v2_connection_t *ngx_http_tunnel_v2_connection(
    ngx_http_tunnel_v2_t *v);
static ngx_int_t ngx_http_tunnel_v2_look(ngx_http_tunnel_v2_t *v,
    u_char **pos, u_char *last, u_char **end);
static u_char *ngx_http_tunnel_v2_preface(ngx_http_tunnel_v2_t *v, u_char *p,
    u_char *last);
static void ngx_http_tunnel_v2_head(ngx_http_tunnel_v2_t *v, u_char *p);
static u_char *ngx_http_tunnel_v2_frame(ngx_http_tunnel_v2_t *v, u_char *p,
    u_char *last);
static ngx_http_tunnel_stream_t *ngx_http_tunnel_v2_find(
    ngx_http_tunnel_v2_t *v, ngx_uint_t sid);
static void ngx_http_tunnel_v2_feed(ngx_http_tunnel_v2_t *v, u_char *p,
    size_t size, ngx_uint_t eof);
static ngx_int_t ngx_http_tunnel_v2_keep(ngx_http_tunnel_stream_t *st,
    u_char *p, size_t size);

static void ngx_http_tunnel_v2_cleanup(void *data);
static ngx_int_t ngx_http_tunnel_v2_end_open(ngx_tunnel_end_t *e,
    ngx_uint_t keepalive);
static ssize_t ngx_http_tunnel_v2_end_recv(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ssize_t ngx_http_tunnel_v2_end_send(ngx_tunnel_end_t *e, u_char *buf,
    size_t size);
static ngx_int_t ngx_http_tunnel_v2_end_shutdown(ngx_tunnel_end_t *e,
    ngx_uint_t last);
static void ngx_http_tunnel_v2_end_reset(ngx_tunnel_end_t *e);
static void ngx_http_tunnel_v2_end_cut(ngx_tunnel_end_t *e);
static size_t ngx_http_tunnel_v2_end_unsent(ngx_tunnel_end_t *e);
static ngx_uint_t ngx_http_tunnel_v2_end_failed(ngx_tunnel_end_t *e);
static ngx_int_t ngx_http_tunnel_v2_end_events(ngx_tunnel_end_t *e);

static ngx_uint_t ngx_http_tunnel_v2_queued(ngx_http_tunnel_stream_t *st);
static ngx_int_t ngx_http_tunnel_v2_write(ngx_http_tunnel_stream_t *st,
    u_char *p, size_t size, ngx_uint_t last);
static void ngx_http_tunnel_v2_release(ngx_http_tunnel_stream_t *st,
    ngx_tunnel_buf_t **buf);
static ngx_int_t ngx_http_tunnel_v2_grant(ngx_http_tunnel_stream_t *st);
static ngx_int_t ngx_http_tunnel_v2_control(ngx_http_v2_connection_t *h2c,
    ngx_uint_t type, ngx_uint_t sid, uint32_t value);
static ngx_int_t ngx_http_tunnel_v2_flush(ngx_http_v2_connection_t *h2c);
static void ngx_http_tunnel_v2_queue(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame);
static ngx_http_v2_out_frame_t *ngx_http_tunnel_v2_get_frame(
    ngx_http_v2_connection_t *h2c);
static ngx_int_t ngx_http_tunnel_v2_sent(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame);


static const ngx_tunnel_end_ops_t  ngx_http_tunnel_v2_end = {
    ngx_http_tunnel_v2_end_open,
    ngx_http_tunnel_v2_end_recv,
    ngx_http_tunnel_v2_end_send,
    ngx_http_tunnel_v2_end_shutdown,
    ngx_http_tunnel_v2_end_reset,
    ngx_http_tunnel_v2_end_cut,
    ngx_http_tunnel_v2_end_unsent,
    ngx_http_tunnel_v2_end_failed,
    ngx_http_tunnel_v2_end_events
};


ngx_uint_t
ngx_http_connect_tunnel_v2_enabled(ngx_http_connection_t *hc)
{
#if (NGX_TUNNEL_HTTP2_BY_SERVER)

    ngx_http_v2_srv_conf_t  *h2scf;

    h2scf = ngx_http_get_module_srv_conf(hc->conf_ctx, ngx_http_v2_module);

    if (h2scf->enable) {
        return 1;
    }

#endif

    return hc->addr_conf->http2;
}


ngx_http_tunnel_v2_t *
ngx_http_connect_tunnel_v2_create(ngx_connection_t *c,
    ngx_http_connection_t *hc, ngx_recv_pt recv)
{
    ngx_http_tunnel_v2_t      *v;
    ngx_http_core_srv_conf_t  *cscf;

    v = ngx_pcalloc(c->pool, sizeof(ngx_http_tunnel_v2_t));
    if (v == NULL) {
        return NULL;
    }

    v->connection = c;
    v->hc = hc;
    v->recv = recv;
    v->preface = sizeof(NGX_HTTP_TUNNEL_PREFACE) - 1;

    cscf = ngx_http_get_module_srv_conf(hc->conf_ctx, ngx_http_core_module);

    v->hpack.log = c->log;
    v->hpack.limit = cscf->large_client_header_buffers.size
                     * cscf->large_client_header_buffers.num;
    v->hpack.pass = 1;

    return (ngx_http_hpack_init(&v->hpack) == NGX_OK) ? v : NULL;
}


void
ngx_http_connect_tunnel_v2_free(ngx_http_tunnel_v2_t *v)
{
    ngx_http_hpack_free(&v->hpack);

    if (v->raw) {
        ngx_free(v->raw);
        v->raw = NULL;
    }
}


ngx_int_t
ngx_http_connect_tunnel_v2_unread(ngx_http_tunnel_v2_t *v, u_char *p,
    size_t size, size_t skip)
{
    v->skip = skip;
    v->more = v->connection->read->ready;

    return ngx_http_tunnel_v2_stash(v, p, size, 1);
}


ssize_t
ngx_http_connect_tunnel_v2_recv(ngx_http_tunnel_v2_t *v, u_char *buf,
    size_t size)
{
    size_t                     total, preface;
    ssize_t                    n;
    ngx_http_hpack_t          *h;
    ngx_http_v2_connection_t  *h2c;

    h = &v->hpack;

    v->connect = 0;
    preface = v->preface;
    total = 0;

    if (size < NGX_HTTP_TUNNEL_LEAST && !preface) {
        ngx_log_error(NGX_LOG_ERR, v->connection->log, 0,
                      "too small a buffer for HTTP/2: %uz bytes", size);
        return NGX_ERROR;
    }

    /* an error behind nginx's GOAWAY is none to it, and no frame follows */

    if (h->broken && !h->pass && h->pos == h->last
        && ngx_http_tunnel_v2_goaway(v))
    {
        return NGX_ERROR;
    }

    do {

        if (h->pos != h->last) {

            /* blocks go together, but that of a CONNECT goes alone */

            if (h->connect && total) {
                break;
            }

            n = ngx_http_tunnel_v2_block(v, buf + total, size - total);

        } else if (v->pos != v->last) {
            n = ngx_http_tunnel_v2_raw(v, buf + total, size - total);

        } else if (total == 0) {
            n = ngx_http_tunnel_v2_read(v, buf, size);

        } else {
            break;
        }

        if (n == NGX_DONE) {
            continue;
        }

        if (n <= 0) {
            return n;
        }

        total += n;

    } while (!v->connect && !preface
             && !(h->broken && h->pos == h->last && total)
             && size - total >= NGX_HTTP_TUNNEL_LEAST);

    if (h->pos == h->last) {
        ngx_http_hpack_done(h);
    }

    if (v->pos != v->last && v->raw == NULL
        && ngx_http_tunnel_v2_stash(v, v->pos, v->last - v->pos, 1) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* a block begins when nginx has what is before it, and reads no more */

    v->connection->read->ready = (h->pos != h->last || v->pos != v->last
                                  || h->reading)
                                 ? 1 : v->more;

    h2c = ngx_http_tunnel_v2_connection(v);

    if (h2c) {

        /* nginx compares what it has read with what is of use in it */

        h2c->total_bytes += (off_t) v->nread - (off_t) total;
    }

    v->nread = 0;

    return total;
}


/* These three return as recv, or NGX_DONE if there is something else to do. */

static ssize_t
ngx_http_tunnel_v2_block(ngx_http_tunnel_v2_t *v, u_char *buf, size_t size)
{
    size_t             n;
    ngx_http_hpack_t  *h;

    h = &v->hpack;

    n = ngx_min(size, (size_t) (h->last - h->pos));

    ngx_memcpy(buf, h->pos, n);
    h->pos += n;

    v->connect = h->connect;

    return n;
}


static ssize_t
ngx_http_tunnel_v2_raw(ngx_http_tunnel_v2_t *v, u_char *buf, size_t size)
{
    size_t   n;
    u_char  *p, *end;

    p = v->pos;
    n = ngx_min(size, (size_t) (v->last - p));

    if (ngx_http_tunnel_v2_look(v, &p, p + n, &end) != NGX_OK) {
        return NGX_ERROR;
    }

    n = end - v->pos;

    ngx_memcpy(buf, v->pos, n);

    if (ngx_http_tunnel_v2_hold(v, p, v->last) == NGX_OK) {
        p = v->last;
    }

    v->pos = p;

    if (v->pos == v->last && v->raw) {
        ngx_free(v->raw);
        v->raw = NULL;
    }

    return n ? (ssize_t) n : NGX_DONE;
}


static ssize_t
ngx_http_tunnel_v2_read(ngx_http_tunnel_v2_t *v, u_char *buf, size_t size)
{
    u_char   *p, *last, *end;
    ssize_t   n;

    ngx_memcpy(buf, v->held, v->nheld);

    n = v->recv(v->connection, buf + v->nheld, size - v->nheld);

    v->more = v->connection->read->ready;

    /* nginx skips a block behind its GOAWAY, but not its CONTINUATION */

    if (n == NGX_AGAIN && v->hpack.reading
        && !ngx_http_tunnel_v2_goaway(v)
        && ngx_http_hpack_start(&v->hpack) == NGX_OK)
    {
        return NGX_DONE;
    }

    if (n <= 0) {
        v->lost = (n != NGX_AGAIN);
        return n;
    }

    v->nread += n;

    p = buf;
    last = buf + v->nheld + n;

    v->nheld = 0;

    if (ngx_http_tunnel_v2_look(v, &p, last, &end) != NGX_OK) {
        return NGX_ERROR;
    }

    if (p != last
        && ngx_http_tunnel_v2_hold(v, p, last) != NGX_OK
        && ngx_http_tunnel_v2_stash(v, p, last - p, 0) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return (end != buf) ? end - buf : NGX_DONE;
}


/*
 * Bytes that are looked at when nginx has those before them.  As a rule that
 * is at once, and they need not be kept in memory of their own.
 */

static ngx_int_t
ngx_http_tunnel_v2_stash(ngx_http_tunnel_v2_t *v, u_char *p, size_t size,
    ngx_uint_t keep)
{
    u_char  *raw;

    static u_char  scratch[NGX_HTTP_TUNNEL_SCRATCH];

    raw = scratch;

    if (keep || size > NGX_HTTP_TUNNEL_SCRATCH) {
        v->raw = ngx_alloc(size, v->connection->log);
        if (v->raw == NULL) {
            return NGX_ERROR;
        }

        raw = v->raw;
    }

    v->pos = raw;
    v->last = ngx_cpymem(raw, p, size);

    return NGX_OK;
}


/* whether nginx takes no more streams */

static ngx_uint_t
ngx_http_tunnel_v2_goaway(ngx_http_tunnel_v2_t *v)
{
    ngx_http_v2_connection_t  *h2c;

    h2c = ngx_http_tunnel_v2_connection(v);

    return h2c && h2c->goaway;
}


/* NULL if nginx has not set up HTTP/2, or takes this for something else */

static ngx_http_v2_connection_t *
ngx_http_tunnel_v2_connection(ngx_http_tunnel_v2_t *v)
{
    return (v->verified && v->connection->data != v->hc) ? v->connection->data
                                                         : NULL;
}


/* keeps the header of a frame that is not there as a whole */

static ngx_int_t
ngx_http_tunnel_v2_hold(ngx_http_tunnel_v2_t *v, u_char *p, u_char *last)
{
    if (last - p >= NGX_HTTP_HPACK_FRAME
        || v->preface || v->hpack.reading || v->rest)
    {
        return NGX_DECLINED;
    }

    v->nheld = last - p;
    ngx_memcpy(v->held, p, v->nheld);

    return NGX_OK;
}


/*
 * Looks at bytes from *pos on, and moves it.  Those before *end pass as they
 * are; those behind it were of a block, for which there are other bytes, now
 * or later.  NGX_OK or NGX_ERROR.
 */

static ngx_int_t
ngx_http_tunnel_v2_look(ngx_http_tunnel_v2_t *v, u_char **pos, u_char *last,
    u_char **end)
{
    u_char            *p;
    ngx_int_t          rc;
    ngx_http_hpack_t  *h;

    p = *pos;
    h = &v->hpack;

    if (v->preface) {
        p = ngx_http_tunnel_v2_preface(v, p, last);
        goto done;
    }

    for ( ;; ) {

        if (h->broken) {
            p = last;
            goto done;
        }

        if (v->rest || v->eof) {
            p = ngx_http_tunnel_v2_frame(v, p, last);

            if (v->rest) {
                goto done;
            }
        }

        if (!h->reading) {

            if (last - p < NGX_HTTP_HPACK_FRAME) {
                goto done;
            }

            if (p[3] != NGX_HTTP_HPACK_HEADERS) {
                ngx_http_tunnel_v2_head(v, p);
                p += NGX_HTTP_HPACK_FRAME;

                continue;
            }
        }

        *end = p;

        rc = ngx_http_hpack_read(h, &p, last);

        if (rc == NGX_ERROR
            || (rc == NGX_OK && h->broken && ngx_http_tunnel_v2_goaway(v)))
        {
            ngx_log_error(NGX_LOG_INFO, v->connection->log, 0,
                          "header of an HTTP/2 request cannot be read");
            return NGX_ERROR;
        }

        if (rc != NGX_DECLINED) {
            *pos = p;
            return NGX_OK;
        }

        if (h->broken) {
            ngx_log_error(NGX_LOG_INFO, v->connection->log, 0,
                          "header of an HTTP/2 request cannot be read, "
                          "CONNECT is not served on this connection");
        }

        if (p == last) {
            goto done;
        }
    }

done:

    *pos = p;
    *end = p;

    return NGX_OK;
}


/* what comes behind the preface is read once nginx has set up HTTP/2 */

static u_char *
ngx_http_tunnel_v2_preface(ngx_http_tunnel_v2_t *v, u_char *p, u_char *last)
{
    size_t  n;

    static u_char  preface[] = NGX_HTTP_TUNNEL_PREFACE;

    n = ngx_min(v->skip, (size_t) (last - p));

    p += n;
    v->skip -= n;

    n = ngx_min(v->preface, (size_t) (last - p));

    if (ngx_memcmp(p, preface + sizeof(preface) - 1 - v->preface, n) != 0) {
        v->preface = 0;
        v->hpack.broken = 1;

        return last;
    }

    v->preface -= n;
    v->verified = (v->preface == 0);

    return p + n;
}


static void
ngx_http_tunnel_v2_head(ngx_http_tunnel_v2_t *v, u_char *p)
{
    ngx_http_hpack_head_t      head;
    ngx_http_tunnel_stream_t  *st;

    ngx_http_hpack_parse(p, &head);

    v->rest = head.len;
    v->padding = 0;

    if (head.type != NGX_HTTP_HPACK_DATA) {
        v->data = 0;
        v->eof = 0;
        v->padded = 0;

        return;
    }

    v->data = 1;
    v->eof = (head.flags & NGX_HTTP_HPACK_END_STREAM) ? 1 : 0;
    v->padded = (head.flags & NGX_HTTP_HPACK_PADDED) ? 1 : 0;
    v->sid = head.sid;

    st = ngx_http_tunnel_v2_find(v, v->sid);

    if (st == NULL) {
        return;
    }

    if (st->eof) {

        /* nginx knows of the end from us, as it skips what it is in */

        st->request->stream->in_closed = 1;
        v->data = 0;

    } else if (v->rest > st->window) {
        v->data = 0;

    } else {
        st->window -= v->rest;
    }
}


/* passes what there is of a frame, and gives a tunnel what is for it */

static u_char *
ngx_http_tunnel_v2_frame(ngx_http_tunnel_v2_t *v, u_char *p, u_char *last)
{
    size_t      n;
    ngx_uint_t  eof;

    if (v->padded) {

        if (p == last) {
            return p;
        }

        v->padded = 0;

        if (v->rest == 0 || (size_t) *p >= v->rest) {
            v->data = 0;

        } else {
            v->rest--;
            v->padding = *p++;
        }
    }

    if (v->data) {
        n = ngx_min(v->rest - v->padding, (size_t) (last - p));

        v->rest -= n;
        eof = 0;

        if (v->rest == v->padding) {
            eof = v->eof;

            v->data = 0;
            v->eof = 0;
        }

        ngx_http_tunnel_v2_feed(v, p, n, eof);

        p += n;
    }

    if (!v->data) {
        n = ngx_min(v->rest, (size_t) (last - p));

        v->rest -= n;
        v->eof = 0;

        p += n;
    }

    return p;
}


/* the stream of a tunnel, or NULL */

static ngx_http_tunnel_stream_t *
ngx_http_tunnel_v2_find(ngx_http_tunnel_v2_t *v, ngx_uint_t sid)
{
    ngx_http_v2_node_t             *node;
    ngx_http_v2_srv_conf_t         *h2scf;
    ngx_http_v2_connection_t       *h2c;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    h2c = ngx_http_tunnel_v2_connection(v);

    if (h2c == NULL) {
        return NULL;
    }

    h2scf = ngx_http_get_module_srv_conf(v->hc->conf_ctx, ngx_http_v2_module);

    node = h2c->streams_index[(sid >> 1) & h2scf->streams_index_mask];

    for ( /* void */ ; node; node = node->index) {

        if (node->id == sid) {

            if (node->stream == NULL) {
                return NULL;
            }

            ctx = ngx_http_connect_tunnel_get_ctx(node->stream->request);

            return ctx ? ctx->stream : NULL;
        }
    }

    return NULL;
}


/* the relay takes what it can, at once; the rest is kept for it */

static void
ngx_http_tunnel_v2_feed(ngx_http_tunnel_v2_t *v, u_char *p, size_t size,
    ngx_uint_t eof)
{
    ngx_int_t                  rc;
    ngx_connection_t          *fc;
    ngx_http_tunnel_stream_t  *st;
    ngx_http_v2_connection_t  *h2c;

    st = ngx_http_tunnel_v2_find(v, v->sid);

    if (st == NULL) {
        return;
    }

    if (size == 0 && !eof) {

        /* all padding, which is used up */

        (void) ngx_http_tunnel_v2_grant(st);
        return;
    }

    fc = st->request->connection;
    h2c = st->request->stream->connection;

    /* nginx counts what it skips as no payload */

    h2c->payload_bytes += size;
    st->request->request_length += size;

    if (eof) {
        st->eof = 1;
    }

    if (st->pos != st->last) {
        rc = ngx_http_tunnel_v2_keep(st, p, size);

    } else {
        st->pos = p;
        st->last = p + size;

        v->feeding = st;

        fc->read->ready = 1;
        fc->read->handler(fc->read);

        if (v->feeding == NULL) {
            return;
        }

        v->feeding = NULL;

        p = st->pos;
        size = st->last - p;

        st->pos = NULL;
        st->last = NULL;

        rc = ngx_http_tunnel_v2_keep(st, p, size);
    }

    if (rc != NGX_OK) {

        /* what is missing is not to look like the end */

        st->eof = 0;

        fc->error = 1;
        fc->read->handler(fc->read);
    }
}


static ngx_int_t
ngx_http_tunnel_v2_keep(ngx_http_tunnel_stream_t *st, u_char *p, size_t size)
{
    u_char            *start;
    size_t             len;
    ngx_tunnel_buf_t  *in;

    if (size == 0) {
        return NGX_OK;
    }

    len = st->last - st->pos;
    in = st->in;

    if (in == NULL || in->size < len + size) {

        in = ngx_tunnel_worker_get_buf(st->worker,
                                       ngx_max(len + size, 2 * len),
                                       st->request->connection->log);
        if (in == NULL) {
            return NGX_ERROR;
        }
    }

    start = (u_char *) (in + 1);

    if (in != st->in || st->last + size > start + in->size) {

        if (len) {
            ngx_memmove(start, st->pos, len);
        }

        st->pos = start;
        st->last = start + len;
    }

    if (in != st->in) {
        ngx_http_tunnel_v2_release(st, &st->in);
        st->in = in;
    }

    st->last = ngx_cpymem(st->last, p, size);

    return NGX_OK;
}


ngx_int_t
ngx_http_connect_tunnel_v2_end(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx, ngx_http_tunnel_v2_t *v)
{
    ngx_buf_t                 *preread;
    ngx_pool_cleanup_t        *cln;
    ngx_http_v2_stream_t      *stream;
    ngx_http_tunnel_stream_t  *st;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_tunnel_stream_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    st = cln->data;
    ngx_memzero(st, sizeof(ngx_http_tunnel_stream_t));

    cln->handler = ngx_http_tunnel_v2_cleanup;

    stream = r->stream;

    st->request = r;
    st->v2 = v;
    st->worker = ctx->session.relay->worker;
    st->window = stream->recv_window;
    st->code = NGX_HTTP_TUNNEL_CANCEL;
    st->eof = stream->in_closed;

    if (v->padded && v->sid == stream->node->id && v->rest <= st->window) {

        /* a frame that nginx takes for one when there is a byte more of it */

        st->window -= v->rest;
    }

    /* what came ahead of the tunnel, and has a buffer for a whole window */

    preread = stream->preread;

    if (preread) {

        if (ngx_http_tunnel_v2_keep(st, preread->pos,
                                    preread->last - preread->pos)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        (void) ngx_pfree(r->pool, preread->start);
        stream->preread = NULL;
    }

    /* from here on the bytes are ours */

    stream->skip_data = 1;

    ctx->stream = st;
    ctx->session.relay->client.ops = &ngx_http_tunnel_v2_end;
    ctx->session.relay->client.data = st;

    return NGX_OK;
}


/* the frames that had the buffers are gone with the stream */

static void
ngx_http_tunnel_v2_cleanup(void *data)
{
    ngx_http_tunnel_stream_t  *st = data;

    if (st->worker) {
        ngx_http_tunnel_v2_release(st, &st->in);
        ngx_http_tunnel_v2_release(st, &st->out);
    }
}


ngx_uint_t
ngx_http_connect_tunnel_v2_event(ngx_http_tunnel_stream_t *st)
{
    ngx_connection_t  *fc;

    fc = st->request->connection;

    if (!fc->error) {
        return 1;
    }

    /* as a socket tells of a reset */

    fc->read->ready = 1;
    fc->read->pending_eof = 1;
    fc->write->ready = 1;

    return !(ngx_exiting && !st->v2->lost
             && st->request->stream->connection->connection->error);
}


void
ngx_http_connect_tunnel_v2_close(ngx_http_tunnel_stream_t *st,
    ngx_tunnel_reason_e reason)
{
    ngx_uint_t                 code;
    ngx_http_v2_stream_t      *stream;
    ngx_http_v2_connection_t  *h2c;

    if (st->v2->feeding == st) {
        st->v2->feeding = NULL;
    }

    ngx_http_tunnel_v2_release(st, &st->in);

    st->pos = NULL;
    st->last = NULL;

    stream = st->request->stream;
    h2c = stream->connection;

    if (st->eof) {
        stream->in_closed = 1;
    }

    if (reason == NGX_TUNNEL_CLIENT_CLOSED && st->eof && !st->ended
        && stream->queued == 0)
    {
        /* both halves end then, if the stream can take it at once */

        (void) ngx_http_tunnel_v2_write(st, NULL, 0, 1);
    }

    if (stream->rst_sent || h2c->connection->error
        || (stream->out_closed && stream->in_closed))
    {
        return;
    }

    code = st->code;

    if (stream->out_closed && code == NGX_HTTP_TUNNEL_CANCEL) {
        code = NGX_HTTP_TUNNEL_NO_ERROR;
    }

    if (ngx_http_tunnel_v2_control(h2c, NGX_HTTP_V2_RST_STREAM_FRAME,
                                   stream->node->id, code)
        == NGX_OK)
    {
        stream->rst_sent = 1;
    }
}


static ngx_int_t
ngx_http_tunnel_v2_end_open(ngx_tunnel_end_t *e, ngx_uint_t keepalive)
{
    ngx_int_t                  rc;
    ngx_http_tunnel_stream_t  *st;

    st = e->data;

    rc = ngx_http_tunnel_v2_grant(st);

    if (rc == NGX_DECLINED) {

        /* nothing may follow the response for long, and TLS waits for that */

        rc = ngx_http_tunnel_v2_flush(st->request->stream->connection);
    }

    return rc;
}


static ssize_t
ngx_http_tunnel_v2_end_recv(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    ngx_event_t               *rev;
    ngx_http_tunnel_stream_t  *st;

    st = e->data;
    rev = e->connection->read;

    size = ngx_min(size, (size_t) (st->last - st->pos));

    /* the end of a client that had said all is not the end of that */

    if (e->connection->error && !st->eof) {
        rev->ready = 0;
        return NGX_ERROR;
    }

    if (size == 0) {

        if (st->eof) {
            return 0;
        }

        rev->ready = 0;
        return NGX_AGAIN;
    }

    ngx_memcpy(buf, st->pos, size);
    st->pos += size;

    if (st->pos == st->last) {
        ngx_http_tunnel_v2_release(st, &st->in);

        rev->ready = st->eof;
    }

    if (ngx_http_tunnel_v2_grant(st) == NGX_ERROR) {
        return NGX_ERROR;
    }

    return size;
}


/*
 * nginx's frames have the bytes where they are, until they are sent: those in
 * the scratch buffer stay there, and it is another one's if that takes longer.
 * Others are copied.
 */

static ssize_t
ngx_http_tunnel_v2_end_send(ngx_tunnel_end_t *e, u_char *buf, size_t size)
{
    ngx_int_t                  rc;
    ngx_uint_t                 scratch;
    ngx_tunnel_worker_t       *w;
    ngx_http_v2_stream_t      *stream;
    ngx_http_tunnel_stream_t  *st;
    ngx_http_v2_connection_t  *h2c;

    st = e->data;
    w = st->worker;
    stream = st->request->stream;
    h2c = stream->connection;

    if (ngx_http_tunnel_v2_queued(st)) {
        return NGX_AGAIN;
    }

    if (stream->send_window <= 0 || h2c->send_window == 0) {

        /* what it is told of and does not take, nginx asks for later */

        rc = ngx_http_tunnel_v2_write(st, buf, size, 0);

        return (rc == NGX_ERROR) ? NGX_ERROR : NGX_AGAIN;
    }

    /* nginx takes all that there is a window for */

    size = ngx_min(size, (size_t) stream->send_window);
    size = ngx_min(size, h2c->send_window);

    scratch = (buf >= w->scratch && buf < w->scratch + w->size);

    if (!scratch) {
        st->out = ngx_tunnel_worker_get_buf(w, size, e->connection->log);
        if (st->out == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(st->out + 1, buf, size);
        buf = (u_char *) (st->out + 1);
    }

    if (ngx_http_tunnel_v2_write(st, buf, size, 0) == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (scratch && stream->queued) {
        st->out = ngx_tunnel_worker_take_scratch(w, e->connection->log);

        if (st->out == NULL) {

            /* nothing may be sent of it any more */

            h2c->connection->error = 1;
            return NGX_ERROR;
        }
    }

    (void) ngx_http_tunnel_v2_queued(st);

    return size;
}


static ngx_int_t
ngx_http_tunnel_v2_end_shutdown(ngx_tunnel_end_t *e, ngx_uint_t last)
{
    ngx_http_tunnel_stream_t  *st;

    st = e->data;

    if (ngx_http_tunnel_v2_queued(st)) {
        return NGX_AGAIN;
    }

    if (!st->ended) {
        st->ended = 1;

        if (ngx_http_tunnel_v2_write(st, NULL, 0, 1) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    return ngx_http_tunnel_v2_queued(st) ? NGX_AGAIN : NGX_OK;
}


/* RFC 9113 8.5 */

static void
ngx_http_tunnel_v2_end_reset(ngx_tunnel_end_t *e)
{
    ngx_http_tunnel_stream_t  *st;

    st = e->data;
    st->code = NGX_HTTP_TUNNEL_CONNECT_ERROR;
}


static void
ngx_http_tunnel_v2_end_cut(ngx_tunnel_end_t *e)
{
    /* a stream that is not at its end is always reset */
}


static size_t
ngx_http_tunnel_v2_end_unsent(ngx_tunnel_end_t *e)
{
    ngx_http_tunnel_stream_t  *st;

    st = e->data;

    return st->request->stream->queued
           ? ngx_max((size_t) (st->buf.last - st->buf.pos), 1) : 0;
}


static ngx_uint_t
ngx_http_tunnel_v2_end_failed(ngx_tunnel_end_t *e)
{
    ngx_http_tunnel_stream_t  *st;

    st = e->data;

    return e->connection->error && (!st->eof || e->eof);
}


static ngx_int_t
ngx_http_tunnel_v2_end_events(ngx_tunnel_end_t *e)
{
    return NGX_OK;
}


/* whether frames of the stream wait; an event comes when they are sent */

static ngx_uint_t
ngx_http_tunnel_v2_queued(ngx_http_tunnel_stream_t *st)
{
    ngx_event_t  *wev;

    if (st->request->stream->queued == 0) {
        ngx_http_tunnel_v2_release(st, &st->out);
        return 0;
    }

    wev = st->request->connection->write;

    wev->active = 1;
    wev->ready = 0;

    return 1;
}


static ngx_int_t
ngx_http_tunnel_v2_write(ngx_http_tunnel_stream_t *st, u_char *p, size_t size,
    ngx_uint_t last)
{
    ngx_buf_t         *b;
    ngx_chain_t        out;
    ngx_connection_t  *fc;

    fc = st->request->connection;

    if (fc->error) {
        return NGX_ERROR;
    }

    b = &st->buf;

    ngx_memzero(b, sizeof(ngx_buf_t));

    if (p) {
        b->memory = 1;
        b->pos = p;
        b->last = p + size;
    }

    b->flush = 1;
    b->last_buf = last;

    out.buf = b;
    out.next = NULL;

    return (fc->send_chain(fc, &out, 0) == NGX_CHAIN_ERROR) ? NGX_ERROR
                                                            : NGX_OK;
}


static void
ngx_http_tunnel_v2_release(ngx_http_tunnel_stream_t *st,
    ngx_tunnel_buf_t **buf)
{
    if (*buf) {
        ngx_tunnel_worker_free_buf(st->worker, *buf);
        *buf = NULL;
    }
}


/*
 * Opens the client's window when half of it is used up: for as many bytes as
 * there may be and are not.  NGX_OK, NGX_DECLINED if it is open, or NGX_ERROR.
 */

static ngx_int_t
ngx_http_tunnel_v2_grant(ngx_http_tunnel_stream_t *st)
{
    size_t                 size;
    ngx_http_tunnel_v2_t  *v;
    ngx_http_v2_stream_t  *stream;

    v = st->v2;
    stream = st->request->stream;

    size = st->window + (st->last - st->pos);

    if (v->data && v->sid == stream->node->id) {
        size += v->rest;
    }

    if (st->eof || size > NGX_HTTP_TUNNEL_WINDOW / 2) {
        return NGX_DECLINED;
    }

    size = NGX_HTTP_TUNNEL_WINDOW - size;

    st->window += size;
    stream->recv_window += size;

    return ngx_http_tunnel_v2_control(stream->connection,
                                      NGX_HTTP_V2_WINDOW_UPDATE_FRAME,
                                      stream->node->id, size);
}


/* queues a frame that is a number */

static ngx_int_t
ngx_http_tunnel_v2_control(ngx_http_v2_connection_t *h2c, ngx_uint_t type,
    ngx_uint_t sid, uint32_t value)
{
    ngx_buf_t                *b;
    ngx_http_v2_out_frame_t  *frame;

    frame = ngx_http_tunnel_v2_get_frame(h2c);
    if (frame == NULL) {
        return NGX_ERROR;
    }

    b = frame->first->buf;

    frame->length = sizeof(uint32_t);

    b->last = ngx_http_hpack_write(b->last, frame->length, type,
                                   NGX_HTTP_V2_NO_FLAG, sid);
    b->last = ngx_http_hpack_write_uint32(b->last, value);

    ngx_http_tunnel_v2_queue(h2c, frame);

    return NGX_OK;
}


/* a frame without a byte has the same effect on TLS as others */

static ngx_int_t
ngx_http_tunnel_v2_flush(ngx_http_v2_connection_t *h2c)
{
    ngx_http_v2_out_frame_t  *frame;

    /* others would try to send it for ever */

    if (h2c->connection->ssl == NULL) {
        return NGX_OK;
    }

    frame = ngx_http_tunnel_v2_get_frame(h2c);
    if (frame == NULL) {
        return NGX_ERROR;
    }

    frame->length = 0;

    ngx_http_tunnel_v2_queue(h2c, frame);

    return NGX_OK;
}


static void
ngx_http_tunnel_v2_queue(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame)
{
    ngx_http_v2_queue_blocked_frame(h2c, frame);

    if (!h2c->blocked) {
        ngx_post_event(h2c->connection->write, &ngx_posted_events);
    }
}


/* as nginx does; the frames are one another's */

static ngx_http_v2_out_frame_t *
ngx_http_tunnel_v2_get_frame(ngx_http_v2_connection_t *h2c)
{
    ngx_buf_t                *b;
    ngx_http_v2_out_frame_t  *frame;

    frame = h2c->free_frames;

    if (frame) {
        h2c->free_frames = frame->next;

        b = frame->first->buf;

        b->pos = b->start;
        b->last = b->start;

        frame->blocked = 0;

        return frame;
    }

    if (h2c->frames >= NGX_HTTP_TUNNEL_FRAMES) {
        ngx_log_error(NGX_LOG_INFO, h2c->connection->log, 0,
                      "http2 flood detected");

        h2c->connection->error = 1;
        return NULL;
    }

    frame = ngx_pcalloc(h2c->pool, sizeof(ngx_http_v2_out_frame_t));
    if (frame == NULL) {
        return NULL;
    }

    frame->first = ngx_alloc_chain_link(h2c->pool);
    if (frame->first == NULL) {
        return NULL;
    }

    b = ngx_create_temp_buf(h2c->pool, NGX_HTTP_TUNNEL_FRAME_SIZE);
    if (b == NULL) {
        return NULL;
    }

    b->last_buf = 1;

    frame->first->buf = b;
    frame->first->next = NULL;
    frame->last = frame->first;
    frame->handler = ngx_http_tunnel_v2_sent;

    h2c->frames++;

    return frame;
}


static ngx_int_t
ngx_http_tunnel_v2_sent(ngx_http_v2_connection_t *h2c,
    ngx_http_v2_out_frame_t *frame)
{
    ngx_buf_t  *b;

    b = frame->first->buf;

    if (b->pos != b->last) {
        return NGX_AGAIN;
    }

    frame->next = h2c->free_frames;
    h2c->free_frames = frame;

    h2c->total_bytes += NGX_HTTP_V2_FRAME_HEADER_SIZE + frame->length;

    return NGX_OK;
}
