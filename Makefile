# `make` lists the targets. Defaults of the settings are in the notebooks and in mglib, not here.
SETTINGS := PROFILE SEED SEEDS WEIGHTS LANGUAGE BITS NOTEBOOKS FORCE PRETRAIN ONLY IMAGE QUESTION IMAGES QUESTIONS \
    OUT BEAMS PROJECTION DATA LORA REPLAY TO STAGE GPUS ACCUMULATE ALLOW_MISSING
# Each that is given reaches the program in its environment exactly as it was typed: neither make nor a shell reads
# what is in it ($, quotes). LANGUAGE counts on the command line alone, since many shells set it to the reader's.
from = $(filter command $(if $(filter LANGUAGE,$(1)),,environment),$(firstword $(origin $(1))))
$(foreach name,$(SETTINGS),$(if $(and $(call from,$(name)),$(value $(name))),$(eval export MGLIB_$(name) := $$(value $(name)))))
unexport $(SETTINGS)
typed := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unknown := $(filter-out $(SETTINGS) ENV_FOLDER python SHELL,$(typed))
$(if $(unknown),$(warning $(unknown): no setting, so it only enters the environment (docs/commands.md lists them)))

# Where conda is at hand it makes the environment, else venv does; both install requirements.lock.
ENV_FOLDER ?= $(if $(shell command -v mamba || command -v conda),.conda,.venv)
python := $(ENV_FOLDER)/bin/python

.DEFAULT_GOAL := help
.PHONY: help env reproduce pretrain tune test lab chat answer finetune export plan train bench publish clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  settings: PROFILE=mini  LANGUAGE=folder|hub-name  BITS=8|4  SEED=0  SEEDS=3  WEIGHTS=wheel|hub  NOTEBOOKS="01 02"  FORCE=1  PRETRAIN=1'

env:  ## install the environment (other targets do it when needed)
	@./environment.sh $(ENV_FOLDER)

reproduce: env  ## train and evaluate: run the notebooks that have changed, then compare with the published numbers
	@$(python) -m mglib reproduce

pretrain: env  ## train BLIP-2 mini again (hours on a CPU, minutes on a GPU); resumes if stopped
	@$(python) -m mglib pretrain

tune: env  ## compare learning rates, initialisations and decodings on val; writes data/tuning/: [ONLY="stage1 decoding"]
	@$(python) -m mglib tune

test: env  ## check style and types and run the tests
	@$(python) -m mglib weights --profile smoke || echo "The weights could not be fetched: the tests that need them are skipped."
	@$(python) -m ruff check .
	@$(python) -m mypy
	@OMP_NUM_THREADS=1 $(python) -m pytest -q -n auto --maxprocesses 4 --dist loadfile

lab: env  ## open JupyterLab with the environment's kernel
	@JUPYTER_PREFER_ENV_PATH=1 $(python) -m jupyterlab --ServerApp.tornado_settings='{"websocket_max_message_size": 268435456}'

chat: env  ## chat about a picture: IMAGE=... [QUESTION=...] [PROJECTION=file.pth or folder] [BEAMS=5]
	@$(python) -m mglib chat

answer: env  ## answer questions about many pictures: IMAGES=folder or QUESTIONS=file.jsonl [OUT=answers.jsonl] [BEAMS=5]
	@$(python) -m mglib answer

finetune: env  ## fine-tune on your own pictures: DATA=folder or file.jsonl [LORA=1] [REPLAY=0] [PROJECTION=start] [OUT=folder]
	@$(python) -m mglib finetune

export: env  ## write trained weights: TO=mglib|pth|transformers [PROFILE=...] [PROJECTION=folder] [OUT=folder]
	@$(python) -m mglib export

plan: env  ## estimate what a full-size profile needs and costs, and which machines it fits: PROFILE=vicuna-7b [BITS=4] [LANGUAGE=...]
	@$(python) -m mglib plan

train: env  ## train stage 1 of a full-size profile: STAGE=1 PROFILE=vicuna-7b GPUS=4 [BITS=4] [ACCUMULATE=2] [ALLOW_MISSING=1]
	@$(python) -m mglib train

bench: env  ## measure the speed of mini here, or on a GPU that of the paper's size: PROFILE=vicuna-7b
	@$(python) -m mglib bench

publish: env  ## copy a finished run into notebooks/ and results/ (the only way in which they change)
	@$(python) -m mglib publish

clean:  ## remove runs/ and data/cache/ (the environment stays)
	@for folder in runs data/cache; do \
	    if [ -d $$folder ]; then du -sh $$folder | sed 's/^/removed /'; rm -rf $$folder; fi; done
