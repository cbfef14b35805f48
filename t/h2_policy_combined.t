#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: several limits at once.

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

policy_test('h2', \&combined_cases, conf => combined_conf('h2'),
	main => 'worker_shutdown_timeout 500ms;',
	check => \&combined_check, tests => combined_tests('h2'));

###############################################################################
