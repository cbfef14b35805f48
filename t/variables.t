#!/usr/bin/perl

# Tests for the variables of a tunnel, and those of nginx in a CONNECT
# request: in the access log, in map, if and headers.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http access auth_basic map rewrite/);

# of nginx, and of the tunnel

my @core = qw/ request request_method request_uri uri args host server_name
	status bytes_sent body_bytes_sent remote_user http_host
	server_protocol request_time /;
my @tunnel = map { "tunnel_$_" } qw/ target host port address result reason
	bytes_sent bytes_received resolve_time connect_time first_byte_time
	time /;

my $format = join '|', map { "$_=\$$_" } @core, @tunnel;

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format all '$format';

    access_log %%TESTDIR%%/all.log all;

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;

    add_header X-Target "\$tunnel_target" always;
    add_header X-Address "\$tunnel_address" always;
    add_header X-Result "\$tunnel_result" always;
    add_header X-Reason "\$tunnel_reason" always;

    map \$tunnel_host \$by_host {
        default         \$tunnel_target;
        mapped.example  127.0.0.1:8081;
        group.example   group;
        empty.example   "";
        bad.example     nonsense;
    }

    map \$tunnel_result \$logged {
        default  0;
        ok       1;
    }

    upstream group {
        server unix:%%TESTDIR%%/unix.sock;
    }

    server {
        listen 127.0.0.1:8080;
        server_name first;

        access_log %%TESTDIR%%/all.log all;
        access_log %%TESTDIR%%/ok.log all if=\$logged;

        connect_tunnel \$by_host;
        connect_tunnel_min_version 1.1;
        target_deny denied.example:*;
        target_deny_address 127.0.0.3;

        location / {
            return 200 "SEE-THIS";
        }
    }

    # never selected by a target

    server {
        listen 127.0.0.1:8080;
        server_name name.example second;
    }

    server {
        listen 127.0.0.1:8082;
        server_name timeout;

        connect_tunnel;
        relay_idle_timeout 200ms;
    }

    # errors elsewhere

    server {
        listen 127.0.0.1:8083;
        server_name pages;

        connect_tunnel;
        target_deny denied.example:*;

        auth_basic closed;
        auth_basic_user_file users;

        error_page 401 403 407 /page.html;
        error_page 502 504 \@named;

        location = /page.html {
            auth_basic off;
            root %%TESTDIR%%;
        }

        location \@named {
            auth_basic off;
            return 502 "NAMED \$tunnel_target \$tunnel_result \$host";
        }
    }

    server {
        listen 127.0.0.1:8084;

        connect_tunnel unix:%%TESTDIR%%/unix.sock;
    }

    server {
        listen 127.0.0.1:8085;
        deny all;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8086;

        location / {
        }

        location /other {
            connect_tunnel;
        }
    }

    # in if

    server {
        listen 127.0.0.1:8087;

        location / {
            connect_tunnel;

            if (\$tunnel_port = 25) {
                return 403 "PORT";
            }

            if (\$tunnel_host = named.example) {
                return 403 "HOST";
            }

            if (\$host = host.example) {
                return 403 "CORE \$request_uri \$uri \$request_method";
            }

            if (\$tunnel_target ~ ^(regex)\\.example:) {
                return 403 "REGEX \$1";
            }

            if (\$tunnel_result) {
                return 500;
            }
        }
    }
}

EOC

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('page.html', 'SEE-PAGE');

my $port = port(8081);
my $closed = port(8088);
my $quiet = port(8089);
my $target = "127.0.0.1:$port";

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'name.example' => { A => [ '127.0.0.1' ] },
		'third.example' => { A => [ '127.0.0.3' ] },
	});
start_daemon($t, \&echo_daemon, $target, greeting => 'HELLO');
start_daemon($t, \&echo_daemon, "127.0.0.1:$quiet");
start_daemon($t, \&echo_daemon, "[::1]:$port");
start_daemon($t, \&echo_daemon, 'unix:' . $t->testdir() . '/unix.sock');
start_daemon($t, \&reset_daemon, '127.0.0.1:' . port(8090), n => 1);

my $time = qr/^\d+\.\d{3}$/;
my @none = map { $_ => '-' } @tunnel;

my @tests = (

	# a tunnel that has ended

	[ 'completed', 8080, $target, { send => 'x' x 10000, answer => 10005 },
	{
		request			=> "CONNECT $target HTTP/1.1",
		request_method		=> 'CONNECT',
		request_uri		=> $target,
		uri			=> '/',
		args			=> '-',
		host			=> '127.0.0.1',
		http_host		=> $target,
		server_name		=> 'first',
		status			=> 200,
		server_protocol		=> 'HTTP/1.1',
		body_bytes_sent		=> 10005,
		remote_user		=> '-',
		request_time		=> $time,
		tunnel_target		=> $target,
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $port,
		tunnel_address		=> $target,
		tunnel_result		=> 'ok',
		tunnel_reason		=> 'completed',
		tunnel_bytes_sent	=> 10005,
		tunnel_bytes_received	=> 10000,
		tunnel_resolve_time	=> '-',
		tunnel_connect_time	=> $time,
		tunnel_first_byte_time	=> $time,
		tunnel_time		=> $time,
	} ],
	[ 'nothing passed', 8080, "127.0.0.1:$quiet", {}, {
		status			=> 200,
		body_bytes_sent		=> 0,
		tunnel_reason		=> 'completed',
		tunnel_bytes_sent	=> 0,
		tunnel_bytes_received	=> 0,
		tunnel_first_byte_time	=> '-',
		tunnel_time		=> $time,
	} ],
	[ 'early data', 8080, "127.0.0.1:$quiet", { early => 'EARLY',
		answer => 5 }, {
		tunnel_bytes_sent	=> 5,
		tunnel_bytes_received	=> 5,
	} ],

	# what was asked for, and what was connected to

	[ 'name', 8080, "name.example:$port", { answer => 5 }, {
		host			=> 'name.example',
		server_name		=> 'first',
		tunnel_target		=> "name.example:$port",
		tunnel_host		=> 'name.example',
		tunnel_port		=> $port,
		tunnel_address		=> $target,
		tunnel_resolve_time	=> $time,
		tunnel_connect_time	=> $time,
	} ],
	[ 'leading zero', 8080, "127.0.0.1:0$port", { answer => 5 }, {
		request_uri		=> "127.0.0.1:0$port",
		tunnel_target		=> $target,
		tunnel_port		=> $port,
	} ],
	[ 'upper case', 8080, "Name.EXAMPLE.:$port", { answer => 5 }, {
		request			=> "CONNECT Name.EXAMPLE.:$port HTTP/1.1",
		request_uri		=> "Name.EXAMPLE.:$port",
		host			=> 'name.example',
		tunnel_target		=> "name.example:$port",
		tunnel_host		=> 'name.example',
	} ],
	[ 'IPv6', 8080, "[0:0:0::1]:$port", {}, {
		request_uri		=> "[0:0:0::1]:$port",
		host			=> '[::1]',
		tunnel_target		=> "[::1]:$port",
		tunnel_host		=> '[::1]',
		tunnel_port		=> $port,
		tunnel_address		=> "[::1]:$port",
		tunnel_result		=> 'ok',
	} ],
	[ 'other host header', 8080, $target, { host => 'second', answer => 5 },
	{
		host			=> '127.0.0.1',
		http_host		=> 'second',
		server_name		=> 'first',
		tunnel_target		=> $target,
	} ],
	[ 'map', 8080, 'mapped.example:1', { answer => 5 }, {
		request_uri		=> 'mapped.example:1',
		tunnel_target		=> $target,
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $port,
		tunnel_address		=> $target,
		tunnel_resolve_time	=> '-',
	} ],
	[ 'group', 8080, 'group.example:1', {}, {
		tunnel_target		=> 'group.example:1',
		tunnel_address		=> 'unix:' . $t->testdir() . '/unix.sock',
		tunnel_result		=> 'ok',
		tunnel_resolve_time	=> '-',
		tunnel_connect_time	=> $time,
	} ],
	[ 'literal', 8084, 'any.example:443', {}, {
		host			=> 'any.example',
		tunnel_target		=> 'any.example:443',
		tunnel_address		=> 'unix:' . $t->testdir() . '/unix.sock',
		tunnel_result		=> 'ok',
	} ],

	# other ends

	[ 'idle', 8082, $target, { wait => 1, answer => 5 }, {
		server_name		=> 'timeout',
		tunnel_reason		=> 'idle_timeout',
		tunnel_bytes_sent	=> 5,
		tunnel_time		=> qr/^0\.[2-9]\d\d$|^[1-7]\./,
		request_time		=> qr/^0\.[2-9]\d\d$|^[1-7]\./,
	} ],
	[ 'client reset', 8080, "127.0.0.1:$quiet", { reset => 1 }, {
		status			=> 200,
		tunnel_reason		=> 'client_reset',
	} ],
	[ 'target reset', 8080, '127.0.0.1:' . port(8090), { send => 'x',
		wait => 1 }, {
		status			=> 200,
		tunnel_reason		=> 'target_reset',
		tunnel_bytes_received	=> 1,
		tunnel_bytes_sent	=> 0,
	} ],

	# refused

	[ 'bad_request', 8080, 'no.port.example', { status => 400 }, {
		@none,
		request			=> 'CONNECT no.port.example HTTP/1.1',
		request_method		=> 'CONNECT',
		request_uri		=> 'no.port.example',
		tunnel_result		=> 'bad_request',
	} ],
	[ 'body', 8080, $target, { status => 400,
		headers => [ 'Content-Length: 1' ], early => 'X' }, {
		@none,
		host			=> '127.0.0.1',
		tunnel_target		=> $target,
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $port,
		tunnel_result		=> 'bad_request',
	} ],
	[ 'bad_version', 8080, $target, { status => 505, version => '1.0' }, {
		@none,
		request			=> "CONNECT $target HTTP/1.0",
		server_protocol		=> 'HTTP/1.0',
		tunnel_target		=> $target,
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $port,
		tunnel_result		=> 'bad_version',
	} ],
	[ 'denied_name', 8080, 'denied.example:443', { status => 403 }, {
		@none,
		uri			=> '/',
		host			=> 'denied.example',
		tunnel_target		=> 'denied.example:443',
		tunnel_host		=> 'denied.example',
		tunnel_port		=> 443,
		tunnel_result		=> 'denied_name',
	} ],
	[ 'empty target', 8080, 'empty.example:443', { status => 403 }, {
		tunnel_target		=> 'empty.example:443',
		tunnel_result		=> 'denied_name',
	} ],
	[ 'bad target', 8080, 'bad.example:443', { status => 500 }, {
		tunnel_target		=> 'bad.example:443',
		tunnel_result		=> 'internal',
	} ],
	[ 'denied_address', 8080, "127.0.0.3:$port", { status => 403 }, {
		@none,
		tunnel_target		=> "127.0.0.3:$port",
		tunnel_host		=> '127.0.0.3',
		tunnel_port		=> $port,
		tunnel_result		=> 'denied_address',
	} ],
	[ 'denied_address of a name', 8080, "third.example:$port",
		{ status => 403 }, {
		@none,
		tunnel_target		=> "third.example:$port",
		tunnel_host		=> 'third.example',
		tunnel_port		=> $port,
		tunnel_result		=> 'denied_address',
		tunnel_resolve_time	=> $time,
	} ],
	[ 'resolve_failed', 8080, 'nosuch.example:443', { status => 502 }, {
		@none,
		tunnel_target		=> 'nosuch.example:443',
		tunnel_host		=> 'nosuch.example',
		tunnel_port		=> 443,
		tunnel_result		=> 'resolve_failed',
		tunnel_resolve_time	=> qr/^\d+\.\d{3}$|^-$/,
	} ],
	[ 'refused', 8080, "127.0.0.1:$closed", { status => 502 }, {
		@none,
		tunnel_target		=> "127.0.0.1:$closed",
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $closed,
		tunnel_result		=> 'refused',
	} ],

	# not by the tunnel

	[ 'deny', 8085, $target, { status => 403 }, {
		@none,
		tunnel_target		=> $target,
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $port,
	} ],
	[ 'no tunnel here', 8086, $target, { status => 405 }, {
		@none,
		tunnel_target		=> $target,
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $port,
	} ],

	# behind an error_page

	[ 'error_page', 8083, 'denied.example:443', { status => 403,
		body => qr/SEE-PAGE/, auth => 'user:secret' }, {
		@none,
		request			=> 'CONNECT denied.example:443 HTTP/1.1',
		request_uri		=> 'denied.example:443',
		uri			=> '/page.html',
		host			=> 'denied.example',
		server_name		=> 'pages',
		body_bytes_sent		=> 8,
		remote_user		=> 'user',
		tunnel_target		=> 'denied.example:443',
		tunnel_host		=> 'denied.example',
		tunnel_port		=> 443,
		tunnel_result		=> 'denied_name',
	} ],
	[ 'error_page named', 8083, "127.0.0.1:$closed", { status => 502,
		body => qr/NAMED 127\.0\.0\.1:$closed refused 127\.0\.0\.1$/,
		auth => 'user:secret' }, {
		@none,
		tunnel_target		=> "127.0.0.1:$closed",
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $closed,
		tunnel_result		=> 'refused',
	} ],
	[ 'error_page 407', 8083, $target, { status => 407,
		body => qr/SEE-PAGE/, headers => [ 'Connection: close' ] }, {
		@none,
		request_method		=> 'GET',
		tunnel_target		=> $target,
		tunnel_host		=> '127.0.0.1',
		tunnel_port		=> $port,
	} ],

	# in if

	[ 'port in if', 8087, 'a.example:25', { status => 403,
		body => qr/PORT$/ }, { tunnel_result => '-' } ],
	[ 'host in if', 8087, 'NAMED.example:443', { status => 403,
		body => qr/HOST$/ }, { tunnel_result => '-' } ],
	[ 'core in if', 8087, 'host.example:443', { status => 403,
		body => qr!CORE host\.example:443 / CONNECT$! }, {} ],
	[ 'regex in if', 8087, 'regex.example:443', { status => 403,
		body => qr/REGEX regex$/ }, {} ],
	[ 'no result yet in if', 8087, $target, { answer => 5 },
		{ tunnel_result => 'ok' } ],
);

$t->plan(scalar(map { (1, 1, keys %{$_->[4]}) } @tests) + 3 + 8 + 2 * 3);
$t->run();

###############################################################################

for my $case (@tests) {
	my ($name, $server, $authority, $opt, $expect) = @$case;

	my $seen = () = log_lines($t, 'all.log');
	my ($head, $rest) = request($server, $authority, %$opt);
	my $status = $opt->{status} || 200;
	my $length = $opt->{answer} || 0;

	like($head, qr!^HTTP/1\.1 $status !, "$name status");

	if (defined $opt->{body}) {
		like($rest, $opt->{body}, "$name body");

	} elsif ($status == 200) {
		is(length $rest, $length, "$name body");

	} else {
		like($rest, qr/<h1>$status /, "$name body");
	}

	my $got = logged($t, $seen);

	for my $variable (sort keys %$expect) {
		my $value = $expect->{$variable};

		if (ref $value) {
			like($got->{$variable}, $value, "$name $variable");

		} else {
			is($got->{$variable}, $value, "$name $variable");
		}
	}

	next unless $name eq 'completed';

	is($got->{bytes_sent}, length($head) + 10005, "$name bytes_sent");

	# not of the same clock

	cmp_ok($got->{request_time}, '>=', $got->{tunnel_time} - 0.01,
		"$name request_time");
	is(scalar(() = log_lines($t, 'ok.log')), 1, "$name in map");
}

# in the head of the answer

my ($head) = request(8080, $target, answer => 5);
like($head, qr/^X-Target: \Q$target\E\x0d$/m, 'target in header');
like($head, qr/^X-Address: \Q$target\E\x0d$/m, 'address in header');
like($head, qr/^X-Result: ok\x0d$/m, 'result in header');
unlike($head, qr/^X-Reason/m, 'no reason in header');

($head) = request(8080, 'denied.example:443');
like($head, qr/^X-Target: denied\.example:443\x0d$/m,
	'target in header of an error');
unlike($head, qr/^X-Address/m, 'no address in header of an error');
like($head, qr/^X-Result: denied_name\x0d$/m, 'result in header of an error');
unlike($head, qr/^X-Reason/m, 'no reason in header of an error');

# other requests have none

for my $case (
	[ 'GET', "GET /uri?args HTTP/1.1\x0d\x0aHost: second\x0d\x0a"
		. "Connection: close\x0d\x0a\x0d\x0a" ],
	[ 'unknown method', "TUNNEL /$target HTTP/1.1\x0d\x0aHost: a\x0d\x0a"
		. "Connection: close\x0d\x0a\x0d\x0a" ],
) {
	my ($name, $bytes) = @$case;

	my $seen = () = log_lines($t, 'all.log');
	my $s = tcp_connect(port(8080));
	write_all($s, $bytes);
	my $r = read_all($s);
	my $got = logged($t, $seen);

	is(join('', map { $got->{$_} } @tunnel), '-' x @tunnel, "$name has none");
	unlike($r, qr/^X-/m, "$name has none in header");
	is($got->{request_uri}, $name eq 'GET' ? '/uri?args' : "/$target",
		"$name request_uri");
}

###############################################################################

# The head of the answer, and everything behind it.

sub request {
	my ($server, $authority, %opt) = @_;

	my $s = tcp_connect(port($server));

	write_all($s, connect_request($authority, %opt));
	write_all($s, $opt{send}) if defined $opt{send};

	my $head = read_head($s);

	if ($head =~ m!^HTTP/1\.1 200 !) {
		if ($opt{reset}) {
			reset_close($s);
			return ($head, '');
		}

		# the other side ends it

		half_close($s) unless $opt{wait};
	}

	my $rest = read_all($s);
	return ($head, $rest);
}

# The variables of the line that comes behind the first ones.

sub logged {
	my ($t, $seen) = @_;

	my @lines;
	wait_for(sub {
		@lines = log_lines($t, 'all.log');
		return @lines > $seen;
	}, 5);

	my $line = @lines > $seen ? $lines[$seen] : '';
	chomp $line;

	return { map { /^([^=]+)=(.*)$/ ? ($1 => $2) : () } split /\|/, $line };
}

###############################################################################
