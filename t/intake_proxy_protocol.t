#!/usr/bin/perl

# Tests for CONNECT behind a PROXY protocol header, plain and with TLS.

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

my $t = Test::Nginx->new()
	->has(qw/http http_ssl realip access rewrite socket_ssl/)->plan(69);

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$server_port|$remote_addr|$proxy_protocol_addr|'
                      '$realip_remote_addr|$request|$status|$tunnel_result';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.1;

    set_real_ip_from 127.0.0.1;
    real_ip_header proxy_protocol;

    deny 192.0.2.66;

    ssl_certificate proxy.crt;
    ssl_certificate_key proxy.key;

    server {
        listen 127.0.0.1:8080 proxy_protocol;
        listen 127.0.0.1:8443 ssl proxy_protocol;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS $remote_addr\n";
        }
    }

    # the header does not fit with the request line

    server {
        listen 127.0.0.1:8082 proxy_protocol;

        client_header_buffer_size 64;

        connect_tunnel;
    }

    # it is not trusted

    server {
        listen 127.0.0.1:8083 proxy_protocol;

        set_real_ip_from 192.0.2.99;

        connect_tunnel;
    }

    # none is expected

    server {
        listen 127.0.0.1:8084;

        connect_tunnel;
    }
}

EOC

make_cert($t, 'proxy');

my $target = '127.0.0.1:' . port(8081);

start_daemon($t, \&echo_daemon, $target);
$t->run();

###############################################################################

my $request = connect_request($target);
my $get = "GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";

my %header = (
	'v1' => proxy_protocol('v1'),
	'v2' => proxy_protocol('v2'),
	'v1 ipv6' => proxy_protocol('v1', src => '2001:db8::1',
		dst => '2001:db8::2'),
	'v2 ipv6' => proxy_protocol('v2', src => '2001:db8::1',
		dst => '2001:db8::2'),
	'v2 tlv' => tlv(proxy_protocol('v2'), "\x04" . pack('n/a*', 'x' x 40)),

	# a length with bytes of a CONNECT, CR and LF in it

	'v2 odd tlv' => tlv(proxy_protocol('v2'),
		"\x04" . pack('n/a*', "\x0d\x0aCONNECT a:1 HTTP/1.1\x0d\x0a")),
);

for my $name (sort keys %header) {
	my $header = $header{$name};
	my $n = length $header;
	my $src = $name =~ /ipv6/ ? '2001:db8::1' : '192.0.2.1';

	is(tunnel(8080, $header . $request), 'ok', "$name glued");

	ok(wait_log($t, 'tunnel.log',
		qr/^\d+\|\Q$src|$src|127.0.0.1|CONNECT $target\E /),
		"$name log");

	is(tunnel(8080, $header . $request, $n), 'ok', "$name separate");
	is(join(' ', grep { tunnel(8080, $header . $request, $n + $_) ne 'ok' }
		1 .. 12), '', "$name split behind it");
	is(tunnel(8080, $header . "\x0d\x0a\x0d\x0a$request"), 'ok',
		"$name and crlfs");
	is(tunnel(8080, $header . $request, $n .. $n + length $request), 'ok',
		"$name byte by byte");
	like(get(8080, $header), qr/^SEE-THIS \Q$src\E$/m, "$name GET");
}

is(tunnel(8080, "PROXY UNKNOWN\x0d\x0a$request"), 'ok', 'v1 unknown');
is(tunnel(8080, tlv("\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a\x20\x00\x00\x00")
	. $request), 'ok', 'v2 local');

# what follows on the connection has no header

is(tunnel(8080, $header{v1} . $get . $request), 'ok', 'v1 GET then CONNECT');
is(join(' ', grep { tunnel(8080, $header{v2} . $get . $request,
	length($header{v2} . $get) + $_) ne 'ok' } 0 .. 9), '',
	'v2 GET then CONNECT split');

# buffers

for my $name (sort keys %header) {
	next if length $header{$name} > 64;

	is(join(' ', grep { tunnel(8082, $header{$name} . $request,
		length($header{$name}) + $_) ne 'ok' } 0 .. 12), '',
		"$name small buffer");
}

# TLS

for my $name (sort keys %header) {
	my $src = $name =~ /ipv6/ ? '2001:db8::1' : '192.0.2.1';
	my $port = port(8443);

	is(join(' ', grep { tls_tunnel($header{$name}, $_) ne 'ok' }
		0 .. 9), '', "$name TLS");
	ok(wait_log($t, 'tunnel.log',
		qr/^$port\|\Q$src|$src|127.0.0.1|CONNECT $target\E /),
		"$name TLS log");
}

# the address it tells

my $denied = proxy_protocol('v1', src => '192.0.2.66');

like(tunnel(8080, $denied . $request), qr/^bad response: HTTP\/1\.1 403 /,
	'denied address');
is(tunnel(8083, $denied . $request), 'ok', 'not trusted');

# and without

my $s = tcp_connect(port(8080));
write_all($s, $request);
is(read_all($s), '', 'no header');

ok(wait_log($t, 'error.log', qr/broken header/), 'no header error log');

$s = tcp_connect(port(8084));
write_all($s, $header{v1} . $request);
like(read_all($s), qr/^(?:HTTP\/1\.1 400 |<html>.*400)/s, 'unexpected header');

$s = tcp_connect(port(8080));
write_all($s, substr $header{v1}, 0, 10);
is(read_all($s), '', 'part of a header');

###############################################################################

sub tunnel {
	my ($port, $bytes, @split) = @_;

	my $s = tcp_connect(port($port)) or return 'no connection';
	send_split($s, $bytes, @split, delay => 0.003);

	return check($s);
}

sub tls_tunnel {
	my ($header, $split) = @_;

	my $s = client_connect(port(8443), ssl => 1,
		proxy_protocol => $header) or return 'no connection';
	send_split($s, $request, $split ? $split : ());

	return check($s);
}

sub check {
	my ($s) = @_;

	my $head = read_head($s);

	if ($head =~ m!^HTTP/1\.1 200 .*^Content-Length: (\d+)!ms) {
		read_n($s, $1);
		$head = read_head($s);
	}

	return "bad response: $head" unless $head =~ m!^HTTP/1\.1 200 !;

	write_all($s, 'ECHO');
	return read_n($s, 4) eq 'ECHO' ? 'ok' : 'no echo';
}

sub get {
	my ($port, $header) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, $header . "GET / HTTP/1.0\x0d\x0a\x0d\x0a");

	return scalar read_all($s);
}

# A v2 header with one more field.

sub tlv {
	my ($header, $field) = @_;

	$field = '' unless defined $field;

	return substr($header, 0, 14)
		. pack('n/a*', substr($header, 16) . $field);
}

###############################################################################
