"""The memory service as a process: `python -m octarm.memory [migrate]`."""

import asyncio
import sys
from functools import partial
from typing import NamedTuple

from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to, must_answer
from octarm.common.bus.identity import introduce
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.requests import control_plane
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import MEMORY_EPISODES, MEMORY_WRITES
from octarm.common.clock import SystemClock
from octarm.common.health import HealthServer
from octarm.common.service import run, until_stopped
from octarm.common.storage import open_pool, open_redis
from octarm.common.storage.connections import Pool
from octarm.memory.knowledge import wired
from octarm.memory.routes.endings import TerminalEvents
from octarm.memory.routes.episodes import EpisodeResponder, episode_routes
from octarm.memory.routes.upkeep import Upkeep, upkeep_routes
from octarm.memory.routes.writes import WritesFromStream
from octarm.memory.schema import MIGRATIONS
from octarm.memory.settings import Settings
from octarm.memory.storage.episodes import PostgresEpisodes
from octarm.memory.storage.erasing import PostgresErasing
from octarm.memory.storage.events import MemoryEvents
from octarm.memory.storage.front import RedisFront
from octarm.memory.storage.stream import BusEpochs, WritesStream
from octarm.memory.storage.upkeep import PostgresStock
from octarm.memory.storage.writes import PostgresWrites
from octarm.memory.usecases.ageing import ForgetOld
from octarm.memory.usecases.erasing import BeginErasing, Erase, ShowErasure
from octarm.memory.usecases.handing import HandOver
from octarm.memory.usecases.lasting import ForgetOne, KeepWrites
from octarm.memory.usecases.loading import LoadEpisode
from octarm.memory.usecases.reading import ListEpisodes, ShowEpisode
from octarm.memory.usecases.remembering import RememberTasks
from octarm.memory.usecases.staleness import WatchStaleness
from octarm.memory.usecases.upkeep import CountKnowledge, ListKnowledge
from octarm.memory.usecases.writing import WriteEpisodes
from octarm.models.subjects import ENDED, EPISODES

BATCH = 500
# A statement and a commit cost as much for one episode as for hundreds.
GATHER_S = 0.2
# Of writes somebody may wait for the last ones, whose reads Redis cannot answer.
WRITES_BATCH, WRITES_GATHER_S = 64, 0.02


class Episodes(NamedTuple):
    """What is done with episodes, wired."""

    kept: PostgresEpisodes
    front: RedisFront
    write: WriteEpisodes
    responder: EpisodeResponder
    list: ListEpisodes
    forget: ForgetOne
    forget_old: ForgetOld
    watch: WatchStaleness
    runners: tuple[PullRunner, PullRunner]


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`; what opens first closes last."""
    pool = await open_pool(settings.postgres_url.get_secret_value(), name="memory", max_size=8)
    try:
        async with connected_to(
            settings.nats_url,
            name="memory",
            expect_cluster=settings.nats_cluster,
            on_closed=stop.set,
        ) as nc:
            await introduce(nc, "memory", settings.instance, memory=MIGRATIONS)
            await _serve(settings, stop, nc, pool)
    finally:
        await pool.close()


def _episodes(
    settings: Settings, nc: NATS, publisher: Publisher, *, pool: Pool, front: RedisFront
) -> Episodes:
    kept, entries = PostgresEpisodes(pool), PostgresWrites(pool)
    stream = WritesStream(nc, publisher)
    handed = HandOver(stream)
    load = LoadEpisode(kept, front, stream, handed)
    redacts = settings.redact_episodes
    write = WriteEpisodes(front, stream, handed, load, now=SystemClock().now, redacts=redacts)
    watch = WatchStaleness(kept, front, stream)
    endings = TerminalEvents(RememberTasks(kept, redacts), ttl_s=settings.episode_ttl_s)
    ended = ConsumerRef(ENDED, MEMORY_EPISODES)
    written = ConsumerRef(EPISODES, MEMORY_WRITES)
    days = {
        "brief": settings.brief_retention_days,
        "normal": settings.retention_days,
        "long": settings.long_retention_days,
    }
    return Episodes(
        kept,
        front,
        write,
        EpisodeResponder(nc, write, ShowEpisode(front, load, watch.note)),
        ListEpisodes(kept, load),
        ForgetOne(entries, front, load, write.open),
        ForgetOld(entries, days),
        watch,
        (
            PullRunner(nc, publisher, ended, endings, batch=BATCH, rest_s=GATHER_S),
            PullRunner(
                nc,
                publisher,
                written,
                WritesFromStream(KeepWrites(entries)),
                batch=WRITES_BATCH,
                rest_s=WRITES_GATHER_S,
            ),
        ),
    )


async def _serve(settings: Settings, stop: asyncio.Event, nc: NATS, pool: Pool) -> None:
    async with open_redis(settings.redis_url.get_secret_value()) as redis:
        publisher = Publisher(nc)
        epochs = BusEpochs(nc, publisher)
        front = RedisFront(redis, epochs, ttl_s=settings.episode_ttl_s)
        episodes = _episodes(settings, nc, publisher, pool=pool, front=front)

        # Redis is not among them: without it the service is slower, not unready.
        health = HealthServer(
            settings.http_port,
            host=settings.http_host,
            live=lambda: all(runner.healthy() for runner in episodes.runners),
            ready={"nats": partial(must_answer, nc), "postgres": episodes.kept.check},
        )
        router = episode_routes(episodes.list, episodes.forget)
        await epochs.listen(front.gate.hear)
        await front.gate.open()
        async with wired(settings, pool, nc) as knowledge:
            erase = Erase(PostgresErasing(pool), episodes.forget, front, knowledge.trail.settle)
            router.include_router(knowledge.routes)
            router.include_router(upkeep_routes(_upkeep(pool, erase)))
            async with health, control_plane(settings.nats_url, router, name="memory"):
                await episodes.responder.start()
                try:
                    await until_stopped(
                        stop,
                        *(runner.run(stop) for runner in episodes.runners),
                        episodes.forget_old.run(stop),
                        episodes.watch.run(stop),
                        front.gate.run(stop),
                        *knowledge.work(stop),
                        MemoryEvents(pool, publisher).run(stop),
                        erase.run(stop),
                    )
                finally:
                    await episodes.responder.stop()
                    await episodes.write.drain()
                    await publisher.close()


def _upkeep(pool: Pool, erase: Erase) -> Upkeep:
    stock = PostgresStock(pool)
    return Upkeep(
        ListKnowledge(stock),
        CountKnowledge(stock),
        BeginErasing(erase.kept, erase.wake),
        ShowErasure(erase.kept),
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate"]:
        # Loaded for this command only: alembic would cost the service 30 MiB.
        from octarm.memory.migrate import migrate

        migrate()
    run(main, Settings, "memory")
