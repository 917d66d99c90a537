# Every target builds .venv by itself from nothing but Python >= 3.11.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
INSTALLED := $(VENV)/.installed
COMPILED := kvcache/compiled
REPORTS := build/loadtest
# Two processes whatever the machine has: a file's tests share what it starts, and more clusters at once would only wait for each other.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run test chaos check format bench replay loadtest compare curves clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): $(INSTALLED) $(wildcard $(COMPILED)/*.c $(COMPILED)/*.h $(COMPILED)/build.py)
	$(BIN)/python -m hatchling build --target wheel:editable --hooks-only --directory build
	@touch $@

# Compiled above: without pip, which says nothing of what went wrong, and asks an index.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "kvcache needs Python >= 3.11; this is " + sys.version.split()[0] + " (set PYTHON=)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	KVCACHE_COMPILED=0 $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

run: $(READY)  ## a local cluster of three nodes until Ctrl-C
	$(BIN)/kvcache up

test: $(READY)  ## the whole test suite
	@.ci/chromium
	@.ci/deploy-tools
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE)
	KVCACHE_COMPILED=0 $(BIN)/python -m pytest -q $(SIDE_BY_SIDE) tests/store tests/service tests/transport

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

loadtest: $(READY)  ## 30 s of Locust against a cluster that it starts, with a kill in the middle; writes a report
	$(BIN)/locust -f loadtests/locustfile.py --headless --only-summary --start-cluster -u 20 -r 20 -t 30s \
	  --faults loadtests/faults/kill.toml --slo "get.failed=0,failed<0.1%,lost=0,old=0,wrong=0" \
	  --report $(REPORTS)/report.html --csv $(REPORTS)/locust --html $(REPORTS)/locust.html $(or $(ARGS),ReadWrite)

compare: $(READY)  ## the same Locust users on kvcache, Redis Cluster and memcached, in turns; writes a report
	$(BIN)/python -m loadtests.compare --output build/compare $(ARGS)

curves: $(READY)  ## speed against nodes, sizes, tasks, copies and keys; hit ratio against memory, beside Redis and memcached
	$(BIN)/python -m loadtests.curves --output build/curves $(ARGS)

clean:  ## remove everything that make built
	rm -rf build $(COMPILED)/*.so $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
