#!/usr/bin/perl

# Tests for target_proxy_protocol: the target is told who the client is, in
# http and in stream.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks qw/ ends /;

use Socket qw/ AF_INET AF_INET6 inet_pton /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http realip http_ssl stream stream_map
	stream_return --with-stream_realip_module socket_ssl unix/);

use constant {
	SIGNATURE	=> "\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a",
	REAL		=> '192.0.2.99',	# of a header
};

my $d = $t->testdir();

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$remote_port:$server_port $status '
                      '$tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 unix:;
    target_proxy_protocol on;

    relay_quota_zone $server_port zone=spent:1m limit=1000 per=1h;

    upstream group {
        server 127.0.0.1:8099;
        server 127.0.0.1:8091;
    }

    map $server_port $version {
        %%PORT_8101%%  on;
        %%PORT_8102%%  v2;
        %%PORT_8103%%  off;
        %%PORT_8104%%  '';
        %%PORT_8105%%  v1;
        %%PORT_8106%%  1;
        %%PORT_8107%%  'on ';
    }

    map $preread_protocol $by_protocol {
        tls      v2;
        http     on;
        default  off;
    }

    map $socks_user $by_user {
        two      v2;
        one      on;
        default  off;
        bad      bad;
    }

    # inherited, and not

    server {
        listen 127.0.0.1:8080;
        listen [::1]:%%PORT_8080%%;
        listen unix:%%TESTDIR%%/one.sock;
        listen *:%%PORT_8079%%;
        listen [::]:%%PORT_8076%% ipv6only=off;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8081;
        listen [::1]:%%PORT_8081%%;
        listen unix:%%TESTDIR%%/two.sock;
        listen *:%%PORT_8078%%;
        listen [::]:%%PORT_8077%% ipv6only=off;
        target_proxy_protocol v2;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8082;
        target_proxy_protocol off;
        passthrough 127.0.0.1:8091;
    }

    # variables

    server {
        listen 127.0.0.1:8101;
        listen 127.0.0.1:8102;
        listen 127.0.0.1:8103;
        listen 127.0.0.1:8104;
        listen 127.0.0.1:8105;
        listen 127.0.0.1:8106;
        listen 127.0.0.1:8107;
        target_proxy_protocol $version;
        passthrough 127.0.0.1:8092;
    }

    server {
        listen 127.0.0.1:8083;
        tunnel_preread on;
        tunnel_preread_timeout 300ms;
        target_proxy_protocol $by_protocol;
        passthrough 127.0.0.1:8091;
    }

    # what is behind another proxy

    server {
        listen 127.0.0.1:8084 proxy_protocol;
        set_real_ip_from 127.0.0.1;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8085 proxy_protocol;
        set_real_ip_from 127.0.0.1;
        target_proxy_protocol v2;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8086 proxy_protocol;
        set_real_ip_from 127.0.0.2;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen unix:%%TESTDIR%%/one_real.sock proxy_protocol;
        set_real_ip_from unix:;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen unix:%%TESTDIR%%/two_real.sock proxy_protocol;
        set_real_ip_from unix:;
        target_proxy_protocol v2;
        passthrough 127.0.0.1:8091;
    }

    # other targets

    server {
        listen 127.0.0.1:8087;
        passthrough group;
    }

    server {
        listen 127.0.0.1:8088;
        passthrough unix:%%TESTDIR%%/target.sock;
    }

    server {
        listen 127.0.0.1:8089;
        passthrough 127.0.0.1:8093;
    }

    server {
        listen 127.0.0.1:8110;
        target_proxy_protocol v2;
        passthrough 127.0.0.1:8093;
    }

    # nginx's own

    server {
        listen 127.0.0.1:8095 proxy_protocol;
        return "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port $remote_addr";
    }

    server {
        listen 127.0.0.1:8111;
        listen [::1]:%%PORT_8111%%;
        listen unix:%%TESTDIR%%/one_nginx.sock;
        passthrough 127.0.0.1:8095;
    }

    server {
        listen 127.0.0.1:8112;
        listen [::1]:%%PORT_8112%%;
        listen unix:%%TESTDIR%%/two_nginx.sock;
        target_proxy_protocol v2;
        passthrough 127.0.0.1:8095;
    }

    server {
        listen 127.0.0.1:8113 proxy_protocol;
        set_real_ip_from 127.0.0.1;
        passthrough 127.0.0.1:8095;
    }

    server {
        listen 127.0.0.1:8114 proxy_protocol;
        set_real_ip_from 127.0.0.1;
        target_proxy_protocol v2;
        passthrough 127.0.0.1:8095;
    }

    # limits

    server {
        listen 127.0.0.1:8115;
        relay_max_payload 5 upload;
        passthrough 127.0.0.1:8094;
    }

    server {
        listen 127.0.0.1:8116;
        target_proxy_protocol v2;
        relay_max_payload 5;
        relay_splice on;
        passthrough 127.0.0.1:8094;
    }

    server {
        listen 127.0.0.1:8117;
        relay_quota spent;
        passthrough 127.0.0.1:8094;
    }

    server {
        listen 127.0.0.1:8118;
        target_proxy_protocol v2;
        relay_buffer_size 1k;
        relay_splice off;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8119;
        relay_splice on;
        passthrough 127.0.0.1:8091;
    }

    # not before it is allowed

    server {
        listen 127.0.0.1:8120;
        target_require_tls on;
        tunnel_preread_timeout 1s;
        passthrough 127.0.0.1:8094;
    }

    # SOCKS

    server {
        listen 127.0.0.1:8121;
        socks;
        socks_bind on;
    }

    server {
        listen 127.0.0.1:8122;
        target_proxy_protocol v2;
        socks;
    }

    server {
        listen 127.0.0.1:8123;
        target_proxy_protocol $by_user;
        socks;
        socks_userid any;
    }
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$remote_port:$server_port $status '
                      '$tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    client_header_buffer_size 8k;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    upstream group {
        server 127.0.0.1:8099;
        server 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8130;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8131;
        listen [::1]:%%PORT_8131%%;
        listen 127.0.0.1:8132 ssl;
        listen unix:%%TESTDIR%%/http.sock;
        target_proxy_protocol on;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8133;
        listen [::1]:%%PORT_8133%%;
        listen 127.0.0.1:8134 ssl;
        target_proxy_protocol v2;

        location / {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8135;
        target_proxy_protocol on;

        location / {
            target_proxy_protocol $http_x_version;
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8136;
        target_proxy_protocol on;
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Real-IP;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8137 proxy_protocol;
        target_proxy_protocol v2;
        set_real_ip_from 127.0.0.1;
        real_ip_header proxy_protocol;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8138;
        target_proxy_protocol on;
        connect_tunnel group;
    }
}

EOF

make_cert($t, 'localhost');

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&sink_daemon, port(8092), report => "$d/connected");
start_daemon($t, \&echo_daemon, port(8093), greeting => 'hello');
start_daemon($t, \&sink_daemon, port(8094), report => "$d/sink");
start_daemon($t, \&echo_daemon, "unix:$d/target.sock");

port(8099);	# nobody is there

$t->plan(192);
$t->run();

###############################################################################

my $local = '127.0.0.1';
my $hello = client_hello(sni => 'name.example');

# what a target gets comes back

for my $case (
	[ 8080, 1, 'inherited' ], [ 8081, 2, 'v2' ], [ 8082, 0, 'off' ],
	[ 8101, 1, 'variable on', 'sink' ], [ 8102, 2, 'variable v2', 'sink' ],
	[ 8103, 0, 'variable off', 'sink' ], [ 8104, 0, 'empty', 'sink' ],
	[ 8087, 1, 'group' ], [ 8088, 1, 'unix socket' ],
	[ 8118, 2, 'small buffer' ], [ 8119, 1, 'splice' ],
) {
	my ($number, $version, $name, $sink) = @$case;

	my $s = session($t, port($number));
	my $header = header($version, $s);

	write_all($s, 'bytes');
	half_close($s);

	is(dump_of($sink ? '' : $header . 'bytes'), dump_of(read_all($s)),
		$name);
	ok(wait_log($t, 'connected', summary_re($header . 'bytes')),
		"$name, target") if $sink;

	my $sent = $sink ? 0 : 5 + length $header;
	is(session_log($t, $s), "200 ok completed 5 $sent",
		"$name, not counted");
}

# without bytes, and before those of a target that speaks first

for my $case ([ 8080, 1, '' ], [ 8081, 2, '' ], [ 8089, 1, 'hello' ],
	[ 8110, 2, 'hello' ])
{
	my ($number, $version, $greeting) = @$case;

	my $s = tcp_connect(port($number));
	my $bytes = $greeting . header($version, $s);

	is(dump_of(read_n($s, length $bytes)), dump_of($bytes),
		"silent client, $number");
	is(echo($s, 'bytes'), 'bytes', "silent client, $number, bytes");

	$s = tcp_connect(port($number));
	$bytes = $greeting . header($version, $s);
	half_close($s);
	is(dump_of(read_all($s)), dump_of($bytes), "end at once, $number");
}

# wrong values

for my $case ([ 8105, 'v1' ], [ 8106, '1' ], [ 8107, 'on ' ]) {
	my ($number, $value) = @$case;

	my $s = session($t, port($number));
	write_all($s, 'wrong');
	like(ends($s), qr/^(?:EOF|RESET)\z/, "wrong value, $number");
	close $s;
	is(session_log($t, $s), '500 internal - - -',
		"wrong value, $number, logged");
	ok(wait_log($t, 'error.log', qr/\[error\].*invalid /
		. qr/"target_proxy_protocol" value "$value"/),
		"wrong value, $number, message");
}

is(scalar(log_lines($t, 'connected')), 4, 'wrong values, not connected');

# IPv6, sockets without an address, and any address of this machine

for my $case ([ 8080, 1 ], [ 8081, 2 ]) {
	my ($number, $version) = @$case;

	my $s = tcp_connect('[::1]:' . port($number));
	told($s, $version, "IPv6, version $version");
}

for my $case ([ 8079, 1 ], [ 8078, 2 ]) {
	my ($number, $version) = @$case;

	my $s = tcp_connect('127.0.0.7:' . port($number));
	told($s, $version, "another address, version $version");
}

# an IPv4 client of an IPv6 socket

told(tcp_connect(port(8076)), 1, 'mapped address, version 1');
told(tcp_connect(port(8077)), 2, 'mapped address, version 2');

is(dump_of(echoed(tcp_connect("unix:$d/one.sock"))),
	dump_of(proxy_header(1, '') . 'bytes'), 'unix client, version 1');
is(dump_of(echoed(tcp_connect("unix:$d/two.sock"))),
	dump_of(proxy_header(2, '') . 'bytes'), 'unix client, version 2');

# addresses that another proxy has told

for my $case ([ 8084, 1 ], [ 8085, 2 ]) {
	my ($number, $version) = @$case;

	for my $in (qw/ v1 v2 /) {
		my $s = client_connect(port($number), proxy_protocol =>
			proxy_protocol($in, src => REAL, sport => 1234));
		is(dump_of(echoed($s)), dump_of(proxy_header($version, REAL,
			1234, $local, port($number)) . 'bytes'),
			"real address of $in, version $version");

		# of another family than our own

		$s = client_connect(port($number), proxy_protocol =>
			proxy_protocol($in, src => '2001:db8::9',
			dst => '2001:db8::1', sport => 1234));
		is(dump_of(echoed($s)), dump_of(proxy_header($version,
			'2001:db8::9', 1234, '::ffff:127.0.0.1',
			port($number)) . 'bytes'),
			"real IPv6 address of $in, version $version");
	}
}

for my $case ([ 'one', 1 ], [ 'two', 2 ]) {
	my ($name, $version) = @$case;

	my $s = client_connect("unix:$d/${name}_real.sock", proxy_protocol =>
		proxy_protocol('v1', src => REAL, sport => 1234));
	is(dump_of(echoed($s)), dump_of(proxy_header($version, REAL, 1234,
		'192.0.2.2', 443) . 'bytes'),
		"real address at a socket, version $version");

	# which may have been a unix client itself

	$s = client_connect("unix:$d/${name}_real.sock", proxy_protocol =>
		"PROXY UNKNOWN\x0d\x0a");
	is(dump_of(echoed($s)), dump_of(proxy_header($version, '')
		. 'bytes'), "no real address, version $version");
}

my $s = client_connect(port(8086), proxy_protocol => 'v1');
told($s, 1, 'not told by whom we trust');

# nginx knows it

for my $number (8111, 8112) {
	$s = tcp_connect(port($number));
	my $from = $s->sockport();
	is(scalar read_all($s), join(' ', $local, $from, $local,
		port($number), $local), "nginx, $number");

	$s = tcp_connect('[::1]:' . port($number));
	$from = $s->sockport();
	is(scalar read_all($s), join(' ', '::1', $from, '::1',
		port($number), $local), "nginx, IPv6, $number");
}

for my $number (8113, 8114) {
	$s = client_connect(port($number), proxy_protocol =>
		proxy_protocol('v2', src => REAL, sport => 1234));
	is(scalar read_all($s), join(' ', REAL, 1234, $local, port($number),
		$local), "nginx, real address, $number");

	$s = client_connect(port($number), proxy_protocol => proxy_protocol(
		'v2', src => '2001:db8::9', dst => '2001:db8::1',
		sport => 1234));
	is(scalar read_all($s), "2001:db8::9 1234 ::ffff:$local "
		. port($number) . " $local",
		"nginx, real IPv6 address, $number");
}

for my $name (qw/ one_nginx two_nginx /) {
	my ($said) = read_all(tcp_connect("unix:$d/$name.sock"));
	like($said, qr/ \Q$local\E$/, "nginx, $name");
}

# bytes behind it, all of them in their order

my $bytes = pattern(3000000);

for my $case ([ 8080, 1 ], [ 8118, 2 ], [ 8119, 1 ]) {
	my ($number, $version) = @$case;

	$s = tcp_connect(port($number));

	my $all = header($version, $s) . $bytes;
	ok(exchange($s, $bytes, length $all) eq $all, "bulk, $number");
	half_close($s);
	is((read_all($s))[1], 'EOF', "bulk, $number, end");
}

# limits are those of a client's bytes

for my $case ([ 8115, 1 ], [ 8116, 2 ]) {
	my ($number, $version) = @$case;

	$s = session($t, port($number));

	my $header = header($version, $s);
	write_all($s, 'hello');
	half_close($s);
	read_all($s);

	is(session_log($t, $s), '200 ok completed 5 0',
		"relay_max_payload, $number");
	ok(wait_log($t, 'sink', summary_re($header . 'hello')),
		"relay_max_payload, $number, target");

	$s = session($t, port($number));
	$header = header($version, $s);
	write_all($s, 'hello!');
	read_all($s);

	is(session_log($t, $s), '200 ok max_payload 5 0',
		"relay_max_payload, $number, more");
	ok(wait_log($t, 'sink', summary_re($header . 'hello')),
		"relay_max_payload, $number, more, target");
}

for my $n (998, 1) {
	$s = session($t, port(8117));
	write_all($s, pattern($n));
	half_close($s);
	read_all($s);
	is(session_log($t, $s), "200 ok completed $n 0", 'relay_quota');
}

# by what is known of a client

for my $case ([ $hello, 2 ], [ "GET / HTTP/1.0\x0d\x0a\x0d\x0a", 1 ],
	[ "SSH-2.0-x\x0d\x0a", 0 ], [ '', 0 ])
{
	my ($said, $version) = @$case;

	$s = tcp_connect(port(8083));
	my $header = header($version, $s);

	write_all($s, $said);
	is(dump_of(read_n($s, length "$header$said")),
		dump_of($header . $said),
		'preread, ' . substr $said =~ s/[^A-Z]//gr, 0, 3);
	is(echo($s, 'bytes'), 'bytes', 'preread, bytes');
	close $s;
}

# nothing before it is known that it may be

$s = session($t, port(8120));
my $header = header(1, $s);
write_all($s, $hello);
half_close($s);
read_all($s);
ok(wait_log($t, 'sink', summary_re($header . $hello)),
	'target_require_tls, target');
is(session_log($t, $s), '200 ok completed ' . length($hello) . ' 0',
	'target_require_tls');

my $lines = log_lines($t, 'sink');
$s = session($t, port(8120));
write_all($s, "GET / HTTP/1.0\x0d\x0a\x0d\x0a");
read_all($s);
close $s;
like(session_log($t, $s), qr/^200 ok not_tls 0 0/,
	'target_require_tls, not tls');
wait_for(sub { log_lines($t, 'sink') > $lines });
like((log_lines($t, 'sink'))[-1], qr/^0 /,
	'target_require_tls, not tls, target');

# SOCKS, in every way to ask

for my $way (qw/ 4 5 /, '5 glued') {
	for my $case ([ 8121, 1 ], [ 8122, 2 ]) {
		my ($number, $version) = @$case;

		($s) = socks_tunnel(port($number), $way, port(8091),
			early => 'early');

		my $all = header($version, $s) . 'early';
		is(dump_of(read_n($s, length $all)), dump_of($all),
			"SOCKS $way, version $version");
		is(echo($s, 'bytes'), 'bytes',
			"SOCKS $way, version $version, bytes");
	}
}

for my $case ([ 'one', 1 ], [ 'two', 2 ], [ 'three', 0 ]) {
	my ($user, $version) = @$case;

	($s) = socks4_tunnel(port(8123), $local, port(8091), user => $user);
	told($s, $version, "SOCKS, user $user");
}

($s, my $code) = socks4_tunnel(port(8123), $local, port(8091), user => 'bad');
is($code, 91, 'SOCKS, wrong value');

# a peer of BIND is no target

$s = tcp_connect(port(8121));
write_all($s, socks4_request('0.0.0.0', 0, cmd => 2));
my ($bound) = unpack('x2 n', read_n($s, 8));
my $peer = tcp_connect($bound);
is(unpack('x C', read_n($s, 8)), 90, 'BIND');
write_all($s, 'bytes');
half_close($s);
is(scalar read_n($peer, 5), 'bytes', 'BIND, no header');
close $peer;

# HTTP

for my $case ([ 8130, 0 ], [ 8131, 1 ], [ 8132, 1, ssl => 1 ], [ 8133, 2 ],
	[ 8134, 2, ssl => 1 ], [ 8135, 0 ])
{
	my ($number, $version, %opt) = @$case;

	for my $early ('', 'early', pattern(30000)) {
		($s) = connect_tunnel(port($number), "$local:${\port(8091)}",
			%opt, early => $early);

		my $all = header($version, $s) . $early;
		ok(read_n($s, length $all) eq $all, "CONNECT, $number, "
			. length $early);

		my $id = $s->sockport() . ':' . $s->peerport();
		my $size = length $all;
		is(echo($s, 'bytes'), 'bytes', "CONNECT, $number, bytes");
		half_close($s);
		read_all($s);

		my $n = 5 + length $early;
		$size += 5;
		ok(wait_log($t, 'tunnel.log',
			qr/^$id 200 ok completed $n $size$/),
			"CONNECT, $number, counted");
		$s->close();
	}
}

for my $case ([ 8131, 1 ], [ 8133, 2 ]) {
	my ($number, $version) = @$case;

	($s) = connect_tunnel('[::1]:' . port($number),
		"$local:${\port(8091)}");
	told($s, $version, "CONNECT, IPv6, $number");
}

($s) = connect_tunnel("unix:$d/http.sock", "$local:${\port(8091)}");
is(dump_of(echoed($s)), dump_of(proxy_header(1, '') . 'bytes'),
	'CONNECT, unix client');

for my $case ([ 'on', 1 ], [ 'v2', 2 ], [ 'off', 0 ], [ '', 0 ]) {
	my ($value, $version) = @$case;

	($s) = connect_tunnel(port(8135), "$local:${\port(8091)}",
		headers => [ "X-Version: $value" ]);
	told($s, $version, "CONNECT, variable $value");
}

like((connect_tunnel(port(8135), "$local:${\port(8091)}",
	headers => [ 'X-Version: v3' ]))[1], qr/^HTTP\/1\.1 500 /,
	'CONNECT, wrong value');
ok(wait_log($t, 'error.log', qr/\[error\].*invalid /
	. qr/"target_proxy_protocol" value "v3"/), 'CONNECT, wrong value, log');

($s) = connect_tunnel(port(8136), "$local:${\port(8091)}",
	headers => [ 'X-Real-IP: ' . REAL . ':1234' ]);
is(echoed($s), proxy_header(1, REAL, 1234, $local, port(8136)) . 'bytes',
	'CONNECT, real address of a field');

($s) = connect_tunnel(port(8136), "$local:${\port(8091)}",
	headers => [ 'X-Real-IP: 2001:db8::9' ]);
is(dump_of(echoed($s)), dump_of(proxy_header(1, '2001:db8::9', 0,
	'::ffff:127.0.0.1', port(8136)) . 'bytes'),
	'CONNECT, real IPv6 address of a field');

($s) = connect_tunnel(port(8137), "$local:${\port(8091)}",
	proxy_protocol => proxy_protocol('v1', src => REAL, sport => 1234));
is(dump_of(echoed($s)), dump_of(proxy_header(2, REAL, 1234, $local,
	port(8137)) . 'bytes'), 'CONNECT, real address of a header');

($s) = connect_tunnel(port(8138), 'any.example:443');
told($s, 1, 'CONNECT, group');

###############################################################################

# What the target is to be told of a connection of ours.

sub header {
	my ($version, $s) = @_;

	return proxy_header($version, $s->sockhost(), $s->sockport(),
		$s->peerhost(), $s->peerport());
}

# Without an address it is one that tells nothing.

sub proxy_header {
	my ($version, $src, $sport, $dst, $dport) = @_;

	my $v6 = $src =~ /:/;

	return '' if $version == 0;
	return $version == 1 ? "PROXY UNKNOWN\x0d\x0a"
		: SIGNATURE . "\x20\x00\x00\x00" unless length $src;
	return join(' ', 'PROXY', $v6 ? 'TCP6' : 'TCP4', $src, $dst, $sport,
		$dport) . "\x0d\x0a" if $version == 1;

	my $family = $v6 ? AF_INET6 : AF_INET;

	return SIGNATURE . ($v6 ? "\x21\x21\x00\x24" : "\x21\x11\x00\x0c")
		. inet_pton($family, $src) . inet_pton($family, $dst)
		. pack('n2', $sport, $dport);
}

# All of it comes back.

sub told {
	my ($s, $version, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $header = header($version, $s);

	is(dump_of(echoed($s)), dump_of($header . 'bytes'), $name);
}

sub echoed {
	my ($s) = @_;

	write_all($s, 'bytes');
	half_close($s);

	return scalar read_all($s);
}

sub summary_re {
	my ($bytes) = @_;

	return qr/^\Q${\(summary($bytes) =~ s{ \S+\n\z}{}r)}\E /;
}

sub dump_of {
	my ($bytes) = @_;

	return $bytes =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;
}

###############################################################################
