#!/usr/bin/perl

# Tests for CONNECT over HTTP/2 with Python's h2, curl, and openssl s_client;
# and for ordinary requests of nghttp and h2load beside tunnels.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::H2;
use Test::Nginx::Clients qw/ :DEFAULT curl_refused /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Debian's, with Debian's h2

my $python = '/usr/bin/python3';

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 auth_basic rewrite/)
	->plan(43);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$connection $server_protocol $http2 $request $status '
                      '$tunnel_result $tunnel_reason $tunnel_bytes_received '
                      '$tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow secure.example.test:*;
    target_allow_address 127.0.0.1;

    keepalive_timeout 1s;

    server {
        LISTEN 127.0.0.1:8081 ssl;
        connect_tunnel;

        location / {
            access_log off;
        }

        location = /headers {
            access_log off;
            return 200 "$http_continuation_test_1\n$http_x_last\n";
        }
    }

    server {
        LISTEN 127.0.0.1:8082 ssl;
        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;
        access_log off;

        location / {
            return 200 "$scheme $http_host$uri\n";
        }

        location = /big {
        }
    }
}

EOF

$t->write_file_expand('nginx.conf', h2_conf($t, $conf));

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'127.0.0.1' ]);

my $d = $t->testdir();
my $big = pattern(3 * 1024 * 1024);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', $big);
$t->write_file('page', 'SEE-THIS');

start_daemon($t, \&dns_daemon, port(8980, udp => 1),
	table => { 'secure.example.test' => '127.0.0.1' });
start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&half_close_daemon, port(8092));
start_daemon($t, \&reset_daemon, port(8093), greeting => 'hello');

port(8999);	# nobody is there

$t->run();

###############################################################################

my $name = 'secure.example.test';
my $proxy = port(8081);
my $url = "https://127.0.0.1:$proxy";

python_h2_tests($t);
nghttp_tests($t);
h2load_tests($t);
s_client_tests($t);
curl_tests($t);

###############################################################################

# Several tunnels of one connection; TLS in them; both ends half close.

sub python_h2_tests {
	my ($t) = @_;

	return skip_tests(18, 'no python3-h2')
		if system("$python -c 'import h2' >/dev/null 2>&1");

	$t->write_file('h2client.py', <<'EOF');
import hashlib, json, socket, ssl, sys
import h2.config, h2.connection, h2.events, h2.exceptions

proxy, auth, tls, echo, sums, resets, nobody = map(int, sys.argv[1:])
host = 'secure.example.test'
told = {}


class Proxy:
    def __init__(self, port):
        context = ssl.create_default_context(cafile='ca.crt')
        context.set_alpn_protocols(['h2'])
        raw = socket.create_connection(('127.0.0.1', port), 10)
        raw.settimeout(10)
        self.socket = context.wrap_socket(raw, server_hostname='127.0.0.1')
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding='utf-8',
                # which would ask for a path
                validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.streams = {}
        self.goaway = None
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def tunnel(self, port, *headers):
        sid = self.h2.get_next_available_stream_id()
        self.streams[sid] = stream = Stream(self, sid)
        self.h2.send_headers(sid, [(':method', 'CONNECT'),
            (':authority', f'{host}:{port}'), *headers])
        self.flush()
        return stream

    def wait(self, done):
        while not done():
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            for event in self.h2.receive_data(data):
                self.handle(event)
            self.flush()

    def handle(self, event):
        stream = self.streams.get(getattr(event, 'stream_id', None))
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.data += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length,
                event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event.error_code


class Stream:
    def __init__(self, proxy, sid):
        self.proxy, self.sid = proxy, sid
        self.headers, self.data = None, b''
        self.ended, self.reset = False, None

    def status(self):
        self.proxy.wait(lambda: self.headers or self.reset is not None)
        return int(self.headers[':status'])

    # as far as the windows are open; reads meanwhile
    def send(self, data, end=False):
        h2 = self.proxy.h2
        while data:
            self.proxy.wait(lambda:
                h2.local_flow_control_window(self.sid) > 0)
            n = min(len(data), h2.max_outbound_frame_size,
                h2.local_flow_control_window(self.sid))
            h2.send_data(self.sid, data[:n])
            data = data[n:]
            self.proxy.flush()
        if end:
            h2.end_stream(self.sid)
            self.proxy.flush()

    def read(self, n):
        self.proxy.wait(lambda: len(self.data) >= n)
        data, self.data = self.data[:n], self.data[n:]
        return data

    def rest(self):
        self.proxy.wait(lambda: self.ended or self.reset is not None)
        return self.data


# TLS in a stream
class Secure:
    def __init__(self, stream):
        context = ssl.create_default_context(cafile='ca.crt')
        self.stream = stream
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing,
            server_hostname=host)
        self.run(self.tls.do_handshake)

    def run(self, f, *args):
        while True:
            try:
                result = f(*args)
                self.stream.send(self.outgoing.read())
                return result
            except ssl.SSLWantReadError:
                self.stream.send(self.outgoing.read())
                self.stream.proxy.wait(lambda: self.stream.data
                    or self.stream.ended)
                self.incoming.write(self.stream.data)
                self.stream.data = b''

    def get(self, path):
        self.run(self.tls.write, f'GET {path} HTTP/1.0\r\n'
            f'Host: {host}\r\n\r\n'.encode())
        answer = b''
        while True:
            try:
                part = self.run(self.tls.read, 65536)
            except ssl.SSLZeroReturnError:
                part = b''
            if not part:
                return answer.partition(b'\r\n\r\n')[2]
            answer += part


bulk = bytes(range(256)) * 8000
one = Proxy(proxy)
told['alpn'] = one.socket.selected_alpn_protocol()

streams = [one.tunnel(echo) for _ in range(20)]
told['statuses'] = sorted({stream.status() for stream in streams})
for n, stream in enumerate(streams):
    stream.send(b'stream %d' % n)
told['echoes'] = [stream.read(len(b'stream %d' % n)).decode()
    for n, stream in reversed(list(enumerate(streams)))]

streams[3].send(bulk)
told['bulk'] = streams[3].read(len(bulk)) == bulk

for stream in streams:
    stream.send(b'', True)
told['ends'] = sum(stream.rest() == b'' and stream.ended
    for stream in streams)

stream = one.tunnel(sums)
stream.send(bulk, True)
told['sum'] = stream.rest().decode()

stream = one.tunnel(tls)
stream.status()
secure = Secure(stream)
told['tls'] = secure.get('/tls').decode()
stream = one.tunnel(tls)
stream.status()
told['big'] = hashlib.sha1(Secure(stream).get('/big')).hexdigest()

stream = one.tunnel(resets)
told['hello'] = stream.read(5).decode()
stream.send(b'x')
stream.rest()
told['reset'] = stream.reset

stream = one.tunnel(nobody)
told['refused'] = [stream.status(), stream.headers['proxy-status'],
    len(stream.rest()) > 0]

bad = one.h2.get_next_available_stream_id()
one.streams[bad] = stream = Stream(one, bad)
one.h2.send_headers(bad, [(':method', 'CONNECT'), (':scheme', 'https'),
    (':path', '/'), (':authority', f'{host}:{echo}')])
one.flush()
told['path'] = stream.status()

stream = one.tunnel(echo)
stream.send(b'last')
told['last'] = stream.read(4).decode()
told['goaway'] = one.goaway

two = Proxy(auth)
stream = two.tunnel(tls)
told['asked'] = [stream.status(), stream.headers['proxy-authenticate']]
stream = two.tunnel(tls,
    ('proxy-authorization', 'Basic dXNlcjpzZWNyZXQ='))
told['given'] = stream.status()
told['secret'] = Secure(stream).get('/secret').decode()

print(json.dumps(told))
EOF

	my $r = client($t, [ $python, 'h2client.py', $proxy, port(8082),
		map { port($_) } 8443, 8091 .. 8093, 8999 ]);

	require JSON::PP;
	my $told = eval { JSON::PP::decode_json($r->{out}) } || {};

	is("$r->{status}$r->{err}", '0', 'h2') or diag($r->{out});
	is($told->{alpn}, 'h2', 'h2, ALPN');
	is("@{$told->{statuses} || []}", '200', 'h2, tunnels');
	is("@{$told->{echoes} || []}", join(' ', map { "stream $_" }
		reverse 0 .. 19), 'h2, all at once');
	ok($told->{bulk}, 'h2, bulk');
	is($told->{ends}, 20, 'h2, all end');
	is($told->{sum}, summary(join('', map { chr } 0 .. 255) x 8000),
		'h2, half close');
	is($told->{tls}, "https $name/tls\n", 'h2, TLS');
	is($told->{big}, sha1_hex($big), 'h2, much over TLS');
	is($told->{hello}, 'hello', 'h2, before a reset');
	is($told->{reset}, 10, 'h2, a reset is CONNECT_ERROR');
	like("@{$told->{refused} || []}", qr/^502 .*connection_refused.* \S+$/,
		'h2, refused');
	is($told->{path}, 400, 'h2, CONNECT with a path');
	is($told->{last}, 'last', 'h2, the connection goes on');
	ok(!defined $told->{goaway}, 'h2, no GOAWAY');
	is("@{$told->{asked} || []}", '407 Basic realm="proxy"',
		'h2, password asked for');
	is("$told->{given} $told->{secret}", "200 https $name/secret\n",
		'h2, password');

	my %connections = map { (split)[0] => 1 } grep { / CONNECT / }
		split /\n/, tunnels($t, 29);

	is(scalar keys %connections, 2, 'h2, two connections');
}

# Requests that are none of ours, in the ways that a client can write them.

sub nghttp_tests {
	my ($t) = @_;

	return skip_tests(8, 'no nghttp') if !program('nghttp');

	my @nghttp = ('nghttp', '--no-verify-peer');

	is_client(client($t, [ @nghttp, "$url/page" ]), 'SEE-THIS', 'nghttp');
	is_client(client($t, [ @nghttp, '--no-dep', "$url/page" ]), 'SEE-THIS',
		'nghttp, no priorities');
	is_client(client($t, [ @nghttp, '-m', 20, "$url/page" ]),
		'SEE-THIS' x 20, 'nghttp, many at once');
	is_client(client($t, [ @nghttp, '-b', 50, '-H', 'x-last: last',
		"$url/page" ]), 'SEE-THIS', 'nghttp, padding');
	is_client(client($t, [ @nghttp, '-c', 0, '-c', 65536, "$url/page" ]),
		'SEE-THIS', 'nghttp, table size');

	my $r = client($t, [ @nghttp, '-w', 16, '-W', 16, "$url/big" ]);
	ok($r->{out} eq $big, 'nghttp, small windows');

	$r = client($t, [ @nghttp, '--continuation', '-H', 'x-last: last',
		"$url/headers" ]);
	like($r->{out}, qr/^-{5}.*\nlast\n\z/s, 'nghttp, CONTINUATION')
		or diag(substr($r->{out} . $r->{err}, -500));

	# while there is a tunnel

	my $h2 = h2_client($proxy, ssl => 1);
	my $stream = $h2->connect("$name:" . port(8091));

	is_client(client($t, [ @nghttp, "$url/page" ]), 'SEE-THIS',
		'nghttp beside a tunnel');

	$stream->half_close();
	$stream->wait_end();
	$h2->close();
}

sub h2load_tests {
	my ($t) = @_;

	return skip_tests(4, 'no h2load') if !program('h2load');

	my $h2 = h2_client($proxy, ssl => 1);
	my $stream = $h2->connect("$name:" . port(8091));

	my $r = client($t, [ qw/ h2load -n 1000 -c 4 -m 10 -t 1 /,
		"$url/page" ]);

	like($r->{out}, qr/Application protocol: h2$/m, 'h2load, ALPN');
	like($r->{out}, qr/^requests:.*\b1000 succeeded, 0 failed, 0 errored/m,
		'h2load') or diag($r->{out});
	like($r->{out}, qr/^status codes: 1000 2xx,/m, 'h2load, statuses');

	is($stream->echo('beside'), 'beside', 'tunnel beside h2load');

	$stream->half_close();
	$stream->wait_end();
	$h2->close();
}

# Frames by hand.

sub s_client_tests {
	my ($t) = @_;

	my $preface = "PRI * HTTP/2.0\x0d\x0a\x0d\x0aSM\x0d\x0a\x0d\x0a";
	my $authority = "$name:" . port(8092);

	# literals, not indexed; the names are 2 and 1 of the table

	my $block = "\x02\x07CONNECT\x01" . chr(length $authority)
		. $authority;

	my $r = client($t, [ qw/ openssl s_client -quiet -alpn h2 -CAfile
		ca.crt -verify_return_error /, '-connect',
		"127.0.0.1:$proxy" ],
		in => $preface . h2_frame('SETTINGS', 0, 0)
			. h2_frame('HEADERS', 'END_HEADERS', 1, $block)
			. h2_data(1, 'by ')
			. h2_data(1, 'hand', end => 1, padding => 9),
		open => 1);

	my $sum = summary('by hand');

	like($r->{out}, qr/\x00\x00.\x01\x04\x00\x00\x00\x01\x88/s,
		's_client, 200');
	like($r->{out}, qr/\x00\x00.\x00[\x00\x01]\x00\x00\x00\x01\Q$sum\E/s,
		's_client, answer');
	like($r->{out}, qr/\x00\x00.\x00\x01\x00\x00\x00\x01/s,
		's_client, END_STREAM');
	like(tunnels($t), qr! h2 CONNECT .* HTTP/2\.0 200 ok completed 7 !,
		's_client log');
}

# Only a later curl than Debian 12's has it.

sub curl_tests {
	my ($t) = @_;

	return skip_tests(9, 'no curl with --proxy-http2')
		if `curl --help all 2>/dev/null` !~ /--proxy-http2/;

	my @curl = (qw/ curl -q -sS --proxy-http2 --proxy-cacert ca.crt
		--cacert ca.crt --proxy /);
	my $target = "https://$name:" . port(8443);

	is_client(client($t, [ @curl, $url, "$target/curl" ]),
		"https $name:" . port(8443) . "/curl\n", 'curl');
	like(tunnels($t), qr/ HTTP\/2\.0 h2 CONNECT \S+ HTTP\/2\.0 200 ok /,
		'curl log');

	my $r = client($t, [ @curl, $url, "$target/big" ]);
	ok($r->{out} eq $big, 'curl, much');
	tunnels($t);

	my $auth = 'https://127.0.0.1:' . port(8082);

	is_client(client($t, [ @curl, $auth, '--proxy-user', 'user:secret',
		"$target/curl" ]), "https $name:" . port(8443) . "/curl\n",
		'curl, password');
	like(tunnels($t), qr/ 200 ok /, 'curl, password, log');
	# over HTTP/2 curl does not say which status it was

	$r = client($t, [ @curl, $auth, "$target/curl" ]);
	is($r->{status}, curl_refused(), 'curl, no password');
	like(tunnels($t), qr/ 407 - /, 'curl, no password, log');
	$r = client($t, [ @curl, $url, "https://$name:" . port(8999) ]);
	is($r->{status}, curl_refused(), 'curl, refused');
	like(tunnels($t), qr/ 502 refused /, 'curl, refused, log');
}

###############################################################################

sub program {
	my ($program) = @_;

	return scalar grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

sub skip_tests {
	my ($n, $why) = @_;

	SKIP: {
		skip "$why, see scripts/packages", $n;
	}
}

###############################################################################
