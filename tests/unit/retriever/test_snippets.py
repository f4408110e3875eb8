"""A snippet is a real part of its text, and the part that says most about the question."""

from hypothesis import given
from hypothesis import strategies as st

from octarm.retriever.snippets import best_snippet, weights_of, words_of

TEXT = (
    "Dead letters\n\nThey stay for 30 days. The oldest give way first.\n"
    "Sending one back is called redriving; doing it twice is harmless. See below."
)


def snippet_of(question: str, text: str = TEXT, longest: int = 200) -> str:
    weights = weights_of(words_of(question), [text])
    return best_snippet(text, weights, longest=longest).text


def test_takes_the_sentence_that_has_the_words() -> None:
    assert snippet_of("Is redriving harmless?") == (
        "Sending one back is called redriving; doing it twice is harmless."
    )


def test_takes_neighbours_that_add_a_word() -> None:
    assert snippet_of("How many days, and which are the oldest?") == (
        "They stay for 30 days. The oldest give way first."
    )


def test_a_heading_is_no_answer_while_there_is_text() -> None:
    text = "## Redriving\n\nIt may be done twice."

    assert snippet_of("What about redriving?", text) == "It may be done twice."
    assert snippet_of("What about redriving?", "## Redriving") == "## Redriving"


def test_words_of_one_stem_meet() -> None:
    assert snippet_of("what about a redriven harmlessly one").startswith("Sending one back")


def test_gives_the_beginning_when_nothing_fits() -> None:
    assert snippet_of("zebra") == "Dead letters"


def test_cuts_a_long_sentence_around_the_word() -> None:
    text = f"{'word ' * 100}needle{' word' * 100}"

    snippet = snippet_of("needle", text, longest=80)

    assert "needle" in snippet
    assert len(snippet) == 80


def test_a_word_that_few_texts_have_weighs_more() -> None:
    weights = weights_of({"task", "zebra"}, ["a task", "this task", "a task and a zebra"])

    assert weights["zebra"] > weights["task"] > 0


@given(
    st.text(alphabet="ab .!?\n…”x\t", max_size=300),
    st.text(alphabet="ab x", max_size=20),
    st.integers(10, 120),
)
def test_is_always_a_real_part_of_the_text(text: str, question: str, longest: int) -> None:
    weights = weights_of(words_of(question), [text])

    snippet = best_snippet(text, weights, longest=longest)

    assert text[snippet.start : snippet.end] == snippet.text
    assert len(snippet.text) <= longest
    assert bool(snippet.text) == bool(text.strip())
    assert snippet.words <= words_of(question)


def test_a_hostile_text_is_looked_through_in_bounded_time() -> None:
    assert snippet_of("a", "a\n" * 50_000, longest=400) == "a"
    assert snippet_of("a", "." * 100_000 + "a", longest=400)
