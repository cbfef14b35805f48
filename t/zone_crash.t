#!/usr/bin/perl

# Tests for tunnel_zone: workers that are killed, or told to exit, while they
# have tunnels and attempts.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Status;

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	TUNNELS		=> 24,		# of three front ends
	ATTEMPTS	=> 12,
	MAX		=> 36,
	CLIENTS		=> 4,		# at once, while workers are killed
	KILLS		=> 6,
};

# the alert "worker process exited on signal 9" is nginx's own

my $t = Test::Nginx->new()->has(qw/http map stream/)->todo_alerts()->plan(58);

my $d = $t->testdir();
my @fronts = qw/ connect socks passthrough /;

my $status = status_conf(control => 1);

my $rules = <<'EOF';
    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    target_connect_timeout 30s;
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:1m;
    tunnel_zone_key \$http_x_key;

$rules
    server {
        listen 127.0.0.1:8080 reuseport;
        connect_tunnel;
        tunnel_max_connections ${\MAX};
    }

    server {
        listen 127.0.0.1:8084 reuseport;
        connect_tunnel;
    }

    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone tunnels;

$rules
    server {
        listen 127.0.0.1:8081 reuseport;
        socks;
    }

    server {
        listen 127.0.0.1:8082 reuseport;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8083 reuseport;
        passthrough 127.0.0.1:8101;
        target_connect_timeout 30s;
    }
}
EOF

start_daemon($t, \&echo_daemon, port(8091));

my $backlog = full_backlog(port(8101));

$t->run();

###############################################################################

# SIGKILL

crash('KILL', 'killed');
crash('KILL', 'killed again');

# TERM ends a worker and its tunnels, and the master starts another one

crash('TERM', 'TERM');

# QUIT lets the tunnels go on

my ($all) = fill();
my ($victim, $other) = workers($t);
my $before = status();

kill 'QUIT', $victim;

ok(wait_for(sub { !listen_count($victim) }), 'QUIT, it takes no more');

my $now = status();
is($now->{total}{active}, $before->{total}{active}, 'QUIT, tunnels go on');
is(scalar(grep { echo($_, 'hello') eq 'hello' } @{$all->{tunnels}}),
	TUNNELS, 'QUIT, they work');

empty($all);
$now = wait_status(sub { quiet($_[0]) && @{$_[0]{workers}} == 2 }) || status();
is(scalar(grep { $_->{pid} == $victim } @{$now->{workers}}), 0,
	'QUIT, it has gone');
is($now->{total}{ended}{worker_exited},
	$before->{total}{ended}{worker_exited}, 'QUIT, none cut');
is_deeply([ status_bad($now) ], [], 'QUIT, all fits');

# both at once

$all = fill();
$before = status();
kill 'KILL', workers($t);

ok(wait_for(sub { eval { quiet(status()) } }), 'both killed');
$now = status();
is($now->{total}{ended}{worker_exited}
	- $before->{total}{ended}{worker_exited}, TUNNELS,
	'both killed, worker_exited');
is($now->{total}{results}{canceled} - $before->{total}{results}{canceled},
	ATTEMPTS, 'both killed, canceled');
is_deeply([ status_bad($now) ], [], 'both killed, all fits');
is("@{$now->{tunnels}}", '', 'both killed, table');
is(join(' ', map { $_->{active} } @{$now->{keys}}), '0',
	'both killed, keys');
is(room(), MAX, 'both killed, room');
reset_close($_) for map { @$_ } values %$all;

# in the middle of what they do

storm();

# all of it ends

$all = fill();
kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !tcp_connect(port(8080), timeout => 1) }), 'quit');
is(scalar(grep { echo($_, 'hello') eq 'hello' } @{$all->{tunnels}}),
	TUNNELS, 'quit, tunnels go on');
empty($all);
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'quit, ended');

$t->run();
$now = status();
is($now->{total}{opened} + $now->{total}{active}, 0, 'counted anew');

$all = fill();
kill 'TERM', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'TERM of all, ended');
reset_close($_) for map { @$_ } values %$all;

is(scalar(grep { /\[(?:alert|emerg|crit)\]/ && !/ exited on signal 9/ }
	log_lines($t, 'error.log')), 0, 'no other alerts');

$t->run();

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

# One of two workers ends: 11 tests.

sub crash {
	my ($signal, $name) = @_;

	my $all = fill();
	my $before = status();

	is(room(), 0, "$name, no room before");
	is($before->{total}{active}, TUNNELS, "$name, tunnels");

	my ($victim, $other) = map { $_->{pid} } sort {
		$b->{active} <=> $a->{active} } @{$before->{workers}};
	my ($had) = grep { $_->{pid} == $victim } @{$before->{workers}};
	my ($has) = grep { $_->{pid} == $other } @{$before->{workers}};

	ok($had->{active} && $had->{connecting} && $has->{active}
		&& $has->{connecting}, "$name, both have some");

	kill $signal, $victim;

	# whoever looks finds it gone, be there another one or not

	ok(wait_for(sub { !kill 0, $victim }), "$name, gone");

	my $now = status();
	my $total = $now->{total};

	is("$total->{active} $total->{connecting}",
		"$has->{active} $has->{connecting}", "$name, those of others");
	is($total->{ended}{worker_exited}
		- $before->{total}{ended}{worker_exited}, $had->{active},
		"$name, worker_exited");
	is($total->{results}{canceled} - $before->{total}{results}{canceled},
		$had->{connecting}, "$name, canceled");
	is_deeply([ status_bad($now) ], [], "$name, all fits");
	is_deeply([ map { $_->{id} } @{$now->{tunnels}} ],
		[ map { $_->{id} } grep { $_->{pid} != $victim }
			@{$before->{tunnels}} ], "$name, table");

	wait_for(sub { 2 == grep { listen_count($_) } workers($t) });

	is(room(), $had->{active} + $had->{connecting}, "$name, room");

	empty($all);
	$now = wait_status(\&quiet) || status();
	is_deeply([ status_bad($now) ], [], "$name, all fits in the end");
}

# As many as there may be: tunnels, and attempts that go on for ever, of both
# workers.

sub fill {
	my (@tunnels, @attempts);

	for my $n (0 .. TUNNELS - 1) {
		push @tunnels, open_one($fronts[$n % 3]);
		write_all($tunnels[-1], 'hello');
		read_n($tunnels[-1], 5);
	}

	push @attempts, attempt($fronts[$_ % 3]) for 0 .. ATTEMPTS - 1;

	wait_status(sub { $_[0]{total}{active} == TUNNELS
		&& $_[0]{total}{connecting} == ATTEMPTS });

	return { tunnels => \@tunnels, attempts => \@attempts };
}

sub empty {
	my ($all) = @_;

	reset_close($_) for @{$all->{attempts}};
	half_close($_), read_all($_) for @{$all->{tunnels}};
}

sub quiet {
	my ($status) = @_;

	return !$status->{total}{active} && !$status->{total}{connecting};
}

sub open_one {
	my ($front) = @_;

	my $to = port(8091);
	my $s;

	return tcp_connect(port(8082)) if $front eq 'passthrough';

	($s) = $front eq 'socks'
		? socks5_tunnel(port(8081), '127.0.0.1', $to)
		: connect_tunnel(port(8084), "127.0.0.1:$to",
			headers => [ 'X-Key: key' ]);

	return $s;
}

sub attempt {
	my ($front) = @_;

	my $s = tcp_connect(port($front eq 'passthrough' ? 8083
		: $front eq 'socks' ? 8081 : 8084));

	write_all($s, socks5_greeting()
		. socks5_request('127.0.0.1', port(8101)))
		if $front eq 'socks';
	write_all($s, connect_request('127.0.0.1:' . port(8101)))
		if $front eq 'connect';

	return $s;
}

# How many more there may be, which are closed again.

sub room {
	my @s;
	my $before = status()->{total};

	while (@s <= MAX) {
		my ($s, $head) = connect_tunnel(port(8080),
			'127.0.0.1:' . port(8091));

		last if $head !~ / 200 /;
		push @s, $s;
	}

	half_close($_), read_all($_) for @s;

	wait_status(sub {
		$_[0]{total}{active} == $before->{active}
			&& $_[0]{total}{connecting} == $before->{connecting};
	});

	return scalar @s;
}

# Workers are killed while others open and end tunnels as fast as they can.

sub storm {
	my $before = status();
	my @clients;

	for (1 .. CLIENTS) {
		my $pid = fork();
		die "Can't fork: $!\n" unless defined $pid;

		if ($pid) {
			push @clients, $pid;
			next;
		}

		local $SIG{PIPE} = 'IGNORE';
		alarm(20);

		while (!-e "$d/calm") {
			my $s = open_one($fronts[rand 3]) or next;

			write_all($s, 'hello');
			read_n($s, 5, 0.2);
			reset_close($s);
		}

		POSIX::_exit(0);
	}

	my @killed;

	for (1 .. KILLS) {
		sleep(0.1 + rand 0.2);

		my ($pid) = workers($t);
		push @killed, $pid;
		kill 'KILL', $pid;

		wait_for(sub { !kill 0, $pid });
	}

	$t->write_file('calm', '');
	waitpid $_, 0 for @clients;

	my $now;
	ok(wait_for(sub { $now = eval { status() }; $now && quiet($now) }),
		'storm, over');

	cmp_ok($now->{total}{opened}, '>', $before->{total}{opened} + 100,
		'storm, many');
	is_deeply([ status_bad($now) ], [], 'storm, all fits');
	is("@{$now->{tunnels}}", '', 'storm, table');
	is(room(), MAX, 'storm, room');

	my %key = map { $_->{key} => $_ } @{$now->{keys}};
	is($key{key}{active}, 0, 'storm, keys');
}

###############################################################################
