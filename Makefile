# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
HOME_DIR ?= .mangaassist

.PHONY: demo test check bench soak lock clean

demo: $(VENV)/.installed  ## install, play the main job, then serve (HEADLESS=1 stops after the summary)
	$(BIN)/mangaassist --home $(HOME_DIR) demo $(if $(HEADLESS),--no-serve)

test: $(VENV)/.installed-dev  ## install what the tests need and run them
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-dev  ## the same list locally and in CI
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev  ## compare with named peers and floors; never part of the tests
	$(BIN)/python -m benchmarks

soak: $(VENV)/.installed-dev  ## the long form of the fault and error-rate tests
	MANGAASSIST_SOAK=1 $(BIN)/python -m pytest -m soak

lock: $(VENV)/.installed-dev  ## rewrite the version lock from what is installed
	$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable > requirements.lock

clean:
	rm -rf $(VENV) $(HOME_DIR)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) install --constraint requirements.lock --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) install --constraint requirements.lock --editable '.[dev]'
	touch $@ $(VENV)/.installed
