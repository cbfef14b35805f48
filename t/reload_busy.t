#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: a reload and a shutdown with TLS
# clients, with tunnels that are still connecting, and under load.

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

use constant {
	MB		=> 1048576,
	RELOADS		=> 4,
	OPENERS		=> 3,
	TUNNELS		=> 300,
};

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic socket_ssl/)
	->plan(62);

my $d = $t->testdir();

make_cert($t, 'proxy');
$t->write_file('users', 'user:{PLAIN}pass' . "\n");

port($_) for 8091 .. 8096, 8099;	# nobody is at the last one
port(8980, udp => 1);

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&half_close_daemon, port(8092));
start_daemon($t, \&reset_daemon, port(8093));
start_daemon($t, \&sink_daemon, port(8094));
start_daemon($t, \&slow_daemon, port(8096), bytes => 100, chunk => 1,
	delay => 0.3);
my $full = full_backlog(port(8095));

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { 'silent.example' => 'TIMEOUT' });

$t->waitforfile("$d/dns.log");

configure($t, 'first');
$t->run();

###############################################################################

# a reload: tunnels stay with the worker that has them

my ($old) = workers($t);

my ($tls) = tunnel('tls', 8091, proxy => 8443, ssl => 1);
my ($half) = tunnel('half', 8092, proxy => 8443, ssl => 1);
write_all($half, 'before');

is(echo($tls, 'one'), 'one', 'before a reload');
like(head(8080, 'denied.example:1'), qr/^Proxy-Status: first/m,
	'configuration before a reload');

# those on their way, and one that may still come back with credentials

my $connecting = start_tunnel('connecting', '127.0.0.1:' . port(8095));
my $silent = start_tunnel('silent', 'silent.example:1');

ok(wait_for(sub { dns_queries($t, 'dns.log', 'silent.example', 'A') }),
	'name asked for');
ok(wait_for(sub { in_syn(8095) }), 'connecting');

my ($kept, $kept_head) = connect_tunnel(port(8084), 'a.example:443');
like($kept_head, qr/ 407 /, 'connection kept for credentials');

configure($t, 'second');
$t->reload();

my $new = newer($t, $old);
ok($new, 'reload');
ok(wait_log($t, 'error.log', qr/ $old#.*gracefully shutting down/),
	'old worker shuts down');

like(head(8080, 'denied.example:1'), qr/^Proxy-Status: second/m,
	'configuration after a reload');
is((read_all($kept))[1], 'EOF', 'kept connection closed');
is(echo($tls, 'two'), 'two', 'after a reload');

my $bytes = pattern(2 * MB);

ok(exchange($tls, $bytes, length $bytes) eq $bytes, 'much after a reload');

write_all($half, ' and after');
half_close($half);
is(read_all($half), summary('before and after'), 'half close after a reload');

like(read_head($connecting), qr/ 504 /, 'connect timeout after a reload');
like(read_head($silent), qr/ 504 /, 'resolve timeout after a reload');
is(ended($t, 'connecting'), '504 connect_timeout -', 'connect timeout logged');
is(ended($t, 'silent'), '504 resolve_timeout -', 'resolve timeout logged');

ok(kill(0, $old), 'worker waits for its tunnel');
finish($tls);
ok(gone($old), 'worker exits when it has ended');
is(ended($t, $_), '200 ok completed', "end logged, $_") for qw/ tls half /;

# several reloads, tunnels across all of them, and others opened meanwhile

my @across = map { (tunnel("across$_", 8091))[0] } 1 .. RELOADS;
my @openers = map { opener($_) } 1 .. OPENERS;

for my $n (1 .. RELOADS) {
	my @before = workers($t);
	my $opened = opened($t);

	$t->reload();

	ok(newer($t, @before), "reload $n under load");
	ok(wait_for(sub { opened($t) > $opened + 2 * OPENERS }),
		"tunnels go on $n");
}

$t->write_file('enough', '');
waitpid($_, 0) for @openers;

my @bad = grep { $_ ne 'good' } log_lines($t, 'opened');

note('tunnels opened under reloads: ' . opened($t));
is(join("\n", @bad), '', 'none of them failed');

is(join(' ', map { echo($across[$_], "across$_") } 0 .. $#across),
	join(' ', map { "across$_" } 0 .. $#across), 'tunnels of before');

finish($_) for @across;
ok(wait_for(sub { workers($t) == 1 }), 'old workers exit');

# what many tunnels leave behind, whatever way they end

($new) = workers($t);

many($t, 20);
wait_log($t, 'tunnel.log', qr/^many /, undef, 20);
wait_for(sub { !clients() });

my $count = fd_count($new);

many($t, TUNNELS);

ok(wait_log($t, 'tunnel.log', qr/^many /, undef, TUNNELS + 20),
	'many tunnels');
ok(wait_for(sub { fd_count($new) <= $count }), 'descriptors are given back')
	or diag('now ' . fd_count($new) . ", before $count");

my %seen;
$seen{ended_of($_)}++ for grep { /^many / } log_lines($t, 'tunnel.log');

ok($seen{$_}, "many: $_") or diag(explain(\%seen)) for '200 ok completed',
	'200 ok client_reset', '200 ok target_reset', '502 refused -',
	'403 denied_name -', '499 - -';

# QUIT

my ($last) = workers($t);

($tls) = tunnel('quit', 8091, proxy => 8443, ssl => 1);
$connecting = start_tunnel('quit_connecting', '127.0.0.1:' . port(8095));
wait_for(sub { in_syn(8095) });

signal($t, 'QUIT');
ok(wait_log($t, 'error.log', qr/ $last#.*gracefully shutting down/), 'quit');

is(echo($tls, 'quit'), 'quit', 'tunnel after quit');
finish($tls);
ok(kill(0, $last), 'worker waits for what is connecting');
like(read_head($connecting), qr/ 504 /, 'connect timeout after quit');
ok(gone($last), 'worker exits after quit');
is(ended($t, 'quit'), '200 ok completed', 'end after quit logged');

stopped($t);

# worker_shutdown_timeout

configure($t, 'third', 'worker_shutdown_timeout 500ms;');
$t->run();

($last) = workers($t);

($tls) = tunnel('shutdown_tls', 8091, proxy => 8443, ssl => 1);
my ($untimed) = tunnel('shutdown_untimed', 8091, proxy => 8082);
($half) = tunnel('shutdown_half', 8096);
half_close($half);
$connecting = start_tunnel('shutdown_connecting', '127.0.0.1:' . port(8095));
$silent = start_tunnel('shutdown_silent', 'silent.example:1');
wait_for(sub { in_syn(8095) });

is(echo($_, 'shutdown'), 'shutdown', 'tunnel before shutdown')
	for $tls, $untimed;

signal($t, 'QUIT');
ok(gone($last, 4), 'worker exits after the shutdown timeout');

isnt((read_all($_))[1], 'TIMEOUT', 'tunnel ended by shutdown')
	for $tls, $untimed;
isnt((read_all($_))[1], 'TIMEOUT', 'not yet a tunnel, ended by shutdown')
	for $connecting, $silent;

is(ended($t, "shutdown_$_"), '200 ok shutdown', "shutdown logged, $_")
	for qw/ tls untimed half /;
isnt(ended($t, "shutdown_$_"), '', "shutdown logged, $_")
	for qw/ connecting silent /;

stopped($t);

# one process that is master and worker; in a reload nginx closes the logs of
# its old configuration, so that the ends of these tunnels are not logged

configure($t, 'fourth', 'master_process off;');
$t->run();

my ($plain) = tunnel('single', 8091);
($tls) = tunnel('single_tls', 8091, proxy => 8443, ssl => 1);
is(echo($_, 'single'), 'single', 'tunnel of a single process')
	for $plain, $tls;

$t->reload();
ok(wait_log($t, 'error.log', qr/: reconfiguring$/, undef,
	RELOADS + 2), 'single process reloads');

is(echo($_, 'again'), 'again', 'tunnel after its reload') for $plain, $tls;

finish($_) for $plain, $tls;

signal($t, 'TERM');
stopped($t);

###############################################################################

sub configure {
	my ($t, $name, $main) = @_;

	my $text = <<'EOF';

%%TEST_GLOBALS%%

MAIN

daemon off;

events {
    worker_connections 1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id $status $tunnel_result $tunnel_reason';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_allow *:*;
    target_deny denied.example:*;
    target_allow_address 127.0.0.0/8;
    target_connect_timeout 1s;
    target_resolve_timeout 1s;

    connect_tunnel_proxy_status NAME;

    ssl_certificate proxy.crt;
    ssl_certificate_key proxy.key;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8443 ssl;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8082;
        connect_tunnel;
        relay_idle_timeout 0;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;

        auth_basic proxy;
        auth_basic_user_file users;
    }
}

EOF

	$main = '' unless defined $main;

	$text =~ s/\bMAIN\b/$main/;
	$text =~ s/\bNAME\b/$name/;

	$t->write_file_expand('nginx.conf', $text);
}

sub tunnel {
	my ($id, $target, %opt) = @_;

	my $proxy = delete $opt{proxy} || 8080;

	return connect_tunnel(port($proxy), '127.0.0.1:' . port($target),
		headers => [ "X-Id: $id" ], %opt);
}

# A request whose answer takes its time.

sub start_tunnel {
	my ($id, $target) = @_;

	my $s = tcp_connect(port(8080));
	write_all($s, connect_request($target, headers => [ "X-Id: $id" ]));

	return $s;
}

sub head {
	my ($proxy, $target) = @_;

	return (connect_tunnel(port($proxy), $target))[1];
}

sub ended {
	my ($t, $id) = @_;

	return ended_of(wait_log($t, 'tunnel.log', qr/^$id /) || '');
}

sub ended_of {
	my ($line) = @_;

	return $line =~ s/^\S+ //r;
}

sub finish {
	my ($s) = @_;

	half_close($s);
	read_all($s);
	$s->close();
}

# Connections to a target that nobody answers.

sub in_syn {
	my ($target) = @_;

	return grep { $_->[1] == port($target) && $_->[2] eq '02' } sockets();
}

# Connections that clients have to one of our proxies.

sub clients {
	my %proxy = map { port($_) => 1 } 8080, 8082, 8084, 8443;

	return grep { $proxy{$_->[0]} && $_->[2] eq '01' } sockets();
}

# Ports and state, as the kernel has them.

sub sockets {
	open my $fh, '<', '/proc/net/tcp' or return;

	return map { /^\s*\d+: \w+:(\w+) \w+:(\w+) (\w+) /
		? [ hex $1, hex $2, $3 ] : () } <$fh>;
}

sub newer {
	my ($t, @old) = @_;

	my %known = map { $_ => 1 } @old;
	my $pid;

	wait_for(sub { ($pid) = grep { !$known{$_} } workers($t) });

	return $pid;
}

sub gone {
	my ($pid, $timeout) = @_;

	return wait_for(sub { !kill(0, $pid) }, $timeout);
}

sub signal {
	my ($t, $signal) = @_;

	our ($master) = $t->read_file('nginx.pid') =~ /(\d+)/;

	kill $signal, $master;
}

# The end of the master; the library looks for it in the file, which is gone.

sub stopped {
	my ($t) = @_;

	our $master;

	wait_for(sub { ! -e "$d/nginx.pid" });
	$t->write_file('nginx.pid', "$master\n");
	$t->stop();
	unlink "$d/nginx.pid";
}

sub opened {
	my ($t) = @_;

	return scalar(my @lines = log_lines($t, 'opened'));
}

# Opens one tunnel after the other, in a process of its own.

sub opener {
	my ($n) = @_;

	my $pid = fork();
	die "Can't fork: $!\n" unless defined $pid;
	return $pid if $pid;

	for (my $i = 0; ! -e "$d/enough"; $i++) {
		my ($s, $head) = tunnel('load', 8091, $i % 2
			? (proxy => 8443, ssl => 1) : ());

		my $result = !defined $s ? 'not connected'
			: $head !~ / 200 / ? 'no tunnel'
			: echo($s, "$n-$i") ne "$n-$i" ? 'no echo' : '';

		finish($s) if defined $s;

		Test::Nginx::Tunnel::append("$d/opened",
			($result ? "$result ($n-$i)" : 'good') . "\n");
	}

	POSIX::_exit(0);
}

sub many {
	my ($t, $n) = @_;

	my @ways = (
		sub { finish((tunnel('many', 8091))[0]) },
		sub { finish((tunnel('many', 8091, proxy => 8443,
			ssl => 1))[0]) },
		sub { reset_close((tunnel('many', 8091))[0]) },
		sub { reset_close((tunnel('many', 8091, proxy => 8443,
			ssl => 1))[0]) },
		sub {
			my ($s) = tunnel('many', 8093);
			write_all($s, 'x');
			read_all($s);
		},
		sub { tunnel('many', 8099) },
		sub { connect_tunnel(port(8080), 'denied.example:1',
			headers => [ 'X-Id: many' ]) },
		sub {
			my $s = start_tunnel('many', '127.0.0.1:'
				. port(8095));
			wait_for(sub { in_syn(8095) });
			reset_close($s);
		},
		sub {
			my $s = start_tunnel('many', 'silent.example:1');
			select undef, undef, undef, 0.01;
			reset_close($s);
		},
		sub { (tunnel('many', 8094))[0]->close() },
	);

	$ways[$_ % @ways]->() for 1 .. $n;
}

###############################################################################
