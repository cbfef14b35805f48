#!/usr/bin/perl

# Tests for tunnel_anonymous_log: the client is not in the error log lines of
# CONNECT requests, and the rest of the lines is as ever.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

use IO::Socket::INET;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http access auth_basic proxy rewrite/)
	->plan(46);

my $server = <<'EOC';
        target_deny denied.example:*;
        target_deny_address 127.0.0.3;
        relay_idle_timeout 200ms;

        location /missing {
        }

        location /proxy {
            proxy_pass http://127.0.0.1:8089;
        }
EOC

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    # without the lines of nginx between requests

    error_log %%TESTDIR%%/info.log info;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    tunnel_anonymous_log on;

    # inherited from http

    server {
        listen 127.0.0.1:8080;
        server_name anonymous;

        connect_tunnel;
$server
    }

    # off again

    server {
        listen 127.0.0.1:8081;
        server_name named;

        connect_tunnel;
        tunnel_anonymous_log off;
$server
    }

    # by location

    server {
        listen 127.0.0.1:8082;
        server_name location;

        tunnel_anonymous_log off;

        location / {
            connect_tunnel;
            tunnel_anonymous_log on;
            target_deny denied.example:*;

            if (\$host = if.example) {
                set \$any 1;
            }
        }

        location /missing {
            tunnel_anonymous_log on;
        }
    }

    server {
        listen 127.0.0.1:8083;
        server_name location_off;

        location / {
            connect_tunnel;
            tunnel_anonymous_log off;
            target_deny denied.example:*;
        }
    }

    # other modules

    server {
        listen 127.0.0.1:8084;
        server_name deny;

        connect_tunnel;
        deny all;
    }

    server {
        listen 127.0.0.1:8085;
        server_name auth;

        connect_tunnel;
        auth_basic closed;
        auth_basic_user_file users;
    }

    server {
        listen 127.0.0.1:8086;
        server_name dry_run;

        connect_tunnel;
        target_deny denied.example:*;
        target_dry_run on;
        target_resolve_timeout 100ms;
        resolver 127.0.0.1:%%PORT_8984_UDP%% ipv6=off;
    }

    server {
        listen 127.0.0.1:8087;
        server_name pages;

        connect_tunnel;
        target_deny denied.example:*;
        error_page 403 /nosuch.html;
    }
}

EOC

$t->write_file('users', "user:{PLAIN}secret\n");

my $closed = port(8089);
my $target = '127.0.0.1:' . port(8088);

my $silent = IO::Socket::INET->new(
	Proto => 'udp',
	LocalAddr => '127.0.0.1:' . port(8984, udp => 1),
) or die "Can't bind: $!\n";

start_daemon($t, \&echo_daemon, $target);
$t->run();

###############################################################################

# each line with its server and its request, and with or without the client

for my $case (
	[ 8080, 'anonymous', 0 ],
	[ 8081, 'named', 1 ],
) {
	my ($port, $server, $client) = @$case;

	my $line = sub { connect_request($_[0], @_[1 .. $#_]) };

	# refused

	line($t, $port, $line->("denied.example:443"),
		qr/\[error\].*tunnel to "denied\.example:443" failed: /,
		$server, $client, 'denied name');
	line($t, $port, $line->('127.0.0.3:443'),
		qr/\[error\].*tunnel to "127\.0\.0\.3:443" failed: /,
		$server, $client, 'denied address');
	line($t, $port, $line->("127.0.0.1:$closed"),
		qr/\[error\].*tunnel to "127\.0\.0\.1:$closed" failed: refu/,
		$server, $client, 'refused');
	line($t, $port, $line->('no.port'),
		qr/\[info\].*tunnel to "no\.port" failed: bad_request/,
		$server, $client, 'bad request');
	line($t, $port, $line->($target, headers => [ 'Content-Length: 1' ],
		early => 'X'), qr/\[info\].*failed: bad_request.*body/,
		$server, $client, 'body');

	# ended

	line($t, $port, $line->($target), qr/\[info\].*ended: idle_timeout/,
		$server, $client, 'ended');

	# failed before the first phase

	line($t, $port, $line->('header.example:443', headers => [ "X\0: 1" ]),
		qr/\[info\].*invalid header.*header\.example/,
		$server, $client, 'bad header');
	line($t, $port, $line->('no-host.example:443', host => undef),
		qr/\[info\].*without "Host".*no-host\.example/,
		$server, $client, 'no host');
	line($t, $port, $line->('bad-host.example:443', host => 'a/b'),
		qr/\[info\].*invalid host.*bad-host\.example/,
		$server, $client, 'bad host');
	line($t, $port, "CONNECT a b:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
		qr/\[info\].*invalid request/, $server, $client,
		'bad request line', qr/CONNECT a b:443/);

	my $s = tcp_connect(port($port));
	write_all($s, "CONNECT closed.example:443 HTTP/1.1\x0d\x0aHost: a"
		. "\x0d\x0a");
	close $s;
	seen($t, qr/\[info\].*prematurely closed.*closed\.example/,
		$server, $client, 'closed in header');

	# the lines of other requests keep it

	line($t, $port, "GET /missing/$port HTTP/1.0\x0d\x0a\x0d\x0a",
		qr!\[error\].*open\(\) .*/missing/$port" failed!,
		$server, 1, 'GET', qr!GET /missing/$port HTTP/1\.0!);
	line($t, $port, "GET /proxy/$port HTTP/1.0\x0d\x0a\x0d\x0a",
		qr!\[error\].*connect\(\) failed.*/proxy/$port!,
		$server, 1, 'proxied', qr!GET /proxy/$port HTTP/1\.0!);
}

# a CONNECT and another request on one connection

my $s = tcp_connect(port(8080));
write_all($s, "GET /missing/first HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a");
read_head($s);
write_all($s, connect_request('denied.example:1'));
read_all($s);
seen($t, qr!\[error\].*/missing/first" failed!, 'anonymous', 1, 'GET in front',
	qr!GET /missing/first!);
seen($t, qr/\[error\].*"denied\.example:1" failed/, 'anonymous', 0,
	'CONNECT behind GET');

# two of CONNECT, and one that fails in its header

$s = tcp_connect(port(8085));
write_all($s, connect_request('first.example:1'));
read_n($s, read_head($s) =~ /^Content-Length: (\d+)/m ? $1 : 0);
write_all($s, connect_request('second.example:1'));
read_n($s, read_head($s) =~ /^Content-Length: (\d+)/m ? $1 : 0);
write_all($s, connect_request('third.example:1', headers => [ "X\0: 1" ]));
read_all($s);
seen($t, qr/\[info\].*no user\/password.*"first\.example:1"/, 'auth', 0,
	'first CONNECT');
seen($t, qr/\[info\].*no user\/password.*"second\.example:1"/, 'auth', 0,
	'second CONNECT');
seen($t, qr/\[info\].*invalid header.*third\.example/, 'auth', 0,
	'bad header of third CONNECT', qr!CONNECT third\.example!);

# a failed CONNECT does not make the next connection anonymous

line($t, 8080, "GET /missing/next HTTP/1.0\x0d\x0a\x0d\x0a",
	qr!\[error\].*/missing/next" failed!, 'anonymous', 1, 'GET behind',
	qr!GET /missing/next!);

# levels of locations

line($t, 8082, connect_request('denied.example:8082'),
	qr/\[error\].*"denied\.example:8082" failed/, 'location', 0,
	'on in location');
line($t, 8082, connect_request('bad-request'),
	qr/\[info\].*"bad-request" failed/, 'location', 1,
	'off in server, before location');
line($t, 8083, connect_request('denied.example:8083'),
	qr/\[error\].*"denied\.example:8083" failed/, 'location_off', 1,
	'off in location');
line($t, 8083, connect_request('bad-request'),
	qr/\[info\].*"bad-request" failed.*location_off/, 'location_off', 0,
	'on in http, before location');

# other modules

line($t, 8084, connect_request($target), qr/\[error\].*forbidden by rule/,
	'deny', 0, 'deny');

line($t, 8085, connect_request($target, auth => 'user:wrong', headers => [
	'Connection: close' ]),
	qr/\[error\].*user "user": password mismatch/, 'auth', 0, 'password');
line($t, 8085, connect_request($target, headers => [ 'Connection: close' ]),
	qr/\[info\].*no user\/password/, 'auth', 0, 'no password');
line($t, 8085, connect_request($target, auth => 'nobody:x', headers => [
	'Connection: close' ]),
	qr/\[error\].*user "nobody" was not found/, 'auth', 0, 'no user');

line($t, 8086, connect_request('denied.example:8086'),
	qr/\[warn\].*"denied\.example:8086" would be denied/, 'dry_run', 0,
	'dry run');
seen($t, qr/\[error\].*"denied\.example:8086" failed: resolve_/, 'dry_run', 0,
	'resolve');

# behind a redirect

line($t, 8087, connect_request('denied.example:8087'),
	qr/\[error\].*"denied\.example:8087" failed/, 'pages', 0,
	'before error_page');
seen($t, qr!\[error\].*open\(\) .*/nosuch\.html" failed!, 'pages', 0,
	'error_page');

# all lines there are

$t->stop();

my @lines = grep { / request: "CONNECT / } log_lines($t, 'info.log');

is(join("\n", grep { /, client: / && !/ server: (?:named|location_off),/
	&& !/"bad-request"/ } @lines), '', 'no CONNECT with client');
cmp_ok(scalar(@lines), '>', 30, 'all lines');

###############################################################################

# Sends a request, and looks for its line.

sub line {
	my ($t, $port, $bytes, @rest) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $s = tcp_connect(port($port));
	write_all($s, $bytes);
	read_all($s);

	seen($t, @rest);
}

sub seen {
	my ($t, $re, $server, $client, $name, $request) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$request = qr/CONNECT / unless defined $request;

	my $of = qr/, server: $server, request: "$request/;
	my $line = wait_log($t, 'info.log', qr/^(?=.*$of).*$re/);
	my $end = $client ? qr/, client: 127\.0\.0\.1$of/
		: qr/^(?:(?!client: |127\.0\.0\.1, ).)*$of/;

	like($line, $end, "$server $name");
}

###############################################################################
