#!/usr/bin/perl

# Tests for the location that serves a CONNECT, and for what the other
# methods get there; for error pages, and for the argument of connect_tunnel.

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
	->has(qw/http proxy rewrite map access auth_request unix/)->plan(90);

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$server_name|$request|$status|$tunnel_result|$marker';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_deny denied.example:*;
    target_allow_address 127.0.0.1;

    map $host $marker {
        default "-";
    }

    map $host $route {
        default            "";
        address.example    127.0.0.1:8081;
        name.example       other.example:%%PORT_8081%%;
        upper.example      OTHER.example.:%%PORT_8081%%;
        upstream.example   group;
        upcase.example     GROUP;
        itself.example     $host:%%PORT_8081%%;
        denied-t.example   denied.example:%%PORT_8081%%;
        closed.example     127.0.0.1:8999;
        no-port.example    other.example;
        bad-port.example   other.example:0;
        scheme.example     http://other.example:80;
        space.example      " ";
        unix.example       unix:%%TESTDIR%%/echo.sock;
    }

    upstream group {
        server 127.0.0.1:8081;
    }

    upstream group_unix {
        server unix:%%TESTDIR%%/echo.sock;
    }

    server {
        listen 127.0.0.1:8080;
        server_name s8080;
        root %%TESTDIR%%;

        # at server level, and locations are for the others

        connect_tunnel;

        location / {
            set $marker root;
            return 200 "SEE-RETURN $request_uri\n";
        }

        location = / {
            set $marker exact;
            proxy_pass http://127.0.0.1:8083;
        }

        location /file {
        }

        location = /only {
            limit_except GET {
                deny all;
            }

            return 200 "SEE-THIS\n";
        }
    }

    # a site and a proxy, with what the location of "/" may have

    server {
        listen 127.0.0.1:8090;
        server_name rewrite;
        connect_tunnel;
        location / { rewrite ^ /other; }
        location /other { return 200 "SEE-OTHER\n"; }
    }

    server {
        listen 127.0.0.1:8091;
        server_name try_files;
        connect_tunnel;
        location / { try_files /nowhere @named; }
        location @named { return 200 "SEE-NAMED\n"; }
    }

    server {
        listen 127.0.0.1:8092;
        server_name proxy;
        connect_tunnel;
        location / { proxy_pass http://127.0.0.1:8083; }
    }

    server {
        listen 127.0.0.1:8093;
        server_name internal;
        connect_tunnel;
        location = / { internal; }
    }

    server {
        listen 127.0.0.1:8094;
        server_name index;
        connect_tunnel;
        location / { index file; root %%TESTDIR%%; }
    }

    server {
        listen 127.0.0.1:8095;
        server_name deny;
        connect_tunnel;
        location / { deny all; }
    }

    server {
        listen 127.0.0.1:8096;
        server_name regex;
        connect_tunnel;
        location ~ ^/ { return 200 "SEE-REGEX\n"; }
    }

    # in a location only

    server {
        listen 127.0.0.1:8100;
        server_name in_location;

        location / {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8101;
        server_name in_other;
        location / { return 200 "SEE-THIS\n"; }
        location /tunnel { connect_tunnel; }
        location = /tunnel/name.example { connect_tunnel; }
    }

    server {
        listen 127.0.0.1:8102;
        server_name location_wins;
        connect_tunnel 127.0.0.1:8999;
        location / { connect_tunnel; }
    }

    server {
        listen 127.0.0.1:8103;
        server_name only_exact;
        location = / { internal; connect_tunnel; }
        location / { return 200 "SEE-THIS\n"; }
    }

    server {
        listen 127.0.0.1:8104;
        server_name except;
        location / {
            connect_tunnel;
            limit_except GET { allow all; }
        }
    }

    server {
        listen 127.0.0.1:8105;
        server_name except_get;
        location / {
            connect_tunnel;
            limit_except GET { deny all; }
        }
    }

    server {
        listen 127.0.0.1:8106;
        server_name if;

        location / {
            if ($request_method = CONNECT) {
                connect_tunnel;
            }
        }
    }

    server {
        listen 127.0.0.1:8107;
        server_name if_host;

        location / {
            connect_tunnel;
            if ($host = if.example) {
                connect_tunnel 127.0.0.1:8999;
            }
            if ($tunnel_port = 1) {
                return 403;
            }
            if ($host = empty.example) {
            }
        }
    }

    server {
        listen 127.0.0.1:8108;
        server_name server_if;
        connect_tunnel;
        if ($tunnel_host ~ ^no\.) { return 403; }
        if ($request_method = CONNECT) { set $marker rewritten; }
    }

    # its own rules, timeouts and so on are those of the location

    server {
        listen 127.0.0.1:8109;
        server_name rules;
        target_deny *:*;
        connect_tunnel;
        location / {
            target_allow *:*;
            target_deny another.example:*;
            connect_tunnel;
        }
    }

    # error pages

    server {
        listen 127.0.0.1:8110;
        server_name pages;
        root %%TESTDIR%%;

        error_page 403 /403.html;
        error_page 502 @502;
        error_page 405 =200 /405.html;
        error_page 400 /400.html;

        connect_tunnel;

        location = /403.html { internal; add_header X-Page 403 always; }
        location = /400.html { internal; add_header X-Page 400 always; }
        location @502 {
            add_header X-Page 502 always;
            return 502 "page $status $tunnel_result\n";
        }
    }

    server {
        listen 127.0.0.1:8111;
        server_name pages_status;
        root %%TESTDIR%%;

        recursive_error_pages on;

        error_page 403 =200 /403.html;
        error_page 502 = @again;
        error_page 504 =204 @none;

        connect_tunnel;

        location @again {
            error_page 503 @none;
            return 503;
        }

        location @none {
            return 418 "teapot\n";
        }
    }

    server {
        listen 127.0.0.1:8112;
        server_name pages_tunnel;
        error_page 403 /tunnel;
        error_page 502 @tunnel;
        connect_tunnel;
        location /tunnel { target_deny none.example:1; connect_tunnel; }
        location @tunnel { connect_tunnel 127.0.0.1:8081; }
    }

    # arguments

    server {
        listen 127.0.0.1:8120;
        server_name variable;
        connect_tunnel $route;
    }

    server {
        listen 127.0.0.1:8121;
        server_name literal;
        connect_tunnel 127.0.0.1:8081;
    }

    server {
        listen 127.0.0.1:8122;
        server_name upstream;
        connect_tunnel group;
    }

    server {
        listen 127.0.0.1:8123;
        server_name unix;
        connect_tunnel unix:%%TESTDIR%%/echo.sock;
    }

    server {
        listen 127.0.0.1:8124;
        server_name upstream_unix;
        connect_tunnel group_unix;
    }

    server {
        listen 127.0.0.1:8125;
        server_name host_var;
        connect_tunnel $tunnel_host:$tunnel_port;
    }

    server {
        listen 127.0.0.1:8126;
        server_name mixed;
        connect_tunnel other.example:$tunnel_port;
    }

    # subrequests

    server {
        listen 127.0.0.1:8130;
        server_name subrequest;

        auth_request /auth;
        connect_tunnel;

        location = /auth {
            internal;
            auth_request off;
            proxy_pass http://127.0.0.1:8083/auth;
            proxy_set_header X-Method $request_method;
            proxy_set_header X-Target $tunnel_target;
        }
    }

    server {
        listen 127.0.0.1:8083;
        server_name backend;

        location / {
            return 200 "SEE-BACKEND $request_method\n";
        }

        location /auth {
            if ($http_x_target ~ ^forbidden) { return 403; }
            return 204;
        }
    }
}

EOC

$t->write_file('file', 'SEE-FILE');
$t->write_file('403.html', 'SEE-403');
$t->write_file('400.html', 'SEE-400');

my $echo = port(8081);
my $closed = port(8999);

start_daemon($t, \&echo_daemon, "127.0.0.1:$echo");
start_daemon($t, \&echo_daemon, 'unix:' . $t->testdir() . '/echo.sock');
start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { '*' => '127.0.0.1' });

$t->run();

###############################################################################

# a site and a proxy at once

is(tunnel(8080), 'ok', 'tunnel at server level');
like(last_log($t, 's8080'), qr/200\|ok\|-$/, 'location did not run');
like(get(8080, '/a'), qr!^SEE-RETURN /a!m, 'return');
like(get(8080, '/'), qr!^SEE-BACKEND GET!m, 'proxy_pass');
like(get(8080, '/file'), qr!^SEE-FILE!m, 'file');
like(get(8080, '/nowhere', 'POST'), qr!^SEE-RETURN /nowhere!m, 'POST');
like(get(8080, '/file', 'POST'), qr!^HTTP/1\.1 405 !, 'POST to a file');
like(get(8080, '/only', 'DELETE'), qr!^HTTP/1\.1 (?:403|200) !,
	'limit_except of another location');

for my $case (
	[ 8090, 'rewrite', qr/SEE-OTHER/ ],
	[ 8091, 'try_files', qr/SEE-NAMED/ ],
	[ 8092, 'proxy_pass', qr/SEE-BACKEND GET/ ],
	[ 8093, 'internal', qr!^HTTP/1\.1 404 ! ],
	[ 8094, 'index', qr/SEE-FILE/ ],
	[ 8095, 'deny', qr!^HTTP/1\.1 403 ! ],
	[ 8096, 'regex', qr/SEE-REGEX/ ],
) {
	my ($port, $name, $like) = @$case;

	is(tunnel($port), 'ok', "tunnel and $name");
	like(get($port, '/'), $like, $name);
}

# in locations

is(tunnel(8100), 'ok', 'tunnel in location');
like(get(8100, '/file'), qr/SEE-FILE/, 'tunnel in location, GET');
like(tunnel(8101), qr/^405 /, 'tunnel in another location');
like(last_log($t, 'in_other'), qr/405\|-/, 'tunnel in another location log');
like(tunnel(8101, "tunnel:$echo"), qr/^405 /, 'target is no location');
is(tunnel(8102), 'ok', 'tunnel in location and server');
is(tunnel(8103), 'ok', 'tunnel in exact internal location');
like(get(8103, '/'), qr!^HTTP/1\.1 404 !, 'exact internal location, GET');
is(tunnel(8104), 'ok', 'limit_except inherits');
like(tunnel(8105), qr/^403 /, 'limit_except GET');
like(get(8105, '/file'), qr/SEE-FILE/, 'limit_except GET, GET');

is(tunnel(8106), 'ok', 'tunnel in if');
like(get(8106, '/file'), qr/SEE-FILE/, 'tunnel in if, GET');
is(tunnel(8107), 'ok', 'tunnel beside if');
like(tunnel(8107, "if.example:$echo"), qr/^502 /, 'tunnel of if');
like(tunnel(8107, 'other.example:1'), qr/^403 /, 'return in if');
is(tunnel(8107, "empty.example:$echo"), 'ok', 'if inherits');
is(tunnel(8108), 'ok', 'if in server');
like(last_log($t, 'server_if'), qr/\|ok\|rewritten$/, 'set in server');
like(tunnel(8108, "no.example:$echo"), qr/^403 /, 'return in server');
is(tunnel(8109), 'ok', 'rules of location');
like(tunnel(8109, "another.example:$echo"), qr/^403 /,
	'rules of location, denied');

# error pages

my $r = request(8110, "denied.example:$echo");
like($r, qr/^HTTP\/1\.1 403 .*^X-Page: 403.*SEE-403/ms, '403 page');
like(last_log($t, 'pages', "denied.example:$echo"), qr/\|403\|denied_name\|/,
	'403 page log');
$r = request(8110, "127.0.0.1:$closed");
like($r, qr/^HTTP\/1\.1 502 .*^X-Page: 502.*page 502 refused/ms,
	'502 named location');
like(last_log($t, 'pages', "127.0.0.1:$closed"), qr/\|502\|refused\|/,
	'502 named location log');
$r = request(8110, 'other.example:0');
like($r, qr/^HTTP\/1\.1 400 .*^X-Page: 400.*SEE-400/ms, '400 page');
is(tunnel(8110), 'ok', 'no error page');

# to a client any 2xx were a tunnel

like(request(8111, "denied.example:$echo"), qr/^HTTP\/1\.1 403 /,
	'error page with status 200');
like(last_log($t, 'pages_status', "denied.example:$echo"),
	qr/\|403\|denied_name\|/,
	'error page with status 200 log');
ok(wait_log($t, 'error.log',
	qr/\[warn\] .*status 200 of a response to CONNECT is changed to 403/),
	'error page with status 200 error log');
like(request(8111, "127.0.0.1:$closed"), qr/^HTTP\/1\.1 503 .*teapot/s,
	'recursive error pages');

# nor is there a second tunnel in an error page

like(request(8112, "denied.example:$echo"), qr/^HTTP\/1\.1 40[345] /,
	'error page with a tunnel');
like(request(8112, "127.0.0.1:$closed"), qr/^HTTP\/1\.1 (?:502|405) /,
	'named location with a tunnel');

# arguments

for my $name (qw/ address name upper upstream upcase itself /) {
	is(tunnel(8120, "$name.example:1234"), 'ok', "variable, $name");
}

for my $case (
	[ 'unknown', 403, 'denied_name' ],
	[ 'denied-t', 403, 'denied_name' ],
	[ 'closed', 502, 'refused' ],
	[ 'no-port', 500, 'internal' ],
	[ 'bad-port', 500, 'internal' ],
	[ 'scheme', 500, 'internal' ],
	[ 'space', 500, 'internal' ],
	[ 'unix', 500, 'internal' ],
) {
	my ($name, $status, $result) = @$case;

	like(tunnel(8120, "$name.example:1234"), qr/^$status /,
		"variable, $name");
	like(last_log($t, 'variable', "$name.example:1234"),
		qr/\|$status\|$result\|/,
		"variable, $name log");
}

ok(wait_log($t, 'error.log',
	qr/invalid target "other\.example:0": the port is not/),
	'variable, bad port error log');
ok(wait_log($t, 'error.log', qr/failed: denied_name, empty "connect_tunnel"/),
	'variable, unknown error log');

is(tunnel(8121, 'any.example:1'), 'ok', 'literal');
is(tunnel(8122, 'any.example:1'), 'ok', 'upstream');
is(tunnel(8123, 'any.example:1'), 'ok', 'unix socket');
is(tunnel(8124, 'any.example:1'), 'ok', 'upstream, unix socket');
is(tunnel(8125), 'ok', 'own variables');
is(tunnel(8126, "any.example:$echo"), 'ok', 'text and variable');
like(tunnel(8121, 'denied.example:1'), qr/^403 /, 'literal, denied name');
like(tunnel(8122, 'denied.example:1'), qr/^403 /, 'upstream, denied name');

# subrequests

is(tunnel(8130), 'ok', 'subrequest');
like(tunnel(8130, "forbidden.example:$echo"), qr/^403 /,
	'subrequest, forbidden');

###############################################################################

sub tunnel {
	my ($port, $authority) = @_;

	$authority = "name.example:$echo" unless defined $authority;

	my ($s, $head) = connect_tunnel(port($port), $authority);

	return $1 . " $head" if $head =~ m!^HTTP/1\.1 ([345]\d\d) !;
	return "bad response: $head" unless $head =~ m!^HTTP/1\.1 200 !;

	write_all($s, 'ECHO');
	my $r = read_n($s, 4);
	close $s;

	return $r eq 'ECHO' ? 'ok' : 'no echo';
}

sub request {
	my ($port, $authority) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, connect_request($authority));

	return scalar read_all($s);
}

sub get {
	my ($port, $uri, $method) = @_;

	$method = 'GET' unless $method;

	my $s = tcp_connect(port($port));
	write_all($s, "$method $uri HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "Connection: close\x0d\x0a\x0d\x0a");

	return scalar read_all($s);
}

# The last line of a server and a target.

sub last_log {
	my ($t, $server, $authority) = @_;

	$authority = "name.example:$echo" unless defined $authority;

	my $line = wait_log($t, 'tunnel.log',
		qr!^\Q$server|CONNECT $authority HTTP/1.1|!);

	return defined $line ? $line : '';
}

###############################################################################
