#!/usr/bin/perl

# Tests for the intake of CONNECT on a plain listener: a request in any
# pieces, what stands before and behind it, and what is no CONNECT.

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

my $t = Test::Nginx->new()->has(qw/http proxy auth_basic rewrite/)->plan(102);

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$connection_requests|$request|$request_method|'
                      '$status|$tunnel_result';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        server_name localhost;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS $request_uri\n";
        }

        location /file {
        }

        location /body {
            add_header X-Body $request_body;
            proxy_pass http://127.0.0.1:8083;
        }
    }

    # the same without a tunnel

    server {
        listen 127.0.0.1:8082;
        server_name localhost;

        location / {
            return 200 "SEE-THIS $request_uri\n";
        }

        location /file {
        }

        location /body {
            add_header X-Body $request_body;
            proxy_pass http://127.0.0.1:8083;
        }
    }

    server {
        listen 127.0.0.1:8083;

        location / {
            return 200 "BACKEND\n";
        }
    }

    server {
        listen 127.0.0.1:8084;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    # a request line of more than 64 bytes moves to a large buffer

    server {
        listen 127.0.0.1:8085;

        client_header_buffer_size 64;
        large_client_header_buffers 2 512;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS $request_uri\n";
        }
    }

    server {
        listen 127.0.0.1:8086;

        client_header_timeout 1s;

        connect_tunnel;
    }
}

EOC

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('file', 'SEE-FILE');

my $target = '127.0.0.1:' . port(8081);

start_daemon($t, \&echo_daemon, $target);
$t->run();

###############################################################################

my $request = connect_request($target);
my $line = index($request, "\x0d\x0a") + 2;
my $ok = qr!^HTTP/1\.1 200 !;

# pieces

is(tunnel(8080, $request), 'ok', 'one piece');
is(each_split(8080, '', $request, 1 .. $line), '',
	'split at each byte of the request line');
is(each_split(8080, '', $request, $line .. length($request) - 1), '',
	'split at each byte of the header');
is(tunnel(8080, $request, step => 1, delay => 0.002), 'ok', 'byte by byte');
is(tunnel(8080, $request, step => 7), 'ok', 'seven bytes each');
is(tunnel(8080, $request, step => 8), 'ok', 'eight bytes each');

is(tunnel(8080, $request, early => 'EARLY' x 1000), 'ok', 'glued data');
is(tunnel(8080, $request, early => "CONNECT b:1 HTTP/1.1\x0d\x0a\x0d\x0a"),
	'ok', 'glued CONNECT belongs to target');
is(tunnel(8080, $request, early => "GET / HTTP/1.1\x0d\x0a\x0d\x0a", step => 1,
	delay => 0.002), 'ok', 'glued data byte by byte');

# line breaks in front

is(tunnel(8080, "\x0d\x0a$request"), 'ok', 'leading crlf');
is(tunnel(8080, "\x0a$request"), 'ok', 'leading lf');
is(tunnel(8080, "\x0d\x0a" x 10 . $request), 'ok', 'leading crlfs');
is(tunnel(8080, "\x0d\x0a" x 3000 . $request), 'ok',
	'more leading crlfs than a buffer takes');
is(tunnel(8080, "\x0d\x0a\x0d\x0a$request", step => 1, delay => 0.002), 'ok',
	'leading crlfs byte by byte');
is(each_split(8080, "\x0d\x0a\x0d\x0a", $request, -4 .. 9), '',
	'leading crlfs, split at each byte');

# line ends without cr

(my $unix = $request) =~ s/\x0d//g;
is(tunnel(8080, $unix), 'ok', 'lf only');

# behind other requests

my $get = "GET /1 HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";

is(tunnel(8080, $get . $request, gets => 1), 'ok', 'GET then CONNECT');
is(tunnel(8080, $get x 3 . $request, gets => 3), 'ok',
	'several GET then CONNECT');
is(tunnel(8080, "$get\x0d\x0a\x0d\x0a$request", gets => 1), 'ok',
	'GET then crlfs and CONNECT');
is(each_split(8080, $get, $request, 0 .. length($request) - 1), '',
	'GET then CONNECT split at each byte');
is(each_split(8080, "$get\x0d\x0a", $request, -2 .. 10), '',
	'GET then crlf and CONNECT split at each byte');
is(tunnel(8080, $get . $request, step => 1, delay => 0.002, gets => 1), 'ok',
	'GET then CONNECT byte by byte');

is(after_response($get, 0), 'ok', 'CONNECT after a response');
is(join(' ', grep { after_response($get, $_) ne 'ok' } 1 .. 9), '',
	'CONNECT after a response split at each byte');

# the body of a request is not looked at

my $post = "POST /body HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a"
	. "Content-Length: 24\x0d\x0a\x0d\x0a" . 'CONNECT a:443 HTTP/1.1  ';
my $body = qr!^X-Body: CONNECT a:443 HTTP/1\.1!m;

like(tunnel_after(8080, $post . $request), $body, 'POST then CONNECT, body');
like(tunnel_after(8080, $post . $request, length($post) - 24), $body,
	'POST then CONNECT, body apart');

my $chunked = "POST /body HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a"
	. "Transfer-Encoding: chunked\x0d\x0a\x0d\x0a"
	. "18\x0d\x0aCONNECT a:443 HTTP/1.1  \x0d\x0a0\x0d\x0a\x0d\x0a";
like(tunnel_after(8080, $chunked . $request), $body,
	'chunked POST then CONNECT');

(my $discard = $post) =~ s!/body!/1!;
like(tunnel_after(8080, $discard . $request), qr!^SEE-THIS /1!m,
	'discarded body then CONNECT');
like(tunnel_after(8080, $discard . $request, length($discard) - 24),
	qr!^SEE-THIS /1!m, 'discarded body apart then CONNECT');

# on one connection: refused, and then with credentials

my $s = tcp_connect(port(8084));
write_all($s, $request);
like(response($s), qr!^HTTP/1\.1 407 !, 'no credentials');

my $auth = connect_request($target, auth => 'user:secret');
send_split($s, $auth);
like(read_head($s), $ok, 'credentials on the same connection');
is(echo($s), 'ok', 'tunnel after 407');
close $s;

is(join(' ', grep { retry($_) ne 'ok' } 1 .. 20), '',
	'retry split at each byte');
is(retry(step => 1, delay => 0.002), 'ok', 'retry byte by byte');

$s = tcp_connect(port(8084));
my $count = 0;
for (1 .. 5) {
	write_all($s, $request);
	$count++ if response($s) =~ m!^HTTP/1\.1 407 !;
}
write_all($s, $auth);
$count++ if read_head($s) =~ $ok;
is($count, 6, 'many tries');
close $s;

ok(wait_log($t, 'tunnel.log',
	qr!^\Q6|CONNECT $target HTTP/1.1|CONNECT|200|ok\E$!),
	'many tries log');

# buffers

my $n = 64 - length $request;
is(join(' ', grep {
	tunnel(8085, connect_request($target, host => 'a' x $_)) ne 'ok'
} 1 .. 64), '', 'header moves to a large buffer');

is(join(' ', grep {
	tunnel(8085, "\x0a" x $_ . $request) ne 'ok'
} 1 .. 70), '', 'leading lfs fill the buffer');

is(join(' ', grep {
	tunnel(8085, "GET /" . 'a' x $_ . " HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "\x0d\x0a" . $request, gets => 1) ne 'ok'
} 1 .. 70), '', 'CONNECT at each place of the buffer');

is(join(' ', grep {
	my $first = "GET /" . 'a' x $_ . " HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "\x0d\x0a";
	tunnel(8085, $first . $request, split => length($first) + 4,
		gets => 1) ne 'ok'
} 1 .. 70), '', 'CONNECT at each place of the buffer, split');

$target =~ /(\d+)$/;
like(refusal(8085, connect_request('a' x 60 . ".invalid:$1")),
	qr!^HTTP/1\.1 (?:502|504) !, 'request line moves to a large buffer');
like(wait_log($t, 'tunnel.log', qr/a{60}\.invalid/),
	qr!^1\|CONNECT a{60}\.invalid:$1 HTTP/1\.1\|CONNECT\|50[24]\|resolve_!,
	'request line moves to a large buffer log');

like(refusal(8085, connect_request('a' x 600 . ':443', host => 'a')),
	qr!^HTTP/1\.1 414 !, 'request line too long');
like(wait_log($t, 'tunnel.log', qr/414/), qr!\|CONNECT a{400}!,
	'request line too long log');

like(refusal(8085, connect_request('long-header.example:443',
	headers => [ 'X-Long: ' . 'a' x 600 ])),
	qr!^HTTP/1\.1 400 !, 'header too long');
logged($t, 'long-header.example:443', 400, 'header too long');

# what fails before the first phase is a CONNECT, too

like(refusal(8080, connect_request('bad-header.example:443',
	headers => [ "X-Bad\0: 1" ])), qr!^HTTP/1\.1 400 !, 'bad header');
logged($t, 'bad-header.example:443', 400, 'bad header');

like(refusal(8080, connect_request('no-host.example:443', host => undef)),
	qr!^HTTP/1\.1 400 !, 'no host');
logged($t, 'no-host.example:443', 400, 'no host');

like(refusal(8080, connect_request('two-hosts.example:443',
	headers => [ 'Host: another' ])), qr!^HTTP/1\.1 400 !, 'two hosts');
logged($t, 'two-hosts.example:443', 400, 'two hosts');

like(refusal(8080, connect_request('bad-host.example:443',
	host => 'a/b')), qr!^HTTP/1\.1 400 !, 'bad host');
logged($t, 'bad-host.example:443', 400, 'bad host');

$s = tcp_connect(port(8080));
write_all($s, "CONNECT closed.example:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a");
close $s;
logged($t, 'closed.example:443', 400, 'closed in the header');

$s = tcp_connect(port(8080));
write_all($s, 'CONNECT line.example:443 HT');
close $s;
ok(wait_log($t, 'tunnel.log', qr/^1\|CONNECT line\.example:443 HT\|/),
	'closed in the request line log');

$s = tcp_connect(port(8086));
write_all($s, "CONNECT slow.example:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a");
read_all($s);
logged($t, 'slow.example:443', 408, 'timeout in the header');

# what nginx itself refuses

for my $case (
	[ 'http 0.9', 'CONNECT zero-nine.example:443', 400 ],
	[ 'http 2.0', 'CONNECT two.example:443 HTTP/2.0', 505 ],
	[ 'two spaces', 'CONNECT  spaces.example:443 HTTP/1.1', 400 ],
	[ 'nothing', 'CONNECT  HTTP/1.1', 400 ],
	[ 'absolute form', 'CONNECT http://abs.example:443/ HTTP/1.1', 400 ],
	[ 'path', 'CONNECT /path HTTP/1.1', 400 ],
	[ 'space inside', 'CONNECT a b:443 HTTP/1.1', 400 ],
) {
	my ($name, $line, $status) = @$case;

	like(refusal(8080, "$line\x0d\x0aHost: a\x0d\x0a\x0d\x0a"),
		qr/^(?:HTTP\/1\.[01] $status|<html>.*<h1>$status) /s, $name);
	ok(wait_log($t, 'tunnel.log',
		qr/^1\|\Q$line\E\|(?:CONNECT|-)\|$status\|/, 2), "$name log");
}

# what is no CONNECT is as without a tunnel

my $last = "GET /last HTTP/1.0\x0d\x0a\x0d\x0a";

for my $case (
	[ 'GET', $get ],
	[ 'HTTP/0.9', "GET /1\x0d\x0a" ],
	[ 'file', "GET /file HTTP/1.0\x0d\x0a\x0d\x0a" ],
	[ 'pipelined', $get x 3 ],
	[ 'POST', $post ],
	[ 'POST and GET', $post . $get ],
	[ 'discarded body', $discard . $get ],
	[ 'chunked', $chunked . $get ],
	[ 'other server', "GET /2 HTTP/1.1\x0d\x0aHost: b:1\x0d\x0a\x0d\x0a" ],
	[ 'CONNECT as header name', "GET /3 HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "CONNECT b:443 HTTP/1.1: x\x0d\x0a\x0d\x0a" ],
	[ 'lower case', "connect $target HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "\x0d\x0a" ],
	[ 'longer method', "CONNECTX $target HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "\x0d\x0a" ],
	[ 'tab', "CONNECT\t$target HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a" ],
	[ 'leading space', " $request" ],
	[ 'method only', "CONNECT\x0d\x0a\x0d\x0a" ],
	[ 'prefix only', "CONN\x0d\x0a\x0d\x0a" ],
	[ 'unknown method', "TUNNEL /$target HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "\x0d\x0a" ],
	[ 'unknown method, file', "TUNNEL /file HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "\x0d\x0a" ],
	[ 'unknown method, two slashes', "TUNNEL //$target HTTP/1.1\x0d\x0a"
		. "Host: a\x0d\x0a\x0d\x0a" ],
) {
	my ($name, $bytes) = @$case;

	same($bytes, $name);
}

is(join(' ', grep {
	my $s = tcp_connect(port(8080));
	send_split($s, $get . $get, length($get) + $_);
	half_close($s);
	my @found = read_all($s) =~ /SEE-THIS/g;
	@found != 2;
} 1 .. 9), '', 'second GET split at each byte');

is(join(' ', grep {
	my $s = tcp_connect(port(8080));
	send_split($s, "CONNECTX /1 HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "Connection: close\x0d\x0a\x0d\x0a", $_);
	read_all($s) !~ m!^HTTP/1\.1 200 .*SEE-THIS /1!s;
} 1 .. 9), '', 'longer method split at each byte');

my @tunnel = grep { m!\|TUNNEL /! } log_lines($t, 'tunnel.log');
is(scalar(grep { /\|TUNNEL\|\d+\|-$/ } @tunnel), 6,
	'unknown method is itself in the log');
is(scalar @tunnel, 6, 'and a CONNECT is not');

is(join('', grep { m!TUNNEL /! && !/ \[debug\] / }
	log_lines($t, 'error.log')), '', 'nor in the error log');

###############################################################################

# A tunnel over one request; early data comes back before anything else, and
# GETs in front are answered.

sub tunnel {
	my ($port, $bytes, %opt) = @_;

	my $early = defined $opt{early} ? $opt{early} : '';
	my @split = defined $opt{split} ? ($opt{split}) : ();

	my $s = tcp_connect(port($port)) or return 'no connection';

	send_split($s, $bytes . $early, @split,
		map { $_ => $opt{$_} } grep { $opt{$_} } qw/ step delay /);

	for (1 .. $opt{gets} || 0) {
		return 'no response' unless response($s) =~ /SEE-THIS/;
	}

	my $head = read_head($s);
	return "bad response: $head" unless $head =~ $ok;

	return 'early data lost' unless read_n($s, length $early) eq $early;

	return echo($s);
}

sub echo {
	my ($s) = @_;

	write_all($s, 'ECHO');
	return read_n($s, 4) eq 'ECHO' ? 'ok' : 'no echo';
}

# The points that fail, counted from the start of the request.

sub each_split {
	my ($port, $front, $bytes, @points) = @_;

	return join ' ', grep {
		tunnel($port, $front . $bytes, split => length($front) + $_,
			gets => $front =~ /GET/ ? 1 : 0) ne 'ok'
	} @points;
}

sub after_response {
	my ($first, @split) = @_;

	my $s = tcp_connect(port(8080));
	write_all($s, $first);
	return 'no response' unless response($s) =~ /SEE-THIS/;

	send_split($s, $request, grep { $_ } @split);
	return 'no tunnel' unless read_head($s) =~ $ok;
	return echo($s);
}

sub tunnel_after {
	my ($port, $bytes, @split) = @_;

	my $s = tcp_connect(port($port));
	send_split($s, $bytes, @split);

	my $first = response($s);
	return "no tunnel: $first" unless read_head($s) =~ $ok;
	return 'no echo' unless echo($s) eq 'ok';
	return $first;
}

sub retry {
	my @split = @_;

	my $s = tcp_connect(port(8084));
	write_all($s, $request);
	return 'no 407' unless response($s) =~ m!^HTTP/1\.1 407 !;

	send_split($s, connect_request($target, auth => 'user:secret'),
		@split);
	return 'no tunnel' unless read_head($s) =~ $ok;
	return echo($s);
}

# One response of a connection which is kept.

sub response {
	my ($s) = @_;

	my $head = read_head($s);
	return $head unless $head =~ /^Content-Length: (\d+)/mi;
	return $head . read_n($s, $1);
}

sub refusal {
	my ($port, $bytes) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, $bytes);

	my ($r, $state) = read_all($s);
	return $state eq 'TIMEOUT' ? "timeout: $r" : $r;
}

sub logged {
	my ($t, $authority, $status, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $line = "CONNECT $authority HTTP/1.1";

	ok(wait_log($t, 'tunnel.log',
		qr/^1\|\Q$line\E\|CONNECT\|$status\|/), "$name log");
	ok(wait_log($t, 'error.log', qr/\[info\].*request: "\Q$line\E"/),
		"$name error log");
}

# The response with a tunnel and that without one.

sub same {
	my ($bytes, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my @responses = map {
		my $s = tcp_connect(port($_));
		write_all($s, $bytes . $last);

		my $r = read_all($s);
		$r =~ s/^(?:Date|ETag): .*\x0d\x0a//mg;
		$r;
	} 8080, 8082;

	is($responses[0], $responses[1], $name);
}

###############################################################################
