#!/usr/bin/perl

# Tests for flow control of CONNECT over HTTP/2: who stalls stalls nobody else,
# and no byte is lost.

###############################################################################

use warnings;
use strict;

use Test::More;

use Digest::SHA qw/ sha1_hex /;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::H2;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MB	=> 1048576,
	HUGE	=> 0x7fffffff,
	BIG	=> 20,		# MB, more than a stalled target takes
	HELD	=> 15,		# MB that the sockets may hold at most
	MEMORY	=> 6,		# MB that nginx may need meanwhile
	STREAMS	=> 100,
};

my $t = Test::Nginx->new()
	->has(qw/http http_v2 http_ssl rewrite socket_ssl socket_ssl_alpn/)
	->plan(139);

my $both = h2_listen($t, '127.0.0.1:8080', '127.0.0.1:8443 ssl');
my $timeout = h2_listen($t, '127.0.0.1:8081');
my $small = h2_listen($t, '127.0.0.1:8082');

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '\$http_x_id \$status \$tunnel_result \$tunnel_reason '
                      '\$tunnel_bytes_received \$tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    # the level debug tells every byte

    error_log %%TESTDIR%%/error.log info;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    target_allow *:*;
    target_allow_address 127.0.0.1;

    server {
        $both

        connect_tunnel;

        location / {
            return 200 "SEE-THIS";
        }
    }

    server {
        $timeout

        relay_send_timeout 500ms;
        connect_tunnel;
    }

    server {
        $small

        http2_body_preread_size 1000;
        relay_buffer_size 1k;
        connect_tunnel;

        location / {
            return 200 "SEE-THIS";
        }
    }
}

EOC

make_cert($t, 'localhost');

my $d = $t->testdir();

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&held_daemon, port(8092), $d);
start_daemon($t, \&source_daemon, port(8093), bytes => 5 * MB, n => 1);
start_daemon($t, \&half_close_daemon, port(8094));
start_daemon($t, \&sink_daemon, port(8095), report => "$d/sink",
	greeting => 'hello');
start_daemon($t, \&source_daemon, port(8096), bytes => BIG * MB, n => 1);

$t->run();

###############################################################################

my @common = ($t, \&target);

target_tests(@common, 'plain', 8080);
target_tests(@common, 'ssl', 8443, ssl => 1);
client_tests(@common, 'plain', 8080);
client_tests(@common, 'ssl', 8443, ssl => 1);
connection_tests(@common, 'plain', 8080);
error_tests(@common, 8080);
padding_tests(@common);
bulk_tests(@common, 'plain', 8080);
bulk_tests(@common, 'ssl', 8443, ssl => 1);
bulk_tests(@common, 'small', 8082);
many_tests(@common);
timeout_tests(@common);

###############################################################################

sub target {
	return '127.0.0.1:' . port($_[0]);
}

sub id {
	my ($id) = @_;

	return (headers => [ [ 'x-id', $id ] ]);
}

sub ended {
	my ($t, $id) = @_;

	my $line = wait_log($t, 'tunnel.log', qr/^\Q$id\E /) || '';
	chomp $line;

	return $line =~ s/^\S+ \d+ \S+ //r;
}

# Until a value stays the same for a while.

sub stable {
	my ($h2, $code) = @_;

	my $value = $code->();

	for (1 .. 40) {
		$h2->settle(0.3);

		my $now = $code->();
		return $now if $now == $value;
		$value = $now;
	}

	return undef;
}

# As much as this, and no more.

sub exactly {
	my ($h2, $code, $n) = @_;

	$h2->wait(sub { $code->() >= $n });
	$h2->settle(0.1);

	return $code->();
}

###############################################################################

# A target that reads nothing.

sub target_tests {
	my ($t, $target, $how, $port, %client) = @_;

	my ($pid) = workers($t);
	my $size = BIG * MB;
	my $bytes = pattern($size);
	my $name = $client{ssl} ? 'tls0' : 'h2c0';

	my $h2 = h2_client(port($port), %client);
	my $s = $h2->connect($target->(8092), id("stalled-$how"));
	my $other = $h2->connect($target->(8091));

	is($s->echo($name), 'held', "$how: target");
	$other->echo(pattern(MB));

	my $rss = rss($pid);

	$s->send($bytes, end => 1);
	my $left = stable($h2, sub { $s->unsent() });

	cmp_ok($left, '>', $size - HELD * MB, "$how: stalled target");
	cmp_ok($s->{window}, '<=', 0, "$how: its window is used up");
	cmp_ok(rss($pid) - $rss, '<', MEMORY * MB, "$how: memory");

	is($other->echo(pattern(MB)), pattern(MB), "$how: another tunnel");
	is($h2->get('/')->{data}, 'SEE-THIS', "$how: a request");

	my $new = $h2->connect($target->(8091));
	is($new->echo('hello'), 'hello', "$how: a new tunnel");

	$t->write_file("go-$name", '');
	is($s->read_all(20), summary($bytes), "$how: everything arrives");
	like(ended($t, "stalled-$how"), qr/^completed ${\ ($size + 4)} /,
		"$how: log");
	is($other->echo('still here'), 'still here', "$how: goes on");
}

# A client that gives no window.

sub client_tests {
	my ($t, $target, $how, $port, %client) = @_;

	my $size = 5 * MB;
	my $h2 = h2_client(port($port), %client, window => 100 * MB);

	my $s = $h2->connect($target->(8093), id("closed-$how"));
	my $other = $h2->connect($target->(8091));

	$s->{credit} = 0;
	$s->write_all('x');

	is(exactly($h2, sub { length $s->{data} }, 65535), 65535,
		"$how: window of a stream");
	is($other->echo(pattern(MB)), pattern(MB), "$how: another tunnel");

	$h2->window_update($s->{id}, 1);
	is(exactly($h2, sub { length $s->{data} }, 65536), 65536,
		"$how: a byte");

	$h2->window_update($s->{id}, 100000);
	is(exactly($h2, sub { length $s->{data} }, 165536), 165536,
		"$how: more");
	is($h2->get('/')->{data}, 'SEE-THIS', "$how: a request");

	$h2->window_update($s->{id}, $size);
	$s->half_close();
	my ($bytes, $state) = $s->read_all(20);
	ok($bytes eq pattern($size), "$how: everything arrives");
	is($state, 'EOF', "$how: and its end");
	is(ended($t, "closed-$how"), "completed 1 $size", "$how: log");

	# windows that SETTINGS open, and close

	$h2 = h2_client(port($port), %client,
		settings => { INITIAL_WINDOW_SIZE => 0 });
	$s = $h2->connect($target->(8093));
	$s->{credit} = 0;
	is($s->{status}, 200, "$how: tunnel without a window");

	$s->write_all('x');
	is(exactly($h2, sub { length $s->{data} }, 0), 0,
		"$how: no window");

	$h2->settings(INITIAL_WINDOW_SIZE => 20000);
	is(exactly($h2, sub { length $s->{data} }, 20000), 20000,
		"$how: larger initial window");

	$h2->settings(INITIAL_WINDOW_SIZE => 10000);
	$h2->window_update($s->{id}, 10000);
	is(exactly($h2, sub { length $s->{data} }, 20000), 20000,
		"$how: smaller initial window");

	$h2->window_update($s->{id}, 7);
	is(exactly($h2, sub { length $s->{data} }, 20007), 20007,
		"$how: it is made up for");
	ok($s->{data} eq pattern(20007), "$how: bytes");
}

sub connection_tests {
	my ($t, $target, $how, $port, %client) = @_;

	my $h2 = h2_client(port($port), %client, credit => 'stream');
	my @s = map { $h2->connect($target->(8093)) } 1 .. 3;
	my $sum = sub {
		my $sum = 0;
		$sum += length $_->{data} for @s;
		return $sum;
	};

	$_->write_all('x') for @s;
	is(exactly($h2, $sum, 65535), 65535,
		"$how: window of the connection");

	$h2->window_update(0, 5);
	is(exactly($h2, $sum, 65540), 65540,
		"$how: a bit of it");
	is($h2->wait_ping(), 1, "$how: no data, but frames");

	$s[0]->reset_close();
	$h2->window_update(0, 100000);
	is(exactly($h2, $sum, 165540), 165540,
		"$how: what was another's");

	$h2->window_update(0, 10 * MB);
	$h2->{credit} = 1;
	$_->half_close() for @s[1, 2];
	$_->wait_end(20) for @s[1, 2];
	ok($_->{data} eq pattern(5 * MB), "$how: everything arrives")
		for @s[1, 2];

	# a client that reads nothing at all

	my ($pid) = workers($t);
	$h2 = h2_client(port($port), %client, window => 1000 * MB,
		settings => { INITIAL_WINDOW_SIZE => 1000 * MB });
	@s = map { $h2->connect($target->(8096)) } 1 .. 2;

	my $rss = rss($pid);
	$_->write_all('x') for @s;
	select undef, undef, undef, 0.7;
	cmp_ok(rss($pid) - $rss, '<', MEMORY * MB,
		"$how: client that does not read, memory");

	$_->half_close() for @s;
	$_->wait_end(20) for @s;
	ok($_->{data} eq pattern(BIG * MB),
		"$how: client that did not read, everything arrives") for @s;
}

###############################################################################

sub error_tests {
	my ($t, $target, $port) = @_;

	my $h2 = h2_client(port($port));
	my $other = $h2->connect($target->(8091));
	my $goes_on = sub {
		is($other->echo('still here'), 'still here',
			"$_[0]: another tunnel goes on");
	};

	# too much of a window

	my $s = $h2->connect($target->(8095), id('overflow'));
	$s->read_n(5);
	$h2->window_update($s->{id}, HUGE);
	is($s->wait_rst(), 'FLOW_CONTROL_ERROR', 'window overflow');
	ok(wait_log($t, 'sink', qr/ RESET$/), 'window overflow: target');
	like(ended($t, 'overflow'), qr/^client_reset 0 5|^error 0 5/,
		'window overflow: log');
	$goes_on->('window overflow');

	# more than the window

	$s = $h2->connect($target->(8092), id('violation'));
	is($s->echo('viol'), 'held', 'window violation');
	$s->send(pattern(BIG * MB));
	stable($h2, sub { $s->unsent() });
	cmp_ok($s->{window}, '<=', 0, 'window is used up');
	$h2->data($s->{id}, pattern(16384)) for 1 .. 2;
	is($s->wait_rst(), 'FLOW_CONTROL_ERROR', 'more than the window');
	isnt(ended($t, 'violation'), '', 'more than the window: log');
	$goes_on->('more than the window');
	$t->write_file('go-viol', '');

	# before the response, too: what may come is http2_body_preread_size

	$s = $h2->connect('127.0.0.1:1', wait => 0, end => 0);
	$h2->data($s->{id}, pattern(16384)) for 1 .. 5;
	$h2->wait_ping();
	$goes_on->('more than the window, refused');

	# behind the end

	$s = $h2->connect($target->(8092), id('behind'));
	$s->echo('behi');
	$h2->data($s->{id}, 'x', end => 1);
	$h2->data($s->{id}, 'late');
	is($s->wait_rst(), 'STREAM_CLOSED', 'DATA behind the end');
	$goes_on->('DATA behind the end');
	$t->write_file('go-behi', '');
	isnt(ended($t, 'behind'), '', 'DATA behind the end: log');

	$s = $h2->connect($target->(8095));
	$s->read_n(5);
	$s->reset_close();
	$h2->data($s->{id}, pattern(16384)) for 1 .. 10;
	$goes_on->('DATA behind a reset');

	$s = $h2->connect($target->(8094), id('twice'));
	$h2->data($s->{id}, 'once', end => 1);
	$s->wait_end();
	$h2->data($s->{id}, '', end => 1);
	$h2->data($s->{id}, 'twice');
	is($s->{data}, summary('once'), 'DATA behind both ends');
	$goes_on->('DATA behind both ends');

	# of the connection

	$s = $h2->connect($target->(8095), id('lost'));
	$s->read_n(5);
	my $resets = grep { / RESET$/ } log_lines($t, 'sink');
	$h2->window_update(0, HUGE);
	$h2->wait_closed();
	is(($h2->{goaway} || [ 0, 'none' ])->[1], 'FLOW_CONTROL_ERROR',
		'window overflow of the connection');
	ok(wait_log($t, 'sink', qr/ RESET$/, undef, $resets + 1),
		'window overflow of the connection: target');
	isnt(ended($t, 'lost'), '', 'window overflow of the connection: log');

	# nginx takes this for an error of the connection

	$h2 = h2_client(port($port));
	$s = $h2->connect($target->(8095), id('zero'));
	$s->read_n(5);
	$resets = grep { / RESET$/ } log_lines($t, 'sink');
	$h2->window_update($s->{id}, 0);
	isnt($s->wait_end(), 'TIMEOUT', 'window update of 0');
	ok(wait_log($t, 'sink', qr/ RESET$/, undef, $resets + 1),
		'window update of 0: target');
}

###############################################################################

sub padding_tests {
	my ($t, $target) = @_;

	my $h2 = h2_client(port(8080));
	my $s = $h2->connect($target->(8091), id('padding'));
	my $all = '';

	# with 257 bytes each, much more than all windows

	my $bytes = pattern(5000);
	my $ok = 1;

	for my $byte (split //, $bytes) {
		$ok &&= $h2->wait(sub {
			$s->{window} > 300 && $h2->{window} > 300
		}, 3);
		last unless $ok;

		$h2->data($s->{id}, $byte, padding => 255);
	}

	ok($ok, 'padding is credited');
	is($s->read_n(length $bytes), $bytes, 'padded bytes');

	for (1 .. 5000) {
		$ok &&= $h2->wait(sub {
			$s->{window} > 300 && $h2->{window} > 300
		}, 3);
		last unless $ok;

		$h2->data($s->{id}, '', padding => 255);
	}

	ok($ok, 'padding alone is credited');
	is($s->echo('hello'), 'hello', 'bytes behind padding');

	$h2->data($s->{id}, 'end', padding => 100, end => 1);
	is(join(' ', $s->read_all()), 'end EOF', 'padded end');
	is(ended($t, 'padding'), 'completed 5008 5008',
		'padding does not count');
}

###############################################################################

sub bulk_tests {
	my ($t, $target, $how, $port, %client) = @_;

	my $n = $how eq 'small' ? 1 : 20;
	my $h2 = h2_client(port($port), %client,
		$how eq 'small' ? (settings => { INITIAL_WINDOW_SIZE => 1000 })
			: ());

	# before that nginx takes no stream with data, if its window is small

	$h2->wait_frame('SETTINGS', 2);
	$h2->wait_ping();

	my @s = map { $h2->connect($target->(8091), id("bulk-$how-$_")) }
		0 .. 3;

	is(join(' ', map { $_->{status} || '' } @s), '200 200 200 200',
		"$how: tunnels");

	# of the same length, but not the same

	my $size = $n * MB / 4;
	my @bytes = map { pattern($size, 1000 * $_) } 0 .. 3;

	$s[$_]->send($bytes[$_], end => 1) for 0 .. 3;

	my $get = $h2->get('/') unless $how eq 'small';
	is($get->{data}, 'SEE-THIS', "$how: a request meanwhile") if $get;

	for my $i (0 .. 3) {
		my ($got, $state) = $s[$i]->read_all(30);
		ok($got eq $bytes[$i], "$how: ${n}M, stream $i")
			or diag('got: ', length $got);
		is($state, 'EOF', "$how: end of stream $i");
		is(ended($t, "bulk-$how-$i"), "completed $size $size",
			"$how: log of stream $i");
	}
}

sub many_tests {
	my ($t, $target) = @_;

	my ($pid) = workers($t);
	my $h2 = h2_client(port(8080));

	$h2->wait_ping();
	my $before = fd_count($pid);

	for my $round (1, 2) {
		my @s = map {
			$h2->connect($target->(8091), wait => 0,
				data => "stream $_ " . pattern(3000, $_),
				end => 0)
		} 1 .. STREAMS;

		$_->wait_head() for @s;
		is((grep { ($_->{status} || 0) == 200 } @s), STREAMS,
			"many streams: $round");

		$s[$_]->send(pattern(5000, 7 * $_)) for reverse 0 .. $#s;

		my $good = grep {
			my $bytes = 'stream ' . ($_ + 1) . ' '
				. pattern(3000, $_ + 1)
				. pattern(5000, 7 * $_);
			$s[$_]->read_n(length $bytes) eq $bytes;
		} 0 .. $#s;
		is($good, STREAMS, "many streams: $round: bytes");

		$_->half_close() for @s;
		is((grep { $_->wait_end() eq 'EOF' } @s), STREAMS,
			"many streams: $round: end");
	}

	ok(wait_for(sub { fd_count($pid) <= $before }),
		'many streams: nothing is left');
}

sub timeout_tests {
	my ($t, $target) = @_;

	my $h2 = h2_client(port(8081), window => 100 * MB);
	my $s = $h2->connect($target->(8093), id('timeout'));
	my $other = $h2->connect($target->(8091), id('other'));

	$s->{credit} = 0;
	$s->write_all('x');
	is($s->wait_rst(), 'CANCEL', 'client takes nothing: timeout');
	is(ended($t, 'timeout'), 'send_timeout 1 65535',
		'client takes nothing: log');
	is($other->echo('still here'), 'still here',
		'client takes nothing: another tunnel');

	$s = $h2->connect($target->(8092), id('timeout-target'));
	is($s->echo('time'), 'held', 'target takes nothing');
	$s->send(pattern(BIG * MB));
	is($s->wait_rst(), 'CANCEL', 'target takes nothing: timeout');
	like(ended($t, 'timeout-target'), qr/^send_timeout \d+ 4$/,
		'target takes nothing: log');
	is($other->echo('still here'), 'still here',
		'target takes nothing: another tunnel');
	$t->write_file('go-time', '');
}

###############################################################################
