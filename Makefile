# Kalshi Ops. `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PORT ?=
DETACH ?=
OPEN ?=
PY := .venv/bin/python
BOOT := $(shell command -v python3.11 || command -v python3)
MANAGE := $(PY) manage.py
JOBS ?= 2
ARGS ?=
FLAGS := $(if $(PORT),--port $(PORT)) $(if $(filter-out 0 no false,$(DETACH)),--detach) $(if $(OPEN),--open)

.PHONY: help setup setup-dev run stop status logs doctor demo-reset credentials test check e2e ci lock openapi clean-demo

help: ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv and node_modules from the locks (make run does it too)
	@$(BOOT) ops/bootstrap.py run

setup-dev:
	@$(BOOT) ops/bootstrap.py dev

run: setup ## Start everything: PORT=8123 chooses the port, DETACH=1 returns when ready, OPEN=1 opens the browser
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

demo-reset: ## Start over with an empty paper desk
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

ci: check test e2e ## All gates

openapi: setup-dev ## Write the committed API schema anew
	@$(PY) ops/gates.py openapi

lock: setup-dev ## Resolve pyproject.toml into the two hashed locks (needs the network)
	@$(PY) ops/gates.py lock
