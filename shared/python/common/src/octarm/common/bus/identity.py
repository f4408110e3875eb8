"""Every instance of a service says who it is, and whoever looks after a cluster asks them all."""

import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import nats.errors
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from pydantic import ValidationError

from octarm.common.bus.requests import ok, read_reply
from octarm.models.errors import OctarmError
from octarm.models.identity import Identify, Identity
from octarm.models.subjects import IDENTIFY

DISTRIBUTION: Final = "octarm-common"
# Whoever has not answered after this long without another answer, does not run.
SILENCE_S: Final = 1.5
LONGEST_S: Final = 5.0
_REVISION: Final = re.compile(r'^(down_)?revision = "(\w+)"$', re.MULTILINE)


class Seen(NamedTuple):
    """An answer: how far its clock is from ours, and how far that may be off (seconds)."""

    identity: Identity
    offset_s: float
    within_s: float


async def introduce(nc: NATS, service: str, instance: str, **migrations: Path) -> None:
    """Answer whoever asks; `migrations` are the folders of the schemas that it works on."""
    known = {schema: head_of(folder) for schema, folder in migrations.items()}
    release = version(DISTRIBUTION)

    async def asked(msg: Msg) -> None:
        me = Identity(
            service=service,
            instance=instance,
            version=release,
            heads=known,
            at=datetime.now(UTC),
        )
        await msg.respond(ok(me.model_dump_json().encode()))

    # Without a queue: each of them is asked.
    await nc.subscribe(IDENTIFY.at(), cb=asked)


def head_of(migrations: Path) -> str:
    """Give the newest of a folder's migrations: the one that no other follows."""
    texts = [path.read_text("utf-8") for path in migrations.glob("versions/*.py")]
    found = [match for text in texts for match in _REVISION.findall(text)]
    heads = {name for down, name in found if not down} - {name for down, name in found if down}
    return max(heads, default="")


async def who_is_there(nc: NATS) -> list[Seen]:
    """Ask all; gives their answers by service and instance."""
    inbox, seen = nc.new_inbox(), list[Seen]()
    answers = await nc.subscribe(inbox)
    asked_at, asked = datetime.now(UTC), time.monotonic()
    await nc.publish(IDENTIFY.at(), Identify().model_dump_json().encode(), reply=inbox)
    try:
        while time.monotonic() - asked < LONGEST_S:
            msg = await answers.next_msg(timeout=SILENCE_S)
            half_s = (time.monotonic() - asked) / 2
            # Who answers what nobody can read is none of ours; others still answer.
            with suppress(ValidationError, OctarmError):
                identity = read_reply(msg.data, IDENTIFY.answers)
                offset_s = (identity.at - asked_at).total_seconds() - half_s
                seen.append(Seen(identity, offset_s, half_s))
    except (nats.errors.TimeoutError, TimeoutError):
        pass
    finally:
        await answers.unsubscribe()
    return sorted(seen, key=lambda it: (it.identity.service, it.identity.instance))
