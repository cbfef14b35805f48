package Test::Nginx;

# The perl library of the test suite.  It keeps to the interface of the
# library nginx's own tests are written for, so that a test runs on either.
#
# Environment:
#
#   TEST_NGINX_BINARY          nginx to test, default the installed one
#   TEST_NGINX_MODULES         where the binary's own dynamic modules are
#   TEST_NGINX_GLOBALS         added to the main context, after these modules
#   TEST_NGINX_GLOBALS_HTTP    added to http {}
#   TEST_NGINX_GLOBALS_STREAM  added to stream {}
#   TEST_NGINX_LEAVE           keep the test directory
#   TEST_NGINX_CATLOG          print error.log at the end
#   TEST_NGINX_VERBOSE         print requests and responses

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/ log_in log_out http http_get http_head port /;
our @EXPORT_OK = qw/
	http_start http_end http_content http_gzip_request http_gzip_like
/;
our %EXPORT_TAGS = (gzip => [ qw/ http_gzip_request http_gzip_like / ]);

###############################################################################

use File::Path qw/ remove_tree /;
use File::Spec qw//;
use File::Temp qw/ tempdir /;
use IO::Socket qw//;
use IO::Socket::INET qw//;
use IO::Socket::IP qw//;
use IO::Socket::UNIX qw//;
use POSIX qw/ WNOHANG /;
use Test::More qw//;

###############################################################################

use constant {
	HTTP_TIMEOUT	=> 8,
	WAIT_STEPS	=> 50,		# times STEP, for files, sockets, daemons
	STOP_STEPS	=> 300,		# times STEP, for a graceful shutdown
	STEP		=> 0.1,
	LOG_LIMIT	=> 2048,
};

our $NGINX = defined $ENV{TEST_NGINX_BINARY} ? $ENV{TEST_NGINX_BINARY}
	: find_program('/usr/sbin/nginx', 'nginx');
our %ports;
our $TODO;

# modules compiled in unless switched off, and the name of the switch

my %default_module = (
	(map { $_ => "http_${_}_module" } qw/
		access auth_basic autoindex browser charset empty_gif fastcgi
		geo grpc gzip limit_conn limit_req map memcached mirror proxy
		referer rewrite scgi split_clients ssi tunnel userid uwsgi
		upstream_hash upstream_ip_hash upstream_keepalive
		upstream_least_conn upstream_least_time upstream_random
		upstream_zone
	/),
	(map { $_ => "${_}_module" } qw/
		stream_access stream_geo stream_limit_conn stream_map
		stream_pass stream_return stream_set stream_split_clients
		stream_upstream_hash stream_upstream_least_conn
		stream_upstream_least_time stream_upstream_random
		stream_upstream_zone
	/),
	(map { $_ => "mail_${_}_module" } qw/ imap pop3 smtp /),
	upstream_sticky	=> 'http_upstream_sticky',
	cache		=> 'http-cache',
	http		=> 'http(?!\S)',
	pcre		=> 'pcre',
);

# modules compiled in on request only, and what "nginx -V" then says

my %optional_module = (
	auth_request	=> '--with-http_auth_request_module',
	flv		=> '--with-http_flv_module',
	mail		=> '--with-mail(?!\S)',
	perl		=> '--with-http_perl_module(?!\S)',
	realip		=> '--with-http_realip_module',
	sni		=> 'TLS SNI support enabled',
	stream		=> '--with-stream(?!\S)',
	stream_ssl	=> '--with-stream_ssl_module',
	sub		=> '--with-http_sub_module',

	http_geoip	=> '--with-http_geoip_module(?!\S)',
	image_filter	=> '--with-http_image_filter_module(?!\S)',
	xslt		=> '--with-http_xslt_module(?!\S)',
	stream_geoip	=> '--with-stream_geoip_module(?!\S)',
);

# those which may be dynamic: feature, option, file; a module comes after
# the one it needs

my @dynamic_modules = (
	[ http_geoip	=> 'http_geoip_module', 'ngx_http_geoip_module' ],
	[ image_filter	=> 'http_image_filter_module',
		'ngx_http_image_filter_module' ],
	[ perl		=> 'http_perl_module', 'ngx_http_perl_module' ],
	[ xslt		=> 'http_xslt_module', 'ngx_http_xslt_filter_module' ],
	[ mail		=> 'mail', 'ngx_mail_module' ],
	[ stream	=> 'stream', 'ngx_stream_module' ],
	[ stream_geoip	=> 'stream_geoip_module',
		'ngx_stream_geoip_module' ],
);

###############################################################################

sub new {
	my ($class) = @_;

	Test::More::BAIL_OUT('no nginx binary found, set TEST_NGINX_BINARY')
		unless defined $NGINX;
	Test::More::BAIL_OUT("no $NGINX binary found")
		unless -x $NGINX;

	my $dir = tempdir('nginx-test-XXXXXXXXXX', TMPDIR => 1);

	# an interrupted test still has to run DESTROY

	for my $signal (qw/ INT TERM /) {
		$SIG{$signal} = sub { exit 1 } unless $SIG{$signal};
	}

	return bless {
		_pid		=> $$,
		_testdir	=> $dir,
		_alerts		=> 1,
		_daemons	=> [],
	}, $class || __PACKAGE__;
}

sub DESTROY {
	my ($self) = @_;

	# daemons are forked with a copy of the object

	return if $self->{_pid} != $$;

	local ($?, $!, $@);

	$self->stop();
	$self->stop_daemons();

	if (Test::More->builder->expected_tests) {
		my $log = $self->slurp('error.log');
		my $err = join '', $log, map { $self->slurp($_) }
			'stderr.log', map { m!([^/]+)\z! }
				glob("$self->{_testdir}/sanitizer.*");

		{
			local $TODO = $self->{_alerts} ? undef : 'alerts';

			my @alerts = grep { /\[alert\]/ } split /\n/, $log;
			Test::More::is(join("\n", @alerts), '', 'no alerts');
		}

		my @errors = $err =~ /^(?:.*Sanitizer.*
			|\S+:\d+:\d+:\ runtime\ error:.*)$/xmg;
		Test::More::is(join("\n", @errors), '', 'no sanitizer errors');
	}

	print $self->slurp('error.log') if $ENV{TEST_NGINX_CATLOG};

	if ($ENV{TEST_NGINX_LEAVE}) {
		Test::More::diag("test directory: $self->{_testdir}");

	} else {
		remove_tree($self->{_testdir}, { error => \my $ignored });
	}
}

###############################################################################

# What the binary and the machine can do.

sub has {
	my ($self, @features) = @_;

	for my $feature (@features) {
		next if $self->has_module($feature)
			or $self->has_feature($feature);

		Test::More::plan(skip_all => "no $feature available");
	}

	return $self;
}

sub has_module {
	my ($self, $feature) = @_;

	my $info = $self->build_info();

	if (my $switch = $default_module{$feature}) {
		return $info =~ /--without-$switch/ ? 0 : 1;
	}

	# anything that is not in the tables is itself a pattern

	my $re = $optional_module{$feature} || $feature;
	return 1 if $info =~ /$re/;

	my ($module) = grep { $_->[0] eq $feature } @dynamic_modules
		or return 0;

	return 1 if $self->dynamic_module($module);
	return $self->globals_load($module->[2]) ? 1 : 0;
}

sub has_feature {
	my ($self, $feature) = @_;

	return 1 if $feature =~ /^(?:symlink|unix|udp)$/;

	if ($feature =~ /^socket_ssl/) {
		return 0 unless eval {
			require IO::Socket::SSL;
			IO::Socket::SSL::SSL_VERIFY_NONE();
			1;
		};

		my $ssl = 'IO::Socket::SSL';
		my %can = (
			socket_ssl		=> sub { 1 },
			socket_ssl_sni		=> sub { $ssl->can_client_sni() },
			socket_ssl_alpn		=> sub { $ssl->can_alpn() },
			socket_ssl_sslversion	=>
				sub { $ssl->can('get_sslversion') },
			socket_ssl_reused	=>
				sub { $ssl->can('get_session_reused') },
		);

		my $can = $can{$feature} or return 0;
		return eval { $can->() } ? 1 : 0;
	}

	if ($feature =~ /^(openssl|libressl):([\d.]+)([a-z]*)/) {
		my ($library, @need) = ($1, version($2, $3));

		return 0 unless $self->build_info()
			=~ /with \Q$library\E ([\d.]+)([a-z]*)/i;

		return at_least([ version($1, $2) ], \@need);
	}

	if ($feature eq 'cryptx') {
		return eval {
			require Crypt::Misc;
			Crypt::Misc->VERSION('0.067');
			1;
		} ? 1 : 0;
	}

	return 0;
}

sub has_version {
	my ($self, $need) = @_;

	return 0 unless $self->build_info()
		=~ m!^nginx version: \S+?/([\d.]+)!m;

	return at_least([ version($1) ], [ version($need) ]);
}

sub has_daemon {
	my ($self, $daemon) = @_;

	Test::More::plan(skip_all => "$daemon not found")
		unless find_program($daemon);

	return $self;
}

sub build_info {
	my ($self) = @_;

	return $self->{_build_info} ||= `$NGINX -V 2>&1`;
}

# Numbers of a version and the letters behind it, as OpenSSL 1.0.2k had.

sub version {
	my ($numbers, $letters) = @_;

	return (split(/\./, $numbers),
		unpack('C*', defined $letters ? $letters : ''));
}

sub at_least {
	my ($have, $need) = @_;

	for my $i (0 .. $#$need) {
		my $order = ($have->[$i] || 0) <=> $need->[$i];
		return $order > 0 ? 1 : 0 if $order;
	}

	return 1;
}

# The first of the programs that exists; a name without a slash is looked
# for in PATH.

sub find_program {
	for my $name (@_) {
		my @try = $name =~ m!/! ? $name
			: map { File::Spec->catfile($_, $name) }
				File::Spec->path();

		for my $file (@try) {
			return $file if -f $file && -x _;
		}
	}

	return undef;
}

###############################################################################

# The life of nginx.

sub plan {
	my ($self, $tests) = @_;

	# two more are run by DESTROY

	Test::More::plan(tests => $tests + 2);

	return $self;
}

sub todo_alerts {
	my ($self) = @_;

	$self->{_alerts} = 0;

	return $self;
}

sub run {
	my ($self, $conf) = @_;

	if (defined $conf) {
		open my $fh, '<', $conf or die "Can't open $conf: $!\n";
		$self->write_file_expand('nginx.conf',
			do { local $/; <$fh> });
	}

	$self->start() or die "Can't start nginx";

	return $self;
}

sub try_run {
	my ($self, $message) = @_;

	return $self if $self->start('stderr.log');

	log_core($self->slurp('stderr.log') . $self->slurp('error.log'));

	Test::More::plan(skip_all => $message);

	return $self;
}

# Returns once nginx is there, or false.  What it says before it has opened
# error.log goes to our stderr, or to a file.

sub start {
	my ($self, $stderr) = @_;

	my $dir = $self->{_testdir};

	my $pid = fork();
	die "Unable to fork(): $!\n" unless defined $pid;

	if ($pid == 0) {
		my @command = $self->command();

		open STDERR, '>>', "$dir/$stderr" if defined $stderr;

		# a sanitizer may speak up before error.log is open

		for my $options (qw/ ASAN_OPTIONS UBSAN_OPTIONS /) {
			my $set = $ENV{$options} || '';
			next if $set =~ /log_path=/;

			$ENV{$options} = "$set:log_path=$dir/sanitizer";
		}

		{ no warnings 'exec'; exec { $command[0] } @command; }

		print STDERR "Unable to exec $NGINX: $!\n";
		POSIX::_exit(1);
	}

	if (!$self->waitforfile("$dir/nginx.pid", $pid)) {
		kill 'TERM', $pid if waitpid($pid, WNOHANG) == 0;
		return 0;
	}

	$self->{_nginx} = $pid;
	$self->{_started} = 1;

	return 1;
}

sub command {
	my ($self, @options) = @_;

	my $dir = $self->{_testdir};
	my @command = ($NGINX, '-p', "$dir/", '-c', 'nginx.conf',
		'-e', 'error.log', @options);

	# a configuration without %%TEST_GLOBALS%% gets what we rely on

	push @command, '-g', "pid $dir/nginx.pid; "
		. "error_log $dir/error.log " . $self->log_level() . ';'
		unless defined $self->{_test_globals};

	return @command;
}

sub dump_config {
	my ($self) = @_;

	my @command = $self->command('-T');

	my $pid = open my $fh, '-|';
	die "Unable to fork(): $!\n" unless defined $pid;

	if ($pid == 0) {
		open STDERR, '>&', \*STDOUT;
		exec { $command[0] } @command or POSIX::_exit(1);
	}

	my $output = do { local $/; <$fh> };
	close $fh;

	return $output;
}

sub reload {
	my ($self) = @_;

	kill 'HUP', $self->master() if $self->{_started};

	return $self;
}

sub stop {
	my ($self) = @_;

	return $self unless $self->{_started};

	my $pid = $self->master();
	my @workers = children($pid);

	# a graceful shutdown, so that sockets left open become alerts

	kill 'QUIT', $pid;

	if (!reap($pid, STOP_STEPS)) {
		push @workers, children($pid);
		kill 'TERM', $pid;

		if (!reap($pid, WAIT_STEPS)) {
			kill 'KILL', $pid, @workers;
			waitpid($pid, 0);
		}
	}

	$self->{_started} = 0;

	return $self;
}

sub master {
	my ($self) = @_;

	return $self->slurp('nginx.pid') =~ /^(\d+)/ ? $1 : $self->{_nginx};
}

sub children {
	my ($pid) = @_;

	open my $fh, '<', "/proc/$pid/task/$pid/children" or return;

	return split ' ', <$fh> || '';
}

sub reap {
	my ($pid, $steps) = @_;

	for (1 .. $steps) {
		return 1 if waitpid($pid, WNOHANG) != 0;
		select undef, undef, undef, STEP;
	}

	return 0;
}

###############################################################################

# Helper processes.

sub run_daemon {
	my ($self, $code, @args) = @_;

	my $pid = fork();
	die "Can't fork daemon: $!\n" unless defined $pid;

	if ($pid == 0) {
		$SIG{INT} = $SIG{TERM} = 'DEFAULT';

		if (ref $code eq 'CODE') {
			$code->(@args);
			exit 0;
		}

		{ no warnings 'exec'; exec { $code } $code, @args; }
		POSIX::_exit(127);
	}

	push @{$self->{_daemons}}, $pid;

	return $self;
}

sub stop_daemons {
	my ($self) = @_;

	kill 'TERM', @{$self->{_daemons}};

	while (defined(my $pid = shift @{$self->{_daemons}})) {
		next if reap($pid, WAIT_STEPS);

		kill 'KILL', $pid;
		waitpid($pid, 0);
	}

	return $self;
}

# Waits for a file; in vain, once the process that was to write it is gone.

sub waitforfile {
	my ($self, $file, $pid) = @_;

	my $gone;

	for (1 .. WAIT_STEPS) {
		return 1 if -e $file;
		return 0 if $gone;

		$gone = 1 if $pid && waitpid($pid, WNOHANG) != 0;
		select undef, undef, undef, STEP unless $gone;
	}

	return undef;
}

sub waitforsocket {
	my ($self, $peer) = @_;

	for (1 .. WAIT_STEPS) {
		my $s = $peer =~ /^unix:(.+)/
			? IO::Socket::UNIX->new(Peer => $1)
			: IO::Socket::IP->new(
				Proto => 'tcp',
				PeerAddr => $peer
			);

		return 1 if defined $s;

		select undef, undef, undef, STEP;
	}

	return undef;
}

###############################################################################

# Files.

sub testdir {
	my ($self) = @_;

	return $self->{_testdir};
}

sub read_file {
	my ($self, $name) = @_;

	open my $fh, '<', "$self->{_testdir}/$name"
		or die "Can't open $name: $!";

	local $/;
	return scalar <$fh>;
}

sub slurp {
	my ($self, $name) = @_;

	my $content = eval { $self->read_file($name) };

	return defined $content ? $content : '';
}

sub write_file {
	my ($self, $name, $content) = @_;

	open my $fh, '>', "$self->{_testdir}/$name"
		or die "Can't create $name: $!";
	binmode $fh;
	print $fh $content;
	close $fh or die "Can't write $name: $!";

	return $self;
}

sub write_file_expand {
	my ($self, $name, $content) = @_;

	# "user" may be given once only

	$self->{_user} = 1 if $content =~ /^\s*user\s/m;

	my %text = (
		TEST_GLOBALS		=> sub { $self->test_globals() },
		TEST_GLOBALS_HTTP	=> sub { $self->test_globals_http() },
		TEST_GLOBALS_STREAM	=>
			sub { $self->test_globals_stream() },
		TESTDIR			=> sub { $self->{_testdir} },
	);

	$content =~ s/%%([A-Z_]+)%%/$text{$1} ? $text{$1}->() : $&/ge;

	$content =~ s/127\.0\.0\.1:(8\d{3})/'127.0.0.1:' . port($1)/ge;
	$content =~ s/%%PORT_(\d+)(_UDP)?%%/port($1, udp => $2)/ge;

	return $self->write_file($name, $content);
}

###############################################################################

# Parts of the configuration every test needs.

sub test_globals {
	my ($self) = @_;

	return $self->{_test_globals} if defined $self->{_test_globals};

	my $env = $ENV{TEST_NGINX_GLOBALS} || '';
	my $s = '';

	# load_module has to come first, and our own modules need the others

	for my $module (@dynamic_modules) {
		my $file = $self->dynamic_module($module) or next;

		$s .= "load_module $file;\n"
			unless $self->globals_load($module->[2]);
	}

	$s .= "$env\n" if length $env;

	$s .= "pid $self->{_testdir}/nginx.pid;\n";
	$s .= "error_log $self->{_testdir}/error.log "
		. $self->log_level() . ";\n";

	# the workers of root would not get into our directory

	$s .= "user root;\n"
		if $> == 0 && !$self->{_user}
		&& $env !~ /(?:^|[\s;])user\s/;

	$s .= $self->test_globals_perl5lib()
		unless $s =~ /env\s+PERL5LIB/;

	return $self->{_test_globals} = $s;
}

sub test_globals_http {
	my ($self) = @_;

	my $dir = $self->{_testdir};
	my $s = "root $dir;\naccess_log $dir/access.log;\n"
		. "client_body_temp_path $dir/client_body_temp;\n";

	for my $module (qw/ fastcgi proxy uwsgi scgi /) {
		$s .= "${module}_temp_path $dir/${module}_temp;\n"
			if $self->has_module($module);
	}

	return $s . ($ENV{TEST_NGINX_GLOBALS_HTTP} || '');
}

sub test_globals_stream {
	my ($self) = @_;

	return $ENV{TEST_NGINX_GLOBALS_STREAM} || '';
}

# A perl module which is not installed, but lies in nginx's build tree.

sub test_globals_perl5lib {
	my ($self) = @_;

	my (undef, $objs) = File::Spec->splitpath(
		File::Spec->rel2abs($NGINX));
	my $lib = "${objs}src/http/modules/perl";

	return '' unless -d $lib && $self->has_module('perl');
	return "env PERL5LIB=$lib:$lib/blib/arch;\n";
}

# What the level debug needs is not in every build.

sub log_level {
	my ($self) = @_;

	return $self->build_info() =~ /--with-debug/ ? 'debug' : 'info';
}

# The file of a module nginx was built to load, if it is there.

sub dynamic_module {
	my ($self, $module) = @_;

	my (undef, $option, $name) = @$module;

	return undef
		unless $self->build_info() =~ /--with-\Q$option\E=dynamic/;

	my $dir = $ENV{TEST_NGINX_MODULES};

	if (!defined $dir) {
		my (undef, $objs) = File::Spec->splitpath($NGINX);

		($dir) = grep { defined && -e "$_/$name.so" } $objs,
			$self->build_info() =~ /--modules-path=(\S+)/;
		return undef unless defined $dir;
	}

	my $file = File::Spec->rel2abs("$name.so", $dir);

	return -e $file ? $file : undef;
}

sub globals_load {
	my ($self, $name) = @_;

	return ($ENV{TEST_NGINX_GLOBALS} || '')
		=~ /load_module\s+[^;]*\b\Q$name\E[-\w]*\.so["']?\s*;/;
}

###############################################################################

# A free port for a number, the same number if it can be.  The port is ours
# while we hold a socket of the other protocol on it.

sub port {
	my ($number, %opts) = @_;

	my $entry = $ports{$number} ||= reserve($number, $opts{udp});

	return $opts{socket} ? $entry->{socket} : $entry->{port};
}

sub reserve {
	my ($number, $udp) = @_;

	my $base = $number - $number % 500;
	my $port = $number;

	for (1 .. 100) {
		my $lock = bind_port($port, !$udp);

		if ($lock && bind_port($port, $udp)) {
			return { port => $port, socket => $lock };
		}

		$port = $base + int(rand(500));
	}

	die "No free port for $number\n";
}

sub bind_port {
	my ($port, $udp) = @_;

	return IO::Socket::INET->new(
		Proto => $udp ? 'udp' : 'tcp',
		LocalAddr => '127.0.0.1',
		LocalPort => $port,
		$udp ? () : (Listen => 5, ReuseAddr => 1),
	);
}

###############################################################################

# Requests.  All of them give undef if nginx does not end in time.

sub http_get($;%) {
	my ($url, %extra) = @_;

	return http("GET $url HTTP/1.0\nHost: localhost\n\n", %extra);
}

sub http_head($;%) {
	my ($url, %extra) = @_;

	return http("HEAD $url HTTP/1.0\nHost: localhost\n\n", %extra);
}

sub http($;%) {
	my ($request, %extra) = @_;

	my $s = http_start($request, %extra);

	return $s if !defined $s || $extra{start};
	return http_end($s, %extra);
}

sub http_start($;%) {
	my ($request, %extra) = @_;

	my $s;

	in_time(sub {
		$s = $extra{socket} || IO::Socket::INET->new(
			Proto => 'tcp',
			PeerAddr => '127.0.0.1:'
				. port($extra{SSL} ? 8443 : 8080),
			%extra
		)
			or die "Can't connect to nginx: $!\n";

		start_ssl($s, %extra) if $extra{SSL};

		log_out($request);
		$s->print($request);

		select undef, undef, undef, $extra{sleep} if $extra{sleep};

		if ($extra{body} && !$extra{aborted}) {
			log_out($extra{body});
			$s->print($extra{body});
		}

	}) or return undef;

	return $s;
}

sub http_end($;%) {
	my ($s) = @_;

	my $reply;

	in_time(sub {
		local $/;
		$reply = $s->getline();
		$s->close();

	}) or return undef;

	log_in($reply);

	return $reply;
}

# Turns an established connection into a TLS one.

sub start_ssl {
	my ($s, %extra) = @_;

	require IO::Socket::SSL;

	IO::Socket::SSL->start_SSL($s,
		SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
		%extra
	)
		or die IO::Socket::SSL::errstr() . "\n";

	return if exists $extra{SSL_startHandshake};

	log_in('ssl cipher: ' . $s->get_cipher());
	log_in('ssl cert: ' . ($s->peer_certificate('issuer') || ''));
}

sub in_time {
	my ($code) = @_;

	my $ok = eval {
		local $SIG{ALRM} = sub { die "timeout\n" };
		local $SIG{PIPE} = sub { die "sigpipe\n" };

		alarm(HTTP_TIMEOUT);
		$code->();
		alarm(0);

		1;
	};

	return 1 if $ok;

	alarm(0);
	log_in("died: $@");

	return 0;
}

# The body of a response, without the chunks.

sub http_content {
	my ($text) = @_;

	return undef unless defined $text;

	my ($head, $body) = split /\r\n?\r\n?/, $text, 2;
	return undef unless defined $body;

	return $body unless $head =~ /^Transfer-Encoding: chunked/mi;

	my ($content, $size) = ('', undef);

	while ($body =~ s/^\r?\n?([0-9a-f]+)\r\n?//i) {
		$size = hex $1;
		last if $size == 0;

		$content .= substr($body, 0, $size, '');
	}

	$content .= '[no-last-chunk]' if !defined $size || $size != 0;

	return $content;
}

sub http_gzip_request {
	my ($url) = @_;

	return http("GET $url HTTP/1.1\nHost: localhost\nConnection: close\n"
		. "Accept-Encoding: gzip\n\n");
}

sub http_gzip_like {
	my ($text, $re, $name) = @_;

	require IO::Uncompress::Gunzip;

	my ($in, $out) = (http_content($text), undef);
	$in = '' unless defined $in;
	IO::Uncompress::Gunzip::gunzip(\$in => \$out);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return Test::More->builder->like($out, $re, $name);
}

###############################################################################

sub log_in {
	log_core('<<', @_);
}

sub log_out {
	log_core('>>', @_);
}

sub log_core {
	return unless $ENV{TEST_NGINX_VERBOSE};

	my $text = pop;
	my $prefix = @_ ? "# $_[0] " : '# ';

	$text = '(undef)' unless defined $text;

	my $length = length $text;
	$text = substr($text, 0, LOG_LIMIT)
		. "(...logged only " . LOG_LIMIT . " of $length bytes)"
		if $length > LOG_LIMIT;

	for my $line (split /(?<=\n)/, $text) {
		$line =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge;
		print "$prefix$line\n";
	}
}

###############################################################################

1;

###############################################################################
