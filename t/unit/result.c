
/*
 * The table of results and reasons, as DESIGN and the reference have it.
 */


#include "unit.h"


typedef struct {
    ngx_tunnel_result_e   result;
    const char           *token;
    ngx_uint_t            status;
    ngx_uint_t            socks5;
    ngx_uint_t            socks4;
    ngx_uint_t            level;
    const char           *error;
} unit_result_t;


static const unit_result_t  unit_result_cases[] = {
    { NGX_TUNNEL_OK, "ok", 200, 0, 90, NGX_LOG_INFO, "" },
    { NGX_TUNNEL_BAD_REQUEST, "bad_request", 400, 1, 91, NGX_LOG_INFO,
      "http_request_error" },
    { NGX_TUNNEL_BAD_VERSION, "bad_version", 505, 1, 91, NGX_LOG_INFO,
      "http_request_error" },
    { NGX_TUNNEL_TOO_EARLY, "too_early", 425, 1, 91, NGX_LOG_INFO,
      "http_request_error" },
    { NGX_TUNNEL_DENIED_NAME, "denied_name", 403, 2, 91, NGX_LOG_ERR,
      "http_request_denied" },
    { NGX_TUNNEL_DENIED_ADDRESS, "denied_address", 403, 2, 91, NGX_LOG_ERR,
      "destination_ip_prohibited" },
    { NGX_TUNNEL_RESOLVE_FAILED, "resolve_failed", 502, 4, 91, NGX_LOG_ERR,
      "dns_error" },
    { NGX_TUNNEL_RESOLVE_TIMEOUT, "resolve_timeout", 504, 4, 91, NGX_LOG_ERR,
      "dns_timeout" },
    { NGX_TUNNEL_REFUSED, "refused", 502, 5, 91, NGX_LOG_ERR,
      "connection_refused" },
    { NGX_TUNNEL_UNREACHABLE, "unreachable", 502, 4, 91, NGX_LOG_ERR,
      "destination_ip_unroutable" },
    { NGX_TUNNEL_CONNECT_TIMEOUT, "connect_timeout", 504, 4, 91, NGX_LOG_ERR,
      "connection_timeout" },
    { NGX_TUNNEL_CLIENT_LIMIT, "client_limit", 429, 2, 91, NGX_LOG_ERR,
      "connection_limit_reached" },
    { NGX_TUNNEL_MACHINE_LIMIT, "machine_limit", 503, 1, 91, NGX_LOG_ERR,
      "connection_limit_reached" },
    { NGX_TUNNEL_INTERNAL, "internal", 500, 1, 91, NGX_LOG_ERR,
      "proxy_internal_error" },
    { NGX_TUNNEL_BAD_COMMAND, "unsupported_command", 501, 7, 91, NGX_LOG_INFO,
      "" },
    { NGX_TUNNEL_BAD_ADDRESS, "unsupported_address", 501, 8, 91, NGX_LOG_INFO,
      "" },
    { NGX_TUNNEL_AUTH_FAILED, "auth_failed", 407, 2, 93, NGX_LOG_ERR, "" },
    { NGX_TUNNEL_HANDSHAKE_TIMEOUT, "handshake_timeout", 408, 1, 91,
      NGX_LOG_INFO, "" },
    { NGX_TUNNEL_REJECTED, "rejected", 403, 2, 91, NGX_LOG_INFO,
      "http_request_denied" },
    { NGX_TUNNEL_LIMIT, "limit", 503, 1, 91, NGX_LOG_ERR,
        "connection_limit_reached" },
    { NGX_TUNNEL_NO_RESULT, "", 500, 1, 91, NGX_LOG_ERR, "" },
    { NGX_TUNNEL_NO_RESULT + 1, "", 500, 1, 91, NGX_LOG_ERR, "" },
    { 1000000, "", 500, 1, 91, NGX_LOG_ERR, "" },
    { (ngx_tunnel_result_e) -1, "", 500, 1, 91, NGX_LOG_ERR, "" }
};


static const char  *unit_reason_cases[] = {
    [NGX_TUNNEL_COMPLETED] = "completed",
    [NGX_TUNNEL_CLIENT_CLOSED] = "client_closed",
    [NGX_TUNNEL_TARGET_CLOSED] = "target_closed",
    [NGX_TUNNEL_CLIENT_RESET] = "client_reset",
    [NGX_TUNNEL_TARGET_RESET] = "target_reset",
    [NGX_TUNNEL_IDLE_TIMEOUT] = "idle_timeout",
    [NGX_TUNNEL_SEND_TIMEOUT] = "send_timeout",
    [NGX_TUNNEL_MIN_RATE] = "min_rate",
    [NGX_TUNNEL_MAX_LIFETIME] = "max_lifetime",
    [NGX_TUNNEL_MAX_PAYLOAD] = "max_payload",
    [NGX_TUNNEL_QUOTA] = "quota",
    [NGX_TUNNEL_NOT_TLS] = "not_tls",
    [NGX_TUNNEL_SNI_MISMATCH] = "sni_mismatch",
    [NGX_TUNNEL_KILLED] = "killed",
    [NGX_TUNNEL_DENIED] = "denied",
    [NGX_TUNNEL_SHUTDOWN] = "shutdown",
    [NGX_TUNNEL_WORKER_EXITED] = "worker_exited",
    [NGX_TUNNEL_ERROR] = "error",
    [NGX_TUNNEL_NO_REASON] = "",
    [NGX_TUNNEL_NO_REASON + 1] = ""
};


void
unit_results(void)
{
    ngx_str_t                   token, error;
    ngx_uint_t                  i;
    const unit_result_t        *c;
    const ngx_tunnel_result_t  *r;

    for (i = 0; i < unit_nelts(unit_result_cases); i++) {
        c = &unit_result_cases[i];
        r = ngx_tunnel_result(c->result);

        token = r->token;
        error = r->error;

        unit_check(unit_is(&token, c->token), "%u: token \"%s\"",
                   c->result, unit_text(token.data, token.len));
        unit_check(r->status == c->status, "%s: status %lu",
                   c->token, r->status);
        unit_check(r->socks5 == c->socks5 && r->socks4 == c->socks4,
                   "%s: SOCKS %lu, %lu", c->token, r->socks5, r->socks4);
        unit_check(r->level == c->level, "%s: level %lu", c->token, r->level);
        unit_check(unit_is(&error, c->error), "%s: error \"%s\"",
                   c->token, unit_text(error.data, error.len));
    }

    /* a result that was added has to be added to this test */

    unit_check(unit_nelts(unit_result_cases) == NGX_TUNNEL_NO_RESULT + 4,
               "there are %u results", NGX_TUNNEL_NO_RESULT);
}


void
unit_reasons(void)
{
    ngx_str_t   token;
    ngx_uint_t  i;

    for (i = 0; i < unit_nelts(unit_reason_cases); i++) {
        token = *ngx_tunnel_reason(i);

        if (!unit_check(unit_reason_cases[i] != NULL, "%lu: not tested", i)) {
            continue;
        }

        unit_check(unit_is(&token, unit_reason_cases[i]), "%lu: \"%s\"",
                   i, unit_text(token.data, token.len));
    }

    /* a reason that was added has to be added to this test */

    unit_check(unit_nelts(unit_reason_cases) == NGX_TUNNEL_NO_REASON + 2,
               "there are %u reasons", NGX_TUNNEL_NO_REASON);

    token = *ngx_tunnel_reason((ngx_tunnel_reason_e) -1);

    unit_check(unit_is(&token, ""), "-1: \"%s\"",
               unit_text(token.data, token.len));
}
