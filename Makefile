# Everything a developer or an operator does here. `make help` lists it.
SHELL := /bin/bash
# The distribution's Python if it will do: built with profile-guided optimisation, which pyenv's is not by default, it
# takes a tenth off the CPU of every server.
PYTHON ?= $(shell PATH=/usr/bin:/bin python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& PATH=/usr/bin:/bin command -v python3 || echo python3)
PORT_BASE ?= 8080
CORES ?= 2
export PORT_BASE
BIN := .venv/bin
READY := .venv/.ready
PEERS := .venv/.peers
DRIVER := .venv/.driver
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.DEFAULT_GOAL := help
.PHONY: help setup demo test browser audit up down status logs check format generate verify lock bench bench-ingest bench-mail bench-reliability coverage fuzz extras chaos trace clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --no-deps: the lock names everything, and an older pip would look for a newer `package[extra]` than the locked one
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@echo "installing into .venv (a minute the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -m pip check --quiet --disable-pip-version-check
	@touch $(READY)

$(PEERS): $(READY) bench/requirements.lock
	@echo "installing what the library is measured against"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r bench/requirements.lock
	@touch $(PEERS)

$(DRIVER): $(READY) tests/browser/requirements.lock
	@echo "installing what drives a browser"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/browser/requirements.lock
	@touch $(DRIVER)

setup: $(READY) ## install everything into .venv

demo: $(READY) ## start the system, buy something the hard way, print each promise and what was observed
	@$(BIN)/python -m deploy.local.demo

test: $(READY) ## all tests except browser and long runs
	@$(BIN)/python -m pytest -m "not browser and not long" -q -n $(CORES) --dist loadfile --no-loadscope-reorder

up: $(READY) ## start the whole system in the background
	@$(BIN)/python -m deploy.local up

down: ## stop it; the data stays in .local
	@if [ -f $(READY) ]; then $(BIN)/python -m deploy.local down; fi

status: $(READY) ## what runs, where, since when
	@$(BIN)/python -m deploy.local status

logs: $(READY) ## follow the logs; SERVICE=orders, CORRELATION=id to narrow
	@$(BIN)/python -m deploy.local logs --follow $(SERVICE) $(if $(CORRELATION),--correlation $(CORRELATION))

trace: $(READY) ## the tree of one correlation or trace id: make trace ID=...
	@$(BIN)/python tools/trace.py "$(ID)"

check: $(READY) ## format, lint, types, import contracts, protos, security, generated code, manifests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports
	@cd proto && ../$(BIN)/buf format --diff --exit-code && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against released.binpb
	@$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level medium --recursive services libs/reliability/src deploy sandbox tools
	@$(MAKE) --no-print-directory verify audit
	@$(BIN)/python -m pytest -q tests/manifests

format: $(READY) ## format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@cd proto && ../$(BIN)/buf format --write

generate: $(READY) ## generate proto/gen and the OpenAPI document
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/generate.py
	@$(BIN)/python tools/openapi.py

verify: $(READY) ## fail when generated code is not current
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/generate.py --check
	@$(BIN)/python tools/openapi.py --check

ifeq ($(CHROMIUM),)
browser: ## the pages, with the Chromium that is installed
	@echo "browser tests skipped: no Chromium is installed; on Debian: apt-get install chromium"
else
browser: $(DRIVER)
	@$(BIN)/python -m pytest -q tests/browser -m browser
endif

audit: $(READY) ## known holes in locked packages; AUDIT=required fails where nobody can be asked
	@$(BIN)/python tools/audit.py

lock: $(READY) ## renew every requirements.lock from its requirements.in
	@$(COMPILE) --upgrade -o requirements.lock requirements.in
	@$(COMPILE) --upgrade -c requirements.lock -o deploy/docker/requirements.lock deploy/docker/requirements.in
	@$(COMPILE) --upgrade -c requirements.lock -o bench/requirements.lock bench/requirements.in
	@$(COMPILE) --upgrade -c requirements.lock -o tests/browser/requirements.lock tests/browser/requirements.in

bench: $(READY) ## what a purchase, a cart, a campaign and a webhook cost; ORDERS=1000000 fills the shop for a second look
	@failed=0; for part in "bench --orders $(or $(ORDERS),0)" bench.mail bench.ingest; do $(BIN)/python -m $$part || failed=1; done; exit $$failed

bench-ingest: $(READY) ## a webhook received against a bare handler; ROWS=5000000 fills the inbox first
	@$(BIN)/python -m bench.ingest --rows $(or $(ROWS),0)

bench-mail: $(READY) ## a campaign against a bare SMTP loop, and a million recipients: memory, freezing
	@$(BIN)/python -m bench.mail

bench-reliability: $(PEERS) ## the library against floors and peers; GROUPS="dedup jobs" for some, WRITE=1 renews its docs
	@$(BIN)/python -m bench.reliability $(GROUPS) $(if $(WRITE),--write)

coverage: $(READY) ## branch coverage of the library by its own tests; fails under 95 %
	@mkdir -p .local/coverage
	@$(BIN)/python -m pytest -q libs/reliability/tests -m "not long" --cov --cov-report=term

fuzz: $(READY) ## the library's properties, the shop's machine and the served document, for minutes, with faults; SEED to repeat
	@$(BIN)/python -m pytest -q libs/reliability/tests/test_cuts.py -m long $(if $(SEED),--hypothesis-seed=$(SEED))
	@$(BIN)/python -m pytest -q tests/integration/orders/test_machine.py -m long $(if $(SEED),--hypothesis-seed=$(SEED))
	@SEED=$(SEED) $(BIN)/python -m pytest -q tests/contract/test_served_document.py tests/integration/accounts/test_abuse.py -m long

extras: $(READY) ## each extra of the library into an empty environment, by pip
	@$(BIN)/python -m pytest -q libs/reliability/tests/test_extras.py -m long

chaos: $(READY) ## the fault suite with invariants
	@$(BIN)/python -m pytest -q tests/chaos -m "long or not long"

clean: down ## stop everything and remove .local and .venv
	@rm -rf .local .venv
