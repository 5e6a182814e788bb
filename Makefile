# Two commands do everything on a fresh machine: `make demo` and `make test`. Nothing is downloaded but packages.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
OUT ?= out/demo

.PHONY: demo test test-all lint bench-aggregator mini clean

demo: $(STAMP)
	$(BIN)/sama demo --out $(OUT) $(if $(VIDEO),--video $(VIDEO))

test: $(STAMP)
	$(BIN)/python -m pytest

test-all: $(STAMP)
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(STAMP)
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

bench-aggregator: $(STAMP)
	$(BIN)/python benchmarks/aggregator_gain.py

# The virtual environment is made once and again whenever the requirements change.
$(STAMP): setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet -e ".[all,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) out build *.egg-info
