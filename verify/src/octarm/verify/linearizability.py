"""Whether one object's operations have an order that its model allows (Wing & Gong, Lowe).

An order must keep every operation between its invocation and its completion. An operation whose
outcome is unknown may take its place at any time after its invocation, or never. Objects are
independent, so each is judged alone (P-compositionality): few operations overlap on one object,
which keeps the search short.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from octarm.verify.history import Operation

MOST_STATES: Final = 200_000


class Model(Protocol):
    """What an object may do: its state before anything, and the states after an operation."""

    def start(self) -> Hashable:
        """Give the first state."""
        ...

    def step(self, state: Hashable, operation: Operation) -> Iterable[Hashable]:
        """Give the states in which it may leave the object; none if its outcome was impossible."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """`ok` is None when the search was given up; `stuck_at` is what could not be placed."""

    ok: bool | None
    stuck_at: Operation | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a search stands: operations before `low` and those of `mask` (from `low`) are done."""

    low: int
    mask: int
    state: Hashable


def judge(operations: Iterable[Operation], model: Model) -> Judgement:
    """Look for an order of one object's operations."""
    ops = sorted(operations, key=lambda operation: operation.invoke)
    ends = [_end(operation) for operation in ops]
    last = max((number for number, end in enumerate(ends) if end < inf), default=-1)
    seen: set[_Place] = set()
    todo = [_Place(0, 0, model.start())]
    furthest = 0
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        first = _first_required(place, ends, last)
        if first is None:
            return Judgement(True)
        furthest = max(furthest, first)
        if len(seen) > MOST_STATES:
            return Judgement(None, ops[furthest])
        # What completes first is tried first: it is nearly always right.
        for number in sorted(_candidates(place, ops, ends), key=lambda n: -ends[n]):
            todo += [_after(place, number, s) for s in model.step(place.state, ops[number])]
    return Judgement(False, ops[furthest])


def _end(operation: Operation) -> float:
    if operation.outcome == "unknown" or operation.complete is None:
        return inf
    return operation.complete


def _first_required(place: _Place, ends: Sequence[float], last: int) -> int | None:
    """Give the first operation that has completed and is not placed yet."""
    for number in range(place.low, last + 1):
        if ends[number] < inf and not place.mask >> (number - place.low) & 1:
            return number
    return None


def _candidates(place: _Place, ops: Sequence[Operation], ends: Sequence[float]) -> list[int]:
    """List what may come next: whatever began before anything that is left had to be over."""
    candidates: list[int] = []
    bound = inf
    for number in range(place.low, len(ops)):
        if ops[number].invoke > bound:
            break
        if not place.mask >> (number - place.low) & 1:
            candidates.append(number)
            bound = min(bound, ends[number])
    return candidates


def _after(place: _Place, number: int, state: Hashable) -> _Place:
    mask = place.mask | 1 << (number - place.low)
    low = place.low
    while mask & 1:
        mask >>= 1
        low += 1
    return _Place(low, mask, state)
