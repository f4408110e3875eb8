"""Vectors for texts: of the embedder in use, and of those that made what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octarm.common import telemetry
from octarm.common.telemetry import metrics
from octarm.memory.usecases.knowledge import Embedder, Space, VectorAsked
from octarm.models.errors import FieldError, InvalidRequest, OctarmError

log = telemetry.get_logger()


@dataclass(frozen=True, slots=True)
class Embedders:
    """Those at hand, by name; `current` makes the vectors of what is new."""

    current: Embedder
    others: Sequence[Embedder] = ()

    @property
    def by_name(self) -> Mapping[str, Embedder]:
        """Give each by its name."""
        return {one.name: one for one in (*self.others, self.current)}

    async def of(self, texts: Sequence[str]) -> list[list[float]] | None:
        """Embed with the current one; None when it does not answer, which must stop nothing."""
        try:
            return await self.current.embed(texts)
        except OctarmError as error:
            metrics.inc("octarm_memory_embedding_failures_total")
            log.warning("embedder_does_not_answer", embedder=self.current.name, error=error.message)
            return None

    async def question(
        self, query: str, spaces: Sequence[Space]
    ) -> tuple[list[VectorAsked], list[str], str]:
        """Embed a query for each space; gives vectors, names, and what could not be asked."""
        vectors: list[VectorAsked] = []
        names: list[str] = []
        missing: list[str] = []
        for space in spaces:
            embedder = self.by_name.get(space.embedder)
            if embedder is None or embedder.dimension != space.dimension:
                missing.append(f"{space.embedder} is not configured")
                continue
            try:
                (vector,) = await embedder.embed([query])
            except OctarmError as error:
                metrics.inc("octarm_memory_embedding_failures_total")
                missing.append(f"{space.embedder}: {error.message}"[:200])
                continue
            vectors.append(VectorAsked(space.space, vector))
            names.append(space.embedder)
        why = f"found by words only: {'; '.join(missing)}" if missing else ""
        return vectors, names, why

    def given(
        self, vector: Sequence[float], embedder: str, spaces: Sequence[Space]
    ) -> list[VectorAsked]:
        """Find the space of a vector that the asker made; none has it: there is nothing near.

        Raises:
            InvalidRequest: nothing here is made by that embedder, or in another dimension.
        """
        known = {one.dimension for one in spaces if one.embedder == embedder}
        known |= {one.dimension for one in self.by_name.values() if one.name == embedder}
        if len(vector) not in known:
            message = f"has {len(vector)} components; vectors of {embedder} here have " + (
                " or ".join(map(str, sorted(known))) or "none: it is not in use"
            )
            raise InvalidRequest(
                f"embedding: {message}",
                code="INVALID_PARAMETER",
                errors=[FieldError(field="embedding", message=message)],
            )
        return [
            VectorAsked(one.space, normalised(vector))
            for one in spaces
            if (one.embedder, one.dimension) == (embedder, len(vector))
        ]


def normalised(vector: Sequence[float]) -> list[float]:
    """Give a vector at length 1."""
    length = sum(part * part for part in vector) ** 0.5
    return [part / length for part in vector]
