#!/usr/bin/perl

# Tests for the benchmark: the load generator, and bench/run.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Clients;
use Test::Nginx::H2;
use Test::Nginx::Tunnel;

use Cwd qw/ realpath /;
use JSON::PP;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(52);

my $d = $t->testdir();
my $bench = realpath('../bench');
my ($so) = ($ENV{TEST_NGINX_GLOBALS} || '')
	=~ m!load_module\s+['"]?([^'";]*/ngx_http_connect_tunnel_module\.so)!;

# what takes more than each nginx and each machine has

my $h2 = $t->has_module('http_ssl') && $t->has_module('http_v2');
my $h2load = $h2 && !client($t, [ 'h2load', '--version' ])->{status};

# bench/run takes a port for the origin, and the next ones for the proxies

my $port = 8600;
$port += 8 while grep { port($_) != $_ } $port .. $port + 5;

make_cert($t, 'localhost');

my $listen = $h2 ? h2_listen($t, '127.0.0.1:8082 ssl') : '';
my $tls = $h2 ? <<"EOF" : '';
    server {
        $listen
        ssl_certificate localhost.crt;
        ssl_certificate_key localhost.key;
        ssl_protocols TLSv1.3;
        connect_tunnel;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }
EOF

$t->write_file_expand('nginx.conf', <<'EOF' =~ s/%%TLS%%/$tls/r);

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log off;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }

    server {
        listen 127.0.0.1:8081;
        connect_tunnel;
    }

%%TLS%%
}

EOF

start_daemon($t, \&echo_daemon, port(8091));
$t->run();

###############################################################################

# all of it, which builds the generator as well

my $r = client($t, [ "$bench/run", $Test::Nginx::NGINX, $so || '-' ],
	env => {
		BENCH_DIR => "$d/bench", CC => 'cc -Werror', PORT => $port,
		PROXIES => 'ours ours-tls ours-h2 ours-www nginx-www',
		WORKLOADS => 'rate h2open h2get', ROUNDS => 1,
		DURATION => 0.3, GETS => 2,
	}, timeout => 30);
is($r->{status}, 0, 'run') or diag($r->{out} . $r->{err});
like($r->{out}, qr/^ours +[\d,.]+ +[\d.]+/m, 'run, table')
	or diag($r->{out} . $r->{err});

my $j = decode_json($t->read_file('bench/result.json'));
is(scalar @{$j->{metrics}{'rate/tunnels_per_s'}{proxies}{$_}{rounds}}, 1,
	"run, $_") for qw/ direct ours /;
is_deeply($j->{failed}, {}, 'run, no errors');

SKIP: {
skip 'no HTTP/2', 2 unless $h2;

ok($j->{metrics}{'h2open/tunnels_per_s'}{proxies}{$_}{of_base},
	"run, HTTP/2, $_") for qw/ ours-h2 ours-tls /;

}

SKIP: {
skip 'no h2load', 3 unless $h2load;

my $gets = $j->{metrics}{'h2get/requests_per_s'}{proxies};
is(scalar @{$gets->{$_}{rounds}}, 2, "run, GET, $_")
	for qw/ ours-www nginx-www /;
like($r->{out}, qr/^ours-www of nginx-www, requests.* of 2 pairs/m,
	'run, GET, ratio');

}

like($j->{proxies}{ours}{version}, qr/^\d+\.\d+/, 'run, version');
like(join(' ', @{$j->{machine}}{qw/ cores date /}), qr/^\d+ \d{4}-\d\d-\d\dT/,
	'run, machine');

like($t->read_file('bench/result.svg'), qr!^<svg .*>ours</text>.*</svg>$!s,
	'run, chart');

# the generator

my $pid = $t->read_file('nginx.pid') + 0;
my @connect = ('-f', 'connect', '-p', '127.0.0.1:' . port(8080), '-P', $pid);

$j = bench($t, 'rate', 0, 'rate', '-n', 8, @connect);
cmp_ok($j->{tunnels_per_s}, '>', 10, 'rate, tunnels');
cmp_ok($j->{p50_us}, '>', 1, 'rate, time');
cmp_ok($j->{p99_us}, '>=', $j->{p50_us}, 'rate, times');
cmp_ok($j->{cpu_us_per_tunnel}, '>=', 0, 'rate, CPU');

$j = bench($t, 'bulk', 0, 'bulk', '-n', 3, '-D', 'both', '-t', 2, @connect);
cmp_ok($j->{up_gib_per_s}, '>', 0.001, 'bulk, up');
cmp_ok($j->{down_gib_per_s}, '>', 0.001, 'bulk, down');
cmp_ok($j->{cpu_s_per_gib}, '>=', 0, 'bulk, CPU');

$j = bench($t, 'ping', 0, 'ping', '-n', 8, '-s', 5000, @connect);
cmp_ok($j->{p50_us}, '>', 1, 'ping, time');

$j = bench($t, 'idle', 0, 'idle', '-n', 100, @connect);
like($j->{bytes_per_tunnel}, qr/^-?\d+/, 'idle, memory');

# TLS, and the streams of HTTP/2

SKIP: {
skip 'no HTTP/2', 14 unless $h2;

my @tls = ('-p', '127.0.0.1:' . port(8082), '-P', $pid, '-f');

$j = bench($t, 'TLS, burst', 0, 'burst', '-n', 4, @tls, 'connect-tls');
cmp_ok($j->{tunnels_per_s}, '>', 1, 'TLS, burst, tunnels');

$j = bench($t, 'TLS, bulk', 0, 'bulk', '-n', 2, '-D', 'both', @tls,
	'connect-tls');
cmp_ok($j->{gib_per_s}, '>', 0.001, 'TLS, bulk, bytes');

$j = bench($t, 'HTTP/2, burst', 0, 'burst', '-n', 8, '-c', 4, @tls,
	'connect-h2');
cmp_ok($j->{tunnels_per_s}, '>', 1, 'HTTP/2, burst, tunnels');

# a connection has 1000 requests at most

$j = bench($t, 'HTTP/2, rate', 0, 'rate', '-n', 16, '-d', 1, @tls,
	'connect-h2');

$j = bench($t, 'HTTP/2, bulk', 0, 'bulk', '-n', 2, '-D', 'both', @tls,
	'connect-h2');
cmp_ok($j->{gib_per_s}, '>', 0.001, 'HTTP/2, bulk, bytes');

}

# without libraries for that

$r = client($t, [ 'sh', '-c', 'cc -std=c11 -Wall -Wextra -Werror -pthread'
	. " -DWITHOUT_TLS -o without $bench/tunnelbench.c $bench/link.c"
	. ' && ./without rate -f connect-h2 -p 127.0.0.1:1' ]);
is($r->{status}, 2, 'without TLS');
like($r->{err}, qr/built without/, 'without TLS, message');

# what it has to notice: a tunnel refused, and bytes that differ

$j = bench($t, 'refused', 1, 'rate', '-n', 1, '-f', 'connect',
	'-p', '127.0.0.1:' . port(8081));
cmp_ok($j->{errors}, '>', 0, 'refused, errors');

$j = bench($t, 'wrong bytes', 1, 'ping', '-n', 1, '-f', 'relay',
	'-p', '127.0.0.1:' . port(8091));
cmp_ok($j->{errors}, '>', 0, 'wrong bytes, errors');

###############################################################################

# A short run of the generator, with two tests.

sub bench {
	my ($t, $name, $status, @args) = @_;

	my $r = client($t, [ $t->testdir() . '/bench/tunnelbench', '-o', $port,
		'-d', 0.2, '-w', 0, @args ]);

	is($r->{status}, $status, $name) or diag($r->{out} . $r->{err});

	my $j = eval { decode_json($r->{out}) } || {};

	is($j->{errors} ? 1 : 0, $status, "$name, JSON");

	return $j;
}

###############################################################################
