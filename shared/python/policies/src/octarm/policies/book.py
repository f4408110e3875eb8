"""The versions that are kept, what was deployed, and what each change is recorded as: pure.

Every change gives a new book and the fact to announce; ids and times are passed in. Storing the
book and compiling sources are the caller's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from octarm.models.errors import Conflict, NotFound
from octarm.models.events import PolicyEvent
from octarm.models.policies import (
    Deployment,
    PolicyInfo,
    PolicyState,
    SavePolicy,
)
from octarm.policies.supervisor import PLATFORM
from octarm.policies.versions import digest

MAX_VERSIONS: Final = 1_000
MAX_DEPLOYMENTS: Final = 100
MAX_BECAUSE: Final = 300
SHORTEST_REF: Final = 8
UNKNOWN: Final = "POLICY_NOT_FOUND"
_NAMES: Final = "A policy is named by its digest, eight digits of it or more, or its name."

Verb = Literal[
    "policy.saved",
    "policy.deployed",
    "policy.shadowed",
    "policy.rolled_back",
    "policy.tripped",
    "policy.deleted",
]


@dataclass(frozen=True, slots=True)
class Act:
    """Who does something, when, and under which id it is recorded; whether he may is settled."""

    event_id: str
    at: datetime
    by: str

    def event(self, verb: Verb, policy: str, **detail: str) -> PolicyEvent:
        """Record what was done."""
        return PolicyEvent(
            event_id=self.event_id,
            occurred_at=self.at,
            type=verb,
            policy=policy,
            detail={"by": self.by, **detail},
        )


@dataclass(frozen=True, slots=True)
class Book:
    """Versions by digest, deployments with the newest first, and the shadow if there is one.

    Sources are kept elsewhere: nothing here asks for them.
    """

    versions: Mapping[str, PolicyInfo] = field(default_factory=dict)
    deployments: tuple[Deployment, ...] = ()
    shadow: str | None = None
    tripped: frozenset[str] = frozenset()

    @property
    def live(self) -> str | None:
        """The version that decides; None is the platform's own policy."""
        return self.deployments[0].digest if self.deployments else None

    def find(self, ref: str) -> PolicyInfo:
        """Give the version that a digest, its beginning, or a name means.

        Raises:
            NotFound: there is none.
            Conflict: several versions begin like that.
        """
        if ref in self.versions:
            return self.versions[ref]
        named = [it for it in self.versions.values() if it.name == ref]
        if named:
            return max(named, key=lambda it: (it.created_at, it.digest))
        alike = [it for it in self.versions.values() if it.digest.startswith(ref)]
        if len(ref) < SHORTEST_REF or not alike:
            raise NotFound(f"there is no policy {ref}", _NAMES, UNKNOWN)
        if len(alike) > 1:
            raise Conflict(
                f"{len(alike)} policies begin with {ref}", "Give more digits.", "AMBIGUOUS_POLICY"
            )
        return alike[0]

    def listed(self, name: str | None = None) -> list[PolicyInfo]:
        """Give all versions (of that name) without their sources, the newest first."""
        found = [it for it in self.versions.values() if name in (None, it.name)]
        found.sort(key=lambda it: (it.created_at, it.digest), reverse=True)
        return [self.stated(it) for it in found]

    def stated(self, version: PolicyInfo) -> PolicyInfo:
        """Give the version with its present state."""
        state: PolicyState = "idle"
        if version.digest == self.live:
            state = "live"
        elif version.digest == self.shadow:
            state = "shadow"
        elif version.digest in self.tripped:
            state = "tripped"
        return version.model_copy(update={"state": state})


Change = tuple[Book, PolicyEvent | None]


def save(book: Book, wanted: SavePolicy, act: Act) -> tuple[Book, PolicyInfo, PolicyEvent | None]:
    """Keep a version; content that is there already stays as it is, whatever its name.

    Raises:
        Conflict: there are too many versions.
    """
    name = digest(wanted.source, wanted.kind)
    if name in book.versions:
        return book, book.versions[name], None
    if len(book.versions) >= MAX_VERSIONS:
        raise Conflict(
            f"there are {MAX_VERSIONS} versions",
            "Delete some that nobody needs.",
            "TOO_MANY_POLICIES",
        )
    version = PolicyInfo(
        digest=name,
        name=wanted.name,
        kind=wanted.kind,
        size_bytes=len(wanted.source.encode()),
        created_at=act.at,
        created_by=act.by,
        note=wanted.note,
    )
    kept = replace(book, versions={**book.versions, name: version})
    return kept, version, act.event("policy.saved", name, name=wanted.name)


def deploy(book: Book, ref: str, act: Act) -> Change:
    """Let a version decide; the one that does already stays, and nothing is recorded.

    Raises:
        NotFound, Conflict: as `Book.find`.
    """
    version = book.find(ref)
    if version.digest == book.live:
        return book, None
    known = replace(book, tripped=book.tripped - {version.digest})
    return _switch(known, version.digest, act, verb="policy.deployed", because="deployed")


def shadow(book: Book, ref: str | None, act: Act) -> Change:
    """Let a version be asked beside the one that decides; None ends that.

    Raises:
        NotFound, Conflict: as `Book.find`.
    """
    wanted = None if ref is None else book.find(ref).digest
    if wanted == book.shadow:
        return book, None
    return replace(book, shadow=wanted), act.event("policy.shadowed", wanted or "none")


def roll_back(book: Book, act: Act) -> Change:
    """Let the version decide that did before the live one; without one, the platform's policy.

    Raises:
        Conflict: the platform's own policy decides, and did all the time.
    """
    if not book.deployments:
        raise Conflict("nothing was deployed", "Deploy a policy first.", "NOTHING_DEPLOYED")
    before = book.deployments[0].replaces
    target = before if before in book.versions else None
    return _switch(book, target, act, verb="policy.rolled_back", because="rolled back")


def trip(book: Book, to: str, because: str, act: Act) -> Change:
    """Record that the live version was taken back; `to` is what the supervisor chose instead."""
    live = book.live
    if live is None:
        return book, None
    target = None if to == PLATFORM or to not in book.versions else to
    known = replace(book, tripped=book.tripped | {live})
    changed, _ = _switch(known, target, act, verb="policy.tripped", because=because)
    detail = {"because": because[:MAX_BECAUSE], "now": target or PLATFORM}
    return changed, act.event("policy.tripped", live, **detail)


def delete(book: Book, ref: str, act: Act) -> Change:
    """Forget a version; one that is not there is forgotten already.

    Raises:
        Conflict: it decides or shadows, or several versions begin like that.
    """
    try:
        version = book.find(ref)
    except NotFound:
        return book, None
    if version.digest in (book.live, book.shadow):
        raise Conflict(
            f"{ref} is in use", "Deploy another version first, or end the shadow.", "POLICY_IN_USE"
        )
    rest = {key: it for key, it in book.versions.items() if key != version.digest}
    kept = replace(book, versions=rest, tripped=book.tripped - {version.digest})
    return kept, act.event("policy.deleted", version.digest, name=version.name)


def _switch(book: Book, to: str | None, act: Act, *, verb: Verb, because: str) -> Change:
    deployed = Deployment(
        digest=to, replaces=book.live, at=act.at, by=act.by, because=because[:MAX_BECAUSE]
    )
    history = (deployed, *book.deployments)[:MAX_DEPLOYMENTS]
    changed = replace(book, deployments=history)
    return changed, act.event(verb, to or PLATFORM, replaces=book.live or PLATFORM)
