# `make demo` and `make test` each do all their own set-up on a machine with Python 3.11+, make and git.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
JOBS ?= 2
RUN ?= build/demo
BIN := $(VENV)/bin

.PHONY: demo app test check format pocket bench install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# A whole run on the embedded base model: CPU, no network after the installation.
demo: install
	rm -rf $(RUN)
	HF_HUB_OFFLINE=1 $(BIN)/ditto-hub train example:harbor --base-model pocket --output $(RUN) --no-compare
	HF_HUB_OFFLINE=1 $(BIN)/ditto-hub evaluate $(RUN) --methods zero-shot,few-shot,sft,sft-long,ditto \
	  --judge grammar --samples 2 --show 2
	$(BIN)/ditto-hub runs show $(RUN) --load

# The app on the embedded base model: no GPU, no account; runs are kept in $$DITTO_HUB_HOME.
app: install
	$(BIN)/ditto-hub app

test: install
	$(BIN)/python tests/ui/browser.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Ratios to the stock parts (never seconds) against the committed ones.
bench: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py --check

# Pre-train the embedded base model anew from its grammar: 20 minutes on two shared cores.
pocket: install
	$(BIN)/python -m ditto_hub.pocket.pretrain --output ditto_hub/pocket/model

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
