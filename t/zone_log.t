#!/usr/bin/perl

# Tests for $tunnel_id, the lines of the error log that have it, and
# tunnel_log_interval.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::H2Bridge;
use Test::Nginx::Relay;
use Test::Nginx::Status;

use MIME::Base64 qw/ encode_base64 /;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	IDS	=> 100,
	MANY	=> 200,			# tunnels that log long lines
	LONG	=> 3500,
	GROWTH	=> 256 * 1024,		# less than a line of each
};

my $t = Test::Nginx->new()
	->has(qw/http http_v2 auth_basic map stream stream_map/);

my $d = $t->testdir();
my $long = 'x' x LONG;
my $status = status_conf();

my %h2 = bridge_front($t);

$t->write_file('users', "alice:{PLAIN}secret\n");

my $shared = <<'EOF';
    log_format plain '$server_port $tunnel_id $tunnel_result $tunnel_reason '
                     '$tunnel_bytes_received $tunnel_bytes_sent $tunnel_time';

    map $tunnel_reason $state {
        ""       open;
        default  closed;
    }

    map $tunnel_bytes_sent $much {
        ~^...    1;
        default  0;
    }

    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    target_deny denied.example:*;

    access_log %%TESTDIR%%/plain.log plain;
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:1m;

$shared
    log_format lines '\$server_port \$request_id \$status \$tunnel_result '
                     '\$tunnel_reason \$tunnel_bytes_received '
                     '\$tunnel_bytes_sent \$state \$tunnel_id \$remote_user '
                     '"\$request" \$tunnel_address';
    log_format secrets '\$server_port "\$http_proxy_authorization" '
                       '"\$http_authorization" "\$http_x_other" \$state';
    log_format long '\$server_port \$request_id $long \$tunnel_bytes_sent';

    $h2{conf}

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8081;
        connect_tunnel;
        tunnel_zone off;
    }

    server {
        listen 127.0.0.1:8082;
        tunnel_log_interval 1s;
        connect_tunnel;

        auth_basic x;
        auth_basic_user_file $d/users;

        access_log $d/lines.log lines;
        access_log $d/secrets.log secrets;
        access_log $d/much.log lines if=\$much;
    }

    server {
        listen 127.0.0.1:8083$h2{listen};
        connect_tunnel;
        tunnel_log_interval 1s;
        access_log $d/lines.log lines;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;
        tunnel_log_interval 1s;
        access_log $d/long.log long;
    }

    server {
        listen 127.0.0.1:8085;
        tunnel_log_interval 1s;
        access_log $d/lines.log lines;

        location / {
            connect_tunnel;
            tunnel_log_interval 0;
        }
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel;
        tunnel_log_interval 1s;
        tunnel_zone off;
        access_log off;
    }

    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone tunnels;

$shared
    log_format lines '\$server_port \$connection \$status \$tunnel_result '
                     '\$tunnel_reason \$tunnel_bytes_received '
                     '\$tunnel_bytes_sent \$state \$tunnel_id - '
                     '"\$protocol" \$tunnel_address';
    log_format long '\$server_port \$connection $long \$tunnel_bytes_sent';

    server {
        listen 127.0.0.1:8090;
        socks;
    }

    server {
        listen 127.0.0.1:8091;
        passthrough 127.0.0.1:8101;
    }

    server {
        listen 127.0.0.1:8092;
        passthrough denied.example:\$server_port;
    }

    server {
        listen 127.0.0.1:8093;
        socks;
        tunnel_log_interval 1s;
        access_log $d/lines.log lines;
    }

    server {
        listen 127.0.0.1:8094;
        passthrough 127.0.0.1:8101;
        tunnel_log_interval 1s;
        tunnel_zone off;
        access_log $d/lines.log lines;
        access_log $d/much.log lines if=\$much;
    }

    server {
        listen 127.0.0.1:8095;
        passthrough 127.0.0.1:8101;
        tunnel_log_interval 1s;
        access_log $d/long.log long;
    }
}
EOF

port(8102);	# nobody is there

start_daemon($t, \&echo_daemon, port(8101));
$t->run();

###############################################################################

# those that go on for a while, beside the others

my $start = time();

my %talk = (
	8082 => tunnel(8082, auth => 'alice:secret',
		headers => [ 'X-Other: other' ]),
	8083 => (bridge_tunnel(port(8083), target()))[0],
	8085 => tunnel(8085),
	8086 => tunnel(8086),
	8093 => (socks5_tunnel(port(8093), '127.0.0.1', port(8101)))[0],
	8094 => tcp_connect(port(8094)),
);

echo($_, pattern(60)) for values %talk;

my @many = map { $_ % 2 ? tunnel(8084) : tcp_connect(port(8095)) } 1 .. MANY;

# an id, which is the same wherever it is told

for my $case (
	[ 'connect', 8080, tunnel(8080) ],
	[ 'without a zone', 8081, tunnel(8081) ],
	[ 'socks', 8090, (socks5_tunnel(port(8090), '127.0.0.1',
		port(8101)))[0] ],
	[ 'passthrough', 8091, tcp_connect(port(8091)) ],
) {
	my ($name, $port, $s) = @$case;

	is(echo($s, 'hello'), 'hello', $name);

	my %shown = map { $_->{id} => 1 } @{status()->{tunnels}};

	half_close($s);
	read_all($s);

	my $line = logged($port);
	my (undef, $id, @fields) = split / /, $line;

	like($id, qr/^(?!0{16})[0-9a-f]{16}$/, "$name, id");
	is($shown{$id} || 0, $port == 8081 ? 0 : 1, "$name, in the table");

	my $ended = wait_log($t, 'error.log', qr/id: $id\b/) || '';
	my $time = quotemeta $fields[4];
	my $to = '127\.0\.0\.1:' . port(8101);

	like($ended, qr/ \[info\] .* tunnel\ to\ "$to"\ at\ $to\ ended:
		\ completed,\ received:\ 5,\ sent:\ 5,\ time:\ $time,
		\ id:\ $id\b/x, "$name, end");
	is("@fields[0 .. 3]", 'ok completed 5 5', "$name, access log");
}

# likewise of those that never were

for my $case (
	[ 'refused', 'error', 8080, 'refused', '127.0.0.1:' . port(8102) ],
	[ 'denied', 'error', 8080, 'denied_name', 'denied.example:443' ],
	[ 'denied without a zone', 'error', 8081, 'denied_name',
		'denied.example:443' ],
	[ 'bad request', 'info', 8080, 'bad_request', '127.0.0.1' ],
) {
	my ($name, $level, $port, $result, $target) = @$case;

	my $seen = () = log_lines($t, 'plain.log');
	connect_tunnel(port($port), $target);

	failed($name, $level, $port, $result, $seen);
}

my $seen = () = log_lines($t, 'plain.log');
read_all((socks5_tunnel(port(8090), '127.0.0.1', port(8102)))[0]);
failed('socks, refused', 'error', 8090, 'refused', $seen);

$seen = () = log_lines($t, 'plain.log');
read_all(tcp_connect(port(8092)));
failed('passthrough, denied', 'error', 8092, 'denied_name', $seen);

# no two are the same

$_ % 2 ? half_close(tunnel(8080)) : close tcp_connect(port(8091))
	for 1 .. IDS;

my %ids;
ok(wait_log($t, 'plain.log', qr/ ok /, undef, IDS + 4), 'many');
$ids{(split)[1]}++ for log_lines($t, 'plain.log');
is(scalar(grep { $_ > 1 } values %ids), 0, 'no two are the same');
is(scalar(grep { !/^[0-9a-f]{16}$/ } keys %ids), 0, 'all are ids');

###############################################################################

# lines meanwhile

my @ports = (8082, 8083, 8093, 8094);

ok(wait_for(sub { @ports == grep { lines($_) >= 1 } @ports }), 'first lines');

my %first = map { $_ => (lines($_))[0] } @ports;

for my $port (@ports) {
	my ($to) = '127.0.0.1:' . port(8101);
	my $request = $port == 8082 ? "CONNECT $to HTTP/1.1"
		: $port == 8083 ? "CONNECT $to HTTP/2.0" : 'TCP';
	my $user = $port == 8082 ? 'alice' : '-';

	like($first{$port}, qr/^\S+\ 200\ ok\ -\ 60\ 60\ open
		\ [0-9a-f]{16}\ $user\ "\Q$request\E"\ $to$/x,
		"first line, $port");
}

my %id = map { $_->{id} => 1 } @{status()->{tunnels}};
is(scalar(grep { $id{$_} } map { (split ' ', $first{$_})[7] } 8082, 8083,
	8093), 3, 'ids of the table');

my @long = map { scalar lines_of('long.log', $_) } 8084, 8095;

echo($_, pattern(70)) for values %talk;

my %n = map { $_ => scalar lines($_) } @ports;
ok(wait_for(sub { @ports == grep { lines($_) > $n{$_} } @ports }),
	'next lines');

for my $port (@ports) {
	my $last = (lines($port))[-1];

	is($last, $first{$port} =~ s/60 60/130 130/r, "next line, $port");
}

# the memory that they take does not grow

my ($pid) = workers($t);

ok(wait_for(sub { lines_of('long.log', 8084) >= MANY
	&& lines_of('long.log', 8095) >= MANY }), 'two lines of many');

my $rss = rss($pid);

ok(wait_for(sub { lines_of('long.log', 8084) >= 2.5 * MANY
	&& lines_of('long.log', 8095) >= 2.5 * MANY }), 'more of them');

# what is freed, a sanitizer keeps for a while

my $limit = $t->has_module('fsanitize') ? 64 << 20 : GROWTH;
cmp_ok(rss($pid) - $rss, '<', $limit, 'memory');

# when the files are opened anew

rename "$d/lines.log", "$d/lines.old";
kill 'USR1', $t->read_file('nginx.pid') =~ /(\d+)/;

ok(wait_for(sub { @ports == grep { lines($_) } @ports }), 'lines anew');

# not more than there may be

my $seconds = int(time() - $start) + 1;

for my $port (@ports) {
	cmp_ok(lines($port) + lines($port, 'lines.old'), '<=', $seconds,
		"lines, $port");
}

# of workers that are on their way out

ok(new_workers($t), 'reload');
%n = map { $_ => scalar lines($_) } @ports;
ok(wait_for(sub { @ports == grep { lines($_) > $n{$_} } @ports }),
	'lines of an old worker');

# the last one

half_close($_) for values %talk, @many;
read_all($_) for values %talk;

for my $port (@ports) {
	my $last = $first{$port}
		=~ s/ok - 60 60 open/ok completed 130 130 closed/r;

	is(wait_for(sub {
		(grep { / closed / } lines($port))[0];
	}), $last, "last line, $port");
	is(scalar(grep { / closed / } lines($port)), 1, "only one, $port");
}

is(join(' ', lines(8085)), (lines(8085))[-1], 'only one, off');
like((lines(8085))[0], qr/ completed 130 130 closed /, 'off');

my @all = (map { lines($_, 'lines.old'), lines($_) } 8082);
is(scalar(grep { (split)[7] ne (split ' ', $first{8082})[7] } @all), 0,
	'one id in all lines');

# a condition is that of the time of the line

for my $port (8082, 8094) {
	my @much = lines($port, 'much.log');

	cmp_ok(scalar @much, '>', 1, "condition, $port");
	is(scalar(grep { !/ 130 130 / } @much), 0,
		"condition, of the line, $port");
}

# what was said in confidence

my @secrets = log_lines($t, 'secrets.log');
cmp_ok(scalar @secrets, '>', 2, 'lines with headers');

# the name is no secret

my $masked = 'Basic ' . encode_base64('alice:******', '');
my $basic = encode_base64('alice:secret', '');

is(join(' ', grep { !/^\d+ "-" "\Q$masked\E" "other" (?:open|closed)$/ }
	@secrets), '', 'no credentials');
is(scalar(grep { /secret|\Q$basic\E/ } map { log_lines($t, $_) }
	qw/ lines.log lines.old secrets.log plain.log much.log /), 0,
	'none in any log');

# its last checks are made when it goes, and not too late

undef $t;
done_testing();

###############################################################################

sub target {
	return '127.0.0.1:' . port(8101);
}

sub tunnel {
	my ($port, %opt) = @_;

	return (connect_tunnel(port($port), target(), %opt))[0];
}

# The last line of a server, once there is one.

sub logged {
	my ($port) = @_;

	return wait_log($t, 'plain.log', qr/^${\port($port)} /) || '';
}

sub failed {
	my ($name, $level, $port, $result, $seen) = @_;

	my $line = wait_for(sub {
		my @lines = log_lines($t, 'plain.log');
		return (grep { /^${\port($port)} / }
			@lines[$seen .. $#lines])[0];
	}) || '';

	my (undef, $id, @fields) = split / /, $line;

	like($id || '', qr/^[0-9a-f]{16}$/, "$name, id");
	is(join(' ', @fields[0 .. 3]), "$result - - -", "$name, access log");

	my $told = wait_log($t, 'error.log', qr/failed: .*id: $id\b/) || '';
	like($told, qr/\ \[$level\]\ .*tunnel\ to\ ".*"\ failed:\ $result,
		\ .*id:\ $id\b/x, "$name, told");
}

sub lines {
	my ($port, $file) = @_;

	return lines_of($file || 'lines.log', $port);
}

sub lines_of {
	my ($file, $port) = @_;

	my $number = port($port);

	return map { s/^$number //r } grep { /^$number / }
		log_lines($t, $file);
}

###############################################################################
