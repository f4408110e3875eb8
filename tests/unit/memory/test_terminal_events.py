"""The batch handler: what becomes of each delivery."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from octarm.common.bus.delivery import ACK, Dead, Delivery
from octarm.memory.domain.episode import Episode
from octarm.memory.routes.endings import TerminalEvents
from octarm.memory.usecases.remembering import RememberTasks
from octarm.models.errors import Unavailable
from tests.support.episodes import FakeEpisodes, an_ending, an_episode_id

SAMPLED = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@dataclass
class FakeDelivery:
    data: bytes
    deliveries: int = 1


def deliveries(*bodies: bytes) -> list[Delivery]:
    return [cast(Delivery, FakeDelivery(b'{"events":[%b]}' % body)) for body in bodies]


class ChoosyEpisodes(FakeEpisodes):
    """Can never keep one of them."""

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        await super().add([one for one in episodes if one.episode_id != an_episode_id(2)])
        return {an_episode_id(2): "not to be kept"}


class TestTerminalEvents:
    async def test_acknowledges_what_is_kept_and_buries_what_cannot_be_read(self) -> None:
        kept = FakeEpisodes()
        handler = TerminalEvents(RememberTasks(kept), ttl_s=60)

        outcomes = await handler(
            deliveries(an_ending(1, traceparent=SAMPLED), b"{", an_ending(2), an_ending(1))
        )

        assert [type(outcome) for outcome in outcomes] == [type(ACK), Dead, type(ACK), type(ACK)]
        assert len(kept.rows) == 2
        assert '"ttl_seconds":60' in kept.rows["acme", an_episode_id(1)].body

    async def test_buries_what_can_never_be_kept(self) -> None:
        handler = TerminalEvents(RememberTasks(ChoosyEpisodes()), ttl_s=60)

        outcomes = await handler(deliveries(an_ending(1), an_ending(2), an_ending(3)))

        assert outcomes == [ACK, Dead("not to be kept"), ACK]

    async def test_asks_nobody_when_nothing_can_be_read(self) -> None:
        kept = FakeEpisodes()
        kept.down = True
        handler = TerminalEvents(RememberTasks(kept), ttl_s=60)

        assert [type(one) for one in await handler(deliveries(b"", b"null"))] == [Dead, Dead]

    async def test_asks_for_the_batch_again_when_postgres_is_down(self) -> None:
        kept = FakeEpisodes()
        kept.down = True
        handler = TerminalEvents(RememberTasks(kept), ttl_s=60)

        with pytest.raises(Unavailable):
            await handler(deliveries(an_ending(1)))
