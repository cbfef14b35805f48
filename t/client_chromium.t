#!/usr/bin/perl

# Tests for CONNECT tunnels with Chromium.

###############################################################################

use warnings;
use strict;

use Fcntl qw/ F_DUPFD /;
use IO::Select;
use JSON::PP;
use POSIX qw//;
use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT chromium /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic/)->plan(14);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$connection $connection_requests $request $status '
                      '$tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow *.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8082;
        listen 127.0.0.1:8083 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;

        location / {
            root %%TESTDIR%%/html;
        }

        location /data/ {
            add_header Access-Control-Allow-Origin *;
            alias %%TESTDIR%%/data/;
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'www.example.test',
	'cdn.example.test', '127.0.0.1' ]);

my $dir = $t->testdir();
my $www = 'www.example.test:' . port(8443);
my $cdn = 'cdn.example.test:' . port(8443);

mkdir "$dir/$_" or die "Can't create $_: $!\n" for qw/ html data /;

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file("data/$_", pattern(1024 * 1024, $_)) for 1 .. 8;

# the page loads from another name, much and at once, and tells the sum of it

$t->write_file('html/index.html', <<EOF);
<!DOCTYPE html>
<html><head><title>loading</title></head><body><p id="p">loading</p>
<script>
const load = (n) => fetch('https://$cdn/data/' + n)
    .then((r) => r.arrayBuffer())
    .then((b) => new Uint8Array(b).reduce((sum, x) => (sum * 31 + x) >>> 0));

Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(load)).then((sums) => {
    document.getElementById('p').textContent = 'sums ' + sums.join(' ');
    document.title = 'done';
});
</script></body></html>
EOF

my $sums = join ' ', 'sums', map { sum(pattern(1024 * 1024, $_)) } 1 .. 8;

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'www.example.test' => '127.0.0.1',
		'cdn.example.test' => '127.0.0.1',
	});

$t->run();

###############################################################################

# What Chromium asks for on its own account is refused, and not looked at.

for my $case ([ 'http', port(8080) ], [ 'https', port(8081) ]) {
	my ($name, $port) = @$case;

	my $from = log_lines($t, 'tunnel.log');

	my $r = client($t, [ chromium($t, "$name://127.0.0.1:$port", $name),
		'--virtual-time-budget=10000', '--dump-dom',
		"https://$www/" ], timeout => 30);
	like($r->{out}, qr!<p id="p">\Q$sums\E</p>!, $name)
		|| diag("status $r->{status}: " . substr($r->{err}, -2000));

	like(connects($t, $from, $www), qr/^1 200 ok$/m, "$name log");
	like(connects($t, $from, $cdn), qr/^1 200 ok$/m,
		"$name log of another name");
	unlike(connects($t, $from, '\S+\.example\.test:\d+'),
		qr/^(?!1 200 ok$)/m, "$name log, nothing refused");
}

# a password is asked for, and the CONNECT comes again on the connection

for my $case ([ 'http', port(8082) ], [ 'https', port(8083) ]) {
	my ($name, $port) = @$case;

	my $from = log_lines($t, 'tunnel.log');

	my $browser = start_browser($t, "$name://127.0.0.1:$port",
		"$name-auth");
	my ($text, $asked) = browse($browser, "https://$www/", 'user',
		'secret');
	stop_browser($browser);

	is($text, $sums, "$name password")
		|| diag($t->read_file('browser.err'));
	is($asked, 'Proxy basic proxy', "$name password asked for");

	my @lines = grep { / CONNECT \Q$www\E / } wait_lines($t, $from);
	my %refused = map { /^(\d+) 1 .* 407 -$/ ? ($1 => 1) : () } @lines;
	my @again = grep { /^(\d+) 2 .* 200 ok$/ && $refused{$1} } @lines;

	is(@again, 1, "$name password on the same connection")
		|| diag(join "\n", @lines);
}

###############################################################################

# What the page does.

sub sum {
	my ($bytes) = @_;

	my @bytes = unpack 'C*', $bytes;
	my $sum = shift @bytes;

	$sum = ($sum * 31 + $_) & 0xffffffff for @bytes;

	return $sum;
}

# Lines of the log from there on, when there is no more to come.

sub wait_lines {
	my ($t, $from) = @_;

	my @lines = log_lines($t, 'tunnel.log');
	my $until = time() + 3;

	while (1) {
		select undef, undef, undef, 0.3;

		my @now = log_lines($t, 'tunnel.log');
		my $same = @now == @lines;
		@lines = @now;

		last if $same && @lines > $from || time() > $until;
	}

	return @lines[$from .. $#lines];
}

sub connects {
	my ($t, $from, $target) = @_;

	return join "\n", map { /^\d+ (\d+) CONNECT $target HTTP\/1\.1 (.*)/
		? "$1 $2" : () } wait_lines($t, $from);
}

###############################################################################

# The browser is driven over its pipe: descriptor 3 takes messages of the
# DevTools protocol, and 4 gives them.

sub start_browser {
	my ($t, $proxy, $name) = @_;

	my $dir = $t->testdir();
	my @command = (qw/ timeout -k 2 30 /, chromium($t, $proxy, $name),
		'--remote-debugging-pipe', 'about:blank');

	pipe(my $in, my $to) && pipe(my $from, my $out)
		or die "Can't create pipe: $!\n";

	my $pid = fork();
	die "Can't fork: $!\n" unless defined $pid;

	if ($pid == 0) {
		$ENV{HOME} = $ENV{TMPDIR} = $dir;
		delete $ENV{$_} for grep { /_proxy$/i } keys %ENV;

		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$dir/browser.err";
		open STDERR, '>&', \*STDOUT;

		# first out of the way of the numbers

		my @high = map { fcntl($_, F_DUPFD, 20) } $in, $out;

		POSIX::dup2($high[0] + 0, 3);
		POSIX::dup2($high[1] + 0, 4);
		POSIX::close($_ + 0) for @high;

		exec { $command[0] } @command or POSIX::_exit(127);
	}

	close $in;
	close $out;

	return { pid => $pid, to => $to, from => $from, id => 0, buf => '' };
}

sub stop_browser {
	my ($b) = @_;

	message($b, 'Browser.close');

	# timeout(1) ends it otherwise

	1 while defined receive_message($b, 5);
	kill 'TERM', $b->{pid};
	waitpid $b->{pid}, 0;
}

sub message {
	my ($b, $method, $params, $session) = @_;

	local $SIG{PIPE} = 'IGNORE';

	syswrite $b->{to}, encode_json({
		id	=> ++$b->{id},
		method	=> $method,
		params	=> $params || {},
		$session ? (sessionId => $session) : (),
	}) . "\0";

	return $b->{id};
}

sub receive_message {
	my ($b, $timeout) = @_;

	my $until = time() + $timeout;

	while (1) {
		return decode_json($1) if $b->{buf} =~ s/^([^\0]*)\0//;

		my $left = $until - time();
		return undef if $left <= 0
			|| !IO::Select->new($b->{from})->can_read($left);

		sysread($b->{from}, $b->{buf}, 65536, length $b->{buf})
			or return undef;
	}
}

# The answer to a message.  On the way requests are let go on, and a proxy
# gets its password.

sub answer {
	my ($b, $id) = @_;

	while (my $m = receive_message($b, 10)) {
		return $m->{result} || {} if ($m->{id} || 0) == $id;
		handle($b, $m);
	}

	return {};
}

sub handle {
	my ($b, $m) = @_;

	my $method = $m->{method} || '';
	my $params = $m->{params};

	if ($method eq 'Fetch.requestPaused') {
		message($b, 'Fetch.continueRequest',
			{ requestId => $params->{requestId} },
			$m->{sessionId});

	} elsif ($method eq 'Fetch.authRequired') {
		$b->{asked} = join ' ',
			@{$params->{authChallenge}}{qw/ source scheme realm /};

		message($b, 'Fetch.continueWithAuth', {
			requestId => $params->{requestId},
			authChallengeResponse => {
				response => 'ProvideCredentials',
				%{$b->{credentials}},
			}
		}, $m->{sessionId});
	}
}

# What the page says once it has got everything, and who asked for a password.

sub browse {
	my ($b, $url, $user, $password) = @_;

	$b->{credentials} = { username => $user, password => $password };

	my $target = answer($b, message($b, 'Target.createTarget',
		{ url => 'about:blank' }))->{targetId};
	my $session = answer($b, message($b, 'Target.attachToTarget',
		{ targetId => $target, flatten => JSON::PP::true }))
		->{sessionId};

	answer($b, message($b, 'Fetch.enable',
		{ handleAuthRequests => JSON::PP::true }, $session));

	# ends only with the answer of the server

	answer($b, message($b, 'Page.navigate', { url => $url }, $session));

	my $until = time() + 15;
	my $text = '';

	while (time() < $until) {
		$text = answer($b, message($b, 'Runtime.evaluate',
			{ expression => 'document.getElementById("p")'
				. '?.textContent' }, $session))
			->{result}{value};
		last if defined $text && $text =~ /^sums/;

		select undef, undef, undef, 0.1;
	}

	return ($text, $b->{asked});
}

###############################################################################
