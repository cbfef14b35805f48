#!/usr/bin/perl

# Tests for CONNECT over HTTP/2 with Chromium.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::H2 qw/ h2_conf /;
use Test::Nginx::Clients qw/ :DEFAULT chromium /;
use Test::Nginx::Browser;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 auth_basic/)
	->plan(14);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$connection $server_protocol $http2 $request $status '
                      '$tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow *.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        LISTEN 127.0.0.1:8081 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        LISTEN 127.0.0.1:8082 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8083;

        location / {
            root %%TESTDIR%%/html;
        }
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

$t->write_file_expand('nginx.conf', h2_conf($t, $conf));

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'www.example.test',
	'cdn.example.test', '127.0.0.1' ]);

my $dir = $t->testdir();
my $www = 'www.example.test:' . port(8443);
my $cdn = 'cdn.example.test:' . port(8443);
my $size = 1024 * 1024;

mkdir "$dir/$_" or die "Can't create $_: $!\n" for qw/ html data /;

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file("data/$_", pattern($size, $_)) for 1 .. 8;
$t->write_file('html/index.html', sums_page(
	map { 'https://' . ($_ < 3 ? $www : $cdn) . "/data/$_" } 1 .. 8));
$t->write_file('html/proxy.pac', "function FindProxyForURL(url, host) {\n"
	. 'return "HTTPS 127.0.0.1:' . port(8081) . "\";\n}\n");

my $sums = sums(map { pattern($size, $_) } 1 .. 8);

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'www.example.test' => '127.0.0.1',
		'cdn.example.test' => '127.0.0.1',
	});

$t->run();

###############################################################################

# What Chromium asks for on its own account is refused, and not looked at.

my $pac = 'http://127.0.0.1:' . port(8083) . '/proxy.pac';

for my $case (
	[ 'proxy', 'https://127.0.0.1:' . port(8081) ],
	[ 'PAC', 'direct://', "--proxy-pac-url=$pac" ])
{
	my ($name, $proxy, @options) = @$case;

	my $from = log_lines($t, 'tunnel.log');

	my $r = client($t, [ chromium($t, $proxy, $name), @options,
		'--virtual-time-budget=10000', '--dump-dom',
		"https://$www/" ], timeout => 30);
	like($r->{out}, qr!<p id="p">\Q$sums\E</p>!, $name)
		|| diag("status $r->{status}: " . substr($r->{err}, -2000));

	my @lines = grep { / CONNECT \S+\.example\.test:/ }
		wait_lines($t, $from);

	ok((grep { / CONNECT \Q$www\E / } @lines), "$name log");
	cmp_ok(scalar(grep { / CONNECT \Q$cdn\E / } @lines), '>', 1,
		"$name log of another name");
	is(join("\n", grep { !m!^\d+ HTTP/2\.0 h2 .* HTTP/2\.0 200 ok$! }
		@lines), '', "$name log, all over HTTP/2");
	is(connections(@lines), 1, "$name, one connection");
}

# a password is asked for, and the CONNECT comes again on the connection

my $browser = start_browser($t, 'https://127.0.0.1:' . port(8082), 'auth');
my ($text, $asked) = browse($browser, "https://$www/", 'user', 'secret');
stop_browser($browser);

is($text, $sums, 'password') || diag($t->read_file('browser.err'));
is($asked, 'Proxy basic proxy', 'password asked for');

my @lines = grep { / CONNECT \Q$www\E / } log_lines($t, 'tunnel.log');
my @refused = grep { / HTTP\/2\.0 h2 .* 407 -$/ } @lines;
my @again = grep { / HTTP\/2\.0 h2 .* 200 ok$/ }
	grep { (split)[0] eq (split ' ', $refused[-1] || '-')[0] } @lines;

ok(@refused > 0, 'password asked for, logged') || diag(join "\n", @lines);
ok(@again > 0, 'password on the same connection')
	|| diag(join "\n", @lines);

###############################################################################

# How many they are of.

sub connections {
	my %seen = map { (split)[0] => 1 } @_;

	return scalar keys %seen;
}

###############################################################################
