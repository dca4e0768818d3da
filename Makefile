# Everything from a fresh clone: git, make and python3 are enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-peers check format docs bench profile scaling clean

demo: .venv/installed  ## base model -> SFT -> reward model -> DPO, PPO, GRPO -> evaluation -> runs/demo/report.html
	$(BIN)/zhenlong run demo $(ARGS)

test: .venv/installed-dev  ## the whole test suite
	$(BIN)/python -m pytest $(ARGS)

test-peers: .venv-bench/installed-tests  ## equality with TRL and lm-evaluation-harness; without them it fails
	.venv-bench/bin/python -m pytest -m peers --peers-required $(ARGS)

check: .venv/installed-dev  ## lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev  ## fix what the tools can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed-docs  ## the documentation as a searchable site: site/index.html, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

bench: .venv-bench/installed  ## speed and memory against TRL, transformers' generate, lm-evaluation-harness
	.venv-bench/bin/python benchmarks/bench.py $(ARGS)

profile: .venv/installed  ## where the time of a step goes, stage by stage
	$(BIN)/python benchmarks/profile_step.py $(ARGS)

scaling: .venv/installed  ## cost and memory against tokens, group size, prompt share, vocabulary, options
	$(BIN)/python benchmarks/scaling.py $(ARGS)

clean:
	rm -rf .venv .venv-bench runs site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev]"
	touch $@ .venv/installed

.venv/installed-docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[docs]"
	touch $@ .venv/installed

# The peers have an environment of their own: what they depend on does not touch that of make test.
.venv-bench/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

.venv-bench/installed-tests: .venv-bench/installed
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pytest pytest-xdist hypothesis
	touch $@
