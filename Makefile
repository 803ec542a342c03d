.PHONY: help run test check materialize clean lock
.DEFAULT_GOAL := help

PYTHON ?= python3
FORECAST ?= reservations
export VROOM_FORECAST ?= $(FORECAST)
BIN := .venv/bin
INSTALLED := .venv/.installed

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: $(INSTALLED)  ## a champion if there is none, then Dagster, the service (FORECAST=...) and MLflow
	@exec $(BIN)/python -m vroom_assets

materialize: $(INSTALLED)  ## everything from the CSVs to the champion, once
	@exec $(BIN)/python -m vroom_assets materialize

test: $(INSTALLED) check  ## lint, types and all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/python -m pytest -m slow

check: $(INSTALLED)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:  ## resolve the dependencies of pyproject.toml anew
	$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --all-extras --no-header \
		--quiet pyproject.toml -o requirements.lock

clean:  ## remove the environment (state under var/ stays)
	rm -rf .venv

# Exactly what the lock names, each archive checked against its hash, then the project itself.
$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
