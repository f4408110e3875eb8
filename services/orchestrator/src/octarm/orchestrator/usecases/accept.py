"""Accept tasks: durable first, then answered."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import msgspec
from pydantic import ValidationError

from octarm.common.bus.publisher import Outgoing
from octarm.common.clock import Clock
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import metrics, tracing
from octarm.ledger.domain.changes import AcceptAnswer, Entry, Known, Mark, Name
from octarm.ledger.domain.messages import NO_FIELDS, Told, history, ready, story
from octarm.ledger.domain.submissions import read_plain
from octarm.ledger.domain.tasks import NewTask, new_task, ready_task
from octarm.ledger.domain.tenants import Tenants
from octarm.models import hot
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import InvalidRequest, OctarmError, field_errors
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.ids import Prefix, derived_id, new_id
from octarm.orchestrator.domain.admission import Gate
from octarm.orchestrator.usecases.relay import Relay

SPAN: Final = "orchestrator.accept"
NO_ANSWER: Final = "NO_ANSWER"
_ACCEPTED: Final = (("accepted", NO_FIELDS),)
_QUEUED: Final = (*_ACCEPTED, ("ready", NO_FIELDS))


Traced = dict[int, tuple[str, str, str]]
"""By place, of sampled tasks: the tenant, what the span hangs below, and the span."""
Treat = Callable[[list[NewTask]], Awaitable[list[AcceptAnswer]]]


class Intake(Protocol):
    """Where fresh tasks are written."""

    async def accept(
        self,
        tasks: Sequence[NewTask],
        announce: Callable[[list[NewTask]], list[Outgoing]],
    ) -> tuple[list[AcceptAnswer], Entry | None]:
        """Write tasks in one transaction; one answer each."""
        ...

    async def held(self, names: Sequence[Name]) -> set[Mark]:
        """Find the keys and ids among these that the ledger holds."""
        ...

    async def look_up(self, tasks: list[NewTask]) -> list[AcceptAnswer]:
        """Answer tasks that were written before."""
        ...


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """One submission as it reached us; `origin` fixes the id of a keyless one from INTAKE."""

    tenant: str
    item: hot.SubmitTask
    origin: str | None = None
    arrived_at: datetime | None = None


def _nobody(_: Iterable[str]) -> None:
    return None


@dataclass(frozen=True, slots=True)
class AcceptTasks:
    """Writes a group of submissions in one commit and hands their news to the relay."""

    intake: Intake
    relay: Relay
    clock: Clock
    shards: int
    fresh_id: Callable[[Prefix], str] = new_id
    tenants: Tenants = field(default_factory=Tenants)
    gate: Gate = field(default_factory=Gate)
    nudge: Callable[[Iterable[str]], None] = _nobody
    """Is told which tenants have fresh tasks that may be held."""

    async def __call__(
        self, group: Sequence[Submitted], *, whole: bool = False
    ) -> list[AcceptAnswer]:
        """Give one answer each, in order; what cannot be accepted is answered, not raised.

        Of what the gate refuses, only what the ledger holds already is answered with its task.
        A `whole` group is refused whole.
        """
        refusals = self._refusals(group, whole)
        if any(refusals):
            answers = await self._refuse(group, refusals)
        else:
            answers = await self._answer(group, self._write)
        _count_refused(answers)
        return answers

    async def _answer(self, group: Sequence[Submitted], treat: Treat) -> list[AcceptAnswer]:
        answers: list[AcceptAnswer | None] = [None] * len(group)
        tasks: list[NewTask] = []
        places: list[int] = []
        began_ns, traced = time.time_ns(), Traced()
        for place, submitted in enumerate(group):
            try:
                tasks.append(self._read(submitted, place, traced))
                places.append(place)
            except OctarmError as error:
                answers[place] = error
        try:
            if tasks:
                for place, answer in zip(places, await treat(tasks), strict=True):
                    answers[place] = answer
        finally:
            _trace(traced, answers, began_ns)
        return [answer for answer in answers if answer is not None]

    def _refusals(self, group: Sequence[Submitted], whole: bool) -> list[OctarmError | None]:
        """Give what the gate has against each of them."""
        if (full := self.gate.refusal()) is not None:
            return [full] * len(group)
        if not self.gate.sheds:
            return []
        shed: list[OctarmError | None] = [
            self.gate.shed(one.tenant, bytes(one.item.submission)) for one in group
        ]
        one_of_all = [next(filter(None, shed), None)] * len(group)
        return one_of_all if whole else shed

    async def _refuse(
        self, group: Sequence[Submitted], refusals: Sequence[OctarmError | None]
    ) -> list[AcceptAnswer]:
        """Refuse what is new, without so much as reading it; answer what is a repetition."""
        answers: list[AcceptAnswer | None] = list(refusals)
        names = {n: self._name(group[n]) for n, refusal in enumerate(refusals) if refusal}
        held = await self.intake.held(list(names.values()))
        known = [place for place, name in names.items() if held & _marks(name)]
        free = [place for place, refusal in enumerate(refusals) if refusal is None]
        for places, treat in ((known, self.intake.look_up), (free, self._write)):
            found = await self._answer([group[place] for place in places], treat)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _name(self, submitted: Submitted) -> Name:
        item = submitted.item
        task_id = item.task_id or (self._task_id(submitted) if submitted.origin else None)
        try:
            return Name(submitted.tenant, _keyed(item.submission).idempotency_key, task_id)
        except NOT_UNDERSTOOD:
            return Name(submitted.tenant, None, task_id)

    async def _write(self, tasks: list[NewTask]) -> list[AcceptAnswer]:
        written, entry = await self.intake.accept(tasks, self._announce)
        failpoint("accept_after_commit")
        self.relay.hand_in(entry)
        created = sum(1 for answer in written if isinstance(answer, Known) and answer.created)
        self.gate.accepted(created)
        self.nudge({task.tenant for task in tasks if task.held})
        metrics.inc("octarm_orchestrator_tasks_accepted_total", created)
        return written

    def _read(self, submitted: Submitted, place: int, traced: Traced) -> NewTask:
        """Read a task; of a sampled one the span begins, which ends when the task is durable."""
        item = submitted.item
        parent = item.traceparent if tracing.valid(item.traceparent) else tracing.root()
        if not tracing.is_sampled(parent):
            return self._new_task(submitted, parent)
        own = tracing.child(parent)
        traced[place] = submitted.tenant, parent, own
        return self._new_task(submitted, own)

    def _new_task(self, submitted: Submitted, traceparent: str) -> NewTask:
        item = submitted.item
        rules = self.tenants.of(submitted.tenant)
        body = bytes(item.submission)
        plain = read_plain(body) if rules.default_budget is None else None
        return new_task(
            plain or _wanted(body),
            task_id=item.task_id or self._task_id(submitted),
            tenant=submitted.tenant,
            traceparent=traceparent,
            now=self.clock.now(),
            rules=rules,
        )

    def _task_id(self, submitted: Submitted) -> str:
        """Make an id: fresh, or for a redeliverable message the one that its place implies."""
        if submitted.origin is None or submitted.arrived_at is None:
            return self.fresh_id("tsk")
        unix_ms = int(submitted.arrived_at.timestamp() * 1000)
        return derived_id("tsk", submitted.origin, unix_ms=unix_ms)

    def _announce(self, tasks: list[NewTask]) -> list[Outgoing]:
        queued = [task for task in tasks if not task.waits]
        told = [event for task in tasks for event in _story(task)]
        return ready([ready_task(task) for task in queued], shards=self.shards) + history(told)


def _trace(traced: Traced, answers: Sequence[AcceptAnswer | None], began_ns: int) -> None:
    """End the spans of a group, as its commit has."""
    ended_ns = time.time_ns()
    for place, (tenant, parent, own) in traced.items():
        answer = answers[place]
        if isinstance(answer, Known):
            hop = tracing.Hop(SPAN, parent, own, began_ns, ended_ns, answer.task_id, (tenant,))
            tracing.passed(hop)
        else:
            error = answer.code if answer is not None else NO_ANSWER
            own_id = tracing.span_id(own)
            tracing.record(SPAN, parent, began_ns, error=error, span_id=own_id, tenant=tenant)


def _wanted(body: bytes) -> TaskSubmission:
    try:
        return TaskSubmission.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(
            "the task breaks its contract", errors=field_errors(error.errors())
        ) from error


class _Keyed(msgspec.Struct):
    idempotency_key: str | None = None


_keyed = msgspec.json.Decoder(_Keyed).decode


def _marks(name: Name) -> set[Mark]:
    """Give by what the ledger may recognise a submission."""
    marks: set[Mark] = set()
    if name.idem_key is not None:
        marks.add((name.tenant, name.idem_key))
    if name.task_id is not None:
        marks.add(name.task_id)
    return marks


def _count_refused(answers: Iterable[AcceptAnswer]) -> None:
    codes = Counter(answer.code for answer in answers if isinstance(answer, OctarmError))
    for code, number in codes.items():
        metrics.inc("octarm_orchestrator_tasks_refused_total", number, code=code)


def _story(task: NewTask) -> list[Told]:
    return story(
        _ACCEPTED if task.waits else _QUEUED,
        task_id=task.task_id,
        tenant=task.tenant,
        first_seq=1,
        attempt=1,
        at=task.created_at,
        traceparent=task.traceparent,
    )
