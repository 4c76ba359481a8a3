# `make demo` and `make test` do everything on a machine with Python 3.11+ and make; `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.installed-docs
TOLD   := $(VENV)/.installed-trackers
# worksteal: a process takes neighbouring tests, so that most of what a file sets up is set up once
TESTS  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test check lint types unit soak package cluster trackers docs install clean help

demo: install  ## set up, run the Gram ablation on the embedded data, end with the path of its PDF
	$(BIN)/python harness/run.py experiments/gram_ablation.yaml

test: install lint types  ## set up, then lint, types and every test, the end-to-end runs included
	$(TESTS)

check: install lint types unit  ## lint, types and the unit tests: at most 90 seconds

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/basedpyright --pythonpath $(BIN)/python

unit: install
	$(TESTS) -m "not slow"

soak: install  ## kill runs, by one and two processes, and a sweep at 50 moments, go on, compare to the bit: half an hour; SOAK="--kills 9 --seed 1"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py $(SOAK)

package: install  ## build the package, use it from another folder without the development extras, list licences
	$(BIN)/python tests/package.py

cluster: install  ## start a real Slurm and a real PostgreSQL on this machine, run the tests that want them, stop both
	OMP_NUM_THREADS=1 $(BIN)/python tests/cluster/services.py $(BIN)/python -m pytest tests/cluster tests/harness/sweeps/test_storage.py

trackers: $(TOLD)  ## install MLflow and Weights & Biases, run the tests that read back what they were told
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/harness/trackers

docs: $(DOCS)  ## build the site of docs/ in site/, warnings and broken links as errors, and test it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_site.py
	@echo "$(CURDIR)/site/index.html"

install: $(STAMP)  ## create the environment and install what constraints.txt names

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"gramlab: got Python {v[0]}.{v[1]}: want 3.11 or newer; run `make PYTHON=python3.11 ...`")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $(DOCS)

$(TOLD): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mlflow,wandb]'
	touch $(TOLD)

clean:  ## remove the environment and the caches; runs/ stays
	rm -rf $(VENV) .cache .ruff_cache build dist site *.egg-info

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'
