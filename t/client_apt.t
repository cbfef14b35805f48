#!/usr/bin/perl

# Tests for CONNECT tunnels with apt, and a repository of ours.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha256_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic/)->plan(21);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$request $status $tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate repo.crt;
    ssl_certificate_key repo.key;

    target_allow repo.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8082;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;
        root %%TESTDIR%%/repo;
    }

    server {
        listen 127.0.0.1:8444 ssl;
        root %%TESTDIR%%/repo;
        keepalive_timeout 0;
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'repo', ca => 'ca', san => [ 'repo.example.test',
	'127.0.0.1' ]);

$t->write_file('users', "user:{PLAIN}secret\n");

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { 'repo.example.test' => '127.0.0.1' });

$t->run();

###############################################################################

my $dir = $t->testdir();
my $repo = 'repo.example.test:' . port(8443);
my $closing = 'repo.example.test:' . port(8444);
my $connect = qr/CONNECT $repo HTTP\/1\.[01]/;

my $deb = 'test-package_1.0_all.deb';
my $sum = make_repository($t, $deb);

my $http = 'http://127.0.0.1:' . port(8080) . '/';
my $https = 'https://127.0.0.1:' . port(8081) . '/';
my $password = 'http://user:secret@127.0.0.1:' . port(8082) . '/';
my $wrong = 'http://user:wrong@127.0.0.1:' . port(8082) . '/';

# With TLS in TLS apt 2.6 waits for the socket while it has not yet looked at
# all that its session with the proxy has read, be it nginx or another proxy.
# The end of the connection wakes it up, so the repository closes after each
# answer: to InRelease, Release, Release.gpg, and Packages.

for my $case ([ 'http proxy', $http, $repo, 1 ],
	[ 'https proxy', $https, $closing, 4 ],
	[ 'password', $password, $repo, 1 ])
{
	my ($name, $proxy, $repo, $n) = @$case;
	my $ok = qr/CONNECT $repo HTTP\/1\.[01] 200 ok/;

	apt_tree($t, "https://$repo");

	my $r = apt($t, $proxy, 'update');
	is($r->{status}, 0, "$name update")
		|| diag("$r->{out}$r->{err}");
	like(tunnels($t, $n), qr/^$ok(\n$ok){@{[$n - 1]}}\z/,
		"$name update log");

	$r = apt($t, $proxy, 'download', 'test-package');
	is($r->{status}, 0, "$name download")
		|| diag("$r->{out}$r->{err}");
	is(file_sum("$dir/$deb"), $sum, "$name package");
	like(tunnels($t), qr/^$ok\z/, "$name download log");

	unlink "$dir/$deb";
}

apt_tree($t, "https://$repo");
is_failed(apt($t, $wrong, 'update'), qr/\b407\b/, 'wrong password');
like(tunnels($t), qr/^$connect 407 -$/, 'wrong password log');

my $closed = 'repo.example.test:' . port(8999);
apt_tree($t, "https://$closed");
is_failed(apt($t, $http, 'update'), qr/\b502\b/, 'refused');
like(tunnels($t), qr/^CONNECT $closed HTTP\/1\.[01] 502 refused$/,
	'refused log');

apt_tree($t, 'https://denied.example.test');
is_failed(apt($t, $http, 'update'), qr/\b403\b/, 'denied');
like(tunnels($t),
	qr/^CONNECT denied\.example\.test:443 HTTP\/1\.[01] 403 denied_name$/,
	'denied log');

###############################################################################

# All of apt's state is in the test directory, and new each time.

sub apt_tree {
	my ($t, $url) = @_;

	my $dir = $t->testdir();

	system('rm', '-rf', "$dir/apt");
	mkdir "$dir/$_" or die "Can't create $_: $!\n" for
		qw! apt apt/etc apt/etc/apt apt/etc/apt/preferences.d
		apt/lists apt/lists/partial apt/cache apt/cache/archives
		apt/cache/archives/partial !;

	$t->write_file('apt/status', '');
	$t->write_file('apt/sources.list', "deb [trusted=yes] $url ./\n");
}

sub apt {
	my ($t, $proxy, @args) = @_;

	my $dir = $t->testdir();

	# what the system configures is not read at all

	$t->write_file('apt.conf', <<EOF);
Dir "$dir/apt/";
Dir::Etc "etc/apt/";
Dir::Etc::sourcelist "$dir/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::State "$dir/apt";
Dir::State::status "$dir/apt/status";
Dir::State::lists "lists/";
Dir::Cache "cache/";
Dir::Log "";
Dir::Bin::dpkg "/usr/bin/dpkg";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
Acquire::Retries "0";
Acquire::Languages "none";
Acquire::https::CaInfo "$dir/ca.crt";
Acquire::https::Proxy "$proxy";
EOF

	my $r = client($t, [ 'apt-get', '-q', '-o',
		'Dir::Bin::methods=/usr/lib/apt/methods', @args ],
		env => { APT_CONFIG => "$dir/apt.conf" });

	# an "update" that could not fetch anything is a success to apt

	$r->{status} = 100
		if $r->{status} eq '0' && $r->{err} =~ /^[EW]: Failed/m;

	return $r;
}

# A flat repository with one package in it.

sub make_repository {
	my ($t, $deb) = @_;

	my $dir = $t->testdir();

	mkdir "$dir/$_" or die "Can't create $_: $!\n"
		for qw! repo package package/DEBIAN package/data !;

	my $control = <<EOF;
Package: test-package
Version: 1.0
Architecture: all
Maintainer: test <test\@example.test>
Description: package of a test
EOF

	$t->write_file('package/DEBIAN/control', $control);
	$t->write_file('package/data/data', pattern(1024 * 1024));

	my $r = client($t, [ 'dpkg-deb', '--root-owner-group', '-Znone', '-b',
		'package', "repo/$deb" ]);
	die "Can't create $deb: $r->{err}\n" if $r->{status} ne '0';

	my $sum = file_sum("$dir/repo/$deb");
	my $size = -s "$dir/repo/$deb";

	my $packages = $control
		. "Filename: ./$deb\nSize: $size\nSHA256: $sum\n";

	$t->write_file('repo/Packages', $packages);
	$t->write_file('repo/Release', "Date: Thu, 01 Jan 2026 00:00:00 UTC\n"
		. "SHA256:\n " . join(' ', sha256_hex($packages),
			length $packages, 'Packages') . "\n");

	return $sum;
}

sub file_sum {
	my ($file) = @_;

	return "no file: $file" unless -f $file;
	return Digest::SHA->new(256)->addfile($file)->hexdigest();
}

###############################################################################
