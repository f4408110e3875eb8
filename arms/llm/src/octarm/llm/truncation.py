"""Cut a long text so that it fits, at the end of a sentence where there is one."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

_SENTENCE_END: Final = re.compile(r"(?:[.!?…][\"')\]»”]*(?=\s)|[。！？]|\n(?=\s*\n))")
_MARGIN: Final = 0.97


async def fitted(text: str, max_tokens: int, count_tokens: Callable[[str], Awaitable[int]]) -> str:
    """Return the longest start of `text`, whole sentences, of at most `max_tokens` tokens.

    It may fall a few per cent short: the count is asked for a handful of times, not for each cut.
    """
    cut = text
    while (tokens := await count_tokens(cut)) > max_tokens:
        if max_tokens <= 0:
            return ""
        keep = int(len(cut) * min(max_tokens / tokens, 1) * _MARGIN)
        cut = whole_sentences(cut[:keep])
    return cut


def whole_sentences(text: str) -> str:
    """Drop the broken sentence at the end; of one long sentence, the broken word."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text, len(text) // 2)]
    if ends:
        return text[: ends[-1]].rstrip()
    space = text.rfind(" ", len(text) // 2)
    return text[:space] if space > 0 else text
