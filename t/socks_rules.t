#!/usr/bin/perl

# Tests for ngx_stream_socks_module: what targets may be reached, how they are
# found, and what is known of it afterwards, with every version.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Namespace qw/ net mount /;
use Test::Nginx::Relay;

use Socket qw/ AF_INET inet_ntop /;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_map stream_return
	stream_access stream_limit_conn/)->plan(401);

# a part of the world, and two that cannot be reached

ip('addr add 9.9.9.9/32 dev lo');
ip('addr add 9.9.9.10/32 dev lo');
ip('-6 addr add 2620:fe::9/128 dev lo nodad');
ip('route add unreachable 8.8.4.4/32');

bind_file($t, '/etc/resolv.conf', "nameserver 127.0.0.53\n");
bind_file($t, '/etc/hosts', <<'EOF');
127.0.0.1	localhost
127.0.0.2	hosts.example alias
127.0.0.2	both.example
169.254.169.254	metadata.example
EOF

my @variables = qw/ status socks_version socks_command socks_user /;
my @tunnel = map { "tunnel_$_" } qw/ target host port address result reason
	bytes_sent bytes_received resolve_time connect_time first_byte_time
	time /;

my $format = join '|', map { "$_=\$$_" } @variables, @tunnel;

$t->write_file_expand('nginx.conf', <<"EOF" . <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format all '\$server_port:\$remote_port|$format';
    access_log %%TESTDIR%%/all.log all;
EOF

    map $tunnel_result $refused {
        default  1;
        ok       0;
    }

    access_log %%TESTDIR%%/refused.log all if=$refused;

    map $socks_user $bind {
        three  127.0.0.3;
        wrong  nonsense;
    }

    limit_conn_zone $server_port zone=one:32k;

    # the default

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    # names

    server {
        listen 127.0.0.1:8082;
        socks;
        target_allow name.example:%%PORT_8091%%
                     *.sub.example:%%PORT_8091%%
                     127.0.0.2:%%PORT_8091%%
                     [::1]:%%PORT_8091%%
                     ~^regex\d+\.example:%%PORT_8091%%$;
        target_allow_address 127.0.0.0/8 ::1;
    }

    server {
        listen 127.0.0.1:8083;
        socks;
        target_allow *:*;
        target_deny  .denied.example:* 127.0.0.2:* *:%%PORT_8092%%;
        target_allow_address 127.0.0.0/8;
    }

    # addresses

    server {
        listen 127.0.0.1:8084;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
        target_deny_address 127.0.0.3;
    }

    # denied in the log only

    server {
        listen 127.0.0.1:8085;
        socks;
        target_allow allow.example:* *:%%PORT_8091%%;
        target_deny  deny.example:*;
        target_allow_address 127.0.0.0/24;
        target_deny_address 127.0.0.3 10.0.0.0/8;
        target_dry_run on;
    }

    # own addresses

    server {
        listen %%PORT_8086%%;
        socks;
        target_allow *:*;
    }

    server {
        listen 9.9.9.10:%%PORT_8087%%;
        socks;
        target_allow *:*;
        target_allow_address 9.9.9.9;
    }

    server {
        listen 9.9.9.9:%%PORT_8088%%;
        return 'other ';
    }

    # with a resolver there is nothing but the resolver

    server {
        listen 127.0.0.1:8089;
        socks;
        resolver 127.0.0.54;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    # names and several addresses

    server {
        listen 127.0.0.1:8070;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 ::1;
        target_resolve_timeout 5s;
    }

    server {
        listen 127.0.0.1:8071;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 ::1;
        target_prefer ipv4;
        target_connect_timeout 400ms;
        target_resolve_timeout 400ms;
    }

    # local addresses

    server {
        listen 127.0.0.1:8072;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 ::1;
        target_bind 127.0.0.2;
    }

    server {
        listen 127.0.0.1:8073;
        socks;
        socks_auth basic proxy users;
        socks_userid any;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
        target_bind $bind;
    }

    # those that fail before there is a target

    server {
        listen 127.0.0.1:8074;
        socks;
        socks_auth basic proxy users;
        socks_auth_delay 0;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    server {
        listen 127.0.0.1:8075;
        socks 5;
    }

    server {
        listen 127.0.0.1:8076;
        socks;
        socks_handshake_timeout 300ms;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    server {
        listen 127.0.0.1:8077;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
        relay_idle_timeout 1500ms;
    }

    # clients that stream itself refuses

    server {
        listen 127.0.0.1:8078;
        socks;
        deny 127.0.0.1;
    }

    server {
        listen 127.0.0.1:8079;
        socks;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
        limit_conn one 1;
    }
}

EOF

$t->write_file('users', "user:{PLAIN}secret\nthree:{PLAIN}secret\n");

# 8091: all there are; 8092: what is denied; 8093: IPv4 only; 8094: IPv6 full;
# 8095: all full; 8096: tells what it sees; 8097: silent; 8098: nobody

my $d = $t->testdir();
my ($p, $p2, $v4, $full6, $full, $peer, $quiet, $none)
	= map { port($_) } 8091 .. 8098;

start_daemon($t, \&echo_daemon, "127.0.0.$_:$p", greeting => "from $_")
	for 1 .. 4;
start_daemon($t, \&echo_daemon, "[::1]:$p", greeting => 'from 6');
start_daemon($t, \&echo_daemon, "127.0.0.1:$_", greeting => 'from 1')
	for $v4, $full6;
start_daemon($t, \&echo_daemon, "127.0.0.1:$quiet");
start_daemon($t, \&peer_daemon, $_) for "127.0.0.1:$peer", "[::1]:$peer";

start_daemon($t, \&echo_daemon, $_, greeting => 'public')
	for '9.9.9.9:443', '9.9.9.9:80', '[2620:fe::9]:443', "9.9.9.9:$p";
start_daemon($t, \&sink_daemon, $_, greeting => 'inside', report => "$d/sink")
	for '127.0.0.1:443', '[::1]:443';

start_daemon($t, \&dns_daemon, '127.0.0.53:53', log => "$d/dns.log",
	table => {
		'*' => '127.0.0.1',
		'www.example' => '9.9.9.9',
		'six.www.example' => '2620:fe::9',
		'loopback.example' => '127.0.0.1',
		'loopback6.example' => '::1',
		'metadata.www.example' => '169.254.169.254',
		'mapped.example' => '::ffff:127.0.0.1',
		'two.example' => '127.0.0.2',
		'three.example' => '127.0.0.3',
		'alias.example' => { CNAME => 'three.example' },
		'mixed.example' => [ '10.0.0.1', '127.0.0.3', '127.0.0.2' ],
		'both.example' => '127.0.0.4',
		'dual.example' => [ '127.0.0.1', '::1' ],
		'six.example' => '::1',
		'nothing.example' => 'NXDOMAIN',
		'silent.example' => 'TIMEOUT',
		(map { ("slow$_.example" => { A => [ '127.0.0.1' ],
			delay => 0.6 }) } 1 .. 7),
	});
start_daemon($t, \&dns_daemon, '127.0.0.54:53', log => "$d/dns2.log",
	table => { 'hosts.example' => '127.0.0.4' });

my @held = (full_backlog("[::1]:$full6"),
	(map { full_backlog("$_:$full") } '[::1]', '127.0.0.1'));

$t->waitforfile("$d/$_") for qw/ dns.log dns2.log /;
$t->run();

###############################################################################

my @all = ('4', '4a', '5', '5 name');
my @named = ('4a', '5 name');

# without a rule: port 443 of the world, and nothing else

reached($_, 8080, '9.9.9.9', 443, 'public', 'default') for @all;
reached($_, 8080, 'www.example', 443, 'public', 'default, name') for @named;
reached($_, 8080, 'six.www.example', 443, 'public', 'default, IPv6 name')
	for @named;
reached($_, 8080, '2620:fe::9', 443, 'public', 'default, IPv6') for '5',
	@named;
reached($_, 8080, '[2620:fe::9]', 443, 'public', 'default, in brackets')
	for @named;

refused($t, $_, 8080, '9.9.9.9', 80, 'denied_name', 'default, port 80')
	for @all;
refused($t, $_, 8080, '9.9.9.9', 65535, 'denied_name', 'default, port 65535')
	for @all;
refused($t, $_, 8080, 'unasked.example', 80, 'denied_name',
	'default, name and port 80') for @named;
is(scalar dns_queries($t, 'dns.log', 'unasked.example'), 0,
	'denied name not resolved');

for my $addr (qw/ 127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 192.168.0.1
	169.254.169.254 100.64.0.1 224.0.0.1 255.255.255.255 /)
{
	refused($t, $_, 8080, $addr, 443, 'denied_address', "denied, $addr")
		for @all;
}

for my $addr (qw/ ::1 :: ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1
	2002:7f00:1::1 fc00::1 fe80::1 ff02::1 /)
{
	refused($t, $_, 8080, $addr, 443, 'denied_address', "denied, $addr")
		for '5', '4a';
}

# SOCKS4 has other uses for those of its first block

refused($t, $_, 8080, '0.1.2.3', 443, 'denied_address', 'denied, 0.1.2.3')
	for '4', '5', '4a';

for my $name (qw/ loopback.example loopback6.example localhost
	metadata.example metadata.www.example mapped.example /)
{
	refused($t, $_, 8080, $name, 443, 'denied_address', "denied, $name")
		for @named;
}

# an address in another spelling is not another name

refused($t, $_->[1], 8080, $_->[0], 443, 'bad_request', "no name, $_->[0]")
	for map { my $host = $_; map { [ $host, $_ ] } @named }
		qw/ 127.1 0x7f000001 017700000001 2130706433 127.0.0.01 /;

is(join(', ', log_lines($t, 'sink')), '', 'no connection inside');
ok(wait_log($t, 'error.log', qr/\[error\].*"127\.0\.0\.1:443" failed: /
	. qr/denied_address, address 127\.0\.0\.1:443, 127\.0\.0\.0\/8/),
	'denied, logged');

# names

for my $host (qw/ name.example NAME.Example. a.sub.example regex1.example /) {
	reached($_, 8082, $host, $p, 'from 1', "allowed, $host") for @named;
}

reached($_, 8082, '127.0.0.2', $p, 'from 2', 'allowed, 127.0.0.2') for @all;
reached($_, 8082, '::1', $p, 'from 6', 'allowed, ::1') for '5', @named;
reached('5', 8082, '0:0:0:0:0:0:0:1', $p, 'from 6', 'allowed, long form');

refused($t, $_, 8082, 'name.example', $p2, 'denied_name', 'other port')
	for @named;

for my $host (qw/ other.example sub.example a.name.example regex.example /) {
	refused($t, $_, 8082, $host, $p, 'denied_name', "not allowed, $host")
		for @named;
}

refused($t, $_, 8082, '127.0.0.3', $p, 'denied_name', 'other address')
	for @all;

# a name that is allowed, and its address that is not asked for by name

refused($t, $_, 8082, '127.0.0.1', $p, 'denied_name', 'address of a name')
	for @all;

reached($_, 8083, 'name.example', $p, 'from 1', 'not denied') for @named;
reached($_, 8083, '127.0.0.1', $p, 'from 1', 'not denied') for @all;
refused($t, $_, 8083, 'a.DENIED.example', $p, 'denied_name', 'deny wins')
	for @named;
refused($t, $_, 8083, '127.0.0.2', $p, 'denied_name', 'deny wins, address')
	for @all;
refused($t, '5', 8083, '::ffff:127.0.0.2', $p, 'denied_name',
	'deny wins, mapped address');
refused($t, $_, 8083, '127.0.0.1', $p2, 'denied_name', 'deny wins, port')
	for @all;
ok(wait_log($t, 'error.log', qr/\[error\].*"a\.denied\.example:$p" failed: /
	. qr/denied_name, target_deny \.denied\.example:\*/), 'rule logged');

# addresses

reached($_, 8084, '127.0.0.2', $p, 'from 2', 'address allowed') for @all;
reached('5', 8084, '::ffff:127.0.0.2', $p, 'from 2', 'mapped one allowed');
reached($_, 8084, 'two.example', $p, 'from 2', 'its name') for @named;
reached($_, 8084, 'mixed.example', $p, 'from 2', 'one of addresses')
	for @named;
refused($t, $_, 8084, '127.0.0.3', $p, 'denied_address', 'address denied')
	for @all;
refused($t, '5', 8084, '::ffff:127.0.0.3', $p, 'denied_address',
	'mapped one denied');
refused($t, '5', 8084, '::1', $p, 'denied_address', 'not opened');
refused($t, $_, 8084, 'three.example', $p, 'denied_address', 'its name')
	for @named;
refused($t, $_, 8084, 'alias.example', $p, 'denied_address', 'its alias')
	for @named;
ok(wait_log($t, 'error.log', qr/"alias\.example:$p" failed: denied_address, /
	. qr/address 127\.0\.0\.3:$p, target_deny_address 127\.0\.0\.3/),
	'rule of addresses logged');

# dry run

reached($_, 8085, 'allow.example', $p, 'from 1', 'dry run') for @named;
reached($_, 8085, 'deny.example', $p, 'from 1', 'dry run, name') for @named;
reached($_, 8085, '127.0.0.3', $p, 'from 3', 'dry run, address') for @all;
reached($_, 8085, '127.0.0.1', $v4, 'from 1', 'dry run, not allowed')
	for @all;
refused($t, $_, 8085, '127.1.0.1', $p, 'denied_address',
	'dry run, denied by default') for @all;
ok(wait_log($t, 'error.log', qr/\[warn\].*"deny\.example:$p" would be denied /
	. qr/by "target_deny deny\.example:\*"/), 'dry run, name logged');
ok(wait_log($t, 'error.log', qr/\[warn\].*address 127\.0\.0\.3:$p would be /
	. qr/denied by "target_deny_address 127\.0\.0\.3"/),
	'dry run, address logged');

# own addresses

my ($own, $other) = (port(8086), port(8088));

for my $version (@all) {
	reached($version, 8086, '9.9.9.9', $p, 'public', 'other port');
	refused($t, $version, 8086, $_, $own, 'denied_address', "own port, $_")
		for qw/ 9.9.9.9 9.9.9.10 /;
	refused($t, $version, 8086, '9.9.9.9', $other, 'denied_address',
		'other server');
	refused($t, $version, 8086, '9.9.9.10', port(8087), 'denied_address',
		'other SOCKS server');
	reached($version, '9.9.9.10:' . port(8087), '9.9.9.9', $other,
		'other ', 'own address allowed');
}

refused($t, $_, 8086, 'www.example', $own, 'denied_address',
	'own port, by name') for @named;
refused($t, '5', 8086, '::ffff:9.9.9.9', $own, 'denied_address',
	'own port, mapped address');
ok(wait_log($t, 'error.log', qr/denied_address, .*own listening address/),
	'own address logged');

# hosts and name servers

for my $version (@named) {
	reached($version, 8070, $_, $p, 'from 2', "hosts, $_")
		for qw/ hosts.example HOSTS.Example. alias both.example /;
	reached($version, 8070, 'two.example', $p, 'from 2', 'name server');
	reached($version, 8070, 'six.example', $p, 'from 6', 'IPv6');
	reached($version, 8089, 'hosts.example', $p, 'from 4', 'resolver');
	refused($t, $version, 8089, 'alias', $p, 'resolve_failed',
		'resolver, no such name');
	refused($t, $version, 8070, 'nothing.example', $p, 'resolve_failed',
		'no such name');
}

is(scalar dns_queries($t, 'dns.log', 'hosts.example'), 0, 'nobody asked');

# what a client does meanwhile

slow_tests($t, @$_) for [ '4a', 1 ], [ '5', 4 ];

# that is not the client's time

reached('5', 8076, 'slow7.example', $p, 'from 1', 'handshake is over');

# several addresses

for my $version (@named) {
	my ($time, $start);

	reached($version, 8070, 'dual.example', $p, 'from 6', 'IPv6 first');
	reached($version, 8071, 'dual.example', $p, 'from 1', 'IPv4 first');
	reached($version, 8070, 'dual.example', $v4, 'from 1', 'IPv6 refused');

	$start = time();
	reached($version, 8070, 'dual.example', $full6, 'from 1',
		'IPv6 does not answer');
	$time = time() - $start;
	ok($time > 0.2 && $time < 2, "attempt delay, $version")
		or diag($time);

	refused($t, $version, 8070, 'dual.example', $none, 'refused',
		'all refused');
}

refused($t, '5', 8071, 'dual.example', $full, 'connect_timeout',
	'none answers');

# of a network that is not there there is more to tell

refused($t, $_, 8070, '8.8.4.4', 443, 'unreachable', 'no such host') for @all;
refused($t, $_, 8070, '8.8.8.8', 443, 'unreachable', 'no such network', 3)
	for @all;

my ($pid) = workers($t);
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left');

# local addresses, which are in the answer as well

bound('127.0.0.2', $_, 8072, '127.0.0.1', 'target_bind') for @all;
bound('127.0.0.2', $_, 8072, 'dual.example', 'target_bind, name') for @named;
bound('127.0.0.1', $_, 8070, '127.0.0.1', 'no target_bind') for @all;
bound('::1', '5', 8070, '::1', 'no target_bind, IPv6');
refused($t, '5', 8072, '::1', $p, 'unreachable', 'target_bind, other family');

bound('127.0.0.3', $_, 8073, '127.0.0.1', 'target_bind of a user',
	user => 'three') for qw/ 4 4a /;
bound('127.0.0.3', $_, 8073, '127.0.0.1', 'target_bind of a user',
	auth => 'three:secret') for '5', '5 name';
bound('127.0.0.1', $_, 8073, '127.0.0.1', 'target_bind of another',
	user => 'four') for qw/ 4 4a /;
bound('127.0.0.1', $_, 8073, '127.0.0.1', 'target_bind of another',
	auth => 'user:secret') for '5', '5 name';

# variables, and a target_bind that is invalid

my ($first) = ask('5', 8079, '127.0.0.1', $quiet);

variable_tests($t, $_) for variable_cases($t);

is(echo($first, 'hello'), 'hello', 'limit_conn, first');

ok(wait_log($t, 'error.log', qr/\[error\].*invalid local address "nonsense"/),
	'invalid target_bind logged');

is(scalar(grep { /\|tunnel_result=ok\|/ } log_lines($t, 'refused.log')), 0,
	'result in map');
ok(wait_log($t, 'refused.log', qr/\|tunnel_result=denied_name\|/),
	'other result in map');

###############################################################################

# A client, which knows how the log calls it.

sub client {
	my ($addr) = @_;

	my $s = tcp_connect($addr =~ /:/ ? $addr : port($addr))
		or return undef;

	${*$s}{id} = $s->peerport() . ':' . $s->sockport();

	return $s;
}

# Asks a server for a target.  The last of what is returned is the address that
# the answer has.

sub ask {
	my ($version, $addr, $host, $port, %opt) = @_;

	my $s = client($addr) or return (undef, 'no connection', '');

	my $early = defined $opt{early} ? $opt{early} : '';

	if ($version =~ /^4/) {
		my $request = $version eq '4'
			? socks4_request($host, $port, %opt)
			: socks4a_request($host, $port, %opt);

		write_all($s, $request . $early);
		return ($s, read_reply4($s));
	}

	write_all($s, socks5_greeting(defined $opt{auth} ? 2 : 0));
	my $reply = read_n($s, 2);

	if ($reply eq "\x05\x02") {
		write_all($s, socks5_auth(split /:/, $opt{auth}, 2));
		$reply = read_n($s, 2);
		return ($s, unpack('x C', $reply), '')
			if $reply ne "\x01\x00";

	} elsif ($reply ne "\x05\x00") {
		return ($s, unpack('x C', $reply), '');
	}

	write_all($s, socks5_request($host, $port, %opt,
		$version eq '5 name' ? (atyp => 'name') : ()) . $early);
	return ($s, read_reply5($s));
}

sub read_reply4 {
	my ($s) = @_;

	my $reply = read_n($s, 8);
	return ('no reply', '') if length $reply < 8;

	my ($null, $code, $port, $ip) = unpack('C2 n a4', $reply);
	return ("version $null", '') if $null != 0;
	return ($code, inet_ntop(AF_INET, $ip) . " $port");
}

sub read_reply5 {
	my ($s) = @_;

	my ($code, $host, $port) = read_socks5_reply($s);
	return ('no reply', '') unless defined $code;
	return ($code, "$host $port");
}

# A tunnel whose target says something.

sub reached {
	my ($version, $addr, $host, $port, $says, $name, %opt) = @_;

	my ($s, $code) = ask($version, $addr, $host, $port, %opt);
	my $good = $version =~ /^4/ ? 90 : 0;

	is("$code " . ($s && $code eq $good ? read_n($s, 6) : ''),
		"$good $says", "$name, $version");
}

# A refusal: the code, an address of zeroes, the end, and what the log has.

sub refused {
	my ($t, $version, $addr, $host, $port, $result, $name, $code5, %opt)
		= @_;

	my ($expected, $status) = told($version, $result, $code5);
	my ($s, $code, $bound) = ask($version, $addr, $host, $port, %opt);

	my $id = $s ? ${*$s}{id} : '';
	my ($rest, $state) = $s ? read_all($s) : ('', 'NONE');
	close $s if $s;
	my $got = logged($t, $id);

	is("$code $bound $rest$state " . join(' ', map { $got->{$_} || '' }
		qw/ status tunnel_result tunnel_reason tunnel_address /),
		"$expected 0.0.0.0 0 EOF $status $result - -",
		"$name, $version");
}

# The code and the status of a result.

sub told {
	my ($version, $result, $code5) = @_;

	my %told = (
		ok			=> [ 0, 200 ],
		bad_request		=> [ 1, 400 ],
		denied_name		=> [ 2, 403 ],
		denied_address		=> [ 2, 403 ],
		resolve_failed		=> [ 4, 502 ],
		resolve_timeout		=> [ 4, 504 ],
		unreachable		=> [ 4, 502 ],
		connect_timeout		=> [ 4, 504 ],
		refused			=> [ 5, 502 ],
		internal		=> [ 1, 500 ],
		unsupported_command	=> [ 7, 501 ],
		auth_failed		=> [ 1, 407 ],
		bad_version		=> [ 255, 505 ],
	);

	my ($code, $status) = @{$told{$result}};

	return (defined $code5 ? $code5 : $code, $status) if $version =~ /^5/;
	return (90, $status) if $result eq 'ok';
	return ($result eq 'auth_failed' ? 93 : 91, $status);
}

# A tunnel to a target that tells from where it is connected.

sub bound {
	my ($ip, $version, $addr, $host, $name, %opt) = @_;

	my ($s, $code, $bound) = ask($version, $addr, $host, port(8096), %opt);
	my $seen = $s ? read_all($s) : '';

	like("$code $bound", qr/^(?:0|90) \Q$ip\E \d+$/, "$name, $version");
	is($bound, $seen, "$name, $version, answer");
}

sub peer_daemon {
	my ($addr) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		write_all($s, $s->peerhost() . ' ' . $s->peerport());
		half_close($s);
		read_all($s);
	});
}

# A client that sends, ends, or leaves while a name is looked up.

sub slow_tests {
	my ($t, $version, $n) = @_;

	my @names = map { "slow$_.example" } $n .. $n + 2;

	my @s = map { start($version, $_, port(8091)) } @names[0, 1];
	push @s, start($version, $names[2], port(8098));
	my $id = ${*{$s[1]}}{id};

	wait_log($t, 'dns.log', qr/^$_/) for @names;

	write_all($s[0], 'early');
	half_close($s[0]);
	write_all($s[1], 'early');
	reset_close($s[1]);
	half_close($s[2]);

	like((read_all($s[0]))[0], $version eq '4a'
		? qr/^\x00\x5a.{6}from 1early\z/s
		: qr/^\x05\x00\x05\x00\x00\x01.{6}from 1early\z/s,
		"bytes and end during a slow answer, $version");

	my $got = logged($t, $id);
	is(join(' ', map { $got->{$_} || '' } qw/ status tunnel_result
		tunnel_target socks_command /), '499 - '
		. "$names[1]:" . port(8091) . ' connect',
		"reset during a slow answer, $version");

	like((read_all($s[2]))[0], $version eq '4a' ? qr/^\x00\x5b/
		: qr/^\x05\x00\x05\x05/,
		"end during a slow answer, refused, $version");
}

sub start {
	my ($version, $name, $port) = @_;

	my $s = client(8070);
	write_all($s, $version eq '4a' ? socks4a_request($name, $port)
		: socks5_greeting() . socks5_request($name, $port));

	return $s;
}

###############################################################################

# What the log has.  All that is not named is to be "-".

sub variable_cases {
	my ($t) = @_;

	my ($p, $quiet, $none, $full) = map { port($_) }
		8091, 8097, 8098, 8095;
	my $time = qr/^\d+\.\d{3}\z/;

	my $target = sub {
		my ($host, $port) = @_;

		$host = "[$host]" if $host =~ /:/;
		return (tunnel_target => "$host:$port", tunnel_host => $host,
			tunnel_port => $port);
	};

	my $ok = sub {
		my ($received, $sent, %more) = @_;

		return (
			socks_command		=> 'connect',
			$target->('127.0.0.1', $p),
			tunnel_address		=> "127.0.0.1:$p",
			tunnel_result		=> 'ok',
			tunnel_reason		=> 'completed',
			tunnel_bytes_received	=> $received,
			tunnel_bytes_sent	=> $sent,
			tunnel_connect_time	=> $time,
			tunnel_first_byte_time	=> $sent ? $time : '-',
			tunnel_time		=> $time,
			%more
		);
	};

	my $failed = sub {
		my ($result, %more) = @_;

		return (tunnel_result => $result, socks_command => 'connect',
			%more);
	};

	my @cases;

	for my $version ('4', '4a', '5', '5 name') {
		my $number = substr($version, 0, 2) =~ s/ //r;
		my @v = (socks_version => $number);
		my $named = $version eq '4a' || $version eq '5 name';
		my @sent = (send => 'hello', says => 'from 1hello');

		push @cases, [ 'tunnel', 8077, $version, '127.0.0.1', $p,
			{ @sent }, { $ok->(5, 11, @v) } ],
		[ 'nothing passed', 8077, $version, '127.0.0.1', $quiet, {},
			{ $ok->(0, 0, @v, $target->('127.0.0.1', $quiet),
				tunnel_address => "127.0.0.1:$quiet") } ],
		[ 'early data', 8077, $version, '127.0.0.1', $p,
			{ early => 'EARLY', says => 'from 1EARLY' },
			{ $ok->(5, 11, @v) } ],
		[ 'client reset', 8077, $version, '127.0.0.1', $p,
			{ reset => 1 }, { $ok->(0, 6, @v,
				tunnel_reason => 'client_reset') } ],

		[ 'denied_name', 8083, $version, '127.0.0.2', $p, {},
			{ $failed->('denied_name', @v,
				$target->('127.0.0.2', $p)) } ],
		[ 'denied_address', 8084, $version, '127.0.0.3', $p, {},
			{ $failed->('denied_address', @v,
				$target->('127.0.0.3', $p)) } ],
		[ 'refused', 8077, $version, '127.0.0.1', $none, {},
			{ $failed->('refused', @v,
				$target->('127.0.0.1', $none)) } ],
		[ 'unreachable', 8077, $version, '8.8.8.8', 443,
			{ code5 => 3 },
			{ $failed->('unreachable', @v,
				$target->('8.8.8.8', 443)) } ],
		[ 'bad_request', 8077, $version, '127.0.0.1', 0, {},
			{ $failed->('bad_request', @v) } ],
		[ 'unsupported_command', 8077, $version, '127.0.0.1', $p,
			{ cmd => 2 }, { $failed->('unsupported_command', @v,
				$target->('127.0.0.1', $p),
				socks_command => 'bind') } ],
		[ 'unknown command', 8077, $version, '127.0.0.1', $p,
			{ cmd => 9 }, { $failed->('unsupported_command', @v,
				$target->('127.0.0.1', $p),
				socks_command => '-') } ];

		push @cases, [ 'name', 8077, $version, 'Any.EXAMPLE.', $p,
			{ @sent }, { $ok->(5, 11, @v,
				$target->('any.example', $p),
				tunnel_resolve_time => $time) } ],
		[ 'hosts', 8077, $version, 'alias', $p,
			{ says => 'from 2' }, { $ok->(0, 6, @v,
				$target->('alias', $p),
				tunnel_address => "127.0.0.2:$p",
				tunnel_resolve_time => qr/./) } ],
		[ 'denied_address of a name', 8084, $version, 'three.example',
			$p, {}, { $failed->('denied_address', @v,
				$target->('three.example', $p),
				tunnel_resolve_time => $time) } ],
		[ 'resolve_failed', 8077, $version, 'nothing.example', $p, {},
			{ $failed->('resolve_failed', @v,
				$target->('nothing.example', $p),
				tunnel_resolve_time => qr/./) } ],
		[ 'resolve_timeout', 8071, $version, 'silent.example', $p, {},
			{ $failed->('resolve_timeout', @v,
				$target->('silent.example', $p),
				tunnel_resolve_time => qr/./) } ]
			if $named;

		push @cases, [ 'IPv6', 8070, $version, '::1', $p,
			{ @sent, says => 'from 6hello' }, { $ok->(5, 11, @v,
				$target->('::1', $p),
				tunnel_address => "[::1]:$p") } ]
			if $version ne '4';

		push @cases, $named ? [ 'idle', 8077, $version, '127.0.0.1',
			$p, { stay => 1, says => 'from 1' }, { $ok->(0, 6, @v,
				tunnel_reason => 'idle_timeout',
				tunnel_time => qr/^(?:1\.[4-9]|[2-7]\.)/) } ]
		: [ 'connect_timeout', 8071, $version, '127.0.0.1', $full, {},
			{ $failed->('connect_timeout', @v,
				$target->('127.0.0.1', $full)) } ];

		if ($version =~ /^4/) {
			push @cases, [ 'userid', 8077, $version, '127.0.0.1',
				$p, { user => 'carol', @sent },
				{ $ok->(5, 11, @v, socks_user => 'carol') } ],
			[ 'userid refused', 8074, $version, '127.0.0.1', $p,
				{ user => 'carol' },
				{ $failed->('auth_failed', @v,
					socks_command => '-',
					socks_user => 'carol') } ],
			[ 'bad_version', 8075, $version, '127.0.0.1', $p, {},
				{ $failed->('bad_version', @v,
					socks_command => '-') } ],
			[ 'internal', 8073, $version, '127.0.0.1', $p,
				{ user => 'wrong' },
				{ $failed->('internal', @v,
					socks_user => 'wrong',
					$target->('127.0.0.1', $p)) } ];

		} else {
			push @cases, [ 'user', 8074, $version, '127.0.0.1', $p,
				{ auth => 'user:secret', @sent },
				{ $ok->(5, 11, @v, socks_user => 'user') } ],
			[ 'wrong password', 8074, $version, '127.0.0.1', $p,
				{ auth => 'user:wrong' },
				{ $failed->('auth_failed', @v,
					socks_command => '-',
					socks_user => 'user') } ],
			[ 'unknown user', 8074, $version, '127.0.0.1', $p,
				{ auth => 'nobody:secret' },
				{ $failed->('auth_failed', @v,
					socks_command => '-',
					socks_user => 'nobody') } ],
			[ 'no method', 8074, $version, '127.0.0.1', $p,
				{ code5 => 255 },
				{ $failed->('auth_failed', @v,
					socks_command => '-') } ],
			[ 'UDP', 8077, $version, '127.0.0.1', $p, { cmd => 3 },
				{ $failed->('unsupported_command', @v,
					$target->('127.0.0.1', $p),
					socks_command => 'udp_associate') } ];
		}
	}

	my @v5 = (socks_version => 5);

	return @cases, [ 'unsupported_address', 8077, '5', undef, undef,
		{ raw => socks5_greeting() . "\x05\x01\x00\x02abcdefgh",
			says => "\x05\x00\x05\x08\x00\x01" . "\x00" x 6 },
		{ $failed->('unsupported_address', @v5, status => 501) } ],
	[ 'no version', 8077, undef, undef, undef,
		{ raw => "GET / HTTP/1.0\x0d\x0a\x0d\x0a", says => '' },
		{ $failed->('bad_version', status => 505,
			socks_command => '-') } ],
	[ 'nothing said', 8076, undef, undef, undef,
		{ raw => '', stay => 1, says => '' },
		{ $failed->('handshake_timeout', status => 408,
			socks_command => '-') } ],
	[ 'too slow', 8076, undef, undef, undef,
		{ raw => socks5_greeting(), stay => 1, says => "\x05\x00" },
		{ $failed->('handshake_timeout', @v5, status => 408,
			socks_command => '-') } ],
	[ 'deny', 8078, undef, undef, undef,
		{ raw => socks5_greeting(), stay => 1, says => '' },
		{ status => 403 } ],
	[ 'limit_conn', 8079, undef, undef, undef,
		{ raw => socks5_greeting(), stay => 1, says => '' },
		{ status => 503 } ],
	[ 'gone at once', 8077, undef, undef, undef,
		{ raw => '', says => '' }, { status => 499 } ],
	[ 'gone later', 8077, undef, undef, undef,
		{ raw => socks5_greeting(), says => "\x05\x00" },
		{ status => 499, @v5 } ];
}

sub variable_tests {
	my ($t, $case) = @_;

	my ($name, $server, $version, $host, $port, $opt, $expect) = @$case;

	$name = "variables, $name" . (defined $version ? ", $version" : '');

	my ($s, $bytes, @wrong);
	my %expect = %$expect;

	if (defined $opt->{raw}) {
		$s = client($server);
		write_all($s, $opt->{raw});

	} else {
		($s, my $code) = ask($version, $server, $host, $port, %$opt);
		write_all($s, $opt->{send}) if defined $opt->{send};

		(my $told, $expect{status}) = told($version,
			$expect{tunnel_result}, $opt->{code5});
		push @wrong, "code $code" if $code ne $told;
	}

	my $id = ${*$s}{id};

	if ($opt->{reset}) {
		$bytes = read_n($s, 6);
		reset_close($s);

	} else {
		half_close($s) unless $opt->{stay};
		$bytes = read_all($s);
		close $s;
	}

	my $got = logged($t, $id);
	my $says = defined $opt->{says} ? $opt->{says} : $bytes;

	push @wrong, 'says ' . unpack('H*', $bytes) if $bytes ne $says;

	for my $variable (sort keys %$got) {
		my $value = defined $expect{$variable} ? $expect{$variable}
			: '-';

		push @wrong, "$variable=$got->{$variable}"
			unless ref $value ? $got->{$variable} =~ $value
				: $got->{$variable} eq $value;
	}

	is(join(', ', %$got ? () : 'not logged', @wrong), '', $name);
}

# The variables that the log has of a client.

sub logged {
	my ($t, $id) = @_;

	# mostly that is enough

	sleep(0.005);

	my $line = wait_log($t, 'all.log', qr/^$id\|/, 4);

	return {} unless defined $line;
	return { map { /^([^=]+)=(.*)$/ ? ($1 => $2) : () }
		split /\|/, $line };
}

###############################################################################
