"""The stream of writes on their way to Postgres, and the epochs of what is in front."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.requests import ask_raw
from octarm.memory.domain.entries import encode
from octarm.memory.usecases.flights import Flights
from octarm.models.episodes import MAX_WRITES, FrontRenewed
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.hot_episodes import KeepWrites, KeptWrite
from octarm.models.subjects import EPISODES, FRONT_RENEWED, KEEP_WRITES, MEMORY_BUCKET

MAX_MESSAGE_BYTES: Final = 512 * 1024
LOOK_EVERY_S: Final = 0.02
ASK_S: Final = 1.0


class _State(msgspec.Struct):
    messages: int
    first_seq: int
    last_seq: int
    first_ts: datetime | None = None


class _Info(msgspec.Struct):
    state: _State | None = None


_decode_info = msgspec.json.Decoder(_Info).decode


class WritesStream:
    """Writes in OCTARM_EPISODES, up to 256 and half a MiB a message.

    A message is named by what is in it, so the same one sent again is stored once.
    """

    def __init__(self, nc: NATS, publisher: Publisher) -> None:
        self._nc = nc
        self._publisher = publisher
        self._looks: Flights[str, _State] = Flights()
        self._subject = KEEP_WRITES.at()

    async def keep(self, writes: Sequence[KeptWrite]) -> None:
        """Store these; raises OctarmError, and then some may be stored all the same."""
        messages = [self._message(some) for some in _portions(writes)]
        for answer in await self._publisher.publish_many(messages):
            if isinstance(answer, OctarmError):
                raise answer

    def _message(self, writes: list[KeptWrite]) -> Outgoing:
        payload = encode(KeepWrites(writes))
        name = hashlib.blake2b(payload, digest_size=16).hexdigest()
        return Outgoing(self._subject, payload, f"w:{name}")

    async def drained(self, within_s: float) -> bool:
        """Wait until all that is in the stream now has been written to Postgres."""
        until = time.monotonic() + within_s
        target: int | None = None
        while True:
            try:
                state = await self._looks.join("state", self._state)
            except OctarmError:
                return False
            target = state.last_seq if target is None else target
            if not state.messages or state.first_seq > target:
                return True
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(LOOK_EVERY_S)

    async def behind_s(self) -> float:
        """Give the seconds for which the oldest write has waited; raises Unavailable."""
        state = await self._looks.join("state", self._state)
        if not state.messages or state.first_ts is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - state.first_ts).total_seconds())

    async def _state(self) -> _State:
        subject = f"$JS.API.STREAM.INFO.{EPISODES}"
        info = _decode_info(await ask_raw(self._nc, subject, b"", timeout_s=ASK_S))
        if info.state is None:
            raise Unavailable(f"there is no stream {EPISODES}: run `octarm bus provision`")
        return info.state


def _portions(writes: Sequence[KeptWrite]) -> Iterator[list[KeptWrite]]:
    some: list[KeptWrite] = []
    size = 0
    for write in writes:
        bytes_here = len(memoryview(write.body)) + 500
        if some and (len(some) >= MAX_WRITES or size + bytes_here > MAX_MESSAGE_BYTES):
            yield some
            some, size = [], 0
        some.append(write)
        size += bytes_here
    if some:
        yield some


class BusEpochs:
    """Epochs are the revisions of one key of a bucket, so no two are the same."""

    def __init__(self, nc: NATS, publisher: Publisher) -> None:
        self._nc = nc
        self._publisher = publisher
        self._name = f"m-{uuid.uuid4().hex[:12]}"

    async def renew(self) -> int:
        """Begin a new epoch and tell the others."""
        key = Outgoing(f"$KV.{MEMORY_BUCKET}.front", b"", uuid.uuid4().hex)
        epoch = (await self._publisher.publish(key)).seq
        await self._say(FrontRenewed(epoch=epoch, said_by=self._name))
        return epoch

    async def say_lost(self, epoch: int) -> None:
        """Tell the others that Redis misses writes of this process."""
        await self._say(FrontRenewed(epoch=epoch, usable=False, said_by=self._name))

    async def _say(self, news: FrontRenewed) -> None:
        try:
            await self._nc.publish(FRONT_RENEWED.at(), news.model_dump_json().encode())
            await self._nc.flush(timeout=2)
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"NATS: {error}", retry_after_s=1) from error

    async def listen(self, hear: Callable[[FrontRenewed], None]) -> None:
        """Call `hear` with what other processes say, until the connection ends."""

        async def heard(msg: Msg) -> None:
            try:
                news = FrontRenewed.model_validate_json(msg.data)
            except ValueError:
                return
            if news.said_by != self._name:
                hear(news)

        await self._nc.subscribe(FRONT_RENEWED.at(), cb=heard)
