# `make help` lists what there is to do.

SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The tools are programs of a Go module of their own, which pins them. Go builds each when it is first
# needed and keeps it in its build cache.
TOOL := go tool -modfile=hack/tools/go.mod
CONTROLLER_GEN := $(TOOL) controller-gen
LINT := $(TOOL) golangci-lint-kube-api-linter
BUF := $(TOOL) buf

# The image that config/default names, and the one that dist/install.yaml is to name instead.
DEFAULT_IMAGE := localhost/workerpool/manager:dev
IMAGE ?= $(DEFAULT_IMAGE)

# E2E=0 leaves the end-to-end tests, which need a cluster, out of `make test`.
E2E ?= 1

##@ Help

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-zA-Z0-9_-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Code

.PHONY: generate
generate: generate-go generate-manifests generate-proto generate-docs ## Generate all that is generated: deep copies, CRDs, RBAC, the wire, the table of metrics.

.PHONY: generate-go
generate-go:
	$(CONTROLLER_GEN) object paths=./api/...

.PHONY: generate-manifests
generate-manifests:
	$(CONTROLLER_GEN) crd:generateEmbeddedObjectMeta=true paths=./api/... output:crd:dir=config/crd/bases
	go run ./hack/crdtrim config/crd/bases/*.yaml
	$(CONTROLLER_GEN) rbac:roleName=workerpool-manager paths='{./controllers/...,./internal/...,./cmd/...}' output:rbac:dir=config/rbac

.PHONY: generate-proto
generate-proto:
	$(BUF) generate

.PHONY: generate-docs
generate-docs:
	go run ./hack/metricdocs docs/metrics.md

.PHONY: fmt
fmt: ## Format Go and protobuf files.
	$(LINT) fmt ./...
	$(BUF) format -w

.PHONY: lint
lint: ## Lint Go, the API's types and protobuf files.
	$(LINT) run ./...
	$(BUF) lint

.PHONY: verify
verify: generate ## Generate, then fail if that changed a file, or if a file is not committed or a go.mod not tidy.
	go mod tidy -diff
	cd hack/tools && go mod tidy -diff
	cd hack/cluster/image && go mod tidy -diff
	cd test/bench && go mod tidy -diff
	@changes=$$(git status --porcelain --untracked-files=all); \
	if [ -n "$$changes" ]; then \
	  printf '%s\n' "$$changes"; \
	  git --no-pager diff; \
	  echo 'verify: these files are not as committed: run "make generate" and commit.' >&2; \
	  exit 1; \
	fi

##@ Tests

.PHONY: test
test: test-unit test-simulation test-controls test-integration test-scale test-faults test-process test-e2e test-chaos ## Run all tests; E2E=0 leaves out those that need a cluster.

.PHONY: test-unit
test-unit: ## Run the unit tests, with the race detector.
	go test -race -shuffle=on ./api/... ./pkg/... $$(go list ./internal/... | grep -v /internal/admin) ./cmd/... ./hack/... ./test/simulation/... ./test/chaos/...
	cd hack/cluster/image && go test -race ./...
	cd test/bench && go test -race ./...

# Without the race detector, which makes it ten times as slow, and finds nothing where nothing runs at once.
.PHONY: test-simulation
test-simulation: ## Run the operator's deciding code in 20,000 worlds that go wrong.
	go test -count=1 -timeout=30m ./test/simulation -run TestSimulation -sim.seeds=20000

.PHONY: test-controls
test-controls: ## Plant bugs, one rule after the other, and want the simulation to find each.
	go run ./test/simulation/controls

.PHONY: test-integration
test-integration: ## Run the tests that need a real API server and etcd: of the controllers, the API and the ports.
	KUBEBUILDER_ASSETS=$$($(MAKE) -s envtest-assets); export KUBEBUILDER_ASSETS; \
	go test -race -shuffle=on ./controllers/... ./internal/admin/... ./test/crd/... ./test/invalid/...

# Without the race detector: 500 agents, each with its TLS session, would take minutes with it.
.PHONY: test-scale
test-scale: ## Run the operator with 500 simulated workers, against a real API server and etcd.
	KUBEBUILDER_ASSETS=$$($(MAKE) -s envtest-assets); export KUBEBUILDER_ASSETS; \
	KWOK=$$($(MAKE) -s kwok); export KWOK; \
	go test -count=1 -timeout=15m ./test/scale/...

.PHONY: test-faults
test-faults: ## Run the operator against an API server that fails at each kind of write; FAULTS has flags for go test.
	KUBEBUILDER_ASSETS=$$($(MAKE) -s envtest-assets); export KUBEBUILDER_ASSETS; \
	KWOK=$$($(MAKE) -s kwok); export KWOK; \
	go test -count=1 -timeout=15m -parallel=1000 ./test/faults/... $(FAULTS)

# Without the race detector: the programs are built apart, and 10,000 Jobs are made.
.PHONY: test-process
test-process: ## Run operators and agents as processes, and have parts of them fail; also with those of the version before.
	KUBEBUILDER_ASSETS=$$($(MAKE) -s envtest-assets); export KUBEBUILDER_ASSETS; \
	PREVIOUS=$$($(MAKE) -s previous); export PREVIOUS; \
	go test -count=1 -timeout=15m -parallel=4 ./test/process/...

.PHONY: test-e2e
test-e2e: ## Run the end-to-end tests on a real cluster, which is started if need be.
ifeq ($(E2E),0)
	@echo 'test-e2e: left out, because E2E=0.'
else
	@$(MAKE) cluster-up || { echo 'test-e2e: no cluster can be started here; E2E=0 leaves these tests out.' >&2; exit 1; }
	@$(MAKE) deploy
	@env=$$($(MAKE) -s cluster-env); eval "$$env"; set -x; \
	go test -count=1 -timeout=30m -parallel=6 -skip='^TestNodes' ./test/e2e/...
endif

# The operator is deployed before there is a second node, so its replicas begin on the first.
.PHONY: test-nodes
test-nodes: ## Take power and network from a second node under Jobs, and drain it; ten minutes; needs a cluster built from source.
	@$(MAKE) cluster-up NODES=1
	@$(MAKE) deploy
	@$(MAKE) cluster-up NODES=2
	@env=$$($(MAKE) -s cluster-env); eval "$$env"; set -x; failed=0; \
	go test -count=1 -timeout=30m -v -run='^TestNodes' ./test/e2e/ || failed=1; \
	$(MAKE) cluster-up NODES=1; exit $$failed

# What the cluster's own daemons and the network can stand is for `chaos`; three minutes of it are part of the tests.
.PHONY: test-chaos
test-chaos: ## Run `chaos` for three minutes, with each kind of fault at least once; needs a cluster built from source, and root.
ifeq ($(E2E),0)
	@echo 'test-chaos: left out, because E2E=0.'
else
	@if [ "$$(hack/cluster/cluster.sh provider)" = source ]; then \
	  $(MAKE) chaos MINUTES=3 CHAOS_FLAGS='-each=1 -faults=15'; \
	else \
	  echo 'test-chaos: left out, because it breaks the cluster itself, and so takes only one built from source.'; \
	fi
endif

MINUTES ?= 10
SEED ?= 0

.PHONY: chaos
chaos: ## Break operator, workers, network, API server, etcd, kubelet and node under load, and check every promise; SEED=, MINUTES=10; writes build/chaos.json.
	@$(MAKE) cluster-up
	@$(MAKE) deploy
	@mkdir -p build/chaos
	CGO_ENABLED=0 go build -trimpath -o build/chaos/worker ./test/chaos/worker
	go build -o build/chaos/chaos ./test/chaos
	@env=$$($(MAKE) -s cluster-env); eval "$$env"; set -x; \
	build/chaos/chaos -seed=$(SEED) -minutes=$(MINUTES) $(CHAOS_FLAGS)

ATTACK ?= 5

# The image of the tenant that attacks has a shell and the program that its workers run.
.PHONY: test-isolation
test-isolation: ## Have one tenant attack for ATTACK=5 minutes while another runs 1,000 Jobs; needs a cluster built from source; writes build/isolation.json.
	@$(MAKE) cluster-up
	@$(MAKE) deploy
	@mkdir -p build/isolation/image/bin
	CGO_ENABLED=0 go build -trimpath -o build/isolation/image/bin/attacker ./test/isolation/attacker
	go build -o build/isolation/isolation ./test/isolation
	@cp -L "$$(command -v busybox)" build/isolation/image/bin/busybox
	@cd build/isolation/image/bin && ./busybox --list | grep -vx busybox | xargs -n 1 ln -sf busybox
	@env=$$($(MAKE) -s cluster-env); eval "$$env"; set -x; \
	image=$$(hack/cluster/cluster.sh load-folder localhost/workerpool/attacker:1 build/isolation/image); \
	build/isolation/isolation -image="$$image" -minutes=$(ATTACK) $(ISOLATION_FLAGS)

FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME=30s.
	@FUZZTIME='$(FUZZTIME)' hack/fuzz.sh

VULNDB ?=

# Without its database the tool says nothing about the code, so that is a failure too. Its exit code is 3 if it has found something.
.PHONY: vuln
vuln: ## Look for known vulnerabilities in the code that the programs reach; VULNDB=file:///... names a copy of the database.
	@$(TOOL) govulncheck $(if $(VULNDB),-db='$(VULNDB)') ./... || { \
	  code=$$?; \
	  [ $$code = 3 ] || echo 'vuln: nothing is known: govulncheck has not finished. It needs its database; VULNDB=file:///... names a copy.' >&2; \
	  exit $$code; \
	}

.PHONY: soak
soak: ## Run what takes longer than a test should: more seeds, fuzzing, ten times the Jobs, known vulnerabilities; needs a cluster.
	go test -count=1 -timeout=60m ./internal/engine -run TestSimulation -sim.seeds=30000
	go test -count=1 -timeout=60m ./test/simulation -run TestSimulation -sim.seeds=200000
	FUZZTOTAL=3600 $(MAKE) fuzz
	@$(MAKE) test-isolation
	@$(MAKE) test-nodes
	KUBEBUILDER_ASSETS=$$($(MAKE) -s envtest-assets); export KUBEBUILDER_ASSETS; \
	go test -count=1 -timeout=60m ./test/crd -run TestWhatIsTakenCanBeDecoded -crd.objects=100000
	@$(MAKE) test-faults FAULTS='-timeout=60m -faults.all'
	@env=$$($(MAKE) -s cluster-env); eval "$$env"; set -x; \
	SOAK=1 go test -count=1 -timeout=60m ./test/e2e/ -run TestManyJobs
	SOAK=1 $(MAKE) test-process
	@$(MAKE) vuln

.PHONY: bench-lib
bench-lib: ## Compare the library with its peers: prints tables, writes build/bench-lib.json.
	@mkdir -p build
	cd test/bench && go run ./lib -out ../../build/bench-lib.json

BENCH ?=

.PHONY: bench
bench: ## Measure the operator on a real cluster, each figure beside what it is compared with; BENCH has flags. Nothing else should run meanwhile.
	@$(MAKE) cluster-up
	@$(MAKE) deploy
	@mkdir -p build/bench
	@env=$$($(MAKE) -s cluster-env); eval "$$env"; set -x; \
	cd test/bench && go run ./cluster -out ../../build/bench.json -plots ../../build/bench $(BENCH)

.PHONY: bench-check
bench-check: ## Measure as bench does, and fail if a ratio is over 25 % worse than in docs/performance/bench.json.
	@$(MAKE) bench BENCH='-compare ../../docs/performance/bench.json'

.PHONY: bench-scale
bench-scale: ## Measure what takes long: the memory of 100,000 queued Jobs, the takeover with as many, and 2,000 workers.
	@$(MAKE) bench BENCH='-scale -out ../../build/bench-scale.json'

##@ Build

.PHONY: build
build: ## Build bin/manager and bin/agent, for GOOS and GOARCH if set.
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/ ./cmd/manager ./cmd/agent
	@echo "bin/manager and bin/agent are for $$(go env GOOS)/$$(go env GOARCH)."

.PHONY: previous
previous: ## Build the operator and the agent of the version before, as hack/previous/version names it, and print their folder.
	@hack/previous/build.sh

.PHONY: dist
dist: ## Write dist/install.yaml: all of the operator in one file; IMAGE=... sets its image.
	@mkdir -p dist
	@kubectl=$$(command -v kubectl || echo "$$($(MAKE) -s envtest-assets)/kubectl"); \
	"$$kubectl" kustomize config/default | sed 's|$(DEFAULT_IMAGE)|$(IMAGE)|' > dist/install.yaml
	@echo 'dist/install.yaml is written: kubectl apply -f dist/install.yaml'

.PHONY: demo
demo: ## Start a cluster, install the operator and run a hundred Jobs.
	@hack/demo.sh

.PHONY: clean
clean: ## Remove what build, dist and the benchmarks made. The cluster stays: see cluster-down.
	rm -rf bin build dist

include hack/cluster.mk
