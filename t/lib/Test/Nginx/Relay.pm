package Test::Nginx::Relay;

# Tests of the relay, for all front ends, for clients with and without TLS and
# for more than one event method; and what they need besides
# Test::Nginx::Tunnel.
#
#   relay_start($t, front => 'http', events => 'use poll;', listen => 'ssl',
#		conf => '...')	writes the configuration and runs all of it
#   relay_tests($t, front => 'http', %opt)
#				RELAY_TESTS tests; the other options are those
#				of client_connect()
#   reset_start($t, %opt)	the same for resets behind the end of data
#   reset_behind_tests($t, %opt)
#				RESET_TESTS tests
#
# A front end is "http", "h2", which is http with HTTP/2, "socks", "stream", or
# "preread", which is stream with PREREAD, that is tunnel_preread.  The first
# three are told the target by the client; for the others there is a server for
# each target.
#
#   front_conf($front, %opt)	text of http {} or stream {}: servers, an array
#				of [ port, directives ], targets, an array of
#				ports, listen, conf; log, what tunnel.log has
#				of a tunnel.  For "h2", listen and conf are
#				those of bridge_front()
#   front_tunnel($front, $id, $target, %opt)
#				a client of the server proxy => 8080: the
#				socket, and whether there is a tunnel as far
#				as a client can tell; port, if it is not one
#				of the servers; socks, if it is not the turn
#				of this way to ask; there, to wait until there
#				is a tunnel where no reply tells it
#   front_http($front)		whether it is one of http {}
#   front_connect($front, @args)
#				connect_tunnel() of these two, with its
#				arguments
#   front_id($front, $id)	what a line of tunnel.log for it begins with
#   front_log($t, $front, $id)	waits for that line, and returns the rest
#
#   session($t, $addr, %opt)	a client whose line of tunnel.log is found, if
#				that begins with SESSION; the options are those
#				of client_connect()
#   session_log($t, $s, $timeout)
#				waits for that line, and returns the rest; ''
#				if there is none
#
#   socks_way($n)		a way to ask a SOCKS server, for each number
#   socks_tunnel($addr, $way, $port, %opt)
#				asks that way for a port of 127.0.0.1: the
#				socket, and the code of the answer; those of
#				socks4_tunnel() and socks5_tunnel()
#   socks_good($way, $code)	whether that is a tunnel
#   socks_names($t)		starts the name server that some ways need, and
#				returns the directive for it
#
#   echo($s, $bytes)		writes, and reads as much
#   exchange($s, $bytes, $n, $timeout)
#				writes bytes and reads n at the same time
#   push_bytes($s, $bytes, $stall)
#				writes until nobody takes more for so long,
#				returns how much that was
#   read_sha($s, $n)		reads n bytes, returns the SHA1 of them
#   burst_daemon($addr)		a target that sends as many bytes of pattern()
#				as it is told: "1000\n"
#   held_daemon($addr, $dir, %opt)
#				reads a name of four characters, answers
#				"held", and reads on once there is the file
#				go-NAME; then tells what it got, also to report
#   workers($t)			process ids
#   new_worker($t, $old)	after a reload, once the old one takes no more
#				connections
#   new_workers($t)		reloads, and whether then all workers are new,
#				and the old ones take no more connections
#   fd_count($pid)		descriptors it has open, but for pipes
#   pipe_count($pid)		pipes that are its own
#   tcp_count($pid)		TCP connections among them, also half open ones
#   connected_to($port)		our ends of the connections that there are, or
#				have just been, to a port of 127.0.0.1
#   listen_count($pid)		sockets it listens on
#   rss($pid)			resident memory, in bytes

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	RELAY_TESTS PREREAD relay_start relay_tests
	RESET_TESTS reset_start reset_behind_tests
	echo exchange push_bytes read_sha burst_daemon held_daemon
	connected_to
	front_conf front_tunnel front_http front_connect front_id front_log
	SESSION session session_log
	socks_way socks_tunnel socks_good socks_names
	workers new_worker new_workers
	fd_count pipe_count tcp_count listen_count rss
/;

###############################################################################

use Digest::SHA qw/ sha1_hex /;
use IO::Select qw//;
use Socket qw/ SO_ERROR /;
use Test::More;
use Time::HiRes qw/ sleep time /;

use Test::Nginx qw/ port /;
use Test::Nginx::Tunnel;
use Test::Nginx::H2Bridge;

###############################################################################

use constant {
	RELAY_TESTS	=> 51,
	RESET_TESTS	=> 6,
	PREREAD		=> 'tunnel_preread on; tunnel_preread_timeout 200ms;',
	SESSION		=> '$remote_port:$server_port',
	MB		=> 1048576,
	PIECE		=> 1048576,
	FLOOD		=> 96,		# MB, more than all socket buffers
	FLOOD_HELD	=> 64,		# MB that these may hold at most
	MEMORY		=> 8,		# MB that nginx may need meanwhile
	STALL		=> 0.7,		# a socket that takes nothing so long
	TUNNELS		=> 200,
	NAME		=> 'name.example',
	LISTEN		=> '0A',	# as /proc/net/tcp has it
	SYN_SENT	=> '02',
};

###############################################################################

# Front ends

# The tunnels of stream have no name, but each its client's port.  A target
# that the configuration tells is a port of its own.

my (%ports, %used, $turn);

# "glued" sends all at once, and does not wait for the choice of a method.

my @ways = ('5', '4', '5 glued', '5 name', '4a');

sub front_conf {
	my ($front, %opt) = @_;

	my %conf = (listen => '', conf => '', log => '$status $tunnel_result '
		. '$tunnel_reason $tunnel_bytes_received $tunnel_bytes_sent',
		%opt);

	my $http = front_http($front);
	my $id = $http ? '$http_x_id' : SESSION;
	my $block = $http ? 'http' : 'stream';
	my $globals = '%%TEST_GLOBALS_' . uc($block) . '%%';
	my $handler = $http ? 'connect_tunnel;' : 'socks;';

	my @servers;

	for my $server (@{$conf{servers}}) {
		my ($port, $directives) = @$server;

		$directives .= ' ' . PREREAD if $front eq 'preread';

		push @servers, !front_fixed($front)
			? [ $port, $handler, $directives ]
			: map { [ front_port($port, $_),
				"passthrough 127.0.0.1:$_;", $directives ] }
				@{$conf{targets}};
	}

	return join "\n", <<"EOF", (map { <<"EOF" } @servers), "}\n";
$block {
    $globals

    log_format tunnel '$id $conf{log}';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    $conf{conf}
EOF
    server {
        listen 127.0.0.1:$_->[0] $conf{listen};
        $_->[1]
        $_->[2]
    }
EOF
}

sub front_http {
	my ($front) = @_;

	return $front eq 'http' || $front eq 'h2';
}

sub front_fixed {
	my ($front) = @_;

	return $front eq 'stream' || $front eq 'preread';
}

# 8080 with 8091 is 8291, 8084 with 8102 is 8602.

sub front_port {
	my ($proxy, $target) = @_;

	return 8200 + ($proxy - 8080) * 100 + $target % 100;
}

sub front_tunnel {
	my ($front, $id, $target, %opt) = @_;

	my $proxy = delete $opt{proxy} || 8080;
	my $port = delete $opt{port} || (front_fixed($front)
		? front_port($proxy, $target) : $proxy);
	my $there = delete $opt{there};

	if (front_http($front)) {
		my ($s, $head) = front_connect($front, port($port),
			'127.0.0.1:' . port($target),
			headers => [ "X-Id: $id" ], %opt);

		return ($s, $head =~ /^HTTP\/\S+ 200 /);
	}

	if ($front eq 'socks') {
		my $way = delete $opt{socks} || socks_way($turn++);
		my ($s, $code) = socks_tunnel(port($port), $way, port($target),
			%opt);

		front_port_used($id, $s, port($port)) if $s;

		return ($s, socks_good($way, $code));
	}

	my $early = delete $opt{early};
	my %before = map { $_ => 1 } $there ? connected_to(port($target)) : ();
	my $s = client_connect(port($port), %opt)
		or return (undef, '');

	front_port_used($id, $s, port($port));
	write_all($s, $early) if defined $early;

	wait_for(sub { grep { !$before{$_} } connected_to(port($target)) })
		if $there;

	return ($s, 1);
}

sub front_connect {
	my ($front, @args) = @_;

	return $front eq 'h2' ? bridge_tunnel(@args) : connect_tunnel(@args);
}

sub front_id {
	my ($front, $id) = @_;

	return qr/^\Q$id\E / if front_http($front);

	my $any = join '|', map { $_->[0] } @{$ports{$id} || [ [ 'none' ] ]};

	return qr/^(?:$any) /;
}

sub front_log {
	my ($t, $front, $id, $timeout) = @_;

	my $line = front_http($front)
		? wait_log($t, 'tunnel.log', front_id($front, $id), $timeout)
		: wait_for(sub { front_line($t, $id) }, $timeout);

	return ($line || '') =~ s/^\S+ //r;
}

# A port may be that of another server's session, or of one before; each has a
# line.

sub front_port_used {
	my ($id, $s, $server) = @_;

	my $ports = $s->sockport() . ":$server";

	push @{$ports{$id}}, [ $ports, $used{$ports}++ ];
}

sub front_line {
	my ($t, $id) = @_;

	my @lines = log_lines($t, 'tunnel.log');

	for my $use (reverse @{$ports{$id} || []}) {
		my ($ports, $before) = @$use;

		my $line = (grep { /^$ports / } @lines)[$before];
		return $line if defined $line;
	}

	return undef;
}

# Both ports, as one of ours may be that of two connections at once; and it may
# have been another one's before: only what is logged from now on counts.

sub session {
	my ($t, $addr, %opt) = @_;

	my $lines = () = log_lines($t, 'tunnel.log');
	my $s = client_connect($addr, %opt) or return undef;

	${*$s}{session} = [ $s->sockport() . ':' . $s->peerport(), $lines ];

	return $s;
}

sub session_log {
	my ($t, $s, $timeout) = @_;

	my ($id, $first) = @{${*$s}{session}};

	my $line = wait_for(sub {
		my @lines = log_lines($t, 'tunnel.log');
		return (grep { /^\Q$id\E / } @lines[$first .. $#lines])[0];
	}, $timeout);

	return ($line || '') =~ s/^\S+ //r;
}

sub socks_way {
	my ($n) = @_;

	return $ways[($n || 0) % @ways];
}

sub socks_tunnel {
	my ($addr, $way, $port, %opt) = @_;

	my $host = $way eq '5 name' || $way eq '4a' ? NAME : '127.0.0.1';

	return socks4_tunnel($addr, $host, $port, %opt) if $way =~ /^4/;
	return socks5_tunnel($addr, $host, $port, %opt)
		if $way ne '5 glued' || defined $opt{auth};

	my $s = client_connect($addr, %opt) or return (undef, undef);

	write_all($s, socks5_greeting() . socks5_request($host, $port)
		. (defined $opt{early} ? $opt{early} : ''));

	return ($s, undef) if read_n($s, 2) ne "\x05\x00";
	return ($s, scalar read_socks5_reply($s));
}

sub socks_good {
	my ($way, $code) = @_;

	return defined $code && $code eq ($way =~ /^4/ ? 90 : 0);
}

sub socks_names {
	my ($t) = @_;

	start_daemon($t, \&dns_daemon, port(8980, udp => 1),
		table => { NAME() => '127.0.0.1' });

	return 'resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;';
}

###############################################################################

sub relay_start {
	my ($t, %opt) = @_;

	my %conf = (front => 'http', events => '', conf => '', %opt);

	$conf{conf} .= socks_names($t) if $conf{front} eq 'socks';
	%conf = bridge_front($t, %conf) if $conf{front} eq 'h2';

	my $front = front_conf($conf{front}, %conf, servers => [
			[ 8080, '' ],
			[ 8082, 'relay_idle_timeout 1s;' ],
			[ 8083, 'relay_idle_timeout 0;' ],
			[ 8084, 'relay_buffer_size 1k;' ],
		], targets => [ 8091 .. 8099, 8101, 8102 ]);

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 2048;
    $conf{events}
}

$front

EOF

	my $d = $t->testdir();

	start_daemon($t, \&echo_daemon, port(8091));
	start_daemon($t, \&half_close_daemon, port(8092));
	start_daemon($t, \&fin_first_daemon, port(8093),
		report => "$d/fin_first");
	start_daemon($t, \&sink_daemon, port(8094), greeting => 'hello',
		report => "$d/sink");
	start_daemon($t, \&reset_daemon, port(8095), greeting => 'hello');
	start_daemon($t, \&slow_daemon, port(8096), bytes => 700,
		chunk => 100, delay => 0.3);
	start_daemon($t, \&slow_daemon, port(8097), bytes => 100000,
		chunk => 10, delay => 0.05);
	start_daemon($t, \&gone_daemon, port(8098));
	start_daemon($t, \&flood_daemon, port(8099), "$d/flood");
	start_daemon($t, \&late_daemon, port(8101), "$d/go");

	port(8102);	# nobody is there

	return $t->run();
}

###############################################################################

sub relay_tests {
	my ($t, %client) = @_;

	my $front = delete $client{front} || 'http';

	my $tunnel = sub {
		my ($id, $target, %opt) = @_;

		return front_tunnel($front, $id, $target, %client, %opt);
	};

	my $ended = sub { front_log($t, $front, $_[0]) };

	local $SIG{PIPE} = 'IGNORE';

	# those that take their time

	my ($untimed) = $tunnel->('untimed', 8091, proxy => 8083);
	my $start = time();
	my ($idle) = $tunnel->('idle', 8091, proxy => 8082);
	my ($trickle) = $tunnel->('trickle', 8096, proxy => 8082, there => 1);
	half_close($trickle);

	basic_tests($tunnel, $ended);
	early_tests($tunnel, $ended);
	fin_tests($t, $tunnel, $ended);
	reset_tests($t, $tunnel, $ended);
	idle_tests($idle, $trickle, $start, $ended);
	slow_client_tests($t, $tunnel, $ended);
	slow_target_tests($t, $tunnel, $ended);
	many_tests($t, $front, $tunnel);

	is(echo($untimed, 'still here'), 'still here', 'no idle timeout');
}

sub basic_tests {
	my ($tunnel, $ended) = @_;

	my ($s, $good) = $tunnel->('echo', 8091);
	ok($good, 'tunnel');
	is(echo($s, 'hello'), 'hello', 'both ways');
	is(echo($s, 'again'), 'again', 'both ways again');
	half_close($s);
	is(join(' ', read_all($s)), ' EOF', 'end');
	is($ended->('echo'), '200 ok completed 10 10', 'end logged');

	my $size = 20 * MB;
	my $bytes = pattern($size);

	($s) = $tunnel->('bulk', 8091);
	ok(exchange($s, $bytes, $size, 20) eq $bytes,
		'20 MB both ways at once');
	half_close($s);
	read_all($s);
	is($ended->('bulk'), "200 ok completed $size $size", 'bulk counted');

	# relay_buffer_size

	$size = 2 * MB;
	$bytes = pattern($size);

	($s) = $tunnel->('small', 8091, proxy => 8084);
	ok(exchange($s, $bytes, $size) eq $bytes, 'small buffer');
	half_close($s);
	read_all($s);
	is($ended->('small'), "200 ok completed $size $size",
		'small buffer counted');

	# no tunnel

	($s) = $tunnel->('refused', 8102);
	read_all($s);
	$s->close();
	is($ended->('refused'), '502 refused - - -', 'nothing to count');
}

# Bytes behind the request, also more than client_header_buffer_size.

sub early_tests {
	my ($tunnel, $ended) = @_;

	my ($s) = $tunnel->('early', 8091, early => 'early');
	is(read_n($s, 5), 'early', 'early data');
	is(echo($s, 'late'), 'late', 'data after early data');
	half_close($s);
	read_all($s);
	is($ended->('early'), '200 ok completed 9 9', 'early data counted');

	my $bytes = pattern(200000);

	($s) = $tunnel->('large_early', 8091, early => $bytes);
	ok(read_n($s, length $bytes) eq $bytes, 'large early data');
	half_close($s);
	read_all($s);
	is($ended->('large_early'), '200 ok completed 200000 200000',
		'large early data counted');

	# the end right behind them

	($s) = $tunnel->('early_fin', 8092, early => 'early');
	half_close($s);
	is(read_all($s), summary('early'), 'end after early data');
}

sub fin_tests {
	my ($t, $tunnel, $ended) = @_;

	my $size = 3 * MB;
	my $bytes = pattern($size);
	my $expected = summary($bytes);

	my ($s) = $tunnel->('client_fin', 8092);
	write_all($s, $bytes);
	half_close($s);
	is(join('', read_all($s)), $expected . 'EOF', 'client ends first');
	$s->close();
	is($ended->('client_fin'),
		"200 ok completed $size " . length $expected,
		'client ends first, logged');

	($s) = $tunnel->('empty_fin', 8092, there => 1);
	half_close($s);
	is(read_all($s), summary(''), 'client ends without data');

	($s) = $tunnel->('target_fin', 8093);
	is(join('', read_all($s)), "FIN-FIRST\nEOF", 'target ends first');
	write_all($s, $bytes);
	half_close($s);
	ok(wait_log($t, 'fin_first', $expected =~ s/\n//r),
		'data after the end of the target');
	is($ended->('target_fin'), "200 ok completed $size 10",
		'target ends first, logged');

	# a client that is gone altogether, and not in one direction

	# without a reply nothing tells that there is the tunnel to leave

	($s) = $tunnel->('client_closed', 8097, there => 1);
	sleep(0.1);
	half_close($s);

	# what comes behind its end shows that this was seen before the reset

	read_n($s, 100);
	$s->close();
	like($ended->('client_closed'), qr/^200 ok client_closed 0 \d+$/,
		'client closed');

	# bytes to a target that has closed bring a RST from it

	($s) = $tunnel->('target_closed', 8098);
	is(join(' ', read_all($s)), 'gone EOF', 'target closes');
	ok(write_until_reset($s), 'target closed');
	like($ended->('target_closed'), qr/^200 ok target_closed [1-9]\d* 4$/,
		'target closed, logged');
}

sub reset_tests {
	my ($t, $tunnel, $ended) = @_;

	my ($s) = $tunnel->('client_reset', 8094);
	is(read_n($s, 5), 'hello', 'before a reset');
	write_all($s, 'abc');
	reset_close($s);
	is($ended->('client_reset'), '200 ok client_reset 3 5',
		'client reset');
	ok(wait_log($t, 'sink', qr/^3 \S+ RESET/),
		'reset passed to the target');

	($s) = $tunnel->('target_reset', 8095);
	is(read_n($s, 5), 'hello', 'before a reset of the target');
	write_all($s, 'x');
	is((read_all($s))[1], 'RESET', 'reset passed to the client');
	is($ended->('target_reset'), '200 ok target_reset 1 5',
		'target reset');
}

sub idle_tests {
	my ($idle, $trickle, $start, $ended) = @_;

	isnt((read_all($idle))[1], 'TIMEOUT', 'idle tunnel closed');
	is($ended->('idle'), '200 ok idle_timeout 0 0', 'idle timeout');

	is(length read_all($trickle), 700, 'slow tunnel is not idle');
	cmp_ok(time() - $start, '>', 1.9, 'longer than the idle timeout');
	is($ended->('trickle'), '200 ok completed 0 700',
		'slow tunnel ends by itself');
}

sub slow_client_tests {
	my ($t, $tunnel, $ended) = @_;

	my ($pid) = workers($t);
	my $rss = rss($pid);
	my $size = FLOOD * MB;

	my ($s) = $tunnel->('flood', 8099);

	my $line = wait_log($t, 'flood', qr/^blocked/, 20);
	my ($sent) = ($line || '') =~ /(\d+)/;

	ok($sent && $sent < FLOOD_HELD * MB, 'slow client stops the target')
		or diag('sent: ', $sent);

	write_all($s, pattern(100000));
	ok(wait_log($t, 'flood', qr/^got 100000/),
		'the other direction goes on');
	cmp_ok(rss($pid) - $rss, '<', MEMORY * MB, 'memory');

	is(read_sha($s, $size), sha1_hex(pattern($size)),
		'everything arrives');
	half_close($s);
	read_all($s);
	is($ended->('flood'), "200 ok completed 100000 $size",
		'slow client counted');
}

sub slow_target_tests {
	my ($t, $tunnel, $ended) = @_;

	my ($pid) = workers($t);
	my $rss = rss($pid);
	my $size = FLOOD * MB;
	my $bytes = pattern($size);

	my ($s) = $tunnel->('late', 8101);

	my $sent = push_bytes($s, $bytes);
	ok($sent < FLOOD_HELD * MB, 'slow target stops the client')
		or diag('sent: ', $sent);

	is(read_n($s, 4), 'late', 'the other direction goes on again');
	cmp_ok(rss($pid) - $rss, '<', MEMORY * MB, 'memory again');

	$t->write_file('go', '');
	write_all($s, substr($bytes, $sent), 20);
	half_close($s);
	is(read_all($s), summary($bytes), 'everything arrives again');
	like($ended->('late'), qr/^200 ok completed $size \d+$/,
		'slow target counted');
}

sub many_tests {
	my ($t, $front, $tunnel) = @_;

	my @tunnels = map { [ $tunnel->('many', 8091) ] } 1 .. TUNNELS;
	my @s = map { $_->[0] } grep { $_->[1] } @tunnels;

	is(@s, TUNNELS, 'many tunnels opened');

	write_all($s[$_], "tunnel $_") for 0 .. $#s;
	my $good = grep { read_n($s[$_], length "tunnel $_") eq "tunnel $_" }
		reverse 0 .. $#s;
	is($good, TUNNELS, 'many tunnels');

	half_close($_) for @s;
	read_all($_) for @s;

	my $id = front_id($front, 'many');
	ok(wait_log($t, 'tunnel.log', qr/${id}200 ok completed/, undef,
		TUNNELS), 'many tunnels end');
}

###############################################################################

# Resets behind the end of data

sub reset_start {
	my ($t, %opt) = @_;

	my %conf = (front => 'http', conf => '', %opt);

	$conf{conf} .= socks_names($t) if $conf{front} eq 'socks';
	%conf = bridge_front($t, %conf) if $conf{front} eq 'h2';

	my $front = front_conf($conf{front}, log => '$tunnel_reason',
		servers => [ [ 8080, '' ] ], targets => [ 8091, 8092 ], %conf);

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

$front

EOF

	my $d = $t->testdir();

	start_daemon($t, \&quiet_daemon, port(8091), "$d/quiet");
	start_daemon($t, \&leaving_daemon, port(8092), "$d/go");

	return $t->run();
}

# Nobody sends any more, so that only the reset itself can tell that an end is
# gone.

sub reset_behind_tests {
	my ($t, %opt) = @_;

	my $front = $opt{front} || 'http';

	my ($s) = front_tunnel($front, 'client', 8091, there => 1);
	half_close($s);
	ok(wait_log($t, 'quiet', qr/^EOF/), 'end of the client');
	reset_close($s);

	like(front_log($t, $front, 'client', 3), qr/^client_(?:reset|closed)/,
		'reset behind the end of the client');
	ok(wait_log($t, 'quiet', qr/^reset/, 3), 'passed to the target');

	($s) = front_tunnel($front, 'target', 8092);
	is((read_all($s))[1], 'EOF', 'end of the target');
	$t->write_file('go', '');

	like(front_log($t, $front, 'target', 3), qr/^target_(?:reset|closed)/,
		'reset behind the end of the target');
	ok(wait_for(sub { $s->sockopt(SO_ERROR) }, 3), 'passed to the client');
}

###############################################################################

sub echo {
	my ($s, $bytes) = @_;

	write_all($s, $bytes);
	return scalar read_n($s, length $bytes);
}

# Writes while it reads.  Short waits instead of exact ones: on TLS either
# may need the other.

sub exchange {
	my ($s, $bytes, $n, $timeout) = @_;

	my $until = time() + ($timeout || 8);
	my ($in, $out) = ('', 0);

	local $SIG{PIPE} = 'IGNORE';

	$s->blocking(0);

	while (length $in < $n && time() < $until) {
		my ($moved, $size);

		if ($out < length $bytes) {
			$size = $s->syswrite($bytes, 65536, $out);
			$out += $size if $size;
			$moved = $size;
		}

		$size = $s->sysread($in, $n - length $in, length $in);

		last if defined $size && $size == 0;
		$moved ||= $size;

		IO::Select->new($s)->can_read(0.01) unless $moved;
	}

	$s->blocking(1);

	return $in;
}

sub push_bytes {
	my ($s, $bytes, $stall) = @_;

	my $done = 0;

	while ($done < length $bytes) {
		my $n = write_all($s, substr($bytes, $done, PIECE),
			$stall || STALL);

		$done += $n;
		last if $n < PIECE;
	}

	return $done;
}

# Whether a connection that has had its FIN is then reset: the error is only
# seen once, by whoever comes first.

sub write_until_reset {
	my ($s) = @_;

	for (1 .. 100) {
		return 1 if write_all($s, 'x') < 1;

		sleep(0.02);
		return 1 if $s->sockopt(SO_ERROR);
	}

	return 0;
}

sub read_sha {
	my ($s, $n) = @_;

	my $sha = Digest::SHA->new(1);

	while ($n > 0) {
		my $part = read_n($s, $n < PIECE ? $n : PIECE);
		last if $part eq '';

		$sha->add($part);
		$n -= length $part;
	}

	return $sha->hexdigest();
}

###############################################################################

# Targets

# Closes both directions at once.

sub gone_daemon {
	my ($addr) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		write_all($s, 'gone');
		close $s;
	});
}

# Sends until nobody takes it, reads, and then goes on to send.

sub flood_daemon {
	my ($addr, $report) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		my $bytes = pattern(FLOOD * MB);

		my $sent = push_bytes($s, $bytes);
		Test::Nginx::Tunnel::append($report, "blocked $sent\n");

		my $got = read_n($s, 100000);
		Test::Nginx::Tunnel::append($report, 'got ' . length($got)
			. "\n") if $got eq pattern(100000);

		write_all($s, substr($bytes, $sent), 20);
		Test::Nginx::Tunnel::finish($s);
	});
}

# Reads nothing before there is a certain file.

sub late_daemon {
	my ($addr, $file) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		write_all($s, 'late');
		wait_for(sub { -e $file }, 30);

		Test::Nginx::Tunnel::tell_summary($s,
			Test::Nginx::Tunnel::receive($s));
	}, rcvbuf => 65536);
}

sub burst_daemon {
	my ($addr, %opt) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		while ((my $n = read_line($s)) ne '') {
			last if write_all($s, pattern($n), 20) < $n;
		}

		Test::Nginx::Tunnel::finish($s);
	}, %opt);
}

sub read_line {
	my ($s) = @_;

	my ($line, $state, $byte) = ('', 'OK');

	while ($line !~ /\n\z/) {
		($byte, $state) = read_n($s, 1, 30);
		return '' if $state ne 'OK';

		$line .= $byte;
	}

	chomp $line;
	return $line;
}

sub held_daemon {
	my ($addr, $dir, %opt) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		my $name = read_n($s, 4, 30);
		write_all($s, 'held');
		wait_for(sub { -e "$dir/go-$name" }, 30);

		Test::Nginx::Tunnel::tell_summary($s, %opt,
			Test::Nginx::Tunnel::receive($s));
	}, rcvbuf => 65536);
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

# The file with the master's process id is there before its workers are.

sub workers {
	my ($t) = @_;

	my ($pid) = $t->read_file('nginx.pid') =~ /(\d+)/;
	my @workers;

	wait_for(sub {
		open my $fh, '<', "/proc/$pid/task/$pid/children" or return;
		return @workers = split ' ', <$fh> || '';
	});

	return @workers;
}

sub new_worker {
	my ($t, $old) = @_;

	my $new;

	wait_for(sub {
		($new) = grep { $_ != $old && listen_count($_) } workers($t);
		return $new && !listen_count($old);
	});

	return $new;
}

sub new_workers {
	my ($t) = @_;

	my @old = workers($t);
	my %old = map { $_ => 1 } @old;

	$t->reload();

	return wait_for(sub {
		return (grep { !$old{$_} } workers($t))
			&& !grep { listen_count($_) } @old;
	});
}

# Descriptors; pipes are counted apart, for a worker keeps some of them for the
# next tunnel, as many as were in use at once.

sub fd_count {
	my ($pid) = @_;

	opendir my $dir, "/proc/$pid/fd" or return undef;

	return (grep { /^\d+\z/ } readdir $dir) - 2 * pipe_count($pid);
}

# Both ends of a pipe are in one process; its output may go to another one.

sub pipe_count {
	my ($pid) = @_;

	my %ends;
	$ends{$_}++ for grep { /^pipe:/ } map { readlink || '' }
		glob "/proc/$pid/fd/*";

	return scalar grep { $ends{$_} == 2 } keys %ends;
}

sub tcp_count {
	my ($pid) = @_;

	return scalar grep { $_ ne LISTEN } tcp_states($pid);
}

# Listening sockets; a worker that is to end closes them.

sub listen_count {
	my ($pid) = @_;

	return scalar grep { $_ eq LISTEN } tcp_states($pid);
}

sub tcp_states {
	my ($pid) = @_;

	my %inode = map { /^socket:\[(\d+)/ ? ($1 => 1) : () }
		map { readlink || '' } glob "/proc/$pid/fd/*";

	# while others come and go, a socket may be in these files twice

	my %states;

	for my $file (qw/ tcp tcp6 /) {
		open my $fh, '<', "/proc/$pid/net/$file" or next;

		while (my $line = <$fh>) {
			my ($state, $inode) = (split ' ', $line)[3, 9];

			$states{$inode} = $state if $inode{$inode};
		}
	}

	return values %states;
}

sub connected_to {
	my ($port) = @_;

	my $to = sprintf '0100007F:%04X', $port;

	open my $fh, '<', '/proc/net/tcp' or return;

	return map { $_->[1] } grep { $_->[2] eq $to && $_->[3] ne SYN_SENT }
		map { [ split ' ' ] } <$fh>;
}

sub rss {
	my ($pid) = @_;

	open my $fh, '<', "/proc/$pid/status" or return 0;
	my ($kb) = map { /^VmRSS:\s+(\d+)/ } <$fh>;

	return ($kb || 0) * 1024;
}

###############################################################################

1;

###############################################################################
