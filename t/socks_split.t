#!/usr/bin/perl

# Tests for ngx_stream_socks_module: messages in pieces and all at once, behind
# TLS and the PROXY protocol, too slow, too long, and what is no SOCKS at all.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks;

use Time::HiRes qw/ sleep /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_ssl socket_ssl/);

my $d = $t->testdir();
my $log = socks_log();

port(8980, udp => 1);

make_cert($t, 'localhost');

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    $log

    log_format more '\$remote_port:\$server_port '
                    '\$session_time \$proxy_protocol_addr '
                    '\$ssl_protocol';
    access_log %%TESTDIR%%/more.log more;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_allow *:*;
    target_deny_address all;
    target_allow_address 127.0.0.0/8;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 ssl;
        listen 127.0.0.1:8082 proxy_protocol;
        listen 127.0.0.1:8083 ssl proxy_protocol;
        socks;
    }

    server {
        listen 127.0.0.1:8084;
        listen 127.0.0.1:8085 ssl;
        listen 127.0.0.1:8086 proxy_protocol;
        listen 127.0.0.1:8087 ssl proxy_protocol;
        socks;
        socks_auth basic realm users;
        socks_auth_delay 20ms;
    }

    server {
        listen 127.0.0.1:8088;
        listen 127.0.0.1:8090 ssl;
        socks;
        socks_auth basic realm users;
        socks_userid ~^;
        socks_handshake_timeout 600ms;
    }

    # what is sent, and when

    server {
        listen 127.0.0.1:8089;
        socks;
        error_log %%TESTDIR%%/debug.log debug;
    }
}

EOF

$t->write_file('users', "name:{PLAIN}password\n");

my $p = port(8091);
my $quiet = port(8092);

start_daemon($t, \&echo_daemon, $p);
start_daemon($t, \&peer_daemon, $quiet, report => "$d/peers");
start_daemon($t, \&sink_daemon, port(8093), report => "$d/sink");
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => [ '127.0.0.1' ],
		'late.example' => { A => [ '127.0.0.1' ], delay => 1 },
	});

$t->waitforfile("$d/dns.log");
$t->run();

my ($pid) = workers($t);

# kinds of a client: version, auth

my @clients = ([ '4' ], [ '4a' ], [ '5' ], [ '5', [ 'name', 'password' ] ]);

# what may be in front of it: ports without and with auth, options

my @fronts = (
	[ 'plain', 8080, 8084 ],
	[ 'TLS', 8081, 8085, ssl => 1 ],
	[ 'PROXY v1', 8082, 8086, proxy_protocol => 'v1' ],
	[ 'PROXY v2', 8082, 8086, proxy_protocol => 'v2' ],
	[ 'TLS and PROXY v1', 8083, 8087, proxy_protocol => 'v1', ssl => 1 ],
	[ 'TLS and PROXY v2', 8083, 8087, proxy_protocol => 'v2', ssl => 1 ],
);

# what is no SOCKS

my @garbage = (
	[ 'HTTP', "GET / HTTP/1.1\x0d\x0aHost: example.org\x0d\x0a\x0d\x0a" ],
	[ 'CONNECT', connect_request("127.0.0.1:$p") ],
	[ 'TLS', client_hello(sni => 'example.org', padding => 1000) ],
	[ 'SSH', "SSH-2.0-OpenSSH_9.2\x0d\x0a" ],
	[ 'PROXY v1', proxy_protocol('v1') . socks_request('4', '127.0.0.1', $p) ],
	[ 'PROXY v2', proxy_protocol('v2') . socks_request('4', '127.0.0.1', $p) ],
	[ 'NUL', "\0" ],
	[ 'many NULs', "\0" x 100000 ],
	[ 'version 1', "\x01\x01\x00" ],
	[ 'version 3', "\x03\x01\x00" ],
	[ 'version 6', "\x06\x01\x00" ],
	[ 'version 255', "\xff" x 1000 ],
	[ 'text', '5' . socks_request('5', '127.0.0.1', $p) ],
	[ 'a space in front', ' ' . socks_request('5', '127.0.0.1', $p) ],
	[ 'an end of line', "\x0d\x0a" ],
);

# refusals, and much behind them

my $deny = '10.0.0.1';

my @refused = (
	[ 'no method', 8080, socks5_greeting(2), '05ff' ],
	[ 'denied', 8080, socks_request('5', $deny, 80),
		'0500' . socks5_hex(2) ],
	[ 'denied, SOCKS4', 8080, socks_request('4', $deny, 80),
		socks4_hex(91) ],
	[ 'denied, SOCKS4a', 8080, socks_request('4a', $deny, 80),
		socks4_hex(91) ],
	[ 'no such name', 8080, socks_request('5', 'none.example', 80),
		'0500' . socks5_hex(4) ],
	[ 'nobody there', 8080, socks_request('5', '127.0.0.1', port(8099)),
		'0500' . socks5_hex(5) ],
	[ 'no such command', 8080, socks_request('5', $deny, 80, cmd => 9),
		'0500' . socks5_hex(7) ],
	[ 'no such address type', 8080, socks5_greeting() . "\x05\x01\0\x09",
		'0500' . socks5_hex(8) ],
	[ 'no host', 8080, socks_request('5', '', 80, atyp => 'name'),
		'0500' . socks5_hex(1) ],
	[ 'a long user', 8080, socks_request('4', $deny, 80)
		=~ s/\0\z/'x' x 256/er, socks4_hex(91) ],
	[ 'wrong password', 8084, socks5_greeting(2)
		. socks5_auth('name', 'no'), '05020101' ],
	[ 'wrong version of authentication', 8084, socks5_greeting(2)
		. "\x02", '05020101' ],
	[ 'SOCKS4 with passwords', 8084, socks_request('4', '127.0.0.1', $p),
		socks4_hex(93) ],
);

$t->plan(358);

###############################################################################

# those who are too slow: they go on while the others are tested

my $whole = socks_request('5', '127.0.0.1', $p,
	auth => [ 'name', 'password' ]);
my @slow = map { [ $_->[0], slow($t, 8088, $_->[1]), $_->[2] ] } (
	[ 'nothing', '', '' ],
	[ 'version', "\x05", '' ],
	[ 'greeting', socks5_greeting(2), '0502 ' ],
	[ 'half an authentication', substr($whole, 0, 7), '0502 ' ],
	[ 'authentication', substr($whole, 0, 18), '05020100 ' ],
	[ 'half a request', substr($whole, 0, -1), '05020100 ' ],
	[ 'SOCKS4', "\x04", '' ],
	[ 'half a SOCKS4', substr(socks_request('4', '127.0.0.1', $p), 0, -1),
		'' ],
	[ 'half a SOCKS4a', substr(socks_request('4a', 'name', $p), 0, -1),
		'' ],
);

my $slow_tls = socks_client($t, port(8090), ssl => 1);
write_all($slow_tls, socks5_greeting(2));

# all of these come in time, but not together; and these come late

my $dribble = socks_client($t, port(8088));
my $late = socks_client($t, port(8088));
write_all($late, socks_request('4a', 'late.example', $p) . 'early');
my $idle = socks_client($t, port(8088));
write_all($idle, socks_request('4', '127.0.0.1', $p));

my $written = 0;

for my $byte (split //, socks5_greeting((2) x 40)) {
	last if write_all($dribble, $byte) < 1;
	$written++;
	sleep(0.05);
}

like(ends($dribble, 5), qr/^(?:EOF|RESET)$/, 'byte by byte, too slow');
like(socks_logged($t, $dribble), qr/^408 handshake_timeout - /,
	'byte by byte, too slow, logged');
in_time($t, $dribble, 'byte by byte, too slow');

for my $case (@slow) {
	my ($name, $s, $reply) = @$case;

	is(ends($s, 5), $reply . 'EOF', "too slow, $name");
	like(socks_logged($t, $s), qr/^408 handshake_timeout - /,
		"too slow, $name, logged");
	in_time($t, $s, "too slow, $name");
}

like(ends($slow_tls, 5), qr/^0502 (?:EOF|TRUNCATED)$/, 'too slow, TLS');
like(socks_logged($t, $slow_tls), qr/^408 handshake_timeout - 5 /,
	'too slow, TLS, logged');

is(unpack('H*', read_n($late, 2)), '005a',
	'a request that is complete has time for its target');
read_n($late, 6);
is(read_n($late, 5), 'early', 'and its early bytes');
close $late;

is(unpack('H*', read_n($idle, 2)), '005a', 'a tunnel');
read_n($idle, 6);
is(echo($idle, 'hello'), 'hello', 'is not bound by the timeout');
close $idle;

###############################################################################

# pieces

for my $front (@fronts) {
	my ($name, $open, $closed, %opt) = @$front;

	for my $client (@clients) {
		my ($version, $auth) = @$client;

		my $port = port($auth ? $closed : $open);
		my $what = "$name, $version" . ($auth ? ' with a password' : '');
		my $bytes = socks_request($version, $version eq '4a'
			? 'name.example' : '127.0.0.1', $p, auth => $auth)
			. 'early';

		# byte by byte

		my $s = socks_client($t, $port, %opt);
		send_split($s, $bytes, step => 1, delay => 0.002);
		is(outcome($s, $version, $auth), 'good early',
			"$what, byte by byte");
		close $s;

		# all at once, as much as a TLS record has

		my $early = pattern(16000);

		$s = socks_client($t, $port, %opt);
		write_all($s, $bytes . $early);
		is(outcome($s, $version, $auth), 'good early',
			"$what, all at once");
		ok(read_n($s, length $early) eq $early,
			"$what, many early bytes");
		is(echo($s, 'hello'), 'hello', "$what, and others");
		close $s;

		# one message after the other

		if ($version eq '5') {
			($s) = socks_open($t, $version, $port, '127.0.0.1', $p,
				$auth ? (auth => $auth) : (), %opt,
				early => 'early');
			is(read_n($s, 5), 'early', "$what, one by one");
			close $s;
		}

		# the end right behind it

		$s = socks_client($t, $port, %opt);
		write_all($s, $bytes);
		half_close($s);
		is(outcome($s, $version, $auth), 'good early', "$what, and end");
		like((read_all($s))[1], qr/^EOF$/, "$what, end");
		like(socks_logged($t, $s),
			qr/^200 ok completed $version connect .* 5 5$/,
			"$what, logged");

		my $id = ${*$s}{socks_id};
		my $src = $opt{proxy_protocol} ? '192.0.2.1' : '-';
		my $tls = $opt{ssl} ? 'TLS' : '-';
		like(wait_log($t, 'more.log', qr/^$id /) || '',
			qr/^$id \S+ \Q$src\E $tls/, "$what, logged as that");
	}
}

# in two pieces, wherever that is

for my $client (@clients) {
	my ($version, $auth) = @$client;

	my $bytes = socks_request($version, $version eq '4a' ? 'name.example'
		: '127.0.0.1', $p, auth => $auth) . 'early';
	my @bad;

	for my $n (1 .. length($bytes) - 1) {
		my $s = tcp_connect(port($auth ? 8084 : 8080));

		send_split($s, $bytes, $n, delay => 0.004);
		push @bad, $n if outcome($s, $version, $auth) ne 'good early';
		close $s;
	}

	is("@bad", '', "two pieces, $version" . ($auth ? ', password' : ''));
}

# glued to the PROXY protocol

for my $version ('v1', 'v2') {
	my $s = tcp_connect(port(8086));
	write_all($s, proxy_protocol($version) . $whole . 'early');
	is(outcome($s, '5', 1), 'good early', "glued to PROXY $version");
	close $s;
}

# the longest messages, byte by byte and at once

my $user = 'u' x 255;

for my $case (
	[ 'SOCKS4a, refused', 8080, socks4a_request('h' x 255, 80,
		user => $user), socks4_hex(91) . ' EOF' ],
	[ 'SOCKS5, refused', 8080, socks5_greeting(0 .. 254)
		. socks5_request('h' x 255, 80), '0500' . socks5_hex(1)
		. ' EOF' ],
	[ 'password', 8084, socks5_greeting(0 .. 254)
		. socks5_auth($user, 'p' x 255), '05020101 EOF' ],
) {
	my ($name, $server, $bytes, $reply) = @$case;

	my $s = tcp_connect(port($server));
	write_all($s, $bytes);
	is(ends($s), $reply, "longest, $name");

	# an end may be known before all is written

	$s = tcp_connect(port($server));
	send_split($s, $bytes, step => 1, delay => 0.0005);
	is(ends($s), $reply, "longest, $name, byte by byte");
}

my $s = tcp_connect(port(8080));
send_split($s, socks4_request('127.0.0.1', $p, user => $user),
	step => 1, delay => 0.0005);
is(unpack('H*', read_n($s, 2)), '005a', 'longest user, byte by byte');
close $s;

# without an end: answered as soon as it is too long

for my $bytes (socks4_request('127.0.0.1', $p, user => 'x' x 100000),
	socks4a_request('h' x 100000, $p, user => $user))
{
	$s = socks_client($t, port(8080));
	write_all($s, substr($bytes, 0, -1));
	is(ends($s), socks4_hex(91) . ' EOF', 'without an end');
	close $s;
	like(socks_logged($t, $s), qr/^400 bad_request /,
		'without an end, logged');
}

###############################################################################

# refusals are not lost

for my $case (@refused) {
	my ($name, $server, $bytes, $reply) = @$case;

	$s = socks_client($t, port($server));
	my $n = write_all($s, $bytes . pattern(300000));
	is(ends($s), "$reply EOF", "$name, and much behind it");
	is($n, length($bytes) + 300000, "$name, all of it taken");

	$s = socks_client($t, port($server + 1), ssl => 1);
	write_all($s, $bytes . pattern(50000));
	like(ends($s), qr/^$reply (?:EOF|TRUNCATED)$/,
		"$name, and much behind it, TLS");

	# still writing when it is refused

	$s = socks_client($t, port($server));
	write_all($s, $bytes);
	sleep(0.05);
	write_all($s, pattern(1000));
	sleep(0.05);
	write_all($s, pattern(1000));
	is(ends($s), "$reply EOF", "$name, and more later");
}

# and do not hold a connection for ever

$s = tcp_connect(port(8080));
write_all($s, socks_request('4', $deny, 80));
is(ends($s), socks4_hex(91) . ' EOF', 'refused, and the client stays');
ok(wait_for(sub { tcp_count($pid) == 0 }), 'nginx does not');

# nothing of them has come to a target

ok(!-e "$d/peers", 'nobody has come to a target');

for my $bytes (
	socks5_greeting(2) . socks5_auth('name', 'no')
		. socks5_request('127.0.0.1', $quiet) . 'early',
	socks5_greeting(0) . socks5_request('127.0.0.1', $quiet) . 'early',
	socks_request('4', '127.0.0.1', $quiet) . 'early',
) {
	$s = tcp_connect(port(8084));
	write_all($s, $bytes);
	read_all($s);
	close $s;
}

sleep(0.1);
ok(!-e "$d/peers", 'nobody who may not');

# exactly the early bytes, and once the client has its reply

($s) = socks_open($t, '5', port(8080), '127.0.0.1', port(8093),
	early => 'early');
half_close($s);
read_all($s);
my $sum = summary('early') =~ s/\n//r;
ok(wait_log($t, 'sink', qr/^$sum$/), 'the target has the early bytes alone');

SKIP: {
	skip 'no --with-debug', 6 unless $t->build_info() =~ /--with-debug/;

	my $n = 0;

	for my $version ('4', '4a', '5') {
		my $early = 'e' x (101 + $n++);	# told apart by that
		my $reply = $version eq '5' ? 10 : 8;

		$s = tcp_connect(port(8089));
		write_all($s, socks_request($version, '127.0.0.1', $p)
			. $early);
		read_n($s, $reply + ($version eq '5' ? 2 : 0));
		is(read_n($s, length $early), $early, "order, $version");
		close $s;

		my $size = length $early;
		my $first = join ' ', map { /send: fd:\d+ (\d+) of/ }
			log_lines($t, 'debug.log');
		like($first, qr/(?:^| )(?:2 )?$reply $size\b/,
			"the reply comes before early bytes, $version");
	}
}

###############################################################################

# what is no SOCKS

for my $case (@garbage) {
	my ($name, $bytes) = @$case;

	$s = socks_client($t, port(8080));
	write_all($s, $bytes);
	like(ends($s), qr/^(?:EOF|RESET)$/, "no SOCKS, $name");
	like(socks_logged($t, $s),
		qr/^505 bad_version - - - "-?" - - -$/,
		"no SOCKS, $name, logged");
}

socks_answer($t, port(8080), "\x05" x 1000, '05ff', '407 auth_failed - 5 ',
	'\\x05 again and again');
socks_answer($t, port(8080), "\x04" x 1000, socks4_hex(91),
	'400 bad_request - 4 ', '\\x04 again and again');

# an end of the negotiation comes, whatever it is

srand(5);
my @open;

for my $n (1 .. 300) {
	my $bytes = join '', map { chr rand 256 } 1 .. rand 40;

	$bytes = ("\x04\x01", "\x05\x01\x00\x05\x01\x00", "\x05\x01\x00", '',
		"\x05")[$n % 5] . $bytes;
	$s = tcp_connect(port($n % 2 ? 8080 : 8084));
	write_all($s, $bytes);
	half_close($s);
	push @open, unpack 'H*', $bytes if (read_all($s, 4))[1] eq 'TIMEOUT';
	close $s;
}

is("@open", '', 'anything has an end');

is((workers($t))[0], $pid, 'worker is the same');
socks_good($t, '5', port(8084), '127.0.0.1', $p, 'and works',
	auth => [ 'name', 'password' ]);
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');

###############################################################################

sub slow {
	my ($t, $server, $bytes) = @_;

	my $s = socks_client($t, port($server));
	write_all($s, $bytes);

	return $s;
}

sub in_time {
	my ($t, $s, $name) = @_;

	my $id = ${*$s}{socks_id};
	my ($took) = (wait_log($t, 'more.log', qr/^$id /) || '') =~ / (\S+)/;

	ok($took && $took > 0.55 && $took < 3, "$name, in time")
		or diag($took);
}

# Replies to all messages of a client, and five bytes of its tunnel.

sub outcome {
	my ($s, $version, $auth) = @_;

	my ($n, $re) = $version ne '5' ? (8, qr/^005a.{12}$/)
		: $auth ? (14, qr/^0502010005000001.{12}$/)
		: (12, qr/^050005000001.{12}$/);

	my $reply = unpack 'H*', read_n($s, $n);

	return ($reply =~ $re ? 'good' : $reply) . ' ' . read_n($s, 5);
}

###############################################################################
