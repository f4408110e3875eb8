"""The models of a history: a task, a budget, a lease."""

from collections.abc import Hashable, Iterable
from typing import Final

from octarm.verify.history import Operation
from octarm.verify.lifecycle import TERMINAL
from octarm.verify.linearizability import Model

_RANK: Final = {
    state: rank
    for rank, state in enumerate(("waiting", "queued", "dispatched", "running", "validating"))
} | {state: len(TERMINAL) for state in TERMINAL}

_HANDED_IN: Final = ("handed in", 0, True)
_ACCEPTED: Final = ("waiting", 1, True)


class TaskModel:
    """A register that moves on by itself: a read may find it further on, never further back.

    Its state is None until it is handed in or accepted, then (state, attempt, whether that is
    the attempt itself or, for want of being told, the least that it may be).
    """

    def start(self) -> Hashable:
        """Nothing has been accepted."""
        return None

    def step(self, state: Hashable, operation: Operation) -> Iterable[Hashable]:
        """See `Model.step`."""
        absent = state is None or state == _HANDED_IN
        if operation.outcome == "fail":
            return [state] if absent or operation.value.get("code") != "TASK_NOT_FOUND" else []
        if operation.op == "publish":
            return [_HANDED_IN if absent else state]
        if operation.op == "submit":
            # That it was there already may be the work of a request whose answer was lost.
            return [_ACCEPTED] if absent else [] if operation.value.get("created") else [state]
        if operation.outcome == "unknown":
            # A cancel may have ended it; but so may its deadline, at any time.
            return [state]
        return self._seen(state, operation)

    def _seen(self, before: Hashable, operation: Operation) -> list[Hashable]:
        found = str(operation.value.get("state", ""))
        if found not in _RANK:
            return [before]
        if not isinstance(before, tuple):
            return []
        state, attempt, exact = before
        # Called off, and its work has yet to stop: it ends in whatever way that takes.
        over = found in TERMINAL or operation.value.get("cancelling")
        if operation.op == "cancel" and not over:
            return []
        told = operation.value.get("attempt")
        further = _RANK[found] > _RANK.get(state, -1)
        if found == state and (told is None or told == attempt or (not exact and told > attempt)):
            return [before if told is None else (found, told, True)]
        if state in TERMINAL:
            return []
        if told is None:
            return [(found, attempt if further else attempt + 1, False)]
        return [(found, told, True)] if told > attempt or (told == attempt and further) else []


class BudgetModel:
    """A bounded counter: what is reserved and spent never exceeds what was granted.

    A refusal must have been necessary. Its state is (granted, used).
    """

    def start(self) -> Hashable:
        """Nothing was granted."""
        return (0, 0)

    def step(self, state: Hashable, operation: Operation) -> Iterable[Hashable]:
        """See `Model.step`."""
        assert isinstance(state, tuple)
        granted, used = state
        amount = int(operation.args.get("amount", 0))
        fits = used + amount <= granted
        if operation.op == "reserve":
            if operation.outcome == "fail":
                refused = operation.value.get("code") in ("BUDGET_EXCEEDED", "QUOTA_EXCEEDED")
                return [] if refused and fits else [state]
            return [(granted, used + amount)] if fits else []
        if operation.outcome == "fail":
            return [state]
        if operation.op == "grant":
            return [(granted + amount, used)]
        return [(granted, used + amount - int(operation.args.get("reserved", 0)))]


class LeaseModel:
    """A lock that may run out unseen, with a fencing token: only the newest token may write.

    Its state is (newest token, whether somebody holds it).
    """

    def start(self) -> Hashable:
        """Nobody has held it."""
        return (0, False)

    def step(self, state: Hashable, operation: Operation) -> Iterable[Hashable]:
        """See `Model.step`."""
        assert isinstance(state, tuple)
        newest, held = state
        token = int(operation.value.get("token") or operation.args.get("token", 0))
        if operation.op == "acquire":
            return self._acquired(newest, held, operation, token)
        if operation.outcome == "fail":
            # Refused because of a newer token, or because it was given back.
            return [state] if token < newest or not held else []
        if operation.op == "release":
            return [(newest, held and token != newest)]
        if operation.outcome == "unknown" or (token == newest and held):
            return [state]
        return []

    def _acquired(
        self, newest: int, held: bool, operation: Operation, token: int
    ) -> list[Hashable]:
        if operation.outcome == "fail":
            return [(newest, held)] if held else []
        if operation.outcome == "unknown":
            return [(newest + 1, True)]
        return [(token, True)] if token > newest else []


MODELS: Final[dict[str, Model]] = {
    "task": TaskModel(),
    "budget": BudgetModel(),
    "lease": LeaseModel(),
}
OBJECTS: Final = {
    **dict.fromkeys(("submit", "publish", "get", "cancel"), "task"),
    **dict.fromkeys(("grant", "reserve", "settle"), "budget"),
    **dict.fromkeys(("acquire", "write", "release"), "lease"),
}


def object_of(operation: Operation) -> str | None:
    """Name the object that an operation is about, as `kind:id`; None when no model has it."""
    kind = OBJECTS.get(operation.op)
    if kind is None:
        return None
    name = operation.args.get(kind) or operation.args.get(f"{kind}_id")
    if kind == "task":
        name = operation.value.get("task_id") or name
    return f"{kind}:{name}" if name else None
