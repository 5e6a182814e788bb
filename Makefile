# Two commands do everything on a fresh machine: `make demo` and `make test`. Nothing is downloaded but packages.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
OUT ?= out/demo

.PHONY: demo test test-all test-upstream lint bench-aggregator clean

demo: $(STAMP)
	$(BIN)/sama demo --out $(OUT) $(if $(VIDEO),--video $(VIDEO))

test: $(STAMP)
	$(BIN)/python -m pytest

test-all: $(STAMP)
	$(BIN)/python -m pytest -m "slow or not slow"

# The real upstream trees, on both ends of the supported stacks; needs a checkout of OpenGVLab/InternVL:
#   make test-upstream SAMA_INTERNVL_ROOT=.../InternVL/internvl_chat SAMA_INTERNVL35_ROOT=.../InternVL/internvl_chat_gpt_oss
UPSTREAM_SITES ?= .upstream
STACKS = tests/hosts/internvl_chat
$(UPSTREAM_SITES)/%/.installed: $(STACKS)/%.txt $(STACKS)/both.txt | $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(UPSTREAM_SITES)/$* -r $(STACKS)/$*.txt -r $(STACKS)/both.txt
	touch $@

# ms-swift and LLaMA-Factory parse the flags of their recipes.
$(UPSTREAM_SITES)/recipes/.installed: tests/bridges/recipes.txt | $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(UPSTREAM_SITES)/recipes -r $<
	touch $@

test-upstream: $(addprefix $(UPSTREAM_SITES)/,$(addsuffix /.installed,pinned modern pinned35 recipes))
	SAMA_UPSTREAM_SITES=$(UPSTREAM_SITES) SAMA_RECIPE_SITE=$(abspath $(UPSTREAM_SITES)/recipes) $(BIN)/python -m pytest \
	    tests/hosts/internvl_chat/test_upstream*.py tests/bridges/test_recipe_hosts.py -m slow -rs

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
