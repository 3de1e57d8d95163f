# Foundry. `make run` starts a node; `make test` runs everything that is fast.
SHELL := /bin/bash
.DEFAULT_GOAL := build

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
DATA_DIR ?= $(shell scripts/data-dir)
GO ?= go
RERUN ?= 0
# vet has run by itself; no debugger reads these binaries, and linking them takes minutes in all.
LEAN = -vet=off -ldflags=-w
# With RERUN=2 a test that fails runs again, alone, up to twice; it is listed as flaky, and what fails each time fails.
GOTEST = $(GO) tool gotestsum --format pkgname --hide-summary skipped --rerun-fails=$(RERUN) --rerun-fails-max-failures=4 --rerun-fails-abort-on-data-race

.PHONY: run build setup setup-test tour test test-race test-faults test-ollama bench bench-security bench-recovery bench-plan bench-fleet fuzz lint generate clean

run: setup build ## set up, build, start a node on ./var
	bin/foundry up --data-dir $(DATA_DIR)

build: ## build bin/foundry
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/foundry ./cmd/foundry

setup: ## install what running needs (Go toolchain, PostgreSQL server)
	@scripts/setup run

tour: ## lose the node that everything runs on, in a throwaway fleet on this machine, and read the report
	@scripts/setup tour
	@$(MAKE) --no-print-directory build
	bin/foundry exercise run primary-lost

setup-test: ## install what testing needs as well (Chromium, Node.js packages)
	@scripts/setup test

test: setup-test build ## set up, then every test but the slow suites
	$(GO) vet ./...
	$(GOTEST) --packages=./... -- $(LEAN)

test-race: setup-test ## the tests of the concurrent packages under the race detector
	$(GO) test -race ./internal/access/... ./internal/gateway/... ./internal/db/...

# These tests wait more than they work: three at once on two cores.
test-faults: setup-test build ## kill, fill, cut and stop things; FAULTS=-short for the short pass
	$(GOTEST) --packages=./e2e/faults/... -- $(LEAN) -tags faults $(FAULTS) -parallel 3 -timeout 60m
ifeq ($(filter -short,$(FAULTS)),)
	$(GOTEST) --packages='./internal/fleet ./internal/fleet/verdict ./internal/fleet/member ./internal/backup/restic ./internal/continuity/patroni' -- $(LEAN) -tags faults $(FAULTS) -timeout 60m
	$(GOTEST) --packages=./internal/daemon -- $(LEAN) -tags faults -parallel 8 -timeout 30m -run 'ConfirmedLoss|TestARecovery|TestAStepAsks'
	$(GOTEST) --packages=./internal/db -- $(LEAN) -tags faults -timeout 30m -run WhoNamesSeveral
endif
	$(GOTEST) --packages=./internal/backup/pgbackrest -- $(LEAN) -tags faults $(FAULTS) -timeout 60m $(if $(filter -short,$(FAULTS)),-run Conformance)

test-ollama: setup-test build ## against a real Ollama, built once from source (minutes)
	scripts/test-ollama

bench: build ## measure against nginx and httputil.ReverseProxy; BENCH=-full for the long run
	scripts/setup bench
	$(GO) run ./bench $(BENCH)

bench-security: setup ## sign-in, authorisation, sealing, the audit log, against their references in the same run
	$(GO) test -run '^$$' -bench 'Verify(Warm|Forged)|Session|Authorise|Decide$$' ./internal/access/...
	$(GO) test -run '^$$' -bench 'Seal4KiB' ./internal/keys
	$(GO) test -run '^$$' -bench . ./internal/audit

bench-recovery: setup ## backup, drill and recovery of a bare machine, against pgBackRest by hand; BENCH="-scale 5 -rounds 1" is quick
	$(GO) run ./bench/recovery $(BENCH)

bench-plan: ## reading and checking plans of four sizes, and what falls with each thing in them
	$(GO) run ./bench/plan $(BENCH)

bench-fleet: ## leaders killed, starts, 200 functions from five members; BENCH="-soak 10m" for verdicts under load
	$(GO) run ./bench/fleet $(BENCH)

fuzz: ## every fuzz target for FUZZTIME each (default 10m)
	scripts/fuzz $(or $(FUZZTIME),10m)

generate: ## templates, references
	$(GO) tool templ generate -path internal/console
	scripts/reference

lint: ## formatting, vet, staticcheck, generated files
	scripts/lint

clean:
	rm -rf bin
