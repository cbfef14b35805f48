#!/usr/bin/perl

# Tests for HTTP/2 where connect_tunnel is: whatever else a client sends has
# the same effect as where there is none.  Each case goes to a listener without
# connect_tunnel and to one with it: as a whole, in small pieces, over TLS, and
# on a connection that has a tunnel.

###############################################################################

use warnings;
use strict;

use Test::More;

use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::H2;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	HUGE	=> 0x7fffffff,
	BIT	=> 0x80000000,		# reserved, of a stream's id
	FRAMES	=> 20000,
	FLOOD	=> 600,			# frames of 16k, more than 8M
};

my $t = Test::Nginx->new()
	->has(qw/http http_v2 http_ssl rewrite proxy socket_ssl_alpn/);

# the second of two ports has no tunnel, and the third has TLS

my @pairs = (
	[ 8080, 8081, 8443, '' ],
	[ 8082, 8083, 8444, 'client_header_timeout 1s; client_body_timeout 1s;
		keepalive_timeout 1s;' ],
	[ 8084, 8085, 8445, 'http2_max_concurrent_streams 2;' ],
	[ 8086, 8087, 8446, 'keepalive_requests 3;' ],
	[ 8088, 8089, 8447, 'large_client_header_buffers 2 1k;' ],
);

my $servers = '';

for my $pair (@pairs) {
	my ($tunnel, $stock, $ssl, $conf) = @$pair;

	for ([ "127.0.0.1:$tunnel", 'connect_tunnel;' ],
		[ "127.0.0.1:$stock", '' ],
		[ "127.0.0.1:$ssl ssl", 'connect_tunnel;' ])
	{
		$servers .= 'server { ' . h2_listen($t, $_->[0])
			. " $_->[1] $conf" . <<'EOC';

        location / {
            return 200 "SEE-THIS $http_x_name$http_x_other";
        }

        location /slow {
            client_max_body_size 0;
            proxy_pass http://127.0.0.1:8091;
        }

        location /silent {
            proxy_pass http://127.0.0.1:8093;
        }
    }

EOC
	}
}

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    # the level debug tells every byte

    error_log %%TESTDIR%%/error.log info;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    target_allow *:*;
    target_allow_address 127.0.0.1;

    $servers
}

EOC

make_cert($t, 'localhost');

start_daemon($t, \&http_daemon, port(8091), body => 'SEE-SLOW');
start_daemon($t, \&echo_daemon, port(8092));
start_daemon($t, \&sink_daemon, port(8093));

###############################################################################

# What to expect, which is of the stock nginx and makes sure that a case is
# what it says, and what to send: frames, and functions of the connection;
# "wait" for an answer, "GET" is a request as stream 101.  Options are "or",
# what is as good as what stock nginx says, "pair", "order" if that does not
# matter, "loose", "whole" if pieces make no sense, and "bare", without a
# preface.

my $protocol = qr/GOAWAY 0 \d+ PROTOCOL_ERROR, closed$/;
my $size = qr/GOAWAY 0 \d+ FRAME_SIZE_ERROR, closed$/;
my $compression = qr/GOAWAY 0 \d+ [A-Z_]+_ERROR, closed$/;
my $compressed = qr/^GOAWAY 0 1 COMPRESSION_ERROR, closed$/;
my $calm = qr/GOAWAY 0 \d+ ENHANCE_YOUR_CALM, closed$/;
my $flow = qr/GOAWAY 0 \d+ FLOW_CONTROL_ERROR, closed$/;
my $good = qr/^HEADERS 1 200, DATA 1 END_STREAM$/;
my $later = qr/HEADERS 101 200, DATA 101 END_STREAM$/;
my $bad = qr/^(?:HEADERS 1 400, DATA 1 E|RST_STREAM 1 PROTOCOL_ERROR)/;

my $empty = qr/^HEADERS 1 400, DATA 1 END_STREAM$/;

my @get = ([ ':method', 'GET' ], [ ':scheme', 'http' ], [ ':path', '/' ],
	[ ':authority', 'localhost' ]);
my @silent = ([ ':method', 'POST' ], [ ':scheme', 'http' ],
	[ ':path', '/silent' ], [ ':authority', 'localhost' ]);
my @post = ([ ':method', 'POST' ], [ ':scheme', 'http' ],
	[ ':path', '/slow' ], [ ':authority', 'localhost' ]);

# bytes of a block without use of the dynamic table

my $plain = hpack_block(@get);

my @cases = (

	# a header block is one, whatever number of frames it has

	[ 'request', $good, [ 'HEADERS', 5, 1, $plain ] ],
	[ 'two frames', $good, parts(5) ],
	[ 'frames of a byte', $good, parts((1) x length $plain) ],
	[ 'empty last CONTINUATION', $good, parts(length $plain) ],
	[ 'empty CONTINUATIONs', $good, parts(3, 0, 0, 1, 0) ],
	[ 'empty HEADERS', $size, [ 'HEADERS', 5, 1, '' ] ],
	[ 'empty HEADERS, and a CONTINUATION', $size, parts(0) ],

	(map {
		my ($name, @frame) = @$_;
		[ "$name in a block", $protocol, sub {
			$_[0]->raw(h2_frame('HEADERS', 1, 1,
					substr($plain, 0, 9))
				. h2_frame(@frame)
				. h2_frame('CONTINUATION', 4, 1,
					substr($plain, 9)));
		} ]
	}
		[ 'DATA', 'DATA', 0, 1, 'data' ],
		[ 'empty DATA', 'DATA', 0, 1, '' ],
		[ 'HEADERS', 'HEADERS', 5, 3, $plain ],
		[ 'HEADERS of the same stream', 'HEADERS', 5, 1, $plain ],
		[ 'PRIORITY', 'PRIORITY', 0, 1, pack('NC', 0, 15) ],
		[ 'RST_STREAM', 'RST_STREAM', 0, 1, pack('N', 8) ],
		[ 'SETTINGS', 'SETTINGS', 0, 0, '' ],
		[ 'PING', 'PING', 0, 0, '12345678' ],
		[ 'GOAWAY', 'GOAWAY', 0, 0, pack('NN', 0, 0) ],
		[ 'WINDOW_UPDATE', 'WINDOW_UPDATE', 0, 0, pack('N', 1) ],
		[ 'unknown frame', 85, 0, 0, 'unknown' ],
		[ 'CONTINUATION of another stream', 'CONTINUATION', 4, 3,
			substr($plain, 9) ],
		[ 'CONTINUATION of stream 0', 'CONTINUATION', 4, 0,
			substr($plain, 9) ]),

	[ 'CONTINUATION without HEADERS', $protocol,
		[ 'CONTINUATION', 4, 1, $plain ] ],
	[ 'CONTINUATION behind a block',
		qr/GOAWAY 0 1 PROTOCOL_ERROR, closed$/,
		[ 'HEADERS', 5, 1, $plain ], [ 'CONTINUATION', 4, 1, '' ] ],

	# bits that mean nothing

	[ 'reserved bit, HEADERS', $good,
		[ 'HEADERS', 5, 1 | BIT, $plain ] ],
	[ 'reserved bit, CONTINUATION', $good,
		[ 'HEADERS', 1, 1, substr($plain, 0, 9) ],
		[ 'CONTINUATION', 4, 1 | BIT, substr($plain, 9) ] ],
	[ 'reserved bit, PING', qr/^$/, [ 'PING', 0, BIT, '12345678' ] ],
	[ 'reserved bit, WINDOW_UPDATE', $later,
		[ 'WINDOW_UPDATE', 0, 0, pack('N', 1 | BIT) ], 'GET' ],
	[ 'unknown flags', $good, [ 'HEADERS', 5 | 0xd2, 1, $plain ] ],
	[ 'unknown flags, CONTINUATION', $good,
		[ 'HEADERS', 1, 1, substr($plain, 0, 9) ],
		[ 'CONTINUATION', 255, 1, substr($plain, 9) ] ],
	[ 'unknown frames', $later, map([ $_, 255, $_ & 3, 'x' x $_ ],
		10, 11, 85, 255), [ 77, 0, 0, '' ], 'GET' ],
	[ 'unknown frame, 16k', $later, [ 77, 0, 0, 'x' x 16384 ], 'GET' ],

	# lengths

	[ 'HEADERS of 20k', $good, sub {
		$_[0]->headers(1, [ @get, map { [ "x-$_", 'x' x 4000,
			'literal raw' ] } 1 .. 5 ], end => 1);
	} ],
	[ 'unknown frame of 20k', $later, [ 77, 0, 0, 'x' x 20000 ], 'GET' ],
	(map {
		my ($type, $sid, @sizes) = @$_;
		map { [ "$type of $_ bytes", qr/SIZE_ERROR|PROTOCOL_ERROR/,
			[ 'HEADERS', 4, 1, post_block() ],
			[ $type, 0, $sid, "\0" x $_ ], 'GET' ] } @sizes
	}
		[ 'PRIORITY', 1, 0, 4, 6 ],
		[ 'RST_STREAM', 1, 0, 3, 5 ],
		[ 'SETTINGS', 0, 5, 7 ],
		[ 'PING', 0, 0, 7, 9 ],
		[ 'GOAWAY', 0, 0, 7 ],
		[ 'WINDOW_UPDATE', 1, 0, 3, 5 ]),
	[ 'acknowledgement with settings', qr/^(?:HEADERS 101|GOAWAY)/,
		[ 'SETTINGS', 1, 0, pack('nN', 3, 1) ], 'GET' ],

	# padding

	[ 'padding', $good, [ 'HEADERS', 13, 1,
		pack('C', 9) . $plain . "\0" x 9 ] ],
	[ 'padding of other bytes', $good, [ 'HEADERS', 13, 1,
		pack('C', 9) . $plain . "\x82" x 9 ] ],
	[ 'padding, 0', $good, [ 'HEADERS', 13, 1, pack('C', 0) . $plain ] ],
	[ 'padding, 255', $good, [ 'HEADERS', 13, 1,
		pack('C', 255) . $plain . "\0" x 255 ] ],
	[ 'priority', qr/^HEADERS 1 200, .*DATA 101 END_STREAM$/, sub {
		$_[0]->headers(1, $plain, end => 1, priority => [ 0, 1 ]);
	}, 'GET' ],
	[ 'priority and CONTINUATION', $good, sub {
		$_[0]->headers(1, $plain, end => 1, priority => [ 3, 255, 1 ],
			split => [ 1 ]);
	} ],
	[ 'padding and CONTINUATION', $good, sub {
		$_[0]->headers(1, $plain, end => 1, padding => 7,
			split => [ 9, 9 ]);
	} ],
	[ 'padding and priority', $good, sub {
		$_[0]->headers(1, $plain, end => 1, padding => 7,
			priority => [ 0, 256, 1 ], split => [ 1, 2 ]);
	} ],
	[ 'PADDED, CONTINUATION', $good,
		[ 'HEADERS', 1, 1, substr($plain, 0, 9) ],
		[ 'CONTINUATION', 12, 1, substr($plain, 9) ] ],
	[ 'nothing but padding', qr/GOAWAY/,
		[ 'HEADERS', 13, 1, pack('C', 9) . "\0" x 9 ], or => $empty ],
	[ 'too much padding', qr/GOAWAY/,
		[ 'HEADERS', 13, 1, pack('C', 10) . "\0" x 9 ] ],
	[ 'padding as much as the frame', qr/GOAWAY/,
		[ 'HEADERS', 13, 1, pack('C', length $plain) . $plain ],
		or => $empty ],
	[ 'no length of the padding', qr/GOAWAY/, [ 'HEADERS', 13, 1, '' ] ],
	[ 'padding and no room for priority', qr/GOAWAY/,
		[ 'HEADERS', 45, 1, pack('CNC', 1, 0, 15) ] ],
	[ 'priority alone', qr/GOAWAY/,
		[ 'HEADERS', 37, 1, pack('NC', 0, 15) ] ],
	[ 'half of a priority', qr/GOAWAY/, [ 'HEADERS', 37, 1, 'abcd' ] ],
	[ 'priority, padding, and nothing', qr/GOAWAY/,
		[ 'HEADERS', 45, 1, pack('CNCa2', 2, 0, 15, '') ],
		or => $empty ],
	[ 'priority alone, and a CONTINUATION', qr/GOAWAY/,
		[ 'HEADERS', 33, 1, pack('NC', 0, 15) ],
		[ 'CONTINUATION', 4, 1, $plain ] ],
	[ 'too much padding, DATA', qr/GOAWAY/,
		[ 'HEADERS', 4, 1, post_block() ],
		[ 'DATA', 9, 1, pack('Ca9', 10, '') ] ],

	# streams

	[ 'stream 0', $protocol, [ 'HEADERS', 5, 0, $plain ] ],
	[ 'even stream', $protocol, [ 'HEADERS', 5, 2, $plain ] ],
	[ 'same stream again', qr/^HEADERS 1 200, DATA 1 END_STREAM, /,
		[ 'HEADERS', 5, 1, $plain ], 'wait',
		[ 'HEADERS', 5, 1, $plain ], 'GET' ],
	[ 'lower stream', qr/^HEADERS 5 200, DATA 5 END_STREAM, GOAWAY/,
		[ 'HEADERS', 5, 5, $plain ], 'wait',
		[ 'HEADERS', 5, 3, $plain ], 'GET' ],
	[ 'lower stream in parts', qr/^HEADERS 5 200, DATA 5 .*GOAWAY/,
		[ 'HEADERS', 5, 5, $plain ], 'wait',
		[ 'HEADERS', 1, 3, substr($plain, 0, 9) ],
		[ 'CONTINUATION', 4, 3, substr($plain, 9) ], 'GET' ],
	[ 'highest stream', qr/^HEADERS 2147483647 200, /,
		[ 'HEADERS', 5, HUGE, $plain ] ],
	[ 'DATA of stream 0', qr/GOAWAY/, [ 'DATA', 0, 0, 'data' ], 'GET' ],
	[ 'DATA of no stream', qr/./, [ 'DATA', 0, 1, 'data' ], 'GET' ],
	[ 'RST_STREAM of stream 0', qr/./,
		[ 'RST_STREAM', 0, 0, pack('N', 8) ], 'GET' ],
	[ 'RST_STREAM of no stream', qr/./,
		[ 'RST_STREAM', 0, 1, pack('N', 8) ], 'GET' ],
	[ 'WINDOW_UPDATE of no stream', qr/./,
		[ 'WINDOW_UPDATE', 0, 1, pack('N', 8) ], 'GET' ],
	[ 'WINDOW_UPDATE of 0', qr/PROTOCOL_ERROR/,
		[ 'WINDOW_UPDATE', 0, 0, pack('N', 0) ], 'GET' ],
	[ 'WINDOW_UPDATE of 0, stream', qr/PROTOCOL_ERROR/,
		[ 'HEADERS', 4, 1, post_block() ],
		[ 'WINDOW_UPDATE', 0, 1, pack('N', 0) ], 'GET' ],
	[ 'WINDOW_UPDATE too large', $flow,
		[ 'WINDOW_UPDATE', 0, 0, pack('N', HUGE) ] ],
	[ 'WINDOW_UPDATE too large, stream', qr/FLOW_CONTROL_ERROR/,
		[ 'HEADERS', 4, 1, post_block() ],
		[ 'WINDOW_UPDATE', 0, 1, pack('N', HUGE) ], 'GET' ],
	[ 'PRIORITY of stream 0', qr/./,
		[ 'PRIORITY', 0, 0, pack('NC', 0, 15) ], 'GET' ],
	[ 'PRIORITY on itself', qr/./,
		[ 'PRIORITY', 0, 1, pack('NC', 1, 15) ], 'GET' ],
	[ 'HEADERS on itself', qr/./, sub {
		$_[0]->headers(1, $plain, end => 1, priority => [ 1, 16 ]);
	}, 'GET' ],
	[ 'HEADERS on itself, in parts', qr/./, sub {
		$_[0]->headers(1, $plain, end => 1, priority => [ 1, 16 ],
			split => [ 9 ]);
	}, 'GET' ],
	[ 'PUSH_PROMISE', qr/GOAWAY/,
		[ 'PUSH_PROMISE', 4, 1, pack('N', 2) . $plain ], 'GET' ],
	[ 'SETTINGS of a stream', qr/./, [ 'SETTINGS', 0, 1, '' ], 'GET' ],
	[ 'PING of a stream', qr/./, [ 'PING', 0, 1, '12345678' ], 'GET' ],
	[ 'GOAWAY of a stream', qr/./,
		[ 'GOAWAY', 0, 1, pack('NN', 0, 0) ], 'GET' ],
	(map { [ 'bad SETTINGS ' . join('=', @$_), qr/./,
		[ 'SETTINGS', 0, 0, pack('nN', @$_) ], 'GET' ] }
		[ 2, 2 ], [ 4, BIT ], [ 5, 16383 ], [ 5, 1 << 24 ], [ 99, 1 ]),
	[ 'HEADERS behind GOAWAY', $later,
		[ 'GOAWAY', 0, 0, pack('NN', 0, 0) ], 'GET' ],
	[ 'GOAWAY behind a request', qr/^HEADERS 1 200/,
		[ 'HEADERS', 4, 1, post_block() ],
		[ 'GOAWAY', 0, 0, pack('NNa*', 0, 2, 'debug') ],
		[ 'DATA', 1, 1, 'data' ], 'wait', 'GET' ],
	[ 'DATA behind the end', qr/STREAM_CLOSED/,
		[ 'HEADERS', 5, 1, hpack_block(@silent) ],
		[ 'DATA', 0, 1, 'data' ], 'GET' ],
	[ 'HEADERS as trailers', qr/./,
		[ 'HEADERS', 4, 1, post_block() ],
		[ 'HEADERS', 5, 1, "\0\3x-y\1z" ], 'GET' ],

	# HPACK

	(map { [ $_->[0], $compression,
		[ 'HEADERS', 5, 1, $_->[1] ], or => $compressed ] }
		[ 'index 0', "$plain\x80" ],
		[ 'index not there', "$plain\xbe" ],
		[ 'index far too large', $plain . hpack_int(5000, 7, 128) ],
		[ 'integer without end', "$plain\xff" . "\xff" x 9 ],
		[ 'integer that is too large', "$plain\xff" . "\xff" x 4
			. "\x7f" ],
		[ 'name not there', "$plain\x7e\1x" ],
		[ 'name not there, never indexed', "$plain\x1f\x2f\1x" ],
		[ 'Huffman, padding too long', "$plain\0\x81\xff\x81\x8f" ],
		[ 'Huffman, padding of zeros', "$plain\0\3x-y\x81\x00" ],
		[ 'Huffman, EOS',
			"$plain\0\3x-y\x84\xff\xff\xff\xff" ],
		[ 'table too large', hpack_int(4097, 5, 32) . $plain ],
		[ 'table far too large', hpack_int(1 << 20, 5, 32) . $plain ],
		[ 'name longer than the block', "$plain\0\7x-y" ],
		[ 'value longer than the block', "$plain\0\3x-y\7x" ],
		[ 'no value', "$plain\0\3x-y" ],
		[ 'half of an integer', "$plain\xff" ],
	),
	[ 'truncated in two parts', $compression,
		[ 'HEADERS', 1, 1, $plain ], [ 'CONTINUATION', 4, 1, "\0\3x" ],
		or => $compressed ],
	[ 'table sizes', $good, [ 'HEADERS', 5, 1, hpack_int(0, 5, 32)
		. hpack_int(4096, 5, 32) . $plain ] ],
	[ 'table size behind a field', qr/./, [ 'HEADERS', 5, 1,
		$plain . hpack_int(100, 5, 32) ], 'GET', or => $compressed ],
	[ 'nothing but a table size', qr/./, [ 'HEADERS', 5, 1,
		hpack_int(100, 5, 32) ], 'GET' ],

	# fields

	(map { my ($name, @fields) = @$_; [ "fields: $name", $bad, sub {
		$_[0]->headers(1, [ @fields ], end => 1);
	}, 'GET' ] }
		[ 'no method', @get[1 .. 3] ],
		[ 'no scheme', @get[0, 2, 3] ],
		[ 'no path', @get[0, 1, 3] ],
		[ 'two methods', $get[0], @get ],
		[ 'two schemes', @get[0, 1], @get[1 .. 3] ],
		[ 'two paths', @get[0 .. 2], @get[2, 3] ],
		[ 'unknown', @get, [ ':unknown', 'x' ] ],
		[ 'behind others', @get[0 .. 2], [ 'x-y', 'z' ], $get[3],
			[ ':path', '/' ] ],
		[ 'empty path', @get[0, 1, 3], [ ':path', '' ] ],
		[ 'empty method', [ ':method', '' ], @get[1 .. 3] ],
		[ 'lower case method', [ ':method', 'get' ], @get[1 .. 3] ],
		[ 'bad scheme', [ ':scheme', 'a b' ], @get[0, 2, 3] ],
		[ 'bad authority', @get[0 .. 2], [ ':authority', 'a/b' ] ],
		[ 'upper case', @get, [ 'X-Y', 'z' ] ],
		[ 'NUL', @get, [ 'x-y', "z\0" ] ],
		[ 'line feed', @get, [ 'x-y', "z\nx-z: y" ] ],
		[ 'NUL in a name', @get, [ "x\0y", 'z' ] ],
		[ 'bad length', @get, [ 'content-length', 'x' ] ]),
	(map { my ($name, @fields) = @$_; [ "fields: $name", qr/./, sub {
		$_[0]->headers(1, [ @get, @fields ], end => 1);
	}, 'GET' ] }
		[ 'another authority', [ ':authority', 'other' ] ],
		[ 'no name', [ '', 'z' ] ],
		[ 'a colon', [ 'x:y', 'z' ] ],
		[ 'underscore', [ 'x_y', 'z' ] ],
		[ 'connection', [ 'connection', 'close' ] ],
		[ 'te', [ 'te', 'gzip' ] ],
		[ 'transfer-encoding', [ 'transfer-encoding', 'chunked' ] ],
		[ 'host', [ 'host', 'another' ] ],
		[ 'two hosts', [ 'host', 'one' ], [ 'host', 'two' ] ],
		[ 'expect', [ 'expect', '100-continue' ] ],
		[ 'length without a body', [ 'content-length', '5' ] ],
		[ 'cookies', [ 'cookie', 'a=1' ], [ 'cookie', 'b=2' ] ],
		[ 'empty value', [ 'x-name', '' ] ],
		[ 'blanks', [ 'x-name', ' a  b ' ] ],
		[ 'bytes', [ 'x-name', "\x80\xff\t" ] ]),
	(map { my ($name, @fields) = @$_; [ "fields: $name", qr/./, sub {
		$_[0]->headers(1, [ @fields ], end => 1);
	}, 'GET' ] }
		[ 'OPTIONS *', [ ':method', 'OPTIONS' ], [ ':path', '*' ],
			@get[1, 3] ],
		[ 'PRI', [ ':method', 'PRI' ], @get[1 .. 3] ],
		[ 'TRACE', [ ':method', 'TRACE' ], @get[1 .. 3] ],
		[ 'HEAD', [ ':method', 'HEAD' ], @get[1 .. 3] ],
		[ 'unknown method', [ ':method', 'X-Y_Z' ], @get[1 .. 3] ],
		[ 'no authority', @get[0 .. 2] ],
		[ 'order', reverse @get ],
		[ 'long path', @get[0, 1, 3], [ ':path', '/' . 'x' x 5000 ] ]),

	# too much of them

	[ 'a field of 7k', $good, sub { field($_[0], 'x-y', 'z' x 7000) } ],
	[ 'a field of 9k', $calm, sub {
		field($_[0], 'x-y', 'z' x 9000, 'raw')
	} ],
	[ 'a name of 9k', $calm, sub {
		field($_[0], 'z' x 9000, 'y', 'raw')
	} ],
	[ 'a field of 9k, Huffman', $good, sub {
		field($_[0], 'x-y', 'a' x 9000, 'huffman')
	}, or => $calm ],
	[ 'a field of 14k, Huffman', $calm, sub {
		field($_[0], 'x-y', 'a' x 14000, 'huffman')
	} ],
	[ 'a field of 1M', $calm, sub {
		field($_[0], 'x-y', 'z' x 1000000, 'raw')
	} ],
	[ 'fields of 30k', $good, sub { fields($_[0], 30, 1000) } ],
	[ 'fields of 70k', qr/$calm|400/, sub { fields($_[0], 70, 1000) } ],
	[ 'fields of 70k in parts', qr/$calm|400/, sub {
		fields($_[0], 70, 1000, split => [ (1024) x 65 ]);
	} ],
	[ 'indexed fields of 80k', qr/$calm|400/, sub {
		$_[0]->headers(1, [ @get, [ 'x-y', 'z' x 4000, 'raw' ],
			map { [ 'x-y', 'z' x 4000, 'indexed' ] } 1 .. 20 ],
			end => 1);
	} ],
	[ 'little room, it fits', $good, sub { fields($_[0], 2, 700) },
		pair => 4 ],
	[ 'little room, a field', $calm, sub {
		field($_[0], 'x-y', 'z' x 1100, 'raw')
	}, pair => 4 ],
	[ 'little room, fields', qr/$calm|400/, sub {
		fields($_[0], 30, 100)
	}, pair => 4 ],

	# more streams than there may be, and requests

	[ 'too many streams', qr/RST_STREAM 5 REFUSED_STREAM/, sub {
		my ($h2) = @_;
		$h2->wait(sub { $h2->{acknowledged} });
		$h2->headers($_, [ @post, [ 'x-name', "name$_" ] ])
			for 1, 3, 5;
		$h2->data($_, '', end => 1) for 1, 3;
		$h2->wait(sub { $h2->stream(1)->{end}
			&& $h2->stream(3)->{end} });

		# what was refused has been read

		$h2->headers(101, [ @get, [ 'x-name', 'name5', 'indexed' ] ],
			end => 1);
	}, pair => 2, order => 0 ],
	[ 'too many requests', qr/GOAWAY 0 5 NO_ERROR/, sub {
		my ($h2) = @_;
		$h2->get('/') for 1 .. 3;
		$h2->request(path => '/');
	}, pair => 3 ],
	[ 'requests and resets', qr/^(?:.*RST|.*GOAWAY|HEADERS)/, sub {
		my ($h2) = @_;
		for (map { 2 * $_ + 1 } 0 .. 39) {
			$h2->headers($_, [ @get ], end => 1);
			$h2->rst($_, 'CANCEL');
		}
	}, 'GET', loose => 1 ],

	# floods

	(map { my ($name, @frame) = @$_; [ "flood: $name",
		qr/GOAWAY 0 0 NO_ERROR, closed$/, sub {
		$_[0]->raw(h2_frame(@frame) x FLOOD);
	}, whole => 1 ] }
		[ 'unknown frames', 85, 0, 0, 'x' x 16384 ],
		[ 'SETTINGS', 'SETTINGS', 0, 0, pack('nN', 3, 100) x 2730 ]),

	# not HTTP/2 at all

	(map { my ($name, $bytes) = @$_; [ $name, qr/^/, sub {
		$_[0]->raw($bytes);
	}, bare => 1 ] }
		[ 'bad preface', "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" ],
		[ 'bad end of the preface',
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r" ],
		[ 'no SETTINGS', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
			. h2_frame('HEADERS', 5, 1, $plain) ],
		[ 'PING first', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
			. h2_frame('PING', 0, 0, '12345678') ]),
);

my @slow = (
	[ 'nothing', '' ],
	[ 'a byte', 'P' ],
	[ 'half a preface', 'PRI * HTTP/2.0' ],
	[ 'no settings', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" ],
	[ 'half a header', preface() . substr(h2_frame('HEADERS', 5, 1,
		$plain), 0, 5) ],
	[ 'a header', preface() . substr(h2_frame('HEADERS', 5, 1,
		$plain), 0, 9) ],
	[ 'half a frame', preface() . substr(h2_frame('HEADERS', 5, 1,
		$plain), 0, 20) ],
	[ 'half a block', preface() . h2_frame('HEADERS', 1, 1,
		substr($plain, 0, 9)) ],
	[ 'half a CONTINUATION', preface() . h2_frame('HEADERS', 1, 1,
		substr($plain, 0, 9)) . substr(h2_frame('CONTINUATION', 4, 1,
		substr($plain, 9)), 0, 12) ],
	[ 'half a PING', preface() . substr(h2_frame('PING', 0, 0,
		'12345678'), 0, 13) ],
	[ 'no body', preface() . h2_frame('HEADERS', 4, 1, post_block()) ],
	[ 'half a DATA', preface() . h2_frame('HEADERS', 4, 1, post_block())
		. substr(h2_frame('DATA', 1, 1, 'data'), 0, 11) ],
	[ 'idle', preface() ],
	[ 'idle again', preface() . h2_frame('HEADERS', 5, 1, $plain) ],
);

$t->plan(6 * @cases - 4 * (grep { {tail($_)}->{whole} } @cases)
	- 2 * (grep { {tail($_)}->{bare} || {tail($_)}->{pair} } @cases)
	- (grep { {tail($_)}->{bare} } @cases)
	+ @slow + 23)->run();

###############################################################################

for my $case (@cases) {
	my ($name, $expected, @rest) = @$case;
	my %opt = tail($case);

	my @ports = map { port($_) } @{$pairs[$opt{pair} || 0]}[0 .. 2];

	my $stock = run_case($ports[1], \@rest, \%opt);
	like($stock, $expected, $name);

	for ([ $ports[0], '' ],
		[ $ports[0], ', in pieces', split => 7, pieces => 25 ],
		[ $ports[2], ', ssl', ssl => 1 ],
		[ $ports[0], ', behind another', tunnel => 1 ],
		[ $ports[2], ', behind another, in pieces', tunnel => 1,
			ssl => 1, split => 7, pieces => 25 ])
	{
		my ($port, $how, @how) = @$_;

		next if $opt{whole} && $how;
		next if ($opt{bare} || $opt{pair}) && $how =~ /another/;

		# without TLS it may be a request of HTTP/1.x

		next if $opt{bare} && $how =~ /ssl/;

		my $tunnel = run_case($port, \@rest, \%opt, $stock, @how);
		$tunnel = $stock if $opt{or} && $tunnel =~ $opt{or};

		is($tunnel, $stock,
			"$name: tunnel$how");
	}
}

# blocks without an end

for my $block ('GET', 'CONNECT') {
	flood($block, 'empty CONTINUATIONs', qr/CALM/,
		h2_frame('CONTINUATION', 0, 3, '') x FRAMES);
	flood($block, 'CONTINUATIONs of a byte', qr/CALM/,
		h2_frame('CONTINUATION', 0, 3, "\x82") x FRAMES);
	flood($block, 'fields', qr/CALM/,
		h2_frame('CONTINUATION', 0, 3, "\0\1x\1y" x 2000) x 100);
	flood($block, 'table sizes', qr/CALM|COMPRESSION/,
		h2_frame('CONTINUATION', 0, 3, "\x20" x 16384) x 500);
	flood($block, 'a field without an end', qr/CALM|COMPRESSION/,
		h2_frame('CONTINUATION', 0, 3, 'x' x 16384) x 500,
		"\0\3x-y\x7f\xff\xff\xff\x07");
}

# before there was a CONNECT, too

my $h2 = h2_client(port(8080));
$h2->wait(sub { $h2->{acknowledged} });
$h2->flush();
$h2->raw(h2_frame('HEADERS', 0, 1, $plain)
	. h2_frame('CONTINUATION', 0, 1, '') x FRAMES);
ok($h2->wait_closed(), 'flood: empty CONTINUATIONs of the first request');

# everybody waits at the same time

slow_tests();

# the limits count tunnels, too

$h2 = h2_client(port(8084));
$h2->wait(sub { $h2->{acknowledged} });

my @tunnels = map { $h2->connect('127.0.0.1:' . port(8092)) } 1, 2;
my $third = $h2->connect('127.0.0.1:' . port(8092),
	headers => [ [ 'x-name', 'refused' ] ]);
is($third->wait_rst(), 'REFUSED_STREAM', 'too many tunnels');
is($_->echo('still here'), 'still here', 'tunnel goes on') for @tunnels;

$tunnels[0]->half_close();
$tunnels[0]->wait_end();
is($h2->get('/', headers => [ [ 'x-name', 'refused', 'indexed' ] ])->{data},
	'SEE-THIS refused', 'table after a refused stream');

$h2 = h2_client(port(8086));
@tunnels = map { $h2->connect('127.0.0.1:' . port(8092)) } 1 .. 3;
is(join(' ', map { $_->{status} || '' } @tunnels), '200 200 200',
	'as many tunnels as requests');
is(join(' ', @{$h2->wait(sub { $h2->{goaway} }) || []}), '5 NO_ERROR ',
	'too many requests: GOAWAY');
is($_->echo('still here'), 'still here', 'tunnel goes on behind GOAWAY')
	for $tunnels[0];
$_->half_close() for @tunnels;
ok($h2->wait_closed(), 'connection ends with the tunnels');

# what nginx skips is one frame, whatever it comes as

for my $size (9, 10, 12) {
	$h2 = h2_client(port(8086));
	@tunnels = ($h2->connect('127.0.0.1:' . port(8092)));
	$h2->flush();

	my $frames = join '', map { h2_frame('HEADERS', 5, $_, $plain) }
		3, 5, 7;
	my $head = length($frames) * 2 / 3 + $size;

	$h2->raw(substr $frames, 0, $head);
	$h2->wait(sub { $h2->{goaway} });
	$h2->raw(substr $frames, $head);

	is($tunnels[0]->echo('still here'), 'still here',
		"tunnel behind GOAWAY and $size bytes of a request");
	$h2->close();
}

$h2 = h2_client(port(8086));
@tunnels = ($h2->connect('127.0.0.1:' . port(8092)));
$h2->flush();
$h2->raw(join '', (map { h2_frame('HEADERS', 5, $_, $plain) } 3, 5),
	h2_frame('HEADERS', 5, 7, "\x80\0\0\x20" . "\0" x 5));
ok($h2->wait_closed(), 'an error that nginx skips ends the connection');

###############################################################################

# The options behind the frames of a case.

sub tail {
	my ($case) = @_;

	my @rest = @$case;
	my %opt;

	while (@rest > 3 && $rest[-2] =~ /^[a-z]+\z/ && $rest[-2] ne 'wait')
	{
		my ($key, $value) = splice @rest, -2;
		$opt{$key} = $value;
	}

	return %opt;
}

# What came back, one line.  Waits for as much as the stock nginx has said.

sub run_case {
	my ($port, $case, $opt, $stock, %client) = @_;

	my $class = delete $client{tunnel} ? 'Behind' : 'Test::Nginx::H2';
	my $h2 = $class->new($port, delay => 0.0003, %client,
		$opt->{bare} ? (start => 0) : ());

	return 'no connection' unless $h2;

	$h2->tunnel('127.0.0.1:' . port(8092)) if $class eq 'Behind';

	my $frames = '';

	# nothing of ours gets between the frames

	$h2->wait(sub { $h2->{acknowledged} }) unless $opt->{bare};
	$h2->flush();

	for my $part (@$case) {
		if (ref $part eq 'ARRAY') {
			$frames .= h2_frame(@$part);
			next;
		}

		$h2->raw($frames);
		$frames = '';

		if (ref $part) {
			$part->($h2);

		} elsif ($part eq 'wait') {
			$h2->wait_ping(2);
			$h2->wait(sub { grep { $_->{end} }
				values %{$h2->{streams}} }, 2);

		} elsif ($part eq 'GET') {
			$h2->request(sid => 101);

		} else {
			last;
		}
	}

	$h2->raw($frames);

	# a PING says that everything has been read

	$h2->wait_ping(2) unless $opt->{bare};
	$h2->wait(sub {
		!defined $stock || said($h2, $opt) eq $stock
			|| $opt->{or} && said($h2, $opt) =~ $opt->{or}
	}, 1) unless $opt->{bare};

	if ($opt->{bare}) {
		$h2->wait_closed(0.3);

	} elsif (!defined $stock) {
		$h2->wait(sub { !grep { !ended($_) }
			values %{$h2->{streams}} }, 0.3);
	}

	$h2->settle(0.003);

	return said($h2, $opt);
}

sub ended {
	my ($stream) = @_;

	return $stream->{end} || defined $stream->{rst};
}

sub said {
	my ($h2, $opt) = @_;

	my @lines = map { /^(?:EOF|RESET|TRUNCATED)\z/ ? 'closed' : $_ }
		$h2->transcript();

	@lines = map { unshifted($_) } @lines if $h2->isa('Behind');

	# who was first is a matter of luck

	@lines = grep { !/^(?:HEADERS|DATA) (?!101)/ } @lines
		if $opt->{loose};

	@lines = sort @lines if exists $opt->{order};

	return join(', ', @lines);
}

# As if there had been no tunnel.

sub unshifted {
	my ($line) = @_;

	return if $line =~ /^HEADERS 1 200\z/;

	$line =~ s/^((?:GOAWAY 0|[A-Z_]+) )(\d\d?)(?!\d)/
		$1 . ($2 > 2 ? $2 - 2 : $2 == 1 ? 0 : $2)/e;

	return $line;
}

sub parts {
	my (@sizes) = @_;

	return sub {
		$_[0]->headers(1, $plain, end => 1, split => [ @sizes ]);
	};
}

sub post_block {
	return hpack_block(@post);
}

sub preface {
	return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		. h2_frame('SETTINGS', 0, 0, '');
}

sub field {
	my ($h2, $name, $value, @words) = @_;

	$h2->headers(1, [ @get, [ $name, $value, "literal @words" ] ],
		end => 1);
}

sub fields {
	my ($h2, $n, $size, %opt) = @_;

	$h2->headers(1, [ @get, map { [ "x-$_", 'z' x $size, 'literal raw' ] }
		1 .. $n ], end => 1, %opt);
}

# A block behind a tunnel, or that of a tunnel.

sub flood {
	my ($block, $name, $expected, $bytes, $start) = @_;

	my $h2 = h2_client(port(8080));
	my $fields = $plain;

	if ($block eq 'GET') {
		$h2->connect('127.0.0.1:' . port(8092));

	} else {
		$h2->wait(sub { $h2->{acknowledged} });
		$fields = hpack_block([ ':method', 'CONNECT' ],
			[ ':authority', '127.0.0.1:' . port(8092) ]);
	}

	$h2->flush();

	$h2->raw(h2_frame('HEADERS', 0, 3, defined $start ? $start : $fields)
		. $bytes);

	$h2->wait(sub { $h2->{goaway} });
	like($h2->{goaway} && $h2->{goaway}[1] || '', $expected,
		"flood: $block, $name") or diag(join ', ', $h2->transcript());
}

sub slow_tests {
	my @clients;

	for my $slow (@slow) {
		push @clients, [ map {
			my $h2 = h2_client(port($_), start => 0,
				settings_ack => 0);
			$h2->raw($slow->[1]);
			[ $h2, time() ];
		} 8083, 8082 ];
	}

	my $until = time() + 4;
	my @left = map { @$_ } @clients;

	while (@left && time() < $until) {
		for my $client (@left) {
			$client->[0]->pump(time() + 0.01);
			$client->[2] = time() if $client->[0]{closed};
		}

		@left = grep { !$_->[2] } @left;
	}

	# the code says whether nginx took it for idle, which is all the same

	for my $i (0 .. $#slow) {
		my ($stock, $tunnel) = map {
			my ($h2, $start, $end) = @$_;
			my $said = said($h2, {});
			$said =~ s/GOAWAY 0 (\d+) [A-Z_]+/GOAWAY 0 $1/;
			[ $said, $end ? $end - $start : HUGE ];
		} @{$clients[$i]};

		ok($tunnel->[0] eq $stock->[0]
			&& $tunnel->[1] < $stock->[1] + 0.7,
			"slow: $slow[$i][0]")
			or diag("stock: @$stock\ntunnel: @$tunnel");
	}
}

###############################################################################

# A connection that has a tunnel as stream 1: other streams are what they are
# elsewhere, and two more.

package Behind;

use base qw/ Test::Nginx::H2 /;

sub tunnel {
	my ($self, $authority) = @_;

	local $self->{mode} = 'literal';	# the table stays empty

	$self->connect($authority);
	$self->{sid} = 1;
	$self->{shift} = 2;
}

sub raw {
	my ($self, $bytes, @opt) = @_;

	return $self->SUPER::raw($bytes, @opt) unless $self->{shift};

	my $shifted = '';

	while (length $bytes) {
		my ($high, $low, $type, $flags) = unpack('CnCC', $bytes);
		my $frame = substr($bytes, 0, 9 + ($high << 16) + $low, '');

		$self->shift_sid(\$frame, 5);

		# PRIORITY, and HEADERS with one

		my $pos = $type == 2 ? 9
			: $type == 1 && $flags & 32 ? 9 + ($flags >> 3 & 1)
			: undef;

		$self->shift_sid(\$frame, $pos)
			if $pos && length $frame >= $pos + 5;

		$shifted .= $frame;
	}

	return $self->SUPER::raw($shifted, @opt);
}

sub shift_sid {
	my ($self, $frame, $pos) = @_;

	my $sid = unpack('N', substr($$frame, $pos, 4));
	my $n = $sid & 0x7fffffff;

	substr($$frame, $pos, 4) = pack('N', $sid + $self->{shift})
		if $n > 0 && $n < 100;
}

###############################################################################
