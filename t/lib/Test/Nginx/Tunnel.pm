package Test::Nginx::Tunnel;

# Clients, targets and a DNS server for the tests of tunnels.  Works on top
# of any Test::Nginx.  Nothing in here waits without a limit.
#
# An address is a port number (of 127.0.0.1), "127.0.0.2:8081", "[::1]:8081"
# or "unix:/path".  Reading functions return bytes, and in list context also
# how it ended: OK, EOF, RESET, TIMEOUT, or for TLS without a close_notify
# TRUNCATED.
#
# Clients
#
#   tcp_connect($addr, %opt)	connection, undef if there is none; timeout
#   client_connect($addr, %opt)	the same with proxy_protocol and ssl in front
#   write_all($s, $bytes, $timeout)
#				writes everything, returns how much it was
#   send_split($s, $bytes, @points, step => $n, delay => $seconds)
#				writes in pieces that end at these offsets,
#				or in pieces of n bytes
#   read_n($s, $n, $timeout)	exactly n bytes, or fewer at the end
#   read_head($s, $timeout)	a response up to and with its empty line
#   read_all($s, $timeout)	everything until the end
#   half_close($s)		sends FIN (close_notify on TLS), still reads
#   reset_close($s)		closes with RST
#   proxy_protocol($version, %opt)
#				header "v1" or "v2"; src, sport, dst, dport
#
# Requests
#
#   connect_request($authority, %opt)
#				text of a CONNECT; method, version, host,
#				headers => [ ], auth => 'user:pass', early
#   connect_tunnel($addr, $authority, %opt)
#				($s, $head); those of connect_request() and
#				client_connect(), split => [ ] for send_split()
#   socks4_request($ip, $port, %opt)
#   socks4a_request($host, $port, %opt)
#				cmd, user
#   socks5_greeting(@methods)	without a list: no authentication
#   socks5_auth($user, $pass)
#   socks5_request($host, $port, %opt)
#				cmd; atyp "ipv4", "ipv6" or "name" when it
#				should not be guessed
#   read_socks4_reply($s)	code
#   read_socks5_reply($s)	(code, address, port)
#   socks4_tunnel($addr, $host, $port, %opt)
#   socks5_tunnel($addr, $host, $port, %opt)
#				($s, code); also auth, early, split
#   client_hello(%opt)		sni, alpn => [ ], padding => bytes,
#				tls13 => 1, fragment => bytes in a record
#
# Targets, for run_daemon() or start_daemon(); each serves any number of
# connections, and takes ssl_cert and ssl_key to speak TLS
#
#   start_daemon($t, \&daemon, $addr, @args)
#				run_daemon() that has bound $addr on return
#   echo_daemon($addr, %opt)	returns what it gets; greeting
#   slow_daemon($addr, %opt)	sends bytes of pattern() in chunks, one every
#				delay; with mode => 'read' reads that slowly,
#				then tells what it got
#   half_close_daemon($addr, %opt)
#				reads to the end, then tells what it got
#   fin_first_daemon($addr, %opt)
#				sends greeting and FIN, reads to the end,
#				writes what it got to report
#   reset_daemon($addr, %opt)	sends greeting, reads n bytes, waits delay,
#				closes with RST
#   source_daemon($addr, %opt)	sends bytes of pattern(), after reading n
#   sink_daemon($addr, %opt)	reads to the end, report
#   http_daemon($addr, %opt)	answers requests: status, headers => [ ], body,
#				log (file for the request lines)
#   full_backlog($addr)		an object; while it lives, connects to the
#				address are neither accepted nor refused
#
# What a target got is told as "COUNT SHA1 STATE\n"; summary($bytes, $state)
# is what to expect.
#
# Others
#
#   dns_daemon($addr, %opt)	UDP; table => { }, log => file: see below
#   dns_queries($t, $log, $name, $type)
#				queries logged, as "name type"; the name and
#				the type may be left out
#   make_cert($t, $name, %opt)	$name.crt and $name.key in the test directory:
#				ca => name of the issuer, san => [ ],
#				is_ca => 1, cn, days
#   conf_from($t, $file, @changes)
#				nginx.conf as in that file, with these changes:
#				a regex and what replaces it, for each; every
#				one has to change something
#   nginx_check($t, $conf)	what nginx -t says of that, behind the globals:
#				its exit status, and the messages without their
#				place
#   pattern($n, $offset)	n bytes which are told apart by their offset
#   log_lines($t, $file)	lines, none if there is no file
#   wait_log($t, $file, $re, $timeout, $count)
#				waits for a line, or for a number of them;
#				the last one found, undef if they do not come
#   wait_for($code, $timeout)	waits until it returns true

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	tcp_connect client_connect write_all send_split
	read_n read_head read_all half_close reset_close proxy_protocol
	connect_request connect_tunnel client_hello
	socks4_request socks4a_request socks5_greeting socks5_auth
	socks5_request read_socks4_reply read_socks5_reply
	socks4_tunnel socks5_tunnel
	start_daemon echo_daemon slow_daemon half_close_daemon
	fin_first_daemon reset_daemon source_daemon sink_daemon http_daemon
	full_backlog summary
	dns_daemon dns_queries make_cert conf_from nginx_check
	pattern log_lines wait_log wait_for
/;

###############################################################################

use Digest::SHA qw/ sha1_hex /;
use Errno qw/ EAGAIN ECONNRESET EINTR EPIPE EWOULDBLOCK /;
use IO::Select qw//;
use IO::Socket::IP qw//;
use IO::Socket::UNIX qw//;
use MIME::Base64 qw/ encode_base64 /;
use POSIX qw/ WNOHANG /;
use Socket qw/
	AF_INET AF_INET6 IPPROTO_TCP SO_LINGER SO_RCVBUF SOCK_STREAM
	SOL_SOCKET SOMAXCONN TCP_NODELAY inet_pton inet_ntop
/;
use Time::HiRes qw/ sleep time /;

use Test::Nginx qw/ log_in log_out /;

###############################################################################

use constant {
	CRLF		=> "\x0d\x0a",
	TIMEOUT		=> 8,
	DAEMON_TIMEOUT	=> 60,
	BUFFER		=> 65536,
	HEAD_LIMIT	=> 65536,
	PERIOD		=> 65521,	# a prime, no buffer's size divides it
};

# scalars, so that write_all($s, read_n(...)) writes no state

sub write_all($$;$);
sub send_split($$;@);

###############################################################################

# Connections

sub tcp_connect {
	my ($addr, %opt) = @_;

	my $timeout = $opt{timeout} || TIMEOUT;

	my $s = unix_path($addr)
		? IO::Socket::UNIX->new(
			Peer => unix_path($addr),
			Timeout => $timeout
		)
		: IO::Socket::IP->new(
			Type => SOCK_STREAM,
			Timeout => $timeout,
			peer_args($addr, 'Peer')
		);

	if (!defined $s) {
		log_in("can't connect to $addr: $!");
		return undef;
	}

	no_delay($s);

	return $s;
}

sub client_connect {
	my ($addr, %opt) = @_;

	my $s = tcp_connect($addr, %opt) or return undef;

	if (defined(my $header = $opt{proxy_protocol})) {
		$header = proxy_protocol($header) if $header =~ /^v[12]\z/;
		write_all($s, $header);
	}

	return $s unless $opt{ssl};
	return start_tls($s, %opt);
}

sub start_tls {
	my ($s, %opt) = @_;

	require IO::Socket::SSL;

	my $tls = IO::Socket::SSL->start_SSL($s,
		Timeout => $opt{timeout} || TIMEOUT,
		SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
		SSL_hostname => defined $opt{sni} ? $opt{sni} : '',
		SSL_on_peer_shutdown => sub { 0 },
		$opt{alpn} ? (SSL_alpn_protocols => $opt{alpn}) : (),
		$opt{cert} ? (SSL_cert_file => $opt{cert}) : (),
		$opt{key} ? (SSL_key_file => $opt{key}) : (),
	);

	log_in('no tls: ' . IO::Socket::SSL::errstr()) unless $tls;

	return $tls;
}

sub unix_path {
	my ($addr) = @_;

	return $addr =~ /^unix:(.+)/ ? $1 : undef;
}

sub peer_args {
	my ($addr, $side) = @_;

	my ($host, $port) = $addr =~ /^(?:\[?(.*?)\]?:)?(\d+)\z/
		or die "bad address \"$addr\"\n";

	return (
		"${side}Host" => defined $host ? $host : '127.0.0.1',
		"${side}Port" => $port
	);
}

sub no_delay {
	my ($s) = @_;

	setsockopt($s, IPPROTO_TCP, TCP_NODELAY, pack('i', 1))
		unless $s->isa('IO::Socket::UNIX');
}

sub is_tls {
	my ($s) = @_;

	return $s->isa('IO::Socket::SSL');
}

# Sends the end of our data.

sub half_close {
	my ($s) = @_;

	if (is_tls($s)) {
		Net::SSLeay::shutdown($s->_get_ssl_object());

	} else {
		shutdown($s, 1);
	}
}

sub reset_close {
	my ($s) = @_;

	setsockopt($s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));

	# a TLS close would send its close_notify first

	if (is_tls($s)) {
		$s->close(SSL_no_shutdown => 1);

	} else {
		close $s;
	}
}

###############################################################################

# Input and output

sub write_all($$;$) {
	my ($s, $bytes, $timeout) = @_;

	my $until = time() + (defined $timeout ? $timeout : TIMEOUT);
	my $done = 0;

	local $SIG{PIPE} = 'IGNORE';

	log_out($bytes);
	$s->blocking(0);

	while ($done < length $bytes) {
		my $n = $s->syswrite($bytes, length($bytes) - $done, $done);

		if ($n) {
			$done += $n;

		} else {
			last unless again();
			last unless wait_io($s, 'write', $until);
		}
	}

	$s->blocking(1);

	return $done;
}

sub send_split($$;@) {
	my ($s, $bytes, @args) = @_;

	my @points;
	push @points, shift @args while @args && $args[0] =~ /^\d+\z/;
	my %opt = (delay => 0.01, @args);

	if ($opt{step}) {
		my $n = 0;
		push @points, $n while ($n += $opt{step}) < length $bytes;
	}

	no_delay($s);

	my ($done, $first) = (0, 1);

	for my $end (sort({ $a <=> $b } @points), length $bytes) {
		$end = length $bytes if $end > length $bytes;
		next if $end <= $done;

		sleep($opt{delay}) unless $first;
		$first = 0;

		my $n = write_all($s, substr($bytes, $done, $end - $done));
		return $done + $n if $n < $end - $done;

		$done = $end;
	}

	return $done;
}

sub read_n {
	my ($s, $n, $timeout) = @_;

	my $until = time() + (defined $timeout ? $timeout : TIMEOUT);
	my ($bytes, $state) = ('', 'OK');

	while ($state eq 'OK' && length $bytes < $n) {
		(my $part, $state)
			= read_some($s, $n - length $bytes, $until);
		$bytes .= $part;
	}

	log_in($bytes);

	return wantarray ? ($bytes, $state) : $bytes;
}

sub read_head {
	my ($s, $timeout) = @_;

	my $until = time() + (defined $timeout ? $timeout : TIMEOUT);
	my ($head, $state) = ('', 'OK');

	# byte by byte: what follows belongs to the tunnel

	while ($state eq 'OK' && $head !~ /\x0a\x0d?\x0a\z/) {
		last if length $head >= HEAD_LIMIT;

		(my $byte, $state) = read_some($s, 1, $until);
		$head .= $byte;
	}

	log_in($head);

	return wantarray ? ($head, $state) : $head;
}

sub read_all {
	my ($s, $timeout) = @_;

	my $until = time() + (defined $timeout ? $timeout : TIMEOUT);
	my ($bytes, $state) = ('', 'OK');

	while ($state eq 'OK') {
		(my $part, $state) = read_some($s, BUFFER, $until);
		$bytes .= $part;
	}

	log_in($bytes);

	return wantarray ? ($bytes, $state) : $bytes;
}

# One successful read, or the reason why there is none.

sub read_some {
	my ($s, $size, $until) = @_;

	$s->blocking(0);

	my ($bytes, $state) = ('', undef);

	while (!defined $state) {
		my $n = $s->sysread($bytes, $size);

		if ($n) {
			$state = 'OK';

		} elsif (defined $n) {
			$state = tls_truncated($s) ? 'TRUNCATED' : 'EOF';

		} elsif (!again()) {
			$state = $! == ECONNRESET || $! == EPIPE ? 'RESET'
				: is_tls($s) ? 'TRUNCATED' : 'RESET';

		} elsif (!wait_io($s, 'read', $until)) {
			$state = 'TIMEOUT';
		}
	}

	$s->blocking(1);

	return (defined $bytes ? $bytes : '', $state);
}

sub tls_truncated {
	my ($s) = @_;

	return is_tls($s)
		&& !(Net::SSLeay::get_shutdown($s->_get_ssl_object()) & 2);
}

sub again {
	return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
}

# TLS may want to read in order to write.

sub wait_io {
	my ($s, $for, $until) = @_;

	my $left = $until - time();
	return 0 if $left <= 0;

	if (is_tls($s)) {
		return 1 if $for eq 'read' && $s->pending();

		$for = 'read' if $IO::Socket::SSL::SSL_ERROR
			== IO::Socket::SSL::SSL_WANT_READ();
		$for = 'write' if $IO::Socket::SSL::SSL_ERROR
			== IO::Socket::SSL::SSL_WANT_WRITE();
	}

	my $select = IO::Select->new($s);

	return scalar($for eq 'read' ? $select->can_read($left)
		: $select->can_write($left));
}

###############################################################################

# CONNECT and what may be in front of it

sub connect_request {
	my ($authority, %opt) = @_;

	%opt = (
		method => 'CONNECT',
		version => '1.1',
		host => $authority,
		headers => [],
		early => '',
		%opt
	);

	my @lines = "$opt{method} $authority HTTP/$opt{version}";

	push @lines, "Host: $opt{host}" if defined $opt{host};
	push @lines, 'Proxy-Authorization: Basic '
		. encode_base64($opt{auth}, '') if defined $opt{auth};
	push @lines, @{$opt{headers}};

	return join(CRLF, @lines, '', '') . $opt{early};
}

sub connect_tunnel {
	my ($addr, $authority, %opt) = @_;

	my $s = client_connect($addr, %opt) or return (undef, '');

	my %request = map { $_ => $opt{$_} } grep { exists $opt{$_} }
		qw/ method version host headers auth early /;

	send_split($s, connect_request($authority, %request),
		@{$opt{split} || []});

	return ($s, scalar read_head($s, $opt{timeout}));
}

sub proxy_protocol {
	my ($version, %opt) = @_;

	%opt = (
		src => '192.0.2.1', sport => 12345,
		dst => '192.0.2.2', dport => 443,
		%opt
	);

	my $v6 = $opt{src} =~ /:/;

	return join(' ', 'PROXY', $v6 ? 'TCP6' : 'TCP4',
		@opt{qw/ src dst sport dport /}) . CRLF
		if $version eq 'v1';

	my $family = $v6 ? AF_INET6 : AF_INET;

	return "\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a"
		. pack('C2 n/a*', 0x21, $v6 ? 0x21 : 0x11,
			inet_pton($family, $opt{src})
			. inet_pton($family, $opt{dst})
			. pack('n2', $opt{sport}, $opt{dport}));
}

###############################################################################

# SOCKS

sub socks4_request {
	my ($ip, $port, %opt) = @_;

	return pack('C2 n a4 Z*', 4, $opt{cmd} || 1, $port,
		inet_pton(AF_INET, $ip),
		defined $opt{user} ? $opt{user} : '');
}

sub socks4a_request {
	my ($host, $port, %opt) = @_;

	return socks4_request('0.0.0.1', $port, %opt) . pack('Z*', $host);
}

sub socks5_greeting {
	my @methods = @_ ? @_ : (0);

	return pack('C C/a*', 5, pack('C*', @methods));
}

sub socks5_auth {
	my ($user, $pass) = @_;

	return pack('C C/a* C/a*', 1, $user, $pass);
}

sub socks5_request {
	my ($host, $port, %opt) = @_;

	my $atyp = $opt{atyp} || ($host =~ /:/ ? 'ipv6'
		: $host =~ /^\d+(?:\.\d+){3}\z/ ? 'ipv4' : 'name');

	my $dest = $atyp eq 'ipv4' ? "\x01" . inet_pton(AF_INET, $host)
		: $atyp eq 'ipv6' ? "\x04" . inet_pton(AF_INET6, $host)
		: pack('C C/a*', 3, $host);

	return pack('C3', 5, $opt{cmd} || 1, 0) . $dest . pack('n', $port);
}

sub read_socks4_reply {
	my ($s, $timeout) = @_;

	my $reply = read_n($s, 8, $timeout);

	return undef if length $reply < 8;
	return unpack('x C', $reply);
}

sub read_socks5_reply {
	my ($s, $timeout) = @_;

	my $head = read_n($s, 4, $timeout);
	return if length $head < 4;

	my (undef, $code, undef, $atyp) = unpack('C4', $head);

	my $size = $atyp == 1 ? 4 : $atyp == 4 ? 16
		: unpack('C', read_n($s, 1, $timeout) || "\0");
	my ($host, $port)
		= unpack("a$size n", read_n($s, $size + 2, $timeout));

	$host = inet_ntop(AF_INET, $host) if $atyp == 1;
	$host = inet_ntop(AF_INET6, $host) if $atyp == 4;

	return wantarray ? ($code, $host, $port) : $code;
}

sub socks4_tunnel {
	my ($addr, $host, $port, %opt) = @_;

	my $s = client_connect($addr, %opt) or return (undef, undef);

	my $request = $host =~ /^\d+(?:\.\d+){3}\z/
		? socks4_request($host, $port, %opt)
		: socks4a_request($host, $port, %opt);

	send_split($s, $request . (defined $opt{early} ? $opt{early} : ''),
		@{$opt{split} || []});

	return ($s, scalar read_socks4_reply($s, $opt{timeout}));
}

# A refused authentication gives the code "auth".

sub socks5_tunnel {
	my ($addr, $host, $port, %opt) = @_;

	my $s = client_connect($addr, %opt) or return (undef, undef);
	my @split = @{$opt{split} || []};

	send_split($s, socks5_greeting(defined $opt{auth} ? 2 : 0), @split);

	my $reply = read_n($s, 2, $opt{timeout});
	return ($s, undef) if length $reply < 2;

	my $method = unpack('x C', $reply);
	return ($s, 'auth') if $method == 0xff;

	if ($method == 2) {
		my ($user, $pass) = split /:/, $opt{auth}, 2;

		send_split($s, socks5_auth($user, $pass), @split);

		$reply = read_n($s, 2, $opt{timeout});
		return ($s, 'auth') if $reply ne "\x01\x00";
	}

	send_split($s, socks5_request($host, $port, %opt)
		. (defined $opt{early} ? $opt{early} : ''), @split);

	return ($s, scalar read_socks5_reply($s, $opt{timeout}));
}

###############################################################################

# A ClientHello (RFC 8446, 4.1.2) which a real server answers.

sub client_hello {
	my (%opt) = @_;

	my @extensions;

	push @extensions, [ 0, pack('n/a*', pack('C n/a*', 0, $opt{sni})) ]
		if defined $opt{sni};

	# supported_groups, ec_point_formats, signature_algorithms

	push @extensions,
		[ 10, pack('n/a*', pack('n*', 0x1d, 0x17, 0x18)) ],
		[ 11, pack('C/a*', pack('C', 0)) ],
		[ 13, pack('n/a*', pack('n*', 0x0403, 0x0804, 0x0401,
			0x0503, 0x0805, 0x0501)) ];

	push @extensions, [ 16, pack('n/a*',
		join('', map { pack('C/a*', $_) } @{$opt{alpn}})) ]
		if $opt{alpn};

	# supported_versions, key_share: the base point of x25519

	push @extensions,
		[ 43, pack('C/a*', pack('n*', 0x0304, 0x0303)) ],
		[ 51, pack('n/a*', pack('n n/a*', 0x1d,
			"\x09" . "\0" x 31)) ]
		if $opt{tls13};

	push @extensions, [ 21, "\0" x $opt{padding} ]
		if defined $opt{padding};

	my @ciphers = (0xc02b, 0xc02f, 0xc02c, 0xc030, 0x009c, 0x002f);
	unshift @ciphers, 0x1301, 0x1302 if $opt{tls13};

	my $hello = pack('n a32 C/a* n/a* C/a* n/a*', 0x0303,
		pattern(32), $opt{tls13} ? pattern(32, 32) : '',
		pack('n*', @ciphers), "\0",
		join('', map { pack('n n/a*', @$_) } @extensions));

	# one byte of type, three of length

	$hello = pack('N', 1 << 24 | length $hello) . $hello;

	my $size = $opt{fragment} || 16384;
	my $records = '';

	while (length $hello) {
		$records .= pack('C n n/a*', 22, 0x0301,
			substr($hello, 0, $size, ''));
	}

	return $records;
}

###############################################################################

# Targets

sub start_daemon {
	my ($t, $code, $addr, @args) = @_;

	my $s = $code == \&dns_daemon ? udp_bind($addr) : tcp_listen($addr);

	$t->run_daemon($code, $s, @args);
	close $s;

	return $t;
}

sub tcp_listen {
	my ($addr, $backlog) = @_;

	return $addr if ref $addr;

	$backlog = SOMAXCONN unless defined $backlog;

	if (my $path = unix_path($addr)) {
		unlink $path;
		return IO::Socket::UNIX->new(
			Local => $path,
			Listen => $backlog
		)
			|| die "Can't listen on $addr: $!\n";
	}

	# IO::Socket takes a backlog of 0 for none

	my $s = IO::Socket::IP->new(
		Type => SOCK_STREAM,
		Listen => $backlog || 1,
		ReuseAddr => 1,
		peer_args($addr, 'Local')
	)
		|| die "Can't listen on $addr: $!\n";

	listen($s, 0) if $backlog == 0;

	return $s;
}

sub udp_bind {
	my ($addr) = @_;

	return $addr if ref $addr;

	return IO::Socket::IP->new(
		Proto => 'udp',
		peer_args($addr, 'Local')
	)
		|| die "Can't bind to $addr: $!\n";
}

# A client's socket that stays open in a daemon never ends for nginx.  The
# descriptors are replaced and not closed: perl counts the uses of a number.

sub close_inherited {
	my ($keep) = @_;

	open my $null, '<', '/dev/null' or return;
	opendir my $dir, '/proc/self/fd' or return;
	my @fds = grep { /^\d+\z/ } readdir $dir;
	closedir $dir;

	for my $fd (@fds) {
		POSIX::dup2(fileno $null, $fd)
			if $fd > 2 && $fd != fileno $keep
			&& -S "/proc/self/fd/$fd";
	}
}

# Runs a handler for each connection in a process of its own.

sub serve {
	my ($addr, $handler, %opt) = @_;

	my $listener = tcp_listen($addr);
	my %workers;

	close_inherited($listener);

	# inherited by what is accepted, and too late to be set there

	setsockopt($listener, SOL_SOCKET, SO_RCVBUF, pack('i', $opt{rcvbuf}))
		if $opt{rcvbuf};

	local $SIG{PIPE} = 'IGNORE';
	local $SIG{CHLD} = sub { };
	local $SIG{TERM} = sub {
		kill 'TERM', keys %workers;
		POSIX::_exit(0);
	};

	while (1) {
		my $s = $listener->accept();

		while ((my $gone = waitpid(-1, WNOHANG)) > 0) {
			delete $workers{$gone};
		}

		next unless $s;

		my $pid = fork();
		die "Can't fork: $!\n" unless defined $pid;

		if ($pid) {
			$workers{$pid} = 1;
			close $s;
			next;
		}

		$SIG{TERM} = $SIG{CHLD} = 'DEFAULT';
		close $listener;

		# the end of all, should nginx leave us alone for ever

		alarm(DAEMON_TIMEOUT);

		no_delay($s);
		$s = accept_tls($s, %opt) if $opt{ssl_cert};
		$handler->($s) if $s;

		POSIX::_exit(0);
	}
}

sub accept_tls {
	my ($s, %opt) = @_;

	require IO::Socket::SSL;

	return IO::Socket::SSL->start_SSL($s,
		SSL_server => 1,
		Timeout => TIMEOUT,
		SSL_cert_file => $opt{ssl_cert},
		SSL_key_file => $opt{ssl_key},
		SSL_on_peer_shutdown => sub { 0 },
		$opt{alpn} ? (SSL_alpn_protocols => $opt{alpn}) : (),
	);
}

sub echo_daemon {
	my ($addr, %opt) = @_;

	serve($addr, sub {
		my ($s) = @_;

		greet($s, %opt);

		while (1) {
			my ($bytes, $state) = read_some($s, BUFFER,
				time() + DAEMON_TIMEOUT);

			last if $state ne 'OK';
			last if write_all($s, $bytes, DAEMON_TIMEOUT)
				< length $bytes;
		}

		finish($s);
	}, %opt);
}

sub slow_daemon {
	my ($addr, %opt) = @_;

	%opt = (
		mode => 'write',
		bytes => 1000,
		chunk => 100,
		delay => 0.1,
		%opt
	);

	serve($addr, sub {
		my ($s) = @_;

		greet($s, %opt);

		if ($opt{mode} eq 'read') {
			tell_summary($s, %opt, receive($s, %opt));
			return;
		}

		for (my $n = 0; $n < $opt{bytes}; $n += $opt{chunk}) {
			my $size = $opt{bytes} - $n;
			$size = $opt{chunk} if $size > $opt{chunk};

			sleep($opt{delay});
			last if write_all($s, pattern($size, $n),
				DAEMON_TIMEOUT) < $size;
		}

		finish($s);
	}, %opt);
}

sub half_close_daemon {
	my ($addr, %opt) = @_;

	serve($addr, sub {
		my ($s) = @_;

		greet($s, %opt);
		tell_summary($s, %opt, receive($s));
	}, %opt);
}

sub fin_first_daemon {
	my ($addr, %opt) = @_;

	$opt{greeting} = "FIN-FIRST\n" unless defined $opt{greeting};

	serve($addr, sub {
		my ($s) = @_;

		greet($s, %opt);
		half_close($s);
		report(%opt, receive($s));
	}, %opt);
}

sub reset_daemon {
	my ($addr, %opt) = @_;

	serve($addr, sub {
		my ($s) = @_;

		greet($s, %opt);

		read_n($s, defined $opt{n} ? $opt{n} : 1, DAEMON_TIMEOUT);
		sleep($opt{delay}) if $opt{delay};

		reset_close($s);
	}, %opt);
}

sub source_daemon {
	my ($addr, %opt) = @_;

	serve($addr, sub {
		my ($s) = @_;

		read_n($s, $opt{n}, DAEMON_TIMEOUT) if $opt{n};

		my ($left, $offset) = ($opt{bytes} || 0, 0);

		while ($left > 0) {
			my $size = $left < BUFFER ? $left : BUFFER;

			my $n = write_all($s, pattern($size, $offset),
				DAEMON_TIMEOUT);
			last if $n < $size;

			$left -= $n;
			$offset += $n;
		}

		finish($s);
	}, %opt);
}

sub sink_daemon {
	my ($addr, %opt) = @_;

	serve($addr, sub {
		my ($s) = @_;

		greet($s, %opt);
		report(%opt, receive($s));
		$s->close();
	}, %opt);
}

sub http_daemon {
	my ($addr, %opt) = @_;

	%opt = (
		status => '200 OK',
		headers => [],
		body => 'SEE-THIS',
		%opt
	);

	serve($addr, sub {
		my ($s) = @_;

		while (1) {
			my ($head, $state) = read_head($s, DAEMON_TIMEOUT);
			last if $state ne 'OK';

			my ($line) = $head =~ /^([^\x0d\x0a]*)/;
			append($opt{log}, "$line\n") if defined $opt{log};

			my $close = $line !~ /HTTP\/1\.1\z/
				|| $head =~ /^Connection: *close/mi;

			if ($head =~ /^Content-Length: *(\d+)/mi) {
				read_n($s, $1, DAEMON_TIMEOUT);
			}

			write_all($s, join(CRLF, "HTTP/1.1 $opt{status}",
				'Content-Length: ' . length $opt{body},
				$close ? 'Connection: close' : (),
				@{$opt{headers}}, '',
				$line =~ /^HEAD / ? '' : $opt{body}));

			last if $close;
		}

		finish($s);
	}, %opt);
}

# The queue of a listener nobody accepts from, filled by our own connections:
# the kernel then drops every SYN.

sub full_backlog {
	my ($addr) = @_;

	my $listener = tcp_listen($addr, 0);
	my @held;

	for (1 .. 64) {
		my $s = tcp_connect($addr, timeout => 0.3);
		last unless $s;

		push @held, $s;
	}

	die "Can't fill the backlog of $addr\n" if @held == 64;

	return [ $listener, @held ];
}

###############################################################################

# What the targets are made of

sub greet {
	my ($s, %opt) = @_;

	write_all($s, $opt{greeting}, DAEMON_TIMEOUT)
		if defined $opt{greeting};
}

# Reads to the end, slowly if asked to; gives the options of report().

sub receive {
	my ($s, %opt) = @_;

	my $sha = Digest::SHA->new(1);
	my ($count, $state, $bytes) = (0, 'OK');

	while ($state eq 'OK') {
		sleep($opt{delay}) if $opt{delay};

		($bytes, $state) = read_some($s, $opt{chunk} || BUFFER,
			time() + DAEMON_TIMEOUT);

		$count += length $bytes;
		$sha->add($bytes);
	}

	return (received => join(' ', $count, $sha->hexdigest(), $state)
		. "\n");
}

sub summary {
	my ($bytes, $state) = @_;

	return join(' ', length $bytes, sha1_hex($bytes),
		defined $state ? $state : 'EOF') . "\n";
}

sub report {
	my (%opt) = @_;

	append($opt{report}, $opt{received}) if defined $opt{report};
}

sub tell_summary {
	my ($s, %opt) = @_;

	report(%opt);
	write_all($s, $opt{received}, DAEMON_TIMEOUT);
	finish($s);
}

# Closes, but not before the peer has read: unread input would turn the
# close into a reset.

sub finish {
	my ($s) = @_;

	half_close($s);
	receive($s) if !is_tls($s);
	$s->close();
}

# One write, so that the lines of several processes do not mix.

sub append {
	my ($file, $text) = @_;

	open my $fh, '>>', $file or die "Can't open $file: $!\n";
	syswrite $fh, $text;
	close $fh;
}

sub pattern {
	my ($n, $offset) = @_;

	our $block;

	if (!defined $block) {
		my $x = 1;

		# the minimal standard generator

		for (1 .. PERIOD) {
			$x = $x * 16807 % 2147483647;
			$block .= chr($x >> 8 & 255);
		}
	}

	my $start = ($offset || 0) % PERIOD;
	my $times = int(($start + $n) / PERIOD) + 1;

	return substr($block x $times, $start, $n);
}

###############################################################################

# A DNS server.  The table maps names to what is known of them; "*" is any
# other name, and without it that is NXDOMAIN.  An entry is one of
#
#	'192.0.2.1', [ '192.0.2.1', '2001:db8::1' ]	addresses
#	'NXDOMAIN', 'SERVFAIL', 'REFUSED', 'FORMERR'	error
#	'TIMEOUT'					no answer
#	{ A => [ ], AAAA => [ ], CNAME => 'name',
#	  ttl => 3600, delay => 0.5, rcode => 'SERVFAIL' }
#							A and AAAA may also be
#							an error or 'TIMEOUT'
#	{ turns => [ entry, ... ] }			one after the other,
#							then the last for ever;
#							counted for each type
#
# Names are looked up in lower case.  A CNAME is followed within the table.
# The log has a line "name TYPE" for each query, and exists once the server
# answers.

my %rcode = (
	NOERROR		=> 0,
	FORMERR		=> 1,
	SERVFAIL	=> 2,
	NXDOMAIN	=> 3,
	REFUSED		=> 5,
);

my %rtype = (1 => 'A', 5 => 'CNAME', 28 => 'AAAA');

sub dns_daemon {
	my ($addr, %opt) = @_;

	my $s = udp_bind($addr);
	my (@pending, %turn);

	close_inherited($s);

	append($opt{log}, '') if defined $opt{log};

	# a delayed answer must not hold the others

	while (1) {
		@pending = sort { $a->[0] <=> $b->[0] } @pending;

		while (@pending && $pending[0][0] <= time()) {
			my (undef, $answer, $peer) = @{shift @pending};
			send($s, $answer, 0, $peer);
		}

		my $left = @pending ? $pending[0][0] - time() : undef;
		$left = 0 if defined $left && $left < 0;
		next unless IO::Select->new($s)->can_read($left);

		my $peer = recv($s, my $query, BUFFER, 0);
		next if !defined $peer || length $query < 17;

		my ($name, $type, $question) = dns_question($query);

		append($opt{log}, lc($name) . " $type\n")
			if defined $opt{log};

		my $entry = dns_entry(\%opt, $name, $type, \%turn);
		my $answer = dns_answer(\%opt, $query, $question, $entry,
			$name, $type, \%turn);

		push @pending, [ time() + ($entry->{delay} || 0), $answer,
			$peer ] if defined $answer;
	}
}

sub dns_question {
	my ($query) = @_;

	my ($offset, @labels) = (12);

	while (my $size = unpack("\@$offset C", $query)) {
		push @labels, substr($query, $offset + 1, $size);
		$offset += $size + 1;
	}

	my $type = unpack('n', substr($query, $offset + 1, 2));

	return (join('.', @labels), $rtype{$type} || "TYPE$type",
		substr($query, 12, $offset - 12 + 5));
}

# An entry of the table in its full form.

sub dns_entry {
	my ($opt, $name, $type, $turn) = @_;

	$name = lc $name;

	my $table = $opt->{table};
	my $entry = exists $table->{$name} ? $table->{$name}
		: exists $table->{'*'} ? $table->{'*'} : 'NXDOMAIN';

	if (ref $entry eq 'HASH' && $entry->{turns}) {
		my $n = $turn->{"$name $type"}++;
		my $last = $#{$entry->{turns}};

		$entry = $entry->{turns}[$n < $last ? $n : $last];
	}

	return $entry if ref $entry eq 'HASH';

	return { rcode => $entry }
		if !ref $entry && $entry =~ /^[A-Z]+\z/;

	my @addrs = ref $entry ? @$entry : $entry;

	return {
		A	=> [ grep { !/:/ } @addrs ],
		AAAA	=> [ grep { /:/ } @addrs ],
	};
}

sub dns_answer {
	my ($opt, $query, $question, $entry, $name, $type, $turn) = @_;

	my @records;

	for (1 .. 8) {
		last unless defined $entry->{CNAME};

		push @records, dns_record($name, 5, $entry->{ttl},
			dns_name($entry->{CNAME}));
		$name = $entry->{CNAME};

		last if $type eq 'CNAME';
		$entry = dns_entry($opt, $name, $type, $turn);
	}

	my $rcode = $entry->{rcode};
	my $addrs = $entry->{$type};

	if ($type eq 'A' || $type eq 'AAAA') {
		$rcode = $addrs if !ref $addrs && defined $addrs
			&& $addrs =~ /^[A-Z]+\z/;
		$addrs = [ $addrs ] if defined $addrs && !ref $addrs;
	}

	$rcode = 'NOERROR' unless defined $rcode;
	return undef if $rcode eq 'TIMEOUT';

	if ($rcode eq 'NOERROR' && ref $addrs) {
		my ($family, $number) = $type eq 'A' ? (AF_INET, 1)
			: (AF_INET6, 28);

		push @records, map {
			dns_record($name, $number, $entry->{ttl},
				inet_pton($family, $_))
		} @$addrs;
	}

	return substr($query, 0, 2)
		. pack('n5', 0x8180 | $rcode{$rcode}, 1, scalar @records, 0, 0)
		. $question . join('', @records);
}

sub dns_record {
	my ($name, $type, $ttl, $data) = @_;

	return dns_name($name) . pack('n2 N n/a*', $type, 1,
		defined $ttl ? $ttl : 3600, $data);
}

sub dns_name {
	my ($name) = @_;

	return pack('(C/a*)*', split(/\./, $name)) . "\0";
}

sub dns_queries {
	my ($t, $log, $name, $type) = @_;

	return grep {
		my ($n, $t) = split ' ';
		(!defined $name || $n eq lc $name)
			&& (!defined $type || $t eq $type);
	} log_lines($t, $log);
}

###############################################################################

# Certificates

sub make_cert {
	my ($t, $name, %opt) = @_;

	my $file = $t->testdir() . "/$name";

	%opt = (cn => $name, days => 30, %opt);

	my @san = @{$opt{san} || [ $opt{cn} ]};
	my $san = join ',', map { (/^[\d.]+\z|:/ ? 'IP:' : 'DNS:') . $_ } @san;
	my $ca = $opt{is_ca} ? 'true' : 'false';
	my $usage = 'digitalSignature' . ($opt{is_ca} ? ',keyCertSign' : '');

	$t->write_file("$name.cnf", <<EOF);
[ req ]
prompt = no
distinguished_name = name
x509_extensions = extensions
[ name ]
CN = $opt{cn}
[ extensions ]
basicConstraints = critical,CA:$ca
keyUsage = critical,$usage
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $san
EOF

	my @command = (qw/ openssl req -x509 -nodes -newkey ec
		-pkeyopt ec_paramgen_curve:prime256v1 /,
		'-config', "$file.cnf", '-days', $opt{days},
		'-keyout', "$file.key", '-out', "$file.crt");

	if (defined $opt{ca}) {
		my $issuer = $t->testdir() . "/$opt{ca}";
		push @command, '-CA', "$issuer.crt", '-CAkey', "$issuer.key";
	}

	my $quoted = join ' ', map { "'$_'" } @command;

	system("$quoted >>" . $t->testdir() . '/openssl.out 2>&1') == 0
		or die "Can't create certificate for $name\n";

	return ("$file.crt", "$file.key");
}

###############################################################################

# Configurations

sub conf_from {
	my ($t, $file, @changes) = @_;

	open my $fh, '<', $file or die "Can't open $file: $!\n";
	my $conf = do { local $/; <$fh> };
	close $fh;

	while (my ($from, $to) = splice @changes, 0, 2) {
		$conf =~ s/$from/$to/g or die "No $from in $file\n";
	}

	$t->write_file_expand('nginx.conf', $conf);
}

sub nginx_check {
	my ($t, $conf) = @_;

	# not the files of the nginx that runs later

	(my $globals = $t->test_globals()) =~ s!/nginx\.pid!/check.pid!;
	$globals =~ s!/error\.log!/check.log!;

	$t->write_file_expand('check.conf', "$globals\n$conf");

	my $dir = $t->testdir();
	my $out = `'$Test::Nginx::NGINX' -t -p '$dir' -c '$dir/check.conf' \\
		-e check.log 2>&1`;
	my $rc = $? >> 8;

	# a value may have line feeds

	my @lines = grep { !/syntax is ok$|test is successful$| test failed$/ }
		split /\n(?=nginx: )/, $out;
	s/\n\z// for @lines;
	s/^nginx: // for @lines;
	s! in \S+/check\.conf:\d+$!! for @lines;

	return ($rc, @lines);
}

###############################################################################

# Logs

sub log_lines {
	my ($t, $file) = @_;

	open my $fh, '<', $t->testdir() . "/$file" or return;
	my @lines = <$fh>;

	# one that is being written is none yet

	pop @lines if @lines && $lines[-1] !~ /\n\z/;
	chomp @lines;

	return @lines;
}

sub wait_log {
	my ($t, $file, $re, $timeout, $count) = @_;

	my @found;

	wait_for(sub {
		@found = grep { /$re/ } log_lines($t, $file);
		return @found >= ($count || 1);
	}, $timeout);

	return @found >= ($count || 1) ? $found[-1] : undef;
}

sub wait_for {
	my ($code, $timeout) = @_;

	my $until = time() + (defined $timeout ? $timeout : TIMEOUT);

	while (1) {
		my $result = $code->();
		return $result if $result || time() >= $until;

		sleep(0.05);
	}
}

###############################################################################

1;

###############################################################################
