#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: what nginx -t says about its
# directives, where they may stand, how they are inherited, and a reload.

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

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http stream stream_return stream_map/);

my @built_in = qw/ tls sslv2 http http2 ssh socks4 socks5 proxy_protocol rdp
	postgresql timeout unknown /;

# what the messages are made of

my $time = 'it must be a time, such as 500ms, 10s, 5m, or 1h';
my $flag = 'it must be "on" or "off"';
my $name = 'it must be a name of a-z, 0-9, "_", "-", and "." that no built-in '
	. 'protocol has';
my $pattern = 'it must be ~regex, ~*regex, or prefix=';
my $prefix = 'it must be prefix= and 1 to 255 bytes, as pairs of hex digits '
	. 'or as text in double quotes';
my $min = 'it must be min= and 1 to 65536 bytes';

my @bad = (
	# flags and times

	(map { [ "tunnel_preread $_->[0]", $_->[1], 'tunnel_preread', $flag ] }
		[ 'yes', 'yes' ], [ '1', '1' ], [ '""', '' ], [ 'tls', 'tls' ],
		[ '$x', '$x' ]),
	(map { [ "tunnel_preread_timeout $_->[0]", $_->[1],
		'tunnel_preread_timeout', $time ] }
		[ 'x', 'x' ], [ '-1', '-1' ], [ '""', '' ], [ '1q', '1q' ],
		[ 'off', 'off' ], [ '$x', '$x' ]),

	# names

	(map { [ "tunnel_protocol $_->[0] prefix=01", $_->[1],
		'tunnel_protocol', $name ] }
		[ '""', '' ], [ 'Name', 'Name' ], [ '"a b"', 'a b' ],
		[ 'a/b', 'a/b' ], [ 'a,b', 'a,b' ], [ '"a\\n"', "a\n" ],
		[ "b\xc3\xbc", "b\xc3\xbc" ], [ '$x', '$x' ],
		[ '~^a', '~^a' ]),
	(map { [ "tunnel_protocol $_ prefix=01", $_, 'tunnel_protocol',
		$name ] } @built_in),

	# what they look like

	(map { [ "tunnel_protocol name $_->[0]", $_->[1], 'tunnel_protocol',
		$pattern ] }
		[ 'foo', 'foo' ], [ '""', '' ], [ 'prefix', 'prefix' ],
		[ 'Prefix=01', 'Prefix=01' ], [ '$x', '$x' ],
		[ 'min=1', 'min=1' ], [ '^a', '^a' ],
		[ 'regex=a', 'regex=a' ]),
	(map { [ "tunnel_protocol name $_->[0]", $_->[1], 'tunnel_protocol',
		$prefix ] }
		[ 'prefix=', 'prefix=' ], [ 'prefix=0', 'prefix=0' ],
		[ 'prefix=012', 'prefix=012' ],
		[ 'prefix=0g', 'prefix=0g' ], [ 'prefix=xy', 'prefix=xy' ],
		[ 'prefix=0x01', 'prefix=0x01' ],
		[ "'prefix=01 02'", 'prefix=01 02' ],
		[ 'prefix=$x', 'prefix=$x' ],
		[ 'prefix=""', 'prefix=""' ], [ 'prefix="', 'prefix="' ],
		[ 'prefix="a', 'prefix="a' ], [ 'prefix=a"', 'prefix=a"' ],
		[ 'prefix="a"b', 'prefix="a"b' ],
		[ 'prefix="\\x"', 'prefix="\\x"' ],
		[ 'prefix="\\x1"', 'prefix="\\x1"' ],
		[ 'prefix="\\x1g"', 'prefix="\\x1g"' ],
		[ 'prefix="\\q"', 'prefix="\\q"' ],
		[ 'prefix=' . '0a' x 256, 'prefix=' . '0a' x 256 ],
		[ 'prefix="' . 'a' x 256 . '"', 'prefix="' . 'a' x 256
			. '"' ]),
	[ "tunnel_protocol name 'prefix=\"a\\\\'", 'prefix="a\\',
		'tunnel_protocol', $prefix ],
	[ "tunnel_protocol name 'prefix=\"\\\\\"'", 'prefix="\\"',
		'tunnel_protocol', $prefix ],

	# min

	(map { [ "tunnel_protocol name prefix=01 $_->[0]", $_->[1],
		'tunnel_protocol', $min ] }
		[ 'min=0', 'min=0' ], [ 'min=65537', 'min=65537' ],
		[ 'min=', 'min=' ], [ 'min=x', 'min=x' ],
		[ 'min=-1', 'min=-1' ], [ 'min=1s', 'min=1s' ],
		[ 'min=99999999999999999999', 'min=99999999999999999999' ],
		[ 'max=1', 'max=1' ], [ '5', '5' ], [ '""', '' ],
		[ '$x', '$x' ], [ 'prefix=02', 'prefix=02' ]),
);

# those of nginx

my $empty = 'empty regex in "tunnel_protocol"';

my @regex = (
	[ 'tunnel_protocol name ~', qr/$empty "~"$/ ],
	[ 'tunnel_protocol name ~*', qr/$empty "~\*"$/ ],
	[ 'tunnel_protocol name ~(', qr/pcre2?_compile\(\) failed: / ],
	[ 'tunnel_protocol name ~*a[ min=3', qr/pcre2?_compile\(\) failed: / ],
);

# numbers of parameters

my @counts = (
	'tunnel_preread', 'tunnel_preread on off', 'tunnel_preread_timeout',
	'tunnel_preread_timeout 1s 1s', 'tunnel_protocol',
	'tunnel_protocol name', 'tunnel_protocol name prefix=01 min=1 min=1',
	'tunnel_protocol name ~a min=1 x', 'tunnel_protocol ~a',
);

# values that are taken, the first in every context

my %good = (
	tunnel_preread		=> [ 'on', 'off', 'ON' ],
	tunnel_preread_timeout	=> [ '2s', '500ms', '1m', '10', '0' ],
	tunnel_protocol		=> [ 'name prefix=01', 'a ~^a', 'a ~*^a',
		'a.b-c_d9 prefix="text" min=65536', '9 ~a min=1',
		'- prefix=0aFf min=2', 'name prefix=' . '0a' x 255,
		'name prefix="' . 'a' x 255 . '"', 'tls2 prefix=1603',
		'mysql prefix="\\x00\\\\r"', '"name" ~^\\x01',
		'name "~^a b{2}$"', 'http3 \'prefix="a b;c"\'' ],
);

my @values = map { my $directive = $_; map { "$directive $_" }
	@{$good{$directive}} } sort keys %good;

# where they may not stand

my %wrong = (
	main		=> sub { ($_[0], '', '') },
	events		=> sub { ('', $_[0], '') },
	upstream	=> sub { ('', '', "upstream u { $_[0] }") },
	http		=> sub { ("http { $_[0] }", '', '') },
	location	=> sub { ("http { server { location / { $_[0] } } }",
		'', '') },
);

my @wrong = map { my $directive = $_; map { [
	"$directive $good{$directive}[0]", $directive, $_ ] }
	grep { !/http|location/ || $directive ne 'tunnel_preread_timeout' }
	sort keys %wrong } sort keys %good;

my @inside = map { "http { access_log off; $_ }" }
	'tunnel_preread_timeout 1s;',
	'server { tunnel_preread_timeout 1s; }',
	'server { location / { tunnel_preread_timeout 1s; } }';

my @variables = qw/ preread_protocol preread_host preread_method preread_alpn
	preread_tls_version preread_tls_min_version preread_ech /;

$t->plan(@bad + 2 * @regex + @counts + 2 * @values + @wrong + @inside
	+ @variables + 35);

###############################################################################

for my $case (@bad) {
	my ($text, $value, $directive, $allowed) = @$case;

	is(join(' ', check($t, "$text;")), qq/1 [emerg] invalid value "$value"/
		. qq/ in "$directive" directive, $allowed/, shown($text));
}

for my $case (@regex) {
	my ($text, $re) = @$case;

	my ($rc, @lines) = check($t, "$text;");

	is(scalar(@lines), 1, "$text - one message") or diag("@lines");
	like($lines[0] || '', qr/^\[emerg\] $re/, $text);
}

for my $text (@counts) {
	my ($directive) = $text =~ /(\w+)/;

	is(join(' ', check($t, "$text;")), '1 [emerg] invalid number of '
		. qq/arguments in "$directive" directive/, $text);
}

for my $text (@values) {
	is(join(' ', check($t, "$text;")), 0, shown($text));
	is(join(' ', check($t, '', "$text;")), 0,
		shown($text) . ' in stream');
}

for my $case (@wrong) {
	my ($text, $directive, $context) = @$case;

	is(join(' ', check_text($t, $wrong{$context}->("$text;"))),
		qq/1 [emerg] "$directive" directive is not allowed here/,
		"$directive in $context");
}

for my $text (@inside) {
	is(join(' ', check_text($t, $text, '', '')), 0,
		$text =~ s/ access_log off;//r);
}

for my $directive (qw/ tunnel_preread tunnel_preread_timeout /) {
	my $text = "$directive $good{$directive}[0];";

	is(join(' ', check($t, "$text $text")),
		qq/1 [emerg] "$directive" directive is duplicate/,
		"$directive duplicate");
	is(join(' ', check($t, '', "$text $text")),
		qq/1 [emerg] "$directive" directive is duplicate/,
		"$directive duplicate in stream");
	is(join(' ', check($t, $text, $text)), 0, "$directive in both");
}

my $twice = 'tunnel_protocol a prefix=01; tunnel_protocol a prefix=02;';
is(join(' ', check($t, $twice, $twice)), 0, 'several of one name');

for my $name (@variables) {
	is(join(' ', check_text($t, 'http { server { location / { return 200 '
		. "\$$name; } } }", '', '')),
		qq/1 [emerg] unknown "$name" variable/, "no \$$name in http");
}

###############################################################################

# inheritance

configure($t);
$t->run();

# the default is off

my $start = time();
is(ask(8080, ''), 'none', 'default of tunnel_preread');
cmp_ok(time() - $start, '<', 1.5, 'which is off');
is(ask(8084, "ONE\n"), 'unknown', 'no protocols');

# the default is 2s

$start = time();
is(ask(8086, ''), 'timeout', 'default of tunnel_preread_timeout');
my $took = time() - $start;
ok($took > 1.8 && $took < 5, 'which is 2s') or diag("took $took");

$t->stop();

configure($t, 'one');
$t->run();

my ($pid) = workers($t);

is(ask(8080, "ONE\n"), 'one', 'tunnel_preread of stream');
is(ask(8081, "ONE\n"), 'none', 'off in a server');
is(ask(8083, "ONE\n"), 'unknown', 'protocols of a server alone');
is(ask(8083, "TWO\n"), 'two', 'protocols of a server');
is(ask(8084, "ONE\n"), 'one', 'tunnel_preread on in both');
is(ask(8085, "ONE\n"), 'one', 'variables of a map');

# times, all at once

my %expect = (8080 => 1, 8082 => 0.3, 8084 => 2);
$start = time();
my %s = map { $_ => tcp_connect(port($_)) } keys %expect;
my %took;

for my $port (sort { $expect{$a} <=> $expect{$b} } keys %expect) {
	is(read_all($s{$port}), "timeout\n", "timeout, $port");
	$took{$port} = time() - $start;
}

for my $port (sort keys %expect) {
	cmp_ok($took{$port}, '>', $expect{$port} * 0.9, "not early, $port");
}

cmp_ok($took{8082}, '<', 0.9, 'timeout of a server');
cmp_ok($took{8080}, '<', 1.9, 'timeout of stream');
cmp_ok($took{8084}, '<', 5, 'a longer one of a server');

# nothing is waited for at all

$start = time();
is(ask(8087, ''), 'timeout', 'no timeout');
cmp_ok(time() - $start, '<', 0.9, 'no timeout, at once');

# what is off costs no time, and reads nothing

$start = time();
my $s = tcp_connect(port(8081));
is(read_all($s), "none\n", 'off, nothing is waited for');
cmp_ok(time() - $start, '<', 0.9, 'off, at once');

###############################################################################

# A reload: who has begun with the old configuration ends with it.

my $old = tcp_connect(port(8084));
write_all($old, 'ON');
wait_for(sub { tcp_count($pid) > 0 });

configure($t, 'other');
$t->reload();
my $new = new_worker($t, $pid);
ok($new, 'reload');

is(ask(8084, "ONE\n"), 'other', 'new protocols');
write_all($old, "E\n");
is(read_all($old), "one\n", 'old protocols');
ok(wait_for(sub { !kill 0, $pid }), 'old worker ends');

###############################################################################

sub ask {
	my ($port, $bytes) = @_;

	my $s = tcp_connect(port($port));
	write_all($s, $bytes);
	my $line = read_line($s);
	close $s;
	chomp $line;

	return $line;
}

sub read_line {
	my ($s) = @_;

	my $line = '';

	while ($line !~ /\n\z/) {
		my ($byte, $state) = read_n($s, 1);
		last if $state ne 'OK';
		$line .= $byte;
	}

	return $line;
}

sub shown {
	my ($text) = @_;

	return length $text > 60 ? substr($text, 0, 57) . '...' : $text;
}

sub configure {
	my ($t, $name) = @_;

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    map \$preread_protocol \$mapped {
        default  \$preread_protocol;
        ''       none;
    }

    include inherited.conf;

    server {
        listen 127.0.0.1:8080;
        return "\$mapped\\n";
    }

    server {
        listen 127.0.0.1:8081;
        tunnel_preread off;
        return "\$mapped\\n";
    }

    server {
        listen 127.0.0.1:8082;
        tunnel_preread_timeout 300ms;
        return "\$mapped\\n";
    }

    server {
        listen 127.0.0.1:8083;
        tunnel_protocol two prefix="TWO";
        return "\$mapped\\n";
    }

    server {
        listen 127.0.0.1:8084;
        tunnel_preread on;
        tunnel_preread_timeout 2s;
        return "\$preread_protocol\\n";
    }

    server {
        listen 127.0.0.1:8085;
        return "\$mapped\\n";
    }

    server {
        listen 127.0.0.1:8087;
        tunnel_preread_timeout 0;
        return "\$mapped\\n";
    }

    server {
        listen 127.0.0.1:8086;
        tunnel_preread on;
        return "\$preread_protocol\\n";
    }
}

EOF

	$t->write_file('inherited.conf', defined $name ? <<"EOF" : '');
tunnel_preread on;
tunnel_preread_timeout 1s;
tunnel_protocol $name prefix="ONE";
EOF
}

# What nginx -t says: 0 or 1, and the messages without their place.

sub check {
	my ($t, $server, $stream) = @_;

	$stream = '' unless defined $stream;

	return check_text($t, '', '', <<"EOF");
$stream
server { listen 127.0.0.1:8080; $server return x; }
EOF
}

sub check_text {
	my ($t, $main, $events, $stream) = @_;

	return nginx_check($t, <<"EOF");
$main
events { $events }
stream {
%%TEST_GLOBALS_STREAM%%
$stream
}
EOF
}

###############################################################################
