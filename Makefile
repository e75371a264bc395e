# The four words of this project: `make demo`, `make test`, `make check`, `make bench`. `make` alone lists them.
# A clean machine needs Python 3.11 or newer and make, nothing else; everything goes into .venv (`make test-vllm`: .venv-vllm).

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter that is new enough and can make a virtual environment. Override: make PYTHON=/path/to/python3 …
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$python"; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BROWSER_STAMP := $(VENV)/.installed-browser
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
VLLM_MODEL := out/vllm/smollm2-135m-instruct
TRAIN_STAMP := $(VENV)/.installed-train
TRAIN_DATA := $(CODERL_SHARED_DATA)/tasks
TRAIN_TESTS := $(addprefix tests/trainer/test_,training.py local_engine.py torch_sampler.py packing.py losses.py trl_parity.py \
	trl_adapter.py length_pitfall.py logged_agreement.py environment.py processes.py several_processes.py served_training.py \
	tinker_engine.py tinker_losses.py tinker_training.py logged_training.py) tests/server/test_demo_training.py
SOURCES := store gate generator trainer server migrations benchmarks tests

.PHONY: help demo test test-editors test-dashboard outcome-accuracy screenshots test-train test-vllm train-small vsix check bench bench-server docs fmt clean install install-train models

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: models ## a programmer made of real code edits with and without the gate; prints a table, writes a picture (DEMO_ARGS=…)
	@mkdir -p out
	$(BIN)/coderl demo --picture out/demo.png $(DEMO_ARGS)

test: models ## run the tests (PYTEST_ARGS="-k policy")
	$(BIN)/pytest -n auto --ignore tests/editors --ignore tests/dashboard $(PYTEST_ARGS)

test-editors: models ## the real Neovim, VS Code, Emacs and Helix, installed into a cache folder where that can be done
	@for editor in neovim vscode emacs helix luacheck; do bash tests/editors/install/$$editor.sh || test $$? -eq 3 || exit 1; done
	$(BIN)/pytest -n 2 --dist loadfile tests/editors $(PYTEST_ARGS)

test-dashboard: install $(BROWSER_STAMP) ## the team server's pages in a real Chromium, which is installed where that can be done
	@bash tests/dashboard/install/chromium.sh || test $$? -eq 3
	$(BIN)/pytest tests/dashboard $(PYTEST_ARGS)

outcome-accuracy: install ## what installed editors log against what was really done in them, half an hour (ARGS="--seed 2 --count 100 --only neovim")
	$(BIN)/python -m tests.editors.accuracy.run $(ARGS)

screenshots: models $(BROWSER_STAMP) ## take the pictures in docs/pictures from a real VS Code and the dashboard; look at them
	bash tests/editors/install/vscode.sh
	$(BIN)/python -m tests.editors.screenshots docs/pictures
	bash tests/dashboard/install/chromium.sh
	$(BIN)/python -m tests.dashboard.screenshots docs/pictures

vsix: ## the VS Code extension as one file in editors/vscode (needs Node 20 or newer)
	cd editors/vscode && npm ci --silent && npm run -s package

test-train: models $(TRAIN_STAMP) ## the tests that need the extras `train`, `trl` and `tinker`, which are installed into .venv
	$(BIN)/pytest -n auto $(TRAIN_TESTS) $(PYTEST_ARGS)

# Half an hour to an hour on two cores; docs/training.md has the figures. TRAIN_ARGS="--set grpo.steps=5" changes the recipe.
train-small: models $(TRAIN_STAMP) ## fine-tune the embedded model on gaps and functions of CODERL_SHARED_DATA, into runs/
	@test -d "$(TRAIN_DATA)" || { echo "No tasks in $(TRAIN_DATA): set CODERL_SHARED_DATA to the folder that holds tasks/." >&2; exit 1; }
	$(BIN)/coderl train small --tasks shipped --tasks "$(TRAIN_DATA)/mbpp/mbpp.jsonl" \
		--tasks "$(TRAIN_DATA)/humaneval-infilling/data/HumanEval-SingleLineInfilling.jsonl.gz" $(TRAIN_ARGS)

# transformers and torch warn of their own affairs, and an engine takes minutes to start where the cores are busy.
test-vllm: models $(VLLM_STAMP) ## the backends vllm and transformers, a real vLLM server, a training by it; on the CPU, a venv of their own
	mkdir -p $(dir $(VLLM_MODEL))
	$(VLLM_VENV)/bin/python -m coderl_generator.hf_copy "$$($(BIN)/coderl models install)" $(VLLM_MODEL)
	CODERL_HF_MODEL=$(VLLM_MODEL) VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 \
		$(VLLM_VENV)/bin/python -m pytest tests/contracts -W default --timeout 1200 --durations 10 \
		-k "transformers or vllm or server or engine" $(PYTEST_ARGS)

check: install ## lint, formatting, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: models ## measure what the README quotes, into out/bench.json (BENCH_ARGS="--quick --only spool")
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-server: install ## what a team's server takes (records/s on either database, what the relay adds), into out/bench-server.json
	$(BIN)/python benchmarks/run.py --only ingest --only relay --out out/bench-server.json $(BENCH_ARGS)

docs: install ## rewrite the pages that are generated (docs/settings.md, docs/features.md)
	WRITE_DOCS=1 $(BIN)/pytest -q tests/test_docs.py -k generated

fmt: install ## format the code and fix what lint can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what these targets made (not the models and logs in your data folder)
	rm -rf $(VENV) $(VLLM_VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(STAMP) ## make .venv with the pinned versions

install-train: $(TRAIN_STAMP) ## the extras `train` (torch and what goes with it), `trl` and `tinker` into .venv

models: install ## install the embedded model into the data folder (does nothing where it is already)
	$(BIN)/coderl models install

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed; install it, or say make PYTHON=/path/to/python3." >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

$(BROWSER_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,browser]'
	@touch $@

$(TRAIN_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,train,trl,tinker]'
	@touch $@

$(VLLM_STAMP): pyproject.toml constraints-vllm.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module is needed; install it, or say make PYTHON=/path/to/python3." >&2; exit 1; }
	test -x $(VLLM_VENV)/bin/python || "$(PYTHON)" -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-vllm.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
