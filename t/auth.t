#!/usr/bin/perl

# Tests for access to a tunnel: proxy authentication, addresses, limits; and
# that credentials do not reach a log.

###############################################################################

use warnings;
use strict;

use MIME::Base64 qw/ encode_base64 /;
use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()
	->has(qw/http proxy rewrite map geo access auth_basic auth_request/)
	->has(qw/limit_conn limit_req/)->plan(81);

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$server_name|$request|$status|$tunnel_result|'
                      '$remote_user|$http_proxy_authorization';
    log_format backend '$http_x_target|$http_authorization|'
                       '$http_proxy_authorization';

    # the level debug tells every header

    error_log %%TESTDIR%%/error.log info;

    access_log %%TESTDIR%%/tunnel.log tunnel;
    access_log %%TESTDIR%%/combined.log;

    target_allow *:*;
    target_allow_address 127.0.0.1;

    limit_conn_zone $server_name zone=conn:1m;
    limit_req_zone $server_name zone=req:1m rate=1r/m;

    geo $bad_geo {
        default      0;
        127.0.0.0/8  1;
    }

    map $tunnel_port $bad_map {
        default           1;
        %%PORT_8081%%     0;
    }

    server {
        listen 127.0.0.1:8080;
        server_name basic;

        auth_basic "my proxy";
        auth_basic_user_file users;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS $remote_user\n";
        }

        location /file {
        }
    }

    server {
        listen 127.0.0.1:8082;
        server_name request;

        auth_request /auth;

        connect_tunnel;

        location = /auth {
            internal;
            auth_request off;
            proxy_pass http://127.0.0.1:8083;
            proxy_set_header X-Target $tunnel_target;
        }
    }

    server {
        listen 127.0.0.1:8083;
        server_name backend;

        access_log %%TESTDIR%%/backend.log backend;

        add_header WWW-Authenticate 'Bearer realm="backend"' always;

        if ($http_authorization = "") {
            return 401;
        }

        if ($http_authorization != "Basic dXNlcjpzZWNyZXQ=") {
            return 403;
        }

        return 204;
    }

    # a failing backend

    server {
        listen 127.0.0.1:8084;
        server_name broken;

        auth_request /auth;

        connect_tunnel;

        location = /auth {
            internal;
            auth_request off;
            return 500;
        }
    }

    server {
        listen 127.0.0.1:8085;
        server_name any_allowed;

        satisfy any;
        allow 127.0.0.1;
        deny all;
        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8086;
        server_name any_denied;

        satisfy any;
        deny all;
        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8087;
        server_name all_denied;

        deny all;
        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8088;
        server_name delay;

        auth_delay 1s;
        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8089;
        server_name deny;
        deny 127.0.0.1;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8090;
        server_name limit_conn;
        limit_conn conn 1;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8091;
        server_name limit_req;
        limit_req zone=req;
        limit_req_status 429;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8092;
        server_name geo;
        if ($bad_geo) { return 403; }
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8093;
        server_name map;
        if ($bad_map) { return 403; }
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8094;
        server_name headers;

        add_header X-Always "$tunnel_host" always;
        add_header X-Ok "ok";

        satisfy any;
        auth_basic proxy;
        auth_basic_user_file users;

        target_deny 127.0.0.2:*;

        connect_tunnel;
    }

    # "401" is for nginx before 1.31, and "407" for the others

    server {
        listen 127.0.0.1:8095;
        server_name page;
        root %%TESTDIR%%;

        auth_basic proxy;
        auth_basic_user_file users;

        error_page 401 407 /auth.html;

        connect_tunnel;

        location = /auth.html { auth_basic off; }
    }

    server {
        listen 127.0.0.1:8096;
        server_name page_named;

        auth_basic proxy;
        auth_basic_user_file users;

        error_page 401 407 @page;

        connect_tunnel;

        location @page { auth_basic off; return 200 "SEE-NAMED\n"; }
    }

    # authentication of a location only

    server {
        listen 127.0.0.1:8097;
        server_name location;

        location / {
            auth_basic proxy;
            auth_basic_user_file users;
            connect_tunnel;
        }

        location = / {
            auth_basic off;
            return 200 "SEE-THIS\n";
        }
    }

    server {
        listen 127.0.0.1:8098;
        server_name location_off;

        connect_tunnel;

        location / {
            auth_basic proxy;
            auth_basic_user_file users;
        }
    }
}

EOC

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('auth.html', 'SEE-PAGE');
$t->write_file('file', 'SEE-FILE');

my $echo = port(8081);

start_daemon($t, \&echo_daemon, "127.0.0.1:$echo");
$t->run();

###############################################################################

my @good = (auth => 'user:secret');
my @bad = (auth => 'user:wrong-secret');
my $good = encode_base64('user:secret', '');
my $bad = encode_base64('user:wrong-secret', '');

# auth_basic

my $r = request(8080);

like($r, qr!^HTTP/1\.1 407 Proxy Authentication Required\x0d$!m, 'status');
like($r, qr/^Proxy-Authenticate: Basic realm="my proxy"(?:, charset=.*)?\x0d$/m,
	'Proxy-Authenticate');
unlike($r, qr/^WWW-Authenticate/mi, 'no WWW-Authenticate');
unlike($r, qr/401|Authorization Required/, '401 nowhere');
like($r, qr/^Connection: keep-alive\x0d$/m, '407 keeps the connection');

my ($length) = $r =~ /^Content-Length: (\d+)/m;
like(body($r), qr/<h1>407 /, '407 body');
is(length(body($r)), $length, '407 length');
unlike($r, qr/^Proxy-Status/m, '407 is of no target');

is(tunnel(8080, @good), 'ok', 'password');
like(tunnel(8080, @bad), qr/^407 /, 'wrong password');
like(tunnel(8080, auth => 'other:secret'), qr/^407 /, 'no such user');
like(tunnel(8080, auth => ''), qr/^407 /, 'no user');
like(tunnel(8080, version => '1.0'), qr/^407 /, 'http 1.0');
unlike(tunnel(8080, version => '1.0'), qr/^Connection: keep-alive/m,
	'http 1.0 keeps nothing');
like(tunnel(8080, version => '1.0', headers => [
	'Proxy-Connection: keep-alive' ]), qr/^407 /, 'proxy-connection');
is(tunnel(8080, @good, version => '1.0'), 'ok', 'http 1.0, password');
is(tunnel(8080, headers => [ "proxy-authorization: basic $good" ]), 'ok',
	'lower case');

for my $value ('Basic', 'Basic ', 'Basic !!!', "Bearer $good",
	'Digest username="user"', '')
{
	like(tunnel(8080, headers => [ "Proxy-Authorization: $value" ]),
		qr/^407 /, "credentials '$value'");
}

# those for the target are not for the proxy

my $authorization = "Authorization: Basic $good";

like(tunnel(8080, headers => [ $authorization ]), qr/^407 /, 'Authorization');
like(tunnel(8080, @bad, headers => [ $authorization ]), qr/^407 /,
	'wrong password, and Authorization');
like(tunnel(8080, headers => [ $authorization,
	"Proxy-Authorization: Basic $bad" ]), qr/^407 /,
	'Authorization, and wrong password');
is(tunnel(8080, @good, headers => [ "Authorization: Basic $bad" ]), 'ok',
	'password, and wrong Authorization');
like(tunnel(8080, @bad, headers => [ "Proxy-Authorization: Basic $good" ]),
	qr/^40[07] /, 'two credentials, wrong first');

ok(wait_log($t, 'tunnel.log', qr/^basic\|CONNECT .*\|200\|ok\|user\|/),
	'user in the log');
ok(wait_log($t, 'tunnel.log', qr/^basic\|CONNECT .*\|407\|-\|-\|/),
	'407 in the log');

# other methods

like(get(8080, '/file'), qr!^HTTP/1\.1 401 .*^WWW-Authenticate: !ms, 'GET');
like(get(8080, '/file', "Proxy-Authorization: Basic $good"),
	qr!^HTTP/1\.1 401 !, 'GET, Proxy-Authorization');
like(get(8080, '/file', $authorization), qr/SEE-FILE/, 'GET, Authorization');

# a location

like(tunnel(8097), qr/^ok|^405 /, 'location = / is what "/" selects');
is(tunnel(8098), 'ok', 'that of a location is not for the server');

# auth_request

like(tunnel(8082), qr/^407 .*^Proxy-Authenticate: Bearer realm="backend"/ms,
	'backend');
is(tunnel(8082, @good), 'ok', 'backend, password');
like(tunnel(8082, @bad), qr/^403 /, 'backend, wrong password');
like(tunnel(8082, headers => [ $authorization ]), qr/^407 /,
	'backend, Authorization');
like(tunnel(8084, @good), qr/^500 /, 'broken backend');

my @lines = log_lines($t, 'backend.log');

is($lines[0], "127.0.0.1:$echo|-|-", 'no credentials for the backend');
like($lines[1], qr/^127\.0\.0\.1:$echo\|Basic \Q$good\E\|/,
	'credentials for the backend');
like($lines[3], qr/^127\.0\.0\.1:$echo\|-?\|-$/,
	'Authorization is not for the backend');

# satisfy

is(tunnel(8085), 'ok', 'any, address');
like(tunnel(8086), qr/^407 /, 'any, no address, no password');
is(tunnel(8086, @good), 'ok', 'any, no address, password');
like(tunnel(8086, @bad), qr/^407 /, 'any, no address, wrong password');
like(tunnel(8087, @good), qr/^403 /, 'all, no address');
like(tunnel(8089), qr/^403 /, 'deny');
unlike(tunnel(8089), qr/^Proxy-Status/m, 'deny is of no target');
ok(wait_log($t, 'tunnel.log', qr/^deny\|CONNECT .*\|403\|-\|/), 'deny log');
ok(wait_log($t, 'error.log', qr/access forbidden by rule.*request: "CONNECT /),
	'deny error log');

# auth_delay

my $start = time();
like(tunnel(8088, @bad), qr/^407 /, 'delayed');
cmp_ok(time() - $start, '>', 0.7, 'delay');

my $s = tcp_connect(port(8088));
write_all($s, connect_request("127.0.0.1:$echo", @bad));
write_all($s, "GET / HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a");
$r = read_all($s);
is(join(' ', $r =~ /^HTTP\S+ (\d+)/mg), '407', 'bytes during the delay');

# limits

my ($held, $head) = connect_tunnel(port(8090), "127.0.0.1:$echo");
like($head, qr/^HTTP\/1\.1 200 /, 'limit_conn');
like(tunnel(8090), qr/^503 /, 'limit_conn reached');
like(tunnel(8090), qr/^503 /, 'limit_conn reached again');
close $held;
ok(wait_for(sub { tunnel(8090) eq 'ok' }), 'limit_conn left');

is(tunnel(8091), 'ok', 'limit_req');
like(tunnel(8091), qr/^429 /, 'limit_req reached');

like(tunnel(8092), qr/^403 /, 'geo');
is(tunnel(8093), 'ok', 'map');
like(tunnel(8093, authority => '127.0.0.1:1'), qr/^403 /, 'map, forbidden');

# add_header

my (undef, $ok) = connect_tunnel(port(8094), "127.0.0.1:$echo", @good);
like($ok, qr/^X-Always: 127\.0\.0\.1\x0d$/m, 'always, 200');
like($ok, qr/^X-Ok: ok\x0d$/m, 'add_header, 200');

$r = request(8094);
like($r, qr/^HTTP\/1\.1 407 .*^X-Always: 127\.0\.0\.1\x0d$/ms, 'always, 407');
unlike($r, qr/^X-Ok/m, 'add_header, 407');

$r = request(8094, authority => "127.0.0.2:$echo", @good);
like($r, qr/^HTTP\/1\.1 403 .*^X-Always: 127\.0\.0\.2\x0d$/ms, 'always, 403');
like(request(8094, authority => '127.0.0.1:' . port(8999), @good),
	qr/^HTTP\/1\.1 502 .*^X-Always: 127\.0\.0\.1\x0d$/ms, 'always, 502');

# error pages

$r = request(8095);
like($r, qr/^HTTP\/1\.1 407 .*^Proxy-Authenticate: Basic/ms, 'page, 407');
is(body($r), 'SEE-PAGE', 'page');
is(tunnel(8095, @good), 'ok', 'page, password');

$r = request(8096);
like($r, qr/^HTTP\/1\.1 407 .*^Proxy-Authenticate: Basic/ms,
	'named location, 407');
is(body($r), "SEE-NAMED\n", 'named location');

# a retry on the same connection after a page

$s = tcp_connect(port(8095));
write_all($s, connect_request("127.0.0.1:$echo"));
$head = read_head($s);
read_n($s, $1) if $head =~ /^Content-Length: (\d+)/m;
write_all($s, connect_request("127.0.0.1:$echo", @good));
like(read_head($s), qr/^HTTP\/1\.1 200 /, 'retry after a page');

# a request may fail before the first phase

like(tunnel(8080, @good, host => undef), qr/^400 /, 'password, no host');
ok(wait_log($t, 'tunnel.log', qr/^basic\|CONNECT .*\|400\|/),
	'password, no host log');

# no log has a password

my $secret = qr/\Q$good\E|\Q$bad\E|secret|Basic /;

is(join("\n", grep { /$secret/ } log_lines($t, 'combined.log')), '',
	'no password in the access log');
is(join("\n", grep { /CONNECT .*$secret/ } log_lines($t, 'tunnel.log')), '',
	'no Proxy-Authorization in the access log');

# nginx 1.31 itself tells of two headers

is(join("\n", grep { /$secret/ && !/duplicate header line/ }
	log_lines($t, 'error.log')), '', 'no password in the error log');

###############################################################################

sub tunnel {
	my ($port, %opt) = @_;

	my $authority = delete $opt{authority} || "127.0.0.1:$echo";
	my ($s, $head) = connect_tunnel(port($port), $authority, %opt);

	return "$1 $head" if $head =~ m!^HTTP/1\.1 ([345]\d\d) !;
	return "bad response: $head" unless $head =~ m!^HTTP/1\.1 200 !;

	write_all($s, 'ECHO');
	return read_n($s, 4) eq 'ECHO' ? 'ok' : 'no echo';
}

# A response with its body.

sub request {
	my ($port, %opt) = @_;

	my $authority = delete $opt{authority} || "127.0.0.1:$echo";
	my ($s, $head) = connect_tunnel(port($port), $authority, %opt);

	half_close($s);

	return $head . read_all($s);
}

sub body {
	my ($r) = @_;

	return $r =~ /\x0d\x0a\x0d\x0a(.*)\z/s ? $1 : '';
}

sub get {
	my ($port, $uri, @headers) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, join "\x0d\x0a", "GET $uri HTTP/1.1", 'Host: a',
		'Connection: close', @headers, '', '');

	return scalar read_all($s);
}

###############################################################################
