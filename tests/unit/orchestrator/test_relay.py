"""The relay with a fake outbox: what it repeats, and what it lets go."""

from collections.abc import Sequence

from octarm.common.bus.publisher import Outgoing
from octarm.common.testing import RecordingPublisher
from octarm.models.errors import Backpressure, PayloadTooLarge
from octarm.orchestrator.domain.changes import Entry
from octarm.orchestrator.usecases.relay import Relay


class FakeOutbox:
    def __init__(self, *entries: Entry) -> None:
        self.entries = {entry.seq: entry for entry in entries}

    async def delete(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self.entries.pop(seq, None)

    async def older_than(self, seconds: float) -> list[Entry]:
        return list(self.entries.values())


def an_entry(seq: int, *subjects: str) -> Entry:
    return Entry(seq, [Outgoing(subject, b"{}", f"{seq}:{subject}") for subject in subjects])


async def test_lets_go_what_the_bus_will_never_take_and_tells_the_rest() -> None:
    bus, outbox = RecordingPublisher(), FakeOutbox(an_entry(1, "large", "small"))
    bus.refused["large"] = PayloadTooLarge("it does not fit the bus")

    await Relay(bus, outbox).sweep()

    assert [message.subject for message in bus.published] == ["small"]
    assert not outbox.entries


async def test_repeats_what_the_bus_may_take_later() -> None:
    bus, outbox = RecordingPublisher(), FakeOutbox(an_entry(1, "large", "full", "small"))
    bus.refused["large"] = PayloadTooLarge("it does not fit the bus")
    bus.refused["full"] = Backpressure("the stream is full")
    relay = Relay(bus, outbox)

    await relay.sweep()
    kept = list(outbox.entries)
    bus.refused.clear()
    await relay.sweep()

    assert kept == [1]
    assert not outbox.entries
