"""Months as ranges of ids, and what is made and dropped when."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from octarm.common.testing.fakes import FakeClock
from octarm.ledger.domain.months import Month, gaps
from octarm.models.errors import Unavailable
from octarm.models.ids import typeid, uuid7
from octarm.orchestrator.usecases import retention
from octarm.orchestrator.usecases.retention import KeepRetention

NOVEMBER, DECEMBER = Month(2026, 11), Month(2026, 12)


def _id_at(moment: datetime) -> str:
    return typeid("tsk", uuid7(int(moment.timestamp() * 1000), 0))


class TestMonth:
    def test_is_a_range_of_ids(self) -> None:
        begin = datetime(2026, 11, 1, tzinfo=UTC)
        first, last = NOVEMBER.first_id, NOVEMBER.following.first_id

        assert first <= _id_at(begin) < _id_at(begin + timedelta(days=29)) < last
        assert _id_at(begin - timedelta(milliseconds=1)) < first
        assert last <= _id_at(begin + timedelta(days=30))

    def test_follows_december_with_january(self) -> None:
        assert (NOVEMBER.following, DECEMBER.following) == (DECEMBER, Month(2027, 1))

    def test_is_of_utc(self) -> None:
        east = datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2)))

        assert Month.of(east) == NOVEMBER

    @pytest.mark.parametrize("text", ["default", "2026_13", "2026_00", "2026-11", "26_1111"])
    def test_is_not_read_out_of_other_names(self, text: str) -> None:
        assert Month.named(text) is None
        assert Month.named(NOVEMBER.name) == NOVEMBER

    def test_gaps_are_what_lies_between_months(self) -> None:
        july, september = Month(2026, 7), Month(2026, 9)

        assert gaps([september, july], until=NOVEMBER) == [
            ("", july.first_id),
            (july.following.first_id, september.first_id),
            (september.following.first_id, NOVEMBER.first_id),
        ]
        assert gaps([Month(2026, 10)], until=NOVEMBER) == [("", Month(2026, 10).first_id)]


class FakePartitions:
    """Months in memory; what is done is noted."""

    def __init__(self, *months: Month) -> None:
        self.made = list(months)
        self.used: set[Month] = set()
        self.tasks: dict[Month, int] = {}
        self.refuse = 0
        self.log: list[str] = []

    async def months(self) -> list[Month]:
        return sorted(self.made)

    async def create(self, month: Month) -> bool:
        if self.refuse:
            self.refuse -= 1
            raise Unavailable("the tables are busy")
        self.made.append(month)
        return True

    async def in_use(self, month: Month, *, days: int) -> bool:
        return month in self.used

    async def forget(self, month: Month) -> int:
        left = self.tasks.get(month, 0)
        self.tasks[month] = max(0, left - 500)
        return min(left, 500)

    async def forget_odd(self, first: str, last: str, *, days: int) -> int:
        self.log.append(f"odd {first[:8]}")
        return 0

    async def drop(self, month: Month) -> bool:
        assert not self.tasks.get(month)
        self.made.remove(month)
        self.log.append(f"dropped {month.name}")
        return True


def _keep(partitions: FakePartitions) -> KeepRetention:
    return KeepRetention(partitions, FakeClock(), 90)


class TestKeepRetention:
    async def test_makes_this_month_and_the_next_once(self) -> None:
        partitions = FakePartitions()
        for _ in range(2):
            await _keep(partitions).prepare()

        assert partitions.made == [NOVEMBER, DECEMBER]

    async def test_starts_without_partitions_when_the_tables_are_busy(self) -> None:
        partitions = FakePartitions()
        partitions.refuse = retention.TRIES_AT_START

        await _keep(partitions).prepare()

        assert (partitions.made, partitions.refuse) == ([], 0)

    async def test_starts_with_partitions_when_the_tables_are_free_again(self) -> None:
        partitions = FakePartitions()
        partitions.refuse = retention.TRIES_AT_START - 1

        await _keep(partitions).prepare()

        assert partitions.made == [NOVEMBER, DECEMBER]

    async def test_drops_a_month_only_when_all_of_it_is_old_and_its_tasks_are_gone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "PAUSE_S", 0)
        june, july, august = Month(2026, 6), Month(2026, 7), Month(2026, 8)
        partitions = FakePartitions(june, july, august, NOVEMBER)
        partitions.used, partitions.tasks = {june}, {july: 1200}

        await _keep(partitions).retire(asyncio.Event())

        # Ninety days before the 21st of November were in August.
        assert partitions.made == [june, august, NOVEMBER]
        assert "dropped 2026_07" in partitions.log

    async def test_goes_on_until_it_is_stopped_and_tries_again_what_failed(self) -> None:
        partitions, stop = FakePartitions(), asyncio.Event()
        partitions.refuse = 1
        running = asyncio.create_task(_keep(partitions).run(stop))
        await asyncio.sleep(0)

        stop.set()
        await running

        assert partitions.made == []
