# `make` alone and Python 3.11 or later are enough. PYTHON=/path/to/python chooses which Python.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SEED ?= 0
SEEDS ?= 1
FAULTS ?= 100
EVENTS ?= 200000
INPUTS ?= 1000000
JOBS ?= 2
# Tests on a real Kafka wait most of the time, for brokers, groups and time-outs: more of them than cores.
TEST_JOBS ?= 3

# The first of these that runs and is new enough; a Python given by PYTHON= is taken as it is.
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
IS_NEW := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: help install dev demo example test check lint fast sim sim-planted chaos fuzz bench lock clean

help:
	@echo 'make install   .venv with the driftline command'
	@echo 'make demo      card fraud whose concept changes: watch the drift alert arrive'
	@echo 'make example CASE=fraud [DATA=folder]   a case on its real data, or on made ones (also spam, demand, recommend)'
	@echo 'make test      all tests, those on a real Kafka too (they need Java 17, and Maven once)'
	@echo 'make check     ruff, mypy, import rules, fast tests'
	@echo 'make bench     throughput and latency beside plain loops and other frameworks, on a real Kafka (BENCH_OPTIONS="--rounds 1 --pairs 2000")'
	@echo 'make sim SEED=0 SEEDS=1000   simulated crashes and faults, seed by seed; SEED=random takes others each time'
	@echo 'make sim-planted   faults planted in the engine, and the first seed that finds each'
	@echo 'make chaos     workers and broker killed and stopped under load on a real Kafka (about 20 minutes)'
	@echo 'make fuzz      a million hostile inputs, as many hostile outputs of models, and spoilt states (SEED=7 INPUTS=1000 for others)'
	@echo 'make lock      write constraints.txt anew'
	@echo 'make clean     remove .venv, caches and what was compiled'

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/.created:
	@python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
	  for candidate in $(CANDIDATES); do \
	    if "$$candidate" -c '$(IS_NEW)' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "Driftline needs Python 3.11 or later; found: $$(python3 --version 2>&1 || echo none)." >&2; \
	    echo 'Install one (apt install python3 python3-venv, brew install python) or say make PYTHON=/path/to/python.' >&2; \
	    exit 1; \
	  fi; \
	elif ! "$$python" -c '$(IS_NEW)'; then \
	  echo "Driftline needs Python 3.11 or later; PYTHON=$$python is $$("$$python" --version 2>&1)." >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version 2>&1)"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { \
	  rm -rf $(VENV); echo 'This Python cannot make a virtual environment (Debian/Ubuntu: apt install python3-venv).' >&2; exit 1; }
	@touch $@

# What was compiled from another source must not stay where compiling fails.
COMPILED := $(addprefix app/driftline/,codec/_declared codec/_usual core/guard/_familiar core/guard/_passing \
  core/model/fast/_leaf core/model/fast/_weighted)
SOURCES := $(COMPILED:=.pyx) $(addprefix app/driftline/,codec/slot.pxd core/model/fast/exact.pxd)
UNBUILD := rm -rf build/lib* build/temp* $(COMPILED:=.c) $(COMPILED:=.*.so)

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt $(SOURCES)
	$(UNBUILD)
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt $(SOURCES)
	$(UNBUILD)
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

demo: install
	$(BIN)/driftline demo

example: install
	$(BIN)/python examples/run.py $(CASE) $(DATA)

test: dev
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal

fast: dev
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m 'not integration and not slow'

check: dev lint fast

lint: dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

sim: dev
	$(BIN)/python -m tests.simulation --seed $(SEED) --seeds $(SEEDS)

sim-planted: dev
	$(BIN)/python -m tests.simulation.planted

chaos: dev
	$(BIN)/python -m tests.chaos --faults $(FAULTS) --events $(EVENTS) $(if $(filter-out random,$(SEED)),--seed $(SEED))

fuzz: dev
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS) $(if $(filter-out random,$(SEED)),--seed $(SEED))
	$(BIN)/python -W ignore -m tests.fuzz.frozen --inputs 20000 $(if $(filter-out random,$(SEED)),--seed $(SEED))
	$(BIN)/python -W ignore -m tests.fuzz.outputs --inputs $(INPUTS) $(if $(filter-out random,$(SEED)),--seed $(SEED))

# What we compare with asks for other versions than constraints.txt pins, so it has an environment of its own.
BENCH := build/bench
OF_PEERS := confluent-kafka|pydantic|pydantic_core|protobuf
$(BENCH)/.installed: $(VENV)/.installed-dev
	rm -rf $(BENCH)
	$(BIN)/python -m venv $(BENCH)
	grep -viE '^($(OF_PEERS))==' constraints.txt > $(BENCH)/constraints.txt
	$(BENCH)/bin/python -m pip --disable-pip-version-check install -q -c $(BENCH)/constraints.txt -e '.[bench]'
	@touch $@

bench: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks $(BENCH_OPTIONS)

# The pins of constraints.txt, anew from the ranges of pyproject.toml.
lock: $(VENV)/.created
	rm -rf build/lock
	$(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install -q '.[dev]'
	{ echo '# The exact versions that make, CI and the Docker image install (pip install -c constraints.txt).'; \
	  echo '# Written from a fresh environment by: make lock'; \
	  build/lock/bin/python -m pip --disable-pip-version-check freeze --exclude driftline; } > constraints.txt

clean:
	$(UNBUILD)
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
