
/*
 * Fuzz target: what a client begins with.  The first byte of the input is the
 * size of records and segments, 0 means 256; the second one is what the rest
 * is: see fuzz_kind_e.
 *
 * What is said of all the bytes, and of parts of them, is compared with a
 * second opinion; and what was said of a part has to stay so when more comes.
 */


#include "fuzz.h"
#include "ngx_tunnel_sniff.h"

#include <sanitizer/asan_interface.h>


typedef enum {
    FUZZ_RAW = 0,
    FUZZ_MESSAGE,                /* a ClientHello without its header */
    FUZZ_EXTENSIONS,             /* of one that is right otherwise */
    FUZZ_ITEMS,                  /* a type and a length as bytes, bytes */
    FUZZ_HOST,                   /* in all places for one */
    FUZZ_KINDS
} fuzz_kind_e;


enum {
    /* protocols have their own numbers */
    FUZZ_PARTIAL = NGX_TUNNEL_POSTGRESQL + 1,
    FUZZ_UNDECIDED,
    FUZZ_TLS_NAME,
    FUZZ_TLS_ADDRESS,
    FUZZ_TLS_INVALID,
    FUZZ_TLS_NONE,
    FUZZ_HTTP_NAME,
    FUZZ_HTTP_ADDRESS,
    FUZZ_HTTP_INVALID,
    FUZZ_HTTP_NONE,
    FUZZ_RECORDS,
    FUZZ_BAD_RECORD,
    FUZZ_BAD_HELLO,
    FUZZ_BAD_EXTENSION,
    FUZZ_TWICE,
    FUZZ_MANY,
    FUZZ_NAMES,
    FUZZ_ALPN,
    FUZZ_ALPN_ENCODED,
    FUZZ_ALPN_LEFT_OUT,
    FUZZ_VERSIONS,
    FUZZ_NO_VERSION,
    FUZZ_ECH,
    FUZZ_LARGE,
    FUZZ_BAD_LINE,
    FUZZ_BAD_FIELD,
    FUZZ_HOSTS,
    FUZZ_URI,
    FUZZ_URI_ALONE,
    FUZZ_URI_SAME,
    FUZZ_URI_OTHER,
    FUZZ_CONNECT
};


static fuzz_reached_t  fuzz_reached[] = {
    [NGX_TUNNEL_UNKNOWN] = { "unknown", 0 },
    [NGX_TUNNEL_TIMEOUT] = { "nothing", 0 },
    [NGX_TUNNEL_TLS] = { "TLS", 0 },
    [NGX_TUNNEL_SSLV2] = { "SSLv2", 0 },
    [NGX_TUNNEL_HTTP] = { "HTTP", 0 },
    [NGX_TUNNEL_HTTP2] = { "HTTP/2", 0 },
    [NGX_TUNNEL_SSH] = { "SSH", 0 },
    [NGX_TUNNEL_SOCKS4] = { "SOCKS4", 0 },
    [NGX_TUNNEL_SOCKS5] = { "SOCKS5", 0 },
    [NGX_TUNNEL_PROXY_PROTOCOL] = { "PROXY protocol", 0 },
    [NGX_TUNNEL_RDP] = { "RDP", 0 },
    [NGX_TUNNEL_POSTGRESQL] = { "PostgreSQL", 0 },
    [FUZZ_PARTIAL] = { "a part of a head of HTTP", 0 },
    [FUZZ_UNDECIDED] = { "cut", 0 },
    [FUZZ_TLS_NAME] = { "TLS, name", 0 },
    [FUZZ_TLS_ADDRESS] = { "TLS, address", 0 },
    [FUZZ_TLS_INVALID] = { "TLS, invalid name", 0 },
    [FUZZ_TLS_NONE] = { "TLS, no name", 0 },
    [FUZZ_HTTP_NAME] = { "HTTP, name", 0 },
    [FUZZ_HTTP_ADDRESS] = { "HTTP, address", 0 },
    [FUZZ_HTTP_INVALID] = { "HTTP, invalid host", 0 },
    [FUZZ_HTTP_NONE] = { "HTTP, no host", 0 },
    [FUZZ_RECORDS] = { "ClientHello of several records", 0 },
    [FUZZ_BAD_RECORD] = { "malformed record", 0 },
    [FUZZ_BAD_HELLO] = { "malformed ClientHello", 0 },
    [FUZZ_BAD_EXTENSION] = { "malformed extension", 0 },
    [FUZZ_TWICE] = { "an extension twice", 0 },
    [FUZZ_MANY] = { "too many extensions", 0 },
    [FUZZ_NAMES] = { "several names, or of another type", 0 },
    [FUZZ_ALPN] = { "ALPN", 0 },
    [FUZZ_ALPN_ENCODED] = { "ALPN, encoded", 0 },
    [FUZZ_ALPN_LEFT_OUT] = { "ALPN, left out", 0 },
    [FUZZ_VERSIONS] = { "supported_versions", 0 },
    [FUZZ_NO_VERSION] = { "no known version", 0 },
    [FUZZ_ECH] = { "ECH", 0 },
    [FUZZ_LARGE] = { "ClientHello larger than a segment", 0 },
    [FUZZ_BAD_LINE] = { "malformed request line", 0 },
    [FUZZ_BAD_FIELD] = { "malformed field", 0 },
    [FUZZ_HOSTS] = { "two of Host", 0 },
    [FUZZ_URI] = { "absolute form", 0 },
    [FUZZ_URI_ALONE] = { "absolute form, no Host", 0 },
    [FUZZ_URI_SAME] = { "absolute form, the same Host", 0 },
    [FUZZ_URI_OTHER] = { "absolute form, another Host", 0 },
    [FUZZ_CONNECT] = { "authority form", 0 }
};


/* records and heads; what follows a ClientHello's header; and so on */

#define FUZZ_RANDOM   "0123456789abcdef0123456789ABCDEF"
#define FUZZ_SUITES   "\0\4\x13\1\x13\2\1\0"
#define FUZZ_BODY     "\3\3" FUZZ_RANDOM "\0" FUZZ_SUITES

#define FUZZ_NAME     "\0\0\0\x10\0\x0e\0\0\x0b" "example.org"
#define FUZZ_PROTOCOL "\0\x10\0\x0e\0\x0c\2h2\x08http/1.1"
#define FUZZ_VERSION  "\0\x2b\0\7\6\x1a\x1a\3\4\3\3"
#define FUZZ_SHARE    "\0\x33\0\x26\0\x24\0\x1d\0\x20" FUZZ_RANDOM
#define FUZZ_GREASE   "\x0a\x0a\0\0"
#define FUZZ_HELLO    "\xfe\x0d\0\5\0\0\1\0\1"

/* 52 bytes of a name */

#define FUZZ_LABELS  "abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxy"

#define FUZZ_V2  "\x80\x1c\1\3\1\0\3\0\0\0\x10\0\0\x2f" "0123456789abcdef"

static const fuzz_bytes_t  fuzz_seeds[] = {
    fuzz_bytes("\0\x16\3\1\0\x47\1\0\0\x43" FUZZ_BODY "\0\x14" FUZZ_NAME),
    fuzz_bytes("\0\x16\3\1\0\x2f\1\0\0\x2b" FUZZ_BODY),
    fuzz_bytes("\0\x16\3\1\0\x04\1\0\0\x2b\x16\3\3\0\x2b" FUZZ_BODY),
    fuzz_bytes("\0\x16\3\1\0\2\1\0\x16\3\1\0\x2d\0\x2b" FUZZ_BODY
               "\x17\3\3\0\1x"),
    fuzz_bytes("\0" FUZZ_V2),
    fuzz_bytes("\0GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
    fuzz_bytes("\0GET / HTTP/1.0\n\n"),
    fuzz_bytes("\0POST /?a HTTP/1.1\r\nUser-Agent: \xff a/1 (b)\r\n"
               "Host:\texample.org:8080\t\r\nAccept: */*\r\n\r\nbody"),
    fuzz_bytes("\0GET http://example.org:80/a?b#c HTTP/1.1\r\n\r\n"),
    fuzz_bytes("\0GET http://example.org/ HTTP/1.1\r\nA: b\r\n"
               "Host: Example.Org.:8080\r\n\r\n"),
    fuzz_bytes("\0GET http://example.org/ HTTP/1.1\r\nHost: example.com\r\n"
               "\r\n"),
    fuzz_bytes("\0GET http://a/ HTTP/1.1\nHost:a\nHost:a\n\n"),
    fuzz_bytes("\0GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n"),
    fuzz_bytes("\0GET http://[2001:db8::1]/ HTTP/1.1\r\n"
               "Host: [2001:DB8:0:0::0.0.0.1]:80\r\n\r\n"),
    fuzz_bytes("\0CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    fuzz_bytes("\0CONNECT [::1]:443 HTTP/1.1\r\n\r\n"),
    fuzz_bytes("\0OPTIONS * HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"),
    fuzz_bytes("\0PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    fuzz_bytes("\0SSH-2.0-OpenSSH_9.2\r\n"),
    fuzz_bytes("\0\5\1\0\5\1\0\1\x7f\0\0\1\1\xbb"),
    fuzz_bytes("\0\4\1\1\xbb\x7f\0\0\1user\0"),
    fuzz_bytes("\0PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    fuzz_bytes("\0PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
    fuzz_bytes("\0PROXY UNKNOWN\r\n"),
    fuzz_bytes("\0\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\1\2\3\4\5\6\7\x08"
               "\0\1\0\2"),
    fuzz_bytes("\0\3\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\x0b\0\0\0"),
    fuzz_bytes("\0\0\0\0\x16\0\3\0\0user\0postgres\0\0"),
    fuzz_bytes("\0\0\0\0\x08\4\xd2\x16\x2f"),
    fuzz_bytes("\0\0\0\0\x10\4\xd2\x16\x2e\0\0\1\0\x12\x34\x56\x78"),
    fuzz_bytes("\0"),

    fuzz_bytes("\1" FUZZ_BODY),
    fuzz_bytes("\1" FUZZ_BODY "\0\0"),
    fuzz_bytes("\1" FUZZ_BODY "\0\x14" FUZZ_NAME),
    fuzz_bytes("\1\3\1" FUZZ_RANDOM "\x20" FUZZ_RANDOM FUZZ_SUITES
               "\0\x14" FUZZ_NAME),
    fuzz_bytes("\1" FUZZ_BODY "\0\x31" FUZZ_NAME FUZZ_PROTOCOL FUZZ_VERSION),
    fuzz_bytes("\1" FUZZ_BODY "\0\x68" FUZZ_VERSION FUZZ_GREASE FUZZ_SHARE
               FUZZ_HELLO FUZZ_PROTOCOL FUZZ_NAME),

    fuzz_bytes("\2" FUZZ_NAME),
    fuzz_bytes("\2" FUZZ_NAME FUZZ_PROTOCOL FUZZ_VERSION FUZZ_GREASE),
    fuzz_bytes("\2" FUZZ_GREASE FUZZ_VERSION FUZZ_HELLO FUZZ_SHARE FUZZ_NAME),
    fuzz_bytes("\2" FUZZ_PROTOCOL FUZZ_HELLO FUZZ_NAME "\xfa\xfa\0\1\0"),
    fuzz_bytes("\2\0\0\0\x0f\0\x0d\0\0\1a\0\0\1b\1\0\2cd"),
    fuzz_bytes("\2\0\0\0\x0e\0\x0c\0\0\x09" "192.0.2.1"),

    /* see fuzz_items() */

    fuzz_bytes("\3\0\x0b" "example.org\1\x0c\2h2\x08http/1.1"
               "\2\6\x1a\x1a\3\4\3\3"),
    fuzz_bytes("\3\0\x0b" "Example.Org\3\5\0\0\1\0\1\4\0\7\0"),
    fuzz_bytes("\3\x85\x60" FUZZ_RANDOM FUZZ_RANDOM FUZZ_RANDOM
               "\0\x0b" "example.org\2\4\3\4\3\3"),
    fuzz_bytes("\3\1\x0e\2h2\5\0,%\x7f\xff\5\1\1\1\1\1\0\4::1."),
    fuzz_bytes("\3\x40\x0e\0\x0c\0\0\x09" "192.0.2.1"
               "\x41\5\0\3\2h2\x42\3\2\3\4"),
    fuzz_bytes("\3\6\0\7\0\x08\0\x09\0\x0a\0\x0b\0\x0c\0\x0d\0\x0e\0\x0f\0"
               "\x10\0\x11\0\x12\0\x13\0\x14\0\x15\0\x16\0\x17\0\x18\0\x19\0"),
    fuzz_bytes("\3\x20\x7e\0\1a"),
    fuzz_bytes("\3\x20\x7f\0\1a"),
    fuzz_bytes("\3\1\xff\xfb" FUZZ_RANDOM FUZZ_RANDOM FUZZ_RANDOM FUZZ_RANDOM
               FUZZ_RANDOM FUZZ_RANDOM FUZZ_RANDOM "0123456789abcdef"
               "0123456789a\2h2"),
    fuzz_bytes("\3\x81\x12\3abc\x0d,%% 0123456789\5\x20" FUZZ_RANDOM),

    fuzz_bytes("\4example.org"),
    fuzz_bytes("\4Example.Org."),
    fuzz_bytes("\4" FUZZ_LABELS "." FUZZ_LABELS "." FUZZ_LABELS "."
               FUZZ_LABELS "." "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u"),
    fuzz_bytes("\4192.0.2.1"),
    fuzz_bytes("\4[2001:db8::1]"),
    fuzz_bytes("\4" "2001:db8::1"),
    fuzz_bytes("\4::ffff:192.0.2.1"),
    fuzz_bytes("\4example.org:443"),
    fuzz_bytes("\4user@example.org")
};


static const fuzz_bytes_t  fuzz_words[] = {
    fuzz_bytes("\0"), fuzz_bytes("\xff"), fuzz_bytes("\r\n"), fuzz_bytes("\n"),
    fuzz_bytes("\r"), fuzz_bytes(" "), fuzz_bytes("\t"), fuzz_bytes(":"),
    fuzz_bytes("."), fuzz_bytes("::1"), fuzz_bytes("[::1]"),
    fuzz_bytes("192.0.2.1"), fuzz_bytes("://"), fuzz_bytes("http://a"),
    fuzz_bytes("\r\nHost: a"), fuzz_bytes("Host:"),
    fuzz_bytes(" HTTP/1.1\r\n"),
    fuzz_bytes("\r\n\r\n"), fuzz_bytes("CONNECT "), fuzz_bytes("GET "),
    fuzz_bytes("abcdefghijklmnopqrstuvwxyz."), fuzz_bytes("\x16\3\1\0"),
    fuzz_bytes("\x16\3\3\0\1"), fuzz_bytes("\0\0\0\0"), fuzz_bytes("\1\0\0"),
    fuzz_bytes(FUZZ_NAME), fuzz_bytes(FUZZ_PROTOCOL), fuzz_bytes(FUZZ_VERSION),
    fuzz_bytes(FUZZ_GREASE), fuzz_bytes(FUZZ_HELLO), fuzz_bytes("\3\4"),
    fuzz_bytes("\0\1a"), fuzz_bytes("\x20\x40")
};


const fuzz_target_t  fuzz_target = {
    1,
    fuzz_seeds, fuzz_nelts(fuzz_seeds),
    fuzz_words, fuzz_nelts(fuzz_words),
    fuzz_reached, fuzz_nelts(fuzz_reached)
};


/* what the bytes are, or could become */

typedef enum {
    FUZZ_NO = 0,                 /* whatever comes */
    FUZZ_YES,
    FUZZ_MAYBE,                  /* or not, which may be seen or not */
    FUZZ_NOT_YET                 /* it has to be waited for */
} fuzz_answer_e;


typedef struct {
    ngx_tunnel_protocol_e  protocol;     /* of FUZZ_YES, or at the end */
    ngx_tunnel_host_e      kind;
    ngx_tunnel_target_t    target;       /* and its host */
    size_t                 method_len;
    char                   alpn[1024];
    size_t                 alpn_len;
    ngx_uint_t             version;
    ngx_uint_t             min;
    ngx_uint_t             ech;
} fuzz_opinion_t;


#define FUZZ_BUF  40000


/* bytes of which some were taken */

typedef struct {
    const u_char  *p;
    size_t         len;
    ngx_uint_t     short_of;     /* there were not enough */
} fuzz_part_t;


static uint32_t
fuzz_number(fuzz_part_t *part, size_t bytes)
{
    size_t    i;
    uint32_t  n;

    if (part->len < bytes) {
        part->short_of = 1;
        part->len = 0;
        return 0;
    }

    for (n = 0, i = 0; i < bytes; i++) {
        n = n * 256 + part->p[i];
    }

    part->p += bytes;
    part->len -= bytes;

    return n;
}


static fuzz_part_t
fuzz_take(fuzz_part_t *part, size_t len)
{
    fuzz_part_t  taken;

    taken.p = part->p;
    taken.len = len;
    taken.short_of = 0;

    if (part->len < len) {
        part->short_of = 1;
        taken.len = 0;
        len = part->len;
    }

    part->p += len;
    part->len -= len;

    return taken;
}


static fuzz_part_t
fuzz_vector(fuzz_part_t *part, size_t bytes)
{
    return fuzz_take(part, fuzz_number(part, bytes));
}


/* a host, which another function takes with a port */

static void
fuzz_opinion_host(fuzz_opinion_t *o, const u_char *host, size_t len)
{
    char         text[600];
    size_t       n;
    const char  *naked;

    o->kind = NGX_TUNNEL_HOST_INVALID;

    if (len > 500) {
        return;
    }

    naked = (len && host[0] != '[' && memchr(host, ':', len)) ? "[" : "";

    n = sprintf(text, "%s", naked);
    memcpy(text + n, host, len);
    n += len;
    n += sprintf(text + n, "%s:1", *naked ? "]" : "");

    if (ngx_tunnel_target_parse(&o->target, (u_char *) text, n) == NULL) {
        o->kind = o->target.family == AF_UNSPEC ? NGX_TUNNEL_HOST_NAME
                                                : NGX_TUNNEL_HOST_ADDRESS;
    }
}


static ngx_uint_t
fuzz_digits(const u_char *p, size_t len)
{
    while (len && *p >= '0' && *p <= '9') {
        p++;
        len--;
    }

    return len == 0;
}


/* a host, and then perhaps a port */

static void
fuzz_opinion_authority(fuzz_opinion_t *o, const u_char *p, size_t len)
{
    size_t         n;
    const u_char  *end;

    o->kind = NGX_TUNNEL_HOST_INVALID;

    n = len;

    if (len && p[0] == '[') {
        end = memchr(p, ']', len);

        if (end == NULL) {
            return;
        }

        n = end + 1 - p;

    } else if ((end = memchr(p, ':', len))) {
        n = end - p;
    }

    if (n == len || (p[n] == ':' && fuzz_digits(p + n + 1, len - n - 1))) {
        fuzz_opinion_host(o, p, n);
    }
}


/* extensions */


static ngx_uint_t
fuzz_opinion_names(fuzz_opinion_t *o, fuzz_part_t *extension)
{
    ngx_uint_t    n;
    fuzz_part_t   list, name;

    list = fuzz_vector(extension, 2);

    if (extension->short_of || extension->len || list.len == 0) {
        return 0;
    }

    for (n = 0; list.len; n++) {

        if (fuzz_number(&list, 1) != 0) {
            fuzz_reached[FUZZ_NAMES].count++;
            o->kind = NGX_TUNNEL_HOST_INVALID;
            return 1;
        }

        name = fuzz_vector(&list, 2);

        if (list.short_of) {
            return 0;
        }
    }

    if (n > 1) {
        fuzz_reached[FUZZ_NAMES].count++;
        o->kind = NGX_TUNNEL_HOST_INVALID;
        return 1;
    }

    fuzz_opinion_host(o, name.p, name.len);

    return 1;
}


static ngx_uint_t
fuzz_opinion_alpn(fuzz_opinion_t *o, fuzz_part_t *extension)
{
    char         text[800];
    size_t       i, n;
    ngx_uint_t   encoded, left_out;
    fuzz_part_t  list, name;

    encoded = 0;
    left_out = 0;

    list = fuzz_vector(extension, 2);

    if (extension->short_of || extension->len || list.len == 0) {
        return 0;
    }

    while (list.len) {
        name = fuzz_vector(&list, 1);

        if (list.short_of || name.len == 0) {
            return 0;
        }

        n = o->alpn_len ? sprintf(text, ",") : 0;

        for (i = 0; i < name.len; i++) {
            if (name.p[i] <= ' ' || name.p[i] >= 0x7f
                || strchr(",%", name.p[i]))
            {
                n += sprintf(text + n, "%%%02X", name.p[i]);
                encoded = 1;

            } else {
                text[n++] = name.p[i];
            }
        }

        if (o->alpn_len + n > NGX_TUNNEL_ALPN_LEN) {
            left_out = 1;
            continue;
        }

        memcpy(o->alpn + o->alpn_len, text, n);
        o->alpn_len += n;
    }

    fuzz_reached[FUZZ_ALPN].count++;
    fuzz_reached[FUZZ_ALPN_ENCODED].count += encoded;
    fuzz_reached[FUZZ_ALPN_LEFT_OUT].count += left_out;

    return 1;
}


static ngx_uint_t
fuzz_opinion_versions(fuzz_opinion_t *o, fuzz_part_t *extension)
{
    ngx_uint_t   version;
    fuzz_part_t  list;

    list = fuzz_vector(extension, 1);

    if (extension->short_of || extension->len || list.len == 0
        || list.len % 2)
    {
        return 0;
    }

    o->version = 0;
    o->min = 0x0305;

    while (list.len) {
        version = fuzz_number(&list, 2);

        if (version >= 0x0300 && version <= 0x0304) {
            o->version = ngx_max(o->version, version);
            o->min = ngx_min(o->min, version);
        }
    }

    fuzz_reached[FUZZ_VERSIONS].count++;

    if (o->version == 0) {
        o->min = 0;
        fuzz_reached[FUZZ_NO_VERSION].count++;
    }

    return 1;
}


/* a whole message */

static ngx_uint_t
fuzz_opinion_hello(fuzz_opinion_t *o, const u_char *data, size_t len)
{
    u_char       seen[65536 / 8];
    ngx_uint_t   type, n, ok;
    fuzz_part_t  hello, list, extension;

    hello.p = data;
    hello.len = len;
    hello.short_of = 0;

    o->version = fuzz_number(&hello, 2);
    ok = (o->version >> 8 == 3);
    o->version = ngx_min(o->version, 0x0303);

    (void) fuzz_take(&hello, 32);

    list = fuzz_vector(&hello, 1);
    ok &= (list.len <= 32);

    list = fuzz_vector(&hello, 2);
    ok &= (list.len && list.len % 2 == 0);

    list = fuzz_vector(&hello, 1);
    ok &= (list.len != 0);

    if (!ok || hello.short_of) {
        fuzz_reached[FUZZ_BAD_HELLO].count++;
        return 0;
    }

    if (hello.len == 0) {
        return 1;
    }

    list = fuzz_vector(&hello, 2);

    if (hello.short_of || hello.len) {
        fuzz_reached[FUZZ_BAD_HELLO].count++;
        return 0;
    }

    memset(seen, 0, sizeof(seen));

    for (n = 1; list.len; n++) {
        type = fuzz_number(&list, 2);
        extension = fuzz_vector(&list, 2);

        if (list.short_of) {
            fuzz_reached[FUZZ_BAD_HELLO].count++;
            return 0;
        }

        if (n > 128) {
            fuzz_reached[FUZZ_MANY].count++;
            return 0;
        }

        if (seen[type / 8] & (1 << type % 8)) {
            fuzz_reached[FUZZ_TWICE].count++;
            return 0;
        }

        seen[type / 8] |= 1 << type % 8;

        switch (type) {
        case 0:       ok = fuzz_opinion_names(o, &extension); break;
        case 16:      ok = fuzz_opinion_alpn(o, &extension); break;
        case 43:      ok = fuzz_opinion_versions(o, &extension); break;
        case 0xfe0d:  o->ech = 1; break;
        }

        if (!ok) {
            fuzz_reached[FUZZ_BAD_EXTENSION].count++;
            return 0;
        }
    }

    fuzz_reached[FUZZ_ECH].count += o->ech;
    fuzz_reached[FUZZ_LARGE].count += (len > 1460);

    return 1;
}


/* records, a byte after the other */

static fuzz_answer_e
fuzz_opinion_tls(fuzz_opinion_t *o, const u_char *data, size_t len)
{
    size_t         i, at, left, size;
    ngx_uint_t     n;
    fuzz_answer_e  answer;

    static u_char  message[FUZZ_BUF];

    at = 0;              /* in the header of a record */
    left = 0;            /* of the record */
    size = 0;            /* of the message, so far */
    n = 0;               /* records */

    for (i = 0; i < len; i++) {

        if (left == 0) {

            if ((at == 0 && data[i] != 22) || (at == 1 && data[i] != 3)
                || (at == 2 && data[i] > 4))
            {
                fuzz_reached[FUZZ_BAD_RECORD].count += (i != 0);
                return FUZZ_NO;
            }

            if (++at < 5) {
                continue;
            }

            left = data[i - 1] * 256 + data[i];
            at = 0;
            n++;

            if (left == 0 || left > 16384) {
                fuzz_reached[FUZZ_BAD_RECORD].count++;
                return FUZZ_NO;
            }

            continue;
        }

        left--;
        message[size++] = data[i];

        if (message[0] != 1) {
            return FUZZ_NO;
        }

        if (size >= 4
            && size == 4 + (size_t) message[1] * 65536 + message[2] * 256
                       + message[3])
        {
            answer = fuzz_opinion_hello(o, message + 4, size - 4) ? FUZZ_YES
                                                                  : FUZZ_NO;

            if (answer == FUZZ_YES) {
                fuzz_reached[FUZZ_RECORDS].count += (n > 1);
                o->protocol = NGX_TUNNEL_TLS;
            }

            return answer;
        }
    }

    return FUZZ_NOT_YET;
}


/* HTTP */


static ngx_uint_t
fuzz_token(const u_char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (!isalnum(p[i])
            && (p[i] == '\0' || strchr("!#$%&'*+-.^_`|~", p[i]) == NULL))
        {
            return 0;
        }
    }

    return len != 0;
}


/* the fields behind a request line */

static fuzz_answer_e
fuzz_opinion_fields(fuzz_opinion_t *o, const u_char *p, const u_char *end)
{
    size_t         len;
    ngx_uint_t     hosts;
    const u_char  *lf, *colon, *host, *last, *next;

    hosts = 0;
    host = NULL;
    last = NULL;

    for ( /* void */ ; (lf = memchr(p, '\n', end - p)) != NULL; p = next) {

        next = lf + 1;

        if (lf > p && lf[-1] == '\r') {
            lf--;
        }

        if (p == lf) {

            if (last > host) {
                fuzz_opinion_authority(o, host, last - host);
            }

            return FUZZ_YES;
        }

        colon = memchr(p, ':', lf - p);
        len = colon ? (size_t) (colon - p) : 0;

        if (!fuzz_token(p, len) || memchr(colon, '\r', lf - colon)
            || memchr(colon, '\0', lf - colon))
        {
            fuzz_reached[FUZZ_BAD_FIELD].count++;
            o->kind = NGX_TUNNEL_HOST_INVALID;
            return FUZZ_YES;
        }

        if (len != 4 || strncasecmp((char *) p, "host", 4) != 0) {
            continue;
        }

        if (hosts++) {
            fuzz_reached[FUZZ_HOSTS].count++;
            o->kind = NGX_TUNNEL_HOST_INVALID;
            return FUZZ_YES;
        }

        host = colon + 1;
        last = lf;

        while (host < last && (*host == ' ' || *host == '\t')) {
            host++;
        }

        while (host < last && (last[-1] == ' ' || last[-1] == '\t')) {
            last--;
        }
    }

    return FUZZ_NOT_YET;
}


/* of two that are valid */

static ngx_uint_t
fuzz_same_host(const fuzz_opinion_t *a, const fuzz_opinion_t *b)
{
    if (a->target.family != b->target.family) {
        return 0;
    }

    switch (a->target.family) {

    case AF_INET:
        return memcmp(&a->target.addr.in, &b->target.addr.in, 4) == 0;

    case AF_INET6:
        return memcmp(&a->target.addr.in6, &b->target.addr.in6, 16) == 0;

    default:
        return a->target.host.len == b->target.host.len
               && memcmp(a->target.buf, b->target.buf, a->target.host.len)
                  == 0;
    }
}


/* the fields behind a request line whose target has a valid host */

static fuzz_answer_e
fuzz_opinion_absolute(fuzz_opinion_t *o, const u_char *p, const u_char *end)
{
    static fuzz_opinion_t  fields;

    fields.kind = NGX_TUNNEL_HOST_NONE;

    if (fuzz_opinion_fields(&fields, p, end) == FUZZ_NOT_YET) {
        o->kind = NGX_TUNNEL_HOST_NONE;
        return FUZZ_NOT_YET;
    }

    if (fields.kind == NGX_TUNNEL_HOST_NONE) {
        fuzz_reached[FUZZ_URI_ALONE].count++;
        return FUZZ_YES;
    }

    if (fields.kind == NGX_TUNNEL_HOST_INVALID) {
        o->kind = NGX_TUNNEL_HOST_INVALID;
        return FUZZ_YES;
    }

    if (fuzz_same_host(o, &fields)) {
        fuzz_reached[FUZZ_URI_SAME].count++;
        return FUZZ_YES;
    }

    fuzz_reached[FUZZ_URI_OTHER].count++;
    o->kind = NGX_TUNNEL_HOST_INVALID;

    return FUZZ_YES;
}


static fuzz_answer_e
fuzz_opinion_http(fuzz_opinion_t *o, const u_char *data, size_t len)
{
    size_t         i;
    ngx_uint_t     bad;
    const u_char  *lf, *end, *target, *version, *p;

    lf = memchr(data, '\n', len);

    if (lf == NULL) {
        return FUZZ_MAYBE;
    }

    end = (lf > data && lf[-1] == '\r') ? lf - 1 : lf;

    target = memchr(data, ' ', end - data);
    version = target ? memchr(target + 1, ' ', end - target - 1) : NULL;

    if (version == NULL) {
        fuzz_reached[FUZZ_BAD_LINE].count++;
        return FUZZ_NO;
    }

    target++;
    version++;

    o->method_len = target - 1 - data;

    bad = (o->method_len == 0 || o->method_len > NGX_TUNNEL_METHOD_LEN
           || target == version - 1 || end - version != 8
           || memcmp(version, "HTTP/1.", 7) != 0
           || !fuzz_digits(version + 7, 1));

    for (i = 0; i < o->method_len; i++) {
        bad |= !(isupper(data[i]) || data[i] == '-' || data[i] == '_');
    }

    for (p = target; p < version - 1; p++) {
        bad |= (*p <= ' ' || *p == 0x7f);
    }

    if (bad) {
        fuzz_reached[FUZZ_BAD_LINE].count++;
        o->method_len = 0;
        return FUZZ_NO;
    }

    o->protocol = NGX_TUNNEL_HTTP;

    if (o->method_len == 7 && memcmp(data, "CONNECT", 7) == 0) {
        fuzz_reached[FUZZ_CONNECT].count++;
        fuzz_opinion_authority(o, target, version - 1 - target);
        return FUZZ_YES;
    }

    if (*target == '/' || (*target == '*' && target[1] == ' ')) {
        return fuzz_opinion_fields(o, lf + 1, data + len);
    }

    /* a scheme, RFC 3986 3.1, a host, and what ends it */

    for (p = target; isalnum(*p) || strchr("+-.", *p); p++) { /* void */ }

    if (!isalpha(*target) || version - 1 - p < 3
        || memcmp(p, "://", 3) != 0)
    {
        o->kind = NGX_TUNNEL_HOST_INVALID;
        return FUZZ_YES;
    }

    fuzz_reached[FUZZ_URI].count++;

    target = p + 3;

    for (p = target; p < version - 1 && strchr("/?#", *p) == NULL; p++) {
        /* void */
    }

    fuzz_opinion_authority(o, target, p - target);

    if (o->kind == NGX_TUNNEL_HOST_INVALID) {
        return FUZZ_YES;
    }

    return fuzz_opinion_absolute(o, lf + 1, data + len);
}


/* the others */


static fuzz_answer_e
fuzz_opinion_other(fuzz_opinion_t *o, const u_char *data, size_t len)
{
    uint32_t     n, code;
    ngx_uint_t   i, maybe;
    fuzz_part_t  part;

    static const struct {
        const char             *data;
        size_t                  len;
        ngx_tunnel_protocol_e   protocol;
    } prefixes[] = {
        { "SSH-", 4, NGX_TUNNEL_SSH },
        { "\4\1", 2, NGX_TUNNEL_SOCKS4 },
        { "\4\2", 2, NGX_TUNNEL_SOCKS4 },
        { "PROXY TCP4 ", 11, NGX_TUNNEL_PROXY_PROTOCOL },
        { "PROXY TCP6 ", 11, NGX_TUNNEL_PROXY_PROTOCOL },
        { "PROXY UNKNOWN", 13, NGX_TUNNEL_PROXY_PROTOCOL },
        { "\r\n\r\n\0\r\nQUIT\n", 12, NGX_TUNNEL_PROXY_PROTOCOL },
        { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, NGX_TUNNEL_HTTP2 }
    };

    maybe = 0;

    for (i = 0; i < fuzz_nelts(prefixes); i++) {

        n = ngx_min(len, prefixes[i].len);

        if (memcmp(data, prefixes[i].data, n) == 0) {

            if (n == prefixes[i].len) {
                o->protocol = prefixes[i].protocol;
                return FUZZ_YES;
            }

            maybe = 1;
        }
    }

    if (maybe) {
        return FUZZ_NOT_YET;
    }

    part.p = data;
    part.len = len;
    part.short_of = 0;

    switch (data[0]) {

    case 0:
        n = fuzz_number(&part, 4);
        code = fuzz_number(&part, 4);

        if (part.short_of) {
            return FUZZ_MAYBE;
        }

        if ((code == 80877102 && n >= 16 && n <= 10000)
            || (code == 80877103 && n == 8) || (code == 80877104 && n == 8)
            || (code >= 0x00030000 && code <= 0x0003ffff && n > 8
                && n <= 10000))
        {
            o->protocol = NGX_TUNNEL_POSTGRESQL;
            return FUZZ_YES;
        }

        return FUZZ_NO;

    case 3:
        if (len < 6) {
            return FUZZ_MAYBE;
        }

        if (data[1] == 0 && data[2] * 256 + data[3] == 5 + data[4]
            && data[4] >= 6 && data[5] == 0xe0)
        {
            o->protocol = NGX_TUNNEL_RDP;
            return FUZZ_YES;
        }

        return FUZZ_NO;

    case 5:
        if (len == 1) {
            return FUZZ_NOT_YET;
        }

        if (data[1]) {
            o->protocol = NGX_TUNNEL_SOCKS5;
            return FUZZ_YES;
        }

        return FUZZ_NO;
    }

    if (data[0] & 0x80) {

        if (len < 11) {
            return FUZZ_MAYBE;
        }

        n = fuzz_number(&part, 2) - 0x8000;

        if (n == 9u + (data[5] + data[7] + data[9]) * 256 + data[6] + data[8]
                 + data[10]
            && data[2] == 1
            && (data[3] == 3 ? data[4] <= 4 : data[3] == 0 && data[4] == 2)
            && (data[5] || data[6]) && (data[5] * 256 + data[6]) % 3 == 0
            && data[7] == 0 && (data[8] == 0 || data[8] == 16)
            && data[9] == 0 && data[10] >= 16 && data[10] <= 32)
        {
            o->protocol = NGX_TUNNEL_SSLV2;
            return FUZZ_YES;
        }

        return FUZZ_NO;
    }

    return fuzz_opinion_http(o, data, len);
}


static fuzz_answer_e
fuzz_opinion(fuzz_opinion_t *o, const u_char *data, size_t len)
{
    fuzz_answer_e  answer;

    memset(o, 0, offsetof(fuzz_opinion_t, target));
    memset(&o->method_len, 0,
           sizeof(fuzz_opinion_t) - offsetof(fuzz_opinion_t, method_len));

    if (len == 0) {
        o->protocol = NGX_TUNNEL_TIMEOUT;
        return FUZZ_NOT_YET;
    }

    answer = (data[0] == 22) ? fuzz_opinion_tls(o, data, len)
                             : fuzz_opinion_other(o, data, len);

    if (answer != FUZZ_YES && o->protocol != NGX_TUNNEL_HTTP) {

        /* nothing that was understood before counts */

        memset(o, 0, offsetof(fuzz_opinion_t, target));
        memset(&o->method_len, 0,
               sizeof(fuzz_opinion_t) - offsetof(fuzz_opinion_t, method_len));
    }

    return answer;
}


/* that it is what the second opinion says */

static void
fuzz_understood(ngx_tunnel_sniff_t *sn, const fuzz_opinion_t *o,
    const u_char *data)
{
    fuzz_assert(sn->protocol == o->protocol);
    fuzz_assert(sn->kind == o->kind);

    if (sn->kind == NGX_TUNNEL_HOST_NAME
        || sn->kind == NGX_TUNNEL_HOST_ADDRESS)
    {
        fuzz_assert(sn->host.data == sn->name.buf);
        fuzz_assert(sn->host.len > 0
                    && sn->host.len <= NGX_TUNNEL_HOST_LEN);
        fuzz_assert(sn->host.len == o->target.host.len);
        fuzz_assert(memcmp(sn->host.data, o->target.buf, sn->host.len) == 0);
        fuzz_assert(sn->name.family == o->target.family);
        fuzz_assert((sn->kind == NGX_TUNNEL_HOST_NAME)
                    == (sn->name.family == AF_UNSPEC));

    } else {
        fuzz_assert(sn->host.len == 0);
    }

    fuzz_assert(sn->method_len <= NGX_TUNNEL_METHOD_LEN);
    fuzz_assert(sn->method_len == o->method_len);
    fuzz_assert(memcmp(sn->method, data, sn->method_len) == 0);

    fuzz_assert(sn->alpn_len <= NGX_TUNNEL_ALPN_LEN);
    fuzz_assert(sn->alpn_len == o->alpn_len);
    fuzz_assert(memcmp(sn->alpn, o->alpn, sn->alpn_len) == 0);

    fuzz_assert(sn->tls_version == o->version);
    fuzz_assert(sn->tls_min_version == o->min);
    fuzz_assert(sn->ech == o->ech);

    fuzz_assert(sn->error == NULL || strlen(sn->error) > 0);
    fuzz_assert(sn->kind != NGX_TUNNEL_HOST_INVALID || sn->error);
    fuzz_assert(sn->protocol == NGX_TUNNEL_UNKNOWN
                || sn->kind == NGX_TUNNEL_HOST_INVALID || sn->error == NULL);
}


/* that both understood the same */

static void
fuzz_same(ngx_tunnel_sniff_t *a, ngx_tunnel_sniff_t *b)
{
    fuzz_assert(a->protocol == b->protocol);
    fuzz_assert(a->kind == b->kind);
    fuzz_assert(a->host.len == b->host.len);
    fuzz_assert(a->host.len == 0
                || memcmp(a->name.buf, b->name.buf, a->host.len) == 0);
    fuzz_assert(a->method_len == b->method_len);
    fuzz_assert(memcmp(a->method, b->method, a->method_len) == 0);
    fuzz_assert(a->alpn_len == b->alpn_len);
    fuzz_assert(memcmp(a->alpn, b->alpn, a->alpn_len) == 0);
    fuzz_assert(a->tls_version == b->tls_version);
    fuzz_assert(a->tls_min_version == b->tls_min_version);
    fuzz_assert(a->ech == b->ech);
    fuzz_assert(a->error == b->error
                || (a->error && b->error && strcmp(a->error, b->error) == 0));
}


static void
fuzz_count(ngx_int_t rc, const ngx_tunnel_sniff_t *sn)
{
    if (rc == NGX_AGAIN) {
        fuzz_reached[FUZZ_UNDECIDED].count++;
        fuzz_reached[FUZZ_PARTIAL].count += (sn->protocol == NGX_TUNNEL_HTTP);
    }

    fuzz_reached[sn->protocol].count++;

    if (sn->protocol == NGX_TUNNEL_TLS) {
        fuzz_reached[sn->kind == NGX_TUNNEL_HOST_NAME ? FUZZ_TLS_NAME
                     : sn->kind == NGX_TUNNEL_HOST_ADDRESS ? FUZZ_TLS_ADDRESS
                     : sn->kind == NGX_TUNNEL_HOST_INVALID ? FUZZ_TLS_INVALID
                     : FUZZ_TLS_NONE].count++;
    }

    if (sn->protocol == NGX_TUNNEL_HTTP && rc == NGX_OK) {
        fuzz_reached[sn->kind == NGX_TUNNEL_HOST_NAME ? FUZZ_HTTP_NAME
                     : sn->kind == NGX_TUNNEL_HOST_ADDRESS ? FUZZ_HTTP_ADDRESS
                     : sn->kind == NGX_TUNNEL_HOST_INVALID ? FUZZ_HTTP_INVALID
                     : FUZZ_HTTP_NONE].count++;
    }
}


/* the bytes, as they come in segments */

static void
fuzz_sniff(const u_char *data, size_t len, size_t segment)
{
    size_t               n, step;
    u_char              *copy;
    ngx_int_t            rc, last, tls;
    fuzz_answer_e        answer;
    fuzz_opinion_t       opinion;
    ngx_tunnel_sniff_t  *sn, *end, *hello, *first, *swap;

    static ngx_tunnel_sniff_t  buf[4];

    sn = &buf[0];
    end = &buf[1];
    hello = &buf[2];
    first = &buf[3];

    swap = NULL;

    copy = fuzz_copy(data, len);

    /* not too many of them */

    step = ngx_max(segment, len / 16);

    for (n = 0; /* void */ ; n = ngx_min(n + step, len)) {

        if (n < len) {
            ASAN_POISON_MEMORY_REGION(copy + n, len - n);
        }

        memset(sn, 0xa5, sizeof(ngx_tunnel_sniff_t));
        memset(end, 0xa5, sizeof(ngx_tunnel_sniff_t));
        memset(hello, 0xa5, sizeof(ngx_tunnel_sniff_t));

        rc = ngx_tunnel_sniff(sn, copy, n, 0);
        last = ngx_tunnel_sniff(end, copy, n, 1);
        tls = ngx_tunnel_sniff_tls(hello, copy, n);

        ASAN_UNPOISON_MEMORY_REGION(copy, len);

        fuzz_assert(rc == NGX_OK || rc == NGX_AGAIN);
        fuzz_assert(last == NGX_OK);

        answer = fuzz_opinion(&opinion, data, n);

        fuzz_understood(end, &opinion, data);

        switch (answer) {
        case FUZZ_NO:
        case FUZZ_YES:      fuzz_assert(rc == NGX_OK); break;
        case FUZZ_NOT_YET:  fuzz_assert(rc == NGX_AGAIN); break;
        case FUZZ_MAYBE:    break;
        }

        if (rc == NGX_OK) {
            fuzz_same(sn, end);
        }

        /* what was said before is said still */

        if (swap) {
            fuzz_assert(rc == NGX_OK);
            fuzz_same(first, sn);

        } else if (rc == NGX_OK) {
            swap = first;
            first = sn;
            sn = swap;
        }

        switch (tls) {

        case NGX_OK:
            fuzz_assert(n && data[0] == 22 && rc == NGX_OK);
            fuzz_same(hello, first);
            fuzz_assert(hello->protocol == NGX_TUNNEL_TLS);
            break;

        case NGX_AGAIN:
            fuzz_assert(rc == NGX_AGAIN && (n == 0 || data[0] == 22));
            break;

        default:
            fuzz_assert(tls == NGX_DECLINED && n);
            fuzz_assert(end->protocol != NGX_TUNNEL_TLS);

            if (data[0] == 22) {
                fuzz_assert(rc == NGX_OK);
                fuzz_same(hello, first);
            }
        }

        fuzz_assert(n == 0 || memcmp(copy, data, n) == 0);

        if (n == len) {
            break;
        }

        /* the last few bytes, one after the other */

        if (n + 8 >= len) {
            step = 1;

        } else if (n + step + 8 > len) {
            step = len - 8 - n;
        }
    }

    fuzz_count(rc, end);

    free(copy);
}


/* what an input stands for */


typedef struct {
    u_char  *p;
    size_t   len;
} fuzz_buf_t;


static void
fuzz_put(fuzz_buf_t *b, const void *data, size_t len)
{
    fuzz_assert(len <= FUZZ_BUF - b->len);

    if (len) {
        memcpy(b->p + b->len, data, len);
    }

    b->len += len;
}


static void
fuzz_put_number(fuzz_buf_t *b, size_t bytes, size_t n)
{
    u_char  p[3];

    p[0] = n >> 16;
    p[1] = n >> 8;
    p[2] = n;

    fuzz_put(b, p + 3 - bytes, bytes);
}


static void
fuzz_put_text(fuzz_buf_t *b, const char *text)
{
    fuzz_put(b, text, strlen(text));
}


/* a message in records of a size, to be looked at */

static void
fuzz_records(const u_char *body, size_t len, size_t size, size_t segment)
{
    size_t      n, at;
    fuzz_buf_t  m, r;

    static u_char  message[FUZZ_BUF], records[FUZZ_BUF];

    m.p = message;
    m.len = 0;

    fuzz_put(&m, "\1", 1);
    fuzz_put_number(&m, 3, len);
    fuzz_put(&m, body, len);

    r.p = records;
    r.len = 0;

    for (at = 0; at < m.len; at += n) {
        n = ngx_min(size, m.len - at);

        /* no more of them than there is room */

        if (r.len > 8192) {
            n = ngx_min(16384, m.len - at);
        }

        fuzz_put(&r, "\x16\3\3", 3);
        fuzz_put_number(&r, 2, n);
        fuzz_put(&r, m.p + at, n);
    }

    fuzz_sniff(r.p, r.len, segment);
}


static void
fuzz_extensions(const u_char *data, size_t len, size_t size, size_t segment)
{
    fuzz_buf_t  b;

    static u_char  body[FUZZ_BUF];

    b.p = body;
    b.len = 0;

    fuzz_put(&b, FUZZ_BODY, sizeof(FUZZ_BODY) - 1);
    fuzz_put_number(&b, 2, len);
    fuzz_put(&b, data, len);

    fuzz_records(b.p, b.len, size, segment);
}


/*
 * Extensions whose lengths are right.  Of the byte for a type the low 5 bits
 * are one of these, or are the type themselves; 0x20: as many of these types
 * as the length, all empty; 0x40: the content is as it is, or it is the list
 * that belongs to the type; 0x80: the content 16 times.
 */

static void
fuzz_items(const u_char *data, size_t len, size_t size, size_t segment)
{
    u_char       flags;
    size_t       n, i, have;
    ngx_uint_t   type, times, raw;
    fuzz_buf_t   b;

    static u_char            list[FUZZ_BUF];
    static const ngx_uint_t  types[] = { 0, 16, 43, 0xfe0d, 0x0a0a, 51 };

    b.p = list;
    b.len = 0;

    while (len >= 2 && b.len < 4000) {
        flags = data[0];
        n = data[1];

        data += 2;
        len -= 2;

        type = flags & 0x1f;

        if (type < fuzz_nelts(types)) {
            type = types[type];
        }

        if (flags & 0x20) {

            for (i = 0; i <= n; i++) {
                fuzz_put_number(&b, 2, 0x4000 + (type << 4) + i);
                fuzz_put_number(&b, 2, 0);
            }

            continue;
        }

        n = ngx_min(n, len);
        times = (flags & 0x80) ? 16 : 1;
        raw = (flags & 0x40);
        have = n * times;

        fuzz_put_number(&b, 2, type);

        if (!raw && type == 0) {
            fuzz_put_number(&b, 2, have + 5);
            fuzz_put_number(&b, 2, have + 3);
            fuzz_put_number(&b, 1, 0);
            fuzz_put_number(&b, 2, have);

        } else if (!raw && type == 16) {
            fuzz_put_number(&b, 2, have + 2);
            fuzz_put_number(&b, 2, have);

        } else if (!raw && type == 43 && have < 256) {
            fuzz_put_number(&b, 2, have + 1);
            fuzz_put_number(&b, 1, have);

        } else {
            fuzz_put_number(&b, 2, have);
        }

        while (times--) {
            fuzz_put(&b, data, n);
        }

        data += n;
        len -= n;
    }

    fuzz_extensions(b.p, b.len, size, segment);
}


/* a host, wherever one can be */

static void
fuzz_host(const u_char *host, size_t len, size_t size, size_t segment)
{
    size_t      n;
    u_char      ch;
    ngx_uint_t  i;
    fuzz_buf_t  b;

    static u_char  text[FUZZ_BUF];

    static const struct {
        const char  *before;
        const char  *between;    /* it and itself in upper case */
        const char  *behind;
    } heads[] = {
        { "GET / HTTP/1.1\r\nHost: ", NULL, "\r\n\r\n" },
        { "GET / HTTP/1.1\r\nHost: ", NULL, ":80\r\nA: b\r\n\r\n" },
        { "GET http://", NULL, "/ HTTP/1.1\r\nHost: a\r\n\r\n" },
        { "GET http://", NULL, ":80 HTTP/1.1\r\n\r\n" },
        { "GET http://a/ HTTP/1.1\r\nHost: ", NULL, "\r\n\r\n" },
        { "GET http://", "/ HTTP/1.1\r\nHost: ", "\r\n\r\n" },
        { "GET http://", ":80 HTTP/1.1\r\nHost: ", ".:8080\r\n\r\n" },
        { "GET http://", "a/ HTTP/1.1\r\nHost: ", "\r\n\r\n" },
        { "CONNECT ", NULL, ":443 HTTP/1.1\r\n\r\n" }
    };

    b.p = text;

    for (i = 0; i < fuzz_nelts(heads); i++) {
        b.len = 0;

        fuzz_put_text(&b, heads[i].before);
        fuzz_put(&b, host, len);

        if (heads[i].between) {
            fuzz_put_text(&b, heads[i].between);

            for (n = 0; n < len; n++) {
                ch = toupper(host[n]);
                fuzz_put(&b, &ch, 1);
            }
        }

        fuzz_put_text(&b, heads[i].behind);

        fuzz_sniff(b.p, b.len, segment);
    }

    b.len = 0;

    fuzz_put_number(&b, 2, 0);
    fuzz_put_number(&b, 2, len + 5);
    fuzz_put_number(&b, 2, len + 3);
    fuzz_put_number(&b, 1, 0);
    fuzz_put_number(&b, 2, len);
    fuzz_put(&b, host, len);

    fuzz_extensions(b.p, b.len, size, segment);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t       segment, record;
    fuzz_kind_e  kind;

    if (size < 2 || size > 8192) {
        return 0;
    }

    segment = data[0] ? data[0] : 256;
    record = data[0] ? data[0] : 16384;
    kind = data[1] % FUZZ_KINDS;

    data += 2;
    size -= 2;

    switch (kind) {
    case FUZZ_RAW:         fuzz_sniff(data, size, segment); break;
    case FUZZ_MESSAGE:     fuzz_records(data, size, record, segment); break;
    case FUZZ_EXTENSIONS:  fuzz_extensions(data, size, record, segment); break;
    case FUZZ_ITEMS:       fuzz_items(data, size, record, segment); break;
    default:               fuzz_host(data, size, record, segment); break;
    }

    return 0;
}
