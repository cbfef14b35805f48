
/*
 * SOCKS: every message whole, cut, and glued to another; replies; datagrams.
 */


#include "unit.h"

#include <sys/un.h>


/* the messages, which the log shows */

#define VERSION   "the version is not 5"
#define NO_PORT   "the port is 0"
#define NO_HOST   "the host is empty"
#define USER_LEN  "the userid is longer than 255 bytes"
#define NAME_LEN  "the host is longer than 255 bytes"
#define HOST_LEN  "the host is longer than 253 bytes"
#define LABEL_LEN "the host has a label longer than 63 bytes"
#define NO_LABEL  "the host has an empty label"
#define CHARACTER "the host has an invalid character"
#define BRACKET   "a bracket is not closed"
#define IPV4      "an IPv4 address must be four decimal numbers"
#define IPV6      "the IPv6 address is invalid"


typedef enum {
    UNIT_METHODS = 0,
    UNIT_PASSWORD,
    UNIT_SOCKS5,
    UNIT_SOCKS4,
    UNIT_DATAGRAM
} unit_kind_e;


static const char *const  unit_kinds[] = {
    "methods", "password", "request of 5", "request of 4", "datagram"
};


/* a call of a parser with a block of its own, which is no byte longer */

typedef struct {
    u_char                      *block;
    u_char                      *start;
    u_char                      *pos;
    u_char                      *last;
    ngx_int_t                    rc;

    ngx_str_t                    first;     /* methods, user, host */
    ngx_str_t                    second;    /* password */
    ngx_tunnel_socks_request_t  *request;
    ngx_sockaddr_t              *sockaddr;
    in_port_t                    port;
} unit_call_t;


#define UNIT_FRONT  3


/* bytes that are no part of the message may be in front of it */

static void
unit_call(unit_call_t *call, unit_kind_e kind, const void *data, size_t len,
    size_t front)
{
    call->block = unit_block(NULL, front + len);
    call->request = malloc(sizeof(ngx_tunnel_socks_request_t));
    call->sockaddr = malloc(sizeof(ngx_sockaddr_t));

    if (call->request == NULL || call->sockaddr == NULL) {
        abort();
    }

    call->start = call->block + front;
    call->pos = call->start;
    call->last = call->start + len;

    if (front) {
        memset(call->block, 5, front);
    }

    if (len) {
        memcpy(call->start, data, len);
    }

    memset(call->request, 0xa5, sizeof(ngx_tunnel_socks_request_t));
    memset(call->sockaddr, 0xa5, sizeof(ngx_sockaddr_t));
    memset(&call->first, 0xa5, sizeof(ngx_str_t));
    memset(&call->second, 0xa5, sizeof(ngx_str_t));

    switch (kind) {

    case UNIT_METHODS:
        call->rc = ngx_tunnel_socks5_methods(&call->pos, call->last,
                                             &call->first);
        break;

    case UNIT_PASSWORD:
        call->rc = ngx_tunnel_socks5_password(&call->pos, call->last,
                                              &call->first, &call->second);
        break;

    case UNIT_SOCKS5:
        call->rc = ngx_tunnel_socks5_request(&call->pos, call->last,
                                             call->request);
        break;

    case UNIT_SOCKS4:
        call->rc = ngx_tunnel_socks4_request(&call->pos, call->last,
                                             call->request);
        break;

    default: /* UNIT_DATAGRAM */
        call->rc = ngx_tunnel_socks5_datagram(&call->pos, call->last,
                                              call->sockaddr, &call->first,
                                              &call->port);
        break;
    }

    if (len && memcmp(call->start, data, len) != 0) {
        unit_check(0, "%s: the input was changed", unit_kinds[kind]);
    }

    if (call->rc != NGX_OK && call->pos != call->start) {
        unit_check(0, "%s: %ld, and moved", unit_kinds[kind], call->rc);
    }

    if (call->rc == NGX_OK
        && (call->pos <= call->start || call->pos > call->last))
    {
        unit_check(0, "%s: at %ld of %lu", unit_kinds[kind],
                   call->pos - call->start, len);
    }
}


static void
unit_call_free(unit_call_t *call)
{
    free(call->block);
    free(call->request);
    free(call->sockaddr);
}


/* bytes of the input, and in it */

static ngx_uint_t
unit_call_string(unit_call_t *call, ngx_str_t *s, const char *data, size_t len)
{
    return s->len == len
           && (len == 0 || (s->data >= call->start
                            && s->data + len <= call->pos
                            && memcmp(s->data, data, len) == 0));
}


/* a message, and what it says */

typedef struct {
    unit_kind_e           kind;
    const char           *data;
    size_t                len;

    const char           *first;        /* methods, user, userid */
    size_t                first_len;
    const char           *second;       /* password */
    size_t                second_len;

    ngx_uint_t            command;      /* of requests, and so on */
    ngx_uint_t            named;
    const char           *text;
    int                   family;

    ngx_tunnel_result_e   result;       /* or why not */
    const char           *what;
    size_t                enough;       /* bytes that tell it; 0: all */
} unit_message_t;


#define unit_bytes(s)  (s), sizeof(s) - 1

#define UNIT_OK(c, named, text, family)                                       \
    NULL, 0, NULL, 0, c, named, text, family, NGX_TUNNEL_OK, NULL, 0
#define UNIT_BAD(c, what)                                                     \
    NULL, 0, NULL, 0, c, 0, NULL, 0, NGX_TUNNEL_BAD_REQUEST, what, 0
#define UNIT_ADDRESS(c)                                                       \
    NULL, 0, NULL, 0, c, 0, NULL, 0, NGX_TUNNEL_BAD_ADDRESS, NULL, 4

#define UNIT_OK4(user, c, named, text)                                        \
    unit_bytes(user), NULL, 0, c, named, text, AF_INET, NGX_TUNNEL_OK, NULL, 0
#define UNIT_NAME4(user, c, text)                                             \
    unit_bytes(user), NULL, 0, c, 1, text, AF_UNSPEC, NGX_TUNNEL_OK, NULL, 0
#define UNIT_BAD4(user, c, named, what)                                       \
    unit_bytes(user), NULL, 0, c, named, NULL, 0, NGX_TUNNEL_BAD_REQUEST,     \
    what, 0


static const unit_message_t  unit_messages[] = {

    /* VER NMETHODS METHODS; the version is looked at before */

    { UNIT_METHODS, unit_bytes("\5\0"), unit_bytes(""), NULL, 0,
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_METHODS, unit_bytes("\5\1\0"), unit_bytes("\0"), NULL, 0,
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_METHODS, unit_bytes("\5\1\2"), unit_bytes("\2"), NULL, 0,
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_METHODS, unit_bytes("\5\2\0\2"), unit_bytes("\0\2"), NULL, 0,
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_METHODS, unit_bytes("\5\4\xff\1\0\2"), unit_bytes("\xff\1\0\2"),
      NULL, 0, 0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },

    /* VER ULEN UNAME PLEN PASSWD */

    { UNIT_PASSWORD, unit_bytes("\1\4user\6secret"), unit_bytes("user"),
      unit_bytes("secret"), 0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_PASSWORD, unit_bytes("\1\1u\1p"), unit_bytes("u"), unit_bytes("p"),
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_PASSWORD, unit_bytes("\1\0\0"), unit_bytes(""), unit_bytes(""),
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_PASSWORD, unit_bytes("\1\1u\0"), unit_bytes("u"), unit_bytes(""),
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_PASSWORD, unit_bytes("\1\0\1p"), unit_bytes(""), unit_bytes("p"),
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_PASSWORD, unit_bytes("\1\3u\0v\3\0p:"), unit_bytes("u\0v"),
      unit_bytes("\0p:"), 0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_PASSWORD, unit_bytes("\1\2\xc3\xbc\2\xff\xfe"),
      unit_bytes("\xc3\xbc"), unit_bytes("\xff\xfe"),
      0, 0, NULL, 0, NGX_TUNNEL_OK, NULL, 0 },

    /* VER CMD RSV ATYP DST.ADDR DST.PORT: IPv4 addresses */

    { UNIT_SOCKS5, unit_bytes("\5\1\0\1\x7f\0\0\1\1\xbb"),
      UNIT_OK(1, 0, "127.0.0.1:443", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\1\0\0\0\0\0\1"),
      UNIT_OK(1, 0, "0.0.0.0:1", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\1\xff\xff\xff\xff\xff\xff"),
      UNIT_OK(1, 0, "255.255.255.255:65535", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\1\0\0\0\7\0\x50"),
      UNIT_OK(1, 0, "0.0.0.7:80", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\1\1\2\3\4\1\0"),
      UNIT_OK(1, 0, "1.2.3.4:256", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\2\0\1\1\2\3\4\0\x15"),
      UNIT_OK(2, 0, "1.2.3.4:21", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\2\0\1\0\0\0\0\0\0"),
      UNIT_OK(2, 0, "0.0.0.0:0", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\3\0\1\0\0\0\0\0\0"),
      UNIT_OK(3, 0, "0.0.0.0:0", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\3\0\1\x0a\0\0\1\x13\x88"),
      UNIT_OK(3, 0, "10.0.0.1:5000", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\1\x7f\0\0\1\0\0"),
      UNIT_BAD(1, NO_PORT) },

    /* names, and addresses that come as names */

    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\x0b" "example.org\1\xbb"),
      UNIT_OK(1, 0, "example.org:443", AF_UNSPEC) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\1a\0\1"),
      UNIT_OK(1, 0, "a:1", AF_UNSPEC) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\x0c" "Example.ORG.\xff\xff"),
      UNIT_OK(1, 0, "example.org:65535", AF_UNSPEC) },
    { UNIT_SOCKS5, unit_bytes("\5\2\0\3\x0b" "example.org\0\0"),
      UNIT_OK(2, 0, "example.org:0", AF_UNSPEC) },
    { UNIT_SOCKS5, unit_bytes("\5\3\0\3\x09" "localhost\0\0"),
      UNIT_OK(3, 0, "localhost:0", AF_UNSPEC) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\7" "1.2.3.4\1\xbb"),
      UNIT_OK(1, 0, "1.2.3.4:443", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\3::1\1\xbb"),
      UNIT_OK(1, 0, "[::1]:443", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\5[::1]\1\xbb"),
      UNIT_OK(1, 0, "[::1]:443", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\0\1\xbb"), UNIT_BAD(1, NO_HOST) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\0\0\0"), UNIT_BAD(1, NO_HOST) },
    { UNIT_SOCKS5, unit_bytes("\5\2\0\3\0\0\0"), UNIT_BAD(2, NO_HOST) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\1.\1\xbb"), UNIT_BAD(1, NO_HOST) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\1a\0\0"), UNIT_BAD(1, NO_PORT) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\3::1\0\0"), UNIT_BAD(1, NO_PORT) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\2a \0\0"), UNIT_BAD(1, CHARACTER) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\3\2a\0\1\xbb"),
      UNIT_BAD(1, CHARACTER) },
    { UNIT_SOCKS5, unit_bytes("\5\2\0\3\2a \0\0"), UNIT_BAD(2, CHARACTER) },

    /* with UDP ASSOCIATE a host is a hint, and PySocks has "0" there */

    { UNIT_SOCKS5, unit_bytes("\5\3\0\3\1" "0\x13\x88"),
      UNIT_OK(3, 0, "0.0.0.0:5000", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\3\0\3\2a \0\0"),
      UNIT_OK(3, 0, "0.0.0.0:0", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\3\0\3\0\0\0"),
      UNIT_OK(3, 0, "0.0.0.0:0", AF_INET) },

    /* IPv6 addresses; mapped ones are IPv4 addresses */

    { UNIT_SOCKS5, unit_bytes("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
                              "\1\xbb"),
      UNIT_OK(1, 0, "[::1]:443", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"),
      UNIT_OK(1, 0, "[::]:1", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\1\0\0\0\0"
                              "\xab\xcd\xff\xff"),
      UNIT_OK(1, 0, "[2001:db8::1:0:0:abcd]:65535", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\4\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                              "\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
      UNIT_OK(1, 0, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
              AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1"
                              "\1\xbb"),
      UNIT_OK(1, 0, "127.0.0.1:443", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\x7f\0\0\1"
                              "\1\xbb"),
      UNIT_OK(1, 0, "[::127.0.0.1]:443", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
      UNIT_OK(2, 0, "[::]:0", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\3\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
      UNIT_OK(3, 0, "[::]:0", AF_INET6) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0"),
      UNIT_BAD(1, NO_PORT) },

    /* commands that there are not: what else is right, and what is not */

    { UNIT_SOCKS5, unit_bytes("\5\0\0\1\1\2\3\4\0\0"),
      UNIT_OK(0, 0, "1.2.3.4:0", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\4\0\1\1\2\3\4\1\xbb"),
      UNIT_OK(4, 0, "1.2.3.4:443", AF_INET) },
    { UNIT_SOCKS5, unit_bytes("\5\xff\0\3\1a\1\xbb"),
      UNIT_OK(255, 0, "a:443", AF_UNSPEC) },
    { UNIT_SOCKS5, unit_bytes("\5\xff\0\3\1*\1\xbb"),
      UNIT_BAD(255, CHARACTER) },

    /* address types that there are not, whose lengths nobody knows */

    { UNIT_SOCKS5, unit_bytes("\5\1\0\0\1\2\3\4\1\xbb"), UNIT_ADDRESS(1) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\2\1\2\3\4\1\xbb"), UNIT_ADDRESS(1) },
    { UNIT_SOCKS5, unit_bytes("\5\1\0\5\1\2\3\4\1\xbb"), UNIT_ADDRESS(1) },
    { UNIT_SOCKS5, unit_bytes("\5\2\0\xff"), UNIT_ADDRESS(2) },
    { UNIT_SOCKS5, unit_bytes("\5\xff\0\x83\1a\1\xbb"), UNIT_ADDRESS(255) },

    /* VN CD DSTPORT DSTIP USERID NUL */

    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\x7f\0\0\1\0"),
      UNIT_OK4("", 1, 0, "127.0.0.1:443") },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\x7f\0\0\1user\0"),
      UNIT_OK4("user", 1, 0, "127.0.0.1:443") },
    { UNIT_SOCKS4, unit_bytes("\4\1\xff\xff\xff\xff\xff\xff\xff\x01 \0"),
      UNIT_OK4("\xff\x01 ", 1, 0, "255.255.255.255:65535") },
    { UNIT_SOCKS4, unit_bytes("\4\1\0\1\0\0\0\0u\0"),
      UNIT_OK4("u", 1, 0, "0.0.0.0:1") },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\0\0\0\1\0\0"),
      UNIT_OK4("", 1, 0, "0.0.1.0:256") },
    { UNIT_SOCKS4, unit_bytes("\4\1\0\x50\0\0\1\1\0"),
      UNIT_OK4("", 1, 0, "0.0.1.1:80") },
    { UNIT_SOCKS4, unit_bytes("\4\1\0\x50\0\1\0\1\0"),
      UNIT_OK4("", 1, 0, "0.1.0.1:80") },
    { UNIT_SOCKS4, unit_bytes("\4\1\0\x50\1\0\0\1\0"),
      UNIT_OK4("", 1, 0, "1.0.0.1:80") },
    { UNIT_SOCKS4, unit_bytes("\4\2\0\0\0\0\0\0user\0"),
      UNIT_OK4("user", 2, 0, "0.0.0.0:0") },
    { UNIT_SOCKS4, unit_bytes("\4\3\0\0\1\2\3\4\0"),
      UNIT_OK4("", 3, 0, "1.2.3.4:0") },
    { UNIT_SOCKS4, unit_bytes("\4\0\0\1\1\2\3\4\0"),
      UNIT_OK4("", 0, 0, "1.2.3.4:1") },
    { UNIT_SOCKS4, unit_bytes("\4\1\0\0\x7f\0\0\1user\0"),
      UNIT_BAD4("user", 1, 0, NO_PORT) },

    /* 0.0.0.x: and HOST NUL */

    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1\0" "example.org\0"),
      UNIT_NAME4("", 1, "example.org:443") },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\xffuser\0Example.Org.\0"),
      UNIT_NAME4("user", 1, "example.org:443") },
    { UNIT_SOCKS4, unit_bytes("\4\2\0\0\0\0\0\7u\0a\0"),
      UNIT_NAME4("u", 2, "a:0") },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1\0" "1.2.3.4\0"),
      UNIT_OK4("", 1, 1, "1.2.3.4:443") },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1\0::ffff:1.2.3.4\0"),
      UNIT_OK4("", 1, 1, "1.2.3.4:443") },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1u\0::1\0"),
      unit_bytes("u"), NULL, 0, 1, 1, "[::1]:443", AF_INET6,
      NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1u\0[::1]\0"),
      unit_bytes("u"), NULL, 0, 1, 1, "[::1]:443", AF_INET6,
      NGX_TUNNEL_OK, NULL, 0 },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1user\0\0"),
      UNIT_BAD4("user", 1, 1, NO_HOST) },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1\0\0"),
      UNIT_BAD4("", 1, 1, NO_HOST) },
    { UNIT_SOCKS4, unit_bytes("\4\1\0\0\0\0\0\1u\0a\0"),
      UNIT_BAD4("u", 1, 1, NO_PORT) },
    { UNIT_SOCKS4, unit_bytes("\4\1\1\xbb\0\0\0\1u\0a b\0"),
      UNIT_BAD4("u", 1, 1, CHARACTER) },
    { UNIT_SOCKS4, unit_bytes("\4\2\0\0\0\0\0\1u\0*\0"),
      UNIT_BAD4("u", 2, 1, CHARACTER) }
};


/* hosts as text, and see unit_target_set() */

typedef struct {
    const char  *input;
    const char  *error;          /* or */
    const char  *host;
    int          family;
} unit_host_t;


static const unit_host_t  unit_hosts[] = {
    { "example.org", NULL, "example.org", AF_UNSPEC },
    { "EXAMPLE.org.", NULL, "example.org", AF_UNSPEC },
    { "_dmarc.my_host-", NULL, "_dmarc.my_host-", AF_UNSPEC },
    { "127.0.0.1", NULL, "127.0.0.1", AF_INET },
    { "255.255.255.255.", NULL, "255.255.255.255", AF_INET },
    { "::", NULL, "[::]", AF_INET6 },
    { "[::]", NULL, "[::]", AF_INET6 },
    { "2001:DB8:0:0:1::1", NULL, "[2001:db8::1:0:0:1]", AF_INET6 },
    { "[2001:DB8:0:0:1::1]", NULL, "[2001:db8::1:0:0:1]", AF_INET6 },
    { "FFFF:ffff:ffff:ffff:ffff:ffff:255.255.255.255", NULL,
      "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", AF_INET6 },
    { "::ffff:127.0.0.1", NULL, "127.0.0.1", AF_INET },
    { "[::ffff:7f00:1]", NULL, "127.0.0.1", AF_INET },

    { ".", NO_HOST, NULL, 0 },
    { "..", NO_LABEL, NULL, 0 },
    { "a..b", NO_LABEL, NULL, 0 },
    { ".a", NO_LABEL, NULL, 0 },
    { "*", CHARACTER, NULL, 0 },
    { "*.example.org", CHARACTER, NULL, 0 },
    { "user@example.org", CHARACTER, NULL, 0 },
    { "example.org/", CHARACTER, NULL, 0 },
    { "example.org?a", CHARACTER, NULL, 0 },
    { "example.org#a", CHARACTER, NULL, 0 },
    { "example%2eorg", CHARACTER, NULL, 0 },
    { "a b", CHARACTER, NULL, 0 },
    { "a\r\nb", CHARACTER, NULL, 0 },
    { "b\xc3\xbc" "cher.example", CHARACTER, NULL, 0 },
    { "127.0.0.1]", CHARACTER, NULL, 0 },
    { "127.1", IPV4, NULL, 0 },
    { "0x7f000001", IPV4, NULL, 0 },
    { "2130706433", IPV4, NULL, 0 },
    { "0177.0.0.1", IPV4, NULL, 0 },
    { "1.2.3.256", IPV4, NULL, 0 },
    { "example.org:443", IPV6, NULL, 0 },
    { "127.0.0.1:443", IPV6, NULL, 0 },
    { "[::1]:443", BRACKET, NULL, 0 },
    { "[::1", BRACKET, NULL, 0 },
    { "[", BRACKET, NULL, 0 },
    { "[]", IPV6, NULL, 0 },
    { ":", IPV6, NULL, 0 },
    { ":::", IPV6, NULL, 0 },
    { "::1]", IPV6, NULL, 0 },
    { "::1.", IPV6, NULL, 0 },
    { "[[::1]]", IPV6, NULL, 0 },
    { "[127.0.0.1]", IPV6, NULL, 0 },
    { "fe80::1%eth0", IPV6, NULL, 0 },
    { "[fe80::1%25eth0]", IPV6, NULL, 0 },
    { "::ffff:127.1", IPV6, NULL, 0 },
    { "1:2:3:4:5:6:7:8:9", IPV6, NULL, 0 },
    { "0000:0000:0000:0000:0000:0000:127.000.000.001", IPV6, NULL, 0 }
};


/* what a call gave, against what it should have; NULL or where it differs */

static const char *
unit_message_differs(unit_call_t *call, const unit_message_t *m)
{
    char                         port[8];
    size_t                       len;
    const char                  *p;
    struct in6_addr              addr;
    ngx_tunnel_target_t         *t;
    ngx_tunnel_socks_request_t  *r;

    if (call->rc != NGX_OK) {
        return "is not NGX_OK";
    }

    switch (m->kind) {

    case UNIT_PASSWORD:
        if (!unit_call_string(call, &call->second, m->second, m->second_len)) {
            return "password";
        }

        /* fall through */

    case UNIT_METHODS:
        return unit_call_string(call, &call->first, m->first, m->first_len)
               ? NULL : "methods or user";

    default:
        break;
    }

    r = call->request;
    t = &r->target;

    if (r->result != m->result) {
        return "result";
    }

    if (m->what ? (r->what == NULL || strcmp(r->what, m->what) != 0)
                : r->what != NULL)
    {
        return r->what ? r->what : "nothing is said";
    }

    if (r->command != m->command) {
        return "command";
    }

    if (r->named != m->named) {
        return "named";
    }

    if (!unit_call_string(call, &r->user, m->first, m->first_len)) {
        return "user";
    }

    if (m->result != NGX_TUNNEL_OK) {
        return NULL;
    }

    if (t->text.data != t->buf || t->host.data != t->buf) {
        return "a string is not in buf";
    }

    if (!unit_is(&t->text, m->text)) {
        return unit_text(t->text.data, t->text.len);
    }

    p = strrchr(m->text, ':');
    len = p - m->text;

    if (t->host.len != len) {
        return "host";
    }

    sprintf(port, ":%u", (unsigned) t->port);

    if (strcmp(p, port) != 0) {
        return "port";
    }

    if (t->family != m->family) {
        return "family";
    }

    if (t->family == AF_INET) {
        p = strndup(m->text, len);
        inet_pton(AF_INET, p, &addr);
        free((char *) p);

        return memcmp(&addr, &t->addr.in, 4) == 0 ? NULL : "addr.in";
    }

    if (t->family == AF_INET6) {
        p = strndup(m->text + 1, len - 2);
        inet_pton(AF_INET6, p, &addr);
        free((char *) p);

        return memcmp(&addr, &t->addr.in6, 16) == 0 ? NULL : "addr.in6";
    }

    return NULL;
}


/* says what of, which takes long enough to be done only if it is wrong */

static void
unit_message_check(ngx_uint_t ok, const unit_message_t *m, size_t n,
    const char *how, const char *differs)
{
    unit_check(ok, "%s \"%s\", %lu%s: %s", unit_kinds[m->kind],
               ok ? "" : unit_text((u_char *) m->data, m->len), n, how,
               differs);
}


/*
 * Whole, each beginning of it, and glued to others; behind, if the end cannot
 * be told, all is taken.
 */

static void
unit_message(const unit_message_t *m)
{
    char         glued[2048];
    size_t       n, need, end;
    ngx_uint_t   i;
    const char  *differs;
    unit_call_t  call;

    static const struct {
        const char  *data;
        size_t       len;
    } next[] = {
        { unit_bytes("") },
        { unit_bytes("\0") },
        { unit_bytes("\xff") },
        { unit_bytes("\5\1\0\1\x7f\0\0\1\1\xbb") },
        { unit_bytes("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n") }
    };

    need = m->enough ? m->enough : m->len;

    for (n = 0; n < need; n++) {
        unit_call(&call, m->kind, m->data, n, (n & 1) * UNIT_FRONT);

        unit_message_check(call.rc == NGX_AGAIN, m, n, " bytes",
                           "is not NGX_AGAIN");

        unit_call_free(&call);
    }

    for ( /* void */ ; n <= m->len; n++) {
        unit_call(&call, m->kind, m->data, n, (n & 1) * UNIT_FRONT);

        differs = unit_message_differs(&call, m);

        unit_message_check(differs == NULL, m, n, " bytes", differs);
        unit_message_check(call.pos == call.last, m, n, " bytes", "its end");

        unit_call_free(&call);
    }

    memcpy(glued, m->data, m->len);

    for (i = 0; i <= unit_nelts(next); i++) {

        if (i < unit_nelts(next)) {
            n = m->len + next[i].len;
            memcpy(glued + m->len, next[i].data, next[i].len);

        } else {
            n = m->len * 2;
            memcpy(glued + m->len, m->data, m->len);
        }

        end = m->enough ? n : m->len;

        unit_call(&call, m->kind, glued, n, (i & 1) * UNIT_FRONT);

        differs = unit_message_differs(&call, m);

        unit_message_check(differs == NULL, m, n, " bytes, glued", differs);
        unit_message_check(call.pos == call.start + end, m, n,
                           " bytes, glued", "its end");

        unit_call_free(&call);
    }
}


void
unit_socks_messages(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_nelts(unit_messages); i++) {
        unit_message(&unit_messages[i]);
    }
}


/* a host in all that carries one; those of a datagram are only handed on */

static void
unit_socks_host(const char *host, size_t len, const char *error,
    const char *canonical, int family, in_port_t port)
{
    char            data[1024], text[300];
    size_t          n;
    unit_call_t     call;
    unit_message_t  m;

    ngx_memzero(&m, sizeof(unit_message_t));

    m.data = data;
    m.command = NGX_TUNNEL_SOCKS_BIND;

    if (error) {
        m.result = NGX_TUNNEL_BAD_REQUEST;
        m.what = error;

    } else {
        sprintf(text, "%s:%u", canonical, (unsigned) port);
        m.text = text;
        m.family = family;
    }

    n = sprintf(data, "\5\2%c\3", 0);
    data[n++] = len;
    memcpy(data + n, host, len);
    n += len;
    data[n++] = port >> 8;
    data[n++] = port;

    m.kind = UNIT_SOCKS5;
    m.len = n;

    unit_message(&m);

    /* the same bytes, but for the version and the command, are a datagram */

    data[0] = data[1] = 0;

    unit_call(&call, UNIT_DATAGRAM, data, n, 0);

    if (port == 0 || len == 0) {
        unit_check(call.rc == NGX_DECLINED, "datagram \"%s\":%u: %ld",
                   unit_text((u_char *) host, len), (unsigned) port, call.rc);

    } else {
        unit_check(call.rc == NGX_OK && call.pos == call.last
                   && unit_call_string(&call, &call.first, host, len)
                   && call.port == port
                   && call.sockaddr->sockaddr.sa_family == AF_UNSPEC,
                   "datagram \"%s\":%u: %ld",
                   unit_text((u_char *) host, len), (unsigned) port, call.rc);
    }

    unit_call_free(&call);

    if (memchr(host, '\0', len)) {
        return;
    }

    data[0] = 4;
    data[1] = 2;
    data[2] = port >> 8;
    data[3] = port;
    memcpy(data + 4, "\0\0\0\x2auser", 9);
    memcpy(data + 13, host, len);
    data[13 + len] = '\0';

    m.kind = UNIT_SOCKS4;
    m.len = 13 + len + 1;
    m.named = 1;
    m.first = "user";
    m.first_len = 4;

    unit_message(&m);
}


void
unit_socks_hosts(void)
{
    ngx_uint_t          i;
    const unit_host_t  *h;

    for (i = 0; i < unit_nelts(unit_hosts); i++) {
        h = &unit_hosts[i];

        unit_socks_host(h->input, strlen(h->input), h->error, h->host,
                        h->family, 443);
        unit_socks_host(h->input, strlen(h->input), h->error, h->host,
                        h->family, 0);
    }

    unit_socks_host("", 0, NO_HOST, NULL, 0, 443);

    /* a zero byte ends no name of SOCKS5 */

    unit_socks_host("a\0", 2, CHARACTER, NULL, 0, 443);
    unit_socks_host("\0a", 2, CHARACTER, NULL, 0, 443);
    unit_socks_host("\0", 1, CHARACTER, NULL, 0, 443);
    unit_socks_host("127.0.0.1\0", 10, CHARACTER, NULL, 0, 443);
    unit_socks_host("127.0.0.1\0.example.org", 22, CHARACTER, NULL, 0, 443);
    unit_socks_host("::1\0", 4, IPV6, NULL, 0, 443);
    unit_socks_host("[::1\0]", 6, IPV6, NULL, 0, 443);
    unit_socks_host("\0::1", 4, IPV6, NULL, 0, 443);
}


/* each length that a byte can tell, and one over where there is one */

void
unit_socks_lengths(void)
{
    char            data[2048], host[300], text[300];
    size_t          len, n, i, name;
    unit_call_t     call;
    unit_message_t  m;

    unit_check(NGX_TUNNEL_SOCKS_MESSAGE == 8 + 255 + 1 + 255 + 1
               && NGX_TUNNEL_SOCKS_REPLY == 4 + 16 + 2, "constants");

    /* methods */

    for (len = 0; len < 256; len++) {
        ngx_memzero(&m, sizeof(unit_message_t));

        data[0] = 5;
        data[1] = len;

        for (i = 0; i < len; i++) {
            data[2 + i] = 255 - i;
        }

        m.kind = UNIT_METHODS;
        m.data = data;
        m.len = 2 + len;
        m.first = data + 2;
        m.first_len = len;

        if (len < 4 || len % 50 == 0 || len > 252) {
            unit_message(&m);
            continue;
        }

        unit_call(&call, m.kind, data, m.len - 1, 0);
        unit_check(call.rc == NGX_AGAIN, "%lu methods, cut", len);
        unit_call_free(&call);

        unit_call(&call, m.kind, data, m.len, 0);
        unit_check(unit_message_differs(&call, &m) == NULL
                   && call.pos == call.last, "%lu methods", len);
        unit_call_free(&call);
    }

    /* users and passwords */

    for (len = 0; len < 256; len++) {
        for (n = 0; n < 256; n += (n < 2 || n > 252) ? 1 : 25) {

            ngx_memzero(&m, sizeof(unit_message_t));

            data[0] = 1;
            data[1] = len;
            memset(data + 2, 'u', len);
            data[2 + len] = n;
            memset(data + 3 + len, 'p', n);

            m.kind = UNIT_PASSWORD;
            m.data = data;
            m.len = 3 + len + n;
            m.first = data + 2;
            m.first_len = len;
            m.second = data + 3 + len;
            m.second_len = n;

            if ((len < 2 || len == 255) && (n < 2 || n == 255)) {
                unit_message(&m);
                continue;
            }

            for (i = 2; i < m.len; i += (m.len - 1 - i) / 2 + 1) {
                unit_call(&call, m.kind, data, i, 0);
                unit_check(call.rc == NGX_AGAIN, "user %lu, password %lu: "
                           "%lu bytes", len, n, i);
                unit_call_free(&call);
            }

            unit_call(&call, m.kind, data, m.len, 0);
            unit_check(unit_message_differs(&call, &m) == NULL
                       && call.pos == call.last,
                       "user %lu, password %lu", len, n);
            unit_call_free(&call);
        }
    }

    /* hosts; a dot at the end is none of the 253 */

    for (len = 1; len < 256; len++) {

        for (i = 0; i < len; i++) {
            host[i] = (i % 64 == 63) ? '.' : 'A';
            text[i] = ngx_tolower(host[i]);
        }

        text[len] = '\0';

        /* one of 64 ends in a dot */

        if (len % 64 == 0) {
            text[len - 1] = '\0';
        }

        unit_socks_host(host, len, len > 253 ? HOST_LEN : NULL, text,
                        AF_UNSPEC, 65535);

        if (len == 253) {
            host[253] = '.';
            unit_socks_host(host, 254, NULL, text, AF_UNSPEC, 65535);
        }

        memset(host, 'x', len);
        memset(text, 'x', len);

        unit_socks_host(host, len, len > 253 ? HOST_LEN
                                   : len > 63 ? LABEL_LEN : NULL,
                        text, AF_UNSPEC, 1);
    }

    /* userids: behind the 256th byte that is no end one is told */

    for (len = 0; len < 300; len++) {
        ngx_memzero(&m, sizeof(unit_message_t));

        memcpy(data, "\4\1\1\xbb\1\2\3\4", 8);
        memset(data + 8, 'u', len);
        data[8 + len] = '\0';

        m.kind = UNIT_SOCKS4;
        m.data = data;
        m.len = 8 + len + 1;
        m.command = 1;

        if (len > 255) {
            m.result = NGX_TUNNEL_BAD_REQUEST;
            m.what = USER_LEN;
            m.enough = 8 + 256;

        } else {
            m.first = data + 8;
            m.first_len = len;
            m.text = "1.2.3.4:443";
            m.family = AF_INET;
        }

        unit_message(&m);

        /* the same with a host, which nobody looks for if it is too long */

        memcpy(data + 4, "\0\0\0\1", 4);
        memcpy(data + 8 + len + 1, "a.b", 4);

        m.len += 4;
        m.named = 1;
        m.text = "a.b:443";
        m.family = AF_UNSPEC;

        unit_message(&m);
    }

    /* hosts of SOCKS4a that are too long, behind any userid */

    for (len = 0; len < 256; len += (len == 0) ? 254 : 1) {
        for (name = 254; name < 300; name++) {

            ngx_memzero(&m, sizeof(unit_message_t));

            memcpy(data, "\4\1\1\xbb\0\0\0\1", 8);
            memset(data + 8, 'u', len);
            data[8 + len] = '\0';
            memset(data + 9 + len, 'n', name);
            data[9 + len + name] = '\0';

            m.kind = UNIT_SOCKS4;
            m.data = data;
            m.len = 9 + len + name + 1;
            m.command = 1;
            m.named = 1;
            m.first = data + 8;
            m.first_len = len;
            m.result = NGX_TUNNEL_BAD_REQUEST;

            if (name > 255) {
                m.what = NAME_LEN;
                m.enough = 9 + len + 256;

            } else {
                m.what = HOST_LEN;
            }

            unit_message(&m);
        }
    }

    /* the longest message there is */

    ngx_memzero(&m, sizeof(unit_message_t));

    memset(data, '\xff', sizeof(data));
    memcpy(data, "\4\2\xff\xff\0\0\0\xff", 8);
    data[8 + 255] = '\0';

    for (i = 0; i < 254; i++) {
        data[8 + 256 + i] = (i % 64 == 63 || i == 253) ? '.' : 'a' + i % 26;
    }

    data[8 + 256 + 254] = '\0';
    sprintf(text, "%.253s:65535", data + 8 + 256);

    m.kind = UNIT_SOCKS4;
    m.data = data;
    m.len = 8 + 256 + 255;
    m.first = data + 8;
    m.first_len = 255;
    m.command = 2;
    m.named = 1;
    m.text = text;

    unit_message(&m);

    m.data = memset(malloc(NGX_TUNNEL_SOCKS_MESSAGE), 1,
                    NGX_TUNNEL_SOCKS_MESSAGE);
    unit_call(&call, UNIT_SOCKS4, m.data, NGX_TUNNEL_SOCKS_MESSAGE, 0);
    unit_check(call.rc == NGX_OK, "NGX_TUNNEL_SOCKS_MESSAGE bytes: %ld",
               call.rc);
    unit_call_free(&call);
    free((char *) m.data);
}


/* each value of each byte that means something */

void
unit_socks_bytes(void)
{
    char            data[64];
    size_t          n;
    ngx_uint_t      ch;
    unit_call_t     call;
    unit_message_t  m;

    for (ch = 0; ch < 256; ch++) {

        /* versions */

        memcpy(data, "\1\1u\1p", 5);
        data[0] = ch;

        for (n = 0; n <= 5; n++) {
            unit_call(&call, UNIT_PASSWORD, data, n, 0);

            unit_check(call.rc == (n && ch != 1 ? NGX_ERROR
                                   : n < 5 ? NGX_AGAIN : NGX_OK),
                       "password of version %lu, %lu bytes: %ld", ch, n,
                       call.rc);

            unit_call_free(&call);
        }

        memcpy(data, "\5\1\0\1\1\2\3\4\1\xbb", 10);
        data[0] = ch;

        for (n = 0; n <= 10; n++) {
            unit_call(&call, UNIT_SOCKS5, data, n, 0);

            if (ch == 5 || n == 0) {
                unit_check(call.rc == (n < 10 ? NGX_AGAIN : NGX_OK),
                           "request, %lu bytes: %ld", n, call.rc);

            } else {
                unit_check(call.rc == NGX_OK && call.pos == call.last
                           && call.request->result == NGX_TUNNEL_BAD_REQUEST
                           && call.request->what
                           && strcmp(call.request->what, VERSION) == 0
                           && call.request->user.len == 0
                           && !call.request->named,
                           "request of version %lu, %lu bytes: %ld", ch, n,
                           call.rc);
            }

            unit_call_free(&call);
        }

        /* commands; a port of 0 is for all but one */

        ngx_memzero(&m, sizeof(unit_message_t));

        memcpy(data, "\5\0\0\1\1\2\3\4\0\0", 10);
        data[1] = ch;

        m.kind = UNIT_SOCKS5;
        m.data = data;
        m.len = 10;
        m.command = ch;
        m.text = "1.2.3.4:0";
        m.family = AF_INET;

        if (ch == NGX_TUNNEL_SOCKS_CONNECT) {
            m.result = NGX_TUNNEL_BAD_REQUEST;
            m.what = NO_PORT;
        }

        unit_message(&m);

        memcpy(data, "\4\0\0\0\1\2\3\4\0", 9);
        data[1] = ch;

        m.kind = UNIT_SOCKS4;
        m.len = 9;

        unit_message(&m);

        /* the reserved byte */

        ngx_memzero(&m, sizeof(unit_message_t));

        memcpy(data, "\5\1\0\1\1\2\3\4\1\xbb", 10);
        data[2] = ch;

        m.kind = UNIT_SOCKS5;
        m.data = data;
        m.len = 10;
        m.command = 1;
        m.text = "1.2.3.4:443";
        m.family = AF_INET;

        unit_message(&m);

        /* address types */

        data[3] = ch;

        if (ch == 1) {
            /* void */

        } else if (ch == 3 || ch == 4) {
            unit_call(&call, UNIT_SOCKS5, data, 4, 0);
            unit_check(call.rc == NGX_AGAIN, "type %lu: %ld", ch, call.rc);
            unit_call_free(&call);

        } else {
            m.result = NGX_TUNNEL_BAD_ADDRESS;
            m.enough = 4;
            unit_message(&m);
        }

        /* the last byte of an address 0.0.0.x of SOCKS4 */

        ngx_memzero(&m, sizeof(unit_message_t));

        memcpy(data, "\4\1\1\xbb\0\0\0\0\0a.b\0", 13);
        data[7] = ch;

        m.kind = UNIT_SOCKS4;
        m.data = data;
        m.command = 1;

        if (ch) {
            m.len = 13;
            m.named = 1;
            m.text = "a.b:443";

        } else {
            m.len = 9;
            m.text = "0.0.0.0:443";
            m.family = AF_INET;
        }

        unit_message(&m);

        /* a userid, and what is behind its end */

        ngx_memzero(&m, sizeof(unit_message_t));

        memcpy(data, "\4\1\1\xbb\1\2\3\4u-v\0", 12);
        data[9] = ch;

        m.kind = UNIT_SOCKS4;
        m.data = data;
        m.len = ch ? 12 : 10;
        m.command = 1;
        m.first = data + 8;
        m.first_len = ch ? 3 : 1;
        m.text = "1.2.3.4:443";
        m.family = AF_INET;

        unit_message(&m);
    }
}


/* each port, in all that carries one */

void
unit_socks_ports(void)
{
    u_char                         data[64], *p;
    ngx_uint_t                     port, i, wrong;
    ngx_sockaddr_t                 sa;
    unit_call_t                    call;
    ngx_tunnel_socks_request_t    *r;

    static const struct {
        unit_kind_e   kind;
        const char   *data;
        size_t        len;
        size_t        at;
        const char   *host;
    } cases[] = {
        { UNIT_SOCKS5, unit_bytes("\5\1\0\1\x7f\0\0\1--"), 8, "127.0.0.1" },
        { UNIT_SOCKS5, unit_bytes("\5\2\0\3\2a.--"), 7, "a" },
        { UNIT_SOCKS5, unit_bytes("\5\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
                                  "--"), 20, "[::1]" },
        { UNIT_SOCKS4, unit_bytes("\4\1--\1\2\3\4u\0"), 2, "1.2.3.4" },
        { UNIT_SOCKS4, unit_bytes("\4\2--\0\0\0\1u\0h\0"), 2, "h" },
        { UNIT_DATAGRAM, unit_bytes("\0\0\0\3\1h--"), 6, NULL }
    };

    for (port = 0, wrong = 0; port < 65536;
         port += (port < 1024 || port > 65000) ? 1 : 61)
    {
        for (i = 0; i < unit_nelts(cases); i++) {

            memcpy(data, cases[i].data, cases[i].len);
            data[cases[i].at] = port >> 8;
            data[cases[i].at + 1] = port & 0xff;

            unit_call(&call, cases[i].kind, data, cases[i].len, 0);
            r = call.request;

            if (cases[i].kind == UNIT_DATAGRAM) {
                wrong += port ? (call.rc != NGX_OK || call.port != port)
                              : call.rc != NGX_DECLINED;

            } else if (port == 0 && cases[i].data[1] == 1) {
                wrong += (call.rc != NGX_OK || call.pos != call.last
                          || r->result != NGX_TUNNEL_BAD_REQUEST);

            } else {
                sprintf((char *) data, "%s:%lu", cases[i].host, port);

                wrong += (call.rc != NGX_OK || call.pos != call.last
                          || r->result != NGX_TUNNEL_OK
                          || r->target.port != port
                          || !unit_is(&r->target.text, (char *) data));
            }

            unit_call_free(&call);
        }

        /* and the other way */

        ngx_memzero(&sa, sizeof(ngx_sockaddr_t));
        sa.sockaddr_in.sin_family = AF_INET;
        sa.sockaddr_in.sin_port = htons(port);

        p = ngx_tunnel_socks5_reply(data, 0, &sa.sockaddr);
        wrong += (p != data + 10 || data[8] != port >> 8
                  || data[9] != (port & 0xff));

        p = ngx_tunnel_socks4_reply(data, 90, &sa.sockaddr);
        wrong += (p != data + 8 || data[2] != port >> 8
                  || data[3] != (port & 0xff));

        p = ngx_tunnel_socks5_datagram_header(data, &sa.sockaddr);
        wrong += (p != data + 10 || data[8] != port >> 8
                  || data[9] != (port & 0xff));
    }

    unit_check(wrong == 0, "%lu ports", wrong);
}


/* an address in a block of its own; of text with '/' a unix one; or NULL */

static struct sockaddr *
unit_socks_sockaddr(const char *text, in_port_t port)
{
    struct sockaddr_in   *sin;
    struct sockaddr_un   *sun;
    struct sockaddr_in6  *sin6;

    if (text == NULL) {
        return NULL;
    }

    if (text[0] == '/') {
        sun = calloc(1, sizeof(struct sockaddr_un));
        memset(sun, 0xa5, sizeof(struct sockaddr_un));
        sun->sun_family = AF_UNIX;
        strcpy(sun->sun_path, text);

        return (struct sockaddr *) sun;
    }

    if (text[0] == '\0') {

        /* one without a name is no longer than this */

        sun = malloc(sizeof(sa_family_t));
        sun->sun_family = AF_UNIX;

        return (struct sockaddr *) sun;
    }

    if (strchr(text, ':')) {
        sin6 = malloc(sizeof(struct sockaddr_in6));
        memset(sin6, 0xa5, sizeof(struct sockaddr_in6));
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(port);
        inet_pton(AF_INET6, text, &sin6->sin6_addr);

        return (struct sockaddr *) sin6;
    }

    sin = malloc(sizeof(struct sockaddr_in));
    memset(sin, 0xa5, sizeof(struct sockaddr_in));
    sin->sin_family = AF_INET;
    sin->sin_port = htons(port);
    inet_pton(AF_INET, text, &sin->sin_addr);

    return (struct sockaddr *) sin;
}


void
unit_socks_replies(void)
{
    u_char           *buf, *end;
    size_t            i, room;
    ngx_uint_t        code, k;
    struct sockaddr  *sa;

    static const struct {
        const char  *address;
        in_port_t    port;
        const char  *five;           /* from ATYP on */
        size_t       five_len;
        const char  *four;           /* from DSTPORT on */
    } cases[] = {
        { NULL, 0, unit_bytes("\1\0\0\0\0\0\0"), "\0\0\0\0\0\0" },
        { "", 0, unit_bytes("\1\0\0\0\0\0\0"), "\0\0\0\0\0\0" },
        { "/tmp/socket", 0, unit_bytes("\1\0\0\0\0\0\0"), "\0\0\0\0\0\0" },
        { "0.0.0.0", 0, unit_bytes("\1\0\0\0\0\0\0"), "\0\0\0\0\0\0" },
        { "1.2.3.4", 443, unit_bytes("\1\1\2\3\4\1\xbb"),
          "\1\xbb\1\2\3\4" },
        { "255.254.253.252", 65534, unit_bytes("\1\xff\xfe\xfd\xfc\xff\xfe"),
          "\xff\xfe\xff\xfe\xfd\xfc" },
        { "127.0.0.1", 1, unit_bytes("\1\x7f\0\0\1\0\1"), "\0\1\x7f\0\0\1" },
        { "::ffff:1.2.3.4", 443, unit_bytes("\1\1\2\3\4\1\xbb"),
          "\1\xbb\1\2\3\4" },
        { "::ffff:0.0.0.0", 256, unit_bytes("\1\0\0\0\0\1\0"),
          "\1\0\0\0\0\0" },
        { "::1", 443,
          unit_bytes("\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\1\xbb"),
          "\1\xbb\0\0\0\0" },
        { "::", 0,
          unit_bytes("\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
          "\0\0\0\0\0\0" },
        { "::1.2.3.4", 443,
          unit_bytes("\4\0\0\0\0\0\0\0\0\0\0\0\0\1\2\3\4\1\xbb"),
          "\1\xbb\0\0\0\0" },
        { "2001:db8:102:304:506:708:90a:b0c", 65535,
          unit_bytes("\4\x20\1\x0d\xb8\1\2\3\4\5\6\7\x08\x09\x0a\x0b\x0c"
                     "\xff\xff"),
          "\xff\xff\0\0\0\0" }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        sa = unit_socks_sockaddr(cases[i].address, cases[i].port);

        /* the codes of the table, and others */

        for (k = 0; k < NGX_TUNNEL_NO_RESULT + 3; k++) {

            code = k < NGX_TUNNEL_NO_RESULT ? ngx_tunnel_result(k)->socks5
                                            : 253 + k - NGX_TUNNEL_NO_RESULT;

            /* IPv4 ones need no more than they are */

            room = (k & 1) ? NGX_TUNNEL_SOCKS_REPLY : 3 + cases[i].five_len;

            buf = memset(malloc(room), 0xa5, room);
            end = ngx_tunnel_socks5_reply(buf, code, sa);

            unit_check(end == buf + 3 + cases[i].five_len
                       && buf[0] == 5 && buf[1] == code && buf[2] == 0
                       && memcmp(buf + 3, cases[i].five, cases[i].five_len)
                          == 0,
                       "5: %lu with %s:%u: \"%s\"", code, cases[i].address,
                       (unsigned) cases[i].port,
                       unit_text(buf, end - buf));

            free(buf);

            code = k < NGX_TUNNEL_NO_RESULT ? ngx_tunnel_result(k)->socks4
                                            : 253 + k - NGX_TUNNEL_NO_RESULT;

            buf = memset(malloc(8), 0xa5, 8);
            end = ngx_tunnel_socks4_reply(buf, code, sa);

            unit_check(end == buf + 8 && buf[0] == 0 && buf[1] == code
                       && memcmp(buf + 2, cases[i].four, 6) == 0,
                       "4: %lu with %s:%u: \"%s\"", code, cases[i].address,
                       (unsigned) cases[i].port,
                       unit_text(buf, end - buf));

            free(buf);
        }

        room = 3 + cases[i].five_len;

        buf = memset(malloc(room), 0xa5, room);
        end = ngx_tunnel_socks5_datagram_header(buf, sa);

        unit_check(end == buf + room && memcmp(buf, "\0\0\0", 3) == 0
                   && memcmp(buf + 3, cases[i].five, cases[i].five_len) == 0,
                   "datagram from %s:%u: \"%s\"", cases[i].address,
                   (unsigned) cases[i].port, unit_text(buf, end - buf));

        free(buf);
        free(sa);
    }
}


/* headers of datagrams, whole, cut, in front of payload, and each FRAG */

void
unit_socks_datagrams(void)
{
    char              data[512];
    size_t            n;
    ngx_uint_t        i, ch;
    unit_call_t       call;
    ngx_sockaddr_t    expected;
    struct sockaddr  *sa;

    static const struct {
        const char  *data;
        size_t       len;
        ngx_int_t    rc;
        int          family;
        const char  *addr;
        const char  *host;
        in_port_t    port;
    } cases[] = {
        { unit_bytes("\0\0\0\1\1\2\3\4\0\x35"), NGX_OK, AF_INET, "1.2.3.4",
          "", 53 },
        { unit_bytes("\xff\xff\0\1\0\0\0\0\xff\xff"), NGX_OK, AF_INET,
          "0.0.0.0", "", 65535 },
        { unit_bytes("\0\0\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\1\0"),
          NGX_OK, AF_INET6, "2001:db8::1", "", 256 },
        { unit_bytes("\0\0\0\4\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\4\0\1"),
          NGX_OK, AF_INET6, "::ffff:1.2.3.4", "", 1 },
        { unit_bytes("\0\0\0\3\x0b" "Example.Org\0\x35"), NGX_OK, AF_UNSPEC,
          NULL, "Example.Org", 53 },
        { unit_bytes("\1\2\0\3\1a\0\1"), NGX_OK, AF_UNSPEC, NULL, "a", 1 },
        { unit_bytes("\0\0\0\3\3::1\0\x35"), NGX_OK, AF_UNSPEC, NULL, "::1",
          53 },

        /* for port 0, to nobody, of an unknown type, fragments */

        { unit_bytes("\0\0\0\1\1\2\3\4\0\0"), NGX_DECLINED, 0, NULL, NULL, 0 },
        { unit_bytes("\0\0\0\3\1a\0\0"), NGX_DECLINED, 0, NULL, NULL, 0 },
        { unit_bytes("\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0"),
          NGX_DECLINED, 0, NULL, NULL, 0 },
        { unit_bytes("\0\0\0\3\0\0\x35"), NGX_DECLINED, 0, NULL, NULL, 0 },
        { unit_bytes("\0\0\0\0\1\2\3\4\0\x35"), NGX_DECLINED, 0, NULL, NULL,
          0 },
        { unit_bytes("\0\0\0\2\1\2\3\4\0\x35"), NGX_DECLINED, 0, NULL, NULL,
          0 },
        { unit_bytes("\0\0\0\5\1\2\3\4\0\x35"), NGX_DECLINED, 0, NULL, NULL,
          0 },
        { unit_bytes("\0\0\1\1\1\2\3\4\0\x35"), NGX_DECLINED, 0, NULL, NULL,
          0 },
        { unit_bytes("\0\0\x81\1\1\2\3\4\0\x35"), NGX_DECLINED, 0, NULL, NULL,
          0 },
        { unit_bytes("\0\0\x80\3\1a\0\x35"), NGX_DECLINED, 0, NULL, NULL, 0 }
    };

    for (i = 0; i < unit_nelts(cases); i++) {

        for (n = 0; n < cases[i].len; n++) {
            unit_call(&call, UNIT_DATAGRAM, cases[i].data, n, 0);
            unit_check(call.rc == NGX_DECLINED, "%lu of %lu bytes of \"%s\": "
                       "%ld", n, cases[i].len,
                       unit_text((u_char *) cases[i].data, cases[i].len),
                       call.rc);
            unit_call_free(&call);
        }

        memcpy(data, cases[i].data, cases[i].len);
        memset(data + cases[i].len, 0, 100);

        for (n = 0; n <= 100; n += (n < 3) ? 1 : 97) {
            unit_call(&call, UNIT_DATAGRAM, data, cases[i].len + n, 0);

            if (!unit_check(call.rc == cases[i].rc, "\"%s\" and %lu: %ld",
                            unit_text((u_char *) data, cases[i].len), n,
                            call.rc)
                || call.rc != NGX_OK)
            {
                unit_call_free(&call);
                continue;
            }

            unit_check(call.last - call.pos == (ssize_t) n,
                       "\"%s\": %ld bytes instead of %lu",
                       unit_text((u_char *) data, cases[i].len),
                       call.last - call.pos, n);

            unit_check(call.port == cases[i].port
                       && unit_call_string(&call, &call.first, cases[i].host,
                                           strlen(cases[i].host)),
                       "\"%s\": host \"%s\" port %u",
                       unit_text((u_char *) data, cases[i].len),
                       unit_text(call.first.data, call.first.len),
                       (unsigned) call.port);

            unit_check(call.sockaddr->sockaddr.sa_family == cases[i].family,
                       "\"%s\": family %u",
                       unit_text((u_char *) data, cases[i].len),
                       (unsigned) call.sockaddr->sockaddr.sa_family);

            /* all of the address is as it has to be, also what is unused */

            if (cases[i].addr) {
                ngx_memzero(&expected, sizeof(ngx_sockaddr_t));

                sa = unit_socks_sockaddr(cases[i].addr, cases[i].port);

                if (sa->sa_family == AF_INET) {
                    memset(((struct sockaddr_in *) sa)->sin_zero, 0, 8);
                    memcpy(&expected, sa, sizeof(struct sockaddr_in));

                } else {
                    ((struct sockaddr_in6 *) sa)->sin6_flowinfo = 0;
                    ((struct sockaddr_in6 *) sa)->sin6_scope_id = 0;
                    memcpy(&expected, sa, sizeof(struct sockaddr_in6));
                }

                unit_check(memcmp(&expected, call.sockaddr,
                                  sizeof(ngx_sockaddr_t)) == 0,
                           "\"%s\": address",
                           unit_text((u_char *) data, cases[i].len));

                free(sa);
            }

            unit_call_free(&call);
        }
    }

    /* FRAG, and all types */

    for (ch = 0; ch < 256; ch++) {
        memset(data, 0, sizeof(data));
        memcpy(data, "\0\0\0\1\1\2\3\4\0\x35", 10);
        data[2] = ch;

        unit_call(&call, UNIT_DATAGRAM, data, 20, 0);
        unit_check(call.rc == (ch ? NGX_DECLINED : NGX_OK), "FRAG %lu: %ld",
                   ch, call.rc);
        unit_call_free(&call);

        memset(data, 1, sizeof(data));
        data[2] = 0;
        data[3] = ch;

        unit_call(&call, UNIT_DATAGRAM, data, sizeof(data), 0);
        unit_check(call.rc == (ch == 1 || ch == 3 || ch == 4
                               ? NGX_OK : NGX_DECLINED),
                   "ATYP %lu: %ld", ch, call.rc);
        unit_call_free(&call);
    }
}


/* random addresses: what is written is what is read */

void
unit_socks_random(void)
{
    char                   text[INET6_ADDRSTRLEN], whole[64];
    u_char                *buf, *end;
    ngx_uint_t             i, k, wrong, mapped, n;
    unit_call_t            call;
    struct sockaddr       *sa;
    struct sockaddr_in    *sin;
    struct sockaddr_in6   *sin6;
    ngx_sockaddr_t         a;
    ngx_tunnel_target_t   *t;

    for (i = 0, wrong = 0, n = 0; i < 20000; i++) {

        ngx_memzero(&a, sizeof(ngx_sockaddr_t));

        sa = &a.sockaddr;
        sin = &a.sockaddr_in;
        sin6 = &a.sockaddr_in6;
        mapped = 0;

        if (i % 3 == 0) {
            sin->sin_family = AF_INET;
            sin->sin_port = htons(1 + unit_random() % 65535);
            sin->sin_addr.s_addr = unit_random();

            inet_ntop(AF_INET, &sin->sin_addr, text, sizeof(text));
            sprintf(whole, "%s:%u", text, ntohs(sin->sin_port));

        } else {
            sin6->sin6_family = AF_INET6;
            sin6->sin6_port = htons(1 + unit_random() % 65535);

            for (k = 0; k < 16; k++) {
                if (unit_random() % 3) {
                    sin6->sin6_addr.s6_addr[k] = unit_random();
                }
            }

            mapped = (i % 9 == 1);

            if (mapped) {
                memcpy(&sin6->sin6_addr,
                       "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
                inet_ntop(AF_INET, &sin6->sin6_addr.s6_addr[12], text,
                          sizeof(text));
                sprintf(whole, "%s:%u", text, ntohs(sin6->sin6_port));

            } else {
                inet_ntop(AF_INET6, &sin6->sin6_addr, text, sizeof(text));
                sprintf(whole, "[%s]:%u", text, ntohs(sin6->sin6_port));
            }
        }

        buf = malloc(NGX_TUNNEL_SOCKS_REPLY);
        end = ngx_tunnel_socks5_datagram_header(buf, sa);

        unit_call(&call, UNIT_DATAGRAM, buf, end - buf, 0);

        if (mapped) {

            /* what was mapped comes back as IPv4 */

            wrong += (call.rc != NGX_OK || call.pos != call.last
                      || call.sockaddr->sockaddr.sa_family != AF_INET
                      || call.sockaddr->sockaddr_in.sin_port
                         != sin6->sin6_port
                      || memcmp(&call.sockaddr->sockaddr_in.sin_addr,
                                &sin6->sin6_addr.s6_addr[12], 4) != 0);
            n++;

        } else {
            wrong += (call.rc != NGX_OK || call.pos != call.last
                      || memcmp(call.sockaddr, &a, sizeof(a)) != 0);
        }

        unit_call_free(&call);

        /* a reply has the layout of a request */

        end = ngx_tunnel_socks5_reply(buf, NGX_TUNNEL_SOCKS_CONNECT, sa);

        unit_call(&call, UNIT_SOCKS5, buf, end - buf, 0);
        t = &call.request->target;

        wrong += (call.rc != NGX_OK || call.pos != call.last
                  || call.request->result != NGX_TUNNEL_OK
                  || !unit_is(&t->text, whole));

        unit_call_free(&call);
        free(buf);
    }

    unit_check(wrong == 0, "%lu addresses", wrong);
    unit_check(n > 1000, "%lu mapped ones", n);
}
