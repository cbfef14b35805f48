#!/usr/bin/perl

# Tests for CONNECT tunnels with wget.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic/)->plan(16);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$request $status $tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:%%PORT_8443%% *:%%PORT_8999%%;
    target_deny denied.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8081;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;

        ssl_certificate secure.crt;
        ssl_certificate_key secure.key;

        location / {
            return 200 "$scheme $http_host$http_proxy_authorization\n";
        }

        location = /big {
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test' ]);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', pattern(10 * 1024 * 1024));

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'secure.example.test' => '127.0.0.1',
		'denied.example.test' => '127.0.0.1',
	});

$t->run();

###############################################################################

my $secure = 'secure.example.test:' . port(8443);
my $connect = "CONNECT $secure HTTP/1.1";

my @open = (port(8080));
my @password = (port(8081), '--proxy-user=user', '--proxy-password=secret');
my @wrong = (port(8081), '--proxy-user=user', '--proxy-password=wrong');

is_client(wget($t, @open, "https://$secure/"), "https $secure\n", 'wget');
is(tunnels($t), "$connect 200 ok", 'wget log');

my $r = wget($t, @open, "https://$secure/big");
is("$r->{status} " . sha1_hex($r->{out}),
	'0 ' . sha1_hex(pattern(10 * 1024 * 1024)), 'download');
is(tunnels($t), "$connect 200 ok", 'download log');

is_client(wget($t, @password, "https://$secure/"), "https $secure\n",
	'password');
is(tunnels($t), "$connect 200 ok", 'password log');

is_failed(wget($t, @wrong, "https://$secure/"), qr/\b407\b|Proxy Auth/,
	'wrong password');
is(tunnels($t), "$connect 407 -", 'wrong password log');

is_failed(wget($t, port(8081), "https://$secure/"), qr/\b407\b|Proxy Auth/,
	'no password');
is(tunnels($t), "$connect 407 -", 'no password log');

my $denied = 'denied.example.test:' . port(8443);
is_failed(wget($t, @open, "https://$denied/"),
	qr/Proxy tunneling failed: Forbidden/, 'denied');
is(tunnels($t), "CONNECT $denied HTTP/1.1 403 denied_name", 'denied log');

my $closed = 'secure.example.test:' . port(8999);
is_failed(wget($t, @open, "https://$closed/"),
	qr/Proxy tunneling failed: Bad Gateway/, 'refused');
is(tunnels($t), "CONNECT $closed HTTP/1.1 502 refused", 'refused log');

my $unknown = 'nowhere.example.test:' . port(8443);
is_failed(wget($t, @open, "https://$unknown/"),
	qr/Proxy tunneling failed: Bad Gateway/, 'no such name');
is(tunnels($t), "CONNECT $unknown HTTP/1.1 502 resolve_failed",
	'no such name log');

###############################################################################

sub wget {
	my ($t, $proxy, @args) = @_;

	return client($t, [ qw/ wget --no-config --no-hsts -nv --tries=1
		-O - /, '--ca-certificate=' . $t->testdir() . '/ca.crt',
		'-e', "https_proxy=http://127.0.0.1:$proxy", @args ]);
}

###############################################################################
