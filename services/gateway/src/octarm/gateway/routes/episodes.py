"""Episodes: open, write, close, extend, list, show, forget."""

import time
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Path, Query, Request, Response

from octarm.gateway.episode_documents import (
    MAX_ENTRIES_BYTES,
    EntriesToWrite,
    EpisodeFilter,
    EpisodeOpened,
    EpisodeToOpen,
    TtlToExtend,
)
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_as, read_body, read_large
from octarm.gateway.routes.caller import FromCaller
from octarm.gateway.usecases.ports import Episodes
from octarm.models.episodes import (
    EpisodeForgotten,
    EpisodeFound,
    EpisodeOpening,
    EpisodesFound,
    EpisodesWritten,
    EpisodeWrite,
    EpisodeWritten,
    FindEpisodes,
    WriteEpisodes,
)
from octarm.models.errors import from_problem
from octarm.models.ids import EpisodeId, new_id

EpisodePath = Annotated[EpisodeId, Path(description="The episode's id")]


def memory_routes(episodes: Episodes) -> APIRouter:
    """The routes of episodes."""
    router = APIRouter(prefix="/v1/memory/episodes", tags=["memory"])

    @router.get("")
    async def list_episodes(
        caller: FromCaller, only: Annotated[EpisodeFilter, Query()]
    ) -> EpisodesFound:
        """List episodes, newest first."""
        query = FindEpisodes(
            tenant=caller.tenant,
            arm_id=only.arm,
            task_id=only.task,
            tag=only.tag,
            since=only.since,
            until=only.until,
            cursor=only.cursor,
            limit=only.limit,
        )
        return await episodes.find_episodes(query)

    @router.get("/{episode_id}")
    async def get_episode(episode_id: EpisodePath, caller: FromCaller) -> EpisodeFound:
        """Show an episode."""
        return await episodes.get_episode(caller.tenant, episode_id)

    @router.delete("/{episode_id}")
    async def forget_episode(episode_id: EpisodePath, caller: FromCaller) -> EpisodeForgotten:
        """Delete an episode everywhere; what still comes for it is dropped."""
        return await episodes.forget_episode(caller.tenant, episode_id)

    _add_writes(router, episodes)
    return router


def _add_writes(router: APIRouter, episodes: Episodes) -> None:
    @router.post("", responses=openapi.OPENED, openapi_extra=openapi.OPEN_EPISODE)
    async def open_episode(
        request: Request, caller: FromCaller, response: Response
    ) -> EpisodeOpened:
        """Open an episode of a task; 201 when it is new."""
        given = read_as(EpisodeToOpen, await read_large(await read_body(request)))
        episode_id = given.episode_id or new_id("epi")
        opening = EpisodeOpening(**given.model_dump(exclude={"episode_id"}))
        write = EpisodeWrite(
            episode_id=episode_id, entry_id="open", kind="open", seq=_now(), opening=opening
        )
        written = await _write_one(episodes, caller.tenant, write)
        response.status_code = 201 if written.created else 200
        return EpisodeOpened(
            episode_id=episode_id, created=written.created, degraded=written.degraded
        )

    @router.post("/{episode_id}/entries", openapi_extra=openapi.WRITE_ENTRIES)
    async def write_entries(
        episode_id: EpisodePath, request: Request, caller: FromCaller
    ) -> EpisodesWritten:
        """Write entries; each is answered on its own, in order."""
        body = await read_body(request, MAX_ENTRIES_BYTES)
        given = read_as(EntriesToWrite, await read_large(body))
        first = _now()
        writes = [
            EpisodeWrite(
                episode_id=episode_id,
                entry_id=one.entry_id or uuid4().hex,
                kind=one.kind,
                seq=first + place,
                body=one.body,
            )
            for place, one in enumerate(given.entries)
        ]
        wanted = WriteEpisodes(tenant=caller.tenant, durability=given.durability, writes=writes)
        return await episodes.write_episodes(wanted)

    @router.post("/{episode_id}/close")
    async def close_episode(episode_id: EpisodePath, caller: FromCaller) -> EpisodeWritten:
        """Let nothing more be added; again it does nothing."""
        write = EpisodeWrite(episode_id=episode_id, entry_id="close", kind="close", seq=_now())
        return await _write_one(episodes, caller.tenant, write)

    @router.post("/{episode_id}/extend", openapi_extra=openapi.EXTEND_EPISODE)
    async def extend_episode(
        episode_id: EpisodePath, request: Request, caller: FromCaller
    ) -> EpisodeWritten:
        """Keep it in Redis for longer."""
        given = read_as(TtlToExtend, await read_large(await read_body(request)))
        write = EpisodeWrite(
            episode_id=episode_id,
            entry_id=f"extend.{given.ttl_seconds}",
            kind="extend",
            seq=_now(),
            ttl_seconds=given.ttl_seconds,
        )
        return await _write_one(episodes, caller.tenant, write)


async def _write_one(episodes: Episodes, tenant: str, write: EpisodeWrite) -> EpisodeWritten:
    found = await episodes.write_episodes(WriteEpisodes(tenant=tenant, writes=[write]))
    (written,) = found.answers
    if written.problem is not None:
        raise from_problem(written.problem)
    return written


def _now() -> int:
    return time.time_ns() // 1000
