"""Pieces of a document are real parts of it, of bounded size, and nothing is left out."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octarm.cli.ingest.chunking import Chunk, chunks_of
from octarm.cli.ingest.document import Document, Heading
from octarm.cli.ingest.markdown import headings_of

WORDS = "The quick brown fox jumps over the lazy dog. It was not amused! Was it? "
_texts = st.lists(
    st.sampled_from(
        [
            *("word ", "Sentence. ", "end!\n", "\n\n", "\n", "# Head\n", "## Sub\n", "- item\n"),
            *("```\n", "| a | b |\n", "x" * 90, "\t", "あい。", "…", "  ", "1) one\n", "\u2028"),
        ]
    ),
    max_size=120,
).map("".join)


def a_document(text: str) -> Document:
    return Document("a.md", text, "0" * 64, headings_of(text))


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


@settings(max_examples=200)
@given(_texts, st.integers(80, 400), st.integers(0, 20))
def test_pieces_cover_all_that_is_not_white_space(text: str, size: int, overlap: int) -> None:
    chunks = chunks_of(a_document(text), size=size, overlap=overlap)

    covered = [False] * len(text)
    for number, chunk in enumerate(chunks):
        assert chunk.number == number
        assert chunk.text == text[chunk.start : chunk.end]
        assert 0 < len(chunk.text) <= size
        covered[chunk.start : chunk.end] = [True] * len(chunk.text)
    assert all(seen or text[place].isspace() for place, seen in enumerate(covered))
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(set(starts))
    repeated = [before.end - after.start for before, after in itertools.pairwise(chunks)]
    assert all(length <= overlap for length in repeated)


@given(_texts)
def test_the_same_document_gives_the_same_pieces(text: str) -> None:
    assert chunks_of(a_document(text)) == chunks_of(a_document(text))


def test_a_short_document_is_one_piece() -> None:
    chunks = chunks_of(a_document("  # Title\n\nOne paragraph.\n\n"))

    assert texts(chunks) == ["# Title\n\nOne paragraph."]
    assert chunks[0].headings == ("Title",)


def test_cuts_before_a_heading_when_there_is_enough_above() -> None:
    chunks = chunks_of(a_document(f"# A\n\n{WORDS * 5}\n\n## B\n\n{WORDS * 5}"), size=800)

    assert [chunk.text[:6] for chunk in chunks] == ["# A\n\nT", "## B\n\n"]
    assert [chunk.headings for chunk in chunks] == [("A",), ("A", "B")]


def test_puts_small_sections_together() -> None:
    text = "# A\n\none\n\n## B\n\ntwo\n\n## C\n\nthree"

    assert texts(chunks_of(a_document(text), size=400)) == [text]


def test_prefers_the_end_of_a_paragraph() -> None:
    first, second = (WORDS * 3).strip(), (WORDS * 3).strip()

    chunks = chunks_of(a_document(f"{first}\n\n{second}"), size=300, overlap=0)

    assert texts(chunks) == [first, second]


def test_a_piece_begins_with_the_last_sentences_of_the_one_before() -> None:
    chunks = chunks_of(a_document(WORDS * 20), size=400, overlap=80)

    for before, after in itertools.pairwise(chunks):
        assert 0 < before.end - after.start <= 80
        assert after.text.startswith(("The quick", "It was", "Was it?"))


def test_nothing_is_repeated_across_a_heading() -> None:
    chunks = chunks_of(a_document(f"# A\n\n{WORDS * 5}\n\n# B\n\n{WORDS * 5}"), size=500)

    assert next(chunk.text[:3] for chunk in chunks if chunk.headings == ("B",)) == "# B"
    assert not any("# B" in chunk.text for chunk in chunks if chunk.headings == ("A",))


def test_code_is_cut_between_its_lines_only() -> None:
    line = "print('one. two. three.')\n"

    chunks = chunks_of(a_document(f"```python\n{line * 30}\n{line * 30}```\n"), size=300, overlap=0)

    assert len(chunks) > 3
    assert {part for text in texts(chunks) for part in text.splitlines() if part} == {
        *("```python", line.strip(), "```")
    }


def test_what_has_no_place_to_cut_is_cut_all_the_same() -> None:
    chunks = chunks_of(a_document("x" * 1000), size=100, overlap=0)

    assert "".join(texts(chunks)) == "x" * 1000


def test_headings_of_many_sections_are_found_in_one_pass() -> None:
    text = "".join(f"# H{n}\n\nText number {n}.\n\n" for n in range(20_000))

    chunks = chunks_of(a_document(text), size=100, overlap=0)

    assert all(chunk.text.startswith(f"# {chunk.headings[-1]}\n") for chunk in chunks)


def test_pages_are_known() -> None:
    page = WORDS * 3
    document = Document("a.pdf", f"{page}\n\n{page}", "0" * 64, pages=(0, len(page) + 2))

    chunks = chunks_of(document, size=300, overlap=0)

    assert [chunk.page for chunk in chunks] == [1, 2]


@pytest.mark.parametrize(("size", "overlap"), [(79, 0), (100, 26), (100, -1)])
def test_refuses_sizes_that_make_no_sense(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="size must be"):
        chunks_of(a_document("text"), size=size, overlap=overlap)


class TestMarkdown:
    def test_finds_headings_outside_of_code(self) -> None:
        text = (
            "# One `x` #\n\n```\n# no\n```\n\nTwo\n===\n\n###\n\n"
            "A [link](x.md)\n---\n- a\n---\n#no\n"
        )

        assert [(one.level, one.title) for one in headings_of(text)] == [
            *((1, "One x"), (1, "Two"), (3, ""), (2, "A link"))
        ]

    def test_knows_where_they_begin(self) -> None:
        text = "intro\n\n## Sub\r\ntext\n\nUnder\n-----\n"

        assert headings_of(text) == (
            Heading(7, 2, "Sub"),
            Heading(text.index("Under"), 2, "Under"),
        )
