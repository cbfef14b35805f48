#!/usr/bin/perl

# Tests for ngx_stream_socks_module: SOCKS5 without authentication.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream/);

my $d = $t->testdir();
my $log = socks_log();

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    $log

    log_format more '\$remote_port:\$server_port '
                    '\$tunnel_host \$tunnel_port '
                    '\$tunnel_address \$tunnel_resolve_time '
                    '\$tunnel_connect_time \$tunnel_first_byte_time '
                    '\$tunnel_time \$bytes_received \$bytes_sent';
    access_log %%TESTDIR%%/more.log more;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    server {
        listen 127.0.0.1:8080;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 ::1;
        target_deny denied.example:*;
    }

    server {
        listen 127.0.0.1:8081;
        socks 5;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    # as it is by default

    server {
        listen 127.0.0.1:8082;
        socks;
    }

    server {
        listen 127.0.0.1:%%PORT_8981_UDP%% udp;
        socks;
    }
}

EOF

my $p = port(8091);
my $peer = port(8092);
my $half = port(8093);
my $gone = port(8099);	# nobody is there

start_daemon($t, \&echo_daemon, $p);
start_daemon($t, \&echo_daemon, "[::1]:$p");
start_daemon($t, \&peer_daemon, $peer);
start_daemon($t, \&half_close_daemon, $half);
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => [ '127.0.0.1' ],
		'late.example' => { A => [ '127.0.0.1' ], delay => 0.3 },
		'private.example' => [ '10.0.0.1' ],
		'silent.example' => 'TIMEOUT',
	});

$t->waitforfile("$d/dns.log");
$t->run();

my $proxy = port(8080);
my $none = '0500';
my ($pid) = workers($t);

# methods: what is sent, and the reply

my @methods = (
	[ 'none and a password', [ 0, 2 ], '0500' ],
	[ 'a password and none', [ 2, 0 ], '0500' ],
	[ 'none among many', [ 1, 3, 0x80, 0xfe, 0 ], '0500' ],
	[ '255 methods', [ 1 .. 254, 0 ], '0500' ],
	[ '255 times none', [ (0) x 255 ], '0500' ],
	[ 'a password', [ 2 ], '05ff' ],
	[ 'GSSAPI', [ 1 ], '05ff' ],
	[ 'other methods', [ 1, 2, 3, 0x80, 0xff ], '05ff' ],
	[ '255 other methods', [ 1 .. 255 ], '05ff' ],
);

# requests that are refused: bytes, code, log

my $labels = join '.', ('a' x 63) x 3, 'a' x 61;
my $v4 = "\x01\x7f\0\0\1" . pack('n', $p);

my @refused = (
	[ 'nobody there', 5, socks5_request('127.0.0.1', $gone),
		"502 refused - 5 connect \"-\" 127.0.0.1:$gone" ],
	[ 'denied name', 2, socks5_request('denied.example', 80),
		'403 denied_name - 5 connect "-" denied.example:80' ],
	[ 'denied address', 2, socks5_request('10.0.0.1', 80),
		'403 denied_address - 5 connect "-" 10.0.0.1:80' ],
	[ 'unspecified address', 2, socks5_request('0.0.0.0', 80),
		'403 denied_address - 5 connect "-" 0.0.0.0:80' ],
	[ 'denied IPv6 address', 2, socks5_request('fd00::1', 80),
		'403 denied_address - 5 connect "-" \[fd00::1\]:80' ],
	[ 'unspecified IPv6 address', 2, socks5_request('::', 80),
		'403 denied_address - 5 connect "-" \[::\]:80' ],
	[ 'unknown name', 4, socks5_request('none.example', 80),
		'502 resolve_failed - 5 connect "-" none.example:80' ],
	[ 'name of 253 bytes', 4, socks5_request($labels, 80),
		"502 resolve_failed - 5 connect \"-\" $labels:80" ],

	(map { [ "command $_", 7, pack('C3', 5, $_, 0) . $v4,
		'501 unsupported_command - 5 \S+ "-" \S+' ] }
		0, 2, 3, 4, 0x80, 255),
	[ 'BIND to a name', 7, socks5_request('name.example', 80, cmd => 2),
		'501 unsupported_command - 5 bind "-" \S+' ],
	[ 'UDP ASSOCIATE of an IPv6 address', 7,
		socks5_request('::', 0, cmd => 3),
		'501 unsupported_command - 5 udp_associate "-" \S+' ],

	(map { [ "address type $_", 8, pack('C4', 5, 1, 0, $_)
		. "\x7f\0\0\1" . pack('n', $p),
		'501 unsupported_address - 5 connect "-" -' ] }
		0, 2, 5, 0x80, 255),

	[ 'port 0', 1, socks5_request('127.0.0.1', 0),
		'400 bad_request - 5 connect "-" \S+' ],
	[ 'port 0 of a name', 1, socks5_request('name.example', 0),
		'400 bad_request - 5 connect "-" \S+' ],
	[ 'port 0 of an IPv6 address', 1, socks5_request('::1', 0),
		'400 bad_request - 5 connect "-" \S+' ],
	(map { [ "name \"$_->[0]\"", 1,
		socks5_request($_->[1], 80, atyp => 'name'),
		'400 bad_request - 5 connect "-" -' ] }
		[ '', '' ],
		[ 'a b', 'a b' ],
		[ 'a:80', 'a:80' ],
		[ 'a/b', 'a/b' ],
		[ 'user@host', 'user@host' ],
		[ '[::1', '[::1' ],
		[ '[127.0.0.1]', '[127.0.0.1]' ],
		[ '127.1', '127.1' ],
		[ '0x7f000001', '0x7f000001' ],
		[ '256.0.0.1', '256.0.0.1' ],
		[ '\\0', "name.example\0" ],
		[ '\\0 within', "name\0.example" ],
		[ '\\n', "a\n.example" ],
		[ '\\x80', "a\x80.example" ],
		[ '.', '.' ],
		[ '255 bytes', 'a' x 255 ],
		[ '255 bytes with dots', "$labels.a" ]),
);

$t->plan(2 * @methods + 2 * @refused + 73);

###############################################################################

# methods

for my $case (@methods) {
	my ($name, $methods, $reply) = @$case;
	my $bytes = socks5_greeting(@$methods);

	if ($reply eq '05ff') {
		socks_answer($t, $proxy, $bytes, $reply,
			'407 auth_failed - 5 - "-" - - -$', $name);

	} else {
		my $s = socks_client($t, $proxy);

		write_all($s, $bytes);
		is(unpack('H*', read_n($s, 2)), $reply, $name);

		write_all($s, socks5_request('127.0.0.1', $p) . 'hello');
		read_n($s, 10);
		is(read_n($s, 5), 'hello', "$name, tunnel");
		close $s;
	}
}

socks_answer($t, $proxy, "\x05\x00", '05ff',
	'407 auth_failed - 5 - "-" - - -$', 'no methods');

# addresses

my ($s, $code, $host, $port) = socks_open($t, '5', $proxy, '127.0.0.1', $peer);
is($code, 0, 'IPv4');
is($host, '127.0.0.1', 'the reply has an IPv4 address');
is(read_n($s, length "$host $port\n"), "$host $port\n",
	'which is our end of the connection');
is(echo($s, 'hello'), 'hello', 'both ways');
half_close($s);
is((read_all($s))[1], 'EOF', 'end');
my $sent = 5 + length "$host $port\n";
like(socks_logged($t, $s),
	qr/^200 ok completed 5 connect "-" 127\.0\.0\.1:$peer 5 $sent$/,
	'logged');
like(more($t, $s),
	qr/^127\.0\.0\.1 $peer 127\.0\.0\.1:$peer -(?: 0\.\d{3}){3} /,
	'more variables');

like(socks_good($t, '5', $proxy, 'name.example', $p, 'a name'),
	qr/^200 ok completed 5 connect "-" name\.example:$p 5 5$/,
	'a name, logged');
like(socks_good($t, '5', $proxy, 'NAME.Example.', $p, 'a name in any case'),
	qr/^200 ok completed 5 connect "-" name\.example:$p 5 5$/,
	'a name in any case, logged');
like(socks_good($t, '5', $proxy, '::1', $p, 'IPv6'),
	qr/^200 ok completed 5 connect "-" \[::1\]:$p 5 5$/, 'IPv6, logged');
like(socks_good($t, '5', $proxy, '::ffff:127.0.0.1', $p, 'IPv4-mapped'),
	qr/^200 ok completed 5 connect "-" \S+:$p 5 5$/,
	'IPv4-mapped, logged');

for my $name ('127.0.0.1', '::1', '[::1]') {
	my $target = $name =~ /:/ ? '[::1]' : $name;

	like(socks_good($t, '5', $proxy, $name, $p, "$name as a name",
		atyp => 'name'),
		qr/^200 ok completed 5 connect "-" \Q$target\E:$p 5 5$/,
		"$name as a name, logged");
}

($s, $code) = socks_open($t, '5', $proxy, 'late.example', $p);
half_close($s);
read_all($s);
like(more($t, $s),
	qr/^late\.example $p \S+:$p 0\.[3-9]\d\d 0\.\d{3} - 0\.\d{3} /,
	'times of a name');

# what there is to write, and where it stands

$s = socks_client($t, $proxy);
write_all($s, socks5_greeting() . pack('C3', 5, 1, 0xff) . $v4);
is(unpack('H*', read_n($s, 4)), '05000500', 'reserved byte is ignored');
close $s;

socks_answer($t, $proxy, socks5_greeting() . pack('C3', 4, 1, 0) . $v4,
	$none . socks5_hex(1), '(?:400 bad_request|505 bad_version) - 5 ',
	'a request of another version');

for my $case (@refused) {
	my ($name, $code, $bytes, $line) = @$case;

	socks_answer($t, $proxy, socks5_greeting() . $bytes,
		$none . socks5_hex($code),
		$line . ' - -$', $name);
}

# version 5 alone, and defaults

like(socks_good($t, '5', port(8081), '127.0.0.1', $p, 'socks 5'),
	qr/^200 ok /, 'socks 5, logged');

socks_answer($t, port(8082), socks_request('5', '127.0.0.1', $p),
	$none . socks5_hex(2), "403 denied_name - 5 connect \"-\" 127.0.0.1:$p",
	'a port that is denied by default');
socks_answer($t, port(8082), socks_request('5', '127.0.0.1', 443),
	$none . socks5_hex(2), '403 denied_address - 5 connect ',
	'an address that is denied by default');
socks_answer($t, port(8082), socks_request('5', '::ffff:127.0.0.1', 443),
	$none . socks5_hex(2), '403 denied_address - 5 connect ',
	'an address that is denied by default, IPv4-mapped');


# early bytes and ends

($s) = socks_open($t, '5', $proxy, '127.0.0.1', $p, early => 'early');
is(read_n($s, 5), 'early', 'early bytes');
is(echo($s, 'late'), 'late', 'bytes behind them');
close $s;

my $bytes = pattern(200000);
($s) = socks_open($t, '5', $proxy, 'late.example', $p, early => $bytes);
ok(read_n($s, length $bytes) eq $bytes, 'many early bytes');
close $s;

$s = socks_client($t, $proxy);
write_all($s, socks_request('5', 'late.example', $half) . 'early');
half_close($s);
is(unpack('H*', read_n($s, 5)), '0500050000', 'a client that has ended');
read_n($s, 7);
is(join(' ', read_all($s)), summary('early') . ' EOF',
	'its end comes to the target');
like(socks_logged($t, $s), qr/^200 ok completed 5 connect "-" late\.example:/,
	'and is logged');

$s = socks_client($t, $proxy);
write_all($s, socks_request('5', '127.0.0.1', $half));
half_close($s);
read_n($s, 12);
is(join(' ', read_all($s)), summary('') . ' EOF',
	'a client that ends without a byte');

($s) = socks_open($t, '5', $proxy, '127.0.0.1', $half);
write_all($s, pattern(300000));
half_close($s);
is(join(' ', read_all($s)), summary(pattern(300000)) . ' EOF', 'half close');
like(socks_logged($t, $s), qr/ 300000 \d+$/, 'half close, logged');

# clients that leave

my $request = socks_request('5', 'name.example', $p);

for my $n (0 .. 3, 4, 6, 7, 8, 15, length($request) - 1) {
	my $read = $n < 3 ? '' : '0500 ';

	$s = socks_client($t, $proxy);
	write_all($s, substr($request, 0, $n));
	half_close($s);
	is(ends($s), $read . 'EOF', "a client that leaves after $n bytes");
	like(socks_logged($t, $s), qr/^499 - - /,
		"a client that leaves after $n bytes, logged");
}

for my $n (1, 3, 8) {
	$s = socks_client($t, $proxy);
	write_all($s, substr($request, 0, $n));
	wait_for(sub { tcp_count($pid) > 0 });
	read_n($s, 2) if $n > 3;
	reset_close($s);
	like(socks_logged($t, $s), qr/^499 - - /,
		"a client that resets after $n bytes");
}

$s = socks_client($t, $proxy);
write_all($s, socks_request('5', 'silent.example', $p));
wait_log($t, 'dns.log', qr/^silent\.example/);
reset_close($s);
like(socks_logged($t, $s),
	qr/^499 - - 5 connect "-" silent\.example:$p - -$/,
	'a client that resets while its target is looked for');

# a datagram

my $udp = IO::Socket::IP->new(Proto => 'udp', PeerHost => '127.0.0.1',
	PeerPort => port(8981, udp => 1));
$udp->send($request);
ok(wait_log($t, 'error.log', qr/\[(?:error|info)\].*needs TCP/), 'no SOCKS over UDP');

is(scalar(socks_good($t, '5', $proxy, '127.0.0.1', $p, 'goes on') =~ /^200 /),
	1, 'goes on, logged');
is((workers($t))[0], $pid, 'worker is the same');
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');

###############################################################################

sub more {
	my ($t, $s) = @_;

	my $id = ${*$s}{socks_id};

	return (wait_log($t, 'more.log', qr/^$id /) || '') =~ s/^\S+ //r;
}

###############################################################################
