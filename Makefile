# Needs Python 3.11 or newer and make, nothing else. `make` alone explains every target.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := lakehouse_assets lakehouse_assets_tests benchmarks setup.py
PIP := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar off

.DEFAULT_GOAL := help
.PHONY: help install dev test lint typecheck architecture check bench soak format clean

help: ## Explain every target
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is made again when setup.py changes. `make dev` installs what a laptop needs to run the platform,
# everything else what a developer needs; both share one environment.
$(VENV)/made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Cannot create $(VENV): there is no $(PYTHON). Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Cannot create $(VENV): Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12"; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "Cannot create $(VENV): Python's venv module is not there. Install it (Debian, Ubuntu: apt install python3-venv)."; exit 1; }
	@touch $@

$(VENV)/installed-local: setup.py $(VENV)/made
	@echo "Installing lakehouse_assets and what it needs into $(VENV) (some minutes on the first time)"
	@$(PIP) --editable '.[local]'
	@touch $@

$(VENV)/installed-dev: setup.py $(VENV)/made
	@echo "Installing lakehouse_assets, what it needs and the tools into $(VENV) (some minutes on the first time)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed-local

install: $(VENV)/installed-dev ## Create .venv with everything a developer needs; does nothing when it is there

dev: $(VENV)/installed-local ## Run the platform on this machine: Kafka, demo data, Dagster (Ctrl-C ends it, PORT=3000)
	@exec $(BIN)/python -m lakehouse_assets.cli dev --end-with-parent $(if $(PORT),--port $(PORT))

# The tests wait more than they compute: more processes than processors. Each starts a broker of its own when a test needs one.
test: $(VENV)/installed-dev ## Run the tests against a real Kafka (ARGS='-k name' for some of them)
	@$(BIN)/python -m pytest --numprocesses 6 --dist loadgroup $(ARGS)

lint: $(VENV)/installed-dev ## Look for mistakes and bad form (ruff)
	@$(BIN)/ruff check $(CODE)

typecheck: $(VENV)/installed-dev ## Check the types (mypy --strict)
	@$(BIN)/mypy

architecture: $(VENV)/installed-dev ## Check which module may import which (import-linter)
	@$(BIN)/lint-imports

check: lint typecheck architecture test ## All that CI runs

bench: $(VENV)/installed-dev ## Measure speed and memory on a local Kafka, beside what others reach (ARGS='ingest shapes' for some)
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/installed-dev ## Ten minutes of random faults on real components (SECONDS=60, SEED=... to see one again)
	@$(BIN)/python -m lakehouse_assets_tests.soak

format: $(VENV)/installed-dev ## Put the code into form (ruff)
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

clean: ## Remove the environment and what tools left; the data in .lakehouse stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find lakehouse_assets lakehouse_assets_tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
