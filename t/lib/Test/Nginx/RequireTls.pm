package Test::Nginx::RequireTls;

# Tests of target_require_tls, the same for all front ends: a tunnel whose
# client begins with certain bytes, what the client and its target got of it,
# and what is logged.
#
#   tls_test($t, \&open, $name, %case)
#				1 test.  The front end opens a tunnel:
#				open($t, \%case, $early) sends these bytes
#				behind its request, and returns the socket,
#				what the line of the log begins with, and why
#				there is no tunnel, if so; it may set header
#				and more of the case
#   cut_as(\@cases, @reasons)	how many of the cases end for one of these
#				reasons
#
# A case has, besides what its front end needs
#
#   bytes			that the client sends
#   early			behind the request: 1 for all, or so many
#   split, step, delay		the rest as send_split() does it
#   both			it reads while it sends
#   then			"fin" or "rst" behind them, "rst" after delay;
#				a client that is let through sends FIN in the
#				end, if not before
#   answer			of the target, in front of its echo
#   reason			a regex; default "completed"
#   in, out			bytes that are let through, from and to the
#				client; by default all, or none
#   header			what the target gets in front of them
#   unread			it sends so much that its end may be a reset
#   time			the end comes no earlier; from_connect if that
#				counts from the time before the tunnel
#   sni				in the log, default "-"; undef if the log does
#				not have it, sni_any if it does not matter
#   more			what the log has behind it, a list
#   log				a file, default "tunnel.log"
#
# Others
#
#   record_daemon($addr, $report, %opt)
#				a target that echoes, and reports what it got;
#				greeting, echo => 0, leave => "fin", "close"
#				or "reset" behind the greeting: "fin" reports
#				in spite of that, the others what came at once
#   target_line($t, $n)		line n of the file "target", which daemons
#				report to, once it is there
#   logged($t, $id, $file, $from)
#				the rest of the line of tunnel.log, or another
#				file, that begins so; among those from number
#				$from on
#   soon($code)			as wait_for(), for what is a matter of
#				milliseconds

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	tls_test cut_as record_daemon target_line logged soon
/;

###############################################################################

use Test::More;
use Time::HiRes qw/ sleep time /;

use Test::Nginx::Tunnel;
use Test::Nginx::Hello;
use Test::Nginx::Relay qw/ exchange /;

###############################################################################

use constant {
	LOG		=> 'tunnel.log',
	PATIENCE	=> 6,		# with an end that does not come
	EARLY		=> 0.02,	# clocks of nginx are this coarse
	LATE		=> 3,		# on a machine that is busy
	SILENCE		=> 30,		# of a client, for a target
};

###############################################################################

sub tls_test {
	my ($t, $open, $name, %case) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	%case = (bytes => '', early => 0, split => [], delay => 0.001,
		answer => '', then => '', reason => 'completed', header => '',
		time => 0, sni => '-', more => [], log => LOG, %case);

	my $bytes = $case{bytes};
	my $good = $case{reason} eq 'completed';

	%case = (in => $good ? length $bytes : 0,
		out => $good ? length "$case{answer}$bytes" : 0, %case);

	my $early = $case{early} == 1 ? length $bytes : $case{early};
	my $expected = $case{reason} eq 'sni_mismatch'
		? tls_alert('unrecognized_name')
		: substr "$case{answer}$bytes", 0, $case{out};

	my $reported = () = log_lines($t, 'target');
	my $lines = () = log_lines($t, $case{log});

	my $before = time();
	my ($s, $id, $error) = $open->($t, \%case, substr $bytes, 0, $early);

	return fail("$name - $error") if defined $error;

	my $start = $case{from_connect} ? $before : time();

	my ($got, $state) = client_end($s, substr($bytes, $early), $expected,
		$good, %case);

	my $end = time();
	my $line = logged($t, $id, $case{log}, $lines);
	my $target = target_line($t, $reported);

	my $log = "200 ok (?:$case{reason}) $case{in} $case{out}"
		. (!defined $case{sni} ? '' : $case{sni_any} ? ' "[^"]*"'
			: " \"\Q$case{sni}\E\"")
		. join '', map { " \"\Q$_\E\"" } @{$case{more}};

	my $told = summary($case{header} . substr $bytes, 0, $case{in})
		=~ s/\n//r;

	# how a target ends is only known if nobody is cut

	if (!$good) {
		s/ \w+\z// for $told, $target;
	}

	my @wrong;
	push @wrong, 'client got ' . length($got) . ' bytes: '
		. unpack('H*', substr($got, 0, 40)) if $got ne $expected;
	push @wrong, "client: $state" if $state ne 'EOF'
		&& !($expected eq '' && $state =~ /^(?:RESET|TRUNCATED)\z/)
		&& !($case{unread} && $state eq 'RESET');
	push @wrong, "logged: $line" if $line !~ /^$log\z/;
	push @wrong, "target: $target" if $target ne $told;

	# nginx counts from when the tunnel is there, and the client knows later

	push @wrong, sprintf 'after %.3f s', $end - $start
		if $end - $before < $case{time} - EARLY
		|| $end - $start > $case{time} + LATE;

	is(join("\n", @wrong), '', $name)
		or diag("expected in the log: $log, target: $told");
}

# The client sends what is left, and reads; what it got, and how it ended.

sub client_end {
	my ($s, $bytes, $expected, $good, %case) = @_;

	my $got = '';

	if ($case{both}) {
		$got = exchange($s, $bytes, length $expected, PATIENCE);

	} else {
		send_split($s, $bytes, @{$case{split}}, delay => $case{delay},
			$case{step} ? (step => $case{step}) : ());
	}

	if ($case{then} eq 'rst') {
		sleep($case{delay});
		reset_close($s);

		return ('', 'EOF');
	}

	if ($case{then} eq 'fin') {
		half_close($s);

	} elsif ($good) {
		$got .= read_n($s, length($expected) - length $got);
		half_close($s);
	}

	my ($rest, $state) = read_all($s, PATIENCE);
	close $s;

	return ($got . $rest, $state);
}

sub cut_as {
	my ($cases, @reasons) = @_;

	my %reason = map { $_ => 1 } @reasons;

	return scalar grep {
		my ($name, %case) = @$_;
		$reason{$case{reason} || ''};
	} @$cases;
}

###############################################################################

sub record_daemon {
	my ($addr, $report, %opt) = @_;

	my $leave = $opt{leave} || '';
	my $echo = $leave eq 'fin' ? 0 : defined $opt{echo} ? $opt{echo} : 1;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		my ($got, $bytes, $state) = ('', '', 'OK');

		write_all($s, $opt{greeting}) if defined $opt{greeting};
		half_close($s) if $leave eq 'fin';

		if ($leave eq 'close' || $leave eq 'reset') {
			($got, $state) = read_n($s, 1, 0.2);
			$leave eq 'reset' ? reset_close($s) : close $s;

		} else {
			while ($state eq 'OK') {
				($bytes, $state)
					= Test::Nginx::Tunnel::read_some($s,
						65536, time() + SILENCE);
				$got .= $bytes;
				write_all($s, $bytes) if $echo;
			}

			half_close($s);
		}

		Test::Nginx::Tunnel::append($report, summary($got, $state));
	});
}

sub target_line {
	my ($t, $n) = @_;

	return soon(sub { (log_lines($t, 'target'))[$n] }) || '';
}

# A client's port may be used again: only what is logged from now on is its.

sub logged {
	my ($t, $id, $file, $from) = @_;

	$file = LOG unless defined $file;
	$from ||= 0;

	my $begin = $id eq '' ? qr/^/ : qr/^\Q$id\E /;

	my $line = soon(sub {
		my @lines = log_lines($t, $file);
		return (grep { /$begin/ } @lines[$from .. $#lines])[0];
	});

	return ($line || '') =~ s/$begin//r;
}

sub soon {
	my ($code) = @_;

	for (1 .. 100) {
		my $result = $code->();
		return $result if $result;

		sleep(0.005);
	}

	return wait_for($code);
}

###############################################################################

1;

###############################################################################
