"""The subscription that carries spend: translation only, before `routes.ResultsConsumer`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome
from octarm.models import hot
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.subjects import SPEND_REPORTED

_SPEND: Final = SPEND_REPORTED.pattern.removesuffix("*")
_decode = msgspec.json.Decoder(hot.SpendReported).decode


@dataclass(frozen=True, slots=True)
class SpendConsumer:
    """Meters the reports of a batch first, then lets `others` handle what else it holds.

    So a result that ends its task finds the spend that was told before it.
    """

    meter: Callable[[Sequence[hot.SpendReported]], Awaitable[None]]
    others: Callable[[list[Delivery]], Awaitable[Sequence[Outcome]]]

    async def __call__(self, batch: list[Delivery]) -> Sequence[Outcome]:
        """Handle one batch."""
        places = [n for n, item in enumerate(batch) if item.subject.startswith(_SPEND)]
        if not places:
            return await self.others(batch)
        outcomes: list[Outcome] = [ACK] * len(batch)
        reports: list[hot.SpendReported] = []
        for place in places:
            try:
                reports.append(_read(batch[place]))
            except NOT_UNDERSTOOD as error:
                outcomes[place] = Dead(f"not understood: {error}")
        await self.meter(reports)
        rest = sorted(set(range(len(batch))) - set(places))
        if rest:
            answers = await self.others([batch[place] for place in rest])
            for place, outcome in zip(rest, answers, strict=True):
                outcomes[place] = outcome
        return outcomes


def _read(delivery: Delivery) -> hot.SpendReported:
    report = _decode(delivery.data)
    if delivery.subject.removeprefix(_SPEND) != report.arm_id:
        raise ValueError("spend must come on the subject of its own arm")
    return report
