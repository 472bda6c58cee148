# Everything a developer types. Each target makes what it needs: the virtual environment
# in .venv, the package in it, and for the tests the programs that they drive.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Number of test processes. `auto` is one for each processor.
JOBS   ?= auto
# Further arguments for pytest, as in: make test ARGS="-k spans"
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check lint types layers format docs pages site system clean \
	bench bench-quick bench-core

help:
	@echo "make demo       show the main job on this machine alone, in about ten seconds"
	@echo "make test       run all tests but the long ones"
	@echo "make test-long  run the long tests"
	@echo "make plugins    run the tests of the plug-ins in plugins_example (make test does too)"
	@echo "make check      run ruff, mypy and the import contracts"
	@echo "make format     put the code into the project's form"
	@echo "make docs       write the generated pages anew, and build the site in build/docs"
	@echo "make bench      compare with nginx, Varnish and others, into docs/benchmarks (an hour or two)"
	@echo "make bench-quick  the four shortest comparisons with the nearest peer (two minutes)"
	@echo "make bench-core run the micro-benchmarks of the core"
	@echo "make clean      remove .venv and all that was made"

# The stamp depends on pyproject.toml alone: the package is installed editable, so a
# change of code needs no new installation, a change of dependencies does.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "cachestream needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) \
	  || { echo "no virtual environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/cachestream demo

# With ARGS it is some tests that are wanted, and those of the plug-ins are not.
test: $(STAMP) system
	CACHESTREAM_PLUGINS=off $(BIN)/python -m pytest -n $(JOBS) -m "not long" $(ARGS)
	@[ -n "$(ARGS)" ] || $(MAKE) --no-print-directory plugins

# Each in an environment of its own, with our wheel as a stranger would get it.
plugins: $(STAMP)
	@PYTHON="$(PYTHON)" BIN="$(abspath $(BIN))" JOBS="$(JOBS)" ./.ci/plugins

test-long: $(STAMP) system
	CACHESTREAM_PLUGINS=off $(BIN)/python -m pytest -n $(JOBS) -m long --timeout 1800 $(ARGS)

check: lint types layers

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: pages site

pages: $(STAMP)
	$(BIN)/python -m cachestream.cli.docs --write docs/reference

# A reference that leads nowhere is an error. Nothing is downloaded.
site: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs build/docs
	@echo "the site is in build/docs/index.html"

# With ARGS="--scenarios S3 --contestants nginx,cachestream --results /tmp/r" it is less,
# and written elsewhere.
bench: $(STAMP)
	@./benchmarks/install-peers
	$(BIN)/python -m benchmarks --results docs/benchmarks $(ARGS)

bench-quick: $(STAMP)
	@./benchmarks/install-peers nginx wrk fincore
	$(BIN)/python -m benchmarks --scale quick --repeats 2 --scenarios S1,S3,S4,S6 \
	  --contestants direct,nginx-slice,cachestream $(ARGS)

bench-core: $(STAMP)
	$(BIN)/python -m pytest benchmarks/core $(ARGS)

# Programs that the integration tests drive; nothing happens where they are there.
system:
	@./.ci/system-packages

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
