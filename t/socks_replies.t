#!/usr/bin/perl

# Tests for ngx_stream_socks_module: the replies to each result, and the
# addresses in them.

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
use Test::Nginx::Namespace qw/ net /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_map/);

my $d = $t->testdir();
my $log = socks_log();

# 192.0.2.0/24 has no route at all

ip('route add unreachable 203.0.113.0/24');
ip('route add prohibit 198.51.100.0/24');
ip('addr add 2001:db8::1/128 dev lo nodad');
ip('addr add 10.0.0.1/32 dev lo');

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
    target_resolve_timeout 700ms;
    target_connect_timeout 700ms;

    target_allow *:*;
    target_allow_address all;
    target_deny denied.example:* 10.0.0.1:443 [fd00::1]:*;
    target_deny_address 10.0.0.1 fd00::/8;

    relay_quota_zone \$socks_version zone=small:1m limit=5 per=1d;
    relay_quota_zone \$socks_user zone=full:32k limit=1g per=1d;

    map \$socks_user \$rate {
        wrong    x;
        default  off;
    }

    server {
        listen 127.0.0.1:8080;
        listen [::1]:%%PORT_8080%%;
        socks;
        relay_max_rate \$rate;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        target_prefer ipv4;
    }

    server {
        listen 127.0.0.1:8082;
        socks;
        target_prefer ipv6;
    }

    server {
        listen 127.0.0.1:8083;
        socks;
        target_bind 127.0.0.2;
    }

    server {
        listen 127.0.0.1:8084;
        socks;
        relay_quota small;
    }

    server {
        listen 127.0.0.1:8085;
        socks;
        relay_quota full;
    }

    server {
        listen 127.0.0.1:8086;
        socks;
        target_dry_run on;
    }

    # without rules

    server {
        listen 127.0.0.1:8087;
        socks;
        target_allow *:*;
        target_allow_address 192.0.2.255;
        target_deny_address 192.0.2.254;
    }
}

EOF

my $p = port(8091);
my $peer = port(8092);
my $gone = port(8099);	# nobody is there
my $stuck = port(8095);

for my $addr ('127.0.0.1', '[::1]') {
	start_daemon($t, \&echo_daemon, "$addr:$p");
	start_daemon($t, \&peer_daemon, "$addr:$peer");
}

start_daemon($t, \&peer_daemon, "[2001:db8::1]:$peer");

my $full = full_backlog($stuck);

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => [ '127.0.0.1' ],
		'six.example' => [ '::1' ],
		'both.example' => [ '127.0.0.1', '::1' ],
		'lost.example' => [ '192.0.2.1' ],
		'far.example' => [ '203.0.113.1' ],
		'some.example' => [ '192.0.2.1', '127.0.0.1' ],
		'private.example' => [ '10.0.0.1' ],
		'private6.example' => [ 'fd00::1' ],
		'mixed.example' => [ '10.0.0.1', '127.0.0.1' ],
		'fail.example' => 'SERVFAIL',
		'refuse.example' => 'REFUSED',
		'empty.example' => { A => [], AAAA => [] },
		'silent.example' => 'TIMEOUT',
		'loop.example' => { CNAME => 'loop.example' },
	});

$t->waitforfile("$d/dns.log");
$t->run();

my $proxy = port(8080);
my ($pid) = workers($t);

# name, host, port, code of SOCKS5, what is logged, options

my @refused = (
	[ 'denied name', 'denied.example', 80, 2, '403 denied_name' ],
	[ 'denied address by name', '10.0.0.1', 443, 2, '403 denied_name' ],
	[ 'denied IPv6 address by name', 'fd00::1', 443, 2,
		'403 denied_name' ],
	[ 'denied address', '10.0.0.1', 80, 2, '403 denied_address' ],
	[ 'denied address, IPv4-mapped', '::ffff:10.0.0.1', 80, 2,
		'403 denied_address' ],
	[ 'denied IPv6 address', 'fd00::2', 80, 2, '403 denied_address' ],
	[ 'name of a denied address', 'private.example', $p, 2,
		'403 denied_address' ],
	[ 'name of a denied IPv6 address', 'private6.example', $p, 2,
		'403 denied_address' ],
	[ 'denied by default', '127.0.0.1', $p, 2, '403 denied_address',
		server => 8087 ],
	[ 'denied by default, IPv6', '::1', $p, 2, '403 denied_address',
		server => 8087 ],
	[ 'denied by default, by name', 'both.example', $p, 2,
		'403 denied_address', server => 8087 ],
	[ 'nobody there', '127.0.0.1', $gone, 5, '502 refused' ],
	[ 'nobody there, IPv6', '::1', $gone, 5, '502 refused' ],
	[ 'nobody there, by name', 'both.example', $gone, 5, '502 refused' ],
	[ 'no route', '192.0.2.1', $p, 3, '502 unreachable' ],
	[ 'no route, IPv6', '2001:db8:1::1', $p, 3, '502 unreachable' ],
	[ 'no route, by name', 'lost.example', $p, 3, '502 unreachable' ],
	[ 'unreachable', '203.0.113.1', $p, 4, '502 unreachable' ],
	[ 'unreachable, by name', 'far.example', $p, 4, '502 unreachable' ],
	[ 'prohibited', '198.51.100.1', $p, 4, '502 unreachable' ],
	[ 'unknown name', 'none.example', $p, 4, '502 resolve_failed' ],
	[ 'name that cannot be had', 'fail.example', $p, 4,
		'502 resolve_failed' ],
	[ 'name that is refused', 'refuse.example', $p, 4,
		'502 resolve_failed' ],
	[ 'name without an address', 'empty.example', $p, 4,
		'502 resolve_failed' ],
	[ 'name without an end', 'loop.example', $p, 4,
		'502 resolve_failed' ],
	[ 'invalid value', '127.0.0.1', $p, 1, '500 internal',
		user => 'wrong' ],

	# slow ones

	[ 'name without an answer', 'silent.example', $p, 4,
		'504 resolve_timeout' ],
	[ 'no answer', '127.0.0.1', $stuck, 4, '504 connect_timeout' ],
);

$t->plan(6 * @refused + 135);

###############################################################################

# refusals: all of them at once

my @clients;

for my $case (@refused) {
	my ($name, $host, $port, $code, $line, %opt) = @$case;

	my $addr = port($opt{server} || 8080);
	my $v4 = $host =~ /^[\d.]+\z/;

	# SOCKS5 has no user here

	push @clients, [ "$name, SOCKS5", '5', $addr, $host, $port,
		'0500' . socks5_hex($code), $line ]
		unless $opt{user};

	push @clients, [ "$name, SOCKS4a", '4a', $addr, $host, $port,
		socks4_hex(91), $line, %opt ];
	push @clients, [ "$name, SOCKS4", '4', $addr, $host, $port,
		socks4_hex(91), $line, %opt ] if $v4;
	push @clients, [ "$name, SOCKS5 as text", '5', $addr, $host, $port,
		'0500' . socks5_hex($code), $line, atyp => 'name' ]
		if ($v4 || $host =~ /:/) && !$opt{user};
}

for my $case (@clients) {
	my ($name, $version, $addr, $host, $port, $reply, $line, %opt) = @$case;

	my $s = socks_client($t, $addr);
	write_all($s, socks_request($version, $host, $port, %opt));
	push @$case, $s;
}

for my $case (@clients) {
	my ($name, $version, $host, $port, $reply, $line, $s)
		= @$case[0, 1, 3, 4, 5, 6, -1];

	$host =~ s/^::ffff://;
	my $text = $host =~ /:/ ? "[$host]:$port" : "$host:$port";
	my $user = $name =~ /^invalid value/ ? 'wrong' : '-?';

	is(ends($s), "$reply EOF", $name);
	close $s;
	like(socks_logged($t, $s),
		qr/^$line - $version connect "$user" \Q$text\E - -$/,
		"$name, logged");
}

# what was refused is in error.log

my %level = map { (split ' ', $_->[4])[1] => 1 } @refused;

for my $result (sort keys %level) {
	ok(wait_log($t, 'error.log',
		qr/\[error\] .* tunnel to "\S+" failed: $result/),
		"$result in error.log");
}

# quotas

my ($s) = socks_open($t, '5', port(8084), '127.0.0.1', $p);
write_all($s, 'hello and more');
read_all($s);
like(socks_logged($t, $s), qr/^200 ok quota .* 5 0$/,
	'a quota that is spent');
socks_answer($t, port(8084), socks_request('5', '127.0.0.1', $p),
	'0500' . socks5_hex(2), '429 client_limit - 5 connect ',
	'nothing is left');

# its key is the version

($s) = socks_open($t, '4', port(8084), '127.0.0.1', $p);
write_all($s, 'hello and more');
read_all($s);
like(socks_logged($t, $s), qr/^200 ok quota .* 5 0$/,
	'a quota of another key');

socks_answer($t, port(8084), socks_request('4', '127.0.0.1', $p),
	socks4_hex(91), '429 client_limit - 4 connect ',
	'nothing is left for SOCKS4');

my $code = 90;
my $n;

for ($n = 0; $n < 500 && $code == 90; $n++) {
	($s, $code) = socks_open($t, '4', port(8085), '127.0.0.1', $p,
		user => 'a' x 200 . $n);
	close $s;
}

cmp_ok($n, '>', 3, 'a zone that gets full');
is($code, 91, 'and is full');
socks_answer($t, port(8085), socks_request('4', '127.0.0.1', $p,
	user => 'b' x 203), socks4_hex(91), '503 machine_limit - 4 connect ',
	'a full zone');

# SOCKS5 has no user, and is not counted

socks_good($t, '5', port(8085), '127.0.0.1', $p, 'an empty key');

###############################################################################

# addresses: SOCKS5 has that of our end, SOCKS4 if it is one of IPv4

for my $case (
	[ 'IPv4', 8080, '127.0.0.1', '127.0.0.1' ],
	[ 'IPv6', 8080, '::1', '::1' ],
	[ 'another IPv6', 8080, '2001:db8::1', '2001:db8::1' ],
	[ 'IPv4-mapped', 8080, '::ffff:127.0.0.1', '127.0.0.1' ],
	[ 'name', 8080, 'name.example', '127.0.0.1' ],
	[ 'name of IPv6', 8080, 'six.example', '::1' ],
	[ 'IPv4 preferred', 8081, 'both.example', '127.0.0.1' ],
	[ 'IPv6 preferred', 8082, 'both.example', '::1' ],
	[ 'one of two', 8080, 'some.example', '127.0.0.1' ],
	[ 'one of two that is allowed', 8080, 'mixed.example', '127.0.0.1' ],
	[ 'target_bind', 8083, '127.0.0.1', '127.0.0.2' ],
	[ 'target_bind and a name', 8083, 'name.example', '127.0.0.2' ],
) {
	my ($name, $server, $host, $expected) = @$case;

	my ($s, $code, $address, $port) = socks_open($t, '5', port($server),
		$host, $peer);
	is($code, 0, "$name, SOCKS5");
	is($address, $expected, "$name, address");
	is(read_n($s, length "$address $port\n"), "$address $port\n",
		"$name, address is what the target sees");
	is(echo($s, 'hello'), 'hello', "$name, tunnel");
	half_close($s);
	is((read_all($s))[1], 'EOF', "$name, end");
	my $sent = length "$address $port\nhello";
	like(socks_logged($t, $s), qr/^200 ok completed 5 .* 5 $sent$/,
		"$name, logged");

	my $version = $host =~ /^[\d.]+$/ ? '4' : '4a';

	($s, $code, $address, $port) = socks_open($t, $version, port($server),
		$host, $peer);
	is($code, 90, "$name, SOCKS$version");
	is($address, $expected =~ /:/ ? '0.0.0.0' : $expected,
		"$name, SOCKS$version, address");
	is(read_n($s, length "$expected $port\n"), "$expected $port\n",
		"$name, SOCKS$version, port is what the target sees");
	is(echo($s, 'hello'), 'hello', "$name, SOCKS$version, tunnel");
	close $s;
}

# a client over IPv6

($s, $code, my $address) = socks_open($t, '5', "[::1]:$proxy", '127.0.0.1',
	$peer);
is("$code $address", '0 127.0.0.1', 'client of IPv6, target of IPv4');
close $s;
($s, $code, $address) = socks_open($t, '4', "[::1]:$proxy", '127.0.0.1', $peer);
is("$code $address", '90 127.0.0.1', 'client of IPv6, SOCKS4');
close $s;

# what would be denied

socks_good($t, '5', port(8086), '127.0.0.1', $p, 'allowed');
socks_answer($t, port(8086), socks_request('5', 'denied.example', $p),
	'0500' . socks5_hex(4), '502 resolve_failed - 5 ', 'dry run');
ok(wait_log($t, 'error.log', qr/\[warn\].*denied\.example:$p" would be denied/),
	'dry run, logged');

is((workers($t))[0], $pid, 'worker is the same');
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');

###############################################################################
