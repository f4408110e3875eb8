"""Name the facts about arms, so that the same fact always has the same id."""

from datetime import datetime
from typing import Literal

from octarm.models.arms import ArmRecord
from octarm.models.events import ArmEvent
from octarm.models.ids import derived_id

Verb = Literal["registered", "online", "degraded", "draining", "offline", "deregistered"]


def status_event(record: ArmRecord) -> ArmEvent:
    """Say which status an arm took on; its id follows from the arm and `changed_at`."""
    cause = f"{record.arm.arm_id}/{record.status}/{record.changed_at.isoformat()}"
    return _event(record, record.status, cause, record.changed_at)


def revision_event(
    record: ArmRecord, verb: Literal["registered", "deregistered"], revision: int, at: datetime
) -> ArmEvent:
    """Say that an arm was (de)registered by the write of this revision of its entry."""
    return _event(record, verb, f"{record.arm.arm_id}/{verb}/{revision}", at)


def _event(record: ArmRecord, verb: Verb, cause: str, at: datetime) -> ArmEvent:
    return ArmEvent.model_validate(
        {
            "event_id": derived_id("evt", cause, unix_ms=int(at.timestamp() * 1000)),
            "occurred_at": at,
            "type": f"arm.{verb}",
            "arm_id": record.arm.arm_id,
            "status": record.status,
            "reason": record.reason,
        }
    )
