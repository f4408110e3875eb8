"""What was decided in the past, asked of the ledger and the arm directory."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from octarm.clients.arm_registry import ArmRegistryClient
from octarm.clients.orchestrator import OrchestratorClient
from octarm.models.arms import ArmRecord
from octarm.models.policies import FindDecisions
from octarm.policies.simulator.records import Line, RecordedArm, encoded

MAX_TASKS: Final = 50_000


class _Seen(msgspec.Struct):
    """What is needed here of a decision, which else is passed on as it came."""

    task_id: str
    arm_id: str | None = None
    cost: int = 0


_seen = msgspec.json.Decoder(_Seen).decode


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """Attempts from the ledger; arms as they are now, at what their attempts have cost."""

    ledger: OrchestratorClient
    arms: ArmRegistryClient

    async def lines(
        self, since: datetime, until: datetime, tenant: str | None
    ) -> tuple[str, int, bool]:
        """Give JSON lines, the number of tasks (at most 50,000), whether more are left."""
        found: list[bytes] = []
        tasks: set[str] = set()
        costs: defaultdict[str, list[int]] = defaultdict(list)
        after: str | None = None
        while len(tasks) < MAX_TASKS:
            page = FindDecisions(since=since, until=until, tenant=tenant, after=after)
            lines, after = await self.ledger.decisions(page)
            for line in lines:
                seen = _seen(line)
                tasks.add(seen.task_id)
                if seen.arm_id is not None:
                    costs[seen.arm_id].append(seen.cost)
            found += lines
            if after is None:
                break
        if not found:
            return "", 0, False
        arms: list[Line] = [_arm(it, costs) for it in await self.arms.find()]
        text = b"\n".join((*found, encoded(arms)))
        return text.decode(), len(tasks), after is not None


def _arm(record: ArmRecord, costs: defaultdict[str, list[int]]) -> RecordedArm:
    arm = record.arm
    paid = costs.get(arm.arm_id, [])
    return RecordedArm(
        arm_id=arm.arm_id,
        slots=max(sum(it.slots for it in record.instances), 1),
        capabilities=sorted(arm.capabilities),
        cost_tier=arm.cost_tier,
        labels=dict(arm.labels),
        takes_any=arm.takes_any,
        cost_per_task=sum(paid) / len(paid) if paid else 0.0,
    )
