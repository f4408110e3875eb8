"""What a script sees that the queue itself does not know: others have told it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from octarm.policies.context import InstanceFacts, TenantLimits
from octarm.policies.queue.estimates import Estimates

NO_LIMITS: Final = TenantLimits()


@dataclass(frozen=True, slots=True)
class Account:
    """What a tenant may use, and has used since midnight UTC: micro-dollars, tokens."""

    limits: TenantLimits = NO_LIMITS
    spent_today: int = 0
    tokens_today: int = 0


NO_ACCOUNT: Final = Account()


@dataclass(frozen=True, slots=True)
class Heard:
    """What the queue itself does not know: by arm its instances and the age of its last beat.

    The counts are of the last minute. `estimates` are by what ended, `accounts` by tenant.
    """

    instances: Mapping[str, tuple[InstanceFacts, ...]] = field(default_factory=dict)
    beat_age_ms: Mapping[str, int] = field(default_factory=dict)
    placed: int = 0
    completed: int = 0
    failed: int = 0
    estimates: Estimates = field(default_factory=Estimates)
    accounts: Mapping[str, Account] = field(default_factory=dict)


NOTHING_HEARD: Final = Heard()
