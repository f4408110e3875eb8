"""The questions, each with the passage that answers it.

They are made by this project about its own documents and free to use for anything. With `tuning`
the ranking was tuned; `held_out` was written before anything was measured with it, and nothing is
ever tuned with it. A passage is known by its document and its words; line breaks do not count.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
HALVES: Final = ("tuning", "held_out")
CORPUS: Final = "docs"


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `passage` of `document` (a path below the repository) answers it."""

    question: str
    document: str
    passage: str

    def span_in(self, text: str) -> tuple[int, int]:
        """Give where the passage stands in the text of its document.

        Raises:
            ValueError: it is not there, or more than once.
        """
        words = r"\s+".join(map(re.escape, self.passage.split()))
        found = [match.span() for match in re.finditer(words, text)]
        if len(found) != 1:
            raise ValueError(f"{self.document} has this {len(found)} times: {self.passage!r}")
        return found[0]


def questions(half: str) -> list[Question]:
    """Read those of a half, in their order."""
    lines = Path(__file__).with_name(f"{half}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Question(**json.loads(line)) for line in lines]


def all_questions() -> list[Question]:
    """Read those of both halves."""
    return [one for half in HALVES for one in questions(half)]
