.PHONY: help run test quick check audit materialize clean lock spark
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

test: $(INSTALLED) check quick  ## lint, types and all tests
	$(BIN)/python -m pytest -m slow

quick: $(INSTALLED)  ## the tests of minutes, and not those of the whole system (ORDER="-p randomly" shuffles)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(ORDER)

check: $(INSTALLED)  ## lint, format, types, security, dependencies, CI's workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry .
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml vroom_api vroom_assets
	$(BIN)/deptry . --extend-exclude tests --optional-dependencies-dev-groups dev --ignore DEP002
	@if [ -x $(BIN)/actionlint ]; then $(BIN)/actionlint .github/workflows/*.yml && echo "actionlint: the workflow is sound"; \
	else echo "actionlint: no build for this machine, CI's workflow is not checked"; fi

# Not a part of `check`: it asks pypi.org about every package, and its answer changes while nothing here does.
audit: $(INSTALLED)  ## known vulnerabilities of what the lock names; needs the network
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

# Spark has a lock of its own: it is 450 MB, and most never need it.
EXTRAS := assets postgres telemetry alerts lightgbm fastf1 dask dev
COMPILE := $(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --quiet pyproject.toml
lock:  ## resolve the dependencies of pyproject.toml anew
	$(COMPILE) $(addprefix --extra ,$(EXTRAS)) -o requirements.lock
	$(COMPILE) --extra spark --constraint requirements.lock -o requirements-spark.lock

spark: $(INSTALLED)  ## what features and predictions on Spark need besides Java 17; 450 MB
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-spark.lock

clean:  ## remove the environment (state under var/ stays)
	rm -rf .venv

# Exactly what the lock names, each archive checked against its hash, then the project itself.
$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
