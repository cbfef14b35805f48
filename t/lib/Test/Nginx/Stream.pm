package Test::Nginx::Stream;

# A client of nginx's stream servers: stream() over TCP or TLS, dgram()
# over UDP.

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT_OK = qw/ stream dgram /;

###############################################################################

use Errno qw/ EAGAIN EINTR EWOULDBLOCK /;
use IO::Select qw//;
use IO::Socket::INET qw//;
use Socket qw/ SOCK_DGRAM /;
use Time::HiRes qw/ time /;

use Test::Nginx;

###############################################################################

use constant {
	READ_SIZE	=> 1024,
	READ_TIMEOUT	=> 8,
	WRITE_TIMEOUT	=> 1.5,
};

sub stream {
	return __PACKAGE__->new(@_);
}

sub dgram {
	return __PACKAGE__->new(
		Proto => 'udp',
		@_ == 1 ? (PeerAddr => $_[0]) : @_
	);
}

sub new {
	my ($class, @args) = @_;

	my %args = @args == 1 ? (PeerAddr => $args[0]) : @args;
	my $self = bless {}, $class;

	Test::Nginx::in_time(sub {
		$self->{_socket} = IO::Socket::INET->new(
			Proto => 'tcp',
			PeerAddr => '127.0.0.1',
			%args
		)
			or die "Can't connect to nginx: $!\n";

		# a failed handshake leaves a connection to look at

		Test::Nginx::start_ssl($self->{_socket}, %args)
			if $args{SSL};
	});

	die "Can't connect to nginx\n" unless $self->{_socket};

	$self->{_socket}->autoflush(1);

	return $self;
}

sub DESTROY {
	my ($self) = @_;

	$self->{_socket}->close() if $self->{_socket};
}

# Writes all of it; a peer that does not take it gets the connection closed.

sub write {
	my ($self, $message, %extra) = @_;

	my $s = $self->{_socket};
	my $select = IO::Select->new($s);
	my $timeout = $extra{write_timeout} || WRITE_TIMEOUT;

	local $SIG{PIPE} = 'IGNORE';

	$s->blocking(0);

	# once at least: an empty datagram is sent too

	while ($select->can_write($timeout)) {
		my $n = $s->syswrite($message);

		if (defined $n) {
			log_out(substr($message, 0, $n, ''));
			last if $n == 0 || !length $message;

		} elsif (!again()) {
			last;
		}
	}

	$s->close() if length $message;
}

# What there is to read: undef if nothing comes, '' at the end.

sub read {
	my ($self, %extra) = @_;

	my $s = $self->{_socket};
	my $until = time() + ($extra{read_timeout} || READ_TIMEOUT);
	my $buf;

	$s->blocking(0);

	while ($self->readable($until - time())) {
		my $n = $s->sysread($buf, READ_SIZE);

		if (!defined $n) {
			$buf = undef;
			next if again();
			$buf = '';
		}

		last;
	}

	log_in($buf);

	return $buf;
}

sub readable {
	my ($self, $timeout) = @_;

	my $s = $self->{_socket};

	return 0 unless defined fileno($s);
	return 1 if $s->can('pending') && $s->pending();
	return 0 if $timeout <= 0;
	return IO::Select->new($s)->can_read($timeout);
}

sub again {
	return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
}

# Writes, then reads until the end, a length, or a number of reads.

sub io {
	my ($self, $data, %extra) = @_;

	my ($length, $reads) = @extra{qw/ length read /};

	$reads = 1 if !defined $reads
		&& $self->{_socket}->socktype() == SOCK_DGRAM;

	$self->write($data, %extra);

	my $reply = '';

	while (!defined $reads || $reads-- > 0) {
		my $buf = $self->read(%extra);
		last unless defined $buf && length $buf;

		$reply .= $buf;
		last if defined $length && length $reply >= $length;
	}

	return $reply;
}

sub sockaddr {
	my ($self) = @_;

	return $self->{_socket}->sockaddr();
}

sub sockhost {
	my ($self) = @_;

	return $self->{_socket}->sockhost();
}

sub sockport {
	my ($self) = @_;

	return $self->{_socket}->sockport();
}

sub socket {
	my ($self) = @_;

	return $self->{_socket};
}

###############################################################################

1;

###############################################################################
