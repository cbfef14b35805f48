#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: the relay, clients speak TLS.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 socket_ssl_alpn/)
	->plan(RELAY_TESTS);

make_cert($t, 'localhost');

relay_start($t, front => 'h2', listen => 'ssl', conf => <<'EOF');
ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;
EOF

###############################################################################

relay_tests($t, front => 'h2', ssl => 1);

###############################################################################
