package Test::Nginx::H2Bridge;

# Tunnels of HTTP/2 as connections of their own, so that the tests that know a
# socket run on streams as well.  A process between the two translates: the
# end of the data is END_STREAM, and a reset RST_STREAM.  Of a peer that takes
# nothing no more than a window is held, so that this stops the other one.
#
#   bridge_tunnel($addr, $authority, %opt)
#				($s, $head), as connect_tunnel() has it: the
#				options of connect_request(), and of
#				client_connect() for the connection that the
#				stream is of.  The fields of the head are as
#				HTTP/1.1 writes them: Proxy-Status.
#   bridge_front($t, %opt)	these options, with what a server of HTTP/2
#				needs: listen, parameters of each "listen", and
#				conf, text for http {}
#
# All tunnels of a process to an address are streams of one connection; but
# behind a PROXY protocol header each has its own.
#
# A stream that the server resets is a reset of the socket, once all the bytes
# before it are there.  If it has ended as well, and without an error, the
# socket is closed.

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/ bridge_tunnel bridge_front /;

###############################################################################

use IO::Poll qw/ POLLERR POLLHUP POLLIN POLLOUT /;
use POSIX qw//;
use Socket qw/ SO_LINGER SO_RCVBUF SO_SNDBUF SOL_SOCKET /;
use Time::HiRes qw/ time /;

use Test::Nginx::H2 qw//;
use Test::Nginx::Tunnel;

###############################################################################

use constant {
	WINDOW		=> 262144,	# what is held of a stream at most
	MAX_WINDOW	=> 2147483647,	# the connection is to hold nobody
	BUFFER		=> 131072,	# of its socket
	PIECE		=> 65536,
	TURNS		=> 64,		# reads and writes in one go
	TIOCOUTQ	=> 0x5411,
	TICK		=> 0.5,
	SOON		=> 0.01,
	LINGER		=> 5,
	LIFETIME	=> 300,
};

my %bridges;

###############################################################################

sub bridge_tunnel {
	my ($addr, $authority, %opt) = @_;

	my %request = map { $_ => $opt{$_} } grep { exists $opt{$_} }
		qw/ method headers auth early timeout /;

	return connect_tunnel(bridge($addr, %opt), $authority, %request);
}

sub bridge_front {
	my ($t, %opt) = @_;

	my %conf = (listen => '', conf => '', %opt);

	# for all tunnels of a test at once

	$conf{conf} .= "\n    http2_max_concurrent_streams 256;\n";

	if ($t->has_version('1.25.1')) {
		$conf{conf} .= "    http2 on;\n\n";

	} else {
		$conf{listen} .= ' http2';
	}

	return %conf;
}

###############################################################################

# The port of a bridge.  A process has its own, not those of its parent.

sub bridge {
	my ($addr, %opt) = @_;

	my %connect = map { $_ => $opt{$_} } grep { defined $opt{$_} }
		qw/ ssl sni cert key proxy_protocol /;

	my $own = defined $opt{proxy_protocol};
	my $key = join ' ', $$, $addr, map { "$_=$connect{$_}" }
		sort keys %connect;

	return $bridges{$key} if !$own && $bridges{$key};

	my $listener = Test::Nginx::Tunnel::tcp_listen(0);
	my $port = $listener->sockport();

	# inherited by what is accepted; it is to hold but little

	setsockopt $listener, SOL_SOCKET, $_, pack('i', BUFFER)
		for SO_RCVBUF, SO_SNDBUF;

	start_bridge($listener, $addr, $own, %connect);
	$bridges{$key} = $port if !$own;

	return $port;
}

# Not a child of ours, so that nobody needs to wait for it.

sub start_bridge {
	my ($listener, @args) = @_;

	my $tester = $$;
	my $pid = fork();
	die "Can't fork: $!\n" unless defined $pid;

	if ($pid) {
		waitpid $pid, 0;
		return;
	}

	$pid = fork();
	POSIX::_exit(defined $pid ? 0 : 1) if !defined $pid || $pid;

	$SIG{$_} = 'DEFAULT' for qw/ INT TERM ALRM CHLD /;
	$SIG{PIPE} = 'IGNORE';
	alarm(LIFETIME);

	# whoever runs the test waits for the end of that

	open STDOUT, '>', '/dev/null';

	eval { run_bridge($tester, $listener, @args); 1 } or warn $@;
	POSIX::_exit(0);
}

sub run_bridge {
	my ($tester, $listener, $addr, $own, %connect) = @_;

	Test::Nginx::Tunnel::close_inherited($listener);
	$listener->blocking(0);

	my $b = {
		addr		=> $addr,
		own		=> $own,
		connect		=> \%connect,
		listener	=> $listener,
		poll		=> IO::Poll->new(),
		connections	=> [],	# { h2, s, mask, tunnels by stream }
		tunnels		=> {},	# by descriptor
		busy		=> {},	# those there is something to do for
	};

	$b->{poll}->mask($listener => POLLIN);

	my $check = time() + TICK;
	my $left;

	while ($b->{listener} || %{$b->{tunnels}}) {
		$b->{poll}->poll(watch($b));

		for my $s ($b->{poll}->handles(POLLIN | POLLOUT | POLLERR
			| POLLHUP))
		{
			my $n = $b->{tunnels}{fileno $s};
			$b->{busy}{$n} = $n if $n;
		}

		accept_tunnel($b) if $b->{listener}
			&& $b->{poll}->events($b->{listener});

		move($b);

		next if time() < $check;

		# without the test there is soon nobody who needs this

		$check = time() + TICK;
		$left ||= time() unless readlink "/proc/$tester/exe";
		last if $left && (time() > $left + LINGER
			|| !@{$b->{connections}});
	}

	$_->{h2}->close() for @{$b->{connections}};
}

# What there is to wait for, and for how long.

sub watch {
	my ($b) = @_;

	my $timeout = $b->{again} ? 0 : TICK;

	for my $c (@{$b->{connections}}) {
		mask($b, $c, POLLIN | (length $c->{h2}{out} ? POLLOUT : 0));
		$timeout = 0 if $c->{more};
	}

	for my $n (values %{$b->{busy}}) {
		my $held = held($n);

		mask($b, $n, POLLERR | (room($n) ? POLLIN : 0)
			| ($held ? POLLOUT : 0));

		if (!$held && over($n)) {
			$timeout = SOON if $timeout;

		} elsif (!$b->{again} && (!$n->{stream}
			|| !$n->{stream}->waiting()))
		{
			delete $b->{busy}{$n};
		}
	}

	return $timeout;
}

sub mask {
	my ($b, $x, $mask) = @_;

	return if $x->{mask} == $mask;

	$x->{mask} = $mask;
	$b->{poll}->mask($x->{s} => $mask);
}

sub move {
	my ($b) = @_;

	turn($b, $_) for @{$b->{connections}};

	$b->{again} = 0;

	for my $n (values %{$b->{busy}}) {
		my $events = $b->{poll}->events($n->{s});

		take($b, $n, $events) if $events || length $n->{request};
		give($b, $n) unless $n->{gone};
	}

	for my $c (@{$b->{connections}}) {
		turn($b, $c);

		# one that gets no more streams has its last

		next unless $c->{h2}{closed}
			|| $c->{h2}{goaway} && !%{$c->{tunnels}};

		$b->{poll}->remove($c->{s});
		$c->{h2}->close();
		$c->{h2}{closed} ||= 'EOF';
	}

	@{$b->{connections}} = grep { !$_->{h2}{closed} }
		@{$b->{connections}};
}

###############################################################################

# Connections

sub connection {
	my ($b) = @_;

	my ($c) = grep { !$_->{h2}{goaway} } @{$b->{connections}};
	return $c if $c;

	my $h2 = Test::Nginx::H2->new($b->{addr}, %{$b->{connect}},
		settings => { INITIAL_WINDOW_SIZE => WINDOW },
		window => MAX_WINDOW, credit => 'connection') or return undef;

	$c = { h2 => $h2, s => $h2->{socket}, mask => 0, tunnels => {} };
	push @{$b->{connections}}, $c;

	return $c;
}

sub turn {
	my ($b, $c) = @_;

	my $turns = TURNS;
	1 while --$turns && $c->{h2}->pump(0) && !$c->{h2}{closed};

	$c->{more} = !$turns;

	my %seen = map { $_->{sid} => 1 } @{$c->{h2}{frames}};
	@{$c->{h2}{frames}} = ();

	# streams that came too late

	if (my $goaway = $c->{h2}{goaway}) {
		$_->{stream}{rst} ||= 'REFUSED_STREAM'
			for grep { $_->{stream}{id} > $goaway->[0] }
				values %{$c->{tunnels}};
	}

	my @tunnels = $seen{0} || $c->{h2}{closed} ? values %{$c->{tunnels}}
		: grep { $_ } map { $c->{tunnels}{$_} } keys %seen;

	$b->{busy}{$_} = $_ for @tunnels;
	$b->{again} ||= @tunnels;
}

###############################################################################

# Tunnels

sub accept_tunnel {
	my ($b) = @_;

	my $s = $b->{listener}->accept() or return;

	Test::Nginx::Tunnel::no_delay($s);
	$s->blocking(0);

	my $n = {
		s	=> $s,
		mask	=> 0,
		request	=> '',
		head	=> '',
		taken	=> 0,
	};

	$b->{tunnels}{fileno $s} = $b->{busy}{$n} = $n;

	return unless $b->{own};

	$b->{poll}->remove($b->{listener});
	close delete $b->{listener};
}

# How many bytes of the test can go on.

sub room {
	my ($n) = @_;

	return 0 if $n->{ended} || over($n);
	return PIECE if !$n->{stream};
	return 0 if $n->{stream}->waiting();

	my $room = PIECE;

	for my $window ($n->{stream}{window}, $n->{c}{h2}{window}) {
		$room = $window if $room > $window;
	}

	return $room < 0 ? 0 : $room;
}

# Whether the server will neither take nor send any more.

sub over {
	my ($n) = @_;

	return $n->{stream}
		&& (defined $n->{stream}{rst} || $n->{c}{h2}{closed});
}

# From the test to the server.

sub take {
	my ($b, $n, $events) = @_;

	while (my $room = room($n)) {
		my $size = some($n, my $bytes, $room);

		if (!defined $size) {
			last if Test::Nginx::Tunnel::again();
			return reset_tunnel($b, $n);
		}

		if ($n->{stream}) {
			$n->{stream}->send($bytes, end => !$size);
			$n->{ended} = !$size;
			next;
		}

		$n->{request} .= $bytes;

		return drop($b, $n) if !$size || !request($b, $n);
	}

	# this comes while nothing is read, too

	reset_tunnel($b, $n) if $events & POLLERR && !over($n);
}

# What came together with the request is first.

sub some {
	my ($n, undef, $size) = @_;

	return sysread($n->{s}, $_[1], $size)
		if !$n->{stream} || $n->{request} eq '';

	$_[1] = substr($n->{request}, 0, $size, '');

	return length $_[1];
}

# False if there is no connection for it.

sub request {
	my ($b, $n) = @_;

	$n->{request} =~ s/^(.*?)\x0d\x0a\x0d\x0a//s or return 1;

	my ($line, @fields) = split /\x0d\x0a/, $1;
	my ($method, $authority) = split ' ', $line;

	my $c = connection($b) or return 0;

	$n->{c} = $c;
	$n->{stream} = $c->{h2}->request(method => $method, end => 0,
		authority => $authority,
		headers => [ grep { $_->[0] ne 'host' }
			map { [ lc($_->[0]), $_->[1] ] }
			map { [ split /: */, $_, 2 ] } @fields ]);

	$c->{tunnels}{$n->{stream}{id}} = $n;

	return 1;
}

# From the server to the test.

sub give {
	my ($b, $n) = @_;

	my $stream = $n->{stream} or return;

	$n->{head} = head($stream) if !$n->{told} && defined $stream->{status};
	$n->{told} = defined $stream->{status};

	for my $bytes ($n->{head}, $stream->{data}) {
		next if $bytes eq '';

		my $sent = syswrite $n->{s}, $bytes;

		if (!defined $sent) {
			return if Test::Nginx::Tunnel::again();
			return reset_tunnel($b, $n);
		}

		substr($bytes, 0, $sent, '');
		credit($n, $sent) if $n->{head} eq '';

		return if $bytes ne '';
	}

	if ($stream->{end} && !$n->{shut}) {
		shutdown $n->{s}, 1;
		$n->{shut} = 1;
	}

	if (!over($n)) {
		drop($b, $n) if $n->{ended} && $n->{shut};
		return;
	}

	# a reset would overtake what the test has not read

	my $left = pack 'i', 0;
	ioctl $n->{s}, TIOCOUTQ, $left;
	$n->{until} ||= time() + LINGER;
	return if unpack('i', $left) && time() < $n->{until};

	my $good = $n->{shut} && ($stream->{rst} || '') eq 'NO_ERROR';

	setsockopt $n->{s}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)
		unless $good;

	drop($b, $n);
}

sub held {
	my ($n) = @_;

	return length $n->{head}
		|| $n->{stream} && length $n->{stream}{data};
}

# As HTTP/1.1 writes it.

sub head {
	my ($stream) = @_;

	return join "\x0d\x0a", "HTTP/2 $stream->{status} ",
		(map { ($_->[0] =~ s/(?:^|-)\K(.)/\u$1/gr) . ": $_->[1]" }
			grep { $_->[0] !~ /^:/ } @{$stream->{fields}}), '', '';
}

# The window of the stream is opened by what the test has taken.

sub credit {
	my ($n, $size) = @_;

	$n->{taken} += $size;

	return if $n->{taken} < WINDOW / 2 || $n->{stream}{end} || over($n);

	$n->{c}{h2}->window_update($n->{stream}{id}, $n->{taken});
	$n->{taken} = 0;
}

sub reset_tunnel {
	my ($b, $n) = @_;

	if ($n->{stream} && !over($n)) {
		turn($b, $n->{c});
		@{$n->{stream}}{qw/ queue queue_end /} = ('', 0);
		$n->{stream}->reset_close();
	}

	drop($b, $n);
}

sub drop {
	my ($b, $n) = @_;

	$n->{gone} = 1;

	$b->{poll}->remove($n->{s});
	delete $b->{tunnels}{fileno $n->{s}};
	delete $b->{busy}{$n};
	delete $n->{c}{tunnels}{$n->{stream}{id}} if $n->{stream};
	close $n->{s};
}

###############################################################################

1;

###############################################################################
