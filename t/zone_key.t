#!/usr/bin/perl

# Tests for tunnel_zone_key and tunnel_label, and the targets with the most
# bytes.

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

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	TARGETS	=> 1200,	# more than are known at once
	SHOWN	=> 100,
};

my $t = Test::Nginx->new()->has(qw/http auth_basic stream/)->plan(46);

my $d = $t->testdir();
my $status = status_conf(control => 1)
	. status_conf(port => 8071, conf => 'tunnel_zone few;')
	. status_conf(port => 8072, conf => 'tunnel_zone targets;');

$t->write_file('users', join '', map { "$_:{PLAIN}secret\n" }
	qw/ alice bob carol /);

my $rules = <<'EOF';
    target_allow *:*;
    target_allow_address 127.0.0.0/8;
    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:1m;
    tunnel_zone_key \$remote_user;

$rules
    server {
        listen 127.0.0.1:8080;
        server_name proxy.example.org www.example.org;
        connect_tunnel;

        auth_basic proxy;
        auth_basic_user_file $d/users;
    }

    server {
        listen 127.0.0.1:8081;
        connect_tunnel;
        tunnel_label header;
        tunnel_zone_key \$http_x_key;
    }

    server {
        listen 127.0.0.1:8082;
        tunnel_label outer;
        tunnel_zone_key off;

        location / {
            connect_tunnel;
            tunnel_label inner;
        }
    }

    server {
        listen 127.0.0.1:8083;
        connect_tunnel;
        tunnel_zone few:512k;
        tunnel_zone_key "\$http_x_key" max=3;
    }

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;
        tunnel_zone targets:1m;
        tunnel_zone_key off;
    }

    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone tunnels;

$rules
    server {
        listen 127.0.0.1:8085;
        socks;
        socks_auth basic x $d/users;
        socks_userid any;
        tunnel_zone_key \$socks_user;
    }

    server {
        listen 127.0.0.1:8086;
        passthrough 127.0.0.1:8091;
        tunnel_label header;
        tunnel_zone_key \$remote_addr;
    }
}
EOF

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => { '*' => '127.0.0.1' });

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# by the user, of both kinds of proxy

my ($alice) = tunnel(8080, auth => 'alice:secret');
my ($bob) = tunnel(8080, auth => 'bob:secret');
my ($socks) = socks(auth => 'alice:secret');

echo($alice, pattern(100));
echo($bob, pattern(1000));
echo($socks, pattern(10));

is(keys_of(3), 'bob 1 1 1000 1000, alice 2 2 110 110', 'keys of users');
is(join(' ', map { $_->{key} } @{status()->{tunnels}}), 'alice bob alice',
	'tunnels of users');

finish($socks);
is(keys_of(2), 'bob 1 1 1000 1000, alice 1 2 110 110', 'one has ended');

my $s = socks4();
is(keys_of(3), 'bob 1 1 1000 1000, alice 1 2 110 110, dave 1 1 4 4',
	'userid of version 4');
finish($s);

# one that is refused has none

(undef, my $head) = tunnel(8080, auth => 'carol:wrong');
like($head, qr/ 407 /, 'wrong password');
unlike(keys_of(2), qr/carol/, 'is not counted by key');

# only those of the key end

is_deeply([ delete_tunnel('user=bob') ], [ 202, { version => 1,
	tunnels => 1 } ], 'end those of a key');
isnt((read_all($bob))[1], 'TIMEOUT', 'those of a key ended');
is(echo($alice, 'hello'), 'hello', 'another one goes on');
finish($alice);

is(keys_of(0), 'bob 0 1 1000 1000, alice 0 2 115 115, dave 0 1 4 4',
	'keys in the end');

# any value

my $long = 'x' x 254;

my %values = (
	'a "b" \\c' => 'a "b" \\c',
	"${long}yz" => "${long}y",
	"${long}yzzz" => "${long}y",
	"\xc3\xa9\xe2\x82\xac" => "\x{e9}\x{20ac}",
	'<script>alert(1)</script>' => '<script>alert(1)</script>',
);

for my $value (sort keys %values) {
	($s) = tunnel(8081, headers => [ "X-Key: $value" ]);
	echo($s, 'hello');

	my ($tunnel) = @{ended(1)->{tunnels}};
	is($tunnel->{key}, $values{$value}, 'key of ' . length($value)
		. ' bytes');

	finish($s);
}

ended(0);

my %keys = map { $_->{key} => $_ } @{status()->{keys}};
is($keys{"${long}y"}{opened}, 2, 'what is cut is the same key');
is(join(' ', map { defined $keys{$_} ? 1 : 0 } values %values), '1 1 1 1 1',
	'all of them');

($s) = tunnel(8081, headers => [ 'X-Key: a%20%22b' ]);
is((delete_tunnel('key=' . uri_escape('a%20%22b')))[0], 202,
	'as it is, with escapes');
isnt((read_all($s))[1], 'TIMEOUT', 'with escapes, ended');

($s) = tunnel(8081, headers => [ "X-Key: ${long}yz" ]);
is((delete_tunnel("key=${long}y"))[0], 202, 'long, as it is shown');
isnt((read_all($s))[1], 'TIMEOUT', 'long, ended');

# none

my $keys = @{ended(0)->{keys}};

for my $port (8081, 8082) {
	($s) = tunnel($port, headers => $port == 8081 ? [ 'X-Key: ' ]
		: [ 'X-Key: x' ]);
	is(ended(1)->{tunnels}[0]{key}, undef, "no key, $port");
	finish($s);
}

is(scalar @{ended(0)->{keys}}, $keys, 'no key, nothing counted');

($s) = passthrough();
is(ended(1)->{tunnels}[0]{key}, '127.0.0.1', 'key of stream');
finish($s);

###############################################################################

# labels

my $now = ended(0);

is(join(', ', map { "$_->{front_end} \"$_->{server}\" $_->{opened}" }
	sort { "$a->{front_end} $a->{server}"
		cmp "$b->{front_end} $b->{server}" }
	grep { $_->{opened} } @{$now->{servers}}),
	'connect "header" 8, connect "inner" 1, '
	. 'connect "proxy.example.org" 2, passthrough "header" 1, '
	. 'socks "" 2', 'labels');
is_deeply([ status_bad($now) ], [], 'all fits');

###############################################################################

# no more than there may be: the least recently used one goes

few($_) for qw/ a b c /;
is(few_keys(), 'a b c', 'three');
few('d');
is(few_keys(), 'b c d', 'the oldest went');
few('b');
few('e');
is(few_keys(), 'b d e', 'not one that was used again');

my ($b) = tunnel(8083, headers => [ 'X-Key: b' ]);
few($_) for qw/ f g h i /;
is(few_keys(), 'b h i', 'one that is live stays');

my @s = map { (tunnel(8083, headers => [ "X-Key: $_" ]))[0] } qw/ j k /;
is(few_keys(), 'b j k', 'three that are live');

my ($more) = tunnel(8083, headers => [ 'X-Key: l' ]);
is(echo($more, 'hello'), 'hello', 'one more works');
is(few_keys(), 'b j k', 'and has no room');
is(scalar(grep { !defined $_->{key} } @{few_status()->{tunnels}}), 1,
	'and no key');
is(few_status()->{total}{active}, 4, 'and is counted');

my ($again) = tunnel(8083, headers => [ 'X-Key: j' ]);
is((grep { $_->{key} eq 'j' } @{few_status()->{keys}})[0]{active}, 2,
	'another one of a key');

finish($_) for @s, $again;
few('m');
is(few_keys(), 'b j m', 'room again') or diag(few_keys());

finish($_) for $b, $more;

for my $n (1 .. 300) {
	few("many$n");
}

is(few_keys(), 'many298 many299 many300', 'still three after many');

# and so it is with the targets

my $free;

for my $n (1 .. TARGETS) {
	my ($s) = tunnel(8084, name => "target$n.example");
	echo($s, 'x' x 20) if $n > TARGETS - 10;
	echo($s, 'x' x 30) if $n == TARGETS - 500;
	finish($s);

	$free = targets_status()->{zone}{free} if $n == TARGETS - 150;
}

wait_status(sub { $_[0]{total}{active} == 0 }, port => 8072);
$now = targets_status();
my @targets = @{$now->{targets}};

is($now->{total}{opened}, TARGETS, 'many targets');
is(scalar @targets, SHOWN, 'some are shown');
is($targets[0]{target}, 'target' . (TARGETS - 500) . '.example:'
	. port(8091), 'the one with most bytes first');
is(join(' ', map { $_->{sent} } @targets[0 .. 11]),
	join(' ', 30, (20) x 10, 0), 'most bytes first');
is(join(' ', @{$targets[0]}{qw/ active opened received /}), '0 1 30',
	'a target');
cmp_ok($free - $now->{zone}{free}, '<=', 3 * 4096, 'no more memory');
is_deeply($now->{keys}, [], 'no keys');

# its last checks are made when it goes, and not too late

undef $t;

###############################################################################

sub tunnel {
	my ($port, %opt) = @_;

	my $name = delete $opt{name} || '127.0.0.1';

	return connect_tunnel(port($port), "$name:" . port(8091), %opt);
}

sub socks {
	my (%opt) = @_;

	return (socks5_tunnel(port(8085), '127.0.0.1', port(8091), %opt))[0];
}

sub socks4 {
	my ($s) = socks4_tunnel(port(8085), '127.0.0.1', port(8091),
		user => 'dave');
	echo($s, 'four');

	return $s;
}

sub passthrough {
	my $s = tcp_connect(port(8086));
	echo($s, 'hello');

	return $s;
}

sub finish {
	my ($s) = @_;

	half_close($s);
	read_all($s);
	$s->close();
}

# Once so many are open.

sub ended {
	my ($active) = @_;

	return wait_status(sub { $_[0]{total}{active} == $active })
		|| status();
}

sub keys_of {
	my ($active) = @_;

	return join ', ', map { "$_->{key} $_->{active} $_->{opened} "
		. "$_->{received} $_->{sent}" } @{ended($active)->{keys}};
}

sub few {
	my ($key) = @_;

	my ($s) = tunnel(8083, headers => [ "X-Key: $key" ]);
	my $active = few_status()->{total}{active};

	finish($s);
	wait_status(sub { $_[0]{total}{active} < $active }, port => 8071);
}

sub few_status {
	return status(undef, port => 8071);
}

sub few_keys {
	return join ' ', sort map { $_->{key} } @{few_status()->{keys}};
}

sub targets_status {
	return status(undef, port => 8072);
}

###############################################################################
