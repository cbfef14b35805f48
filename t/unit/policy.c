
/*
 * Policy: the directives that are a time, a size, a rate, or a choice; what
 * levels inherit, and what variables give.
 */


#include "unit.h"


#define UNIT_TIME    "\"off\" or a time, such as 500ms, 10s, 5m, or 1h"
#define UNIT_BYTES   "\"off\" or a number of bytes, such as 1000, 64k, 10m, " \
                     "or 1g"
#define UNIT_WINDOW  "window= and a time of 1s or more"

/* ten years, the longest time */

#define UNIT_MAX_TIME  315360000000

#define UNIT_MAX_OFF   NGX_MAX_OFF_T_VALUE


/* as in the configuration of a front end, where it is not the first member */

typedef struct {
    ngx_uint_t                before;
    ngx_tunnel_policy_conf_t  policy;
    ngx_uint_t                after;
} unit_conf_t;


#define unit_policy_command(name, set)                                        \
    { ngx_string(name), 0, set, 0, offsetof(unit_conf_t, policy),             \
      &unit_layer }


static ngx_command_t  unit_commands[] = {
    unit_policy_command("relay_idle_timeout", ngx_tunnel_policy_slot),
    unit_policy_command("relay_send_timeout", ngx_tunnel_policy_slot),
    unit_policy_command("relay_max_lifetime", ngx_tunnel_policy_slot),
    unit_policy_command("relay_min_rate", ngx_tunnel_policy_min_rate),
    unit_policy_command("relay_max_rate", ngx_tunnel_policy_slot),
    unit_policy_command("relay_upload_rate", ngx_tunnel_policy_slot),
    unit_policy_command("relay_download_rate", ngx_tunnel_policy_slot),
    unit_policy_command("relay_max_payload", ngx_tunnel_policy_max_payload),
    unit_policy_command("target_proxy_protocol", ngx_tunnel_policy_slot),
    unit_policy_command("target_require_tls", ngx_tunnel_policy_slot),

    { ngx_string("relay_splice"), 0, ngx_tunnel_conf_enum_slot, 0,
      offsetof(unit_conf_t, policy.policy.splice), ngx_tunnel_splice },

    ngx_null_command
};


#define unit_index(member)                                                    \
    (offsetof(ngx_tunnel_policy_t, member) / sizeof(off_t))

#define unit_value(conf, member)                                              \
    ((conf)->policy.policy.member)


static const char  *unit_members[] = {
    "idle_timeout", "send_timeout", "max_lifetime", "min_rate",
    "min_rate_window", "min_rate_grace", "max_rate", "upload_rate",
    "download_rate", "max_payload", "max_upload", "max_download",
    "proxy_protocol", "require_tls"
};

/* of each, in the same order */

static const off_t  unit_defaults[] = {
    600000, 0, 0, 0, 60000, -1, 0, -1, -1, 0, 0, 0, 0, 0
};


static void
unit_create(unit_conf_t *conf)
{
    ngx_memset(conf, 0xa5, sizeof(unit_conf_t));

    ngx_tunnel_policy_create(&conf->policy);
}


/* a directive with its arguments, as one text */

static char *
unit_line(unit_conf_t *conf, const char *line)
{
    char           *rv;
    size_t          len;
    ngx_uint_t      before;
    ngx_command_t  *cmd;

    len = strcspn(line, " ");

    for (cmd = unit_commands; cmd->name.len; cmd++) {

        if (cmd->name.len == len && memcmp(cmd->name.data, line, len) == 0) {
            break;
        }
    }

    if (cmd->name.len == 0) {
        abort();
    }

    before = conf->before;

    unit_log_clear();

    rv = unit_directive(conf, cmd, line + len + strspn(line + len, " "));

    unit_check(conf->before == before && conf->after == before,
               "%s: wrote elsewhere", line);

    return rv;
}


static void
unit_line_ok(unit_conf_t *conf, const char *line)
{
    char  *rv;

    rv = unit_line(conf, line);

    unit_check(rv == NGX_CONF_OK && unit_log_level == 0, "%s: %s", line,
               rv == NGX_CONF_OK || rv == NGX_CONF_ERROR ? unit_log : rv);
}


/* a level of configuration: lines, up to NULL, and what it inherits */

static void
unit_level(unit_conf_t *conf, unit_conf_t *prev, ...)
{
    va_list       args;
    const char   *line;
    unit_conf_t   none;

    if (prev == NULL) {
        unit_create(&none);
        prev = &none;
    }

    unit_create(conf);

    va_start(args, prev);

    while ((line = va_arg(args, const char *)) != NULL) {
        unit_line_ok(conf, line);
    }

    va_end(args);

    unit_check(ngx_tunnel_policy_merge(NULL, &conf->policy, &prev->policy)
               == NGX_CONF_OK, "merge: %s", unit_log);
}


static off_t
unit_nth(unit_conf_t *conf, ngx_uint_t i)
{
    return ((off_t *) &conf->policy.policy)[i];
}


/* that all values but some, up to -1, are the defaults */

static void
unit_others(unit_conf_t *conf, const char *what, ...)
{
    int         k;
    va_list     args;
    ngx_uint_t  i, skip[NGX_TUNNEL_POLICY_VALUES];

    ngx_memzero(skip, sizeof(skip));

    va_start(args, what);

    while ((k = va_arg(args, int)) != -1) {
        skip[k] = 1;
    }

    va_end(args);

    for (i = 0; i < NGX_TUNNEL_POLICY_VALUES; i++) {
        unit_check(skip[i] || (unit_nth(conf, i) == unit_defaults[i]
                               && conf->policy.compiled[i] == NULL),
                   "%s: %s is %ld", what, unit_members[i], unit_nth(conf, i));
    }
}


void
unit_policy_defaults(void)
{
    unit_conf_t  conf;

    unit_check(unit_nelts(unit_members) == NGX_TUNNEL_POLICY_VALUES
               && unit_nelts(unit_defaults) == NGX_TUNNEL_POLICY_VALUES,
               "a value was added, and has to be to this test");

    unit_check(unit_index(buffer_size) == NGX_TUNNEL_POLICY_VALUES,
               "the values are not the first members");

    unit_level(&conf, NULL, NULL);

    unit_others(&conf, "nothing set", -1);

    unit_check(unit_value(&conf, buffer_size) == 65536, "buffer_size");
    unit_check(unit_value(&conf, half_close) == 1, "half_close");
    unit_check(unit_value(&conf, keepalive) == 0, "keepalive");
    unit_check(unit_value(&conf, splice) == NGX_TUNNEL_SPLICE_AUTO, "splice");
    unit_check(unit_value(&conf, preread_timeout) == 2000, "preread_timeout");
    unit_check(conf.policy.quotas == NULL, "quotas");
    unit_check(conf.policy.ncompiled == 0, "compiled");
}


/* constants */

void
unit_policy_values(void)
{
    ngx_uint_t   i, k;
    unit_conf_t  conf;

    static const struct {
        const char  *line;
        ngx_uint_t   index;
        off_t        value;
    } cases[] = {
        { "relay_idle_timeout 10s", unit_index(idle_timeout), 10000 },
        { "relay_idle_timeout 1", unit_index(idle_timeout), 1000 },
        { "relay_idle_timeout 0", unit_index(idle_timeout), 0 },
        { "relay_idle_timeout 0s", unit_index(idle_timeout), 0 },
        { "relay_idle_timeout off", unit_index(idle_timeout), 0 },
        { "relay_idle_timeout 1ms", unit_index(idle_timeout), 1 },
        { "relay_idle_timeout 500ms", unit_index(idle_timeout), 500 },
        { "relay_idle_timeout 1h30m", unit_index(idle_timeout), 5400000 },
        { "relay_idle_timeout 1d", unit_index(idle_timeout), 86400000 },
        { "relay_idle_timeout 3649d", unit_index(idle_timeout),
          UNIT_MAX_TIME - 86400000 },
        { "relay_idle_timeout 3650d", unit_index(idle_timeout),
          UNIT_MAX_TIME },
        { "relay_idle_timeout 3651d", unit_index(idle_timeout),
          UNIT_MAX_TIME },
        { "relay_idle_timeout 9223372036854775s", unit_index(idle_timeout),
          UNIT_MAX_TIME },
        { "relay_idle_timeout 9223372036854775807ms",
          unit_index(idle_timeout), UNIT_MAX_TIME },
        { "relay_send_timeout 7s", unit_index(send_timeout), 7000 },
        { "relay_send_timeout off", unit_index(send_timeout), 0 },
        { "relay_max_lifetime 100s", unit_index(max_lifetime), 100000 },
        { "relay_max_lifetime off", unit_index(max_lifetime), 0 },
        { "relay_max_lifetime 99999w", unit_index(max_lifetime),
          UNIT_MAX_TIME },

        { "relay_max_rate 10k", unit_index(max_rate), 10240 },
        { "relay_max_rate 10K", unit_index(max_rate), 10240 },
        { "relay_max_rate 1", unit_index(max_rate), 1 },
        { "relay_max_rate 0", unit_index(max_rate), 0 },
        { "relay_max_rate off", unit_index(max_rate), 0 },
        { "relay_max_rate 1m", unit_index(max_rate), 1048576 },
        { "relay_max_rate 2G", unit_index(max_rate), (off_t) 1 << 31 },
        { "relay_max_rate 1024g", unit_index(max_rate), (off_t) 1 << 40 },
        { "relay_max_rate 9223372036854775807", unit_index(max_rate),
          UNIT_MAX_OFF },
        { "relay_upload_rate 1k", unit_index(upload_rate), 1024 },
        { "relay_upload_rate off", unit_index(upload_rate), 0 },
        { "relay_upload_rate 0", unit_index(upload_rate), 0 },
        { "relay_download_rate 3000", unit_index(download_rate), 3000 },
        { "relay_download_rate off", unit_index(download_rate), 0 },

        { "relay_max_payload 100m", unit_index(max_payload), 104857600 },
        { "relay_max_payload 1", unit_index(max_payload), 1 },
        { "relay_max_payload off", unit_index(max_payload), 0 },
        { "relay_max_payload 0", unit_index(max_payload), 0 },
        { "relay_max_payload 8589934591g", unit_index(max_payload),
          8589934591 << 30 },
        { "relay_max_payload 9223372036854775807", unit_index(max_payload),
          UNIT_MAX_OFF },
        { "relay_max_payload 5g upload", unit_index(max_upload),
          (off_t) 5 << 30 },
        { "relay_max_payload off upload", unit_index(max_upload), 0 },
        { "relay_max_payload 7 download", unit_index(max_download), 7 },

        { "target_proxy_protocol off", unit_index(proxy_protocol), 0 },
        { "target_proxy_protocol on", unit_index(proxy_protocol), 1 },
        { "target_proxy_protocol V2", unit_index(proxy_protocol), 2 },
        { "target_require_tls off", unit_index(require_tls),
          NGX_TUNNEL_TLS_OFF },
        { "target_require_tls on", unit_index(require_tls),
          NGX_TUNNEL_TLS_ON },
        { "target_require_tls sni", unit_index(require_tls),
          NGX_TUNNEL_TLS_SNI },

        { "relay_min_rate 1000", unit_index(min_rate), 1000 },
        { "relay_min_rate 1k", unit_index(min_rate), 1024 },
        { "relay_min_rate 1", unit_index(min_rate), 1 },
        { "relay_min_rate off", unit_index(min_rate), 0 },
        { "relay_min_rate 0", unit_index(min_rate), 0 },

        /* no product with a window may overflow */

        { "relay_min_rate 1023g", unit_index(min_rate),
          ((off_t) 1 << 40) - ((off_t) 1 << 30) },
        { "relay_min_rate 1024g", unit_index(min_rate), (off_t) 1 << 40 },
        { "relay_min_rate 1025g", unit_index(min_rate), (off_t) 1 << 40 },
        { "relay_min_rate 9223372036854775807", unit_index(min_rate),
          (off_t) 1 << 40 }
    };

    static const struct {
        const char  *line;
        off_t        rate, window, grace;
    } rates[] = {
        { "relay_min_rate 5", 5, 60000, -1 },
        { "relay_min_rate 5 window=1s", 5, 1000, -1 },
        { "relay_min_rate 5 window=1000ms", 5, 1000, -1 },
        { "relay_min_rate 5 window=1", 5, 1000, -1 },
        { "relay_min_rate 5 window=10m", 5, 600000, -1 },
        { "relay_min_rate 5 window=99999w", 5, UNIT_MAX_TIME, -1 },
        { "relay_min_rate 5 grace=2s", 5, 60000, 2000 },
        { "relay_min_rate 5 grace=1ms", 5, 60000, 1 },
        { "relay_min_rate 5 grace=0", 5, 60000, 0 },
        { "relay_min_rate 5 grace=off", 5, 60000, 0 },
        { "relay_min_rate 5 window=3s grace=2s", 5, 3000, 2000 },
        { "relay_min_rate 5 grace=2s window=3s", 5, 3000, 2000 },
        { "relay_min_rate off window=3s grace=2s", 0, 3000, 2000 },
        { "relay_min_rate 5 grace=99999w", 5, 60000, UNIT_MAX_TIME }
    };

    for (i = 0; i < unit_nelts(cases); i++) {

        unit_level(&conf, NULL, cases[i].line, NULL);

        k = cases[i].index;

        unit_check(unit_nth(&conf, k) == cases[i].value, "%s: %ld",
                   cases[i].line, unit_nth(&conf, k));

        unit_others(&conf, cases[i].line, (int) k, -1);
    }

    for (i = 0; i < unit_nelts(rates); i++) {

        unit_level(&conf, NULL, rates[i].line, NULL);

        unit_check(unit_value(&conf, min_rate) == rates[i].rate
                   && unit_value(&conf, min_rate_window) == rates[i].window
                   && unit_value(&conf, min_rate_grace) == rates[i].grace,
                   "%s: %ld, %ld, %ld", rates[i].line,
                   unit_value(&conf, min_rate),
                   unit_value(&conf, min_rate_window),
                   unit_value(&conf, min_rate_grace));

        unit_others(&conf, rates[i].line, (int) unit_index(min_rate),
                    (int) unit_index(min_rate_window),
                    (int) unit_index(min_rate_grace), -1);
    }

    /* each once, in any order */

    unit_level(&conf, NULL, "relay_max_payload 3 download",
               "relay_max_payload 1", "relay_max_payload 2 upload", NULL);

    unit_check(unit_value(&conf, max_payload) == 1
               && unit_value(&conf, max_upload) == 2
               && unit_value(&conf, max_download) == 3, "all three payloads");

    /* names of values in any case, as those of nginx */

    unit_level(&conf, NULL, "relay_splice on", NULL);
    unit_check(unit_value(&conf, splice) == NGX_TUNNEL_SPLICE_ON, "on");
    unit_level(&conf, NULL, "relay_splice off", NULL);
    unit_check(unit_value(&conf, splice) == NGX_TUNNEL_SPLICE_OFF, "off");
    unit_level(&conf, NULL, "relay_splice AUTO", NULL);
    unit_check(unit_value(&conf, splice) == NGX_TUNNEL_SPLICE_AUTO, "auto");
}


void
unit_policy_errors(void)
{
    char          *rv, buf[256], expected[512];
    ngx_uint_t     i, k, n;
    unit_conf_t    conf;
    const char    *line, *end, **values;

    static const char  *times[] = {
        "''", "x", "-1", "-1s", "+1s", "1x", "1s1h", "1.5s", "s",
        "ms", "1y", "Off", "of", "offf", "on", "1k", "inf", "0x10",
        "9223372036854775808ms", "9223372036854776s", "99999999999999999999",
        "1000000000000000w"
    };

    static const char  *sizes[] = {
        "''", "x", "-1", "+1", "1.5k", "k", "m", "g", "1kk", "1t", "1kb",
        "10s", "Off", "of", "offf", "0x10", "1ms",
        "9223372036854775808", "8589934592g", "9007199254740992k",
        "99999999999999999999999999"
    };

    static const struct {
        const char  *line;
        const char  *allowed;      /* after the directive's name */
    } directives[] = {
        { "relay_idle_timeout %s", UNIT_TIME },
        { "relay_send_timeout %s", UNIT_TIME },
        { "relay_max_lifetime %s", UNIT_TIME },
        { "relay_min_rate 5 grace=%s", UNIT_TIME },
        { "relay_min_rate 5 window=2s grace=%s", UNIT_TIME },
        { "relay_min_rate 5 window=%s", UNIT_WINDOW },
        { "relay_min_rate %s", UNIT_BYTES },
        { "relay_min_rate %s window=2s", UNIT_BYTES },
        { "relay_max_rate %s", UNIT_BYTES },
        { "relay_upload_rate %s", UNIT_BYTES },
        { "relay_download_rate %s", UNIT_BYTES },
        { "relay_max_payload %s", UNIT_BYTES },
        { "relay_max_payload %s upload", UNIT_BYTES },
        { "relay_max_payload %s download", UNIT_BYTES }
    };

    /* what else may be wrong: the value that is said, and what is allowed */

    static const struct {
        const char  *line;
        const char  *value;
        const char  *allowed;
    } others[] = {
        { "relay_min_rate 5 window=999ms", "999ms", UNIT_WINDOW },
        { "relay_min_rate 5 window=0", "0", UNIT_WINDOW },
        { "relay_min_rate 5 window=off", "off", UNIT_WINDOW },
        { "relay_min_rate 5 1m", "1m", "window=time or grace=time" },
        { "relay_min_rate 5 window", "window", "window=time or grace=time" },
        { "relay_min_rate 5 Window=1m", "Window=1m",
          "window=time or grace=time" },
        { "relay_min_rate 5 ''", "", "window=time or grace=time" },
        { "relay_min_rate 5 grace=1s x=1", "x=1",
          "window=time or grace=time" },
        { "relay_max_payload 5 up", "up", "\"upload\" or \"download\"" },
        { "relay_max_payload 5 uploads", "uploads",
          "\"upload\" or \"download\"" },
        { "relay_max_payload 5 Upload", "Upload",
          "\"upload\" or \"download\"" },
        { "relay_max_payload 5 ''", "", "\"upload\" or \"download\"" },
        { "relay_splice yes", "yes", "\"auto\" or \"on\" or \"off\"" },
        { "relay_splice ''", "", "\"auto\" or \"on\" or \"off\"" },
        { "relay_splice autos", "autos", "\"auto\" or \"on\" or \"off\"" },
        { "target_require_tls yes", "yes", "\"off\" or \"on\" or \"sni\"" },
        { "target_require_tls ''", "", "\"off\" or \"on\" or \"sni\"" },
        { "target_require_tls 1", "1", "\"off\" or \"on\" or \"sni\"" },
        { "target_proxy_protocol v1", "v1", "\"off\" or \"on\" or \"v2\"" },
        { "target_proxy_protocol v22", "v22", "\"off\" or \"on\" or \"v2\"" }
    };

    /* a value twice is one too many, whatever it is */

    static const char  *twice[][2] = {
        { "relay_idle_timeout 10s", "relay_idle_timeout 10s" },
        { "relay_idle_timeout off", "relay_idle_timeout $v" },
        { "relay_idle_timeout $v", "relay_idle_timeout 10s" },
        { "relay_max_rate $v", "relay_max_rate $v" },
        { "relay_max_payload 5", "relay_max_payload 6" },
        { "relay_max_payload 5 upload", "relay_max_payload 6 upload" },
        { "relay_max_payload 5 download", "relay_max_payload $v download" },
        { "relay_min_rate 5", "relay_min_rate 5" },
        { "relay_min_rate 5", "relay_min_rate 5 window=1s" },
        { "relay_splice on", "relay_splice off" },
        { "target_require_tls on", "target_require_tls $v" },
        { "target_proxy_protocol $v", "target_proxy_protocol off" },
        { NULL, "relay_min_rate 5 window=1s window=1s" },
        { NULL, "relay_min_rate 5 grace=1s grace=$v" }
    };

    for (i = 0; i < unit_nelts(directives); i++) {

        line = directives[i].line;
        end = strchr(line, '%');

        if (strcmp(directives[i].allowed, UNIT_BYTES) == 0) {
            values = sizes;
            n = unit_nelts(sizes);

        } else {
            values = times;
            n = unit_nelts(times);
        }

        for (k = 0; k < n; k++) {

            /* an argument of its own, or a part of one */

            if (end[-1] == '=' && strcmp(values[k], "''") == 0) {
                snprintf(buf, sizeof(buf), "%.*s", (int) (end - line), line);

            } else {
                snprintf(buf, sizeof(buf), "%.*s%s%s", (int) (end - line),
                         line, values[k], end + 2);
            }

            unit_create(&conf);
            rv = unit_line(&conf, buf);

            snprintf(expected, sizeof(expected),
                     "invalid value \"%s\" in \"%.*s\" directive, "
                     "it must be %s",
                     strcmp(values[k], "''") ? values[k] : "",
                     (int) strcspn(line, " "), line, directives[i].allowed);

            unit_check(rv == NGX_CONF_ERROR && unit_log_level == NGX_LOG_EMERG
                       && strcmp(unit_log, expected) == 0,
                       "%s: %s", buf, unit_log);
        }
    }

    for (i = 0; i < unit_nelts(others); i++) {
        line = others[i].line;

        unit_create(&conf);
        rv = unit_line(&conf, line);

        snprintf(expected, sizeof(expected),
                 "invalid value \"%s\" in \"%.*s\" directive, it must be %s",
                 others[i].value, (int) strcspn(line, " "), line,
                 others[i].allowed);

        unit_check(rv == NGX_CONF_ERROR && unit_log_level == NGX_LOG_EMERG
                   && strcmp(unit_log, expected) == 0,
                   "%s: %s", line, unit_log);
    }

    for (i = 0; i < unit_nelts(twice); i++) {
        unit_create(&conf);

        if (twice[i][0]) {
            unit_line_ok(&conf, twice[i][0]);
        }

        rv = unit_line(&conf, twice[i][1]);

        unit_check(rv && rv != NGX_CONF_ERROR
                   && strcmp(rv, "is duplicate") == 0,
                   "%s after %s", twice[i][1], twice[i][0]);
    }
}


/* the last check of a level is that of the buffer's size */

void
unit_policy_buffer_size(void)
{
    char         *rv;
    ngx_uint_t    i;
    unit_conf_t   conf, outer, none;

    static const struct {
        size_t       size;
        ngx_uint_t   ok;
    } cases[] = {
        { 0, 0 }, { 1, 0 }, { 1023, 0 }, { 1024, 1 }, { 65536, 1 },
        { 16777216, 1 }, { 16777217, 0 }, { (size_t) -2, 0 }
    };

    for (i = 0; i < unit_nelts(cases); i++) {

        unit_create(&none);
        unit_create(&conf);
        unit_value(&conf, buffer_size) = cases[i].size;

        unit_log_clear();

        rv = ngx_tunnel_policy_merge(NULL, &conf.policy, &none.policy);

        unit_check(rv == (cases[i].ok ? NGX_CONF_OK : NGX_CONF_ERROR),
                   "%zu: %s", cases[i].size, unit_log);

        unit_check(cases[i].ok ? unit_log_level == 0
                   : unit_log_level == NGX_LOG_EMERG
                     && strstr(unit_log, "must be from 1k to 16m") != NULL
                     && strstr(unit_log, "\"relay_buffer_size\"") != NULL,
                   "%zu: %s", cases[i].size, unit_log);
    }

    unit_level(&outer, NULL, NULL);
    unit_value(&outer, buffer_size) = 4096;
    unit_level(&conf, &outer, NULL);

    unit_check(unit_value(&conf, buffer_size) == 4096, "inherited");
}


void
unit_policy_inheritance(void)
{
    ngx_uint_t   i;
    unit_conf_t  http, server, location, other;

    /* all of one level, and nothing on the next ones */

    unit_create(&http);

    unit_line_ok(&http, "relay_idle_timeout 1s");
    unit_line_ok(&http, "relay_send_timeout 2s");
    unit_line_ok(&http, "relay_max_lifetime 3s");
    unit_line_ok(&http, "relay_min_rate 4 window=5s grace=6s");
    unit_line_ok(&http, "relay_max_rate 7");
    unit_line_ok(&http, "relay_upload_rate 8");
    unit_line_ok(&http, "relay_download_rate $v");
    unit_line_ok(&http, "relay_max_payload 10");
    unit_line_ok(&http, "relay_max_payload 11 upload");
    unit_line_ok(&http, "relay_max_payload 12 download");
    unit_line_ok(&http, "target_proxy_protocol v2");
    unit_line_ok(&http, "target_require_tls sni");
    unit_line_ok(&http, "relay_splice off");
    unit_value(&http, half_close) = 0;
    unit_value(&http, keepalive) = 1;
    unit_value(&http, buffer_size) = 2048;
    http.policy.quotas = (ngx_array_t *) &http;

    unit_level(&server, &http, NULL);
    unit_level(&location, &server, NULL);

    for (i = 0; i < NGX_TUNNEL_POLICY_VALUES; i++) {

        unit_check(unit_nth(&location, i) == unit_nth(&http, i)
                   && location.policy.compiled[i] == http.policy.compiled[i],
                   "%s is inherited", unit_members[i]);
    }

    unit_check(location.policy.compiled[unit_index(download_rate)] != NULL
               && location.policy.ncompiled == 1, "a variable is inherited");
    unit_check(unit_value(&location, splice) == NGX_TUNNEL_SPLICE_OFF
               && unit_value(&location, half_close) == 0
               && unit_value(&location, keepalive) == 1
               && unit_value(&location, buffer_size) == 2048
               && location.policy.quotas == http.policy.quotas,
               "switches and quotas are inherited");

    /* each replaces only itself; "off" is a value, too */

    unit_level(&location, &server, "relay_idle_timeout off",
               "relay_max_rate 70", "relay_download_rate 90", NULL);

    unit_check(unit_value(&location, idle_timeout) == 0
               && unit_value(&location, send_timeout) == 2000
               && unit_value(&location, max_lifetime) == 3000
               && unit_value(&location, max_rate) == 70
               && unit_value(&location, upload_rate) == 8
               && unit_value(&location, download_rate) == 90
               && unit_value(&location, max_payload) == 10,
               "some are replaced");
    unit_check(location.policy.ncompiled == 0
               && location.policy.compiled[unit_index(download_rate)] == NULL,
               "a constant replaces a variable");

    unit_level(&location, &server, "relay_idle_timeout $v", NULL);

    unit_check(location.policy.compiled[unit_index(idle_timeout)] != NULL
               && location.policy.ncompiled == 2,
               "a variable replaces a constant");

    /* those of one directive are one */

    unit_level(&location, &server, "relay_min_rate 40", NULL);

    unit_check(unit_value(&location, min_rate) == 40
               && unit_value(&location, min_rate_window) == 60000
               && unit_value(&location, min_rate_grace) == -1,
               "relay_min_rate replaces its parameters");

    unit_level(&location, &server, "relay_min_rate off", NULL);

    unit_check(unit_value(&location, min_rate) == 0
               && unit_value(&location, min_rate_window) == 60000
               && unit_value(&location, min_rate_grace) == -1,
               "relay_min_rate off");

    unit_level(&location, &server, "relay_min_rate $v grace=2s", NULL);

    unit_check(location.policy.compiled[unit_index(min_rate)] != NULL
               && unit_value(&location, min_rate_window) == 60000
               && unit_value(&location, min_rate_grace) == 2000
               && unit_value(&location, max_rate) == 7,
               "relay_min_rate with a variable");

    unit_level(&location, &server, "relay_max_payload 20 upload", NULL);

    unit_check(unit_value(&location, max_payload) == 0
               && unit_value(&location, max_upload) == 20
               && unit_value(&location, max_download) == 0,
               "one relay_max_payload replaces all three");

    unit_level(&location, &server, "relay_max_payload $v", NULL);

    unit_check(location.policy.compiled[unit_index(max_payload)] != NULL
               && unit_value(&location, max_upload) == 0
               && unit_value(&location, max_download) == 0,
               "relay_max_payload with a variable replaces all three");

    /* a group with a variable is inherited, and replaced as a whole */

    unit_level(&other, NULL, "relay_min_rate 5 window=$v grace=2s",
               "relay_max_payload $v download", NULL);
    unit_level(&location, &other, NULL);

    unit_check(location.policy.compiled[unit_index(min_rate_window)] != NULL
               && location.policy.compiled[unit_index(max_download)] != NULL
               && location.policy.ncompiled == 2
               && unit_value(&location, min_rate) == 5
               && unit_value(&location, min_rate_grace) == 2000
               && unit_value(&location, max_payload) == 0,
               "groups with variables are inherited");

    unit_level(&location, &other, "relay_min_rate 6",
               "relay_max_payload 7", NULL);

    unit_check(location.policy.ncompiled == 0
               && location.policy.compiled[unit_index(min_rate_window)] == NULL
               && location.policy.compiled[unit_index(max_download)] == NULL
               && unit_value(&location, min_rate_window) == 60000
               && unit_value(&location, max_download) == 0,
               "groups with variables are replaced");

    /* and no level changes the one above it */

    unit_check(unit_value(&server, idle_timeout) == 1000
               && unit_value(&server, min_rate) == 4
               && unit_value(&server, min_rate_window) == 5000
               && unit_value(&server, min_rate_grace) == 6000
               && unit_value(&server, max_payload) == 10
               && unit_value(&server, max_upload) == 11
               && unit_value(&server, max_download) == 12
               && server.policy.ncompiled == 1
               && http.policy.compiled[unit_index(idle_timeout)] == NULL,
               "levels above");
}


static ngx_tunnel_policy_t *
unit_eval(unit_conf_t *conf)
{
    unit_log_clear();

    return ngx_tunnel_policy_eval(&conf->policy, &unit_layer, &unit_layer,
                                  unit_pool, &unit_errors);
}


void
unit_policy_eval(void)
{
    char                  text[256];
    off_t                 n;
    ngx_uint_t            i, k;
    unit_conf_t           conf;
    ngx_tunnel_policy_t  *policy, before;

    /* lines of one variable, $v, what it is for, and what its default is */

    static const struct {
        const char  *line;
        const char  *name;         /* in messages */
        ngx_uint_t   index;
        ngx_uint_t   bytes;
    } lines[] = {
        { "relay_idle_timeout $v", "relay_idle_timeout",
          unit_index(idle_timeout), 0 },
        { "relay_send_timeout $v", "relay_send_timeout",
          unit_index(send_timeout), 0 },
        { "relay_max_lifetime $v", "relay_max_lifetime",
          unit_index(max_lifetime), 0 },
        { "relay_min_rate 5 grace=$v", "relay_min_rate grace=",
          unit_index(min_rate_grace), 0 },
        { "relay_min_rate $v", "relay_min_rate", unit_index(min_rate), 1 },
        { "relay_max_rate $v", "relay_max_rate", unit_index(max_rate), 1 },
        { "relay_upload_rate $v", "relay_upload_rate",
          unit_index(upload_rate), 1 },
        { "relay_download_rate $v", "relay_download_rate",
          unit_index(download_rate), 1 },
        { "relay_max_payload $v", "relay_max_payload",
          unit_index(max_payload), 1 },
        { "relay_max_payload $v upload", "relay_max_payload upload",
          unit_index(max_upload), 1 },
        { "relay_max_payload $v download", "relay_max_payload download",
          unit_index(max_download), 1 },
        { "relay_min_rate 5 window=$v", "relay_min_rate window=",
          unit_index(min_rate_window), 2 },
        { "target_proxy_protocol $v", "target_proxy_protocol",
          unit_index(proxy_protocol), 3 },
        { "target_require_tls $v", "target_require_tls",
          unit_index(require_tls), 4 }
    };

    static const struct {
        const char  *value;
        off_t        n[5];         /* as a time, bytes, a window, and the two
                                      choices; -2: none */
    } values[] = {
        { "10", { 10000, 10, 10000, -2, -2 } },
        { "1s", { 1000, -2, 1000, -2, -2 } },
        { "999ms", { 999, -2, -2, -2, -2 } },
        { "2k", { -2, 2048, -2, -2, -2 } },
        { "off", { 0, 0, -2, 0, 0 } },
        { "0", { 0, 0, -2, -2, -2 } },
        { "-1", { -2, -2, -2, -2, -2 } },
        { "Off", { -2, -2, -2, 0, 0 } },
        { "off ", { -2, -2, -2, -2, -2 } },
        { "of", { -2, -2, -2, -2, -2 } },
        { "x", { -2, -2, -2, -2, -2 } },
        { "$v", { -2, -2, -2, -2, -2 } },
        { "1m", { 60000, 1048576, 60000, -2, -2 } },
        { "99999w", { UNIT_MAX_TIME, -2, UNIT_MAX_TIME, -2, -2 } },
        { "1g", { -2, (off_t) 1 << 30, -2, -2, -2 } },
        { "9223372036854775808", { -2, -2, -2, -2, -2 } },
        { "on", { -2, -2, -2, 1, NGX_TUNNEL_TLS_ON } },
        { "v2", { -2, -2, -2, 2, -2 } },
        { "sni", { -2, -2, -2, -2, NGX_TUNNEL_TLS_SNI } },
        { "snip", { -2, -2, -2, -2, -2 } }
    };

    for (i = 0; i < unit_nelts(lines); i++) {

        unit_level(&conf, NULL, lines[i].line, NULL);

        unit_check(conf.policy.ncompiled == 1, "%s: %lu compiled",
                   lines[i].line, conf.policy.ncompiled);

        before = conf.policy.policy;

        for (k = 0; k < unit_nelts(values); k++) {
            n = values[k].n[lines[i].bytes];

            unit_variable = values[k].value;
            policy = unit_eval(&conf);

            if (n != -2) {
                unit_check(policy != NULL
                           && ((off_t *) policy)[lines[i].index] == n
                           && unit_log_level == 0,
                           "%s, \"%s\": %ld, %s", lines[i].line,
                           unit_variable,
                           policy ? ((off_t *) policy)[lines[i].index] : -3,
                           unit_log);

            } else {
                snprintf(text, sizeof(text), "invalid \"%s\" value \"%s\"",
                         lines[i].name, unit_variable);

                unit_check(policy == NULL && unit_log_level == NGX_LOG_ERR
                           && strcmp(unit_log, text) == 0,
                           "%s, \"%s\": %s", lines[i].line, unit_variable,
                           unit_log);
            }
        }

        /* empty is the default, also of those for which that is not 0 */

        unit_variable = "";
        policy = unit_eval(&conf);

        unit_check(policy != NULL
                   && ((off_t *) policy)[lines[i].index]
                      == unit_defaults[lines[i].index]
                   && unit_log_level == 0,
                   "%s, empty: %s", lines[i].line, unit_log);

        /* the front end could not evaluate it */

        unit_variable = NULL;
        unit_check(unit_eval(&conf) == NULL, "%s, failed", lines[i].line);

        /* nothing of that is in the configuration, which is others' as well */

        unit_check(memcmp(&before, &conf.policy.policy, sizeof(before)) == 0,
                   "%s: changed the configuration", lines[i].line);
    }

    /* constants are not copied, and need no layer */

    unit_level(&conf, NULL, "relay_idle_timeout 1s", "relay_max_rate 10",
               NULL);

    unit_evaluated = 0;
    unit_alloc_fail = 1;
    policy = unit_eval(&conf);
    unit_alloc_fail = 0;

    unit_check(policy == &conf.policy.policy && unit_evaluated == 0,
               "constants");

    /* constants beside variables */

    unit_level(&conf, NULL, "relay_idle_timeout 1s", "relay_max_rate a$v",
               "relay_max_payload $v$v upload", "relay_max_payload 9",
               "relay_send_timeout ${v}ms", "relay_splice on", NULL);

    unit_variable = "12";
    unit_check(unit_eval(&conf) == NULL
               && strstr(unit_log, "\"a12\"") != NULL, "text before: %s",
               unit_log);

    unit_level(&conf, NULL, "relay_idle_timeout 1s", "relay_max_rate 1$v",
               "relay_max_payload $v$v upload", "relay_max_payload 9",
               "relay_send_timeout ${v}ms", "relay_splice on", NULL);

    unit_evaluated = 0;
    policy = unit_eval(&conf);

    unit_check(policy && policy != &conf.policy.policy
               && policy->idle_timeout == 1000
               && policy->max_rate == 112
               && policy->max_upload == 1212
               && policy->max_payload == 9
               && policy->send_timeout == 12
               && policy->splice == NGX_TUNNEL_SPLICE_ON
               && policy->buffer_size == 65536
               && policy->half_close == 1
               && unit_evaluated == 3, "constants and variables");

    /* each tunnel has its own */

    unit_check(policy != unit_eval(&conf), "two tunnels, one policy");
}


/* the front end's compilation fails, or memory does */

void
unit_policy_memory(void)
{
    char                 *rv;
    ngx_uint_t            i, failed;
    unit_conf_t           conf;
    ngx_tunnel_policy_t  *policy;

    unit_compile_fails = 1;

    unit_create(&conf);
    rv = unit_line(&conf, "relay_max_rate $v");
    unit_check(rv == NGX_CONF_ERROR, "compilation fails: %s", unit_log);

    unit_create(&conf);
    rv = unit_line(&conf, "relay_min_rate 5 grace=$v");
    unit_check(rv == NGX_CONF_ERROR, "compilation fails: %s", unit_log);

    /* and is not asked for a constant */

    unit_create(&conf);
    unit_line_ok(&conf, "relay_max_rate 5");

    unit_compile_fails = 0;

    unit_level(&conf, NULL, "relay_max_rate $v", NULL);

    unit_variable = "5";

    for (i = 1, failed = 0; i < 100; i++) {

        unit_alloc_fail = i;
        unit_alloc_failed = 0;

        policy = unit_eval(&conf);

        unit_alloc_fail = 0;

        unit_check((policy == NULL) == (unit_alloc_failed != 0),
                   "allocation %lu", i);

        if (policy) {
            break;
        }

        failed++;
    }

    unit_check(failed > 0 && failed < 99, "%lu allocations", failed);
}
