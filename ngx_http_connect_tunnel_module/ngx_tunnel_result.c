
/*
 * The one table of results and reasons.
 */


#include "ngx_tunnel.h"


static const ngx_tunnel_result_t  ngx_tunnel_results[] = {

    { ngx_string("ok"), 200, 0, 90, NGX_LOG_INFO,
      ngx_null_string },

    { ngx_string("bad_request"), 400, 1, 91, NGX_LOG_INFO,
      ngx_string("http_request_error") },

    { ngx_string("bad_version"), 505, 1, 91, NGX_LOG_INFO,
      ngx_string("http_request_error") },

    { ngx_string("too_early"), 425, 1, 91, NGX_LOG_INFO,
      ngx_string("http_request_error") },

    { ngx_string("denied_name"), 403, 2, 91, NGX_LOG_ERR,
      ngx_string("http_request_denied") },

    { ngx_string("denied_address"), 403, 2, 91, NGX_LOG_ERR,
      ngx_string("destination_ip_prohibited") },

    { ngx_string("resolve_failed"), 502, 4, 91, NGX_LOG_ERR,
      ngx_string("dns_error") },

    { ngx_string("resolve_timeout"), 504, 4, 91, NGX_LOG_ERR,
      ngx_string("dns_timeout") },

    { ngx_string("refused"), 502, 5, 91, NGX_LOG_ERR,
      ngx_string("connection_refused") },

    { ngx_string("unreachable"), 502, 4, 91, NGX_LOG_ERR,
      ngx_string("destination_ip_unroutable") },

    { ngx_string("connect_timeout"), 504, 4, 91, NGX_LOG_ERR,
      ngx_string("connection_timeout") },

    { ngx_string("client_limit"), 429, 2, 91, NGX_LOG_ERR,
      ngx_string("connection_limit_reached") },

    { ngx_string("machine_limit"), 503, 1, 91, NGX_LOG_ERR,
      ngx_string("connection_limit_reached") },

    { ngx_string("internal"), 500, 1, 91, NGX_LOG_ERR,
      ngx_string("proxy_internal_error") },

    { ngx_string("unsupported_command"), 501, 7, 91, NGX_LOG_INFO,
      ngx_null_string },

    { ngx_string("unsupported_address"), 501, 8, 91, NGX_LOG_INFO,
      ngx_null_string },

    { ngx_string("auth_failed"), 407, 2, 93, NGX_LOG_ERR,
      ngx_null_string },

    { ngx_string("handshake_timeout"), 408, 1, 91, NGX_LOG_INFO,
      ngx_null_string },

    { ngx_string("rejected"), 403, 2, 91, NGX_LOG_INFO,
      ngx_string("http_request_denied") },

    { ngx_string("limit"), 503, 1, 91, NGX_LOG_ERR,
      ngx_string("connection_limit_reached") },

    { ngx_null_string, 500, 1, 91, NGX_LOG_ERR,
      ngx_null_string }
};


static const ngx_str_t  ngx_tunnel_reasons[] = {
    ngx_string("completed"),
    ngx_string("client_closed"),
    ngx_string("target_closed"),
    ngx_string("client_reset"),
    ngx_string("target_reset"),
    ngx_string("idle_timeout"),
    ngx_string("send_timeout"),
    ngx_string("min_rate"),
    ngx_string("max_lifetime"),
    ngx_string("max_payload"),
    ngx_string("quota"),
    ngx_string("not_tls"),
    ngx_string("sni_mismatch"),
    ngx_string("killed"),
    ngx_string("denied"),
    ngx_string("shutdown"),
    ngx_string("worker_exited"),
    ngx_string("error"),
    ngx_null_string
};


const ngx_tunnel_result_t *
ngx_tunnel_result(ngx_tunnel_result_e result)
{
    if (result > NGX_TUNNEL_NO_RESULT) {
        result = NGX_TUNNEL_NO_RESULT;
    }

    return &ngx_tunnel_results[result];
}


const ngx_str_t *
ngx_tunnel_reason(ngx_tunnel_reason_e reason)
{
    if (reason > NGX_TUNNEL_NO_REASON) {
        reason = NGX_TUNNEL_NO_REASON;
    }

    return &ngx_tunnel_reasons[reason];
}
