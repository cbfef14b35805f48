
/*
 * Status: shows a zone, and ends tunnels of it.
 */


#include "ngx_http_connect_tunnel_module.h"
#include "ngx_http_tunnel_status_module.h"


/* of a page without scripts */

#define NGX_HTTP_TUNNEL_STATUS_ROWS  1000

/* digits of an id */

#define NGX_HTTP_TUNNEL_STATUS_ID    16


typedef enum {
    ngx_http_tunnel_status_by_accept = 0,
    ngx_http_tunnel_status_is_html,
    ngx_http_tunnel_status_is_json,
    ngx_http_tunnel_status_is_prometheus
} ngx_http_tunnel_status_format_e;


typedef struct {
    ngx_flag_t                    enable;
    ngx_uint_t                    format;
    ngx_flag_t                    control;
    ngx_str_t                     base;          /* of the URIs of a prefix */
    ngx_uint_t                    any;           /* the location is none */
} ngx_http_tunnel_status_conf_t;


/* what a request is for */

typedef struct {
    ngx_uint_t                    format;
    ngx_uint_t                    limit;
    ngx_uint_t                    named;         /* one tunnel */
    uint64_t                      id;            /* 0: there is no such one */

    ngx_uint_t                    status;        /* of an error */
    const char                   *error;         /* what is wrong */
} ngx_http_tunnel_status_request_t;


static ngx_int_t ngx_http_tunnel_status_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_tunnel_status_parse(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr);
static ngx_int_t ngx_http_tunnel_status_uri(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr);
static ngx_uint_t ngx_http_tunnel_status_begins(ngx_str_t *s,
    ngx_str_t *prefix);
static ngx_int_t ngx_http_tunnel_status_accept(ngx_http_request_t *r);
static ngx_str_t *ngx_http_tunnel_status_header(ngx_http_request_t *r,
    const char *name);
static ngx_int_t ngx_http_tunnel_status_show(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr);
static ngx_int_t ngx_http_tunnel_status_text(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr, ngx_http_tunnel_status_t *st,
    ngx_pool_t *pool, ngx_http_tunnel_text_t *text, const char **type);
static ngx_int_t ngx_http_tunnel_status_delete(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr);
static ngx_uint_t ngx_http_tunnel_status_foreign(ngx_http_request_t *r);
static ngx_int_t ngx_http_tunnel_status_match(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr, ngx_tunnel_match_t *match);
static ngx_int_t ngx_http_tunnel_status_arg(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);
static uint64_t ngx_http_tunnel_status_id(u_char *p, size_t len);
static ngx_int_t ngx_http_tunnel_status_error(
    ngx_http_tunnel_status_request_t *sr, ngx_uint_t status,
    const char *error);
static ngx_int_t ngx_http_tunnel_status_refuse(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr);
static ngx_int_t ngx_http_tunnel_status_send(ngx_http_request_t *r,
    ngx_uint_t status, const char *type, ngx_http_tunnel_text_t *text);
static ngx_int_t ngx_http_tunnel_status_add_header(ngx_http_request_t *r,
    const char *name, const char *value);
static ngx_shm_zone_t *ngx_http_tunnel_status_zone(ngx_http_request_t *r);
static void *ngx_http_tunnel_status_create_conf(ngx_conf_t *cf);
static char *ngx_http_tunnel_status_merge_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_tunnel_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static const char  ngx_http_tunnel_status_html_type[] =
    "text/html; charset=utf-8";

static const char  ngx_http_tunnel_status_json_type[] = "application/json";


static ngx_conf_enum_t  ngx_http_tunnel_status_formats[] = {
    { ngx_string("html"), ngx_http_tunnel_status_is_html },
    { ngx_string("json"), ngx_http_tunnel_status_is_json },
    { ngx_string("prometheus"), ngx_http_tunnel_status_is_prometheus },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_http_tunnel_status_commands[] = {

    { ngx_string("tunnel_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_tunnel_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("tunnel_control"),
      NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_tunnel_status_conf_t, control),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_tunnel_status_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_tunnel_status_create_conf,    /* create location configuration */
    ngx_http_tunnel_status_merge_conf      /* merge location configuration */
};


ngx_module_t  ngx_http_tunnel_status_module = {
    NGX_MODULE_V1,
    &ngx_http_tunnel_status_module_ctx,    /* module context */
    ngx_http_tunnel_status_commands,       /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_tunnel_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                         rc;
    ngx_http_tunnel_status_request_t  sr;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_tunnel_status_parse(r, &sr);

    if (rc == NGX_OK) {

        if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
            rc = ngx_http_tunnel_status_show(r, &sr);

        } else if (r->method == NGX_HTTP_DELETE) {
            rc = ngx_http_tunnel_status_delete(r, &sr);

        } else {
            rc = ngx_http_tunnel_status_error(&sr, NGX_HTTP_NOT_ALLOWED,
                                              "the method is not allowed");
        }
    }

    return (rc == NGX_ABORT) ? ngx_http_tunnel_status_refuse(r, &sr) : rc;
}


/* NGX_OK, or NGX_ABORT with what is wrong in sr */

static ngx_int_t
ngx_http_tunnel_status_parse(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr)
{
    ngx_int_t                       n;
    ngx_str_t                       value;
    ngx_conf_enum_t                *e;
    ngx_http_tunnel_status_conf_t  *scf;

    scf = ngx_http_get_module_loc_conf(r, ngx_http_tunnel_status_module);

    ngx_memzero(sr, sizeof(ngx_http_tunnel_status_request_t));

    sr->format = scf->format;
    sr->limit = NGX_MAX_INT32_VALUE;

    if (ngx_http_tunnel_status_uri(r, sr) != NGX_OK) {
        return ngx_http_tunnel_status_error(sr, NGX_HTTP_NOT_FOUND,
                                            "there is nothing here");
    }

    if (ngx_http_arg(r, (u_char *) "format", 6, &value) == NGX_OK) {

        e = ngx_tunnel_conf_choice(ngx_http_tunnel_status_formats, &value);

        if (e == NULL) {
            return ngx_http_tunnel_status_error(sr, NGX_HTTP_BAD_REQUEST,
                               "format must be html, json, or prometheus");
        }

        sr->format = e->value;
    }

    if (sr->format == ngx_http_tunnel_status_by_accept) {
        sr->format = ngx_http_tunnel_status_accept(r);
    }

    if (sr->format == ngx_http_tunnel_status_is_html) {
        sr->limit = NGX_HTTP_TUNNEL_STATUS_ROWS;
    }

    if (ngx_http_arg(r, (u_char *) "limit", 5, &value) == NGX_OK) {

        n = ngx_atoi(value.data, value.len);

        if (n == NGX_ERROR) {
            return ngx_http_tunnel_status_error(sr, NGX_HTTP_BAD_REQUEST,
                                                "limit must be a number");
        }

        sr->limit = n;
    }

    return NGX_OK;
}


/*
 * What follows the name of a prefix location, all of it; elsewhere the end of
 * the URI says what is wanted, if it does
 */

static ngx_int_t
ngx_http_tunnel_status_uri(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr)
{
    ngx_str_t                       rest, id;
    ngx_uint_t                      i, whole;
    ngx_http_tunnel_status_conf_t  *scf;

    static const struct {
        ngx_str_t   name;
        ngx_uint_t  format;
    } ends[] = {
        { ngx_string(".json"), ngx_http_tunnel_status_is_json },
        { ngx_string(".html"), ngx_http_tunnel_status_is_html },
        { ngx_string(".prometheus"), ngx_http_tunnel_status_is_prometheus },
        { ngx_string("/metrics"), ngx_http_tunnel_status_is_prometheus }
    };

    static ngx_str_t  tunnels = ngx_string("/tunnels/");

    scf = ngx_http_get_module_loc_conf(r, ngx_http_tunnel_status_module);

    rest = r->uri;

    whole = !scf->any && ngx_http_tunnel_status_begins(&rest, &scf->base);

    if (whole) {
        rest.data += scf->base.len;
        rest.len -= scf->base.len;
    }

    id = rest;

    if (!whole && id.len > tunnels.len + NGX_HTTP_TUNNEL_STATUS_ID) {
        id.len = tunnels.len + NGX_HTTP_TUNNEL_STATUS_ID;
        id.data = rest.data + rest.len - id.len;
    }

    if (id.len > tunnels.len && ngx_http_tunnel_status_begins(&id, &tunnels)) {
        sr->id = ngx_http_tunnel_status_id(id.data + tunnels.len,
                                           id.len - tunnels.len);
        sr->named = (whole || sr->id);
    }

    if (sr->named) {
        return NGX_OK;
    }

    if (whole && (rest.len == 0 || (rest.len == 1 && rest.data[0] == '/'))) {

        /* or the name itself says it */

        rest = r->uri;
        whole = 0;
    }

    for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {

        if (rest.len < ends[i].name.len
            || (whole && rest.len != ends[i].name.len)
            || ngx_memcmp(rest.data + rest.len - ends[i].name.len,
                          ends[i].name.data, ends[i].name.len)
               != 0)
        {
            continue;
        }

        sr->format = ends[i].format;

        return NGX_OK;
    }

    return whole ? NGX_DECLINED : NGX_OK;
}


static ngx_uint_t
ngx_http_tunnel_status_begins(ngx_str_t *s, ngx_str_t *prefix)
{
    return s->len >= prefix->len
           && ngx_memcmp(s->data, prefix->data, prefix->len) == 0;
}


static ngx_int_t
ngx_http_tunnel_status_accept(ngx_http_request_t *r)
{
    ngx_str_t  *accept;

    accept = ngx_http_tunnel_status_header(r, "accept");

    if (accept == NULL
        || ngx_strlcasestrn(accept->data, accept->data + accept->len,
                            (u_char *) "text/html", 9 - 1))
    {
        return ngx_http_tunnel_status_is_html;
    }

    if (ngx_strlcasestrn(accept->data, accept->data + accept->len,
                         (u_char *) "application/json", 16 - 1))
    {
        return ngx_http_tunnel_status_is_json;
    }

    if (ngx_strlcasestrn(accept->data, accept->data + accept->len,
                         (u_char *) "text/plain", 10 - 1)
        || ngx_strlcasestrn(accept->data, accept->data + accept->len,
                            (u_char *) "application/openmetrics-text", 28 - 1))
    {
        return ngx_http_tunnel_status_is_prometheus;
    }

    return ngx_http_tunnel_status_is_html;
}


/* the first one of that name, which is in lower case, or NULL */

static ngx_str_t *
ngx_http_tunnel_status_header(ngx_http_request_t *r, const char *name)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NULL;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == ngx_strlen(name)
            && ngx_strncasecmp(h[i].key.data, (u_char *) name, h[i].key.len)
               == 0)
        {
            return &h[i].value;
        }
    }
}


static ngx_int_t
ngx_http_tunnel_status_show(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr)
{
    const char                     *type;
    ngx_int_t                       rc;
    ngx_pool_t                     *pool;
    ngx_http_tunnel_text_t          text;
    ngx_http_tunnel_status_t        st;
    ngx_http_tunnel_status_conf_t  *scf;

    scf = ngx_http_get_module_loc_conf(r, ngx_http_tunnel_status_module);

    st.limit = sr->limit;
    st.control = scf->control;

    /* a client that reads slowly holds the text alone */

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, r->connection->log);
    if (pool == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_tunnel_text_init(&text, r->pool);

    rc = ngx_http_tunnel_status_text(r, sr, &st, pool, &text, &type);

    ngx_destroy_pool(pool);

    if (rc != NGX_OK) {
        return rc;
    }

    if (type == ngx_http_tunnel_status_html_type
        && ngx_http_tunnel_status_add_header(r, "Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; "
                            "script-src 'unsafe-inline'; connect-src 'self'; "
                            "img-src data:; base-uri 'none'; "
                            "form-action 'none'; frame-ancestors 'none'")
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_tunnel_status_send(r, NGX_HTTP_OK, type, &text);
}


/* NGX_OK, NGX_ABORT with what is wrong in sr, or a status */

static ngx_int_t
ngx_http_tunnel_status_text(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr, ngx_http_tunnel_status_t *st,
    ngx_pool_t *pool, ngx_http_tunnel_text_t *text, const char **type)
{
    ngx_uint_t   what;
    ngx_time_t  *tp;

    what = 0;

    if (!sr->named) {

        if (sr->limit && sr->format != ngx_http_tunnel_status_is_prometheus) {
            what |= NGX_TUNNEL_SNAPSHOT_TUNNELS;
        }

        if (sr->format != ngx_http_tunnel_status_is_html) {
            what |= NGX_TUNNEL_SNAPSHOT_NODES;
        }
    }

    if (ngx_tunnel_zone_snapshot(ngx_http_tunnel_status_zone(r), pool, sr->id,
                                 what, &st->snap)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    tp = ngx_timeofday();

    st->now = (uint64_t) tp->sec * 1000 + tp->msec;
    st->limit = ngx_min(st->limit, st->snap.tunnels.nelts);

    *type = ngx_http_tunnel_status_json_type;

    if (sr->named) {

        if (st->snap.tunnels.nelts == 0) {
            return ngx_http_tunnel_status_error(sr, NGX_HTTP_NOT_FOUND,
                                                "there is no such tunnel");
        }

        ngx_http_tunnel_status_tunnel(text, st, st->snap.tunnels.elts);
        ngx_http_tunnel_text(text, "\n");

        return NGX_OK;
    }

    switch (sr->format) {

    case ngx_http_tunnel_status_is_json:
        ngx_http_tunnel_status_json(text, st);
        break;

    case ngx_http_tunnel_status_is_prometheus:
        *type = "text/plain; version=0.0.4; charset=utf-8";
        ngx_http_tunnel_status_prometheus(text, st);
        break;

    default:
        *type = ngx_http_tunnel_status_html_type;
        ngx_http_tunnel_status_html(text, st);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_tunnel_status_delete(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr)
{
    ngx_int_t                       rc;
    ngx_uint_t                      n;
    ngx_tunnel_match_t              match;
    ngx_http_tunnel_text_t          text;
    ngx_http_tunnel_status_conf_t  *scf;

    scf = ngx_http_get_module_loc_conf(r, ngx_http_tunnel_status_module);

    if (!scf->control) {
        return ngx_http_tunnel_status_error(sr, NGX_HTTP_FORBIDDEN,
                                            "\"tunnel_control\" is off");
    }

    if (ngx_http_tunnel_status_foreign(r)) {
        return ngx_http_tunnel_status_error(sr, NGX_HTTP_FORBIDDEN,
                                            "the request is of another site");
    }

    ngx_memzero(&match, sizeof(ngx_tunnel_match_t));

    if (sr->named) {
        match.id = sr->id;

    } else {
        rc = ngx_http_tunnel_status_match(r, sr, &match);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    n = ngx_tunnel_zone_kill(ngx_http_tunnel_status_zone(r), &match);

    if (n == 0) {
        return ngx_http_tunnel_status_error(sr, NGX_HTTP_NOT_FOUND,
                                            "there is no such tunnel");
    }

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "%ui tunnel%s to be ended", n, n == 1 ? " is" : "s are");

    ngx_http_tunnel_text_init(&text, r->pool);
    ngx_http_tunnel_text(&text, "{\"version\":1,\"tunnels\":%ui}\n", n);

    return ngx_http_tunnel_status_send(r, NGX_HTTP_ACCEPTED,
                                       ngx_http_tunnel_status_json_type,
                                       &text);
}


/*
 * Whether a page of another site has a browser send this.  DELETE takes a
 * preflight request, which is not answered as that would want; this is for
 * browsers that get it wrong.
 */

static ngx_uint_t
ngx_http_tunnel_status_foreign(ngx_http_request_t *r)
{
    u_char     *p, *last;
    ngx_str_t  *site, *origin, *host, authority;

    site = ngx_http_tunnel_status_header(r, "sec-fetch-site");

    if (site
        && !(site->len == 11
             && ngx_strncasecmp(site->data, (u_char *) "same-origin", 11) == 0)
        && !(site->len == 4
             && ngx_strncasecmp(site->data, (u_char *) "none", 4) == 0))
    {
        return 1;
    }

    origin = ngx_http_tunnel_status_header(r, "origin");

    if (origin == NULL) {
        return 0;
    }

    host = ngx_http_tunnel_status_header(r, "host");

    if (host == NULL) {

        /* HTTP/3 makes no header of what it has */

        if (r->host_start == NULL) {
            return 1;
        }

        authority.data = r->host_start;
        authority.len = r->host_end - r->host_start;

        host = &authority;
    }

    last = origin->data + origin->len;
    p = ngx_strlchr(origin->data, last, ':');

    if (p == NULL || last - p < 3 || p[1] != '/' || p[2] != '/') {
        return 1;
    }

    p += 3;

    return (size_t) (last - p) != host->len
           || ngx_strncasecmp(p, host->data, host->len) != 0;
}


/* exactly one of the arguments says which tunnels */

static ngx_int_t
ngx_http_tunnel_status_match(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr, ngx_tunnel_match_t *match)
{
    ngx_str_t    id;
    ngx_uint_t   i, n;

    struct {
        const char  *name;
        ngx_str_t   *value;
    } args[] = {
        { "id", &id },
        { "target", &match->target },
        { "client", &match->client },
        { "key", &match->key },
        { "user", &match->key }
    };

    n = 0;

    for (i = 0; i < sizeof(args) / sizeof(args[0]); i++) {

        switch (ngx_http_tunnel_status_arg(r, args[i].name, args[i].value)) {

        case NGX_OK:
            n++;
            break;

        case NGX_ERROR:
            return NGX_HTTP_INTERNAL_SERVER_ERROR;

        default: /* NGX_DECLINED */
            break;
        }

        if (i == 0 && n) {
            match->id = ngx_http_tunnel_status_id(id.data, id.len);
        }
    }

    match->key.len = ngx_min(match->key.len, NGX_TUNNEL_KEY_LEN);

    if (n != 1) {
        return ngx_http_tunnel_status_error(sr, NGX_HTTP_BAD_REQUEST,
                                            "one of the arguments id, target, "
                                            "client, key, or user must say "
                                            "which tunnels");
    }

    return NGX_OK;
}


/* of a value that is not empty, without its escapes */

static ngx_int_t
ngx_http_tunnel_status_arg(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    u_char     *dst, *src;
    ngx_str_t   v;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), &v) != NGX_OK
        || v.len == 0)
    {
        return NGX_DECLINED;
    }

    dst = ngx_pnalloc(r->pool, v.len);
    if (dst == NULL) {
        return NGX_ERROR;
    }

    src = v.data;
    value->data = dst;

    ngx_unescape_uri(&dst, &src, v.len, 0);

    value->len = dst - value->data;

    return value->len ? NGX_OK : NGX_DECLINED;
}


/* 16 hex digits; 0 is nobody's */

static uint64_t
ngx_http_tunnel_status_id(u_char *p, size_t len)
{
    u_char      c;
    uint64_t    id;
    ngx_uint_t  i;

    if (len != NGX_HTTP_TUNNEL_STATUS_ID) {
        return 0;
    }

    id = 0;

    for (i = 0; i < len; i++) {
        c = (u_char) (p[i] | 0x20);

        if (p[i] >= '0' && p[i] <= '9') {
            id = id << 4 | (p[i] - '0');

        } else if (c >= 'a' && c <= 'f') {
            id = id << 4 | (c - 'a' + 10);

        } else {
            return 0;
        }
    }

    return id;
}


static ngx_int_t
ngx_http_tunnel_status_error(ngx_http_tunnel_status_request_t *sr,
    ngx_uint_t status, const char *error)
{
    sr->status = status;
    sr->error = error;

    return NGX_ABORT;
}


static ngx_int_t
ngx_http_tunnel_status_refuse(ngx_http_request_t *r,
    ngx_http_tunnel_status_request_t *sr)
{
    ngx_http_tunnel_text_t          text;
    ngx_http_tunnel_status_conf_t  *scf;

    scf = ngx_http_get_module_loc_conf(r, ngx_http_tunnel_status_module);

    if (sr->status == NGX_HTTP_NOT_ALLOWED
        && ngx_http_tunnel_status_add_header(r, "Allow",
                                             scf->control ? "GET, HEAD, DELETE"
                                                          : "GET, HEAD")
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_tunnel_text_init(&text, r->pool);

    ngx_http_tunnel_text(&text, "{\"version\":1,\"error\":\"");
    ngx_http_tunnel_text_escape(&text, (u_char *) sr->error,
                                ngx_strlen(sr->error), NGX_HTTP_TUNNEL_JSON);
    ngx_http_tunnel_text(&text, "\"}\n");

    return ngx_http_tunnel_status_send(r, sr->status,
                                       ngx_http_tunnel_status_json_type,
                                       &text);
}


static ngx_int_t
ngx_http_tunnel_status_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, ngx_http_tunnel_text_t *text)
{
    off_t       size;
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t  *ct;

    size = ngx_http_tunnel_text_end(text, r == r->main);

    if (size == NGX_ERROR
        || ngx_http_tunnel_status_add_header(r, "Cache-Control", "no-store")
           != NGX_OK
        || ngx_http_tunnel_status_add_header(r, "X-Content-Type-Options",
                                             "nosniff")
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ct = &r->headers_out.content_type;

    ct->data = (u_char *) type;
    ct->len = ngx_strlen(type);

    p = ngx_strlchr(ct->data, ct->data + ct->len, ';');

    r->headers_out.content_type_len = p ? (size_t) (p - ct->data) : ct->len;
    r->headers_out.content_type_lowcase = NULL;

    r->disable_not_modified = 1;
    r->headers_out.status = status;
    r->headers_out.content_length_n = size;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, text->first);
}


static ngx_int_t
ngx_http_tunnel_status_add_header(ngx_http_request_t *r, const char *name,
    const char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);
    ngx_http_connect_tunnel_header_next(h);

    return NGX_OK;
}


static ngx_shm_zone_t *
ngx_http_tunnel_status_zone(ngx_http_request_t *r)
{
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    return ctlcf->tunnel.stat.zone;
}


static void *
ngx_http_tunnel_status_create_conf(ngx_conf_t *cf)
{
    ngx_http_tunnel_status_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_tunnel_status_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->control = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_http_tunnel_status_merge_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_tunnel_status_conf_t *prev = parent;
    ngx_http_tunnel_status_conf_t *conf = child;

    ngx_http_core_loc_conf_t            *clcf;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (!conf->enable && clcf->noname) {

        /* an "if" or "limit_except" is of the location around it */

        conf->enable = prev->enable;
        conf->format = prev->format;
        conf->base = prev->base;
        conf->any = prev->any;

        ngx_conf_merge_value(conf->control, prev->control, 0);

        if (conf->enable && clcf->lmt_excpt && clcf->handler == NULL) {
            clcf->handler = ngx_http_tunnel_status_handler;
        }

        return NGX_CONF_OK;
    }

    /* no location takes more than to be looked at if it does not say so */

    ngx_conf_init_value(conf->control, 0);

    if (!conf->enable) {
        return NGX_CONF_OK;
    }

    conf->base = clcf->name;

    if (conf->base.len && conf->base.data[conf->base.len - 1] == '/') {
        conf->base.len--;
    }

    conf->any = clcf->exact_match || clcf->named;

#if (NGX_PCRE)
    conf->any |= (clcf->regex != NULL);
#endif

    ctlcf = ngx_http_conf_get_module_loc_conf(cf,
                                              ngx_http_connect_tunnel_module);

    if (ctlcf->tunnel.stat.zone == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"tunnel_status\" requires \"tunnel_zone\"");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_tunnel_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_tunnel_status_conf_t *scf = conf;

    ngx_str_t                 *value;
    ngx_conf_enum_t           *e;
    ngx_http_core_loc_conf_t  *clcf;

    if (scf->enable) {
        return "is duplicate";
    }

    scf->enable = 1;

    if (cf->args->nelts == 2) {
        value = cf->args->elts;

        e = ngx_tunnel_conf_choice(ngx_http_tunnel_status_formats, &value[1]);

        if (e == NULL) {
            return ngx_tunnel_conf_invalid_choice(cf, cmd, &value[1],
                                               ngx_http_tunnel_status_formats);
        }

        scf->format = e->value;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_tunnel_status_handler;

    return NGX_CONF_OK;
}
