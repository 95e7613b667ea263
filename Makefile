# Every target installs what it needs; only make and Python 3.11 or newer have to exist.
#
#   make demo           two registries, an image and one sync, on this machine
#   make test           the tests            ARGS='-k signing -x' is passed to pytest
#   make test-long      tests of minutes: every role at every page, slow clients, floods, broken starts, upgrades, memory
#   make coverage       the tests, with their branch coverage and its floor
#   make test-console   pages of the console in Chromium, with pictures in build/screenshots
#   make test-faults    tests that kill, attack and starve real servers and registries; takes minutes
#   make test-sdks      the SWR SDKs for Python, and for Go, Java (with Maven) and Node.js if they are installed
#   make test-interop   crane, regctl, the OCI's conformance tests and other registries; needs Go
#   make test-operations  a cluster under load: a real Prometheus, a balancer, ten induced faults
#   make test-release   rehearse a release on a clone: build, install and run the demo
#   make fuzz           fuzz the API with requests generated from the OpenAPI document
#   make fuzz-parsers   fuzz every parser of untrusted input; Linux only
#   make faults         kills and errors at system calls, attacks, and a soak; KILLS=1000 MINUTES=60 for more
#   make check          ruff, mypy, import-linter
#   make bench          the benchmarks       ARGS are passed on
#   make bench-durable  those of the queue   ARGS are passed on
#   make bench-all      every figure that has a goal, within an hour; BEFORE=PYTHON has the version before installed
#   make lock           update requirements/*.txt from pyproject.toml
#   make release        check, tag and build VERSION=1.2.3; nothing is pushed
#   make clean          remove .venv and every cache

PYTHON ?= python3
ARGS ?=
KILLS ?= 100
MINUTES ?= 3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL_LOCKED := $(PIP) install --quiet --require-hashes -r
# pip compiles no editable package. Where PYTHONDONTWRITEBYTECODE is set, each command would compile it again.
INSTALL_TAGFERRY := $(PIP) install --quiet --no-deps --no-build-isolation -e . && \
	$(BIN)/python -m compileall -q src/tagferry

# Many tests wait more than they compute. The tests of a file run in one process, which has its own servers. Files are
# ordered by name: in the default order, by the number of tests, those with few long tests would run last, in one
# process.
IN_PARALLEL := $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
LONG_ONES := $(BIN)/pytest tests -m long --numprocesses 3 --dist loadscope

# The installation generates files of the console; it is repeated when their sources change.
CONSOLE := src/tagferry/web/console
BUILT_FROM := pyproject.toml hatch_build.py $(CONSOLE)/icons.txt $(wildcard $(CONSOLE)/locale/*.po \
	$(CONSOLE)/compiled_templates.py $(CONSOLE)/templates/*.html $(CONSOLE)/templates/*/*.html)

LOCK_VENV := build/lock-venv
COMPILE := $(LOCK_VENV)/bin/uv pip compile pyproject.toml - --extra postgres --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --quiet --custom-compile-command 'make lock'
# An editable install without build isolation needs the build requirements; hatchling also needs editables.
BUILD_REQUIREMENTS := import tomllib; \
	requires = tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]; \
	print(*requires, "editables", sep="\n")

.DEFAULT_GOAL := help
.PHONY: help demo test test-long coverage test-console test-faults test-sdks test-interop test-operations \
	test-release fuzz faults fuzz-parsers check bench bench-durable bench-all lock release clean

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

demo: $(VENV)/.runtime
	$(BIN)/tagferry demo $(ARGS)

test: $(VENV)/.dev
	$(IN_PARALLEL) $(ARGS)

test-long: $(VENV)/.dev
	$(LONG_ONES) $(ARGS)

# The floor is fail_under in pyproject.toml.
coverage: $(VENV)/.dev
	$(IN_PARALLEL) --cov --cov-report= --cov-fail-under=0 $(ARGS)
	$(LONG_ONES) --cov --cov-append --cov-report=term $(ARGS)

test-console: $(VENV)/.console
	$(BIN)/pytest tests/browser -m browser $(ARGS)

test-faults: $(VENV)/.dev
	$(IN_PARALLEL) -m faults tests/faults $(ARGS)

test-sdks: $(VENV)/.dev
	$(BIN)/pytest tests/sdk -m sdk $(ARGS)

test-interop: $(VENV)/.dev
	$(BIN)/pytest tests/interop tests/contract -m interop $(ARGS)

test-operations: $(VENV)/.dev
	$(BIN)/pytest tests/operations -m operations $(ARGS)

# A commit that has just been released has no unreleased changes, so one is added.
test-release: $(VENV)/.dev
	rm -rf build/rehearsal
	git clone --quiet --no-tags . build/rehearsal
	cd build/rehearsal && git checkout --quiet -B main && git config user.name rehearsal && \
		git config user.email rehearsal@example.com && \
		sed -i 's/^## \[Unreleased\]$$/&\n\n- A rehearsal./' CHANGELOG.md && \
		git commit --quiet --all --message "rehearse a release" && \
		$(abspath $(BIN))/python tools/release.py 999.0.0
	rm -rf build/rehearsal

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzzing $(ARGS)

fuzz-parsers: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzzing.parsers $(ARGS)

faults: $(VENV)/.dev
	$(BIN)/python -m tests.faults.calls every
	$(BIN)/python -m tests.faults.calls power
	$(BIN)/python -m tests.faults.calls random --kills $(KILLS)
	$(BIN)/python -m tests.faults.attacks
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

bench-durable: $(VENV)/.dev
	$(BIN)/python -m bench.durable $(ARGS)

# The fast ones come first, so that what is wrong shows early.
bench-all: $(VENV)/.dev
	@test -n "$(BEFORE)" || { echo "name the Python of the version before: make bench-all BEFORE=../before/.venv/bin/python" >&2; exit 1; }
	$(BIN)/python -m bench.cost --against $(BEFORE) --only regions --out bench
	$(BIN)/python -m bench.interrupted
	$(BIN)/python -m bench.requests
	$(BIN)/python -m bench.lists --scale --out bench
	$(BIN)/python -m bench.lists --against $(BEFORE) --out bench
	$(BIN)/python -m bench
	$(BIN)/python -m bench.goals

lock:
	@$(require_python)
	rm -rf $(LOCK_VENV)
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip --disable-pip-version-check install --quiet uv
	mkdir -p requirements
	$(LOCK_VENV)/bin/python -c '$(BUILD_REQUIREMENTS)' | $(COMPILE) --extra otel --group test --group check $(ARGS) \
		--output-file requirements/dev.txt
	$(LOCK_VENV)/bin/python -c '$(BUILD_REQUIREMENTS)' | $(COMPILE) --constraint requirements/dev.txt \
		--no-annotate $(ARGS) --output-file requirements/runtime.txt
	$(LOCK_VENV)/bin/uv pip compile --group console --constraint requirements/dev.txt --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --quiet --custom-compile-command 'make lock' \
		$(ARGS) --output-file requirements/console.txt
	$(LOCK_VENV)/bin/uv pip compile --group fuzz --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --quiet --custom-compile-command 'make lock' $(ARGS) --output-file requirements/fuzz.txt
	rm -rf $(LOCK_VENV)

release: $(VENV)/.dev
	$(BIN)/python tools/release.py $(VERSION)

clean:
	rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/bin/python:
	@$(require_python)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt $(BUILT_FROM) | $(VENV)/bin/python
	$(INSTALL_LOCKED) requirements/runtime.txt
	$(INSTALL_TAGFERRY)
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(BUILT_FROM) | $(VENV)/bin/python
	$(INSTALL_LOCKED) requirements/dev.txt
	$(INSTALL_TAGFERRY)
	@touch $@

$(VENV)/.fuzz: requirements/fuzz.txt | $(VENV)/.dev
	$(INSTALL_LOCKED) requirements/fuzz.txt
	@touch $@

$(VENV)/.console: requirements/console.txt | $(VENV)/.dev
	$(INSTALL_LOCKED) requirements/console.txt
	@touch $@

define require_python
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "tagferry needs Python 3.11 or newer; '$(PYTHON)' is `$(PYTHON) --version 2>&1`." >&2; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; \
	}; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' has no venv module; install its package: python3-venv on Debian and Ubuntu." >&2; \
		exit 1; \
	}
endef
