#!/usr/bin/perl

# Tests for the intake of CONNECT over TLS: a request in any records, the
# server that SNI selects, and HTTP/2 on the same listener.

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
	->has(qw/http http_ssl http_v2 sni rewrite auth_basic/)
	->has(qw/socket_ssl_sni socket_ssl_alpn/)->has_daemon('curl')
	->plan(63);

my ($h2, $h2_on) = $t->has_version('1.25.1') ? ('', 'http2 on;')
	: ('http2', '');

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '\$server_name|\$request|\$status|\$tunnel_result';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address 127.0.0.1;

    ssl_certificate proxy.crt;
    ssl_certificate_key proxy.key;

    server {
        listen 127.0.0.1:8443 ssl default_server;
        server_name default.example;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS \$server_name\\n";
        }
    }

    server {
        listen 127.0.0.1:8443 ssl;
        server_name tunnel.example *.wild.example;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS \$server_name\\n";
        }
    }

    server {
        listen 127.0.0.1:8443 ssl;
        server_name site.example;

        location / {
            return 200 "SEE-THIS \$server_name\\n";
        }
    }

    server {
        listen 127.0.0.1:8443 ssl;
        server_name certs.example;

        ssl_verify_client on;
        ssl_client_certificate ca.crt;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;
        server_name auth.example;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    # the default server has no tunnel

    server {
        listen 127.0.0.1:8444 ssl default_server;
        server_name site.example;

        location / {
            return 200 "SEE-THIS \$server_name\\n";
        }
    }

    server {
        listen 127.0.0.1:8444 ssl;
        server_name tunnel.example;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8445 ssl $h2;
        server_name h2.example;

        $h2_on

        connect_tunnel;

        location / {
            return 200 "SEE-THIS \$server_protocol \$request_method\\n";
        }
    }
}

EOC

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
my ($cert, $key) = make_cert($t, 'client', ca => 'ca');
make_cert($t, 'proxy');

$t->write_file('users', "user:{PLAIN}secret\n");

start_daemon($t, \&echo_daemon, '127.0.0.1:' . port(8081));
start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { '*' => '127.0.0.1' });

$t->run();

###############################################################################

my $target = 'target.example:' . port(8081);
my $request = connect_request($target);
my $ok = qr!^HTTP/1\.1 200 !;
my $stock = qr!^HTTP/1\.1 40[05] !;

# pieces

is(tunnel(8443, $request), 'ok', 'one record');
is(join(' ', grep { tunnel(8443, $request, split => $_) ne 'ok' }
	1 .. index($request, "\x0d\x0a") + 2, length($request) - 3
	.. length($request) - 1), '', 'split at each byte');
is(tunnel(8443, $request, step => 1, delay => 0.002), 'ok', 'byte by byte');
is(tunnel(8443, $request, early => 'EARLY' x 10000), 'ok', 'glued data');
is(tunnel(8443, "\x0d\x0a\x0d\x0a$request"), 'ok', 'leading crlfs');

my $get = "GET / HTTP/1.1\x0d\x0aHost: default.example\x0d\x0a\x0d\x0a";

is(tunnel(8443, $get . $request, get => 1), 'ok', 'GET then CONNECT');
is(join(' ', grep { tunnel(8443, $get . $request, get => 1,
	split => length($get) + $_) ne 'ok' } 0 .. 9), '',
	'GET then CONNECT split at each byte');
is(tunnel(8443, $get . $request, get => 1, step => 1, delay => 0.002), 'ok',
	'GET then CONNECT byte by byte');

my $s = client(8443, 'auth.example');
write_all($s, $request);
like(response($s), qr/^HTTP\/1\.1 407 .*^Proxy-Authenticate: Basic/ms,
	'no credentials');
send_split($s, connect_request($target, auth => 'user:secret'), step => 5);
like(read_head($s), $ok, 'credentials on the same connection');
is(echo($s), 'ok', 'tunnel after 407');
close $s;

# a handshake may end in the call it began in, when the client is fast

is(scalar(grep { tunnel(8443, $request) ne 'ok' } 1 .. 100), 0,
	'many handshakes');

# the server is the one that the handshake selects

sub is_server {
	my ($t, $port, $sni, $connect, $server, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $line = $connect =~ /^(.*?)\x0d/ ? $1 : '';
	my $log = qr/^\Q$server|$line\E\|200\|ok$/;
	my $before = grep { /$log/ } log_lines($t, 'tunnel.log');

	is(tunnel($port, $connect, sni => $sni), 'ok', $name);
	ok(wait_log($t, 'tunnel.log', $log, undef, $before + 1), "$name log");
}

is_server($t, 8443, '', $request, 'default.example', 'no sni');
is_server($t, 8443, 'unknown.example', $request, 'default.example',
	'sni of no server');
is_server($t, 8443, 'tunnel.example', $request, 'tunnel.example', 'sni');
is_server($t, 8443, 'a.wild.example', $request, 'tunnel.example',
	'sni of a wildcard');
is_server($t, 8444, 'tunnel.example', $request, 'tunnel.example',
	'sni, default server without tunnel');

for my $other (qw/ tunnel.example site.example certs.example auth.example /) {
	my $authority = "$other:" . port(8081);

	is_server($t, 8443, 'default.example', connect_request($authority),
		'default.example', "target names $other");
	is_server($t, 8443, 'tunnel.example',
		connect_request($target, host => $other),
		'tunnel.example', "host names $other");
}

is_server($t, 8443, 'tunnel.example',
	connect_request('default.example:' . port(8081)), 'tunnel.example',
	'target names the default server');
is_server($t, 8443, 'tunnel.example', connect_request($target, host => undef,
	version => '1.0'), 'tunnel.example', 'no host');
is_server($t, 8444, 'tunnel.example',
	connect_request('site.example:' . port(8081)), 'tunnel.example',
	'target names a server without tunnel');

# none there

for my $case ([ 8443, 'site.example' ], [ 8444, '' ],
	[ 8444, 'site.example' ])
{
	my ($port, $sni) = @$case;

	like(refusal($port, $sni, connect_request('tunnel.example:'
		. port(8081))), $stock, "$port '$sni' without tunnel");
}

like(refusal(8444, '', "GET / HTTP/1.0\x0d\x0a\x0d\x0a"), $ok,
	'GET without tunnel');

# an ordinary request chooses by its Host, and is refused as ever

like(refusal(8443, 'tunnel.example', "GET / HTTP/1.0\x0d\x0a"
	. "Host: site.example\x0d\x0a\x0d\x0a"), qr/SEE-THIS site\.example/,
	'GET to another server');
like(refusal(8443, 'tunnel.example', "GET / HTTP/1.0\x0d\x0a"
	. "Host: certs.example\x0d\x0a\x0d\x0a", cert => 1),
	qr!^HTTP/1\.1 421 !, 'GET to another server, certificate wanted');

(my $other = $get) =~ s/default/site/;
is(tunnel(8443, $other . $request, get => 1, sni => 'tunnel.example'), 'ok',
	'GET to another server then CONNECT');

# client certificates

like(refusal(8443, 'certs.example', $request),
	qr/^HTTP\/1\.1 400 .*No required SSL certificate/s, 'no certificate');
is(tunnel(8443, $request, sni => 'certs.example', cert => 1), 'ok',
	'certificate');
is(tunnel(8443, connect_request($target, host => 'tunnel.example'),
	sni => 'certs.example', cert => 1), 'ok',
	'certificate, host names another server');

# HTTP/2 on the listener

is(tunnel(8445, $request), 'ok', 'http2 listener');
is(tunnel(8445, $request, alpn => [ 'http/1.1' ]), 'ok',
	'http2 listener, http/1.1');
is(tunnel(8445, $request, alpn => [ 'http/1.1' ], step => 3), 'ok',
	'http2 listener, http/1.1 split');

my $url = 'https://127.0.0.1:' . port(8445) . '/';
is(`curl -qksS --http2 -w '%{http_version}' $url 2>&1`,
	"SEE-THIS HTTP/2.0 GET\n2", 'http2 GET');
is(`curl -qksS --http2 -d CONNECT -w '%{http_version}' $url 2>&1`,
	"SEE-THIS HTTP/2.0 POST\n2", 'http2 POST');
is(`curl -qksS --http1.1 -w '%{http_version}' $url 2>&1`,
	"SEE-THIS HTTP/1.1 GET\n1.1", 'http/1.1 GET');

# no TLS at all

$s = tcp_connect(port(8443));
write_all($s, $request);
like(read_all($s), $stock, 'plain CONNECT to a TLS port');

$s = tcp_connect(port(8443));
write_all($s, $get);
like(read_all($s), qr/^HTTP\/1\.1 400 .*sent to HTTPS port/s,
	'plain GET to a TLS port');

is(join('', grep { m!TUNNEL /! && !/ \[debug\] / }
	map { log_lines($t, $_) } qw/ tunnel.log error.log /), '',
	'CONNECT in the logs');

###############################################################################

sub client {
	my ($port, $sni, %opt) = @_;

	return client_connect(port($port), ssl => 1, sni => $sni,
		alpn => $opt{alpn},
		$opt{cert} ? (cert => $cert, key => $key) : ());
}

sub tunnel {
	my ($port, $bytes, %opt) = @_;

	my $early = defined $opt{early} ? $opt{early} : '';
	my $sni = defined $opt{sni} ? $opt{sni} : '';

	my $s = client($port, $sni, %opt) or return 'no connection';

	send_split($s, $bytes . $early,
		defined $opt{split} ? $opt{split} : (),
		map { $_ => $opt{$_} } grep { $opt{$_} } qw/ step delay /);

	if ($opt{get}) {
		return 'no response' unless response($s) =~ /SEE-THIS/;
	}

	my $head = read_head($s);
	return "bad response: $head" unless $head =~ $ok;

	return 'early data lost' unless read_n($s, length $early) eq $early;

	return echo($s);
}

sub echo {
	my ($s) = @_;

	write_all($s, 'ECHO');
	return read_n($s, 4) eq 'ECHO' ? 'ok' : 'no echo';
}

sub refusal {
	my ($port, $sni, $bytes, %opt) = @_;

	my $s = client($port, $sni, %opt) or return 'no connection';
	write_all($s, $bytes);

	my ($r, $state) = read_all($s);
	return $state eq 'TIMEOUT' ? "timeout: $r" : $r;
}

sub response {
	my ($s) = @_;

	my $head = read_head($s);
	return $head unless $head =~ /^Content-Length: (\d+)/mi;
	return $head . read_n($s, $1);
}

###############################################################################
