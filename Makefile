# Bitville APM. The two commands: `make run` (the product, with demo traffic) and `make test`.

PYTHON ?= python3
VENV ?= venv
BIN = $(VENV)/bin

.PHONY: help run test full lint bench faults lab clean system requirements

help:
	@echo "make run     install into ./$(VENV) and start collector, agent and a demo shop; Ctrl-C stops everything"
	@echo "make test    everything the tests need, and the tests (as root on Debian system packages too)"
	@echo "make full    also the tests that take long"
	@echo "make faults  the fault scenarios at full count, an hour or more (as root; docs/faults.md)"
	@echo "make lab     real trouble on a real stack, and whether the product says what it was (as root; docs/lab.md)"
	@echo "make bench   the figures, one script each"
	@echo "make lint    ruff and mypy"
	@echo "make clean   what the above left behind (not the demo's data)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed; name it: make run PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "a virtual environment could not be made; on Debian: apt install python3-venv"; exit 1; }

# Stamps: installing again only when what is installed has changed.
$(VENV)/run-stamp: $(BIN)/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev-stamp: $(BIN)/python setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/run-stamp

run: $(VENV)/run-stamp
	@exec $(BIN)/bitville demo

system:
	@sh tests/system-packages.sh

# Most of a test of real servers is waiting: two at a time, each file's in their order.
test: system $(VENV)/dev-stamp
	$(BIN)/python -m pytest -m 'not full' -n 2 --dist loadfile $(ARGS)

full: system $(VENV)/dev-stamp
	$(BIN)/python -m pytest $(ARGS)

faults: system $(VENV)/dev-stamp
	$(BIN)/python -m pytest -s tests/faults $(ARGS)

lab: system $(VENV)/dev-stamp
	$(BIN)/python -m tests.lab.live $(ARGS)

bench: $(VENV)/dev-stamp
	@for script in benchmarks/[pq][0-9]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lint: $(VENV)/dev-stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: $(VENV)/dev-stamp
	$(BIN)/python -m tests.requirements
