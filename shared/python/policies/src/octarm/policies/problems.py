"""What is wrong with a source of a policy, in words that help its author."""

from typing import Final, Literal

from msgspec import Struct

# What the language says, and what its author should do about it.
_HINTS: Final = {
    "Variable `": "helpers are listed in docs/reference/policy-helpers.md",
    "Missing required parameter": "see the signature in docs/reference/policy-helpers.md",
    "Too many positional": "see the signature in docs/reference/policy-helpers.md",
    "Unexpected parameter": "see the signature in docs/reference/policy-helpers.md",
    "reserved keyword `while`": "loop over a range or a list: every loop must end",
    "reserved keyword `import`": "nothing can be imported; the helpers are there already",
    "reserved keyword": "Starlark has no such statement",
    "Immutable": "ctx and everything outside functions is read-only; keep state in local variables",
    "nothing to load": "nothing can be loaded; the helpers are there already",
    "defines no function": "begin with: def schedule(ctx):",
    "must return a list": "return a list of dispatch, wait, evict, start, reject; [] does nothing",
    "stack overflow": "recursion is bounded; use a loop",
    "has no attribute": "the fields of ctx are listed in docs/guides/policies.md",
    "timeout": "do less per task: use a plan, and helpers that take one",
    "memory": "build smaller lists and texts",
}


class Problem(Struct, frozen=True):
    """Something that the author should know; `hint` says what to do, when that is known."""

    severity: Literal["error", "warning"]
    message: str
    line: int | None = None
    hint: str = ""


class Loaded(Struct, frozen=True):
    """The digest of a source, and what is wrong with it; without an error it can be called."""

    digest: str
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it can be called."""
        return all(problem.severity != "error" for problem in self.problems)


def problem_of(line: int | None, text: str, *, certain: bool) -> Problem:
    """Make a problem of what the language said; `certain` when it must fail."""
    message = text.removeprefix("error: ").strip()
    return Problem("error" if certain else "warning", message, line, hint_for(text))


def hint_for(text: str) -> str:
    """Say what to do about a message; empty when nothing is known."""
    return next((hint for part, hint in _HINTS.items() if part in text), "")
