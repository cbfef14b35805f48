#!/usr/bin/perl

# Tests for ngx_stream_connect_tunnel_module: what the target of passthrough
# may be when variables tell it, and what a client's name cannot make of it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks qw/ ends /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_map stream_upstream_zone
	unix/);

use constant {
	UNRECOGNIZED	=> '15030300020270',
	INTERNAL	=> '15030300020250',
};

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
                      '$preread_protocol $preread_host $tunnel_sni '
                      '$tunnel_target $tunnel_address '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    tunnel_preread on;
    tunnel_preread_timeout 300ms;

    map $preread_host $by_host {
        hostnames;

        one.example       127.0.0.1:8091;
        two.example       127.0.0.1:8092;
        .three.example    127.0.0.1:8093;
        group.example     group;
        shared.example    shared;
        unix.example      unix:%%TESTDIR%%/unix.sock;
        nounix.example    unix:%%TESTDIR%%/none.sock;
        pathless.example  unix:;
        relative.example  unix:unix.sock;
        name.example      target.example:%%PORT_8091%%;
        none.example      none.example:%%PORT_8091%%;
        dead.example      127.0.0.1:8099;
        reject.example    reject;
        reset.example     'reject reset';
        empty.example     '';
        hostless.example  :8091;
        portless.example  127.0.0.1;
        words.example     'not a target';
        rejects.example   'reject me';
        default           127.0.0.1:8094;
    }

    map $preread_protocol $by_protocol {
        tls      127.0.0.1:8091;
        http     127.0.0.1:8092;
        ssh      unix:%%TESTDIR%%/unix.sock;
        timeout  group;
        unknown  'reject reset';
        default  reject;
    }

    upstream group {
        server 127.0.0.1:8099;
        server 127.0.0.1:8093;
    }

    upstream shared {
        zone shared 64k;
        server unix:%%TESTDIR%%/unix.sock;
    }

    # by name and by protocol

    server {
        listen 127.0.0.1:8080;
        target_allow *:8000-8999;
        target_allow_address 127.0.0.0/8 unix:;
        passthrough $by_host;
    }

    server {
        listen 127.0.0.1:8081;
        target_allow *:8000-8999;
        target_allow_address unix: 127.0.0.0/8;
        passthrough $by_protocol;
    }

    # the default rules, and others without unix sockets

    server {
        listen 127.0.0.1:8082;
        passthrough $by_host;
    }

    server {
        listen 127.0.0.1:8083;
        target_allow *:*;
        target_allow_address all;
        passthrough $by_host;
    }

    server {
        listen 127.0.0.1:8084;
        target_allow *:*;
        target_allow_address unix:;
        passthrough $by_host;
    }

    server {
        listen 127.0.0.1:8085;
        target_allow *:*;
        target_allow_address 127.0.0.0/8 unix:;
        target_deny 127.0.0.1:*;
        target_deny_address unix:;
        target_dry_run on;
        passthrough $by_host;
    }

    server {
        listen 127.0.0.1:8101;
        target_allow_address unix:;
        target_deny_address unix:;
        passthrough $by_host;
    }

    # those of the configuration are trusted

    server {
        listen 127.0.0.1:8086;
        passthrough unix:%%TESTDIR%%/unix.sock;
    }

    server {
        listen 127.0.0.1:8087;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8088;
        passthrough group;
    }

    # unless rules say more than the default ones

    server {
        listen 127.0.0.1:8102;
        target_deny_address unix:;
        passthrough unix:%%TESTDIR%%/unix.sock;
    }

    server {
        listen 127.0.0.1:8103;
        target_deny_address unix:;
        passthrough shared;
    }

    # names of clients as they are

    server {
        listen 127.0.0.1:8089;
        target_allow *:8000-8999;
        target_allow_address 127.0.0.0/8 unix:;
        passthrough $preread_host:%%PORT_8091%%;
    }

    server {
        listen 127.0.0.1:8090;
        target_allow *:8000-8999;
        target_allow_address 127.0.0.0/8 unix:;
        passthrough $preread_host;
    }

    server {
        listen 127.0.0.1:8100;
        target_allow_address unix:;
        passthrough unix:%%TESTDIR%%/$preread_host.sock;
    }
}

EOF

start_daemon($t, \&echo_daemon, port(8091), greeting => 'one:');
start_daemon($t, \&echo_daemon, port(8092), greeting => 'two:');
start_daemon($t, \&echo_daemon, port(8093), greeting => 'three:');
start_daemon($t, \&echo_daemon, port(8094), greeting => 'rest:');
start_daemon($t, \&echo_daemon, "unix:$d/unix.sock", greeting => 'unix:');
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { map { $_ => '127.0.0.1' } qw/ target.example good.example
		reject / });

port(8099);	# nobody is there

$t->waitforfile("$d/dns.log");

###############################################################################

my %port = map { $_ => port($_) } 8091 .. 8094, 8099;
my %at = map { $_ => "127.0.0.1:$port{$_}" } keys %port;
my $unix = "unix:$d/unix.sock";

# what is connected: the server, the client's name, who answers, and what is
# the target and its address

my @good = (
	[ 8080, 'one.example', 'one', $at{8091}, $at{8091} ],
	[ 8080, 'ONE.Example', 'one', $at{8091}, $at{8091} ],
	[ 8080, 'two.example', 'two', $at{8092}, $at{8092} ],
	[ 8080, 'a.three.example', 'three', $at{8093}, $at{8093} ],
	[ 8080, 'three.example', 'three', $at{8093}, $at{8093} ],
	[ 8080, 'group.example', 'three', '-', $at{8093} ],
	[ 8080, 'shared.example', 'unix', '-', $unix ],
	[ 8080, 'unix.example', 'unix', '-', $unix ],
	[ 8080, 'name.example', 'one', "target.example:$port{8091}",
		$at{8091} ],
	[ 8080, 'other.example', 'rest', $at{8094}, $at{8094} ],
	[ 8080, undef, 'rest', $at{8094}, $at{8094} ],
	[ 8081, 'any.example', 'one', $at{8091}, $at{8091} ],
	[ 8082, 'group.example', 'three', '-', $at{8093} ],
	[ 8082, 'shared.example', 'unix', '-', $unix ],
	[ 8083, 'one.example', 'one', $at{8091}, $at{8091} ],
	[ 8084, 'unix.example', 'unix', '-', $unix ],
	[ 8085, 'one.example', 'one', $at{8091}, $at{8091} ],
	[ 8085, 'unix.example', 'unix', '-', $unix ],
	[ 8086, 'any.example', 'unix', '-', $unix ],
	[ 8087, 'any.example', 'one', $at{8091}, $at{8091} ],
	[ 8088, 'any.example', 'three', '-', $at{8093} ],
	[ 8089, 'good.example', 'one', "good.example:$port{8091}",
		$at{8091} ],

	# a host, and not what these are without a port

	[ 8089, 'reject', 'one', "reject:$port{8091}", $at{8091} ],

	# whoever lets clients name a group does

	[ 8090, 'group', 'three', '-', $at{8093} ],
	[ 8090, 'Group', 'three', '-', $at{8093} ],
	[ 8100, 'unix', 'unix', '-', $unix ],
);

# what is not: the status, the result, and what a TLS client is told

my @rejected = (403, 'rejected', UNRECOGNIZED . ' EOF');
my @name = (403, 'denied_name', UNRECOGNIZED . ' EOF');
my @address = (403, 'denied_address', UNRECOGNIZED . ' EOF');
my @wrong = (400, 'bad_request', INTERNAL . ' EOF');

my @bad = (
	[ 8080, 'reject.example', @rejected ],
	[ 8080, 'reset.example', 403, 'rejected', 'RESET' ],
	[ 8080, 'empty.example', @rejected ],
	[ 8080, 'hostless.example', @rejected ],
	[ 8080, 'dead.example', 502, 'refused', INTERNAL . ' EOF' ],
	(map { [ 8080, "$_.example", 502, 'refused', INTERNAL . ' EOF' ] }
		'nounix', 'relative'),
	[ 8080, 'none.example', 502, 'resolve_failed', INTERNAL . ' EOF' ],
	(map { [ 8080, "$_.example", @wrong ] } qw/ portless words rejects
		pathless /),

	# the default rules bind what comes from variables

	[ 8082, 'one.example', @name ],
	[ 8082, 'name.example', @name ],
	[ 8082, 'unix.example', @address ],
	[ 8082, 'nounix.example', @address ],

	# all addresses are no paths, and paths no addresses

	[ 8083, 'unix.example', @address ],
	(map { [ $_, 'unix.example', @address ] } 8101, 8102, 8103),
	[ 8084, 'one.example', @address ],

	# what no host's name can be is none

	(map {
		my $server = $_;
		map { [ $server, $_, @rejected ] } 'unix:/etc/passwd',
			"unix:$d/unix.sock", '127.0.0.1', '::1', '[::1]',
			'::ffff:127.0.0.1', 'reject close',
			"good.example:$port{8092}", "good.example\0",
			"good.example\0.evil.example", "n\xe4me.example",
			'.', '..', '.good.example', 'good..example',
			'*.example', 'a b', '$host', 'a' x 64,
			'a.' x 126 . 'ab', 'good.example ', "good\x0a", '%67',
			'good@example', '../unix'
	} 8089, 8090),

	[ 8089, undef, @rejected ],
	[ 8090, 'reject', @rejected ],
	[ 8090, 'REJECT', @rejected ],
	[ 8090, 'good.example', @wrong ],

	# a group's name and a port is a host

	[ 8089, 'group', 502, 'resolve_failed', INTERNAL . ' EOF' ],

	# of a path, they can only be one part

	(map { [ 8100, $_, 502, 'refused', INTERNAL . ' EOF' ] } '../unix',
		'unix.sock/../unix', 'none', "$d/unix", "unix\0", undef),
	[ 8100, join('.', ('a' x 60) x 4), @wrong ],

	# addresses in other words

	(map { [ 8089, $_, '(?:40[03]|502)', '(?:bad_request|rejected|'
		. 'denied_name|denied_address|resolve_failed)',
		qr/^150303000202\w\w EOF$/ ] }
		'2130706433', '0x7f000001', '127.1', '0177.0.0.1',
		'0x7f.0.0.1', '127.0.0.1.', '017700000001'),
);

$t->plan(3 * @good + 2 * @bad + 39);
$t->run();

###############################################################################

for my $case (@good) {
	my ($number, $sni, $who, $target, $address) = @$case;

	my $name = "$number, " . (defined $sni ? $sni : 'no name');
	my $bytes = client_hello(defined $sni ? (sni => $sni) : ());
	my $expected = "$who:$bytes";
	my $size = length $bytes;
	my $host = defined $sni ? lc $sni : '-';

	my $s = session($t, port($number));
	write_all($s, $bytes);
	ok(read_n($s, length $expected) eq $expected, $name);
	half_close($s);
	is(ends($s), 'EOF', "$name, end");

	is(session_log($t, $s), "200 ok completed tls $host $host $target "
		. "$address $size " . length $expected, "$name, logged");
}

my @sessions;

for my $case (@bad) {
	my ($number, $sni, $status, $result, $end) = @$case;

	my $s = session($t, port($number));
	write_all($s, client_hello(defined $sni ? (sni => $sni) : ()));
	push @sessions, [ $s, $status, $result, $end, join ', ', $number,
		defined $sni ? $sni =~ s/([^!-~])/sprintf '\\x%02x', ord $1/ger
			: 'no name' ];
}

for (@sessions) {
	my ($s, undef, undef, $end, $name) = @$_;

	my $got = ends($s);
	close $s;

	ref $end ? like($got, $end, $name) : is($got, $end, $name);
}

for (@sessions) {
	my ($s, $status, $result, undef, $name) = @$_;

	like(session_log($t, $s), qr/^$status $result - tls \S+ \S+ \S+ - - -/,
		"$name, logged");
}

# by what it speaks

for my $case (
	[ 'http', "GET / HTTP/1.1\x0d\x0aHost: b.example\x0d\x0a\x0d\x0a",
		'two', 'b.example', $at{8092}, $at{8092} ],
	[ 'ssh', "SSH-2.0-x\x0d\x0a", 'unix', '-', '-', $unix ],
	[ 'timeout', '', 'three', '-', '-', $at{8093} ],
) {
	my ($protocol, $bytes, $who, $host, $target, $address) = @$case;

	my $s = session($t, port(8081));
	write_all($s, $bytes);
	is(read_n($s, length "$who:$bytes"), "$who:$bytes", $protocol);
	is(echo($s, 'more'), 'more', "$protocol, more");
	half_close($s);
	read_all($s);

	my $size = 4 + length $bytes;
	is(session_log($t, $s), "200 ok completed $protocol $host - $target "
		. "$address $size " . ($size + 1 + length $who),
		"$protocol, logged");
}

is(answer($t, 8081, "\xff\xfe\xfd"), 'RESET', 'unknown');
like(last_logged($t), qr/^403 rejected - unknown - - - - - -$/,
	'unknown, logged');
is(answer($t, 8081, "\x05\x01\x00"), 'EOF', 'socks5');
like(last_logged($t), qr/^403 rejected - socks5 - - - - - -$/,
	'socks5, logged');

# an HTTP client may name an address, and the rules see it; it is not told in
# the words of TLS

for my $case (
	[ 'good.example', "good.example:$port{8091}" ],
	[ 'Good.Example:99', "good.example:$port{8091}" ],
	[ '127.0.0.1', $at{8091} ],
	[ '127.0.0.1:99', $at{8091} ],
) {
	my ($host, $target) = @$case;

	my $s = session($t, port(8089));
	write_all($s, request($host));
	is(read_n($s, 4), 'one:', "Host: $host");
	half_close($s);
	read_all($s);
	like(session_log($t, $s), qr/^200 ok completed http \S+ - $target /,
		"Host: $host, logged");
}

for my $case (
	[ '[::1]', '403 denied_address' ], [ '10.0.0.1', '403 denied_address' ],
	[ '169.254.169.254', '403 denied_address' ],
	[ '[::ffff:10.0.0.1]', '403 denied_address' ],
	[ 'unix:/etc/passwd', '403 rejected' ], [ 'a b', '403 rejected' ],
	[ 'user@good.example', '403 rejected' ], [ '', '403 rejected' ],
) {
	my ($host, $result) = @$case;

	like(answer($t, 8089, request($host)), qr/^(?:EOF|RESET)\z/,
		"Host: $host");
	like(last_logged($t), qr/^$result - http /, "Host: $host, logged");
}

# what would be denied, is said

ok(wait_log($t, 'error.log', qr/\[warn\].* "127\.0\.0\.1:\d+" would /
	. qr/be denied by "target_deny 127\.0\.0\.1:\*"/), 'dry run, logged');
ok(wait_log($t, 'error.log', qr/\[warn\].* unix:\S+ would be denied by /
	. qr/"target_deny_address unix:"/), 'dry run, unix socket, logged');

###############################################################################

sub request {
	my ($host) = @_;

	return "GET / HTTP/1.1\x0d\x0aHost: $host\x0d\x0a\x0d\x0a";
}

my $last;

sub answer {
	my ($t, $number, $bytes) = @_;

	$last = session($t, port($number));
	write_all($last, $bytes);

	my $end = ends($last);
	close $last;

	return $end;
}

sub last_logged {
	my ($t) = @_;

	return session_log($t, $last);
}

###############################################################################
