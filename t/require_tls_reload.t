#!/usr/bin/perl

# Tests for target_require_tls: tunnels whose first bytes are held while nginx
# is reloaded or stopped, and many of them at once.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Hello;
use Test::Nginx::Relay;
use Test::Nginx::RequireTls;

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http stream stream_set/)->plan(38);

my $d = $t->testdir();

port(8980, udp => 1);

configure($t, timeout => '1s');

pattern(1);

start_daemon($t, \&record_daemon, port(8091), "$d/target");
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { 'name.example' => '127.0.0.1' });

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my $hello = hello(sni => 'name.example', tls13 => 1);
my $size = length $hello;

# descriptors and memory, after many that are held and end in all ways

my ($old) = workers($t);

many($t, 10) for 1 .. 2;
ok(wait_for(sub { tcp_count($old) == 0 }), 'tunnels ended');

my $fds = fd_count($old);
my $rss = rss($old);
my $reported = () = log_lines($t, 'target');

my @ends = map { { many($t, 40) } } 1, 2;

ok(wait_for(sub { tcp_count($old) == 0 }), 'all of many ended');
ok(wait_for(sub { fd_count($old) <= $fds }), 'no descriptors left')
	or diag(fd_count($old) . " $fds");

# what is freed, a sanitizer keeps for a while

my $limit = $t->has_module('fsanitize') ? 64 : 4;
cmp_ok(rss($old) - $rss, '<', $limit * 1048576, 'no memory left');

is(join(' ', map { $_->{good} } @ends), '24 24',
	'those with a hello have echoed');
is(join('', map { $_->{cut} } @ends), '', 'and the others got nothing');

my @got = wait_lines($t, $reported + 240);
is(scalar(grep { /^$size / } @got[$reported .. $#got]), 48,
	'targets got the hellos');
is(scalar(grep { !/^(?:0|$size) / } @got), 0, 'and nothing else');

my %reason;
$reason{(split)[3]}++ for log_lines($t, 'tunnel.log');
is(join(' ', map { "$_ $reason{$_}" } sort keys %reason),
	'client_reset 60 completed 60 not_tls 180', 'many are logged');

configure($t);
my $idle = $old;
$t->reload();
$old = new_worker($t, $idle);

# reload: they are still held, by the old worker

my $held = held($t);

$t->reload();
my $new = new_worker($t, $old);
ok($new, 'new worker');

sleep(0.3);
finish($t, $held, 'reload');
ok(wait_for(sub { !alive($old) }), 'old worker ends with them');

$held = held($t);
finish($t, $held, 'new worker');

# what holds is the configuration of their time

$held = held($t);
$old = $new;
configure($t, tls => 'off', timeout => '1s');
$t->reload();
$new = new_worker($t, $old);

cut($t, $held, 'reload to off');
ok(wait_for(sub { !alive($old) }), 'old worker ends with those that are cut');

# which is off from now on

my ($s) = connect_tunnel(port(8080), 'name.example:' . port(8091));
is(echo($s, 'plain'), 'plain', 'off in the new worker');
half_close($s);
read_all($s);

# a time goes on in an old worker

configure($t, timeout => '1s');
$old = $new;
$t->reload();
$new = new_worker($t, $old);

$held = held($t);
my $start = time();
$old = $new;
configure($t);
$t->reload();
$new = new_worker($t, $old);

silent($t, $held, 'timeout in an old worker', 'not_tls');
cmp_ok(time() - $start, '<', 5, 'timeout in an old worker, in time');
ok(wait_for(sub { !alive($old) }), 'old worker ends with its timeouts');

# worker_shutdown_timeout

configure($t, main => 'worker_shutdown_timeout 1s;', timeout => '20s');
$old = $new;
$t->reload();
$new = new_worker($t, $old);

$held = held($t);
$start = time();
$old = $new;
$t->reload();
$new = new_worker($t, $old);

silent($t, $held, 'worker_shutdown_timeout', 'shutdown');
cmp_ok(time() - $start, '<', 6, 'worker_shutdown_timeout, in time');
ok(wait_for(sub { !alive($old) }), 'worker_shutdown_timeout, worker ends');

# QUIT

configure($t);
$old = $new;
$t->reload();
$new = new_worker($t, $old);

$held = held($t);
kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !tcp_connect(port(8080), timeout => 1) }),
	'QUIT, no new connections');
finish($t, $held, 'QUIT');
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'QUIT, nginx ends');

# QUIT, and they never say anything

configure($t, timeout => '1s');
$t->run();
$held = held($t);
kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
silent($t, $held, 'QUIT and silence', 'not_tls');
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'QUIT and silence, nginx ends');

# TERM

configure($t);
$t->run();
$held = held($t);
kill 'TERM', $t->read_file('nginx.pid') =~ /(\d+)/;
silent($t, $held, 'TERM', '');
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'TERM, nginx ends');

is(scalar(grep { !/^(?:0|5|$size) / } log_lines($t, 'target')), 0,
	'no target ever got a part');

$t->run();

###############################################################################

# Tunnels of each front end that have sent nothing, one byte, and half a hello.

sub held {
	my ($t) = @_;

	# some may have timed out when all of them are there

	my $logged = () = log_lines($t, 'tunnel.log');
	my @held;

	for my $front (qw/ http socks stream preread /) {
		for my $n (0, 1, 60) {

			my $s = open_tunnel($front);
			write_all($s, substr(hello_bytes(), 0, $n));

			push @held, { front => $front, n => $n, s => $s,
				id => $s->sockport() };
		}
	}

	# those that have a target have reached it, so have their bytes

	wait_for(sub {
		return grep { tcp_count($_) >= 3 * 3 * 2 + 3 } workers($t);
	}, 2);
	sleep(0.1);

	return { reported => scalar(() = log_lines($t, 'target')),
		logged => $logged, all => \@held };
}

sub hello_bytes {
	return hello(sni => 'name.example', tls13 => 1);
}

sub open_tunnel {
	my ($front) = @_;

	my $port = port(8091);

	return tcp_connect(port(8082)) if $front eq 'stream';
	return tcp_connect(port(8083)) if $front eq 'preread';
	return (connect_tunnel(port(8080), "name.example:$port"))[0]
		if $front eq 'http';
	return (socks5_tunnel(port(8081), 'name.example', $port))[0];
}

# 2 tests: the rest of the hello comes, and is echoed.

sub finish {
	my ($t, $held, $what) = @_;

	my $hello = hello_bytes();
	my @bad;

	for (@{$held->{all}}) {
		write_all($_->{s}, substr($hello, $_->{n}));
		push @bad, "$_->{front} $_->{n}"
			if read_n($_->{s}, length $hello) ne $hello;

		half_close($_->{s});
		read_all($_->{s});
		close $_->{s};
	}

	is("@bad", '', "$what, all are let through");
	is(told($t, $held), length($hello) . ' bytes to 12, completed 12',
		"$what, targets and log");
}

# 2 tests: something else comes.

sub cut {
	my ($t, $held, $what) = @_;

	my @bad;

	for (@{$held->{all}}) {
		write_all($_->{s}, "\xff" x 500);

		my ($bytes, $state) = read_all($_->{s}, 4);
		push @bad, "$_->{front} $_->{n}: " . length($bytes) . " $state"
			if $bytes ne '' || $state eq 'TIMEOUT';
		close $_->{s};
	}

	is(join("\n", @bad), '', "$what, all are cut");
	is(told($t, $held), '0 bytes to 12, not_tls 12',
		"$what, targets and log");
}

# 2 tests: nothing comes.  Without a reason it is not logged how they end.

sub silent {
	my ($t, $held, $what, $reason) = @_;

	my @bad;

	for (@{$held->{all}}) {
		my ($bytes, $state) = read_all($_->{s}, 8);
		push @bad, "$_->{front} $_->{n}: " . length($bytes) . " $state"
			if $bytes ne '' || $state eq 'TIMEOUT';
		close $_->{s};
	}

	is(join("\n", @bad), '', "$what, all end");

	# nothing is connected before tunnel_preread has seen something

	my @lines = wait_lines($t, $held->{reported} + 9);
	my @more = grep { !/^0 / } @lines[$held->{reported} .. $#lines];

	is("@more", '', "$what, no byte for a target") if $reason eq '';
	return if $reason eq '';

	wait_for(sub { (() = log_lines($t, 'tunnel.log'))
		>= $held->{logged} + 12 }, 4);

	my @log = log_lines($t, 'tunnel.log');
	my @reasons = map { (split)[3] } @log[$held->{logged} .. $#log];

	is(join(' ', @more, scalar(grep { $_ eq $reason } @reasons) >= 9
		? 'logged' : "@reasons"), 'logged',
		"$what, no byte for a target, and log");
}

sub told {
	my ($t, $held) = @_;

	my @targets = wait_lines($t, $held->{reported} + 12);
	wait_for(sub { (() = log_lines($t, 'tunnel.log'))
		>= $held->{logged} + 12 }, 4);
	my @log = log_lines($t, 'tunnel.log');

	my (%size, %reason);
	$size{(split)[0]}++ for @targets[$held->{reported} .. $#targets];
	$reason{(split)[3]}++ for @log[$held->{logged} .. $#log];

	return join ', ', (map { "$_ bytes to $size{$_}" } sort keys %size),
		map { "$_ $reason{$_}" } sort keys %reason;
}

# What targets told, once it is so much.

sub wait_lines {
	my ($t, $count) = @_;

	my @lines;

	wait_for(sub {
		@lines = log_lines($t, 'target');
		return @lines >= $count;
	}, 4);

	return @lines;
}

# So many of each front end at once, which are held and end in five ways; how
# many have echoed, and what the others got.

sub many {
	my ($t, $count) = @_;

	my $hello = hello_bytes();
	my %ends = (good => 0, cut => '');
	my @open;

	for my $front (qw/ http socks stream /) {
		push @open, map { [ $_, open_tunnel($front) ] } 1 .. $count;
	}

	write_all($_->[1], substr($hello, 0, 60)) for @open;

	for (@open) {
		my ($n, $s) = @$_;

		write_all($s, substr($hello, 60)) if $n % 5 == 0;
		write_all($s, "\xff" x 500) if $n % 5 == 1;
		half_close($s) if $n % 5 == 2;
		reset_close($s) if $n % 5 == 3;

		# the last ones are silent
	}

	for (@open) {
		my ($n, $s) = @$_;

		next if $n % 5 == 3;

		if ($n % 5 == 0) {
			$ends{good}++
				if read_n($s, length $hello) eq $hello;
			half_close($s);
			read_all($s, 4);

		} else {
			my ($bytes, $state) = read_all($s, 8);
			$ends{cut} .= length($bytes) . $state if $bytes ne ''
				|| $state eq 'TIMEOUT';
		}

		close $s;
	}

	return %ends;
}

# Not a zombie either: the master waits for its children.

sub alive {
	my ($pid) = @_;

	return kill 0, $pid;
}

sub configure {
	my ($t, %opt) = @_;

	%opt = (tls => 'sni', timeout => '3s', main => '', %opt);

	my $common = <<"EOF";
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    target_require_tls $opt{tls};
    tunnel_preread_timeout $opt{timeout};
EOF

	my $format = '$remote_port $status $tunnel_result $tunnel_reason '
		. '$tunnel_bytes_received';

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$opt{main}

events {
    worker_connections 2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$format';
$common
    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$format';
$common
    server {
        listen 127.0.0.1:8081;
        socks;
    }

    server {
        listen 127.0.0.1:8082;
        set \$target name.example:%%PORT_8091%%;
        passthrough \$target;
    }

    server {
        listen 127.0.0.1:8083;
        tunnel_preread on;
        set \$target name.example:%%PORT_8091%%;
        passthrough \$target;
    }
}

EOF
}

###############################################################################
