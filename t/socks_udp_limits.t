#!/usr/bin/perl

# Tests for ngx_stream_socks_module: policy, floods, and what the machine does
# not give, for UDP ASSOCIATE.

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

use POSIX qw//;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	REMEMBERED	=> 256,		# targets of an association
	FLOOD		=> 0.7,		# seconds
	LATENCY		=> 3,		# less than a flood lasts
};

my $t = Test::Nginx->new()->has(qw/stream/)->plan(108);

start_daemon($t, \&echo_daemon, port(8091));

###############################################################################

configure($t, 'worker_connections 512;');
$t->run();

my ($pid) = workers($t);

# a first one, for what a worker keeps

udp_end(udp_associate(port(8080)));
wait_for(sub { tcp_count($pid) == 0 });

my $fds = fd_count($pid);

time_tests($t, $pid);
payload_tests($t, $pid);
rate_tests($t);
quota_tests($t);
destination_tests($pid);
flood_tests($t, $pid);

ok(wait_for(sub { tcp_count($pid) == 0 && !udp_sockets($pid) }),
	'no socket left open');
ok(wait_for(sub { fd_count($pid) <= $fds }), 'no descriptor left open')
	or diag(fd_count($pid) . " $fds");
is((workers($t))[0], $pid, 'worker is the same');

$t->stop();

# what the machine does not give

configure($t, 'worker_connections 32;');
$t->run();
machine_tests($t, 'connections');
$t->stop();

configure($t, 'worker_connections 512;', 'worker_rlimit_nofile 60;');
$t->run();
machine_tests($t, 'descriptors');

###############################################################################

# Times, all of them at once.

sub time_tests {
	my ($t, $pid) = @_;

	my $target = udp_socket('127.0.0.1');
	my %u = map { $_ => udp_associate(port($_)) } 8081 .. 8083;
	my $kept = udp_associate(port(8081));
	my $held = udp_associate(port(8080));
	my %id = map { $_ => $u{$_}{tcp}->sockport() } keys %u;
	my $kept_id = $kept->{tcp}->sockport();

	# datagrams keep an association, in either direction

	udp_send($kept, udp_address($target), 'kept');
	my (undef, $from) = udp_get($target);

	for my $n (1 .. 6) {
		sleep(0.25);
		$n % 2 ? udp_put($target, $from, 'down')
			: udp_send($kept, udp_address($target), 'up');
		udp_send($u{8082}, udp_address($target), 'moves');
	}

	1 while udp_get($target, 0.05);
	1 while udp_get($kept->{udp}, 0.05);
	is(udp_echo($kept, $target, 'kept'), '', 'datagrams keep it');

	ended($t, $u{8081}, $id{8081}, 'idle_timeout', 'idle timeout',
		0.7);
	ended($t, $u{8082}, $id{8082}, 'max_lifetime', 'lifetime', 0.9);
	ended($t, $u{8083}, $id{8083}, 'min_rate', 'minimum rate', 2);

	# nobody sends any longer; garbage keeps nothing

	my $start = time();
	my $stranger = udp_socket('127.0.0.2');

	while (time() < $start + 2.5) {
		udp_put($kept->{udp}, $kept->{relay}, 'garbage');
		udp_put($stranger, $kept->{relay}, 'stranger');
		last if (read_n($kept->{tcp}, 1, 0.1))[1] ne 'TIMEOUT';
	}

	ended($t, $kept, $kept_id, 'idle_timeout', 'garbage keeps nothing');

	is(udp_echo($held, $target, 'hello'), '', 'no timeout');
	udp_end($held);

	ok(wait_for(sub { !udp_sockets($pid) }, 2), 'no UDP socket left');
}

sub payload_tests {
	my ($t, $pid) = @_;

	my $target = udp_socket('127.0.0.1');
	my $at = udp_address($target);

	# up and down together: no datagram is cut

	my $u = udp_associate(port(8084));
	my $id = $u->{tcp}->sockport();
	is(udp_echo($u, $target, pattern(40)), '', 'payload, within');
	udp_send($u, $at, pattern(20));
	is((udp_get($target))[0], pattern(20), 'payload, exactly');
	udp_send($u, $at, 'x');
	ok(udp_none($target), 'payload, beyond');
	is(ended($t, $u, $id, 'max_payload', 'payload'), '60 40',
		'payload, counted');

	# a datagram which does not fit as a whole

	$u = udp_associate(port(8084));
	$id = $u->{tcp}->sockport();
	is(udp_echo($u, $target, pattern(30)), '', 'payload, first');
	udp_send($u, $at, pattern(41));
	ok(udp_none($target), 'payload, one which does not fit');
	is(ended($t, $u, $id, 'max_payload', 'payload, too large'), '30 30',
		'payload, too large, counted');

	# answers

	$u = udp_associate(port(8084));
	$id = $u->{tcp}->sockport();
	udp_send($u, $at, 'x');
	my (undef, $from) = udp_get($target);
	udp_put($target, $from, pattern(99));
	is((udp_read($u))[0], pattern(99), 'payload of answers');
	udp_put($target, $from, 'y');
	ok(udp_none($u->{udp}), 'payload of answers, beyond');
	is(ended($t, $u, $id, 'max_payload', 'payload of answers'), '1 99',
		'payload of answers, counted');

	# one direction

	$u = udp_associate(port(8085));
	$id = $u->{tcp}->sockport();
	is(udp_echo($u, $target, pattern(50)), '', 'payload of uploads');
	udp_send($u, $at, pattern(50));
	(undef, $from) = udp_get($target);
	udp_put($target, $from, pattern(500));
	is((udp_read($u))[0], pattern(500), 'downloads are free');
	udp_send($u, $at, 'x');
	ok(udp_none($target), 'payload of uploads, beyond');
	is(ended($t, $u, $id, 'max_payload', 'payload of uploads'),
		'100 550', 'payload of uploads, counted');

	ok(wait_for(sub { !udp_sockets($pid) }, 2), 'no UDP socket left');
}

# Rates delay, and lose nothing that a socket holds.

sub rate_tests {
	my ($t) = @_;

	my $target = udp_socket('127.0.0.1');

	my $u = udp_associate(port(8086));
	my $start = time();
	udp_send($u, udp_address($target), pattern(1000, $_)) for 1 .. 30;
	my %got = map { defined $_ ? ($_ => 1) : () }
		map { (udp_get($target, 5))[0] } 1 .. 30;
	my $time = time() - $start;
	is(scalar(grep { $got{pattern(1000, $_)} } 1 .. 30), 30,
		'upload rate, all arrive');
	ok($time > 0.7 && $time < 6, 'upload rate') or diag($time);

	udp_send($u, udp_address($target), 'x');
	my (undef, $from) = udp_get($target, 5);
	$start = time();
	udp_put($target, $from, pattern(1000, $_)) for 1 .. 30;
	%got = map { defined $_ ? ($_ => 1) : () }
		map { (udp_read($u, 5))[0] } 1 .. 30;
	$time = time() - $start;
	is(scalar(grep { $got{pattern(1000, $_)} } 1 .. 30), 30,
		'downloads, all arrive');
	cmp_ok($time, '<', 0.7, 'downloads are not limited');

	# while it waits, its TCP connection may end

	my $id = $u->{tcp}->sockport();
	udp_send($u, udp_address($target), pattern(9000)) for 1 .. 10;
	close $u->{tcp};
	like(logged($t, $id, 2), qr/^200 ok client_closed /,
		'rate, end meanwhile');
}

sub quota_tests {
	my ($t) = @_;

	my $target = udp_socket('127.0.0.1');
	my $at = udp_address($target);

	my $u = udp_associate(port(8087));
	my $v = udp_associate(port(8087));
	my $id = $u->{tcp}->sockport();
	my $id2 = $v->{tcp}->sockport();

	is(udp_echo($u, $target, pattern(300)), '', 'quota');
	is(udp_echo($v, $target, pattern(150)), '', 'quota, another one');

	# a datagram which does not fit as a whole takes the rest with it

	udp_send($u, $at, pattern(101));
	ok(udp_none($target), 'quota, no room');
	is(ended($t, $u, $id, 'quota', 'quota'), '300 300', 'quota, counted');

	udp_send($v, $at, 'x');
	ok(udp_none($target), 'quota, spent');
	is(ended($t, $v, $id2, 'quota', 'quota, another one'), '150 150',
		'quota, another one, counted');

	# new ones

	my ($s, @reply) = socks_command(port(8087), 5, 'udp', '0.0.0.0', 0);
	is(join(' ', @reply), '2 0.0.0.0:0', 'quota, new association');
	$id = $s->sockport();
	close $s;
	like(logged($t, $id), qr/^429 client_limit - /,
		'quota, new association, logged');
}

# The last of its targets may answer.

sub destination_tests {
	my ($pid) = @_;

	my @targets = map { udp_socket('127.0.' . int($_ / 100 + 1) . '.'
		. ($_ % 100 + 1)) } 1 .. REMEMBERED + 44;

	my $u = udp_associate(port(8080));
	my $fds = fd_count($pid);
	my @from;
	my $good = 0;

	for my $target (@targets) {
		udp_send($u, udp_address($target), 'hello');
		my ($bytes, $from) = udp_get($target);
		push @from, $from;
		$good++ if defined $bytes && $bytes eq 'hello';
	}

	is($good, scalar @targets, 'many targets');
	cmp_ok(fd_count($pid) - $fds, '<', 10, 'many targets, few sockets');

	udp_put($targets[$_], $from[$_], "from $_")
		for reverse $#targets - REMEMBERED + 1 .. $#targets;

	$good = 0;

	for my $n (reverse $#targets - REMEMBERED + 1 .. $#targets) {
		my ($bytes, $from) = udp_read($u);
		last unless defined $bytes;
		$good++ if $bytes eq "from $n"
			&& $from eq udp_address($targets[$n]);
	}

	is($good, REMEMBERED, 'many answers');

	udp_put($targets[$_], $from[$_], 'forgotten') for 0 .. 9;
	ok(udp_none($u->{udp}), 'the first of them are forgotten');

	is(udp_echo($u, $targets[0], 'again'), '', 'and known again');
	is(udp_echo($u, $targets[-1], 'last'), '', 'as is the last one');

	udp_end($u);

	# it is the one not used for longest that is forgotten

	$u = udp_associate(port(8080));

	for my $n (0 .. 200, 0, 201 .. $#targets) {
		udp_send($u, udp_address($targets[$n]), 'hello');
		(undef, $from[$n]) = udp_get($targets[$n]);
	}

	udp_put($targets[0], $from[0], 'used');
	is((udp_read($u))[0], 'used', 'a target that is used is kept');
	udp_put($targets[1], $from[1], 'forgotten');
	ok(udp_none($u->{udp}), 'one that is not is forgotten');

	udp_end($u);
}

# Others go on while somebody floods.

sub flood_tests {
	my ($t, $pid) = @_;

	my $target = udp_socket('127.0.0.1');
	my $sink = udp_socket('127.0.0.2');

	my $u = udp_associate(port(8080));
	my $other = udp_associate(port(8080));
	my ($s, $code) = socks_command(port(8080), 5, 'connect', '127.0.0.1',
		port(8091));
	is(echo($s, 'hello'), 'hello', 'before a flood');
	is(udp_echo($u, $target, 'hello'), '', 'before a flood, UDP');

	my $good = udp_header('127.0.0.2', udp_port($sink)) . 'x' x 100;

	for my $case (
		[ 'garbage', 'garbage', $u->{udp} ],
		[ 'a stranger', $good, udp_socket('127.0.0.3') ],
		[ 'denied datagrams', udp_header('10.1.2.3', 9) . 'x',
			$u->{udp} ],
		[ 'datagrams', $good, $u->{udp} ],
	) {
		my ($name, $bytes, $from) = @$case;

		my $flood = flood($from, $u->{relay}, $bytes);
		my $until = time() + FLOOD;
		my ($rounds, $good, $slow) = (0, 0, 0);

		while (time() < $until) {
			my $start = time();
			$rounds++;
			$good++ if echo($s, "round $rounds")
				eq "round $rounds";
			$good++ if udp_echo($other, $target, 'beside it')
				eq '';
			my $time = time() - $start;
			$slow = $time if $time > $slow;
			sleep(0.01);
		}

		kill 'KILL', $flood;
		waitpid($flood, 0);

		is($good, 2 * $rounds, "flood of $name, others go on");
		cmp_ok($slow, '<', LATENCY, "flood of $name, others in time");

		my ($new, $reply) = socks_command(port(8080), 5, 'connect',
			'127.0.0.1', port(8091));
		is($reply, 0, "flood of $name, new tunnels");
		close $new;
	}

	# it is served itself when the flood has gone by

	1 while !udp_none($sink, 0.3);
	is(udp_echo($u, $target, 'after all'), '', 'after all floods');

	my ($lines, $size) = (0, 0);

	open my $fh, '<', $t->testdir() . '/error.log' or die "no log: $!\n";

	while (my $line = <$fh>) {
		next if $line =~ /\[debug\]/;
		$lines++ if $line =~ /10\.1\.2\.3/;
		$size += length $line;
	}

	is($lines, 1, 'one line for all denied datagrams');
	cmp_ok($size, '<', 1048576, 'the log is not flooded');

	close $s;
	udp_end($_) for $u, $other;
}

sub flood {
	my ($s, $to, $bytes) = @_;

	my $parent = $$;
	my $pid = fork();
	die "Can't fork: $!\n" unless defined $pid;

	return $pid if $pid;

	my $until = time() + FLOOD + 5;

	while (time() < $until && getppid() == $parent) {
		udp_put($s, $to, $bytes) for 1 .. 200;
	}

	POSIX::_exit(0);
}

# No more connections, or descriptors.

sub machine_tests {
	my ($t, $what) = @_;

	my ($pid) = workers($t);
	my $target = udp_socket('127.0.0.1');
	my $six = udp_socket('::1');

	my $first = udp_associate(port(8080));
	is(udp_echo($first, $target, 'hello'), '', "$what, association");

	my (@u, @others, $refused);

	# a client that says nothing holds one, so that in some round an
	# association only misses one of those it needs

	for my $n (1 .. 60) {
		my $u = udp_associate(port(8080), timeout => 2);

		if (!defined $u->{code} || $u->{code} != 0) {
			$refused = $u->{code};
			last;
		}

		if ($n <= 3) {
			push @u, $u;

		} else {
			udp_end($u);
			push @others, tcp_connect(port(8088));
		}

		wait_for(sub { tcp_count($pid) == 1 + @u + @others });
	}

	is($refused, 1, "$what, refused");
	ok(wait_log($t, 'socks.log', qr/^\d+ 503 machine_limit - /),
		"$what, logged");
	is(udp_echo($first, $target, 'again'), '', "$what, others go on");

	# what comes later, for a target of another family

	udp_send($first, udp_address($six), 'hello');
	udp_get($six, 0.3);
	is(udp_echo($first, $target, 'again'), '', "$what, another family");

	# there is one less than for an association: BIND listens, but its peer
	# is too much

	wait_for(sub { tcp_count($pid) == 1 + @u + @others });
	my ($s, $code, $at) = socks_command(port(8080), 5, 'bind', '0.0.0.0',
		0);
	is($code, 0, "$what, BIND");
	my $peer = peer_connect($at);
	is((read_reply($s, 5))[0], 1, "$what, BIND, peer");
	isnt($peer ? (read_all($peer))[1] : 'RESET', 'TIMEOUT',
		"$what, BIND, peer is closed");
	ok(!(grep { $_ eq $at } listeners($pid)),
		"$what, BIND, listens no longer");
	close $s;

	close $_ for @others;
	udp_end($_) for @u;
	ok(wait_for(sub { tcp_count($pid) == 1 }), "$what, clients gone");

	my $last = udp_associate(port(8080));
	is(udp_echo($last, $target, 'hello'), '',
		"$what, association after the limit");
	udp_end($_) for $first, $last;
	ok(wait_for(sub { tcp_count($pid) == 0 && !udp_sockets($pid) }),
		"$what, none left open");
	is((workers($t))[0], $pid, "$what, worker is the same");

	unlink $t->testdir() . '/socks.log';
}

###############################################################################

# Waits for the end of an association; what it has counted.

sub ended {
	my ($t, $u, $id, $reason, $name, $min) = @_;

	isnt((read_n($u->{tcp}, 1, 4))[1], 'TIMEOUT', "$name, end");
	udp_end($u);

	my $line = logged($t, $id);
	my ($bytes, $time) = $line =~ /^200 ok $reason (\d+ \d+) (\S+)$/;
	ok(defined $bytes, "$name, logged") or diag($line);

	ok(defined $time && $time > $min - 0.05 && $time < $min + 2,
		"$name, in time") or diag($line) if defined $min;

	return $bytes;
}

sub logged {
	my ($t, $id, $timeout) = @_;

	return (wait_log($t, 'socks.log', qr/^$id /, $timeout) || '')
		=~ s/^\S+ //r;
}

sub configure {
	my ($t, $events, $main) = @_;

	$main = '' unless defined $main;

	my $text = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
MAIN

events {
    EVENTS
}

stream {
    %%TEST_GLOBALS_STREAM%%

    # a flood would fill it

    error_log %%TESTDIR%%/error.log info;

    log_format socks '$remote_port $status $tunnel_result $tunnel_reason '
                     '$tunnel_bytes_received $tunnel_bytes_sent '
                     '$tunnel_time';
    access_log %%TESTDIR%%/socks.log socks;

    relay_quota_zone $server_port zone=quota:64k limit=1000 per=1h;

    socks_udp on;
    socks_bind on;
    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        relay_idle_timeout 700ms;
    }

    server {
        listen 127.0.0.1:8082;
        socks;
        relay_max_lifetime 900ms;
    }

    server {
        listen 127.0.0.1:8083;
        socks;
        relay_min_rate 60000 window=1s grace=1s;
    }

    server {
        listen 127.0.0.1:8084;
        socks;
        relay_max_payload 100;
    }

    server {
        listen 127.0.0.1:8085;
        socks;
        relay_max_payload 100 upload;
    }

    server {
        listen 127.0.0.1:8086;
        socks;
        relay_upload_rate 20k;
    }

    server {
        listen 127.0.0.1:8087;
        socks;
        relay_quota quota;
    }

    # clients that wait

    server {
        listen 127.0.0.1:8088;
        socks;
        socks_handshake_timeout 60s;
    }
}

EOF

	$text =~ s/^MAIN$/$main/m;
	$text =~ s/EVENTS/$events/;

	$t->write_file_expand('nginx.conf', $text);
}

###############################################################################
