#!/usr/bin/perl

# Tests for ngx_stream_connect_tunnel_module: relay_splice.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Splice;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_ssl socket_ssl/)
	->plan(SPLICE_TESTS);

splice_start($t, front => 'stream');

###############################################################################

splice_tests($t, front => 'stream');

###############################################################################
