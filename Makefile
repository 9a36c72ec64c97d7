# The two commands: `make demo` (clone → report) and `make test` (set up and test everything).
# `make demo-sglang` is the demo on the other engine.
PYTHON ?= python3
BIN := .venv/bin
# uv where it can be had, told what pip is configured to do; else pip.
INSTALL = $(BIN)/python -P serving/local/packages.py

.PHONY: demo demo-sglang test check toolkit clean

demo: .venv/toolkit
	$(BIN)/aot demo

demo-sglang: .venv/toolkit
	$(BIN)/aot demo demo-sglang

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
	$(INSTALL) -e .
	@# Compile what is used, not all that is installed: a third of the time.
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c 'import aot.analysis.report, aot.scripts.run.experiment, openai'
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/locust --version >/dev/null
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/aot run --help >/dev/null
	@$(BIN)/python -P -m compileall -q scripts/cli configs/kernel
	@touch $@

.venv/dev: .venv/toolkit
	$(INSTALL) -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .engines .models
