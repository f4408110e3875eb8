"""What spans and attributes are called: OpenTelemetry's names, in this one place.

Pinned to semantic conventions 1.41.0, the last version that has those of messaging and of
generative AI in one schema. Callers use short names; what no convention has is `octarm.*`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.trace import SpanKind

from octarm.models import subjects as s

VERSION: Final = "1.41.0"
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{VERSION}"
ERROR_TYPE: Final = "error.type"
SAMPLED: Final = "octarm.trace.sampled"
Attribute = str | int | float | bool

NAMES: Final[Mapping[str, str]] = {
    "task_id": "octarm.task.id",
    "attempt": "octarm.task.attempt",
    "state": "octarm.task.state",
    "tenant": "octarm.tenant",
    "arm_id": "octarm.arm.id",
    "policy": "octarm.policy",
    "waited_s": "octarm.task.waited_s",
    "proof": "octarm.cancel.proof",
    "cause": "octarm.task.moved_because",
    "correlation_id": "messaging.message.conversation_id",
    "tasks": "messaging.batch.message_count",
    "route": "http.route",
    "status": "http.response.status_code",
    "agent": "gen_ai.agent.id",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "response_model": "gen_ai.response.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
}
# Written by people or models: these, and what we have no name for, are shown without secrets.
FREE_TEXT: Final[Mapping[str, str]] = {"reason": "octarm.placement.reason"}


@dataclass(frozen=True, slots=True)
class Step:
    """What every span of one name says."""

    kind: SpanKind = SpanKind.INTERNAL
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    """What else a span of a task that took this step says, in this order: see `spans.Hop`."""
    kind_name: str = field(init=False)
    """The kind, as files have it."""
    reads_messages: bool = field(init=False)
    """Whether it is linked to where its message was made, as consumers' spans should be."""

    def __post_init__(self) -> None:
        """Say once what every span asks for."""
        object.__setattr__(self, "kind_name", self.kind.name.lower())
        object.__setattr__(self, "reads_messages", self.kind is SpanKind.CONSUMER)


def _process(destination: str, *says: str, **more: Attribute) -> Step:
    return Step(
        SpanKind.CONSUMER,
        {
            "messaging.system": "nats",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": destination,
        }
        | more,
        says,
    )


STEPS: Final[Mapping[str, Step]] = {
    "gateway.submit": Step(SpanKind.SERVER, {"http.request.method": "POST"}),
    "orchestrator.accept": _process(s.SUBMIT_TASKS.template, "tenant"),
    "scheduler.place": _process(s.READY, "attempt", "arm_id", "policy", "reason"),
    "arm.run": _process(
        s.DISPATCH, "attempt", "arm_id", "agent", **{"gen_ai.operation.name": "invoke_agent"}
    ),
    "orchestrator.finish": _process(s.RESULTS, "attempt", "state"),
    "memory.remember": _process(s.ENDED, "tenant"),
    "llm.chat": Step(SpanKind.CLIENT, {"gen_ai.operation.name": "chat"}),
}
_ORDINARY: Final = Step()


def step(name: str) -> Step:
    """Give what spans of a name have in common; an arm's own steps are internal ones."""
    return STEPS.get(name, _ORDINARY)
