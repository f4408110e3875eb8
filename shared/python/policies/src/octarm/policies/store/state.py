"""What is written about the policies, and the book that it stands for: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from octarm.models.commands import Message
from octarm.models.events import PolicyEvent
from octarm.models.ids import EventId, Sha256
from octarm.models.policies import Deployment, PolicyInfo
from octarm.policies.book import Book

MAX_DONE: Final = 100


class State(Message):
    """All but the versions, which stand under a key each: the id of the event of their saving.

    `done` names the last changes by their events, `untold` are events still to be published.
    """

    versions: dict[Sha256, EventId] = Field(default_factory=dict)
    deployments: list[Deployment] = Field(default_factory=list)
    shadow: Sha256 | None = None
    tripped: list[Sha256] = Field(default_factory=list)
    untold: list[PolicyEvent] = Field(default_factory=list)
    done: list[EventId] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kept:
    """A state and the revision it has; 0 when there is none yet."""

    state: State
    revision: int


def book_of(state: State, infos: Mapping[str, PolicyInfo]) -> Book:
    """Give the book of a state; `infos` by key. A version that is not there is left out."""
    versions = {digest: infos[key] for digest, key in state.versions.items() if key in infos}
    return Book(versions, tuple(state.deployments), state.shadow, frozenset(state.tripped))


def state_of(before: State, changed: Book, event: PolicyEvent) -> State:
    """Give the state after a change; a version that is new stands under the event's id."""
    return State(
        versions={
            digest: before.versions.get(digest, event.event_id) for digest in changed.versions
        },
        deployments=list(changed.deployments),
        shadow=changed.shadow,
        tripped=sorted(changed.tripped),
        untold=[*before.untold, event],
        done=[*before.done, event.event_id][-MAX_DONE:],
    )
