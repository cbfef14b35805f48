#!/usr/bin/perl

# Tests for CONNECT over HTTP/2: a reload and a shutdown, and what many tunnels
# leave behind.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::H2;

use POSIX qw//;
use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MB		=> 1048576,
	FLOOD		=> 24 * 1048576,	# more than sockets hold
	TUNNELS		=> 300,
	CONNECTIONS	=> 60,
	RELOADS		=> 4,
};

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 socket_ssl_alpn/)
	->plan(79);

my $d = $t->testdir();

make_cert($t, 'localhost');
$t->write_file('page', 'SEE-THIS');

port($_) for 8080, 8081, 8443, 8091 .. 8095;
port(8980, udp => 1);

configure($t);

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&half_close_daemon, port(8092));
start_daemon($t, \&sink_daemon, port(8093), report => "$d/sink");
start_daemon($t, \&source_daemon, port(8094), bytes => FLOOD);
my $full = full_backlog(port(8095));
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'slow.example' => { A => [ '127.0.0.1' ], delay => 0.7 },
		'silent.example' => 'TIMEOUT',
	});

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# descriptors and memory

my ($old) = workers($t);

many_streams($t, 30);
many_connections($t, 5);
wait_for(sub { tcp_count($old) == 0 });

my $fds = fd_count($old);
my $rss = rss($old);
my $limit = $t->has_module('fsanitize') ? 64 : 2;

is(many_streams($t, TUNNELS), TUNNELS, 'many tunnels of one connection');
ok(wait_for(sub { fd_count($old) <= $fds }), 'no descriptors left')
	or diag(fd_count($old) . " of $fds");
cmp_ok(rss($old) - $rss, '<', $limit * MB, 'no memory left');

is(many_connections($t, CONNECTIONS), 4 * CONNECTIONS,
	'tunnels of many connections');
ok(wait_for(sub { fd_count($old) <= $fds }),
	'many connections, no descriptors left')
	or diag(fd_count($old) . " of $fds");
cmp_ok(rss($old) - $rss, '<', $limit * MB,
	'many connections, no memory left');

idle_memory($t, $old);
wait_for(sub { fd_count($old) <= $fds });

# a reload: connections get GOAWAY, and what they have goes on

my $tls = h2_client(port(8443), ssl => 1);
my $echo = tunnel($tls, 'echo', 8091);
my $sums = tunnel($tls, 'sums', 8092);
my $slow = request($tls, 'slow', 'slow.example:' . port(8091));
my $stalled = tunnel($tls, 'stalled', 8094, credit => 0);

$sums->write_all('before');

my $idle = h2_client(port(8080));
$idle->wait_ping();
my $used = h2_client(port(8080));
is($used->get('/page')->{data}, 'SEE-THIS', 'request');
tunnel($used, 'used', 8091)->half_close();

# header blocks of which a part has come: alone, in one piece with the frame
# before it, and beside a tunnel

my @parts = map { { h2 => $_ } } map { h2_client(port(8080)) } 1 .. 3;
my $beside = tunnel($parts[2]{h2}, 'beside', 8091);

begin_block($parts[0], 'half', '');
begin_block($parts[1], 'glued', h2_frame('PING', 0, 0, "\0" x 8));
begin_block($parts[2], 'second', '');

is($echo->echo('before'), 'before', 'tunnel before a reload');

$t->reload();
my $new = new_worker($t, $old);
ok($new, 'reload');

is(gone($_->[1]), 'NO_ERROR EOF', "$_->[0] connection is closed")
	for [ 'unused', $idle ], [ 'idle', $used ];

is($tls->wait_frame('GOAWAY') && $tls->{goaway}[1], 'NO_ERROR', 'GOAWAY');
is($tls->{goaway}[0], $stalled->{id}, 'GOAWAY, last stream');
is($echo->echo('after'), 'after', 'tunnel after a reload');

my $bytes = pattern(2 * MB);
ok($echo->echo($bytes) eq $bytes, 'bulk after a reload');

$sums->write_all(' and after');
$sums->half_close();
is($sums->read_all(), summary('before and after'),
	'half close after a reload');

is($slow->wait_head(), 200, 'tunnel that waited for a name');
is($slow->echo('late'), 'late', 'bytes in it');

$stalled->{credit} = 1;
$tls->window_update($stalled->{id}, FLOOD);
ok($stalled->read_n(FLOOD, 15) eq pattern(FLOOD), 'stalled tunnel, all of it');

my $ignored = request($tls, 'ignored', '127.0.0.1:' . port(8091));
is($tls->wait_ping(), 1, 'connection still answers');
ok(!defined $ignored->{status}, 'another stream is not served');

for my $case ([ 0, 'part of a block' ], [ 1, 'part behind another frame' ],
	[ 2, 'part beside a tunnel' ])
{
	my ($n, $name) = @$case;
	my ($h2, $sid) = @{$parts[$n]}{qw/ h2 sid /};

	is($h2->wait_frame('GOAWAY') && "@{$h2->{goaway}}[0, 1]",
		"$sid NO_ERROR", "$name - GOAWAY");

	my $stream = end_block($parts[$n]);
	is($stream->wait_head(), 200, "$name - tunnel");
	is($stream->echo('half'), 'half', "$name - bytes");
	$stream->half_close();
	$stream->wait_end();
}

is($beside->echo('beside'), 'beside', 'tunnel beside part of a block');
$beside->half_close();
$beside->wait_end();
$_->{h2}->close() for @parts;

# its end

ok(kill(0, $old), 'old worker waits');
$_->half_close() for $echo, $slow, $stalled;
is($echo->read_all(), '', 'end of a tunnel');
is(gone($tls), 'NO_ERROR EOF', 'connection ends with its tunnels');
ok(wait_for(sub { !kill 0, $old }), 'old worker ends');

is(ended($t, $_->[0]), "200 ok completed $_->[1]", "$_->[0] logged")
	for [ 'echo', (11 + 2 * MB) . ' ' . (11 + 2 * MB) ],
	[ 'sums', '16 ' . length summary('before and after') ],
	[ 'slow', '4 4' ], [ 'stalled', '0 ' . FLOOD ], [ 'half', '4 4' ],
	[ 'glued', '4 4' ], [ 'second', '4 4' ], [ 'beside', '6 6' ];

# aborts in an old worker

$tls = h2_client(port(8443), ssl => 1);
my $reset = tunnel($tls, 'reset', 8093);
my $lost = tunnel($tls, 'lost', 8093);
$reset->write_all('abc');
$lost->write_all('abcd');
$tls->wait_ping();

$old = $new;
$t->reload();
$new = new_worker($t, $old);

$reset->reset_close();
ok(wait_log($t, 'sink', qr/^3 \S+ RESET/), 'RST_STREAM after a reload');
$tls->reset();
ok(wait_log($t, 'sink', qr/^4 \S+ RESET/), 'lost connection after a reload');
ok(wait_for(sub { !kill 0, $old }), 'old worker ends with that');
is(ended($t, 'reset'), '200 ok client_reset 3 0', 'RST_STREAM logged');
is(ended($t, 'lost'), '200 ok client_reset 4 0', 'lost connection logged');

# under load, and tunnels of several generations

my @openers = map { opener($t, $_) } 1, 2;
my (@h2, @tunnels);
my $good = 0;

for my $n (1 .. RELOADS) {
	push @h2, h2_client(port($n % 2 ? 8080 : 8443), ssl => !($n % 2));
	push @tunnels, map { tunnel($h2[-1], "many$n", 8091) } 1 .. 5;

	my $opened = () = log_lines($t, 'opened');
	$old = $new;
	$t->reload();
	$new = new_worker($t, $old);

	$good += grep { $_->echo("hello $n") eq "hello $n" } @tunnels;
	wait_for(sub { log_lines($t, 'opened') > $opened + 4 });
}

$t->write_file('enough', '');
waitpid $_, 0 for @openers;

my @bad = grep { $_ ne 'good' } log_lines($t, 'opened');
note('tunnels opened under reloads: ' . log_lines($t, 'opened'));
is(join("\n", @bad), '', 'tunnels opened under reloads');

is($good, 5 + 10 + 15 + 20, 'tunnels of several generations');
$_->half_close() for @tunnels;
$_->read_all() for @tunnels;
$_->close() for @h2;
ok(wait_for(sub { workers($t) == 1 }), 'one worker left');

# HTTP/2 is not offered any more, then there is no tunnel any more

$tls = h2_client(port(8443), ssl => 1);
$echo = tunnel($tls, 'off', 8091);

configure($t, http2 => 0);
$old = $new;
$t->reload();
$new = new_worker($t, $old);

my $s = client_connect(port(8443), ssl => 1, alpn => [ 'h2', 'http/1.1' ]);
is($s->alpn_selected(), 'http/1.1', 'http2 off');
write_all($s, connect_request('127.0.0.1:' . port(8091)));
like(read_head($s), qr/^HTTP\/1\.1 200 /, 'http2 off, tunnel');
is(echo($s, 'new'), 'new', 'http2 off, bytes');
$s->close();
is($echo->echo('still'), 'still', 'http2 off, tunnel over HTTP/2');
$echo->half_close();
$echo->read_all();
$tls->close();
is(ended($t, 'off'), '200 ok completed 5 5', 'http2 off, logged');

configure($t);
$t->reload();
$new = new_worker($t, $new);

$tls = h2_client(port(8443), ssl => 1);
$echo = tunnel($tls, 'on', 8091);
is($echo->echo('again'), 'again', 'http2 again');

configure($t, tunnel => '');
$old = $new;
$t->reload();
$new = new_worker($t, $old);

my $without = h2_client(port(8443), ssl => 1);
is($without->get('/page')->{data}, 'SEE-THIS', 'no connect_tunnel, request');
isnt(tunnel($without, 'without', 8091)->{status}, 200,
	'no connect_tunnel, no tunnel');
is($echo->echo('still'), 'still', 'no connect_tunnel, but a tunnel');
$echo->half_close();
$echo->read_all();
is(ended($t, 'on'), '200 ok completed 10 10', 'no connect_tunnel, logged');
gone($tls);
$without->close();

# worker_shutdown_timeout

configure($t, main => 'worker_shutdown_timeout 1s;');
$t->reload();
$new = new_worker($t, $new);

$tls = h2_client(port(8443), ssl => 1);
my $plain = h2_client(port(8080));

my @all = map {
	my ($name, $h2) = @$_;

	[ "${name}_live", tunnel($h2, "${name}_live", 8091) ],
	[ "${name}_half", tunnel($h2, "${name}_half", 8091) ],
	[ "${name}_stalled",
		tunnel($h2, "${name}_stalled", 8094, credit => 0) ],
} [ 'tls', $tls ], [ 'plain', $plain ];

my @before = (request($tls, 'connecting', '127.0.0.1:' . port(8095)),
	request($plain, 'resolving', 'silent.example:443'));

$all[$_][1]->echo('live') for 0, 3;
$plain->wait_ping();
wait_for(sub { dns_queries($t, 'dns.log', 'silent.example') });

$old = $new;
my $start = time();
$t->reload();
$new = new_worker($t, $old);

is($all[0][1]->echo('live'), 'live', 'tunnel before a shutdown');
is($all[0][1]->wait_end(6), 'RESET', 'worker_shutdown_timeout');

my $time = time() - $start;
ok($time > 0.7 && $time < 4, 'worker_shutdown_timeout in time')
	or diag($time);
ok(wait_for(sub { !kill 0, $old }), 'worker ends');

is(join(' ', map { $_->wait_end(2) } map({ $_->[1] } @all), @before),
	join(' ', ('RESET') x 8), 'streams end');
like(join(' ', map { gone($_) } $tls, $plain),
	qr/^NO_ERROR (?:EOF|TRUNCATED) NO_ERROR EOF\z/, 'connections end');
is(join("\n", map { ended($t, $_->[0]) =~ /^200 ok shutdown / ? ()
	: "$_->[0]: " . ended($t, $_->[0]) } @all), '', 'shutdown logged');
isnt(ended($t, $_), '', "shutdown logged, $_") for qw/ connecting resolving /;

# QUIT and TERM

configure($t);
$t->reload();
$new = new_worker($t, $new);

$tls = h2_client(port(8443), ssl => 1);
$echo = tunnel($tls, 'quit', 8091);
$idle = h2_client(port(8080));
$idle->wait_ping();

kill 'QUIT', $t->read_file('nginx.pid') =~ /(\d+)/;

is(gone($idle), 'NO_ERROR EOF', 'QUIT, idle connection');
is($echo->echo('hello'), 'hello', 'QUIT, tunnel goes on');
ok(-e "$d/nginx.pid", 'QUIT, nginx waits');
$echo->half_close();
is(($echo->read_all())[1], 'EOF', 'QUIT, tunnel ends');
is(gone($tls), 'NO_ERROR EOF', 'QUIT, connection ends');
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'QUIT, nginx ends');

$t->run();

$tls = h2_client(port(8443), ssl => 1);
$echo = tunnel($tls, 'term', 8091);
kill 'TERM', $t->read_file('nginx.pid') =~ /(\d+)/;
isnt($echo->wait_end(4), 'TIMEOUT', 'TERM, tunnel ends');
ok(wait_for(sub { !-e "$d/nginx.pid" }), 'TERM, nginx ends');

$t->run();

###############################################################################

sub configure {
	my ($t, %opt) = @_;

	%opt = (main => '', http2 => 1, tunnel => 'connect_tunnel;', %opt);

	my ($plain, $tls) = map { $opt{http2} ? h2_listen($t, $_)
		: "listen $_;" } '127.0.0.1:8080', '127.0.0.1:8443 ssl';

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
$opt{main}

events {
    worker_connections 2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '\$http_x_id \$status \$tunnel_result \$tunnel_reason '
                      '\$tunnel_bytes_received \$tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    keepalive_requests 100000;
    client_header_timeout 20s;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    server {
        $plain
        $opt{tunnel}
    }

    server {
        $tls
        $opt{tunnel}
    }
}

EOF
}

###############################################################################

sub request {
	my ($h2, $id, $authority, @headers) = @_;

	return $h2->connect($authority, wait => 0,
		headers => [ [ 'x-id', $id ], @headers ]);
}

sub tunnel {
	my ($h2, $id, $target, %opt) = @_;

	my $stream = request($h2, $id, '127.0.0.1:' . port($target));

	$stream->{credit} = $opt{credit} if exists $opt{credit};
	$stream->wait_head();

	return $stream;
}

# A CONNECT of which only so much comes, and the rest.

sub begin_block {
	my ($part, $id, $before) = @_;

	my $h2 = $part->{h2};

	$h2->wait_ping();
	$h2->settle(0.05);

	my $block = $h2->block([ ':method', 'CONNECT' ],
		[ ':authority', '127.0.0.1:' . port(8091) ], [ 'x-id', $id ]);

	$part->{sid} = $h2->next_sid();
	$h2->raw($before . $h2->headers_frames($part->{sid},
		substr($block, 0, 9, ''), open => 1));

	$part->{rest} = $block;
	$h2->settle(0.05);
}

sub end_block {
	my ($part) = @_;

	$part->{h2}->raw(h2_frame('CONTINUATION', 'END_HEADERS',
		$part->{sid}, $part->{rest}));

	return $part->{h2}->stream($part->{sid});
}

# What the log has of one.

sub ended {
	my ($t, $id) = @_;

	my $line = wait_log($t, 'tunnel.log', qr/^$id /);

	return defined $line ? $line =~ s/^\S+ //r : '';
}

# How a connection is closed.

sub gone {
	my ($h2) = @_;

	my $closed = $h2->wait_closed() || 'open';
	$h2->close();

	return join ' ', $h2->{goaway} ? $h2->{goaway}[1] : '-', $closed;
}

###############################################################################

# These return how many tunnels there were.

sub many_streams {
	my ($t, $n) = @_;

	my $h2 = h2_client(port(8080));
	my $good = 0;

	while ($n > 0) {
		my @streams = map { tunnel($h2, 'many', 8091) } 1 .. 30;

		$good += ends(@streams);
		$n -= 30;
	}

	$h2->close();

	return $good;
}

sub many_connections {
	my ($t, $n) = @_;

	my $good = 0;

	for (1 .. $n) {
		my $h2 = h2_client(port($_ % 4 ? 8080 : 8443),
			ssl => !($_ % 4));
		my @streams = map { tunnel($h2, 'many', 8091) } 1 .. 4;

		$good += ends(@streams[0, 1]);
		$good += grep { $_->{status} == 200 } @streams[2, 3];

		# it ends with tunnels, and with part of a block

		$h2->headers($h2->next_sid(), "\x82", open => 1)
			if $_ % 2;
		$_ % 3 ? $h2->close() : $h2->reset();
	}

	return $good;
}

# In one way or the other.

sub ends {
	my (@streams) = @_;

	my $good = grep { $_->echo('hello') eq 'hello' } @streams;

	for my $n (0 .. $#streams) {
		$n % 3 ? $streams[$n]->half_close()
			: $streams[$n]->reset_close();
	}

	$_->wait_end() for grep { !$_->{rst} } map { $streams[$_] }
		grep { $_ % 3 } 0 .. $#streams;

	return $good;
}

# A connection with nothing but a past keeps no more than its own tables.

sub idle_memory {
	my ($t, $pid) = @_;

	my @h2 = map { h2_client(port(8080)) } 1 .. 100;
	$_->wait_ping() for @h2;

	my $rss = rss($pid);

	for my $h2 (@h2) {
		my $stream = $h2->connect('127.0.0.1:' . port(8091),
			headers => [ map { [ "x-$_", 'x' x 6000,
				'literal raw' ] } 1 .. 4 ]);

		$stream->echo(pattern(50000));
		$stream->half_close();
		$stream->wait_end();
	}

	my $grown = (rss($pid) - $rss) / @h2;

	note("an idle connection: $grown");
	cmp_ok($grown, '<', $t->has_module('fsanitize') ? 200000 : 8192,
		'idle connections keep no headers');

	$_->close() for @h2;
}

# Opens one tunnel after the other, in a process of its own.  A stream that was
# not taken because of a reload may be asked for again.

sub opener {
	my ($t, $n) = @_;

	my $file = $t->testdir();
	my $pid = fork();
	die "Can't fork: $!\n" unless defined $pid;
	return $pid if $pid;

	for (my $i = 0; ! -e "$file/enough"; $i++) {
		Test::Nginx::Tunnel::append("$file/opened",
			open_one($i % 2) . "\n");
	}

	POSIX::_exit(0);
}

sub open_one {
	my ($ssl) = @_;

	for (1 .. 5) {
		my $h2 = h2_client(port($ssl ? 8443 : 8080), ssl => $ssl)
			or return 'not connected';
		my $stream = request($h2, 'load', '127.0.0.1:' . port(8091));

		$h2->wait(sub {
			defined $stream->{status} || $h2->{goaway}
				&& $h2->{goaway}[0] < $stream->{id}
		});

		next if !defined $stream->{status} && $h2->{goaway};
		return 'no tunnel' if ($stream->{status} || 0) != 200;
		return 'no echo' if $stream->echo('hello') ne 'hello';

		$stream->half_close();
		return 'no end' if $stream->wait_end() ne 'EOF';

		$h2->close();
		return 'good';
	}

	return 'never taken';
}

###############################################################################
