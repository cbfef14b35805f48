# ngx_http_connect_tunnel_module: "make help" tells what there is to make.

MODULE = ngx_http_connect_tunnel_module
SO     = build/modules/$(MODULE).so
STREAM = build/modules/ngx_stream_connect_tunnel_module.so
NGX    = build/nginx

# compiled anew when one of these or the installed nginx changed
SOURCES = $(wildcard $(MODULE)/*.[ch])
PAGE    = $(MODULE)/ngx_http_tunnel_status.html

# tests: which ones, and how prove runs them; they wait more than they work
T           = t
PROVE_FLAGS = -j$(shell expr $$(nproc) + 1)

# What is tested is the installed nginx with our modules, or, with any of these,
# one that is built from source, Debian's or that in SOURCE, with them in it.
SOURCE   =
STATIC   =
SANITIZE =
VALGRIND =

ifeq ($(SOURCE)$(STATIC)$(SANITIZE)$(VALGRIND),)
KIND    = dynamic
else ifneq ($(SANITIZE),)
KIND    = static
BUILT   = build/sanitize
OPTION  = --sanitize
else ifneq ($(VALGRIND),)
KIND    = valgrind
BUILT   = build/valgrind
OPTION  = --valgrind
else
KIND    = static
BUILT   = build/static$(addprefix -,$(notdir $(SOURCE)))
endif

# and what soaks, likewise
ifeq ($(KIND),dynamic)
TESTED = /usr/sbin/nginx $(SO)
else
TESTED = $(BUILT)/objs/nginx -
endif

export PORT SOCKS_PORT DESTDIR

.DELETE_ON_ERROR:
.PHONY: all run test test-dynamic test-static test-valgrind static suite unit fuzz soak
.PHONY: matrix matrix-build deb deb-test bench install uninstall clean help FORCE


all: $(SO) $(STREAM)

$(SO): $(SOURCES) $(NGX)/objs/Makefile
	@echo "building $@ and $(notdir $(STREAM))"
	@$(MAKE) -s --no-print-directory -C $(NGX) -f objs/Makefile modules
	@install -D -m 644 $(NGX)/objs/$(notdir $(STREAM)) $(STREAM)
	@install -D -m 644 $(NGX)/objs/$(MODULE).so $@

$(STREAM): $(SO)

$(NGX)/objs/Makefile: config $(PAGE) scripts/configure build/installed
	@scripts/configure $(NGX)

# written only when it says something new, so that nothing follows otherwise
build/installed: FORCE
	@scripts/installed $@


# Packages come first, and only then can a second make look at what to build.

run:
	@scripts/packages run
	@$(MAKE) -s --no-print-directory all
	@scripts/run $(SO)

test:
	@scripts/packages $(if $(VALGRIND),valgrind,test)
	@$(MAKE) -s --no-print-directory test-$(KIND)

test-dynamic: all unit
	@t/fuzz/run 2
	@$(MAKE) -s --no-print-directory suite

# without what is the same for every nginx
suite: all
	@docs/check $(TESTED)
	@scripts/test $(TESTED) $(PROVE_FLAGS) $(T)

test-static: static
	@scripts/test $(TESTED) $(PROVE_FLAGS) $(T)

test-valgrind: static
	@scripts/valgrind $(BUILT)/objs/nginx $(filter-out t,$(T))

# the tree is one that has nginx's configure
static:
	@if [ -z "$(SOURCE)" ]; then scripts/nginx-source build/source; fi
	@scripts/build-nginx $(or $(SOURCE),build/source/nginx) $(BUILT) $(OPTION)

unit: $(NGX)/objs/Makefile
	@if [ -f t/unit/run ]; then sh t/unit/run; fi

fuzz:
	@scripts/packages $(if $(filter libfuzzer,$(ENGINE)),libfuzzer,build)
	@t/fuzz/run $(TIME) $(SEED)

soak:
	@scripts/packages test
	@$(MAKE) -s --no-print-directory $(if $(filter dynamic,$(KIND)),all,static)
	@t/soak/run $(TESTED) $(TIME)

# other releases, in roots of theirs
matrix:
	@scripts/packages roots
	@scripts/matrix test $(ROWS)

matrix-build:
	@scripts/packages roots
	@scripts/matrix build $(ROWS)

deb:
	@scripts/packages deb
	@scripts/deb

deb-test: deb
	@scripts/packages roots
	@scripts/deb-test

bench:
	@scripts/packages bench || echo 'going on with what is installed'
	@$(MAKE) -s --no-print-directory all
	@bench/run /usr/sbin/nginx $(SO)


install: all
	@scripts/install $(SO) $(STREAM)

uninstall:
	@scripts/install --remove $(SO) $(STREAM)

clean:
	rm -rf build

help:
	@echo 'make                build the modules, in build/modules'
	@echo 'make run            a proxy on 127.0.0.1:3128, and one for SOCKS on port 1080,'
	@echo '                    until Ctrl-C [PORT=3128] [SOCKS_PORT=1080]'
	@echo 'make test           all tests [T=t/one.t] [PROVE_FLAGS=-v]; with SANITIZE=1 of'
	@echo '                    nginx built with ASan and UBSan, with STATIC=1 of one with'
	@echo '                    the modules built in, with SOURCE=DIR of the nginx there,'
	@echo '                    with VALGRIND=1 some of them under memcheck'
	@echo 'make unit           the unit tests alone'
	@echo 'make fuzz           fuzz the parsers, 10 seconds each [TIME=60 [SEED=2]]'
	@echo '                    [ENGINE=libfuzzer]'
	@echo 'make soak           tunnels, aborts, reloads, killed workers for 5 minutes'
	@echo '                    [TIME=300] [SANITIZE=1]'
	@echo 'make matrix         all tests on Debian 12, 13, sid, and nginx 1.31, each in a'
	@echo '                    root of its own [ROWS="trixie sid"] [SOURCE=DIR]'
	@echo 'make matrix-build   only build there'
	@echo 'make deb            Debian packages, in build/deb'
	@echo 'make deb-test       and install, use, and remove them in a fresh root'
	@echo 'make bench          compare with other proxies, 20 minutes [ROUNDS=5]'
	@echo '                    [WORKLOADS="rate bulk1"] [PROXIES="ours haproxy"]; HTTP/2'
	@echo '                    alone: WORKLOADS="h2idle h2open h2bulk h2get"'
	@echo 'make install        install the modules for the system'"'"'s nginx [DESTDIR=]'
	@echo 'make uninstall      remove them again [DESTDIR=]'
	@echo 'make clean          remove build/, which has all that was made here'
