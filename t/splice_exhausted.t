#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: pipes that cannot be had.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

use POSIX qw//;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MB		=> 1048576,
	DESCRIPTORS	=> 60,
	BULK		=> 8,		# MB
	PIPES		=> 256,		# that a worker uses at once
	TUNNELS		=> 280,
	BURST		=> 2,		# MB, more than a silent client holds
	KEPT		=> 16,		# spare pipes
	SLOW		=> 20,		# s, until many tunnels are full
	F_SETPIPE_SZ	=> 1031,
};

my $t = Test::Nginx->new()->has(qw/http/)->plan(29);

# root has no limit of pipe buffers

my $user = $> == 0 ? 'nobody' : '';

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&burst_daemon, port(8094));

###############################################################################

# descriptors

configure($t, 'worker_rlimit_nofile ' . DESCRIPTORS . ';');
$t->run();

my ($pid) = workers($t);
my ($other) = front_tunnel('http', 'other', 8091);
my ($s) = front_tunnel('http', 'bulk', 8094);
is(echo($other, 'hello'), 'hello', 'tunnel');

my $before = fd_count($pid);
my @s = fill($pid);
my $start = time();

cmp_ok(used($pid), '>=', DESCRIPTORS - 1, 'no descriptors left');
ok(bulk($s), "bytes are copied $_") for 1 .. 3;

is(pipe_count($pid), 0, 'no pipe without descriptors');
ok(wait_log($t, 'error.log', qr/\[info\].*pipe2\(\) failed.* \(24: /),
	'pipes, logged');

# nginx tries again, but not all the time

bulk($s) for 1 .. 5;
once_a_second($t, $start, 'pipe2', 'descriptors');

is(echo($other, 'hello'), 'hello', 'tunnel goes on');

close $_ for @s;
wait_for(sub { fd_count($pid) <= $before });
sleep(1.1);
ok(bulk($s), 'bytes are spliced');
cmp_ok(pipe_count($pid), '>', 0, 'pipes again');

end($_) for $s, $other;
$t->stop();

# pipes that a worker may use at once

configure($t, 'worker_processes 1;', 'sndbuf=64k', 'relay_splice on;');
$t->run();

($pid) = workers($t);
end((front_tunnel('http', 'first', 8091))[0]);
wait_for(sub { tcp_count($pid) == 0 });
$before = fd_count($pid);

my $bytes = pattern(BURST * MB);

@s = map { (front_tunnel('http', 'many', 8094))[0] } 1 .. TUNNELS;
write_all($_, BURST * MB . "\n") for @s;

ok(wait_for(sub { pipe_count($pid) >= PIPES }, SLOW), 'many pipes')
	or diag(pipe_count($pid));
sleep(0.3);
is(pipe_count($pid), PIPES, 'not more of them');

is(scalar(grep { read_n($_, BURST * MB, 20) eq $bytes } reverse @s), TUNNELS,
	'bytes with and without a pipe');
ok(wait_for(sub { pipe_count($pid) <= KEPT }, SLOW), 'pipes given back')
	or diag(pipe_count($pid));

end($_) for @s;

my $size = BURST * MB;
ok(wait_log($t, 'tunnel.log', qr/^many 200 ok completed 8 $size$/, undef,
	TUNNELS), 'all counted');
ok(wait_for(sub { tcp_count($pid) == 0
	&& fd_count($pid) <= $before }),
	'descriptors given back') or diag(fd_count($pid), " $before ", tcp_count($pid), ' ', pipe_count($pid));

# tunnels that are cut off, their pipes full

@s = map { (front_tunnel('http', 'cut', 8094))[0] } 1 .. 60;
write_all($_, BURST * MB . "\n") for @s;
ok(wait_for(sub { pipe_count($pid) >= 60 }, SLOW), 'pipes full');
reset_close($_) for @s;
ok(wait_for(sub { tcp_count($pid) == 0 && pipe_count($pid) <= KEPT
	&& fd_count($pid) <= $before }),
	'full pipes are closed') or diag(fd_count($pid), " $before");
ok(wait_log($t, 'tunnel.log', qr/^cut 200 ok client_reset 8 \d+$/, undef, 60),
	'cut tunnels counted');

($s) = front_tunnel('http', 'after', 8094);
ok(bulk($s), 'bytes after full pipes');
end($s);

$t->stop();

# pipe buffers: the user has many of them elsewhere

my $hoard = hoard($user);
ok($hoard, 'buffers used up');

configure($t, '');
$t->run();
$start = time();

($pid) = workers($t);
($s) = front_tunnel('http', 'small', 8094);
ok(bulk($s), 'bytes without pipe buffers');
is(pipe_count($pid), 0, 'no pipe without buffers');
ok(wait_log($t, 'error.log', qr/\[info\].*pipe buffers are used up/),
	'pipe buffers, logged');

bulk($s) for 1 .. 5;
once_a_second($t, $start, 'pipe buffers', 'buffers');

# and when they are there again

if ($hoard) {
	kill 'KILL', $hoard;
	waitpid($hoard, 0);
}

sleep(1.1);

ok(bulk($s), 'bytes with pipe buffers');
cmp_ok(pipe_count($pid), '>', 0, 'pipes with buffers');
end($s);

($s) = front_tunnel('http', 'last', 8091);
is(echo($s, 'hello'), 'hello', 'tunnel at last');
end($s);

###############################################################################

sub configure {
	my ($t, $main, $listen, $http) = @_;

	my $line = $user
		? "user $user " . getgrgid((getpwnam $user)[3]) . ';' : '';
	my $front = front_conf('http', listen => $listen || '',
		conf => $http || '', servers => [ [ 8080, '' ] ]);

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$line
$main

events {
    worker_connections 1024;
}

$front

EOF
}

# Clients that ask for nothing take all that is left.

sub fill {
	my ($pid) = @_;

	my @s;

	while (used($pid) < DESCRIPTORS - 1 && @s < DESCRIPTORS) {
		my $n = used($pid);

		push @s, tcp_connect(port(8080));
		write_all($s[-1], "GET / HTTP/1.1\n");
		wait_for(sub { used($pid) > $n }, 2) or last;
	}

	return @s;
}

# What counts for the limit; nginx may have inherited others.

sub used {
	my ($pid) = @_;

	return scalar grep { $_ < DESCRIPTORS }
		map { m!(\d+)\z! } glob "/proc/$pid/fd/*";
}

sub bulk {
	my ($s) = @_;

	my $size = BULK * MB;

	write_all($s, "$size\n");
	return read_n($s, $size) eq pattern($size);
}

sub once_a_second {
	my ($t, $start, $what, $name) = @_;

	my $lines = grep { /\[info\].*$what/ } log_lines($t, 'error.log');

	cmp_ok($lines, '<=', time() - $start + 1, "once a second, $name");
}

sub end {
	my ($s) = @_;

	half_close($s);
	read_all($s);
	$s->close();
}

# A process that has so many pipe buffers that its user gets no more, only
# pipes of a page or two.

sub hoard {
	my ($user) = @_;

	pipe(my $from, my $to) or die "Can't make a pipe: $!\n";

	my $pid = fork();
	die "Can't fork: $!\n" unless defined $pid;

	if ($pid) {
		close $to;
		my $size = <$from> || 0;

		return $pid if $size > 0 && $size < 65536;

		diag("pipes still have $size");
		kill 'KILL', $pid;
		waitpid($pid, 0);
		return 0;
	}

	if ($user) {
		POSIX::setgid((getpwnam $user)[3]);
		POSIX::setuid((getpwnam $user)[2]);
	}

	my ($size, @pipes) = (0);

	for (1 .. 4000) {
		pipe(my $in, my $out) or last;
		push @pipes, $in, $out;

		$size = fcntl($out, F_SETPIPE_SZ + 1, 0);
		last if $size < 65536;
	}

	syswrite $to, "$size\n";
	close $to;

	sleep(60);
	POSIX::_exit(0);
}

###############################################################################
