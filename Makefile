# Everything from a fresh clone: git, make and python3 are enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check format report bench clean

demo: .venv/installed  ## base model -> SFT -> reward model -> DPO, PPO, GRPO -> evaluation -> runs/demo/report.html
	$(BIN)/zhenlong run recipes/demo.yaml $(ARGS)

test: .venv/installed-dev  ## the whole test suite
	$(BIN)/python -m pytest $(ARGS)

check: .venv/installed-dev  ## lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev  ## mend what can be mended by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed-bench  ## speed and memory against TRL and transformers' generate
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/sampling.py

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev]"
	touch $@ .venv/installed

.venv/installed-bench: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev,bench]"
	touch $@ .venv/installed .venv/installed-dev
