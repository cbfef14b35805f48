#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: resets behind the end of data.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

use Socket qw/ SO_ERROR /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(6);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $tunnel_reason';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }
}

EOF

my $d = $t->testdir();

start_daemon($t, \&quiet_daemon, port(8091), "$d/quiet");
start_daemon($t, \&leaving_daemon, port(8092), "$d/go");

$t->run();

###############################################################################

# Nobody sends any more, so that only the reset itself can tell that an end is
# gone.

my ($s) = tunnel('client', 8091);
half_close($s);
ok(wait_log($t, 'quiet', qr/^EOF/), 'end of the client');
reset_close($s);

ok(wait_log($t, 'tunnel.log', qr/^client client_(?:reset|closed)/, 3),
	'reset behind the end of the client');
ok(wait_log($t, 'quiet', qr/^reset/, 3), 'passed to the target');

($s) = tunnel('target', 8092);
is((read_all($s))[1], 'EOF', 'end of the target');
$t->write_file('go', '');

ok(wait_log($t, 'tunnel.log', qr/^target target_(?:reset|closed)/, 3),
	'reset behind the end of the target');
ok(wait_for(sub { $s->sockopt(SO_ERROR) }, 3), 'passed to the client');

###############################################################################

sub tunnel {
	my ($id, $target) = @_;

	return connect_tunnel(port(8080), '127.0.0.1:' . port($target),
		headers => [ "X-Id: $id" ]);
}

# Tells what happens to its connection, and sends nothing.

sub quiet_daemon {
	my ($addr, $report) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		my $state = (read_all($s, 20))[1];
		Test::Nginx::Tunnel::append($report, "$state\n");

		Test::Nginx::Tunnel::append($report, "reset\n")
			if wait_for(sub { $s->sockopt(SO_ERROR) }, 20);
	});
}

# Ends its data, and is gone once there is a certain file.

sub leaving_daemon {
	my ($addr, $file) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		half_close($s);
		wait_for(sub { -e $file }, 20);
		reset_close($s);
	});
}

###############################################################################
