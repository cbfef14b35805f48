package Test::Nginx::Policy;

# Tests of the policy of tunnels, the same for all front ends.
#
#   policy_test($front, \&cases, %opt)
#				all of a test file: plans, runs the cases at
#				once, each with a server, a client and a
#				target of its own, and checks how they ended.
#				The front end is "http", "h2", which is http
#				with HTTP/2, "stream", "socks" or "preread",
#				which is stream with tunnel_preread, and gives
#				the cases.
#				main => text for the main context,
#				conf => text for http {} or stream {},
#				files => { name => content },
#				check => \&code, run in the end, and
#				tests => how many tests that has
#   timeout_cases(), min_rate_cases(), rate_cases(), payload_cases(),
#   half_close_cases(), variable_cases(), combined_cases()
#				each with ($front), a list of cases
#   variable_conf($front), variable_files(), combined_conf($front),
#   combined_check(), combined_tests($front)
#				what some of them need besides
#
# A case has
#
#   name
#   conf			directives of its server
#   location			those of its location, http only
#   listen			parameters, such as "proxy_protocol"
#   connect			options of client_connect(), a hash; of
#				socks_tunnel() for that front end
#   socks			how its client asks, if not by turns
#   headers			of the request, http only
#   ssl				the client speaks TLS
#   early			bytes the client sends behind the request
#   client, target		what the two do: a list of steps.  In the end
#				both read until nothing more comes, and close
#   result			$tunnel_result, default "ok"; for any other
#				one there is nothing but that to check
#   reason			$tunnel_reason
#   received, sent		bytes from and to the client; a number, or
#				"some" for more than none
#   total			bytes of both
#   lossy			a peer may get less than was counted, because
#				it does not read or the end is abrupt
#   time			[ from, to ] seconds, for the tunnel and, with
#				more patience, for what its peers see of it
#   log				a line that error.log has
#
# Steps
#
#   sends($n)			bytes
#   trickles($n, $chunk, $delay)
#				so many bytes, some at a time
#   takes($n)			reads exactly n bytes
#   moves($in, $out)		both at once
#   dawdles($n, $chunk, $delay)
#				reads them, slowly
#   ends()			sends FIN
#   waits($seconds)		neither reads nor sends
#   small()			a small receive buffer
#   resets()			closes with RST
#   answers($in, $out)		n times: takes so many bytes, sends so many
#   smooth($n, $times)		reads n bytes, which come in no fewer portions
#   fast($seconds)		the steps so far took no longer
#   gone($seconds)		the end comes that soon

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	policy_test both_ways with_tls with_splice
	timeout_cases min_rate_cases rate_cases payload_cases half_close_cases
	variable_cases variable_conf combined_cases combined_conf
	combined_check combined_tests variable_files
/;

###############################################################################

use IO::Select qw//;
use MIME::Base64 qw/ encode_base64 /;
use POSIX qw//;
use Socket qw/ SOL_SOCKET SO_RCVBUF /;
use Test::More;
use Time::HiRes qw/ sleep time /;

use Test::Nginx qw/ port /;
use Test::Nginx::Tunnel;
use Test::Nginx::H2Bridge;
use Test::Nginx::Relay qw/ front_connect front_http socks_way socks_tunnel
	socks_names PREREAD /;

###############################################################################

use constant {
	KB		=> 1024,
	MB		=> 1048576,
	MANY		=> 24 * 1048576,
	FLOOD		=> 80 * 1048576,	# more than all socket buffers
	PIECE		=> 65536,
	LIMIT		=> 15,		# of what a peer does at most
	EARLY		=> 0.02,	# clocks of nginx are this coarse
	LAG		=> 5,		# of peers, on a machine that is busy
	WRITES		=> __PACKAGE__ . '::Writes',
};

###############################################################################

sub policy_test {
	my ($front, $code, %opt) = @_;

	my $t = Test::Nginx->new();
	my $cases = [ grep { fits($front, $_) } $code->($front) ];

	my $ssl = grep { $_->{ssl} } @$cases;
	my $block = block($front);

	$t->has($block, $front eq 'h2' ? 'http_v2' : (),
		$ssl ? ($block . '_ssl', 'socket_ssl') : ());
	$t->plan(case_tests(@$cases) + ($opt{tests} || 0));

	make_cert($t, 'localhost') if $ssl;
	require IO::Socket::SSL if $ssl;

	my $n = 0;

	for my $case (@$cases) {
		$case->{id} = ++$n;
		$case->{proxy} = port(8000 + $n);
		$case->{port} = port(8500 + $n);
		$case->{socks} ||= socks_way($n);
	}

	$opt{conf} = (defined $opt{conf} ? $opt{conf} : '')
		. '    ' . socks_names($t) . "\n\n" if $front eq 'socks';
	%opt = bridge_front($t, %opt) if $front eq 'h2';

	$t->write_file_expand('nginx.conf',
		policy_conf($front, $cases, $ssl, %opt));

	my %files = %{$opt{files} || {}};
	$t->write_file($_, $files{$_}) for keys %files;

	my $d = $t->testdir();

	# what pattern() keeps is made once, and not in every process

	pattern(1);

	for my $case (@$cases) {
		start_daemon($t, \&target_daemon, $case->{port}, $case,
			"$d/$case->{id}.target", "$d/$case->{id}.there");
	}

	$t->run();

	run_clients($front, $cases, $d);

	check_case($t, $front, $_) for @$cases;

	$opt{check}->($t, $front, $cases) if $opt{check};
}

# A front end is part of one of the two.

sub block {
	my ($front) = @_;

	return front_http($front) ? 'http' : 'stream';
}

# No bytes of a stream are spliced: that it is "on" is to be no harm.  And a
# client that reads late opens no window, so that a tunnel whose limit is
# reached is not over before, and what it sends meanwhile counts.

sub fits {
	my ($front, $case) = @_;

	return 1 if $front ne 'h2';
	return 0 if $case->{name} =~ /, splice (?:auto|off)\z/;
	return $case->{name} !~ /^reader is late and sends in vain, other way/;
}

sub policy_conf {
	my ($front, $cases, $ssl, %opt) = @_;

	my $http = front_http($front);
	my $block = block($front);

	%opt = (main => '', conf => '', listen => '', %opt);

	my $text = "\n%%TEST_GLOBALS%%\n\ndaemon off;\n$opt{main}\n"
		. "events {\n    worker_connections 1024;\n}\n\n$block {\n"
		. '    %%TEST_GLOBALS_' . uc($block) . "%%\n\n";

	$text .= "    ssl_certificate localhost.crt;\n"
		. "    ssl_certificate_key localhost.key;\n\n" if $ssl;

	$text .= $opt{conf} . <<'EOF';
    log_format policy '$tunnel_result $tunnel_reason $tunnel_bytes_received '
                      '$tunnel_bytes_sent $tunnel_time $status';

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

EOF

	# so that early bytes are read together with the request

	$text .= "    client_header_buffer_size 16k;\n\n" if $http;

	for my $case (@$cases) {
		# numbers, of which write_file_expand() makes ports

		my $listen = join ' ', '127.0.0.1:' . (8000 + $case->{id}),
			$case->{ssl} ? 'ssl' : (),
			defined $case->{listen} ? $case->{listen} : (),
			$opt{listen};

		my $target = '127.0.0.1:' . (8500 + $case->{id});
		my $tunnel = $front eq 'stream' ? "passthrough $target;"
			: $front eq 'preread' ? PREREAD
				. " passthrough $target;"
			: $front eq 'socks' ? 'socks;'
			: defined $case->{location}
				? "location / { connect_tunnel; "
					. "$case->{location} }"
			: 'connect_tunnel;';

		$case->{conf} = '' unless defined $case->{conf};

		$text .= "    server {\n"
			. "        listen $listen;\n"
			. "        access_log %%TESTDIR%%/$case->{id}.log "
			. "policy;\n"
			. "        $tunnel\n"
			. "        $case->{conf}\n"
			. "    }\n\n";
	}

	return $text . "}\n\n";
}

# Each client is a process, and they all run at once.

sub run_clients {
	my ($front, $cases, $d) = @_;

	my @pids;

	for my $case (@$cases) {
		my $pid = fork();
		die "Can't fork: $!\n" unless defined $pid;

		if ($pid == 0) {
			$SIG{INT} = $SIG{TERM} = 'DEFAULT';

			my $good = eval {
				client($front, $case, "$d/$case->{id}.client");
				1;
			};

			warn $@ unless $good;
			POSIX::_exit($good ? 0 : 1);
		}

		push @pids, $pid;
	}

	waitpid($_, 0) for @pids;
}

sub client {
	my ($front, $case, $report) = @_;

	my $start = time();
	my $early = pattern($case->{early} || 0);

	my ($s, $told) = client_start($front, $case, $early);

	# no reply tells that there is the tunnel; an end before it would be
	# that of the session, a pause a part of what is looked at

	my $there = $report =~ s/client\z/there/r;

	wait_for(sub { -e $there })
		if $front eq 'preread' && waits_first($case);

	peer($s, $case->{client}, $report, $start, length $early, $told);
}

# The connection, and what the client is told: a status or a code.

sub client_start {
	my ($front, $case, $early) = @_;

	my %connect = (ssl => $case->{ssl}, %{$case->{connect} || {}});

	return socks_tunnel($case->{proxy}, $case->{socks}, $case->{port},
		%connect, early => $early) if $front eq 'socks';

	if (front_http($front)) {
		my ($s, $head) = front_connect($front, $case->{proxy},
			"127.0.0.1:$case->{port}", %connect, early => $early,
			headers => $case->{headers} || []);

		return ($s, $head =~ /^HTTP\/\S+ (\d+)/);
	}

	my $s = client_connect($case->{proxy}, %connect);
	write_all($s, $early) if $s;

	return ($s);
}

# Whether a client has something to say at once.

sub waits_first {
	my ($case) = @_;

	my ($first) = @{$case->{client} || []};

	return !$case->{early} && !defined $case->{result}
		&& ref $first ne WRITES;
}

# What it is to be told of a result.

sub told {
	my ($front, $case, $result) = @_;

	my %told = (
		http	=> { ok => 200, internal => 500 },
		socks4	=> { ok => 90, internal => 91 },
		socks5	=> { ok => 0, internal => 1 },
	);

	return '-' if $front eq 'stream' || $front eq 'preread';
	return $told{http}{$result} if front_http($front);
	return $told{'socks' . substr $case->{socks}, 0, 1}{$result};
}

sub target_daemon {
	my ($addr, $case, $report, $there) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		Test::Nginx::Tunnel::append($there, '');
		peer($s, $case->{target}, $report, time(), 0);
	});
}

# Takes the steps, reads to the end, and reports: how many bytes it got, if
# these were the right ones, how it ended, and when.

sub peer {
	my ($s, $steps, $report, $start, $early, $told) = @_;

	local $SIG{PIPE} = 'IGNORE';

	my $p = {
		s	=> $s,
		start	=> $start,
		until	=> $start + LIMIT,
		out	=> $early,
		in	=> 0,
		state	=> 'OK',
		notes	=> '',
	};

	if ($s) {
		$_->($p) for @{$steps || []};

		take($p) while $p->{state} eq 'OK';

		# a close of TLS may still be on its way

		$p->{s}->close() unless $p->{state} eq 'CLOSED';

	} else {
		$p->{state} = 'UNCONNECTED';
	}

	$told = '-' unless defined $told;

	Test::Nginx::Tunnel::append($report, sprintf("%d %s %.3f %.3f %s%s\n",
		$p->{in}, $p->{state}, $start, time(), $told, $p->{notes}));
}

# Reads no more than n bytes.

sub take {
	my ($p, $n) = @_;

	$n = PIECE if !defined $n || $n > PIECE;

	my ($bytes, $state) = Test::Nginx::Tunnel::read_some($p->{s}, $n,
		$p->{until});

	$p->{notes} .= ' corrupted'
		if $bytes ne pattern(length $bytes, $p->{in});

	$p->{in} += length $bytes;
	$p->{state} = $state;

	return length $bytes;
}

sub put {
	my ($p, $n) = @_;

	my $done = 0;

	while ($done < $n) {
		my $size = $n - $done < PIECE ? $n - $done : PIECE;

		my $sent = write_all($p->{s}, pattern($size, $p->{out}),
			$p->{until} - time());

		$done += $sent;
		$p->{out} += $sent;
		last if $sent < $size;
	}

	return $done == $n;
}

###############################################################################

# Steps; those that begin with bytes are known by their class

sub sends {
	my ($n) = @_;

	return bless sub { put($_[0], $n) }, WRITES;
}

sub trickles {
	my ($n, $chunk, $delay) = @_;

	return bless sub {
		my ($p) = @_;

		for (my $left = $n; $left > 0; $left -= $chunk) {
			put($p, $left < $chunk ? $left : $chunk) or last;
			sleep($delay);
		}
	}, WRITES;
}

sub takes {
	my ($n) = @_;

	return sub {
		my ($p) = @_;

		my $end = $p->{in} + $n;

		while ($p->{in} < $end && $p->{state} eq 'OK') {
			take($p, $end - $p->{in});
		}
	};
}

sub dawdles {
	my ($n, $chunk, $delay) = @_;

	return sub {
		my ($p) = @_;

		my $end = $p->{in} + $n;

		while ($p->{in} < $end && $p->{state} eq 'OK') {
			sleep($delay);
			takes($chunk)->($p);
		}
	};
}

# Short waits instead of exact ones: on TLS either may need the other.

sub moves {
	my ($in, $out) = @_;

	return bless sub {
		my ($p) = @_;

		my ($s, $in_end, $out_end) = ($p->{s}, $p->{in} + $in,
			$p->{out} + $out);

		$s->blocking(0);

		while (($p->{in} < $in_end || $p->{out} < $out_end)
			&& time() < $p->{until})
		{
			my $moved = 0;

			if ($p->{out} < $out_end) {
				my $size = $out_end - $p->{out};
				$size = PIECE if $size > PIECE;

				my $n = $s->syswrite(pattern($size,
					$p->{out}));
				$p->{out} += $n if $n;
				$moved = $n;

				last if !defined $n
					&& !Test::Nginx::Tunnel::again();
			}

			if ($p->{in} < $in_end) {
				my $size = $in_end - $p->{in};
				$size = PIECE if $size > PIECE;

				my $n = $s->sysread(my $bytes, $size);
				last if defined $n && $n == 0;
				last if !defined $n
					&& !Test::Nginx::Tunnel::again();

				if ($n) {
					$p->{notes} .= ' corrupted' if $bytes
						ne pattern($n, $p->{in});
					$p->{in} += $n;
				}

				$moved ||= $n;
			}

			IO::Select->new($s)->can_read(0.01) unless $moved;
		}

		$s->blocking(1);
	}, WRITES;
}

sub answers {
	my ($times, $in, $out) = @_;

	return sub {
		my ($p) = @_;

		for (1 .. $times) {
			takes($in)->($p);
			put($p, $out) or last;
		}
	};
}

sub smooth {
	my ($n, $times) = @_;

	return sub {
		my ($p) = @_;

		my $end = $p->{in} + $n;
		my ($portions, $last) = (0, 0);

		while ($p->{in} < $end && $p->{state} eq 'OK') {
			take($p, $end - $p->{in});

			my $now = time();
			$portions++ if $now - $last > 0.02;
			$last = $now;
		}

		$p->{notes} .= " in $portions portions"
			if $portions < $times;
	};
}

sub fast {
	my ($seconds) = @_;

	return sub {
		my ($p) = @_;

		my $time = time() - $p->{start};
		$p->{notes} .= sprintf ' took %.1f', $time
			if $time > 1.5 * $seconds;
	};
}

sub gone {
	my ($seconds) = @_;

	return sub {
		my ($p) = @_;

		my $until = $p->{until};
		$p->{until} = time() + $seconds;

		take($p) while $p->{state} eq 'OK';

		$p->{until} = $until;
	};
}

sub ends {
	return sub { half_close($_[0]{s}) };
}

sub waits {
	my ($seconds) = @_;

	return sub { sleep($seconds) };
}

sub small {
	return sub {
		setsockopt($_[0]{s}, SOL_SOCKET, SO_RCVBUF, pack('i', 262144));
	};
}

sub resets {
	return sub {
		my ($p) = @_;

		reset_close($p->{s});
		$p->{state} = 'CLOSED';
	};
}

###############################################################################

# Cases made of cases

# The same with client and target in each other's place.

sub both_ways {
	my @cases = @_;

	my %other = qw/ client target target client upload download
		download upload /;

	my $turn = sub {
		my ($text) = @_;

		return $text unless defined $text;
		return $text =~ s/(?<![a-z])([a-z]+load|client|target)(?![a-z])
			/$other{$1} || $1/xegr;
	};

	return map {
		my $case = $_;

		($case, {
			%$case,
			name		=> "$case->{name}, other way",
			conf		=> $turn->($case->{conf}),
			client		=> $case->{target},
			target		=> $case->{client},
			reason		=> $turn->($case->{reason}),
			received	=> $case->{sent},
			sent		=> $case->{received},
		});
	} @cases;
}

sub with_tls {
	return map {
		($_, { %$_, name => "$_->{name}, tls", ssl => 1 })
	} @_;
}

sub with_splice {
	my @cases = @_;

	return map {
		my $case = $_;
		my $conf = defined $case->{conf} ? $case->{conf} : '';

		map {
			{
				%$case,
				name => "$case->{name}, splice $_",
				conf => "$conf relay_splice $_;",
			}
		} qw/ auto on off /;
	} @cases;
}

###############################################################################

# Checks

sub case_tests {
	my $tests = 0;

	for my $case (@_) {
		$tests += defined $case->{result} ? 2 : 3;
		$tests++ if $case->{time};
		$tests++ if $case->{log};
	}

	return $tests;
}

sub check_case {
	my ($t, $front, $case) = @_;

	my $name = $case->{name};
	my $d = $t->testdir();

	my $line = wait_log($t, "$case->{id}.log", qr/./);
	$line = '-' unless defined $line;
	my ($result, $reason, $received, $sent, $time, $status)
		= split ' ', $line . ' -' x 6;

	# nothing is counted where there was no tunnel

	$received = $sent = $time = 0 if $result ne 'ok';

	my %peer = map {
		my $who = $_;
		my $got = wait_log($t, "$case->{id}.$who", qr/./,
			defined $case->{result} ? 0 : undef);
		($who => defined $got ? $got : '');
	} qw/ client target /;

	if (defined $case->{result}) {
		my ($state, $told) = (split ' ', $peer{client})[1, 4];

		is("$result $reason $status", "$case->{result} - 500",
			"$name - refused");
		ok($peer{target} eq '' && $state ne 'TIMEOUT'
			&& $told eq told($front, $case, $case->{result}),
			"$name - peers")
			or diag("client: $peer{client}\n",
				"target: $peer{target}");

	} else {
		is("$result $reason $status", "ok $case->{reason} 200",
			"$name - reason");

		is(join(', ', compare($case, 'received', $received),
			compare($case, 'sent', $sent),
			compare($case, 'total', $received + $sent),
			saw($case, 'client', $peer{client}, $sent,
				told($front, $case, 'ok')),
			saw($case, 'target', $peer{target}, $received)), '',
			"$name - bytes and end")
			or diag("log: $line\nclient: $peer{client}\n",
				"target: $peer{target}");

		my $addr = "127.0.0.1:$case->{port}";
		my $to = $front eq 'socks' && $case->{socks} =~ /name|4a/
			? "name.example:$case->{port}" : $addr;

		ok(wait_log($t, 'error.log', qr/\Q[info]\E.*
			\Q tunnel to "$to" at $addr ended: $case->{reason}, \E
			\Qreceived: $received, sent: $sent\E\b/x, 1),
			"$name - error log") or diag(join "\n",
				grep { / at \Q$addr\E/ }
				log_lines($t, 'error.log'));
	}

	if ($case->{time}) {
		my ($from, $to) = @{$case->{time}};
		my $timed = $case->{reason}
			=~ /^(?:(?:idle|send)_timeout|max_lifetime|min_rate)/;

		# what peers see, by the client's clock; a tunnel may begin
		# later than that

		my ($start) = $peer{client} =~ /^\d+ [A-Z]+ (\S+)/;
		my @seen = map { sprintf '%.3f', $_ - $start }
			map { /^\d+ (?!CLOSED)[A-Z]+ \S+ (\S+)/ }
			@peer{qw/ client target /};

		ok(!(grep { $_ < $from - EARLY } $timed ? $time : (), @seen)
			&& $time <= 2 * $to && !(grep { $_ > $to + LAG } @seen),
			"$name - time") or diag("$time @seen, not from $from to $to");
	}

	if ($case->{log}) {
		ok(wait_log($t, 'error.log', $case->{log}, 1),
			"$name - message");
	}
}

sub compare {
	my ($case, $what, $n) = @_;

	my $expected = $case->{$what};

	return if !defined $expected;
	return if $expected eq 'some' ? $n > 0 : $n == $expected;
	return "$what: $n, expected: $expected";
}

# What is wrong with that which a peer saw.

sub saw {
	my ($case, $who, $line, $n, $expected) = @_;

	my ($got, $state, undef, undef, $told, $notes) = split ' ', $line, 6;
	my @wrong;

	return "$who: nothing" unless defined $state;
	push @wrong, $notes if defined $notes;
	push @wrong, "told: $told" if defined $expected && $told ne $expected;

	my $end = $state eq 'CLOSED' || $case->{reason} eq 'completed'
		? 'EOF' : 'EOF|RESET|TRUNCATED';
	$end = 'CLOSED' if $state eq 'CLOSED';

	push @wrong, "state: $state" unless $state =~ /^(?:$end)\z/;

	if ($state ne 'CLOSED') {
		push @wrong, "got: $got, counted: $n"
			if $case->{lossy} ? $got > $n : $got != $n;
	}

	return map { "$who: $_" } @wrong;
}

###############################################################################

# relay_idle_timeout, relay_send_timeout, relay_max_lifetime

sub timeout_cases {
	my ($front) = @_;

	my $idle = 'relay_idle_timeout 1s;';
	my $send = 'relay_send_timeout 1s;';
	my $life = 'relay_max_lifetime 1s;';

	return (
		with_tls({
			name	=> 'idle',
			conf	=> $idle,
			reason	=> 'idle_timeout',
			received => 0, sent => 0,
			time	=> [ 1, 3 ],
		}),
		with_tls(both_ways({
			name	=> 'not idle, one way',
			conf	=> $idle,
			client	=> [ trickles(9, 1, 0.25), ends() ],
			reason	=> 'completed',
			received => 9, sent => 0,
			time	=> [ 2.25, 6 ],
		})),
		both_ways({
			name	=> 'not idle, half closed',
			conf	=> $idle,
			client	=> [ ends() ],
			target	=> [ trickles(9, 1, 0.25) ],
			reason	=> 'completed',
			received => 0, sent => 9,
			time	=> [ 2.25, 6 ],
		}, {
			name	=> 'idle, half closed',
			conf	=> $idle,
			client	=> [ sends(5), ends() ],
			target	=> [ takes(5), waits(4) ],
			reason	=> 'idle_timeout',
			received => 5, sent => 0,
		}),
		{
			name	=> 'idle after bytes',
			conf	=> $idle,
			client	=> [ waits(0.4), sends(5), takes(3) ],
			target	=> [ takes(5), sends(3) ],
			reason	=> 'idle_timeout',
			received => 5, sent => 3,
			time	=> [ 1.4, 4 ],
		},
		with_splice({
			name	=> 'idle after bulk',
			conf	=> $idle,
			client	=> [ moves(3 * MB, 3 * MB) ],
			target	=> [ moves(3 * MB, 3 * MB) ],
			reason	=> 'idle_timeout',
			received => 3 * MB, sent => 3 * MB,
			time	=> [ 1, 5 ],
		}),
		(map { {
			name	=> "idle timeout $_",
			conf	=> "relay_idle_timeout $_;",
			client	=> [ waits(2), ends() ],
			reason	=> 'completed',
			received => 0, sent => 0,
			time	=> [ 2, 5 ],
		} } 0, 'off', '10s'),

		# a peer that takes nothing

		with_tls(both_ways({
			name	=> 'send timeout',
			conf	=> $send,
			client	=> [ small(), waits(5) ],
			target	=> [ sends(FLOOD), fast(4.9) ],
			reason	=> 'send_timeout',
			received => 0, sent => 'some',
			lossy	=> 1,
			time	=> [ 1, 5 ],
		}, {
			name	=> 'send timeout, half closed',
			conf	=> $send,
			client	=> [ small(), ends(), waits(5) ],
			target	=> [ sends(FLOOD), fast(4.9) ],
			reason	=> 'send_timeout',
			received => 0, sent => 'some',
			lossy	=> 1,
			time	=> [ 1, 5 ],
		})),
		with_splice({
			name	=> 'send timeout, after bytes',
			conf	=> $send,
			client	=> [ small(), takes(2 * MB), waits(5) ],
			target	=> [ sends(FLOOD), fast(4.9) ],
			reason	=> 'send_timeout',
			received => 0, sent => 'some',
			lossy	=> 1,
			time	=> [ 1, 5 ],
		}),

		# the other direction is no help

		{
			name	=> 'send timeout, other direction busy',
			conf	=> $send,
			client	=> [ small(), trickles(40, 1, 0.1) ],
			target	=> [ sends(FLOOD), fast(4.9) ],
			reason	=> 'send_timeout',
			received => 'some', sent => 'some',
			lossy	=> 1,
			time	=> [ 1, 5 ],
		},
		with_tls(both_ways({
			name	=> 'slow but no send timeout',
			conf	=> 'relay_send_timeout 2s;',
			client	=> [ small(), dawdles(MANY, 3 * MB, 0.4) ],
			target	=> [ sends(MANY), ends() ],
			reason	=> 'completed',
			received => 0, sent => MANY,
			time	=> [ 3, 14 ],
		})),
		{
			name	=> 'nothing to send, no send timeout',
			conf	=> $send,
			client	=> [ sends(5), takes(5), waits(2), ends() ],
			target	=> [ takes(5), sends(5) ],
			reason	=> 'completed',
			received => 5, sent => 5,
			time	=> [ 2, 5 ],
		},
		{
			name	=> 'send timeout off',
			conf	=> 'relay_send_timeout off;',
			client	=> [ small(), waits(2.5) ],
			target	=> [ sends(MANY), ends() ],
			reason	=> 'completed',
			received => 0, sent => MANY,
			time	=> [ 2.5, 9 ],
		},

		# a tunnel that is too old

		with_tls({
			name	=> 'lifetime',
			conf	=> $life,
			reason	=> 'max_lifetime',
			received => 0, sent => 0,
			time	=> [ 1, 3 ],
		}, {
			name	=> 'lifetime of an active tunnel',
			conf	=> $life,
			client	=> [ trickles(300, 3, 0.05) ],
			target	=> [ trickles(500, 5, 0.05) ],
			reason	=> 'max_lifetime',
			received => 'some', sent => 'some',
			time	=> [ 1, 7 ],
		}),
		with_splice({
			name	=> 'lifetime of a bulk tunnel',
			conf	=> "$life relay_max_rate 4m;",
			client	=> [ moves(FLOOD, FLOOD) ],
			target	=> [ moves(FLOOD, FLOOD) ],
			reason	=> 'max_lifetime',
			received => 'some', sent => 'some',
			lossy	=> 1,
			time	=> [ 1, 4 ],
		}),
		both_ways({
			name	=> 'lifetime, half closed',
			conf	=> 'relay_max_lifetime 2s;',
			client	=> [ sends(7), ends() ],
			target	=> [ trickles(500, 5, 0.05) ],
			reason	=> 'max_lifetime',
			received => 7, sent => 'some',
			lossy	=> 1,
		}),
		{
			name	=> 'younger than its lifetime',
			conf	=> 'relay_max_lifetime 4s;',
			client	=> [ sends(7), takes(7), waits(0.8), ends() ],
			target	=> [ takes(7), sends(7) ],
			reason	=> 'completed',
			received => 7, sent => 7,
			time	=> [ 0.8, 3.9 ],
		},
		{
			name	=> 'lifetime off',
			conf	=> 'relay_max_lifetime off;',
			client	=> [ waits(2), ends() ],
			reason	=> 'completed',
			received => 0, sent => 0,
			time	=> [ 2, 5 ],
		},
		$front eq 'socks' ? handshake_cases() : (),
	);
}

# What is said before a tunnel has a time of its own.

sub handshake_cases {
	my $slow = { split => [ 1, 3, delay => 0.5 ] };

	return map {
		my $socks = $_;

		with_tls({
			name	=> "handshake timeout is over, $socks",
			socks	=> $socks,
			conf	=> 'socks_handshake_timeout 1s;',
			client	=> [ sends(5), waits(2), sends(5), takes(3),
				ends() ],
			target	=> [ takes(10), sends(3) ],
			reason	=> 'completed',
			received => 10, sent => 3,
			time	=> [ 2, 5 ],
		}, {
			name	=> "lifetime after a slow handshake, $socks",
			socks	=> $socks,
			connect	=> $slow,
			conf	=> 'relay_max_lifetime 900ms; '
				. 'relay_idle_timeout 800ms;',
			client	=> [ sends(5), takes(3), waits(0.5),
				sends(5) ],
			target	=> [ takes(5), sends(3) ],
			reason	=> 'max_lifetime',
			received => 10, sent => 3,
			time	=> [ 0.9, 5 ],
		});
	} '4', '5', '4a', '5 name';
}

###############################################################################

# relay_min_rate; 100 bytes a second are 6000 a minute

sub min_rate_cases {
	my ($front) = @_;

	my $conf = 'relay_min_rate 6000 window=1s;';

	return (
		with_tls({
			name	=> 'silent',
			conf	=> $conf,
			reason	=> 'min_rate',
			received => 0, sent => 0,
			time	=> [ 2, 5 ],
		}, {
			name	=> 'fast, then silent',
			conf	=> $conf,
			client	=> [ sends(500000), takes(500000) ],
			target	=> [ takes(500000), sends(500000) ],
			reason	=> 'min_rate',
			received => 500000, sent => 500000,
			time	=> [ 2, 6 ],
		}),
		with_tls(both_ways({
			name	=> 'too slow',
			conf	=> $conf,
			client	=> [ trickles(500, 10, 0.2) ],
			reason	=> 'min_rate',
			received => 'some', sent => 0,
			time	=> [ 2, 7 ],
		})),
		both_ways({
			name	=> 'too slow, half closed',
			conf	=> $conf,
			client	=> [ ends() ],
			target	=> [ trickles(200, 10, 0.2) ],
			reason	=> 'min_rate',
			received => 0, sent => 'some',
			lossy	=> 1,
		}),

		# 200 in a window

		with_tls({
			name	=> 'both directions fast enough',
			conf	=> 'relay_min_rate 6000 window=2s grace=0;',
			client	=> [ trickles(380, 15, 0.18), ends() ],
			target	=> [ trickles(380, 15, 0.18), ends() ],
			reason	=> 'completed',
			received => 380, sent => 380,
			time	=> [ 4.3, 10 ],
		}),
		{
			name	=> 'both directions too slow',
			conf	=> 'relay_min_rate 6000 window=2s grace=0;',
			client	=> [ trickles(380, 7, 0.2) ],
			target	=> [ trickles(380, 7, 0.2) ],
			reason	=> 'min_rate',
			received => 'some', sent => 'some',
			lossy	=> 1,
			time	=> [ 2, 5 ],
		},

		# the limit itself: what is not too slow in the first window is
		# too slow in the second

		both_ways({
			name	=> 'a byte too few',
			conf	=> 'relay_min_rate 6000 window=2s grace=off;',
			client	=> [ sends(199) ],
			reason	=> 'min_rate',
			received => 199, sent => 0,
			time	=> [ 2, 3.9 ],
		}, {
			name	=> 'just enough',
			conf	=> 'relay_min_rate 6000 window=2s grace=off;',
			client	=> [ sends(200) ],
			reason	=> 'min_rate',
			received => 200, sent => 0,
			time	=> [ 4, 8 ],
		}),
		{
			name	=> 'just enough, both ways',
			conf	=> 'relay_min_rate 6000 window=2s grace=0;',
			client	=> [ sends(120) ],
			target	=> [ sends(80) ],
			reason	=> 'min_rate',
			received => 120, sent => 80,
			time	=> [ 4, 8 ],
		},

		# bytes in the grace do not count

		{
			name	=> 'grace',
			conf	=> 'relay_min_rate 6000 window=1s grace=3s;',
			client	=> [ sends(5000) ],
			target	=> [ takes(5000) ],
			reason	=> 'min_rate',
			received => 5000, sent => 0,
			time	=> [ 4, 8 ],
		},
		{
			name	=> 'short grace',
			conf	=> 'relay_min_rate 6000 grace=500ms window=1s;',
			reason	=> 'min_rate',
			received => 0, sent => 0,
			time	=> [ 1.5, 3.9 ],
		},
		{
			name	=> 'no grace',
			conf	=> 'relay_min_rate 6000 window=1s grace=off;',
			reason	=> 'min_rate',
			received => 0, sent => 0,
			time	=> [ 1, 2.9 ],
		},

		# a window is a minute long

		{
			name	=> 'default window',
			conf	=> 'relay_min_rate 6000 grace=1s;',
			client	=> [ waits(3), ends() ],
			reason	=> 'completed',
			received => 0, sent => 0,
			time	=> [ 3, 8 ],
		},
		with_splice({
			name	=> 'bulk, then silent',
			conf	=> 'relay_min_rate 60m window=1s grace=0; '
				. 'relay_max_rate 4m;',
			client	=> [ moves(2 * MB, 6 * MB) ],
			target	=> [ moves(6 * MB, 2 * MB) ],
			reason	=> 'min_rate',
			received => 6 * MB, sent => 2 * MB,
			time	=> [ 2, 6 ],
		}),
		{
			name	=> 'off',
			conf	=> 'relay_min_rate off window=1s grace=0;',
			client	=> [ waits(3), ends() ],
			reason	=> 'completed',
			received => 0, sent => 0,
			time	=> [ 3, 8 ],
		},
	);
}

###############################################################################

# relay_max_rate, relay_upload_rate, relay_download_rate; a second and a half
# of bytes, but for the first tick

sub rate_cases {
	my ($front) = @_;

	my @time = (1.35, 5);

	return (
		with_tls(both_ways({
			name	=> 'max rate',
			conf	=> 'relay_max_rate 100k;',
			client	=> [ sends(160 * KB), ends() ],
			target	=> [ smooth(160 * KB, 6) ],
			reason	=> 'completed',
			received => 160 * KB, sent => 0,
			time	=> [ @time ],
		}, {
			name	=> 'rate of one direction',
			conf	=> 'relay_upload_rate 100k;',
			client	=> [ sends(160 * KB), ends() ],
			target	=> [ smooth(160 * KB, 6) ],
			reason	=> 'completed',
			received => 160 * KB, sent => 0,
			time	=> [ @time ],
		}), {
			name	=> 'max rate, both at once',
			conf	=> 'relay_max_rate 100k;',
			client	=> [ moves(160 * KB, 160 * KB), ends() ],
			target	=> [ moves(160 * KB, 160 * KB), ends() ],
			reason	=> 'completed',
			received => 160 * KB, sent => 160 * KB,
			time	=> [ @time ],
		}),

		# the other direction is as fast as can be: this would be 80 s

		both_ways({
			name	=> 'one direction slow, the other fast',
			conf	=> 'relay_upload_rate 100k;',
			client	=> [ moves(8 * MB, 160 * KB), ends() ],
			target	=> [ moves(160 * KB, 8 * MB), ends() ],
			reason	=> 'completed',
			received => 160 * KB, sent => 8 * MB,
			time	=> [ @time ],
		}, {
			name	=> 'one direction as all, the other not',
			conf	=> 'relay_max_rate 100k; '
				. 'relay_download_rate off;',
			client	=> [ moves(8 * MB, 160 * KB), ends() ],
			target	=> [ moves(160 * KB, 8 * MB), ends() ],
			reason	=> 'completed',
			received => 160 * KB, sent => 8 * MB,
			time	=> [ @time ],
		}, {
			name	=> 'directions of their own',
			conf	=> 'relay_max_rate 1k; relay_upload_rate 100k; '
				. 'relay_download_rate 1m;',
			client	=> [ moves(1600 * KB, 160 * KB), ends() ],
			target	=> [ moves(160 * KB, 1600 * KB), ends() ],
			reason	=> 'completed',
			received => 160 * KB, sent => 1600 * KB,
			time	=> [ @time ],
		}),
		with_splice({
			name	=> 'fast',
			conf	=> 'relay_max_rate 4m;',
			client	=> [ moves(6 * MB, 6 * MB), ends() ],
			target	=> [ moves(6 * MB, 6 * MB), ends() ],
			reason	=> 'completed',
			received => 6 * MB, sent => 6 * MB,
			time	=> [ @time ],
		}, both_ways({
			name	=> 'smooth',
			conf	=> 'relay_max_rate 1m;',
			client	=> [ sends(1600 * KB), ends() ],
			target	=> [ smooth(1600 * KB, 7) ],
			reason	=> 'completed',
			received => 1600 * KB, sent => 0,
			time	=> [ @time ],
		})),
		(map { {
			name	=> "buffer of $_",
			conf	=> "relay_max_rate 1m; relay_buffer_size $_;",
			client	=> [ moves(1500 * KB, 1500 * KB), ends() ],
			target	=> [ moves(1500 * KB, 1500 * KB), ends() ],
			reason	=> 'completed',
			received => 1500 * KB, sent => 1500 * KB,
			time	=> [ 1.3, 5 ],
		} } qw/ 1k 16k 1m /),
		{
			name	=> 'early bytes count',
			conf	=> 'relay_max_rate 20k;',
			early	=> 14 * KB,
			client	=> [ sends(18 * KB), ends() ],
			target	=> [ takes(32 * KB) ],
			reason	=> 'completed',
			received => 32 * KB, sent => 0,
			time	=> [ 1.35, 5 ],
		},

		# two seconds of pause are not two seconds of bytes at once

		{
			name	=> 'no credit for a pause',
			conf	=> 'relay_max_rate 100k;',
			client	=> [ waits(2), sends(160 * KB), ends() ],
			target	=> [ smooth(160 * KB, 6) ],
			reason	=> 'completed',
			received => 160 * KB, sent => 0,
			time	=> [ 3.35, 6 ],
		},

		# who sends less is not slowed

		with_tls({
			name	=> 'below the rate',
			conf	=> 'relay_max_rate 100k;',
			client	=> [ (sends(1000), takes(1000)) x 8, fast(2),
				ends() ],
			target	=> [ answers(8, 1000, 1000) ],
			reason	=> 'completed',
			received => 8000, sent => 8000,
		}),
		both_ways({
			name	=> 'slow reader',
			conf	=> 'relay_max_rate 200k;',
			client	=> [ dawdles(320 * KB, 80 * KB, 0.4) ],
			target	=> [ sends(320 * KB), ends() ],
			reason	=> 'completed',
			received => 0, sent => 320 * KB,
			time	=> [ 1.35, 5 ],
		}),
		(map { {
			name	=> "rate $_",
			conf	=> "relay_max_rate $_;",
			client	=> [ moves(8 * MB, 8 * MB), fast(5), ends() ],
			target	=> [ moves(8 * MB, 8 * MB), ends() ],
			reason	=> 'completed',
			received => 8 * MB, sent => 8 * MB,
		} } qw/ off 0 1000g /),
	);
}

###############################################################################

# relay_max_payload

sub payload_cases {
	my ($front) = @_;

	my $n = 100001;
	my $bulk = 5 * MB + 1;
	my $held = MB + 1;		# by sockets

	return (

		# one direction, up to the limit and over it

		with_tls(both_ways({
			name	=> 'exactly the limit',
			conf	=> "relay_max_payload $n upload;",
			client	=> [ sends($n), takes(50), ends() ],
			target	=> [ takes($n), sends(50) ],
			reason	=> 'completed',
			received => $n, sent => 50,
		}, {
			name	=> 'a byte more',
			conf	=> "relay_max_payload $n upload;",
			client	=> [ sends($n + 1) ],
			target	=> [ takes($n) ],
			reason	=> 'max_payload',
			received => $n, sent => 0,
		}, {
			name	=> 'a byte more, later',
			conf	=> "relay_max_payload $n upload;",
			client	=> [ sends($n), takes(50), waits(0.5),
				sends(1) ],
			target	=> [ takes($n), sends(50) ],
			reason	=> 'max_payload',
			received => $n, sent => 50,
			time	=> [ 0.5, 4 ],
		}, {
			name	=> 'many more',
			conf	=> "relay_max_payload $n upload;",
			client	=> [ sends(FLOOD) ],
			reason	=> 'max_payload',
			received => $n, sent => 0,
		})),

		# both together

		with_tls({
			name	=> 'exactly the limit, both',
			conf	=> "relay_max_payload $n;",
			client	=> [ sends($n - 40000), takes(40000), ends() ],
			target	=> [ takes($n - 40000), sends(40000) ],
			reason	=> 'completed',
			received => $n - 40000, sent => 40000,
		}, both_ways({
			name	=> 'a byte more, both',
			conf	=> "relay_max_payload $n;",
			client	=> [ sends($n - 40000), takes(40000) ],
			target	=> [ takes($n - 40000), sends(40001) ],
			reason	=> 'max_payload',
			received => $n - 40000, sent => 40000,
		})),

		# each of them

		both_ways({
			name	=> 'the limit of one first',
			conf	=> "relay_max_payload $n; "
				. 'relay_max_payload 500 upload; '
				. 'relay_max_payload 99999 download;',
			client	=> [ sends(501) ],
			target	=> [ takes(500) ],
			reason	=> 'max_payload',
			received => 500, sent => 0,
		}, {
			name	=> 'the limit of both first',
			conf	=> 'relay_max_payload 1000; '
				. 'relay_max_payload 500 upload; '
				. 'relay_max_payload 800 download;',
			client	=> [ sends(500), takes(500) ],
			target	=> [ takes(500), sends(501) ],
			reason	=> 'max_payload',
			received => 500, sent => 500,
		}, {
			name	=> 'no limit of the other direction',
			conf	=> 'relay_max_payload 500 upload;',
			client	=> [ sends(500), takes(3 * MB), ends() ],
			target	=> [ takes(500), sends(3 * MB) ],
			reason	=> 'completed',
			received => 500, sent => 3 * MB,
		}),

		# bulk, and peers that read late: all arrives nevertheless

		with_splice(both_ways({
			name	=> 'bulk',
			conf	=> "relay_max_payload $bulk upload;",
			client	=> [ sends(FLOOD) ],
			reason	=> 'max_payload',
			received => $bulk, sent => 0,
		}, {
			name	=> 'bulk, exactly',
			conf	=> "relay_max_payload $bulk upload;",
			client	=> [ sends($bulk), ends() ],
			reason	=> 'completed',
			received => $bulk, sent => 0,
		})),
		with_tls(both_ways({
			name	=> 'reader is late',
			conf	=> "relay_max_payload $bulk upload;",
			client	=> [ sends(FLOOD) ],
			target	=> [ small(), waits(1) ],
			reason	=> 'max_payload',
			received => $bulk, sent => 0,
			time	=> [ 1, 5 ],
		}, {
			name	=> 'reader is late and sends in vain',
			conf	=> "relay_max_payload $held upload;",
			client	=> [ sends(FLOOD) ],
			target	=> [ small(), waits(2.5), sends(1000),
				waits(0.5) ],
			reason	=> 'max_payload',
			received => $held, sent => 0,
			time	=> [ 1, 5 ],
		})),

		# early bytes

		with_tls({
			name	=> 'early bytes, exactly',
			conf	=> 'relay_max_payload 1000 upload;',
			early	=> 1000,
			client	=> [ takes(3), ends() ],
			target	=> [ takes(1000), sends(3) ],
			reason	=> 'completed',
			received => 1000, sent => 3,
		}, {
			name	=> 'early bytes, more',
			conf	=> 'relay_max_payload 1000 upload;',
			early	=> 1001,
			target	=> [ takes(1000) ],
			reason	=> 'max_payload',
			received => 1000, sent => 0,
		}, {
			name	=> 'early bytes, many more',
			conf	=> 'relay_max_payload 1000;',
			early	=> 200000,
			reason	=> 'max_payload',
			received => 1000, sent => 0,
		}, {
			name	=> 'early bytes, then more',
			conf	=> 'relay_max_payload 1000;',
			early	=> 600,
			client	=> [ takes(300), sends(101) ],
			target	=> [ takes(600), sends(300) ],
			reason	=> 'max_payload',
			received => 700, sent => 300,
		}),

		$front eq 'socks' ? early_cases() : (),

		# small pieces, half closed peers, a limit of one byte

		both_ways({
			name	=> 'byte by byte',
			conf	=> 'relay_max_payload 5 upload;',
			client	=> [ trickles(9, 1, 0.03) ],
			reason	=> 'max_payload',
			received => 5, sent => 0,
		}, {
			name	=> 'half closed',
			conf	=> 'relay_max_payload 1000 download;',
			client	=> [ sends(2000), ends() ],
			target	=> [ takes(2000), waits(0.2), sends(1001) ],
			reason	=> 'max_payload',
			received => 2000, sent => 1000,
		}, {
			name	=> 'half closed, exactly',
			conf	=> 'relay_max_payload 1000 download;',
			client	=> [ sends(2000), ends() ],
			target	=> [ takes(2000), waits(0.2), sends(1000) ],
			reason	=> 'completed',
			received => 2000, sent => 1000,
		}, {
			name	=> 'one byte',
			conf	=> 'relay_max_payload 1 upload;',
			client	=> [ sends(2) ],
			reason	=> 'max_payload',
			received => 1, sent => 0,
		}),
		{
			name	=> 'limit reached, then silence',
			conf	=> 'relay_max_payload 10;',
			client	=> [ sends(10), waits(1), ends() ],
			target	=> [ takes(10) ],
			reason	=> 'completed',
			received => 10, sent => 0,
			time	=> [ 1, 5 ],
		},
		(map { {
			name	=> "limit $_",
			conf	=> "relay_max_payload $_; "
				. "relay_max_payload $_ upload; "
				. "relay_max_payload $_ download;",
			client	=> [ sends(MB), takes(MB), ends() ],
			target	=> [ takes(MB), sends(MB) ],
			reason	=> 'completed',
			received => MB, sent => MB,
		} } qw/ off 0 /),
	);
}

# Every way to ask, with few and with many bytes behind it.

sub early_cases {
	return map {
		my $socks = $_;

		with_tls({
			name	=> "early bytes, $socks",
			socks	=> $socks,
			conf	=> 'relay_max_payload 1000;',
			early	=> 600,
			client	=> [ takes(300), sends(101) ],
			target	=> [ takes(600), sends(300) ],
			reason	=> 'max_payload',
			received => 700, sent => 300,
		}, {
			name	=> "early bulk, $socks",
			socks	=> $socks,
			conf	=> 'relay_max_payload 2m; relay_splice on;',
			early	=> MB,
			client	=> [ sends(MB + 1) ],
			reason	=> 'max_payload',
			received => 2 * MB, sent => 0,
		});
	} '4', '4a', '5', '5 glued', '5 name';
}

###############################################################################

# relay_half_close: a peer that keeps its side open would keep the tunnel

sub half_close_cases {
	my ($front) = @_;

	my $off = 'relay_half_close off;';
	my $size = 3 * MB + 1;

	return (
		with_tls(both_ways({
			name	=> 'on',
			conf	=> 'relay_half_close on;',
			client	=> [ sends(5), ends() ],
			target	=> [ takes(6), waits(1.2), sends(7) ],
			reason	=> 'completed',
			received => 5, sent => 7,
			time	=> [ 1.2, 5 ],
		}, {
			name	=> 'default',
			client	=> [ sends(5), ends() ],
			target	=> [ takes(6), waits(1.2), sends(7) ],
			reason	=> 'completed',
			received => 5, sent => 7,
			time	=> [ 1.2, 5 ],
		}, {
			name	=> 'off',
			conf	=> $off,
			client	=> [ sends(5), ends(), gone(1.5) ],
			target	=> [ takes(6), waits(3) ],
			reason	=> 'client_closed',
			received => 5, sent => 0,
		}, {
			name	=> 'off, without bytes',
			conf	=> $off,
			client	=> [ ends(), gone(1.5) ],
			target	=> [ takes(1), waits(3) ],
			reason	=> 'client_closed',
			received => 0, sent => 0,
		}, {
			name	=> 'off, after bytes both ways',
			conf	=> $off,
			client	=> [ sends(5), takes(8), ends(), gone(1.5) ],
			target	=> [ takes(5), sends(8), waits(3) ],
			reason	=> 'client_closed',
			received => 5, sent => 8,
		}, {
			name	=> 'off, the other reads late',
			conf	=> $off,
			client	=> [ sends($size), ends() ],
			target	=> [ small(), waits(1) ],
			reason	=> 'client_closed',
			received => $size, sent => 0,
			time	=> [ 1, 6 ],
		})),
		with_splice(both_ways({
			name	=> 'off, bulk',
			conf	=> $off,
			client	=> [ sends($size), ends(), gone(2.5) ],
			target	=> [ takes($size + 1), waits(3) ],
			reason	=> 'client_closed',
			received => $size, sent => 0,
		})),

		# the other one still sends

		both_ways({
			name	=> 'off, the other sends',
			conf	=> $off,
			client	=> [ sends(5), takes(6), ends() ],
			target	=> [ takes(5), trickles(300, 3, 0.05) ],
			reason	=> 'client_closed',
			received => 5, sent => 'some',
			lossy	=> 1,
			time	=> [ 0, 4 ],
		}, {
			name	=> 'off, reset',
			conf	=> $off,
			client	=> [ sends(5), takes(6), resets() ],
			target	=> [ takes(5), sends(6) ],
			reason	=> 'client_reset',
			received => 5, sent => 6,
		}),
	);
}

###############################################################################

# Values from variables.  A user is an address of the PROXY protocol, and has
# a value; those from 101 on have values of http or stream.

my @users = ('', qw/ off 0 1 10 1s 500ms 6000 100k 1000 1q -1 x
	99999999999999999999 /);
my @invalid = qw/ 1q -1 x 99999999999999999999 /;

sub variable_conf {
	my ($front) = @_;

	my $users = join '', map { qq!        192.0.2.$_ "$users[$_]";\n! }
		0 .. $#users;

	my $conf = <<"EOF";
    map \$proxy_protocol_addr \$v {
$users    }

    map \$proxy_protocol_addr \$lifetime {
        192.0.2.101 1s;
    }

    map \$proxy_protocol_addr \$upload {
        192.0.2.102 10;
    }

    map \$proxy_protocol_addr \$rate {
        192.0.2.103 6000;
    }

    relay_max_lifetime \$lifetime;
    relay_max_payload \$upload upload;
    relay_min_rate \$rate window=1s grace=1s;

EOF

	$conf .= <<'EOF' if $front eq 'socks';
    map $socks_user $by_user {
        alice 1000;
        default 5;
    }

    map $socks_version $by_version {
        4 400;
        4a 401;
        5 500;
    }

    map $socks_command $by_command {
        connect 100;
        default 5;
    }

    map $tunnel_host $by_host {
        name.example 200;
        127.0.0.1 201;
        default 5;
    }

EOF

	$conf .= <<'EOF' if front_http($front);
    map $remote_user $by_name {
        alice 1000;
        default 5;
    }

EOF

	return $conf;
}

sub variable_files {
	return (users => "alice:{PLAIN}secret\nbob:{PLAIN}secret\n");
}

sub user {
	my ($n) = @_;

	return (
		listen	=> 'proxy_protocol',
		connect	=> { proxy_protocol =>
			proxy_protocol('v1', src => "192.0.2.$n") },
	);
}

sub value {
	my ($value) = @_;

	my ($n) = grep { $users[$_] eq $value } 0 .. $#users;

	return user($n);
}

sub variable_cases {
	my ($front) = @_;

	my @stays = (
		client	=> [ waits(1.5), ends() ],
		reason	=> 'completed',
		received => 0, sent => 0,
		time	=> [ 1.5, 5 ],
	);

	my @cases = (
		{
			name	=> 'relay_idle_timeout $v',
			value('1s'),
			conf	=> 'relay_idle_timeout $v;',
			reason	=> 'idle_timeout',
			received => 0, sent => 0,
			time	=> [ 1, 3 ],
		},
		{
			name	=> 'relay_send_timeout $v',
			value('1s'),
			conf	=> 'relay_send_timeout $v;',
			client	=> [ small(), waits(5) ],
			target	=> [ sends(FLOOD), fast(4.9) ],
			reason	=> 'send_timeout',
			received => 0, sent => 'some',
			lossy	=> 1,
			time	=> [ 1, 5 ],
		},
		{
			name	=> 'relay_max_lifetime $v',
			value('500ms'),
			conf	=> 'relay_max_lifetime $v;',
			reason	=> 'max_lifetime',
			received => 0, sent => 0,
			time	=> [ 0.5, 2 ],
		},
		{
			name	=> 'relay_min_rate $v',
			value('6000'),
			conf	=> 'relay_min_rate $v window=1s grace=0;',
			reason	=> 'min_rate',
			received => 0, sent => 0,
			time	=> [ 1, 3 ],
		},
		{
			name	=> 'relay_min_rate window=$v grace=$v',
			value('1s'),
			conf	=> 'relay_min_rate 1 window=$v grace=$v;',
			reason	=> 'min_rate',
			received => 0, sent => 0,
			time	=> [ 2, 5 ],
		},
		(map { {
			name	=> "$_ \$v",
			value('100k'),
			conf	=> "$_ \$v;",
			client	=> [ sends(160 * KB), ends() ],
			target	=> [ takes(160 * KB) ],
			reason	=> 'completed',
			received => 160 * KB, sent => 0,
			time	=> [ 1.35, 5 ],
		} } qw/ relay_max_rate relay_upload_rate /),
		{
			name	=> 'relay_download_rate $v',
			value('100k'),
			conf	=> 'relay_download_rate $v;',
			client	=> [ takes(160 * KB) ],
			target	=> [ sends(160 * KB), ends() ],
			reason	=> 'completed',
			received => 0, sent => 160 * KB,
			time	=> [ 1.35, 5 ],
		},
		(map { {
			name	=> "relay_max_payload $_",
			value('1000'),
			conf	=> "relay_max_payload $_;",
			client	=> [ sends(1001) ],
			reason	=> 'max_payload',
			received => 1000, sent => 0,
		} } '$v', '$v upload'),
		{
			name	=> 'relay_max_payload $v download',
			value('1000'),
			conf	=> 'relay_max_payload $v download;',
			target	=> [ sends(1001) ],
			reason	=> 'max_payload',
			received => 0, sent => 1000,
		},

		# several users, and text around

		(map { {
			name	=> "relay_max_payload \${v}0, $_",
			value($_),
			conf	=> 'relay_max_payload ${v}0;',
			client	=> [ sends(20000) ],
			reason	=> 'max_payload',
			received => 10 * $_, sent => 0,
		} } 1, 10, 1000),
		{
			name	=> 'relay_max_payload ${v}k',
			value('1'),
			conf	=> 'relay_max_payload ${v}k;',
			client	=> [ sends(1025) ],
			reason	=> 'max_payload',
			received => 1024, sent => 0,
		},

		# none

		(map {
			my $value = $_;
			my $name = length $value ? $value : 'empty';

			({
				name	=> "relay_max_lifetime $name",
				value($value),
				conf	=> 'relay_max_lifetime $v;',
				@stays,
			}, {
				name	=> "relay_idle_timeout $name",
				value($value),
				conf	=> 'relay_idle_timeout $v;',
				@stays,
			}, {
				name	=> "relay_min_rate $name",
				value($value),
				conf	=> 'relay_min_rate $v window=1s '
					. 'grace=0;',
				@stays,
			}, {
				name	=> "relay_max_payload $name",
				value($value),
				conf	=> 'relay_max_payload $v; '
					. 'relay_max_payload $v upload;',
				client	=> [ sends(5000), ends() ],
				reason	=> 'completed',
				received => 5000, sent => 0,
			}, {
				name	=> "relay_max_rate $name",
				value($value),
				conf	=> 'relay_max_rate $v;',
				client	=> [ sends(8 * MB), ends() ],
				target	=> [ takes(8 * MB), fast(5) ],
				reason	=> 'completed',
				received => 8 * MB, sent => 0,
			});
		} '', 'off', 0),
		{
			name	=> 'relay_upload_rate empty',
			value(''),
			conf	=> 'relay_max_rate 100k; relay_upload_rate $v;',
			client	=> [ sends(160 * KB), ends() ],
			reason	=> 'completed',
			received => 160 * KB, sent => 0,
			time	=> [ 1.35, 5 ],
		},
		{
			name	=> 'relay_upload_rate off',
			value('off'),
			conf	=> 'relay_max_rate 100k; relay_upload_rate $v;',
			client	=> [ sends(8 * MB), ends() ],
			target	=> [ takes(8 * MB), fast(5) ],
			reason	=> 'completed',
			received => 8 * MB, sent => 0,
		},
		{
			name	=> 'relay_min_rate window= empty',
			value(''),
			conf	=> 'relay_min_rate 6000 window=$v grace=0;',
			@stays,
		},

		# from http or stream

		{
			name	=> 'inherited',
			user(101),
			reason	=> 'max_lifetime',
			received => 0, sent => 0,
			time	=> [ 1, 3 ],
		},
		{
			name	=> 'not inherited',
			user(101),
			conf	=> 'relay_max_lifetime off;',
			@stays,
		},
		{
			name	=> 'variable instead of variable',
			value('500ms'),
			conf	=> 'relay_max_lifetime $v;',
			reason	=> 'max_lifetime',
			received => 0, sent => 0,
			time	=> [ 0.5, 3 ],
		},
		{
			name	=> 'relay_max_payload inherited',
			user(102),
			client	=> [ sends(100) ],
			reason	=> 'max_payload',
			received => 10, sent => 0,
		},
		{
			name	=> 'relay_max_payload not inherited',
			user(102),
			conf	=> 'relay_max_payload 50 download;',
			client	=> [ sends(100) ],
			target	=> [ takes(100), sends(51) ],
			reason	=> 'max_payload',
			received => 100, sent => 50,
		},
		{
			name	=> 'relay_min_rate inherited',
			user(103),
			reason	=> 'min_rate',
			received => 0, sent => 0,
			time	=> [ 2, 5 ],
		},
		{
			name	=> 'relay_min_rate not inherited',
			user(103),
			conf	=> 'relay_min_rate off;',
			client	=> [ waits(3), ends() ],
			reason	=> 'completed',
			received => 0, sent => 0,
			time	=> [ 3, 7 ],
		},

		# wrong values

		(map {
			my ($directive, $name, @values) = @$_;

			map {
				{
					name	=> "$directive, $_",
					value($_),
					conf	=> "$directive;",
					result	=> 'internal',
					log	=> qr/\[error\].*\Qinvalid\E
						\Q "$name" value "$_"\E/x,
				}
			} @values;
		}
			[ 'relay_idle_timeout $v', 'relay_idle_timeout',
				@invalid ],
			[ 'relay_max_payload $v', 'relay_max_payload',
				@invalid ],
			(map { [ "$_ \$v", $_, '1q' ] } qw/ relay_send_timeout
				relay_max_lifetime relay_min_rate
				relay_max_rate relay_upload_rate
				relay_download_rate /),
			[ 'relay_min_rate 1 window=$v',
				'relay_min_rate window=', '1q', '500ms', 'off',
				'0' ],
			[ 'relay_min_rate 1 grace=$v', 'relay_min_rate grace=',
				'x' ],
			[ 'relay_max_payload $v upload',
				'relay_max_payload upload', 'x' ],
			[ 'relay_max_payload $v download',
				'relay_max_payload download', 'x' ]),
	);

	return @cases if $front eq 'stream' || $front eq 'preread';
	return @cases, socks_variable_cases() if $front eq 'socks';

	return @cases, (
		{
			name	=> 'inherited by location',
			value('500ms'),
			conf	=> 'relay_max_lifetime $v;',
			location => 'relay_idle_timeout 1h;',
			reason	=> 'max_lifetime',
			received => 0, sent => 0,
			time	=> [ 0.5, 2 ],
		},
		{
			name	=> 'constant in location',
			value('500ms'),
			conf	=> 'relay_max_lifetime $v;',
			location => 'relay_max_lifetime off;',
			@stays,
		},
		{
			name	=> 'variable in location',
			value('1000'),
			conf	=> 'relay_max_payload 5;',
			location => 'relay_max_payload $v;',
			client	=> [ sends(1001) ],
			reason	=> 'max_payload',
			received => 1000, sent => 0,
		},
		{
			name	=> 'wrong in location',
			value('x'),
			location => 'relay_max_payload $v;',
			result	=> 'internal',
			log	=> qr/invalid "relay_max_payload" value "x"/,
		},
		(map {
			my ($name, $n) = @$_;
			{
				name	=> "user $name",
				headers	=> [ 'Proxy-Authorization: Basic '
					. encode_base64("$name:secret", '') ],
				conf	=> 'auth_basic proxy; '
					. 'auth_basic_user_file users;',
				location => 'relay_max_payload $by_name;',
				client	=> [ sends(1001) ],
				reason	=> 'max_payload',
				received => $n, sent => 0,
			}
		} [ 'alice', 1000 ], [ 'bob', 5 ]),
	);
}

# What is only known once the client has said it.

sub socks_variable_cases {
	my $basic = 'socks_auth basic proxy users;';

	my @cut = map {
		my ($name, $n, $value, $socks, $connect, $conf) = @$_;

		{
			name	=> $name,
			socks	=> $socks,
			connect	=> $connect || {},
			conf	=> ($conf || '')
				. " relay_max_payload $value upload;",
			client	=> [ sends(1001) ],
			reason	=> 'max_payload',
			received => $n, sent => 0,
		};
	} (
		[ 'user alice', 1000, '$by_user', '5',
			{ auth => 'alice:secret' }, $basic ],
		[ 'user bob', 5, '$by_user', '5 name',
			{ auth => 'bob:secret' }, $basic ],
		[ 'no user', 5, '$by_user', '5' ],
		[ 'userid alice', 1000, '$by_user', '4',
			{ user => 'alice' } ],
		[ 'userid carol', 5, '$by_user', '4a',
			{ user => 'carol' } ],
		[ 'no userid', 5, '$by_user', '4' ],
		(map { [ "version $_->[0]", $_->[1], '$by_version', $_->[0] ] }
			[ '4', 400 ], [ '4a', 401 ], [ '5', 500 ],
			[ '5 glued', 500 ], [ '5 name', 500 ]),
		[ 'command of 4', 100, '$by_command', '4' ],
		[ 'command of 5', 100, '$by_command', '5' ],
		(map { [ "host of $_->[0]", $_->[1], '$by_host', $_->[0] ] }
			[ '4', 201 ], [ '4a', 200 ], [ '5', 201 ],
			[ '5 name', 200 ]),
	);

	return @cut, map {
		{
			name	=> "wrong value, userid of $_",
			socks	=> $_,
			connect	=> { user => '1q' },
			conf	=> 'relay_max_payload $socks_user;',
			result	=> 'internal',
			log	=> qr/\[error\].*\Qinvalid\E
				\Q "relay_max_payload" value "1q"\E/x,
		}
	} qw/ 4 4a /;
}

###############################################################################

# Several limits at once: the first one that is reached ends the tunnel.

sub combined_conf {
	my ($front) = @_;

	return <<'EOF';
    relay_quota_zone $server_port zone=spent:1m limit=1000 per=1h;

EOF
}

sub combined_cases {
	my ($front) = @_;

	my $all = 'relay_idle_timeout 1s; relay_send_timeout 1500ms; '
		. 'relay_max_lifetime 3s; '
		. 'relay_min_rate 600000 window=1s grace=1500ms; '
		. 'relay_max_payload 3m; '
		. 'relay_max_payload 2500k upload; '
		. 'relay_max_payload 2500k download; '
		. 'relay_socket_keepalive on; relay_buffer_size 32k;';

	my $rate = 'relay_max_rate 2m;';

	my $end = 'relay_idle_timeout %s; relay_send_timeout %s; '
		. 'relay_max_lifetime %s;';

	my @full = (
		client	=> [ sends(FLOOD), fast(4.9) ],
		target	=> [ small(), waits(5) ],
		received => 'some', sent => 0,
		lossy	=> 1,
	);

	return (

		# combined_check() comes back to it

		{
			name	=> 'none',
			client	=> [ takes(1), ends() ],
			target	=> [ sends(1) ],
			reason	=> 'completed',
			received => 0, sent => 1,
		},

		with_tls({
			name	=> 'all, silent',
			conf	=> $all . $rate,
			reason	=> 'idle_timeout',
			received => 0, sent => 0,
			time	=> [ 1, 2.9 ],
		}, both_ways({
			name	=> 'all, slow',
			conf	=> $all . $rate,
			client	=> [ trickles(200, 4, 0.1) ],
			reason	=> 'min_rate',
			received => 'some', sent => 0,
			time	=> [ 2.5, 6 ],
		}, {
			name	=> 'all, reset',
			conf	=> $all . $rate,
			client	=> [ sends(1000), takes(1000), resets() ],
			target	=> [ takes(1000), sends(1000) ],
			reason	=> 'client_reset',
			received => 1000, sent => 1000,
		}, {
			name	=> 'all, closed',
			conf	=> "$all $rate relay_half_close off;",
			client	=> [ sends(1000), takes(1000), ends() ],
			target	=> [ takes(1000), sends(1000) ],
			reason	=> 'client_closed',
			received => 1000, sent => 1000,
		}), {
			name	=> 'all, completed',
			conf	=> $all . $rate,
			client	=> [ sends(1000), takes(1000), ends() ],
			target	=> [ takes(1000), sends(1000) ],
			reason	=> 'completed',
			received => 1000, sent => 1000,
		}),
		with_splice({
			name	=> 'all, old',
			conf	=> $all . $rate,
			client	=> [ trickles(MB, 15000, 0.1) ],
			target	=> [ trickles(MB, 15000, 0.1) ],
			reason	=> 'max_lifetime',
			received => 'some', sent => 'some',
			lossy	=> 1,
			time	=> [ 3, 7 ],
		}, {
			name	=> 'all, too much',
			conf	=> $all . $rate,
			client	=> [ moves(2400 * KB, 2400 * KB) ],
			target	=> [ moves(2400 * KB, 2400 * KB) ],
			reason	=> 'max_payload',
			received => 'some', sent => 'some',
			total	=> 3 * MB,
			time	=> [ 0.5, 2.9 ],
		}, both_ways({
			name	=> 'all, too much one way',
			conf	=> "$all $rate relay_upload_rate off; "
				. 'relay_download_rate off;',
			client	=> [ sends(FLOOD) ],
			reason	=> 'max_payload',
			received => 2500 * KB, sent => 0,
		})),

		# which one is first

		both_ways({
			name	=> 'send timeout first',
			conf	=> sprintf($end, '10s', '1s', '10s'),
			reason	=> 'send_timeout',
			@full,
		}, {
			name	=> 'idle timeout first',
			conf	=> sprintf($end, '1s', '10s', '10s'),
			reason	=> 'idle_timeout',
			@full,
		}, {
			name	=> 'lifetime first',
			conf	=> sprintf($end, '10s', '10s', '1s'),
			reason	=> 'max_lifetime',
			@full,
		}, {
			name	=> 'payload out while the peer takes nothing',
			conf	=> 'relay_max_payload 100k; '
				. 'relay_idle_timeout 4s;',
			client	=> [ sends(FLOOD) ],
			target	=> [ small(), waits(1) ],
			reason	=> 'max_payload',
			received => 100 * KB, sent => 0,
		}),

		# a throttled tunnel is neither idle nor too slow

		{
			name	=> 'throttled',
			conf	=> 'relay_max_rate 10k; relay_idle_timeout 1s; '
				. 'relay_min_rate 60k window=1s grace=0; '
				. 'relay_max_payload 20k;',
			client	=> [ sends(20 * KB), ends() ],
			target	=> [ takes(20 * KB) ],
			reason	=> 'completed',
			received => 20 * KB, sent => 0,
			time	=> [ 1.7, 5 ],
		},

		# quotas

		both_ways({
			name	=> 'quota before payload',
			conf	=> 'relay_quota spent; relay_max_payload 1001;',
			client	=> [ sends(1100) ],
			reason	=> 'quota',
			received => 1000, sent => 0,
		}, {
			name	=> 'payload before quota',
			conf	=> 'relay_quota spent; relay_max_payload 999;',
			client	=> [ sends(1100) ],
			reason	=> 'max_payload',
			received => 999, sent => 0,
		}),
	);
}

# A retiring worker ends what is still there.

sub combined_tests {
	my ($front) = @_;

	return 4 unless defined $front && $front eq 'socks';
	return 6;
}

sub combined_check {
	my ($t, $front, $cases) = @_;

	my $case = $cases->[0];
	my $addr = "127.0.0.1:$case->{port}";

	# clients that have not said what they want

	my @early;

	for my $said ($front eq 'socks' ? ('', socks5_greeting()) : ()) {
		push @early, client_connect($case->{proxy});
		write_all($early[-1], $said);
	}

	my ($s) = client_start($front, $case, '');
	is(read_n($s, 1), pattern(1), 'tunnel before a reload');

	$t->reload();

	like((read_all($s, 6))[1], qr/^(?:EOF|RESET)\z/, 'reload - end');
	like(wait_log($t, "$case->{id}.log", qr/shutdown/) || '',
		qr/^ok shutdown 0 1 /, 'reload - reason');
	ok(wait_log($t, 'error.log', qr/\Q at $addr ended: shutdown, \E
		\Qreceived: 0, sent: 1\E\b/x), 'reload - error log');

	is((read_all($_, 6))[1], 'EOF', 'reload - end before a tunnel')
		for @early;
}

###############################################################################

1;

###############################################################################
