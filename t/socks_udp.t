#!/usr/bin/perl

# Tests for ngx_stream_socks_module: UDP ASSOCIATE.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Datagram;

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_ssl socket_ssl/)->plan(209);

my $d = $t->testdir();

make_cert($t, 'localhost');

port(8980, udp => 1);
port(8981, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format socks '$remote_port $status $tunnel_result $tunnel_reason '
                     '$socks_version $socks_command '
                     '$tunnel_bytes_received $tunnel_bytes_sent';
    log_format parts '$remote_port $tunnel_target $tunnel_host $tunnel_port '
                     '$tunnel_address';

    access_log %%TESTDIR%%/socks.log socks;
    access_log %%TESTDIR%%/parts.log parts;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    socks_udp on;

    server {
        listen 127.0.0.1:8080;
        listen [::1]:%%PORT_8080%%;
        socks;
        target_allow *:*;
        target_deny denied.example:* 127.0.0.9:* [::9]:*;
        target_allow_address 127.0.0.0/8 ::1;
        target_deny_address 127.0.0.8;
    }

    # addresses: default

    server {
        listen 127.0.0.1:8081;
        socks;
        target_allow *:*;
    }

    # all defaults

    server {
        listen 127.0.0.1:8082;
        socks;
    }

    # off

    server {
        listen 127.0.0.1:8083;
        socks;
        socks_udp off;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    # any address

    server {
        listen 127.0.0.1:8084;
        socks;
        target_allow *:*;
        target_allow_address all;
    }

    # local addresses

    server {
        listen 127.0.0.1:8085;
        socks;
        target_bind 127.0.0.2;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 ::1;
    }

    server {
        listen %%PORT_8086%%;
        listen [::]:%%PORT_8087%% ipv6only=off;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 ::1;
    }

    # TLS

    server {
        listen 127.0.0.1:8088 ssl;
        ssl_certificate localhost.crt;
        ssl_certificate_key localhost.key;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }
}

EOF

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => '127.0.0.1',
		'six.example' => '::1',
		'both.example' => [ '127.0.0.1', '::1' ],
		'denied.example' => '127.0.0.1',
		'private.example' => '10.1.2.3',
		'eight.example' => '127.0.0.8',
		'nine.example' => '127.0.0.9',
		'some.example' => [ '10.1.2.3', '127.0.0.1' ],
		'silent.example' => 'TIMEOUT',
		'broken.example' => 'SERVFAIL',
		'slow.example' => { A => [ '127.0.0.1' ], AAAA => [ ],
			delay => 0.7 },
		(map { ("slow$_.example" => { A => [ '127.0.0.1' ],
			AAAA => [ ], delay => 0.4 }) } 1 .. 40),
	});

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my ($pid) = workers($t);

# a first one, for what a worker keeps

my $first = udp_associate(port(8080));
my $somebody = udp_socket('127.0.0.1');
udp_echo($first, $somebody, 'hello',
	'name.example:' . udp_port($somebody));
udp_end($first);
wait_for(sub { tcp_count($pid) == 0 && !sockets($pid) });

my $fds = fd_count($pid);

reply_tests($t, $pid);
target_tests($t);
size_tests($t);
malformed_tests($t);
client_tests($pid);
stranger_tests($pid);
rule_tests($t);
default_tests($t);
name_tests($t, $pid);
error_tests();
address_tests();
end_tests($t, $pid);
tls_tests($t, $pid);

# nothing is left

ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');
ok(wait_for(sub { !sockets($pid) }), 'no UDP socket left open')
	or diag(join ' ', sockets($pid));
ok(wait_for(sub { fd_count($pid) <= $fds }), 'no descriptor left open')
	or diag(fd_count($pid) . " $fds");
is((workers($t))[0], $pid, 'worker is the same');

# the default

my $conf = $t->read_file('nginx.conf');
$t->write_file('nginx.conf', $conf =~ s/^ *socks_udp o.*$//mgr);
$t->reload();
new_worker($t, $pid);
refused($t, 8080);

###############################################################################

# The reply, and what is logged.

sub reply_tests {
	my ($t, $pid) = @_;

	my $target = udp_socket('127.0.0.1');

	my $u = udp_associate(port(8080));
	my $id = $u->{tcp}->sockport();
	is($u->{code}, 0, 'reply');
	like($u->{relay}, qr/^127\.0\.0\.1:[1-9]\d*$/, 'address');
	ok(scalar(grep { $_ eq $u->{relay} } udp_sockets($pid)),
		'a socket is there');

	is(udp_echo($u, $target, 'hello'), '', 'echo');
	is(udp_echo($u, $target, 'hello again'), '', 'echo again');

	# more answers, and more questions, than one

	udp_send($u, udp_address($target), "question $_") for 1 .. 5;
	my @got = map { [ udp_get($target) ] } 1 .. 5;
	is(join(',', sort map { $_->[0] || '' } @got),
		join(',', map { "question $_" } 1 .. 5), 'several questions');
	is(scalar(keys %{{ map { $_->[1] => 1 } @got }}), 1,
		'all from one port');
	udp_put($target, $got[0][1], "answer $_") for 1 .. 5;
	is(join(',', sort map { (udp_read($u))[0] || '' } 1 .. 5),
		join(',', map { "answer $_" } 1 .. 5), 'several answers');

	# bytes over TCP mean nothing

	write_all($u->{tcp}, 'bytes');
	is(udp_echo($u, $target, 'after bytes'), '', 'bytes over TCP');

	is(join('', read_n($u->{tcp}, 1, 0.2)), 'TIMEOUT',
		'nothing comes over TCP');

	close $u->{tcp};
	is(logged($t, $id), '200 ok client_closed 5 udp_associate 77 67',
		'logged');
	is(parts($t, $id), "- - - $u->{relay}", 'target and address');
	ok(wait_log($t, 'error.log', qr/\[info\].*\Q$u->{relay}\E.* ended: /
		. qr/client_closed, received: 77, sent: 67/),
		'end in the error log');

	# SOCKS4 has none of it

	my ($s, $code) = socks_command(port(8080), 4, 'udp', '127.0.0.1', 80);
	is($code, 91, 'SOCKS4');
	$id = $s->sockport();
	close $s;
	like(logged($t, $id), qr/^501 unsupported_command - 4 /,
		'SOCKS4, logged');

	refused($t, 8083);
}

# Several targets in one association, of all kinds.

sub target_tests {
	my ($t) = @_;

	my $one = udp_socket('127.0.0.1');
	my $two = udp_socket('127.0.0.2');
	my $six = udp_socket('::1');

	my $u = udp_associate(port(8080));
	is(udp_echo($u, $one, 'to one'), '', 'IPv4');
	is(udp_echo($u, $two, 'to two'), '', 'another target');
	is(udp_echo($u, $six, 'to six'), '', 'IPv6');

	my $p = udp_port($one);
	my $p6 = udp_port($six);

	is(udp_echo($u, $one, 'to a name', "name.example:$p"), '', 'name');
	is(udp_echo($u, $one, 'to a Name', "Name.Example.:$p"), '',
		'another spelling');
	is(udp_echo($u, $six, 'to a name', "six.example:$p6"), '',
		'name of IPv6');
	# all of them in any order

	my %sent;

	for my $n (1 .. 10) {
		for my $s ($one, $two, $six) {
			my $at = udp_address($s);
			udp_send($u, $at, "$n");
			push @{$sent{$at}}, $n;
		}
	}

	my %got;

	for my $s ($one, $two, $six) {
		for (1 .. 10) {
			my ($bytes, $from) = udp_get($s);
			last unless defined $from;
			udp_put($s, $from, $bytes);
		}
	}

	for (1 .. 30) {
		my ($bytes, $from) = udp_read($u);
		last unless defined $from;
		push @{$got{$from}}, $bytes;
	}

	@$_ = sort { $a <=> $b } @$_ for values %got;
	is_deeply(\%got, \%sent, 'answers of several targets');

	# two associations, and the same target

	my $v = udp_associate(port(8080));
	isnt($v->{relay}, $u->{relay}, 'two associations');

	udp_send($u, udp_address($one), 'a');
	my (undef, $from_a) = udp_get($one);
	udp_send($v, udp_address($one), 'b');
	my (undef, $from_b) = udp_get($one);
	isnt($from_a, $from_b, 'two sources');

	udp_put($one, $from_b, 'for b');
	is((udp_read($v))[0], 'for b', 'answer for one');
	udp_put($one, $from_a, 'for a');
	is((udp_read($u))[0], 'for a', 'answer for the other');
	ok(udp_none($v->{udp}, 0.1), 'and nothing else');

	# an association over IPv6

	my $c = udp_associate('[::1]:' . port(8080));
	like($c->{relay}, qr/^\[::1\]:[1-9]\d*$/, 'relay of IPv6');
	is(udp_echo($c, $six, 'six to six'), '', 'IPv6 over IPv6');
	is(udp_echo($c, $one, 'six to four'), '', 'IPv4 over IPv6');

	udp_end($_) for $u, $v, $c;
}

sub size_tests {
	my ($t) = @_;

	my $target = udp_socket('127.0.0.1');
	my $six = udp_socket('::1');

	my $u = udp_associate(port(8080));
	my $id = $u->{tcp}->sockport();

	my @sizes = (0, 1, 1472, 1473, 9000, 65000, 65497);
	my $sum = 0;

	for my $size (@sizes) {
		is(udp_echo($u, $target, pattern($size)), '', "$size bytes");
		$sum += $size;
	}

	is(udp_echo($u, $target, pattern(65488),
		'name.example:' . udp_port($target)), '', 'largest with a name')
		and $sum += 65488;

	udp_end($u);
	is(logged($t, $id), "200 ok client_closed 5 udp_associate $sum $sum",
		'sizes are counted');

	# an answer that has no room behind its header

	$u = udp_associate(port(8080));
	$id = $u->{tcp}->sockport();
	udp_send($u, udp_address($target), 'hello');
	my (undef, $from) = udp_get($target);
	udp_put($target, $from, pattern(65507));
	ok(udp_none($u->{udp}), 'answer that is too large');
	is(udp_echo($u, $target, 'small'), '', 'after one that is too large');
	udp_end($u);
	is(logged($t, $id), '200 ok client_closed 5 udp_associate 10 5',
		'what was not sent is not counted');

	my $c = udp_associate('[::1]:' . port(8080));
	is(udp_echo($c, $six, pattern($_)), '', "IPv6, $_ bytes")
		for 0, 1, 9000, 65000, 65505;
	udp_end($c);
}

# Datagrams that are none.

sub malformed_tests {
	my ($t) = @_;

	my $target = udp_socket('127.0.0.1');
	my $p = udp_port($target);

	my $u = udp_associate(port(8080));
	is(udp_echo($u, $target, 'hello'), '', 'before malformed datagrams');

	my $good = udp_header('127.0.0.1', $p);
	my $named = udp_header('name.example', $p);
	my $six = udp_header('::1', $p);

	my %datagrams = (
		(map { ("fragment $_" => udp_header('127.0.0.1', $p,
			frag => $_) . 'bad') } 1, 2, 127, 128, 129, 255),
		(map { ("address type $_" => udp_header('127.0.0.1', $p,
			atyp => $_) . 'bad') } 0, 2, 5, 255),
		(map { ("$_ bytes" => substr($good, 0, $_)) } 0 .. 9),
		(map { ("$_ bytes of a name" => substr($named, 0, $_)) }
			4, 5, 6, 16, 17, 18),
		(map { ("$_ bytes of IPv6" => substr($six, 0, $_)) }
			4, 5, 19, 20, 21),
		'IPv4 as IPv6' => udp_header('127.0.0.1', $p, atyp => 4),
		'port 0' => udp_header('127.0.0.1', 0) . 'bad',
		'port 0 of a name' => udp_header('name.example', 0) . 'bad',
		'empty name' => pack('n C2 C n', 0, 0, 3, 0, $p) . 'bad',
		'long name' => pack('n C2 C/a* n', 0, 0, 3, 'a' x 255, $p)
			. 'bad',
		'name with a zero' => pack('n C2 C/a* n', 0, 0, 3,
			"name.example\0.b", $p) . 'bad',
		'name with spaces' => pack('n C2 C/a* n', 0, 0, 3,
			"127.0.0.1 ", $p) . 'bad',
		'name with a port' => pack('n C2 C/a* n', 0, 0, 3,
			"127.0.0.1:$p", $p) . 'bad',
		'garbage' => pattern(3000),
	);

	udp_put($u->{udp}, $u->{relay}, $datagrams{$_})
		for sort keys %datagrams;

	ok(udp_none($target), 'nothing of them at the target');
	ok(udp_none($u->{udp}, 0.1), 'nothing for the client');
	is(udp_echo($u, $target, 'hello'), '', 'after malformed datagrams');

	# one after the other, in case one of many is just lost

	for my $name (sort keys %datagrams) {
		udp_put($u->{udp}, $u->{relay}, $datagrams{$name});
		my $error = udp_echo($u, $target, $name);
		is($error, '', "after a malformed datagram, $name");
	}

	# they do not count

	my $id = $u->{tcp}->sockport();
	my $n = 5 + 5;
	$n += length for keys %datagrams;
	udp_end($u);
	is(logged($t, $id), "200 ok client_closed 5 udp_associate $n $n",
		'they are not counted');

	ok(!(grep { /\[(?:error|crit|alert)\].*datagram/ }
		log_lines($t, 'error.log')), 'and no errors of nginx');
}

# Who is the client.

sub client_tests {
	my ($pid) = @_;

	my $target = udp_socket('127.0.0.1');
	my $at = udp_address($target);

	# the port of the first datagram

	my $u = udp_associate(port(8080));
	my $other = udp_socket('127.0.0.1');
	my $far = udp_socket('127.0.0.2');

	udp_send($u, $at, 'far', socket => $far);
	ok(udp_none($target), 'another address, before the client');

	udp_send($u, $at, 'fragment', socket => $other, frag => 1);
	udp_put($other, $u->{relay}, 'garbage');
	is(udp_echo($u, $target, 'hello'), '', 'invalid ones bind no port');

	udp_send($u, $at, 'other', socket => $other);
	ok(udp_none($target), 'another port');
	udp_send($u, $at, 'far', socket => $far);
	ok(udp_none($target, 0.1), 'another address');
	ok(udp_none($_, 0.1), 'nothing for others') for $other, $far;
	is(udp_echo($u, $target, 'hello'), '', 'after others');
	udp_end($u);

	# the port of the request

	$u = udp_associate(port(8080), host => '127.0.0.1', port => 'own');
	udp_send($u, $at, 'other', socket => $other);
	ok(udp_none($target), 'port of the request, another port');
	udp_send($u, $at, 'far', socket => $far);
	ok(udp_none($target, 0.1), 'port of the request, another address');
	is(udp_echo($u, $target, 'hello'), '', 'port of the request');
	udp_end($u);

	# the address of the request may be behind some NAT

	$u = udp_associate(port(8080), host => '10.1.2.3');
	is($u->{code}, 0, 'another address in the request');
	is(udp_echo($u, $target, 'hello'), '',
		'another address in the request, client');
	udp_end($u);

	# nobody else is the client because of a request

	$u = udp_associate(port(8080), host => '127.0.0.2',
		port => udp_port($far));
	udp_send($u, $at, 'far', socket => $far);
	ok(udp_none($target), 'a third one named in the request');
	udp_end($u);

	# same port, other address

	$u = udp_associate(port(8080), host => '127.0.0.1', port => 'own');
	my $twin = udp_socket('127.0.0.2:' . udp_port($u->{udp}));
	udp_send($u, $at, 'twin', socket => $twin);
	ok(udp_none($target), 'same port, another address');
	udp_end($u);

	# the client's socket comes from another address than its TCP

	$u = udp_associate(port(8080), from => '127.0.0.3');
	udp_send($u, $at, 'three');
	ok(udp_none($target), 'client of another address');
	udp_end($u);
}

# It is no open relay: who was not sent to can't send in.

sub stranger_tests {
	my ($pid) = @_;

	my $target = udp_socket('127.0.0.1');
	my $stranger = udp_socket('127.0.0.1');
	my $far = udp_socket('127.0.0.2');
	my $twin = udp_socket('127.0.0.2:' . udp_port($target));

	my $u = udp_associate(port(8080));
	udp_send($u, udp_address($target), 'hello');
	my (undef, $from) = udp_get($target);

	for my $case (
		[ $stranger, 'another port' ],
		[ $far, 'another address' ],
		[ $twin, 'another address, same port' ]
	) {
		my ($s, $name) = @$case;

		udp_put($s, $from, 'stranger');
		ok(udp_none($u->{udp}), "$name is no target");
		ok(udp_none($target, 0.1), "$name, nothing at the target");
	}

	# nor what a client writes, at either side

	my $header = udp_header('127.0.0.1', udp_port($target)) . 'forged';
	my $back = udp_header('127.0.0.1', udp_port($u->{udp})) . 'forged';

	for my $s ($stranger, $far) {
		for my $to (grep { /^127|^0/ } udp_sockets($pid)) {
			$to =~ s/^0\.0\.0\.0/127.0.0.1/;
			udp_put($s, $to, $_) for $header, $back;
		}
	}

	ok(udp_none($target), 'forged header, nothing at the target');
	ok(udp_none($u->{udp}, 0.1), 'forged header, nothing at the client');
	ok(udp_none($_, 0.1), 'forged header, no answer')
		for $stranger, $far;

	udp_put($target, $from, 'real');
	is((udp_read($u))[0], 'real', 'the target still can');

	# a target which becomes one

	is(udp_echo($u, $stranger, 'hello'), '', 'once it is sent to, it can');
	udp_put($far, $from, 'far');
	ok(udp_none($u->{udp}, 0.1), 'the other one can not');

	# a datagram that was denied or dropped makes no target

	my $nine = udp_socket('127.0.0.9');
	my $eight = udp_socket('127.0.0.8');
	udp_send($u, udp_address($_), 'denied') for $nine, $eight;
	udp_send($u, udp_address($far), 'fragment', frag => 1);
	udp_send($u, udp_address($far), 'not mine', socket => $stranger);
	is(udp_echo($u, $target, 'hello'), '', 'others are denied');
	udp_put($_, $from, 'denied') for $nine, $eight, $far;
	ok(udp_none($u->{udp}), 'who was denied can not');

	udp_end($u);

	# a target of another association is none of this one

	$u = udp_associate(port(8080));
	my $v = udp_associate(port(8080));
	is(udp_echo($u, $target, 'hello'), '', 'one association');
	udp_send($v, udp_address($far), 'hello');
	(undef, $from) = udp_get($far);
	udp_put($target, $from, 'wrong');
	ok(udp_none($v->{udp}), 'target of another association');
	udp_end($_) for $u, $v;
}

# Datagrams that are denied.

sub rule_tests {
	my ($t) = @_;

	my $target = udp_socket('127.0.0.1');
	my $eight = udp_socket('127.0.0.8');
	my $nine = udp_socket('127.0.0.9');
	my $p = udp_port($target);
	my $p8 = udp_port($eight);
	my $p9 = udp_port($nine);

	my $u = udp_associate(port(8080));

	udp_send($u, "denied.example:$p", 'denied') for 1 .. 3;
	udp_send($u, "Denied.Example.:$p", 'denied');
	ok(udp_none($target), 'name is denied');
	is(scalar dns_queries($t, 'dns.log', 'denied.example'), 0,
		'and not resolved');

	udp_send($u, "127.0.0.9:$p9", 'denied') for 1 .. 3;
	ok(udp_none($nine), 'address as a name is denied');

	udp_send($u, "127.0.0.8:$p8", 'denied');
	ok(udp_none($eight), 'address is denied');
	udp_send($u, "[::ffff:127.0.0.8]:$p8", 'denied');
	ok(udp_none($eight), 'mapped address is denied');
	udp_send($u, "eight.example:$p8", 'denied');
	ok(udp_none($eight), 'name of a denied address is denied');

	is(udp_echo($u, $target, 'hello'), '', 'others are not');

	# what a name may be sent does not hold for its address

	is(udp_echo($u, $nine, 'hello', "nine.example:$p9"), '',
		'name of an address that is denied as a name');
	udp_send($u, "127.0.0.9:$p9", 'denied');
	ok(udp_none($nine), 'that address is still denied');

	# one line of a severe level, whatever a client sends

	is(scalar(grep { /\[error\].*(?:example:$p|:$p8|:$p9)" is denied by/ }
		log_lines($t, 'error.log')), 1, 'one error of an association');

	# a name of which one address is allowed

	is(udp_echo($u, $target, 'hello', "some.example:$p"), '',
		'name with a denied and an allowed address');
	udp_end($u);

	# the next association has its own line

	$u = udp_associate(port(8080));
	udp_send($u, "denied.example:$p", 'denied');
	ok(wait_log($t, 'error.log', qr/\[error\].*"denied\.example:$p" /
		. qr/is denied by/, 2, 2), 'one line for each association');
	udp_end($u);
}

# Defaults deny.

sub default_tests {
	my ($t) = @_;

	my $target = udp_socket('127.0.0.1');
	my $six = udp_socket('::1');
	my $at = udp_address($target);

	# private and loopback addresses

	my $u = udp_associate(port(8081));
	my $id = $u->{tcp}->sockport();
	is($u->{code}, 0, 'default addresses, association');

	udp_send($u, $at, 'denied') for 1 .. 5;
	udp_send($u, udp_address($six), 'denied');
	udp_send($u, '[::ffff:127.0.0.1]:' . udp_port($target), 'denied');
	udp_send($u, 'name.example:' . udp_port($target), 'denied');
	udp_send($u, '0.0.0.0:' . udp_port($target), 'denied');
	udp_send($u, "$_:53", 'denied') for '10.1.2.3', '169.254.169.254',
		'255.255.255.255', '224.0.0.1', 'private.example';
	ok(udp_none($target, 0.7), 'default addresses, loopback');
	ok(udp_none($six, 0.1), 'default addresses, loopback of IPv6');

	is(scalar(grep { /\[error\].*"\Q$at\E" is denied by/ }
		log_lines($t, 'error.log')), 1,
		'default addresses, one line');
	udp_end($u);
	like(logged($t, $id), qr/^200 ok client_closed 5 udp_associate /,
		'default addresses, logged');

	# ports

	$u = udp_associate(port(8082));
	$id = $u->{tcp}->sockport();
	is($u->{code}, 0, 'all defaults, association');
	udp_send($u, $at, 'denied') for 1 .. 5;
	udp_send($u, '127.0.0.1:443', 'denied');
	ok(udp_none($target), 'all defaults');
	is(scalar(grep { /\[error\].*"\Q$at\E" is denied by/ }
		log_lines($t, 'error.log')), 2, 'all defaults, one line');
	udp_end($u);
	like(logged($t, $id), qr/^200 ok client_closed 5 udp_associate /,
		'all defaults, logged');
}

# Names that take their time, or have no address.

sub name_tests {
	my ($t, $pid) = @_;

	my $target = udp_socket('127.0.0.1');
	my $p = udp_port($target);
	my $u = udp_associate(port(8080));

	my $start = time();
	udp_send($u, "slow.example:$p", "slow $_") for 1 .. 3;
	udp_send($u, "silent.example:$p", 'silent');
	is(udp_echo($u, $target, 'quick'), '', 'a slow name holds no others');
	cmp_ok(time() - $start, '<', 0.6, 'a slow name holds no others long');

	my ($bytes) = udp_get($target, 3);
	is($bytes, 'slow 1', 'datagram to a slow name');
	udp_get($target, 0.1) for 1 .. 2;

	# bytes of the payload are those of its own datagram

	udp_send($u, "slow$_.example:$p", "to $_ " . pattern(1000, $_))
		for 1 .. 10;
	my %got = map { defined $_ ? ($_ => 1) : () }
		map { (udp_get($target))[0] } 1 .. 10;
	is(scalar(grep { $got{"to $_ " . pattern(1000, $_)} } 1 .. 10), 10,
		'payloads of several slow names');

	# no address

	udp_send($u, "$_:$p", 'nobody') for 'nothing.example',
		'broken.example', 'private.example', 'eight.example';
	is(udp_echo($u, $target, 'quick'), '', 'names without an address');
	ok(udp_none($target), 'names without an address, no target');

	# the end while names are resolved

	udp_send($u, "slow$_.example:$p", "gone $_") for 11 .. 30;
	is(udp_echo($u, $target, 'last'), '', 'many names');
	udp_end($u);
	ok(wait_for(sub { !grep { $_ eq $u->{relay} } sockets($pid) }, 2),
		'end while names are resolved');
	ok(udp_none($target, 0.8), 'nothing is sent after the end');
}

# Errors of the kernel.

sub error_tests {
	my $target = udp_socket('127.0.0.1');
	my $closed = udp_socket('127.0.0.1');
	my $nobody = udp_address($closed);
	close $closed;

	my $u = udp_associate(port(8084));
	is(udp_echo($u, $target, 'hello'), '', 'before errors');

	for my $to ($nobody, '255.255.255.255:9', '0.0.0.0:9',
		'[ff02::1]:9', '[2001:db8::1]:9', '[fe80::1]:9')
	{
		udp_send($u, $to, 'nobody') for 1 .. 3;
		sleep(0.05);
		is(udp_echo($u, $target, 'hello'), '', "after $to");
	}

	ok(udp_none($u->{udp}, 0.1), 'nothing for the client');

	# a client which does not listen any longer

	my $udp = $u->{udp};
	udp_send($u, udp_address($target), 'question');
	my (undef, $from) = udp_get($target);
	close $udp;
	udp_put($target, $from, "answer $_") for 1 .. 3;
	sleep(0.1);
	is(join('', read_n($u->{tcp}, 1, 0.2)), 'TIMEOUT',
		'client without a socket, the association is there');
	close $u->{tcp};
}

sub address_tests {
	my $target = udp_socket('127.0.0.1');
	my $six = udp_socket('::1');

	my $u = udp_associate(port(8085));
	like($u->{relay}, qr/^127\.0\.0\.1:/, 'target_bind, reply');
	udp_send($u, udp_address($target), 'hello');
	my ($bytes, $from) = udp_get($target);
	like($from || '', qr/^127\.0\.0\.2:/, 'target_bind');
	is(udp_echo($u, $target, 'hello'), '', 'target_bind, echo');

	# it has but one family

	udp_send($u, udp_address($six), 'hello');
	is(udp_echo($u, $target, 'hello'), '', 'target_bind, other family');
	ok(udp_none($six, 0.1), 'target_bind, other family is not sent to');
	udp_end($u);

	# by which the client came

	for my $case (
		[ 8086, '127.0.0.4', 'any address' ],
		[ 8087, '127.0.0.5', 'mapped address' ]
	) {
		my ($server, $host, $name) = @$case;

		my $u = udp_associate("$host:" . port($server));
		like($u->{relay}, qr/^\Q$host\E:[1-9]\d*$/, $name);
		is(udp_echo($u, $target, 'hello'), '', "$name, IPv4");
		is(udp_echo($u, $six, 'hello'), '', "$name, IPv6");
		udp_end($u);
	}
}

# Its end is that of the TCP connection.

sub end_tests {
	my ($t, $pid) = @_;

	my $target = udp_socket('127.0.0.1');
	my $six = udp_socket('::1');

	for my $how ('close', 'half close', 'reset', 'close behind bytes',
		'reset behind bytes')
	{
		my $u = udp_associate(port(8080));
		my $id = $u->{tcp}->sockport();

		udp_echo($u, $target, 'hello');
		udp_echo($u, $six, 'hello');
		write_all($u->{tcp}, 'bytes') if $how =~ /bytes/;

		$how =~ /reset/ ? reset_close($u->{tcp})
			: $how =~ /half/ ? half_close($u->{tcp})
			: close $u->{tcp};

		ok(wait_for(sub { !sockets($pid) }, 2),
			"$how, no socket left")
			or diag(join ' ', sockets($pid));
		is(logged($t, $id), '200 ok '
			. ($how =~ /reset/ ? 'client_reset' : 'client_closed')
			. ' 5 udp_associate 10 10', "$how, logged");

		udp_send($u, udp_address($target), 'late');
		ok(udp_none($target, 0.1), "$how, nothing is relayed");
	}

	# without any datagram

	my $u = udp_associate(port(8080));
	my $id = $u->{tcp}->sockport();
	close $u->{tcp};
	is(logged($t, $id), '200 ok client_closed 5 udp_associate 0 0',
		'no datagrams');

	# many at once

	my @many = map { udp_associate(port(8080)) } 1 .. 30;
	is(scalar(grep { udp_echo($_, $target, 'many') eq '' } @many), 30,
		'many associations');
	udp_end($_) for @many;
	ok(wait_for(sub { !sockets($pid) }, 2), 'many associations end');
}

sub tls_tests {
	my ($t, $pid) = @_;

	my $target = udp_socket('127.0.0.1');

	my $u = udp_associate(port(8088), ssl => 1);
	my $id = $u->{tcp}->sockport();
	is($u->{code}, 0, 'TLS');
	is(udp_echo($u, $target, 'hello'), '', 'TLS, echo');
	write_all($u->{tcp}, 'bytes');
	is(udp_echo($u, $target, 'hello'), '', 'TLS, bytes over TCP');
	$u->{tcp}->close();
	ok(wait_for(sub { !sockets($pid) }, 2), 'TLS, no socket left');
	is(logged($t, $id), '200 ok client_closed 5 udp_associate 10 10',
		'TLS, logged');

	$u = udp_associate(port(8088), ssl => 1);
	reset_close($u->{tcp});
	ok(wait_for(sub { !sockets($pid) }, 2), 'TLS, reset');
}

###############################################################################

sub refused {
	my ($t, $server) = @_;

	my ($s, @reply) = socks_command(port($server), 5, 'udp', '0.0.0.0', 0);
	my $id = $s->sockport();

	is(join(' ', @reply), '7 0.0.0.0:0', 'off');
	is(join('', read_all($s)), 'EOF', 'off, closed');
	close $s;
	like(logged($t, $id), qr/^501 unsupported_command - 5 udp_associate /,
		'off, logged');
}

# All but the resolver's.

sub sockets {
	my ($pid) = @_;

	return udp_sockets($pid, port(8980));
}

sub logged {
	my ($t, $id) = @_;

	return (wait_log($t, 'socks.log', qr/^$id /) || '') =~ s/^\S+ //r;
}

sub parts {
	my ($t, $id) = @_;

	return (wait_log($t, 'parts.log', qr/^$id /) || '') =~ s/^\S+ //r;
}

###############################################################################
