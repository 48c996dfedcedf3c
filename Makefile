# Kalshi Ops. `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PORT ?=
MODE ?=
DETACH ?=
OPEN ?=
PY := .venv/bin/python
BOOT := $(shell command -v python3.11 || command -v python3)
MANAGE := $(PY) manage.py
JOBS ?=
ARGS ?=
FLAGS := $(if $(MODE),--mode $(MODE)) $(if $(PORT),--port $(PORT)) $(if $(filter-out 0 no false,$(DETACH)),--detach) $(if $(OPEN),--open)

.PHONY: help setup setup-dev run stop status logs doctor demo-reset credentials test check e2e reliability reliability-full conformance nightly bench-ingest bench-paper bench-orders bench-cycles contract ci lock openapi clean-demo

help: ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv and node_modules from the locks (make run does it too)
	@$(BOOT) ops/bootstrap.py run

setup-dev:
	@$(BOOT) ops/bootstrap.py dev

run: setup ## Start everything: PORT=8123, DETACH=1 returns when ready, OPEN=1 opens the browser, MODE=demo goes to Kalshi's demo
	@exec $(MANAGE) up $(FLAGS)

stop: ## Stop what make run started
	@$(MANAGE) stop

status: ## Show the running processes
	@$(MANAGE) status

logs: ## Show the last log lines; ARGS="web -f" follows one process
	@$(MANAGE) logs $(ARGS)

doctor: ## Say what is wrong on this machine and what to do
	@$(MANAGE) doctor $(ARGS)

credentials: ## Show the demo logins
	@$(MANAGE) demo credentials

demo-reset: ## Delete the whole database and the paper exchange, and start over
	@$(MANAGE) stop
	@$(MANAGE) demo reset --yes

clean-demo: ## Remove everything the desk wrote (all of var/)
	@$(MANAGE) stop
	@rm -rf var

test: setup-dev ## Unit and integration tests with the coverage gates; DATABASE_URL=… runs them on PostgreSQL
	@$(PY) ops/gates.py test $(ARGS)

check: setup-dev ## Lint, types, import contracts, migrations, locks, API schema
	@$(PY) ops/gates.py check $(ARGS)

e2e: setup-dev ## The journeys in Chromium; artefacts in var/test-artifacts
	@$(PY) ops/gates.py e2e $(ARGS)

reliability: setup-dev ## Races, crashes, pauses, faults and halts, small (minutes); DATABASE_URL=… runs them on PostgreSQL
	@$(PY) ops/gates.py reliability $(ARGS)

reliability-full: setup-dev ## The same at full size (hours)
	@$(PY) ops/gates.py reliability-full $(ARGS)

conformance: setup-dev ## Kalshi's official SDK and published contract against the paper exchange (WRITE=1 renews the table in docs)
	@$(PY) ops/gates.py conformance $(ARGS)

nightly: setup-dev ## The large sizes: matching machine, recordings, stream chaos, state sync, races, memory (hours)
	@$(PY) ops/gates.py nightly $(ARGS)

bench-ingest: setup-dev ## How fast frames become books, as ratios in one run; ARGS="--json" for machines
	@$(PY) benchmarks/ingest.py $(ARGS)

bench-paper: setup-dev ## How many signed, durable orders a second the paper exchange takes, beside a baseline
	@$(PY) -m benchmarks.paper_exchange $(ARGS)

bench-orders: setup-dev ## From the approval's click to the accepted order, through real processes, beside the usual form
	@$(PY) -m benchmarks.orders $(ARGS)

bench-cycles: setup-dev ## What the update and the decision loop cost
	@$(PY) -m benchmarks.cycles $(ARGS)

contract: setup-dev ## What a new version of Kalshi's published contract changes (KALSHI_CONTRACT_DIR)
	@$(PY) ops/exchange_contract.py --dir $(KALSHI_CONTRACT_DIR) $(ARGS)

ci: check test e2e ## check, test and e2e; .ci/run adds PostgreSQL and reliability

openapi: setup-dev ## Write the committed API schema anew
	@$(PY) ops/gates.py openapi

lock: setup-dev ## Resolve pyproject.toml into the two hashed locks (needs the network)
	@$(PY) ops/gates.py lock
