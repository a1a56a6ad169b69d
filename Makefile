# What one does in this repository. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
TOOLS := $(VENV)/dev-tools.txt
CONFIG ?= examples/config/ray.tiny.json
KILLS ?= 150

DEPLOY = $(PYTHON) -m ray.deploy
# Commands with a default of their own take CONFIG only when it was given.
GIVEN_CONFIG = $(if $(filter file,$(origin CONFIG)),,--config '$(CONFIG)')

BENCH = $(PYTHON) -m ray.bench
# The gateway that is measured: the one at URL, or one that is started with CONFIG; by default the one on port 3000.
MEASURED = $(if $(URL),--url '$(URL)') $(GIVEN_CONFIG)
EMAIL = --workload examples/workloads/email-workload.jsonl --no-cache
EMAIL_1B = --workload examples/workloads/email-1b-workload.jsonl
# A run that must hold the baseline of this name, which is its label and the name of its report as well.
ASSERTED = --label $(1) --baseline examples/benchmarks/baselines/$(1).json --assert-baseline \
	--output .ray/benchmarks/$(1).latest.json
HISTORY = --history-dir .ray/benchmarks/history

.DEFAULT_GOAL := help
.PHONY: help run demo test gate docs bench soak-jobs clean python
.PHONY: validate-all deploy-smoke smoke smoke-public smoke-async smoke-public-async docs-links release-check
.PHONY: model-stage model-stage-smoke swap-plan storage
.PHONY: bench-email bench-1b bench-formats-1b eval-1b
.PHONY: bench-assert-cx23 bench-assert-cax11 bench-assert-cx23-1b bench-assert-8gb-1b
.PHONY: autotune-email autotune-1b autotune-1b-8gb

help:  ## list these targets
	@echo "Ray: a lean AI gateway for one cheap box."
	@echo
	@grep -E '^[a-z0-9-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*  ## (.*)/  make \1|\2/' | \
		while IFS='|' read -r target meaning; do printf '%-28s %s\n' "$$target" "$$meaning"; done
	@echo
	@echo "  PYTHON=python3.12 names another Python (3.11 or newer); CONFIG=FILE another config for 'run', 'smoke', 'model-stage'."
	@echo "  'bench-…' and 'eval-1b' ask the gateway at URL (default http://127.0.0.1:3000), or start one with CONFIG; OPTIONS adds to them."

run: python  ## the gateway with a mock model, at once; needs nothing but Python
	$(PYTHON) -m ray --config $(CONFIG)

demo: python  ## the gateway in front of a real llama-server and a real small model
	$(PYTHON) -m examples.demo

test: $(TOOLS)  ## ruff, mypy and all tests, in .venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest

# Every step is for itself and the first that fails ends it; the last ones take seconds.
gate: $(TOOLS)  ## all that has to hold before a release: the tests, every example config, a gateway in four modes
	$(DEPLOY) storage --path '$(CURDIR)' --path "$${TMPDIR:-/tmp}" --min-free-mib "$${RAY_TEST_MIN_FREE_SPACE_MIB:-1024}"
	$(PYTHON) -m compileall -q ray tests examples
	$(MAKE) --no-print-directory test
	$(MAKE) --no-print-directory validate-all
	RAY_API_KEYS=smoke $(DEPLOY) validate --config examples/config/ray.sub1b.public.json
	$(DEPLOY) gateway-smoke
	$(DEPLOY) gateway-smoke --public-safety
	$(DEPLOY) gateway-smoke --async-queue
	$(DEPLOY) gateway-smoke --public-safety --async-queue
	$(MAKE) --no-print-directory deploy-smoke model-stage-smoke docs-links

docs: python  ## write what is generated: docs/configuration.md, the schema, docs/doctor.md, the files in deploy/vps
	$(PYTHON) -m ray.config.export
	$(DEPLOY) doctor --list --markdown > docs/doctor.md.new
	mv docs/doctor.md.new docs/doctor.md
	$(DEPLOY) smoke --update

validate-all: python  ## look for mistakes in every example config
	$(DEPLOY) validate-all

smoke: python  ## start a gateway with CONFIG, ask it, stop it
	$(DEPLOY) gateway-smoke --config '$(CONFIG)'

smoke-public: python  ## the same with keys and a request limit that must hold
	$(DEPLOY) gateway-smoke --config '$(CONFIG)' --public-safety

smoke-async: python  ## the same with a durable job
	$(DEPLOY) gateway-smoke --config '$(CONFIG)' --async-queue

smoke-public-async: python  ## the same with both
	$(DEPLOY) gateway-smoke --config '$(CONFIG)' --public-safety --async-queue

deploy-smoke: python  ## render every public config, and compare the files in deploy/vps with a render
	$(DEPLOY) smoke

docs-links: python  ## follow the links of the documents
	$(DEPLOY) docs-links

release-check: python  ## is this tree ready to be tagged as VERSION?
	@test -n '$(VERSION)' || { echo "Name the version:  make release-check VERSION=1.2.3"; exit 1; }
	$(DEPLOY) release-check '$(VERSION)'

model-stage: python  ## say how to install the llama-server and the model of CONFIG
	$(DEPLOY) model-stage $(GIVEN_CONFIG)

model-stage-smoke: python  ## the same for every public config, in short
	$(DEPLOY) model-stage-smoke

swap-plan: python  ## print a script that adds a swap file
	$(DEPLOY) swap-plan

storage: python  ## is there room everywhere that a deploy writes to?
	$(DEPLOY) storage

bench: python  ## measure the gateway itself: start, memory, requests per second
	$(BENCH) gateway

bench-email: python  ## the e-mail workload against a gateway: latency, tokens per second, quality
	$(BENCH) run $(MEASURED) $(EMAIL) --clients 2 --requests 5 $(OPTIONS)

bench-1b: python  ## the e-mail workload for models of about 1B, with a history in .ray
	$(BENCH) run $(MEASURED) $(EMAIL_1B) --no-cache --clients 1 --requests 5 $(HISTORY) $(OPTIONS)

bench-formats-1b: python  ## the same in each prompt format; CONFIG, by default that for 1B, is what is varied
	$(BENCH) formats $(or $(strip $(MEASURED)),--config examples/config/ray.1b.json) $(EMAIL_1B) --clients 1 --requests 10 \
		--label email-1b-prompt-formats --output .ray/benchmarks/email-1b-prompt-formats.latest.json $(HISTORY) $(OPTIONS)

eval-1b: python  ## the golden set by prompt family: before and after a change of wording
	$(BENCH) eval $(MEASURED) --workload examples/evals/email-prompt-families-1b.json --clients 1 \
		--label email-prompt-families-1b --output .ray/evals/email-prompt-families-1b.latest.json \
		--history-dir .ray/evals/history $(OPTIONS)

bench-assert-cx23: python  ## does a gateway do what a CX23 with a model below 1B should? exit 1 when not
	$(BENCH) run $(MEASURED) $(EMAIL) --clients 2 --requests 16 $(call ASSERTED,hetzner-cx23-sub1b) $(OPTIONS)

bench-assert-cax11: python  ## the same for a CAX11 (ARM)
	$(BENCH) run $(MEASURED) $(EMAIL) --clients 2 --requests 16 $(call ASSERTED,hetzner-cax11-sub1b) $(OPTIONS)

bench-assert-cx23-1b: python  ## the same for a CX23 with a model of about 1B
	$(BENCH) run $(MEASURED) $(EMAIL_1B) --no-cache --clients 1 --requests 10 \
		$(call ASSERTED,hetzner-cx23-1b) $(HISTORY) $(OPTIONS)

bench-assert-8gb-1b: python  ## the same for one machine with 8 GB and a model of about 1B
	$(BENCH) run $(MEASURED) $(EMAIL_1B) --no-cache --clients 2 --requests 16 \
		$(call ASSERTED,single-node-8gb-1b) $(HISTORY) $(OPTIONS)

autotune-email: python  ## search better settings for the e-mail workload; CONFIG, by default that for a CX23, is where it starts
	$(BENCH) autotune $(or $(GIVEN_CONFIG),--config examples/config/ray.hetzner-cx23-qwen0.6b.json) \
		--workload examples/workloads/email-workload.jsonl --clients 2 --requests 16 $(OPTIONS)

autotune-1b: python  ## the same for models of about 1B
	$(BENCH) autotune $(or $(GIVEN_CONFIG),--config examples/config/ray.1b.json) $(EMAIL_1B) --clients 1 --requests 10 $(OPTIONS)

autotune-1b-8gb: python  ## the same for one machine with 8 GB
	$(BENCH) autotune $(or $(GIVEN_CONFIG),--config examples/config/ray.1b.8gb.json) $(EMAIL_1B) --clients 2 --requests 16 $(OPTIONS)

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
