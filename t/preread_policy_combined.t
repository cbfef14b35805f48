#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: several limits at once.

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

policy_test('preread', \&combined_cases, conf => combined_conf('preread'),
	main => 'worker_shutdown_timeout 500ms;',
	check => \&combined_check, tests => combined_tests('preread'));

###############################################################################
