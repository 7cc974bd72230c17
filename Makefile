# Commands for working on Procession. `make` lists them.
#
# A machine needs only cargo and Python: each target installs its tools into .venv. The stamp files in .venv record
# what is up to date: the tools (locks/dev.txt) and the installed extension (the sources).

PYTHON ?= python3
SHARED ?= ../shared
VENV   := .venv
BIN    := $(VENV)/bin

SHELL         := bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# With this variable each of the thousands of interpreters that the tests start would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

# pyproject.toml names a backend of its own, which calls maturin (tools/backend).
export MATURIN_NO_MISSING_BUILD_BACKEND_WARNING := 1

# Versions and hashes of all that is installed stand in locks/ (`make locks`).
LOCKED := --quiet --disable-pip-version-check --require-hashes

# Of pyroma's ten points: two are for addresses that the project has not got yet (docs/releasing.md).
PYROMA := 8

RUST_SOURCES   := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock .cargo/config.toml
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi')
WHEELS         := target/wheels

# A program that a shell starts in the background ignores Ctrl-C, and so do its children. The tests send Ctrl-C.
INTERRUPTIBLE := $(shell env --default-signal=INT true 2>/dev/null && echo env --default-signal=INT)

# Most tests wait more than they compute: three workers for two CPUs.
CPUS    := $(shell nproc)
WORKERS ?= $(shell echo $$((2 * $(CPUS))))

PYTEST = $(INTERRUPTIBLE) $(BIN)/python -m pytest tests

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- tools and the build ----------------------------------------------------------------------------------------------

.PHONY: rust-platform
rust-platform:
	@[ "$$(uname -s)" = Linux ] \
	  || { echo "Procession runs on Linux only (5.11 or later); this is $$(uname -s)." >&2; exit 1; }
	@command -v cargo >/dev/null \
	  || { echo "cargo is missing: building Procession needs Rust 1.88 or later (https://rustup.rs)." >&2; exit 1; }

.PHONY: platform
platform: rust-platform
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "'$(PYTHON)' is not Python 3.11 or later. Name one, for example  make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }

# If the interpreter of .venv is missing or too old, .venv is made again.
$(VENV)/.stamp-tools: locks/dev.txt | platform
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install $(LOCKED) -r locks/dev.txt
	@touch $@

# No features: those of pyproject.toml are for the wheels that users install (Python stacks), and take a minute more.
$(VENV)/.stamp-build: $(VENV)/.stamp-tools pyproject.toml $(RUST_SOURCES) $(PYTHON_SOURCES) | platform
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --features "" --quiet
	@# as pip does when it installs a package; otherwise each child may compile the modules again
	@$(BIN)/python -m compileall -q python/procession
	@touch $@

.PHONY: build
build: $(VENV)/.stamp-build ## Compile the core and install it into .venv

# --- to try it --------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: build ## Count the words of the standard library with many processes, and again while one process is killed
	$(BIN)/python examples/token_census.py --start-method all
	@echo
	$(BIN)/python examples/token_census.py --limit 600 --kill-one

.PHONY: demo-rust
demo-rust: | rust-platform ## Count the words of Rust's standard library with a pool in Rust, one worker of which is killed (needs only cargo)
	cargo run --quiet --release --package procession --example census -- $(DEMO)

.PHONY: demo-cluster
demo-cluster: build ## Count the words over a cluster of two nodes on this machine, one of which is killed
	$(BIN)/python examples/cluster_census.py

# One by one: a package that cannot be installed on this machine is missing in the table, and a message says so.
$(VENV)/.stamp-peers: requirements-bench.txt $(VENV)/.stamp-tools
	while read -r peer; do $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$peer" \
	  || echo "NOT INSTALLED: $$peer"; done < requirements-bench.txt
	@touch $@

.PHONY: bench
bench: build $(VENV)/.stamp-peers ## Compare Procession with multiprocessing, others and the machine's limits, in 15 minutes (BENCH='--quick --check')
	cd benchmarks/native && cargo build --quiet --release
	$(BIN)/python benchmarks/run.py $(BENCH)

.PHONY: bench-growth
bench-growth: build ## Measure how costs grow with tasks, processes, objects, bytes and members (BENCH='--line tasks --check')
	$(BIN)/python benchmarks/growth.py $(BENCH)

.PHONY: bench-idle
bench-idle: build ## Measure the memory of idle processes, and the CPU time of waiting ones
	$(BIN)/python benchmarks/idle.py $(BENCH)

# Ray is big, and has an environment of its own. Where it cannot be installed, the table says that it is missing.
.venv-ray/.stamp: | platform
	$(PYTHON) -m venv --clear .venv-ray
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check ray numpy || rm -rf .venv-ray
	@mkdir -p .venv-ray && touch $@

.PHONY: bench-cluster
bench-cluster: build .venv-ray/.stamp ## Compare a cluster of two nodes with Dask and Ray, in some minutes (BENCH='--rounds 5 --check')
	$(BIN)/python benchmarks/cluster.py $(BENCH)

.PHONY: docs
docs: build .venv-docs/.stamp ## Build the documentation as a site in target/site, with the API reference
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	@! grep -rlE '<script[^>]+src="?https?:' target/site || { echo "these pages need scripts of other hosts"; exit 1; }
	@test -s target/site/search/search_index.js # by which pages that are opened from disk can be searched
	@echo "target/site/index.html"

.venv-docs/.stamp: locks/docs.txt | platform
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install $(LOCKED) -r locks/docs.txt
	@touch $@

.PHONY: pictures
pictures: build ## Make the pictures of docs/inside.md from a real run (the one of the page needs chromium)
	$(BIN)/python tools/pictures.py
	$(BIN)/python tools/picture_of_top.py

.PHONY: bench-rust
bench-rust: build ## Compare the Rust crate with ipc-channel and procspawn (BENCH='--quick --check')
	cd benchmarks/rust && cargo build --quiet --release
	benchmarks/rust/target/release/procession-bench $(BENCH)

# Tests wait with deadlines, and the machine may be busy. So a command that fails is run once more, with a message.
twice = $(1) || { echo "ONCE MORE: $(subst ",,$(1))"; $(1); }

# --- to change it -----------------------------------------------------------------------------------------------------

.PHONY: test
test: build cargo-test crash loom ## Run all tests, on every Python that is found
	$(INTERRUPTIBLE) $(BIN)/python tools/other_pythons.py --wheels $(WHEELS) --maturin $(BIN)/maturin --workers $(WORKERS)
	$(PYTEST) -n $(WORKERS) --dist worksteal || { echo "ONCE MORE, the tests that failed above (all tests, if the run was interrupted): they wait with deadlines," \
	  "and the machine may have been busy"; $(PYTEST) --last-failed --last-failed-no-failures all; }

.PHONY: test-clusters
test-clusters: $(VENV)/.stamp-tools ## Run the tests of clusters on the other Pythons, where `make test` leaves them out
	$(INTERRUPTIBLE) $(BIN)/python tools/other_pythons.py --wheels $(WHEELS) --maturin $(BIN)/maturin --workers $(WORKERS) --clusters

# The features of the crate `procession` that users may switch on. All other commands compile it without them.
RUST_FEATURES = procession/futures,procession/tracing,procession/bytes,procession/ndarray,procession/arrow,procession/num-bigint,procession/half

.PHONY: cargo-test
cargo-test: | platform ## Run the Rust tests
	$(call twice,$(INTERRUPTIBLE) cargo test --quiet --workspace --exclude procession-python --features '$(RUST_FEATURES)')

# One test at a time: the tests count blocks in the family memory, which all tests of a program share.
.PHONY: crash
crash: | platform ## Kill a process at every crash point of every operation
	$(call twice,$(INTERRUPTIBLE) cargo test --quiet -p procession-core -p procession --features crash-points --test 'crash_*' -- --test-threads=1)

.PHONY: loom
loom: | platform ## Run the lock-free parts through every interleaving
	RUSTFLAGS='--cfg loom' cargo test --quiet -p procession-core --profile loom --test 'loom_*' --target-dir target/loom

# Each test in a process of its own, as many Rust projects run them. `make cargo-test` runs the tests of a file in one process.
.PHONY: nextest
nextest: | platform ## Run the Rust tests with cargo-nextest, if it is installed
	@if cargo nextest --version >/dev/null 2>&1; \
	then $(INTERRUPTIBLE) cargo nextest run --workspace --exclude procession-python --features '$(RUST_FEATURES)' --retries 1 --cargo-quiet --status-level slow --final-status-level flaky; \
	else echo "nextest: SKIPPED, there is no cargo-nextest here"; fi

# `make aarch64-test ARM='--python queue sync'` runs folders of tests/ there.
.PHONY: aarch64-test
aarch64-test: $(VENV)/.stamp-tools ## Run tests of the core on aarch64 in an emulator, with pages of 4 KiB and 16 KiB (ARM='--pages 16k')
	$(BIN)/python tools/aarch64_test.py $(ARM)

# A nightly compiler with the sources of the standard library, which ThreadSanitizer must see compiled (`make tsan`).
NIGHTLY_SRC = $(wildcard $(shell rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

# The sanitizer has a thread of its own, so one test is left out: a forked child refuses to change the environment beside
# threads. It does not know that a mutex is taken over from a dead process (EOWNERDEAD of pthread_mutex_timedlock): hence no
# reports about mutexes. It sees the threads of one process; the processes of a family run the same code.
.PHONY: tsan
tsan: | platform ## Run Rust tests with ThreadSanitizer, if there is a nightly compiler
ifeq ($(NIGHTLY_SRC),)
	@echo "tsan: SKIPPED, there is no nightly Rust with sources (rustup toolchain install nightly -c rust-src)"
else
	RUSTFLAGS=-Zsanitizer=thread TSAN_OPTIONS='die_after_fork=0 report_mutex_bugs=0 halt_on_error=1' \
	  $(INTERRUPTIBLE) cargo +nightly test --quiet -Zbuild-std --target $(HOST) --target-dir target/tsan -p procession-core -p procession \
	  --test queue_peer --test queue_pace --test waits --test family_stress --test labels --test pool --test pool_line \
	  --test observed_pool --test locks --test messages --test processes --test soundness --test connections -- \
	  --skip forkserver::a_process_has_its_name_and_its_environment
endif

# Miri cannot map a shared file, so it runs what needs none: frames, handshakes, polling, and the reading of symbols and /proc.
.PHONY: miri
miri: | platform ## Run the unit tests in Miri, if it is installed
	@if cargo +nightly miri --version >/dev/null 2>&1; \
	then MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --quiet --lib --target-dir target/miri --no-default-features \
	  -p procession-core -p procession -p procession-inspect -- $(addprefix --skip ,$(MIRI_CANNOT)); \
	else echo "miri: SKIPPED, there is no Miri here (rustup component add miri --toolchain nightly)"; fi

# They call what Miri has not got: fstat, signal sets, /proc of other processes.
MIRI_CANNOT = sys::descriptor sys::event sys::signal sys::procfs the_exit_code_of_a_zombie

# For a look after each change: the profile `quick` of Cargo.toml compiles only what was changed and links without LTO.
# The stamp goes, as what is installed then is not what `make build` makes.
AREA   ?= queue
METHOD ?= fork

.PHONY: quick
quick: $(VENV)/.stamp-tools ## After a change: build fast, and run the tests of some folders under one start method (AREA='queue sync' METHOD=spawn)
	@rm -f $(VENV)/.stamp-build
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --profile quick --features "" --quiet
	$(INTERRUPTIBLE) $(BIN)/python -m pytest $(addprefix tests/,$(AREA)) --start-method $(METHOD) -m 'not slow' -q -n $(WORKERS) --dist worksteal

.PHONY: pytest
pytest: build ## Run the Python tests on .venv's Python alone (ARGS='-k queue')
	$(PYTEST) $(ARGS)

.PHONY: wheel-test
wheel-test: $(VENV)/.stamp-tools ## Install the wheel into an empty environment of every Python that is found, and use it
	$(BIN)/python tools/wheel_test.py --wheels target/wheel-test --maturin $(BIN)/maturin

# Needs no Rust, so that it can be built on each system.
.PHONY: plain-wheel
plain-wheel: ## Build the wheel without the extension, for macOS, Windows and others, and use it in an empty environment
	$(PYTHON) tools/build_plain_wheel.py --out target/plain-wheel
	$(PYTHON) tools/wheel_test.py --use 'target/plain-wheel/*.whl'

.venv-release/.stamp: locks/release.txt | platform
	$(PYTHON) -m venv --clear .venv-release
	.venv-release/bin/python -m pip install $(LOCKED) -r locks/release.txt
	@touch $@

.PHONY: wheels
wheels: .venv-release/.stamp ## Build the wheels of a release for all systems and processors, with zig (WHEELS_FOR='--only x86_64')
	.venv-release/bin/python tools/build_wheels.py --out target/release-wheels $(WHEELS_FOR)
	.venv-release/bin/python tools/build_plain_wheel.py --out target/release-wheels
	.venv-release/bin/python -m twine check --strict target/release-wheels/*.whl
	@# W004: PyInstaller wants this name of its hook
	.venv-release/bin/check-wheel-contents --ignore W004 target/release-wheels/*.whl

.PHONY: sdist
sdist: .venv-release/.stamp ## Make the source distribution, and check that it is complete and well described
	.venv-release/bin/python tools/check_sdist.py --out target/sdist
	.venv-release/bin/python -m twine check --strict target/sdist/*.tar.gz
	.venv-release/bin/pyroma --min $(PYROMA) target/sdist/*.tar.gz

.PHONY: sdist-test
sdist-test: .venv-release/.stamp ## Build a wheel from the source distribution as `pip install` does, and use it in an empty environment
	.venv-release/bin/python tools/check_sdist.py --out target/sdist-test --build

.PHONY: dist
dist: wheels sdist ## Build all files of a release into target/dist, with their checksums
	rm -rf target/dist && mkdir -p target/dist
	cp target/release-wheels/*.whl target/sdist/*.tar.gz target/dist
	cp crates/procession-python/sbom.cdx.json target/dist/procession.cdx.json
	cd target/dist && sha256sum * > SHA256SUMS
	@ls -l target/dist

.PHONY: locks
locks: .venv-release/.stamp ## Write locks/ anew after a change of requirements-*.txt (LOCKS=--upgrade)
	.venv-release/bin/python tools/lock.py $(LOCKS)

.PHONY: sbom
sbom: | platform ## Write the list of all parts of a wheel anew, after a change of Cargo.lock or of the version
	$(PYTHON) tools/sbom.py

# The database of advisories is fetched from a public repository. Where that cannot be, all but the advisories are checked.
.PHONY: deny
deny: | rust-platform ## Check licences, sources and known weaknesses of all crates with cargo-deny, if it is installed
	@if ! cargo deny --version >/dev/null 2>&1; then echo "deny: SKIPPED, there is no cargo-deny here (cargo install cargo-deny)"; \
	else cargo deny --log-level error check bans licenses sources; \
	  if timeout 60 cargo deny --log-level off fetch db; then cargo deny --offline --log-level error check advisories; \
	  else echo "deny: advisories SKIPPED, their database cannot be fetched here"; fi; fi

# `bash .ci/run` is to be run before.
.PHONY: release-check
release-check: $(VENV)/.stamp-tools ## Check that the tree is ready for a release: all committed, one version, a dated section of CHANGELOG.md, no such tag
	$(BIN)/python tools/check_package.py
	$(BIN)/python tools/check_crates.py
	$(BIN)/python tools/check_dependencies.py
	$(BIN)/python tools/sbom.py --check
	$(BIN)/python tools/release.py --check

.PHONY: release
release: release-check ## Tag a release. Nothing is pushed
	$(BIN)/python tools/release.py

.venv-clients/.stamp: locks/clients.txt | platform
	$(PYTHON) -m venv --clear .venv-clients
	.venv-clients/bin/python -m pip install $(LOCKED) -r locks/clients.txt
	@touch $@

.PHONY: clients
clients: .venv-clients/.stamp $(VENV)/.stamp-tools ## Run libraries that use multiprocessing with Procession (CLIENTS='--job scipy')
	$(BIN)/maturin build --release --quiet --out target/clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/clients/*.whl
	$(INTERRUPTIBLE) .venv-clients/bin/python tests/clients/run.py $(CLIENTS)
ifeq ($(CLIENTS),)
	$(INTERRUPTIBLE) .venv-clients/bin/python tests/clients/joblib_tests.py
endif

.venv-frozen/.stamp: locks/frozen.txt | platform
	$(PYTHON) -m venv --clear .venv-frozen
	.venv-frozen/bin/python -m pip install $(LOCKED) -r locks/frozen.txt
	@touch $@

.PHONY: frozen
frozen: .venv-frozen/.stamp $(VENV)/.stamp-tools ## Make executables of a program, and run them (FROZEN='--with cx_Freeze', if it is installed)
	$(BIN)/maturin build --release --quiet --out target/frozen
	.venv-frozen/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/frozen/*.whl
	$(INTERRUPTIBLE) .venv-frozen/bin/python tests/frozen/run.py $(FROZEN)

.PHONY: soak
soak: build ## Kill producers and consumers of a queue for a minute, and check every message (SECONDS=60)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak/soak_queue.py --seconds $(or $(SECONDS),60)

.PHONY: soak-processes
soak-processes: build ## Start 10 000 processes one after the other and 300 at once, and measure what they leave behind (COUNT=10000)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak/soak_processes.py --count $(or $(COUNT),10000)

.PHONY: soak-pool
soak-pool: build ## Kill workers of a pool for ten minutes, and check every task (SECONDS=600)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak/soak_pool.py --seconds $(or $(SECONDS),600) --tasks 1000000

.PHONY: soak-cluster
soak-cluster: build ## Kill and stop nodes of a cluster for ten minutes, and check every task (SECONDS=600)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak/soak_cluster.py --seconds $(or $(SECONDS),600)

.PHONY: soak-cluster-queue
soak-cluster-queue: build ## Kill producers, consumers and nodes of a cluster's queue for five minutes, and check every message (SECONDS=300)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak/soak_cluster_queue.py --seconds $(or $(SECONDS),300)

.PHONY: soak-cluster-locks
soak-cluster-locks: build ## Kill processes and nodes that use locks, conditions and barriers of a cluster for two minutes (SECONDS=120)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak/soak_cluster_locks.py --seconds $(or $(SECONDS),120)

.PHONY: soak-hostile
soak-hostile: build ## Kill, stop and restrict members of a family for two minutes, and check messages, tasks and locks (SECONDS=120)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak/soak_hostile.py --seconds $(or $(SECONDS),120)

.PHONY: lint
lint: build ## Check format, lints, types, the order of imports and house rules
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets --features '$(RUST_FEATURES)' -- -D warnings
	cargo clippy --quiet --workspace --all-targets --no-default-features --features crash-points -- -D warnings
	$(MAKE) --no-print-directory msrv
	cargo test --quiet -p procession --test mistakes -- --ignored --nocapture
	$(BIN)/python tools/check_public.py
	$(BIN)/python tools/check_crates.py
	$(BIN)/python tools/check_package.py
	$(BIN)/python tools/check_dependencies.py
	$(BIN)/python tools/sbom.py --check
	$(BIN)/python tools/public_api.py
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps --workspace --exclude procession-python --features '$(RUST_FEATURES)'
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/python tools/check_types.py
	$(BIN)/python -m mypy.stubtest procession --concise --allowlist tools/stubtest_allowed.txt
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python tools/check_house.py
	$(BIN)/python tools/check_arrows.py

# With each crate that comes before another one in its place: cargo compiles what it would upload.
.PHONY: publish-check
publish-check: deny | platform ## Make the packages of all crates and compile them, as `cargo publish` does before it uploads them
	cargo publish --quiet --workspace --dry-run $(if $(shell git status --porcelain 2>/dev/null),--allow-dirty)

.PHONY: public-api
public-api: $(VENV)/.stamp-tools ## Compare the crate's public names with those in a file, as `make lint` does (API='--install', API='--write')
	$(BIN)/python tools/public_api.py $(API)

# Checks the rust-version of Cargo.toml with that compiler, if it is installed. (clippy checks it in any case.)
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
.PHONY: msrv
msrv: | platform ## Compile with the oldest supported Rust
	@if cargo +$(MSRV) --version >/dev/null 2>&1; \
	then cargo +$(MSRV) check --quiet --workspace --exclude procession-python --target-dir target/msrv; \
	else echo "msrv: SKIPPED, there is no Rust $(MSRV) here (rustup toolchain install $(MSRV))"; fi

.PHONY: format
format: $(VENV)/.stamp-tools ## Format the sources
	cargo fmt --all
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# --- tests from outside this folder -----------------------------------------------------------------------------------

CONFORMANCE = $(INTERRUPTIBLE) $(BIN)/python tools/conformance.py --harness $(SHARED)/conformance/run.py

.PHONY: conformance
conformance: build ## Run CPython's tests of multiprocessing on every Python that is found; as many must pass as before (CONFORMANCE_OPTIONS='--version 3.13')
ifeq ($(wildcard $(SHARED)/conformance/run.py),)
	@echo "conformance: SKIPPED, there is no $(SHARED)/conformance here"
else
	$(CONFORMANCE) $(CONFORMANCE_OPTIONS)
endif

.PHONY: conformance-quick
conformance-quick: build ## Run those of CPython's tests that must all pass
ifeq ($(wildcard $(SHARED)/conformance/run.py),)
	@echo "conformance: SKIPPED, there is no $(SHARED)/conformance here"
else
	$(CONFORMANCE) --quick
endif

.PHONY: pains
pains: build ## Run small programs that hang or lose work with other libraries
ifeq ($(wildcard $(SHARED)/pains/run.py),)
	@echo "pains: SKIPPED, there is no $(SHARED)/pains here"
else
	$(INTERRUPTIBLE) $(BIN)/python $(SHARED)/pains/run.py --python $(CURDIR)/$(BIN)/python
endif

# FAULTS='atexit_order odd_names' runs the named programs. FAULTS=all also runs those that are known to fail.
FAULTS = $(shell cat tools/faults_that_hold.txt)

.PHONY: faults
faults: build ## Run small programs that once failed with Procession (FAULTS='odd_names atexit_order', or all)
ifeq ($(wildcard $(SHARED)/faults/run.py),)
	@echo "faults: SKIPPED, there is no $(SHARED)/faults here"
else
	$(call twice,$(INTERRUPTIBLE) $(BIN)/python $(SHARED)/faults/run.py --python $(CURDIR)/$(BIN)/python $(filter-out all,$(FAULTS)))
endif

.PHONY: clean
clean: ## Remove everything that was built or installed here
	rm -rf target benchmarks/rust/target benchmarks/native/target $(VENV) .venv-* .pytest_cache .ruff_cache .mypy_cache .hypothesis benchmarks/results dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f python/procession/*.so
