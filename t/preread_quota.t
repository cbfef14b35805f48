#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: relay_quota_zone and relay_quota.

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

quota_tests(Test::Nginx->new(), 'preread');

###############################################################################
