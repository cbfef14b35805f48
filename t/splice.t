#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: relay_splice.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/)
	->plan(SPLICE_TESTS);

splice_start($t, front => 'http');

###############################################################################

splice_tests($t, front => 'http');

###############################################################################
