#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: thousands of tunnels while nginx is
# reloaded, stopped or killed.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

use IO::Poll qw/ POLLIN /;
use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MB		=> 1048576,
	TUNNELS		=> 1000,	# of each front end
	BATCH		=> 100,		# opened at a time
	FILES		=> 6000,
};

more_files();

# that a worker was killed is an alert of nginx

my $t = Test::Nginx->new()->has(qw/http stream/)->todo_alerts()->plan(28);

configure($t, 'first');

start_daemon($t, \&poll_daemon, port(8091));

$t->run();

###############################################################################

# a worker killed; this comes first, as it is slow to search a long log up to an
# alert

my ($old) = workers($t);
my @s = open_all();
is(echo_all(@s), 2 * TUNNELS, 'tunnels before a kill');
kill 'KILL', $old;

is(at_end(@s), 2 * TUNNELS, 'all of the clients see the end');
my $new = new_worker($t, $old);
ok($new, 'another worker');

$old = $new;
ended($t, open_some(8080, 10), open_some(8081, 10));
wait_for(sub { tcp_count($old) == 0 });
my $fds = fd_count($old);
my $rss = rss($old);

# a reload

@s = open_all();
is(@s, 2 * TUNNELS, 'tunnels');
is(echo_all(@s), 2 * TUNNELS, 'bytes in each');
note('memory of a tunnel: ' . int((rss($old) - $rss) / @s));

configure($t, 'second');
$t->reload();
$new = new_worker($t, $old);
ok($new, 'reload');

is(echo_all(@s), 2 * TUNNELS, 'bytes in each after a reload');
# while others come and go, a socket may be missed by the count

ok(wait_for(sub { tcp_count($old) == 4 * TUNNELS }),
	'all with the old worker');

my $head = (connect_tunnel(port(8080), 'denied.example:1'))[1];
like($head, qr/^Proxy-Status: second/m, 'configuration of the new one');

my @new = (open_some(8080, 10), open_some(8081, 10));
is(echo_all(@new), 20, 'tunnels of the new worker');
ok(kill(0, $old), 'old worker waits');

ended($t, @s);
ok(wait_for(sub { !kill 0, $old }), 'old worker exits with its tunnels');
is(echo_all(@new), 20, 'tunnels of the new worker go on');
is(scalar(grep { / ok completed 20 20$/ } log_lines($t, 'tunnel.log')),
	2 * TUNNELS, 'all counted');
ended($t, @new);

# what they leave behind

wait_for(sub { tcp_count($new) == 0 });
is(fd_count($new), $fds, 'descriptors at first');

@s = open_all();
is(echo_all(@s), 2 * TUNNELS, 'tunnels again');
ended($t, @s);
ok(wait_for(sub { fd_count($new) <= $fds }), 'descriptors afterwards');
$rss = rss($new);

@s = open_all();
is(echo_all(@s), 2 * TUNNELS, 'tunnels once more');
reset_close($_) for @s;
ok(wait_for(sub { fd_count($new) <= $fds }), 'descriptors after resets');

my $limit = $t->has_module('fsanitize') ? 128 : 2;
cmp_ok(rss($new) - $rss, '<', $limit * MB, 'memory does not grow');

# TERM

@s = open_all();
is(echo_all(@s), 2 * TUNNELS, 'tunnels before TERM');
my $start = time();
my ($master) = $t->read_file('nginx.pid') =~ /(\d+)/;
kill 'TERM', $master;
is(at_end(@s), 2 * TUNNELS, 'TERM ends all of them');
ok(wait_for(sub { !-e $t->testdir() . '/nginx.pid' }), 'nginx ends');
cmp_ok(time() - $start, '<', 4, 'and soon');

# QUIT, with a limit

configure($t, 'third', 'worker_shutdown_timeout 300ms;');
$t->run();

@s = open_all();
is(echo_all(@s), 2 * TUNNELS, 'tunnels before QUIT');
$start = time();
($master) = $t->read_file('nginx.pid') =~ /(\d+)/;
kill 'QUIT', $master;
is(at_end(@s), 2 * TUNNELS, 'QUIT ends all of them');
ok(wait_for(sub { !-e $t->testdir() . '/nginx.pid' }), 'nginx quits');
is(scalar(grep { / ok shutdown 10 10$/ } log_lines($t, 'tunnel.log')),
	2 * TUNNELS, 'shutdown logged');

###############################################################################

# The limit of descriptors is this process's own, and nginx inherits it.

sub more_files {
	open my $fh, '<', '/proc/self/limits' or return;
	my ($soft) = map { /^Max open files\s+(\d+)/ } <$fh>;

	return if !defined $soft || $soft >= FILES || $ENV{RELAY_FILES}++;

	exec 'sh', '-c', 'ulimit -n ' . FILES . ' && exec "$@"', 'sh', $^X, $0;
}

sub configure {
	my ($t, $name, $main) = @_;

	$main = '' unless defined $main;

	my $common = <<'EOF';
    log_format tunnel 'tunnel $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    # debugging would be most of the work
    error_log %%TESTDIR%%/error.log info;
EOF

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_rlimit_nofile @{[ FILES ]};
$main

events {
    worker_connections @{[ FILES ]};
}

http {
    %%TEST_GLOBALS_HTTP%%

$common
    connect_tunnel_proxy_status $name;
    target_allow *:8000-8999;
    target_allow_address 127.0.0.0/8;

    server {
        listen 127.0.0.1:8080 backlog=1024;
        connect_tunnel;
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

$common
    server {
        listen 127.0.0.1:8081 backlog=1024;
        passthrough 127.0.0.1:8091;
    }
}

EOF
}

sub open_all {
	return (open_some(8080, TUNNELS), open_some(8081, TUNNELS));
}

sub open_some {
	my ($proxy, $n) = @_;

	my $request = connect_request('127.0.0.1:' . port(8091));
	my @all;

	while ($n > 0) {
		my @s = map { IO::Socket::INET->new(
			PeerAddr => '127.0.0.1:' . port($proxy)) }
			1 .. ($n < BATCH ? $n : BATCH);
		$n -= BATCH;

		if ($proxy == 8080) {
			syswrite $_, $request for @s;
			@s = grep { until_empty_line($_) =~ / 200 / } @s;
		}

		push @all, @s;
	}

	return @all;
}

# No byte follows the head before one is sent.

sub until_empty_line {
	my ($s) = @_;

	my $head = '';

	in_time(sub {
		while ($head !~ /\x0d\x0a\x0d\x0a\z/) {
			sysread($s, $head, 4096, length $head) or last;
		}
	});

	return $head;
}

# Returns how many have what they sent.

sub echo_all {
	my (@s) = @_;

	our $round;
	my ($good, $n) = (0, 0);

	$round++;
	syswrite $_, sprintf('%03d %06d', $round, $n++) for @s;
	$n = 0;

	for my $s (@s) {
		my $bytes = '';

		in_time(sub {
			while (length $bytes < 10) {
				sysread($s, $bytes, 10, length $bytes)
					or last;
			}
		});

		$good++ if $bytes eq sprintf('%03d %06d', $round, $n++);
	}

	return $good;
}

# Ends all of them, the polite way.

sub ended {
	my ($t, @s) = @_;

	half_close($_) for @s;
	at_end(@s);
	close $_ for @s;
}

sub at_end {
	my (@s) = @_;

	my $good = 0;

	for my $s (@s) {
		in_time(sub {
			my $n = sysread($s, my $buf, 1);
			$good++ if !$n;
		});
	}

	return $good;
}

sub in_time {
	my ($code) = @_;

	local $SIG{ALRM} = sub { die "alarm\n" };

	alarm(5);
	eval { $code->() };
	alarm(0);
}

###############################################################################

# An echo server for thousands in one process.

sub poll_daemon {
	my ($listener) = @_;

	Test::Nginx::Tunnel::close_inherited($listener);

	my (%s, $poll);

	local $SIG{PIPE} = 'IGNORE';

	$listener->blocking(0);
	$poll = IO::Poll->new();
	$poll->mask($listener => POLLIN);

	while (1) {
		$poll->poll(-1);

		for my $s ($poll->handles(POLLIN | 0x18)) {

			if ($s == $listener) {
				while (my $new = $listener->accept()) {
					$poll->mask($new => POLLIN);
				}
				next;
			}

			if (sysread($s, my $buf, 65536)) {
				syswrite $s, $buf;
				next;
			}

			$poll->remove($s);
			close $s;
		}
	}
}

###############################################################################
