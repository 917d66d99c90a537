# Every target builds .venv by itself from nothing but Python >= 3.11.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test chaos check format bench replay clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "kvcache needs Python >= 3.11; this is " + sys.version.split()[0] + " (set PYTHON=)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

run: $(READY)  ## a local cluster of three nodes until Ctrl-C
	$(BIN)/kvcache up

test: $(READY)  ## the whole test suite
	$(BIN)/python -m pytest -q

chaos: $(READY)  ## every fault at full length under load, with figures (KVCACHE_CHAOS_SEED plays a seed again)
	$(BIN)/python -m pytest tests/chaos -m 'chaos or not chaos' -q -s $(ARGS)

check: $(READY)  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## side by side with redis-py, pymemcache, aiomcache, emcache
	$(BIN)/python -m loadtests.bench $(ARGS)

replay: $(READY)  ## a real cache trace through the real client, against a cluster that it starts
	$(BIN)/python -m loadtests.replay --start-cluster $(ARGS)

clean:  ## remove everything that make built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
