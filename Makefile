# Everything sets itself up: Python >= 3.11 and make are enough.
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow fuzz check lint format bench gallery clean

help:
	@echo "make demo       deform the built-in phantom: a curve of 35 degrees at T9, into demo/"
	@echo "make test       the quick tests"
	@echo "make test-slow  the slow ones"
	@echo "make fuzz       thousands of random files and spines (half an hour or more)"
	@echo "make lint       ruff, mypy, lint-imports"
	@echo "make check      lint and test"
	@echo "make format     let ruff format and mend"
	@echo "make bench      print the benchmark table"
	@echo "make gallery    draw presets before and after, into assets/gallery/"
	@echo "make clean      remove what was made, but not .venv"

demo: $(STAMP)
	$(BIN)/spinesim deform --cobb 35 --apex T9 --out demo --overwrite

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)
	$(PYTEST) -m slow

fuzz: $(STAMP)
	$(PYTEST) tests/test_fuzz.py --hypothesis-profile=thorough

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	@$(MAKE) --no-print-directory test

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/python benchmarks/table.py

gallery: $(STAMP)
	$(BIN)/python benchmarks/gallery.py

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1) from '$(PYTHON)'; name another: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Setting up $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "make: expected 'python3 -m venv' to work; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf build dist demo out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
