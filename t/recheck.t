#!/usr/bin/perl

# Tests for target_recheck: a reload ends the tunnels that the new rules
# refuse, and no others.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Datagram;
use Test::Nginx::H2;
use Test::Nginx::Status;

use Time::HiRes qw/ sleep /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MANY	=> 700,		# more than are asked for at once
	SETTLED	=> 1.5,		# all have been asked for by then
};

my $t = Test::Nginx->new()->has(qw/http http_v2 stream/)->plan(102);

my $d = $t->testdir();

port($_) for 8070, 8080 .. 8090, 8091 .. 8094, 8180 .. 8199;

# Rules are those of before and behind a reload, as text of the configuration.
# A tunnel has a name; behind the reload it is denied or not.

my $port = port(8091);
my $other = port(8092);

my (%rules, @cases);

my $all = 'target_allow *:*; target_allow_address 127.0.0.0/8 ::1 unix:;';

# names

rules('deny', 8080, $all, "$all target_deny 127.0.0.1:8091;");
tunnels(8080, 'denied name', 1, sub { connect_open(@_, "127.0.0.1:$port") });
tunnels(8080, 'another port', 0, sub { connect_open(@_,
	"127.0.0.1:$other") });
tunnels(8080, 'another name', 0, sub { connect_open(@_, "localhost:$port") });

rules('allow', 8081, $all, "target_allow *:%%PORT_8092%%; "
	. 'target_allow_address 127.0.0.0/8;');
tunnels(8081, 'not allowed any more', 1, sub { connect_open(@_,
	"127.0.0.1:$port") });
tunnels(8081, 'still allowed', 0, sub { connect_open(@_,
	"127.0.0.1:$other") });
tunnels(8081, 'HTTP/2, not allowed', 1, sub { h2_open(@_,
	"127.0.0.1:$port") });
tunnels(8081, 'HTTP/2, allowed', 0, sub { h2_open(@_,
	"127.0.0.1:$other") });

rules('regex', 8082, $all, "$all target_deny ~^local;");
tunnels(8082, 'denied regex', 1, sub { connect_open(@_, "localhost:$port") });
tunnels(8082, 'no such name', 0, sub { connect_open(@_,
	"127.0.0.1:$port") });

# addresses

rules('address', 8083, $all, "$all target_deny_address 127.0.0.1;");
tunnels(8083, 'denied address', 1, sub { connect_open(@_,
	"127.0.0.1:$port") });
tunnels(8083, 'name of a denied address', 1, sub { connect_open(@_,
	"localhost:$port") });
tunnels(8083, 'another address', 0, sub { connect_open(@_,
	"127.0.0.2:$port") });

rules('default', 8084, $all, 'target_allow *:*;');
tunnels(8084, 'default addresses', 1, sub { connect_open(@_,
	"127.0.0.1:$port") });

# what does not change, or is of no weight

rules('same', 8085, $all, $all);
tunnels(8085, 'the same', 0, sub { connect_open(@_, "127.0.0.1:$port") });

rules('off', 8086, $all, 'target_recheck off;');
tunnels(8086, 'off', 0, sub { connect_open(@_, "127.0.0.1:$port") });

rules('dry', 8087, $all, "$all target_deny *:*; target_deny_address all; "
	. 'target_dry_run on;');
tunnels(8087, 'dry run', 0, sub { connect_open(@_, "127.0.0.1:$port") });

# several of one label

rules('shared', 8088, $all, "$all target_deny *:*;");
rules('shared', 8089, $all, "$all target_deny *:%%PORT_8092%%;");
tunnels(8088, 'one of two allows', 0, sub { connect_open(@_,
	"127.0.0.1:$port") });
tunnels(8088, 'both deny', 1, sub { connect_open(@_, "127.0.0.1:$other") });
tunnels(8089, 'the other one', 1, sub { connect_open(@_,
	"127.0.0.1:$other") });

# trusted ones

rules('group', 8180, $all, '', tunnel => 'connect_tunnel group;');
tunnels(8180, 'group, default rules', 0, sub { connect_open(@_,
	"127.0.0.1:$port") });

rules('group denied', 8181, $all, 'target_deny_address 127.0.0.1;',
	tunnel => 'connect_tunnel group;');
tunnels(8181, 'group, denied address', 1, sub { connect_open(@_,
	"127.0.0.1:$port") });

# gone

rules('removed', 8182, $all, undef);
tunnels(8182, 'removed server', 0, sub { connect_open(@_,
	"127.0.0.1:$port") });

rules('moved', 8183, $all, "tunnel_zone other:128k; $all target_deny *:*;");
tunnels(8183, 'another zone', 0, sub { connect_open(@_,
	"127.0.0.1:$port") });

rules('unlabelled', 8184, $all, "tunnel_label new; $all target_deny *:*;");
tunnels(8184, 'another label', 0, sub { connect_open(@_,
	"127.0.0.1:$port") });

# the same label, but of other front ends

rules('deny', 8190, $all, $all, tunnel => 'socks;', stream => 1);
tunnels(8190, 'label of connect and socks', 0, sub { socks_open(@_,
	'5', '127.0.0.1', $port) });

# stream

rules('socks', 8191, $all, "$all target_deny *:%%PORT_8091%%;",
	tunnel => 'socks;', stream => 1);
tunnels(8191, 'socks 5', 1, sub { socks_open(@_, '5', '127.0.0.1', $port) });
tunnels(8191, 'socks 4a', 1, sub { socks_open(@_, '4a', 'localhost',
	$port) });
tunnels(8191, 'socks, another', 0, sub { socks_open(@_, '4', '127.0.0.1',
	$other) });
tunnels(8191, 'associate', 0, sub { associate_open(@_) });

# what is private here is the relay's own address

rules('associate', 8192, 'target_allow *:*;', 'target_allow *:*;',
	tunnel => 'socks; socks_udp on;', stream => 1);
tunnels(8192, 'associate, default addresses', 0, sub { associate_open(@_) });

rules('bind', 8193, $all, "$all target_deny_address 127.0.0.2;",
	tunnel => 'socks; socks_bind on;', stream => 1);
tunnels(8193, 'bind, denied peer', 1, sub { bind_open(@_, '127.0.0.2') });
tunnels(8193, 'bind, another peer', 0, sub { bind_open(@_, '127.0.0.1') });

rules('map', 8194, $all, "$all target_deny *:%%PORT_8091%%;",
	tunnel => 'tunnel_preread on; passthrough $target;', stream => 1);
tunnels(8194, 'passthrough', 1, sub { passthrough_open(@_, 'a.example') });
tunnels(8194, 'passthrough, another', 0, sub { passthrough_open(@_,
	'b.example') });

rules('fixed', 8195, $all, 'target_allow *:1;',
	tunnel => "passthrough 127.0.0.1:8091;", stream => 1);
tunnels(8195, 'fixed, name that is not allowed', 1, sub {
	passthrough_open(@_) });

rules('fixed default', 8196, $all, '',
	tunnel => "passthrough 127.0.0.1:8091;", stream => 1);
tunnels(8196, 'fixed, default rules', 0, sub { passthrough_open(@_) });

rules('unix', 8197, $all, 'target_allow *:*;',
	tunnel => "tunnel_preread on; passthrough \$target;", stream => 1);
tunnels(8197, 'unix socket, not allowed', 1, sub { passthrough_open(@_,
	'u.example') });

rules('many', 8199, $all, "$all target_deny *:*;");

###############################################################################

configure('before');

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&echo_daemon, "127.0.0.2:$port");
start_daemon($t, \&echo_daemon, port(8092));
start_daemon($t, \&hold_daemon, port(8093));
start_daemon($t, \&echo_daemon, "unix:$d/echo.sock");

$t->run();

###############################################################################

# The first reload: rules are others.

my @first;
wait_for(sub { @first = workers($t); return @first == 2 });

for my $case (@cases) {
	$case->{tunnels} = [ map { $case->{open}->() } 1 .. 2 ];
	is(echoed($case), 2, "$case->{name}, open");
}

my @many = map { connect_open(8199, '127.0.0.1:' . port(8093)) } 1 .. MANY;

# asked for, but not yet open

my $late = tcp_connect(port(8080));
my $request = connect_request("127.0.0.1:$port");
write_all($late, substr $request, 0, 20);
my $late_socks = tcp_connect(port(8191));
write_all($late_socks, socks5_greeting());
read_n($late_socks, 2);
my $late_other = tcp_connect(port(8080));
write_all($late_other, substr connect_request("127.0.0.1:$other"), 0, 20);

my $status = wait_status(sub { $_[0]->{total}{active}
	== 2 * @cases + MANY });
ok($status, 'tunnels');
is(scalar(grep { $_->{active} > @cases / 4 } @{$status->{workers}}), 2,
	'in both workers');

# a configuration that is none changes nothing

configure('after', 'nonsense;');
$t->reload();
wait_log($t, 'error.log', qr/unknown directive "nonsense"/);
sleep(0.5);
is(status()->{total}{ended}{denied}, 0, 'no reload');

configure('after');
ok(new_workers($t), 'reload');

my $denied = MANY + 2 * grep { $_->{denied} } @cases;

ok(wait_status(sub { $_[0]->{total}{ended}{denied} >= $denied }, timeout => 15),
	'those that are refused end soon');
sleep(SETTLED);

for my $case (@cases) {
	if ($case->{denied}) {
		is(ended($case), 2, "$case->{name}, ends");

	} else {
		is(echoed($case), 2, "$case->{name}, goes on");
	}
}

is(scalar(grep { $_->{end}->() ne 'TIMEOUT' } @many), MANY, 'many end');

# those in other zones are not to be found any more

is(status()->{total}{ended}{denied}, $denied, 'and no others');
is(join(' ', sort map { "$_->{front_end} $_->{server} $_->{ended}{denied}" }
	grep { $_->{ended}{denied} && $_->{server} =~ /^(?:deny|socks|many)$/ }
	@{status()->{servers}}), 'connect deny 2 connect many ' . MANY
	. ' socks socks 4', 'counted where they were');
is(scalar(grep { / denied$/ } log_lines($t, 'tunnel.log')), $denied,
	'logged');
ok(wait_log($t, 'error.log', qr/\[info\].*tunnel\ to\ "127.0.0.1:$port"\ at
	\ 127.0.0.1:$port\ ended:\ denied,\ received:\ 4,\ sent:\ 4,/x),
	'reason');

# what an old worker opens now

write_all($late, substr $request, 20);
like(scalar read_head($late), qr/ 200 /, 'opened by an old worker');
write_all($late_socks, socks5_request('127.0.0.1', $port));
is(read_socks5_reply($late_socks), 0, 'opened by an old worker, socks');
write_all($late_other, substr connect_request("127.0.0.1:$other"), 20);
like(scalar read_head($late_other), qr/ 200 /,
	'opened by an old worker, another');

isnt((read_all($late))[1], 'TIMEOUT', 'and ends');
isnt((read_all($late_socks))[1], 'TIMEOUT', 'and ends, socks');
is(echo($late_other, 'still'), 'still', 'another does not');

###############################################################################

# The next reload: the rules are those of the beginning.

my ($head) = (connect_tunnel(port(8080), "127.0.0.1:$port"))[1];
like($head, qr/ 403 /, 'new ones are refused');

my @open = grep { !$_->{denied} } @cases;
$denied = status()->{total}{ended}{denied};

configure('before');
ok(new_workers($t), 'another reload');
my $new = connect_open(8080, "127.0.0.1:$port");
sleep(SETTLED);

is(scalar(grep { echoed($_) != 2 } @open), 0, 'none of all ends');
is(status()->{total}{ended}{denied}, $denied, 'counted');

# and then others of all workers there are

configure('after');
ok(new_workers($t), 'one more reload');
isnt($new->{end}->(), 'TIMEOUT', 'one of the last configuration');
is(scalar(grep { echoed($_) != 2 } @open), 0, 'none of the first one');

# off by default

$new = connect_open(8085, "127.0.0.1:$port");
configure('none');
ok(new_workers($t), 'the last reload');
sleep(SETTLED);
is($new->{echo}->('still'), 'still', 'off');
is(scalar(grep { echoed($_) != 2 } @open), 0, 'off, none of all');
($head) = (connect_tunnel(port(8085), "127.0.0.1:$port"))[1];
like($head, qr/ 403 /, 'though the rules are there');

$new->{close}->();
close $_ for $late, $late_socks, $late_other, map { $_->{s} } @many;
$_->{close}->() for map { @{$_->{tunnels}} } @cases;
delete $_->{tunnels} for @cases;

ok(wait_for(sub { !grep { kill 0, $_ } @first }), 'workers of the beginning');

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

sub rules {
	my ($label, $listen, $before, $after, %opt) = @_;

	$rules{$listen} = { label => $label, before => $before,
		after => $after, tunnel => 'connect_tunnel;', %opt };
}

sub tunnels {
	my ($listen, $name, $denied, $open) = @_;

	push @cases, { name => $name, denied => $denied,
		open => sub { $open->($listen) } };
}

sub echoed {
	my ($case) = @_;

	return scalar grep { $_ && $_->{echo}->('hey!') eq 'hey!' }
		@{$case->{tunnels}};
}

sub ended {
	my ($case) = @_;

	return scalar grep { $_->{end}->() ne 'TIMEOUT' } @{$case->{tunnels}};
}

###############################################################################

# Tunnels, as what can be done with them.

sub connect_open {
	my ($listen, $authority) = @_;

	my ($s, $head) = connect_tunnel(port($listen), $authority);

	return $head =~ / 200 / ? opened($s) : undef;
}

sub h2_open {
	my ($listen, $authority) = @_;

	# its server has listen 8090, too

	my $s = h2_tunnel(port(8090), $authority) or return undef;

	return {
		echo => sub { $s->echo(@_) },
		end => sub { $s->wait_end() },
		close => sub { $s->reset_close() },
	};
}

sub socks_open {
	my ($listen, $version, $host, $port) = @_;

	my ($s, $code) = $version eq '5'
		? socks5_tunnel(port($listen), $host, $port)
		: socks4_tunnel(port($listen), $host, $port);

	return $code == ($version eq '5' ? 0 : 90) ? opened($s) : undef;
}

sub passthrough_open {
	my ($listen, $sni) = @_;

	my $s = tcp_connect(port($listen));

	echo($s, client_hello(sni => $sni)) if defined $sni;

	return opened($s);
}

sub associate_open {
	my ($listen) = @_;

	my $u = udp_associate(port($listen));
	my $r = opened($u->{tcp});

	# these have no target, but their relay

	$r->{udp} = $u;
	$r->{echo} = sub { udp_alive($u) ? $_[0] : '' };

	return $r;
}

sub udp_alive {
	my ($u) = @_;

	return (read_n($u->{tcp}, 1, 0.05))[1] eq 'TIMEOUT';
}

sub bind_open {
	my ($listen, $from) = @_;

	my ($s, $peer, $echo) = bind_echo(port($listen), '5', from => $from);

	my $r = opened($s);
	@$r{qw/ peer echo /} = ($peer, $echo);

	return $r;
}

sub opened {
	my ($s) = @_;

	return {
		s => $s,
		echo => sub { echo($s, @_) },
		end => sub { (read_all($s))[1] },
		close => sub { reset_close($s) },
	};
}

# Accepts, and does nothing else.

sub hold_daemon {
	my ($listener) = @_;

	my @held;

	Test::Nginx::Tunnel::close_inherited($listener);

	while (my $s = $listener->accept()) {
		push @held, $s;
	}
}

###############################################################################

# Of before, after, or without target_recheck.

sub configure {
	my ($when, $more) = @_;

	my (%http, %stream);
	$more = '' unless defined $more;

	for my $listen (keys %rules) {
		my $r = $rules{$listen};

		my $rules = $when eq 'before' ? $r->{before} : $r->{after};
		next unless defined $rules;

		$rules .= ' target_deny *:*; target_deny_address all;'
			if $when eq 'none';

		my $label = $rules =~ /tunnel_label/ ? ''
			: "tunnel_label \"$r->{label}\";";
		my $h2 = $listen == 8081
			? h2_listen($t, "127.0.0.1:8090") : '';

		# a server of its own, as on nginx before 1.25.1 a listener is
		# for HTTP/2 or not

		my $server = sub { "    server {\n        $_[0]\n"
			. "        $r->{tunnel}\n        $label\n"
			. "        $rules\n    }\n" };

		($r->{stream} ? \%stream : \%http)->{$listen} =
			$server->("listen 127.0.0.1:$listen reuseport;")
			. ($h2 ? $server->($h2) : '');
	}

	my $recheck = $when eq 'none' ? '' : 'target_recheck on;';
	my $http = join '', map { $http{$_} } sort keys %http;
	my $stream = join '', map { $stream{$_} } sort keys %stream;
	my $status = status_conf();

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;
$more

events {
    worker_connections 4096;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '\$tunnel_id \$tunnel_reason';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    tunnel_zone tunnels:2m;
    $recheck

    upstream group {
        server 127.0.0.1:8091;
    }

$http
    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '\$tunnel_id \$tunnel_reason';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    tunnel_zone tunnels;
    $recheck

    socks_udp on;
    socks_handshake_timeout 60s;

    map \$preread_host \$target {
        a.example    127.0.0.1:8091;
        b.example    127.0.0.1:8092;
        u.example    unix:%%TESTDIR%%/echo.sock;
    }

$stream
}

EOF
}

###############################################################################
