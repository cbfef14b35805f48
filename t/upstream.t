#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: upstream groups as targets.

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

my $t = Test::Nginx->new()->has(qw/http map upstream_least_conn upstream_zone
	upstream_hash unix/)->plan(53);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_address '
                      '$tunnel_target';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;

    upstream rr {
        server 127.0.0.1:8091;
        server 127.0.0.1:8092;
    }

    upstream weight {
        server 127.0.0.1:8091 weight=3;
        server 127.0.0.1:8092;
    }

    upstream backup {
        server 127.0.0.1:8095;
        server 127.0.0.1:8092 backup;
    }

    upstream least {
        zone least 64k;
        least_conn;
        server 127.0.0.1:8091;
        server 127.0.0.1:8092;
    }

    upstream max {
        zone max 64k;
        server 127.0.0.1:8091 max_conns=2;
    }

    upstream max_local {
        server 127.0.0.1:8091 max_conns=2;
    }

    upstream down {
        server 127.0.0.1:8091 down;
        server 127.0.0.1:8092;
    }

    upstream all_down {
        server 127.0.0.1:8091 down;
        server 127.0.0.1:8092 down;
    }

    upstream refused {
        server 127.0.0.1:8095 max_fails=0;
        server 127.0.0.1:8096 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream refused_off {
        server 127.0.0.1:8095 max_fails=0;
        server 127.0.0.1:8096 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream refused_error {
        server 127.0.0.1:8095 max_fails=0;
        server 127.0.0.1:8096 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream refused_timeout {
        server 127.0.0.1:8095 max_fails=0;
        server 127.0.0.1:8096 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream dead {
        server 127.0.0.1:8095 max_fails=0;
        server 127.0.0.1:8096 max_fails=0;
        server 127.0.0.1:8101 max_fails=0;
    }

    upstream fails {
        server 127.0.0.1:8095 max_fails=1 fail_timeout=60s;
        server 127.0.0.1:8096 max_fails=1 fail_timeout=60s;
    }

    upstream silent {
        server 127.0.0.1:8097 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream silent_off {
        server 127.0.0.1:8097 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream silent_error {
        server 127.0.0.1:8097 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream silent_timeout {
        server 127.0.0.1:8097 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream silent_time {
        server 127.0.0.1:8097 max_fails=0;
        server 127.0.0.1:8091 max_fails=0;
    }

    upstream one {
        server 127.0.0.1:8097 max_conns=1 max_fails=0;
    }

    upstream hash {
        hash $tunnel_host;
        server 127.0.0.1:8091;
        server 127.0.0.1:8092;
        server 127.0.0.1:8093;
    }

    upstream socket {
        server unix:%%TESTDIR%%/target.sock;
    }

    upstream denied {
        server 127.0.0.2:%%PORT_8091%%;
        server 127.0.0.1:8092;
    }

    map $tunnel_host $group {
        ~^(?<name>.+)\.group$    $name;
        literal.example          127.0.0.1:%%PORT_8091%%;
        bad.example              not-a-target;
        empty.example            "";
    }

    server {
        listen 127.0.0.1:8080;
        connect_tunnel rr;
    }

    # 127.0.0.1 from a variable is not trusted as the group's servers are

    server {
        listen 127.0.0.1:8082;
        connect_tunnel $group;
    }

    server {
        listen 127.0.0.1:8083;
        connect_tunnel $group;
        target_next_upstream off;
        target_connect_timeout 300ms;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel $group;
        target_next_upstream error;
        target_connect_timeout 300ms;
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel $group;
        target_next_upstream timeout;
        target_connect_timeout 300ms;
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel $group;
        target_next_upstream_tries 2;
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel $group;
        target_next_upstream_timeout 100ms;
        target_connect_timeout 300ms;
    }

    server {
        listen 127.0.0.1:8088;
        connect_tunnel unix:%%TESTDIR%%/target.sock;
    }

    server {
        listen 127.0.0.1:8089;
        connect_tunnel $group;
        target_deny_address 127.0.0.2;
    }

    # an address as it stands

    server {
        listen 127.0.0.1:8090;
        connect_tunnel 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8100;
        connect_tunnel hash;
    }

    server {
        listen 127.0.0.1:8098;
        connect_tunnel unix:%%TESTDIR%%/nobody.sock;
    }

    # variables in the address, with the rules opened for it

    server {
        listen 127.0.0.1:8099;
        connect_tunnel $group;
        target_allow_address 127.0.0.0/8;
    }
}

EOF

my $d = $t->testdir();

start_daemon($t, \&echo_daemon, port(8090 + $_), greeting => $_) for 1 .. 3;
start_daemon($t, \&echo_daemon, '127.0.0.2:' . port(8091), greeting => 'x');
start_daemon($t, \&echo_daemon, "unix:$d/target.sock", greeting => 'u');

port($_) for 8095, 8096, 8101;	# nobody is there
my $held = full_backlog(port(8097));

$t->run();

###############################################################################

# by name and by variable

like(tunnels(8080, 'any.example:1', 6), qr/^(?:12){3}$|^(?:21){3}$/,
	'round robin');
like(tunnels(8082, 'rr.group:1', 6), qr/^(?:12){3}$|^(?:21){3}$/,
	'round robin, variable');
is(join('', sort split //, tunnels(8082, 'weight.group:1', 8)), '11111122',
	'weight');
is(tunnels(8090, 'any.example:1', 1), '1', 'address');
is(tunnels(8088, 'any.example:1', 1), 'u', 'unix socket');
is(tunnels(8082, 'socket.group:1', 1), 'u', 'unix socket in a group');
is(refused($t, 8098, 'any.example:1'), '502 refused -', 'no unix socket');
is(tunnels(8082, 'RR.Group:1', 1) =~ /[12]/, 1, 'other spelling');

ok(wait_log($t, 'tunnel.log', qr/^- 200 ok 127\.0\.0\.1:\d+ any\.example:1$/),
	'address of the server, target of the client');
ok(wait_log($t, 'tunnel.log', qr/^- 200 ok unix:\S+ socket\.group:1$/),
	'unix socket logged');

# by variable without a group

is(tunnels(8099, 'literal.example:1', 1), '1', 'address by variable');
is(refused($t, 8082, 'literal.example:1'), '403 denied_address -',
	'address by variable is denied');
is(refused($t, 8099, 'bad.example:1'), '500 internal -', 'no target');
is(refused($t, 8099, 'empty.example:1'), '403 denied_name -', 'empty');
is(refused($t, 8099, 'unknown.example:1'), '403 denied_name -', 'not in map');

# servers that do not answer

is(tunnels(8082, 'down.group:1', 3), '222', 'down');
is(tunnels(8082, 'backup.group:1', 3), '222', 'backup');
is(refused($t, 8082, 'all_down.group:1'), '502 unreachable -', 'all down');
ok(wait_log($t, 'error.log', qr/failed: unreachable, no live upstreams/),
	'all down, logged');

is(tunnels(8082, 'refused.group:1', 3), '111', 'next server');
is(refused($t, 8082, 'fails.group:1'), '502 refused -', 'none left');
is(refused($t, 8082, 'fails.group:1'), '502 unreachable -', 'no live ones');

# target_next_upstream

is(statuses(8083, 'refused_off.group:1', 3), '200 502 502', 'off');
is(statuses(8084, 'refused_error.group:1', 3), '200 200 200', 'error');
is(statuses(8085, 'refused_timeout.group:1', 3), '200 502 502', 'timeout only');
is(statuses(8083, 'silent_off.group:1', 2), '200 504', 'off, no answer');
is(statuses(8084, 'silent_error.group:1', 2), '200 504', 'error only, no answer');
is(statuses(8085, 'silent_timeout.group:1', 2), '200 200', 'timeout, no answer');
is(attempts($t, 8082, 'dead.group:1'), 3, 'all tries');
is(attempts($t, 8086, 'dead.group:1'), 2, 'two tries');
is(attempts($t, 8083, 'dead.group:1'), 1, 'one try');
is(statuses(8087, 'silent_time.group:1', 2), '200 504', 'time');

# balancers count until a tunnel has ended

my @s = map { [ start(8082, 'least.group:1') ] } 1 .. 4;
is(join('', sort map { $_->[1] } @s), '1122', 'least_conn');
close $_->[0] for grep { $_->[1] eq '1' } @s;
ok(wait_log($t, 'tunnel.log', qr/least\.group/, undef, 2),
	'tunnels of one server end');
my @new = map { [ start(8082, 'least.group:1') ] } 1 .. 2;
is(join('', map { $_->[1] } @new), '11', 'least_conn, freed');
close $_->[0] for @s, @new;

for my $group (qw/ max max_local /) {
	my @s = map { [ start(8082, "$group.group:1") ] } 1 .. 2;
	is(join('', map { $_->[1] } @s), '11', "$group, up to the limit");
	is(refused($t, 8082, "$group.group:1"), '502 unreachable -',
		"$group, limit");

	reset_close($s[0][0]);
	wait_log($t, 'tunnel.log', qr/^- 200 .* $group\.group/);
	is(tunnels(8082, "$group.group:1", 1), '1', "$group, one ended");
	wait_log($t, 'tunnel.log', qr/^- 200 .* $group\.group/, undef, 2);

	# not counted twice: still one only

	my ($s, $byte) = start(8082, "$group.group:1");
	is($byte, '1', "$group, one free");
	is(refused($t, 8082, "$group.group:1"), '502 unreachable -',
		"$group, limit again");
}

# an attempt counts, until it is given up

undef @s;
undef @new;
wait_for(sub { tcp_count((workers($t))[0]) == 0 });

my ($pid) = workers($t);
my $count = tcp_count($pid);
my $s = tcp_connect(port(8082));
write_all($s, connect_request('one.group:1'));
ok(wait_for(sub { tcp_count($pid) == $count + 2 }), 'attempt under way');
is(refused($t, 8083, 'one.group:1'), '502 unreachable -', 'attempt counted');
reset_close($s);
ok(wait_log($t, 'tunnel.log', qr/^- 499 .* one\.group/), 'client gone');
is(refused($t, 8083, 'one.group:1'), '504 connect_timeout -',
	'attempt no longer counted');

# hash

my @hashed = map { tunnels(8100, "name$_.example:1", 3) } 1 .. 20;
is(join(' ', grep { !/^(?:111|222|333)$/ } @hashed), '',
	'hash, one server for a name');
my %seen = map { $_ => 1 } @hashed;
is(join(' ', sort keys %seen), '111 222 333', 'hash, names spread');

# address rules that are set bind groups, too

is(tunnels(8089, 'denied.group:1', 4), '2222', 'denied server skipped');
like(tunnels(8082, 'denied.group:1', 4), qr/x/, 'not denied by default');

###############################################################################

# A tunnel, and the first byte of its target.

sub start {
	my ($proxy, $target) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), $target);

	return ($s, $head =~ / 200 / ? scalar read_n($s, 1)
		: $head =~ /^HTTP\S+ (\d+)/);
}

sub tunnels {
	my ($proxy, $target, $n) = @_;

	return join '', map { (start($proxy, $target))[1] } 1 .. $n;
}

# Statuses of some tunnels, sorted: which server is the first one may vary.

sub statuses {
	my ($proxy, $target, $n) = @_;

	return join ' ', sort map {
		(connect_tunnel(port($proxy), $target))[1]
			=~ /^HTTP\S+ (\d+)/ ? $1 : ''
	} 1 .. $n;
}

# How many servers a tunnel was tried with in vain.

sub attempts {
	my ($t, $proxy, $target) = @_;

	my $failed = qr/connect\(\) to \S+ failed/;
	my $before = grep { /$failed/ } log_lines($t, 'error.log');

	refused($t, $proxy, $target);

	return grep({ /$failed/ } log_lines($t, 'error.log')) - $before;
}

sub refused {
	my ($t, $proxy, $target) = @_;

	our $id++;

	connect_tunnel(port($proxy), $target, headers => [ "X-Id: n$id" ]);

	my $line = wait_log($t, 'tunnel.log', qr/^n$id /);
	return ($line || '') =~ /^\S+ (\S+ \S+ \S+)/ ? $1 : '';
}

###############################################################################
