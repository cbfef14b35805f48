package Test::Nginx::Datagram;

# What the tests of SOCKS BIND and UDP ASSOCIATE need besides
# Test::Nginx::Tunnel.  Nothing in here waits without a limit.  An address is
# "host:port", or "[host]:port" for IPv6.
#
# Commands
#
#   socks_command($addr, $version, $cmd, $host, $port, %opt)
#				($s, $code, $address) of a new client and its
#				first reply; version 4, '4a' or 5, cmd "bind"
#				and so on, the other options are those of
#				client_connect() and the request, and early
#   read_reply($s, $version, $timeout)
#				($code, $address) of one more reply, nothing
#				if there is none
#   peer_connect($addr, %opt)	a TCP connection, undef if it is refused; from,
#				the address that it comes from
#   bind_echo($addr, $version, %opt)
#				($s, $peer, $echo) of a tunnel of BIND; what is
#				given to $echo goes to the peer and comes back
#   join_address($host, $port)
#
# Datagrams
#
#   udp_socket($addr)		an UDP socket there; an address without port
#				gets a free one
#   udp_port($s), udp_address($s)
#				where that is
#   udp_put($s, $addr, $bytes)	sends; whether the kernel took it
#   udp_get($s, $timeout)	($bytes, $from), nothing after the timeout,
#				which is two seconds
#   udp_none($s, $timeout)	whether nothing comes for so long
#   udp_header($host, $port, %opt)
#				of RFC 1928 7: frag, rsv, atyp, a number
#   udp_parse($bytes)		($payload, $from) of a datagram of the relay
#
# Associations, which have the client's sockets tcp and udp, the relay's
# address, and the reply's code
#
#   udp_associate($addr, %opt)	host and port are those of the request; from,
#				the address of the socket udp; the others are
#				those of client_connect()
#   udp_send($u, $to, $payload, %opt)
#				through the relay, udp_header()'s options
#   udp_read($u, $timeout)	($payload, $from)
#   udp_echo($u, $target, $payload, $to)
#				there and back: the target is a socket, which
#				answers; an empty string if all is right, or
#				what is wrong; to, if the client calls it
#				something else than its address
#   udp_end($u)			closes both sockets
#
# Processes
#
#   listeners($pid), udp_sockets($pid, $except)
#				addresses of its sockets; except those to a
#				port, such as the name server's

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	socks_command read_reply peer_connect bind_echo join_address
	udp_socket udp_port udp_address udp_put udp_get udp_none
	udp_header udp_parse
	udp_associate udp_send udp_read udp_echo udp_end
	listeners udp_sockets
/;

###############################################################################

use Errno qw/ EAGAIN ECONNREFUSED EINTR /;
use IO::Select qw//;
use IO::Socket::IP qw//;
use Socket qw/
	AF_INET AF_INET6 SOCK_STREAM SOL_SOCKET SO_RCVBUF
	inet_ntop inet_pton pack_sockaddr_in pack_sockaddr_in6
	sockaddr_family unpack_sockaddr_in unpack_sockaddr_in6
/;
use Time::HiRes qw/ time /;

use Test::Nginx::Tunnel;

###############################################################################

use constant {
	TIMEOUT		=> 8,
	WAIT		=> 2,		# for a datagram
	NOTHING		=> 0.15,		# for one that is not to come
	LARGEST		=> 65535,
	RECEIVE		=> 4194304,	# the kernel takes what it can
	LISTEN		=> '0A',	# as /proc/net/tcp has it
};

my %command = (connect => 1, bind => 2, udp => 3);

###############################################################################

# Commands

sub socks_command {
	my ($addr, $version, $cmd, $host, $port, %opt) = @_;

	my $s = client_connect($addr, %opt) or return;

	my %request = map { $_ => $opt{$_} } grep { exists $opt{$_} }
		qw/ user atyp /;
	$request{cmd} = $command{$cmd} || $cmd;

	if ($version eq '5') {
		write_all($s, socks5_greeting());
		return ($s) if read_n($s, 2) ne "\x05\x00";
	}

	write_all($s, ($version eq '5'
			? socks5_request($host, $port, %request)
		: $version eq '4a' ? socks4a_request($host, $port, %request)
		: socks4_request($host, $port, %request))
		. (defined $opt{early} ? $opt{early} : ''));

	return ($s, read_reply($s, $version, $opt{timeout}));
}

sub read_reply {
	my ($s, $version, $timeout) = @_;

	if ($version eq '5') {
		my ($code, $host, $port) = read_socks5_reply($s, $timeout);

		return unless defined $port;
		return ($code, join_address($host, $port));
	}

	my $reply = read_n($s, 8, $timeout);
	return if length $reply < 8;

	my ($null, $code, $port, $ip) = unpack('C2 n a4', $reply);
	return if $null != 0;

	return ($code, join_address(inet_ntop(AF_INET, $ip), $port));
}

sub peer_connect {
	my ($addr, %opt) = @_;

	my ($host, $port) = split_address($addr);

	return IO::Socket::IP->new(
		Type => SOCK_STREAM,
		PeerHost => $host,
		PeerPort => $port,
		Timeout => TIMEOUT,
		defined $opt{from} ? (LocalHost => $opt{from}) : (),
	);
}

sub bind_echo {
	my ($port, $version, %opt) = @_;

	my ($s, undef, $addr)
		= socks_command($port, $version, 'bind', '0.0.0.0', 0);
	my $peer = peer_connect($addr, %opt);
	read_reply($s, $version);

	return ($s, $peer, sub {
		my ($bytes) = @_;

		write_all($s, $bytes);
		write_all($peer, scalar read_n($peer, length $bytes));

		return scalar read_n($s, length $bytes);
	});
}

sub join_address {
	my ($host, $port) = @_;

	return $host =~ /:/ ? "[$host]:$port" : "$host:$port";
}

sub split_address {
	my ($addr) = @_;

	my ($host, $port) = $addr =~ /^\[?(.*?)\]?:(\d+)\z/
		or die "bad address \"$addr\"\n";

	return ($host, $port);
}

###############################################################################

# Datagrams

sub udp_socket {
	my ($addr) = @_;

	my ($host, $port) = $addr =~ /^\[(.*)\]:(\d+)\z/ ? ($1, $2)
		: $addr =~ /^([\d.]+):(\d+)\z/ ? ($1, $2) : ($addr, 0);

	my $s = IO::Socket::IP->new(
		Proto => 'udp',
		LocalHost => $host,
		LocalPort => $port
	)
		|| die "Can't bind to $addr: $!\n";

	setsockopt($s, SOL_SOCKET, SO_RCVBUF, pack('i', RECEIVE));

	return $s;
}

sub udp_port {
	my ($s) = @_;

	return (split_address(udp_address($s)))[1];
}

sub udp_address {
	my ($s) = @_;

	return address_text(getsockname($s));
}

sub address_text {
	my ($sa) = @_;

	my $family = sockaddr_family($sa);
	my ($port, $ip) = $family == AF_INET6 ? unpack_sockaddr_in6($sa)
		: unpack_sockaddr_in($sa);

	return join_address(inet_ntop($family, $ip), $port);
}

sub udp_put {
	my ($s, $addr, $bytes) = @_;

	return 0 unless defined $addr;

	my ($host, $port) = split_address($addr);

	my $sa = $host =~ /:/
		? pack_sockaddr_in6($port, inet_pton(AF_INET6, $host))
		: pack_sockaddr_in($port, inet_pton(AF_INET, $host));

	my $n = send($s, $bytes, 0, $sa);

	return defined $n && $n == length $bytes;
}

sub udp_get {
	my ($s, $timeout) = @_;

	my $until = time() + (defined $timeout ? $timeout : WAIT);

	while (1) {
		my $left = $until - time();
		$left = 0 if $left < 0;
		return unless IO::Select->new($s)->can_read($left);

		$s->blocking(0);
		my $sa = recv($s, my $bytes, LARGEST, 0);
		$s->blocking(1);

		return ($bytes, address_text($sa)) if defined $sa;

		# an ICMP error of something sent before

		return unless $! == EAGAIN || $! == EINTR
			|| $! == ECONNREFUSED;
	}
}

sub udp_none {
	my ($s, $timeout) = @_;

	my @got = udp_get($s, defined $timeout ? $timeout : NOTHING);

	return !@got;
}

sub udp_header {
	my ($host, $port, %opt) = @_;

	my $dest = substr(socks5_request($host, $port), 3);

	substr($dest, 0, 1) = chr($opt{atyp}) if defined $opt{atyp};

	return pack('n C', $opt{rsv} || 0, $opt{frag} || 0) . $dest;
}

sub udp_parse {
	my ($bytes) = @_;

	return if length $bytes < 4;

	my ($rsv, $frag, $atyp) = unpack('n C2', $bytes);
	return if $rsv || $frag || ($atyp != 1 && $atyp != 4);

	my ($family, $size) = $atyp == 1 ? (AF_INET, 4) : (AF_INET6, 16);
	return if length $bytes < 6 + $size;

	my ($ip, $port) = unpack("x4 a$size n", $bytes);

	return (substr($bytes, 6 + $size),
		join_address(inet_ntop($family, $ip), $port));
}

###############################################################################

# Associations

sub udp_associate {
	my ($addr, %opt) = @_;

	my $from = delete $opt{from} || ($addr =~ /^\[/ ? '::1' : '127.0.0.1');
	my ($host, $port) = delete @opt{qw/ host port /};

	my $udp = udp_socket($from);

	$host = $from =~ /:/ ? '::' : '0.0.0.0' unless defined $host;
	$port = udp_port($udp) if defined $port && $port eq 'own';

	my ($s, $code, $relay) = socks_command($addr, 5, 'udp', $host,
		$port || 0, %opt);

	return {
		tcp	=> $s,
		udp	=> $udp,
		code	=> $code,
		relay	=> $relay,
	};
}

sub udp_send {
	my ($u, $to, $payload, %opt) = @_;

	my $s = delete $opt{socket} || $u->{udp};

	return udp_put($s, $u->{relay},
		udp_header(split_address($to), %opt) . $payload);
}

sub udp_read {
	my ($u, $timeout) = @_;

	my ($bytes, $from) = udp_get($u->{udp}, $timeout);

	return unless defined $bytes;
	return ('', "header from $from") if $from ne $u->{relay};
	return udp_parse($bytes);
}

sub udp_echo {
	my ($u, $target, $payload, $to) = @_;

	my $real = udp_address($target);
	$to = $real unless defined $to;

	udp_send($u, $to, $payload) or return "not sent: $!";

	my ($bytes, $from) = udp_get($target);

	return 'nothing at the target' unless defined $bytes;
	return 'other bytes at the target, ' . length $bytes
		if $bytes ne $payload;

	my $answer = reverse $payload;

	udp_put($target, $from, $answer) or return "not answered: $!";

	($bytes, $from) = udp_read($u);

	return 'no answer' unless defined $bytes;
	return "answer has source $from" if $from ne $real;
	return 'other bytes in the answer, ' . length $bytes
		if $bytes ne $answer;

	return '';
}

sub udp_end {
	my ($u) = @_;

	close $u->{tcp};
	close $u->{udp};
}

###############################################################################

# Sockets of a process

sub listeners {
	my ($pid) = @_;

	return map { $_->[0] } grep { $_->[1] eq LISTEN }
		sockets($pid, qw/ tcp tcp6 /);
}

sub udp_sockets {
	my ($pid, $except) = @_;

	return map { $_->[0] }
		grep { !defined $except || $_->[2] !~ /:$except\z/ }
		sockets($pid, qw/ udp udp6 /);
}

sub sockets {
	my ($pid, @files) = @_;

	my %inode = map { /^socket:\[(\d+)/ ? ($1 => 1) : () }
		map { readlink || '' } glob "/proc/$pid/fd/*";

	# while others come and go, a socket may be in these files twice

	my %found;

	for my $file (@files) {
		open my $fh, '<', "/proc/$pid/net/$file" or next;

		while (my $line = <$fh>) {
			my ($local, $remote, $state, $inode)
				= (split ' ', $line)[1, 2, 3, 9];

			$found{$inode} = [ proc_address($local), $state,
				proc_address($remote) ]
				if defined $inode && $inode{$inode};
		}
	}

	return values %found;
}

# The kernel prints words of its own byte order.

sub proc_address {
	my ($text) = @_;

	my ($ip, $port) = split /:/, $text;

	$ip = pack('L*', map { hex } $ip =~ /(.{8})/g);

	return join_address(inet_ntop(length $ip == 4 ? AF_INET : AF_INET6,
		$ip), hex $port);
}

###############################################################################

1;

###############################################################################
