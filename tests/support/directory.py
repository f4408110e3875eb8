"""The arm directory in memory, and an announcer that remembers."""

from collections.abc import Iterable

from octarm.arm_registry.domain.fleet import Stored
from octarm.arm_registry.usecases.ports import ChangedMeanwhile
from octarm.models.arms import ArmRecord
from octarm.models.errors import Unavailable
from octarm.models.events import ArmEvent


class FakeDirectory:
    """Behaves as the bucket does: one revision counter, every write names what it replaces."""

    def __init__(self, *records: ArmRecord) -> None:
        self.entries: dict[str, Stored] = {}
        self.revision = 0
        self.down = False
        self.writes = 0
        for record in records:
            self._put(record)

    async def get(self, arm_id: str) -> Stored | None:
        self._check()
        return self.entries.get(arm_id)

    async def all(self) -> dict[str, Stored]:
        self._check()
        return dict(self.entries)

    async def create(self, record: ArmRecord) -> Stored:
        self._check()
        if record.arm.arm_id in self.entries:
            raise ChangedMeanwhile
        return self._put(record)

    async def replace(self, stored: Stored, record: ArmRecord) -> Stored:
        self._check_present(stored)
        return self._put(record)

    async def remove(self, stored: Stored) -> None:
        self._check_present(stored)
        self.revision += 1
        del self.entries[stored.record.arm.arm_id]

    def _check_present(self, stored: Stored) -> None:
        self._check()
        present = self.entries.get(stored.record.arm.arm_id)
        if present is None or present.revision != stored.revision:
            raise ChangedMeanwhile

    def _check(self) -> None:
        if self.down:
            raise Unavailable("arm directory: down")

    def _put(self, record: ArmRecord) -> Stored:
        self.revision += 1
        self.writes += 1
        stored = Stored(record, self.revision)
        self.entries[record.arm.arm_id] = stored
        return stored


class RecordingAnnouncer:
    """Keeps what is announced."""

    def __init__(self) -> None:
        self.events: list[ArmEvent] = []

    def announce(self, event: ArmEvent) -> None:
        self.events.append(event)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


class RecordingConsumers:
    """Keeps the arms for which a consumer was wanted."""

    def __init__(self) -> None:
        self.ensured: list[str] = []
        self.away = False

    async def ensure(self, arm_id: str) -> None:
        self.ensured.append(arm_id)

    async def restore(self, arm_ids: Iterable[str]) -> list[str]:
        if self.away:
            raise Unavailable("there is no stream for them")
        missing = [arm_id for arm_id in arm_ids if arm_id not in self.ensured]
        self.ensured += missing
        return missing
