.DEFAULT_GOAL := help
PYTHON := .venv/bin/python

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

train: ## install what is missing and run the main job
	bash tools/setup.sh train

test: ## install what is missing and run the tests
	bash tools/setup.sh test

lint: ## ruff: rules and format
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

type: ## mypy --strict
	.venv/bin/mypy

bench: ## measure what the documentation claims; writes benchmarks/results
	for script in benchmarks/[a-z]*.py; do \
	  case $$script in benchmarks/common.py|benchmarks/digits_training.py) continue;; esac; \
	  OMP_NUM_THREADS=1 $(PYTHON) $$script || exit 1; \
	done

docs: ## make the documentation's tables and curves again from what was measured
	$(PYTHON) docs/make_tables.py
	$(PYTHON) docs/make_curves.py

.PHONY: help train test lint type bench docs
