# Two commands: `make demo` and `make test`. Both make the environment in .venv first, on any machine with Python 3.11.
PYTHON ?= python3
BIN := .venv/bin
# uv does not read pip's configuration: hand it the places pip looks in, so that both install the same torch.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_LINK_MODE ?= copy
# .venv is ours: without its byte code each of the many processes would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test coverage lab env env-test clean

env: .venv/installed-all
env-test: .venv/installed-dev

.venv/installed-%: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 11) and 'bsaviz needs Python 3.11 or newer: make PYTHON=python3.11 ...' or 0)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[$*]"
	@touch $@

demo: env
	$(BIN)/bsaviz demo --out outputs

# One thread a test process: the tests themselves fill the cores, and threads that spin for each other slow all of them.
# A file is one process's: what its tests share is made once. The order is tests/conftest.py's.
test: env-test
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations 20

coverage: env-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --cov bsaviz --cov bsa_kernels --cov-report term-missing:skip-covered

lab: env
	$(BIN)/bsaviz lab

clean:
	rm -rf .venv outputs
