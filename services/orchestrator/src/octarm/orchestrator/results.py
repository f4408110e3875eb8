"""What schedulers send to arms and what arms report: translation, and a moment of patience."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import zip_longest
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from octarm.common.bus.delivery import ACK, HELD, Dead, Delivery, Outcome
from octarm.common.clock import Clock, set_within
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import tracing
from octarm.ledger.domain.news import AttemptNews, Gathering, Key, Placement
from octarm.models import hot
from octarm.models.errors import Problem
from octarm.models.hot_types import NOT_UNDERSTOOD, ArmId, Attempt, Aware, TaskId, Text
from octarm.models.results import MAX_RESULT_BYTES
from octarm.models.subjects import ATTEMPTS_UPDATED, RESULT, RESULTS_REPORTED, RUN_TASKS
from octarm.orchestrator.domain.patience import HeldPlacements

# Longer than a busy arm takes to start what it was given; a start that is told ends the wait.
PATIENCE_S: Final = 0.5
LOOKS_EVERY_S: Final = 0.1
MAX_ERROR_BYTES: Final = 64 * 1024
_RESULTS: Final = RESULT.pattern.removesuffix("*")
_REPORTS: Final = RESULTS_REPORTED.pattern.removesuffix("*")
_COMMANDS: Final = RUN_TASKS.pattern.removesuffix("*")
_UPDATES: Final = ATTEMPTS_UPDATED.pattern.removesuffix("*")

_result = msgspec.json.Decoder(hot.Result).decode
_report = msgspec.json.Decoder(hot.ResultsReported).decode
_updates = msgspec.json.Decoder(hot.AttemptsUpdated).decode


class _Command(msgspec.Struct, gc=False):
    """What the ledger keeps of a `RunTask`."""

    task_id: TaskId
    attempt: Attempt
    reason: Text = ""
    scores: Annotated[list[hot.Score], Meta(max_length=5)] = []


class _Bundle(msgspec.Struct):
    """What the ledger keeps of a `RunTasks`."""

    arm_id: ArmId
    placed_at: Aware
    policy: Text
    tasks: Annotated[list[_Command], Meta(min_length=1, max_length=64)]


_bundle = msgspec.json.Decoder(_Bundle).decode
Reported = tuple[str, int, str]  # task id, attempt, arm
Record = Callable[[list[AttemptNews]], Awaitable[dict[Key, str]]]


class ResultsConsumer:
    """Records what arms report and where schedulers sent it, one transaction a batch.

    A placement waits for the news of its attempt's start or end for `patience_s` seconds,
    its run command unacknowledged; 0 means that nothing waits. News waits for nothing: a
    placement that it has overtaken is recorded at once when it comes.
    """

    def __init__(self, record: Record, clock: Clock, *, patience_s: float = PATIENCE_S) -> None:
        self._record = record
        self._clock = clock
        self._patience_s = patience_s
        self._held: HeldPlacements[Delivery] = HeldPlacements()
        self._recalled: set[Delivery] = set()
        self._holds = asyncio.Event()

    @property
    def holds_any(self) -> bool:
        """Whether placements wait."""
        return bool(self._held)

    async def run(self, stop: asyncio.Event) -> None:
        """Recall placements that have waited long enough; at `stop` hand all of them back."""
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self._holds.set())
        while not stop.is_set():
            await self._holds.wait()
            await set_within(stop, LOOKS_EVERY_S)
            self._recall(self._clock.monotonic() - self._patience_s)
            if not self._held and not stop.is_set():
                self._holds.clear()
        self._patience_s = 0.0
        for delivery in self._held.ripe(since=self._clock.monotonic()):
            delivery.retry()

    def _recall(self, since: float) -> None:
        for delivery in self._held.ripe(since=since):
            if delivery.settled:
                # Its batch was refused: it will be delivered anew.
                self._held.release(delivery)
            elif delivery not in self._recalled:
                self._recalled.add(delivery)
                delivery.again()

    async def __call__(self, batch: list[Delivery]) -> list[Outcome]:
        """Handle one batch; placements that were read together with it go first."""
        if self._patience_s and not batch[0].subject.startswith(_COMMANDS):
            await asyncio.sleep(0)
        gathering = Gathering()
        outcomes: list[Outcome] = [ACK] * len(batch)
        results: dict[Reported, int] = {}
        overtaken: list[Key] = []
        for place, delivery in enumerate(batch):
            try:
                if self._waits(gathering, delivery, overtaken):
                    outcomes[place] = HELD
                    continue
                reported, spoiled = _take(gathering, delivery)
            except NOT_UNDERSTOOD as error:
                outcomes[place] = Dead(f"not understood: {error}")
                continue
            if spoiled:
                outcomes[place] = Dead(f"partly not understood: {spoiled}")
            results.update(dict.fromkeys(reported, place))
        along = self._held.take([*gathering.keys(), *overtaken])
        gathering.placed(along)
        if self._patience_s:
            self._held.overtake(gathering.unplaced())
        try:
            await self._write(gathering, results, outcomes)
        finally:
            self._held.put_back(along)
        failpoint("results_before_ack")
        for delivery in self._held.recorded(along):
            delivery.ack()
        return outcomes

    def _waits(self, gathering: Gathering, delivery: Delivery, overtaken: list[Key]) -> bool:
        """Whether a delivery holds placements that wait a moment; a recalled one is taken in."""
        if not delivery.subject.startswith(_COMMANDS):
            return False
        if delivery in self._recalled:
            self._recalled.discard(delivery)
            if self._held.is_taken(delivery):
                return True
            own = self._held.release(delivery)
            gathering.placed(own)
            # Without any, a later delivery of the message speaks for it, and is to settle it.
            return not own
        placements = _placements(delivery)
        if not self._patience_s:
            gathering.placed(placements)
            return False
        self._held.hold(delivery, placements, now=self._clock.monotonic())
        overtaken += self._held.overtaken(placements)
        self._holds.set()
        failpoint("placements_held")
        return True

    async def _write(
        self, gathering: Gathering, results: dict[Reported, int], outcomes: list[Outcome]
    ) -> None:
        for news in (gathering.all(), *gathering.contested()):
            refused = await self._record(news)
            for item in news if refused else ():
                place = results.get((*item.key, item.arm_id), -1)
                if item.key in refused and place >= 0:
                    outcomes[place] = Dead(refused[item.key])


def _placements(delivery: Delivery) -> list[Placement]:
    """Read where a run command sends its attempts."""
    bundle, seq = _bundle(delivery.data), delivery.stream_seq
    arm_id, at, policy = bundle.arm_id, bundle.placed_at, bundle.policy
    if delivery.subject.rpartition(".")[2] != arm_id:
        raise ValueError("a run command must come on the subject of its own arm")
    return [
        Placement(it.task_id, it.attempt, arm_id, seq, at, policy, it.reason, it.scores)
        for it in bundle.tasks
    ]


def _take(gathering: Gathering, delivery: Delivery) -> tuple[list[Reported], str]:
    """Take one message in; gives the attempts it holds results of, and what is wrong with it."""
    subject = delivery.subject
    if subject.startswith(_RESULTS):
        trace = delivery.headers.get("traceparent", "")
        trace = trace if tracing.valid(trace) else ""
        return [_take_result(gathering, delivery, delivery.data, trace)], ""
    if subject.startswith(_REPORTS):
        return _take_report(gathering, delivery)
    if subject.startswith(_UPDATES):
        gathering.updated(_updates(delivery.data))
    return [], ""


def _take_report(gathering: Gathering, delivery: Delivery) -> tuple[list[Reported], str]:
    """Take what can be read of a bundle: one bad result must not lose the others."""
    reported, spoiled = [], ""
    report = _report(delivery.data)
    for body, trace in zip_longest(report.results, report.traceparents[: len(report.results)]):
        try:
            reported.append(_take_result(gathering, delivery, bytes(body), trace or ""))
        except NOT_UNDERSTOOD as error:
            spoiled = str(error)
    return reported, spoiled


def _take_result(gathering: Gathering, delivery: Delivery, body: bytes, trace: str) -> Reported:
    if len(body) > MAX_RESULT_BYTES:
        raise ValueError(f"it has {len(body)} bytes, {MAX_RESULT_BYTES} are allowed")
    result = _result(body)
    body.decode()  # What is only passed on has not been looked at: is it UTF-8?
    if delivery.subject.rpartition(".")[2] != result.arm_id:
        raise ValueError("a result must come on the subject of its own arm")
    if result.status != "success":
        if len(result.error) > MAX_ERROR_BYTES:
            raise ValueError(f"its error has more than {MAX_ERROR_BYTES} bytes")
        # It is told in events and answers, which must be readable.
        Problem.model_validate_json(bytes(result.error))
    gathering.ended(result, body, trace)
    return result.task_id, result.attempt, result.arm_id
