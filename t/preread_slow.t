#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: many clients that say nothing, or
# a byte at a time, for others, for the memory, and for the end of a worker.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Hello;

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	CLIENTS	=> 200,
	TIMEOUT	=> 3,
	MEMORY	=> 6144,	# bytes of each; its buffer would be 16k
};

my $t = Test::Nginx->new()->has(qw/stream stream_map stream_return/)
	->plan(36);

start_daemon($t, \&half_close_daemon, port(8091), greeting => "backend\n");

configure($t, '');
$t->run();

my ($pid) = workers($t);
my $sanitized = sanitized($pid);

###############################################################################

# what nginx needs anyway, it has from then on

is(ask(8080, "SSH-2.0-x\r\n"), "backend\n" . summary("SSH-2.0-x\r\n"),
	'a client');

my $lines = log_lines($t, 'preread.log');
my $before = rss($pid);

# half of them say nothing, the others more and more

my @clients = slow_clients(8080);
my $start = time();

ok(wait_for(sub { tcp_count($pid) >= CLIENTS }), 'many slow clients');

my ($worst, $asked, $wrong) = (0, 0, '');
my $hello = hello(sni => 'www.example.com', pq => 1);
my $slow = tcp_connect(port(8080));
my @slow = map { substr $hello, $_ * 100, 100 } 0 .. length($hello) / 100;
my $memory = 0;

while (time() - $start < TIMEOUT - 0.7) {
	trickle(@clients);
	write_all($slow, shift @slow) if @slow;

	my $began = time();
	my $got = ask(8080, "SSH-2.0-x\r\n");
	my $took = time() - $began;

	$worst = $took if $took > $worst;
	$wrong = $got if $got ne "backend\n" . summary("SSH-2.0-x\r\n");
	$asked++;

	$memory = rss($pid) - $before if rss($pid) - $before > $memory;

	sleep 0.05;
}

is($wrong, '', 'others are served');
cmp_ok($asked, '>', 10, 'all the time');
cmp_ok($worst, '<', 1, 'and at once');

is(read_n($slow, 8), "backend\n", 'one that is not as slow is served');
half_close($slow);
is(read_all($slow), summary($hello), 'and nothing of it is lost');

SKIP: {
	skip 'a sanitizer needs more', 1 if $sanitized;

	cmp_ok($memory / CLIENTS, '<', MEMORY, 'memory of a slow client');
}

# bytes do not put the timeout off

my $until = time() + 2 * TIMEOUT;

trickle(grep { $_->{s} } @clients), sleep 0.1
	while closed(@clients) < CLIENTS && time() < $until;

my @lines;

wait_for(sub {
	@lines = log_lines($t, 'preread.log');
	@lines = grep { !/^200 / } @lines[$lines .. $#lines];
	return @lines >= CLIENTS;
});

is(scalar(grep { /^\d+ timeout / } @lines), CLIENTS / 2,
	'decided at the timeout, silent');
is(scalar(grep { /^\d+ unknown / } @lines), CLIENTS / 2,
	'decided at the timeout, slow');

my @times = sort { $a <=> $b } map { /^403 \S+ rejected ([\d.]+)/ } @lines;

is(scalar(@times), CLIENTS, 'rejected then');
cmp_ok($times[0] || 0, '>', TIMEOUT - 0.5, 'none before it');
cmp_ok($times[-1] || 99, '<', TIMEOUT + 3, 'none much later');
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection is left open');

# who leaves is not waited for

@clients = slow_clients(8082);
wait_for(sub { tcp_count($pid) >= CLIENTS });
trickle(@clients);
$_ % 2 ? reset_close($clients[$_]{s}) : close $clients[$_]{s}
	for 0 .. $#clients;
ok(wait_for(sub { tcp_count($pid) == 0 }), 'clients that leave are let go');

# and a second time costs no more memory

@clients = slow_clients(8081);
wait_for(sub { tcp_count($pid) >= CLIENTS });
trickle(@clients) for 1 .. 5;

SKIP: {
	skip 'a sanitizer needs more', 1 if $sanitized;

	cmp_ok((rss($pid) - $before) / CLIENTS, '<', MEMORY,
		'memory of others later');
}

###############################################################################

# reload: who is served elsewhere leaves these to end by their timeout

$t->reload();
$start = time();
my $new = new_worker($t, $pid);
ok($new, 'reload');
is(ask(8080, "SSH-2.0-x\r\n"), "backend\n" . summary("SSH-2.0-x\r\n"),
	'others are served by the new worker');
ok(kill(0, $pid), 'while the old one waits');

trickle(@clients), sleep 0.1
	while closed(@clients) < CLIENTS && time() - $start < 8;
is(closed(@clients), CLIENTS, 'slow clients end');
ok(wait_for(sub { !kill 0, $pid }), 'the old worker ends');
cmp_ok(time() - $start, '<', 8, 'in time');
$pid = $new;

# one of them goes on: what was begun with the old configuration is served

@clients = slow_clients(8081, 20);
my $late = tcp_connect(port(8081));
write_all($late, 'SS');
wait_for(sub { tcp_count($pid) >= 21 });
$t->reload();
$new = new_worker($t, $pid);
write_all($late, "H-2.0-x\r\n");
is(read_n($late, 8), "backend\n", 'decided after the reload');
half_close($late);
is(read_all($late), summary("SSH-2.0-x\r\n"), 'and served');
close $_->{s} for @clients;
ok(wait_for(sub { !kill 0, $pid }), 'the old worker ends at once');
$pid = $new;

# quit

@clients = slow_clients(8081);
wait_for(sub { tcp_count($pid) >= CLIENTS });
$start = time();
quit($t);
trickle(@clients), sleep 0.1
	while closed(@clients) < CLIENTS && time() - $start < 8;
is(closed(@clients), CLIENTS, 'quit, slow clients end');
ok(wait_for(sub { !-e $t->testdir() . '/nginx.pid' }), 'quit');
ok(!kill(0, $pid), 'quit, worker');
cmp_ok(time() - $start, '<', 8, 'quit, in time');

# worker_shutdown_timeout, where the other one would be long

configure($t, 'worker_shutdown_timeout 500ms;');
$t->run();

for my $how ('reload', 'quit') {
	($pid) = workers($t);
	@clients = slow_clients(8082);
	wait_for(sub { tcp_count($pid) >= CLIENTS });
	trickle(@clients);

	$start = time();
	$how eq 'reload' ? $t->reload() : quit($t);

	# a byte may come just then

	trickle(@clients), sleep 0.1
		while closed(@clients) < CLIENTS && time() - $start < 8;
	is(closed(@clients), CLIENTS,
		"worker_shutdown_timeout, slow clients end, $how");
	ok(wait_for(sub { !kill 0, $pid }),
		"worker_shutdown_timeout, $how");
	cmp_ok(time() - $start, '<', 6,
		"worker_shutdown_timeout, in time, $how");
}

ok(wait_for(sub { !-e $t->testdir() . '/nginx.pid' }), 'all is over');

configure($t, '');
$t->run();

###############################################################################

# Half of them are silent.

sub slow_clients {
	my ($number, $count) = @_;

	my $port = port($number);

	my @heads = (hello(sni => 'www.example.com', pq => 1),
		'GET /' . 'x' x 1000, 'POST /' . 'x' x 1000,
		'CONNECT a.example:' . '4' x 1000,
		hello(sni => 'www.example.com', record => 1));

	return map { {
		s	=> tcp_connect($port),
		rest	=> $_ % 2 ? $heads[$_ / 2 % @heads] : '',
	} } 1 .. $count || CLIENTS;
}

# Another byte of each.

sub trickle {
	for my $c (@_) {
		next unless $c->{s} && length $c->{rest};

		write_all($c->{s}, substr($c->{rest}, 0, 1, ''), 1);
	}
}

# How many nginx has closed.

sub closed {
	for my $c (grep { $_->{s} } @_) {
		my ($bytes, $state) = read_n($c->{s}, 1, 0);

		delete $c->{s} if $state ne 'TIMEOUT';
	}

	return scalar grep { !$_->{s} } @_;
}

sub ask {
	my ($port, $bytes) = @_;

	my $s = tcp_connect(port($port)) or return 'no connection';
	write_all($s, $bytes);
	my $got = read_n($s, 8);
	half_close($s);
	$got .= read_all($s);
	close $s;

	return $got;
}

sub quit {
	my ($t) = @_;

	kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
}

sub sanitized {
	my ($pid) = @_;

	open my $fh, '<', "/proc/$pid/maps" or return 0;
	return scalar grep { /libasan/ } <$fh>;
}

###############################################################################

sub configure {
	my ($t, $main) = @_;

	my $timeout = TIMEOUT;

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$main

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format preread '\$status \$preread_protocol \$tunnel_result '
                       '\$session_time';
    access_log %%TESTDIR%%/preread.log preread;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    map \$preread_protocol \$backend {
        timeout  reject;
        unknown  reject;
        default  127.0.0.1:8091;
    }

    tunnel_preread on;

    server {
        listen 127.0.0.1:8080;
        tunnel_preread_timeout ${timeout}s;
        passthrough \$backend;
    }

    server {
        listen 127.0.0.1:8081;
        tunnel_preread_timeout 2s;
        passthrough \$backend;
    }

    server {
        listen 127.0.0.1:8082;
        tunnel_preread_timeout 60s;
        passthrough \$backend;
    }
}

EOF
}

###############################################################################
