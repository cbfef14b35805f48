
/*
 * What is particular to a CONNECT in requests and responses of HTTP: its
 * credentials, and the headers of tunnels and of refusals.
 */


#include "ngx_http_connect_tunnel_module.h"
#include "ngx_http_connect_tunnel_intake.h"


static ngx_int_t ngx_http_connect_tunnel_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_connect_tunnel_refused(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx);
static void ngx_http_connect_tunnel_no_success(ngx_http_request_t *r,
    ngx_uint_t status);
static void ngx_http_connect_tunnel_authenticate(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx);
static ngx_int_t ngx_http_connect_tunnel_proxy_status(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx);
static ngx_int_t ngx_http_connect_tunnel_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static u_char  ngx_http_connect_tunnel_407_page[] =
"<html>" CRLF
"<head><title>407 Proxy Authentication Required</title></head>" CRLF
"<body>" CRLF
"<center><h1>407 Proxy Authentication Required</h1></center>" CRLF
"</body>" CRLF
"</html>" CRLF
;


void
ngx_http_connect_tunnel_filters(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_connect_tunnel_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_connect_tunnel_body_filter;
}


/*
 * To the phases the client's proxy credentials are its credentials, and there
 * are no others.  Under their own name they reach neither a log nor a backend.
 */

void
ngx_http_connect_tunnel_credentials(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *proxy;

    static u_char  name[] = "authorization";

    proxy = NULL;
    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("Proxy-Authorization") - 1
            && ngx_strncmp(h[i].lowcase_key, "proxy-authorization",
                           h[i].key.len)
               == 0)
        {
            h[i].hash = ngx_hash_key(name, sizeof(name) - 1);
            ngx_str_set(&h[i].key, "Authorization");
            h[i].lowcase_key = name;

            if (proxy) {
                h[i].value.len = 0;

            } else {
                proxy = &h[i];
            }

        } else if (h[i].key.len == sizeof(name) - 1
                   && ngx_strncmp(h[i].lowcase_key, name, h[i].key.len) == 0)
        {
            h[i].value.len = 0;
        }
    }

    r->headers_in.authorization = proxy;
    ngx_http_connect_tunnel_set_proxy_auth(r, proxy);
}


/* a log that is told to have the credentials gets the name and stars */

void
ngx_http_connect_tunnel_forget(ngx_http_request_t *r)
{
    ngx_int_t         rc;
    ngx_str_t         plain, value;
    ngx_table_elt_t  *h;

    if (ngx_http_connect_tunnel_get_ctx(r) == NULL) {

        if (r->method != NGX_HTTP_CONNECT) {
            return;
        }

        /* it failed while it was read */

        ngx_http_connect_tunnel_credentials(r);
    }

    h = r->headers_in.authorization;

    if (h == NULL) {
        return;
    }

    rc = ngx_http_auth_basic_user(r);

    /* the variables that have been used have these bytes */

    ngx_memset(h->value.data, '*', h->value.len);

    if (rc != NGX_OK) {
        return;
    }

    /* $remote_user is what the header says once more, as "name:password" */

    ngx_memset(r->headers_in.passwd.data, '*', r->headers_in.passwd.len);

    plain.data = r->headers_in.user.data;
    plain.len = r->headers_in.user.len + 1 + r->headers_in.passwd.len;

    value.data = ngx_pnalloc(r->pool, sizeof("Basic ") - 1
                                      + ngx_base64_encoded_length(plain.len));
    if (value.data == NULL) {
        return;
    }

    h->value.data = value.data;

    value.data = ngx_cpymem(value.data, "Basic ", sizeof("Basic ") - 1);
    ngx_encode_base64(&value, &plain);

    h->value.len = sizeof("Basic ") - 1 + value.len;
}


static ngx_int_t
ngx_http_connect_tunnel_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_uint_t                      version;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    if (ctx == NULL) {

        if (ngx_http_connect_tunnel_intake_restore(r)) {
            r->keepalive = 0;

            if (r->headers_out.status < NGX_HTTP_SPECIAL_RESPONSE) {
                ngx_http_connect_tunnel_no_success(r, NGX_HTTP_BAD_REQUEST);
            }
        }

        return ngx_http_next_header_filter(r);
    }

    if (!ctx->tunnel) {

        if (ngx_http_connect_tunnel_refused(r, ctx) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_next_header_filter(r);
    }

    /*
     * RFC 9110 9.3.6: no Content-Length or Transfer-Encoding.  The length is
     * not known, so to an HTTP/1.0 client the chunked filter adds nothing.
     * And there is no body that filters might change; of a stream that would
     * be the end.
     */

    version = r->http_version;

    r->http_version = NGX_HTTP_VERSION_10;
    r->header_only = (r->stream == NULL);

    rc = ngx_http_next_header_filter(r);

    r->http_version = version;
    r->header_only = 0;

    return rc;
}


static ngx_int_t
ngx_http_connect_tunnel_refused(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx)
{
    ngx_connection_t                    *c;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    c = r->connection;

    if (r->headers_out.status == NGX_HTTP_UNAUTHORIZED) {
        ngx_http_connect_tunnel_authenticate(r, ctx);

    } else if (r->headers_out.status < NGX_HTTP_SPECIAL_RESPONSE) {

        ngx_http_connect_tunnel_no_success(r,
                           (ctx->session.result == NGX_TUNNEL_NO_RESULT)
                           ? NGX_HTTP_FORBIDDEN
                           : ngx_tunnel_result(ctx->session.result)->status);
    }

    if (r->headers_out.status == 425) {

        /* not among the statuses that nginx names */

        ngx_str_set(&r->headers_out.status_line, "425 Too Early");
    }

    if (r->headers_out.status == 407) {

        /* it was nginx that has asked */

        ctlcf = ngx_http_get_module_loc_conf(r,
                                             ngx_http_connect_tunnel_module);

        ngx_tunnel_stat_result(&ctx->session.stat, &ctlcf->tunnel.stat,
                               NGX_TUNNEL_AUTH_FAILED);
    }

    /*
     * What comes behind a refused CONNECT was meant for the target, so the
     * connection is kept only for another try with credentials.  A stream is
     * over with its response.
     */

    if (r->headers_out.status != 407
        || r->header_in->pos != r->header_in->last)
    {
        r->keepalive = 0;

    } else if (r->stream == NULL) {
        ngx_http_connect_tunnel_intake_refused(c);
    }

    if (ctx->session.result == NGX_TUNNEL_NO_RESULT) {
        return NGX_OK;
    }

    return ngx_http_connect_tunnel_proxy_status(r, ctx);
}


/*
 * "return 200" or "error_page 403 =200": to the client any 2xx is a tunnel,
 * and the page the first bytes of its target
 */

static void
ngx_http_connect_tunnel_no_success(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "status %ui of a response to CONNECT is changed to %ui",
                  r->headers_out.status, status);

    r->headers_out.status = status;
    ngx_str_null(&r->headers_out.status_line);
    r->err_status = status;
}


/* RFC 9110 11.7: a proxy asks with its own status and header */

static void
ngx_http_connect_tunnel_authenticate(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_out.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].hash
            && h[i].key.len == sizeof("WWW-Authenticate") - 1
            && ngx_strncasecmp(h[i].key.data, (u_char *) "WWW-Authenticate",
                               h[i].key.len)
               == 0)
        {
            ngx_str_set(&h[i].key, "Proxy-Authenticate");
            h[i].lowcase_key = NULL;
        }
    }

    r->headers_out.status = 407;
    ngx_str_set(&r->headers_out.status_line,
                "407 Proxy Authentication Required");

    if (r->err_status != NGX_HTTP_UNAUTHORIZED) {
        return;
    }

    r->err_status = 407;

    /* nginx's own page says 401, an error_page says what it says */

    if (!r->internal) {
        ctx->auth = 1;
        r->headers_out.content_length_n =
                                  sizeof(ngx_http_connect_tunnel_407_page) - 1;
    }
}


/* RFC 9209 */

static ngx_int_t
ngx_http_connect_tunnel_proxy_status(ngx_http_request_t *r,
    ngx_http_connect_tunnel_ctx_t *ctx)
{
    size_t                               len;
    ngx_table_elt_t                     *h;
    const ngx_tunnel_result_t           *res;
    ngx_http_connect_tunnel_loc_conf_t  *ctlcf;

    ctlcf = ngx_http_get_module_loc_conf(r, ngx_http_connect_tunnel_module);

    res = ngx_tunnel_result(ctx->session.result);

    if (ctlcf->proxy_status.len == 0 || res->error.len == 0) {
        return NGX_OK;
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 0;

    len = ctlcf->proxy_status.len + sizeof("; error=") - 1 + res->error.len;

    h->value.data = ngx_pnalloc(r->pool, len);
    if (h->value.data == NULL) {
        return NGX_ERROR;
    }

    h->value.len = ngx_sprintf(h->value.data, "%V; error=%V",
                               &ctlcf->proxy_status, &res->error)
                   - h->value.data;

    ngx_str_set(&h->key, "Proxy-Status");
    h->hash = 1;
    ngx_http_connect_tunnel_header_next(h);

    return NGX_OK;
}


static ngx_int_t
ngx_http_connect_tunnel_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t                      *b;
    ngx_chain_t                     out;
    ngx_http_connect_tunnel_ctx_t  *ctx;

    if (in == NULL || r->headers_out.status != 407) {
        return ngx_http_next_body_filter(r, in);
    }

    ctx = ngx_http_connect_tunnel_get_ctx(r);

    if (ctx == NULL || !ctx->auth) {
        return ngx_http_next_body_filter(r, in);
    }

    ctx->auth = 0;

    for ( /* void */ ; in; in = in->next) {
        in->buf->pos = in->buf->last;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->memory = 1;
    b->pos = ngx_http_connect_tunnel_407_page;
    b->last = b->pos + sizeof(ngx_http_connect_tunnel_407_page) - 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}
