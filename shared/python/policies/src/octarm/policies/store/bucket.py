"""The KV bucket `octarm_policies`: one small state, and each version under a key of its own.

`state` says which versions there are, under which key each is, what was deployed, and which events
are still to be published. A version is written before the state that names it and removed after
the state that does not, under a key that is never written again: what the state names is there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from octarm.models.errors import Unavailable
from octarm.models.ids import EventId
from octarm.models.policies import PolicyVersion
from octarm.models.subjects import POLICIES_BUCKET
from octarm.policies.store.state import Kept, State

TIMEOUT_S: Final = 3.0
STATE: Final = "state"
WATCHER_GONE_S: Final = 60.0


class ChangedMeanwhile(Exception):
    """Somebody else has changed the state."""


class OutcomeUnknown(Unavailable):
    """The state was not acknowledged: the change may have been made all the same."""


@contextmanager
def _bus_errors() -> Iterator[None]:
    try:
        yield
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"the policies cannot be read: {error or type(error).__name__}", retry_after_s=1
        ) from error


class Bucket:
    """Reads and writes the bucket; every method raises `Unavailable` when NATS does not answer."""

    def __init__(self, nc: NATS) -> None:
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        self._opened: KeyValue | None = None

    async def state(self) -> Kept:
        """Read the state; an empty one when nothing was ever saved."""
        with _bus_errors():
            try:
                entry = await (await self._bucket()).get(STATE)
            except KeyNotFoundError:
                return Kept(State(), 0)
        try:
            return Kept(State.model_validate_json(entry.value or b""), entry.revision or 0)
        except ValidationError as error:
            raise Unavailable(
                "what is kept about policies is not understood",
                f"Look at the key {STATE} of the bucket {POLICIES_BUCKET}.",
            ) from error

    async def put(self, before: Kept, state: State) -> Kept:
        """Put a state in place of another.

        Raises:
            ChangedMeanwhile: `before` is not what is there.
            OutcomeUnknown: nobody acknowledged it.
        """
        with _bus_errors():
            bucket = await self._bucket()
        body = state.model_dump_json(exclude_defaults=True).encode()
        try:
            return Kept(state, await bucket.update(STATE, body, last=before.revision))
        except KeyWrongLastSequenceError as error:
            raise ChangedMeanwhile from error
        except (NatsError, OSError, TimeoutError) as error:
            raise OutcomeUnknown("NATS did not acknowledge the change", retry_after_s=1) from error

    async def version(self, key: EventId) -> PolicyVersion | None:
        """Read a version; None when it is not there (any more)."""
        with _bus_errors():
            try:
                entry = await (await self._bucket()).get(_key(key))
            except KeyNotFoundError:
                return None
        return PolicyVersion.model_validate_json(entry.value or b"")

    async def add(self, key: EventId, version: PolicyVersion) -> None:
        """Write a version under a new key."""
        with _bus_errors():
            await (await self._bucket()).put(_key(key), version.model_dump_json().encode())

    async def remove(self, key: EventId) -> None:
        """Remove a version, without a trace."""
        with _bus_errors():
            bucket = f"$KV.{POLICIES_BUCKET}.{_key(key)}"
            await self._js.purge_stream(f"KV_{POLICIES_BUCKET}", subject=bucket)

    async def watcher(self) -> KeyValue.KeyWatcher:
        """Be told when the state changes; the caller stops it."""
        with _bus_errors():
            bucket = await self._bucket()
            return await bucket.watch(STATE, inactive_threshold=WATCHER_GONE_S)

    async def _bucket(self) -> KeyValue:
        if self._opened is None:
            try:
                self._opened = await self._js.key_value(POLICIES_BUCKET)
            except NotFoundError as error:
                raise Unavailable(
                    f"there is no bucket {POLICIES_BUCKET}", "Run `octarm bus provision`."
                ) from error
        return self._opened


def _key(event_id: EventId) -> str:
    return f"version.{event_id}"
