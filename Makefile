.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TAPE ?=
ARGS ?=

.PHONY: help install install-dev run test prove lint format bench calibrate requirements clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(VENV)/installed: requirements.txt requirements-gpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Deskvigil needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 run"; exit 1; }
	@echo "Creating $(VENV) and installing (about a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@if [ -e /proc/driver/nvidia/version ]; then echo "NVIDIA driver found: adding the GPU part ..."; $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-gpu.txt || echo "The GPU part could not be installed; Monte-Carlo runs on the CPU."; fi
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Compiled kernels stay valid until a source of the engine changes; asking them each time would cost a start two seconds.
$(VENV)/warmed: $(VENV)/installed $(wildcard engine/*.py engine/*/*.py alerts/detectors/*.py)
	@$(BIN)/python app.py warm
	@touch $@

install: $(VENV)/warmed  ## Create .venv, install what is pinned, compile the kernels

install-dev: $(VENV)/installed-dev $(VENV)/warmed  ## The same, with linters and test tools

run: install  ## Start everything at http://127.0.0.1:8050 (TAPE=FILE plays a recording, ARGS=... are passed on)
	@exec $(BIN)/python app.py run $(if $(TAPE),--tape "$(TAPE)") $(ARGS)

# A file at a time to each of two workers, in the files' order: those that start whole programs come first.
test: install-dev  ## All tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not prove" $(ARGS)

prove: install-dev  ## The long counts: kills, outages, soaks
	@$(BIN)/python -m pytest -m prove $(ARGS)

lint: $(VENV)/installed-dev  ## Style, types, and the directions between rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/installed-dev  ## Bring the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install-dev  ## Measure and print every published figure
	@$(BIN)/python app.py bench $(ARGS)

calibrate: $(VENV)/installed  ## Measure the synthetic market's figures on recorded days (DAYS=folder)
	@$(BIN)/python -m validation.calibrate $(DAYS)

requirements:  ## Compile the pinned requirement files from the .in files
	@for part in requirements requirements-dev requirements-gpu requirements-cluster requirements-profile requirements-notify requirements-calendar; do \
	  $(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 $$part.in -o $$part.txt; done

clean:  ## Remove the environment and caches (never data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
