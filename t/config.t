#!/usr/bin/perl

# Tests for the configuration of tunnels: what nginx -t says about each
# directive, where it may stand, and how it is inherited.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

use IO::Socket::INET;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite/);

# what the messages are made of

my $pattern = 'it must be "host:port", "*.domain:port", ".domain:port", '
	. '"*:port", "~regex", or "~*regex"';
my $port = 'it must be a number from 1 to 65535, a range "first-last", or "*"';
my $address = 'it must be an address, a CIDR block, "private", "unix:", or "all"';
my $name = 'it must be "off", "on", or a name of a letter and of letters, '
	. 'digits, ".", "-", "_", and ":"';
my $flag = 'it must be "on" or "off"';
my $size = 'it must be from 1k to 16m';
my $char = 'the host has an invalid character';
my $ipv4 = 'an IPv4 address must be four decimal numbers';
my $sub = 'an address has no subdomains';
my $anchor = 'has no leading "^" and matches more hosts than those it names';

# wrong values

my $versions = 'in "connect_tunnel_min_version" directive, '
	. 'it must be "1.0" or "1.1" or "2.0"';
my $binds = 'in "target_bind" directive, it must be "off" or an address';
my $sizes = 'in "relay_buffer_size" directive, '
	. 'it must be a size, such as 4096, 64k, or 1m';

my @bad = (
	[ 'connect_tunnel nosuch', 'no port in upstream "nosuch"' ],
	[ 'connect_tunnel nosuch.invalid:443',
		'host not found in upstream "nosuch.invalid"' ],
	[ 'connect_tunnel ""',
		'"connect_tunnel" directive has an empty target' ],
	[ 'connect_tunnel 192.0.2.1', 'no port in upstream "192.0.2.1"' ],
	[ 'connect_tunnel 192.0.2.1:0',
		'invalid port in upstream "192.0.2.1:0"' ],
	[ 'connect_tunnel 192.0.2.1:65536',
		'invalid port in upstream "192.0.2.1:65536"' ],
	[ 'connect_tunnel 192.0.2.1:x',
		'invalid port in upstream "192.0.2.1:x"' ],
	[ 'connect_tunnel http://192.0.2.1:443',
		'invalid host in upstream "http://192.0.2.1:443"' ],
	[ 'connect_tunnel 192.0.2.1:443/path',
		'invalid host in upstream "192.0.2.1:443/path"' ],
	[ 'connect_tunnel [::1:443', 'invalid host in upstream "[::1:443"' ],
	[ 'connect_tunnel :443', 'no host in upstream ":443"' ],
	[ 'connect_tunnel unix:',
		'no path in the unix domain socket in upstream "unix:"' ],
	[ 'connect_tunnel group:80', 'upstream "group" may not have port 80' ],
	[ 'connect_tunnel $nosuch', 'unknown "nosuch" variable' ],
	[ 'connect_tunnel ${', 'invalid variable name' ],

	[ 'connect_tunnel_min_version 3.0', 'invalid value "3.0" ' . $versions ],
	[ 'connect_tunnel_min_version 1', 'invalid value "1" ' . $versions ],
	[ 'connect_tunnel_min_version ""', 'invalid value "" ' . $versions ],

	(map { [ "connect_tunnel_proxy_status $_->[0]",
		qq/invalid value "$_->[1]", $name/ ] }
		[ '""', '' ], [ '1a', '1a' ], [ '.a', '.a' ], [ '"a b"', 'a b' ],
		[ 'a/b', 'a/b' ], [ '"a;b"', 'a;b' ], [ '"a\r"', "a\r" ]),

	(map { [ "target_allow $_->[0]",
		qq/invalid target pattern "$_->[1]", $pattern/ ] }
		[ 'example.org', 'example.org' ], [ '*', '*' ], [ '""', '' ],
		[ ':443', ':443' ], [ '443', '443' ], [ '[::1]', '[::1]' ],
		[ '*:443 [::1]:443 [::2]', '[::2]' ], [ '[::1', '[::1' ]),

	(map { [ "target_allow example.org:$_",
		qq/invalid port "$_" in target pattern "example.org:$_", $port/
		] } '', 0, 65536, 65979, 4294967739, '+443', '0x1bb', 'x', '443x',
		'443-', '-443', '443-80', '0-443', '443-65536', '1-2-3', '**'),
	[ 'target_allow *:0',
		qq/invalid port "0" in target pattern "*:0", $port/ ],
	[ 'target_allow http://example.org:443/',
		qq!invalid port "443/" in target pattern !
		. qq!"http://example.org:443/", $port! ],

	(map { [ "target_allow $_->[0]",
		qq/invalid host in target pattern "$_->[0]": $_->[1]/ ] }
		[ '::1:443', 'an IPv6 address must be in brackets' ],
		[ 'exa/mple.org:443', $char ], [ 'ex*mple.org:443', $char ],
		[ 'www.*.org:443', $char ], [ '**:443', $char ],
		[ 'user@example.org:443', $char ], [ 'a%62.org:443', $char ],
		[ '.:443', 'the host is empty' ],
		[ '127.1:443', $ipv4 ], [ '0x7f000001:443', $ipv4 ],
		[ '192.0.2.256:443', $ipv4 ], [ '2130706433:443', $ipv4 ],
		[ '[::1:443', 'a bracket is not closed' ],
		[ '[zz]:443', 'the IPv6 address is invalid' ],
		[ '*.192.0.2.1:443', $sub ], [ '.192.0.2.1:443', $sub ],
		[ '*.[::1]:443', $sub ]),
	[ 'target_allow "a b:443"',
		qq/invalid host in target pattern "a b:443": $char/ ],
	[ 'target_allow ' . join('.', ('a' x 63) x 4) . ':443',
		qr/^\[emerg\] invalid host in target pattern "[a.]{255}:443": the \w/ ],

	[ 'target_allow ~', 'empty regex in target pattern "~"' ],
	[ 'target_allow ~*', 'empty regex in target pattern "~*"' ],
	[ 'target_allow ~^(', qr/^\[emerg\] pcre2?_compile\(\) failed: .* in "\^\("/ ],

	[ 'target_deny example.org',
		qq/invalid target pattern "example.org", $pattern/ ],
	[ 'target_deny example.org:x',
		qq/invalid port "x" in target pattern "example.org:x", $port/ ],
	[ 'target_deny 127.1:443',
		qq/invalid host in target pattern "127.1:443": $ipv4/ ],

	(map { [ "target_allow_address $_", qq/invalid address "$_", $address/
		] } '10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/x',
		'10.0.0', '10.0.0.256', 'example.org', '10.0.0.1:443', '[::1]',
		'unix', 'ALL', 'none', '10.0.0.1-10.0.0.2'),
	[ 'target_allow_address ""', qq/invalid address "", $address/ ],
	[ 'target_allow_address all x', qq/invalid address "x", $address/ ],
	[ 'target_deny_address 10.0.0.0/33',
		qq!invalid address "10.0.0.0/33", $address! ],
	[ 'target_deny_address public', qq/invalid address "public", $address/ ],

	[ 'target_prefer v4', 'invalid value "v4" in "target_prefer" '
		. 'directive, it must be "any" or "ipv4" or "ipv6"' ],
	[ 'target_bind nosuch', 'invalid value "nosuch" ' . $binds ],
	[ 'target_bind nosuch transparent', 'invalid value "nosuch" in '
		. '"target_bind" directive, it must be an address' ],
	[ 'target_bind 127.0.0.1 nosuch', 'invalid value "nosuch" in '
		. '"target_bind" directive, it must be "transparent"' ],
	[ 'target_bind off transparent', 'invalid value "off" in '
		. '"target_bind" directive, it must be an address' ],
	[ 'target_next_upstream http_500', 'invalid value "http_500" in '
		. '"target_next_upstream" directive, '
		. 'it must be "error" or "timeout" or "off"' ],

	[ 'target_next_upstream_tries x',
		'invalid value "x" in "target_next_upstream_tries" '
		. 'directive, it must be a number' ],
	[ 'target_next_upstream_tries -1',
		'invalid value "-1" in "target_next_upstream_tries" '
		. 'directive, it must be a number' ],

	(map {
		[ "relay_buffer_size $_", qq/invalid "relay_buffer_size" $_, $size/
		] } 0, 1, 1023, 16777217),
	[ 'relay_buffer_size 17m',
		qq/invalid "relay_buffer_size" 17825792, $size/ ],
	[ 'relay_buffer_size x', 'invalid value "x" ' . $sizes ],
	[ 'relay_buffer_size -1', 'invalid value "-1" ' . $sizes ],
);

for my $directive (qw/ target_dry_run tunnel_anonymous_log relay_half_close
	relay_socket_keepalive /)
{
	push @bad, [ "$directive yes",
		qq/invalid value "yes" in "$directive" directive, $flag/ ],
		[ "$directive 1",
		qq/invalid value "1" in "$directive" directive, $flag/ ];
}

for my $directive (qw/ target_connect_timeout target_resolve_timeout
	target_next_upstream_timeout /)
{
	push @bad, map { [ "$directive " . ($_ || '""'),
		qq/invalid value "$_" in "$directive" directive, it must be /
		. 'a time, such as 500ms, 10s, 5m, or 1h' ] } 'x', '-1', '', '1q';
}

my $time = '"off" or a time, such as 500ms, 10s, 5m, or 1h';
my $bytes = '"off" or a number of bytes, such as 1000, 64k, 10m, or 1g';
my $window = 'window= and a time of 1s or more';

for my $case (
	(map { [ $_, $time, '1.5s' ] } qw/ relay_idle_timeout
		relay_send_timeout relay_max_lifetime /),
	(map { [ $_, $bytes, '1.5k', '10s', 'ON', '99999999999999999999' ] }
		qw/ relay_min_rate relay_max_rate relay_upload_rate
		relay_download_rate relay_max_payload /),
	[ 'relay_min_rate 1 window=', $window, '0', '999ms', 'off', '5k' ],
	[ 'relay_min_rate 1 grace=', $time, '5k' ],
) {
	my ($text, $allowed, @values) = @$case;
	my ($directive) = $text =~ /(\w+)/;
	my $space = $text =~ /=$/ ? '' : ' ';

	push @bad, map {
		[ $text . $space . (length || $space eq '' ? $_ : '""'),
			qq/invalid value "$_" in "$directive" directive, /
			. "it must be $allowed" ]
	} 'x', '-1', '', '1q', @values;
}

push @bad, (
	(map {
		[ "relay_min_rate 1000 $_", qq/invalid value "$_" in /
			. '"relay_min_rate" directive, it must be '
			. 'window=time or grace=time' ]
	} '1s', 'Window=1s', 'windows=1s', 'grace', 'burst=1s'),
	(map {
		[ "relay_min_rate 1000 $_",
			'"relay_min_rate" directive is duplicate' ]
	} 'window=1s window=1s', 'grace=1s grace=1s'),
	(map {
		[ "relay_max_payload 1000 $_", qq/invalid value "$_" in /
			. '"relay_max_payload" directive, it must be '
			. '"upload" or "download"' ]
	} 'both', 'UPLOAD', 'off', '1000'),
	(map {
		[ "relay_max_payload 1000 $_; relay_max_payload off $_",
			'"relay_max_payload" directive is duplicate' ]
	} 'upload', 'download'),
	(map {
		[ "relay_splice $_", qq/invalid value "$_" in "relay_splice" /
			. 'directive, it must be "auto" or "on" or "off"' ]
	} 'yes', '1', 'always'),
	[ 'relay_quota ""', 'invalid value "" in "relay_quota" directive, '
		. 'it must be "off" or the name of a relay_quota_zone' ],
	[ 'relay_quota quota; relay_quota other; relay_quota quota',
		'"relay_quota" directive is duplicate' ],
	(map { [ "$_ \$nosuch", 'unknown "nosuch" variable' ] } qw/
		relay_idle_timeout relay_send_timeout relay_max_lifetime
		relay_min_rate relay_max_rate relay_upload_rate
		relay_download_rate relay_max_payload /),
	[ 'relay_min_rate 1 window=$nosuch', 'unknown "nosuch" variable' ],
	[ 'relay_max_payload $nosuch upload', 'unknown "nosuch" variable' ],
);

# quotas stand in http

my $must = '"relay_quota_zone" must have "zone=name:size", "limit=size", '
	. 'and "per=time" parameters';

my @quotas = (
	[ '$host zone=z:1m limit=1g limit=2g', $must ],
	[ '$host zone=z:1m per=1d per=2d', $must ],
	[ '$host limit=1g limit=1g per=1d', $must ],
	(map {
		my ($values, $allowed) = @$_;
		my ($value) = $values =~ /^(\S+)/;
		[ "\$host $values", qq/invalid value "$value" in /
			. qq/"relay_quota_zone" directive, it must be $allowed/
			]
	}
		(map { [ "zone=$_ limit=1 per=1d", 'zone=name:size' ] }
			'z', '', ':1m', 'z:', 'z:x', 'z:-1'),
		(map { [ "limit=$_ zone=z:1m per=1d",
			'limit= and a size, such as 10g' ] }
			'', 'x', '0', '-1', 'off', '1d'),
		(map { [ "per=$_ zone=z:1m limit=1",
			'per= and a time, such as 1d' ] }
			'', 'x', '0', '-1', 'off', '1g'),
		(map { [ "$_ limit=1 per=1d",
			'zone=name:size, limit=size, or per=time' ] }
			'x', 'rate=1', 'size=1m')),
	[ '$host zone=z:1k limit=1 per=1d',
		qr/^\[emerg\] zone "z" is too small, it must have at least \d+k$/
		],
	[ '$nosuch zone=z:1m limit=1 per=1d', 'unknown "nosuch" variable' ],
	[ '$host zone=quota:1m limit=1 per=1d', 'relay_quota_zone "quota" is '
		. 'already bound to key "$remote_addr"' ],
	(map { [ $_, 'invalid number of arguments in "relay_quota_zone" '
		. 'directive' ] } '', '$host', '$host zone=z:1m',
		'$host zone=z:1m limit=1', '$host zone=z:1m limit=1 per=1d x'),
);

# what is said, and taken

my @warn = (
	[ 'target_allow ~example', qq/target pattern "~example" $anchor/ ],
	[ 'target_allow ~*example', qq/target pattern "~*example" $anchor/ ],
	[ 'target_allow "~(wikipedia|rust-lang)\.org:443$"',
		qq/target pattern "~(wikipedia|rust-lang)\\.org:443\$" $anchor/ ],
	[ 'target_deny ~(^a|b)', qq/target pattern "~(^a|b)" $anchor/ ],
	[ 'target_allow_address 10.0.0.1/8',
		'low address bits of 10.0.0.1/8 are meaningless' ],
	[ 'target_allow_address fd00::1/8',
		'low address bits of fd00::1/8 are meaningless' ],
	[ 'target_deny_address 10.0.0.1/8',
		'low address bits of 10.0.0.1/8 are meaningless' ],
	[ 'target_next_upstream error error', 'duplicate value "error" in "target_next_upstream" directive' ],
);

# values that are taken, the first of each directive in every context

my %good = (
	connect_tunnel			=> [ '', '192.0.2.1:443', 'group', 'GROUP',
		'[2001:db8::1]:443', 'unix:/path', '$tunnel_target', '$host:443' ],
	connect_tunnel_min_version	=> [ '1.0', '1.1', '2.0' ],
	connect_tunnel_proxy_status	=> [ 'on', 'off', 'name', 'a',
		'Proxy1.example-a_b:c' ],
	target_allow			=> [ '*:443', 'example.org:443',
		'Example.ORG.:443', '*.example.org:*', '.example.org:1-65535',
		'*.b.Example.org:443', 'a_b.example.org:443', '*:*',
		'192.0.2.1:443', '[2001:DB8:0::1]:443', '~^a:443$',
		'~*^A:443$', '"~^a{1,2}:443$"', 'xn--bcher-kva.example:443',
		'*:80 *:443 example.org:1', 'localhost:8000-8999' ],
	target_deny			=> [ '*:25', '~^a', '.example.org:443 *:1' ],
	target_allow_address		=> [ 'private', 'all', '10.0.0.0/8',
		'10.0.0.1', '::1', 'fd00::/8', '::/0', '0.0.0.0/0',
		'all private 10.0.0.0/8 ::1' ],
	target_deny_address		=> [ 'all', 'private', '10.0.0.0/8 ::1' ],
	target_dry_run			=> [ 'on', 'off' ],
	target_connect_timeout		=> [ '5s', '100ms', '1m', '60' ],
	target_resolve_timeout		=> [ '5s', '100ms' ],
	target_prefer			=> [ 'any', 'ipv4', 'ipv6' ],
	target_bind			=> [ '127.0.0.1', '127.0.0.1:8090', '::1',
		'off', '$server_addr', '$remote_addr transparent',
		'127.0.0.1 transparent' ],
	target_next_upstream		=> [ 'error', 'timeout', 'error timeout',
		'off' ],
	target_next_upstream_tries	=> [ '0', '3' ],
	target_next_upstream_timeout	=> [ '0', '5s' ],
	relay_idle_timeout		=> [ '10m', '0', 'off', '100ms', '90',
		'1h30m', '$host', '${host}s' ],
	relay_send_timeout		=> [ '10s', '0', 'off', '100ms', '$host' ],
	relay_max_lifetime		=> [ '1d', '0', 'off', '100ms', '$host' ],
	relay_min_rate			=> [ '1000', '0', 'off', '1k', '1g',
		'1000 window=1s', '1000 grace=0', '1000 grace=off',
		'1000 grace=5s window=2m', 'off window=1m', '$host',
		'$host window=$host grace=$host' ],
	relay_max_rate			=> [ '10k', '0', 'off', '1', '100g',
		'$host', '${host}k' ],
	relay_upload_rate		=> [ '10k', '0', 'off', '1', '$host' ],
	relay_download_rate		=> [ '10k', '0', 'off', '1', '$host' ],
	relay_max_payload		=> [ '100m', '0', 'off', '1', '100g',
		'1k upload', '1k download', '$host', '$host upload' ],
	relay_half_close		=> [ 'on', 'off' ],
	relay_splice			=> [ 'auto', 'on', 'off' ],
	relay_socket_keepalive		=> [ 'on', 'off' ],
	relay_quota			=> [ 'quota', 'other', 'off' ],
	relay_buffer_size		=> [ '64k', '1k', '1024', '16m' ],
	tunnel_anonymous_log		=> [ 'on', 'off' ],
);

my @shared = sort grep { $_ ne 'connect_tunnel' } keys %good;

# these add up

my @lists = qw/ target_allow target_deny target_allow_address
	target_deny_address /;
my @single = grep {
	my $directive = $_;
	!grep { $directive eq $_ } @lists, 'target_next_upstream';
} sort keys %good;


# where nothing of this may stand

my %wrong = (
	main		=> sub { ($_[0], '', '') },
	events		=> sub { ('', $_[0], '') },
	upstream	=> sub { ('', '', "upstream u { $_[0] }") },
	if_in_server	=> sub { ('', '', "server { if (\$host) { $_[0] } }") },
	limit_except	=> sub {
		('', '', "server { location / { limit_except GET { $_[0] } } }")
	},
);

my @wrong = map {
	my $directive = $_;
	map { [ $directive, $_ ] } sort keys %wrong,
		$directive eq 'connect_tunnel' ? 'http' : 'if';
} sort keys %good;

$wrong{http} = sub { ('', '', $_[0]) };
$wrong{if} = sub {
	('', '', "server { location / { if (\$host) { $_[0] } } }");
};

$wrong{server} = sub { ('', '', "server { $_[0] }") };
$wrong{location} = sub { ('', '', "server { location / { $_[0] } }") };

push @wrong, map {
	[ 'relay_quota_zone', $_ ]
} qw/ main events upstream server location if limit_except /;

my @values = map {
	my $directive = $_;
	map { length ? "$directive $_" : $directive } @{$good{$directive}};
} sort keys %good;

# values of http, server and location, those of servers that test another
# directive, and what each of the five servers is to answer: inherited from
# http by server, by location, and from server by location; set in location,
# and there inherited by if

my $p = port(8081);
my $e = port(8082);
my $s = port(8083);
my $h = port(8085);
my $full_up = port(8086);

my @inherit = (
	{
		name	=> 'connect_tunnel_min_version',
		values	=> [ '1.1', '1.0', '1.1', '1.0' ],
		probe	=> sub { status($_[0], "127.0.0.1:$p", '1.0') },
		expect	=> '505 505 502 505 505',
	},
	{
		name	=> 'connect_tunnel_proxy_status',
		values	=> [ 'http', 'server', 'location', 'off' ],
		probe	=> \&proxy_status,
		expect	=> 'http http server location location',
	},
	{
		name	=> 'target_allow',
		values	=> [ '127.0.0.1:*', '127.0.0.2:*', '127.0.0.3:*',
			'*:*' ],
		probe	=> \&passed,
		expect	=> '1 1 2 3 3',
	},
	{
		name	=> 'target_deny',
		values	=> [ '127.0.0.1:*', '127.0.0.2:*', '127.0.0.3:*',
			'192.0.2.1:1' ],
		probe	=> \&passed,
		expect	=> '2,3 2,3 1,3 1,2 1,2',
	},
	{
		name	=> 'target_allow_address',
		values	=> [ '127.0.0.1', '127.0.0.2', '127.0.0.3',
			'127.0.0.0/8' ],
		probe	=> \&passed,
		expect	=> '1 1 2 3 3',
	},
	{
		name	=> 'target_deny_address',
		values	=> [ '127.0.0.1', '127.0.0.2', '127.0.0.3',
			'192.0.2.1' ],
		probe	=> \&passed,
		expect	=> '2,3 2,3 1,3 1,2 1,2',
	},
	{
		name	=> 'target_dry_run',
		values	=> [ 'on', 'off', 'on', 'off' ],
		probe	=> sub { status($_[0], "127.0.0.1:$p") },
		extra	=> 'target_allow 192.0.2.1:1;',
		expect	=> '502 502 403 502 502',
	},
	{
		name	=> 'target_bind',
		values	=> [ '127.0.0.2', '127.0.0.3', 'off', 'off' ],
		probe	=> \&from,
		expect	=> '127.0.0.2 127.0.0.2 127.0.0.3 127.0.0.1 127.0.0.1',
	},
	{
		name	=> 'target_next_upstream',
		values	=> [ 'off', 'error', 'off', 'error' ],
		probe	=> sub { status($_[0], "127.0.0.1:$p") },
		extra	=> 'connect_tunnel group;',
		expect	=> '502 502 200 502 502',
	},
	{
		name	=> 'target_next_upstream_tries',
		values	=> [ '1', '2', '1', '0' ],
		probe	=> sub { status($_[0], "127.0.0.1:$p") },
		extra	=> 'connect_tunnel group;',
		expect	=> '502 502 200 502 502',
	},
	{
		name	=> 'target_connect_timeout',
		values	=> [ '200ms', '12s', '200ms', '1m' ],
		early	=> sub { opened($_[0], "127.0.0.1:$s") },
		probe	=> \&answered,
		expect	=> '504 504 waits 504 504',
	},
	{
		name	=> 'target_resolve_timeout',
		values	=> [ '200ms', '12s', '200ms', '1m' ],
		early	=> sub { opened($_[0], "name.example:$p") },
		probe	=> \&answered,
		expect	=> '504 504 waits 504 504',
	},
	{
		name	=> 'relay_idle_timeout',
		values	=> [ '200ms', '1h', '200ms', '1m' ],
		early	=> sub {
			my $s = opened($_[0], "127.0.0.1:$e");
			read_head($s);
			return $s;
		},
		probe	=> sub {
			my (undef, $state) = read_n($_[1], 1, 1);
			return $state eq 'TIMEOUT' ? 'waits' : 'ended';
		},
		expect	=> 'ended ended waits ended ended',
	},
	{
		name	=> 'relay_max_lifetime',
		values	=> [ '200ms', '1h', '200ms', 'off' ],
		early	=> sub { tunnel($_[0]) },
		probe	=> \&ended,
		expect	=> 'ended ended waits ended ended',
	},
	{
		name	=> 'relay_min_rate',
		values	=> [ '1m window=1s grace=0', 'off', '1m window=1s',
			'off' ],
		early	=> sub { tunnel($_[0]) },
		probe	=> \&ended,
		expect	=> 'ended ended waits ended ended',
	},
	{
		name	=> 'relay_send_timeout',
		values	=> [ '200ms', '1h', '200ms', 'off' ],
		early	=> sub {
			my $s = tunnel($_[0], port(8086));
			my $bytes = pattern(1024 * 1024);

			for (1 .. 32) {
				last if write_all($s, $bytes, 0.1)
					< length $bytes;
			}

			return $s;
		},
		probe	=> \&ended,
		expect	=> 'ended ended waits ended ended',
	},

	# the rate of a direction is that of both, if it is nothing

	(map { {
		name	=> $_,
		values	=> [ '1', 'off', '1', '$none' ],
		early	=> sub { tunnel($_[0], port(8082), 'x' x 60) },
		probe	=> sub {
			return length read_n($_[1], 60, 0.2) == 60 ? 'fast'
				: 'slow';
		},
		expect	=> 'slow slow fast slow slow',
	} } qw/ relay_max_rate relay_upload_rate relay_download_rate /),
	{
		name	=> 'relay_max_payload',
		values	=> [ '5 upload', '6 upload', '7 upload', 'off upload' ],
		probe	=> \&passing,
		expect	=> '5 5 6 7 7',
	},
	{
		name	=> 'relay_quota',
		values	=> [ 'quota1', 'quota2', 'quota3', 'quota4' ],
		probe	=> \&passing,
		expect	=> '5 5 6 7 7',
	},
	{
		name	=> 'relay_half_close',
		values	=> [ 'off', 'on', 'off', 'on' ],
		probe	=> sub {
			my $s = tunnel($_[0], port(8085), 'abc');
			half_close($s);
			return read_all($s) =~ /^3 / ? 'answer' : 'none';
		},
		expect	=> 'none none answer none none',
	},
	{
		name	=> 'relay_socket_keepalive',
		values	=> [ 'on', 'off', 'on', 'off' ],
		probe	=> sub {
			my $before = keepalive(port(8082));
			my $s = tunnel($_[0], port(8082), 'abc');
			read_n($s, 3);
			return keepalive(port(8082)) - $before;
		},
		expect	=> '1 1 0 1 1',
	},
);

# and directives of the same name that are not the same

my @together = (
	'relay_max_payload 1; relay_max_payload 2 upload; '
		. 'relay_max_payload $host download',
	'relay_quota quota; relay_quota other',
	'relay_max_rate 1; relay_upload_rate 2; relay_download_rate off',
);

# numbers of parameters

my @counts = (
	[ 'connect_tunnel', 'connect_tunnel a:1 b:2' ],
	[ 'target_bind', 'target_bind', 'target_bind 127.0.0.1 transparent x' ],
	(map { [ $_, $_ ] } @lists[0 .. 2]),
	(map { [ $_, $_, "$_ $good{$_}[0] $good{$_}[0]" ] } qw/
		target_dry_run relay_idle_timeout relay_send_timeout
		relay_max_lifetime relay_max_rate relay_upload_rate
		relay_download_rate relay_half_close relay_splice
		relay_socket_keepalive relay_buffer_size relay_quota /),
	[ 'relay_min_rate', 'relay_min_rate',
		'relay_min_rate 1 window=1s grace=1s grace=1s' ],
	[ 'relay_max_payload', 'relay_max_payload',
		'relay_max_payload 1 upload download' ],
);

$t->plan(2 * @bad + @quotas + 2 + @warn + 2 * @values + @shared * 4 + 4
	+ @single + @lists + 1 + @together + (map { @$_[1 .. $#$_] } @counts)
	+ @wrong + 2 + @inherit);

###############################################################################

for my $case (@bad) {
	my ($text, $message) = @$case;
	my ($rc, @lines) = check($t, "$text;");

	(my $shown = $text) =~ s/^(.{70}).+/$1.../;

	is(scalar(@lines), 1, "$shown - one message");

	if (ref $message) {
		like($lines[0], $message, $shown);

	} else {
		is($lines[0], "[emerg] $message", $shown);
	}
}

for my $case (@quotas) {
	my ($text, $message) = @$case;
	my $said = join ' ', check($t, '', "relay_quota_zone $text;");

	if (ref $message) {
		like($said =~ s/^1 //r, $message, "relay_quota_zone $text");

	} else {
		is($said, "1 [emerg] $message", "relay_quota_zone $text");
	}
}

is(join(' ', check($t, 'relay_quota later;', '', 'relay_quota_zone $host$uri '
	. 'zone=later:1m limit=10g per=30d;')), 0, 'zone behind');
like(join(' ', check($t, 'relay_quota nosuch;')),
	qr/^1 \[emerg\] .*"nosuch"/, 'relay_quota nosuch');

for my $case (@warn) {
	my ($text, $message) = @$case;

	is(join(' ', check($t, "$text;")), "0 [warn] $message", $text);
}

# good values alone, and together with a tunnel

for my $text (@values) {
	my $tunnel = $text =~ /^connect_tunnel(?: |$)/ ? '' : 'connect_tunnel;';

	is(join(' ', check($t, "$text;")), 0, $text);
	is(join(' ', check($t, "location / { $tunnel $text; }")), 0,
		"$text in location");
}

# every context

for my $directive (@shared) {
	my $text = "$directive $good{$directive}[0];";

	is(join(' ', check($t, '', $text)), 0, "$directive in http");
	is(join(' ', check($t, $text)), 0, "$directive in server");
	is(join(' ', check($t, "location / { location /a { $text } }")), 0,
		"$directive in nested location");
	is(join(' ', check($t, "$text location / { $text }", $text)), 0,
		"$directive in all");
}

is(join(' ', check($t, 'connect_tunnel; location / { connect_tunnel; '
	. 'if ($host) { connect_tunnel; } } location /a { connect_tunnel; '
	. 'location /a/b { connect_tunnel; } }')), 0,
	'connect_tunnel in all');
is(join(' ', check($t, 'location / { if ($host) { connect_tunnel group; } }')),
	0, 'connect_tunnel in if alone');
is(join(' ', check($t, '', 'server { listen 127.0.0.1:8081; '
	. 'connect_tunnel group; } '
	. 'upstream later { server 127.0.0.1:1; } '
	. 'server { listen 127.0.0.1:8082; connect_tunnel later; }')), 0,
	'upstream before and behind');
is(join(' ', check($t, 'connect_tunnel early;', '', 'upstream early '
	. '{ server 127.0.0.1:1; }')), 0, 'upstream behind');

# duplicates

for my $directive (@single) {
	my $text = "$directive $good{$directive}[0];";

	is(join(' ', check($t, $text x 2)),
		qq/1 [emerg] "$directive" directive is duplicate/,
		"$directive duplicate");
}

for my $directive (@lists) {
	my ($first) = @{$good{$directive}};

	is(join(' ', check($t, "$directive $first; $directive $first $first;")), 0,
		"$directive adds up");
}

is(join(' ', check($t, 'connect_tunnel_proxy_status off; '
	. 'connect_tunnel_proxy_status off;')), '1 [emerg] '
	. '"connect_tunnel_proxy_status" directive is duplicate',
	'connect_tunnel_proxy_status off duplicate');

for my $text (@together) {
	is(join(' ', check($t, "$text;")), 0, $text);
}

# numbers of parameters

for my $case (@counts) {
	my ($directive, @texts) = @$case;

	for my $text (@texts) {
		is(join(' ', check($t, "$text;")), '1 [emerg] invalid number of '
			. qq/arguments in "$directive" directive/, $text);
	}
}

# other contexts

for my $case (@wrong) {
	my ($directive, $context) = @$case;
	my ($first) = $good{$directive} ? @{$good{$directive}}
		: '$host zone=z:1m limit=1 per=1d';

	is(join(' ', check_text($t, $wrong{$context}->("$directive $first;"))),
		qq/1 [emerg] "$directive" directive is not allowed here/,
		"$directive in $context");
}

# a value that nothing uses is checked as well

is(join(' ', check($t, 'location / { relay_buffer_size 1; }')),
	qq/1 [emerg] invalid "relay_buffer_size" 1, $size/,
	'without a tunnel');
is(join(' ', check($t, '', 'relay_buffer_size 1;')),
	qq/1 [emerg] invalid "relay_buffer_size" 1, $size/, 'in http alone');

###############################################################################

# inheritance

my $dir = $t->testdir();
my $http = '';
my $servers = '';

for my $case (@inherit) {
	my ($h, $s, $l, $other) = @{$case->{values}};
	my $others = join ' ', map { "$_->{name} $_->{values}[3];" }
		grep { $_ != $case } @inherit;
	my $extra = defined $case->{extra} ? $case->{extra} : '';
	my $tunnel = $extra =~ /connect_tunnel / ? $extra
		: "connect_tunnel; $extra";

	$http .= "    $case->{name} $h;\n";

	my $n = 0;
	for my $text (
		$tunnel,
		"location / { $tunnel }",
		"$case->{name} $s; location / { $tunnel }",
		"$case->{name} $s; location / { $tunnel $case->{name} $l; }",
		"$case->{name} $s; location / { $tunnel $case->{name} $l; "
			. 'if ($host) { set $a 1; } }',
	) {
		$n++;
		$servers .= "    server {\n"
			. "        listen unix:$dir/$case->{name}.$n;\n"
			. "        $others\n"
			. "        $text\n"
			. "    }\n\n";
	}
}

$t->write_file_expand('nginx.conf', <<"EOC");

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver 127.0.0.1:%%PORT_8984_UDP%% ipv6=off;

    map \$host \$none {
        default "";
    }

    relay_quota_zone \$request_id zone=quota1:1m limit=10 per=1d;
    relay_quota_zone \$request_id zone=quota2:1m limit=12 per=1d;
    relay_quota_zone \$request_id zone=quota3:1m limit=14 per=1d;
    relay_quota_zone \$request_id zone=quota4:1m limit=9g per=1d;

    upstream group {
        server 127.0.0.1:8081 max_fails=0;
        server 127.0.0.1:8082 max_fails=0 backup;
    }

$http

$servers

    server {
        listen 127.0.0.1:8084;
        return 200 "FROM \$remote_addr";
    }
}

EOC

# neither answers

my $silent = IO::Socket::INET->new(
	Proto => 'udp',
	LocalAddr => '127.0.0.1:' . port(8984, udp => 1),
) or die "Can't bind: $!\n";
my $full = full_backlog("127.0.0.1:$s");

# nor is this one read from

my $unread = IO::Socket::INET->new(
	LocalAddr => "127.0.0.1:$full_up",
	Listen => 64,
	ReuseAddr => 1,
) or die "Can't listen: $!\n";

start_daemon($t, \&echo_daemon, "127.0.0.1:$e");
start_daemon($t, \&half_close_daemon, "127.0.0.1:$h");
$t->run();

for my $case (grep { $_->{early} } @inherit) {
	$case->{early} = [ map {
		$case->{early}->("unix:$dir/$case->{name}.$_")
	} 1 .. 5 ];
}

for my $case (@inherit) {
	my @results = map {
		$case->{probe}->("unix:$dir/$case->{name}.$_",
			$case->{early} ? $case->{early}[$_ - 1] : undef)
	} 1 .. 5;

	delete $case->{early};

	is("@results", $case->{expect}, "$case->{name} inheritance");
}

###############################################################################

# What nginx -t says: 0 or 1, and the messages without their place.

sub check {
	my ($t, $server, $http, $behind) = @_;

	$http = '' unless defined $http;
	$behind = '' unless defined $behind;

	return check_text($t, '', '', <<"EOC");
upstream group { server 127.0.0.1:1; }
relay_quota_zone \$remote_addr zone=quota:1m limit=1g per=1d;
relay_quota_zone \$remote_addr zone=other:1m limit=1 per=1s;
$http
server { listen 127.0.0.1:8080; $server }
$behind
EOC
}

sub check_text {
	my ($t, $main, $events, $http) = @_;

	# not the files of the nginx that runs later

	(my $globals = $t->test_globals()) =~ s!/nginx\.pid!/check.pid!;
	$globals =~ s!/error\.log!/check.log!;

	$t->write_file_expand('check.conf', <<"EOC");
$globals
$main
events { $events }
http {
%%TEST_GLOBALS_HTTP%%
resolver 127.0.0.1;
$http
}
EOC

	my $dir = $t->testdir();
	my @lines = split /\n/, `'$Test::Nginx::NGINX' -t -p '$dir' -c \\
		'$dir/check.conf' -e check.log 2>&1`;
	my $rc = $? >> 8;

	@lines = grep { !/syntax is ok$|test is successful$| test failed$/ }
		@lines;
	s/^nginx: // for @lines;
	s! in \S+/check\.conf:\d+$!! for @lines;

	return ($rc, @lines);
}

sub opened {
	my ($addr, $authority, $version) = @_;

	my $s = tcp_connect($addr) or die "Can't connect to $addr: $!\n";
	write_all($s, connect_request($authority,
		version => defined $version ? $version : '1.1'));
	return $s;
}

sub status {
	my $s = opened(@_);
	return read_head($s) =~ m!^HTTP/1\.1 (\d+) ! ? $1 : 'none';
}

sub proxy_status {
	my ($addr) = @_;

	my $s = opened($addr, "127.0.0.1:$p");
	return read_head($s) =~ /^Proxy-Status: (\S+);/m ? $1 : 'none';
}

# Which of three addresses the rules let pass; nothing listens there.

sub passed {
	my ($addr) = @_;

	my @status = map { status($addr, "127.0.0.$_:$p") } 1 .. 3;

	return join ',', grep { $status[$_ - 1] == 502 } 1 .. 3;
}

sub from {
	my ($addr) = @_;

	my $s = opened($addr, '127.0.0.1:' . port(8084));
	read_head($s);
	write_all($s, "GET / HTTP/1.0\x0d\x0a\x0d\x0a");
	return read_all($s) =~ /FROM (\S+)/ ? $1 : 'none';
}

sub tunnel {
	my ($addr, $target, $bytes) = @_;

	my $s = opened($addr, '127.0.0.1:' . ($target || port(8082)));
	read_head($s);
	write_all($s, $bytes) if defined $bytes;

	return $s;
}

sub ended {
	my ($addr, $s) = @_;

	my (undef, $state) = read_n($s, 1, 0.5);
	return $state eq 'TIMEOUT' ? 'waits' : 'ended';
}

# How many bytes pass, and come back.

sub passing {
	my ($addr) = @_;

	my $s = tunnel($addr);

	for my $n (0 .. 19) {
		write_all($s, 'x');
		return $n if read_n($s, 1, 3) ne 'x';
	}

	return 'all';
}

# Connections to a port that have a keepalive timer.

sub keepalive {
	my ($port) = @_;

	open my $fh, '<', '/proc/net/tcp' or die "Can't open /proc/net/tcp: $!";
	my $re = sprintf '^\s*\d+: \S+ 0100007F:%04X 01 \S+ 02:', $port;

	return scalar grep { /$re/ } <$fh>;
}

sub answered {
	my ($addr, $s) = @_;

	my $head = read_head($s, 1);
	return $head =~ m!^HTTP/1\.1 (\d+) ! ? $1 : 'waits';
}

###############################################################################
