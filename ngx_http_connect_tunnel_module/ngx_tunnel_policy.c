
/*
 * Policy: the directives whose values may have variables, which are a time, a
 * size, a rate, or a choice.
 */


#include "ngx_tunnel_policy.h"
#include "ngx_tunnel_rate.h"


typedef enum {
    ngx_tunnel_value_time = 0,
    ngx_tunnel_value_size,
    ngx_tunnel_value_choice
} ngx_tunnel_value_e;


/* the values of a policy, in the order of their members */

typedef struct {
    const char           *name;
    ngx_tunnel_value_e    kind;
    off_t                 value;         /* the default */
    ngx_uint_t            group;         /* as many, from here, of one
                                            directive */
    ngx_conf_enum_t      *choices;       /* of a choice */
} ngx_tunnel_value_t;


static ngx_conf_enum_t  ngx_tunnel_proxy_protocol[] = {
    { ngx_string("off"), 0 },
    { ngx_string("on"), 1 },
    { ngx_string("v2"), 2 },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_tunnel_require_tls[] = {
    { ngx_string("off"), NGX_TUNNEL_TLS_OFF },
    { ngx_string("on"), NGX_TUNNEL_TLS_ON },
    { ngx_string("sni"), NGX_TUNNEL_TLS_SNI },
    { ngx_null_string, 0 }
};


static const ngx_tunnel_value_t  ngx_tunnel_values[] = {
    { "relay_idle_timeout", ngx_tunnel_value_time, 600000, 1, NULL },
    { "relay_send_timeout", ngx_tunnel_value_time, 0, 1, NULL },
    { "relay_max_lifetime", ngx_tunnel_value_time, 0, 1, NULL },
    { "relay_min_rate", ngx_tunnel_value_size, 0, 3, NULL },
    { "relay_min_rate window=", ngx_tunnel_value_time, 60000, 1, NULL },
    { "relay_min_rate grace=", ngx_tunnel_value_time, -1, 1, NULL },
    { "relay_max_rate", ngx_tunnel_value_size, 0, 1, NULL },
    { "relay_upload_rate", ngx_tunnel_value_size, -1, 1, NULL },
    { "relay_download_rate", ngx_tunnel_value_size, -1, 1, NULL },
    { "relay_max_payload", ngx_tunnel_value_size, 0, 3, NULL },
    { "relay_max_payload upload", ngx_tunnel_value_size, 0, 1, NULL },
    { "relay_max_payload download", ngx_tunnel_value_size, 0, 1, NULL },
    { "target_proxy_protocol", ngx_tunnel_value_choice, 0, 1,
      ngx_tunnel_proxy_protocol },
    { "target_require_tls", ngx_tunnel_value_choice, 0, 1,
      ngx_tunnel_require_tls }
};


/* years, so that sums and products of times do not overflow */

#define NGX_TUNNEL_MAX_TIME  ((off_t) 10 * 365 * 24 * 3600 * 1000)


#define ngx_tunnel_policy_index(member)                                       \
    (offsetof(ngx_tunnel_policy_t, member) / sizeof(off_t))


static char *ngx_tunnel_policy_set(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_tunnel_policy_conf_t *conf, ngx_uint_t i, ngx_str_t *value);
static ngx_int_t ngx_tunnel_policy_parse(ngx_uint_t i, ngx_str_t *value,
    off_t *n);


ngx_conf_enum_t  ngx_tunnel_splice[] = {
    { ngx_string("auto"), NGX_TUNNEL_SPLICE_AUTO },
    { ngx_string("on"), NGX_TUNNEL_SPLICE_ON },
    { ngx_string("off"), NGX_TUNNEL_SPLICE_OFF },
    { ngx_null_string, 0 }
};


void
ngx_tunnel_policy_create(ngx_tunnel_policy_conf_t *conf)
{
    off_t       *values;
    ngx_uint_t   i;

    values = (off_t *) &conf->policy;

    for (i = 0; i < NGX_TUNNEL_POLICY_VALUES; i++) {
        values[i] = NGX_CONF_UNSET;
        conf->compiled[i] = NULL;
    }

    conf->policy.buffer_size = NGX_CONF_UNSET_SIZE;
    conf->policy.half_close = NGX_CONF_UNSET;
    conf->policy.keepalive = NGX_CONF_UNSET;
    conf->policy.splice = NGX_CONF_UNSET_UINT;
    conf->policy.preread_timeout = NGX_CONF_UNSET_MSEC;

    conf->quotas = NGX_CONF_UNSET_PTR;
}


char *
ngx_tunnel_policy_merge(ngx_conf_t *cf, ngx_tunnel_policy_conf_t *conf,
    ngx_tunnel_policy_conf_t *prev)
{
    off_t                *values, *inherited;
    ngx_uint_t            i, k, n, set;
    ngx_tunnel_policy_t  *policy;

    policy = &conf->policy;

    values = (off_t *) policy;
    inherited = (off_t *) &prev->policy;

    conf->ncompiled = 0;

    for (i = 0; i < NGX_TUNNEL_POLICY_VALUES; i += n) {

        /* those of one directive are inherited together */

        set = 0;

        for (n = 0; n < ngx_tunnel_values[i].group; n++) {
            set |= (values[i + n] != NGX_CONF_UNSET || conf->compiled[i + n]);
        }

        for (k = i; k < i + n; k++) {

            if (!set) {
                values[k] = inherited[k];
                conf->compiled[k] = prev->compiled[k];
            }

            if (values[k] == NGX_CONF_UNSET && conf->compiled[k] == NULL) {
                values[k] = ngx_tunnel_values[k].value;
            }

            conf->ncompiled += (conf->compiled[k] != NULL);
        }
    }

    ngx_conf_merge_size_value(policy->buffer_size, prev->policy.buffer_size,
                              64 * 1024);
    ngx_conf_merge_value(policy->half_close, prev->policy.half_close, 1);
    ngx_conf_merge_value(policy->keepalive, prev->policy.keepalive, 0);
    ngx_conf_merge_uint_value(policy->splice, prev->policy.splice,
                              NGX_TUNNEL_SPLICE_AUTO);
    ngx_conf_merge_msec_value(policy->preread_timeout,
                              prev->policy.preread_timeout, 2000);

    ngx_conf_merge_ptr_value(conf->quotas, prev->quotas, NULL);

    if (policy->buffer_size < 1024 || policy->buffer_size > 16 * 1024 * 1024) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"relay_buffer_size\" %uz, "
                           "it must be from 1k to 16m", policy->buffer_size);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_tunnel_policy_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = 0; ngx_strcmp(ngx_tunnel_values[i].name, cmd->name.data) != 0;
         i++)
    {
        /* void */
    }

    return ngx_tunnel_policy_set(cf, cmd,
                                 (ngx_tunnel_policy_conf_t *)
                                     (p + cmd->offset),
                                 i, &value[1]);
}


char *
ngx_tunnel_policy_min_rate(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *rv, *p = conf;

    ngx_str_t                 *value, s;
    ngx_uint_t                 i;
    ngx_tunnel_policy_conf_t  *pcf;

    pcf = (ngx_tunnel_policy_conf_t *) (p + cmd->offset);
    value = cf->args->elts;

    rv = ngx_tunnel_policy_set(cf, cmd, pcf,
                               ngx_tunnel_policy_index(min_rate), &value[1]);

    for (i = 2; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {

        s = value[i];

        if (ngx_strncmp(s.data, "window=", 7) == 0) {
            s.data += 7;
            s.len -= 7;

            rv = ngx_tunnel_policy_set(cf, cmd, pcf,
                                     ngx_tunnel_policy_index(min_rate_window),
                                     &s);

        } else if (ngx_strncmp(s.data, "grace=", 6) == 0) {
            s.data += 6;
            s.len -= 6;

            rv = ngx_tunnel_policy_set(cf, cmd, pcf,
                                     ngx_tunnel_policy_index(min_rate_grace),
                                     &s);

        } else {
            rv = ngx_tunnel_conf_invalid(cf, cmd, &s,
                                         "window=time or grace=time");
        }
    }

    return rv;
}


char *
ngx_tunnel_policy_max_payload(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    if (cf->args->nelts == 2) {
        i = ngx_tunnel_policy_index(max_payload);

    } else if (ngx_strcmp(value[2].data, "upload") == 0) {
        i = ngx_tunnel_policy_index(max_upload);

    } else if (ngx_strcmp(value[2].data, "download") == 0) {
        i = ngx_tunnel_policy_index(max_download);

    } else {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[2],
                                       "\"upload\" or \"download\"");
    }

    return ngx_tunnel_policy_set(cf, cmd,
                                 (ngx_tunnel_policy_conf_t *)
                                     (p + cmd->offset),
                                 i, &value[1]);
}


static char *
ngx_tunnel_policy_set(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_tunnel_policy_conf_t *conf, ngx_uint_t i, ngx_str_t *value)
{
    off_t               *values;
    ngx_tunnel_layer_t  *layer;

    values = (off_t *) &conf->policy;

    if (values[i] != NGX_CONF_UNSET || conf->compiled[i]) {
        return "is duplicate";
    }

    if (ngx_strlchr(value->data, value->data + value->len, '$')) {
        layer = cmd->post;

        conf->compiled[i] = layer->compile(cf, value);

        return conf->compiled[i] ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (ngx_tunnel_policy_parse(i, value, &values[i]) == NGX_OK) {
        return NGX_CONF_OK;
    }

    if (i == ngx_tunnel_policy_index(min_rate_window)) {
        return ngx_tunnel_conf_invalid(cf, cmd, value,
                                       "window= and a time of 1s or more");
    }

    if (ngx_tunnel_values[i].kind == ngx_tunnel_value_choice) {
        return ngx_tunnel_conf_invalid_choice(cf, cmd, value,
                                              ngx_tunnel_values[i].choices);
    }

    return ngx_tunnel_conf_invalid(cf, cmd, value,
                                   ngx_tunnel_values[i].kind
                                       == ngx_tunnel_value_time
                                   ? "\"off\" or a time, such as 500ms, 10s, "
                                     "5m, or 1h"
                                   : "\"off\" or a number of bytes, such as "
                                     "1000, 64k, 10m, or 1g");
}


static ngx_int_t
ngx_tunnel_policy_parse(ngx_uint_t i, ngx_str_t *value, off_t *n)
{
    ngx_conf_enum_t  *choice;

    if (i != ngx_tunnel_policy_index(min_rate_window)
        && value->len == 3 && ngx_strncmp(value->data, "off", 3) == 0)
    {
        *n = 0;
        return NGX_OK;
    }

    switch (ngx_tunnel_values[i].kind) {

    case ngx_tunnel_value_time:
        *n = ngx_parse_time(value, 0);
        *n = ngx_min(*n, NGX_TUNNEL_MAX_TIME);
        break;

    case ngx_tunnel_value_size:
        *n = ngx_parse_offset(value);
        break;

    default: /* ngx_tunnel_value_choice */
        choice = ngx_tunnel_conf_choice(ngx_tunnel_values[i].choices, value);
        *n = choice ? (off_t) choice->value : NGX_ERROR;
    }

    if (*n == NGX_ERROR) {
        return NGX_ERROR;
    }

    switch (i) {

    case ngx_tunnel_policy_index(min_rate_window):

        /* not more often than that is a tunnel looked at */

        return (*n < 1000) ? NGX_ERROR : NGX_OK;

    case ngx_tunnel_policy_index(min_rate):
        *n = ngx_min(*n, NGX_TUNNEL_MAX_RATE);
    }

    return NGX_OK;
}


ngx_tunnel_policy_t *
ngx_tunnel_policy_eval(ngx_tunnel_policy_conf_t *conf,
    const ngx_tunnel_layer_t *layer, void *data, ngx_pool_t *pool,
    ngx_log_t *log)
{
    off_t                *values;
    ngx_str_t             value;
    ngx_uint_t            i;
    ngx_tunnel_policy_t  *policy;

    if (conf->ncompiled == 0) {
        return &conf->policy;
    }

    policy = ngx_palloc(pool, sizeof(ngx_tunnel_policy_t));
    if (policy == NULL) {
        return NULL;
    }

    *policy = conf->policy;
    values = (off_t *) policy;

    for (i = 0; i < NGX_TUNNEL_POLICY_VALUES; i++) {

        if (conf->compiled[i] == NULL) {
            continue;
        }

        if (layer->eval(data, conf->compiled[i], &value) != NGX_OK) {
            return NULL;
        }

        if (value.len == 0) {
            values[i] = ngx_tunnel_values[i].value;
            continue;
        }

        if (ngx_tunnel_policy_parse(i, &value, &values[i]) != NGX_OK) {
            ngx_log_error(NGX_LOG_ERR, log, 0, "invalid \"%s\" value \"%V\"",
                          ngx_tunnel_values[i].name, &value);
            return NULL;
        }
    }

    return policy;
}
