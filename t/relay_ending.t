#!/usr/bin/perl

# Tests for the relay: bytes on their way when an end is closed or reset.

###############################################################################

use warnings;
use strict;

use Test::More;

use Socket qw/ SOL_SOCKET SO_RCVBUF /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http stream/)->plan(18);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log off;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    server {
        listen       127.0.0.1:8080;
        connect_tunnel;
    }

    server {
        listen       127.0.0.1:8081;
        connect_tunnel;
        relay_half_close off;
    }

    server {
        listen       127.0.0.1:8082;
        connect_tunnel;
        relay_max_payload 1m download;
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    server {
        listen       127.0.0.1:8083;
        passthrough  127.0.0.1:8090;
    }

    server {
        listen       127.0.0.1:8084;
        passthrough  127.0.0.1:8090;
        relay_half_close off;
    }

    server {
        listen       127.0.0.1:8085;
        passthrough  127.0.0.1:8090;
        relay_max_payload 1m download;
    }
}

EOF

# one that takes little until it is read from

my $listen = IO::Socket::INET->new(
	LocalAddr => '127.0.0.1:' . port(8090),
	Listen => 16,
	ReuseAddr => 1,
) or die "Can't listen: $!\n";

setsockopt($listen, SOL_SOCKET, SO_RCVBUF, pack('i', 4096));

$t->run();

###############################################################################

my $closed = 0;

for my $front (qw/ http stream /) {
	my ($plain, $whole, $limited) = map { '127.0.0.1:' . port($_) }
		$front eq 'http' ? (8080 .. 8082) : (8083 .. 8085);

	# What came before a FIN arrives, though its sender has not read what
	# it was sent, which makes of its close a reset.

	for my $addr ($plain, $whole) {
		my $name = "$front, close with bytes unread"
			. ($addr eq $whole ? ', no half close' : '');

		my ($client, $target) = tunnel($front, $addr);

		ok(write_all($client, pattern(1500000), 8), "$name - sent");
		write_all($target, 'unread');
		select undef, undef, undef, 0.2;

		half_close($client);
		close $client;
		select undef, undef, undef, 0.5;

		is(length(read_n($target, 1500000, 8)), 1500000,
			"$name - arrives");
		ok(wait_log($t, 'error.log', qr/closed, received: 1500000,/, 5,
			++$closed), "$name - end");
	}

	# A reset is seen though nothing is read, for the peer takes nothing.

	my ($client, $target) = tunnel($front, $plain);
	fill($client);
	reset_close($client);

	ok(wait_log($t, 'error.log', qr/ended: client_reset,/, 5,
		1 + ($front eq 'stream')), "$front, reset while bytes wait");

	($client, $target) = tunnel($front, $plain);
	fill($target);
	reset_close($target);

	ok(wait_log($t, 'error.log', qr/ended: target_reset,/, 5,
		1 + ($front eq 'stream')), "$front, reset of the target");

	# Of a peer that was reset nothing is expected.

	($client, $target) = tunnel($front, $limited, small => 1);
	write_all($target, pattern(1024 * 1024 + 10), 8);
	select undef, undef, undef, 0.5;
	reset_close($client);

	ok(wait_log($t, 'error.log', qr/ended: max_payload, received: 0, /, 5,
		1 + ($front eq 'stream')), "$front, limit and reset");
}

###############################################################################

# Both ends of a tunnel.

sub tunnel {
	my ($front, $addr, %opt) = @_;

	my $client;

	if ($front eq 'http') {
		($client) = connect_tunnel($addr, '127.0.0.1:' . port(8090));

	} else {
		$client = client_connect($addr);
	}

	setsockopt($client, SOL_SOCKET, SO_RCVBUF, pack('i', 4096))
		if $opt{small};

	return ($client, scalar $listen->accept());
}

# Sends until no more is taken for a while.

sub fill {
	my ($s) = @_;

	my $chunk = 'x' x 65536;

	$s->blocking(0);

	for (1 .. 20) {
		1 while defined syswrite($s, $chunk);
		select undef, undef, undef, 0.05;
	}

	$s->blocking(1);
}

###############################################################################
