"""The registry's verdicts: nobody who beats is called offline, nobody silent stays online."""

from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from octarm.arm_registry.domain.beats import Beat
from octarm.arm_registry.domain.fleet import Fleet, Stored
from octarm.models.arms import ArmCapability, ArmRecord

ARM: Final = "writer"
INTERVAL_S: Final = 5.0
LOOK_S: Final = 0.5
NOON: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
instances = st.sampled_from(["i-1", "i-2"])


def a_record() -> ArmRecord:
    arm = ArmCapability(arm_id=ARM, name=ARM, version="1.0.0", capabilities=frozenset({"write"}))
    return ArmRecord(
        arm=arm, status="offline", reason="none has beaten", registered_at=NOON, changed_at=NOON
    )


class RegistryMachine(RuleBasedStateMachine):
    """One arm with two instances, a registry that looks twice a second and may be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.stored = Stored(a_record(), 1)
        self.fleet = Fleet()
        self.began = self.now
        self.beaten: dict[str, float] = {}
        self.flips = 0
        self.fleet.adopt({ARM: self.stored}, now=self.now)

    def _look(self) -> None:
        wall = NOON + timedelta(seconds=self.now)
        for change in list(self.fleet.changes([ARM], now=self.now, wall=wall)):
            self.flips += change.flipped
            self.stored = Stored(change.record, self.stored.revision + 1)
            self.fleet.wrote(self.stored, now=self.now)

    @rule(instance=instances, draining=st.booleans())
    def beat(self, instance: str, draining: bool) -> None:
        """An instance beats."""
        beat = Beat(
            arm_id=ARM,
            instance_id=instance,
            draining=draining,
            slots=1,
            running=0,
            interval_s=INTERVAL_S,
        )
        self.fleet.hear(beat, now=self.now, wall=NOON + timedelta(seconds=self.now))
        self.beaten[instance] = self.now
        self._look()

    @rule(seconds=st.sampled_from([0.5, 4.0, 6.0, 11.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        """Nothing is heard for a while, and the registry looks on."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            self._look()

    @rule()
    def replace_the_registry(self) -> None:
        """A new leader knows the directory and has heard nothing."""
        self.fleet = Fleet()
        self.fleet.adopt({ARM: self.stored}, now=self.now)
        self.began = self.now

    @rule(seconds=st.sampled_from([3.0, 30.0]))
    def stand_still(self, seconds: float) -> None:
        """The registry is paused: it may conclude nothing from that silence."""
        self.now += seconds
        self.fleet.deaf(now=self.now)
        self.began = self.now
        self._look()

    @invariant()
    def nobody_who_beats_is_offline(self) -> None:
        """Two missed beats are not enough."""
        last = max(self.beaten.values(), default=-1e9)
        if self.now - last < 3 * INTERVAL_S:
            assert self.stored.record.status != "offline"

    @invariant()
    def nobody_silent_is_online(self) -> None:
        """Three missed beats are enough, for a registry that listened all the time."""
        last = max([*self.beaten.values(), self.began])
        if self.now - last > 3 * INTERVAL_S + LOOK_S:
            assert self.stored.record.status == "offline"

    @invariant()
    def a_new_registry_holds_the_verdict(self) -> None:
        """It does not call an arm offline before it could have heard three beats."""
        listed = {one.instance_id for one in self.stored.record.instances}
        if self.now - self.began < 3 * INTERVAL_S and listed & self.beaten.keys():
            assert self.stored.record.status != "offline"
