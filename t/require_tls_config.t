#!/usr/bin/perl

# Tests for the configuration of target_require_tls and tunnel_preread_timeout:
# what nginx -t says, where they may stand, how they are inherited, their
# defaults, and their variables.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Hello;
use Test::Nginx::Socks;
use Test::Nginx::RequireTls;

use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite map stream stream_map/);

my $d = $t->testdir();

# what the messages are made of

my $choice = 'in "target_require_tls" directive, '
	. 'it must be "off" or "on" or "sni"';
my $time = 'in "tunnel_preread_timeout" directive, '
	. 'it must be a time, such as 500ms, 10s, 5m, or 1h';

my @bad = (
	(map { [ "target_require_tls $_->[0]",
		qq/invalid value "$_->[1]" $choice/ ] }
		[ 'yes', 'yes' ], [ '""', '' ], [ '1', '1' ], [ '0', '0' ],
		[ 'tls', 'tls' ], [ 'name', 'name' ], [ '"on "', 'on ' ],
		[ 'on,sni', 'on,sni' ], [ 'snix', 'snix' ], [ 'o', 'o' ]),
	[ 'target_require_tls $nosuch', 'unknown "nosuch" variable' ],
	[ 'target_require_tls on$nosuch', 'unknown "nosuch" variable' ],
	[ 'target_require_tls ${', 'invalid variable name' ],
	(map { [ "tunnel_preread_timeout $_->[0]",
		qq/invalid value "$_->[1]" $time/ ] }
		[ 'x', 'x' ], [ '-1', '-1' ], [ '""', '' ], [ '1q', '1q' ],
		[ 'off', 'off' ], [ '$remote_addr', '$remote_addr' ]),
);

my @counts = map { ($_, "$_ 1s 1s") }
	qw/ target_require_tls tunnel_preread_timeout /;

my %good = (
	target_require_tls	=> [ 'off', 'on', 'sni', 'ON', 'Sni',
		'$remote_addr', '${remote_addr}x' ],
	tunnel_preread_timeout	=> [ '2s', '500ms', '1m', '60', '0' ],
);

# where they may stand: text of main, events, http, and stream

my %context = (
	'http'		=> sub { ('', '', "$_[0] server { listen 127.0.0.1:8082; }", '') },
	'server'	=> sub { ('', '', "server { listen 127.0.0.1:8082; $_[0] }", '') },
	'location'	=> sub { ('', '',
		"server { listen 127.0.0.1:8082; location / { $_[0] } }", '') },
	'stream'	=> sub { ('', '', '', $_[0]) },
	'server of stream' => sub { ('', '', '',
		"server { listen 127.0.0.1:8081; return x; $_[0] }") },
);

my %wrong = (
	'main'		=> sub { ($_[0], '', '', '') },
	'events'	=> sub { ('', $_[0], '', '') },
	'upstream'	=> sub { ('', '', "upstream u { $_[0] }", '') },
	'upstream of stream' => sub { ('', '', '', "upstream u { $_[0] }") },
	'if'		=> sub { ('', '', 'server { location / { '
		. "if (\$arg_a) { $_[0] } } }", '') },
	'if of a server' => sub { ('', '',
		"server { if (\$arg_a) { $_[0] } }", '') },
	'limit_except'	=> sub { ('', '', 'server { location / { '
		. "limit_except GET { $_[0] } } }", '') },
);

my @fronts = ('server', 'server of stream');
my $values = 0;
$values += @{$good{$_}} for keys %good;

$t->plan(@bad * @fronts + @counts * @fronts + $values * keys(%context)
	+ 2 * keys(%wrong) + 2 * keys(%context) + 45);

###############################################################################

for my $front (@fronts) {
	for my $case (@bad) {
		my ($text, $message) = @$case;

		is(join(' ', check($t, $context{$front}->("$text;"))),
			"1 [emerg] $message", "$front, $text");
	}

	for my $text (@counts) {
		my ($directive) = $text =~ /(\w+)/;

		is(join(' ', check($t, $context{$front}->("$text;"))),
			'1 [emerg] invalid number of arguments in '
			. qq/"$directive" directive/, "$front, $text");
	}
}

for my $directive (sort keys %good) {
	for my $where (sort keys %context) {
		my $text = "$directive $good{$directive}[0];";

		is(join(' ', check($t, $context{$where}->("$directive $_;"))),
			0, "$where, $directive $_") for @{$good{$directive}};
		is(join(' ', check($t, $context{$where}->("$text $text"))),
			qq/1 [emerg] "$directive" directive is duplicate/,
			"$where, $directive duplicate");
	}

	for my $where (sort keys %wrong) {
		my $text = "$directive $good{$directive}[0];";

		is(join(' ', check($t, $wrong{$where}->($text))),
			qq/1 [emerg] "$directive" directive is not allowed here/,
			"$directive in $where");
	}
}

###############################################################################

# inheritance, and what comes of variables

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_reason '
                      '"$tunnel_sni"';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    target_require_tls on;
    tunnel_preread_timeout 300ms;

    map $http_x_tls $by_header {
        ~^(?<value>.*)$  $value;
    }

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8081;
        target_require_tls sni;

        location / {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8082;
        target_require_tls sni;

        location / {
            connect_tunnel;
            target_require_tls off;
        }
    }

    server {
        listen 127.0.0.1:8083;
        connect_tunnel;
        target_require_tls off;
    }

    # a variable, alone and with text, and inherited

    server {
        listen 127.0.0.1:8084;
        target_require_tls $by_header;

        location / {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;
        target_require_tls s$http_x_tls;
    }

    # a location by "if" has that of its own

    server {
        listen 127.0.0.1:8086;

        location / {
            connect_tunnel;
            target_require_tls sni;

            if ($http_x_tls) {
                set $nothing 1;
            }
        }
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel;
        error_log %%TESTDIR%%/anonymous.log info;
        tunnel_anonymous_log on;
        target_require_tls sni;
    }

    # only what comes with the request

    server {
        listen 127.0.0.1:8088;
        connect_tunnel;
        tunnel_preread_timeout 0;
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$server_port $status $tunnel_result $tunnel_reason '
                      '"$tunnel_sni"';
    access_log %%TESTDIR%%/stream.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    target_require_tls sni;

    map $remote_addr $nothing {
        default  '';
    }

    map $remote_addr $wrong {
        default  yes;
    }

    # a server of the default time

    server {
        listen 127.0.0.1:8090;
        socks;
    }

    server {
        listen 127.0.0.1:8091;
        socks;
        target_require_tls off;
        tunnel_preread_timeout 300ms;
    }

    server {
        listen 127.0.0.1:8092;
        socks;
        target_require_tls $nothing;
    }

    server {
        listen 127.0.0.1:8093;
        passthrough 127.0.0.1:8099;
        target_require_tls $wrong;
    }

    server {
        listen 127.0.0.1:8094;
        passthrough 127.0.0.1:8099;
        tunnel_preread_timeout 300ms;
    }
}

EOF

start_daemon($t, \&half_close_daemon, port(8099), report => "$d/target");

$t->run();

my $bare = hello(tls13 => 1);
my $named = hello(sni => 'name.example', tls13 => 1);
my $plain = 'plain text';

my @cut = ('200 ok not_tls "-"', '0');
my @other = ('200 ok sni_mismatch "name.example"', '0');
my @off = ('200 ok completed "-"', length $plain);

is(tunnel($t, 8080, $plain), "@cut", 'on of http');
is(tunnel($t, 8080, $named), '200 ok completed "name.example" '
	. length $named, 'on of http, any name');
is(tunnel($t, 8081, $named), "@other", 'sni of a server in a location');
is(tunnel($t, 8081, $bare), '200 ok completed "-" ' . length $bare,
	'sni of a server, no name for an address');
is(tunnel($t, 8082, $plain), "@off", 'off of a location');
is(tunnel($t, 8083, $plain), "@off", 'off of a server');

is(tunnel($t, 8084, $named, 'sni'), "@other", 'variable sni');
is(tunnel($t, 8084, $named, 'SNI'), "@other", 'variable SNI');
is(tunnel($t, 8084, $plain, 'on'), "@cut", 'variable on');
is(tunnel($t, 8084, $plain, 'off'), "@off", 'variable off');
is(tunnel($t, 8084, $plain, ''), "@off", 'variable empty');
is(tunnel($t, 8084, $plain), "@off", 'no variable');
is(tunnel($t, 8085, $named, 'ni'), "@other", 'variable in a text');
is(tunnel($t, 8086, $named), "@other", 'without if');
is(tunnel($t, 8086, $named, 'x'), "@other", 'with if');

for my $value ('yes', 'on;', 'on off', '0', 'sn', 'snix', '$by_header') {
	is(tunnel($t, 8084, $named, $value), '500 internal - "-"',
		"variable $value");
	ok(wait_log($t, 'error.log', qr/\[error\].*
		invalid\ "target_require_tls"\ value\ "\Q$value\E"/x),
		"variable $value, logged");
}

is(tunnel($t, 8085, $named), '500 internal - "-"',
	'a text with nothing behind it');

# what is said of those that are cut

my @told = grep { /not_tls|sni_mismatch|ClientHello|and named/ }
	log_lines($t, 'error.log');
is(scalar(grep { / ended: not_tls, received: 0, sent: 0/ } @told), 2,
	'not_tls in the error log');
is(scalar(grep { !/client: 127\.0\.0\.1/ } @told), 0, 'with its client');

tunnel($t, 8087, $plain);
tunnel($t, 8087, $named);
ok(wait_log($t, 'anonymous.log', qr/ended: sni_mismatch/),
	'sni_mismatch in the error log');
is(scalar(grep { /client: / } log_lines($t, 'anonymous.log')), 0,
	'without the client');

is(tunnel($t, 8088, '', undef, $bare), '200 ok completed "-" '
	. length $bare, 'no time, a hello behind the request');
my $start = time();
my ($s, $head) = connect_tunnel(port(8088), '127.0.0.1:' . port(8099));
like($head, qr/ 200 /, 'no time');
is(join('', read_all($s, 4)), 'EOF', 'no time, nothing behind the request');
cmp_ok(time() - $start, '<', 1, 'no time, at once');

# stream, and the default time

$start = time();
($s, my $code) = socks_open($t, '5', port(8090), '127.0.0.1', port(8099));
is(join(' ', $code, read_all($s, 6)), '0  EOF', 'sni of stream');
my $took = time() - $start;
ok($took > 1.9 && $took < 5, 'two seconds') or diag($took);

$start = time();
$s = client_connect(port(8094));
read_all($s, 4);
$took = time() - $start;
ok($took > 0.28 && $took < 1.9, 'time of a server') or diag($took);

for my $number (8091, 8092) {
	($s, $code) = socks_open($t, '4', port($number), '127.0.0.1',
		port(8099), early => $plain);
	half_close($s);
	is("$code " . read_all($s), '90 ' . summary($plain), "off, $number");
}

$s = client_connect(port(8093));
isnt((read_all($s, 3))[1], 'TIMEOUT', 'a value that is none');
ok(wait_log($t, 'stream.log', qr/^\d+ 500 internal - "-"$/),
	'a value that is none, logged');

###############################################################################

# A tunnel: what is logged, and how much the target got; nothing of that if
# there was none.

sub tunnel {
	my ($t, $number, $bytes, $value, $early) = @_;

	our $count;
	my $id = 'id' . ++$count;
	my $seen = () = log_lines($t, 'target');

	my ($s, $head) = connect_tunnel(port($number), '127.0.0.1:'
		. port(8099), headers => [ "X-Id: $id",
			defined $value ? "X-TLS: $value" : () ],
		defined $early ? (early => $early) : ());

	if ($head =~ /^HTTP\/1\.1 200 /) {
		write_all($s, $bytes);
		half_close($s);
	}

	read_all($s, 4);
	close $s;

	my $line = logged($t, $id);

	if ($head =~ /^HTTP\/1\.1 200 /) {
		$line .= ' ' . (split ' ', target_line($t, $seen)
			|| 'none')[0];
	}

	return $line;
}

# nginx -t: its exit status, and the messages

sub check {
	my ($t, $main, $events, $http, $stream) = @_;

	return nginx_check($t, <<"EOF");
$main
events { $events }
http {
%%TEST_GLOBALS_HTTP%%
$http
}
stream {
%%TEST_GLOBALS_STREAM%%
$stream
}
EOF
}

###############################################################################
