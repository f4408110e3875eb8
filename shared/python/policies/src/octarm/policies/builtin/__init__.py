"""The policies of the platform, each in its own module with its criteria."""

from typing import Final

from octarm.policies.builtin import (
    affinity,
    cheapest,
    deadline,
    fair_share,
    fifo,
    least_loaded,
    most_free,
    priority,
    round_robin,
    weighted,
)
from octarm.policies.builtin.policy import Builtin

DEFAULT: Final = priority.POLICY
BUILTIN: Final[dict[str, Builtin]] = {
    module.POLICY.name: module.POLICY
    for module in (
        affinity,
        cheapest,
        deadline,
        fair_share,
        fifo,
        least_loaded,
        most_free,
        priority,
        round_robin,
        weighted,
    )
}
