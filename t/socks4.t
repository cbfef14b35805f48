#!/usr/bin/perl

# Tests for ngx_stream_socks_module: SOCKS4 and SOCKS4a.

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

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;
    target_deny denied.example:*;

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks 4;
    }

    server {
        listen 127.0.0.1:8082;
        socks 4a;
    }

    server {
        listen 127.0.0.1:8083;
        socks 5;
    }

    server {
        listen 127.0.0.1:8084;
        socks 4 4a;
    }
}

EOF

my $p = port(8091);
my $peer = port(8092);
my $gone = port(8099);	# nobody is there

start_daemon($t, \&echo_daemon, $p);
start_daemon($t, \&echo_daemon, "[::1]:$p");
start_daemon($t, \&peer_daemon, $peer);
start_daemon($t, \&half_close_daemon, port(8093));
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => [ '127.0.0.1' ],
		'six.example' => [ '::1' ],
		'private.example' => [ '10.0.0.1' ],
		'silent.example' => 'TIMEOUT',
		'localhost' => [ '127.0.0.1' ],
	});

$t->waitforfile("$d/dns.log");
$t->run();

my $proxy = port(8080);
my $refused = socks4_hex(91);
my ($pid) = workers($t);

# cases: what is sent, and what is logged

my $labels = join '.', ('a' x 63) x 3, 'a' x 61;

my @refused = (
	[ 'nobody there', socks4_request('127.0.0.1', $gone),
		"502 refused - 4 connect \"-\" 127.0.0.1:$gone - -" ],
	[ 'denied address', socks4_request('10.0.0.1', 80),
		'403 denied_address - 4 connect "-" 10.0.0.1:80 - -' ],
	[ 'the address 0.0.0.0', socks4_request('0.0.0.0', 80, user => 'name'),
		'403 denied_address - 4 connect "name" 0.0.0.0:80 - -' ],
	[ 'nobody there, 4a', socks4a_request('name.example', $gone),
		"502 refused - 4a connect \"-\" name.example:$gone - -" ],
	[ 'denied name', socks4a_request('denied.example', 80),
		'403 denied_name - 4a connect "-" denied.example:80 - -' ],
	[ 'name of a denied address', socks4a_request('private.example', 80),
		'403 denied_address - 4a connect "-" private.example:80 - -' ],
	[ 'unknown name', socks4a_request('none.example', 80),
		'502 resolve_failed - 4a connect "-" none.example:80 - -' ],
	[ 'name of 253 bytes', socks4a_request($labels, 80),
		"502 resolve_failed - 4a connect \"-\" $labels:80 - -" ],
	[ 'denied address as text', socks4a_request('10.0.0.1', 80),
		'403 denied_address - 4a connect "-" 10.0.0.1:80 - -' ],

	# no command

	(map { [ "command $_", pack('C2 n a4 x', 4, $_, 80, "\x7f\0\0\1"),
		'501 unsupported_command - 4 \S+ "-" \S+ - -' ]
	} 0, 2, 3, 4, 255),
	[ 'command 2 of 4a', socks4a_request('name.example', 80, cmd => 2),
		'501 unsupported_command - 4a bind "-" \S+ - -' ],

	# no target

	[ 'port 0', socks4_request('127.0.0.1', 0),
		'400 bad_request - 4 connect "-" \S+ - -' ],
	[ 'port 0 of 4a', socks4a_request('name.example', 0),
		'400 bad_request - 4a connect "-" \S+ - -' ],
	(map { [ "host \"$_->[0]\"", socks4a_request($_->[1], 80),
		'400 bad_request - 4a connect "-" - - -' ] }
		[ '', '' ],
		[ 'a b', 'a b' ],
		[ 'a:80', 'a:80' ],
		[ 'a/b', 'a/b' ],
		[ 'user@host', 'user@host' ],
		[ '[::1', '[::1' ],
		[ '[zz]', '[zz]' ],
		[ '127.1', '127.1' ],
		[ '0x7f000001', '0x7f000001' ],
		[ '256.0.0.1', '256.0.0.1' ],
		[ '\\n', "a\n.example" ],
		[ '\\x80', "a\x80.example" ],
		[ '255 bytes', 'a' x 255 ],
		[ '255 bytes with dots', "$labels.a" ]),

	# no end: refused when that is known

	[ 'user of 256 bytes', pack('C2 n a4 a256', 4, 1, 80, "\x7f\0\0\1",
		'u' x 256), '400 bad_request - 4 \S+ "\S*" - - -' ],
	[ 'user of 256 bytes, 4a', pack('C2 n a4 a256', 4, 1, 80, "\0\0\0\1",
		'u' x 256), '400 bad_request - (?:4|4a|-) \S+ "\S*" - - -' ],
	[ 'host of 256 bytes', pack('C2 n a4 x a256', 4, 1, 80, "\0\0\0\1",
		'h' x 256), '400 bad_request - 4a \S+ "-" - - -' ],
);

# versions: server, what is asked, what it is called

my $wrong = '505 bad_version - \S+ \S+ "[^"]*" \S+ - -';

my @versions = (
	[ 8081, socks_request('4a', 'name.example', $p), $refused, '4 only, 4a' ],
	[ 8082, socks_request('4', '127.0.0.1', $p), $refused, '4a only, 4' ],
	[ 8083, socks_request('4', '127.0.0.1', $p), $refused, '5 only, 4' ],
	[ 8083, socks_request('4a', 'name.example', $p), $refused, '5 only, 4a' ],
	(map { [ $_, socks_request('5', '127.0.0.1', $p), '05ff',
		"no 5, server $_" ] } 8081, 8082, 8084),
);

$t->plan(26 + 2 * @refused + 2 * @versions + 3 * 4 + 18);

###############################################################################

# addresses

my ($s, $code, $host, $port) = socks_open($t, '4', $proxy, '127.0.0.1', $peer);
is($code, 90, 'SOCKS4');
is(read_n($s, length "$host $port\n"), "$host $port\n",
	'the reply has our end of the connection');
is($host, '127.0.0.1', 'an address of IPv4');
is(echo($s, 'hello'), 'hello', 'both ways');
half_close($s);
is((read_all($s))[1], 'EOF', 'end');
my $sent = 5 + length "$host $port\n";
is(socks_logged($t, $s), qq/200 ok completed 4 connect "-" 127.0.0.1:$peer 5 /
	. $sent, 'logged');

is(socks_good($t, '4', $proxy, '127.0.0.1', $p, 'a user', user => 'me'),
	qq/200 ok completed 4 connect "me" 127.0.0.1:$p 5 5/, 'a user, logged');

my $long = 'u' x 255;
is(socks_good($t, '4', $proxy, '127.0.0.1', $p, 'a long user', user => $long),
	qq/200 ok completed 4 connect "$long" 127.0.0.1:$p 5 5/,
	'a long user, logged');
is(socks_good($t, '4', $proxy, '127.0.0.1', $p, 'any bytes in a user',
	user => "\x01 \"\\\xff\n"), '200 ok completed 4 connect '
	. '"\x01 \x22\x5C\xFF\x0A" ' . "127.0.0.1:$p 5 5",
	'any bytes in a user, logged');

# names

($s, $code, $host, $port) = socks_open($t, '4a', $proxy, 'name.example', $peer);
is($code, 90, 'SOCKS4a');
is(read_n($s, length "$host $port\n"), "$host $port\n",
	'the reply to a name has our end of the connection');
half_close($s);
read_all($s);

is(socks_good($t, '4a', $proxy, 'name.example', $p, 'a name', user => 'me'),
	qq/200 ok completed 4a connect "me" name.example:$p 5 5/,
	'a name, logged');
is(socks_good($t, '4a', $proxy, 'Name.Example.', $p, 'a name in any case'),
	qq/200 ok completed 4a connect "-" name.example:$p 5 5/,
	'a name in any case, logged');
is(socks_good($t, '4a', $proxy, '127.0.0.1', $p, 'an address as a name'),
	qq/200 ok completed 4a connect "-" 127.0.0.1:$p 5 5/,
	'an address as a name, logged');

for my $name ('::1', '[::1]') {
	is(socks_good($t, '4a', $proxy, $name, $p, "$name as a name"),
		qq/200 ok completed 4a connect "-" [::1]:$p 5 5/,
		"$name as a name, logged");
}

($s, $code, $host, $port) = socks_open($t, '4a', $proxy, 'six.example', $p);
is($code, 90, 'a name of an IPv6 address');
is($host, '0.0.0.0', 'which is not in the reply');
like($port, qr/^[1-9]\d*$/, 'but the port is');
close $s;

# any 0.0.0.x but 0.0.0.0

for my $last (1, 2, 255) {
	my $request = socks4_request("0.0.0.$last", $p) . "name.example\0";

	$s = socks_client($t, $proxy);
	write_all($s, $request);
	is(read_n($s, 2), "\0\x5a", "0.0.0.$last is followed by a name");
	close $s;
}

###############################################################################

# refusals

for my $case (@refused) {
	my ($name, $bytes, $line) = @$case;

	socks_answer($t, $proxy, $bytes, $refused, $line, $name);
}

for my $case (@versions) {
	my ($server, $bytes, $reply, $name) = @$case;

	socks_answer($t, port($server), $bytes, $reply, $wrong, $name);
}

for my $case ([ '4', 8081 ], [ '4a', 8082 ], [ '4', 8084 ], [ '4a', 8084 ]) {
	my ($version, $server) = @$case;

	my $line = socks_good($t, $version, port($server), '127.0.0.1', $p,
		"SOCKS$version alone, $server")
		if $version eq '4';
	$line = socks_good($t, $version, port($server), 'name.example', $p,
		"SOCKS$version alone, $server")
		if $version eq '4a';

	like($line, qr/^200 ok completed $version connect /,
		"SOCKS$version alone, $server, logged");
}

# early bytes and ends

($s) = socks_open($t, '4', $proxy, '127.0.0.1', $p, early => 'early');
is(echo($s, 'late'), 'earl', 'early bytes');
is(read_n($s, 5), 'ylate', 'early bytes and others');
close $s;

$s = socks_client($t, $proxy);
write_all($s, socks_request('4a', 'name.example', port(8093)) . 'early');
half_close($s);
is(read_n($s, 2), "\0\x5a", 'a client that has ended');
read_n($s, 6);
is(read_all($s), summary('early'), 'its end comes to the target');
is(socks_logged($t, $s), '200 ok completed 4a connect "-" name.example:'
	. port(8093) . ' 5 ' . length summary('early'), 'and is logged');

# clients that leave

my $request = socks_request('4a', 'name.example', $p, user => 'me');

for my $n (0, 1, 2, 4, 8, 9, 10, 12) {
	$s = socks_client($t, $proxy);
	write_all($s, substr($request, 0, $n));
	half_close($s);
	is(ends($s) . ' ' . (socks_logged($t, $s) =~ s/^(\S+ \S+) .*/$1/r),
		'EOF 499 -', "a client that leaves after $n bytes");
}

for my $n (1, 9) {
	$s = socks_client($t, $proxy);
	write_all($s, substr($request, 0, $n));
	wait_for(sub { tcp_count($pid) > 0 });
	reset_close($s);
	like(socks_logged($t, $s), qr/^499 - - /,
		"a client that resets after $n bytes");
}

$s = socks_client($t, $proxy);
write_all($s, socks_request('4a', 'silent.example', $p));
wait_log($t, 'dns.log', qr/^silent\.example/);
reset_close($s);
like(socks_logged($t, $s), qr/^499 - - 4a connect "-" silent\.example:$p - -$/,
	'a client that resets while its target is looked for');

is((workers($t))[0], $pid, 'worker is the same');
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');

###############################################################################
