"""The orchestrator as a process: `python -m octarm.orchestrator [migrate]`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to, must_be_connected
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.requests import control_plane
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import ORCHESTRATOR_INTAKE, ORCHESTRATOR_RESULTS
from octarm.common.clock import SystemClock
from octarm.common.health import HealthServer
from octarm.common.service import run, until_stopped, when_reloaded
from octarm.common.storage import Batcher, Pool, connected, open_pool
from octarm.models.errors import Unavailable
from octarm.models.subjects import INTAKE, RESULTS
from octarm.orchestrator.domain.tenants import Tenants
from octarm.orchestrator.routes import (
    Accepting,
    IntakeConsumer,
    ResultsConsumer,
    SubmitResponder,
    hear_heartbeats,
    routes,
)
from octarm.orchestrator.settings import Settings
from octarm.orchestrator.storage.attempts import PostgresAttempts
from octarm.orchestrator.storage.endings import PostgresEndings
from octarm.orchestrator.storage.intake import PostgresIntake
from octarm.orchestrator.storage.outbox import PostgresOutbox
from octarm.orchestrator.storage.quotas import PostgresQuotas
from octarm.orchestrator.storage.reading import PostgresTasks
from octarm.orchestrator.storage.ready import ReadyStream
from octarm.orchestrator.storage.revoking import BusRevoker
from octarm.orchestrator.usecases.accept import AcceptTasks
from octarm.orchestrator.usecases.endings import CancelTasks, Reconcile
from octarm.orchestrator.usecases.leases import KeepLeases
from octarm.orchestrator.usecases.quotas import ReleaseHeld
from octarm.orchestrator.usecases.record import RecordNews
from octarm.orchestrator.usecases.relay import Relay

NAME: Final = "orchestrator"
FIRST_RUN_LEASE_S: Final = 15.0


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop`; what opens first closes last."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(
            settings.postgres_url.get_secret_value(), name=NAME, min_size=2, max_size=8
        )
        stack.push_async_callback(pool.close)
        await _migrated(pool)
        bus = connected_to(
            settings.nats_url, name=NAME, expect_cluster=settings.nats_cluster, on_closed=stop.set
        )
        nc = await stack.enter_async_context(bus)
        await _serve(stack, settings, stop, pool=pool, nc=nc)


async def _serve(
    stack: AsyncExitStack, settings: Settings, stop: asyncio.Event, *, pool: Pool, nc: NATS
) -> None:
    publisher, clock = Publisher(nc), SystemClock()
    tenants = Tenants(settings.tenants)
    when_reloaded(lambda again: tenants.replace(again.tenants))
    relay = Relay(publisher, PostgresOutbox(pool))
    endings, revoke = PostgresEndings(pool), BusRevoker(nc)
    leases = KeepLeases(endings, clock, lambda: nc.is_connected)
    shards, ready = settings.shards, ReadyStream(nc, settings.shards)
    reconcile = Reconcile(endings, relay, revoke, shards, leases.hears_beats, ready.is_read)
    quotas = PostgresQuotas(pool, tenants)
    release = ReleaseHeld(quotas, tenants, relay, reconcile.announce_woken, clock=clock)
    intake = PostgresIntake(pool, quotas)
    accept = AcceptTasks(intake, relay, clock, shards, tenants=tenants, nudge=release.nudge)
    accepting: Accepting = Batcher(accept, max_items=200, concurrency=2)
    attempts = PostgresAttempts(
        pool, dispatch_lease_s=settings.dispatch_lease_s, run_lease_s=FIRST_RUN_LEASE_S
    )
    results = ResultsConsumer(RecordNews(attempts, relay, revoke, watch=release.moved))
    intake_runner = PullRunner(
        nc, publisher, ConsumerRef(INTAKE, ORCHESTRATOR_INTAKE), IntakeConsumer(accepting)
    )
    result_runner = PullRunner(
        nc, publisher, ConsumerRef(RESULTS, ORCHESTRATOR_RESULTS), results, concurrency=2
    )
    cancel = CancelTasks(endings, relay, revoke)
    router = routes(PostgresTasks(pool, tenants), cancel)
    await stack.enter_async_context(control_plane(settings.nats_url, router, name=NAME))
    await SubmitResponder(nc, accepting).start()
    await hear_heartbeats(nc, leases, clock)
    health = _health(settings, [intake_runner, result_runner], pool=pool, nc=nc)
    await stack.enter_async_context(health)
    relaying = asyncio.Event()
    relay_task = asyncio.create_task(relay.run(relaying))
    try:
        await until_stopped(
            stop,
            intake_runner.run(stop),
            result_runner.run(stop),
            leases.run(stop),
            reconcile.run(stop),
            release.run(stop),
        )
        await accepting.drain()
    finally:
        # Last, so that what was committed while draining is still told.
        relaying.set()
        await relay_task


def _health(settings: Settings, runners: list[PullRunner], *, pool: Pool, nc: NATS) -> HealthServer:
    return HealthServer(
        settings.http_port,
        host=settings.http_host,
        live=lambda: all(runner.healthy() for runner in runners),
        ready={"postgres": _answers(pool), "nats": partial(must_be_connected, nc)},
    )


def _answers(pool: Pool) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        async with connected(pool) as connection:
            await connection.execute("select 1")

    return check


async def _migrated(pool: Pool) -> None:
    async with connected(pool) as connection:
        cursor = await connection.execute("select to_regclass('ledger.task')")
        row = await cursor.fetchone()
    if row is None or row[0] is None:
        raise Unavailable("the ledger has no tables", "Run `octarm db migrate` first.")


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate"]:
        # Loaded for this command only: alembic would cost the service 30 MiB.
        from octarm.orchestrator.migrate import migrate

        migrate()
    run(main, Settings, NAME)
