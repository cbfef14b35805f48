#!/usr/bin/perl

# Tests for SOCKS with Chromium.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT chromium /;
use Test::Nginx::Browser;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl stream/)->plan(12);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$socks_version $socks_command $tunnel_target '
                      '$status $tunnel_result';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *.example.test:* 127.0.0.1:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_auth basic proxy users;
    }
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    server {
        listen 127.0.0.1:8443 ssl;

        location / {
            root %%TESTDIR%%/html;
        }

        location /data/ {
            add_header Access-Control-Allow-Origin *;
            alias %%TESTDIR%%/data/;
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'www.example.test',
	'cdn.example.test' ]);

my $dir = $t->testdir();
my $port = port(8443);

mkdir "$dir/$_" or die "Can't create $_: $!\n" for qw/ html data /;

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file("data/$_", pattern(1024 * 1024, $_)) for 1 .. 8;

# the page loads from another name, much and at once, and tells the sum of it

$t->write_file('html/index.html',
	sums_page(map { "https://cdn.example.test:$port/data/$_" } 1 .. 8));

my $sums = sums(map { pattern(1024 * 1024, $_) } 1 .. 8);

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'www.example.test' => '127.0.0.1',
		'cdn.example.test' => '127.0.0.1',
	});

$t->run();

###############################################################################

# By SOCKS5 Chromium asks for names, which only the proxy knows; by SOCKS4 for
# addresses, so that names are told to it.

my $map = 'MAP *.example.test 127.0.0.1';

for my $case (
	[ 'socks5', 5, 'www.example.test', 'cdn.example.test' ],
	[ 'socks4', 4, '127.0.0.1', '127.0.0.1',
		"--host-resolver-rules=$map" ])
{
	my ($scheme, $version, $www, $cdn, @args) = @$case;

	my $from = log_lines($t, 'tunnel.log');

	my $r = load($t, $scheme, port(8080), @args);
	like($r->{out}, qr!<p id="p">\Q$sums\E</p>!, $scheme)
		|| diag("status $r->{status}: " . substr($r->{err}, -2000));

	my $log = connects($t, $from);

	like($log, qr/^$version connect \Q$www\E:$port 200 ok$/m, "$scheme log");
	like($log, qr/^$version connect \Q$cdn\E:$port 200 ok$/m,
		"$scheme log of another name");

	# one host or two, and a connection for each transfer that waits

	cmp_ok(() = $log =~ / 200 ok$/mg, '>=', 2,
		"$scheme log of connections");
	unlike($log, qr/^(?!$version connect \S+ 200 ok$)/m,
		"$scheme log, nothing refused");
}

# Chromium has no password for SOCKS

my $from = log_lines($t, 'tunnel.log');

my $r = load($t, 'socks5', port(8081));
unlike($r->{out}, qr/<p id="p">/, 'password');
like(connects($t, $from), qr/^5 - - 407 auth_failed$/m, 'password log');

###############################################################################

sub load {
	my ($t, $scheme, $port, @args) = @_;

	return client($t, [
		chromium($t, "$scheme://127.0.0.1:$port", "$scheme-$port"),
		'--virtual-time-budget=10000', '--dump-dom', @args,
		'https://www.example.test:' . port(8443) . '/' ],
		timeout => 30);
}

# What Chromium asks for on its own account is refused, and not looked at, nor
# are connections on which it has asked for nothing.

sub connects {
	my ($t, $from) = @_;

	return join "\n", grep { / \S+\.example\.test:| 127\.0\.0\.1:| 407 / }
		wait_lines($t, $from);
}

###############################################################################
