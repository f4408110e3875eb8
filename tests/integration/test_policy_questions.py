"""Questions about policies over the bus: what people send may be anything."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from octarm.clients.policies import PolicyClient
from octarm.models.errors import (
    Backpressure,
    Conflict,
    InvalidRequest,
    NotFound,
    OctarmError,
    PayloadTooLarge,
    TimedOut,
)
from octarm.models.policies import MAX_SOURCE, SimulatePolicy, ValidatePolicy
from octarm.policies.desk.examining import Turns
from octarm.policies.simulation import host
from octarm.policies.simulation.work import Candidate, Work
from octarm.policies.simulator.outcome import Outcome
from octarm.policies.versions import digest
from octarm.sdk import Client, SyncClient
from tests.support.arms import a_record, an_instance
from tests.support.policies import (
    BROKEN,
    CHEAPEST,
    ENDLESS,
    GREEDY,
    LOAD,
    RULES,
    a_decision,
    a_ledger_on_bus,
    a_policy_desk,
)
from tests.support.servers import a_nats_server

pytestmark = pytest.mark.integration
WRITER = a_record("writer", instances=[an_instance()])


@pytest_asyncio.fixture
async def policies(nats_url: str) -> AsyncGenerator[PolicyClient, None]:
    async with a_policy_desk(nats_url) as nc:
        yield PolicyClient(nc, by="ops")


def outcomes(found: object) -> list[Outcome]:
    return msgspec.convert(found, list[Outcome])


async def test_the_life_of_a_policy(policies: PolicyClient) -> None:
    saved = await policies.save("cheapest", CHEAPEST, note="first")
    again = await policies.save("cheapest", CHEAPEST)
    rules = await policies.save("by-rule", RULES, kind="yaml")

    assert (saved.created, again.created, saved.problems) == (True, False, [])
    assert (saved.policy.created_by, saved.policy.note) == ("ops", "first")
    assert (await policies.get("cheapest")).source == CHEAPEST

    first = await policies.deploy("cheapest")
    second = await policies.deploy(rules.policy.digest[:8])
    shadowed = await policies.shadow("cheapest")
    assert first.deployment is not None
    assert second.deployment is not None
    assert second.deployment.replaces == saved.policy.digest
    assert (shadowed.shadow, (await policies.shadow(None)).shadow) == (saved.policy.digest, None)

    back = await policies.roll_back()
    assert back.deployment is not None
    assert back.deployment.digest == saved.policy.digest
    listed = await policies.list()
    assert {it.name: it.state for it in listed.policies} == {"cheapest": "live", "by-rule": "idle"}
    assert [it.because for it in listed.deployments] == ["rolled back", "deployed", "deployed"]
    assert [it.name for it in (await policies.list("by-rule")).policies] == ["by-rule"]

    with pytest.raises(Conflict, match="in use"):
        await policies.delete("cheapest")
    assert (await policies.delete("by-rule")).digest == rules.policy.digest
    assert (await policies.delete("by-rule")).digest is None


async def test_a_source_that_fails_is_not_kept_and_says_where(policies: PolicyClient) -> None:
    with pytest.raises(InvalidRequest, match="line 3") as caught:
        await policies.save("broken", BROKEN)

    assert caught.value.code == "INVALID_POLICY"
    assert caught.value.errors is not None
    assert caught.value.errors[0].field == "source.3"
    assert "Traceback" in caught.value.errors[0].message
    assert (await policies.list()).policies == []


@pytest.mark.parametrize(
    ("source", "says"), [(ENDLESS, "timeout"), (GREEDY, "memory"), ("load('x', 'y')", "load")]
)
async def test_a_hostile_source_hurts_nobody(
    policies: PolicyClient, source: str, says: str
) -> None:
    began = time.monotonic()

    found = await policies.validate(source)

    assert says in found.problems[0].message + found.problems[0].hint
    assert found.digest == digest(source)
    assert time.monotonic() - began < 60
    assert (await policies.validate(CHEAPEST)).problems == []


@pytest.mark.bad_input(2, 3, 6, 19)
async def test_what_cannot_be_a_policy_is_refused(policies: PolicyClient) -> None:
    refused = InvalidRequest
    for source in ("", "x" * (MAX_SOURCE + 1), "ä" * MAX_SOURCE, "a\x00b", "\ud800"):
        with pytest.raises(refused):
            await policies.save("mine", source)
    for name in ("../etc/passwd", "a.b", "a*", "", "A", "x" * 65, "a b", "\u202ea", ">"):
        with pytest.raises(refused, match="name"):
            await policies.save(name, CHEAPEST)
        with pytest.raises(refused, match="ref"):
            await policies.get(name or "x" * 65)
    with pytest.raises(refused, match="kind"):
        await policies.save("mine", CHEAPEST, kind="python")  # type: ignore[arg-type]
    for rules in ("!!python/object:os.system {}", "a: &a [*a]", "rules: 3", "\t- x"):
        with pytest.raises(refused):
            await policies.save("mine", rules, kind="yaml")
    assert (await policies.list()).policies == []


async def test_refs_that_mean_nothing_are_refused(policies: PolicyClient) -> None:
    saved = await policies.save("cheapest", CHEAPEST)
    for ref in ("other", saved.policy.digest[:7], "0" * 64):
        with pytest.raises(NotFound) as caught:
            await policies.deploy(ref)
        assert caught.value.code == "POLICY_NOT_FOUND"
    with pytest.raises(Conflict, match="nothing was deployed"):
        await policies.roll_back()


async def test_simulates_a_load(policies: PolicyClient) -> None:
    await policies.save("cheapest", CHEAPEST)

    found = await policies.simulate(
        SimulatePolicy(refs=["live", "cheapest", "fair-share"], load=LOAD)
    )

    plain, cheap, fair = outcomes(found.outcomes)
    assert (plain.policy, cheap.policy) == ("priority", f"cheapest@{digest(CHEAPEST)[:8]}")
    assert fair.policy == "fair_share"
    assert cheap.cost < plain.cost
    assert cheap.total.completed == plain.total.completed > 0
    assert found.tasks == 0


async def test_simulates_what_was_recorded_since_a_time(
    nats_url: str, policies: PolicyClient
) -> None:
    decisions = [a_decision(n) for n in range(1_500)]
    since = datetime.now(UTC) - timedelta(hours=1)
    async with a_ledger_on_bus(nats_url, decisions, [WRITER]) as asked:
        found = await policies.simulate(
            SimulatePolicy(
                refs=["fifo"],
                draft=ValidatePolicy(kind="starlark", source=CHEAPEST),
                since=since,
            )
        )

    fifo, draft = outcomes(found.outcomes)
    assert (found.tasks, found.cut, len(asked)) == (1_500, False, 2)
    assert asked[0].since == since
    assert fifo.total.completed == draft.total.completed == 1_500
    assert fifo.cost == 1_500 * 500
    assert draft.policy == f"draft@{digest(CHEAPEST)[:8]}"


async def test_says_when_nothing_was_recorded(nats_url: str, policies: PolicyClient) -> None:
    async with a_ledger_on_bus(nats_url, [], [WRITER]):
        with pytest.raises(InvalidRequest, match="no task was accepted since") as caught:
            await policies.simulate(SimulatePolicy(refs=["live"]))
    assert "--load" in caught.value.recovery_hint


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (SimulatePolicy(load=LOAD), "no policy is named"),
        (SimulatePolicy(refs=["nobody"], load=LOAD), "no policy nobody"),
        (SimulatePolicy(refs=["live"], load="duration_s = -1"), "the load"),
        (SimulatePolicy(refs=["live"], load="[" * 10_000), "the load"),
        (
            SimulatePolicy(draft=ValidatePolicy(kind="yaml", source="rules: 3"), load=LOAD),
            "draft@",
        ),
        (
            SimulatePolicy(draft=ValidatePolicy(kind="starlark", source="def f("), load=LOAD),
            "draft@",
        ),
    ],
)
async def test_what_cannot_be_simulated_is_refused(
    policies: PolicyClient, wanted: SimulatePolicy, error: str
) -> None:
    with pytest.raises(OctarmError, match=error) as caught:
        await policies.simulate(wanted)
    assert caught.value.status in (404, 422)


async def test_a_script_that_fails_in_a_simulation_is_counted(policies: PolicyClient) -> None:
    draft = ValidatePolicy(kind="starlark", source=ENDLESS)

    found = await policies.simulate(SimulatePolicy(draft=draft, load=LOAD))

    (outcome,) = outcomes(found.outcomes)
    assert outcome.script_errors > 0
    assert outcome.total.completed > 0, "the platform's order decided instead"


async def test_a_simulation_is_bounded_in_time_and_memory() -> None:
    endless = LOAD.replace("duration_s = 60", "duration_s = 1e12")
    with pytest.raises(TimedOut, match="more than 1 s"):
        await host.simulate(Work((Candidate("priority"),), load=endless), within_s=1)
    large = LOAD.replace('id = "cheap"', 'id = "cheap"\ncount = 10000') * 1
    arms = "".join(f'[[arms]]\nid = "more-{n}"\ncount = 10000\n' for n in range(400))
    with pytest.raises((PayloadTooLarge, TimedOut)):
        await host.simulate(Work((Candidate("priority"),), load=large + arms), within_s=20)


async def test_only_so_many_wait_for_their_turn() -> None:
    turns = Turns(1, 1)
    async with turns.turn():
        waiting = asyncio.create_task(turns.turn().__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(Backpressure):
            async with turns.turn():
                pass
    await waiting


def test_the_sdk_has_them_too(tmp_path: Path) -> None:
    asyncio.run(_through_the_sdk(tmp_path))


async def _through_the_sdk(data: Path) -> None:
    async with a_nats_server(data) as url, a_policy_desk(url):
        async with Client(url, tenant="acme") as client:
            saved = await client.policies.save("mine", CHEAPEST)
            assert saved.policy.created_by == "acme"

        def scripted() -> None:
            with SyncClient(url) as client:
                policies = client.policies
                assert policies.save("mine", CHEAPEST).created is False
                assert policies.validate(CHEAPEST).problems == []
                assert policies.get("mine").digest == saved.policy.digest
                policies.deploy("mine")
                assert policies.shadow("mine").shadow == saved.policy.digest
                assert policies.shadow(None).shadow is None
                assert policies.list().policies[0].state == "live"
                found = policies.simulate(SimulatePolicy(refs=["mine"], load=LOAD))
                assert len(found.outcomes) == 1
                policies.roll_back()
                assert policies.delete("mine").digest == saved.policy.digest

        await asyncio.to_thread(scripted)
