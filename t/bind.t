#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: the local address of tunnels.

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

my $t = Test::Nginx->new()->has(qw/http map/)->plan(17);

# what comes back to an address that is not ours is delivered here, too

ip('rule add pref 100 lookup 100');
ip('route add local 198.51.100.0/24 dev lo table 100');
ip('-6 addr add fd00::2/128 dev lo nodad');

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
    target_allow_address all;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_bind 127.0.0.2;
    }

    server {
        listen 127.0.0.1:8082;
        connect_tunnel;
        target_bind $http_x_bind;
    }

    server {
        listen 127.0.0.1:8083;
        target_bind 127.0.0.2;

        location / {
            connect_tunnel;
            target_bind off;
        }
    }

    server {
        listen 127.0.0.1:8084;
        target_bind 127.0.0.2;

        location / {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;
        target_bind 198.51.100.7 transparent;
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel;
        target_bind $http_x_bind transparent;
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel;
        target_bind fd00::2;
    }

    server {
        listen 127.0.0.1:8088;
        connect_tunnel 127.0.0.1:8091;
        target_bind 127.0.0.2;
    }
}

EOF

my $p = port(8091);

start_daemon($t, \&peer_daemon, "127.0.0.1:$p");
start_daemon($t, \&peer_daemon, "[::1]:$p");
start_daemon($t, \&dns_daemon, port(8980, udp => 1),
	log => $t->testdir() . '/dns.log',
	table => {
		'both.example' => [ '127.0.0.1', '::1' ],
		'six.example' => '::1',
	});

$t->waitforfile($t->testdir() . '/dns.log');
$t->run();

###############################################################################

is(tunnel(8080, "127.0.0.1:$p"), '127.0.0.2', 'address');
is(tunnel(8083, "127.0.0.1:$p"), '127.0.0.1', 'off');
is(tunnel(8084, "127.0.0.1:$p"), '127.0.0.2', 'inherited');
is(tunnel(8088, 'any.example:1'), '127.0.0.2', 'target of the configuration');

# variables

is(tunnel(8082, "127.0.0.1:$p", '127.0.0.3'), '127.0.0.3', 'variable');
is(tunnel(8082, "127.0.0.1:$p"), '127.0.0.1', 'empty variable');
is(tunnel(8082, "127.0.0.1:$p", 'invalid'), 500, 'invalid variable');
ok(wait_log($t, 'error.log', qr/\[error\].*invalid local address "invalid"/),
	'invalid variable logged');
is(tunnel(8082, "127.0.0.1:$p", 'fd00::2'), 502,
	'variable of the other family');

# only addresses of its family are tried

is(tunnel(8080, "both.example:$p"), '127.0.0.2', 'IPv4 of both families');
is(tunnel(8087, "both.example:$p"), 'fd00::2', 'IPv6 of both families');
is(tunnel(8080, "six.example:$p"), 502, 'no address of its family');
is(tunnel(8087, "127.0.0.1:$p"), 502, 'address of the other family');
ok(wait_log($t, 'error.log', qr/"six.example:$p" failed: unreachable/),
	'other family logged');

# an address that is not ours

is(tunnel(8085, "127.0.0.1:$p"), '198.51.100.7', 'transparent');
is(tunnel(8086, "127.0.0.1:$p", '198.51.100.8'), '198.51.100.8',
	'transparent, variable');
isnt(tunnel(8082, "127.0.0.1:$p", '198.51.100.8'), '198.51.100.8',
	'not transparent');

###############################################################################

# The address that the target sees, or the status.

sub tunnel {
	my ($proxy, $target, $bind) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), $target,
		headers => [ defined $bind ? "X-Bind: $bind" : () ]);

	return $1 if $head =~ /^HTTP\S+ ([3-5]\d\d) /;
	return scalar read_all($s);
}

sub peer_daemon {
	my ($addr) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		write_all($s, $s->peerhost());
		Test::Nginx::Tunnel::half_close($s);
		read_all($s);
	});
}

###############################################################################
