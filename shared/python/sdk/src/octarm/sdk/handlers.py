"""What may be decorated with `@arm.run`, brought to one shape."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from octarm.models.contracts import TaskContract
from octarm.sdk.context import Context

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Runnable:
    """A handler and how to call it; a threaded one blocks and is called in a thread."""

    call: Callable[[TaskContract, Context], Any]
    threaded: bool

    def start(self, task: TaskContract, context: Context) -> Awaitable[Any]:
        """Call an async handler."""
        awaitable: Awaitable[Any] = self.call(task, context)
        return awaitable


def runnable(handler: Handler) -> Runnable:
    """Check a handler: async or sync, of `(task, ctx)` or of `(task)` alone.

    Raises:
        TypeError: it is a generator, or takes something else.
    """
    target = handler if inspect.isroutine(handler) else type(handler).__call__
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError("a handler returns its output once; use ctx.emit() for pieces of it")
    threaded = not inspect.iscoroutinefunction(target)
    taken = _positional(handler)
    if taken >= 2:
        return Runnable(handler, threaded)
    if taken == 1:
        return Runnable(lambda task, _: handler(task), threaded)
    raise TypeError("a handler takes (task, ctx) or (task)")


def _positional(handler: Handler) -> int:
    """Count the positional parameters up to two; more must have defaults."""
    parameters = inspect.signature(handler).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    required = [p for p in required if p.kind is not p.VAR_KEYWORD]
    unmet = len([p for p in required if p.kind is p.KEYWORD_ONLY])
    if unmet or len(required) > 2:
        raise TypeError("a handler takes (task, ctx) or (task)")
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 2
    return min(2, len(positional))
