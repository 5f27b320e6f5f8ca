# make run     start everything on this machine, at http://localhost:8080 (no root, no other server)
# make test    run the whole suite; TESTS=tests/archive for a part of it
# make lint    layout, style, types and the import contract
# make format  mend layout and what of style mends itself
# make viewer  fetch the OHIF viewer and build the pages' scripts (run and test do it too)
# make lock    pin the newest dependencies (needs uv)
# make bom     the bill of materials of what is shipped (CycloneDX), as bom.json

PYTHON ?= python3
TESTS ?= tests
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LOCK := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --quiet --group build

.PHONY: run test lint format viewer lock bom

run: .venv/run
	-@$(BIN)/python -m portal.ohif_dist
	-@$(BIN)/python -m portal.ui_dist
	@exec $(BIN)/cloudfilm serve

test: .venv/test
	-@$(BIN)/python -m portal.ohif_dist
	@$(BIN)/python -m portal.ui_dist
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

viewer: .venv/run
	$(BIN)/python -m portal.ohif_dist
	$(BIN)/python -m portal.ui_dist

bom: .venv/run
	@$(BIN)/python -m cloudfilm.bill_of_materials > bom.json

lock:
	$(LOCK) --upgrade --output-file requirements.lock
	$(LOCK) --upgrade --extra dev --output-file requirements-dev.lock

# What is installed is renewed when the list it came from is newer. Every file is checked against its hash.
.venv/run: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing what cloudfilm stands on ..."
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/test: requirements-dev.lock .venv/run
	@echo "Installing what the tests take ..."
	@$(PIP) --require-hashes --requirement requirements-dev.lock
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("cloudfilm needs Python 3.11 or newer: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' || { echo "Python lacks its venv part: install python3-venv."; exit 1; }
	@$(PYTHON) -m venv .venv
