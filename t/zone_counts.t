#!/usr/bin/perl

# Tests for tunnel_zone: what is counted, for each reason and each result, by
# two workers and three front ends.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Namespace qw/ net /;
use Test::Nginx::Datagram;
use Test::Nginx::Relay;
use Test::Nginx::Socks;
use Test::Nginx::Status;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	EACH	=> 2,		# tunnels that end in a way, of a front end
	MANY	=> 150,		# more than are in the table of a zone of 64k
	MB	=> 1048576,
};

my $t = Test::Nginx->new()
	->has(qw/http auth_basic map stream stream_map/);

my $d = $t->testdir();

# no route to it, and none told of it

ip('route add unreachable 203.0.113.0/24');

###############################################################################

# A label for each case: directives, the target, and what ends its tunnels,
# called with the sockets, or what asks for those that are refused.

my @fronts = qw/ connect socks passthrough /;

my $long = '$remote_port' x 60;

my @ends = (
	[ completed => '', 8091, \&complete ],
	[ client_closed => '', 8097, sub {
		half_close($_) for @_;
		read_n($_, 100) for @_;
		close $_ for @_;
	} ],
	[ target_closed => '', 8098, sub {
		for (@_) {
			read_all($_);
			Test::Nginx::Relay::write_until_reset($_);
		}
	} ],
	[ client_reset => '', 8092, sub {
		read_n($_, 5), write_all($_, 'abc'), reset_close($_) for @_;
	} ],
	[ target_reset => '', 8093, sub {
		read_n($_, 5), write_all($_, 'x'), read_all($_) for @_;
	} ],
	[ idle_timeout => 'relay_idle_timeout 300ms;', 8091, undef ],
	[ send_timeout => 'relay_send_timeout 500ms;', 8094,
		sub { write_all($_, 16 * MB . "\n") for @_ } ],
	[ min_rate => 'relay_min_rate 60000 window=1s;', 8091, undef ],
	[ max_lifetime => 'relay_max_lifetime 400ms;', 8091,
		sub { echo($_, 'hello') for @_ } ],
	[ max_payload => 'relay_max_payload 1000;', 8092,
		sub { write_all($_, pattern(1001)) for @_ } ],
	[ quota => 'relay_quota some;', 8092,
		sub { write_all($_[0], pattern(1001)) } ],
	[ not_tls => 'target_require_tls on;', 8092,
		sub { write_all($_, 'hello') for @_ } ],
	[ sni_mismatch => 'target_require_tls sni;', 8092,
		sub { write_all($_, client_hello(sni => 'x.example'))
			for @_ } ],
	[ killed => '', 8091, \&end_them ],
	[ moving => '', 8091, \&moving ],
	[ spliced => 'relay_splice on;', 8091, \&bulk ],
	[ copied => 'relay_splice off;', 8091, \&bulk ],
);

my %of = (http => [ 'connect' ], socks => [ 'socks' ],
	client => [ qw/ connect socks / ], all => \@fronts,
	passthrough => [ 'passthrough' ]);

my @results = (
	[ bad_request => '', 'client', '127.0.0.1', 0 ],
	[ bad_version => 'connect_tunnel_min_version 1.1;', 'http',
		8091, 'HTTP/1.0' ],
	[ bad_version => '', 'socks', undef, "\x07" ],
	[ denied_name => 'target_deny *:*;', 'all', 8091 ],
	[ denied_address => 'target_deny_address 127.0.0.0/8;', 'all', 8091 ],
	[ resolve_failed => '', 'all', 'missing.example' ],
	[ resolve_timeout => 'target_resolve_timeout 300ms;', 'all',
		'silent.example' ],
	[ refused => '', 'all', 8102 ],
	[ unreachable => '', 'all', '203.0.113.1' ],
	[ connect_timeout => 'target_connect_timeout 300ms;', 'all', 8101 ],
	[ internal => 'relay_max_rate $wrong;', 'all', 8091 ],
	[ unsupported_command => '', 'socks', undef,
		socks5_greeting() . socks5_request('127.0.0.1', 1, cmd => 2) ],
	[ unsupported_address => '', 'socks', undef,
		socks5_greeting() . "\x05\x01\x00\x09" ],
	[ auth_failed => 'auth_basic x; auth_basic_user_file users;', 'http',
		8091 ],
	[ auth_failed => 'socks_auth basic x users; socks_auth_delay 0;',
		'socks', undef,
		socks5_greeting(2) . socks5_auth('alice', 'wrong') ],
	[ handshake_timeout => 'socks_handshake_timeout 300ms;', 'socks',
		undef, "\x05" ],
	[ rejected => '', 'passthrough', 'reject' ],
	[ limit => 'tunnel_max_connections 1;', 'all', 8091 ],
);

my (%port, %conf);
my $next = 8110;

for my $end (@ends) {
	my ($label, $directives, $target) = @$end;

	server($_, $label, $directives, $target) for @fronts;
}

for my $result (@results) {
	my ($label, $directives, $which, $target) = @$result;

	server($_, $label, $directives, $target) for @{$of{$which}};
}

server($_, 'names', '', 'name.example'), server($_, 'canceled', '', 8101),
	server($_, 'machine_limit', 'relay_quota full;', 8091),
	server($_, 'full', 'tunnel_zone small;', 8091) for @fronts;

server('socks', 'commands', 'socks_udp on; socks_bind on; '
	. 'socks_bind_timeout 1s;');

# something goes on here while others are refused

server('connect', 'beside', '', 8091);

my $status = status_conf(control => 1)
	. status_conf(port => 8071, conf => 'tunnel_zone small;');

my $shared = <<"EOF";
    log_format tunnel '\$server_port \$tunnel_id \$tunnel_result '
                      '\$tunnel_reason \$tunnel_bytes_received '
                      '\$tunnel_bytes_sent \$tunnel_connect_time '
                      '\$tunnel_resolve_time \$tunnel_first_byte_time '
                      '\$tunnel_time';
    access_log $d/tunnel.log tunnel;

    map \$server_port \$none { default ""; }
    map \$server_port \$wrong { default x; }

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_allow *:*;
    target_allow_address all;
    target_resolve_timeout 5s;
    target_connect_timeout 5s;

    relay_quota_zone \$server_port zone=some_BLOCK:64k limit=1000 per=1h;
    relay_quota_zone "$long" zone=full_BLOCK:32k limit=1000 per=1h;
EOF

my %shared = map { $_ => $shared =~ s/BLOCK/$_/gr } qw/ http stream /;
s/(relay_quota (?:some|full))/$1_http/g for $conf{connect};
s/(relay_quota (?:some|full))/$1_stream/g for @conf{qw/ socks passthrough /};

$t->write_file('users', "alice:{PLAIN}secret\n");

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
    worker_connections 1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:1m;

$shared{http}
$conf{connect}
    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone tunnels;

$shared{stream}
$conf{socks}
$conf{passthrough}
    server {
        listen 127.0.0.1:8079;
        socks;
        tunnel_zone small:64k;
    }
}
EOF

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&sink_daemon, port(8092), greeting => 'hello');
start_daemon($t, \&reset_daemon, port(8093), greeting => 'hello');
start_daemon($t, \&burst_daemon, port(8094));
start_daemon($t, \&slow_daemon, port(8097), bytes => 100000, chunk => 10,
	delay => 0.05);
start_daemon($t, \&Test::Nginx::Relay::gone_daemon, port(8098));
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		'name.example' => '127.0.0.1',
		'silent.example' => 'TIMEOUT',
	});

my $backlog = full_backlog(port(8101));

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

my $first = wait_status(sub { @{$_[0]{workers}} == 2 }) || status();

is_deeply([ status_bad($first) ], [], 'nothing counted, all fits');
is(join(' ', map { status_nonzero($first->{total}{$_}) } qw/ results ended /),
	' ', 'nothing counted');
is(scalar @{$first->{tunnels}}, 0, 'no tunnels');
is_deeply({ map { $_->{pid} => 1 } @{$first->{workers}} },
	{ map { $_ => 1 } workers($t) }, 'both workers');

# every reason

my %sockets;

for my $end (@ends) {
	my ($label, undef, $target) = @$end;

	for my $front (@fronts) {
		$sockets{"$front $label"} = [
			map { tunnel($front, $label, $target) } 1 .. EACH ];
	}
}

my $n = @ends * @fronts * EACH;

my $status_then = wait_status(sub { $_[0]{total}{opened} == $n });
ok($status_then, 'all opened') or diag(status()->{total}{opened});

is(scalar(grep { $_->{active} > 0 } @{$status_then->{workers}}), 2,
	'of both workers');

for my $end (@ends) {
	my ($label, undef, undef, $act) = @$end;

	for my $front (@fronts) {
		$act->(@{$sockets{"$front $label"}}) if $act;
	}
}

my %reason = (moving => 'completed', spliced => 'completed',
	copied => 'completed');

wait_status(sub { $_[0]{total}{active} == 0 });
my $ended = status();

for my $end (@ends) {
	my $label = $end->[0];
	my $reason = $reason{$label} || $label;

	for my $front (@fronts) {
		my $c = status_server($ended, $front, $label) || {};

		is(join(' ', map { $_ || 0 } @$c{qw/ opened active connecting
			memory /}), EACH . ' 0 0 0', "$label, $front, opened");
		is(status_nonzero($c->{ended}), "$reason:" . EACH,
			"$label, $front, ended");
		is(status_nonzero($c->{results}), 'ok:' . EACH,
			"$label, $front, results");
	}
}

for my $front (@fronts) {
	my $c = status_server($ended, $front, 'spliced');
	is($c->{spliced}, $c->{received} + $c->{sent}, "$front, spliced");

	$c = status_server($ended, $front, 'copied');
	is("$c->{spliced} $c->{received} $c->{sent}",
		'0 ' . EACH * 2 * MB . ' ' . EACH * 2 * MB, "$front, copied");
}

close $_ for map { @$_ } values %sockets;

# every result

my ($beside) = tunnel('connect', 'beside', 8091);

my %asked;

for my $n (1 .. EACH) {
	for my $result (@results) {
		my ($label, undef, $which, $target, $more) = @$result;

		push @{$asked{"$_ $label"}}, ask($_, $label, $target, $more)
			for @{$of{$which}};
	}
}

# what is spent says so

ask($_, 'quota', 8092) for @fronts;

# those that are given up meanwhile

my %left = map { my $front = $_; $front => [
	map { ask($front, 'canceled', 8101) } 1 .. EACH ] } @fronts;

ok(wait_status(sub { EACH * @fronts == grep { $_ }
	map { (1) x status_server($_[0], $_, 'canceled')->{connecting} }
	grep { status_server($_[0], $_, 'canceled') } @fronts }),
	'attempts under way');

my $during = status();
is_deeply([ map { status_server($during, $_, 'canceled')->{active} }
	@fronts ], [ 0, 0, 0 ], 'none of them open');

reset_close($_) for map { @$_ } values %left;

ok(wait_status(sub { $_[0]{total}{connecting} == 0 }), 'no more attempts');

my $refused = status();

for my $result (@results) {
	my ($label, undef, $which) = @$result;

	for my $front (@{$of{$which}}) {
		my $c = status_server($refused, $front, $label) || {};

		is(join(' ', map { $_ || 0 } @$c{qw/ opened active connecting
			received sent /}), '0 0 0 0 0',
			"$label, $front, none opened");
		is(status_nonzero($c->{results}), "$label:" . EACH,
			"$label, $front");
		is($c->{lifetime}{count} + $c->{size}{count}
			+ $c->{first_byte_time}{count}, 0,
			"$label, $front, no histogram of tunnels");
	}
}

for my $front (@fronts) {
	my $c = status_server($refused, $front, 'canceled') || {};
	is(status_nonzero($c->{results}), 'canceled:' . EACH,
		"canceled, $front");

	$c = status_server($refused, $front, 'quota') || {};
	is(status_nonzero($c->{results}), 'client_limit:1 ok:' . EACH,
		"client_limit, $front");
}

# what a quota zone has no room for, after so many that it has room for

for my $front (@fronts) {
	my $good = 0;

	for (1 .. 200) {
		my $s = tunnel($front, 'machine_limit', 8091);
		last if !$s || !works($s);

		$good++;
		close $s;
	}

	my $c;

	wait_status(sub {
		$c = status_server($_[0], $front, 'machine_limit');
		$c->{active} == 0 && $c->{connecting} == 0;
	});

	is(status_nonzero($c->{results}), 'machine_limit:1'
		. ($good ? " ok:$good" : ''), "machine_limit, $front");
}

# names

$_ && complete($_) for map { my $front = $_;
	map { tunnel($front, 'names', 'name.example') } 1 .. 4 } @fronts;

wait_status(sub { $_[0]{total}{active} == 1 });
my $names = status();

for my $front (@fronts) {
	my $dns = status_server($names, $front, 'names')->{dns};

	is($dns->{lookups}, 4, "lookups, $front");
	is($dns->{failed} + $dns->{timeout}, 0, "lookups good, $front");
	is(status_nonzero(status_server($names, $front, $_->[0])->{dns}),
		join(' ', map { "$_:" . EACH } sort 'lookups', $_->[1]),
		"$_->[0], dns, $front")
		for [ resolve_failed => 'failed' ],
			[ resolve_timeout => 'timeout' ];
}

# two workers have three resolvers' caches each: of http, and of stream

my $queries = () = dns_queries($t, 'dns.log', 'name.example', 'A');
my $cached = 0;
$cached += status_server($names, $_, 'names')->{dns}{cached} for @fronts;
is($cached, 4 * @fronts - $queries, 'all but those asked were cached')
	or diag($queries);

commands();

complete($beside);
wait_status(sub { $_[0]{total}{active} == 0 });

my $last = status();
is_deeply([ status_bad($last) ], [], 'all fits');
is(join(' ', map { my $name = $_; my $sum = 0;
	$sum += $_->{$name} for @{$last->{servers}}; $sum }
	qw/ opened received sent spliced /),
	join(' ', @{$last->{total}}{qw/ opened received sent spliced /}),
	'total is that of all');
is($last->{zone}{untracked}, 0, 'all were in the table');
is(scalar @{$last->{tunnels}}, 0, 'table is empty');

# the log is what it is to be: the same for each tunnel

compare($last);

# a zone that is full

full($_) for @fronts;

# its last checks are made when it goes, and not too late

undef $t;
done_testing();

###############################################################################

# Adds a server for a label; a target is a port of 127.0.0.1, or a name.

sub server {
	my ($front, $label, $directives, $target) = @_;

	my $port = $next++;
	$port{"$front $label"} = $port;

	my $handler = $front eq 'connect' ? 'connect_tunnel;' : 'socks;';

	if ($front eq 'passthrough') {
		my $to = address($target);
		$handler = "passthrough $to;";
	}

	$conf{$front} .= <<"EOF";
    server {
        listen 127.0.0.1:$port;
        tunnel_label $label;
        $handler
        $directives
    }
EOF
}

sub address {
	my ($target) = @_;

	return $target if $target eq 'reject';
	return "127.0.0.1:$target" if $target =~ /^\d+\z/;

	# not when nginx starts

	return "$target\$none:%%PORT_8091%%";
}

# A client that has asked.

sub ask {
	my ($front, $label, $target, $more) = @_;

	my $s = tcp_connect(port($port{"$front $label"}));

	return $s if $front eq 'passthrough';

	my ($host, $port) = !defined $target ? ()
		: $target =~ /^\d+\z/ ? ('127.0.0.1', port($target))
		: ($target, defined $more ? $more : port(8091));

	if (!defined $target) {
		write_all($s, $more);

	} elsif ($front eq 'socks') {
		write_all($s, socks5_greeting()
			. socks5_request($host, $port));

	} else {
		write_all($s, connect_request($port ? "$host:$port" : $host,
			($more || '') =~ /^HTTP\/(.*)/ ? (version => $1)
				: ()));
	}

	return $s;
}

# One that has a tunnel, as far as it can tell.

sub tunnel {
	my ($front, $label, $target) = @_;

	my $s = ask($front, $label, $target);

	if ($front eq 'connect') {
		read_head($s) =~ / 200 / or return undef;

	} elsif ($front eq 'socks') {
		read_n($s, 2);
		read_socks5_reply($s);
	}

	return $s;
}

sub works {
	my ($s) = @_;

	return echo($s, 'hello') eq 'hello';
}

sub complete {
	for my $s (@_) {
		echo($s, 'hello');
		half_close($s);
		read_all($s);
	}
}

sub end_them {
	my ($port) = $_[0]->peerport();
	my ($name) = grep { port($port{$_}) == $port } keys %port;
	my ($front, $label) = split / /, $name;

	for my $tunnel (status_tunnel(status(), front_end => $front,
		server => $label))
	{
		is((delete_tunnel("id=$tunnel->{id}"))[0], 202,
			"$front, to be ended");
	}

	isnt((read_all($_))[1], 'TIMEOUT', "$front, ended") for @_;
}

# What else there is to ask of SOCKS: to listen, and datagrams.

sub commands {
	my $addr = port($port{'socks commands'});
	my $now = sub {
		return status_server($_[0] || status(), 'socks', 'commands');
	};

	my ($timeout) = socks_command($addr, 5, 'bind', '0.0.0.0', 0);
	my ($left) = socks_command($addr, 5, 'bind', '0.0.0.0', 0);
	my ($s, undef, $listener) = socks_command($addr, 5, 'bind',
		'0.0.0.0', 0);

	my $c = $now->();
	is("$c->{connecting} $c->{active}", '3 0', 'bind, before a peer');

	my $peer = peer_connect($listener);
	my (undef, $from) = read_reply($s, 5);
	reset_close($left);

	write_all($s, 'hello');
	is(read_n($peer, 5), 'hello', 'bind');

	my $status = wait_status(sub {
		$now->($_[0])->{received} == 5
			&& $now->($_[0])->{results}{canceled};
	}) || status();

	$c = $now->($status);
	is("$c->{connecting} $c->{active} $c->{received} $c->{sent}",
		'1 1 5 0', 'bind, with a peer');
	is((status_tunnel($status, server => 'commands'))[0]{address}, $from,
		'bind, address');

	half_close($_) for $s, $peer;
	read_all($_) for $s, $peer;
	read_all($timeout);

	# datagrams, of which the payload counts

	my $u = udp_associate($addr);
	my $target = udp_socket('127.0.0.1');

	is(udp_echo($u, $target, pattern($_)), '', 'datagram')
		for 10, 1000;

	$status = wait_status(sub { $now->($_[0])->{sent} == 1010 },
		timeout => 2) || status();
	$c = $now->($status);
	is("$c->{active} $c->{received} $c->{sent}", '1 1015 1010',
		'association');

	my ($tunnel) = status_tunnel($status, server => 'commands');
	is("$tunnel->{target} $tunnel->{received} $tunnel->{sent}",
		'UDP 1010 1010', 'association in the table');

	is((delete_tunnel("id=$tunnel->{id}"))[0], 202,
		'association, to be ended');
	isnt((read_all($u->{tcp}))[1], 'TIMEOUT', 'association, ended');
	udp_end($u);

	$u = udp_associate($addr);
	udp_end($u);

	$c = $now->(wait_status(sub {
		my $c = $now->($_[0]);
		$c->{opened} == 3 && !$c->{active};
	}) || status());

	is(status_nonzero($c->{results}),
		'canceled:1 connect_timeout:1 ok:3', 'commands, results');
	is(status_nonzero($c->{ended}), 'client_closed:1 completed:1 killed:1',
		'commands, ended');
	is(join(' ', map { $c->{$_}{count} } qw/ connect_time resolve_time
		lifetime size /), '0 0 3 3', 'commands, histograms');
}

# Bytes are counted when they move.

sub moving {
	my @s = @_;

	my ($port) = $s[0]->peerport();
	my ($name) = grep { port($port{$_}) == $port } keys %port;
	my ($front) = split / /, $name;

	my $server = sub { status_server($_[0], $front, 'moving') };
	my ($in, $out) = (0, 0);

	for my $n (1000, 70000) {
		echo($_, pattern($n)) for @s;
		$in += $n;

		my $now = wait_status(sub {
			$server->($_[0])->{sent} == $in * @s
				&& @s == (() = status_tunnel($_[0],
					sent => $in, front_end => $front,
					server => 'moving'));
		}, timeout => 3) || status();

		is(join(' ', @{$server->($now)}{qw/ received sent active /}),
			join(' ', $in * @s, $in * @s, scalar @s),
			"$front, moves");

		is_deeply([ map { "$_->{received} $_->{sent}" }
			status_tunnel($now, front_end => $front,
				server => 'moving') ],
			[ ("$in $in") x @s ], "$front, each moves");
	}

	half_close($_), read_all($_) for @s;
}

sub bulk {
	my $bytes = pattern(2 * MB);

	for my $s (@_) {
		exchange($s, $bytes, length $bytes);
		half_close($s);
		read_all($s);
	}
}

###############################################################################

# What the access log has of each, summed up for each label.

sub compare {
	my ($status) = @_;

	my %label = map { port($port{$_}) => $_ } keys %port;
	my (%sum, %seen);

	for my $line (log_lines($t, 'tunnel.log')) {
		my ($port, $id, $result, $reason, $received, $sent, $connect,
			$resolve, $first, $time) = split ' ', $line;

		my $sum = $sum{$label{$port}} ||= {};

		$seen{$id}++;
		$sum->{received} += $received if $received ne '-';
		$sum->{sent} += $sent if $sent ne '-';

		# a peer that connects is not connected to

		$connect = '-' if $label{$port} eq 'socks commands';

		my %value = (connect_time => $connect,
			resolve_time => $resolve, first_byte_time => $first,
			lifetime => $time, size => $received eq '-' ? '-'
				: $received + $sent);

		for my $name (grep { $value{$_} ne '-' } keys %value) {
			$sum->{$name}[0]++;
			$sum->{$name}[1] += $value{$name};
		}
	}

	is(scalar(grep { !/^[0-9a-f]{16}\z/ || $seen{$_} > 1 } keys %seen), 0,
		'ids');

	for my $name (sort keys %sum) {
		my $sum = $sum{$name};
		my $c = status_server($status, split / /, $name) or next;

		is("$c->{received} $c->{sent}", join(' ',
			map { $_ || 0 } @$sum{qw/ received sent /}),
			"$name, bytes as logged");

		is_deeply([ map { "$_ $c->{$_}{count} "
				. sprintf '%.3f', $c->{$_}{sum} }
			qw/ connect_time resolve_time first_byte_time lifetime
			size / ],
			[ map { "$_ " . ($sum->{$_}[0] || 0) . ' '
				. sprintf '%.3f', $sum->{$_}[1] || 0 }
			qw/ connect_time resolve_time first_byte_time lifetime
			size / ], "$name, histograms as logged");
	}

	my $c = status_server($status, 'connect', 'completed');
	is_deeply([ map { $_->[1] } @{$c->{size}{buckets}} ],
		[ (EACH) x @{$c->{size}{buckets}} ], 'small ones');

	$c = status_server($status, 'connect', 'copied');
	is_deeply([ map { $_->[1] } grep { $_->[0] < 4 * MB }
		@{$c->{size}{buckets}} ], [ (0) x grep { $_->[0] < 4 * MB }
		@{$c->{size}{buckets}} ],
		'large ones are not among the small');
	is($c->{size}{buckets}[-1][1], EACH, 'but among the large');

	$c = status_server($status, 'connect', 'max_lifetime');
	my %count = map { @$_ } @{$c->{lifetime}{buckets}};
	is(join(' ', @count{qw/ 0.1 5 /}), '0 ' . EACH,
		'lifetimes in their buckets');
}

# Tunnels that are not in the table work, and are counted.

sub full {
	my ($front) = @_;

	my $before = status(undef, port => 8071);
	my $seen = status_server($before, $front, 'full') || { opened => 0 };

	my @s = map { tunnel($front, 'full', 8091) } 1 .. MANY;
	my $good = grep { works($_) } @s;

	is($good, MANY, "full zone, $front, all work");

	my $now = wait_status(sub {
		status_server($_[0], $front, 'full')->{sent} == MANY * 5;
	}, port => 8071, timeout => 3) || status(undef, port => 8071);

	my $c = status_server($now, $front, 'full');
	my $tracked = @{$now->{tunnels}};
	my $untracked = $now->{zone}{untracked} - $before->{zone}{untracked};

	is("$c->{active} $c->{opened} $c->{received} $c->{sent}",
		join(' ', MANY, MANY, MANY * 5, MANY * 5),
		"full zone, $front, counted");
	is($tracked + $untracked, MANY, "full zone, $front, untracked");
	cmp_ok($tracked, '>', 10, "full zone, $front, some are in the table");
	cmp_ok($untracked, '>', 10, "full zone, $front, others are not");
	is_deeply([ status_bad($now) ], [], "full zone, $front, all fits");

	complete(@s);

	my $then = wait_status(sub { $_[0]{total}{active} == 0 },
		port => 8071) || status(undef, port => 8071);
	$c = status_server($then, $front, 'full');

	is(status_nonzero($c->{ended}), 'completed:' . MANY,
		"full zone, $front, ended");
	is("$c->{received} $c->{sent} $c->{lifetime}{count} "
		. "$c->{size}{count} $c->{size}{sum}",
		join(' ', MANY * 10, MANY * 10, MANY, MANY, MANY * 20),
		"full zone, $front, bytes");
	is(scalar @{$then->{tunnels}}, 0, "full zone, $front, table is empty");
	is_deeply([ status_bad($then) ], [],
		"full zone, $front, all fits in the end");

	ok(wait_log($t, 'error.log', qr/\[error\].*"small" is full/),
		"full zone, $front, logged");
}

###############################################################################
