
/*
 * The harness, and stubs for what nginx's files and ours link with.
 */


#include "unit.h"

#include <sanitizer/asan_interface.h>
#include <time.h>


typedef struct {
    const char  *name;
    void       (*run)(void);
} unit_test_t;


static const unit_test_t  unit_tests[] = {
    { "target", unit_target },
    { "target: hosts alone", unit_target_hosts },
    { "target: ports", unit_target_ports },
    { "target: lengths", unit_target_lengths },
    { "target: every byte", unit_target_bytes },
    { "target: mutations", unit_target_mutations },
    { "target: host and port", unit_target_set },
    { "target: random hosts and ports", unit_target_set_random },
    { "target: addresses", unit_target_addresses },
    { "socks: messages", unit_socks_messages },
    { "socks: hosts", unit_socks_hosts },
    { "socks: lengths", unit_socks_lengths },
    { "socks: every byte", unit_socks_bytes },
    { "socks: ports", unit_socks_ports },
    { "socks: replies", unit_socks_replies },
    { "socks: datagrams", unit_socks_datagrams },
    { "socks: random addresses", unit_socks_random },
    { "sniff: protocols", unit_sniff_protocols },
    { "sniff: names of protocols", unit_sniff_protocol_names },
    { "sniff: alerts", unit_sniff_alerts },
    { "sniff: near misses", unit_sniff_near_misses },
    { "sniff: early ends", unit_sniff_early },
    { "sniff: beginnings", unit_sniff_beginnings },
    { "sniff: ClientHellos", unit_sniff_hellos },
    { "sniff: server names", unit_sniff_names },
    { "sniff: lists of server names", unit_sniff_name_lists },
    { "sniff: versions", unit_sniff_versions },
    { "sniff: ALPN", unit_sniff_alpn },
    { "sniff: extensions", unit_sniff_extensions },
    { "sniff: lengths", unit_sniff_lengths },
    { "sniff: records", unit_sniff_records },
    { "sniff: SSLv2", unit_sniff_sslv2 },
    { "sniff: HTTP", unit_sniff_http },
    { "sniff: request lines", unit_sniff_http_lines },
    { "sniff: long heads", unit_sniff_http_long },
    { "sniff: mutations", unit_sniff_mutations },
    { "sniff: random bytes", unit_sniff_random },
#if (UNIT_HPACK)
    { "hpack: blocks", unit_hpack_blocks },
    { "hpack: frames", unit_hpack_frames },
    { "hpack: examples of RFC 7541", unit_hpack_examples },
    { "hpack: lengths", unit_hpack_lengths },
    { "hpack: many blocks", unit_hpack_tables },
    { "hpack: errors", unit_hpack_errors },
    { "hpack: limit", unit_hpack_limit },
    { "hpack: budget of frames", unit_hpack_budget },
    { "hpack: wrong frames", unit_hpack_wrong },
    { "hpack: short frames", unit_hpack_short },
    { "hpack: streams that were refused", unit_hpack_dropped },
    { "hpack: mutations", unit_hpack_mutations },
    { "hpack: room", unit_hpack_room },
    { "hpack: blocks that pass", unit_hpack_pass },
    { "hpack: calls", unit_hpack_calls },
    { "hpack: memory", unit_hpack_memory },
#endif
    { "rules: patterns", unit_rules_patterns },
    { "rules: lists of patterns", unit_rules_pattern_lists },
    { "rules: pattern errors", unit_rules_pattern_errors },
    { "rules: pattern mutations", unit_rules_pattern_mutations },
    { "rules: regexes", unit_rules_regex },
    { "rules: addresses", unit_rules_addresses },
    { "rules: address errors", unit_rules_address_errors },
    { "rules: special-purpose addresses", unit_rules_special },
    { "rules: random addresses", unit_rules_random },
    { "rules: own addresses", unit_rules_own },
    { "rules: inheritance", unit_rules_inheritance },
    { "rules: dry run", unit_rules_dry_run },
    { "rules: port 0", unit_rules_port_zero },
    { "rules: without memory", unit_rules_memory },
    { "rate: random schedules", unit_rate_random },
    { "rate: full speed", unit_rate_speed },
    { "rate: full speed, late", unit_rate_late },
    { "rate: idle", unit_rate_idle },
    { "rate: slow ones", unit_rate_slow },
    { "rate: fast ones", unit_rate_fast },
    { "rate: debt", unit_rate_debt },
    { "rate: end of the clock", unit_rate_wrap },
    { "rate: windows", unit_rate_window },
    { "rate: extreme windows", unit_rate_window_extremes },
    { "policy: defaults", unit_policy_defaults },
    { "policy: values", unit_policy_values },
    { "policy: errors", unit_policy_errors },
    { "policy: buffer size", unit_policy_buffer_size },
    { "policy: inheritance", unit_policy_inheritance },
    { "policy: variables", unit_policy_eval },
    { "policy: without memory", unit_policy_memory },
    { "quota: zones", unit_quota_zone },
    { "quota: directive", unit_quota_directive },
    { "quota: counting", unit_quota_count },
    { "quota: extremes", unit_quota_extremes },
    { "quota: several zones", unit_quota_several },
    { "quota: keys", unit_quota_keys },
    { "quota: room", unit_quota_room },
    { "quota: errors", unit_quota_errors },
    { "quota: reload", unit_quota_reload },
    { "quota: random tunnels", unit_quota_random },
    { "results", unit_results },
    { "reasons", unit_reasons }
};


/* more than these of one test are counted only */

#define UNIT_SHOWN  20


static ngx_uint_t   unit_passed;
static ngx_uint_t   unit_failed;
static ngx_uint_t   unit_shown;

static const char  *unit_name;
static uint32_t     unit_state;


ngx_pool_t         *unit_pool;
ngx_log_t           unit_errors;

ngx_uint_t          unit_log_level;
char                unit_log[2048];

ngx_uint_t          unit_alloc_fail;
ngx_uint_t          unit_alloc_failed;
ngx_uint_t          unit_directive_fail;

const char         *unit_variable;
ngx_uint_t          unit_evaluated;
ngx_uint_t          unit_compile_fails;

ngx_shm_zone_t      unit_zones[16];
ngx_uint_t          unit_nzones;
ngx_uint_t          unit_zones_fail;

ngx_uint_t          unit_slab_used;
ngx_uint_t          unit_slab_room;
ngx_uint_t          unit_locked;

struct ifaddrs     *unit_ifaddrs;
ngx_int_t           unit_ifaddrs_lent;


static double
unit_seconds(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


/* an argument chooses the tests whose names begin with it */

int
main(int argc, char **argv)
{
    double             start;
    ngx_uint_t         i, passed, failed;
    const unit_test_t  *t;

    setvbuf(stdout, NULL, _IOLBF, 0);

    unit_errors.log_level = NGX_LOG_DEBUG;
    ngx_cycle->log = &unit_errors;

    ngx_pagesize = getpagesize();
    ngx_cacheline_size = NGX_CPU_CACHE_LINE;
    ngx_regex_init();

    for (i = 0; i < unit_nelts(unit_tests); i++) {
        t = &unit_tests[i];

        if (argc > 1 && strncmp(t->name, argv[1], strlen(argv[1])) != 0) {
            continue;
        }

        unit_name = t->name;
        unit_shown = 0;
        passed = unit_passed;
        failed = unit_failed;
        start = unit_seconds();

        unit_seed(1);
        unit_log_clear();
        unit_slab_used = 0;

        unit_pool = ngx_create_pool(1024, &unit_errors);
        if (unit_pool == NULL) {
            return 2;
        }

        t->run();

        ngx_destroy_pool(unit_pool);

        /* a test that checks nothing tests nothing */

        unit_check(unit_passed + unit_failed > passed + failed,
                   "nothing was checked");

        printf("%s %s: %lu checks, %.1f s\n",
               unit_failed == failed ? "ok    " : "not ok", t->name,
               unit_passed + unit_failed - passed - failed,
               unit_seconds() - start);
    }

#if !(UNIT_HPACK)
    printf("left out: hpack, for there is no libnghttp2-dev\n");
#endif

    printf("%lu passed, %lu failed\n", unit_passed, unit_failed);

    return unit_failed != 0 || unit_passed == 0;
}


ngx_uint_t
unit_check(ngx_uint_t ok, const char *fmt, ...)
{
    va_list  args;

    if (ok) {
        unit_passed++;
        return 1;
    }

    unit_failed++;

    if (unit_shown++ < UNIT_SHOWN) {
        printf("failed: %s: ", unit_name);

        va_start(args, fmt);
        vprintf(fmt, args);
        va_end(args);

        printf("\n");
    }

    return 0;
}


const char *
unit_text(const u_char *data, size_t len)
{
    char    *p;
    size_t   i;

    static char        buf[8][2048];
    static ngx_uint_t  n;

    p = buf[n++ % 8];
    len = ngx_min(len, 500);

    if (data == NULL) {
        return "(null)";
    }

    for (i = 0, buf[(n - 1) % 8][0] = '\0'; i < len; i++) {
        p += sprintf(p, data[i] < ' ' || data[i] > '~' ? "\\x%02x" : "%c",
                     data[i]);
    }

    return buf[(n - 1) % 8];
}


ngx_uint_t
unit_is(ngx_str_t *s, const char *text)
{
    return s->len == strlen(text)
           && (s->len == 0 || memcmp(s->data, text, s->len) == 0);
}


u_char *
unit_copy(const void *data, size_t len)
{
    u_char  *p;

    /* with NGX_DEBUG_PALLOC this is a malloc() of its own */

    p = ngx_pnalloc(unit_pool, len);
    if (p == NULL) {
        abort();
    }

    if (len) {
        memcpy(p, data, len);
    }

    return p;
}


u_char *
unit_block(const void *data, size_t len)
{
    u_char  *p;

    p = malloc(len);
    if (p == NULL) {
        abort();
    }

    /* malloc() has one byte for those who want none */

    if (len == 0) {
        ASAN_POISON_MEMORY_REGION(p, 1);

    } else if (data) {
        memcpy(p, data, len);
    }

    return p;
}


char *
unit_directive(void *conf, ngx_command_t *cmd, const char *args)
{
    char        *rv;
    u_char      *p;
    size_t       len;
    ngx_str_t   *value;
    ngx_conf_t   cf;

    ngx_memzero(&cf, sizeof(ngx_conf_t));
    cf.pool = unit_pool;
    cf.log = &unit_errors;

    cf.args = ngx_array_create(unit_pool, 4, sizeof(ngx_str_t));
    if (cf.args == NULL) {
        return NGX_CONF_ERROR;
    }

    value = ngx_array_push(cf.args);
    *value = cmd->name;

    while (*args) {
        len = strcspn(args, " ");

        value = ngx_array_push(cf.args);

        if (value == NULL || (p = ngx_pnalloc(unit_pool, len + 1)) == NULL) {
            return NGX_CONF_ERROR;
        }

        value->len = (len == 2 && memcmp(args, "''", 2) == 0) ? 0 : len;
        value->data = p;

        memcpy(p, args, value->len);
        p[value->len] = '\0';

        args += len;
        args += strspn(args, " ");
    }

    unit_alloc_fail = unit_directive_fail;

    rv = cmd->set(&cf, cmd, conf);

    unit_alloc_fail = 0;

    return rv;
}


void
unit_seed(uint32_t seed)
{
    unit_state = seed * 2654435761u | 1;
}


/* xorshift32 */

uint32_t
unit_random(void)
{
    unit_state ^= unit_state << 13;
    unit_state ^= unit_state >> 17;
    unit_state ^= unit_state << 5;

    return unit_state;
}


void
unit_log_clear(void)
{
    unit_log_level = 0;
    unit_log[0] = '\0';
}


static void
unit_log_write(ngx_uint_t level, const char *fmt, va_list args)
{
    u_char  *p;

    p = ngx_vslprintf((u_char *) unit_log,
                      (u_char *) unit_log + sizeof(unit_log) - 1, fmt, args);
    *p = '\0';

    unit_log_level = level;
}


/* stubs: logs */


void ngx_cdecl
ngx_conf_log_error(ngx_uint_t level, ngx_conf_t *cf, ngx_err_t err,
    const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    unit_log_write(level, fmt, args);
    va_end(args);
}


void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    va_list  args;

    if (level == NGX_LOG_DEBUG) {
        return;
    }

    va_start(args, fmt);
    unit_log_write(level, fmt, args);
    va_end(args);
}


/* stubs: memory, which can fail */


ngx_uint_t  ngx_pagesize;
ngx_uint_t  ngx_cacheline_size;


static ngx_uint_t
unit_alloc_fails(void)
{
    if (unit_alloc_fail == 0) {
        return 0;
    }

    if (unit_alloc_fail > 1) {
        unit_alloc_fail--;
        return 0;
    }

    unit_alloc_failed++;

    return 1;
}


void *
ngx_alloc(size_t size, ngx_log_t *log)
{
    void  *p;

    if (unit_alloc_fails()) {
        return NULL;
    }

    /* what nobody wrote is never zero by chance */

    p = malloc(size);

    if (p) {
        memset(p, 0xa5, size);
    }

    return p;
}


void *
ngx_calloc(size_t size, ngx_log_t *log)
{
    return unit_alloc_fails() ? NULL : calloc(1, size);
}


void *
ngx_memalign(size_t alignment, size_t size, ngx_log_t *log)
{
    void  *p;

    if (unit_alloc_fails() || posix_memalign(&p, alignment, size) != 0) {
        return NULL;
    }

    return p;
}


/* stubs: interfaces; ngx_tunnel_rules.c is compiled to call these */


int
unit_getifaddrs(struct ifaddrs **ifs)
{
    if (unit_ifaddrs == NULL) {
        errno = EMFILE;
        return -1;
    }

    *ifs = unit_ifaddrs;
    unit_ifaddrs_lent++;

    return 0;
}


void
unit_freeifaddrs(struct ifaddrs *ifs)
{
    unit_check(ifs == unit_ifaddrs, "freeifaddrs() of something else");
    unit_ifaddrs_lent--;
}


/* stubs: a front end */


static void *
unit_layer_compile(ngx_conf_t *cf, ngx_str_t *value)
{
    ngx_str_t  *compiled;

    if (unit_compile_fails) {
        return NULL;
    }

    compiled = ngx_palloc(cf->pool, sizeof(ngx_str_t));

    if (compiled) {
        *compiled = *value;
    }

    return compiled;
}


static ngx_int_t
unit_layer_eval(void *data, void *compiled, ngx_str_t *value)
{
    char       *text;
    u_char     *p, *last;
    size_t      len, n;
    ngx_str_t  *from;

    unit_check(data == &unit_layer, "somebody else's data");
    unit_evaluated++;

    if (unit_variable == NULL) {
        return NGX_ERROR;
    }

    from = compiled;
    n = strlen(unit_variable);

    text = malloc(from->len * (n + 1));
    if (text == NULL) {
        abort();
    }

    len = 0;
    last = from->data + from->len;

    for (p = from->data; p < last; /* void */ ) {

        if (*p != '$') {
            text[len++] = *p++;
            continue;
        }

        memcpy(text + len, unit_variable, n);
        len += n;
        p += (last - p > 1 && p[1] == '{') ? 4 : 2;
    }

    value->data = ngx_pnalloc(unit_pool, len);
    value->len = len;

    if (value->data) {
        memcpy(value->data, text, len);
    }

    free(text);

    return value->data ? NGX_OK : NGX_ERROR;
}


ngx_tunnel_layer_t  unit_layer = {
    &unit_layer,
    unit_layer_compile,
    unit_layer_eval
};


/* stubs: shared memory, which is none */


volatile ngx_msec_t  ngx_current_msec;


ngx_shm_zone_t *
ngx_shared_memory_add(ngx_conf_t *cf, ngx_str_t *name, size_t size, void *tag)
{
    ngx_uint_t       i;
    ngx_shm_zone_t  *zone;

    if (unit_zones_fail) {
        return NULL;
    }

    for (i = 0; i < unit_nzones; i++) {
        zone = &unit_zones[i];

        if (zone->shm.name.len == name->len
            && memcmp(zone->shm.name.data, name->data, name->len) == 0)
        {
            if (zone->tag != tag) {
                return NULL;
            }

            if (zone->shm.size == 0) {
                zone->shm.size = size;
            }

            return zone;
        }
    }

    if (unit_nzones == unit_nelts(unit_zones)) {
        abort();
    }

    zone = &unit_zones[unit_nzones++];

    ngx_memzero(zone, sizeof(ngx_shm_zone_t));

    zone->shm.log = &unit_errors;
    zone->shm.size = size;
    zone->shm.name = *name;
    zone->tag = tag;

    return zone;
}


u_char *
unit_slab_pool(void)
{
    ngx_slab_pool_t  *pool;

    pool = ngx_pcalloc(unit_pool, sizeof(ngx_slab_pool_t));
    if (pool == NULL) {
        abort();
    }

    return (u_char *) pool;
}


static void *
unit_slab_alloc(size_t size)
{
    void  *p;

    if (unit_slab_room && unit_slab_used >= unit_slab_room) {
        return NULL;
    }

    p = ngx_pnalloc(unit_pool, size);

    unit_slab_used += (p != NULL);

    return p;
}


void *
ngx_slab_alloc(ngx_slab_pool_t *pool, size_t size)
{
    unit_check(unit_locked == 0, "alloc of a zone that is locked");

    return unit_slab_alloc(size);
}


void *
ngx_slab_alloc_locked(ngx_slab_pool_t *pool, size_t size)
{
    unit_check(unit_locked == 1, "alloc of a zone that is not locked");

    return unit_slab_alloc(size);
}


void
ngx_slab_free_locked(ngx_slab_pool_t *pool, void *p)
{
    unit_check(unit_locked == 1, "free of a zone that is not locked");
    unit_check(ngx_pfree(unit_pool, p) == NGX_OK, "free of something else");

    unit_slab_used--;
}


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    unit_check(unit_locked == 0, "lock of a zone while one is locked");
    unit_locked++;
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    unit_check(unit_locked == 1, "unlock of a zone that is not locked");
    unit_locked--;
}


/* stubs: linked with, and not called */


static ngx_cycle_t    unit_cycle;

volatile ngx_cycle_t  *ngx_cycle = &unit_cycle;


char *
ngx_conf_set_flag_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    abort();
}


char *
ngx_conf_set_msec_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    abort();
}


char *
ngx_conf_set_size_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    abort();
}


char *
ngx_conf_set_num_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    abort();
}
