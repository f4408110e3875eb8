"""Who sent the request that is being answered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.types import Scope

from octarm.models.errors import Forbidden

_KEY: Final = "octarm.caller"
IsOperator = Callable[[str], bool]


@dataclass(slots=True)
class Caller:
    """What the edge found out about a request before any route sees it."""

    correlation_id: str
    traceparent: str = ""
    tenant: str = ""

    def attach(self, scope: Scope) -> None:
        """Make it known to the routes."""
        scope[_KEY] = self


def caller_of(scope: Scope) -> Caller:
    """Give the caller that the edge attached."""
    caller: Caller = scope[_KEY]
    return caller


async def _caller(request: Request) -> Caller:
    return caller_of(request.scope)


FromCaller = Annotated[Caller, Depends(_caller)]


def must_be_operator(caller: Caller, is_operator: IsOperator, what: str) -> None:
    """Let operators pass.

    Raises:
        Forbidden: the key is another tenant's; says that `what` is for operators.
    """
    if not is_operator(caller.tenant):
        raise Forbidden(
            f"{what} for operators",
            "Name the tenant of your key in OCTARM_OPERATORS of the gateway.",
        )
