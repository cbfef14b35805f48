#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: servers of a group are not blamed
# for what is not their fault: a rule, the local address, or the limits of
# this machine.

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

my $t = Test::Nginx->new()->has(qw/http upstream_zone unix/)->plan(28);

my $d = $t->testdir();
my $p = port(8091);

start_daemon($t, \&echo_daemon, "127.0.0.1:$p", greeting => '1');
start_daemon($t, \&echo_daemon, "127.0.0.2:$p", greeting => '2');
start_daemon($t, \&echo_daemon, "[::1]:$p", greeting => '6');
start_daemon($t, \&echo_daemon, "unix:$d/target.sock", greeting => 'u');

port(8099);	# nobody is there

###############################################################################

configure($t, 'worker_connections 512;');
$t->run();

# a server that one configuration denies is there for another

is(tunnel(8080, 'a'), 502, 'one refused, one denied');
is(tunnel(8082, 'b'), '2', 'denied server was not blamed');

is(tunnel(8083, 'c'), 403, 'all denied');
is(tunnel(8083, 'd'), 403, 'all denied again');
is(tunnel(8084, 'e'), '1', 'denied servers were not blamed');

# servers that the local address does not go with

is(join('', map { tunnel(8085, "f$_") } 1 .. 4), '1111',
	'local address of IPv4');
is(join('', map { tunnel(8086, "g$_") } 1 .. 4), '6666',
	'local address of IPv6');
is(tunnel(8087, 'h'), 'u', 'local address and unix socket');
like(tunnel(8088, 'i'), qr/^50[03]$/, 'local address that is not here');
is(tunnel(8089, 'j'), '1', 'server was not blamed for it');

$t->stop();

# no connections are left

configure($t, 'worker_connections 32;');
$t->run();

limit_tests($t, 'connections');

$t->stop();

# no descriptors are left

configure($t, 'worker_connections 512;', 'worker_rlimit_nofile 48;');
$t->run();

limit_tests($t, 'descriptors');

###############################################################################

sub limit_tests {
	my ($t, $what) = @_;

	my ($pid) = workers($t);

	my ($status, $head, $new, @s);

	# clients that hold one each, so that one of the tunnels is the first
	# to miss one only for its target

	for my $n (1 .. 100) {
		($new, $head) = connect_tunnel(port(8090), "x$n.example:1",
			headers => [ "X-Id: $what-$n" ]);

		($status) = $head =~ /^HTTP\S+ (\d+)/;
		last if !$status || $status ne '200';

		half_close($new);
		read_all($new);
		wait_log($t, 'tunnel.log', qr/^$what-$n /);

		push @s, tcp_connect(port(8080));
		write_all($s[-1], "GET / HTTP/1.1\n");
		wait_for(sub { tcp_count($pid) == @s });
	}

	is($status, 503, "$what, limit");
	like($head, qr/^Proxy-Status: .*connection_limit_reached/m,
		"$what, told to the client");
	ok(wait_log($t, 'tunnel.log', qr/^$what-\d+ 503 machine_limit/),
		"$what, logged");

	is(tunnel(8090, "$what-again$_"), 503, "$what, again $_") for 1 .. 3;

	close $_ for @s, $new;
	ok(wait_for(sub { tcp_count($pid) == 0 }), "$what, clients gone");

	is(join('', sort map { tunnel(8090, "$what-after$_") } 1 .. 4), '1122',
		"$what, servers were not blamed");
	is(tunnel(8089, "$what-one"), '1', "$what, the only server");
}

# The first byte of the target, or the status.

sub tunnel {
	my ($proxy, $id) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), "$id.example:1",
		headers => [ "X-Id: $id" ]);

	return $1 if $head =~ /^HTTP\S+ ([3-5]\d\d) /;
	return scalar read_n($s, 1);
}

sub configure {
	my ($t, $events, $main) = @_;

	my $text = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
MAIN

events {
    EVENTS
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_address';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    # the first server is the first one to be asked

    upstream mixed {
        server 127.0.0.1:8099 weight=2;
        server 127.0.0.2:%%PORT_8091%%;
    }

    upstream denied {
        server 127.0.0.1:8091;
    }

    upstream families4 {
        server 127.0.0.1:8091;
        server [::1]:%%PORT_8091%%;
    }

    upstream families6 {
        server 127.0.0.1:8091;
        server [::1]:%%PORT_8091%%;
    }

    upstream socket {
        server unix:%%TESTDIR%%/target.sock;
    }

    upstream one {
        server 127.0.0.1:8091;
        server 127.0.0.1:8099 down;
    }

    upstream two {
        server 127.0.0.1:8091;
        server 127.0.0.2:%%PORT_8091%%;
    }

    server {
        listen 127.0.0.1:8080;
        connect_tunnel mixed;
        target_deny_address 127.0.0.2;
    }

    server {
        listen 127.0.0.1:8082;
        connect_tunnel mixed;
    }

    server {
        listen 127.0.0.1:8083;
        connect_tunnel denied;
        target_deny_address private;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel denied;
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel families4;
        target_bind 127.0.0.3;
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel families6;
        target_bind ::1;
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel socket;
        target_bind 127.0.0.3;
    }

    server {
        listen 127.0.0.1:8088;
        connect_tunnel one;
        target_bind 203.0.113.7;
    }

    server {
        listen 127.0.0.1:8089;
        connect_tunnel one;
    }

    server {
        listen 127.0.0.1:8090;
        connect_tunnel two;
    }
}

EOF

	$main = '' unless defined $main;

	$text =~ s/^MAIN$/$main/m;
	$text =~ s/\bEVENTS\b/$events/;

	$t->write_file_expand('nginx.conf', $text);
}

###############################################################################
