#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: tunnels as streams of a connection, how they
# end, and what is refused.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::H2;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()
	->has(qw/http http_v2 http_ssl rewrite proxy auth_basic/)
	->has(qw/socket_ssl socket_ssl_alpn socket_ssl_sni/)->plan(398);

my %listen = map { $_ => h2_listen($t, "127.0.0.1:$_") }
	8080, 8081, 8082, 8083, 8084, 8085, 8086;
my $default = h2_listen($t, '127.0.0.1:8080', '127.0.0.1:8443 ssl');

$t->write_file_expand('nginx.conf', <<"EOC" . <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '\$http_x_id|\$request|\$status|\$tunnel_result|'
                      '\$tunnel_reason|\$tunnel_target|'
                      '\$tunnel_bytes_received|\$tunnel_bytes_sent|'
                      '\$server_name|\$host|\$request_uri|\$uri|'
                      '\$server_protocol|\$http2';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    # the level debug tells every byte

    error_log %%TESTDIR%%/error.log info;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_allow *:*;
    target_deny denied.example:*;
    target_allow_address 127.0.0.1;
    target_resolve_timeout 500ms;
    target_connect_timeout 500ms;

    # the target's name is another server's

    server {
        $default
        server_name default;

        connect_tunnel;

        location / {
            return 200 "SEE-THIS \$server_name \$request_method";
        }

        location /post {
            client_max_body_size 0;
            proxy_pass http://127.0.0.1:8087;
        }
    }

    server {
        $listen{8080}
        server_name echo.example *.wild.example;

        location / {
            return 200 "SEE-SITE";
        }
    }

    server {
        $listen{8080}
        server_name ~.*;

        target_deny *:*;
        connect_tunnel;

        location / {
            return 200 "SEE-ANY";
        }
    }

    # the default server has no tunnel

    server {
        $listen{8081}
        server_name default;

        location / {
            return 200 "SEE-THIS \$server_name \$request_method";
        }
    }

    server {
        $listen{8081}
        server_name echo.example;

        connect_tunnel;
    }

    # authentication

    server {
        $listen{8082}
        server_name auth;

        auth_basic proxy;
        auth_basic_user_file users;
        connect_tunnel;

        location / {
            auth_basic off;
            return 200 "SEE-THIS";
        }
    }

    server {
        $listen{8083}
        server_name anonymous;

        tunnel_anonymous_log on;
        connect_tunnel;

        location / {
            return 200 "SEE-THIS";
        }
    }

    # only where "/" is

    server {
        $listen{8084}
        server_name location;

        location / {
            connect_tunnel;
        }

        location = /other {
            return 200 "SEE-OTHER";
        }
    }

    server {
        $listen{8085}
        server_name half;

        relay_half_close off;
        connect_tunnel;
    }

    server {
        $listen{8086}
        server_name elsewhere;

        location / {
            return 200 "SEE-THIS";
        }

        location /tunnel {
            connect_tunnel;
        }
    }

EOC
    server {
        listen 127.0.0.1:8444 ssl;
        server_name two;

        connect_tunnel_min_version 2.0;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8087;

        location / {
            client_max_body_size 0;
            client_body_in_single_buffer on;
            proxy_pass http://127.0.0.1:8097;
        }
    }
}

EOC

$t->write_file('users', "user:{PLAIN}secret\n");
make_cert($t, 'localhost');

my $d = $t->testdir();

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&half_close_daemon, port(8092));
start_daemon($t, \&fin_first_daemon, port(8093), report => "$d/fin_first");
start_daemon($t, \&sink_daemon, port(8094), greeting => 'hello',
	report => "$d/sink");
start_daemon($t, \&reset_daemon, port(8095), greeting => 'hello', n => 4);
start_daemon($t, \&source_daemon, port(8096), bytes => 10000);
start_daemon($t, \&http_daemon, port(8097), body => 'SEE-POST');
start_daemon($t, \&dns_daemon, port(8980, udp => 1), table => {
	'echo.example'		=> '127.0.0.1',
	# asked for once each, for nginx keeps the answers

	(map { $_ => { A => [ '127.0.0.1' ], delay => 0.3 } }
		map { ("$_-a.late", "$_-b.late", "$_-c.late") }
		qw/ plain ssl /),

	'a.wild.example'	=> '127.0.0.1',
	'other.example'		=> '127.0.0.2',
	'timeout.example'	=> 'TIMEOUT',
});

my $full = full_backlog(port(8098));
port(8099);	# nobody is there

$t->run();

###############################################################################

my $echo = '127.0.0.1:' . port(8091);
my @common = ($t, \&target);

tunnel_tests(@common, 8080);
tunnel_tests(@common, 8443, ssl => 1);
refusal_tests(@common, 8080);
refusal_tests(@common, 8443, ssl => 1);
malformed_tests(@common, 8080);
method_tests(@common);
server_tests(@common);
auth_tests(@common);
other_tests(@common);
log_tests(@common);

###############################################################################

sub target {
	my ($n, $host) = @_;

	return (defined $host ? $host : '127.0.0.1') . ':' . port($n);
}

# What the access log has of a request, by its header "x-id".

sub logged {
	my ($t, $id) = @_;

	my $line = wait_log($t, 'tunnel.log', qr/^\Q$id\E\|/) || '';
	my @values = split /\|/, $line =~ s/\n//r;

	return @values[2 .. 4, 6, 7];
}

sub id {
	my ($id) = @_;

	return (headers => [ [ 'x-id', $id ] ]);
}

sub goes_on {
	my ($h2, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($h2->get('/')->{status}, 200, "$name: connection goes on");
}

###############################################################################

sub tunnel_tests {
	my ($t, $target, $port, %client) = @_;

	my $how = $client{ssl} ? 'ssl' : 'plain';
	my $id = sub { id("$how-$_[0]") };

	my $h2 = h2_client(port($port), %client);

	# both ways

	my $s = $h2->connect($target->(8091), $id->('echo'));
	is($s->{status}, 200, "$how: tunnel");
	ok(!exists $s->{headers}{'content-length'}
		&& !exists $s->{headers}{'transfer-encoding'}
		&& !exists $s->{headers}{'proxy-status'},
		"$how: headers of a tunnel")
		or diag(explain($s->{headers}));
	ok(!$s->{end}, "$how: no end");
	is($s->echo('hello'), 'hello', "$how: both ways");
	is($s->echo(pattern(100000)), pattern(100000), "$how: more");
	$s->half_close();
	is($s->wait_end(), 'EOF', "$how: end");
	is(join(' ', logged($t, "$how-echo")),
		'200 ok completed 100005 100005', "$how: log");

	# on one connection

	my @s = map { $h2->connect($target->(8091), wait => 0) } 0 .. 4;
	$_->wait_head() for @s;
	is(join(' ', map { $_->{status} } @s), '200 200 200 200 200',
		"$how: several");
	$_->send("tunnel $_->{id}") for @s;
	my @got = map { [ $_, scalar $_->read_n(length "tunnel $_->{id}") ] }
		reverse @s;
	is((grep { $_->[1] eq "tunnel $_->[0]{id}" } @got), 5,
		"$how: to each its own");

	my $post = $h2->request(method => 'POST', path => '/post',
		authority => 'default', end => 0);
	my $get = $h2->request(path => '/', authority => 'default');
	$s[0]->send('a');
	$post->send(pattern(50000), end => 1);
	$s[1]->send('b');
	is($s[1]->read_n(1) . $s[0]->read_n(1), 'ba',
		"$how: tunnels among requests");
	$_->wait_end() for $get, $post;
	is($get->{data}, 'SEE-THIS default GET', "$how: GET");
	is($post->{data}, 'SEE-POST', "$how: POST");
	is($s[2]->echo('still here'), 'still here', "$how: tunnel goes on");

	# who ends it

	$s = $h2->connect($target->(8092), $id->('client'));
	$s->send(pattern(1000), end => 1);
	is(join(' ', $s->read_all()), summary(pattern(1000)) . ' EOF',
		"$how: end of the client first");
	is(join(' ', (logged($t, "$how-client"))[0 .. 3]),
		'200 ok completed 1000', "$how: end of the client first, log");

	$s = $h2->connect($target->(8093), $id->('target'));
	is(join(' ', $s->read_all()), "FIN-FIRST\n EOF",
		"$how: end of the target first");
	$s->{h2}->settle(0.05);
	$s->write_all(pattern(2000));
	$s->half_close();
	ok(wait_log($t, 'fin_first', qr/^2000 /, undef, $client{ssl} ? 2 : 1),
		"$how: the other direction goes on");
	is(join(' ', logged($t, "$how-target")),
		'200 ok completed 2000 10', "$how: end of the target, log");
	is($s->{rst}, undef, "$how: no reset after both ends");

	$s = $h2->connect($target->(8096), $id->('source'));
	$s->half_close();
	is(join(' ', $s->read_all()), pattern(10000) . ' EOF',
		"$how: end of the client at once");

	# an end in HEADERS

	$s = $h2->connect($target->(8092), end => 1, $id->('head'));
	is($s->{status}, 200, "$how: END_STREAM in HEADERS");
	is(join(' ', $s->read_all()), summary('') . ' EOF',
		"$how: END_STREAM in HEADERS reaches the target");
	is(join(' ', (logged($t, "$how-head"))[0 .. 3]),
		'200 ok completed 0', "$how: END_STREAM in HEADERS, log");

	# resets

	$s = $h2->connect($target->(8094), $id->('reset'));
	is($s->read_n(5), 'hello', "$how: greeting");
	my $resets = grep { / RESET$/ } log_lines($t, 'sink');
	$s->write_all('bye');
	$h2->wait_ping();
	$s->reset_close();
	ok(wait_log($t, 'sink', qr/ RESET$/, undef, $resets + 1),
		"$how: reset of the client");
	is(join(' ', logged($t, "$how-reset")),
		'200 ok client_reset 3 5', "$how: reset of the client, log");

	$s = $h2->connect($target->(8094), $id->('closed'));
	$s->read_n(5);
	$s->half_close();
	$s->reset_close('NO_ERROR');
	like((logged($t, "$how-closed"))[2], qr/^(?:client_closed|completed)$/,
		"$how: reset behind the end of the client");

	$s = $h2->connect($target->(8095), $id->('target_reset'));
	$s->write_all('data');
	is($s->wait_rst(), 'CONNECT_ERROR', "$how: reset of the target");
	is($s->{data}, 'hello', "$how: and what was before it");
	is(join(' ', logged($t, "$how-target_reset")),
		'200 ok target_reset 4 5', "$how: reset of the target, log");
	ok(!$s->{end}, "$how: no end with a reset");

	goes_on($h2, "$how: resets");
	is($s[3]->echo('still here'), 'still here',
		"$how: tunnel goes on after resets");

	# before the response

	$s = $h2->connect($target->(8091), data => 'early', end => 0);
	is($s->read_n(5), 'early', "$how: early bytes");
	is($s->echo('later'), 'later', "$how: and later ones");

	$s = $h2->connect($target->(8092, "$how-a.late"),
		data => pattern(5000), end => 1);
	is(join(' ', $s->read_all()), summary(pattern(5000)) . ' EOF',
		"$how: early bytes and an end");

	$s = $h2->connect($target->(8092, "$how-b.late"), wait => 0);
	$s->write_all(pattern(3000, 1000 * $_)) for 0, 3, 6;
	$s->half_close();
	is($s->{status}, undef, "$how: no response yet");
	is($s->wait_head(), 200, "$how: late response");
	is(join(' ', $s->read_all()), summary(pattern(9000)) . ' EOF',
		"$how: early frames and an end");

	$s = $h2->connect($target->(8091, "$how-c.late"), wait => 0,
		$id->('abort'));
	$s->write_all('early');
	$h2->wait_ping();
	$s->reset_close();
	is((logged($t, "$how-abort"))[0], 499, "$how: aborted");
	goes_on($h2, "$how: aborted");

	# frames that are nothing to a tunnel

	$s = $h2->connect($target->(8091));
	my $sid = $s->{id};
	$h2->data($sid, '');
	$h2->frame(77, 255, $sid, 'unknown');
	$h2->priority($sid, 0, 255);
	$h2->window_update($sid, 1);
	$h2->data($sid, 'pad', padding => 100);
	$h2->data($sid, '', padding => 0);
	$h2->data($sid, 'ded', padding => 0);
	is($s->read_n(6), 'padded', "$how: padding, and other frames");
	$h2->data($sid, 'end', padding => 7, end => 1);
	is(join(' ', $s->read_all()), 'end EOF', "$how: padding, and the end");

	$h2->close();

	# the connection is gone

	for my $end (qw/ close reset /) {
		$h2 = h2_client(port($port), %client);
		@s = map { $h2->connect($target->(8094), $id->("$end-$_")) }
			1, 2;
		$_->read_n(5) for @s;
		$s[0]->write_all('last');
		$h2->wait_ping();

		$resets = grep { / RESET$/ } log_lines($t, 'sink');
		$h2->$end();

		ok(wait_log($t, 'sink', qr/ RESET$/, undef, $resets + 2),
			"$how: $end of the connection");
		is(join(' ', logged($t, "$how-$end-1")),
			'200 ok client_reset 4 5', "$how: $end, log");
		is(join(' ', logged($t, "$how-$end-2")),
			'200 ok client_reset 0 5', "$how: $end, log again");
	}
}

###############################################################################

sub refusal_tests {
	my ($t, $target, $port, %client) = @_;

	my $how = $client{ssl} ? 'ssl' : 'plain';
	my $h2 = h2_client(port($port), %client);
	my $tunnel = $h2->connect($target->(8091));

	for (
		[ 'name', 403, 'http_request_denied', 'denied_name',
			'denied.example:443' ],
		[ 'address', 403, 'destination_ip_prohibited',
			'denied_address', 'other.example:443' ],
		[ 'resolve', 502, 'dns_error', 'resolve_failed',
			'nobody.example:443' ],
		[ 'refused', 502, 'connection_refused', 'refused',
			$target->(8099) ],
		[ 'resolve_timeout', 504, 'dns_timeout', 'resolve_timeout',
			'timeout.example:443' ],
		[ 'timeout', 504, 'connection_timeout', 'connect_timeout',
			$target->(8098) ])
	{
		my ($name, $status, $proxy_status, $result, $authority) = @$_;

		my $s = $h2->connect($authority, id("$how-$name"));

		is($s->{status}, $status, "$how: $name");
		like($s->{headers}{'proxy-status'} || '',
			qr/^nginx; error=$proxy_status/,
			"$how: $name, proxy-status");
		is($s->wait_end(), 'EOF', "$how: $name, end");
		is(length $s->{data}, $s->{headers}{'content-length'},
			"$how: $name, body");
		like($s->{data}, qr/<h1>$status /, "$how: $name, text");

		# which nginx sends when there is something else to do

		$h2->wait_ping();
		is($s->{rst}, 'NO_ERROR', "$how: $name, no more is read");
		is(join(' ', (logged($t, "$how-$name"))[0 .. 2]),
			"$status $result -", "$how: $name, log");
	}

	# what a client has sent for nothing

	my $s = $h2->connect('denied.example:443', data => 'GET / HTTP/1.1',
		end => 0);
	is($s->{status}, 403, "$how: refused with early bytes");
	$h2->data($s->{id}, pattern(10000)) for 1 .. 4;
	$h2->wait_ping();
	goes_on($h2, "$how: bytes for nobody");

	$s = $h2->connect('denied.example:443', data => pattern(5000),
		end => 1);
	is($s->wait_end() . $s->{status}, 'EOF403',
		"$how: refused with early bytes and an end");

	$s = $h2->connect('denied.example:443', end => 1);
	is($s->wait_end() . $s->{status}, 'EOF403',
		"$how: refused with an end");
	$h2->wait_ping();
	is($s->{rst}, undef, "$how: both have ended it");

	# so many that they would not fit the connection's window

	my $sent = 0;

	for (1 .. 10) {
		$s = $h2->connect('denied.example:443', data => pattern(16000),
			end => 0);
		$s->wait_end();
		$sent++ if $s->{status} == 403;
	}

	is($sent, 10, "$how: bytes of refused tunnels are credited");
	is($tunnel->echo(pattern(100000)), pattern(100000),
		"$how: a tunnel beside them");
}

###############################################################################

sub malformed_tests {
	my ($t, $target, $port) = @_;

	my $echo = $target->(8091);
	my $h2 = h2_client(port($port));
	my $tunnel = $h2->connect($echo);

	my @connect = [ ':method', 'CONNECT' ];
	my $authority = [ ':authority', $echo ];

	for (
		[ 'no authority', @connect ],
		[ 'host for an authority', @connect, [ 'host', $echo ] ],
		[ 'scheme', @connect, $authority, [ ':scheme', 'https' ] ],
		[ 'path', @connect, $authority, [ ':path', '/' ] ],
		[ 'empty path', @connect, $authority, [ ':path', '' ] ],
		[ 'scheme and path', @connect, [ ':scheme', 'https' ],
			[ ':path', '/' ], $authority ],
		[ 'their own place', @connect, [ ':scheme', 'https' ],
			[ ':path', "/$echo" ], $authority ],
		[ 'no authority, but a path', @connect,
			[ ':scheme', 'https' ], [ ':path', "/$echo" ] ],
		[ 'protocol', @connect, $authority,
			[ ':protocol', 'websocket' ] ],
		[ 'extended CONNECT', @connect, [ ':protocol', 'websocket' ],
			[ ':scheme', 'https' ], [ ':path', '/chat' ],
			$authority ],
		[ 'content-length', @connect, $authority,
			[ 'content-length', '5' ] ],
		[ 'two authorities', @connect, $authority,
			[ ':authority', 'other.example:443' ] ],
		[ 'the same authority twice', @connect, $authority,
			$authority ],
		[ 'two methods', @connect, @connect, $authority ],
		[ 'GET and CONNECT', [ ':method', 'GET' ], @connect,
			$authority ],
		[ 'CONNECT and GET', @connect, [ ':method', 'GET' ],
			$authority ],
		[ 'TUNNEL and CONNECT', [ ':method', 'TUNNEL' ], @connect,
			$authority ],
		[ 'unknown', @connect, $authority, [ ':unknown', 'x' ] ],
		[ 'lower case', [ ':method', 'connect' ], $authority ],
		[ 'authority behind a field', @connect, [ 'x-y', 'z' ],
			$authority ],
		[ 'method behind a field', $authority, [ 'x-y', 'z' ],
			@connect ],
		[ 'upper case', @connect, $authority, [ 'X-Y', 'z' ] ],
		[ 'line feed in a field', @connect, $authority,
			[ 'x-y', "z\nHost: a" ] ],
		(map { [ "authority $_", @connect, [ ':authority', $_ ] ] }
			'', ':', ':443', 'host', 'host:', 'host:0',
			'host:65536', 'host:99999999999', 'host:44x',
			'host:-1', 'user@host:443', 'user:pass@host:443',
			'host:443/', 'host:443/path', 'host:443?x',
			'host:443#x', '/host:443', 'http://host:443',
			'http://host:443/', '[::1:443',
			'[::1]', '::1:443', '[host]:443', '127.0.0.1:80:81',
			'a b:443', ' host:443', 'host:443 ',
			'host:443 HTTP/1.1', '*', '*:443', 'ho_st%41:443',
			'host%00:443', '..:443', 'a..b:443', '-:',
			"h\x80st:443", 'h' x 300 . ':443',
			"host:443\0", "host:443\r\nX: y", "host\t:443"))
	{
		my ($name, @fields) = @$_;
		$name =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;
		$name = substr($name, 0, 30);

		my $s = $h2->connect('', fields => [ @fields ]);
		$s->wait_end();

		my $result = $s->{status} || $s->{rst} || 'nothing';
		$result = 'as it should' if $result eq '400'
			|| $result eq 'PROTOCOL_ERROR';

		is($result, 'as it should', "malformed: $name");
		is($tunnel->echo('still here'), 'still here',
			"malformed: $name: connection goes on");
	}

	goes_on($h2, 'malformed');

	# and what is not

	for (
		[ 'authority first', $authority, @connect ],
		[ 'content-length of 0', @connect, $authority,
			[ 'content-length', '0' ] ],
		[ 'other fields', @connect, $authority, [ 'user-agent', 'x' ],
			[ 'cookie', 'a=b' ], [ 'cookie', 'c=d' ] ],
		[ 'upper case name', @connect,
			[ ':authority', $target->(8091, 'ECHO.Example.') ] ])
	{
		my ($name, @fields) = @$_;

		my $s = $h2->connect('', fields => [ @fields ]);

		is($s->{status} || $s->{rst}, 200, "good: $name");
		is($s->echo('hello'), 'hello', "good: $name: both ways");
		$s->reset_close();
	}

	# HEADERS of a tunnel end the connection, as with any other stream

	my $s = $h2->connect($echo);
	$h2->headers($s->{id}, [ [ 'x-trailer', 'y' ] ], end => 1);
	$h2->wait_closed();
	is(($h2->{goaway} || [ 0, 'none' ])->[1], 'PROTOCOL_ERROR',
		'trailers of a tunnel');

	# nobody is told that there is extended CONNECT

	is($h2->{settings_received}{8}, undef, 'no extended CONNECT');
}

###############################################################################

# CONNECT is TUNNEL to nginx, but TUNNEL is no CONNECT.

sub method_tests {
	my ($t, $target) = @_;

	my $echo = $target->(8091);
	my $h2 = h2_client(port(8080));
	my $stock = h2_client(port(8081));

	for my $path ("/$echo", '/', "/x:443", "//$echo") {
		my @fields = ([ ':method', 'TUNNEL' ], [ ':scheme', 'https' ],
			[ ':path', $path ], [ ':authority', 'default' ]);

		my ($s, $as) = map { $_->request(fields => [ @fields ]) }
			$h2, $stock;
		$_->wait_end() for $s, $as;

		is("$s->{status} $s->{data}", "$as->{status} $as->{data}",
			"method TUNNEL $path");
		is($s->{data}, 'SEE-THIS default TUNNEL',
			"method TUNNEL $path is a request");
	}

	# in one read

	my @tunnel = ([ ':method', 'TUNNEL' ], [ ':scheme', 'https' ],
		[ ':path', "/$echo" ], [ ':authority', $echo ]);
	my @connect = ([ ':method', 'CONNECT' ], [ ':authority', $echo ]);

	$h2 = h2_client(port(8080));
	$h2->raw(join('',
		$h2->headers_frames(1, [ @tunnel ], end => 1),
		$h2->headers_frames(3, [ @connect ]),
		$h2->headers_frames(5, [ @tunnel ], end => 1),
		$h2->headers_frames(7, [ @tunnel ]),
		$h2->headers_frames(9, [ @connect ]),
		h2_data(9, 'nine'), h2_data(3, 'three')));

	my @s = map { $h2->stream($_) } 1, 3, 5, 7, 9;
	$_->wait_head() for @s;
	$s[0]->wait_end();
	$s[2]->wait_end();

	is($s[1]->read_n(5), 'three', 'a CONNECT among TUNNELs');
	is($s[4]->read_n(4), 'nine', 'a CONNECT behind TUNNELs');
	isnt($s[$_]{data}, '', 'TUNNEL among CONNECTs') for 0, 2;

	# the server of these is that of the name, which is a site

	is($s[0]{data}, 'SEE-ANY', 'TUNNEL has the server of its name');

	# over HTTP/1.1

	my $s = client_connect(port(8443), ssl => 1, alpn => [ 'http/1.1' ]);
	write_all($s, "TUNNEL /$echo HTTP/1.1\r\nHost: x\r\n"
		. "Connection: close\r\n\r\n");
	like(scalar read_all($s),
		qr/^HTTP\/1.1 200 .*SEE-THIS default TUNNEL/s,
		'TUNNEL of HTTP/1.1');
}

###############################################################################

sub server_tests {
	my ($t, $target) = @_;

	my $h2 = h2_client(port(8080));

	for my $name ('echo.example', 'a.wild.example', '127.0.0.1') {
		my $s = $h2->connect($target->(8091, $name),
			id("server-$name"));

		is($s->{status}, 200, "server of $name");
		is($s->echo('hello'), 'hello', "server of $name, both ways");
		$s->half_close();
		$s->wait_end();

		my $line = wait_log($t, 'tunnel.log', qr/^server-\Q$name\E\|/);
		is((split /\|/, $line || '')[8], 'default',
			"server of $name is the default one");
	}

	# others go where they always went

	for (
		[ 'echo.example', 'SEE-SITE' ],
		[ 'b.wild.example:443', 'SEE-SITE' ],
		[ 'default', 'SEE-THIS default GET' ],
		[ 'any', 'SEE-ANY' ])
	{
		is($h2->get('/', authority => $_->[0])->{data}, $_->[1],
			"server of a GET to $_->[0]");
	}

	is($h2->get('/', authority => undef,
		headers => [ [ 'host', 'echo.example' ] ])->{data},
		'SEE-SITE', 'server of a GET with a host');

	# glued to a CONNECT of that name

	my $connect = [ [ ':method', 'CONNECT' ],
		[ ':authority', $target->(8091, 'echo.example') ] ];

	$h2 = h2_client(port(8080));
	$h2->raw(join('', $h2->headers_frames(1, $connect),
		$h2->headers_frames(3, [ [ ':method', 'GET' ],
			[ ':scheme', 'http' ], [ ':path', '/' ],
			[ ':authority', 'echo.example' ] ], end => 1),
		$h2->headers_frames(5, $connect)));

	is($h2->stream(1)->wait_head(), 200, 'CONNECT glued to a GET');
	$h2->stream(3)->wait_end();
	is($h2->stream(3)->{data}, 'SEE-SITE', 'GET glued to a CONNECT');
	is($h2->stream(5)->wait_head(), 200, 'CONNECT behind a GET');

	# the default server has none

	$h2 = h2_client(port(8081));
	my $s = $h2->connect($target->(8091, 'echo.example'));
	$s->wait_end();
	isnt($s->{status} || $s->{rst}, 200,
		'default server without a tunnel');

	# in a location

	$h2 = h2_client(port(8084));
	$s = $h2->connect($target->(8091));
	is($s->echo('hello'), 'hello', 'location');
	is($h2->get('/other')->{data}, 'SEE-OTHER', 'another location');
	$s = $h2->connect($target->(8091, 'other'));
	is($s->{status}, 502, 'a name is no location');

	$h2 = h2_client(port(8086));
	$s = $h2->connect($target->(8091));
	is($s->{status}, 405, 'a location that "/" does not select');
	goes_on($h2, 'not allowed');
}

###############################################################################

sub auth_tests {
	my ($t, $target) = @_;

	my $h2 = h2_client(port(8082));

	my $s = $h2->connect($target->(8091), id('auth-none'),
		data => 'secret', end => 0);
	is($s->{status}, 407, 'no credentials');
	is($s->{headers}{'proxy-authenticate'}, 'Basic realm="proxy"',
		'challenge');
	ok(!exists $s->{headers}{'www-authenticate'}, 'no other challenge');
	is($s->wait_end(), 'EOF', 'challenge has an end');
	like($s->{data}, qr/407|401/, 'text of the challenge');

	$s = $h2->connect($target->(8091), auth => 'user:secret',
		id('auth-good'));
	is($s->{status}, 200, 'credentials on the same connection');
	is($s->echo('hello'), 'hello', 'both ways behind a challenge');

	my $wrong = $h2->connect($target->(8091), auth => 'user:wrong');
	is($wrong->{status}, 407, 'wrong credentials');

	my $none = $h2->connect($target->(8091));
	is($none->{status}, 407, 'credentials count for their stream only');

	is($s->echo('again'), 'again', 'tunnel goes on beside challenges');
	goes_on($h2, 'challenge');

	# the credentials come from the dynamic table

	my $basic = [ 'proxy-authorization', 'Basic dXNlcjpzZWNyZXQ=' ];

	for my $words ('incremental', 'indexed') {
		$s = $h2->connect($target->(8091),
			headers => [ [ @$basic, $words ] ]);
		is($s->echo($words), $words, "credentials: $words");
	}
}

###############################################################################

sub other_tests {
	my ($t, $target) = @_;

	my $echo = $target->(8091);

	# relay_half_close off

	my $h2 = h2_client(port(8085));
	my $s = $h2->connect($target->(8093), id('half-target'));
	is(join(' ', $s->read_all()), "FIN-FIRST\n EOF",
		'no half close: end of the target');
	is($s->wait_rst(), 'NO_ERROR', 'no half close: no more is read');
	is((logged($t, 'half-target'))[2], 'target_closed',
		'no half close: log');

	$s = $h2->connect($target->(8092), id('half-client'));
	$s->send('data', end => 1);
	isnt($s->wait_end(), 'TIMEOUT', 'no half close: end of the client');
	is((logged($t, 'half-client'))[2], 'client_closed',
		'no half close: log again');

	# HTTP/1.1 on the same listener

	my ($s1, $head) = connect_tunnel(port(8443), $echo, ssl => 1,
		alpn => [ 'http/1.1' ]);
	like($head, qr/^HTTP\/1.1 200 /, 'HTTP/1.1 on the same listener');
	write_all($s1, 'hello');
	is(scalar read_n($s1, 5), 'hello', 'HTTP/1.1, both ways');

	($s1, $head) = connect_tunnel(port(8444), $echo, ssl => 1);
	like($head, qr/^HTTP\/1.1 505 /, 'HTTP/1.1 is too old');

	# no stream is left behind

	$h2 = h2_client(port(8080));

	for (1 .. 300) {
		$s = $h2->connect($echo, wait => 0, data => 'x', end => 0);
		$s->read_n(1);
		$_ % 3 == 0 ? $s->reset_close()
			: $_ % 3 == 1 ? $s->half_close()
			: $h2->data($s->{id}, 'y', end => 1);
	}

	is($h2->connect($echo)->echo('hello'), 'hello',
		'many tunnels, one after the other');
}

###############################################################################

sub log_tests {
	my ($t, $target) = @_;

	my $echo = $target->(8091);
	my $h2 = h2_client(port(8080));

	my $s = $h2->connect($target->(8091, 'Echo.Example'), id('log'));
	$s->echo('hello');
	$s->half_close();
	$s->wait_end();

	my $port = port(8091);
	my $line = wait_log($t, 'tunnel.log', qr/^log\|/) || '';
	chomp $line;

	is($line, join('|', 'log',
		"CONNECT Echo.Example:$port HTTP/2.0", 200, 'ok', 'completed',
		"echo.example:$port", 5, 5, 'default', 'echo.example',
		"Echo.Example:$port", '/', 'HTTP/2.0',
		$line =~ /\|h2c$/ ? 'h2c' : 'h2'), 'log of a tunnel');

	$s = $h2->connect('denied.example:443', id('refused'));
	$line = wait_log($t, 'tunnel.log', qr/^refused\|/) || '';
	like($line, qr/^refused\|CONNECT\ denied.example:443\ HTTP\/2.0\|403
		\|denied_name\|-\|denied.example:443\|/x, 'log of a refusal');

	$line = wait_log($t, 'error.log', qr/"denied\.example:443" \w+ed:/);
	like($line || '', qr/\[error\].*ed: denied_name.*, client: 127/,
		'error log of a refusal');

	$line = wait_log($t, 'error.log', qr/"echo\.example:$port" at .* end/);
	like($line || '', qr/\[info\].*ended: completed, received: 5, sent: 5/,
		'error log of a tunnel');

	# without the client

	$h2 = h2_client(port(8083));
	$h2->connect('denied.example:444')->wait_end();
	$s = $h2->connect($target->(8091));
	$s->echo('hello!');
	$s->half_close();
	$s->wait_end();

	my $refused = wait_log($t, 'error.log',
		qr/"denied\.example:444" \w+ed:/) || 'none client:';
	unlike($refused, qr/client:|127\.0\.0\.1/, 'anonymous refusal');

	my $ended = wait_log($t, 'error.log',
		qr/ended: completed, received: 6, sent: 6/) || 'none client:';
	unlike($ended, qr/client:/, 'anonymous tunnel');
}

###############################################################################
