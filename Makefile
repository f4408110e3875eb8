# Every task of the workspace; `make help` lists them. Needs python3 >= 3.11 with pip and venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
MUTMUT_VERSION := 3.8.1
# A uv on PATH is used as it is; otherwise one is put into .tools, from the package registry.
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := $(UV) run --frozen --no-sync
export FOLDER
N ?= 20000
SECONDS_OF_OVERLOAD ?= 120
SEEDS ?= 2000
FIRST ?= 1
FUZZ_S ?= 600
PEERS_N ?= 5000
# How many processes the tests run on, a whole file on one of them, each with servers of its own.
WORKERS ?= 2
SPREAD := $(if $(filter-out 1,$(WORKERS)),-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

.PHONY: help sync sandbox promtool fmt lint types layers render k8s images test unit integration e2e chaos crashpoints storms nightly fuzz coverage upgrade restore scaling machines mutants sim bench bench-tracing panels overload bench-peers schemas reference demo check up clean

help: ## List the tasks
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.tools/bin/uv:
	python3 -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.synced: uv.lock pyproject.toml $(wildcard */pyproject.toml */*/pyproject.toml shared/python/*/pyproject.toml) | $(filter .tools/bin/uv,$(UV))
	$(UV) lock --check --quiet
	$(UV) sync --frozen --quiet
	@touch $@

sync: .venv/.synced ## Install everything into .venv, as locked

sandbox: ## Install bubblewrap where it is missing and we may (Debian, root)
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq bubblewrap >/dev/null; } \
		|| { echo "bubblewrap is missing: install it (Debian: apt-get install bubblewrap)" >&2; exit 1; }

# Not installed: the package's daemon would start. It is 19 MB, and taken out of its file only.
promtool: ## Put Debian's promtool and Prometheus into .tools where promtool is missing
	@command -v promtool >/dev/null || [ -x .tools/prometheus/usr/bin/promtool ] \
		|| { mkdir -p .tools/deb && cd .tools/deb && rm -f prometheus_*.deb \
		&& { apt-get download -qq -o APT::Sandbox::User=root prometheus 2>/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root prometheus; }; } \
		&& dpkg-deb -x prometheus_*.deb ../prometheus && rm prometheus_*.deb; } \
		|| { echo "promtool is missing: install it (Debian: apt-get install prometheus)" >&2; exit 1; }

fmt: sync ## Format the code
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

lint: sync ## Check format and style
	$(RUN) ruff format --check .
	$(RUN) ruff check .

types: sync ## Check types (over folders: on a namespace package -p checks almost nothing)
	$(RUN) mypy cli/src verify/src services/*/src arms/*/src shared/python/*/src bench tests

layers: sync ## Check that no arrow between layers turns round
	$(RUN) lint-imports

unit: sync promtool ## Run the tests that need no server
	$(RUN) pytest tests/architecture tests/unit

integration: sync sandbox ## Run the tests on real NATS, Redis and Postgres
	$(RUN) pytest tests/contract tests/integration

e2e: sync sandbox ## Run the whole system as a user would
	$(RUN) pytest tests/e2e

chaos: sync sandbox ## Kill services under load, then count
	$(RUN) pytest tests/chaos

crashpoints: sync ## Kill a process at every line of the crash table (10 min)
	CRASHPOINTS=all $(RUN) pytest -s tests/chaos/test_crash_table.py

upgrade: sync ## Replace every process, two of each service, by the next version and back, under load (3 min)
	OCTARM_UPGRADE_REPLICAS=2 $(RUN) pytest -s tests/chaos/test_upgrade.py

restore: sync sandbox ## Back a stack up at work, put it back where nothing is, check it
	$(RUN) pytest tests/e2e/test_backup.py tests/integration/test_backup_of_policies.py

images: sync ## Install every image's content as the Dockerfile does, start it, ask for its health; check the Dockerfile
	$(RUN) pytest tests/integration/test_image_install.py tests/unit/deploy/test_dockerfile.py tests/unit/deploy/test_dockerfile_rules.py

scaling: sync ## Drive the figures that arms are scaled by through bursts: no flapping, no kill of busy work
	$(RUN) pytest tests/unit/deploy/test_autoscaling.py tests/unit/ledger/test_demand.py tests/integration/test_ledger_demand.py

fuzz: sync ## Fuzz decoders (atheris) and the HTTP API (schemathesis), ten minutes each (FUZZ_S=600)
	$(UV) sync --frozen --quiet --group fuzz
	$(RUN) python -m tests.fuzz.run --seconds $(FUZZ_S)
	$(RUN) python -m tests.fuzz.http_api --seconds $(FUZZ_S)

storms: sync ## Run every scenario of the chaos driver (half an hour; SCENARIO=… for one)
	$(RUN) python -m tests.chaos.drive $(or $(SCENARIO),all)

nightly: ## Run what takes a night: all rows of the crash table, all scenarios, 100,000 seeds, fuzzers, machines
	$(MAKE) --keep-going SEEDS=100000 FIRST=2001 crashpoints storms machines mutants fuzz upgrade restore sim

coverage: sync ## Check that models, domains and policies are covered to the last branch (ALL=1: measure everything)
	$(RUN) coverage erase
	$(RUN) coverage run -m pytest -q $(if $(ALL),,tests/unit tests/contract)
	$(RUN) coverage combine -q
	$(RUN) coverage report --skip-covered --fail-under=100 --include='*/octarm/models/*,*/domain/*,*/octarm/policies/*' --omit='*/octarm/policies/sandbox/*,*/octarm/policies/store/*,*/octarm/policies/desk/*,*/octarm/policies/simulation/*'
	$(if $(ALL),$(RUN) coverage report --skip-covered --fail-under=90)

render: sync ## Render the manifests of deploy/k8s and validate them; `test` checks all else of them
	$(RUN) python -m tests.support.manifests

k8s: render promtool ## Render the manifests of deploy/k8s and check them, without a cluster
	$(RUN) pytest -q tests/unit/deploy

test: sandbox promtool coverage ## Run all tests, those of units and contracts as `coverage` does (WORKERS=1)
	$(RUN) pytest $(SPREAD) --durations=20 --ignore=tests/unit --ignore=tests/contract

mutants: sync ## Change the rules of ledger, budgets and leases one by one: 85 % must be noticed (10 min; NAMES=budgets)
	$(UV) run --frozen --no-sync --with mutmut==$(MUTMUT_VERSION) python -m tests.mutation $(NAMES)

machines: sync ## Let hypothesis look for sequences that break ledger, budgets, leases, registry
	OCTARM_MACHINE_EXAMPLES=500 OCTARM_MACHINE_STEPS=100 $(RUN) pytest tests/machines

sim: sync ## Simulate on virtual time (SEEDS=2000 FIRST=1; OCTARM_SIM_… in `make test`)
	OCTARM_SIM_SEEDS=$(SEEDS) OCTARM_SIM_FIRST=$(FIRST) $(RUN) pytest tests/simulation -k every_seed --timeout 0

bench: sync ## Measure against the bare pipeline in the same run (N=20000)
	$(RUN) python -m bench --n $(N)

bench-tracing: sync ## Measure what tracing costs: none, 1 % and all tasks sampled, in one run (N=20000)
	$(RUN) python -m bench.tracing --n $(N)

panels: sync promtool ## Load the stack for a minute and draw the dashboards' panels into docs/images
	$(UV) sync --frozen --quiet --group bench
	$(RUN) python -m bench.panels

overload: sync ## Offer three times what the system can do for two minutes, and count (SECONDS_OF_OVERLOAD=120)
	$(RUN) python -m bench.load overload --seconds $(SECONDS_OF_OVERLOAD)

bench-peers: sync ## The same, and other task queues in the same run (N=20000 PEERS_N=5000)
	$(UV) sync --frozen --quiet --group peers
	$(RUN) python -m bench --n $(N) --peers --peers-n $(PEERS_N)

schemas: sync ## Generate shared/schemas, shared/proto, the API documents and the page of settings
	$(RUN) python -m octarm.models.schemas
	$(RUN) python -m octarm.gateway openapi > shared/openapi.json
	$(RUN) python -m tests.support.settings_page

reference: sync ## Generate the reference page of policy helpers
	$(RUN) python -m octarm.policies.language.reference > docs/reference/policy-helpers.md

demo: sync sandbox ## Run the main job on our own Markdown (FOLDER=… for your texts)
	$(RUN) octarm demo $${FOLDER:+--folder "$$FOLDER"}

up: sync ## Start the embedded stack in the foreground
	$(RUN) octarm up

check: lint types layers render test ## Everything that CI checks

clean: ## Remove what the tasks made
	rm -rf .venv .tools .mutmut .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out
