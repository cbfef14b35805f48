#!/usr/bin/perl

# Tests for tunnel_zone: what is counted stays when nginx is reloaded, and so
# do the tunnels of workers that are on their way out.

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

use Time::HiRes qw/ sleep /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	CLIENTS	=> 3,
	RELOADS	=> 6,
};

my $t = Test::Nginx->new()->has(qw/http stream/)->plan(65);

my $d = $t->testdir();
my @fronts = qw/ connect socks passthrough /;

configure();

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&echo_daemon, port(8092));

$t->run();

###############################################################################

# what is there before

my %old_pid = map { $_ => 1 } workers($t);
my $start = status()->{start};

my @done = map { tunnel($_) } @fronts;
echo($_, 'done') for @done;
finish($_) for @done;

my %old = map { $_ => tunnel($_) } @fronts;
echo($old{$_}, 'before') for @fronts;

refused('connect');

# what a client has read may be counted just then

counted(3);

my $same = 'opened 2, active 1, received 10, sent 10, '
	. 'results %sok:2, ended completed:1';
my %same = (connect => sprintf($same, 'denied_name:1 '),
	socks => sprintf($same, ''), passthrough => sprintf($same, ''));

is(settled($_, $same{$_}), $same{$_}, "$_, before") for @fronts;

# a reload, and then one more

my %middle = reloaded('first', \%old);

for my $front (@fronts) {
	my $after = $same{$front} =~ s/10/15/gr;
	is(settled($front, $after), $after, "first, $front, counters");
}

%middle = map { $_ => tunnel($_) } @fronts;

configure(label => 'other');
my %new = reloaded('second', \%old, \%middle);

%new = map { $_ => tunnel($_) } @fronts;

my $now = counted(9);

my %worker = map { $_->{pid} => 1 } @{$now->{workers}};
is(scalar(grep { !$worker{$_} } workers($t),
	map { $_->{pid} } @{$now->{tunnels}}), 0,
	'workers of three configurations');
is(scalar @{$now->{tunnels}}, 9, 'tunnels of three configurations');
is(join(' ', map { $_->{start} } @{$now->{tunnels}}),
	join(' ', sort { $a <=> $b } map { $_->{start} } @{$now->{tunnels}}),
	'oldest first');
is_deeply([ status_bad($now) ], [], 'all fits');

# another label is counted by itself, and what had the other stays

is(status_server($now, 'socks', 'other')->{opened}, 1, 'another label');
is(status_server($now, 'socks', 'one')->{opened}, 3, 'label before');

# those of any worker can be ended

my ($tunnel) = grep { $old_pid{$_->{pid}} }
	status_tunnel($now, front_end => 'socks');
is((delete_tunnel("id=$tunnel->{id}"))[0], 202, 'of an old worker, to end');
isnt((read_all($old{socks}))[1], 'TIMEOUT', 'of an old worker, ended');

finish($_) for values %old, values %middle, values %new;

$now = counted(0);
is(line($now, 'socks'), 'opened 3, active 0, received 25, sent 25, '
	. 'results ok:3, ended completed:2 killed:1', 'socks, in the end');
is(line($now, 'connect'), 'opened 3, active 0, received 25, sent 25, '
	. 'results denied_name:1 ok:3, ended completed:3',
	'connect, in the end');
is($now->{start}, $start, 'since the start');

ok(wait_status(sub { @{$_[0]{workers}} == 2 }), 'old workers have gone');

# a configuration that is wrong changes nothing

my %kept = map { $_ => tunnel($_) } @fronts;
configure(label => 'other', http => 'tunnel_zone;');
$t->reload();
ok(wait_log($t, 'error.log', qr/\[emerg\].*"tunnel_zone"/), 'wrong one');
is_deeply([ map { echo($kept{$_}, 'kept') } @fronts ], [ ('kept') x 3 ],
	'tunnels after a wrong one');
is(counted(3)->{total}{opened}, 15, 'counted after a wrong one');
finish($_) for values %kept;
counted(0);

# rules that are asked again

my ($denied, $allowed) = (tunnel('connect'), tunnel('connect', 8092));
my ($socks) = tunnel('socks');
configure(label => 'other', http => 'target_recheck on; '
	. 'target_deny *:%%PORT_8091%%;');
reload('recheck');

isnt((read_all($denied))[1], 'TIMEOUT', 'denied by then');
is(echo($allowed, 'hello'), 'hello', 'still allowed');
is(echo($socks, 'hello'), 'hello', 'rules of another');
finish($_) for $allowed, $socks;

$now = counted(0);
is(status_nonzero(status_server($now, 'connect', 'other')->{ended}),
	'completed:3 denied:1', 'denied, counted');

# what workers that are to shut down end

configure(label => 'last', main => 'worker_shutdown_timeout 500ms;');
reload('last');
my %last = map { $_ => tunnel($_) } @fronts;
echo($_, 'hello') for values %last;
reload('shutdown');
isnt((read_all($_))[1], 'TIMEOUT', 'shut down') for values %last;
$now = counted(0);
is(line($now, $_, 'last'), 'opened 1, active 0, received 5, sent 5, '
	. 'results ok:1, ended shutdown:1', "$_, shut down, counted")
	for @fronts;
ok(wait_status(sub { @{$_[0]{workers}} == 2 }), 'these have gone');

# a label that is no more is only in the total

$now = status();
is_deeply([ status_bad($now) ], [], 'all fits in the end');
is(join(' ', sort map { $_->{server} } @{$now->{servers}}),
	join(' ', ('last') x @fronts), 'labels of the configuration');
is($now->{total}{opened}, 21, 'but all are in the total');

# many reloads, while others open and end tunnels as fast as they can

storm();

# a zone of another size is another one

my $opened = status()->{total}{opened};
configure(label => 'last');
reload('same size');
is(status()->{total}{opened}, $opened, 'same size');
%last = map { $_ => tunnel($_) } @fronts;
echo($_, 'hello') for values %last;
my ($first) = @{counted(3)->{tunnels}};

configure(label => 'last', size => '512k');
reload('another size');

$now = status();
is($now->{zone}{size}, 512 * 1024, 'another size');
is(status_nonzero($now->{total}{results}), '', 'counted anew');
cmp_ok($now->{start}, '>', $start, 'since then');
is("@{$now->{tunnels}} $now->{total}{active}", ' 0', 'without old tunnels');
is((delete_tunnel("id=$first->{id}"))[0], 404, 'which it does not end');

my ($s) = tunnel('connect');
is(echo($s, 'hello'), 'hello', 'a new one');
is_deeply([ map { echo($last{$_}, 'old') } @fronts ], [ ('old') x 3 ],
	'old ones go on');
finish($_) for values %last;
is(line(counted(1), 'connect', 'last'), 'opened 1, active 1, received 5, '
	. 'sent 5, results ok:1, ended ', 'counted apart');
finish($s);
is(counted(0)->{total}{ended}{completed}, 1, 'counted apart in the end');

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

sub configure {
	my (%opt) = @_;

	%opt = (label => 'one', size => '1m', main => '', http => '', %opt);

	my $status = status_conf(control => 1);

	my $rules = <<'EOF';
    target_allow *:*;
    target_allow_address 127.0.0.0/8;
EOF

	$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;
$opt{main}

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:$opt{size};
    tunnel_label $opt{label};

$rules
    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        target_deny *.example:*;
        $opt{http}
    }

    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone tunnels;
    tunnel_label $opt{label};

$rules
    server {
        listen 127.0.0.1:8081;
        socks;
    }

    server {
        listen 127.0.0.1:8082;
        passthrough 127.0.0.1:8091;
    }
}
EOF
}

# Tunnels go on over a reload: 4 tests, and 1 for each configuration that has
# tunnels.

sub reloaded {
	my ($name, @tunnels) = @_;

	my %before = map { $_->{id} => $_->{pid} } @{status()->{tunnels}};

	reload($name);

	my $now = status();

	is_deeply({ map { $_->{id} => $_->{pid} } @{$now->{tunnels}} },
		\%before, "$name, same tunnels of the same workers");
	is($now->{total}{active}, scalar keys %before, "$name, active");
	is($now->{start}, $start, "$name, start");

	for my $s (@tunnels) {
		is_deeply([ map { echo($s->{$_}, 'after') } @fronts ],
			[ ('after') x @fronts ], "$name, they go on");
	}

	return;
}

sub reload {
	my ($name) = @_;

	my %old = map { $_ => 1 } workers($t);

	ok(new_workers($t), "$name, reload");
	wait_status(sub {
		2 == grep { !$old{$_->{pid}} } @{$_[0]{workers}};
	});
}

# Clients that count what they were told, 4 tests.

sub storm {
	my $before = status()->{total}{opened};
	my @clients;

	for my $n (1 .. CLIENTS) {
		my $pid = fork();
		die "Can't fork: $!\n" unless defined $pid;

		if ($pid) {
			push @clients, $pid;
			next;
		}

		my $opened = 0;

		local $SIG{PIPE} = 'IGNORE';
		alarm(30);

		while (!-e "$d/calm") {
			my ($s, $answer) = $opened % 2
				? connect_tunnel(port(8080), target())
				: socks5_tunnel(port(8081), split /:/,
					target());

			next unless defined $answer
				&& $answer =~ /^0$|^HTTP\S+ 200 /;

			$opened++;
			echo($s, 'hello');
			$opened % 3 ? close $s : reset_close($s);
		}

		$t->write_file("opened$n", $opened);
		POSIX::_exit(0);
	}

	for my $n (1 .. RELOADS) {
		configure(label => "storm$n");
		$t->reload();
		sleep(0.2 + rand 0.2);

		my ($tunnel) = @{status()->{tunnels}};
		delete_tunnel("id=$tunnel->{id}") if $tunnel;
	}

	$t->write_file('calm', '');
	waitpid $_, 0 for @clients;

	my $opened = 0;
	$opened += $t->read_file("opened$_") for 1 .. CLIENTS;

	my $now = wait_status(sub { $_[0]{total}{active} == 0
		&& $_[0]{total}{connecting} == 0
		&& @{$_[0]{workers}} == 2; }) || status();

	cmp_ok($opened, '>', 100, 'storm, many');
	is($now->{total}{opened} - $before, $opened, 'storm, opened');
	is_deeply([ status_bad($now) ], [], 'storm, all fits');
	is(scalar @{$now->{tunnels}}, 0, 'storm, table');
}

sub target {
	return '127.0.0.1:' . port(8091);
}

sub tunnel {
	my ($front, $target) = @_;

	my $to = port($target || 8091);
	my ($s, $opened);

	($s) = connect_tunnel(port(8080), "127.0.0.1:$to")
		if $front eq 'connect';
	($s) = socks5_tunnel(port(8081), '127.0.0.1', $to)
		if $front eq 'socks';
	return $s if $front ne 'passthrough';

	# nobody tells that it is open

	my $count = sub {
		my $n = 0;
		$n += $_->{opened} for grep { $_->{front_end} eq $front }
			@{$_[0]{servers}};
		return $n;
	};

	$opened = $count->(status());
	$s = tcp_connect(port(8082));
	wait_status(sub { $count->($_[0]) > $opened });

	return $s;
}

sub refused {
	my ($s) = connect_tunnel(port(8080), 'www.example:443');
}

sub finish {
	my ($s) = @_;

	half_close($s);
	read_all($s);
	$s->close();
}

# Once so many are open, and nothing is on its way.

sub counted {
	my ($active) = @_;

	return wait_status(sub {
		$_[0]{total}{active} == $active && !$_[0]{total}{connecting};
	}) || status();
}

sub settled {
	my ($front, $line) = @_;

	return line(wait_status(sub { line($_[0], $front) eq $line })
		|| status(), $front);
}

sub line {
	my ($status, $front, $label) = @_;

	my $c = status_server($status, $front, $label || 'one')
		or return 'none';

	return "opened $c->{opened}, active $c->{active}, "
		. "received $c->{received}, sent $c->{sent}, "
		. 'results ' . status_nonzero($c->{results}) . ', '
		. 'ended ' . status_nonzero($c->{ended});
}

###############################################################################
