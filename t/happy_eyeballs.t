#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: several addresses.

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

my $t = Test::Nginx->new()->has(qw/http/)->plan(43);

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_address '
                      '$tunnel_connect_time';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8082;
        connect_tunnel;
        target_prefer ipv4;
    }

    server {
        listen 127.0.0.1:8083;
        connect_tunnel;
        target_prefer ipv6;
    }

    # too short for a second attempt

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;
        target_connect_timeout 150ms;
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;
        target_connect_timeout 700ms;
    }
}

EOF

my $d = $t->testdir();

# 8091: IPv6 and IPv4, 8092: IPv4, 8093: IPv6 full, 8094: IPv4 full,
# 8095: all full, 8096: none, 8097: 127.0.0.5 only, others full

my ($both, $v4, $full6, $full4, $full, $none, $last)
	= map { port($_) } 8091 .. 8097;

start_daemon($t, \&echo_daemon, "127.0.0.1:$both", greeting => 'four');
start_daemon($t, \&echo_daemon, "[::1]:$both", greeting => 'six ');
start_daemon($t, \&echo_daemon, "127.0.0.1:$v4", greeting => 'four');
start_daemon($t, \&echo_daemon, "127.0.0.1:$full6", greeting => 'four');
start_daemon($t, \&echo_daemon, "[::1]:$full4", greeting => 'six ');
start_daemon($t, \&echo_daemon, "127.0.0.5:$last", greeting => 'last');

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'both.example' => [ '127.0.0.1', '::1' ],
		'four.example' => '127.0.0.1',
		'six.example' => '::1',
		'many.example' => { A => [ map { "127.0.0.$_" } 2 .. 5 ] },
		'denied.example' => [ '10.0.0.1', '::1' ],
		'all-denied.example' => [ '10.0.0.1', 'fc00::1' ],
		'all.example' => [ map({ "127.0.0.$_" } 1 .. 5), '::1' ],
	});

my @held = (full_backlog("[::1]:$full6"), full_backlog("127.0.0.1:$full4"),
	(map { full_backlog("$_:$full") } '[::1]', '127.0.0.1'),
	(map { full_backlog("127.0.0.$_:$last") } 2 .. 4));

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# order

my ($bytes, $time) = tunnel('any', 8080, "both.example:$both");
is($bytes, 'six ', 'IPv6 first');
cmp_ok($time, '<', 0.2, 'at once');

is((tunnel('prefer4', 8082, "both.example:$both"))[0], 'four', 'prefer ipv4');
is((tunnel('prefer6', 8083, "both.example:$both"))[0], 'six ', 'prefer ipv6');
is((tunnel('only6', 8082, "six.example:$both"))[0], 'six ',
	'prefer ipv4, there is none');
is((tunnel('only4', 8083, "four.example:$both"))[0], 'four',
	'prefer ipv6, there is none');

# a refused address is no reason to wait

($bytes, $time) = tunnel('next', 8080, "both.example:$v4");
is($bytes, 'four', 'IPv6 refused');
cmp_ok($time, '<', 0.2, 'next address at once');

# one that does not answer is given a while

($bytes, $time) = tunnel('delay6', 8080, "both.example:$full6");
is($bytes, 'four', 'IPv6 does not answer');
ok($time > 0.2 && $time < 0.8, 'attempt delay') or diag($time);

($bytes, $time) = tunnel('delay4', 8082, "both.example:$full4");
is($bytes, 'six ', 'IPv4 does not answer');
ok($time > 0.2 && $time < 0.8, 'attempt delay, IPv4 first') or diag($time);

is((tunnel('first', 8082, "both.example:$full6"))[0], 'four',
	'first one answers');

# three attempts without an answer, then the fourth

($bytes, $time) = tunnel('fourth', 8080, "many.example:$last");
is($bytes, 'last', 'last address');
ok($time < 2, 'last address in time') or diag($time);
like(logged($t, 'fourth'), qr/^200 ok 127\.0\.0\.5:$last /, 'last, logged');

# a denied one is skipped

is((tunnel('denied4', 8082, "denied.example:$both"))[0], 'six ',
	'first one denied');

# the losers are closed, the winner stays

wait_for(sub { connections($t) == 0 });

my ($s) = connect_tunnel(port(8080), "both.example:$full6",
	headers => [ 'X-Id: winner' ]);
is(read_n($s, 4), 'four', 'winner');
is(connections($t), 2, 'losers closed');
is(echo($s, 'hello'), 'hello', 'winner goes on');
half_close($s);
read_all($s);
ok(wait_for(sub { connections($t) == 0 }), 'all closed');

# failures: the most telling one is reported

is(refused($t, 'refused', 8080, "both.example:$none"), '502 refused',
	'all refused');
is(refused($t, 'denied', 8080, "all-denied.example:$none"),
	'403 denied_address', 'all denied');
is(refused($t, 'denied_refused', 8080, "denied.example:$none"), '502 refused',
	'denied and refused');
is(refused($t, 'denied_timeout', 8085, "denied.example:$full"),
	'504 connect_timeout', 'denied and timed out');

($bytes, $time) = refused($t, 'timeout', 8085, "both.example:$full");
is($bytes, '504 connect_timeout', 'all timed out');
ok($time > 0.6 && $time < 3, 'target_connect_timeout') or diag($time);

($bytes, $time) = refused($t, 'literal', 8085, "127.0.0.1:$full");
is($bytes, '504 connect_timeout', 'address timed out');
ok($time > 0.6 && $time < 3, 'target_connect_timeout, address')
	or diag($time);

($bytes, $time) = refused($t, 'literal6', 8084, "[::1]:$full");
is($bytes, '504 connect_timeout', 'IPv6 address timed out');
ok($time < 2, 'shorter target_connect_timeout') or diag($time);

# the second address would have answered, but it is too late for it

is(refused($t, 'late', 8084, "both.example:$full6"), '504 connect_timeout',
	'timeout before the attempt delay');

# one of them refuses at once, the other one never answers

is(refused($t, 'mixed', 8085, "all.example:$full4"), '200 ok', 'some refuse');
is(refused($t, 'mixed2', 8085, "both.example:" . port(8098)), '502 refused',
	'nobody there');

my $held = full_backlog('[::1]:' . port(8099));
is(refused($t, 'mixed3', 8085, 'both.example:' . port(8099)), '502 refused',
	'refused and timed out');

# told

like((connect_tunnel(port(8080), "127.0.0.1:$none"))[1],
	qr/^Proxy-Status: .*connection_refused/m, 'refused, told');
like((connect_tunnel(port(8084), "127.0.0.1:$full"))[1],
	qr/^Proxy-Status: .*connection_timeout/m, 'timeout, told');
ok(wait_log($t, 'error.log', qr/\[error\].*tunnel to "127.0.0.1:$none" /
	. qr/failed: refused, address 127.0.0.1:$none, .*\(111: /),
	'refused, logged');
ok(wait_log($t, 'error.log', qr/\[error\].*tunnel to "127.0.0.1:$full" /
	. qr/failed: connect_timeout, address 127.0.0.1:$full, .*\(110: /), 'timeout, logged');

# a client that does not wait

$s = tcp_connect(port(8080));
write_all($s, connect_request("127.0.0.1:$full",
	headers => [ 'X-Id: gone' ]));
ok(wait_for(sub { connections($t) == 2 }), 'attempt under way');
reset_close($s);
like(logged($t, 'gone'), qr/^499 /, 'client reset');
ok(wait_for(sub { connections($t) == 0 }), 'attempt given up');

# and one that has said all it wants to say

$s = tcp_connect(port(8080));
write_all($s, connect_request("both.example:$full6", early => 'early'));
half_close($s);
like(scalar read_head($s), qr/ 200 /, 'half closed while connecting');

###############################################################################

# What the target says, and how long that took.

sub tunnel {
	my ($id, $proxy, $target) = @_;

	my $start = time();

	my ($s, $head) = connect_tunnel(port($proxy), $target,
		headers => [ "X-Id: $id" ]);

	return ($head =~ / 200 / ? scalar read_n($s, 4) : $head,
		time() - $start);
}

# Status and result, and how long that took.

sub refused {
	my ($t, $id, $proxy, $target) = @_;

	my $start = time();

	my ($s, $head) = connect_tunnel(port($proxy), $target,
		headers => [ "X-Id: $id" ]);
	my $time = time() - $start;

	$s->close();

	my $result = logged($t, $id);
	$result =~ s/^(\S+ \S+).*/$1/;

	return wantarray ? ($result, $time) : $result;
}

sub logged {
	my ($t, $id) = @_;

	my $line = wait_log($t, 'tunnel.log', qr/^$id /);
	return defined $line ? $line =~ s/^\S+ //r : '';
}

# Connections of nginx, to clients and targets.

sub connections {
	my ($t) = @_;

	my ($pid) = workers($t);
	return tcp_count($pid);
}

###############################################################################
