
/*
 * Zone: its directives.
 */


#include "ngx_tunnel_shared.h"


#define NGX_TUNNEL_ZONE_MIN   65536

#define NGX_TUNNEL_ZONE_KEYS  1000
#define NGX_TUNNEL_MAX_KEYS   100000


void
ngx_tunnel_stat_conf_create(ngx_tunnel_stat_conf_t *conf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     conf->label = { 0, NULL };
     *     conf->keys = 0;
     *     conf->series = NULL;
     */

    conf->zone = NGX_CONF_UNSET_PTR;
    conf->key = NGX_CONF_UNSET_PTR;
    conf->max_connections = NGX_CONF_UNSET_UINT;
    conf->log_interval = NGX_CONF_UNSET_MSEC;
    conf->recheck = NGX_CONF_UNSET;
}


char *
ngx_tunnel_stat_conf_merge(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_stat_conf_t *prev)
{
    ngx_conf_merge_ptr_value(conf->zone, prev->zone, NULL);

    if (conf->key == NGX_CONF_UNSET_PTR) {
        conf->key = (prev->key == NGX_CONF_UNSET_PTR) ? NULL : prev->key;
        conf->keys = prev->keys;
    }

    if (conf->label.data == NULL) {
        conf->label = prev->label;
    }

    ngx_conf_merge_uint_value(conf->max_connections, prev->max_connections, 0);
    ngx_conf_merge_msec_value(conf->log_interval, prev->log_interval, 0);
    ngx_conf_merge_value(conf->recheck, prev->recheck, 0);

    return NGX_CONF_OK;
}


char *
ngx_tunnel_zone_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    u_char                  *colon;
    ssize_t                  size;
    ngx_str_t               *value, name, s;
    ngx_shm_zone_t          *shm_zone;
    ngx_tunnel_stat_conf_t  *scf;

    scf = (ngx_tunnel_stat_conf_t *) (p + cmd->offset);

    if (scf->zone != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        scf->zone = NULL;
        return NGX_CONF_OK;
    }

    name = value[1];
    size = 0;

    colon = (u_char *) ngx_strchr(value[1].data, ':');

    if (colon) {
        name.len = colon - name.data;

        s.data = colon + 1;
        s.len = value[1].data + value[1].len - s.data;

        size = ngx_parse_size(&s);
    }

    if (size == NGX_ERROR || name.len == 0) {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                       "\"off\", or name:size, or the name of "
                                       "a zone whose size is elsewhere");
    }

    if (colon && size < NGX_TUNNEL_ZONE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is too small, it must have at "
                           "least %dk", &name, NGX_TUNNEL_ZONE_MIN / 1024);
        return NGX_CONF_ERROR;
    }

    shm_zone = ngx_shared_memory_add(cf, &name, size, NGX_TUNNEL_ZONE_TAG);

    if (shm_zone == NULL || ngx_tunnel_zone_of(cf, shm_zone) == NULL) {
        return NGX_CONF_ERROR;
    }

    scf->zone = shm_zone;

    return NGX_CONF_OK;
}


char *
ngx_tunnel_zone_key_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_int_t                n;
    ngx_str_t               *value;
    ngx_tunnel_layer_t      *layer;
    ngx_tunnel_stat_conf_t  *scf;

    scf = (ngx_tunnel_stat_conf_t *) (p + cmd->offset);

    if (scf->key != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    layer = cmd->post;
    value = cf->args->elts;

    scf->keys = NGX_TUNNEL_ZONE_KEYS;

    if (cf->args->nelts == 3) {

        n = NGX_ERROR;

        if (ngx_strncmp(value[2].data, "max=", 4) == 0) {
            n = ngx_atoi(value[2].data + 4, value[2].len - 4);
        }

        if (n < 1 || n > NGX_TUNNEL_MAX_KEYS) {
            return ngx_tunnel_conf_invalid(cf, cmd, &value[2],
                                           "max= and a number from 1 to "
                                           "100000");
        }

        scf->keys = n;
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        scf->key = NULL;
        return NGX_CONF_OK;
    }

    scf->key = layer->compile(cf, &value[1]);

    return scf->key ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_tunnel_zone_label_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t               *value;
    ngx_tunnel_stat_conf_t  *scf;

    scf = (ngx_tunnel_stat_conf_t *) (p + cmd->offset);

    if (scf->label.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (value[1].len > NGX_TUNNEL_KEY_LEN
        || ngx_strlchr(value[1].data, value[1].data + value[1].len, '$'))
    {
        return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                       "of at most 255 bytes, and without "
                                       "variables");
    }

    scf->label = value[1];

    return NGX_CONF_OK;
}


char *
ngx_tunnel_zone_interval_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_msec_t  *msec;

    rv = ngx_tunnel_conf_msec_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    msec = (ngx_msec_t *) (p + cmd->offset);

    if (*msec && *msec < 1000) {
        value = cf->args->elts;

        return ngx_tunnel_conf_invalid(cf, cmd, &value[1],
                                       "0, or a time of at least 1s");
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_tunnel_zone_add(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_front_e front, ngx_str_t *label, ngx_array_t *zones)
{
    ngx_uint_t             i;
    ngx_tunnel_zone_t     *zone, **z;
    ngx_tunnel_series_t  **series, *s;

    if (conf->zone == NULL) {
        return NGX_OK;
    }

    zone = conf->zone->data;

    if (conf->label.data) {
        label = &conf->label;
    }

    series = zone->series.elts;

    for (i = 0; i < zone->series.nelts; i++) {

        if (series[i]->front == front
            && series[i]->label.len == label->len
            && ngx_memcmp(series[i]->label.data, label->data, label->len)
               == 0)
        {
            conf->series = series[i];
            break;
        }
    }

    if (i == zone->series.nelts) {
        s = ngx_palloc(cf->pool, sizeof(ngx_tunnel_series_t));
        if (s == NULL) {
            return NGX_ERROR;
        }

        s->front = front;
        s->label = *label;

        series = ngx_array_push(&zone->series);
        if (series == NULL) {
            return NGX_ERROR;
        }

        *series = s;
        conf->series = s;
    }

    z = zones->elts;

    for (i = 0; i < zones->nelts; i++) {
        if (z[i] == zone) {
            return NGX_OK;
        }
    }

    z = ngx_array_push(zones);
    if (z == NULL) {
        return NGX_ERROR;
    }

    *z = zone;

    return NGX_OK;
}


ngx_int_t
ngx_tunnel_zone_check(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_zone_check_pt check, void *data)
{
    ngx_tunnel_zone_t       *zone;
    ngx_tunnel_zone_rule_t  *rule;

    if ((conf->max_connections || conf->recheck) && conf->zone == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%s\" requires \"tunnel_zone\"",
                           conf->recheck ? "target_recheck"
                                         : "tunnel_max_connections");
        return NGX_ERROR;
    }

    if (conf->series == NULL) {
        return NGX_OK;
    }

    zone = conf->zone->data;

    rule = ngx_array_push(&zone->rules);
    if (rule == NULL) {
        return NGX_ERROR;
    }

    rule->conf = conf;
    rule->check = check;
    rule->data = data;

    return NGX_OK;
}


ngx_int_t
ngx_tunnel_zone_worker(ngx_conf_t *cf, ngx_tunnel_stat_conf_t *conf,
    ngx_tunnel_worker_t *worker)
{
    ngx_uint_t             i;
    ngx_tunnel_zone_t     *zone;
    ngx_tunnel_worker_t  **workers;

    if (conf->series == NULL) {
        return NGX_OK;
    }

    zone = conf->zone->data;
    workers = zone->workers.elts;

    for (i = 0; i < zone->workers.nelts; i++) {
        if (workers[i] == worker) {
            return NGX_OK;
        }
    }

    workers = ngx_array_push(&zone->workers);
    if (workers == NULL) {
        return NGX_ERROR;
    }

    *workers = worker;

    return NGX_OK;
}
