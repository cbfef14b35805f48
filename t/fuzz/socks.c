
/*
 * Fuzz target: what a client of SOCKS sends, in segments of as many bytes as
 * the first byte of the input says, 0 means 256; the rest as a datagram, too.
 *
 * What the parsers say is compared with a second opinion, fuzz_opinion(), and
 * what they say of segments with what they say of all at once.
 */


#include "fuzz.h"


typedef enum {
    FUZZ_METHODS = 0,
    FUZZ_PASSWORD,
    FUZZ_SOCKS5,
    FUZZ_SOCKS4
} fuzz_kind_e;


enum {
    FUZZ_CUT = 4,
    FUZZ_NO_VERSION,
    FUZZ_NO_PASSWORD,
    FUZZ_PASSED,
    FUZZ_OK,
    FUZZ_EARLY,
    FUZZ_BAD_REQUEST,
    FUZZ_BAD_ADDRESS,
    FUZZ_NAME,
    FUZZ_INET,
    FUZZ_INET6,
    FUZZ_NAMED,
    FUZZ_USER_LEN,
    FUZZ_HOST_LEN,
    FUZZ_DROPPED,
    FUZZ_DATAGRAM_NAME,
    FUZZ_DATAGRAM_INET,
    FUZZ_DATAGRAM_INET6
};


static fuzz_reached_t  fuzz_reached[] = {
    [FUZZ_METHODS] = { "methods", 0 },
    [FUZZ_PASSWORD] = { "password", 0 },
    [FUZZ_SOCKS5] = { "request of SOCKS5", 0 },
    [FUZZ_SOCKS4] = { "request of SOCKS4", 0 },
    [FUZZ_CUT] = { "cut", 0 },
    [FUZZ_NO_VERSION] = { "another version", 0 },
    [FUZZ_NO_PASSWORD] = { "no password", 0 },
    [FUZZ_PASSED] = { "request behind a password", 0 },
    [FUZZ_OK] = { "good request", 0 },
    [FUZZ_EARLY] = { "good request with data behind", 0 },
    [FUZZ_BAD_REQUEST] = { "bad request", 0 },
    [FUZZ_BAD_ADDRESS] = { "unknown type of address", 0 },
    [FUZZ_NAME] = { "name", 0 },
    [FUZZ_INET] = { "IPv4 address", 0 },
    [FUZZ_INET6] = { "IPv6 address", 0 },
    [FUZZ_NAMED] = { "good host of SOCKS4a", 0 },
    [FUZZ_USER_LEN] = { "userid that is too long", 0 },
    [FUZZ_HOST_LEN] = { "host of SOCKS4a that is too long", 0 },
    [FUZZ_DROPPED] = { "datagram to drop", 0 },
    [FUZZ_DATAGRAM_NAME] = { "datagram to a name", 0 },
    [FUZZ_DATAGRAM_INET] = { "datagram to an IPv4 address", 0 },
    [FUZZ_DATAGRAM_INET6] = { "datagram to an IPv6 address", 0 }
};


/* the longest host, which is a userid, too */

#define FUZZ_36    "abcdefghijklmnopqrstuvwxyz0123456789"
#define FUZZ_61    FUZZ_36 "ABCDEFGHIJKLMNOPQRSTUVWXY"
#define FUZZ_64    FUZZ_61 "-_."
#define FUZZ_HOST  FUZZ_64 FUZZ_64 FUZZ_64 FUZZ_61
#define FUZZ_USER  FUZZ_HOST "zz"


static const fuzz_bytes_t  fuzz_seeds[] = {

    /* sessions */

    fuzz_bytes("\5\1\0\5\1\0\1\x7f\0\0\1\1\xbb"),
    fuzz_bytes("\5\1\0\5\1\0\3\x0b" "example.org\1\xbb" "early data"),
    fuzz_bytes("\5\2\0\1\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\1\xbb"),
    fuzz_bytes("\5\2\0\2\1\4user\6secret\5\1\0\3\7" "1.2.3.4\1\xbb"),
    fuzz_bytes("\5\1\2\1\1u\1p\5\2\0\1\0\0\0\0\0\0"),
    fuzz_bytes("\5\1\2\1\0\0\5\3\0\4\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\4\0\0"),
    fuzz_bytes("\5\1\0\5\1\0\3\5[::1]\1\xbb"),
    fuzz_bytes("\5\1\0\5\1\0\3\3::1\1\xbb"),
    fuzz_bytes("\4\1\1\xbb\x7f\0\0\1user\0"),
    fuzz_bytes("\4\1\1\xbb\x7f\0\0\1\0early data"),
    fuzz_bytes("\4\1\1\xbb\0\0\0\1user\0example.org\0"),
    fuzz_bytes("\4\2\0\0\0\0\0\1\0::ffff:1.2.3.4\0"),
    fuzz_bytes("\4\2\0\0\1\2\3\4\0"),
    fuzz_bytes("\4\1\1\xbb\0\0\0\1" FUZZ_USER "\0" FUZZ_HOST ".\0"),
    fuzz_bytes("\5\1\2\1\xff" FUZZ_USER "\xff" FUZZ_USER
               "\5\1\0\3\xfe" FUZZ_HOST ".\1\xbb"),

    /* messages */

    fuzz_bytes("\1\4user\6secret"),
    fuzz_bytes("\5\1\0\1\x7f\0\0\1\1\xbb"),
    fuzz_bytes("\5\1\0\3\x0b" "example.org\1\xbb"),
    fuzz_bytes("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\1\xbb"),

    /* datagrams */

    fuzz_bytes("\0\0\0\1\1\2\3\4\0\x35payload"),
    fuzz_bytes("\0\0\0\3\x0b" "example.org\0\x35payload"),
    fuzz_bytes("\0\0\0\4\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\4\0\x35"),
    fuzz_bytes("\0\0\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\x35")
};


static const fuzz_bytes_t  fuzz_words[] = {
    fuzz_bytes("\0"), fuzz_bytes("\5\1\0"), fuzz_bytes("\5\1\2"),
    fuzz_bytes("\5\1\0\1"), fuzz_bytes("\5\1\0\3"), fuzz_bytes("\5\1\0\4"),
    fuzz_bytes("\4\1\1\xbb"), fuzz_bytes("\0\0\0\1"), fuzz_bytes("\0\0\0\3"),
    fuzz_bytes("\1\4user"), fuzz_bytes("\xff"), fuzz_bytes("."),
    fuzz_bytes("::1"), fuzz_bytes("[::1]"), fuzz_bytes("1.2.3.4"),
    fuzz_bytes("abcdefghijklmnopqrstuvwxyz."), fuzz_bytes("::ffff:1.2.3.4"),
    fuzz_bytes("\0\x50")
};


const fuzz_target_t  fuzz_target = {
    1,
    fuzz_seeds, fuzz_nelts(fuzz_seeds),
    fuzz_words, fuzz_nelts(fuzz_words),
    fuzz_reached, fuzz_nelts(fuzz_reached)
};


/* a message as it was understood; strings are offsets in it */

typedef struct {
    fuzz_kind_e           kind;
    ngx_int_t             rc;
    size_t                used;
    unsigned              endless:1;     /* used is all that there was */

    size_t                at[2];         /* methods; user, password; userid */
    size_t                len[2];

    ngx_tunnel_result_e   result;
    ngx_uint_t            command;
    unsigned              named:1;
    ngx_tunnel_target_t   target;
} fuzz_message_t;


typedef struct {
    fuzz_message_t        messages[3];
    ngx_uint_t            n;
    size_t                used;
} fuzz_session_t;


static void fuzz_canonical(ngx_tunnel_target_t *t);


/* the parser, on a copy of the bytes */

static void
fuzz_parse(fuzz_message_t *m, fuzz_kind_e kind, const u_char *data, size_t len)
{
    u_char                      *copy, *pos, *last;
    ngx_str_t                    first, second;
    ngx_tunnel_socks_request_t  *r;

    ngx_memzero(m, sizeof(fuzz_message_t));

    copy = fuzz_copy(data, len);
    pos = copy;
    last = copy + len;

    ngx_str_null(&first);
    ngx_str_null(&second);

    m->kind = kind;

    switch (kind) {

    case FUZZ_METHODS:
        m->rc = ngx_tunnel_socks5_methods(&pos, last, &first);
        break;

    case FUZZ_PASSWORD:
        m->rc = ngx_tunnel_socks5_password(&pos, last, &first, &second);
        break;

    default:
        r = malloc(sizeof(ngx_tunnel_socks_request_t));
        if (r == NULL) {
            abort();
        }

        memset(r, 0xa5, sizeof(ngx_tunnel_socks_request_t));

        m->rc = (kind == FUZZ_SOCKS5)
                ? ngx_tunnel_socks5_request(&pos, last, r)
                : ngx_tunnel_socks4_request(&pos, last, r);

        if (m->rc == NGX_OK) {
            m->result = r->result;
            m->command = r->command;
            m->named = r->named;
            first = r->user;

            if (r->result == NGX_TUNNEL_OK) {
                fuzz_canonical(&r->target);
                m->target = r->target;
            }

            fuzz_assert((r->what != NULL)
                        == (r->result == NGX_TUNNEL_BAD_REQUEST));
            fuzz_assert(r->what == NULL || strlen(r->what) > 0);
        }

        free(r);
    }

    fuzz_assert(pos >= copy && pos <= last);
    fuzz_assert(m->rc == NGX_OK || pos == copy);
    fuzz_assert(len == 0 || memcmp(copy, data, len) == 0);

    m->used = pos - copy;

    if (m->rc == NGX_OK) {
        fuzz_assert(m->used > 0);

        /* strings are in what was taken */

        if (first.len) {
            fuzz_assert(first.data > copy && first.data + first.len <= pos);
            m->at[0] = first.data - copy;
            m->len[0] = first.len;
        }

        if (second.len) {
            fuzz_assert(second.data > copy && second.data + second.len <= pos);
            m->at[1] = second.data - copy;
            m->len[1] = second.len;
        }
    }

    free(copy);
}


/* a host and a port as one text, which another function takes */

static ngx_uint_t
fuzz_opinion_target(ngx_tunnel_target_t *t, const char *host, size_t len,
    in_port_t port)
{
    int         n;
    char        text[300];
    ngx_uint_t  naked;

    naked = (len && host[0] != '[' && memchr(host, ':', len));

    n = sprintf(text, naked ? "[" : "");
    memcpy(text + n, host, len);
    n += len;
    n += sprintf(text + n, naked ? "]:%u" : ":%u", port ? (unsigned) port : 1);

    if (ngx_tunnel_target_parse(t, (u_char *) text, n) != NULL) {
        return 0;
    }

    if (port == 0) {
        t->port = 0;
        t->buf[t->text.len - 1] = '0';
    }

    return 1;
}


/* IPv4 if it is mapped */

static void
fuzz_opinion_address(ngx_tunnel_target_t *t, int family, const u_char *addr,
    in_port_t port)
{
    char  host[INET6_ADDRSTRLEN];

    inet_ntop(family, addr, host, sizeof(host));

    fuzz_assert(fuzz_opinion_target(t, host, strlen(host), port));
}


/* what the parser should say of the bytes, written another way */

static void
fuzz_opinion(fuzz_message_t *m, fuzz_kind_e kind, const u_char *data,
    size_t len)
{
    char           host[256];
    size_t         n, size;
    in_port_t      port;
    const u_char  *end;

    ngx_memzero(m, sizeof(fuzz_message_t));

    m->kind = kind;
    m->rc = NGX_AGAIN;

    switch (kind) {

    case FUZZ_METHODS:
        if (len >= 2 && len >= 2 + (size_t) data[1]) {
            m->rc = NGX_OK;
            m->at[0] = 2;
            m->len[0] = data[1];
            m->used = 2 + data[1];
        }

        return;

    case FUZZ_PASSWORD:
        if (len && data[0] != 1) {
            m->rc = NGX_ERROR;
            return;
        }

        if (len < 2 || len < 3 + (size_t) data[1]
            || len < 3 + (size_t) data[1] + data[2 + data[1]])
        {
            return;
        }

        m->rc = NGX_OK;
        m->at[0] = 2;
        m->len[0] = data[1];
        m->at[1] = 3 + data[1];
        m->len[1] = data[2 + data[1]];
        m->used = 3 + m->len[0] + m->len[1];

        return;

    case FUZZ_SOCKS5:
        if (len && data[0] != 5) {
            m->rc = NGX_OK;
            m->result = NGX_TUNNEL_BAD_REQUEST;
            m->used = len;
            m->endless = 1;
            return;
        }

        if (len < 4) {
            return;
        }

        m->command = data[1];

        switch (data[3]) {
        case 1:  n = 4; size = 4; break;
        case 3:  n = 5; size = len > 4 ? data[4] : 0; break;
        case 4:  n = 4; size = 16; break;

        default:
            m->rc = NGX_OK;
            m->result = NGX_TUNNEL_BAD_ADDRESS;
            m->used = len;
            m->endless = 1;
            return;
        }

        if (len < n + size + 2) {
            return;
        }

        m->rc = NGX_OK;
        m->used = n + size + 2;

        port = data[n + size] * 256 + data[n + size + 1];

        if (port == 0 && data[1] == 1) {
            m->result = NGX_TUNNEL_BAD_REQUEST;
            return;
        }

        if (data[3] != 3) {
            fuzz_opinion_address(&m->target, size == 4 ? AF_INET : AF_INET6,
                                 data + n, port);
            return;
        }

        memcpy(host, data + n, size);
        break;

    default: /* FUZZ_SOCKS4 */

        if (len < 8) {
            return;
        }

        m->command = data[1];
        m->named = memcmp(data + 4, "\0\0\0", 3) == 0 && data[7];

        port = data[2] * 256 + data[3];

        end = memchr(data + 8, '\0', len - 8);
        size = (end ? end : data + len) - data - 8;

        if (size > 255) {
            m->rc = NGX_OK;
            m->result = NGX_TUNNEL_BAD_REQUEST;
            m->used = len;
            m->endless = 1;
            fuzz_reached[FUZZ_USER_LEN].count++;
            return;
        }

        if (end == NULL) {
            return;
        }

        m->at[0] = 8;
        m->len[0] = size;

        n = 8 + size + 1;

        if (m->named) {
            end = memchr(data + n, '\0', len - n);
            size = (end ? end : data + len) - data - n;

            if (size > 255) {
                m->rc = NGX_OK;
                m->result = NGX_TUNNEL_BAD_REQUEST;
                m->used = len;
                m->endless = 1;
                fuzz_reached[FUZZ_HOST_LEN].count++;
                return;
            }

            if (end == NULL) {
                return;
            }

            memcpy(host, data + n, size);
            n += size + 1;
        }

        m->rc = NGX_OK;
        m->used = n;

        if (port == 0 && data[1] == 1) {
            m->result = NGX_TUNNEL_BAD_REQUEST;
            return;
        }

        if (!m->named) {
            fuzz_opinion_address(&m->target, AF_INET, data + 4, port);
            return;
        }
    }

    if (fuzz_opinion_target(&m->target, host, size, port)) {
        return;
    }

    if (kind == FUZZ_SOCKS5 && m->command == NGX_TUNNEL_SOCKS_UDP) {

        /* whatever host it is, it is a hint only */

        fuzz_opinion_address(&m->target, AF_INET, (u_char *) "\0\0\0\0", port);
        return;
    }

    m->result = NGX_TUNNEL_BAD_REQUEST;
}


/* that both understood the same */

static void
fuzz_understood(const fuzz_message_t *a, const fuzz_message_t *b)
{
    ngx_uint_t  i;

    fuzz_assert(a->kind == b->kind);
    fuzz_assert(a->rc == b->rc);

    if (a->rc != NGX_OK) {
        return;
    }

    for (i = 0; i < 2; i++) {
        fuzz_assert(a->len[i] == b->len[i]);
        fuzz_assert(a->len[i] == 0 || a->at[i] == b->at[i]);
    }

    fuzz_assert(a->result == b->result);

    fuzz_assert(a->named == b->named);
    fuzz_assert(a->used == b->used || (a->endless && b->endless));

    /* there is none in a request of another version */

    fuzz_assert(a->command == b->command
                || (a->kind == FUZZ_SOCKS5 && (a->endless || b->endless)
                    && a->result == NGX_TUNNEL_BAD_REQUEST));

    if (a->kind < FUZZ_SOCKS5 || a->result != NGX_TUNNEL_OK) {
        return;
    }

    fuzz_assert(a->target.port == b->target.port);
    fuzz_assert(a->target.family == b->target.family);
    fuzz_assert(a->target.host.len == b->target.host.len);
    fuzz_assert(a->target.text.len == b->target.text.len);
    fuzz_assert(memcmp(a->target.buf, b->target.buf, a->target.text.len) == 0);
    fuzz_assert(a->target.family != AF_INET
                || memcmp(&a->target.addr, &b->target.addr, 4) == 0);
    fuzz_assert(a->target.family != AF_INET6
                || memcmp(&a->target.addr, &b->target.addr, 16) == 0);
}


/* its text, parsed again, is the same text */

static void
fuzz_canonical(ngx_tunnel_target_t *t)
{
    u_char               *copy;
    ngx_tunnel_target_t   again;

    fuzz_assert(t->text.data == t->buf && t->host.data == t->buf);
    fuzz_assert(t->text.len <= NGX_TUNNEL_TARGET_LEN);
    fuzz_assert(t->host.len < t->text.len && t->buf[t->host.len] == ':');

    if (t->port) {
        copy = fuzz_copy(t->text.data, t->text.len);
        fuzz_assert(ngx_tunnel_target_parse(&again, copy, t->text.len)
                    == NULL);
        free(copy);

    } else {
        copy = fuzz_copy(t->host.data, t->host.len);
        fuzz_assert(ngx_tunnel_target_set(&again, copy, t->host.len, 0)
                    == NULL);
        free(copy);
    }

    fuzz_assert(again.text.len == t->text.len);
    fuzz_assert(memcmp(again.buf, t->buf, t->text.len) == 0);
    fuzz_assert(again.host.len == t->host.len);
    fuzz_assert(again.port == t->port);
    fuzz_assert(again.family == t->family);
}


/* a server, to which the bytes come in segments */

static void
fuzz_serve(fuzz_session_t *s, const u_char *data, size_t size, size_t segment)
{
    size_t           seen;
    fuzz_kind_e      kind;
    fuzz_message_t  *m, opinion;

    s->n = 0;
    s->used = 0;

    if (size == 0) {
        return;
    }

    seen = ngx_min(segment, size);

    switch (data[0]) {
    case 5:  kind = FUZZ_METHODS; break;
    case 4:  kind = FUZZ_SOCKS4; break;
    default: fuzz_reached[FUZZ_NO_VERSION].count++; return;
    }

    for ( ;; ) {
        m = &s->messages[s->n];

        fuzz_parse(m, kind, data + s->used, seen - s->used);
        fuzz_opinion(&opinion, kind, data + s->used, seen - s->used);
        fuzz_understood(m, &opinion);

        m->endless = opinion.endless;

        if (m->rc == NGX_AGAIN) {

            /* so many bytes are enough for each message */

            fuzz_assert(seen - s->used < NGX_TUNNEL_SOCKS_MESSAGE);

            if (seen == size) {
                fuzz_reached[FUZZ_CUT].count++;
                s->n++;
                return;
            }

            seen += ngx_min(segment, size - seen);
            continue;
        }

        s->n++;

        if (m->rc == NGX_ERROR) {
            fuzz_reached[FUZZ_NO_PASSWORD].count++;
            return;
        }

        fuzz_reached[kind].count++;

        switch (kind) {

        case FUZZ_METHODS:
            kind = memchr(data + s->used + m->at[0], NGX_TUNNEL_SOCKS_PASSWORD,
                          m->len[0])
                   ? FUZZ_PASSWORD : FUZZ_SOCKS5;
            break;

        case FUZZ_PASSWORD:
            kind = FUZZ_SOCKS5;
            break;

        default:
            s->used += m->endless ? 0 : m->used;

            switch (m->result) {

            case NGX_TUNNEL_OK:
                fuzz_reached[FUZZ_OK].count++;
                fuzz_reached[FUZZ_EARLY].count += (s->used < seen);
                fuzz_reached[FUZZ_PASSED].count += (s->n == 3);
                fuzz_reached[FUZZ_NAMED].count += m->named;
                fuzz_reached[m->target.family == AF_INET ? FUZZ_INET
                             : m->target.family == AF_INET6 ? FUZZ_INET6
                             : FUZZ_NAME].count++;
                break;

            case NGX_TUNNEL_BAD_REQUEST:
                fuzz_reached[FUZZ_BAD_REQUEST].count++;
                break;

            default:
                fuzz_assert(m->result == NGX_TUNNEL_BAD_ADDRESS);
                fuzz_reached[FUZZ_BAD_ADDRESS].count++;
                break;
            }

            return;
        }

        s->used += m->used;
    }
}


static void
fuzz_datagram(const u_char *data, size_t size)
{
    int                   family;
    size_t                n, len;
    u_char               *copy, *pos, *buf, *end;
    ngx_int_t             rc;
    in_port_t             port, expected;
    ngx_str_t             host;
    ngx_sockaddr_t       *sa;
    fuzz_message_t        m;
    ngx_tunnel_target_t   target;

    sa = malloc(sizeof(ngx_sockaddr_t));
    if (sa == NULL) {
        abort();
    }

    memset(sa, 0xa5, sizeof(ngx_sockaddr_t));

    copy = fuzz_copy(data, size);
    pos = copy;
    port = 0;

    rc = ngx_tunnel_socks5_datagram(&pos, copy + size, sa, &host, &port);

    fuzz_assert(size == 0 || memcmp(copy, data, size) == 0);

    /* a second opinion */

    n = 0;
    len = 0;
    family = AF_UNSPEC;

    if (size >= 5 && data[2] == 0) {
        switch (data[3]) {
        case 1: n = 4; len = 4; family = AF_INET; break;
        case 3: n = 5; len = data[4]; break;
        case 4: n = 4; len = 16; family = AF_INET6; break;
        }
    }

    expected = 0;

    if (n && len && size >= n + len + 2) {
        expected = data[n + len] * 256 + data[n + len + 1];
    }

    if (expected == 0) {
        fuzz_assert(rc == NGX_DECLINED);
        fuzz_assert(pos == copy);
        fuzz_reached[FUZZ_DROPPED].count++;
        goto done;
    }

    fuzz_assert(rc == NGX_OK);
    fuzz_assert(pos == copy + n + len + 2);
    fuzz_assert(port == expected);
    fuzz_assert(sa->sockaddr.sa_family == family);

    if (family == AF_UNSPEC) {
        fuzz_assert(host.data == copy + n && host.len == len);
        fuzz_reached[FUZZ_DATAGRAM_NAME].count++;

        if (ngx_tunnel_target_set(&target, host.data, host.len, port)
            == NULL)
        {
            fuzz_canonical(&target);
        }

        goto done;
    }

    fuzz_assert(host.len == 0);

    if (family == AF_INET) {
        fuzz_assert(memcmp(&sa->sockaddr_in.sin_addr, data + n, 4) == 0);
        fuzz_assert(sa->sockaddr_in.sin_port == htons(port));
        fuzz_reached[FUZZ_DATAGRAM_INET].count++;

    } else {
        fuzz_assert(memcmp(&sa->sockaddr_in6.sin6_addr, data + n, 16) == 0);
        fuzz_assert(sa->sockaddr_in6.sin6_port == htons(port));
        fuzz_assert(sa->sockaddr_in6.sin6_scope_id == 0);
        fuzz_reached[FUZZ_DATAGRAM_INET6].count++;
    }

    /* one from there has the same header, or IPv4's */

    buf = malloc(NGX_TUNNEL_SOCKS_REPLY);
    if (buf == NULL) {
        abort();
    }

    end = ngx_tunnel_socks5_datagram_header(buf, &sa->sockaddr);

    if (family == AF_INET6
        && IN6_IS_ADDR_V4MAPPED(&sa->sockaddr_in6.sin6_addr))
    {
        fuzz_assert(end - buf == 10);
        fuzz_assert(memcmp(buf, "\0\0\0\1", 4) == 0);
        fuzz_assert(memcmp(buf + 4, data + 16, 6) == 0);

    } else {
        fuzz_assert((size_t) (end - buf) == n + len + 2);
        fuzz_assert(memcmp(buf, "\0\0\0", 3) == 0);
        fuzz_assert(memcmp(buf + 3, data + 3, end - buf - 3) == 0);
    }

    /* and a reply is a request for it, as it looks */

    end = ngx_tunnel_socks5_reply(buf, NGX_TUNNEL_SOCKS_CONNECT,
                                  &sa->sockaddr);

    fuzz_parse(&m, FUZZ_SOCKS5, buf, end - buf);
    fuzz_opinion_address(&target, family, data + n, port);

    fuzz_assert(m.rc == NGX_OK && m.result == NGX_TUNNEL_OK);
    fuzz_assert(m.used == (size_t) (end - buf));
    fuzz_assert(m.target.text.len == target.text.len);
    fuzz_assert(memcmp(m.target.buf, target.buf, target.text.len) == 0);

    end = ngx_tunnel_socks4_reply(buf, 90, &sa->sockaddr);

    fuzz_assert(end - buf == 8);
    fuzz_assert(buf[0] == 0 && buf[1] == 90);
    fuzz_assert(buf[2] * 256 + buf[3] == port);
    fuzz_assert(memcmp(buf + 4, m.target.family == AF_INET
                                ? (void *) &m.target.addr : "\0\0\0\0", 4)
                == 0);

    free(buf);

done:

    free(copy);
    free(sa);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          segment;
    ngx_uint_t      i;
    fuzz_kind_e     kind;
    fuzz_message_t  m, opinion;
    fuzz_session_t  whole, cut;

    if (size == 0) {
        return 0;
    }

    segment = data[0] ? data[0] : 256;

    data++;
    size--;

    fuzz_serve(&whole, data, size, size);
    fuzz_serve(&cut, data, size, segment);

    fuzz_assert(whole.n == cut.n);
    fuzz_assert(whole.used == cut.used);

    for (i = 0; i < whole.n; i++) {
        fuzz_understood(&whole.messages[i], &cut.messages[i]);
    }

    /* whatever the server would take it for */

    for (kind = FUZZ_METHODS; kind <= FUZZ_SOCKS4; kind++) {
        fuzz_parse(&m, kind, data, size);
        fuzz_opinion(&opinion, kind, data, size);
        fuzz_understood(&m, &opinion);
    }

    fuzz_datagram(data, size);

    return 0;
}
