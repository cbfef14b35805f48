#!/usr/bin/perl

# Tests for ngx_stream_socks_module: sessions while nginx is reloaded or
# stopped.

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

my $t = Test::Nginx->new()->has(qw/stream/)->plan(80);

my $d = $t->testdir();

port(8980, udp => 1);

# of "password"

$t->write_file('htpasswd', "user:{PLAIN}password\n");

configure($t, '');

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		(map { ("slow$_.example" => { A => [ '127.0.0.1' ],
			AAAA => [ ], delay => 0.8 }) } 1 .. 9),
		'silent.example' => 'TIMEOUT',
	});

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my $target = udp_socket('127.0.0.1');

# descriptors and memory, after many sessions of each kind

my ($old) = workers($t);

many($target) for 1 .. 2;
sleep(1.5);

my $fds = fd_count($old);

many($target) for 1 .. 2;
ok(wait_for(sub { fd_count($old) <= $fds }), 'sessions ended')
	or diag(fd_count($old) . " $fds");

my $rss = rss($old);

many($target) for 1 .. 12;
ok(wait_for(sub { fd_count($old) <= $fds }), 'no descriptors left')
	or diag(fd_count($old) . " $fds");
is(join(' ', udp_sockets($old, port(8980))), '', 'no UDP sockets left');

# what is freed, a sanitizer keeps for a while

my $limit = $t->has_module('fsanitize') ? 64 : 2;
cmp_ok(rss($old) - $rss, '<', $limit * 1048576, 'no memory left');

# reload: all of them go on, in the old worker

my $live = live($target, 'slow1.example');

$t->reload();
my $new = next_worker($t, $old);
ok($new, 'new worker');

live_tests($live, $target, $old, 'reload');

my $fresh = live($target, 'slow2.example');
ok(!(grep { $_ eq $fresh->{at} } listeners($old)),
	'BIND of the new worker');
live_tests($fresh, $target, $new, 'new worker');

ok(alive($old), 'old worker is still there');
live_end($live);
ok(wait_for(sub { !alive($old) }), 'old worker ends with its sessions');
ok(alive($new), 'new worker does not');
live_end($fresh);

# clients leave an old worker in other ways

$live = live($target, 'slow3.example');
$old = $new;
$t->reload();
$new = next_worker($t, $old);
reset_close($_) for live_sockets($live);
ok(wait_for(sub { !alive($old) }), 'old worker ends with resets');
ok(!peer_connect($live->{at}), 'what waited listens no longer');

# they never leave: timeouts go on in an old worker

configure($t, 'socks_handshake_timeout 1s; socks_bind_timeout 1s;
    relay_idle_timeout 1s;');
$old = $new;
$t->reload();
$new = next_worker($t, $old);

$live = live($target, 'slow4.example');
$old = $new;
configure($t, '');
$t->reload();
$new = next_worker($t, $old);

is((read_reply($live->{waiting}, 5))[0], 4, 'timeout in an old worker, BIND');
isnt((read_all($live->{udp}{tcp}, 4))[1], 'TIMEOUT',
	'timeout in an old worker, UDP');
isnt((read_all($_, 4))[1], 'TIMEOUT',
	'timeout in an old worker, handshake') for $live->{half}, $live->{idle};
isnt((read_all($live->{connect}, 4))[1], 'TIMEOUT',
	'timeout in an old worker, CONNECT');
ok(wait_for(sub { !alive($old) }), 'old worker ends with its timeouts');
live_end($live);

# again and again

my @live;
my $good = 0;

for my $n (1 .. 4) {
	$old = $new;
	push @live, [ live($target, 'slow1.example'), $old ];
	$t->reload();
	$new = next_worker($t, $old);

	for (@live) {
		my ($live, $pid) = @$_;

		$good++ if echo($live->{connect}, 'hello') eq 'hello';

		# a slow name's datagram may get in the way

		for (1 .. 1 + @live) {
			1 while udp_get($target, 0);

			if (udp_echo($live->{udp}, $target, 'hello') eq '') {
				$good++;
				last;
			}
		}

		$good++ if grep { $_ eq $live->{at} } listeners($pid);
	}
}

is($good, 3 * (1 + 2 + 3 + 4), 'sessions of many generations');
live_end($_->[0]) for @live;
ok(wait_for(sub { workers($t) == 1 }), 'one worker left');

# worker_shutdown_timeout

configure($t, '', 'worker_shutdown_timeout 1s;');
$old = $new;
$t->reload();
$new = next_worker($t, $old);

$live = live($target, 'silent.example');
my %id = map { $_ => $live->{$_}->sockport() }
	grep { ref $live->{$_} && ref $live->{$_} ne 'HASH' } keys %$live;
$id{udp} = $live->{udp}{tcp}->sockport();

$old = $new;
my $start = time();
$t->reload();
$new = next_worker($t, $old);

is(echo($live->{connect}, 'hello'), 'hello', 'shutdown timeout, not yet');
is(udp_echo($live->{udp}, $target, 'hello'), '',
	'shutdown timeout, not yet for UDP');

for my $name (sort keys %id) {
	my $s = $name eq 'udp' ? $live->{udp}{tcp} : $live->{$name};
	isnt((read_all($s, 5))[1], 'TIMEOUT', "shutdown timeout, $name ends");
}

my $time = time() - $start;
ok($time > 0.7 && $time < 5, 'shutdown timeout in time') or diag($time);
ok(wait_for(sub { !alive($old) }), 'shutdown timeout, worker ends');
ok(!peer_connect($live->{at}), 'shutdown timeout, nobody listens');

like(logged($t, $id{connect}), qr/^200 ok shutdown connect /,
	'shutdown timeout, CONNECT is logged');
like(logged($t, $id{bind}), qr/^200 ok shutdown bind /,
	'shutdown timeout, BIND is logged');
like(logged($t, $id{udp}), qr/^200 ok shutdown udp_associate /,
	'shutdown timeout, UDP is logged');
like(logged($t, $id{waiting}), qr/^\d+ \S+ - bind /,
	'shutdown timeout, BIND that waits is logged');
live_end($live);

# QUIT

configure($t, '');
$old = $new;
$t->reload();
$new = next_worker($t, $old);

$live = live($target, 'slow5.example');
kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !tcp_connect(port(8080), timeout => 1) }),
	'QUIT, no new connections');
live_tests($live, $target, $new, 'QUIT');
ok(-e "$d/nginx.pid", 'QUIT, nginx waits');
live_end($live);
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'QUIT, nginx ends');

# TERM

$t->run();
$live = live($target, 'slow1.example');
kill 'TERM', $t->read_file('nginx.pid') =~ /(\d+)/;
isnt((read_all($_, 4))[1], 'TIMEOUT', 'TERM ends sessions')
	for $live->{connect}, $live->{waiting}, $live->{udp}{tcp};
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'TERM ends nginx');
live_end($live);

$t->run();

###############################################################################

# Sessions of all kinds and states.

sub live {
	my ($target, $name) = @_;

	my %live;

	# of others before

	1 while udp_get($target, 0);

	$live{idle} = tcp_connect(port(8080));

	$live{half} = tcp_connect(port(8080));
	write_all($live{half}, socks5_greeting() . "\x05\x01\x00");
	read_n($live{half}, 2);

	$live{delayed} = tcp_connect(port(8081));
	write_all($live{delayed}, socks5_greeting(2)
		. socks5_auth('user', 'wrong'));
	read_n($live{delayed}, 2);

	($live{connect}) = socks5_tunnel(port(8080), '127.0.0.1', port(8091));
	echo($live{connect}, 'hello');

	($live{waiting}, undef, $live{at}) = socks_command(port(8080), 5,
		'bind', '0.0.0.0', 0, early => 'early');

	($live{bind}, undef, my $at) = socks_command(port(8080), 4, 'bind',
		'0.0.0.0', 0);
	$live{peer} = peer_connect($at);
	read_reply($live{bind}, 4);

	$live{udp} = udp_associate(port(8080));
	udp_echo($live{udp}, $target, 'hello');

	# those that wait for a name

	$live{naming} = tcp_connect(port(8080));
	write_all($live{naming}, socks5_greeting()
		. socks5_request($name, port(8091)));
	read_n($live{naming}, 2);
	udp_send($live{udp}, "$name:" . udp_port($target), 'slow');

	return \%live;
}

# All of them work.

sub live_tests {
	my ($live, $target, $pid, $what) = @_;

	is((read_reply($live->{naming}, 5))[0], 0, "$what, slow name");
	is((udp_get($target))[0], 'slow', "$what, slow name of a datagram");
	is(echo($live->{naming}, 'hello'), 'hello', "$what, slow name, bytes");
	is(echo($live->{connect}, 'hello'), 'hello', "$what, CONNECT");
	is(udp_echo($live->{udp}, $target, 'hello'), '', "$what, UDP");

	write_all($live->{bind}, 'hello');
	is(read_n($live->{peer}, 5), 'hello', "$what, BIND");
	write_all($live->{peer}, 'again');
	is(read_n($live->{bind}, 5), 'again', "$what, BIND, other way");

	write_all($live->{half}, "\x01\x7f\x00\x00\x01"
		. pack('n', port(8091)));
	is((read_reply($live->{half}, 5))[0], 0, "$what, half a request");

	is(join('', read_all($live->{delayed})), "\x01\x01EOF",
		"$what, delayed reply");

	my $peer = peer_connect($live->{at});
	is((read_reply($live->{waiting}, 5))[0], 0, "$what, BIND that waited");
	is(read_n($peer, 5), 'early', "$what, BIND that waited, bytes");
	ok(!(grep { $_ eq $live->{at} } listeners($pid)),
		"$what, it listens no longer");
}

sub live_sockets {
	my ($live) = @_;

	return map { ref $_ eq 'HASH' ? ($_->{tcp}) : ref $_ ? ($_) : () }
		map { $live->{$_} } grep { $_ ne 'peer' } keys %$live;
}

sub live_end {
	my ($live) = @_;

	close $_ for live_sockets($live), $live->{peer}, $live->{udp}{udp};
}

# Sessions that end in one way or another.

sub many {
	my ($target) = @_;

	my @live = map { live($target, 'slow1.example') } 1 .. 3;

	udp_get($target, 0.01);

	reset_close($_) for live_sockets($live[0]);
	live_end($live[1]);
	half_close($_) for grep { $_->opened() } live_sockets($live[2]);
	read_all($live[2]{connect}, 2);
	close $live[2]{peer};
	live_end($live[2]);

	1 while !udp_none($target, 0.01);
}

# As new_worker(), where also BIND listens.

sub next_worker {
	my ($t, $old) = @_;

	my $new;

	wait_for(sub {
		($new) = grep { $_ != $old && serves($_) } workers($t);
		return $new && !serves($old);
	});

	return $new;
}

sub serves {
	my ($pid) = @_;

	my $at = '127.0.0.1:' . port(8080);

	return scalar grep { $_ eq $at } listeners($pid);
}

# Not a zombie either: the master waits for its children.

sub alive {
	my ($pid) = @_;

	return kill 0, $pid;
}

sub logged {
	my ($t, $id) = @_;

	return (wait_log($t, 'socks.log', qr/^$id /) || '') =~ s/^\S+ //r;
}

sub configure {
	my ($t, $stream, $main) = @_;

	my $text = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
MAIN

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format socks '$remote_port $status $tunnel_result $tunnel_reason '
                     '$socks_command $tunnel_bytes_received '
                     '$tunnel_bytes_sent';
    access_log %%TESTDIR%%/socks.log socks;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    socks_bind on;
    socks_udp on;
    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    STREAM

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_auth basic test %%TESTDIR%%/htpasswd;
        socks_auth_delay 500ms;
    }
}

EOF

	$main = '' unless defined $main;
	$text =~ s/^MAIN$/$main/m;
	$text =~ s/^    STREAM$/    $stream/m;

	$t->write_file_expand('nginx.conf', $text);
}

###############################################################################
