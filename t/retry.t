#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: a location that another one leads
# to begins anew.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(10);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$tunnel_target $tunnel_result $tunnel_address';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    recursive_error_pages on;

    server {
        listen       127.0.0.1:8080;

        location / {
            set $first 127.0.0.1:8091;
            connect_tunnel $first;
            error_page 502 504 = @direct;
        }

        location @direct {
            connect_tunnel;
            target_deny *.denied.example:443;
        }
    }

    server {
        listen       127.0.0.1:8081;

        location / {
            set $first 127.0.0.1:8091;
            connect_tunnel $first;
            error_page 502 504 = @empty;
        }

        location @empty {
            set $none "";
            connect_tunnel $none;
        }
    }

    server {
        listen       127.0.0.1:8082;
        connect_tunnel;
        relay_max_rate $http_rate;
    }
}

EOF

# nobody listens on port 8091

start_daemon($t, \&echo_daemon, '127.0.0.1:' . port(8090));
$t->run();

###############################################################################

# the target is that of the client again, for the rules, too

my $target = '127.0.0.1:' . port(8090);

my ($s, $head) = connect_tunnel(port(8080), $target);
like($head, qr/ 200 /, 'second location');
write_all($s, 'echo');
is(read_n($s, 4), 'echo', 'tunnel');
close $s;
ok(wait_log($t, 'tunnel.log', qr/^\Q$target\E ok \Q$target\E$/), 'logged');

($s, $head) = connect_tunnel(port(8080), 'www.denied.example:443');
like($head, qr/ 403 /, 'rule of the second location');
ok(wait_log($t, 'error.log',
	qr/tunnel to "www.denied.example:443" failed: denied_name, target_deny/),
	'rule in the log');

# of the first attempt nothing is left

($s, $head) = connect_tunnel(port(8081), $target);
like($head, qr/ 403 /, 'no target');
ok(wait_log($t, 'error.log', qr/failed: denied_name, empty "connect_tunnel"/),
	'no target in the log');

# a rate above all that can be counted is none

for my $rate (qw/ 1024g 2000g 8000000000g /) {
	($s) = connect_tunnel(port(8082), $target,
		headers => [ "Rate: $rate" ]);
	write_all($s, 'echo');
	is(read_n($s, 4), 'echo', "rate of $rate");
	close $s;
}

###############################################################################
