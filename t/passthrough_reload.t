#!/usr/bin/perl

# Tests for ngx_stream_connect_tunnel_module: a reload and a stop while clients
# are looked at, passed through, refused, or on their way out.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks qw/ ends /;

use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_map/)->plan(83);

my $d = $t->testdir();

use constant {
	ALERT		=> '15030300020270',	# fatal, unrecognized_name
	INTERNAL	=> '15030300020250',	# fatal, internal_error
};

my $hello = client_hello(sni => 'name.example', padding => 2000);
my $bad = client_hello(sni => 'bad.example');

port(8980, udp => 1);

configure($t);

start_daemon($t, \&echo_daemon, port(8091), greeting => 'one:');
start_daemon($t, \&echo_daemon, port(8092), greeting => 'two:');
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { 'silent.example' => 'TIMEOUT' });

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# descriptors and memory, after many sessions of each kind

my ($old) = workers($t);

many() for 1 .. 2;
wait_for(sub { tcp_count($old) == 0 });
my $fds = fd_count($old);

many() for 1 .. 2;
ok(wait_for(sub { tcp_count($old) == 0 && fd_count($old) <= $fds }),
	'sessions ended') or diag(fd_count($old) . " $fds");

my $rss = rss($old);

many() for 1 .. 15;
ok(wait_for(sub { tcp_count($old) == 0 && fd_count($old) <= $fds }),
	'no descriptors left') or diag(fd_count($old) . " $fds");

# what is freed, a sanitizer keeps for a while

my $limit = $t->has_module('fsanitize') ? 64 : 2;
cmp_ok(rss($old) - $rss, '<', $limit * 1048576, 'no memory left');

# reload: what has begun goes on, by the configuration of its time

my $live = live($t);

configure($t, to => 8092);
$t->reload();
my $new = new_worker($t, $old);
ok($new, 'new worker');

is(echo($live->{tunnel}, 'hello'), 'hello', 'reload, tunnel');
is(finished($live->{partial}), "one:$hello", 'reload, hello in two parts');
is(asked($live->{silent}), "one:$hello", 'reload, silent client');

my $s = tcp_connect(port(8080));
is(asked($s), "two:$hello", 'new worker');
half_close($s);
read_all($s);

my $bytes = pattern(3000000);
ok(exchange($live->{tunnel}, $bytes, length $bytes) eq $bytes,
	'reload, bulk');

ok(alive($old), 'old worker is still there');
half_close($_) for @$live{qw/ tunnel partial silent /};
is((read_all($live->{$_}))[1], 'EOF', "reload, end, $_")
	for qw/ tunnel partial silent /;
like(session_log($t, $live->{$_}), qr/^200 ok completed tls name\.example /,
	"reload, logged, $_") for qw/ tunnel partial silent /;

# who does not leave does not hold an old worker either

ok(wait_for(sub { !alive($old) }, 12),
	'old worker ends, rejected clients or not');
like(session_log($t, $live->{$_}), qr/^403 rejected - /,
	"old worker logs, $_") for qw/ rejected talking /;
live_end($live);

# they leave in other ways

$live = live($t);
$old = $new;
$t->reload();
$new = new_worker($t, $old);
reset_close($_) for values %$live;
ok(wait_for(sub { !alive($old) }), 'old worker ends with resets');
like(session_log($t, $live->{tunnel}), qr/^200 ok client_reset tls /,
	'reset, logged, tunnel');
like(session_log($t, $live->{$_}), qr/^499 - - - /, "reset, logged, $_")
	for qw/ silent /;
like(session_log($t, $live->{partial}), qr/^\d+ \S+ /,
	'reset, logged, partial');

$live = live($t);
$old = $new;
$t->reload();
$new = new_worker($t, $old);
close $_ for values %$live;
ok(wait_for(sub { !alive($old) }), 'old worker ends with its clients');

# times go on in an old worker

configure($t, timeout => '1s');
$old = $new;
$t->reload();
$new = new_worker($t, $old);

my $start = time();
$live = live($t);
configure($t);
$old = $new;
$t->reload();
$new = new_worker($t, $old);

is(read_n($live->{silent}, 4), 'one:', 'time is over, silent');
is(echo($live->{silent}, 'hello'), 'hello', 'time is over, silent, bytes');
is(unpack('H*', read_n($live->{partial}, 1004)),
	unpack('H*', 'one:' . substr $hello, 0, 1000), 'time is over, partial');
my $time = time() - $start;
ok($time > 0.9 && $time < 5, 'time is over in time') or diag($time);
is(unpack('H*', read_n($live->{waiting}, 7)), INTERNAL,
	'time is over, waiting');
half_close($_) for @$live{qw/ silent partial tunnel /};
read_all($_) for @$live{qw/ silent partial tunnel /};
like(session_log($t, $live->{silent}), qr/^200 ok completed timeout - 5 9$/,
	'time is over, silent, logged');
like(session_log($t, $live->{partial}),
	qr/^200 ok completed unknown - 1000 1004$/,
	'time is over, partial, logged');
live_end($live);
like(session_log($t, $live->{waiting}), qr/^504 resolve_timeout - tls /,
	'time is over, waiting, logged');
ok(wait_for(sub { !alive($old) }), 'old worker ends with its timeouts');

# worker_shutdown_timeout

configure($t, main => 'worker_shutdown_timeout 1s;');
$old = $new;
$t->reload();
$new = new_worker($t, $old);

$live = live($t);
$old = $new;
$start = time();
$t->reload();
$new = new_worker($t, $old);

is(echo($live->{tunnel}, 'hello'), 'hello', 'shutdown timeout, not yet');

for my $name (sort keys %$live) {
	isnt((read_all($live->{$name}, 5))[1], 'TIMEOUT',
		"shutdown timeout, $name ends");
}

ok(wait_for(sub { !alive($old) }, 5), 'shutdown timeout, worker ends');
$time = time() - $start;
ok($time > 0.7 && $time < 5, 'shutdown timeout in time') or diag($time);

like(session_log($t, $live->{tunnel}), qr/^200 ok shutdown tls /,
	'shutdown timeout, logged, tunnel');
like(session_log($t, $live->{$_}), qr/^403 rejected - /,
	"shutdown timeout, logged, $_") for qw/ rejected talking /;
like(session_log($t, $live->{$_}), qr/^\d+ \S+ - /,
	"shutdown timeout, logged, $_") for qw/ silent partial waiting /;
live_end($live);

# QUIT

configure($t);
$old = $new;
$t->reload();
$new = new_worker($t, $old);

$live = live($t);
kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !tcp_connect(port(8080), timeout => 1) }),
	'QUIT, no new connections');
is(echo($live->{tunnel}, 'hello'), 'hello', 'QUIT, tunnel');
is(finished($live->{partial}), "one:$hello", 'QUIT, hello in two parts');
is(asked($live->{silent}), "one:$hello", 'QUIT, silent client');
ok(-e "$d/nginx.pid", 'QUIT, nginx waits');
half_close($_) for @$live{qw/ tunnel partial silent /};
is((read_all($live->{$_}))[1], 'EOF', "QUIT, end, $_")
	for qw/ tunnel partial silent /;
live_end($live);
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'QUIT, nginx ends');

# QUIT, and there are only those who are on their way out

$t->run();
$live = live($t);
close $_ for @$live{qw/ tunnel partial silent waiting /};
kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;
ok(wait_for(sub { !-e "$d/nginx.pid" }, 12), 'QUIT, nobody holds nginx');
isnt((read_all($live->{rejected}, 1))[1], 'TIMEOUT', 'QUIT, rejected');
live_end($live);

# TERM

$t->run();
$live = live($t);
kill 'TERM', $t->read_file('nginx.pid') =~ /(\d+)/;
isnt((read_all($live->{$_}, 4))[1], 'TIMEOUT', "TERM ends, $_")
	for sort keys %$live;
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'TERM ends nginx');
live_end($live);

$t->run();
$s = tcp_connect(port(8080));
is(asked($s), "one:$hello", 'and it starts again');
close $s;

###############################################################################

# Clients in every state: one with a tunnel, one that has said nothing, or not
# all, one whose target has no address yet, and two that were rejected and do
# not leave.

sub live {
	my ($t) = @_;

	my %live = map { $_ => session($t, port(8080)) }
		qw/ tunnel silent partial waiting rejected talking /;

	write_all($live{tunnel}, $hello);
	read_n($live{tunnel}, 4 + length $hello);

	write_all($live{partial}, substr $hello, 0, 1000);

	my $queries = dns_queries($t, 'dns.log', 'silent.example');
	write_all($live{waiting}, client_hello(sni => 'silent.example'));
	wait_for(sub { dns_queries($t, 'dns.log', 'silent.example')
		> $queries });

	for my $name (qw/ rejected talking /) {
		write_all($live{$name}, $bad);
		is(unpack('H*', read_n($live{$name}, 7)), ALERT,
			"$name client");
	}

	write_all($live{talking}, pattern(20000));

	return \%live;
}

sub live_end {
	my ($live) = @_;

	close $_ for values %$live;
}

# The rest of what is partial, or all of it, and what is told then.

sub finished {
	my ($s) = @_;

	write_all($s, substr $hello, 1000);
	return scalar read_n($s, 4 + length $hello);
}

sub asked {
	my ($s) = @_;

	write_all($s, $hello);
	return scalar read_n($s, 4 + length $hello);
}

sub many {
	my @s = map { tcp_connect(port(8080)) } 1 .. 12;

	write_all($_, $hello) for @s[0 .. 2];
	write_all($_, $bad) for @s[3 .. 7];
	write_all($_, substr $hello, 0, 700) for @s[8, 9];

	# the end, a reset, and nothing in turn

	read_n($_, 4) for @s[0 .. 2];
	half_close($_) for @s[0, 3, 8, 10];
	ends($_, 1) for @s[0, 3, 4, 5];
	reset_close($_) for @s[1, 5, 6, 9, 11];

	close $_ for @s;
}

# Not a zombie either: the master waits for its children.

sub alive {
	my ($pid) = @_;

	return kill 0, $pid;
}

###############################################################################

sub configure {
	my ($t, %opt) = @_;

	%opt = (to => 8091, timeout => '8s', main => '', %opt);

	$t->write_file_expand('nginx.conf', <<"EOF" . <<'EOF');

%%TEST_GLOBALS%%

daemon off;
$opt{main}

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_preread_timeout $opt{timeout};

    map \$preread_host \$target {
        name.example    127.0.0.1:$opt{to};
        silent.example  silent.example:443;
        bad.example     reject;
        default         127.0.0.1:$opt{to};
    }

EOF
    log_format tunnel '$remote_port:$server_port $status '
                      '$tunnel_result $tunnel_reason '
                      '$preread_protocol $preread_host '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_resolve_timeout 1s;
    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    server {
        listen 127.0.0.1:8080;
        tunnel_preread on;
        passthrough $target;
    }
}

EOF
}

###############################################################################
