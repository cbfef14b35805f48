#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: what a review has found.

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

my $t = Test::Nginx->new()->has(qw/http rewrite unix/)->plan(13);

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$status $tunnel_result $tunnel_reason';

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_deny 127.0.0.3:*;
        error_page 400 =200 /page;

        location = /page {
            return 200 "PAGE";
        }

        location / {
            return 200 "WEB";
        }
    }

    server {
        listen 127.0.0.1:8081;
        connect_tunnel unix:%%TESTDIR%%/closing.sock;
    }

    server {
        listen 127.0.0.1:8082;
        limit_rate 20;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8083;
        error_page 400 = @tunnel;
        connect_tunnel;

        location @tunnel {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8084;
        access_log %%TESTDIR%%/tunnel.log tunnel;
        post_action /after;
        connect_tunnel;

        location = /after {
            access_log %%TESTDIR%%/after.log;
            post_action "";
            return 204;
        }
    }
}

EOC

my $d = $t->testdir();
my $p = port(8090);

start_daemon($t, \&echo_daemon, $p);
start_daemon($t, \&echo_daemon, port(8091), greeting => 'HELLO');
start_daemon($t, \&reset_daemon, "unix:$d/closing.sock", n => 0);

$t->run();

###############################################################################

# a line of the PROXY protocol where there is none

my $s = tcp_connect(port(8080));
write_all($s, "PROXY /127.0.0.1:$p HTTP/1.0\x0d\x0a\x0d\x0a"
	. "CONNECT x:1 HTTP/1.1\x0d\x0a\x0d\x0a");
like(scalar read_head($s), qr/^HTTP\/1\.1 200 OK/, 'not a PROXY line');

# no success but that of a tunnel

unlike((connect_tunnel(port(8080), "127.0.0.1:$p", host => undef))[1] || '',
	qr/^HTTP\/1\.1 2/, 'page of a failed CONNECT');
unlike((connect_tunnel(port(8080), 'malformed'))[1] || '',
	qr/^HTTP\/1\.1 2/, 'page of a malformed one');

# a CONNECT with much behind it, on a connection that was kept alive

my $early = pattern(2000);

$s = tcp_connect(port(8080));
write_all($s, "GET / HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a");
read_head($s);
is(scalar read_n($s, 3), 'WEB', 'kept alive');
write_all($s, connect_request("127.0.0.1:$p", early => $early));
like(scalar read_head($s), qr/^HTTP\/1\.1 200 Conn/, 'tunnel behind it');
ok(read_n($s, 2000) eq $early, 'all that came early');

# one address, however it is written

like((connect_tunnel(port(8080), "127.0.0.3:$p"))[1], qr/^HTTP\/1\.1 403/,
	'denied');
like((connect_tunnel(port(8080), "[::ffff:7f00:3]:$p"))[1],
	qr/^HTTP\/1\.1 403/, 'denied, mapped');

# tunnels that end where they begin

for (1 .. 100) {
	my $c = tcp_connect(port(8081));
	write_all($c, connect_request('a:1', early => 'x' x 200));
	shutdown($c, 1);
	read_all($c, 2);
}

like((connect_tunnel(port(8081), 'a:1'))[1] || '', qr/^HTTP\/1\.1 200 /,
	'tunnels that ended at once');

# bytes of the target before the answer is out

($s) = connect_tunnel(port(8082), '127.0.0.1:' . port(8091), timeout => 15);
is(scalar read_n($s, 5, 15), 'HELLO', 'answer that took its time');

# a refused request does not become a tunnel in another location

unlike((connect_tunnel(port(8083), 'malformed'))[1] || '',
	qr/^HTTP\/1\.1 2/, 'malformed, named location');
unlike((connect_tunnel(port(8083), "127.0.0.1:$p",
	headers => [ 'Content-Length: 5' ], early => 'hello'))[1] || '',
	qr/^HTTP\/1\.1 2/, 'body, named location');

# behind a tunnel

($s) = connect_tunnel(port(8084), "127.0.0.1:$p");
close $s;
ok(wait_log($t, 'after.log', qr/"CONNECT /, 5), 'post_action');

###############################################################################
