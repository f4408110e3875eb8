"""Scripted policies for a host: load a source, ask for decisions, never suffer from either."""

import time
from typing import Final

import msgspec

from octarm.policies.context import Context
from octarm.policies.outcomes import Decided, PolicyFailed, Reason
from octarm.policies.problems import Loaded, Problem, problem_of
from octarm.policies.rules.compiling import Script, compile_rules
from octarm.policies.rules.reading import RulesError
from octarm.policies.sandbox import frames
from octarm.policies.sandbox.limits import Limits
from octarm.policies.sandbox.pool import Pool
from octarm.policies.sandbox.process import ChildProcess, Died
from octarm.policies.versions import Kind, digest

_CONTEXTS: Final = msgspec.json.Encoder(order="deterministic")
# Some three times what a byte of context takes to be made Starlark values.
_S_PER_BYTE: Final = 2e-7
_ACTIONS: Final = msgspec.json.Decoder(list[object])


class Engine:
    """The policies that were loaded, and the child processes that run them.

    Any number of calls may run at once; each takes one child. A child that dies costs the call
    that it died in. Use as a context manager.
    """

    def __init__(self, limits: Limits | None = None, *, children: int = 2) -> None:
        self.limits = limits or Limits()
        self._pool = Pool(self.limits, children)
        self._scripts: dict[str, Script] = {}
        self._call_s = (self.limits.call_ms + self.limits.grace_ms) / 1000
        self._load_s = (self.limits.load_ms + self.limits.grace_ms) / 1000

    async def __aenter__(self) -> "Engine":
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    @property
    def pids(self) -> list[int]:
        """The process ids of the children."""
        return self._pool.pids

    @property
    def policies(self) -> frozenset[str]:
        """The digests of the policies that can be called."""
        return frozenset(self._scripts)

    async def load(self, source: str, kind: Kind = "starlark") -> Loaded:
        """Compile a source and keep it under its digest; the same source again is the same.

        A source with a problem of severity `error` is not kept.
        """
        name = digest(source, kind)
        script = self._script(source, kind)
        if isinstance(script, Problem):
            return Loaded(name, (script,))

        async def compiled(child: ChildProcess) -> list[frames.Answer]:
            found = await child.ask(frames.Check(script.source), within_s=self._load_s)
            return [found, await child.load(name, script.source, within_s=self._load_s)]

        try:
            answers = await self._pool.use(compiled, within_s=self._load_s)
        except Died as died:
            return Loaded(name, (problem_of(None, f"{died.reason}: {died}", certain=True),))
        problems = _problems(answers, script)
        loaded = Loaded(name, problems)
        if loaded.ok:
            self._scripts[name] = script
        return loaded

    def forget(self, policy: str) -> None:
        """Forget the policy of that digest; again is the same."""
        self._scripts.pop(policy, None)

    async def decide(self, policy: str, context: Context) -> Decided | PolicyFailed:
        """Call the loaded policy of that digest once with the whole context.

        Raises:
            KeyError: nothing was loaded under that digest.
        """
        script = self._scripts[policy]
        started = time.perf_counter()
        text = _CONTEXTS.encode(context).decode()
        within_s = self._call_s + len(text) * _S_PER_BYTE

        async def called(child: ChildProcess) -> frames.Answer:
            loaded = await child.load(policy, script.source, within_s=self._load_s)
            if isinstance(loaded, frames.Failed):
                return loaded
            return await child.ask(frames.Decide(policy, text), within_s=within_s)

        try:
            answer = await self._pool.use(called, within_s=self._call_s)
        except Died as died:
            return PolicyFailed(_reason(died.reason), str(died))
        return _read(answer, script, (time.perf_counter() - started) * 1000)

    def _script(self, source: str, kind: Kind) -> Script | Problem:
        try:
            size, most = len(source.encode()), self.limits.max_source_bytes
        except UnicodeEncodeError as error:
            return Problem("error", f"no text: {error.reason}")
        if size > most:
            return Problem("error", f"{size} bytes of source; at most {most} are taken")
        if kind == "starlark":
            return Script(source)
        try:
            return compile_rules(source)
        except RulesError as error:
            return Problem("error", str(error), error.line, error.hint)


def _read(answer: frames.Answer, script: Script, took_ms: float) -> Decided | PolicyFailed:
    if isinstance(answer, frames.Failed):
        line = script.origin(answer.line)
        return PolicyFailed(_reason(answer.reason), answer.text, line, answer.lines)
    if not isinstance(answer, frames.Returned):
        return PolicyFailed("crash", f"the child answered {type(answer).__name__}")
    try:
        actions = tuple(_ACTIONS.decode(answer.actions))
    except (msgspec.DecodeError, RecursionError) as error:
        return PolicyFailed("bad_return", str(error), printed=answer.lines)
    return Decided(
        actions,
        took_ms,
        cpu_ms=answer.cpu_ms,
        printed=answer.lines,
        metrics=answer.metrics,
        output_dropped=answer.dropped,
    )


def _problems(answers: list[frames.Answer], script: Script) -> tuple[Problem, ...]:
    """What was found, each problem once: compiling says again what checking said before."""
    found: dict[tuple[int | None, bool], Problem] = {}
    for answer in answers:
        if isinstance(answer, frames.Found):
            for line, message, certain in answer.findings:
                problem = problem_of(script.origin(line), message, certain=certain)
                found.setdefault((problem.line, certain), problem)
        elif isinstance(answer, frames.Failed):
            problem = problem_of(script.origin(answer.line), answer.text, certain=True)
            found.setdefault((problem.line, True), problem)
    return tuple(found.values())


def _reason(text: str) -> Reason:
    reason: Reason = msgspec.convert(text, Reason)
    return reason
