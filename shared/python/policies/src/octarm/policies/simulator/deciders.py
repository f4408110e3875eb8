"""How a policy decides in the simulator: a built-in one, or a script in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from octarm.policies.builtin import BUILTIN
from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import Context
from octarm.policies.language.evaluator import Evaluator, ScriptError
from octarm.policies.rules.compiling import compile_rules
from octarm.policies.rules.reading import RulesError
from octarm.policies.versions import Kind, digest


class BadPolicy(ValueError):
    """A policy that does not exist or does not compile; the text says why."""


class Decider(Protocol):
    """A scripted policy: the same context gives the same actions, checked by nobody yet."""

    @property
    def name(self) -> str:
        """What the results are listed under."""
        ...

    def decide(self, context: Context) -> Sequence[object]:
        """Decide once.

        Raises:
            ScriptError: the script failed.
        """
        ...


class Script:
    """A Starlark policy, or YAML rules, compiled and called in this process.

    Only for sources that one trusts: nothing bounds what a call takes. Production calls scripts
    in the sandbox.
    """

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._evaluator = Evaluator()
        self._policy = self._evaluator.compile(source)

    @property
    def name(self) -> str:
        """What the results are listed under."""
        return self._name

    def decide(self, context: Context) -> Sequence[object]:
        """Decide once."""
        text = msgspec.json.encode(context, order="deterministic").decode()
        seen = self._evaluator.context(text)
        actions: list[object] = json.loads(self._evaluator.decide(self._policy, seen))
        return actions


def decider(named: str) -> Builtin | Script:
    """Give a built-in policy by its name, or a script by the path of its file.

    Raises:
        BadPolicy: there is no such policy, or the file is no policy.
    """
    if named in BUILTIN:
        return BUILTIN[named]
    path = Path(named)
    if path.suffix not in (".star", ".yaml", ".yml"):
        names = ", ".join(sorted(BUILTIN))
        raise BadPolicy(f"no policy {named}; built in are {names}; or name a .star or .yaml file")
    try:
        source = path.read_text(encoding="utf-8")
        kind: Kind = "starlark" if path.suffix == ".star" else "yaml"
        starlark = source if kind == "starlark" else compile_rules(source).source
        return Script(f"{path.stem}@{digest(source, kind)[:8]}", starlark)
    except (OSError, UnicodeDecodeError, RulesError, ScriptError) as error:
        raise BadPolicy(f"{named}: {error}") from error
