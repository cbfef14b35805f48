#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: the relay.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream/)->plan(RELAY_TESTS);

relay_start($t, front => 'preread');

###############################################################################

relay_tests($t, front => 'preread');

###############################################################################
