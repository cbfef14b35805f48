
/*
 * ngx_tunnel_target_parse(): what is a target, what is not, and why.
 */


#include "unit.h"


/* the messages, which a client's log shows */

#define USERINFO  "user information is not allowed"
#define PATH      "a scheme or a path is not allowed"
#define QUERY     "a query is not allowed"
#define FRAGMENT  "a fragment is not allowed"
#define PERCENT   "percent-encoding is not allowed"
#define NO_PORT   "a port is missing"
#define NO_DIGIT  "the port is empty"
#define PORT      "the port is not a number from 1 to 65535"
#define NO_HOST   "the host is empty"
#define BRACKET   "a bracket is not closed"
#define HOST_LEN  "the host is longer than 253 bytes"
#define NO_LABEL  "the host has an empty label"
#define NAKED     "an IPv6 address must be in brackets"
#define CHARACTER "the host has an invalid character"
#define LABEL_LEN "the host has a label longer than 63 bytes"
#define IPV4      "an IPv4 address must be four decimal numbers"
#define IPV6      "the IPv6 address is invalid"


static const char *const  unit_messages[] = {
    USERINFO, PATH, QUERY, FRAGMENT, PERCENT, NO_PORT, NO_DIGIT, PORT,
    NO_HOST, BRACKET, HOST_LEN, NO_LABEL, NAKED, CHARACTER, LABEL_LEN, IPV4,
    IPV6
};


typedef struct {
    const char  *input;
    const char  *error;          /* or */
    const char  *host;
    ngx_uint_t   port;
    int          family;
} unit_target_t;


static const unit_target_t  unit_target_cases[] = {

    /* names */

    { "example.org:443", NULL, "example.org", 443, AF_UNSPEC },
    { "EXAMPLE.Org:443", NULL, "example.org", 443, AF_UNSPEC },
    { "AZ.az.09:1", IPV4, NULL, 0, 0 },
    { "example.org.:443", NULL, "example.org", 443, AF_UNSPEC },
    { "localhost:80", NULL, "localhost", 80, AF_UNSPEC },
    { "localhost.:80", NULL, "localhost", 80, AF_UNSPEC },
    { "a:1", NULL, "a", 1, AF_UNSPEC },
    { "a.b.c.d.e:65535", NULL, "a.b.c.d.e", 65535, AF_UNSPEC },
    { "_dmarc.my_host.org:443", NULL, "_dmarc.my_host.org", 443, AF_UNSPEC },
    { "-a-.b-:443", NULL, "-a-.b-", 443, AF_UNSPEC },
    { "xn--bcher-kva.example:443", NULL, "xn--bcher-kva.example", 443,
      AF_UNSPEC },
    { "123.org:443", NULL, "123.org", 443, AF_UNSPEC },
    { "1.2.3.4.org:443", NULL, "1.2.3.4.org", 443, AF_UNSPEC },
    { "example.0xg:443", NULL, "example.0xg", 443, AF_UNSPEC },
    { "example.1a:443", NULL, "example.1a", 443, AF_UNSPEC },
    { "example.x0:443", NULL, "example.x0", 443, AF_UNSPEC },
    { "0x7f.org:443", NULL, "0x7f.org", 443, AF_UNSPEC },
    { "1e1:443", NULL, "1e1", 443, AF_UNSPEC },

    { "", NO_PORT, NULL, 0, 0 },
    { ":", NO_HOST, NULL, 0, 0 },
    { "::", NAKED, NULL, 0, 0 },
    { ":443", NO_HOST, NULL, 0, 0 },
    { ".:443", NO_HOST, NULL, 0, 0 },
    { "..:443", NO_LABEL, NULL, 0, 0 },
    { "...:443", NO_LABEL, NULL, 0, 0 },
    { "a..b:443", NO_LABEL, NULL, 0, 0 },
    { "a..:443", NO_LABEL, NULL, 0, 0 },
    { ".a:443", NO_LABEL, NULL, 0, 0 },
    { ".example.org:443", NO_LABEL, NULL, 0, 0 },
    { "*.example.org:443", CHARACTER, NULL, 0, 0 },
    { "*:443", CHARACTER, NULL, 0, 0 },
    { "a b:443", CHARACTER, NULL, 0, 0 },
    { " a:443", CHARACTER, NULL, 0, 0 },
    { "a :443", CHARACTER, NULL, 0, 0 },
    { "a\t:443", CHARACTER, NULL, 0, 0 },
    { "a\r\n:443", CHARACTER, NULL, 0, 0 },
    { "a\x7f:443", CHARACTER, NULL, 0, 0 },
    { "b\xc3\xbc" "cher.example:443", CHARACTER, NULL, 0, 0 },
    { "a\xe3\x80\x82org:443", CHARACTER, NULL, 0, 0 },
    { "a\\b:443", CHARACTER, NULL, 0, 0 },
    { "a,b:443", CHARACTER, NULL, 0, 0 },
    { "a]:443", CHARACTER, NULL, 0, 0 },
    { "a[b]:443", CHARACTER, NULL, 0, 0 },

    /* what else an URL can have */

    { "user@example.org:443", USERINFO, NULL, 0, 0 },
    { "user:password@example.org:443", USERINFO, NULL, 0, 0 },
    { "@example.org:443", USERINFO, NULL, 0, 0 },
    { "example.org:443@", USERINFO, NULL, 0, 0 },
    { "example.org:443@evil.org:443", USERINFO, NULL, 0, 0 },
    { "http://example.org:443", PATH, NULL, 0, 0 },
    { "//example.org:443", PATH, NULL, 0, 0 },
    { "/", PATH, NULL, 0, 0 },
    { "/example.org:443", PATH, NULL, 0, 0 },
    { "example.org:443/", PATH, NULL, 0, 0 },
    { "example.org/:443", PATH, NULL, 0, 0 },
    { "example.org:443?", QUERY, NULL, 0, 0 },
    { "example.org?a:443", QUERY, NULL, 0, 0 },
    { "example.org:443#", FRAGMENT, NULL, 0, 0 },
    { "example.org#a:443", FRAGMENT, NULL, 0, 0 },
    { "example%2eorg:443", PERCENT, NULL, 0, 0 },
    { "example.org:%34%34%33", PERCENT, NULL, 0, 0 },
    { "example.org%00:443", PERCENT, NULL, 0, 0 },

    /* ports, and see unit_target_ports() */

    { "example.org", NO_PORT, NULL, 0, 0 },
    { "example.org.", NO_PORT, NULL, 0, 0 },
    { "1.2.3.4", NO_PORT, NULL, 0, 0 },
    { "example.org:", NO_DIGIT, NULL, 0, 0 },
    { "example.org.:", NO_DIGIT, NULL, 0, 0 },
    { "1.2.3.4:", NO_DIGIT, NULL, 0, 0 },
    { "example.org:0", PORT, NULL, 0, 0 },
    { "example.org:00", PORT, NULL, 0, 0 },
    { "example.org:000000", PORT, NULL, 0, 0 },
    { "example.org:65536", PORT, NULL, 0, 0 },
    { "example.org:65979", PORT, NULL, 0, 0 },          /* 65536 + 443 */
    { "example.org:99999", PORT, NULL, 0, 0 },
    { "example.org:100443", PORT, NULL, 0, 0 },
    { "example.org:999999", PORT, NULL, 0, 0 },
    { "example.org:4294967739", PORT, NULL, 0, 0 },     /* 2^32 + 443 */
    { "example.org:18446744073709552059", PORT, NULL, 0, 0 },   /* 2^64 */
    { "example.org:+443", PORT, NULL, 0, 0 },
    { "example.org:-443", PORT, NULL, 0, 0 },
    { "example.org:-1", PORT, NULL, 0, 0 },
    { "example.org:0x1bb", PORT, NULL, 0, 0 },
    { "example.org:1bb", PORT, NULL, 0, 0 },
    { "example.org:443.", PORT, NULL, 0, 0 },
    { "example.org:4,43", PORT, NULL, 0, 0 },
    { "example.org:1e2", PORT, NULL, 0, 0 },
    { "example.org: 443", PORT, NULL, 0, 0 },
    { "example.org:443 ", PORT, NULL, 0, 0 },
    { "example.org:443\t", PORT, NULL, 0, 0 },
    { "example.org:443\r", PORT, NULL, 0, 0 },
    { "example.org:443\n", PORT, NULL, 0, 0 },
    { "example.org:https", PORT, NULL, 0, 0 },
    { "example.org:*", PORT, NULL, 0, 0 },
    { "example.org:443-444", PORT, NULL, 0, 0 },
    { "example.org:\xef\xbc\x94", PORT, NULL, 0, 0 },   /* a wide 4 */
    { "example.org:443]", PORT, NULL, 0, 0 },
    { "example.org:443:443", NAKED, NULL, 0, 0 },
    { "example.org::443", NAKED, NULL, 0, 0 },
    { "example.org:00443", NULL, "example.org", 443, AF_UNSPEC },
    { "example.org:065535", NULL, "example.org", 65535, AF_UNSPEC },
    { "example.org:0000443", PORT, NULL, 0, 0 },

    /* IPv4 addresses, and what others take for them */

    { "127.0.0.1:443", NULL, "127.0.0.1", 443, AF_INET },
    { "0.0.0.0:443", NULL, "0.0.0.0", 443, AF_INET },
    { "255.255.255.255:443", NULL, "255.255.255.255", 443, AF_INET },
    { "1.2.3.4.:443", NULL, "1.2.3.4", 443, AF_INET },
    { "255.255.255.255.:443", NULL, "255.255.255.255", 443, AF_INET },
    { "127.1:443", IPV4, NULL, 0, 0 },
    { "127.0.1:443", IPV4, NULL, 0, 0 },
    { "0:443", IPV4, NULL, 0, 0 },
    { "1:443", IPV4, NULL, 0, 0 },
    { "0x7f.1:443", IPV4, NULL, 0, 0 },
    { "0x7f.0.0.1:443", IPV4, NULL, 0, 0 },
    { "127.0.0.0x1:443", IPV4, NULL, 0, 0 },
    { "127.0.0.0X1:443", IPV4, NULL, 0, 0 },
    { "0x7f000001:443", IPV4, NULL, 0, 0 },
    { "0X7F000001:443", IPV4, NULL, 0, 0 },
    { "0x7f000001.:443", IPV4, NULL, 0, 0 },
    { "0x:443", IPV4, NULL, 0, 0 },
    { "2130706433:443", IPV4, NULL, 0, 0 },
    { "017700000001:443", IPV4, NULL, 0, 0 },
    { "0177.0.0.1:443", IPV4, NULL, 0, 0 },
    { "127.0.0.01:443", IPV4, NULL, 0, 0 },
    { "127.0.0.001:443", IPV4, NULL, 0, 0 },
    { "127.000.000.001:443", IPV4, NULL, 0, 0 },
    { "256.1.1.1:443", IPV4, NULL, 0, 0 },
    { "1.1.1.256:443", IPV4, NULL, 0, 0 },
    { "1.2.3:443", IPV4, NULL, 0, 0 },
    { "1.2.3.:443", IPV4, NULL, 0, 0 },
    { "1.2.3.4.5:443", IPV4, NULL, 0, 0 },
    { "1.2.3.4..:443", NO_LABEL, NULL, 0, 0 },
    { "255.255.255.2555:443", IPV4, NULL, 0, 0 },       /* a byte too long */
    { "1255.255.255.255:443", IPV4, NULL, 0, 0 },
    { "255.255.255.255.1:443", IPV4, NULL, 0, 0 },
    { "example.123:443", IPV4, NULL, 0, 0 },
    { "example.0x1f:443", IPV4, NULL, 0, 0 },
    { "a.b.c.d.e.f.g.h.i.j.k.l.7:443", IPV4, NULL, 0, 0 },
    { "99999999999999999999999999:443", IPV4, NULL, 0, 0 },
    { "[127.0.0.1]:443", IPV6, NULL, 0, 0 },

    /* IPv6 addresses, as RFC 5952 has them */

    { "[::1]:443", NULL, "[::1]", 443, AF_INET6 },
    { "[::]:443", NULL, "[::]", 443, AF_INET6 },
    { "[0:0:0:0:0:0:0:1]:443", NULL, "[::1]", 443, AF_INET6 },
    { "[0000:0000:0000:0000:0000:0000:0000:0001]:443", NULL, "[::1]", 443,
      AF_INET6 },
    { "[2001:DB8::ABCD]:443", NULL, "[2001:db8::abcd]", 443, AF_INET6 },
    { "[2001:0db8:0:0:1:0:0:1]:443", NULL, "[2001:db8::1:0:0:1]", 443,
      AF_INET6 },
    { "[2001:db8:0:1:1:1:1:1]:443", NULL, "[2001:db8:0:1:1:1:1:1]", 443,
      AF_INET6 },
    { "[2001:db8::1:1:1:1:1]:443", NULL, "[2001:db8:0:1:1:1:1:1]", 443,
      AF_INET6 },
    { "[FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF]:65535", NULL,
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", 65535, AF_INET6 },
    { "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535", NULL,
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", 65535, AF_INET6 },
    { "[::ffff:127.0.0.1]:443", NULL, "127.0.0.1", 443, AF_INET },
    { "[::FFFF:7f00:1]:443", NULL, "127.0.0.1", 443, AF_INET },
    { "[64:ff9b::127.0.0.1]:443", NULL, "[64:ff9b::7f00:1]", 443, AF_INET6 },
    { "[::127.0.0.1]:443", NULL, "[::127.0.0.1]", 443, AF_INET6 },

    { "[::1]", NO_PORT, NULL, 0, 0 },
    { "[::1]:", NO_DIGIT, NULL, 0, 0 },
    { "[::1]:0", PORT, NULL, 0, 0 },
    { "[::1]:443]", NO_PORT, NULL, 0, 0 },
    { "[::1]443", BRACKET, NULL, 0, 0 },
    { "[::1]x:443", BRACKET, NULL, 0, 0 },
    { "[::1].:443", BRACKET, NULL, 0, 0 },
    { "[::1:443", BRACKET, NULL, 0, 0 },
    { "[:443", BRACKET, NULL, 0, 0 },
    { "[", NO_PORT, NULL, 0, 0 },
    { "[]", NO_PORT, NULL, 0, 0 },
    { "::1]:443", NAKED, NULL, 0, 0 },
    { "]:443", CHARACTER, NULL, 0, 0 },
    { "::1:443", NAKED, NULL, 0, 0 },
    { "2001:db8::1", NAKED, NULL, 0, 0 },
    { "[]:443", IPV6, NULL, 0, 0 },
    { "[:]:443", IPV6, NULL, 0, 0 },
    { "[:::]:443", IPV6, NULL, 0, 0 },
    { "[1]:443", IPV6, NULL, 0, 0 },
    { "[1::2::3]:443", IPV6, NULL, 0, 0 },
    { "[1:2:3:4:5:6:7]:443", IPV6, NULL, 0, 0 },
    { "[1:2:3:4:5:6:7:8:9]:443", IPV6, NULL, 0, 0 },
    { "[12345::]:443", IPV6, NULL, 0, 0 },
    { "[g::]:443", IPV6, NULL, 0, 0 },
    { "[[::1]]:443", IPV6, NULL, 0, 0 },
    { "[ ::1]:443", IPV6, NULL, 0, 0 },
    { "[::1 ]:443", IPV6, NULL, 0, 0 },
    { "[::ffff:127.1]:443", IPV6, NULL, 0, 0 },
    { "[::ffff:127.0.0.01]:443", IPV6, NULL, 0, 0 },
    { "[::ffff:256.0.0.1]:443", IPV6, NULL, 0, 0 },
    { "[v1.a]:443", IPV6, NULL, 0, 0 },
    { "[example.org]:443", IPV6, NULL, 0, 0 },
    { "[0000:0000:0000:0000:0000:0000:0000:00000000001]:443", IPV6,
      NULL, 0, 0 },
    { "[0000:0000:0000:0000:0000:0000:127.000.000.001]:443", IPV6,
      NULL, 0, 0 },
    { "[fe80::1%eth0]:443", PERCENT, NULL, 0, 0 },
    { "[fe80::1%25eth0]:443", PERCENT, NULL, 0, 0 }
};


/* a host without a port, also with what parse() itself refuses */

static const unit_target_t  unit_target_host_cases[] = {
    { "Example.ORG.", NULL, "example.org", 0, AF_UNSPEC },
    { "127.0.0.1", NULL, "127.0.0.1", 0, AF_INET },
    { "[0::1]", NULL, "[::1]", 0, AF_INET6 },
    { "", NO_HOST, NULL, 0, 0 },
    { ".", NO_HOST, NULL, 0, 0 },
    { "[", BRACKET, NULL, 0, 0 },
    { "[]", IPV6, NULL, 0, 0 },
    { "[::1", BRACKET, NULL, 0, 0 },
    { "[::1]:443", BRACKET, NULL, 0, 0 },
    { "[fe80::1%eth0]", IPV6, NULL, 0, 0 },
    { "example.org:443", NAKED, NULL, 0, 0 },
    { "::1", NAKED, NULL, 0, 0 },
    { "user@example.org", CHARACTER, NULL, 0, 0 },
    { "example.org/", CHARACTER, NULL, 0, 0 },
    { "example.org?", CHARACTER, NULL, 0, 0 },
    { "example.org#", CHARACTER, NULL, 0, 0 },
    { "example%2eorg", CHARACTER, NULL, 0, 0 },
    { "*", CHARACTER, NULL, 0, 0 },
    { "127.1", IPV4, NULL, 0, 0 }
};


typedef const char *(*unit_parse_pt)(ngx_tunnel_target_t *t, u_char *data,
    size_t len);


/*
 * Parses a copy of its own of the input, into a target of its own, whose bytes
 * behind buf have to stay as they are.  Both are of unit_free().
 */

static const char *
unit_parse(unit_parse_pt parse, const void *input, size_t len, u_char **data,
    ngx_tunnel_target_t **t)
{
    u_char      *p, *end;
    const char  *err;

    *data = unit_block(input, len);
    *t = malloc(sizeof(ngx_tunnel_target_t));

    if (*t == NULL) {
        abort();
    }

    memset(*t, 0xa5, sizeof(ngx_tunnel_target_t));

    err = parse(*t, *data, len);

    p = (*t)->buf + sizeof((*t)->buf);
    end = (u_char *) (*t + 1);

    while (p < end && *p == 0xa5) {
        p++;
    }

    unit_check(p == end, "\"%s\": written behind buf", unit_text(input, len));

    unit_check(len == 0 || memcmp(*data, input, len) == 0,
               "\"%s\": the input was changed", unit_text(input, len));

    return err;
}


static void
unit_free(u_char *data, ngx_tunnel_target_t *t)
{
    free(data);
    free(t);
}


static void
unit_target_case(unit_parse_pt parse, const void *input, size_t len,
    const unit_target_t *c)
{
    char                  text[512];
    u_char               *data;
    const char           *err, *shown;
    struct in6_addr       addr;
    ngx_tunnel_target_t  *t;

    err = unit_parse(parse, input, len, &data, &t);
    shown = unit_text(input, len);

    if (c->error) {
        unit_check(err && strcmp(err, c->error) == 0,
                   "\"%s\": \"%s\" instead of \"%s\"",
                   shown, err ? err : "no error", c->error);
        goto done;
    }

    if (!unit_check(err == NULL, "\"%s\": %s", shown, err)) {
        goto done;
    }

    unit_check(t->host.data == t->buf && unit_is(&t->host, c->host),
               "\"%s\": host \"%s\" instead of \"%s\"", shown,
               unit_text(t->host.data, t->host.len), c->host);

    unit_check(t->family == c->family, "\"%s\": family %d", shown, t->family);

    if (c->family == AF_INET) {
        inet_pton(AF_INET, c->host, &addr);
        unit_check(memcmp(&addr, &t->addr.in, 4) == 0, "\"%s\": addr", shown);
    }

    if (c->family == AF_INET6) {
        sprintf(text, "%.*s", (int) strlen(c->host) - 2, c->host + 1);
        inet_pton(AF_INET6, text, &addr);
        unit_check(memcmp(&addr, &t->addr.in6, 16) == 0, "\"%s\": addr",
                   shown);
    }

    if (parse == ngx_tunnel_target_parse) {
        sprintf(text, "%s:%lu", c->host, c->port);

        unit_check(t->port == c->port, "\"%s\": port %d", shown, t->port);
        unit_check(t->text.data == t->buf && unit_is(&t->text, text),
                   "\"%s\": text \"%s\" instead of \"%s\"", shown,
                   unit_text(t->text.data, t->text.len), text);
    }

done:

    unit_free(data, t);
}


void
unit_target(void)
{
    ngx_uint_t  i, k;

    for (i = 0; i < unit_nelts(unit_target_cases); i++) {
        unit_target_case(ngx_tunnel_target_parse, unit_target_cases[i].input,
                         strlen(unit_target_cases[i].input),
                         &unit_target_cases[i]);
    }

    /* no message is without a case, but for those of lengths */

    for (k = 0; k < unit_nelts(unit_messages); k++) {

        for (i = 0; i < unit_nelts(unit_target_cases); i++) {
            if (unit_target_cases[i].error
                && strcmp(unit_target_cases[i].error, unit_messages[k]) == 0)
            {
                break;
            }
        }

        unit_check(i < unit_nelts(unit_target_cases)
                   || strcmp(unit_messages[k], HOST_LEN) == 0
                   || strcmp(unit_messages[k], LABEL_LEN) == 0,
                   "\"%s\" has no case", unit_messages[k]);
    }
}


void
unit_target_hosts(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_nelts(unit_target_host_cases); i++) {
        unit_target_case(ngx_tunnel_target_parse_host,
                         unit_target_host_cases[i].input,
                         strlen(unit_target_host_cases[i].input),
                         &unit_target_host_cases[i]);
    }
}


/* every number of up to seven digits, and every string of two bytes */

void
unit_target_ports(void)
{
    char           text[16];
    u_char        *p;
    int            len;
    ngx_uint_t     n, port, expected, wrong;
    unit_target_t  c;

    for (n = 0, wrong = 0; n < 10000000; n += (n < 70000) ? 1 : 997) {
        len = sprintf(text, "%lu", n);

        p = malloc(len);
        memcpy(p, text, len);
        port = ngx_tunnel_target_parse_port(p, len);
        free(p);

        if (port != (n > 65535 ? 0 : n)) {
            wrong++;
            unit_check(0, "\"%s\": %lu", text, port);
        }
    }

    unit_check(wrong == 0, "%lu numbers", wrong);

    for (n = 0, wrong = 0; n < 65536; n++) {

        p = malloc(2);
        p[0] = n >> 8;
        p[1] = n & 0xff;
        port = ngx_tunnel_target_parse_port(p, 2);

        expected = 0;

        if (p[0] >= '0' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9') {
            expected = (p[0] - '0') * 10 + p[1] - '0';
        }

        if (port != expected) {
            wrong++;
            unit_check(0, "\"%s\": %lu", unit_text(p, 2), port);
        }

        free(p);
    }

    unit_check(wrong == 0, "%lu strings", wrong);

    p = unit_block(NULL, 0);
    unit_check(ngx_tunnel_target_parse_port(p, 0) == 0, "an empty string");
    free(p);

    /* all that are valid, behind a host */

    for (n = 1; n < 65536; n += (n < 1024 || n > 65000) ? 1 : 61) {
        sprintf(text, "h:%lu", n);
        c = (unit_target_t) { text, NULL, "h", n, AF_UNSPEC };
        unit_target_case(ngx_tunnel_target_parse, text, strlen(text), &c);
    }
}


/* a name with a label of so many bytes, and one of a length altogether */

void
unit_target_lengths(void)
{
    char           host[1024], text[1280];
    size_t         len, i;
    ngx_uint_t     k;
    unit_target_t  c;

    static const char *const  around[][2] = {
        { "", "" }, { "a.", "" }, { "", ".a" }, { "a.", ".a" }
    };

    for (len = 1; len <= 300; len++) {
        for (k = 0; k < unit_nelts(around); k++) {

            i = sprintf(host, "%s%0*d%s", around[k][0], (int) len, 0,
                        around[k][1]);
            memset(host + strlen(around[k][0]), 'x', len);

            c = (unit_target_t) { text, NULL, host, 65535, AF_UNSPEC };

            if (i > 253) {
                c.error = HOST_LEN;

            } else if (len > 63) {
                c.error = LABEL_LEN;
            }

            sprintf(text, "%s:65535", host);
            unit_target_case(ngx_tunnel_target_parse, text, strlen(text), &c);

            /* the root's dot is none of the 253 */

            sprintf(text, "%s.:65535", host);
            unit_target_case(ngx_tunnel_target_parse, text, strlen(text), &c);
        }
    }

    for (len = 1; len <= 600; len++) {

        for (i = 0; i < len; i++) {
            host[i] = (i % 64 == 63 && i != len - 1) ? '.' : 'a' + i % 26;
        }

        host[len] = '\0';

        if (len % 64 == 0) {

            /* one of 64 bytes at the end */

            c = (unit_target_t) { text, len > 253 ? HOST_LEN : LABEL_LEN,
                                  NULL, 0, 0 };
        } else {
            c = (unit_target_t) { text, len > 253 ? HOST_LEN : NULL, host,
                                  65535, AF_UNSPEC };
        }

        sprintf(text, "%s:65535", host);
        unit_target_case(ngx_tunnel_target_parse, text, strlen(text), &c);

        sprintf(text, "%s.:65535", host);
        unit_target_case(ngx_tunnel_target_parse, text, strlen(text), &c);
    }

    /* the longest that there is takes all of buf */

    for (i = 0; i < 253; i++) {
        host[i] = (i % 64 == 63) ? '.' : 'A';
    }

    host[253] = '\0';

    sprintf(text, "%s.:065535", host);

    for (i = 0; i < 253; i++) {
        host[i] = ngx_tolower(host[i]);
    }

    c = (unit_target_t) { text, NULL, host, 65535, AF_UNSPEC };
    unit_target_case(ngx_tunnel_target_parse, text, strlen(text), &c);

    unit_check(NGX_TUNNEL_TARGET_LEN == 253 + 6, "NGX_TUNNEL_TARGET_LEN");
}


static const char *
unit_target_byte_error(ngx_uint_t ch)
{
    switch (ch) {
    case '@':  return USERINFO;
    case '/':  return PATH;
    case '?':  return QUERY;
    case '#':  return FRAGMENT;
    case '%':  return PERCENT;
    }

    return NULL;
}


/* each byte alone, and at every place of a target */

void
unit_target_bytes(void)
{
    char           text[64], host[64];
    ngx_uint_t     ch, alnum;
    unit_target_t  c;

    for (ch = 0; ch < 256; ch++) {

        alnum = (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z')
                || (ch >= 'A' && ch <= 'Z') || ch == '-' || ch == '_';

        /* alone */

        text[0] = ch;
        c = (unit_target_t) { text, unit_target_byte_error(ch), NULL, 0, 0 };

        if (c.error == NULL) {
            c.error = (ch == ':') ? NO_HOST : NO_PORT;
        }

        unit_target_case(ngx_tunnel_target_parse, text, 1, &c);

        /* in a name */

        memcpy(text, "ab.cd:443", 9);
        text[1] = ch;

        sprintf(host, "a%c.cd", ngx_tolower(ch));
        c = (unit_target_t) { text, unit_target_byte_error(ch), host, 443,
                              AF_UNSPEC };

        if (c.error == NULL && !alnum) {
            c.error = (ch == ':') ? NAKED : (ch == '.') ? NO_LABEL : CHARACTER;
        }

        unit_target_case(ngx_tunnel_target_parse, text, 9, &c);

        /* before a name */

        memcpy(text, "xb.cd:443", 9);
        text[0] = ch;

        sprintf(host, "%cb.cd", ngx_tolower(ch));
        c = (unit_target_t) { text, unit_target_byte_error(ch), host, 443,
                              AF_UNSPEC };

        if (c.error == NULL && !alnum) {
            c.error = (ch == ':') ? NAKED : (ch == '.') ? NO_LABEL
                      : (ch == '[') ? BRACKET : CHARACTER;
        }

        unit_target_case(ngx_tunnel_target_parse, text, 9, &c);

        /* behind an IPv6 address */

        memcpy(text, "[1::2x]:443", 11);
        text[5] = ch;

        sprintf(host, "[1::2%c]", ngx_tolower(ch));
        c = (unit_target_t) { text, unit_target_byte_error(ch), host, 443,
                              AF_INET6 };

        if (c.error == NULL && !(ngx_tolower(ch) >= 'a'
                                 && ngx_tolower(ch) <= 'f')
            && !(ch >= '0' && ch <= '9'))
        {
            c.error = IPV6;
        }

        unit_target_case(ngx_tunnel_target_parse, text, 11, &c);

        /* in and behind the port */

        memcpy(text, "a:4x3", 5);
        text[3] = ch;

        c = (unit_target_t) { text, unit_target_byte_error(ch), "a",
                              403 + (ch - '0') * 10, AF_UNSPEC };

        if (c.error == NULL && !(ch >= '0' && ch <= '9')) {
            c.error = (ch == ':') ? NAKED : PORT;
        }

        unit_target_case(ngx_tunnel_target_parse, text, 5, &c);

        memcpy(text, "a:44x", 5);
        text[4] = ch;

        c.port = 440 + ch - '0';

        if (ch == ':') {
            c.error = NAKED;
        }

        unit_target_case(ngx_tunnel_target_parse, text, 5, &c);
    }
}


/*
 * What parse() should say of an input, written another way: cut from the right
 * and then compared with sets of characters.  Returns the canonical text or
 * NULL.
 */

static const char *
unit_target_expected(const u_char *data, size_t len)
{
    char        host[1024], *p, *label, *port;
    size_t      i, n;
    ngx_uint_t  number;
    u_char      addr[16];

    static char  text[1100];

    if (len >= sizeof(host) || memchr(data, '\0', len)) {
        return NULL;
    }

    for (i = 0; i < len; i++) {
        host[i] = ngx_tolower(data[i]);
    }

    host[len] = '\0';

    port = strrchr(host, ':');
    if (port == NULL) {
        return NULL;
    }

    *port++ = '\0';

    n = strlen(port);
    if (n == 0 || n > 6 || strspn(port, "0123456789") != n) {
        return NULL;
    }

    number = strtoul(port, NULL, 10);
    if (number == 0 || number > 65535) {
        return NULL;
    }

    n = strlen(host);

    if (host[0] == '[') {

        if (n < 2 || host[n - 1] != ']') {
            return NULL;
        }

        host[n - 1] = '\0';

        if (inet_pton(AF_INET6, host + 1, addr) != 1) {
            return NULL;
        }

        if (memcmp(addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0) {
            inet_ntop(AF_INET, (char *) addr + 12, text, 64);
            sprintf(text + strlen(text), ":%lu", number);

            return text;
        }

        text[0] = '[';
        inet_ntop(AF_INET6, addr, text + 1, 64);
        sprintf(text + strlen(text), "]:%lu", number);

        return text;
    }

    if (n && host[n - 1] == '.') {
        host[--n] = '\0';
    }

    if (n == 0 || n > 253) {
        return NULL;
    }

    for (label = host; ; label = p + 1) {
        i = strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789-_");
        p = label + i;

        if (i == 0 || i > 63 || (*p != '.' && *p != '\0')) {
            return NULL;
        }

        if (*p == '\0') {
            break;
        }
    }

    if ((strspn(label, "0123456789") == i
         || (strncmp(label, "0x", 2) == 0
             && strspn(label + 2, "0123456789abcdef") == i - 2))
        && inet_pton(AF_INET, host, addr) != 1)
    {
        return NULL;
    }

    sprintf(text, "%s:%lu", host, number);

    return text;
}


/* returns where it went wrong, or NULL */

static const char *
unit_target_invariants(const u_char *input, size_t len, const char *err,
    ngx_tunnel_target_t *t)
{
    char                  host[512];
    u_char               *data;
    size_t                i;
    const char           *expected, *again;
    struct in_addr        in;
    ngx_tunnel_target_t  *t2;

    expected = unit_target_expected(input, len);

    if (err) {
        return expected ? "refused" : NULL;
    }

    if (t->host.data != t->buf || t->text.data != t->buf) {
        return "a string is not in buf";
    }

    if (t->host.len == 0 || t->host.len > NGX_TUNNEL_HOST_LEN
        || t->text.len < t->host.len + 2
        || t->text.len > t->host.len + 6
        || t->text.len > NGX_TUNNEL_TARGET_LEN
        || t->buf[t->host.len] != ':')
    {
        return "a length";
    }

    for (i = 0; i < t->text.len; i++) {
        if (strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.:[]", t->buf[i])
            == NULL || t->buf[i] == '\0')
        {
            return "a character";
        }
    }

    if (t->host.data[t->host.len - 1] == '.') {
        return "a trailing dot";
    }

    if (t->buf[t->host.len + 1] == '0' || t->port == 0
        || (ngx_uint_t) ngx_atoi(t->buf + t->host.len + 1,
                                 t->text.len - t->host.len - 1) != t->port)
    {
        return "the port";
    }

    if (expected == NULL) {
        return "not refused";
    }

    if (!unit_is(&t->text, expected)) {
        return "not canonical";
    }

    sprintf(host, "%.*s", (int) t->host.len, t->host.data);

    if ((t->family == AF_INET6) != (host[0] == '[')) {
        return "the family is not that of brackets";
    }

    /* what the C library takes for an address is one, and the same one */

    if ((t->family == AF_INET) != (inet_aton(host, &in) != 0)) {
        return "inet_aton()";
    }

    if (t->family == AF_INET && in.s_addr != t->addr.in.s_addr) {
        return "inet_aton() has another address";
    }

    again = unit_parse(ngx_tunnel_target_parse, t->text.data, t->text.len,
                       &data, &t2);

    if (again == NULL
        && (t2->text.len != t->text.len || t2->host.len != t->host.len
            || t2->port != t->port || t2->family != t->family
            || memcmp(t2->buf, t->buf, t->text.len) != 0
            || (t->family == AF_INET
                && memcmp(&t2->addr, &t->addr, 4) != 0)
            || (t->family == AF_INET6
                && memcmp(&t2->addr, &t->addr, 16) != 0)))
    {
        again = "is another when parsed again";
    }

    unit_free(data, t2);

    return again;
}


static const char *const  unit_pieces[] = {
    "example.org", "EXAMPLE", ".", "..", ":", "::", "[", "]", "[::1]", ":443",
    ":0", ":65535", ":65536", "0", "0x", "7f", "127.0.0.1", "255", "256", "1.",
    "::ffff:", "fe80::", "%", "@", "/", "?", "#", "http://", " ", "\r\n", "-",
    "_", "\x80", "\xff", "xn--", "0000:", "ffff:", "+", "99999", "a.b.c.d.",
    "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz",
    ".example"
};


#define UNIT_MUTATIONS  200000


static size_t
unit_target_mutate(u_char *data, size_t len, size_t max)
{
    size_t       at, n;
    const char  *piece;

    at = len ? unit_random() % len : 0;

    switch (unit_random() % 8) {

    case 0:  /* another byte */
        if (len) {
            data[at] = unit_random();
        }

        return len;

    case 1:  /* another bit */
        if (len) {
            data[at] ^= 1 << unit_random() % 8;
        }

        return len;

    case 2:  /* some bytes less */
        n = unit_random() % 8;
        n = ngx_min(n, len - at);
        memmove(data + at, data + at + n, len - at - n);

        return len - n;

    case 3:  /* a bit of it once more */
        n = unit_random() % 80;
        n = ngx_min(n, len - at);
        n = ngx_min(n, max - len);
        memmove(data + at + n, data + at, len - at);

        return len + n;

    case 4:  /* labels in front, at times too many */
        n = 4 * (unit_random() % 70);
        n = ngx_min(n, (max - len) / 4 * 4);
        memmove(data + n, data, len);

        for (at = 0; at < n; at++) {
            data[at] = "Ab9."[at % 4];
        }

        return len + n;

    case 5:  /* digits at the end */
        n = ngx_min(max - len, 1 + unit_random() % 3);
        memset(data + len, '0' + unit_random() % 10, n);

        return len + n;

    default:  /* something that means something */
        piece = unit_pieces[unit_random() % unit_nelts(unit_pieces)];
        n = ngx_min(strlen(piece), max - len);
        memmove(data + at + n, data + at, len - at);
        memcpy(data + at, piece, n);

        return len + n;
    }
}


void
unit_target_mutations(void)
{
    u_char                input[600], *data;
    size_t                len;
    ngx_uint_t            i, k, n, valid[3], wrong;
    ngx_uint_t            seen[unit_nelts(unit_messages)];
    const char           *err, *what, *start;
    ngx_tunnel_target_t  *t;

    memset(seen, 0, sizeof(seen));
    memset(valid, 0, sizeof(valid));

    for (i = 0, wrong = 0; i < UNIT_MUTATIONS; i++) {

        start = unit_target_cases[unit_random()
                                  % unit_nelts(unit_target_cases)].input;

        len = strlen(start);
        memcpy(input, start, len);

        for (n = unit_random() % 6; n; n--) {
            len = unit_target_mutate(input, len, sizeof(input));
        }

        err = unit_parse(ngx_tunnel_target_parse, input, len, &data, &t);

        if (err) {
            for (k = 0; k < unit_nelts(unit_messages); k++) {
                if (strcmp(err, unit_messages[k]) == 0) {
                    seen[k]++;
                    break;
                }
            }

            unit_check(k < unit_nelts(unit_messages), "unknown: %s", err);

        } else {
            valid[t->family == AF_INET ? 0 : t->family == AF_INET6 ? 1 : 2]++;
        }

        what = unit_target_invariants(input, len, err, t);

        if (what) {
            wrong++;
            unit_check(0, "\"%s\": %s", unit_text(input, len), what);
        }

        unit_free(data, t);
    }

    unit_check(wrong == 0, "%lu inputs", wrong);

    /* a loop that comes nowhere proves nothing */

    for (k = 0; k < unit_nelts(unit_messages); k++) {
        unit_check(seen[k] >= 20, "%lu times: %s", seen[k], unit_messages[k]);
    }

    for (k = 0; k < 3; k++) {
        unit_check(valid[k] >= 1000, "%lu valid inputs of kind %lu",
                   valid[k], k);
    }
}


/* a host and a port that came apart, as SOCKS has them */

static const unit_target_t  unit_target_set_cases[] = {
    { "::", NULL, "[::]", 0, AF_INET6 },
    { "::1", NULL, "[::1]", 0, AF_INET6 },
    { "[::1]", NULL, "[::1]", 0, AF_INET6 },
    { "0:0:0:0:0:0:0:1", NULL, "[::1]", 0, AF_INET6 },
    { "2001:DB8::ABCD", NULL, "[2001:db8::abcd]", 0, AF_INET6 },
    { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", NULL,
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", 0, AF_INET6 },
    { "::ffff:127.0.0.1", NULL, "127.0.0.1", 0, AF_INET },
    { "::FFFF:7f00:1", NULL, "127.0.0.1", 0, AF_INET },
    { "::127.0.0.1", NULL, "[::127.0.0.1]", 0, AF_INET6 },
    { "64:ff9b::127.0.0.1", NULL, "[64:ff9b::7f00:1]", 0, AF_INET6 },

    { ":", IPV6, NULL, 0, 0 },
    { ":::", IPV6, NULL, 0, 0 },
    { "a:", IPV6, NULL, 0, 0 },
    { ":a", IPV6, NULL, 0, 0 },
    { "1:2:3:4:5:6:7", IPV6, NULL, 0, 0 },
    { "1::2::3", IPV6, NULL, 0, 0 },
    { "::1]", IPV6, NULL, 0, 0 },
    { "::1.", IPV6, NULL, 0, 0 },
    { " ::1", IPV6, NULL, 0, 0 },
    { "::ffff:127.1", IPV6, NULL, 0, 0 },
    { "fe80::1%eth0", IPV6, NULL, 0, 0 },
    { "example.org:443", IPV6, NULL, 0, 0 },
    { "127.0.0.1:443", IPV6, NULL, 0, 0 },
    { "http://example.org", IPV6, NULL, 0, 0 },
    { "[::1]:443", BRACKET, NULL, 0, 0 },
    { "0000:0000:0000:0000:0000:0000:127.000.000.001", IPV6, NULL, 0, 0 },
    { "0000:0000:0000:0000:0000:0000:0000:00000000001", IPV6, NULL, 0, 0 }
};


static in_port_t  unit_target_set_port;


static const char *
unit_set(ngx_tunnel_target_t *t, u_char *host, size_t len)
{
    const char  *err;

    err = ngx_tunnel_target_set(t, host, len, unit_target_set_port);

    /* it is the caller's, and so it is known */

    unit_check(err || t->port == unit_target_set_port,
               "port %u instead of %u", (unsigned) t->port,
               (unsigned) unit_target_set_port);

    return err;
}


static void
unit_target_set_case(const void *host, size_t len, const unit_target_t *c)
{
    char                  text[512];
    u_char               *data;
    const char           *err;
    ngx_uint_t            i;
    ngx_tunnel_target_t  *t;

    static const in_port_t  ports[] = { 0, 1, 80, 443, 10000, 65535 };

    for (i = 0; i < unit_nelts(ports); i++) {

        unit_target_set_port = ports[i];

        unit_target_case(unit_set, host, len, c);

        if (c->error) {
            continue;
        }

        err = unit_parse(unit_set, host, len, &data, &t);

        sprintf(text, "%s:%u", c->host, (unsigned) ports[i]);

        unit_check(err == NULL && t->text.data == t->buf
                   && unit_is(&t->text, text),
                   "\"%s\": text \"%s\"", unit_text(host, len),
                   unit_text(t->text.data, t->text.len));

        unit_free(data, t);
    }
}


void
unit_target_set(void)
{
    char           host[300], text[300];
    size_t         len, i;
    unit_target_t  c;

    for (i = 0; i < unit_nelts(unit_target_set_cases); i++) {
        unit_target_set_case(unit_target_set_cases[i].input,
                             strlen(unit_target_set_cases[i].input),
                             &unit_target_set_cases[i]);
    }

    /* and all that is the same with and without a port */

    for (i = 0; i < unit_nelts(unit_target_host_cases); i++) {
        c = unit_target_host_cases[i];

        if (c.input[0] != '[' && strchr(c.input, ':')) {
            continue;
        }

        unit_target_set_case(c.input, strlen(c.input), &c);
    }

    /* zero bytes are no ends */

    c = (unit_target_t) { NULL, CHARACTER, NULL, 0, 0 };
    unit_target_set_case("a\0", 2, &c);
    unit_target_set_case("\0", 1, &c);
    unit_target_set_case("127.0.0.1\0", 10, &c);

    c.error = IPV6;
    unit_target_set_case("::1\0", 4, &c);
    unit_target_set_case("\0::1", 4, &c);
    unit_target_set_case("[::1\0]", 6, &c);

    for (len = 1; len <= 256; len++) {

        for (i = 0; i < len; i++) {
            host[i] = (i % 64 == 63) ? '.' : 'A' + i % 26;
            text[i] = ngx_tolower(host[i]);
        }

        text[len - (len % 64 == 0)] = '\0';

        c = (unit_target_t) { host, len > 253 ? HOST_LEN : NULL, text, 0,
                              AF_UNSPEC };

        if (len == 256) {

            /* whose last byte is the dot */

            c.error = HOST_LEN;
        }

        unit_target_set_case(host, len, &c);
    }
}


/* it takes what parse() takes, and makes the same of it */

void
unit_target_set_random(void)
{
    char                 *colon;
    u_char                input[400], whole[420], *data, *data2;
    size_t                len, n;
    ngx_uint_t            i, k, ok, naked, wrong;
    const char           *start, *err, *err2;
    ngx_tunnel_target_t  *t, *t2;

    ok = 0;
    naked = 0;
    wrong = 0;

    for (i = 0; i < UNIT_MUTATIONS / 8; i++) {

        start = unit_target_cases[unit_random()
                                  % unit_nelts(unit_target_cases)].input;

        colon = strrchr(start, ':');
        len = colon ? (size_t) (colon - start) : strlen(start);

        if (len > 2 && start[0] == '[' && unit_random() % 2) {
            start++;
            len -= 2;
        }

        memcpy(input, start, len);

        for (k = unit_random() % 4; k; k--) {
            len = unit_target_mutate(input, len, sizeof(input));
        }

        unit_target_set_port = 1 + unit_random() % 65535;

        n = memchr(input, ':', len) != NULL && input[0] != '[';

        n = sprintf((char *) whole, n ? "[" : "");
        memcpy(whole + n, input, len);
        n = n + len + sprintf((char *) whole + n + len, n ? "]:%u" : ":%u",
                              (unsigned) unit_target_set_port);

        err = unit_parse(unit_set, input, len, &data, &t);
        err2 = unit_parse(ngx_tunnel_target_parse, whole, n, &data2, &t2);

        if ((err == NULL) != (err2 == NULL)
            || (err == NULL
                && (t->text.len != t2->text.len
                    || t->host.len != t2->host.len
                    || t->port != t2->port
                    || t->family != t2->family
                    || memcmp(t->buf, t2->buf, t->text.len) != 0
                    || (t->family == AF_INET
                        && memcmp(&t->addr, &t2->addr, 4) != 0)
                    || (t->family == AF_INET6
                        && memcmp(&t->addr, &t2->addr, 16) != 0))))
        {
            wrong++;
            unit_check(0, "\"%s\" and %u: %s, \"%s\": %s",
                       unit_text(input, len), (unsigned) unit_target_set_port,
                       err, unit_text(whole, n), err2);
        }

        if (err == NULL) {
            ok++;
            naked += (whole[0] == '[' && input[0] != '[');
        }

        unit_free(data, t);
        unit_free(data2, t2);
    }

    unit_check(wrong == 0, "%lu hosts", wrong);
    unit_check(ok > 2000 && naked > 200, "%lu and %lu valid ones", ok, naked);
}


/* addresses as they are in a sockaddr: as if they had come as text */

void
unit_target_addresses(void)
{
    char                  host[64];
    u_char               *block, *addr, *data, ip[NGX_TUNNEL_IP_LEN + 1];
    size_t                len;
    ngx_uint_t            i, k, mapped, wrong;
    in_port_t             port;
    const char           *err, *text;
    ngx_tunnel_target_t  *t, *t2;

    static const char *const  addresses[] = {
        "0.0.0.0", "127.0.0.1", "255.255.255.255", "0.0.0.1", "10.20.30.40",
        "::", "::1", "::ffff:1.2.3.4", "::ffff:0.0.0.0",
        "::ffff:255.255.255.255", "::fffe:1.2.3.4", "::1.2.3.4",
        "::ffff:0:1.2.3.4", "64:ff9b::1.2.3.4", "2002:102:304::",
        "fe80::1", "2001:db8:0:1:1:1:1:1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    };

    mapped = 0;
    wrong = 0;

    for (i = 0; i < 20000; i++) {

        /* a block of its own, and where no int has to begin */

        text = i < unit_nelts(addresses) * 4 ? addresses[i / 4] : NULL;

        len = (text ? strchr(text, ':') != NULL : unit_random() % 2) ? 16 : 4;

        block = malloc(len + 1);
        addr = block + 1;

        if (text) {
            inet_pton(len == 4 ? AF_INET : AF_INET6, text, addr);

        } else {
            for (k = 0; k < len; k++) {
                addr[k] = unit_random() % 2 ? unit_random() : 0;
            }

            if (len == 16 && i % 8 == 0) {
                memcpy(addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
            }
        }

        switch (i % 4) {
        case 0:  port = 0; break;
        case 1:  port = 65535; break;
        default: port = unit_random(); break;
        }

        t = malloc(sizeof(ngx_tunnel_target_t));
        memset(t, 0xa5, sizeof(ngx_tunnel_target_t));

        ngx_tunnel_target_set_address(t, len == 4 ? AF_INET : AF_INET6, addr,
                                      port);

        inet_ntop(len == 4 ? AF_INET : AF_INET6, addr, host, sizeof(host));

        unit_target_set_port = port;
        err = unit_parse(unit_set, host, strlen(host), &data, &t2);

        mapped += (len == 16 && t->family == AF_INET);

        if (err
            || t->text.data != t->buf || t->host.data != t->buf
            || t->family != t2->family || t->port != port
            || (len == 4 && t->family != AF_INET)
            || t->text.len != t2->text.len || t->host.len != t2->host.len
            || memcmp(t->buf, t2->buf, t->text.len) != 0
            || memcmp(&t->addr, &t2->addr, t->family == AF_INET ? 4 : 16) != 0
            || memcmp(&t->addr, addr + (t->family == AF_INET ? len - 4 : 0),
                      t->family == AF_INET ? 4 : 16) != 0)
        {
            wrong++;
            unit_check(0, "%s and %u: \"%s\"", host, (unsigned) port,
                       unit_text(t->text.data, t->text.len));
        }

        /* in one form for both */

        memset(ip, 0xa5, sizeof(ip));

        ngx_tunnel_ip(ip, len == 4 ? AF_INET : AF_INET6, addr);

        if (memcmp(ip + 16 - len, addr, len) != 0
            || (len == 4
                && memcmp(ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) != 0)
            || ip[16] != 0xa5)
        {
            wrong++;
            unit_check(0, "%s: IP \"%s\"", host, unit_text(ip, 17));
        }

        free(block);
        free(t);
        unit_free(data, t2);
    }

    unit_check(wrong == 0, "%lu addresses", wrong);
    unit_check(mapped > 1000, "%lu mapped addresses", mapped);
}
