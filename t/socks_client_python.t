#!/usr/bin/perl

# Tests for SOCKS with Python: PySocks, TCP and UDP, and with it urllib and
# requests.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT start_udp_echo /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Debian's, with Debian's PySocks and requests

my $python = '/usr/bin/python3';

my $t = Test::Nginx->new()->has(qw/http http_ssl stream/)->plan(81);

port($_, udp => 1) for 8980, 8981, 8982;

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$socks_version $socks_command $tunnel_target '
                      '$status $tunnel_result';
    log_format bytes '$socks_user $tunnel_bytes_received '
                     '$tunnel_bytes_sent $tunnel_reason';

    access_log %%TESTDIR%%/tunnel.log tunnel;
    access_log %%TESTDIR%%/bytes.log bytes;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_deny denied.example.test:* *:%%PORT_8982_UDP%%;
    target_allow_address 127.0.0.1 ::1;

    server {
        listen 127.0.0.1:8080;
        socks;
        socks_udp on;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_udp on;
        socks_auth basic proxy users;
        socks_auth_delay 300ms;
    }

    server {
        listen 127.0.0.1:8082;
        socks;
    }
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen 127.0.0.1:8443 ssl;
        listen [::1]:%%PORT_8443%% ssl;
        listen 127.0.0.1:8084;

        ssl_certificate secure.crt;
        ssl_certificate_key secure.key;

        location / {
            return 200 "$scheme $http_host$http_authorization\n";
        }

        location = /peer {
            return 200 "$remote_addr $remote_port\n";
        }

        location = /big {
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'127.0.0.1', '::1' ]);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', pattern(10 * 1024 * 1024));

# An HTTP request, after what the proxy says of its end of the connection.

$t->write_file('tcp.py', <<'EOF');
import socks, sys

version, host, port, proxy_port, path, *user = sys.argv[1:]

sock = socks.socksocket()
sock.set_proxy(socks.SOCKS5 if version == '5' else socks.SOCKS4, '127.0.0.1',
               int(proxy_port), version != '4', *user)
sock.settimeout(10)
sock.connect((host, int(port)))

print(*sock.get_proxy_sockname(), flush=True)

sock.sendall(f'GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n'.encode())

data = b''
while part := sock.recv(65536):
    data += part

sys.stdout.buffer.write(data.partition(b'\r\n\r\n')[2])
EOF

# Datagrams to each target in turn, of each size; what comes back, and from
# where.  For an answer that is not to come there is a short wait.

$t->write_file('udp.py', <<'EOF');
import socket, socks, sys

proxy_port, rdns, user, sizes, *targets = sys.argv[1:]

sock = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
sock.set_proxy(socks.SOCKS5, '127.0.0.1', int(proxy_port), rdns == 'remote',
               *(user.split(':') if user else ()))

for target in targets:
    host, _, port = target.lstrip('!').rpartition(':')
    sock.settimeout(0.3 if target.startswith('!') else 5)

    for size in map(int, sizes.split(',')):
        data = bytes(i * 7 % 251 for i in range(size))

        sock.sendto(data, (host, int(port)))

        try:
            answer, peer = sock.recvfrom(65536)
            print('same' if answer == data else f'other {len(answer)}',
                  size, *peer)
        except socket.timeout:
            print('no answer', size)

sock.close()
EOF

$t->write_file('fetch_urllib.py', <<'EOF');
import shutil, socks, ssl, sys
import urllib.parse, urllib.request
from sockshandler import SocksiPyHandler

ca, proxy, url = sys.argv[1:]
p = urllib.parse.urlsplit(proxy)

# in place of the handler that verifies with this context

ssl._create_default_https_context = (
    lambda: ssl.create_default_context(cafile=ca))

opener = urllib.request.build_opener(SocksiPyHandler(
    socks.SOCKS5 if p.scheme == 'socks5h' else socks.SOCKS4,
    p.hostname, p.port, True, p.username, p.password))

with opener.open(url, timeout=10) as response:
    shutil.copyfileobj(response, sys.stdout.buffer)
EOF

$t->write_file('fetch_requests.py', <<'EOF');
import sys
import requests

ca, proxy, *urls = sys.argv[1:]

session = requests.Session()
session.trust_env = False
session.verify = ca
session.proxies = {'http': proxy, 'https': proxy}

for url in urls:
    response = session.get(url, timeout=10)
    response.raise_for_status()
    sys.stdout.buffer.write(response.content)
EOF

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'secure.example.test' => '127.0.0.1',
		'denied.example.test' => '127.0.0.1',
		'inside.example.test' => '127.0.0.2',
		'echo.example.test' => '127.0.0.1',
		'six.example.test' => '::1',
	});

my $echo_port = port(8981, udp => 1);
my $denied_port = port(8982, udp => 1);

start_udp_echo($t, "127.0.0.1:$echo_port");
start_udp_echo($t, "127.0.0.2:$echo_port");
start_udp_echo($t, "[::1]:$echo_port");
start_udp_echo($t, "127.0.0.1:$denied_port");

$t->run();

###############################################################################

my $name = 'secure.example.test';
my $plain = port(8084);
my $closed = port(8999);

my $open = port(8080);
my $auth = port(8081);
my $no_udp = port(8082);

my $big = sha1_hex(pattern(10 * 1024 * 1024));
my $r;

# PySocks: each version, and the real local end of the proxy's connection,
# which is what the target sees

for my $case ([ '4', '127.0.0.1' ], [ '4a', $name ], [ '5', '127.0.0.1' ],
	[ '5', $name ])
{
	my ($version, $host) = @$case;
	my $test = "socks$version $host";

	$r = python($t, 'tcp', $version, $host, $plain, $open, '/peer');
	like($r->{out}, qr/^(127\.0\.0\.1 \d+)\n\1\n\z/, $test)
		|| diag($r->{err});
	is(tunnels($t), "$version connect $host:$plain 200 ok", "$test log");

	$r = python($t, 'tcp', $version, $host, $plain, $open, '/big');
	is("$r->{status} " . sha1_hex($r->{out} =~ s/^.*\n//r), "0 $big",
		"$test download") || diag($r->{err});
	is(tunnels($t), "$version connect $host:$plain 200 ok",
		"$test download log");
}

# passwords and userids

like(python($t, 'tcp', 5, $name, $plain, $auth, '/', 'user', 'secret')
	->{out}, qr/\nhttp $name\n\z/, 'password');
is(tunnels($t), "5 connect $name:$plain 200 ok", 'password log');

is_failed(python($t, 'tcp', 5, $name, $plain, $auth, '/', 'user', 'wrong'),
	qr/SOCKS5AuthError: SOCKS5 authentication failed/, 'wrong password');
is(tunnels($t), '5 - - 407 auth_failed', 'wrong password log');

is_failed(python($t, 'tcp', 5, $name, $plain, $auth, '/'),
	qr/All offered SOCKS5 authentication methods were rejected/,
	'no password');
is(tunnels($t), '5 - - 407 auth_failed', 'no password log');

like(python($t, 'tcp', '4a', $name, $plain, $open, '/', 'somebody')->{out},
	qr/\nhttp $name\n\z/, 'userid');
is(tunnels($t), "4a connect $name:$plain 200 ok", 'userid log');
like((log_lines($t, 'bytes.log'))[-1], qr/^somebody /, 'userid user');

is_failed(python($t, 'tcp', '4a', $name, $plain, $auth, '/', 'user'),
	qr/SOCKS4Error: 0x5d: .*different user-ids/i,
	'userid in place of a password');
like(tunnels($t), qr/ 407 auth_failed\z/,
	'userid in place of a password log');

# refused

for my $case (
	[ 'denied name', 'denied.example.test', $plain, '0x02: Connection '
		. 'not allowed by ruleset', '403 denied_name' ],
	[ 'denied address', 'inside.example.test', $plain, '0x02: Connection '
		. 'not allowed by ruleset', '403 denied_address' ],
	[ 'no such name', 'nowhere.example.test', $plain, '0x04: Host '
		. 'unreachable', '502 resolve_failed' ],
	[ 'refused', $name, $closed, '0x05: Connection refused',
		'502 refused' ])
{
	my ($test, $host, $port, $text, $result) = @$case;

	is_failed(python($t, 'tcp', 5, $host, $port, $open, '/'),
		qr/SOCKS5Error: $text/, $test);
	is(tunnels($t), "5 connect $host:$port $result", "$test log");

	is_failed(python($t, 'tcp', '4a', $host, $port, $open, '/'),
		qr/SOCKS4Error: 0x5b: Request rejected or failed/,
		"socks4a $test");
	is(tunnels($t), "4a connect $host:$port $result",
		"socks4a $test log");
}

# urllib and requests

my $secure = "$name:" . port(8443);
my $ca = $t->testdir() . '/ca.crt';

for my $script (qw/ fetch_urllib fetch_requests /) {
	for my $case ([ 'socks4a', '4a' ], [ 'socks5h', 5 ]) {
		my ($scheme, $version) = @$case;

		$r = python($t, $script, $ca, "$scheme://127.0.0.1:$open",
			"https://$secure/big");
		is("$r->{status} " . sha1_hex($r->{out}), "0 $big",
			"$script $scheme") || diag($r->{err});
		is(tunnels($t), "$version connect $secure 200 ok",
			"$script $scheme log");
	}

	is_client(python($t, $script, $ca,
		"socks5h://user:secret\@127.0.0.1:$auth",
		"https://$secure/"), "https $secure\n", "$script password");
	is(tunnels($t), "5 connect $secure 200 ok", "$script password log");

	is_failed(python($t, $script, $ca,
		"socks5h://user:wrong\@127.0.0.1:$auth",
		"https://$secure/"), qr/SOCKS5 authentication failed/,
		"$script wrong password");
	like(tunnels($t), qr/^5 - - 407 auth_failed/,
		"$script wrong password log");
}

is_client(python($t, 'fetch_requests', $ca, "socks5h://127.0.0.1:$open",
	"https://$secure/1", "https://$secure/2"),
	"https $secure\nhttps $secure\n", 'requests, two in one tunnel');
is(tunnels($t), "5 connect $secure 200 ok",
	'requests, two in one tunnel log');

# UDP: PySocks asks for an association with the name "0" as the address, or
# 0.0.0.0 if it is to resolve

my $echo = "echo.example.test:$echo_port";
my $associate = '5 udp_associate - 200 ok';

for my $case ([ 'remote', 'udp' ], [ 'local', 'udp, local names' ]) {
	my ($rdns, $test) = @$case;

	is_client(python($t, 'udp', $open, $rdns, '', '1,100,1400,40000',
		"127.0.0.1:$echo_port"), join('', map {
			"same $_ 127.0.0.1 $echo_port\n"
		} 1, 100, 1400, 40000), $test);
	is(tunnels($t), $associate, "$test log");
	is((log_lines($t, 'bytes.log'))[-1], '- 41501 41501 client_closed',
		"$test bytes");
}

is_client(python($t, 'udp', $open, 'remote', '', '10,0', $echo),
	"same 10 127.0.0.1 $echo_port\nsame 0 127.0.0.1 $echo_port\n",
	'udp by name');
is(tunnels($t), $associate, 'udp by name log');

is_client(python($t, 'udp', $open, 'remote', '', '10', $echo,
	"::1:$echo_port", "six.example.test:$echo_port",
	"127.0.0.1:$echo_port"),
	"same 10 127.0.0.1 $echo_port\nsame 10 ::1 $echo_port\n"
	. "same 10 ::1 $echo_port\nsame 10 127.0.0.1 $echo_port\n",
	'udp to several');
is(tunnels($t), $associate, 'udp to several log');

is_client(python($t, 'udp', $auth, 'remote', 'user:secret', '10', $echo),
	"same 10 127.0.0.1 $echo_port\n", 'udp password');
is(tunnels($t), $associate, 'udp password log');
is((log_lines($t, 'bytes.log'))[-1], 'user 10 10 client_closed',
	'udp password bytes');

is_failed(python($t, 'udp', $auth, 'remote', 'user:wrong', '10', $echo),
	qr/SOCKS5AuthError: SOCKS5 authentication failed/,
	'udp wrong password');
is(tunnels($t), '5 - - 407 auth_failed', 'udp wrong password log');

# each datagram by itself

is_client(python($t, 'udp', $open, 'remote', '', '10',
	"!denied.example.test:$echo_port", "!127.0.0.1:$denied_port",
	"!inside.example.test:$echo_port", $echo),
	"no answer 10\nno answer 10\nno answer 10\n"
	. "same 10 127.0.0.1 $echo_port\n", 'udp denied');
is(tunnels($t), $associate, 'udp denied log');
like((log_lines($t, 'bytes.log'))[-1], qr/ 10 client_closed$/,
	'udp denied bytes');

is_failed(python($t, 'udp', $no_udp, 'remote', '', '10', $echo),
	qr/SOCKS5Error: 0x07: Command not supported/, 'udp off');
like(tunnels($t), qr/^5 udp_associate \S+ 501 unsupported_command\z/,
	'udp off log');

###############################################################################

sub python {
	my ($t, $script, @args) = @_;

	return client($t, [ $python, "$script.py", @args ]);
}

###############################################################################
