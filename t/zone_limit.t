#!/usr/bin/perl

# Tests for tunnel_max_connections.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Status;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MAX	=> 6,
	CLIENTS	=> 40,		# at once
};

my $t = Test::Nginx->new()->has(qw/http auth_basic stream/)->plan(72);

my $d = $t->testdir();
my $status = status_conf() . status_conf(port => 8071,
	conf => 'tunnel_zone other;');

$t->write_file('users', "alice:{PLAIN}secret\n");

my $rules = <<'EOF';
    log_format tunnel '$server_port $status $tunnel_result $tunnel_reason';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    target_deny denied.example:*;
    target_connect_timeout 30s;
    target_resolve_timeout 30s;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:1m;
    tunnel_max_connections ${\MAX};

$rules
    server {
        listen 127.0.0.1:8080 reuseport;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;
        tunnel_max_connections 0;
    }

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;
        tunnel_max_connections ${\(MAX + 1)};
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel;
        tunnel_zone other:64k;
        tunnel_max_connections 1;
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel;

        auth_basic x;
        auth_basic_user_file $d/users;
    }

    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone tunnels;
    tunnel_max_connections ${\MAX};

$rules
    server {
        listen 127.0.0.1:8081 reuseport;
        socks;
    }

    server {
        listen 127.0.0.1:8082 reuseport;
        passthrough 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8083;
        passthrough 127.0.0.1:8101;
    }

    server {
        listen 127.0.0.1:8088;
        passthrough 127.0.0.1:8102;
    }
}
EOF

port(8102);	# nobody is there

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { 'silent.example' => 'TIMEOUT' });

my $backlog = full_backlog(port(8101));

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# each front end alone, and all of them together

my @fronts = qw/ connect socks4 socks5 passthrough /;

for my $fill (@fronts, 'all') {
	my @s = map { $_->{s} } map { tunnel($_) } map {
		$fill eq 'all' ? $fronts[$_ % @fronts] : $fill
	} 1 .. MAX;

	is(scalar(grep { echo($_, 'hello') eq 'hello' } @s), MAX,
		"$fill, as many as there may be");

	refused_tests($fill);

	is(scalar(grep { echo($_, 'hello') eq 'hello' } @s), MAX,
		"$fill, they go on");

	# room for one, again and again

	for my $front (@fronts) {
		finish(shift @s);
		active(MAX - 1);

		my $tunnel = tunnel($front);
		push @s, $tunnel->{s};
		is(echo($s[-1], 'hello'), 'hello', "$fill, room for $front");
	}

	finish($_) for @s;
	active(0);
}

# what the client is told, and the log

my @held = map { tunnel('connect')->{s} } 1 .. MAX;

my $told = tunnel('connect');
like($told->{head}, qr/^Proxy-Status: .*error=connection_limit_reached/mi,
	'Proxy-Status');
ok(wait_log($t, 'tunnel.log', qr/^${\port(8080)} 503 limit -$/),
	'access log');
ok(wait_log($t, 'tunnel.log', qr/^${\port(8082)} 503 limit -$/),
	'access log of stream');
ok(wait_log($t, 'error.log', qr/\[error\].*tunnel to "127\.0\.0\.1:\d+" /
	. qr/failed: limit, "tunnel_max_connections" are open, /
	. qr/id: [0-9a-f]{16}/), 'error log');

# each level has its own idea of it, and another zone has nothing to do with it

my ($off, $head) = ask(8084);
like($head, qr/ 200 /, 'no limit');
($_, $head) = ask(8085);
like($head, qr/ 503 /, 'one more, and that is there');
finish($off);
active(MAX);
(my $more, $head) = ask(8085);
like($head, qr/ 200 /, 'one more');
(my $other, $head) = ask(8086);
like($head, qr/ 200 /, 'another zone');
($_, $head) = ask(8086);
like($head, qr/ 503 /, 'another zone, limit');

# what is refused before never counts

is((ask(8080, 'denied.example:443'))[1] =~ /^HTTP\S+ (\d+)/ ? $1 : '',
	403, 'denied at the limit');

finish($_) for @held, $more, $other;
active(0);

# attempts count, and no longer when they fail

for (1 .. 4 * MAX) {
	ask(8080, 'denied.example:443');
	ask(8080, '127.0.0.1:' . port(8102));
	ask(8080, 'missing.example:443');
	ask(8087);
	read_all(tcp_connect(port(8088)));
	read_all((socks5_tunnel(port(8081), '127.0.0.1', port(8102)))[0]);
	read_all((socks4_tunnel(port(8081), 'missing.example', 443))[0]);
}

room('failures');

# or when the client leaves meanwhile

for my $what (qw/ connecting resolving /) {
	my @s = map { attempt($what, $_ % 3) } 0 .. MAX - 1;

	ok(wait_status(sub { $_[0]{total}{connecting} == MAX }),
		"$what, under way");
	like((ask(8080))[1], qr/ 503 /, "$what, attempts count");

	reset_close($_) for @s;
	room($what);
}

# a tunnel whose client has left is none

@held = map { tunnel($fronts[$_ % @fronts])->{s} } 1 .. MAX;
reset_close($_) for @held;
room('reset');

# many at once, of two workers

my @clients = map {
	my $s = tcp_connect(port(8080));
	write_all($s, connect_request('127.0.0.1:' . port(8091)));
	$s;
} 1 .. CLIENTS;

my %answers;
$answers{read_head($_) =~ /^HTTP\S+ (\d+)/ ? $1 : ''}++ for @clients;
is_deeply(\%answers, { 200 => MAX, 503 => CLIENTS - MAX }, 'many at once');
close $_ for @clients;
room('many');

my $last = status();
is_deeply([ status_bad($last) ], [], 'all fits');
is($last->{total}{results}{limit}, limits(), 'as many as logged');

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

sub ask {
	my ($port, $target) = @_;

	return connect_tunnel(port($port), $target
		|| '127.0.0.1:' . port(8091));
}

# The socket, and what it was told.

sub tunnel {
	my ($front) = @_;

	my ($s, $head);
	my @to = ('127.0.0.1', port(8091));

	($s, $head) = ask(8080) if $front eq 'connect';
	($s, $head) = socks4_tunnel(port(8081), @to) if $front eq 'socks4';
	($s, $head) = socks5_tunnel(port(8081), @to) if $front eq 'socks5';

	if ($front eq 'passthrough') {
		$s = tcp_connect(port(8082));
		write_all($s, 'open');
		($head, my $state) = read_n($s, 4, 4);
		$head .= $state;
	}

	return { s => $s, head => $head };
}

sub refused_tests {
	my ($fill) = @_;

	my $before = status()->{total}{results}{limit};

	like(tunnel('connect')->{head}, qr/^HTTP\/1\.1 503 /,
		"$fill, limit of connect");
	is(join(' ', map { tunnel($_)->{head} } qw/ socks4 socks5 /), '91 1',
		"$fill, limit of socks");
	like(tunnel('passthrough')->{head}, qr/^(?:EOF|RESET)$/,
		"$fill, limit of passthrough");

	is(status()->{total}{results}{limit}, $before + 4,
		"$fill, limit counted");
}

sub attempt {
	my ($what, $n) = @_;

	return tcp_connect(port(8083)) if $n == 0 && $what eq 'connecting';

	my @to = $what eq 'connecting' ? ('127.0.0.1', port(8101))
		: ('silent.example', 443);

	my $s = tcp_connect(port($n == 1 ? 8081 : 8080));

	write_all($s, $n == 1 ? socks5_greeting() . socks5_request(@to)
		: connect_request(join ':', @to));

	return $s;
}

sub finish {
	my ($s) = @_;

	half_close($s);
	read_all($s);
	$s->close();
}

sub active {
	my ($n) = @_;

	return wait_status(sub {
		$_[0]{total}{active} == $n && !$_[0]{total}{connecting};
	});
}

# All of it is there again, and no more.

sub room {
	my ($name) = @_;

	active(0);

	my @tunnels = map { [ ask(8080) ] } 0 .. MAX;

	is(join(' ', map { $_->[1] =~ /^HTTP\S+ (\d+)/ ? $1 : '' } @tunnels),
		join(' ', (200) x MAX, 503), "$name, room");

	finish($_->[0]) for @tunnels;
	active(0);
}

# What the log of one zone has of it.

sub limits {
	my $other = port(8086);

	return scalar grep { / limit / && !/^$other / }
		log_lines($t, 'tunnel.log');
}

###############################################################################
