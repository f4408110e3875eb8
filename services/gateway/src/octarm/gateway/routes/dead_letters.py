"""Dead letters: for operators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from octarm.gateway.documents import (
    LetterPage,
    LetterSelection,
    LettersFound,
    LettersHandled,
    LetterWhole,
)
from octarm.gateway.routes import openapi
from octarm.gateway.routes.bodies import read_as, read_body, read_object
from octarm.gateway.routes.caller import FromCaller, IsOperator, must_be_operator
from octarm.gateway.usecases.dead_letters import DeadLetterDesk
from octarm.models.scalars import MAX_INT

Seq = Annotated[int, Path(ge=1, le=MAX_INT, description="The letter's sequence")]


def dead_letter_routes(desk: DeadLetterDesk, is_operator: IsOperator) -> APIRouter:
    """The routes of dead letters; they hold every tenant's data, so only operators pass."""

    async def operators_only(caller: FromCaller) -> None:
        must_be_operator(caller, is_operator, "dead letters are")

    router = APIRouter(prefix="/v1/dlq", tags=["dlq"], dependencies=[Depends(operators_only)])

    @router.get("", responses=openapi.OPERATORS_ONLY)
    async def list_dead_letters(only: Annotated[LetterPage, Query()]) -> LettersFound:
        """List dead letters, oldest first."""
        return await desk.page(only)

    @router.get("/{seq}", responses=openapi.OPERATORS_ONLY)
    async def get_dead_letter(seq: Seq) -> LetterWhole:
        """Show a dead letter with its payload; what looks like a secret is left out."""
        return await desk.show(seq)

    @router.post("/redrive", responses=openapi.OPERATORS_ONLY, openapi_extra=openapi.LETTERS)
    async def redrive_dead_letters(request: Request) -> LettersHandled:
        """Send up to 500 letters back to where they came from; doing it twice is doing it once.

        While `more` is true, ask again with `after` and `until` of the answer.
        """
        return await desk.redrive(await _selection(request))

    @router.post("/drop", responses=openapi.OPERATORS_ONLY, openapi_extra=openapi.LETTERS)
    async def drop_dead_letters(request: Request) -> LettersHandled:
        """Throw up to 500 letters away for good; see redrive for more than that."""
        return await desk.drop(await _selection(request))

    return router


async def _selection(request: Request) -> LetterSelection:
    return read_as(LetterSelection, read_object(await read_body(request)))
