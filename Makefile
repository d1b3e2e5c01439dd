# Everything runs from a clean clone with only Python >= 3.11 and make: each target does its own set-up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
HELM_VERSION := v4.3.1
STAMP := $(VENV)/.installed
PYTHONS := 3.11 3.12 3.13
TEST_ARGS ?=
TEST_WORKERS ?= 3
DEMO_ARGS ?=
SOAK_ARGS ?=
BENCH ?=
PEERS ?=
PEERS_VENV ?= .venv-peers
PEERS_STAMP := $(PEERS_VENV)/.installed

# Python keeps the bytecode of what it has read once, whatever the environment says: the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE =

# The first interpreter that is new enough and really runs (pyenv leaves names that do not).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 $(HOME)/.pyenv/versions/3.1[123].*/bin/python python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$p" && break; done)

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sort | awk -F ':.*  ## ' '{printf "  %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "headrace needs Python 3.11, 3.12 or 3.13 with the venv module; none found. Say which: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "== set-up in $(VENV) with $$("$(PYTHON)" -V) (once; about 1.5 GB) =="
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "uv==$(UV_VERSION)" || echo "uv is not available: pip does the same, slower"
	@if test -x $(BIN)/uv; then \
		VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --require-hashes -r requirements.lock && \
		VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install -q --no-deps -e . ; \
	else \
		$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e . ; \
	fi
	@touch $@

.PHONY: setup
setup: $(STAMP)  ## create .venv from the locked dependencies (every target does it when needed)

.PHONY: demo
demo: $(STAMP)  ## replay January to June of real flights through the whole loop (DEMO_ARGS="--months 12")
	@$(BIN)/headrace demo $(DEMO_ARGS)

# Three processes share the work, a file at a time, those that take longest first (tests/conftest.py); each has servers of its own.
# A third of the time a test waits for a server or a process, so two processes leave cores idle.
# A fit has one thread: threads of two fits that wait for each other's cores take four times as long. Java leaves out
# its second compiler: a Kafka that lives for seconds takes 4 instead of 6 seconds of a core.
PYTEST = OMP_NUM_THREADS=1 JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(STAMP)  ## the tests, in three processes, but for those that are long (TEST_ARGS="tests/unit -k cli", TEST_WORKERS=4)
	@$(PYTEST) -m "not long" $(TEST_ARGS)

# They keep the cores busy by themselves.
.PHONY: test-long
test-long: TEST_WORKERS = 2
test-long: $(STAMP)  ## the long tests: 200 killed workers, stores that fail, two whole demos, ten seconds to stop in every state
	@$(PYTEST) -m long $(TEST_ARGS)

.PHONY: test-fast
test-fast: $(STAMP)  ## the unit tests that need no servers, in a minute, for the inner loop (TEST_ARGS="-k cli")
	@$(PYTEST) tests/unit -q -m "not integration and not slow" $(TEST_ARGS)

.PHONY: soak
soak: $(STAMP)  ## kills 1,000 workers among all other faults and 56 trainers, and runs each property 1,000 times (SOAK_ARGS="--kills 5000 --seed 7")
	$(BIN)/python -m tests.crash.soak $(SOAK_ARGS)
	$(BIN)/python -m pytest tests/property tests/crash/test_trainer_kills.py --hypothesis-profile=soak --timeout=0

.PHONY: soak-http
soak-http: $(STAMP)  ## attack `headrace serve` for ten minutes and measure how others are answered (SOAK_ARGS="--minutes 2")
	$(BIN)/python -m tests.crash.http_attack $(SOAK_ARGS)

.PHONY: bench
bench: $(STAMP) $(if $(PEERS),$(PEERS_STAMP))  ## ratios against floors in one run (BENCH="ingest --events 200000", PEERS=1 adds peers)
	$(BIN)/python -m benchmarks $(BENCH) $(if $(PEERS),--peers-python $(PEERS_VENV)/bin/python)

# Other engines, in an environment of their own; one that cannot be installed is named in the table.
$(PEERS_STAMP): $(STAMP)
	@test -x $(PEERS_VENV)/bin/python || $(BIN)/python -m venv $(PEERS_VENV)
	@for package in msgspec "redis[hiredis]" bytewax quixstreams pathway; do \
		VIRTUAL_ENV=$(abspath $(PEERS_VENV)) $(BIN)/uv pip install -q "$$package" || echo "$$package could not be installed"; done
	@touch $@

.PHONY: lint
lint: $(STAMP)  ## ruff, mypy, pyright, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory -j2 mypy pyright

.PHONY: mypy pyright
mypy: $(STAMP)
	$(BIN)/mypy

pyright: $(STAMP)
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: format
format: $(STAMP)  ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: build
build: $(STAMP)  ## wheel and sdist into dist/
	@rm -rf dist && $(BIN)/uv build --no-build-isolation --python $(BIN)/python --out-dir dist -q && ls -l dist

.PHONY: helm
helm: $(STAMP)  ## build helm with Go into the virtual environment, for tests/packaging/test_chart.py (some minutes)
	@test -x $(BIN)/helm || GOBIN=$(abspath $(BIN)) go install -ldflags "-s -w" helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)

.PHONY: test-all
test-all: $(STAMP)  ## the tests on Python 3.11, 3.12 and 3.13, each in a virtual environment of its own
	@missing=""; for v in $(PYTHONS); do \
		found=""; for p in "python$$v" $(HOME)/.pyenv/versions/$$v.*/bin/python $(HOME)/.local/share/uv/python/cpython-$$v.*/bin/python; do \
			"$$p" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$v')" 2>/dev/null && found="$$p" && break; done; \
		if test -z "$$found"; then echo "== no Python $$v on this machine =="; missing="$$missing $$v"; continue; fi; \
		echo "== Python $$v ($$found) =="; \
		$(MAKE) --no-print-directory test VENV=.venv-$$v PYTHON="$$found" || exit 1; \
	done; test -z "$$missing" || { echo "not tested, interpreter missing:$$missing"; exit 1; }

.PHONY: lock
lock: $(STAMP)  ## resolve the dependencies again into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra demo --group dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements.lock -q

.PHONY: clean
clean:  ## remove what the targets made (not .headrace/, the data)
	rm -rf .venv .venv-* dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src streams features trainers more_trainers tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
