# make study: install, run the default study, say where its report is.
# make test:  install, check the style, run every test.
# make docs:  the pages of docs/ as a site, in site/.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: study test test-fast test-pythons lint docs lock small_models clean

# uv installs in a third of pip's time. It does not read pip's settings (of a mirror, say): where it fails, pip does it.
$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed: apt-get install python3-venv"; exit 1; }
	$(PIP) "$$(grep '^uv==' requirements.lock)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock || $(PIP) -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

study: $(VENV)/installed
	$(BIN)/snakemake
	@echo "The report is in $(CURDIR)/results/default/report.html"

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	cd tests && ../$(BIN)/mypy --config-file mypy.ini *.py
	cd benchmarks && ../$(BIN)/mypy --config-file ../tests/mypy.ini *.py
	$(BIN)/mypy --config-file tests/mypy.ini -p recipes
	$(BIN)/snakemake --lint

test: lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15

test-fast: $(VENV)/installed
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not slurm"

# The fast tests on each other Python that GenView supports and this machine has.
test-pythons:
	.ci/pythons

docs: $(VENV)/installed
	$(BIN)/mkdocs build --strict

small_models: $(VENV)/installed
	$(BIN)/snakemake small_models

lock:
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v -e ' @ ' -e '^pip==' > requirements.lock

clean:
	rm -rf results logs .snakemake
