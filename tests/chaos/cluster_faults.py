"""What the chaos driver does to a cluster of three nats-servers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from nats.errors import Error as NatsError

from tests.chaos.cluster import BREAK_S, Cluster
from tests.chaos.faults import Plan, Storm
from tests.chaos.hosts import NODES

Breaks = Callable[[Storm, Cluster], Awaitable[None]]


def on(breaks: Breaks) -> Callable[[Storm], Awaitable[None]]:
    """Give the scenario the cluster of its stage."""

    async def scenario(storm: Storm) -> None:
        assert isinstance(storm.cluster, Cluster)
        await breaks(storm, storm.cluster)

    scenario.__doc__ = breaks.__doc__
    return scenario


async def _leader(cluster: Cluster) -> int:
    while True:
        with suppress(NatsError, OSError, TimeoutError):
            return await cluster.leader()
        await asyncio.sleep(0.5)


async def leader_killed(storm: Storm, cluster: Cluster) -> None:
    """`kill -9` of the node that leads READY, back after 10 s; three times."""
    for _ in range(3):
        node = await _leader(cluster)
        async with storm.wind.fault(f"kill -9 node {node}, the leader of READY"):
            await cluster.kill(node)
        await asyncio.sleep(10)
        await cluster.start(node)
        await asyncio.sleep(10)


async def leader_cut_off(storm: Storm, cluster: Cluster) -> None:
    """The leader is cut off from everybody for 20 s."""
    node = await _leader(cluster)
    async with storm.wind.fault(f"cut node {node} off for {BREAK_S:.0f} s"):
        cluster.hosts.unplug(node)
        try:
            await asyncio.sleep(BREAK_S)
        finally:
            cluster.hosts.plug_in(node)
    await asyncio.sleep(20)


async def one_way(storm: Storm, cluster: Cluster) -> None:
    """What the leader sends to the other nodes is dropped for 20 s; it hears them."""
    node = await _leader(cluster)
    others = [other for other in NODES if other != node]
    async with storm.wind.fault(f"drop what node {node} sends to the others"):
        for other in others:
            cluster.hosts.mute(node, other)
        try:
            await asyncio.sleep(BREAK_S)
        finally:
            for other in others:
                cluster.hosts.unmute(node, other)
    await asyncio.sleep(20)


async def flapping(storm: Storm, cluster: Cluster) -> None:
    """The leader's cable is out for a second, in for two, for half a minute."""
    node = await _leader(cluster)
    async with storm.wind.fault(f"the cable of node {node} flaps for 30 s"):
        for _ in range(10):
            cluster.hosts.unplug(node)
            await asyncio.sleep(1)
            cluster.hosts.plug_in(node)
            await asyncio.sleep(2)
    await asyncio.sleep(15)


async def bits_flipped(storm: Storm, cluster: Cluster) -> None:
    """A follower is killed, a bit of each of its message blocks flips, it is started again."""
    leader = await _leader(cluster)
    node = next(other for other in NODES if other != leader)
    async with storm.wind.fault(f"flip a bit in each message block of node {node}"):
        await cluster.kill(node)
        assert cluster.flip_bits(node, storm.chance)
        await cluster.start(node)
    await asyncio.sleep(20)
    async with storm.wind.fault(f"kill -9 node {leader}, so that node {node} may lead"):
        await cluster.kill(leader)
    await asyncio.sleep(10)
    await cluster.start(leader)
    await asyncio.sleep(10)


async def all_killed(storm: Storm, cluster: Cluster) -> None:
    """`kill -9` of all three nodes, back after a minute."""
    async with storm.wind.fault("kill -9 all nodes, start them after 60 s"):
        for node in NODES:
            await cluster.kill(node)
        await asyncio.sleep(60)
        for node in NODES:
            await cluster.start(node)
    await asyncio.sleep(30)


def plan(breaks: Breaks, silent_s: float) -> Plan:
    """A plan on a cluster: heals within 30 s, and meanwhile is silent for so long at most."""
    return Plan(
        scenario=on(breaks), cluster=True, rate=50, recovers_within_s=30.0, silent_within_s=silent_s
    )


CLUSTER_PLANS = {
    "cluster-leader-killed": plan(leader_killed, 12.0),
    "cluster-leader-cut-off": plan(leader_cut_off, 12.0),
    "cluster-one-way": plan(one_way, 12.0),
    "cluster-flapping": plan(flapping, 12.0),
    "cluster-bits-flipped": plan(bits_flipped, 12.0),
    "cluster-all-killed": plan(all_killed, 90.0),
}
