#!/usr/bin/perl

# Tests for ngx_stream_socks_module: several limits at once.

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

policy_test('socks', \&combined_cases, conf => combined_conf('socks'),
	main => 'worker_shutdown_timeout 500ms;',
	check => \&combined_check, tests => combined_tests('socks'));

###############################################################################
