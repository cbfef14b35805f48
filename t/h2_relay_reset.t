#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: resets behind the end of data.

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

my $t = Test::Nginx->new()->has(qw/http http_v2/)->plan(RESET_TESTS);

reset_start($t, front => 'h2');

###############################################################################

reset_behind_tests($t, front => 'h2');

###############################################################################
