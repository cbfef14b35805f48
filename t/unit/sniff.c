
/*
 * Sniff: what each client begins with, cut behind every byte and with more
 * behind it; ClientHellos of all shapes, in records of all sizes.
 */


#include "unit.h"

#include <sanitizer/asan_interface.h>


#define UNKNOWN  NGX_TUNNEL_UNKNOWN
#define NONE     NGX_TUNNEL_HOST_NONE
#define NAME     NGX_TUNNEL_HOST_NAME
#define ADDRESS  NGX_TUNNEL_HOST_ADDRESS
#define INVALID  NGX_TUNNEL_HOST_INVALID

#define unit_bytes(s)  (s), sizeof(s) - 1


/* what there is to see; a string that is NULL is as good as an empty one */

typedef struct {
    ngx_tunnel_protocol_e  protocol;
    ngx_tunnel_host_e      kind;
    const char            *host;
    const char            *method;
    const char            *alpn;
    ngx_uint_t             version;
    ngx_uint_t             min;
    ngx_uint_t             ech;
} unit_seen_t;


/* what all prefixes of an input said */

typedef struct {
    ngx_uint_t             undecided;    /* all of it is not enough */
    size_t                 at;           /* the first that was enough */
    ngx_tunnel_sniff_t     sn;           /* of all of it */
    ngx_tunnel_sniff_t     end;          /* if nothing comes behind it */
} unit_walk_t;


/* bytes, and where in them lengths are */

typedef struct {
    const char            *name;
    size_t                 at;
    ngx_uint_t             bytes;
} unit_length_t;


typedef struct {
    u_char                *data;
    size_t                 len;
    unit_length_t          lengths[64];
    ngx_uint_t             nlengths;
} unit_buf_t;


#define UNIT_BUF  200000


static unit_buf_t *
unit_buf(void)
{
    unit_buf_t  *b;

    b = ngx_palloc(unit_pool, sizeof(unit_buf_t));
    if (b == NULL) {
        abort();
    }

    b->data = ngx_palloc(unit_pool, UNIT_BUF);
    b->len = 0;
    b->nlengths = 0;

    if (b->data == NULL) {
        abort();
    }

    return b;
}


static void
unit_buf_free(unit_buf_t *b)
{
    ngx_pfree(unit_pool, b->data);
}


static void
unit_put(unit_buf_t *b, const void *data, size_t len)
{
    if (len > UNIT_BUF - b->len) {
        abort();
    }

    if (len) {
        memcpy(b->data + b->len, data, len);
    }

    b->len += len;
}


static void
unit_put_run(unit_buf_t *b, int ch, size_t len)
{
    if (len > UNIT_BUF - b->len) {
        abort();
    }

    memset(b->data + b->len, ch, len);
    b->len += len;
}


static void
unit_write_number(u_char *p, ngx_uint_t bytes, uint64_t n)
{
    while (bytes--) {
        p[bytes] = (u_char) n;
        n >>= 8;
    }
}


static void
unit_put_number(unit_buf_t *b, ngx_uint_t bytes, uint64_t n)
{
    u_char  p[8];

    unit_write_number(p, bytes, n);
    unit_put(b, p, bytes);
}


/* a length of what is put before it is closed */

static ngx_uint_t
unit_open(unit_buf_t *b, ngx_uint_t bytes, const char *name)
{
    if (b->nlengths == unit_nelts(b->lengths)) {

        /* it is not remembered */

        unit_put_number(b, bytes, 0);

        return b->len;
    }

    b->lengths[b->nlengths].name = name;
    b->lengths[b->nlengths].at = b->len;
    b->lengths[b->nlengths].bytes = bytes;
    b->nlengths++;

    unit_put_number(b, bytes, 0);

    return b->len;
}


static void
unit_close(unit_buf_t *b, ngx_uint_t at, ngx_uint_t bytes)
{
    unit_write_number(b->data + at - bytes, bytes, b->len - at);
}


/* ClientHellos */


typedef struct {
    ngx_uint_t  message;
    ngx_uint_t  extensions;
} unit_hello_t;


static void
unit_hello(unit_buf_t *b, unit_hello_t *h, ngx_uint_t version, size_t session,
    size_t ciphers, size_t compressions)
{
    size_t      i;
    ngx_uint_t  at;

    b->len = 0;
    b->nlengths = 0;

    unit_put_number(b, 1, 1);
    h->message = unit_open(b, 3, "message");

    unit_put_number(b, 2, version);

    for (i = 0; i < 32; i++) {
        unit_put_number(b, 1, i * 7 + 1);
    }

    at = unit_open(b, 1, "session id");
    unit_put_run(b, 0x55, session);
    unit_close(b, at, 1);

    at = unit_open(b, 2, "cipher suites");

    for (i = 0; i < ciphers; i++) {
        unit_put_number(b, 2, 0x1301 + i);
    }

    unit_close(b, at, 2);

    at = unit_open(b, 1, "compression methods");
    unit_put_run(b, 0, compressions);
    unit_close(b, at, 1);

    h->extensions = 0;
}


static void
unit_hello_extensions(unit_buf_t *b, unit_hello_t *h)
{
    h->extensions = unit_open(b, 2, "extensions");
}


static void
unit_hello_end(unit_buf_t *b, unit_hello_t *h)
{
    if (h->extensions) {
        unit_close(b, h->extensions, 2);
    }

    unit_close(b, h->message, 3);
}


/* what most clients have in front of the extensions */

static void
unit_hello_usual(unit_buf_t *b, unit_hello_t *h)
{
    unit_hello(b, h, 0x0303, 32, 16, 1);
    unit_hello_extensions(b, h);
}


static void
unit_extension(unit_buf_t *b, ngx_uint_t type, const void *data, size_t len)
{
    ngx_uint_t  at;

    unit_put_number(b, 2, type);
    at = unit_open(b, 2, "extension");
    unit_put(b, data, len);
    unit_close(b, at, 2);
}


static void
unit_extension_run(unit_buf_t *b, ngx_uint_t type, int ch, size_t len)
{
    ngx_uint_t  at;

    unit_put_number(b, 2, type);
    at = unit_open(b, 2, "extension");
    unit_put_run(b, ch, len);
    unit_close(b, at, 2);
}


#define UNIT_SERVER_NAME  0
#define UNIT_ALPN         16
#define UNIT_VERSIONS     43
#define UNIT_KEY_SHARE    51
#define UNIT_ECH          0xfe0d


static void
unit_server_name(unit_buf_t *b, const void *name, size_t len)
{
    ngx_uint_t  extension, list, host;

    unit_put_number(b, 2, UNIT_SERVER_NAME);
    extension = unit_open(b, 2, "server_name");
    list = unit_open(b, 2, "list of names");
    unit_put_number(b, 1, 0);
    host = unit_open(b, 2, "host_name");
    unit_put(b, name, len);
    unit_close(b, host, 2);
    unit_close(b, list, 2);
    unit_close(b, extension, 2);
}


static void
unit_alpn(unit_buf_t *b, const void *list, size_t len)
{
    ngx_uint_t  extension, at;

    unit_put_number(b, 2, UNIT_ALPN);
    extension = unit_open(b, 2, "ALPN");
    at = unit_open(b, 2, "list of protocols");
    unit_put(b, list, len);
    unit_close(b, at, 2);
    unit_close(b, extension, 2);
}


static void
unit_versions(unit_buf_t *b, const void *list, size_t len)
{
    ngx_uint_t  extension, at;

    unit_put_number(b, 2, UNIT_VERSIONS);
    extension = unit_open(b, 2, "supported_versions");
    at = unit_open(b, 1, "list of versions");
    unit_put(b, list, len);
    unit_close(b, at, 1);
    unit_close(b, extension, 2);
}


static void
unit_put_record(unit_buf_t *r, ngx_uint_t minor, const void *data, size_t len)
{
    unit_put(r, "\x16\3", 2);
    unit_put_number(r, 1, minor);
    unit_put_number(r, 2, len);
    unit_put(r, data, len);
}


/* the bytes in records of so many at most */

static void
unit_records(unit_buf_t *r, const unit_buf_t *b, size_t size)
{
    size_t  n, at;

    r->len = 0;
    r->nlengths = 0;

    for (at = 0; at < b->len; at += n) {
        n = ngx_min(size, b->len - at);

        unit_put_record(r, at ? 3 : 1, b->data + at, n);
    }
}


/* in records of chance */

static void
unit_records_random(unit_buf_t *r, const unit_buf_t *b, size_t most)
{
    size_t  n, at;

    r->len = 0;
    r->nlengths = 0;

    for (at = 0; at < b->len; at += n) {
        n = 1 + unit_random() % most;
        n = ngx_min(n, b->len - at);

        unit_put_record(r, unit_random() % 5, b->data + at, n);
    }
}


/* looking at them */


static ngx_uint_t
unit_same_bytes(const u_char *a, size_t alen, const u_char *b, size_t blen)
{
    return alen == blen && (alen == 0 || memcmp(a, b, alen) == 0);
}


static ngx_uint_t
unit_has_host(const ngx_tunnel_sniff_t *sn)
{
    return sn->kind == NAME || sn->kind == ADDRESS;
}


static ngx_uint_t
unit_same_error(const ngx_tunnel_sniff_t *a, const ngx_tunnel_sniff_t *b)
{
    return a->error == b->error
           || (a->error && b->error && strcmp(a->error, b->error) == 0);
}


static ngx_uint_t
unit_same(const ngx_tunnel_sniff_t *a, const ngx_tunnel_sniff_t *b)
{
    if (a->protocol != b->protocol || a->kind != b->kind
        || !unit_same_bytes(a->method, a->method_len, b->method, b->method_len)
        || !unit_same_bytes(a->alpn, a->alpn_len, b->alpn, b->alpn_len)
        || a->tls_version != b->tls_version
        || a->tls_min_version != b->tls_min_version
        || a->ech != b->ech || !unit_same_error(a, b))
    {
        return 0;
    }

    return !unit_has_host(a)
           || (a->name.family == b->name.family
               && unit_same_bytes(a->host.data, a->host.len,
                                  b->host.data, b->host.len));
}


/* what is true of all that is filled; returns what is not */

static const char *
unit_invalid(ngx_tunnel_sniff_t *sn, size_t len)
{
    size_t               i;
    u_char              *copy;
    const char          *err;
    ngx_tunnel_target_t  again;

    if (sn->protocol > NGX_TUNNEL_POSTGRESQL
        || (sn->protocol == NGX_TUNNEL_TIMEOUT) != (len == 0))
    {
        return "protocol";
    }

    if (sn->kind > INVALID
        || (sn->kind != NONE && sn->protocol != NGX_TUNNEL_TLS
            && sn->protocol != NGX_TUNNEL_HTTP))
    {
        return "kind of host";
    }

    if (unit_has_host(sn)) {

        if (sn->host.len == 0 || sn->host.len > NGX_TUNNEL_HOST_LEN
            || sn->host.data != sn->name.buf)
        {
            return "where the host is";
        }

        if ((sn->kind == ADDRESS) != (sn->name.family != AF_UNSPEC)) {
            return "family of the host";
        }

        copy = unit_block(sn->host.data, sn->host.len);
        err = ngx_tunnel_target_set(&again, copy, sn->host.len, 1);
        free(copy);

        if (err) {
            return err;
        }

        if (again.family != sn->name.family) {
            return "family of the host, parsed again";
        }

        if (!unit_same_bytes(again.host.data, again.host.len,
                             sn->host.data, sn->host.len))
        {
            return "canonical form of the host";
        }

    } else if (sn->host.len) {
        return "length of no host";
    }

    if (sn->method_len > NGX_TUNNEL_METHOD_LEN
        || (sn->method_len != 0) != (sn->protocol == NGX_TUNNEL_HTTP))
    {
        return "length of the method";
    }

    for (i = 0; i < sn->method_len; i++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", sn->method[i]) == NULL
            || sn->method[i] == '\0')
        {
            return "method";
        }
    }

    if (sn->alpn_len > NGX_TUNNEL_ALPN_LEN
        || (sn->alpn_len && sn->protocol != NGX_TUNNEL_TLS))
    {
        return "length of ALPN";
    }

    for (i = 0; i < sn->alpn_len; i++) {

        if (sn->alpn[i] <= 0x20 || sn->alpn[i] > 0x7e) {
            return "character in ALPN";
        }

        if (sn->alpn[i] == '%'
            && (i + 2 >= sn->alpn_len || !isxdigit(sn->alpn[i + 1])
                || !isxdigit(sn->alpn[i + 2])))
        {
            return "percent-encoding of ALPN";
        }

        if (sn->alpn[i] == ','
            && (i == 0 || i + 1 == sn->alpn_len || sn->alpn[i + 1] == ','))
        {
            return "empty protocol in ALPN";
        }
    }

    if (sn->protocol != NGX_TUNNEL_TLS) {
        return sn->tls_version || sn->tls_min_version || sn->ech
               ? "TLS where there is none" : NULL;
    }

    if ((sn->tls_version
         && (sn->tls_version < 0x0300 || sn->tls_version > 0x0304))
        || (sn->tls_min_version && sn->tls_min_version < 0x0300)
        || sn->tls_min_version > sn->tls_version)
    {
        return "version of TLS";
    }

    if (sn->ech > 1) {
        return "encrypted_client_hello";
    }

    if ((sn->kind == INVALID) != (sn->error != NULL)) {
        return "error of a ClientHello";
    }

    return NULL;
}


/* a copy, whose host is in itself */

static void
unit_keep(ngx_tunnel_sniff_t *to, const ngx_tunnel_sniff_t *from)
{
    *to = *from;

    if (from->host.len) {
        to->host.data = to->name.buf + (from->host.data - from->name.buf);
    }
}


/*
 * All prefixes, or of a long input many, each as all that has come so far and
 * as all that will come.  Whatever the bytes are, what was said of some stays
 * so when more come; and nobody looks at more than there is.
 */

static void
unit_walk(unit_walk_t *w, const char *name, const void *data, size_t len)
{
    size_t               n;
    u_char              *p;
    ngx_int_t            rc, last, tls;
    ngx_uint_t           decided;
    const char          *err;
    ngx_tunnel_sniff_t   end, hello, first, *sn;

    sn = &w->sn;

    decided = 0;
    w->at = 0;

    p = unit_block(data, len);

    for (n = 0; /* void */ ; n++) {

        if (n < len) {
            ASAN_POISON_MEMORY_REGION(p + n, len - n);
        }

        memset(sn, 0xa5, sizeof(ngx_tunnel_sniff_t));
        memset(&end, 0xa5, sizeof(ngx_tunnel_sniff_t));
        memset(&hello, 0xa5, sizeof(ngx_tunnel_sniff_t));

        rc = ngx_tunnel_sniff(sn, p, n, 0);
        last = ngx_tunnel_sniff(&end, p, n, 1);
        tls = ngx_tunnel_sniff_tls(&hello, p, n);

        ASAN_UNPOISON_MEMORY_REGION(p, len);

        if (!unit_check(rc == NGX_OK || rc == NGX_AGAIN,
                        "%s: %ld for %lu bytes", name, rc, n)
            || !unit_check(last == NGX_OK, "%s: %ld for %lu bytes at the end",
                           name, last, n))
        {
            break;
        }

        err = unit_invalid(&end, n);
        unit_check(err == NULL, "%s: %lu bytes at the end: %s", name, n, err);

        if (rc == NGX_OK) {
            err = unit_invalid(sn, n);
            unit_check(err == NULL, "%s: %lu bytes: %s", name, n, err);

            unit_check(unit_same(sn, &end),
                       "%s: protocol %u for %lu bytes, and %u at the end",
                       name, sn->protocol, n, end.protocol);

            if (!decided) {
                decided = 1;
                unit_keep(&first, sn);
                w->at = n;
            }

        } else {

            /* the head of HTTP may have begun, but whole it is not */

            unit_check(end.protocol == (n ? UNKNOWN : NGX_TUNNEL_TIMEOUT)
                       || (end.protocol == NGX_TUNNEL_HTTP
                           && end.kind == NONE && end.error == NULL),
                       "%s: protocol %u of kind %u for %lu bytes that are not "
                       "enough", name, end.protocol, end.kind, n);
        }

        unit_check(!decided || (rc == NGX_OK && unit_same(sn, &first)),
                   "%s: protocol %u for %lu bytes, and %ld, %u for %lu",
                   name, first.protocol, w->at, rc, sn->protocol, n);

        switch (tls) {

        case NGX_OK:
            err = unit_invalid(&hello, n);
            unit_check(err == NULL && hello.protocol == NGX_TUNNEL_TLS
                       && rc == NGX_OK && unit_same(&hello, sn),
                       "%s: %lu bytes are TLS (%s), and %ld, %u",
                       name, n, err, rc, sn->protocol);
            break;

        case NGX_AGAIN:
            unit_check(rc == NGX_AGAIN && (n == 0 || p[0] == 0x16)
                       && end.protocol == (n ? UNKNOWN : NGX_TUNNEL_TIMEOUT),
                       "%s: %lu bytes may become TLS, and %ld, %u, %u",
                       name, n, rc, sn->protocol, end.protocol);
            break;

        default:
            unit_check(tls == NGX_DECLINED, "%s: %ld of TLS", name, tls);
            unit_check(n && end.protocol != NGX_TUNNEL_TLS
                       && (p[0] != 0x16
                           || (rc == NGX_OK && sn->protocol == UNKNOWN
                               && unit_same_error(sn, &hello))),
                       "%s: %lu bytes are not TLS, and %ld, %u: %s",
                       name, n, rc, sn->protocol, sn->error);

            /* all that begins with its type and length is meant as one */

            unit_check(hello.error ? strlen(hello.error) != 0
                                   : n == 0 || p[0] != 0x16 || n < 6
                                     || p[1] != 3 || p[2] > 4 || p[5] != 1,
                       "%s: %lu bytes are not TLS, but why", name, n);
        }

        if (n == len) {
            break;
        }

        /* all of the beginning and the end of a long one */

        if (len > 4096 && n > 300 && n < len - 300) {
            n += unit_random() % (len / 700);
            n = ngx_min(n, len - 300);
        }
    }

    unit_check(len == 0 || memcmp(p, data, len) == 0,
               "%s: the input was changed", name);

    free(p);

    w->undecided = (rc != NGX_OK);
    unit_keep(&w->end, &end);
}


/* the same with more behind it */

static void
unit_behind(unit_walk_t *w, const char *name, const void *data, size_t len)
{
    u_char              *p;
    ngx_int_t            rc, tls;
    ngx_uint_t           i, k, last;
    ngx_tunnel_sniff_t   sn;

    static const struct {
        const char  *data;
        size_t       len;
    } behind[] = {
        { unit_bytes("\0") },
        { unit_bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") },
        { unit_bytes("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0") },
        { unit_bytes("\r\n\r\n") },
        { unit_bytes("\x16\3\1\0\0") },
        { unit_bytes("\x17\3\3\0\1x") },
        { unit_bytes("\x14\3\3\0\1\1") },
        { unit_bytes("Host: other.example\r\n\r\n") },
        { unit_bytes("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n") },
        { NULL, 0 }
    };

    for (i = 0; i < unit_nelts(behind); i++) {

        k = behind[i].data ? behind[i].len : len;

        p = unit_block(NULL, len + k);
        memcpy(p, data, len);
        memcpy(p + len, behind[i].data ? behind[i].data : data, k);

        for (last = 0; last < 2; last++) {
            memset(&sn, 0xa5, sizeof(ngx_tunnel_sniff_t));
            rc = ngx_tunnel_sniff(&sn, p, len + k, last);

            unit_check(rc == NGX_OK && unit_same(&sn, &w->sn),
                       "%s: with \"%s\" behind it %ld, %u",
                       name, unit_text(p + len, ngx_min(k, 50)), rc,
                       sn.protocol);
        }

        if (w->sn.protocol == NGX_TUNNEL_TLS) {
            memset(&sn, 0xa5, sizeof(ngx_tunnel_sniff_t));
            tls = ngx_tunnel_sniff_tls(&sn, p, len + k);

            unit_check(tls == NGX_OK && unit_same(&sn, &w->sn),
                       "%s: with \"%s\" behind it %ld of TLS",
                       name, unit_text(p + len, ngx_min(k, 50)), tls);
        }

        free(p);
    }
}


static ngx_uint_t
unit_is_text(const u_char *data, size_t len, const char *text)
{
    text = text ? text : "";

    return unit_same_bytes(data, len, (const u_char *) text, strlen(text));
}


static void
unit_check_seen(const char *name, ngx_tunnel_sniff_t *sn,
    const unit_seen_t *seen)
{
    unit_check(sn->protocol == seen->protocol, "%s: protocol %u: %s", name,
               sn->protocol, sn->error);

    if (sn->protocol != seen->protocol) {
        return;
    }

    unit_check(sn->kind == seen->kind, "%s: host of kind %u: %s", name,
               sn->kind, sn->error);

    if (unit_has_host(sn)) {
        unit_check(unit_is_text(sn->host.data, sn->host.len, seen->host),
                   "%s: host \"%s\"", name,
                   unit_text(sn->host.data, sn->host.len));
    }

    unit_check(unit_is_text(sn->method, sn->method_len, seen->method),
               "%s: method \"%s\"", name,
               unit_text(sn->method, sn->method_len));

    unit_check(unit_is_text(sn->alpn, sn->alpn_len, seen->alpn),
               "%s: ALPN \"%s\"", name, unit_text(sn->alpn, sn->alpn_len));

    unit_check(sn->tls_version == seen->version
               && sn->tls_min_version == seen->min,
               "%s: versions %lx, %lx", name, sn->tls_version,
               sn->tls_min_version);

    unit_check(sn->ech == seen->ech, "%s: ech %lu", name, sn->ech);
}


/* an input that is something, which so many bytes tell, or that is nothing */

#define UNIT_ALL   ((size_t) -1)        /* no less than all of it */
#define UNIT_SOME  ((size_t) -2)        /* it does not matter how many */


static void
unit_decided(const char *name, const void *data, size_t len, size_t enough,
    const unit_seen_t *seen)
{
    unit_walk_t  w;

    unit_walk(&w, name, data, len);

    if (!unit_check(!w.undecided, "%s: not decided", name)) {
        return;
    }

    if (enough != UNIT_SOME) {
        unit_check(w.at == (enough == UNIT_ALL ? len : enough),
                   "%s: decided by %lu of %lu bytes", name, w.at, len);
    }

    unit_check_seen(name, &w.sn, seen);
    unit_behind(&w, name, data, len);
}


/* one that could become something, but does not */

static void
unit_cut(const char *name, const void *data, size_t len,
    const unit_seen_t *seen)
{
    unit_walk_t  w;

    unit_walk(&w, name, data, len);

    unit_check(w.undecided, "%s: decided by %lu bytes", name, w.at);
    unit_check_seen(name, &w.end, seen);
}


static const unit_seen_t  unit_seen_unknown = {
    UNKNOWN, NONE, NULL, NULL, NULL, 0, 0, 0
};


static unit_seen_t
unit_seen_http(const char *method, ngx_tunnel_host_e kind, const char *host)
{
    unit_seen_t  seen;

    seen = unit_seen_unknown;
    seen.protocol = NGX_TUNNEL_HTTP;
    seen.method = method;
    seen.kind = kind;
    seen.host = host;

    return seen;
}


/* one that is nothing, and one whose name is what it is */

static void
unit_unknown(const char *name, const void *data, size_t len)
{
    unit_decided(name, data, len, UNIT_SOME, &unit_seen_unknown);
}


static void
unit_decided_text(const void *data, size_t len, size_t enough,
    const unit_seen_t *seen)
{
    unit_decided(unit_text((u_char *) data, len), data, len, enough, seen);
}


static void
unit_hello_seen(const char *name, unit_buf_t *b, const unit_seen_t *seen)
{
    unit_buf_t  *r;

    r = unit_buf();
    unit_records(r, b, 16384);
    unit_decided(name, r->data, r->len,
                 seen->protocol == UNKNOWN ? UNIT_SOME : UNIT_ALL, seen);
    unit_buf_free(r);
}


/* none but TLS and HTTP */

#define UNIT_SIGNATURE  "\r\n\r\n\0\r\nQUIT\n"

#define UNIT_PREFACE    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


void
unit_sniff_protocols(void)
{
    size_t       i;
    char         name[32];
    unit_seen_t  seen;

    static const struct {
        ngx_tunnel_protocol_e  protocol;
        const char            *data;
        size_t                 len;
        size_t                 enough;
    } cases[] = {
        { NGX_TUNNEL_SSH, unit_bytes("SSH-2.0-OpenSSH_9.2p1\r\n"), 4 },
        { NGX_TUNNEL_SSH, unit_bytes("SSH-1.99-x\n"), 4 },
        { NGX_TUNNEL_SSH, unit_bytes("SSH-"), 4 },

        { NGX_TUNNEL_SOCKS5, unit_bytes("\5\1\0"), 2 },
        { NGX_TUNNEL_SOCKS5, unit_bytes("\5\2\0\2"), 2 },
        { NGX_TUNNEL_SOCKS5, unit_bytes("\5\xff"), 2 },
        { NGX_TUNNEL_SOCKS5, unit_bytes("\5\1\0\5\1\0\1\x7f\0\0\1\1\xbb"), 2 },

        { NGX_TUNNEL_SOCKS4, unit_bytes("\4\1\1\xbb\x7f\0\0\1\0"), 2 },
        { NGX_TUNNEL_SOCKS4, unit_bytes("\4\2\0\0\0\0\0\1u\0example.org\0"),
          2 },
        { NGX_TUNNEL_SOCKS4, unit_bytes("\4\1"), 2 },

        { NGX_TUNNEL_PROXY_PROTOCOL,
          unit_bytes("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), 11 },
        { NGX_TUNNEL_PROXY_PROTOCOL,
          unit_bytes("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"), 11 },
        { NGX_TUNNEL_PROXY_PROTOCOL, unit_bytes("PROXY UNKNOWN\r\n"), 13 },
        { NGX_TUNNEL_PROXY_PROTOCOL,
          unit_bytes("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), 13 },
        { NGX_TUNNEL_PROXY_PROTOCOL,
          unit_bytes("PROXY TCP4 HTTP/1.1\r\n\r\n"), 11 },
        { NGX_TUNNEL_PROXY_PROTOCOL, unit_bytes(UNIT_SIGNATURE), 12 },
        { NGX_TUNNEL_PROXY_PROTOCOL,
          unit_bytes(UNIT_SIGNATURE "\x21\x11\0\x0c\1\2\3\4\5\6\7\x08"
                     "\0\1\0\2"), 12 },
        { NGX_TUNNEL_PROXY_PROTOCOL,
          unit_bytes(UNIT_SIGNATURE "\x20\0\0\0"), 12 },

        { NGX_TUNNEL_HTTP2, unit_bytes(UNIT_PREFACE), 24 },
        { NGX_TUNNEL_HTTP2,
          unit_bytes(UNIT_PREFACE "\0\0\0\4\0\0\0\0\0"), 24 },

        /* TPKT, RFC 1006 6, and CR of X.224 13.3 */

        { NGX_TUNNEL_RDP,
          unit_bytes("\3\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\x0b\0\0\0"),
          UNIT_SOME },
        { NGX_TUNNEL_RDP, unit_bytes("\3\0\0\x0b\x06\xe0\0\0\0\0\0"),
          UNIT_SOME },
        { NGX_TUNNEL_RDP,
          unit_bytes("\3\0\0\x2c\x27\xe0\0\0\0\0\0"
                     "Cookie: mstshash=somebody\r\n\1\0\x08\0\0\0\0"),
          UNIT_SOME },

        /* a length, and a version or code */

        { NGX_TUNNEL_POSTGRESQL,
          unit_bytes("\0\0\0\x16\0\3\0\0user\0postgres\0\0"), 8 },
        { NGX_TUNNEL_POSTGRESQL,
          unit_bytes("\0\0\0\x16\0\3\0\2user\0postgres\0\0"), 8 },
        { NGX_TUNNEL_POSTGRESQL, unit_bytes("\0\0\0\x09\0\3\0\0\0"), 8 },
        { NGX_TUNNEL_POSTGRESQL, unit_bytes("\0\0\1\0\0\3\0\0user\0"), 8 },
        { NGX_TUNNEL_POSTGRESQL, unit_bytes("\0\0\x27\x10\0\3\0\0u"), 8 },
        { NGX_TUNNEL_POSTGRESQL, unit_bytes("\0\0\1\x0c\4\xd2\x16\x2e"), 8 },
        { NGX_TUNNEL_POSTGRESQL, unit_bytes("\0\0\0\x08\4\xd2\x16\x2f"), 8 },
        { NGX_TUNNEL_POSTGRESQL, unit_bytes("\0\0\0\x08\4\xd2\x16\x30"), 8 },
        { NGX_TUNNEL_POSTGRESQL,
          unit_bytes("\0\0\0\x10\4\xd2\x16\x2e\0\0\1\0\x12\x34\x56\x78"), 8 }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        sprintf(name, "case %lu", i);
        seen = unit_seen_unknown;
        seen.protocol = cases[i].protocol;

        unit_decided(name, cases[i].data, cases[i].len, cases[i].enough,
                     &seen);
    }
}


void
unit_sniff_protocol_names(void)
{
    ngx_uint_t        i;
    const ngx_str_t  *name;

    static const char *const  names[] = {
        [NGX_TUNNEL_UNKNOWN] = "unknown",
        [NGX_TUNNEL_TIMEOUT] = "timeout",
        [NGX_TUNNEL_TLS] = "tls",
        [NGX_TUNNEL_SSLV2] = "sslv2",
        [NGX_TUNNEL_HTTP] = "http",
        [NGX_TUNNEL_HTTP2] = "http2",
        [NGX_TUNNEL_SSH] = "ssh",
        [NGX_TUNNEL_SOCKS4] = "socks4",
        [NGX_TUNNEL_SOCKS5] = "socks5",
        [NGX_TUNNEL_PROXY_PROTOCOL] = "proxy_protocol",
        [NGX_TUNNEL_RDP] = "rdp",
        [NGX_TUNNEL_POSTGRESQL] = "postgresql"
    };

    for (i = 0; i < unit_nelts(names); i++) {
        name = ngx_tunnel_protocol(i);

        unit_check(name->len == strlen(names[i])
                   && memcmp(name->data, names[i], name->len) == 0,
                   "\"%s\" instead of \"%s\"",
                   unit_text(name->data, name->len), names[i]);
    }
}


void
unit_sniff_alerts(void)
{
    u_char      *buf;
    ngx_uint_t   i;

    buf = unit_block(NULL, NGX_TUNNEL_ALERT_LEN);

    for (i = 0; i < 256; i++) {
        memset(buf, 0xa5, NGX_TUNNEL_ALERT_LEN);

        unit_check(ngx_tunnel_alert(buf, i) == buf
                   && memcmp(buf, "\x15\3\3\0\2\2", 6) == 0 && buf[6] == i,
                   "alert %lu: \"%s\"", i,
                   unit_text(buf, NGX_TUNNEL_ALERT_LEN));
    }

    unit_check(NGX_TUNNEL_ALERT_LEN == 7 && NGX_TUNNEL_INTERNAL_ERROR == 80
               && NGX_TUNNEL_UNRECOGNIZED_NAME == 112, "numbers of alerts");

    free(buf);
}


/* what is nothing, and is told to be so as it is */

void
unit_sniff_near_misses(void)
{
    size_t       i;
    char         name[32];

    static const struct {
        const char  *data;
        size_t       len;
    } cases[] = {
        { unit_bytes("SSH2") },
        { unit_bytes("SSh-2.0") },
        { unit_bytes("ssh-2.0-OpenSSH\r\n") },
        { unit_bytes(" SSH-2.0-OpenSSH\r\n") },
        { unit_bytes("SSH 2.0\r\n") },

        { unit_bytes("\5\0") },
        { unit_bytes("\4\0") },
        { unit_bytes("\4\3\0\x50\1\2\3\4\0") },
        { unit_bytes("\4\xff") },
        { unit_bytes("\6\1\0") },
        { unit_bytes("\1\1") },
        { unit_bytes("\2\1") },

        { unit_bytes("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n") },
        { unit_bytes("PROXY TCP4\r\n") },
        { unit_bytes("PROXY\r\n") },
        { unit_bytes("PROXY  TCP4 1.2.3.4 ") },
        { unit_bytes("PROXY UNKNOWM\r\n") },
        { unit_bytes("PROXY unknown\r\n") },
        { unit_bytes("PROXy TCP4 ") },
        { unit_bytes("\r\n\r\n\0\r\nQUIT\r") },
        { unit_bytes("\r\n\r\n\0\r\nQUIt") },
        { unit_bytes("\r\n\r\n\1") },

        { unit_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r") },
        { unit_bytes("PRI * HTTP/2.0\r\n\r\nSN") },
        { unit_bytes("PRI * HTTP/2.0\r\n\r\n\r") },
        { unit_bytes("PRI * HTTP/2.0\r\n\n") },
        { unit_bytes("PRI * HTTP/2.1\r\n") },
        { unit_bytes("PRI * HTTP/3.0\r\n") },
        { unit_bytes("PRI  * HTTP/2.0\r\n") },

        { unit_bytes("\2\0\0\x0b\x06\xe0\0\0\0\0\0") },
        { unit_bytes("\3\0\0\x0b\x06\xd0\0\0\0\0\0") },
        { unit_bytes("\3\0\0\x0b\x02\xf0\x80\0\0\0\0") },
        { unit_bytes("\3\0\0\x0b\x07\xe0\0\0\0\0\0") },
        { unit_bytes("\3\0\0\6\1\xe0\0\0\0\0\0") },
        { unit_bytes("\3\0\0\0\6\xe0\0\0\0\0\0") },
        { unit_bytes("\3\0\0\x0a\5\xe0\0\0\0\0\0") },
        { unit_bytes("\3\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1") },

        { unit_bytes("\0\0\0\x08\4\xd2\x16\x2d") },
        { unit_bytes("\0\0\0\x08\4\xd2\x16\x31") },
        { unit_bytes("\0\0\0\x09\4\xd2\x16\x2f") },
        { unit_bytes("\0\0\0\x07\4\xd2\x16\x2f") },
        { unit_bytes("\0\0\0\x09\4\xd2\x16\x30") },
        { unit_bytes("\0\0\0\x08\4\xd2\x16\x2e") },
        { unit_bytes("\0\0\0\x07\0\3\0\0") },
        { unit_bytes("\0\0\0\x08\0\3\0\0") },
        { unit_bytes("\0\0\x27\x11\0\3\0\0") },
        { unit_bytes("\0\0\1\x08\4\xd2\x16\x2f") },
        { unit_bytes("\0\0\0\x0f\4\xd2\x16\x2e") },
        { unit_bytes("\0\0\0\0\0\3\0\0") },
        { unit_bytes("\0\0\0\x16\0\2\0\0user") },
        { unit_bytes("\0\0\0\x16\0\4\0\0user") },
        { unit_bytes("\0\0\0\x16\1\3\0\0user") },
        { unit_bytes("\1\0\0\x16\0\3\0\0user") },
        { unit_bytes("\0\1\0\x16\0\3\0\0user") },
        { unit_bytes("\0\0\0\0\0\0\0\0") },

        /* another record, version or handshake */

        { unit_bytes("\x17\3\3\0\1\0") },
        { unit_bytes("\x15\3\3\0\2\1\0") },
        { unit_bytes("\x14\3\3\0\1\1") },
        { unit_bytes("\x16\2\0\0\4\1\0\0\0") },
        { unit_bytes("\x16\4\0\0\4\1\0\0\0") },
        { unit_bytes("\x16\xfe\xff\0\4\1\0\0\0") },
        { unit_bytes("\x16\3\1\0\0") },
        { unit_bytes("\x16\3\1\0\4\2\0\0\0") },
        { unit_bytes("\x16\3\1\0\4\0\0\0\0") },
        { unit_bytes("\x16\3\1\0\4\1\0\0\0") },
        { unit_bytes("\x16\3\1\x40\1\1") },
        { unit_bytes("\x16\3\1\x48\0\1") },
        { unit_bytes("\x16\3\1\xff\xff\1") },

        /* server-first ones, and text */

        { unit_bytes("\n") },
        { unit_bytes("EHLO example.org\r\n") },
        { unit_bytes("HELO\r\n") },
        { unit_bytes("a001 CAPABILITY\r\n") },
        { unit_bytes("{\"id\":1}\n") },
        { unit_bytes("\x10\x1d\0\4MQTT\4\2\0\x3c\0\x11") },
        { unit_bytes("\x13" "BitTorrent protocol") },
        { unit_bytes("*1\r\n$4\r\nPING\r\n") },
        { unit_bytes("\x1f\x8b\x08\0") },
        { unit_bytes("\x7f") },
        { unit_bytes("\xff\xfb\x18\xff\xfb") }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        sprintf(name, "case %lu", i);
        unit_unknown(name, cases[i].data, cases[i].len);
    }
}


/* bytes of which the last one tells that they are nothing */

void
unit_sniff_early(void)
{
    size_t  i;

    static const struct {
        const char  *data;
        size_t       len;
    } cases[] = {
        { unit_bytes("\1") }, { unit_bytes("\2") }, { unit_bytes("\6") },
        { unit_bytes(" ") }, { unit_bytes("\n") }, { unit_bytes("a") },
        { unit_bytes("{") }, { unit_bytes("\x7f") },
        { unit_bytes("\r\r") }, { unit_bytes("\r\n\r\n\0\r\nQUIT\r") },
        { unit_bytes("\4\0") }, { unit_bytes("\4\3") }, { unit_bytes("\5\0") },
        { unit_bytes("\3\1") }, { unit_bytes("\3\0\0\x0b\6\xd0") },
        { unit_bytes("\3\0\0\x0b\7\xe0") },
        { unit_bytes("\0\1") }, { unit_bytes("\0\0\0\x08\0\4\0\0") },
        { unit_bytes("\x16\2") }, { unit_bytes("\x16\3\5") },
        { unit_bytes("\x16\3\1\0\0") }, { unit_bytes("\x16\3\1\x40\1") },
        { unit_bytes("\x16\3\1\0\1\2") },
        { unit_bytes("\x16\3\1\0\1\1\x17") },
        { unit_bytes("\x16\3\1\0\1\1\x16\3\1\0\0") },
        { unit_bytes("\x16\3\1\0\4\1\0\0\0") },
        { unit_bytes("\xff\xff\2") }, { unit_bytes("\x80\x1c\1\1") },
        { unit_bytes("\x80\x1c\1\0\3") }, { unit_bytes("\x80\x1c\1\3\5") },
        { unit_bytes("\x80\x1c\1\3\1\0\3\0\0\0\x11") },
        { unit_bytes("SSH1") }, { unit_bytes("GEt") }, { unit_bytes("GET\t") },
        { unit_bytes("GET\r") }, { unit_bytes("GET\n") },
        { unit_bytes("GET  ") }, { unit_bytes("GET /\r") },
        { unit_bytes("GET / h") }, { unit_bytes("GET / HTTPS") },
        { unit_bytes("GET / HTTP/2") }, { unit_bytes("GET / HTTP/1.x") },
        { unit_bytes("GET / HTTP/1.10") }, { unit_bytes("GET / HTTP/1.1 ") },
        { unit_bytes("GET / HTTP/1.1\r\r") }, { unit_bytes("PRI * HTTP/2.1") },
        { unit_bytes("PRI * HTTP/2.0\n") },
        { unit_bytes("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_ABCDE") }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        unit_decided_text(cases[i].data, cases[i].len, UNIT_ALL,
                          &unit_seen_unknown);
    }
}


/* what may become something */

void
unit_sniff_beginnings(void)
{
    size_t       i;
    unit_seen_t  seen;

    static const struct {
        const char  *data;
        size_t       len;
    } cases[] = {
        { unit_bytes("SSH") },
        { unit_bytes("\5") },
        { unit_bytes("\4") },
        { unit_bytes("PROXY TCP4") },
        { unit_bytes("PROXY UNKNOW") },
        { unit_bytes("\r") },
        { unit_bytes("\r\n\r\n\0\r\nQUIT") },
        { unit_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r") },
        { unit_bytes("\3\0\0\x0b\x06") },
        { unit_bytes("\0\0\0\x08\4\xd2\x16") },
        { unit_bytes("\0\0\0\x09\0\3\0") },
        { unit_bytes("\x16") },
        { unit_bytes("\x16\3\1\0\xff\1\0\0\xfb\3\3") },
        { unit_bytes("\x16\3\1\0\1\1") },
        { unit_bytes("\x16\3\1\0\1\1\x16\3\1\0\1\0") },
        { unit_bytes("\x80") },
        { unit_bytes("\x80\x2e\1\0\2\0\x15\0\0\0") },
        { unit_bytes("G") },
        { unit_bytes("GET ") },
        { unit_bytes("GET /") },
        { unit_bytes("GET / HTTP/1.1") }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        unit_cut(unit_text((u_char *) cases[i].data, cases[i].len),
                 cases[i].data, cases[i].len, &unit_seen_unknown);
    }

    seen = unit_seen_unknown;
    seen.protocol = NGX_TUNNEL_TIMEOUT;
    unit_cut("nothing", "", 0, &seen);

    /* a request line that is whole, and names nobody */

    seen = unit_seen_http("GET", NONE, NULL);

    unit_cut("request line", unit_bytes("GET / HTTP/1.1\r\n"), &seen);
    unit_cut("request line, LF", unit_bytes("GET / HTTP/1.0\n"), &seen);
    unit_cut("asterisk form", unit_bytes("GET * HTTP/1.0\n"), &seen);
    unit_cut("half of a head",
             unit_bytes("GET / HTTP/1.1\r\nHost: example.org\r\n"), &seen);
    unit_cut("most of a head",
             unit_bytes("GET / HTTP/1.1\r\nHost: example.org\r\n\r"), &seen);
    unit_cut("absolute form",
             unit_bytes("GET http://example.org/ HTTP/1.1\r\n"), &seen);
    unit_cut("absolute form, half of a head",
             unit_bytes("GET http://example.org/ HTTP/1.1\r\n"
                        "Host: example.org\r\n"), &seen);
}


/* ClientHellos */


#define UNIT_VERSIONS_USUAL  unit_bytes("\3\4\3\3")

static const unit_seen_t  unit_seen_usual = {
    NGX_TUNNEL_TLS, NAME, "example.org", NULL, "h2,http/1.1", 0x0304, 0x0303, 0
};


static void
unit_offers_usual(unit_buf_t *b)
{
    unit_alpn(b, unit_bytes("\2h2\x08http/1.1"));
    unit_versions(b, UNIT_VERSIONS_USUAL);
}


/* one as browsers send it; the extensions begin with number first */

static void
unit_hello_browser(unit_buf_t *b, ngx_uint_t first, size_t key_share,
    size_t ech)
{
    ngx_uint_t    i, at, list;
    unit_hello_t  h;

    unit_hello_usual(b, &h);

    for (i = 0; i < 12; i++) {

        switch ((first + i) % 12) {

        case 0:
            unit_extension(b, 0x0a0a, NULL, 0);
            break;

        case 1:
            unit_server_name(b, unit_bytes("example.org"));
            break;

        case 2:
            unit_extension(b, 23, NULL, 0);
            break;

        case 3:
            unit_extension(b, 0xff01, unit_bytes("\0"));
            break;

        case 4:
            unit_extension(b, 10, unit_bytes("\0\x08\x5a\x5a\x11\xec\0\x1d"
                                             "\0\x17"));
            break;

        case 5:
            unit_alpn(b, unit_bytes("\2h2\x08http/1.1"));
            break;

        case 6:
            unit_put_number(b, 2, UNIT_KEY_SHARE);
            at = unit_open(b, 2, "extension");
            list = b->len;
            unit_put_number(b, 2, 0);
            unit_put(b, "\x5a\x5a\0\1\0\x11\xec", 7);
            unit_put_number(b, 2, key_share);
            unit_put_run(b, 0x16, key_share);
            unit_write_number(b->data + list, 2, b->len - list - 2);
            unit_close(b, at, 2);
            break;

        case 7:
            unit_versions(b, unit_bytes("\x6a\x6a\3\4\3\3"));
            break;

        case 8:
            unit_extension(b, 27, unit_bytes("\2\0\2"));
            break;

        case 9:
            if (ech) {
                unit_extension_run(b, UNIT_ECH, 0, ech);
            }

            break;

        case 10:
            unit_extension(b, 0x1a1a, unit_bytes("\0"));
            break;

        default:
            unit_extension_run(b, 21, 0, 40);
            break;
        }
    }

    unit_hello_end(b, &h);
}


void
unit_sniff_hellos(void)
{
    char           name[64];
    unit_buf_t    *b;
    ngx_uint_t     i, k;
    unit_seen_t    seen;
    unit_hello_t   h;

    static const size_t  shares[] = { 32, 1216, 1217, 1300, 4000 };
    static const size_t  echs[] = { 0, 1, 186, 250 };

    b = unit_buf();

    /* in each order, so that each is the first and the last one */

    for (i = 0; i < 12; i++) {
        for (k = 0; k < 4; k++) {
            sprintf(name, "order %lu, key share of %lu, ECH of %lu", i,
                    shares[k], echs[k]);

            seen = unit_seen_usual;
            seen.ech = (echs[k] != 0);

            unit_hello_browser(b, i, shares[k], echs[k]);
            unit_hello_seen(name, b, &seen);
        }
    }

    unit_hello_browser(b, 0, shares[4], echs[0]);
    unit_hello_seen("long key share", b, &unit_seen_usual);

    /* as little as there can be */

    unit_hello(b, &h, 0x0301, 0, 1, 1);
    unit_hello_end(b, &h);

    seen = unit_seen_unknown;
    seen.protocol = NGX_TUNNEL_TLS;
    seen.version = 0x0301;
    unit_hello_seen("no extensions", b, &seen);

    unit_hello(b, &h, 0x0301, 0, 1, 1);
    unit_hello_extensions(b, &h);
    unit_hello_end(b, &h);
    unit_hello_seen("an empty list of extensions", b, &seen);

    unit_hello(b, &h, 0x0301, 32, 1, 255);
    unit_hello_extensions(b, &h);
    unit_extension(b, 0xffff, NULL, 0);
    unit_hello_end(b, &h);
    unit_hello_seen("one extension", b, &seen);

    /* ECH alone */

    unit_hello_usual(b, &h);
    unit_extension(b, UNIT_ECH, NULL, 0);
    unit_hello_end(b, &h);

    seen.version = 0x0303;
    seen.ech = 1;
    unit_hello_seen("ECH", b, &seen);

    unit_hello_usual(b, &h);
    unit_extension(b, UNIT_ECH - 1, NULL, 0);
    unit_extension(b, UNIT_ECH + 1, NULL, 0);
    unit_hello_end(b, &h);

    seen.ech = 0;
    unit_hello_seen("near ECH", b, &seen);

    /* fields before the extensions */

    for (i = 0; i <= 255; i++) {
        unit_hello(b, &h, 0x0303, i, 1, 1);
        unit_hello_end(b, &h);

        sprintf(name, "session id of %lu", i);
        unit_hello_seen(name, b, i <= 32 ? &seen : &unit_seen_unknown);
    }

    unit_hello(b, &h, 0x0303, 0, 0, 1);
    unit_hello_end(b, &h);
    unit_hello_seen("no cipher suites", b, &unit_seen_unknown);

    unit_hello(b, &h, 0x0303, 0, 1, 0);
    unit_hello_end(b, &h);
    unit_hello_seen("no compression methods", b, &unit_seen_unknown);

    unit_hello(b, &h, 0x0303, 0, 7000, 1);
    unit_hello_extensions(b, &h);
    unit_server_name(b, unit_bytes("example.org"));
    unit_hello_end(b, &h);

    seen.kind = NAME;
    seen.host = "example.org";
    unit_hello_seen("7000 cipher suites", b, &seen);

    unit_buf_free(b);
}


/* server_name */

#define UNIT_63   "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrst" \
                  "uvwxy2"
#define UNIT_253  UNIT_63 "." UNIT_63 "." UNIT_63 "."                         \
                  "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrst" \
                  "uvwx"


static void
unit_name_is(const char *text, size_t len, ngx_tunnel_host_e kind,
    const char *host)
{
    unit_buf_t    *b;
    unit_seen_t    seen;
    unit_hello_t   h;

    b = unit_buf();

    unit_hello_usual(b, &h);
    unit_server_name(b, text, len);
    unit_offers_usual(b);
    unit_hello_end(b, &h);

    seen = unit_seen_usual;
    seen.kind = kind;
    seen.host = host;

    unit_hello_seen(unit_text((u_char *) text, ngx_min(len, 300)), b, &seen);

    unit_buf_free(b);
}


void
unit_sniff_names(void)
{
    char    text[32];
    size_t  i;
    u_char *run;

    static const struct {
        const char         *text;
        size_t              len;
        ngx_tunnel_host_e   kind;
        const char         *host;
    } cases[] = {
        { unit_bytes("example.org"), NAME, "example.org" },
        { unit_bytes("EXAMPLE.Org"), NAME, "example.org" },
        { unit_bytes("example.org."), NAME, "example.org" },
        { unit_bytes("EXAMPLE.ORG."), NAME, "example.org" },
        { unit_bytes("a"), NAME, "a" },
        { unit_bytes("localhost"), NAME, "localhost" },
        { unit_bytes("_a-b._tcp.x-"), NAME, "_a-b._tcp.x-" },
        { unit_bytes("XN--Bcher-kva.example"), NAME, "xn--bcher-kva.example" },
        { unit_bytes("1.2.3.4.example"), NAME, "1.2.3.4.example" },
        { unit_bytes("1.2.3.4a"), NAME, "1.2.3.4a" },
        { unit_bytes(UNIT_63), NAME, UNIT_63 },
        { unit_bytes(UNIT_63 ".b"), NAME, UNIT_63 ".b" },
        { unit_bytes(UNIT_253), NAME, UNIT_253 },
        { unit_bytes(UNIT_253 "."), NAME, UNIT_253 },

        { unit_bytes(UNIT_63 "x"), INVALID, NULL },
        { unit_bytes("b." UNIT_63 "x.c"), INVALID, NULL },
        { unit_bytes(UNIT_253 "x"), INVALID, NULL },
        { unit_bytes(UNIT_253 ".."), INVALID, NULL },
        { unit_bytes(UNIT_253 "x."), INVALID, NULL },
        { unit_bytes(""), INVALID, NULL },
        { unit_bytes("."), INVALID, NULL },
        { unit_bytes(".."), INVALID, NULL },
        { unit_bytes(".example.org"), INVALID, NULL },
        { unit_bytes("example..org"), INVALID, NULL },
        { unit_bytes("example.org.."), INVALID, NULL },
        { unit_bytes("*.example.org"), INVALID, NULL },
        { unit_bytes("example.org:443"), INVALID, NULL },
        { unit_bytes("example.org "), INVALID, NULL },
        { unit_bytes(" example.org"), INVALID, NULL },
        { unit_bytes("example org"), INVALID, NULL },
        { unit_bytes("example.org\n"), INVALID, NULL },
        { unit_bytes("example.org\0"), INVALID, NULL },
        { unit_bytes("example.org\0.evil.example"), INVALID, NULL },
        { unit_bytes("\0"), INVALID, NULL },
        { unit_bytes("\0example.org"), INVALID, NULL },
        { unit_bytes("example\0.org"), INVALID, NULL },
        { unit_bytes("b\xc3\xbc" "cher.example"), INVALID, NULL },
        { unit_bytes("http://example.org/"), INVALID, NULL },
        { unit_bytes("user@example.org"), INVALID, NULL },
        { unit_bytes("ex%61mple.org"), INVALID, NULL },

        /* RFC 6066 3 forbids addresses */

        { unit_bytes("192.0.2.1"), ADDRESS, "192.0.2.1" },
        { unit_bytes("192.0.2.1."), ADDRESS, "192.0.2.1" },
        { unit_bytes("0.0.0.0"), ADDRESS, "0.0.0.0" },
        { unit_bytes("255.255.255.255"), ADDRESS, "255.255.255.255" },
        { unit_bytes("::1"), ADDRESS, "[::1]" },
        { unit_bytes("::"), ADDRESS, "[::]" },
        { unit_bytes("2001:DB8:0:0:1::1"), ADDRESS, "[2001:db8::1:0:0:1]" },
        { unit_bytes("::ffff:192.0.2.1"), ADDRESS, "192.0.2.1" },
        { unit_bytes("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"),
          ADDRESS, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]" },
        { unit_bytes("1.2.3"), INVALID, NULL },
        { unit_bytes("127.1"), INVALID, NULL },
        { unit_bytes("2130706433"), INVALID, NULL },
        { unit_bytes("0x7f000001"), INVALID, NULL },
        { unit_bytes("192.0.2.01"), INVALID, NULL },
        { unit_bytes("192.0.2.256"), INVALID, NULL },
        { unit_bytes("192.0.2.1:443"), INVALID, NULL },
        { unit_bytes("example.1"), INVALID, NULL },
        { unit_bytes(":"), INVALID, NULL },
        { unit_bytes(":::"), INVALID, NULL },
        { unit_bytes("::1."), INVALID, NULL },
        { unit_bytes("::1\0"), INVALID, NULL },
        { unit_bytes("fe80::1%lo"), INVALID, NULL },
        { unit_bytes("[]"), INVALID, NULL },
        { unit_bytes("["), INVALID, NULL },
        { unit_bytes("]"), INVALID, NULL },
        { unit_bytes("[::1"), INVALID, NULL },
        { unit_bytes("[example.org]"), INVALID, NULL },
        { unit_bytes("[::1]:443"), INVALID, NULL }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        unit_name_is(cases[i].text, cases[i].len, cases[i].kind,
                     cases[i].host);
    }

    /* every byte in a name */

    for (i = 0; i < 256; i++) {
        memcpy(text, "ex?mple.org", 11);
        text[2] = i;

        if (isalnum(i) || i == '-' || i == '_' || i == '.') {
            char  lower[32];

            memcpy(lower, text, 12);
            lower[2] = tolower(i);
            lower[11] = '\0';

            unit_name_is(text, 11, NAME, lower);

        } else {
            unit_name_is(text, 11, INVALID, NULL);
        }
    }

    /* far too long */

    run = unit_block(NULL, 16000);
    memset(run, 'a', 16000);
    unit_name_is((char *) run, 16000, INVALID, NULL);
    unit_name_is((char *) run, 256, INVALID, NULL);
    free(run);
}


/* server_name as its bytes are */

void
unit_sniff_name_lists(void)
{
    size_t         i;
    char           name[64];
    unit_buf_t    *b;
    unit_seen_t    seen;
    unit_hello_t   h;

    static const struct {
        const char             *data;
        size_t                  len;
        ngx_tunnel_protocol_e   protocol;
        ngx_tunnel_host_e       kind;
    } cases[] = {
        { unit_bytes("\0\4\0\0\1a"), NGX_TUNNEL_TLS, NAME },

        /* lengths that do not add up, as anywhere */

        { unit_bytes(""), UNKNOWN, NONE },
        { unit_bytes("\0"), UNKNOWN, NONE },
        { unit_bytes("\0\0"), UNKNOWN, NONE },
        { unit_bytes("\0\1\0"), UNKNOWN, NONE },
        { unit_bytes("\0\2\0\0"), UNKNOWN, NONE },
        { unit_bytes("\0\3\0\0\1a"), UNKNOWN, NONE },
        { unit_bytes("\0\5\0\0\1a"), UNKNOWN, NONE },
        { unit_bytes("\0\4\0\0\2a"), UNKNOWN, NONE },
        { unit_bytes("\0\4\0\1\1a"), UNKNOWN, NONE },
        { unit_bytes("\1\4\0\0\1a"), UNKNOWN, NONE },
        { unit_bytes("\xff\xff\0\0\1a"), UNKNOWN, NONE },
        { unit_bytes("\0\4\0\xff\xff" "a"), UNKNOWN, NONE },
        { unit_bytes("\0\4\0\0\1a\0"), UNKNOWN, NONE },
        { unit_bytes("\0\5\0\0\1a\0"), UNKNOWN, NONE },
        { unit_bytes("\0\4\0\0\1a\0\0\1b"), UNKNOWN, NONE },

        /* an empty name, other types, and several */

        { unit_bytes("\0\3\0\0\0"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\4\0\0\0a"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\4\1\0\1a"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\4\xff\0\1a"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\x08\0\0\1a\0\0\1b"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\x08\0\0\1a\0\0\1a"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\x08\0\0\1a\1\0\1b"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\x08\1\0\1b\0\0\1a"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\7\0\0\0\0\0\1a"), NGX_TUNNEL_TLS, INVALID },
        { unit_bytes("\0\7\0\0\1a\0\0\0"), NGX_TUNNEL_TLS, INVALID }
    };

    b = unit_buf();

    for (i = 0; i < unit_nelts(cases); i++) {
        sprintf(name, "list %lu", i);

        seen = cases[i].protocol ? unit_seen_usual : unit_seen_unknown;
        seen.kind = cases[i].kind;
        seen.host = "a";

        /* as the first one, and as the last one */

        unit_hello_usual(b, &h);
        unit_extension(b, UNIT_SERVER_NAME, cases[i].data, cases[i].len);
        unit_offers_usual(b);
        unit_hello_end(b, &h);
        unit_hello_seen(name, b, &seen);

        unit_hello_usual(b, &h);
        unit_offers_usual(b);
        unit_extension(b, UNIT_SERVER_NAME, cases[i].data, cases[i].len);
        unit_hello_end(b, &h);
        unit_hello_seen(name, b, &seen);
    }

    unit_buf_free(b);
}


/* which versions are offered */

void
unit_sniff_versions(void)
{
    char           name[64];
    size_t         i;
    unit_buf_t    *b;
    unit_seen_t    seen;
    unit_hello_t   h;

    static const struct {
        ngx_uint_t   legacy;
        const char  *data;
        size_t       len;
        ngx_uint_t   version;
        ngx_uint_t   min;
    } cases[] = {
        { 0x0300, NULL, 0, 0x0300, 0 },
        { 0x0301, NULL, 0, 0x0301, 0 },
        { 0x0302, NULL, 0, 0x0302, 0 },
        { 0x0303, NULL, 0, 0x0303, 0 },

        /* without the extension it is never more, RFC 8446 4.2.1 */

        { 0x0304, NULL, 0, 0x0303, 0 },
        { 0x03ff, NULL, 0, 0x0303, 0 },

        { 0x0303, unit_bytes("\3\4\3\3"), 0x0304, 0x0303 },
        { 0x0303, unit_bytes("\3\3\3\4"), 0x0304, 0x0303 },
        { 0x0303, unit_bytes("\3\4"), 0x0304, 0x0304 },
        { 0x0303, unit_bytes("\3\4\3\3\3\2\3\1"), 0x0304, 0x0301 },
        { 0x0303, unit_bytes("\3\1\3\2\3\3\3\4"), 0x0304, 0x0301 },
        { 0x0303, unit_bytes("\3\2\3\4\3\0\3\3"), 0x0304, 0x0300 },
        { 0x0303, unit_bytes("\3\3"), 0x0303, 0x0303 },
        { 0x0301, unit_bytes("\3\4"), 0x0304, 0x0304 },
        { 0x0303, unit_bytes("\3\1"), 0x0301, 0x0301 },

        /* GREASE, drafts, what is to come, DTLS */

        { 0x0303, unit_bytes("\x0a\x0a\3\4\3\3"), 0x0304, 0x0303 },
        { 0x0303, unit_bytes("\3\4\xfa\xfa\3\3"), 0x0304, 0x0303 },
        { 0x0303, unit_bytes("\3\4\3\3\x5a\x5a"), 0x0304, 0x0303 },
        { 0x0303, unit_bytes("\x7f\x1c\3\3"), 0x0303, 0x0303 },
        { 0x0303, unit_bytes("\3\5\3\4"), 0x0304, 0x0304 },
        { 0x0303, unit_bytes("\2\xff\3\4"), 0x0304, 0x0304 },
        { 0x0303, unit_bytes("\0\2\3\4"), 0x0304, 0x0304 },
        { 0x0303, unit_bytes("\xfe\xfd\3\3"), 0x0303, 0x0303 },
        { 0x0303, unit_bytes("\3\xff"), 0, 0 },
        { 0x0303, unit_bytes("\x1a\x1a"), 0, 0 }
    };

    b = unit_buf();

    for (i = 0; i < unit_nelts(cases); i++) {
        sprintf(name, "case %lu", i);

        unit_hello(b, &h, cases[i].legacy, 32, 4, 1);
        unit_hello_extensions(b, &h);
        unit_server_name(b, "a", 1);

        if (cases[i].data) {
            unit_versions(b, cases[i].data, cases[i].len);
        }

        unit_hello_end(b, &h);

        seen = unit_seen_unknown;
        seen.protocol = NGX_TUNNEL_TLS;
        seen.kind = NAME;
        seen.host = "a";
        seen.version = cases[i].version;
        seen.min = cases[i].min;

        unit_hello_seen(name, b, &seen);
    }

    /* as many as there can be */

    unit_hello_usual(b, &h);
    unit_versions(b, "\3\4", 2);
    b->len -= 2;

    for (i = 0; i < 127; i++) {
        unit_put_number(b, 2, i == 100 ? 0x0302 : i == 120 ? 0x0303 : 0x0505);
    }

    unit_write_number(b->data + h.extensions + 2, 2, 255);
    unit_write_number(b->data + h.extensions + 4, 1, 254);
    unit_hello_end(b, &h);

    seen.kind = NONE;
    seen.version = 0x0303;
    seen.min = 0x0302;
    unit_hello_seen("127 versions", b, &seen);

    unit_buf_free(b);
}


/* which protocols are offered */

static void
unit_alpn_is(const char *name, const void *list, size_t len, const char *text)
{
    unit_buf_t    *b;
    unit_seen_t    seen;
    unit_hello_t   h;

    b = unit_buf();

    unit_hello_usual(b, &h);
    unit_server_name(b, unit_bytes("example.org"));
    unit_alpn(b, list, len);
    unit_versions(b, UNIT_VERSIONS_USUAL);
    unit_hello_end(b, &h);

    seen = unit_seen_usual;
    seen.alpn = text;

    unit_hello_seen(name, b, &seen);

    unit_buf_free(b);
}


void
unit_sniff_alpn(void)
{
    char         list[1024], text[1024];
    size_t       i, len, n;
    ngx_uint_t   k, count;

    static const struct {
        const char  *data;
        size_t       len;
        const char  *text;
    } cases[] = {
        { unit_bytes("\2h2"), "h2" },
        { unit_bytes("\2h2\x08http/1.1"), "h2,http/1.1" },
        { unit_bytes("\x08http/1.1\2h2"), "http/1.1,h2" },
        { unit_bytes("\1a\1b\1c\1d"), "a,b,c,d" },
        { unit_bytes("\2h2\2h2"), "h2,h2" },
        { unit_bytes("\x0a" "acme-tls/1"), "acme-tls/1" },
        { unit_bytes("\2\x0a\x0a\2h2"), "%0A%0A,h2" },
        { unit_bytes("\3a,b"), "a%2Cb" },
        { unit_bytes("\3a%b"), "a%25b" },
        { unit_bytes("\1,\1,"), "%2C,%2C" },
        { unit_bytes("\1\0"), "%00" },
        { unit_bytes("\4\x1f\x7f\x80\xff"), "%1F%7F%80%FF" },
        { unit_bytes("\3!\"~"), "!\"~" }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        unit_alpn_is(cases[i].text, cases[i].data, cases[i].len,
                     cases[i].text);
    }

    /* every byte */

    for (i = 0; i < 256; i++) {
        list[0] = 3;
        list[1] = 'x';
        list[2] = i;
        list[3] = 'y';

        sprintf(text, i <= ' ' || i > 0x7e || i == ',' || i == '%'
                      ? "x%%%02Xy" : "x%cy", (int) i);

        unit_alpn_is(text, list, 4, text);
    }

    /* one of the longest, plain, and encoded */

    list[0] = (char) 255;
    memset(list + 1, 'a', 255);
    memset(text, 'a', 255);
    text[255] = '\0';
    unit_alpn_is("one of 255", list, 256, text);

    list[0] = 85;
    memset(list + 1, 1, 85);

    for (i = 0; i < 85; i++) {
        strcpy(text + 3 * i, "%01");
    }

    unit_alpn_is("85 encoded bytes", list, 86, text);

    list[0] = 86;
    memset(list + 1, 1, 86);
    unit_alpn_is("86 encoded bytes", list, 87, "");

    /* one with no room behind, and room for one byte */

    for (len = 240; len <= 255; len++) {
        memcpy(list, "\2h2", 3);
        list[3] = len;
        memset(list + 4, 'a', len);

        strcpy(text, "h2,");
        memset(text + 3, 'a', len);
        text[3 + len] = '\0';

        if (3 + len > NGX_TUNNEL_ALPN_LEN) {
            text[2] = '\0';
        }

        unit_alpn_is("h2 and a long one", list, 4 + len, text);

        /* the other way around */

        list[0] = len;
        memset(list + 1, 'a', len);
        memcpy(list + 1 + len, "\2h2", 3);

        memset(text, 'a', len);
        strcpy(text + len, len + 3 > NGX_TUNNEL_ALPN_LEN ? "" : ",h2");

        unit_alpn_is("a long one and h2", list, 4 + len, text);

        /* an encoded byte */

        list[0] = len;
        memset(list + 1, 'a', len);
        list[len] = ',';

        memset(text, 'a', len);
        strcpy(text + len - 1, "%2C");

        if (len + 2 > NGX_TUNNEL_ALPN_LEN) {
            text[0] = '\0';
        }

        unit_alpn_is("a long one whose last byte is encoded", list, 1 + len,
                     text);
    }

    /* many, of all lengths: as many as fit, each of them whole */

    for (len = 1; len <= 9; len++) {
        count = 1000 / (len + 1);
        text[0] = '\0';

        for (k = 0, i = 0, n = 0; k < count; k++) {
            list[i] = len;
            memset(list + i + 1, 'a' + k % 26, len);
            i += 1 + len;

            if (n + (n != 0) + len <= NGX_TUNNEL_ALPN_LEN) {
                if (n) {
                    text[n++] = ',';
                }

                memset(text + n, 'a' + k % 26, len);
                n += len;
                text[n] = '\0';
            }
        }

        unit_alpn_is("many", list, i, text);
    }
}


/* extensions: twice, and too many */

void
unit_sniff_extensions(void)
{
    char           name[64];
    unit_buf_t    *b;
    ngx_uint_t     i, k, n, type;
    unit_seen_t    seen;
    unit_hello_t   h;

    static const ngx_uint_t  types[] = {
        UNIT_SERVER_NAME, UNIT_ALPN, UNIT_VERSIONS, UNIT_ECH, 0x0a0a, 0xfafa,
        10, 21, 23, 255, 256, 1000, 0x8000, 0xff01, 0xffff
    };

    static const ngx_uint_t  counts[] = {
        1, 2, 31, 32, 63, 64, 65, 127, 128, 129, 130, 255, 256, 257, 1000
    };

    b = unit_buf();

    /* each twice, side by side and far apart */

    for (i = 0; i < unit_nelts(types); i++) {
        for (k = 0; k < 60; k += 59) {

            sprintf(name, "type %lx twice, %lu between", types[i], k);

            unit_hello_usual(b, &h);
            unit_extension(b, 5, unit_bytes("\1\0\0\0\0"));

            for (n = 0; n < 2; n++) {

                switch (types[i]) {

                case UNIT_SERVER_NAME:
                    unit_server_name(b, unit_bytes("example.org"));
                    break;

                case UNIT_ALPN:
                    unit_alpn(b, unit_bytes("\2h2"));
                    break;

                case UNIT_VERSIONS:
                    unit_versions(b, UNIT_VERSIONS_USUAL);
                    break;

                default:
                    unit_extension(b, types[i], NULL, 0);
                    break;
                }

                for (type = 0; n == 0 && type < k; type++) {
                    unit_extension(b, 0x4000 + type, "xyz", type % 4);
                }
            }

            unit_hello_end(b, &h);
            unit_hello_seen(name, b, &unit_seen_unknown);
        }
    }

    /* all of GREASE, each once */

    unit_hello_usual(b, &h);

    for (i = 0; i < 16; i++) {
        unit_extension(b, i * 0x1010 + 0x0a0a, "x", i % 2);
    }

    unit_server_name(b, unit_bytes("example.org"));
    unit_hello_end(b, &h);

    seen = unit_seen_usual;
    seen.alpn = NULL;
    seen.version = 0x0303;
    seen.min = 0;
    unit_hello_seen("GREASE", b, &seen);

    /* types that differ in one byte only */

    unit_hello_usual(b, &h);

    for (i = 0; i < 60; i++) {
        unit_extension(b, 0x0100 * i + 0x00c8, NULL, 0);
        unit_extension(b, 0xc800 + i, NULL, 0);
    }

    unit_server_name(b, unit_bytes("example.org"));
    unit_hello_end(b, &h);
    unit_hello_seen("120 types alike", b, &seen);

    for (i = 0; i < unit_nelts(counts); i++) {
        sprintf(name, "%lu extensions", counts[i]);

        unit_hello_usual(b, &h);

        for (n = 1; n < counts[i]; n++) {
            unit_extension(b, 0x3000 + n, NULL, 0);
        }

        unit_server_name(b, unit_bytes("example.org"));
        unit_hello_end(b, &h);

        unit_hello_seen(name, b,
                        counts[i] <= 128 ? &seen : &unit_seen_unknown);
    }

    /* the 128th is a duplicate of the first */

    unit_hello_usual(b, &h);

    for (n = 0; n < 127; n++) {
        unit_extension(b, 0x3000 + n, NULL, 0);
    }

    unit_extension(b, 0x3000, NULL, 0);
    unit_hello_end(b, &h);
    unit_hello_seen("the first once more", b, &unit_seen_unknown);

    unit_buf_free(b);
}


/*
 * Whether an extension of that length ends where another one does, or just
 * before the length of one, which may be a type to a list's length behind it.
 */

static ngx_uint_t
unit_takes(unit_buf_t *b, unit_length_t *length, uint64_t now)
{
    ngx_uint_t  i;

    if (strcmp(length->name, "extension") != 0) {
        return 0;
    }

    for (i = 0; i < b->nlengths; i++) {
        if (length->at + 2 + now + 2 == b->lengths[i].at
            || length->at + 2 + now == b->lengths[i].at)
        {
            return 1;
        }
    }

    return length->at + 2 + now == b->len;
}


/* each length, and not so */

void
unit_sniff_lengths(void)
{
    char            text[128];
    size_t          len;
    u_char         *p;
    uint64_t        was, now, most;
    ngx_int_t       rc;
    ngx_uint_t      i, k, size, hellos;
    unit_buf_t     *b, *r;
    unit_walk_t     w;
    unit_seen_t     seen;
    unit_hello_t    h;
    unit_length_t  *length;

    static const int  deltas[] = { -300, -256, -5, -4, -3, -2, -1, 1, 2, 3, 4,
                                   5, 255, 256, 1000, 100000 };

    b = unit_buf();
    r = unit_buf();

    for (hellos = 0; hellos < 3; hellos++) {

        switch (hellos) {

        case 0:
            unit_hello_browser(b, 0, 32, 5);
            break;

        case 1:
            unit_hello_browser(b, 5, 32, 5);
            break;

        default:
            unit_hello(b, &h, 0x0303, 0, 1, 1);
            unit_hello_extensions(b, &h);
            unit_server_name(b, "a", 1);
            unit_hello_end(b, &h);
            break;
        }

        for (i = 0; i < b->nlengths; i++) {
            length = &b->lengths[i];
            p = b->data + length->at;

            for (was = 0, k = 0; k < length->bytes; k++) {
                was = was * 256 + p[k];
            }

            most = ((uint64_t) 1 << (8 * length->bytes)) - 1;

            for (k = 0; k < unit_nelts(deltas); k++) {

                now = was + deltas[k];

                if (deltas[k] == 100000) {
                    now = most;
                }

                if (deltas[k] == -300) {
                    now = 0;
                }

                if (now > most || now == was
                    || unit_takes(b, length, now))
                {
                    continue;
                }

                sprintf(text, "hello %lu, %s at %lu: %lu instead of %lu",
                        hellos, length->name, length->at, (u_long) now,
                        (u_long) was);

                unit_write_number(p, length->bytes, now);

                for (size = 16384; size; size = (size == 16384) ? 7 : 0) {
                    unit_records(r, b, size);
                    unit_walk(&w, text, r->data, r->len);

                    /* what is left of a name is another entry */

                    unit_check(w.end.protocol == UNKNOWN
                               || (w.end.protocol == NGX_TUNNEL_TLS
                                   && w.end.kind == INVALID && now < was
                                   && strcmp(length->name, "host_name") == 0),
                               "%s: protocol %u", text, w.end.protocol);

                    unit_check(!w.undecided
                               || strcmp(length->name, "message") == 0,
                               "%s: not decided", text);
                }

                unit_write_number(p, length->bytes, was);
            }
        }

        /* bytes behind, which only the message's length has */

        for (k = 1; k < 5; k++) {
            unit_put_run(b, 0, 1);
            unit_write_number(b->data + 1, 3, b->len - 4);

            sprintf(text, "hello %lu with %lu bytes too many", hellos, k);
            unit_hello_seen(text, b, &unit_seen_unknown);
        }
    }

    /* an odd number of bytes of cipher suites */

    unit_hello(b, &h, 0x0303, 0, 2, 1);
    unit_write_number(b->data + 4 + 2 + 32 + 1, 2, 3);
    memmove(b->data + 4 + 2 + 32 + 1 + 2 + 3, b->data + 4 + 2 + 32 + 1 + 2 + 4,
            b->len - (4 + 2 + 32 + 1 + 2 + 4));
    b->len--;
    unit_hello_end(b, &h);
    unit_hello_seen("half a cipher suite", b, &unit_seen_unknown);

    /* a message that ends at each of its bytes, with its length */

    unit_hello_browser(b, 0, 32, 5);
    len = b->len;

    for (i = 4; i < len; i++) {
        b->len = i;
        unit_write_number(b->data + 1, 3, i - 4);

        unit_records(r, b, 16384);
        unit_walk(&w, "an end", r->data, r->len);

        /* behind the compression methods it may end */

        seen = unit_seen_unknown;

        if (i == 4 + 2 + 32 + 1 + 32 + 2 + 32 + 1 + 1) {
            seen.protocol = NGX_TUNNEL_TLS;
            seen.version = 0x0303;
        }

        rc = unit_check(!w.undecided, "a message of %lu bytes: not decided",
                        i);

        if (rc) {
            sprintf(text, "a message of %lu bytes", i);
            unit_check_seen(text, &w.sn, &seen);
        }
    }

    unit_buf_free(b);
    unit_buf_free(r);
}


/* records */

void
unit_sniff_records(void)
{
    char           name[64];
    size_t         size;
    unit_buf_t    *b, *r;
    ngx_uint_t     i, n;
    unit_seen_t    seen;
    unit_hello_t   h;

    static const char *const  others[] = {
        "\x14\3\1\0\1\1", "\x15\3\1\0\2\1\0", "\x17\3\1\0\1x", "\x18\3\1\0\1x",
        "\x16\2\1\0\1\1", "\x16\4\1\0\1\1"
    };

    b = unit_buf();
    r = unit_buf();

    /* all sizes, for which a message with a short name is enough */

    unit_hello(b, &h, 0x0303, 0, 1, 1);
    unit_hello_extensions(b, &h);
    unit_server_name(b, unit_bytes("example.org"));
    unit_offers_usual(b);
    unit_hello_end(b, &h);

    for (size = 1; size <= b->len + 1; size++) {
        sprintf(name, "records of %lu", size);
        unit_records(r, b, size);
        unit_decided(name, r->data, r->len, UNIT_ALL, &unit_seen_usual);
    }

    for (i = 0; i < 200; i++) {
        unit_records_random(r, b, i < 100 ? 10 : 60);
        unit_decided("records of chance", r->data, r->len, UNIT_ALL,
                     &unit_seen_usual);
    }

    /* all but one byte in one record, and each other place to cut */

    for (i = 1; i < b->len; i++) {
        r->len = 0;

        unit_put_record(r, 1, b->data, i);
        unit_put_record(r, 1, b->data + i, b->len - i);

        sprintf(name, "cut behind %lu", i);
        unit_decided(name, r->data, r->len, UNIT_ALL, &unit_seen_usual);

        /* an empty record there, or another one */

        size = 5 + i;
        r->len = size;

        unit_put(r, "\x16\3\1\0\0", 5);
        unit_put_record(r, 1, b->data + i, b->len - i);

        sprintf(name, "an empty record behind %lu", i);
        unit_unknown(name, r->data, r->len);

        for (n = 0; n < unit_nelts(others); n++) {
            r->len = size;

            unit_put(r, others[n], 6 + (n == 1));
            unit_put_record(r, 1, b->data + i, b->len - i);

            sprintf(name, "record %lu behind %lu", n, i);
            unit_unknown(name, r->data, r->len);
        }

        /* a length that is too much */

        r->len = size;

        unit_put(r, "\x16\3\1\x40\1", 5);
        unit_put(r, b->data + i, b->len - i);

        sprintf(name, "a long record behind %lu", i);
        unit_unknown(name, r->data, r->len);
    }

    /* the version of a record says nothing, but that it is 3 */

    unit_records(r, b, 16384);

    for (i = 0; i < 256; i++) {
        r->data[1] = i;
        r->data[2] = 1;

        sprintf(name, "version %lu.1", i);
        unit_decided(name, r->data, r->len, i == 3 ? UNIT_ALL : UNIT_SOME,
                     i == 3 ? &unit_seen_usual : &unit_seen_unknown);
    }

    for (i = 0; i < 5; i++) {
        r->data[1] = 3;
        r->data[2] = i;

        sprintf(name, "version 3.%lu", i);
        unit_decided(name, r->data, r->len, UNIT_ALL, &unit_seen_usual);
    }

    /* the largest record, and a message that needs several */

    seen = unit_seen_usual;

    for (n = 16380; n <= 16390; n++) {
        unit_hello_usual(b, &h);
        unit_extension_run(b, UNIT_KEY_SHARE, 0x16, 0);

        unit_server_name(b, unit_bytes("example.org"));
        unit_offers_usual(b);

        unit_put_number(b, 2, 21);
        size = n - b->len - 2;
        unit_put_number(b, 2, size);
        unit_put_run(b, 0, size);
        unit_hello_end(b, &h);

        unit_check(b->len == n, "a message of %lu bytes", b->len);

        sprintf(name, "a message of %lu bytes", n);
        unit_hello_seen(name, b, &seen);

        /* in a record which is longer than there are */

        if (n > 16384) {
            unit_records(r, b, n);
            unit_unknown("a record that is too long", r->data, r->len);
        }
    }

    unit_hello_browser(b, 3, 60000, 200);
    seen.ech = 1;
    unit_hello_seen("60000 bytes", b, &seen);

    /* of more than 65535 bytes, which need a list of each length */

    unit_hello(b, &h, 0x0303, 32, 32767, 255);
    unit_hello_extensions(b, &h);
    unit_server_name(b, unit_bytes("example.org"));
    unit_extension_run(b, UNIT_KEY_SHARE, 0x16, 65000);
    unit_versions(b, UNIT_VERSIONS_USUAL);
    unit_alpn(b, unit_bytes("\2h2\x08http/1.1"));
    unit_extension(b, UNIT_ECH, NULL, 0);
    unit_hello_end(b, &h);
    unit_hello_seen("130000 bytes", b, &seen);

    unit_records(r, b, 16384);
    r->len -= 65536;
    unit_cut("half of 130000 bytes", r->data, r->len, &unit_seen_unknown);

    /* a post-quantum one in records as some middleboxes make them */

    for (i = 0; i < 40; i++) {
        unit_hello_browser(b, i, 1216 + i, 200);
        unit_records_random(r, b, 1 + (i * i) % 700);
        unit_decided("post-quantum, records of chance", r->data, r->len,
                     UNIT_ALL, &seen);
    }

    unit_buf_free(b);
    unit_buf_free(r);
}


/* the hello of SSLv2, RFC 5246 E.2 */

void
unit_sniff_sslv2(void)
{
    char          name[80];
    unit_buf_t   *b;
    ngx_uint_t    i, at;
    unit_seen_t   seen;

    static const struct {
        ngx_uint_t   version;
        size_t       ciphers;
        size_t       session;
        size_t       challenge;
    } cases[] = {
        { 0x0002, 21, 0, 16 },
        { 0x0002, 3, 16, 16 },
        { 0x0300, 3, 0, 32 },
        { 0x0301, 30, 0, 32 },
        { 0x0302, 300, 0, 16 },
        { 0x0303, 93, 0, 32 }
    };

    b = unit_buf();

    seen = unit_seen_unknown;
    seen.protocol = NGX_TUNNEL_SSLV2;

    for (i = 0; i < unit_nelts(cases); i++) {
        b->len = 0;

        unit_put_number(b, 2, 0x8000 + 9 + cases[i].ciphers + cases[i].session
                              + cases[i].challenge);
        unit_put_number(b, 1, 1);
        unit_put_number(b, 2, cases[i].version);
        unit_put_number(b, 2, cases[i].ciphers);
        unit_put_number(b, 2, cases[i].session);
        unit_put_number(b, 2, cases[i].challenge);

        at = b->len;

        unit_put_run(b, 7, cases[i].ciphers);
        unit_put_run(b, 8, cases[i].session);
        unit_put_run(b, 9, cases[i].challenge);

        sprintf(name, "case %lu", i);
        unit_decided(name, b->data, b->len, 11, &seen);

        /* lengths that do not add up */

        for (at = 0; at < 4; at++) {
            static const size_t  ats[] = { 1, 6, 8, 10 };

            b->data[ats[at]]++;
            sprintf(name, "case %lu, byte %lu more", i, ats[at]);
            unit_unknown(name, b->data, b->len);

            b->data[ats[at]] -= 2;
            sprintf(name, "case %lu, byte %lu less", i, ats[at]);
            unit_unknown(name, b->data, b->len);

            b->data[ats[at]]++;
        }

        /* another message, another version */

        b->data[2] = 4;
        unit_unknown("SERVER-HELLO", b->data, b->len);
        b->data[2] = 1;

        b->data[3] = 4;
        unit_unknown("version 4", b->data, b->len);
        b->data[3] = cases[i].version >> 8;

        b->data[0] &= 0x7f;
        unit_unknown("without its bit", b->data, b->len);
    }

    unit_buf_free(b);
}


/* heads of HTTP */


#define UNIT_31  "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_ABC"


/*
 * The absolute form and Host, which is to be the same, RFC 9112 3.2.2: the
 * target, the fields that decide, and what is behind them.
 */

static void
unit_sniff_http_absolute(void)
{
    char                 text[2048], name[2048];
    u_char              *copy;
    size_t               line, enough, len;
    ngx_int_t            rc;
    ngx_uint_t           i;
    unit_seen_t          seen, cut;
    ngx_tunnel_sniff_t   sn;

    static const char  other[] = "Host is not that of the request target";
    static const char  two[] = "there is more than one Host";
    static const char  token[] = "a field name is malformed";
    static const char  nameless[] = "a field has no name";
    static const char  value[] = "a field value is malformed";

    static const struct {
        const char         *target;
        const char         *fields;
        const char         *behind;
        ngx_tunnel_host_e   kind;
        const char         *host;
        const char         *error;
    } cases[] = {

        /* the same, perhaps in another spelling */

        { "http://example.org/", "Host: example.org\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://example.org/", "Host: EXAMPLE.org\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://EXAMPLE.org/", "Host: example.ORG\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://example.org/", "Host: example.org.\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://example.org./", "Host: example.org\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://example.org/", "Host: example.org:80\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://example.org:80/", "Host: example.org\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://example.org:80/", "Host: example.org:81\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://example.org", "Host: example.org:\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://Example.org.:1?a", "Host:\tEXAMPLE.ORG.:2 \r\n\r\n", "",
          NAME, "example.org", NULL },
        { "http://example.org/", "A: b\r\nhOST: example.org\r\nC: d\r\n\r\n",
          "", NAME, "example.org", NULL },
        { "http://example.org/", "Host: example.org\n\n", "", NAME,
          "example.org", NULL },
        { "http://a/", "Host: a\r\n\r\n", "", NAME, "a", NULL },
        { "http://192.0.2.1/", "Host: 192.0.2.1:80\r\n\r\n", "", ADDRESS,
          "192.0.2.1", NULL },
        { "http://192.0.2.1/", "Host: [::ffff:192.0.2.1]\r\n\r\n", "", ADDRESS,
          "192.0.2.1", NULL },
        { "http://[::ffff:c000:201]/", "Host: 192.0.2.1\r\n\r\n", "", ADDRESS,
          "192.0.2.1", NULL },
        { "http://[2001:db8::1]/", "Host: [2001:db8::1]\r\n\r\n", "", ADDRESS,
          "[2001:db8::1]", NULL },
        { "http://[2001:db8::1]/", "Host: [2001:DB8:0:0:0:0:0:1]:80\r\n\r\n",
          "", ADDRESS, "[2001:db8::1]", NULL },
        { "http://[2001:0DB8::0.0.0.1]:80/", "Host: [2001:db8::1]\r\n\r\n",
          "", ADDRESS, "[2001:db8::1]", NULL },
        { "http://" UNIT_253 "/", "Host: " UNIT_253 "\r\n\r\n", "", NAME,
          UNIT_253, NULL },
        { "http://" UNIT_253 ".:80/", "Host: " UNIT_253 ".:65535\r\n\r\n", "",
          NAME, UNIT_253, NULL },

        /* none */

        { "http://example.org/", "\r\n", "", NAME, "example.org", NULL },
        { "http://example.org/", "\n", "", NAME, "example.org", NULL },
        { "http://example.org/", "A: b\r\n\r\n", "Host: b\r\n\r\n", NAME,
          "example.org", NULL },
        { "http://example.org/", "Hosts: b\r\nXHost: c\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://[::1]:80", "\r\n", "", ADDRESS, "[::1]", NULL },
        { "http://" UNIT_253 "/", "\r\n", "", NAME, UNIT_253, NULL },

        /* an empty one */

        { "http://example.org/", "Host:\r\n\r\n", "", NAME, "example.org",
          NULL },
        { "http://example.org/", "Host:\n\n", "", NAME, "example.org", NULL },
        { "http://example.org/", "A: b\r\nHost: \t \r\nC: d\r\n\r\n", "", NAME,
          "example.org", NULL },
        { "http://[::1]/", "Host: \r\n\r\n", "", ADDRESS, "[::1]", NULL },

        /* another one, which the end of the head tells */

        { "http://example.org/", "Host: b\r\n\r\n", "", INVALID, NULL, other },
        { "http://example.org/", "Host: b\r\nA: b\r\n\r\n", "", INVALID, NULL,
          other },
        { "http://example.org/", "Host: example.orh\r\n\r\n", "", INVALID,
          NULL, other },
        { "http://example.org/", "Host: fxample.org\r\n\r\n", "", INVALID,
          NULL, other },
        { "http://example.org/", "Host: example.or\r\n\r\n", "", INVALID, NULL,
          other },
        { "http://example.org/", "Host: example.orga\r\n\r\n", "", INVALID,
          NULL, other },
        { "http://example.org/", "Host: a.example.org\r\n\r\n", "", INVALID,
          NULL, other },
        { "http://a.example.org/", "Host: example.org\r\n\r\n", "", INVALID,
          NULL, other },
        { "http://example.org:80/", "Host: b:80\r\n\r\n", "", INVALID, NULL,
          other },
        { "http://[::1]", "Host: b\r\n\r\n", "", INVALID, NULL, other },
        { "http://[::1]/", "Host: [::2]\r\n\r\n", "", INVALID, NULL, other },
        { "http://[::1]/", "Host: 0.0.0.1\r\n\r\n", "", INVALID, NULL, other },
        { "http://192.0.2.1/", "Host: 192.0.2.2\r\n\r\n", "", INVALID, NULL,
          other },
        { "http://192.0.2.1/", "Host: [::192.0.2.1]\r\n\r\n", "", INVALID,
          NULL, other },
        { "http://" UNIT_253 "/", "Host: b\r\n\r\n", "", INVALID, NULL,
          other },
        { "http://b/", "Host: " UNIT_253 "\r\n\r\n", "", INVALID, NULL,
          other },

        /* a malformed one is another one, too */

        { "http://example.org/", "Host: :80\r\n\r\n", "", INVALID, NULL,
          "the host is empty" },
        { "http://example.org/", "Host: .\r\n\r\n", "", INVALID, NULL,
          "the host is empty" },
        { "http://example.org/", "Host: example..org\r\n\r\n",
          "", INVALID, NULL, "the host has an empty label" },
        { "http://example.org/", "Host: example.org..\r\n\r\n",
          "", INVALID, NULL, "the host has an empty label" },
        { "http://example.org/", "Host: example.org:80:80\r\n\r\n",
          "", INVALID, NULL, "the host or port is malformed" },
        { "http://example.org/", "Host: example.org:b\r\n\r\n",
          "", INVALID, NULL, "the host or port is malformed" },
        { "http://example.org/", "Host: u@example.org\r\n\r\n",
          "", INVALID, NULL, "the host has an invalid character" },
        { "http://example.org/", "Host: http://example.org/\r\n\r\n",
          "", INVALID, NULL, "the host or port is malformed" },
        { "http://example.org/", "Host: example.org, example.org\r\n\r\n",
          "", INVALID, NULL, "the host has an invalid character" },
        { "http://[::1]/", "Host: ::1\r\n\r\n", "", INVALID, NULL,
          "the host or port is malformed" },
        { "http://" UNIT_253 "/", "Host: " UNIT_253 "a\r\n\r\n", "", INVALID,
          NULL, "the host is longer than 253 bytes" },

        /* two, of which the second one tells */

        { "http://example.org/", "Host: example.org\r\nHost: example.org\r\n",
          "\r\n", INVALID, NULL, two },
        { "http://example.org/", "Host: example.org\r\nA: b\r\nhOST:\r\n",
          "C: d\r\n\r\n", INVALID, NULL, two },
        { "http://example.org/", "Host:\r\nHost: example.org\r\n", "\r\n",
          INVALID, NULL, two },
        { "http://example.org/", "Host:\r\nHost:\r\n", "\r\n", INVALID, NULL,
          two },
        { "http://example.org/", "Host: example.org\nHost: b\n", "\n", INVALID,
          NULL, two },
        { "http://example.org/", "Host: b\r\nHost: example.org\r\n", "\r\n",
          INVALID, NULL, two },

        /* a malformed field, with Host or without */

        { "http://example.org/", "A b: c\r\n", "\r\n", INVALID, NULL, token },
        { "http://example.org/", "Host : example.org\r\n", "\r\n", INVALID,
          NULL, token },
        { "http://example.org/", "Host: example.org\r\n b\r\n", "\r\n",
          INVALID, NULL, token },
        { "http://example.org/", " Host: b\r\n", "Host: example.org\r\n\r\n",
          INVALID, NULL, token },
        { "http://example.org/", "Host: example.org\r\nA : b\r\n",
          "C: d\r\n\r\n", INVALID, NULL, token },
        { "http://example.org/", "A\r\n", "\r\n", INVALID, NULL, nameless },
        { "http://example.org/", "Host: example.org\r\n: a\r\n", "\r\n",
          INVALID, NULL, nameless },
        { "http://example.org/", "A: b\rHost: c\r\n", "\r\n", INVALID, NULL,
          value },
        { "http://example.org/", "Host: example.org\r\r\n", "\r\n", INVALID,
          NULL, value },

        /* a target of which no field makes anything */

        { "http://a..b/", "", "Host: a\r\n\r\n", INVALID, NULL,
          "the host has an empty label" },
        { "http:///", "", "Host: a\r\n\r\n", INVALID, NULL,
          "the host is empty" },
        { "http://" UNIT_253 "a/", "", "Host: a\r\n\r\n", INVALID, NULL,
          "the host is longer than 253 bytes" },
        { "a", "", "Host: a\r\n\r\n", INVALID, NULL,
          "the request target is malformed" }
    };

    seen = unit_seen_http("GET", NONE, NULL);
    cut = seen;

    for (i = 0; i < unit_nelts(cases); i++) {
        line = sprintf(text, "GET %s HTTP/1.1\r\n", cases[i].target);
        enough = line + sprintf(text + line, "%s", cases[i].fields);
        len = enough + sprintf(text + enough, "%s", cases[i].behind);

        strcpy(name, unit_text((u_char *) text, len));

        seen.kind = cases[i].kind;
        seen.host = cases[i].host;

        unit_decided(name, text, len, enough, &seen);

        copy = unit_block(text, len);
        rc = ngx_tunnel_sniff(&sn, copy, len, 0);
        free(copy);

        unit_check(rc == NGX_OK && (cases[i].kind == INVALID)
                                   == (sn.error != NULL),
                   "%s: %ld: %s", name, rc, sn.error);

        unit_check(cases[i].error == NULL
                   || (sn.error && strcmp(sn.error, cases[i].error) == 0),
                   "%s: %s", name, sn.error);

        /* a head that ends before is one of HTTP, but names nobody */

        if (enough > line) {
            unit_cut(name, text, line, &cut);
            unit_cut(name, text, enough - 1, &cut);
        }
    }
}


void
unit_sniff_http(void)
{
    char         target;
    size_t       i, len, enough;
    unit_seen_t  seen;

    static const struct {
        const char         *data;
        const char         *method;
        ngx_tunnel_host_e   kind;
        const char         *host;
    } cases[] = {
        { "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.0\r\n\r\n", "GET", NONE, NULL },
        { "GET / HTTP/1.1\r\n\r\n", "GET", NONE, NULL },
        { "GET / HTTP/1.0\n\n", "GET", NONE, NULL },
        { "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "GET", NAME, "a" },
        { "GET / HTTP/1.9\r\nHost: a\r\n\r\n", "GET", NAME, "a" },
        { "POST /a?b#c HTTP/1.1\r\nContent-Length: 1\r\n"
          "host:EXAMPLE.org.\r\nX: y\r\n\r\n", "POST", NAME, "example.org" },
        { "PUT /\xc3\xbc HTTP/1.1\r\nHOST: a\r\n\r\n", "PUT", NAME, "a" },
        { "OPTIONS * HTTP/1.1\r\nhOsT: a\r\n\r\n", "OPTIONS", NAME, "a" },
        { "X-_Z / HTTP/1.1\r\nHost: a\r\n\r\n", "X-_Z", NAME, "a" },
        { "A / HTTP/1.1\r\nHost: a\r\n\r\n", "A", NAME, "a" },
        { UNIT_31 "D / HTTP/1.1\r\nHost: a\r\n\r\n", UNIT_31 "D", NAME, "a" },

        /* beginnings of others */

        { "PRI * HTTP/1.1\r\nHost: a\r\n\r\n", "PRI", NAME, "a" },
        { "PRI / HTTP/1.1\r\nHost: a\r\n\r\n", "PRI", NAME, "a" },
        { "PR / HTTP/1.1\r\nHost: a\r\n\r\n", "PR", NAME, "a" },
        { "PROXY / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY", NAME, "a" },
        { "PROXY TCP5 HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY", INVALID, NULL },
        { "PROXY TCP://a/ HTTP/1.1\r\n\r\n", "PROXY", NAME, "a" },
        { "PROXY UNKNOW://a/ HTTP/1.1\r\n\r\n", "PROXY", NAME, "a" },
        { "PROXYING / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXYING", NAME, "a" },
        { "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", "PROPFIND", NAME, "a" },
        { "SSH / HTTP/1.1\r\nHost: a\r\n\r\n", "SSH", NAME, "a" },
        { "SSHX / HTTP/1.1\r\nHost: a\r\n\r\n", "SSHX", NAME, "a" },
        { "SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", "SEARCH", NAME, "a" },

        /* ends of lines */

        { "GET / HTTP/1.1\nHost: example.org\n\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.1\nHost: example.org\r\n\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.1\r\nHost: example.org\n\r\n", "GET", NAME,
          "example.org" },

        /* white space around a value, and in another one */

        { "GET / HTTP/1.1\r\nHost: \t example.org\t \r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.1\r\nHost:example.org\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.1\r\nA:\r\nB: \t\r\nC: d e\tf:g\xff\r\nHost: a\r\n"
          "\r\n", "GET", NAME, "a" },
        { "GET / HTTP/1.1\r\nHosts: b\r\nXHost: c\r\nHos: d\r\nHost: a\r\n"
          "\r\n", "GET", NAME, "a" },
        { "GET / HTTP/1.1\r\nX: Host: b\r\nHost: a\r\n\r\n", "GET", NAME,
          "a" },
        { "GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09az: b\r\nHost: a\r\n\r\n", "GET",
          NAME, "a" },

        /* what may be in Host */

        { "GET / HTTP/1.1\r\nHost: example.org:8080\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.1\r\nHost: example.org:\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.1\r\nHost: Example.Org.:65535\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET / HTTP/1.1\r\nHost: " UNIT_253 "\r\n\r\n", "GET", NAME,
          UNIT_253 },
        { "GET / HTTP/1.1\r\nHost: " UNIT_253 ".:80\r\n\r\n", "GET", NAME,
          UNIT_253 },
        { "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", "GET", ADDRESS,
          "192.0.2.1" },
        { "GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", "GET", ADDRESS,
          "192.0.2.1" },
        { "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", "GET", ADDRESS, "[::1]" },
        { "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", ADDRESS,
          "[::1]" },
        { "GET / HTTP/1.1\r\nHost: [2001:DB8::0:1]:\r\n\r\n", "GET", ADDRESS,
          "[2001:db8::1]" },
        { "GET / HTTP/1.1\r\nHost: [::ffff:192.0.2.1]\r\n\r\n", "GET",
          ADDRESS, "192.0.2.1" },

        /* and what may not */

        { "GET / HTTP/1.1\r\nHost: " UNIT_253 "a\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: " UNIT_63 "a\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: http://a/\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: .a\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: .\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a:80b\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a:b80\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a:b8\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a:8:\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a::\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a: 80\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: [::1]80\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: []\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: [a]\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: b\xc3\xbc" "cher\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: *\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a;b\r\n\r\n", "GET", INVALID, NULL },

        /* more than one */

        { "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: b\r\n\r\n", "GET",
          INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nHost:\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nHost: c\r\n\r\n", "GET",
          INVALID, NULL },

        /* malformed lines, before and behind it */

        { "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nX: y\r\n z\r\nHost: a\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nX: y\rHost: b\r\nHost: a\r\n\r\n", "GET",
          INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nX\ry: z\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost\r\n\r\n", "GET", INVALID, NULL },
        { "GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n", "GET", INVALID,
          NULL },

        /* absolute form, RFC 9112 3.2.2; see unit_sniff_http_absolute() */

        { "GET http://example.org/ HTTP/1.0\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET http://example.org HTTP/1.1\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET http://example.org:8080/a HTTP/1.1\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET http://example.org:/a HTTP/1.1\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET http://example.org:8080 HTTP/1.1\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET http://example.org?a/b HTTP/1.1\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET HTTPS://EXAMPLE.org./a://b HTTP/1.1\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET ftp://example.org/ HTTP/1.1\r\n\r\n", "GET", NAME,
          "example.org" },
        { "GET AZaz09+-.://a/ HTTP/1.1\r\n\r\n", "GET", NAME, "a" },
        { "GET zZ://a/ HTTP/1.1\r\n\r\n", "GET", NAME, "a" },
        { "GET http://192.0.2.1/ HTTP/1.1\r\n\r\n", "GET", ADDRESS,
          "192.0.2.1" },
        { "GET http://[2001:DB8::1]:80/ HTTP/1.1\r\n\r\n", "GET", ADDRESS,
          "[2001:db8::1]" },
        { "GET http://[::1] HTTP/1.1\r\n\r\n", "GET", ADDRESS, "[::1]" },
        { "GET http://a_b/ HTTP/1.1\r\n\r\n", "GET", NAME, "a_b" },
        { "GET http:/// HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET http:// HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET http://:80/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET http://a..b/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET http://u@a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET http://u:p@a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET http://a:b/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET http://::1/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },

        /* a path is no authority */

        { "GET /http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", NAME, "b" },
        { "GET //a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", NAME, "b" },
        { "GET /a:b@c HTTP/1.1\r\nHost: b\r\n\r\n", "GET", NAME, "b" },

        /* authority form, RFC 9112 3.2.3 */

        { "CONNECT example.org:443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT",
          NAME, "example.org" },
        { "CONNECT EXAMPLE.ORG.:22 HTTP/1.0\r\n\r\n", "CONNECT", NAME,
          "example.org" },
        { "CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\n", "CONNECT", ADDRESS,
          "192.0.2.1" },
        { "CONNECT [::1]:443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT", ADDRESS,
          "[::1]" },
        { "CONNECT ::1:443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT", INVALID,
          NULL },
        { "CONNECT :443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT", INVALID,
          NULL },
        { "CONNECT a..b:443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT", INVALID,
          NULL },
        { "CONNECT a:b HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT", INVALID,
          NULL },
        { "CONNECT u@a:443 HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT", INVALID,
          NULL },
        { "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "CONNECT",
          NAME, "a" },

        /* none of these */

        { "GET a HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET ?a HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET a:80 HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET http:/a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET http:a HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET a/http://c/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID,
          NULL },
        { "GET ://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET ?b://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET 1a://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET a%41://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET b@a://c/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL },
        { "GET ** HTTP/1.1\r\nHost: b\r\n\r\n", "GET", INVALID, NULL }
    };

    for (i = 0; i < unit_nelts(cases); i++) {

        /*
         * the target of CONNECT is enough, and one that is malformed; no other
         * one that is not a path has fields here that are
         */

        target = strchr(cases[i].data, ' ')[1];

        if (strcmp(cases[i].method, "CONNECT") == 0
            || (cases[i].kind == INVALID && target != '/' && target != '*'))
        {
            enough = strcspn(cases[i].data, "\n") + 1;

        } else {
            enough = cases[i].kind == INVALID ? UNIT_SOME : UNIT_ALL;
        }

        seen = unit_seen_http(cases[i].method, cases[i].kind, cases[i].host);

        len = strlen(cases[i].data);

        unit_decided_text(cases[i].data, len, enough, &seen);
    }

    unit_sniff_http_absolute();
}


/* lines that are no request of HTTP/1 */

void
unit_sniff_http_lines(void)
{
    size_t       i, k, len;
    char         text[128], method[3];
    unit_seen_t  seen;

    static const struct {
        const char  *data;
        size_t       len;
    } cases[] = {
        { unit_bytes("GET /\r\n") },
        { unit_bytes("GET /\n") },
        { unit_bytes("GET / \r\n") },
        { unit_bytes("GET\r\n") },
        { unit_bytes("GET \r\n") },
        { unit_bytes("GET\n") },
        { unit_bytes("G\r\n") },
        { unit_bytes("GET  HTTP/1.1\r\n") },
        { unit_bytes("GET HTTP/1.1\r\n") },
        { unit_bytes("GET / HTTP/2.0\r\n") },
        { unit_bytes("GET / HTTP/2\r\n") },
        { unit_bytes("GET / HTTP/0.9\r\n") },
        { unit_bytes("GET / HTTP/3.0\r\n") },
        { unit_bytes("GET / HTTP/1\r\n") },
        { unit_bytes("GET / HTTP/1.\r\n") },
        { unit_bytes("GET / HTTP/1,1\r\n") },
        { unit_bytes("GET / HTTP/11\r\n") },
        { unit_bytes("GET / HTTP/11.1\r\n") },
        { unit_bytes("GET / HTTP/.1\r\n") },
        { unit_bytes("GET / HTTP/1.x\r\n") },
        { unit_bytes("GET / HTTP/-1.1\r\n") },
        { unit_bytes("GET / HTTP\r\n") },
        { unit_bytes("GET / HTTPS/1.1\r\n") },
        { unit_bytes("GET / http/1.1\r\n") },
        { unit_bytes("GET / XTTP/1.1\r\n") },
        { unit_bytes("GET / RTSP/1.0\r\n") },
        { unit_bytes("OPTIONS sip:a@b SIP/2.0\r\n") },
        { unit_bytes("GET / HTTP/1.1x\r\n") },
        { unit_bytes("GET / HTTP/1.1\rx") },
        { unit_bytes("GET / HTTP/1.1\r\r\n") },
        { unit_bytes("GET / /HTTP/1.1\r\n") },
        { unit_bytes("GET /a b HTTP/1.1\r\n") },
        { unit_bytes("GET\t/ HTTP/1.1\r\n") },
        { unit_bytes("GET /\tHTTP/1.1\r\n") },
        { unit_bytes("GET /\0 HTTP/1.1\r\n") },
        { unit_bytes("GET /\r HTTP/1.1\r\n") },
        { unit_bytes("get / HTTP/1.1\r\n") },
        { unit_bytes("Get / HTTP/1.1\r\n") },
        { unit_bytes("GEt / HTTP/1.1\r\n") },
        { unit_bytes("GET1 / HTTP/1.1\r\n") },
        { unit_bytes("G\0T / HTTP/1.1\r\n") },
        { unit_bytes("GET: / HTTP/1.1\r\n") },
        { unit_bytes(" / HTTP/1.1\r\n") },
        { unit_bytes(" GET / HTTP/1.1\r\n") },
        { unit_bytes("\tGET / HTTP/1.1\r\n") },
        { unit_bytes("HTTP/1.1 200 OK\r\n") },
        { unit_bytes(UNIT_31 "DE / HTTP/1.1\r\n") },
        { unit_bytes(UNIT_31 UNIT_31 UNIT_31 " / HTTP/1.1\r\n") },

        /* as soon as it is too long */

        { unit_bytes(UNIT_31 "DE") }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        unit_unknown(unit_text((u_char *) cases[i].data, cases[i].len),
                     cases[i].data, cases[i].len);
    }

    /* every byte in a method, as its first one, and behind another */

    for (i = 0; i < 256; i++) {
        for (k = 0; k < 2; k++) {

            strcpy(text, "BB / HTTP/1.1\r\nHost: a\r\n\r\n");
            len = strlen(text);
            text[k] = i;

            memcpy(method, text, 2);
            method[2] = '\0';

            seen = unit_seen_unknown;

            if ((i >= 'A' && i <= 'Z') || i == '-' || i == '_') {
                seen = unit_seen_http(method, NAME, "a");

            } else if ((k == 0 && (i == 4 || i == 5)) || (k && i == ' ')) {

                /* SOCKS, or the end of it */

                continue;
            }

            unit_decided_text(text, len, seen.method ? UNIT_ALL : UNIT_SOME,
                              &seen);
        }
    }

    /* and every byte in a target */

    for (i = 0; i < 256; i++) {
        strcpy(text, "GET /?x HTTP/1.1\r\nHost: a\r\n\r\n");
        len = strlen(text);
        text[5] = i;

        seen = unit_seen_unknown;

        if (i > ' ' && i != 0x7f) {
            seen = unit_seen_http("GET", NAME, "a");
        }

        unit_decided_text(text, len, seen.method ? UNIT_ALL : UNIT_SOME,
                          &seen);
    }
}


/* a run of one byte, and what is around it */

static void
unit_put_around(unit_buf_t *b, const char *before, int ch, size_t len,
    const char *after)
{
    b->len = 0;

    unit_put(b, before, strlen(before));
    unit_put_run(b, ch, len);
    unit_put(b, after, strlen(after));
}


/* long heads, and one field of each byte */

void
unit_sniff_http_long(void)
{
    size_t        i, n;
    unit_buf_t   *b;
    unit_seen_t   seen;

    b = unit_buf();

    seen = unit_seen_http("GET", NAME, "example.org");

    /* the host at each end of a long head */

    for (i = 0; i < 2; i++) {
        b->len = 0;
        unit_put(b, unit_bytes("GET / HTTP/1.1\r\n"));

        if (i == 0) {
            unit_put(b, unit_bytes("Host: example.org\r\n"));
        }

        for (n = 0; n < 300; n++) {
            unit_put(b, unit_bytes("X-Some-Field: some value: of it\r\n"));
        }

        if (i == 1) {
            unit_put(b, unit_bytes("Host: example.org\r\n"));
        }

        unit_put(b, unit_bytes("\r\n"));
        unit_decided("a long head", b->data, b->len, UNIT_ALL, &seen);

        b->len -= 2;
        seen.kind = NONE;
        unit_cut("most of a long head", b->data, b->len, &seen);
        seen.kind = NAME;
    }

    /* a long target, a long name and a long value */

    unit_put_around(b, "GET /", 'x', 9000,
                    " HTTP/1.1\r\nHost: example.org\r\n\r\n");
    unit_decided("a long target", b->data, b->len, UNIT_ALL, &seen);

    unit_put_around(b, "GET / HTTP/1.1\r\nHost: example.org\r\n", 'x', 3000,
                    ": ");
    unit_put_run(b, 'y', 6000);
    unit_put(b, unit_bytes("\r\n\r\n"));
    unit_decided("a long field", b->data, b->len, UNIT_ALL, &seen);

    unit_put_around(b, "GET http://example.org/", '@', 9000,
                    " HTTP/1.1\r\n\r\n");
    unit_decided("a long path", b->data, b->len, UNIT_ALL, &seen);

    b->len -= 2;
    unit_put(b, unit_bytes("X: "));
    unit_put_run(b, 'y', 9000);
    unit_put(b, unit_bytes("\r\nHost: example.org\r\n\r\n"));
    unit_decided("a long path and Host", b->data, b->len, UNIT_ALL, &seen);

    seen.kind = INVALID;

    unit_put_around(b, "GET / HTTP/1.1\r\nHost: ", 'x', 9000, "\r\n\r\n");
    unit_decided("a long host", b->data, b->len, UNIT_SOME, &seen);

    unit_put_around(b, "GET http://", 'x', 9000,
                    " HTTP/1.1\r\nHost: example.org\r\n\r\n");
    unit_decided("a long authority", b->data, b->len, UNIT_SOME, &seen);

    /* no end */

    seen = unit_seen_unknown;

    unit_put_around(b, "GET /", 'x', 20000, "");
    unit_cut("an endless target", b->data, b->len, &seen);

    /* in the name and the value of a field */

    for (i = 0; i < 256; i++) {
        seen = unit_seen_http("GET", NAME, "example.org");

        unit_put_around(b, "GET / HTTP/1.1\r\nHost: example.org\r\nX", i, 1,
                        "y: z\r\n\r\n");

        if (i != ':' && i != '\n'
            && !(isalnum(i) || (i && strchr("!#$%&'*+-.^_`|~", i))))
        {
            seen.kind = INVALID;
        }

        /* of two lines the first one has no colon */

        if (i == '\n') {
            seen.kind = INVALID;
        }

        unit_decided_text(b->data, b->len,
                          seen.kind == INVALID ? UNIT_SOME : UNIT_ALL, &seen);

        seen.kind = NAME;

        unit_put_around(b, "GET / HTTP/1.1\r\nHost: example.org\r\nX: y", i, 1,
                        "z\r\n\r\n");

        if (i == '\0' || i == '\r' || i == '\n') {
            seen.kind = INVALID;
        }

        unit_decided_text(b->data, b->len,
                          seen.kind == INVALID ? UNIT_SOME : UNIT_ALL, &seen);
    }

    unit_buf_free(b);
}


/* every byte of everything, changed */

void
unit_sniff_mutations(void)
{
    size_t          at, n;
    u_char          was;
    unit_buf_t     *b, *r;
    ngx_uint_t      i, k, ch, known[2];
    unit_walk_t     w;
    unit_hello_t    h;

    static const struct {
        const char  *data;
        size_t       len;
    } inputs[] = {
        { NULL, 40 },
        { NULL, 16384 },
        { unit_bytes("GET http://a.b:80/ HTTP/1.1\r\nHost: c\r\nX: y\r\n"
                     "\r\n") },
        { unit_bytes("GET http://a.b/ HTTP/1.1\r\nX: y\r\nHost: A.b.:8\r\n"
                     "\r\n") },
        { unit_bytes("CONNECT [::1]:443 HTTP/1.1\nHost: c\n\n") },
        { unit_bytes("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n") },
        { unit_bytes(UNIT_SIGNATURE "\x21\x11\0\x0c") },
        { unit_bytes(UNIT_PREFACE) },
        { unit_bytes("\x80\x1c\1\3\1\0\3\0\0\0\x10\0\0\x2f"
                     "0123456789abcdef") },
        { unit_bytes("\3\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\x0b\0\0\0") },
        { unit_bytes("\0\0\0\x16\0\3\0\0user\0postgres\0\0") },
        { unit_bytes("SSH-2.0-x\r\n") }
    };

    b = unit_buf();
    r = unit_buf();

    unit_hello(b, &h, 0x0303, 1, 1, 1);
    unit_hello_extensions(b, &h);
    unit_extension(b, 0x0a0a, NULL, 0);
    unit_server_name(b, unit_bytes("a.b"));
    unit_alpn(b, unit_bytes("\2h2"));
    unit_versions(b, unit_bytes("\3\4"));
    unit_hello_end(b, &h);

    known[0] = 0;
    known[1] = 0;

    for (i = 0; i < unit_nelts(inputs); i++) {

        if (inputs[i].data) {
            r->len = 0;
            unit_put(r, inputs[i].data, inputs[i].len);

        } else {
            unit_records(r, b, inputs[i].len);
        }

        for (at = 0; at < r->len; at++) {
            was = r->data[at];

            for (ch = 0; ch < 256; ch += (i < 2) ? 5 : 1) {
                r->data[at] = ch;

                unit_walk(&w, "a changed byte", r->data, r->len);
                known[w.end.protocol != UNKNOWN]++;
            }

            /* bits of random bytes, which may be of the same length */

            for (k = 0; k < 8; k++) {
                r->data[at] = was ^ (1 << k);
                n = unit_random() % r->len;
                ch = r->data[n];
                r->data[n] ^= 1 << unit_random() % 8;

                unit_walk(&w, "two changed bytes", r->data, r->len);
                known[w.end.protocol != UNKNOWN]++;

                r->data[n] = ch;
            }

            r->data[at] = was;
        }
    }

    unit_check(known[0] > 1000 && known[1] > 1000, "%lu unknown, %lu not",
               known[0], known[1]);

    unit_buf_free(b);
    unit_buf_free(r);
}


/* whatever comes */

void
unit_sniff_random(void)
{
    u_char       data[300];
    size_t       len, n;
    ngx_uint_t   i, k;
    unit_walk_t  w;

    /* all beginnings of two bytes */

    for (i = 0; i < 65536; i++) {
        data[0] = i >> 8;
        data[1] = i;
        data[2] = i * 7;

        unit_walk(&w, unit_text(data, 3), data, 2 + i % 2);
    }

    for (i = 0; i < 20000; i++) {
        len = unit_random() % (i % 10 ? 40 : 300);

        for (n = 0; n < len; n++) {
            data[n] = unit_random() % (i % 3 ? 256 : 8);
        }

        /* some whose beginning is right */

        switch (i % 4) {

        case 0:
            memcpy(data, "\x16\3\1\0", 4);
            data[5] = 1;
            data[4] = len;
            break;

        case 1:
            memcpy(data, "GET / HTTP/1.1\r\n", 16);

            for (n = 16; n < len; n++) {
                k = unit_random() % 16;
                data[n] = k < 12 ? (u_char) "\r\n: \tHostab.[]"[k]
                                 : (u_char) unit_random();
            }

            break;

        case 2:
            data[0] |= 0x80;
            break;
        }

        unit_walk(&w, "random bytes", data, len);
    }
}
