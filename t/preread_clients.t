#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module with real clients of TLS: they
# reach the server that they name, and what they said is recorded, read here,
# and said again byte by byte.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT chromium /;
use Test::Nginx::Hello;

use IO::Select;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	EACH		=> 4,		# tests of a client
	RECORDED	=> 20000,	# bytes
	REQUEST		=> "GET / HTTP/1.0\r\nHost: one.example.test\r\n\r\n",
};

my $t = Test::Nginx->new()->has(qw/http http_ssl stream stream_map
	socket_ssl/);

my $d = $t->testdir();

# names, and the server that has each

my %server = ('one.example.test' => 8091, 'two.example.test' => 8092,
	localhost => 8092, '-' => 8093);

my $pq = `openssl list -tls-groups 2>&1` =~ /X25519MLKEM768/;

my @s_client = s_client_cases();
my @others = other_cases($t);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_ciphers ALL:@SECLEVEL=0;

    server {
        listen 127.0.0.1:8091 ssl;
        ssl_certificate secure.crt;
        ssl_certificate_key secure.key;

        location / {
            default_type text/html;
            return 200 "<p>one</p>\n";
        }
    }

    server {
        listen 127.0.0.1:8092 ssl;
        ssl_certificate second.crt;
        ssl_certificate_key second.key;
        root %%TESTDIR%%/html;
    }

    server {
        listen 127.0.0.1:8093 ssl;
        ssl_certificate third.crt;
        ssl_certificate_key third.key;

        location / {
            return 200 "<p>none</p>\n";
        }
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format preread '$remote_port $preread_protocol $preread_host '
                       '$preread_alpn $preread_tls_version '
                       '$preread_tls_min_version $preread_ech '
                       '$tunnel_address';

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    map $preread_protocol:$preread_host $server {
        tls:one.example.test  127.0.0.1:8091;
        tls:two.example.test  127.0.0.1:8092;
        tls:localhost         127.0.0.1:8092;
        tls:                  127.0.0.1:8093;
        default               reject;
    }

    server {
        listen 127.0.0.1:8080;
        access_log %%TESTDIR%%/preread.log preread;

        tunnel_preread on;
        tunnel_preread_timeout 20s;
        passthrough $server;
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'one.example.test' ]);
make_cert($t, 'second', ca => 'ca', san => [ 'two.example.test',
	'localhost' ]);
make_cert($t, 'third', ca => 'ca', san => [ '127.0.0.1' ]);

# a repository for a client that knows no other way

mkdir "$d/$_" or die "Can't create $_: $!\n"
	for qw! html html/repo.git html/repo.git/info !;

$t->write_file('html/index.html', "<p>two</p>\n");
$t->write_file('html/repo.git/info/refs', '0123456789' x 4
	. "\trefs/heads/main\n");
$t->write_file('html/repo.git/HEAD', "ref: refs/heads/main\n");

scripts($t);

$t->plan(EACH * (@s_client + @others) + 2 + 5);

start_daemon($t, \&recorder_daemon, port(8070), port(8080), $d);

$t->run();

###############################################################################

my $port = port(8070);

for my $case (@s_client) {
	my ($options, $name, $expected) = @$case;

	my ($server) = $options =~ /-servername (\S+)/;

	my $r = client($t, [ qw/ openssl s_client -quiet -CAfile ca.crt
		-verify_return_error -connect /, "127.0.0.1:$port",
		split(' ', $options) ], in => REQUEST);

	check($t, "s_client $options", $r, $name, $expected);
}

SKIP: {
	skip 'openssl has no X25519MLKEM768', 2 unless $pq;

	client($t, [ qw/ openssl s_client -quiet -CAfile ca.crt -connect /,
		"127.0.0.1:$port", qw/ -servername one.example.test
		-groups X25519MLKEM768:X25519 / ], in => REQUEST);

	my ($line, $hello) = said($t);
	is(join(' ', grep { $_ == 0x11ec } @{$hello->{shares}}), 0x11ec,
		's_client, post-quantum');
	like($line, qr/^tls one\.example\.test - TLSv1\.3 /,
		's_client, post-quantum, logged');
}

for my $case (@others) {
	my ($what, $command, $name, $expected, %opt) = @$case;

	check($t, $what, client($t, $command, %opt), $name, $expected);
}

# a browser, which has all that is new

my $r = client($t, [ chromium($t, 'direct://', 'direct'),
	'--host-resolver-rules=MAP *.example.test 127.0.0.1, MAP * ~NOTFOUND',
	'--virtual-time-budget=5000', '--dump-dom',
	"https://one.example.test:$port/" ], timeout => 30);

like($r->{out}, qr!<p>one</p>!, 'Chromium')
	|| diag("status $r->{status}: " . substr($r->{err}, -2000));

my ($line, $hello) = said($t);
is($line, line($hello, 'one.example.test'), 'Chromium, as it was said');
like($line, qr!^tls one\.example\.test \S*http/1\.1 TLSv1\.3 TLSv1\.2 1 !,
	'Chromium, logged');
ok((grep { $_ == 0x11ec } @{$hello->{shares}}) && $hello->{length} > 1500,
	'Chromium, post-quantum');
ok(again($t, $hello, $line), 'Chromium, byte by byte');

###############################################################################

# What it said comes out the same here and there, and when it is said again.

sub check {
	my ($t, $what, $r, $name, $expected) = @_;

	my %body = ('one.example.test' => 'one', '-' => 'none',
		'two.example.test' => 'two', localhost => 'two');

	like("$r->{status} $r->{out}", qr!^0 .*(?:<p>$body{$name}</p>
		|\trefs/heads/main)!xs, $what)
		|| diag("status $r->{status}: " . substr($r->{err}, -1000));

	my ($line, $hello) = said($t);

	is($line, line($hello, $name), "$what, as it was said");
	like($line, $expected, "$what, logged");
	ok(again($t, $hello, $line), "$what, byte by byte");
}

sub s_client_cases {
	my $sni = '-servername one.example.test';
	my $old = '-cipher ALL:@SECLEVEL=0';

	return (
		[ $sni, 'one.example.test', qr/ - TLSv1\.3 / ],
		[ '-servername TWO.example.TEST', 'two.example.test',
			qr/ TLSv1\.3 / ],
		[ '-noservername', '-', qr/^tls - - TLSv1\.3 / ],
		[ "$sni -tls1_3", 'one.example.test',
			qr/ TLSv1\.3 TLSv1\.3 - / ],
		[ "$sni -tls1_2", 'one.example.test', qr/ TLSv1\.2 - - / ],
		[ "$sni -tls1_1 $old", 'one.example.test',
			qr/ TLSv1\.1 - - / ],
		[ "$sni -tls1 $old", 'one.example.test', qr/ TLSv1 - - / ],
		[ "$sni -alpn h2,http/1.1 -no_tls1_3", 'one.example.test',
			qr/ h2,http\/1\.1 TLSv1\.2 - - / ],
		[ "$sni -alpn http/1.1,x%y", 'one.example.test',
			qr/ http\/1\.1,x%25y TLSv1\.3 / ],
		[ "$sni -groups P-521:P-384:X25519", 'one.example.test',
			qr/ TLSv1\.3 / ],
		[ "$sni -max_send_frag 512 -split_send_frag 512",
			'one.example.test', qr/ TLSv1\.3 / ],
		[ "$sni -status -ciphersuites TLS_AES_256_GCM_SHA384",
			'one.example.test', qr/ TLSv1\.3 / ],
	);
}

# Programs, the name that they ask for, and what is logged.

sub other_cases {
	my ($t) = @_;

	my $port = port(8070);
	my $dir = $t->testdir();
	my @curl = (qw/ curl -s --cacert ca.crt --resolve /,
		"one.example.test:$port:127.0.0.1", '--resolve',
		"two.example.test:$port:127.0.0.1");

	return (
		[ 'curl', [ @curl, "https://one.example.test:$port/" ],
			'one.example.test', qr/ h2,http\/1\.1 TLSv1\.3 / ],
		[ 'curl, HTTP/1.1', [ @curl, '--http1.1',
			"https://two.example.test:$port/" ],
			'two.example.test', qr/ http\/1\.1 TLSv1\.3 / ],
		[ 'curl, TLS 1.2', [ @curl, qw/ --tls-max 1.2 /,
			"https://one.example.test:$port/" ],
			'one.example.test', qr/ TLSv1\.2 - - / ],
		[ 'curl, TLS 1.3', [ @curl, qw/ --tlsv1.3 --no-alpn /,
			"https://one.example.test:$port/" ],
			'one.example.test', qr/ - TLSv1\.3 TLSv1\.3 - / ],
		[ 'curl, an address', [ @curl, "https://127.0.0.1:$port/" ],
			'-', qr/^tls - / ],
		[ 'wget', [ qw/ wget -q -O - --ca-certificate=ca.crt
			--no-hsts -4 /, "https://localhost:$port/" ],
			'localhost', qr/ TLSv1\.[23] / ],
		[ 'git', [ qw/ git -c http.sslCAInfo=ca.crt -c /,
			"http.curloptResolve=two.example.test:$port:127.0.0.1",
			'ls-remote',
			"https://two.example.test:$port/repo.git" ],
			'two.example.test', qr/ TLSv1\.3 /,
			env => { GIT_TERMINAL_PROMPT => 0 } ],
		[ 'python', [ '/usr/bin/python3', 'client.py', $port,
			'two.example.test' ], 'two.example.test',
			qr/ h2,http\/1\.1 TLSv1\.3 / ],
		[ 'Node', [ 'node', 'client.js', $port, 'one.example.test' ],
			'one.example.test', qr/ TLSv1\.3 /,
			env => { NODE_EXTRA_CA_CERTS => "$dir/ca.crt" } ],
		[ 'Node, TLS 1.2', [ 'node', 'client.js', $port,
			'one.example.test', 'TLSv1.2' ], 'one.example.test',
			qr/ x,http\/1\.1 TLSv1\.2 /,
			env => { NODE_EXTRA_CA_CERTS => "$dir/ca.crt" } ],
		[ 'IO::Socket::SSL', [ $^X, 'client.pl', $port,
			'two.example.test' ], 'two.example.test',
			qr/ TLSv1\.3 / ],
	);
}

sub scripts {
	my ($t) = @_;

	$t->write_file('client.py', <<'EOF');
import socket, ssl, sys

context = ssl.create_default_context(cafile='ca.crt')
context.set_alpn_protocols(['h2', 'http/1.1'])

with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 8) as s:
    with context.wrap_socket(s, server_hostname=sys.argv[2]) as tls:
        tls.sendall(b'GET / HTTP/1.0\r\n\r\n')
        while data := tls.recv(4096):
            sys.stdout.write(data.decode())
EOF

	$t->write_file('client.js', <<'EOF');
const tls = require('tls');
const [ , , port, servername, version ] = process.argv;
const options = { host: '127.0.0.1', port, servername };

if (version) {
    options.maxVersion = version;
    options.ALPNProtocols = [ 'x', 'http/1.1' ];
}

const s = tls.connect(options, () => s.write('GET / HTTP/1.0\r\n\r\n'));
s.pipe(process.stdout);
EOF

	$t->write_file('client.pl', <<'EOF');
use IO::Socket::SSL;
my $s = IO::Socket::SSL->new(PeerAddr => '127.0.0.1', PeerPort => $ARGV[0],
	SSL_ca_file => 'ca.crt', SSL_hostname => $ARGV[1],
	SSL_verifycn_scheme => 'http', SSL_verifycn_name => $ARGV[1])
	or die "no tls: $SSL_ERROR\n";
print $s "GET / HTTP/1.0\r\n\r\n";
print while <$s>;
EOF
}

###############################################################################

# What was logged of the last client, without its port, and its ClientHello; of
# a client that makes several connections, the last one's.

sub said {
	my ($t) = @_;

	our $seen;
	my $first = $seen || 0;

	wait_for(sub { log_lines($t, 'preread.log') > $first });

	# others may still end

	my $count;
	wait_for(sub {
		my @files = glob $t->testdir() . '/recorded.*';
		$count = log_lines($t, 'preread.log');
		return $count >= $first + @files;
	}, 3);

	my @lines = log_lines($t, 'preread.log');
	$seen = @lines;

	my (@wrong, $line, $hello);

	for my $one (@lines[$first .. $#lines]) {
		my ($id, $rest) = split / /, $one, 2;
		my $file = $t->testdir() . "/recorded.$id";

		next unless -e $file;

		my $bytes = $t->read_file("recorded.$id");
		unlink $file;

		my $read = read_hello($bytes) or next;
		$read->{bytes} = substr $bytes, 0, $read->{length};

		$line = $rest;
		$hello = $read;
	}

	diag("nothing recorded") unless $hello;

	return (defined $line ? $line : '', $hello || {});
}

# What should be logged of it.

sub line {
	my ($hello, $name) = @_;

	return 'no hello' unless $hello->{bytes};

	my $names = read_hello_names($hello);

	return join ' ', @$names{qw/ protocol host alpn version min ech /},
		'127.0.0.1:' . port(server($name));
}

sub server {
	my ($name) = @_;

	return { 'one.example.test' => 8091, '-' => 8093 }->{$name} || 8092;
}

# Says it again; a server answers, and it is logged as before.

sub again {
	my ($t, $hello, $line) = @_;

	return 0 unless defined $hello->{bytes};

	my $s = tcp_connect(port(8080));
	my $id = $s->sockport();

	send_split($s, $hello->{bytes}, step => 1, delay => 0.0001);

	my $answer = read_n($s, 6);
	close $s;

	my $got = wait_for(sub {
		our $seen;
		my @lines = log_lines($t, 'preread.log');
		return (grep { s/^$id // } @lines[$seen .. $#lines])[0];
	});

	our $seen = log_lines($t, 'preread.log');

	diag('no ServerHello: ' . unpack 'H*', $answer)
		unless is_server_hello($answer);
	diag('logged: ' . ($got || '')) if ($got || '') ne $line;

	return is_server_hello($answer) && defined $got && $got eq $line;
}

# Hands on what it gets, and keeps what the client says; the file has the port
# that nginx knows.

sub recorder_daemon {
	my ($addr, $to, $dir) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		my $nginx = tcp_connect($to) or return;

		open my $file, '>', "$dir/recorded." . $nginx->sockport()
			or die "Can't record: $!\n";
		binmode $file;

		my %peer = ($s => $nginx, $nginx => $s);
		my $select = IO::Select->new($s, $nginx);
		my $recorded = 0;

		while ($select->count()) {
			my @ready = $select->can_read(30) or last;

			for my $from (@ready) {
				my $to = $peer{$from};
				my $n = sysread($from, my $bytes, 65536);

				if (!$n) {
					$select->remove($from);
					shutdown($to, 1);
					next;
				}

				if ($from == $s && $recorded < RECORDED) {
					syswrite $file, $bytes;
					$recorded += $n;
				}

				write_all($to, $bytes);
			}
		}
	});
}

###############################################################################
