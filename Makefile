# Everything below runs in its own environment, .venv, made on first use.
PYTHON ?= python3
SCALE ?= laptop
BIN := .venv/bin
export OPENBLAS_NUM_THREADS ?= 1

EXPERIMENTS := relu_w256 depths grid width_scaling ablation depth_scaling depth_budget regimes \
	gelu tanh_critical sigmoid gelu_critical wall_clock flops low_probability
TRAINING := distill catastrophe catastrophe_shapes two_causes

# Tests of processes, files and words, where no processor's numbers matter.
NO_NUMBERS := cli/test_cli cli/test_cli_inputs experiments/test_config faults/test_faults \
	faults/test_fuzz networks/test_importers_fuzz networks/test_importers_modules \
	networks/test_importers_nnet networks/test_importers_onnx networks/test_importers_sklearn \
	networks/test_onnx_graphs networks/test_onnx_operators reproduction/test_benchmark \
	results/test_store sweep/test_engines sweep/test_resource_limits sweep/test_status \
	sweep/test_sweep_processes test_memory test_packaging test_skips test_versions

.PHONY: help install demo examples reproduce-all reference bench quick test lint verify \
	test-kernels calibrate docs site pins ci clean

help:  ## Print this help
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Set-up

install: .venv/installed  ## Make the environment .venv and install cumprop into it

clean:  ## Remove the environment, caches and the site (results and figures stay)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build site

##@ Experiments (SCALE=smoke, laptop or paper; laptop by default)

demo: install  ## Sweep at width 256, then Figure 1 in figures/ (≤ 5 minutes)
	$(BIN)/cumprop sweep configs/relu_w256.yaml --scale $(SCALE)
	$(BIN)/cumprop plot results/relu_w256

reproduce-all: install  ## Every experiment, figure and table (laptop: ≤ 90 minutes on 2 cores)
	$(BIN)/cumprop sweep $(EXPERIMENTS:%=configs/%.yaml) --scale $(SCALE)
	@if $(BIN)/python -c "import torch" 2> /dev/null; \
		then for name in $(TRAINING); do \
			$(BIN)/cumprop train configs/$$name.yaml --scale $(SCALE) || exit $$?; done; \
		else echo "training is left out: it needs PyTorch ($(BIN)/pip install torch)"; fi
	$(BIN)/cumprop plot results
	$(BIN)/cumprop report results

reference: install  ## Keep scores, figures and verdicts of results/ (but the map of docs/regimes.md) under version control
	$(BIN)/cumprop score results > /dev/null
	for name in $(filter-out regimes,$(EXPERIMENTS)); do mkdir -p results/reference/$$name && \
		cp results/$$name/scores.parquet results/$$name/plan.json results/reference/$$name/; done
	for name in $(TRAINING); do $(BIN)/cumprop results compact results/$$name && \
		mkdir -p results/reference/$$name && \
		cp results/$$name/parts.parquet results/$$name/plan.json results/reference/$$name/; done
	$(BIN)/cumprop plot results/reference --out figures/reference
	$(BIN)/cumprop report results/reference --points results/reference --markdown docs/REPRODUCTION.md

bench: install  ## Seconds of estimators and of sampling to the same error (half an hour), beside PEER=PATH if given; writes docs/BENCHMARKS.md
	$(BIN)/cumprop bench --markdown docs/BENCHMARKS.md
	$(BIN)/cumprop bench
ifdef PEER
	$(BIN)/cumprop bench --peer $(PEER)
	$(BIN)/cumprop bench --peer $(PEER) --width 1024 --order 1 --order 2 --order 3
endif

examples: .venv/installed-dev  ## Every estimator on three trained networks (2 minutes; needs scikit-learn)
	$(BIN)/python examples/compare.py

##@ Development

quick: .venv/installed-dev  ## The tests that a change breaks first (≤ 1 minute)
	$(BIN)/python -m pytest -m "not verify and not slow and not thorough" -n 2 -q --durations=5

test: .venv/installed-dev  ## The test suite (≤ 8 minutes; tests without their extra are skipped by name)
	$(BIN)/python -m pytest -m "not verify" -n 2 -rs -q

lint: .venv/installed-dev  ## Style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

verify: .venv/installed-dev  ## Acceptance tests: statistics and speed (over an hour); writes docs/VERIFIED.md
	$(BIN)/python -m pytest -m verify -q -s tests/verify

test-kernels: .venv/installed-dev  ## The tests of numbers, but slow ones, with the BLAS and SIMD of older x86 processors
	$(BIN)/python .ci/kernels.py -m "not verify and not slow" -n 2 -q $(NO_NUMBERS:%=--ignore=tests/%.py) \
		--ignore=tests/docs --ignore=tests/plots

calibrate: .venv/installed-dev  ## Fit the laws of expected errors to docs/calibration.csv
	$(BIN)/python docs/calibrate.py

docs: .venv/installed-dev  ## Write docs/api.md and docs/cli.md from docstrings and --help
	$(BIN)/python docs/generate.py

site: .venv/installed-docs  ## The documentation as a site in site/ (a broken link is an error)
	$(BIN)/python docs/site.py

pins: .venv/installed-dev  ## Write the requirements files from pyproject.toml
	$(BIN)/python .ci/versions.py pins

ci:  ## Everything that continuous integration runs
	bash .ci/run

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cumprop needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: requirements.txt pyproject.toml | .venv/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv/installed-docs: docs/requirements.txt .venv/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -r docs/requirements.txt
	@touch $@
