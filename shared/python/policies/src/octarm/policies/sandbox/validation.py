"""Try a source on sample contexts, within the limits, before anybody relies on it."""

from octarm.policies.actions import check, not_carried_out
from octarm.policies.context import Context
from octarm.policies.outcomes import PolicyFailed
from octarm.policies.problems import Loaded, Problem, hint_for
from octarm.policies.samples import samples
from octarm.policies.sandbox.engine import Engine
from octarm.policies.versions import Kind

SHOWN = 3


async def validate(engine: Engine, source: str, kind: Kind = "starlark") -> Loaded:
    """Say what is wrong with a source: parse it, check its calls, call it on every sample.

    A failure is an error; an action that the host would drop is a warning, for it may be right
    elsewhere. The engine knows no more policies afterwards than before.
    """
    known = engine.policies
    loaded = await engine.load(source, kind)
    if not loaded.ok:
        return loaded
    try:
        problems = list(loaded.problems)
        for name, context in samples().items():
            found = await _try_on(engine, loaded.digest, name, context)
            problems += [problem for problem in found if problem not in problems]
    finally:
        if loaded.digest not in known:
            engine.forget(loaded.digest)
    return Loaded(loaded.digest, tuple(problems))


async def _try_on(engine: Engine, policy: str, name: str, context: Context) -> list[Problem]:
    outcome = await engine.decide(policy, context)
    if isinstance(outcome, PolicyFailed):
        message = f"{outcome.reason} on the sample {name!r}: {outcome.traceback}"
        hint = hint_for(f"{outcome.reason} {outcome.traceback}")
        return [Problem("error", message, outcome.line, hint)]
    checked = check(outcome.actions, context)
    dropped = [*checked.dropped, *not_carried_out(checked.kept)]
    kinds = {it.kind: it for it in reversed(dropped)}
    return [
        Problem("warning", f"dropped on the sample {name!r}: {it.action}: {it.reason}", hint=_HINT)
        for it in list(kinds.values())[:SHOWN]
    ]


_HINT = "the host drops such actions; helpers that choose an arm, given a plan, avoid them"
