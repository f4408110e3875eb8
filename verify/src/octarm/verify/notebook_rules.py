"""What must hold between ledger, events, history and effects, as SQL over the notebook.

Each statement gives (id, detail). `:begins` is when the kept events begin (Unix seconds).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class NotebookRule:
    """One statement, and what has to have been read for it."""

    invariant: str
    name: str
    hint: str
    sql: str
    needs: tuple[str, ...]
    when_idle: bool = False


# Without late results, which may come at any time; judged where no number is missing, for a
# neighbour that has yet to be read says nothing.
_WAYS: Final = """
with whole as (select task_id from event group by task_id
        having min(seq) = 1 and count(*) = max(seq)),
    way as (select task_id, seq, verb, attempt, lag(verb) over w as before,
        lag(attempt) over w as attempt_before
        from event join whole using (task_id) where verb <> 'late_result'
        window w as (partition by task_id order by seq))
"""
_KEPT: Final = "t.created_at >= :begins"

EVENT_RULES: Final = (
    NotebookRule(
        "I2",
        "events of a task that is not in the ledger",
        "It was announced without having been committed, or its row is gone.",
        "select e.task_id, e.verb from event e left join task t on t.id = e.task_id"
        " where t.id is null",
        ("ledger", "events"),
    ),
    NotebookRule(
        "I2",
        "a terminal event of a task that was never announced as accepted",
        "It ended without having been accepted.",
        """
        select t.id, e.verb from event e join ending on ending.verb = e.verb
        join task t on t.id = e.task_id left join event a on a.task_id = t.id and a.seq = 1
        where t.created_at >= :begins and (a.verb is null or a.verb <> 'accepted')
        """,
        ("ledger", "events"),
        when_idle=True,
    ),
    NotebookRule(
        "I4",
        "an event that may not follow the one before",
        "A transition happened that the lifecycle does not know.",
        _WAYS
        + """
        select task_id, before || ' → ' || verb || ' (seq ' || seq || ')' from way
        where before is not null
            and not exists (select 1 from follows f where f.verb = before and f.after = way.verb)
        """,
        ("events",),
    ),
    NotebookRule(
        "I4",
        "attempts do not grow by one with each retry",
        "A retry must open the next attempt, and nothing else may.",
        _WAYS
        + """
        select task_id, attempt_before || ' → ' || attempt || ' at ' || verb from way
        where attempt_before is not null
            and attempt <> attempt_before + (case verb when 'retried' then 1 else 0 end)
        """,
        ("events",),
    ),
    NotebookRule(
        "I4",
        "ledger and events disagree on the attempt",
        "A transition was told otherwise than it was written.",
        f"""
        select t.id, 'ledger ' || t.attempt || ', event ' || e.attempt from task t
        join event e on e.task_id = t.id join ending on ending.verb = e.verb
        where {_KEPT} and e.attempt <> t.attempt
        """,
        ("ledger", "events"),
    ),
    NotebookRule(
        "I9",
        "more than one terminal event",
        "A task ended twice.",
        "select task_id, group_concat(e.verb || ' (seq ' || seq || ')') from event e"
        " join ending on ending.verb = e.verb group by task_id having count(*) > 1",
        ("events",),
    ),
    NotebookRule(
        "I9",
        "two different events under one number",
        "Two commits gave out the same number.",
        "select task_id, 'seq ' || seq || ': ' || one || ' and ' || other from clash",
        ("events",),
    ),
    NotebookRule(
        "I9",
        "the numbers of a task's events have a gap",
        "An event was lost between commit and stream: see the outbox and OCTARM_EVENTS.",
        f"""
        select t.id, count(e.seq) || ' events of ' || t.event_seq from task t
        left join event e on e.task_id = t.id where {_KEPT}
        group by t.id having count(e.seq) <> t.event_seq or max(e.seq) <> t.event_seq
        """,
        ("ledger", "events"),
        when_idle=True,
    ),
    NotebookRule(
        "I9",
        "an event with a number that the ledger has not given out",
        "It was told without having been committed.",
        "select t.id, e.verb || ' (seq ' || e.seq || ' of ' || t.event_seq || ')' from event e"
        " join task t on t.id = e.task_id where e.seq > t.event_seq",
        ("ledger", "events"),
    ),
    NotebookRule(
        "I9",
        "the terminal event is missing, or not that of the task's state",
        "The end was not told, or told otherwise than it was written.",
        f"""
        select t.id, t.state || ', told ' || coalesce(e.verb, 'nothing') from task t
        join ending s on s.verb = t.state
        left join (select task_id, verb from event join ending using (verb)) e on e.task_id = t.id
        where {_KEPT} and (e.verb is null or e.verb <> t.state)
        """,
        ("ledger", "events"),
        when_idle=True,
    ),
    NotebookRule(
        "I9",
        "a task was told to have ended and is open in the ledger",
        "The end was announced without having been committed.",
        "select t.id, t.state || ', told ' || e.verb from event e"
        " join ending on ending.verb = e.verb join task t on t.id = e.task_id"
        " where t.state not in (select verb from ending)",
        ("ledger", "events"),
    ),
    NotebookRule(
        "I10",
        "an event on another tenant's subject",
        "The event's tenant is not that of its task.",
        "select t.id, e.tenant || ' instead of ' || t.tenant from event e"
        " join task t on t.id = e.task_id where e.tenant <> t.tenant",
        ("ledger", "events"),
    ),
)
EFFECT_RULES: Final = (
    NotebookRule(
        "I6",
        "a side effect happened more than once within an attempt",
        "Two instances ran the same attempt, or a tool ignored its idempotency key.",
        "select task_id, 'attempt ' || attempt || ', call ' || call_no || ': ' || count(*)"
        " from effect group by task_id, attempt, call_no having count(*) > 1",
        ("effects",),
    ),
    NotebookRule(
        "I6",
        "a side effect of an attempt that the ledger does not know",
        "Something ran that was never given out, or that came too early.",
        "select e.task_id, 'attempt ' || e.attempt from effect e"
        " left join task t on t.id = e.task_id where t.id is null or e.attempt > t.attempt",
        ("ledger", "effects"),
    ),
)
HISTORY_RULES: Final = (
    NotebookRule(
        "I1",
        "a client was told that a task is accepted, and the ledger has none",
        "An answer was given before the commit, or a commit was lost.",
        "select o.task_id, o.op from op o left join task t on t.id = o.task_id"
        " where o.op = 'submit' and o.outcome = 'ok' and o.task_id is not null and t.id is null",
        ("ledger", "history"),
    ),
    NotebookRule(
        "I3",
        "a client was given another ending than the ledger has",
        "An answer was wrong, or an ending was changed afterwards.",
        """
        select o.task_id, json_extract(o.value, '$.state') || ', ledger ' || t.state from op o
        join task t on t.id = o.task_id
        join ending on ending.verb = json_extract(o.value, '$.state')
        where o.outcome = 'ok' and (json_extract(o.value, '$.state') <> t.state
            or coalesce(json_extract(o.value, '$.attempt'), t.attempt) <> t.attempt)
        """,
        ("ledger", "history"),
    ),
    NotebookRule(
        "I7",
        "an arm went offline though nothing happened to it",
        "The registry misjudged silence: see its log, and how often the arm beat.",
        """
        select f.arm_id, count(*) || ' times' from flip f where f.verb = 'offline'
            and f.arm_id in (select json_extract(args, '$.arm') from op where op = 'steady')
        group by f.arm_id
        """,
        ("steady arms", "events"),
    ),
    NotebookRule(
        "I10",
        "an answer to one tenant holds another's task",
        "A query was not restricted to its tenant.",
        """
        select t.id, 'told to ' || o.tenant from op o join task t on t.id = o.task_id
        where o.outcome = 'ok' and o.tenant is not null and t.tenant <> o.tenant
        union all
        select t.id, 'listed to ' || o.tenant from op o, json_each(o.value, '$.task_ids') l
        join task t on t.id = l.value
        where o.outcome = 'ok' and o.tenant is not null and t.tenant <> o.tenant
        """,
        ("ledger", "history"),
    ),
    NotebookRule(
        "I12",
        "what a publisher handed in is neither in the ledger nor among the dead letters",
        "INTAKE lost an acknowledged message, or a dead letter was dropped.",
        """
        select coalesce(o.task_id, 'seq ' || json_extract(o.value, '$.seq')), o.op from op o
        left join task t on t.id = o.task_id
        where o.op = 'publish' and o.outcome = 'ok' and t.id is null and not exists (
            select 1 from dead d where d.task_id = o.task_id
                or d.stream_seq = json_extract(o.value, '$.seq'))
        """,
        ("ledger", "history", "dead letters"),
        when_idle=True,
    ),
    NotebookRule(
        "H",
        "one idempotency key made two tasks",
        "The unique key does not hold, or an answer named another's task.",
        "select min(task_id), tenant || '/' || key || ': ' || group_concat(distinct task_id)"
        " from op where op = 'submit' and outcome = 'ok' and key is not null"
        " group by tenant, key having count(distinct task_id) > 1",
        ("history",),
    ),
    NotebookRule(
        "H",
        "one task was created twice",
        "Two answers say `created` of the same task.",
        "select task_id, count(*) || ' times' from op where op = 'submit' and outcome = 'ok'"
        " and json_extract(value, '$.created') group by task_id having count(*) > 1",
        ("history",),
    ),
)
