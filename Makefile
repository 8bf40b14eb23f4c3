# make study: install, run the default study, say where its report is.
# make test:  install, check the style, run every test.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: study test test-fast lint lock small_models clean

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv || { echo "Python's venv module is needed: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

study: .venv/installed
	$(BIN)/snakemake
	@echo "The report is in $(CURDIR)/results/default/report.html"

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15

test-fast: .venv/installed
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not slurm"

small_models: .venv/installed
	$(BIN)/snakemake small_models

lock:
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v -e ' @ ' -e '^pip==' > requirements.lock

clean:
	rm -rf results logs .snakemake
