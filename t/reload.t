#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: tunnels while nginx is reloaded or stopped.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(39);

my $d = $t->testdir();

port(8980, udp => 1);

configure($t, '');

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&half_close_daemon, port(8092));
start_daemon($t, \&sink_daemon, port(8093), report => "$d/sink");
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'slow.example' => { A => [ '127.0.0.1' ], delay => 0.7 },
		'silent.example' => 'TIMEOUT',
	});

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# descriptors and memory, after many tunnels of each kind

my ($old) = workers($t);

my $s = start('first', 'slow.example:' . port(8091));
read_head($s);
half_close($s);
read_all($s);
wait_log($t, 'tunnel.log', qr/^first /);
wait_for(sub { tcp_count($old) == 0 });

my $fds = fd_count($old);

many() for 1 .. 3;
ok(wait_for(sub { fd_count($old) <= $fds }), 'tunnels ended')
	or diag(fd_count($old));

my $rss = rss($old);

many() for 1 .. 30;
ok(wait_for(sub { fd_count($old) <= $fds }), 'no descriptors left')
	or diag(fd_count($old));

# what is freed, a sanitizer keeps for a while

my $limit = $t->has_module('fsanitize') ? 64 : 2;
cmp_ok(rss($old) - $rss, '<', $limit * 1048576, 'no memory left');

# reload

my ($s1) = tunnel('one', 8091);
my ($s2) = tunnel('two', 8092);
my $slow = start('slow', 'slow.example:' . port(8091));
is(echo($s1, 'before'), 'before', 'before reload');

$t->reload();
my $new = new_worker($t, $old);
ok($new, 'new worker');

is(echo($s1, 'after'), 'after', 'after reload');
is((tunnel('three', 8091))[1], 200, 'tunnel of the new worker');
like(scalar read_head($slow), qr/ 200 /, 'tunnel that waited for a name');
is(echo($slow, 'late'), 'late', 'late tunnel');

my $bytes = pattern(5000000);
is(length exchange($s1, $bytes, length $bytes), 5000000, 'bulk after reload');

write_all($s2, 'half');
half_close($s2);
is(read_all($s2), summary('half'), 'half close after reload');

ok(-e "/proc/$old", 'old worker still there');
half_close($_) for $s1, $slow;
read_all($_) for $s1, $slow;
ok(wait_for(sub { !alive($old) }), 'old worker ends with its tunnels');
like(wait_log($t, 'tunnel.log', qr/^one /) || '',
	qr/^one 200 ok completed 5000011 5000011$/, 'logged by the old worker');

# an abort in an old worker

($s) = tunnel('abort', 8093);
write_all($s, 'abc');
$old = $new;
$t->reload();
$new = new_worker($t, $old);
reset_close($s);
ok(wait_log($t, 'sink', qr/^3 \S+ RESET/), 'reset after reload');
ok(wait_for(sub { !alive($old) }), 'old worker ends with a reset');

# again and again

my @s;
my $good = 0;

for my $n (1 .. 6) {
	$old = $new;
	push @s, (tunnel("again$n", 8091))[0] for 1 .. 5;
	$t->reload();
	$new = new_worker($t, $old);
	$good += grep { echo($_, "hello $n") eq "hello $n" } @s;
}

is($good, 5 + 10 + 15 + 20 + 25 + 30, 'tunnels of many generations');
is(scalar workers($t), 7, 'a worker for each generation');
half_close($_) for @s;
read_all($_) for @s;
ok(wait_for(sub { workers($t) == 1 }), 'one worker left');

# a policy is that of the time when the tunnel began

($s) = tunnel('policy', 8091);
$old = $new;
configure($t, 'relay_idle_timeout 500ms;');
$t->reload();
$new = new_worker($t, $old);
my ($idle) = tunnel('idle', 8091);
isnt((read_all($idle, 4))[1], 'TIMEOUT', 'new policy');
is(echo($s, 'still here'), 'still here', 'old policy');
half_close($s);
read_all($s);

# an idle timeout goes on in an old worker

($idle) = tunnel('idle_old', 8091);
$old = $new;
configure($t, '', 'worker_shutdown_timeout 1s;');
$t->reload();
$new = new_worker($t, $old);
isnt((read_all($idle, 4))[1], 'TIMEOUT', 'idle timeout in an old worker');
like(wait_log($t, 'tunnel.log', qr/^idle_old /) || '',
	qr/ idle_timeout 0 0$/, 'idle timeout logged');
ok(wait_for(sub { !alive($old) }), 'old worker ends');

# worker_shutdown_timeout

($s) = tunnel('shutdown', 8091);
is(echo($s, 'hello'), 'hello', 'before shutdown');
my $silent = start('silent', 'silent.example:443');
wait_log($t, 'dns.log', qr/^silent/);

$old = $new;
my $start = time();
$t->reload();
$new = new_worker($t, $old);
is(echo($s, 'hello'), 'hello', 'not yet');
isnt((read_all($s, 6))[1], 'TIMEOUT', 'worker_shutdown_timeout');
my $time = time() - $start;
ok($time > 0.7 && $time < 4, 'worker_shutdown_timeout in time')
	or diag($time);
like(wait_log($t, 'tunnel.log', qr/^shutdown /) || '',
	qr/^shutdown 200 ok shutdown 10 10$/, 'shutdown logged');
ok(wait_for(sub { !alive($old) }), 'worker ends after its timeout');
isnt((read_all($silent, 2))[1], 'TIMEOUT', 'attempt ends, too');

# QUIT

($s) = tunnel('quit', 8091);
configure($t, '');
$old = $new;
$t->reload();
$new = new_worker($t, $old);
($s) = tunnel('quit', 8091);

kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !tcp_connect(port(8080), timeout => 1) }),
	'no new connections');
is(echo($s, 'hello'), 'hello', 'tunnel goes on');
ok(-e "$d/nginx.pid", 'nginx waits');
half_close($s);
is((read_all($s))[1], 'EOF', 'tunnel finishes');
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'nginx ends');

# TERM

$t->run();

($s) = tunnel('term', 8091);
is(echo($s, 'hello'), 'hello', 'tunnel');
kill 'TERM', $t->read_file('nginx.pid') =~ /(\d+)/;
isnt((read_all($s, 4))[1], 'TIMEOUT', 'TERM ends a tunnel');
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'TERM ends nginx');

$t->run();

###############################################################################

sub configure {
	my ($t, $http, $main) = @_;

	my $text = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
MAIN

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    HTTP

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }
}

EOF

	$main = '' unless defined $main;
	$text =~ s/^MAIN$/$main/m;
	$text =~ s/^    HTTP$/    $http/m;

	$t->write_file_expand('nginx.conf', $text);
}

sub start {
	my ($id, $target) = @_;

	my $s = tcp_connect(port(8080));
	write_all($s, connect_request($target, headers => [ "X-Id: $id" ]));

	return $s;
}

sub tunnel {
	my ($id, $target) = @_;

	my $s = start($id, '127.0.0.1:' . port($target));

	return ($s, read_head($s) =~ /^HTTP\S+ (\d+)/);
}

# Tunnels that end in one way or the other, and some that never began.

sub many {
	my @s = map { (tunnel('many', 8091))[0] } 1 .. 10;

	echo($_, pattern(10000)) for @s;
	half_close($_) for @s[0 .. 3];
	read_all($_) for @s[0 .. 3];
	reset_close($_) for @s[4 .. 6];
	close $_ for @s[7 .. 9];

	tunnel('many', 8094);
	reset_close(start('many', 'slow.example:' . port(8091)));
}

# Not a zombie either: the master waits for its children.

sub alive {
	my ($pid) = @_;

	return kill 0, $pid;
}

###############################################################################
