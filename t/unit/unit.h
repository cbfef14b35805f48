
/*
 * Unit tests: a small harness, and what the tested files need of nginx.
 */


#ifndef _UNIT_H_INCLUDED_
#define _UNIT_H_INCLUDED_


#include "ngx_tunnel_policy.h"
#include "ngx_tunnel_rate.h"
#include "ngx_tunnel_rules.h"
#include "ngx_tunnel_sniff.h"
#include "ngx_tunnel_socks.h"

#include <ifaddrs.h>


/* tests; each is entered with an empty unit_pool and an empty unit_log */

void unit_target(void);
void unit_target_hosts(void);
void unit_target_ports(void);
void unit_target_lengths(void);
void unit_target_bytes(void);
void unit_target_mutations(void);
void unit_target_set(void);
void unit_target_set_random(void);
void unit_target_addresses(void);

void unit_socks_messages(void);
void unit_socks_hosts(void);
void unit_socks_lengths(void);
void unit_socks_bytes(void);
void unit_socks_ports(void);
void unit_socks_replies(void);
void unit_socks_datagrams(void);
void unit_socks_random(void);

void unit_sniff_protocols(void);
void unit_sniff_protocol_names(void);
void unit_sniff_alerts(void);
void unit_sniff_near_misses(void);
void unit_sniff_early(void);
void unit_sniff_beginnings(void);
void unit_sniff_hellos(void);
void unit_sniff_names(void);
void unit_sniff_name_lists(void);
void unit_sniff_versions(void);
void unit_sniff_alpn(void);
void unit_sniff_extensions(void);
void unit_sniff_lengths(void);
void unit_sniff_records(void);
void unit_sniff_sslv2(void);
void unit_sniff_http(void);
void unit_sniff_http_lines(void);
void unit_sniff_http_long(void);
void unit_sniff_mutations(void);
void unit_sniff_random(void);

void unit_hpack_blocks(void);
void unit_hpack_frames(void);
void unit_hpack_examples(void);
void unit_hpack_lengths(void);
void unit_hpack_tables(void);
void unit_hpack_errors(void);
void unit_hpack_limit(void);
void unit_hpack_budget(void);
void unit_hpack_wrong(void);
void unit_hpack_short(void);
void unit_hpack_dropped(void);
void unit_hpack_mutations(void);
void unit_hpack_room(void);
void unit_hpack_pass(void);
void unit_hpack_calls(void);
void unit_hpack_memory(void);

void unit_rules_patterns(void);
void unit_rules_pattern_lists(void);
void unit_rules_pattern_errors(void);
void unit_rules_pattern_mutations(void);
void unit_rules_regex(void);
void unit_rules_addresses(void);
void unit_rules_address_errors(void);
void unit_rules_special(void);
void unit_rules_random(void);
void unit_rules_own(void);
void unit_rules_inheritance(void);
void unit_rules_dry_run(void);
void unit_rules_port_zero(void);
void unit_rules_memory(void);

void unit_rate_random(void);
void unit_rate_speed(void);
void unit_rate_late(void);
void unit_rate_idle(void);
void unit_rate_slow(void);
void unit_rate_fast(void);
void unit_rate_debt(void);
void unit_rate_wrap(void);
void unit_rate_window(void);
void unit_rate_window_extremes(void);

void unit_policy_defaults(void);
void unit_policy_values(void);
void unit_policy_errors(void);
void unit_policy_buffer_size(void);
void unit_policy_inheritance(void);
void unit_policy_eval(void);
void unit_policy_memory(void);

void unit_quota_zone(void);
void unit_quota_directive(void);
void unit_quota_count(void);
void unit_quota_extremes(void);
void unit_quota_several(void);
void unit_quota_keys(void);
void unit_quota_room(void);
void unit_quota_errors(void);
void unit_quota_reload(void);
void unit_quota_random(void);

void unit_results(void);
void unit_reasons(void);


/* counts, and says what is wrong if ok is false; returns ok */

ngx_uint_t unit_check(ngx_uint_t ok, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* bytes as C would write them, in one of a few static buffers */

const char *unit_text(const u_char *data, size_t len);
ngx_uint_t unit_is(ngx_str_t *s, const char *text);

/*
 * A copy of exactly len bytes, so that ASan sees a read behind its end; lives
 * as long as unit_pool.
 */

u_char *unit_copy(const void *data, size_t len);

/* the same, or with NULL room for so many, to be given to free() */

u_char *unit_block(const void *data, size_t len);

/*
 * Sets a directive as nginx's parser does: each argument ends in a zero byte
 * that is none of it, and lies alone in memory.  "''" is an empty argument.
 */

char *unit_directive(void *conf, ngx_command_t *cmd, const char *args);

/* the same numbers in each run */

uint32_t unit_random(void);
void unit_seed(uint32_t seed);


extern ngx_pool_t  *unit_pool;
extern ngx_log_t    unit_errors;         /* a log whose messages are kept */

/* the last message to unit_errors or of a directive; level 0: there is none */

extern ngx_uint_t   unit_log_level;
extern char         unit_log[2048];

void unit_log_clear(void);

/* this allocation fails, counted from 1, and every one after it; 0: none */

extern ngx_uint_t   unit_alloc_fail;
extern ngx_uint_t   unit_alloc_failed;   /* how many did */

/* the same, for the allocations of unit_directive()'s handler */

extern ngx_uint_t   unit_directive_fail;

/* a front end, whose only variable is $v, and its value; NULL: it fails */

extern ngx_tunnel_layer_t  unit_layer;
extern const char         *unit_variable;
extern ngx_uint_t          unit_evaluated;      /* values, so far */
extern ngx_uint_t          unit_compile_fails;

/* shared memory: the zones of the configuration */

extern ngx_shm_zone_t      unit_zones[16];
extern ngx_uint_t          unit_nzones;
extern ngx_uint_t          unit_zones_fail;     /* the name is taken */

/* and what is in them: allocations, of all zones together */

u_char *unit_slab_pool(void);

extern ngx_uint_t          unit_slab_used;
extern ngx_uint_t          unit_slab_room;      /* the most; 0: any number */
extern ngx_uint_t          unit_locked;         /* zones that are locked */

/* what getifaddrs() gives; NULL: it fails */

extern struct ifaddrs  *unit_ifaddrs;
extern ngx_int_t        unit_ifaddrs_lent;


#define unit_nelts(a)  (sizeof(a) / sizeof((a)[0]))


#endif /* _UNIT_H_INCLUDED_ */
