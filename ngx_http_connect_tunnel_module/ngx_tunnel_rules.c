
/*
 * Rules: what may be reached.
 */


#include "ngx_tunnel_rules.h"
#include "ngx_tunnel_conf.h"

#include <ifaddrs.h>


typedef struct ngx_tunnel_pattern_s  ngx_tunnel_pattern_t;

struct ngx_tunnel_pattern_s {
    ngx_tunnel_pattern_t  *next;         /* of the same host */
    in_port_t              first;        /* ports, both included */
    in_port_t              last;
    ngx_str_t              text;         /* directive and argument */
#if (NGX_PCRE)
    ngx_regex_t           *regex;        /* or NULL */
#endif
};


/* patterns of one host, or of all hosts below a domain: ".example.org" */

typedef struct {
    ngx_str_node_t         sn;
    ngx_tunnel_pattern_t  *patterns;
} ngx_tunnel_host_node_t;


/*
 * Patterns of a host are found by the host and by each domain that it is in,
 * so a list of thousands costs no more than a short one.
 */

struct ngx_tunnel_patterns_s {
    ngx_rbtree_t           hosts;        /* of ngx_tunnel_host_node_t */
    ngx_rbtree_node_t      sentinel;
    ngx_tunnel_pattern_t  *any;          /* "*" and regexes */
};


typedef enum {
    NGX_TUNNEL_CIDR_BLOCK = 0,
    NGX_TUNNEL_CIDR_PRIVATE,
    NGX_TUNNEL_CIDR_UNIX,
    NGX_TUNNEL_CIDR_ALL
} ngx_tunnel_cidr_e;


typedef struct {
    ngx_tunnel_cidr_e      type;
    ngx_cidr_t             cidr;
    ngx_str_t              text;
} ngx_tunnel_cidr_t;


typedef struct {
    u_char                 addr[16];
    ngx_uint_t             bits;
    ngx_str_t              text;
} ngx_tunnel_special_t;


/* an address in the forms that rules may name it by */

typedef struct {
    ngx_uint_t             n;            /* 1 or 2 */
    struct {
        int                family;       /* AF_INET, AF_INET6 */
        u_char             addr[16];
    } form[2];
} ngx_tunnel_forms_t;


static char *ngx_tunnel_rules_pattern(ngx_conf_t *cf, ngx_str_t *value,
    ngx_tunnel_patterns_t *ps, ngx_tunnel_pattern_t *pattern);
static ngx_int_t ngx_tunnel_rules_add(ngx_conf_t *cf,
    ngx_tunnel_patterns_t *ps, ngx_str_t *host, ngx_uint_t domain,
    ngx_tunnel_pattern_t *pattern);
static char *ngx_tunnel_rules_ports(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *ports, ngx_tunnel_pattern_t *pattern);
static char *ngx_tunnel_rules_regex(ngx_conf_t *cf, ngx_str_t *value,
    ngx_tunnel_pattern_t *pattern);
static void ngx_tunnel_rules_unmap(ngx_cidr_t *cidr);
static ngx_int_t ngx_tunnel_rules_text(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *value, ngx_str_t *text);
static ngx_tunnel_pattern_t *ngx_tunnel_rules_match(ngx_tunnel_patterns_t *ps,
    ngx_tunnel_target_t *t, ngx_uint_t failed, ngx_log_t *log);
static ngx_tunnel_pattern_t *ngx_tunnel_rules_match_host(
    ngx_tunnel_patterns_t *ps, u_char *data, size_t len, in_port_t port);
static ngx_tunnel_pattern_t *ngx_tunnel_rules_match_port(
    ngx_tunnel_pattern_t *pattern, in_port_t port);
static ngx_uint_t ngx_tunnel_rules_is_own(ngx_array_t *own,
    struct sockaddr *sa, ngx_tunnel_forms_t *f);
static void ngx_tunnel_rules_forms(struct sockaddr *sa, ngx_tunnel_forms_t *f);
static ngx_int_t ngx_tunnel_rules_check_unix(ngx_tunnel_rules_t *rules,
    ngx_uint_t trusted, ngx_str_t *what);
static ngx_tunnel_cidr_t *ngx_tunnel_rules_match_unix(ngx_array_t *cidrs);
static ngx_tunnel_cidr_t *ngx_tunnel_rules_match_address(ngx_array_t *cidrs,
    ngx_tunnel_forms_t *f, ngx_uint_t every);
static const ngx_tunnel_special_t *ngx_tunnel_rules_special(
    ngx_tunnel_forms_t *f);
static ngx_uint_t ngx_tunnel_rules_bits(const u_char *a, const u_char *b,
    ngx_uint_t bits);
static ngx_int_t ngx_tunnel_rules_add_own(ngx_array_t *own,
    struct sockaddr *sa, in_port_t port);


/*
 * The special-purpose registries (RFC 6890 and the IANA registries that it
 * set up) and multicast: where a proxy must not take a stranger.
 */

static const ngx_tunnel_special_t  ngx_tunnel_special4[] = {
    { { 0 }, 8, ngx_string("0.0.0.0/8") },
    { { 10 }, 8, ngx_string("10.0.0.0/8") },
    { { 100, 64 }, 10, ngx_string("100.64.0.0/10") },
    { { 127 }, 8, ngx_string("127.0.0.0/8") },
    { { 169, 254 }, 16, ngx_string("169.254.0.0/16") },
    { { 172, 16 }, 12, ngx_string("172.16.0.0/12") },
    { { 192, 0, 0 }, 24, ngx_string("192.0.0.0/24") },
    { { 192, 0, 2 }, 24, ngx_string("192.0.2.0/24") },
    { { 192, 88, 99 }, 24, ngx_string("192.88.99.0/24") },
    { { 192, 168 }, 16, ngx_string("192.168.0.0/16") },
    { { 198, 18 }, 15, ngx_string("198.18.0.0/15") },
    { { 198, 51, 100 }, 24, ngx_string("198.51.100.0/24") },
    { { 203, 0, 113 }, 24, ngx_string("203.0.113.0/24") },
    { { 224 }, 4, ngx_string("224.0.0.0/4") },
    { { 240 }, 4, ngx_string("240.0.0.0/4") },
    { { 0 }, 0, ngx_null_string }
};


static const ngx_tunnel_special_t  ngx_tunnel_special6[] = {
    { { 0 }, 127, ngx_string("::/127") },
    { { 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01 }, 48,
      ngx_string("64:ff9b:1::/48") },
    { { 0x01 }, 64, ngx_string("100::/64") },
    { { 0x01, 0, 0, 0, 0, 0, 0, 0x01 }, 64, ngx_string("100:0:0:1::/64") },
    { { 0x20, 0x01, 0x00, 0x01 }, 32, ngx_string("2001:1::/32") },
    { { 0x20, 0x01, 0x00, 0x02 }, 48, ngx_string("2001:2::/48") },
    { { 0x20, 0x01, 0x00, 0x10 }, 28, ngx_string("2001:10::/28") },
    { { 0x20, 0x01, 0x00, 0x20 }, 28, ngx_string("2001:20::/28") },
    { { 0x20, 0x01, 0x00, 0x30 }, 28, ngx_string("2001:30::/28") },
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32, ngx_string("2001:db8::/32") },

    /* the rest of 2001::/23, but for Teredo */

    { { 0x20, 0x01, 0x00, 0x02 }, 31, ngx_string("2001::/23") },
    { { 0x20, 0x01, 0x00, 0x04 }, 30, ngx_string("2001::/23") },
    { { 0x20, 0x01, 0x00, 0x08 }, 29, ngx_string("2001::/23") },
    { { 0x20, 0x01, 0x00, 0x20 }, 27, ngx_string("2001::/23") },
    { { 0x20, 0x01, 0x00, 0x40 }, 26, ngx_string("2001::/23") },
    { { 0x20, 0x01, 0x00, 0x80 }, 25, ngx_string("2001::/23") },
    { { 0x20, 0x01, 0x01, 0x00 }, 24, ngx_string("2001::/23") },

    { { 0x3f, 0xff }, 20, ngx_string("3fff::/20") },
    { { 0x5f }, 16, ngx_string("5f00::/16") },
    { { 0xfc }, 7, ngx_string("fc00::/7") },
    { { 0xfe, 0x80 }, 10, ngx_string("fe80::/10") },
    { { 0xfe, 0xc0 }, 10, ngx_string("fec0::/10") },
    { { 0xff }, 8, ngx_string("ff00::/8") },
    { { 0 }, 0, ngx_null_string }
};


void
ngx_tunnel_rules_create(ngx_tunnel_rules_t *rules)
{
    rules->allow = NGX_CONF_UNSET_PTR;
    rules->deny = NGX_CONF_UNSET_PTR;
    rules->allow_address = NGX_CONF_UNSET_PTR;
    rules->deny_address = NGX_CONF_UNSET_PTR;
    rules->dry_run = NGX_CONF_UNSET;
}


void
ngx_tunnel_rules_merge(ngx_tunnel_rules_t *rules, ngx_tunnel_rules_t *prev)
{
    ngx_conf_merge_ptr_value(rules->allow, prev->allow, NULL);
    ngx_conf_merge_ptr_value(rules->deny, prev->deny, NULL);
    ngx_conf_merge_ptr_value(rules->allow_address, prev->allow_address, NULL);
    ngx_conf_merge_ptr_value(rules->deny_address, prev->deny_address, NULL);
    ngx_conf_merge_value(rules->dry_run, prev->dry_run, 0);
}


char *
ngx_tunnel_rules_pattern_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char                    *rv;
    ngx_str_t               *value;
    ngx_uint_t               i;
    ngx_tunnel_pattern_t    *pattern;
    ngx_tunnel_patterns_t  **ps;

    ps = (ngx_tunnel_patterns_t **) (p + cmd->offset);

    if (*ps == NGX_CONF_UNSET_PTR) {
        *ps = ngx_palloc(cf->pool, sizeof(ngx_tunnel_patterns_t));
        if (*ps == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_rbtree_init(&(*ps)->hosts, &(*ps)->sentinel,
                        ngx_str_rbtree_insert_value);
        (*ps)->any = NULL;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        pattern = ngx_pcalloc(cf->pool, sizeof(ngx_tunnel_pattern_t));
        if (pattern == NULL) {
            return NGX_CONF_ERROR;
        }

        if (ngx_tunnel_rules_text(cf, cmd, &value[i], &pattern->text)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        rv = ngx_tunnel_rules_pattern(cf, &value[i], *ps, pattern);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_tunnel_rules_pattern(ngx_conf_t *cf, ngx_str_t *value,
    ngx_tunnel_patterns_t *ps, ngx_tunnel_pattern_t *pattern)
{
    u_char               *port, *last;
    ngx_str_t             host, ports;
    ngx_uint_t            domain, apex;
    const char           *err;
    ngx_tunnel_target_t   t;

    if (value->len && value->data[0] == '~') {

        if (ngx_tunnel_rules_regex(cf, value, pattern) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        pattern->first = 0;
        pattern->last = 65535;

        pattern->next = ps->any;
        ps->any = pattern;

        return NGX_CONF_OK;
    }

    last = value->data + value->len;

    for (port = last; port > value->data && port[-1] != ':'; port--) {
        /* void */
    }

    /* it is behind the last colon now, or at the start */

    if (port <= value->data + 1 || port[-2] == ':' || last[-1] == ']') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid target pattern \"%V\", it must be "
                           "\"host:port\", \"*.domain:port\", "
                           "\".domain:port\", \"*:port\", \"~regex\", "
                           "or \"~*regex\"", value);
        return NGX_CONF_ERROR;
    }

    host.data = value->data;
    host.len = port - 1 - value->data;
    ports.data = port;
    ports.len = last - ports.data;

    if (ngx_tunnel_rules_ports(cf, value, &ports, pattern) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (host.len == 1 && host.data[0] == '*') {
        pattern->next = ps->any;
        ps->any = pattern;

        return NGX_CONF_OK;
    }

    /* as in server_name: "*.domain" is below it, ".domain" is it as well */

    domain = 0;
    apex = 1;

    if (host.len > 2 && host.data[0] == '*' && host.data[1] == '.') {
        domain = 1;
        apex = 0;
        host.data += 2;
        host.len -= 2;

    } else if (host.len > 1 && host.data[0] == '.') {
        domain = 1;
        host.data++;
        host.len--;
    }

    err = ngx_tunnel_target_parse_host(&t, host.data, host.len);

    if (err == NULL && domain && t.family != AF_UNSPEC) {
        err = "an address has no subdomains";
    }

    if (err) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid host in target pattern \"%V\": %s",
                           value, err);
        return NGX_CONF_ERROR;
    }

    if (apex && ngx_tunnel_rules_add(cf, ps, &t.host, 0, pattern) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (domain && ngx_tunnel_rules_add(cf, ps, &t.host, 1, pattern) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* adds a copy of the pattern for a host, or for all below it */

static ngx_int_t
ngx_tunnel_rules_add(ngx_conf_t *cf, ngx_tunnel_patterns_t *ps,
    ngx_str_t *host, ngx_uint_t domain, ngx_tunnel_pattern_t *pattern)
{
    uint32_t                 hash;
    ngx_str_t                name;
    ngx_tunnel_pattern_t    *copy;
    ngx_tunnel_host_node_t  *node;

    copy = ngx_palloc(cf->pool, sizeof(ngx_tunnel_pattern_t));
    if (copy == NULL) {
        return NGX_ERROR;
    }

    name.len = domain + host->len;
    name.data = ngx_pnalloc(cf->pool, name.len);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    name.data[0] = '.';
    ngx_memcpy(name.data + domain, host->data, host->len);

    hash = ngx_crc32_short(name.data, name.len);

    node = (ngx_tunnel_host_node_t *)
               ngx_str_rbtree_lookup(&ps->hosts, &name, hash);

    if (node == NULL) {
        node = ngx_palloc(cf->pool, sizeof(ngx_tunnel_host_node_t));
        if (node == NULL) {
            return NGX_ERROR;
        }

        node->sn.node.key = hash;
        node->sn.str = name;
        node->patterns = NULL;

        ngx_rbtree_insert(&ps->hosts, &node->sn.node);
    }

    *copy = *pattern;
    copy->next = node->patterns;
    node->patterns = copy;

    return NGX_OK;
}


static char *
ngx_tunnel_rules_ports(ngx_conf_t *cf, ngx_str_t *value, ngx_str_t *ports,
    ngx_tunnel_pattern_t *pattern)
{
    u_char      *dash, *last;
    ngx_uint_t   first, end;

    if (ports->len == 1 && ports->data[0] == '*') {
        pattern->first = 0;
        pattern->last = 65535;
        return NGX_CONF_OK;
    }

    last = ports->data + ports->len;
    dash = ngx_strlchr(ports->data, last, '-');

    if (dash == NULL) {
        first = ngx_tunnel_target_parse_port(ports->data, ports->len);
        end = first;

    } else {
        first = ngx_tunnel_target_parse_port(ports->data, dash - ports->data);
        end = ngx_tunnel_target_parse_port(dash + 1, last - dash - 1);
    }

    if (first == 0 || end < first) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid port \"%V\" in target pattern \"%V\", "
                           "it must be a number from 1 to 65535, "
                           "a range \"first-last\", or \"*\"",
                           ports, value);
        return NGX_CONF_ERROR;
    }

    pattern->first = (in_port_t) first;
    pattern->last = (in_port_t) end;

    return NGX_CONF_OK;
}


static char *
ngx_tunnel_rules_regex(ngx_conf_t *cf, ngx_str_t *value,
    ngx_tunnel_pattern_t *pattern)
{
#if (NGX_PCRE)

    u_char  *p;

    pattern->regex = ngx_tunnel_conf_regex(cf, value, "target pattern");

    if (pattern->regex == NULL) {
        return NGX_CONF_ERROR;
    }

    p = value->data + 1;

    if (*p == '*') {
        p++;
    }

    if (*p != '^') {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "target pattern \"%V\" has no leading \"^\" and "
                           "matches more hosts than those it names", value);
    }

    return NGX_CONF_OK;

#else

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "target pattern \"%V\" requires PCRE library", value);
    return NGX_CONF_ERROR;

#endif
}


char *
ngx_tunnel_rules_address_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_int_t            rc;
    ngx_str_t           *value, text;
    ngx_uint_t           i;
    ngx_array_t        **a;
    ngx_tunnel_cidr_t   *cidr;

    a = (ngx_array_t **) (p + cmd->offset);

    if (*a == NGX_CONF_UNSET_PTR) {
        *a = ngx_array_create(cf->pool, 4, sizeof(ngx_tunnel_cidr_t));
        if (*a == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        cidr = ngx_array_push(*a);
        if (cidr == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(cidr, sizeof(ngx_tunnel_cidr_t));

        if (ngx_tunnel_rules_text(cf, cmd, &value[i], &cidr->text) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        if (ngx_strcmp(value[i].data, "all") == 0) {
            cidr->type = NGX_TUNNEL_CIDR_ALL;
            continue;
        }

        if (ngx_strcmp(value[i].data, "private") == 0) {
            cidr->type = NGX_TUNNEL_CIDR_PRIVATE;
            continue;
        }

        if (ngx_strcmp(value[i].data, "unix:") == 0) {
            cidr->type = NGX_TUNNEL_CIDR_UNIX;
            continue;
        }

        text = value[i];
        rc = ngx_ptocidr(&text, &cidr->cidr);

        if (rc == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid address \"%V\", it must be "
                               "an address, a CIDR block, \"private\", "
                               "\"unix:\", or \"all\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DONE) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "low address bits of %V are meaningless",
                               &value[i]);
        }

        ngx_tunnel_rules_unmap(&cidr->cidr);
    }

    return NGX_CONF_OK;
}


/* a block of IPv4-mapped addresses is one of IPv4 addresses */

static void
ngx_tunnel_rules_unmap(ngx_cidr_t *cidr)
{
    u_char     *addr, *mask;
    in_addr_t   in[2];

    if (cidr->family != AF_INET6
        || !IN6_IS_ADDR_V4MAPPED(&cidr->u.in6.addr))
    {
        return;
    }

    addr = cidr->u.in6.addr.s6_addr;
    mask = cidr->u.in6.mask.s6_addr;

    if (mask[11] != 0xff) {
        return;
    }

    ngx_memcpy(&in[0], addr + 12, 4);
    ngx_memcpy(&in[1], mask + 12, 4);

    cidr->family = AF_INET;
    cidr->u.in.addr = in[0];
    cidr->u.in.mask = in[1];
}


/* a rule is named in messages as it stands in the configuration */

static ngx_int_t
ngx_tunnel_rules_text(ngx_conf_t *cf, ngx_command_t *cmd, ngx_str_t *value,
    ngx_str_t *text)
{
    text->data = ngx_pnalloc(cf->pool, cmd->name.len + 1 + value->len);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    text->len = ngx_sprintf(text->data, "%V %V", &cmd->name, value)
                - text->data;

    return NGX_OK;
}


ngx_int_t
ngx_tunnel_rules_check_target(ngx_tunnel_rules_t *rules,
    ngx_tunnel_target_t *t, ngx_uint_t trusted, ngx_log_t *log,
    ngx_str_t *what)
{
    ngx_int_t              rc;
    ngx_tunnel_pattern_t  *pattern;

    rc = NGX_OK;

    if (rules->deny) {
        pattern = ngx_tunnel_rules_match(rules->deny, t, 1, log);

        if (pattern) {
            *what = pattern->text;

            if (!rules->dry_run) {
                return NGX_DECLINED;
            }

            /* a rule that is only tried does not open what is closed */

            rc = NGX_DECLINED;
        }
    }

    if (rules->allow) {

        if (rc == NGX_OK
            && ngx_tunnel_rules_match(rules->allow, t, 0, log) == NULL)
        {
            ngx_str_set(what, "not in target_allow");
            return NGX_DECLINED;
        }

        return rc;
    }

    if (!trusted && t->port != 443) {
        ngx_str_set(what, "default target_allow *:443");
        return NGX_ABORT;
    }

    return rc;
}


/* failed: whether a regex that cannot be run is taken to match */

static ngx_tunnel_pattern_t *
ngx_tunnel_rules_match(ngx_tunnel_patterns_t *ps, ngx_tunnel_target_t *t,
    ngx_uint_t failed, ngx_log_t *log)
{
    size_t                 i;
    ngx_tunnel_pattern_t  *p;

    p = ngx_tunnel_rules_match_host(ps, t->host.data, t->host.len, t->port);

    if (p) {
        return p;
    }

    for (i = 1; i < t->host.len; i++) {

        if (t->host.data[i] != '.') {
            continue;
        }

        p = ngx_tunnel_rules_match_host(ps, &t->host.data[i], t->host.len - i,
                                        t->port);
        if (p) {
            return p;
        }
    }

    for (p = ngx_tunnel_rules_match_port(ps->any, t->port);
         p;
         p = ngx_tunnel_rules_match_port(p->next, t->port))
    {

#if (NGX_PCRE)

        if (p->regex) {
            ngx_int_t  n;

            n = ngx_regex_exec(p->regex, &t->text, NULL, 0);

            if (n == NGX_REGEX_NO_MATCHED) {
                continue;
            }

            if (n < 0) {
                ngx_log_error(NGX_LOG_ERR, log, 0,
                              ngx_regex_exec_n " failed: %i on \"%V\" "
                              "using \"%V\"", n, &t->text, &p->text);

                if (failed) {
                    return p;
                }

                continue;
            }
        }

#endif

        return p;
    }

    return NULL;
}


static ngx_tunnel_pattern_t *
ngx_tunnel_rules_match_host(ngx_tunnel_patterns_t *ps, u_char *data,
    size_t len, in_port_t port)
{
    ngx_str_t                name;
    ngx_tunnel_host_node_t  *node;

    name.data = data;
    name.len = len;

    node = (ngx_tunnel_host_node_t *)
               ngx_str_rbtree_lookup(&ps->hosts, &name,
                                     ngx_crc32_short(data, len));

    return node ? ngx_tunnel_rules_match_port(node->patterns, port) : NULL;
}


static ngx_tunnel_pattern_t *
ngx_tunnel_rules_match_port(ngx_tunnel_pattern_t *p, in_port_t port)
{
    for ( /* void */ ; p; p = p->next) {

        if (port >= p->first && port <= p->last) {
            return p;
        }
    }

    return NULL;
}


/*
 * A block that is denied wins over one that is allowed; "target_deny_address
 * all" and the default come last, so that an allowed block opens them.
 */

ngx_int_t
ngx_tunnel_rules_check_address(ngx_tunnel_rules_t *rules, struct sockaddr *sa,
    ngx_uint_t trusted, ngx_array_t *own, ngx_str_t *what)
{
    ngx_int_t                    rc;
    ngx_tunnel_cidr_t           *allowed, *denied;
    ngx_tunnel_forms_t           f;
    struct sockaddr_in           sin;
    const ngx_tunnel_special_t  *special;

    if (sa->sa_family == AF_UNIX) {
        return ngx_tunnel_rules_check_unix(rules, trusted, what);
    }

    sa = ngx_tunnel_unmapped(sa, &sin);

    ngx_tunnel_rules_forms(sa, &f);

    denied = rules->deny_address
             ? ngx_tunnel_rules_match_address(rules->deny_address, &f, 0)
             : NULL;

    allowed = rules->allow_address
              ? ngx_tunnel_rules_match_address(rules->allow_address, &f, 1)
              : NULL;

    if (denied && (denied->type != NGX_TUNNEL_CIDR_ALL || allowed == NULL)) {

        *what = denied->text;

        if (!rules->dry_run) {
            return NGX_DECLINED;
        }

        /* a rule that is only tried does not open what is closed */

        rc = NGX_DECLINED;

    } else {
        rc = NGX_OK;
    }

    if (allowed || trusted) {
        return rc;
    }

    special = ngx_tunnel_rules_special(&f);

    if (special) {
        *what = special->text;
        return NGX_ABORT;
    }

    if (own && ngx_tunnel_rules_is_own(own, sa, &f)) {
        ngx_str_set(what, "own listening address");
        return NGX_ABORT;
    }

    return rc;
}


/* all sockets of the UNIX domain are alike */

static ngx_int_t
ngx_tunnel_rules_check_unix(ngx_tunnel_rules_t *rules, ngx_uint_t trusted,
    ngx_str_t *what)
{
    ngx_int_t           rc;
    ngx_tunnel_cidr_t  *denied;

    rc = NGX_OK;
    denied = ngx_tunnel_rules_match_unix(rules->deny_address);

    if (denied) {
        *what = denied->text;
        rc = NGX_DECLINED;

        if (!rules->dry_run) {
            return rc;
        }
    }

    if (trusted || ngx_tunnel_rules_match_unix(rules->allow_address)) {
        return rc;
    }

    ngx_str_set(what, "UNIX-domain socket");

    return NGX_ABORT;
}


static ngx_tunnel_cidr_t *
ngx_tunnel_rules_match_unix(ngx_array_t *cidrs)
{
    ngx_uint_t          i;
    ngx_tunnel_cidr_t  *cidr;

    if (cidrs == NULL) {
        return NULL;
    }

    cidr = cidrs->elts;

    for (i = 0; i < cidrs->nelts; i++) {
        if (cidr[i].type == NGX_TUNNEL_CIDR_UNIX) {
            return &cidr[i];
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_tunnel_rules_is_own(ngx_array_t *own, struct sockaddr *sa,
    ngx_tunnel_forms_t *f)
{
    ngx_uint_t           i, embedded;
    ngx_addr_t          *addr;
    struct sockaddr_in   sin;

    ngx_memzero(&sin, sizeof(struct sockaddr_in));
    sin.sin_family = AF_INET;

    embedded = (f->n == 2 && f->form[1].family == AF_INET);

    if (embedded) {
        ngx_memcpy(&sin.sin_addr.s_addr, f->form[1].addr, 4);
        ngx_inet_set_port((struct sockaddr *) &sin, ngx_inet_get_port(sa));
    }

    addr = own->elts;

    for (i = 0; i < own->nelts; i++) {

        if (ngx_cmp_sockaddr(sa, addr[i].socklen,
                             addr[i].sockaddr, addr[i].socklen, 1)
            == NGX_OK)
        {
            return 1;
        }

        if (embedded
            && ngx_cmp_sockaddr((struct sockaddr *) &sin, sizeof(sin),
                                addr[i].sockaddr, addr[i].socklen, 1)
               == NGX_OK)
        {
            return 1;
        }
    }

    return 0;
}


/*
 * IPv4 addresses hide in IPv6 ones: compatible (RFC 4291 2.5.5.1, without ::
 * and ::1), translated (RFC 2765 2.1), NAT64 (RFC 6052 2.1), 6to4 (RFC 3056
 * 2), Teredo (RFC 4380 4).  And an unspecified address may be a loopback one.
 */

static void
ngx_tunnel_rules_forms(struct sockaddr *sa, ngx_tunnel_forms_t *f)
{
    u_char      *p;
    ngx_uint_t   i;

    static const u_char  compatible[16] = { 0 };
    static const u_char  translated[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0xff,
                                            0xff };
    static const u_char  nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
    static const u_char  loopback[4] = { 127, 0, 0, 1 };

    if (sa->sa_family == AF_INET) {
        f->n = 1;
        f->form[0].family = AF_INET;
        ngx_memcpy(f->form[0].addr,
                   &((struct sockaddr_in *) sa)->sin_addr.s_addr, 4);

        if (ngx_memcmp(f->form[0].addr, compatible, 4) == 0) {

            /* Linux takes the unspecified address for the loopback one */

            f->n = 2;
            f->form[1].family = AF_INET;
            ngx_memcpy(f->form[1].addr, loopback, 4);
        }

        return;
    }

    p = ((struct sockaddr_in6 *) sa)->sin6_addr.s6_addr;

    f->n = 2;
    f->form[0].family = AF_INET6;
    ngx_memcpy(f->form[0].addr, p, 16);
    f->form[1].family = AF_INET;

    if (ngx_memcmp(p, compatible, 16) == 0) {
        f->form[1].family = AF_INET6;
        ngx_memzero(f->form[1].addr, 16);
        f->form[1].addr[15] = 1;

    } else if ((ngx_memcmp(p, compatible, 12) == 0
                && !ngx_tunnel_rules_bits(p, compatible, 127))
               || ngx_memcmp(p, translated, 12) == 0
               || ngx_memcmp(p, nat64, 12) == 0)
    {
        ngx_memcpy(f->form[1].addr, p + 12, 4);

    } else if (p[0] == 0x20 && p[1] == 0x02) {
        ngx_memcpy(f->form[1].addr, p + 2, 4);

    } else if (p[0] == 0x20 && p[1] == 0x01 && p[2] == 0 && p[3] == 0) {

        /* the client's address stands inverted at the end */

        for (i = 0; i < 4; i++) {
            f->form[1].addr[i] = p[12 + i] ^ 0xff;
        }

    } else {
        f->n = 1;
    }
}


/* finds a block that holds any form of an address, or its every form */

static ngx_tunnel_cidr_t *
ngx_tunnel_rules_match_address(ngx_array_t *cidrs, ngx_tunnel_forms_t *f,
    ngx_uint_t every)
{
    u_char             *addr, *net, *mask;
    ngx_uint_t          i, k, n, len, matched;
    ngx_tunnel_cidr_t  *cidr, *all, *found;

    cidr = cidrs->elts;
    all = NULL;
    found = NULL;
    matched = 0;

    for (k = 0; k < f->n; k++) {
        addr = f->form[k].addr;

        for (i = 0; i < cidrs->nelts; i++) {

            if (cidr[i].type == NGX_TUNNEL_CIDR_ALL) {
                all = &cidr[i];
                continue;
            }

            if (cidr[i].type == NGX_TUNNEL_CIDR_PRIVATE) {

                if (ngx_tunnel_rules_special(f)) {
                    return &cidr[i];
                }

                continue;
            }

            if (cidr[i].type == NGX_TUNNEL_CIDR_UNIX) {
                continue;
            }

            if (cidr[i].cidr.family != (ngx_uint_t) f->form[k].family) {
                continue;
            }

            if (f->form[k].family == AF_INET) {
                net = (u_char *) &cidr[i].cidr.u.in.addr;
                mask = (u_char *) &cidr[i].cidr.u.in.mask;
                len = 4;

            } else {
                net = cidr[i].cidr.u.in6.addr.s6_addr;
                mask = cidr[i].cidr.u.in6.mask.s6_addr;
                len = 16;
            }

            for (n = 0; n < len; n++) {
                if ((addr[n] & mask[n]) != net[n]) {
                    break;
                }
            }

            if (n == len) {
                found = &cidr[i];
                matched++;
                break;
            }
        }
    }

    if (found && (!every || matched == f->n)) {
        return found;
    }

    return all;
}


static const ngx_tunnel_special_t *
ngx_tunnel_rules_special(ngx_tunnel_forms_t *f)
{
    ngx_uint_t                   k;
    const ngx_tunnel_special_t  *s;

    for (k = 0; k < f->n; k++) {

        s = (f->form[k].family == AF_INET) ? ngx_tunnel_special4
                                           : ngx_tunnel_special6;

        for ( /* void */ ; s->text.len; s++) {

            if (ngx_tunnel_rules_bits(f->form[k].addr, s->addr, s->bits)) {
                return s;
            }
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_tunnel_rules_bits(const u_char *a, const u_char *b, ngx_uint_t bits)
{
    ngx_uint_t  n, rest;

    n = bits / 8;
    rest = bits % 8;

    if (ngx_memcmp(a, b, n) != 0) {
        return 0;
    }

    return rest == 0 || ((a[n] ^ b[n]) >> (8 - rest)) == 0;
}


ngx_int_t
ngx_tunnel_rules_allow_target(ngx_tunnel_rules_t *rules,
    ngx_tunnel_target_t *t, ngx_uint_t trusted, ngx_log_t *log,
    ngx_str_t *what)
{
    ngx_int_t  rc;

    rc = ngx_tunnel_rules_check_target(rules, t, trusted, log, what);

    if (rc == NGX_DECLINED && rules->dry_run) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "target \"%V\" would be denied by \"%V\"",
                      &t->text, what);
        return NGX_OK;
    }

    return (rc == NGX_OK) ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_tunnel_rules_allow_address(ngx_tunnel_rules_t *rules, struct sockaddr *sa,
    ngx_str_t *name, ngx_uint_t trusted, ngx_array_t *own, ngx_log_t *log,
    ngx_str_t *what)
{
    ngx_int_t  rc;

    rc = ngx_tunnel_rules_check_address(rules, sa, trusted, own, what);

    if (rc == NGX_DECLINED && rules->dry_run) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "address %V would be denied by \"%V\"", name, what);
        return NGX_OK;
    }

    return (rc == NGX_OK) ? NGX_OK : NGX_DECLINED;
}


ngx_array_t *
ngx_tunnel_rules_own_addresses(ngx_cycle_t *cycle, ngx_pool_t *pool)
{
    in_port_t         port;
    ngx_uint_t        i;
    ngx_array_t      *own;
    ngx_listening_t  *ls;
    struct ifaddrs   *ifs, *ifa;

    own = ngx_array_create(pool, 8, sizeof(ngx_addr_t));
    if (own == NULL) {
        return NULL;
    }

    if (getifaddrs(&ifs) == -1) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, ngx_errno,
                      "getifaddrs() failed");
        ifs = NULL;
    }

    ls = cycle->listening.elts;

    for (i = 0; i < cycle->listening.nelts; i++) {

        if (ls[i].sockaddr->sa_family != AF_INET
            && ls[i].sockaddr->sa_family != AF_INET6)
        {
            continue;
        }

        port = ngx_inet_get_port(ls[i].sockaddr);

        if (!ngx_inet_wildcard(ls[i].sockaddr)) {

            if (ngx_tunnel_rules_add_own(own, ls[i].sockaddr, port)
                != NGX_OK)
            {
                goto failed;
            }

            continue;
        }

        for (ifa = ifs; ifa; ifa = ifa->ifa_next) {

            /* an IPv6 wildcard may take IPv4 as well */

            if (ifa->ifa_addr == NULL
                || (ifa->ifa_addr->sa_family != AF_INET
                    && ifa->ifa_addr->sa_family != AF_INET6))
            {
                continue;
            }

            if (ngx_tunnel_rules_add_own(own, ifa->ifa_addr, port)
                != NGX_OK)
            {
                goto failed;
            }
        }
    }

    if (ifs) {
        freeifaddrs(ifs);
    }

    return own;

failed:

    if (ifs) {
        freeifaddrs(ifs);
    }

    return NULL;
}


static ngx_int_t
ngx_tunnel_rules_add_own(ngx_array_t *own, struct sockaddr *sa, in_port_t port)
{
    ngx_addr_t          *addr;
    struct sockaddr_in   sin;

    addr = ngx_array_push(own);
    if (addr == NULL) {
        return NGX_ERROR;
    }

    sa = ngx_tunnel_unmapped(sa, &sin);

    addr->socklen = (sa->sa_family == AF_INET) ? sizeof(struct sockaddr_in)
                                               : sizeof(struct sockaddr_in6);

    addr->sockaddr = ngx_pcalloc(own->pool, addr->socklen);
    if (addr->sockaddr == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(addr->sockaddr, sa, addr->socklen);
    ngx_inet_set_port(addr->sockaddr, port);

    return NGX_OK;
}
