"""Whether READY has been read, asked of a real JetStream."""

import pytest

from octarm.common.bus.connection import connect
from octarm.common.bus.topology import provision, scheduler_durable
from octarm.models.subjects import PLACE_TASKS, READY
from octarm.orchestrator.storage.ready import ReadyStream

pytestmark = pytest.mark.integration


async def test_is_read_once_every_shard_has_delivered_its_messages(nats_url: str) -> None:
    nc = await connect(nats_url, name="test")
    js = nc.jetstream()
    ready = ReadyStream(nc, shards=2)
    unprovisioned = await ready.is_read()
    await provision(js, shards=2)

    empty = await ready.is_read()
    await js.publish(PLACE_TASKS.at(shard=1), b"{}")
    unread = await ready.is_read()
    subscription = await js.pull_subscribe_bind(scheduler_durable(1), READY)
    await subscription.fetch(2, timeout=1)
    held = await ready.is_read()
    await nc.close()

    assert (unprovisioned, empty, unread, held) == (False, True, False, True)
