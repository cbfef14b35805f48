#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: tunnels of a worker that is killed.

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

# the alert "worker process exited on signal 9" is nginx's own

my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts()->plan(7);

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

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&sink_daemon, port(8092),
	report => $t->testdir() . '/sink');

$t->run();

###############################################################################

my ($echo) = tunnel('one', 8091);
my ($sink) = tunnel('two', 8092);
is(echo($echo, 'hello'), 'hello', 'tunnel');
write_all($sink, 'hello');

my ($old) = workers($t);
kill 'KILL', $old;

isnt((read_all($echo))[1], 'TIMEOUT', 'client told');
ok(wait_log($t, 'sink', qr/^\d/), 'target told');

my $new = new_worker($t, $old);
ok($new, 'another worker');

my ($s, $head) = tunnel('three', 8091);
like($head, qr/ 200 /, 'tunnel of the other worker');
is(echo($s, 'hello'), 'hello', 'tunnel works');
close $s;
is(wait_log($t, 'tunnel.log', qr/^three /), 'three completed', 'ended');

###############################################################################

sub tunnel {
	my ($id, $target) = @_;

	return connect_tunnel(port(8080), '127.0.0.1:' . port($target),
		headers => [ "X-Id: $id" ]);
}

###############################################################################
