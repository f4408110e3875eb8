"""What the registry does: keep the directory, answer for it, watch who is alive."""

from octarm.arm_registry.usecases.directory import (
    DeregisterArm,
    DrainArm,
    FindArms,
    GetArm,
    RegisterArm,
)
from octarm.arm_registry.usecases.watch import WatchArms

__all__ = ["DeregisterArm", "DrainArm", "FindArms", "GetArm", "RegisterArm", "WatchArms"]
