#!/usr/bin/perl

# Tests for ngx_stream_socks_module: datagrams to names of several addresses,
# on a machine that has no route to some of them.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx qw/ port /;
use Test::Nginx::Datagram;
use Test::Nginx::Namespace qw/ net /;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream/)->plan(10);

ip('addr add 192.0.2.1/32 dev lo');
ip('addr add 192.0.2.2/32 dev lo');
ip('addr add 192.0.2.3/32 dev lo');

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_allow_address all;

    server {
        listen 127.0.0.1:8080;
        socks;
        socks_udp on;
    }
}

EOF

start_daemon($t, \&dns_daemon, port(8980, udp => 1), table => {
	'dual.example' => [ '2001:db8::1', '192.0.2.1' ],
	'six.example' => '2001:db8::1',
	'many.example' => [ '192.0.2.1', '192.0.2.2', '192.0.2.3' ],
});

$t->run();

###############################################################################

my $one = udp_socket('192.0.2.1');
my $number = udp_port($one);
my $u = udp_associate(port(8080));

is(udp_echo($u, $one, 'one', "dual.example:$number"), '',
	'address with a route');
is(lines($t), 0, 'an address that is passed over is no failure');

# an address that fails is not taken for the name, known as it is

udp_send($u, "[2001:db8::1]:$number", 'lost');
ok(wait_log($t, 'error.log', qr/datagram cannot be sent.*unreachable/i),
	'address without a route is logged');
is(udp_echo($u, $one, 'two', "dual.example:$number"), '',
	'name with an address that has failed');

udp_send($u, "six.example:$number", 'lost') for 1 .. 3;
is(udp_echo($u, $one, 'three', "dual.example:$number"), '',
	'name without a route breaks nothing');
is(lines($t), 1, 'one line for each association');

udp_end($u);

$u = udp_associate(port(8080));
udp_send($u, "six.example:$number", 'lost') for 1 .. 3;
ok(wait_for(sub { lines($t) == 2 }), 'name without a route is logged');
udp_end($u);

# the resolver turns the addresses of a name round

my @s = map { udp_socket("192.0.2.$_:$number") } 2, 3;
my %got;

$u = udp_associate(port(8080));

for my $i (1 .. 12) {
	udp_send($u, "many.example:$number", $i);
}

for my $s ($one, @s) {
	while (my ($bytes) = udp_get($s, 0.5)) {
		$got{$s}++;
	}
}

is(keys %got, 1, 'one address of a name');
is((values %got)[0], 12, 'all datagrams of a client');

udp_end($u);

ok(!grep({ /denied/ } log_lines($t, 'error.log')), 'nothing denied');

###############################################################################

sub lines {
	my ($t) = @_;

	return scalar grep { /datagram cannot be sent/ }
		log_lines($t, 'error.log');
}

###############################################################################
