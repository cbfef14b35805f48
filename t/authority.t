#!/usr/bin/perl

# Tests for what a CONNECT may ask for: the authority, the body it must not
# have, the version, and the bytes behind a refused one.

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

my $t = Test::Nginx->new()->has(qw/http auth_basic rewrite/)->plan(182);

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$request|$status|$tunnel_result|$tunnel_target|$host';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_deny denied.example:*;
    target_allow_address 127.0.0.1 ::1;

    server {
        listen 127.0.0.1:8080;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS\n";
        }
    }

    server {
        listen 127.0.0.1:8082;

        connect_tunnel_min_version 1.1;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8083;

        connect_tunnel_min_version 1.0;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8084;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;

        location / {
            auth_basic off;
            return 200 "SEE-THIS\n";
        }
    }

    # a tunnel in another location than that which "/" selects

    server {
        listen 127.0.0.1:8085;

        location / {
            return 200 "SEE-THIS\n";
        }

        location /tunnel {
            connect_tunnel;
        }
    }
}

EOC

$t->write_file('users', "user:{PLAIN}secret\n");

my $port = port(8081);
my $closed = port(8999);
my $long = join '.', ('a' x 49) x 5;	# 249

start_daemon($t, \&echo_daemon, "127.0.0.1:$port");
start_daemon($t, \&echo_daemon, "[::1]:$port");
start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { '*' => [ '127.0.0.1' ] });

$t->run();

###############################################################################

my $ok = qr!^HTTP/1\.1 200 !;

# what is accepted, and its canonical form

accepted($t, "127.0.0.1:$port", "127.0.0.1:$port", 'ipv4');
accepted($t, "[::1]:$port", "[::1]:$port", 'ipv6');
accepted($t, "[0:0:0:0:0:0:0:1]:$port", "[::1]:$port", 'ipv6, long form');
accepted($t, "[0000::0001]:$port", "[::1]:$port", 'ipv6, leading zeros');
accepted($t, "name.example:$port", "name.example:$port", 'name');
accepted($t, "NAME.Example:$port", "name.example:$port", 'upper case');
accepted($t, "name.example.:$port", "name.example:$port", 'trailing dot');
accepted($t, "name:$port", "name:$port", 'single label');
accepted($t, "1.name:$port", "1.name:$port", 'label of digits');
accepted($t, "na_me-1.example:$port", "na_me-1.example:$port", 'underscore');
accepted($t, "$long.abc:$port", "$long.abc:$port", 'host of 253 bytes');
accepted($t, "name.example:0$port", "name.example:$port", 'port with a zero');

# what is not

for my $case (
	[ 'no port', 'name.example' ],
	[ 'no port, ipv4', '127.0.0.1' ],
	[ 'no port, ipv6', '[::1]' ],
	[ 'empty port', 'name.example:' ],
	[ 'empty port, ipv6', '[::1]:' ],
	[ 'zero port', 'name.example:0' ],
	[ 'zeros port', 'name.example:000' ],
	[ 'port 65536', 'name.example:65536' ],
	[ 'port wraps', 'name.example:' . (65536 + $port) ],
	[ 'port wraps at 32 bits', 'name.example:' . (4294967296 + $port) ],
	[ 'port wraps at 64 bits', "name.example:1844674407370955$port" ],
	[ 'port with sign', "name.example:+$port" ],
	[ 'negative port', "name.example:-$port" ],
	[ 'hex port', 'name.example:0x1f91' ],
	[ 'port with letters', "name.example:${port}a" ],
	[ 'port of letters', 'name.example:http' ],
	[ 'two ports', "name.example:$port:$port" ],
	[ 'list of ports', "name.example:$port,80" ],
	[ 'user', "user\@name.example:$port" ],
	[ 'user and password', "user:password\@name.example:$port" ],
	[ 'empty user', "\@name.example:$port" ],
	[ 'path', "name.example:$port/" ],
	[ 'path with dots', "name.example:$port/../a" ],
	[ 'slash in front', "/name.example:$port" ],
	[ 'dots in front', "../name.example:$port" ],
	[ 'query', "name.example:$port?a" ],
	[ 'empty query', "name.example:$port?" ],
	[ 'query in host', "?a:$port" ],
	[ 'fragment', "name.example:$port#a" ],
	[ 'scheme', "http://name.example:$port" ],
	[ 'scheme and path', "https://name.example:$port/" ],
	[ 'two slashes', "//name.example:$port" ],
	[ 'asterisk', '*' ],
	[ 'asterisk host', "*:$port" ],
	[ 'asterisk label', "*.example:$port" ],
	[ 'percent-encoding', "na%6de.example:$port" ],
	[ 'percent-encoded colon', "name.example%3a$port" ],
	[ 'bad percent-encoding', "name%zz.example:$port" ],
	[ 'control character', "name\x01.example:$port" ],
	[ 'nul', "name\0.example:$port" ],
	[ 'tab', "name\t.example:$port" ],
	[ 'delete', "name\x7f.example:$port" ],
	[ 'cr', "name\x0d.example:$port" ],
	[ 'eight bits', "n\xe4me.example:$port" ],
	[ 'plus', "na+me.example:$port" ],
	[ 'backslash', "name.example\\a:$port" ],
	[ 'quote', "name\".example:$port" ],
	[ 'comma', "name.example,a:$port" ],
	[ 'semicolon', "name.example;a:$port" ],
	[ 'no host', ":$port" ],
	[ 'dot', ".:$port" ],
	[ 'dots', "..:$port" ],
	[ 'leading dot', ".name.example:$port" ],
	[ 'two dots', "name..example:$port" ],
	[ 'two trailing dots', "name.example..:$port" ],
	[ 'host of 254 bytes', "$long.abcd:$port" ],
	[ 'label of 64 bytes', 'a' x 64 . ".example:$port" ],
	[ 'only port', $port ],
	[ 'ipv4, hex', "0x7f000001:$port" ],
	[ 'ipv4, hex parts', "0x7f.0.0.1:$port" ],
	[ 'ipv4, decimal', "2130706433:$port" ],
	[ 'ipv4, octal', "0177.0.0.1:$port" ],
	[ 'ipv4, leading zeros', "127.000.000.001:$port" ],
	[ 'ipv4, two parts', "127.1:$port" ],
	[ 'ipv4, three parts', "127.0.1:$port" ],
	[ 'ipv4, five parts', "127.0.0.0.1:$port" ],
	[ 'ipv4, large part', "127.0.0.257:$port" ],
	[ 'ipv4 in brackets', "[127.0.0.1]:$port" ],
	[ 'ipv6 without brackets', "::1:$port" ],
	[ 'ipv6, open bracket', "[::1:$port" ],
	[ 'ipv6, closed bracket', "::1]:$port" ],
	[ 'ipv6, text behind', "[::1]a:$port" ],
	[ 'ipv6, text in front', "a[::1]:$port" ],
	[ 'ipv6, zone', "[fe80::1%lo]:$port" ],
	[ 'ipv6, encoded zone', "[fe80::1%25lo]:$port" ],
	[ 'ipv6, too long', "[1:2:3:4:5:6:7:8:9]:$port" ],
	[ 'ipv6, two gaps', "[1::2::3]:$port" ],
	[ 'ipv6, empty', "[]:$port" ],
	[ 'ipv6, name', "[name]:$port" ],
	[ 'ipv6, future', "[v1.a]:$port" ],
) {
	my ($name, $authority) = @$case;

	like(refusal(8080, connect_request($authority, host => 'a')),
		qr!^HTTP/1\.1 400 !, $name);
}

my $user = "user:password\@name.example:$port";
ok(wait_log($t, 'tunnel.log',
	qr!^CONNECT \Q$user\E HTTP/1\.1\|400\|bad_request\|-\|!),
	'bad authority log');
ok(wait_log($t, 'error.log', qr/\[info\] .*tunnel\ to\ "name\.example:0"
	\ failed:\ bad_request,\ the\ port\ is\ not/x), 'bad authority error log');

# the Host header does not matter

for my $host ('another.example', 'another.example:1', "[::1]:$port",
	'127.0.0.2')
{
	accepted($t, "name.example:$port", "name.example:$port", "host '$host'",
		host => $host);
}

like(refusal(8080, connect_request("127.0.0.1:$port", host => '')),
	qr!^HTTP/1\.1 400 !, 'empty host');

# versions

for my $case ([ 8080, '1.0', $ok ], [ 8083, '1.0', $ok ],
	[ 8083, '1.1', $ok ], [ 8082, '1.1', $ok ],
	[ 8082, '1.0', qr!^HTTP/1\.1 505 ! ], [ 8080, '1.2', $ok ])
{
	my ($listen, $version, $like) = @$case;

	my ($s, $head) = connect_tunnel(port($listen), "127.0.0.1:$port",
		version => $version);
	like($head, $like, "$listen version $version");

	($s, $head) = connect_tunnel(port($listen), "127.0.0.1:$port",
		version => $version, host => undef);
	$like = qr!^HTTP/1\.1 400 ! if $version ne '1.0';
	like($head, $like, "$listen version $version without host");
}

ok(wait_log($t, 'tunnel.log', qr!HTTP/1\.0\|505\|bad_version\|127\.!),
	'version log');

# a body is not allowed, an empty one is

my $authority = "127.0.0.1:$port";
my $bad = qr!^HTTP/1\.1 400 !;

accepted($t, $authority, $authority, 'empty body',
	headers => [ 'Content-Length: 0' ]);

for my $case (
	[ 'body', $bad, 'Content-Length: 1' ],
	[ 'large body', $bad, 'Content-Length: 1000000000000' ],
	[ 'bad length', $bad, 'Content-Length: a' ],
	[ 'negative length', $bad, 'Content-Length: -1' ],
	[ 'two lengths', $bad, 'Content-Length: 0', 'Content-Length: 0' ],
	[ 'chunked', $bad, 'Transfer-Encoding: chunked' ],
	[ 'chunked and length', $bad, 'Transfer-Encoding: chunked',
		'Content-Length: 0' ],
	[ 'gzip', qr!^HTTP/1\.1 (?:400|501) !, 'Transfer-Encoding: gzip' ],
) {
	my ($name, $like, @headers) = @$case;

	# nginx may wait for the body before it closes

	my ($s, $head) = connect_tunnel(port(8080), $authority,
		headers => \@headers);
	like($head, $like, $name);
}

like(refusal(8080, connect_request($authority, version => '1.0',
	headers => [ 'Transfer-Encoding: chunked' ])), $bad,
	'chunked, http 1.0');

ok(wait_log($t, 'error.log', qr/failed: bad_request, a body is not allowed/),
	'body error log');

# what stands behind a refused CONNECT is no request

my $get = "GET /smuggled HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a";

for my $case (
	[ 400, 8080, connect_request('name.example:0') ],
	[ 400, 8080, connect_request('/', host => 'a') ],
	[ 400, 8080, connect_request($authority, host => undef) ],
	[ 400, 8080, connect_request($authority,
		headers => [ 'Content-Length: 10' ]) ],
	[ 400, 8080, connect_request($authority,
		headers => [ 'Transfer-Encoding: chunked' ]) ],
	[ 403, 8080, connect_request("denied.example:$port") ],
	[ 403, 8080, connect_request("127.0.0.2:$port") ],
	[ 405, 8085, connect_request($authority) ],
	[ 502, 8080, connect_request("127.0.0.1:$closed") ],
	[ 505, 8082, connect_request($authority, version => '1.0',
		headers => [ 'Connection: keep-alive' ]) ],
	[ 407, 8084, connect_request($authority) ],
) {
	my ($status, $listen, $request) = @$case;

	my $r = refusal($listen, $request . $get);
	my $n = () = $r =~ /^HTTP/mg;
	is("$n " . substr($r, 9, 3), "1 $status", "bytes behind a $status");

	# later, or as soon as there is an answer

	my $s = tcp_connect(port($listen));
	write_all($s, $request);
	my $head = read_head($s);
	read_n($s, $1) if $head =~ /^Content-Length: (\d+)/mi;
	write_all($s, $get);

	$r = $head . read_all($s);
	$n = () = $r =~ /^HTTP/mg;
	is("$n " . substr($r, 9, 3), "1 $status", "bytes after a $status");
}

ok(wait_log($t, 'error.log',
	qr/\[info\] .*client sent data after a refused CONNECT/),
	'bytes after 407 error log');

# in pieces, and behind the start of a CONNECT

for my $bytes ($get, "\x0d\x0a$get", "CON$get", "CONNECTX$get", "TUNNEL $get",
	"connect $authority HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a")
{
	for my $opt ([], [ step => 1, delay => 0.001 ], [ 2 ]) {
		my $s = tcp_connect(port(8084));
		write_all($s, connect_request($authority));
		my $head = read_head($s);
		read_n($s, $1) if $head =~ /^Content-Length: (\d+)/mi;

		send_split($s, $bytes, @$opt);
		my ($r, $state) = read_all($s);

		unlike("$state $r", qr/TIMEOUT|HTTP/,
			"after 407: " . substr($bytes, 0, 8) . " @$opt");
	}
}

is(join('', grep { /smuggled/ } log_lines($t, 'tunnel.log')), '',
	'no such request in the log');

###############################################################################

sub accepted {
	my ($t, $authority, $canonical, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my ($s, $head) = connect_tunnel(port(8080), $authority, %opt,
		early => 'EARLY');
	my $r = $head =~ $ok ? read_n($s, 5) : $head;
	close $s;

	is($r, 'EARLY', $name);

	my ($host) = $canonical =~ /^(.*):/;
	ok(wait_log($t, 'tunnel.log', qr!^\QCONNECT $authority HTTP/1.1\E
		\Q|200|ok|$canonical|$host\E$!x), "$name log");
}

sub refusal {
	my ($port, $bytes) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, $bytes);

	my ($r, $state) = read_all($s);
	return $state eq 'TIMEOUT' ? "timeout: $r" : $r;
}

###############################################################################
