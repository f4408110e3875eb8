"""Run what a task asks for and report it as an ExecutionResult."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
from pydantic import JsonValue

from octarm.executor.job import BadJob, Job, job_from
from octarm.executor.limits import Limits, Outcome
from octarm.executor.sandbox import Runner
from octarm.models.contracts import ExitCodeCriterion, TaskContract
from octarm.models.errors import FieldError, InvalidRequest, OctarmError, TaskFailed, TimedOut
from octarm.models.results import ExecutionResult, ProvenanceMetadata

MAX_OUTPUT_BYTES: Final = 120 * 1024
"""Of the whole output as JSON; a result may have 128 KiB."""


class Attempt(Protocol):
    """Who runs the task (`octarm.sdk.Context` is one)."""

    attempt: int
    arm_id: str
    instance_id: str

    @property
    def time_limit_s(self) -> float | None:
        """Seconds that its budget allows it; None is no limit."""


@dataclass(frozen=True, slots=True)
class RunTask:
    """Runs the command or snippet of a task.

    The task fails, and must not be tried again, when the exit code is not the expected one
    (`constraints.expect_exit_code`, else that of an `exit_code` criterion, else 0) or a limit was
    hit; what the program wrote is in the result either way.
    """

    runner: Runner
    limits: Limits

    async def __call__(self, task: TaskContract, attempt: Attempt) -> ExecutionResult:
        """
        Raises:
            InvalidRequest: the task does not say what to run.
        """
        try:
            job = job_from(task.context, _constraints(task))
        except BadJob as bad:
            raise InvalidRequest(
                f"nothing to run: {bad}",
                'Put {"command": ["ls", "-l"]}, {"command": "ls | wc"} or {"python": "print(1)"} '
                "into the task's context.",
                errors=[FieldError(field=bad.field, message=str(bad))],
            ) from None
        outcome = await self.runner.run(job, self._limits(task, attempt))
        error = verdict(job, outcome)
        return ExecutionResult(
            task_id=task.task_id,
            attempt=attempt.attempt,
            arm_id=attempt.arm_id,
            instance_id=attempt.instance_id,
            status="failure" if error else "success",
            output=output_of(outcome),
            execution_time_ms=outcome.duration_ms,
            error=error.problem().model_copy(update={"retryable": False}) if error else None,
            retryable=False,
            provenance=ProvenanceMetadata(
                arm_id=attempt.arm_id,
                timestamp=datetime.now(UTC),
                command_hash=job.command_hash,
                data_sources=sorted(job.files),
            ),
        )

    def _limits(self, task: TaskContract, attempt: Attempt) -> Limits:
        """A little less time than the task may take, so that its output can still be told."""
        left_s = attempt.time_limit_s
        allowed_s = task.timeout_seconds if left_s is None else min(task.timeout_seconds, left_s)
        return replace(self.limits, wall_s=min(self.limits.wall_s, allowed_s - 0.3))


def _constraints(task: TaskContract) -> dict[str, object]:
    criteria = [c.code for c in task.acceptance_criteria if isinstance(c, ExitCodeCriterion)]
    implied: dict[str, object] = {"expect_exit_code": criteria[0]} if criteria else {}
    return {**implied, **task.constraints}


def verdict(job: Job, outcome: Outcome) -> OctarmError | None:
    """Say why the run counts as failed, or None when it went as expected."""
    if outcome.limit == "time":
        return TimedOut(
            f"stopped after {outcome.duration_ms} ms",
            "Raise timeout_seconds, or do less in one task.",
            "EXECUTION_TIMEOUT",
        )
    if outcome.limit is not None:
        return TaskFailed(
            f"stopped at the sandbox's limit of {outcome.limit}",
            "Use less, or ask the operator for a larger limit.",
            "QUOTA_EXCEEDED",
        )
    if outcome.exit_code != job.expect_exit_code:
        return TaskFailed(
            f"ended with exit code {outcome.exit_code}, expected {job.expect_exit_code}",
            "Read stderr in the output.",
            "VALIDATION_FAILED",
        )
    return None


def output_of(outcome: Outcome) -> JsonValue:
    """What the task returns, cut to what a result may hold: control characters grow as JSON."""
    texts = {"stdout": outcome.stdout, "stderr": outcome.stderr}
    cut = {"stdout": outcome.stdout_truncated, "stderr": outcome.stderr_truncated}
    while len(msgspec.json.encode(texts)) > MAX_OUTPUT_BYTES:
        longer = max(texts, key=lambda name: len(msgspec.json.encode(texts[name])))
        texts[longer] = texts[longer][: len(texts[longer]) * 3 // 4]
        cut[longer] = True
    return {
        **texts,
        "exit_code": outcome.exit_code,
        "duration_ms": outcome.duration_ms,
        "truncated": any(cut.values()),
        "stdout_truncated": cut["stdout"],
        "stderr_truncated": cut["stderr"],
        "limit": outcome.limit,
    }
