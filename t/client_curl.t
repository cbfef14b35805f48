#!/usr/bin/perl

# Tests for CONNECT tunnels with curl.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT curl_refused /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic proxy/)->plan(72);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$connection_requests $request $status $tunnel_result';
    log_format header '$http_x_client';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow *:*;
    target_deny denied.example.test:*;
    target_allow_address 127.0.0.1 ::1;

    server {
        listen 127.0.0.1:8080;
        access_log %%TESTDIR%%/tunnel.log tunnel;
        access_log %%TESTDIR%%/header.log header;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8081 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8082;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8083 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    # SNI selects a server which wants a certificate, and then the target is
    # another name

    server {
        listen 127.0.0.1:8084 ssl default_server;
        server_name _;
        access_log %%TESTDIR%%/tunnel.log tunnel;
    }

    server {
        listen 127.0.0.1:8084 ssl;
        server_name proxy.example.test;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        ssl_verify_client on;
        ssl_client_certificate ca.crt;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;
        listen [::1]:%%PORT_8443%% ssl;
        listen 127.0.0.1:8085;

        location / {
            add_header X-Client "$http_x_client" always;
            return 200 "$scheme $http_host$http_proxy_authorization\n";
        }

        location /n/ {
            return 200 "$uri\n";
        }

        location = /big {
        }

        location = /upload {
            client_max_body_size 20m;
            client_body_in_file_only on;

            proxy_pass http://127.0.0.1:8086;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-File $request_body_file;
        }
    }

    server {
        listen 127.0.0.1:8086;
        return 200 $http_x_file;
    }
}


EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'client', ca => 'ca');
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'proxy.example.test', '127.0.0.1', '::1' ]);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', pattern(50 * 1024 * 1024));
$t->write_file('small', pattern(10 * 1024 * 1024, 7));

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'secure.example.test' => '127.0.0.1',
		'plain.example.test' => '127.0.0.1',
		'denied.example.test' => '127.0.0.1',
		'inside.example.test' => '127.0.0.2',
	});

$t->run();

###############################################################################

my $secure = 'secure.example.test:' . port(8443);
my $plain = 'plain.example.test:' . port(8085);
my $connect = "CONNECT $secure HTTP/1.1";

my $proxy = 'http://127.0.0.1:' . port(8080);
my $tls_proxy = 'https://127.0.0.1:' . port(8081);
my $auth_proxy = 'http://127.0.0.1:' . port(8082);
my $tls_auth_proxy = 'https://127.0.0.1:' . port(8083);

# plain and TLS, and what is asked for in several ways

is_client(curl($t, '-x', $proxy, "https://$secure/"), "https $secure\n",
	'http proxy');
is(tunnels($t), "1 $connect 200 ok", 'http proxy log');

is_client(curl($t, '-x', $tls_proxy, "https://$secure/"), "https $secure\n",
	'https proxy');
is(tunnels($t), "1 $connect 200 ok", 'https proxy log');

is_client(curl($t, '--proxy1.0', substr($proxy, 7), "https://$secure/"),
	"https $secure\n", 'http 1.0 proxy');
is(tunnels($t), "1 CONNECT $secure HTTP/1.0 200 ok", 'http 1.0 proxy log');

is_client(curl($t, '-p', '-x', $proxy, "http://$plain/"), "http $plain\n",
	'plain target');
is(tunnels($t), "1 CONNECT $plain HTTP/1.1 200 ok", 'plain target log');

is_client(curl($t, '-p', '-x', $tls_proxy, "http://$plain/"), "http $plain\n",
	'plain target, https proxy');
is(tunnels($t), "1 CONNECT $plain HTTP/1.1 200 ok",
	'plain target, https proxy log');

my $literal = '127.0.0.1:' . port(8443);
is_client(curl($t, '-x', $proxy, "https://$literal/"), "https $literal\n",
	'ipv4 target');
is(tunnels($t), "1 CONNECT $literal HTTP/1.1 200 ok", 'ipv4 target log');

$literal = '[::1]:' . port(8443);
is_client(curl($t, '-x', $proxy, "https://$literal/"), "https $literal\n",
	'ipv6 target');
is(tunnels($t), "1 CONNECT $literal HTTP/1.1 200 ok", 'ipv6 target log');

is_client(curl($t, '-x', $proxy, "https://$secure/n/1", "https://$secure/n/2"),
	"/n/1\n/n/2\n", 'two requests');
is(tunnels($t), "1 $connect 200 ok", 'two requests in one tunnel');

my $r = curl($t, '-x', $proxy, '-Z', '--parallel-immediate',
	'--parallel-max', 20, "https://$secure/n/[1-20]");
is($r->{status} . ' ' . join(' ', sort { $a <=> $b } $r->{out} =~ /(\d+)/g),
	join(' ', 0, 1 .. 20), 'tunnels at once');
is(tunnels($t, 20), join("\n", ("1 $connect 200 ok") x 20),
	'tunnels at once log');

# what is for the proxy does not reach the target, and the other way round

like(curl($t, '-i', '--suppress-connect-headers', '-x', $proxy,
	'-H', 'X-Client: target', '--proxy-header', 'X-Client: proxy',
	"https://$secure/")->{out},
	qr/^X-Client: target\x0d$/m, 'header for the target');
is(tunnels($t), "1 $connect 200 ok", 'header log');
is((log_lines($t, 'header.log'))[-1], 'proxy', 'header for the proxy');

# passwords

for my $case ([ 'http', $auth_proxy ], [ 'https', $tls_auth_proxy ]) {
	my ($name, $url) = @$case;

	is_client(curl($t, '-x', $url, '-U', 'user:secret',
		"https://$secure/"), "https $secure\n", "$name password");
	is(tunnels($t), "1 $connect 200 ok", "$name password log");

	is_client(curl($t, '-x', $url, '-U', 'user:secret', '--proxy-anyauth',
		'-w', '%{num_connects}', "https://$secure/"),
		"https $secure\n1", "$name any authentication");
	is(tunnels($t, 2), "1 $connect 407 -\n2 $connect 200 ok",
		"$name any authentication on one connection");

	is_refused(curl($t, '-x', $url, '-U', 'user:wrong',
		"https://$secure/"), 407, "$name wrong password");
	is(tunnels($t), "1 $connect 407 -", "$name wrong password log");

	is_refused(curl($t, '-x', $url, "https://$secure/"), 407,
		"$name no password");
	is(tunnels($t), "1 $connect 407 -", "$name no password log");
}

# a wrong password is refused again

is_refused(curl($t, '-x', $auth_proxy, '-U', 'user:wrong', '--proxy-anyauth',
	"https://$secure/"), 407, 'any authentication, wrong password');
is(tunnels($t, 2), "1 $connect 407 -\n2 $connect 407 -",
	'any authentication, wrong password log');

# the proxy asks for a certificate of the client

my $named = 'proxy.example.test:' . port(8084);
my @named = ('--resolve', "$named:127.0.0.1", '-x', "https://$named");
my @cert = ('--proxy-cert', 'client.crt', '--proxy-key', 'client.key');

is_client(curl($t, @named, @cert, "https://$secure/"), "https $secure\n",
	'client certificate');
is(tunnels($t), "1 $connect 200 ok", 'client certificate log');
is_refused(curl($t, @named, "https://$secure/"), 400, 'no client certificate');
is(tunnels($t), "1 $connect 400 -", 'no client certificate log');

# much data

my $sum = sha1_hex(pattern(10 * 1024 * 1024, 7));
my $big = sha1_hex(pattern(50 * 1024 * 1024));

for my $case ([ 'http', $proxy ], [ 'https', $tls_proxy ]) {
	my ($name, $url) = @$case;

	$r = curl($t, '-x', $url, '-T', 'small', "https://$secure/upload");
	is(file_sum($r->{out}), $sum, "$name upload");
	is(tunnels($t), "1 $connect 200 ok", "$name upload log");

	$r = curl($t, '-x', $url, "https://$secure/big");
	is("$r->{status} " . sha1_hex($r->{out}), "0 $big", "$name download");
	is(tunnels($t), "1 $connect 200 ok", "$name download log");
}

# A client which preempts nginx has its part of the handshake there as soon
# as nginx has sent its own, and then the CONNECT.

my ($cpu) = slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\d+)/m;
my ($master) = $t->read_file('nginx.pid') =~ /(\d+)/;
my ($worker) = slurp("/proc/$master/task/$master/children") =~ /(\d+)/;

system("taskset -pc $cpu $worker >/dev/null") == 0 or die "No taskset\n";

# only root may ask for a priority; without one it is a matter of chance

my @first = ('taskset', '-c', $cpu);
push @first, qw/ chrt -f 1 / if $> == 0;

$r = client($t, [ @first, curl_command($t), '-x', $tls_proxy,
	'-H', 'Connection: close', "https://$secure/n/[1-50]" ]);
is_client($r, join('', map { "/n/$_\n" } 1 .. 50), 'https proxy handshake');
is(tunnels($t, 50), join("\n", ("1 $connect 200 ok") x 50),
	'https proxy handshake log');

# refused targets

my $denied = 'denied.example.test:' . port(8443);
is_refused(curl($t, '-x', $proxy, "https://$denied/"), 403, 'denied name');
is(tunnels($t), "1 CONNECT $denied HTTP/1.1 403 denied_name",
	'denied name log');

my $inside = 'inside.example.test:' . port(8443);
is_refused(curl($t, '-x', $proxy, "https://$inside/"), 403, 'denied address');
is(tunnels($t), "1 CONNECT $inside HTTP/1.1 403 denied_address",
	'denied address log');

my $closed = 'secure.example.test:' . port(8999);
$r = curl($t, '-v', '-x', $proxy, "https://$closed/");
is_refused($r, 502, 'refused');
like($r->{err}, qr/^< Proxy-Status: nginx; error=connection_refused/m,
	'refused proxy status');
is(tunnels($t), "1 CONNECT $closed HTTP/1.1 502 refused", 'refused log');

is_refused(curl($t, '-x', $tls_proxy, 'https://nowhere.example.test/'), 502,
	'no such name');
is(tunnels($t), '1 CONNECT nowhere.example.test:443 HTTP/1.1 '
	. '502 resolve_failed', 'no such name log');

###############################################################################

sub curl {
	my ($t, @args) = @_;

	return client($t, [ curl_command($t), @args ]);
}

sub curl_command {
	my ($t) = @_;

	my $ca = $t->testdir() . '/ca.crt';

	return ('curl', '-q', '-sS', '--cacert', $ca, '--proxy-cacert', $ca);
}

# curl fails in the exchange with the proxy, and tells its status

sub is_refused {
	my ($r, $status, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is_failed($r, qr/\D$status$/m, $name);
	is($r->{status}, curl_refused(), "$name exit status");
}

sub slurp {
	my ($file) = @_;

	open my $fh, '<', $file or die "Can't open $file: $!\n";
	local $/;
	return scalar <$fh>;
}

sub file_sum {
	my ($file) = @_;

	return "no file: $file" unless -f $file;
	return Digest::SHA->new(1)->addfile($file)->hexdigest();
}

###############################################################################
