package Test::Nginx::Quota;

# Tests of relay_quota_zone and relay_quota, the same for all front ends.
#
#   quota_tests($t, $front)	plans, configures, and runs all of it;
#				the front end is "http", "h2", which is http
#				with HTTP/2, "stream", "socks" or "preread",
#				which is stream with tunnel_preread
#
# A client tells its key as the source address of a PROXY protocol header, and
# its number, by which the log is read, as the source port.  The number's first
# digit chooses the target.

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/ quota_tests /;

###############################################################################

use Test::More;
use Time::HiRes qw/ sleep time /;

use Test::Nginx qw/ port /;
use Test::Nginx::Tunnel;
use Test::Nginx::H2Bridge;
use Test::Nginx::Relay;

###############################################################################

use constant {
	TESTS	=> { http => 108, h2 => 108, stream => 90, socks => 118,
			preread => 90 },
	MEGA	=> 1000000,
};

my %target = (echo => [ 1, 8091 ], sink => [ 2, 8093 ],
	source => [ 3, 8094 ]);

my ($t, $front, $fixed, $http, $number, $names);

###############################################################################

sub quota_tests {
	($t, $front) = @_;

	# the target is that of the configuration

	$fixed = $front eq 'stream' || $front eq 'preread';

	$http = front_http($front);

	$t->has($http ? qw/http map/ : qw/stream stream_map/,
		$front eq 'h2' ? 'http_v2' : (),
		$front eq 'stream' ? 'stream_ssl_preread' : ());
	$t->plan(TESTS->{$front});

	my $d = $t->testdir();

	start_daemon($t, \&echo_daemon, port(8091));
	start_daemon($t, \&sink_daemon, port(8093), report => "$d/sink");
	start_daemon($t, \&source_daemon, port(8094), bytes => 3 * MEGA);

	$number = 0;

	$names = $front eq 'socks' ? socks_names($t) : '';
	$t->write_file('users', join '', map { "$_:{PLAIN}secret\n" }
		qw/ alice bob /);

	configure();
	$t->run();

	my ($pid) = workers($t);

	# those that take their time go on beside the others

	my $period = period_start();

	exact(8080, 'copied');
	exact(8081, 'spliced');
	early();
	several();
	inherited();
	users() if $front eq 'socks';
	period_end($period);
	shared();
	full();

	is((workers($t))[0], $pid, 'worker is the same');

	reloaded($pid);

	# its last checks are made when it goes, and not too late

	undef $t;
}

###############################################################################

# One tunnel and one worker: exactly the limit passes.

sub exact {
	my ($server, $what) = @_;

	my $bytes = pattern(3 * MEGA);
	my $least = MEGA;

	# upload

	my $s = tunnel($server, 'sink', '192.0.2.1');
	write_all($s, $bytes);
	ended($s, "$what upload", "ok quota $least 0");
	ok(wait_log($t, 'sink', qr/^\Q${\sent($bytes, $least)}\E /),
		"$what upload, delivered");
	refused($server, '192.0.2.1', "$what, spent");

	# download

	$s = tunnel($server, 'source', '192.0.2.2');
	my ($got, $state) = read_all($s);
	ok($got eq substr($bytes, 0, $least), "$what download, delivered")
		or diag(length $got);
	is($state, cut(), "$what download, end");
	ended($s, "$what download", "ok quota 0 $least");
	refused($server, '192.0.2.2', "$what download, spent");

	# both; and in the end not a byte is left

	$s = tunnel($server, 'echo', '192.0.2.3');
	is(length exchange($s, substr($bytes, 0, 400000), 400000), 400000,
		"$what both ways");
	write_all($s, substr($bytes, 0, 120000));
	read_all($s);

	my ($in, $out) = (logged($s) || '') =~ /ok quota (\d+) (\d+)$/;
	is(($in || 0) + ($out || 0), $least, "$what both ways, counted")
		or diag(logged($s));

	# another key is another one

	$s = tunnel($server, 'echo', '192.0.2.4');
	is(echo($s, 'hello'), 'hello', "$what, another key");
	done($s);
	ended($s, "$what, another key", 'ok completed 5 5');
}

# What comes before the tunnel counts as well.

sub early {

	# stream: what was preread; others: behind the request

	my $s = tunnel(8082, 'sink', '192.0.2.1', early => pattern(300));
	done($s);
	ended($s, 'early', 'ok completed 300 0');

	$s = tunnel(8082, 'sink', '192.0.2.1', early => pattern(400));
	ended($s, 'early, more than is left', 'ok quota 200 0');
	ok(wait_log($t, 'sink', qr/^\Q${\sent(pattern(400), 200)}\E /),
		'early, delivered');
	refused(8082, '192.0.2.1', 'early, spent', early => 'hello');

	# as much as there is

	$s = tunnel(8082, 'sink', '192.0.2.2', early => pattern(500));
	ended($s, 'early, all of it', 'ok quota 500 0');
}

# Several quotas: whichever has less.

sub several {
	my $s = tunnel(8083, 'sink', '192.0.2.1');
	write_all($s, pattern(5000));
	ended($s, 'several, first', 'ok quota 1000 0');
	refused(8083, '192.0.2.1', 'several, first spent');
	ok(wait_log($t, 'error.log', qr/\[error\].*client_limit, small/),
		'several, zone logged');

	$s = tunnel(8083, 'sink', '192.0.2.2');
	write_all($s, pattern(5000));
	ended($s, 'several, both', 'ok quota 500 0');

	refused(8083, '192.0.2.3', 'several, second spent');
	ok(wait_log($t, 'error.log', qr/\[error\].*client_limit, common/),
		'several, second zone logged');

	# not counted: the one that is not spent has an empty key

	$s = tunnel(8084, 'sink', '192.0.2.200');
	write_all($s, pattern(5000));
	done($s);
	ended($s, 'empty key', 'ok completed 5000 0');
	$s = tunnel(8084, 'echo', '192.0.2.200');
	is(echo($s, 'hello'), 'hello', 'empty key, again');
	done($s);
}

sub inherited {

	# that of http or stream

	my $s = tunnel(8085, 'sink', '192.0.2.1');
	write_all($s, pattern(5000));
	ended($s, 'inherited', 'ok quota 2000 0');
	refused(8085, '192.0.2.1', 'inherited, spent');

	# a server's own replaces it

	$s = tunnel(8080, 'echo', '192.0.2.5');
	is(echo($s, 'hello'), 'hello', 'replaced');
	done($s);

	# or is none

	$s = tunnel(8079, 'sink', '192.0.2.1');
	write_all($s, pattern(5000));
	done($s);
	ended($s, 'off', 'ok completed 5000 0');

	return if !$http;

	# a location's own replaces both

	$s = tunnel(8086, 'sink', '192.0.2.1');
	write_all($s, pattern(5000));
	ended($s, 'location', 'ok quota 700 0');
	refused(8086, '192.0.2.1', 'location, spent');
}

# A key that the client says itself, in every version.

sub users {
	my @alice = (socks => '5', auth => 'alice:secret');

	my $s = tunnel(8078, 'sink', '192.0.2.1', @alice);
	write_all($s, pattern(600));
	done($s);
	ended($s, 'user', 'ok completed 600 0');

	$s = tunnel(8078, 'sink', '192.0.2.2', @alice, early => pattern(600));
	ended($s, 'user, the rest', 'ok quota 400 0');
	refused(8078, '192.0.2.3', 'user, spent', @alice);
	refused(8078, '192.0.2.3', "userid, spent, $_", socks => $_,
		user => 'alice') for qw/ 4 4a /;

	$s = tunnel(8078, 'sink', '192.0.2.1', socks => '5 name',
		auth => 'bob:secret');
	write_all($s, pattern(5000));
	ended($s, 'another user', 'ok quota 1000 0');

	$s = tunnel(8078, 'sink', '192.0.2.1', socks => '4a', user => 'carol');
	write_all($s, pattern(5000));
	ended($s, 'userid', 'ok quota 1000 0');

	# an empty key is not counted

	$s = tunnel(8078, 'sink', '192.0.2.1', socks => '4');
	write_all($s, pattern(5000));
	done($s);
	ended($s, 'no userid', 'ok completed 5000 0');
}

# A period of 3 seconds: what is spent is there again when it is over, and a
# tunnel that lives goes on.

sub period_start {
	my %p = (start => time());

	$p{live} = tunnel(8087, 'sink', '192.0.2.1');
	write_all($p{live}, pattern(900));

	$p{spent} = tunnel(8087, 'sink', '192.0.2.2');
	write_all($p{spent}, pattern(5000));
	ended($p{spent}, 'period', 'ok quota 1000 0');

	if (time() - $p{start} < 2) {
		refused(8087, '192.0.2.2', 'period, spent');

	} else {
		fail("period, too slow") for 1 .. refused_tests();
	}

	return \%p;
}

sub period_end {
	my ($p) = @_;

	my $left = $p->{start} + 4 - time();
	sleep($left) if $left > 0;

	my $s = tunnel(8087, 'sink', '192.0.2.2');
	write_all($s, pattern(600));
	done($s);
	ended($s, 'next period', 'ok completed 600 0');

	write_all($p->{live}, pattern(900, 900));
	done($p->{live});
	ended($p->{live}, 'tunnel over two periods', 'ok completed 1800 0');
}

# Several tunnels of a key: when one has spent it, all end.

sub shared {
	my @s = map { tunnel(8088, 'echo', '192.0.2.1', there => $_ == 3) }
		1 .. 3;
	my $other = tunnel(8088, 'echo', '192.0.2.2');

	is(echo($s[0], pattern(100)), pattern(100), 'shared, first');
	is(echo($s[1], pattern(150)), pattern(150), 'shared, second');

	my $spender = tunnel(8088, 'sink', '192.0.2.1');
	my $start = time();
	write_all($spender, pattern(5000));

	ended($spender, 'shared, one that spends', 'ok quota 500 0');
	ended($s[0], 'shared, first', 'ok quota 100 100');
	ended($s[1], 'shared, second', 'ok quota 150 150');
	ended($s[2], 'shared, idle', 'ok quota 0 0');

	my $time = time() - $start;
	cmp_ok($time, '<', 4, 'shared, in time');

	is((read_all($_, 3))[1], cut(), 'shared, client sees it')
		for @s;

	is(echo($other, 'hello'), 'hello', 'shared, another key goes on');
	done($other);
}

# A zone that is full has no room for other keys.

sub full {
	my ($s, $n);

	for ($n = 1; $n < 200; $n++) {
		$s = tunnel(8089, 'sink', "2001:db8::$n", early => 'early');
		done($s);

		my $line = logged($s) || last;
		last unless $line =~ / 200 ok /;
	}

	cmp_ok($n, '>', 3, 'full zone, keys');
	like(logged($s) || '', qr/ 503 machine_limit - - -$/,
		'full zone, new key');
	is(status($s), told($s, 503, 1), 'full zone, status')
		unless $fixed;
	ok(wait_log($t, 'error.log',
		qr/\[error\].*relay_quota_zone "full" has no room for a key/),
		'full zone, logged');

	# those that it knows go on

	$s = tunnel(8089, 'echo', '2001:db8::1');
	is(echo($s, 'hello'), 'hello', 'full zone, known key');
	done($s);

	# and of other zones, all

	$s = tunnel(8080, 'echo', '2001:db8::ffff');
	is(echo($s, 'hello'), 'hello', 'full zone, other zone');
	done($s);
}

# What is counted stays, with another limit as well; and then there are two
# workers.

sub reloaded {
	my ($old) = @_;

	my $live = tunnel(8088, 'echo', '192.0.2.9');
	is(echo($live, pattern(100)), pattern(100), 'before reload');

	configure(workers => 2, more => 500);
	$t->reload();
	ok(new_worker($t, $old), 'reload');

	refused(8080, '192.0.2.1', 'reload, spent');

	my $s = tunnel(8085, 'sink', '192.0.2.1');
	write_all($s, pattern(5000));
	ended($s, 'reload, higher limit', 'ok quota 500 0');

	# one of the new workers spends what the old one's tunnel has

	$s = tunnel(8088, 'sink', '192.0.2.9');
	write_all($s, pattern(5000));
	ended($s, 'reload, the rest', 'ok quota 800 0');
	ended($live, 'reload, tunnel of the old worker', 'ok quota 100 100');
	wait_for(sub { !kill 0, $old });

	# tunnels of one key in both workers

	my @pids = workers($t);
	is(scalar @pids, 2, 'two workers');

	my (@s, @of);

	for (1 .. 30) {
		push @s, tunnel(8090, 'sink', '192.0.2.1');
		@of = map { tcp_count($_) } @pids;
		last if @s > 3 && $of[0] > 1 && $of[1] > 1;
	}

	ok($of[0] > 1 && $of[1] > 1, 'tunnels in both') or diag("@of");

	# in turns; each read may see what is not spent yet

	my $sum = 0;

	for my $n (0 .. 99) {
		last if $sum >= 300000;
		write_all($s[$n % @s], pattern(5000));
		$sum += 5000;
		sleep(0.002);
	}

	my @lines = map { logged($_) || '' } @s;
	is(scalar(grep { / ok quota \d+ 0$/ } @lines), scalar @s,
		'both workers, tunnels end') or diag(join "\n", @lines);

	my $counted = 0;
	$counted += /(\d+) 0$/ ? $1 : 0 for @lines;

	cmp_ok($counted, '>=', 200000, 'both workers, limit');
	cmp_ok($counted, '<', 200000 + 65536, 'both workers, hardly more');

	refused(8090, '192.0.2.1', 'both workers, spent') for 1 .. 2;

	# another key would count something else: the configuration goes on

	configure(workers => 2, more => 500, key => 'x$key');
	$t->reload();
	ok(wait_log($t, 'error.log', qr/\[emerg\].*relay_quota_zone "copied" /
		. qr/uses the "x\$key" key while previously it used the /
		. qr/"\$key" key/), 'another key');
	is(join(' ', workers($t)), join(' ', @pids), 'another key, workers');
	refused(8080, '192.0.2.1', 'another key, still spent');

	$s = tunnel(8080, 'echo', '192.0.2.77');
	is(echo($s, 'hello'), 'hello', 'another key, goes on');
	done($s);
}

###############################################################################

# A client of a server; status() is what its answer has, told() what that is
# to be.  Where there is no answer, it may wait until it is there.

sub tunnel {
	my ($server, $target, $key, %opt) = @_;

	my ($digit, $to) = @{$target{$target}};

	my $n = $digit * 10000 + ++$number;
	my $header = proxy_protocol('v1', src => $key, sport => $n,
		dst => $key =~ /:/ ? '2001:db8::' : '192.0.2.0');

	my $early = defined $opt{early} ? $opt{early} : '';
	my $there = delete $opt{there};
	my ($s, $head);

	if ($http) {
		($s, $head) = front_connect($front, port($server),
			'127.0.0.1:' . port($to), proxy_protocol => $header,
			early => $early);

		${*$s}{head} = $head;
		(${*$s}{status}) = $head =~ /^HTTP\S+ (\d+)/;

	} elsif ($front eq 'socks') {
		my $way = delete $opt{socks} || socks_way($n);

		($s, my $code) = socks_tunnel(port($server), $way, port($to),
			%opt, proxy_protocol => $header, early => $early);

		${*$s}{way} = $way;
		${*$s}{status} = $code;

	} else {
		my %before = map { $_ => 1 } connected_to(port($to));

		$s = client_connect(port($server), proxy_protocol => $header);
		write_all($s, $early);

		wait_for(sub { grep { !$before{$_} } connected_to(port($to)) })
			if $there;
	}

	${*$s}{number} = $n;

	return $s;
}

sub status {
	my ($s) = @_;

	return ${*$s}{status};
}

sub told {
	my ($s, $status, $socks5) = @_;

	return $http ? $status : ${*$s}{way} =~ /^4/ ? 91 : $socks5;
}

sub done {
	my ($s) = @_;

	half_close($s);
	read_all($s);
}

# The line that the log has of a tunnel, once it has ended.

sub logged {
	my ($s) = @_;

	return wait_log($t, 'tunnel.log', qr/^${*$s}{number} /, 4);
}

sub ended {
	my ($s, $name, $expected) = @_;

	like(logged($s) || '', qr/ 200 \Q$expected\E$/, $name);
}

# How a client sees the end that is none of its own.

sub cut {
	return $front eq 'h2' ? 'RESET' : 'EOF';
}

sub refused_tests {
	return $fixed ? 2 : 3;
}

sub refused {
	my ($server, $key, $name, %opt) = @_;

	my $s = tunnel($server, 'echo', $key, %opt);
	my $state = (read_all($s, 2))[1];
	done($s);

	like(logged($s) || '', qr/ 429 client_limit - - -$/, $name);

	is(status($s), told($s, 429, 2), "$name, status")
		unless $fixed;

	if ($http) {
		like(${*$s}{head},
			qr/^Proxy-Status: .*error=connection_limit_reached/m,
			"$name, told to the client");

	} else {
		isnt($state, 'TIMEOUT', "$name, closed");
	}
}

# How what the sink reports of so many bytes begins.

sub sent {
	my ($bytes, $n) = @_;

	return summary(substr($bytes, 0, $n)) =~ /^(\d+ \S+)/ ? $1 : undef;
}

###############################################################################

sub configure {
	my (%opt) = @_;

	%opt = (workers => 1, more => 0, key => '$key', %opt);

	my $shared = <<"EOF";

    map \$proxy_protocol_addr \$key {
        default      \$proxy_protocol_addr;
        192.0.2.200  "";
    }

    map \$proxy_protocol_addr \$long {
        default  LONG;
    }

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    $names

    relay_quota_zone $opt{key} zone=copied:1m limit=1000000 per=1h;
    relay_quota_zone \$key zone=spliced:1m limit=1000000 per=1h;
    relay_quota_zone \$key zone=early:1m limit=500 per=1h;
    relay_quota_zone \$key zone=small:1m per=1h limit=1000;
    relay_quota_zone all limit=1500 zone=common:1m per=1h;
    relay_quota_zone \$key zone=outer:1m limit=OUTER per=1h;
    relay_quota_zone \$key zone=inner:1m limit=700 per=1h;
    relay_quota_zone \$key zone=short:1m limit=1000 per=3s;
    relay_quota_zone \$key zone=shared:1m limit=1000 per=1h;
    relay_quota_zone \$long zone=full:32k limit=1000 per=1h;
    relay_quota_zone \$key zone=two:1m limit=200000 per=1h;

    relay_quota outer;
EOF

	$shared .= <<'EOF' if $front eq 'socks';
    relay_quota_zone $socks_user zone=users:1m limit=1000 per=1h;
EOF

	my $long = '$proxy_protocol_addr' x 60;
	my $outer = 2000 + $opt{more};

	$shared =~ s/LONG/$long/;
	$shared =~ s/OUTER/$outer/;

	my $servers = '';
	my %h2 = $front eq 'h2' ? bridge_front($t) : (listen => '', conf => '');

	for (
		$front eq 'socks' ? [ 8078, 'relay_quota users; '
			. 'socks_auth basic x users; socks_userid any;' ] : (),
		[ 8079, 'relay_quota off;' ],
		[ 8080, 'relay_quota copied; relay_splice off;' ],
		[ 8081, 'relay_quota spliced; relay_splice on;' ],
		[ 8082, 'relay_quota early; PREREAD' ],
		[ 8083, 'relay_quota small; relay_quota common;' ],
		[ 8084, 'relay_quota small;' ],
		[ 8085, '' ],
		$http ? [ 8086, 'relay_quota small; location / '
			. '{ connect_tunnel; relay_quota inner; }' ] : (),
		[ 8087, 'relay_quota short;' ],
		[ 8088, 'relay_quota shared;' ],
		[ 8089, 'relay_quota full;' ],
		$opt{workers} > 1 ? [ 8090, 'relay_quota two;', ' reuseport' ]
			: (),
	) {
		my ($port, $conf, $listen) = (@$_, '');

		$servers .= "    server {\n"
			. "        listen 127.0.0.1:$port "
			. "proxy_protocol$listen$h2{listen};\n"
			. "        TUNNEL;\n        $conf\n    }\n\n";
	}

	my $text = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes WORKERS;

events {
}

BLOCK {
    %%TEST_GLOBALS_BLOCK%%

    log_format tunnel '$proxy_protocol_port $proxy_protocol_addr '
                      '$status $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';

    access_log %%TESTDIR%%/tunnel.log tunnel;
EOF

	$text .= <<'EOF' if $fixed;

    map $proxy_protocol_port $target {
        ~^1  127.0.0.1:8091;
        ~^2  127.0.0.1:8093;
        ~^3  127.0.0.1:8094;
    }
EOF

	$text .= "$h2{conf}$shared$servers}\n";

	my $block = $http ? 'http' : 'stream';
	my %front = $http
		? (TUNNEL => 'connect_tunnel', PREREAD => '')
		: $front eq 'socks' ? (TUNNEL => 'socks', PREREAD => '')
		: $front eq 'stream' ? (TUNNEL => 'passthrough $target',
			PREREAD => 'ssl_preread on;')
		: (TUNNEL => PREREAD . ' passthrough $target', PREREAD => '');

	$text =~ s/\b(TUNNEL|PREREAD)\b/$front{$1}/g;
	$text =~ s/WORKERS/$opt{workers}/;
	$text =~ s/GLOBALS_BLOCK/'GLOBALS_' . uc $block/e;
	$text =~ s/BLOCK/$block/;

	$t->write_file_expand('nginx.conf', $text);
}

###############################################################################

1;

###############################################################################
