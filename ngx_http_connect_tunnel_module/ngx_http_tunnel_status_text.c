
/*
 * Status: text that grows, and the three formats.
 */


#include "ngx_http_tunnel_status_module.h"

/* made of the page at configure time */
#include "ngx_http_tunnel_status_page.h"


/* a buffer, and the most that is added to one at once */

#define NGX_HTTP_TUNNEL_TEXT_BUFFER  32768
#define NGX_HTTP_TUNNEL_TEXT_ROOM    2048

/* targets that are shown */

#define NGX_HTTP_TUNNEL_STATUS_TOP   100


/* the values of a policy that limit a tunnel, in the order of its members */

typedef struct {
    const char  *name;                           /* NULL: is not shown */
    const char  *unit;                           /* of the page */
    ngx_uint_t   time;                           /* msec */
} ngx_http_tunnel_limit_t;


static const ngx_http_tunnel_limit_t  ngx_http_tunnel_limits[] = {
    { "idle_timeout", "s", 1 },
    { "send_timeout", "s", 1 },
    { "max_lifetime", "s", 1 },
    { "min_rate", "/min", 0 },
    { NULL, NULL, 0 },
    { NULL, NULL, 0 },
    { "max_rate", "/s", 0 },
    { "upload_rate", "/s", 0 },
    { "download_rate", "/s", 0 },
    { "max_payload", "", 0 },
    { "max_upload", "", 0 },
    { "max_download", "", 0 }
};


/* a number of ngx_tunnel_counters_t, as Prometheus has it */

typedef struct {
    const char  *name;
    const char  *type;
    const char  *help;
    size_t       offset;
} ngx_http_tunnel_metric_t;


static const ngx_http_tunnel_metric_t  ngx_http_tunnel_metrics[] = {

    { "active", "gauge", "Tunnels that are open.",
      offsetof(ngx_tunnel_counters_t, active) },

    { "connecting", "gauge", "Tunnels that are being opened.",
      offsetof(ngx_tunnel_counters_t, connecting) },

    { "memory_bytes", "gauge", "Memory of the pools of open tunnels.",
      offsetof(ngx_tunnel_counters_t, memory) },

    { "opened_total", "counter", "Tunnels that were opened.",
      offsetof(ngx_tunnel_counters_t, opened) },

    { "received_bytes_total", "counter", "Bytes received from clients.",
      offsetof(ngx_tunnel_counters_t, received) },

    { "sent_bytes_total", "counter", "Bytes sent to clients.",
      offsetof(ngx_tunnel_counters_t, sent) },

    { "spliced_bytes_total", "counter",
      "Bytes of both directions that were moved with splice().",
      offsetof(ngx_tunnel_counters_t, spliced) }
};


/* and histograms, in their order */

static const ngx_http_tunnel_metric_t  ngx_http_tunnel_distributions[] = {

    { "connect_seconds", "histogram",
      "Time until targets were connected.", 0 },

    { "resolve_seconds", "histogram",
      "Time until names were resolved.", 0 },

    { "first_byte_seconds", "histogram",
      "Time from the opening of tunnels to the first byte of the target.", 0 },

    { "lifetime_seconds", "histogram",
      "Time from the opening of tunnels to their end.", 0 },

    { "size_bytes", "histogram",
      "Bytes of both directions of tunnels that have ended.", 0 }
};


static void ngx_http_tunnel_text_room(ngx_http_tunnel_text_t *text,
    size_t size);
static size_t ngx_http_tunnel_text_char(u_char *p, size_t len);
static void ngx_http_tunnel_text_seconds(ngx_http_tunnel_text_t *text,
    uint64_t msec);
static void ngx_http_tunnel_text_value(ngx_http_tunnel_text_t *text,
    ngx_tunnel_histogram_e histogram, uint64_t value);
static void ngx_http_tunnel_json_string(ngx_http_tunnel_text_t *text,
    const char *name, u_char *p, size_t len);
static void ngx_http_tunnel_json_counters(ngx_http_tunnel_text_t *text,
    ngx_tunnel_counters_t *c);
static void ngx_http_tunnel_json_histogram(ngx_http_tunnel_text_t *text,
    ngx_tunnel_histogram_e histogram, ngx_tunnel_counters_t *c);
static void ngx_http_tunnel_json_nodes(ngx_http_tunnel_text_t *text,
    const char *name, const char *key, ngx_array_t *nodes, ngx_uint_t max);
static const ngx_str_t *ngx_http_tunnel_result_name(ngx_uint_t i);
static ngx_msec_t ngx_http_tunnel_since(ngx_msec_t time);

static void ngx_http_tunnel_metric(ngx_http_tunnel_text_t *text,
    const char *name, const char *type, const char *help);
static void ngx_http_tunnel_sample(ngx_http_tunnel_text_t *text,
    const char *name, ngx_tunnel_snapshot_series_t *series,
    const char *label, const ngx_str_t *value, uint64_t n);
static void ngx_http_tunnel_distribution(ngx_http_tunnel_text_t *text,
    ngx_uint_t i, ngx_tunnel_snapshot_series_t *series);
static void ngx_http_tunnel_gauges(ngx_http_tunnel_text_t *text,
    ngx_tunnel_snapshot_t *snap);
static void ngx_http_tunnel_keys(ngx_http_tunnel_text_t *text,
    ngx_array_t *keys);

static void ngx_http_tunnel_html_sums(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st);
static void ngx_http_tunnel_html_tunnels(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st);
static void ngx_http_tunnel_html_limits(ngx_http_tunnel_text_t *text,
    ngx_tunnel_live_t *live);
static void ngx_http_tunnel_html_size(ngx_http_tunnel_text_t *text,
    uint64_t n);


void
ngx_http_tunnel_text_init(ngx_http_tunnel_text_t *text, ngx_pool_t *pool)
{
    ngx_memzero(text, sizeof(ngx_http_tunnel_text_t));

    text->pool = pool;
    text->last = &text->first;
}


/* makes sure that there is room; a failure keeps what there is */

static void
ngx_http_tunnel_text_room(ngx_http_tunnel_text_t *text, size_t size)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = text->buf;

    if (b) {

        if ((size_t) (b->end - b->last) >= size) {
            return;
        }

        text->size += b->last - b->pos;
    }

    b = ngx_create_temp_buf(text->pool, NGX_HTTP_TUNNEL_TEXT_BUFFER);
    cl = ngx_alloc_chain_link(text->pool);

    if (b == NULL || cl == NULL) {
        text->failed = 1;
        text->buf = NULL;
        return;
    }

    cl->buf = b;
    cl->next = NULL;

    *text->last = cl;
    text->last = &cl->next;
    text->buf = b;
}


void ngx_cdecl
ngx_http_tunnel_text(ngx_http_tunnel_text_t *text, const char *fmt, ...)
{
    va_list     args;
    ngx_buf_t  *b;

    if (text->failed) {
        return;
    }

    ngx_http_tunnel_text_room(text, NGX_HTTP_TUNNEL_TEXT_ROOM);

    b = text->buf;

    if (b) {
        va_start(args, fmt);
        b->last = ngx_vslprintf(b->last, b->end, fmt, args);
        va_end(args);
    }
}


void
ngx_http_tunnel_text_raw(ngx_http_tunnel_text_t *text, const u_char *p,
    size_t len)
{
    size_t  n;

    while (len && !text->failed) {
        n = ngx_min(len, NGX_HTTP_TUNNEL_TEXT_ROOM);

        ngx_http_tunnel_text_room(text, n);

        if (text->buf) {
            text->buf->last = ngx_cpymem(text->buf->last, p, n);
        }

        p += n;
        len -= n;
    }
}


void
ngx_http_tunnel_text_escape(ngx_http_tunnel_text_t *text, u_char *p,
    size_t len, ngx_http_tunnel_escape_e escape)
{
    u_char   ch, *d;
    size_t   n;

    while (len && !text->failed) {

        ngx_http_tunnel_text_room(text, 8);

        if (text->failed) {
            return;
        }

        d = text->buf->last;
        ch = *p;

        n = ngx_http_tunnel_text_char(p, len);

        if (n == 0) {
            d = ngx_sprintf(d, (escape == NGX_HTTP_TUNNEL_HTML)
                               ? "\\x%02xd" : "\\\\x%02xd", (int) ch);
            n = 1;

        } else if (n > 1) {
            d = ngx_cpymem(d, p, n);

        } else if (escape == NGX_HTTP_TUNNEL_HTML) {

            switch (ch) {

            case '&':
                d = ngx_cpymem(d, "&amp;", 5);
                break;

            case '<':
                d = ngx_cpymem(d, "&lt;", 4);
                break;

            case '>':
                d = ngx_cpymem(d, "&gt;", 4);
                break;

            case '"':
                d = ngx_cpymem(d, "&quot;", 6);
                break;

            case '\'':
                d = ngx_cpymem(d, "&#39;", 5);
                break;

            default:
                *d++ = (ch < ' ') ? ' ' : ch;
            }

        } else if (ch == '"' || ch == '\\') {
            *d++ = '\\';
            *d++ = ch;

        } else if (escape == NGX_HTTP_TUNNEL_LABEL) {

            if (ch == LF) {
                *d++ = '\\';
                *d++ = 'n';

            } else {
                *d++ = ch;
            }

        } else if (ch < ' ') {
            d = ngx_sprintf(d, "\\u%04xd", (int) ch);

        } else {
            *d++ = ch;
        }

        text->buf->last = d;

        p += n;
        len -= n;
    }
}


/* bytes of the character of UTF-8, or 0 */

static size_t
ngx_http_tunnel_text_char(u_char *p, size_t len)
{
    u_char    *last;
    uint32_t   n;

    if (*p < 0x80) {
        return 1;
    }

    last = p;
    n = ngx_utf8_decode(&last, len);

    if (n > 0x10ffff || (n >= 0xd800 && n <= 0xdfff)) {
        return 0;
    }

    return last - p;
}


off_t
ngx_http_tunnel_text_end(ngx_http_tunnel_text_t *text, ngx_uint_t last)
{
    ngx_buf_t  *b;

    b = text->buf;

    if (text->failed || b == NULL) {
        return NGX_ERROR;
    }

    b->last_buf = last;
    b->last_in_chain = 1;

    return text->size + (b->last - b->pos);
}


/* without zeroes at its end */

static void
ngx_http_tunnel_text_seconds(ngx_http_tunnel_text_t *text, uint64_t msec)
{
    uint64_t  frac;

    frac = msec % 1000;

    if (frac == 0) {
        ngx_http_tunnel_text(text, "%uL", msec / 1000);

    } else if (frac % 100 == 0) {
        ngx_http_tunnel_text(text, "%uL.%uL", msec / 1000, frac / 100);

    } else if (frac % 10 == 0) {
        ngx_http_tunnel_text(text, "%uL.%02uL", msec / 1000, frac / 10);

    } else {
        ngx_http_tunnel_text(text, "%uL.%03uL", msec / 1000, frac);
    }
}


static void
ngx_http_tunnel_text_value(ngx_http_tunnel_text_t *text,
    ngx_tunnel_histogram_e histogram, uint64_t value)
{
    if (histogram == NGX_TUNNEL_SIZES) {
        ngx_http_tunnel_text(text, "%uL", value);

    } else {
        ngx_http_tunnel_text_seconds(text, value);
    }
}


void
ngx_http_tunnel_status_json(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st)
{
    ngx_uint_t                     i, n;
    ngx_tunnel_snapshot_t         *snap;
    ngx_tunnel_snapshot_live_t    *t;
    ngx_tunnel_snapshot_series_t  *series;
    ngx_tunnel_snapshot_worker_t  *workers;

    snap = &st->snap;

    ngx_http_tunnel_text(text, "{\"version\":1,\"module\":\"%s\","
                         "\"nginx\":\"%s\",\"zone\":{",
                         NGX_HTTP_TUNNEL_STATUS_VERSION, NGINX_VERSION);

    ngx_http_tunnel_json_string(text, "name", snap->name.data,
                                snap->name.len);

    ngx_http_tunnel_text(text, ",\"size\":%uz,\"free\":%uz,"
                         "\"untracked\":%uL},\"time\":%uL.%03uL,"
                         "\"start\":%uL.%03uL,\"control\":%s,\n\"workers\":[",
                         snap->size, snap->free, snap->untracked,
                         st->now / 1000, st->now % 1000, snap->start / 1000,
                         snap->start % 1000, st->control ? "true" : "false");

    workers = snap->workers.elts;

    for (i = 0; i < snap->workers.nelts; i++) {
        ngx_http_tunnel_text(text, "%s{\"pid\":%P,\"connecting\":%uL,"
                             "\"active\":%uL,\"memory\":%uL,\"buffers\":%uL,"
                             "\"pipes\":%uL}", i ? "," : "", workers[i].pid,
                             workers[i].connecting, workers[i].active,
                             workers[i].memory, workers[i].buffers,
                             workers[i].pipes);
    }

    ngx_http_tunnel_text(text, "],\n\"total\":{");
    ngx_http_tunnel_json_counters(text, &snap->total);
    ngx_http_tunnel_text(text, "},\n\"servers\":[");

    series = snap->series.elts;

    n = 0;

    for (i = 0; i < snap->series.nelts; i++) {

        if (series[i].front == NGX_TUNNEL_NO_FRONT) {
            continue;
        }

        ngx_http_tunnel_text(text, "%s{\"front_end\":\"%V\",",
                             n++ ? ",\n" : "",
                             &ngx_tunnel_fronts[series[i].front]);
        ngx_http_tunnel_json_string(text, "server", series[i].label.data,
                                    series[i].label.len);
        ngx_http_tunnel_text(text, ",");
        ngx_http_tunnel_json_counters(text, &series[i].counters);
        ngx_http_tunnel_text(text, "}");
    }

    ngx_http_tunnel_text(text, "],\n");

    ngx_http_tunnel_json_nodes(text, "keys", "key", &snap->keys,
                               snap->keys.nelts);
    ngx_http_tunnel_json_nodes(text, "targets", "target", &snap->targets,
                               NGX_HTTP_TUNNEL_STATUS_TOP);

    ngx_http_tunnel_text(text, "\"tunnels\":[");

    t = snap->tunnels.elts;

    for (i = 0; i < st->limit; i++) {
        ngx_http_tunnel_text(text, i ? ",\n" : "\n");
        ngx_http_tunnel_status_tunnel(text, st, &t[i]);
    }

    ngx_http_tunnel_text(text, "]}\n");
}


static void
ngx_http_tunnel_json_string(ngx_http_tunnel_text_t *text, const char *name,
    u_char *p, size_t len)
{
    ngx_http_tunnel_text(text, "\"%s\":\"", name);
    ngx_http_tunnel_text_escape(text, p, len, NGX_HTTP_TUNNEL_JSON);
    ngx_http_tunnel_text(text, "\"");
}


static void
ngx_http_tunnel_json_counters(ngx_http_tunnel_text_t *text,
    ngx_tunnel_counters_t *c)
{
    ngx_uint_t  i;

    ngx_http_tunnel_text(text, "\"connecting\":%uL,\"active\":%uL,"
                         "\"opened\":%uL,\"received\":%uL,\"sent\":%uL,"
                         "\"spliced\":%uL,\"memory\":%uL,\"dns\":{"
                         "\"lookups\":%uL,\"cached\":%uL,\"failed\":%uL,"
                         "\"timeout\":%uL},\"results\":{",
                         c->connecting, c->active, c->opened, c->received,
                         c->sent, c->spliced, c->memory,
                         c->dns[NGX_TUNNEL_DNS_ANSWERED]
                         + c->dns[NGX_TUNNEL_DNS_CACHED]
                         + c->dns[NGX_TUNNEL_DNS_FAILED]
                         + c->dns[NGX_TUNNEL_DNS_TIMEOUT],
                         c->dns[NGX_TUNNEL_DNS_CACHED],
                         c->dns[NGX_TUNNEL_DNS_FAILED],
                         c->dns[NGX_TUNNEL_DNS_TIMEOUT]);

    for (i = 0; i <= NGX_TUNNEL_NO_RESULT; i++) {
        ngx_http_tunnel_text(text, "%s\"%V\":%uL", i ? "," : "",
                             ngx_http_tunnel_result_name(i), c->results[i]);
    }

    ngx_http_tunnel_text(text, "},\"ended\":{");

    for (i = 0; i < NGX_TUNNEL_NO_REASON; i++) {
        ngx_http_tunnel_text(text, "%s\"%V\":%uL", i ? "," : "",
                             ngx_tunnel_reason(i), c->ended[i]);
    }

    ngx_http_tunnel_text(text, "}");

    for (i = 0; i < NGX_TUNNEL_NO_HISTOGRAM; i++) {
        ngx_http_tunnel_json_histogram(text, i, c);
    }
}


/* an attempt that was given up has no result */

static const ngx_str_t *
ngx_http_tunnel_result_name(ngx_uint_t i)
{
    static const ngx_str_t  canceled = ngx_string("canceled");

    return (i == NGX_TUNNEL_NO_RESULT) ? &canceled
                                       : &ngx_tunnel_result(i)->token;
}


static void
ngx_http_tunnel_json_histogram(ngx_http_tunnel_text_t *text,
    ngx_tunnel_histogram_e histogram, ngx_tunnel_counters_t *c)
{
    uint64_t                    n;
    ngx_uint_t                  i;
    ngx_tunnel_histogram_t     *h;
    const ngx_tunnel_bounds_t  *b;

    h = &c->histograms[histogram];
    b = &ngx_tunnel_histograms[histogram];

    ngx_http_tunnel_text(text, ",\"%V\":{\"count\":%uL,\"sum\":", &b->name,
                         h->count);
    ngx_http_tunnel_text_value(text, histogram, h->sum);
    ngx_http_tunnel_text(text, ",\"buckets\":[");

    n = 0;

    for (i = 0; b->bounds[i]; i++) {
        n += h->buckets[i];

        ngx_http_tunnel_text(text, i ? ",[" : "[");
        ngx_http_tunnel_text_value(text, histogram, b->bounds[i]);
        ngx_http_tunnel_text(text, ",%uL]", n);
    }

    ngx_http_tunnel_text(text, "]}");
}


static void
ngx_http_tunnel_json_nodes(ngx_http_tunnel_text_t *text, const char *name,
    const char *key, ngx_array_t *nodes, ngx_uint_t max)
{
    ngx_uint_t                   i;
    ngx_tunnel_snapshot_node_t  *n;

    n = nodes->elts;
    max = ngx_min(max, nodes->nelts);

    ngx_http_tunnel_text(text, "\"%s\":[", name);

    for (i = 0; i < max; i++) {
        ngx_http_tunnel_text(text, i ? ",\n{" : "{");
        ngx_http_tunnel_json_string(text, key, n[i].name.data, n[i].name.len);
        ngx_http_tunnel_text(text, ",\"active\":%uL,\"opened\":%uL,"
                             "\"received\":%uL,\"sent\":%uL}", n[i].active,
                             n[i].opened, n[i].received, n[i].sent);
    }

    ngx_http_tunnel_text(text, "],\n");
}


void
ngx_http_tunnel_status_tunnel(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st, ngx_tunnel_snapshot_live_t *t)
{
    off_t                          limit;
    uint64_t                       age, idle;
    ngx_uint_t                     i, n;
    ngx_tunnel_live_t             *live;
    ngx_tunnel_snapshot_series_t  *series;

    live = &t->live;
    series = st->snap.series.elts;
    series += live->series;

    age = ngx_http_tunnel_since(live->begin);
    idle = ngx_http_tunnel_since(live->active);

    ngx_http_tunnel_text(text, "{\"id\":\"%016xL\",\"front_end\":\"%V\",",
                         live->id, &ngx_tunnel_fronts[series->front]);
    ngx_http_tunnel_json_string(text, "server", series->label.data,
                                series->label.len);
    ngx_http_tunnel_text(text, ",\"pid\":%P,", t->pid);

    if (live->client_len) {
        ngx_http_tunnel_json_string(text, "client", live->client,
                                    live->client_len);
    } else {
        ngx_http_tunnel_text(text, "\"client\":null");
    }

    ngx_http_tunnel_text(text, ",");

    if (t->key.len) {
        ngx_http_tunnel_json_string(text, "key", t->key.data, t->key.len);
    } else {
        ngx_http_tunnel_text(text, "\"key\":null");
    }

    ngx_http_tunnel_text(text, ",");
    ngx_http_tunnel_json_string(text, "target", t->target.data,
                                t->target.len);
    ngx_http_tunnel_text(text, ",");
    ngx_http_tunnel_json_string(text, "address", live->address,
                                live->address_len);

    ngx_http_tunnel_text(text, ",\"start\":%uL.%03uL,\"age\":%uL.%03uL,"
                         "\"idle\":%uL.%03uL,\"received\":%uL,\"sent\":%uL,"
                         "\"policy\":{",
                         live->start / 1000, live->start % 1000,
                         age / 1000, age % 1000, idle / 1000, idle % 1000,
                         live->received, live->sent);

    n = 0;

    for (i = 0; i < NGX_TUNNEL_POLICY_LIMITS; i++) {
        limit = live->limits[i];

        if (ngx_http_tunnel_limits[i].name == NULL || limit <= 0) {
            continue;
        }

        ngx_http_tunnel_text(text, "%s\"%s\":", n++ ? "," : "",
                             ngx_http_tunnel_limits[i].name);

        if (ngx_http_tunnel_limits[i].time) {
            ngx_http_tunnel_text(text, "%O.%03O", limit / 1000, limit % 1000);

        } else {
            ngx_http_tunnel_text(text, "%O", limit);
        }
    }

    ngx_http_tunnel_text(text, "}}");
}


/* msec; another worker's clock may be ahead of ours */

static ngx_msec_t
ngx_http_tunnel_since(ngx_msec_t time)
{
    return ngx_max((ngx_msec_int_t) (ngx_current_msec - time), 0);
}


void
ngx_http_tunnel_status_prometheus(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st)
{
    ngx_uint_t                       i, k, n;
    ngx_tunnel_snapshot_t           *snap;
    ngx_tunnel_snapshot_series_t    *series;
    const ngx_http_tunnel_metric_t  *m;

    snap = &st->snap;
    series = snap->series.elts;
    n = snap->series.nelts;

    for (k = 0; k < sizeof(ngx_http_tunnel_metrics)
                    / sizeof(ngx_http_tunnel_metrics[0]); k++)
    {
        m = &ngx_http_tunnel_metrics[k];

        ngx_http_tunnel_metric(text, m->name, m->type, m->help);

        for (i = 0; i < n; i++) {
            ngx_http_tunnel_sample(text, m->name, &series[i], NULL, NULL,
                                   *(uint64_t *) ((u_char *)
                                       &series[i].counters + m->offset));
        }
    }

    ngx_http_tunnel_metric(text, "results_total", "counter",
                           "Attempts to open a tunnel, by their result.");

    for (i = 0; i < n; i++) {
        for (k = 0; k <= NGX_TUNNEL_NO_RESULT; k++) {
            ngx_http_tunnel_sample(text, "results_total", &series[i],
                                   "result", ngx_http_tunnel_result_name(k),
                                   series[i].counters.results[k]);
        }
    }

    ngx_http_tunnel_metric(text, "ended_total", "counter",
                           "Tunnels that have ended, by the reason.");

    for (i = 0; i < n; i++) {
        for (k = 0; k < NGX_TUNNEL_NO_REASON; k++) {
            ngx_http_tunnel_sample(text, "ended_total", &series[i], "reason",
                                   ngx_tunnel_reason(k),
                                   series[i].counters.ended[k]);
        }
    }

    ngx_http_tunnel_metric(text, "dns_lookups_total", "counter",
                           "Names that were looked up, by the outcome.");

    for (i = 0; i < n; i++) {
        for (k = 0; k < NGX_TUNNEL_NO_DNS; k++) {
            ngx_http_tunnel_sample(text, "dns_lookups_total", &series[i],
                                   "outcome", &ngx_tunnel_dns_outcomes[k],
                                   series[i].counters.dns[k]);
        }
    }

    for (k = 0; k < NGX_TUNNEL_NO_HISTOGRAM; k++) {
        m = &ngx_http_tunnel_distributions[k];

        ngx_http_tunnel_metric(text, m->name, m->type, m->help);

        for (i = 0; i < n; i++) {
            ngx_http_tunnel_distribution(text, k, &series[i]);
        }
    }

    ngx_http_tunnel_keys(text, &snap->keys);
    ngx_http_tunnel_gauges(text, snap);
}


/* what there is one of in a zone */

static void
ngx_http_tunnel_gauges(ngx_http_tunnel_text_t *text,
    ngx_tunnel_snapshot_t *snap)
{
    uint64_t                       buffers, pipes;
    ngx_uint_t                     i;
    ngx_tunnel_snapshot_worker_t  *workers;

    buffers = 0;
    pipes = 0;

    workers = snap->workers.elts;

    for (i = 0; i < snap->workers.nelts; i++) {
        buffers += workers[i].buffers;
        pipes += workers[i].pipes;
    }

    ngx_http_tunnel_metric(text, "workers", "gauge",
                           "Worker processes that may have tunnels.");
    ngx_http_tunnel_text(text, "nginx_tunnel_workers %ui\n",
                         snap->workers.nelts);

    ngx_http_tunnel_metric(text, "buffer_bytes", "gauge",
                           "Relay buffers that tunnels hold.");
    ngx_http_tunnel_text(text, "nginx_tunnel_buffer_bytes %uL\n", buffers);

    ngx_http_tunnel_metric(text, "pipes", "gauge",
                           "Pipes that tunnels hold for splice().");
    ngx_http_tunnel_text(text, "nginx_tunnel_pipes %uL\n", pipes);

    ngx_http_tunnel_metric(text, "zone_size_bytes", "gauge",
                           "Size of the zone.");
    ngx_http_tunnel_text(text, "nginx_tunnel_zone_size_bytes %uz\n",
                         snap->size);

    ngx_http_tunnel_metric(text, "zone_free_bytes", "gauge",
                           "Free pages of the zone.");
    ngx_http_tunnel_text(text, "nginx_tunnel_zone_free_bytes %uz\n",
                         snap->free);

    ngx_http_tunnel_metric(text, "untracked_total", "counter",
                           "Tunnels that the table had no room for.");
    ngx_http_tunnel_text(text, "nginx_tunnel_untracked_total %uL\n",
                         snap->untracked);

    ngx_http_tunnel_metric(text, "start_time_seconds", "gauge",
                           "When counting began, since the epoch.");
    ngx_http_tunnel_text(text, "nginx_tunnel_start_time_seconds "
                         "%uL.%03uL\n", snap->start / 1000,
                         snap->start % 1000);

    ngx_http_tunnel_metric(text, "info", "gauge",
                           "Versions of the module and of nginx.");
    ngx_http_tunnel_text(text, "nginx_tunnel_info{version=\"%s\","
                         "nginx=\"%s\"} 1\n", NGX_HTTP_TUNNEL_STATUS_VERSION,
                         NGINX_VERSION);
}


static void
ngx_http_tunnel_metric(ngx_http_tunnel_text_t *text, const char *name,
    const char *type, const char *help)
{
    ngx_http_tunnel_text(text, "# HELP nginx_tunnel_%s %s\n"
                         "# TYPE nginx_tunnel_%s %s\n", name, help, name,
                         type);
}


static void
ngx_http_tunnel_sample(ngx_http_tunnel_text_t *text, const char *name,
    ngx_tunnel_snapshot_series_t *series, const char *label,
    const ngx_str_t *value, uint64_t n)
{
    if (series->front == NGX_TUNNEL_NO_FRONT) {
        return;
    }

    ngx_http_tunnel_text(text, "nginx_tunnel_%s{front_end=\"%V\",server=\"",
                         name, &ngx_tunnel_fronts[series->front]);
    ngx_http_tunnel_text_escape(text, series->label.data, series->label.len,
                                NGX_HTTP_TUNNEL_LABEL);

    if (label) {
        ngx_http_tunnel_text(text, "\",%s=\"%V\"} %uL\n", label, value, n);

    } else {
        ngx_http_tunnel_text(text, "\"} %uL\n", n);
    }
}


static void
ngx_http_tunnel_distribution(ngx_http_tunnel_text_t *text, ngx_uint_t i,
    ngx_tunnel_snapshot_series_t *series)
{
    uint64_t                         n;
    ngx_str_t                       *front, *label;
    ngx_uint_t                       k;
    const char                      *name;
    const uint64_t                  *bounds;
    ngx_tunnel_histogram_t          *h;

    if (series->front == NGX_TUNNEL_NO_FRONT) {
        return;
    }

    name = ngx_http_tunnel_distributions[i].name;
    front = (ngx_str_t *) &ngx_tunnel_fronts[series->front];
    label = &series->label;

    h = &series->counters.histograms[i];
    bounds = ngx_tunnel_histograms[i].bounds;

    n = 0;
    k = 0;

    do {
        n += h->buckets[k];

        ngx_http_tunnel_text(text, "nginx_tunnel_%s_bucket{front_end=\"%V\","
                             "server=\"", name, front);
        ngx_http_tunnel_text_escape(text, label->data, label->len,
                                    NGX_HTTP_TUNNEL_LABEL);
        ngx_http_tunnel_text(text, "\",le=\"");

        if (bounds[k]) {
            ngx_http_tunnel_text_value(text, i, bounds[k]);

        } else {
            ngx_http_tunnel_text(text, "+Inf");
        }

        ngx_http_tunnel_text(text, "\"} %uL\n", n);

    } while (bounds[k++]);

    ngx_http_tunnel_text(text, "nginx_tunnel_%s_sum{front_end=\"%V\","
                         "server=\"", name, front);
    ngx_http_tunnel_text_escape(text, label->data, label->len,
                                NGX_HTTP_TUNNEL_LABEL);
    ngx_http_tunnel_text(text, "\"} ");
    ngx_http_tunnel_text_value(text, i, h->sum);

    ngx_http_tunnel_text(text, "\nnginx_tunnel_%s_count{front_end=\"%V\","
                         "server=\"", name, front);
    ngx_http_tunnel_text_escape(text, label->data, label->len,
                                NGX_HTTP_TUNNEL_LABEL);
    ngx_http_tunnel_text(text, "\"} %uL\n", n);
}


static void
ngx_http_tunnel_keys(ngx_http_tunnel_text_t *text, ngx_array_t *keys)
{
    ngx_uint_t                       i, k;
    ngx_tunnel_snapshot_node_t      *n;

    static const ngx_http_tunnel_metric_t  metrics[] = {
        { "key_active", "gauge", "Tunnels of the key that are open.",
          offsetof(ngx_tunnel_snapshot_node_t, active) },
        { "key_opened_total", "counter", "Tunnels of the key.",
          offsetof(ngx_tunnel_snapshot_node_t, opened) },
        { "key_received_bytes_total", "counter",
          "Bytes received from clients with the key.",
          offsetof(ngx_tunnel_snapshot_node_t, received) },
        { "key_sent_bytes_total", "counter",
          "Bytes sent to clients with the key.",
          offsetof(ngx_tunnel_snapshot_node_t, sent) }
    };

    n = keys->elts;

    for (k = 0; k < sizeof(metrics) / sizeof(metrics[0]); k++) {

        if (keys->nelts == 0) {
            return;
        }

        ngx_http_tunnel_metric(text, metrics[k].name, metrics[k].type,
                               metrics[k].help);

        for (i = 0; i < keys->nelts; i++) {
            ngx_http_tunnel_text(text, "nginx_tunnel_%s{key=\"",
                                 metrics[k].name);
            ngx_http_tunnel_text_escape(text, n[i].name.data, n[i].name.len,
                                        NGX_HTTP_TUNNEL_LABEL);
            ngx_http_tunnel_text(text, "\"} %uL\n",
                                 *(uint64_t *) ((u_char *) &n[i]
                                                + metrics[k].offset));
        }
    }
}


/* the page, with tables for those who have no scripts */

void
ngx_http_tunnel_status_html(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st)
{
    size_t   len;
    u_char  *p, *last;

    static u_char  marker[] = "<!--tunnels-->";

    p = ngx_http_tunnel_status_page;
    last = p + sizeof(ngx_http_tunnel_status_page) - 1;

    len = (u_char *) ngx_strstr(p, marker) - p;

    ngx_http_tunnel_text_raw(text, p, len);

    ngx_http_tunnel_text(text, "<section id=\"static\" data-control=\"%d\">\n",
                         st->control ? 1 : 0);

    ngx_http_tunnel_html_sums(text, st);
    ngx_http_tunnel_html_tunnels(text, st);

    ngx_http_tunnel_text(text, "</section>");

    p += len + sizeof(marker) - 1;

    ngx_http_tunnel_text_raw(text, p, last - p);
}


static void
ngx_http_tunnel_html_sums(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st)
{
    ngx_uint_t                     i;
    ngx_tunnel_counters_t         *c;
    ngx_tunnel_snapshot_series_t  *series;

    c = &st->snap.total;

    ngx_http_tunnel_text(text, "<table class=\"sum\"><caption>Sum</caption>"
                         "<thead><tr><th>Open</th><th>Connecting</th>"
                         "<th>Opened</th><th>Received</th><th>Sent</th>"
                         "<th>Workers</th></tr></thead>\n<tbody><tr>"
                         "<td>%uL</td><td>%uL</td><td>%uL</td><td>",
                         c->active, c->connecting, c->opened);
    ngx_http_tunnel_html_size(text, c->received);
    ngx_http_tunnel_text(text, "</td><td>");
    ngx_http_tunnel_html_size(text, c->sent);
    ngx_http_tunnel_text(text, "</td><td>%ui</td></tr></tbody></table>\n",
                         st->snap.workers.nelts);

    ngx_http_tunnel_text(text, "<table class=\"servers\"><caption>Servers"
                         "</caption><thead><tr><th>Front end</th>"
                         "<th>Server</th><th>Open</th><th>Opened</th>"
                         "<th>Received</th><th>Sent</th></tr></thead>\n"
                         "<tbody>");

    series = st->snap.series.elts;

    for (i = 0; i < st->snap.series.nelts; i++) {
        c = &series[i].counters;

        if (series[i].front == NGX_TUNNEL_NO_FRONT) {
            continue;
        }

        ngx_http_tunnel_text(text, "<tr><td>%V</td><td>",
                             &ngx_tunnel_fronts[series[i].front]);
        ngx_http_tunnel_text_escape(text, series[i].label.data,
                                    series[i].label.len, NGX_HTTP_TUNNEL_HTML);
        ngx_http_tunnel_text(text, "</td><td>%uL</td><td>%uL</td><td>",
                             c->active, c->opened);
        ngx_http_tunnel_html_size(text, c->received);
        ngx_http_tunnel_text(text, "</td><td>");
        ngx_http_tunnel_html_size(text, c->sent);
        ngx_http_tunnel_text(text, "</td></tr>\n");
    }

    c = &st->snap.total;

    ngx_http_tunnel_text(text, "</tbody></table>\n<table class=\"ended\">"
                         "<caption>Ended</caption><thead><tr><th>Reason</th>"
                         "<th>Tunnels</th></tr></thead>\n<tbody>");

    for (i = 0; i < NGX_TUNNEL_NO_REASON; i++) {
        if (c->ended[i]) {
            ngx_http_tunnel_text(text, "<tr><td>%V</td><td>%uL</td></tr>\n",
                                 ngx_tunnel_reason(i), c->ended[i]);
        }
    }

    ngx_http_tunnel_text(text, "</tbody></table>\n<table class=\"results\">"
                         "<caption>Results</caption><thead><tr><th>Result</th>"
                         "<th>Attempts</th></tr></thead>\n<tbody>");

    for (i = 0; i <= NGX_TUNNEL_NO_RESULT; i++) {
        if (c->results[i]) {
            ngx_http_tunnel_text(text, "<tr><td>%V</td><td>%uL</td></tr>\n",
                                 ngx_http_tunnel_result_name(i),
                                 c->results[i]);
        }
    }

    ngx_http_tunnel_text(text, "</tbody></table>\n");
}


static void
ngx_http_tunnel_html_tunnels(ngx_http_tunnel_text_t *text,
    ngx_http_tunnel_status_t *st)
{
    ngx_uint_t                     i;
    ngx_tunnel_live_t             *live;
    ngx_tunnel_snapshot_live_t    *t;
    ngx_tunnel_snapshot_series_t  *series;

    t = st->snap.tunnels.elts;
    series = st->snap.series.elts;

    if (st->snap.total.active == 0) {
        ngx_http_tunnel_text(text, "<p class=\"empty\">No tunnels are open."
                             "</p>\n");
        return;
    }

    ngx_http_tunnel_text(text, "<table class=\"tunnels\"><caption>"
                         "Open tunnels</caption><thead><tr><th>ID</th>"
                         "<th>Front end</th><th>Server</th><th>Client</th>"
                         "<th>Key</th><th>Target</th><th>Address</th>"
                         "<th>Age, s</th><th>Idle, s</th><th>Received</th>"
                         "<th>Sent</th><th>Policy</th></tr></thead>\n"
                         "<tbody>");

    for (i = 0; i < st->limit; i++) {
        live = &t[i].live;

        ngx_http_tunnel_text(text, "<tr><td>%016xL</td><td>%V</td><td>",
                             live->id,
                             &ngx_tunnel_fronts[series[live->series].front]);
        ngx_http_tunnel_text_escape(text, series[live->series].label.data,
                                    series[live->series].label.len,
                                    NGX_HTTP_TUNNEL_HTML);
        ngx_http_tunnel_text(text, "</td><td>");

        if (live->client_len) {
            ngx_http_tunnel_text_escape(text, live->client, live->client_len,
                                        NGX_HTTP_TUNNEL_HTML);
        } else {
            ngx_http_tunnel_text(text, "-");
        }

        ngx_http_tunnel_text(text, "</td><td>");
        ngx_http_tunnel_text_escape(text, t[i].key.data, t[i].key.len,
                                    NGX_HTTP_TUNNEL_HTML);
        ngx_http_tunnel_text(text, "</td><td>");
        ngx_http_tunnel_text_escape(text, t[i].target.data, t[i].target.len,
                                    NGX_HTTP_TUNNEL_HTML);
        ngx_http_tunnel_text(text, "</td><td>");
        ngx_http_tunnel_text_escape(text, live->address, live->address_len,
                                    NGX_HTTP_TUNNEL_HTML);
        ngx_http_tunnel_text(text, "</td><td>%M</td><td>%M</td><td>",
                             ngx_http_tunnel_since(live->begin) / 1000,
                             ngx_http_tunnel_since(live->active) / 1000);
        ngx_http_tunnel_html_size(text, live->received);
        ngx_http_tunnel_text(text, "</td><td>");
        ngx_http_tunnel_html_size(text, live->sent);
        ngx_http_tunnel_text(text, "</td><td>");
        ngx_http_tunnel_html_limits(text, live);
        ngx_http_tunnel_text(text, "</td></tr>\n");
    }

    ngx_http_tunnel_text(text, "</tbody></table>\n");

    if (st->limit < st->snap.total.active) {
        ngx_http_tunnel_text(text, "<p class=\"more\">%uL more are not shown."
                             "</p>\n", st->snap.total.active - st->limit);
    }
}


static void
ngx_http_tunnel_html_limits(ngx_http_tunnel_text_t *text,
    ngx_tunnel_live_t *live)
{
    off_t                           limit;
    ngx_uint_t                      i, n;
    const ngx_http_tunnel_limit_t  *l;

    n = 0;

    for (i = 0; i < NGX_TUNNEL_POLICY_LIMITS; i++) {
        l = &ngx_http_tunnel_limits[i];
        limit = live->limits[i];

        if (l->name == NULL || limit <= 0) {
            continue;
        }

        ngx_http_tunnel_text(text, "%s%s ", n++ ? ", " : "", l->name);

        if (l->time) {
            ngx_http_tunnel_text_seconds(text, limit);

        } else {
            ngx_http_tunnel_html_size(text, limit);
        }

        ngx_http_tunnel_text(text, "%s", l->unit);
    }
}


static void
ngx_http_tunnel_html_size(ngx_http_tunnel_text_t *text, uint64_t n)
{
    ngx_uint_t  i;
    uint64_t    tenths;

    static const char  *units[] = { "", "k", "M", "G", "T", "P", "E" };

    if (n < 1024) {
        ngx_http_tunnel_text(text, "%uL", n);
        return;
    }

    tenths = 0;

    for (i = 0; n >= 1024; i++) {
        tenths = n % 1024 * 10 / 1024;
        n /= 1024;
    }

    ngx_http_tunnel_text(text, "%uL.%uL%s", n, tenths, units[i]);
}
