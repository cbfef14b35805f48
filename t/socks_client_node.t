#!/usr/bin/perl

# Tests for SOCKS with Node: socks, its CONNECT, BIND and UDP ASSOCIATE, and
# socks-proxy-agent.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT node start_udp_echo /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl stream/)->plan(79);

port($_, udp => 1) for 8980, 8981;

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$socks_version $socks_command $tunnel_target '
                      '$status $tunnel_result';
    log_format bytes '$tunnel_bytes_received $tunnel_bytes_sent';

    access_log %%TESTDIR%%/tunnel.log tunnel;
    access_log %%TESTDIR%%/bytes.log bytes;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_deny denied.example.test:* 127.0.0.9:*;
    target_allow_address 127.0.0.1 127.0.0.2 ::1;

    server {
        listen 127.0.0.1:8080;
        listen [::1]:%%PORT_8080%%;
        socks;
        socks_bind on;
        socks_udp on;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_bind on;
        socks_udp on;
        socks_auth basic proxy users;
        socks_auth_delay 300ms;
    }

    server {
        listen 127.0.0.1:8082;
        socks;
    }

    server {
        listen 127.0.0.1:8083;
        socks;
        socks_bind on;
        socks_bind_address 127.0.0.2;
        socks_bind_timeout 500ms;
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

# each is given the proxy as a URL, whose name tells the version

$t->write_file('proxy.js', <<'EOF');
const proxy = new URL(process.argv[2]);

exports.proxy = {
    host: proxy.hostname.replace(/[[\]]/g, ''), port: +proxy.port,
    type: proxy.protocol.startsWith('socks5') ? 5 : 4,
    userId: proxy.username || undefined,
    password: proxy.password || undefined,
};

exports.target = (text) => {
    const [ , host, port ] = text.match(/^\[?(.*?)\]?:(\d+)$/);
    return { host, port: +port };
};

// socks writes all of an IPv6 address

exports.short = (host) => host.includes(':')
    ? new URL(`http://[${host}]`).hostname.slice(1, -1) : host;

exports.fail = (error) => {
    console.error(`${error.message}`);
    process.exit(1);
};
EOF

$t->write_file('connect.js', <<'EOF');
const net = require('net'), tls = require('tls'), https = require('https');
const { X509Certificate } = require('crypto');
const { SocksClient } = require('socks');
const { proxy, target, fail } = require('./proxy.js');

const url = new URL(process.argv[3]);
const destination = target(url.host);

// Debian 13's node finds no certificate valid for an IPv6 address

const checkServerIdentity = (host, cert) => net.isIPv6(host)
    && new X509Certificate(cert.raw).checkIP(host) ? undefined
    : tls.checkServerIdentity(host, cert);

SocksClient.createConnection({
    proxy, command: 'connect', destination, timeout: 10000,
}).then(({ socket }) => {
    https.get(url, { socket, agent: false, checkServerIdentity },
        (r) => r.pipe(process.stdout));
}, fail);
EOF

# Waits for a connection from one address, and makes it from another.  Half a
# megabyte one way, and then its sum the other way.

$t->write_file('bind.js', <<'EOF');
const net = require('net'), crypto = require('crypto');
const { SocksClient } = require('socks');
const { proxy, target, short, fail } = require('./proxy.js');

const [ , , , asked, from ] = process.argv;
const data = crypto.randomBytes(500000);
const sum = (b) => crypto.createHash('sha1').update(b).digest('hex');
const read = (s, done) => {
    const parts = [];
    s.on('data', (b) => parts.push(b));
    s.on('end', () => done(Buffer.concat(parts)));
};

const client = new SocksClient({
    proxy, command: 'bind', destination: target(asked), timeout: 10000,
});
let peer;

client.on('error', fail);

client.on('bound', ({ remoteHost: bound }) => {
    console.log(`bound to ${short(bound.host)}`);

    if (!from) {
        return;
    }

    peer = net.connect({ ...bound, localAddress: from, allowHalfOpen: true });
    peer.on('error', () => console.log('peer: error'));
    peer.end(data);
    read(peer, (b) => console.log('peer got',
        b.toString() === sum(data) ? 'the sum' : b.toString()));
});

client.on('established', ({ socket, remoteHost }) => {
    console.log('from the peer:', short(remoteHost.host) === peer.localAddress
        && remoteHost.port === peer.localPort);
    read(socket, (b) => socket.end(sum(b)));
});

client.connect();
EOF

$t->write_file('udp.js', <<'EOF');
const dgram = require('dgram'), net = require('net');
const { SocksClient } = require('socks');
const { proxy, target, fail } = require('./proxy.js');

const [ , , , count, ...targets ] = process.argv;
const got = {}, unknown = { host: '0.0.0.0', port: 0 };
let left = count * targets.length;

const client = new SocksClient({
    proxy, command: 'associate', destination: unknown, timeout: 10000,
});

client.on('error', fail);

client.on('established', ({ socket: tcp, remoteHost: relay }) => {
    const udp = dgram.createSocket(net.isIPv6(relay.host) ? 'udp6' : 'udp4');

    const end = () => {
        for (const key of Object.keys(got).sort()) {
            console.log(key, got[key]);
        }

        udp.close();
        tcp.destroy();
    };

    const timer = setTimeout(end, 5000);

    udp.on('message', (message) => {
        const { remoteHost: { host, port }, data }
            = SocksClient.parseUDPFrame(message);
        const key = `${host} ${port} ${data.toString().replace(/\d+ /, '')}`;

        got[key] = (got[key] || 0) + 1;

        if (--left === 0) {
            clearTimeout(timer);
            end();
        }
    });

    for (const text of targets) {
        for (let i = 0; i < count; i++) {
            udp.send(SocksClient.createUDPFrame({
                remoteHost: target(text), data: Buffer.from(`${i} ${text}`),
            }), relay.port, relay.host);
        }
    }
});

client.connect();
EOF

$t->write_file('agent.js', <<'EOF');
const https = require('https');
const { SocksProxyAgent } = require('socks-proxy-agent');
const { fail } = require('./proxy.js');
const [ , , proxy, url ] = process.argv;

https.get(url, { agent: new SocksProxyAgent(proxy) },
    (response) => response.pipe(process.stdout)).on('error', fail);
EOF

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'secure.example.test' => '127.0.0.1',
		'denied.example.test' => '127.0.0.1',
		'echo.example.test' => '127.0.0.1',
	});

my $echo_port = port(8981, udp => 1);

start_udp_echo($t, $_) for "127.0.0.1:$echo_port", "127.0.0.2:$echo_port",
	"[::1]:$echo_port";

$t->run();

###############################################################################

my $tls = port(8443);
my $secure = "secure.example.test:$tls";
my $ip = "127.0.0.1:$tls";
my $closed = 'secure.example.test:' . port(8999);
my $denied = "denied.example.test:$tls";

my $open = '127.0.0.1:' . port(8080);
my $open6 = '[::1]:' . port(8080);
my $auth = '127.0.0.1:' . port(8081);
my $off = '127.0.0.1:' . port(8082);
my $other = '127.0.0.1:' . port(8083);

my $big = sha1_hex(pattern(10 * 1024 * 1024));
my $r;

# CONNECT

for my $case (
	[ 'connect', 'socks4', 4, $ip ],
	[ 'connect', 'socks4', '4a', $secure ],
	[ 'connect', 'socks5', 5, $ip ],
	[ 'connect', 'socks5', 5, $secure ],
	[ 'connect', 'socks5', 5, "[::1]:$tls" ],
	[ 'agent', 'socks4a', '4a', $secure ],
	[ 'agent', 'socks5h', 5, $secure ])
{
	my ($script, $scheme, $version, $target) = @$case;
	my $test = "$script $scheme $target";

	$r = node($t, $script, "$scheme://$open", "https://$target/big");
	is("$r->{status} " . sha1_hex($r->{out}), "0 $big", $test)
		|| diag($r->{err});
	is(tunnels($t), "$version connect $target 200 ok", "$test log");
}

for my $case ([ 'connect', 'socks5' ], [ 'agent', 'socks5h' ]) {
	my ($script, $scheme) = @$case;

	is_client(node($t, $script, "$scheme://user:secret\@$auth",
		"https://$secure/"), "https $secure\n", "$script password");
	is(tunnels($t), "5 connect $secure 200 ok", "$script password log");

	is_failed(node($t, $script, "$scheme://user:wrong\@$auth",
		"https://$secure/"), qr/Socks5 Authentication failed/,
		"$script wrong password");
	is(tunnels($t), '5 - - 407 auth_failed', "$script wrong password log");

	is_failed(node($t, $script, "$scheme://$auth", "https://$secure/"),
		qr/no accepted authentication type/, "$script no password");
	is(tunnels($t), '5 - - 407 auth_failed', "$script no password log");

	is_failed(node($t, $script, "$scheme://$open", "https://$closed/"),
		qr/ConnectionRefused/, "$script refused");
	is(tunnels($t), "5 connect $closed 502 refused",
		"$script refused log");

	is_failed(node($t, $script, "$scheme://$open", "https://$denied/"),
		qr/NotAllowed/, "$script denied");
	is(tunnels($t), "5 connect $denied 403 denied_name",
		"$script denied log");
}

is_failed(node($t, 'connect', "socks4://$open", "https://$closed/"),
	qr/rejected connection - \(Failed\)/i, 'socks4 refused');
is(tunnels($t), "4a connect $closed 502 refused", 'socks4 refused log');

# BIND: for anybody, and for one peer

for my $case ([ 'socks4', 4, $open ], [ 'socks5', 5, $open ],
	[ 'socks5', 5, "user:secret\@$auth" ])
{
	my ($scheme, $version, $proxy) = @$case;
	my $test = "bind $scheme" . ($proxy =~ /@/ ? ' password' : '');

	for my $asked ('0.0.0.0:0', "127.0.0.1:$tls") {
		is_client(node($t, 'bind', "$scheme://$proxy", $asked,
			'127.0.0.1'), "bound to 127.0.0.1\n"
			. "from the peer: true\npeer got the sum\n",
			"$test $asked");
		is(tunnels($t), "$version bind $asked 200 ok",
			"$test $asked log");
		is((log_lines($t, 'bytes.log'))[-1], '40 500000',
			"$test $asked bytes");
	}
}

is_client(node($t, 'bind', "socks5://$open6", '[::]:0', '::1'),
	"bound to ::1\nfrom the peer: true\npeer got the sum\n", 'bind ipv6');
is(tunnels($t), '5 bind [::]:0 200 ok', 'bind ipv6 log');

# another peer; one that nobody may have; a request that nobody may make; no
# peer; no BIND

for my $case (
	[ 'another peer', $open, "127.0.0.2:$tls", '127.0.0.1',
		"bound to 127.0.0.1\n", qr/NotAllowed/,
		"bind 127.0.0.2:$tls 403 denied_address" ],
	[ 'denied peer', $open, '0.0.0.0:0', '127.0.0.3',
		"bound to 127.0.0.1\n", qr/NotAllowed/,
		'bind 0.0.0.0:0 403 denied_address' ],
	[ 'denied', $open, "127.0.0.9:$tls", '127.0.0.9', '', qr/NotAllowed/,
		"bind 127.0.0.9:$tls 403 denied_name" ],
	[ 'no peer', $other, '0.0.0.0:0', '', "bound to 127.0.0.2\n",
		qr/HostUnreachable/, 'bind 0.0.0.0:0 504 connect_timeout' ],
	[ 'off', $off, '0.0.0.0:0', '127.0.0.1', '', qr/CommandNotSupported/,
		'bind 0.0.0.0:0 501 unsupported_command' ])
{
	my ($test, $proxy, $asked, $from, $out, $re, $log) = @$case;

	$r = node($t, 'bind', "socks5://$proxy", $asked, $from);
	is_failed($r, $re, "bind $test");
	like($r->{out}, qr/^\Q$out\E/, "bind $test reply");
	is(tunnels($t), "5 $log", "bind $test log");
}

# UDP ASSOCIATE

# no more of them than may wait for a name

is_client(node($t, 'udp', "socks5://$open", 10, "127.0.0.1:$echo_port",
	"127.0.0.2:$echo_port", "echo.example.test:$echo_port"),
	join('', map { "$_ 10\n" } sort
		"127.0.0.1 $echo_port 127.0.0.1:$echo_port",
		"127.0.0.2 $echo_port 127.0.0.2:$echo_port",
		"127.0.0.1 $echo_port echo.example.test:$echo_port"), 'udp');
is(tunnels($t), '5 udp_associate - 200 ok', 'udp log');

is_client(node($t, 'udp', "socks5://user:secret\@$auth", 1,
	"127.0.0.1:$echo_port"),
	"127.0.0.1 $echo_port 127.0.0.1:$echo_port 1\n", 'udp password');
is(tunnels($t), '5 udp_associate - 200 ok', 'udp password log');

# an IPv4 target by an IPv6 association

is_client(node($t, 'udp', "socks5://$open6", 1, "127.0.0.1:$echo_port"),
	"127.0.0.1 $echo_port 127.0.0.1:$echo_port 1\n", 'udp ipv6');
is(tunnels($t), '5 udp_associate - 200 ok', 'udp ipv6 log');

is_failed(node($t, 'udp', "socks5://$off", 1, "127.0.0.1:$echo_port"),
	qr/CommandNotSupported/, 'udp off');
like(tunnels($t), qr/^5 udp_associate \S+ 501 unsupported_command\z/,
	'udp off log');

###############################################################################
