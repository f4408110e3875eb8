"""What must hold inside the ledger, as SQL that returns only what does not.

Each statement gives (id, detail) and may use `%(grace)s`: seconds by which something may be late.
"""

from dataclasses import dataclass
from typing import Final

# An old month's tasks go first, from the oldest on, and its history with them as a whole.
_KEPT: Final = " >= (select coalesce(min(id), '') from ledger.task)"
_OPEN: Final = "('waiting', 'queued', 'dispatched', 'running', 'validating')"
_LEASED: Final = "('dispatched', 'running', 'validating')"


@dataclass(frozen=True, slots=True)
class LedgerRule:
    """One statement; with `when_idle` it is judged only when all work is done."""

    invariant: str
    name: str
    hint: str
    sql: str
    when_idle: bool = False
    tables: tuple[str, ...] = ()
    """Tables of the schema that must be there for it, beyond the first ones."""


LEDGER_RULES: Final = (
    LedgerRule(
        "I1",
        "a task has not ended",
        "Wait longer, then look at `octarm tasks explain` and the orchestrator's log.",
        f"select id, state from ledger.task where state in {_OPEN}",
        when_idle=True,
    ),
    LedgerRule(
        "I1",
        "a task is open past its deadline",
        "The reconciler does not run, or cannot reach Postgres.",
        "select id, deadline::text from ledger.task where terminal_at is null"
        " and deadline < now() - make_interval(secs => %(grace)s)",
    ),
    LedgerRule(
        "I1",
        "an attempt is under way without a lease",
        "Nobody would notice that its arm is gone: `octarm ledger reconcile`.",
        f"select id, state from ledger.task where state in {_LEASED} and lease_until is null",
    ),
    LedgerRule(
        "I1",
        "a lease ran out and nobody gave the attempt up",
        "The reconciler does not run, or hears no heartbeats at all.",
        "select id, lease_until::text from ledger.task where terminal_at is null"
        " and lease_until < now() - make_interval(secs => %(grace)s)",
    ),
    LedgerRule(
        "I1",
        "a task was called off and has not ended",
        "Nobody waits for the proof that its work has stopped: does the orchestrator run?",
        "select id, cancelling_since::text from ledger.task where terminal_at is null"
        " and cancelling_since < now() - make_interval(secs => %(grace)s)",
    ),
    LedgerRule(
        "I1",
        "a task waits though nothing keeps it",
        "The reconciler does not wake waiting tasks; those under a quota are not judged.",
        """
        select t.id, t.not_before::text from ledger.task t
        where t.state = 'waiting' and not t.limited
            and coalesce(t.not_before, t.updated_at) < now() - make_interval(secs => %(grace)s)
            and not exists (select from ledger.dependency d join ledger.task n
                on n.id = d.needs_task_id where d.task_id = t.id and (n.terminal_at is null
                or n.terminal_at > now() - make_interval(secs => %(grace)s)))
        """,
    ),
    LedgerRule(
        "I1",
        "a task is queued where nobody looks for it",
        "Neither listed nor in a range of fresh tasks: should it be lost, nobody would notice.",
        """
        select t.id, t.created_at::text from ledger.task t
        where t.state = 'queued' and t.queued_since is null
            and not exists (select from ledger.fresh f where f.first_id <= t.id)
        """,
        tables=("fresh",),
    ),
    LedgerRule(
        "I1",
        "state and end do not agree",
        "A transition wrote one without the other.",
        f"select id, state from ledger.task where (terminal_at is null) <> (state in {_OPEN})",
    ),
    LedgerRule(
        "I1",
        "a rejected task does not say why",
        "Who ends a task must tell its submitter the reason.",
        "select id, attempt::text from ledger.task where state = 'rejected' and error is null",
    ),
    LedgerRule(
        "I2",
        "a result of a task that is not in the ledger",
        "Something wrote a result without an accepted task.",
        "select r.task_id, r.attempt::text from ledger.result r"
        " left join ledger.task t on t.id = r.task_id where t.id is null"
        " and r.task_id" + _KEPT,
    ),
    LedgerRule(
        "I2",
        "an attempt of a task that is not in the ledger",
        "Something wrote an attempt without an accepted task.",
        "select a.task_id, a.attempt::text from ledger.attempt a"
        " left join ledger.task t on t.id = a.task_id where t.id is null"
        " and a.task_id" + _KEPT,
    ),
    LedgerRule(
        "I2",
        "a late result of a task that is not in the ledger",
        "Something kept a result without an accepted task.",
        "select r.task_id, r.attempt::text from ledger.late_result r"
        " left join ledger.task t on t.id = r.task_id where t.id is null"
        " and r.task_id" + _KEPT,
    ),
    LedgerRule(
        "I3",
        "a completed task without its result",
        "The end and the result were not written together.",
        "select t.id, t.attempt::text from ledger.task t"
        " left join ledger.result r on r.task_id = t.id"
        " where t.state = 'completed' and r.task_id is null",
    ),
    LedgerRule(
        "I3",
        "a result of another attempt than the terminal one",
        "A late result was taken for the task's own.",
        "select t.id, 'result ' || r.attempt || ', task ' || t.attempt from ledger.result r"
        " join ledger.task t on t.id = r.task_id where r.attempt <> t.attempt",
    ),
    LedgerRule(
        "I3",
        "a result of a task that no result ended",
        "Only completed, failed and rejected tasks have one.",
        "select t.id, t.state from ledger.result r join ledger.task t on t.id = r.task_id"
        " where t.state not in ('completed', 'failed', 'rejected')",
    ),
    LedgerRule(
        "I3",
        "a result is not what its checksum says",
        "The body or its checksum was changed after it was written.",
        "select task_id, encode(sha256, 'hex') from ledger.result"
        " where sha256 <> sha256(convert_to(body::text, 'UTF8'))",
    ),
    LedgerRule(
        "I3",
        "a result speaks of another task or attempt",
        "It was written to the wrong row.",
        """
        select task_id, attempt::text from ledger.result
        where strpos(body::text, '"' || task_id || '"') = 0
            or body::text !~ ('"attempt"[[:space:]]*:[[:space:]]*' || attempt || '[^0-9]')
        """,
    ),
    LedgerRule(
        "I3",
        "one attempt's result is kept as both good and late",
        "The same result counted twice.",
        "select r.task_id, r.attempt::text from ledger.result r"
        " join ledger.late_result l on l.task_id = r.task_id and l.attempt = r.attempt"
        " where l.body::text = r.body::text",
    ),
    LedgerRule(
        "I4",
        "an attempt that the task has not come to",
        "Attempts were opened beside the task, or its number went back.",
        "select a.task_id, a.attempt || ' of ' || t.attempt from ledger.attempt a"
        " join ledger.task t on t.id = a.task_id where a.attempt > t.attempt or a.attempt < 1",
    ),
    LedgerRule(
        "I4",
        "an open task's attempt has ended",
        "A retry must open a new attempt, never go on with the old number.",
        f"""
        select t.id, 'attempt ' || t.attempt || ' ' || a.outcome from ledger.task t
        join ledger.attempt a on a.task_id = t.id and a.attempt = t.attempt
        where t.state in {_OPEN} and a.outcome is not null
        """,
    ),
    LedgerRule(
        "I4",
        "an earlier attempt was never closed",
        "What opens the next attempt must close the one before.",
        "select a.task_id, a.attempt || ' of ' || t.attempt from ledger.attempt a"
        " join ledger.task t on t.id = a.task_id"
        " where a.attempt < t.attempt and a.outcome is null and a.started_at is not null",
    ),
    LedgerRule(
        "I4",
        "a completed task whose attempt did not succeed",
        "The end and the attempt were not written together.",
        """
        select t.id, coalesce(a.outcome, 'no outcome') from ledger.task t
        left join ledger.attempt a on a.task_id = t.id and a.attempt = t.attempt
        where t.state = 'completed' and coalesce(a.outcome, '') not in ('success', 'partial')
        """,
    ),
    LedgerRule(
        "I8",
        "a task holds a lease though no attempt is under way",
        "What ends an attempt must take its lease away.",
        f"select id, state from ledger.task where lease_until is not null"
        f" and state not in {_LEASED}",
    ),
    LedgerRule(
        "I8",
        "a task that has ended is still being called off",
        "What ends a task must say so everywhere.",
        "select id, state from ledger.task where terminal_at is not null"
        " and cancelling_since is not null",
    ),
    LedgerRule(
        "I8",
        "a task is kept as blocked that does not wait",
        "The reconciler does not sweep what waits for others.",
        "select b.task_id, coalesce(t.state, 'not in the ledger') from ledger.blocked b"
        " left join ledger.task t on t.id = b.task_id where t.state is distinct from 'waiting'",
        when_idle=True,
        tables=("blocked",),
    ),
    LedgerRule(
        "I8",
        "the outbox is not empty",
        "The relay does not publish: is NATS up, is a stream full?",
        "select seq::text, created_at::text from ledger.outbox",
        when_idle=True,
    ),
    LedgerRule(
        "I8",
        "the outbox holds what should have been published long ago",
        "The relay does not publish: is NATS up, is a stream full?",
        "select seq::text, created_at::text from ledger.outbox"
        " where created_at < now() - make_interval(secs => %(grace)s)",
    ),
    LedgerRule(
        "I10",
        "a task depends on another tenant's",
        "Relatives must be looked up by tenant.",
        "select t.id, n.id from ledger.dependency d join ledger.task t on t.id = d.task_id"
        " join ledger.task n on n.id = d.needs_task_id where n.tenant <> t.tenant",
    ),
    LedgerRule(
        "I10",
        "a task is the child of another tenant's",
        "Relatives must be looked up by tenant.",
        "select t.id, p.id from ledger.task t join ledger.task p on p.id = t.parent_id"
        " where t.parent_id is not null and p.tenant <> t.tenant",
    ),
)
