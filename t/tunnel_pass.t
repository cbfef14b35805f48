#!/usr/bin/perl

# Tests for the module beside nginx's own ngx_http_tunnel_module, which nginx
# has from 1.31.0: both in one configuration, and each CONNECT is served by the
# one whose directive its server, or location, has.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/);

plan(skip_all => 'nginx has no ngx_http_tunnel_module')
	if !$t->has_version('1.31.0') || $t->build_info() =~ /freenginx/
	|| $t->has_module('--without-http_tunnel_module');

$t->plan(20);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$server_name|$request|$status|$tunnel_result|'
                      '$upstream_addr';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow 127.0.0.1:*;
    target_allow_address 127.0.0.1;

    ssl_certificate %%TESTDIR%%/ours.crt;
    ssl_certificate_key %%TESTDIR%%/ours.key;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8443 ssl;
        server_name ours;

        target_deny *:%%PORT_8089%%;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8083;
        listen 127.0.0.1:8443 ssl;
        server_name theirs;

        tunnel_pass;
    }

    # both in a server: what "/" selects comes first, as without the other

    server {
        listen 127.0.0.1:8084;
        server_name location_ours;

        location / {
            connect_tunnel;
        }

        location /other {
            tunnel_pass;
        }
    }

    server {
        listen 127.0.0.1:8085;
        server_name server_ours;

        target_deny *:%%PORT_8089%%;
        connect_tunnel;

        location / {
            tunnel_pass;
        }
    }
}

EOF

make_cert($t, $_) for qw/ ours theirs /;

my $target = '127.0.0.1:' . port(8088);
my $denied = '127.0.0.1:' . port(8089);

start_daemon($t, \&echo_daemon, $_) for $target, $denied;
$t->run();

###############################################################################

is(echo(8080, $target), '200 hello', 'ours');
is(echo(8083, $target), '200 hello', 'theirs');
is(echo(8084, $target), '200 hello', 'ours by location');
is(echo(8085, $target), '200 hello', 'ours by server');

# rules bind those that are ours, and only those

is(echo(8080, $denied), '403', 'ours, denied');
is(echo(8083, $denied), '200 hello', 'theirs, no rules');
is(echo(8085, $denied), '403', 'ours by server, denied');

# SNI selects the server for ours; for theirs the target does, or by default the
# first one, and they have no CONNECT there

is(echo(8443, $target, 'ours'), '200 hello', 'ours, TLS');
is(echo(8443, $denied, 'ours'), '403', 'ours, TLS, denied');
is(echo(8443, $target, 'theirs'), '405', 'theirs, TLS');
is(echo(8443, $target, 'other'), '200 hello', 'default server, TLS');

ok(wait_log($t, 'tunnel.log', qr/^\Q$_\E$/), "log $_") for (
	"ours|CONNECT $target HTTP/1.1|200|ok|-",
	"ours|CONNECT $denied HTTP/1.1|403|denied_name|-",
	"theirs|CONNECT $target HTTP/1.1|200|-|$target",
	"theirs|CONNECT $denied HTTP/1.1|200|-|$denied",
	"location_ours|CONNECT $target HTTP/1.1|200|ok|-",
	"server_ours|CONNECT $target HTTP/1.1|200|ok|-",
);

# a reload under tunnels of both

my @tunnels = map { tunnel($_) } 8080, 8083;

$t->reload();

ok(wait_log($t, 'error.log', qr/gracefully shutting down/), 'reload');

for my $s (@tunnels) {
	write_all($s, 'again');
	is(read_n($s, 5), 'again', 'tunnel after reload');
	close $s;
}

###############################################################################

sub tunnel {
	my ($port) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, connect_request($target));
	read_head($s);

	return $s;
}

# the status, and a few bytes through the tunnel if there is one

sub echo {
	my ($port, $authority, $sni) = @_;

	my $s = client_connect(port($port), ssl => defined $sni, sni => $sni);
	write_all($s, connect_request($authority));

	my ($status) = read_head($s) =~ /^HTTP\/1\.\d (\d+)/;
	return $status unless $status == 200;

	write_all($s, 'hello');
	my $r = "$status " . read_n($s, 5);

	close $s;
	return $r;
}

###############################################################################
