#!/usr/bin/perl

# Tests for the module where no server has a tunnel: nginx is as without it,
# also after a reload that removes the last tunnel.

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

my $t = Test::Nginx->new()
	->has(qw/http http_ssl auth_basic rewrite socket_ssl/)->plan(36);

write_conf($t, '');

make_cert($t, 'proxy');

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('file', "SEE-FILE\n");

my $target = '127.0.0.1:' . port(8081);

start_daemon($t, \&echo_daemon, $target);
$t->run();

###############################################################################

# from 1.29.3 nginx parses the authority, and refuses the method

my $stock = $t->has_version('1.29.3') ? 405 : 400;

without_tunnel($t, '');

# a tunnel comes and goes

write_conf($t, 'connect_tunnel;');
reload($t, 1);

is(status(8080, connect_request($target)), 200, 'tunnel after reload');
is(status(8443, connect_request($target)), 200, 'tunnel after reload, TLS');
is(status(8082, connect_request($target)), $stock,
	'another server after reload');

write_conf($t, '');
reload($t, 2);

without_tunnel($t, ' after reload');

is(join("\n", grep { m!TUNNEL /127! && !/\|TUNNEL\|/ }
	log_lines($t, 'tunnel.log')), '', 'CONNECT in the log');

###############################################################################

sub without_tunnel {
	my ($t, $when) = @_;

	my $get = "GET /file HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a";
	my $log = qr/^\QCONNECT $target HTTP\/1.1|\E[^|]*\|$stock\|-\|-$/;
	my $lines = grep { /$log/ } log_lines($t, 'tunnel.log');

	is(status(8080, connect_request($target)), $stock, "authority$when");
	is(status(8443, connect_request($target)), $stock,
		"authority, TLS$when");
	is(status(8080, connect_request($target, auth => 'user:secret')),
		$stock, "credentials$when");
	is(status(8080, connect_request($target, version => '1.0',
		host => undef)), $stock, "http 1.0$when");
	is(status(8080, $get . connect_request($target)), "200 $stock",
		"GET then CONNECT$when");
	like(status(8080, connect_request('/file', host => 'a')),
		qr/^40[05]$/, "path$when");
	is(status(8080, connect_request($target)
		. "GET /file HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a"),
		$stock, "bytes behind CONNECT$when");

	ok(wait_log($t, 'tunnel.log', $log, undef, $lines + 5),
		"authority log$when");

	is(status(8080, "TUNNEL /$target HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "Connection: close\x0d\x0a\x0d\x0a"), 405,
		"unknown method$when");
	ok(wait_log($t, 'tunnel.log',
		qr/^\QTUNNEL \/$target HTTP\/1.1|TUNNEL|405|-|-\E$/),
		"unknown method log$when");
	is(status(8080, $get . $get), '200 200', "GET$when");

	# a header of other methods is none of ours

	my $s = tcp_connect(port(8083));
	write_all($s, "GET /file HTTP/1.0\x0d\x0a"
		. "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\x0d\x0a"
		. "\x0d\x0a");
	like(read_all($s), qr/^HTTP\/1\.1 401 .*^WWW-Authenticate: Basic/ms,
		"WWW-Authenticate$when");

	$s = tcp_connect(port(8083));
	write_all($s, "GET /file HTTP/1.0\x0d\x0a"
		. "Authorization: Basic dXNlcjpzZWNyZXQ=\x0d\x0a\x0d\x0a");
	like(read_all($s), qr/SEE-FILE/, "Authorization$when");

	is(status(8084, "GET / HTTP/1.0\x0d\x0a\x0d\x0a"), 200,
		"variables$when");
	ok(wait_log($t, 'tunnel.log', qr/^GET \/ HTTP\/1\.0\|GET\|200\|-\|-$/),
		"variables log$when");
}

# The old worker may take a connection until it is gone.

sub reload {
	my ($t, $n) = @_;

	$t->reload();

	ok(wait_log($t, 'error.log', qr/worker process \d+ exited with code/,
		undef, $n), "reload $n");
}

# The statuses of all responses; a tunnel is left at once.

sub status {
	my ($port, $bytes) = @_;

	my $s = client_connect(port($port), ssl => $port == 8443);
	write_all($s, $bytes);
	half_close($s) unless $port == 8443;

	my $r = read_head($s);
	return 200 if $r =~ /^HTTP\S+ 200 Connection established/;

	$r .= read_all($s);
	return join ' ', $r =~ /^HTTP\S+ (\d+)/mg;
}

sub write_conf {
	my ($t, $tunnel) = @_;

	$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '\$request|\$request_method|\$status|\$tunnel_result|'
                      '\$tunnel_target';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    # of no use here

    target_allow *:*;
    target_deny a.example:*;
    target_allow_address 127.0.0.1;
    target_deny_address 192.0.2.0/24;
    target_connect_timeout 1s;
    relay_idle_timeout 1m;
    connect_tunnel_proxy_status on;
    connect_tunnel_min_version 1.0;
    tunnel_anonymous_log on;

    ssl_certificate proxy.crt;
    ssl_certificate_key proxy.key;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8443 ssl;

        $tunnel
    }

    server {
        listen 127.0.0.1:8082;
    }

    server {
        listen 127.0.0.1:8083;

        auth_basic closed;
        auth_basic_user_file users;
    }

    server {
        listen 127.0.0.1:8084;
        return 200 "-\$tunnel_target\$tunnel_reason\$tunnel_time-\\n";
    }
}

EOC
}

###############################################################################
