#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: relay_max_rate,
# relay_upload_rate, and relay_download_rate.

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

policy_test('preread', \&rate_cases);

###############################################################################
