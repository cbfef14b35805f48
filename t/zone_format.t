#!/usr/bin/perl

# Tests for tunnel_status: JSON by its schema, Prometheus' text by promtool and
# a parser that takes nothing else, HTML; with labels and keys that want to be
# more than text.

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

use Encode qw/ decode encode /;
use JSON::PP qw//;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	PYTHON	=> '/usr/bin/python3',
	SCHEMA	=> "$FindBin::Bin/../docs/tunnel-status.schema.json",
	KEYS	=> 300,		# more than a buffer of text has room for
};

my $t = Test::Nginx->new()->has(qw/http stream unix/);

my $d = $t->testdir();

for my $needed ([ PYTHON . ' -c "import jsonschema"', 'python3-jsonschema' ],
	[ 'promtool --version', 'promtool of prometheus' ])
{
	die "There is no $needed->[1]\n"
		if system("$needed->[0] >/dev/null 2>&1") != 0;
}

# Bytes, and what is shown of them as text; those that are no UTF-8 are shown
# in some way that is.

my $utf8 = "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x87";

my @hostile = (
	'"quotes"', 'back\\slash', '\\"both\\', '\\n', "line\nfeed",
	"\n", "\ttab\t", "cr\rlf\r\n", ' spaces ', '\'single\'',
	'<script>alert(1)</script>', '</section><img src=x onerror=alert(1)>',
	'&lt;b&gt;&amp;&#39;', '"><b>', '{}', 'a="b",c="d"',
	"\"} 1\nnginx_tunnel_active{front_end=\"connect\",server=\"x\"} 5",
	"# TYPE nginx_tunnel_active counter\n", "\x01\x1f\x7f", '%s%n%V',
	"\xe2\x80\xa8\xe2\x80\xa9", $utf8, 'x' x 255, "\xc3\xa9" x 127,
	'"' x 255, '<!--tunnels-->',
);

my @invalid = (
	"\xff", "\xfe", "a\xffb", "a\xfeb", "\xc3", "\xc3\xa9\xc3",
	"\xc0\x80", "\xc1\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
	"\xf8\x88\x80\x80\x80", "\xe2\x82", "\x80" x 255, "<\xff>",
);

# as nginx.conf has it

my $servers = '';
my $port = 8200;
my %labels;

for my $label (@hostile, @invalid) {
	my $quoted = $label =~ s/([\\"])/\\$1/gr;

	$labels{$port} = $label;
	$servers .= <<"EOF";
    server {
        listen 127.0.0.1:$port;
        socks;
        tunnel_label "$quoted";
    }
EOF
	$port++;
}

my $path = 'a <b>\'"&.sock';
my $status = status_conf(control => 1) . <<'EOF';

    server {
        listen 127.0.0.1:8071;
        location /json { tunnel_status json; }
        location /html { tunnel_status html; }
        location /prometheus { tunnel_status prometheus; }
    }
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    tunnel_zone tunnels:2m;

    target_allow *:*;
    target_allow_address 127.0.0.0/8 unix:;

    server {
        listen 127.0.0.1:8080;
        server_name localhost;
        connect_tunnel;
        tunnel_anonymous_log on;

        relay_idle_timeout 90s;
        relay_send_timeout 1m;
        relay_max_lifetime 1h;
        relay_min_rate 1;
        relay_max_rate 100m;
        relay_upload_rate 50m;
        relay_download_rate 60m;
        relay_max_payload 1000m;
        relay_max_payload 500m upload;
        relay_max_payload 600m download;
    }

    server {
        listen 127.0.0.1:8081;
        server_name localhost;
        connect_tunnel "unix:$d/a <b>'\\"&.sock";
        relay_idle_timeout off;
    }

    $status
}

stream {
    %%TEST_GLOBALS_STREAM%%

    tunnel_zone tunnels;
    tunnel_zone_key \$socks_user;

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

$servers
}
EOF

start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&echo_daemon, "unix:$d/$path");

$t->run();

###############################################################################

# nothing is there

formats('empty');
my $empty = status();
is(scalar @{$empty->{keys}} + @{$empty->{targets}} + @{$empty->{tunnels}}, 0,
	'empty');

my ($policy) = connect_tunnel(port(8080), '127.0.0.1:' . port(8091));
my ($unix) = connect_tunnel(port(8081), 'localhost:443');
is(echo($unix, 'hello'), 'hello', 'unix socket');

# a tunnel for each label, with the same for its key, some of them go on

my @open;

for my $port (sort keys %labels) {
	my ($s, $code) = socks4_tunnel(port($port), '127.0.0.1', port(8091),
		user => $labels{$port});

	is($code, 90, 'tunnel');
	echo($s, 'hello');

	if ($port % 2) {
		push @open, $s;
		next;
	}

	half_close($s);
	read_all($s);
}

wait_status(sub { $_[0]{total}{active} == 2 + @open });
formats('hostile');

my $now = status();

# as it was given, where that is text

my %text = map { decode('UTF-8', $_) => 1 } @hostile;
is(scalar(grep { $text{$_->{server}} } @{$now->{servers}}), scalar @hostile,
	'labels');
is(scalar(grep { $text{$_->{key}} } @{$now->{keys}}), scalar @hostile,
	'keys');

# and otherwise no two are the same

my %seen;
$seen{"$_->{front_end} $_->{server}"}++ for @{$now->{servers}};
is(join(' ', map { encode('UTF-8', $_) } grep { $seen{$_} > 1 } keys %seen),
	'', 'no label twice');
%seen = ();
$seen{$_->{key}}++ for @{$now->{keys}};
is(join(' ', map { encode('UTF-8', $_) } grep { $seen{$_} > 1 } keys %seen),
	'', 'no key twice');
is(scalar @{$now->{keys}}, @hostile + @invalid, 'all keys');

my ($tunnel) = status_tunnel($now, front_end => 'connect',
	target => '127.0.0.1:' . port(8091));
is_deeply($tunnel->{policy}, {
	idle_timeout => 90, send_timeout => 60, max_lifetime => 3600,
	min_rate => 1, max_rate => 100 << 20, upload_rate => 50 << 20,
	download_rate => 60 << 20, max_payload => 1000 << 20,
	max_upload => 500 << 20, max_download => 600 << 20,
}, 'policy');
is($tunnel->{client}, undef, 'anonymous');
is($tunnel->{server}, 'localhost', 'name of the server');

($tunnel) = grep { $_->{address} =~ /^unix:/ } @{$now->{tunnels}};
is($tunnel->{address}, "unix:$d/$path", 'address of a unix socket');
is_deeply($tunnel->{policy}, {}, 'no policy');
is($tunnel->{client}, '127.0.0.1', 'client');

# one alone, and the answers to what changes something

validate('tunnel', (status_request("/status/tunnels/$tunnel->{id}"))[2],
	'one tunnel');
is(status("/tunnels/$tunnel->{id}")->{id}, $tunnel->{id}, 'one, id');

for my $case (
	[ 404, 'error', 'GET', '/status/tunnels/0123456789abcdef' ],
	[ 404, 'error', 'GET', '/status/tunnels/x' ],
	[ 404, 'error', 'GET', '/status/tunnels/0000000000000000' ],
	[ 405, 'error', 'POST', '/status' ],
	[ 400, 'error', 'GET', '/status?format=xml' ],
	[ 404, 'error', 'DELETE', '/status?id=0123456789abcdef' ],
	[ 400, 'error', 'DELETE', '/status' ],
	[ 403, 'error', 'DELETE', '/json?id=' . $tunnel->{id}, 8071 ],
	[ 202, 'ending', 'DELETE', "/status?id=$tunnel->{id}" ],
) {
	my ($code, $what, $method, $uri, $port) = @$case;

	my ($got, $head, $body) = status_request($uri, method => $method,
		port => $port || STATUS_PORT);

	is($got, $code, "$method $uri");
	validate($what, $body, "$method $uri, $what");
}

isnt((read_all($unix))[1], 'TIMEOUT', 'ended');

# whose key is what it was

($tunnel) = status_tunnel($now, server => decode('UTF-8', $utf8))
	|| status_tunnel($now, server => '</section><img src=x '
		. 'onerror=alert(1)>');
my $key = encode('UTF-8', $tunnel->{key});
is((delete_tunnel('key=' . uri_escape($key)))[0], 202, 'by a hostile key');

# more than what fits in a buffer

my $before = wait_status(sub { $_[0]{total}{ended}{killed} == 2 }) || status();
my @more;

for my $n (1 .. KEYS) {
	my ($s) = socks4_tunnel(port(8200), '127.0.0.1', port(8091),
		user => "key$n " . '<"\\' x ($n % 80));
	push @more, $s if $n % 3;
	close $s unless $n % 3;
}

wait_status(sub {
	$_[0]{total}{opened} == $before->{total}{opened} + KEYS
		&& $_[0]{total}{active} == $before->{total}{active} + @more;
});
formats('large');

# how a format is asked for

for my $case (
	[ 'html', '/status' ], [ 'html', '/status/' ],
	[ 'html', '/status.html', 'Accept: application/json' ],
	[ 'json', '/status.json' ], [ 'prometheus', '/status.prometheus' ],
	[ 'prometheus', '/status/metrics', 'Accept: text/html' ],
	[ 'json', '/status?format=json', 'Accept: text/html' ],
	[ 'json', '/status.html?format=json' ],
	[ 'prometheus', '/status.json?format=prometheus' ],
	[ 'json', '/status', 'Accept: application/json' ],
	[ 'prometheus', '/status', 'Accept: application/openmetrics-text; '
		. 'version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1' ],
	[ 'prometheus', '/status', 'Accept: text/plain;version=0.0.4' ],
	[ 'html', '/status', 'Accept: */*' ],
	[ 'html', '/status', 'Accept: text/html,application/xhtml+xml,'
		. 'application/xml;q=0.9,*/*;q=0.8' ],
	[ 'json', '/json', 'Accept: text/html' ],
	[ 'html', '/html', 'Accept: application/json' ],
	[ 'prometheus', '/prometheus', 'Accept: text/html' ],
	[ 'json', '/prometheus?format=json' ],
	[ 'html', '/json.html' ],
) {
	my ($format, $uri, @headers) = @$case;

	my ($code, $head) = status_request($uri, headers => \@headers,
		port => $uri =~ /^\/status/ ? STATUS_PORT : 8071);
	my %type = (html => 'text/html; charset=utf-8',
		json => 'application/json',
		prometheus => 'text/plain; version=0.0.4; charset=utf-8');

	is("$code " . ($head =~ /^Content-Type: (.*?)\r?$/mi ? $1 : ''),
		"200 $type{$format}", join ' ', $uri, @headers);
}

is((status_request($_))[0], 404, $_)
	for qw! /status/x /statusx /status.xml /status/tunnels !;

my ($code, $head, $body) = status_request('/status.json', method => 'HEAD');
is("$code $body", '200 ', 'HEAD');
like($head, qr/^Content-Length: [1-9]/m, 'length');
like($head, qr/^Cache-Control: no-store\r?$/m, 'not to be stored');
like((status_request('/status', method => 'POST'))[1],
	qr/^Allow: GET, HEAD\b/m, 'Allow');
is(scalar @{decode_json('/status.json?limit=7')->{tunnels}}, 7, 'limit');
is(scalar @{decode_json('/status.json?limit=0')->{tunnels}}, 0, 'limit of 0');

close $_ for @open, @more, $policy;

# its last checks are made when it goes, and not too late

undef $t;
done_testing();

###############################################################################

# All three of the same zone, while nothing moves.

sub formats {
	my ($name) = @_;

	my $json = (status_request('/status.json'))[2];
	my $text = prometheus();
	my $html = (status_request('/status.html'))[2];

	validate('', $json, "$name, JSON");
	promtool($text, $name);

	my $status = JSON::PP->new()->utf8()->decode($json);
	is_deeply([ status_bad($status) ], [], "$name, all fits");

	my ($families, @errors) = parse($text);
	is_deeply(\@errors, [], "$name, metrics");
	same($families, $status, $name);

	page($html, $name);
}

# JSON::PP is too kind to tell.

sub validate {
	my ($definition, $json, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$t->write_file('status.json', $json);
	$t->write_file('validate.py', <<'EOF');
import json, sys
import jsonschema

path, definition, document = sys.argv[1:]
schema = json.load(open(path))
jsonschema.Draft7Validator.check_schema(schema)


def once(pairs):
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def no(name):
    raise ValueError(name)


# what the schema leaves open for later versions is an error here

def close(s):
    if isinstance(s, list):
        for v in s:
            close(v)
    if isinstance(s, dict):
        for v in s.values():
            close(v)
        if "properties" in s and isinstance(s["properties"], dict):
            for part in s.pop("allOf", []):
                other = schema["definitions"][part["$ref"].split("/")[-1]]
                s["properties"].update(other["properties"])
                s["required"] = s["required"] + other["required"]
            s["additionalProperties"] = False


close(schema)

if definition:
    schema = {"$ref": "#/definitions/" + definition,
              "definitions": schema["definitions"]}

text = open(document, "rb").read().decode("utf-8", "strict")
document = json.loads(text, object_pairs_hook=once, parse_constant=no)

for error in jsonschema.Draft7Validator(schema).iter_errors(document):
    print("/".join(map(str, error.absolute_path)), error.message[:200])
EOF

	my $errors = `@{[PYTHON]} '$d/validate.py' '@{[SCHEMA]}' \\
		'$definition' '$d/status.json' 2>&1`;

	is($errors, '', $name);
}

sub promtool {
	my ($text, $name) = @_;

	$t->write_file('metrics', $text);

	my $out = `promtool check metrics <'$d/metrics' 2>&1`;
	is("$? $out", '0 ', "$name, promtool");
}

# The text format 0.0.4, as strict as can be: families with HELP, TYPE, and
# then their samples, each once.  Returns { family => { type, samples => {
# name => { labels => value } } } }, labels as text "a=b", and errors.

sub parse {
	my ($text) = @_;

	my (%families, $family, @errors);

	push @errors, 'no line feed at the end' unless $text =~ /\n\z/;
	push @errors, 'no UTF-8' unless defined eval {
		decode('UTF-8', my $copy = $text, Encode::FB_CROAK);
	};

	my $label = qr/[a-z_]+="(?:[^"\\\n]|\\[\\n"])*"/;
	my ($help, %done);

	for my $line (split /\n/, $text) {

		if ($line =~ /^# HELP (nginx_tunnel_[a-z_]+) (\S.*\S)$/) {
			push @errors, "family twice: $1" if $done{$1}++;
			$help = $1;
			$family = undef;
			next;
		}

		if ($line =~ /^# TYPE (\S+) (counter|gauge|histogram)$/) {
			push @errors, "no HELP: $1"
				unless defined $help && $help eq $1;

			$family = $families{$1} = { name => $1, type => $2,
				samples => {} };
			$help = undef;
			next;
		}

		if ($line
			!~ /^([a-z_]+)(?:\{($label(?:,$label)*)\})? (\S+)$/)
		{
			push @errors, "line: $line";
			next;
		}

		my ($name, $labels, $value) = ($1, $2, $3);

		if (!$family || $name !~ /^$family->{name}(.*)/
			|| $1 !~ ($family->{type} eq 'histogram'
				? qr/^_(?:bucket|sum|count)$/ : qr/^$/))
		{
			push @errors, "sample of no family: $line";
			next;
		}

		push @errors, "value: $line"
			unless $value =~ /^(?:0|[1-9]\d*)(?:\.\d+)?$/;

		my @pairs;

		while (($labels || '') =~ /([a-z_]+)="((?:[^"\\]|\\.)*)"/g) {
			my ($n, $v) = ($1, $2);
			$v =~ s/\\(.)/$1 eq 'n' ? "\n" : $1/ge;
			push @pairs, "$n=$v";
		}

		# le is part of what is told apart

		my $key = join "\0", @pairs;
		push @errors, "sample twice: $line"
			if exists $family->{samples}{$name}{$key};

		$family->{samples}{$name}{$key} = $value;
		push @{$family->{order}}, [ $name, $key, $value ];
	}

	push @errors, "HELP alone: $help" if defined $help;
	push @errors, map { family_errors($_) } values %families;

	return (\%families, @errors);
}

sub family_errors {
	my ($family) = @_;

	my ($name, $type) = @$family{qw/ name type /};
	my @errors;

	push @errors, "no samples: $name" unless %{$family->{samples}};
	push @errors, "counter without _total: $name"
		if $type eq 'counter' && $name !~ /_total$/
			|| $type ne 'counter' && $name =~ /_total$/;

	return @errors unless $type eq 'histogram';

	push @errors, "unit: $name" unless $name =~ /_(?:seconds|bytes)$/;

	my (%last, %sum);

	for (@{$family->{order}}) {
		my ($sample, $key, $value) = @$_;

		my ($labels, $le) = $key =~ /^(.*)\0le=(.*)\z/s
			? ($1, $2) : ($key, undef);

		if ($sample =~ /_bucket$/) {
			my $last = $last{$labels} ||= [ -1, 0 ];

			push @errors, "no le: $name" unless defined $le;
			my $bound = $le eq '+Inf' ? 9**9**9 : $le;

			push @errors, "bucket: $name $key"
				if $bound <= $last->[0] || $value < $last->[1];
			$last{$labels} = [ $bound, $value ];
			next;
		}

		push @errors, "le: $name" if defined $le;
		$sum{$labels} = 1 if $sample =~ /_sum$/;

		push @errors, "count: $name $key"
			if $sample =~ /_count$/
				&& ($last{$labels}[1] != $value
					|| $last{$labels}[0] != 9**9**9
					|| !delete $sum{$labels});
	}

	push @errors, "sum without count: $name" if %sum;

	return @errors;
}

# Both formats tell the same.

sub same {
	my ($families, $status, $name) = @_;

	my (%want, %got);

	for my $c (@{$status->{servers}}) {
		my $server = "front_end=$c->{front_end}\0server="
			. encode('UTF-8', $c->{server});

		$want{"active\0$server"} = $c->{active};
		$want{"connecting\0$server"} = $c->{connecting};
		$want{"memory_bytes\0$server"} = $c->{memory};
		$want{"opened_total\0$server"} = $c->{opened};
		$want{"${_}_bytes_total\0$server"} = $c->{$_}
			for qw/ received sent spliced /;
		$want{"results_total\0$server\0result=$_"} = $c->{results}{$_}
			for keys %{$c->{results}};
		$want{"ended_total\0$server\0reason=$_"} = $c->{ended}{$_}
			for keys %{$c->{ended}};

		my $dns = $c->{dns};
		my $lookups = "dns_lookups_total\0$server\0outcome";
		$want{"$lookups=$_"} = $dns->{$_}
			for qw/ cached failed timeout /;
		$want{"$lookups=answered"} = $dns->{lookups} - $dns->{cached}
			- $dns->{failed} - $dns->{timeout};

		my %histograms = (connect_time => 'connect_seconds',
			resolve_time => 'resolve_seconds',
			first_byte_time => 'first_byte_seconds',
			lifetime => 'lifetime_seconds', size => 'size_bytes');

		for (keys %histograms) {
			my $h = $c->{$_};
			my $metric = $histograms{$_};

			$want{"${metric}_count\0$server"} = $h->{count};
			$want{"${metric}_sum\0$server"} = $h->{sum};
			$want{"${metric}_bucket\0$server\0le=+Inf"}
				= $h->{count};
			$want{"${metric}_bucket\0$server\0le=$_->[0]"}
				= $_->[1] for @{$h->{buckets}};
		}
	}

	for my $key (@{$status->{keys}}) {
		my $label = 'key=' . encode('UTF-8', $key->{key});

		$want{"key_active\0$label"} = $key->{active};
		$want{"key_opened_total\0$label"} = $key->{opened};
		$want{"key_${_}_bytes_total\0$label"} = $key->{$_}
			for qw/ received sent /;
	}

	my $zone = $status->{zone};

	$want{"zone_size_bytes\0"} = $zone->{size};
	$want{"zone_free_bytes\0"} = $zone->{free};
	$want{"untracked_total\0"} = $zone->{untracked};
	$want{"workers\0"} = @{$status->{workers}};
	$want{"info\0version=$status->{module}\0nginx=$status->{nginx}"} = 1;
	$want{"start_time_seconds\0"} = $status->{start};

	for my $family (values %$families) {
		for (@{$family->{order}}) {
			my ($sample, $key, $value) = @$_;
			$sample =~ s/^nginx_tunnel_//;
			$got{"$sample\0$key"} = $value;
		}
	}

	# these are sampled

	delete @got{"buffer_bytes\0", "pipes\0"};

	my @differ = grep { !defined $got{$_} || !defined $want{$_}
		|| $got{$_} != $want{$_} } keys %{{ %want, %got }};

	is(join(', ', map { my $k = $_; my @v = map {
			defined $_->{$k} ? $_->{$k} : 'none' } \%got, \%want;
		tr/\0/ /r . " $v[0], JSON $v[1]" } sort @differ), '',
		"$name, same as JSON");
	cmp_ok(scalar keys %got, '>', 200, "$name, all of it");
}

# What the server writes into the page is only text.

sub page {
	my ($html, $name) = @_;

	my ($static) = $html =~ m!(<section id="static".*?</section>)!s;
	ok(defined $static, "$name, static part") or return;

	my %tags = map { $_ => 1 } qw/ section h2 p table caption thead tbody
		tr th td span b small div ul li /;

	my @bad = grep { !$tags{lc $_} } $static =~ m!<(/?[^\s>]*)!g;
	@bad = grep { !m!^/! || !$tags{substr $_, 1} } @bad;
	is("@bad", '', "$name, no other tags");

	my @attributes = $static =~ /<\w+\s+([^>]*)>/g;
	is(join(' ', grep { !/^(?:[a-z-]+(?:="[^"<>&]*")?\s*)*$/ }
		@attributes), '', "$name, attributes");

	is(join(' ', $static =~ /(&(?!(?:lt|gt|amp|quot|#39|nbsp);).{0,9})/g),
		'', "$name, escapes");
	is($static =~ /[\x00-\x08\x0b\x0c\x0e-\x1f]/ ? 'control' : '', '',
		"$name, no control characters");
	ok(defined eval { decode('UTF-8', my $copy = $html,
		Encode::FB_CROAK) }, "$name, UTF-8");
	unlike($html, qr/<!--tunnels-->/, "$name, placeholder")
		if $name eq 'empty';
}

sub decode_json {
	my ($uri) = @_;

	return JSON::PP->new()->utf8()->decode((status_request($uri))[2]);
}

###############################################################################
