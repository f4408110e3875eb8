"""The questions, each with the passage that answers it.

`questions.jsonl` is made by this project about its own documents and free to use for anything.
A passage is known by its document and its words; line breaks do not count.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILE: Final = Path(__file__).with_name("questions.jsonl")
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


def questions() -> list[Question]:
    """Read all of them, in their order."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return [Question(**json.loads(line)) for line in lines]
