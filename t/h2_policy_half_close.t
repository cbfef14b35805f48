#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: relay_half_close.

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

policy_test('h2', \&half_close_cases);

###############################################################################
