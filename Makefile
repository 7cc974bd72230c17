# Procession's chores. `make` explains them.
#
# On a machine with nothing but cargo and Python every target sets up what it needs in .venv by itself. The stamps in
# .venv say what is up to date: the tools (requirements-dev.txt) and the installed extension (the sources).

PYTHON ?= python3
SHARED ?= ../shared
VENV   := .venv
BIN    := $(VENV)/bin

SHELL         := bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

RUST_SOURCES   := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock .cargo/config.toml
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi')
WHEELS         := target/wheels

# What a shell starts in the background ignores Ctrl-C, and so does all that it starts in turn. The tests send Ctrl-C.
INTERRUPTIBLE := $(shell env --default-signal=INT true 2>/dev/null && echo env --default-signal=INT)

PYTEST = $(INTERRUPTIBLE) $(BIN)/python -m pytest tests

.PHONY: help
help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- what everything needs --------------------------------------------------------------------------------------------

.PHONY: platform
platform:
	@[ "$$(uname -s)" = Linux ] \
	  || { echo "Procession runs on Linux only (5.11 or later); this is $$(uname -s)." >&2; exit 1; }
	@command -v cargo >/dev/null \
	  || { echo "cargo is missing: building Procession needs Rust 1.88 or later (https://rustup.rs)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "'$(PYTHON)' is no Python 3.11 or later: name one, as in  make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }

# A virtual environment whose interpreter is gone or too old is made anew.
$(VENV)/.stamp-tools: requirements-dev.txt | platform
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(VENV)/.stamp-build: $(VENV)/.stamp-tools pyproject.toml $(RUST_SOURCES) $(PYTHON_SOURCES) | platform
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet
	@# as pip does when it installs a package: where nobody else writes bytecode, each child would compile it for itself
	@$(BIN)/python -m compileall -q python/procession
	@touch $@

.PHONY: build
build: $(VENV)/.stamp-build ## Compile the core and install it into .venv

# --- for whoever tries it ---------------------------------------------------------------------------------------------

.PHONY: demo
demo: build ## Count the words of the standard library with many processes, and with one of them killed
	$(BIN)/python examples/token_census.py --start-method all
	@echo
	$(BIN)/python examples/token_census.py --limit 600 --kill-one

# One by one: what cannot be installed on this machine is left out of the table, and it says so.
$(VENV)/.stamp-peers: requirements-bench.txt $(VENV)/.stamp-tools
	while read -r peer; do $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$peer" \
	  || echo "NOT INSTALLED: $$peer"; done < requirements-bench.txt
	@touch $@

.PHONY: bench
bench: build $(VENV)/.stamp-peers ## Measure Procession beside multiprocessing and others, in 10 minutes (BENCH='--quick --check')
	$(BIN)/python benchmarks/run.py $(BENCH)

.PHONY: docs
docs: build .venv-docs/.stamp ## Build the documentation as a site in target/site, with the API reference
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	@echo "target/site/index.html"

.venv-docs/.stamp: requirements-docs.txt | platform
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

.PHONY: bench-rust
bench-rust: | platform ## Measure the Rust crate beside ipc-channel and procspawn (BENCH='--quick --check')
	cd benchmarks/rust && cargo build --quiet --release
	benchmarks/rust/target/release/procession-bench $(BENCH)

# Tests wait with deadlines, and the machine may be busy: what failed once is run once more, aloud.
twice = $(1) || { echo "ONCE MORE: $(subst ",,$(1))"; $(1); }

# --- for whoever changes it -------------------------------------------------------------------------------------------

.PHONY: test
test: build cargo-test crash loom ## Run every test, on every Python that is found
	$(INTERRUPTIBLE) $(BIN)/python tools/other_pythons.py --wheels $(WHEELS) --maturin $(BIN)/maturin
	$(PYTEST) -n 2 --dist worksteal || { echo "ONCE MORE, what failed above (all of them, if the run was cut off): these tests wait with deadlines," \
	  "and the machine may have been busy"; $(PYTEST) --last-failed --last-failed-no-failures all; }

.PHONY: cargo-test
cargo-test: | platform ## Run the Rust tests
	$(call twice,cargo test --quiet --workspace --exclude procession-python)

# One test at a time: they count the blocks of the family memory that all tests of a program share.
.PHONY: crash
crash: | platform ## Kill a process at every crash point of every operation
	$(call twice,cargo test --quiet -p procession-core -p procession --features crash-points --test 'crash_*' -- --test-threads=1)

.PHONY: loom
loom: | platform ## Check the lock-free parts under every interleaving
	RUSTFLAGS='--cfg loom' cargo test --quiet -p procession-core --release --test 'loom_*' --target-dir target/loom

.PHONY: pytest
pytest: build ## Run the Python tests on .venv's Python alone (ARGS='-k queue')
	$(PYTEST) $(ARGS)

.PHONY: wheel-test
wheel-test: $(VENV)/.stamp-tools ## Install the wheel into an empty environment of each Python that is found, and use it
	$(BIN)/python tools/wheel_test.py --wheels target/wheel-test --maturin $(BIN)/maturin

.venv-clients/.stamp: requirements-clients.txt | platform
	$(PYTHON) -m venv --clear .venv-clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-clients.txt
	@touch $@

.PHONY: clients
clients: .venv-clients/.stamp $(VENV)/.stamp-tools ## Run libraries that know nothing of Procession with it (CLIENTS='--job scipy')
	$(BIN)/maturin build --release --quiet --out target/clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/clients/*.whl
	$(INTERRUPTIBLE) .venv-clients/bin/python tests/clients/run.py $(CLIENTS)

.venv-frozen/.stamp: requirements-frozen.txt | platform
	$(PYTHON) -m venv --clear .venv-frozen
	.venv-frozen/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-frozen.txt
	@touch $@

.PHONY: frozen
frozen: .venv-frozen/.stamp $(VENV)/.stamp-tools ## Make executables of a program, and run them (FROZEN='--with cx_Freeze', what is installed)
	$(BIN)/maturin build --release --quiet --out target/frozen
	.venv-frozen/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps target/frozen/*.whl
	$(INTERRUPTIBLE) .venv-frozen/bin/python tests/frozen/run.py $(FROZEN)

.PHONY: soak
soak: build ## Kill producers and consumers of a queue for a minute and account for every message (SECONDS=60)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak_queue.py --seconds $(or $(SECONDS),60)

.PHONY: soak-processes
soak-processes: build ## Start 10 000 processes one after the other and 300 at once, and measure what they leave (COUNT=10000)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak_processes.py --count $(or $(COUNT),10000)

.PHONY: soak-pool
soak-pool: build ## Kill workers of a pool for ten minutes and account for every task (SECONDS=600)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak_pool.py --seconds $(or $(SECONDS),600) --tasks 1000000

.PHONY: soak-hostile
soak-hostile: build ## Ill-treat members of a family for two minutes and account for messages, tasks and locks (SECONDS=120)
	$(INTERRUPTIBLE) $(BIN)/python tests/soak_hostile.py --seconds $(or $(SECONDS),120)

.PHONY: lint
lint: build ## Check format, lints, types, the order of imports and house rules
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo clippy --quiet --workspace --all-targets --features crash-points -- -D warnings
	$(MAKE) --no-print-directory msrv
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --no-deps --workspace --exclude procession-python
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/python -m mypy.stubtest procession --concise --allowlist tools/stubtest_allowed.txt
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python tools/check_house.py

# What Cargo.toml states, checked with that very compiler, where it is installed. (clippy looks at it in any case.)
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
.PHONY: msrv
msrv: | platform ## Compile with the oldest Rust that is promised
	@if cargo +$(MSRV) --version >/dev/null 2>&1; \
	then cargo +$(MSRV) check --quiet --workspace --exclude procession-python --target-dir target/msrv; \
	else echo "msrv: SKIPPED, there is no Rust $(MSRV) here (rustup toolchain install $(MSRV))"; fi

.PHONY: format
format: $(VENV)/.stamp-tools ## Format the sources
	cargo fmt --all
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# --- against others' tests, where they lie beside this folder ---------------------------------------------------------

CONFORMANCE = $(INTERRUPTIBLE) $(BIN)/python tools/conformance.py --harness $(SHARED)/conformance/run.py

.PHONY: conformance
conformance: build ## Run CPython's own tests of multiprocessing on every Python that is found, against a floor (CONFORMANCE_OPTIONS='--version 3.13')
ifeq ($(wildcard $(SHARED)/conformance/run.py),)
	@echo "conformance: SKIPPED, there is no $(SHARED)/conformance here"
else
	$(CONFORMANCE) $(CONFORMANCE_OPTIONS)
endif

.PHONY: conformance-quick
conformance-quick: build ## Of CPython's tests, only those that must all pass
ifeq ($(wildcard $(SHARED)/conformance/run.py),)
	@echo "conformance: SKIPPED, there is no $(SHARED)/conformance here"
else
	$(CONFORMANCE) --quick
endif

.PHONY: pains
pains: build ## Run the small programs with which users of process libraries lose work or hang
ifeq ($(wildcard $(SHARED)/pains/run.py),)
	@echo "pains: SKIPPED, there is no $(SHARED)/pains here"
else
	$(INTERRUPTIBLE) $(BIN)/python $(SHARED)/pains/run.py --python $(CURDIR)/$(BIN)/python
endif

# Names may be given: FAULTS='atexit_order odd_names'. FAULTS=all runs those as well that are known to fail.
FAULTS = $(shell cat tools/faults_that_hold.txt)

.PHONY: faults
faults: build ## Run the small programs of users that once went wrong with Procession (FAULTS='odd_names atexit_order' or all)
ifeq ($(wildcard $(SHARED)/faults/run.py),)
	@echo "faults: SKIPPED, there is no $(SHARED)/faults here"
else
	$(call twice,$(INTERRUPTIBLE) $(BIN)/python $(SHARED)/faults/run.py --python $(CURDIR)/$(BIN)/python $(filter-out all,$(FAULTS)))
endif

.PHONY: clean
clean: ## Remove all that was built or installed here
	rm -rf target benchmarks/rust/target $(VENV) .venv-* .pytest_cache .ruff_cache .mypy_cache .hypothesis benchmarks/results dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f python/procession/*.so
