#!/usr/bin/perl

# Tests for CONNECT tunnels with Chromium.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic/)->plan(14);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$connection $connection_requests $request $status '
                      '$tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow *.example.test:*;
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
	'cdn.example.test', '127.0.0.1' ]);

my $dir = $t->testdir();
my $www = 'www.example.test:' . port(8443);
my $cdn = 'cdn.example.test:' . port(8443);

mkdir "$dir/$_" or die "Can't create $_: $!\n" for qw/ html data /;

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file("data/$_", pattern(1024 * 1024, $_)) for 1 .. 8;

# the page loads from another name, much and at once, and tells the sum of it

$t->write_file('html/index.html',
	sums_page(map { "https://$cdn/data/$_" } 1 .. 8));

my $sums = sums(map { pattern(1024 * 1024, $_) } 1 .. 8);

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'www.example.test' => '127.0.0.1',
		'cdn.example.test' => '127.0.0.1',
	});

$t->run();

###############################################################################

# What Chromium asks for on its own account is refused, and not looked at.

for my $case ([ 'http', port(8080) ], [ 'https', port(8081) ]) {
	my ($name, $port) = @$case;

	my $from = log_lines($t, 'tunnel.log');

	my $r = client($t, [ chromium($t, "$name://127.0.0.1:$port", $name),
		'--virtual-time-budget=10000', '--dump-dom',
		"https://$www/" ], timeout => 30);
	like($r->{out}, qr!<p id="p">\Q$sums\E</p>!, $name)
		|| diag("status $r->{status}: " . substr($r->{err}, -2000));

	like(connects($t, $from, $www), qr/^1 200 ok$/m, "$name log");
	like(connects($t, $from, $cdn), qr/^1 200 ok$/m,
		"$name log of another name");
	unlike(connects($t, $from, '\S+\.example\.test:\d+'),
		qr/^(?!1 200 ok$)/m, "$name log, nothing refused");
}

# a password is asked for, and the CONNECT comes again on the connection

for my $case ([ 'http', port(8082) ], [ 'https', port(8083) ]) {
	my ($name, $port) = @$case;

	my $from = log_lines($t, 'tunnel.log');

	my $browser = start_browser($t, "$name://127.0.0.1:$port",
		"$name-auth");
	my ($text, $asked) = browse($browser, "https://$www/", 'user',
		'secret');
	stop_browser($browser);

	is($text, $sums, "$name password")
		|| diag($t->read_file('browser.err'));
	is($asked, 'Proxy basic proxy', "$name password asked for");

	my @lines = grep { / CONNECT \Q$www\E / } wait_lines($t, $from);
	my %refused = map { /^(\d+) 1 .* 407 -$/ ? ($1 => 1) : () } @lines;
	my @again = grep { /^(\d+) 2 .* 200 ok$/ && $refused{$1} } @lines;

	is(@again, 1, "$name password on the same connection")
		|| diag(join "\n", @lines);
}

###############################################################################

sub connects {
	my ($t, $from, $target) = @_;

	return join "\n", map { /^\d+ (\d+) CONNECT $target HTTP\/1\.1 (.*)/
		? "$1 $2" : () } wait_lines($t, $from);
}

###############################################################################
