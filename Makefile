# Every target sets up what it needs in .venv (see .ci/install); the second time takes seconds.
# Paths are relative, so that the checkout may lie in a folder with spaces in its name.
.DEFAULT_GOAL := help
.PHONY: help demo test lint diagrams check clean
PYTHON ?=
export PYTHON
ARGS ?=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## a conversation through its states, and two stuck loops caught: no key, no network
	@.ci/install svg
	@.venv/bin/fsm demo $(ARGS)

test: ## all tests; make test ARGS="-k ledger" for some
	@.ci/install svg,test
	@.venv/bin/python -m pytest -q -n auto --maxprocesses=4 $(ARGS)

lint: ## ruff and mypy
	@.ci/install svg,test
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy

diagrams: ## draw the pictures in diagrams/ anew
	@.ci/install svg,web
	@.venv/bin/fsm diagram --write diagrams/

check: ## all that CI runs
	@.ci/run

clean: ## remove .venv, caches and what the demo wrote
	rm -rf .venv build dist fsm-demo .hypothesis .mypy_cache .pytest_cache .ruff_cache htmlcov .coverage .coverage.*
	find fsm tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
