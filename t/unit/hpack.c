
/*
 * Header blocks of HTTP/2: what a client sends, cut in all ways, and what a
 * parser makes of what it is given instead.  The parser here knows as much of
 * HPACK as that takes, and ends as that of nginx 1.22 does: see there
 * ngx_http_v2_state_headers(), and what that calls.
 */


#include "unit.h"

#include "ngx_http_connect_tunnel_hpack.h"


#define unit_bytes(s)  (s), sizeof(s) - 1
#define unit_field(n, v)  { ngx_string(n), ngx_string(v) }
#define unit_no_field  { ngx_null_string, ngx_null_string }

#define HEADERS       NGX_HTTP_HPACK_HEADERS
#define CONTINUATION  NGX_HTTP_HPACK_CONTINUATION

#define END_STREAM    NGX_HTTP_HPACK_END_STREAM
#define END_HEADERS   NGX_HTTP_HPACK_END_HEADERS
#define PADDED        NGX_HTTP_HPACK_PADDED
#define PRIORITY      NGX_HTTP_HPACK_PRIORITY

/* nginx's large_client_header_buffers: the size of one, and a usual limit */

#define UNIT_FIELD  1048576
#define UNIT_LIMIT  32768

#define UNIT_PRIORITY  "\x80\0\0\5\xdb"

/* what all frames of a block may have */

#define unit_budget(limit)  (2 * (limit) + 16384)


typedef struct {
    u_char               *data;
    size_t                len;
    size_t                size;
} unit_bytes_t;


typedef struct {
    ngx_str_t             name;
    ngx_str_t             value;
} unit_field_t;


/* what is around the fragments of a block */

typedef struct {
    ngx_uint_t            flags;         /* of HEADERS, but for END_HEADERS */
    size_t                padding;
    ngx_uint_t            ncuts;         /* where a CONTINUATION begins */
    size_t                cuts[8];
} unit_shape_t;


/* what a client sends, and what is to be seen of it, as text */

typedef struct {
    const char           *name;
    size_t                limit;
    ngx_uint_t            sid;           /* of the last block */
    unit_bytes_t          in;
    unit_bytes_t          want;
    unit_bytes_t          ids;           /* streams; c: it is a CONNECT, m: a
                                            malformed one */
    const char           *error;         /* of the next block */
    ngx_uint_t            over;          /* the connection is */
    ngx_uint_t            pass;          /* blocks may */
    nghttp2_hd_deflater  *deflater;
} unit_case_t;


/* what became of it */

typedef struct {
    ngx_http_hpack_t      h;
    const unit_case_t    *c;
    size_t                fed;
    size_t                skip;          /* of a frame that is not for h */
    ngx_uint_t            within;        /* a block */
    ngx_uint_t            started;       /* by ngx_http_hpack_start() */
    ngx_uint_t            keep;          /* memory, from block to block */
    ngx_uint_t            failed;
    unit_bytes_t          out;
    unit_bytes_t          ids;
    size_t                sure;          /* of out, before it is raw */
} unit_run_t;


/* of ASan, whose header for it gcc has not */

size_t __sanitizer_get_current_allocated_bytes(void);

/* what ngx_http_connect_tunnel_hpack.c is compiled to call */

int unit_inflate_new(nghttp2_hd_inflater **inflater);
ssize_t unit_inflate_hd2(nghttp2_hd_inflater *inflater, nghttp2_nv *nv,
    int *flags, const uint8_t *in, size_t len, int last);


/* this call of the library finds no memory, counted from 1; 0: none */

static ngx_uint_t  unit_inflate_fail;


/* bytes */


static void
unit_put(unit_bytes_t *b, const void *data, size_t len)
{
    if (len > b->size - b->len) {
        b->size = 2 * b->size + len + 256;
        b->data = realloc(b->data, b->size);

        if (b->data == NULL) {
            abort();
        }
    }

    if (len) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
}


static void
unit_put_byte(unit_bytes_t *b, ngx_uint_t byte)
{
    u_char  ch;

    ch = (u_char) byte;
    unit_put(b, &ch, 1);
}


static void
unit_put_run(unit_bytes_t *b, ngx_uint_t byte, size_t n)
{
    while (n--) {
        unit_put_byte(b, byte);
    }
}


static void
unit_put_text(unit_bytes_t *b, const char *text)
{
    unit_put(b, text, strlen(text));
}


static void
unit_put_number(unit_bytes_t *b, size_t n)
{
    char  text[24];

    sprintf(text, "%zu", n);
    unit_put_text(b, text);
}


/* with its length, so that there is one way to read it */

static void
unit_put_quoted(unit_bytes_t *b, const u_char *data, size_t len)
{
    size_t  i;
    u_char  hex[4];

    static const char  digits[] = "0123456789abcdef";

    unit_put_number(b, len);
    unit_put_text(b, ":\"");

    for (i = 0; i < len; i++) {

        if (data[i] >= ' ' && data[i] < 0x7f) {
            unit_put(b, data + i, 1);
            continue;
        }

        hex[0] = '\\';
        hex[1] = 'x';
        hex[2] = digits[data[i] >> 4];
        hex[3] = digits[data[i] & 15];

        unit_put(b, hex, 4);
    }

    unit_put_text(b, "\"");
}


static ngx_uint_t
unit_same(const unit_bytes_t *a, const unit_bytes_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}


static void
unit_bytes_free(unit_bytes_t *b)
{
    free(b->data);
    ngx_memzero(b, sizeof(unit_bytes_t));
}


static ngx_uint_t
unit_str_is(const ngx_str_t *s, const char *text)
{
    return s->len == strlen(text) && memcmp(s->data, text, s->len) == 0;
}


/* HPACK by hand */


static void
unit_put_int(unit_bytes_t *b, ngx_uint_t first, ngx_uint_t bits, size_t n)
{
    size_t  max;

    max = ((size_t) 1 << bits) - 1;

    if (n < max) {
        unit_put_byte(b, first | n);
        return;
    }

    unit_put_byte(b, first | max);

    for (n -= max; n >= 128; n /= 128) {
        unit_put_byte(b, 128 + n % 128);
    }

    unit_put_byte(b, n);
}


static void
unit_put_string(unit_bytes_t *b, const void *data, size_t len)
{
    unit_put_int(b, 0, 7, len);
    unit_put(b, data, len);
}


/* 0: not indexed, 0x10: never indexed, 0x40: indexed */

static void
unit_put_literal(unit_bytes_t *b, ngx_uint_t kind, const unit_field_t *f)
{
    unit_put_byte(b, kind);
    unit_put_string(b, f->name.data, f->name.len);
    unit_put_string(b, f->value.data, f->value.len);
}


static ngx_uint_t
unit_nfields(const unit_field_t *f)
{
    ngx_uint_t  n;

    for (n = 0; f[n].name.data; n++) { /* void */ }

    return n;
}


/* with the deflater's table, or without indexing where that is the flag */

static void
unit_put_deflated(unit_bytes_t *b, nghttp2_hd_deflater *deflater,
    const unit_field_t *f, ngx_uint_t n, ngx_uint_t flags)
{
    u_char      *buf;
    size_t       bound;
    ssize_t      len;
    ngx_uint_t   i;
    nghttp2_nv  *nv;

    nv = calloc(n + 1, sizeof(nghttp2_nv));
    if (nv == NULL) {
        abort();
    }

    for (i = 0; i < n; i++) {
        nv[i].name = f[i].name.data;
        nv[i].namelen = f[i].name.len;
        nv[i].value = f[i].value.data;
        nv[i].valuelen = f[i].value.len;
        nv[i].flags = flags;
    }

    bound = nghttp2_hd_deflate_bound(deflater, nv, n);
    buf = malloc(bound);

    len = nghttp2_hd_deflate_hd(deflater, buf, bound, nv, n);
    if (buf == NULL || len < 0) {
        abort();
    }

    unit_put(b, buf, len);

    free(buf);
    free(nv);
}


/* frames */


static void
unit_put_head(unit_bytes_t *b, size_t len, ngx_uint_t type, ngx_uint_t flags,
    ngx_uint_t sid)
{
    u_char  p[9];

    p[0] = (u_char) (len >> 16);
    p[1] = (u_char) (len >> 8);
    p[2] = (u_char) len;
    p[3] = (u_char) type;
    p[4] = (u_char) flags;
    p[5] = (u_char) (sid >> 24);
    p[6] = (u_char) (sid >> 16);
    p[7] = (u_char) (sid >> 8);
    p[8] = (u_char) sid;

    unit_put(b, p, 9);
}


static void
unit_put_frame(unit_bytes_t *b, ngx_uint_t type, ngx_uint_t flags,
    ngx_uint_t sid, const void *data, size_t len)
{
    unit_put_head(b, len, type, flags, sid);
    unit_put(b, data, len);
}


/* HEADERS, with what its flags say is in front and behind */

static void
unit_put_headers(unit_bytes_t *b, ngx_uint_t flags, ngx_uint_t sid,
    size_t padding, const void *data, size_t len)
{
    size_t  size;

    size = len;

    if (flags & PADDED) {
        size += 1 + padding;
    }

    if (flags & PRIORITY) {
        size += 5;
    }

    unit_put_head(b, size, HEADERS, flags, sid);

    if (flags & PADDED) {
        unit_put_byte(b, padding);
    }

    if (flags & PRIORITY) {
        unit_put(b, UNIT_PRIORITY, 5);
    }

    unit_put(b, data, len);

    if (flags & PADDED) {

        /* what would be an error as a field */

        unit_put_run(b, 0x80, padding);
    }
}


static void
unit_put_block(unit_bytes_t *b, ngx_uint_t sid, const unit_shape_t *shape,
    const unit_bytes_t *block)
{
    size_t      from, to;
    ngx_uint_t  i, flags;

    from = 0;

    for (i = 0; i <= shape->ncuts; i++) {
        to = (i < shape->ncuts) ? ngx_min(shape->cuts[i], block->len)
                                : block->len;
        flags = (i == shape->ncuts) ? END_HEADERS : 0;

        if (i == 0) {
            unit_put_headers(b, shape->flags | flags, sid, shape->padding,
                             block->data, to);

        } else {
            unit_put_frame(b, CONTINUATION, flags, sid, block->data + from,
                           to - from);
        }

        from = to;
    }
}


/* what is to be seen */


static void
unit_say_field(unit_bytes_t *text, const u_char *name, size_t nlen,
    const u_char *value, size_t vlen)
{
    unit_put_text(text, "  ");
    unit_put_quoted(text, name, nlen);
    unit_put_text(text, ": ");
    unit_put_quoted(text, value, vlen);
    unit_put_text(text, "\n");
}


static void
unit_say_block(unit_bytes_t *text, ngx_uint_t sid, ngx_uint_t flags,
    const u_char *priority)
{
    unit_put_text(text, "HEADERS ");
    unit_put_number(text, sid);

    if (flags & END_STREAM) {
        unit_put_text(text, ", the last");
    }

    if (flags & PRIORITY) {
        unit_put_text(text, ", priority ");
        unit_put_quoted(text, priority, 5);
    }

    unit_put_text(text, "\n");
}


/* RFC 9113 8.5 has no ":scheme" and ":path", and the parser wants them */

static void
unit_say_fields(unit_bytes_t *text, unit_bytes_t *ids, ngx_uint_t sid,
    const unit_field_t *f, ngx_uint_t n)
{
    ngx_uint_t        i, pseudo, connect, authorities, others;
    unit_bytes_t      path;
    const ngx_str_t  *authority;

    connect = 0;
    authorities = 0;
    others = 0;
    authority = NULL;

    for (i = 0; i < n && f[i].name.len && f[i].name.data[0] == ':'; i++) {

        if (unit_str_is(&f[i].name, ":method")
            && unit_str_is(&f[i].value, "CONNECT"))
        {
            connect = 1;

        } else if (unit_str_is(&f[i].name, ":authority")) {
            authority = &f[i].value;
            authorities++;

        } else if (!unit_str_is(&f[i].name, ":method")) {
            others = 1;
        }
    }

    pseudo = i;

    for (i = 0; i <= n; i++) {

        if (i == pseudo && connect && authorities == 1) {
            ngx_memzero(&path, sizeof(unit_bytes_t));

            unit_put_byte(&path, '/');
            unit_put(&path, authority->data, authority->len);

            unit_say_field(text, (u_char *) unit_bytes(":scheme"),
                           (u_char *) unit_bytes("https"));
            unit_say_field(text, (u_char *) unit_bytes(":path"),
                           path.data, path.len);

            unit_bytes_free(&path);
        }

        if (i == n) {
            break;
        }

        if (i < pseudo && unit_str_is(&f[i].name, ":method")
            && unit_str_is(&f[i].value, "CONNECT"))
        {
            unit_say_field(text, (u_char *) unit_bytes(":method"),
                           (u_char *) unit_bytes("TUNNEL"));
            continue;
        }

        unit_say_field(text, f[i].name.data, f[i].name.len,
                       f[i].value.data, f[i].value.len);
    }

    unit_put_number(ids, sid);
    unit_put_text(ids, !connect ? " "
                       : (others || authorities != 1) ? "m " : "c ");
}


/* cases */


static void
unit_case(unit_case_t *c, const char *name)
{
    ngx_memzero(c, sizeof(unit_case_t));

    c->name = name;
    c->limit = UNIT_LIMIT;
    c->sid = (ngx_uint_t) -1;

    if (nghttp2_hd_deflate_new(&c->deflater, 4096) != 0) {
        abort();
    }
}


static void
unit_case_free(unit_case_t *c)
{
    unit_bytes_free(&c->in);
    unit_bytes_free(&c->want);
    unit_bytes_free(&c->ids);
    nghttp2_hd_deflate_del(c->deflater);
}


/* one more block, of bytes that stand for these fields */

static void
unit_case_bytes(unit_case_t *c, const unit_shape_t *shape,
    const unit_bytes_t *block, const unit_field_t *f, ngx_uint_t n)
{
    c->sid += 2;

    unit_put_block(&c->in, c->sid, shape, block);

    if (c->over) {
        return;
    }

    if (c->error) {
        unit_put_text(&c->want, c->error);
        c->over = 1;
        return;
    }

    unit_say_block(&c->want, c->sid, shape->flags, (u_char *) UNIT_PRIORITY);
    unit_say_fields(&c->want, &c->ids, c->sid, f, n);
}


static void
unit_case_fields(unit_case_t *c, const unit_shape_t *shape,
    const unit_field_t *f, ngx_uint_t n, ngx_uint_t flags)
{
    unit_bytes_t  block;

    ngx_memzero(&block, sizeof(unit_bytes_t));

    unit_put_deflated(&block, c->deflater, f, n, flags);
    unit_case_bytes(c, shape, &block, f, n);

    unit_bytes_free(&block);
}


static void
unit_case_literals(unit_case_t *c, const unit_shape_t *shape,
    const unit_field_t *f, ngx_uint_t n, ngx_uint_t kind)
{
    ngx_uint_t    i;
    unit_bytes_t  block;

    ngx_memzero(&block, sizeof(unit_bytes_t));

    for (i = 0; i < n; i++) {
        unit_put_literal(&block, kind, &f[i]);
    }

    unit_case_bytes(c, shape, &block, f, n);

    unit_bytes_free(&block);
}


/* the parser */


typedef struct {
    const u_char  *p;
    size_t         len;
} unit_part_t;


/* ngx_http_v2_parse_int(); NULL, or the error */

static const char *
unit_parse_int(unit_part_t *part, ngx_uint_t bits, size_t *value)
{
    size_t      n;
    ngx_uint_t  shift;

    if (part->len == 0) {
        return "FRAME_SIZE_ERROR\n";
    }

    n = ((size_t) 1 << bits) - 1;

    *value = *part->p++ & n;
    part->len--;

    if (*value != n) {
        return NULL;
    }

    for (shift = 0; shift < 21; shift += 7) {

        if (part->len == 0) {
            return "FRAME_SIZE_ERROR\n";
        }

        part->len--;
        *value += (size_t) (*part->p & 0x7f) << shift;

        if (*part->p++ < 128) {
            return NULL;
        }
    }

    return part->len ? "COMPRESSION_ERROR\n" : "FRAME_SIZE_ERROR\n";
}


static const char *
unit_parse_string(unit_part_t *part, unit_part_t *s, ngx_uint_t *strange)
{
    size_t       len;
    const char  *err;

    if (part->len && part->p[0] >= 128) {
        *strange = 1;
    }

    err = unit_parse_int(part, 7, &len);
    if (err) {
        return err;
    }

    if (len > UNIT_FIELD) {
        return "ENHANCE_YOUR_CALM\n";
    }

    if (len > part->len) {
        return "FRAME_SIZE_ERROR\n";
    }

    s->p = part->p;
    s->len = len;

    part->p += len;
    part->len -= len;

    return NULL;
}


/* an entry of the static table, RFC 7541 A; the parser has no other one */

static const char *
unit_parse_entry(size_t n, unit_part_t *name, unit_part_t *value)
{
    const nghttp2_nv  *nv;

    static nghttp2_hd_inflater  *table;

    if (table == NULL && nghttp2_hd_inflate_new(&table) != 0) {
        abort();
    }

    if (n == 0 || n > 61) {
        return "COMPRESSION_ERROR\n";
    }

    nv = nghttp2_hd_inflate_get_table_entry(table, n);

    name->p = nv->name;
    name->len = nv->namelen;
    value->p = nv->value;
    value->len = nv->valuelen;

    return NULL;
}


/*
 * Fields; those of a block that is in error are not told.  A literal may be
 * one to be indexed, which nothing refers to; Huffman's code is strange, and
 * so are changes of the table's size elsewhere than in front.
 */

static const char *
unit_parse_fields(unit_bytes_t *text, unit_part_t *part)
{
    size_t       n;
    u_char       ch;
    ngx_uint_t   strange;
    const char  *err;
    unit_part_t  name, value;

    strange = 0;

    if (part->len == 0) {
        return "FRAME_SIZE_ERROR\n";
    }

    while (part->len) {
        ch = part->p[0];

        err = unit_parse_int(part, ch >= 0x80 ? 7 : ch >= 0x40 ? 6
                                   : ch >= 0x20 ? 5 : 4, &n);
        if (err) {
            return err;
        }

        if (ch >= 0x20 && ch < 0x40) {

            if (n > 4096) {
                return "COMPRESSION_ERROR\n";
            }

            strange |= (n != 0 || text->len);
            continue;
        }

        if (n || ch >= 0x80) {
            err = unit_parse_entry(n, &name, &value);

        } else {
            err = unit_parse_string(part, &name, &strange);

            if (err == NULL && name.len == 0) {
                err = "PROTOCOL_ERROR\n";
            }
        }

        if (err == NULL && ch < 0x80) {
            err = unit_parse_string(part, &value, &strange);
        }

        if (err) {
            return err;
        }

        unit_say_field(text, name.p, name.len, value.p, value.len);
    }

    return strange ? "strange bytes\n" : NULL;
}


/* fields, with a table that may be the client's */

static const char *
unit_parse_table(unit_bytes_t *text, unit_part_t *part,
    nghttp2_hd_inflater *table)
{
    int         flags;
    ssize_t     rv;
    nghttp2_nv  nv;

    do {
        rv = nghttp2_hd_inflate_hd2(table, &nv, &flags, part->p, part->len, 1);

        if (rv < 0) {
            return "COMPRESSION_ERROR\n";
        }

        part->p += rv;
        part->len -= rv;

        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            unit_say_field(text, nv.name, nv.namelen, nv.value, nv.valuelen);
        }

    } while (!(flags & NGHTTP2_HD_INFLATE_FINAL));

    nghttp2_hd_inflate_end_headers(table);

    return NULL;
}


/* says what nginx makes of frames, up to the first error of the connection */

static void
unit_parse(unit_bytes_t *text, const u_char *p, size_t len,
    nghttp2_hd_inflater *table)
{
    size_t         size, front, padding, sid;
    ngx_uint_t     type, flags, first;
    const char    *err;
    unit_part_t    part;
    unit_bytes_t   block, fields;
    const u_char  *priority;

    ngx_memzero(&block, sizeof(unit_bytes_t));
    ngx_memzero(&fields, sizeof(unit_bytes_t));

    flags = 0;
    first = 0;
    sid = 0;
    priority = NULL;

    while (len) {

        if (len < 9) {
            err = "a part of a frame\n";
            goto done;
        }

        size = (p[0] << 16) + (p[1] << 8) + p[2];
        type = p[3];

        if (flags == 0) {

            if (type == CONTINUATION) {
                err = "PROTOCOL_ERROR\n";
                goto done;
            }

            if (type != HEADERS) {

                if (len < 9 + size) {
                    err = "a part of a frame\n";
                    goto done;
                }

                unit_put_text(text, "frame ");
                unit_put_quoted(text, p, 9 + size);
                unit_put_text(text, "\n");

                p += 9 + size;
                len -= 9 + size;

                continue;
            }

            first = p[4];
            flags = first | 0x100;
            sid = ((size_t) (p[5] & 0x7f) << 24) + (p[6] << 16)
                  + (p[7] << 8) + p[8];

            front = ((first & PADDED) ? 1 : 0) + ((first & PRIORITY) ? 5 : 0);

            if (size <= front) {
                err = "FRAME_SIZE_ERROR\n";
                goto done;
            }

            p += 9;
            len -= 9;

            if (len < front) {
                err = "a part of a frame\n";
                goto done;
            }

            padding = (first & PADDED) ? p[0] : 0;
            priority = p + front - 5;

            if (padding > size - front) {
                err = "PROTOCOL_ERROR\n";
                goto done;
            }

            p += front;
            len -= front;
            size -= front;

        } else {

            if (type != CONTINUATION
                || sid != ((size_t) (p[5] & 0x7f) << 24) + (p[6] << 16)
                          + (p[7] << 8) + p[8])
            {
                err = "PROTOCOL_ERROR\n";
                goto done;
            }

            flags |= p[4];
            padding = 0;

            p += 9;
            len -= 9;
        }

        if (len < size) {
            err = "a part of a frame\n";
            goto done;
        }

        unit_put(&block, p, size - padding);

        p += size;
        len -= size;

        if (!(flags & END_HEADERS)) {
            continue;
        }

        part.p = block.data;
        part.len = block.len;

        err = table ? unit_parse_table(&fields, &part, table)
                    : unit_parse_fields(&fields, &part);
        if (err) {
            goto done;
        }

        unit_say_block(text, sid, first, priority);
        unit_put(text, fields.data, fields.len);

        block.len = 0;
        fields.len = 0;
        flags = 0;
    }

    err = flags ? "a part of a block\n" : "";

done:

    unit_put_text(text, err);

    unit_bytes_free(&block);
    unit_bytes_free(&fields);
}


/* runs */


static void
unit_run(unit_run_t *r, const unit_case_t *c)
{
    ngx_memzero(r, sizeof(unit_run_t));

    r->c = c;
    r->h.log = &unit_errors;
    r->h.limit = c->limit;
    r->h.pass = c->pass;

    if (ngx_http_hpack_init(&r->h) != NGX_OK) {
        abort();
    }
}


static void
unit_run_free(unit_run_t *r)
{
    ngx_http_hpack_free(&r->h);

    unit_check(r->h.start == NULL && r->h.inflater == NULL,
               "%s: memory is left behind", r->c->name);

    unit_bytes_free(&r->out);
    unit_bytes_free(&r->ids);
}


/* what the parser is given is one frame: a block, or its end */

static ngx_uint_t
unit_run_frame_ok(unit_run_t *r)
{
    size_t      len;
    u_char     *p;
    ngx_uint_t  flags;

    p = r->h.pos;
    len = r->h.last - p;

    if (len < 9 || len != (size_t) 9 + (p[0] << 16) + (p[1] << 8) + p[2]) {
        return 0;
    }

    if (r->started) {
        return p[3] == CONTINUATION && p[4] == END_HEADERS;
    }

    flags = p[4] & ~(END_STREAM|PRIORITY);

    return p[3] == HEADERS && flags == END_HEADERS;
}


static void
unit_run_deliver(unit_run_t *r)
{
    unit_put(&r->out, r->h.pos, r->h.last - r->h.pos);
    r->h.pos = r->h.last;

    if (r->keep) {
        return;
    }

    ngx_http_hpack_done(&r->h);

    unit_check(r->within || r->h.start == NULL, "%s: memory between blocks",
               r->c->name);
}


static void
unit_run_ok(unit_run_t *r)
{
    unit_check(!r->h.reading, "%s: the block is over, and it is not",
               r->c->name);

    if (!r->h.broken) {
        unit_check(unit_run_frame_ok(r), "%s: no good frame, %s", r->c->name,
                   unit_text(r->h.pos, r->h.last - r->h.pos));

        /* of those that may pass it is known only if they do not */

        if (r->h.connect || !r->c->pass) {
            unit_put_number(&r->ids, r->h.sid);
            unit_put_text(&r->ids, !r->h.connect ? " "
                                   : r->h.what ? "m " : "c ");
        }

        unit_check(r->h.connect || r->h.what == NULL, "%s: %s", r->c->name,
                   r->h.what);

    } else {
        unit_check(!r->h.connect, "%s: CONNECT, broken", r->c->name);
    }

    r->within = 0;
    r->started = 0;

    unit_run_deliver(r);

    r->sure = r->out.len;
}


/* the next bytes, up to an offset, as a client's segment */

static void
unit_run_feed(unit_run_t *r, size_t to)
{
    u_char              *data, *p, *was, *last;
    size_t               at, n, len;
    ngx_int_t            rc;
    const unit_bytes_t  *in;

    in = &r->c->in;
    len = to - r->fed;

    data = unit_block(in->data + r->fed, len);
    p = data;
    last = data + len;

    while (p < last && !r->failed) {

        at = r->fed + (p - data);

        if (r->h.broken) {
            unit_put(&r->out, p, last - p);
            break;
        }

        if (!r->within && r->skip == 0 && in->len - at >= 9
            && in->data[at + 3] != HEADERS)
        {
            r->skip = 9 + (in->data[at] << 16) + (in->data[at + 1] << 8)
                      + in->data[at + 2];
        }

        if (r->skip) {
            n = ngx_min(r->skip, (size_t) (last - p));
            unit_put(&r->out, p, n);

            p += n;
            r->skip -= n;
            r->sure = r->out.len;

            continue;
        }

        r->within = 1;
        was = p;

        rc = ngx_http_hpack_read(&r->h, &p, last);

        if (p < was || p > last) {
            abort();
        }

        switch (rc) {

        case NGX_DECLINED:
            unit_check(r->h.pass && (p > was || r->h.broken),
                       "%s: %d bytes passed", r->c->name, (int) (p - was));
            unit_check(p == last || !r->h.reading, "%s: %d bytes are left",
                       r->c->name, (int) (last - p));

            unit_check(r->h.pos == r->h.last, "%s: %s besides what passed",
                       r->c->name, unit_text(r->h.pos, r->h.last - r->h.pos));

            unit_put(&r->out, was, p - was);
            r->sure = r->out.len;

            r->within = r->h.reading;

            if (!r->within) {
                ngx_http_hpack_done(&r->h);
            }

            break;

        case NGX_OK:
            unit_run_ok(r);
            break;

        case NGX_AGAIN:
            unit_check(p == last, "%s: %lu bytes are left", r->c->name,
                       (ngx_uint_t) (last - p));
            unit_check(r->h.reading && !r->h.broken, "%s: again, for what",
                       r->c->name);

            /* nothing more comes of nothing */

            rc = ngx_http_hpack_read(&r->h, &p, last);
            unit_check(rc == NGX_AGAIN && p == last, "%s: no bytes are %ld",
                       r->c->name, rc);

            p = last;
            break;

        default:
            r->failed = 1;
        }
    }

    r->fed = to;

    free(data);
}


static ngx_int_t
unit_run_start(unit_run_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_hpack_start(&r->h);

    if (rc == NGX_OK) {
        unit_check(r->within && !r->started, "%s: started once too often",
                   r->c->name);

        r->started = 1;
        unit_run_deliver(r);
    }

    return rc;
}


/* all that was fed, and then what the parser says of it */

static void
unit_run_check(unit_run_t *r, const char *how, size_t at, size_t more)
{
    unit_bytes_t          text;
    const unit_case_t    *c;
    nghttp2_hd_inflater  *table;

    c = r->c;
    table = NULL;

    if (c->pass && nghttp2_hd_inflate_new(&table) != 0) {
        abort();
    }

    ngx_memzero(&text, sizeof(unit_bytes_t));

    unit_parse(&text, r->out.data, r->out.len, table);

    if (table) {
        nghttp2_hd_inflate_del(table);
    }

    unit_check(!r->failed && unit_same(&text, &c->want),
               "%s, %s %zu, %zu:\n%.*s\nand it should be\n%.*s",
               c->name, how, at, more, (int) ngx_min(text.len, 5000),
               (char *) text.data, (int) ngx_min(c->want.len, 5000),
               (char *) c->want.data);

    unit_check(unit_same(&r->ids, &c->ids),
               "%s, %s %zu, %zu: streams %.*s, and it should be %.*s",
               c->name, how, at, more, (int) r->ids.len, (char *) r->ids.data,
               (int) c->ids.len, (char *) c->ids.data);

    unit_bytes_free(&text);
}


/* the same bytes, however they are cut */

static void
unit_run_same(unit_run_t *r, const unit_run_t *whole, const char *how,
    size_t at, size_t more)
{
    unit_check(!r->failed && r->h.broken == whole->h.broken
               && r->sure == whole->sure && r->out.len >= whole->sure
               && (r->sure == 0
                   || memcmp(r->out.data, whole->out.data, r->sure) == 0)
               && unit_same(&r->ids, &whole->ids),
               "%s, %s %zu, %zu: other bytes,\n%s\nand whole\n%s",
               r->c->name, how, at, more,
               unit_text(r->out.data, r->out.len),
               unit_text(whole->out.data, whole->out.len));
}


/* how many of the first bytes make up a first frame that is known */

static ngx_uint_t
unit_known(const unit_bytes_t *in, size_t to)
{
    size_t      at, len, front;
    ngx_uint_t  known, within;

    known = 0;
    within = 0;

    for (at = 0; to - at >= 9; at += 9 + len) {

        len = (in->data[at] << 16) + (in->data[at + 1] << 8)
              + in->data[at + 2];

        if (!within) {

            if (in->data[at + 3] != HEADERS) {

                if (to - at < 9 + len) {
                    return 0;
                }

                continue;
            }

            front = 9 + ((in->data[at + 4] & PADDED) ? 1 : 0)
                    + ((in->data[at + 4] & PRIORITY) ? 5 : 0);
            known = (to - at >= front);
            within = 1;
        }

        if (to - at < 9 + len) {
            return known;
        }

        if (in->data[at + 4] & END_HEADERS) {
            within = 0;
            known = 0;
        }
    }

    return known;
}


/*
 * A case, whole and in pieces, begun early or not.  Of a long one not all
 * cuts are tried.
 */

static void
unit_case_check(unit_case_t *c)
{
    size_t      i, n, step, len;
    ngx_int_t   rc;
    unit_run_t  whole, r;

    len = c->in.len;
    step = 1 + len / 1000;

    unit_run(&whole, c);
    unit_run_feed(&whole, len);
    unit_run_check(&whole, "whole", 0, 0);

    /* of one size */

    for (n = 1; n < len; n = (n < 20) ? n + 1 : 2 * n - 3) {

        if (len / n > 60000) {
            continue;
        }

        unit_run(&r, c);

        for (i = 0; i < len; i += ngx_min(n, len - i)) {
            unit_run_feed(&r, i + ngx_min(n, len - i));
        }

        unit_run_same(&r, &whole, "in pieces of", n, 0);
        unit_run_free(&r);
    }

    /* in two, in three, and begun in between */

    for (i = 1 + unit_random() % 2; i < len; i += step) {
        unit_run(&r, c);
        unit_run_feed(&r, i);
        unit_run_feed(&r, len);
        unit_run_same(&r, &whole, "cut at", i, 0);
        unit_run_free(&r);

        n = i + unit_random() % (len - i);

        unit_run(&r, c);

        if (i & 1) {
            r.keep = 1;
            unit_run_feed(&r, i);
            unit_run_feed(&r, n);
            unit_run_feed(&r, len);
            unit_run_same(&r, &whole, "cut at", i, n);
            unit_run_free(&r);

            continue;
        }

        unit_run_feed(&r, i);

        rc = unit_run_start(&r);

        if (!r.h.broken) {
            unit_check(rc == (unit_known(&c->in, i) ? NGX_OK : NGX_DECLINED),
                       "%s, begun at %zu: %ld", c->name, i, rc);
        }

        rc = unit_run_start(&r);
        unit_check(rc == NGX_DECLINED, "%s, begun twice at %zu: %ld",
                   c->name, i, rc);

        unit_run_feed(&r, n);
        unit_run_feed(&r, len);
        unit_run_check(&r, "begun at", i, n);
        unit_run_free(&r);
    }

    /* begun as soon as it can be */

    if (len < 60000) {
        unit_run(&r, c);

        for (i = 1; i <= len; i++) {
            unit_run_feed(&r, i);
            (void) unit_run_start(&r);
        }

        unit_run_check(&r, "begun early", 0, 0);
        unit_run_free(&r);
    }

    unit_run_free(&whole);
}


/* a few of that, for many cases */

static void
unit_case_check_some(unit_case_t *c)
{
    size_t      i, n, len;
    unit_run_t  whole, r;

    len = c->in.len;

    unit_run(&whole, c);
    unit_run_feed(&whole, len);
    unit_run_check(&whole, "whole", 0, 0);

    for (n = (len > 5000) ? 1000 : 1; n <= 1000; n *= 10) {
        unit_run(&r, c);

        for (i = 0; i < len; i += ngx_min(n, len - i)) {
            unit_run_feed(&r, i + ngx_min(n, len - i));
        }

        unit_run_same(&r, &whole, "in pieces of", n, 0);
        unit_run_free(&r);

        unit_run(&r, c);

        for (i = 0; i < len; i += ngx_min(n, len - i)) {
            unit_run_feed(&r, i + ngx_min(n, len - i));
            (void) unit_run_start(&r);
        }

        unit_run_check(&r, "begun, in pieces of", n, 0);
        unit_run_free(&r);
    }

    unit_run_free(&whole);
}


/* tests: blocks of all kinds */


#define UNIT_FIELDS  16


typedef struct {
    const char    *name;
    unit_field_t   fields[UNIT_FIELDS];
} unit_block_t;


#define UNIT_DATE      "Mon, 21 Oct 2013 20:13:21 GMT"
#define UNIT_URL       "https://www.example.com"
#define UNIT_LABEL     "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz."

/* 162 bytes */

#define UNIT_LABELS    UNIT_LABEL UNIT_LABEL UNIT_LABEL


static const unit_block_t  unit_blocks[] = {

    { "GET", {
        unit_field(":method", "GET"),
        unit_field(":scheme", "https"),
        unit_field(":authority", "www.example.org"),
        unit_field(":path", "/"),
        unit_field("user-agent", "curl/8.5.0"),
        unit_field("accept", "*/*") } },

    { "GET of a browser", {
        unit_field(":method", "GET"),
        unit_field(":authority", "www.example.org:8443"),
        unit_field(":scheme", "https"),
        unit_field(":path", "/a/b?c=d&e=%20f#g"),
        unit_field("sec-ch-ua", "\"Chromium\";v=\"130\", \"Not?A\";v=\"99\""),
        unit_field("user-agent", "Mozilla/5.0 (X11; Linux x86_64) "
                   "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 "
                   "Safari/537.36"),
        unit_field("accept", "text/html,application/xhtml+xml;q=0.9,*/*"),
        unit_field("accept-encoding", "gzip, deflate, br, zstd"),
        unit_field("cookie", "a=b"),
        unit_field("cookie", "session=0123456789abcdef"),
        unit_field("priority", "u=0, i") } },

    { "POST", {
        unit_field(":method", "POST"),
        unit_field(":scheme", "http"),
        unit_field(":authority", "192.0.2.1"),
        unit_field(":path", "/x"),
        unit_field("content-length", "3"),
        unit_field("te", "trailers") } },

    { "trailers", {
        unit_field("x-sum", "0"),
        unit_field("x-empty", "") } },

    { "pseudo-headers alone", {
        unit_field(":method", "OPTIONS"),
        unit_field(":scheme", "https"),
        unit_field(":path", "*") } },

    { "one field", {
        unit_field(":path", "/") } },

    { "odd bytes", {
        unit_field(":method", "GE\0T"),
        unit_field("x", "\xff\x80\0\r\n\t \x7f"),
        unit_field("\xff\0", "\x01"),
        unit_field("A B", "\"\\") } },

    { "pseudo-headers behind others", {
        unit_field("a", "b"),
        unit_field(":method", "GET"),
        unit_field(":authority", "a:1"),
        unit_field(":path", "/") } },

    { "lengths", {
        unit_field("x-126", UNIT_LABEL UNIT_LABEL "0123456789012345"),
        unit_field("x-127", UNIT_LABEL UNIT_LABEL "01234567890123456"),
        unit_field("x-128", UNIT_LABEL UNIT_LABEL "012345678901234567"),
        unit_field("x-254", UNIT_LABELS UNIT_LABEL "01234567890123456789"
                   "012345678901"),
        unit_field("x-255", UNIT_LABELS UNIT_LABEL "01234567890123456789"
                   "0123456789012"),
        unit_field(UNIT_LABELS, UNIT_LABELS) } },

    { "CONNECT", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "example.org:443"),
        unit_field("user-agent", "curl/8.5.0"),
        unit_field("proxy-authorization", "Basic dTpw") } },

    { "CONNECT, authority first", {
        unit_field(":authority", "example.org:443"),
        unit_field(":method", "CONNECT"),
        unit_field("user-agent", "curl/8.5.0") } },

    { "CONNECT, no other field", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "[2001:db8::1]:443") } },

    { "CONNECT, no other field, authority first", {
        unit_field(":authority", "192.0.2.1:1"),
        unit_field(":method", "CONNECT") } },

    { "CONNECT without authority", {
        unit_field(":method", "CONNECT"),
        unit_field("host", "example.org:443") } },

    { "CONNECT alone", {
        unit_field(":method", "CONNECT") } },

    { "CONNECT with an empty authority", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", ""),
        unit_field("a", "b") } },

    { "CONNECT with two authorities", {
        unit_field(":authority", "a:1"),
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "b:2"),
        unit_field("a", "b") } },

    { "CONNECT with three authorities", {
        unit_field(":authority", ""),
        unit_field(":authority", "a:1"),
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "a:1") } },

    { "CONNECT with an authority behind other fields", {
        unit_field(":method", "CONNECT"),
        unit_field("a", "b"),
        unit_field(":authority", "b:2") } },

    { "CONNECT with one more behind other fields", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "a:1"),
        unit_field("a", "b"),
        unit_field(":authority", "b:2"),
        unit_field("c", "d") } },

    { "CONNECT with a scheme", {
        unit_field(":method", "CONNECT"),
        unit_field(":scheme", "https"),
        unit_field(":authority", "a:1"),
        unit_field("a", "b") } },

    { "CONNECT with a path", {
        unit_field(":path", "/"),
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "a:1"),
        unit_field("a", "b") } },

    { "CONNECT with a scheme and a path", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "a:1"),
        unit_field(":scheme", "https"),
        unit_field(":path", "/a:1") } },

    { "CONNECT with a protocol", {
        unit_field(":method", "CONNECT"),
        unit_field(":protocol", "websocket"),
        unit_field(":scheme", "https"),
        unit_field(":path", "/chat"),
        unit_field(":authority", "server.example.com"),
        unit_field("origin", "http://www.example.com") } },

    { "CONNECT, odd bytes", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "\xff\0 \r\n/?#%2f@:\x7f"),
        unit_field("a", "b") } },

    { "CONNECT, long", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", UNIT_LABELS UNIT_LABELS ":443"),
        unit_field("a", UNIT_LABELS) } },

    { "CONNECT, a path of 126 bytes", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", UNIT_LABEL UNIT_LABEL "01234567890:443") } },

    { "CONNECT, a path of 127 bytes", {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", UNIT_LABEL UNIT_LABEL "012345678901:443"),
        unit_field("a", "b") } },

    { "CONNECT twice", {
        unit_field(":method", "CONNECT"),
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "a:1") } },

    { "CONNECT and another method", {
        unit_field(":method", "GET"),
        unit_field(":authority", "a:1"),
        unit_field(":method", "CONNECT") } },

    { "CONNECT behind other fields", {
        unit_field("a", "b"),
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "a:1") } },

    { "no CONNECT", {
        unit_field(":method", "connect"),
        unit_field(":method", "CONNECT "),
        unit_field(":method", "CONNEC"),
        unit_field(":method", "TUNNEL"),
        unit_field(":Method", "CONNECT"),
        unit_field(":metho", "CONNECT"),
        unit_field(":protocol", "CONNECT"),
        unit_field(":authority", "a:1"),
        unit_field("method", "CONNECT") } },

    { "no authority", {
        unit_field(":method", "CONNECT"),
        unit_field(":authoritx", "a:1"),
        unit_field(":authorit", "a:1"),
        unit_field(":Authority", "a:1"),
        unit_field("authority", "a:1"),
        unit_field("b", "c") } }
};


static const unit_shape_t  unit_shapes[] = {
    { 0, 0, 0, { 0 } },
    { END_STREAM, 0, 0, { 0 } },
    { PRIORITY, 0, 0, { 0 } },
    { PADDED, 0, 0, { 0 } },
    { PADDED|END_STREAM, 1, 0, { 0 } },
    { PADDED|PRIORITY, 9, 0, { 0 } },
    { PADDED|PRIORITY|END_STREAM, 255, 0, { 0 } },
    { 0, 0, 1, { 1 } },
    { PADDED|END_STREAM, 3, 2, { 2, 3 } },
    { PRIORITY, 0, 4, { 1, 2, 2, 2 } },
    { PADDED|PRIORITY, 30, 3, { 5, 20, 4000 } }
};


/* each twice, so that the second time the table has it */

void
unit_hpack_blocks(void)
{
    ngx_uint_t           i, k, n;
    unit_case_t          c;
    const unit_block_t  *b;

    for (i = 0; i < unit_nelts(unit_blocks); i++) {
        b = &unit_blocks[i];
        n = unit_nfields(b->fields);

        for (k = 0; k < 2; k++) {
            unit_case(&c, b->name);

            unit_case_fields(&c, &unit_shapes[0], b->fields, n,
                             k ? NGHTTP2_NV_FLAG_NO_INDEX : 0);
            unit_case_fields(&c, &unit_shapes[(i + k) % 3], b->fields, n, 0);

            if (k == 0) {
                unit_case_check(&c);

            } else {
                unit_case_check_some(&c);
            }

            unit_case_free(&c);
        }

        unit_case(&c, b->name);

        unit_case_literals(&c, &unit_shapes[0], b->fields, n, 0);
        unit_case_literals(&c, &unit_shapes[0], b->fields, n,
                           i & 1 ? 0x10 : 0x40);

        unit_case_check(&c);
        unit_case_free(&c);
    }
}


/* the same in frames of all shapes, and with other frames between blocks */

void
unit_hpack_frames(void)
{
    size_t               at;
    ngx_uint_t           i, k, n;
    unit_case_t          c;
    unit_shape_t         shape;
    unit_bytes_t         block;
    const unit_block_t  *b;

    static const char  others[] =
        "\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"           /* WINDOW_UPDATE */
        "\0\0\0\x04\1\0\0\0\0"                       /* SETTINGS */
        "\0\0\x05\0\x09\0\0\0\1\1\x88\x88\0\0"       /* DATA */
        "\0\0\x01\xbb\0\0\0\0\0\x88";                /* nobody knows */

    for (i = 0; i < unit_nelts(unit_shapes); i++) {

        for (k = 0; k < unit_nelts(unit_blocks); k += 3) {
            b = &unit_blocks[(k + i) % unit_nelts(unit_blocks)];
            n = unit_nfields(b->fields);

            unit_case(&c, b->name);

            unit_case_fields(&c, &unit_shapes[i], b->fields, n, 0);

            unit_put(&c.in, unit_bytes(others));
            unit_parse(&c.want, (u_char *) unit_bytes(others), NULL);

            unit_case_fields(&c, &unit_shapes[i], b->fields, n, 0);

            if (k == 0) {
                unit_case_check(&c);

            } else {
                unit_case_check_some(&c);
            }

            unit_case_free(&c);
        }
    }

    /* cut into frames at every byte, with empty ones and flags that say no */

    b = &unit_blocks[9];
    n = unit_nfields(b->fields);

    for (at = 0; at < 60; at++) {

        for (k = 0; k < 6; k++) {
            unit_case(&c, b->name);

            ngx_memzero(&shape, sizeof(unit_shape_t));

            shape.flags = (k & 1) ? PADDED|END_STREAM : (at == 0) ? PADDED : 0;
            shape.padding = 1 + k;
            shape.ncuts = 1 + k;

            for (i = 0; i <= k; i++) {
                shape.cuts[i] = at + i / 2;
            }

            unit_case_fields(&c, &shape, b->fields, n, 0);

            unit_case_check_some(&c);
            unit_case_free(&c);
        }
    }

    /* other flags of HEADERS and CONTINUATION say nothing; nor does a bit */

    ngx_memzero(&block, sizeof(unit_bytes_t));
    unit_put_literal(&block, 0, &b->fields[0]);

    unit_case(&c, "flags");

    unit_put_headers(&c.in, 0xff & ~(PADDED|PRIORITY|END_STREAM|END_HEADERS),
                     0x80000001, 0, block.data, 4);
    unit_put_frame(&c.in, CONTINUATION, 0xff & ~END_HEADERS, 1,
                   block.data + 4, 3);
    unit_put_frame(&c.in, CONTINUATION, 0xff, 0x80000001,
                   block.data + 7, block.len - 7);

    unit_say_block(&c.want, 1, 0, NULL);
    unit_say_fields(&c.want, &c.ids, 1, b->fields, 1);

    unit_put_frame(&c.in, HEADERS, END_HEADERS, 0x7fffffff, block.data,
                   block.len);
    unit_say_block(&c.want, 0x7fffffff, 0, NULL);
    unit_say_fields(&c.want, &c.ids, 0x7fffffff, b->fields, 1);

    unit_case_check(&c);
    unit_case_free(&c);

    unit_bytes_free(&block);
}


/* RFC 7541 C.2 to C.6 */

typedef struct {
    const char    *block;
    size_t         len;
    unit_field_t   fields[8];
} unit_example_t;


#define UNIT_SET_COOKIE                                                       \
    "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"

static const unit_example_t  unit_examples[] = {

    { unit_bytes("\x40\x0a" "custom-key" "\x0d" "custom-header"), {
        unit_field("custom-key", "custom-header") } },
    { unit_bytes("\x04\x0c" "/sample/path"), {
        unit_field(":path", "/sample/path") } },
    { unit_bytes("\x10\x08" "password" "\x06" "secret"), {
        unit_field("password", "secret") } },
    { unit_bytes("\x82"), {
        unit_field(":method", "GET") } },

    /* size 0, and 4096 again */

    { unit_bytes("\x20\x3f\xe1\x1f\x82\x86\x84\x41\x0f" "www.example.com"), {
        unit_field(":method", "GET"),
        unit_field(":scheme", "http"),
        unit_field(":path", "/"),
        unit_field(":authority", "www.example.com") } },
    { unit_bytes("\x82\x86\x84\xbe\x58\x08" "no-cache"), {
        unit_field(":method", "GET"),
        unit_field(":scheme", "http"),
        unit_field(":path", "/"),
        unit_field(":authority", "www.example.com"),
        unit_field("cache-control", "no-cache") } },
    { unit_bytes("\x82\x87\x85\xbf\x40\x0a" "custom-key" "\x0c"
                 "custom-value"), {
        unit_field(":method", "GET"),
        unit_field(":scheme", "https"),
        unit_field(":path", "/index.html"),
        unit_field(":authority", "www.example.com"),
        unit_field("custom-key", "custom-value") } },

    { unit_bytes("\x20\x3f\xe1\x1f\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a"
                 "\x6b\xa0\xab\x90\xf4\xff"), {
        unit_field(":method", "GET"),
        unit_field(":scheme", "http"),
        unit_field(":path", "/"),
        unit_field(":authority", "www.example.com") } },
    { unit_bytes("\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf"), {
        unit_field(":method", "GET"),
        unit_field(":scheme", "http"),
        unit_field(":path", "/"),
        unit_field(":authority", "www.example.com"),
        unit_field("cache-control", "no-cache") } },
    { unit_bytes("\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89"
                 "\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"), {
        unit_field(":method", "GET"),
        unit_field(":scheme", "https"),
        unit_field(":path", "/index.html"),
        unit_field(":authority", "www.example.com"),
        unit_field("custom-key", "custom-value") } },

    /* a table of 256 bytes */

    { unit_bytes("\x20\x3f\xe1\x01\x48\x03" "302" "\x58\x07" "private"
                 "\x61\x1d" UNIT_DATE "\x6e\x17" UNIT_URL), {
        unit_field(":status", "302"),
        unit_field("cache-control", "private"),
        unit_field("date", UNIT_DATE),
        unit_field("location", UNIT_URL) } },
    { unit_bytes("\x48\x03" "307" "\xc1\xc0\xbf"), {
        unit_field(":status", "307"),
        unit_field("cache-control", "private"),
        unit_field("date", UNIT_DATE),
        unit_field("location", UNIT_URL) } },
    { unit_bytes("\x88\xc1\x61\x1d" "Mon, 21 Oct 2013 20:13:22 GMT"
                 "\xc0\x5a\x04gzip\x77\x38" UNIT_SET_COOKIE), {
        unit_field(":status", "200"),
        unit_field("cache-control", "private"),
        unit_field("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        unit_field("location", UNIT_URL),
        unit_field("content-encoding", "gzip"),
        unit_field("set-cookie", UNIT_SET_COOKIE) } },

    { unit_bytes("\x20\x3f\xe1\x01\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b"
                 "\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04"
                 "\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x6e\x91\x9d\x29\xad\x17"
                 "\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3"), {
        unit_field(":status", "302"),
        unit_field("cache-control", "private"),
        unit_field("date", UNIT_DATE),
        unit_field("location", UNIT_URL) } },
    { unit_bytes("\x48\x83\x64\x0e\xff\xc1\xc0\xbf"), {
        unit_field(":status", "307"),
        unit_field("cache-control", "private"),
        unit_field("date", UNIT_DATE),
        unit_field("location", UNIT_URL) } },
    { unit_bytes("\x88\xc1\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05"
                 "\x95\x04\x0b\x81\x66\xe0\x84\xa6\x2d\x1b\xff\xc0\x5a\x83\x9b"
                 "\xd9\xab\x77\xad\x94\xe7\x82\x1d\xd7\xf2\xe6\xc7\xb3\x35\xdf"
                 "\xdf\xcd\x5b\x39\x60\xd5\xaf\x27\x08\x7f\x36\x72\xc1\xab\x27"
                 "\x0f\xb5\x29\x1f\x95\x87\x31\x60\x65\xc0\x03\xed\x4e\xe5\xb1"
                 "\x06\x3d\x50\x07"), {
        unit_field(":status", "200"),
        unit_field("cache-control", "private"),
        unit_field("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        unit_field("location", UNIT_URL),
        unit_field("content-encoding", "gzip"),
        unit_field("set-cookie", UNIT_SET_COOKIE) } },

    /* sizes alone, the largest one; numbers with more octets than needed */

    { unit_bytes("\x20"), { unit_no_field } },
    { unit_bytes("\x20\x21\x3e\x3f\0\x3f\xe1\x1f"), { unit_no_field } },
    { unit_bytes("\x3f\xe1\x9f\x80\0\x82"), {
        unit_field(":method", "GET") } },
    { unit_bytes("\x0f\x80\x80\0\3a:1"), {
        unit_field("accept-charset", "a:1") } },

    /* CONNECT from the table, and an authority from Huffman's */

    { unit_bytes("\x42\x07" "CONNECT\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a"
                 "\x6b\xa0\xab\x90\xf4\xff"), {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "www.example.com") } },
    { unit_bytes("\xbf\xbe\xb1"), {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", "www.example.com"),
        unit_field("proxy-authorization", "") } }
};


void
unit_hpack_examples(void)
{
    size_t                 from;
    ngx_uint_t             i, k;
    unit_case_t            c;
    unit_bytes_t           block;
    const unit_example_t  *e;

    ngx_memzero(&block, sizeof(unit_bytes_t));

    /* a few at a time: those up to a size of 0, and what follows */

    for (i = 0; i < unit_nelts(unit_examples); i = from) {
        unit_case(&c, "examples");

        for (k = i; k < unit_nelts(unit_examples); k++) {
            e = &unit_examples[k];

            if (k > i && e->block[0] == '\x20') {
                break;
            }

            block.len = 0;
            unit_put(&block, e->block, e->len);

            unit_case_bytes(&c, &unit_shapes[k % unit_nelts(unit_shapes)],
                            &block, e->fields, unit_nfields(e->fields));
        }

        unit_case_check(&c);
        unit_case_free(&c);

        from = k;
    }

    /* and all of them over one table */

    unit_case(&c, "all examples");

    for (k = 0; k < unit_nelts(unit_examples); k++) {
        e = &unit_examples[k];

        block.len = 0;
        unit_put(&block, e->block, e->len);

        unit_case_bytes(&c, &unit_shapes[0], &block, e->fields,
                        unit_nfields(e->fields));
    }

    unit_case_check(&c);
    unit_case_free(&c);

    unit_bytes_free(&block);
}


/* long names and values, and where one more byte is needed for a length */

void
unit_hpack_lengths(void)
{
    size_t         n;
    u_char        *data;
    ngx_uint_t     i, k;
    unit_case_t    c;
    unit_field_t   f[4];

    static const size_t  lengths[] = {
        0, 1, 126, 127, 128, 254, 255, 256, 1000, 1023, 1024, 4063, 4064, 4096,
        16383, 16384, 16510, 16511, 16512, 32768, 65535, 65536
    };

    data = malloc(65536);
    if (data == NULL) {
        abort();
    }

    for (i = 0; i < unit_nelts(lengths); i++) {
        n = lengths[i];

        for (k = 0; k < 4; k++) {

            /* short and long as Huffman's */

            memset(data, (k & 1) ? 'a' : '\x01', n);

            if (n) {
                data[n - 1] = 'z';
            }

            unit_case(&c, "long");
            c.limit = 400000;

            ngx_memzero(f, sizeof(f));

            ngx_str_set(&f[0].name, ":method");
            ngx_str_set(&f[0].value, "CONNECT");
            ngx_str_set(&f[1].name, ":authority");
            f[1].value.data = data;
            f[1].value.len = n;
            ngx_str_set(&f[2].name, "x");
            f[2].value = f[1].value;

            if (n) {
                f[3].name = f[1].value;
                ngx_str_set(&f[3].value, "y");
            }

            unit_case_fields(&c, &unit_shapes[0], f, 4 - (n == 0), 0);

            if (k & 2) {
                unit_case_literals(&c, &unit_shapes[8], f, 4 - (n == 0), 0x40);
            }

            unit_case_check_some(&c);
            unit_case_free(&c);
        }
    }

    free(data);
}


/* many blocks over one connection */


static const char  *unit_names[] = {
    ":method", ":scheme", ":path", ":authority", "cookie", "user-agent",
    "accept", "x-a", "x-b", "x-c", "set-cookie", "date", "content-length",
    "x-a-long-name-of-a-field", "age", "via"
};


/* a field of chance, whose value is in a buffer */

static void
unit_random_field(unit_field_t *f, u_char *buf, size_t room)
{
    size_t  n, i;

    f->name.data = (u_char *) unit_names[unit_random()
                                         % unit_nelts(unit_names)];
    f->name.len = strlen((char *) f->name.data);

    switch (unit_random() % 16) {
    case 0:   n = 0; break;
    case 1:   n = unit_random() % 3000; break;
    case 2:   n = 4000 + unit_random() % 200; break;
    case 3:
    case 4:
    case 5:   n = unit_random() % 200; break;
    default:  n = 1; break;
    }

    n = ngx_min(n, room);

    for (i = 0; i < n; i++) {
        buf[i] = (n == 1) ? "0123"[unit_random() % 4]
                          : (u_char) (unit_random() % 96 + 32);
    }

    f->value.data = buf;
    f->value.len = n;

    if (unit_str_is(&f->name, ":method") && unit_random() % 2) {
        ngx_str_set(&f->value, "CONNECT");
    }
}


static void
unit_table_differs(unit_run_t *r, nghttp2_hd_inflater *other, ngx_uint_t n)
{
    size_t             i, len;
    const nghttp2_nv  *a, *b;

    len = nghttp2_hd_inflate_get_num_table_entries(other);

    unit_check(nghttp2_hd_inflate_get_num_table_entries(r->h.inflater) == len
               && nghttp2_hd_inflate_get_dynamic_table_size(r->h.inflater)
                  == nghttp2_hd_inflate_get_dynamic_table_size(other)
               && nghttp2_hd_inflate_get_max_dynamic_table_size(r->h.inflater)
                  == nghttp2_hd_inflate_get_max_dynamic_table_size(other),
               "block %lu: the table is of another size", n);

    for (i = 62; i <= len; i++) {
        a = nghttp2_hd_inflate_get_table_entry(r->h.inflater, i);
        b = nghttp2_hd_inflate_get_table_entry(other, i);

        if (!unit_check(a && b && a->namelen == b->namelen
                        && a->valuelen == b->valuelen
                        && memcmp(a->name, b->name, a->namelen) == 0
                        && memcmp(a->value, b->value, a->valuelen) == 0,
                        "block %lu: entry %zu of the table", n, i))
        {
            break;
        }
    }
}


/* one that is known to be right reads what was deflated */

static void
unit_reference(nghttp2_hd_inflater *inflater, const unit_bytes_t *block,
    unit_field_t *f, ngx_uint_t n)
{
    int           flags;
    size_t        at;
    ssize_t       rv;
    ngx_uint_t    i;
    nghttp2_nv    nv;

    i = 0;

    for (at = 0; /* void */ ; at += rv) {

        rv = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, block->data + at,
                                    block->len - at, 1);
        if (rv < 0) {
            break;
        }

        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            unit_check(i < n && nv.namelen == f[i].name.len
                       && nv.valuelen == f[i].value.len
                       && memcmp(nv.name, f[i].name.data, nv.namelen) == 0
                       && memcmp(nv.value, f[i].value.data, nv.valuelen) == 0,
                       "the reference, field %lu", i);
            i++;
        }

        if (flags & NGHTTP2_HD_INFLATE_FINAL) {
            break;
        }
    }

    unit_check(rv >= 0 && i == n, "the reference: %zd, %lu of %lu", rv, i, n);

    nghttp2_hd_inflate_end_headers(inflater);
}


void
unit_hpack_tables(void)
{
    size_t                size, at;
    u_char               *values;
    ngx_uint_t            i, k, n, round, updates;
    unit_run_t            r;
    unit_case_t           c;
    unit_bytes_t          block;
    unit_field_t          f[12];
    unit_shape_t          shape;
    nghttp2_hd_inflater  *other;

    values = malloc(12 * 4500);
    if (values == NULL) {
        abort();
    }

    ngx_memzero(&block, sizeof(unit_bytes_t));

    for (round = 0; round < 20; round++) {
        unit_case(&c, "many blocks");

        c.limit = 100000;

        unit_run(&r, &c);

        if (nghttp2_hd_inflate_new(&other) != 0) {
            abort();
        }

        updates = 0;

        for (i = 0; i < 100; i++) {

            if (unit_random() % 8 == 0) {

                switch (unit_random() % 4) {
                case 0:   size = 0; break;
                case 1:   size = 4096; break;
                default:  size = unit_random() % 4097; break;
                }

                updates++;

                if (nghttp2_hd_deflate_change_table_size(c.deflater, size)) {
                    abort();
                }
            }

            n = 1 + unit_random() % 12;

            for (k = 0; k < n; k++) {
                unit_random_field(&f[k], values + k * 4500, 4500);
            }

            block.len = 0;
            unit_put_deflated(&block, c.deflater, f, n,
                              unit_random() % 8 == 0
                              ? NGHTTP2_NV_FLAG_NO_INDEX : 0);

            shape = unit_shapes[unit_random() % unit_nelts(unit_shapes)];

            for (k = 0; k < shape.ncuts; k++) {
                at = unit_random() % (block.len + 1);
                shape.cuts[k] = ngx_max(at, k ? shape.cuts[k - 1] : 1);
            }

            c.in.len = 0;
            c.want.len = 0;
            c.ids.len = 0;
            r.out.len = 0;
            r.ids.len = 0;
            r.fed = 0;

            unit_case_bytes(&c, &shape, &block, f, n);

            for (at = 0; at < c.in.len; /* void */ ) {
                size = unit_random() % 3 ? unit_random() % 20
                                         : unit_random() % 20000;
                at = ngx_min(at + size, c.in.len);

                unit_run_feed(&r, at);

                if (unit_random() % 16 == 0) {
                    (void) unit_run_start(&r);
                }
            }

            unit_run_check(&r, "block", i, round);

            unit_reference(other, &block, f, n);
            unit_table_differs(&r, other, i);
        }

        unit_check(updates > 3, "%lu sizes of a table", updates);

        nghttp2_hd_inflate_del(other);

        unit_run_free(&r);
        unit_case_free(&c);
    }

    unit_bytes_free(&block);

    free(values);
}


/* errors */


typedef struct {
    const char  *name;
    const char  *block;
    size_t       len;
} unit_error_t;


static const unit_error_t  unit_errors_of_blocks[] = {
    { "index 0", unit_bytes("\x80") },
    { "index 66", unit_bytes("\xc2") },
    { "index 127", unit_bytes("\xff\0") },
    { "a large index", unit_bytes("\xff\xff\xff\xff\x07") },
    { "an index that is too large", unit_bytes("\xff\xff\xff\xff\xff\x7f") },
    { "an index without an end", unit_bytes("\xff\xff\xff\xff\xff\xff\xff\xff"
                                            "\xff\xff\xff\xff\xff") },
    { "name 63", unit_bytes("\x0f\x30\1a") },
    { "name 64, to be indexed", unit_bytes("\x7f\x01\1a") },
    { "name 66, never indexed", unit_bytes("\x1f\x33\1a") },
    { "a size of 4097", unit_bytes("\x3f\xe2\x1f\x82") },
    { "a size that is too large", unit_bytes("\x3f\xff\xff\xff\xff\x7f") },
    { "a size behind a field", unit_bytes("\x82\x20\x82") },
    { "a string that is too long", unit_bytes("\0\x7f\xff\xff\xff\xff\xff"
                                              "\x7f") },
    { "Huffman: its end", unit_bytes("\0\1a\x84\xff\xff\xff\xff") },
    { "Huffman: 8 bits of padding", unit_bytes("\0\1a\x82\x1f\xff") },
    { "Huffman: padding of zeroes", unit_bytes("\0\1a\x81\x18") },
    { "Huffman: a name", unit_bytes("\0\x84\xff\xff\xff\xff\1a") },
    { "Huffman: a name's padding", unit_bytes("\0\x81\0\1a") }
};


/* what is in order as far as it goes, but ends too early */

static const unit_error_t  unit_truncated[] = {
    { "an index", unit_bytes("\xff") },
    { "more of an index", unit_bytes("\xff\x80") },
    { "a size", unit_bytes("\x3f") },
    { "more of a size", unit_bytes("\x3f\xe1") },
    { "no name", unit_bytes("\0") },
    { "no name, to be indexed", unit_bytes("\x40") },
    { "a length", unit_bytes("\0\x7f") },
    { "a part of a name", unit_bytes("\0\2a") },
    { "no byte of a name", unit_bytes("\0\1") },
    { "no value", unit_bytes("\0\1a") },
    { "no value of an index", unit_bytes("\x04") },
    { "an index of a name", unit_bytes("\x0f") },
    { "a length of a value", unit_bytes("\x04\x7f") },
    { "a part of a value", unit_bytes("\x04\5/abc") },
    { "no byte of a value", unit_bytes("\x04\5") },
    { "Huffman: a part", unit_bytes("\x04\x8c\xf1\xe3\xc2") },
    { "Huffman: nothing", unit_bytes("\x04\x8c") }
};


static void
unit_error_check(const unit_error_t *e, ngx_uint_t truncated)
{
    size_t         at;
    ngx_uint_t     i, k, n;
    unit_case_t    c;
    unit_shape_t   shape;
    unit_bytes_t   block;

    ngx_memzero(&block, sizeof(unit_bytes_t));

    n = unit_nfields(unit_blocks[0].fields);

    for (k = 0; k < unit_nelts(unit_shapes); k++) {

        for (i = 0; i < 4; i++) {
            unit_case(&c, e->name);

            if (i & 1) {
                unit_case_fields(&c, &unit_shapes[0], unit_blocks[9].fields,
                                 unit_nfields(unit_blocks[9].fields), 0);
            }

            block.len = 0;

            if (i & 2) {
                unit_put_deflated(&block, c.deflater, unit_blocks[0].fields, n,
                                  NGHTTP2_NV_FLAG_NO_INDEX);
            }

            at = block.len;
            unit_put(&block, e->block, e->len);

            if (!truncated) {

                /* this is not looked at */

                unit_put(&block, "\x82\x84\0\0\xff", 5);
            }

            shape = unit_shapes[k];

            if (shape.ncuts) {
                shape.cuts[0] = ngx_max(at, 1);
            }

            if (shape.ncuts > 1) {
                shape.cuts[1] = ngx_max(at + e->len / 2, 1);
                shape.ncuts = 2;
            }

            unit_put_block(&c.in, 3, &shape, &block);
            unit_put_text(&c.want, "COMPRESSION_ERROR\n");

            /* and what is behind it is not looked at, either */

            unit_put_text(&c.in, "abcdefghijklmnopqrstuvwxyz");

            if (i == 3 && k % 8 == 0) {
                unit_case_check(&c);

            } else {
                unit_case_check_some(&c);
            }

            unit_case_free(&c);
        }
    }

    unit_bytes_free(&block);
}


void
unit_hpack_errors(void)
{
    ngx_uint_t           i, n;
    unit_run_t           r;
    unit_case_t          c;
    const unit_error_t  *e;

    for (i = 0; i < unit_nelts(unit_errors_of_blocks); i++) {
        unit_error_check(&unit_errors_of_blocks[i], 0);
    }

    for (i = 0; i < unit_nelts(unit_truncated); i++) {
        unit_error_check(&unit_truncated[i], 1);
    }

    /*
     * What it takes to see an error is no more than what is in it: the last
     * byte of that decides, and nothing is held back.
     */

    for (i = 0; i < unit_nelts(unit_errors_of_blocks); i++) {
        e = &unit_errors_of_blocks[i];

        unit_case(&c, e->name);

        unit_put_head(&c.in, 100, HEADERS, 0, 1);
        unit_put(&c.in, e->block, e->len);

        unit_run(&r, &c);

        for (n = 1; n <= c.in.len && !r.h.broken; n++) {
            unit_run_feed(&r, n);
        }

        unit_check(r.h.broken && r.sure == 10
                   && memcmp(r.out.data, "\0\0\1\1\4\0\0\0\1\x80", 10) == 0,
                   "%s: %d after %lu bytes, %s", e->name, r.h.broken, n - 1,
                   unit_text(r.out.data, r.out.len));

        unit_run_free(&r);
        unit_case_free(&c);
    }
}


/* names and values of a block, up to a limit and beyond */

void
unit_hpack_limit(void)
{
    size_t               size, limit, len;
    u_char              *value;
    ngx_uint_t           i, k, m, n;
    unit_run_t           r;
    unit_case_t          c;
    unit_bytes_t         block;
    unit_field_t         f[101];
    const unit_block_t  *b;

    for (i = 0; i < unit_nelts(unit_blocks); i++) {
        b = &unit_blocks[i];
        n = unit_nfields(b->fields);

        for (size = 0, k = 0; k < n; k++) {
            size += b->fields[k].name.len + b->fields[k].value.len;
        }

        for (m = 0; m < 4; m++) {

            /* one byte too few, enough, and one to spare; and a field less */

            limit = (m < 3) ? size - 1 + m
                            : size - b->fields[n - 1].name.len
                              - b->fields[n - 1].value.len;

            for (k = 0; k < 3; k++) {
                unit_case(&c, b->name);
                c.limit = limit;

                if (limit < size) {
                    c.error = "ENHANCE_YOUR_CALM\n";
                }

                if (k == 0) {
                    unit_case_fields(&c, &unit_shapes[m + 7], b->fields, n, 0);

                } else {
                    unit_case_literals(&c, &unit_shapes[m], b->fields, n,
                                       k == 1 ? 0 : 0x40);
                }

                /* each block has the limit anew */

                unit_case_fields(&c, &unit_shapes[0], b->fields, n, 0);

                unit_case_check_some(&c);
                unit_case_free(&c);
            }
        }
    }

    /* with a table a few bytes make many */

    value = unit_block(NULL, 2999);
    memset(value, 'v', 2999);

    for (k = 0; k < unit_nelts(f); k++) {
        ngx_str_set(&f[k].name, "n");
        f[k].value.data = value;
        f[k].value.len = 2999;
    }

    unit_case(&c, "amplified");
    c.limit = 3000 * 100;

    unit_case_fields(&c, &unit_shapes[0], f, 100, 0);
    unit_case_fields(&c, &unit_shapes[0], f, 1, 0);

    unit_check(c.in.len < 4000, "a table that does not help: %zu", c.in.len);

    c.error = "ENHANCE_YOUR_CALM\n";
    unit_case_fields(&c, &unit_shapes[0], f, 101, 0);

    unit_case_check_some(&c);
    unit_case_free(&c);

    /* and no frame is larger than its length can say, 5 bytes being kept */

    for (k = 0; k < 2; k++) {
        unit_case(&c, "a large frame");
        c.limit = 3000 * 6000;

        ngx_memzero(&block, sizeof(unit_bytes_t));

        unit_put_literal(&block, 0x40, &f[0]);
        unit_put_run(&block, 0xbe, 16777210 / 3005 - 1 + k);
        unit_put_headers(&c.in, END_HEADERS, 1, 0, block.data, block.len);

        unit_run(&r, &c);
        unit_run_feed(&r, c.in.len);

        /* and perhaps a size of the table */

        len = r.out.len - 9 - (r.out.data[9] == 0x20);

        unit_check(r.h.broken == k
                   && len == (k ? 5 : 16777210 / 3005 * 3005),
                   "%zu bytes for %zu", len, c.in.len);

        unit_run_free(&r);
        unit_bytes_free(&block);
        unit_case_free(&c);
    }

    free(value);
}


/* frames of a block, up to what they may have together */

void
unit_hpack_budget(void)
{
    size_t         size, budget, padding;
    ngx_uint_t     i, k, n;
    unit_case_t    c;
    unit_field_t   f;
    unit_bytes_t   block;

    ngx_str_set(&f.name, "a");
    ngx_str_set(&f.value, "b");

    ngx_memzero(&block, sizeof(unit_bytes_t));

    for (k = 0; k < 5; k++) {

        for (i = 0; i < 3; i++) {
            unit_case(&c, "budget");
            c.limit = 10 + k * 1000;

            budget = unit_budget(c.limit);
            size = budget - 1 + i;
            padding = 0;

            block.len = 0;

            switch (k) {

            case 0:

                /* HEADERS alone, of many changes of the table's size */

                unit_put_run(&block, 0x20, size - 9 - 5);
                unit_put_literal(&block, 0, &f);
                unit_put_headers(&c.in, END_HEADERS, 1, 0, block.data,
                                 block.len);
                break;

            case 1:

                /* empty frames */

                unit_put_literal(&block, 0, &f);
                padding = (size - 9 - 1 - 5) % 9;
                n = (size - 9 - 1 - 5 - padding) / 9;

                unit_put_headers(&c.in, PADDED, 1, padding, block.data,
                                 block.len);

                while (n--) {
                    unit_put_frame(&c.in, CONTINUATION, n ? 0 : END_HEADERS, 1,
                                   NULL, 0);
                }

                break;

            case 2:

                /* one large CONTINUATION */

                unit_put_literal(&block, 0, &f);
                unit_put_headers(&c.in, 0, 1, 0, "\x20", 1);
                unit_put_head(&c.in, size - 9 - 1 - 9, CONTINUATION,
                              END_HEADERS, 1);
                unit_put_run(&c.in, 0x20, size - 9 - 1 - 9 - 5);
                unit_put(&c.in, block.data, block.len);
                break;

            case 3:

                /* a byte in each */

                unit_put_literal(&block, 0, &f);
                padding = (size - 9 - 1 - 5) % 10;
                n = (size - 9 - 1 - 5 - padding) / 10;

                unit_put_headers(&c.in, PADDED, 1, padding,
                                 unit_bytes("\x20\x20\x20\x20\x20"));

                while (n--) {
                    unit_put_frame(&c.in, CONTINUATION, n ? 0 : END_HEADERS, 1,
                                   n < 5 ? (char *) block.data + 4 - n
                                         : "\x20", 1);
                }

                break;

            default:

                /* PRIORITY and padding count, too */

                unit_put_run(&block, 0x20, size - 9 - 6 - 255 - 5);
                unit_put_literal(&block, 0, &f);
                unit_put_headers(&c.in, PADDED|PRIORITY|END_HEADERS, 1, 255,
                                 block.data, block.len);
                break;
            }

            unit_check(c.in.len == size, "%zu bytes, and not %zu", c.in.len,
                       size);

            if (size <= budget) {
                unit_say_block(&c.want, 1, k == 4 ? PRIORITY : 0,
                               (u_char *) UNIT_PRIORITY);
                unit_say_fields(&c.want, &c.ids, 1, &f, 1);

                unit_put_frame(&c.in, HEADERS, END_HEADERS, 3, "\x82", 1);

                ngx_str_set(&f.name, ":method");
                ngx_str_set(&f.value, "GET");

                unit_say_block(&c.want, 3, 0, NULL);
                unit_say_fields(&c.want, &c.ids, 3, &f, 1);

                ngx_str_set(&f.name, "a");
                ngx_str_set(&f.value, "b");

            } else {
                unit_put_text(&c.want, "ENHANCE_YOUR_CALM\n");
            }

            unit_case_check_some(&c);
            unit_case_free(&c);
        }
    }

    /* a frame that says that it is larger is not waited for */

    for (i = 0; i < 4; i++) {
        unit_case(&c, "announced");
        c.limit = 100;

        size = (i & 1) ? 16777215 : unit_budget(100) - 9 + 1;

        if (i & 2) {
            unit_put_headers(&c.in, 0, 1, 0, "\x82", 1);
            unit_put_head(&c.in, size, CONTINUATION, 0, 1);

        } else {
            unit_put_head(&c.in, size, HEADERS, 0, 1);
        }

        unit_put_text(&c.want, "ENHANCE_YOUR_CALM\n");

        unit_case_check(&c);
        unit_case_free(&c);
    }

    unit_bytes_free(&block);
}


/* another frame in the midst of a block */

void
unit_hpack_wrong(void)
{
    size_t        at;
    ngx_uint_t    i, k, type, sid;
    unit_run_t    r;
    unit_case_t   c;
    unit_bytes_t  other;

    ngx_memzero(&other, sizeof(unit_bytes_t));

    for (i = 0; i < 256 + 31; i++) {

        type = (i < 256) ? i : CONTINUATION;
        sid = (i < 256) ? 5 : 5 ^ ((ngx_uint_t) 1 << (i - 256));

        if (type == CONTINUATION && sid == 5) {
            continue;
        }

        other.len = 0;
        unit_put_frame(&other, type, i * 5, sid, unit_bytes("\x82\x84\0\0\0"));

        for (k = 0; k < 4; k++) {
            unit_case(&c, "wrong frame");

            unit_put_headers(&c.in, (k & 1) ? PRIORITY|PADDED|END_STREAM : 0,
                             5, k, unit_bytes("\x82\0\1a\1"));

            if (k & 2) {
                unit_put_frame(&c.in, CONTINUATION, 0, 5, unit_bytes("b"));
            }

            at = c.in.len;

            unit_put(&c.in, other.data, other.len);
            unit_put(&c.in, other.data, other.len);

            unit_put_text(&c.want, "PROTOCOL_ERROR\n");

            if (i % 16 == CONTINUATION || i >= 280 || i < 3) {
                unit_case_check(&c);

            } else {
                unit_case_check_some(&c);
            }

            /* all of it is there, and in front of it is what it needs */

            unit_run(&r, &c);
            unit_run_feed(&r, c.in.len);

            unit_check(r.h.broken
                       && r.out.len == c.in.len - at + 10 + 5 * (k & 1)
                       && r.out.data[3] == HEADERS
                       && memcmp(r.out.data + r.out.len - (c.in.len - at),
                                 c.in.data + at, c.in.len - at) == 0,
                       "type %lu, stream %lu: %s", type, sid,
                       unit_text(r.out.data, r.out.len));

            unit_run_free(&r);
            unit_case_free(&c);
        }
    }

    unit_bytes_free(&other);
}


/* frames that are too short for what their flags say is in them */

void
unit_hpack_short(void)
{
    size_t               at, len, front, padding;
    ngx_uint_t           flags, good;
    unit_run_t           r;
    unit_case_t          c;
    const unit_block_t  *b;

    b = &unit_blocks[9];

    for (flags = 0; flags < 64; flags++) {

        if (flags & ~(PADDED|PRIORITY|END_STREAM|END_HEADERS)) {
            continue;
        }

        for (len = 0; len < 9; len++) {

            for (padding = 0; padding < 10; padding++) {

                if (padding && !(flags & PADDED)) {
                    continue;
                }

                front = ((flags & PADDED) ? 1 : 0)
                        + ((flags & PRIORITY) ? 5 : 0);
                good = (len > front && len - front >= padding);

                unit_case(&c, "short");

                if (padding & 1) {
                    unit_case_fields(&c, &unit_shapes[0], b->fields,
                                     unit_nfields(b->fields), 0);
                }

                at = c.in.len;

                unit_put_head(&c.in, len, HEADERS, flags, 3);

                if ((flags & PADDED) && len) {
                    unit_put_byte(&c.in, padding);
                }

                while (c.in.len < at + 9 + len) {
                    unit_put_byte(&c.in, 0x20);
                }

                if (good) {

                    /* as good as any other, and what is left has no field */

                    if (!(flags & END_HEADERS)) {
                        unit_put_frame(&c.in, CONTINUATION, END_HEADERS, 3,
                                       NULL, 0);
                    }

                    unit_say_block(&c.want, 3, flags,
                                   (u_char *) "\x20\x20\x20\x20\x20");
                    unit_say_fields(&c.want, &c.ids, 3, NULL, 0);

                } else {

                    /* these are not part of it */

                    unit_put_frame(&c.in, 0x11, 0, 0,
                                   unit_bytes("0123456789"));

                    unit_parse(&c.want, c.in.data + at, c.in.len - at, NULL);

                    unit_check(memcmp(c.want.data + c.want.len - 7,
                                      "_ERROR\n", 7) == 0,
                               "short, %zu of flags %lx, padding %zu: %s",
                               len, flags, padding,
                               unit_text(c.want.data, c.want.len));

                    unit_run(&r, &c);
                    unit_run_feed(&r, c.in.len);

                    unit_check(r.h.broken && r.out.len >= c.in.len - at
                               && memcmp(r.out.data + r.out.len
                                         - (c.in.len - at),
                                         c.in.data + at, c.in.len - at) == 0,
                               "short, %zu of flags %lx, padding %zu: %s",
                               len, flags, padding,
                               unit_text(r.out.data, r.out.len));

                    unit_run_free(&r);
                }

                unit_case_check_some(&c);
                unit_case_free(&c);
            }
        }
    }
}


/*
 * nginx reads the fields of a stream that it has refused, or answered with 400
 * in the midst of them, and drops them: ngx_http_v2_state_field_skip().  Of a
 * literal that is not to be indexed it then takes the length of the last
 * string that it did not drop for that of the name and of the value.
 */

static const char *
unit_parse_dropped(const unit_bytes_t *out, size_t last)
{
    size_t        n, limit;
    u_char        ch;
    ngx_uint_t    strange;
    unit_part_t   part, name, value;

    part.p = out->data + 9;
    part.len = out->len - 9;
    limit = UNIT_LIMIT;

    if (out->data[4] & PRIORITY) {
        part.p += 5;
        part.len -= 5;
    }

    while (part.len) {
        ch = part.p[0];

        if (unit_parse_int(&part, ch >= 0x80 ? 7 : ch >= 0x40 ? 6
                                  : ch >= 0x20 ? 5 : 4, &n)
            != NULL)
        {
            return "a number";
        }

        if (ch >= 0x20 && ch < 0x40) {
            continue;
        }

        if (n || ch >= 0x80) {

            if (unit_parse_entry(n, &name, &value) != NULL) {
                return "an index";
            }

        } else {

            if (unit_parse_string(&part, &name, &strange) != NULL) {
                return "a name";
            }

            if (ch < 0x40) {
                name.len = last;
            }
        }

        if (ch < 0x80) {

            if (unit_parse_string(&part, &value, &strange) != NULL) {
                return "a value";
            }

            if (ch < 0x40) {
                value.len = last;

            } else {
                last = value.len;
            }
        }

        if (name.len == 0) {
            return "client sent zero header name length";
        }

        if (name.len + value.len > limit) {
            return "client sent too large header";
        }

        limit -= name.len + value.len;
    }

    return NULL;
}


void
unit_hpack_dropped(void)
{
    ngx_uint_t           i, k;
    unit_run_t           r;
    const char          *err;
    unit_case_t          c;
    const unit_block_t  *b;

    for (i = 0; i < unit_nelts(unit_blocks); i++) {
        b = &unit_blocks[i];

        for (k = 0; k < 6; k++) {
            unit_case(&c, b->name);
            unit_case_fields(&c, &unit_shapes[k % 3], b->fields,
                             unit_nfields(b->fields), 0);

            unit_run(&r, &c);
            unit_run_feed(&r, c.in.len);

            err = unit_parse_dropped(&r.out, (k < 3) ? 0 : 8000);
            unit_check(err == NULL, "%s, behind %d bytes: %s", b->name,
                       (k < 3) ? 0 : 8000, err);

            unit_run_free(&r);
            unit_case_free(&c);
        }
    }
}


/* of bytes that were changed by chance, too, each cut says the same */

void
unit_hpack_mutations(void)
{
    size_t               at, to;
    ngx_uint_t           i, k, n, broken;
    unit_run_t           whole, r;
    unit_case_t          c;
    const unit_block_t  *b;

    broken = 0;

    for (i = 0; i < 2000; i++) {
        unit_case(&c, "mutations");

        if (i % 4 == 0) {
            c.limit = 200;
        }

        for (k = 0; k < 3; k++) {
            b = &unit_blocks[unit_random() % unit_nelts(unit_blocks)];

            unit_case_fields(&c, &unit_shapes[unit_random()
                                              % unit_nelts(unit_shapes)],
                             b->fields, unit_nfields(b->fields), 0);
        }

        for (n = unit_random() % 4; n; n--) {
            at = unit_random() % c.in.len;

            switch (unit_random() % 4) {
            case 0:   c.in.data[at] ^= 1 << unit_random() % 8; break;
            case 1:   c.in.data[at] = unit_random() % 256; break;
            case 2:   c.in.data[at]++; break;
            default:  c.in.len = at + 1;
            }
        }

        unit_run(&whole, &c);
        unit_run_feed(&whole, c.in.len);

        broken += whole.h.broken;

        c.want.len = 0;
        unit_parse(&c.want, whole.out.data, whole.out.len, NULL);

        c.ids.len = 0;
        unit_put(&c.ids, whole.ids.data, whole.ids.len);

        for (k = 0; k < 4; k++) {
            unit_run(&r, &c);

            for (at = 0; at < c.in.len; at = to) {
                to = at + 1 + (k ? unit_random() % (20 * k) : 0);
                to = ngx_min(to, c.in.len);

                unit_run_feed(&r, to);

                if (k == 3 && to < c.in.len) {
                    (void) unit_run_start(&r);
                }
            }

            if (k < 3) {
                unit_run_same(&r, &whole, "mutation", i, k);

            } else if (!r.within) {
                unit_run_check(&r, "mutation", i, k);
            }

            unit_run_free(&r);
        }

        unit_run_free(&whole);
        unit_case_free(&c);
    }

    unit_check(broken > 300 && broken < 1500, "%lu are broken", broken);
}


/* how many bytes of memory are left behind these fields */

static size_t
unit_room_left(const unit_field_t *f, ngx_uint_t n)
{
    size_t         left;
    ngx_uint_t     i;
    unit_run_t     r;
    unit_case_t    c;
    unit_bytes_t   block;

    ngx_memzero(&block, sizeof(unit_bytes_t));

    for (i = 0; i < n; i++) {
        unit_put_literal(&block, 0, &f[i]);
    }

    unit_case(&c, "room");
    c.limit = 400000;
    unit_put_headers(&c.in, 0, 1, 0, block.data, block.len);

    unit_run(&r, &c);
    unit_run_feed(&r, c.in.len);

    left = r.h.end - r.h.out;

    unit_run_free(&r);
    unit_bytes_free(&block);
    unit_case_free(&c);

    return left;
}


/* fields of all sizes where memory is just enough, and where it is not */

void
unit_hpack_room(void)
{
    size_t        left, need;
    u_char       *data;
    ngx_uint_t    i, k;
    unit_case_t   c;
    unit_field_t  f[4];

    data = unit_block(NULL, 60000);
    memset(data, 'x', 60000);

    for (i = 0; i < 2; i++) {

        for (k = 0; k < 40; k++) {
            ngx_memzero(f, sizeof(f));

            if (i == 0) {

                /* a field whose lengths take most octets */

                ngx_str_set(&f[0].name, "a");
                f[0].value.data = data;
                f[0].value.len = 40000;
                ngx_str_set(&f[1].name, "b");
                ngx_str_set(&f[1].value, "0123456789");

                left = unit_room_left(f, 2);
                need = left + k - 20;

                f[2].name.data = data;
                f[2].name.len = 16600;
                f[2].value.data = data;
                f[2].value.len = need - 1 - 4 - f[2].name.len - 4;

                unit_check(f[2].value.len > 16511, "%zu bytes are left", left);

            } else {

                /* what a CONNECT is given */

                ngx_str_set(&f[0].name, ":method");
                ngx_str_set(&f[0].value, "CONNECT");
                ngx_str_set(&f[1].name, ":authority");
                f[1].value.data = data;
                f[1].value.len = 16600;
                ngx_str_set(&f[2].name, "c");
                f[2].value.data = data;
                f[2].value.len = 1000;
                ngx_str_set(&f[3].name, "d");
                f[3].value.data = data;

                left = unit_room_left(f, 4);
                need = 1 + 1 + 4 + 1 + f[1].value.len + k - 20;

                f[3].value.len = left - need;

                unit_check(left >= need && left - need < 127,
                           "%zu bytes are left", left);
            }

            unit_case(&c, "room");
            c.limit = 400000;

            unit_case_literals(&c, &unit_shapes[0], f, i ? 4 : 3, 0);
            unit_case_check_some(&c);
            unit_case_free(&c);
        }
    }

    free(data);
}


/* blocks that may pass, as far as there is no CONNECT */

static void
unit_pass_check(unit_case_t *c, ngx_uint_t connect)
{
    size_t       i, n, len;
    ngx_int_t    rc;
    unit_run_t   r;

    len = c->in.len;

    unit_run(&r, c);
    unit_run_feed(&r, len);
    unit_run_check(&r, "passed, whole", 0, 0);

    unit_check(r.h.pass == !connect, "%s: may pass: %d", c->name, r.h.pass);
    unit_check(connect || unit_same(&r.out, &c->in), "%s: did not pass",
               c->name);

    unit_run_free(&r);

    for (n = 1; n < len; n += 1 + n / 3) {
        unit_run(&r, c);

        for (i = 0; i < len; i += ngx_min(n, len - i)) {
            unit_run_feed(&r, i + ngx_min(n, len - i));

            if (n & 1) {
                (void) unit_run_start(&r);
            }
        }

        unit_run_check(&r, "passed, in pieces of", n, 0);
        unit_run_free(&r);
    }

    for (i = 1; i < len; i++) {
        unit_run(&r, c);
        unit_run_feed(&r, i);

        /* nothing is begun that passes, and nothing passes that was begun */

        rc = unit_run_start(&r);
        unit_check(rc == NGX_DECLINED || !r.h.pass, "%s: begun at %zu",
                   c->name, i);

        unit_run_feed(&r, len);
        unit_run_check(&r, "passed, cut at", i, 0);
        unit_run_free(&r);
    }
}


void
unit_hpack_pass(void)
{
    ngx_uint_t           i, k, n, connect;
    unit_case_t          c;
    unit_run_t           r;
    unit_bytes_t         block;
    const unit_block_t  *b, *get;

    get = &unit_blocks[0];

    for (i = 0; i < unit_nelts(unit_blocks); i++) {
        b = &unit_blocks[i];
        n = unit_nfields(b->fields);

        /* one that says it is a GET first is none to be turned into another */

        if (strcmp(b->name, "CONNECT and another method") == 0) {
            continue;
        }

        for (k = 0; k < 2; k++) {
            unit_case(&c, b->name);
            c.pass = 1;

            unit_case_fields(&c, &unit_shapes[k ? 5 : 0], get->fields, 6, 0);
            unit_case_fields(&c, &unit_shapes[2], get->fields, 6, 0);

            c.ids.len = 0;

            unit_case_fields(&c, &unit_shapes[k ? 8 : 0], b->fields, n, 0);

            connect = (memchr(c.ids.data, 'c', c.ids.len)
                       || memchr(c.ids.data, 'm', c.ids.len));

            unit_case_fields(&c, &unit_shapes[0], b->fields, n, 0);

            if (!connect) {
                c.ids.len = 0;
            }

            n = c.ids.len;
            unit_case_fields(&c, &unit_shapes[k], get->fields, 6, 0);
            c.ids.len = n;
            n = unit_nfields(b->fields);

            unit_pass_check(&c, connect);
            unit_case_free(&c);
        }
    }

    /* what may look like indexes alone, and changes the table */

    for (i = 0; i < 4; i++) {
        static const unit_example_t  first[] = {
            { unit_bytes("\x82\x87\x84\x41\x83\xf1\xe3\xc7"), {
                unit_field(":method", "GET"),
                unit_field(":scheme", "https"),
                unit_field(":path", "/"),
                unit_field(":authority", "www") } },
            { unit_bytes("\x82\x87\x84\x41\3www"), {
                unit_field(":method", "GET"),
                unit_field(":scheme", "https"),
                unit_field(":path", "/"),
                unit_field(":authority", "www") } },
            { unit_bytes("\x41\3www\x40\1a\1b\x42\7CONNECT"), {
                unit_field(":authority", "www"),
                unit_field("a", "b"),
                unit_field(":method", "CONNECT") } },

            /* the end of it looks like a frame */

            { unit_bytes("\x82\0\0\1A\4\3abc\x82"), {
                unit_field(":method", "GET"),
                unit_field("", "A"),
                unit_field(":path", "abc"),
                unit_field(":method", "GET") } }
        };

        static const unit_example_t  again[] = {
            { unit_bytes("\x82\x87\x84\xbe"), {
                unit_field(":method", "GET"),
                unit_field(":scheme", "https"),
                unit_field(":path", "/"),
                unit_field(":authority", "www") } },
            { unit_bytes("\x82\x87\x84\xbe"), {
                unit_field(":method", "GET"),
                unit_field(":scheme", "https"),
                unit_field(":path", "/"),
                unit_field(":authority", "www") } },
            { unit_bytes("\x82\x87\x84\xc0"), {
                unit_field(":method", "GET"),
                unit_field(":scheme", "https"),
                unit_field(":path", "/"),
                unit_field(":authority", "www") } },
            { unit_bytes("\x83\x86"), {
                unit_field(":method", "POST"),
                unit_field(":scheme", "http") } }
        };

        static const unit_example_t  last[] = {
            { unit_bytes("\x42\7CONNECT\xbf"), {
                unit_field(":method", "CONNECT"),
                unit_field(":authority", "www") } },
            { unit_bytes("\xbe\x42\7CONNECT"), {
                unit_field(":authority", "www"),
                unit_field(":method", "CONNECT") } },
            { unit_bytes("\xc0\xbe"), {
                unit_field(":authority", "www"),
                unit_field(":method", "CONNECT") } },
            { unit_bytes("\2\7CONNECT\1\3www"), {
                unit_field(":method", "CONNECT"),
                unit_field(":authority", "www") } }
        };

        static const unit_shape_t    shape = { 0, 0, 1, { 3 } };

        ngx_memzero(&block, sizeof(unit_bytes_t));

        unit_case(&c, "indexes");
        c.pass = 1;

        unit_put(&block, first[i].block, first[i].len);
        unit_case_bytes(&c, i == 1 ? &shape : &unit_shapes[0], &block,
                        first[i].fields, unit_nfields(first[i].fields));
        block.len = 0;

        for (k = 0; k < 3; k++) {
            unit_put(&block, again[i].block, again[i].len);
            unit_case_bytes(&c, &unit_shapes[k], &block, again[i].fields,
                            unit_nfields(again[i].fields));
            block.len = 0;
        }

        c.ids.len = 0;

        unit_put(&block, last[i].block, last[i].len);
        unit_case_bytes(&c, &unit_shapes[0], &block, last[i].fields, 2);

        unit_pass_check(&c, 1);

        unit_bytes_free(&block);
        unit_case_free(&c);
    }

    /* an error behind a GET is the parser's, and all bytes are as they came */

    ngx_memzero(&block, sizeof(unit_bytes_t));

    for (i = 0; i < unit_nelts(unit_errors_of_blocks); i++) {

        for (k = 0; k < 2; k++) {
            unit_case(&c, unit_errors_of_blocks[i].name);
            c.pass = 1;

            block.len = 0;
            unit_put(&block, "\x82", k);
            unit_put(&block, unit_errors_of_blocks[i].block,
                     unit_errors_of_blocks[i].len);

            unit_case_fields(&c, &unit_shapes[0], get->fields, 6,
                             NGHTTP2_NV_FLAG_NO_INDEX);
            c.ids.len = 0;
            unit_put_block(&c.in, 3, &unit_shapes[0], &block);
            unit_put_text(&c.want, "COMPRESSION_ERROR\n");
            unit_put_text(&c.in, "abcdefghijklmnopqrstuvwxyz");

            for (n = 1; n <= c.in.len; n++) {
                unit_run(&r, &c);
                unit_run_feed(&r, n);
                unit_run_feed(&r, c.in.len);
                unit_run_check(&r, "passed, cut at", n, 0);

                unit_check(k == 0 || n < c.in.len || unit_same(&r.out, &c.in),
                           "%s: other bytes", c.name);

                unit_run_free(&r);
            }

            unit_case_free(&c);
        }
    }

    unit_bytes_free(&block);
}


/* calls, and what they leave behind */

void
unit_hpack_calls(void)
{
    u_char            *p, *data;
    ngx_int_t          rc;
    unit_bytes_t       in;
    ngx_http_hpack_t   h;

    ngx_memzero(&h, sizeof(ngx_http_hpack_t));
    ngx_memzero(&in, sizeof(unit_bytes_t));

    h.log = &unit_errors;
    h.limit = 100;

    /* nothing yet, nothing more, and twice */

    ngx_http_hpack_free(&h);

    unit_check(ngx_http_hpack_init(&h) == NGX_OK, "init");
    unit_check(!h.reading && !h.broken && h.start == NULL, "init: state");
    unit_check(ngx_http_hpack_start(&h) == NGX_DECLINED, "nothing to start");

    ngx_http_hpack_done(&h);

    /* two blocks in one piece: the first one is read */

    unit_put_headers(&in, END_HEADERS, 1, 0, "\x82", 1);
    unit_put_headers(&in, END_HEADERS|END_STREAM, 3, 0, "\x83", 1);

    data = unit_block(in.data, in.len);
    p = data;

    unit_check(ngx_http_hpack_read(&h, &p, data + in.len) == NGX_OK
               && p == data + 10 && h.sid == 1 && !h.connect && !h.reading,
               "the first one: %lu", (ngx_uint_t) (p - data));
    unit_check(h.start != NULL, "what is to be delivered is gone");
    unit_check(ngx_http_hpack_start(&h) == NGX_DECLINED, "started at its end");

    ngx_http_hpack_done(&h);
    unit_check(h.start == NULL, "done");

    ngx_http_hpack_done(&h);

    unit_check(ngx_http_hpack_start(&h) == NGX_DECLINED, "started behind it");

    /* done() in the midst of a block takes nothing of it away */

    rc = ngx_http_hpack_read(&h, &p, data + in.len - 1);
    unit_check(rc == NGX_AGAIN && p == data + in.len - 1 && h.reading,
               "the second one: %ld", rc);

    ngx_http_hpack_done(&h);

    rc = ngx_http_hpack_start(&h);
    unit_check(rc == NGX_OK && h.last - h.pos == 10
               && memcmp(h.pos, "\0\0\1\1\1\0\0\0\3\x20", 10) == 0,
               "started: %ld, %s", rc, unit_text(h.pos, h.last - h.pos));

    ngx_http_hpack_done(&h);

    rc = ngx_http_hpack_read(&h, &p, data + in.len);
    unit_check(rc == NGX_OK && p == data + in.len && h.sid == 3 && !h.reading
               && memcmp(h.pos + 3, "\x09\4\0\0\0\3", 6) == 0,
               "the end of the second one: %ld, %s", rc,
               unit_text(h.pos, h.last - h.pos));

    /* free() without done() */

    ngx_http_hpack_free(&h);
    unit_check(h.start == NULL && h.inflater == NULL, "free");

    ngx_http_hpack_free(&h);

    free(data);
    unit_bytes_free(&in);
}


/* memory, and the lack of it */


int
unit_inflate_new(nghttp2_hd_inflater **inflater)
{
    if (unit_inflate_fail && --unit_inflate_fail == 0) {
        return NGHTTP2_ERR_NOMEM;
    }

    return nghttp2_hd_inflate_new(inflater);
}


ssize_t
unit_inflate_hd2(nghttp2_hd_inflater *inflater, nghttp2_nv *nv, int *flags,
    const uint8_t *in, size_t len, int last)
{
    if (unit_inflate_fail && --unit_inflate_fail == 0) {
        return NGHTTP2_ERR_NOMEM;
    }

    return nghttp2_hd_inflate_hd2(inflater, nv, flags, in, len, last);
}


/* blocks that take memory at all places that ask for some */

static void
unit_memory_case(unit_case_t *c)
{
    static unit_field_t  f[] = {
        unit_field(":method", "CONNECT"),
        unit_field(":authority", UNIT_LABELS UNIT_LABELS UNIT_LABELS
                   UNIT_LABELS UNIT_LABEL UNIT_LABEL UNIT_LABEL),
        unit_field("a", UNIT_LABELS UNIT_LABELS),
        unit_field("b", UNIT_LABELS UNIT_LABELS UNIT_LABELS UNIT_LABELS),
        unit_field("c", UNIT_LABELS UNIT_LABELS UNIT_LABELS UNIT_LABELS),
        unit_no_field
    };

    unit_case(c, "memory");

    unit_case_fields(c, &unit_shapes[7], f, 2, 0);
    unit_case_fields(c, &unit_shapes[0], f, 5, 0);
    unit_put_headers(&c->in, END_HEADERS, c->sid + 2, 0, "\x20", 1);

    unit_say_block(&c->want, c->sid + 2, 0, NULL);
    unit_say_fields(&c->want, &c->ids, c->sid + 2, f, 0);
}


void
unit_hpack_memory(void)
{
    size_t              before, used, at, n, idle, most;
    ngx_uint_t          i, k;
    unit_run_t          r;
    unit_case_t         c;
    unit_field_t        f;
    unit_bytes_t        block;
    ngx_http_hpack_t    h;

    unit_memory_case(&c);
    unit_case_check(&c);

    /* each allocation fails once */

    for (i = 1; /* void */ ; i++) {
        before = __sanitizer_get_current_allocated_bytes();

        unit_run(&r, &c);

        unit_alloc_fail = i;
        unit_alloc_failed = 0;

        unit_run_feed(&r, c.in.len);

        unit_alloc_fail = 0;

        unit_check(r.failed == (unit_alloc_failed != 0),
                   "no error for want of memory, %lu", i);

        k = r.failed;
        unit_run_free(&r);

        used = __sanitizer_get_current_allocated_bytes();
        unit_check(used == before, "leak of %zu after %lu", used - before, i);

        if (k == 0) {
            break;
        }
    }

    unit_check(i > 5, "%lu allocations", i);

    /* and in the library */

    ngx_memzero(&h, sizeof(ngx_http_hpack_t));
    h.log = &unit_errors;

    unit_inflate_fail = 1;
    unit_check(ngx_http_hpack_init(&h) == NGX_ERROR, "no inflater");
    unit_inflate_fail = 0;

    ngx_http_hpack_free(&h);

    for (i = 1; /* void */ ; i++) {
        unit_run(&r, &c);

        unit_inflate_fail = i;
        unit_run_feed(&r, c.in.len);

        k = unit_inflate_fail;
        unit_inflate_fail = 0;

        unit_check(r.failed == (k == 0), "no memory in the library, %lu", i);

        unit_run_free(&r);

        if (k) {
            break;
        }
    }

    unit_check(i > 7, "%lu calls", i);

    unit_case_free(&c);

    /* idle: the same after few and many blocks */

    ngx_memzero(&block, sizeof(unit_bytes_t));

    unit_case(&c, "idle");
    c.limit = 100000;
    unit_run(&r, &c);

    used = 0;

    f.value.data = unit_block(NULL, 65536);
    memset(f.value.data, 'A', 65536);

    for (i = 0; i < 300; i++) {
        c.in.len = 0;
        c.want.len = 0;
        r.out.len = 0;
        r.ids.len = 0;
        r.fed = 0;

        ngx_str_set(&f.name, "a");
        f.value.len = (i % 100 == 1) ? 65536 : 40;
        f.value.data[0] = 'A' + i % 17;

        block.len = 0;
        unit_put_literal(&block, 0x40, &f);
        unit_put_headers(&c.in, END_HEADERS, 1, 0, block.data, block.len);

        /* memory of the test itself is of no interest */

        before = __sanitizer_get_current_allocated_bytes()
                 - r.out.size - r.ids.size - c.in.size - block.size;

        unit_run_feed(&r, c.in.len);

        idle = __sanitizer_get_current_allocated_bytes()
               - r.out.size - r.ids.size - c.in.size - block.size;

        unit_check(idle <= before + 8192, "%zu more when idle, %lu",
                   idle - before, i);

        if (i == 5) {
            used = idle;
        }
    }

    /* the table is full of small ones, and that is all */

    unit_check(idle < used + 20000, "%zu more after many blocks", idle - used);

    free(f.value.data);

    unit_run_free(&r);
    unit_case_free(&c);

    /* fields of no byte, each a byte of a block */

    for (i = 0; i < 3; i++) {
        unit_case(&c, "fields of nothing");
        c.limit = i * 10000;

        block.len = 0;
        unit_put(&block, "\x40\0\0", 3);
        unit_put_run(&block, 0xbe, unit_budget(c.limit) - 9 - 3);

        unit_put_headers(&c.in, END_HEADERS, 1, 0, block.data, block.len);

        unit_run(&r, &c);

        most = 0;

        for (at = 0; at < c.in.len; /* void */ ) {
            at = ngx_min(at + 500, c.in.len);
            unit_run_feed(&r, at);

            n = r.h.start ? r.h.end - r.h.start : 0;
            most = ngx_max(most, n);
        }

        unit_check(!r.failed && !r.h.broken && r.out.len > 3 * 16000
                   && most <= 8 * unit_budget(c.limit),
                   "%zu bytes of memory for %zu", most, c.in.len);

        unit_run_free(&r);
        unit_case_free(&c);
    }

    unit_bytes_free(&block);
}
