#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: ClientHellos, in any number of
# records and segments, of all sizes, and malformed.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Hello;

use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl stream stream_return
	stream_map/);

my @names = sni_hellos();
my @bad = bad_hellos();
my @versions = versions();
my @alpn = alpn();
my @others = others();
my @sslv2 = sslv2();
my @sizes = sizes();
my @reasons = reasons();

my $d = $t->testdir();

make_cert($t, $_) for qw/ one.example two.example /;

my $seen = join('|', map { "\$preread_$_" } qw/ protocol host alpn tls_version
	tls_min_version ech /) . '|\n';

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen 127.0.0.1:8091 ssl;
        ssl_certificate one.example.crt;
        ssl_certificate_key one.example.key;
    }

    server {
        listen 127.0.0.1:8092 ssl;
        ssl_certificate two.example.crt;
        ssl_certificate_key two.example.key;
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_preread on;
    tunnel_preread_timeout 60s;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    map \$preread_host \$server {
        one.example  127.0.0.1:8091;
        two.example  127.0.0.1:8092;
        default      reject;
    }

    server {
        listen 127.0.0.1:8080;
        return "$seen";
    }

    server {
        listen 127.0.0.1:8081;
        preread_buffer_size 4k;
        return "$seen";
    }

    server {
        listen 127.0.0.1:8082;
        tunnel_preread_timeout 1s;
        return "$seen";
    }

    server {
        listen 127.0.0.1:8084;
        preread_buffer_size 64k;
        return "$seen";
    }

    server {
        listen 127.0.0.1:8083;
        passthrough \$server;
    }
}

EOF

$t->plan(@names + @bad + @versions + @alpn + @others + @sslv2 + @sizes
	+ @reasons + 15);

$t->run();

my ($pid) = workers($t);

###############################################################################

# names

for my $case (@names) {
	my ($what, $opt, $host) = @$case;

	is_hello([ hello(%$opt), hello(%$opt, record => 30) ], 'tls|' . $host,
		"name, $what");
}

# what is wrong is known as soon as it is all there

for my $case (@bad) {
	my ($what, $bytes) = @$case;

	is_hello([ $bytes ], 'unknown|||||', "malformed, $what");
}

for my $re (@reasons) {
	ok(wait_log($t, 'error.log',
		qr/\[info\].* malformed ClientHello: .*$re.*, client: /),
		"malformed, logged as $re");
}

# what it offers

for my $case (@versions) {
	my ($what, $opt, $high, $low) = @$case;

	is_hello([ hello(%$opt) ], "tls|||$high|$low|", "version, $what");
}

for my $case (@alpn) {
	my ($what, $alpn, $text) = @$case;

	is_hello([ hello(alpn => $alpn), hello(alpn => $alpn, record => 7) ],
		"tls||$text|TLSv1.2|", "ALPN, $what");
}

for my $case (@others) {
	my ($what, $bytes, $expected) = @$case;

	is_hello([ $bytes ], $expected, $what);
}

for my $case (@sslv2) {
	my ($what, $bytes, $expected) = @$case;

	is_hello([ $bytes ], "$expected|||||", "SSLv2, $what");
}

# sizes, up to the whole buffer

for my $case (@sizes) {
	my ($what, $bytes, $expected, $port) = @$case;

	my $got = look($port || 8080, $bytes, 1400, 2800, 5000);
	is($got, "$expected\n", $what);
}

# a ClientHello of many segments, cut anywhere

my $hello = hello(sni => 'www.example.com', pq => 1, grease => 1, ech => 1,
	alpn => [ 'h2' ], record => 600);
my $told = "tls|www.example.com|h2|TLSv1.3|TLSv1.2|1|\n";

my @points = (1 .. 40, 590 .. 620, length($hello) - 3 .. length($hello) - 1);
is(join(' ', grep { look(8080, $hello, $_, delay => 0.002) ne $told }
	@points), '', 'cut in two at every place');

is(look(8080, $hello, step => 1, delay => 0.0002), $told, 'byte by byte');
is(look(8080, hello(sni => 'www.example.com', record => 1), step => 1,
	delay => 0.0002), "tls|www.example.com||TLSv1.2|||\n",
	'byte by byte, and each in a record');

# what is behind it does not matter

is(look(8080, $hello . hello(sni => 'evil.example')), $told, 'another behind');
is(look(8080, $hello . "\0" x 20000), $told, 'much behind');

# half of it

my $s = tcp_connect(port(8082));
my $start = time();
write_all($s, substr($hello, 0, -1));
is(read_all($s), "unknown||||||\n", 'all but the last byte');
my $took = time() - $start;
ok($took > 0.8 && $took < 5, 'until the timeout') or diag("took $took");

# whatever it is, segments make no difference

my ($first, @wrong) = (0);
srand(20261121);

for my $n (1 .. 150) {
	my $bytes = changed($n);

	my $whole = look(8080, $bytes, fin => 1);
	my $got = look(8080, $bytes, (map { 1 + int rand(length $bytes) }
		1 .. 3), delay => 0.002, fin => 1);

	$first++ if $whole =~ /^tls/;
	push @wrong, "$n: $whole$got" if $got ne $whole || $whole eq '';
}

is("@wrong", '', 'the same in segments');
ok($first > 20 && $first < 140, 'of both kinds') or diag($first);

# to real servers

for my $case (
	[ 'one.example', {} ], [ 'two.example', { record => 20 } ],
	[ 'ONE.example', { tls13 => 1 } ],
	[ 'two.example', { pq => 1, grease => 1, ech => 1 } ],
) {
	my ($name, $opt) = @$case;

	$s = tcp_connect(port(8083));
	send_split($s, hello(%$opt, sni => $name), 3, 50, 100);
	ok(is_server_hello(read_n($s, 6)), "a server answers, $name");
	close $s;
}

is((workers($t))[0], $pid, 'worker lives');
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection is left open');

###############################################################################

# A server's thoughts, in one piece and in several.

sub is_hello {
	my ($forms, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my @wrong;

	for my $bytes (@$forms) {
		my $n = length $bytes;

		for my $way (
			[], [ 1, 5, 6, 9 ], [ 43, int($n / 2), $n - 1 ],
			$n < 300 ? [ 1 .. $n ] : [ 200 ],
		) {
			my $got = look(8080, $bytes, @$way,
				delay => @$way > 9 ? 0 : 0.001);
			next if index("$got|", $expected . '|') == 0;

			chomp $got;
			my $cut = @$way > 9 ? 'byte by byte' : "at @$way";
			push @wrong, "$cut: $got";
		}
	}

	is("@wrong", '', $name) or diag("not $expected");
}

sub look {
	my ($port, $bytes, @split) = @_;

	my @points;
	push @points, shift @split while @split && $split[0] =~ /^\d+\z/;
	my %opt = @split;
	my $fin = delete $opt{fin};

	my $s = tcp_connect(port($port)) or return 'no connection';
	send_split($s, $bytes, @points, %opt);
	half_close($s) if $fin;

	my $line = read_all($s);
	close $s;

	return $line;
}

# ClientHellos with something wrong somewhere.

sub changed {
	my ($n) = @_;

	my $bytes = hello(sni => 'www.example.com', tls13 => 1,
		alpn => [ 'h2' ], $n % 3 ? () : (record => 40));

	for (1 .. 1 + $n % 2) {
		my $i = int rand(length $bytes);
		my $to = rand() < 0.5 ? int rand(256)
			: ord(substr($bytes, $i, 1)) + (rand() < 0.5 ? 1 : -1);

		substr($bytes, $i, 1) = chr($to & 255);
	}

	return $bytes;
}

###############################################################################

sub versions {
	my $ext = sub { +{ versions => [ @_ ] } };

	return (
		[ 'SSL 3', { version => 0x0300 }, 'SSLv3', '' ],
		[ 'TLS 1.0', { version => 0x0301 }, 'TLSv1', '' ],
		[ 'TLS 1.1', { version => 0x0302 }, 'TLSv1.1', '' ],
		[ 'TLS 1.2', {}, 'TLSv1.2', '' ],
		[ 'TLS 1.0, no extensions', { version => 0x0301,
			extensions => undef }, 'TLSv1', '' ],
		[ 'in an old record', { record_version => 0x0300 },
			'TLSv1.2', '' ],
		[ 'in a new record', { record_version => 0x0304 }, 'TLSv1.2',
			'' ],

		# only supported_versions is for TLS 1.3: RFC 8446, 4.2.1

		[ 'TLS 1.3 in the wrong place', { version => 0x0304 },
			'TLSv1.2', '' ],
		[ 'only TLS 1.3', $ext->(0x0304), 'TLSv1.3', 'TLSv1.3' ],
		[ '1.3 to 1.0', $ext->(0x0304, 0x0303, 0x0302, 0x0301),
			'TLSv1.3', 'TLSv1' ],
		[ 'in another order', $ext->(0x0302, 0x0304, 0x0303),
			'TLSv1.3', 'TLSv1.1' ],
		[ '1.2 and lower', $ext->(0x0303, 0x0300), 'TLSv1.2',
			'SSLv3' ],
		[ 'lower than it says elsewhere', $ext->(0x0302), 'TLSv1.1',
			'TLSv1.1' ],
		[ 'GREASE', $ext->(0xfafa, 0x0304, 0x0303, 0x0a0a),
			'TLSv1.3', 'TLSv1.2' ],
		[ 'drafts and others', $ext->(0x7f1c, 0x0304, 0x0305, 0xfefd,
			0x0002), 'TLSv1.3', 'TLSv1.3' ],
		[ 'none that is known', $ext->(0x5a5a, 0x7f1c), '', '' ],
	);
}

sub alpn {
	my ($x, $y) = map { $_ x 100 } 'x', 'y';

	return (
		[ 'one', [ 'h2' ], 'h2' ],
		[ 'two', [ 'h2', 'http/1.1' ], 'h2,http/1.1' ],
		[ 'in their order', [ 'http/1.1', 'h2', 'http/1.0' ],
			'http/1.1,h2,http/1.0' ],
		[ 'GREASE', [ "\x6a\x6a", "\x0a\xfa" ], 'jj,%0A%FA' ],
		[ 'odd bytes', [ "a,b", '100%', "\0", 'a b', "\x7f", "\xe9",
			'"' ], 'a%2Cb,100%25,%00,a%20b,%7F,%E9,"' ],
		[ 'a vertical bar', [ 'a|b' ], 'a|b' ],
		[ 'a long one', [ 'x' x 250 ], 'x' x 250 ],
		[ 'more than is kept', [ $x, $x, $y, 'h2' ], "$x,$x,h2" ],
	);
}

sub others {
	my %sni = (sni => 'a.example');
	my $ech = 'tls|a.example||TLSv1.2||1';
	my $tls = 'tls|a.example||TLSv1.2|';
	my $message = hello_message(%sni);

	return (
		[ 'ECH', hello(%sni, ech => 1), $ech ],
		[ 'ECH, large', hello(%sni, ech => 5000), $ech ],
		[ 'ECH without a name', hello(ech => 1), 'tls|||TLSv1.2||1' ],
		[ 'ECH, inner', hello(%sni, extensions => [ [ 0xfe0d,
			"\x01" ] ]), $ech ],
		[ 'ECH, nothing in it', hello(%sni, extensions => [ [ 0xfe0d,
			'' ] ]), $ech ],
		[ 'ESNI, which is no ECH', hello(%sni, extensions => [
			[ 0xffce, 'x' x 300 ] ]), $tls ],
		[ 'all of it', hello(%sni, pq => 1, grease => 1, ech => 1,
			alpn => [ 'h2', 'http/1.1' ]),
			'tls|a.example|h2,http/1.1|TLSv1.3|TLSv1.2|1' ],
		[ '128 extensions', hello(only => [
			server_name('a.example'), map { [ 1000 + $_, '' ] }
			1 .. 127 ]), $tls ],
		[ 'many extensions as GREASE has them', hello(%sni,
			extensions => [ map { [ $_ * 0x1010 + 0x0a0a, '' ] }
			0 .. 15 ]), $tls ],
		[ 'unknown extensions', hello(%sni, extensions => [
			[ 64, '' ], [ 65535, 'x' ], [ 128, 'y' x 100 ] ]),
			$tls ],
		[ 'a session id of 32 bytes', hello(%sni,
			session => 'x' x 32), $tls ],
		[ 'a session id of one byte', hello(%sni, session => 'x'),
			$tls ],
		[ 'several compression methods', hello(%sni,
			compression => "\1\0"), $tls ],
		[ 'many ciphers', hello(%sni, ciphers => "\0\x2f" x 3000),
			$tls ],
		[ 'three bytes in the first record', hello_records($message,
			records => [ 3 ]), $tls ],
		[ 'one byte in each of the first records', hello_records(
			$message, records => [ (1) x 50 ]), $tls ],
		[ 'four bytes in the first record', hello_records($message,
			records => [ 4, 2 ]), $tls ],
		[ 'a message of four bytes and no more', hello_records(
			pack('N', 1 << 24)), 'unknown||||' ],
		[ 'an alert', tls_alert('internal_error'), 'unknown||||' ],
		[ 'application data', pack('C n n/a*', 23, 0x0303,
			'x' x 100), 'unknown||||' ],
		[ 'a record that is too long', pack('C n n a*', 22, 0x0301,
			16385, 'x' x 100), 'unknown||||' ],
		[ 'DTLS', pack('C n x8 n/a*', 22, 0xfeff, $message),
			'unknown||||' ],
	);
}

sub sslv2 {
	my $good = 'sslv2';

	return (
		[ 'TLS 1.0', sslv2_hello(), $good ],
		[ 'SSL 2', sslv2_hello(version => 2), $good ],
		[ 'SSL 3', sslv2_hello(version => 0x0300), $good ],
		[ 'TLS 1.2', sslv2_hello(version => 0x0303), $good ],
		[ 'a session', sslv2_hello(session => 'x' x 16), $good ],
		[ 'a challenge of 32 bytes', sslv2_hello(challenge =>
			'x' x 32), $good ],
		[ 'many ciphers', sslv2_hello(ciphers => 'xyz' x 100),
			$good ],
		[ 'no ciphers', sslv2_hello(ciphers => ''), 'unknown' ],
		[ 'half a cipher', sslv2_hello(ciphers => 'x' x 8),
			'unknown' ],
		[ 'a short challenge', sslv2_hello(challenge => 'x' x 15),
			'unknown' ],
		[ 'a message that ends early', sslv2_hello(length => -1),
			'unknown' ],
		[ 'a message that ends late', sslv2_hello(length => 1) . 'x',
			'unknown' ],
		[ 'another version', sslv2_hello(version => 0x0105),
			'unknown' ],
	);
}

# A buffer has 16k, or 4k for port 8081 and 64k for 8084.

sub sizes {
	my %sni = (sni => 'a.example');
	my $tls = 'tls|a.example||TLSv1.2|||';
	my $unknown = 'unknown||||||';

	return (
		[ 'post-quantum', hello(%sni, pq => 1),
			'tls|a.example||TLSv1.3|TLSv1.2||' ],
		[ 'several key shares', hello(%sni, tls13 => 1, shares =>
			[ [ 0x11ec, 1216 ], [ 0x11ed, 1665 ],
				[ 0x6399, 1216 ], [ 0xfe00, 6000 ] ]),
			'tls|a.example||TLSv1.3|TLSv1.2||' ],
		(map { [ "a ClientHello of $_ bytes", hello(%sni,
			size => $_ - 5), $_ > 16384 ? $unknown : $tls ] }
			1000, 4096, 16383, 16384, 16385, 16389),
		(map { [ "a ClientHello of $_ bytes, half in each record",
			hello(%sni, size => $_ - 10, record => $_ / 2),
			$_ > 16384 ? $unknown : $tls ] } 16384, 16386),
		[ 'a ClientHello of 40000 bytes', hello(%sni,
			size => 40000 - 15), $unknown ],
		[ 'a name behind 15000 bytes', hello(before => [ [ 1000,
			'x' x 15000 ] ], %sni), $tls ],
		(map { [ "a ClientHello of $_ bytes, 4k", hello(%sni,
			size => $_ - 5), $_ > 4096 ? $unknown : $tls, 8081 ] }
			4095, 4096, 4097, 8192),
		(map { [ "a ClientHello of $_ bytes, 64k", hello(%sni,
			size => $_ - 5 * 4), $_ > 65536 ? $unknown : $tls,
			8084 ] } 65535, 65536, 65537, 65540),
		[ 'a small one and more bytes, 4k', hello(%sni)
			. 'x' x 8000, $tls, 8081 ],
	);
}

sub reasons {
	return ('twice', 'too many extensions', 'do not add up', 'length',
		'another record');
}

###############################################################################
