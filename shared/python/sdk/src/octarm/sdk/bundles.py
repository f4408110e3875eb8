"""Several results in one message: a hop costs by the message, not by the result."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from octarm.common.bus.publisher import Outgoing, trace_in
from octarm.models.commands import MAX_BATCH
from octarm.models.subjects import RESULTS_REPORTED

MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bundle:
    """A message and the results that it stands for."""

    message: Outgoing
    results: tuple[Outgoing, ...]


def bundles(results: Iterable[Outgoing]) -> Iterator[Bundle]:
    """Put results of the same arm together, at most 64 and 256 KiB; each of them once.

    A result that is alone goes as it is. A bundle that is made again is another message to the
    stream: the ledger tells its results by task and attempt.
    """
    of_arm: dict[str, list[Outgoing]] = {}
    for result in results:
        of_arm.setdefault(result.subject.rpartition(".")[2], []).append(result)
    for arm_id, some in of_arm.items():
        yield from _bundles(some, arm_id)


def _bundles(results: list[Outgoing], arm_id: str) -> Iterator[Bundle]:
    gathered: list[Outgoing] = []
    size = 0
    for result in results:
        if len(result.payload) > MAX_BYTES:
            yield Bundle(result, (result,))
            continue
        if gathered and (len(gathered) == MAX_BATCH or size + len(result.payload) > MAX_BYTES):
            yield _bundle(gathered, arm_id)
            gathered, size = [], 0
        gathered.append(result)
        size += len(result.payload)
    if gathered:
        yield _bundle(gathered, arm_id)


def _bundle(results: list[Outgoing], arm_id: str) -> Bundle:
    if len(results) == 1:
        return Bundle(results[0], (results[0],))
    payload = b'{"arm_id":"%b","results":[%b]%b}' % (
        arm_id.encode(),
        b",".join(result.payload for result in results),
        _traces(results),
    )
    msg_id = f"{results[0].msg_id}:{results[-1].msg_id}:{len(results)}"
    return Bundle(Outgoing(RESULTS_REPORTED.at(arm_id=arm_id), payload, msg_id), tuple(results))


def _traces(results: list[Outgoing]) -> bytes:
    """Write the traces that results carry in their headers; nothing when none is sampled."""
    if not any(result.head for result in results):
        return b""
    traces = [b'"%b"' % trace_in(result.head) if result.head else b'""' for result in results]
    return b',"traceparents":[%b]' % b",".join(traces)
