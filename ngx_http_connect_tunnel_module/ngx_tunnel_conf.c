
/*
 * Setters of directives that say what is wrong and what is allowed.
 */


#include "ngx_tunnel_conf.h"


#define NGX_TUNNEL_CONF_NAMES  128


static char *ngx_tunnel_conf_explain(ngx_conf_t *cf, ngx_command_t *cmd,
    char *rv, const char *allowed);
static u_char *ngx_tunnel_conf_name(u_char *names, u_char *p, u_char *last,
    ngx_str_t *name);


char *
ngx_tunnel_conf_msec_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_tunnel_conf_explain(cf, cmd,
                                   ngx_conf_set_msec_slot(cf, cmd, conf),
                                   "a time, such as 500ms, 10s, 5m, or 1h");
}


char *
ngx_tunnel_conf_size_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_tunnel_conf_explain(cf, cmd,
                                   ngx_conf_set_size_slot(cf, cmd, conf),
                                   "a size, such as 4096, 64k, or 1m");
}


char *
ngx_tunnel_conf_num_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_tunnel_conf_explain(cf, cmd,
                                   ngx_conf_set_num_slot(cf, cmd, conf),
                                   "a number");
}


char *
ngx_tunnel_conf_enum_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t        *value;
    ngx_uint_t       *np;
    ngx_conf_enum_t  *e;

    np = (ngx_uint_t *) (p + cmd->offset);

    if (*np != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    e = ngx_tunnel_conf_choice(cmd->post, &value[1]);

    if (e == NULL) {
        return ngx_tunnel_conf_invalid_choice(cf, cmd, &value[1], cmd->post);
    }

    *np = e->value;

    return NGX_CONF_OK;
}


ngx_conf_enum_t *
ngx_tunnel_conf_choice(ngx_conf_enum_t *e, ngx_str_t *value)
{
    for ( /* void */ ; e->name.len; e++) {

        if (e->name.len == value->len
            && ngx_strncasecmp(e->name.data, value->data, value->len) == 0)
        {
            return e;
        }
    }

    return NULL;
}


char *
ngx_tunnel_conf_invalid_choice(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_str_t *value, ngx_conf_enum_t *e)
{
    u_char  *p, names[NGX_TUNNEL_CONF_NAMES];

    for (p = names; e->name.len; e++) {
        p = ngx_tunnel_conf_name(names, p, names + sizeof(names), &e->name);
    }

    *p = '\0';

    return ngx_tunnel_conf_invalid(cf, cmd, value, (char *) names);
}


char *
ngx_tunnel_conf_bitmask_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    u_char              *s, names[NGX_TUNNEL_CONF_NAMES];
    ngx_str_t           *value;
    ngx_uint_t          *np, i;
    ngx_conf_bitmask_t  *m;

    np = (ngx_uint_t *) (p + cmd->offset);

    if (*np) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        s = names;

        for (m = cmd->post; m->name.len; m++) {

            if (m->name.len == value[i].len
                && ngx_strcasecmp(m->name.data, value[i].data) == 0)
            {
                break;
            }

            s = ngx_tunnel_conf_name(names, s, names + sizeof(names),
                                     &m->name);
        }

        if (m->name.len == 0) {
            *s = '\0';
            return ngx_tunnel_conf_invalid(cf, cmd, &value[i], (char *) names);
        }

        if (*np & m->mask) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "duplicate value \"%V\" in \"%V\" directive",
                               &value[i], &cmd->name);
        }

        *np |= NGX_CONF_BITMASK_SET|m->mask;
    }

    return NGX_CONF_OK;
}


static char *
ngx_tunnel_conf_explain(ngx_conf_t *cf, ngx_command_t *cmd, char *rv,
    const char *allowed)
{
    ngx_str_t  *value;

    if (rv == NGX_CONF_OK
        || rv == NGX_CONF_ERROR
        || ngx_strcmp(rv, "is duplicate") == 0)
    {
        return rv;
    }

    value = cf->args->elts;

    return ngx_tunnel_conf_invalid(cf, cmd, &value[1], allowed);
}


#if (NGX_PCRE)

ngx_regex_t *
ngx_tunnel_conf_regex(ngx_conf_t *cf, ngx_str_t *value, const char *what)
{
    u_char               errstr[NGX_MAX_CONF_ERRSTR];
    ngx_regex_compile_t  rc;

    ngx_memzero(&rc, sizeof(ngx_regex_compile_t));

    rc.pattern.data = value->data + 1;
    rc.pattern.len = value->len - 1;

    if (rc.pattern.len && rc.pattern.data[0] == '*') {
        rc.pattern.data++;
        rc.pattern.len--;
        rc.options = NGX_REGEX_CASELESS;
    }

    if (rc.pattern.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "empty regex in %s \"%V\"", what, value);
        return NULL;
    }

    rc.pool = cf->pool;
    rc.err.len = NGX_MAX_CONF_ERRSTR;
    rc.err.data = errstr;

    if (ngx_regex_compile(&rc) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V", &rc.err);
        return NULL;
    }

    return rc.regex;
}

#endif


char *
ngx_tunnel_conf_invalid(ngx_conf_t *cf, ngx_command_t *cmd, ngx_str_t *value,
    const char *allowed)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\" in \"%V\" directive, "
                       "it must be %s", value, &cmd->name, allowed);

    return NGX_CONF_ERROR;
}


/* adds a name to the list of those that are allowed, which ends at last */

static u_char *
ngx_tunnel_conf_name(u_char *names, u_char *p, u_char *last, ngx_str_t *name)
{
    return ngx_slprintf(p, last - 1, "%s\"%V\"", p == names ? "" : " or ",
                        name);
}
