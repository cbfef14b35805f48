#!/usr/bin/perl

# Tests for ngx_stream_connect_tunnel_module: what the machine does not give.

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

my $t = Test::Nginx->new()->has(qw/stream --with-stream_ssl_preread_module/)
	->plan(15);

start_daemon($t, \&echo_daemon, port(8091));

###############################################################################

configure($t, 'worker_connections 32;');
$t->run();
limit_tests($t, 'connections');
$t->stop();

configure($t, 'worker_connections 512;', 'worker_rlimit_nofile 60;');
$t->run();
limit_tests($t, 'descriptors');
ok(wait_log($t, 'error.log', qr/\[error\].*machine_limit.*\(24: /),
	'descriptors, error logged');

###############################################################################

sub limit_tests {
	my ($t, $what) = @_;

	my ($pid) = workers($t);
	my ($first) = front_tunnel('stream', "$what-first", 8091);
	is(echo($first, 'hello'), 'hello', "$what, tunnel");
	my $fds = fd_count($pid);

	# A client of another server holds one, so that in some round a tunnel
	# only misses the one for its target.

	my @s;

	for my $n (1 .. 100) {
		my ($s) = front_tunnel('stream', "$what-$n", 8091);

		write_all($s, 'hello');
		last if read_n($s, 5, 2) ne 'hello';

		half_close($s);
		read_all($s);
		front_log($t, 'stream', "$what-$n");

		push @s, tcp_connect(port(8085));
		write_all($s[-1], "\x16\x03");
		wait_for(sub { tcp_count($pid) == 2 + @s });
	}

	ok(wait_log($t, 'tunnel.log',
		qr/^\d+:\d+ 503 machine_limit - - -$/), "$what, logged");
	is(echo($first, 'again'), 'again', "$what, tunnel goes on");
	cmp_ok(scalar(@s), '>', 5, "$what, not too early");

	close $_ for @s;
	ok(wait_for(sub { tcp_count($pid) == 2 }), "$what, clients gone");

	my ($last) = front_tunnel('stream', "$what-last", 8091);
	is(echo($last, 'hello'), 'hello', "$what, tunnel after the limit");
	half_close($last);
	read_all($last);

	ok(wait_for(sub { fd_count($pid) <= $fds }), "$what, none left open");

	half_close($first);
	read_all($first);
	close $first;

	unlink $t->testdir() . '/tunnel.log';
}

sub configure {
	my ($t, $events, $main) = @_;

	$main = '' unless defined $main;

	my $front = front_conf('stream', servers => [ [ 8080, '' ] ],
		targets => [ 8091 ], conf => <<'EOF');
server {
        listen 127.0.0.1:8085;
        preread_buffer_size 16;
        ssl_preread on;
        return '';
    }
EOF

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$main

events {
    $events
}

$front

EOF
}

###############################################################################
