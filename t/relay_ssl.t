#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: the relay, clients speak TLS.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/)
	->plan(RELAY_TESTS);

make_cert($t, 'localhost');

relay_start($t, listen => 'ssl', conf => <<'EOF');
ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;
EOF

###############################################################################

relay_tests($t, ssl => 1);

###############################################################################
