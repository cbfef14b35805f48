#!/usr/bin/perl

# Tests for ngx_stream_tunnel_preread_module: policies from variables.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Policy;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

policy_test('preread', \&variable_cases, conf => variable_conf('preread'),
	files => { variable_files() });

###############################################################################
