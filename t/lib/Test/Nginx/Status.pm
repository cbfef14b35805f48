package Test::Nginx::Status;

# What tunnel_status tells, and tunnels that it is to end, besides
# Test::Nginx::Tunnel.
#
#   status_conf(%opt)		a server for http {}: tunnel_status at /status,
#				at STATUS_PORT; port, another one, uri, format,
#				the parameter of tunnel_status, control => 1,
#				and conf, directives of the location
#   status_request($uri, %opt)	(status code, head, body) of a request to that
#				server; port, method, headers => [ ], body,
#				timeout
#   status($uri, %opt)		what is there as JSON, decoded: by default the
#				whole, else "/tunnels/ID"; dies if it is none
#   wait_status($code, %opt)	waits until the code, which is called with it,
#				returns true: the status then, undef if it does
#				not come; timeout, and those of status()
#   prometheus(%opt)		text of the metrics
#   delete_tunnel($query, %opt)	"id=ID", "target=HOST:PORT", "key=VALUE", or
#				"client=ADDRESS", or "/tunnels/ID": the status
#				code, and the answer, decoded
#   uri_escape($bytes)		for the values of that
#
#   status_tunnel($status, %is)	tunnels of which these are the values; in
#				scalar context the first
#   status_server($status, $front_end, $server)
#				counters of these; undef if there are none
#   status_bad($status)		what does not fit together in the counters of
#				total or a server: opened, active and ended,
#				results, histograms, and their sums; an empty
#				list if all of it fits
#   status_nonzero($hash)	"name:number ..." of what is not 0, sorted

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/
	STATUS_PORT status_conf status_request status wait_status prometheus
	delete_tunnel uri_escape
	status_tunnel status_server status_bad status_nonzero
/;

###############################################################################

use JSON::PP qw//;
use Time::HiRes qw/ sleep time /;

use Test::Nginx qw/ port /;
use Test::Nginx::Tunnel;

###############################################################################

use constant {
	STATUS_PORT	=> 8070,
	CRLF		=> "\x0d\x0a",
	TIMEOUT		=> 8,
	HISTOGRAMS	=> [ qw/ connect_time resolve_time first_byte_time
			lifetime size / ],
};

###############################################################################

sub status_conf {
	my (%opt) = @_;

	%opt = (port => STATUS_PORT, uri => '/status', format => '',
		control => 0, conf => '', %opt);

	my $format = length $opt{format} ? " $opt{format}" : '';
	my $control = $opt{control} ? 'tunnel_control on;' : '';

	return <<"EOF";
server {
        listen 127.0.0.1:$opt{port};
        access_log off;

        location $opt{uri} {
            tunnel_status$format;
            $control
            $opt{conf}
        }
    }
EOF
}

sub status_request {
	my ($uri, %opt) = @_;

	%opt = (port => STATUS_PORT, method => 'GET', headers => [],
		timeout => TIMEOUT, %opt);

	my $s = tcp_connect(port($opt{port}), timeout => $opt{timeout})
		or return (0, '', '');

	my @headers = @{$opt{headers}};

	unshift @headers, 'Host: localhost' unless grep { /^Host:/i } @headers;
	push @headers, 'Content-Length: ' . length $opt{body}
		if defined $opt{body};

	write_all($s, join(CRLF, "$opt{method} $uri HTTP/1.0", @headers, '',
		defined $opt{body} ? $opt{body} : ''));

	my ($head, $body) = split /\x0d\x0a\x0d\x0a/,
		scalar read_all($s, $opt{timeout}), 2;

	my ($code) = ($head || '') =~ /^HTTP\/\S+ (\d+)/;

	return ($code || 0, $head || '', defined $body ? $body : '');
}

sub status {
	my ($uri, %opt) = @_;

	my $path = '/status' . (defined $uri ? $uri : '');

	my ($code, $head, $body) = status_request(
		$path =~ m!/tunnels/! ? $path : "$path?format=json", %opt);

	die "status: $code, and not 200\n" if $code != 200;

	return decode($body);
}

# A number is exact, as perl's integers have 64 bits.

sub decode {
	my ($text) = @_;

	return JSON::PP->new()->utf8()->decode($text);
}

sub wait_status {
	my ($code, %opt) = @_;

	my $until = time() + (delete $opt{timeout} || TIMEOUT);

	while (1) {
		my $status = status(undef, %opt);
		return $status if $code->($status);
		return undef if time() >= $until;

		sleep(0.05);
	}
}

sub prometheus {
	my (%opt) = @_;

	my ($code, $head, $body)
		= status_request('/status?format=prometheus', %opt);

	die "metrics: $code, and not 200\n" if $code != 200;

	return $body;
}

sub delete_tunnel {
	my ($query, %opt) = @_;

	my ($code, $head, $body) = status_request('/status'
		. ($query =~ m!^/! ? $query : "?$query"),
		method => 'DELETE', %opt);

	my $json = eval { decode($body) };

	return ($code, $json);
}

sub uri_escape {
	my ($bytes) = @_;

	return $bytes =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/egr;
}

###############################################################################

sub status_tunnel {
	my ($status, %is) = @_;

	my @found;

	TUNNEL: for my $tunnel (@{$status->{tunnels}}) {

		for my $name (keys %is) {
			my $value = $tunnel->{$name};

			next TUNNEL if defined $value != defined $is{$name};
			next TUNNEL if defined $value && $value ne $is{$name};
		}

		push @found, $tunnel;
	}

	return wantarray ? @found : $found[0];
}

sub status_server {
	my ($status, $front_end, $server) = @_;

	return (grep { $_->{front_end} eq $front_end
		&& $_->{server} eq $server } @{$status->{servers}})[0];
}

# Only while nothing begins or ends: a zone is not stopped for its picture.

sub status_bad {
	my ($status) = @_;

	my $total = $status->{total};
	my @bad = counters_bad('total', $total);

	push @bad, counters_bad("$_->{front_end} \"$_->{server}\"", $_)
		for @{$status->{servers}};

	for my $name (qw/ connecting active opened received sent spliced /) {
		my $sum = 0;
		$sum += $_->{$name} for @{$status->{servers}};

		# labels that no configuration has any more are in the total

		push @bad, "$name: $sum of servers, total $total->{$name}"
			if $sum > $total->{$name} || $sum != $total->{$name}
				&& $name =~ /^(?:connecting|active)$/;
	}

	my ($active, $connecting) = (0, 0);

	for my $worker (@{$status->{workers}}) {
		$active += $worker->{active};
		$connecting += $worker->{connecting};
	}

	push @bad, "active: $active of workers, total $total->{active}"
		if $active != $total->{active};
	push @bad, "connecting: $connecting of workers, "
		. "total $total->{connecting}"
		if $connecting != $total->{connecting};

	return @bad;
}

sub counters_bad {
	my ($name, $c) = @_;

	my @bad;
	my $ended = 0;
	$ended += $_ for values %{$c->{ended}};

	push @bad, "$name: opened $c->{opened}, active $c->{active}, "
		. "ended $ended" if $c->{opened} != $c->{active} + $ended;

	# a worker may have gone between the two

	push @bad, "$name: opened $c->{opened}, ok $c->{results}{ok}"
		if $c->{opened} > $c->{results}{ok};

	push @bad, "$name: spliced $c->{spliced}, received $c->{received}, "
		. "sent $c->{sent}"
		if $c->{spliced} > $c->{received} + $c->{sent};

	push @bad, "$name: memory $c->{memory}, active $c->{active}"
		if !$c->{active} != !$c->{memory};

	for my $histogram (@{&HISTOGRAMS}) {
		my $h = $c->{$histogram};
		my ($bound, $count) = (0, 0);

		for (@{$h->{buckets}}) {
			push @bad, "$name: $histogram, bucket $_->[0]"
				if $_->[0] <= $bound || $_->[1] < $count;

			($bound, $count) = @$_;
		}

		push @bad, "$name: $histogram, count $h->{count}"
			if $h->{count} < $count || !@{$h->{buckets}};
	}

	push @bad, "$name: ended $ended, lifetimes $c->{lifetime}{count}, "
		. "sizes $c->{size}{count}"
		if $c->{lifetime}{count} != $c->{size}{count}
			|| $c->{lifetime}{count}
			!= $ended - $c->{ended}{worker_exited};

	return @bad;
}

sub status_nonzero {
	my ($hash) = @_;

	return join ' ', map { "$_:$hash->{$_}" }
		grep { $hash->{$_} } sort keys %$hash;
}

###############################################################################

1;

###############################################################################
