
/*
 * Fuzz target: header blocks of HTTP/2.  The first byte of the input is the
 * size of segments, 0 means 256; the second one is what the rest is, see
 * fuzz_kind_e, and in its high bits the limit; the third one says when blocks
 * are begun early.
 *
 * What holds for all that a client may send:
 *
 * - cut differently it gives the same bytes, up to where it is broken; and
 *   begun early the parser sees the same in them;
 * - each block is one frame, or if it was begun two, of a form that a parser
 *   without a table understands;
 * - the fields are those that a reference inflater has of the same fragments,
 *   but for CONNECT, and the two tables are the same;
 * - what is in error is the same error to the parser;
 * - blocks that may pass as they are do so before the first CONNECT, and the
 *   parser with the client's table sees the same in all that it is given;
 * - no more memory is taken than the limit and the budget of frames allow, and
 *   none between blocks.
 */


#include "fuzz.h"
#include "ngx_http_connect_tunnel_hpack.h"


typedef enum {
    FUZZ_RAW = 0,                /* what a client sends */
    FUZZ_FRAMES,                 /* their lengths are right */
    FUZZ_FIELDS,                 /* as names and values */
    FUZZ_KINDS
} fuzz_kind_e;


enum {
    FUZZ_BLOCK = 0,
    FUZZ_EMPTY,
    FUZZ_CONNECT,
    FUZZ_MALFORMED,
    FUZZ_DYNAMIC,
    FUZZ_EVICTED,
    FUZZ_SHRUNK,
    FUZZ_HUFFMAN,
    FUZZ_LONG,
    FUZZ_CONTINUED,
    FUZZ_PADDED,
    FUZZ_PRIORITY,
    FUZZ_BEGUN,
    FUZZ_BEGUN_BROKEN,
    FUZZ_PASSED,
    FUZZ_PASSED_FIRST,
    FUZZ_PASSED_BROKEN,
    FUZZ_OTHER,
    FUZZ_CUT,
    FUZZ_TRUNCATED,
    FUZZ_COMPRESSION,
    FUZZ_LIMIT,
    FUZZ_BUDGET,
    FUZZ_WRONG_TYPE,
    FUZZ_WRONG_STREAM,
    FUZZ_SHORT,
    FUZZ_PADDING
};


static fuzz_reached_t  fuzz_reached[] = {
    [FUZZ_BLOCK] = { "block", 0 },
    [FUZZ_EMPTY] = { "block without fields", 0 },
    [FUZZ_CONNECT] = { "CONNECT", 0 },
    [FUZZ_MALFORMED] = { "malformed CONNECT", 0 },
    [FUZZ_DYNAMIC] = { "block that filled the table", 0 },
    [FUZZ_EVICTED] = { "block that drove out entries", 0 },
    [FUZZ_SHRUNK] = { "another size of the table", 0 },
    [FUZZ_HUFFMAN] = { "block that is larger than its fragments", 0 },
    [FUZZ_LONG] = { "value of more than 127 bytes", 0 },
    [FUZZ_CONTINUED] = { "CONTINUATION", 0 },
    [FUZZ_PADDED] = { "padding", 0 },
    [FUZZ_PRIORITY] = { "priority", 0 },
    [FUZZ_BEGUN] = { "begun early", 0 },
    [FUZZ_BEGUN_BROKEN] = { "begun early, and broken", 0 },
    [FUZZ_PASSED] = { "all blocks passed", 0 },
    [FUZZ_PASSED_FIRST] = { "a block passed, and another one did not", 0 },
    [FUZZ_PASSED_BROKEN] = { "a block passed, and one was broken", 0 },
    [FUZZ_OTHER] = { "another frame between blocks", 0 },
    [FUZZ_CUT] = { "a part of a block", 0 },
    [FUZZ_TRUNCATED] = { "a field that is cut off", 0 },
    [FUZZ_COMPRESSION] = { "HPACK in error", 0 },
    [FUZZ_LIMIT] = { "over the limit", 0 },
    [FUZZ_BUDGET] = { "over the budget of frames", 0 },
    [FUZZ_WRONG_TYPE] = { "another frame in a block", 0 },
    [FUZZ_WRONG_STREAM] = { "another stream in a block", 0 },
    [FUZZ_SHORT] = { "a frame that is too short", 0 },
    [FUZZ_PADDING] = { "too much padding", 0 }
};


/* CONNECTs of curl and of Chromium, which sends priorities, and a GET */

#define FUZZ_CURL                                                             \
    "\x00\x00\x20\x01\x04\x00\x00\x00\x01\x42\x87\xbd\xab\x4e\x9c"            \
    "\x17\xb7\xff\x41\x8b\x2f\x91\xd3\x5d\x05\x5c\xf6\x4d\x71\xa6"            \
    "\x99\x7a\x88\x25\xb6\x50\xc3\xcb\xb6\xb8\x3f"

#define FUZZ_CHROMIUM                                                         \
    "\x00\x00\x86\x01\x24\x00\x00\x00\x01\x80\x00\x00\x00\xff\x42"            \
    "\x87\xbd\xab\x4e\x9c\x17\xb7\xff\x41\x8f\xf1\xe3\xc2\xe5\xf2"            \
    "\x3a\x6b\xa0\xab\x9e\xc9\xae\x34\xd3\x3f\x40\x8c\xae\xc3\xf9"            \
    "\xf4\xb1\x0f\x55\x45\x22\x4c\x7a\xbf\x88\xea\x52\xd6\xb0\xe8"            \
    "\x37\x72\xff\x7a\xce\xd0\x7f\x66\xa2\x81\xb0\xda\xe0\x53\xfa"            \
    "\xfc\x08\x7e\xd4\xce\x6a\xad\xf2\xa7\x97\x9c\x89\xc6\xbf\xb5"            \
    "\x21\xae\xba\x0b\xc8\xb1\xe6\x32\x58\x6d\x97\x57\x65\xc5\x3f"            \
    "\xac\xd8\xf7\xe8\xcf\xf4\xa5\x06\xea\x55\x31\x14\x9d\x4f\xfd"            \
    "\xa9\x7a\x7b\x0f\x49\x58\x0b\x20\x5c\x0b\x81\x70\x29\xb8\x72"            \
    "\x8e\xc3\x30\xdb\x2e\xae\xcb\x9f"                                        \
    "\x00\x00\x22\x01\x24\x00\x00\x00\x03\x80\x00\x00\x00\xff\xc1"            \
    "\x41\x8e\x24\x95\x2e\x5f\x23\xa6\xba\x0a\xb9\xec\x9a\xe3\x4d"            \
    "\x33\xc0\xbf\x71\x88\xba\x34\x18\x8a\x49\xbe\xbf\x1f"

#define FUZZ_GET                                                              \
    "\x00\x00\x29\x01\x25\x00\x00\x00\x01\x80\x00\x00\x00\xff\x82"            \
    "\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x9e\xc9\xbf\x87"            \
    "\x44\x87\x60\x6c\x47\xfe\x12\x09\x3f\x53\x83\xf9\x63\xe7\x90"            \
    "\x60\x83\x1c\x11\xff"                                                    \
    "\x00\x00\x07\x01\x05\x00\x00\x00\x03\x82\xc1\x87\xc0\xbf\x90"            \
    "\xbe"

#define FUZZ_WINDOW  "\0\0\4\x08\0\0\0\0\0\0\1\0\0"
#define FUZZ_DATA    "\0\0\4\0\1\0\0\0\1data"

static const fuzz_bytes_t  fuzz_seeds[] = {
    fuzz_bytes("\0\0" FUZZ_CURL),
    fuzz_bytes("\0\7" FUZZ_CHROMIUM),
    fuzz_bytes("\0\0" FUZZ_GET FUZZ_CHROMIUM),
    fuzz_bytes("\0\0\0\0\x08\1\4\0\0\0\1\x82\x87\x84\x41\x83\xf1\xe3\xc7"
               "\0\0\x08\1\4\0\0\0\1\x82\x87\x84\x41\x83\xf1\xe3\xc7"
               "\0\0\4\1\5\0\0\0\3\x82\x87\x84\xbf"
               "\0\0\x0a\1\4\0\0\0\5\x42\7CONNECT\xbf"),
    fuzz_bytes("\0\1" FUZZ_GET),
    fuzz_bytes("\0\0" FUZZ_WINDOW FUZZ_CURL FUZZ_DATA FUZZ_GET),
    fuzz_bytes("\0\3\0\0\4\1\0\0\0\0\1\x20\x3f\xe1\1"
               "\0\0\2\x09\0\0\0\0\1\x82\x41" "\0\0\0\x09\0\0\0\0\1"
               "\0\0\6\x09\4\0\0\0\1\5a:443"),
    fuzz_bytes("\0\0\0\0\x0a\1\x2d\0\0\0\5\2\0\0\0\0\x10\x82\x84\x80\x80"),
    fuzz_bytes("\0\0\0\0\4\1\5\0\0\0\1\x82\x86\x84\x80"),
    fuzz_bytes("\0\0\0\0\4\1\4\0\0\0\1\0\1a\5"),
    fuzz_bytes("\0\0\0\0\2\1\0\0\0\0\1\x82\x84" FUZZ_DATA),
    fuzz_bytes("\0\5\0\0\2\1\0\0\0\0\1\x82\x84\0\0\1\x09\4\0\0\0\3\x84"),
    fuzz_bytes("\0\0\0\0\0\1\4\0\0\0\1"),
    fuzz_bytes("\0\0\0\0\5\1\x24\0\0\0\1\0\0\0\0\0"),
    fuzz_bytes("\0\0\0\0\2\1\x0c\0\0\0\1\2\x82"),
    fuzz_bytes("\0\0\xff\xff\xff\1\4\0\0\0\1\x82"),
    fuzz_bytes("\0\1\0\0\2\1\0\0\0\0\1\x82\x84\0\xff\xff\x09\4\0\0\0\1"),

    /* see fuzz_frames() */

    fuzz_bytes("\1\0\x0c\x05\2\x82\x86\x84\xbe\4\4\x82\x86\x84\x41"),
    fuzz_bytes("\1\3\x28\3\5\x40\1\4\0\0\4\3\1a\x82\4\3\xbe\xbe\xbe"),
    fuzz_bytes("\1\2\0\3\x42\7C\0\4ONNE\4\2CT\x04\1\xbe\0\1\xbe\x40\1\x82"),
    fuzz_bytes("\1\1\0\1\x82\x80\1\x84\4\1\x87"),
    fuzz_bytes("\1\0\2\xf0" "\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20"
               "\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20"
               "\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20"
               "\2\x7f\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20\x20"),
    fuzz_bytes("\1\4\4\7\x40\0\0\xbe\xbe\xbe\xbe\6\4\xbe\xbe\xbe\xbe"),
    fuzz_bytes("\1\0\4\4\x20\x3f\xe1\x1f\4\1\x20\4\2\x3f\xe2"),

    /* see fuzz_fields() */

    fuzz_bytes("\2\0\0\0\0\1\7a.b:443\6\3c/1\x2a\2u:"),
    fuzz_bytes("\2\1\x28\0\0\1\7a.b:443\6\3c/1\x2a\2u:"
               "\1\0\0\1\7a.b:443\6\3c/1\x2a\2u:"),
    fuzz_bytes("\2\2\1\1\5a:443\x20\0"),
    fuzz_bytes("\2\2\2\0\3GET\2\5https\3\1/\x24\3*/*"
               "\x40\0\3GET\2\5https\3\1/\x24\3*/*"),
    fuzz_bytes("\2\0\0\0\0\2\5https\3\6/a:443\x21\5a:443"),
    fuzz_bytes("\2\0\0\0\0\1\1a\1\1b\x25\1c\0\4\1d\0\0\x21\1a\0\0\0\x25\1c"),
    fuzz_bytes("\2\3\2\x45\x60"
               "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
               "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"
               "\x67\x20" "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
               "\4\x0f\4name\5value\x2f\4name\5value"),
    fuzz_bytes("\2\0\0\x80\0\6\4abcd\x26\4abcd\0\x80\x40\6\4abcd\x26\4abcd"
               "\0\x80\xff\6\4abcd\x26\4abcd\0\x26\4abcd"),
    fuzz_bytes("\2\0\0\x46\x20" "abcdefghijklmnopqrstuvwxyz123456"
               "\x47\x20" "abcdefghijklmnopqrstuvwxyz123456"
               "\x68\x20" "abcdefghijklmnopqrstuvwxyz123456\0"
               "\x46\x20" "abcdefghijklmnopqrstuvwxyz123456"
               "\x48\x20" "abcdefghijklmnopqrstuvwxyz123456"
               "\x69\x20" "abcdefghijklmnopqrstuvwxyz123456"),
    fuzz_bytes("\x22\0\0\0\0\1\7a.b:443\6\3c/1\x2a\2u:"),
    fuzz_bytes("\x32\1\0\0\0\1\7a.b:443\6\3c/1\x2a\2u:")
};


static const fuzz_bytes_t  fuzz_words[] = {
    fuzz_bytes("\0\0\1\1\4\0\0\0\1\x82"),
    fuzz_bytes("\0\0\1\x09\4\0\0\0\1\x84"),
    fuzz_bytes("\0\0\0\x09\0\0\0\0\1"),
    fuzz_bytes(FUZZ_DATA), fuzz_bytes(FUZZ_WINDOW),
    fuzz_bytes("\x20"), fuzz_bytes("\x3f\xe1\x1f"), fuzz_bytes("\x3f\xe1\1"),
    fuzz_bytes("\x80"), fuzz_bytes("\x82"), fuzz_bytes("\xbe"),
    fuzz_bytes("\xbf"), fuzz_bytes("\xff\x80\1"), fuzz_bytes("\x7f\x80\1"),
    fuzz_bytes("\x40\1a\1b"), fuzz_bytes("\0\1a\1b"), fuzz_bytes("\x10\1a\1b"),
    fuzz_bytes("\x40\0\0"), fuzz_bytes("\0\0\0"), fuzz_bytes("\x0f\x2f\0"),
    fuzz_bytes("\x42\7CONNECT"), fuzz_bytes("\2\7CONNECT"),
    fuzz_bytes("\x41\5a:443"), fuzz_bytes("\1\5b:443"), fuzz_bytes("\x87"),
    fuzz_bytes("\4\1/"), fuzz_bytes("\0\0\x20\0"),
    fuzz_bytes("\x41\x83\x1c\x64"),
    fuzz_bytes("\xff\xff\xff\xff"), fuzz_bytes("\0\x7f\xff\xff\3")
};


const fuzz_target_t  fuzz_target = {
    1,
    fuzz_seeds, fuzz_nelts(fuzz_seeds),
    fuzz_words, fuzz_nelts(fuzz_words),
    fuzz_reached, fuzz_nelts(fuzz_reached)
};


#define fuzz_count(place, n)                                                  \
    if (fuzz_counts) {                                                        \
        fuzz_reached[place].count += (n);                                     \
    }


static ngx_uint_t  fuzz_counts;


/* ASan's, whose header for it gcc has not */

size_t __sanitizer_get_current_allocated_bytes(void);


/* fuzz.c has one that is not to be called */

void *
ngx_alloc(size_t size, ngx_log_t *log)
{
    void  *p;

    p = malloc(size);

    if (p) {
        memset(p, 0xa5, size);
    }

    return p;
}


#define FUZZ_NO_LIMIT  ((size_t) 1 << 40)


/* bytes that grow; they are kept from input to input */


typedef struct {
    u_char  *data;
    size_t   len;
    size_t   size;
} fuzz_buf_t;


static void
fuzz_put(fuzz_buf_t *b, const void *data, size_t len)
{
    if (len > b->size - b->len) {
        b->size = 2 * b->size + len + 4096;
        b->data = realloc(b->data, b->size);

        fuzz_assert(b->data);
    }

    if (len) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
}


static void
fuzz_put_byte(fuzz_buf_t *b, ngx_uint_t byte)
{
    u_char  ch;

    ch = (u_char) byte;
    fuzz_put(b, &ch, 1);
}


static void
fuzz_put_number(fuzz_buf_t *b, size_t n)
{
    uint32_t  u;

    u = (uint32_t) n;
    fuzz_put(b, &u, sizeof(u));
}


static ngx_uint_t
fuzz_same(const fuzz_buf_t *a, const fuzz_buf_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}


static void
fuzz_put_head(fuzz_buf_t *b, size_t len, ngx_uint_t type, ngx_uint_t flags,
    size_t sid)
{
    fuzz_put_byte(b, len >> 16);
    fuzz_put_byte(b, len >> 8);
    fuzz_put_byte(b, len);
    fuzz_put_byte(b, type);
    fuzz_put_byte(b, flags);
    fuzz_put_byte(b, sid >> 24);
    fuzz_put_byte(b, sid >> 16);
    fuzz_put_byte(b, sid >> 8);
    fuzz_put_byte(b, sid);
}


/* a frame's header, and what HEADERS have in front */

typedef struct {
    size_t       len;
    ngx_uint_t   type;
    ngx_uint_t   flags;
    size_t       sid;
    size_t       front;
} fuzz_head_t;


static void
fuzz_head(fuzz_head_t *head, const u_char *p)
{
    head->len = (p[0] << 16) + (p[1] << 8) + p[2];
    head->type = p[3];
    head->flags = p[4];
    head->sid = ((size_t) (p[5] & 0x7f) << 24) + (p[6] << 16) + (p[7] << 8)
                + p[8];
    head->front = ((head->flags & NGX_HTTP_HPACK_PADDED) ? 1 : 0)
                  + ((head->flags & NGX_HTTP_HPACK_PRIORITY) ? 5 : 0);
}


/*
 * Events: blocks with their fields, other frames, and last an error.  There
 * are those that the client's bytes stand for, and those that the parser sees.
 */

typedef enum {
    FUZZ_E_BLOCK = 'B',
    FUZZ_E_FIELD = 'F',
    FUZZ_E_OTHER = 'O',
    FUZZ_E_COMPRESSION = 'C',
    FUZZ_E_CALM = 'M',
    FUZZ_E_PROTOCOL = 'P',
    FUZZ_E_SIZE = 'S'
} fuzz_event_e;


static void
fuzz_event_field(fuzz_buf_t *e, const void *name, size_t nlen,
    const void *value, size_t vlen)
{
    fuzz_put_byte(e, FUZZ_E_FIELD);
    fuzz_put_number(e, nlen);
    fuzz_put(e, name, nlen);
    fuzz_put_number(e, vlen);
    fuzz_put(e, value, vlen);
}


static void
fuzz_event_block(fuzz_buf_t *e, size_t sid, ngx_uint_t flags,
    const u_char *priority)
{
    fuzz_put_byte(e, FUZZ_E_BLOCK);
    fuzz_put_number(e, sid);
    fuzz_put_byte(e, flags & (NGX_HTTP_HPACK_END_STREAM
                              |NGX_HTTP_HPACK_PRIORITY));

    if (flags & NGX_HTTP_HPACK_PRIORITY) {
        fuzz_put(e, priority, 5);
    }
}


/* the client's side */


typedef struct {
    const u_char  *name;
    size_t         nlen;
    const u_char  *value;
    size_t         vlen;
} fuzz_field_t;


static ngx_uint_t
fuzz_is(const u_char *data, size_t len, const char *text)
{
    return len == strlen(text) && memcmp(data, text, len) == 0;
}


/* reads what fuzz_event_field() wrote */

static size_t
fuzz_field(fuzz_field_t *f, const u_char *p)
{
    uint32_t  n, v;

    memcpy(&n, p + 1, sizeof(n));
    memcpy(&v, p + 1 + sizeof(n) + n, sizeof(v));

    f->name = p + 1 + sizeof(n);
    f->nlen = n;
    f->value = f->name + n + sizeof(v);
    f->vlen = v;

    return 1 + 2 * sizeof(n) + n + v;
}


/*
 * Fields as the parser is to have them; returns 'c' for a CONNECT, 'm' for one
 * that is malformed, RFC 9113 8.5
 */

static int
fuzz_convert(fuzz_buf_t *e, const fuzz_buf_t *fields, ngx_uint_t *several)
{
    size_t         at, n, pseudo, authorities;
    ngx_uint_t     connect, others, method;
    fuzz_buf_t     b;
    fuzz_field_t   f, authority;

    connect = 0;
    others = 0;
    method = 0;
    authorities = 0;

    for (at = 0; at < fields->len; at += n) {
        n = fuzz_field(&f, fields->data + at);

        if (f.nlen == 0 || f.name[0] != ':') {
            break;
        }

        if (fuzz_is(f.name, f.nlen, ":method")) {
            connect |= fuzz_is(f.value, f.vlen, "CONNECT");

        } else if (fuzz_is(f.name, f.nlen, ":authority")) {
            authority = f;
            authorities++;

        } else {
            others = 1;
        }
    }

    pseudo = at;

    for (at = 0; at < fields->len; at += n) {
        n = fuzz_field(&f, fields->data + at);

        method |= (fuzz_is(f.name, f.nlen, ":method")
                   && !fuzz_is(f.value, f.vlen, "CONNECT"));
    }

    *several += (connect && method);

    if (!connect) {
        fuzz_put(e, fields->data, fields->len);
        return ' ';
    }

    for (at = 0; at < pseudo; at += n) {
        n = fuzz_field(&f, fields->data + at);

        if (fuzz_is(f.name, f.nlen, ":method")
            && fuzz_is(f.value, f.vlen, "CONNECT"))
        {
            fuzz_event_field(e, f.name, f.nlen, "TUNNEL", 6);
            continue;
        }

        fuzz_event_field(e, f.name, f.nlen, f.value, f.vlen);
    }

    if (authorities == 1) {
        ngx_memzero(&b, sizeof(fuzz_buf_t));

        fuzz_put_byte(&b, '/');
        fuzz_put(&b, authority.value, authority.vlen);

        fuzz_event_field(e, ":scheme", 7, "https", 5);
        fuzz_event_field(e, ":path", 5, b.data, b.len);

        free(b.data);
    }

    fuzz_put(e, fields->data + pseudo, fields->len - pseudo);

    return (others || authorities != 1) ? 'm' : 'c';
}


/* what the reference has of a block so far; 0, or an error */

static int
fuzz_inflate(nghttp2_hd_inflater *inflater, const fuzz_buf_t *block,
    ngx_uint_t whole, size_t limit, fuzz_buf_t *fields)
{
    int         flags;
    size_t      at, entries, max;
    ssize_t     rv;
    nghttp2_nv  nv;

    fields->len = 0;
    entries = nghttp2_hd_inflate_get_num_table_entries(inflater);
    max = nghttp2_hd_inflate_get_max_dynamic_table_size(inflater);

    at = 0;

    do {
        rv = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, block->data + at,
                                    block->len - at, 0);
        if (rv < 0) {
            fuzz_count(FUZZ_COMPRESSION, 1);
            return FUZZ_E_COMPRESSION;
        }

        at += rv;

        if (flags & NGHTTP2_HD_INFLATE_EMIT) {

            if (nv.namelen + nv.valuelen > limit) {
                fuzz_count(FUZZ_LIMIT, 1);
                return FUZZ_E_CALM;
            }

            limit -= nv.namelen + nv.valuelen;

            fuzz_count(FUZZ_LONG, nv.valuelen > 127);

            fuzz_event_field(fields, nv.name, nv.namelen, nv.value,
                             nv.valuelen);
        }

    } while (at < block->len);

    if (whole && nghttp2_hd_inflate_hd2(inflater, &nv, &flags,
                                        block->data + at, 0, 1)
                 < 0)
    {
        fuzz_count(FUZZ_TRUNCATED, 1);
        return FUZZ_E_COMPRESSION;
    }

    if (whole) {
        nghttp2_hd_inflate_end_headers(inflater);

        at = nghttp2_hd_inflate_get_num_table_entries(inflater);

        if (at > entries) {
            fuzz_count(FUZZ_DYNAMIC, 1);

        } else if (at < entries) {
            fuzz_count(FUZZ_EVICTED, 1);
        }

        if (nghttp2_hd_inflate_get_max_dynamic_table_size(inflater) != max) {
            fuzz_count(FUZZ_SHRUNK, 1);
        }
    }

    return 0;
}


/*
 * kinds: as in fuzz_convert(), one a block; several: how many CONNECTs say
 * that they are something else, too.  Returns the error at the end, or 0.
 */

static int
fuzz_reference(nghttp2_hd_inflater *inflater, const fuzz_buf_t *in,
    size_t limit, fuzz_buf_t *e, fuzz_buf_t *kinds, ngx_uint_t *several)
{
    int            err, broken, kind;
    size_t         left, n, padding, budget;
    ngx_uint_t     within;
    fuzz_head_t    head, first;
    const u_char  *p, *priority;

    static fuzz_buf_t  block, fields;

    p = in->data;
    left = in->len;

    within = 0;
    budget = 0;
    priority = NULL;
    ngx_memzero(&first, sizeof(fuzz_head_t));

    for ( ;; ) {

        broken = 0;
        padding = 0;

        if (left < 9) {

            if (!within) {

                /* a header that is one of HEADERS, or of any other frame */

                if (left >= 4 && p[3] != NGX_HTTP_HPACK_HEADERS) {
                    fuzz_put_byte(e, FUZZ_E_OTHER);
                    fuzz_put(e, p, left);
                }

                fuzz_count(FUZZ_CUT, left != 0);
                return 0;
            }

            break;
        }

        fuzz_head(&head, p);

        if (!within) {

            if (head.type != NGX_HTTP_HPACK_HEADERS) {
                n = ngx_min(9 + head.len, left);

                fuzz_put_byte(e, FUZZ_E_OTHER);
                fuzz_put(e, p, n);
                fuzz_count(FUZZ_OTHER, 1);

                p += n;
                left -= n;

                continue;
            }

            if (head.len <= head.front) {
                fuzz_count(FUZZ_SHORT, 1);
                fuzz_put_byte(e, FUZZ_E_SIZE);
                return FUZZ_E_SIZE;
            }

            if (left < 9 + head.front) {
                fuzz_count(FUZZ_CUT, 1);
                return 0;
            }

            padding = (head.flags & NGX_HTTP_HPACK_PADDED) ? p[9] : 0;

            if (padding > head.len - head.front) {
                fuzz_count(FUZZ_PADDING, 1);
                fuzz_put_byte(e, FUZZ_E_PROTOCOL);
                return FUZZ_E_PROTOCOL;
            }

            fuzz_count(FUZZ_PADDED, padding != 0);
            fuzz_count(FUZZ_PRIORITY,
                       (head.flags & NGX_HTTP_HPACK_PRIORITY) != 0);

            first = head;
            priority = p + 9 + head.front - 5;
            budget = (limit == FUZZ_NO_LIMIT) ? limit : 2 * limit + 16384;
            within = 1;

            /* there are bytes, if only to point at */

            fuzz_put(&block, "", 1);
            block.len = 0;

        } else {

            head.front = 0;

            if (head.type != NGX_HTTP_HPACK_CONTINUATION
                || head.sid != first.sid)
            {
                fuzz_count(head.type == NGX_HTTP_HPACK_CONTINUATION
                             ? FUZZ_WRONG_STREAM : FUZZ_WRONG_TYPE, 1);
                broken = FUZZ_E_PROTOCOL;
                break;
            }

            fuzz_count(FUZZ_CONTINUED, 1);
        }

        if (9 + head.len > budget) {
            fuzz_count(FUZZ_BUDGET, 1);
            broken = FUZZ_E_CALM;
            break;
        }

        budget -= 9 + head.len;

        p += 9 + head.front;
        left -= 9 + head.front;
        head.len -= head.front;

        fuzz_put(&block, p, ngx_min(head.len - padding, left));

        if (head.len > left) {
            break;
        }

        p += head.len;
        left -= head.len;

        if (!(head.flags & NGX_HTTP_HPACK_END_HEADERS)) {
            continue;
        }

        err = fuzz_inflate(inflater, &block, 1, limit, &fields);

        if (err) {
            fuzz_put_byte(e, err);
            return err;
        }

        fuzz_event_block(e, first.sid, first.flags, priority);
        kind = fuzz_convert(e, &fields, several);
        fuzz_put_byte(kinds, kind);
        fuzz_put_number(kinds, first.sid);

        fuzz_count(FUZZ_BLOCK, 1);
        fuzz_count(FUZZ_EMPTY, fields.len == 0);
        fuzz_count(FUZZ_CONNECT, kind == 'c');
        fuzz_count(FUZZ_MALFORMED, kind == 'm');

        within = 0;
    }

    /* what there is of a block is looked at before what follows it */

    err = fuzz_inflate(inflater, &block, 0, limit, &fields);

    if (err == 0) {
        err = broken;
    }

    if (err) {
        fuzz_put_byte(e, err);
        return err;
    }

    fuzz_count(FUZZ_CUT, 1);

    return 0;
}


/* the parser's side */


/* a number of at most 4 octets; 0 if it is none */

static ngx_uint_t
fuzz_parse_int(const u_char **p, const u_char *last, ngx_uint_t bits,
    size_t *n)
{
    size_t      max;
    ngx_uint_t  shift;

    if (*p == last) {
        return 0;
    }

    max = ((size_t) 1 << bits) - 1;
    *n = *(*p)++ & max;

    if (*n < max) {
        return 1;
    }

    for (shift = 0; shift < 21; shift += 7) {

        if (*p == last) {
            return 0;
        }

        *n += (size_t) (**p & 0x7f) << shift;

        if (*(*p)++ < 128) {
            return 1;
        }
    }

    return 0;
}


/* a string that is not encoded, and not for want of bytes another one */

static int
fuzz_parse_string(const u_char **p, const u_char *last, const u_char **s,
    size_t *len)
{
    fuzz_assert(*p < last && **p < 128);
    fuzz_assert(fuzz_parse_int(p, last, 7, len));

    if (*len > 2000000) {
        fuzz_assert(*p == last);
        return FUZZ_E_CALM;
    }

    fuzz_assert(*len <= (size_t) (last - *p));

    *s = *p;
    *p += *len;

    return 0;
}


/*
 * Fields of a good frame; an error there may be is its last bytes, and what is
 * in front of it does not count.
 */

static int
fuzz_parse_fields(fuzz_buf_t *e, const u_char *p, const u_char *last,
    nghttp2_hd_inflater *table)
{
    int                err;
    u_char             ch;
    size_t             n, nlen, vlen;
    const u_char      *name, *value;
    const nghttp2_nv  *nv;

    while (p < last) {
        ch = *p;

        /* to be indexed or not, and no change of the size */

        fuzz_assert(ch < 0x10 || ch >= 0x40);
        fuzz_assert(fuzz_parse_int(&p, last, ch < 0x40 ? 4 : ch < 0x80 ? 6 : 7,
                                   &n));

        name = NULL;
        value = NULL;
        nlen = 0;
        vlen = 0;

        if (n) {

            /* RFC 7541 A */

            fuzz_assert(n <= 61);
            nv = nghttp2_hd_inflate_get_table_entry(table, n);
            fuzz_assert(nv);

            name = nv->name;
            nlen = nv->namelen;
            value = nv->value;
            vlen = nv->valuelen;

        } else if (ch >= 0x80) {
            fuzz_assert(p == last);
            return FUZZ_E_COMPRESSION;

        } else {
            err = fuzz_parse_string(&p, last, &name, &nlen);
            if (err) {
                return err;
            }
        }

        if (ch < 0x80) {
            err = fuzz_parse_string(&p, last, &value, &vlen);
            if (err) {
                return err;
            }
        }

        fuzz_event_field(e, name, nlen, value, vlen);
    }

    return 0;
}


/* all bytes that the parser was given; returns whether all blocks are over */

static ngx_uint_t
fuzz_parse(fuzz_buf_t *e, const fuzz_buf_t *out, size_t sure,
    ngx_uint_t broken, nghttp2_hd_inflater *table)
{
    int            err;
    size_t         left, n, at;
    ngx_uint_t     begun;
    fuzz_head_t    head, first;
    const u_char  *p, *priority;

    p = out->data;
    left = out->len;
    begun = 0;
    priority = NULL;
    ngx_memzero(&first, sizeof(fuzz_head_t));

    while (left) {

        if (left < 9) {

            /* not of ours */

            if (!begun && left >= 4 && p[3] != NGX_HTTP_HPACK_HEADERS) {
                fuzz_put_byte(e, FUZZ_E_OTHER);
                fuzz_put(e, p, left);
            }

            fuzz_assert(broken || !begun);
            return 1;
        }

        fuzz_head(&head, p);

        if (!begun && head.type != NGX_HTTP_HPACK_HEADERS) {
            n = ngx_min(9 + head.len, left);

            fuzz_put_byte(e, FUZZ_E_OTHER);
            fuzz_put(e, p, n);

            p += n;
            left -= n;

            continue;
        }

        if (begun && (head.type != NGX_HTTP_HPACK_CONTINUATION
                      || head.sid != first.sid))
        {
            /* this is as it came, and the last thing that is read */

            fuzz_assert(broken && out->len - left + 9 == sure);
            fuzz_put_byte(e, FUZZ_E_PROTOCOL);

            return 1;
        }

        if (!begun) {
            first = head;

            if (head.len <= head.front) {
                fuzz_assert(broken && sure <= out->len - left + 15);
                fuzz_put_byte(e, FUZZ_E_SIZE);
                return 1;
            }

            if (head.flags & NGX_HTTP_HPACK_PADDED) {

                /* there is none in what is ours */

                fuzz_assert(broken && left >= 10
                            && p[9] > head.len - head.front);
                fuzz_put_byte(e, FUZZ_E_PROTOCOL);
                return 1;
            }

        } else {
            head.front = 0;
        }

        fuzz_assert(left >= 9 + head.len);

        if (!begun) {
            priority = p + 9 + head.front - 5;
        }

        p += 9 + head.front;
        left -= 9 + head.front;
        n = head.len - head.front;

        if (!begun && !(head.flags & NGX_HTTP_HPACK_END_HEADERS)) {
            fuzz_assert(n == 1 && *p == 0x20);

            p++;
            left--;
            begun = 1;

            continue;
        }

        fuzz_assert(head.flags & NGX_HTTP_HPACK_END_HEADERS);

        /* a size that changes nothing, if only for want of fields */

        if (n && *p == 0x20) {
            p++;
            left--;
            n--;
        }

        at = e->len;

        fuzz_event_block(e, first.sid, first.flags, priority);

        err = fuzz_parse_fields(e, p, p + n, table);

        if (err) {
            fuzz_assert(broken && sure == out->len - left + n);

            e->len = at;
            fuzz_put_byte(e, err);

            return 1;
        }

        p += n;
        left -= n;
        begun = 0;
    }

    return !begun;
}


/* runs */


typedef struct {
    fuzz_buf_t    out;
    fuzz_buf_t    kinds;
    size_t        sure;          /* of out, until it is broken */
    ngx_uint_t    broken;
    ngx_uint_t    refused;       /* too many frames of a block that passes */
    ngx_uint_t    begun;
    ngx_uint_t    passed;
    ngx_uint_t    keep;
} fuzz_run_t;


static void
fuzz_deliver(ngx_http_hpack_t *h, fuzz_run_t *r)
{
    size_t  n;

    n = h->last - h->pos;

    /* three bytes for each of a fragment, and all fields twice */

    fuzz_assert(n <= 64 + 3 * (2 * h->limit + 16384) + 3 * h->limit);

    fuzz_put(&r->out, h->pos, n);
    h->pos = h->last;

    if (!r->keep) {
        ngx_http_hpack_done(h);
    }
}


/*
 * early: a block is begun where the bits of chance say so, 0: never; keep: its
 * memory is that of the next one
 */

static void
fuzz_run(ngx_http_hpack_t *h, fuzz_run_t *r, const fuzz_buf_t *in,
    size_t segment, ngx_uint_t early, ngx_uint_t keep)
{
    u_char       *data, *p, *last, *was;
    size_t        at, n, skip, from;
    ngx_int_t     rc;
    ngx_uint_t    within, started;
    fuzz_head_t   head;

    r->out.len = 0;
    r->kinds.len = 0;
    r->sure = 0;
    r->broken = 0;
    r->refused = 0;
    r->begun = 0;
    r->passed = 0;
    r->keep = keep;

    within = 0;
    started = 0;
    skip = 0;
    from = 0;

    for (at = 0; at < in->len; at += n) {
        n = ngx_min(segment, in->len - at);

        data = fuzz_copy(in->data + at, n);
        p = data;
        last = data + n;

        while (p < last) {

            if (r->broken) {
                fuzz_put(&r->out, p, last - p);
                break;
            }

            from = at + (p - data);

            if (!within && skip == 0 && in->len - from >= 4
                && in->data[from + 3] != NGX_HTTP_HPACK_HEADERS)
            {
                skip = in->len - from;

                if (skip >= 9) {
                    fuzz_head(&head, in->data + from);
                    skip = 9 + head.len;
                }
            }

            if (skip) {
                from = ngx_min(skip, (size_t) (last - p));
                fuzz_put(&r->out, p, from);

                p += from;
                skip -= from;
                r->sure = r->out.len;

                continue;
            }

            within = 1;
            was = p;

            rc = ngx_http_hpack_read(h, &p, last);

            fuzz_assert(p >= was && p <= last);
            fuzz_assert(h->start == NULL
                        || (size_t) (h->end - h->start)
                           <= 1100 + 2 * (3 * (2 * h->limit + 16384)
                                          + 3 * h->limit + 64));

            if (rc == NGX_ERROR) {
                fuzz_assert(h->pass && !started && h->reading);

                r->refused = 1;

                free(data);
                return;
            }

            if (rc == NGX_DECLINED) {
                fuzz_assert(h->pass && !started);
                fuzz_assert(p > was || h->broken);
                fuzz_assert(p == last || !h->reading);
                fuzz_assert(h->pos == h->last);

                fuzz_put(&r->out, was, p - was);

                r->sure = r->out.len;
                r->broken = h->broken;
                r->passed++;

                within = h->reading;

                if (!within && !keep) {
                    ngx_http_hpack_done(h);
                    fuzz_assert(h->start == NULL);
                }

                continue;
            }

            fuzz_assert(!h->pass || h->broken);

            if (rc == NGX_AGAIN) {
                fuzz_assert(p == last && h->reading && !h->broken);
                break;
            }

            fuzz_assert(rc == NGX_OK && !h->reading);

            if (h->broken) {
                fuzz_assert(!h->connect);
                r->broken = 1;

            } else {
                fuzz_put_byte(&r->kinds, h->connect ? (h->what ? 'm' : 'c')
                                                    : ' ');
                fuzz_put_number(&r->kinds, h->sid);

                /* one frame, which is the block or its end */

                fuzz_assert(h->last - h->pos >= 9);
                fuzz_head(&head, h->pos);
                fuzz_assert(9 + head.len == (size_t) (h->last - h->pos));
                fuzz_assert(head.type == (started
                                          ? NGX_HTTP_HPACK_CONTINUATION
                                          : NGX_HTTP_HPACK_HEADERS));
                fuzz_assert(head.sid == h->sid);
            }

            fuzz_deliver(h, r);
            fuzz_assert(keep || h->start == NULL);

            r->sure = r->out.len;
            within = 0;
            started = 0;
        }

        free(data);

        if (early && !r->broken && (early >> (at + n) % 8 & 1)) {

            rc = ngx_http_hpack_start(h);

            if (rc == NGX_OK) {
                fuzz_assert(within && !started && !h->pass);
                fuzz_deliver(h, r);

                started = 1;
                r->begun++;

                rc = ngx_http_hpack_start(h);
            }

            fuzz_assert(rc == NGX_DECLINED);
        }
    }

    fuzz_assert(h->broken == r->broken);
}


static void
fuzz_tables(nghttp2_hd_inflater *a, nghttp2_hd_inflater *b)
{
    size_t             i, n;
    const nghttp2_nv  *x, *y;

    n = nghttp2_hd_inflate_get_num_table_entries(a);

    fuzz_assert(nghttp2_hd_inflate_get_num_table_entries(b) == n);
    fuzz_assert(nghttp2_hd_inflate_get_dynamic_table_size(a)
                == nghttp2_hd_inflate_get_dynamic_table_size(b));
    fuzz_assert(nghttp2_hd_inflate_get_dynamic_table_size(a) <= 4096);
    fuzz_assert(nghttp2_hd_inflate_get_max_dynamic_table_size(a)
                == nghttp2_hd_inflate_get_max_dynamic_table_size(b));

    for (i = 62; i <= n; i++) {
        x = nghttp2_hd_inflate_get_table_entry(a, i);
        y = nghttp2_hd_inflate_get_table_entry(b, i);

        fuzz_assert(x && y && x->namelen == y->namelen
                    && x->valuelen == y->valuelen
                    && memcmp(x->name, y->name, x->namelen) == 0
                    && memcmp(x->value, y->value, x->valuelen) == 0);
    }
}


static void
fuzz_init(ngx_http_hpack_t *h, size_t limit)
{
    static ngx_log_t  log;

    ngx_memzero(h, sizeof(ngx_http_hpack_t));

    h->log = &log;
    h->limit = limit;

    fuzz_assert(ngx_http_hpack_init(h) == NGX_OK);
}


/*
 * Blocks may pass.  What the parser is given is read as the client's bytes
 * are; a CONNECT in it is one that is in error, for it has two methods.  Its
 * limits are the parser's concern as long as it passes.
 */

static void
fuzz_pass(const fuzz_buf_t *in, size_t limit, size_t segment,
    ngx_uint_t early, const fuzz_buf_t *want, ngx_uint_t connects, int err)
{
    size_t                i;
    ngx_uint_t            several, n;
    ngx_http_hpack_t      h;
    nghttp2_hd_inflater  *table;

    static fuzz_buf_t  seen, kinds;
    static fuzz_run_t  r;

    fuzz_init(&h, limit);
    h.pass = 1;

    fuzz_run(&h, &r, in, segment, early, early & 1);

    if (r.refused) {
        fuzz_assert(err == FUZZ_E_CALM);
        fuzz_assert(r.out.len == 0
                    || (r.out.len <= in->len
                        && memcmp(r.out.data, in->data, r.out.len) == 0));

        ngx_http_hpack_free(&h);
        return;
    }

    if (h.pass && !r.broken) {
        fuzz_assert(fuzz_same(&r.out, in));
    }

    fuzz_reached[FUZZ_PASSED].count += (h.pass && !r.broken && r.passed);
    fuzz_reached[FUZZ_PASSED_FIRST].count += (!h.pass && r.passed);
    fuzz_reached[FUZZ_PASSED_BROKEN].count += (r.broken && r.passed);

    seen.len = 0;
    kinds.len = 0;
    several = 0;
    fuzz_counts = 0;

    fuzz_assert(nghttp2_hd_inflate_new(&table) == 0);
    (void) fuzz_reference(table, &r.out, FUZZ_NO_LIMIT, &seen, &kinds,
                          &several);
    nghttp2_hd_inflate_del(table);

    fuzz_counts = 1;

    if (err == FUZZ_E_CALM) {
        fuzz_assert(seen.len >= want->len - 1
                    && (want->len == 1
                        || memcmp(seen.data, want->data, want->len - 1) == 0));

    } else {
        fuzz_assert(fuzz_same(&seen, want));

        for (n = 0, i = 0; i < kinds.len; i += 5) {
            n += (kinds.data[i] != ' ');
        }

        fuzz_assert(n == several);

        for (i = 0; i < r.kinds.len; i += 5) {
            n += (r.kinds.data[i] != ' ');
        }

        /* an index may pass that is none, and what follows is looked at */

        fuzz_assert(err ? n >= connects : n == connects);
    }

    ngx_http_hpack_free(&h);
}


static void
fuzz_stream(const fuzz_buf_t *in, size_t limit, size_t segment,
    ngx_uint_t early)
{
    int                   err;
    size_t                before, i;
    ngx_uint_t            over, several, connects;
    ngx_http_hpack_t      h;
    nghttp2_hd_inflater  *other;

    static fuzz_buf_t  want, kinds, seen;
    static fuzz_run_t  whole, cut;

    want.len = 0;
    kinds.len = 0;
    several = 0;
    fuzz_counts = 1;

    fuzz_assert(nghttp2_hd_inflate_new(&other) == 0);
    err = fuzz_reference(other, in, limit, &want, &kinds, &several);

    /* whole */

    fuzz_init(&h, limit);
    fuzz_run(&h, &whole, in, in->len, 0, 0);

    if (!whole.broken) {
        fuzz_tables(h.inflater, other);
    }

    seen.len = 0;
    fuzz_parse(&seen, &whole.out, whole.sure, whole.broken, other);

    fuzz_assert(fuzz_same(&seen, &want));
    fuzz_assert(fuzz_same(&kinds, &whole.kinds));

    fuzz_reached[FUZZ_HUFFMAN].count += (whole.out.len > in->len);

    ngx_http_hpack_free(&h);
    fuzz_assert(h.start == NULL && h.inflater == NULL);

    /* in segments */

    fuzz_init(&h, limit);
    fuzz_run(&h, &cut, in, segment, 0, 1);

    fuzz_assert(cut.broken == whole.broken && cut.sure == whole.sure);
    fuzz_assert(cut.sure == 0
                || memcmp(cut.out.data, whole.out.data, cut.sure) == 0);
    fuzz_assert(fuzz_same(&kinds, &cut.kinds));

    if (!cut.broken) {
        fuzz_tables(h.inflater, other);
    }

    ngx_http_hpack_free(&h);

    /* and begun early; by now nothing of the test needs more memory */

    before = __sanitizer_get_current_allocated_bytes() - cut.out.size
             - cut.kinds.size;

    fuzz_init(&h, limit);
    fuzz_run(&h, &cut, in, segment, early | 1, 0);

    fuzz_assert(cut.broken == whole.broken);
    fuzz_assert(fuzz_same(&kinds, &cut.kinds));

    ngx_http_hpack_free(&h);

    fuzz_assert(__sanitizer_get_current_allocated_bytes() - cut.out.size
                - cut.kinds.size == before);

    seen.len = 0;
    over = fuzz_parse(&seen, &cut.out, cut.sure, cut.broken, other);

    fuzz_assert(fuzz_same(&seen, &want));
    fuzz_assert(over || (!cut.broken && cut.begun));

    fuzz_reached[FUZZ_BEGUN].count += (cut.begun != 0);
    fuzz_reached[FUZZ_BEGUN_BROKEN].count += (cut.begun && cut.broken);

    nghttp2_hd_inflate_del(other);

    for (connects = 0, i = 0; i < kinds.len; i += 5) {
        connects += (kinds.data[i] != ' ');
    }

    fuzz_pass(in, limit, in->len, early & ~1, &want, connects, err);
    fuzz_pass(in, limit, segment, early | 1, &want, connects, err);
}


/* what an input stands for */


/*
 * Frames whose lengths are right: flags, a length and bytes.  A block begins
 * with HEADERS and goes on with CONTINUATIONs until END_HEADERS; 2: the bytes
 * 16 times, 0x10: 64 times, 0x40: on another stream, 0x80: a DATA frame.
 */

static void
fuzz_frames(fuzz_buf_t *in, const u_char *data, size_t len)
{
    size_t      n, i, times, size, padding, sid;
    ngx_uint_t  flags, within;

    within = 0;
    sid = 1;

    while (len >= 2 && in->len < 50000) {
        flags = data[0];
        n = ngx_min(data[1], len - 2);

        data += 2;
        len -= 2;

        times = (flags & 2) ? 16 : (flags & 0x10) ? 64 : 1;
        size = n * times;
        padding = 0;

        if (!within) {

            if (flags & NGX_HTTP_HPACK_PADDED) {
                padding = (n ? data[0] : n) % 32;
                size += 1 + padding;
            }

            if (flags & NGX_HTTP_HPACK_PRIORITY) {
                size += 5;
            }
        }

        fuzz_put_head(in, size, (flags & 0x80) ? NGX_HTTP_HPACK_DATA
                                : within ? NGX_HTTP_HPACK_CONTINUATION
                                         : NGX_HTTP_HPACK_HEADERS,
                      flags, sid + ((flags & 0x40) ? 2 : 0));

        if (!within && (flags & NGX_HTTP_HPACK_PADDED)) {
            fuzz_put_byte(in, padding);
        }

        if (!within && (flags & NGX_HTTP_HPACK_PRIORITY)) {
            fuzz_put(in, "\x80\0\0\3\x0f", 5);
        }

        for (i = 0; i < times; i++) {
            fuzz_put(in, data, n);
        }

        for (i = 0; i < padding; i++) {
            fuzz_put_byte(in, 0x80);
        }

        data += n;
        len -= n;

        if (flags & 0x80) {
            continue;
        }

        if (flags & NGX_HTTP_HPACK_END_HEADERS) {
            within = 0;
            sid += 2;

        } else {
            within = 1;
        }
    }
}


/*
 * Blocks of fields as a library compresses them.  A block begins with a byte:
 * flags of HEADERS, 6: how many CONTINUATIONs, 0x40: a frame before it, 0x80:
 * one more byte is another size of the table.  A field is a byte, and a value
 * with its length: 15: the name, or 15 for one that comes in front of the
 * value; 0x10: not to be indexed, 0x20: the last one, 0x40: its value 16
 * times.
 */

static void
fuzz_fields(fuzz_buf_t *in, const u_char *data, size_t len)
{
    u_char                op, shape;
    size_t                n, i, at, to, bound, sid, used, cuts;
    ssize_t               rv;
    nghttp2_nv            nv[32];
    ngx_uint_t            flags;
    nghttp2_hd_deflater  *deflater;

    static u_char       pool[40000], packed[80000];
    static const char  *names[] = {
        ":method", ":authority", ":scheme", ":path", "accept", "cookie",
        "user-agent", "x-a", "x-b", "x-c", "proxy-authorization", ":protocol",
        "host", "content-length", ""
    };

    fuzz_assert(nghttp2_hd_deflate_new(&deflater, 4096) == 0);

    for (sid = 1; len >= 2 && in->len < 50000; sid += 2) {
        shape = data[0];
        data++;
        len--;

        if (shape & 0x80) {
            rv = nghttp2_hd_deflate_change_table_size(deflater,
                                                      data[0] * 4096 / 255);
            fuzz_assert(rv == 0);

            data++;
            len--;
        }

        op = 0;
        used = 0;

        for (i = 0; i < 32 && len >= 2 && !(op & 0x20); i++) {
            op = data[0];

            nv[i].flags = (op & 0x10) ? NGHTTP2_NV_FLAG_NO_INDEX : 0;

            data++;
            len--;

            if ((op & 15) == 15) {
                n = ngx_min(data[0], len - 1);
                n = ngx_min(n, 1000);

                nv[i].name = memcpy(pool + used, data + 1, n);
                nv[i].namelen = n;

                used += n;
                data += 1 + n;
                len -= 1 + n;

            } else {
                nv[i].name = (u_char *) names[op & 15];
                nv[i].namelen = strlen(names[op & 15]);
            }

            n = len ? ngx_min(data[0], len - 1) : 0;

            nv[i].value = pool + used;
            nv[i].valuelen = n;

            if (n == 0 && (op & 15) == 0) {
                nv[i].value = (u_char *) "CONNECT";
                nv[i].valuelen = 7;
            }

            for (to = (op & 0x40) ? 16 : 1; to && n; to--) {

                if (used + n > sizeof(pool) - 1300) {
                    break;
                }

                memcpy(pool + used, data + 1, n);
                used += n;
                nv[i].valuelen = pool + used - nv[i].value;
            }

            if (to && n && nv[i].valuelen == n && nv[i].value == pool + used) {
                nv[i].valuelen = 0;
            }

            if (len) {
                data += 1 + n;
                len -= 1 + n;
            }
        }

        bound = nghttp2_hd_deflate_bound(deflater, nv, i);
        fuzz_assert(bound <= sizeof(packed));

        rv = nghttp2_hd_deflate_hd(deflater, packed, bound, nv, i);
        fuzz_assert(rv >= 0);

        if (shape & 0x40) {
            fuzz_put(in, "\0\0\4\x08\0\0\0\0\0\0\0\0\1", 13);
        }

        cuts = (shape >> 1) & 3;

        for (at = 0, i = 0; i <= cuts; i++, at = to) {
            to = (i == cuts) ? (size_t) rv : rv * (i + 1) / (cuts + 1);

            flags = (i == cuts) ? NGX_HTTP_HPACK_END_HEADERS : 0;

            if (i) {
                fuzz_put_head(in, to - at, NGX_HTTP_HPACK_CONTINUATION, flags,
                              sid);
                fuzz_put(in, packed + at, to - at);
                continue;
            }

            flags |= shape & (NGX_HTTP_HPACK_END_STREAM
                              |NGX_HTTP_HPACK_PADDED
                              |NGX_HTTP_HPACK_PRIORITY);

            fuzz_put_head(in, to - at + ((shape & 8) ? 4 : 0)
                              + ((shape & 0x20) ? 5 : 0),
                          NGX_HTTP_HPACK_HEADERS, flags, sid);

            if (shape & 8) {
                fuzz_put_byte(in, 3);
            }

            if (shape & 0x20) {
                fuzz_put(in, "\0\0\0\0\xff", 5);
            }

            fuzz_put(in, packed + at, to - at);

            if (shape & 8) {
                fuzz_put(in, "\x80\x80\x80", 3);
            }
        }
    }

    nghttp2_hd_deflate_del(deflater);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t       segment, limit;
    ngx_uint_t   early;
    fuzz_kind_e  kind;

    static fuzz_buf_t    in;
    static const size_t  limits[] = {
        32768, 32768, 0, 20, 100, 1000, 5000, 200000
    };

    if (size < 4 || size > 8192) {
        return 0;
    }

    segment = data[0] ? data[0] : 256;
    kind = (data[1] & 15) % FUZZ_KINDS;
    limit = limits[data[1] >> 4 & 7];
    early = data[2];

    data += 3;
    size -= 3;

    in.len = 0;

    switch (kind) {
    case FUZZ_RAW:     fuzz_put(&in, data, size); break;
    case FUZZ_FRAMES:  fuzz_frames(&in, data, size); break;
    default:           fuzz_fields(&in, data, size); break;
    }

    if (in.len) {
        fuzz_stream(&in, limit, segment, early);
    }

    return 0;
}
