"""Events about policies, each in the stream once."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from octarm.common.bus.cloud_events import cloud_event
from octarm.common.bus.publisher import Outgoing, Publishes
from octarm.common.bus.topology import DUPLICATE_WINDOW_S
from octarm.common.clock import Clock
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.events import PolicyEvent
from octarm.models.subjects import EVENTS, POLICY_EVENT

# From this age on the stream is asked itself: it may have forgotten the Msg-Id soon.
OLD: Final = timedelta(seconds=DUPLICATE_WINDOW_S / 2)


class Teller:
    """Publishes events in order; doing it again publishes nothing new."""

    def __init__(self, nc: NATS, publisher: Publishes, clock: Clock) -> None:
        self._js = nc.jetstream(timeout=3.0)
        self._publisher = publisher
        self._clock = clock

    async def tell(self, events: Sequence[PolicyEvent]) -> None:
        """Publish each one that is not in the stream.

        Raises:
            OctarmError: one could not be published; those before it were.
        """
        for event in events:
            if await self._is_old(event) and await self._was_told(event):
                continue
            (answer,) = await self._publisher.publish_many([outgoing(event)])
            if isinstance(answer, OctarmError):
                raise answer

    async def _is_old(self, event: PolicyEvent) -> bool:
        return self._clock.now() - event.occurred_at > OLD

    async def _was_told(self, event: PolicyEvent) -> bool:
        """Tell whether the stream has it, or a later one of its kind: they are told in order."""
        try:
            last = await self._js.get_last_msg(EVENTS, _subject(event))
        except NotFoundError:
            return False
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"EVENTS: {error!r}", retry_after_s=1) from error
        told = PolicyEvent.model_validate_json(last.data or b"")
        return told.event_id == event.event_id or told.occurred_at > event.occurred_at


def _subject(event: PolicyEvent) -> str:
    return POLICY_EVENT.at(verb=event.type.removeprefix("policy."), policy=event.policy)


def outgoing(event: PolicyEvent) -> Outgoing:
    """Give an event as it stands in EVENTS."""
    return cloud_event(_subject(event), event, source="scheduler", about=event.policy)
