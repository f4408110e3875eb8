"""What only the HTTP API says of episodes: its own requests and answers."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from octarm.gateway.documents import PageSize
from octarm.models.episodes import (
    DEFAULT_TTL_S,
    MAX_TAGS,
    MAX_WRITES,
    Durability,
    EntryId,
    EntryKind,
    Retention,
    Ttl,
)
from octarm.models.ids import ArmId, EpisodeId, Tag, TaskId
from octarm.models.queries import Cursor
from octarm.models.scalars import Flag, Instant

# A request, with what the bus adds, fits one message.
MAX_ENTRIES_BYTES: Final = 512 * 1024


class _Wish(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EpisodeFilter(_Wish):
    """Which episodes to list."""

    arm: ArmId | None = None
    task: TaskId | None = None
    tag: Tag | None = None
    since: Instant | None = Field(default=None, description="Begun at this time or later")
    until: Instant | None = Field(default=None, description="Begun before this time")
    cursor: Cursor = Field(default="", description="From the page before")
    limit: PageSize = 50


class EpisodeToOpen(_Wish):
    """An episode from its start."""

    task_id: TaskId
    episode_id: EpisodeId | None = Field(
        default=None, description="Made when absent; the same again opens it once"
    )
    arm_id: ArmId | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    ttl_seconds: Ttl = Field(default=DEFAULT_TTL_S, description="Seconds in Redis after a write")
    retention: Retention = "normal"


class EntryToWrite(_Wish):
    """What was seen, done or got."""

    kind: EntryKind = "observation"
    body: JsonValue
    entry_id: EntryId | None = Field(
        default=None, description="Its cause: the same again is written once; made when absent"
    )


class EntriesToWrite(_Wish):
    """Several entries, in order."""

    entries: list[EntryToWrite] = Field(min_length=1, max_length=MAX_WRITES)
    durability: Durability = "durable"


class TtlToExtend(_Wish):
    """How long an episode is to stay in Redis after a write, at least."""

    ttl_seconds: Ttl


class EpisodeOpened(BaseModel):
    """It is open; `created` is false when it was there already."""

    model_config = ConfigDict(frozen=True)

    episode_id: EpisodeId
    created: Flag
    degraded: Flag = Field(description="Redis did not take it")
