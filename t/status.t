#!/usr/bin/perl

# Tests for tunnel_status: locations, formats, headers, and what others make of
# the response.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::H2;
use Test::Nginx::Status;

use Compress::Zlib qw//;
use JSON::PP qw//;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MANY	=> 500,
	CSP	=> "default-src 'none'; style-src 'unsafe-inline'; "
		. "script-src 'unsafe-inline'; connect-src 'self'; "
		. "img-src data:; base-uri 'none'; form-action 'none'; "
		. "frame-ancestors 'none'",
};

my $t = Test::Nginx->new()->has(qw/http http_v2 rewrite proxy ssi gzip charset
	auth_request/)->plan(430);

my $d = $t->testdir();

port($_) for 8070 .. 8076, 8080 .. 8082, 8091, 8092;

mkdir "$d/ssi";
$t->write_file('ssi/json.html', 'A<!--#include virtual="/status.json" -->B');
$t->write_file('ssi/html.html',
	'A<!--#include virtual="/status?format=html" -->B');
$t->write_file('ssi/metrics.html',
	'A<!--#include virtual="/status/metrics" -->B');
$t->write_file('ssi/both.html', 'A<!--#include virtual="/status.json" -->B'
	. '<!--#include virtual="/status/metrics" -->C');
$t->write_file('ssi/none.html', 'A<!--#include virtual="/status/none" -->B');
$t->write_file('ssi/set.html', 'A<!--#include virtual="/status.json" set="x" '
	. '--><!--#echo var="x" encoding="none" -->B');

$t->write_file_expand('nginx.conf', h2_conf($t, <<'EOF'));

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 4096;
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:2m;
    tunnel_zone_key $http_x_key;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    proxy_buffering off;

    server {
        listen 127.0.0.1:8080;
        server_name proxy.example;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8081;
        server_name second.example;
        tunnel_zone second:128k;
        connect_tunnel;
    }

    # labels are not what a client says, but anything may be in them

    server {
        listen 127.0.0.1:8082;
        tunnel_label "<script>\"a\"&'b'\\\n</script>";
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8070;
        access_log off;

        location /status {
            tunnel_status;
        }

        location /html {
            tunnel_status html;
        }

        location /json {
            tunnel_status json;
        }

        location /prometheus {
            tunnel_status prometheus;
        }

        location = /exact {
            tunnel_status;
        }

        location = /metrics {
            tunnel_status prometheus;
        }

        location = /metrics.json {
            tunnel_status;
        }

        location /slash/ {
            tunnel_status;
        }

        location ^~ /noregex {
            tunnel_status;
        }

        location ~ ^/regex/(one|two)(\.|/|$) {
            tunnel_status;
        }

        location ~ ^/if/regex {
            tunnel_status json;
            if ($arg_x) {
                set $y 1;
            }
        }

        location /if/prefix {
            tunnel_status json;
            if ($arg_x) {
                set $y 1;
            }
        }

        location /outer {
            tunnel_status json;

            location /outer/inner {
                tunnel_status html;
            }

            location /outer/static {
                root %%TESTDIR%%;
            }
        }

        location /rewritten {
            rewrite ^/rewritten(.*)$ /status$1 last;
        }

        location /named {
            try_files /none @status;
        }

        location @status {
            tunnel_status json;
        }

        location /gone {
            error_page 410 = /status.json;
            return 410;
        }

        location /headers {
            tunnel_status json;
            add_header X-More yes always;
            expires 1h;
            charset utf-8;
        }

        location /charset {
            tunnel_status;
            charset utf-8;
            charset_types application/json text/plain;
        }

        location /auth {
            auth_request /status;
            root %%TESTDIR%%/ssi;
        }

        location /second {
            tunnel_zone second;
            tunnel_status;
        }
    }

    server {
        listen 127.0.0.1:8071;
        tunnel_zone empty:64k;
        tunnel_zone_key off;

        location / {
            tunnel_status;
        }
    }

    # what may be between

    server {
        listen 127.0.0.1:8072;
        root %%TESTDIR%%/ssi;
        subrequest_output_buffer_size 128k;

        location / {
            ssi on;
        }

        location /status {
            tunnel_status;
        }
    }

    server {
        listen 127.0.0.1:8073;

        location / {
            proxy_pass http://127.0.0.1:8070;
        }
    }

    server {
        listen 127.0.0.1:8074;
        gzip on;
        gzip_http_version 1.0;
        gzip_min_length 0;
        gzip_proxied any;
        gzip_types application/json text/plain;

        location /status {
            tunnel_status;
        }
    }

    server {
        LISTEN 127.0.0.1:8075;

        location /status {
            tunnel_status;
        }
    }

    server {
        listen 127.0.0.1:8076;
        sendfile on;
        tcp_nopush on;
        output_buffers 1 512;
        limit_rate 200k;

        location /status {
            tunnel_status;
        }
    }
}

EOF

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&hold_daemon, port(8092));

$t->run();

my ($worker) = workers($t);

###############################################################################

empty_tests();
format_tests();
header_tests();
path_tests();
method_tests();

my @s = map { connect_open($_, 8091) } 8080, 8080, 8081;
echo($_, 'hello') for @s;

zone_tests();
limit_tests();
between_tests();
h2_tests();
escape_tests();
many_tests();
early_tests();

close $_ for @s;

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

# Nothing has happened, or not much.

sub empty_tests {
	my $status = eval { decode(body('/?format=json', port => 8071)) };

	is(ref $status, 'HASH', 'empty') or return;

	is($status->{version}, 1, 'version');
	like($status->{nginx}, qr/^\d+\.\d+\.\d+$/, 'version of nginx');
	like($status->{module}, qr/^\d+\.\d+\.\d+$/, 'version of the module');
	is($status->{zone}{name}, 'empty', 'name of the zone');
	is($status->{zone}{size}, 65536, 'size of the zone');
	cmp_ok($status->{zone}{free}, '>', 0, 'room');
	cmp_ok($status->{zone}{free}, '<', 65536, 'less than all of it');
	is($status->{zone}{untracked}, 0, 'nothing untracked');
	is_deeply([ @$status{qw/ servers keys targets tunnels /} ],
		[ [], [], [], [] ], 'empty lists');
	is($status->{control}, JSON::PP::false(), 'no control');
	cmp_ok(abs($status->{time} - time()), '<', 5, 'time');
	cmp_ok($status->{start}, '<=', $status->{time}, 'start');
	cmp_ok($status->{time} - $status->{start}, '<', 60, 'since then');
	is(join(' ', map { $status->{total}{$_} } qw/ connecting active opened
		received sent spliced memory /), '0 0 0 0 0 0 0', 'zeroes');
	is(status_nonzero($status->{total}{$_}), '', "zeroes, $_")
		for qw/ results ended dns /;
	cmp_ok(scalar keys %{$status->{total}{results}}, '>', 10,
		'results are all there');
	ok(exists $status->{total}{ended}{$_}, "reason $_ is there")
		for qw/ completed killed denied worker_exited /;
	ok(exists $status->{total}{results}{$_}, "result $_ is there")
		for qw/ ok limit canceled /;

	for (qw/ connect_time resolve_time first_byte_time lifetime size /) {
		my $h = $status->{total}{$_};

		is($h->{count} + $h->{sum}, 0, "empty $_");
		cmp_ok(scalar @{$h->{buckets}}, '>', 5, "buckets, $_");
		is(scalar(grep { $_->[1] } @{$h->{buckets}}), 0,
			"empty buckets, $_");
	}

	my $html = body('/', port => 8071);
	like($html, qr/<p class="empty">No tunnels are open\.<\/p>/,
		'empty page');
	like($html, qr/<section id="static" data-control="0">/,
		'empty page, no control');
	unlike($html, qr/<table class="tunnels"/, 'empty page, no table');
	unlike($html, qr/<!--tunnels-->/, 'empty page, no place left');
	like($html, qr/<\/html>\s*\z/, 'empty page, all of it');
	unlike($html, qr!(?:src|href|action)\s*=\s*["']?(?:https?:)?//!i,
		'page, nothing from elsewhere');
	unlike($html, qr/\@import|url\(\s*["']?(?:https?:)?\/\//i,
		'page, no style from elsewhere');

	my $text = body('/metrics', port => 8071);
	like($text, qr/^# TYPE nginx_tunnel_zone_size_bytes gauge$/m,
		'empty metrics, type');
	like($text, qr/^# HELP nginx_tunnel_zone_size_bytes \S/m,
		'empty metrics, help');
	like($text, qr/^nginx_tunnel_zone_size_bytes\S* 65536$/m,
		'empty metrics, size');
	like($text, qr/\n\z/, 'empty metrics, line feed');
	unlike($text, qr/^\s*$/m, 'empty metrics, no empty line');

	is((status_request("/tunnels/" . '1' x 16, port => 8071))[0], 404,
		'empty, one');
}

###############################################################################

sub format_tests {
	my $browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,'
		. '*/*;q=0.8';
	my $prometheus = 'application/openmetrics-text;version=1.0.0;q=0.5,'
		. 'application/openmetrics-text;version=0.0.1;q=0.4,'
		. 'text/plain;version=0.0.4;q=0.3,*/*;q=0.2';

	for (

		# nothing says, but Accept

		[ '/status', 'html' ],
		[ '/status', 'html', '' ],
		[ '/status', 'html', '*/*' ],
		[ '/status', 'html', $browser ],
		[ '/status', 'html', 'image/png' ],
		[ '/status', 'json', 'application/json' ],
		[ '/status', 'json', 'application/json, text/plain, */*' ],
		[ '/status', 'json', 'Application/JSON;q=0.9' ],
		[ '/status', 'prometheus', 'text/plain' ],
		[ '/status', 'prometheus', 'text/plain;version=0.0.4' ],
		[ '/status', 'prometheus', $prometheus ],
		[ '/status', 'prometheus', 'application/openmetrics-text' ],
		[ '/status/', 'html' ],
		[ '/status/', 'json', 'application/json' ],

		# the parameter

		[ '/html', 'html', 'application/json' ],
		[ '/json', 'json' ],
		[ '/json', 'json', $browser ],
		[ '/json/', 'json', $browser ],
		[ '/prometheus', 'prometheus' ],
		[ '/prometheus', 'prometheus', $browser ],
		[ '/prometheus', 'prometheus', 'application/json' ],

		# the end of the URI

		[ '/status.json', 'json' ],
		[ '/status.html', 'html', 'application/json' ],
		[ '/status.prometheus', 'prometheus' ],
		[ '/status/metrics', 'prometheus', $browser ],
		[ '/html.json', 'json', $browser ],
		[ '/json.html', 'html', 'text/plain' ],
		[ '/json.prometheus', 'prometheus' ],
		[ '/json/metrics', 'prometheus' ],
		[ '/prometheus.json', 'json' ],
		[ '/slash/metrics', 'prometheus' ],
		[ '/metrics', 'prometheus', $browser ],

		# the argument

		[ '/status?format=json', 'json', $browser ],
		[ '/status?format=html', 'html', 'application/json' ],
		[ '/status?format=prometheus', 'prometheus', $browser ],
		[ '/status.json?format=html', 'html' ],
		[ '/status.html?format=prometheus', 'prometheus' ],
		[ '/status/metrics?format=json', 'json' ],
		[ '/json?format=prometheus', 'prometheus' ],
		[ '/prometheus.json?format=html', 'html', 'text/plain' ],
		[ '/metrics?format=json', 'json' ],
		[ '/status?a=b&format=json&c=d', 'json' ],
		[ '/status?xformat=json', 'html' ],
		[ '/status?a=format=json', 'html' ],
	)
	{
		my ($uri, $format, $accept) = @$_;

		my ($code, $head, $body) = status_request($uri, headers =>
			[ defined $accept ? "Accept: $accept" : () ]);

		is("$code " . format_of($head, $body), "200 $format",
			"format of $uri" . (defined $accept
				? ', ' . substr $accept, 0, 30 : ''));
	}

	for my $format ('', 'xml', 'JSON.', 'html,json', '%00', 'jso') {
		my ($code, $head, $body)
			= status_request("/status?format=$format");

		is($code, 400, "format \"$format\"");
		like($body, qr/"error":"/, "format \"$format\", answer");
	}
}

# What the head says, if the body is that.

sub format_of {
	my ($head, $body) = @_;

	my ($type) = $head =~ /^Content-Type: (.*?)\x0d?$/m or return 'none';

	return 'json' if $type eq 'application/json'
		&& eval { decode($body)->{version} == 1 };
	return 'html' if $type eq 'text/html; charset=utf-8'
		&& $body =~ /\A<!doctype html>/i && $body =~ /<\/html>\s*\z/i;
	return 'prometheus'
		if $type eq 'text/plain; version=0.0.4; charset=utf-8'
		&& $body =~ /\A# HELP nginx_tunnel_/;

	return $type;
}

###############################################################################

sub header_tests {
	for my $uri (qw! /status /status.json /status/metrics !) {
		my ($code, $head, $body) = status_request($uri);
		my ($length) = $head =~ /^Content-Length: (\d+)/m;

		is($length, length $body, "$uri, length");
		is(() = $head =~ /^Content-Length:/mg, 1, "$uri, one length");
		like($head, qr/^Cache-Control: no-store\x0d?$/m,
			"$uri, not cached");
		unlike($head, qr/^(?:ETag|Last-Modified|Accept-Ranges):/mi,
			"$uri, nothing to compare");
		like($head, qr/^X-Content-Type-Options: nosniff\x0d?$/m,
			"$uri, not sniffed");
		unlike($head, qr/^Access-Control-/mi, "$uri, no CORS");
		is($head =~ /^Content-Security-Policy: (.*?)\x0d?$/m
			? $1 : 'none', $uri eq '/status' ? CSP : 'none',
			"$uri, policy");

		# the same again, without the body

		my ($c, $h, $b) = status_request($uri, method => 'HEAD');
		is($c, 200, "$uri, HEAD");
		is($b, '', "$uri, HEAD, no body");
		is(without($h), without($head), "$uri, HEAD, same head");

		# a part of it would be of another moment

		($c, $h, $b) = status_request($uri,
			headers => [ 'Range: bytes=0-9' ]);
		is($c, 200, "$uri, no ranges");

		($c, $h, $b) = status_request($uri, headers =>
			[ 'If-Modified-Since: Thu, 01 Jan 2037 00:00:00 GMT',
			'If-None-Match: *' ]);
		is($c, 200, "$uri, no conditions");
	}

	my ($code, $head) = status_request('/headers');
	like($head, qr/^X-More: yes/m, 'a header more');
	is(() = $head =~ /^Content-Type:/mg, 1, 'one type');

	for (
		[ '', 'text/html; charset=utf-8' ],
		[ '.json', 'application/json; charset=utf-8' ],
		[ '/metrics', 'text/plain; version=0.0.4; charset=utf-8' ],
	)
	{
		my ($end, $type) = @$_;

		($code, $head) = status_request("/charset$end");
		is($head =~ /^Content-Type: (.*?)\x0d?$/m && $1, $type,
			"charset, $end");
	}

	# two on one connection

	my $s = tcp_connect(port(8070));
	write_all($s, join '', map { "GET $_ HTTP/1.1\x0d\x0a"
		. "Host: localhost\x0d\x0a\x0d\x0a" } qw! /status.json /status
		/status/metrics /status/none /status?format=x /status.json !);

	is(join(' ', map { my ($h, $b) = answer($s); ($h =~ / (\d+)/)[0] . '='
		. (length $b > 10 ? 1 : 0) } 1 .. 6), '200=1 200=1 200=1 '
		. '404=1 400=1 200=1', 'requests behind one another');
	close $s;

	is((status_request('/status.json', body => 'x' x 100000))[0], 200,
		'GET with a body');
}

sub without {
	my ($head) = @_;

	$head =~ s/^Date: .*\n//m;
	$head =~ s/^(Content-Length: )\d+/$1/m;

	return $head;
}

sub answer {
	my ($s) = @_;

	my $head = read_head($s);
	my ($length) = $head =~ /^Content-Length: (\d+)/mi;

	return ($head, scalar read_n($s, $length || 0));
}

###############################################################################

sub path_tests {
	for (
		[ '/status//', 200 ],
		[ '/status/./', 200 ],
		[ '/status/x/../', 200 ],
		[ '/%73tatus', 200 ],
		[ '/status?', 200 ],
		[ '/status#x', 200 ],
		[ '/status/x', 404 ],
		[ '/status/json', 404 ],
		[ '/status/x.json', 404 ],
		[ '/status/x/metrics', 404 ],
		[ '/status/metrics/', 404 ],
		[ '/status/metrics/x', 404 ],
		[ '/status/metrics.json', 404 ],
		[ '/status.json/', 404 ],
		[ '/status.json/x', 404 ],
		[ '/status.xml', 404 ],
		[ '/status.json.html', 404 ],
		[ '/status.', 404 ],
		[ '/statusx', 404 ],
		[ '/status.JSON', 404 ],
		[ '/statusjson', 404 ],
		[ '/statusmetrics', 404 ],
		[ '/status/tunnels', 404 ],
		[ '/status/tunnels/', 404 ],
		[ '/status/tunnels/' . '1' x 16, 404 ],
		[ '/status%00', 400 ],
		[ '/html/x', 404 ],
		[ '/exact', 200 ],
		[ '/exact?format=json', 200 ],
		[ '/exact/', 404 ],
		[ '/exact.json', 404 ],
		[ '/metrics', 200 ],
		[ '/metrics.json', 200, 'json' ],
		[ '/slash/', 200, 'html' ],
		[ '/slash/metrics', 200, 'prometheus' ],
		[ '/slash/x', 404 ],
		[ '/slash/tunnels/' . '1' x 16, 404 ],
		[ '/slash', 404 ],
		[ '/noregex', 200 ],
		[ '/noregex.json', 200, 'json' ],
		[ '/noregex/x', 404 ],
		[ '/regex/one', 200, 'html' ],
		[ '/regex/two', 200 ],
		[ '/regex/one.json', 200, 'json' ],
		[ '/regex/two/metrics', 200, 'prometheus' ],
		[ '/regex/three', 404 ],
		[ '/regex/one/tunnels/' . '1' x 16, 404 ],
		[ '/if/prefix', 200, 'json' ],
		[ '/if/prefix?x=1', 200, 'json' ],
		[ '/if/prefix.html?x=1', 200, 'html' ],
		[ '/if/prefix/x?x=1', 404 ],
		[ '/if/regex', 200, 'json' ],
		[ '/if/regex?x=1', 200, 'json' ],
		[ '/outer', 200, 'json' ],
		[ '/outer.html', 200, 'html' ],
		[ '/outer/x', 404 ],
		[ '/outer/inner', 200, 'html' ],
		[ '/outer/inner.json', 200, 'json' ],
		[ '/outer/inner/x', 404 ],
		[ '/outer/static', 404 ],
		[ '/rewritten', 200, 'html' ],
		[ '/rewritten.json', 200, 'json' ],
		[ '/rewritten/metrics', 200, 'prometheus' ],
		[ '/rewritten?format=json', 200, 'json' ],
		[ '/rewritten/x', 404 ],
		[ '/named', 200, 'json' ],
		[ '/named?format=html', 200, 'html' ],
		[ '/gone', 200, 'json' ],
		[ '/none', 404 ],
	)
	{
		my ($uri, $code, $format) = @$_;

		my ($got, $head, $body) = status_request($uri);
		is($got, $code, "path $uri");
		is(format_of($head, $body), $format, "path $uri, format")
			if $format;
	}
}

###############################################################################

sub method_tests {
	for my $method (qw/ POST PUT PATCH OPTIONS PROPFIND MKCOL COPY LOCK
		OTHER /)
	{
		for my $uri (qw! /status /json /exact !) {
			my ($code, $head, $body)
				= status_request($uri, method => $method);

			is($code, 405, "$method $uri");
			like($head, qr/^Allow: .*\bGET\b.*\bHEAD\b/m,
				"$method $uri, allowed");
		}
	}

	for my $uri (qw! /status /json /exact?id=1 /status/tunnels/1 !) {
		is((status_request($uri, method => 'DELETE'))[0], 403,
			"DELETE $uri, no control");
	}

	my ($code) = status_request('/status', method => 'POST',
		body => 'x' x 200000);
	is($code, 405, 'POST with a body');
	is((status_request('/status', method => 'TRACE'))[0], 405, 'TRACE');
}

###############################################################################

sub zone_tests {
	my %of = map { $_ => decode(body("/$_.json")) } qw/ status second /;

	is(join(' ', map { "$_->{zone}{name} $_->{zone}{size} "
		. "$_->{total}{active}" } @of{qw/ status second /}),
		'tunnels 2097152 2 second 131072 1', 'two zones');
	is(join(' ', map { "$_->{front_end} $_->{server}" }
		grep { $_->{opened} } @{$of{$_}{servers}}), $_ eq 'second'
			? 'connect second.example' : 'connect proxy.example',
		"zone of $_, server") for qw/ status second /;
	is(join(' ', map { $_->{server} } @{$of{second}{tunnels}}),
		'second.example', 'tunnels of a zone');

	my $id = $of{second}{tunnels}[0]{id};
	like($id, qr/^[\da-f]{16}$/, 'id');
	is((status_request("/second/tunnels/$id"))[0], 200, 'its tunnel');
	is((status_request("/status/tunnels/$id"))[0], 404, 'not its tunnel');

	like(body('/second'), qr/Tunnels of zone.*second|second/,
		'page of a zone');
	like(body('/second/metrics'), qr/^nginx_tunnel_active\{[^}]*server=
		"second\.example"[^}]*\}\ 1$/mx, 'metrics of a zone');
	unlike(body('/second/metrics'), qr/proxy\.example/,
		'metrics of no other zone');
	is(join("\n", status_bad($_)), '', 'counters agree') for values %of;
}

###############################################################################

sub limit_tests {
	my $open = @{decode(body('/status.json'))->{tunnels}};

	for ([ 0, 0 ], [ 1, 1 ], [ 2, 2 ], [ 3, 2 ], [ 1000000, 2 ],
		[ '0001', 1 ])
	{
		my ($limit, $n) = @$_;

		my $json = decode(body("/status.json?limit=$limit"));
		is(scalar @{$json->{tunnels}}, $n, "limit $limit");
		is($json->{total}{active}, $open, "limit $limit, all counted");

		is(rows(body("/status?limit=$limit")), $n,
			"limit $limit, page");
		like(body("/status/metrics?limit=$limit"),
			qr/^nginx_tunnel_active\{[^}]*\} 2$/m,
			"limit $limit, metrics");
	}

	# the oldest come first

	is(decode(body('/status.json?limit=1'))->{tunnels}[0]{id},
		decode(body('/status.json'))->{tunnels}[0]{id},
		'limit, the oldest');

	for my $limit ('', '-1', 'x', '1x', '1.5', '99999999999999999999',
		'%31', ' ')
	{
		my ($code) = status_request('/status?limit='
			. $limit =~ s/ /%20/r);
		is($code, 400, "limit \"$limit\"");
	}
}

sub rows {
	my ($html) = @_;

	my ($table) = $html
		=~ /<table class="tunnels">.*?<tbody>(.*?)<\/tbody>/s
		or return 0;
	my @rows = $table =~ /<tr/g;

	return scalar @rows;
}

###############################################################################

# SSI, proxy_pass, auth_request, gzip

sub between_tests {
	my $html = body('/html.html', port => 8072);
	like($html, qr/\AA<!doctype\ html>.*<table\ class="tunnels">.*
		<\/html>\s*B\z/isx, 'SSI, page');
	is(() = $html =~ /<table class="tunnels">/g, 1, 'SSI, one page');

	my $json = body('/json.html', port => 8072);
	like($json, qr/\AA\{.*\}\s*B\z/s, 'SSI, JSON');
	is(eval { decode(substr $json, 1, -1)->{total}{active} }, 2,
		'SSI, JSON is whole');

	like(body('/metrics.html', port => 8072),
		qr/\AA# HELP .*^nginx_tunnel_active\{.*\nB\z/ms,
		'SSI, metrics');
	like(body('/both.html', port => 8072),
		qr/\AA\{.*\}\s*B# HELP .*\nC\z/s, 'SSI, two');
	like(body('/set.html', port => 8072), qr/\AA\{.*\}\s*B\z/s,
		'SSI, into a variable');
	like(body('/none.html', port => 8072),
		qr/\AA\{"version":1,"error":".*\}\nB\z/s, 'SSI, none');

	my ($code, $head) = status_request('/json.html', port => 8072);
	like($head, qr!^Content-Type: text/html!m, 'SSI, type of the page');

	($code, $head) = status_request('/json.html', port => 8072,
		method => 'HEAD');
	is($code, 200, 'SSI, HEAD');

	for my $uri (qw! /status /status.json /status/metrics !) {
		my ($code, $head, $body) = status_request($uri, port => 8073);

		is("$code " . format_of($head, $body), '200 '
			. ($uri =~ /json/ ? 'json' : $uri =~ /metrics/
				? 'prometheus' : 'html'), "proxy_pass, $uri");
		like($head, qr/^Cache-Control: no-store/m,
			"proxy_pass, $uri, not cached");
	}

	is((status_request('/status/none', port => 8073))[0], 404,
		'proxy_pass, none');

	is((status_request('/auth/../auth/json.html'))[0], 404,
		'auth_request lets through');

	for my $uri (qw! /status /status.json /status/metrics !) {
		my ($code, $head, $body) = status_request($uri, port => 8074,
			headers => [ 'Accept-Encoding: gzip' ]);

		like($head, qr/^Content-Encoding: gzip/m, "gzip, $uri");

		my $text = Compress::Zlib::memGunzip($body);
		is(format_of($head, defined $text ? $text : ''),
			$uri =~ /json/ ? 'json' : $uri =~ /metrics/
				? 'prometheus' : 'html', "gzip, $uri, whole");
	}

	# in many small pieces

	for my $uri (qw! /status /status.json /status/metrics !) {
		my $s = tcp_connect(port(8076));
		write_all($s, "GET $uri HTTP/1.0\x0d\x0a\x0d\x0a");

		my ($head, $body) = split /\x0d\x0a\x0d\x0a/, read_all($s), 2;
		isnt(format_of($head, $body), 'none', "slowly, $uri");
		is(length $body, ($head =~ /^Content-Length: (\d+)/m)[0],
			"slowly, $uri, whole");
	}
}

###############################################################################

sub h2_tests {
	my $h2 = h2_client(port(8075));
	my @r = map { $h2->request(method => 'GET', path => $_,
		scheme => 'http', authority => 'localhost') }
		qw! /status /status.json /status/metrics /status/none !;

	$_->wait_end() for @r;

	is(join(' ', map { $_->{status} } @r), '200 200 200 404', 'HTTP/2');
	is(join(' ', map { format_of("Content-Type: "
		. $_->{headers}{'content-type'}, $_->{data}) } @r[0 .. 2]),
		'html json prometheus', 'HTTP/2, formats');
	is($r[0]{headers}{'content-security-policy'}, CSP, 'HTTP/2, policy');
	is($_->{headers}{'cache-control'}, 'no-store', 'HTTP/2, not cached')
		for @r[0 .. 2];
	is($_->{headers}{'content-length'}, length $_->{data},
		'HTTP/2, length') for @r[0 .. 2];

	my $head = $h2->request(method => 'HEAD', path => '/status',
		scheme => 'http', authority => 'localhost');
	$head->wait_end();
	is("$head->{status} $head->{data}", '200 ', 'HTTP/2, HEAD');

	my $post = $h2->request(method => 'POST', path => '/status',
		scheme => 'http', authority => 'localhost',
		data => 'x' x 1000);
	$post->wait_end();
	is($post->{status}, 405, 'HTTP/2, POST');

	# no window, and then nobody who waits

	my $small = h2_client(port(8075), settings =>
		{ INITIAL_WINDOW_SIZE => 10 }, credit => 0);
	my $s = $small->request(method => 'GET', path => '/status',
		scheme => 'http', authority => 'localhost');
	$s->wait_head();
	is($s->{status}, 200, 'HTTP/2, small window');
	$s->reset_close();
	$s = $small->request(method => 'GET', path => '/status/none',
		scheme => 'http', authority => 'localhost');
	$s->wait_head();
	is($s->{status}, 404, 'HTTP/2, goes on');
	$small->close();
}

###############################################################################

sub escape_tests {
	my @values = ('<script>alert(1)</script>', '"><img src=x>', "'&amp;\\",
		"a\tb", "\xc3\xa9", "\xff\xfe", '${x} {{y}} %s', '--><!--',
		'</section>', "\x01\x7f");

	my @s = map { connect_open(8082, 8091, $_) } @values;
	is(scalar(grep { defined } @s), @values, 'hostile values');

	my $html = body('/status');
	my ($static) = $html =~ /(<section id="static".*?<\/section>)/s;

	unlike($static, qr/<(?:script|img|\/?b\b)|<!--|-->|\son\w+=/i,
		'page, nothing to run');
	like($static, qr/&lt;script&gt;alert\(1\)&lt;\/script&gt;/,
		'page, what it is');
	like($static, qr/(?:&quot;|&#34;)&gt;&lt;img src=x&gt;/,
		'page, quotes');
	like($static, qr/(?:'|&#39;)&amp;amp;\\/, 'page, ampersand');
	is(() = $static =~ /<table/g, () = $static =~ /<\/table>/g,
		'page, tables end');
	ok(valid($html), 'page, UTF-8');
	ok($static !~ /[\x00-\x08\x0b\x0c\x0e-\x1f]/,
		'page, no control characters');

	# every & is one of these

	unlike($static, qr/&(?!(?:amp|lt|gt|quot|#\d+|#x[\da-f]+);)/i,
		'page, references');
	unlike($static =~ s/<[^<>]*>//gr, qr/[<>]/, 'page, no other brackets');

	my $json = body('/status.json');
	ok(valid($json), 'JSON, UTF-8');
	my $status = decode($json);
	my %keys = map { utf8::encode(my $k = $_->{key}); $k => 1 }
		@{$status->{keys}};
	is(join(', ', grep { !$keys{$_} } @values[0 .. 4, 6 .. 8]), '',
		'JSON, keys');
	is(scalar(grep { $_->{server} eq
		qq{<script>"a"&'b'\\\n</script>} } @{$status->{servers}}), 1,
		'JSON, label');

	my $text = body('/status/metrics');
	ok(valid($text), 'metrics, UTF-8');
	like($text, qr/server="<script>\\"a\\"&'b'\\\\\\n<\/script>"/,
		'metrics, label');
	like($text, qr/key="<script>alert\(1\)<\/script>"/, 'metrics, key');
	like($text, qr/key="'&amp;\\\\"/, 'metrics, backslash');

	is(scalar(grep { !/\A(?:\#\ (?:HELP|TYPE)\ \w+\ .+
		|\w+(?:\{(?:\w+="(?:[^"\\\n]|\\[\\n"])*",?)*\})?
		\ [-+\d.eEIN]\S*)\z/x } split /\n/, $text), 0,
		'metrics, lines are well-formed');

	close $_ for @s;
	wait_for(sub { decode(body('/status.json'))->{total}{active} == 2 });
}

sub valid {
	my ($bytes) = @_;

	return utf8::decode(my $copy = $bytes);
}

###############################################################################

sub many_tests {
	my @s = map { connect_open(8080, 8092) } 1 .. MANY;
	my $all = MANY + 2;

	is(decode(body('/status.json'))->{total}{active}, $all, 'many');

	my $json = decode(body('/status.json'));
	is(scalar @{$json->{tunnels}}, $all, 'many, JSON');

	my %ids = map { $_->{id} => 1 } @{$json->{tunnels}};
	is(scalar keys %ids, $all, 'many, each once');

	my @start = map { $_->{start} } @{$json->{tunnels}};
	is("@start", join(' ', sort { $a <=> $b } @start),
		'many, in order');

	my $html = body('/status');
	is(rows($html), $all, 'many, page');
	is(rows(body('/status?limit=100')), 100, 'many, page with a limit');
	is(scalar(grep { $html !~ /$_/ } keys %ids), 0, 'many, ids');

	for my $uri (qw! /status /status.json /status/metrics !) {
		my ($code, $head, $body) = status_request($uri, port => 8074,
			headers => [ 'Accept-Encoding: gzip' ]);
		my $text = Compress::Zlib::memGunzip($body);

		isnt(format_of($head, defined $text ? $text : ''), 'none',
			"many, gzip, $uri");
	}

	my $r = h2_client(port(8075))->get('/status');
	is(rows($r->{data}), $all, 'many, HTTP/2');

	is((body('/json.html', port => 8072) =~ s/\AA|B\z//gr)
		=~ tr/{// > $all, 1, 'many, SSI');

	# for those who do not read

	my $rss = rss($worker);
	my @slow = map { slow('/status') } 1 .. 20;
	is(scalar(map { my $c = () = read_n($_, 10); $c } @slow), 20,
		'many, slow readers');
	reset_close($_) for @slow;

	my $limit = $t->has_module('fsanitize') ? 400 : 40;
	cmp_ok((rss($worker) - $rss) / 1048576, '<', $limit,
		'many, memory');

	reset_close($_) for @s;
	ok(wait_for(sub { decode(body('/status.json'))->{total}{active}
		== 2 }), 'many, ended');
}

sub slow {
	my ($uri) = @_;

	my $s = tcp_connect(port(8070));
	write_all($s, "GET $uri HTTP/1.0\x0d\x0a\x0d\x0a");

	return $s;
}

###############################################################################

# Clients that do not wait.

sub early_tests {
	my $fds = fd_count($worker);

	for my $uri (qw! /status /status.json /status/metrics !) {
		for (1 .. 10) {
			my $s = slow($uri);
			$_ % 2 ? reset_close($s) : close $s;

			$s = tcp_connect(port(8076));
			write_all($s, "GET $uri HTTP/1.0\x0d\x0a\x0d\x0a");
			read_n($s, 100) if $_ % 3;
			$_ % 2 ? reset_close($s) : close $s;
		}
	}

	# the descriptors of our own are the same ones as before

	ok(wait_for(sub { fd_count($worker) <= $fds }), 'early, nothing left')
		or diag(fd_count($worker) . " of $fds");
	is((status_request('/status'))[0], 200, 'early, goes on');
	is((workers($t))[0], $worker, 'the same worker');

	is(join("\n", grep { / \[(?:error|crit|alert|emerg)\] /
		&& !/ \(2: No such file / } log_lines($t, 'error.log')), '',
		'no errors');
}

###############################################################################

sub body {
	my ($uri, %opt) = @_;

	my ($code, $head, $body) = status_request($uri, %opt);

	return $body;
}

sub decode {
	my ($text) = @_;

	return JSON::PP->new()->utf8()->decode($text);
}

sub connect_open {
	my ($port, $target, $key) = @_;

	my ($s, $head) = connect_tunnel(port($port),
		'127.0.0.1:' . port($target),
		headers => [ defined $key ? "X-Key: $key" : () ]);

	return $head =~ / 200 / ? $s : undef;
}

# Accepts, and does nothing else.

sub hold_daemon {
	my ($listener) = @_;

	my @held;

	Test::Nginx::Tunnel::close_inherited($listener);

	while (my $s = $listener->accept()) {
		push @held, $s;
	}
}

###############################################################################
