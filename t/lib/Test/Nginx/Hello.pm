package Test::Nginx::Hello;

# ClientHellos of TLS: built in every form, read, and answered.  Nothing here
# needs TLS libraries.
#
#   hello(%opt)			a ClientHello in its records; a real server
#				answers it as long as only these are given:
#
#	sni => 'name'		none without it; an array: several in a list
#	alpn => [ ... ]		names
#	versions => [ ... ]	supported_versions, in their order
#	shares => [ ... ]	key_share: each [ group, bytes or how many ]
#	tls13 => 1		what TLS 1.3 needs of the two above
#	pq => 1			the same with a share of X25519MLKEM768
#	grease => 1		GREASE in all places where Chromium has it
#	ech => 1		encrypted_client_hello as GREASE has it;
#				another number: so many bytes of payload
#	padding => n		an extension with n bytes
#	size => n		padded, so that the message has n bytes
#	before => [ ... ]	more extensions in front of these, each
#				[ type, bytes ]
#	extensions => [ ... ]	more of them behind
#	record => n		n bytes in each record (16384)
#	records => [ ... ]	the same for each, the rest in one more
#
#				others are for what no server answers:
#
#	only => [ ... ]		no other extensions than these
#	drop => [ ... ]		types of extensions that are left out
#	extensions => undef	not even their length
#	type, version, random, session, ciphers, compression
#				fields: numbers and bytes
#	tail => bytes		behind the extensions, in the message
#	length => n		n bytes more (or less) than it has are what the
#				message tells
#	extensions_length => n	the same for the extensions
#	record_type, record_version
#
#   hello_message(%opt)		without records
#   hello_records($message, %opt)
#				record, records, record_type, record_version
#   server_name(@names)		extension server_name; a name may be
#				[ type, bytes ]
#   sslv2_hello(%opt)		version, ciphers, session, challenge, length
#
#   read_hello($bytes)		what a ClientHello has: undef if it is not
#				whole, or else a hash of
#	length			in bytes, with its records
#	records			how many
#	sni			server_name's first host_name
#	alpn, versions, groups, shares, ciphers, types
#				arrays; shares: of the groups; types: of
#				the extensions
#	version			legacy_version
#	ech			whether it has that
#   read_hello_names($hello)	what the variables should be, a hash of
#				protocol, host, alpn, version, min and ech, "-"
#				for nothing
#   is_grease($number)
#
#   tls_alert($name)		a fatal alert, as passthrough sends it
#   is_server_hello($bytes)	whether a server has answered with one
#
# Tables for all that look at ClientHellos
#
#   sni_hellos()		each [ what it is, options of hello(), host ],
#				host is '' if it is as good as none
#   bad_hellos()		each [ what it is, bytes ]: whole, malformed

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	hello hello_message hello_records server_name sslv2_hello
	read_hello read_hello_names is_grease tls_alert is_server_hello
	sni_hellos bad_hellos
/;

###############################################################################

use Test::Nginx::Tunnel qw/ pattern /;

###############################################################################

use constant {
	RECORD		=> 16384,
	HANDSHAKE	=> 22,
	CLIENT_HELLO	=> 1,

	SERVER_NAME	=> 0,
	GROUPS		=> 10,
	ALPN		=> 16,
	PADDING		=> 21,
	VERSIONS	=> 43,
	KEY_SHARE	=> 51,
	ECH		=> 0xfe0d,

	X25519		=> 0x1d,
	MLKEM768	=> 0x11ec,	# X25519MLKEM768
	MLKEM_SIZE	=> 1184,
};

my %alert = (
	internal_error		=> 80,
	unrecognized_name	=> 112,
);

###############################################################################

sub hello {
	my (%opt) = @_;

	return hello_records(hello_message(%opt), %opt);
}

sub hello_message {
	my (%opt) = @_;

	my $message = message(%opt);

	return $message unless defined $opt{size};

	# the extension has a head of four bytes

	my $left = $opt{size} - length($message) - 4;
	die "a message of $opt{size} bytes is too small\n" if $left < 0;

	return message(%opt, padding => $left);
}

sub message {
	my (%opt) = @_;

	my $tls13 = $opt{tls13} || $opt{pq};

	%opt = (
		type => CLIENT_HELLO,
		version => 0x0303,
		random => pattern(32),
		session => $tls13 ? pattern(32, 32) : '',
		compression => "\0",
		tail => '',
		length => 0,
		extensions_length => 0,
		%opt
	);

	my @ciphers = (0xc02b, 0xc02f, 0xc02c, 0xc030, 0x009c, 0x002f);
	unshift @ciphers, 0x1301, 0x1302 if $tls13;
	unshift @ciphers, 0x8a8a if $opt{grease};

	my $ciphers = defined $opt{ciphers} ? $opt{ciphers}
		: pack('n*', @ciphers);

	my $body = pack('n a32 C/a* n/a* C/a*', @opt{qw/ version random
		session /}, $ciphers, $opt{compression});

	if (!exists $opt{extensions} || defined $opt{extensions}) {
		my $extensions = join '', map { pack('n n/a*', @$_) }
			hello_extensions(%opt, tls13 => $tls13);

		$body .= pack('n', length($extensions)
			+ $opt{extensions_length}) . $extensions;
	}

	$body .= $opt{tail};

	# one byte of type, three of length

	return pack('N', $opt{type} << 24 | length($body) + $opt{length})
		. $body;
}

sub hello_extensions {
	my (%opt) = @_;

	return @{$opt{only}} if $opt{only};

	my @groups = (X25519, 0x17, 0x18);
	my @versions = (0x0304, 0x0303);
	my @shares;

	# the base point, and a key of which all numbers are 0: they are valid

	push @shares, [ X25519, "\x09" . "\0" x 31 ] if $opt{tls13};

	if ($opt{pq}) {
		unshift @groups, MLKEM768;
		unshift @shares, [ MLKEM768, "\0" x MLKEM_SIZE
			. $shares[0][1] ];
	}

	@versions = @{$opt{versions}} if $opt{versions};
	@shares = @{$opt{shares}} if $opt{shares};

	if ($opt{grease}) {
		unshift @groups, 0x4a4a;
		unshift @versions, 0x6a6a;
		unshift @shares, [ 0x4a4a, "\0" ];
	}

	my @extensions;

	push @extensions, [ 0x2a2a, '' ] if $opt{grease};
	push @extensions, @{$opt{before}} if $opt{before};
	push @extensions, server_name(ref $opt{sni} ? @{$opt{sni}} : $opt{sni})
		if defined $opt{sni};

	# supported_groups, ec_point_formats, signature_algorithms

	push @extensions,
		[ GROUPS, pack('n/a*', pack('n*', @groups)) ],
		[ 11, pack('C/a*', pack('C', 0)) ],
		[ 13, pack('n/a*', pack('n*', 0x0403, 0x0804, 0x0401,
			0x0503, 0x0805, 0x0501)) ];

	push @extensions, [ ALPN, pack('n/a*',
		join('', map { pack('C/a*', $_) } @{$opt{alpn}})) ]
		if $opt{alpn};

	push @extensions, [ VERSIONS, pack('C/a*', pack('n*', @versions)) ]
		if $opt{tls13} || $opt{versions};

	push @extensions, [ KEY_SHARE, pack('n/a*', join('', map { share(@$_) }
		@shares)) ] if $opt{tls13} || $opt{shares};

	push @extensions, [ ECH, ech($opt{ech}) ] if $opt{ech};
	push @extensions, @{$opt{extensions}} if $opt{extensions};
	push @extensions, [ 0xdada, "\0" ] if $opt{grease};
	push @extensions, [ PADDING, "\0" x $opt{padding} ]
		if defined $opt{padding};

	my %drop = map { $_ => 1 } @{$opt{drop} || []};

	return grep { !$drop{$_->[0]} } @extensions;
}

sub server_name {
	my (@names) = @_;

	return [ SERVER_NAME, pack('n/a*', join('', map {
		pack('C n/a*', ref $_ ? @$_ : (0, $_))
	} @names)) ];
}

sub share {
	my ($group, $key) = @_;

	$key = pattern($key) if $key =~ /^\d+\z/ && length $key < 6;

	return pack('n n/a*', $group, $key);
}

# An outer one: HKDF-SHA256 and AES-128-GCM, a number, a key, and the payload.

sub ech {
	my ($size) = @_;

	return pack('C n2 C n/a* n/a*', 0, 1, 1, 17, pattern(32, 64),
		pattern($size > 1 ? $size : 144, 96));
}

sub hello_records {
	my ($message, %opt) = @_;

	%opt = (record_type => HANDSHAKE, record_version => 0x0301, %opt);

	my @sizes = @{$opt{records} || []};
	my $records = '';

	while (length $message) {
		my $size = @sizes ? shift @sizes : $opt{record} || RECORD;

		$records .= pack('C n n/a*', @opt{qw/ record_type
			record_version /}, substr($message, 0, $size, ''));
	}

	return $records;
}

# RFC 5246, E.2

sub sslv2_hello {
	my (%opt) = @_;

	%opt = (
		version => 0x0301,
		ciphers => pack('H*', '01008000002f000035'),
		session => '',
		challenge => pattern(16),
		length => 0,
		%opt
	);

	my $message = pack('C n4', 1, $opt{version}, map { length $opt{$_} }
		qw/ ciphers session challenge /)
		. join '', @opt{qw/ ciphers session challenge /};

	return pack('n', 0x8000 | length($message) + $opt{length}) . $message;
}

###############################################################################

sub read_hello {
	my ($bytes) = @_;

	my ($message, $length, $records) = ('', 0, 0);

	while (length $message < 4
		|| length $message < 4 + (unpack('N', $message) & 0xffffff))
	{
		return undef if length $bytes < $length + 5;

		my ($type, undef, $size) = unpack('C n2',
			substr($bytes, $length, 5));

		return undef if $type != HANDSHAKE
			|| length $bytes < $length + 5 + $size;

		$message .= substr($bytes, $length + 5, $size);
		$length += 5 + $size;
		$records++;
	}

	return undef if unpack('C', $message) != CLIENT_HELLO;

	my ($version, undef, $ciphers, undef, $extensions)
		= unpack('x4 n x32 C/a* n/a* C/a* a*', $message);

	my %hello = (
		length		=> $length,
		records		=> $records,
		version		=> $version,
		ciphers		=> [ unpack 'n*', $ciphers ],
		alpn		=> [],
		versions	=> [],
		groups		=> [],
		shares		=> [],
		types		=> [],
		ech		=> 0,
	);

	my @pairs = length $extensions < 2 ? ()
		: unpack('(n n/a*)*', unpack('n/a*', $extensions));

	while (my ($type, $data) = splice @pairs, 0, 2) {
		push @{$hello{types}}, $type;
		read_extension(\%hello, $type, $data);
	}

	return \%hello;
}

sub read_extension {
	my ($hello, $type, $data) = @_;

	$hello->{ech} = 1 if $type == ECH;

	$hello->{sni} = unpack('x3 n/a*', $data)
		if $type == SERVER_NAME && length $data > 4;

	$hello->{alpn} = [ unpack '(C/a*)*', unpack('n/a*', $data) ]
		if $type == ALPN;

	$hello->{versions} = [ unpack 'n*', unpack('C/a*', $data) ]
		if $type == VERSIONS;

	$hello->{groups} = [ unpack 'n*', unpack('n/a*', $data) ]
		if $type == GROUPS;

	if ($type == KEY_SHARE) {
		my %share = unpack('(n n/a*)*', unpack('n/a*', $data));
		$hello->{shares} = [ sort { $a <=> $b } keys %share ];
	}
}

sub read_hello_names {
	my ($hello) = @_;

	my %name = (
		0x0300 => 'SSLv3', 0x0301 => 'TLSv1', 0x0302 => 'TLSv1.1',
		0x0303 => 'TLSv1.2', 0x0304 => 'TLSv1.3'
	);

	my @versions = sort { $a <=> $b } grep { $name{$_} }
		@{$hello->{versions}};

	my $alpn = join ',', map {
		s/([^!-~]|[,%])/sprintf '%%%02X', ord $1/egr
	} @{$hello->{alpn}};

	return {
		protocol	=> 'tls',
		host		=> defined $hello->{sni} ? lc $hello->{sni}
			: '-',
		alpn		=> length $alpn ? $alpn : '-',
		version		=> $name{@versions ? $versions[-1]
			: $hello->{version}} || '-',
		min		=> @versions ? $name{$versions[0]} : '-',
		ech		=> $hello->{ech} ? 1 : '-',
	};
}

# RFC 8701

sub is_grease {
	my ($number) = @_;

	return ($number & 0x0f0f) == 0x0a0a
		&& $number >> 8 == ($number & 0xff);
}

sub tls_alert {
	my ($name) = @_;

	return pack('C n n C2', 21, 0x0303, 2, 2, $alert{$name}
		|| die "no alert $name\n");
}

sub is_server_hello {
	my ($bytes) = @_;

	return $bytes =~ /^\x16\x03[\x01-\x03]..\x02/s;
}

###############################################################################

# RFC 6066, 3: the one host_name of the list is a name of the DNS, without a
# dot at its end, and no address.

sub sni_hellos {
	my $label = 'a' x 63;
	my $long = join '.', $label, $label, $label, 'b' x 61;

	my @good = (
		[ 'a name', 'www.example.com' ],
		[ 'one label', 'localhost' ],
		[ 'one letter', 'a' ],
		[ 'upper case', 'WWW.Example.COM', 'www.example.com' ],
		[ 'a dot at its end', 'www.example.com.', 'www.example.com' ],
		[ 'digits, hyphens, and underscores', '_1-2.x--y.3com' ],
		[ 'an internationalized name', 'xn--bcher-kva.example' ],
		[ 'a label of 63 bytes', "$label.example" ],
		[ 'a name of 253 bytes', $long ],
	);

	my @bad = (
		[ 'an empty name', '' ],
		[ 'only a dot', '.' ],
		[ 'a dot in front', '.example.com' ],
		[ 'two dots', 'www..example.com' ],
		[ 'two dots at its end', 'www.example.com..' ],
		[ 'a label of 64 bytes', "a$label.example" ],
		[ 'a name of 254 bytes', "b$long" ],
		[ 'a name of 4000 bytes', 'a.' x 2000 ],
		[ 'NUL inside', "www.example.com\0.evil.example" ],
		[ 'NUL at its end', "www.example.com\0" ],
		[ 'only NUL', "\0" ],
		[ 'a space', 'www.example.com evil' ],
		[ 'a line feed', "www.example.com\n" ],
		[ 'UTF-8', "b\xc3\xbccher.example" ],
		[ 'a port', 'www.example.com:443' ],
		[ 'a wildcard', '*.example.com' ],
		[ 'a path', 'www.example.com/x' ],
		[ 'a user', 'user@www.example.com' ],
		[ 'a percent sign', 'www%2eexample.com' ],
		[ 'a target', 'unix:/tmp/x' ],
		[ 'an IPv4 address', '127.0.0.1' ],
		[ 'an IPv4 address and a dot', '127.0.0.1.' ],
		[ 'half an IPv4 address', '127.1' ],
		[ 'an IPv4 address in hex', '0x7f000001' ],
		[ 'a number', '2130706433' ],
		[ 'an IPv6 address', '::1' ],
		[ 'an IPv6 address in brackets', '[::1]' ],
	);

	my $name = 'www.example.com';

	my @lists = (
		[ 'two names', server_name($name, 'evil.example') ],
		[ 'the same name twice', server_name($name, $name) ],
		[ 'a name of another type', server_name([ 1, $name ]) ],
		[ 'another type behind', server_name($name, [ 1, 'x' ]) ],
		[ 'another type in front', server_name([ 1, 'x' ], $name) ],
	);

	return (
		[ 'no name', {}, '' ],
		[ 'no extensions', { extensions => undef }, '' ],
		[ 'an empty list of extensions', { only => [] }, '' ],
		[ 'the name first', { only => [ server_name($name) ] },
			$name ],
		[ 'the name last', { extensions => [ server_name($name) ] },
			$name ],
		(map { [ $_->[0], { sni => $_->[1] }, $_->[-1] ] } @good),
		(map { [ $_->[0], { sni => $_->[1] }, '' ] } @bad),
		(map { [ $_->[0], { before => [ $_->[1] ] }, '' ] } @lists),
	);
}

# Each is whole as far as its records tell.

sub bad_hellos {
	my %good = (sni => 'www.example.com', tls13 => 1);
	my $message = hello_message(%good);
	my $size = length $message;

	my $name = 'www.example.com';
	my $list = server_name($name)->[1];

	my @extensions = (
		[ 'no names', server_name() ],
		[ 'nothing in server_name', [ SERVER_NAME, '' ] ],
		[ 'one byte in server_name', [ SERVER_NAME, "\0" ] ],
		[ 'a list of names that is too long', [ SERVER_NAME,
			pack('n', 19) . substr($list, 2) ] ],
		[ 'a list of names that is too short', [ SERVER_NAME,
			pack('n', 17) . substr($list, 2) ] ],
		[ 'a byte behind the list of names', [ SERVER_NAME,
			"$list\0" ] ],
		[ 'a byte behind the name', [ SERVER_NAME, pack('n C n a* x',
			19, 0, 15, $name) ] ],
		[ 'a name that is too long', [ SERVER_NAME, pack('n C n a*',
			18, 0, 16, $name) ] ],
		[ 'half a name', [ SERVER_NAME, pack('n C C', 2, 0, 0) ] ],
		[ 'nothing in ALPN', [ ALPN, '' ] ],
		[ 'an empty list in ALPN', [ ALPN, pack('n', 0) ] ],
		[ 'an empty name in ALPN', [ ALPN, pack('n C a2 C', 4, 2,
			'h2', 0) ] ],
		[ 'a name in ALPN that is too long', [ ALPN, pack('n C a2',
			3, 3, 'h2') ] ],
		[ 'a byte behind ALPN', [ ALPN, pack('n C a2 x', 3, 2,
			'h2') ] ],
		[ 'nothing in supported_versions', [ VERSIONS, '' ] ],
		[ 'no supported_versions', [ VERSIONS, pack('C', 0) ] ],
		[ 'half of supported_versions', [ VERSIONS, pack('C n C', 3,
			0x0304, 3) ] ],
		[ 'supported_versions that end late', [ VERSIONS,
			pack('C n', 4, 0x0304) ] ],
	);

	my @fields = (
		[ 'another handshake message', type => 2 ],
		[ 'HelloRequest', type => 0 ],
		[ 'a message that ends early', length => -1 ],
		[ 'a message that ends in its random', length => 20 - $size ],
		[ 'an empty message', length => 4 - $size ],
		[ 'extensions that end early', extensions_length => -1 ],
		[ 'extensions that end late', extensions_length => 1 ],
		[ 'a byte behind the extensions', tail => "\0" ],
		[ 'a session id of 33 bytes', session => 'x' x 33 ],
		[ 'a session id of 255 bytes', session => 'x' x 255 ],
		[ 'an extension twice', extensions => [ [ 23, '' ],
			[ 23, '' ] ] ],
		[ 'the same name twice', extensions => [
			server_name('www.example.com') ] ],
		[ 'another name', extensions => [
			server_name('evil.example') ] ],
		[ 'ALPN twice', alpn => [ 'h2' ], extensions => [
			[ ALPN, pack('n/a*', pack('C/a*', 'x')) ] ] ],
		[ 'GREASE twice', extensions => [ [ 0x2a2a, '' ],
			[ 0x2a2a, '' ] ] ],
		[ '129 extensions', only => [ server_name('www.example.com'),
			map { [ 1000 + $_, '' ] } 1 .. 128 ] ],
		[ 'half an extension', extensions => [], tail => "\0\x17\0",
			extensions_length => 3 ],
		[ 'an extension that is too long', extensions => [],
			tail => "\0\x17\0\x02\0", extensions_length => 5 ],
		[ 'half a length of extensions', extensions => undef,
			tail => "\0" ],
		[ 'no compression method', compression => '' ],
		[ 'no cipher suite', ciphers => '' ],
		[ 'half a cipher suite', ciphers => "\xc0\x2b\xc0" ],
	);

	my $half = int($size / 2);
	my ($first, $second) = map { hello_records($_) }
		substr($message, 0, $half), substr($message, $half);
	my $empty = pack('C n n', HANDSHAKE, 0x0301, 0);

	return (
		(map { my ($what, @opt) = @$_; [ $what, hello(%good, @opt) ] }
			@fields),
		(map { [ $_->[0], hello(before => [ $_->[1] ]) ] }
			@extensions),
		[ 'an empty record', $empty . $first . $second ],
		[ 'an empty record inside', $first . $empty . $second ],
		[ 'an alert inside', $first . tls_alert('internal_error')
			. $second ],
		[ 'application data inside', $first
			. pack('C n n/a*', 23, 0x0303, 'data') . $second ],
		[ 'another version inside', $first
			. pack('C n n/a*', HANDSHAKE, 0x0201,
				substr($message, $half)) ],
		[ 'a record of another version',
			hello(%good, record_version => 0x0201) ],
		[ 'only an empty record', $empty ],
	);
}

###############################################################################

1;

###############################################################################
