# Everything sets itself up: a virtual environment with the locked versions, and Delta's jars through Spark itself.
# Needs Python 3.11 or newer (PYTHON=...), Java 17 and make.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test test-all test-peers check setup format clean java

demo: setup  ## three insurers, three processes, one private answer
	$(BIN)/spark-mpc demo

test: setup  ## lint, strict types, the suite; what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long and not peers"

test-all: setup  ## what takes minutes, too
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not peers"

test-peers: setup  ## benchmarks beside other libraries, which it installs (gigabytes, once)
	$(BIN)/python -m pytest -m peers

check: setup  ## lint, types, quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not slow and not long and not peers" -n auto

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: java $(READY)

java:
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; version=$$("$$java" -version 2>&1 | head -n 1); \
	case "$$version" in *'"17.'*|*'"17"'*|*'"21.'*|*'"21"'*) ;; *) \
	  echo "Java 17 is needed; $$java says: $$version"; \
	  echo "Install a JDK 17 (openjdk-17-jdk-headless, or Eclipse Temurin) and set JAVA_HOME to it."; exit 1;; esac

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed: name one with PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -m lake
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
