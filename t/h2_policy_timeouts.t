#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: relay_idle_timeout,
# relay_send_timeout, and relay_max_lifetime.

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

policy_test('h2', \&timeout_cases);

###############################################################################
