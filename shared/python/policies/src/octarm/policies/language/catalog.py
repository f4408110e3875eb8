"""The helpers that every policy can call: their sources, signatures and descriptions.

They are written in Starlark (`prelude/`), so that a call costs no crossing into Python. Their
syntax is Python's too, which is how they are read here.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

PRELUDE: Final = Path(__file__).parent / "prelude"
GROUPS: Final = {
    "actions": "Actions",
    "lookup": "Looking things up",
    "choose": "Choosing an arm",
    "tasks": "Judging and ordering tasks",
    "tenants": "Tenants and quotas",
    "instances": "Instances",
    "values": "Values, output and metrics",
    "platform": "The platform's own policy",
}


@dataclass(frozen=True, slots=True)
class Helper:
    """A function of the prelude; `signature` is how it is called, `doc` what it says of itself."""

    name: str
    group: str
    signature: str
    doc: str


@cache
def prelude() -> str:
    """Give the source of all helpers, and of what carries context and answer over the border."""
    files = [(PRELUDE / f"{name}.star").read_text() for name in (*GROUPS, "border")]
    return "\n".join([f"_PLATFORM_SOURCE = {_platform_source()!r}", *files])


@cache
def helpers() -> tuple[Helper, ...]:
    """Give every helper, in the order of the reference page."""
    found = []
    for group in GROUPS:
        tree = ast.parse((PRELUDE / f"{group}.star").read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                signature = f"{node.name}({ast.unparse(node.args)})"
                found.append(Helper(node.name, group, signature, ast.get_docstring(node) or ""))
    return tuple(found)


def _platform_source() -> str:
    """The platform's policy as a source of its own: its function under the name of the entry."""
    source = (PRELUDE / "platform.star").read_text().split("\ndef get_")[0]
    return source.replace("def platform_schedule(", "def schedule(").strip() + "\n"
