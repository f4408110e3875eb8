"""Every object of a history, judged one after another."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import msgspec

from octarm.verify.history import Operation
from octarm.verify.invariants import Violation
from octarm.verify.linearizability import judge
from octarm.verify.models import MODELS
from octarm.verify.notebook import Notebook

# That a task is not there for another tenant says nothing of it. What the ledger says in the end
# is one more answer, given after all others.
_OPERATIONS: Final = """
select object, process, op, invoked, completed, outcome, args, value from op
where object is not null and not (outcome = 'fail' and exists (
    select 1 from task t where t.id = op.task_id and t.tenant <> op.tenant))
union all
select 'task:' || t.id, 'ledger', 'get', 9223372036854775806, 9223372036854775807, 'ok', '{}',
    json_object('state', t.state, 'attempt', t.attempt)
from task t where exists (select 1 from op where op.task_id = t.id)
order by 1, 4
"""
_HINT: Final = "A stale or lost answer: see all operations of the object in the history."
_decode = msgspec.json.decode


def impossible(notes: Notebook, first: int) -> Iterator[Violation]:
    """Find objects whose operations no correct system could have answered like this."""
    wrong: list[str] = []
    too_hard: list[str] = []
    wrong_count = judged = 0
    for name, rows in groupby(notes.db.execute(_OPERATIONS), key=lambda row: str(row[0])):
        judgement = judge(map(_operation, rows), MODELS[name.partition(":")[0]])
        judged += 1
        if judgement.ok is None:
            too_hard.append(name)
        elif not judgement.ok:
            wrong_count += 1
            if len(wrong) < first:
                wrong.append(f"{name} {_told(judgement.stuck_at)}")
    notes.counts["object"] = judged
    if wrong_count:
        yield Violation("H", "answers that fit no order", wrong_count, tuple(wrong), _HINT)
    if too_hard:
        examples = tuple(too_hard[:first])
        hint = "Record fewer overlapping operations on one object."
        yield Violation("H", "too many orders to try", len(too_hard), examples, hint)


def _operation(row: tuple[Any, ...]) -> Operation:
    _, process, op, invoke, complete, outcome, args, value = row
    return Operation(process, op, invoke, complete, _decode(args), outcome, _decode(value))


def _told(operation: Operation | None) -> str:
    if operation is None:
        return ""
    return f"{operation.process}: {operation.op} {operation.outcome} {operation.value}"
