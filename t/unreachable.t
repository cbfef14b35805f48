#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: addresses without a route.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Namespace qw/ net /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(10);

ip('route add prohibit 198.51.100.0/24');
ip('route add unreachable 203.0.113.0/24');

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address all;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }
}

EOF

my $p = port(8091);

start_daemon($t, \&echo_daemon, $p, greeting => 'hello');
start_daemon($t, \&dns_daemon, port(8980, udp => 1),
	log => $t->testdir() . '/dns.log',
	table => {
		'one.example' => [ '2001:db8::1', '127.0.0.1' ],
		'none.example' => [ '2001:db8::1', '192.0.2.1' ],
	});

$t->waitforfile($t->testdir() . '/dns.log');
$t->run();

###############################################################################

is(status("192.0.2.1:$p"), 502, 'no route');
is(status("[2001:db8::1]:$p"), 502, 'no IPv6 route');
is(status("203.0.113.1:$p"), 502, 'unreachable host');
is(status("198.51.100.1:$p"), 502, 'prohibited');
is(status("none.example:$p"), 502, 'no route to any address');
is(status("one.example:$p"), 200, 'no route to one of the addresses');

like(head("192.0.2.1:$p"), qr/^Proxy-Status: .*destination_ip_unroutable/m,
	'told to the client');

is(refused($t, "192.0.2.1:$p"), 'unreachable', 'no route, logged');
is(refused($t, "[2001:db8::1]:$p"), 'unreachable', 'no IPv6 route, logged');
is(refused($t, "198.51.100.1:$p"), 'unreachable', 'prohibited, logged');

###############################################################################

sub head {
	my ($target) = @_;

	return (connect_tunnel(port(8080), $target))[1];
}

sub status {
	my ($target) = @_;

	return head($target) =~ /^HTTP\S+ (\d+)/ ? $1 : '';
}

sub refused {
	my ($t, $target) = @_;

	my $line = wait_log($t, 'error.log',
		qr/\[error\].*tunnel to "\Q$target\E" failed: /);

	return ($line || '') =~ /failed: (\w+)/ ? $1 : '';
}

###############################################################################
