"""Builders for terminal events and episodes, and fakes of where episodes are kept."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from octarm.memory.domain.episode import Episode, episode_of, read_ending
from octarm.memory.usecases.ports import FrontDown
from octarm.models.errors import Unavailable
from octarm.models.ids import typeid, uuid7, with_prefix


def a_task_id(number: int = 1) -> str:
    return typeid("tsk", uuid7(1_800_000_000_000 + number, number))


def an_episode_id(number: int = 1) -> str:
    return with_prefix("epi", a_task_id(number))


def a_result(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "task_id": a_task_id(number),
        "attempt": 1,
        "arm_id": "writer",
        "instance_id": "i-1",
        "status": "success",
        "output": {"text": "done"},
        "execution_time_ms": 12,
        "tokens_used": 34,
        "provenance": {
            "arm_id": "writer",
            "timestamp": "2026-11-21T12:00:00Z",
            "command_hash": "0" * 64,
        },
    } | fields


def an_ending(number: int = 1, verb: str = "completed", **fields: Any) -> bytes:
    event = {
        "type": f"task.{verb}",
        "event_id": typeid("evt", number),
        "occurred_at": "2026-11-21T12:00:00+00:00",
        "task_id": a_task_id(number),
        "tenant": "acme",
        "seq": 5,
        "attempt": 1,
        "arm_id": "writer",
        "goal": "write",
    } | fields
    if verb == "completed" and "result" not in fields:
        event["result"] = a_result(number)
    return json.dumps(event).encode()


def an_episode(number: int = 1, **fields: Any) -> Episode:
    return episode_of(read_ending(an_ending(number, **fields)))


class FakeEpisodes:
    """Keeps episodes as the table does."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Episode] = {}
        self.down = False

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        self._check()
        refused = {}
        for episode in episodes:
            if not _is_json(episode.body):
                refused[episode.episode_id] = "invalid input syntax for type json"
                continue
            self.rows.setdefault((episode.tenant, episode.episode_id), episode)
        return refused

    async def get(self, tenant: str, episode_id: str) -> Episode | None:
        self._check()
        return self.rows.get((tenant, episode_id))

    async def find(
        self,
        tenant: str,
        *,
        arm_id: str | None,
        episode_id: str | None,
        after: str | None,
        limit: int,
    ) -> list[Episode]:
        self._check()
        wanted = [
            one
            for one in self.rows.values()
            if one.tenant == tenant
            and (arm_id is None or one.arm_id == arm_id)
            and (episode_id is None or one.episode_id == episode_id)
            and (after is None or one.episode_id < after)
        ]
        return sorted(wanted, key=lambda one: one.episode_id, reverse=True)[:limit]

    def _check(self) -> None:
        if self.down:
            raise Unavailable("Postgres: down")


class FakeFront:
    """Keeps episodes as Redis does, for ever."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}
        self.down = False

    async def put(self, episodes: Sequence[Episode]) -> None:
        if self.down:
            raise FrontDown
        for one in episodes:
            self.values[one.tenant, one.episode_id] = one.body.encode()

    async def get(self, tenant: str, episode_id: str) -> bytes | None:
        if self.down:
            raise FrontDown
        return self.values.get((tenant, episode_id))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
