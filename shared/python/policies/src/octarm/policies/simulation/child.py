"""The simulating child: reads its work, shuts itself in, simulates, writes what came out.

Started as `python -m octarm.policies.simulation.child`; work comes on standard input, `Refused` or
a list of outcomes goes to standard output, both as JSON.
"""

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from octarm.policies.builtin import BUILTIN
from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import Context
from octarm.policies.language.evaluator import Evaluator, ScriptError
from octarm.policies.rules.compiling import compile_rules
from octarm.policies.rules.reading import RulesError
from octarm.policies.sandbox.child import Budget
from octarm.policies.sandbox.limits import Size, allow_cpu, confine
from octarm.policies.simulation.work import CPU_S, LIMITS, Candidate, Refused, Work
from octarm.policies.simulator import load as loads
from octarm.policies.simulator import records
from octarm.policies.simulator.jobs import Job, generated, replayed
from octarm.policies.simulator.load import BadLoad, Load
from octarm.policies.simulator.outcome import Outcome
from octarm.policies.simulator.records import Recording
from octarm.policies.simulator.world import simulated

NICER: Final = 10
_ACTIONS: Final = msgspec.json.Decoder(list[object])
_CONTEXTS: Final = msgspec.json.Encoder(order="deterministic")


class BadPolicy(Exception):
    """A policy that cannot be simulated."""


class BoundedScript:
    """A script of which each call has the processor time that it has in production."""

    def __init__(self, name: str, source: str, call_ms: int) -> None:
        self.name = name
        self._call_ms = call_ms
        self._evaluator = Evaluator(
            max_depth=LIMITS.call_depth, max_print_bytes=LIMITS.max_print_bytes
        )
        loading = Budget(LIMITS.load_ms)
        self._policy = self._evaluator.compile(source, cancelled=loading.spent)

    def decide(self, context: Context) -> Sequence[object]:
        """Decide once.

        Raises:
            ScriptError: it failed, or took too long.
        """
        seen = self._evaluator.context(_CONTEXTS.encode(context).decode())
        budget = Budget(self._call_ms)
        answer = self._evaluator.decide(self._policy, seen, cancelled=budget.spent)
        try:
            return _ACTIONS.decode(answer)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ScriptError(f"error: bad return: {error}") from error


def run(work: Work) -> list[Outcome] | Refused:
    """Simulate each candidate on the same tasks."""
    try:
        load, recording = _surroundings(work)
        deciders = [_decider(it, work.call_ms) for it in work.candidates]
    except BadLoad as error:
        return Refused("load", str(error))
    except BadPolicy as error:
        return Refused("policy", str(error))

    def jobs() -> Iterator[Job]:
        return generated(load, work.seed) if recording is None else replayed(recording)

    return [simulated(load, decider, jobs(), work.seed) for decider in deciders]


def _surroundings(work: Work) -> tuple[Load, Recording | None]:
    recording = records.parse(work.records.encode(), "the record") if work.records else None
    if work.load:
        return loads.parse(work.load, "the load"), recording
    if recording is None:
        raise BadLoad("there is neither a load nor a record")
    return records.load_of(recording, "the record"), recording


def _decider(candidate: Candidate, call_ms: int) -> Builtin | BoundedScript:
    if candidate.source is None:
        if candidate.name not in BUILTIN:
            raise BadPolicy(f"no policy {candidate.name}")
        return BUILTIN[candidate.name]
    try:
        source = candidate.source
        if candidate.kind == "yaml":
            source = compile_rules(source).source
        return BoundedScript(candidate.name, source, call_ms)
    except (RulesError, ScriptError) as error:
        raise BadPolicy(f"{candidate.name}: {error}") from error


def _warm_up() -> None:
    """Do everything once: what it reads from files must be in memory before they are shut."""
    source = "def schedule(ctx):\n    return []\n"
    arms = '[[arms]]\nid = "a"\n[[tasks]]\nname = "t"\n'
    more = 'arrivals = { process = "trace", at_s = [0] }\nduration = { mean_s = 1 }\n'
    rules = "rules:\n  - {name: all, action: dispatch}\n"
    candidates = (
        Candidate("warm", source=source),
        Candidate("rules", "yaml", rules),
        Candidate("broken", source="?"),
    )
    for some in (candidates[:2], candidates[2:]):
        run(Work(some, load=f"duration_s = 1\n{arms}{more}"))


def main() -> None:
    """Take the work, be bound to the limits, do it."""
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    os.nice(NICER)
    _warm_up()
    confine(LIMITS, Size())
    allow_cpu(CPU_S)
    # Next to nothing here is garbage in cycles, and what waits would be searched for it for ever.
    gc.set_threshold(20_000, 20, 50)
    sys.stdout.buffer.write(msgspec.json.encode(run(work)))


if __name__ == "__main__":
    main()
