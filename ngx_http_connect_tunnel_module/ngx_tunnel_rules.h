
/*
 * Rules: what may be reached.  Patterns are asked before a name is resolved,
 * address rules right before each connect.
 */


#ifndef _NGX_TUNNEL_RULES_H_INCLUDED_
#define _NGX_TUNNEL_RULES_H_INCLUDED_


#include "ngx_tunnel_target.h"


#pragma GCC visibility push(hidden)


typedef struct ngx_tunnel_patterns_s  ngx_tunnel_patterns_t;


/* the rules of one configuration level; a level without some inherits them */

typedef struct {
    ngx_tunnel_patterns_t  *allow;
    ngx_tunnel_patterns_t  *deny;
    ngx_array_t            *allow_address;   /* of ngx_tunnel_cidr_t */
    ngx_array_t            *deny_address;
    ngx_flag_t              dry_run;
} ngx_tunnel_rules_t;


void ngx_tunnel_rules_create(ngx_tunnel_rules_t *rules);
void ngx_tunnel_rules_merge(ngx_tunnel_rules_t *rules,
    ngx_tunnel_rules_t *prev);


/*
 * Directive handlers: cmd->offset is that of allow or deny, or of
 * allow_address or deny_address, which takes one rule for each argument.
 */

char *ngx_tunnel_rules_pattern_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_tunnel_rules_address_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/*
 * Each returns NGX_OK, NGX_DECLINED if a rule that is set denies, or NGX_ABORT
 * if a default does; what is then set to a text that names the rule and stays
 * as long as the configuration.
 *
 * A target that the configuration spells out is "trusted": the defaults
 * (port 443 of public addresses only) do not bind it, rules that are set do.
 */

ngx_int_t ngx_tunnel_rules_check_target(ngx_tunnel_rules_t *rules,
    ngx_tunnel_target_t *t, ngx_uint_t trusted, ngx_log_t *log,
    ngx_str_t *what);
ngx_int_t ngx_tunnel_rules_check_address(ngx_tunnel_rules_t *rules,
    struct sockaddr *sa, ngx_uint_t trusted, ngx_array_t *own,
    ngx_str_t *what);

/*
 * The same for what is asked in earnest: NGX_OK or NGX_DECLINED.  Dry run lets
 * pass what a rule that is set denies, and logs that.  name is the address as
 * the log is to have it.
 */

ngx_int_t ngx_tunnel_rules_allow_target(ngx_tunnel_rules_t *rules,
    ngx_tunnel_target_t *t, ngx_uint_t trusted, ngx_log_t *log,
    ngx_str_t *what);
ngx_int_t ngx_tunnel_rules_allow_address(ngx_tunnel_rules_t *rules,
    struct sockaddr *sa, ngx_str_t *name, ngx_uint_t trusted, ngx_array_t *own,
    ngx_log_t *log, ngx_str_t *what);


/*
 * The addresses this nginx itself listens on, wildcards replaced with the
 * addresses of the machine's interfaces: an array of ngx_addr_t for the
 * argument of ngx_tunnel_rules_check_address(), or NULL without memory.
 */

ngx_array_t *ngx_tunnel_rules_own_addresses(ngx_cycle_t *cycle,
    ngx_pool_t *pool);


#pragma GCC visibility pop


#endif /* _NGX_TUNNEL_RULES_H_INCLUDED_ */
