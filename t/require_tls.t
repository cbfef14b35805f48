#!/usr/bin/perl

# Tests for target_require_tls and $tunnel_sni with CONNECT: what does not
# begin with a ClientHello, or names another host in it, reaches no target.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Hello;
use Test::Nginx::Relay qw/ workers tcp_count /;
use Test::Nginx::RequireTls;

use Time::HiRes qw/ sleep /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl map socket_ssl/);

my $d = $t->testdir();

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent '
                      '"$tunnel_sni"';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    target_allow *:*;
    target_deny denied.example:*;
    target_allow_address 127.0.0.0/8 ::1;

    tunnel_preread_timeout 1s;

    # a port for all, one for TLS of any name, the rest by name

    map $tunnel_port $by_port {
        %%PORT_8091%%  '';
        %%PORT_8092%%  on;
        %%PORT_8093%%  nonsense;
        default        sni;
    }

    upstream group {
        server 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_require_tls on;
    }

    server {
        listen 127.0.0.1:8081;
        connect_tunnel;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8082 ssl;
        connect_tunnel;
        target_require_tls on;
    }

    server {
        listen 127.0.0.1:8083 ssl;
        connect_tunnel;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8084;
        target_require_tls off;

        location / {
            connect_tunnel;
            target_require_tls sni;
        }
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel;
        target_require_tls $http_x_tls;
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel;
        target_require_tls $by_port;
    }

    server {
        listen 127.0.0.1:8088;
        connect_tunnel group;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8089;
        connect_tunnel unix:%%TESTDIR%%/unix.sock;
        target_require_tls on;
    }

    server {
        listen 127.0.0.1:8070;
        connect_tunnel;
        target_require_tls on;
        tunnel_preread_timeout 5s;
    }
}

EOF

make_cert($t, 'localhost');

# the target is the same at all of these

pattern(1);
start_daemon($t, \&record_daemon, port($_), "$d/target") for 8091 .. 8094;
start_daemon($t, \&record_daemon, '[::1]:' . port(8091), "$d/target");
start_daemon($t, \&record_daemon, "unix:$d/unix.sock", "$d/target");
start_daemon($t, \&record_daemon, port(8095), "$d/target",
	greeting => "220 mail.example\x0d\x0a");
start_daemon($t, \&record_daemon, port(8096), "$d/target",
	greeting => "220 mail.example\x0d\x0a", leave => 'fin');
start_daemon($t, \&record_daemon, port(8097), "$d/target",
	greeting => "220 mail.example\x0d\x0a", leave => 'close');
start_daemon($t, \&record_daemon, port(8098), "$d/target",
	leave => 'reset');

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		(map { ($_ => '127.0.0.1') } 'name.example', 'other.example',
			'sub.name.example', 'denied.example'),
		'six.example' => '::1',
	});

port(8099);	# nobody is there

###############################################################################

# a browser's, and what one sends behind it

my $hello = hello(sni => 'name.example', tls13 => 1);
my $large = hello(sni => 'name.example', pq => 1, size => 20000);
my $fronted = hello(sni => 'other.example', tls13 => 1);
my $bare = hello(tls13 => 1);
my $mail = "220 mail.example\x0d\x0a";

my %on = (proxy => 8080);
my %cut = (%on, reason => 'not_tls');
my %late = (%cut, time => 1);
my %front = (reason => 'sni_mismatch');
my %sni = (sni => 'name.example');

my @cases = (

	# what passes, however it comes

	[ 'a hello', bytes => $hello, %sni ],
	[ 'a hello behind the request', bytes => $hello, early => 1, %sni ],
	[ 'a hello byte by byte', bytes => $hello, step => 1, %sni ],
	[ 'a hello in two, cut in its first record',
		bytes => $hello, split => [ 3 ], %sni ],
	[ 'a hello that is begun behind the request', bytes => $hello,
		early => 100, %sni ],
	[ 'the last byte of a hello is late', bytes => $hello,
		split => [ length($hello) - 1 ], delay => 0.2, %sni ],
	[ 'a record for each byte', bytes => hello(%sni, record => 1), %sni ],
	[ 'a record for each byte, byte by byte', step => 7,
		bytes => hello(%sni, record => 1), %sni ],
	[ 'records cut in the name', %sni,
		bytes => hello(%sni, records => [ 4, 100, 6, 1 ]) ],
	[ 'a post-quantum hello', bytes => hello(%sni, pq => 1), %sni ],
	[ 'a post-quantum hello in segments', step => 536,
		bytes => hello(%sni, pq => 1, grease => 1, ech => 1), %sni ],
	[ 'a hello of two records', bytes => $large, %sni ],
	[ 'a hello of two records in segments', bytes => $large, step => 1448,
		%sni ],
	[ 'a hello of two records behind the request', bytes => $large,
		early => 1, %sni ],
	[ 'a hello of 60000 bytes', bytes => hello(%sni, size => 60000), %sni ],
	[ 'a hello and more', bytes => $hello . pattern(300000), %sni ],
	[ 'a hello and more behind the request', early => 1,
		bytes => $hello . pattern(300000), %sni ],
	[ 'a hello and the end', bytes => $hello, then => 'fin', early => 1,
		%sni ],
	[ 'TLS 1.0', bytes => hello(%sni, version => 0x0301), %sni ],
	[ 'the name in upper case', bytes => hello(sni => 'NAME.Example'),
		%sni ],
	[ 'the name with a dot', bytes => hello(sni => 'name.example.'), %sni ],
	[ 'a target in upper case', bytes => $hello, host => 'Name.EXAMPLE',
		%sni ],
	[ 'a target with a dot', bytes => $hello, host => 'name.example.',
		%sni ],

	# any name, and those that are none, are enough for "on"

	[ 'on', %on, bytes => $hello, %sni ],
	[ 'on, another name', %on, bytes => $fronted, sni => 'other.example' ],
	[ 'on, no name', %on, bytes => $bare ],
	[ 'on, no extensions', %on, bytes => hello(extensions => undef) ],
	(map { [ "on, $_->[0]", %on, bytes => hello(%{$_->[1]}),
		sni => $_->[2] eq '' ? '-' : $_->[2], sni_any => $_->[2] eq '' ]
	} sni_hellos()),

	# addresses

	[ 'an IPv4 address, no name', host => '127.0.0.1', bytes => $bare ],
	[ 'an IPv4 address as name', host => '127.0.0.1', sni_any => 1,
		bytes => hello(sni => '127.0.0.1') ],
	[ 'an IPv6 address, no name', host => '[::1]', bytes => $bare ],
	[ 'an IPv6 address as name', host => '[::1]', sni_any => 1,
		bytes => hello(sni => '::1') ],
	(map { my ($host, $what) = @$_; (
		[ "$what, a name", host => $host, %front, bytes => $hello,
			%sni ],
		[ "$what, another IPv4 address", host => $host, %front,
			bytes => hello(sni => '127.0.0.2'), sni_any => 1 ],
		[ "$what, another IPv6 address", host => $host, %front,
			bytes => hello(sni => '::2'), sni_any => 1 ],
		[ "$what, two names", host => $host, %front, sni_any => 1,
			bytes => hello(sni => [ '127.0.0.1', '::1' ]) ],
		[ "$what, a name that is none", host => $host, %front,
			bytes => hello(sni => "127.0.0.1\0"), sni_any => 1 ],
	) } [ '127.0.0.1', 'an IPv4 address' ], [ '[::1]', 'an IPv6 address' ]),

	# another name

	[ 'another name', %front, bytes => $fronted, sni => 'other.example' ],
	[ 'another name behind the request', %front, bytes => $fronted,
		early => 1, sni => 'other.example' ],
	[ 'another name byte by byte', %front, bytes => $fronted, step => 1,
		sni => 'other.example' ],
	[ 'another name and more', %front, unread => 1,
		bytes => $fronted . pattern(100000), sni => 'other.example' ],
	[ 'another name and the end', %front, bytes => $fronted,
		then => 'fin', sni => 'other.example' ],
	[ 'another name in a large hello', %front, early => 1,
		bytes => hello(sni => 'other.example', size => 40000),
		sni => 'other.example' ],
	[ 'another target', %front, bytes => $hello, host => 'other.example',
		%sni ],
	[ 'the name of a denied target', %front, sni => 'denied.example',
		bytes => hello(sni => 'denied.example') ],
	(map { [ "the name $_", %front, bytes => hello(sni => $_), sni => $_ ]
	} 'sub.name.example', 'xname.example', 'name.exampl', 'example',
		'name.example.org', 'name'),
	[ 'a target with the address of another', %front, %sni,
		host => 'six.example', bytes => $hello ],

	# a target with a name, and a hello without one

	[ 'no name', %front, bytes => $bare ],
	[ 'no extensions', %front, bytes => hello(extensions => undef) ],
	[ 'the address of the target', %front, sni_any => 1,
		bytes => hello(sni => '127.0.0.1') ],
	(map { [ $_->[0], %front, bytes => hello(sni => $_->[1]),
		sni_any => 1 ] }
		[ 'the name and NUL', "name.example\0" ],
		[ 'the name, NUL, and more', "name.example\0.other.example" ],
		[ 'a name, NUL, and the name', "other.example\0name.example" ],
		[ 'the name and a port', 'name.example:443' ],
		[ 'the name and two dots', 'name.example..' ],
		[ 'a dot and the name', '.name.example' ],
		[ 'the name and a space', 'name.example ' ],
		[ 'a wildcard', '*.example' ],
		[ 'the name and another', [ 'name.example', 'other.example' ] ],
		[ 'the name twice', [ 'name.example', 'name.example' ] ],
		[ 'another and the name', [ 'other.example', 'name.example' ] ],
		[ 'the name, of another type', [ [ 1, 'name.example' ] ] ]),

	# no hello

	(map { ([ "bad hello, $_->[0]", %cut, bytes => $_->[1] ]) }
		bad_hellos()),
	(map { my ($name, $bytes) = @$_; (
		[ $name, %cut, bytes => $bytes ],
		[ "$name, behind the request", %cut, bytes => $bytes,
			early => 1 ],
	) }
		[ 'HTTP', "GET / HTTP/1.1\x0d\x0aHost: name.example\x0d\x0a"
			. "\x0d\x0a" ],
		[ 'HTTP and a hello', "GET / HTTP/1.1\x0d\x0a\x0d\x0a$hello" ],
		[ 'HTTP/2', "PRI * HTTP/2.0\x0d\x0a\x0d\x0aSM\x0d\x0a\x0d\x0a" ],
		[ 'SSH', "SSH-2.0-OpenSSH_9.2\x0d\x0a" ],
		[ 'SMTP', "EHLO name.example\x0d\x0a" ],
		[ 'a TLS alert', tls_alert('unrecognized_name') ],
		[ 'a TLS alert and a hello',
			tls_alert('unrecognized_name') . $hello ],
		[ 'TLS data', pack('C n n/a*', 23, 0x0303, 'x' x 100) ],
		[ 'a ServerHello', hello(type => 2) ],
		[ 'an SSLv2 hello', sslv2_hello() ],
		[ 'SOCKS5', socks5_greeting() ],
		[ 'another CONNECT', connect_request('name.example:443') ],
		[ 'PROXY protocol and a hello', proxy_protocol('v1') . $hello ],
		[ 'PROXY protocol 2 and a hello',
			proxy_protocol('v2') . $hello ],
		[ 'a space and a hello', " $hello" ],
		[ 'NUL', "\0" ],
		[ 'random bytes', "\x80" . pattern(100000) ]),
	[ 'half a hello and HTTP', %cut, split => [ 100 ],
		bytes => substr(hello(%sni, record => 50), 0, 110)
			. "GET / HTTP/1.1\x0d\x0a" ],
	[ 'half a hello and an alert', %cut, split => [ 110 ],
		bytes => substr(hello(%sni, record => 50), 0, 110)
			. tls_alert('internal_error') ],
	[ 'HTTP byte by byte', %cut, step => 1, bytes => 'GET /',
		delay => 0.02 ],
	[ 'sni, HTTP', reason => 'not_tls', bytes => "GET / HTTP/1.1\x0d\x0a" ],
	[ 'a hello that is too large', %cut,
		bytes => hello(%sni, size => 70000) ],
	[ 'a hello that is too large, in segments', %cut, step => 1448,
		bytes => hello(%sni, size => 80000), delay => 0.001 ],
	[ 'a hello that is too large, sni', reason => 'not_tls', early => 1,
		bytes => hello(%sni, size => 70000) ],

	# silence

	[ 'nothing', %late ],
	[ 'nothing, sni', %late, proxy => 8081 ],
	[ 'one byte and silence', %late, bytes => "\x16" ],
	[ 'a head and silence', %late, bytes => substr($hello, 0, 5) ],
	[ 'all but a byte and silence', %late,
		bytes => substr($hello, 0, -1) ],
	[ 'all but a byte, behind the request', %late, early => 1,
		bytes => substr($hello, 0, -1) ],
	[ 'a record and silence', %late,
		bytes => substr($large, 0, 16389) ],
	[ 'bytes that come too slowly', %late, step => 20, delay => 0.25,
		bytes => $hello ],

	# the end

	[ 'the end at once', %on, reason => 'client_closed', then => 'fin' ],
	[ 'the end at once, sni', reason => 'client_closed', then => 'fin' ],
	(map { my $n = $_; (
		[ "$n bytes and the end", %cut, then => 'fin',
			bytes => substr($hello, 0, $n) ],
		[ "$n bytes and the end, behind the request", %cut,
			early => 1, then => 'fin',
			bytes => substr($hello, 0, $n) ],
	) } 1, 5, 60, length($hello) - 1),
	[ 'a record and the end', %cut, then => 'fin',
		bytes => substr($large, 0, 16389) ],

	[ 'reset at once', %on, reason => 'client_reset', then => 'rst' ],
	(map { my $n = $_; (
		[ "$n bytes and reset", %on, reason => 'client_reset',
			then => 'rst', bytes => substr($hello, 0, $n),
			delay => 0.1 ],
		[ "$n bytes and reset, sni", reason => 'client_reset',
			then => 'rst', bytes => substr($hello, 0, $n),
			delay => 0.1 ],
	) } 1, 5, 60, length($hello) - 1),

	# a target which speaks first, or leaves

	[ 'a greeting, and silence', %late, target => 8095 ],
	[ 'a greeting, and half a hello', %late, target => 8095,
		bytes => substr($hello, 0, 60) ],
	[ 'a greeting, and an answer', %cut, target => 8095,
		bytes => "EHLO x\x0d\x0a" ],
	[ 'a greeting, and another name', %front, target => 8095,
		bytes => $fronted, sni => 'other.example' ],
	[ 'a greeting, and a hello', target => 8095, bytes => $hello,
		answer => $mail, delay => 0.1, %sni ],
	[ 'a greeting, the end, and silence', %cut, target => 8096,
		reason => 'not_tls|target_closed' ],
	[ 'a greeting, the end, and no hello', %cut, target => 8096,
		bytes => "EHLO x\x0d\x0a", reason => 'not_tls|target_closed' ],
	[ 'a greeting, a close, and silence', target => 8097,
		reason => 'not_tls|target_closed|target_reset' ],
	[ 'a greeting, a close, and half a hello', target => 8097,
		bytes => substr($hello, 0, 60),
		reason => 'not_tls|target_closed|target_reset' ],
	(map { my %reset = (proxy => 8070, target => 8098,
		reason => 'target_reset'); (
		[ 'a target that resets, and silence', %reset ],
		[ 'a target that resets, and half a hello', %reset,
			bytes => substr($hello, 0, 60) ],
		[ 'a target that resets, and a hello', %reset,
			bytes => $hello, split => [ 60 ], delay => 0.8 ],
	) } 1),

	# TLS to the proxy

	(map { my %tls = (proxy => 8083, ssl => 1); (
		[ 'tls, a hello', %tls, bytes => $hello, %sni ],
		[ 'tls, a hello behind the request', %tls, bytes => $hello,
			early => 1, %sni ],
		[ 'tls, a hello byte by byte', %tls, bytes => $hello,
			step => 1, %sni ],
		[ 'tls, a hello of 60000 bytes and more', %tls, %sni,
			bytes => hello(%sni, size => 60000) . pattern(100000) ],
		[ 'tls, a hello and the end', %tls, bytes => $hello,
			then => 'fin', %sni ],
		[ 'tls, another name', %tls, %front, bytes => $fronted,
			sni => 'other.example' ],
		[ 'tls, another name behind the request', %tls, %front,
			early => 1, sni => 'other.example', unread => 1,
			bytes => $fronted . pattern(20000) ],
		[ 'tls, no name', %tls, %front, bytes => $bare ],
		[ 'tls, on, no name', %tls, proxy => 8082, bytes => $bare ],
	) } 1),
	(map { my %tls = (proxy => 8082, ssl => 1); (
		[ 'tls, HTTP', %cut, %tls,
			bytes => "GET / HTTP/1.1\x0d\x0a\x0d\x0a" ],
		[ 'tls, HTTP behind the request', %cut, %tls, early => 1,
			bytes => "GET / HTTP/1.1\x0d\x0a\x0d\x0a" ],
		[ 'tls, a hello that is too large', %cut, %tls,
			bytes => hello(%sni, size => 70000) ],
		[ 'tls, nothing', %late, %tls ],
		[ 'tls, half a hello and silence', %late, %tls,
			bytes => substr($hello, 0, 60) ],
		[ 'tls, half a hello and the end', %cut, %tls,
			then => 'fin', bytes => substr($hello, 0, 60) ],
		[ 'tls, the end at once', %tls, then => 'fin',
			reason => 'client_closed' ],
		[ 'tls, half a hello and reset', %tls, then => 'rst',
			reason => 'client_reset', delay => 0.1,
			bytes => substr($hello, 0, 60) ],
		[ 'tls, a greeting, and an answer', %cut, %tls,
			target => 8095, bytes => "EHLO x\x0d\x0a" ],
	) } 1),

	# where it is set

	[ 'in a location, another name', %front, proxy => 8084,
		bytes => $fronted, sni => 'other.example' ],
	[ 'in a location', proxy => 8084, bytes => $hello, %sni ],
	[ 'the default, HTTP', proxy => 8085,
		bytes => "GET / HTTP/1.1\x0d\x0a" ],
	[ 'the default, another name', proxy => 8085, bytes => $fronted ],
	[ 'the default, a greeting', proxy => 8085, target => 8095,
		answer => $mail, bytes => 'EHLO' ],

	# variables

	(map { [ 'variable ' . (defined $_->[0] ? "\"$_->[0]\"" : 'none'),
		proxy => 8086, tls => $_->[0], bytes => $fronted,
		@$_[1 .. $#$_] ] }
		[ 'sni', %front, sni => 'other.example' ],
		[ 'on', sni => 'other.example' ],
		[ 'off' ], [ '' ], [ undef ]),
	(map { [ 'HTTP, variable '
		. (defined $_->[0] ? "\"$_->[0]\"" : 'none'),
		proxy => 8086, tls => $_->[0],
		bytes => "GET / HTTP/1.1\x0d\x0a", @$_[1 .. $#$_] ] }
		[ 'sni', reason => 'not_tls' ], [ 'on', reason => 'not_tls' ],
		[ 'off' ], [ '' ], [ undef ]),
	[ 'by port, empty', proxy => 8087, bytes => 'plain' ],
	[ 'by port, on', proxy => 8087, target => 8092, bytes => $bare ],
	[ 'by port, on, no hello', proxy => 8087, target => 8092,
		bytes => 'plain', reason => 'not_tls' ],
	[ 'by port, sni', proxy => 8087, target => 8094, bytes => $hello,
		%sni ],
	[ 'by port, sni, another name', proxy => 8087, target => 8094, %front,
		bytes => $fronted, sni => 'other.example' ],

	# targets that the client does not choose

	[ 'a group', proxy => 8088, bytes => $hello, %sni ],
	[ 'a group, HTTP', proxy => 8088, reason => 'not_tls',
		bytes => "GET / HTTP/1.1\x0d\x0a" ],
	[ 'a group, another name', proxy => 8088, bytes => $fronted, %front,
		sni => 'other.example' ],
	[ 'a unix socket', proxy => 8089, bytes => $hello, %sni ],
	[ 'a unix socket, HTTP', proxy => 8089, reason => 'not_tls',
		bytes => "GET / HTTP/1.1\x0d\x0a" ],
);

$t->plan(@cases + 20);

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my ($pid) = workers($t);

tls_test($t, \&tunnel, @$_) for @cases;

# a value that is none, and targets that are not there: no tunnel

for my $value ('yes', 'on off', 'sni,on', '1', 'tls') {
	is(refused($t, 8086, 'name.example:' . port(8091), $value),
		'500 internal - - - -', "variable $value");
}

is(refused($t, 8087, 'name.example:' . port(8093)), '500 internal - - - -',
	'by port, a value that is none');
ok(wait_log($t, 'error.log', qr/\[error\].*
	invalid\ "target_require_tls"\ value\ "nonsense"/x),
	'a value that is none, logged');
is(refused($t, 8081, 'denied.example:' . port(8091)),
	'403 denied_name - - - -', 'denied');
is(refused($t, 8081, 'name.example:' . port(8099)), '502 refused - - - -',
	'refused');

# the client is told of its tunnel before it has to say anything, and a hello
# may take its time

my ($s, $head) = connect_tunnel(port(8070), 'name.example:' . port(8091),
	headers => [ 'X-Id: slow' ]);
like($head, qr/^HTTP\/1\.1 200 /, 'a tunnel before any byte');
sleep(0.7);
write_all($s, substr($hello, 0, 50));
sleep(0.3);
write_all($s, substr($hello, 50));
ok(read_n($s, length $hello) eq $hello, 'a slow client, and time for it');
half_close($s);
read_all($s);
is(logged($t, 'slow'), '200 ok completed ' . length($hello) . ' '
	. length($hello) . ' "name.example"', 'a slow client, logged');

# a target that leaves after the hello is a matter for the relay

($s) = connect_tunnel(port(8080), 'name.example:' . port(8097),
	headers => [ 'X-Id: left' ], early => $hello);
like(join('', read_all($s)), qr/^\Q$mail\E(?:EOF|RESET)$/,
	'a target leaves after the hello');
close $s;
like(logged($t, 'left'), qr/^200 ok (?:target_\w+|completed) \d+ \d+ "name/,
	'a target leaves after the hello, logged');

# nothing is left behind

ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');
is((workers($t))[0], $pid, 'still the same worker');

for my $reason (qw/ not_tls sni_mismatch /) {
	my @ended = grep { /\[info\].*tunnel\ to\ "[^"]+"\ at\ \S+
		\ ended:\ $reason,\ received:\ 0,\ sent:\ 0\b/x }
		log_lines($t, 'error.log');
	cmp_ok(@ended, '>=', cut_as(\@cases, $reason),
		"$reason in the error log");
}

my @refused = grep { /\[error\].*tunnel\ to\ "[^"]+"\ refused:
	\ the\ client\ .*ClientHello/x } log_lines($t, 'error.log');
my @named = grep { / named "other\.example" in its ClientHello/ } @refused;
cmp_ok(scalar(@refused), '>=', cut_as(\@cases, qw/ not_tls sni_mismatch /),
	'and as errors');
cmp_ok(scalar(@named), '>=', 10, 'with the name');

###############################################################################

# The front end of tls_test():
#
#   proxy, host, target		8081, name.example, 8091
#   tls				the header X-TLS
#   ssl				to the proxy

sub tunnel {
	my ($t, $case, $early) = @_;

	my %case = (proxy => 8081, host => 'name.example', target => 8091,
		%$case);

	our $count;
	my $id = 'id' . ++$count;

	my ($s, $head) = connect_tunnel(port($case{proxy}),
		"$case{host}:" . port($case{target}), ssl => $case{ssl},
		headers => [ "X-Id: $id",
			defined $case{tls} ? "X-TLS: $case{tls}" : () ],
		early => $early);

	return ($s, $id, $head =~ /^HTTP\/1\.1 200 / ? undef : $head);
}

sub refused {
	my ($t, $proxy, $authority, $value) = @_;

	our $refused;
	my $id = 'refused' . ++$refused;
	my $seen = () = log_lines($t, 'target');

	my ($s, $head) = connect_tunnel(port($proxy), $authority,
		headers => [ "X-Id: $id",
			defined $value ? "X-TLS: $value" : () ]);
	read_all($s);

	my $more = (() = log_lines($t, 'target')) - $seen;
	my ($status) = $head =~ /^HTTP\/1\.1 (\d+)/;
	my $line = logged($t, $id) =~ s/"//gr;

	return $line =~ /^\Q$status\E / && !$more ? $line
		: "$status, $line, $more";
}

###############################################################################
