#!/usr/bin/perl

# Tests for target_require_tls beside the limits of a tunnel, quotas,
# relay_buffer_size, relay_splice, and target_proxy_protocol.

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

my $t = Test::Nginx->new()->has(qw/http stream stream_set/);

my $d = $t->testdir();

port(8980, udp => 1);

my %sni = (sni => 'name.example');
my $hello = hello(%sni, tls13 => 1);
my $size = length $hello;
my $large = hello(%sni, pq => 1, size => 3000 - 5);
my $fronted = hello(sni => 'other.example', tls13 => 1);
my $http = "GET / HTTP/1.1\x0d\x0aHost: name.example\x0d\x0a\x0d\x0a";
my $half = substr $hello, 0, 60;

my $long = 'tunnel_preread_timeout 5s;';

# A tunnel for each, with a server of its own; see tunnel().  Those that say so
# come with tunnel_preread and passthrough, too.

my %twice = (preread => 1);

my @cases = (

	# relay_max_payload: a hello counts, what is held does not

	[ 'a hello larger than max_payload', %twice,
		conf => 'relay_max_payload 100;',
		bytes => $hello, reason => 'max_payload', in => 100 ],
	[ 'a hello larger than max_payload, upload',
		conf => 'relay_max_payload 100 upload;',
		bytes => $hello, reason => 'max_payload', in => 100 ],
	[ 'a hello of max_payload', %twice, conf => "relay_max_payload $size;",
		bytes => $hello ],
	[ 'a hello of max_payload and a byte', %twice,
		conf => "relay_max_payload $size;", bytes => "${hello}x",
		reason => 'max_payload', in => $size ],
	[ 'a hello in segments, and max_payload', step => 30,
		conf => 'relay_max_payload 100;', bytes => $hello,
		reason => 'max_payload', in => 100 ],
	[ 'max_payload, download', %twice, target => 8091, out => 50,
		conf => 'relay_max_payload 50 download;', bytes => $hello,
		reason => 'max_payload', in => $size ],
	[ 'max_payload, HTTP', %twice, conf => 'relay_max_payload 10;',
		bytes => $http, reason => 'not_tls' ],
	[ 'max_payload, half a hello', conf => 'relay_max_payload 10;',
		bytes => $half, reason => 'not_tls', time => 0.3 ],
	[ 'max_payload, another name', %twice, conf => 'relay_max_payload 1;',
		bytes => $fronted, reason => 'sni_mismatch' ],

	# relay_max_lifetime, relay_idle_timeout, relay_min_rate

	[ 'max_lifetime, nothing', reason => 'max_lifetime', time => 0.3,
		conf => "relay_max_lifetime 300ms; $long" ],
	[ 'max_lifetime, half a hello', bytes => $half, time => 0.3,
		reason => 'max_lifetime',
		conf => "relay_max_lifetime 300ms; $long" ],
	[ 'max_lifetime, a hello', bytes => $hello, time => 0.3,
		reason => 'max_lifetime', in => $size, then => '',
		conf => "relay_max_lifetime 300ms; $long" ],
	[ 'not_tls before max_lifetime', bytes => $half, time => 0.3,
		reason => 'not_tls', conf => 'relay_max_lifetime 3s;' ],

	[ 'idle_timeout, nothing', reason => 'idle_timeout', time => 0.3,
		conf => "relay_idle_timeout 300ms; $long" ],
	[ 'idle_timeout, half a hello', bytes => $half, time => 0.3,
		reason => 'idle_timeout',
		conf => "relay_idle_timeout 300ms; $long" ],
	[ 'idle_timeout after a hello', bytes => $hello, split => [ 60 ],
		delay => 0.5, time => 1.2, reason => 'idle_timeout',
		in => $size, then => '',
		conf => "relay_idle_timeout 800ms; $long" ],
	[ 'not_tls before idle_timeout', bytes => $half, time => 0.3,
		reason => 'not_tls', conf => 'relay_idle_timeout 3s;' ],

	[ 'min_rate, nothing', reason => 'min_rate', time => 1,
		conf => "relay_min_rate 60000 window=1s grace=0; $long" ],
	[ 'min_rate, half a hello', bytes => $half, time => 1,
		reason => 'min_rate',
		conf => "relay_min_rate 60000 window=1s grace=0; $long" ],
	[ 'not_tls before min_rate', bytes => $half, time => 0.3,
		reason => 'not_tls',
		conf => 'relay_min_rate 60000 window=3s;' ],

	# rates: a hello is not too slow because of us

	[ 'a hello larger than upload_rate', bytes => $large,
		conf => 'relay_upload_rate 4000; relay_buffer_size 4k;' ],
	[ 'a hello larger than max_rate', bytes => $large,
		conf => 'relay_max_rate 4000; relay_buffer_size 4k;' ],
	[ 'a hello larger than download_rate', bytes => $large,
		conf => 'relay_download_rate 4000; relay_buffer_size 4k;' ],
	[ 'what comes behind a hello has a rate', %twice, time => 0.7,
		bytes => $large . pattern(6000),
		conf => 'relay_upload_rate 4000; relay_buffer_size 2k;' ],
	[ 'upload_rate, HTTP', bytes => $http . pattern(5000),
		reason => 'not_tls', conf => 'relay_upload_rate 100;' ],
	[ 'upload_rate, nothing', reason => 'not_tls', time => 0.3,
		conf => 'relay_upload_rate 100;' ],

	# relay_half_close

	[ 'no half close, a hello and the end', %twice, bytes => $hello,
		reason => 'client_closed', in => $size, then => 'fin',
		conf => 'relay_half_close off;' ],
	[ 'no half close, half a hello and the end', bytes => $half,
		reason => 'not_tls', then => 'fin',
		conf => 'relay_half_close off;' ],
	[ 'no half close, the end at once', then => 'fin',
		reason => 'client_closed', conf => 'relay_half_close off;' ],
	[ 'no half close, the end of the target', target => 8093,
		reason => 'not_tls|target_closed', bytes => $half,
		conf => 'relay_half_close off;' ],
	[ 'the end of the target, and a hello', target => 8093,
		bytes => $hello, split => [ 60 ], delay => 0.2,
		answer => 'hello', out => 5 ],

	# relay_buffer_size

	[ 'a small buffer', bytes => $hello,
		conf => 'relay_buffer_size 1k;' ],
	[ 'a small buffer, in segments', bytes => $hello, step => 50,
		conf => 'relay_buffer_size 1k;' ],
	[ 'a small buffer, and much more', %twice,
		bytes => $hello . pattern(100000),
		conf => 'relay_buffer_size 1k;' ],
	[ 'a hello larger than the buffer', %twice, bytes => $large,
		conf => 'relay_buffer_size 1k;' ],
	[ 'a hello larger than the buffer, in segments', bytes => $large,
		step => 100, conf => 'relay_buffer_size 1k;' ],
	[ 'a hello larger than the buffer, and another name',
		bytes => hello(sni => 'other.example', size => 3000),
		reason => 'sni_mismatch', conf => 'relay_buffer_size 1k;' ],
	[ 'a hello of 16k, and a small buffer', conf => 'relay_buffer_size 1k;',
		bytes => hello(%sni, size => 16384 - 5) ],
	[ 'a hello of 16k in segments, and a small buffer', step => 1000,
		bytes => hello(%sni, size => 16384 - 5),
		conf => 'relay_buffer_size 1k;' ],
	[ 'a hello too large for any buffer', reason => 'not_tls',
		bytes => hello(%sni, size => 140000),
		conf => 'relay_buffer_size 1k;' ],
	[ 'a hello too large for any buffer, in segments', step => 5000,
		reason => 'not_tls', bytes => hello(%sni, size => 140000),
		conf => 'relay_buffer_size 1k;' ],

	# 64k are the most, whatever the buffer, with records of 16k

	(map { my ($what, $conf) = @$_; (
		[ "a hello of 64k, $what", conf => $conf,
			bytes => hello(%sni, size => 65536 - 20) ],
		[ "a hello of 64k in segments, $what", conf => $conf,
			step => 5000,
			bytes => hello(%sni, size => 65536 - 20) ],
		[ "a hello of 64k and a byte, $what", conf => $conf,
			bytes => hello(%sni, size => 65537 - 20),
			reason => 'not_tls' ],
		[ "a hello of 64k and a byte in segments, $what",
			step => 5000, conf => $conf, reason => 'not_tls',
			bytes => hello(%sni, size => 65537 - 20) ],
	) } [ 'a small buffer', 'relay_buffer_size 1k;' ],
		[ 'a large buffer', 'relay_buffer_size 128k;' ],
		[ 'the default', '' ]),
	[ 'a large buffer, in segments', step => 1448,
		bytes => hello(%sni, size => 60000),
		conf => 'relay_buffer_size 128k;' ],
	[ 'a large buffer', bytes => hello(%sni, size => 60000),
		conf => 'relay_buffer_size 128k;' ],

	# relay_splice

	(map { [ "splice $_", %twice, bytes => $hello . pattern(300000),
		target => 8091, out => 300000 + $size, both => 1,
		conf => "relay_splice $_;" ] } qw/ on off auto /),
	[ 'splice on, in segments', bytes => $hello, step => 30,
		conf => 'relay_splice on;' ],
	[ 'splice on, HTTP', %twice, bytes => $http, reason => 'not_tls',
		conf => 'relay_splice on;' ],
	[ 'splice on, nothing', time => 0.3, reason => 'not_tls',
		conf => 'relay_splice on;' ],
	[ 'splice on, another name and more', %twice, unread => 1,
		reason => 'sni_mismatch', bytes => $fronted . pattern(100000),
		conf => 'relay_splice on;' ],
	[ 'splice on, max_payload', %twice, bytes => $hello . pattern(300000),
		reason => 'max_payload', in => 100000,
		conf => 'relay_splice on; relay_max_payload 100000;' ],

	# target_proxy_protocol: no header before there is a hello

	(map { my $v = $_; map { [ "PROXY protocol $v, $_->[0]",
		proxy_protocol => $v, conf => "target_proxy_protocol $v;",
		@$_[1 .. $#$_] ] } (
		[ 'a hello', bytes => $hello, %twice ],
		[ 'a hello in segments', bytes => $hello, step => 30 ],
		[ 'a hello and more', bytes => $hello . pattern(100000),
			%twice ],
		[ 'a hello and max_payload', bytes => $hello, in => 50,
			reason => 'max_payload', %twice, conf =>
			"target_proxy_protocol $v; relay_max_payload 50;" ],
		[ 'HTTP', bytes => $http, reason => 'not_tls', %twice ],
		[ 'nothing', time => 0.3, reason => 'not_tls' ],
		[ 'the end at once', then => 'fin',
			reason => 'client_closed' ],
		[ 'half a hello and the end', bytes => $half, then => 'fin',
			reason => 'not_tls' ],
		[ 'half a hello and reset', bytes => $half, then => 'rst',
			reason => 'client_reset', delay => 0.1 ],
		[ 'another name', bytes => $fronted,
			reason => 'sni_mismatch', %twice ],
	) } qw/ on v2 /),

	# the time does not begin before there is a tunnel

	[ 'a slow name, and half a hello', host => 'slow.example',
		time => 0.9, reason => 'not_tls', bytes => $half ],
	[ 'a slow name, and a hello', host => 'late.example', time => 0.6,
		bytes => hello(sni => 'late.example') ],
);

@cases = map { my ($name, %case) = @$_; ([ $name, %case, preread => 0 ],
	$case{preread} ? [ "preread, $name", %case ] : ()) } @cases;

$t->plan(@cases + 16);

$t->write_file_expand('nginx.conf', conf(@cases));

pattern(1);

start_daemon($t, \&record_daemon, port(8091), "$d/target");
start_daemon($t, \&record_daemon, port(8092), "$d/target", echo => 0);
start_daemon($t, \&record_daemon, port(8093), "$d/target",
	greeting => 'hello', leave => 'fin');

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => '127.0.0.1',
		'other.example' => '127.0.0.1',
		(map { ($_ => { A => [ '127.0.0.1' ], delay => 0.7 }) }
			'slow.example', 'late.example'),
	});

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my ($pid) = workers($t);

# those that pass end at once, and all their time counts

my %common = (target => 8092, out => 0, sni => undef, from_connect => 1);
my $number = 8100;

for (@cases) {
	my ($name, %case) = @$_;

	tls_test($t, \&tunnel, $name, %common, number => ++$number,
		log => "$number.log", defined $case{reason} ? ()
			: (then => 'fin'), %case);
}

# quotas: what is held is not counted, a hello is

for my $key (1 .. 3) {
	is(quota($t, 'one', $half), '200 ok not_tls 0 0', "quota, cut $key");
	is(quota($t, 'one', $fronted), '200 ok sni_mismatch 0 0',
		"quota, another name $key");
}

my $want = length $hello;
is(quota($t, 'one', $hello), "200 ok completed $want 0",
	'quota, a hello is let through');
is(quota($t, 'two', $large), '200 ok quota 600 0',
	'quota, a hello larger than it');
is(quota($t, 'two', $hello), '429 client_limit - - -', 'quota, spent');
is(quota($t, 'two', $half), '429 client_limit - - -', 'quota, still spent');

# a quota that is spent while a hello is held

my ($s) = connect_tunnel(port(8099), 'name.example:' . port(8092),
	headers => [ 'X-Key: three', 'X-Id: held' ], early => $half);
is(quota($t, 'three', $large), '200 ok quota 600 0',
	'quota, spent by another');
write_all($s, substr($hello, 60));
isnt((read_all($s, 3))[1], 'TIMEOUT', 'quota, spent meanwhile');
close $s;
is(logged($t, 'held', 'quota.log'), '200 ok quota 0 0',
	'quota, spent meanwhile, logged');

# nothing is left behind

ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open')
	or diag(tcp_count($pid));
is((workers($t))[0], $pid, 'still the same worker');

my @errors = grep { /\[(?:crit|error)\]/ && !/ failed: client_limit, /
	&& !/ refused: the client (?:sent no|named .* in its) ClientHello/ }
	log_lines($t, 'error.log');
is("@errors", '', 'no other errors');

###############################################################################

# The front end of tls_test(), which has a server of this number:
#
#   preread			passthrough behind tunnel_preread
#   conf			directives
#   host, target		name.example, 8092, which only reads; 8091
#				echoes, 8093 has said "hello" in the beginning
#   proxy_protocol		what the target gets in front of all

sub tunnel {
	my ($t, $case) = @_;

	my %case = (host => 'name.example', %$case);
	my $addr = port($case{number});

	my ($s, $head) = $case{preread} ? client_connect($addr)
		: connect_tunnel($addr, "$case{host}:" . port($case{target}));

	$case->{header} = proxy_protocol($case{proxy_protocol} eq 'on' ? 'v1'
			: 'v2', src => '127.0.0.1', sport => $s->sockport(),
		dst => '127.0.0.1', dport => $addr)
		if $case{in} && $case{proxy_protocol};

	return ($s, '', defined $head && $head !~ /^HTTP\/1\.1 200 / ? $head
		: undef);
}

# A tunnel of a key's quota: what is logged, if the target got no more.

sub quota {
	my ($t, $key, $bytes) = @_;

	our $count;
	my $id = 'quota' . ++$count;
	my $seen = () = log_lines($t, 'target');

	my ($s, $head) = connect_tunnel(port(8099), 'name.example:'
		. port(8092), headers => [ "X-Key: $key", "X-Id: $id" ]);

	if ($head =~ /^HTTP\/1\.1 200 /) {
		write_all($s, $bytes);
		half_close($s);
	}

	read_all($s, 4);
	close $s;

	my $line = logged($t, $id, 'quota.log');
	return $line if $head !~ /^HTTP\/1\.1 200 /;

	my ($in) = $line =~ /(\d+) \d+\z/ or return $line;
	my $target = target_line($t, $seen);

	return $target =~ /^$in / ? $line : "$line, target: $target";
}

sub conf {
	my (@cases) = @_;

	my %servers = (http => '', stream => '');
	my $n = 8100;

	for (@cases) {
		my ($name, %case) = @$_;

		my $number = ++$n;
		my $target = ($case{host} || 'name.example') . ':%%PORT_'
			. ($case{target} || 8092) . '%%';
		my $handler = $case{preread}
			? "tunnel_preread on; set \$target$number $target; "
				. "passthrough \$target$number;"
			: 'connect_tunnel;';
		my $directives = $case{conf} || '';

		$servers{$case{preread} ? 'stream' : 'http'} .= <<"EOF";
    server {
        listen 127.0.0.1:$number;
        access_log %%TESTDIR%%/$number.log tunnel;
        $handler
        $directives
    }

EOF
	}

	my $common = <<'EOF';
    log_format tunnel '$status $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    target_require_tls sni;
    tunnel_preread_timeout 300ms;
EOF

	return <<"EOF";

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

$common
    log_format quota '\$http_x_id \$status \$tunnel_result \$tunnel_reason '
                     '\$tunnel_bytes_received \$tunnel_bytes_sent';

    relay_quota_zone \$http_x_key zone=key:1m limit=600 per=1h;

    server {
        listen 127.0.0.1:8099;
        access_log %%TESTDIR%%/quota.log quota;
        connect_tunnel;
        relay_quota key;
        tunnel_preread_timeout 2s;
    }

$servers{http}}

stream {
    %%TEST_GLOBALS_STREAM%%

$common
$servers{stream}}

EOF
}

###############################################################################
