# Everything that a developer, or CI, does here. `make` alone lists it.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# What is ours to check: as much of it as exists.
PACKAGES := $(wildcard gateway providers store webhook_http simulators)
CODE     := $(PACKAGES) $(wildcard kit tests bench proto/obol proto/generate.py)
IMAGE    := proto/released.binpb

# Arguments that a person may set. More WORKERS than cores: tests wait for processes, clocks and locks half of the time.
ARGS    ?=
WORKERS ?= 3
KILLS   ?= 50
STORE   ?= sqlite
SEED    ?= 1
PROVIDER ?= sandbox
REQUESTS ?= 20000
UPGRADE ?=
NAME    ?=

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## ---- set up

.PHONY: setup
setup: $(VENV)/.runtime  ## make .venv with what obol needs to run, from hashed wheels

.PHONY: dev
dev: $(VENV)/.dev  ## add what a developer needs to the same .venv

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "obol needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.locked: $(VENV)/.created requirements.lock
	$(PIP) --require-hashes -r requirements.lock
	@touch $@

# An editable path cannot join a hashed install. Its build tool came with the lock, so nothing is fetched here.
$(VENV)/.runtime: $(VENV)/.locked pyproject.toml proto/pyproject.toml
	$(PIP) --no-deps --no-build-isolation -e proto -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

## ---- use

.PHONY: demo
demo: setup  ## take payments through a gateway of your own, on this machine
	$(BIN)/obol demo $(ARGS)

## ---- check

.PHONY: check
check: dev  ## every rule that needs no running system: style, types, imports, contract, house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(if $(wildcard $(IMAGE)),$(BIN)/buf breaking --against $(IMAGE),@echo "buf breaking: nothing is released yet")
	$(BIN)/python proto/generate.py --check
	$(BIN)/pytest tests/house

.PHONY: test
test: dev  ## every test but those that talk to a real provider
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not live" $(ARGS) tests

.PHONY: conformance
conformance: dev  ## the suite that every provider adapter passes, as a table
	$(BIN)/python -m pytest -p tests.conformance.reporting -m "not live" $(ARGS) tests/conformance

.PHONY: torture
torture: dev  ## kill the gateway KILLS times over STORE (sqlite, postgresql) with SEED, before PROVIDER (sandbox, stripe, paypal), then check the invariants
	$(BIN)/python -m tests.torture $(KILLS) $(STORE) $(SEED) $(PROVIDER)

.PHONY: fuzz
fuzz: dev  ## throw REQUESTS crafted requests with SEED at the sidecar: none forged taken, nothing uncaught
	$(BIN)/python -m tests.fuzz $(REQUESTS) $(SEED)

.PHONY: bench
bench: dev  ## measure what a payment costs, and against which floor
	$(BIN)/python -m bench $(ARGS)

## ---- change

.PHONY: new-provider
new-provider: dev  ## begin an adapter: make new-provider NAME=adyen (docs/providers.md)
	$(BIN)/python -m kit $(NAME)

.PHONY: format
format: dev  ## put the code into the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: proto
proto: dev  ## generate Python and types beside the .proto files
	$(BIN)/python proto/generate.py

.PHONY: proto-image
proto-image: dev  ## at a release: record the contract that later ones must not break
	$(BIN)/buf build --exclude-source-info -o $(IMAGE)

LOCK = $(BIN)/uv --no-config pip compile --quiet --universal --python-version 3.11 $(UPGRADE) \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-package obol-contracts \
	--custom-compile-command "make lock" pyproject.toml

.PHONY: lock
lock: dev  ## resolve the locks again (UPGRADE=--upgrade for newer versions)
	$(LOCK) --group build -o requirements.lock
	$(LOCK) --group dev -c requirements.lock -o requirements-dev.lock

.PHONY: clean
clean:  ## remove what builds, tests and tools left behind (.venv stays)
	rm -rf build dist proto/build proto/dist *.egg-info proto/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
