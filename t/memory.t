#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: what is known of a request whose
# header buffers are freed.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http auth_basic map rewrite/);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_case|$request|$request_uri|$host|$http_first|'
                      '$http_last|$early|$captured|$copied|$remote_user|'
                      '$http_host|$tunnel_bytes_received';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    # used before there is a tunnel, and only in the log

    map $http_first $early {
        default      $http_last;
    }

    map $http_first $captured {
        "~^(?<head>[^-]*)-(?<tail>.*)$"  "$tail-$head";
    }

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    server {
        listen       127.0.0.1:8080;
        connect_tunnel;

        set $copied $http_last;
        add_header X-Early $early always;

        if ($http_first ~ "^(.+)-") {
            set $unused $1;
        }
    }

    server {
        listen       127.0.0.1:8081;
        client_header_buffer_size   128;
        large_client_header_buffers 8 8k;
        connect_tunnel;

        set $copied $http_last;

        auth_basic           "proxy";
        auth_basic_user_file %%TESTDIR%%/htpasswd;
    }
}

EOF

$t->write_file('htpasswd', "alice:{PLAIN}secret\n");

my @cases = (
	[ short => 0, 0 ],
	[ line => 1, 1500 ],
	[ buffers => 5, 3500 ],
	[ many => 25, 20 ],
);

$t->plan(2 * 2 * @cases * 5 + 2);

start_daemon($t, \&echo_daemon, '127.0.0.1:' . port(8082));
$t->run();

###############################################################################

# What was freed is soon used again, so that what still points to it would
# show.

my $target = '127.0.0.1:' . port(8082);
my (@open, @expected);

for my $port (8080, 8081) {
	for my $case (@cases) {
		for my $early ('', 'early bytes') {
			push @open, one($port, @$case, $early);
		}
	}
}

my @other = map { (connect_tunnel(port(8080), $target,
	headers => [ map { "X-Other-$_: " . 'other ' x 150 } 1 .. 8 ]))[0] }
	1 .. 20;

for my $i (0 .. $#open) {
	my ($s, $name, $early) = @{$open[$i]};

	is(read_n($s, length $early), $early, "$name - early");
	write_all($s, 'later');
	is(read_n($s, 5), 'later', "$name - later");
	half_close($s);
	is(read_all($s), '', "$name - end");
}

close $_ for @other;

for my $expected (@expected) {
	my ($name) = split /\|/, $expected;

	ok(wait_log($t, 'tunnel.log', qr/^\Q$expected\E$/),
		"$name - logged");
}

# a second request of a connection, after one with a long header

my ($s) = connect_tunnel(port(8081), $target,
	headers => [ 'Case: refused', 'First: ' . 'r' x 3000 ]);
write_all($s, connect_request($target, auth => 'alice:secret',
	headers => [ 'Case: second', 'First: a-b', 'Last: z' ]));
like(read_head($s), qr/ 200 /, 'second request');
close $s;

ok(wait_log($t, 'tunnel.log', qr/^second\|CONNECT\ \Q$target\E\ HTTP\/1.1\|
	\Q$target\E\|127.0.0.1\|a-b\|z\|z\|b-a\|z\|alice\|/x), 'second - logged');

###############################################################################

sub one {
	my ($port, $case, $n, $len, $early) = @_;

	my $name = "$case-$port" . ($early ? '-early' : '');
	my $user = $port == 8081 ? 'alice' : '';

	my ($s, $head) = connect_tunnel(port($port), $target,
		early => $early,
		headers => [ "Case: $name", "First: one-$name",
			(map { "X-Long-$_: " . $_ x $len } 1 .. $n),
			"Last: last of $name" ],
		$user ? (auth => 'alice:secret') : ());

	like($head, qr/ 200 /, "$name - tunnel") or diag $head;

	push @expected, join '|', $name, "CONNECT $target HTTP/1.1", $target,
		'127.0.0.1', "one-$name", "last of $name", "last of $name",
		"$name-one", "last of $name", $user || '-', $target,
		5 + length $early;

	return [ $s, $name, $early ];
}

###############################################################################
