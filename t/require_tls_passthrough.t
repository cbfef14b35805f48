#!/usr/bin/perl

# Tests for target_require_tls and $tunnel_sni with passthrough, with and
# without tunnel_preread.

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

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_ssl stream_map socket_ssl/);

my $d = $t->testdir();

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$remote_port $status $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent '
                      '"$tunnel_sni" "$preread_protocol" "$preread_host"';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;

    tunnel_preread_timeout 1s;

    map $preread_host $by_host {
        default       name.example:%%PORT_8091%%;
        name.example  name.example:%%PORT_8091%%;
        front.example name.example:%%PORT_8091%%;
    }

    map $preread_protocol $by_protocol {
        tls      sni;
        ssh      off;
        default  on;
    }

    map $server_port $target {
        %%PORT_8080%%  name.example:%%PORT_8091%%;
        %%PORT_8081%%  name.example:%%PORT_8091%%;
        %%PORT_8082%%  127.0.0.1:8091;
        %%PORT_8083%%  '[::1]:%%PORT_8091%%';
        %%PORT_8084%%  group;
        %%PORT_8085%%  name.example:%%PORT_8095%%;
        %%PORT_8086%%  name.example:%%PORT_8091%%;
        %%PORT_8087%%  name.example:%%PORT_8091%%;
        %%PORT_8088%%  name.example:%%PORT_8098%%;
    }

    upstream group {
        server 127.0.0.1:8091;
    }

    # without tunnel_preread

    server {
        listen 127.0.0.1:8080;
        passthrough $target;
        target_require_tls on;
    }

    server {
        listen 127.0.0.1:8081;
        listen 127.0.0.1:8082;
        listen 127.0.0.1:8083;
        listen 127.0.0.1:8084;
        listen 127.0.0.1:8085;
        passthrough $target;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8086 ssl;
        passthrough $target;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8087;
        passthrough $target;
    }

    server {
        listen 127.0.0.1:8088;
        passthrough $target;
        target_require_tls sni;
        tunnel_preread_timeout 5s;
    }

    server {
        listen 127.0.0.1:8089;
        passthrough unix:%%TESTDIR%%/unix.sock;
        target_require_tls sni;
    }

    # literal targets

    server {
        listen 127.0.0.1:8090;
        passthrough 127.0.0.1:8091;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8079;
        passthrough group;
        target_require_tls sni;
    }

    # with it

    server {
        listen 127.0.0.1:8070;
        tunnel_preread on;
        passthrough $preread_host:%%PORT_8091%%;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8071;
        tunnel_preread on;
        passthrough $by_host;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8072;
        tunnel_preread on;
        passthrough 127.0.0.1:8091;
        target_require_tls on;
    }

    server {
        listen 127.0.0.1:8073;
        tunnel_preread on;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8074 ssl;
        tunnel_preread on;
        passthrough $by_host;
        target_require_tls sni;
    }

    server {
        listen 127.0.0.1:8075;
        tunnel_preread on;
        passthrough $by_host;
        target_require_tls $by_protocol;
    }

    server {
        listen 127.0.0.1:8076 proxy_protocol;
        tunnel_preread on;
        passthrough $by_host;
        target_require_tls sni;
    }

    # a hello that is larger than what is looked at before

    server {
        listen 127.0.0.1:8077;
        tunnel_preread on;
        preread_buffer_size 1k;
        passthrough $by_host;
        target_require_tls sni;
    }

    # rejected before there is a tunnel

    server {
        listen 127.0.0.1:8078;
        tunnel_preread on;
        passthrough reject;
        target_require_tls sni;
    }
}

EOF

make_cert($t, 'localhost');

pattern(1);
start_daemon($t, \&record_daemon, port(8091), "$d/target");
start_daemon($t, \&record_daemon, '[::1]:' . port(8091), "$d/target");
start_daemon($t, \&record_daemon, "unix:$d/unix.sock", "$d/target");
start_daemon($t, \&record_daemon, port(8095), "$d/target",
	greeting => "220 mail.example\x0d\x0a");
start_daemon($t, \&record_daemon, port(8098), "$d/target",
	leave => 'reset');

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { map { ($_ => '127.0.0.1') } 'name.example',
		'other.example' });

###############################################################################

my $hello = hello(sni => 'name.example', tls13 => 1);
my $large = hello(sni => 'name.example', pq => 1, size => 6000);
my $fronted = hello(sni => 'front.example', tls13 => 1);
my $bare = hello(tls13 => 1);
my $http = "GET / HTTP/1.1\x0d\x0aHost: name.example\x0d\x0a\x0d\x0a";
my $mail = "220 mail.example\x0d\x0a";

my %cut = (reason => 'not_tls');
my %late = (%cut, time => 1);
my %front = (reason => 'sni_mismatch');
my %sni = (sni => 'name.example');
my %other = (%front, sni => 'front.example');

# what tunnel_preread says, if it is on

my %tls = (protocol => 'tls', host => 'name.example');
my %fronting = (protocol => 'tls', host => 'front.example');

my @cases = (

	# without tunnel_preread

	[ 'on, a hello', proxy => 8080, bytes => $hello, %sni ],
	[ 'on, no name', proxy => 8080, bytes => $bare ],
	[ 'on, another name', proxy => 8080, bytes => $fronted,
		sni => 'front.example' ],
	[ 'on, HTTP', proxy => 8080, bytes => $http, %cut ],
	(map { [ "on, bad hello, $_->[0]", proxy => 8080, %cut,
		bytes => $_->[1] ] } bad_hellos()),

	[ 'sni, a hello', bytes => $hello, %sni ],
	[ 'sni, byte by byte', bytes => $hello, step => 1, %sni ],
	[ 'sni, in many records, in segments', step => 7, %sni,
		bytes => hello(%sni, record => 1) ],
	[ 'sni, a hello and more', %sni,
		bytes => $hello . pattern(200000) ],
	[ 'sni, a hello and the end', %sni, then => 'fin', bytes => $hello ],
	[ 'sni, the name in upper case and a dot', %sni,
		bytes => hello(sni => 'NAME.Example.') ],
	[ 'sni, another name', bytes => $fronted, %other ],
	[ 'sni, another name, byte by byte', bytes => $fronted, step => 1,
		%other ],
	[ 'sni, another name and more', %other, unread => 1,
		bytes => $fronted . pattern(100000) ],
	[ 'sni, no name', bytes => $bare, %front ],
	[ 'sni, two names', %front,
		bytes => hello(sni => [ 'name.example', 'x' ]) ],
	[ 'sni, HTTP', bytes => $http, %cut ],
	[ 'sni, nothing', %late ],
	[ 'sni, half a hello and silence', %late,
		bytes => substr($hello, 0, 60) ],
	[ 'sni, half a hello and the end', %cut, then => 'fin',
		bytes => substr($hello, 0, 60) ],
	[ 'sni, the end at once', reason => 'client_closed', then => 'fin' ],
	[ 'sni, half a hello and reset', reason => 'client_reset',
		then => 'rst', bytes => substr($hello, 0, 60),
		delay => 0.1 ],
	[ 'sni, a greeting, and silence', proxy => 8085, %late ],
	[ 'sni, a greeting, and an answer', proxy => 8085, %cut,
		bytes => "EHLO x\x0d\x0a" ],
	[ 'sni, a greeting, and a hello', proxy => 8085, bytes => $hello,
		answer => $mail, %sni ],
	[ 'sni, a target that resets', proxy => 8088,
		reason => 'target_reset',
		bytes => substr($hello, 0, 60) ],
	[ 'sni, a target that resets, nothing', proxy => 8088,
		reason => 'target_reset' ],

	[ 'tls, a hello', proxy => 8086, ssl => 1, bytes => $hello, %sni ],
	[ 'tls, another name', proxy => 8086, ssl => 1, bytes => $fronted,
		%other ],
	[ 'tls, HTTP', proxy => 8086, ssl => 1, bytes => $http, %cut ],
	[ 'tls, nothing', proxy => 8086, ssl => 1, %late ],
	[ 'tls, half a hello and the end', proxy => 8086, ssl => 1, %cut,
		then => 'fin', bytes => substr($hello, 0, 60) ],

	[ 'off, HTTP', proxy => 8087, bytes => $http ],
	[ 'off, another name', proxy => 8087, bytes => $fronted ],

	# addresses

	(map { my ($what, $number, $host) = @$_; (
		[ "$what, no name", proxy => $number, bytes => $bare ],
		[ "$what, its own", proxy => $number, sni_any => 1,
			bytes => hello(sni => $host) ],
		[ "$what, a name", proxy => $number, %front, %sni,
			bytes => $hello ],
		[ "$what, another", proxy => $number, %front, sni_any => 1,
			bytes => hello(sni => '127.0.0.2') ],
		[ "$what, HTTP", proxy => $number, %cut, bytes => $http ],
	) } [ 'an IPv4 address', 8082, '127.0.0.1' ],
		[ 'an IPv6 address', 8083, '::1' ],
		[ 'a literal target', 8090, '127.0.0.1' ]),

	# nothing to compare a name with

	(map { my ($what, $number) = @$_; (
		[ "$what, a hello", proxy => $number, bytes => $hello, %sni ],
		[ "$what, another name", proxy => $number, bytes => $fronted,
			sni => 'front.example' ],
		[ "$what, no name", proxy => $number, bytes => $bare ],
		[ "$what, HTTP", proxy => $number, %cut, bytes => $http ],
		[ "$what, nothing", proxy => $number, %late ],
	) } [ 'a group by name', 8084 ], [ 'a group', 8079 ],
		[ 'a unix socket', 8089 ]),

	# with tunnel_preread: the same bytes are looked at twice

	[ 'preread, the name is the target', proxy => 8070, bytes => $hello,
		%sni, %tls ],
	[ 'preread, the name is the target, byte by byte', proxy => 8070,
		bytes => $hello, step => 1, %sni, %tls ],
	[ 'preread, upper case and a dot', proxy => 8070, %sni, %tls,
		bytes => hello(sni => 'NAME.Example.') ],
	[ 'preread, HTTP names the target', proxy => 8070, bytes => $http,
		protocol => 'http', host => 'name.example', %cut ],
	[ 'preread, HTTP names the target, byte by byte', proxy => 8070,
		bytes => $http, protocol => 'http', host => 'name.example',
		step => 3, %cut ],

	[ 'preread, a hello', proxy => 8071, bytes => $hello, %sni, %tls ],
	[ 'preread, a hello of 6000 bytes', proxy => 8071, bytes => $large,
		%sni, %tls ],
	[ 'preread, a hello of 6000 bytes, in segments', proxy => 8071,
		bytes => $large, step => 536, %sni, %tls ],
	[ 'preread, a hello and more', proxy => 8071, %sni, %tls,
		bytes => $hello . pattern(200000) ],
	[ 'preread, a hello and the end', proxy => 8071, %sni, %tls,
		bytes => $hello, then => 'fin' ],
	[ 'preread, another name', proxy => 8071, bytes => $fronted, %other,
		%fronting ],
	[ 'preread, another name and more', proxy => 8071, %other, %fronting,
		unread => 1, bytes => $fronted . pattern(100000) ],
	[ 'preread, another name and the end', proxy => 8071, %other,
		%fronting, bytes => $fronted, then => 'fin' ],
	[ 'preread, no name', proxy => 8071, bytes => $bare, %front,
		protocol => 'tls' ],
	[ 'preread, two names', proxy => 8071, %front, protocol => 'tls',
		bytes => hello(sni => [ 'name.example', 'x' ]) ],
	[ 'preread, HTTP', proxy => 8071, bytes => $http, %cut,
		protocol => 'http', host => 'name.example' ],
	[ 'preread, SSH', proxy => 8071, bytes => "SSH-2.0-x\x0d\x0a", %cut,
		protocol => 'ssh' ],
	[ 'preread, SSLv2', proxy => 8071, bytes => sslv2_hello(), %cut,
		protocol => 'sslv2' ],
	[ 'preread, other bytes', proxy => 8071, bytes => "\xff\xff", %cut,
		protocol => 'unknown' ],
	[ 'preread, a bad hello', proxy => 8071, %cut, protocol => 'unknown',
		bytes => hello(%sni, tail => "\0") ],
	[ 'preread, nothing', proxy => 8071, protocol => 'timeout', %late ],
	[ 'preread, half a hello and silence', proxy => 8071, %late,
		protocol => 'unknown', bytes => substr($hello, 0, 60) ],
	[ 'preread, half a hello and the end', proxy => 8071, %cut,
		protocol => 'unknown', then => 'fin',
		bytes => substr($hello, 0, 60) ],

	# decided by the timeout of one, the rest comes in that of the other

	[ 'preread, the rest of a hello is late', proxy => 8071, %sni,
		protocol => 'unknown', bytes => $hello, split => [ 60 ],
		delay => 1.5 ],
	[ 'preread, a hello larger than its buffer', proxy => 8077, %sni,
		protocol => 'unknown', bytes => $large ],
	[ 'preread, a hello larger than its buffer, in segments',
		proxy => 8077, %sni, protocol => 'unknown', bytes => $large,
		step => 1000 ],
	[ 'preread, another name larger than its buffer', proxy => 8077,
		%other, protocol => 'unknown',
		bytes => hello(sni => 'front.example', size => 6000) ],

	[ 'preread, on, no name', proxy => 8072, bytes => $bare,
		protocol => 'tls' ],
	[ 'preread, on, HTTP', proxy => 8072, bytes => $http, %cut,
		protocol => 'http', host => 'name.example' ],

	# $tunnel_sni without target_require_tls

	[ 'preread, off, a hello', proxy => 8073, bytes => $fronted,
		sni => 'front.example', %fronting ],
	[ 'preread, off, no name', proxy => 8073, bytes => $bare,
		protocol => 'tls' ],
	[ 'preread, off, HTTP', proxy => 8073, bytes => $http,
		protocol => 'http', host => 'name.example' ],

	# what TLS to nginx has in it

	[ 'preread, tls, a hello', proxy => 8074, ssl => 1, bytes => $hello,
		%sni, %tls ],
	[ 'preread, tls, another name', proxy => 8074, ssl => 1,
		bytes => $fronted, %other, %fronting ],
	[ 'preread, tls, HTTP', proxy => 8074, ssl => 1, bytes => $http,
		protocol => 'http', host => 'name.example', %cut ],

	# PROXY protocol in front

	[ 'preread, proxy protocol, a hello', proxy => 8076, v1 => 1,
		bytes => $hello, %sni, %tls ],
	[ 'preread, proxy protocol, another name', proxy => 8076, v1 => 1,
		bytes => $fronted, %other, %fronting ],

	# a value that depends on what was seen

	[ 'by protocol, tls', proxy => 8075, bytes => $hello, %sni, %tls ],
	[ 'by protocol, tls, another name', proxy => 8075, bytes => $fronted,
		%other, %fronting ],
	[ 'by protocol, ssh', proxy => 8075, protocol => 'ssh',
		bytes => "SSH-2.0-x\x0d\x0a" ],
	[ 'by protocol, HTTP', proxy => 8075, bytes => $http, %cut,
		protocol => 'http', host => 'name.example' ],
);

$t->plan(@cases + 6);

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my ($pid) = workers($t);

tls_test($t, \&tunnel, @$_) for @cases;

# no tunnel, no check

my $seen = () = log_lines($t, 'target');
my $s = tcp_connect(port(8078));
my $id = $s->sockport();
write_all($s, $hello);
is(join(' ', unpack('H*', read_all($s)), ''), '15030300020270 ', 'rejected');
close $s;
like(wait_log($t, 'tunnel.log', qr/^$id 403 /) || '',
	qr/^\d+ 403 rejected - - - "name\.example" "tls"/, 'rejected, logged');
is(scalar(() = log_lines($t, 'target')), $seen, 'rejected, no target');

# an upstream group has its connections counted

ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');
is((workers($t))[0], $pid, 'still the same worker');

my @told = grep { /\[info\].* ended: (?:not_tls|sni_mismatch), received: 0, sent: 0\b/ }
	log_lines($t, 'error.log');
cmp_ok(@told, '>=', cut_as(\@cases, qw/ not_tls sni_mismatch /),
	'all that were cut are in the error log');

###############################################################################

# The front end of tls_test():
#
#   proxy			8081
#   ssl				to it
#   v1				a PROXY protocol header in front
#   protocol, host		what tunnel_preread says, if it is on

sub tunnel {
	my ($t, $case) = @_;

	my %case = (proxy => 8081, protocol => '-', host => '-', %$case);

	my $s = client_connect(port($case{proxy}), ssl => $case{ssl},
		$case{v1} ? (proxy_protocol => 'v1') : ());

	$case->{more} = [ @case{qw/ protocol host /} ];

	return ($s, $s->sockport());
}

###############################################################################
