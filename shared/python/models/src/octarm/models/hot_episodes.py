"""msgspec twins of the writes of episodes; a contract test holds them equal to the models."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from octarm.models.episodes import (
    DEFAULT_TTL_S,
    ENTRY_ID_PATTERN,
    MAX_TAGS,
    MAX_TTL_S,
    MAX_WRITES,
    Durability,
    Retention,
    WriteKind,
)
from octarm.models.hot import NULL
from octarm.models.hot_types import ArmId, Aware, Count, Tag, TaskId, Tenant, exact
from octarm.models.ids import EPISODE_ID_PATTERN

EpisodeId = Annotated[str, Meta(pattern=exact(EPISODE_ID_PATTERN))]
EntryId = Annotated[str, Meta(pattern=exact(ENTRY_ID_PATTERN))]
Ttl = Annotated[int, Meta(ge=1, le=MAX_TTL_S)]


class EpisodeOpening(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `episodes.EpisodeOpening`."""

    task_id: TaskId
    arm_id: ArmId | None = None
    tags: Annotated[list[Tag], Meta(max_length=MAX_TAGS)] = []
    ttl_seconds: Ttl = DEFAULT_TTL_S
    retention: Retention = "normal"
    created_at: Aware | None = None


class EpisodeWrite(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `episodes.EpisodeWrite`."""

    episode_id: EpisodeId
    entry_id: EntryId
    kind: WriteKind
    seq: Count = 0
    body: Raw = NULL
    opening: EpisodeOpening | None = None
    ttl_seconds: Ttl | None = None


class WriteEpisodes(Struct, frozen=True, gc=False):
    """Twin of `episodes.WriteEpisodes`."""

    tenant: Tenant
    writes: Annotated[list[EpisodeWrite], Meta(min_length=1, max_length=MAX_WRITES)]
    durability: Durability = "durable"


class KeptWrite(Struct, frozen=True, gc=False, omit_defaults=True):
    """Twin of `episodes.KeptWrite`."""

    tenant: Tenant
    episode_id: EpisodeId
    entry_id: EntryId
    kind: WriteKind
    seq: Count = 0
    body: Raw = NULL
    opening: EpisodeOpening | None = None
    ttl_seconds: Ttl | None = None


class KeepWrites(Struct, frozen=True, gc=False):
    """Twin of `episodes.KeepWrites`."""

    writes: Annotated[list[KeptWrite], Meta(min_length=1, max_length=MAX_WRITES)]
