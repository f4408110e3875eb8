"""Erasing all that memory has about a tag, a task or a tenant, and the receipt for it."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from octarm.models.commands import Message
from octarm.models.ids import Sha256, Tag, TaskId, Tenant
from octarm.models.scalars import Count, Flag, Instant

ERASURE_ID_PATTERN: Final = r"^era_[0-9a-f]{32}$"

ErasureId = Annotated[str, StringConstraints(pattern=ERASURE_ID_PATTERN)]
SubjectKind = Literal["tag", "task", "tenant"]
ErasureState = Literal["running", "done"]


class Subject(Message):
    """Whom or what all is about: a tag, a task, or everything of the tenant; one of them."""

    tag: Tag | None = Field(default=None, description="Such as person:ann")
    task_id: TaskId | None = None
    everything: Flag = Field(default=False, description="All of the tenant")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.tag is not None) + (self.task_id is not None) + self.everything != 1:
            raise ValueError("give exactly one of tag, task_id and everything")
        return self

    @property
    def kind(self) -> SubjectKind:
        """Which of the three."""
        return "tenant" if self.everything else "tag" if self.tag is not None else "task"

    @property
    def key(self) -> str:
        """Its tag or task; empty for everything."""
        return self.tag or self.task_id or ""


class EraseSubject(Message):
    """Erase all that memory has about a subject. While one is under way it is answered again."""

    tenant: Tenant
    subject: Subject


class GetErasure(Message):
    """Show the receipt of an erasure."""

    tenant: Tenant
    erasure_id: ErasureId


class Erasure(Message):
    """The receipt of an erasure. It says how much, where and when, and not of whom.

    Who knows the subject can prove that it is meant: `subject_sha256` is the SHA-256 of
    erasure id, kind, and the subject's tag or task, joined by line feeds. `digest` is that of the
    receipt's other fields as JSON with sorted keys, given once it is done.
    """

    erasure_id: ErasureId
    kind: SubjectKind
    state: ErasureState
    subject_sha256: Sha256
    begun_at: Instant
    finished_at: Instant | None = None
    counts: dict[str, Count] = Field(
        default_factory=dict, description="Rows and keys by store, as postgres.semantic"
    )
    digest: Sha256 | None = None
