#!/usr/bin/perl

# Tests for ngx_stream_connect_tunnel_module: clients that passthrough rejects,
# by its configuration or by what its variables say.

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

use Errno qw/ ECONNRESET /;
use Socket qw/ SO_ERROR /;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()
	->has(qw/stream stream_map stream_ssl socket_ssl_sni/)
	->has_daemon('openssl');

use constant ALERT => '15030300020270';		# fatal, unrecognized_name

# what a server is told to do, and what that is; $value is a map's

my %server = (
	8080	=> [ 'reject', 'tls_alert' ],
	8081	=> [ 'reject close', 'close' ],
	8082	=> [ 'reject reset', 'reset' ],
	8083	=> [ 'reject tls_alert', 'tls_alert' ],
	8084	=> [ '$value', 'tls_alert', 'reject' ],
	8085	=> [ '$value', 'close', 'reject close' ],
	8086	=> [ '$value', 'reset', 'reject reset' ],
	8087	=> [ '$value', 'tls_alert', 'reject tls_alert' ],
	8088	=> [ '$value', 'tls_alert', '' ],
	8089	=> [ '$value', 'tls_alert', ':443' ],
	8090	=> [ '$value$value', 'tls_alert', '' ],
	8091	=> [ '$nothing:443', 'tls_alert' ],
	8092	=> [ '${nothing}reject close', 'close' ],
);

my $hello = client_hello(sni => 'Name.Example', alpn => [ 'h2' ]);
my $ssl2 = "\x01\x03\x01" . pack('n3', 3, 0, 16) . "\x00\x00\x2f"
	. pattern(16);

# what a client says, and what that is

my %client = (
	tls	=> [ $hello, 'tls name.example' ],
	large	=> [ client_hello(sni => 'large.example', padding => 6000,
			tls13 => 1, fragment => 700), 'tls large.example' ],
	unnamed	=> [ client_hello(), 'tls -' ],
	http	=> [ "GET / HTTP/1.1\x0d\x0aHost: web.example\x0d\x0a\x0d\x0a",
			'http web.example' ],
	ssh	=> [ "SSH-2.0-test\x0d\x0a", 'ssh -' ],
	ssl2	=> [ pack('n', 0x8000 | length $ssl2) . $ssl2, 'sslv2 -' ],
	bytes	=> [ "\xff\xfe\xfd\xfc" x 3, 'unknown -' ],

	# a session id of 33 bytes

	broken	=> [ $hello =~ s/^(.{43})\x00/$1\x21/sr, 'unknown -' ],
);

# an event method with which bytes cannot be looked at and left there

my @modes = ('', $t->has_module('--with-poll_module') ? 'use poll;' : ());
my $cases = keys(%server) * keys(%client);

$t->plan(@modes * (2 * $cases + 14) + 64);

make_cert($t, 'localhost');
configure($t, '');
$t->run();

###############################################################################

# everybody at every server

for my $events (@modes) {
	if ($events) {
		$t->stop();
		configure($t, $events);
		$t->run();
	}

	table($t, $events || 'epoll');
	bytes_behind($t, $events || 'epoll');
	undecided($t, $events || 'epoll');
}

$t->stop();
configure($t, '');
$t->run();

my ($pid) = workers($t);
my $fds = fd_count($pid);

# those who stay

my $silent = session($t, port(8080));
write_all($silent, $hello);
my $inner = session($t, port(8105), ssl => 1);
write_all($inner, $hello);
my $talker = session($t, port(8081));
my $start = time();
is(ends($silent), ALERT . ' EOF', 'a client that stays is answered');
is(unpack('H*', read_n($inner, 7)), ALERT, 'a client in TLS that stays');

# without tunnel_preread: nobody speaks TLS

for my $case ([ 8100, 'EOF' ], [ 8101, 'EOF' ],
	[ 8102, 'RESET', 'v1' ], [ 8103, 'EOF' ], [ 8104, 'EOF' ])
{
	my ($number, $end, $header) = @$case;

	# a reset is not before that, or the client sees it before it can ask

	$header = defined $header ? proxy_protocol($header) : '';

	answered($t, $number, "$header$hello", $end, "$number, not preread");
	answered($t, $number, $header, $end, "$number, not preread, silent");
	like(last_logged($t), qr/^403 rejected - - - - - -$/,
		"$number, not preread, logged");
}

# RST and FIN, as a client's system has them

for my $bytes ($hello, "\xff" x 10) {
	my $s = session($t, port(8082));
	my $error = 0;

	write_all($s, $bytes);
	wait_for(sub { $error ||= $s->sockopt(SO_ERROR) });
	is($error, ECONNRESET, 'reset');

	$s = session($t, port(8081));
	write_all($s, $bytes);
	is(ends($s), 'EOF', 'close');
	is($s->sockopt(SO_ERROR), 0, 'close is no reset');
}

# real clients

for my $case ([ 8080 ], [ 8083, '-tls1_2' ], [ 8084, '-tls1_3' ],
	[ 8088, '-alpn h2,http/1.1' ], [ 8091, '-noservername' ])
{
	my ($number, @options) = @$case;

	my $said = s_client($number, @options);

	like($said, qr/tlsv1 unrecognized name/, "openssl, @$case");
	like($said, qr/alert number 112/, "openssl, @$case, alert");
}

unlike(s_client(8081), qr/unrecognized|CONNECTION ESTABLISHED/,
	'openssl, close');
like(s_client(8082), qr/errno=104|reset by peer/i, 'openssl, reset');

my $ssl = IO::Socket::SSL->new(PeerAddr => '127.0.0.1:' . port(8080),
	SSL_hostname => 'name.example', Timeout => 8);
ok(!$ssl, 'IO::Socket::SSL');
like(IO::Socket::SSL::errstr(), qr/unrecognized name/,
	'IO::Socket::SSL, alert');

# inside of TLS

for my $case ([ 8105, $hello, ALERT, 'EOF|TRUNCATED' ],
	[ 8105, "\xff\xff", '', 'EOF|TRUNCATED' ],
	[ 8106, $hello, '', 'EOF|TRUNCATED' ],
	[ 8107, $hello, '', 'RESET' ])
{
	my ($number, $bytes, $alert, $end) = @$case;

	my $s = session($t, port($number), ssl => 1);
	write_all($s, $bytes);

	my ($got, $state) = read_all($s);
	is(unpack('H*', $got), $alert, "$number, in TLS");
	like($state, qr/^(?:$end)\z/, "$number, in TLS, end");
	$s->close();
	like(session_log($t, $s), qr/^403 rejected - /,
		"$number, in TLS, logged");
}

# behind a PROXY protocol header

my $s = session($t, port(8108), proxy_protocol => 'v1');
write_all($s, $hello);
is(ends($s), ALERT . ' EOF', 'proxy_protocol');
close $s;
like(session_log($t, $s), qr/^403 rejected - tls name\.example - /,
	'proxy_protocol, logged');

# who has gone does not get it

for (1 .. 3) {
	$s = session($t, port(8080));
	write_all($s, $hello);
	reset_close($s);
	like(session_log($t, $s), qr/^(?:403 rejected|499 -) - /,
		'client has reset');
}

# many at once

my @many = map { tcp_connect(port($_ % 2 ? 8080 : 8088)) } 1 .. 200;
write_all($_, $hello) for @many;
is(scalar(grep { ends($_) eq ALERT . ' EOF' } @many), 200, 'many clients');
close $_ for @many;

# nobody can stay for long, neither silent nor sending

my $refused = 0;

wait_for(sub { $refused = write_all($talker, 'x') < 1 }, 12);

ok($refused, 'a client that goes on to send is cut');
ok(wait_for(sub { tcp_count($pid) == 0 }, 12),
	'a client that never closes is cut');
cmp_ok(time() - $start, '<', 12, 'within seconds');
like(session_log($t, $_), qr/^403 rejected - tls /, 'and logged')
	for $silent, $inner;

is(fd_count($pid), $fds, 'no descriptor left');
is((workers($t))[0], $pid, 'worker lives');

# it is the client's fault, if it is one

my @lines = grep { /rejected/ } log_lines($t, 'error.log');
is(scalar(grep { !/\[info\]/ } @lines), 0, 'level of the log');
cmp_ok(scalar @lines, '>', $cases, 'lines in the log');

###############################################################################

# All at once, and then what has become of them.

sub table {
	my ($t, $what) = @_;

	my @sessions;

	for my $number (sort keys %server) {
		for my $client (sort keys %client) {
			my ($bytes, $told) = @{$client{$client}};

			my $s = session($t, port($number));
			write_all($s, $bytes);

			push @sessions, [ $s, $told, $server{$number}[1],
				"$what, $number, $client" ];
		}
	}

	for (@sessions) {
		my ($s, $told, $mode, $name) = @$_;

		my $end = $mode eq 'reset' ? 'RESET'
			: $mode eq 'tls_alert' && $told =~ /^tls/
				? ALERT . ' EOF' : 'EOF';

		is(seen($s), $end, $name);
	}

	close $_->[0] for @sessions;

	for (@sessions) {
		my ($s, $told, undef, $name) = @$_;

		is(session_log($t, $s), "403 rejected - $told - - -",
			"$name, logged");
	}
}

# What nobody reads would turn the end into a reset, by which some systems
# forget the alert.

sub bytes_behind {
	my ($t, $what) = @_;

	for my $size (16384, 300000) {
		my $s = tcp_connect(port(8080));
		write_all($s, $hello . pattern($size));
		sleep(0.3);
		is(seen($s), ALERT . ' EOF', "$what, $size bytes behind");
	}

	my $s = tcp_connect(port(8081));
	write_all($s, "\xff" x 20000);
	sleep(0.3);
	is(seen($s), 'EOF', "$what, bytes, close");

	# still sending when it has come

	$s = tcp_connect(port(8080));
	write_all($s, $hello);
	sleep(0.1);

	for (1 .. 8) {
		write_all($s, pattern(5000));
		sleep(0.05);
	}

	is(seen($s), ALERT . ' EOF', "$what, bytes later");

	# the end right behind the hello, and a hello in pieces

	$s = tcp_connect(port(8080));
	write_all($s, $hello);
	half_close($s);
	is(seen($s), ALERT . ' EOF', "$what, end behind the hello");

	$s = tcp_connect(port(8080));
	send_split($s, $hello, step => 9, delay => 0.005);
	is(seen($s), ALERT . ' EOF', "$what, hello in pieces");
}

# What comes to the end, and a reset behind it as well.

sub seen {
	my ($s) = @_;

	my $end = ends($s);
	my $error = $s->sockopt(SO_ERROR);

	return $error ? "$end, error $error" : $end;
}

# Nothing, or not all of a hello, before the time is over.

sub undecided {
	my ($t, $what) = @_;

	my @sessions;

	for my $case ([ 8080, '', 'EOF', 'timeout' ],
		[ 8082, '', 'RESET', 'timeout' ],
		[ 8088, '', 'EOF', 'timeout' ],
		[ 8080, substr($hello, 0, -1), 'EOF', 'unknown' ])
	{
		my $s = session($t, port($case->[0]));
		write_all($s, $case->[1]);
		push @sessions, [ $s, @$case[2, 3] ];
	}

	is(seen($_->[0]), $_->[1], "$what, $_->[2]") for @sessions;
	close $_->[0] for @sessions;
	is(session_log($t, $_->[0]), "403 rejected - $_->[2] - - - -",
		"$what, $_->[2], logged") for @sessions;
}

my $last;

sub answered {
	my ($t, $number, $bytes, $end, $name) = @_;

	$last = session($t, port($number));
	write_all($last, $bytes);
	is(ends($last), $end, $name);
	close $last;
}

sub last_logged {
	my ($t) = @_;

	return session_log($t, $last);
}

sub s_client {
	my ($number, @options) = @_;

	my $name = "@options" =~ /noservername/ ? '' : '-servername a.example';

	return scalar `timeout 8 openssl s_client -connect \\
		127.0.0.1:${\port($number)} $name @options </dev/null 2>&1`;
}

###############################################################################

sub configure {
	my ($t, $events) = @_;

	my ($map, $servers) = ('', '');

	for my $number (sort keys %server) {
		my ($target, undef, $value) = @{$server{$number}};

		$map .= "        %%PORT_$number%%  '$value';\n"
			if defined $value;

		$servers .= <<"EOC";
    server {
        listen 127.0.0.1:$number;
        tunnel_preread on;
        tunnel_preread_timeout 500ms;
        passthrough $target;
    }

EOC
	}

	$servers =~ s/passthrough (\$\{\S+ close);/passthrough "$1";/;

	$t->write_file_expand('nginx.conf', <<"EOC" . <<'EOC' . "$servers}\n");

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 1024;
    $events
}

EOC
stream {
    %%TEST_GLOBALS_STREAM%%

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    log_format tunnel '$remote_port:$server_port $status '
                      '$tunnel_result $tunnel_reason '
                      '$preread_protocol $preread_host $tunnel_target '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    map $server_port $nothing {
        default  '';
    }

    map $server_port $value {
MAP
    }

    server {
        listen 127.0.0.1:8100;
        passthrough reject;
    }

    server {
        listen 127.0.0.1:8101;
        passthrough reject tls_alert;
    }

    server {
        listen 127.0.0.1:8102 proxy_protocol;
        passthrough reject reset;
    }

    server {
        listen 127.0.0.1:8103;
        passthrough $nothing;
    }

    server {
        listen 127.0.0.1:8104;
        passthrough $preread_host:443;
    }

    server {
        listen 127.0.0.1:8105 ssl;
        tunnel_preread on;
        passthrough reject;
    }

    server {
        listen 127.0.0.1:8106 ssl;
        tunnel_preread on;
        passthrough reject close;
    }

    server {
        listen 127.0.0.1:8107 ssl;
        tunnel_preread on;
        passthrough reject reset;
    }

    server {
        listen 127.0.0.1:8108 proxy_protocol;
        tunnel_preread on;
        passthrough reject;
    }

EOC

	my $text = $t->read_file('nginx.conf');
	$map =~ s/%%PORT_(\d+)%%/port($1)/eg;
	$text =~ s/^MAP\n/$map/m;
	$t->write_file('nginx.conf', $text);
}

###############################################################################
