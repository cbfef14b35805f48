#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: names, with the resolver directive.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(40);

port(8980, udp => 1);
port(8981, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_address '
                      '$tunnel_resolve_time';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_resolve_timeout 5s;
    }

    # short

    server {
        listen 127.0.0.1:8082;
        connect_tunnel;
        target_resolve_timeout 500ms;
    }

    # IPv4 only

    server {
        listen 127.0.0.1:8083;
        connect_tunnel;
        resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    }

    # another cache

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;
        resolver 127.0.0.1:%%PORT_8980_UDP%% valid=1s ipv6=off;
    }

    # nobody answers

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;
        resolver 127.0.0.1:%%PORT_8981_UDP%%;
        target_resolve_timeout 500ms;
    }
}

EOF

my $d = $t->testdir();
my $p = port(8091);

start_daemon($t, \&echo_daemon, "127.0.0.1:$p", greeting => 'one ');
start_daemon($t, \&echo_daemon, "127.0.0.2:$p", greeting => 'two ');
start_daemon($t, \&echo_daemon, "[::1]:$p", greeting => 'six ');
start_daemon($t, \&half_close_daemon, port(8092));

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'a.example' => '127.0.0.1',
		'aaaa.example' => '::1',
		'both.example' => [ '127.0.0.1', '::1' ],
		'alias.example' => { CNAME => 'alias2.example' },
		'alias2.example' => { CNAME => 'two.example' },
		'two.example' => '127.0.0.2',
		'dangling.example' => { CNAME => 'nothing.example' },
		'empty.example' => { A => [ ], AAAA => [ ] },
		'servfail.example' => 'SERVFAIL',
		'refused.example' => 'REFUSED',
		'half.example' => { A => 'SERVFAIL', AAAA => [ '::1' ] },
		'silent.example' => 'TIMEOUT',
		'slow.example' => { A => [ '127.0.0.1' ], delay => 0.5 },
		'slow2.example' => { A => [ '127.0.0.1' ], delay => 0.5 },
		'slow3.example' => { A => [ '127.0.0.1' ], delay => 0.5 },
		'slow4.example' => { A => [ '127.0.0.1' ], delay => 0.5 },
		'slow5.example' => { A => [ '127.0.0.1' ], delay => 0.7 },
		'cached.example' => { A => [ '127.0.0.1' ], ttl => 3600 },
		'short.example' => { turns => [
			{ A => [ '127.0.0.1' ], ttl => 3600 },
			{ A => [ '127.0.0.2' ], ttl => 3600 } ] },
	});

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

is(tunnel(8080, "a.example:$p"), 'one ', 'A');
is(tunnel(8080, "aaaa.example:$p"), 'six ', 'AAAA');
like(tunnel(8080, "both.example:$p"), qr/six|one/, 'A and AAAA');
is(tunnel(8080, "A.Example.:$p"), 'one ', 'other spelling');
is(tunnel(8080, "alias.example:$p"), 'two ', 'CNAME');

is(scalar dns_queries($t, 'dns.log', 'a.example', 'A'), 1, 'A asked for');
is(scalar dns_queries($t, 'dns.log', 'a.example', 'AAAA'), 1,
	'AAAA asked for');

# failures

is(logged($t, 8080, "nothing.example:$p"), '502 resolve_failed -', 'no name');
like(head(8080, "nothing.example:$p"), qr/^Proxy-Status: .*dns_error/m,
	'told to the client');
is(logged($t, 8080, "dangling.example:$p"), '502 resolve_failed -',
	'CNAME of no name');
is(logged($t, 8080, "empty.example:$p"), '502 resolve_failed -',
	'no addresses');
is(logged($t, 8080, "servfail.example:$p"), '502 resolve_failed -',
	'SERVFAIL');
is(logged($t, 8080, "refused.example:$p"), '502 resolve_failed -', 'REFUSED');
ok(wait_log($t, 'error.log', qr/\[error\].*tunnel to "nothing.example:$p" /
	. qr/failed: resolve_failed, Host not found/), 'failure logged');

# an answer for one of the families only; an error for one is nginx's own
# resolver's to judge, but there is an end

isnt(head(8080, "half.example:$p"), '', 'A fails, AAAA does not');

# no answer

my $start = time();
is(logged($t, 8082, "silent.example:$p"), '504 resolve_timeout -',
	'no answer');
my $time = time() - $start;
ok($time > 0.4 && $time < 3, 'target_resolve_timeout') or diag($time);

like(head(8082, "silent.example:$p"), qr/^Proxy-Status: .*dns_timeout/m,
	'timeout told to the client');

like(logged($t, 8085, "a.example:$p"), qr/^50[24] resolve_\w+ -/,
	'no server');

# ipv6=off

is(tunnel(8083, "both.example:$p"), 'one ', 'ipv6=off');
is(logged($t, 8083, "aaaa.example:$p"), '502 resolve_failed -',
	'ipv6=off, AAAA only');

# an answer is kept as long as it says, or "valid"

is(tunnel(8080, "cached.example:$p"), 'one ', 'answer kept');
my $count = dns_queries($t, 'dns.log', 'cached.example');
is(tunnel(8080, "cached.example:$p"), 'one ', 'answer from the cache');
is(tunnel(8080, "CACHED.example:$p"), 'one ', 'answer from the cache again');
is(scalar dns_queries($t, 'dns.log', 'cached.example'), $count,
	'asked for once');

is(tunnel(8084, "short.example:$p"), 'one ', 'valid');
is(tunnel(8084, "short.example:$p"), 'one ', 'still valid');
ok(wait_for(sub { tunnel(8084, "short.example:$p") eq 'two ' }, 5),
	'no longer valid');
is(scalar dns_queries($t, 'dns.log', 'short.example', 'A'), 2,
	'asked for twice');

# what a client does meanwhile

my $s = start(8080, "slow.example:$p", early => 'early');
is((read_head($s))[0] =~ / 200 / && read_n($s, 9), 'one early',
	'early data during a slow answer');

$s = start(8080, 'slow2.example:' . port(8092), early => 'early');
half_close($s);
like(scalar read_head($s), qr/ 200 /, 'half closed during a slow answer');
is(read_all($s), summary('early'), 'half closed, data');

$s = start(8080, "slow3.example:$p", id => 'reset');
wait_log($t, 'dns.log', qr/slow3/);
reset_close($s);
like(wait_log($t, 'tunnel.log', qr/^reset /) || '', qr/^reset 499 - -/,
	'reset during a slow answer');

is(tunnel(8080, "slow3.example:$p"), 'one ', 'name good for others');

$s = start(8080, 'nothing2.example:1');
half_close($s);
like(scalar read_head($s), qr/ 502 /, 'half closed, no name');

# many wait for one answer

$start = time();
my @s = map { start(8080, "slow4.example:$p") } 1 .. 50;
reset_close(pop @s) for 1 .. 5;
is(scalar(grep { read_head($_) =~ / 200 / && read_n($_, 4) eq 'one ' } @s),
	45, 'many wait for one name');
is(scalar dns_queries($t, 'dns.log', 'slow4.example', 'A'), 1,
	'one question for many');

# a short timeout of one does not end the other

$s = start(8080, "slow5.example:$p");
is(logged($t, 8082, "slow5.example:$p"), '504 resolve_timeout -',
	'shorter timeout');
like(scalar read_head($s), qr/ 200 /, 'longer timeout');

like(wait_log($t, 'tunnel.log', qr/ 200 ok 127.0.0.1:$p 0\.[5-9]/) || '',
	qr/./, 'time to resolve');

###############################################################################

sub start {
	my ($proxy, $target, %opt) = @_;

	my $s = tcp_connect(port($proxy));

	write_all($s, connect_request($target,
		headers => [ 'X-Id: ' . ($opt{id} || 'id') ],
		early => defined $opt{early} ? $opt{early} : ''));

	return $s;
}

sub head {
	my ($proxy, $target) = @_;

	return scalar read_head(start($proxy, $target));
}

# What the target says, nothing where there is no tunnel.

sub tunnel {
	my ($proxy, $target) = @_;

	my $s = start($proxy, $target);

	return read_head($s) =~ / 200 / ? scalar read_n($s, 4) : '';
}

sub logged {
	my ($t, $proxy, $target) = @_;

	our $id++;

	read_head(start($proxy, $target, id => "n$id"));

	my $line = wait_log($t, 'tunnel.log', qr/^n$id /);
	return ($line || '') =~ /^\S+ (\S+ \S+ \S+)/ ? $1 : '';
}

###############################################################################
