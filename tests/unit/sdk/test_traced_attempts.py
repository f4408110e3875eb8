"""An attempt's span: of a sampled task always, of another only when it failed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from octarm.common.telemetry import tracing
from octarm.models.contracts import TaskContract
from octarm.models.errors import Unavailable
from octarm.sdk import Context
from tests.support.spans import spans_in
from tests.support.workers import Arrangement, a_command

SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tracing.setup_tracing("worker", f"file:{tmp_path}", sample=0)
    yield tmp_path
    tracing.shutdown()


async def fail(task: TaskContract) -> None:
    raise Unavailable("sk-live-0123456789abcdef0123 is not taken by ann@example.org")


async def work(task: TaskContract, ctx: Context) -> str:
    with ctx.span("look_up", shelf="7"):
        return "done"


async def test_a_sampled_attempt_has_a_span_and_its_steps_below(folder: Path) -> None:
    await Arrangement(work).run(a_command(traceparent=SAMPLED))

    step, attempt = spans_in(folder)
    assert (attempt["name"], attempt["parent_id"], attempt["status"]) == (
        *("arm.run", "b" * 16, "UNSET"),
    )
    assert (step["name"], step["parent_id"]) == ("look_up", attempt["span_id"])
    assert attempt["attributes"]["gen_ai.agent.id"] == attempt["attributes"]["octarm.arm.id"]


@pytest.mark.parametrize(("traceparent", "sampled"), [(SAMPLED, None), (UNSAMPLED, False)])
async def test_a_failed_attempt_has_one_whether_sampled_or_not(
    folder: Path, traceparent: str, sampled: bool | None
) -> None:
    await Arrangement(fail).run(a_command(traceparent=traceparent))

    (span,) = spans_in(folder)
    assert (span["name"], span["status"]) == ("arm.run", "ERROR")
    assert span["attributes"]["error.type"] == "SERVICE_UNAVAILABLE"
    assert span["attributes"].get("octarm.trace.sampled") is sampled
    assert span["start_ns"] < span["end_ns"]
    assert "ann@" not in json.dumps(span)


async def test_what_is_not_sampled_and_goes_well_leaves_none(folder: Path) -> None:
    await Arrangement(work).run(a_command(traceparent=UNSAMPLED))

    assert spans_in(folder) == []
