package Test::Nginx::Browser;

# Chromium, driven over its pipe: descriptor 3 takes messages of the DevTools
# protocol, and 4 gives them.
#
#   start_browser($t, $proxy, $name)
#				starts the one of chromium()
#   browse($b, $url, $user, $password)
#				what the page says in the end, and who asked
#				for a password
#   stop_browser($b)
#
#   sums_page(@urls)		text of a page that loads all of these at once,
#				and then says in <p id="p"> what follows
#   sums(@bytes)		of their contents
#
#   wait_lines($t, $from)	lines of tunnel.log from there on, when there
#				is no more to come

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	start_browser browse stop_browser sums_page sums wait_lines
/;

###############################################################################

use Fcntl qw/ F_DUPFD /;
use IO::Select qw//;
use JSON::PP qw/ decode_json encode_json /;
use POSIX qw//;
use Time::HiRes qw/ time /;

use Test::Nginx::Clients qw/ chromium /;
use Test::Nginx::Tunnel qw/ log_lines /;

###############################################################################

sub sums_page {
	my $urls = encode_json(\@_);

	return <<"EOF";
<!DOCTYPE html>
<html><head><title>loading</title></head><body><p id="p">loading</p>
<script>
const load = (url) => fetch(url).then((r) => r.arrayBuffer())
    .then((b) => new Uint8Array(b).reduce((sum, x) => (sum * 31 + x) >>> 0));

Promise.all($urls.map(load)).then((sums) => {
    document.getElementById('p').textContent = 'sums ' + sums.join(' ');
    document.title = 'done';
});
</script></body></html>
EOF
}

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

sub sums {
	return join ' ', 'sums', map { sum($_) } @_;
}

sub sum {
	my ($bytes) = @_;

	my @bytes = unpack 'C*', $bytes;
	my $sum = shift @bytes;

	$sum = ($sum * 31 + $_) & 0xffffffff for @bytes;

	return $sum;
}

###############################################################################

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

1;

###############################################################################
