"""The checker's own table of events is the orchestrator's table of states, written otherwise."""

import itertools

from octarm.ledger.domain.lifecycle import MOVES, events_to
from octarm.models.states import TERMINAL, TaskState
from octarm.verify import lifecycle

# What the ledger tells while a task stays where it is.
PROGRESS = {
    *(("placed", "progress"), ("started", "progress"), ("progress", "progress")),
    *(("progress", "started"),),
}

# The states would let it: but a result rejects nothing, and what was queued again at once has no
# attempt that could fail.
NEVER_TOLD = {("retried", "retried"), ("started", "rejected")}

# Nobody but an arm tells of these.
REPORTED = {TaskState.RUNNING, TaskState.VALIDATING, TaskState.COMPLETED}


def last_verbs(state: TaskState) -> set[str]:
    """The verbs after which a task may stand in a state."""
    verbs = {"accepted"} if state is TaskState.WAITING else set()
    for old, news in MOVES.items():
        if state in news:
            verbs |= {events_to(old, state, reported=said)[-1] for said in (True, False)}
    if state is TaskState.VALIDATING:
        verbs = {"validated"}
    if state in (TaskState.DISPATCHED, TaskState.RUNNING):
        verbs.add("progress")
    return verbs


def told() -> set[tuple[str, str]]:
    """Every pair of neighbours that the orchestrator can tell."""
    pairs = set(PROGRESS)
    for old, news in MOVES.items():
        for new in news:
            for reported in {True, new in REPORTED}:
                verbs = events_to(old, new, reported=reported)
                if new is TaskState.VALIDATING:
                    verbs = [*verbs[:-1], "validated"]
                pairs |= {(before, verbs[0]) for before in last_verbs(old)}
                pairs |= set(itertools.pairwise(verbs))
    return pairs


def test_allows_what_the_orchestrator_may_tell_and_nothing_else() -> None:
    allowed = set(lifecycle.pairs())

    assert told() - allowed == NEVER_TOLD
    assert allowed - told() == set()


def test_knows_the_terminal_verbs() -> None:
    assert set(lifecycle.TERMINAL) == {state.value for state in TERMINAL}
