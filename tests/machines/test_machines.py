"""State machines: hypothesis looks for sequences of events after which something does not hold.

A sample runs with the tests; `make machines` runs 500 examples of 100 steps of each.
"""

import asyncio
import os
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.machines.leadership import LeadershipMachine
from tests.machines.ledger import LedgerMachine, Stage
from tests.machines.registry import RegistryMachine
from tests.support.ledger import a_ledger

EXAMPLES: Final = int(os.environ.get("OCTARM_MACHINE_EXAMPLES", "0"))
STEPS: Final = int(os.environ.get("OCTARM_MACHINE_STEPS", "0"))
NIGHTLY: Final = 6 * 3600


def explore(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """Run a machine; without the variables a small sample, always the same."""
    chosen: Any = settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=STEPS or steps,
        deadline=None,
        derandomize=not EXAMPLES,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


@pytest.mark.timeout(NIGHTLY)
def test_leadership() -> None:
    explore(LeadershipMachine, examples=8, steps=20)


@pytest.mark.timeout(NIGHTLY)
def test_registry() -> None:
    explore(RegistryMachine, examples=60, steps=30)


@pytest.mark.integration
@pytest.mark.timeout(NIGHTLY)
def test_ledger(postgres_url: str) -> None:
    with asyncio.Runner() as runner:
        context = a_ledger(postgres_url)
        ledger = runner.run(context.__aenter__())
        LedgerMachine.stage = Stage(runner, ledger, postgres_url)
        try:
            explore(LedgerMachine, examples=4, steps=20)
        finally:
            runner.run(context.__aexit__(None, None, None))
