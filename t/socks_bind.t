#!/usr/bin/perl

# Tests for ngx_stream_socks_module: BIND.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Datagram;

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_ssl socket_ssl/)->plan(210);

my $d = $t->testdir();

make_cert($t, 'localhost');

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format socks '$remote_port $status $tunnel_result $tunnel_reason '
                     '$socks_version $socks_command $tunnel_target '
                     '$tunnel_address '
                     '$tunnel_bytes_received $tunnel_bytes_sent';
    log_format parts '$remote_port $tunnel_host $tunnel_port $socks_user';

    access_log %%TESTDIR%%/socks.log socks;
    access_log %%TESTDIR%%/parts.log parts;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    socks_bind on;

    server {
        listen 127.0.0.1:8080;
        listen [::1]:%%PORT_8080%%;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 ::1;
    }

    # rules: names

    server {
        listen 127.0.0.1:8081;
        socks;
        target_allow 127.0.0.2:*;
        target_allow_address 127.0.0.0/8;
    }

    # rules: default addresses

    server {
        listen 127.0.0.1:8082;
        socks;
        target_allow *:*;
    }

    # rules: an address

    server {
        listen 127.0.0.1:8083;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
        target_deny_address 127.0.0.3;
    }

    # rules: all defaults

    server {
        listen 127.0.0.1:8084;
        socks;
    }

    # off, and so by default: see below

    server {
        listen 127.0.0.1:8085;
        socks;
        socks_bind off;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    # addresses

    server {
        listen 127.0.0.1:8086;
        socks;
        socks_bind_address 127.0.0.3;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    server {
        listen 127.0.0.1:8087;
        socks;
        socks_bind_address ::1;
        target_allow *:*;
        target_allow_address ::1;
    }

    server {
        listen 127.0.0.1:8088;
        socks;
        socks_bind_address 192.0.2.1;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    server {
        listen %%PORT_8089%%;
        listen [::]:%%PORT_8090%% ipv6only=off;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    # times and policy

    server {
        listen 127.0.0.1:8071;
        socks;
        socks_bind_timeout 600ms;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    server {
        listen 127.0.0.1:8072;
        socks;
        socks_handshake_timeout 500ms;
        relay_idle_timeout 500ms;
        target_connect_timeout 500ms;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    server {
        listen 127.0.0.1:8073;
        socks;
        relay_max_payload 8;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    # TLS

    server {
        listen 127.0.0.1:8074 ssl;
        ssl_certificate localhost.crt;
        ssl_certificate_key localhost.key;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }
}

EOF

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { 'peer.example' => '127.0.0.1' });

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my ($pid) = workers($t);

# a first one, for what a worker keeps

my ($s, $peer) = connected(8080, 5);
close $s;
close $peer;
wait_for(sub { tcp_count($pid) == 0 });

my $fds = fd_count($pid);

# those that take their time

my $start = time();
my %late = map { $_ => (waiting(8071, $_, '0.0.0.0', 0))[0] } 4, 5;
my %id = map { $_ => $late{$_}->sockport() } 4, 5;
my ($patient, $patient_at) = waiting(8072, 5, '0.0.0.0', 0);

reply_tests($t, $pid);
early_tests();
quick_tests($pid);
peer_tests($t, $pid);
name_tests($t);
rule_tests($t);
address_tests($t);
leave_tests($t, $pid);
many_tests($pid);

# timeout

for my $version (4, 5) {
	is((read_reply($late{$version}, $version))[0],
		$version == 5 ? 4 : 91, "$version, timeout");
	is(join('', read_all($late{$version})), 'EOF',
		"$version, timeout, closed");
	like(logged($t, $id{$version}),
		qr/^504 connect_timeout - $version bind 0\.0\.0\.0:0 /,
		"$version, timeout, logged");
}

# the time to wait for a peer is no idle time, nor that of the handshake

sleep(0.1) while time() < $start + 1;
ok(listens($pid, $patient_at), 'socks_bind_timeout is a minute');

my $id = $patient->sockport();
$peer = peer_connect($patient_at);
is((read_reply($patient, 5))[0], 0, 'late peer');
is(echoed($patient, $peer), 'hello', 'late peer, bytes');
$start = time();
isnt((read_all($patient, 4))[1], 'TIMEOUT', 'idle timeout');
my $time = time() - $start;
ok($time > 0.3 && $time < 3, 'idle timeout in time') or diag($time);
like(logged($t, $id), qr/^200 ok idle_timeout .* 5 5$/,
	'idle timeout, logged');

# a limit

($s, $peer) = connected(8073, 5);
$id = $s->sockport();
write_all($s, '0123456789');
is((read_all($peer))[0], '01234567', 'payload');
like(logged($t, $id), qr/^200 ok max_payload .* 8 0$/, 'payload, logged');
close $s;
close $peer;

# early bytes are counted

($s, my $listener) = waiting(8073, 5, '0.0.0.0', 0, early => '0123456789');
$peer = peer_connect($listener);
is((read_all($peer))[0], '01234567', 'payload of early bytes');
close $s;
close $peer;

tls_tests($pid);

# nothing is left

ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');
ok(wait_for(sub { fd_count($pid) <= $fds }), 'no descriptor left open')
	or diag(fd_count($pid) . " $fds");
is((workers($t))[0], $pid, 'worker is the same');

# the default

my $conf = $t->read_file('nginx.conf');
$t->write_file('nginx.conf', $conf =~ s/^ *socks_bind o.*$//mgr);
$t->reload();
new_worker($t, $pid);
refused($t, 8080, 5, '0.0.0.0', 0, 7, '501 unsupported_command');
refused($t, 8080, 4, '0.0.0.0', 0, 91, '501 unsupported_command');

###############################################################################

# Both replies, bytes both ways, and ends.

sub reply_tests {
	my ($t, $pid) = @_;

	for my $version (4, '4a', 5) {
		both_replies($t, $pid, $version);
	}

	ok(wait_log($t, 'parts.log', qr/^\d+ 127\.0\.0\.1 21 me$/),
		'host, port, user');

	# the peer ends first

	my ($s, $peer) = connected(8080, 5);
	my $id = $s->sockport();
	write_all($peer, 'data');
	half_close($peer);
	is(join(' ', read_all($s)), 'data EOF', 'peer ends first');
	write_all($s, 'late');
	half_close($s);
	is(join(' ', read_all($peer)), 'late EOF', 'after the end of the peer');
	like(logged($t, $id), qr/^200 ok completed .* 4 4$/,
		'peer ends first, logged');

	# many bytes

	my $bytes = pattern(3000000);

	($s, $peer) = connected(8080, 4);
	ok(bulk($s, $peer, $bytes) eq $bytes, 'many bytes to the peer');
	ok(bulk($peer, $s, $bytes) eq $bytes, 'many bytes to the client');
	close $s;
	close $peer;

	# resets

	($s, $peer) = connected(8080, 5);
	$id = $s->sockport();
	reset_close($s);
	is((read_all($peer))[1], 'RESET', 'reset passed to the peer');
	like(logged($t, $id), qr/^200 ok client_reset /,
		'client reset, logged');

	($s, $peer) = connected(8080, 5);
	$id = $s->sockport();
	reset_close($peer);
	is((read_all($s))[1], 'RESET', 'reset passed to the client');
	like(logged($t, $id), qr/^200 ok target_reset /,
		'peer reset, logged');
}

sub both_replies {
	my ($t, $pid, $version) = @_;

	my $target = $version eq '4a' ? '127.0.0.1:21' : '0.0.0.0:0';
	my ($s, $listener, $code) = waiting(8080, $version,
		split(/:/, $target), user => $version eq '4a' ? 'me' : '');
	my $id = $s->sockport();

	is($code, good($version), "$version, first reply");
	like($listener, qr/^127\.0\.0\.1:[1-9]\d*$/, "$version, address");
	ok(listens($pid, $listener), "$version, it listens there");

	my $peer = peer_connect($listener);
	my $from = '127.0.0.1:' . $peer->sockport();
	is(join(' ', read_reply($s, $version)), good($version) . " $from",
		"$version, second reply");

	ok(!listens($pid, $listener), "$version, it listens no longer");
	ok(!peer_connect($listener), "$version, no second peer");

	write_all($s, 'to the peer');
	is(read_n($peer, 11), 'to the peer', "$version, to the peer");
	write_all($peer, 'to the client');
	is(read_n($s, 13), 'to the client', "$version, to the client");

	half_close($s);
	is(join('', read_all($peer)), 'EOF', "$version, end of the client");
	write_all($peer, 'more');
	is(read_n($s, 4), 'more', "$version, after the end of the client");
	half_close($peer);
	is(join('', read_all($s)), 'EOF', "$version, end of the peer");

	is(logged($t, $id), "200 ok completed $version bind $target $from "
		. '11 17', "$version, logged");
	ok(wait_log($t, 'error.log', qr/tunnel to "\Q$target\E" at /
		. qr/\Q$from\E ended: completed, received: 11, sent: 17/),
		"$version, end in the error log");
}

# Bytes of the client before the second reply.

sub early_tests {
	for my $version (4, 5) {
		my ($s, $listener) = waiting(8080, $version, '0.0.0.0', 0,
			early => 'early ');
		sleep(0.1);
		write_all($s, 'later');

		my $peer = peer_connect($listener);
		is((read_reply($s, $version))[0], good($version),
			"$version, early bytes, second reply");
		is(read_n($peer, 11), 'early later', "$version, early bytes");
		is(echoed($s, $peer), 'hello', "$version, bytes behind them");
		close $s;
		close $peer;
	}

	# more of them than nginx or the kernel take

	my $bytes = pattern(300000);

	my ($s, $listener) = waiting(8080, 5, '0.0.0.0', 0, early => 'first');
	my $n = push_bytes($s, $bytes, 0.3);
	my $peer = peer_connect($listener);
	is((read_reply($s, 5))[0], 0, 'many early bytes, second reply');
	write_all($s, substr($bytes, $n));
	ok(read_n($peer, 5 + length $bytes) eq 'first' . $bytes,
		'many early bytes');
	close $s;
	close $peer;
}

# All is there when nginx looks.

sub quick_tests {
	my ($pid) = @_;

	for my $version (4, 5) {
		my ($s, $listener) = waiting(8080, $version, '0.0.0.0', 0);

		kill 'STOP', $pid;
		my $peer = peer_connect($listener);
		write_all($peer, 'hello');
		my $from = '127.0.0.1:' . $peer->sockport();
		my $second = peer_connect($listener, from => '127.0.0.2');
		close $peer;
		kill 'CONT', $pid;

		is(join(' ', read_reply($s, $version)),
			good($version) . " $from", "$version, quick peer");
		is((read_n($s, 5))[0], 'hello', "$version, its bytes");
		half_close($s);
		is((read_all($s))[1], 'EOF', "$version, its end");

		isnt($second ? (read_all($second, 2))[1] : 'RESET', 'TIMEOUT',
			"$version, one more peer is not served");
	}

	# a peer that is gone before it is accepted

	my ($s, $listener) = waiting(8080, 5, '0.0.0.0', 0);
	my $id = $s->sockport();

	kill 'STOP', $pid;
	reset_close(peer_connect($listener));
	kill 'CONT', $pid;
	sleep(0.1);
	close $s;

	ok(wait_for(sub { !listens($pid, $listener) }, 2),
		'peer that is gone');

	# the client is gone and a peer is there

	($s, $listener) = waiting(8080, 5, '0.0.0.0', 0);

	kill 'STOP', $pid;
	my $peer = peer_connect($listener);
	reset_close($s);
	kill 'CONT', $pid;

	isnt((read_all($peer, 3))[1], 'TIMEOUT', 'client that is gone');
	ok(!listens($pid, $listener), 'client that is gone, listens no longer');
}

# A peer that is named.

sub peer_tests {
	my ($t, $pid) = @_;

	for my $version (4, 5) {
		my ($s, $listener) = waiting(8080, $version, '127.0.0.2', 4711);
		my $peer = peer_connect($listener, from => '127.0.0.2');
		is(join(' ', read_reply($s, $version)), good($version)
			. ' 127.0.0.2:' . $peer->sockport(),
			"$version, named peer");
		is(echoed($s, $peer), 'hello', "$version, named peer, bytes");
		close $s;
		close $peer;

		# nothing of the client goes to another one

		($s, $listener) = waiting(8080, $version, '127.0.0.2', 0,
			early => 'secret');
		my $id = $s->sockport();
		$peer = peer_connect($listener);
		is((read_reply($s, $version))[0], $version == 5 ? 2 : 91,
			"$version, wrong peer");
		is(join('', read_all($s)), 'EOF',
			"$version, wrong peer, client is closed");
		my ($bytes, $state) = read_all($peer);
		is($bytes, '', "$version, wrong peer gets nothing");
		isnt($state, 'TIMEOUT', "$version, wrong peer is closed");
		ok(!listens($pid, $listener),
			"$version, wrong peer, listens no longer");

		# nginx waits for that a little

		close $s;
		like(logged($t, $id), qr/^403 denied_address - $version bind /,
			"$version, wrong peer, logged");
	}

	ok(wait_log($t, 'error.log', qr/\[error\].*tunnel to "127\.0\.0\.2:0" /
		. qr/failed: denied_address, .*another address connected/),
		'wrong peer in the error log');

	my $at = '[::1]:' . port(8080);

	my ($s, $listener) = waiting($at, 5, '::1', 80);
	my $peer = peer_connect($listener);
	is((read_reply($s, 5))[0], 0, 'named peer, IPv6');
	close $s;
	close $peer;

	($s, $listener) = waiting($at, 5, '2001:db8::1', 80);
	$peer = peer_connect($listener);
	is((read_reply($s, 5))[0], 2, 'wrong peer, IPv6');
	close $s;
}

sub name_tests {
	my ($t) = @_;

	# an address which is written as a name

	my ($s, $listener, $code) = waiting(8080, 5, '127.0.0.2', 0,
		atyp => 'name');
	is($code, 0, 'address as a name');
	my $peer = peer_connect($listener);
	is((read_reply($s, 5))[0], 2, 'address as a name, wrong peer');
	close $s;

	refused($t, 8080, 5, 'peer.example', 0, 8, '501 unsupported_address');
	refused($t, 8080, '4a', 'peer.example', 0, 91,
		'501 unsupported_address');
	is(scalar dns_queries($t, 'dns.log', 'peer.example'), 0,
		'name is not resolved');
}

sub rule_tests {
	my ($t) = @_;

	refused($t, 8081, 5, '0.0.0.0', 0, 2, '403 denied_name');
	refused($t, 8081, 4, '0.0.0.0', 0, 91, '403 denied_name');
	refused($t, 8081, 5, '127.0.0.1', 80, 2, '403 denied_name');
	refused($t, 8084, 5, '0.0.0.0', 0, 2, '403 denied_name');

	my ($s, $listener) = waiting(8081, 5, '127.0.0.2', 0);
	my $peer = peer_connect($listener, from => '127.0.0.2');
	is((read_reply($s, 5))[0], 0, 'rules on names');
	close $s;

	denied($t, 8082, 5, '127.0.0.1', 'default addresses');
	denied($t, 8082, 4, '127.0.0.1', 'default addresses');
	denied($t, 8083, 5, '127.0.0.3', 'address');

	($s, $listener) = waiting(8083, 5, '0.0.0.0', 0);
	$peer = peer_connect($listener, from => '127.0.0.2');
	is((read_reply($s, 5))[0], 0, 'another address');
	close $s;

	refused($t, 8085, 5, '0.0.0.0', 0, 7, '501 unsupported_command');
	refused($t, 8085, 4, '0.0.0.0', 0, 91, '501 unsupported_command');
}

# What it listens on.

sub address_tests {
	my ($t) = @_;

	for my $version (4, 5) {
		my ($s, $listener) = waiting(8086, $version, '0.0.0.0', 0);
		like($listener, qr/^127\.0\.0\.3:[1-9]\d*$/,
			"$version, socks_bind_address");
		my $peer = peer_connect($listener);
		is((read_reply($s, $version))[0], good($version),
			"$version, socks_bind_address, peer");
		close $s;
	}

	my ($s, $listener) = waiting(8087, 5, '::', 0);
	like($listener, qr/^\[::1\]:[1-9]\d*$/, 'socks_bind_address, IPv6');
	my $peer = peer_connect($listener);
	is(join(' ', read_reply($s, 5)), '0 [::1]:' . $peer->sockport(),
		'socks_bind_address, IPv6, peer');
	close $s;

	# SOCKS4 has no place for such an address

	($s, $listener, my $code) = waiting(8087, 4, '0.0.0.0', 0);
	is($code, 90, 'IPv6 in SOCKS4');
	like($listener, qr/^0\.0\.0\.0:[1-9]\d*$/, 'IPv6 in SOCKS4, port');
	$peer = peer_connect($listener =~ s/.*:/[::1]:/r);
	is(join(' ', read_reply($s, 4)), '90 0.0.0.0:' . $peer->sockport(),
		'IPv6 in SOCKS4, peer');
	close $s;

	# one that is not ours

	refused($t, 8088, 5, '0.0.0.0', 0, 1, '\d+ \w+');
	ok(wait_log($t, 'error.log', qr/\[error\].*cannot listen.* \(99: /),
		'address that is not ours, logged');

	# by which the client came

	for my $case (
		[ '[::1]:' . port(8080), '[::1]', 'IPv6 listener' ],
		[ '127.0.0.4:' . port(8089), '127.0.0.4', 'any address' ],
		[ '127.0.0.5:' . port(8090), '127.0.0.5', 'mapped address' ],
	) {
		my ($addr, $expected, $name) = @$case;

		my ($s, $listener) = waiting($addr, 5, '0.0.0.0', 0);
		like($listener, qr/^\Q$expected\E:[1-9]\d*$/, $name);
		my $peer = peer_connect($listener);
		is(join(' ', read_reply($s, 5)), '0 ' . join_address(
			$peer->sockhost(), $peer->sockport()), "$name, peer");
		close $s;
	}
}

# Clients that leave while they wait.

sub leave_tests {
	my ($t, $pid) = @_;

	my $many = pattern(100000);

	for my $how ('close', 'half close', 'reset', 'close behind bytes',
		'reset behind bytes', 'close behind many bytes',
		'reset behind many bytes')
	{
		my ($s, $listener) = waiting(8080, 5, '0.0.0.0', 0);
		my $id = $s->sockport();

		write_all($s, 'early') if $how =~ /behind/;
		write_all($s, $many) if $how =~ /many/;
		sleep(0.1) if $how =~ /behind/;

		$how =~ /reset/ ? reset_close($s)
			: $how =~ /half/ ? half_close($s) : close $s;

		ok(wait_for(sub { !listens($pid, $listener) }, 2),
			"$how, listens no longer");
		ok(!peer_connect($listener), "$how, no peer");
		like(logged($t, $id), qr/^499 - - 5 bind 0\.0\.0\.0:0 /,
			"$how, logged");
	}
}

sub many_tests {
	my ($pid) = @_;

	my ($s1, $first) = waiting(8080, 5, '0.0.0.0', 0);
	my ($s2, $second) = waiting(8080, 4, '0.0.0.0', 0);
	isnt($first, $second, 'two at once');

	my $peer2 = peer_connect($second);
	is((read_reply($s2, 4))[0], 90, 'two at once, the later one');
	ok(listens($pid, $first), 'two at once, the other one waits');

	my $peer1 = peer_connect($first);
	is((read_reply($s1, 5))[0], 0, 'two at once, the earlier one');
	is(echoed($s1, $peer1) . echoed($s2, $peer2), 'hellohello',
		'two at once, bytes');
	close $_ for $s1, $s2, $peer1, $peer2;

	my @s = map { [ waiting(8080, 5, '0.0.0.0', 0) ] } 1 .. 40;
	is(scalar(grep { listens($pid, $_->[1]) } @s), 40, 'many');

	my @tunnels = map { [ $_->[0], peer_connect($_->[1]) ] } @s[0 .. 19];
	is(scalar(grep { (read_reply($_->[0], 5))[0] == 0
		&& echoed(@$_) eq 'hello' } @tunnels), 20, 'many, bytes');

	close $_->[0] for @s;
	ok(wait_for(sub { !grep { listens($pid, $_->[1]) } @s }, 2),
		'many, none listens any longer');
}

sub tls_tests {
	my ($pid) = @_;

	for my $version (4, 5) {
		my ($s, $peer) = connected(8074, $version, ssl => 1,
			early => 'early');
		is(read_n($peer, 5), 'early', "$version, TLS, early bytes");
		is(echoed($s, $peer), 'hello', "$version, TLS");
		half_close($s);
		is(join('', read_all($peer)), 'EOF',
			"$version, TLS, end of the client");
		write_all($peer, 'last');
		half_close($peer);
		is(join(' ', read_all($s)), 'last EOF', "$version, TLS, end");
		$s->close();
	}

	for my $how ('close', 'reset') {
		my ($s, $listener) = waiting(8074, 5, '0.0.0.0', 0, ssl => 1);
		$how eq 'reset' ? reset_close($s) : $s->close();
		ok(wait_for(sub { !listens($pid, $listener) }, 2),
			"TLS, $how, listens no longer");
	}
}

###############################################################################

# The client, what listens for it, and the code of the first reply.

sub waiting {
	my ($server, $version, $host, $port, %opt) = @_;

	my ($s, $code, $listener) = socks_command(
		$server =~ /:/ ? $server : port($server), $version, 'bind',
		$host, $port, %opt);

	return ($s, $listener || 'none', $code);
}

# The client and the peer after the second reply.

sub connected {
	my ($server, $version, %opt) = @_;

	my ($s, $listener) = waiting($server, $version, '0.0.0.0', 0, %opt);
	my $peer = peer_connect($listener);

	read_reply($s, $version);

	return ($s, $peer);
}

sub good {
	my ($version) = @_;

	return $version eq '5' ? 0 : 90;
}

sub listens {
	my ($pid, $listener) = @_;

	return scalar grep { $_ eq $listener } listeners($pid);
}

# Both ways.

sub echoed {
	my ($s, $peer) = @_;

	write_all($s, 'hello');
	write_all($peer, scalar read_n($peer, 5));

	return scalar read_n($s, 5);
}

# In pieces that the sockets hold.

sub bulk {
	my ($from, $to, $bytes) = @_;

	my $got = '';

	for (my $n = 0; $n < length $bytes; $n += 100000) {
		write_all($from, substr($bytes, $n, 100000));
		$got .= read_n($to, 100000);
	}

	return $got;
}

# A request that is refused.

sub refused {
	my ($t, $server, $version, $host, $port, $code, $line) = @_;

	my ($s, @reply) = socks_command(port($server), $version, 'bind',
		$host, $port);
	my $id = $s->sockport();
	my $name = "refused: $version, $host:$port";

	is(join(' ', @reply), "$code 0.0.0.0:0", $name);
	is(join('', read_all($s)), 'EOF', "$name, closed");
	close $s;
	like(logged($t, $id),
		qr/^$line - $version bind \Q$host:$port\E - - -$/,
		"$name, logged");
}

# A peer that is.

sub denied {
	my ($t, $server, $version, $from, $name) = @_;

	my ($s, $listener) = waiting($server, $version, '0.0.0.0', 0);
	my $id = $s->sockport();
	my $peer = peer_connect($listener, from => $from);

	is((read_reply($s, $version))[0], $version == 5 ? 2 : 91,
		"denied: $version, $name");
	is(join('', read_all($peer, 2)) =~ s/RESET/EOF/r, 'EOF',
		"denied: $version, $name, peer is closed");
	my $at = quotemeta(join_address($peer->sockhost(), $peer->sockport()));
	close $s;
	like(logged($t, $id),
		qr/^403 denied_address - $version bind 0\.0\.0\.0:0 $at /,
		"denied: $version, $name, logged");
	ok(wait_log($t, 'error.log', qr/\[error\].*tunnel to "0\.0\.0\.0:0" /
		. qr/failed: denied_address, .*$at/, 2),
		"denied: $version, $name, peer in the error log");
}

# The line of the access log.

sub logged {
	my ($t, $id) = @_;

	return (wait_log($t, 'socks.log', qr/^$id /) || '') =~ s/^\S+ //r;
}

###############################################################################
