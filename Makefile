# Each target makes .venv first, if it is not there or its pins have changed.

PROMPT ?= a red circle above a blue square
export PROMPT

SEEDS ?= 2000
ENGINES ?= 200
REQUESTS ?= 20000

READY := .venv/.ready
PYTHON_IN := .venv/bin/python

# What has to be clean under mypy --strict: all but the training of the demo model, the benchmarks and the tests.
STRICT := transfer orchestrator roles launch/cli $(wildcard launch/*.py)
# No test runs the benchmarks: this notices what they call that has changed.
LENIENT := --check-untyped-defs --follow-imports=silent --disable-error-code=arg-type --disable-error-code=operator

.PHONY: help demo test chaos conformance nightly simulate leaks lint bench clean

help: ## what can be made
	@echo 'make demo [PROMPT="…"]  a picture from a prompt, through all three roles, into demo.png'
	@echo 'make test               every test but the long ones'
	@echo 'make chaos              faults among real processes, at every place: some minutes'
	@echo 'make conformance        every pipeline of diffusers, tiny, through the roles: docs/models.md'
	@echo 'make nightly            conformance, faults and simulations: what is too long for every change'
	@echo 'make simulate SEEDS=100000 ENGINES=10000   the core and the jobs under random faults, then'
	@echo '                        the core with real leaders, for a night'
	@echo 'make leaks REQUESTS=20000    so many requests among random kills, and what is left of them'
	@echo 'make lint               ruff and mypy'
	@echo 'make bench              the figures of docs/benchmarks.md'
	@echo 'make clean              remove .venv and all that was made'

$(READY): pyproject.toml constraints.txt launch/setup.sh
	@sh launch/setup.sh

demo: $(READY)
	@$(PYTHON_IN) -m launch.showcase -- "$$PROMPT"

test: $(READY)
	@$(PYTHON_IN) -m pytest -q --numprocesses=2 --dist=loadfile --no-loadscope-reorder tests

chaos: $(READY)
	@CHAOS=all $(PYTHON_IN) -m pytest -q tests/chaos tests/e2e tests/roles \
		tests/orchestrator/jobs/test_jobs_survive.py

simulate: $(READY)
	@$(PYTHON_IN) -m tests.simulation --seeds $(SEEDS)
	@$(PYTHON_IN) -m tests.simulation --engines --seeds $(ENGINES)

conformance: $(READY)
	@$(PYTHON_IN) -m tests.conformance --write

nightly: conformance chaos
	@$(MAKE) --no-print-directory simulate SEEDS=100000 ENGINES=10000

leaks: $(READY)
	@$(PYTHON_IN) -m tests.support.leak_hunt --requests $(REQUESTS)

lint: $(READY)
	@$(PYTHON_IN) -m ruff check .
	@$(PYTHON_IN) -m ruff format --check .
	@$(PYTHON_IN) -m mypy --strict $(STRICT)
	@$(PYTHON_IN) -m mypy $(LENIENT) benchmarks

bench: $(READY)
	@$(PYTHON_IN) -m benchmarks.parity
	@$(PYTHON_IN) -m benchmarks.overhead
	@$(PYTHON_IN) -m benchmarks.transfer
	@$(PYTHON_IN) -m benchmarks.hostile_bytes
	@$(PYTHON_IN) -m benchmarks.large_result
	@$(PYTHON_IN) -m benchmarks.control_plane
	@$(PYTHON_IN) -m benchmarks.core
	@$(PYTHON_IN) -m benchmarks.recovery
	@$(PYTHON_IN) -m benchmarks.portable
	@$(PYTHON_IN) -m benchmarks.overload
	@$(PYTHON_IN) -m benchmarks.batching
	@$(PYTHON_IN) -m benchmarks.tokens
	@$(PYTHON_IN) -m benchmarks.pool_overhead
	@$(PYTHON_IN) -m benchmarks.pool_faults
	@$(PYTHON_IN) -m benchmarks.previews
	@$(PYTHON_IN) -m benchmarks.lora_churn
	@$(PYTHON_IN) -m benchmarks.throughput

clean:
	rm -rf .venv *.egg-info build dist demo.png
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
