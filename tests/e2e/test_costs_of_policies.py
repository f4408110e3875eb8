"""What a policy saves in the simulator, it saves on the real stack."""

import pytest

from bench.costs import LOAD, OPTIMISER, differences, in_the_simulator, on_the_stack, shortened
from octarm.policies.simulator.load import read
from octarm.policies.versions import digest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SECONDS, SEED = 10, 2


async def test_placing_by_cost_halves_it_as_simulated() -> None:
    load = shortened(read(LOAD), SECONDS)
    simulation = in_the_simulator(load, SEED)

    stack = await on_the_stack(LOAD, load, SEED)

    assert [it.done for it in stack] == [it.done for it in simulation]
    assert {it.in_time for it in [*stack, *simulation]} == {1.0}
    found = differences(simulation, stack)
    assert found["left_simulated"] <= 0.5
    assert found["left_on_the_stack"] <= 0.5
    own = f"cost-optimiser@{digest(OPTIMISER.read_text())}"
    assert own in stack[1].decided_by
    if stack[1].decided_by == (own,):
        # Where the machine was too busy to ask it in time, the platform has decided some.
        assert abs(found["optimiser_differs_by"]) <= 0.1
