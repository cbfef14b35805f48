
/*
 * Quotas: their directives, and what is counted for a key.  Shared memory is
 * that of malloc() here, so that ASan sees what is read or written behind an
 * allocation; how nginx's own fills up is tested with nginx.
 */


#include "unit.h"


#define UNIT_TUNNELS  8


static ngx_command_t  unit_zone_command = {
    ngx_string("relay_quota_zone"), 0, ngx_tunnel_quota_zone, 0, 0,
    &unit_layer
};

static ngx_command_t  unit_quota_command = {
    ngx_string("relay_quota"), 0, ngx_tunnel_quota, 0,
    offsetof(ngx_tunnel_policy_conf_t, quotas), &unit_layer
};


/* a tunnel, whose pool is destroyed when it ends */

typedef struct {
    ngx_pool_t          *pool;
    ngx_tunnel_usage_t  *usage;
    ngx_int_t            rc;
    ngx_str_t            what;
} unit_tunnel_t;


static char *
unit_zone(const char *args)
{
    unit_log_clear();

    return unit_directive(NULL, &unit_zone_command, args);
}


static ngx_shm_zone_t *
unit_zone_named(const char *name)
{
    ngx_uint_t  i;

    for (i = 0; i < unit_nzones; i++) {

        if (unit_is(&unit_zones[i].shm.name, name)) {
            return &unit_zones[i];
        }
    }

    return NULL;
}


/* what nginx does with a zone before workers start; old: on a reload */

static ngx_int_t
unit_zone_init(ngx_shm_zone_t *zone, void *old)
{
    if (old == NULL && !zone->shm.exists) {
        zone->shm.addr = unit_slab_pool();
    }

    return zone->init(zone, old);
}


/* a zone that is ready */

static ngx_shm_zone_t *
unit_zone_ready(const char *args)
{
    char            *rv;
    ngx_str_t        name;
    ngx_shm_zone_t  *zone;

    rv = unit_zone(args);
    unit_check(rv == NGX_CONF_OK, "%s: %s", args, unit_log);

    zone = &unit_zones[unit_nzones - 1];
    name = zone->shm.name;

    unit_check(unit_zone_init(zone, NULL) == NGX_OK, "%s: init",
               unit_text(name.data, name.len));

    return zone;
}


static void
unit_policy_quotas(ngx_tunnel_policy_conf_t *conf, const char *first,
    const char *second)
{
    ngx_tunnel_policy_create(conf);

    unit_check(unit_directive(conf, &unit_quota_command, first)
               == NGX_CONF_OK, "%s: %s", first, unit_log);

    if (second) {
        unit_check(unit_directive(conf, &unit_quota_command, second)
                   == NGX_CONF_OK, "%s: %s", second, unit_log);
    }
}


static ngx_int_t
unit_open(unit_tunnel_t *t, ngx_array_t *quotas, const char *variable)
{
    t->pool = ngx_create_pool(1024, &unit_errors);
    if (t->pool == NULL) {
        abort();
    }

    unit_log_clear();
    unit_variable = variable;

    t->usage = (ngx_tunnel_usage_t *) -1;

    t->rc = ngx_tunnel_quota_use(quotas, &unit_layer, &unit_layer, t->pool,
                                 &unit_errors, &t->usage, &t->what);

    unit_check(unit_locked == 0, "%s: still locked", variable);

    return t->rc;
}


static void
unit_close(unit_tunnel_t *t)
{
    if (t->pool) {
        ngx_destroy_pool(t->pool);
        t->pool = NULL;
    }

    unit_check(unit_locked == 0, "closed, still locked");
}


void
unit_quota_zone(void)
{
    char            *rv, expected[512];
    ngx_uint_t       i;
    ngx_shm_zone_t  *zone;

    static const struct {
        const char  *args;
        const char  *name;
        size_t       size;
    } cases[] = {
        { "$v zone=q:1m limit=10g per=1d", "q", 1048576 },
        { "$v per=1ms limit=1 zone=long.name_1:32k", "long.name_1", 32768 },
        { "$v limit=9223372036854775807 zone=q:10M per=99999w", "q",
          10485760 },
        { "a$v limit=8589934591g zone=q:40960 per=10", "q", 40960 },
        { "constant limit=1g zone=q:1m per=1h30m", "q", 1048576 }
    };

    static const struct {
        const char  *args;
        const char  *error;        /* what the message ends in */
    } errors[] = {
        { "$v zone=q limit=1 per=1d", "invalid value \"zone=q\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size" },
        { "$v zone=:1m limit=1 per=1d", "invalid value \"zone=:1m\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size" },
        { "$v zone=q: limit=1 per=1d", "invalid value \"zone=q:\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size" },
        { "$v zone=q:x limit=1 per=1d", "invalid value \"zone=q:x\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size" },
        { "$v zone=q:-1m limit=1 per=1d", "invalid value \"zone=q:-1m\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size" },
        { "$v zone=q:1g limit=1 per=1d", "invalid value \"zone=q:1g\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size" },
        { "$v zone=q:31k limit=1 per=1d", "zone \"q\" is too small, "
          "it must have at least 32k" },
        { "$v zone=q:32767 limit=1 per=1d", "zone \"q\" is too "
          "small, it must have at least 32k" },
        { "$v zone=q:0 limit=1 per=1d", "zone \"q\" is too small, "
          "it must have at least 32k" },

        { "$v zone=q:1m limit= per=1d", "invalid value \"limit=\" in "
          "\"relay_quota_zone\" directive, it must be limit= and a size, "
          "such as 10g" },
        { "$v zone=q:1m limit=0 per=1d", "invalid value \"limit=0\" in "
          "\"relay_quota_zone\" directive, it must be limit= and a size, "
          "such as 10g" },
        { "$v zone=q:1m limit=off per=1d", "invalid value \"limit=off\" in "
          "\"relay_quota_zone\" directive, it must be limit= and a size, "
          "such as 10g" },
        { "$v zone=q:1m limit=-1 per=1d", "invalid value \"limit=-1\" in "
          "\"relay_quota_zone\" directive, it must be limit= and a size, "
          "such as 10g" },
        { "$v zone=q:1m limit=8589934592g per=1d", "invalid value "
          "\"limit=8589934592g\" in \"relay_quota_zone\" directive, "
          "it must be limit= and a size, such as 10g" },

        { "$v zone=q:1m limit=1 per=", "invalid value \"per=\" in "
          "\"relay_quota_zone\" directive, it must be per= and a time, "
          "such as 1d" },
        { "$v zone=q:1m limit=1 per=0", "invalid value \"per=0\" in "
          "\"relay_quota_zone\" directive, it must be per= and a time, "
          "such as 1d" },
        { "$v zone=q:1m limit=1 per=day", "invalid value \"per=day\" in "
          "\"relay_quota_zone\" directive, it must be per= and a time, "
          "such as 1d" },
        { "$v zone=q:1m limit=1 per=9223372036854776s", "invalid value "
          "\"per=9223372036854776s\" in \"relay_quota_zone\" directive, "
          "it must be per= and a time, such as 1d" },

        { "$v zone=q:1m limit=1 rate=1", "invalid value \"rate=1\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size, "
          "limit=size, or per=time" },
        { "$v zone=q:1m limit=1 ''", "invalid value \"\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size, "
          "limit=size, or per=time" },
        { "zone=q:1m limit=1 per=1d $v", "invalid value \"$v\" in "
          "\"relay_quota_zone\" directive, it must be zone=name:size, "
          "limit=size, or per=time" },

        { "$v limit=1 limit=1 per=1d", "\"relay_quota_zone\" must have "
          "\"zone=name:size\", \"limit=size\", and \"per=time\" parameters" },
        { "$v zone=q:1m per=1d per=1d", "\"relay_quota_zone\" must have "
          "\"zone=name:size\", \"limit=size\", and \"per=time\" parameters" },
        { "$v zone=q:1m limit=1 zone=q:1m", "\"relay_quota_zone\" must have "
          "\"zone=name:size\", \"limit=size\", and \"per=time\" parameters" }
    };

    for (i = 0; i < unit_nelts(cases); i++) {
        unit_nzones = 0;

        rv = unit_zone(cases[i].args);

        unit_check(rv == NGX_CONF_OK && unit_nzones == 1
                   && unit_is(&unit_zones[0].shm.name, cases[i].name)
                   && unit_zones[0].shm.size == cases[i].size
                   && unit_zones[0].tag == unit_layer.tag
                   && unit_zones[0].init && unit_zones[0].data,
                   "%s: %s", cases[i].args, unit_log);
    }

    for (i = 0; i < unit_nelts(errors); i++) {
        unit_nzones = 0;

        rv = unit_zone(errors[i].args);

        unit_check(rv == NGX_CONF_ERROR && unit_log_level == NGX_LOG_EMERG
                   && strcmp(unit_log, errors[i].error) == 0
                   && unit_nzones == 0,
                   "%s: %s", errors[i].args, unit_log);
    }

    /* a key that the front end cannot compile */

    unit_compile_fails = 1;
    rv = unit_zone("$v zone=q:1m limit=1 per=1d");
    unit_compile_fails = 0;
    unit_check(rv == NGX_CONF_ERROR && unit_nzones == 0, "key");

    /* a name twice, and one that is something else's */

    unit_check(unit_zone("$v zone=q:1m limit=1 per=1d") == NGX_CONF_OK, "q");
    rv = unit_zone("b$v zone=q:1m limit=2 per=2d");

    snprintf(expected, sizeof(expected), "relay_quota_zone \"q\" is already "
             "bound to key \"$v\"");

    unit_check(rv == NGX_CONF_ERROR && strcmp(unit_log, expected) == 0,
               "twice: %s", unit_log);

    unit_zones_fail = 1;
    rv = unit_zone("$v zone=r:1m limit=1 per=1d");
    unit_zones_fail = 0;
    unit_check(rv == NGX_CONF_ERROR, "zone of something else");

    /* another one is another one */

    unit_check(unit_zone("$v zone=r:1m limit=1 per=1d") == NGX_CONF_OK, "r");

    zone = unit_zone_named("r");
    unit_check(zone && unit_nzones == 2
               && zone->data != unit_zone_named("q")->data, "two zones");
}


void
unit_quota_directive(void)
{
    char                      *rv;
    ngx_uint_t                 i, failed;
    ngx_shm_zone_t           **zones;
    ngx_tunnel_policy_conf_t   conf, none, inner;

    unit_nzones = 0;

    /* before and behind its zone's directive */

    ngx_tunnel_policy_create(&conf);

    unit_check(unit_directive(&conf, &unit_quota_command, "early")
               == NGX_CONF_OK, "before the zone");
    unit_check(unit_zone("$v zone=early:1m limit=1 per=1d") == NGX_CONF_OK
               && unit_nzones == 1, "zone: %s", unit_log);
    unit_check(unit_zone("$v zone=late:1m limit=1 per=1d") == NGX_CONF_OK,
               "other zone: %s", unit_log);
    unit_check(unit_directive(&conf, &unit_quota_command, "late")
               == NGX_CONF_OK, "behind the zone");

    zones = conf.quotas->elts;

    unit_check(conf.quotas->nelts == 2
               && zones[0] == unit_zone_named("early")
               && zones[1] == unit_zone_named("late"), "in order");

    /* errors */

    rv = unit_directive(&conf, &unit_quota_command, "early");
    unit_check(rv && rv != NGX_CONF_ERROR && !strcmp(rv, "is duplicate"),
               "twice");

    unit_log_clear();
    rv = unit_directive(&conf, &unit_quota_command, "''");
    unit_check(rv == NGX_CONF_ERROR
               && strcmp(unit_log, "invalid value \"\" in \"relay_quota\" "
                         "directive, it must be \"off\" or the name of a "
                         "relay_quota_zone") == 0, "empty: %s", unit_log);

    unit_zones_fail = 1;
    rv = unit_directive(&conf, &unit_quota_command, "other");
    unit_zones_fail = 0;
    unit_check(rv == NGX_CONF_ERROR, "zone of something else");

    unit_check(conf.quotas->nelts == 2, "%lu quotas", conf.quotas->nelts);

    /* levels: inherited if there is none, otherwise replaced */

    ngx_tunnel_policy_create(&none);
    unit_check(ngx_tunnel_policy_merge(NULL, &none, &conf) == NGX_CONF_OK
               && none.quotas == conf.quotas, "inherited");

    ngx_tunnel_policy_create(&none);
    unit_check(unit_directive(&none, &unit_quota_command, "late")
               == NGX_CONF_OK, "on its own");
    unit_check(ngx_tunnel_policy_merge(NULL, &none, &conf) == NGX_CONF_OK
               && none.quotas->nelts == 1 && conf.quotas->nelts == 2,
               "replaced");

    /* or off, which is one, too, and the only one */

    ngx_tunnel_policy_create(&none);
    unit_check(unit_directive(&none, &unit_quota_command, "off")
               == NGX_CONF_OK, "off");

    rv = unit_directive(&none, &unit_quota_command, "late");
    unit_check(rv && rv != NGX_CONF_ERROR && !strcmp(rv, "is duplicate"),
               "a zone after off");
    rv = unit_directive(&none, &unit_quota_command, "off");
    unit_check(rv && rv != NGX_CONF_ERROR && !strcmp(rv, "is duplicate"),
               "off twice");
    rv = unit_directive(&conf, &unit_quota_command, "off");
    unit_check(rv && rv != NGX_CONF_ERROR && !strcmp(rv, "is duplicate"),
               "off after a zone");

    unit_check(ngx_tunnel_policy_merge(NULL, &none, &conf) == NGX_CONF_OK
               && none.quotas == NULL && conf.quotas->nelts == 2,
               "off replaces");

    ngx_tunnel_policy_create(&inner);
    unit_check(ngx_tunnel_policy_merge(NULL, &inner, &none) == NGX_CONF_OK
               && inner.quotas == NULL, "off is inherited");

    /* without memory */

    for (i = 1, failed = 0; i < 100; i++) {
        ngx_tunnel_policy_create(&none);

        unit_directive_fail = i;
        rv = unit_directive(&none, &unit_quota_command, "late");
        unit_directive_fail = 0;

        if (rv == NGX_CONF_OK) {
            break;
        }

        unit_check(rv == NGX_CONF_ERROR, "allocation %lu", i);
        failed++;
    }

    unit_check(failed > 0 && failed < 99, "%lu allocations", failed);
}


/* one key, several tunnels, one limit and period */

void
unit_quota_count(void)
{
    unit_tunnel_t              a, b, c;
    ngx_tunnel_policy_conf_t   conf;

    unit_nzones = 0;
    ngx_current_msec = 1000;

    /* nothing to count */

    unit_check(unit_open(&a, NULL, "x") == NGX_OK && a.usage == NULL,
               "no quotas");
    unit_close(&a);

    unit_zone_ready("$v zone=q:1m limit=1000 per=10s");
    unit_policy_quotas(&conf, "q", NULL);

    unit_check(unit_open(&a, conf.quotas, "") == NGX_OK && a.usage == NULL,
               "empty key");
    unit_check(unit_slab_used == 2, "empty key: %lu of memory",
               unit_slab_used);
    unit_close(&a);

    /* a limit that two tunnels spend */

    unit_check(unit_open(&a, conf.quotas, "x") == NGX_OK && a.usage, "a");
    unit_check(unit_open(&b, conf.quotas, "x") == NGX_OK && b.usage, "b");
    unit_check(unit_slab_used == 3, "one key: %lu of memory", unit_slab_used);
    unit_check(ngx_tunnel_quota_left(a.usage) == 1000, "new");

    ngx_tunnel_quota_spend(a.usage, 300);
    unit_check(ngx_tunnel_quota_left(a.usage) == 700, "300 of a");
    unit_check(ngx_tunnel_quota_left(b.usage) == 700, "300 of a, for b");

    ngx_tunnel_quota_spend(b.usage, 699);
    unit_check(ngx_tunnel_quota_left(a.usage) == 1, "one left");
    unit_check(unit_open(&c, conf.quotas, "x") == NGX_OK, "c, with one left");
    unit_close(&c);

    ngx_tunnel_quota_spend(b.usage, 1);
    unit_check(ngx_tunnel_quota_left(a.usage) == 0, "none left");
    unit_check(unit_open(&c, conf.quotas, "x") == NGX_BUSY
               && unit_is(&c.what, "q"), "c, with none left");
    unit_close(&c);

    ngx_tunnel_quota_spend(b.usage, 50);
    unit_check(ngx_tunnel_quota_left(a.usage) == -50, "overdrawn");
    unit_check(unit_open(&c, conf.quotas, "x") == NGX_BUSY, "c, overdrawn");
    unit_close(&c);

    /* that of another key is its own; keys are told apart by their bytes */

    unit_check(unit_open(&c, conf.quotas, "xx") == NGX_OK
               && ngx_tunnel_quota_left(c.usage) == 1000, "longer key");
    unit_close(&c);
    unit_check(unit_open(&c, conf.quotas, "X") == NGX_OK
               && ngx_tunnel_quota_left(c.usage) == 1000, "key in upper case");
    ngx_tunnel_quota_spend(c.usage, 10);
    unit_close(&c);

    /* what is counted stays when the tunnels have gone */

    unit_close(&a);
    unit_close(&b);

    unit_check(unit_open(&a, conf.quotas, "x") == NGX_BUSY, "all gone");
    unit_close(&a);

    /* until the period is over, which began with the first tunnel */

    ngx_current_msec = 10999;
    unit_check(unit_open(&a, conf.quotas, "x") == NGX_BUSY, "a msec before");
    unit_close(&a);

    ngx_current_msec = 11000;
    unit_check(unit_open(&a, conf.quotas, "x") == NGX_OK
               && ngx_tunnel_quota_left(a.usage) == 1000, "next period");
    ngx_tunnel_quota_spend(a.usage, 1000);

    /* a live tunnel goes on in the next one, without being opened anew */

    ngx_current_msec = 20999;
    unit_check(ngx_tunnel_quota_left(a.usage) == 0, "not yet");

    ngx_current_msec = 21000;
    unit_check(ngx_tunnel_quota_left(a.usage) == 1000, "period after that");

    /* one that nobody looked at does not begin before someone does */

    ngx_current_msec = 55555;
    unit_check(unit_open(&b, conf.quotas, "x") == NGX_OK, "much later");
    ngx_tunnel_quota_spend(b.usage, 1000);
    ngx_current_msec = 65554;
    unit_check(ngx_tunnel_quota_left(a.usage) == 0, "that period goes on");
    ngx_current_msec = 65555;
    unit_check(ngx_tunnel_quota_left(a.usage) == 1000, "and ends");

    /* a worker whose clock is behind does not end it */

    ngx_tunnel_quota_spend(b.usage, 400);
    ngx_current_msec = 65500;
    unit_check(ngx_tunnel_quota_left(a.usage) == 600, "clock behind");
    unit_check(unit_open(&c, conf.quotas, "x") == NGX_OK
               && ngx_tunnel_quota_left(c.usage) == 600, "c, clock behind");

    unit_close(&a);
    unit_close(&b);
    unit_close(&c);
}


/* the clock of msec may wrap, and so may an absurd limit not */

void
unit_quota_extremes(void)
{
    unit_tunnel_t              a, b;
    ngx_tunnel_policy_conf_t   conf;

    unit_nzones = 0;
    ngx_current_msec = (ngx_msec_t) -500;

    unit_zone_ready("$v zone=q:1m limit=9223372036854775807 per=1s");
    unit_policy_quotas(&conf, "q", NULL);

    unit_check(unit_open(&a, conf.quotas, "x") == NGX_OK, "a");
    unit_check(ngx_tunnel_quota_left(a.usage) == NGX_MAX_OFF_T_VALUE, "all");

    ngx_tunnel_quota_spend(a.usage, NGX_MAX_OFF_T_VALUE - 1);
    unit_check(ngx_tunnel_quota_left(a.usage) == 1, "one left");
    ngx_tunnel_quota_spend(a.usage, 1);
    unit_check(unit_open(&b, conf.quotas, "x") == NGX_BUSY, "none left");
    unit_close(&b);

    ngx_current_msec = 499;
    unit_check(ngx_tunnel_quota_left(a.usage) == 0, "clock at zero again");
    ngx_current_msec = 500;
    unit_check(ngx_tunnel_quota_left(a.usage) == NGX_MAX_OFF_T_VALUE,
               "period over the end of the clock");
    unit_close(&a);

    /* the longest period */

    unit_zone_ready("$v zone=r:1m limit=5 per=9223372036854775807ms");
    unit_policy_quotas(&conf, "r", NULL);

    unit_check(unit_open(&a, conf.quotas, "x") == NGX_OK, "long period");
    ngx_tunnel_quota_spend(a.usage, 5);
    ngx_current_msec += (ngx_msec_t) 100 * 365 * 86400000;
    unit_check(ngx_tunnel_quota_left(a.usage) == 0, "100 years later");
    unit_close(&a);
}


/* several zones: the one that has least counts, all of them are counted */

void
unit_quota_several(void)
{
    unit_tunnel_t              a, b;
    ngx_tunnel_policy_conf_t   both, first, second;

    unit_nzones = 0;
    ngx_current_msec = 0;

    unit_zone_ready("$v zone=day:1m limit=1000 per=24h");
    unit_zone_ready("x$v zone=hour:1m limit=300 per=1h");

    unit_policy_quotas(&both, "day", "hour");
    unit_policy_quotas(&first, "day", NULL);
    unit_policy_quotas(&second, "hour", NULL);

    unit_check(unit_open(&a, both.quotas, "u") == NGX_OK
               && ngx_tunnel_quota_left(a.usage) == 300, "the least");

    ngx_tunnel_quota_spend(a.usage, 300);
    unit_check(ngx_tunnel_quota_left(a.usage) == 0, "spent");

    unit_check(unit_open(&b, both.quotas, "u") == NGX_BUSY
               && unit_is(&b.what, "hour"), "that one is said");
    unit_close(&b);
    unit_check(unit_open(&b, first.quotas, "u") == NGX_OK
               && ngx_tunnel_quota_left(b.usage) == 700, "the other one");
    unit_close(&b);
    unit_check(unit_open(&b, second.quotas, "u") == NGX_BUSY, "this one");
    unit_close(&b);

    ngx_current_msec = 3600000;
    unit_check(ngx_tunnel_quota_left(a.usage) == 300, "second hour");
    ngx_tunnel_quota_spend(a.usage, 300);
    ngx_current_msec = 2 * 3600000;
    unit_check(ngx_tunnel_quota_left(a.usage) == 300, "third hour");
    ngx_tunnel_quota_spend(a.usage, 300);
    ngx_current_msec = 3 * 3600000;
    unit_check(ngx_tunnel_quota_left(a.usage) == 100, "the day has less");
    ngx_tunnel_quota_spend(a.usage, 100);
    ngx_current_msec = 4 * 3600000;
    unit_check(unit_open(&b, both.quotas, "u") == NGX_BUSY
               && unit_is(&b.what, "day"), "the day is said");
    unit_close(&b);
    unit_close(&a);

    /* of an empty key only the others count */

    unit_check(unit_open(&a, both.quotas, "") == NGX_OK && a.usage
               && ngx_tunnel_quota_left(a.usage) == 300, "one empty key");
    ngx_tunnel_quota_spend(a.usage, 300);
    unit_check(unit_open(&b, both.quotas, "") == NGX_BUSY
               && unit_is(&b.what, "hour"), "one empty key, the other spent");
    unit_close(&b);
    unit_close(&a);
}


/* keys have any bytes and any length; hashes may be the same */

void
unit_quota_keys(void)
{
    char                       key[65537], other[16];
    off_t                      left;
    ngx_uint_t                 i, k, n;
    unit_tunnel_t              t;
    ngx_tunnel_policy_conf_t   conf;

    /* the generator of the hash, first bit first: adds nothing to it */

    static const u_char  delta[] = { 0x41, 0x06, 0x71, 0xdb, 0x01 };

    unit_nzones = 0;
    ngx_current_msec = 0;

    unit_zone_ready("$v zone=q:1m limit=1000000 per=1h");
    unit_policy_quotas(&conf, "q", NULL);

    for (n = 0; n < 2; n++) {

        for (i = 0; i < 300; i++) {
            snprintf(key, sizeof(key), "key%lu.abcdefg", i * 7919 % 300);

            for (k = 0; k < 4; k++) {
                memcpy(other, key, sizeof(other));

                /* each bit of k: at another place */

                if (k & 1) {
                    other[0] ^= delta[0]; other[1] ^= delta[1];
                    other[2] ^= delta[2]; other[3] ^= delta[3];
                    other[4] ^= delta[4];
                }

                if (k & 2) {
                    other[1] ^= delta[0]; other[2] ^= delta[1];
                    other[3] ^= delta[2]; other[4] ^= delta[3];
                    other[5] ^= delta[4];
                }

                if (memchr(other, '\0', strlen(key)) != NULL) {
                    continue;
                }

                unit_check(ngx_crc32_short((u_char *) other, strlen(key))
                           == ngx_crc32_short((u_char *) key, strlen(key)),
                           "hash of \"%s\"", other);

                unit_open(&t, conf.quotas, other);

                left = t.usage ? ngx_tunnel_quota_left(t.usage) : -1;

                unit_check(t.rc == NGX_OK
                           && left == (n ? (off_t) (1000000 - i * 4 - k - 1)
                                         : 1000000),
                           "\"%s\", round %lu: %ld left", other, n, left);

                if (t.usage) {
                    ngx_tunnel_quota_spend(t.usage, i * 4 + k + 1);
                }

                unit_close(&t);
            }
        }
    }

    /* the longest one that there can be, and one that is too long */

    memset(key, 'k', 65536);
    key[65535] = '\0';

    unit_check(unit_open(&t, conf.quotas, key) == NGX_OK && t.usage,
               "65535 bytes: %s", unit_log);
    ngx_tunnel_quota_spend(t.usage, 5);
    unit_close(&t);
    unit_check(unit_open(&t, conf.quotas, key) == NGX_OK
               && ngx_tunnel_quota_left(t.usage) == 999995,
               "65535 bytes again");
    unit_close(&t);

    key[65535] = 'k';
    key[65536] = '\0';

    unit_check(unit_open(&t, conf.quotas, key) == NGX_ERROR
               && unit_log_level == NGX_LOG_ERR
               && strcmp(unit_log, "the value of the \"$v\" key is more than "
                         "65535 bytes") == 0, "65536 bytes: %s", unit_log);
    unit_close(&t);
}


/* a full zone forgets keys whose period is over, and no others */

void
unit_quota_room(void)
{
    char                       key[16];
    ngx_uint_t                 i;
    unit_tunnel_t              t, live;
    ngx_tunnel_policy_conf_t   conf;

    unit_nzones = 0;
    ngx_current_msec = 0;

    unit_zone_ready("$v zone=q:1m limit=10 per=1m");
    unit_policy_quotas(&conf, "q", NULL);

    /* for three keys */

    unit_slab_room = unit_slab_used + 3;

    unit_check(unit_open(&live, conf.quotas, "live") == NGX_OK, "live");
    ngx_tunnel_quota_spend(live.usage, 4);

    for (i = 0; i < 2; i++) {
        snprintf(key, sizeof(key), "%lu", i);
        unit_check(unit_open(&t, conf.quotas, key) == NGX_OK, "key %s", key);
        ngx_tunnel_quota_spend(t.usage, 10);
        unit_close(&t);
        ngx_current_msec += 1000;
    }

    unit_check(unit_open(&t, conf.quotas, "new") == NGX_DECLINED
               && unit_is(&t.what, "q") && unit_log_level == NGX_LOG_ERR
               && strcmp(unit_log, "relay_quota_zone \"q\" has no room for a "
                         "key") == 0, "full: %s", unit_log);
    unit_close(&t);

    /* those that are known go on, and are not forgotten for a new one */

    unit_check(unit_open(&t, conf.quotas, "1") == NGX_BUSY, "known, spent");
    unit_close(&t);
    unit_check(unit_open(&t, conf.quotas, "live") == NGX_OK
               && ngx_tunnel_quota_left(t.usage) == 6, "known, live");
    unit_close(&t);

    /* the first one's period is over, the second one's not */

    ngx_current_msec = 60000;

    unit_check(unit_open(&t, conf.quotas, "new") == NGX_OK, "one is over");
    ngx_tunnel_quota_spend(t.usage, 10);
    unit_close(&t);
    unit_check(unit_open(&t, conf.quotas, "1") == NGX_BUSY, "other is not");
    unit_close(&t);
    unit_check(unit_open(&t, conf.quotas, "0") == NGX_DECLINED, "full again");
    unit_close(&t);

    /* all are over: the live one keeps its place */

    ngx_current_msec = 200000;

    for (i = 0; i < 10; i++) {
        snprintf(key, sizeof(key), "n%lu", i);
        unit_check(unit_open(&t, conf.quotas, key) == NGX_OK, "key %s", key);
        unit_close(&t);
        ngx_current_msec += 60000;
    }

    ngx_tunnel_quota_spend(live.usage, 3);
    unit_check(ngx_tunnel_quota_left(live.usage) == 10, "live, a new period");
    ngx_tunnel_quota_spend(live.usage, 3);
    unit_check(unit_open(&t, conf.quotas, "live") == NGX_OK
               && ngx_tunnel_quota_left(t.usage) == 7, "live is the same");
    unit_close(&t);

    unit_close(&live);

    /* three keys and never more, and all of the memory is still in use once */

    unit_check(unit_slab_used <= unit_slab_room, "%lu of memory",
               unit_slab_used);

    unit_slab_room = 0;
}


/* what fails leaves nothing behind */

void
unit_quota_errors(void)
{
    ngx_uint_t                 i, failed;
    unit_tunnel_t              t;
    ngx_tunnel_policy_conf_t   conf;

    unit_nzones = 0;
    ngx_current_msec = 0;

    unit_zone_ready("a$v zone=q:1m limit=10 per=1m");
    unit_zone_ready("b$v zone=r:1m limit=10 per=1m");
    unit_policy_quotas(&conf, "q", "r");

    /* a key cannot be evaluated */

    unit_check(unit_open(&t, conf.quotas, NULL) == NGX_ERROR
               && unit_is(&t.what, "q"), "key");
    unit_close(&t);

    /* there is no room in the second zone: the first one is given back */

    unit_slab_room = unit_slab_used + 1;

    unit_check(unit_open(&t, conf.quotas, "1") == NGX_DECLINED
               && unit_is(&t.what, "r"), "second zone is full");
    unit_close(&t);

    ngx_current_msec = 60000;

    unit_check(unit_open(&t, conf.quotas, "2") == NGX_DECLINED
               && unit_is(&t.what, "r"), "its key in the first was forgotten");
    unit_close(&t);

    unit_slab_room = 0;

    /* no memory for the tunnel */

    for (i = 1, failed = 0; i < 100; i++) {

        t.pool = ngx_create_pool(1024, &unit_errors);
        unit_variable = "3";

        unit_alloc_fail = i;
        unit_alloc_failed = 0;

        t.rc = ngx_tunnel_quota_use(conf.quotas, &unit_layer, &unit_layer,
                                    t.pool, &unit_errors, &t.usage, &t.what);

        unit_alloc_fail = 0;

        /* a zone is full when it says so, here as well */

        unit_check(unit_alloc_failed ? t.rc == NGX_ERROR
                                       || t.rc == NGX_DECLINED
                                     : t.rc == NGX_OK,
                   "allocation %lu: %ld", i, t.rc);
        unit_check(unit_locked == 0, "allocation %lu: still locked", i);

        unit_close(&t);

        if (t.rc == NGX_OK) {
            break;
        }

        failed++;
    }

    unit_check(failed > 0 && failed < 99, "%lu allocations", failed);
}


/* a reload keeps what is counted, and takes a new limit */

void
unit_quota_reload(void)
{
    ngx_uint_t                 i, failed;
    ngx_slab_pool_t           *shpool;
    unit_tunnel_t              a, b;
    ngx_shm_zone_t            *old, *new;
    ngx_tunnel_policy_conf_t   before, after;

    unit_nzones = 0;
    ngx_current_msec = 0;

    old = unit_zone_ready("$v zone=q:1m limit=10 per=1m");
    unit_policy_quotas(&before, "q", NULL);

    unit_check(unit_open(&a, before.quotas, "x") == NGX_OK, "before");
    ngx_tunnel_quota_spend(a.usage, 10);

    /* those of the old configuration are no longer found by their names */

    old->shm.name.len = 0;

    unit_check(unit_zone("$v zone=q:1m limit=15 per=2m") == NGX_CONF_OK,
               "new zone: %s", unit_log);

    new = unit_zone_named("q");
    new->shm.addr = old->shm.addr;

    unit_check(unit_zone_init(new, old->data) == NGX_OK, "new zone: %s",
               unit_log);

    unit_policy_quotas(&after, "q", NULL);

    unit_check(unit_open(&b, after.quotas, "x") == NGX_OK
               && ngx_tunnel_quota_left(b.usage) == 5, "new limit");
    unit_check(ngx_tunnel_quota_left(a.usage) == 0, "old limit");

    ngx_current_msec = 60000;
    unit_check(ngx_tunnel_quota_left(b.usage) == 5, "new period");
    unit_close(&a);
    unit_close(&b);

    /* another key would count something else */

    new->shm.name.len = 0;

    unit_check(unit_zone("a$v zone=q:1m limit=15 per=2m") == NGX_CONF_OK,
               "new zone: %s", unit_log);

    unit_log_clear();

    unit_check(unit_zone_init(unit_zone_named("q"), new->data) == NGX_ERROR
               && unit_log_level == NGX_LOG_EMERG
               && strcmp(unit_log, "relay_quota_zone \"q\" uses the \"a$v\" "
                         "key while previously it used the \"$v\" key") == 0,
               "another key: %s", unit_log);

    /* one of which the old one is the beginning */

    unit_zone_named("q")->shm.name.len = 0;

    unit_check(unit_zone("$v$v zone=q:1m limit=15 per=2m") == NGX_CONF_OK,
               "new zone: %s", unit_log);
    unit_check(unit_zone_init(unit_zone_named("q"), new->data) == NGX_ERROR,
               "a longer key");

    /* and one that is the beginning of the old one */

    unit_zone_named("q")->shm.name.len = 0;

    unit_check(unit_zone("$ zone=q:1m limit=15 per=2m") == NGX_CONF_OK,
               "new zone: %s", unit_log);
    unit_check(unit_zone_init(unit_zone_named("q"), new->data) == NGX_ERROR,
               "a shorter key");

    /* memory that is there already, as on some systems */

    shpool = (ngx_slab_pool_t *) old->shm.addr;

    unit_zone_named("q")->shm.name.len = 0;

    unit_check(unit_zone("$v zone=q:1m limit=20 per=1h") == NGX_CONF_OK,
               "zone: %s", unit_log);

    new = unit_zone_named("q");
    new->shm.addr = (u_char *) shpool;
    new->shm.exists = 1;

    unit_check(unit_zone_init(new, NULL) == NGX_OK, "memory that exists");
    unit_policy_quotas(&after, "q", NULL);
    unit_check(unit_open(&b, after.quotas, "x") == NGX_OK
               && ngx_tunnel_quota_left(b.usage) == 10,
               "memory that exists, with what is counted");
    unit_close(&b);

    /* no memory in a zone */

    for (i = 0, failed = 0; i < 10; i++) {
        unit_nzones = 0;

        unit_check(unit_zone("$v zone=q:1m limit=20 per=1h") == NGX_CONF_OK,
                   "zone: %s", unit_log);

        unit_slab_room = unit_slab_used + i;

        if (unit_zone_init(&unit_zones[0], NULL) == NGX_OK) {
            break;
        }

        failed++;
    }

    unit_slab_room = 0;

    unit_check(failed > 0 && failed < 10, "%lu allocations in a zone", failed);
}


/* tunnels, keys and times at random, and what should come of it */

void
unit_quota_random(void)
{
    char                       key[8];
    off_t                      n, left;
    ngx_uint_t                 i, k, step, live;
    unit_tunnel_t              tunnels[UNIT_TUNNELS];
    ngx_tunnel_policy_conf_t   conf;

    struct {
        ngx_uint_t             known;
        ngx_msec_t             start;
        off_t                  used;
    } keys[5];

    ngx_uint_t                 of[UNIT_TUNNELS];

    unit_nzones = 0;
    ngx_current_msec = (ngx_msec_t) -100000;

    unit_zone_ready("$v zone=q:1m limit=1000 per=1s");
    unit_policy_quotas(&conf, "q", NULL);

    ngx_memzero(tunnels, sizeof(tunnels));
    ngx_memzero(keys, sizeof(keys));
    ngx_memzero(of, sizeof(of));

    for (step = 0; step < 20000; step++) {

        ngx_current_msec += unit_random() % 50;

        i = unit_random() % UNIT_TUNNELS;
        live = (tunnels[i].pool != NULL);
        k = live ? of[i] : unit_random() % unit_nelts(keys);

        if (live && unit_random() % 4 == 0) {
            unit_close(&tunnels[i]);
            continue;
        }

        if (!keys[k].known || ngx_current_msec - keys[k].start >= 1000) {
            keys[k].known = 1;
            keys[k].start = ngx_current_msec;
            keys[k].used = 0;
        }

        left = 1000 - keys[k].used;

        if (live) {
            n = ngx_tunnel_quota_left(tunnels[i].usage);
            unit_check(n == left, "step %lu: %ld left, not %ld",
                       step, n, left);

            n = unit_random() % 200;
            ngx_tunnel_quota_spend(tunnels[i].usage, n);
            keys[k].used += n;

            continue;
        }

        snprintf(key, sizeof(key), "k%lu", k);

        unit_open(&tunnels[i], conf.quotas, key);

        unit_check(tunnels[i].rc == (left > 0 ? NGX_OK : NGX_BUSY),
                   "step %lu: %ld with %ld left", step, tunnels[i].rc, left);

        of[i] = k;

        if (tunnels[i].rc != NGX_OK) {
            unit_close(&tunnels[i]);
        }
    }

    for (i = 0; i < UNIT_TUNNELS; i++) {
        unit_close(&tunnels[i]);
    }
}
