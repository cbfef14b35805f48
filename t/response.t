#!/usr/bin/perl

# Tests for the responses to CONNECT: the head of a tunnel, and the status and
# the Proxy-Status of a refusal.

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
	->has(qw/http http_ssl gzip charset map rewrite socket_ssl/)
	->plan(76);

# not in every nginx

my $addition = $t->has_module('--with-http_addition_module')
	? 'addition_types *; add_before_body /before; add_after_body /before;'
	: '';
my $sub = $t->has_module('sub') ? 'sub_filter_types *; sub_filter C K;' : '';

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$request|$status|$tunnel_result|$tunnel_reason';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_deny denied.example:*;
    target_allow_address 127.0.0.1;
    target_resolve_timeout 300ms;
    target_connect_timeout 500ms;

    ssl_certificate proxy.crt;
    ssl_certificate_key proxy.key;

    map $host $route {
        default          $host:$tunnel_port;
        garbage.example  garbage;
    }

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8443 ssl;

        connect_tunnel $route;
    }

    # what would add to a response with a body

    server {
        listen 127.0.0.1:8082;

        gzip on;
        gzip_types *;
        gzip_min_length 0;
        gzip_http_version 1.0;
        charset utf-8;
        default_type text/html;
        chunked_transfer_encoding on;
        keepalive_timeout 75s 60s;
        etag on;
        max_ranges 1;
        server_tokens off;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8083;
        connect_tunnel_proxy_status off;
        connect_tunnel_min_version 1.1;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel_proxy_status on;
        connect_tunnel_min_version 1.1;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel_proxy_status proxy-1.example:3128;
        connect_tunnel_min_version 1.1;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8089;

        ssi on;
        ssi_types *;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8090;

        include filters.conf;

        connect_tunnel;

        location /before {
            return 200 "BEFORE\n";
        }
    }

    # it is not that of a tunnel which was not tried

    server {
        listen 127.0.0.1:8086;

        if ($tunnel_port = 1) { return 403; }
        if ($tunnel_port = 2) { return 200 "TUNNEL\n"; }
        if ($tunnel_port = 3) { return 301 http://another.example/; }
        if ($tunnel_port = 4) { return 204; }
        if ($tunnel_port = 5) { return 444; }
        if ($tunnel_port = 6) { return 101; }

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8087;

        location / {
        }

        location /tunnel {
            connect_tunnel;
        }
    }

    # tcp

    server {
        listen 127.0.0.1:8088;

        sendfile on;
        tcp_nopush on;
        postpone_output 1460;
        output_buffers 1 8k;
        limit_rate 100;
        limit_rate_after 0;

        connect_tunnel;
    }
}

EOC

make_cert($t, 'proxy');

$t->write_file('filters.conf', "$addition $sub\n");

my $echo = port(8081);
my $closed = port(8999);
my $full = port(8998);

start_daemon($t, \&echo_daemon, "127.0.0.1:$echo");
start_daemon($t, \&echo_daemon, '127.0.0.1:' . port(8997),
	greeting => "GREETING\n");
start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'good.example' => '127.0.0.1',
		'denied.example' => '127.0.0.1',
		'inside.example' => '127.0.0.2',
		'none.example' => 'NXDOMAIN',
		'broken.example' => 'SERVFAIL',
		'empty.example' => [ ],
		'silent.example' => 'TIMEOUT',
		'garbage.example' => '127.0.0.1',
	});

my $backlog = full_backlog("127.0.0.1:$full");

$t->run();

###############################################################################

# the head of a tunnel

for my $case ([ 8080, '1.1' ], [ 8080, '1.0' ], [ 8082, '1.1' ],
	[ 8082, '1.0' ], [ 8443, '1.1' ])
{
	my ($port, $version) = @$case;
	my $name = "$port http $version";

	my ($s, $head) = connect_tunnel(port($port), "good.example:$echo",
		version => $version, ssl => $port == 8443,
		headers => [ 'Accept-Encoding: gzip', 'TE: trailers' ]);

	like($head, qr!^HTTP/1\.1 200 Connection established\x0d\x0a!, $name);
	unlike($head, qr/^(?:Content|Transfer|Accept)-|^(?:Trailer|Keep-Alive|ETag
		|Vary|Proxy-Status|Upgrade|Expires):/mxi, "$name no more headers");
	unlike($head, qr/^Connection: keep-alive/mi, "$name is not kept");

	write_all($s, 'ECHO');
	is(read_n($s, 4), 'ECHO', "$name data");
}

for my $port (8089, 8090) {
	my ($s, $head) = connect_tunnel(port($port), "good.example:$echo",
		timeout => 3);

	like($head, qr!^HTTP/1\.1 200 Connection established\x0d\x0a!,
		"$port filters");
	unlike($head, qr/^(?:Content|Transfer|Accept)-/mi,
		"$port filters, headers");

	write_all($s, 'ECHO');
	is(read_n($s, 4, 3), 'ECHO', "$port filters, data");
}

like((connect_tunnel(port(8082), "good.example:$echo"))[1],
	qr/^Server: nginx\x0d$/m, 'server_tokens');
like((connect_tunnel(port(8080), "good.example:$echo"))[1],
	qr/^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\x0d$/m, 'date');

# a target that speaks first comes behind the head

my $s = tcp_connect(port(8080));
write_all($s, connect_request('good.example:' . port(8997)));
like(read_n($s, length(scalar read_head($s)) ? 9 : 0), qr/^GREETING$/,
	'target first');

# limits of a response do not hold it back

$s = tcp_connect(port(8088));
write_all($s, connect_request("good.example:$echo"));
write_all($s, 'x' x 5000);
like(read_head($s), qr/^HTTP\/1\.1 200 /, 'postponed output');
is(length(read_n($s, 5000)), 5000, 'limit_rate is not for tunnels');

# refused

for my $case (
	[ 'bad_request', 400, 'http_request_error', 'good.example:0' ],
	[ 'denied_name', 403, 'http_request_denied', "denied.example:$echo" ],
	[ 'denied_address', 403, 'destination_ip_prohibited',
		"inside.example:$echo" ],
	[ 'resolve_failed', 502, 'dns_error', "none.example:$echo" ],
	[ 'resolve_failed', 502, 'dns_error', "broken.example:$echo" ],
	[ 'resolve_failed', 502, 'dns_error', "empty.example:$echo" ],
	[ 'resolve_timeout', 504, 'dns_timeout', "silent.example:$echo" ],
	[ 'refused', 502, 'connection_refused', "good.example:$closed" ],
	[ 'connect_timeout', 504, 'connection_timeout', "good.example:$full" ],
	[ 'internal', 500, 'proxy_internal_error', "garbage.example:$echo" ],
) {
	my ($result, $status, $error, $authority) = @$case;

	my $r = request(8080, $authority);

	like($r, qr/^HTTP\/1\.1 $status /, "$authority status");
	is(join(' ', $r =~ /^Proxy-Status: (.*)\x0d$/mg),
		"nginx; error=$error", "$authority proxy status");
	ok(wait_log($t, 'tunnel.log',
		qr!^\QCONNECT $authority HTTP/1.1|$status|$result|-\E$!),
		"$authority log");
}

like(request(8080, "denied.example:$echo"), qr/^Connection: close\x0d$/m,
	'refusal closes');
like(request(8080, "denied.example:$echo", version => '1.0',
	headers => [ 'Connection: keep-alive' ]), qr/^Connection: close\x0d$/m,
	'refusal closes, http 1.0');

# names

unlike(request(8083, "good.example:$echo", version => '1.0'),
	qr/^Proxy-Status/m, 'off');
like(request(8084, "good.example:$echo", version => '1.0'),
	qr/^HTTP\/1\.1 505 .*^Proxy-Status: nginx; error=http_request_/ms,
	'on');
like(request(8085, "good.example:$echo", version => '1.0'),
	qr/^Proxy-Status: proxy-1\.example:3128; error=http_request_error\x0d$/m,
	'name');
unlike(request(8083, "denied.example:$echo"), qr/^Proxy-Status/m,
	'off, denied');
unlike((connect_tunnel(port(8085), "good.example:$echo"))[1],
	qr/^Proxy-Status/m, 'tunnel');

# not tried

unlike(request(8086, 'good.example:1'), qr/^Proxy-Status/m, 'return 403');
like(request(8086, 'good.example:2'), qr/^HTTP\/1\.1 403 /, 'return 200');
like(request(8086, 'good.example:3'), qr/^HTTP\/1\.1 301 /, 'return 301');
like(request(8086, 'good.example:4'), qr/^HTTP\/1\.1 403 /, 'return 204');
is(request(8086, 'good.example:5'), '', 'return 444');
unlike(request(8086, 'good.example:6'), qr/^HTTP\/1\.1 101 /, 'return 101');

my $r = request(8087, "good.example:$echo");
like($r, qr/^HTTP\/1\.1 405 /, 'no tunnel here');
unlike($r, qr/^Proxy-Status/m, 'no tunnel here, proxy status');

###############################################################################

sub request {
	my ($port, $authority, %opt) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, connect_request($authority, %opt));

	return scalar read_all($s);
}

###############################################################################
