"""The doctor of a cluster: finds what is not as it was provisioned, and says how to mend it."""

from datetime import UTC, datetime

import pytest
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy

from octarm.cli.cluster import PROVISION, examine_cluster
from octarm.cli.stack.doctor import Check, Verdict
from octarm.common.bus.connection import connected_to
from octarm.common.bus.identity import introduce, who_is_there
from octarm.common.bus.requests import ok
from octarm.common.bus.topology import MEMORY_EPISODES, provision
from octarm.ledger.schema import MIGRATIONS
from octarm.models.identity import Identity
from octarm.models.subjects import DLQ, ENDED, IDENTIFY

pytestmark = pytest.mark.integration


async def _bad(nats_url: str = "", postgres_url: str = "", shards: int = 1) -> dict[str, Check]:
    found = await examine_cluster(postgres_url=postgres_url, nats_url=nats_url, shards=shards)
    assert found
    # Nobody but the servers runs here.
    servers = [check for check in found if not check.name.startswith("service ")]
    return {check.name: check for check in servers if check.verdict is not Verdict.OK}


async def test_a_bus_as_it_was_provisioned_is_well(nats_url: str) -> None:
    async with connected_to(nats_url, name="test") as nc:
        await provision(nc.jetstream(), shards=2)

    assert await _bad(nats_url, shards=2) == {}


async def test_what_differs_or_lacks_is_named_with_what_mends_it(nats_url: str) -> None:
    async with connected_to(nats_url, name="test") as nc:
        js = nc.jetstream()
        await provision(js)
        config = (await js.stream_info(DLQ)).config
        await js.update_stream(config.evolve(discard=DiscardPolicy.NEW, max_bytes=1 << 20))
        await js.delete_consumer(ENDED, MEMORY_EPISODES)

    bad = await _bad(nats_url, shards=2)

    assert set(bad) == {
        *(f"stream {DLQ}", f"consumer {MEMORY_EPISODES}", "consumer scheduler-place-task-1")
    }
    assert "discard is new, not old" in bad[f"stream {DLQ}"].found
    assert "max_bytes is 1048576" in bad[f"stream {DLQ}"].found
    assert all(check.mend == PROVISION for check in bad.values())


async def test_a_database_without_tables_is_to_be_migrated(postgres_url: str) -> None:
    bad = await _bad(postgres_url=postgres_url)

    assert {name: check.mend for name, check in bad.items()} == {
        "schema ledger": "octarm db migrate",
        "schema memory": "octarm db migrate",
    }


async def test_what_does_not_answer_is_one_line(unused_tcp_port: int) -> None:
    where = f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/none"

    (check,) = (await _bad(postgres_url=where)).values()

    assert check.verdict is Verdict.MISSING
    assert "\n" not in check.found


async def test_every_instance_says_who_it_is(nats_url: str) -> None:
    async with (
        connected_to(nats_url, name="a") as one,
        connected_to(nats_url, name="b") as other,
        connected_to(nats_url, name="test") as nc,
    ):
        await introduce(one, "orchestrator", "i-1", ledger=MIGRATIONS)
        await introduce(other, "orchestrator", "i-2", ledger=MIGRATIONS)
        await one.flush()
        await other.flush()

        seen = await who_is_there(nc)

    assert [it.identity.instance for it in seen] == ["i-1", "i-2"]
    newest = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("*.py"))
    assert seen[0].identity.heads == {"ledger": newest}
    assert abs(seen[0].offset_s) <= seen[0].within_s + 0.5


async def test_an_answer_that_nobody_can_read_hides_no_other(nats_url: str) -> None:
    async with connected_to(nats_url, name="a") as one, connected_to(nats_url, name="test") as nc:

        async def babble(msg: Msg) -> None:
            me = Identity(service="gateway", instance="i-1", version="1", at=datetime.now(UTC))
            for answer in (b"\xff", ok(b'{"service":7}'), ok(me.model_dump_json().encode())):
                await msg.respond(answer)

        await one.subscribe(IDENTIFY.template, cb=babble)
        await one.flush()

        seen = await who_is_there(nc)

    assert [it.identity.service for it in seen] == ["gateway"]
