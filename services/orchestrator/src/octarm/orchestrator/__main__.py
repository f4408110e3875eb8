"""The orchestrator as a process: `python -m octarm.orchestrator [migrate]`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, NamedTuple

from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to, must_be_connected
from octarm.common.bus.delivery import ACKS_LINGER_S
from octarm.common.bus.identity import introduce
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.requests import control_plane
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import (
    ORCHESTRATOR_DISPATCH,
    ORCHESTRATOR_INTAKE,
    ORCHESTRATOR_RESULTS,
)
from octarm.common.bus.wire import take_no_more
from octarm.common.clock import Clock, SystemClock
from octarm.common.health import HealthServer
from octarm.common.service import run, until_stopped, when_reloaded
from octarm.common.storage import Pool, connected, open_pool
from octarm.ledger.domain.changes import Moved
from octarm.ledger.domain.tenants import Tenants
from octarm.ledger.schema import MIGRATIONS
from octarm.ledger.storage.attempts import PostgresAttempts
from octarm.ledger.storage.backlog import PostgresBacklog
from octarm.ledger.storage.cancelling import PostgresCancelling
from octarm.ledger.storage.decisions import PostgresDecisions
from octarm.ledger.storage.demand import PostgresDemand
from octarm.ledger.storage.endings import PostgresEndings
from octarm.ledger.storage.intake import PostgresIntake
from octarm.ledger.storage.outbox import PostgresOutbox
from octarm.ledger.storage.partitions import PostgresPartitions
from octarm.ledger.storage.policies import TaskPolicies
from octarm.ledger.storage.quotas import PostgresQuotas
from octarm.ledger.storage.reading import PostgresTasks
from octarm.ledger.storage.recovering import PostgresQueued
from octarm.ledger.storage.rejecting import PostgresRejecting
from octarm.ledger.storage.relatives import Relatives
from octarm.ledger.storage.shedding import PostgresShedding
from octarm.ledger.storage.spending import PostgresSpending
from octarm.ledger.storage.usage import PostgresUsage
from octarm.models.errors import Unavailable
from octarm.models.subjects import DISPATCH, INTAKE, RESULTS
from octarm.orchestrator.domain.admission import Gate
from octarm.orchestrator.intake import (
    Accepting,
    IntakeConsumer,
    Planning,
    SubmitResponder,
    gathered,
    planned,
)
from octarm.orchestrator.metering import SpendConsumer
from octarm.orchestrator.results import ResultsConsumer
from octarm.orchestrator.routes import hear_heartbeats, routes
from octarm.orchestrator.settings import Settings
from octarm.orchestrator.storage.leftovers import Leftovers
from octarm.orchestrator.storage.ready import ReadyStream
from octarm.orchestrator.storage.retrying import ArmPolicies
from octarm.orchestrator.storage.revoking import BusRevoker
from octarm.orchestrator.usecases.accept import AcceptTasks
from octarm.orchestrator.usecases.admission import FollowSwitches, WatchBacklog
from octarm.orchestrator.usecases.budgets import MeterSpend, SettleBudgets
from octarm.orchestrator.usecases.cancelling import CancelTasks, StopAttempts
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.leases import KeepLeases
from octarm.orchestrator.usecases.quotas import ReleaseHeld
from octarm.orchestrator.usecases.reading import Reading
from octarm.orchestrator.usecases.record import RecordNews
from octarm.orchestrator.usecases.recover import Recover
from octarm.orchestrator.usecases.rejecting import RejectTasks
from octarm.orchestrator.usecases.relay import Relay
from octarm.orchestrator.usecases.retention import KeepRetention
from octarm.orchestrator.usecases.retrying import ChooseDelays
from octarm.orchestrator.usecases.tell import TellOwn

NAME: Final = "orchestrator"
# A message holds up to 64 results: all that is in hand must be recorded before `HANDED_ON_S`.
RESULTS_BATCH: Final = 128
FIRST_RUN_LEASE_S: Final = 15.0
INTAKE_IN_HAND: Final = 1_000


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
        await introduce(nc, NAME, settings.instance, ledger=MIGRATIONS)
        await _serve(stack, settings, stop, pool=pool, nc=nc)


class WayIn(NamedTuple):
    """What decides about fresh tasks."""

    tenants: Tenants
    gate: Gate
    watch: WatchBacklog
    follow: FollowSwitches
    release: ReleaseHeld
    accepting: Accepting
    planning: Planning
    reports: list[PullRunner]
    """Who reads what arms report: while one is behind, fresh tasks wait."""

    def moved(self, changes: Sequence[Moved]) -> None:
        """Take note of committed transitions: they make room."""
        self.gate.moved(changes)
        self.release.moved(changes)

    def runs(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Give what runs until `stop`."""
        return [each.run(stop) for each in (self.release, self.watch, self.follow)]


async def _way_in(settings: Settings, pool: Pool, relay: Relay, relatives: Relatives) -> WayIn:
    reports: list[PullRunner] = []
    clock, tenants = SystemClock(), Tenants(settings.tenants)
    when_reloaded(lambda again: tenants.replace(again.tenants))
    most, rows = settings.max_open_tasks, settings.max_outbox_rows
    gate = Gate(most, rows)
    watch = WatchBacklog(PostgresBacklog(pool, max_open=most, max_outbox=rows), gate, clock)
    quotas = PostgresQuotas(pool, tenants)
    release = ReleaseHeld(quotas, tenants, relay, relatives.tells.woken, clock=clock)
    accept = AcceptTasks(
        PostgresIntake(pool, relatives, quotas),
        relay,
        clock,
        settings.shards,
        tenants=tenants,
        gate=gate,
        nudge=release.nudge,
    )
    accepting = gathered(accept, lambda: any(one.behind() for one in reports))
    follow = FollowSwitches(PostgresShedding(pool), gate, relay.hand_in)
    # Before the first submission: a restart opens nothing that was shut.
    await follow.once()
    return WayIn(tenants, gate, watch, follow, release, accepting, planned(accept), reports)


def _reading(pool: Pool, tenants: Tenants, clock: Clock) -> Reading:
    return Reading(
        PostgresTasks(pool, tenants),
        PostgresDecisions(pool).find,
        PostgresDemand(pool).of,
        PostgresUsage(pool, tenants, clock).of,
    )


async def _serve(
    stack: AsyncExitStack, settings: Settings, stop: asyncio.Event, *, pool: Pool, nc: NATS
) -> None:
    publisher, clock = Publisher(nc), SystemClock()
    retention = KeepRetention(PostgresPartitions(pool), clock, settings.retention_days)
    # Before the first task: where a month has rows already, it gets no partitions any more.
    await retention.prepare()
    relay = Relay(publisher, PostgresOutbox(pool), connected=lambda: nc.is_connected)
    relatives = Relatives(TellOwn(settings.shards))
    endings, revoke = PostgresEndings(pool, relatives), BusRevoker(nc)
    leases = KeepLeases(endings, clock, revoke, lambda: nc.is_connected)
    shards, ready = settings.shards, ReadyStream(nc, settings.shards)
    spending = PostgresSpending(pool)
    settle = SettleBudgets(spending)
    reconcile = Reconcile(endings, relay, revoke, shards, leases.hears_beats, ready.is_read, settle)
    way_in = await _way_in(settings, pool, relay, relatives)
    attempts = PostgresAttempts(
        pool, relatives, dispatch_lease_s=settings.dispatch_lease_s, run_lease_s=FIRST_RUN_LEASE_S
    )
    delays = ChooseDelays(TaskPolicies(pool), ArmPolicies(nc))
    record = RecordNews(attempts, relay, revoke, watch=way_in.moved, delays=delays)
    recorded = ResultsConsumer(record, clock)
    results = SpendConsumer(MeterSpend(spending), recorded)
    intake_runner = PullRunner(
        nc,
        publisher,
        ConsumerRef(INTAKE, ORCHESTRATOR_INTAKE),
        IntakeConsumer(way_in.accepting),
        # While fresh tasks are refused they stay in the stream, whose own bound tells publishers.
        capacity=lambda: 0 if way_in.gate.takes_nothing else INTAKE_IN_HAND,
    )
    way_in.reports.extend(_readers(nc, publisher, results, recorded))
    cancelling = PostgresCancelling(pool, relatives)
    stopping = StopAttempts(cancelling, relay, revoke.withdraw, leases.hears_beats, clock=clock)
    cancel = CancelTasks(cancelling, relay, stopping)
    recover = Recover(reconcile, PostgresQueued(pool), publisher, relatives.tells.ready)
    reject = RejectTasks(PostgresRejecting(pool, relatives), relay)
    reading = _reading(pool, way_in.tenants, clock)
    router = routes(reading, cancel, recover, reject, shed=way_in.follow)
    await stack.enter_async_context(control_plane(settings.nats_url, router, name=NAME))
    asked = await SubmitResponder(nc, way_in.accepting, way_in.planning).start()
    await hear_heartbeats(nc, leases, stopping.heard, clock=clock)
    relaying = asyncio.Event()
    relay_task = asyncio.create_task(relay.run(relaying))
    health = _health(settings, [intake_runner, *way_in.reports, relay], pool=pool, nc=nc)
    await stack.enter_async_context(health)
    try:
        await until_stopped(
            stop,
            intake_runner.run(stop),
            *(reader.run(stop) for reader in way_in.reports),
            recorded.run(stop),
            leases.run(stop),
            reconcile.run(stop),
            *way_in.runs(stop),
            stopping.run(stop),
            retention.run(stop),
            Leftovers(nc, outcomes=reading.tasks.outcomes).run(stop),
        )
        # Other replicas take what comes now; what this one was sent is answered.
        await take_no_more(nc, asked)
        await way_in.accepting.drain()
        await way_in.planning.drain()
    finally:
        # Last, so that what was committed while draining is still told.
        relaying.set()
        await relay_task


def _readers(
    nc: NATS, publisher: Publisher, results: SpendConsumer, placements: ResultsConsumer
) -> list[PullRunner]:
    pull = partial(PullRunner, nc, publisher, batch=RESULTS_BATCH, linger_s=ACKS_LINGER_S)
    done = ConsumerRef(RESULTS, ORCHESTRATOR_RESULTS)
    sent = ConsumerRef(DISPATCH, ORCHESTRATOR_DISPATCH)
    return [pull(done, results, concurrency=2), pull(sent, placements, concurrency=4)]


def _health(
    settings: Settings, runners: Sequence[PullRunner | Relay], *, pool: Pool, nc: NATS
) -> HealthServer:
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
