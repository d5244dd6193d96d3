# Every target does its own set-up. Needs: git, Go, make, a POSIX shell.
SHELL := /bin/sh
export CGO_ENABLED ?= 0
BIN := $(CURDIR)/bin
GO ?= go
LINT_VERSION := v2.15.0
VERSION_PKG := github.com/belaydev/belay/internal/version

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: belay devcluster ## Build bin/belay and bin/devcluster

.PHONY: belay
belay:
	@scripts/progress.sh bin/belay ./cmd/belay

.PHONY: devcluster
devcluster:
	@devcluster/build.sh $(BIN)/devcluster

.PHONY: demo
demo: build ## Run a sample fleet on a control plane of its own, until Ctrl-C
	@$(BIN)/belay demo

.PHONY: test
test: setup devcluster ## Run all tests, on one control plane
	@$(BIN)/devcluster run --audit -- $(GO) test -timeout 30m $(TESTFLAGS) ./...

.PHONY: race
race: setup devcluster ## Run all tests under the race detector (needs a C compiler)
	@CGO_ENABLED=1 $(BIN)/devcluster run --audit -- $(GO) test -race -timeout 45m $(TESTFLAGS) ./...

.PHONY: fuzz
fuzz: setup ## Feed every parser of foreign input with whatever, a minute each (FUZZTIME=10s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: build ## Measure Belay against a loop that only applies (minutes; BENCHFLAGS="--details")
	@$(GO) run ./bench fleet --apps 1000 --commits 50 --rounds 2 --drifts 20 --rest 15s $(BENCHFLAGS)

# Each fleet is written to BENCHFILE when it is done, and left out when it is there.
BENCHFILE ?= $(BIN)/bench.json
.PHONY: bench-full
bench-full: build ## The same with all sizes, layouts and kinds (hours; goes on where it was stopped; BENCHFILE=x.json)
	@$(GO) run ./bench fleet --json $(BENCHFILE) --resume --runs 3 --apps 100,1000,10000 $(BENCHFLAGS)
	@$(GO) run ./bench fleet --json $(BENCHFILE) --resume --runs 3 --apps 100,1000 --layout many $(BENCHFLAGS)
	@$(GO) run ./bench fleet --json $(BENCHFILE) --resume --runs 3 --apps 1000 --kind plain,helm,mix $(BENCHFLAGS)
	@$(GO) run ./bench fleet --json $(BENCHFILE) --resume --runs 1 --apps 10000 --layout many $(BENCHFLAGS)
	@$(GO) run ./bench plot --out $(BIN)/plots $(BENCHFILE)

.PHONY: soak
soak: build ## Let a fleet live for an hour, with crashes, and judge what grows (SOAKFLAGS="--for 10m")
	@$(GO) run ./bench soak --for 1h --apps 200 $(SOAKFLAGS)

.PHONY: bench-ledger
bench-ledger: ## Measure the ledger with a hundred thousand events (minutes; BELAY_BENCH_EVENTS=10000)
	@$(GO) test ./internal/ledger/... -run '^$$' -bench . -benchtime 1x -timeout 60m

.PHONY: image
image: ## Write the container image bin/belay-image.tar (Debian's tools, or BASE=DIR)
	@deploy/image/build.sh bin/belay-image.tar

.PHONY: image-check
image-check: ## Run what is in the image in a chroot (Linux, as root)
	@deploy/image/check.sh bin/belay-image.tar

.PHONY: setup
setup:
	@scripts/setup.sh

.PHONY: generate
generate: ## Write generated files anew: schemas, reference pages
	@$(GO) generate ./...

.PHONY: lint
lint: $(BIN)/golangci-lint-$(LINT_VERSION) ## Check style, vet, generated files and cross-compilation
	@$(BIN)/golangci-lint-$(LINT_VERSION) run ./...
	@scripts/generated.sh
	@for t in linux/amd64 linux/arm64 darwin/arm64; do \
		echo "build $$t"; GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build -o /dev/null ./cmd/belay || exit 1; done

$(BIN)/golangci-lint-$(LINT_VERSION):
	@echo "installing golangci-lint $(LINT_VERSION) (a few minutes, once)"
	@GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(BIN)/golangci-lint $@

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN)
