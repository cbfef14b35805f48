#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: relay_quota_zone and relay_quota.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Quota;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

quota_tests(Test::Nginx->new(), 'h2');

###############################################################################
