# `make demo` shows Earshot at work on this machine; `make test` checks it. Both install what is missing first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv/bin
ARGS ?=

.NOTPARALLEL:
.PHONY: help setup setup-tests demo test test-fast lint types format

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install what is missing, and the locked environment in .venv
	@PYTHON=$(PYTHON) scripts/setup.sh

setup-tests:  ## the same, and what only the tests need
	@PYTHON=$(PYTHON) scripts/setup.sh --tests

demo: setup  ## the whole pipeline on this machine, with simulated devices (ARGS="--devices 5 --speed 2")
	@$(VENV)/earshot demo $(ARGS)

test: setup-tests lint types  ## every check: lint, types, all tests
	$(VENV)/pytest -n 2 --dist loadgroup $(ARGS)

test-fast:  ## lint, types and the tests that need no services, in the environment as it is
	$(MAKE) lint types
	$(VENV)/pytest -m "not integration" $(ARGS)

lint:
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

types:
	$(VENV)/mypy

format:  ## rewrite the code in the project's style
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .
