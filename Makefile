# Every target does its own set-up: a virtual environment in .venv, made once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The CPU build of torch of our own set-up; users install what they like.
CONSTRAINTS ?= -c constraints.txt

.PHONY: quickstart test lint bench clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/.base
	$(BIN)/hf-htc quickstart

# A file stays in one process: tests of a file share models, and launches of several processes a port.
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

# Speed, memory and size of every method, about half an hour on two cores; writes the table of benchmarks/README.md.
bench: $(VENV)/.base
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/make_tables.py

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("hf_htc needs Python 3.10 or newer; call make PYTHON=python3.11" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras; a change of setup.cfg installs anew.
$(VENV)/.base: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[baseline]'
	touch $@

$(VENV)/.dev: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[baseline,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
