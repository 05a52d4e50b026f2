# Each target sets up all that it needs. PYTHON is any Python from 3.11 on.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each process takes up to 5 GB.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses=4 --dist worksteal --durations=15

.PHONY: demo test test-slow test-all test-pythons test-core test-optimized coverage lint bench bench-accelerator text-model docs docs-outputs

demo: $(VENV)/run
	test ! -f runs/demo/result.json || rm -r runs/demo
	$(BIN)/python launch.py --config experiments/demo.py --workdir runs/demo

test: $(VENV)/dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/dev
	$(PYTEST) -m slow

test-all: test test-slow

# Quick tests of the core on each Python that is there beside PYTHON (PYENV_VERSION: if pyenv has it), each in its own .venv-*.
test-pythons:
	@for version in 3.12 3.13; do \
		$(PYTHON) -c "import sys; sys.exit(sys.version.startswith('$$version.'))" || continue; \
		export PYENV_VERSION=$$version; \
		if python$$version -c "import ensurepip" 2>/dev/null; then \
			$(MAKE) VENV=.venv-$$version PYTHON=python$$version test-core || exit 1; \
		else echo "no Python $$version here"; fi; \
		unset PYENV_VERSION; \
	done

# The numbers of the model by a compiler with all its optimizations, as users have it.
test-optimized: $(VENV)/dev
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PYTEST) -m "not slow" tests/models/test_cmath.py

test-core: $(VENV)/dev
	$(PYTEST) -m "not slow" tests/io tests/models tests/training

# All tests with the share of lines and branches that they run, of each file; htmlcov/index.html shows which are left.
coverage: $(VENV)/dev
	$(PYTEST) --cov --cov-report=term --cov-report=html

bench: $(VENV)/bench
	$(BIN)/python -m benchmarks.single_device

# All tables of a TPU or GPU (docs/benchmarks.md), once JAX's packages for it are installed, and those of requirements-aot.txt.
bench-accelerator: $(VENV)/bench
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.single_device --population 5
	$(BIN)/python -m benchmarks.accelerator

# A model of text alone, from the folder MELD with train.csv, dev.csv and test.csv of declare-lab/MELD.
text-model: $(VENV)/extract
	test -n "$(MELD)" || { echo "name the folder of the CSV files: make text-model MELD=DIR"; exit 1; }
	test -d data/meld_text || $(BIN)/python -m cmath_jax.data convert "$(MELD)" data/meld_text
	$(BIN)/python -m cmath_jax.extract data/meld_text --text=minilm
	$(BIN)/python launch.py --config experiments/conversations.py --config.data.dir=data/meld_text --workdir runs/text

# Builds the site into site/, without a network; every warning ends it. `python -m http.server -d site` shows it.
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Writes into README.md and docs/ what their commands print; with MELD=DIR also of those that need MELD's CSV files.
docs-outputs: $(VENV)/dev $(VENV)/extract
	$(BIN)/python -m docs.outputs $(if $(MELD),--meld "$(MELD)")

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/run: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/dev: requirements-dev.txt requirements-serve.txt requirements-tune.txt requirements-notebook.txt $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	touch $@

$(VENV)/bench: requirements-bench.txt $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt -c constraints.txt
	touch $@

$(VENV)/extract: requirements-extract.txt requirements-serve.txt $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-extract.txt -r requirements-serve.txt -c constraints.txt
	touch $@

$(VENV)/docs: requirements-docs.txt $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt -c constraints.txt
	touch $@
