#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: policies from variables.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Policy;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

policy_test('http', \&variable_cases, conf => variable_conf('http'),
	files => { variable_files() });

###############################################################################
