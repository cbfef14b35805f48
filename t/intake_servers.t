#!/usr/bin/perl

# Tests for the server that a CONNECT gets where a port has several, and for
# the kinds of listening sockets.

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

my $t = Test::Nginx->new()->has(qw/http rewrite unix/)->plan(66);

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$server_name|$request|$status|$tunnel_result';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address 127.0.0.1;

    # by name: the default server serves every CONNECT

    server {
        listen 127.0.0.1:8080;
        server_name first.example;
        connect_tunnel;
        location / { return 200 "SEE-FIRST\n"; }
    }

    server {
        listen 127.0.0.1:8080;
        server_name site.example *.site.example;
        location / { return 200 "SEE-SITE\n"; }
    }

    server {
        listen 127.0.0.1:8080;
        server_name denied.example r1.example;
        target_deny *:*;
        connect_tunnel;
    }

    # by name: it has no tunnel

    server {
        listen 127.0.0.1:8082 default_server;
        server_name site.example;
        location / { return 200 "SEE-SITE\n"; }
    }

    server {
        listen 127.0.0.1:8082;
        server_name tunnel.example;
        connect_tunnel;
        location / { return 200 "SEE-TUNNEL\n"; }
    }

    # no tunnel at all

    server {
        listen 127.0.0.1:8083;
        server_name site.example;
        location / { return 200 "SEE-SITE\n"; }
    }

    # by address

    server {
        listen 127.0.0.1:8084;
        server_name address;
        location / { return 200 "SEE-SITE\n"; }
    }

    server {
        listen *:%%PORT_8084%%;
        server_name any;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8085;
        server_name address;
        connect_tunnel;
    }

    server {
        listen *:%%PORT_8085%%;
        server_name any;
        location / { return 200 "SEE-SITE\n"; }
    }

    server {
        listen 127.0.0.1:8086;
        listen 127.0.0.1:8087;
        server_name two;
        connect_tunnel;
    }

    # the default server comes last

    server {
        listen 127.0.0.1:8088;
        server_name tunnel.example;
        location / { return 200 "SEE-SITE\n"; }
    }

    server {
        listen 127.0.0.1:8088 default_server;
        server_name last;
        connect_tunnel;
    }

    # sockets

    server {
        listen 127.0.0.1:8090 reuseport;
        server_name reuseport;
        connect_tunnel;
        location / { return 200 "SEE-THIS\n"; }
    }

    server {
        listen 127.0.0.1:8091 deferred;
        server_name deferred;
        connect_tunnel;
        location / { return 200 "SEE-THIS\n"; }
    }

    server {
        listen unix:%%TESTDIR%%/http.sock;
        server_name unix;
        connect_tunnel;
        location / { return 200 "SEE-THIS\n"; }
    }

    server {
        listen [::1]:%%PORT_8092%%;
        server_name ipv6;
        connect_tunnel;
        location / { return 200 "SEE-THIS\n"; }
    }

    server {
        listen 127.0.0.1:8093 backlog=16 so_keepalive=on rcvbuf=8k
            reuseport deferred;
        server_name options;
        connect_tunnel;
        location / { return 200 "SEE-THIS\n"; }
    }
}

EOC

my $echo = port(8081);

start_daemon($t, \&echo_daemon, "127.0.0.1:$echo");
start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { '*' => '127.0.0.1' });

$t->run();

###############################################################################

my $target = "target.example:$echo";
my $stock = $t->has_version('1.29.3') ? 405 : 400;
my $get = "GET / HTTP/1.1\x0d\x0aHost: site.example\x0d\x0a\x0d\x0a";
my $unix = 'unix:' . $t->testdir() . '/http.sock';

# by name

for my $name (qw/ first.example site.example a.site.example denied.example
	r1.example unknown.example /)
{
	is(tunnel(port(8080), "$name:$echo"), 'ok', "target $name");
	ok(wait_log($t, 'tunnel.log', qr!^first\.example\|CONNECT \Q$name\E:!),
		"target $name log");
	is(tunnel(port(8080), $target, host => $name), 'ok', "host $name");
}

is(tunnel(port(8080), $target, version => '1.0', host => undef), 'ok',
	'no host');

like(get(port(8080), 'site.example'), qr/SEE-SITE/, 'GET of another server');
is(tunnel(port(8080), "site.example:$echo", first => $get), 'ok',
	'CONNECT after GET of another server');
is(scalar(grep { /^site\.example\|CONNECT / } log_lines($t, 'tunnel.log')), 0,
	'CONNECT after GET of another server log');

# without a tunnel in the default server

for my $request (
	connect_request("tunnel.example:$echo"),
	connect_request($target, host => 'tunnel.example'),
	connect_request($target, version => '1.0', host => undef),
	connect_request('tunnel.example'),
	connect_request('/'),
	connect_request('a:443', headers => [ 'Content-Length: 0' ]),
	"CONNECT\x0d\x0a\x0d\x0a",
) {
	my ($with, $none) = map { refusal(port($_), $request) } 8082, 8083;

	my ($name) = $request =~ /^(.*?)\x0d/;
	is($with, $none, "$name without tunnel");
	like($with, qr!^HTTP/1\.1 (?:$stock|400|405) !,
		"$name without tunnel, status");
}

like(refusal(port(8082), connect_request("tunnel.example:$echo")),
	qr!^HTTP/1\.1 $stock !, 'default server without tunnel');
like(get(port(8082), 'tunnel.example'), qr/SEE-TUNNEL/,
	'GET of the server with a tunnel');

# by address

like(tunnel('127.0.0.1:' . port(8084), $target), qr/^$stock/,
	'address without tunnel');
is(tunnel('127.0.0.2:' . port(8084), $target), 'ok', 'any address');
is(tunnel('127.0.0.1:' . port(8085), $target), 'ok', 'address');
like(tunnel('127.0.0.2:' . port(8085), $target), qr/^$stock/,
	'any address without tunnel');
is(tunnel(port(8086), $target), 'ok', 'one port');
is(tunnel(port(8087), $target), 'ok', 'another port');
is(tunnel(port(8088), "tunnel.example:$echo"), 'ok', 'last is default');
ok(wait_log($t, 'tunnel.log', qr!^last\|CONNECT !), 'last is default log');

# sockets

for my $case ([ 'reuseport', port(8090) ], [ 'deferred', port(8091) ],
	[ 'unix', $unix ], [ 'ipv6', '[::1]:' . port(8092) ],
	[ 'options', port(8093) ])
{
	my ($name, $addr) = @$case;

	is(join(' ', grep { tunnel($addr, $target, split => $_ ? [ $_ ] : [])
		ne 'ok' } 0 .. 12), '', "$name split");
	is(join(' ', grep { tunnel($addr, $target, first => $get,
		split => [ length($get) + $_ ]) ne 'ok' } 0 .. 9), '',
		"$name GET then CONNECT split");
	is(scalar(grep { tunnel($addr, $target) eq 'ok' } 1 .. 20), 20,
		"$name many");
	like(get($addr, 'a'), qr/SEE-THIS/, "$name GET");
}

###############################################################################

sub tunnel {
	my ($addr, $authority, %opt) = @_;

	my $first = delete $opt{first} || '';
	my $split = delete $opt{split} || [];

	my $s = tcp_connect($addr) or return 'no connection';
	send_split($s, $first . connect_request($authority, %opt), @$split);

	my $head = read_head($s);

	if ($first) {
		return 'no response' unless $head =~ /^Content-Length: (\d+)/mi;
		read_n($s, $1);
		$head = read_head($s);
	}

	return "$1 $head" if $head =~ m!^HTTP/1\.1 ([345]\d\d) !;
	return "bad response: $head" unless $head =~ m!^HTTP/1\.1 200 !;

	write_all($s, 'ECHO');
	return read_n($s, 4) eq 'ECHO' ? 'ok' : 'no echo';
}

sub refusal {
	my ($addr, $bytes) = @_;

	my $s = tcp_connect($addr);
	write_all($s, $bytes);

	my $r = read_all($s);
	$r =~ s/^Date: .*\x0d\x0a//m;

	return $r;
}

sub get {
	my ($addr, $host) = @_;

	return refusal($addr, "GET / HTTP/1.0\x0d\x0aHost: $host\x0d\x0a"
		. "\x0d\x0a");
}

###############################################################################
