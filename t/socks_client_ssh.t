#!/usr/bin/perl

# Tests for SOCKS with ssh, through several of its ProxyCommands, and git over
# it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT start_sshd ssh /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream/)->plan(48);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$socks_version $socks_command $tunnel_target '
                      '$status $tunnel_result';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow ssh.example.test:* 127.0.0.1:%%PORT_8022%%;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_auth basic proxy users;
        socks_auth_delay 300ms;
    }

    server {
        listen 127.0.0.1:8082;
        socks 4 4a;
        socks_userid alice;
        socks_auth_delay 300ms;
    }
}

EOF

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('.gitconfig', <<EOF);
[user]
	name = test
	email = test\@example.test
[init]
	defaultBranch = main
EOF

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { 'ssh.example.test' => '127.0.0.1' });

start_sshd($t, port(8022));

$t->run();

###############################################################################

my $dir = $t->testdir();
my $port = port(8022);
my $name = "ssh.example.test:$port";
my $ip = "127.0.0.1:$port";

my $open = port(8080);
my $auth = port(8081);
my $userid = port(8082);

my $data = pattern(5 * 1024 * 1024);

# who speaks it, and what it then asks for

my @commands = (
	[ 'nc 4', "4 connect $ip",
		"nc.openbsd -X 4 -x 127.0.0.1:$open 127.0.0.1 %p" ],
	[ 'nc 5', "5 connect $name",
		"nc.openbsd -X 5 -x 127.0.0.1:$open %h %p" ],
	[ 'ncat 4', "4a connect $name", 'ncat --proxy-type socks4 '
		. "--proxy-dns remote --proxy 127.0.0.1:$open %h %p" ],
	[ 'ncat 5', "5 connect $name", 'ncat --proxy-type socks5 '
		. "--proxy-dns remote --proxy 127.0.0.1:$open %h %p" ],
	[ 'socat 4', "4 connect $ip",
		"socat - SOCKS4:127.0.0.1:127.0.0.1:%p,socksport=$open" ],
	[ 'socat 4A', "4a connect $name",
		"socat - SOCKS4A:127.0.0.1:%h:%p,socksport=$open" ],
	[ 'connect 4', "4 connect $ip",
		"connect-proxy -4 -S 127.0.0.1:$open 127.0.0.1 %p" ],
	[ 'connect 5', "5 connect $name",
		"connect-proxy -5 -R remote -S 127.0.0.1:$open %h %p" ],
);

for my $case (@commands) {
	my ($client, $target, $command) = @$case;

	# both directions at once

	my $r = ssh($t, $command, 'cat', { in => $data });
	ok($r->{status} eq '0' && $r->{out} eq $data, $client)
		|| diag("status $r->{status}, " . length($r->{out})
			. " bytes, $r->{err}");
	is(tunnels($t), "$target 200 ok", "$client log");
}

# nc leaves the connection to ssh once it is there

is_client(client($t, [ 'ssh', '-F', 'ssh_config', '-o', 'ProxyUseFdpass=yes',
	'-o', "ProxyCommand=nc.openbsd -F -X 5 -x 127.0.0.1:$open %h %p",
	'ssh.example.test', 'echo', 'SEE-THIS' ]), "SEE-THIS\n",
	'nc passes the descriptor');
is(tunnels($t), "5 connect $name 200 ok", 'nc passes the descriptor log');

# passwords, and userids

$t->write_file('connect', <<EOF);
#!/bin/sh
export SOCKS5_USER=user SOCKS5_PASSWD=secret
exec connect-proxy -5 -R remote -S 127.0.0.1:$auth "\$@"
EOF

for my $case (
	[ 'ncat password', "5 connect $name", 'ncat --proxy-type socks5 '
		. '--proxy-dns remote --proxy-auth user:secret '
		. "--proxy 127.0.0.1:$auth %h %p" ],
	[ 'connect password', "5 connect $name", "sh $dir/connect %h %p" ],
	[ 'ncat userid', "4a connect $name", 'ncat --proxy-type socks4 '
		. '--proxy-dns remote --proxy-auth alice '
		. "--proxy 127.0.0.1:$userid %h %p" ],
	[ 'socat userid', "4a connect $name", 'socat - '
		. "SOCKS4A:127.0.0.1:%h:%p,socksport=$userid,"
		. 'socksuser=alice' ])
{
	my ($client, $target, $command) = @$case;

	is_client(ssh($t, $command, 'echo', 'SEE-THIS'), "SEE-THIS\n",
		$client);
	is(tunnels($t), "$target 200 ok", "$client log");
}

for my $case (
	[ 'ncat wrong password', '407 auth_failed', qr/authentication failed/i,
		'ncat --proxy-type socks5 --proxy-dns remote '
		. "--proxy-auth user:wrong --proxy 127.0.0.1:$auth %h %p" ],
	[ 'nc no password', '407 auth_failed', qr/authentication method/i,
		"nc.openbsd -X 5 -x 127.0.0.1:$auth %h %p" ],
	[ 'socat wrong userid', '407 auth_failed', qr/socks:/i,
		"socat - SOCKS4A:127.0.0.1:%h:%p,socksport=$userid,"
		. 'socksuser=mallory' ],
	[ 'nc 5 refused', '502 refused', qr/connection refused/i,
		"nc.openbsd -X 5 -x 127.0.0.1:$open %h " . port(8999) ],
	[ 'socat 4A refused', '502 refused', qr/socks:/i,
		"socat - SOCKS4A:127.0.0.1:%h:" . port(8999)
		. ",socksport=$open" ],
	[ 'ncat denied', '403 denied_name', qr/not allowed/i,
		'ncat --proxy-type socks5 --proxy-dns remote '
		. "--proxy 127.0.0.1:$open denied.example.test %p" ])
{
	my ($client, $result, $re, $command) = @$case;

	is_failed(ssh($t, $command, 'echo', 'SEE-THIS'), $re, $client);
	like(tunnels($t), qr/ $result\z/, "$client log");
}

# git: the server's repository, and the commit it starts with

done(client($t, [qw/ git init -q --bare project.git /]));
done(client($t, [qw/ git clone -q project.git first /]));

$t->write_file('first/data', $data);

done(client($t, [qw/ git -C first add data /]));
done(client($t, [qw/ git -C first commit -q -m first /]));
done(client($t, [qw/ git -C first push -q origin HEAD:main /]));

my $url = "ssh://ssh.example.test:$port$dir/project.git";
my $nc = "nc.openbsd -X 5 -x 127.0.0.1:$open %h %p";
my $ncat = 'ncat --proxy-type socks5 --proxy-dns remote '
	. "--proxy-auth user:secret --proxy 127.0.0.1:$auth %h %p";

is_client(git($t, $nc, 'clone', '-q', $url, 'second'), '', 'git clone');
is(tunnels($t), "5 connect $name 200 ok", 'git clone log');
ok(slurp("$dir/second/data") eq $data, 'git clone content');

my $more = pattern(6 * 1024 * 1024, 11);

$t->write_file('second/more', $more);

done(client($t, [qw/ git -C second add more /]));
done(client($t, [qw/ git -C second commit -q -m more /]));

is_client(git($t, $ncat, qw/ -C second push -q origin HEAD:main /), '',
	'git push');
is(tunnels($t), "5 connect $name 200 ok", 'git push log');
is_client(client($t, [qw/ git -C project.git rev-parse main /]),
	client($t, [qw/ git -C second rev-parse HEAD /])->{out},
	'git push arrived');

is_client(git($t, $ncat, qw/ -C second fetch -q origin /), '', 'git fetch');
is(tunnels($t), "5 connect $name 200 ok", 'git fetch log');

is_failed(git($t, "nc.openbsd -X 5 -x 127.0.0.1:$auth %h %p", 'ls-remote',
	$url), qr/authentication method/i, 'git no password');
is(tunnels($t), '5 - - 407 auth_failed', 'git no password log');

###############################################################################

sub git {
	my ($t, $proxy, @args) = @_;

	return client($t, [ 'git', '-c', 'core.sshCommand=ssh -F '
		. $t->testdir() . "/ssh_config -o 'ProxyCommand=$proxy'",
		@args ], env => { GIT_TERMINAL_PROMPT => 0 });
}

sub done {
	my ($r) = @_;

	die "Can't prepare repository: $r->{err}\n" if $r->{status} ne '0';
}

sub slurp {
	my ($file) = @_;

	open my $fh, '<', $file or return '';
	binmode $fh;
	local $/;
	return scalar <$fh>;
}

###############################################################################
