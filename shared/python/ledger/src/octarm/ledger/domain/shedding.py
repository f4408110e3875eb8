"""What operators have told the fleet to refuse; pure, and the same in every orchestrator."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from octarm.models.contracts import PRIORITY_WORDS
from octarm.models.errors import Backpressure
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.shedding import ShedMode

CODE: Final = "LOAD_SHED"
# Nobody knows when people switch back: come and ask twice a minute.
UNKNOWN_S: Final = 30
LONGEST_S: Final = 3600
JITTER: Final = 0.25
HINT: Final = "Operators have switched this off for a while; send it again after Retry-After."


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch that sheds; `left_s` is how long it still holds, None until somebody opens it."""

    mode: ShedMode
    reason: str
    left_s: float | None = None


class _Sketch(msgspec.Struct):
    """What has to be known of a submission before it is read."""

    tier: Any = None
    priority: Any = 5
    parent_task_id: Any = None


_sketch = msgspec.json.Decoder(_Sketch).decode


@dataclass(frozen=True, slots=True)
class Sheds:
    """The switches of the fleet (under None) and of tenants, as they were sampled."""

    switches: Mapping[str | None, Switch] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.switches)

    @property
    def all_new(self) -> bool:
        """Whether the whole fleet takes nothing new."""
        fleet = self.switches.get(None)
        return fleet is not None and fleet.mode is ShedMode.ALL_NEW

    def refusal(
        self, tenant: str, submission: bytes, chance: Callable[[], float]
    ) -> Backpressure | None:
        """Say why a submission is refused, None when it is not.

        The stricter of the fleet's switch and the tenant's counts. Children of accepted tasks
        pass: what was accepted has to come to an end.
        """
        found = [(whose, self.switches.get(whose)) for whose in (None, tenant)]
        standing = [(whose, switch) for whose, switch in found if switch is not None]
        if not standing:
            return None
        whose, switch = max(standing, key=lambda pair: pair[1].mode is ShedMode.ALL_NEW)
        if not _is_shed(switch.mode, submission):
            return None
        what = "batch tasks" if switch.mode is ShedMode.BATCH else "new tasks"
        of_whom = f" of {whose}" if whose else ""
        why = f": {switch.reason}" if switch.reason else ""
        return Backpressure(
            f"operators shed {what}{of_whom}{why}",
            HINT,
            CODE,
            retry_after_s=_retry_after_s(switch.left_s, chance()),
        )


def _is_shed(mode: ShedMode, submission: bytes) -> bool:
    try:
        sketch = _sketch(submission)
    except NOT_UNDERSTOOD:
        # Whoever reads it says what is wrong with it.
        return False
    if sketch.parent_task_id is not None:
        return False
    return mode is ShedMode.ALL_NEW or _is_batch(sketch)


def _is_batch(sketch: _Sketch) -> bool:
    if sketch.tier is not None:
        return bool(sketch.tier == "batch")
    priority = sketch.priority
    if isinstance(priority, str):
        priority = PRIORITY_WORDS.get(priority, 5)
    return isinstance(priority, int) and priority > 5


def _retry_after_s(left_s: float | None, chance: float) -> int:
    """Spread by a quarter, so that not everybody comes back at once."""
    seconds = min(LONGEST_S, UNKNOWN_S if left_s is None else max(1.0, left_s))
    return math.ceil(seconds * (1 + JITTER * chance))
