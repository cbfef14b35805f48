#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: relay_max_rate, relay_upload_rate,
# and relay_download_rate.

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

policy_test('h2', \&rate_cases);

###############################################################################
