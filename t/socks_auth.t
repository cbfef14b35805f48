#!/usr/bin/perl

# Tests for ngx_stream_socks_module: users of SOCKS5 and SOCKS4.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks;

use IO::Select;
use Time::HiRes qw/ sleep time /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream stream_map/);

my $d = $t->testdir();
my $log = socks_log();

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    $log

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    socks_auth basic "the realm" users;
    socks_auth_delay 20ms;
    socks_handshake_timeout 30s;

    map \$server_port \$file {
        %%PORT_8082%%  users2;
        %%PORT_8083%%  '';
        default        %%TESTDIR%%/users3;
    }

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_auth none;
    }

    # files

    server {
        listen 127.0.0.1:8082;
        listen 127.0.0.1:8083;
        listen 127.0.0.1:8084;
        socks 5;
        socks_auth basic realm \$file;
    }

    server {
        listen 127.0.0.1:8085;
        socks 5;
        socks_auth basic realm missing;
    }

    server {
        listen 127.0.0.1:8086;
        socks 5;
        socks_auth basic realm changing;
    }

    # delays

    server {
        listen 127.0.0.1:8087;
        socks;
        socks_userid zuser-four;
        socks_auth_delay 700ms;
    }

    server {
        listen 127.0.0.1:8088;
        socks;
        socks_auth_delay 1s;
        socks_userid zuser-four;
    }

    # SOCKS4

    server {
        listen 127.0.0.1:8089;
        socks;
        socks_auth none;
        socks_userid any;
    }

    server {
        listen 127.0.0.1:8090;
        socks;
        socks_userid zuser-one "zuser two" ~^zuser-dev- ~*^ZUSER-ops\$;
    }

    server {
        listen 127.0.0.1:8070;
        socks 4 4a;
        socks_auth none;
        socks_userid zuser-one ~^\$;
    }

    server {
        listen 127.0.0.1:8071;
        socks;
        socks_auth none;
        socks_userid off;
    }

    server {
        listen 127.0.0.1:8073;
        socks;
        socks_userid ~^;
    }

    # hashes that take their time

    server {
        listen 127.0.0.1:8072;
        socks 5;
        socks_auth basic realm slow;
    }
}

EOF

my @formats = (
	[ 'plain', 'plain' ], [ 'sha', 'sha' ], [ 'ssha', 'ssha' ],
	[ 'apr1', 'apr1' ], [ 'md5', '1' ], [ 'sha256', '5' ],
	[ 'sha512', '6' ], [ 'des', 'ab' ],
	[ 'bcrypt', '$2b$04$abcdefghijklmnopqrstuu' ],
	[ 'yescrypt', '$y$j75$saltsalt' ],
);

my $long = 'zuser-' . 'n' x 249;
my $secret = 'zpass-' . 'p' x 249;
my $bytes = "zuser-\xc3\xbc \x01\xff";

my $users = join '', "# zuser-comment:{PLAIN}zpass-comment\n",
	"#zuser-comment:{PLAIN}zpass-comment\n", "\n",
	(map { "zuser-$_->[0]:" . password_hash($_->[1], "zpass-$_->[0]")
		. "\n" } @formats),
	"zuser-unknown:\$9\$saltsalt\$zpass-unknown\n",
	"zuser-bare:zpass-bare\n",
	"zuser-other:{MD5}zpass-other\n",
	"zuser-star:*0\n", "zuser-star1:*1\n", "zuser-bang:!\n",
	"zuser-x:x\n", "zuser-none:\n", "zuser-alone\n",
	"zuser-below:{PLAIN}zpass-below\n",
	"zuser-nosha:{SHA}\n", "zuser-nossha:{SSHA}\n",
	"zuser-badssha:{SSHA}****\n", "zuser-shortssha:{SSHA}c2FsdA==\n",
	"zuser-field:{PLAIN}zpass-field:{PLAIN}zpass-second:third\n",
	"zuser-twice:{PLAIN}zpass-first\n",
	"zuser-twice:{PLAIN}zpass-second\n",
	"zuser-crlf:{PLAIN}zpass-crlf\r\n",
	" zuser-space:{PLAIN}zpass-space\n",
	"zuser-nul:{PLAIN}zpass\n",
	":{PLAIN}zpass-empty\n",
	"$long:{PLAIN}zpass-long\n",
	"zuser-secret:{PLAIN}$secret\n",
	"zuser-bytes:{PLAIN}zpass-\xff\x01 \"\\\n",
	"$bytes:{PLAIN}zpass-name\n",

	# users around the ends of the pieces a file may be read in

	(map { sprintf("zuser-%04d:{PLAIN}zpass-%04d:%s\n", $_, $_,
		'-' x ($_ * 7 % 61)) } 1 .. 1600),
	"zuser-last:{PLAIN}zpass-last";

$t->write_file('users', $users);
$t->write_file('users2', "zuser-file:{PLAIN}zpass-two\n");
$t->write_file('users3', "zuser-file:{PLAIN}zpass-three\n");
$t->write_file('changing', "zuser-a:{PLAIN}zpass-old\n");

# each takes about 0.4 s

my $rounds = 1000000;
my $start = time();
my $any = crypt('zpass', "\$6\$rounds=$rounds\$saltsalt");
my $hash_time = time() - $start;
$rounds = int($rounds * 0.4 / $hash_time) if $hash_time > 0;

$t->write_file('slow', join '', map { "zuser-$_:" . crypt("zpass-$_",
	"\$6\$rounds=$rounds\$salt$_") . "\n" } 1 .. 3);

my $p = port(8091);
my $echo = '127.0.0.1';

start_daemon($t, \&echo_daemon, $p);
$t->run();

my ($pid) = workers($t);
my $good = "200 ok completed 5 connect";
my $failed = '407 auth_failed - 5 -';

my @other = (
	[ 'an unknown user', 'zuser-nobody', 'zpass-plain' ],
	[ 'a part of a name', 'zuser-plai', 'zpass-plain' ],
	[ 'more than a name', 'zuser-plains', 'zpass-plain' ],
	[ 'another case', 'ZUSER-plain', 'zpass-plain' ],
	[ 'a comment', '#zuser-comment', 'zpass-comment' ],
	[ 'a comment with a space', '# zuser-comment', 'zpass-comment' ],
	[ 'a comment without its sign', 'zuser-comment', 'zpass-comment' ],
	[ 'an unknown format', 'zuser-unknown', 'zpass-unknown' ],
	[ 'an unknown format as it is', 'zuser-unknown',
		'$9$saltsalt$zpass-unknown' ],
	[ 'a password that is no hash', 'zuser-bare', 'zpass-bare' ],
	[ 'a scheme that is none', 'zuser-other', 'zpass-other' ],
	[ 'a scheme that is none as it is', 'zuser-other', '{MD5}zpass-other' ],
	(map { [ "a closed account, $_->[1]", @$_ ] }
		[ 'zuser-star', '*0' ], [ 'zuser-star', 'zpass' ],
		[ 'zuser-star1', '*1' ], [ 'zuser-star1', 'zpass' ],
		[ 'zuser-bang', '!' ], [ 'zuser-x', 'x' ],
		[ 'zuser-none', 'zpass' ], [ 'zuser-none', ':' ],
		[ 'zuser-alone', 'zpass' ], [ 'zuser-nosha', 'zpass' ],
		[ 'zuser-nossha', 'zpass' ], [ 'zuser-badssha', 'zpass' ],
		[ 'zuser-shortssha', 'zpass' ],
		[ 'zuser-shortssha', 'salt' ]),
	[ 'the second field', 'zuser-field', 'zpass-second' ],
	[ 'both fields', 'zuser-field', 'zpass-field:{PLAIN}zpass-second' ],
	[ 'the second line of a user', 'zuser-twice', 'zpass-second' ],
	[ 'a name without its space', 'zuser-space', 'zpass-space' ],
	[ 'a hash as a password', 'zuser-plain', '{PLAIN}zpass-plain' ],
	[ 'a part of a password', 'zuser-plain', 'zpass-plai' ],
	[ 'more than a password', 'zuser-plain', 'zpass-plains' ],
	[ 'NUL and more', 'zuser-nul', "zpass\0more" ],
	[ 'NUL at the end', 'zuser-nul', "zpass\0" ],
	[ 'NUL alone', 'zuser-nul', "\0" ],
	(map { [ "NUL in a password, $_->[0]", "zuser-$_->[0]",
		"zpass-$_->[0]\0" ] } @formats[0 .. 7]),
	[ 'NUL in a name', "zuser-nul\0", 'zpass' ],
	[ 'NUL in a name, and more', "zuser-nul\0more", 'zpass' ],
	[ 'a part of a long name', substr($long, 0, 254), 'zpass-long' ],
	[ 'a part of a long password', 'zuser-secret',
		substr($secret, 0, 254) ],
	[ 'a user with a colon', 'zuser-field:{PLAIN}zpass-field',
		'zpass-second' ],
	[ 'a user with a colon at its end', 'zuser-plain:', 'zpass-plain' ],
	[ 'a user with a newline', "zuser-star\nzuser-twice", 'zpass-first' ],
	[ 'a newline before a user', "\nzuser-plain", 'zpass-plain' ],
	[ 'a line without a colon and a user', "zuser-alone\nzuser-below",
		'zpass-below' ],
	[ 'a user and a newline', "zuser-twice\n", 'zpass-first' ],
	[ 'a line as a user', "zuser-x:x\nzuser-none", '' ],
);

$t->plan(4 + 3 * @formats + 2 * @other + 149);

###############################################################################

# what is offered, and what is taken

socks_answer($t, port(8080), socks5_greeting(0), '05ff', "$failed \"-\" - - -",
	'a client without a password');
socks_answer($t, port(8081), socks5_greeting(2), '05ff', "$failed \"-\" - - -",
	'a client with nothing but a password');

for my $case (@formats) {
	my ($name) = @$case;

	is(socks_good($t, '5', port(8080), $echo, $p, $name,
		auth => [ "zuser-$name", "zpass-$name" ]),
		qq/$good "zuser-$name" $echo:$p 5 5/, "$name, logged");
	is(auth(8080, "zuser-$name", 'zpass.'), '0101 EOF', "$name, wrong");
}

for my $case (@other) {
	my ($name, $user, $password) = @$case;

	is(auth(8080, $user, $password), '0101 EOF', $name);
	is(auth(8080, $user, $password), '0101 EOF', "$name, again");
}

for my $case (
	[ 'a password and other fields', 'zuser-field', 'zpass-field' ],
	[ 'the first line of a user', 'zuser-twice', 'zpass-first' ],
	[ 'a line with CRLF', 'zuser-crlf', 'zpass-crlf' ],
	[ 'a name with a space', ' zuser-space', 'zpass-space' ],
	[ 'the password before NUL', 'zuser-nul', 'zpass' ],
	[ 'a name of 255 bytes', $long, 'zpass-long' ],
	[ 'a password of 255 bytes', 'zuser-secret', $secret ],
	[ 'any bytes in a password', 'zuser-bytes', "zpass-\xff\x01 \"\\" ],
	[ 'any bytes in a name', $bytes, 'zpass-name' ],
	[ 'the last line', 'zuser-last', 'zpass-last' ],
) {
	my ($name, $user, $password) = @$case;

	is(auth(8080, $user, $password), '0100', $name);
	is(auth(8080, $user, $password), '0100', "$name, again");
}

my @all = grep { auth(8080, "zuser-$_", "zpass-$_") ne '0100' }
	map { sprintf '%04d', $_ * 41 } 1 .. 39;
is("@all", '', 'users of a long file');

# RFC 1929 has names and passwords of one byte at least

like(auth(8080, '', 'zpass-empty'), qr/^0101 EOF$/, 'an empty name');
like(auth(8080, 'zuser-none', ''), qr/^0101 EOF$/, 'an empty password');
like(auth(8080, 'zuser-plain', ''), qr/^0101 EOF$/,
	'an empty password of a user who has one');
like(auth(8080, '', ''), qr/^0101 EOF$/, 'nothing at all');

# what is logged of those who fail

my $s = socks_client($t, port(8080));
write_all($s, socks5_greeting(2) . socks5_auth('zuser-plain', 'zpass-no')
	. socks5_request($echo, $p) . 'early');
is(ends($s), '05020101 EOF', 'all in one, wrong password');
close $s;
is(socks_logged($t, $s), qq/$failed "zuser-plain" - - -/,
	'wrong password, logged');

$s = socks_client($t, port(8080));
write_all($s, socks5_greeting(2) . socks5_auth('zuser-plain', 'zpass-plain')
	. socks5_request($echo, $p) . 'early');
is(unpack('H*', read_n($s, 8)), '0502010005000001', 'all in one');
read_n($s, 6);
is(read_n($s, 5), 'early', 'all in one, early bytes');
close $s;

# another version of the sub-negotiation

for my $version (0, 2, 5, 255) {
	socks_answer($t, port(8080), socks5_greeting(2)
		. pack('C', $version) . substr(socks5_auth('zuser-plain',
			'zpass-plain'), 1), '05020101',
		'400 bad_request - 5 - "-" - - -$',
		"sub-negotiation version $version");
}

# files

is(auth(8082, 'zuser-file', 'zpass-two'), '0100', 'file by a variable');
is(auth(8082, 'zuser-file', 'zpass-three'), '0101 EOF',
	'file by a variable, wrong');
is(auth(8084, 'zuser-file', 'zpass-three'), '0100', 'another file');
is(auth(8084, 'zuser-file', 'zpass-two'), '0101 EOF', 'another file, wrong');
is(auth(8083, 'zuser-file', 'zpass-two'), '0101 EOF', 'no file');
is(auth(8085, 'zuser-file', 'zpass-two'), '0101 EOF', 'missing file');
ok(wait_log($t, 'error.log', qr!\[(?:error|crit)\].*\Q$d\E/missing!),
	'missing file, logged');

# a file that appears, and one that changes

$t->write_file('missing', "zuser-file:{PLAIN}zpass-late\n");
is(auth(8085, 'zuser-file', 'zpass-late'), '0100', 'file is there now');
unlink "$d/missing";
is(auth(8085, 'zuser-file', 'zpass-late'), '0101 EOF', 'file is gone again');

is(auth(8086, 'zuser-a', 'zpass-old'), '0100', 'file before a change');
is(auth(8086, 'zuser-a', 'zpass-old'), '0100', 'again');
$t->write_file('changing', "zuser-a:{PLAIN}zpass-new\nzuser-b:{PLAIN}zpass\n");
is(auth(8086, 'zuser-a', 'zpass-old'), '0101 EOF', 'old password');
is(auth(8086, 'zuser-a', 'zpass-new'), '0100', 'new password');
is(auth(8086, 'zuser-b', 'zpass'), '0100', 'new user');
$t->write_file('changing', 'zuser-a:' . password_hash('6', 'zpass-new')
	. "\n");
is(auth(8086, 'zuser-a', 'zpass-new'), '0100', 'new hash');
is(auth(8086, 'zuser-a', 'zpass-new'), '0100', 'new hash, again');
is(auth(8086, 'zuser-b', 'zpass'), '0101 EOF', 'user is gone');
$t->write_file('changing', 'zuser-a:' . password_hash('6', 'zpass-other')
	. "\n");
is(auth(8086, 'zuser-a', 'zpass-new'), '0101 EOF',
	'what has matched is not for another hash');
$t->write_file('changing', 'zuser-c:' . password_hash('6', 'zpass-other')
	. "\n");
is(auth(8086, 'zuser-a', 'zpass-other'), '0101 EOF', 'nor for another user');
is(auth(8086, 'zuser-c', 'zpass-other'), '0100', 'user of the same hash');

# delays: three at once, while others are served

$start = time();

my @s = (
	start($t, 8087, socks5_greeting(2) . socks5_auth('zuser-no', 'zpass-no')),
	start($t, 8087, socks5_greeting(2)
		. socks5_auth('zuser-sha512', 'zpass-no')),
	start($t, 8087, socks4_request($echo, $p, user => 'zuser-no')),
);

read_n($s[$_], 2) for 0, 1;

is(socks_good($t, '5', port(8087), $echo, $p, 'success is not delayed',
	auth => [ 'zuser-sha512', 'zpass-sha512' ]) =~ /^200 ok/, 1,
	'success is not delayed, logged');
socks_good($t, '4', port(8087), $echo, $p, 'nor is that of SOCKS4',
	user => 'zuser-four');
socks_good($t, '5', port(8081), $echo, $p, 'others are served');

SKIP: {
	skip 'too slow', 1 if time() - $start > 0.6;
	ok(!IO::Select->new(@s)->can_read(0), 'failures wait');
}

my @ends = map { ends($_) } @s;
my $took = time() - $start;
close $_ for @s;

is(join(', ', @ends), '0101 EOF, 0101 EOF, ' . socks4_hex(93) . ' EOF',
	'failures');
ok($took > 0.65 && $took < 5, 'socks_auth_delay') or diag($took);

is(join(', ', map { (split ' ', socks_logged($t, $_))[0, 1] } @s),
	'407, auth_failed, 407, auth_failed, 407, auth_failed',
	'failures, logged');

# those who leave meanwhile; one that has ended may still want its reply

my @gone = map { my $how = $_; map { [ $how, leave($t, 8088, $how, $_) ] }
	socks5_greeting(2) . socks5_auth('zuser-no', 'zpass-no'),
	socks4_request($echo, $p, user => 'zuser-no') } qw/ reset close end /;

for my $case (@gone) {
	my ($how, $s) = @$case;

	like(socks_logged($t, $s), qr/^407 auth_failed - [45] /,
		"a client that leaves while it waits, $how");
}

ok(wait_for(sub { tcp_count($pid) == 0 }), 'and nobody waits any more')
	or diag(tcp_count($pid));

# SOCKS4

my $wrong = socks4_hex(93);

for my $version ('4', '4a') {
	my $line = "407 auth_failed - $version (?:connect|-)";

	socks_answer($t, port(8080), socks_request($version, $echo, $p),
		$wrong, "$line \"-\" ", "SOCKS$version where there are passwords");
	socks_answer($t, port(8080), socks_request($version, $echo, $p,
		user => 'zuser-plain'), $wrong, "$line \"zuser-plain\" ",
		"SOCKS$version, a user of the file");
	socks_answer($t, port(8071), socks_request($version, $echo, $p,
		user => 'off'), $wrong, "$line \"off\" ",
		"SOCKS$version, socks_userid off");
}

for my $user ('', 'zuser-no') {
	like(socks_good($t, '4', port(8089), $echo, $p, "any userid, \"$user\"",
		user => $user), qr/^200 ok completed 4 connect "(?:$user|-)" /,
		"any userid, \"$user\", logged");
	socks_good($t, '4', port(8081), $echo, $p,
		"any userid by default, \"$user\"", user => $user);
	socks_good($t, '4', port(8073), $echo, $p,
		"any userid beside passwords, \"$user\"", user => $user);
}

is(auth(8071, 'zuser-plain', 'zpass-plain', 0), '0500',
	'socks_userid is not for SOCKS5');

for my $user ('zuser-one', 'zuser two', 'zuser-dev-a', 'zuser-OPS') {
	socks_good($t, '4', port(8090), $echo, $p, "userid $user",
		user => $user);
}

socks_good($t, '4a', port(8090), $echo, $p, "userid of SOCKS4a",
	user => 'zuser-one');

for my $user ('', 'zuser-on', 'zuser-one1', 'ZUSER-one', 'zuser', 'two',
	'zuser-DEV-a', 'a-zuser-dev-a', 'zuser-ops1', 'any', 'off')
{
	socks_answer($t, port(8090), socks_request('4', $echo, $p,
		user => $user), $wrong, '407 auth_failed - 4 (?:connect|-) '
		. ($user eq '' ? '"-"' : qq/"$user"/) . ' ',
		"wrong userid \"$user\"");
}

socks_good($t, '4', port(8070), $echo, $p, 'empty userid');
socks_good($t, '4', port(8070), $echo, $p, 'userid and an empty one',
	user => 'zuser-one');
is(ask(8070, socks_request('4', $echo, $p, user => 'a')), "$wrong EOF",
	'neither of them');

# hashes that take their time: nobody waits for those of others

my @slow = map {
	start($t, 8072, socks5_greeting(2) . socks5_auth("zuser-$_", "zpass-$_")
		. socks5_request($echo, $p) . "early $_")
} 1, 2;
push @slow, map {
	start($t, 8072, socks5_greeting(2) . socks5_auth("zuser-$_", 'zpass-no'))
} 1, 3;

read_n($_, 2) for @slow;

my ($tunnel, $code) = socks_open($t, '5', port(8081), $echo, $p);
is($code, 0, 'a tunnel while hashes are made');
is(echo($tunnel, "ping $_"), "ping $_", "and its bytes, $_") for 1 .. 5;

ok(!IO::Select->new(@slow)->can_read(0), 'hashes are still being made');
close $tunnel;

for my $n (1, 2) {
	$s = shift @slow;

	is(unpack('H*', read_n($s, 6)), '010005000001', "slow hash $n");
	read_n($s, 6);
	is(read_n($s, 7), "early $n", "slow hash $n, early bytes");
	close $s;
}

is(ends($_), '0101 EOF', 'slow hash, wrong') for @slow;

# what has matched is remembered, what has not is not

my @took;

for my $case ([ '1', '0100' ], [ 'no', '0101 EOF' ]) {
	my ($password, $reply) = @$case;

	$start = time();
	is(auth(8072, 'zuser-1', "zpass-$password"), $reply,
		"slow hash again, $password");
	push @took, time() - $start;
}

cmp_ok($took[0], '<', $took[1] / 2, 'what has matched is remembered');

# those who leave meanwhile

@gone = map { [ $_, leave($t, 8072, $_, socks5_greeting(2)
	. socks5_auth('zuser-3', "zpass-$_")) ] } qw/ reset close end /;

for my $case (@gone) {
	my ($how, $s) = @$case;

	like(socks_logged($t, $s), $how eq 'reset' ? qr/^499 - - 5 - "zuser-3" /
		: qr/^(?:499 -|407 auth_failed) - 5 - "zuser-3" /,
		"a client that leaves while its hash is made, $how");
}

socks_good($t, '5', port(8072), $echo, $p, 'right behind them',
	auth => [ 'zuser-3', 'zpass-3' ]);

is((workers($t))[0], $pid, 'worker is the same');
ok(wait_for(sub { tcp_count($pid) == 0 }), 'no connection left open');

# what nobody should read

my @lines = log_lines($t, 'error.log');
my @info = grep { !/\[debug\]/ } @lines;

ok(grep(/auth_failed/, @info) > 100, 'failures in error.log');
is(join("\n", grep { /zpass|\Q$secret\E/ } @lines), '', 'no passwords');
is(join("\n", grep { /zuser|ZUSER/ } @info), '', 'no users');
is(join("\n", grep { !/"zuser-field:/ && /zpass/ }
	log_lines($t, 'tunnel.log')), '', 'no passwords in tunnel.log');

###############################################################################

sub start {
	my ($t, $number, $bytes) = @_;

	my $s = socks_client($t, port($number));
	write_all($s, $bytes);

	return $s;
}

# A client that leaves once nginx is at it.

sub leave {
	my ($t, $number, $how, $bytes) = @_;

	my $s = start($t, $number, $bytes);
	$bytes =~ /^\x05/ ? read_n($s, 2) : sleep(0.1);

	$how eq 'close' ? close $s : $how eq 'reset' ? reset_close($s)
		: half_close($s);

	return $s;
}

# What comes of an authentication: the reply, and the end if it comes to that.

sub auth {
	my ($number, $user, $password, $method) = @_;

	my $s = tcp_connect(port($number));
	write_all($s, socks5_greeting(defined $method ? $method : 2));

	my $reply = unpack 'H*', read_n($s, 2);
	return $reply if $reply ne '0502';

	write_all($s, socks5_auth($user, $password));
	$reply = unpack 'H*', read_n($s, 2);

	return $reply eq '0100' ? $reply : $reply . ' ' . ends($s);
}

sub ask {
	my ($number, $bytes) = @_;

	my $s = tcp_connect(port($number));
	write_all($s, $bytes);

	return ends($s);
}

###############################################################################
