"""What accounts of NATS may and may not: tried, in ways of which nothing comes.

What is published is no message of ours and asks for a stream that is not there: a stream refuses
it, and whoever listens to it besides logs that it does not understand it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import nats
import nats.errors

from octarm.cli.stack.doctor import Check, Verdict
from octarm.common.bus.connection import close, connect_options, servers
from octarm.common.bus.topology import STREAMS, arm_durable
from octarm.models import subjects as s
from octarm.models.errors import InvalidRequest

SERVICES: Final = ("gateway", "orchestrator", "scheduler", "arm-registry", "memory", "provision")
NO_STREAM: Final = {"Nats-Expected-Stream": "octarm-doctor"}
NO_MESSAGE: Final = b"octarm doctor tries its rights"
ANSWER_S: Final = 10
MEND: Final = "compare its user with deploy/k8s/base/nats/accounts.conf"
OTHER: Final = "octarm-doctor"
"""An arm that nobody is."""


class Rights:
    """What an account is to be able to do, and what not."""

    def __init__(self) -> None:
        self.publish: list[str] = []
        self.subscribe: list[str] = []
        self.no_publish: list[str] = []
        self.no_subscribe: list[str] = []


def rights_of(account: str) -> Rights:
    """Give the rights of a service, or of the arm of that name."""
    wanted = Rights()
    if account in SERVICES:
        wanted.publish = [f"$JS.API.STREAM.INFO.{spec.name}" for spec in STREAMS]
        wanted.publish.append(f"$KV.{s.ARMS_BUCKET}.{OTHER}")
        wanted.subscribe = [f"{s.PREFIX}.>", f"_INBOX.{account}.>"]
        return wanted
    durable = f"{s.DISPATCH}.{arm_durable(account)}"
    wanted.publish = [
        s.HEARTBEAT.at(arm_id=account, instance_id=OTHER),
        *(one.at(arm_id=account) for one in (s.RESULT, s.RESULTS_REPORTED)),
        *(one.at(arm_id=account) for one in (s.ATTEMPTS_UPDATED, s.SPEND_REPORTED)),
        *(query.template for query in (s.REGISTER_ARM, s.GET_ARM, s.GET_STATES)),
        *(query.template for query in (s.GET_EPISODE, s.WRITE_EPISODES, s.REMEMBER)),
        *(query.template for query in (s.SEARCH_MEMORY, s.GET_MEMORY)),
        *(f"$JS.API.CONSUMER.{what}.{durable}" for what in ("INFO", "MSG.NEXT")),
    ]
    wanted.subscribe = [
        s.CONTROL.at(arm_id=account),
        s.IDENTIFY.template,
        f"_INBOX.{account}.>",
    ]
    wanted.no_publish = [
        *(one.at(arm_id=OTHER) for one in (s.RESULT, s.RESULTS_REPORTED, s.SPEND_REPORTED)),
        s.HEARTBEAT.at(arm_id=OTHER, instance_id=OTHER),
        s.RUN_TASKS.at(arm_id=account),
        *(query.template for query in (s.SUBMIT_TASKS, s.CANCEL_TASK, s.DRAIN_ARM)),
        *(query.template for query in (s.SWITCH_SHEDDING, s.DEPLOY_POLICY, s.ERASE_SUBJECT)),
        f"$KV.{s.ARMS_BUCKET}.{account}",
        *(f"$JS.API.STREAM.{what}.{s.DISPATCH}" for what in ("DELETE", "PURGE", "UPDATE")),
        f"$JS.API.CONSUMER.MSG.NEXT.{s.DISPATCH}.{arm_durable(OTHER)}",
        f"$JS.API.CONSUMER.DELETE.{durable}",
    ]
    wanted.no_subscribe = [s.CONTROL.at(arm_id=OTHER), s.TASK_EVENTS.pattern, "_INBOX.>"]
    return wanted


def accounts_in(folder: Path) -> dict[str, str]:
    """Read the URL of each account from a folder with a file for each, called as the account.

    Raises:
        InvalidRequest: the folder cannot be read, or has none.
    """
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        found = {path.name: path.read_text("utf-8").strip() for path in files}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{folder} cannot be read: {error}") from None
    if not found:
        raise InvalidRequest(f"{folder} has no files", "Name each as its account, with its URL.")
    return found


def account_of(url: str) -> str:
    """Give the user that a URL of NATS names, or nothing."""
    return unquote(urlsplit(servers(url)[0]).username or "") if url else ""


async def rights(accounts: Mapping[str, str]) -> list[Check]:
    """Try what each account, with its URL, may and may not."""
    return [await _tried(account, url) for account, url in sorted(accounts.items())]


async def _tried(account: str, url: str) -> Check:
    name, wanted = f"rights of {account}", rights_of(account)
    try:
        refused = await _refused(url, wanted)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        return Check(name, Verdict.MISSING, f"{error!r}"[:200], "check its URL and its password")
    if wrong := list(_wrong(wanted, refused)):
        return Check(name, Verdict.MISSING, "; ".join(wrong)[:500], MEND)
    may = len(wanted.publish) + len(wanted.subscribe)
    not_more = len(wanted.no_publish) + len(wanted.no_subscribe)
    return Check(name, Verdict.OK, f"tried: {may} that it needs, {not_more} that it may not")


def _wrong(wanted: Rights, refused: str) -> Iterator[str]:
    for verb, said, may, may_not in (
        ("publish", "publish to", wanted.publish, wanted.no_publish),
        ("subscribe to", "subscription to", wanted.subscribe, wanted.no_subscribe),
    ):
        by_server = {each: f'{said} "{each.lower()}"' in refused for each in (*may, *may_not)}
        yield from (f"may not {verb} {each}" for each in may if by_server[each])
        yield from (f"may {verb} {each}" for each in may_not if not by_server[each])


async def _refused(url: str, wanted: Rights) -> str:
    """Try all of it; gives what the server said, in lower case as the client has it."""
    said: list[str] = []

    async def failed(error: Exception) -> None:
        said.append(str(error).lower())

    once = {"error_cb": failed, "allow_reconnect": False, "max_reconnect_attempts": 1}
    connection = await nats.connect(
        servers(url)[0], **connect_options("octarm-doctor", url) | once | {"closed_cb": None}
    )
    try:
        for subject in (*wanted.subscribe, *wanted.no_subscribe):
            await connection.subscribe(subject)
        for subject in (*wanted.publish, *wanted.no_publish):
            await connection.publish(subject, NO_MESSAGE, headers=dict(NO_STREAM))
        # What the server refuses it says before it answers this.
        await connection.flush(timeout=ANSWER_S)
        await connection.flush(timeout=ANSWER_S)
    finally:
        await close(connection)
    return "\n".join(said)
