#!/usr/bin/perl

# Tests for CONNECT tunnels with Node: its own http and tls, https-proxy-agent,
# and undici.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT node /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic/)->plan(48);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$request $status $tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow secure.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8082;
        listen 127.0.0.1:8083 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;

        location / {
            return 200 "$scheme $http_host$http_proxy_authorization\n";
        }

        location = /big {
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'127.0.0.1' ]);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', pattern(10 * 1024 * 1024));

# each is given the proxy and the URL, and writes the answer

$t->write_file('core.js', <<'EOF');
const http = require('http'), https = require('https');
const proxy = new URL(process.argv[2]), url = new URL(process.argv[3]);
const headers = { host: url.host };

if (proxy.username) {
    headers['proxy-authorization'] = 'Basic '
        + Buffer.from(`${proxy.username}:${proxy.password}`)
            .toString('base64');
}

const request = (proxy.protocol === 'https:' ? https : http).request({
    host: proxy.hostname, port: proxy.port, method: 'CONNECT',
    path: url.host, headers, agent: false,
});

request.on('connect', (response, socket) => {
    if (response.statusCode !== 200) {
        console.error(`proxy: ${response.statusCode}`);
        process.exit(1);
    }

    https.get(url, { socket, agent: false }, (r) => r.pipe(process.stdout));
});

request.end();
EOF

$t->write_file('https-proxy-agent.js', <<'EOF');
const https = require('https');
const { HttpsProxyAgent } = require('https-proxy-agent');
const [ , , proxy, url ] = process.argv;

https.get(url, { agent: new HttpsProxyAgent(proxy) }, (response) => {
    if (response.statusCode !== 200) {
        console.error(`proxy: ${response.statusCode}`);
        process.exit(1);
    }

    response.pipe(process.stdout);
});
EOF

$t->write_file('undici.js', <<'EOF');
const { ProxyAgent, request } = require('undici');
const [ , , proxy, url ] = process.argv;

(async () => {
    const dispatcher = new ProxyAgent(proxy);
    const { body } = await request(url, { dispatcher });

    process.stdout.write(Buffer.from(await body.arrayBuffer()));
    await dispatcher.close();
})();
EOF

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { 'secure.example.test' => '127.0.0.1' });

$t->run();

###############################################################################

my $secure = 'secure.example.test:' . port(8443);
my $closed = 'secure.example.test:' . port(8999);
my $connect = qr!CONNECT $secure HTTP/1\.1!;

my $big = sha1_hex(pattern(10 * 1024 * 1024));

for my $script (qw/ core https-proxy-agent undici /) {
	for my $case ([ 'http', port(8080), port(8082) ],
		[ 'https', port(8081), port(8083) ])
	{
		my ($scheme, $open, $auth) = @$case;
		my $name = "$script $scheme";

		my $r = node($t, $script, "$scheme://127.0.0.1:$open",
			"https://$secure/big");
		is("$r->{status} " . sha1_hex($r->{out}), "0 $big", $name)
			|| diag($r->{err});
		like(tunnels($t), qr/^$connect 200 ok\z/, "$name log");

		is_client(node($t, $script,
			"$scheme://user:secret\@127.0.0.1:$auth",
			"https://$secure/"), "https $secure\n",
			"$name password");
		like(tunnels($t), qr/^$connect 200 ok\z/,
			"$name password log");

		is_failed(node($t, $script,
			"$scheme://user:wrong\@127.0.0.1:$auth",
			"https://$secure/"), qr/\b407\b/,
			"$name wrong password");
		like(tunnels($t), qr/^$connect 407 -\z/,
			"$name wrong password log");

		is_failed(node($t, $script, "$scheme://127.0.0.1:$open",
			"https://$closed/"), qr/\b502\b/, "$name refused");
		like(tunnels($t), qr!^CONNECT $closed HTTP/1\.1 502 refused\z!,
			"$name refused log");
	}
}

###############################################################################
