#!/usr/bin/perl

# Tests for ngx_stream_socks_module: resets behind the end of data.

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

my $t = Test::Nginx->new()->has(qw/stream/)->plan(RESET_TESTS);

reset_start($t, front => 'socks');

###############################################################################

reset_behind_tests($t, front => 'socks');

###############################################################################
