#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: every protocol through one port,
# in any pieces, protocols of the configuration, what happens at the timeout,
# at the end of data and when the buffer is full, and the modules around it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks qw/ socks_client socks_logged /;
use Test::Nginx::Hello;

use IO::Select;
use IO::Socket::INET;
use Socket qw/ CRLF /;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl stream stream_map
	stream_return stream_ssl socket_ssl/)
	->has('--with-stream_ssl_preread_module');

my $poll = $t->has_module('--with-poll_module');
my $pass = $t->has_version('1.25.5') && $t->build_info() !~ /freenginx/
	&& !$t->has_module('--without-stream_pass_module');

my @samples = samples();
my @defined = defined_cases();
my @halves = halves();
my @cuts = cuts();
my @sizes = sizes();
my @http = http_cases();

use constant PASS_TESTS => 7;

my $core = 7 * @samples + @defined + 2 * @halves + 4 * @cuts + 25;

$t->plan($core * ($poll ? 2 : 1) + 2 * @sizes + @http + 47 + PASS_TESTS);

my $d = $t->testdir();

port(8980, udp => 1);

make_cert($t, 'localhost');

# each of them tells its name, and at the end what it has got

my %backend;

for my $name (backends()) {
	$backend{$name} = 8101 + keys %backend;

	start_daemon($t, \&half_close_daemon, port($backend{$name}),
		greeting => "$name\n");
}

start_daemon($t, \&echo_daemon, port(8091));

configure($t, '', $pass, %backend);

$t->run();

###############################################################################

core_tests($t, '');

###############################################################################

# What does not decide in the buffer is unknown, and nothing of it is lost.

for my $case (@sizes) {
	my ($what, $bytes, $name) = @$case;

	for my $way ('whole', 'in pieces') {
		my $s = socks_client($t, port(8072));
		is(ask($s, $bytes, $way eq 'whole' ? ()
			: (1, 5, 1020 .. 1030, step => 100, delay => 0.003)),
			"$name\n" . summary($bytes), "$what, $way");
	}
}

###############################################################################

# What a request is, and whom it names.

for my $case (@http) {
	my ($bytes, $expected) = @$case;

	my @wrong;
	my $n = length $bytes;

	for my $way ([], [ 1, int($n / 2), $n - 1 ], [ 1 .. $n ]) {
		my $s = tcp_connect(port(8086));
		send_split($s, $bytes, @$way,
			delay => @$way == 3 ? 0.002 : 0);
		my $got = read_line($s);
		close $s;

		push @wrong, scalar(@$way) . " cuts: $got"
			if $got ne "$expected\n";
	}

	is("@wrong", '', "$expected by " . printable($bytes));
}

###############################################################################

# Under TLS it is the bytes inside that count.

for my $case (
	[ 'ssh', "SSH-2.0-x\r\n" ],
	[ 'http', "GET / HTTP/1.0\r\nHost: inside.example\r\n\r\n",
		'inside.example' ],
	[ 'tls', hello(sni => 'inside.example'), 'inside.example' ],
	[ 'unknown', "\x07\xfe" ],
) {
	my ($name, $bytes, $host) = @$case;

	for my $way (0, 1) {
		my $s = socks_client($t, port(8073), ssl => 1,
			sni => 'outside.example');
		my $all = $bytes . pattern(20000);
		my @pieces = $way ? (1, 3, length($bytes) - 1) : ();

		is(ask($s, $all, @pieces), "$name\n" . summary($all),
			"listen ssl, $name, "
			. ($way ? 'in pieces' : 'whole'));
		like(socks_logged($t, $s), qr/^200 $name "@{[$host || '-']}" /,
			"listen ssl, $name, logged");
	}
}

my $s = socks_client($t, port(8073), ssl => 1);
is(read_line($s), "timeout\n", 'listen ssl, timeout');
is(ask($s, 'late', greeted => 1), summary('late'),
	'listen ssl, bytes behind the timeout');

$s = socks_client($t, port(8073), ssl => 1);
half_close($s);
is((read_all($s))[0], '', 'listen ssl, the end at once');
like(socks_logged($t, $s), qr/^499 - /, 'listen ssl, the end at once, logged');

# behind the PROXY protocol

for my $version ('v1', 'v2') {
	for my $way (0, 1) {
		my $header = proxy_protocol($version, src => '192.0.2.7');
		my $bytes = hello(sni => 'www.example.com');

		$s = socks_client($t, port(8074));
		write_all($s, $header) if $way;
		sleep 0.02 if $way;
		is(ask($s, $way ? $bytes : $header . $bytes,
			$way ? (step => 10) : ()), "tls\n" . summary($bytes),
			"proxy_protocol $version, "
			. ($way ? 'in pieces' : 'whole'));
		like(socks_logged($t, $s), qr/ 192\.0\.2\.7$/,
			"proxy_protocol $version, logged");
	}
}

# before the handlers of nginx, and SOCKS

for my $name ('tls', 'http', 'unknown') {
	my ($bytes) = map { $_->[2] } grep { $_->[1] eq $name } @samples;
	my $all = $bytes . pattern(30000);

	$s = socks_client($t, port(8075));
	is(ask($s, $all, 1, 4, length $bytes), "$name\n" . summary($all),
		"proxy_pass, $name");
}

for my $way (0, 1) {
	$s = socks_client($t, port(8076));
	send_split($s, socks5_greeting(), $way ? (step => 1) : ());
	is(unpack('H*', read_n($s, 2)), '0500', "socks, $way");
	send_split($s, socks5_request('127.0.0.1', port(8091)) . 'early',
		$way ? (step => 1) : ());
	is(unpack('H*', read_n($s, 4)), '05000001', "socks, answered, $way");
	read_n($s, 6);
	is(read_n($s, 5), 'early', "socks, echo, $way");
	half_close($s);
	read_all($s);
	like(socks_logged($t, $s), qr/^200 socks5 /, "socks, logged, $way");
}

# ssl_preread beside it, in a server of its own and in one

for my $number (8077, 8078) {
	for my $way (0, 1) {
		my $bytes = hello(sni => 'TLS') . pattern(20000);

		$s = socks_client($t, port($number));
		is(ask($s, $bytes, $way ? (1, 5, 30, 100) : ()),
			"tls\n" . summary($bytes),
			"ssl_preread, $number, $way");
	}
}

$s = socks_client($t, port(8078));
is(ask($s, "SSH-2.0-x\r\n"), "unknown\n" . summary("SSH-2.0-x\r\n"),
	'ssl_preread and another protocol');
like(socks_logged($t, $s), qr/^200 ssh /, 'which is known');

# datagrams

my $udp = IO::Socket::INET->new(Proto => 'udp',
	PeerAddr => '127.0.0.1:' . port(8980, udp => 1));
$udp->send("SSH-2.0-x\r\n");
my $answer = '';
$udp->recv($answer, 100) if IO::Select->new($udp)->can_read(8);
is($answer, 'none:', 'not for datagrams');

# all of the protocols that nginx can pass on within itself

SKIP: {
	skip 'no pass', PASS_TESTS unless $pass;

	for my $way (0, 1) {
		my @step = $way ? (step => 3) : ();

		$s = socks_client($t, port(8079));
		send_split($s, "GET / HTTP/1.0\r\n\r\n", @step);
		my $id = $s->sockport();
		like(read_all($s), qr/\x0d\x0a\x0d\x0ahttp $id$/,
			"pass, http, $way");

		my $bytes = "SSH-2.0-x\r\n" . pattern(20000);
		$s = socks_client($t, port(8079));
		is(ask($s, $bytes, $way ? (1, 3, 5) : ()),
			"ssh\n" . summary($bytes), "pass, another port, $way");
	}

	$s = client_connect(port(8079), ssl => 1, sni => 'www.example.com');
	my $id = $s->sockport();
	write_all($s, "GET / HTTP/1.0\r\n\r\n");
	like(read_all($s), qr/\x0d\x0a\x0d\x0ahttps $id$/, 'pass, https');

	$s = socks_client($t, port(8079));
	is(read_line($s), "timeout\n", 'pass, timeout');
	is(ask($s, 'late', greeted => 1), summary('late'),
		'pass, bytes behind the timeout');
}

# off

$s = tcp_connect(port(8071));
write_all($s, hello(sni => 'www.example.com'));
is(read_all($s), "none:\n", 'off');

###############################################################################

# the same for an event method that has no notice of the end of data

if ($poll) {
	$t->stop();
	configure($t, 'use poll;', $pass, %backend);
	$t->run();

	core_tests($t, ', poll');
}

###############################################################################

sub core_tests {
	my ($t, $note) = @_;

	my ($pid) = workers($t);

	one_port($t, $note);
	at_once($t, $note);
	definitions($t, $note);
	partial($t, $note);
	ends_of_data($t, $note);
	resets($t, $note);

	is((workers($t))[0], $pid, "worker lives$note");
	ok(wait_for(sub { tcp_count($pid) == 0 }),
		"no connection is left open$note");
}

# All at the same time, each with its own bytes, which reach its backend as
# they are and once.

sub one_port {
	my ($t, $note) = @_;

	my (@clients, $offset);

	for my $sample (samples()) {
		my ($what, $name, $head, @log) = @$sample;

		for my $way ('whole', 'in pieces', 'byte by byte') {
			my $bytes = $head . pattern(30000, $offset++ * 1000);
			my $n = length $head;

			my @points = $way eq 'whole' ? ()
				: $way eq 'in pieces'
					? (1, int($n / 2), $n - 1, $n + 100)
				: (1 .. ($n < 400 ? $n : 400));

			push @clients, {
				what	=> "$what, $way$note",
				name	=> $name,
				bytes	=> $bytes,
				pieces	=> [ pieces($bytes, @points) ],
				s	=> socks_client($t, port(8080)),
				log	=> join(' ', $name, @log),
			};
		}
	}

	my @silent = map { socks_client($t, port(8080)) } 1 .. 2;

	while (my @some = grep { @{$_->{pieces}} } @clients) {
		write_all($_->{s}, shift @{$_->{pieces}}) for @some;
		sleep 0.003;
	}

	$_->{got} = read_line($_->{s}) for @clients;
	half_close($_->{s}) for @clients;

	for my $c (@clients) {
		$c->{got} .= read_all($c->{s});
		close $c->{s};

		is($c->{got}, "$c->{name}\n" . summary($c->{bytes}),
			$c->{what});
	}

	for my $c (@clients) {
		my $n = length $c->{bytes};

		like(socks_logged($t, $c->{s}),
			qr/^200 \Q$c->{log}\E completed $n \d+ /,
			"$c->{what}, logged");
	}

	# who says nothing is served by a server that speaks first

	for my $i (1 .. @silent) {
		my $s = $silent[$i - 1];

		is(read_line($s), "timeout\n", "silent client $i$note");
		is(ask($s, "answer $i", greeted => 1), summary("answer $i"),
			"silent client $i, bytes$note");
		like(socks_logged($t, $s), qr/^200 timeout "-" - - - - - /,
			"silent client $i, logged$note");
	}

	# nor does it take the rest of the time

	my $start = time();
	my $s = socks_client($t, port(8070));
	is(read_line($s), "timeout\n", "silent client$note");
	my $took = time() - $start;
	ok($took > 0.4 && $took < 4, "silent client, in time$note")
		or diag("took $took");
	close $s;
	socks_logged($t, $s);
}

# What is known is not held up until the timeout, which is long here.

sub at_once {
	my ($t, $note) = @_;

	for my $sample (samples()) {
		my ($what, $name, $bytes) = @$sample;

		is(ask(socks_client($t, port(8085)), $bytes),
			"$name\n" . summary($bytes), "$what, at once$note");
	}
}

sub definitions {
	my ($t, $note) = @_;

	for my $case (defined_cases()) {
		my ($bytes, $name) = @$case;

		my (@wrong, @ways);

		push @ways, [], [ step => 1 ], map { [ $_ ] }
			1 .. (length $bytes < 12 ? length($bytes) - 1 : 11);

		for my $way (@ways) {
			my $got = protocol(8082, $bytes, @$way,
				delay => 0.003);
			push @wrong, "@$way: $got" if $got ne $name;
		}

		is("@wrong", '', "defined, $name by " . printable($bytes)
			. $note);
	}

	for my $case (
		[ 8083, 'own', 'own', 'of the server' ],
		[ 8083, "INHERIT\n", 'unknown', 'of stream, hidden' ],
		[ 8084, "INHERIT\n", 'inherited', 'of stream' ],
		[ 8084, "\x05\x01\x00", 'socks5', 'less than a prefix' ],
	) {
		my ($port, $bytes, $name, $what) = @$case;

		is(protocol($port, $bytes), $name, "defined, $what$note");
	}
}

# Half of it, and nothing more comes: all at once, since each of them waits.

sub partial {
	my ($t, $note) = @_;

	my @clients = map { tcp_connect(port(8081)) } halves();

	write_all($clients[$_], (halves())[$_]->[0]) for 0 .. $#clients;

	my @early = IO::Select->new(@clients)->can_read(0.6);
	is(scalar(@early), 0, "nothing is decided early$note");

	for my $case (halves()) {
		my ($bytes, $name, $host) = @$case;

		my $s = shift @clients;
		my $what = printable($bytes);

		is(read_line($s), $name . ':' . ($host || '') . "\n",
			"timeout behind $what$note");
		close $s;
	}

	# the end of data comes instead

	for my $case (halves()) {
		my ($bytes, $name, $host) = @$case;

		my $s = tcp_connect(port(8082));
		write_all($s, $bytes);
		half_close($s);
		is(read_line($s), $name . ':' . ($host || '') . "\n",
			'end behind ' . printable($bytes) . $note);
		close $s;
	}
}

sub ends_of_data {
	my ($t, $note) = @_;

	for my $case (cuts()) {
		my ($what, $bytes, $name) = @$case;

		for my $delay (0, 0.03) {
			my $s = socks_client($t, port(8085));

			write_all($s, $bytes);
			sleep $delay;
			is(ask($s, '', fin => 1), "$name\n" . summary($bytes),
				"end behind $what, $delay$note");
		}
	}

	my $s = socks_client($t, port(8085));
	half_close($s);
	is((read_all($s))[0], '', "only the end$note");
	like(socks_logged($t, $s), qr/^499 .* - - - - -$/,
		"only the end, logged$note");

	# and no one is connected to

	$s = socks_client($t, port(8085));
	sleep 0.05;
	close $s;
	like(socks_logged($t, $s), qr/^499 .* - - - - -$/,
		"connected and closed, logged$note");
}

# The timeout would be long.

sub resets {
	my ($t, $note) = @_;

	for my $case (cuts()) {
		my ($what, $bytes, $name, $decided) = @$case;

		for my $delay (0, 0.03) {
			my $s = socks_client($t, port(8085));

			write_all($s, $bytes);
			sleep $delay;
			reset_close($s);

			# a target may have been there before

			my $gone = qr/ client_reset /;
			my $re = $decided ? qr/^499 |^200 $name .*$gone/
				: qr/^499 |^200 unknown .*$gone/;

			like(socks_logged($t, $s), $re,
				"reset behind $what, $delay$note");
		}
	}

	for my $delay (0, 0.03) {
		my $s = socks_client($t, port(8085));

		sleep $delay;
		reset_close($s);
		like(socks_logged($t, $s), qr/^499 - /,
			"only a reset, $delay, logged$note");
	}

	# the silent ones wait with those of other protocols

	my @silent = map { socks_client($t, port(8085)) } 1 .. 3;
	my $s = socks_client($t, port(8085));
	is(ask($s, "SSH-2.0-x\r\n"), "ssh\n" . summary("SSH-2.0-x\r\n"),
		"others wait$note");
	reset_close($silent[0]);
	like(socks_logged($t, $silent[0]), qr/^499 - /, "one resets$note");
	write_all($silent[1], "\x07");
	is(read_line($silent[1]), "unknown\n", "one speaks$note");
	half_close($silent[1]);
	is(read_all($silent[1]), summary("\x07"), "one ends$note");
	close $silent[2];
	like(socks_logged($t, $silent[2]), qr/^499 - /, "one closes$note");
}

###############################################################################

# Writes, waits for the name of the backend, ends, and reads to the end.

sub ask {
	my ($s, $bytes, @split) = @_;

	my %opt;

	for my $name (qw/ fin greeted /) {
		next if @split < 2 || $split[0] ne $name;
		(undef, $opt{$name}) = splice @split, 0, 2;
	}

	send_split($s, $bytes, @split) if length $bytes;
	half_close($s) if $opt{fin};

	my $name = $opt{greeted} ? '' : read_line($s);
	$name = 'too late: ' if $name eq '' && !$opt{greeted};

	half_close($s) unless $opt{fin};
	my $got = $name . read_all($s);
	close $s;

	return $got;
}

sub read_line {
	my ($s) = @_;

	my $line = '';
	my $until = time() + 8;

	while ($line !~ /\n\z/ && time() < $until) {
		my ($byte, $state) = read_n($s, 1);
		last if $state ne 'OK';

		$line .= $byte;
	}

	return $line;
}

# What a server that returns it thinks.

sub protocol {
	my ($port, $bytes, @split) = @_;

	my $s = tcp_connect(port($port));
	send_split($s, $bytes, @split);
	my ($name) = read_line($s) =~ /^(.*?):/;
	close $s;

	return defined $name ? $name : 'nothing';
}

sub pieces {
	my ($bytes, @points) = @_;

	my ($done, @pieces) = (0);

	for my $end (@points, length $bytes) {
		next if $end <= $done;
		push @pieces, substr($bytes, $done, $end - $done);
		$done = $end;
	}

	return @pieces;
}

sub printable {
	my ($bytes) = @_;

	my $text = $bytes =~ s/([^ -~])/sprintf '\\x%02x', ord $1/egr;
	return length $text > 40 ? substr($text, 0, 37) . '...' : "\"$text\"";
}

###############################################################################

sub backends {
	return qw/ tls sslv2 http http2 ssh socks4 socks5 proxy_protocol rdp
		postgresql unknown timeout /;
}

# What it is, the name of the protocol, bytes, and what is logged of it: host,
# method, ALPN, the highest and the lowest version, ECH.

sub samples {
	my @none = ('-') x 4;
	my $cookie = "Cookie: mstshash=user\r\n";

	return (
		[ 'TLS', 'tls', hello(sni => 'WWW.example.com', tls13 => 1,
			alpn => [ 'h2', 'http/1.1' ]), '"www.example.com"',
			'-', 'h2,http/1.1', 'TLSv1.3', 'TLSv1.2', '-' ],
		[ 'TLS without a name', 'tls', hello(ech => 1), '"-"', '-',
			'-', 'TLSv1.2', '-', '1' ],
		[ 'TLS in many records', 'tls', hello(sni => 'a.example',
			record => 50), '"a.example"', '-', '-', 'TLSv1.2',
			'-', '-' ],
		[ 'SSLv2', 'sslv2', sslv2_hello(), '"-"', '-', @none ],
		[ 'HTTP', 'http', "GET /x HTTP/1.1\r\nAccept: */*\r\n"
			. "Host: WWW.example.com:8080\r\n\r\n",
			'"www.example.com"', 'GET', @none ],
		[ 'HTTP to a proxy', 'http', "POST http://a.example/ HTTP/1.1"
			. "\r\nHost: a.example\r\nContent-Length: 30000"
			. "\r\n\r\n", '"a.example"', 'POST', @none ],
		[ 'CONNECT', 'http', "CONNECT a.example:443 HTTP/1.1\r\n"
			. "Host: b.example:443\r\n\r\n", '"a.example"',
			'CONNECT', @none ],
		[ 'HTTP to an address', 'http', "M-SEARCH / HTTP/1.0\r\n"
			. "Host: [::1]:80\r\n\r\n", '"[::1]"', 'M-SEARCH',
			@none ],
		[ 'HTTP with two hosts', 'http', "GET / HTTP/1.1\r\n"
			. "Host: a.example\r\nHost: a.example\r\n\r\n", '"-"',
			'GET', @none ],
		[ 'HTTP/2', 'http2', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", '"-"',
			'-', @none ],
		[ 'SSH', 'ssh', "SSH-2.0-OpenSSH_9.2\r\n", '"-"', '-', @none ],
		[ 'SOCKS4', 'socks4', socks4_request('192.0.2.1', 443), '"-"',
			'-', @none ],
		[ 'SOCKS4a', 'socks4', socks4a_request('a.example', 443,
			cmd => 2), '"-"', '-', @none ],
		[ 'SOCKS5', 'socks5', socks5_greeting(0, 2), '"-"', '-',
			@none ],
		(map { [ "PROXY $_->[0]", 'proxy_protocol', $_->[1], '"-"',
			'-', @none ] } [ 'v1', proxy_protocol('v1') ],
			[ 'v1 IPv6', proxy_protocol('v1', src => '2001:db8::1',
				dst => '2001:db8::2') ],
			[ 'v2', proxy_protocol('v2') ],
			[ 'UNKNOWN', "PROXY UNKNOWN\r\n" ]),
		[ 'RDP', 'rdp', pack('C2 n C C n2 C C4 C2 v V', 3, 0, 19, 14,
			0xe0, 0, 0, 0, 1, 0, 8, 0) , '"-"', '-', @none ],
		[ 'RDP with a cookie', 'rdp', pack('C2 n C C n2 C', 3, 0,
			11 + length $cookie, 6 + length $cookie, 0xe0, 0, 0, 0)
			. $cookie, '"-"', '-', @none ],
		(map { [ "PostgreSQL, $_->[0]", 'postgresql', $_->[1], '"-"',
			'-', @none ] }
			[ 'startup', pack('N n2', 18, 3, 0)
				. "user\0me\0\0\0" ],
			[ 'SSLRequest', pack('N2', 8, 80877103) ],
			[ 'GSSENCRequest', pack('N2', 8, 80877104) ],
			[ 'CancelRequest', pack('N4', 16, 80877102, 1, 2) ]),
		[ 'anything', 'unknown', "\xff\x00\x02", '"-"', '-', @none ],
		[ 'a text', 'unknown', "hello, world\n", '"-"', '-', @none ],
	);
}

# Bytes, and which of the protocols of the server that is.

sub defined_cases {
	return (
		[ 'JOIN me', 'join' ],
		[ 'JOINT OPERATIONS', 'joint' ],
		[ "JOINT VENTURE\n", 'unknown' ],
		[ "\xde\xad\xbe\xef\x00\x00", 'hex' ],
		[ "\xde\xad\xbe\xee\x00\x00", 'unknown' ],
		[ "\x01", 'alt' ],
		[ 'XY', 'alt' ],
		[ 'hElLo there', 'alt' ],
		[ "\x02\x03", 'binary' ],
		[ "\x02\x04more", 'unknown' ],
		[ 'AB12', 'first' ],
		[ 'AB13', 'second' ],
		[ 'ABC', 'second' ],
		[ 'SSH-1.5-x', 'oldssh' ],
		[ 'SSH-2.0-x', 'ssh' ],
		[ "\x05\x03\x00\x01\x02", 'socks5' ],
		[ "a \"quoted\"\\\t\0\r\nA", 'escaped' ],
		[ "GET /special HTTP/1.0\r\n\r\n", 'special' ],
		[ "GET /other HTTP/1.0\r\n\r\n", 'http' ],
		[ "z\n\nz", 'lines' ],
	);
}

# Bytes that do not decide, what it is when no more come, and the host.

sub halves {
	my $head = "GET / HTTP/1.1\r\nHost: a.example\r\n";

	return (
		[ 'SSH', 'unknown' ],
		[ 'JOI', 'unknown' ],
		[ 'AB', 'second' ],
		[ 'AB1', 'second' ],
		[ "\xde\xad\xbe\xef\x00", 'unknown' ],
		[ 'hell', 'unknown' ],
		[ "\x05", 'unknown' ],
		[ "\x04", 'unknown' ],
		[ 'PROXY TCP', 'unknown' ],
		[ "\x16\x03\x01", 'unknown' ],
		[ substr(hello(sni => 'a.example'), 0, -1), 'unknown' ],
		[ substr(sslv2_hello(), 0, 10), 'unknown' ],
		[ 'GET / HTT', 'unknown' ],
		[ "GET / HTTP/1.1\r\n", 'http' ],
		[ $head, 'http' ],
		[ "$head\r", 'http' ],
		[ 'GET http://a.example/ HTTP/1.1', 'unknown' ],
		[ "GET http://a.example/ HTTP/1.1\r\nHost: a", 'http' ],
		[ 'PRI * HTTP/2.0', 'unknown' ],
		[ pack('N n C', 20, 3, 0), 'unknown' ],
		[ pack('C2 n C', 3, 0, 19, 14), 'unknown' ],
	);
}

# Where a client may end: what it is, the bytes, the backend, and whether they
# decide.

sub cuts {
	my $hello = hello(sni => 'a.example', tls13 => 1);
	my $head = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

	return (
		(map { [ "$_ bytes of a ClientHello", substr($hello, 0, $_),
			'unknown', 0 ] } 1, 5, 6, 9, 100, length($hello) - 1),
		[ 'a ClientHello', $hello, 'tls', 1 ],
		[ 'a ClientHello and more', $hello . pattern(5000), 'tls', 1 ],
		(map { [ "$_ bytes of a request", substr($head, 0, $_),
			$_ < 16 ? 'unknown' : 'http', 0 ] } 1, 10, 16, 34),
		[ 'a request', $head, 'http', 1 ],
		[ 'SSH', "SSH-2.0-x\r\n", 'ssh', 1 ],
	);
}

# Whole heads, and what they are; see RFC 9112, 2.2, 3.2, and 5.

sub http_cases {
	my $method = 'X' x 32;

	my @hosts = (
		[ 'a.example', 'a.example' ], [ 'A.Example', 'a.example' ],
		[ 'a.example.', 'a.example' ], [ 'a.example:80', 'a.example' ],
		[ 'a.example:', 'a.example' ], [ 'a_b-c.1x', 'a_b-c.1x' ],
		[ '192.0.2.1:80', '192.0.2.1' ], [ '[::1]', '[::1]' ],
		[ '[2001:DB8:0::1]:443', '[2001:db8::1]' ],
		[ "a.example \t", 'a.example' ],
		(map { [ $_, '' ] } '', '.', 'a..b', 'a b', 'a, b', 'u@a',
			'a/b', 'a%2eb', "b\xc3\xbc", '*.a', 'a:b', 'a:80:80',
			'a:80x', '::1', '[::1', '::1]', '[::1]80', '127.1',
			'0x7f.1', '127.0.0.01', "a\0b", "a\rb", 'a' x 64,
			'a.' x 127 . 'b'),
	);

	my @heads = (
		[ "GET / HTTP/1.1\nHost: a.example\n\n", 'GET:a.example' ],
		[ "GET / HTTP/1.0\r\n\r\n", 'GET:' ],
		[ "GET / HTTP/1.1\r\nX: y\r\n\r\n", 'GET:' ],
		[ "GET / HTTP/1.1\r\nhOST:a.example\r\n\r\n",
			'GET:a.example' ],
		[ "$method / HTTP/1.9\r\nHost: a.example\r\n\r\n",
			"$method:a.example" ],
		[ "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
			'OPTIONS:a.example' ],
		[ "GET / HTTP/1.1\r\nX: " . 'y' x 10000
			. "\r\nHost: a.example\r\n\r\n", 'GET:a.example' ],
		[ "GET / HTTP/1.1\r\nX-Host: b.example\r\nHost: a.example"
			. "\r\nHosts: c.example\r\n\r\n",
			'GET:a.example' ],

		# two of them, or what some server takes for one

		(map { [ "GET / HTTP/1.1\r\n$_\r\n\r\n", 'GET:' ] }
			"Host: a.example\r\nHost: b.example",
			"Host: a.example\r\nhost: a.example",
			"Host: a.example\r\nHost:",
			"Host:\r\nHost: a.example",
			"Host : a.example", "Host\t: a.example",
			" Host: a.example", "Host: a.example\r\n b.example",
			"Host:\r\n a.example", "X: y\r\n z\r\nHost: a.example",
			"Host a.example", ": x\r\nHost: a.example",
			"X y: z\r\nHost: a.example",
			"X: y\rHost: b.example\r\nHost: a.example",
			"X: \0\r\nHost: a.example",
			"X\0: y\r\nHost: a.example"),

		# the target and the field agree: RFC 9112, 3.2.2

		(map { [ "GET $_->[0] HTTP/1.1\r\nHost: $_->[1]\r\n\r\n",
			"GET:$_->[2]" ] }
			[ 'http://A.example:80/x', 'a.example', 'a.example' ],
			[ 'HTTP://a.example', 'A.EXAMPLE.:80', 'a.example' ],
			[ 'https://a.example?x', 'a.example', 'a.example' ],
			[ 'http://[::1]:80/', '[0::1]', '[::1]' ],
			[ 'http://a.example/', 'b.example', '' ],
			[ 'http://a.example/', 'a.example.b', '' ],
			[ 'http://a.example.b/', 'a.example', '' ],
			[ 'http://[::1]/', '127.0.0.1', '' ],
			[ 'http://a.example/', 'a example', '' ],
			[ 'http://a.example/', "a.example\r\nHost: a.example",
				'' ],
			[ 'http://u@a.example/', 'a.example', '' ],
			[ 'http:///x', 'a.example', '' ],
			[ 'http:a.example', 'a.example', '' ],
			[ 'a.example', 'a.example', '' ]),
		[ "GET http://a.example/ HTTP/1.1\r\nX: y\r\n\r\n",
			'GET:a.example' ],

		# that of CONNECT goes before the field

		(map { [ "$_->[0] HTTP/1.1\r\nHost: b.example\r\n\r\n",
			$_->[1] ] }
			[ 'CONNECT A.example:443', 'CONNECT:a.example' ],
			[ 'CONNECT [::1]:443', 'CONNECT:[::1]' ],
			[ 'CONNECT 192.0.2.1:22', 'CONNECT:192.0.2.1' ],
			[ 'CONNECT http://a.example/', 'CONNECT:' ],
			[ 'CONNECT /', 'CONNECT:' ]),
	);

	my @none = map { "$_\r\nHost: a.example\r\n\r\n" } 'GET /',
		'GET  / HTTP/1.1', 'GET /  HTTP/1.1', 'GET / HTTP/1.1 ',
		'GET /a b HTTP/1.1', 'GET / HTTP/2.0', 'GET / HTTP/1.x',
		'GET / HTTP/1.12', 'GET / HTTP/1', 'GET / http/1.1',
		'get / HTTP/1.1', "GET\t/ HTTP/1.1", "GET /\0 HTTP/1.1",
		"${method}X / HTTP/1.1", 'G:T / HTTP/1.1', ' GET / HTTP/1.1',
		"GET / HTTP/1.1\r";

	return (
		(map { [ "GET / HTTP/1.1\r\nHost: $_->[0]\r\nX: y\r\n\r\n",
			"http:GET:$_->[1]" ] } @hosts),
		(map { [ $_->[0], "http:$_->[1]" ] } @heads),
		(map { [ $_, 'unknown::' ] } @none),
	);
}

# Around a buffer of 1k.

sub sizes {
	my $head = "GET / HTTP/1.1\r\nHost: a.example\r\nX: ";

	return (
		(map { [ "a ClientHello of $_ bytes", hello(size => $_ - 5,
			sni => 'a.example'), $_ > 1024 ? 'unknown' : 'tls' ] }
			1023, 1024, 1025, 5000),
		(map { [ "a request of $_ bytes", $head
			. 'x' x ($_ - 4 - length $head) . CRLF . CRLF,
			'http' ] } 1024, 1025, 5000),
		[ 'a request line of 5000 bytes', 'GET /' . 'x' x 4995
			. " HTTP/1.1\r\n\r\n", 'unknown' ],
	);
}

###############################################################################

sub configure {
	my ($t, $events, $pass, %backend) = @_;

	my $map = join "\n", map { "$_ 127.0.0.1:$backend{$_};" }
		sort keys %backend;

	my $passing = $pass ? <<'EOF' : '';
    map $preread_protocol $pass {
        tls      127.0.0.1:8094;
        http     127.0.0.1:8093;
        default  127.0.0.1:8092;
    }

    server {
        listen 127.0.0.1:8079;
        tunnel_preread on;
        tunnel_preread_timeout 1s;
        pass $pass;
    }

    server {
        listen 127.0.0.1:8092;
        tunnel_preread on;
        tunnel_preread_timeout 200ms;
        passthrough $backend;
    }
EOF

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
    $events
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    server {
        listen 127.0.0.1:8093;
        listen 127.0.0.1:8094 ssl;

        location / {
            return 200 "\$scheme \$remote_port";
        }
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format preread '\$remote_port:\$server_port '
                       '\$status \$preread_protocol '
                       '"\$preread_host" \$preread_method \$preread_alpn '
                       '\$preread_tls_version \$preread_tls_min_version '
                       '\$preread_ech \$tunnel_reason '
                       '\$tunnel_bytes_received \$tunnel_bytes_sent '
                       '\$tunnel_address \$proxy_protocol_addr';
    access_log %%TESTDIR%%/tunnel.log preread;

    map \$preread_protocol \$backend {
        default 127.0.0.1:8999;
        $map
    }

    map \$ssl_preread_server_name \$by_name {
        tls      127.0.0.1:$backend{tls};
        default  127.0.0.1:$backend{unknown};
    }

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    tunnel_protocol inherited prefix="INHERIT";

    server {
        listen 127.0.0.1:8080;
        tunnel_preread on;
        tunnel_preread_timeout 4s;
        passthrough \$backend;
    }

    server {
        listen 127.0.0.1:8070;
        tunnel_preread on;
        tunnel_preread_timeout 500ms;
        passthrough \$backend;
    }

    server {
        listen 127.0.0.1:8085;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        passthrough \$backend;
    }

    # protocols of the configuration

    server {
        listen 127.0.0.1:8081;
        tunnel_preread_timeout 1s;
        include protocols.conf;
    }

    server {
        listen 127.0.0.1:8082;
        tunnel_preread_timeout 60s;
        include protocols.conf;
    }

    server {
        listen 127.0.0.1:8083;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        tunnel_protocol own prefix="own";
        return "\$preread_protocol:\\n";
    }

    server {
        listen 127.0.0.1:8084;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        return "\$preread_protocol:\\n";
    }

    server {
        listen 127.0.0.1:8086;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        return "\$preread_protocol:\$preread_method:\$preread_host\\n";
    }

    server {
        listen 127.0.0.1:8071;
        return "none:\$preread_protocol\\n";
    }

    # other things

    server {
        listen 127.0.0.1:8072;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        preread_buffer_size 1k;
        passthrough \$backend;
    }

    server {
        listen 127.0.0.1:8073 ssl;
        tunnel_preread on;
        tunnel_preread_timeout 1s;
        passthrough \$backend;
    }

    server {
        listen 127.0.0.1:8074 proxy_protocol;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        passthrough \$backend;
    }

    server {
        listen 127.0.0.1:8075;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        proxy_pass \$backend;
        proxy_half_close on;
    }

    server {
        listen 127.0.0.1:8076;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        socks;
    }

    server {
        listen 127.0.0.1:8077;
        ssl_preread on;
        passthrough \$by_name;
    }

    server {
        listen 127.0.0.1:8078;
        ssl_preread on;
        tunnel_preread on;
        tunnel_preread_timeout 60s;
        passthrough \$by_name;
    }

    server {
        listen 127.0.0.1:%%PORT_8980_UDP%% udp;
        tunnel_preread on;
        return "none:\$preread_protocol";
    }

    $passing
}

EOF

	$t->write_file('protocols.conf', <<'EOF');
tunnel_preread on;

tunnel_protocol join 'prefix="JOIN "';
tunnel_protocol hex prefix=DEADbeef min=6;
tunnel_protocol alt prefix=01;
tunnel_protocol binary ~^\x02\x03 min=2;
tunnel_protocol alt prefix="XY";
tunnel_protocol first prefix="AB12";
tunnel_protocol second prefix="AB";
tunnel_protocol third prefix="ABC";
tunnel_protocol oldssh prefix="SSH-1";
tunnel_protocol joint 'prefix="JOINT OPERATION"';
tunnel_protocol escaped 'prefix="a \\"quoted\\"\\\\\t\0\r\n\x41"';
tunnel_protocol special 'prefix="GET /special "';
tunnel_protocol lines 'prefix="z\\n\x0Az"';
tunnel_protocol alt ~*^HELLO min=5;

return "$preread_protocol:$preread_host\n";
EOF
}

###############################################################################
