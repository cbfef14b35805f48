#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: what rules mean to targets of the
# configuration, which names select an upstream group, and groups that are
# used by others, too.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http proxy map upstream_keepalive
	upstream_least_conn upstream_zone unix/)->plan(53);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_reason '
                      '$tunnel_address';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_connect_timeout 1s;

    upstream group {
        server 127.0.0.1:8091;
    }

    upstream group:443 {
        server 127.0.0.1:8091;
    }

    upstream two {
        server 127.0.0.1:8091;
        server 127.0.0.2:%%PORT_8091%%;
    }

    upstream shared {
        server 127.0.0.1:8094;
        keepalive 4;
    }

    upstream least {
        zone least 64k;
        least_conn;
        server 127.0.0.1:8091;
        server 127.0.0.1:8092;
    }

    upstream max {
        zone max 64k;
        server 127.0.0.1:8091 max_conns=1;
        server 127.0.0.1:8092 max_conns=1 backup;
    }

    upstream reset {
        zone reset 64k;
        server 127.0.0.1:8093 max_conns=1;
    }

    upstream failing {
        zone failing 64k;
        server 127.0.0.1:8099 max_fails=2 fail_timeout=60s;
        server 127.0.0.1:8091;
    }

    map $tunnel_host $target {
        group.example      group;
        address.example    127.0.0.1:%%PORT_8091%%;
        name.example       local.example:%%PORT_8091%%;
        port.example       group:443;
    }

    # the default rules, which bind what a client asks for

    server {
        listen 127.0.0.1:8080;
        connect_tunnel 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8081;
        connect_tunnel group;
    }

    server {
        listen 127.0.0.1:8082;
        connect_tunnel unix:%%TESTDIR%%/target.sock;
    }

    server {
        listen 127.0.0.1:8083;
        connect_tunnel $target;
    }

    # rules that are set

    server {
        listen 127.0.0.1:8084;
        connect_tunnel 127.0.0.1:8091;
        target_deny denied.example:* 127.0.0.9:*;
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel group;
        target_deny denied.example:*;
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel unix:%%TESTDIR%%/target.sock;
        target_deny denied.example:*;
        target_deny_address private;
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel group;
        target_allow allowed.example:*;
    }

    server {
        listen 127.0.0.1:8088;
        connect_tunnel 127.0.0.1:8091;
        target_deny_address 127.0.0.1;
    }

    server {
        listen 127.0.0.1:8089;
        connect_tunnel two;
        target_deny_address 127.0.0.2;
    }

    server {
        listen 127.0.0.1:8090;
        connect_tunnel group;
        target_deny_address all;
    }

    server {
        listen 127.0.0.1:8100;
        connect_tunnel group;
        target_deny denied.example:*;
        target_deny_address 127.0.0.1;
        target_dry_run on;
    }

    # inherited ones are set as well

    server {
        listen 127.0.0.1:8101;
        target_deny_address private;

        location / {
            connect_tunnel group;
        }
    }

    # no target: the client's

    server {
        listen 127.0.0.1:8102;
        connect_tunnel;
        target_allow *:*;
    }

    server {
        listen 127.0.0.1:8103;
        connect_tunnel $tunnel_host;
        target_allow *:*;
    }

    # groups

    server {
        listen 127.0.0.1:8104;
        connect_tunnel shared;

        location /proxy {
            proxy_pass http://shared;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }

    server {
        listen 127.0.0.1:8105;
        connect_tunnel least;
    }

    server {
        listen 127.0.0.1:8106;
        connect_tunnel max;
        relay_idle_timeout 300ms;
    }

    server {
        listen 127.0.0.1:8107;
        connect_tunnel reset;
    }

    server {
        listen 127.0.0.1:8108;
        connect_tunnel failing;
    }
}

EOF

my $d = $t->testdir();

start_daemon($t, \&echo_daemon, port(8091), greeting => '1');
start_daemon($t, \&echo_daemon, port(8092), greeting => '2');
start_daemon($t, \&echo_daemon, '127.0.0.2:' . port(8091), greeting => 'x');
start_daemon($t, \&echo_daemon, "unix:$d/target.sock", greeting => 'u');
start_daemon($t, \&reset_daemon, port(8093), greeting => 'r');
start_daemon($t, \&http_daemon, port(8094), log => "$d/http.log");

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { 'local.example' => '127.0.0.1' });

port(8099);	# nobody is there

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# the default rules: neither port nor address of the target is denied

is(tunnel(8080, 'any.example:1'), '1', 'default rules, address');
is(tunnel(8081, 'any.example:1'), '1', 'default rules, group');
is(tunnel(8082, 'any.example:1'), 'u', 'default rules, unix socket');
is(tunnel(8083, 'group.example:1'), '1', 'default rules, group by variable');

# what a variable names and no group has is bound by them

is(refused($t, 8083, 'address.example:443'), '403 denied_name -',
	'default rules, address by variable');
is(refused($t, 8083, 'name.example:443'), '403 denied_name -',
	'default rules, name by variable');
is(tunnel(8083, 'port.example:1'), '1', 'name of a group with a port');

# rules that are set: names are those the client asked for

is(tunnel(8084, 'any.example:1'), '1', 'target_deny, address');
is(refused($t, 8084, 'denied.example:1'), '403 denied_name -',
	'target_deny, address denied');
is(refused($t, 8084, 'DENIED.Example.:1'), '403 denied_name -',
	'target_deny, other spelling');
is(refused($t, 8084, '127.0.0.9:1'), '403 denied_name -',
	'target_deny, address of the client');
is(tunnel(8085, 'any.example:1'), '1', 'target_deny, group');
is(refused($t, 8085, 'denied.example:1'), '403 denied_name -',
	'target_deny, group denied');
is(tunnel(8086, 'any.example:1'), 'u', 'target_deny, unix socket');
is(refused($t, 8086, 'denied.example:1'), '403 denied_name -',
	'target_deny, unix socket denied');
is(tunnel(8087, 'allowed.example:1'), '1', 'target_allow, group');
is(refused($t, 8087, 'other.example:1'), '403 denied_name -',
	'target_allow, group denied');
is(refused($t, 8087, 'other.example:443'), '403 denied_name -',
	'target_allow, group denied, usual port');

# addresses are those of the target

is(refused($t, 8088, 'any.example:1'), '403 denied_address -',
	'target_deny_address, address');
ok(wait_log($t, 'error.log', qr/\[error\].*"any.example:1" failed: /
	. qr/denied_address, address 127\.0\.0\.1:\d+, /
	. qr/target_deny_address 127\.0\.0\.1/), 'target_deny_address, logged');
is(join('', map { tunnel(8089, 'any.example:1') } 1 .. 4), '1111',
	'target_deny_address, one of a group');
is(refused($t, 8090, 'any.example:1'), '403 denied_address -',
	'target_deny_address all');
is(refused($t, 8101, 'any.example:1'), '403 denied_address -',
	'target_deny_address, inherited');
is(tunnel(8100, 'denied.example:1'), '1', 'dry run');
ok(wait_log($t, 'error.log', qr/\[warn\].*"denied.example:1" would be denied/),
	'dry run, name logged');
ok(wait_log($t, 'error.log', qr/\[warn\].*127\.0\.0\.1:\d+ would be denied/),
	'dry run, address logged');

# a client never selects a group by its name

is(refused($t, 8102, 'group:443'), '502 resolve_failed -', 'name of a group');
is(refused($t, 8102, 'group:80'), '502 resolve_failed -',
	'name of a group, other port');
is(refused($t, 8102, 'two:443'), '502 resolve_failed -',
	'name of another group');
ok(dns_queries($t, 'dns.log', 'group', 'A'), 'name of a group is asked for');

# unless the configuration says so

is(tunnel(8103, 'group:443'), '1', 'name of a group, by variable');
is(refused($t, 8103, 'nobody:443'), '500 internal -',
	'name of no group, by variable');

# connections that are kept alive for requests

like(http_get('/proxy', socket => tcp_connect(port(8104))), qr/SEE-THIS/,
	'request');
like(raw(8104, 'any.example:1'), qr/SEE-THIS/, 'tunnel in between');
like(http_get('/proxy', socket => tcp_connect(port(8104))), qr/SEE-THIS/,
	'request after a tunnel');
like(raw(8104, 'any.example:1'), qr/SEE-THIS/, 'tunnel again');

my ($s1) = connect_tunnel(port(8104), 'any.example:1');
like(http_get('/proxy', socket => tcp_connect(port(8104))), qr/SEE-THIS/,
	'request while there is a tunnel');
like(get($s1), qr/SEE-THIS/, 'tunnel and request do not mix');
close $s1;

is(scalar(grep { m!^GET /proxy ! } log_lines($t, 'http.log')), 3,
	'requests of the proxy');
is(scalar(grep { m!^GET /raw ! } log_lines($t, 'http.log')), 3,
	'requests in tunnels');

# counts are given back, whatever ended the tunnel

my @s = map { open_tunnel(8105, 'least', 'any.example:1') } 1 .. 6;
is(join('', sort map { $_->[1] } @s), '111222', 'least_conn');

my @one = grep { $_->[1] eq '1' } @s;
reset_close($one[0][0]);
half_close($one[1][0]);
read_all($one[1][0]);
close $one[2][0];
ok(wait_log($t, 'tunnel.log', qr/^least 200 /, undef, 3), 'three have ended');

push @s, map { open_tunnel(8105, 'least', 'any.example:1') } 1 .. 3;
is(join('', map { $_->[1] } @s[6 .. 8]), '111', 'least_conn, given back');
close $_->[0] for @s;

my $s = open_tunnel(8106, 'max', 'any.example:1');
my $other = open_tunnel(8106, 'max', 'any.example:1');
is($s->[1] . $other->[1], '12', 'max_conns, backup');
is(refused($t, 8106, 'any.example:1'), '502 unreachable -', 'max_conns, none');
ok(wait_log($t, 'tunnel.log', qr/^max 200 ok idle_timeout/, undef, 2),
	'idle timeouts');
is(tunnel(8106, 'any.example:1'), '1', 'max_conns after an idle timeout');

$s = open_tunnel(8107, 'reset', 'any.example:1');
is($s->[1], 'r', 'max_conns, tunnel');
is(refused($t, 8107, 'any.example:1'), '502 unreachable -', 'max_conns, full');
write_all($s->[0], 'x');
is((read_all($s->[0]))[1], 'RESET', 'target resets');
is(tunnel(8107, 'any.example:1'), 'r', 'max_conns after a reset');

# max_fails in a zone: two attempts in vain, and no more

my $failed = qr/connect\(\) to \S+ failed/;

is(join('', map { tunnel(8108, 'any.example:1') } 1 .. 8), '1' x 8,
	'max_fails, tunnels');
is(scalar(grep { /$failed/ } grep { /:@{[port(8099)]} failed/ }
	log_lines($t, 'error.log')), 2, 'max_fails, attempts');

###############################################################################

sub tunnel {
	my ($proxy, $target) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), $target);

	return $head =~ / 200 / ? scalar read_n($s, 1) : $head;
}

sub open_tunnel {
	my ($proxy, $id, $target) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), $target,
		headers => [ "X-Id: $id" ]);

	return [ $s, $head =~ / 200 / ? scalar read_n($s, 1) : $head ];
}

# A request through a tunnel.

sub raw {
	my ($proxy, $target) = @_;

	my ($s) = connect_tunnel(port($proxy), $target);

	return get($s);
}

sub get {
	my ($s) = @_;

	write_all($s, "GET /raw HTTP/1.0\x0d\x0a\x0d\x0a");

	return scalar read_all($s);
}

# Status, result and address as they are logged.

sub refused {
	my ($t, $proxy, $target) = @_;

	our $id++;

	connect_tunnel(port($proxy), $target, headers => [ "X-Id: id$id" ]);

	my $line = wait_log($t, 'tunnel.log', qr/^id$id /) || '';
	return $line =~ /^\S+ (\S+ \S+ )\S+ (\S+)$/ ? "$1$2" : $line;
}

###############################################################################
