#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: the addresses that nginx itself listens on.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Namespace qw/ net /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(15);

# of the whole world, so that nothing else denies them

ip('addr add 9.9.9.9/32 dev lo');
ip('addr add 9.9.9.10/32 dev lo');
ip('-6 addr add 2620:fe::9/128 dev lo nodad');

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;

    server {
        listen %%PORT_8080%%;
        listen [::]:%%PORT_8082%%;
        connect_tunnel;
    }

    server {
        listen 9.9.9.10:%%PORT_8083%%;
        connect_tunnel;
        target_allow_address 9.9.9.9;
    }

    # not a proxy, but a part of this nginx

    server {
        listen 9.9.9.9:%%PORT_8084%%;
        return 204;
    }

    # an IPv6 socket that takes IPv4 as well

    server {
        listen [::]:%%PORT_8085%% ipv6only=off;
        connect_tunnel;
    }
}

EOF

my $p = port(8091);

start_daemon($t, \&echo_daemon, "9.9.9.9:$p");
start_daemon($t, \&echo_daemon, "[2620:fe::9]:$p");
start_daemon($t, \&dns_daemon, port(8980, udp => 1),
	log => $t->testdir() . '/dns.log',
	table => { 'own.example' => [ '9.9.9.9', '2620:fe::9' ] });

$t->waitforfile($t->testdir() . '/dns.log');
$t->run();

###############################################################################

my $proxy = '9.9.9.9:' . port(8080);

is(status($proxy, "9.9.9.9:$p"), 200, 'other port of this machine');
is(status($proxy, "[2620:fe::9]:$p"), 200, 'other port, IPv6');
is(status($proxy, "own.example:$p"), 200, 'other port, by name');

is(status($proxy, '9.9.9.9:' . port(8080)), 403, 'own port');
is(status($proxy, '9.9.9.10:' . port(8080)), 403, 'own port, other address');
is(status($proxy, '[::ffff:9.9.9.9]:' . port(8080)), 403,
	'own port, mapped address');
isnt(status($proxy, 'own.example:' . port(8080)), 200, 'own port, by name');
is(status($proxy, 'own.example:' . port(8084)), 502,
	'own address, by name, IPv6 is free');
is(status($proxy, '[2620:fe::9]:' . port(8082)), 403, 'own port, IPv6');
is(status($proxy, '9.9.9.10:' . port(8083)), 403, 'own address');
is(status($proxy, '9.9.9.9:' . port(8083)), 502, 'not on this address');
is(status($proxy, '9.9.9.9:' . port(8084)), 403, 'own web server');
is(status($proxy, '9.9.9.9:' . port(8085)), 403, 'own IPv6 port, by IPv4');

ok(wait_log($t, 'error.log', qr/denied_address, .*own listening address/),
	'own address logged');

is(status('9.9.9.10:' . port(8083), '9.9.9.9:' . port(8084)), 200,
	'own address allowed');

###############################################################################

sub status {
	my ($proxy, $target) = @_;

	my ($s, $head) = connect_tunnel($proxy, $target);

	return $head =~ /^HTTP\S+ (\d+)/ ? $1 : $head;
}

###############################################################################
