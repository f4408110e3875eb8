"""Accepting a sampled task is traced: that it is durable, or why it was refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.common.clock import SystemClock
from octarm.common.telemetry import tracing
from octarm.common.testing import RecordingPublisher
from octarm.ledger.domain.changes import AcceptAnswer, Entry, Known, Mark, Name
from octarm.ledger.domain.tasks import NewTask
from octarm.models import hot
from octarm.models.errors import InvalidRequest
from octarm.models.states import TaskState
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from octarm.orchestrator.usecases.relay import Relay
from tests.support.spans import spans_in
from tests.unit.orchestrator.test_relay import FakeOutbox

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = PARENT[:-1] + "0"


class FakeIntake:
    """Takes every task."""

    def __init__(self) -> None:
        self.tasks: list[NewTask] = []

    async def accept(
        self, tasks: Sequence[NewTask], announce: Callable[[list[NewTask]], list[Outgoing]]
    ) -> tuple[list[AcceptAnswer], Entry | None]:
        self.tasks += tasks
        return [Known(task.task_id, TaskState.QUEUED, created=True) for task in tasks], None

    async def held(self, names: Sequence[Name]) -> set[Mark]:
        return set()

    async def look_up(self, tasks: list[NewTask]) -> list[AcceptAnswer]:
        return []


def submitted(traceparent: str, **fields: object) -> Submitted:
    body = json.dumps({"goal": "read", "required_capabilities": ["any"]} | fields).encode()
    return Submitted("acme", hot.SubmitTask(msgspec.Raw(body), traceparent=traceparent))


async def test_of_a_group_what_is_sampled_has_a_span(tmp_path: Path) -> None:
    tracing.setup_tracing("orchestrator", f"file:{tmp_path}", sample=0)
    intake = FakeIntake()
    accept = AcceptTasks(intake, Relay(RecordingPublisher(), FakeOutbox()), SystemClock(), 1)

    answers = await accept(
        [submitted(PARENT), submitted(UNSAMPLED), submitted(PARENT, priority="no number")]
    )

    taken, refused = spans_in(tmp_path)
    assert isinstance(answers[2], InvalidRequest)
    assert [task.traceparent for task in intake.tasks] == [
        f"{PARENT[:36]}{taken['span_id']}-01",
        UNSAMPLED,
    ]
    assert taken["attributes"]["octarm.task.id"] == intake.tasks[0].task_id
    assert (taken["parent_id"], taken["status"]) == ("b" * 16, "UNSET")
    assert (refused["parent_id"], refused["status"]) == ("b" * 16, "ERROR")
    assert refused["attributes"]["error.type"] == answers[2].code
