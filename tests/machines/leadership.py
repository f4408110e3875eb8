"""Leadership: at most one holds the lease at any moment, and soon somebody does."""

import asyncio
from contextlib import ExitStack
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from octarm.common.bus.connection import connected_to
from octarm.common.bus.leadership import Leadership
from octarm.common.bus.topology import provision
from octarm.models.errors import OctarmError
from tests.simulation.bus import SimBus
from tests.simulation.chances import Chances, Chronicle
from tests.simulation.timeline import Process, VirtualClock, VirtualLoop
from tests.simulation.wires import URL, plugged_in

NAMES: Final = ("one", "two", "three")
LOOK_S: Final = 0.2
FAILOVER_S: Final = 10.0
FLAKY: Final = {"api_lost": 0.2, "puback_lost": 0.2, "publish_lost": 0.1, "slow": 0.05}
names = st.sampled_from(NAMES)


class LeadershipMachine(RuleBasedStateMachine):
    """Three contenders on the simulated bus that are killed, paused and cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.chances = Chances(1)
        self.bus = SimBus(self.loop, self.chances, Chronicle())
        self.stack = ExitStack()
        self.stack.enter_context(plugged_in(self.bus))
        self.processes: dict[str, Process] = {}
        self.contenders: dict[str, Leadership] = {}
        self.loop.run_until_complete(self._prepare())

    async def _prepare(self) -> None:
        async with connected_to(URL, name="setup") as nc:
            await provision(nc.jetstream())
        for name in NAMES:
            self._begin(name)

    def _begin(self, name: str) -> None:
        process = self.processes[name] = Process(name)
        process.spawn(self._contend(name, VirtualClock(self.loop, process)))

    async def _contend(self, name: str, clock: VirtualClock) -> None:
        async def lead(lost: asyncio.Event) -> None:
            await lost.wait()

        while True:
            try:
                async with connected_to(URL, name=name) as nc:
                    leadership = Leadership(nc, "it", holder=name, clock=clock)
                    self.contenders[name] = leadership
                    await leadership.run(asyncio.Event(), lead)
            except OctarmError:
                await asyncio.sleep(0.5)

    def holders(self) -> list[str]:
        """Name those who may act as leader now."""
        return [name for name, it in self.contenders.items() if it.holds()]

    async def _pass(self, seconds: float) -> None:
        until = self.loop.now_s + seconds
        while self.loop.now_s < until:
            await asyncio.sleep(LOOK_S)
            assert len(self.holders()) <= 1, f"{self.holders()} lead at once"

    @rule(seconds=st.sampled_from([0.5, 1.5, 4.0, 7.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass, looking five times a second."""
        self.loop.run_until_complete(self._pass(seconds))

    @rule(name=names)
    def kill(self, name: str) -> None:
        """Kill one for good; `restart` begins another."""
        self.processes[name].kill()
        self.contenders.pop(name, None)

    @rule(name=names)
    def restart(self, name: str) -> None:
        """Begin anew where one was killed."""
        if not self.processes[name].alive:
            self.loop.run_until_complete(self._again(name))

    async def _again(self, name: str) -> None:
        self._begin(name)

    @rule(name=names)
    def pause(self, name: str) -> None:
        """Stop one as SIGSTOP does."""
        self.processes[name].paused = True

    @rule(name=names)
    def resume(self, name: str) -> None:
        """Let it go on: it must know before anything else that it leads no more."""
        self.loop.resume(self.processes[name])

    @rule(which=st.integers(0, 5))
    def drop(self, which: int) -> None:
        """Break a connection."""
        links = list(self.bus.links)
        if links:
            links[which % len(links)].drop()

    @rule(which=st.integers(0, 5), seconds=st.sampled_from([1.0, 6.0]))
    def stall(self, which: int, seconds: float) -> None:
        """Let nothing through a connection for a while."""
        links = list(self.bus.links)
        if links:
            links[which % len(links)].stalled_until = self.loop.now_s + seconds

    @rule(seconds=st.sampled_from([0.5, 3.0]))
    def restart_bus(self, seconds: float) -> None:
        """Restart the server."""
        self.bus.restart(seconds)

    @rule(flaky=st.booleans())
    def weather(self, flaky: bool) -> None:
        """Lose requests and answers, or stop losing them."""
        self.chances.begin(FLAKY if flaky else {})

    @rule()
    def settle(self) -> None:
        """With everything mended, somebody leads within ten seconds."""
        self.chances.begin({})
        for name, process in self.processes.items():
            if process.alive:
                self.loop.resume(process)
            else:
                self.loop.run_until_complete(self._again(name))
        # What a stall or a restart holds up is over after that.
        self.loop.run_until_complete(self._pass(6.0 + FAILOVER_S))
        assert len(self.holders()) == 1, f"{self.holders()} lead"

    def teardown(self) -> None:
        """End every task."""
        self.loop.finish()
        self.stack.close()
