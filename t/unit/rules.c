
/*
 * Rules: their directives, and what they let pass.
 */


#include "unit.h"


/* the start of the messages' ends */

#define PATTERN_FORM  ", it must be \"host:port\", \"*.domain:port\", "       \
                      "\".domain:port\", \"*:port\", \"~regex\", "            \
                      "or \"~*regex\""
#define PORT_FORM     ", it must be a number from 1 to 65535, "               \
                      "a range \"first-last\", or \"*\""
#define ADDRESS_FORM  ", it must be an address, a CIDR block, \"private\", "  \
                      "\"unix:\", or \"all\""

#define NOT_ALLOWED   "not in target_allow"
#define DEFAULT       "default target_allow *:443"
#define OWN           "own listening address"


static ngx_command_t  unit_allow = {
    ngx_string("target_allow"), 0, ngx_tunnel_rules_pattern_slot, 0,
    offsetof(ngx_tunnel_rules_t, allow), NULL
};

static ngx_command_t  unit_deny = {
    ngx_string("target_deny"), 0, ngx_tunnel_rules_pattern_slot, 0,
    offsetof(ngx_tunnel_rules_t, deny), NULL
};

static ngx_command_t  unit_allow_address = {
    ngx_string("target_allow_address"), 0, ngx_tunnel_rules_address_slot, 0,
    offsetof(ngx_tunnel_rules_t, allow_address), NULL
};

static ngx_command_t  unit_deny_address = {
    ngx_string("target_deny_address"), 0, ngx_tunnel_rules_address_slot, 0,
    offsetof(ngx_tunnel_rules_t, deny_address), NULL
};


static void
unit_set_ok(ngx_tunnel_rules_t *rules, ngx_command_t *cmd, const char *args)
{
    char  *rv;

    if (args) {
        rv = unit_directive(rules, cmd, args);
        unit_check(rv == NGX_CONF_OK, "%s %s: %s",
                   cmd->name.data, args, unit_log);
    }
}


/* of a level that inherits nothing */

static void
unit_rules(ngx_tunnel_rules_t *rules, const char *allow, const char *deny,
    const char *allow_address, const char *deny_address)
{
    ngx_tunnel_rules_t  prev;

    ngx_tunnel_rules_create(rules);
    ngx_tunnel_rules_create(&prev);

    unit_set_ok(rules, &unit_allow, allow);
    unit_set_ok(rules, &unit_deny, deny);
    unit_set_ok(rules, &unit_allow_address, allow_address);
    unit_set_ok(rules, &unit_deny_address, deny_address);

    ngx_tunnel_rules_merge(rules, &prev);
}


/* a name of the rules as they are set, for messages; from a few buffers */

static const char *
unit_name(const char *allow, const char *deny)
{
    static char        buf[4][512];
    static ngx_uint_t  n;

    n = (n + 1) % 4;

    snprintf(buf[n], sizeof(buf[n]), "allow %s, deny %s",
             allow ? allow : "-", deny ? deny : "-");

    return buf[n];
}


/* what has to be returned with a text: one of a rule, or of a default */

static ngx_int_t
unit_denial(ngx_str_t *what)
{
    if (ngx_strncmp(what->data, "target_", 7) == 0
        || unit_is(what, "not in target_allow"))
    {
        return NGX_DECLINED;
    }

    return NGX_ABORT;
}


/* the verdict: NULL if let pass, or what denied it */

static const char *
unit_ask(ngx_tunnel_rules_t *rules, const char *target, ngx_uint_t trusted)
{
    u_char               *p;
    ngx_int_t             rc;
    ngx_str_t             what;
    const char           *err;
    ngx_tunnel_target_t   t;

    /* lets ASan see a regex or a comparison that goes behind the text */

    err = ngx_tunnel_target_parse(&t, (u_char *) target, strlen(target));
    if (err) {
        return err;
    }

    p = malloc(t.text.len);
    memcpy(p, t.text.data, t.text.len);
    t.text.data = p;
    t.host.data = p;

    ngx_str_null(&what);

    rc = ngx_tunnel_rules_check_target(rules, &t, trusted, &unit_errors,
                                       &what);
    free(p);

    if (rc == NGX_OK) {
        return what.len ? "allowed, and yet \"what\" is set" : NULL;
    }

    if (what.len == 0 || rc != unit_denial(&what)) {
        return "neither allowed nor denied";
    }

    return unit_text(what.data, what.len);
}


static ngx_uint_t
unit_same(const char *a, const char *b)
{
    return (a == NULL || b == NULL) ? a == b : strcmp(a, b) == 0;
}


/* patterns */


typedef struct {
    const char  *allow;          /* NULL: not there */
    const char  *deny;
    const char  *target;
    const char  *what;           /* NULL: let pass */
} unit_pattern_t;


static const unit_pattern_t  unit_pattern_cases[] = {

    /* a host */

    { "a.org:443", NULL, "a.org:443", NULL },
    { "a.org:443", NULL, "A.ORG.:443", NULL },
    { "A.Org.:443", NULL, "a.org:443", NULL },
    { "a.org:443", NULL, "a.org:80", NOT_ALLOWED },
    { "a.org:443", NULL, "a.org:4430", NOT_ALLOWED },
    { "a.org:443", NULL, "b.org:443", NOT_ALLOWED },
    { "a.org:443", NULL, "x.a.org:443", NOT_ALLOWED },
    { "a.org:443", NULL, "xa.org:443", NOT_ALLOWED },
    { "a.org:443", NULL, "a.or:443", NOT_ALLOWED },
    { "a.org:443", NULL, "a.org.x:443", NOT_ALLOWED },
    { "a.org:443", NULL, "axorg:443", NOT_ALLOWED },
    { "localhost:443", NULL, "localhost:443", NULL },
    { "1.2.3.4:443", NULL, "1.2.3.4:443", NULL },
    { "1.2.3.4.:443", NULL, "1.2.3.4:443", NULL },
    { "1.2.3.4:443", NULL, "1.2.3.44:443", NOT_ALLOWED },
    { "[::1]:443", NULL, "[::1]:443", NULL },
    { "[0:0::0:1]:443", NULL, "[::1]:443", NULL },
    { "[2001:DB8::A]:443", NULL, "[2001:db8:0::a]:443", NULL },
    { "[::1]:443", NULL, "[::2]:443", NOT_ALLOWED },
    { "[::1]:443", NULL, "[::1]:80", NOT_ALLOWED },
    { "[::1]:*", NULL, "[::1]:80", NULL },
    { "[::1]:80-443", NULL, "[::1]:81", NULL },

    /* a host's subdomains, and not itself */

    { "*.a.org:443", NULL, "x.a.org:443", NULL },
    { "*.a.org:443", NULL, "y.x.a.org:443", NULL },
    { "*.A.ORG.:443", NULL, "X.a.org.:443", NULL },
    { "*.a.org:443", NULL, "a.org:443", NOT_ALLOWED },
    { "*.a.org:443", NULL, "xa.org:443", NOT_ALLOWED },
    { "*.a.org:443", NULL, "x-a.org:443", NOT_ALLOWED },
    { "*.a.org:443", NULL, "a.org.x:443", NOT_ALLOWED },
    { "*.a.org:443", NULL, "x.a.org.evil:443", NOT_ALLOWED },
    { "*.a.org:443", NULL, "x.a.org:80", NOT_ALLOWED },
    { "*.org:443", NULL, "a.org:443", NULL },
    { "*.org:443", NULL, "org:443", NOT_ALLOWED },
    { "*.org:443", NULL, "g:443", NOT_ALLOWED },
    { "*.a.org:443", NULL, "1.2.3.4:443", NOT_ALLOWED },
    { "*.a.org:443", NULL, "[::1]:443", NOT_ALLOWED },

    /* both */

    { ".a.org:443", NULL, "a.org:443", NULL },
    { ".a.org:443", NULL, "x.a.org:443", NULL },
    { ".a.org:443", NULL, "y.x.a.org:443", NULL },
    { ".A.ORG.:443", NULL, "a.org:443", NULL },
    { ".a.org:443", NULL, "xa.org:443", NOT_ALLOWED },
    { ".a.org:443", NULL, "a.org:80", NOT_ALLOWED },
    { ".a.org:443", NULL, "x.a.org:80", NOT_ALLOWED },
    { ".a.org:443", NULL, ".org:443", "the host has an empty label" },
    { ".a.org:443", NULL, "org:443", NOT_ALLOWED },
    { ".a.org:443", NULL, "b.org:443", NOT_ALLOWED },
    { ".a:443", NULL, "a:443", NULL },

    /* any */

    { "*:443", NULL, "a.org:443", NULL },
    { "*:443", NULL, "1.2.3.4:443", NULL },
    { "*:443", NULL, "[::1]:443", NULL },
    { "*:443", NULL, "a.org:444", NOT_ALLOWED },
    { "*:443", NULL, "a.org:442", NOT_ALLOWED },
    { "*:*", NULL, "a.org:1", NULL },
    { "*:*", NULL, "a.org:65535", NULL },

    /* ports */

    { "*:8000-8999", NULL, "a.org:7999", NOT_ALLOWED },
    { "*:8000-8999", NULL, "a.org:8000", NULL },
    { "*:8000-8999", NULL, "a.org:8500", NULL },
    { "*:8000-8999", NULL, "a.org:8999", NULL },
    { "*:8000-8999", NULL, "a.org:9000", NOT_ALLOWED },
    { "*:443-443", NULL, "a.org:443", NULL },
    { "*:443-443", NULL, "a.org:444", NOT_ALLOWED },
    { "*:1-65535", NULL, "a.org:65535", NULL },
    { "*:1-65535", NULL, "a.org:1", NULL },
    { "a.org:*", NULL, "a.org:22", NULL },
    { "a.org:*", NULL, "b.org:22", NOT_ALLOWED },
    { "*.a.org:22-23", NULL, "x.a.org:23", NULL },
    { "*.a.org:22-23", NULL, "x.a.org:24", NOT_ALLOWED },
    { "*:0443", NULL, "a.org:443", NULL },

    /* several */

    { "a.org:443 b.org:80", NULL, "b.org:80", NULL },
    { "a.org:443 b.org:80", NULL, "b.org:443", NOT_ALLOWED },
    { "a.org:443 a.org:80 c:1 d:2 e:3 f:4 g:5", NULL, "g:5", NULL },

    { "a.org:443 a.org:80 a.org:22-25", NULL, "a.org:80", NULL },
    { "a.org:443 a.org:80 a.org:22-25", NULL, "a.org:24", NULL },
    { "a.org:443 a.org:80 a.org:22-25", NULL, "a.org:81", NOT_ALLOWED },
    { ".a.org:443 a.org:80", NULL, "x.a.org:80", NOT_ALLOWED },
    { ".a.org:443 *.a.org:80", NULL, "a.org:80", NOT_ALLOWED },
    { ".a.org:443 *.a.org:80", NULL, "x.a.org:80", NULL },
    { "*.x.a.org:80 *.a.org:443", NULL, "y.x.a.org:443", NULL },
    { "*.x.a.org:80 *.a.org:443", NULL, "y.x.a.org:80", NULL },
    { "*.x.a.org:80 *.a.org:443", NULL, "y.a.org:80", NOT_ALLOWED },

    /* names that have the same CRC32 */

    { "plumless:443", NULL, "buckeroo:443", NOT_ALLOWED },
    { "plumless:443 buckeroo:80", NULL, "buckeroo:443", NOT_ALLOWED },
    { "plumless:443 buckeroo:80", NULL, "buckeroo:80", NULL },
    { "plumless:443 buckeroo:80", NULL, "plumless:443", NULL },

    /* deny wins, wherever it stands and whatever it is */

    { "*:443", "a.org:443", "a.org:443", "target_deny a.org:443" },
    { "*:443", "a.org:443", "b.org:443", NULL },
    { "a.org:443", "*:*", "a.org:443", "target_deny *:*" },
    { "a.org:443", "a.org:443", "a.org:443", "target_deny a.org:443" },
    { "x.a.org:443", ".a.org:*", "x.a.org:443", "target_deny .a.org:*" },
    { "*:443", "b:1 *.a.org:* c:2", "x.a.org:443", "target_deny *.a.org:*" },
    { "*:443", "*.a.org:*", "a.org:443", NULL },
    { "*:443", "A.ORG.:443", "a.org.:443", "target_deny A.ORG.:443" },
    { "*:443", "[0::1]:443", "[::1]:443", "target_deny [0::1]:443" },
    { "*:*", "*:25", "a.org:25", "target_deny *:25" },
    { "*:*", "*:25", "a.org:443", NULL },
    { "a.org:443", "b.org:443", "c.org:443", NOT_ALLOWED },

    /* deny alone leaves the default as it is */

    { NULL, "a.org:443", "a.org:443", "target_deny a.org:443" },
    { NULL, "a.org:443", "b.org:443", NULL },
    { NULL, "a.org:443", "b.org:80", DEFAULT },

    /* the default */

    { NULL, NULL, "a.org:443", NULL },
    { NULL, NULL, "1.2.3.4:443", NULL },
    { NULL, NULL, "[::1]:443", NULL },
    { NULL, NULL, "a.org:442", DEFAULT },
    { NULL, NULL, "a.org:444", DEFAULT },
    { NULL, NULL, "a.org:80", DEFAULT },
    { NULL, NULL, "a.org:22", DEFAULT },
    { NULL, NULL, "a.org:1", DEFAULT },
    { NULL, NULL, "a.org:65535", DEFAULT }
};


void
unit_rules_patterns(void)
{
    ngx_uint_t             i, trusted;
    const char            *what, *expected;
    ngx_tunnel_rules_t     rules;
    const unit_pattern_t  *c;

    for (i = 0; i < unit_nelts(unit_pattern_cases); i++) {
        c = &unit_pattern_cases[i];

        unit_rules(&rules, c->allow, c->deny, NULL, NULL);

        for (trusted = 0; trusted < 2; trusted++) {

            expected = c->what;

            /* of what the configuration names, the default asks nothing */

            if (trusted && unit_same(expected, DEFAULT)) {
                expected = NULL;
            }

            what = unit_ask(&rules, c->target, trusted);

            unit_check(unit_same(what, expected),
                       "%s: %s%s: \"%s\" instead of \"%s\"",
                       unit_name(c->allow, c->deny), c->target,
                       trusted ? ", trusted" : "", what ? what : "allowed",
                       expected ? expected : "allowed");
        }

        unit_check(unit_log_level == 0, "%s: %s",
                   unit_name(c->allow, c->deny), unit_log);
        unit_log_clear();
    }

    /* rules that are only tried take nothing from the default */

    unit_rules(&rules, NULL, "*:25", NULL, NULL);
    rules.dry_run = 1;

    unit_check(unit_same(unit_ask(&rules, "a.org:25", 0), DEFAULT),
               "dry run, by default");
    unit_check(unit_same(unit_ask(&rules, "a.org:25", 1), "target_deny *:25"),
               "dry run, trusted");
    unit_check(unit_ask(&rules, "a.org:443", 0) == NULL, "dry run, allowed");

    unit_rules(&rules, "*:25", "a.org:25", NULL, NULL);
    rules.dry_run = 1;

    unit_check(unit_same(unit_ask(&rules, "a.org:25", 0),
                         "target_deny a.org:25"), "dry run, by a pattern");
}


/* many random patterns, against a search through all of them */

#define UNIT_LISTS  300


static size_t
unit_random_name(char *p)
{
    char       *start;
    ngx_uint_t  n;

    static const char *const  labels[] = { "a", "b", "c", "aa", "ab", "x" };

    start = p;

    for (n = 1 + unit_random() % 4; n; n--) {
        p += sprintf(p, "%s%s", labels[unit_random() % unit_nelts(labels)],
                     n > 1 ? "." : "");
    }

    return p - start;
}


void
unit_rules_pattern_lists(void)
{
    char                 *p, *list, target[64];
    size_t                len;
    ngx_uint_t            i, j, k, n, port, expected, counts[2], wrong;
    const char           *what;
    ngx_tunnel_rules_t    rules;

    struct {
        ngx_uint_t        kind, first, last;
        char              name[40];
    } patterns[200], *pt;

    list = malloc(200 * 64);
    memset(counts, 0, sizeof(counts));

    for (i = 0, wrong = 0; i < UNIT_LISTS; i++) {

        ngx_reset_pool(unit_pool);

        n = 1 + unit_random() % (i % 3 ? 10 : 200);

        for (p = list, k = 0; k < n; k++) {
            pt = &patterns[k];

            pt->kind = unit_random() % 3;
            pt->first = 1 + unit_random() % 3;
            pt->last = pt->first + unit_random() % 2;
            unit_random_name(pt->name);

            p += sprintf(p, "%s%s:%lu-%lu ",
                         pt->kind == 0 ? "" : pt->kind == 1 ? "." : "*.",
                         pt->name, pt->first, pt->last);
        }

        unit_rules(&rules, list, NULL, NULL, NULL);

        for (j = 0; j < 200; j++) {

            len = unit_random_name(target);
            port = 1 + unit_random() % 4;

            for (expected = 0, k = 0; k < n && !expected; k++) {
                pt = &patterns[k];

                if (port < pt->first || port > pt->last) {
                    continue;
                }

                p = target + len - ngx_min(len, strlen(pt->name));

                if (strcmp(p, pt->name) != 0) {
                    continue;
                }

                expected = (p == target) ? pt->kind != 2
                                         : pt->kind != 0 && p[-1] == '.';
            }

            sprintf(target + len, ":%lu", port);
            what = unit_ask(&rules, target, 0);
            counts[expected]++;

            if ((what == NULL) != expected) {
                wrong++;
                unit_check(0, "%s: \"%s\", allow %.400s", target,
                           what ? what : "allowed", list);
            }
        }
    }

    free(list);

    unit_check(wrong == 0, "%lu targets", wrong);
    unit_check(counts[0] > 2000 && counts[1] > 2000, "%lu denied, %lu allowed",
               counts[0], counts[1]);
}


typedef struct {
    ngx_command_t  *cmd;
    const char     *args;
    ngx_uint_t      level;       /* 0: no message */
    const char     *message;
} unit_conf_t;


static void
unit_conf_cases(const unit_conf_t *c, ngx_uint_t n)
{
    char                *rv;
    ngx_tunnel_rules_t   rules;

    for ( /* void */ ; n; c++, n--) {

        unit_log_clear();
        ngx_tunnel_rules_create(&rules);

        rv = unit_directive(&rules, c->cmd, c->args);

        unit_check(rv == (c->level == NGX_LOG_EMERG ? NGX_CONF_ERROR
                                                    : NGX_CONF_OK),
                   "%s %s: returned %s", c->cmd->name.data, c->args,
                   rv == NGX_CONF_OK ? "NGX_CONF_OK"
                   : rv == NGX_CONF_ERROR ? "NGX_CONF_ERROR" : rv);

        unit_check(unit_log_level == c->level,
                   "%s %s: level %lu instead of %lu: %s", c->cmd->name.data,
                   c->args, unit_log_level, c->level, unit_log);

        unit_check(strcmp(unit_log, c->message) == 0,
                   "%s %s: \"%s\" instead of \"%s\"", c->cmd->name.data,
                   c->args, unit_log, c->message);
    }
}


#define pattern_error(arg)                                                    \
    { &unit_allow, arg, NGX_LOG_EMERG,                                        \
      "invalid target pattern \"" arg "\"" PATTERN_FORM }
#define port_error(host, port)                                                \
    { &unit_allow, host ":" port, NGX_LOG_EMERG,                              \
      "invalid port \"" port "\" in target pattern \"" host ":" port "\""     \
      PORT_FORM }
#define host_error(arg, err)                                                  \
    { &unit_allow, arg, NGX_LOG_EMERG,                                        \
      "invalid host in target pattern \"" arg "\": " err }


static const unit_conf_t  unit_pattern_error_cases[] = {
    { &unit_allow, "''", NGX_LOG_EMERG,
      "invalid target pattern \"\"" PATTERN_FORM },
    pattern_error("a.org"),
    pattern_error("*"),
    pattern_error("."),
    pattern_error("443"),
    pattern_error(":"),
    pattern_error(":443"),
    pattern_error("::443"),
    pattern_error("a::443"),
    pattern_error("[::1]"),
    pattern_error("[2001:db8::1]"),
    pattern_error("all"),

    port_error("a.org", ""),
    port_error("a.org", "0"),
    port_error("a.org", "65536"),
    port_error("a.org", "65979"),
    port_error("a.org", "+443"),
    port_error("a.org", "0x1bb"),
    port_error("a.org", "https"),
    port_error("a.org", "**"),
    port_error("a.org", "44*"),
    port_error("a.org", "-"),
    port_error("a.org", "-443"),
    port_error("a.org", "443-"),
    port_error("a.org", "444-443"),
    port_error("a.org", "0-443"),
    port_error("a.org", "443-65536"),
    port_error("a.org", "1-2-3"),
    port_error("a.org", "1--3"),
    port_error("a.org", "*-443"),
    port_error("a.org", "80,443"),
    port_error("*", "0"),
    port_error("*.a.org", "0"),
    port_error("[::1]", "0"),

    host_error("*.:443", "the host has an invalid character"),
    host_error(".:443", "the host is empty"),
    host_error("..:443", "the host is empty"),
    host_error("..a:443", "the host has an empty label"),
    host_error("*..a:443", "the host has an empty label"),
    host_error("a..b:443", "the host has an empty label"),
    host_error("**.a.org:443", "the host has an invalid character"),
    host_error("*a.org:443", "the host has an invalid character"),
    host_error("*.*.org:443", "the host has an invalid character"),
    host_error("x.*.org:443", "the host has an invalid character"),
    host_error("a.*:443", "the host has an invalid character"),
    host_error("^a.org:443", "the host has an invalid character"),
    host_error("a.org$:443", "the host has an invalid character"),
    host_error("http://a.org:443", "an IPv6 address must be in brackets"),
    host_error("//a.org:443", "the host has an invalid character"),
    host_error("u@a.org:443", "the host has an invalid character"),
    host_error("a.org:80:443", "an IPv6 address must be in brackets"),
    host_error("2001:db8::1:443", "an IPv6 address must be in brackets"),
    host_error("[::1:443", "a bracket is not closed"),
    host_error("[]:443", "the IPv6 address is invalid"),
    host_error("[1.2.3.4]:443", "the IPv6 address is invalid"),
    host_error("[fe80::1%eth0]:443", "the IPv6 address is invalid"),
    host_error("10.0.0.0/8:443", "the host has an invalid character"),
    host_error("127.1:443", "an IPv4 address must be four decimal numbers"),
    host_error("*.1:443", "an IPv4 address must be four decimal numbers"),
    host_error("*.2.3.4:443", "an IPv4 address must be four decimal numbers"),
    host_error("*.1.2.3.4:443", "an address has no subdomains"),
    host_error(".1.2.3.4:443", "an address has no subdomains"),
    host_error("*.[::1]:443", "an address has no subdomains"),
    host_error(".[::1]:443", "an address has no subdomains"),
    host_error("abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij"
               "abcd:443", "the host has a label longer than 63 bytes"),

    /* any of several */

    { &unit_allow, "a.org:443 b.org", NGX_LOG_EMERG,
      "invalid target pattern \"b.org\"" PATTERN_FORM },
    { &unit_deny, "a.org:443 b.org c", NGX_LOG_EMERG,
      "invalid target pattern \"b.org\"" PATTERN_FORM },

    /* regexes */

    { &unit_allow, "~", NGX_LOG_EMERG, "empty regex in target pattern \"~\"" },
    { &unit_allow, "~*", NGX_LOG_EMERG,
      "empty regex in target pattern \"~*\"" },
    { &unit_allow, "~^(a", NGX_LOG_EMERG,
      "pcre2_compile() failed: missing closing parenthesis in \"^(a\"" },
    { &unit_allow, "~*^[a", NGX_LOG_EMERG,
      "pcre2_compile() failed: missing terminating ] for character class "
      "in \"^[a\"" },
    { &unit_allow, "~^a)b", NGX_LOG_EMERG,
      "pcre2_compile() failed: unmatched closing parenthesis in \"^a)b\" "
      "at \")b\"" },
    { &unit_allow, "~a\\.org:443$", NGX_LOG_WARN,
      "target pattern \"~a\\.org:443$\" has no leading \"^\" and matches more "
      "hosts than those it names" },
    { &unit_deny, "~*a\\.org:443$", NGX_LOG_WARN,
      "target pattern \"~*a\\.org:443$\" has no leading \"^\" and matches "
      "more hosts than those it names" },
    { &unit_allow, "~^a\\.org:443$", 0, "" },
    { &unit_allow, "~*^a\\.org:443$", 0, "" },
    { &unit_allow, "a:1 *:443 *.a:* [::1]:1-2", 0, "" }
};


void
unit_rules_pattern_errors(void)
{
    unit_conf_cases(unit_pattern_error_cases,
                    unit_nelts(unit_pattern_error_cases));
}


/* any argument is either taken, or refused with a message */

#define UNIT_PATTERNS  20000


void
unit_rules_pattern_mutations(void)
{
    char                 arg[256], *p, *rv;
    size_t               len, at;
    ngx_uint_t           i, n, taken, refused;
    ngx_tunnel_rules_t   rules;

    static const char  alphabet[] = "aA0159.:*-[]~^$()/\\%\x80\x01_x";

    taken = 0;
    refused = 0;

    for (i = 0; i < UNIT_PATTERNS; i++) {

        if (i % 64 == 0) {
            ngx_reset_pool(unit_pool);
        }

        p = arg;
        p += sprintf(p, "%s", unit_pattern_cases[unit_random()
                              % (unit_nelts(unit_pattern_cases) - 20)].allow);
        len = p - arg;

        for (n = unit_random() % 4; n; n--) {
            at = unit_random() % (len + 1);

            if (unit_random() % 2) {
                memmove(arg + at + 1, arg + at, len - at + 1);
                len++;
                arg[at] = 'a';
            }

            if (at < len) {
                arg[at] = alphabet[unit_random() % (sizeof(alphabet) - 1)];
            }
        }

        unit_log_clear();
        ngx_tunnel_rules_create(&rules);

        rv = unit_directive(&rules, &unit_allow, arg);

        if (rv == NGX_CONF_OK) {
            taken++;
            ngx_tunnel_rules_merge(&rules, &rules);
            rules.deny = NULL;
            (void) unit_ask(&rules, "x.a.org:443", 0);
            (void) unit_ask(&rules, "a:8000", 0);
            (void) unit_ask(&rules, "[::1]:443", 0);

        } else {
            refused++;
            unit_check(rv == NGX_CONF_ERROR
                       && unit_log_level == NGX_LOG_EMERG && unit_log[0],
                       "\"%s\": refused without a message", arg);
        }
    }

    unit_check(taken > UNIT_PATTERNS / 10, "%lu taken", taken);
    unit_check(refused > UNIT_PATTERNS / 10, "%lu refused", refused);
}


static const unit_pattern_t  unit_regex_cases[] = {
    { "~^a\\.org:443$", NULL, "a.org:443", NULL },
    { "~^a\\.org:443$", NULL, "A.ORG.:0443", NULL },        /* canonical */
    { "~^a\\.org:443$", NULL, "a.org:4433", NOT_ALLOWED },
    { "~^a\\.org:443$", NULL, "xa.org:443", NOT_ALLOWED },
    { "~^A\\.org:443$", NULL, "a.org:443", NOT_ALLOWED },
    { "~*^A\\.org:443$", NULL, "a.org:443", NULL },
    { "~*(wikipedia|rust-lang)\\.org:443$", NULL, "en.wikipedia.org:443",
      NULL },
    { "~*(wikipedia|rust-lang)\\.org:443$", NULL, "evilwikipedia.org:443",
      NULL },
    { "~*(wikipedia|rust-lang)\\.org:443$", NULL, "wikipedia.org:80",
      NOT_ALLOWED },
    { "~^(?<name>[^.]+)\\.(a)\\.(org|net):(\\d+)$", NULL, "x.a.net:22", NULL },
    { "~^\\[::1\\]:443$", NULL, "[0::1]:443", NULL },
    { "~^\\[::1\\]:443$", NULL, "1.2.3.4:443", NOT_ALLOWED },
    { "~:", NULL, "a:1", NULL },
    { "a:1 ~^b: c:1", NULL, "b:80", NULL },
    { "a:1 ~^b: c:1", NULL, "c:1", NULL },
    { "*:*", "~\\.org:", "a.org:80", "target_deny ~\\.org:" },
    { "*:*", "~*\\.ORG:", "a.org:80", "target_deny ~*\\.ORG:" },
    { "*:*", "~\\.ORG:", "a.org:80", NULL },
    { "~^a:", "a:25", "a:25", "target_deny a:25" },
    { NULL, "~^a:", "a:80", "target_deny ~^a:" },
    { NULL, "~^a:", "b:80", DEFAULT }
};


void
unit_rules_regex(void)
{
    ngx_uint_t             i;
    const char            *what;
    ngx_tunnel_rules_t     rules;
    const unit_pattern_t  *c;

    for (i = 0; i < unit_nelts(unit_regex_cases); i++) {
        c = &unit_regex_cases[i];

        unit_rules(&rules, c->allow, c->deny, NULL, NULL);
        what = unit_ask(&rules, c->target, 0);

        unit_check(unit_same(what, c->what),
                   "%s: %s: \"%s\" instead of \"%s\"",
                   unit_name(c->allow, c->deny), c->target,
                   what ? what : "allowed", c->what ? c->what : "allowed");
    }

    /*
     * A regex that cannot be carried to its end, here since it takes too many
     * steps, answers nothing: it must not let pass what it might deny.
     */

    unit_rules(&rules, "*:*", "~(*LIMIT_MATCH=5)^(a+)+$", NULL, NULL);

    unit_log_clear();
    what = unit_ask(&rules, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:443", 0);

    unit_check(unit_log_level == NGX_LOG_ERR
               && strcmp(unit_log, "pcre2_match() failed: -47 on \""
                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:443\" using \""
                         "target_deny ~(*LIMIT_MATCH=5)^(a+)+$\"") == 0,
               "deny, match limit: log %lu \"%s\"", unit_log_level, unit_log);

    unit_check(what != NULL, "deny, match limit: let pass");

    unit_rules(&rules, "~(*LIMIT_MATCH=5)^(a+)+$", NULL, NULL, NULL);

    unit_log_clear();
    what = unit_ask(&rules, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:443", 0);

    unit_check(unit_log_level == NGX_LOG_ERR, "allow, match limit: no log");
    unit_check(what != NULL, "allow, match limit: let pass");
}


/* addresses */


/* an address of exactly its size; a port may follow a space */

static struct sockaddr *
unit_sockaddr(const char *text, socklen_t *socklen)
{
    char                  addr[64];
    unsigned              port;
    struct sockaddr      *sa;
    struct sockaddr_in    sin;
    struct sockaddr_in6   sin6;

    port = 443;
    sscanf(text, "%63s %u", addr, &port);

    memset(&sin, 0, sizeof(sin));
    memset(&sin6, 0, sizeof(sin6));

    sin.sin_family = AF_INET;
    sin.sin_port = htons(port);
    sin6.sin6_family = AF_INET6;
    sin6.sin6_port = htons(port);

    if (inet_pton(AF_INET, addr, &sin.sin_addr) == 1) {
        *socklen = sizeof(sin);
        sa = malloc(sizeof(sin));
        memcpy(sa, &sin, sizeof(sin));

    } else if (inet_pton(AF_INET6, addr, &sin6.sin6_addr) == 1) {
        *socklen = sizeof(sin6);
        sa = malloc(sizeof(sin6));
        memcpy(sa, &sin6, sizeof(sin6));

    } else {
        printf("not an address: %s\n", text);
        abort();
    }

    return sa;
}


static const char *
unit_ask_sockaddr(ngx_tunnel_rules_t *rules, struct sockaddr *sa,
    ngx_uint_t trusted, ngx_array_t *own)
{
    ngx_int_t  rc;
    ngx_str_t  what;

    ngx_str_null(&what);

    rc = ngx_tunnel_rules_check_address(rules, sa, trusted, own, &what);

    if (rc == NGX_OK) {
        return what.len ? "allowed, and yet \"what\" is set" : NULL;
    }

    if (what.len == 0 || rc != unit_denial(&what)) {
        return "neither allowed nor denied";
    }

    return unit_text(what.data, what.len);
}


static const char *
unit_ask_address(ngx_tunnel_rules_t *rules, const char *address,
    ngx_uint_t trusted, ngx_array_t *own)
{
    socklen_t         socklen;
    const char       *what;
    struct sockaddr  *sa;

    sa = unit_sockaddr(address, &socklen);
    what = unit_ask_sockaddr(rules, sa, trusted, own);
    free(sa);

    return what;
}


typedef struct {
    const char  *allow;
    const char  *deny;
    const char  *address;
    const char  *what;           /* NULL: let pass */
    const char  *trusted;        /* the same for a trusted target */
} unit_address_t;


#define D(text)  "target_deny_address " text


static const unit_address_t  unit_address_cases[] = {

    /* the default */

    { NULL, NULL, "8.8.8.8", NULL, NULL },
    { NULL, NULL, "2001:4860:4860::8888", NULL, NULL },
    { NULL, NULL, "10.0.0.1", "10.0.0.0/8", NULL },
    { NULL, NULL, "::1", "::/127", NULL },

    /* an allowed block opens the default, and closes nothing */

    { "10.0.0.0/8", NULL, "10.0.0.1", NULL, NULL },
    { "10.0.0.0/8", NULL, "10.0.0.0", NULL, NULL },
    { "10.0.0.0/8", NULL, "10.255.255.255", NULL, NULL },
    { "10.0.0.0/8", NULL, "192.168.0.1", "192.168.0.0/16", NULL },
    { "10.0.0.0/8", NULL, "8.8.8.8", NULL, NULL },
    { "10.1.2.3", NULL, "10.1.2.3", NULL, NULL },
    { "10.1.2.3", NULL, "10.1.2.4", "10.0.0.0/8", NULL },
    { "10.1.2.3", NULL, "10.1.2.2", "10.0.0.0/8", NULL },
    { "10.1.2.4/30", NULL, "10.1.2.3", "10.0.0.0/8", NULL },
    { "10.1.2.4/30", NULL, "10.1.2.4", NULL, NULL },
    { "10.1.2.4/30", NULL, "10.1.2.7", NULL, NULL },
    { "10.1.2.4/30", NULL, "10.1.2.8", "10.0.0.0/8", NULL },
    { "::1", NULL, "::1", NULL, NULL },
    { "::1", NULL, "::", "::/127", NULL },
    { "::/0", NULL, "::1", NULL, NULL },
    { "::/0", NULL, "::2", "0.0.0.0/8", NULL },
    { NULL, "0.0.0.0/0", "::1", "::/127", NULL },
    { NULL, "0.0.0.0/8", "::2", D("0.0.0.0/8"), D("0.0.0.0/8") },
    { "fd00::/8", NULL, "fd12::1", NULL, NULL },
    { "fd00::/8", NULL, "fc12::1", "fc00::/7", NULL },
    { "fd00:0:0:1::/65", NULL, "fd00:0:0:1:7fff::1", NULL, NULL },
    { "fd00:0:0:1::/65", NULL, "fd00:0:0:1:8000::", "fc00::/7", NULL },
    { "10.0.0.0/8 fd00::/8 127.0.0.1", NULL, "127.0.0.1", NULL, NULL },
    { "10.0.0.0/8 fd00::/8 127.0.0.1", NULL, "fd00::1", NULL, NULL },
    { "10.0.0.0/8 fd00::/8 127.0.0.1", NULL, "127.0.0.2", "127.0.0.0/8",
      NULL },
    { "0.0.0.0/0", NULL, "127.0.0.1", NULL, NULL },
    { "0.0.0.0/0", NULL, "::1", "::/127", NULL },
    { "::/0", NULL, "fe80::1", NULL, NULL },
    { "::/0", NULL, "127.0.0.1", "127.0.0.0/8", NULL },
    { "private", NULL, "127.0.0.1", NULL, NULL },
    { "private", NULL, "169.254.169.254", NULL, NULL },
    { "private", NULL, "::1", NULL, NULL },
    { "private", NULL, "fe80::1", NULL, NULL },
    { "private", NULL, "8.8.8.8", NULL, NULL },
    { "all", NULL, "127.0.0.1", NULL, NULL },
    { "all", NULL, "::1", NULL, NULL },
    { "all", NULL, "8.8.8.8", NULL, NULL },
    { "all", NULL, "64:ff9b::10.0.0.1", NULL, NULL },

    /* the unspecified address is the loopback one to Linux */

    { "all", NULL, "0.0.0.0", NULL, NULL },
    { "all", NULL, "::", NULL, NULL },
    { "0.0.0.0", NULL, "0.0.0.0", "0.0.0.0/8", NULL },
    { "0.0.0.0 127.0.0.1", NULL, "0.0.0.0", NULL, NULL },
    { "all", "127.0.0.0/8", "0.0.0.0", D("127.0.0.0/8"), D("127.0.0.0/8") },
    { "all", "::1", "::", D("::1"), D("::1") },

    /* a denied block closes */

    { NULL, "8.8.8.0/24", "8.8.8.0", D("8.8.8.0/24"), D("8.8.8.0/24") },
    { NULL, "8.8.8.0/24", "8.8.8.255", D("8.8.8.0/24"), D("8.8.8.0/24") },
    { NULL, "8.8.8.0/24", "8.8.7.255", NULL, NULL },
    { NULL, "8.8.8.0/24", "8.8.9.0", NULL, NULL },
    { NULL, "8.8.8.8", "8.8.8.8", D("8.8.8.8"), D("8.8.8.8") },
    { NULL, "8.8.8.8", "8.8.8.9", NULL, NULL },
    { NULL, "2001:4860::/32", "2001:4860::1", D("2001:4860::/32"),
      D("2001:4860::/32") },
    { NULL, "2001:4860::/32", "2001:4861::1", NULL, NULL },
    { NULL, "2001:4860::/33", "2001:4860:7fff::1", D("2001:4860::/33"),
      D("2001:4860::/33") },
    { NULL, "2001:4860::/33", "2001:4860:8000::1", NULL, NULL },
    { NULL, "9.9.9.9 8.8.8.8 7.7.7.7", "8.8.8.8", D("8.8.8.8"),
      D("8.8.8.8") },
    { NULL, "9.9.9.9 7.7.7.7 6.6.6.6 5.5.5.5", "8.8.8.8", NULL, NULL },
    { NULL, "0.0.0.0/0", "8.8.8.8", D("0.0.0.0/0"), D("0.0.0.0/0") },
    { NULL, "0.0.0.0/0", "2001:4860::1", NULL, NULL },
    { NULL, "::/0", "8.8.8.8", NULL, NULL },
    { NULL, "::/0", "2001:4860::1", D("::/0"), D("::/0") },
    { NULL, "private", "8.8.8.8", NULL, NULL },
    { NULL, "private", "10.0.0.1", D("private"), D("private") },
    { NULL, "private", "::1", D("private"), D("private") },
    { NULL, "all", "8.8.8.8", D("all"), D("all") },
    { NULL, "all", "10.0.0.1", D("all"), D("all") },
    { NULL, "all", "2001:4860::1", D("all"), D("all") },
    { NULL, "all 8.8.8.8", "8.8.8.8", D("8.8.8.8"), D("8.8.8.8") },
    { NULL, "all private", "10.0.0.1", D("private"), D("private") },
    { NULL, "private all", "8.8.8.8", D("all"), D("all") },

    /* a denied block wins over what is allowed */

    { "8.8.8.8", "8.8.8.0/24", "8.8.8.8", D("8.8.8.0/24"), D("8.8.8.0/24") },
    { "8.8.8.0/24", "8.8.8.8", "8.8.8.8", D("8.8.8.8"), D("8.8.8.8") },
    { "8.8.8.0/24", "8.8.8.8", "8.8.8.9", NULL, NULL },
    { "all", "8.8.8.8", "8.8.8.8", D("8.8.8.8"), D("8.8.8.8") },
    { "all", "8.8.8.8", "127.0.0.1", NULL, NULL },
    { "all", "0.0.0.0/0", "8.8.8.8", D("0.0.0.0/0"), D("0.0.0.0/0") },
    { "10.0.0.0/8", "10.1.0.0/16", "10.1.0.1", D("10.1.0.0/16"),
      D("10.1.0.0/16") },
    { "10.0.0.0/8", "10.1.0.0/16", "10.2.0.1", NULL, NULL },
    { "10.0.0.1", "private", "10.0.0.1", D("private"), D("private") },
    { "all", "private", "10.0.0.1", D("private"), D("private") },
    { "all", "private", "8.8.8.8", NULL, NULL },
    { "private", "private", "10.0.0.1", D("private"), D("private") },
    { "private", "10.0.0.0/8", "10.0.0.1", D("10.0.0.0/8"), D("10.0.0.0/8") },
    { "private", "10.0.0.0/8", "127.0.0.1", NULL, NULL },

    /* but what is allowed wins over "all" */

    { "8.8.8.0/24", "all", "8.8.8.8", NULL, NULL },
    { "8.8.8.0/24", "all", "8.8.9.8", D("all"), D("all") },
    { "8.8.8.0/24", "all", "2001:4860::1", D("all"), D("all") },
    { "10.0.0.0/8", "all", "10.0.0.1", NULL, NULL },
    { "private", "all", "10.0.0.1", NULL, NULL },
    { "private", "all", "8.8.8.8", D("all"), D("all") },
    { "all", "all", "8.8.8.8", NULL, NULL },
    { "10.0.0.0/8", "all 10.1.0.0/16", "10.1.0.1", D("10.1.0.0/16"),
      D("10.1.0.0/16") },
    { "10.0.0.0/8", "10.1.0.0/16 all", "10.1.0.1", D("10.1.0.0/16"),
      D("10.1.0.0/16") },
    { "10.0.0.0/8", "10.1.0.0/16 all", "10.2.0.1", NULL, NULL },

    /* a mapped address is the IPv4 address */

    { "10.0.0.0/8", NULL, "::ffff:10.0.0.1", NULL, NULL },
    { "8.8.8.0/24", "all", "::ffff:8.8.8.8", NULL, NULL },
    { NULL, "8.8.8.8", "::ffff:8.8.8.8", D("8.8.8.8"), D("8.8.8.8") },
    { "::/0", NULL, "::ffff:10.0.0.1", "10.0.0.0/8", NULL },
    { NULL, "::/0", "::ffff:8.8.8.8", NULL, NULL },
    { NULL, "all", "::ffff:8.8.8.8", D("all"), D("all") },
    { "private", NULL, "::ffff:10.0.0.1", NULL, NULL },

    /* and so is a mapped block */

    { "::ffff:10.1.0.0/112", NULL, "10.1.0.0", NULL, NULL },
    { "::ffff:10.1.0.0/112", NULL, "10.1.255.255", NULL, NULL },
    { "::ffff:10.1.0.0/112", NULL, "10.2.0.0", "10.0.0.0/8", NULL },
    { "::ffff:10.1.0.0/112", NULL, "10.0.255.255", "10.0.0.0/8", NULL },
    { "::ffff:10.1.0.0/112", NULL, "::ffff:10.1.0.1", NULL, NULL },
    { "::ffff:10.1.0.0/112", NULL, "::10.1.0.1", "10.0.0.0/8", NULL },
    { "::ffff:a01:1", NULL, "10.1.0.1", NULL, NULL },
    { "::ffff:a01:1", NULL, "10.1.0.2", "10.0.0.0/8", NULL },
    { NULL, "::ffff:8.8.8.8", "8.8.8.8", D("::ffff:8.8.8.8"),
      D("::ffff:8.8.8.8") },
    { NULL, "::ffff:8.8.8.8/124", "::ffff:8.8.8.15", D("::ffff:8.8.8.8/124"),
      D("::ffff:8.8.8.8/124") },
    { NULL, "::ffff:8.8.8.8/124", "8.8.8.16", NULL, NULL },
    { NULL, "::ffff:0:0/96", "8.8.8.8", D("::ffff:0:0/96"),
      D("::ffff:0:0/96") },
    { NULL, "::ffff:0:0/96", "2001:4860::1", NULL, NULL },

    /* unless it is larger than that */

    { NULL, "::/90", "8.8.8.8", NULL, NULL },
    { NULL, "::/90", "::8.8.8.8", D("::/90"), D("::/90") },
    { NULL, "::fffe:0:0/95", "8.8.8.8", NULL, NULL },

    /* of two forms, one that is denied is enough */

    { NULL, "8.8.8.8", "64:ff9b::8.8.8.8", D("8.8.8.8"), D("8.8.8.8") },
    { NULL, "64:ff9b::/96", "64:ff9b::8.8.8.8", D("64:ff9b::/96"),
      D("64:ff9b::/96") },
    { "all", "10.0.0.0/8", "2002:a00:1::1", D("10.0.0.0/8"),
      D("10.0.0.0/8") },
    { "all", "2002::/16", "2002:808:808::1", D("2002::/16"), D("2002::/16") },
    { "all", "private", "2002:a00:1::1", D("private"), D("private") },
    { "all", "private", "2002:808:808::1", NULL, NULL },

    /* and both have to be allowed */

    { "10.0.0.0/8", NULL, "64:ff9b::10.0.0.1", "10.0.0.0/8", NULL },
    { "64:ff9b::/96", NULL, "64:ff9b::10.0.0.1", "10.0.0.0/8", NULL },
    { "64:ff9b::/96 10.0.0.0/8", NULL, "64:ff9b::10.0.0.1", NULL, NULL },
    { "10.0.0.0/8 64:ff9b::/96", NULL, "64:ff9b::10.0.0.1", NULL, NULL },
    { "::/0", NULL, "64:ff9b::10.0.0.1", "10.0.0.0/8", NULL },
    { "::/0 0.0.0.0/0", NULL, "64:ff9b::10.0.0.1", NULL, NULL },
    { "2002::/16", NULL, "2002:7f00:1::", "127.0.0.0/8", NULL },
    { "2001::/32", NULL, "2001:0:1:2:3:4:80ff:fffe", "127.0.0.0/8", NULL },
    { "::/96", NULL, "::10.0.0.1", "10.0.0.0/8", NULL },
    { "64:ff9b::/96 64:ff9b::/32", NULL, "64:ff9b::10.0.0.1", "10.0.0.0/8",
      NULL },
    { "8.8.8.0/24", "all", "64:ff9b::8.8.8.8", D("all"), D("all") },
    { "8.8.8.0/24 64:ff9b::/96", "all", "64:ff9b::8.8.8.8", NULL, NULL }
};


/* one address in all the spellings of it, and what the default says of each */

typedef struct {
    const char  *address;
    const char  *what;
} unit_spelling_t;


static const unit_spelling_t  unit_spelling_cases[] = {
    { "::ffff:0:127.0.0.1", "127.0.0.0/8" },
    { "::ffff:0:8.8.8.8", NULL },
    { "2001:5::1", "2001::/23" },
    { "2001:100::1", "2001::/23" },
    { "2001:1ff:ffff::1", "2001::/23" },
    { "2001:200::1", NULL },

    /* as it is; mapped; compatible; NAT64; 6to4; Teredo */

    { "127.0.0.1", "127.0.0.0/8" },
    { "::ffff:127.0.0.1", "127.0.0.0/8" },
    { "::127.0.0.1", "127.0.0.0/8" },
    { "64:ff9b::127.0.0.1", "127.0.0.0/8" },
    { "2002:7f00:1::", "127.0.0.0/8" },
    { "2002:7f00:1:ffff:ffff:ffff:ffff:ffff", "127.0.0.0/8" },
    { "2001::80ff:fffe", "127.0.0.0/8" },
    { "2001:0:4136:e378:8000:63bf:80ff:fffe", "127.0.0.0/8" },

    { "10.0.0.1", "10.0.0.0/8" },
    { "::ffff:10.0.0.1", "10.0.0.0/8" },
    { "::10.0.0.1", "10.0.0.0/8" },
    { "64:ff9b::10.0.0.1", "10.0.0.0/8" },
    { "2002:a00:1::1", "10.0.0.0/8" },
    { "2001::f5ff:fffe", "10.0.0.0/8" },
    { "2001:0:4136:e378:8000:63bf:f5ff:fffe", "10.0.0.0/8" },

    { "169.254.169.254", "169.254.0.0/16" },
    { "::ffff:169.254.169.254", "169.254.0.0/16" },
    { "::169.254.169.254", "169.254.0.0/16" },
    { "64:ff9b::169.254.169.254", "169.254.0.0/16" },
    { "2002:a9fe:a9fe::1", "169.254.0.0/16" },
    { "2001::5601:5601", "169.254.0.0/16" },
    { "2001:0:4136:e378:8000:63bf:5601:5601", "169.254.0.0/16" },

    { "8.8.8.8", NULL },
    { "::ffff:8.8.8.8", NULL },
    { "::8.8.8.8", NULL },
    { "64:ff9b::8.8.8.8", NULL },
    { "2002:808:808::1", NULL },
    { "2001:0:4136:e378:8000:63bf:f7f7:f7f7", NULL },

    /* local NAT64 is nobody's but the network's */

    { "64:ff9b:1::8.8.8.8", "64:ff9b:1::/48" },
    { "64:ff9b:1:a00:0:100::", "64:ff9b:1::/48" },

    /* Teredo's end is inverted; these are what it would be without */

    { "2001::7f00:1", NULL },
    { "2001:0:7f00:1::f7f7:f7f7", NULL },

    /* not quite those */

    { "64:ff9b::1:127.0.0.1", NULL },
    { "64:ff9c::127.0.0.1", NULL },
    { "2003:7f00:1::", NULL },
    { "::fffe:127.0.0.1", NULL },
    { "2620:7f00:1::127.0.0.1", NULL }
};


void
unit_rules_addresses(void)
{
    ngx_uint_t              i;
    const char             *what;
    ngx_tunnel_rules_t      rules;
    struct sockaddr        *sa;
    const unit_address_t   *c;
    const unit_spelling_t  *s;

    for (i = 0; i < unit_nelts(unit_address_cases); i++) {
        c = &unit_address_cases[i];

        unit_rules(&rules, NULL, NULL, c->allow, c->deny);

        what = unit_ask_address(&rules, c->address, 0, NULL);

        unit_check(unit_same(what, c->what),
                   "%s: %s: \"%s\" instead of \"%s\"",
                   unit_name(c->allow, c->deny), c->address,
                   what ? what : "allowed", c->what ? c->what : "allowed");

        what = unit_ask_address(&rules, c->address, 1, NULL);

        unit_check(unit_same(what, c->trusted),
                   "%s: %s, trusted: \"%s\" instead of \"%s\"",
                   unit_name(c->allow, c->deny), c->address,
                   what ? what : "allowed",
                   c->trusted ? c->trusted : "allowed");
    }

    unit_rules(&rules, NULL, NULL, NULL, NULL);

    for (i = 0; i < unit_nelts(unit_spelling_cases); i++) {
        s = &unit_spelling_cases[i];

        what = unit_ask_address(&rules, s->address, 0, NULL);

        unit_check(unit_same(what, s->what), "%s: \"%s\" instead of \"%s\"",
                   s->address, what ? what : "allowed",
                   s->what ? s->what : "allowed");

        what = unit_ask_address(&rules, s->address, 1, NULL);

        unit_check(what == NULL, "%s, trusted: \"%s\"", s->address, what);
    }

    /* a unix socket of the configuration is only denied by its own rule */

    sa = calloc(1, sizeof(struct sockaddr_un));
    sa->sa_family = AF_UNIX;

    unit_rules(&rules, NULL, NULL, NULL, "all");
    unit_check(unit_ask_sockaddr(&rules, sa, 1, NULL) == NULL, "unix");

    unit_rules(&rules, NULL, NULL, "unix:", "unix:");
    what = unit_ask_sockaddr(&rules, sa, 1, NULL);
    unit_check(what && strcmp(what, "target_deny_address unix:") == 0,
               "unix, trusted, denied: \"%s\"", what);

    /* and any other one only allowed by that */

    unit_rules(&rules, NULL, NULL, NULL, NULL);
    what = unit_ask_sockaddr(&rules, sa, 0, NULL);
    unit_check(what && strcmp(what, "UNIX-domain socket") == 0,
               "unix, by default: \"%s\"", what);

    unit_rules(&rules, NULL, NULL, "all", NULL);
    unit_check(unit_ask_sockaddr(&rules, sa, 0, NULL) != NULL, "unix, all");

    unit_rules(&rules, NULL, NULL, "unix:", NULL);
    unit_check(unit_ask_sockaddr(&rules, sa, 0, NULL) == NULL,
               "unix, allowed");

    free(sa);

    /* rules that are only tried take nothing from the defaults */

    unit_rules(&rules, NULL, NULL, NULL, "10.0.0.0/8 8.8.8.0/24 all");
    rules.dry_run = 1;

    unit_check(unit_same(unit_ask_address(&rules, "10.0.0.1", 0, NULL),
                         "10.0.0.0/8"), "dry run, by default");
    unit_check(unit_same(unit_ask_address(&rules, "8.8.8.8", 0, NULL),
                         D("8.8.8.0/24")), "dry run, by a block");
    unit_check(unit_same(unit_ask_address(&rules, "9.9.9.9", 0, NULL),
                         D("all")), "dry run, by all");
    unit_check(unit_same(unit_ask_address(&rules, "10.0.0.1", 1, NULL),
                         D("10.0.0.0/8")), "dry run, trusted");
}


#define address_error(arg)                                                    \
    { &unit_deny_address, arg, NGX_LOG_EMERG,                                 \
      "invalid address \"" arg "\"" ADDRESS_FORM }
#define address_warning(arg)                                                  \
    { &unit_deny_address, arg, NGX_LOG_WARN,                                  \
      "low address bits of " arg " are meaningless" }


static const unit_conf_t  unit_address_error_cases[] = {
    { &unit_allow_address, "''", NGX_LOG_EMERG,
      "invalid address \"\"" ADDRESS_FORM },
    address_error("a.org"),
    address_error("localhost"),
    address_error("1.2.3"),
    address_error("127.1"),
    address_error("256.1.1.1"),
    address_error("1.2.3.4/33"),
    address_error("1.2.3.4/-1"),
    address_error("1.2.3.4/"),
    address_error("1.2.3.4/a"),
    address_error("1.2.3.4:443"),
    address_error("10.0.0.0/255.0.0.0"),
    address_error("::1/129"),
    address_error("::1/"),
    address_error("[::1]"),
    address_error("[::1]:443"),
    address_error("::g"),
    address_error("1:2"),
    address_error("fe80::1%eth0"),
    address_error("/8"),
    address_error("*"),
    address_error("ALL"),
    address_error("Private"),
    address_error("privat"),
    address_error("privates"),
    address_error("all,private"),
    { &unit_allow_address, "10.0.0.0/8 x", NGX_LOG_EMERG,
      "invalid address \"x\"" ADDRESS_FORM },
    { &unit_allow_address, "all x private", NGX_LOG_EMERG,
      "invalid address \"x\"" ADDRESS_FORM },
    address_warning("10.0.0.1/8"),
    address_warning("2001:db8::1/32"),
    { &unit_deny_address, "10.0.0.0/8 1.2.3.4/32 1.2.3.4 0.0.0.0/0 ::/0 ::1 "
      "::1/128 2001:db8::/32 all private", 0, "" }
};


void
unit_rules_address_errors(void)
{
    ngx_tunnel_rules_t  rules;

    unit_conf_cases(unit_address_error_cases,
                    unit_nelts(unit_address_error_cases));

    /* low bits are warned of, and then really meaningless */

    unit_rules(&rules, NULL, NULL, NULL, "8.8.8.8/24 2001:4860::1/32");

    unit_check(unit_same(unit_ask_address(&rules, "8.8.8.1", 0, NULL),
                         D("8.8.8.8/24")), "8.8.8.1");
    unit_check(unit_same(unit_ask_address(&rules, "2001:4860::2", 0, NULL),
                         D("2001:4860::1/32")), "2001:4860::2");
}


typedef struct {
    const char  *block;
    const char  *first;
    const char  *last;
    const char  *before;         /* NULL: not asked, see below */
    const char  *after;
    const char  *before_what;    /* NULL: public */
    const char  *after_what;
} unit_block_t;


/*
 * The neighbours within 2001::/23 are reserved as well, and so they are not
 * asked for here.
 */

static const unit_block_t  unit_block_cases[] = {
    { "0.0.0.0/8", "0.0.0.0", "0.255.255.255",
      NULL, "1.0.0.0", NULL, NULL },
    { "10.0.0.0/8", "10.0.0.0", "10.255.255.255",
      "9.255.255.255", "11.0.0.0", NULL, NULL },
    { "100.64.0.0/10", "100.64.0.0", "100.127.255.255",
      "100.63.255.255", "100.128.0.0", NULL, NULL },
    { "127.0.0.0/8", "127.0.0.0", "127.255.255.255",
      "126.255.255.255", "128.0.0.0", NULL, NULL },
    { "169.254.0.0/16", "169.254.0.0", "169.254.255.255",
      "169.253.255.255", "169.255.0.0", NULL, NULL },
    { "172.16.0.0/12", "172.16.0.0", "172.31.255.255",
      "172.15.255.255", "172.32.0.0", NULL, NULL },
    { "192.0.0.0/24", "192.0.0.0", "192.0.0.255",
      "191.255.255.255", "192.0.1.0", NULL, NULL },
    { "192.0.2.0/24", "192.0.2.0", "192.0.2.255",
      "192.0.1.255", "192.0.3.0", NULL, NULL },
    { "192.88.99.0/24", "192.88.99.0", "192.88.99.255",
      "192.88.98.255", "192.88.100.0", NULL, NULL },
    { "192.168.0.0/16", "192.168.0.0", "192.168.255.255",
      "192.167.255.255", "192.169.0.0", NULL, NULL },
    { "198.18.0.0/15", "198.18.0.0", "198.19.255.255",
      "198.17.255.255", "198.20.0.0", NULL, NULL },
    { "198.51.100.0/24", "198.51.100.0", "198.51.100.255",
      "198.51.99.255", "198.51.101.0", NULL, NULL },
    { "203.0.113.0/24", "203.0.113.0", "203.0.113.255",
      "203.0.112.255", "203.0.114.0", NULL, NULL },
    { "224.0.0.0/4", "224.0.0.0", "239.255.255.255",
      "223.255.255.255", "240.0.0.0", NULL, "240.0.0.0/4" },
    { "240.0.0.0/4", "240.0.0.0", "255.255.255.255",
      "239.255.255.255", NULL, "224.0.0.0/4", NULL },

    { "::/127", "::", "::1", NULL, "::2", NULL, "0.0.0.0/8" },
    { "64:ff9b:1::/48", "64:ff9b:1::",
      "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
      "64:ff9b:0:ffff:ffff:ffff:ffff:ffff", "64:ff9b:2::", NULL, NULL },
    { "100::/64", "100::", "100::ffff:ffff:ffff:ffff",
      "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "100:0:0:1::",
      NULL, "100:0:0:1::/64" },
    { "100:0:0:1::/64", "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff",
      "100::ffff:ffff:ffff:ffff", "100:0:0:2::", "100::/64", NULL },
    { "2001:1::/32", "2001:1::", "2001:1:ffff:ffff:ffff:ffff:ffff:ffff",
      "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "2001:2::",
      "0.0.0.0/8", "2001:2::/48" },
    { "2001:2::/48", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff",
      "2001:1:ffff:ffff:ffff:ffff:ffff:ffff", NULL, "2001:1::/32", NULL },
    { "2001:10::/28", "2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff",
      NULL, "2001:20::", NULL, "2001:20::/28" },
    { "2001:20::/28", "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff",
      "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "2001:30::",
      "2001:10::/28", "2001:30::/28" },
    { "2001:30::/28", "2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff",
      "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", NULL, "2001:20::/28", NULL },
    { "2001:db8::/32", "2001:db8::",
      "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
      "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", NULL, NULL },
    { "3fff::/20", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
      "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::", NULL, NULL },
    { "5f00::/16", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
      "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "5f01::", NULL, NULL },
    { "fc00::/7", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
      "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", NULL, NULL },
    { "fe80::/10", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
      "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::",
      NULL, "fec0::/10" },
    { "fec0::/10", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
      "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::",
      "fe80::/10", "ff00::/8" },
    { "ff00::/8", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
      "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, "fec0::/10", NULL }
};


/* some that everybody uses */

static const char *const  unit_public[] = {
    "1.1.1.1", "8.8.8.8", "9.9.9.9", "93.184.216.34", "100.0.0.1",
    "151.101.1.140", "172.217.16.14", "185.15.59.224", "192.0.32.10",
    "193.0.6.139", "198.41.0.4", "203.0.178.191", "223.255.255.254",
    "2001:200::1", "2001:470::1", "2001:4860:4860::8888", "2003::1",
    "2400:cb00::1", "2606:4700:4700::1111", "2620:fe::fe", "2a00:1450::1",
    "2a02:ec80:300:ed1a::1", "2c0f::1"
};


void
unit_rules_special(void)
{
    ngx_uint_t            i, k;
    const char           *what, *addresses[4], *expected[4];
    ngx_tunnel_rules_t    rules, private;
    const unit_block_t   *c;

    unit_rules(&rules, NULL, NULL, NULL, NULL);
    unit_rules(&private, NULL, NULL, NULL, "private");

    for (i = 0; i < unit_nelts(unit_block_cases); i++) {
        c = &unit_block_cases[i];

        addresses[0] = c->before;
        addresses[1] = c->first;
        addresses[2] = c->last;
        addresses[3] = c->after;

        expected[0] = c->before_what;
        expected[1] = c->block;
        expected[2] = c->block;
        expected[3] = c->after_what;

        for (k = 0; k < 4; k++) {

            if (addresses[k] == NULL) {
                continue;
            }

            what = unit_ask_address(&rules, addresses[k], 0, NULL);

            unit_check(unit_same(what, expected[k]),
                       "%s: %s: \"%s\" instead of \"%s\"",
                       c->block, addresses[k], what ? what : "allowed",
                       expected[k] ? expected[k] : "allowed");

            /* "private" means the same addresses */

            what = unit_ask_address(&private, addresses[k], 0, NULL);

            unit_check(unit_same(what, expected[k] ? D("private") : NULL),
                       "private: %s: \"%s\"", addresses[k],
                       what ? what : "allowed");
        }
    }

    for (i = 0; i < unit_nelts(unit_public); i++) {
        what = unit_ask_address(&rules, unit_public[i], 0, NULL);
        unit_check(what == NULL, "%s: \"%s\"", unit_public[i], what);
    }
}


/* whether an address is in one of unit_block_cases, bit by bit */

static ngx_uint_t
unit_in_blocks(int family, const u_char *addr)
{
    char         text[64], *slash;
    u_char       net[16];
    ngx_uint_t   i, bit, bits;

    for (i = 0; i < unit_nelts(unit_block_cases); i++) {

        strcpy(text, unit_block_cases[i].block);
        slash = strchr(text, '/');
        *slash = '\0';
        bits = atoi(slash + 1);

        if (inet_pton(family, text, net) != 1) {
            continue;
        }

        for (bit = 0; bit < bits; bit++) {
            if (((addr[bit / 8] ^ net[bit / 8]) >> (7 - bit % 8)) & 1) {
                break;
            }
        }

        if (bit == bits) {
            return 1;
        }
    }

    return 0;
}


/*
 * Random IPv4 addresses, each in all spellings: every one is treated as the
 * others are, and as the list of blocks above says.
 */

#define UNIT_ADDRESSES  20000


void
unit_rules_random(void)
{
    u_char                addr[16], *p;
    ngx_uint_t            i, k, n, special, counts[2], wrong;
    const char           *what;
    ngx_tunnel_rules_t    rules;
    struct sockaddr_in   *sin;
    struct sockaddr_in6  *sin6;

    static const u_char  prefixes[][12] = {
        { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff },
        { 0 },
        { 0x00, 0x64, 0xff, 0x9b },
        { 0x20, 0x02 },
        { 0x20, 0x01, 0, 0, 0x41, 0x36 }
    };

    unit_rules(&rules, NULL, NULL, NULL, NULL);

    memset(counts, 0, sizeof(counts));

    for (i = 0, wrong = 0; i < UNIT_ADDRESSES; i++) {

        /* every other one near the edge of a block */

        if (i % 2) {
            inet_pton(AF_INET, unit_block_cases[unit_random() % 15].first,
                      addr);

            n = ntohl(*(uint32_t *) addr) + unit_random() % 1024 - 512;
            *(uint32_t *) addr = htonl(n);

            if (unit_random() % 2) {
                addr[unit_random() % 4] = unit_random();
            }

        } else {
            *(uint32_t *) addr = unit_random();
        }

        special = unit_in_blocks(AF_INET, addr);
        counts[special]++;

        sin = calloc(1, sizeof(struct sockaddr_in));
        sin->sin_family = AF_INET;
        memcpy(&sin->sin_addr, addr, 4);

        what = unit_ask_sockaddr(&rules, (struct sockaddr *) sin, 0, NULL);
        free(sin);

        if ((what != NULL) != special) {
            wrong++;
            unit_check(0, "%d.%d.%d.%d: \"%s\"", addr[0], addr[1], addr[2],
                       addr[3], what ? what : "allowed");
        }

        for (k = 0; k < unit_nelts(prefixes); k++) {

            sin6 = calloc(1, sizeof(struct sockaddr_in6));
            sin6->sin6_family = AF_INET6;
            p = sin6->sin6_addr.s6_addr;

            for (n = 4; n < 16; n++) {
                p[n] = k < 3 ? 0 : unit_random();
            }

            memcpy(p, prefixes[k], k < 3 ? 12 : k == 3 ? 2 : 8);

            if (k == 3) {
                memcpy(p + 2, addr, 4);

            } else {
                for (n = 0; n < 4; n++) {
                    p[12 + n] = k == 4 ? ~addr[n] : addr[n];
                }
            }

            what = unit_ask_sockaddr(&rules, (struct sockaddr *) sin6, 0,
                                     NULL);

            if ((what != NULL) != special) {
                wrong++;
                unit_check(0, "%s as %s: \"%s\"", unit_text(addr, 4),
                           unit_text(p, 16), what ? what : "allowed");
            }

            free(sin6);
        }
    }

    unit_check(wrong == 0, "%lu addresses", wrong);
    unit_check(counts[0] > 2000 && counts[1] > 2000, "%lu public, %lu special",
               counts[0], counts[1]);

    /* and IPv6 ones that have no IPv4 form */

    memset(counts, 0, sizeof(counts));

    for (i = 0, wrong = 0; i < UNIT_ADDRESSES; i++) {

        n = 15 + unit_random() % (unit_nelts(unit_block_cases) - 15);
        inet_pton(AF_INET6, unit_block_cases[n].first, addr);

        for (n = unit_random() % 4; n; n--) {
            addr[unit_random() % 16] ^= 1 << unit_random() % 8;
        }

        if (memcmp(addr, prefixes[0], 12) == 0
            || memcmp(addr, prefixes[1], 12) == 0
            || memcmp(addr, prefixes[2], 12) == 0
            || (addr[0] == 0x20 && addr[1] == 0x02)
            || (addr[0] == 0x20 && addr[1] == 0x01 && addr[2] < 2))
        {
            continue;
        }

        special = unit_in_blocks(AF_INET6, addr);
        counts[special]++;

        sin6 = calloc(1, sizeof(struct sockaddr_in6));
        sin6->sin6_family = AF_INET6;
        memcpy(&sin6->sin6_addr, addr, 16);

        what = unit_ask_sockaddr(&rules, (struct sockaddr *) sin6, 0, NULL);
        free(sin6);

        if ((what != NULL) != special) {
            wrong++;
            unit_check(0, "%s: \"%s\"", unit_text(addr, 16),
                       what ? what : "allowed");
        }
    }

    unit_check(wrong == 0, "%lu addresses", wrong);
    unit_check(counts[0] > 2000 && counts[1] > 2000, "%lu public, %lu special",
               counts[0], counts[1]);
}


/* own addresses */


static void
unit_cycle(ngx_cycle_t *cycle, const char *const *addresses)
{
    socklen_t         socklen;
    ngx_listening_t  *ls;

    ngx_memzero(cycle, sizeof(ngx_cycle_t));
    cycle->log = &unit_errors;

    if (ngx_array_init(&cycle->listening, unit_pool, 4,
                       sizeof(ngx_listening_t))
        != NGX_OK)
    {
        abort();
    }

    for ( /* void */ ; *addresses; addresses++) {

        ls = ngx_array_push(&cycle->listening);
        ngx_memzero(ls, sizeof(ngx_listening_t));

        if (strcmp(*addresses, "unix") == 0) {
            ls->socklen = sizeof(struct sockaddr_un);
            ls->sockaddr = calloc(1, sizeof(struct sockaddr_un));
            ls->sockaddr->sa_family = AF_UNIX;
            continue;
        }

        ls->sockaddr = unit_sockaddr(*addresses, &socklen);
        ls->socklen = socklen;
    }
}


static void
unit_cycle_free(ngx_cycle_t *cycle)
{
    ngx_uint_t        i;
    ngx_listening_t  *ls;

    ls = cycle->listening.elts;

    for (i = 0; i < cycle->listening.nelts; i++) {
        free(ls[i].sockaddr);
    }
}


/* NULL at the end of a list, "-": an interface without address */

static void
unit_interfaces(struct ifaddrs *ifs, const char *const *addresses)
{
    socklen_t        socklen;
    struct ifaddrs  *ifa;

    for (ifa = ifs; *addresses; addresses++, ifa++) {
        memset(ifa, 0, sizeof(struct ifaddrs));

        if (addresses[1]) {
            ifa->ifa_next = ifa + 1;
        }

        if (strcmp(*addresses, "-") == 0) {
            continue;
        }

        if (strcmp(*addresses, "packet") == 0) {
            ifa->ifa_addr = calloc(1, 20);
            ifa->ifa_addr->sa_family = AF_PACKET;
            continue;
        }

        ifa->ifa_addr = unit_sockaddr(*addresses, &socklen);
    }
}


static void
unit_interfaces_free(struct ifaddrs *ifs)
{
    struct ifaddrs  *ifa;

    for (ifa = ifs; ifa; ifa = ifa->ifa_next) {
        free(ifa->ifa_addr);
    }
}


typedef struct {
    const char  *address;
    const char  *what;
} unit_own_t;


static const char *const  unit_own_listen[] = {
    "93.184.216.34 3128", "0.0.0.0 443", "unix", "2a00:1450::5 8080",
    ":: 8443", "127.0.0.1 9000", NULL
};

static const char *const  unit_own_interfaces[] = {
    "-", "packet", "127.0.0.1 0", "93.184.216.34 0", "8.8.4.4 0", "::1 0",
    "2a00:1450::5 0", "fe80::1 0", NULL
};


static const unit_own_t  unit_own_cases[] = {
    { "64:ff9b::93.184.216.34 3128", OWN },
    { "2002:5db8:d822::1 3128", OWN },
    { "64:ff9b::93.184.216.34 3127", NULL },

    /* an address that is listened on, on that port */

    { "93.184.216.34 3128", OWN },
    { "93.184.216.34 3129", NULL },
    { "93.184.216.35 3128", NULL },
    { "8.8.4.4 3128", NULL },
    { "2a00:1450::5 8080", OWN },
    { "2a00:1450::5 8081", NULL },
    { "2a00:1450::6 8080", NULL },
    { "::ffff:93.184.216.34 3128", OWN },
    { "::ffff:93.184.216.34 3129", NULL },

    /* a wildcard is all addresses of the machine */

    { "93.184.216.34 443", OWN },
    { "8.8.4.4 443", OWN },
    { "::ffff:8.8.4.4 443", OWN },
    { "8.8.8.8 443", NULL },
    { "8.8.4.4 444", NULL },

    /* that of IPv6 may take IPv4 as well */

    { "2a00:1450::5 8443", OWN },
    { "93.184.216.34 8443", OWN },
    { "8.8.4.4 8443", OWN },
    { "2a00:1450::6 8443", NULL },
    { "8.8.4.4 8444", NULL },

    /* these are special before they are own */

    { "127.0.0.1 9000", "127.0.0.0/8" },
    { "127.0.0.1 443", "127.0.0.0/8" },
    { "fe80::1 8443", "fe80::/10" }
};


void
unit_rules_own(void)
{
    ngx_uint_t            i, k;
    ngx_addr_t           *addr;
    const char           *what;
    ngx_cycle_t           cycle;
    ngx_array_t          *own;
    struct ifaddrs        ifs[16];
    ngx_tunnel_rules_t    rules;

    static const char *const  nothing[] = { NULL };
    static const char *const  only_unix[] = { "unix", NULL };

    unit_rules(&rules, NULL, NULL, NULL, NULL);

    unit_cycle(&cycle, unit_own_listen);
    unit_interfaces(ifs, unit_own_interfaces);
    unit_ifaddrs = ifs;

    own = ngx_tunnel_rules_own_addresses(&cycle, unit_pool);

    unit_interfaces_free(ifs);
    unit_cycle_free(&cycle);

    if (!unit_check(own != NULL, "no array")) {
        return;
    }

    unit_check(unit_ifaddrs_lent == 0, "freeifaddrs() was not called");
    unit_check(unit_log_level == 0, "%s", unit_log);

    /* two wildcards on six addresses, and three others */

    unit_check(own->nelts == 15, "%lu addresses", own->nelts);

    for (i = 0; i < unit_nelts(unit_own_cases); i++) {

        what = unit_ask_address(&rules, unit_own_cases[i].address, 0, own);

        unit_check(unit_same(what, unit_own_cases[i].what),
                   "%s: \"%s\" instead of \"%s\"", unit_own_cases[i].address,
                   what ? what : "allowed",
                   unit_own_cases[i].what ? unit_own_cases[i].what
                                          : "allowed");

        what = unit_ask_address(&rules, unit_own_cases[i].address, 1, own);

        unit_check(what == NULL, "%s, trusted: \"%s\"",
                   unit_own_cases[i].address, what);

        what = unit_ask_address(&rules, unit_own_cases[i].address, 0, NULL);

        unit_check(!unit_same(what, OWN), "%s, of nobody",
                   unit_own_cases[i].address);
    }

    /* rules that are set come first */

    unit_rules(&rules, NULL, NULL, "93.184.216.34", NULL);
    what = unit_ask_address(&rules, "93.184.216.34 3128", 0, own);
    unit_check(what == NULL, "allowed: \"%s\"", what);
    what = unit_ask_address(&rules, "8.8.4.4 443", 0, own);
    unit_check(unit_same(what, OWN), "another allowed: \"%s\"", what);

    unit_rules(&rules, NULL, NULL, NULL, "8.8.4.4");
    what = unit_ask_address(&rules, "8.8.4.4 443", 0, own);
    unit_check(unit_same(what, D("8.8.4.4")), "denied: \"%s\"", what);

    unit_rules(&rules, NULL, NULL, "all", NULL);
    what = unit_ask_address(&rules, "8.8.4.4 443", 0, own);
    unit_check(what == NULL, "all allowed: \"%s\"", what);

    /* without interfaces, those that are spelt out remain */

    unit_log_clear();
    unit_ifaddrs = NULL;
    unit_cycle(&cycle, unit_own_listen);

    own = ngx_tunnel_rules_own_addresses(&cycle, unit_pool);

    unit_cycle_free(&cycle);

    unit_check(own && own->nelts == 3, "without interfaces");
    unit_check(unit_log_level == NGX_LOG_WARN
               && strcmp(unit_log, "getifaddrs() failed") == 0,
               "without interfaces: %lu \"%s\"", unit_log_level, unit_log);

    unit_rules(&rules, NULL, NULL, NULL, NULL);
    what = unit_ask_address(&rules, "93.184.216.34 3128", 0, own);
    unit_check(unit_same(what, OWN), "without interfaces: \"%s\"", what);

    /* no listeners of use, no addresses */

    for (k = 0; k < 2; k++) {
        unit_cycle(&cycle, k ? nothing : only_unix);
        own = ngx_tunnel_rules_own_addresses(&cycle, unit_pool);
        unit_cycle_free(&cycle);

        unit_check(own && own->nelts == 0, "without listeners");
    }

    /* without memory there is no array, and nothing stays behind */

    unit_interfaces(ifs, unit_own_interfaces);
    unit_ifaddrs = ifs;
    unit_cycle(&cycle, unit_own_listen);

    for (i = 1; i < 100; i++) {
        unit_alloc_fail = i;
        unit_alloc_failed = 0;

        own = ngx_tunnel_rules_own_addresses(&cycle, unit_pool);

        unit_alloc_fail = 0;

        unit_check((own == NULL) == (unit_alloc_failed != 0),
                   "allocation %lu", i);
        unit_check(unit_ifaddrs_lent == 0, "allocation %lu: freeifaddrs()", i);

        if (own) {
            break;
        }
    }

    unit_check(i > 10 && i < 100, "%lu allocations", i);

    unit_cycle_free(&cycle);
    unit_interfaces_free(ifs);

    for (k = 0; own && k < own->nelts; k++) {
        addr = own->elts;
        unit_check(addr[k].socklen
                   == (addr[k].sockaddr->sa_family == AF_INET
                       ? sizeof(struct sockaddr_in)
                       : sizeof(struct sockaddr_in6)), "socklen");
    }
}


/* each of the lists is inherited whole, or replaced whole */

void
unit_rules_inheritance(void)
{
    ngx_tunnel_rules_t  outer, inner, none;

    ngx_tunnel_rules_create(&none);
    ngx_tunnel_rules_create(&outer);

    unit_set_ok(&outer, &unit_allow, "a:1");
    unit_set_ok(&outer, &unit_allow, "b:1");     /* a second line adds */
    unit_set_ok(&outer, &unit_deny, "c:443");
    unit_set_ok(&outer, &unit_allow_address, "10.0.0.0/8");
    unit_set_ok(&outer, &unit_allow_address, "127.0.0.1");
    unit_set_ok(&outer, &unit_deny_address, "8.8.8.8");
    outer.dry_run = 1;
    ngx_tunnel_rules_merge(&outer, &none);

    unit_check(unit_ask(&outer, "a:1", 0) == NULL, "first line");
    unit_check(unit_ask(&outer, "b:1", 0) == NULL, "second line");
    unit_check(unit_ask_address(&outer, "10.0.0.1", 0, NULL) == NULL,
               "first line of addresses");
    unit_check(unit_ask_address(&outer, "127.0.0.1", 0, NULL) == NULL,
               "second line of addresses");

    ngx_tunnel_rules_create(&inner);
    ngx_tunnel_rules_merge(&inner, &outer);

    unit_check(inner.allow == outer.allow && inner.deny == outer.deny
               && inner.allow_address == outer.allow_address
               && inner.deny_address == outer.deny_address
               && inner.dry_run == 1, "inherited");

    ngx_tunnel_rules_create(&inner);
    unit_set_ok(&inner, &unit_allow, "*:443");
    unit_set_ok(&inner, &unit_deny_address, "9.9.9.9");
    inner.dry_run = 0;
    ngx_tunnel_rules_merge(&inner, &outer);

    unit_check(inner.dry_run == 0, "dry_run");
    unit_check(unit_same(unit_ask(&inner, "a:1", 0), NOT_ALLOWED),
               "replaced target_allow");
    unit_check(unit_same(unit_ask(&inner, "c:443", 0), "target_deny c:443"),
               "inherited target_deny");
    unit_check(unit_ask_address(&inner, "10.0.0.1", 0, NULL) == NULL,
               "inherited target_allow_address");
    unit_check(unit_ask_address(&inner, "8.8.8.8", 0, NULL) == NULL,
               "replaced target_deny_address");
    unit_check(unit_ask_address(&inner, "9.9.9.9", 0, NULL) != NULL,
               "own target_deny_address");

    /* and the outer level is as it was */

    unit_check(unit_ask(&outer, "x:443", 0) != NULL, "outer target_allow");
    unit_check(unit_ask_address(&outer, "8.8.8.8", 0, NULL) != NULL,
               "outer target_deny_address");

    ngx_tunnel_rules_create(&inner);
    ngx_tunnel_rules_merge(&inner, &none);

    unit_check(inner.allow == NULL && inner.deny == NULL
               && inner.allow_address == NULL && inner.deny_address == NULL
               && inner.dry_run == 0, "defaults");
}


/* what is asked in earnest: a rule that is only tried says what it would do */

typedef struct {
    const char  *allow;
    const char  *deny;
    const char  *ask;            /* a target, or an address */
    const char  *what;           /* NULL: let pass */
    const char  *trusted;        /* the same of one that is */
} unit_earnest_t;


static const unit_earnest_t  unit_earnest_cases[] = {
    { "*:443", NULL, "a.org:443", NULL, NULL },
    { "*:443", NULL, "a.org:80", NOT_ALLOWED, NOT_ALLOWED },
    { "*:*", "a.org:80", "a.org:80", "target_deny a.org:80",
      "target_deny a.org:80" },
    { NULL, "a.org:443", "a.org:443", "target_deny a.org:443",
      "target_deny a.org:443" },
    { NULL, "a.org:80", "a.org:80", "target_deny a.org:80",
      "target_deny a.org:80" },
    { NULL, NULL, "a.org:80", DEFAULT, NULL },

    { NULL, NULL, "8.8.8.8", NULL, NULL },
    { NULL, "8.8.0.0/16", "8.8.8.8", D("8.8.0.0/16"), D("8.8.0.0/16") },
    { "9.9.9.9", "all", "8.8.8.8", D("all"), D("all") },
    { "10.0.0.1", NULL, "10.0.0.1", NULL, NULL },
    { NULL, "10.0.0.1", "10.0.0.1", D("10.0.0.1"), D("10.0.0.1") },
    { NULL, NULL, "10.0.0.1", "10.0.0.0/8", NULL },
    { NULL, NULL, "fd00::1", "fc00::/7", NULL }
};


static void
unit_earnest(const unit_earnest_t *c, ngx_uint_t trusted, ngx_uint_t dry)
{
    char                  expected[256];
    ngx_int_t             rc, checked;
    ngx_str_t             what, name;
    socklen_t             socklen;
    ngx_uint_t            passed;
    const char           *denied, *log;
    struct sockaddr      *sa;
    ngx_tunnel_rules_t    rules;
    ngx_tunnel_target_t   t;

    ngx_str_null(&what);
    unit_log_clear();

    if (strncmp(c->ask, "a.org", 5) == 0) {
        unit_rules(&rules, c->allow, c->deny, NULL, NULL);
        rules.dry_run = dry;

        (void) ngx_tunnel_target_parse(&t, (u_char *) c->ask, strlen(c->ask));

        checked = ngx_tunnel_rules_check_target(&rules, &t, trusted,
                                                &unit_errors, &what);
        ngx_str_null(&what);

        rc = ngx_tunnel_rules_allow_target(&rules, &t, trusted, &unit_errors,
                                           &what);
        log = "target \"%s\" would be denied by \"%s\"";

    } else {
        unit_rules(&rules, NULL, NULL, c->allow, c->deny);
        rules.dry_run = dry;

        sa = unit_sockaddr(c->ask, &socklen);

        name.data = (u_char *) c->ask;
        name.len = strlen(c->ask);

        checked = ngx_tunnel_rules_check_address(&rules, sa, trusted, NULL,
                                                 &what);
        ngx_str_null(&what);

        rc = ngx_tunnel_rules_allow_address(&rules, sa, &name, trusted, NULL,
                                            &unit_errors, &what);
        log = "address %s would be denied by \"%s\"";

        free(sa);
    }

    denied = trusted ? c->trusted : c->what;

    /* a default is no rule that could be tried */

    passed = (denied == NULL || (dry && checked == NGX_DECLINED));

    unit_check(rc == (passed ? NGX_OK : NGX_DECLINED),
               "%s: %s, trusted %lu, dry run %lu: %ld",
               unit_name(c->allow, c->deny), c->ask, trusted, dry, rc);

    if (!passed) {

        /* and without the rule, it is what denies */

        unit_check(dry ? what.len != 0 : unit_is(&what, denied),
                   "%s: %s: \"%s\"", unit_name(c->allow, c->deny), c->ask,
                   unit_text(what.data, what.len));
    }

    if (!passed || denied == NULL) {
        unit_check(unit_log_level == 0, "%s: %s: \"%s\"",
                   unit_name(c->allow, c->deny), c->ask, unit_log);
        return;
    }

    snprintf(expected, sizeof(expected), log, c->ask, denied);

    unit_check(unit_log_level == NGX_LOG_WARN
               && strcmp(unit_log, expected) == 0,
               "%s: %s: %lu \"%s\" instead of \"%s\"",
               unit_name(c->allow, c->deny), c->ask, unit_log_level, unit_log,
               expected);
}


void
unit_rules_dry_run(void)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_nelts(unit_earnest_cases); i++) {
        unit_earnest(&unit_earnest_cases[i], 0, 0);
        unit_earnest(&unit_earnest_cases[i], 0, 1);
        unit_earnest(&unit_earnest_cases[i], 1, 0);
        unit_earnest(&unit_earnest_cases[i], 1, 1);
    }
}


/*
 * A port of 0 is any, as BIND has it: "*" and a regex are for it as well, and
 * numbers are not.
 */

void
unit_rules_port_zero(void)
{
    ngx_int_t             rc;
    ngx_str_t             what;
    ngx_uint_t            i;
    ngx_tunnel_rules_t    rules;
    ngx_tunnel_target_t   t;

    static const struct {
        const char  *pattern;
        const char  *host;
        ngx_uint_t   matches;
    } cases[] = {
        { "*:*", "a.org", 1 },
        { "*:*", "0.0.0.0", 1 },
        { "*:*", "::", 1 },
        { "a.org:*", "a.org", 1 },
        { "a.org:*", "b.org", 0 },
        { ".org:*", "a.org", 1 },
        { "*.org:*", "a.org", 1 },
        { "[::1]:*", "::1", 1 },
        { "~^a\\.org:", "a.org", 1 },
        { "~^a\\.org:0$", "a.org", 1 },
        { "~^a\\.org:443$", "a.org", 0 },
        { "*:443", "a.org", 0 },
        { "*:1-65535", "a.org", 0 },
        { "a.org:443", "a.org", 0 }
    };

    for (i = 0; i < unit_nelts(cases); i++) {

        (void) ngx_tunnel_target_set(&t, (u_char *) cases[i].host,
                                     strlen(cases[i].host), 0);
        ngx_str_null(&what);

        unit_rules(&rules, cases[i].pattern, NULL, NULL, NULL);

        rc = ngx_tunnel_rules_check_target(&rules, &t, 0, &unit_errors, &what);

        unit_check(rc == (cases[i].matches ? NGX_OK : NGX_DECLINED),
                   "allow %s: %s, port 0: %ld", cases[i].pattern,
                   cases[i].host, rc);

        unit_rules(&rules, NULL, cases[i].pattern, NULL, NULL);

        rc = ngx_tunnel_rules_check_target(&rules, &t, 1, &unit_errors, &what);

        unit_check(rc == (cases[i].matches ? NGX_DECLINED : NGX_OK),
                   "deny %s: %s, port 0: %ld", cases[i].pattern,
                   cases[i].host, rc);

        unit_rules(&rules, NULL, NULL, NULL, NULL);

        rc = ngx_tunnel_rules_check_target(&rules, &t, 0, &unit_errors, &what);

        unit_check(rc == NGX_ABORT, "by default: %s, port 0: %ld",
                   cases[i].host, rc);
    }
}


/* a directive without memory is an error, at whichever allocation it ends */

void
unit_rules_memory(void)
{
    char                *rv;
    ngx_uint_t           i, k, failed;
    ngx_conf_t           cf;
    ngx_str_t           *value;
    ngx_tunnel_rules_t   rules;

    static const struct {
        ngx_command_t   *cmd;
        const char      *arg;
    } cases[] = {
        { &unit_allow, "*:443" },
        { &unit_allow, "a.org:443" },
        { &unit_allow, "*.a.org:443" },
        { &unit_deny, "~^(a|b)\\.org:443$" },
        { &unit_deny_address, "10.0.0.0/8" },
        { &unit_allow_address, "all" }
    };

    for (k = 0; k < unit_nelts(cases); k++) {

        ngx_memzero(&cf, sizeof(ngx_conf_t));
        cf.pool = unit_pool;
        cf.log = &unit_errors;
        cf.args = ngx_array_create(unit_pool, 10, sizeof(ngx_str_t));

        /* more than the array has room for at first */

        for (i = 0; i < 10; i++) {
            value = ngx_array_push(cf.args);
            value->len = strlen(cases[k].arg);
            value->data = unit_copy(cases[k].arg, value->len + 1);
        }

        for (i = 1, failed = 0; i < 500; i++) {

            ngx_tunnel_rules_create(&rules);

            unit_alloc_fail = i;
            unit_alloc_failed = 0;

            rv = cases[k].cmd->set(&cf, cases[k].cmd, &rules);

            unit_alloc_fail = 0;

            unit_check(rv == (unit_alloc_failed ? NGX_CONF_ERROR
                                                : NGX_CONF_OK),
                       "%s: allocation %lu", cases[k].arg, i);

            if (rv == NGX_CONF_OK) {
                break;
            }

            failed++;
        }

        unit_check(failed > 5 && failed < 499, "%s: %lu allocations",
                   cases[k].arg, failed);
    }
}
