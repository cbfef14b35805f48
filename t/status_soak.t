#!/usr/bin/perl

# Tests for tunnel_zone and tunnel_status: tunnels come and go in two workers
# while they are looked at, ended by requests, and nginx is reloaded.  Not one
# of them is lost or counted twice.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::H2;
use Test::Nginx::Status;

use POSIX qw/ WNOHANG /;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	SECONDS		=> 6,		# of all that at once
	RELOAD		=> 1,		# every so often
	LEAST		=> 200,		# tunnels, on the slowest of machines
};

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 stream
	socket_ssl_alpn/)->plan(31);

make_cert($t, 'localhost');

port($_) for 8070, 8080 .. 8086, 8091 .. 8094, 8443;

my $reloads = 0;

configure('');

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&echo_daemon, port(8092));
start_daemon($t, \&echo_daemon, port(8094));
start_daemon($t, \&source_daemon, port(8093), bytes => 300000);

$t->run();

###############################################################################

my $until = time() + SECONDS;
my @clients = map { client($_) }
	[ 1, \&one_after_another ], [ 2, \&one_after_another ],
	[ 3, \&many_at_once ], [ 4, \&streams ], [ 5, \&until_told ];

my (%last, %seen, @backwards, @bad);
my ($polls, $asked, $accepted) = (0, 0, 0);
my $reload = time() + RELOAD;

while (time() < $until) {
	my $status = json();
	html();
	metrics();
	$polls++;

	# some are for a reload to end

	my @tunnels = grep { $_->{target} ne '127.0.0.1:' . port(8094) }
		@{$status->{tunnels}};

	for my $tunnel (map { $tunnels[rand @tunnels] } 1 .. 3) {
		last unless $tunnel;

		my ($code, $json) = delete_tunnel("id=$tunnel->{id}");
		push @bad, "DELETE: $code"
			if $code != 404 && ($code != 202
				|| $json->{tunnels} != 1);

		$asked++;
		$accepted++ if $code == 202;
	}

	if (rand() < 0.2) {
		my ($code) = delete_tunnel('target=127.0.0.1:' . port(8092));
		push @bad, "DELETE: $code" if $code != 404 && $code != 202;
	}

	if (time() > $reload) {

		# every other one refuses what there is

		configure(++$reloads % 2
			? join ' ', map { 'target_deny *:' . port($_) . ';' }
				8092, 8094 : '');
		$t->reload();
		$reload = time() + RELOAD;
	}
}

is(scalar(grep { waitpid($_, 0) != $_ || $? } @clients), 0,
	'clients are done');
note("polls $polls, asked to end $asked, of these $accepted, "
	. "reloads $reloads");

cmp_ok($polls, '>', 5, 'polls');
cmp_ok($reloads, '>', 2, 'reloads');
cmp_ok($accepted, '>', 0, 'some were ended');

# the last configuration is there, and nothing else

configure('');
ok(new_workers($t), 'last reload');

my $end = wait_status(sub { !$_[0]->{total}{active}
	&& !$_[0]->{total}{connecting} && @{$_[0]->{workers}} == 2 },
	timeout => 15);
ok($end, 'all have ended')
	or diag(JSON::PP->new()->canonical()->encode($end = status()));
json() && metrics();

is(join("\n", splice @backwards, 0, 10), '', 'nothing went backwards');
is(join("\n", splice @bad, 0, 10), '', 'nothing was wrong');

my $total = $end->{total};
my $ended = 0;
$ended += $_ for values %{$total->{ended}};

cmp_ok($total->{opened}, '>', LEAST, 'tunnels');
note("tunnels $total->{opened}: " . status_nonzero($total->{ended}));
note('results: ' . status_nonzero($total->{results}));

is($ended, $total->{opened}, 'each has ended once');
is(join("\n", status_bad($end)), '', 'counters agree');
is(scalar @{$end->{tunnels}}, 0, 'none in the table');
is($total->{memory}, 0, 'no memory');
is($end->{zone}{untracked}, 0, 'none untracked');
is($total->{ended}{worker_exited}, 0, 'none left behind');
cmp_ok($total->{ended}{killed}, '>=', 1, 'some killed');
cmp_ok($total->{ended}{denied}, '>=', 1, 'some denied');
is(join(' ', map { $_->{buffers} . ' ' . $_->{pipes} } @{$end->{workers}}),
	'0 0 0 0', 'workers hold nothing');
is(join(' ', map { $_->{active} } @{$end->{keys}}, @{$end->{targets}}),
	join(' ', map { 0 } @{$end->{keys}}, @{$end->{targets}}),
	'nor do keys and targets');

my %sum;

for my $list (qw/ keys targets /) {
	for my $node (@{$end->{$list}}) {
		$sum{$list}{$_} += $node->{$_} for qw/ opened received sent /;
	}
}

is(join(' ', map { $sum{targets}{$_} } qw/ opened received sent /),
	join(' ', map { $total->{$_} } qw/ opened received sent /),
	'targets add up');
is(join(' ', map { $sum{keys}{$_} } qw/ opened received sent /),
	join(' ', map { $total->{$_} } qw/ opened received sent /),
	'keys add up');

# what the log has

my (%reasons, %ids, $twice);
my ($received, $sent) = (0, 0);

for (log_lines($t, 'tunnel.log')) {
	my ($id, $result, $reason, $from, $to) = split;

	$twice = $id if $ids{$id}++;
	next if $result ne 'ok' || $reason eq '-';

	$reasons{$reason}++;
	$received += $from;
	$sent += $to;
}

is($twice, undef, 'ids are different ones');
is(status_nonzero(\%reasons), status_nonzero($total->{ended}),
	'as many as are logged, for each reason');
is("$received $sent", "$total->{received} $total->{sent}",
	'as many bytes as are logged');

cmp_ok($total->{$_}, '>', 0, $_) for qw/ received sent spliced /;

my %fronts;
$fronts{$_->{front_end}} += $_->{opened} for @{$end->{servers}};
cmp_ok($fronts{$_} || 0, '>', 0, "tunnels of $_")
	for qw/ connect socks passthrough /;

is(scalar(grep { ($_->{ended}{killed} || $_->{ended}{denied}) }
	@{$end->{servers}}) > 1, 1, 'ended in more than one server');

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

# What each format tells, compared to what it told before.

sub json {
	my ($code, $head, $body)
		= status_request('/status?format=json&limit=50');
	my $status = eval { JSON::PP->new()->utf8()->decode($body) };

	if ($code != 200 || !$status) {
		push @bad, "JSON: $code, " . length $body;
		return {};
	}

	flat('json', { total => $status->{total} }, '');
	# one that is not configured any more may be forgotten

	flat('json', { "$_->{front_end}/$_->{server}" => $_ }, '')
		for grep { $_->{server} !~ /^c\d/ } @{$status->{servers}};

	for my $list (qw/ keys targets /) {
		for (@{$status->{$list}}) {
			my $name = $_->{key} || $_->{target};

			compare('json', "$list/$name/$_->[0]", $_->[1]) for
				[ opened => $_->{opened} ],
				[ received => $_->{received} ],
				[ sent => $_->{sent} ];
		}
	}

	for my $tunnel (@{$status->{tunnels}}) {
		compare('json', "$tunnel->{id}/$_", $tunnel->{$_})
			for qw/ received sent /;
		push @bad, "tunnel $tunnel->{id}: age $tunnel->{age}, "
			. "idle $tunnel->{idle}"
			if $tunnel->{idle} > $tunnel->{age} + 0.01;
	}

	push @bad, "zone: free $status->{zone}{free}"
		if $status->{zone}{free} > $status->{zone}{size};

	return $status;
}

# All but what a gauge tells.

sub flat {
	my ($format, $hash, $path) = @_;

	for my $name (keys %$hash) {
		my $value = $hash->{$name};

		if (ref $value eq 'HASH') {
			flat($format, $value, "$path/$name");

		} elsif (ref $value eq 'ARRAY') {
			compare($format, "$path/$name/$_->[0]", $_->[1])
				for @$value;

		} elsif ($name =~ /^(?:active|connecting|memory)\z/) {
			push @bad, "$path/$name: $value" if $value > 2 ** 40;

		} elsif ($name !~ /^(?:front_end|server)\z/) {
			compare($format, "$path/$name", $value);
		}
	}
}

sub metrics {
	my ($code, $head, $body) = status_request('/status/metrics');

	push @bad, "metrics: $code" if $code != 200;

	for (split /\n/, $body) {
		next unless /^(\w+(?:\{.*\})?) (\S+)$/;
		my ($name, $value) = ($1, $2);

		compare('metrics', $name, $value)
			if $name =~ /_(?:total|bucket|sum|count)(?:\{|\z)/;
		push @bad, "$name: $value"
			if $name =~ /^nginx_tunnel_(?:\w+_)?active/
			&& $value > 2 ** 40;
	}

	return 1;
}

sub html {
	my ($code, $head, $body) = status_request('/status?format=html');

	push @bad, "page: $code, " . length $body
		if $code != 200 || $body !~ /<\/html>\s*\z/;
}

sub compare {
	my ($format, $name, $value) = @_;

	my $last = \$last{"$format $name"};

	push @backwards, "$format $name: $$last, $value"
		if defined $$last && $value < $$last;

	$$last = $value;
}

###############################################################################

# Clients, processes of their own.

sub client {
	my ($n, $code) = @{$_[0]};

	my $pid = fork();
	die "fork: $!\n" unless defined $pid;
	return $pid if $pid;

	srand($n);
	local $SIG{PIPE} = 'IGNORE';

	while (time() < $until) {
		$code->($n);
	}

	POSIX::_exit(0);
}

sub one_after_another {
	my ($n) = @_;

	my ($s, $target) = any($n);
	use_it($s, $target) if $s;
	end_it($s) if $s;
}

sub many_at_once {
	my ($n) = @_;

	my @s;

	for (1 .. 20) {
		my ($s, $target) = any($n);
		push @s, [ $s, $target ] if $s;
	}

	use_it(@$_) for @s;
	sleep(rand(0.5));
	use_it(@$_) for @s;
	end_it($_->[0]) for @s;
}

sub streams {
	my ($n) = @_;

	my $h2 = h2_client(port(8084)) or return;
	my @s;

	for (1 .. 5) {
		my $s = $h2->connect('127.0.0.1:' . port(8091 + int rand 2),
			timeout => 2, headers => [ [ 'x-key', "client$n" ] ]);
		push @s, $s if ($s->{status} || 0) == 200;

		# after a GOAWAY there is no answer

		last if $h2->{closed} || $h2->{goaway} || !$s->{status};
	}

	for (@s) {
		$_->write_all('hello', 1);
		$_->read_n(5, 1);
	}

	for (@s) {
		my $way = int rand 3;

		$_->half_close() if $way == 0;
		$_->reset_close() if $way == 1;
	}

	$h2->settle(0.05);
	rand() < 0.5 ? $h2->close() : $h2->reset();
}

# Tunnels that do nothing.

sub until_told {
	my ($n) = @_;

	my @s = map { connect_tunnel(port(8080), '127.0.0.1:' . port(8094),
		headers => [ "X-Key: client$n" ], timeout => 2) } 1 .. 5;

	read_all($_, 2) for grep { ref } @s;
	close $_ for grep { ref } @s;
	sleep(0.1);
}

# A tunnel to one of the targets, or nothing.

sub any {
	my ($n) = @_;

	my $target = 8091 + int rand 3;
	my $authority = '127.0.0.1:' . port($target);
	my @key = (headers => [ "X-Key: client$n" ], timeout => 2);
	my $way = int rand 6;
	my ($s, $head);

	if ($way < 3) {
		($s, $head) = connect_tunnel(port(8080 + $way), $authority,
			@key);

	} elsif ($way == 3) {
		($s, $head) = connect_tunnel(port(8443), $authority, @key,
			ssl => 1, alpn => [ 'http/1.1' ]);

	} elsif ($way == 4) {
		($s, my $code) = socks5_tunnel(port(8085), '127.0.0.1',
			port($target), timeout => 2);
		$head = defined $code && $code == 0 ? ' 200 ' : '';

	} else {
		$s = tcp_connect(port(8086), timeout => 2);
		($head, $target) = (' 200 ', 8091);
	}

	return $s && ($head || '') =~ / 200 / ? ($s, $target) : ();
}

# Others may end it at any time.

sub use_it {
	my ($s, $target) = @_;

	if ($target == 8093) {
		read_n($s, 1 + int rand 400000, 1);
		return;
	}

	my $bytes = pattern(rand() < 0.2 ? 200000 : 5);

	write_all($s, $bytes, 0.5);
	read_n($s, length $bytes, 0.5);
}

sub end_it {
	my ($s) = @_;

	my $way = int rand 4;

	half_close($s) if $way == 0 || $way == 1;
	read_all($s, 1) if $way == 0;

	# a close of TLS would wait

	$way == 3 || $s->isa('IO::Socket::SSL') ? reset_close($s) : close $s;
}

###############################################################################

sub configure {
	my ($rules) = @_;

	my $status = status_conf(control => 1);

	$t->write_file_expand('nginx.conf', h2_conf($t, <<"EOF"));

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
    worker_connections 2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '\$tunnel_id \$tunnel_result \$tunnel_reason '
                      '\$tunnel_bytes_received \$tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    tunnel_zone tunnels:1m;
    tunnel_zone_key \$http_x_key;
    target_recheck on;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    $rules

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    server {
        listen 127.0.0.1:8080 reuseport;
        connect_tunnel;
        tunnel_label a;
    }

    server {
        listen 127.0.0.1:8081 reuseport;
        connect_tunnel;
        relay_splice on;
        tunnel_label b;
    }

    server {
        listen 127.0.0.1:8082 reuseport;
        connect_tunnel;
        relay_max_payload 100k;
        relay_max_lifetime 300ms;
        tunnel_label c$reloads;
    }

    server {
        LISTEN 127.0.0.1:8084 reuseport;
        connect_tunnel;
        tunnel_label h2;
    }

    server {
        listen 127.0.0.1:8443 ssl reuseport;
        connect_tunnel;
        tunnel_label tls;
    }

    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '\$tunnel_id \$tunnel_result \$tunnel_reason '
                      '\$tunnel_bytes_received \$tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    tunnel_zone tunnels;
    tunnel_zone_key stream;
    target_recheck on;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    $rules

    server {
        listen 127.0.0.1:8085 reuseport;
        socks;
    }

    server {
        listen 127.0.0.1:8086 reuseport;
        passthrough 127.0.0.1:8091;
    }
}

EOF
}

###############################################################################
