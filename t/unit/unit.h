
/*
 * Unit tests: a small harness, and what the tested files need of nginx.
 */


#ifndef _UNIT_H_INCLUDED_
#define _UNIT_H_INCLUDED_


#include "ngx_tunnel_rules.h"

#include <ifaddrs.h>


/* tests; each is entered with an empty unit_pool and an empty unit_log */

void unit_target(void);
void unit_target_hosts(void);
void unit_target_ports(void);
void unit_target_lengths(void);
void unit_target_bytes(void);
void unit_target_mutations(void);

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
void unit_rules_memory(void);

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

/* what getifaddrs() gives; NULL: it fails */

extern struct ifaddrs  *unit_ifaddrs;
extern ngx_int_t        unit_ifaddrs_lent;


#define unit_nelts(a)  (sizeof(a) / sizeof((a)[0]))


#endif /* _UNIT_H_INCLUDED_ */
