# make install   .venv with the `atelier` command
# make demo      the whole service, one training, and what came of it in out/
# make test      everything but the slow tests
# make check     lint, format, types, imports
# make clean     removes .venv, caches, out/ and the demo's home; never .atelier, which holds your data

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_FLAGS ?= -n 2

# The first Python of at least 3.11; `make PYTHON=/path/to/python install` chooses another.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$name; break; fi; done)

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo test check clean test-packages
.DELETE_ON_ERROR:

install: $(VENV)/.installed

demo: install
	@$(BIN)/python -m cli.demo

test: $(VENV)/.installed-tests test-packages check
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -r fEs -m 'not slow'

check: $(VENV)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-packages:
	@scripts/install_test_packages.sh

clean:
	rm -rf $(VENV) out .atelier-demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made. On Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV); the first time this takes some minutes"
	@$(PIP) install --quiet -e '.[train,embedded]' || { $(explain-failure); exit 1; }
	@touch $@

$(VENV)/.installed-tests: pyproject.toml $(VENV)/.installed
	@echo "Installing what the tests need into $(VENV)"
	@$(PIP) install --quiet -e '.[train,embedded,test,check]' || { $(explain-failure); exit 1; }
	@touch $@

define explain-failure
echo "The installation failed; what pip says stands above." && \
echo "If it found no torch==2.13.0: PyTorch is built for 64-bit Linux (glibc) and macOS on arm64, each with certain" && \
echo "versions of Python; this is $$($(BIN)/python -c 'import platform as p; print("Python", p.python_version(), "on", p.system(), p.machine())')."
endef
