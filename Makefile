# Two commands matter: `make demo` and `make test`. Each sets up what it needs, on a machine that
# has nothing but Python 3.11 or later.

SUITS   := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON  ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
               $$each -c '$(SUITS)' 2>/dev/null && echo $$each && break; done)
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
PINS    := requirements/constraints.txt
WORKERS ?= 2
PIP     := $(BIN)/python -m pip --disable-pip-version-check
PYTEST  := $(BIN)/python -m pytest -p no:cacheprovider -n $(WORKERS) --dist loadfile -q

# One thread per process: two test workers with two threads each are slower than with one, and
# sums in another order would change the last bit of what tests compare.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export DO_NOT_TRACK ?= 1
export PIP_NO_INPUT ?= 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all test-fast lint docs bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' Makefile | column -t -s '|'

venv: $(STAMP)  ## the virtual environment, from exact pins

# torch goes first and alone: a resolver that meets it among the others may choose another build.
$(STAMP): pyproject.toml $(PINS)
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITS)' || { echo "Freehold needs Python 3.11, 3.12 or 3.13 (name one: make PYTHON=...)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c $(PINS) pip
	$(PIP) install --quiet -c $(PINS) torch
	$(PIP) install --quiet -c $(PINS) -e ".[local,minilm,postgres]" --group dev
	@touch $@

demo: $(STAMP)  ## the whole loop on a small lab, narrated
	@$(BIN)/freehold demo

# The summary of pytest must be the last thing printed: readers and machines look for it there.
test: lint  ## lint, then every test on SQLite and PostgreSQL
	@$(PYTEST)

test-all: test  ## the same as test

test-fast: lint  ## lint, then the tests that need no weights and no big files
	@$(PYTEST) -m "not slow"

lint: $(STAMP)  ## ruff, mypy, the order of the rooms
	@$(BIN)/ruff check --quiet src tests docs examples benchmarks
	@$(BIN)/ruff format --check --quiet src tests docs examples benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

docs: $(STAMP)  ## write docs/reference from the code
	@$(BIN)/python docs/generate.py

# Modules that benchmarks share begin with an underscore. BENCH=--quick takes a minute each.
bench: $(STAMP)  ## every benchmark, each against its alternative (BENCH=--quick: small sizes)
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python "$$script" $(BENCH) || exit 1; done

clean:  ## remove what was built, the environment included
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo-lab
