"""Compile policies and call them, in this process and with its limits on steps only.

Nothing here bounds memory, or time spent inside one operation: hostile sources belong into the
sandbox, which calls this in a process of its own.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import starlark

from octarm.policies.language.catalog import helpers, prelude

ENTRY: Final = "schedule"
FILE: Final = "policy.star"
_LINE: Final = re.compile(rf"{re.escape(FILE)}:(\d+)")
# The frames that lead to the entry of every policy: where they stand, and their text.
_OURS: Final = re.compile(r"  \* (?:call:\d+, in <module>|octarm:\d+, in octarm_answer)\n.*\n")
_DEFINES: Final = re.compile(r"^(?:def\s+(\w+)|(\w+)\s*=(?!=))", re.MULTILINE)
_CERTAIN: Final = ("parameter", "positional", "not found", "has no attribute")
# The two functions that are Python's, for the type checker.
_SINKS: Final = "def _keep(level, text):\n    pass\ndef _measure(name, value):\n    pass"

Cancelled = Callable[[], bool]


class ScriptError(Exception):
    """The script is wrong or went wrong; the text is its traceback, `line` its own line."""

    def __init__(self, text: str) -> None:
        text = _OURS.sub("", text)
        super().__init__(text)
        lines = _LINE.findall(text)
        self.line = int(lines[-1]) if lines else None


@dataclass(frozen=True, slots=True)
class Finding:
    """What the type checker found; `certain` when the call must fail."""

    line: int | None
    message: str
    certain: bool


@dataclass(slots=True)
class Output:
    """What a call has said, within bounds; what passes them is only counted."""

    max_bytes: int = 16_384
    max_lines: int = 200
    max_metrics: int = 64
    lines: list[str] = field(default_factory=list)
    metrics: list[tuple[str, float]] = field(default_factory=list)
    dropped: int = 0
    size: int = 0

    def keep(self, level: str, text: str) -> None:
        """Keep a line, cut to what is left of the bytes."""
        left = self.max_bytes - self.size
        if len(self.lines) >= self.max_lines or left <= 0:
            self.dropped += 1
            return
        line = text[:left] if level == "print" else f"{level}: {text[:left]}"
        self.lines.append(line)
        self.size += len(line)

    def measure(self, name: str, value: float | None) -> None:
        """Keep a number; infinity and what is no number cross the border as None."""
        if value is None or len(self.metrics) >= self.max_metrics:
            self.dropped += 1
        else:
            self.metrics.append((name[:64], value))


class Evaluator:
    """Compiled policies by digest, and the helpers that they share."""

    def __init__(self, *, max_depth: int = 100, max_print_bytes: int = 16_384) -> None:
        self._max_print_bytes = max_print_bytes
        self.output = Output(max_print_bytes)
        self._max_depth = max_depth
        self._dialect = _dialect()
        self._globals = _globals()
        self._interface: starlark.Interface | None = None
        self._modules: dict[str, starlark.FrozenModule] = {}
        self._modules["octarm"] = self._evaluate_prelude()
        self._context = self._parse(
            'load("octarm", "octarm_context")\nCONTEXT = octarm_context(TEXT)', "context"
        )
        self._call = self._parse(
            f'load("octarm", "octarm_answer")\nload("policy", "{ENTRY}")\n'
            f'load("context", "CONTEXT")\noctarm_answer({ENTRY}, CONTEXT)',
            "call",
        )

    def compile(
        self, source: str, *, cancelled: Cancelled = lambda: False
    ) -> starlark.FrozenModule:
        """Compile a policy and run its top level once.

        Raises:
            ScriptError: it is no Starlark, its top level fails, or it defines no `schedule`.
        """
        self.output = Output(self._max_print_bytes)
        module = starlark.Module()
        self._evaluate(module, self._parse(_load(helper.name for helper in helpers()), "load"))
        self._evaluate(module, self._parse(source, FILE), cancelled=cancelled)
        frozen = module.freeze()
        probe = self._parse(f'load("policy", "{ENTRY}")\ntype({ENTRY})', "probe")
        try:
            kind = self._evaluate(starlark.Module(), probe, policy=frozen)
        except ScriptError:
            kind = None
        if kind != "function":
            raise ScriptError(f"error: the policy defines no function `{ENTRY}(ctx)`")
        return frozen

    def context(self, text: str) -> starlark.FrozenModule:
        """Make a context (JSON) what policies see: Starlark values that nobody can change."""
        module = starlark.Module()
        module["TEXT"] = text
        self._evaluate(module, self._context)
        return module.freeze()

    def decide(
        self,
        policy: starlark.FrozenModule,
        context: starlark.FrozenModule,
        *,
        cancelled: Cancelled = lambda: False,
    ) -> str:
        """Call a policy with a context and give its actions (JSON).

        What it says is in `output` afterwards, also when it fails.

        Raises:
            ScriptError: the policy failed, was cancelled, or gave no list.
        """
        self.output = Output(self._max_print_bytes)
        answer = self._evaluate(
            starlark.Module(), self._call, cancelled=cancelled, policy=policy, context=context
        )
        return str(answer)

    def findings(self, source: str) -> list[Finding]:
        """Check names, arity and types of calls without running anything.

        Raises:
            ScriptError: it is no Starlark.
        """
        if self._interface is None:
            tree = self._parse(f"{_SINKS}\n{prelude()}", "octarm")
            _, self._interface, _ = tree.typecheck(self._globals, {})
        own = {name for pair in _DEFINES.findall(source) for name in pair}
        names = [helper.name for helper in helpers() if helper.name not in own]
        self._parse(source, FILE)
        checked = self._parse(f"{_load(names)}\n{source}", FILE)
        errors, _, _ = checked.typecheck(self._globals, {"octarm": self._interface})
        return [_finding(error) for error in errors]

    def _parse(self, source: str, name: str) -> starlark.AstModule:
        try:
            return starlark.parse(name, source, self._dialect)
        except starlark.StarlarkError as error:
            raise ScriptError(str(error)) from None

    def _evaluate(
        self,
        module: starlark.Module,
        tree: starlark.AstModule,
        *,
        cancelled: Cancelled = lambda: False,
        **modules: starlark.FrozenModule,
    ) -> object:
        known = {**self._modules, **modules}

        def load(name: str) -> starlark.FrozenModule:
            if name not in known:
                raise ScriptError(f"error: there is nothing to load as `{name}`")
            return known[name]

        options = starlark.EvalOptions(
            check_cancelled=cancelled, max_callstack_size=self._max_depth
        )
        loader = starlark.FileLoader(load)
        try:
            return starlark.eval_with(options, module, tree, self._globals, loader).value
        except starlark.StarlarkError as error:
            raise ScriptError(str(error)) from None

    def _keep(self, level: str, text: str) -> None:
        self.output.keep(level, text)

    def _measure(self, name: str, value: float | None) -> None:
        self.output.measure(name, value)

    def _evaluate_prelude(self) -> starlark.FrozenModule:
        module = starlark.Module()
        module.add_callable("_keep", self._keep)
        module.add_callable("_measure", self._measure)
        self._evaluate(module, self._parse(prelude(), "octarm"))
        return module.freeze()


def _load(names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f'load("octarm", {quoted})'


def _finding(error: starlark.Error) -> Finding:
    text = str(error)
    message = text.split("\n", 1)[0].removeprefix("error: ")
    # One line was put before the source; the checker counts from zero.
    line = error.span.span.begin.line if error.span else None
    return Finding(line or None, message, any(word in message for word in _CERTAIN))


def _dialect() -> starlark.Dialect:
    dialect = starlark.Dialect.extended()
    dialect.enable_f_strings = True
    return dialect


def _globals() -> starlark.Globals:
    extension = starlark.LibraryExtension
    return starlark.Globals.extended_by(
        [
            extension.StructType,
            extension.Json,
            extension.Map,
            extension.Filter,
            extension.Partial,
        ]
    )
