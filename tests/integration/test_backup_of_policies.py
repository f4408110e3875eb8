"""The policies of a bus, saved and put back onto another state of it."""

from pathlib import Path

import pytest

from octarm.cli.backup import policies
from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.topology import provision
from octarm.common.clock import SystemClock
from octarm.models.errors import Conflict
from octarm.models.ids import new_id
from octarm.models.policies import SavePolicy
from octarm.policies.book import Act
from octarm.policies.store.store import PolicyStore

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[2] / "libraries" / "policies"
ONE, OTHER = (path.read_text() for path in sorted(FOLDER.glob("*.star"))[:2])


def _act() -> Act:
    return Act(new_id("evt"), SystemClock().now(), "a test")


def _wish(name: str, source: str) -> SavePolicy:
    return SavePolicy(name=name, kind="starlark", source=source, by="a test")


async def test_what_was_saved_is_there_again_and_what_came_later_is_gone(nats_url: str) -> None:
    async with connected_to(nats_url, name="test") as nc:
        await provision(nc.jetstream())
        store = PolicyStore(nc, Publisher(nc))
        kept, _ = await store.save(_wish("kept", ONE), _act())
        await store.deploy(kept.digest, _act())
        lines = await policies.read(nats_url)
        await store.save(_wish("later", OTHER), _act())

        with pytest.raises(Conflict, match="already"):
            await policies.put_back(nats_url, lines, replace=False)
        await policies.put_back(nats_url, lines, replace=True)

        book = await PolicyStore(nc, Publisher(nc)).book()
        assert set(book.versions) == {kept.digest}
        assert book.live == kept.digest
        assert (await store.source(kept.digest)).source == ONE
        assert sorted(await policies.read(nats_url)) == sorted(lines)
