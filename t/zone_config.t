#!/usr/bin/perl

# Tests for tunnel_zone and the directives that go with it: what nginx -t says,
# where they may stand, and what they inherit.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Status;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http limit_req stream stream_limit_conn/);

my $d = $t->testdir();

# what the messages are made of

my $flag = 'it must be "on" or "off"';
my $time = 'it must be a time, such as 500ms, 10s, 5m, or 1h';
my $least = 'it must be 0, or a time of at least 1s';
my $zone = 'it must be "off", or name:size, or the name of a zone whose size '
	. 'is elsewhere';
my $max = 'it must be max= and a number from 1 to 100000';
my $requires = '"%s" requires "tunnel_zone"';

my $long = 'x' x 256;

# of both http and stream

my @bad = (
	(map { [ qq/tunnel_zone "$_"/,
		qq/invalid value "$_" in "tunnel_zone" directive, $zone/ ] }
		'', ':', ':1m', 't:', 't:x', 't:-1', 't:1q', 't:1m:2m',
		't:1mm', 't: 1m'),
	(map { [ "tunnel_zone t:$_", 'zone "t" is too small, it must have at '
		. 'least 64k' ] } '0', '1', '63k', '65535'),
	[ 'tunnel_zone t', 'zero size shared memory zone "t"' ],
	[ 'tunnel_zone some:2m', 'the size 2097152 of shared memory zone '
		. '"some" conflicts with already declared size 1048576' ],
	[ 'tunnel_zone others', 'the shared memory zone "others" is already '
		. 'declared for a different use' ],
	[ 'tunnel_zone_key $nosuch', 'unknown "nosuch" variable' ],
	[ 'tunnel_zone_key "a${"',
		'invalid variable name' ],
	(map { [ "tunnel_zone_key x $_",
		qq/invalid value "$_" in "tunnel_zone_key" directive, $max/ ] }
		'max=0', 'max=100001', 'max=', 'max=x', 'max=-1', 'max=1k',
		'min=1', '10'),
	(map { [ "tunnel_label $_", qq/invalid value "$_" in "tunnel_label" /
		. 'directive, it must be of at most 255 bytes, and without '
		. 'variables' ] } $long, '$hostname', 'a$'),
	(map { [ qq/tunnel_max_connections "$_"/, qq/invalid value "$_" in /
		. '"tunnel_max_connections" directive, it must be a number' ] }
		'', 'x', '-1', '1k', 'off', '1.5'),
	(map { [ "tunnel_log_interval $_",
		qq/invalid value "$_" in "tunnel_log_interval" directive, /
		. $least ] } '1ms', '999ms'),
	(map { [ qq/tunnel_log_interval "$_"/,
		qq/invalid value "$_" in "tunnel_log_interval" directive, /
		. $time ] } '', 'x', '-1', '1q', 'off'),
	(map { [ "target_recheck $_",
		qq/invalid value "$_" in "target_recheck" directive, $flag/ ] }
		'yes', '1'),
);

# of a location

my $formats = 'it must be "html" or "json" or "prometheus"';

my @location = (
	(map { [ qq/tunnel_status "$_"/, qq/invalid value "$_" in /
		. qq/"tunnel_status" directive, $formats/ ] }
		'', 'xml', 'on', 'metrics'),
	(map { [ "tunnel_status; tunnel_control $_", qq/invalid value "$_" in /
		. qq/"tunnel_control" directive, $flag/ ] } 'yes', '1'),
	[ 'tunnel_status; tunnel_status', '"tunnel_status" directive is '
		. 'duplicate' ],
	[ 'tunnel_status json; tunnel_status html',
		'"tunnel_status" directive is duplicate' ],
	[ 'tunnel_control on; tunnel_control on', '"tunnel_control" directive '
		. 'is duplicate' ],
	[ 'tunnel_zone off; tunnel_status', sprintf $requires,
		'tunnel_status' ],
);

# values that are taken, the first in every context

my %good = (
	tunnel_zone		=> [ 't:64k', 'off', 'some', 'some:1m',
		't:1m', '"a b:65536"' ],
	tunnel_zone_key		=> [ '$remote_addr', 'off', 'x', '""',
		'"$remote_addr $server_port" max=1', 'x max=100000',
		'off max=10' ],
	tunnel_label		=> [ 'name', '""', '"a \"b\" \\\\"',
		substr($long, 1) ],
	tunnel_max_connections	=> [ '10', '0', '1000000' ],
	tunnel_log_interval	=> [ '1s', '0', '1000ms', '5m', '60' ],
	target_recheck		=> [ 'on', 'off' ],
);

my %needs = (tunnel_max_connections => '1', target_recheck => 'on');

my @status = ('tunnel_status', 'tunnel_status html', 'tunnel_status json',
	'tunnel_status prometheus', 'tunnel_status; tunnel_control on',
	'tunnel_control off; tunnel_status', 'tunnel_control on',
	'tunnel_status JSON');

my @counts = (
	(map { ($_, "$_ a b c") } qw/ tunnel_zone_key /),
	(map { ($_, "$_ 1s 1s") } qw/ tunnel_zone tunnel_label
		tunnel_max_connections tunnel_log_interval target_recheck /),
);

# where they may not stand: in %s

my @wrong = (
	(map { my $directive = $_; map {
		[ "$directive $good{$directive}[0]", $directive, $_ ]
	} '%s', 'events { %s }', 'http { upstream u { %s } }',
		'stream { upstream u { %s } }' } sort keys %good),
	(map { my $directive = $_; map { [ $directive, $directive =~ /(\w+)/,
		$_ ] } '%s', 'http { %s }', 'http { server { %s } }',
		'stream { %s }', 'stream { server { %s } }' }
		'tunnel_status', 'tunnel_control on'),
);

###############################################################################

for my $case (@bad) {
	my ($text, $message) = @$case;
	my $short = length $text > 60 ? substr($text, 0, 60) : $text;

	for my $what (qw/ http stream /) {
		is(join(' ', check($what, "$text;")), "1 [emerg] $message",
			"$short in $what");
	}
}

for my $case (@location) {
	my ($text, $message) = @$case;

	is(join(' ', check('location', "$text;")), "1 [emerg] $message",
		$text);
}

for my $text (@counts) {
	my ($directive) = $text =~ /(\w+)/;

	is(join(' ', check('http', "$text;")), '1 [emerg] invalid number of '
		. qq/arguments in "$directive" directive/, $text);
}

for my $directive (sort keys %good) {
	for my $value (@{$good{$directive}}) {
		my $text = "$directive $value";
		my $short = substr $text, 0, 60;

		$text = "tunnel_zone some; $text" if $needs{$directive};

		is(join(' ', check($_, "$text;")), 0, "$short in $_")
			for qw/ http stream location /;
	}

	my $text = "$directive $good{$directive}[0];";
	my $zone = $needs{$directive} ? 'tunnel_zone some;' : '';

	for my $what (qw/ http stream location /) {
		is(join(' ', check($what, "$text $text")), '1 [emerg] "'
			. qq/$directive" directive is duplicate/,
			"$directive, duplicate in $what");
		is(join(' ', check($what, "$zone $text",
			$what eq 'location' ? "$zone $text" : $text)), 0,
			"$directive, on two levels in $what");
	}
}

is(join(' ', check('location', "tunnel_zone some; $_;")), 0, $_) for @status;

for my $case (@wrong) {
	my ($text, $directive, $where) = @$case;

	is(join(' ', check_text(sprintf $where, "$text;")),
		qq/1 [emerg] "$directive" directive is not allowed here/,
		"$directive in " . sprintf $where, '...');
}

# the zone that is needed

for my $directive (sort keys %needs) {
	my $message = '1 [emerg] ' . sprintf $requires, $directive;
	my $needs = "$directive $needs{$directive};";

	for my $what (qw/ http stream /) {
		my $handler = $what eq 'http' ? 'connect_tunnel;' : 'socks;';

		my $text = sub {
			my ($outer, $inner) = @_;

			return "$what { $outer server { listen 127.0.0.1:8080;"
				. " $handler $inner } }";
		};

		is(join(' ', check_text($text->('', $needs))), $message,
			"$what, $directive without a zone");
		is(join(' ', check_text($text->($needs, ''))), $message,
			"$what, inherited $directive");
		is(join(' ', check_text($text->('tunnel_zone t:64k;',
			"tunnel_zone off; $needs"))), $message,
			"$what, $directive, zone off");
		is(join(' ', check_text($text->('tunnel_zone t:64k;',
			$needs))), 0, "$what, $directive, inherited zone");
		is(join(' ', check_text($text->($needs,
			'tunnel_zone t:64k;'))), 0,
			"$what, $directive, zone of the server");
		is(join(' ', check_text("$what { $needs server { "
			. 'listen 127.0.0.1:8080; return 204; } }')), 0,
			"$what, $directive, nothing that has tunnels");
	}

	my $location = 'http { server { location / { connect_tunnel; ';

	is(join(' ', check_text("$location $needs } } }")), $message,
		"$directive of a location without a zone");
	is(join(' ', check_text("$location $needs tunnel_zone t:64k; } } }")),
		0, "$directive of a location");
	is(join(' ', check_text("http { $needs server { location / "
		. '{ connect_tunnel; tunnel_zone t:64k; } '
		. 'location /x/ { return 204; } } }')), 0,
		"$directive beside a location without tunnels");
}

is(join(' ', check_text('http { server { location / { tunnel_status; } } }')),
	'1 [emerg] ' . (sprintf $requires, 'tunnel_status'),
	'tunnel_status without a zone');

# one zone of both, in any order

my @blocks = (
	'http { %s server { listen 127.0.0.1:8080; connect_tunnel; } }',
	'stream { %s server { listen 127.0.0.1:8081; socks; } }',
);

for my $order ([ 0, 1 ], [ 1, 0 ]) {
	my ($first, $second) = @blocks[@$order];
	my $name = $order->[0] ? 'stream first' : 'http first';

	my $text = sub {
		my ($one, $two) = @_;
		return sprintf($first, $one) . "\n" . sprintf($second, $two);
	};

	is(join(' ', check_text($text->('tunnel_zone t:64k;',
		'tunnel_zone t;'))), 0, "$name, size in the first");
	is(join(' ', check_text($text->('tunnel_zone t;',
		'tunnel_zone t:64k;'))), 0, "$name, size in the second");
	is(join(' ', check_text($text->('tunnel_zone t:64k;',
		'tunnel_zone t:64k;'))), 0, "$name, size in both");
	is(join(' ', check_text($text->('tunnel_zone t:64k;',
		'tunnel_zone t:128k;'))), '1 [emerg] the size 131072 of '
		. 'shared memory zone "t" conflicts with already declared '
		. 'size 65536', "$name, two sizes");
	is(join(' ', check_text($text->('tunnel_zone t;', 'tunnel_zone t;'))),
		'1 [emerg] zero size shared memory zone "t"',
		"$name, no size");
	is(join(' ', check_text($text->('tunnel_zone t:64k;',
		'tunnel_zone u:64k;'))), 0, "$name, two zones");
}

###############################################################################

# what is inherited, and what is not

my $status = status_conf() . status_conf(port => 8071,
	conf => 'tunnel_zone inner;');

my $rules = <<'EOF';
    target_allow *:*;
    target_allow_address 127.0.0.0/8;
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone outer;

$rules
    server {
        listen 127.0.0.1:8085;
        socks;
    }

    server {
        listen 127.0.0.1:8086;
        socks;
        tunnel_label socks;
        tunnel_zone inner:512k;
    }
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone outer:1m;
    tunnel_zone_key \$server_port;

$rules
    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8081;
        server_name one.example two.example;
        connect_tunnel;
        tunnel_zone off;
    }

    server {
        listen 127.0.0.1:8082;
        server_name .three.example;
        tunnel_zone_key off;

        location / {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8083;
        server_name four.example;
        tunnel_label five;

        location / {
            connect_tunnel;
            tunnel_zone inner;
        }
    }

    server {
        listen 127.0.0.1:8084;
        server_name three.example;
        connect_tunnel;
        tunnel_label "";
    }

    $status
}
EOF

start_daemon($t, \&echo_daemon, port(8091));
$t->run();

my @s = map { (connect_tunnel(port($_), '127.0.0.1:' . port(8091)))[0] }
	8080 .. 8084;
push @s, (socks5_tunnel(port($_), '127.0.0.1', port(8091)))[0]
	for 8085, 8086;

is(scalar(grep { echo($_, 'hello') eq 'hello' } @s), 7, 'all work');

my ($outer, $inner) = (status(), status(undef, port => 8071));

is(tunnels($outer), join(', ', sort map { qq/connect "" / . port($_) }
	8080, 8084) . ', connect "three.example" -, socks "" -',
	'those of the outer zone');
is(tunnels($inner), 'connect "five" ' . port(8083) . ', socks "socks" -',
	'those of the inner zone');
is_deeply([ map { status_bad($_) } $outer, $inner ], [], 'all fits');
is("$outer->{zone}{name} $outer->{zone}{size}", 'outer 1048576', 'outer');
is("$inner->{zone}{name} $inner->{zone}{size}", 'inner 524288', 'inner');

half_close($_), read_all($_) for @s;

# its last checks are made when it goes, and not too late

undef $t;
done_testing();

###############################################################################

sub tunnels {
	my ($status) = @_;

	return join ', ', sort map { my $key = $_->{key};
		qq/$_->{front_end} "$_->{server}" / . ($key || '-') }
		@{$status->{tunnels}};
}

# Directives in http, stream, or a location, and others in a level inside.

sub check {
	my ($what, $text, $inner) = @_;

	$inner = '' unless defined $inner;

	my ($http, $stream, $location) = ('', '', '');

	$http = $text if $what eq 'http';
	$stream = $text if $what eq 'stream';
	$location = $text if $what eq 'location';

	my ($http_inner, $stream_inner) = $what eq 'stream' ? ('', $inner)
		: ($inner, '');

	return check_text(<<"EOF");
http {
    limit_req_zone \$remote_addr zone=others:64k rate=1r/s;

    server {
        listen 127.0.0.1:8079;
        connect_tunnel;
        tunnel_zone some:1m;
    }

    $http

    server {
        listen 127.0.0.1:8080;
        $http_inner

        location / {
            connect_tunnel;
            tunnel_zone some;
        }

        location /x/ {
            $location
        }
    }
}

stream {
    $stream

    server {
        listen 127.0.0.1:8081;
        socks;
        $stream_inner
    }
}
EOF
}

sub check_text {
	my ($text) = @_;

	$text = "events { }\n$text" unless $text =~ /events/;
	$text =~ s/^http \{/http { access_log off;/mg;

	# the place, which is not that of the directive for all of them

	return map { s! in \S+/check\.conf:\d+$!!r } nginx_check($t, $text);
}

###############################################################################
