#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: more than 4 GiB through a tunnel.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	BLOCK		=> 1048576,
	BLOCKS		=> 4100,	# of these, just above 4 GiB
	SAMPLE		=> 61,		# each of so many is looked at in full
	FEW		=> 3,
};

my $t = Test::Nginx->new()->has(qw/http/)->plan(7);

my $size = BLOCK * BLOCKS;
my $few = BLOCK * FEW;

my $front = front_conf('http', servers => [
		[ 8080, '' ],
		[ 8081, 'relay_max_payload ' . ($size - 1) . ' download;' ],
	], log => '$tunnel_reason $tunnel_bytes_received $tunnel_bytes_sent '
		. '$bytes_sent $request_length');

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
error_log %%TESTDIR%%/info.log info;

events {
}

$front

EOF

start_daemon($t, \&large_daemon, port(8091));

$t->run();

###############################################################################

# a large download, and a small upload before it

my ($s) = front_tunnel('http', 'large', 8091);

send_blocks($s, FEW);
half_close($s);

my ($count, $wrong) = receive_blocks($s);

is($count, $size, 'every byte');
is($wrong, '', 'right bytes');
$s->close();

my $line = front_log($t, 'http', 'large');
my ($reason, $received, $sent, $total) = split ' ', $line;

is("$reason $received $sent", "completed $few $size", 'variables');
ok($total > $size && $total < $size + 1000, 'bytes_sent') or diag($line);
ok(wait_log($t, 'info.log',
	qr/ended: completed, received: $few, sent: $size,/), 'error log');

# a limit that is larger than that

($s) = front_tunnel('http', 'limit', 8091, proxy => 8081);

send_blocks($s, FEW);
half_close($s);
($count, $wrong) = receive_blocks($s);
$s->close();

is("$count$wrong", $size - 1, 'every byte but one');
like(front_log($t, 'http', 'limit'), qr/^max_payload $few ${\($size - 1)} /,
	'max_payload');

###############################################################################

# Blocks begin with their number.

sub send_blocks {
	my ($s, $n) = @_;

	my $block = pattern(BLOCK);

	for my $i (0 .. $n - 1) {
		substr($block, 0, 8) = pack('Q', $i);

		for (my $done = 0; $done < BLOCK; ) {
			my $n = syswrite($s, $block, BLOCK - $done, $done);
			return unless $n;

			$done += $n;
		}
	}
}

# Returns the number of bytes, and what is wrong with the first bad block.

sub receive_blocks {
	my ($s) = @_;

	my ($block, $done, $i, $wrong) = ('', 0, 0, '');
	my $good = substr(pattern(BLOCK), 8);

	local $SIG{ALRM} = sub { die "alarm\n" };
	alarm(40);

	while (1) {
		my $n = sysread($s, $block, BLOCK - $done, $done);
		last unless $n;

		$done += $n;
		next if $done < BLOCK;

		$wrong ||= "block $i" if unpack('Q', $block) != $i
			|| ($i % SAMPLE == 0 && substr($block, 8) ne $good);

		$i++;
		$done = 0;
	}

	alarm(0);

	return ($i * BLOCK + $done, $wrong);
}

sub large_daemon {
	my ($addr) = @_;

	Test::Nginx::Tunnel::serve($addr, sub {
		my ($s) = @_;

		my ($count, $wrong) = receive_blocks($s);
		return if $count != FEW * BLOCK || $wrong ne '';

		send_blocks($s, BLOCKS);
		Test::Nginx::Tunnel::finish($s);
	});
}

###############################################################################
