#!/usr/bin/perl

# Tests for target_require_tls and $tunnel_sni with SOCKS: what does not begin
# with a ClientHello, or names another host in it, reaches no target.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Socks;
use Test::Nginx::Datagram;
use Test::Nginx::Hello;
use Test::Nginx::Relay qw/ workers tcp_count listen_count /;
use Test::Nginx::RequireTls;

use Time::HiRes qw/ sleep /;

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

    log_format tunnel '$remote_port:$server_port $status '
                      '$tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent '
                      '"$tunnel_sni"';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;

    tunnel_preread_timeout 1s;
    target_require_tls sni;
    socks_bind on;
    socks_udp on;

    map $socks_user $by_user {
        any       on;
        named     sni;
        free      off;
        nonsense  maybe;
        default   '';
    }

    server {
        listen 127.0.0.1:8080;
        listen [::1]:%%PORT_8080%%;
        socks;
        target_require_tls on;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
    }

    server {
        listen 127.0.0.1:8082 ssl;
        socks;
    }

    server {
        listen 127.0.0.1:8083;
        socks;
        target_require_tls $by_user;
    }

    server {
        listen 127.0.0.1:8084;
        socks;
        target_require_tls off;
    }

    # more time

    server {
        listen 127.0.0.1:8085;
        socks;
        tunnel_preread_timeout 5s;
    }
}

EOF

make_cert($t, 'localhost');

pattern(1);
start_daemon($t, \&record_daemon, port(8091), "$d/target");
start_daemon($t, \&record_daemon, '[::1]:' . port(8091), "$d/target");
start_daemon($t, \&record_daemon, port(8095), "$d/target",
	greeting => "SSH-2.0-OpenSSH_9.2\x0d\x0a");
start_daemon($t, \&record_daemon, port(8098), "$d/target",
	leave => 'reset');

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { map { ($_ => '127.0.0.1') } 'name.example',
		'other.example' });

###############################################################################

my $hello = hello(sni => 'name.example', tls13 => 1);
my $large = hello(sni => 'name.example', pq => 1, size => 20000);
my $fronted = hello(sni => 'other.example', tls13 => 1);
my $bare = hello(tls13 => 1);
my $http = "GET / HTTP/1.1\x0d\x0aHost: name.example\x0d\x0a\x0d\x0a";
my $banner = "SSH-2.0-OpenSSH_9.2\x0d\x0a";

my %cut = (reason => 'not_tls');
my %late = (%cut, time => 1);
my %front = (reason => 'sni_mismatch');
my %sni = (sni => 'name.example');
my %other = (%front, sni => 'other.example');

# versions that take a name, and all with an address

my @named = (
	[ 'SOCKS4a', version => '4a' ],
	[ 'SOCKS5', version => '5' ],
);

my @literal = (
	[ 'SOCKS4', version => '4', host => '127.0.0.1' ],
	[ 'SOCKS4a with an address', version => '4a', host => '127.0.0.1' ],
	[ 'SOCKS5, IPv4', version => '5', host => '127.0.0.1' ],
	[ 'SOCKS5, IPv6', version => '5', host => '::1' ],
	[ 'SOCKS5, IPv4 as text', version => '5', host => '127.0.0.1',
		atyp => 'name' ],
	[ 'SOCKS5, IPv6 as text', version => '5', host => '::1',
		atyp => 'name' ],
);

my @cases = (
	(map { my ($what, %socks) = @$_; map { [ "$what, $_->[0]", %socks,
		@$_[1 .. $#$_] ] } (

		# what passes

		[ 'a hello', bytes => $hello, %sni ],
		[ 'a hello behind the request', bytes => $hello, early => 1,
			%sni ],
		[ 'a hello byte by byte', bytes => $hello, step => 1, %sni ],
		[ 'the name in upper case and a dot', %sni,
			bytes => hello(sni => 'NAME.example.') ],
		[ 'a target in upper case and a dot', bytes => $hello, %sni,
			host => 'NAME.Example.' ],
		[ 'a large hello behind the request', bytes => $large,
			early => 1, %sni ],
		[ 'a hello in many records, in segments', step => 7, %sni,
			bytes => hello(%sni, record => 1) ],
		[ 'a hello and the end', bytes => $hello, then => 'fin',
			early => 1, %sni ],
		[ 'a hello and more', bytes => $hello . pattern(200000),
			early => 1, %sni ],

		# what does not

		[ 'another name', bytes => $fronted, %other ],
		[ 'another name behind the request', bytes => $fronted,
			early => 1, %other ],
		[ 'another name and more', %other, unread => 1,
			bytes => $fronted . pattern(100000) ],
		[ 'another target', host => 'other.example', %front,
			bytes => $hello, %sni ],
		[ 'no name', bytes => $bare, %front ],
		[ 'two names', %front,
			bytes => hello(sni => [ 'name.example', 'x' ]) ],
		[ 'the address of the target', %front, sni_any => 1,
			bytes => hello(sni => '127.0.0.1') ],
		[ 'HTTP', bytes => $http, %cut ],
		[ 'HTTP behind the request', bytes => $http, early => 1,
			%cut ],
		[ 'nothing', %late ],
		[ 'half a hello and silence', %late,
			bytes => substr($hello, 0, 60) ],
		[ 'half a hello and the end', %cut, then => 'fin',
			bytes => substr($hello, 0, 60) ],
		[ 'half a hello behind the request and the end', %cut,
			then => 'fin', early => 1,
			bytes => substr($hello, 0, 60) ],
		[ 'the end at once', then => 'fin',
			reason => 'client_closed' ],
		[ 'half a hello and reset', then => 'rst',
			reason => 'client_reset', delay => 0.1,
			bytes => substr($hello, 0, 60) ],
		[ 'reset at once', then => 'rst', reason => 'client_reset',
			delay => 0.1 ],
		[ 'a greeting, and silence', target => 8095, %late ],
		[ 'a greeting, and an answer', target => 8095, %cut,
			bytes => $banner ],
		[ 'a greeting, and a hello', target => 8095, bytes => $hello,
			answer => $banner, %sni ],
		[ 'a target that resets', proxy => 8085, target => 8098,
			reason => 'target_reset',
			bytes => substr($hello, 0, 60) ],

		# TLS to the server

		[ 'tls, a hello', ssl => 1, bytes => $hello, early => 1,
			%sni ],
		[ 'tls, another name', ssl => 1, bytes => $fronted, %other ],
		[ 'tls, HTTP', ssl => 1, bytes => $http, %cut ],
		[ 'tls, half a hello and the end', ssl => 1, %cut,
			then => 'fin', bytes => substr($hello, 0, 60) ],

		# any name

		[ 'on, no name', proxy => 8080, bytes => $bare ],
		[ 'on, another name', proxy => 8080, bytes => $fronted,
			sni => 'other.example' ],
		[ 'on, HTTP', proxy => 8080, bytes => $http, %cut ],

		# those that are off

		[ 'off, HTTP', proxy => 8084, bytes => $http ],
		[ 'off, a greeting', proxy => 8084, target => 8095,
			bytes => $banner, answer => $banner ],
	) } @named),

	(map { my ($what, %socks) = @$_; map { [ "$what, $_->[0]", %socks,
		@$_[1 .. $#$_] ] } (
		[ 'no name', bytes => $bare ],
		[ 'no name, behind the request', bytes => $bare, early => 1 ],
		[ 'the address as name', sni_any => 1,
			bytes => hello(sni => $socks{host}) ],
		[ 'a name', bytes => $hello, %front, %sni ],
		[ 'another address', %front, sni_any => 1,
			bytes => hello(sni => '127.0.0.2') ],
		[ 'a name that is none', %front, sni_any => 1,
			bytes => hello(sni => "$socks{host}\0") ],
		[ 'HTTP', bytes => $http, %cut ],
		[ 'nothing', %late ],
	) } @literal),

	# bytes that are no ClientHello, one of each kind

	(map { [ "bad hello, $_->[0]", %cut, proxy => 8080, early => 1,
		bytes => $_->[1] ] } bad_hellos()),
	(map { [ $_->[0], %cut, proxy => 8080, bytes => $_->[1] ] }
		[ 'SSH', $banner ], [ 'a TLS alert', tls_alert('internal_error') ],
		[ 'an SSLv2 hello', sslv2_hello() ],
		[ 'SOCKS in SOCKS', socks5_greeting() ],
		[ 'a hello that is too large',
			hello(%sni, size => 70000) ]),

	# variables

	[ 'a user, on', user => 'any', bytes => $fronted,
		sni => 'other.example' ],
	[ 'a user, on, HTTP', user => 'any', bytes => $http, %cut ],
	[ 'a user, sni', user => 'named', bytes => $fronted, %other ],
	[ 'a user, off', user => 'free', bytes => $http ],
	[ 'a user, empty', user => 'someone', bytes => $http ],
);

$t->plan(@cases + 58);

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my ($pid) = workers($t);

tls_test($t, \&tunnel, @$_) for @cases;

# a value that is none

my $s = socks_client($t, port(8083));
write_all($s, socks_request('4a', 'name.example', port(8091),
	user => 'nonsense'));
is(ends($s), socks4_hex(91) . ' EOF', 'a value that is none');
is(socks_logged($t, $s), '500 internal - - - "-"',
	'a value that is none, logged');
ok(wait_log($t, 'error.log', qr/\[error\].*
	invalid\ "target_require_tls"\ value\ "maybe"/x),
	'a value that is none, error log');

# the reply comes before the client has to say anything, and all of the
# session byte by byte

for my $version ('4a', '5') {
	$s = socks_client($t, port(8085));
	send_split($s, socks_request($version, 'name.example', port(8091))
		. $hello, step => 1, delay => 0.001);

	read_n($s, 2) if $version eq '5';
	my $code = (read_reply($s, $version))[0];
	is($code, $version eq '5' ? 0 : 90, "$version, all byte by byte");
	ok(read_n($s, length $hello) eq $hello,
		"$version, all byte by byte, hello");
	half_close($s);
	read_all($s);
	like(socks_logged($t, $s), qr/^200 ok completed .* "name\.example"$/,
		"$version, all byte by byte, logged");
}

###############################################################################

# BIND: the client's first bytes are checked as well

for my $version ('4', '5') {
	my $good = $version eq '5' ? 0 : 90;

	($s, my $peer, my $code) = bind_peer($t, $version, 8080);
	is($code, $good, "BIND $version");
	write_all($s, $hello);
	ok(read_n($peer, length $hello) eq $hello, "BIND $version, a hello");
	write_all($peer, 'answer');
	is(read_n($s, 6), 'answer', "BIND $version, an answer");
	half_close($s);
	read_all($peer);
	half_close($peer);
	read_all($s);
	is(socks_logged($t, $s), '200 ok completed ' . length($hello)
		. ' 6 "name.example"', "BIND $version, logged");

	# early bytes, and a time that begins with the peer

	($s, $peer) = bind_peer($t, $version, 8080, early => $hello,
		delay => 0.6);
	ok(read_n($peer, length $hello) eq $hello,
		"BIND $version, a hello behind the request");
	close $s;
	close $peer;

	for my $case (
		[ 'HTTP', $http, 'not_tls' ],
		[ 'HTTP behind the request', $http, 'not_tls', early => 1 ],
		[ 'nothing', '', 'not_tls' ],
		[ 'half a hello and silence', substr($hello, 0, 60),
			'not_tls' ],
		[ 'another name', $hello, 'sni_mismatch', proxy => 8081 ],
	) {
		my ($what, $bytes, $reason, %opt) = @$case;

		($s, $peer) = bind_peer($t, $version, $opt{proxy} || 8080,
			$opt{early} ? (early => $bytes) : ());
		write_all($peer, 'greeting');
		write_all($s, $bytes) if !$opt{early} && $bytes ne '';

		my ($got, $state) = read_all($s, 4);
		is(($state eq 'TIMEOUT' ? $state : '') . unpack('H*', $got),
			$reason eq 'not_tls' ? '' : unpack('H*',
				tls_alert('unrecognized_name')),
			"BIND $version, $what, nothing for the client");

		($got, $state) = read_all($peer, 4);
		is(($state eq 'TIMEOUT' ? $state : '') . length $got, '0',
			"BIND $version, $what, nothing for the peer");
		close $s;

		like(socks_logged($t, $s), qr/^200 ok $reason 0 0 /,
			"BIND $version, $what, logged");
	}
}

###############################################################################

# UDP: not with any of it

for my $case ([ 'on', 8080 ], [ 'sni', 8081 ]) {
	my ($what, $number) = @$case;

	socks_answer($t, port($number),
		socks_request('5', '0.0.0.0', 0, cmd => 3),
		'0500' . socks5_hex(2), '403 denied_name - ', "UDP, $what");
}

my $u = udp_associate(port(8084));
my $target = udp_socket('127.0.0.1');
is(udp_echo($u, $target, 'hello'), '', 'UDP, off');
udp_end($u);

# an empty user

$u = udp_associate(port(8083));
is(udp_echo($u, $target, 'hello'), '', 'UDP, an empty value');
udp_end($u);

# nothing is left behind

ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');
is(listen_count($pid), 7, 'and none that listens');
is((workers($t))[0], $pid, 'still the same worker');

###############################################################################

# The front end of tls_test():
#
#   version, host, target	4a, name.example, 8091
#   user, atyp			of the request
#   ssl				to the server
#   proxy			8081, 8082 for ssl, 8083 for user

sub tunnel {
	my ($t, $case, $early) = @_;

	my %case = (version => '4a', host => 'name.example', target => 8091,
		proxy => $case->{ssl} ? 8082 : defined $case->{user} ? 8083
			: 8081, %$case);

	my ($s, $code) = socks_open($t, $case{version}, port($case{proxy}),
		$case{host}, port($case{target}), ssl => $case{ssl},
		early => $early, map { exists $case{$_} ? ($_ => $case{$_})
			: () } qw/ user atyp /);

	return ($s, '', 'code ' . (defined $code ? $code : 'none'))
		unless defined $code && $code =~ /^(?:0|90)\z/;

	return ($s, ${*$s}{socks_id});
}

# Both ends of a BIND, and the code of the second reply.

sub bind_peer {
	my ($t, $version, $number, %opt) = @_;

	my $s = socks_client($t, port($number));

	write_all($s, socks5_greeting()) if $version eq '5';
	read_n($s, 2) if $version eq '5';
	write_all($s, ($version eq '5'
		? socks5_request('0.0.0.0', 0, cmd => 2)
		: socks4_request('0.0.0.0', 0, cmd => 2))
		. (defined $opt{early} ? $opt{early} : ''));

	my (undef, $address) = read_reply($s, $version);
	return unless defined $address;

	sleep($opt{delay}) if $opt{delay};

	my $peer = peer_connect($address);

	return ($s, $peer, (read_reply($s, $version))[0]);
}

###############################################################################
