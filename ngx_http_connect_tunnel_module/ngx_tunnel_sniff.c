
/*
 * Sniff: one probe for each protocol.  Nothing here allocates or logs.
 */


#include "ngx_tunnel_sniff.h"


/* the most extensions of a ClientHello; clients send some twenty */

#define NGX_TUNNEL_HELLO_EXTENSIONS  128

#define NGX_TUNNEL_RECORD_HEADER     5
#define NGX_TUNNEL_RECORD_LEN        16384   /* RFC 8446 5.1 */


/*
 * A handshake message, or a part of one, that is spread over records, whose
 * headers stand between its bytes; all of it is there.
 */

typedef struct {
    u_char                   *pos;
    size_t                    record;        /* left of the record at pos */
    size_t                    left;          /* of the message */
} ngx_tunnel_hello_t;


/* NGX_OK: is it, NGX_AGAIN: may be, NGX_DECLINED: is not */

typedef ngx_int_t (*ngx_tunnel_probe_pt)(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);


static void ngx_tunnel_sniff_init(ngx_tunnel_sniff_t *sn);
static ngx_int_t ngx_tunnel_sniff_prefix(u_char *p, size_t len,
    const char *prefix, size_t size);
static void ngx_tunnel_sniff_host(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static void ngx_tunnel_sniff_invalid(ngx_tunnel_sniff_t *sn,
    const char *error);

static ngx_int_t ngx_tunnel_sniff_records(u_char *p, size_t len,
    ngx_tunnel_hello_t *h, const char **error);
static ngx_int_t ngx_tunnel_sniff_hello(ngx_tunnel_sniff_t *sn,
    ngx_tunnel_hello_t *h);
static ngx_int_t ngx_tunnel_sniff_extensions(ngx_tunnel_sniff_t *sn,
    ngx_tunnel_hello_t *h);
static ngx_uint_t ngx_tunnel_sniff_repeated(uint64_t *low, uint16_t *high,
    ngx_uint_t *nhigh, ngx_uint_t type);
static ngx_int_t ngx_tunnel_sniff_server_name(ngx_tunnel_sniff_t *sn,
    ngx_tunnel_hello_t *h);
static ngx_int_t ngx_tunnel_sniff_alpn(ngx_tunnel_sniff_t *sn,
    ngx_tunnel_hello_t *h);
static ngx_int_t ngx_tunnel_sniff_versions(ngx_tunnel_sniff_t *sn,
    ngx_tunnel_hello_t *h);
static ngx_int_t ngx_tunnel_hello_read(ngx_tunnel_hello_t *h, u_char *buf,
    size_t size);
static ngx_int_t ngx_tunnel_hello_number(ngx_tunnel_hello_t *h, size_t size,
    ngx_uint_t *n);
static ngx_int_t ngx_tunnel_hello_vector(ngx_tunnel_hello_t *h, size_t size,
    ngx_tunnel_hello_t *vector);

static ngx_int_t ngx_tunnel_sniff_sslv2(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_ssh(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_socks4(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_socks5(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_proxy(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_rdp(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_postgresql(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_http2(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_http(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static void ngx_tunnel_sniff_uri(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static void ngx_tunnel_sniff_authority(ngx_tunnel_sniff_t *sn, u_char *p,
    size_t len);
static ngx_int_t ngx_tunnel_sniff_head(ngx_tunnel_sniff_t *sn, u_char *p,
    u_char *last);
static const char *ngx_tunnel_sniff_field(u_char *p, u_char *last,
    ngx_str_t *host);


static const struct {
    ngx_tunnel_protocol_e     protocol;
    ngx_tunnel_probe_pt       probe;
} ngx_tunnel_probes[] = {
    { NGX_TUNNEL_TLS, ngx_tunnel_sniff_tls },
    { NGX_TUNNEL_SSLV2, ngx_tunnel_sniff_sslv2 },
    { NGX_TUNNEL_SSH, ngx_tunnel_sniff_ssh },
    { NGX_TUNNEL_SOCKS4, ngx_tunnel_sniff_socks4 },
    { NGX_TUNNEL_SOCKS5, ngx_tunnel_sniff_socks5 },
    { NGX_TUNNEL_PROXY_PROTOCOL, ngx_tunnel_sniff_proxy },
    { NGX_TUNNEL_RDP, ngx_tunnel_sniff_rdp },
    { NGX_TUNNEL_POSTGRESQL, ngx_tunnel_sniff_postgresql },
    { NGX_TUNNEL_HTTP2, ngx_tunnel_sniff_http2 },
    { NGX_TUNNEL_HTTP, ngx_tunnel_sniff_http }
};


static const ngx_str_t  ngx_tunnel_protocols[] = {
    ngx_string("unknown"),
    ngx_string("timeout"),
    ngx_string("tls"),
    ngx_string("sslv2"),
    ngx_string("http"),
    ngx_string("http2"),
    ngx_string("ssh"),
    ngx_string("socks4"),
    ngx_string("socks5"),
    ngx_string("proxy_protocol"),
    ngx_string("rdp"),
    ngx_string("postgresql")
};


const ngx_str_t *
ngx_tunnel_protocol(ngx_tunnel_protocol_e protocol)
{
    return &ngx_tunnel_protocols[protocol];
}


u_char *
ngx_tunnel_alert(u_char *buf, ngx_uint_t description)
{
    /* ContentType, ProtocolVersion, length; AlertLevel, AlertDescription */

    static const u_char  alert[NGX_TUNNEL_ALERT_LEN] = { 21, 3, 3, 0, 2, 2 };

    ngx_memcpy(buf, alert, NGX_TUNNEL_ALERT_LEN);
    buf[NGX_TUNNEL_ALERT_LEN - 1] = description;

    return buf;
}


ngx_int_t
ngx_tunnel_sniff(ngx_tunnel_sniff_t *sn, u_char *data, size_t len,
    ngx_uint_t last)
{
    ngx_int_t   rc;
    ngx_uint_t  i;

    ngx_tunnel_sniff_init(sn);

    if (len == 0) {
        sn->protocol = NGX_TUNNEL_TIMEOUT;
        return last ? NGX_OK : NGX_AGAIN;
    }

    for (i = 0; i < sizeof(ngx_tunnel_probes) / sizeof(ngx_tunnel_probes[0]);
         i++)
    {
        rc = ngx_tunnel_probes[i].probe(sn, data, len);

        if (rc == NGX_AGAIN && !last) {
            return NGX_AGAIN;
        }

        if (rc == NGX_AGAIN && sn->method_len) {

            /* a request line is enough, though not to say whom it names */

            sn->kind = NGX_TUNNEL_HOST_NONE;
            ngx_str_null(&sn->host);
            rc = NGX_OK;
        }

        if (rc == NGX_OK) {
            sn->protocol = ngx_tunnel_probes[i].protocol;
            return NGX_OK;
        }
    }

    return NGX_OK;
}


static void
ngx_tunnel_sniff_init(ngx_tunnel_sniff_t *sn)
{
    sn->protocol = NGX_TUNNEL_UNKNOWN;
    sn->kind = NGX_TUNNEL_HOST_NONE;
    ngx_str_null(&sn->host);
    sn->method_len = 0;
    sn->alpn_len = 0;
    sn->tls_version = 0;
    sn->tls_min_version = 0;
    sn->ech = 0;
    sn->error = NULL;
}


static ngx_int_t
ngx_tunnel_sniff_prefix(u_char *p, size_t len, const char *prefix,
    size_t size)
{
    if (ngx_memcmp(p, prefix, ngx_min(len, size)) != 0) {
        return NGX_DECLINED;
    }

    return (len < size) ? NGX_AGAIN : NGX_OK;
}


/* a host without a port */

static void
ngx_tunnel_sniff_host(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    const char  *err;

    err = ngx_tunnel_target_set(&sn->name, p, len, 0);

    if (err) {
        ngx_tunnel_sniff_invalid(sn, err);
        return;
    }

    sn->kind = (sn->name.family == AF_UNSPEC) ? NGX_TUNNEL_HOST_NAME
                                              : NGX_TUNNEL_HOST_ADDRESS;
    sn->host = sn->name.host;
}


static void
ngx_tunnel_sniff_invalid(ngx_tunnel_sniff_t *sn, const char *error)
{
    sn->kind = NGX_TUNNEL_HOST_INVALID;
    ngx_str_null(&sn->host);
    sn->error = error;
}


ngx_int_t
ngx_tunnel_sniff_tls(ngx_tunnel_sniff_t *sn, u_char *data, size_t len)
{
    ngx_int_t           rc;
    const char         *error;
    ngx_tunnel_hello_t  h;

    ngx_tunnel_sniff_init(sn);

    error = NULL;

    rc = ngx_tunnel_sniff_records(data, len, &h, &error);

    if (rc == NGX_OK && ngx_tunnel_sniff_hello(sn, &h) != NGX_OK) {

        /* nothing of it is to be relied on */

        error = sn->error ? sn->error : "its lengths do not add up";
        rc = NGX_DECLINED;
    }

    if (rc == NGX_OK) {
        sn->protocol = NGX_TUNNEL_TLS;
        return NGX_OK;
    }

    ngx_tunnel_sniff_init(sn);
    sn->error = error;

    return rc;
}


/* whether a whole ClientHello is there; h is the message without its header */

static ngx_int_t
ngx_tunnel_sniff_records(u_char *p, size_t len, ngx_tunnel_hello_t *h,
    const char **error)
{
    size_t      record, have, head;
    u_char     *pos, *last, type[4];
    ngx_uint_t  n;

    pos = p;
    last = p + len;

    head = 0;
    have = 0;
    n = 0;

    while (p < last) {

        /* ContentType, ProtocolVersion, length */

        if (p[0] != 22
            || (last - p > 1 && p[1] != 3)
            || (last - p > 2 && p[2] > 4))
        {
            *error = have ? "another record is in the midst of it" : NULL;
            return NGX_DECLINED;
        }

        if (last - p < NGX_TUNNEL_RECORD_HEADER) {
            return NGX_AGAIN;
        }

        record = (p[3] << 8) + p[4];
        p += NGX_TUNNEL_RECORD_HEADER;

        if (record == 0 || record > NGX_TUNNEL_RECORD_LEN) {
            *error = "a record's length is not from 1 to 16384";
            return NGX_DECLINED;
        }

        /* HandshakeType, length */

        for (n = 0; head < 4 && n < record && p + n < last; n++) {
            type[head++] = p[n];
        }

        if (head && type[0] != 1) {
            return NGX_DECLINED;
        }

        have += ngx_min(record, (size_t) (last - p));

        if (head == 4
            && have - 4 >= (((size_t) type[1] << 16) + (type[2] << 8)
                            + type[3]))
        {
            h->pos = pos;
            h->record = 0;
            h->left = 4 + (type[1] << 16) + (type[2] << 8) + type[3];

            return ngx_tunnel_hello_read(h, NULL, 4);
        }

        if (record > (size_t) (last - p)) {
            return NGX_AGAIN;
        }

        p += record;
    }

    return NGX_AGAIN;
}


/* RFC 8446 4.1.2 */

static ngx_int_t
ngx_tunnel_sniff_hello(ngx_tunnel_sniff_t *sn, ngx_tunnel_hello_t *h)
{
    ngx_uint_t          version;
    ngx_tunnel_hello_t  session, ciphers, compression, extensions;

    /*
     * legacy_version, random, legacy_session_id, cipher_suites,
     * legacy_compression_methods, extensions
     */

    if (ngx_tunnel_hello_number(h, 2, &version) != NGX_OK
        || ngx_tunnel_hello_read(h, NULL, 32) != NGX_OK
        || ngx_tunnel_hello_vector(h, 1, &session) != NGX_OK
        || ngx_tunnel_hello_vector(h, 2, &ciphers) != NGX_OK
        || ngx_tunnel_hello_vector(h, 1, &compression) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (version >> 8 != 3) {
        sn->error = "its version is not 3.x";
        return NGX_ERROR;
    }

    if (session.left > 32 || ciphers.left < 2 || ciphers.left % 2
        || compression.left == 0)
    {
        return NGX_ERROR;
    }

    sn->tls_version = ngx_min(version, 0x0303);

    if (h->left == 0) {
        return NGX_OK;
    }

    if (ngx_tunnel_hello_vector(h, 2, &extensions) != NGX_OK || h->left) {
        return NGX_ERROR;
    }

    return ngx_tunnel_sniff_extensions(sn, &extensions);
}


static ngx_int_t
ngx_tunnel_sniff_extensions(ngx_tunnel_sniff_t *sn, ngx_tunnel_hello_t *h)
{
    uint16_t            high[NGX_TUNNEL_HELLO_EXTENSIONS];
    uint64_t            low;
    ngx_int_t           rc;
    ngx_uint_t          n, nhigh, type;
    ngx_tunnel_hello_t  extension;

    low = 0;
    nhigh = 0;

    for (n = 0; h->left; n++) {

        if (n == NGX_TUNNEL_HELLO_EXTENSIONS) {
            sn->error = "it has too many extensions";
            return NGX_ERROR;
        }

        if (ngx_tunnel_hello_number(h, 2, &type) != NGX_OK
            || ngx_tunnel_hello_vector(h, 2, &extension) != NGX_OK)
        {
            return NGX_ERROR;
        }

        /* a server could go by the one, and we by the other */

        if (ngx_tunnel_sniff_repeated(&low, high, &nhigh, type)) {
            sn->error = "it has an extension twice";
            return NGX_ERROR;
        }

        switch (type) {

        case 0:
            rc = ngx_tunnel_sniff_server_name(sn, &extension);
            break;

        case 16:
            rc = ngx_tunnel_sniff_alpn(sn, &extension);
            break;

        case 43:
            rc = ngx_tunnel_sniff_versions(sn, &extension);
            break;

        case 0xfe0d:
            sn->ech = 1;

            /* fall through */

        default:
            rc = NGX_OK;
        }

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_tunnel_sniff_repeated(uint64_t *low, uint16_t *high, ngx_uint_t *nhigh,
    ngx_uint_t type)
{
    uint64_t    bit;
    ngx_uint_t  i;

    if (type < 64) {
        bit = (uint64_t) 1 << type;

        if (*low & bit) {
            return 1;
        }

        *low |= bit;
        return 0;
    }

    for (i = 0; i < *nhigh; i++) {
        if (high[i] == type) {
            return 1;
        }
    }

    high[(*nhigh)++] = type;

    return 0;
}


/* RFC 6066 3 */

static ngx_int_t
ngx_tunnel_sniff_server_name(ngx_tunnel_sniff_t *sn, ngx_tunnel_hello_t *h)
{
    size_t              len;
    u_char              name[NGX_TUNNEL_HOST_LEN + 1];
    ngx_uint_t          n, type;
    ngx_tunnel_hello_t  list, entry;

    if (ngx_tunnel_hello_vector(h, 2, &list) != NGX_OK || h->left) {
        return NGX_ERROR;
    }

    len = 0;

    for (n = 0; list.left; n++) {

        if (ngx_tunnel_hello_number(&list, 1, &type) != NGX_OK) {
            return NGX_ERROR;
        }

        if (type != 0) {
            ngx_tunnel_sniff_invalid(sn, "its server_name has no known type");
            return NGX_OK;
        }

        if (ngx_tunnel_hello_vector(&list, 2, &entry) != NGX_OK) {
            return NGX_ERROR;
        }

        len = entry.left;

        if (len <= sizeof(name)) {
            (void) ngx_tunnel_hello_read(&entry, name, len);
        }
    }

    if (n == 0) {
        return NGX_ERROR;
    }

    if (n > 1) {
        ngx_tunnel_sniff_invalid(sn, "it has more than one server_name");

    } else if (len > sizeof(name)) {
        ngx_tunnel_sniff_invalid(sn, "its server_name is too long");

    } else {
        ngx_tunnel_sniff_host(sn, name, len);
    }

    return NGX_OK;
}


/* RFC 7301 3.1; bytes as in RFC 7639 2.2 */

static ngx_int_t
ngx_tunnel_sniff_alpn(ngx_tunnel_sniff_t *sn, ngx_tunnel_hello_t *h)
{
    u_char              *p, *last, name[255];
    size_t               i, len;
    ngx_tunnel_hello_t   list, entry;

    static const u_char  hex[] = "0123456789ABCDEF";

    if (ngx_tunnel_hello_vector(h, 2, &list) != NGX_OK || h->left
        || list.left == 0)
    {
        return NGX_ERROR;
    }

    last = sn->alpn + NGX_TUNNEL_ALPN_LEN;

    while (list.left) {

        if (ngx_tunnel_hello_vector(&list, 1, &entry) != NGX_OK
            || entry.left == 0)
        {
            return NGX_ERROR;
        }

        len = entry.left;
        (void) ngx_tunnel_hello_read(&entry, name, len);

        p = sn->alpn + sn->alpn_len;

        if (sn->alpn_len && p < last) {
            *p++ = ',';
        }

        for (i = 0; i < len; i++) {

            if (p == last) {
                break;
            }

            if (name[i] > ' ' && name[i] < 0x7f && name[i] != ','
                && name[i] != '%')
            {
                *p++ = name[i];
                continue;
            }

            if (last - p < 3) {
                break;
            }

            *p++ = '%';
            *p++ = hex[name[i] >> 4];
            *p++ = hex[name[i] & 0xf];
        }

        if (i == len) {
            sn->alpn_len = p - sn->alpn;
        }
    }

    return NGX_OK;
}


/* RFC 8446 4.2.1 */

static ngx_int_t
ngx_tunnel_sniff_versions(ngx_tunnel_sniff_t *sn, ngx_tunnel_hello_t *h)
{
    ngx_uint_t          version;
    ngx_tunnel_hello_t  list;

    if (ngx_tunnel_hello_vector(h, 1, &list) != NGX_OK || h->left
        || list.left == 0 || list.left % 2)
    {
        return NGX_ERROR;
    }

    sn->tls_version = 0;

    while (list.left) {

        if (ngx_tunnel_hello_number(&list, 2, &version) != NGX_OK) {
            return NGX_ERROR;
        }

        if (version < 0x0300 || version > 0x0304) {
            continue;
        }

        if (version > sn->tls_version) {
            sn->tls_version = version;
        }

        if (sn->tls_min_version == 0 || version < sn->tls_min_version) {
            sn->tls_min_version = version;
        }
    }

    return NGX_OK;
}


/* the next bytes of a message; buf may be NULL */

static ngx_int_t
ngx_tunnel_hello_read(ngx_tunnel_hello_t *h, u_char *buf, size_t size)
{
    size_t  n;

    if (size > h->left) {
        return NGX_ERROR;
    }

    h->left -= size;

    while (size) {

        if (h->record == 0) {
            h->record = (h->pos[3] << 8) + h->pos[4];
            h->pos += NGX_TUNNEL_RECORD_HEADER;
        }

        n = ngx_min(size, h->record);

        if (buf) {
            buf = ngx_cpymem(buf, h->pos, n);
        }

        h->pos += n;
        h->record -= n;
        size -= n;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_tunnel_hello_number(ngx_tunnel_hello_t *h, size_t size, ngx_uint_t *n)
{
    u_char  buf[2];

    if (ngx_tunnel_hello_read(h, buf, size) != NGX_OK) {
        return NGX_ERROR;
    }

    *n = (size == 1) ? buf[0] : (buf[0] << 8) + buf[1];

    return NGX_OK;
}


/* the bytes behind a length of so many bytes */

static ngx_int_t
ngx_tunnel_hello_vector(ngx_tunnel_hello_t *h, size_t size,
    ngx_tunnel_hello_t *vector)
{
    ngx_uint_t  len;

    if (ngx_tunnel_hello_number(h, size, &len) != NGX_OK) {
        return NGX_ERROR;
    }

    *vector = *h;
    vector->left = len;

    return ngx_tunnel_hello_read(h, NULL, len);
}


/* the hello of SSLv2, RFC 5246 E.2, which names no server */

static ngx_int_t
ngx_tunnel_sniff_sslv2(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    ngx_uint_t  ciphers, session, challenge;

    /* msg_length, msg_type, version */

    if (!(p[0] & 0x80)
        || (len > 2 && p[2] != 1)
        || (len > 3 && p[3] != 0 && p[3] != 3)
        || (len > 4 && (p[3] ? p[4] > 4 : p[4] != 2)))
    {
        return NGX_DECLINED;
    }

    if (len < 11) {
        return NGX_AGAIN;
    }

    /* cipher_spec_length, session_id_length, challenge_length */

    ciphers = (p[5] << 8) + p[6];
    session = (p[7] << 8) + p[8];
    challenge = (p[9] << 8) + p[10];

    if (ciphers == 0 || ciphers % 3
        || (session != 0 && session != 16)
        || challenge < 16 || challenge > 32
        || 9 + ciphers + session + challenge
           != (ngx_uint_t) ((p[0] & 0x7f) << 8) + p[1])
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* RFC 4253 4.2 */

static ngx_int_t
ngx_tunnel_sniff_ssh(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    return ngx_tunnel_sniff_prefix(p, len, "SSH-", 4);
}


static ngx_int_t
ngx_tunnel_sniff_socks4(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    /* VN, CD */

    if (p[0] != 4) {
        return NGX_DECLINED;
    }

    if (len < 2) {
        return NGX_AGAIN;
    }

    return (p[1] == 1 || p[1] == 2) ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_tunnel_sniff_socks5(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    /* VER, NMETHODS, RFC 1928 3 */

    if (p[0] != 5) {
        return NGX_DECLINED;
    }

    if (len < 2) {
        return NGX_AGAIN;
    }

    return p[1] ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_tunnel_sniff_proxy(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    ngx_int_t    rc;
    ngx_uint_t   i;

    static const ngx_str_t  prefixes[] = {
        ngx_string("PROXY TCP4 "),
        ngx_string("PROXY TCP6 "),
        ngx_string("PROXY UNKNOWN"),
        ngx_string("\r\n\r\n\0\r\nQUIT\n"),
        ngx_null_string
    };

    for (i = 0; prefixes[i].len; i++) {

        rc = ngx_tunnel_sniff_prefix(p, len, (char *) prefixes[i].data,
                                     prefixes[i].len);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_tunnel_sniff_rdp(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    size_t  size;

    /*
     * TPKT: version, reserved, length; X.224: length, CR, DST-REF, SRC-REF,
     * class; MS-RDPBCGR 2.2.1.1
     */

    if (p[0] != 3 || (len > 1 && p[1] != 0)) {
        return NGX_DECLINED;
    }

    if (len < 6) {
        return NGX_AGAIN;
    }

    size = (p[2] << 8) + p[3];

    return (p[5] == 0xe0 && p[4] >= 6 && (size_t) p[4] + 5 == size)
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_tunnel_sniff_postgresql(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    ngx_uint_t  size, code;

    /* length, which a server limits to 10000, and version or request code */

    if (p[0] != 0 || (len > 1 && p[1] != 0)) {
        return NGX_DECLINED;
    }

    if (len < 8) {
        return NGX_AGAIN;
    }

    size = (p[2] << 8) + p[3];
    code = ((ngx_uint_t) p[4] << 24) + (p[5] << 16) + (p[6] << 8) + p[7];

    if (size > 10000) {
        return NGX_DECLINED;
    }

    switch (code) {

    case 80877102:                           /* CancelRequest */
        return (size >= 16) ? NGX_OK : NGX_DECLINED;

    case 80877103:                           /* SSLRequest */
    case 80877104:                           /* GSSENCRequest */
        return (size == 8) ? NGX_OK : NGX_DECLINED;

    default:                                 /* StartupMessage */
        return (code >> 16 == 3 && size > 8) ? NGX_OK : NGX_DECLINED;
    }
}


/* RFC 9113 3.4 */

static ngx_int_t
ngx_tunnel_sniff_http2(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    static const char  preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    return ngx_tunnel_sniff_prefix(p, len, preface, sizeof(preface) - 1);
}


/* RFC 9112 3 */

static ngx_int_t
ngx_tunnel_sniff_http(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    u_char     *last, *uri, *end;
    ngx_int_t   rc;
    size_t      method;

    last = p + len;
    end = p;

    while (end < last && ((*end >= 'A' && *end <= 'Z') || *end == '-'
                          || *end == '_'))
    {
        end++;
    }

    method = end - p;

    if (method > NGX_TUNNEL_METHOD_LEN) {
        return NGX_DECLINED;
    }

    if (end == last) {
        return NGX_AGAIN;
    }

    if (method == 0 || *end != ' ') {
        return NGX_DECLINED;
    }

    uri = ++end;

    while (end < last && *end > ' ' && *end != 0x7f) {
        end++;
    }

    if (end == last) {
        return NGX_AGAIN;
    }

    if (end == uri || *end != ' ') {
        return NGX_DECLINED;
    }

    rc = ngx_tunnel_sniff_prefix(end + 1, last - end - 1, "HTTP/1.", 7);

    if (rc != NGX_OK) {
        return rc;
    }

    len = end - uri;
    end += sizeof(" HTTP/1.") - 1;

    /* a digit, and the end of the line */

    if (end == last) {
        return NGX_AGAIN;
    }

    if (*end < '0' || *end > '9') {
        return NGX_DECLINED;
    }

    end++;

    if (end < last && *end == '\r') {
        end++;
    }

    if (end == last) {
        return NGX_AGAIN;
    }

    if (*end != '\n') {
        return NGX_DECLINED;
    }

    ngx_memcpy(sn->method, p, method);
    sn->method_len = method;

    if (method == 7 && ngx_memcmp(p, "CONNECT", 7) == 0) {
        ngx_tunnel_sniff_authority(sn, uri, len);
        return NGX_OK;
    }

    if (uri[0] != '/' && !(len == 1 && uri[0] == '*')) {
        ngx_tunnel_sniff_uri(sn, uri, len);

        if (sn->kind == NGX_TUNNEL_HOST_INVALID) {
            return NGX_OK;
        }
    }

    return ngx_tunnel_sniff_head(sn, end + 1, last);
}


/* the absolute form of a request target, RFC 9112 3.2.2 */

static void
ngx_tunnel_sniff_uri(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    u_char  *last, *scheme, *host;

    last = p + len;
    scheme = p;

    while (p < last && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
                        || (p > scheme && ((*p >= '0' && *p <= '9')
                                           || *p == '+' || *p == '-'
                                           || *p == '.'))))
    {
        p++;
    }

    if (p == scheme || last - p < 3
        || p[0] != ':' || p[1] != '/' || p[2] != '/')
    {
        ngx_tunnel_sniff_invalid(sn, "the request target is malformed");
        return;
    }

    host = p + 3;

    for (p = host; p < last && *p != '/' && *p != '?' && *p != '#'; p++) {
        /* void */
    }

    ngx_tunnel_sniff_authority(sn, host, p - host);
}


/* a host that may have a port; RFC 3986 3.2.2 */

static void
ngx_tunnel_sniff_authority(ngx_tunnel_sniff_t *sn, u_char *p, size_t len)
{
    u_char  *last, *end, *port;

    last = p + len;
    end = last;

    for (port = last; port > p; port--) {

        if (port[-1] == ':') {
            end = port - 1;
            break;
        }

        if (port[-1] < '0' || port[-1] > '9') {
            break;
        }
    }

    /* a colon that is not a port's would be one of an IPv6 address */

    if (end > p && end[-1] != ']' && ngx_strlchr(p, end, ':')) {
        ngx_tunnel_sniff_invalid(sn, "the host or port is malformed");
        return;
    }

    ngx_tunnel_sniff_host(sn, p, end - p);
}


/*
 * The fields up to the empty line, of which one may be Host; see RFC 9112 3.2
 * for two of them, and 5 for what a server may take otherwise than another.
 * Not all servers prefer the host of an absolute target, so it is to be the
 * same (RFC 9112 3.2.2), unless it is empty.
 */

static ngx_int_t
ngx_tunnel_sniff_head(ngx_tunnel_sniff_t *sn, u_char *p, u_char *last)
{
    u_char      *end, absolute[NGX_TUNNEL_TARGET_LEN];
    size_t       len;
    ngx_str_t    host, value;
    ngx_uint_t   n;
    const char  *error;

    n = 0;

    ngx_str_null(&host);

    for ( ;; ) {

        end = ngx_strlchr(p, last, '\n');

        if (end == NULL) {
            return NGX_AGAIN;
        }

        if (end == p || (end == p + 1 && *p == '\r')) {
            break;
        }

        error = ngx_tunnel_sniff_field(p, (end[-1] == '\r') ? end - 1 : end,
                                       &value);

        if (error == NULL && value.data && n++) {
            error = "there is more than one Host";
        }

        if (error) {
            ngx_tunnel_sniff_invalid(sn, error);
            return NGX_OK;
        }

        if (value.data) {
            host = value;
        }

        p = end + 1;
    }

    if (host.len == 0) {
        return NGX_OK;
    }

    len = sn->host.len;

    if (len) {
        ngx_memcpy(absolute, sn->host.data, len);
    }

    ngx_tunnel_sniff_authority(sn, host.data, host.len);

    if (len && sn->kind != NGX_TUNNEL_HOST_INVALID
        && (len != sn->host.len || ngx_memcmp(absolute, sn->host.data, len)))
    {
        ngx_tunnel_sniff_invalid(sn, "Host is not that of the request target");
    }

    return NGX_OK;
}


/* NULL, or what is wrong with a line; host is null if it is not that field */

static const char *
ngx_tunnel_sniff_field(u_char *p, u_char *last, ngx_str_t *host)
{
    u_char  *name, ch;
    size_t   len;

    static const u_char  token[] = "!#$%&'*+-.^_`|~";

    ngx_str_null(host);

    for (name = p; p < last && *p != ':'; p++) {

        ch = *p | 0x20;

        if ((ch < 'a' || ch > 'z') && (*p < '0' || *p > '9')
            && ngx_strlchr((u_char *) token,
                           (u_char *) token + sizeof(token) - 1, *p) == NULL)
        {
            return "a field name is malformed";
        }
    }

    len = p - name;

    if (p == last || len == 0) {
        return "a field has no name";
    }

    for (p++; p < last && (*p == ' ' || *p == '\t'); p++) { /* void */ }

    while (last > p && (last[-1] == ' ' || last[-1] == '\t')) {
        last--;
    }

    if (len == 4 && ngx_strncasecmp(name, (u_char *) "Host", 4) == 0) {
        host->data = p;
        host->len = last - p;
    }

    for ( /* void */ ; p < last; p++) {
        if (*p == '\r' || *p == '\0') {
            return "a field value is malformed";
        }
    }

    return NULL;
}
