package Test::Nginx::Splice;

# Tests of relay_splice, the same for all front ends: whether bytes go through
# pipes, and that they arrive as they do without.
#
#   splice_start($t, front => 'http')
#				writes the configuration and runs all of it
#   splice_tests($t, front => 'http')
#				SPLICE_TESTS tests

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/ SPLICE_TESTS splice_start splice_tests /;

###############################################################################

use Digest::SHA qw/ sha1_hex /;
use Test::More;
use Time::HiRes qw/ sleep time /;

use Test::Nginx qw/ port /;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

###############################################################################

use constant {
	SPLICE_TESTS	=> 78,
	MB		=> 1048576,
	FLOOD		=> 40,		# MB, more than all socket buffers
	STALL		=> 0.2,		# a socket that takes nothing so long
	KEPT		=> 16,		# pipes that a worker keeps at most
	IDLE		=> 20,		# tunnels, more than these
	BURST		=> 12,		# MB, more than a silent client holds
	PAYLOAD		=> 3000001,
};

my %proxy = (auto => 8080, on => 8081, off => 8082, ssl => 8088);

###############################################################################

sub splice_start {
	my ($t, %opt) = @_;

	my $tunnel = $opt{front} eq 'http' ? 'connect_tunnel;'
		: 'passthrough 127.0.0.1:8093;';

	my $front = front_conf($opt{front}, servers => [
			[ 8080, '' ],
			[ 8081, 'relay_splice on;' ],
			[ 8082, 'relay_splice off;' ],
			[ 8083, 'relay_splice on; relay_idle_timeout 700ms; '
				. 'relay_max_payload ' . PAYLOAD . ';' ],
			[ 8084, 'relay_splice on; relay_max_rate 4m;' ],
			[ 8085, 'relay_splice on; relay_send_timeout 700ms;' ],
			[ 8086, 'relay_splice on; relay_max_lifetime 1s;' ],
		], targets => [ 8091 .. 8096 ], conf => <<"EOF");
server {
        listen 127.0.0.1:8088 ssl;
        $tunnel
        relay_splice on;
        ssl_certificate localhost.crt;
        ssl_certificate_key localhost.key;
    }
EOF

	make_cert($t, 'localhost');

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 512;
}

$front

EOF

	my $d = $t->testdir();

	start_daemon($t, \&echo_daemon, port(8091));
	start_daemon($t, \&half_close_daemon, port(8092));
	start_daemon($t, \&held_daemon, port(8093), $d, report => "$d/held");
	start_daemon($t, \&burst_daemon, port(8094));
	start_daemon($t, \&sink_daemon, port(8095), report => "$d/sink");
	start_daemon($t, \&bulk_reset_daemon, port(8096));

	return $t->run();
}

sub splice_tests {
	my ($t, %opt) = @_;

	my $front = $opt{front};

	my $tunnel = sub {
		my ($mode, $id, $target, %more) = @_;

		my ($s) = front_tunnel($front, $id, $target,
			$mode eq 'ssl' ? (port => 8088, ssl => 1)
				: (proxy => $proxy{$mode} || $mode), %more);
		return $s;
	};

	my $ended = sub { front_log($t, $front, $_[0]) };

	local $SIG{PIPE} = 'IGNORE';

	my ($pid) = workers($t);

	# what nginx opens only once is open then

	finish($tunnel->('off', 'first', 8091));
	$ended->('first');
	wait_for(sub { tcp_count($pid) == 0 });

	my $fds = fd_count($pid);

	used_tests($t, $pid, $tunnel, $ended);
	bulk_tests($tunnel, $ended);
	alternate_tests($pid, $tunnel, $ended);
	end_tests($t, $tunnel, $ended);
	reset_tests($t, $pid, $tunnel, $ended);
	policy_tests($t, $pid, $tunnel, $ended);
	idle_tests($pid, $tunnel);

	ok(wait_for(sub { tcp_count($pid) == 0
		&& fd_count($pid) == $fds }),
		'nothing left open but spare pipes')
		or diag(fd_count($pid), ' ', pipe_count($pid), " $fds");
	cmp_ok(pipe_count($pid), '<=', KEPT, 'and not many of these');
}

# Whether a pipe is used: a flow that is stopped has its bytes in there.

sub used_tests {
	my ($t, $pid, $tunnel, $ended) = @_;

	my $s = $tunnel->('auto', 'messages', 8091);

	is(scalar(grep { echo($s, $_) eq $_ }
		(map { pattern($_ * 17) } 1 .. 50),
		(map { pattern(40000, $_) } 1 .. 10)), 60, 'messages, auto');
	is(pipe_count($pid), 0, 'messages need no pipe, auto');
	finish($s);

	my (%s, %sent);
	my %pipes = (off => 0, ssl => 0, auto => 1, on => 2);
	my $size = FLOOD * MB;
	my $bytes = pattern($size);

	for my $mode (qw/ off ssl auto on /) {
		my $s = $s{$mode} = $tunnel->($mode, "held_$mode", 8093);
		my $name = substr "$mode---", 0, 4;

		write_all($s, $name);
		is(read_n($s, 4), 'held', "target holds, $mode");

		$sent{$mode} = push_bytes($s, $bytes, STALL);
		cmp_ok($sent{$mode}, '<', $size,
			"a slow target stops its client, $mode");
		is(pipe_count($pid), $pipes{$mode}, "pipes, $mode");

		# the others stay as they are, and only now goes a byte back

		$t->write_file("go-$name", '') if $mode eq 'ssl'
			|| $mode eq 'off';
	}

	$t->write_file("go-$_", '') for qw/ auto on-- /;

	for my $mode (qw/ off ssl auto on /) {
		my $s = $s{$mode};

		write_all($s, substr($bytes, $sent{$mode}), 20);
		half_close($s);

		is(read_all($s, 20), summary($bytes),
			"nothing is lost, $mode");
		$s->close();

		like($ended->("held_$mode"),
			qr/^200 ok completed @{[ $size + 4 ]} \d+$/,
			"counted, $mode");
	}

	cmp_ok(pipe_count($pid), '<=', 2, 'no pipe but those');

}

sub bulk_tests {
	my ($tunnel, $ended) = @_;

	my $size = 20 * MB;
	my $bytes = pattern($size);

	for my $mode (qw/ auto on off /) {
		my $s = $tunnel->($mode, "bulk_$mode", 8091);

		ok(exchange($s, $bytes, $size, 20) eq $bytes,
			"both ways at once, $mode");
		finish($s);
		is($ended->("bulk_$mode"), "200 ok completed $size $size",
			"both ways counted, $mode");

		$s = $tunnel->($mode, "small_$mode", 8091);
		is(scalar(grep { echo($s, $_) eq $_ }
			map { pattern($_ % 7 * 1000 + 1, $_) } 1 .. 200), 200,
			"messages, $mode");
		finish($s);
	}
}

# A flow that is bulk, and then is not.

sub alternate_tests {
	my ($pid, $tunnel, $ended) = @_;

	for my $mode (qw/ auto on /) {
		my $s = $tunnel->($mode, "alternate_$mode", 8091);
		my ($total, $good) = (0, 0);

		for my $n (1 .. 4) {
			my $bytes = pattern(3 * MB + $n, $n);

			$good++ if exchange($s, $bytes, length $bytes) eq $bytes;
			$total += length $bytes;

			sleep(0.05);

			for my $m (1 .. 30) {
				my $message = pattern($m * 100, $n + $m);

				$good++ if echo($s, $message) eq $message;
				$total += length $message;
			}
		}

		is($good, 4 * 31, "bulk and messages, $mode");
		finish($s);
		is($ended->("alternate_$mode"), "200 ok completed $total $total",
			"bulk and messages counted, $mode");
	}
}

sub end_tests {
	my ($t, $tunnel, $ended) = @_;

	my $size = 8 * MB + 1;
	my $bytes = pattern($size);

	for my $mode (qw/ auto on /) {
		my $s = $tunnel->($mode, "fin_$mode", 8092);

		write_all($s, $bytes);
		half_close($s);
		is(join('', read_all($s)), summary($bytes) . 'EOF',
			"client ends behind bulk, $mode");
		like($ended->("fin_$mode"), qr/^200 ok completed $size \d+$/,
			"client ends behind bulk, logged, $mode");

		# the target's end is the answer to ours, and behind its bytes

		$s = $tunnel->($mode, "target_$mode", 8094);

		write_all($s, "$size\n");
		half_close($s);
		my ($got, $state) = read_all($s);
		ok($got eq $bytes && $state eq 'EOF',
			"target ends behind bulk, $mode");
		is($ended->("target_$mode"), "200 ok completed 8 $size",
			"target ends behind bulk, logged, $mode");
	}
}

sub reset_tests {
	my ($t, $pid, $tunnel, $ended) = @_;

	my $bytes = pattern(FLOOD * MB);

	for my $mode (qw/ auto on /) {
		my $seen = () = log_lines($t, 'sink');

		my $s = $tunnel->($mode, "reset_$mode", 8095);
		write_all($s, substr($bytes, 0, 8 * MB));
		reset_close($s);

		like($ended->("reset_$mode"), qr/^200 ok client_reset \d+ 0$/,
			"client resets behind bulk, $mode");
		wait_for(sub { (() = log_lines($t, 'sink')) > $seen });
		is_part((log_lines($t, 'sink'))[-1], $bytes,
			"reset behind bulk at the target, $mode");

		$s = $tunnel->($mode, "target_reset_$mode", 8096);
		write_all($s, 'x');
		my ($got, $state) = read_all($s);
		ok($state eq 'RESET' && index($bytes, $got) == 0,
			"reset behind bulk at the client, $mode")
			or diag("$state, " . length $got);
		like($ended->("target_reset_$mode"),
			qr/^200 ok target_reset 1 \d+$/,
			"target resets behind bulk, $mode");
	}

	# a client that resets while its bytes are in a pipe

	my $s = $tunnel->('on', 'abort', 8093);
	write_all($s, 'abrt');
	read_n($s, 4);
	my $sent = push_bytes($s, $bytes, STALL);
	reset_close($s);
	$t->write_file('go-abrt', '');

	my $line = $ended->('abort');
	like($line, qr/^200 ok client_reset \d+ 4$/, 'reset with a full pipe');
	my $seen = wait_log($t, 'held', qr/ RESET$/);
	is_part($seen, $bytes, 'reset with a full pipe at the target');

	# one that does not read

	$s = $tunnel->('on', 'deaf', 8094);
	write_all($s, length($bytes) . "\n");
	sleep(STALL);
	cmp_ok(pipe_count($pid), '>=', 1, 'bytes wait for the client');
	reset_close($s);
	like($ended->('deaf'), qr/^200 ok client_reset 9 \d+$/,
		'reset with a full pipe, towards the client');
}

# Under a policy a pipe gets no more than may pass.

sub policy_tests {
	my ($t, $pid, $tunnel, $ended) = @_;

	my $bytes = pattern(FLOOD * MB);

	my $s = $tunnel->(8083, 'upload', 8095);
	write_all($s, substr($bytes, 0, PAYLOAD + 500000), 2);
	isnt((read_all($s))[1], 'TIMEOUT', 'max_payload');
	is($ended->('upload'), '200 ok max_payload ' . PAYLOAD . ' 0',
		'max_payload counted');
	ok(wait_log($t, 'sink',
		qr/^${\PAYLOAD} ${\sha1_hex(substr $bytes, 0, PAYLOAD)} /),
		'cut at the byte, upload');

	$s = $tunnel->(8083, 'download', 8094);
	write_all($s, "4000000\n");
	my ($got) = read_all($s);
	ok($got eq substr($bytes, 0, PAYLOAD - 8), 'cut at the byte, download')
		or diag(length $got);
	is($ended->('download'), '200 ok max_payload 8 ' . (PAYLOAD - 8),
		'max_payload counted, download');

	$s = $tunnel->(8083, 'idle', 8094);
	write_all($s, "2000000\n");
	my $start = time();
	is(length read_all($s), 2000000, 'idle timeout');
	my $time = time() - $start;
	ok($time > 0.6 && $time < 4, 'idle timeout after the bytes')
		or diag($time);
	is($ended->('idle'), '200 ok idle_timeout 8 2000000',
		'idle timeout counted');

	$s = $tunnel->(8084, 'rate', 8094);
	$start = time();
	write_all($s, "4500000\n");
	ok(read_n($s, 4500000) eq substr($bytes, 0, 4500000), 'rate');
	$time = time() - $start;
	ok($time > 1 && $time < 4, 'rate in time') or diag($time);
	finish($s);

	$s = $tunnel->(8085, 'send', 8094);
	write_all($s, length($bytes) . "\n");
	my $line = $ended->('send');
	like($line, qr/^200 ok send_timeout 9 \d+$/,
		'send timeout');
	my ($sent) = $line =~ /(\d+)$/;
	$got = read_all($s);
	is(length $got, $sent, 'what was sent before it');
	ok(index($bytes, $got) == 0, 'these bytes are right');

	$s = $tunnel->(8086, 'lifetime', 8094);
	my ($total, $wrong) = (0, 0);
	$start = time();

	while (time() - $start < 4) {
		write_all($s, MB . "\n");
		$got = read_n($s, MB, 3);
		$total += length $got;
		$wrong++ if index($bytes, $got) != 0;
		last if length $got < MB;
	}

	$time = time() - $start;
	ok($time > 0.8 && $time < 3, 'lifetime of bulk') or diag($time);
	is($wrong, 0, 'bytes until then');
	like($ended->('lifetime'), qr/^200 ok max_lifetime \d+ $total$/,
		'lifetime counted');
}

# Pipes only hold what waits.

sub idle_tests {
	my ($pid, $tunnel) = @_;

	my @s = map { $tunnel->('auto', 'idle_tunnels', 8094) } 1 .. IDLE;
	my $bytes = pattern(BURST * MB);

	write_all($_, BURST * MB . "\n") for @s;

	ok(wait_for(sub { pipe_count($pid) > KEPT }), 'pipes for them')
		or diag(pipe_count($pid));

	my $good = grep { read_n($_, BURST * MB, 20) eq $bytes } @s;
	is($good, IDLE, 'bytes of all of them');
	ok(wait_for(sub { pipe_count($pid) <= KEPT }, 2),
		'idle tunnels hold no pipe') or diag(pipe_count($pid));

	write_all($_, "10\n") for @s;
	$good = grep { read_n($_, 10) eq substr($bytes, 0, 10) } @s;
	is($good, IDLE, 'tunnels still work');

	finish($_) for @s;
}

###############################################################################

sub finish {
	my ($s) = @_;

	half_close($s);
	read_all($s);
	$s->close();
}

# Of what a reset interrupts any part may arrive, from the start on.

sub is_part {
	my ($line, $bytes, $name) = @_;

	my ($n, $sha, $state) = split ' ', $line || '0 - NONE';

	is("$sha $state", sha1_hex(substr $bytes, 0, $n) . ' RESET', $name);
}

# A target that resets behind its bytes.

sub bulk_reset_daemon {
	my ($addr) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		read_n($s, 1);
		write_all($s, pattern(8 * MB));
		reset_close($s);
	});
}

###############################################################################

1;

###############################################################################
