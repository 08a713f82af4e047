# One command for each thing that a person or CI does. `make help` lists them.
# CLUSTER=current|kind|local chooses the cluster of demo, test and e2e (e2e/cluster.py says how, when it is not set).

PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help venv constraints crds crds-check docs lint format test unit llm fuzz e2e e2e-llm demo down images cluster-up cluster-down

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/.made ## The virtual environment with the project in it, for development

.venv/.made: pyproject.toml constraints.txt scripts/venv.sh
	@PYTHON=$(PYTHON) scripts/venv.sh
	@touch $@

constraints: ## Renew constraints.txt with the newest versions that pyproject.toml allows, and the test image's
	@PYTHON=$(PYTHON) scripts/constraints.sh
	@PYTHON=$(PYTHON) scripts/constraints_llm_cpu.sh

crds: venv ## Generate crds/ (and the chart's copy) from the models
	$(BIN)/python -m rayservice_operator.api.crd --out crds --chart charts/rayservice-operator

docs: venv ## Renew what the documentation takes from the code
	$(BIN)/python -m scripts.upgrade_diagram
	$(BIN)/python -m scripts.lint_rules
	$(BIN)/python -m scripts.changes_table
	$(BIN)/python -m scripts.cli_docs

crds-check: venv
	$(BIN)/python -m rayservice_operator.api.crd --out crds --chart charts/rayservice-operator --check
	$(BIN)/python -m scripts.upgrade_diagram --check
	$(BIN)/python -m scripts.lint_rules --check
	$(BIN)/python -m scripts.changes_table --check
	$(BIN)/python -m scripts.cli_docs --check

lint: venv crds-check ## Format, lint, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --strict e2e
	$(BIN)/lint-imports

format: venv ## Put the code into the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit: venv ## Unit, property, simulation and API tests: no cluster, no root
	$(BIN)/python -m pytest tests $(PYTEST_ARGS)

llm: venv ## LLM applications on a real vLLM; RAY_TEST_VENV names an environment that has it
	$(BIN)/python -m pytest tests/serve_runtime/llm/*on_vllm.py $(PYTEST_ARGS)

fuzz: venv ## Torn manifests against lint for a minute (FUZZ_SECONDS)
	$(BIN)/python -m tests.lint.fuzz --seconds $(FUZZ_SECONDS)

test: unit ## All of the above, then one end-to-end case on real pods
	$(BIN)/python -m pytest e2e -m smoke $(PYTEST_ARGS)

e2e: venv ## The end-to-end suite on the chosen cluster
	$(BIN)/python -m pytest e2e $(PYTEST_ARGS)

e2e-llm: venv ## Of these, the cases with real vLLM (their image has 3 GB)
	$(BIN)/python -m pytest e2e -m llm $(PYTEST_ARGS)

demo: venv ## From nothing to an answered request and a hot update
	@$(BIN)/python -m e2e.demo

down: ## Remove what demo, test and e2e made (PURGE=1: the cache too)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m e2e.demo down $(if $(PURGE),--purge); else echo "nothing was made here"; fi

images: venv ## Build the images; with a running cluster: python -m e2e.images load
	@$(BIN)/python -m e2e.images build

cluster-up: venv ## Only the local cluster
	@$(BIN)/python -m e2e.localkube up

cluster-down: venv ## Remove the local cluster
	@$(BIN)/python -m e2e.localkube down
