"""What must hold when a run has become quiet; each function yields what does not."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from octarm.models.states import TERMINAL, TaskState
from octarm.models.subjects import DISPATCH, DLQ, EVENTS, READY
from octarm.verify.bus import _facts
from octarm.verify.notebook import TaskFact

if TYPE_CHECKING:
    from tests.simulation.rows import TaskRow
    from tests.simulation.world import World

ENDS: Final = {state.value for state in TERMINAL}
AFTER_THE_END: Final = {"late_result"}
REPORTED: Final = ("success", "failure", "partial")
LATE_BY: Final = timedelta(seconds=10)
Found = Iterator[str]


def broken(world: "World") -> Found:
    """Give everything that is not as it must be."""
    for rule in RULES:
        for found in rule(world):
            yield f"{rule.__name__}: {found}"


def overdue(world: "World") -> Found:
    """Give what somebody should have taken in hand long ago, though all parts work again."""
    tables, before = world.ledger.tables, world.clock.now() - LATE_BY
    for task_id, row in tables.open.items():
        if row.lease_until is not None and row.lease_until < before:
            yield f"the lease of {task_id} ran out at {row.lease_until}, it is {row.state}"
        if row.state is TaskState.WAITING and row.not_before and row.not_before < before:
            yield f"{task_id} could have run since {row.not_before}"
        # One that began on an arm which died at once is told again after a while.
        forgotten = row.state is TaskState.QUEUED and not world.runs[task_id, row.attempt]
        if forgotten and row.updated_at < before and not _held_somewhere(world, task_id):
            yield f"{task_id} is queued, but neither in READY nor in DISPATCH"


def _held_somewhere(world: "World", task_id: str) -> bool:
    needle = task_id.encode()
    for name in (READY, DISPATCH):
        if any(needle in message.data for message in world.bus.streams[name].messages.values()):
            return True
    return any(needle in packed for packed, _ in world.ledger.tables.outbox.values())


def no_accepted_task_is_lost(world: "World") -> Found:
    """What was answered or acknowledged is in the ledger, once, and has ended."""
    tasks = world.ledger.tables.tasks
    keys = {row.task.idem_key: row for row in tasks.values()}
    for name, task_id in world.accepted.items():
        if task_id not in tasks:
            yield f"{name} was accepted as {task_id}, which the ledger does not know"
    for name in world.published:
        if name not in keys:
            yield f"{name} was taken by INTAKE and never accepted"
    for task_id, row in tasks.items():
        if row.state not in TERMINAL:
            yield f"{task_id} is {row.state}"
        if row.state in TERMINAL and (row.lease_until or row.terminal_at is None):
            yield f"{task_id} ended but has a lease, or no time of its end"


def each_task_ends_once(world: "World") -> Found:
    """Events have no gap, no second end, attempts that only grow, and agree with the ledger."""
    told = _events(world)
    for task_id, row in world.ledger.tables.tasks.items():
        facts = told.pop(task_id, {})
        seqs = sorted(facts)
        if seqs != list(range(1, row.event_seq + 1)):
            yield f"{task_id} has events {seqs}, the ledger counts {row.event_seq}"
            continue
        yield from _history(row, [facts[seq] for seq in seqs])
    for task_id in told:
        yield f"{task_id} has events but is not in the ledger"


def _events(world: "World") -> dict[str, dict[int, TaskFact]]:
    found: dict[str, dict[int, TaskFact]] = defaultdict(dict)
    for message in world.bus.streams[EVENTS].messages.values():
        stored: Any = message
        for fact in _facts(stored):
            known = found[fact.task_id].setdefault(fact.seq, fact)
            if (known.verb, known.attempt) != (fact.verb, fact.attempt):
                world.problems.append(f"two events {fact.seq} of {fact.task_id}: {known}, {fact}")
    return found


def _history(row: "TaskRow", facts: list[TaskFact]) -> Found:
    task_id, attempt, ended = row.task.task_id, 1, ""
    for fact in facts:
        if fact.verb in AFTER_THE_END:
            continue
        if ended:
            yield f"{task_id} was {ended}, then {fact.verb}"
        if fact.attempt < attempt or fact.attempt > attempt + (fact.verb == "retried"):
            yield f"{task_id} went from attempt {attempt} to {fact.attempt} by {fact.verb}"
        attempt = fact.attempt
        if fact.verb in ENDS:
            ended = fact.verb
    if ended != row.state.value or attempt != row.attempt:
        yield f"{task_id}: events say {ended} at {attempt}, ledger {row.state} at {row.attempt}"


def a_result_is_its_attempts_own(world: "World") -> Found:
    """The counted result is that of the last attempt, as an arm wrote it; others are late."""
    tables = world.ledger.tables
    for task_id, (attempt, body) in tables.results.items():
        row = tables.tasks[task_id]
        if attempt != row.attempt or row.state not in (TaskState.COMPLETED, TaskState.FAILED):
            yield f"{task_id} is {row.state} at {row.attempt}, its result of {attempt}"
        if body not in world.bodies.get((task_id, attempt), []):
            yield f"no arm wrote the result of {task_id}"
        if (task_id, attempt) in tables.late:
            yield f"the result of {task_id} at {attempt} counts and is late"
    for task_id, row in tables.tasks.items():
        if row.state is TaskState.COMPLETED and task_id not in tables.results:
            yield f"{task_id} completed without a result"
    for key, body in tables.late.items():
        if body not in world.bodies.get(key, []):
            yield f"no arm wrote the late result of {key}"


def each_attempt_is_dispatched_once(world: "World") -> Found:
    """Whoever led, and whatever got lost: DISPATCH took each attempt once."""
    for key, number in world.dispatched.items():
        if number > 1:
            yield f"{key} was dispatched {number} times"


def dependencies_come_first(world: "World") -> Found:
    """Nothing ran whose dependency had not completed."""
    tables = world.ledger.tables
    for task_id, row in tables.tasks.items():
        for name in row.task.depends_on:
            if tables.tasks[name].state is not TaskState.COMPLETED and world.runs[task_id, 1]:
                yield f"{task_id} ran though {name} is {tables.tasks[name].state}"


def nothing_was_thrown_away(world: "World") -> Found:
    """No message was poisonous, so none is among the dead letters.

    But one: a READY message whose acknowledgement got lost is read again by a later leader. When
    DISPATCH has forgotten the first run command, the attempt runs again, perhaps on another arm,
    whose result is not the attempt's.
    """
    for message in world.bus.streams[DLQ].messages.values():
        if not any(number > 1 and _is_of(message.data, key) for key, number in world.runs.items()):
            yield f"a dead letter: {message.subject} {message.data[:300]!r}"


def _is_of(body: bytes, key: tuple[str, int]) -> bool:
    return b'"task_id":"%b","attempt":%d,' % (key[0].encode(), key[1]) in body


def no_reported_result_is_lost(world: "World") -> Found:
    """A result that the stream took ended its attempt, is kept as late, or is a dead letter.

    Which results may be dead letters says `nothing_was_thrown_away`.
    """
    tables = world.ledger.tables
    letters = [message.data for message in world.bus.streams[DLQ].messages.values()]
    for msg_id in sorted(world.reported):
        _, task_id, attempt = msg_id.split(":")
        key = (task_id, int(attempt))
        row = tables.attempts.get(key)
        is_kept = key in tables.late or (row is not None and row.outcome in REPORTED)
        if not is_kept and not any(_is_of(body, key) for body in letters):
            yield f"the result of {key} was taken and is nowhere"


def nothing_is_repeated_for_nothing(world: "World") -> Found:
    """Without faults every attempt runs once, and no living arm loses one."""
    if world.plan.deeds or world.plan.has_faults:
        return
    for key, number in world.runs.items():
        if number > 1:
            yield f"{key} ran {number} times without any fault"
    for key, row in world.ledger.tables.attempts.items():
        if row.outcome == "lost":
            yield f"{key} was lost without any fault"


def the_leader_has_nothing_left(world: "World") -> Found:
    """Long after the last task, no slot is taken and nothing is held."""
    for process, leader in world.leaders.items():
        if not process.alive or not world.was_idle:
            continue
        pools = leader.desk.fleet.pools.values()
        flights = [key for pool in pools for key in pool.flights if not pool.runs(key)]
        if leader.desk.leading and (flights or leader.desk.holds or len(leader.desk.queue)):
            yield f"{process.name}: in flight {flights}, held {list(leader.desk.holds)}"


RULES: Final[tuple[Callable[["World"], Found], ...]] = (
    no_accepted_task_is_lost,
    each_task_ends_once,
    a_result_is_its_attempts_own,
    each_attempt_is_dispatched_once,
    dependencies_come_first,
    nothing_was_thrown_away,
    no_reported_result_is_lost,
    nothing_is_repeated_for_nothing,
    the_leader_has_nothing_left,
)
