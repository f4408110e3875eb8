"""A scripted policy without a script: it places what it can, rejects now and then, and fails."""

import asyncio
from dataclasses import dataclass

from octarm.models.policies import DifferencesFound
from octarm.policies.actions import Action, Checked, Dispatch, Reject, check
from octarm.policies.context import Context
from octarm.policies.eligibility import refusal
from octarm.policies.outcomes import PolicyFailed
from octarm.policies.sandbox.host import Verdict
from tests.simulation.chances import Chances

THINKS_S = 0.02


@dataclass(frozen=True, slots=True)
class SimScripts:
    """`scheduler.usecases.decide.Scripts`, with every chance drawn from the run's seed."""

    chances: Chances
    deciding: bool
    watching: bool = False

    async def decide(self, seen: Context) -> Verdict:
        """Think for a while, then place each task on the first arm that has room for it."""
        await asyncio.sleep(self.chances.delay_s(THINKS_S))
        if self.chances.hit("policy_fails"):
            return Verdict("sim", failed=PolicyFailed("timeout", "it thought for too long"))
        free = {arm.id: arm.free for arm in seen.arms}
        actions: list[Action] = []
        for task in seen.queue:
            if self.chances.hit("unwanted"):
                actions.append(Reject(task.id, "by chance"))
                continue
            for arm in seen.arms:
                if refusal(task, arm, free=free[arm.id]) is None:
                    free[arm.id] -= task.slots
                    actions.append(Dispatch(task.id, arm.id, "the first with room"))
                    break
        return Verdict("sim", check(actions, seen))

    def show(self, seen: Context, decided: Checked) -> None:
        """Nobody watches."""

    def name(self, version: str) -> str:
        """Give it a name."""
        return f"first@{version}"

    @property
    def active(self) -> str:
        """Name what decides."""
        return self.name("sim")

    def differences(self) -> DifferencesFound:
        """Nobody watches."""
        return DifferencesFound()
