
/*
 * Fuzz targets: all that a client sends to a real nginx, see nginx.c, in
 * segments of as many bytes as the first byte of the input says, 0 means 256.
 * The second byte says to which server, and how, see below.  With FUZZ_PROXY
 * the servers want a PROXY protocol header first.
 *
 * What comes of segments is compared with what comes of all at once, and if
 * there is no CONNECT, with what a server does that has no tunnels.
 */


#include "server.h"

#include <nginx.h>


/* the second byte */

#define FUZZ_KIND   0x0f
#define FUZZ_SLOW   0x10                 /* the client is slow to read */
#define FUZZ_RESET  0x20                 /* and ends with RST */
#define FUZZ_RAW    0x40                 /* no frames are made for HTTP/2 */


/* servers, by the last two digits of their port */

enum {
    FUZZ_HTTP = 1,
    FUZZ_AUTH,
    FUZZ_SMALL,
    FUZZ_DEFERRED,
    FUZZ_PAGES,

    FUZZ_H2 = 11,
    FUZZ_H2_AUTH,
    FUZZ_H2_SMALL,

    FUZZ_STREAM = 21,
    FUZZ_SOCKS = 21,
    FUZZ_PREREAD,
    FUZZ_PASSTHROUGH,
    FUZZ_REQUIRE,
    FUZZ_SOCKS_AUTH
};


/* a line feed is the plain one: what glues seeds gives HTTP no odd bytes */

static const ngx_uint_t  fuzz_kinds[16] = {
    FUZZ_H2, FUZZ_AUTH, FUZZ_SMALL, FUZZ_DEFERRED, FUZZ_PAGES,
    FUZZ_H2_AUTH, FUZZ_H2_SMALL, FUZZ_SOCKS, FUZZ_PREREAD, FUZZ_PASSTHROUGH,
    FUZZ_HTTP, FUZZ_REQUIRE, FUZZ_H2, FUZZ_AUTH, FUZZ_SOCKS_AUTH, FUZZ_PREREAD
};

#define FUZZ_IN_H2           "\0"
#define FUZZ_IN_AUTH         "\x0d"
#define FUZZ_IN_SMALL        "\2"
#define FUZZ_IN_DEFERRED     "\3"
#define FUZZ_IN_PAGES        "\4"
#define FUZZ_IN_H2_AUTH      "\5"
#define FUZZ_IN_H2_SMALL     "\6"
#define FUZZ_IN_SOCKS        "\7"
#define FUZZ_IN_PREREAD      "\x8"
#define FUZZ_IN_PASSTHROUGH  "\x9"
#define FUZZ_IN_HTTP         "\n"
#define FUZZ_IN_REQUIRE      "\x0b"
#define FUZZ_IN_SOCKS_AUTH   "\x0e"


/*
 * Ports: 80 are as they are, 81 with PROXY protocol, and 90 and 91 are of the
 * same server, but without tunnels.
 */

#ifdef FUZZ_PROXY
#define FUZZ_ON   8100
#define FUZZ_OFF  9100
#else
#define FUZZ_ON   8000
#define FUZZ_OFF  9000
#endif

#define FUZZ_LISTEN(port, with)                                               \
    "listen 127.0.0.1:80" #port " " with ";"                                  \
    "listen 127.0.0.1:81" #port " proxy_protocol " with ";"

#define FUZZ_LISTEN_OFF(port, with)                                           \
    "listen 127.0.0.1:90" #port " " with ";"                                  \
    "listen 127.0.0.1:91" #port " proxy_protocol " with ";"

#define FUZZ_SERVER(port, with, conf)                                         \
    "server {" FUZZ_LISTEN(port, with) "server_name own.example;"             \
    "connect_tunnel; " conf "}"                                               \
    "server {" FUZZ_LISTEN_OFF(port, with) "server_name own.example;" conf    \
    "}"                                                                       \
    "server {" FUZZ_LISTEN(port, "") FUZZ_LISTEN_OFF(port, "")                \
    "server_name other.example; return 204; }"

#if (nginx_version >= 1025001)
#define FUZZ_WITH_H2
#define FUZZ_CONF_H2  "http2 on;"
#else
#define FUZZ_WITH_H2  "http2"
#define FUZZ_CONF_H2
#endif

#define FUZZ_LOCATIONS                                                        \
    "location / { return 200 \"$request_method $uri $host\\n\"; }"            \
    "location /file { }"                                                      \
    "location /no/ { return 404; }"                                           \
    "location /auth/ { auth_request /no/; return 200; }"                      \
    "location /up/ { proxy_pass http://127.0.0.1:81; }"

#define FUZZ_AUTH_BASIC                                                       \
    "auth_basic realm; auth_basic_user_file users;"


const char  fuzz_nginx_conf[] =
    "daemon off;"
    "thread_pool default threads=1;"
    "error_log /dev/null info;"
    "events { worker_connections 512; }"

    "http {"

        /* of a line that is malformed nginx logs as much as it has read */

        "map $server_protocol $line { default $request; '' -; }"

        /* behind the last quote is nothing that a client may have made up */

        "log_format fuzz '$line \"$request_method "
            "$uri $args $host $http_host $remote_user $remote_addr "
            "$proxy_protocol_addr $http_content_length $tunnel_target "
            "$tunnel_host $tunnel_port\" $status $request_method "
            "$server_name $host $tunnel_address $tunnel_result "
            "$tunnel_reason $tunnel_bytes_received $tunnel_bytes_sent';"
        "access_log /dev/./null fuzz;"

        "target_allow *:80-443;"
        "target_deny *.denied.example:*;"
        "target_allow_address 127.0.0.0/8;"
        "relay_splice off;"
        "resolver 127.0.0.1 ipv6=off;"
        "proxy_http_version 1.1;"
        "port_in_redirect off;"

        FUZZ_SERVER(01, "", FUZZ_LOCATIONS)
        FUZZ_SERVER(02, "", FUZZ_AUTH_BASIC FUZZ_LOCATIONS)

        FUZZ_SERVER(03, "",
            "client_header_buffer_size 64;"
            "large_client_header_buffers 4 256;"
            "connection_pool_size 256; request_pool_size 256;"
            FUZZ_LOCATIONS)

        FUZZ_SERVER(04, "deferred", FUZZ_LOCATIONS)
        FUZZ_SERVER(05, "", "error_page 403 =404 /page; error_page 400 /page;"
                            "error_page 502 @page; keepalive_requests 3;"
                            "relay_half_close off; target_deny *:80;"
                            "location @page { return 200 named; }"
                            FUZZ_LOCATIONS)

        FUZZ_SERVER(11, FUZZ_WITH_H2, FUZZ_CONF_H2 FUZZ_LOCATIONS)
        FUZZ_SERVER(12, FUZZ_WITH_H2, FUZZ_CONF_H2 FUZZ_AUTH_BASIC
                                      FUZZ_LOCATIONS)
        FUZZ_SERVER(13, FUZZ_WITH_H2, FUZZ_CONF_H2
            "large_client_header_buffers 1 256; connection_pool_size 256;"
            "http2_max_concurrent_streams 3; http2_body_preread_size 100;"
            "http2_chunk_size 8;"
            "relay_buffer_size 1k;"
            FUZZ_LOCATIONS)
    "}"

    "stream {"
        "log_format fuzz '$remote_addr "
            "$proxy_protocol_addr $tunnel_target $tunnel_host $tunnel_port "
            "$preread_protocol \"$preread_host\" $preread_method "
            "\"$preread_alpn\" $preread_tls_version $tunnel_sni\" "
            "$status $tunnel_address $tunnel_result $tunnel_reason "
            "$tunnel_bytes_received $tunnel_bytes_sent';"
        "access_log /dev/./null fuzz;"

        "target_allow *:80-443;"
        "target_deny *.denied.example:*;"
        "target_allow_address 127.0.0.0/8;"
        "relay_splice off;"
        "resolver 127.0.0.1 ipv6=off;"

        "server {" FUZZ_LISTEN(21, "") "socks; socks_bind on; }"
        "server {" FUZZ_LISTEN(25, "")
            "socks; socks_auth basic realm users; socks_auth_delay 10ms;"
            "socks_userid u; }"

        "map $preread_protocol $by_protocol {"
            "ssh      127.0.0.1:443;"
            "http     $preread_host:443;"
            "tls      $preread_host:443;"
            "postgres 127.0.0.1:81;"
            "unknown  'reject reset';"
            "default  127.0.0.1:80;"
        "}"

        "server {" FUZZ_LISTEN(22, "")
            "tunnel_preread on; passthrough $by_protocol; }"
        "server {" FUZZ_LISTEN(23, "") "passthrough 127.0.0.1:80; }"
        "server {" FUZZ_LISTEN(24, "")
            "passthrough 127.0.0.1:443; target_require_tls on;"
            "target_proxy_protocol v2; }"
    "}";



/* places, which are told by what is logged */

#define FUZZ_OWN  0

static fuzz_reached_t  fuzz_reached[] = {
    [FUZZ_OWN] = { "a difference that is nginx's own", 0 },
    { "\" 200 CONNECT ", 0 },
    { "\" 400 CONNECT ", 0 },
    { "\" 403 CONNECT ", 0 },
    { " 502 CONNECT ", 0 },
    { " HTTP/2.0 \"CONNECT ", 0 },
    { " HTTP/1.1 \"GET ", 0 },
    { " HTTP/2.0 \"GET ", 0 },
    { " ok client_closed ", 0 },
    { " ok client_reset ", 0 },
    { " denied_name ", 0 },
    { " denied_address ", 0 },
    { " refused ", 0 },
    { " bad_request ", 0 },
#ifdef FUZZ_PROXY
    { " 203.0.113.7 ", 0 },
    { " 2001:db8::7 ", 0 },
    { "broken header", 0 },
#else
    { "\" 407 CONNECT ", 0 },
    { "\" 401 GET ", 0 },
    { " ok not_tls ", 0 },
    { " rejected ", 0 },
    { " auth_failed ", 0 },
    { "while waiting for target", 0 },
    { " tls \"", 0 },
    { " http \"", 0 },
    { " ssh \"", 0 },
    { "client sent data after a refused CONNECT", 0 },
    { "header of an HTTP/2 request cannot be read", 0 },
    { "client sent CONNECT with ", 0 },
    { "client sent too long ", 0 },
#endif
};


/* requests */

#define FUZZ_OPEN    "CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
#define FUZZ_DENIED  "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: a\r\n\r\n"
#define FUZZ_GET     "GET /a HTTP/1.1\r\nHost: own.example\r\n\r\n"
#define FUZZ_USER    "Authorization: Basic dTpw\r\n"

/* records that stand for frames, see fuzz_frames() */

#define FUZZ_SETTINGS  "\4\0\0\0"
#define FUZZ_WINDOW    "\4\0\0\6\0\4\0\0\0\x05"
#define FUZZ_END       "\0\1\1\0"

/* a CONNECT without and with other fields, a GET */

#define FUZZ_METHOD    "\2\7" "CONNECT"
#define FUZZ_H_OPEN    "\1\5\1\x18" FUZZ_METHOD "\1\x0d" "127.0.0.1:443"
#define FUZZ_H_HELLO   "\1\4\3\x17" FUZZ_METHOD "\1\x0c" "127.0.0.1:80"
#define FUZZ_H_DENIED  "\1\5\5\x17" FUZZ_METHOD "\x41\x0c" "10.0.0.1:443"
#define FUZZ_H_GET     "\1\5\7\x0c\x82\x84\x86\x41\7" "example"
#define FUZZ_H_OTHER   "\1\5\x0b\x12\x82\x84\x86\x41\x0d" "other.example"
#define FUZZ_H_POST    "\1\4\x09\x0c\x83\x84\x86\x41\7" "example"


#ifdef FUZZ_PROXY

#define FUZZ_V1    "PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n"
#define FUZZ_V1_6  "PROXY TCP6 2001:db8::7 ::1 1 2\r\n"
#define FUZZ_SIG   "\r\n\r\n\0\r\nQUIT\n"
#define FUZZ_V2    FUZZ_SIG "\x21\x11\0\x0c\xcb\0\x71\7\x7f\0\0\1\0\1\0\2"
#define FUZZ_TLV   FUZZ_SIG "\x21\x11\0\x10\xcb\0\x71\7\x7f\0\0\1\0\1\0\2" \
                   "\4\0\1x"
#define FUZZ_V2_6  FUZZ_SIG "\x21\x21\0\x24"                                  \
                   "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7"                   \
                   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0\2"


static const fuzz_bytes_t  fuzz_seeds[] = {
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_V1 FUZZ_OPEN "early"),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_V2 FUZZ_DENIED FUZZ_DENIED),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_V1_6 FUZZ_GET FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_V2_6 FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_V1 "POST / HTTP/1.1\r\nHost: a\r\n"
               "Transfer-Encoding: chunked\r\n\r\n4\r\nbody too long\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_TLV "\r\n" FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP "PROXY UNKNOWN\r\nCONNECT 10.0.0.1 HTTP/1.0\r\n"
               "\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_SIG "\x20\0\0\0" FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_V1 "CONNECT a.denied.example:81 HTTP/1.1\r\n"
               "Host: a\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_V1 "CONNECT 127.0.0.1:81 HTTP/1.1\r\n"
               "Host: a\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_AUTH FUZZ_V1 FUZZ_OPEN FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_SMALL FUZZ_V1 FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_DEFERRED FUZZ_V2 FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_PAGES FUZZ_V2 FUZZ_DENIED),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_V1 FUZZ_SETTINGS FUZZ_H_OPEN "\0\1\1\5early"),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_V2 FUZZ_SETTINGS FUZZ_H_DENIED FUZZ_H_GET),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_V2_6 FUZZ_SETTINGS FUZZ_H_HELLO "\0\1\3\0"),
    fuzz_bytes(FUZZ_IN_H2_AUTH FUZZ_V1 FUZZ_SETTINGS FUZZ_H_OPEN),
    fuzz_bytes(FUZZ_IN_H2_SMALL FUZZ_TLV FUZZ_WINDOW FUZZ_H_OPEN),
    fuzz_bytes(FUZZ_IN_SOCKS FUZZ_V1 "\5\1\0\5\1\0\1\x7f\0\0\1\1\xbb"),
    fuzz_bytes(FUZZ_IN_SOCKS FUZZ_V2 "\4\1\1\xbb\x7f\0\0\1user\0early"),
    fuzz_bytes(FUZZ_IN_SOCKS FUZZ_V2_6 "\4\1\0\x50\0\0\0\1\0a.example\0"),
    fuzz_bytes(FUZZ_IN_PREREAD FUZZ_V1 "SSH-2.0-x\r\n"),
    fuzz_bytes(FUZZ_IN_PREREAD FUZZ_V2 "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
               "\r\n"),
    fuzz_bytes(FUZZ_IN_PASSTHROUGH FUZZ_V2 "data"),
    fuzz_bytes(FUZZ_IN_REQUIRE FUZZ_V1 "\x16\3\1\0\1\1")
};

#else

static const fuzz_bytes_t  fuzz_seeds[] = {

    fuzz_bytes(FUZZ_IN_HTTP FUZZ_OPEN "early data"),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_GET FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_DENIED FUZZ_DENIED FUZZ_OPEN "data"),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_DENIED FUZZ_GET),
    fuzz_bytes(FUZZ_IN_HTTP "\r\n\r\n" FUZZ_OPEN "\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP FUZZ_GET "\n\n" FUZZ_DENIED "\r\n" FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT 127.0.0.1:80 HTTP/1.0\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT 127.0.0.1:81 HTTP/1.1\r\nHost: a\r\n"
               "Proxy-Connection: keep-alive\r\n\r\n" FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT 127.0.0.1:82 HTTP/1.1\r\nHost: a\r\n\r\n"
               "early"),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT x.denied.example:443 HTTP/1.1\r\n"
               "Host: a\r\nContent-Length: 4\r\n\r\nbody" FUZZ_GET),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n" FUZZ_GET),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT 127.0.0.1:443\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP "CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: a\r\n"
               "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP "POST /up/ HTTP/1.1\r\nHost: a\r\n"
               "Content-Length: 8\r\n\r\nCONNECT " FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP "POST / HTTP/1.1\r\nHost: a\r\n"
               "Transfer-Encoding: chunked\r\n\r\n"
               "4\r\nbody\r\n0\r\n\r\n" FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP "POST / HTTP/1.1\r\nHost: a\r\n"
               "Transfer-Encoding: chunked\r\n\r\n4\r\nbody too long\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP "TUNNEL /a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_HTTP "GET / HTTP/1.1\r\nHost: a\r\nConnection: close"
               "\r\n\r\n" FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_HTTP "GET /auth/ HTTP/1.1\r\nHost: a\r\n\r\n"
               FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_AUTH FUZZ_OPEN "CONNECT 127.0.0.1:443 HTTP/1.1\r\n"
               "Host: a\r\nProxy-" FUZZ_USER "\r\n" "data"),
    fuzz_bytes(FUZZ_IN_AUTH "GET /file HTTP/1.1\r\nHost: a\r\n\r\n" FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_AUTH FUZZ_GET "GET / HTTP/1.1\r\nHost: a\r\n" FUZZ_USER
               "\r\n" FUZZ_OPEN FUZZ_OPEN),
    fuzz_bytes(FUZZ_IN_SMALL FUZZ_DENIED FUZZ_DENIED FUZZ_OPEN "data"),
    fuzz_bytes(FUZZ_IN_SMALL "CONNECT a.example:443 HTTP/1.1\r\n"
               "Host: other.example\r\nX: 0123456789012345678901234567890\r\n"
               "Y: 0123456789012345678901234567890123456789\r\n\r\n"
               "GET /a HTTP/1.1\r\nHost: other.example\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_DEFERRED FUZZ_OPEN "data"),
    fuzz_bytes(FUZZ_IN_DEFERRED FUZZ_DENIED FUZZ_GET),
    fuzz_bytes(FUZZ_IN_PAGES FUZZ_DENIED FUZZ_DENIED FUZZ_DENIED FUZZ_DENIED),
    fuzz_bytes(FUZZ_IN_PAGES "CONNECT 127.0.0.1:81 HTTP/1.1\r\nHost: a\r\n\r\n"
               "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n" FUZZ_OPEN),

    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS FUZZ_H_OPEN "\0\1\1\5early"),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS FUZZ_H_OPEN "\0\0\1\4data" FUZZ_H_HELLO
               "\0\1\3\5data2" FUZZ_H_DENIED FUZZ_H_GET FUZZ_END),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS FUZZ_H_OPEN FUZZ_H_OTHER FUZZ_END),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS FUZZ_H_DENIED FUZZ_H_GET FUZZ_H_POST
               "\0\1\x09\4body"),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS "\1\4\1\x10" FUZZ_METHOD "\x41\5a:443"
               "\x84\x86" "\6\0\0\x08pingpong" "\3\0\1\4\0\0\0\x08"),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS "\1\0\1\x09" FUZZ_METHOD "\x09\4\1\x0f"
               "\1\x0d" "127.0.0.1:443" FUZZ_END "\x08\0\0\4\0\1\0\0"),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS FUZZ_H_OPEN "\0\x09\1\6\3data"
               "\7\0\0\x08\0\0\0\0\0\0\0\0"),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_WINDOW FUZZ_H_HELLO "\x08\0\3\4\0\0\0\x0a"
               "\0\1\3\0"),
    fuzz_bytes(FUZZ_IN_H2 FUZZ_SETTINGS FUZZ_H_OPEN "\3\0\1\4\0\0\0\x08"
               FUZZ_H_DENIED "\2\0\5\5\0\0\0\1\x10"),
    fuzz_bytes(FUZZ_IN_H2_AUTH FUZZ_SETTINGS FUZZ_H_OPEN
               "\1\5\3\x23" FUZZ_METHOD "\1\x0d" "127.0.0.1:443"
               "\x0f\x22\x0a" "Basic dTpw" FUZZ_H_GET),
    fuzz_bytes(FUZZ_IN_H2_SMALL FUZZ_WINDOW FUZZ_H_OPEN "\0\0\1\4data"
               FUZZ_H_HELLO FUZZ_H_DENIED FUZZ_H_GET FUZZ_END "\0\1\3\0"),
    fuzz_bytes("\x40PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),

    fuzz_bytes(FUZZ_IN_SOCKS "\5\1\0\5\1\0\1\x7f\0\0\1\1\xbb" "data"),
    fuzz_bytes(FUZZ_IN_SOCKS "\5\2\2\0\5\1\0\3\x0b" "example.org\1\xbb"),
    fuzz_bytes(FUZZ_IN_SOCKS "\5\1\0\5\1\0\1\x0a\0\0\1\1\xbb" "data"),
    fuzz_bytes(FUZZ_IN_SOCKS "\5\1\0\5\1\0\1\x7f\0\0\1\0\x51"),
    fuzz_bytes(FUZZ_IN_SOCKS "\5\1\0\5\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
               "\0\x50"),
    fuzz_bytes(FUZZ_IN_SOCKS "\4\1\1\xbb\x7f\0\0\1user\0data"),
    fuzz_bytes(FUZZ_IN_SOCKS "\5\1\0\5\2\0\1\x7f\0\0\1\1\xbb" "data"),
    fuzz_bytes(FUZZ_IN_SOCKS "\4\2\1\xbb\0\0\0\0\0data"),
    fuzz_bytes(FUZZ_IN_SOCKS_AUTH "\5\1\2\1\1u\1p\5\1\0\1\x7f\0\0\1\1\xbb"
               "data"),
    fuzz_bytes(FUZZ_IN_SOCKS_AUTH "\5\2\0\2\1\1u\1x\5\1\0\1\x7f\0\0\1"
               "\1\xbb"),
    fuzz_bytes(FUZZ_IN_SOCKS_AUTH "\5\1\2\1\1v\1p\5\1\0\1\x7f\0\0\1\1\xbb"
               "data"),
    fuzz_bytes(FUZZ_IN_SOCKS_AUTH "\5\1\2\1\1v\1x"),
    fuzz_bytes(FUZZ_IN_SOCKS_AUTH "\4\1\1\xbb\x7f\0\0\1u\0data"),
    fuzz_bytes(FUZZ_IN_SOCKS "\4\1\0\x50\0\0\0\1\0x.denied.example\0"),

    fuzz_bytes(FUZZ_IN_PREREAD "SSH-2.0-x\r\nmore"),
    fuzz_bytes(FUZZ_IN_PREREAD "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    fuzz_bytes(FUZZ_IN_PREREAD "\x16\3\1\0\x43\1\0\0\x3f\3\3"
               "0123456789abcdef0123456789ABCDEF\0\0\4\x13\1\x13\2\1\0"
               "\0\x12\0\0\0\x0e\0\x0c\0\0\x09" "127.0.0.1"),
    fuzz_bytes(FUZZ_IN_PREREAD "\0\0\0\x08\4\xd2\x16\x2f"),
    fuzz_bytes(FUZZ_IN_PASSTHROUGH "data"),
    fuzz_bytes(FUZZ_IN_REQUIRE "\x16\3\1\0\x2f\1\0\0\x2b\3\3"
               "0123456789abcdef0123456789ABCDEF\0\0\4\x13\1\x13\2\1\0"
               "data"),
    fuzz_bytes(FUZZ_IN_REQUIRE "not TLS")
};

#endif


static const fuzz_bytes_t  fuzz_words[] = {
    fuzz_bytes("CONNECT "), fuzz_bytes("CONNECT 127.0.0.1:443 HTTP/1.1\r\n"),
    fuzz_bytes(FUZZ_OPEN), fuzz_bytes(FUZZ_DENIED), fuzz_bytes(FUZZ_GET),
    fuzz_bytes("\r\n"), fuzz_bytes("\n"), fuzz_bytes("\r\n\r\n"),
    fuzz_bytes("C"), fuzz_bytes("CONN"), fuzz_bytes("TUNNEL /"),
    fuzz_bytes("GET "), fuzz_bytes("HEAD "), fuzz_bytes("POST /up/ "),
    fuzz_bytes(" HTTP/1.1\r\n"), fuzz_bytes(" HTTP/1.0\r\n"),
    fuzz_bytes("Content-Length: 10\r\n"), fuzz_bytes("Connection: close\r\n"),
    fuzz_bytes("Transfer-Encoding: chunked\r\n"), fuzz_bytes("0\r\n\r\n"),
    fuzz_bytes("Expect: 100-continue\r\n"), fuzz_bytes("Host: other.example"),
    fuzz_bytes("Proxy-" FUZZ_USER), fuzz_bytes(FUZZ_USER),
    fuzz_bytes("127.0.0.1:80"), fuzz_bytes("127.0.0.1:81"),
    fuzz_bytes("127.0.0.1:82"), fuzz_bytes("a.denied.example:443"),
    fuzz_bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    fuzz_bytes(FUZZ_SETTINGS), fuzz_bytes(FUZZ_WINDOW),
    fuzz_bytes(FUZZ_H_OPEN), fuzz_bytes(FUZZ_H_HELLO),
    fuzz_bytes(FUZZ_H_DENIED), fuzz_bytes(FUZZ_H_GET), fuzz_bytes(FUZZ_H_POST),
    fuzz_bytes(FUZZ_END), fuzz_bytes("\3\0\1\4\0\0\0\x08"),
    fuzz_bytes("\x08\0\1\4\0\0\0\x10"), fuzz_bytes("\x08\0\0\4\0\0\0\x10"),
    fuzz_bytes("\x09\4\1\0"), fuzz_bytes("\0\0\1\4data"),
    fuzz_bytes("\6\0\0\x08pingpong"), fuzz_bytes("\x84"), fuzz_bytes("\x86"),
#ifdef FUZZ_PROXY
    fuzz_bytes(FUZZ_V1), fuzz_bytes(FUZZ_V2), fuzz_bytes(FUZZ_SIG),
    fuzz_bytes("PROXY "), fuzz_bytes("PROXY UNKNOWN"), fuzz_bytes("TCP4"),
#endif
    fuzz_bytes("\5\1\0"), fuzz_bytes("\5\1\0\1\x7f\0\0\1\1\xbb"),
    fuzz_bytes("\4\1\1\xbb\x7f\0\0\1\0")
};


const fuzz_target_t  fuzz_target = {
    1,
    fuzz_seeds, fuzz_nelts(fuzz_seeds),
    fuzz_words, fuzz_nelts(fuzz_words),
    fuzz_reached, fuzz_nelts(fuzz_reached)
};


#define FUZZ_PREFACE  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define FUZZ_BROKEN   "header of an HTTP/2 request cannot be read"
#define FUZZ_NO_NAME  "client sent zero header name length"
#define FUZZ_FRAMES   2000


typedef struct {
    uint32_t              sid;
    uint32_t              len;
    u_char                type;
    u_char                flags;
    const u_char         *data;
} fuzz_frame_t;


static size_t fuzz_header(const u_char *data, size_t len);
static void fuzz_frames(fuzz_buf_t *b, const u_char *data, size_t len);
static ngx_uint_t fuzz_ended(const fuzz_buf_t *in, size_t header,
    const fuzz_result_t *r, ngx_uint_t streams);
static void fuzz_relayed(fuzz_result_t *r, const fuzz_buf_t *in,
    ngx_uint_t port);
static void fuzz_servers(fuzz_result_t *r);
static ngx_uint_t fuzz_goaway(const fuzz_result_t *r);
static const u_char *fuzz_frame(fuzz_frame_t *f, const u_char *p,
    const u_char *last);
static ngx_uint_t fuzz_compare(fuzz_result_t *a, fuzz_result_t *b,
    ngx_uint_t h2, ngx_uint_t cut, ngx_uint_t off);
static void fuzz_differ(fuzz_result_t *a, fuzz_result_t *b,
    const char *what);
static void fuzz_sort_frames(fuzz_buf_t *out, const fuzz_buf_t *in);
static int fuzz_cmp_frames(const void *one, const void *two);
static void fuzz_sort_lines(fuzz_buf_t *out, const fuzz_buf_t *in,
    ngx_uint_t cut);
static void fuzz_before_last(fuzz_buf_t *out, const fuzz_buf_t *in);
static void fuzz_before_empty(fuzz_buf_t *out, const fuzz_buf_t *in);
static ngx_uint_t fuzz_challenged(const fuzz_buf_t *a, const fuzz_buf_t *b);
static int fuzz_cmp_lines(const void *one, const void *two);
static void fuzz_show(const char *what, const fuzz_buf_t *a,
    const fuzz_buf_t *b);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t         header, n;
    ngx_uint_t     i, port, h2, ended, same, connect;
    fuzz_client_t  client;

    static time_t         now = 1700000000;
    static fuzz_buf_t     in;
    static fuzz_result_t  whole, cut, off, other;

    if (size < 3 || size > 8192) {
        return 0;
    }

    port = fuzz_kinds[data[1] & FUZZ_KIND];
    h2 = (port >= FUZZ_H2 && port < FUZZ_STREAM);

    in.len = 0;
    header = fuzz_header(data + 2, size - 2);

    if (h2 && !(data[1] & FUZZ_RAW)) {
        fuzz_put(&in, data + 2, header);
        fuzz_frames(&in, data + 2 + header, size - 2 - header);

    } else {
        fuzz_put(&in, data + 2, size - 2);
    }

    /* one that is not there as a whole goes on in what was made */

    header = fuzz_header(in.data, in.len);

    /* newer nginx has HTTP/1.1 there, too */

    n = ngx_min(in.len - header, sizeof(FUZZ_PREFACE) - 1);

    h2 = h2 && memcmp(in.data + header, FUZZ_PREFACE, n) == 0;

    ngx_memzero(&client, sizeof(fuzz_client_t));

    client.data = fuzz_copy(in.data, in.len);
    client.len = in.len;
    client.time = now++;
    client.reset = ((data[1] & FUZZ_RESET) != 0);

    client.port = FUZZ_ON + port;
    client.first = in.len;
    client.segment = in.len;

    fuzz_nginx(&client, &whole);

    /* nginx wants a PROXY protocol header whole */

    client.segment = data[0] ? data[0] : 256;
    client.first = header + (data[0] & 1 ? client.segment : 0);

    if (client.first == 0) {
        client.first = client.segment;
    }

    if (data[1] & FUZZ_SLOW) {

        /* an alert of TLS is sent in one go, or not */

        client.room = 7 + client.segment;
    }

    fuzz_nginx(&client, &cut);

    for (i = 0; i < fuzz_nelts(fuzz_reached); i++) {

        if (fuzz_has(&cut.log, fuzz_reached[i].name)
            || fuzz_has(&cut.error, fuzz_reached[i].name))
        {
            fuzz_reached[i].count++;
        }
    }

    ended = h2 && (fuzz_ended(&in, header, &whole, 1)
                   || fuzz_ended(&in, header, &cut, 1));

    fuzz_relayed(&whole, &in, port);
    fuzz_relayed(&cut, &in, port);

    if (port < FUZZ_STREAM) {
        fuzz_servers(&whole);
        fuzz_servers(&cut);
    }

    same = fuzz_compare(&whole, &cut, h2, ended, 0);
    connect = fuzz_has(&whole.log, "CONNECT ")
              || fuzz_has(&cut.log, "CONNECT ");

    if (port < FUZZ_STREAM && !connect) {
        client.port = FUZZ_OFF + port;

        if (!same) {

            /* nginx's own difference is none of ours */

            fuzz_nginx(&client, &other);
        }

        client.first = in.len;
        client.segment = in.len;
        client.room = 0;

        fuzz_nginx(&client, &off);

        ended = h2 && fuzz_ended(&in, header, &whole, 0);

        if (!fuzz_compare(&whole, &off, h2, ended, 1)) {
            fuzz_differ(&whole, &off, "with tunnels and without");
        }

        if (!same) {
            same = !fuzz_compare(&off, &other, h2, 0, 0);
            fuzz_reached[FUZZ_OWN].count += same;
        }
    }

    if (!same) {
        fuzz_differ(&whole, &cut, "whole and in segments");
    }

    free((void *) client.data);

    return 0;
}


/* the length of a PROXY protocol header, as far as nginx goes for it */

static size_t
fuzz_header(const u_char *data, size_t len)
{
#ifdef FUZZ_PROXY

    size_t         n;
    const u_char  *p;

    if (len >= 16 && memcmp(data, FUZZ_SIG, 12) == 0) {
        n = 16 + (data[14] << 8) + data[15];
        return ngx_min(n, len);
    }

    p = memmem(data, len, "\r\n", 2);

    return p ? (size_t) (p + 2 - data) : len;

#else

    return 0;

#endif
}


/* frames that have a type, flags, a stream, and a length as bytes */

static void
fuzz_frames(fuzz_buf_t *b, const u_char *data, size_t len)
{
    size_t  n;
    u_char  head[9];

    fuzz_put(b, FUZZ_PREFACE, sizeof(FUZZ_PREFACE) - 1);

    while (len >= 4) {
        n = ngx_min(data[3], len - 4);

        ngx_memzero(head, 9);

        head[2] = n;
        head[3] = data[0];
        head[4] = data[1];
        head[8] = data[2];

        fuzz_put(b, head, 9);
        fuzz_put(b, data + 4, n);

        data += 4 + n;
        len -= 4 + n;
    }

    fuzz_put(b, data, len);
}


/*
 * Whether a client has ended the connection with an error or in a block, or a
 * stream: what was done of all others by then, and how much the client gets of
 * that, is a matter of time.
 */

static ngx_uint_t
fuzz_ended(const fuzz_buf_t *in, size_t header, const fuzz_result_t *r,
    ngx_uint_t streams)
{
    ngx_uint_t     block, headers;
    fuzz_frame_t   f;
    const u_char  *p, *last;

    last = in->data + in->len;
    p = in->data + ngx_min(in->len, header + sizeof(FUZZ_PREFACE) - 1);

    block = 0;
    headers = 0;

    while (p && last - p >= 9) {
        p = fuzz_frame(&f, p, last);

        switch (f.type) {

        case 3:  /* RST_STREAM */
            if (streams) {
                return 1;
            }

            break;

        case 4:  /* SETTINGS, and with them windows of streams there are */
            if (streams && headers && f.len) {
                return 1;
            }

            break;

        case 9:  /* CONTINUATION */
            if (f.len == 0) {

                /* nginx does not see that a block ends in such a one */

                return 1;
            }

            /* fall through */

        case 1:  /* HEADERS */
            headers = 1;
            block = (p == NULL || !(f.flags & 4));
        }
    }

    if (block || fuzz_goaway(r)) {
        return 1;
    }

    p = r->sent.data;
    last = p + r->sent.len;

    while (streams && p < last && (p = fuzz_frame(&f, p, last)) != NULL) {

        /* CANCEL and CONNECT_ERROR are not of the client's making */

        if (f.type == 3 && f.len == 4 && f.data[3] && f.data[3] < 8) {
            return 1;
        }
    }

    return 0;
}


/* whether nginx has ended the connection with an error */

static ngx_uint_t
fuzz_goaway(const fuzz_result_t *r)
{
    fuzz_frame_t   f;
    const u_char  *p, *last;

    p = r->sent.data;
    last = p + r->sent.len;

    while (p < last && (p = fuzz_frame(&f, p, last)) != NULL) {

        if (f.type == 7 && f.len == 8 && memcmp(f.data + 4, "\0\0\0\0", 4)) {
            return 1;
        }
    }

    return 0;
}


/*
 * A target gets all that comes behind a request, once.  When the client has
 * ended, targets do, and no tunnel waits for that.
 */

static void
fuzz_relayed(fuzz_result_t *r, const fuzz_buf_t *in, ngx_uint_t port)
{
    char        *line, *copy;
    size_t       len, skip;
    ngx_uint_t   i;
    fuzz_buf_t  *t;

    copy = strndup(r->log.len ? (char *) r->log.data : "", r->log.len);
    if (copy == NULL) {
        abort();
    }

    for (line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {
        line = strrchr(line, '"');

        fuzz_assert(strstr(line, " idle_timeout ") == NULL
                    && strstr(line, " send_timeout ") == NULL);
    }

    free(copy);

    if (port >= FUZZ_H2 && port < FUZZ_STREAM) {
        return;
    }

    /* "target_proxy_protocol v2" */

    skip = (port == FUZZ_REQUIRE) ? 28 : 0;

    for (i = 0; i < r->ntargets; i++) {
        t = &r->targets[i];

        if (t->len == 0) {
            continue;
        }

        fuzz_assert(t->len >= skip && t->len - skip <= in->len);

        len = t->len - skip;

        fuzz_assert(len == 0 || memcmp(t->data + skip,
                                       in->data + in->len - len, len) == 0);
    }
}


/* a CONNECT selects no server by its Host, and all others do */

static void
fuzz_servers(fuzz_result_t *r)
{
    char        *line, *copy;
    const char  *p;
    ngx_uint_t   other;

    if (r->log.len == 0) {
        return;
    }

    copy = strndup((char *) r->log.data, r->log.len);
    if (copy == NULL) {
        abort();
    }

    for (line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {

        /* status, method, server, host */

        p = strrchr(line, '"') + sizeof("\" 200 ") - 1;
        other = (strncmp(p, "CONNECT ", 8) != 0);

        p = strchr(p, ' ') + 1;
        other = other && strncmp(strchr(p, ' '), " other.example ", 15) == 0;

        if ((strncmp(p, "other.example ", 14) == 0) != other) {
            fprintf(stderr, "%s\n", line);
            fuzz_fail(__FILE__, __LINE__, "this is the server");
        }
    }

    free(copy);
}


/* returns what is behind a frame, or NULL if it is not there as a whole */

static const u_char *
fuzz_frame(fuzz_frame_t *f, const u_char *p, const u_char *last)
{
    if (last - p < 9) {
        return NULL;
    }

    f->len = (p[0] << 16) + (p[1] << 8) + p[2];
    f->type = p[3];
    f->flags = p[4];
    f->sid = ((uint32_t) p[5] << 24) + (p[6] << 16) + (p[7] << 8) + p[8];
    f->data = p + 9;

    return ((size_t) (last - p) - 9 < f->len) ? NULL : p + 9 + f->len;
}


static ngx_uint_t
fuzz_compare(fuzz_result_t *a, fuzz_result_t *b, ngx_uint_t h2,
    ngx_uint_t cut, ngx_uint_t off)
{
    ngx_uint_t         i, ok;
    const fuzz_buf_t  *x, *y, *v, *w;

    static fuzz_buf_t  one, two, three, four;

    if (fuzz_has(&a->error, FUZZ_BROKEN) || fuzz_has(&b->error, FUZZ_BROKEN)
        || (cut && off))
    {
        /*
         * An error of a block that came whole and is of no CONNECT is left for
         * nginx to find, which may have refused the request by then, and skips
         * the rest.  Errors of others are all COMPRESSION_ERROR, and of one
         * that never ends nginx sees nothing.
         */

        return 1;
    }

    if (fuzz_has(&a->error, FUZZ_NO_NAME)
        != fuzz_has(&b->error, FUZZ_NO_NAME))
    {
        /*
         * Of the HEADERS of a request that it has refused nginx skips the
         * rest, but not of a CONTINUATION, which is what it gets of a block
         * that comes in pieces.
         */

        return 1;
    }

    if (off && fuzz_has(&b->error, "while reading PROXY protocol")) {

        /* a header that is broken may be the beginning of something to us */

        return 1;
    }

    x = &a->sent;
    y = &b->sent;
    v = &a->log;
    w = &b->log;

    if (h2) {
        fuzz_sort_frames(&one, x);
        fuzz_sort_frames(&two, y);
        fuzz_sort_lines(&three, v, cut);
        fuzz_sort_lines(&four, w, cut);

        x = &one;
        y = &two;
        v = &three;
        w = &four;
    }

    if (!h2 && fuzz_has(v, "CONNECT ")
        && fuzz_has(&a->error, "client sent invalid chunked body")
        && fuzz_has(&b->error, "client sent invalid chunked body"))
    {
        /* nginx may have sent a response by the time it sees that */

        fuzz_before_last(&three, v);
        fuzz_before_last(&four, w);

        return fuzz_same(&three, &four);
    }

    if (!h2) {

        /*
         * What might be a CONNECT, or comes in front of one, and ends too
         * early is not always a request to us.
         */

        fuzz_before_empty(&three, v);
        fuzz_before_empty(&four, w);

        v = &three;
        w = &four;
    }

    if (!h2 && fuzz_challenged(v, w)) {
        return 1;
    }

    ok = fuzz_same(v, w);

    if (cut) {
        return ok;
    }

    /* what may be a CONNECT has to be waited for */

    ok = ok && fuzz_same(x, y) && (off || a->first == b->first)
         && a->aborted == b->aborted && a->ntargets == b->ntargets;

    for (i = 0; ok && i < a->ntargets; i++) {
        ok = fuzz_same(&a->targets[i], &b->targets[i]);
    }

    return ok;
}


static void
fuzz_differ(fuzz_result_t *a, fuzz_result_t *b, const char *what)
{
    ngx_uint_t  i;

    fprintf(stderr, "not the same: %s\n", what);

    fuzz_show("sent", &a->sent, &b->sent);
    fuzz_show("log", &a->log, &b->log);

    for (i = 0; i < ngx_max(a->ntargets, b->ntargets); i++) {
        fuzz_show("target", &a->targets[i], &b->targets[i]);
    }

    fprintf(stderr, "ended first %d %d, with RST %d %d\n", a->first, b->first,
            a->aborted, b->aborted);

    fuzz_show("errors", &a->error, &b->error);

    abort();
}


/* frames by stream, without what depends on time */

static void
fuzz_sort_frames(fuzz_buf_t *out, const fuzz_buf_t *in)
{
    ngx_uint_t     i, n;
    const u_char  *p, *last;
    fuzz_frame_t  *f;

    static fuzz_frame_t  frames[FUZZ_FRAMES];

    p = in->data;
    last = p + in->len;
    n = 0;

    while (p < last && n < FUZZ_FRAMES) {
        p = fuzz_frame(&frames[n], p, last);

        if (p == NULL) {
            break;
        }

        n++;
    }

    out->len = 0;

    if (p != last) {

        /* not HTTP/2 */

        fuzz_put(out, in->data, in->len);
        return;
    }

    qsort(frames, n, sizeof(fuzz_frame_t), fuzz_cmp_frames);

    for (i = 0; i < n; i++) {
        f = &frames[i];

        switch (f->type) {

        case 8:  /* WINDOW_UPDATE */
            continue;

        case 3:  /* RST_STREAM, if the client had more to say */
            if (f->len == 4 && memcmp(f->data, "\0\0\0\0", 4) == 0) {
                continue;
            }

            break;

        case 0:  /* DATA, as a stream of bytes */
            fuzz_put(out, f->data, f->len);

            if (f->flags & 1) {
                fuzz_put(out, "END", 3);
            }

            continue;

        case 1:  /* HEADERS; the first one has the size of the table */
            if (f->len && (f->data[0] & 0xe0) == 0x20) {
                f->data++;
                f->len--;
            }

            break;
        }

        fuzz_put(out, "\n", 1);
        fuzz_put(out, &f->sid, sizeof(f->sid));
        fuzz_put(out, &f->type, 1);
        fuzz_put(out, &f->flags, 1);
        fuzz_put(out, f->data, f->len);
    }
}


static int
fuzz_cmp_frames(const void *one, const void *two)
{
    const fuzz_frame_t  *a = one;
    const fuzz_frame_t  *b = two;

    if (a->sid != b->sid) {
        return (a->sid < b->sid) ? -1 : 1;
    }

    return (a->data < b->data) ? -1 : 1;
}


/* streams end in any order; if they are cut, how is left out */

static void
fuzz_sort_lines(fuzz_buf_t *out, const fuzz_buf_t *in, ngx_uint_t cut)
{
    char        *end;
    u_char      *p, *copy;
    ngx_uint_t   i, n;

    static u_char  *lines[FUZZ_FRAMES];

    out->len = 0;

    copy = malloc(in->len + 1);
    if (copy == NULL) {
        abort();
    }

    if (in->len) {
        memcpy(copy, in->data, in->len);
    }

    copy[in->len] = '\0';

    n = 0;

    for (p = (u_char *) strtok((char *) copy, "\n");
         p && n < FUZZ_FRAMES;
         p = (u_char *) strtok(NULL, "\n"))
    {
        if (cut && *p == ' ') {
            continue;
        }

        lines[n++] = p;

        end = strrchr((char *) p, '"');

        if (cut && end) {
            *end = '\0';
        }
    }

    qsort(lines, n, sizeof(u_char *), fuzz_cmp_lines);

    for (i = 0; i < n; i++) {
        fuzz_put(out, lines[i], strlen((char *) lines[i]));
        fuzz_put(out, "\n", 1);
    }

    free(copy);
}


/* all lines but the last one */

static void
fuzz_before_last(fuzz_buf_t *out, const fuzz_buf_t *in)
{
    u_char  *p;

    out->len = 0;

    p = (in->len > 1) ? memrchr(in->data, '\n', in->len - 1) : NULL;

    if (p) {
        fuzz_put(out, in->data, p + 1 - in->data);
    }
}


/* all lines, but not the last one if nothing of its request was read */

static void
fuzz_before_empty(fuzz_buf_t *out, const fuzz_buf_t *in)
{
    fuzz_before_last(out, in);

    if (in->len < out->len + 5
        || memcmp(in->data + out->len, "- \"- ", 5) != 0)
    {
        out->len = 0;
        fuzz_put(out, in->data, in->len);
    }
}


/*
 * Whether a log is as the other one, but ends with a 407.  A connection goes
 * on behind that if there are no more bytes by then.
 */

static ngx_uint_t
fuzz_challenged(const fuzz_buf_t *a, const fuzz_buf_t *b)
{
    u_char            *p;
    const fuzz_buf_t  *t;

    if (a->len > b->len) {
        t = a;
        a = b;
        b = t;
    }

    if (a->len < 2 || memcmp(a->data, b->data, a->len) != 0) {
        return 0;
    }

    p = memrchr(a->data, '\n', a->len - 1);
    p = p ? p + 1 : a->data;

    return memmem(p, a->data + a->len - p, "\" 407 CONNECT ", 14) != NULL;
}


static int
fuzz_cmp_lines(const void *one, const void *two)
{
    return strcmp(*(char *const *) one, *(char *const *) two);
}


static void
fuzz_show(const char *what, const fuzz_buf_t *a, const fuzz_buf_t *b)
{
    size_t             i;
    u_char             ch;
    ngx_uint_t         n;
    const fuzz_buf_t  *x;

    for (n = 0; n < 2; n++) {
        x = n ? b : a;

        fprintf(stderr, "--- %s %lu\n", what, (unsigned long) n + 1);

        for (i = 0; i < x->len; i++) {
            ch = x->data[i];

            if ((ch >= 0x20 && ch < 0x7f) || ch == '\n') {
                fputc(ch, stderr);

            } else {
                fprintf(stderr, "\\x%02x", ch);
            }
        }

        fprintf(stderr, "\n");
    }
}
