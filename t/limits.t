#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: what the machine does not give.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(21);

start_daemon($t, \&echo_daemon, port(8091));

###############################################################################

# worker_connections

configure($t, 'worker_connections 32;');
$t->run();

limit_tests($t, 'connections');
$t->stop();

# descriptors

configure($t, 'worker_connections 512;', 'worker_rlimit_nofile 40;');
$t->run();

limit_tests($t, 'descriptors');

ok(wait_log($t, 'error.log', qr/\[error\].*machine_limit.*\(24: /),
	'descriptors, error logged');

# clients that nginx cannot accept wait until it can

my @s = fill();

for (1 .. 10) {
	push @s, tcp_connect(port(8080));
	write_all($s[-1], "GET / HTTP/1.1\n");
	last if wait_log($t, 'error.log', qr/accept4?\(\) failed \(24: /, 0.3);
}

my @wait = map { start('wait') } 1 .. 3;
ok(wait_log($t, 'error.log', qr/accept4?\(\) failed \(24: /),
	'no descriptor for a client');
close $_ for @s;
is(join(' ', map { read_head($_) =~ /^HTTP\S+ (\d+)/ ? $1 : '' } @wait),
	'200 200 200', 'accepted later');

###############################################################################

sub limit_tests {
	my ($t, $what) = @_;

	my ($pid) = workers($t);

	my ($s) = tunnel("$what-first");
	is(echo($s, 'hello'), 'hello', "$what, tunnel");

	my $fds = fd_count($pid);

	# clients that hold one each, so that one of the tunnels is the first
	# to miss one only for its target

	my ($status, $head, $new, @s) = ('');

	for my $n (1 .. 100) {
		($new, $head) = tunnel("$what-$n");
		($status) = $head =~ /^HTTP\S+ (\d+)/;

		last if !$status || $status ne '200';

		half_close($new);
		read_all($new);
		wait_log($t, 'tunnel.log', qr/^$what-$n /);

		push @s, tcp_connect(port(8080));
		write_all($s[-1], "GET / HTTP/1.1\n");
		wait_for(sub { tcp_count($pid) == 2 + @s });
	}

	is($status, 503, "$what, limit");
	like($head, qr/^Proxy-Status: .*connection_limit_reached/m,
		"$what, told to the client");
	ok(wait_log($t, 'tunnel.log', qr/^$what-\d+ 503 machine_limit - - -$/),
		"$what, logged");

	# the others go on

	is(echo($s, 'hello again'), 'hello again', "$what, tunnel goes on");

	# again, as long as it lasts

	is((tunnel("$what-again"))[1] =~ /^HTTP\S+ (\d+)/ ? $1 : '', 503,
		"$what, limit again");

	# and over

	close $_ for @s, $new;
	ok(wait_for(sub { tcp_count($pid) == 2 }), "$what, clients gone");

	my ($last) = tunnel("$what-last");
	is(echo($last, 'hello'), 'hello', "$what, tunnel after the limit");
	half_close($last);
	read_all($last);

	ok(wait_for(sub { fd_count($pid) <= $fds }), "$what, none left open");
}

# Tunnels up to the limit.

sub fill {
	my @s;

	for (1 .. 100) {
		my $s = start('fill');
		push @s, $s;
		last unless read_head($s, 1) =~ / 200 /;
	}

	return @s;
}

sub start {
	my ($id) = @_;

	my $s = tcp_connect(port(8080));
	write_all($s, connect_request('127.0.0.1:' . port(8091),
		headers => [ "X-Id: $id" ]));

	return $s;
}

sub tunnel {
	my ($id) = @_;

	my $s = start($id);

	return ($s, scalar read_head($s));
}

sub configure {
	my ($t, $events, $main) = @_;

	$main = '' unless defined $main;

	$t->write_file_expand('nginx.conf', <<"EOF" . <<'EOF');

%%TEST_GLOBALS%%

daemon off;
$main

events {
    $events
}

EOF
http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_allow *:*;
        target_allow_address 127.0.0.0/8;
    }
}

EOF
}

###############################################################################
