/* See link.h. */

#include "link.h"

#ifndef WITHOUT_TLS

#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>


/* What Chromium says: 6 MiB for a stream, 15 for the connection. */

enum {
    STREAM_WINDOW = 6 * 1024 * 1024,
    WINDOW = 15 * 1024 * 1024
};

struct link_s {
    void                 *data;
    SSL                  *ssl;
    nghttp2_session      *h2;
    bool                  opened;
    bool                  awake;        /* HTTP/1.1: its tunnel has bytes */
    bool                  done;         /* the peer's close_notify */
    void                 *tunnel;

    const unsigned char  *in;           /* bytes received, not read yet */
    size_t                in_len;

    unsigned char        *out;          /* bytes to be sent */
    size_t                out_pos;
    size_t                out_len;
    size_t                out_size;
};

static SSL_CTX                    *contexts[2];     /* HTTP/1.1, HTTP/2 */
static BIO_METHOD                 *bio_method;
static nghttp2_session_callbacks  *callbacks;
static const link_events_t        *events;

/* alpn protocol lists */
static const unsigned char  *const protocols[] = {
    (const unsigned char *) "\x08http/1.1", (const unsigned char *) "\x02h2"
};


/* TLS reads and writes memory. */

static int
bio_read(BIO *b, char *p, int size)
{
    link_t  *l = BIO_get_data(b);
    size_t   n;

    BIO_clear_retry_flags(b);

    if (l->in_len == 0) {
        BIO_set_retry_read(b);
        return -1;
    }

    n = l->in_len < (size_t) size ? l->in_len : (size_t) size;
    memcpy(p, l->in, n);
    l->in += n;
    l->in_len -= n;

    return (int) n;
}


static int
bio_write(BIO *b, const char *p, int size)
{
    size_t          need;
    link_t         *l = BIO_get_data(b);
    unsigned char  *out;

    need = l->out_len + (size_t) size;

    if (need > l->out_size) {
        need = need < LINK_PLAIN ? LINK_PLAIN + LINK_PLAIN / 8 : 2 * need;

        out = realloc(l->out, need);
        if (out == NULL) {
            return -1;
        }

        l->out = out;
        l->out_size = need;
    }

    memcpy(l->out + l->out_len, p, (size_t) size);
    l->out_len += (size_t) size;

    return size;
}


static long
bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void) b;
    (void) num;
    (void) ptr;

    return cmd == BIO_CTRL_FLUSH;
}


/* HTTP/2: callbacks of a session, whose user is the link. */

static void *
stream_tunnel(nghttp2_session *h2, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h2, id);
}


static int
h2_header(nghttp2_session *h2, const nghttp2_frame *frame,
    const uint8_t *name, size_t namelen, const uint8_t *value,
    size_t valuelen, uint8_t flags, void *user)
{
    void  *tunnel;

    (void) valuelen;
    (void) flags;
    (void) user;

    tunnel = stream_tunnel(h2, frame->hd.stream_id);

    if (tunnel != NULL && namelen == 7 && memcmp(name, ":status", 7) == 0) {
        events->answered(tunnel, atoi((const char *) value));
    }

    return 0;
}


static int
h2_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *p,
    size_t n, void *user)
{
    void  *tunnel;

    (void) flags;
    (void) user;

    tunnel = stream_tunnel(h2, id);

    if (tunnel != NULL) {
        events->received(tunnel, p, n);
    }

    return 0;
}


static int
h2_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    void  *tunnel;

    (void) user;

    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS)
        || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
    {
        return 0;
    }

    tunnel = stream_tunnel(h2, frame->hd.stream_id);

    if (tunnel != NULL) {
        events->closed(tunnel, NGHTTP2_NO_ERROR);
    }

    return 0;
}


static int
h2_close(nghttp2_session *h2, int32_t id, uint32_t code, void *user)
{
    void  *tunnel;

    (void) user;

    tunnel = stream_tunnel(h2, id);

    if (tunnel != NULL) {
        events->closed(tunnel, code);
    }

    return 0;
}


static ssize_t
h2_pull(nghttp2_session *h2, int32_t id, uint8_t *p, size_t size,
    uint32_t *flags, nghttp2_data_source *source, void *user)
{
    void   *tunnel;
    size_t  n;

    (void) source;
    (void) user;

    tunnel = stream_tunnel(h2, id);

    if (tunnel == NULL) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        return 0;
    }

    n = events->pull(tunnel, p, size);

    return n > 0 ? (ssize_t) n : NGHTTP2_ERR_DEFERRED;
}


const char *
link_init(const link_events_t *e)
{
    int       i;
    SSL_CTX  *ctx;

    events = e;

    bio_method = BIO_meth_new(BIO_get_new_index()|BIO_TYPE_SOURCE_SINK,
                              "link");
    if (bio_method == NULL || nghttp2_session_callbacks_new(&callbacks) != 0) {
        return "no memory";
    }

    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);

    nghttp2_session_callbacks_set_on_header_callback(callbacks, h2_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
                                                              h2_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
                                                           h2_close);

    /*
     * All handshakes are full ones: no session is kept.  As browsers do, it
     * asks for X25519 and AES-128 first.  The proxy's certificate is not
     * verified, but its signature of the handshake is.
     */

    for (i = 0; i < 2; i++) {
        ctx = SSL_CTX_new(TLS_client_method());
        if (ctx == NULL) {
            return "no memory";
        }

        contexts[i] = ctx;

        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);

        if (SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:"
                                          "TLS_AES_256_GCM_SHA384:"
                                          "TLS_CHACHA20_POLY1305_SHA256") != 1
            || SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1
            || SSL_CTX_set_alpn_protos(ctx, protocols[i],
                                       protocols[i][0] + 1U) != 0)
        {
            return "TLS 1.3 is not available";
        }
    }

    return NULL;
}


static bool
h2_new(link_t *l)
{
    nghttp2_settings_entry  settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW }
    };

    return nghttp2_session_client_new(&l->h2, callbacks, l) == 0
           && nghttp2_submit_settings(l->h2, NGHTTP2_FLAG_NONE, settings, 2)
              == 0
           && nghttp2_session_set_local_window_size(l->h2, NGHTTP2_FLAG_NONE,
                                                    0, WINDOW) == 0;
}


link_t *
link_new(bool h2, void *data)
{
    BIO     *b;
    link_t  *l;

    l = calloc(1, sizeof(link_t));
    if (l == NULL) {
        return NULL;
    }

    l->data = data;
    l->ssl = SSL_new(contexts[h2]);
    b = BIO_new(bio_method);

    if (l->ssl == NULL || b == NULL || (h2 && !h2_new(l))) {
        BIO_free(b);
        link_free(l);
        return NULL;
    }

    BIO_set_data(b, l);
    BIO_set_init(b, 1);
    SSL_set_bio(l->ssl, b, b);
    SSL_set_connect_state(l->ssl);

    return l;
}


void
link_free(link_t *l)
{
    nghttp2_session_del(l->h2);
    SSL_free(l->ssl);
    free(l->out);
    free(l);
}


/* Whether an operation that did not succeed may do so later. */

static bool
tls_waits(link_t *l, int n, const char **why)
{
    switch (SSL_get_error(l->ssl, n)) {

    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return true;

    case SSL_ERROR_ZERO_RETURN:
        *why = "closed";
        break;

    default:
        *why = ERR_reason_error_string(ERR_peek_error());

        if (*why == NULL) {
            *why = "TLS failed";
        }
    }

    ERR_clear_error();

    return false;
}


static bool
tls_handshake(link_t *l, const char **why)
{
    int                   n;
    unsigned              len;
    const unsigned char  *got, *want;

    ERR_clear_error();

    n = SSL_do_handshake(l->ssl);
    if (n != 1) {
        return tls_waits(l, n, why);
    }

    /* with HTTP/1.1, the proxy need not know ALPN */

    want = protocols[l->h2 != NULL];
    SSL_get0_alpn_selected(l->ssl, &got, &len);

    if ((l->h2 || len > 0)
        && (len != want[0] || memcmp(got, want + 1, len) != 0))
    {
        *why = "the proxy chose another protocol by ALPN";
        return false;
    }

    l->opened = true;
    events->opened(l->data);

    return true;
}


bool
link_receive(link_t *l, const unsigned char *p, size_t n, const char **why)
{
    int            len;
    ssize_t        used;
    unsigned char  plain[LINK_RECORD];

    l->in = p;
    l->in_len = n;

    if (!l->opened) {
        if (!tls_handshake(l, why)) {
            return false;
        }

        if (!l->opened) {
            return true;
        }
    }

    for ( ;; ) {
        ERR_clear_error();

        len = SSL_read(l->ssl, plain, sizeof(plain));
        if (len <= 0) {
            return tls_waits(l, len, why);
        }

        if (l->h2 == NULL) {
            if (l->tunnel != NULL) {
                events->received(l->tunnel, plain, (size_t) len);
            }

            continue;
        }

        used = nghttp2_session_mem_recv(l->h2, plain, (size_t) len);

        if (used != len) {
            *why = nghttp2_strerror((int) used);
            return false;
        }
    }
}


/* Fills p with what is to be encrypted. */

static ssize_t
link_plain(link_t *l, unsigned char *p)
{
    size_t          n;
    ssize_t         len;
    const uint8_t  *frame;

    if (l->h2 == NULL) {
        n = l->awake && l->tunnel ? events->pull(l->tunnel, p, LINK_PLAIN) : 0;
        l->awake = n > 0;

        return (ssize_t) n;
    }

    /* one of these may be the header of a frame and LINK_RECORD */

    for (n = 0; n + LINK_RECORD + 64 <= LINK_PLAIN; n += (size_t) len) {
        len = nghttp2_session_mem_send(l->h2, &frame);

        if (len <= 0) {
            return len < 0 ? len : (ssize_t) n;
        }

        if ((size_t) len > LINK_PLAIN - n) {
            return NGHTTP2_ERR_BUFFER_ERROR;
        }

        memcpy(p + n, frame, (size_t) len);
    }

    return (ssize_t) n;
}


bool
link_output(link_t *l, const unsigned char **p, size_t *n, const char **why)
{
    int            rc;
    ssize_t        len;
    unsigned char  plain[LINK_PLAIN];

    if (l->out_pos == l->out_len) {
        l->out_pos = l->out_len = 0;

        if (!l->opened) {
            /* the first message; the others are made by what is received */

            if (!tls_handshake(l, why)) {
                return false;
            }

        } else {
            len = link_plain(l, plain);

            if (len < 0) {
                *why = nghttp2_strerror((int) len);
                return false;
            }

            if (len > 0) {
                ERR_clear_error();

                rc = SSL_write(l->ssl, plain, (int) len);
                if (rc != len) {
                    *why = "TLS cannot write";
                    return false;
                }
            }
        }

        if (l->out_len == 0) {
            free(l->out);
            l->out = NULL;
            l->out_size = 0;
        }
    }

    *p = l->out + l->out_pos;
    *n = l->out_len - l->out_pos;

    return true;
}


void
link_sent(link_t *l, size_t n)
{
    l->out_pos += n;
}


int32_t
link_open_stream(link_t *l, void *tunnel, const char *authority)
{
    nghttp2_data_provider  from = { .read_callback = h2_pull };

    nghttp2_nv  fields[] = {
        { (uint8_t *) ":method", (uint8_t *) "CONNECT", 7, 7, 0 },
        { (uint8_t *) ":authority", (uint8_t *) authority, 10, 0, 0 }
    };

    if (l->h2 == NULL) {
        l->tunnel = tunnel;
        return 0;
    }

    fields[1].valuelen = strlen(authority);

    return nghttp2_submit_request(l->h2, NULL, fields, 2, &from, tunnel);
}


void
link_wake(link_t *l, int32_t stream)
{
    if (l->h2 == NULL) {
        l->awake = true;

    } else {
        /* there is nothing to resume before the first DATA was asked for */
        nghttp2_session_resume_data(l->h2, stream);
    }
}


void
link_close_stream(link_t *l, int32_t stream, bool reset)
{
    if (l->h2 == NULL) {
        l->tunnel = NULL;
        return;
    }

    nghttp2_session_set_stream_user_data(l->h2, stream, NULL);

    if (reset) {
        nghttp2_submit_rst_stream(l->h2, NGHTTP2_FLAG_NONE, stream,
                                  NGHTTP2_CANCEL);
    } else {
        nghttp2_session_resume_data(l->h2, stream);
    }
}


bool
link_usable(const link_t *l)
{
    return l->h2 == NULL
           ? l->tunnel == NULL
           : nghttp2_session_check_request_allowed(l->h2) != 0;
}

#else /* WITHOUT_TLS */

#pragma GCC diagnostic ignored "-Wunused-parameter"

const char *
link_init(const link_events_t *e)
{
    return "built without OpenSSL and nghttp2";
}


/* None of these is ever called. */

link_t *link_new(bool h2, void *data) { return NULL; }
void link_free(link_t *l) { }
bool link_receive(link_t *l, const unsigned char *p, size_t n,
    const char **why) { return false; }
bool link_output(link_t *l, const unsigned char **p, size_t *n,
    const char **why) { return false; }
void link_sent(link_t *l, size_t n) { }
int32_t link_open_stream(link_t *l, void *tunnel, const char *authority)
    { return 0; }
void link_wake(link_t *l, int32_t stream) { }
void link_close_stream(link_t *l, int32_t stream, bool reset) { }
bool link_usable(const link_t *l) { return false; }

#endif
