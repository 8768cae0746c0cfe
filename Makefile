# make up     build and run the store in ./data, on http://127.0.0.1:8080
# make test   run all tests
# make help   everything else

export PATH := $(PATH):/usr/local/go/bin
TOOL := go tool -modfile=tools.mod
UP_FLAGS ?=

.PHONY: help up build test check race fuzz bench soak docs tools

help:
	@echo 'make up      build and run the store in ./data, on http://127.0.0.1:8080 (UP_FLAGS="--listen ADDR …")'
	@echo 'make build   leave the program in bin/wheelhouse'
	@echo 'make test    run all tests'
	@echo 'make race    run all tests with the race detector'
	@echo 'make check   formatting, vet, staticcheck, tidy modules, current reference docs'
	@echo 'make fuzz    run each fuzz test for FUZZTIME (default 20s)'
	@echo 'make bench   measure against nginx and plain files, and print the table'
	@echo 'make soak    break an installation for SOAK (default 30m) and see that nothing is lost; writes docs/ops/reliability.md'
	@echo 'make docs    write the generated reference in docs/'

up: build
	exec bin/wheelhouse up $(UP_FLAGS)

build:
	@scripts/need-go
	go build -trimpath -o bin/wheelhouse ./cmd/wheelhouse

# What the tests use besides Go: curl and both tars as clients and witnesses, real databases, and Gearman's and TheSchwartz's own
# programs and modules, memcached's, and clients of it.
tools:
	@scripts/need-go
	@scripts/need curl=curl tar=tar bsdtar=libarchive-tools gcc=gcc \
		gearmand=gearman-job-server gearman=gearman-tools perl:Gearman::Client=libgearman-client-perl \
		mariadbd=mariadb-server pg_ctlcluster=postgresql perl:TheSchwartz=libtheschwartz-perl \
		perl:DBD::mysql=libdbd-mysql-perl perl:DBD::SQLite=libdbd-sqlite3-perl perl:DBD::Pg=libdbd-pg-perl \
		memcached=memcached memccapable=libmemcached-tools perl:Cache::Memcached=libcache-memcached-perl \
		perl:Cache::Memcached::Fast=libcache-memcached-fast-perl python:pymemcache=python3-pymemcache \
		python:pylibmc=python3-pylibmc file:/usr/include/libmemcached/memcached.h=libmemcached-dev \
		perlbal=perlbal chromium=chromium ab=apache2-utils \
		nginx=nginx-light apache2=apache2 h2load=nghttp2-client wrk=wrk

test: tools
	go test -shuffle=on -timeout 18m ./...

race: tools
	go test -race -shuffle=on -timeout 30m ./...

check:
	@scripts/need-go
	@test -z "$$($(TOOL) gofumpt -l $$(git ls-files -co --exclude-standard '*.go'))" || { $(TOOL) gofumpt -d $$(git ls-files -co --exclude-standard '*.go'); exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	go mod tidy -diff
	go test -count=1 ./internal/archtest

fuzz:
	@scripts/need-go
	@scripts/fuzz $(or $(FUZZTIME),20s)

bench: build
	@scripts/need nginx=nginx-light wrk=wrk haproxy=haproxy perlbal=perlbal openssl=openssl gearmand=gearman-job-server memcached=memcached mariadbd=mariadb-server pg_ctlcluster=postgresql \
		perl:TheSchwartz=libtheschwartz-perl perl:DBD::mysql=libdbd-mysql-perl perl:DBD::SQLite=libdbd-sqlite3-perl
	go run ./bench

soak: build
	go run ./bench/soak -time $(or $(SOAK),30m) -report docs/ops/reliability.md

docs: build
	bin/wheelhouse config describe > docs/ops/configuration.toml
	bin/wheelhouse help > docs/ops/commands.txt
	bin/wheelhouse balancer tunables > docs/ops/balancer-tunables.txt
