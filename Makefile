# Every target sets up what it needs. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export SAM_CLI_TELEMETRY := 0

.PHONY: help setup demo test test-fast lint format ci mlflow bench soak fuzz deploy-local checkov release build clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-13s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml uv.lock .python-version .ci/setup
	@.ci/setup

setup: $(READY) ## make .venv with .venv/bin/ridecast in it (once)

demo: $(READY) ## real rides through Kinesis, the function and out as predictions, on this machine
	@ridecast demo $(ARGS)

test: $(READY) ## every test (some 7 minutes)
	@pytest -n 2 --dist loadfile $(ARGS)

test-fast: $(READY) ## the fast tier, on two cores (some 15 s)
	@pytest -m "not slow" -n 2 $(ARGS)

lint: $(READY) ## ruff, mypy, import contracts, cfn-lint on the transformed template, bandit, zizmor
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@python -m infra.stack.lint
	@zizmor --offline --quiet --persona pedantic .github

format: $(READY) ## put the code into its house style
	@ruff format .
	@ruff check --fix .

mlflow: $(READY) ## MLflow's pages on what was tracked, on http://127.0.0.1:5001
	@case "$$MLFLOW_TRACKING_URI" in http*) echo "MLflow's pages are at $$MLFLOW_TRACKING_URI"; exit;; esac; \
	mkdir -p build/mlflow; MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	mlflow server --host 127.0.0.1 --port 5001 --workers 1 --artifacts-destination build/mlflow/artifacts \
	  --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///build/mlflow/mlflow.db}"

bench: $(READY) ## cost of engine, handler and cold start, beside what they replace
	@python -m tests.bench

soak: $(READY) ## a million rides through faults, reshards and model switches (ARGS="--rides 100000" for fewer)
	@python -m tests.soak $(ARGS)

fuzz: $(READY) ## hostile inputs at every decoder (ARGS="--inputs 100000" for more)
	@python -m tests.fuzz $(ARGS)

deploy-local: $(READY) ## a stack's whole life by the real sam, on the embedded AWS (a minute)
	@python -m tests.deploy_local $(ARGS)

checkov: $(READY) ## checkov on the transformed template, in an environment of its own
	@python -m infra.stack.checkov

release: $(READY) ## the deployable release with its bill of materials, in build/release
	@rm -rf build/release && python -m infra.stack.release

build: $(READY) ## the deployable package, in .aws-sam/build (ARGS="--architecture x86_64" for another processor)
	@python -m infra.stack.package $(ARGS)

ci: lint test ## what CI runs

clean: ## remove the environment and everything built
	rm -rf .venv .tools build .aws-sam .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
