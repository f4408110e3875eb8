"""Episodes: what an arm saw, did and got while it worked on a task, and the requests about them.

An episode is a set of entries, each known by the id that its writer gave it: written twice it is
there once. Their order is that of `seq`, whatever the order in which they arrive.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from octarm.models.commands import Message
from octarm.models.errors import Problem
from octarm.models.ids import ArmId, EpisodeId, Tag, TaskId, Tenant, Token
from octarm.models.queries import Cursor, Limit
from octarm.models.scalars import MAX_INT, Count, Flag, Instant

DEFAULT_TTL_S = 3600
MAX_TTL_S: Final = 30 * 86_400
MAX_WRITES: Final = 256
MAX_ENTRY_BYTES: Final = 64 * 1024
MAX_TAGS: Final = 20
ENTRY_ID_PATTERN: Final = r"^[A-Za-z0-9_.:-]{1,64}$"

Source = Literal["redis", "postgres"]
EntryKind = Literal["observation", "action", "outcome"]
WriteKind = Literal["open", "observation", "action", "outcome", "close", "extend"]
Durability = Literal["fast", "durable"]
Retention = Literal["brief", "normal", "long"]
EntryId = Annotated[str, StringConstraints(pattern=ENTRY_ID_PATTERN)]
Ttl = Annotated[int, Field(ge=1, le=MAX_TTL_S, strict=True)]


class EpisodicMemory(BaseModel):
    """What one arm saw, did and got while it worked on one task."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    episode_id: EpisodeId
    tenant: Tenant
    arm_id: ArmId | None = Field(description="None when no arm ever had the task")
    task_id: TaskId
    observations: list[JsonValue] = Field(default_factory=list)
    actions: list[JsonValue] = Field(default_factory=list)
    outcomes: list[JsonValue] = Field(default_factory=list)
    ttl_seconds: int = Field(
        default=DEFAULT_TTL_S, ge=1, le=MAX_INT, strict=True, description="Seconds in Redis"
    )
    created_at: Instant
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    retention: Retention = Field(default="normal", description="How long Postgres keeps it")
    closed: Flag = Field(default=False, description="Nothing is added to it any more")
    left_out: Count = Field(default=0, description="Entries, the last ones, that did not fit")


class EpisodeOpening(Message):
    """What is known of an episode from its start."""

    arm_id: ArmId | None = None
    task_id: TaskId
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    ttl_seconds: Ttl = Field(default=DEFAULT_TTL_S, description="Seconds in Redis after a write")
    retention: Retention = "normal"
    created_at: Instant | None = Field(default=None, description="None: when it arrived")


class EpisodeWrite(Message):
    """One entry of one episode; `entry_id` is its cause, the same when it is sent again.

    `open` needs `opening`, `extend` needs `ttl_seconds`; the others have a `body`.
    """

    episode_id: EpisodeId
    entry_id: EntryId
    kind: WriteKind
    seq: Count = Field(default=0, description="Its place; 0: microseconds when it arrived")
    body: JsonValue = None
    opening: EpisodeOpening | None = None
    ttl_seconds: Ttl | None = None


class WriteEpisodes(Message):
    """Write entries; answered one by one, in order.

    `durable` is answered when the stream has them on its disk, `fast` when Redis has them.
    """

    tenant: Tenant
    durability: Durability = "durable"
    writes: list[EpisodeWrite] = Field(min_length=1, max_length=MAX_WRITES)


class EpisodeWritten(Message):
    """What became of one write; `created` is false when it was there already."""

    created: Flag = False
    durable: Flag = Field(default=False, description="It survives every process of the fleet")
    degraded: Flag = Field(default=False, description="Redis did not take it")
    problem: Problem | None = None


class EpisodesWritten(Message):
    """One answer for each write, in order."""

    answers: list[EpisodeWritten]


class KeptWrite(EpisodeWrite):
    """A write on its way to Postgres."""

    tenant: Tenant


class KeepWrites(Message):
    """Keep these for good; doing it twice is doing it once."""

    writes: list[KeptWrite] = Field(min_length=1, max_length=MAX_WRITES)


class FrontRenewed(Message):
    """What is in front of Postgres is trusted only from this epoch on, if at all."""

    epoch: Count
    usable: Flag = True
    said_by: Token


class GetEpisode(Message):
    """Show one episode."""

    tenant: Tenant
    episode_id: EpisodeId


class FindEpisodes(Message):
    """Page through a tenant's episodes, newest first."""

    tenant: Tenant
    arm_id: ArmId | None = None
    task_id: TaskId | None = None
    tag: Tag | None = None
    since: Instant | None = Field(default=None, description="Begun at this time or later")
    until: Instant | None = Field(default=None, description="Begun before this time")
    cursor: Cursor = ""
    limit: Limit = 50


class EpisodeFound(Message):
    """One episode and where it came from."""

    episode: EpisodicMemory
    source: Source
    degraded: bool = Field(default=False, description="Redis did not answer")
    complete: Flag = Field(
        default=True, description="Every durable write that was answered before is in it"
    )


class EpisodesFound(Message):
    """One page; an empty cursor means that it was the last."""

    episodes: list[EpisodicMemory]
    cursor: str = ""
    complete: Flag = Field(
        default=True, description="Every durable write that was answered before is in it"
    )


class ForgetEpisode(Message):
    """Delete an episode everywhere; what still comes for it is dropped."""

    tenant: Tenant
    episode_id: EpisodeId


class EpisodeForgotten(Message):
    """It is gone; `changed` is false when there was none."""

    changed: Flag
    degraded: Flag = Field(
        default=False, description="Redis did not answer: it shows it no more, and drops it in time"
    )
