package Test::Nginx::Socks;

# What tests of SOCKS need besides Test::Nginx::Tunnel.
#
#   socks_log()			directives: tunnel.log tells of a session
#				"port status result reason version command
#				"user" target received sent"
#   socks_client($t, $addr, %opt)
#				connection that socks_logged() knows; options
#				of client_connect()
#   socks_logged($t, $s)	waits for its line, and returns it without the
#				port; '' if there is none
#   socks_open($t, $version, $addr, $host, $port, %opt)
#				one message after the other, version "4", "4a"
#				or "5"; user, or auth => [ user, password ],
#				early, cmd, atyp, and those of client_connect();
#				($s, code, address, port) as the reply has them,
#				code "method" or "auth" if it did not come to a
#				request
#   socks_good($t, $version, $addr, $host, $port, $name, %opt)
#				1 test: opens, and echoes; returns what was
#				logged
#   socks_answer($t, $addr, $bytes, $reply, $log, $name, %opt)
#				2 tests: the reply to these bytes in hex, and
#				then the end; and what is logged, a regex
#   socks_request($version, $host, $port, %opt)
#				all that a client says, in one string; user,
#				auth, cmd, atyp
#   socks4_hex($code), socks5_hex($code)
#				a refusal
#   ends($s)			what comes until the end, in hex, and the end
#   password_hash($format, $password)
#				for a file of users; format "plain", "sha",
#				"ssha", "1", "5", "6", "apr1", or crypt(3)'s
#				salt
#   peer_daemon($addr, %opt)	a target that says "address port\n" of its
#				peer and then echoes; report gets a line for
#				each connection

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	socks_log socks_client socks_logged socks_open socks_good
	socks_answer socks_request socks4_hex socks5_hex ends
	password_hash peer_daemon
/;

###############################################################################

use Digest::SHA qw/ sha1 /;
use MIME::Base64 qw/ encode_base64 /;
use Socket qw/ AF_INET inet_ntop /;
use Test::More;

use Test::Nginx::Tunnel;

###############################################################################

use constant LOG => 'tunnel.log';

###############################################################################

sub socks_log {
	return <<'EOF';
log_format socks '$remote_port:$server_port $status '
                     '$tunnel_result $tunnel_reason '
                     '$socks_version $socks_command "$socks_user" '
                     '$tunnel_target '
                     '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log socks;
EOF
}

# A port may be used again, and at once by a client of another server: only
# what that one logs from now on is of this client.

sub socks_client {
	my ($t, $addr, %opt) = @_;

	my $lines = () = log_lines($t, LOG);
	my $s = client_connect($addr, %opt) or return undef;

	${*$s}{socks_id} = $s->sockport() . ':' . ($addr =~ /(\d+)\z/)[0];
	${*$s}{socks_lines} = $lines;

	return $s;
}

sub socks_logged {
	my ($t, $s, $timeout) = @_;

	my ($id, $first) = @{*$s}{qw/ socks_id socks_lines /};

	my $line = wait_for(sub {
		my @lines = log_lines($t, LOG);
		return (grep { /^$id / } @lines[$first .. $#lines])[0];
	}, $timeout);

	return ($line || '') =~ s/^\S+ //r;
}

###############################################################################

sub socks_open {
	my ($t, $version, $addr, $host, $port, %opt) = @_;

	my $s = socks_client($t, $addr, %opt) or return;
	my $early = defined $opt{early} ? $opt{early} : '';

	if ($version ne '5') {
		write_all($s, socks_request($version, $host, $port, %opt)
			. $early);

		my $reply = read_n($s, 8, $opt{timeout});
		return $s if length $reply < 8;

		my ($null, $code, $bound, $address) = unpack('C2 n a4', $reply);

		return ($s, $null ? "version $null" : $code,
			inet_ntop(AF_INET, $address), $bound);
	}

	write_all($s, socks5_greeting($opt{auth} ? 2 : 0));

	my $method = $opt{auth} ? "\x05\x02" : "\x05\x00";
	return ($s, 'method') if read_n($s, 2, $opt{timeout}) ne $method;

	if ($opt{auth}) {
		write_all($s, socks5_auth(@{$opt{auth}}));

		return ($s, 'auth')
			if read_n($s, 2, $opt{timeout}) ne "\x01\x00";
	}

	write_all($s, socks5_request($host, $port, request_options(%opt))
		. $early);

	return ($s, read_socks5_reply($s, $opt{timeout}));
}

sub socks_request {
	my ($version, $host, $port, %opt) = @_;

	%opt = request_options(%opt);

	return socks4_request($host, $port, %opt) if $version eq '4';
	return socks4a_request($host, $port, %opt) if $version eq '4a';

	my $auth = delete $opt{auth};

	return socks5_greeting($auth ? 2 : 0)
		. ($auth ? socks5_auth(@$auth) : '')
		. socks5_request($host, $port, %opt);
}

sub request_options {
	my (%opt) = @_;

	return map { $_ => $opt{$_} } grep { exists $opt{$_} }
		qw/ user auth cmd atyp /;
}

sub socks_good {
	my ($t, $version, $addr, $host, $port, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $good = $version eq '5' ? 0 : 90;
	my ($s, $code) = socks_open($t, $version, $addr, $host, $port, %opt);
	my $got = '';

	if (defined $code && $code eq $good) {
		write_all($s, 'hello');
		$got = read_n($s, 5);
		half_close($s);
	}

	is(join(' ', defined $code ? $code : 'none', $got), "$good hello",
		$name);

	return '' unless $s;

	read_all($s);
	close $s;

	return socks_logged($t, $s);
}

sub socks_answer {
	my ($t, $addr, $bytes, $reply, $log, $name, %opt) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $s = socks_client($t, $addr, %opt);
	write_all($s, $bytes);

	is(ends($s), length $reply ? "$reply EOF" : 'EOF', $name);

	# nginx waits for that, so that its reply is not lost

	close $s;
	like(socks_logged($t, $s), qr/^$log/, "$name, logged");
}

sub ends {
	my ($s, $timeout) = @_;

	my ($bytes, $state) = read_all($s, $timeout);

	return length $bytes ? unpack('H*', $bytes) . " $state" : $state;
}

sub socks4_hex {
	my ($code) = @_;

	return unpack('H*', pack('C2 x6', 0, $code));
}

sub socks5_hex {
	my ($code) = @_;

	return unpack('H*', pack('C4 x6', 5, $code, 0, 1));
}

###############################################################################

sub password_hash {
	my ($format, $password) = @_;

	return "{PLAIN}$password" if $format eq 'plain';
	return '{SHA}' . encode_base64(sha1($password), '')
		if $format eq 'sha';
	return '{SSHA}' . encode_base64(sha1($password . 'salt') . 'salt', '')
		if $format eq 'ssha';

	if ($format =~ /^(?:1|5|6|apr1)\z/) {
		open my $fh, '-|', 'openssl', 'passwd', "-$format",
			'-salt', 'saltsalt', $password
			or die "Can't run openssl: $!\n";
		chomp(my $hash = <$fh> || '');
		close $fh;

		die "No hash from openssl\n"
			unless $hash =~ /^\$\Q$format\E\$/;
		return $hash;
	}

	my $hash = crypt($password, $format);
	die "No hash of crypt($format)\n"
		unless defined $hash && $hash =~ /^[^*]{13,}\z/;

	return $hash;
}

sub peer_daemon {
	my ($addr, %opt) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		my $peer = $s->peerhost() . ' ' . $s->peerport() . "\n";

		Test::Nginx::Tunnel::append($opt{report}, $peer)
			if defined $opt{report};
		write_all($s, $peer);

		while (1) {
			my ($bytes, $state) = read_n($s, 1, 60);
			last if $state ne 'OK';

			write_all($s, $bytes);
		}

		Test::Nginx::Tunnel::finish($s);
	}, %opt);
}

###############################################################################

1;

###############################################################################
