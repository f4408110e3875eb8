"""What a scheduler holds: the policy that decides, a shadow, and the way back when one fails."""

from dataclasses import dataclass

from octarm.common.clock import Clock
from octarm.policies.actions import Checked, check, senseless
from octarm.policies.context import Context
from octarm.policies.outcomes import Decided, PolicyFailed
from octarm.policies.problems import Loaded
from octarm.policies.sandbox.engine import Engine
from octarm.policies.shadow import Tally
from octarm.policies.supervisor import PLATFORM, Supervisor, Switched
from octarm.policies.versions import Kind


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one cycle does, and by which version.

    Without `checked` the scheduler's own built-in policy has to decide: none is deployed, or the
    one that is has `failed`. `switched` says that it was taken back.
    """

    policy: str
    checked: Checked | None = None
    decided: Decided | None = None
    failed: PolicyFailed | None = None
    switched: Switched | None = None


class Host:
    """Asks the deployed version once per cycle, and never twice for the same.

    Deploying takes effect with the next cycle; a decision that is under way names the version
    that took it.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.supervisor = Supervisor()
        self.tally = Tally()
        self._engine = engine
        self._clock = clock
        self._shadow: str | None = None

    async def deploy(self, source: str, kind: Kind = "starlark") -> Loaded:
        """Load a source and let it decide from the next cycle on, if nothing is wrong with it."""
        loaded = await self._engine.load(source, kind)
        if loaded.ok:
            self.supervisor.deploy(loaded.digest)
        return loaded

    async def watch(self, source: str, kind: Kind = "starlark") -> Loaded:
        """Load a source and let it be asked by `compare`; the tally begins anew."""
        loaded = await self._engine.load(source, kind)
        if loaded.ok:
            self._shadow, self.tally = loaded.digest, Tally()
        return loaded

    def retire(self) -> None:
        """Let the platform's own policy decide from the next cycle on."""
        self.supervisor.deploy(PLATFORM)

    @property
    def watching(self) -> bool:
        """Whether there is a shadow to be asked."""
        return self._shadow is not None

    def unwatch(self) -> None:
        """End the shadow; its tally stays."""
        self._shadow = None

    async def decide(self, context: Context) -> Verdict:
        """Ask the active version; its actions are checked against the same context."""
        version = self.supervisor.active
        if version == PLATFORM or version not in self._engine.policies:
            return Verdict(PLATFORM)
        outcome = await self._engine.decide(version, context)
        checked = None
        if isinstance(outcome, Decided):
            checked = check(outcome.actions, context)
            if (why := senseless(checked)) is not None:
                outcome = PolicyFailed("bad_return", why, printed=outcome.printed)
        if isinstance(outcome, PolicyFailed):
            if outcome.reason == "unavailable":
                return Verdict(version, failed=outcome)
            now = self._clock.monotonic()
            switched = self.supervisor.failed(version, outcome.reason, now=now)
            return Verdict(version, failed=outcome, switched=switched)
        self.supervisor.decided(version)
        return Verdict(version, checked, outcome)

    async def compare(self, context: Context, live: Checked) -> None:
        """Ask the shadow what it would have done, and count how that differs.

        Its failures are counted in the tally only: a shadow trips nothing.
        """
        shadow, tally = self._shadow, self.tally
        if shadow is None:
            return
        outcome = await self._engine.decide(shadow, context)
        if isinstance(outcome, PolicyFailed):
            tally.add_failure(outcome.reason)
        else:
            at_s = context.now_ms / 1000
            tally.add(live, check(outcome.actions, context), at_s=at_s)
