package Test::Nginx::H2;

# A client of HTTP/2 (RFC 9113) and HPACK (RFC 7541) that can send anything,
# right or wrong.  Works over the sockets of Test::Nginx::Tunnel; nothing in
# here waits without a limit.
#
#   h2_listen($t, @listens)	text for a server {}: the directives "listen"
#				with these parameters, for HTTP/2 in the way
#				this nginx wants it
#   h2_conf($t, $conf)		a configuration whose lines "LISTEN ...;" are
#				those
#   h2_client($addr, %opt)	a connection, undef if there is none: see new()
#   h2_tunnel($addr, $authority, %opt)
#				a stream with a tunnel on a connection of its
#				own, that lives as long as the stream; the
#				options are those of new() and connect(); undef
#				if there is no connection; see {status}
#   h2_name($code)		name of an error code
#   h2_data($sid, $bytes, %opt)
#				bytes of a DATA frame: end, padding
#   h2_headers($sid, $block, %opt)
#				bytes of HEADERS and CONTINUATIONs for those of
#				a block: see headers()
#   h2_frame($type, $flags, $sid, $payload)
#				bytes of any frame; the type is a name or a
#				number, the flags are names or a number
#
# Connection
#
#   new($class, $addr, %opt)	to an address of client_connect(), or over a
#				socket that is open.  The preface and SETTINGS
#				are sent at once, the answer is not waited for.
#				Those of client_connect(), where ssl => 1
#				offers the ALPN "h2", and
#				settings	what SETTINGS has: { name or
#						number => value }
#				window		of the connection: 65535 or
#						more; a WINDOW_UPDATE tells
#				start => 0	not even the preface is sent
#				split, delay	everything goes in pieces of so
#						many bytes, each so many
#						seconds after the other
#				pieces		but not in more of them at once
#				settings_ack	1: SETTINGS are acknowledged
#				ping_ack	1: so are PINGs
#				credit		1: received DATA is credited to
#						stream and connection; also
#						"stream" or "connection" only
#				mode		how fields are written when
#						they do not say: see block()
#				timeout		8: for what has no other
#   start(%opt)			the preface and SETTINGS; settings, window
#   preface(%opt)		their bytes
#   stream($sid)		what is known of a stream, an object
#   next_sid()			the id of the next stream
#   request(%opt)		opens a stream, and returns it: fields (all of
#				them, in order) or method, scheme, path,
#				authority (undef: none), headers => [ [ name,
#				value ], ... ], auth => 'user:pass' for a
#				proxy; data, end => 0; sid, and those of
#				headers()
#   get($path, %opt)		that, and waits for the end of the stream
#   connect($authority, %opt)	a CONNECT, and waits for its response, unless
#				wait => 0; those of request(); data is sent at
#				once, and the stream is not ended
#   headers($sid, $block, %opt)	sends a header block: fields, or its bytes;
#				end, padding, split (sizes of the fragments:
#				HEADERS, then CONTINUATIONs; the last one has
#				the rest), priority => [ sid, weight,
#				exclusive ], open => 1 (no END_HEADERS), more
#				(bytes right behind), at, step, delay
#   headers_frames($sid, $block, %opt)
#				their bytes
#   data($sid, $bytes, %opt)	sends DATA, whatever the window is: end,
#				padding
#   rst($sid, $code), ping($bytes), goaway($last, $code, $debug)
#   window_update($sid, $n), settings(%settings), priority($sid, ...)
#				codes are names or numbers
#   frame($type, $flags, $sid, $payload)
#				sends any frame
#   raw($bytes, %opt)		sends bytes; at => [ offsets ] or step => n for
#				pieces, delay; answers are read meanwhile
#   wait($code, $timeout)	reads until this returns true, which is then
#				returned; or until the connection ends
#   wait_frame($type, $n)	the n-th frame of a type
#   wait_ping()			sends a PING, and whether it was acknowledged:
#				what was sent before has been seen then
#   wait_closed($timeout)	EOF, RESET or TRUNCATED when the server has
#				closed, undef if it has not
#   settle($seconds)		reads for so long
#   transcript()		what was received, a text for each frame, for
#				comparisons: "HEADERS 1 END_HEADERS 200",
#				"RST_STREAM 1 CANCEL", "GOAWAY 1 NO_ERROR"; of
#				DATA that does not end a stream the first only;
#				without WINDOW_UPDATE, acknowledgements and the
#				first SETTINGS; at last the state
#   close(), reset()		FIN, RST; a connection that nobody holds is
#				closed, too (a stream does not hold it)
#
#   {closed}			as wait_closed()
#   {goaway}			[ last stream, name of the code, debug ], the
#				last one
#   {frames}			[ { type, flags, sid, length, payload } ... ];
#				DATA has no payload
#   {settings_received}		number => value
#   {pongs}			payloads
#   {window}			what we may send on the connection
#   {socket}
#
# Header blocks
#
#   block(@fields)		bytes of a header block.  A field is [ name,
#				value, words ] or bytes as they are; its words
#				are one of
#				  indexed	a table has it, name and value
#				  incremental	literal with indexing
#				  literal	literal without indexing
#				  never		never indexed
#				none of them: indexed if it can be, else
#				incremental; and some of
#				  new		name is not taken from a table
#				  huffman, raw	else it is what is shorter
#   table_size($n)		bytes of a table-size update; from now on the
#				encoder heeds it
#   table()			dynamic table, [ name, value ] the newest first
#   hpack_block(@fields)	a block of literals that are not indexed, for
#				any connection; a function
#   hpack_int($n, $bits, $first)
#   hpack_string($bytes, $huffman)
#				for malformed ones; functions
#   huffman_encode($bytes), huffman_decode($bytes)
#
# Stream: {id}, {status}, {fields} [ [ name, value ] ... ] in order as they
# came, {headers} { name => value }, {trailers}, {data}, {end}, {rst} name of
# the code, {window} that we may send, {credit}: 0 is no WINDOW_UPDATE for it.
# The functions of Test::Nginx::Tunnel as methods:
#
#   wait_head($timeout)		status
#   write_all($bytes, $timeout)	as far as the windows allow, returns how much
#   read_n($n, $timeout), read_all($timeout)
#				bytes, and in list context also: OK, EOF (end
#				of stream), RESET (RST_STREAM, or the
#				connection is gone), TIMEOUT
#   half_close(), reset_close($code)
#				END_STREAM, RST_STREAM
#   send($bytes, end => 1)	the same as write_all(), without waiting: any
#				wait writes what the windows allow
#   unsent()			how much of that there is still
#   echo($bytes)		writes, and reads as much
#   wait_end($timeout)		END_STREAM, RST_STREAM or the connection's end:
#				EOF, RESET, TIMEOUT
#   wait_rst($timeout)		the name of the code, undef if there is none

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	h2_listen h2_conf h2_client h2_tunnel h2_name h2_frame h2_data
	h2_headers
	hpack_block hpack_int hpack_string huffman_encode huffman_decode
/;

###############################################################################

use Errno qw/ EAGAIN ECONNRESET EINTR EPIPE EWOULDBLOCK /;
use IO::Select qw//;
use MIME::Base64 qw/ encode_base64 /;
use Scalar::Util qw/ weaken /;
use Time::HiRes qw/ sleep time /;

use Test::Nginx qw/ log_in log_out /;
use Test::Nginx::Tunnel;

###############################################################################

use constant {
	TIMEOUT		=> 8,
	BUFFER		=> 65536,
	PREFACE		=> "PRI * HTTP/2.0\x0d\x0a\x0d\x0aSM\x0d\x0a\x0d\x0a",
	ENTRY		=> 32,		# RFC 7541, 4.1
};

my @types = qw/ DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING
	GOAWAY WINDOW_UPDATE CONTINUATION /;

my @codes = qw/ NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR
	SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR REFUSED_STREAM CANCEL
	COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY
	HTTP_1_1_REQUIRED /;

my @settings = (undef, qw/ HEADER_TABLE_SIZE ENABLE_PUSH
	MAX_CONCURRENT_STREAMS INITIAL_WINDOW_SIZE MAX_FRAME_SIZE
	MAX_HEADER_LIST_SIZE /);

my %type = map { $types[$_] => $_ } 0 .. $#types;
my %code = map { $codes[$_] => $_ } 0 .. $#codes;
my %setting = map { $settings[$_] => $_ } 1 .. $#settings;

my %flag = (
	ACK		=> 0x1,
	END_STREAM	=> 0x1,
	END_HEADERS	=> 0x4,
	PADDED		=> 0x8,
	PRIORITY	=> 0x20,
);

# RFC 7541, Appendix A

my @static = map { [ /^(\S+) ?(.*)/ ] } split /\n/, <<'END';
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
END

# RFC 7541, Appendix B: how long the codes of the bytes, and that of EOS, are.
# Those of one length follow one another, in the order of the bytes.

my @lengths = split ' ', <<'END';
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28
28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28
6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6
5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10
13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7
7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6
15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5
6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28
20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23
24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24
22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23
21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23
26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25
19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27
20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23
26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26
30
END

###############################################################################

# Configuration

sub h2_listen {
	my ($t, @listens) = @_;

	my $old = !$t->has_version('1.25.1');

	return join(' ', map({ "listen $_" . ($old ? ' http2' : '') . ';' }
		@listens), $old ? () : 'http2 on;');
}

sub h2_conf {
	my ($t, $conf) = @_;

	$conf =~ s/\bLISTEN ([^;]+);/h2_listen($t, $1)/ge;

	return $conf;
}

###############################################################################

# Connection

sub h2_client {
	my ($addr, %opt) = @_;

	return __PACKAGE__->new($addr, %opt);
}

sub h2_tunnel {
	my ($addr, $authority, %opt) = @_;

	my $h2 = h2_client($addr, %opt) or return undef;

	delete @opt{qw/ split pieces delay /};
	my $stream = $h2->connect($authority, %opt);

	$stream->{keep} = $h2;
	weaken($h2->{streams}{$stream->{id}});

	return $stream;
}

sub new {
	my ($class, $addr, %opt) = @_;

	my $s = $addr;

	if (!ref $addr) {
		$s = $opt{ssl} && !$opt{cert} ? tls_connect($addr, %opt)
			: client_connect($addr, %opt);
		return undef unless $s;
	}

	$s->blocking(0);

	my $self = bless {
		socket		=> $s,
		timeout		=> $opt{timeout} || TIMEOUT,
		split		=> $opt{split},
		pieces		=> $opt{pieces},
		delay		=> defined $opt{delay} ? $opt{delay} : 0.001,
		settings_ack	=> defined $opt{settings_ack}
					? $opt{settings_ack} : 1,
		ping_ack	=> defined $opt{ping_ack} ? $opt{ping_ack} : 1,
		credit		=> defined $opt{credit} ? $opt{credit} : 1,
		mode		=> defined $opt{mode} ? $opt{mode} : '',
		in		=> '',
		out		=> '',
		later		=> '',
		frames		=> [],
		pongs		=> [],
		streams		=> {},
		sid		=> 1,
		window		=> 65535,
		initial_window	=> 65535,
		max_frame	=> 16384,
		received	=> 0,
		receive_window	=> 65535,
		our_initial_window => 65535,
		settings_received => {},
		encoder		=> { table => [], size => 0, max => 4096 },
		decoder		=> { table => [], size => 0, max => 4096 },
	}, $class;

	$self->start(%opt) unless defined $opt{start} && !$opt{start};

	return $self;
}

# As client_connect(), but without a context for each connection: that reads
# all certificates of the system.

sub tls_connect {
	my ($addr, %opt) = @_;

	our %context;

	my $s = client_connect($addr, %opt, ssl => 0) or return undef;
	my @alpn = @{$opt{alpn} || [ 'h2' ]};

	require IO::Socket::SSL;

	my $context = $context{"@alpn"}
		||= IO::Socket::SSL::SSL_Context->new(
			SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
			SSL_alpn_protocols => [ @alpn ]);

	my $tls = IO::Socket::SSL->start_SSL($s,
		Timeout => $opt{timeout} || TIMEOUT,
		SSL_hostname => defined $opt{sni} ? $opt{sni} : '',
		SSL_reuse_ctx => $context);

	log_in('no tls: ' . IO::Socket::SSL::errstr()) unless $tls;

	return $tls;
}

sub start {
	my ($self, %opt) = @_;

	return $self->raw($self->preface(%opt));
}

sub preface {
	my ($self, %opt) = @_;

	my $window = $opt{window} || 65535;
	my %settings = %{$opt{settings} || {}};

	$self->{our_initial_window} = defined $settings{INITIAL_WINDOW_SIZE}
		? $settings{INITIAL_WINDOW_SIZE} : 65535;
	$self->{receive_window} = $window;

	return PREFACE
		. h2_frame('SETTINGS', 0, 0, settings_payload(%settings))
		. ($window > 65535
			? h2_frame('WINDOW_UPDATE', 0, 0,
				pack('N', $window - 65535))
			: '');
}

sub stream {
	my ($self, $sid) = @_;

	return $self->{streams}{$sid}
		||= Test::Nginx::H2::Stream->new($self, $sid);
}

sub next_sid {
	my ($self) = @_;

	my $sid = $self->{sid};
	$self->{sid} += 2;

	return $sid;
}

###############################################################################

# Requests

sub request {
	my ($self, %opt) = @_;

	my $sid = defined $opt{sid} ? $opt{sid} : $self->next_sid();
	my $stream = $self->stream($sid);

	my $connect = ($opt{method} || '') eq 'CONNECT';
	my %request = (
		method		=> 'GET',
		scheme		=> $connect ? undef : 'http',
		path		=> $connect ? undef : '/',
		authority	=> 'localhost',
		headers		=> [],
		end		=> 1,
		%opt
	);

	my @fields = map { [ ":$_", $request{$_} ] }
		grep { defined $request{$_} }
		qw/ method scheme path authority /;

	push @fields, [ 'proxy-authorization',
		'Basic ' . encode_base64($opt{auth}, ''), 'never' ]
		if defined $opt{auth};

	push @fields, @{$request{headers}};
	@fields = @{$opt{fields}} if $opt{fields};

	my $data = $opt{data};
	my $end = $request{end};

	$self->headers($sid, \@fields, %opt, end => $end && !defined $data,
		more => defined $data
			? $self->data_frame($sid, $data, end => $end)
			: '');

	$stream->{ended} = 1 if $end;

	return $stream;
}

sub get {
	my ($self, $path, %opt) = @_;

	my $stream = $self->request(path => $path, %opt);
	$stream->wait_end();

	return $stream;
}

sub connect {
	my ($self, $authority, %opt) = @_;

	my $wait = defined $opt{wait} ? delete $opt{wait} : 1;

	my $stream = $self->request(method => 'CONNECT',
		authority => $authority, end => 0, %opt);

	$stream->wait_head() if $wait;

	return $stream;
}

sub headers {
	my ($self, $sid, $block, %opt) = @_;

	return $self->raw($self->headers_frames($sid, $block, %opt)
		. (defined $opt{more} ? $opt{more} : ''), %opt);
}

sub headers_frames {
	my ($self, $sid, $block, %opt) = @_;

	$block = $self->block(@$block) if ref $block;
	$self->stream($sid)->{ended} = 1 if $opt{end};

	return h2_headers($sid, $block, %opt);
}

sub h2_headers {
	my ($sid, $block, %opt) = @_;

	my @parts;
	my @sizes = ref $opt{split} ? @{$opt{split}}
		: defined $opt{split} ? $opt{split} : ();

	push @parts, substr($block, 0, $_, '') for @sizes;
	push @parts, $block;

	my $first = shift @parts;
	my $flags = ($opt{end} ? $flag{END_STREAM} : 0)
		| ($opt{priority} ? $flag{PRIORITY} : 0);

	$first = priority_payload(@{$opt{priority}}) . $first
		if $opt{priority};

	if (defined $opt{padding}) {
		$first = padded($first, $opt{padding});
		$flags |= $flag{PADDED};
	}

	my $last = $opt{open} ? 0 : $flag{END_HEADERS};

	return h2_frame('HEADERS', $flags | (@parts ? 0 : $last), $sid, $first)
		. join('', map {
			h2_frame('CONTINUATION', $_ == $#parts ? $last : 0,
				$sid, $parts[$_])
		} 0 .. $#parts);
}

sub data {
	my ($self, $sid, $bytes, %opt) = @_;

	return $self->raw($self->data_frame($sid, $bytes, %opt), %opt);
}

sub data_frame {
	my ($self, $sid, $bytes, %opt) = @_;

	my $frame = h2_data($sid, $bytes, %opt);
	my $stream = $self->stream($sid);

	$self->{window} -= length($frame) - 9;
	$stream->{window} -= length($frame) - 9;
	$stream->{ended} = 1 if $opt{end};

	return $frame;
}

sub h2_data {
	my ($sid, $bytes, %opt) = @_;

	my $flags = $opt{end} ? $flag{END_STREAM} : 0;

	if (defined $opt{padding}) {
		$bytes = padded($bytes, $opt{padding});
		$flags |= $flag{PADDED};
	}

	return h2_frame('DATA', $flags, $sid, $bytes);
}

sub padded {
	my ($bytes, $n) = @_;

	return pack('C', $n) . $bytes . "\0" x $n;
}

sub priority_payload {
	my ($sid, $weight, $exclusive) = @_;

	return pack('NC', ($exclusive ? 0x80000000 : 0) | ($sid || 0),
		defined $weight ? $weight - 1 : 15);
}

sub settings_payload {
	my (%settings) = @_;

	return join('', map {
		pack('nN', exists $setting{$_} ? $setting{$_} : $_,
			$settings{$_})
	} sort keys %settings);
}

sub rst {
	my ($self, $sid, $code) = @_;

	return $self->frame('RST_STREAM', 0, $sid, pack('N', number($code)));
}

sub ping {
	my ($self, $bytes) = @_;

	return $self->frame('PING', 0, 0, defined $bytes ? $bytes : "\0" x 8);
}

sub goaway {
	my ($self, $last, $code, $debug) = @_;

	return $self->frame('GOAWAY', 0, 0, pack('NN', $last || 0,
		number($code)) . (defined $debug ? $debug : ''));
}

sub window_update {
	my ($self, $sid, $n) = @_;

	return $self->frame('WINDOW_UPDATE', 0, $sid, pack('N', $n));
}

# Streams that are there take the new initial window, and what was not credited
# as long as it was little may be much now.

sub settings {
	my ($self, %settings) = @_;

	my $bytes = h2_frame('SETTINGS', 0, 0, settings_payload(%settings));

	if (defined(my $window = $settings{INITIAL_WINDOW_SIZE})) {
		$self->{our_initial_window} = $window;

		for my $stream (values %{$self->{streams}}) {
			my $n = $stream->{received} or next;
			next if $stream->{end} || defined $stream->{rst};

			$bytes .= h2_frame('WINDOW_UPDATE', 0, $stream->{id},
				pack('N', $n));
			$stream->{received} = 0;
		}
	}

	return $self->raw($bytes);
}

sub priority {
	my ($self, $sid, @priority) = @_;

	return $self->frame('PRIORITY', 0, $sid, priority_payload(@priority));
}

sub frame {
	my ($self, @frame) = @_;

	return $self->raw(h2_frame(@frame));
}

sub h2_frame {
	my ($type, $flags, $sid, $payload) = @_;

	$type = $type{$type} if exists $type{$type};
	$payload = '' unless defined $payload;

	if ($flags !~ /^\d+\z/) {
		my $n = 0;
		$n |= $flag{$_} for split ' ', $flags;
		$flags = $n;
	}

	# three bytes of length

	return pack('CnCCN', length($payload) >> 16, length($payload) & 65535,
		$type, $flags, $sid) . $payload;
}

sub h2_name {
	my ($code) = @_;

	return defined $codes[$code] ? $codes[$code] : $code;
}

sub number {
	my ($code) = @_;

	return 0 unless defined $code;
	return exists $code{$code} ? $code{$code} : $code;
}

###############################################################################

# Input and output

sub raw {
	my ($self, $bytes, %opt) = @_;

	my $step = $opt{step} || $self->{split};
	$step = int(length($bytes) / $self->{pieces}) + 1
		if $step && $self->{pieces}
		&& $step * $self->{pieces} < length $bytes;

	my @points = @{$opt{at} || []};

	if ($step) {
		my $n = 0;
		push @points, $n while ($n += $step) < length $bytes;
	}

	my $delay = defined $opt{delay} ? $opt{delay} : $self->{delay};
	my $done = 0;

	local $self->{busy} = 1;

	for my $end (sort({ $a <=> $b } @points), length $bytes) {
		next if $end <= $done && $end < length $bytes;
		last if $end > length $bytes;

		$self->settle($delay) if $done;
		$self->{out} .= substr($bytes, $done, $end - $done);
		$done = $end;

		last unless $self->flush();
	}

	$self->{out} .= $self->{later};
	$self->{later} = '';

	return $self;
}

# An answer does not get into the midst of what is sent in pieces.

sub answer {
	my ($self, @frame) = @_;

	$self->{$self->{busy} ? 'later' : 'out'} .= h2_frame(@frame);
}

# Writes all there is, and reads meanwhile.

sub flush {
	my ($self) = @_;

	my $until = time() + $self->{timeout};

	while (length $self->{out} && !$self->{closed}) {
		last unless $self->pump($until);
	}

	return $self->{out} eq '';
}

sub wait {
	my ($self, $code, $timeout) = @_;

	my $until = time() + (defined $timeout ? $timeout : $self->{timeout});
	my $result;

	while (!($result = $code->($self))) {
		last if $self->{closed};
		last unless $self->pump($until);
	}

	return $result;
}

sub wait_frame {
	my ($self, $type, $n, $timeout) = @_;

	return $self->wait(sub {
		my @frames = grep { $_->{type} eq $type } @{$self->{frames}};
		return $frames[($n || 1) - 1];
	}, $timeout);
}

sub wait_ping {
	my ($self, $timeout) = @_;

	our $count;

	my $bytes = pack('NN', 0x70696e67, ++$count);

	$self->ping($bytes);

	return $self->wait(sub {
		grep { $_ eq $bytes } @{$self->{pongs}}
	}, $timeout) ? 1 : 0;
}

sub wait_closed {
	my ($self, $timeout) = @_;

	$self->wait(sub { 0 }, $timeout);

	return $self->{closed};
}

sub settle {
	my ($self, $seconds) = @_;

	my $until = time() + $seconds;

	while (!$self->{closed} && time() < $until) {
		$self->pump($until);
	}

	my $left = $until - time();
	sleep($left) if $left > 0;

	return $self;
}

# Whatever can be written and read now; waits for something to happen, but not
# longer than until then.

sub pump {
	my ($self, $until) = @_;

	while (!$self->{closed}) {
		$self->fill();

		my $moved = $self->write_some();
		$moved = 1 if $self->read_some();

		return 1 if $moved || $self->{closed};

		my $left = $until - time();
		last if $left <= 0;

		$self->wait_io($left);
	}

	return 0;
}

# What the streams have to send, in turns.

sub fill {
	my ($self) = @_;

	return if $self->{busy} || length $self->{out} > BUFFER;

	my $queues = $self->{queues} or return;
	my @left;

	while (my $sid = shift @$queues) {
		my $stream = $self->{streams}{$sid};

		next if defined $stream->{rst} || !$stream->waiting();

		my $size = length $stream->{queue};
		for ($self->{max_frame}, $self->{window}, $stream->{window}) {
			$size = $_ if $size > $_;
		}

		if ($size <= 0 && length $stream->{queue}) {
			push @left, $sid;
			next;
		}

		my $bytes = substr($stream->{queue}, 0, $size, '');
		my $end = $stream->{queue_end} && $stream->{queue} eq '';
		$stream->{queue_end} = 0 if $end;

		$self->{out} .= $self->data_frame($sid, $bytes, end => $end);
		push @$queues, $sid if $stream->waiting();

		last if length $self->{out} > BUFFER;
	}

	push @$queues, @left;
}

sub write_some {
	my ($self) = @_;

	return 0 if $self->{out} eq '';

	local $SIG{PIPE} = 'IGNORE';

	my $n = $self->{socket}->syswrite($self->{out}, length $self->{out});

	if ($n) {
		log_out(substr($self->{out}, 0, $n))
			if $ENV{TEST_NGINX_VERBOSE};
		substr($self->{out}, 0, $n, '');
		return 1;
	}

	# a response may wait behind the error

	if (!again()) {
		$self->{out} = '';
		$self->{broken} = 1;
	}

	return 0;
}

sub read_some {
	my ($self) = @_;

	my $s = $self->{socket};
	my $n = $s->sysread($self->{in}, BUFFER, length $self->{in});

	if ($n) {
		log_in(substr($self->{in}, -$n)) if $ENV{TEST_NGINX_VERBOSE};
		$self->parse();
		return 1;
	}

	return 0 if !defined $n && again();

	my $truncated = defined $n ? Test::Nginx::Tunnel::tls_truncated($s)
		: $! != ECONNRESET && $! != EPIPE
			&& Test::Nginx::Tunnel::is_tls($s);

	$self->{closed} = $truncated ? 'TRUNCATED'
		: defined $n ? 'EOF' : 'RESET';

	return 0;
}

sub again {
	return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
}

sub wait_io {
	my ($self, $seconds) = @_;

	my $s = $self->{socket};
	return if Test::Nginx::Tunnel::is_tls($s) && $s->pending();

	my $bits = '';
	vec($bits, fileno $s, 1) = 1;

	my ($in, $out) = ($bits, $self->{out} eq '' ? undef : $bits);
	select($in, $out, undef, $seconds);
}

sub close {
	my ($self) = @_;

	$self->{socket}->close();
}

sub reset {
	my ($self) = @_;

	reset_close($self->{socket});
}

###############################################################################

# Frames from the server

my %received = (
	DATA		=> \&on_data,
	HEADERS		=> \&on_headers,
	CONTINUATION	=> \&on_headers,
	RST_STREAM	=> \&on_rst,
	SETTINGS	=> \&on_settings,
	PING		=> \&on_ping,
	GOAWAY		=> \&on_goaway,
	WINDOW_UPDATE	=> \&on_window_update,
);

sub parse {
	my ($self) = @_;

	my $pos = 0;
	my $size = length $self->{in};

	while ($size - $pos >= 9) {
		my ($high, $low, $type, $flags, $sid)
			= unpack("\@$pos CnCCN", $self->{in});

		my $length = ($high << 16) + $low;
		last if $size - $pos - 9 < $length;

		my $frame = {
			type	=> $types[$type] || $type,
			flags	=> $flags,
			sid	=> $sid & 0x7fffffff,
			length	=> $length,
			payload	=> substr($self->{in}, $pos + 9, $length),
		};

		$pos += 9 + $length;
		push @{$self->{frames}}, $frame;

		my $handler = $received{$frame->{type}};
		$self->$handler($frame) if $handler;
	}

	substr($self->{in}, 0, $pos, '');
}

sub unpadded {
	my ($frame) = @_;

	return $frame->{payload} unless $frame->{flags} & $flag{PADDED};

	my $n = unpack('C', $frame->{payload});

	return substr($frame->{payload}, 1, $frame->{length} - 1 - $n);
}

sub on_data {
	my ($self, $frame) = @_;

	my $stream = $self->stream($frame->{sid});
	my $size = $frame->{length};

	$stream->{data} .= unpadded($frame);
	$stream->{end} = 1 if $frame->{flags} & $flag{END_STREAM};
	delete $frame->{payload};

	my $credit = $self->{credit};

	$self->credit($self, 0, $size, $self->{receive_window})
		if $credit && $credit ne 'stream';

	$self->credit($stream, $frame->{sid}, $size,
		$self->{our_initial_window})
		if $credit && $credit ne 'connection' && $stream->{credit}
		&& !$stream->{end};
}

# Half a window at once.

sub credit {
	my ($self, $whom, $sid, $size, $window) = @_;

	$whom->{received} += $size;
	return if $whom->{received} * 2 < $window || !$whom->{received};

	$self->answer('WINDOW_UPDATE', 0, $sid, pack('N', $whom->{received}));
	$whom->{received} = 0;
}

sub on_headers {
	my ($self, $frame) = @_;

	my $stream = $self->stream($frame->{sid});

	if ($frame->{type} eq 'HEADERS') {
		my $block = unpadded($frame);
		$block = substr($block, 5)
			if $frame->{flags} & $flag{PRIORITY};

		$stream->{block} = $block;
		$stream->{last} = $frame->{flags} & $flag{END_STREAM};

	} else {
		$stream->{block} .= $frame->{payload};
	}

	return unless $frame->{flags} & $flag{END_HEADERS};

	my @fields = $self->decode(delete $stream->{block});
	my %headers;

	for my $field (@fields) {
		my ($name, $value) = @$field;
		$headers{$name} = defined $headers{$name}
			? "$headers{$name}, $value" : $value;
	}

	if (defined $stream->{status}) {
		$stream->{trailers} = \%headers;

	} elsif (($headers{':status'} || '') !~ /^1/) {
		$stream->{status} = $headers{':status'};
		$stream->{fields} = \@fields;
		$stream->{headers} = \%headers;
	}

	$frame->{status} = $headers{':status'};
	$stream->{end} = 1 if $stream->{last};
}

sub on_rst {
	my ($self, $frame) = @_;

	$self->stream($frame->{sid})->{rst}
		= h2_name(unpack('N', $frame->{payload}));
}

sub on_settings {
	my ($self, $frame) = @_;

	if ($frame->{flags} & $flag{ACK}) {
		$self->{acknowledged}++;
		return;
	}

	my %settings = unpack('(nN)*', $frame->{payload});
	%{$self->{settings_received}}
		= (%{$self->{settings_received}}, %settings);

	if (defined(my $window = $settings{$setting{INITIAL_WINDOW_SIZE}})) {
		$_->{window} += $window - $self->{initial_window}
			for values %{$self->{streams}};
		$self->{initial_window} = $window;
	}

	# more makes no sense here

	my $max = $settings{$setting{MAX_FRAME_SIZE}};
	$self->{max_frame} = $max if defined $max && $max < 65536;

	$self->answer('SETTINGS', 'ACK', 0)
		if $self->{settings_ack};
}

sub on_ping {
	my ($self, $frame) = @_;

	if ($frame->{flags} & $flag{ACK}) {
		push @{$self->{pongs}}, $frame->{payload};

	} elsif ($self->{ping_ack}) {
		$self->answer('PING', 'ACK', 0, $frame->{payload});
	}
}

sub on_goaway {
	my ($self, $frame) = @_;

	my ($last, $code, $debug) = unpack('NNa*', $frame->{payload});

	$self->{goaway} = [ $last & 0x7fffffff, h2_name($code), $debug ];
}

sub on_window_update {
	my ($self, $frame) = @_;

	my $n = unpack('N', $frame->{payload}) & 0x7fffffff;
	my $whom = $frame->{sid} ? $self->stream($frame->{sid}) : $self;

	$whom->{window} += $n;
}

###############################################################################

sub transcript {
	my ($self) = @_;

	my (@lines, %data, $settings);

	for my $frame (@{$self->{frames}}) {
		my ($type, $flags, $sid) = @$frame{qw/ type flags sid /};

		next if $type eq 'WINDOW_UPDATE';
		next if $type eq 'PING' && $flags & $flag{ACK};
		next if $type eq 'SETTINGS'
			&& ($flags & $flag{ACK} || !$settings++);

		my @line = ($type, $sid);

		push @line, 'END_STREAM'
			if $type =~ /^(?:DATA|HEADERS)\z/
			&& $flags & $flag{END_STREAM};
		push @line, $frame->{status} if $frame->{status};
		push @line, h2_name(unpack('N', $frame->{payload}))
			if $type eq 'RST_STREAM';
		push @line, unpack('N', $frame->{payload}),
			h2_name(unpack('x4 N', $frame->{payload}))
			if $type eq 'GOAWAY';

		# however it was cut, and whatever was between

		if ($type eq 'DATA') {
			next if $line[-1] ne 'END_STREAM' && $data{$sid};
			$data{$sid} = 1;
		}

		push @lines, join(' ', @line);
	}

	push @lines, $self->{closed} if $self->{closed};

	return @lines;
}

###############################################################################

# HPACK

my (@huffman, %huffman);

{
	my ($code, $bits) = (0, 0);

	for my $symbol (sort { $lengths[$a] <=> $lengths[$b] || $a <=> $b }
		0 .. 256)
	{
		$code <<= $lengths[$symbol] - $bits;
		$bits = $lengths[$symbol];

		$huffman[$symbol] = sprintf '%0*b', $bits, $code++;
		$huffman{$huffman[$symbol]} = $symbol;
	}
}

sub huffman_encode {
	my ($bytes) = @_;

	my $bits = join '', map { $huffman[$_] } unpack('C*', $bytes);

	# padding is the beginning of EOS: ones

	$bits .= '1' x (-length($bits) % 8);

	return pack('B*', $bits);
}

# Undef if it is malformed.

sub huffman_decode {
	my ($bytes) = @_;

	my ($code, $result) = ('', '');

	for my $bit (split //, unpack('B*', $bytes)) {
		$code .= $bit;

		my $symbol = $huffman{$code};
		next unless defined $symbol;

		return undef if $symbol == 256;

		$result .= chr $symbol;
		$code = '';
	}

	return undef if length $code > 7 || $code =~ /0/;
	return $result;
}

# An integer with a prefix of so many bits, and what is in front of that.

sub hpack_int {
	my ($n, $bits, $first) = @_;

	my $max = (1 << $bits) - 1;
	$first ||= 0;

	return pack('C', $first | $n) if $n < $max;

	my $bytes = pack('C', $first | $max);
	$n -= $max;

	while ($n > 127) {
		$bytes .= pack('C', $n & 127 | 128);
		$n >>= 7;
	}

	return $bytes . pack('C', $n);
}

sub hpack_string {
	my ($bytes, $huffman) = @_;

	$bytes = huffman_encode($bytes) if $huffman;

	return hpack_int(length $bytes, 7, $huffman ? 128 : 0) . $bytes;
}

sub block {
	my ($self, @fields) = @_;

	return join '', map { ref $_ ? $self->encode(@$_) : $_ } @fields;
}

sub hpack_block {
	my (@fields) = @_;

	my $self = bless {
		encoder => { table => [] },
		mode => 'literal',
	}, __PACKAGE__;

	return $self->block(@fields);
}

sub encode {
	my ($self, $name, $value, $words) = @_;

	$words = $self->{mode} unless defined $words;

	my %word = map { $_ => 1 } split ' ', $words;
	my $table = $self->{encoder};
	my $literal = $word{incremental} || $word{literal} || $word{never};

	my ($exact, $index) = lookup($table, $name, $value);

	return hpack_int($exact, 7, 128) if defined $exact && !$literal;
	die "not in a table: $name $value\n" if $word{indexed};

	$index = 0 if $word{new} || !defined $index;

	my @first = $word{never} ? (4, 16) : $word{literal} ? (4, 0) : (6, 64);
	my $huffman = sub {
		return $word{huffman} || !$word{raw}
			&& length huffman_encode($_[0]) < length $_[0];
	};

	my $bytes = hpack_int($index, @first)
		. ($index ? '' : hpack_string($name, $huffman->($name)))
		. hpack_string($value, $huffman->($value));

	add_entry($table, $name, $value) if $first[0] == 6;

	return $bytes;
}

# Indexes of a field, and of one with its name.

sub lookup {
	my ($table, $name, $value) = @_;

	my ($n, $exact, $index) = (0);

	for my $entry (@static, @{$table->{table}}) {
		$n++;
		next if $entry->[0] ne $name;

		$index = $n unless defined $index;
		next if $entry->[1] ne $value;

		$exact = $n;
		last;
	}

	return ($exact, $index);
}

sub add_entry {
	my ($table, $name, $value) = @_;

	unshift @{$table->{table}}, [ $name, $value ];
	$table->{size} += ENTRY + length($name) + length($value);

	evict($table);
}

sub evict {
	my ($table) = @_;

	while ($table->{size} > $table->{max}) {
		my $entry = pop @{$table->{table}};
		$table->{size} -= ENTRY + length($entry->[0])
			+ length($entry->[1]);
	}
}

sub table_size {
	my ($self, $n) = @_;

	$self->{encoder}{max} = $n;
	evict($self->{encoder});

	return hpack_int($n, 5, 32);
}

sub table {
	my ($self) = @_;

	return @{$self->{encoder}{table}};
}

sub decode {
	my ($self, $block) = @_;

	my $table = $self->{decoder};
	my @fields;

	while (length $block) {
		my $first = ord $block;

		if ($first & 128) {
			push @fields, entry($table, take_int(\$block, 7));
			next;
		}

		if (($first & 224) == 32) {
			$table->{max} = take_int(\$block, 5);
			evict($table);
			next;
		}

		my $index = take_int(\$block, $first & 64 ? 6 : 4);
		my $name = $index ? entry($table, $index)->[0]
			: take_string(\$block);
		my $value = take_string(\$block);

		add_entry($table, $name, $value) if $first & 64;
		push @fields, [ $name, $value ];
	}

	return @fields;
}

sub entry {
	my ($table, $n) = @_;

	my $entry = $n <= @static ? $static[$n - 1]
		: $table->{table}[$n - @static - 1];

	die "no entry $n in the table of the server\n"
		unless $n && $entry;

	return $entry;
}

sub take_int {
	my ($block, $bits) = @_;

	my $max = (1 << $bits) - 1;
	my $n = ord(substr($$block, 0, 1, '')) & $max;
	return $n if $n < $max;

	for (my $shift = 0; length $$block && $shift < 32; $shift += 7) {
		my $byte = ord substr($$block, 0, 1, '');
		$n += ($byte & 127) << $shift;
		return $n if $byte < 128;
	}

	die "bad integer in a header block of the server\n";
}

sub take_string {
	my ($block) = @_;

	my $huffman = ord($$block) & 128;
	my $n = take_int($block, 7);

	die "truncated string in a header block of the server\n"
		if $n > length $$block;

	my $bytes = substr($$block, 0, $n, '');
	$bytes = huffman_decode($bytes) if $huffman;

	die "bad Huffman code in a header block of the server\n"
		unless defined $bytes;

	return $bytes;
}

###############################################################################

package Test::Nginx::H2::Stream;

use warnings;
use strict;

use Scalar::Util qw/ weaken /;

sub new {
	my ($class, $h2, $sid) = @_;

	my $self = bless {
		h2		=> $h2,
		id		=> $sid,
		data		=> '',
		headers		=> {},
		fields		=> [],
		credit		=> 1,
		received	=> 0,
		window		=> $h2->{initial_window},
		queue		=> '',
	}, $class;

	# a connection ends when nobody holds it

	weaken($self->{h2});

	return $self;
}

sub wait_head {
	my ($self, $timeout) = @_;

	$self->{h2}->wait(sub {
		defined $self->{status} || defined $self->{rst}
	}, $timeout);

	return $self->{status};
}

sub waiting {
	my ($self) = @_;

	return length $self->{queue} || $self->{queue_end};
}

sub unsent {
	my ($self) = @_;

	return length $self->{queue};
}

sub send {
	my ($self, $bytes, %opt) = @_;

	push @{$self->{h2}{queues}}, $self->{id} unless $self->waiting();

	$self->{queue} .= $bytes;
	$self->{queue_end} = 1 if $opt{end};

	return $self;
}

# What could not be sent is taken back.

sub write_all {
	my ($self, $bytes, $timeout) = @_;

	$self->send($bytes);
	$self->{h2}->wait(sub {
		defined $self->{rst}
			|| !$self->waiting() && $self->{h2}{out} eq ''
	}, $timeout);

	my $left = length $self->{queue};
	$self->{queue} = '';

	return length($bytes) - $left;
}

sub state {
	my ($self) = @_;

	# after the end a reset says that no more is read

	return $self->{end} ? 'EOF'
		: defined $self->{rst} || $self->{h2}{closed} ? 'RESET'
		: undef;
}

sub read_n {
	my ($self, $n, $timeout) = @_;

	$self->{h2}->wait(sub {
		length $self->{data} >= $n || $self->state()
	}, $timeout);

	my $bytes = substr($self->{data}, 0, $n, '');
	my $state = length $bytes == $n ? 'OK' : $self->state() || 'TIMEOUT';

	return wantarray ? ($bytes, $state) : $bytes;
}

sub read_all {
	my ($self, $timeout) = @_;

	my $state = $self->wait_end($timeout);
	my $bytes = $self->{data};

	$self->{data} = '';

	return wantarray ? ($bytes, $state) : $bytes;
}

sub wait_end {
	my ($self, $timeout) = @_;

	return $self->{h2}->wait(sub { $self->state() }, $timeout)
		|| $self->state() || 'TIMEOUT';
}

sub wait_rst {
	my ($self, $timeout) = @_;

	$self->{h2}->wait(sub { defined $self->{rst} }, $timeout);

	return $self->{rst};
}

sub echo {
	my ($self, $bytes) = @_;

	$self->send($bytes);
	return scalar $self->read_n(length $bytes);
}

sub half_close {
	my ($self) = @_;

	$self->send('', end => 1);
	$self->{h2}->wait(sub {
		!$self->waiting() && $self->{h2}{out} eq ''
	});
}

sub reset_close {
	my ($self, $code) = @_;

	$self->{h2}->rst($self->{id}, defined $code ? $code : 'CANCEL');
}

###############################################################################

1;

###############################################################################
