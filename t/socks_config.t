#!/usr/bin/perl

# Tests for ngx_stream_socks_module: what nginx -t says about its directives,
# how they are inherited, the modules around it, and what a reload or a stop
# does to clients in every stage of the negotiation.

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

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_access stream_geo
	stream_limit_conn stream_map stream_return http/);

my $d = $t->testdir();
my $log = socks_log();

# what the messages are made of

my $versions = 'in "socks" directive, it must be "4" or "4a" or "5"';
my $time = 'it must be a time, such as 500ms, 10s, 5m, or 1h';
my $flag = 'it must be "on" or "off"';
my $auth = '"none", or "basic", a realm, and a file';
my $address = 'it must be "off" or an IP address without a port';
my $four = '"socks_auth" is for SOCKS5 only, and SOCKS4 needs "socks_userid" '
	. 'beside it';
my $other = 'is in a server that has another handler, such as "proxy_pass"';

my @bad = (
	(map { [ "socks $_->[0]", qq/invalid value "$_->[1]" $versions/ ] }
		[ '6', '6' ], [ '5a', '5a' ], [ '""', '' ],
		[ 'socks5', 'socks5' ], [ '4 x', 'x' ], [ '5 4 4b', '4b' ],
		[ '$remote_addr', '$remote_addr' ]),
	[ 'socks; socks', '"socks" directive is duplicate' ],
	[ 'socks 4; socks 5', '"socks" directive is duplicate' ],

	# other handlers

	[ 'socks; proxy_pass 127.0.0.1:1', qq/"socks" directive $other/ ],
	[ 'socks; return x', qq/"socks" directive $other/ ],
	[ 'socks; passthrough 127.0.0.1:1',
		qq/"passthrough" directive $other/ ],
	(map { [ "$_; socks", qq/"socks" directive $other/ ] }
		'proxy_pass 127.0.0.1:1', 'passthrough 127.0.0.1:1',
		'return x'),

	# times

	(map { my $directive = $_; map {
		[ "$directive " . (length ? $_ : '""'), qq/invalid value "$_" /
			. qq/in "$directive" directive, $time/ ]
	} 'x', '-1', '', '1q', 'off' } qw/ socks_handshake_timeout
		socks_auth_delay socks_bind_timeout /),

	# flags

	(map { my $directive = $_; map {
		[ "$directive $_",
			qq/invalid value "$_" in "$directive" directive, $flag/ ]
	} 'yes', '1' } qw/ socks_bind socks_udp tunnel_anonymous_log /),

	# users

	(map { [ "socks_auth $_", qq/invalid value "/ . (split)[0]
		. qq/" in "socks_auth" directive, it must be $auth/ ] }
		'digest', 'Basic', 'basic'),
	[ 'socks_auth ""', qq/invalid value "" in "socks_auth" directive, /
		. "it must be $auth" ],
	(map { [ "socks_auth $_ realm users", qq/invalid value "$_" in /
		. '"socks_auth" directive, it must be "basic" with a realm '
		. 'and a file' ] } 'digest', 'Basic', 'none'),
	[ 'socks_auth basic realm ""',
		'"socks_auth" directive has an empty file name' ],
	[ 'socks_auth basic realm $nosuch', 'unknown "nosuch" variable' ],
	[ 'socks_auth none; socks_auth none',
		'"socks_auth" directive is duplicate' ],

	(map { [ "$_ socks_auth basic realm users", $four ] } 'socks 4;',
		'socks 4a;', 'socks 4 4a;'),
	[ 'socks_auth basic realm users; socks 4', $four ],

	# userids

	[ 'socks_userid ~', 'empty regex in userid "~"' ],
	[ 'socks_userid a ~*', 'empty regex in userid "~*"' ],
	[ 'socks_userid ~(', qr/^\[emerg\] pcre2?_compile\(\) failed: / ],
	[ 'socks_userid a ~*[', qr/^\[emerg\] pcre2?_compile\(\) failed: / ],

	(map { [ "socks_userid $_->[0]", qq/invalid value "$_->[1]" in /
		. '"socks_userid" directive, it must be the only one then' ] }
		[ 'any off', 'any' ], [ 'any name', 'any' ],
		[ 'name any', 'any' ], [ 'off ~^a', 'off' ],
		[ 'name name off', 'off' ]),

	# what would never end

	(map { [ $_, '"socks_handshake_timeout" and "socks_bind_timeout" must '
		. 'not be 0' ] } 'socks_handshake_timeout 0',
		'socks_bind_timeout 0s'),

	# addresses

	(map { [ 'socks_bind_address ' . (length ? $_ : '""'),
		qq/invalid value "$_" in "socks_bind_address" directive, /
		. $address ] } 'nosuch', '127.0.0.1:80', '[::1]:80', '127.0.0',
		'10.0.0.0/8', 'unix:/x', 'on', ''),
);

# numbers of parameters

my @counts = (
	'socks_auth', 'socks_auth basic realm file x', 'socks_userid',
	(map { ($_, "$_ 1s 1s") } qw/ socks_handshake_timeout socks_auth_delay
		socks_bind_timeout /),
	(map { ($_, "$_ on off") } qw/ socks_bind socks_udp
		socks_bind_address tunnel_anonymous_log /),
	'socks_auth none realm', 'socks_auth basic realm',
);

# values that are taken, the first in every context

my %good = (
	socks_handshake_timeout	=> [ '10s', '500ms', '1m', '60' ],
	socks_auth		=> [ 'basic realm users', 'none',
		'basic "a realm" /some/file', 'basic realm $remote_addr' ],
	socks_auth_delay	=> [ '1s', '0', '100ms' ],
	socks_userid		=> [ 'any', 'off', 'name', 'a b c', '~^a$',
		'~*^a$ b', '"a b"' ],
	socks_bind		=> [ 'on', 'off' ],
	socks_bind_address	=> [ '127.0.0.1', 'off', '::1' ],
	socks_bind_timeout	=> [ '1m', '500ms' ],
	socks_udp		=> [ 'on', 'off' ],
	tunnel_anonymous_log	=> [ 'on', 'off' ],
);

my @values = map { my $directive = $_; map { "$directive $_" }
	@{$good{$directive}} } sort keys %good;

my @socks = ('socks', 'socks 4', 'socks 4A', 'socks 4a', 'socks 5', 'socks 4 4a',
	'socks 5 4', 'socks 4 4a 5',
	'socks 5; socks_auth basic realm users; socks_userid any',
	'socks 4; socks_auth none; socks_userid any',
	'socks 4; socks_auth basic realm users; socks_userid a',
	'socks 4 4a; socks_userid off',
	'socks 4; socks_auth none', 'socks 4 5; socks_auth basic realm users');

# where they may not stand

my %wrong = (
	main		=> sub { ($_[0], '', '') },
	events		=> sub { ('', $_[0], '') },
	upstream	=> sub { ('', '', "upstream u { $_[0] }") },
);

my @wrong = (
	(map { my $directive = $_; map { [ "$directive $good{$directive}[0]",
		$directive, $_ ] } sort keys %wrong } sort keys %good),
	(map { [ 'socks', 'socks', $_ ] } sort(keys %wrong), 'stream'),
);

$wrong{stream} = sub { ('', '', $_[0]) };

$t->plan(2 * @bad + @counts + 2 * @values + @socks + @wrong + 146
	+ ($t->has_module('--with-poll_module') ? 2 : 0));

###############################################################################

for my $case (@bad) {
	my ($text, $message) = @$case;

	$text = "socks; $text" unless $text =~ /\bsocks[ ;]|\bsocks$/;

	my ($rc, @lines) = check($t, "$text;");

	is(scalar(@lines), 1, "$text - one message") or diag("@lines");

	if (ref $message) {
		like($lines[0], $message, $text);

	} else {
		is($lines[0], "[emerg] $message", $text);
	}
}

for my $text (@counts) {
	my ($directive) = $text =~ /(\w+)/;

	is(join(' ', check($t, "$text;")), '1 [emerg] invalid number of '
		. qq/arguments in "$directive" directive/, $text);
}

for my $text (@values) {
	is(join(' ', check($t, "socks; $text;")), 0, $text);
	is(join(' ', check($t, 'socks;', "$text;")), 0, "$text in stream");
}

for my $text (@socks) {
	is(join(' ', check($t, "$text;")), 0, $text);
}

for my $directive (sort keys %good) {
	my $text = "$directive $good{$directive}[0];";

	is(join(' ', check($t, "socks; $text $text")),
		qq/1 [emerg] "$directive" directive is duplicate/,
		"$directive duplicate");
	is(join(' ', check($t, "socks; $text", $text)), 0,
		"$directive in both");
	is(join(' ', check($t, $text)), 0, "$directive without socks");
}

for my $case (@wrong) {
	my ($text, $directive, $context) = @$case;

	is(join(' ', check_text($t, $wrong{$context}->("$text;"))),
		qq/1 [emerg] "$directive" directive is not allowed here/,
		"$directive in $context");
}

is(join(' ', check($t, 'socks 4 5 4;')), '0 [warn] duplicate value "4" in '
	. '"socks" directive', 'a version twice');

# inherited basic, and a server that cannot have it

is(join(' ', check($t, 'socks 4;', 'socks_auth basic realm users;')),
	"1 [emerg] $four", 'socks 4 with inherited users');
is(join(' ', check($t, 'socks 4; socks_auth none;',
	'socks_auth basic realm users;')), 0, 'socks 4 without them');
is(join(' ', check($t, 'socks 4;',
	'socks_auth basic realm users; socks_userid name;')), 0,
	'socks 4 with inherited userids');

# an open door

for my $versions ('', '4 ', '4a 5') {
	is(join(' ', check($t, "socks $versions; socks_userid any;",
		'socks_auth basic realm users;')), '0 [warn] "socks_userid '
		. 'any" lets clients of SOCKS4 in without the passwords of '
		. '"socks_auth"', "socks $versions, passwords, and any userid");
}

# threads cannot notify all event methods

if ($t->has_module('--with-poll_module')) {
	my $server = 'server { listen 127.0.0.1:8080; socks; '
		. 'socks_auth basic realm users; }';

	is(join(' ', check_text($t, '', 'use poll;', $server)), 0,
		'passwords without threads');
	is(join(' ', check_text($t, '', 'use epoll;', $server)), 0,
		'passwords with threads');
}

###############################################################################

# inheritance, and other modules

port(8980, udp => 1);

configure($t);

my $p = port(8091);

$t->write_file('users', "name:{PLAIN}password\n");
$t->write_file('hash', 'name:' . crypt('password',
	'$6$rounds=2000000$saltsalt') . "\n");

start_daemon($t, \&echo_daemon, $p);
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'late.example' => { A => [ '127.0.0.1' ], delay => 1 },
		'silent.example' => 'TIMEOUT',
	});

my $full = full_backlog(port(8095));

$t->waitforfile("$d/dns.log");
$t->run();

my ($pid) = workers($t);
my $refused = socks4_hex(91);
my $wrong = socks4_hex(93);
my $host = '127.0.0.1';

# directives of stream {} are those of a server that has none

my $s = socks_client($t, port(8080));
my $other_s = socks_client($t, port(8081));

is(ends($s, 3), 'EOF', 'socks_handshake_timeout of stream');
like(socks_logged($t, $s), qr/^408 handshake_timeout /,
	'socks_handshake_timeout of stream, logged');
write_all($other_s, socks5_greeting());
is(unpack('H*', read_n($other_s, 2)), '0500',
	'socks_handshake_timeout of a server');
close $other_s;

socks_answer($t, port(8080), socks5_greeting(0), '05ff',
	'407 auth_failed - 5 ', 'socks_auth of stream');
socks_good($t, '5', port(8080), $host, $p, 'a user',
	auth => [ 'name', 'password' ]);
socks_good($t, '5', port(8081), $host, $p, 'socks_auth of a server');

socks_good($t, '4', port(8080), $host, $p, 'socks_userid of stream',
	user => 'one');
is(ask(8080, socks_request('4', $host, $p, user => 'two')), "$wrong EOF",
	'socks_userid of stream, wrong');
socks_good($t, '4', port(8081), $host, $p, 'socks_userid of a server',
	user => 'two');
is(ask(8081, socks_request('4', $host, $p, user => 'one')), "$wrong EOF",
	'socks_userid of a server, wrong');

my $start = time();
is(ask(8080, socks5_greeting(2) . socks5_auth('name', 'no')), '05020101 EOF',
	'socks_auth_delay of stream');
cmp_ok(time() - $start, '<', 0.9, 'which is short');

$start = time();
is(ask(8082, socks5_greeting(2) . socks5_auth('name', 'no')), '05020101 EOF',
	'socks_auth_delay of a server');
cmp_ok(time() - $start, '>', 0.9, 'which is long');

# off in 8081

for my $command (2, 3) {
	my $bytes = socks5_greeting(2) . socks5_auth('name', 'password')
		. socks5_request('0.0.0.0', 0, cmd => $command);

	$s = tcp_connect(port(8080));
	write_all($s, $bytes);
	is(unpack('H*', read_n($s, 6)), '050201000500',
		"command $command, on in stream");
	close $s;

	is(ask(8081, socks5_greeting() . socks5_request('0.0.0.0', 0,
		cmd => $command)), '0500' . socks5_hex(7) . ' EOF',
		"command $command, off in a server");
}

# variables: in logs, in map, and in values

is(socks_good($t, '5', port(8083), $host, $p, 'variables',
	auth => [ 'name', 'password' ]),
	qq/200 ok completed 5 connect "name" $host:$p 5 5/,
	'variables, logged');
ok(wait_log($t, 'map.log', qr/^5 connect name by-name by-5 here$/),
	'variables in map');

socks_good($t, '4a', port(8083), $host, $p, 'variables of SOCKS4a',
	user => 'one');
ok(wait_log($t, 'map.log', qr/^4a connect one other by-4 here$/),
	'variables of SOCKS4a in map');

ask(8083, socks_request('4', $host, $p, user => 'one', cmd => 3));
ok(wait_log($t, 'map.log', qr/^4 - one other by-4 here$/),
	'variables of another command in map');

ask(8083, '');
ask(8083, 'x');
ok(wait_log($t, 'map.log', qr/^- - - other none here$/, undef, 2),
	'variables of nothing');

# a policy by the user

my ($limited) = socks_open($t, '5', port(8084), $host, $p,
	auth => [ 'name', 'password' ]);
is(echo($limited, 'hello'), 'hello', 'relay_max_payload by $socks_user');
write_all($limited, 'and more');
read_all($limited);
like(socks_logged($t, $limited), qr/^200 ok max_payload .* 5 \d+$/,
	'relay_max_payload by $socks_user, logged');

like(socks_good($t, '4', port(8084), $host, $p, 'another user', user => 'one'),
	qr/^200 ok completed /, 'another user, logged');

# allow, deny, geo, limit_conn: before SOCKS says anything

for my $number (8085, 8086) {
	$s = socks_client($t, port($number));
	write_all($s, socks_request('4', $host, $p, user => 'one'));
	like(ends($s), qr/^(?:EOF|RESET)$/, "denied, $number");
	like(socks_logged($t, $s), qr/^403 - - - - "-" - - -$/,
		"denied, $number, logged");
}

socks_good($t, '4', port(8087), $host, $p, 'allowed', user => 'one');

my ($first) = socks_open($t, '4', port(8088), $host, $p, user => 'one');
is(echo($first, 'hello'), 'hello', 'limit_conn');
$s = socks_client($t, port(8088));
write_all($s, socks_request('4', $host, $p, user => 'one'));
like(ends($s), qr/^(?:EOF|RESET)$/, 'limit_conn, one more');
like(socks_logged($t, $s), qr/^503 - - - - "-" - - -$/,
	'limit_conn, one more, logged');
half_close($first);
read_all($first);
socks_logged($t, $first);
socks_good($t, '4', port(8088), $host, $p, 'limit_conn, again', user => 'one');

# tunnel_anonymous_log

for my $number (8089, 8090) {
	my $own = port($number);

	for my $bytes (
		socks_request('4', '10.0.0.1', 80, user => 'one'),
		socks_request('4', $host, port(8099), user => 'one'),
		socks_request('4', $host, $p, user => 'no'),
		socks_request('4', $host, 0, user => 'one'),
		socks5_greeting(9),
		socks5_greeting(2) . socks5_auth('name', 'no'),
		socks5_greeting(2) . socks5_auth('name', 'password')
			. socks5_request('denied.example', 80),
		"\x07",
	) {
		ask($number, $bytes);
	}

	socks_good($t, '5', $own, $host, $p, "a tunnel, $number",
		auth => [ 'name', 'password' ]);

	my $file = $number == 8089 ? 'anonymous.log' : 'named.log';
	ok(wait_log($t, $file, qr/ ended: completed/), "in $file");

	my @lines = grep { !/\[(?:debug|notice)\]/ } log_lines($t, $file);
	my @failed = grep { /failed: \w+/ } @lines;
	my @with = grep { /client: / } @lines;

	cmp_ok(@failed, '>=', 6, "failures in $file");

	if ($number == 8089) {
		is("@with", '', 'no client with tunnel_anonymous_log');
		is(scalar(grep { /server: / } @failed), @failed,
			'but the server');

	} else {
		is(scalar(grep { /client: 127\.0\.0\.1/ } @failed), @failed,
			'clients without it');
	}
}

###############################################################################

# reload: every stage goes on

my @stages = stages($t);
my ($ready) = socks_open($t, '5', port(8082), $host, $p,
	auth => [ 'name', 'password' ]);

$t->reload();
my $new = new_worker($t, $pid);
ok($new, 'reload');

write_all($_->[1], $_->[2]) for @stages;

for my $stage (@stages) {
	my ($name, $s, $rest, $expected) = @$stage;

	my $got = unpack 'H*', read_n($s, length($expected) / 2);
	is($got, $expected, "after a reload, $name");
	close $s;
}

is(echo($ready, 'hello'), 'hello', 'after a reload, a tunnel');
close $ready;

ok(wait_for(sub { !kill 0, $pid }, 10), 'old worker ends');
$pid = $new;

# clients that do nothing end by their timeouts

@stages = stages($t);
configure($t, 'worker_shutdown_timeout 1s;');
$t->reload();
$new = new_worker($t, $pid);
ok(wait_for(sub { !kill 0, $pid }, 10), 'old worker ends by its timeout');
close $_->[1] for @stages;
$pid = $new;

# worker_shutdown_timeout

@stages = stages($t);
$start = time();
$t->reload();
$new = new_worker($t, $pid);
ok(wait_for(sub { !kill 0, $pid }, 10), 'worker_shutdown_timeout');
cmp_ok(time() - $start, '<', 5, 'in time');
isnt((read_all($_->[1], 2))[1], 'TIMEOUT', "and it ends, $_->[0]") for @stages;

# stop

@stages = stages($t);
kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !-e "$d/nginx.pid" }, 10), 'QUIT');
isnt((read_all($_->[1], 2))[1], 'TIMEOUT', "QUIT, $_->[0]") for @stages;

$t->run();
@stages = stages($t);
kill 'TERM', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !-e "$d/nginx.pid" }, 10), 'TERM');
isnt((read_all($_->[1], 2))[1], 'TIMEOUT', "TERM, $_->[0]") for @stages;

$t->run();

###############################################################################

# Clients which have come so far: name, socket, what is left to be said, and
# what is then to be read, in hex.

sub stages {
	my ($t) = @_;

	my $port = port(8091);
	my $whole = socks_request('5', '127.0.0.1', $port,
		auth => [ 'name', 'password' ]);
	my $four = socks_request('4a', '127.0.0.1', $port, user => 'one');
	my $late = socks_request('5', 'late.example', $port,
		auth => [ 'name', 'password' ]);
	my $slow = socks_request('5', '127.0.0.1', port(8095),
		auth => [ 'name', 'password' ]);
	my $good = '05000001';

	my @stages;

	for my $case (
		[ 'nothing', $whole, 0, 0, "05020100$good" ],
		[ 'half a greeting', $whole, 2, 0, "05020100$good" ],
		[ 'greeting', $whole, 3, 2, "0100$good" ],
		[ 'half a password', $whole, 8, 2, "0100$good" ],
		[ 'password', $whole, 18, 4, $good ],
		[ 'half a request', $whole, 22, 4, $good ],
		[ 'SOCKS4', $four, 1, 0, '005a' ],
		[ 'half a SOCKS4a', $four, 14, 0, '005a' ],
		[ 'a name', $late, length $late, 4, $good ],
		[ 'a target that does not answer', $slow, length $slow, 4,
			'05040001' ],
		[ 'a hash', $whole, 18, 2, "0100$good", 8071 ],
		[ 'a failure', socks5_greeting(2) . socks5_auth('name', 'no'),
			undef, 2, '0101', 8072 ],
		[ 'a userid', socks_request('4', '127.0.0.1', $port,
			user => 'two'), undef, 0, '005d', 8072 ],
		[ 'a refusal', socks_request('4', '10.0.0.1', 80,
			user => 'one'), undef, 2, '00000000' ],
	) {
		my ($name, $bytes, $n, $read, $expected, $number) = @$case;

		$n = length $bytes unless defined $n;

		my $s = tcp_connect(port($number || 8070));
		write_all($s, substr($bytes, 0, $n));
		read_n($s, $read);

		push @stages, [ $name, $s, substr($bytes, $n), $expected ];
	}

	# the connection of each has been accepted

	my ($pid) = workers($t);
	wait_for(sub { tcp_count($pid) >= @stages }, 2);

	return @stages;
}

sub ask {
	my ($number, $bytes) = @_;

	my $s = tcp_connect(port($number));
	write_all($s, $bytes);
	half_close($s) if $bytes eq '';

	return ends($s);
}

sub configure {
	my ($t, $main) = @_;

	my $format = socks_log();
	$main = '' unless defined $main;

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$main

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    $format

    log_format map '\$socks_version \$socks_command \$socks_user '
                   '\$by_user \$by_version \$where';

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    target_connect_timeout 1500ms;

    target_allow *:*;
    target_deny denied.example:*;
    target_deny_address all;
    target_allow_address 127.0.0.0/8;

    map \$socks_user \$by_user {
        name     by-name;
        default  other;
    }

    map \$socks_version \$by_version {
        5        by-5;
        ~^4      by-4;
        default  none;
    }

    map \$socks_user \$payload {
        name     5;
        default  '';
    }

    geo \$where {
        127.0.0.0/8  here;
        default      there;
    }

    limit_conn_zone \$binary_remote_addr zone=addr:1m;

    socks_handshake_timeout 1s;
    socks_auth basic realm users;
    socks_auth_delay 50ms;
    socks_userid one;
    socks_bind on;
    socks_udp on;

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_handshake_timeout 30s;
        socks_auth none;
        socks_auth_delay 0;
        socks_userid two;
        socks_bind off;
        socks_udp off;
    }

    server {
        listen 127.0.0.1:8082;
        socks;
        socks_auth_delay 1s;
        socks_handshake_timeout 5s;
    }

    server {
        listen 127.0.0.1:8083;
        socks;
        access_log %%TESTDIR%%/map.log map;
        access_log %%TESTDIR%%/tunnel.log socks;
    }

    server {
        listen 127.0.0.1:8084;
        socks;
        relay_max_payload \$payload upload;
    }

    server {
        listen 127.0.0.1:8085;
        socks;
        deny all;
    }

    server {
        listen 127.0.0.1:8086;
        socks;
        allow 192.0.2.1;
        deny 127.0.0.1;
    }

    server {
        listen 127.0.0.1:8087;
        socks;
        allow 127.0.0.1;
        deny all;
    }

    server {
        listen 127.0.0.1:8088;
        socks;
        limit_conn addr 1;
    }

    server {
        listen 127.0.0.1:8089;
        socks;
        tunnel_anonymous_log on;
        error_log %%TESTDIR%%/anonymous.log info;
    }

    server {
        listen 127.0.0.1:8090;
        socks;
        error_log %%TESTDIR%%/named.log info;
    }

    # stages

    server {
        listen 127.0.0.1:8070;
        socks;
        relay_idle_timeout 2s;
        socks_handshake_timeout 7s;
    }

    server {
        listen 127.0.0.1:8071;
        socks;
        socks_auth basic realm hash;
        socks_handshake_timeout 7s;
    }

    server {
        listen 127.0.0.1:8072;
        socks;
        socks_auth_delay 2s;
        socks_handshake_timeout 7s;
    }
}

EOF
}

# What nginx -t says: 0 or 1, and the messages without their place.

sub check {
	my ($t, $server, $stream) = @_;

	$stream = '' unless defined $stream;

	$server = "$server return x;"
		unless $server =~ /\b(?:socks[ ;]|passthrough|proxy_pass)/;

	return check_text($t, '', '', <<"EOF");
$stream
server { listen 127.0.0.1:8080; $server }
EOF
}

sub check_text {
	my ($t, $main, $events, $stream) = @_;

	# not the files of the nginx that runs later

	(my $globals = $t->test_globals()) =~ s!/nginx\.pid!/check.pid!;
	$globals =~ s!/error\.log!/check.log!;

	$t->write_file_expand('check.conf', <<"EOF");
$globals
$main
events { $events }
stream {
%%TEST_GLOBALS_STREAM%%
resolver 127.0.0.1;
$stream
}
EOF

	my $dir = $t->testdir();
	my @lines = split /\n/, `'$Test::Nginx::NGINX' -t -p '$dir' -c \\
		'$dir/check.conf' -e check.log 2>&1`;
	my $rc = $? >> 8;

	@lines = grep { !/syntax is ok$|test is successful$| test failed$/ }
		@lines;
	s/^nginx: // for @lines;
	s! in \S+/check\.conf:\d+$!! for @lines;

	return ($rc, @lines);
}

###############################################################################
