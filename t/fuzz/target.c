
/*
 * Fuzz target: authorities, and hosts and ports that came apart.
 */


#include "fuzz.h"


enum {
    FUZZ_REFUSED = 0,
    FUZZ_NAME,
    FUZZ_INET,
    FUZZ_INET6,
    FUZZ_MAPPED,
    FUZZ_NAKED,
    FUZZ_LONGEST
};


static fuzz_reached_t  fuzz_reached[] = {
    [FUZZ_REFUSED] = { "refused", 0 },
    [FUZZ_NAME] = { "name", 0 },
    [FUZZ_INET] = { "IPv4 address", 0 },
    [FUZZ_INET6] = { "IPv6 address", 0 },
    [FUZZ_MAPPED] = { "IPv4-mapped address", 0 },
    [FUZZ_NAKED] = { "IPv6 address without brackets", 0 },
    [FUZZ_LONGEST] = { "host of 253 bytes", 0 }
};


#define FUZZ_36  "abcdefghijklmnopqrstuvwxyz0123456789"
#define FUZZ_61  FUZZ_36 "ABCDEFGHIJKLMNOPQRSTUVWXY"
#define FUZZ_63  FUZZ_61 "-_"


static const fuzz_bytes_t  fuzz_seeds[] = {
    fuzz_bytes("example.org:443"),
    fuzz_bytes("EXAMPLE.Org.:65535"),
    fuzz_bytes("127.0.0.1:80"),
    fuzz_bytes("255.255.255.255.:00443"),
    fuzz_bytes("[::1]:443"),
    fuzz_bytes("::1"),
    fuzz_bytes("[::ffff:127.0.0.1]:443"),
    fuzz_bytes("[2001:db8:0:0:1:0:0:1]:443"),
    fuzz_bytes("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:1"),
    fuzz_bytes("2001:db8::1:443"),
    fuzz_bytes("0x7f000001:443"),
    fuzz_bytes("user@example.org:443"),
    fuzz_bytes(FUZZ_63 "." FUZZ_63 "." FUZZ_63 "." FUZZ_61 ":443")
};


static const fuzz_bytes_t  fuzz_words[] = {
    fuzz_bytes("."), fuzz_bytes(":"), fuzz_bytes("::"), fuzz_bytes("["),
    fuzz_bytes("]"), fuzz_bytes(":443"), fuzz_bytes(":0"), fuzz_bytes("0x"),
    fuzz_bytes("255."), fuzz_bytes("::ffff:"), fuzz_bytes("ffff:"),
    fuzz_bytes("%"), fuzz_bytes("/"), fuzz_bytes("@"), fuzz_bytes(" "),
    fuzz_bytes("1.2.3.4"), fuzz_bytes("\0"), fuzz_bytes("abcdefghij.")
};


const fuzz_target_t  fuzz_target = {
    0,
    fuzz_seeds, fuzz_nelts(fuzz_seeds),
    fuzz_words, fuzz_nelts(fuzz_words),
    fuzz_reached, fuzz_nelts(fuzz_reached)
};


static void
fuzz_same(const ngx_tunnel_target_t *a, const ngx_tunnel_target_t *b)
{
    fuzz_assert(a->text.len == b->text.len);
    fuzz_assert(a->host.len == b->host.len);
    fuzz_assert(memcmp(a->buf, b->buf, a->text.len) == 0);
    fuzz_assert(a->port == b->port);
    fuzz_assert(a->family == b->family);
    fuzz_assert(a->family != AF_INET || memcmp(&a->addr, &b->addr, 4) == 0);
    fuzz_assert(a->family != AF_INET6 || memcmp(&a->addr, &b->addr, 16) == 0);
}


/* what every target is, whatever it was */

static void
fuzz_canonical(ngx_tunnel_target_t *t)
{
    char                 host[NGX_TUNNEL_HOST_LEN + 1], port[8];
    size_t               i;
    u_char              *copy;
    struct in6_addr      addr;
    ngx_tunnel_target_t  again;

    fuzz_assert(t->text.data == t->buf && t->host.data == t->buf);
    fuzz_assert(t->host.len >= 1 && t->host.len <= NGX_TUNNEL_HOST_LEN);
    fuzz_assert(t->text.len <= NGX_TUNNEL_TARGET_LEN);

    memcpy(host, t->buf, t->host.len);
    host[t->host.len] = '\0';

    for (i = 0; i < t->host.len; i++) {
        fuzz_assert(host[i] != '\0' && strchr("abcdefghijklmnopqrstuvwxyz"
                                         "0123456789-_.:[]", host[i]) != NULL);
    }

    fuzz_assert(strlen(host) == 1 || host[t->host.len - 1] != '.');

    sprintf(port, ":%u", (unsigned) t->port);

    fuzz_assert(t->text.len == t->host.len + strlen(port));
    fuzz_assert(memcmp(t->buf + t->host.len, port, strlen(port)) == 0);

    switch (t->family) {

    case AF_INET:
        fuzz_assert(inet_pton(AF_INET, host, &addr) == 1);
        fuzz_assert(memcmp(&addr, &t->addr.in, 4) == 0);
        break;

    case AF_INET6:
        fuzz_assert(host[0] == '[' && host[t->host.len - 1] == ']');
        host[t->host.len - 1] = '\0';
        fuzz_assert(inet_pton(AF_INET6, host + 1, &addr) == 1);
        fuzz_assert(memcmp(&addr, &t->addr.in6, 16) == 0);
        fuzz_assert(!IN6_IS_ADDR_V4MAPPED(&addr));
        break;

    default:
        fuzz_assert(t->family == AF_UNSPEC);
        fuzz_assert(strpbrk(host, "[:]") == NULL);

        /* nothing that inet_aton() took for an address would get by */

        fuzz_assert(inet_aton(host, (struct in_addr *) &addr) == 0);
        break;
    }

    if (t->port) {
        copy = fuzz_copy(t->text.data, t->text.len);
        fuzz_assert(ngx_tunnel_target_parse(&again, copy, t->text.len)
                    == NULL);
        fuzz_same(t, &again);
        free(copy);
    }

    copy = fuzz_copy(t->host.data, t->host.len);
    fuzz_assert(ngx_tunnel_target_set(&again, copy, t->host.len, t->port)
                == NULL);
    fuzz_same(t, &again);
    free(copy);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                len;
    u_char               *copy, *colon;
    in_port_t             port;
    const char           *err, *err2;
    ngx_tunnel_target_t  *t, t2;

    t = malloc(sizeof(ngx_tunnel_target_t));
    if (t == NULL) {
        abort();
    }

    copy = fuzz_copy(data, size);

    err = ngx_tunnel_target_parse(t, copy, size);

    fuzz_assert(size == 0 || memcmp(copy, data, size) == 0);

    if (err) {
        fuzz_reached[FUZZ_REFUSED].count++;

    } else {
        fuzz_canonical(t);

        /* a zero byte ends a text for the C library only */

        fuzz_assert(memchr(data, '\0', size) == NULL);

        fuzz_reached[t->family == AF_INET ? FUZZ_INET
                     : t->family == AF_INET6 ? FUZZ_INET6 : FUZZ_NAME].count++;

        fuzz_reached[FUZZ_MAPPED].count += (t->family == AF_INET
                                            && copy[0] == '[');
        fuzz_reached[FUZZ_LONGEST].count += (t->host.len == 253);

        /* the same host and port apart */

        colon = copy + size;
        while (*--colon != ':') { /* void */ }

        len = colon - copy;
        port = t->port;

        t2 = *t;
        t2.text.data = t2.host.data = t2.buf;

        free(copy);
        copy = fuzz_copy(data, len);

        fuzz_assert(ngx_tunnel_target_set(t, copy, len, port) == NULL);
        fuzz_same(t, &t2);

        free(copy);
        copy = fuzz_copy(data, size);
    }

    /* all of it as a host; in brackets it is the same */

    port = size ? data[0] * 257 : 0;

    err = ngx_tunnel_target_set(t, copy, size, port);

    if (err == NULL) {
        fuzz_assert(t->port == port);
        fuzz_assert(memchr(data, '\0', size) == NULL);
        fuzz_canonical(t);
    }

    if (size && data[0] != '[' && memchr(data, ':', size)) {

        if (err == NULL) {
            fuzz_reached[FUZZ_NAKED].count++;
        }

        free(copy);

        copy = malloc(size + 2);
        if (copy == NULL) {
            abort();
        }

        copy[0] = '[';
        memcpy(copy + 1, data, size);
        copy[size + 1] = ']';

        err2 = ngx_tunnel_target_set(&t2, copy, size + 2, port);

        fuzz_assert((err == NULL) == (err2 == NULL));

        if (err == NULL) {
            fuzz_same(t, &t2);
        }
    }

    free(copy);
    free(t);

    return 0;
}
