# What one does in this repository. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
TOOLS := $(VENV)/dev-tools.txt
CONFIG ?= examples/config/ray.tiny.json
KILLS ?= 150

.DEFAULT_GOAL := help
.PHONY: help run demo test docs bench soak-jobs clean python

help:  ## list these targets
	@echo "Ray: a lean AI gateway for one cheap box."
	@echo
	@grep -E '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1|\2/' | \
		while IFS='|' read -r target meaning; do printf '%-16s %s\n' "$$target" "$$meaning"; done
	@echo
	@echo "  PYTHON=python3.12 names another Python (3.11 or newer); CONFIG=FILE another config for 'run'."

run: python  ## the gateway with a mock model, at once; needs nothing but Python
	$(PYTHON) -m ray --config $(CONFIG)

demo: python  ## the gateway in front of a real llama-server and a real small model
	$(PYTHON) -m examples.demo

test: $(TOOLS)  ## ruff, mypy and all tests, in .venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest

docs: python  ## write docs/configuration.md and docs/ray.schema.json from the settings
	$(PYTHON) -m ray.config.export

bench: python  ## measure the gateway itself: start, memory, requests per second
	$(PYTHON) -m ray.bench gateway

soak-jobs: python  ## kill a gateway with durable jobs KILLS times and look for a broken promise; some minutes
	$(PYTHON) -m tests.faults.jobs.kills --kills $(KILLS) $(if $(SEED),--seed $(SEED))

clean:  ## remove .venv and what the tools left behind; keeps .cache (the built llama-server, the model)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.cache/*' -prune -exec rm -rf {} +

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Ray needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one:  make PYTHON=python3.12 $(MAKECMDGOALS)"; \
		exit 1; }

# Only the tools of the `dev` extra are installed; Ray itself runs from this directory. The file is the stamp: the
# tools are installed again when pyproject.toml is newer.
$(TOOLS): pyproject.toml | python
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo; \
		echo "This Python can make no virtual environment. On Debian or Ubuntu:  apt-get install python3-venv"; \
		exit 1; }
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' > $@.new
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $@.new
	@mv $@.new $@
