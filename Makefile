# Every target prepares the environment that it needs. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export SAM_CLI_TELEMETRY := 0

.PHONY: help setup demo test test-fast lint format ci mlflow bench soak fuzz deploy-local checkov release build clean

help: ## list the targets
	@if [ -t 1 ]; then bold=$$(printf '\033[1m') plain=$$(printf '\033[0m'); fi; \
	awk -F ':.*## ' -v bold="$$bold" -v plain="$$plain" \
	  '/^[a-z-]+:.*## / { printf "  %s%-13s%s %s\n", bold, $$1, plain, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml uv.lock .python-version .ci/setup
	@.ci/setup

setup: $(READY) ## create .venv, with .venv/bin/ridecast (once)

demo: $(READY) ## send real rides through Kinesis and the function, and read the predictions, on this machine
	@ridecast demo $(ARGS)

test: $(READY) ## run all tests (about 13 minutes on two cores)
	@pytest -n 2 --dist loadfile $(ARGS)

test-fast: $(READY) ## run the fast tests on two cores (about half a minute)
	@pytest -m "not slow" -n 2 lambda_function tests $(ARGS)

lint: $(READY) ## run ruff, mypy, import contracts, cfn-lint on the transformed template, bandit and zizmor
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@python -m infra.stack.lint
	@bandit --quiet --recursive --skip B101,B403,B404,B506,B603,B608 lambda_function training infra # ruff checks these six
	@zizmor --offline --quiet --persona pedantic .github

format: $(READY) ## format the code with ruff, apply its fixes, and write docs/reference.md
	@ruff format .
	@ruff check --fix .
	@python -m infra.cli.reference

mlflow: $(READY) ## serve MLflow's pages for the tracked runs on http://127.0.0.1:5001
	@case "$$MLFLOW_TRACKING_URI" in http*) echo "MLflow's pages are at $$MLFLOW_TRACKING_URI"; exit;; esac; \
	folder="$${RIDECAST_BUILD:-build}/mlflow"; mkdir -p "$$folder"; MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	mlflow server --host 127.0.0.1 --port 5001 --workers 1 --artifacts-destination "$$folder/artifacts" \
	  --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$$folder/mlflow.db}"

bench: $(READY) ## measure engine, handler and cold start, and compare them with what they replace
	@python -m tests.bench

soak: $(READY) ## send a million rides through faults, reshards and model switches (ARGS="--rides 100000" for fewer)
	@python -m tests.soak $(ARGS)

INPUTS ?= 20000
fuzz: $(READY) ## give new hostile inputs to every decoder (INPUTS=100000 for more)
	@FUZZ_INPUTS=$(INPUTS) pytest -q --timeout 0 --show-capture=no tests/fuzz/test_fuzz_decoders.py $(ARGS)

deploy-local: $(READY) ## deploy, update, roll back and delete the stack with the loop on the local AWS with the real sam (minutes)
	@python -m tests.deploy_local $(ARGS)

checkov: $(READY) ## run checkov on the transformed template, in its own environment
	@python -m infra.stack.checkov

release: $(READY) ## build the release with its bill of materials in build/release
	@rm -rf build/release && python -m infra.stack.release

build: $(READY) ## build the deployable package in .aws-sam/build (ARGS="--architecture x86_64" for another processor)
	@python -m infra.stack.package $(ARGS)

ci: lint test ## run lint and all tests

clean: ## remove the environment and all build output
	rm -rf .venv .tools build .aws-sam .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
