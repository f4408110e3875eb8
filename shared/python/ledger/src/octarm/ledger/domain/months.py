"""Months as ranges of task ids: an id begins with the time at which it was made."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from octarm.models.ids import typeid


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, at: datetime) -> Self:
        """Give the month of a moment."""
        moment = at.astimezone(UTC)
        return cls(moment.year, moment.month)

    @classmethod
    def named(cls, text: str) -> Self | None:
        """Read `2026_11`; None for anything else."""
        year, _, month = text.partition("_")
        if len(text) == 7 and year.isdecimal() and month.isdecimal() and 1 <= int(month) <= 12:
            return cls(int(year), int(month))
        return None

    @property
    def name(self) -> str:
        """Such as `2026_11`; names sort as months do."""
        return f"{self.year:04}_{self.month:02}"

    @property
    def following(self) -> "Month":
        """The next month."""
        year, month = divmod(self.month, 12)
        return Month(self.year + year, month + 1)

    @property
    def first_id(self) -> str:
        """The least id that a task made in this month can have."""
        return first_id_of(datetime(self.year, self.month, 1, tzinfo=UTC))


def first_id_of(moment: datetime) -> str:
    """Give the least id that a task made at this whole second, or later, can have."""
    return typeid("tsk", int(moment.timestamp()) * 1000 << 80)


def gaps(months: list[Month], *, until: Month) -> list[tuple[str, str]]:
    """Give the ranges of ids below `until` that lie in none of the months: [first, last)."""
    found = []
    begin = ""
    for month in sorted(months):
        found.append((begin, month.first_id))
        begin = month.following.first_id
    found.append((begin, until.first_id))
    return [(first, last) for first, last in found if first < last]
