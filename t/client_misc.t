#!/usr/bin/perl

# Tests for CONNECT tunnels with small tools: openssl s_client, socat, ncat,
# nc, corkscrew, proxychains4.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic/)->plan(44);

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
        listen 127.0.0.1:8084;

        location / {
            return 200 "$scheme $http_host$http_proxy_authorization\n";
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test' ]);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('password', "user:secret\n");
$t->write_file('wrong', "user:wrong\n");

my $dir = $t->testdir();
my ($tls_port, $sum_port) = (port(8444), port(8085));

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { 'secure.example.test' => '127.0.0.1' });
start_daemon($t, \&half_close_daemon, "127.0.0.1:$sum_port");

# a TLS server which is not nginx

$t->run_daemon('openssl', 's_server', '-quiet', '-www',
	'-accept', "127.0.0.1:$tls_port", '-cert', "$dir/secure.crt",
	'-key', "$dir/secure.key");
$t->waitforsocket("127.0.0.1:$tls_port") or die "Can't start s_server\n";

$t->run();

###############################################################################

my $host = 'secure.example.test';
my $proxy = port(8080);
my $auth = port(8081);
my $plain = port(8084);
my $tls = port(8443);

my $data = pattern(5 * 1024 * 1024);
my $request = "GET / HTTP/1.0\x0d\x0aHost: $host\x0d\x0a\x0d\x0a";

# openssl s_client, to nginx and to openssl s_server

my $r = s_client($t, $proxy, $tls);
like($r->{out}, qr/\x0a\x0d?\x0ahttps $host\n\z/, 's_client');
like(tunnels($t), logged($tls), 's_client log');

$r = s_client($t, $proxy, $tls_port);
like($r->{out}, qr/^HTTP\/1.0 200 ok.*s_server.*<\/HTML>/si,
	's_client and s_server');
like(tunnels($t), logged($tls_port), 's_client and s_server log');

$r = s_client($t, $auth, $tls, 'secret');
like($r->{out}, qr/\x0a\x0d?\x0ahttps $host\n\z/, 's_client password');
like(tunnels($t), logged($tls), 's_client password log');

is_failed(s_client($t, $auth, $tls, 'wrong'), qr/\b407\b/,
	's_client wrong password');
like(tunnels($t), logged($tls, '407 -'), 's_client wrong password log');

is_failed(s_client($t, $proxy, port(8999)), qr/\b502\b/, 's_client refused');
like(tunnels($t), logged(port(8999), '502 refused'), 's_client refused log');

# much data, and the end of it while an answer is still to come

my %tool = (
	socat	=> [ qw/ socat -t 10 - /,
		"PROXY:127.0.0.1:$host:%p,proxyport=$proxy" ],
	ncat	=> [ qw/ ncat --proxy-type http --proxy /,
		"127.0.0.1:$proxy", $host, '%p' ],
	nc	=> [ qw/ nc.openbsd -N -X connect -x /,
		"127.0.0.1:$proxy", $host, '%p' ],
);

for my $name (sort keys %tool) {
	my @command = @{$tool{$name}};

	$r = client($t, [ to_port($plain, @command) ], in => $request);
	like($r->{out}, qr/\x0a\x0d?\x0ahttp $host\n\z/, $name);
	like(tunnels($t), logged($plain), "$name log");

	is_client(client($t, [ to_port($sum_port, @command) ], in => $data),
		summary($data), "$name half close");
	like(tunnels($t), logged($sum_port), "$name half close log");

	$r = client($t, [ to_port(port(8999), @command) ], in => $request);
	like($r->{err}, qr/\b502\b|Bad Gateway/, "$name refused");
	like(tunnels($t), logged(port(8999), '502 refused'),
		"$name refused log");
}

# passwords

$r = client($t, [ qw/ socat -t 10 - /, "PROXY:127.0.0.1:$host:$plain,"
	. "proxyport=$auth,proxyauth=user:secret" ], in => $request);
like($r->{out}, qr/\x0a\x0d?\x0ahttp $host\n\z/, 'socat password');
like(tunnels($t), logged($plain), 'socat password log');

# asked for it, ncat comes again

$r = client($t, [ qw/ ncat --proxy-type http --proxy /, "127.0.0.1:$auth",
	qw/ --proxy-auth user:secret /, $host, $plain ], in => $request);
like($r->{out}, qr/\x0a\x0d?\x0ahttp $host\n\z/, 'ncat password');
like(tunnels($t, 2), qr/ 407 -\n.* 200 ok$/, 'ncat password log');

# ncat speaks TLS in the tunnel.  Where its input ends, 7.991 ends the TCP
# connection without a close_notify, for which the target may fail.

$r = client($t, [ qw/ ncat --no-shutdown --proxy-type http /,
	'--proxy', "127.0.0.1:$proxy",
	qw/ --ssl --ssl-verify --ssl-trustfile ca.crt /, $host, $tls ],
	in => $request);
like($r->{out}, qr/\x0a\x0d?\x0ahttps $host\n\z/, 'ncat tls');
like(tunnels($t), logged($tls), 'ncat tls log');

# corkscrew is gone when there is no more to send

$r = client($t, [ 'corkscrew', '127.0.0.1', $proxy, $host, $plain ],
	in => $request, open => 1);
like($r->{out}, qr/\x0a\x0d?\x0ahttp $host\n\z/, 'corkscrew');
like(tunnels($t), logged($plain), 'corkscrew log');

$r = client($t, [ 'corkscrew', '127.0.0.1', $auth, $host, $plain,
	"$dir/password" ], in => $request, open => 1);
like($r->{out}, qr/\x0a\x0d?\x0ahttp $host\n\z/, 'corkscrew password');
like(tunnels($t), logged($plain), 'corkscrew password log');

$r = client($t, [ 'corkscrew', '127.0.0.1', $auth, $host, $plain,
	"$dir/wrong" ], in => $request, open => 1);
is($r->{out}, '', 'corkscrew wrong password');
like(tunnels($t), logged($plain, '407 -'), 'corkscrew wrong password log');

# proxychains4, with a program which knows of no proxy

is_client(chained($t, $proxy, "https://$host:$tls/"), "https $host:$tls\n",
	'proxychains4');
like(tunnels($t), logged($tls), 'proxychains4 log');

is_client(chained($t, "$auth user secret", "https://$host:$tls/"),
	"https $host:$tls\n", 'proxychains4 password');
like(tunnels($t), logged($tls), 'proxychains4 password log');

###############################################################################

sub logged {
	my ($port, $result) = @_;

	$result = '200 ok' unless defined $result;

	return qr/^CONNECT \Q$host:$port\E HTTP\/1\.[01] $result\z/;
}

sub to_port {
	my ($port, @command) = @_;

	s/%p/$port/ for @command;

	return @command;
}

sub s_client {
	my ($t, $proxy, $port, $password) = @_;

	return client($t, [ qw/ openssl s_client -quiet -ign_eof /,
		'-proxy', "127.0.0.1:$proxy", '-connect', "$host:$port",
		'-servername', $host, qw/ -CAfile ca.crt -verify_return_error
		-verify_hostname /, $host,
		defined $password ? ('-proxy_user', 'user', '-proxy_pass',
			"pass:$password") : () ], in => $request);
}

sub chained {
	my ($t, $proxy, $url) = @_;

	$t->write_file('proxychains.conf', <<EOF);
strict_chain
quiet_mode
proxy_dns
tcp_read_time_out 10000
tcp_connect_time_out 10000
[ProxyList]
http 127.0.0.1 $proxy
EOF

	return client($t, [ qw/ proxychains4 -q -f proxychains.conf
		curl -q -sS --cacert ca.crt /, $url ]);
}

###############################################################################
