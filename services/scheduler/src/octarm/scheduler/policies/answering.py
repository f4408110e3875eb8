"""The wiring of the questions about policies."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from nats.aio.client import Client as NATS

from octarm.clients.arm_registry import ArmRegistryClient
from octarm.clients.orchestrator import OrchestratorClient
from octarm.common.bus.requests import control_plane
from octarm.common.clock import SystemClock
from octarm.policies.desk.desk import PolicyDesk
from octarm.policies.desk.examining import Examiner
from octarm.policies.desk.simulating import Simulate
from octarm.policies.store.store import PolicyStore
from octarm.scheduler.policies.record import LedgerRecord
from octarm.scheduler.policies.routes import policy_questions


@asynccontextmanager
async def answering(
    nc: NATS, url: str, store: PolicyStore, *, platform: str
) -> AsyncGenerator[None, None]:
    """Answer questions about policies until the block ends.

    `platform` names the built-in policy that decides while none is deployed.
    """
    now = SystemClock().now
    record = LedgerRecord(OrchestratorClient(nc), ArmRegistryClient(nc))
    desk = PolicyDesk(store, Examiner(), now)
    router = policy_questions(desk, Simulate(store, record, now, platform=platform))
    async with control_plane(url, router, name="scheduler-policies"):
        yield
