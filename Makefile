# make install   .venv with the `atelier` command
# make demo      the whole service, one training, and what came of it in out/
# make test      everything but the slow tests
# make chaos     kills, freezes and outages over real jobs, more than an hour; into docs/reliability.md (CHAOS_SEED=1)
# make fuzz      Schemathesis over the live service, some minutes; figures for docs/security.md (FUZZ_SEED=1)
# make check     lint, format, types, imports
# make bench-quality   what adapters learn on the bundled base, into out/quality.md (docs/quality.md tells what came of it)
# make test-long     what takes too long for .ci/run: the measuring programs on small shapes
# make bench         jobs and steps beside other trainers, on an idle machine, into docs/benchmarks.md (BENCH_FLAGS)
# make bench-api       the API under load, on an idle machine, into docs/benchmarks.md (BENCH_FLAGS)
# make bench-endurance a long job, two at once, many photos, on an idle machine, into docs/benchmarks.md
# make gpu-check     one NVIDIA GPU in eight minutes, without a network, into out/gpu-check.md (GPU_CHECK_FLAGS)
# make lock      requirements/ from pyproject.toml: versions and hashes
# make audit     what is known against the locked packages
# make clean     removes .venv, caches, out/ and the demo's home; never .atelier, which holds your data

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# pip compiles one file after the other, and all of them: a minute on one core. Of the largest folders hardly a part is
# imported, which is compiled then. What does not compile is for other versions of Python.
PIP_INSTALL := $(PIP) install --quiet --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/(transformers/models|diffusers/pipelines|pip|networkx|tests)/' $(VENV)/lib || true
PYTEST_FLAGS ?= -n 4 --dist worksteal

# The first Python of at least 3.11; `make PYTHON=/path/to/python install` chooses another.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$name; break; fi; done)

export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

CHAOS_SEED ?= 1
FUZZ_SEED ?= 1
TORCH := $(shell grep -o 'torch==[0-9.]*' pyproject.toml)

.PHONY: install demo test test-long chaos fuzz bench bench-api bench-endurance bench-quality gpu-check check lock audit clean test-packages
.DELETE_ON_ERROR:

install: $(VENV)/.installed

demo: install
	@$(BIN)/python -m cli.demo

test: $(VENV)/.installed-tests test-packages check
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -r fEs -m 'not slow and not long'

chaos: $(VENV)/.installed-tests
	$(BIN)/python -m tests.chaos faults --faults 200 --jobs 60 --seed $(CHAOS_SEED) --write docs/reliability.md
	$(BIN)/python -m tests.chaos production --faults 10 --jobs 6 --seed $(CHAOS_SEED) --write docs/reliability.md
	$(BIN)/python -m tests.chaos stops --cancels 100 --pauses 50 --seed $(CHAOS_SEED) --write docs/reliability.md
	$(BIN)/python -m tests.chaos generations --jobs 10 --generations 40 --faults 12 --seed $(CHAOS_SEED) --write docs/reliability.md
	$(BIN)/python -m pytest -r fEs -m 'slow or long' tests/worker/test_byte_identity.py

fuzz: $(VENV)/.installed-tests
	FUZZ_SEED=$(FUZZ_SEED) $(BIN)/python -m pytest -s -r fEs -m long tests/fuzz

test-long: $(VENV)/.installed-tests test-packages
	$(BIN)/python -m pytest -r fEs -m long tests/bench

bench: $(VENV)/.installed-tests
	$(BIN)/python -m bench.speed --write docs/benchmarks.md $(BENCH_FLAGS)

bench-api: $(VENV)/.installed-tests test-packages
	$(BIN)/python -m bench.api --write docs/benchmarks.md $(BENCH_FLAGS)

bench-endurance: $(VENV)/.installed-tests
	$(BIN)/python -m bench.endurance --write docs/benchmarks.md
	$(BIN)/python -m bench.photos --write docs/benchmarks.md

bench-quality: $(VENV)/.installed-tests test-packages
	$(BIN)/python -m bench.quality $(BENCH_FLAGS)

gpu-check: $(VENV)/.installed
	$(BIN)/python -m bench.gpu_check $(GPU_CHECK_FLAGS)

check: $(VENV)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.check_lengths

test-packages:
	@scripts/install_test_packages.sh
	@scripts/install_generators.sh $(VENV)/generators $(BIN)/python

clean:
	rm -rf $(VENV) out .atelier-demo *.egg-info clients/python/build clients/python/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made. On Debian: apt-get install python3-venv"; exit 1; }

# Every package by its hash, but torch: which build is right depends on the machine. It comes by its version, with
# the libraries that this build names. Atelier and its Python client are built by the setuptools of the lock, not by
# today's.
$(VENV)/.installed: pyproject.toml clients/python/pyproject.toml requirements/local.txt | $(BIN)/python
	@echo "Installing into $(VENV); the first time this takes some minutes"
	@$(PIP_INSTALL) --require-hashes --no-deps -r requirements/local.txt || { $(explain-failure); exit 1; }
	@$(PIP_INSTALL) $(TORCH) || { $(explain-failure); exit 1; }
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e clients/python -e .
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-tests: requirements/tests.txt $(VENV)/.installed
	@echo "Installing what the tests need into $(VENV)"
	@$(PIP_INSTALL) --require-hashes --no-deps -r requirements/tests.txt || { $(explain-failure); exit 1; }
	@$(COMPILE)
	@touch $@

# requirements/ anew, after the dependencies in pyproject.toml have changed; LOCK_FLAGS=--upgrade takes the newest.
lock: $(VENV)/.installed
	$(PIP) install --quiet uv
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/lock_dependencies.sh $(LOCK_FLAGS)

# Known holes of what is locked; asks PyPI.
audit: $(VENV)/.installed
	$(PIP) install --quiet pip-audit
	for file in requirements/*.txt; do $(BIN)/pip-audit --strict --disable-pip --require-hashes -r $$file || exit 1; done

define explain-failure
echo "The installation failed; what pip says stands above." && \
echo "If it found no torch==2.13.0: PyTorch is built for 64-bit Linux (glibc) and macOS on arm64, each with certain" && \
echo "versions of Python; this is $$($(BIN)/python -c 'import platform as p; print("Python", p.python_version(), "on", p.system(), p.machine())')."
endef
