# `make help` lists the targets; each does its own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The newest Python that the locked requirements are for; pyenv names some that it does not run.
PYTHON ?= $(shell for v in 3.13 3.12 3.11; do python$$v -c "" 2>/dev/null && { command -v python$$v; exit; }; done; echo python3)
DIR ?= .
BIN := .venv/bin
READY := .venv/.ready

# Libraries' telemetry stays off unless the caller sets these otherwise.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DVC_NO_ANALYTICS ?= 1
export BENTOML_DO_NOT_TRACK ?= True
export GX_ANALYTICS_ENABLED ?= false
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Without cached bytecode every process compiles TensorFlow's sources anew: 30 s instead of 10.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(READY): requirements-uv.lock requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" || { echo "error: the locked requirements are for Python 3.11 to 3.13, and $(PYTHON) is none of them. Name one: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip install --quiet --system-certs --python .venv --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --system-certs --python .venv --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(READY)  ## make .venv with the locked requirements

.PHONY: demo
demo: $(READY)  ## run the whole pipeline on drawn faces, in demo/
	$(BIN)/mien demo

.PHONY: story
story: $(READY)  ## replay the loop on drawn faces, in story/: good batch, poisoned batch, rollback
	$(BIN)/mien story

.PHONY: retrain
retrain: $(READY)  ## fetch, retrain, judge, promote, keep and report (ARGS=--no-promote: only judge)
	@code=0; $(BIN)/mien retrain $(ARGS) || code=$$?; case $$code in 0 | 10 | 11) ;; *) exit $$code ;; esac

.PHONY: test
test: $(READY)  ## run the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -rs -m 'not long'

.PHONY: test-long
test-long: $(READY)  ## run whole pipelines: each kill and fault, and retrain.yml against real local servers
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -rs -m long

.PHONY: test-fresh
test-fresh: $(READY)  ## install wheel and serving requirements alone, and use them; hold the service against its OpenAPI (wants a package index)
	MIEN_FRESH=1 $(BIN)/python -m pytest -rs tests/serving/test_fresh.py tests/serving/test_openapi.py tests/cluster/test_bare_machine.py

.PHONY: baselines
baselines: $(READY)  ## train published recipes under this protocol, in baselines/
	$(BIN)/mien baselines

.PHONY: ablations
ablations: $(READY)  ## what each part of the recipe is worth, in ablations/
	$(BIN)/mien ablations

.PHONY: lint
lint: $(READY)  ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Only the command line changes these: many shells and containers have a HOST and a PORT that mean something else.
HOST := 127.0.0.1
ui: PORT := 5000
serve: PORT := 3000

.PHONY: ui
ui: $(READY)  ## browse the runs in MLflow (DIR=demo: the demo's; PORT=5000)
	@$(BIN)/python -m mien.serving.port $(HOST) $(PORT)
	@echo "http://$(HOST):$(PORT)/#/experiments?workflowType=machine_learning"
	cd $(DIR) && mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host $(HOST) --port $(PORT)

.PHONY: serve
serve: $(READY)  ## serve the packaged champion (DIR=demo: the demo's; PORT=3000; HOST=0.0.0.0: to other machines too)
	@$(BIN)/python -m mien.serving.port $(HOST) $(PORT)
	cd $(DIR) && bentoml serve . --host $(HOST) --port $(PORT)

.PHONY: bench
bench: $(READY)  ## training speed of every family
	$(BIN)/python benchmarks/training.py

.PHONY: bench-serve
bench-serve: $(READY)  ## serving's speed, against fer, Keras and OpenCV; makes the peer's environment (8 GB) once
	$(BIN)/python benchmarks/serve.py

.PHONY: lock
lock: $(READY)  ## compile the requirements files anew from pyproject.toml
	echo 'uv>=0.9' | $(BIN)/uv pip compile - $(COMPILE) -o requirements-uv.lock
	$(BIN)/uv pip compile pyproject.toml --extra train --extra servers --extra dev $(COMPILE) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra serve $(COMPILE) -o requirements-serving.lock
	$(BIN)/uv pip compile pyproject.toml --extra train --extra servers --extra gpu $(COMPILE) -o requirements-gpu.lock

COMPILE := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
