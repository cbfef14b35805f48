
/*
 * Intake: how CONNECT gets past the stock parser.
 *
 * The parser of nginx refuses a request line with an authority, and what it
 * would take, the header processing refuses.  So at the start of a request,
 * and only there, the bytes "CONNECT " are read as "TUNNEL /": as many bytes,
 * an unknown method and a path to the parser.  A handler that comes first in
 * the first phase puts everything back, so that all phases, variables and
 * logs see an ordinary CONNECT.
 *
 * The reading is done by a shim in the connection's recv.  It is put there
 * when a connection is accepted, or, where there is TLS, when the handshake
 * is over.
 *
 * A connection of HTTP/2 has another shim, which makes "TUNNEL /" of its
 * CONNECTs, too, see ngx_http_connect_tunnel_v2.c; all else is the same.
 */


#include "ngx_http_connect_tunnel_intake.h"


/* of "CONNECT ", and of what an HTTP/2 preface begins with */

#define NGX_HTTP_INTAKE_LEN  (sizeof("CONNECT ") - 1)


typedef enum {
    ngx_http_intake_first = 0,           /* nothing was read yet */
    ngx_http_intake_start,               /* a request may start */
    ngx_http_intake_pass                 /* a request is being read */
} ngx_http_intake_state_e;


/* of a connection; found through its pool */

typedef struct {
    ngx_connection_t                *connection;
    ngx_http_connection_t           *hc;

    ngx_recv_pt                      recv;         /* below the shim */
    ngx_event_handler_pt             handler;      /* of the TLS handshake */
    ngx_connection_handler_pt        ssl_handler;
#if (NGX_HTTP_SSL)
    BIO                             *bio;          /* of the socket */
#endif
    ngx_log_handler_pt               log_handler;

    ngx_http_intake_state_e          state;

    u_char                           held[NGX_HTTP_INTAKE_LEN];
    size_t                           nheld;        /* bytes kept back */
    ngx_buf_t                       *stash;        /* read, not delivered */

    u_char                          *rest;         /* read, and in place */
    size_t                           nrest;

    /* while a CONNECT is parsed, in place of the connection's own */

    ngx_http_addr_conf_t             addr_conf;
    ngx_http_addr_conf_t            *saved_addr_conf;
    ngx_str_t                       *saved_servername;

#if (NGX_HTTP_TUNNEL_V2)
    ngx_http_tunnel_v2_t            *v2;           /* NULL: not HTTP/2 */
#endif

    unsigned                         preface:1;    /* of HTTP/2 may come */
    unsigned                         connect:1;    /* parsed, not restored */
    unsigned                         ready:1;      /* held bytes are final */
    unsigned                         more:1;       /* behind the rest */
    unsigned                         refused:1;    /* only CONNECT may come */
} ngx_http_intake_t;


static void ngx_http_intake_init_connection(ngx_connection_t *c);
static void ngx_http_intake_cleanup(void *data);
static ngx_http_intake_t *ngx_http_intake_get(ngx_connection_t *c);
static void ngx_http_intake_attach(ngx_http_intake_t *in);
#if (NGX_HTTP_SSL)
static void ngx_http_intake_ssl(ngx_event_t *rev);
static void ngx_http_intake_ssl_pause(const ngx_ssl_conn_t *ssl_conn,
    int where, int ret);
static void ngx_http_intake_ssl_done(ngx_connection_t *c);
#endif

static ssize_t ngx_http_intake_recv(ngx_connection_t *c, u_char *buf,
    size_t size);
static ssize_t ngx_http_intake_begin(ngx_http_intake_t *in, u_char *buf,
    size_t size);
static ssize_t ngx_http_intake_skipped(ngx_http_intake_t *in, u_char *buf,
    size_t size, size_t skip, ngx_uint_t filled);
static ssize_t ngx_http_intake_read(ngx_http_intake_t *in, u_char *buf,
    size_t size);
static ssize_t ngx_http_intake_defer(ngx_http_intake_t *in, u_char *buf,
    size_t have, size_t size);
static ssize_t ngx_http_intake_deliver(ngx_http_intake_t *in, u_char *buf,
    size_t size);
static ssize_t ngx_http_intake_first_bytes(ngx_http_intake_t *in, u_char *buf,
    size_t size, size_t len);
static ssize_t ngx_http_intake_rest_bytes(ngx_http_intake_t *in, u_char *buf,
    size_t size);
static ngx_int_t ngx_http_intake_match(ngx_http_intake_t *in, u_char *p,
    u_char *last);
static size_t ngx_http_intake_skip(ngx_http_intake_t *in, u_char *p,
    u_char *last);
static void ngx_http_intake_rewrite(ngx_http_intake_t *in, u_char *p);
static void ngx_http_intake_parse(ngx_http_intake_t *in);

#if (NGX_HTTP_TUNNEL_V2)
static ngx_int_t ngx_http_intake_v2(ngx_http_intake_t *in);
static ssize_t ngx_http_intake_v2_begin(ngx_http_intake_t *in, u_char *buf,
    size_t size, u_char *p, size_t have, size_t skip);
static ssize_t ngx_http_intake_v2_recv(ngx_connection_t *c, u_char *buf,
    size_t size);
#endif

static ngx_http_intake_t *ngx_http_intake_find(ngx_http_request_t *r);
static ngx_uint_t ngx_http_intake_is_connect(ngx_http_intake_t *in,
    ngx_http_request_t *r);
static ngx_int_t ngx_http_intake_post_read_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_intake_log_handler(ngx_http_request_t *r);
static void ngx_http_intake_restore(ngx_http_intake_t *in,
    ngx_http_request_t *r);
static void ngx_http_intake_restore_line(ngx_http_request_t *r);
static void ngx_http_intake_restore_request(ngx_http_request_t *r);
static void ngx_http_intake_restore_server(ngx_http_intake_t *in);
static void ngx_http_intake_rearm(ngx_http_intake_t *in, ngx_buf_t *b);
static u_char *ngx_http_intake_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


static u_char  ngx_http_intake_connect[] = "CONNECT ";
static u_char  ngx_http_intake_tunnel[] = "TUNNEL /";


ngx_int_t
ngx_http_connect_tunnel_intake_phases(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    /* the last one is run first, except in the log phase */

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_POST_READ_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_intake_post_read_handler;

    return ngx_http_connect_tunnel_prepend(cf, NGX_HTTP_LOG_PHASE,
                                           ngx_http_intake_log_handler);
}


void
ngx_http_connect_tunnel_intake_listen(ngx_cycle_t *cycle)
{
    ngx_uint_t        i;
    ngx_listening_t  *ls;

    ls = cycle->listening.elts;

    for (i = 0; i < cycle->listening.nelts; i++) {

        /* those of stream, mail, and QUIC have other handlers */

        if (ls[i].handler == ngx_http_init_connection
            && ls[i].type == SOCK_STREAM)
        {
            ls[i].handler = ngx_http_intake_init_connection;
        }
    }
}


static void
ngx_http_intake_init_connection(ngx_connection_t *c)
{
    ngx_uint_t              ready;
    ngx_event_t            *rev;
    ngx_http_intake_t      *in;
    ngx_pool_cleanup_t     *cln;
    ngx_http_connection_t  *hc;

    rev = c->read;

    /* a deferred accept() would have the request read before we are here */

    ready = rev->ready;
    rev->ready = 0;

    ngx_http_init_connection(c);

    if (c->fd == (ngx_socket_t) -1) {
        return;
    }

    hc = c->data;

    /*
     * The server is the one that the listening socket selects, unless a TLS
     * client names another one in its handshake.
     */

    if (ngx_http_connect_tunnel_enabled(hc->conf_ctx)
#if (NGX_HTTP_SSL)
        || (hc->ssl && hc->addr_conf->virtual_names)
#endif
       )
    {
        /* not of the pool, for it goes before the connection does */

        cln = ngx_pool_cleanup_add(c->pool, 0);
        in = ngx_calloc(sizeof(ngx_http_intake_t), c->log);

        if (cln == NULL || in == NULL) {

            if (in) {
                ngx_free(in);
            }

            ngx_http_close_connection(c);
            return;
        }

        cln->handler = ngx_http_intake_cleanup;
        cln->data = in;

        in->connection = c;
        in->hc = hc;
        in->log_handler = c->log->handler;

#if (NGX_HTTP_SSL)
        if (hc->ssl) {
            in->handler = rev->handler;
            rev->handler = ngx_http_intake_ssl;

        } else
#endif
        {
            ngx_http_intake_attach(in);
        }
    }

    if (ready) {
        rev->ready = 1;

        if (ngx_use_accept_mutex) {
            ngx_post_event(rev, &ngx_posted_events);
            return;
        }

        rev->handler(rev);
    }
}


/* its address marks our entry in the pool */

static void
ngx_http_intake_cleanup(void *data)
{
    ngx_http_intake_t  *in = data;

    if (in == NULL) {
        return;
    }

#if (NGX_HTTP_SSL)
    if (in->bio) {
        BIO_free(in->bio);
    }
#endif

#if (NGX_HTTP_TUNNEL_V2)
    if (in->v2) {
        ngx_http_connect_tunnel_v2_free(in->v2);
    }
#endif

    ngx_free(in);
}


static ngx_http_intake_t *
ngx_http_intake_get(ngx_connection_t *c)
{
    ngx_pool_cleanup_t  *cln;

    for (cln = c->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_intake_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


static void
ngx_http_intake_attach(ngx_http_intake_t *in)
{
    in->recv = in->connection->recv;
    in->connection->recv = ngx_http_intake_recv;
    in->state = ngx_http_intake_first;

#if (NGX_HTTP_TUNNEL_V2)

    /* with TLS, it is negotiated */

    in->preface = (in->connection->ssl == NULL)
                  && ngx_http_connect_tunnel_v2_enabled(in->hc);
#endif
}


#if (NGX_HTTP_SSL)

/*
 * What nginx calls when the handshake is over is known once the handshake
 * waits for the client.  A client may be so fast that it never waits, so it
 * is made to: at its start it finds nothing to read.
 */

static void
ngx_http_intake_ssl(ngx_event_t *rev)
{
    SSL_CTX                   *ctx;
    ngx_connection_t          *c;
    ngx_http_intake_t         *in;
    ngx_http_ssl_srv_conf_t   *sscf;
    void                     (*callback)(const SSL *, int, int);

    c = rev->data;
    in = ngx_http_intake_get(c);

    sscf = ngx_http_get_module_srv_conf(in->hc->conf_ctx, ngx_http_ssl_module);
    ctx = sscf->ssl.ctx;

    callback = SSL_CTX_get_info_callback(ctx);
    SSL_CTX_set_info_callback(ctx, ngx_http_intake_ssl_pause);

    rev->handler = in->handler;
    rev->handler(rev);

    SSL_CTX_set_info_callback(ctx, callback);

    if (c->fd == (ngx_socket_t) -1) {
        return;
    }

    if (rev->handler == in->handler) {

        /* the first byte is still to come */

        rev->handler = ngx_http_intake_ssl;
        return;
    }

    if (in->bio == NULL) {

        /* not TLS */

        return;
    }

    SSL_set0_rbio(c->ssl->connection, in->bio);
    in->bio = NULL;

    in->ssl_handler = c->ssl->handler;
    c->ssl->handler = ngx_http_intake_ssl_done;

    rev->ready = 1;
    rev->handler(rev);
}


static void
ngx_http_intake_ssl_pause(const ngx_ssl_conn_t *ssl_conn, int where, int ret)
{
    BIO                *empty;
    ngx_connection_t   *c;
    ngx_http_intake_t  *in;

    if (!(where & SSL_CB_HANDSHAKE_START)) {
        return;
    }

    c = ngx_ssl_get_connection((ngx_ssl_conn_t *) ssl_conn);
    in = ngx_http_intake_get(c);

    empty = BIO_new(BIO_s_mem());
    if (empty == NULL) {
        ngx_ssl_error(NGX_LOG_ALERT, c->log, 0, "BIO_new() failed");
        return;
    }

    /* "try again" and not the end */

    BIO_set_mem_eof_return(empty, -1);

    in->bio = SSL_get_rbio(ssl_conn);
    BIO_up_ref(in->bio);

    SSL_set0_rbio((ngx_ssl_conn_t *) ssl_conn, empty);
}


static void
ngx_http_intake_ssl_done(ngx_connection_t *c)
{
    ngx_http_intake_t          *in;
#ifdef TLSEXT_TYPE_application_layer_protocol_negotiation
    unsigned int                len;
    const unsigned char        *data;
#endif

    in = ngx_http_intake_get(c);

    if (c->ssl->handshaked
        && in->recv == NULL
        && ngx_http_connect_tunnel_enabled(in->hc->conf_ctx))
    {
        len = 0;

#ifdef TLSEXT_TYPE_application_layer_protocol_negotiation
        SSL_get0_alpn_selected(c->ssl->connection, &data, &len);
#endif

        if (len != 2 || ngx_memcmp(data, "h2", 2) != 0) {
            ngx_http_intake_attach(in);

#if (NGX_HTTP_TUNNEL_V2)
        } else if (ngx_http_intake_v2(in) != NGX_OK) {
            ngx_http_close_connection(c);
            return;
#endif
        }
    }

    in->ssl_handler(c);
}

#endif


/* reads as the connection does, except that a CONNECT is rewritten */

static ssize_t
ngx_http_intake_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    ngx_http_intake_t  *in;

    in = ngx_http_intake_get(c);

    if (in->nrest) {
        return ngx_http_intake_rest_bytes(in, buf, size);
    }

    if (in->ready) {
        return ngx_http_intake_deliver(in, buf, size);
    }

    if (in->state == ngx_http_intake_pass) {
        return ngx_http_intake_read(in, buf, size);
    }

    return ngx_http_intake_begin(in, buf, size);
}


/*
 * Reads what may be the start of a request.  While there are too few bytes to
 * tell, they are held back.
 */

static ssize_t
ngx_http_intake_begin(ngx_http_intake_t *in, u_char *buf, size_t size)
{
    u_char            *p;
    size_t             have, skip;
    ssize_t            n;
    ngx_int_t          rc;
    ngx_uint_t         defer;
    ngx_connection_t  *c;

    c = in->connection;

    /* what is read by the keepalive handler comes behind a line break */

    defer = (c->data == in->hc && in->state == ngx_http_intake_start);

    if (defer && size > NGX_HTTP_INTAKE_LEN) {
        size--;
    }

    for ( ;; ) {

        /*
         * The bytes are read behind those that are held back; a buffer with
         * too little room left gets them from there.
         */

        have = in->nheld;

        if (size >= NGX_HTTP_INTAKE_LEN) {
            ngx_memcpy(buf, in->held, have);
            p = buf;
            n = ngx_http_intake_read(in, p + have, size - have);

        } else {
            in->state = ngx_http_intake_start;
            p = in->held;
            n = ngx_http_intake_read(in, p + have,
                                     NGX_HTTP_INTAKE_LEN - have);
        }

        if (n == 0 && have) {

            /* what there is goes first, the end is read once more */

            in->ready = 1;
            c->read->ready = 1;

            return ngx_http_intake_deliver(in, buf, size);
        }

        if (n <= 0) {
            return n;
        }

        have += n;
        skip = ngx_http_intake_skip(in, p, p + have);
        rc = ngx_http_intake_match(in, p + skip, p + have);

        if (rc != NGX_AGAIN) {
            break;
        }

        have -= skip;
        in->nheld = have;
        ngx_memmove(in->held, p + skip, have);

        if (skip) {
            return ngx_http_intake_skipped(in, buf, size, skip, p == buf);
        }
    }

    if (rc == NGX_ERROR) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "client sent data after a refused CONNECT");
        return NGX_ERROR;
    }

#if (NGX_HTTP_TUNNEL_V2)
    if (rc == NGX_DONE) {
        return ngx_http_intake_v2_begin(in, buf, size, p, have, skip);
    }
#endif

    in->preface = 0;

    if (rc == NGX_OK && defer && p == buf) {
        return ngx_http_intake_defer(in, buf, have, size);
    }

    in->state = ngx_http_intake_pass;

    if (rc == NGX_OK) {
        ngx_http_intake_rewrite(in, p + skip);
    }

    if (p == buf) {
        in->nheld = 0;

        if (rc == NGX_OK && c->data == in->hc) {
            return ngx_http_intake_first_bytes(in, buf, have,
                                               skip + NGX_HTTP_INTAKE_LEN);
        }

        return have;
    }

    in->nheld = have;
    in->ready = 1;

    return ngx_http_intake_deliver(in, buf, size);
}


/*
 * nginx makes a request when it has bytes of it, and reads on when there is
 * one.  So it first gets what tells that this is a CONNECT, and before the
 * others the request's pool is looked after.
 */

static ssize_t
ngx_http_intake_first_bytes(ngx_http_intake_t *in, u_char *buf, size_t size,
    size_t len)
{
    if (size > len) {
        in->rest = buf + len;
        in->nrest = size - len;

        in->more = in->connection->read->ready;
        in->connection->read->ready = 1;
    }

    return len;
}


static ssize_t
ngx_http_intake_rest_bytes(ngx_http_intake_t *in, u_char *buf, size_t size)
{
    size_t               n;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    c = in->connection;

    if (c->data != in->hc) {
        r = c->data;
        ngx_http_connect_tunnel_reuse(r->pool, &r->headers_out.headers);
    }

    n = ngx_min(size, in->nrest);

    if (buf != in->rest) {
        ngx_memmove(buf, in->rest, n);
    }

    in->rest += n;
    in->nrest -= n;

    c->read->ready = in->nrest ? 1 : in->more;

    return n;
}


/* lets the parser have what it skips, while the rest is held back */

static ssize_t
ngx_http_intake_skipped(ngx_http_intake_t *in, u_char *buf, size_t size,
    size_t skip, ngx_uint_t filled)
{
    in->state = ngx_http_intake_start;

    if (!filled) {
        skip = ngx_min(skip, size);
        ngx_memset(buf, LF, skip);
    }

    if (in->nheld) {
        in->connection->read->ready = 1;
    }

    return skip;
}


/* what was read once already comes first */

static ssize_t
ngx_http_intake_read(ngx_http_intake_t *in, u_char *buf, size_t size)
{
    ssize_t            n;
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = in->connection;
    b = in->stash;

    if (b == NULL || b->pos == b->last) {
        return in->recv(c, buf, size);
    }

    n = ngx_min((size_t) (b->last - b->pos), size);
    ngx_memcpy(buf, b->pos, n);
    b->pos += n;

    if (b->pos != b->last) {
        c->read->ready = 1;
    }

    return n;
}


/*
 * The keepalive handler of nginx installs its own log handler once it has
 * read.  For ours to stay, a CONNECT comes in the next read, by the request
 * itself, and the line break that is read instead is skipped by the parser.
 */

static ssize_t
ngx_http_intake_defer(ngx_http_intake_t *in, u_char *buf, size_t have,
    size_t size)
{
    ngx_buf_t         *b;
    ngx_connection_t  *c;

    c = in->connection;

    b = in->stash;

    if (b == NULL || (size_t) (b->end - b->start) < have) {
        b = ngx_create_temp_buf(c->pool, size);
        if (b == NULL) {
            return NGX_ERROR;
        }

        in->stash = b;
    }

    b->pos = b->start;
    b->last = ngx_cpymem(b->pos, buf, have);

    in->nheld = 0;

    buf[0] = LF;
    c->read->ready = 1;

    return 1;
}


static ssize_t
ngx_http_intake_deliver(ngx_http_intake_t *in, u_char *buf, size_t size)
{
    size_t  n;

    n = ngx_min(size, in->nheld);

    ngx_memcpy(buf, in->held, n);

    in->nheld -= n;
    ngx_memmove(in->held, in->held + n, in->nheld);

    if (in->nheld) {
        in->connection->read->ready = 1;

    } else {
        in->ready = 0;
    }

    return n;
}


/*
 * Looks at what may be the start of a request.  NGX_OK: a CONNECT to rewrite,
 * NGX_AGAIN: too few bytes to tell, NGX_DECLINED: something else, NGX_DONE:
 * HTTP/2, NGX_ERROR: something else where only a CONNECT may be.
 */

static ngx_int_t
ngx_http_intake_match(ngx_http_intake_t *in, u_char *p, u_char *last)
{
    size_t  len;

    len = ngx_min((size_t) (last - p), NGX_HTTP_INTAKE_LEN);

#if (NGX_HTTP_TUNNEL_V2)

    if (in->preface && ngx_memcmp(p, NGX_HTTP_TUNNEL_PREFACE, len) == 0) {
        return (len < NGX_HTTP_INTAKE_LEN) ? NGX_AGAIN : NGX_DONE;
    }

#endif

    if (ngx_memcmp(p, ngx_http_intake_connect, len) != 0) {
        return in->refused ? NGX_ERROR : NGX_DECLINED;
    }

    if (len < NGX_HTTP_INTAKE_LEN) {
        return NGX_AGAIN;
    }

    return ngx_http_connect_tunnel_enabled(in->hc->conf_ctx) ? NGX_OK
                                                             : NGX_DECLINED;
}


/*
 * What may stand in front of a request: line breaks, which the parser skips,
 * and a PROXY protocol header, which nginx wants whole in the first read.
 */

static size_t
ngx_http_intake_skip(ngx_http_intake_t *in, u_char *p, u_char *last)
{
    u_char  *start;
    size_t   len;

    static u_char  v2[] = "\r\n\r\n\0\r\nQUIT\n";

    start = p;

    if (in->state == ngx_http_intake_first && in->hc->proxy_protocol) {

        len = last - p;

        if (len >= 16 && ngx_memcmp(p, v2, 12) == 0) {
            len = 16 + (p[14] << 8) + p[15];
            p = ngx_min(p + len, last);

        } else if (len > 6 && ngx_memcmp(p, "PROXY ", 6) == 0) {

            for (p += 6; p < last; p++) {

                if (p[-1] == CR && p[0] == LF) {
                    p++;
                    break;
                }
            }
        }
    }

    while (p < last && (*p == CR || *p == LF)) {
        p++;

        /* HTTP/2 has none */

        in->preface = 0;
    }

    return p - start;
}


/* the parser is to see a path */

static void
ngx_http_intake_rewrite(ngx_http_intake_t *in, u_char *p)
{
    ngx_memcpy(p, ngx_http_intake_tunnel, NGX_HTTP_INTAKE_LEN);

    in->refused = 0;

    ngx_http_intake_parse(in);
}


/* and no server that the target or the Host header happens to name */

static void
ngx_http_intake_parse(ngx_http_intake_t *in)
{
    ngx_http_connection_t  *hc;

    in->connect = 1;

    hc = in->hc;

    in->saved_addr_conf = hc->addr_conf;
    in->addr_conf = *hc->addr_conf;
    in->addr_conf.virtual_names = NULL;
    hc->addr_conf = &in->addr_conf;

#if (NGX_HTTP_SSL && defined SSL_CTRL_SET_TLSEXT_HOSTNAME)
    in->saved_servername = hc->ssl_servername;
    hc->ssl_servername = NULL;
#endif

    in->connection->log->handler = ngx_http_intake_log_error;
}


#if (NGX_HTTP_TUNNEL_V2)

static ngx_int_t
ngx_http_intake_v2(ngx_http_intake_t *in)
{
    ngx_connection_t  *c;

    c = in->connection;

    if (in->recv == NULL) {
        in->recv = c->recv;
    }

    in->v2 = ngx_http_connect_tunnel_v2_create(c, in->hc, in->recv);
    if (in->v2 == NULL) {
        return NGX_ERROR;
    }

    c->recv = ngx_http_intake_v2_recv;

    return NGX_OK;
}


/* the preface was read, behind so many bytes of a PROXY protocol header */

static ssize_t
ngx_http_intake_v2_begin(ngx_http_intake_t *in, u_char *buf, size_t size,
    u_char *p, size_t have, size_t skip)
{
    in->preface = 0;
    in->nheld = 0;

    if (ngx_http_intake_v2(in) != NGX_OK
        || ngx_http_connect_tunnel_v2_unread(in->v2, p, have, skip) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_intake_v2_recv(in->connection, buf, size);
}


/* when nginx reads again, it is done with what it has read */

static ssize_t
ngx_http_intake_v2_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    ssize_t             n;
    ngx_http_intake_t  *in;

    in = ngx_http_intake_get(c);

    if (in->connect) {
        ngx_http_intake_restore_server(in);
    }

    n = ngx_http_connect_tunnel_v2_recv(in->v2, buf, size);

    if (in->v2->connect) {
        ngx_http_intake_parse(in);

        if (in->v2->hpack.what) {

            /* what the parser says of it is about a request that it is not */

            ngx_log_error(NGX_LOG_INFO, c->log, 0,
                          "client sent CONNECT with %s", in->v2->hpack.what);
        }
    }

    return n;
}

#endif


/* returns NULL for a request that none of this is about */

static ngx_http_intake_t *
ngx_http_intake_find(ngx_http_request_t *r)
{
    if (r != r->main) {
        return NULL;
    }

#if (NGX_HTTP_TUNNEL_V2)

    if (r->stream) {
        return ngx_http_intake_get(r->stream->connection->connection);
    }

#endif

    return r->stream ? NULL : ngx_http_intake_get(r->connection);
}


/* whether it is this request that is parsed as something else */

static ngx_uint_t
ngx_http_intake_is_connect(ngx_http_intake_t *in, ngx_http_request_t *r)
{
    if (in == NULL || !in->connect) {
        return 0;
    }

#if (NGX_HTTP_TUNNEL_V2)

    if (r->stream) {
        return r->stream->node->id == in->v2->hpack.sid;
    }

#endif

    return 1;
}


static ngx_int_t
ngx_http_intake_post_read_handler(ngx_http_request_t *r)
{
    ngx_str_t           authority;
    ngx_http_intake_t  *in;

    in = ngx_http_intake_find(r);

    if (!ngx_http_intake_is_connect(in, r)) {
        return NGX_DECLINED;
    }

    if (ngx_memcmp(r->request_line.data, ngx_http_intake_tunnel,
                   NGX_HTTP_INTAKE_LEN)
        != 0
        && ngx_memcmp(r->request_line.data, ngx_http_intake_connect,
                      NGX_HTTP_INTAKE_LEN)
           != 0)
    {
        /* it is another request that was read */

        ngx_http_intake_restore_server(in);

        return NGX_DECLINED;
    }

    /* the path without its slash; arguments and all */

    authority.data = r->unparsed_uri.data + 1;
    authority.len = r->unparsed_uri.len - 1;

    ngx_http_intake_restore(in, r);

    /* that of a stream may be older than its method */

    r->connection->log->handler = ngx_http_intake_log_error;

    if (ngx_http_connect_tunnel_accept(r, &authority) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DECLINED;
}


/* runs before any other of the phase */

static ngx_int_t
ngx_http_intake_log_handler(ngx_http_request_t *r)
{
    ngx_http_intake_t  *in;

    if (r != r->main) {
        return NGX_OK;
    }

    in = ngx_http_intake_find(r);

    if (in == NULL) {

        /*
         * there was a tunnel, whose log handler stays with the connection, or
         * there can be none
         */

        if (ngx_http_connect_tunnel_get_ctx(r)) {
            ngx_http_connect_tunnel_forget(r);
        }

        return NGX_OK;
    }

    if (ngx_http_intake_is_connect(in, r)) {

        /* failed before the first phase */

        ngx_http_intake_restore(in, r);
    }

    ngx_http_connect_tunnel_forget(r);

    if (r->stream) {
        return NGX_OK;
    }

    r->connection->log->handler = in->log_handler;

    /* no request comes behind one that was not read to its end */

    if (in->recv && r->http_state != NGX_HTTP_READING_REQUEST_STATE) {
        ngx_http_intake_rearm(in, r->header_in);
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_connect_tunnel_intake_restore(ngx_http_request_t *r)
{
    ngx_http_intake_t  *in;

    in = ngx_http_intake_find(r);

    if (!ngx_http_intake_is_connect(in, r)) {
        return 0;
    }

    ngx_http_intake_restore(in, r);

    return 1;
}


static void
ngx_http_intake_restore(ngx_http_intake_t *in, ngx_http_request_t *r)
{
    ngx_http_intake_restore_line(r);
    ngx_http_intake_restore_request(r);
    ngx_http_intake_restore_server(in);
}


/* the parser is past these bytes when there is a path, or a whole line */

static void
ngx_http_intake_restore_line(ngx_http_request_t *r)
{
    u_char  *p;

    p = r->stream ? r->request_line.data
                  : (r->uri_start ? r->request_start : NULL);

    if (p && ngx_memcmp(p, ngx_http_intake_tunnel, NGX_HTTP_INTAKE_LEN) == 0) {
        ngx_memcpy(p, ngx_http_intake_connect, NGX_HTTP_INTAKE_LEN);
    }
}


static void
ngx_http_intake_restore_request(ngx_http_request_t *r)
{
    r->method = NGX_HTTP_CONNECT;
    r->method_name.data = ngx_http_intake_connect;
    r->method_name.len = sizeof("CONNECT") - 1;

    /* that of a request for the server as a whole (RFC 9112 3.2.4) */

    ngx_str_set(&r->uri, "/");
    ngx_str_null(&r->args);
    ngx_str_null(&r->exten);

    r->valid_unparsed_uri = 0;
    r->complex_uri = 0;
    r->quoted_uri = 0;
    r->plus_in_uri = 0;

    if (r->unparsed_uri.len) {
        r->unparsed_uri.data++;
        r->unparsed_uri.len--;
    }
}


static void
ngx_http_intake_restore_server(ngx_http_intake_t *in)
{
    ngx_http_connection_t  *hc;

    in->connect = 0;

    hc = in->hc;

    hc->addr_conf = in->saved_addr_conf;

#if (NGX_HTTP_SSL && defined SSL_CTRL_SET_TLSEXT_HOSTNAME)
    hc->ssl_servername = in->saved_servername;
#endif

#if (NGX_HTTP_TUNNEL_V2)

    /* of the connection; the request has one of its own */

    if (in->v2) {
        in->connection->log->handler = in->log_handler;
    }

#endif
}


/*
 * A request has ended.  The next one may be in its buffer, as a whole or in
 * part, and is then parsed without a read.
 */

static void
ngx_http_intake_rearm(ngx_http_intake_t *in, ngx_buf_t *b)
{
    size_t      skip;
    ngx_int_t   rc;

    in->state = ngx_http_intake_start;

    if (b == NULL || b->pos >= b->last) {
        return;
    }

    skip = ngx_http_intake_skip(in, b->pos, b->last);
    rc = ngx_http_intake_match(in, b->pos + skip, b->last);

    if (rc == NGX_ERROR) {
        return;
    }

    if (rc == NGX_AGAIN) {

        /* back to where it will be read again */

        b->pos += skip;
        in->nheld = b->last - b->pos;
        ngx_memcpy(in->held, b->pos, in->nheld);
        b->last = b->pos;

        in->connection->read->ready = 1;

        return;
    }

    in->state = ngx_http_intake_pass;

    if (rc == NGX_OK) {
        ngx_http_intake_rewrite(in, b->pos + skip);
    }
}


#if (NGX_HTTP_TUNNEL_V2)

ngx_http_tunnel_v2_t *
ngx_http_connect_tunnel_intake_v2(ngx_http_request_t *r)
{
    return ngx_http_intake_find(r)->v2;
}

#endif


void
ngx_http_connect_tunnel_intake_detach(ngx_connection_t *c)
{
    ngx_http_intake_t   *in;
    ngx_pool_cleanup_t  *cln;

    for (cln = c->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_intake_cleanup) {
            in = cln->data;
            cln->data = NULL;

            c->recv = in->recv;

            ngx_http_intake_cleanup(in);

            return;
        }
    }
}


void
ngx_http_connect_tunnel_intake_refused(ngx_connection_t *c)
{
    ngx_http_intake_t  *in;

    in = ngx_http_intake_get(c);

    if (in) {
        in->refused = 1;
    }
}


/* as ngx_http_log_error(), but may leave out the client */

static u_char *
ngx_http_intake_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                              *p;
    ngx_http_request_t                  *r;
    ngx_http_log_ctx_t                  *ctx;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    p = buf;

    if (log->action) {
        p = ngx_snprintf(buf, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    ctx = log->data;
    r = ctx->request;

    if (r) {
        ctlcf = ngx_http_get_module_loc_conf(r,
                                             ngx_http_connect_tunnel_module);

        if (!ctlcf->anonymous) {
            p = ngx_snprintf(buf, len, ", client: %V",
                             &ctx->connection->addr_text);
            len -= p - buf;
        }

        ngx_http_intake_restore_line(r);

        return ngx_http_connect_tunnel_log_request(r, log, ctx, p, len);
    }

    return ngx_snprintf(buf, len, ", server: %V",
                        &ctx->connection->listening->addr_text);
}
