"""Look through the dead letters, send them back, throw them away."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from octarm.common.bus.dead_letter_box import Handled, StoredLetter, Wanted
from octarm.common.bus.letters import payload_of, redriven
from octarm.common.redaction import redact, redact_json
from octarm.gateway.documents import (
    LetterFailure,
    LetterFilter,
    LetterPage,
    LetterSelection,
    LettersFound,
    LettersHandled,
    LetterView,
    LetterWhole,
)
from octarm.gateway.usecases.ports import Letters
from octarm.models.errors import NotFound

MAX_TEXT_BYTES: Final = 64 * 1024
MAX_COUNTED: Final = 20_000
_SAME: Final = (
    "origin",
    "stream_seq",
    "published_at",
    "deliveries",
    "redrives",
    "tenant",
    "task_id",
    "attempt",
    "size_bytes",
)
Act = Callable[[Sequence[int]], Awaitable[list[Handled]]]


@dataclass(frozen=True, slots=True)
class DeadLetterDesk:
    """What an operator may do with dead letters."""

    letters: Letters

    async def page(self, wish: LetterPage) -> LettersFound:
        """List a page, oldest first."""
        until = await self._until(wish)
        found, more = await self._select(wish, until, wish.limit)
        return LettersFound(
            letters=[view_of(stored) for stored in found],
            after=found[-1].seq if more else until,
            until=until,
            more=more,
        )

    async def show(self, seq: int) -> LetterWhole:
        """Show one with its payload.

        Raises:
            NotFound: there is none of this sequence (any more).
        """
        stored = await self.letters.get(seq)
        if stored is None:
            raise NotFound(
                f"there is no dead letter {seq}",
                "List them: it may have been redriven, dropped, or be older than 30 days.",
                "DEAD_LETTER_NOT_FOUND",
            )
        payload = payload_of(stored.letter, stored.body)
        refusal = redriven(stored.letter, stored.body)
        headers, _ = redact_json(dict(stored.letter.headers))
        return LetterWhole(
            **_fields(stored),
            headers=headers,
            payload=None if payload is None else _text(payload[:MAX_TEXT_BYTES]),
            not_redrivable_because=refusal if isinstance(refusal, str) else "",
        )

    async def redrive(self, wish: LetterSelection) -> LettersHandled:
        """Send letters back to where they were read; twice is once."""
        return await self._handle(wish, self.letters.redrive)

    async def drop(self, wish: LetterSelection) -> LettersHandled:
        """Throw letters away for good."""
        return await self._handle(wish, self.letters.drop)

    async def _handle(self, wish: LetterSelection, act: Act) -> LettersHandled:
        until = await self._until(wish)
        seqs, more = list(dict.fromkeys(wish.seqs or ())), False
        if wish.seqs is None:
            limit = MAX_COUNTED if wish.dry_run else wish.limit
            found, more = await self._select(wish, until, limit)
            seqs = [stored.seq for stored in found]
        handled = [] if wish.dry_run else await act(seqs)
        count = [item.outcome for item in handled].count
        return LettersHandled(
            matched=len(seqs),
            done=count("done"),
            gone=count("gone"),
            failed=[
                LetterFailure(seq=item.seq, reason=item.reason)
                for item in handled
                if item.outcome == "failed"
            ],
            after=seqs[-1] if more else until,
            until=until,
            more=more,
        )

    async def _until(self, wish: LetterFilter) -> int:
        return await self.letters.last_seq() if wish.until is None else wish.until

    async def _select(
        self, wish: LetterFilter, until: int, limit: int
    ) -> tuple[list[StoredLetter], bool]:
        """Give up to `limit` wanted letters, and whether there are more."""
        wanted = Wanted(wish.origin, wish.reason, wish.tenant, wish.since)
        found: list[StoredLetter] = []
        async with aclosing(self.letters.find(wanted, after=wish.after, until=until)) as letters:
            async for stored in letters:
                if len(found) == limit:
                    return found, True
                found.append(stored)
        return found, False


def view_of(stored: StoredLetter) -> LetterView:
    """Show a letter without what looks like a secret."""
    return LetterView(**_fields(stored))


def _fields(stored: StoredLetter) -> dict[str, Any]:
    letter = stored.letter
    return {name: getattr(letter, name) for name in _SAME} | {
        "seq": stored.seq,
        "buried_at": stored.buried_at,
        "reason": redact(letter.reason).text,
        "subject": redact(letter.subject).text,
        "msg_id": redact(letter.msg_id).text,
        "first_bytes": _text(_decoded(letter.first_bytes)),
        "redrivable": letter.kept != "cut",
    }


def _decoded(base64_text: str) -> bytes:
    try:
        return base64.b64decode(base64_text)
    except ValueError:
        return b""


def _text(body: bytes) -> str:
    return redact(body.decode("utf-8", "replace")).text
