"""Builders for arms, their records and their beats."""

import json
from datetime import datetime
from typing import Any

from octarm.arm_registry.domain.beats import Beat
from octarm.common.testing.fakes import NOON
from octarm.models.arms import ArmCapability, ArmRecord, InstanceInfo


def an_arm(arm_id: str = "writer", **fields: Any) -> ArmCapability:
    return ArmCapability.model_validate(
        {"arm_id": arm_id, "name": arm_id, "capabilities": ["write"]} | fields
    )


def a_record(arm_id: str = "writer", **fields: Any) -> ArmRecord:
    return ArmRecord.model_validate(
        {
            "arm": an_arm(arm_id),
            "status": "offline",
            "reason": "no instance has beaten yet",
            "registered_at": NOON,
            "changed_at": NOON,
        }
        | fields
    )


def an_instance(
    instance_id: str = "i-1", *, seen_at: datetime = NOON, **fields: Any
) -> InstanceInfo:
    return InstanceInfo.model_validate(
        {
            "instance_id": instance_id,
            "status": "ready",
            "slots": 4,
            "running": 0,
            "seen_at": seen_at,
        }
        | fields
    )


def a_beat(arm_id: str = "writer", instance_id: str = "i-1", **fields: Any) -> Beat:
    return Beat(arm_id=arm_id, instance_id=instance_id, **({"slots": 4} | fields))


def beat_bytes(arm_id: str = "writer", instance_id: str = "i-1", **fields: Any) -> bytes:
    beat = {
        "arm_id": arm_id,
        "instance_id": instance_id,
        "seq": 1,
        "status": "ready",
        "slots": 4,
        "running": [],
    }
    return json.dumps(beat | fields).encode()
