#!/usr/bin/perl

# Tests for CONNECT over HTTP/2, however the bytes are cut and however header
# blocks are written.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::H2;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	DELAY	=> 0.002,
	TABLE	=> 4096,
};

my $t = Test::Nginx->new()
	->has(qw/http http_v2 http_ssl rewrite socket_ssl socket_ssl_alpn/)
	->plan(173);

my $both = h2_listen($t, '127.0.0.1:8080', '127.0.0.1:8443 ssl');

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

    server {
        $both

        connect_tunnel;

        location / {
            return 200 "SEE-THIS \$http_x_name \$http_cookie";
        }
    }
}

EOC

make_cert($t, 'localhost');

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&half_close_daemon, port(8092));

$t->run();

###############################################################################

my $echo = '127.0.0.1:' . port(8091);
my $sum = '127.0.0.1:' . port(8092);

# a session that ends: a request, a tunnel with its bytes, and both ends

my @get = ([ ':method', 'GET' ], [ ':scheme', 'http' ], [ ':path', '/' ],
	[ ':authority', 'localhost' ], [ 'x-name', 'one' ]);
my @connect = ([ ':method', 'CONNECT' ], [ ':authority', $sum ],
	[ 'user-agent', 'test' ]);

for ([ 'plain', 8080 ], [ 'ssl', 8443, ssl => 1 ]) {
	my ($how, $port, @client) = @$_;
	my $bytes = session();

	is(failures($port, [ @client ], $bytes, [ 1 .. length($bytes) - 1 ]),
		'', "$how: cut at every byte");

	for my $step (1, 2, 3, 5, 8, 9, 10, 17) {
		my $h2 = h2_client(port($port), @client, start => 0,
			settings_ack => 0);
		$h2->raw($bytes, step => $step, delay => 0.0005);
		is(outcome($h2), 'good', "$how: in pieces of $step");
	}

	# CONTINUATIONs

	my $block = hpack_block(@connect);

	my @bad = grep {
		my $h2 = h2_client(port($port), @client, start => 0,
			settings_ack => 0);
		$h2->raw(session([ $_ ]));
		outcome($h2) ne 'good';
	} 1 .. length($block);
	is("@bad", '', "$how: CONTINUATION at every byte")
		if $how eq 'plain';

	@bad = grep {
		my $h2 = h2_client(port($port), @client, start => 0,
			settings_ack => 0);
		$h2->raw(session([ $_, 0, 1, 2 ]), step => 7, delay => 0.0002);
		outcome($h2) ne 'good';
	} map { 3 * $_ + 1 } 0 .. (length($block) - 3) / 3;
	is("@bad", '', "$how: several CONTINUATIONs in pieces");

	$bytes = session([ (1) x (length($block) - 1) ]);
	for my $step (1, 4, 9, 10, 11) {
		my $h2 = h2_client(port($port), @client, start => 0,
			settings_ack => 0);
		$h2->raw($bytes, step => $step, delay => 0.0002);
		is(outcome($h2), 'good',
			"$how: CONTINUATIONs of a byte in pieces of $step");
	}

	$bytes = session([ 5, 5 ], padding => 20, priority => [ 0, 16, 0 ]);
	is(failures($port, [ @client ], $bytes,
		[ grep { $_ % 2 } 24 .. length($bytes) - 1 ]), '',
		"$how: padding, priority and CONTINUATIONs cut");
}

glued_tests();

for my $mode ('', 'indexed', 'literal', 'never', 'incremental') {
	for my $coding ('raw', 'huffman') {
		for my $name ('', 'new') {
			coding_tests("$mode $coding $name")
				unless $mode eq 'indexed';
		}
	}
}

table_tests();
switch_tests(8080);
switch_tests(8443, ssl => 1);

###############################################################################

# Everything a client sends, and ends with.

sub session {
	my ($split, %opt) = @_;

	my $block = hpack_block(@connect);
	my @split = $split ? (split => [ @$split ]) : ();

	return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		. h2_frame('SETTINGS', 0, 0, '')
		. h2_frame('HEADERS', 5, 1, hpack_block(@get))
		. h2_headers(3, $block, @split, %opt)
		. h2_data(3, 'tunnel')
		. h2_frame('PING', 0, 0, '12345678')
		. h2_data(3, ' 3', end => 1)
		. h2_frame('HEADERS', 5, 5, hpack_block(@get));
}

sub outcome {
	my ($h2) = @_;

	my ($first, $tunnel, $last) = map { $h2->stream($_) } 1, 3, 5;

	$_->wait_end(3) for $first, $tunnel, $last;
	$h2->wait(sub { @{$h2->{pongs}} }, 1);

	return 'no PING' unless @{$h2->{pongs}};
	return 'no request' if $first->{data} ne 'SEE-THIS one '
		|| $last->{data} ne 'SEE-THIS one ';
	return 'no tunnel' if ($tunnel->{status} || '') ne '200'
		|| !$tunnel->{end};
	return 'no bytes' if $tunnel->{data} ne summary('tunnel 3');
	return 'good';
}

# Several connections at once, for a cut takes its time.

sub failures {
	my ($port, $client, $bytes, $points) = @_;

	my (@bad, @points);

	@points = @$points;

	while (my @some = splice @points, 0, 16) {
		my @h2 = map { h2_client(port($port), @$client, start => 0,
			settings_ack => 0) }
			@some;

		$h2[$_]->raw(substr($bytes, 0, $some[$_])) for 0 .. $#some;
		select undef, undef, undef, DELAY;
		$h2[$_]->raw(substr($bytes, $some[$_]))
			for 0 .. $#some;

		push @bad, grep { defined } map {
			my $outcome = outcome($h2[$_]);
			$outcome eq 'good' ? undef : "$some[$_]: $outcome"
		} 0 .. $#some;
	}

	return join ', ', @bad;
}

###############################################################################

sub glued_tests {
	my $h2 = h2_client(port(8080), start => 0,
			settings_ack => 0);

	# the preface, and all that one connection does, in one write

	my @tunnels = map { 2 * $_ + 1 } 0 .. 9;
	my @gets = map { $_ + 20 } @tunnels;

	my $bytes = $h2->preface();
	$bytes .= $h2->headers_frames($_, [ [ ':method', 'CONNECT' ],
		[ ':authority', $echo ], [ 'x-name', "tunnel$_" ] ])
		. h2_data($_, "data$_") for @tunnels;
	$bytes .= $h2->headers_frames($_, [ @get[0 .. 3],
		[ 'x-name', "name$_" ] ], end => 1) for @gets;
	$bytes .= h2_data($_, "more$_", end => 1) for @tunnels;

	$h2->raw($bytes);

	$h2->stream($_)->wait_end() for @tunnels, @gets;
	is(join(' ', map { $h2->stream($_)->{data} } @tunnels),
		join(' ', map { "data${_}more$_" } @tunnels),
		'tunnels in one write');
	is(join(' ', map { $h2->stream($_)->{data} } @gets),
		join(' ', map { "SEE-THIS name$_ " } @gets),
		'requests in one write');

	# and in pieces

	$h2 = h2_client(port(8443), ssl => 1, start => 0,
			settings_ack => 0);
	$h2->{encoder}{table} = [];
	$h2->{encoder}{size} = 0;
	$h2->raw($bytes, step => 100, delay => 0.0005);

	$h2->stream($_)->wait_end() for @tunnels, @gets;
	is(join(' ', map { $h2->stream($_)->{data} } @tunnels),
		join(' ', map { "data${_}more$_" } @tunnels),
		'tunnels in pieces');
	is(join(' ', map { $h2->stream($_)->{data} } @gets),
		join(' ', map { "SEE-THIS name$_ " } @gets),
		'requests in pieces');

	# a block behind much data, which fills a read

	$h2 = h2_client(port(8080));
	my $s = $h2->connect($sum);
	my $sid = $h2->next_sid();

	$h2->raw(h2_data($s->{id}, pattern(16000)) x 4
		. $h2->headers_frames($sid, [ [ ':method', 'CONNECT' ],
			[ ':authority', $echo ] ], split => [ 3 ])
		. h2_data($sid, 'hello')
		. h2_data($s->{id}, 'end', end => 1));

	is($h2->stream($sid)->read_n(5), 'hello', 'block behind data');
	is($s->read_all(), summary(pattern(16000) x 4 . 'end'),
		'data before a block');
}

# The fields of a CONNECT, written in this way, twice.

sub coding_tests {
	my ($words) = @_;

	$words =~ s/^ +| +$//g;
	$words =~ s/ +/ /g;

	my $h2 = h2_client(port(8080), mode => $words);

	my $good = 0;

	for (1 .. 3) {
		my $s = $h2->connect($echo, headers => [
			[ 'user-agent', 'Mozilla/5.0 (X11; Linux x86_64)' ],
			[ 'x-name', 'value' ] ]);

		$good++ if $s->echo("hello $_") eq "hello $_";
	}

	is($good, 3, "tunnels, fields: $words");
	is($h2->get('/', headers => [ [ 'x-name', 'value' ],
		[ 'cookie', 'a=b' ], [ 'cookie', 'c=d' ] ])->{data},
		'SEE-THIS value a=b; c=d', "request, fields: $words");
}

###############################################################################

# The table is one for tunnels and requests.

sub table_tests {
	my $h2 = h2_client(port(8080));

	my @fields = ([ ':method', 'CONNECT' ], [ ':authority', $echo ],
		[ 'x-name', 'tunnel' ]);

	my $s = $h2->connect('', fields => [ map { [ @$_, 'incremental' ] }
		@fields ]);
	is($s->echo('hello'), 'hello', 'fields into the table');

	$s = $h2->connect('', fields => [ map { [ @$_, 'indexed' ] }
		@fields ]);
	is($s->echo('hello'), 'hello', 'fields from the table');
	is(length $h2->block(map { [ @$_, 'indexed' ] } @fields), 3,
		'a byte each');

	is($h2->get('/', headers => [ [ 'x-name', 'tunnel', 'indexed' ] ])
		->{data}, 'SEE-THIS tunnel ', 'a request takes from it');
	is($h2->get('/', headers => [ [ 'x-name', 'get', 'incremental' ] ])
		->{data}, 'SEE-THIS get ', 'a request puts into it');

	$s = $h2->connect($echo,
		headers => [ [ 'x-name', 'get', 'indexed' ] ]);
	is($s->echo('hello'), 'hello', 'a tunnel takes from it');

	# names from the dynamic table

	$s = $h2->connect($echo, headers => [ [ 'x-name', 'x', 'literal' ] ]);
	is($s->echo('hello'), 'hello', 'name from the table');

	# evictions: the entry of a CONNECT goes, and others are where it was

	for my $n (1 .. 60) {
		$h2->headers($h2->next_sid(), [ @get[0 .. 3],
			[ 'x-name', "number $n " . 'x' x 90, 'incremental' ] ],
			end => 1);
	}

	cmp_ok(scalar $h2->table(), '<', 40, 'entries are gone');
	is((grep { $_->[0] eq ':method' } $h2->table()), 0,
		'that of CONNECT is');

	is($h2->get('/', headers => [ [ 'x-name', "number 60 " . 'x' x 90,
		'indexed' ] ])->{data}, 'SEE-THIS number 60 ' . 'x' x 90 . ' ',
		'newest entry');
	my ($oldest) = reverse map { $_->[1] } grep { $_->[0] eq 'x-name' }
		$h2->table();
	is($h2->get('/', headers => [ [ 'x-name', $oldest, 'indexed' ] ])
		->{data}, "SEE-THIS $oldest ", 'oldest entry');

	$s = $h2->connect('', fields => [ map { [ @$_, 'incremental' ] }
		@fields ]);
	is($s->echo('hello'), 'hello', 'fields into the table again');
	$s = $h2->connect('', fields => [ map { [ @$_, 'indexed' ] }
		@fields ]);
	is($s->echo('hello'), 'hello', 'fields from the table again');

	# an entry larger than the table empties it

	my $large = 'x' x TABLE;
	is($h2->get('/', headers => [ [ 'x-name', $large,
		'incremental raw' ] ])->{data}, "SEE-THIS $large ",
		'entry that is too large');
	is(scalar $h2->table(), 0, 'table is empty');
	$s = $h2->connect('', fields => [ @fields ]);
	is($s->echo('hello'), 'hello', 'tunnel with an empty table');

	# sizes

	for my $size (0, 100, 50, TABLE) {
		$s = $h2->connect('', fields => [ $h2->table_size($size),
			map { [ @$_, 'incremental' ] } @fields ]);
		is($s->echo('hello'), 'hello', "table of $size bytes");

		$s = $h2->connect('', fields => [ @fields ]);
		is($s->echo('hello'), 'hello', "table of $size bytes again");
	}

	$s = $h2->connect('', fields => [ $h2->table_size(0),
		$h2->table_size(TABLE), @fields ]);
	is($s->echo('hello'), 'hello', 'table is emptied');
	is(scalar $h2->table(), 3, 'entries since then');

	$s = $h2->connect('', fields => [ map { [ @$_, 'indexed' ] }
		@fields ]);
	is($s->echo('hello'), 'hello', 'and they are there');

	# what is refused has been read

	$s = $h2->connect('', fields => [ [ ':method', 'CONNECT', 'indexed' ],
		[ ':authority', 'bad', 'incremental' ],
		[ 'x-name', 'bad', 'incremental' ] ]);
	is($s->{status}, 400, 'refused');
	is($h2->get('/', headers => [ [ 'x-name', 'bad', 'indexed' ] ])
		->{data}, 'SEE-THIS bad ', 'entries of a refused tunnel');

	# a stream that is reset in the midst of others

	my ($sid, $next) = map { $h2->next_sid() } 1, 2;
	$h2->raw($h2->headers_frames($sid, [ [ ':method', 'CONNECT' ],
			[ ':authority', $echo ],
			[ 'x-name', 'reset', 'incremental' ] ])
		. h2_frame('RST_STREAM', 0, $sid, pack('N', 8))
		. $h2->headers_frames($next, [ [ ':method', 'CONNECT' ],
			[ ':authority', $echo ],
			[ 'x-name', 'reset', 'indexed' ] ])
		. h2_data($next, 'next'));
	is($h2->stream($next)->read_n(4), 'next', 'behind a reset');
}

# A connection that has requests for long before it has a tunnel.

sub switch_tests {
	my ($port, %client) = @_;

	my $how = $client{ssl} ? 'ssl' : 'plain';
	my $name = sub { [ 'x-name', $_[0], @_[1 .. $#_] ] };

	for my $split (undef, 1, 7) {
		my $cut = $split ? "$how by $split" : $how;
		my $h2 = h2_client(port($port), %client, split => $split,
			delay => 0.0003);

		my @got = map { $_->{data} } map { $h2->get('/',
			authority => 'localhost', headers => [ $_ ]) }
			$name->('one', 'incremental'), $name->('one'),
			$name->('one'), $name->('two', 'incremental'),
			$name->('one', 'indexed'), $name->('two', 'never'),
			$name->('three', 'incremental huffman'),
			$name->('two', 'indexed');

		is(join(' ', map { (split)[1] } @got),
			'one one one two one two three two',
			"$cut: requests before a tunnel");

		# the table has what they put there

		my $s = $h2->connect($echo,
			headers => [ $name->('two', 'indexed') ]);
		is($s->echo('hello'), 'hello', "$cut: the first tunnel");

		is($h2->get('/', headers => [ $name->($_, 'indexed') ])
			->{data}, "SEE-THIS $_ ", "$cut: $_ behind a tunnel")
			for qw/ one two three /;

		$h2->get('/', headers => [ $name->("$_" . 'x' x 500,
			'incremental') ]) for 1 .. 9;
		ok(!(grep { $_->[1] eq 'one' } $h2->table()),
			"$cut: the first entry is gone");
		is($h2->get('/', headers => [ $name->('9' . 'x' x 500,
			'indexed') ])->{data}, 'SEE-THIS 9' . 'x' x 500 . ' ',
			"$cut: the last one is there");

		my $sid = $h2->next_sid();
		$h2->headers($sid, [ $h2->table_size(0),
			$h2->table_size(300), @get[0 .. 3],
			$name->('new', 'incremental') ], end => 1);
		$h2->stream($sid)->wait_end();
		is($h2->stream($sid)->{data}, 'SEE-THIS new ',
			"$cut: another size");

		$s = $h2->connect($echo,
			headers => [ $name->('new', 'indexed') ]);
		is($s->echo('hello'), 'hello', "$cut: another tunnel");
	}

	# all of it in one write, and the first tunnel among requests

	my $h2 = h2_client(port($port), %client, start => 0);
	my @sids = map { 2 * $_ + 1 } 0 .. 19;

	$h2->raw(join('', $h2->preface(), map {
		$_ == 21 || $_ == 31
			? $h2->headers_frames($_, [ [ ':method', 'CONNECT' ],
				[ ':authority', $sum ], $name->('same') ])
				. h2_data($_, "tunnel $_", end => 1)
			: $h2->headers_frames($_, [ @get[0 .. 3],
				$name->($_ % 4 == 1 ? 'same' : "name$_") ],
				end => 1)
	} @sids));

	$h2->stream($_)->wait_end() for @sids;
	is(join('', map { $h2->stream($_)->{data} } @sids), join('', map {
		$_ == 21 || $_ == 31 ? summary("tunnel $_")
			: 'SEE-THIS ' . ($_ % 4 == 1 ? 'same' : "name$_") . ' '
	} @sids), "$how: the first tunnel among requests");

	# the method is not the first, and in another frame

	for my $split ([], [ 1 ], [ 18 ], [ 20 ]) {
		$h2 = h2_client(port($port), %client);
		$h2->get('/', headers => [ $name->('one') ]);

		my $s = $h2->connect('', split => [ @$split ], fields => [
			[ ':authority', $echo ], [ ':method', 'CONNECT' ],
			$name->('one', 'indexed') ]);
		is($s->echo('hello'), 'hello', "$how: method behind, split at "
			. (join(' ', @$split) || 'nothing'));
		is($h2->get('/', headers => [ $name->('one', 'indexed') ])
			->{data}, 'SEE-THIS one ', "$how: and a request");
	}
}

###############################################################################
