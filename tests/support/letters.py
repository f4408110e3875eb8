"""Dead letters: builders, and a box of them in memory."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from nats.aio.msg import Msg

from octarm.common.bus.dead_letter_box import Handled, StoredLetter, Wanted
from octarm.common.bus.delivery import Delivery
from octarm.common.bus.letters import letter_of, read_letter
from octarm.common.bus.wire import read_headers
from octarm.common.testing.fakes import NOON
from octarm.models.subjects import SUBMIT_TASK

INTAKE_OF_ACME = SUBMIT_TASK.at(tenant="acme")
A_MOMENT_NS = 1_795_000_000_123_456_000


def a_delivery(
    data: bytes = b"{}",
    *,
    subject: str = INTAKE_OF_ACME,
    headers: Mapping[str, str] | None = None,
    seq: int = 42,
    deliveries: int = 6,
    settled: list[bytes] | None = None,
) -> Delivery:
    """A message as a consumer got it; how it is settled goes into `settled`."""
    reply = f"$JS.ACK.S.c.{deliveries}.{seq}.7.{A_MOMENT_NS}.0"
    given = {"Nats-Msg-Id": f"m-{seq}"} if headers is None else dict(headers)
    message = Msg(cast(Any, None), subject=subject, reply=reply, data=data, headers=given)
    into = [] if settled is None else settled
    return Delivery(message, lambda _, body: into.append(body))


def a_stored_letter(
    data: bytes = b"{}",
    *,
    seq: int = 1,
    origin: str = "orchestrator-accept-task",
    reason: str = "not a submission",
    max_payload: int = 1024 * 1024,
    **delivery: Any,
) -> StoredLetter:
    """A letter in the box, a minute younger for each sequence."""
    sent = letter_of(
        a_delivery(data, **delivery), origin=origin, reason=reason, max_payload=max_payload
    )
    letter = read_letter(read_headers(b"NATS/1.0\r\n" + sent.head + b"\r\n"), sent.payload)
    assert letter is not None
    return StoredLetter(seq, NOON + timedelta(minutes=seq), letter, sent.payload)


class FakeLetters:
    """A box in memory; what is redriven or dropped is remembered."""

    def __init__(self, *stored: StoredLetter) -> None:
        self.stored = {one.seq: one for one in stored}
        self.redriven: list[int] = []
        self.dropped: list[int] = []
        self.refused: dict[int, str] = {}

    async def last_seq(self) -> int:
        return max(self.stored, default=0)

    async def find(self, wanted: Wanted, *, after: int, until: int) -> AsyncGenerator[StoredLetter]:
        for seq in sorted(self.stored):
            if after < seq <= until and wanted.fits(self.stored[seq]):
                yield self.stored[seq]

    async def get(self, seq: int) -> StoredLetter | None:
        return self.stored.get(seq)

    async def redrive(self, seqs: Sequence[int]) -> list[Handled]:
        return [self._take(seq, self.redriven) for seq in seqs]

    async def drop(self, seqs: Sequence[int]) -> list[Handled]:
        return [self._take(seq, self.dropped) for seq in seqs]

    def _take(self, seq: int, into: list[int]) -> Handled:
        if seq in self.refused:
            return Handled(seq, "failed", self.refused[seq])
        if self.stored.pop(seq, None) is None:
            return Handled(seq, "gone")
        into.append(seq)
        return Handled(seq, "done")
