"""What a collection holds, behind a gateway."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from octarm.cli.http import Gateway
from octarm.cli.ingest.pieces import SOURCE
from octarm.models.errors import OctarmError, Problem, from_problem

PAGE: Final = 500
MAX_AT_ONCE: Final = 100
MAX_CHARS_AT_ONCE: Final = 250_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A memory that is there, as far as ingesting needs to know it."""

    memory_id: str
    document: str
    key: str
    version: str
    pieces: int = 0


@dataclass(frozen=True, slots=True)
class Shelf:
    """The memories with one tag; every method raises what the gateway answers."""

    gateway: Gateway
    tag: str

    def kept(self) -> Iterator[Kept]:
        """Give all of it, whoever put it there."""
        after: str | None = None
        while True:
            page = self.gateway.get("/v1/memory/semantic", tag=self.tag, limit=PAGE, after=after)
            for one in page["memories"]:
                place = one["metadata"]
                yield Kept(
                    one["memory_id"],
                    str(place.get("document", "")),
                    str(place.get("document_key", "")),
                    str(place.get("document_version", "")),
                    int(place.get("pieces", 0)),
                )
            after = page["after"]
            if after is None:
                return

    def remember(self, memories: Sequence[dict[str, Any]]) -> int:
        """Keep these; gives how many were new. Doing it twice is doing it once.

        Raises:
            OctarmError: one was refused; those before it may be kept.
        """
        created = 0
        for some in _batches(memories):
            body = {"source": SOURCE, "memories": some}
            for answer in self.gateway.post("/v1/memory/remember", body)["answers"]:
                if answer.get("problem"):
                    raise from_problem(Problem.model_validate(answer["problem"]))
                created += answer["outcome"] == "created"
        return created

    def forget(self, memory_id: str) -> None:
        """Delete one; again is the same."""
        self.gateway.delete(f"/v1/memory/semantic/{memory_id}")


def _batches(memories: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut into requests that every gateway takes."""
    batch: list[dict[str, Any]] = []
    length = 0
    for memory in memories:
        size = len(memory["content"])
        if batch and (len(batch) == MAX_AT_ONCE or length + size > MAX_CHARS_AT_ONCE):
            yield batch
            batch, length = [], 0
        batch.append(memory)
        length += size
    if batch:
        yield batch


def refused(error: OctarmError) -> bool:
    """Tell whether this is about one document only: the others may be tried."""
    return error.category in {"validation", "conflict"}
