from hypothesis import given, settings
from hypothesis import strategies as st

from octarm.llm.truncation import fitted, whole_sentences


async def words(text: str) -> int:
    return len(text.split())


class TestFitted:
    async def test_leaves_alone_what_fits(self) -> None:
        assert await fitted("One. Two. Three", 3, words) == "One. Two. Three"

    async def test_ends_with_a_sentence(self) -> None:
        text = "This is a sentence of eight words now. " * 40

        cut = await fitted(text, 100, words)

        assert cut.endswith("words now.")
        assert 80 <= await words(cut) <= 100

    async def test_cuts_one_long_sentence_between_words(self) -> None:
        cut = await fitted("word " * 500, 50, words)

        assert 40 <= await words(cut) <= 50
        assert set(cut.split()) == {"word"}

    async def test_cuts_text_without_spaces(self) -> None:
        async def characters(text: str) -> int:
            return len(text)

        assert 90 <= len(await fitted("漢" * 1000, 100, characters)) <= 100

    async def test_of_nothing_allowed_nothing_is_left(self) -> None:
        assert await fitted("word", 0, words) == ""

    @settings(deadline=None)  # it judges the machine, not the code
    @given(st.text(max_size=300), st.integers(0, 40))
    async def test_always_fits_and_is_a_start_of_the_text(self, text: str, most: int) -> None:
        cut = await fitted(text, most, words)

        assert text.startswith(cut)
        assert await words(cut) <= most


def test_knows_where_sentences_end() -> None:
    assert whole_sentences('He said "stop!" and ran') == 'He said "stop!"'
    assert whole_sentences("これは文です。これは途") == "これは文です。"
    assert whole_sentences("A title here\n\nThen te") == "A title here"
    assert whole_sentences("Version 3.5 is ou") == "Version 3.5 is"
