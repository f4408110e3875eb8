"""The check as a whole: read all sides, compare them, report."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to
from octarm.models import subjects as s
from octarm.models.errors import Unavailable
from octarm.verify import bus
from octarm.verify.effects import read_effects
from octarm.verify.history import Operation, read_history
from octarm.verify.invariants import INVARIANTS, Mode, Violation
from octarm.verify.ledger import check_ledger, copy_tasks, snapshot, tables
from octarm.verify.models import object_of
from octarm.verify.notebook import Notebook, notebook
from octarm.verify.notebook_rules import EFFECT_RULES, EVENT_RULES, HISTORY_RULES, NotebookRule
from octarm.verify.orders import impossible
from octarm.verify.report import Report

GRACE_S: Final = 60.0
FIRST: Final = 10
PAUSE_S: Final = 0.5
_ARRIVES: Final = "not applicable: the product has no such thing yet"
_READ_AS: Final = {
    "task": "tasks",
    "event": "events",
    "repeated event": "repeated events",
    "flip": "arm events",
    "dead": "dead letters",
    "op": "operations",
    "object": "objects",
    "effect": "side effects",
}
_MISSING: Final = {
    "I5": "the ledger was not read, or is older than budgets",
    "I6": "no file of side effects was given",
    "I7": "it needs the bus and a history that notes an arm as `steady`",
    "I9": "the bus was not read",
    "I12": "it needs a history file with `publish`, the bus and the end",
    "H": "no history file was given",
}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look; what is not given is not checked, and the report says so."""

    postgres_url: str = ""
    nats_url: str = ""
    histories: Sequence[Path] = field(default=())
    effects: Sequence[Path] = field(default=())


async def verify(
    sources: Sources,
    *,
    mode: Mode = Mode.QUIESCENT,
    grace_s: float = GRACE_S,
    first: int = FIRST,
    wait_s: float = 0.0,
) -> Report:
    """Check every invariant; look again for `wait_s` seconds while something is broken.

    Histories are read before the bus and the bus before the ledger: so what a client or an
    event says must be in the ledger, though work goes on.

    Raises:
        Unavailable: Postgres or NATS cannot be read.
        ValueError: a file is not what it should be.
    """
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + wait_s
    while True:
        began = clock()
        report = await _verify_once(sources, mode, grace_s, first)
        if report.ok or clock() >= give_up_at:
            return report
        # At most half of the time is spent looking: the others have work to do.
        await asyncio.sleep(max(PAUSE_S, clock() - began))


async def _verify_once(sources: Sources, mode: Mode, grace_s: float, first: int) -> Report:
    report, read = Report(mode), set[str]()
    async with AsyncExitStack() as stack:
        notes = stack.enter_context(notebook())
        for path in sources.histories:
            notes.add("op", (_row(operation) for operation in read_history(path)))
            read.add("history")
        if notes.find("select object, '' from op where op = 'steady'", {}, 0)[0]:
            read.add("steady arms")
        for path in sources.effects:
            notes.add("effect", read_effects(path))
            read.add("effects")
        if sources.nats_url:
            read |= await _read_bus(sources.nats_url, notes, report)
        if sources.postgres_url:
            connection = await stack.enter_async_context(snapshot(sources.postgres_url))
            if "task" not in await tables(connection):
                raise Unavailable("the ledger has no tables", "Run `octarm db migrate` first.")
            await check_ledger(connection, report, grace_s=grace_s, first=first)
            await copy_tasks(connection, notes)
            read.add("ledger")
        _compare(notes, report, read, first)
        report.counts = {_READ_AS.get(name, name): n for name, n in notes.counts.items()}
    _say_what_was_not_checked(report, read)
    return report


async def _read_bus(url: str, notes: Notebook, report: Report) -> set[str]:
    async with connected_to(url, name="octarm-verify") as nc:
        report.checked("I8", await _left_over(nc, report.mode), rules=len(bus.WORK_QUEUES))
        read = set()
        if state := await bus.stream_state(nc, s.EVENTS):
            notes.history_begins_at = state.complete_since
            async for told in bus.told(nc, state):
                notes.add_events(told.tasks)
                notes.add("flip", told.arms)
            read.add("events")
        if state := await bus.stream_state(nc, s.DLQ):
            notes.add("dead", [letter async for letter in bus.dead_letters(nc, state)])
            read.add("dead letters")
    return read


async def _left_over(nc: NATS, mode: Mode) -> list[Violation]:
    """Find work queues that still hold something, or are gone."""
    found = []
    for stream in bus.WORK_QUEUES:
        left = await bus.left_in(nc, stream)
        if left is None:
            hint = "Run `octarm bus provision`, then `octarm ledger reconcile --assume-empty`."
            found.append(Violation("I8", "a stream is missing", 1, (stream,), hint))
        elif left and mode is Mode.QUIESCENT:
            example = f"{stream} {left} messages"
            hint = "Its reader is away, or holds them unacknowledged."
            found.append(Violation("I8", "a work queue is not empty", 1, (example,), hint))
    return found


def _compare(notes: Notebook, report: Report, read: set[str], first: int) -> None:
    parameters = {"begins": notes.history_begins_at}
    for rule in (*EVENT_RULES, *EFFECT_RULES, *HISTORY_RULES):
        if read.issuperset(rule.needs) and not (rule.when_idle and report.mode is Mode.LIVE):
            report.checked(rule.invariant, _broken(notes, rule, parameters, first))
    if "history" in read:
        report.checked("H", impossible(notes, first))
    older = "select id, '' from task where created_at < :begins"
    if {"ledger", "events"} <= read and (number := notes.find(older, parameters, 0)[0]):
        report.notes.append(f"{number} tasks are older than the kept events: gaps not judged")


def _broken(
    notes: Notebook, rule: NotebookRule, parameters: dict[str, float], first: int
) -> Iterable[Violation]:
    count, examples = notes.find(rule.sql, parameters, first)
    if count:
        yield Violation(rule.invariant, rule.name, count, tuple(examples), rule.hint)


def _say_what_was_not_checked(report: Report, read: set[str]) -> None:
    for invariant in INVARIANTS:
        if not report.rules.get(invariant):
            report.skipped(invariant, _MISSING.get(invariant, _ARRIVES))
    if "ledger" not in read:
        report.notes.append("the ledger was not read")


def _row(operation: Operation) -> tuple[object, ...]:
    args, value = operation.args, operation.value
    return (
        operation.process,
        operation.invoke,
        operation.complete,
        operation.op,
        operation.outcome,
        args.get("tenant"),
        args.get("key"),
        value.get("task_id") or args.get("task_id"),
        _encode(args).decode(),
        _encode(value).decode(),
        object_of(operation),
    )
