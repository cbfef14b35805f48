#!/usr/bin/perl

# Tests for ngx_stream_connect_tunnel_module: passthrough, its targets,
# variables and clients.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

use IO::Socket::INET;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()
	->has(qw/stream --with-stream_ssl_preread_module/)->plan(47);

my $d = $t->testdir();

port(8980, udp => 1);
port(8981, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$remote_port $status $tunnel_result $tunnel_reason '
                      '$tunnel_target $tunnel_host $tunnel_port '
                      '$tunnel_address '
                      '$bytes_received $bytes_sent '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    log_format times '$remote_port $tunnel_resolve_time '
                     '$tunnel_connect_time $tunnel_first_byte_time '
                     '$tunnel_time';
    log_format other '$server_port:$proxy_protocol_addr:'
                     '$ssl_preread_server_name $tunnel_result '
                     '$tunnel_reason $tunnel_address '
                     '$tunnel_bytes_received $tunnel_bytes_sent';

    access_log %%TESTDIR%%/tunnel.log tunnel;
    access_log %%TESTDIR%%/times.log times;
    access_log %%TESTDIR%%/other.log other;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    target_resolve_timeout 1500ms;
    target_connect_timeout 600ms;

    map $server_port $target {
        %%PORT_8081%%  127.0.0.1:8091;
        %%PORT_8082%%  127.0.0.1:8099;
        %%PORT_8083%%  denied.example:%%PORT_8091%%;
        %%PORT_8084%%  none.example:%%PORT_8091%%;
        %%PORT_8085%%  silent.example:%%PORT_8091%%;
        %%PORT_8086%%  '';
        %%PORT_8087%%  'not a target';
        %%PORT_8088%%  name.example:%%PORT_8091%%;
        %%PORT_8089%%  private.example:%%PORT_8091%%;
        %%PORT_8090%%  group;
        %%PORT_8070%%  127.0.0.1:8095;
    }

    target_allow *:8000-8999;
    target_deny denied.example:*;
    target_allow_address 127.0.0.0/8;

    upstream group {
        server 127.0.0.1:8099;
        server 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8080;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8070;
        listen 127.0.0.1:8081;
        listen 127.0.0.1:8082;
        listen 127.0.0.1:8083;
        listen 127.0.0.1:8084;
        listen 127.0.0.1:8085;
        listen 127.0.0.1:8086;
        listen 127.0.0.1:8087;
        listen 127.0.0.1:8088;
        listen 127.0.0.1:8089;
        listen 127.0.0.1:8090;
        passthrough $target;
    }

    server {
        listen 127.0.0.1:8071;
        passthrough group;
    }

    server {
        listen 127.0.0.1:8072 proxy_protocol;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8073;
        ssl_preread on;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8074;
        passthrough unix:%%TESTDIR%%/unix.sock;
    }

    server {
        listen 127.0.0.1:%%PORT_8981_UDP%% udp;
        passthrough 127.0.0.1:8091;
    }
}

EOF

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&echo_daemon, "unix:$d/unix.sock");
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => [ '127.0.0.1' ],
		'private.example' => [ '10.0.0.1' ],
		'silent.example' => 'TIMEOUT',
	});

port(8099);	# nobody is there
my $full = full_backlog(port(8095));

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my $echo = '127.0.0.1:' . port(8091);
my $gone = '127.0.0.1:' . port(8099);
my ($pid) = workers($t);

# targets that are there

my $s = client(8080);
is(echo($s, 'hello'), 'hello', 'passthrough');
is(ended($t, $s), "200 ok completed $echo 127.0.0.1 " . port(8091)
	. " $echo 5 5 5 5", 'variables');
like(took($t, $s), qr/^- 0\.\d{3} 0\.\d{3} 0\.\d{3}$/, 'times');

$s = client(8081);
is(echo($s, 'hello'), 'hello', 'variable target');
like(ended($t, $s), qr/^200 ok completed $echo .* 5 5 5 5$/,
	'variable target logged');

$s = client(8088);
is(echo($s, 'hello'), 'hello', 'name');
is(ended($t, $s), '200 ok completed name.example:' . port(8091)
	. ' name.example ' . port(8091) . " $echo 5 5 5 5", 'name logged');
like(took($t, $s), qr/^0\.\d{3} 0\.\d{3} /, 'name, times');

$s = client(8074);
is(echo($s, 'hello'), 'hello', 'unix socket');
like(ended($t, $s), qr!^200 ok completed - - - unix:\Q$d\E/unix.sock 5 5!,
	'unix socket logged');

# a group, whose first server is not there

for my $port (8071, 8090) {
	$s = client($port);
	is(echo($s, 'hello'), 'hello', "group, $port");
	like(ended($t, $s), qr/ $echo 5 5 5 5$/, "group logged, $port");

	$s = client($port);
	is(echo($s, 'hello'), 'hello', "group again, $port");
	finish($s);
}

# nothing is sent, only the end

$s = client(8080);
half_close($s);
is((read_all($s))[1], 'EOF', 'end at once');
like(ended($t, $s), qr/^200 ok completed .* 0 0 0 0$/, 'nothing counted');

# those that cannot be had

my $port = port(8091);

failed($t, 8082, "502 refused - $gone 127.0.0.1 " . port(8099) . ' -',
	qr/tunnel to "$gone" failed: refused, address $gone/);
failed($t, 8083, "403 denied_name - denied.example:$port denied.example $port"
	. ' -', qr/failed: denied_name/);
failed($t, 8084, "502 resolve_failed - none.example:$port none.example $port"
	. ' -', qr/failed: resolve_failed/);
failed($t, 8085, "504 resolve_timeout - silent.example:$port silent.example "
	. "$port -", qr/failed: resolve_timeout/);
failed($t, 8086, '403 rejected - - - - -', qr/tunnel failed: rejected/);
failed($t, 8087, '400 bad_request - - - - -', qr/"not a target" failed: bad/);
failed($t, 8089, "403 denied_address - private.example:$port private.example "
	. "$port -", qr/failed: denied_address, address 10\.0\.0\.1:$port/);
failed($t, 8070, '504 connect_timeout - 127.0.0.1:' . port(8095)
	. ' 127.0.0.1 ' . port(8095) . ' -',
	qr/failed: connect_timeout/);

# clients that leave while nginx connects

for my $how ('reset', 'reset behind bytes', 'close') {
	$s = client(8085);
	my $id = $s->sockport();

	# another client may have had the port before

	my $lines = grep { /^$id / } log_lines($t, 'tunnel.log');

	wait_for(sub { tcp_count($pid) == 1 });
	write_all($s, 'early') if $how =~ /bytes/;
	$how eq 'close' ? close $s : reset_close($s);

	like(wait_log($t, 'tunnel.log', qr/^$id /, undef, $lines + 1) || '',
		$how eq 'close' ? qr/^\d+ 504 resolve_timeout - /
			: qr/^\d+ 499 - - /,
		"client leaves while connecting, $how");
}

# what comes before a tunnel

$s = tcp_connect(port(8072));
write_all($s, proxy_protocol('v1', src => '192.0.2.9') . 'hello');
is(read_n($s, 5), 'hello', 'proxy_protocol');
finish($s);
ok(wait_log($t, 'other.log', qr/:192\.0\.2\.9:- ok completed $echo 5 5$/),
	'proxy_protocol logged');

for my $split (0, 1, 7) {
	my $hello = client_hello(sni => "n$split.example", padding => 3000);
	my $bytes = $hello . pattern(200000);

	$s = tcp_connect(port(8073));
	$split ? send_split($s, $bytes, 1, 5, 9, 300, 2000, length $hello)
		: write_all($s, $bytes);
	ok(read_n($s, length $bytes) eq $bytes, "preread bytes, $split");
	finish($s);
}

my $size = 200000 + length client_hello(sni => 'n0.example', padding => 3000);
ok(wait_log($t, 'other.log',
	qr/:-:n0\.example ok completed $echo $size $size$/),
	'preread bytes counted');

# UDP

my $udp = IO::Socket::INET->new(Proto => 'udp',
	PeerAddr => '127.0.0.1:' . port(8981, udp => 1));
$udp->send('hello');
ok(wait_log($t, 'error.log', qr/a tunnel needs TCP/), 'no tunnel of UDP');

$s = client(8080);
is(echo($s, 'hello'), 'hello', 'worker lives');
finish($s);
is((workers($t))[0], $pid, 'still the same');

ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');

###############################################################################

sub client {
	my ($number) = @_;

	return tcp_connect(port($number));
}

sub finish {
	my ($s) = @_;

	half_close($s);
	read_all($s);
	close $s;
}

sub ended {
	my ($t, $s) = @_;

	my $id = $s->sockport();

	half_close($s);
	read_all($s);

	return (wait_log($t, 'tunnel.log', qr/^$id /) || '') =~ s/^\S+ //r;
}

sub took {
	my ($t, $s) = @_;

	my $id = $s->sockport();

	return (wait_log($t, 'times.log', qr/^$id /) || '') =~ s/^\S+ //r;
}

sub failed {
	my ($t, $number, $line, $error) = @_;

	my $s = client($number);
	my $id = $s->sockport();
	my ($bytes) = read_all($s);
	close $s;

	is($bytes . ((wait_log($t, 'tunnel.log', qr/^$id /) || '')
		=~ s/^\S+ //r), "$line 0 0 - -", "fails: $line");
	ok(wait_log($t, 'error.log', qr/\[(?:error|info)\].*$error/),
		"fails and is logged: $line");
}

###############################################################################
