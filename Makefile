# make demo and make test need only git, make and Python 3.11 or newer; they set up .venv themselves.

PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(shell $(name) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" 2>/dev/null && command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test check format fuzz stress stress-server bench-ttft bench-decode bench-scale bench-fidelity bench-kernels bench-recognise pages notebooks docs pocket clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt hatch_build.py core/promptcache/native/moves.c
	@test -n "$(PYTHON)" || { echo "promptcache needs Python 3.11, 3.12 or 3.13"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV), once: torch first, then the others, some minutes each; see 'Installing' in README.md"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)  ## cached RAG answers through a LangChain chain, with the embedded model
	$(BIN)/promptcache demo

test: $(READY)  ## every test but the long ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

check: $(READY)  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)  ## write formatting and the fixes that ruff is sure of
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(READY)  ## a million inputs that are made to break parsers; FUZZ="--first N --count N" for others
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m support.fuzzing $(FUZZ)

stress: $(READY)  ## killed writers, budgets, and thousands of random histories against the oracle
	$(BIN)/python -m pytest -m stress

stress-server: $(READY)  ## a server under load, killed under load, and with two tenants
	$(BIN)/python -m promptcache.bench.serving.stress

bench-ttft: $(READY)  ## time to first token with the embedded model, against transformers and the limit
	$(BIN)/promptcache bench ttft pocket

bench-decode: $(READY)  ## tokens per second behind a long context, against transformers' generate
	$(BIN)/promptcache bench decode pocket

bench-scale: $(READY)  ## what many registered documents, and many requests at once, cost
	$(BIN)/promptcache bench scale

bench-fidelity: $(READY)  ## how near every reuse policy comes to full prefill, with the embedded model
	$(BIN)/promptcache bench fidelity pocket

bench-kernels: $(READY)  ## our attention and our moves, against other ways to do them
	$(BIN)/python -m promptcache.bench.kernels

bench-recognise: $(READY)  ## how long it takes to find registered documents in a prompt
	$(BIN)/python -m promptcache.bench.recognise

pages: $(READY)  ## the pages and tables that are made of the code and of measured rows
	$(BIN)/python scripts/architecture.py
	$(BIN)/python scripts/reference.py
	$(BIN)/python -m promptcache.bench.page
	$(BIN)/python -m promptcache.bench.fidelity.page

notebooks: $(READY)  ## run the cookbook from clean kernels, and keep what it shows
	$(BIN)/python scripts/notebooks.py

docs: $(READY)  ## the documentation as a site, in the folder site
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pocket: $(READY)  ## make the embedded model from nothing: tokenizer, training, evaluation
	$(BIN)/python -m promptcache.pocket

clean:  ## remove what was made here, .venv included
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
