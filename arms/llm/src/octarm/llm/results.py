"""From an answer to the ExecutionResult of its attempt."""

from datetime import UTC, datetime
from typing import Protocol

from octarm.llm.answer import Answer
from octarm.models.contracts import TaskContract
from octarm.models.results import ExecutionResult, ProvenanceMetadata


class Author(Protocol):
    """Who answered (`octarm.sdk.Context` is one)."""

    attempt: int
    arm_id: str
    instance_id: str


def result_of(
    task: TaskContract, author: Author, answer: Answer, *, started_at: datetime
) -> ExecutionResult:
    """Report the answer, or why there is none, with what it took."""
    now, error = datetime.now(UTC), answer.error
    return ExecutionResult(
        task_id=task.task_id,
        attempt=author.attempt,
        arm_id=author.arm_id,
        instance_id=author.instance_id,
        status="failure" if error else "success",
        output=answer.output,
        started_at=started_at,
        execution_time_ms=max(0, round((now - started_at).total_seconds() * 1000)),
        tokens_used=answer.usage.tokens,
        llm_calls=answer.usage.calls,
        error=error.problem() if error else None,
        retryable=error.retryable if error else False,
        provenance=ProvenanceMetadata(
            arm_id=author.arm_id,
            timestamp=now,
            command_hash=answer.prompt_hash,
            model_version=answer.model,
            chain=answer.steps,
        ),
    )
