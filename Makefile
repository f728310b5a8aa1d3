SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Flags for bench-copy and bench-cdc, such as --scale=20 --rows=500000 --rounds=1.
BENCHFLAGS ?=
# More flags for go test, such as -run or -short.
TESTFLAGS ?=
# The packages that take longest begin first, so that none of them is left to run alone.
TESTED := ./tests/e2e ./activities ./...

.PHONY: help build temporal postgres test test-race test-matrix check format record bench-copy demo bench-cdc clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/pgdts, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/pgdts ./cmd/pgdts

temporal: bin/temporal ## Build bin/temporal, the Temporal server that `pgdts run` starts (minutes, once)

bin/temporal: cmd/temporal/go.mod cmd/temporal/go.sum
	cd cmd/temporal && go build -trimpath -ldflags '-s -w' -o ../../bin/temporal github.com/temporalio/cli/cmd/temporal
	@touch $@

postgres: ## Find PostgreSQL 15 or newer, or install it without starting it
	@tests/pgserver/install.sh

test: build temporal postgres bin/testlog ## Run all tests against real PostgreSQL and Temporal servers
	go test $(TESTED) -count=1 -timeout 60m -json $(TESTFLAGS) | bin/testlog

test-race: build temporal postgres bin/testlog ## Run all tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 go test $(TESTED) -race -count=1 -timeout 90m -json $(TESTFLAGS) | bin/testlog

test-matrix: build temporal postgres ## Migrate between all versions of PostgreSQL, 10 to 18, under writers and kills (downloads servers)
	PGDTS_MATRIX=all go test ./tests/e2e -run '^TestMatrix$$' -count=1 -timeout 60m -v

record: build temporal postgres ## Record workflow histories for tests/replay; run it on a released commit
	PGDTS_RECORD=$(CURDIR)/tests/replay/testdata go test ./tests/e2e -count=1 -timeout 30m -run 'Live|Stop|Restart|Random|SchemaAndFull|FromNow'

bin/testlog: tests/tools/testlog/main.go
	cd tests/tools && go build -o ../../bin/testlog ./testlog

check: bin/tools/built ## Check format, vet, lint, determinism of workflows and who imports whom
	@unformatted=$$(bin/tools/gofumpt -l .); if [ -n "$$unformatted" ]; then echo "not formatted, see make format:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	bin/tools/golangci-lint run ./...
	bin/tools/workflowcheck -config workflowcheck.config.yaml ./workflows/...
	go test -count=1 ./tests/layers

format: bin/tools/built ## Format the code as check wants it
	bin/tools/gofumpt -w .

bin/tools/built: tests/tools/go.mod tests/tools/go.sum
	cd tests/tools && go build -o ../../bin/tools/ tool
	@touch $@

bench-copy: build temporal postgres ## Measure the full copy against psql, pg_dump and pgcopydb (BENCHFLAGS=--scale=20 for less)
	go run ./tests/bench/copy --json bin/bench-copy.json $(BENCHFLAGS)

demo: build temporal postgres ## Migrate a live database on this machine (KEEP=1 leaves it running, KILL=1 kills pgdts on the way)
	KEEP="$(KEEP)" KILL="$(KILL)" go run ./tests/demo

bench-cdc: postgres ## Measure the replay of changes against pg_recvlogical, a subscription and pgcopydb (BENCHFLAGS)
	go run ./activities/internal/follow/benchcdc $(BENCHFLAGS)

clean: ## Remove what make has built
	rm -rf bin
