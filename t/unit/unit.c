
/*
 * The harness, and stubs for what nginx's files and ours link with.
 */


#include "unit.h"

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
    { "rules: without memory", unit_rules_memory },
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


/* stubs: linked with, and not called */


static ngx_cycle_t    unit_cycle;

volatile ngx_cycle_t  *ngx_cycle = &unit_cycle;


char *
ngx_conf_set_flag_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    abort();
}
