#!/usr/bin/perl

# Tests for CONNECT tunnels with Python's urllib and requests.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Debian's, with Debian's requests

my $python = '/usr/bin/python3';

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic/)->plan(30);

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

    target_allow *:%%PORT_8443%% *:%%PORT_8999%%;
    target_deny denied.example.test:*;
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

$t->write_file('fetch_urllib.py', <<'EOF');
import shutil, ssl, sys
import urllib.request

ca, proxy, url = sys.argv[1:]

opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({'https': proxy}),
    urllib.request.HTTPSHandler(
        context=ssl.create_default_context(cafile=ca)))

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
session.proxies = {'https': proxy}

for url in urls:
    response = session.get(url, timeout=10)
    response.raise_for_status()
    sys.stdout.buffer.write(response.content)
EOF

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'secure.example.test' => '127.0.0.1',
		'denied.example.test' => '127.0.0.1',
	});

$t->run();

###############################################################################

my $secure = 'secure.example.test:' . port(8443);
my $denied = 'denied.example.test:' . port(8443);
my $closed = 'secure.example.test:' . port(8999);

my $http = '127.0.0.1:' . port(8080);
my $https = '127.0.0.1:' . port(8081);
my $http_auth = '127.0.0.1:' . port(8082);
my $https_auth = '127.0.0.1:' . port(8083);

my $big = sha1_hex(pattern(10 * 1024 * 1024));

for my $script ('urllib', 'requests') {
	my $r = python($t, $script, "http://$http", "https://$secure/");
	is_client($r, "https $secure\n", $script);
	like(tunnels($t), qr!^CONNECT $secure HTTP/1\.[01] 200 ok\z!,
		"$script log");

	$r = python($t, $script, "http://$http", "https://$secure/big");
	is("$r->{status} " . sha1_hex($r->{out}), "0 $big",
		"$script download");
	like(tunnels($t), qr!^CONNECT $secure HTTP/1\.[01] 200 ok\z!,
		"$script download log");

	is_client(python($t, $script, "http://user:secret\@$http_auth",
		"https://$secure/"), "https $secure\n", "$script password");
	like(tunnels($t), qr!^CONNECT $secure HTTP/1\.[01] 200 ok\z!,
		"$script password log");

	is_failed(python($t, $script, "http://user:wrong\@$http_auth",
		"https://$secure/"), qr/ 407 Proxy Authentication Required/,
		"$script wrong password");
	like(tunnels($t), qr!^CONNECT $secure HTTP/1\.[01] 407 -\z!,
		"$script wrong password log");

	is_failed(python($t, $script, "http://$http", "https://$denied/"),
		qr/ 403 Forbidden/, "$script denied");
	like(tunnels($t), qr!^CONNECT $denied HTTP/1\.[01] 403 denied_name\z!,
		"$script denied log");

	is_failed(python($t, $script, "http://$http", "https://$closed/"),
		qr/ 502 Bad Gateway/, "$script refused");
	like(tunnels($t), qr!^CONNECT $closed HTTP/1\.[01] 502 refused\z!,
		"$script refused log");
}

# only requests speaks TLS to a proxy, and it keeps connections

is_client(python($t, 'requests', "http://$http", "https://$secure/1",
	"https://$secure/2"), "https $secure\nhttps $secure\n",
	'requests, two in one tunnel');
like(tunnels($t), qr!^CONNECT $secure HTTP/1\.[01] 200 ok\z!,
	'requests, two in one tunnel log');

my $r = python($t, 'requests', "https://$https", "https://$secure/big");
is("$r->{status} " . sha1_hex($r->{out}), "0 $big",
	'requests through https proxy');
like(tunnels($t), qr!^CONNECT $secure HTTP/1\.[01] 200 ok\z!,
	'requests through https proxy log');

is_client(python($t, 'requests', "https://user:secret\@$https_auth",
	"https://$secure/"), "https $secure\n",
	'requests through https proxy, password');
is_failed(python($t, 'requests', "https://user:wrong\@$https_auth",
	"https://$secure/"), qr/ 407 Proxy Authentication Required/,
	'requests through https proxy, wrong password');

###############################################################################

sub python {
	my ($t, $script, @args) = @_;

	return client($t, [ $python, "fetch_$script.py",
		$t->testdir() . '/ca.crt', @args ]);
}

###############################################################################
