"""The ExecutionResult: what an arm reports about one attempt, and where it came from."""

from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from octarm.models.errors import Problem
from octarm.models.ids import ArmId, Sha256, TaskId, Token
from octarm.models.scalars import Attempt, Count, Dollars, Flag, Instant, Share

MAX_RESULT_BYTES: Final = 512 * 1024
ResultStatus = Literal["success", "failure", "partial"]
Text = Annotated[str, StringConstraints(max_length=4000)]


class ProvenanceMetadata(BaseModel):
    """Where a result came from; survives every redaction."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    arm_id: ArmId
    timestamp: Instant
    command_hash: Sha256 = Field(description="SHA-256 hex of the executed command or prompt")
    data_sources: list[Text] = Field(default_factory=list, max_length=1000)
    model_version: Text | None = None
    tests_passed: list[Text] = Field(default_factory=list, max_length=1000)
    library_lock: Text | None = None
    chain: list[Text] = Field(default_factory=list, max_length=1000, description="Ordered steps")


class ExecutionResult(BaseModel):
    """What came of one attempt."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    task_id: TaskId
    attempt: Attempt = Field(description="The fencing token: older attempts never end a task")
    arm_id: ArmId
    instance_id: Token
    status: ResultStatus
    output: JsonValue = Field(default=None, description="> 128 KiB by reference")
    confidence: Share = 1.0
    started_at: Instant | None = None
    execution_time_ms: Count = Field(description="Milliseconds")
    tokens_used: Count = 0
    cost_dollars: Dollars = Field(default=0.0, description="US dollars")
    llm_calls: Count = 0
    error: Problem | None = Field(default=None, description="Present unless status is success")
    retryable: Flag = False
    provenance: ProvenanceMetadata

    @model_validator(mode="after")
    def _error_unless_success(self) -> Self:
        if (self.error is None) != (self.status == "success"):
            raise ValueError("error must be present exactly when status is not success")
        return self
