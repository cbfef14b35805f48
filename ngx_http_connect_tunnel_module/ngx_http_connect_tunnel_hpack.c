
/*
 * Header blocks of HTTP/2: from HPACK (RFC 7541) to literals.
 */


#include "ngx_http_connect_tunnel_hpack.h"


/* in front of the fields: a frame's header, and a priority */

#define NGX_HTTP_HPACK_ROOM      (NGX_HTTP_HPACK_FRAME + 5)

/* memory that a block has at first */

#define NGX_HTTP_HPACK_SIZE      1024

/* a prefix of 7 bits is followed by so many bytes at most, for 65536 */

#define NGX_HTTP_HPACK_INT       4

#define NGX_HTTP_HPACK_MAX       ((1 << 24) - 1)   /* of a frame */


static size_t ngx_http_hpack_indexes(u_char *p, u_char *last);
static ngx_int_t ngx_http_hpack_block(ngx_http_hpack_t *h, u_char **p,
    u_char *last);
static ngx_int_t ngx_http_hpack_head(ngx_http_hpack_t *h, u_char **p,
    u_char *last);
static ngx_int_t ngx_http_hpack_first(ngx_http_hpack_t *h, size_t len);
static ngx_int_t ngx_http_hpack_fragment(ngx_http_hpack_t *h, u_char **p,
    u_char *last);
static ngx_int_t ngx_http_hpack_field(ngx_http_hpack_t *h, nghttp2_nv *nv);
static void ngx_http_hpack_decide(ngx_http_hpack_t *h, nghttp2_nv *nv);
static u_char *ngx_http_hpack_pseudo(ngx_http_hpack_t *h, u_char *p,
    nghttp2_nv *nv);
static ngx_int_t ngx_http_hpack_complete(ngx_http_hpack_t *h);
static ngx_int_t ngx_http_hpack_connect(ngx_http_hpack_t *h);
static ngx_int_t ngx_http_hpack_room(ngx_http_hpack_t *h, size_t size);
static u_char *ngx_http_hpack_string(u_char *p, u_char *data, size_t len);
static u_char *ngx_http_hpack_int(u_char *p, size_t n);
static u_char *ngx_http_hpack_frame(ngx_http_hpack_t *h, u_char *p,
    size_t len, u_char flags);
static ngx_int_t ngx_http_hpack_fail(ngx_http_hpack_t *h, ssize_t err);
static ngx_int_t ngx_http_hpack_too_large(ngx_http_hpack_t *h);
static ngx_int_t ngx_http_hpack_error(ngx_http_hpack_t *h, u_char *bytes,
    size_t len);
static ngx_int_t ngx_http_hpack_raw(ngx_http_hpack_t *h);


#define ngx_http_hpack_is(p, len, s)                                          \
    ((len) == sizeof(s) - 1 && ngx_memcmp(p, s, sizeof(s) - 1) == 0)


/*
 * The parser's table is given no room.  So nothing gets into it, though fields
 * are such as are added to it: others nginx does not measure right when it
 * skips the fields of a stream that it has refused.
 */

#define NGX_HTTP_HPACK_NO_TABLE  0x20
#define NGX_HTTP_HPACK_LITERAL   0x40


/* an index of 0, and a name of 2 megabytes */

static u_char  ngx_http_hpack_bad[] = { 0x80 };
static u_char  ngx_http_hpack_large[] = { 0x00, 0x7f, 0xff, 0xff, 0x7f };


ngx_int_t
ngx_http_hpack_init(ngx_http_hpack_t *h)
{
    /* the table may have 4096 bytes, which is what a client takes for given */

    return nghttp2_hd_inflate_new(&h->inflater) ? NGX_ERROR : NGX_OK;
}


void
ngx_http_hpack_free(ngx_http_hpack_t *h)
{
    if (h->inflater) {
        nghttp2_hd_inflate_del(h->inflater);
        h->inflater = NULL;
    }

    if (h->start) {
        ngx_free(h->start);
        h->start = NULL;
    }
}


ngx_int_t
ngx_http_hpack_read(ngx_http_hpack_t *h, u_char **p, u_char *last)
{
    size_t     len;
    ngx_int_t  rc;

    if (h->pass && !h->reading) {

        len = ngx_http_hpack_indexes(*p, last);

        if (len) {
            *p += len;
            return NGX_DECLINED;
        }
    }

    rc = ngx_http_hpack_block(h, p, last);

    if (h->passing && rc != NGX_ERROR) {
        return NGX_DECLINED;
    }

    if (rc == NGX_AGAIN) {

        /* what was used up is here, and no longer there to pass */

        h->pass = 0;
    }

    return rc;
}


/*
 * A client that asks for the same again sends nothing but indexes.  These do
 * not change its table, and the method is seen without it.  Returns the length
 * of such a frame, or 0 if it is another one.
 */

static size_t
ngx_http_hpack_indexes(u_char *p, u_char *last)
{
    size_t                  priority;
    ngx_uint_t              method;
    ngx_http_hpack_head_t   head;

    if (last - p < NGX_HTTP_HPACK_FRAME) {
        return 0;
    }

    ngx_http_hpack_parse(p, &head);
    p += NGX_HTTP_HPACK_FRAME;

    priority = (head.flags & NGX_HTTP_HPACK_PRIORITY) ? 5 : 0;

    if (!(head.flags & NGX_HTTP_HPACK_END_HEADERS)
        || (head.flags & NGX_HTTP_HPACK_PADDED)
        || head.len > (size_t) (last - p)
        || head.len < priority)
    {
        return 0;
    }

    last = p + head.len;
    method = 0;

    for (p += priority; p < last; p++) {

        if (*p <= 0x80 || *p == 0xff) {
            return 0;
        }

        if (*p == 0x82 || *p == 0x83) {
            method = 1;
        }
    }

    return method ? NGX_HTTP_HPACK_FRAME + head.len : 0;
}


static ngx_int_t
ngx_http_hpack_block(ngx_http_hpack_t *h, u_char **p, u_char *last)
{
    size_t     n;
    ngx_int_t  rc;

    if (!h->reading) {
        h->reading = 1;
        h->connect = 0;
        h->passing = 0;
        h->first = 0;
        h->started = 0;
        h->ended = 0;
        h->regular = 0;
        h->others = 0;
        h->authorities = 0;
        h->what = NULL;
        h->nhead = 0;
        h->rest = 0;
        h->padding = 0;
        h->left = h->limit;
        h->budget = 2 * h->limit + 16384;

        if (h->start) {
            h->out = h->start + NGX_HTTP_HPACK_ROOM + 1;
        }
    }

    for ( ;; ) {

        if (h->rest) {
            rc = ngx_http_hpack_fragment(h, p, last);

            if (rc != NGX_DONE) {
                return rc;
            }
        }

        n = ngx_min(h->padding, (size_t) (last - *p));

        *p += n;
        h->padding -= n;

        if (h->padding) {
            return NGX_AGAIN;
        }

        if (h->ended) {
            return ngx_http_hpack_complete(h);
        }

        rc = ngx_http_hpack_head(h, p, last);

        if (rc != NGX_DONE) {
            return rc;
        }
    }
}


/* NGX_DONE once it is read, otherwise as ngx_http_hpack_block() */

static ngx_int_t
ngx_http_hpack_head(ngx_http_hpack_t *h, u_char **p, u_char *last)
{
    size_t                  size;
    ngx_int_t               rc;
    ngx_http_hpack_head_t   head;

    size = NGX_HTTP_HPACK_FRAME;

    for ( ;; ) {

        while (h->nhead < size) {

            if (*p == last) {
                return NGX_AGAIN;
            }

            h->head[h->nhead++] = *(*p)++;
        }

        ngx_http_hpack_parse(h->head, &head);

        if (h->first) {

            /* RFC 9113 6.10 */

            if (head.type != NGX_HTTP_HPACK_CONTINUATION
                || head.sid != h->sid)
            {
                return ngx_http_hpack_raw(h);
            }

            h->rest = head.len;
            break;
        }

        size = NGX_HTTP_HPACK_FRAME;

        if (head.flags & NGX_HTTP_HPACK_PADDED) {
            size++;
        }

        if (head.flags & NGX_HTTP_HPACK_PRIORITY) {
            size += 5;
        }

        if (head.len <= size - NGX_HTTP_HPACK_FRAME) {
            return ngx_http_hpack_raw(h);
        }

        if (h->nhead == size) {
            h->sid = head.sid;
            h->flags = head.flags;

            rc = ngx_http_hpack_first(h, head.len
                                         - (size - NGX_HTTP_HPACK_FRAME));

            if (rc != NGX_DONE) {
                return rc;
            }

            break;
        }
    }

    h->nhead = 0;
    h->ended = (head.flags & NGX_HTTP_HPACK_END_HEADERS) ? 1 : 0;

    if (head.len + NGX_HTTP_HPACK_FRAME > h->budget) {

        /* the parser has the beginning, and there is no other end */

        return h->passing ? NGX_ERROR : ngx_http_hpack_too_large(h);
    }

    h->budget -= head.len + NGX_HTTP_HPACK_FRAME;

    return NGX_DONE;
}


static ngx_int_t
ngx_http_hpack_first(ngx_http_hpack_t *h, size_t len)
{
    size_t  padding;

    padding = (h->flags & NGX_HTTP_HPACK_PADDED)
              ? h->head[NGX_HTTP_HPACK_FRAME] : 0;

    if (padding > len) {
        return ngx_http_hpack_raw(h);
    }

    h->first = 1;
    h->rest = len - padding;
    h->padding = padding;

    if (h->flags & NGX_HTTP_HPACK_PRIORITY) {
        ngx_memcpy(h->priority, h->head + h->nhead - 5, 5);
    }

    return NGX_DONE;
}


/* NGX_DONE once it is read, otherwise as ngx_http_hpack_block() */

static ngx_int_t
ngx_http_hpack_fragment(ngx_http_hpack_t *h, u_char **p, u_char *last)
{
    int         flags;
    size_t      n;
    ssize_t     rv;
    ngx_int_t   rc;
    nghttp2_nv  nv;

    n = ngx_min(h->rest, (size_t) (last - *p));

    while (n) {

        rv = nghttp2_hd_inflate_hd2(h->inflater, &nv, &flags, *p, n, 0);

        if (rv < 0) {
            return ngx_http_hpack_fail(h, rv);
        }

        *p += rv;
        n -= rv;
        h->rest -= rv;

        if (flags & NGHTTP2_HD_INFLATE_EMIT) {

            rc = ngx_http_hpack_field(h, &nv);

            if (rc != NGX_DONE) {
                return rc;
            }
        }
    }

    return h->rest ? NGX_AGAIN : NGX_DONE;
}


static ngx_int_t
ngx_http_hpack_field(ngx_http_hpack_t *h, nghttp2_nv *nv)
{
    u_char  *p;
    size_t   size;

    if (h->pass && !h->passing) {
        ngx_http_hpack_decide(h, nv);
    }

    if (h->passing) {
        return NGX_DONE;
    }

    size = nv->namelen + nv->valuelen;

    if (size > h->left) {
        return ngx_http_hpack_too_large(h);
    }

    h->left -= size;

    if (ngx_http_hpack_room(h, 1 + size + 2 * NGX_HTTP_HPACK_INT) != NGX_OK) {
        return NGX_ERROR;
    }

    p = h->out;

    if (!h->regular && nv->namelen && nv->name[0] == ':') {
        h->out = ngx_http_hpack_pseudo(h, p, nv);
        return NGX_DONE;
    }

    if (!h->regular) {
        h->regular = 1;
        h->fields = p - h->start;
    }

    *p++ = NGX_HTTP_HPACK_LITERAL;

    p = ngx_http_hpack_string(p, nv->name, nv->namelen);
    h->out = ngx_http_hpack_string(p, nv->value, nv->valuelen);

    return NGX_DONE;
}


/* whether the block is a CONNECT is known when there is its method, or not */

static void
ngx_http_hpack_decide(ngx_http_hpack_t *h, nghttp2_nv *nv)
{
    if (nv->namelen && nv->name[0] == ':'
        && !ngx_http_hpack_is(nv->name, nv->namelen, ":method"))
    {
        return;
    }

    if (nv->namelen && nv->name[0] == ':'
        && ngx_http_hpack_is(nv->value, nv->valuelen, "CONNECT"))
    {
        h->pass = 0;
        return;
    }

    h->passing = 1;
}


/* writes one of these, by its index in the static table, RFC 7541 A */

static u_char *
ngx_http_hpack_pseudo(ngx_http_hpack_t *h, u_char *p, nghttp2_nv *nv)
{
    u_char  *value;
    size_t   len;

    value = nv->value;
    len = nv->valuelen;

    if (ngx_http_hpack_is(nv->name, nv->namelen, ":authority")) {
        *p++ = NGX_HTTP_HPACK_LITERAL|1;
        p = ngx_http_hpack_string(p, value, len);

        h->authorities++;
        h->authority = p - len - h->start;
        h->len = len;

        return p;
    }

    if (ngx_http_hpack_is(nv->name, nv->namelen, ":method")) {

        if (ngx_http_hpack_is(value, len, "GET")) {
            *p++ = 0x82;
            return p;
        }

        if (ngx_http_hpack_is(value, len, "CONNECT")) {
            h->connect = 1;

            value = (u_char *) "TUNNEL";
            len = sizeof("TUNNEL") - 1;
        }

        *p++ = NGX_HTTP_HPACK_LITERAL|2;

        return ngx_http_hpack_string(p, value, len);
    }

    h->others = 1;

    if (ngx_http_hpack_is(nv->name, nv->namelen, ":path")) {
        *p++ = NGX_HTTP_HPACK_LITERAL|4;

    } else if (ngx_http_hpack_is(nv->name, nv->namelen, ":scheme")) {

        if (ngx_http_hpack_is(value, len, "https")) {
            *p++ = 0x87;
            return p;
        }

        *p++ = NGX_HTTP_HPACK_LITERAL|6;

    } else {
        *p++ = NGX_HTTP_HPACK_LITERAL;
        p = ngx_http_hpack_string(p, nv->name, nv->namelen);
    }

    return ngx_http_hpack_string(p, value, len);
}


static ngx_int_t
ngx_http_hpack_complete(ngx_http_hpack_t *h)
{
    int         flags;
    u_char     *p;
    size_t      len;
    ssize_t     rv;
    nghttp2_nv  nv;

    /* a field may be cut off */

    rv = nghttp2_hd_inflate_hd2(h->inflater, &nv, &flags, h->head, 0, 1);

    if (rv < 0) {
        return ngx_http_hpack_fail(h, rv);
    }

    (void) nghttp2_hd_inflate_end_headers(h->inflater);

    if (h->pass) {
        h->passing = 1;
        h->reading = 0;

        return NGX_OK;
    }

    if (h->connect && ngx_http_hpack_connect(h) != NGX_OK) {
        return NGX_ERROR;
    }

    /* there may be no field at all */

    if (ngx_http_hpack_room(h, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    p = h->start + NGX_HTTP_HPACK_ROOM;
    len = h->out - p;

    if (len > NGX_HTTP_HPACK_MAX - 5) {
        return ngx_http_hpack_too_large(h);
    }

    h->pos = p - NGX_HTTP_HPACK_FRAME;

    if (!h->started && (h->flags & NGX_HTTP_HPACK_PRIORITY)) {
        h->pos -= 5;
    }

    h->last = h->out;
    h->reading = 0;

    (void) ngx_http_hpack_frame(h, h->pos, len, NGX_HTTP_HPACK_END_HEADERS);

    return NGX_OK;
}


/*
 * Adds what a request has and a CONNECT has not, behind what it has; one that
 * is malformed, RFC 9113 8.5, then has it twice, or not at all.
 */

static ngx_int_t
ngx_http_hpack_connect(ngx_http_hpack_t *h)
{
    u_char  *p;
    size_t   size, rest;

    if (h->others) {
        h->what = "fields other than \":method\" and \":authority\"";
    }

    if (h->authorities != 1) {
        h->what = h->authorities ? "two \":authority\" fields"
                                 : "no \":authority\" field";
        return NGX_OK;
    }

    size = 2 + NGX_HTTP_HPACK_INT + 1 + h->len;

    if (ngx_http_hpack_room(h, size) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!h->regular) {
        h->fields = h->out - h->start;
    }

    p = h->start + h->fields;
    rest = h->out - p;

    ngx_memmove(h->end - rest, p, rest);

    *p++ = 0x87;                             /* :scheme https */
    *p++ = NGX_HTTP_HPACK_LITERAL|4;         /* :path */

    p = ngx_http_hpack_int(p, 1 + h->len);
    *p++ = '/';
    p = ngx_cpymem(p, h->start + h->authority, h->len);

    ngx_memmove(p, h->end - rest, rest);

    h->out = p + rest;

    return NGX_OK;
}


/* for so many bytes more */

static ngx_int_t
ngx_http_hpack_room(ngx_http_hpack_t *h, size_t size)
{
    u_char  *start;
    size_t   used;

    if (h->start && (size_t) (h->end - h->out) >= size) {
        return NGX_OK;
    }

    used = h->start ? (size_t) (h->out - h->start) : NGX_HTTP_HPACK_ROOM + 1;
    size = ngx_max(2 * used + size, NGX_HTTP_HPACK_SIZE);

    start = ngx_alloc(size, h->log);
    if (start == NULL) {
        return NGX_ERROR;
    }

    if (h->start) {
        ngx_memcpy(start, h->start, used);
        ngx_free(h->start);

    } else {
        start[NGX_HTTP_HPACK_ROOM] = NGX_HTTP_HPACK_NO_TABLE;
    }

    h->start = start;
    h->end = start + size;
    h->out = start + used;

    return NGX_OK;
}


static u_char *
ngx_http_hpack_string(u_char *p, u_char *data, size_t len)
{
    p = ngx_http_hpack_int(p, len);

    return ngx_cpymem(p, data, len);
}


/* RFC 7541 5.1, with a prefix of 7 bits */

static u_char *
ngx_http_hpack_int(u_char *p, size_t n)
{
    if (n < 127) {
        *p++ = (u_char) n;
        return p;
    }

    *p++ = 127;

    for (n -= 127; n >= 128; n >>= 7) {
        *p++ = (u_char) (n | 128);
    }

    *p++ = (u_char) n;

    return p;
}


/* the next frame of the block; the first one also has the priority */

static u_char *
ngx_http_hpack_frame(ngx_http_hpack_t *h, u_char *p, size_t len, u_char flags)
{
    ngx_uint_t  type;

    type = NGX_HTTP_HPACK_CONTINUATION;

    if (!h->started) {
        type = NGX_HTTP_HPACK_HEADERS;
        flags |= h->flags & (NGX_HTTP_HPACK_END_STREAM
                             |NGX_HTTP_HPACK_PRIORITY);
    }

    if (flags & NGX_HTTP_HPACK_PRIORITY) {
        len += 5;
    }

    p = ngx_http_hpack_write(p, len, type, flags, h->sid);

    if (flags & NGX_HTTP_HPACK_PRIORITY) {
        p = ngx_cpymem(p, h->priority, 5);
    }

    h->started = 1;

    return p;
}


void
ngx_http_hpack_parse(u_char *p, ngx_http_hpack_head_t *head)
{
    head->len = (p[0] << 16) + (p[1] << 8) + p[2];
    head->type = p[3];
    head->flags = p[4];
    head->sid = ((ngx_uint_t) (p[5] & 0x7f) << 24) + (p[6] << 16)
                + (p[7] << 8) + p[8];
}


u_char *
ngx_http_hpack_write(u_char *p, size_t len, ngx_uint_t type, u_char flags,
    ngx_uint_t sid)
{
    *p++ = (u_char) (len >> 16);
    *p++ = (u_char) (len >> 8);
    *p++ = (u_char) len;
    *p++ = (u_char) type;
    *p++ = flags;

    return ngx_http_hpack_write_uint32(p, (uint32_t) sid);
}


u_char *
ngx_http_hpack_write_uint32(u_char *p, uint32_t n)
{
    *p++ = (u_char) (n >> 24);
    *p++ = (u_char) (n >> 16);
    *p++ = (u_char) (n >> 8);
    *p++ = (u_char) n;

    return p;
}


ngx_int_t
ngx_http_hpack_start(ngx_http_hpack_t *h)
{
    if (!h->first || h->started || h->passing) {
        return NGX_DECLINED;
    }

    h->pos = h->piece;
    h->last = ngx_http_hpack_frame(h, h->pos, 1, 0);
    *h->last++ = NGX_HTTP_HPACK_NO_TABLE;

    return NGX_OK;
}


void
ngx_http_hpack_done(ngx_http_hpack_t *h)
{
    if (!h->reading && h->start) {
        ngx_free(h->start);
        h->start = NULL;
    }
}


static ngx_int_t
ngx_http_hpack_fail(ngx_http_hpack_t *h, ssize_t err)
{
    if (err == NGHTTP2_ERR_NOMEM) {
        return NGX_ERROR;
    }

    return ngx_http_hpack_error(h, ngx_http_hpack_bad,
                                sizeof(ngx_http_hpack_bad));
}


static ngx_int_t
ngx_http_hpack_too_large(ngx_http_hpack_t *h)
{
    return ngx_http_hpack_error(h, ngx_http_hpack_large,
                                sizeof(ngx_http_hpack_large));
}


/* what the parser finds the same error in ends the block */

static ngx_int_t
ngx_http_hpack_error(ngx_http_hpack_t *h, u_char *bytes, size_t len)
{
    if (!h->passing) {
        h->pos = h->piece;
        h->last = ngx_http_hpack_frame(h, h->pos, len,
                                       NGX_HTTP_HPACK_END_HEADERS);
        h->last = ngx_cpymem(h->last, bytes, len);
    }

    h->connect = 0;
    h->reading = 0;
    h->broken = 1;

    return NGX_OK;
}


/* as it is, and all that follows */

static ngx_int_t
ngx_http_hpack_raw(ngx_http_hpack_t *h)
{
    if (!h->passing) {

        if (ngx_http_hpack_start(h) != NGX_OK) {
            h->pos = h->piece;
            h->last = h->pos;
        }

        h->last = ngx_cpymem(h->last, h->head, h->nhead);
    }

    h->connect = 0;
    h->reading = 0;
    h->broken = 1;

    return NGX_OK;
}
