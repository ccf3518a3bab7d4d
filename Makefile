SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build test check e2e bench soak

# The race detector needs cgo and a C compiler.
RACE = $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null && echo -race)

# Tells the results of go test -json; COUNTS=FILE keeps the numbers.
SUMMARY = go run ./scripts/testsummary $(if $(COUNTS),-counts '$(COUNTS)')

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' Makefile | expand -t 10

run: build ## build and start the server; data is kept in ./data
	@exec bin/certctl server

build: ## build bin/certctl
	go build -trimpath -o bin/certctl ./cmd/certctl

test: ## check, and run all tests but the end-to-end ones; installs what they need
	@scripts/test-deps
	@$(MAKE) --no-print-directory check
	@[ -n "$(RACE)" ] || echo "without the race detector: it needs a C compiler"
	go test -json -vet=off -count=1 -timeout 10m $(RACE) $$(go list ./... | grep -v /e2e$$) | $(SUMMARY)

check: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not formatted by gofmt:" $$unformatted >&2; exit 1; }
	go vet ./...
	go tool staticcheck ./...

e2e: build ## run the end-to-end tests: real clients against bin/certctl
	@scripts/test-deps
	go test -json -vet=off -count=1 -timeout 10m -parallel 8 ./e2e | $(SUMMARY)

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

soak: ## fuzz every fuzz target for FUZZTIME (10m)
	FUZZTIME=$${FUZZTIME:-10m} scripts/fuzz
