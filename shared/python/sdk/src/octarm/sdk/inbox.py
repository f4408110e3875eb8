"""Run commands on their way to a slot."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw

from octarm.common.bus.delivery import Delivery
from octarm.models.hot_types import Attempt, Slots, TaskId, TraceParent
from octarm.sdk.recent import Key

HELD_S: Final = 25.0  # After 30 s the server delivers again what nobody has taken.


class Command(msgspec.Struct, frozen=True, gc=False):
    """What an arm reads of a `RunTask`."""

    task_id: TaskId
    attempt: Attempt
    task: Raw
    traceparent: TraceParent = ""
    slots: Slots = 1


class _Bundle(msgspec.Struct):
    """What an arm reads of a `RunTasks`."""

    tasks: Annotated[list[Command], Meta(min_length=1, max_length=64)]


_decode = msgspec.json.Decoder(_Bundle).decode


def commands_in(data: bytes) -> list[Command]:
    """Read a message of DISPATCH.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return _decode(data).tasks


def message_of(commands: Sequence[Command]) -> bytes:
    """Write what `commands_in` reads."""
    return msgspec.json.encode(_Bundle(list(commands)))


class Inbox:
    """Commands that find no slot: whole bundles that another may have, and what one has begun.

    A bundle of which nothing has started is held unacknowledged for `held_s` seconds; then it
    goes back to the stream. Once one of its commands starts it is acknowledged, and this
    instance answers for all of them: they are `queued`.
    """

    def __init__(self, held_s: float = HELD_S) -> None:
        self._held_s = held_s
        self._held: dict[Key, tuple[Delivery, dict[Key, Command], float]] = {}
        self.queued: dict[Key, Command] = {}
        # What the commands here take beyond one slot each.
        self._more = 0

    @property
    def slots(self) -> int:
        """How many slots the commands here will take."""
        return len(self) + self._more

    def __len__(self) -> int:
        return len(self.queued) + sum(len(commands) for _, commands, _ in self._held.values())

    def hold(self, delivery: Delivery, commands: Sequence[Command]) -> None:
        """Keep a bundle; one that has come again is acknowledged by its new delivery."""
        by_key = {(command.task_id, command.attempt): command for command in commands}
        first = next(iter(by_key))
        if first in self._held:
            self._more -= _more(self._held[first][1])
        self._more += _more(by_key)
        self._held[first] = delivery, by_key, time.monotonic()

    def queue(self, commands: Sequence[Command]) -> None:
        """Let the commands of an acknowledged bundle wait."""
        by_key = {(command.task_id, command.attempt): command for command in commands}
        self._more += _more(by_key)
        self.queued.update(by_key)

    def next(self, room: int) -> Command | None:
        """Take out the command that goes first, if it takes `room` slots at most.

        It is acknowledged with its bundle. One that wants more keeps its turn: those behind it
        wait, or it would wait for ever.
        """
        while not self.queued and self._held:
            first = next(iter(self._held))
            delivery, commands, since = self._held[first]
            if time.monotonic() - since > self._held_s:
                delivery.retry()  # By now another instance may have it.
                self._more -= _more(commands)
            elif next(iter(commands.values())).slots > room:
                return None
            else:
                delivery.ack()
                self.queued.update(commands)
            del self._held[first]
        if not self.queued:
            return None
        key, command = next(iter(self.queued.items()))
        if command.slots > room:
            return None
        self._more -= command.slots - 1
        return self.queued.pop(key)

    def take(self, key: Key) -> Command | None:
        """Take out one command; a held bundle with nothing left is acknowledged."""
        if (queued := self.queued.pop(key, None)) is not None:
            self._more -= queued.slots - 1
            return queued
        for first, (delivery, commands, _) in self._held.items():
            if (held := commands.pop(key, None)) is not None:
                self._more -= held.slots - 1
                if not commands:
                    del self._held[first]
                    delivery.ack()
                return held
        return None

    def close(self) -> list[Command]:
        """Give held bundles back to the stream, and the commands that are this instance's."""
        for delivery, *_ in self._held.values():
            delivery.retry()
        self._held.clear()
        queued, self.queued = self.queued, {}
        self._more = 0
        return list(queued.values())


def _more(commands: Mapping[Key, Command]) -> int:
    """Count what they take beyond one slot each."""
    return sum([command.slots for command in commands.values()]) - len(commands)
