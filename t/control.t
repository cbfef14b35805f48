#!/usr/bin/perl

# Tests for tunnel_control: tunnels that are ended by a request.

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

use IO::Select qw//;
use JSON::PP qw//;
use POSIX qw//;
use Time::HiRes qw/ time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MB	=> 1048576,
	MANY	=> 300,
	TRIES	=> 40,		# to meet both workers
};

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 access auth_basic
	stream stream_ssl socket_ssl_alpn/)->plan(577);

my $d = $t->testdir();

make_cert($t, 'localhost');
$t->write_file('users', "admin:{PLAIN}secret\n");
$t->write_file('clients', "alice:{PLAIN}secret\n");

port($_) for 8070, 8080 .. 8089, 8091 .. 8099, 8443;

$t->write_file_expand('nginx.conf', h2_conf($t, <<'EOF'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
    worker_connections 4096;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$tunnel_id $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    tunnel_zone tunnels:4m;
    tunnel_zone_key $http_x_key max=2000;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    tunnel_preread_timeout 30s;

    ssl_certificate localhost.crt;
    ssl_certificate_key localhost.key;

    upstream group {
        server 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8080 reuseport;
        listen [::1]:%%PORT_8080%%;
        connect_tunnel;
        tunnel_label plain;
    }

    server {
        LISTEN 127.0.0.1:8081 reuseport;
        connect_tunnel;
        tunnel_label h2;
    }

    server {
        LISTEN 127.0.0.1:8443 ssl reuseport;
        connect_tunnel;
        tunnel_label tls;
    }

    server {
        listen 127.0.0.1:8082;
        connect_tunnel group;
        tunnel_label group;
        tunnel_anonymous_log on;
    }

    server {
        listen 127.0.0.1:8083 reuseport;
        connect_tunnel;
        relay_splice on;
        tunnel_label splice;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;
        tunnel_label policy;

        location / {
            connect_tunnel;
            relay_max_rate $http_x_rate;
            target_require_tls $http_x_tls;
        }
    }

    server {
        listen 127.0.0.1:8070 reuseport;
        access_log off;

        location /status {
            tunnel_status;
            tunnel_control on;
            add_header X-Pid $pid always;
        }

        location /off {
            tunnel_status;
        }

        location /off2 {
            tunnel_status;
            tunnel_control off;
        }

        location /off3 {
            tunnel_status;
            tunnel_control on;

            location /off3/inner {
                tunnel_status;
            }
        }

        location /off4 {
            tunnel_status;

            if ($request_method = DELETE) {
                set $changed 1;
            }
        }

        location /deny {
            tunnel_status;
            tunnel_control on;
            deny all;
        }

        location /allow {
            tunnel_status;
            tunnel_control on;
            allow 127.0.0.1;
            deny all;
        }

        location /auth {
            tunnel_status;
            tunnel_control on;
            auth_basic "tunnels";
            auth_basic_user_file users;
        }

        # who may look, but not touch

        location /except {
            tunnel_status;
            tunnel_control on;

            limit_except GET {
                auth_basic "tunnels";
                auth_basic_user_file users;
            }
        }

        location /if {
            tunnel_status json;
            tunnel_control on;

            if ($request_method = DELETE) {
                set $changed 1;
            }
        }

        location /other {
            tunnel_zone other:64k;
            tunnel_status;
            tunnel_control on;
        }
    }

    server {
        LISTEN 127.0.0.1:8089;
        access_log off;

        location /status {
            tunnel_status;
            tunnel_control on;
        }
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$tunnel_id $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    tunnel_zone tunnels;
    tunnel_zone_key $remote_port:$server_port max=2000;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    socks_bind on;
    socks_udp on;

    server {
        listen 127.0.0.1:8085 reuseport;
        socks;
        tunnel_label open;
    }

    server {
        listen 127.0.0.1:8086 reuseport;
        socks 5;
        socks_auth basic "clients" clients;
        tunnel_zone_key $socks_user;
        tunnel_label users;
    }

    server {
        listen 127.0.0.1:8087 reuseport;
        passthrough 127.0.0.1:8091;
        tunnel_label passthrough;
    }

    server {
        listen 127.0.0.1:8088 reuseport;
        tunnel_preread on;
        passthrough 127.0.0.1:8091;
        tunnel_label preread;
    }
}

EOF

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&echo_daemon, port(8092));
start_daemon($t, \&source_daemon, port(8093), bytes => 1 << 40);
start_daemon($t, \&sink_daemon, port(8094), report => "$d/sink");
start_daemon($t, \&fin_first_daemon, port(8095), report => "$d/fin");
start_daemon($t, \&hold_daemon, port(8096));
start_daemon($t, \&hold_daemon, port(8097));
my $full = full_backlog(port(8098));

$t->run();

my ($first, $second);
wait_for(sub { ($first, $second) = workers($t); return $second });
my ($opened, $killed) = (0, 0);

###############################################################################

fronts_tests();
match_tests();
moving_tests();
refused_tests();
origin_tests();
access_tests();
one_tests();
h2_tests();
many_tests();
reload_tests();

my $last = wait_status(sub { !$_[0]->{total}{active} });
ok($last, 'none is left');
is($last->{total}{ended}{killed}, $killed, 'all are counted');
is(scalar(grep { / killed / } log_lines($t, 'tunnel.log')), $killed,
	'all are logged');
is(join("\n", status_bad($last)), '', 'counters agree');

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

# Tunnels of each front end, one in each worker, and requests that one of the
# workers has.

sub fronts_tests {
	my %open = (
		'connect' => sub { connect_open(8080, 8091) },
		'connect, TLS' => sub {
			connect_open(8443, 8091, ssl => 1) },
		'connect, HTTP/2' => sub { h2_open(8081, 8091) },
		'connect, HTTP/2, TLS' => sub {
			h2_open(8443, 8091, ssl => 1) },
		'socks 4' => sub { socks_open('4', 8091) },
		'socks 4a' => sub { socks_open('4a', 8091) },
		'socks 5' => sub { socks_open('5', 8091) },
		'passthrough' => sub { passthrough_open(8087) },
		'preread' => sub { passthrough_open(8088,
			client_hello(sni => 'a.example')) },
		'associate' => sub { associate_open() },
		'bind 4' => sub { bind_open('4') },
		'bind 5' => sub { bind_open('5') },
	);

	my (@all, %name);

	for my $name (sort keys %open) {
		my @pair = pair($open{$name});

		is(scalar @pair, 2, "$name, a tunnel in each worker");

		for my $i (0 .. $#pair) {
			my $r = $pair[$i];

			is($r->{echo}->('hello'), 'hello', "$name, works");
			$r->{name} = $name
				. ($i ? ', other worker' : ', same worker');
			push @all, $r;
		}
	}

	my $n = 0;

	for my $r (@all) {
		my $id = $r->{id};

		is(by_worker($first, $n++ % 4 < 2 ? "/tunnels/$id"
			: "?id=$id"), '202 tunnels:1 version:1', "$r->{name}");
	}

	for my $r (@all) {
		isnt($r->{end}->(), 'TIMEOUT', "$r->{name}, client told");

		my $bytes = $r->{early} + 5;
		my $line = wait_log($t, 'tunnel.log', qr/^$r->{id} /);
		is($line, "$r->{id} killed $bytes $bytes",
			"$r->{name}, logged");
	}

	my $info = join "\n", grep { /ended: killed/ }
		log_lines($t, 'error.log');

	is(join(' ', grep { $info !~ /\[info\] .*tunnel .*
			ended:\ killed,\ received:\ \d+,\ sent:\ \d+,
			\ time:\ \d+\.\d{3},\ id:\ $_/x }
		map { $_->{id} } @all), '', 'error log has them');

	is(ended("/tunnels/$_->{id}"),
		'404 error:text version:1', "$_->{name}, not again") for @all;

	$killed += @all;

	my $status = wait_status(sub { !$_[0]->{total}{active} });
	is($status && $status->{total}{ended}{killed}, $killed, 'counted');
}

# The tunnel of an attempt that has come to each worker: first is that of the
# worker that is asked.

sub pair {
	my ($open) = @_;

	my %of;

	for (1 .. TRIES) {
		my $r = $open->() or next;
		my $tunnel = found($r->{key}) or next;

		$r->{id} = $tunnel->{id};

		if ($of{$tunnel->{pid}}) {
			$r->{close}->();
			next;
		}

		$of{$tunnel->{pid}} = $r;

		return @of{$first, $second} if $of{$first} && $of{$second};
	}

	return values %of;
}

###############################################################################

sub match_tests {
	my $port = port(8092);

	# target

	my @other = map { connect_open(8080, 8091) } 1 .. 6;
	my @s = ((map { connect_open(8080, 8092) } 1 .. 5),
		(map { socks_open('5', 8092) } 1 .. 5), h2_open(8081, 8092));

	is(ended("target=127.0.0.1:$port"),
		'202 tunnels:11 version:1', 'target');
	told('target', @s);

	@s = map { connect_open(8080, 8092) } 1 .. 2;
	is(ended('target=%3127.0.0.1%3a' . $port),
		'202 tunnels:2 version:1', 'target, escaped');
	told('target, escaped', @s);

	my $group = connect_open(8082, 8099);
	is(ended('target=' . found($group->{key})->{target}),
		'202 tunnels:1 version:1', 'target, upstream group');
	told('target, upstream group', $group);

	my $u = associate_open();
	is(ended('target=UDP'), '202 tunnels:1 version:1',
		'target, associations');
	told('target, associations', $u);

	# key

	for my $key ('plain', 'a b&c=d%/?#;+"<\'', "\xc3\xa9\xe2\x82\xac",
		'%61', '+', "tab\there", 'x' x 255)
	{
		my $name = 'key ' . substr(uri_escape($key), 0, 30);

		@s = map { connect_open(8080, 8092, key => $key) } 1 .. 3;
		my $near = connect_open(8080, 8092, key =>
			length $key < 255 ? "$key." : 'x' x 254);

		is(ended('key=' . uri_escape($key)),
			'202 tunnels:3 version:1', $name);
		told($name, @s);
		alive("$name, another", $near);
		$near->{close}->();
	}

	@s = map { user_open('alice') } 1 .. 2;
	is(ended('user=alice'), '202 tunnels:2 version:1',
		'user');
	told('user', @s);

	# one who cuts his key meets what is cut like that

	my $long = connect_open(8080, 8091, key => 'y' x 300);
	is(ended('key=' . 'y' x 255), '202 tunnels:1 version:1', 'key, cut');
	told('key, cut', $long);

	# client

	@s = map { connect_open(8080, 8091, from => '127.0.0.7') } 1 .. 4;
	my $anonymous = connect_open(8082, 8091, from => '127.0.0.7');

	is(ended('client=127.0.0.7'),
		'202 tunnels:4 version:1', 'client');
	told('client', @s);
	alive('client, anonymous', $anonymous);
	is((delete_tunnel('client=127.0.0.7'))[0], 404, 'client, no more');
	is((delete_tunnel("client=$_"))[0], $_ eq '' ? 400 : 404,
		"anonymous client is not \"$_\"") for '', '-', 'null';
	alive('nobody meets an anonymous client', $anonymous);
	$anonymous->{close}->();

	my $six = connect_open('[::1]:' . port(8080), 8091);
	is(ended('client=%3A%3a1'),
		'202 tunnels:1 version:1', 'client, IPv6');
	told('client, IPv6', $six);

	# not open yet

	my $s = tcp_connect(port(8080));
	write_all($s, connect_request('127.0.0.1:' . port(8098)));
	ok(wait_status(sub { $_[0]->{total}{connecting} == 1 }), 'connecting');
	is((delete_tunnel('target=127.0.0.1:' . port(8098)))[0], 404,
		'connecting, none');
	is(status()->{total}{connecting}, 1, 'connecting goes on');
	reset_close($s);
	ok(wait_status(sub { !$_[0]->{total}{connecting} }), 'not any more');

	my ($b, $code) = socks_command(port(8085), '5', 'bind', '0.0.0.0', 0);
	ok(wait_status(sub { $_[0]->{total}{connecting} == 1 }),
		'bind, waiting') or diag($code);
	ok(wait_status(sub { @{$_[0]->{tunnels}} == @other }), 'bind, none');
	close $b;

	# and all the others

	alive('other tunnels', @other);
	is(ended('client=127.0.0.1'),
		'202 tunnels:6 version:1', 'all of a client');
	told('all of a client', @other);

	$killed += 11 + 2 + 1 + 1 + 7 * 3 + 2 + 1 + 4 + 1 + 6;
}

###############################################################################

# While bytes move, or wait.

sub moving_tests {
	my %end = (
		'download' => [ reader(connect_open(8080, 8093)) ],
		'download, splice' => [ reader(connect_open(8083, 8093)) ],
		'download, TLS' => [
			reader(connect_open(8443, 8093, ssl => 1)) ],
		'upload' => [ writer(connect_open(8080, 8094)) ],
		'upload, splice' => [ writer(connect_open(8083, 8094)) ],
		'upload, TLS' => [
			writer(connect_open(8443, 8094, ssl => 1)) ],
		'socks' => [ reader(socks_open('5', 8093)) ],
	);

	# nobody reads

	my %stalled = (
		'stalled client' => connect_open(8080, 8093),
		'stalled client, splice' => connect_open(8083, 8093),
		'stalled client, TLS' => connect_open(8443, 8093, ssl => 1),
		'stalled client, HTTP/2' => h2_open(8081, 8093),
		'stalled target' => connect_open(8083, 8096),
		'rate' => connect_open(8084, 8093, headers =>
			[ 'X-Rate: 2k' ]),
		'held hello' => connect_open(8084, 8091, headers =>
			[ 'X-Tls: on' ]),
		'half closed' => connect_open(8083, 8096),
		'half closed by the target' => connect_open(8083, 8095),
	);

	push_bytes($stalled{'stalled target'}{s}, pattern(16 * MB));
	write_all($stalled{'held hello'}{s}, substr client_hello(), 0, 50);
	write_all($stalled{'half closed'}{s}, 'hello');
	half_close($stalled{$_}{s}) for 'half closed';
	read_n($stalled{'half closed by the target'}{s}, 10);

	ok(wait_status(sub {
		my ($status) = @_;

		return !grep { status_tunnel($status, key => $_->{key})->{sent}
			+ status_tunnel($status, key => $_->{key})->{received}
			< 5 * MB } map { $_->[0] } values %end;
	}), 'bytes move');

	my %moved;

	for my $name (sort(keys %end), sort keys %stalled) {
		my $r = $end{$name} ? $end{$name}[0] : $stalled{$name};
		my $tunnel = found($r->{key});

		$r->{id} = $tunnel->{id};
		is(ended("id=$tunnel->{id}"),
			'202 tunnels:1 version:1', $name);
		$killed++;
	}

	for my $name (sort keys %end) {
		my ($r, $pipe) = @{$end{$name}};
		$moved{$name} = pipe_read($pipe);
		like($moved{$name}, qr/^\d+ (?!TIMEOUT)\w/, "$name, told");
	}

	for my $name (sort keys %stalled) {
		isnt(scalar $stalled{$name}{end}->(), 'TIMEOUT',
			"$name, told");
	}

	my ($received, $sent) = (0, 0);

	for my $name (sort(keys %end), sort keys %stalled) {
		my $r = $end{$name} ? $end{$name}[0] : $stalled{$name};

		my $line = wait_log($t, 'tunnel.log', qr/^$r->{id} /) || '';
		like($line, qr/ killed /, "$name, logged");

		my @bytes = $line =~ /(\d+) (\d+)$/ or next;
		my ($n) = ($moved{$name} || '') =~ /^(\d+)/ or next;

		cmp_ok($n, $name =~ /^upload/ ? '>=' : '<=',
			$bytes[$name =~ /^upload/ ? 0 : 1],
			"$name, as much as is logged");
	}

	ok(wait_for(sub { my @n = log_lines($t, 'sink'); @n == 3 }),
		'targets told') or diag(scalar log_lines($t, 'sink'));

	delete $stalled{'stalled client, HTTP/2'};

	# to the byte

	ok(wait_status(sub { !$_[0]->{total}{active} }), 'all have ended');

	for (log_lines($t, 'tunnel.log')) {
		my (undef, $reason, @bytes) = split;
		next if $reason eq '-';

		$received += $bytes[0];
		$sent += $bytes[1];
	}

	my $total = status()->{total};
	is("$total->{received} $total->{sent}", "$received $sent",
		'counters and log agree');

	ok(wait_for(sub { tcp_count($first) + tcp_count($second) == 0 }),
		'no sockets are left');
	cmp_ok(status()->{workers}[$_]{buffers}, '==', 0, 'no buffers')
		for 0, 1;
	is(status()->{total}{memory}, 0, 'no memory');
}

# A process that reads to the end, or writes, and tells how much that was and
# how it ended.

sub reader {
	my ($r) = @_;

	return beside($r, sub {
		my ($n, $state, $bytes) = (0, 'OK');

		while ($state eq 'OK') {
			($bytes, $state) = Test::Nginx::Tunnel::read_some(
				$r->{s}, 65536, time() + 15);
			$n += length $bytes;
		}

		return "$n $state";
	});
}

sub writer {
	my ($r) = @_;

	return beside($r, sub {
		my $n = 0;
		my $bytes = pattern(65536);

		while ((my $done = write_all($r->{s}, $bytes, 15)) > 0) {
			$n += $done;
			last if $done < length $bytes;
		}

		return "$n END";
	});
}

sub beside {
	my ($r, $code) = @_;

	pipe(my $in, my $out) or die "pipe: $!\n";

	$t->run_daemon(sub {
		syswrite $out, $code->();
		POSIX::_exit(0);
	});

	close $out;

	# it is that process that has the connection

	$r->{s}->isa('IO::Socket::SSL')
		? $r->{s}->close(SSL_no_shutdown => 1) : close $r->{s};

	return ($r, $in);
}

sub pipe_read {
	my ($pipe) = @_;

	return 'nothing' unless IO::Select->new($pipe)->can_read(20);

	sysread $pipe, my $text, 100;
	return $text;
}

###############################################################################

sub refused_tests {
	my @live = map { connect_open(8080, 8091, key => "live$_") } 1 .. 4;
	$_->{id} = found($_->{key})->{id} for @live;

	my $id = $live[0]{id};
	my $ended = connect_open(8080, 8091);
	my $wrong = found($ended->{key})->{id};
	$ended->{close}->();
	ok(wait_status(sub { $_[0]->{total}{active} == @live }), 'one ended');

	# an id, and its place in the table, of before

	push @live, connect_open(8080, 8091, key => 'next');

	my $target = '127.0.0.1:' . port(8091);

	for (
		[ '', 400 ],
		[ '?', 400 ],
		[ '?id=', 400 ],
		[ '?id', 400 ],
		[ '?target=', 400 ],
		[ '?key=', 400 ],
		[ '?user=', 400 ],
		[ '?client=', 400 ],
		[ '?all=1', 400 ],
		[ '?identity=' . $id, 400 ],
		[ "?xid=$id", 400 ],
		[ "?id=$id&target=$target", 400 ],
		[ "?id=$id&client=127.0.0.1", 400 ],
		[ '?key=live1&user=live2', 400 ],
		[ "?target=$target&client=127.0.0.1", 400 ],
		[ "?id=$id&format=xml", 400 ],
		[ '?id=0', 404 ],
		[ '?id=0000000000000000', 404 ],
		[ '?id=ffffffffffffffff', 404 ],
		[ "?id=$wrong", 404 ],
		[ '?id=' . substr($id, 1), 404 ],
		[ '?id=' . substr($id, 0, 15), 404 ],
		[ "?id=${id}0", 404 ],
		[ "?id=0$id", 404 ],
		[ "?id=0x$id", 404 ],
		[ "?id=$id%00", 404 ],
		[ "?id=$id%20", 404 ],
		[ "?id=+$id", 404 ],
		[ '?id=*', 404 ],
		[ '?id=-1', 404 ],
		[ '?id=gggggggggggggggg', 404 ],
		[ "?id=$id,$live[1]{id}", 404 ],
		[ '?target=*', 404 ],
		[ '?target=127.0.0.1', 404 ],
		[ '?target=' . port(8091), 404 ],
		[ "?target=$target%00", 404 ],
		[ "?target=${target}0", 404 ],
		[ '?target=' . substr($target, 0, -1), 404 ],
		[ '?key=live', 404 ],
		[ '?key=live11', 404 ],
		[ '?key=LIVE1', 404 ],
		[ '?key=live1%00', 404 ],
		[ '?key=*', 404 ],
		[ '?key=%', 400 ],
		[ '?key=' . 'x' x 3000, 404 ],
		[ '?client=127.0.0.0/8', 404 ],
		[ '?client=127.0.0.', 404 ],
		[ '?client=127.0.0.10', 404 ],
		[ '?client=unix:', 404 ],
		[ '?client=' . 'x' x 3000, 404 ],
		[ "/tunnels/$wrong", 404 ],
		[ '/tunnels/', 404 ],
		[ '/tunnels', 404 ],
		[ "/tunnels/$id/", 404 ],
		[ "/tunnels/$id/$id", 404 ],
		[ "/tunnels/$id.json", 404 ],
		[ "/tunnels//", 404 ],
		[ "/tunnels/ $id" =~ s/ /%20/r, 404 ],
		[ "/$id", 404 ],
		[ "/x/tunnels/$id", 404 ],
		[ "x/tunnels/$id", 404 ],
		[ "/tunnels/tunnels/$id", 404 ],
	)
	{
		my ($query, $code) = @$_;
		my ($got, $head, $body)
			= status_request("/status$query", method => 'DELETE');

		is($got, $code, 'refused "' . substr($query, 0, 40) . '"');
		like($body, qr/\A\{"version":1,"error":"[^"]+"\}\n\z/,
			"refused, answer") if $query =~ /^\?/;
	}

	alive('refused, none ended', @live);

	# methods

	for my $method (qw/ POST PUT PATCH OPTIONS PROPFIND MKCOL KILL
		delete /)
	{
		my ($code, $head) = status_request("/status?id=$id",
			method => $method, body => '{"method":"DELETE"}',
			headers => [ 'X-HTTP-Method-Override: DELETE',
				'Content-Type: application/json' ]);

		like("$code $head", $method eq 'delete' ? qr/^4\d\d /
			: qr/^405 .*^Allow: .*GET.*\bHEAD\b/ms,
			"method $method");
		unlike($head, qr/^Access-Control-/mi, "$method, no CORS");
	}

	for my $method (qw/ GET HEAD POST /) {
		status_request("/status/tunnels/$id?method=DELETE&_method="
			. 'DELETE&id=' . $id, method => $method);
	}

	alive('other methods end none', @live);

	# off

	for my $uri (qw! /off /off2 /off3/inner /off4 !) {
		for my $query ("?id=$id", '?key=live1', "/tunnels/$id", '',
			'?id=0', "?target=$target")
		{
			my ($code, $head, $body) = status_request(
				"$uri$query", method => 'DELETE');

			like("$code $body", qr/\A403 \{"version":1,"error":"/,
				"off, $uri$query" =~ s/[\da-f]{16}/ID/r);
		}
	}

	is((status_request('/off?format=json'))[2] =~ /"control":(\w+)/ && $1,
		'false', 'off, told');
	is((status_request('/status?format=json'))[2] =~ /"control":(\w+)/
		&& $1, 'true', 'on, told');

	# another zone

	is((status_request("/other?id=$id", method => 'DELETE'))[0], 404,
		'other zone');

	alive('off, none ended', @live);

	# what is right, after all that; with a body, and twice

	my $s = tcp_connect(port(8070));
	my $request = "DELETE /status?id=" . uc($id) . " HTTP/1.1\x0d\x0a"
		. "Host: localhost\x0d\x0aContent-Length: 5\x0d\x0a\x0d\x0a"
		. 'hello';
	write_all($s, $request x 2);
	like(scalar http_answer($s), qr/^HTTP\/1.1 202 .*"tunnels":1\}\n\z/s,
		'a body, and upper case');
	like(scalar http_answer($s), qr/^HTTP\/1.1 (?:202|404) /,
		'again, at once');
	told('a body, and upper case', shift @live);
	alive('all the others', @live);

	$_->{close}->() for @live;
	wait_status(sub { !$_[0]->{total}{active} });
	$killed++;

	is(status()->{total}{ended}{killed}, $killed, 'one was ended');
}

###############################################################################

# CSRF

sub origin_tests {
	my $r = connect_open(8080, 8091);
	my $id = found($r->{key})->{id};

	for (
		[ 'another site', 'Origin: http://evil.example' ],
		[ 'as long', 'Origin: http://evil.host' ],
		[ 'null', 'Origin: null' ],
		[ 'empty', 'Origin:' ],
		[ 'another port', 'Origin: http://localhost:81' ],
		[ 'longer', 'Origin: http://localhost.evil.example' ],
		[ 'behind', 'Origin: http://evil.localhost' ],
		[ 'shorter', 'Origin: http://localhos' ],
		[ 'user', 'Origin: http://localhost@evil.example' ],
		[ 'its user', 'Origin: http://evil@localhost' ],
		[ 'path', 'Origin: http://evil.example/localhost' ],
		[ 'fragment', 'Origin: http://evil.example#://localhost' ],
		[ 'no scheme', 'Origin: localhost' ],
		[ 'no host', 'Origin: http://' ],
		[ 'two', 'Origin: http://evil.example http://localhost' ],
		[ 'cross-site', 'Sec-Fetch-Site: cross-site' ],
		[ 'same-site', 'Sec-Fetch-Site: same-site' ],
		[ 'unknown site', 'Sec-Fetch-Site: x' ],
		[ 'empty site', 'Sec-Fetch-Site:' ],
		[ 'right, cross-site', 'Origin: http://localhost',
			'Sec-Fetch-Site: cross-site' ],
		[ 'another, same-origin', 'Origin: http://evil.example',
			'Sec-Fetch-Site: same-origin' ],
		[ 'another, none', 'Origin: http://evil.example',
			'Sec-Fetch-Site: none' ],
		[ 'no port', 'Host: localhost:8070',
			'Origin: http://localhost' ],
	)
	{
		my ($name, @headers) = @$_;

		for my $query ("/tunnels/$id", "?id=$id") {
			my ($code, $head, $body) = status_request(
				"/status$query", method => 'DELETE',
				headers => \@headers);

			like("$code $body", qr/\A403 \{"version":1,"error":"/,
				"origin, $name");
		}
	}

	# whoever is refused does not learn whether there is such a tunnel

	is((status_request('/status?id=0', method => 'DELETE',
		headers => [ 'Origin: http://evil.example' ]))[0], 403,
		'origin, none there');

	my ($code, $head) = status_request('/status?id=0', method => 'OPTIONS',
		headers => [ 'Origin: http://evil.example',
			'Access-Control-Request-Method: DELETE' ]);
	unlike("$code $head", qr/^2|^Access-Control-/mi, 'preflight');

	# to look is not refused, though no other site gets to see it

	($code, $head) = status_request('/status?format=json',
		headers => [ 'Origin: http://evil.example' ]);
	is($code, 200, 'origin, GET');
	unlike($head, qr/^Access-Control-/mi, 'origin, GET, no CORS');

	alive('origin, none ended', $r);
	$r->{close}->();

	for (
		[ 'none' ],
		[ 'the same', 'Origin: http://localhost' ],
		[ 'the same, TLS', 'Origin: https://localhost' ],
		[ 'the same, with a port', 'Host: localhost:8070',
			'Origin: http://localhost:8070' ],
		[ 'the same, upper case', 'Origin: http://LocalHost' ],
		[ 'IPv6', 'Host: [::1]:8070', 'Origin: http://[::1]:8070' ],
		[ 'same-origin', 'Origin: http://localhost',
			'Sec-Fetch-Site: same-origin' ],
		[ 'no page', 'Sec-Fetch-Site: none' ],
	)
	{
		my ($name, @headers) = @$_;

		$r = connect_open(8080, 8091);
		$id = found($r->{key})->{id};

		is((status_request("/status/tunnels/$id", method => 'DELETE',
			headers => \@headers))[0], 202, "origin, $name");
		told("origin, $name", $r);
		$killed++;
	}
}

###############################################################################

sub access_tests {
	my $r = connect_open(8080, 8091);
	my $id = found($r->{key})->{id};

	my $no = [ 'Authorization: Basic YWRtaW46d3Jvbmc=' ];
	my $yes = [ 'Authorization: Basic YWRtaW46c2VjcmV0' ];

	for (
		[ '/deny', 403 ],
		[ '/auth', 401 ],
		[ '/auth', 401, $no ],
		[ '/except', 401 ],
		[ '/except', 401, $no ],
	)
	{
		my ($uri, $code, $headers) = @$_;

		for my $query ("/tunnels/$id", "?id=$id") {
			is((status_request("$uri$query", method => 'DELETE',
				headers => $headers || []))[0], $code,
				"access, $uri");
		}

		is((status_request("$uri/tunnels/$id",
			headers => $headers || []))[0],
			$uri eq '/except' ? 200 : $code, "access, $uri, GET");
	}

	alive('access, none ended', $r);
	$r->{close}->();

	for (
		[ '/allow' ],
		[ '/auth', $yes ],
		[ '/except', $yes ],
		[ '/if' ],
	)
	{
		my ($uri, $headers) = @$_;

		$r = connect_open(8080, 8091);
		$id = found($r->{key})->{id};

		is((status_request("$uri?id=$id", method => 'DELETE',
			headers => $headers || []))[0], 202,
			"access, $uri, lets through");
		told("access, $uri", $r);
		$killed++;
	}
}

###############################################################################

# GET and HEAD of one tunnel

sub one_tests {
	my $r = connect_open(8080, 8091);
	$r->{echo}->('hello');
	my $tunnel;
	wait_for(sub { $tunnel = found($r->{key}); $tunnel->{sent} == 5 });
	my $id = $tunnel->{id};

	for my $uri ('/status', '/off') {
		my ($code, $head, $body)
			= status_request("$uri/tunnels/$id");

		is($code, 200, "one, $uri");
		like($head, qr!^Content-Type: application/json\x0d?$!m,
			"one, type");
		like($head, qr!^Cache-Control: no-store\x0d?$!m, 'one, cache');

		my $one = eval { JSON::PP->new()->utf8()->decode($body) };
		$one = $one->{tunnels}[0] if $one && $one->{tunnels};

		is(join(' ', sort keys %{$one || {}}),
			join(' ', sort keys %$tunnel), 'one, fields');
		is(join(' ', map { $one->{$_} } qw/ id key target received
			sent pid start front_end server client address /),
			join(' ', map { $tunnel->{$_} } qw/ id key target
			received sent pid start front_end server client
			address /), 'one, values');
	}

	for my $method (qw/ GET HEAD /) {
		my ($code, $head, $body) = status_request(
			"/status/tunnels/$id", method => $method);

		like("$code $head", qr/^200 .*^Content-Length: [1-9]/ms,
			"one, $method");
		is(length $body > 0 ? 'body' : 'none',
			$method eq 'GET' ? 'body' : 'none', "one, $method");

		# no other format

		($code, $head) = status_request(
			"/status/tunnels/$id?format=html&limit=0",
			method => $method, headers => [ 'Accept: text/html' ]);
		like("$code $head", qr!^200 .*application/json!s,
			"one, $method, only JSON");
	}

	is(ended("/tunnels/$id"), '202 tunnels:1 version:1',
		'one, ended');
	told('one', $r);
	$killed++;

	ok(wait_for(sub { (status_request("/status/tunnels/$id"))[0] == 404 }),
		'one, gone');

	for my $query ($id, '0' x 16, '', 'x', "$id/", "$id.json", "0$id") {
		my ($code, $head, $body)
			= status_request("/status/tunnels/$query");
		is($code, 404, 'one, none, "' . $query =~ s/$id/ID/r . '"');

		($code, $head, $body) = status_request(
			"/status/tunnels/$query", method => 'HEAD');
		is("$code$body", '404', 'HEAD');
	}
}

###############################################################################

sub h2_tests {

	# one stream of a connection

	my $h2 = h2_client(port(8081));
	my @s = map { $h2->connect('127.0.0.1:' . port(8091), headers =>
		[ [ 'x-key', "stream$_" ] ]) } 1 .. 5;
	$_->echo('hello') for @s;
	$opened += @s;

	is(ended('key=stream3'), '202 tunnels:1 version:1',
		'stream');
	is($s[2]->wait_rst(), 'CANCEL', 'stream, told');
	is($_->echo('again'), 'again', 'other streams') for @s[0, 1, 3, 4];
	is($h2->connect('127.0.0.1:' . port(8091))->echo('new'), 'new',
		'a new one');
	$opened++;

	is(ended('target=127.0.0.1:' . port(8091)),
		'202 tunnels:5 version:1', 'all streams');
	is(join(' ', map { $_->wait_rst() || '' } @s[0, 1, 3, 4]),
		'CANCEL CANCEL CANCEL CANCEL', 'all streams, told');
	is($h2->connect('127.0.0.1:' . port(8091))->echo('new'), 'new',
		'the connection goes on');
	$opened++;
	$h2->close();
	$killed += 6;

	# the request is one of HTTP/2

	my $client = h2_client(port(8089));

	for (
		[ 403, 'http://evil.example' ],
		[ 403, 'http://localhost' ],
		[ 202, 'http://localhost:8089' ],
		[ 202 ],
	)
	{
		my ($code, $origin) = @$_;

		my $r = connect_open(8080, 8091);
		my $id = found($r->{key})->{id};

		my $s = $client->request(method => 'DELETE',
			path => "/status/tunnels/$id", scheme => 'http',
			authority => 'localhost:8089', headers => [
				$origin ? [ 'origin', $origin ] : () ]);
		$s->wait_end();

		is($s->{status}, $code, 'HTTP/2, '
			. ($origin || 'no origin'));

		if ($code == 202) {
			is($s->{data}, qq/{"version":1,"tunnels":1}\n/,
				'HTTP/2, answer');
			told('HTTP/2', $r);
			$killed++;

		} else {
			alive('HTTP/2', $r);
			$r->{close}->();
		}
	}
}

###############################################################################

sub many_tests {
	my @other = map { connect_open(8080, 8097) } 1 .. 10;
	my @s = ((map { connect_open(8080, 8096) } 1 .. MANY / 2),
		(map { socks_open('5', 8096) } 1 .. MANY / 2));

	my $status = wait_status(sub { $_[0]->{total}{active} == MANY + 10 });
	ok($status, 'many');
	ok(!(grep { $_->{active} < MANY / 10 } @{$status->{workers}}),
		'many, in both workers');

	is(ended('target=127.0.0.1:' . port(8096)),
		'202 tunnels:' . MANY . ' version:1', 'many end');
	ok(wait_status(sub { $_[0]->{total}{active} == 10 }), 'many, soon');

	my $told = grep { $_->{end}->() ne 'TIMEOUT' } @s;
	is($told, MANY, 'many, told');
	$killed += MANY;

	is(status()->{total}{ended}{killed}, $killed, 'many, counted');

	# while there is a request for each

	is(scalar(grep { (delete_tunnel('id=' . found($_->{key})->{id}))[0]
		== 202 } @other), 10, 'each');
	told('each', @other);
	$killed += 10;
}

###############################################################################

# Of workers that are on their way out, too.

sub reload_tests {
	my @s = map { connect_open(8080, 8091) } 1 .. 8;
	$_->{id} = found($_->{key})->{id} for @s;

	ok(new_workers($t), 'reload');
	alive('reload', @s);

	is(ended("id=$s[0]{id}"), '202 tunnels:1 version:1',
		'old worker, one');
	told('old worker, one', shift @s);
	alive('old worker, others', @s);

	my $new = connect_open(8080, 8091);
	is(ended('target=127.0.0.1:' . port(8091)),
		'202 tunnels:8 version:1', 'old and new workers');
	told('old and new workers', $new, @s);

	$killed += 9;

	ok(wait_for(sub { !kill 0, $first and !kill 0, $second }),
		'old workers exit');
	is((delete_tunnel("id=$s[0]{id}"))[0], 404, 'none of an old worker');
}

###############################################################################

# A tunnel: its socket s, key, how many bytes there were already, and what can
# be done with it.

sub connect_open {
	my ($port, $target, %opt) = @_;

	our $n;

	my $key = defined $opt{key} ? $opt{key} : 'key' . ++$n;
	my @headers = ("X-Key: $key", @{$opt{headers} || []});
	my $addr = $port =~ /:/ ? $port : port($port);
	my $authority = '127.0.0.1:' . port($target);
	my ($s, $head);

	if ($opt{from}) {
		$s = peer_connect("127.0.0.1:$addr", from => $opt{from});
		write_all($s, connect_request($authority,
			headers => \@headers));
		$head = read_head($s);

	} else {
		($s, $head) = connect_tunnel($addr, $authority,
			headers => \@headers,
			$opt{ssl} ? (ssl => 1, alpn => [ 'http/1.1' ]) : ());
	}

	return undef unless $head =~ / 200 /;
	return opened($s, $key);
}

sub h2_open {
	my ($port, $target, %opt) = @_;

	our $n;

	my $key = 'h2-' . ++$n;
	my $s = h2_tunnel(port($port), '127.0.0.1:' . port($target), %opt,
		credit => 0, headers => [ [ 'x-key', $key ] ]);

	return undef unless $s && ($s->{status} || 0) == 200;

	$opened++;

	return {
		s => $s, key => $key, early => 0,
		echo => sub { $s->echo(@_) },
		end => sub { $s->wait_end() },
		close => sub { $s->reset_close() },
	};
}

sub socks_open {
	my ($version, $target) = @_;

	my ($s, $code) = $version eq '5'
		? socks5_tunnel(port(8085), '127.0.0.1', port($target))
		: socks4_tunnel(port(8085), $version eq '4' ? '127.0.0.1'
			: 'localhost', port($target));

	return undef if $code != ($version eq '5' ? 0 : 90);
	return opened($s);
}

sub user_open {
	my ($user) = @_;

	my ($s, $code) = socks5_tunnel(port(8086), '127.0.0.1', port(8091),
		auth => "$user:secret");

	return undef if !defined $code || $code != 0;
	return opened($s, $user);
}

sub passthrough_open {
	my ($port, $bytes) = @_;

	my $s = tcp_connect(port($port));
	my $r = opened($s);

	if (defined $bytes) {
		$r->{early} = length echo($s, $bytes);
	}

	return $r;
}

sub associate_open {
	my $u = udp_associate(port(8085));
	my $r = opened($u->{tcp});

	my $target = udp_socket('127.0.0.1');

	$r->{udp} = $u;
	$r->{echo} = sub { udp_echo($u, $target, $_[0]) || $_[0] };

	return $r;
}

sub bind_open {
	my ($version) = @_;

	my ($s, $peer, $echo) = bind_echo(port(8085), $version);

	my $r = opened($s);
	@$r{qw/ peer echo /} = ($peer, $echo);

	return $r;
}

sub opened {
	my ($s, $key) = @_;

	$key = $s->sockport() . ':' . $s->peerport() unless defined $key;
	$opened++;

	return {
		s => $s, key => $key, early => 0,
		echo => sub { echo($s, @_) },
		end => sub { (read_all($s))[1] },
		close => sub { $s->close() },
	};
}

# What the status has of the tunnel with that key.

sub found {
	my ($key) = @_;

	# to decode all of it takes a while

	return wait_for(sub {
		my ($object) = grep { /,"key":"\Q$key\E",/ }
			((status_request('/status?format=json'))[2]
				=~ /\{"id":"[^{}]*"policy":\{[^{}]*\}\}/g);

		return $object && JSON::PP->new()->utf8()->decode($object);
	});
}

sub told {
	my ($name, @all) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(scalar(grep { !$_ || $_->{end}->() eq 'TIMEOUT' } @all), 0,
		"$name, told");
}

sub alive {
	my ($name, @all) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(scalar(grep { !$_ || $_->{echo}->('still') ne 'still' } @all), 0,
		"$name: alive");
}

# What a DELETE is answered; a client may know of its tunnel before the zone
# does.

sub ended {
	my ($query) = @_;

	wait_for(sub {
		my ($n) = (status_request('/status?format=json&limit=0'))[2]
			=~ /"total":\{.*?"opened":(\d+)/;

		return $n >= $opened;
	});

	return answer(delete_tunnel($query));
}

sub answer {
	my ($code, $json) = @_;

	$json = {} unless ref $json eq 'HASH';

	return join ' ', $code, map { $_ . ':' . ($_ eq 'error'
		&& $json->{$_} =~ /\w \w/ ? 'text' : $json->{$_}) }
		sort keys %$json;
}

# A request to a worker, on a connection that it has.

sub by_worker {
	my ($pid, $query) = @_;

	for (1 .. TRIES) {
		my $s = tcp_connect(port(8070));

		write_all($s, "HEAD /status?limit=0 HTTP/1.1\x0d\x0a"
			. "Host: localhost\x0d\x0a\x0d\x0a");
		my $head = read_head($s);
		next if $head !~ /^X-Pid: $pid\x0d?$/m;

		write_all($s, "DELETE /status$query HTTP/1.1\x0d\x0a"
			. "Host: localhost\x0d\x0a\x0d\x0a");

		my ($code, $body) = http_answer($s) =~
			/^HTTP\/1.1 (\d+) .*\x0d\x0a\x0d\x0a(.*)/s
			or return 'no answer';

		return answer($code,
			eval { JSON::PP->new()->decode($body) });
	}

	return 'not that worker';
}

sub http_answer {
	my ($s) = @_;

	my $head = read_head($s);
	my ($length) = $head =~ /^Content-Length: (\d+)/mi;

	return $head . read_n($s, $length || 0);
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
