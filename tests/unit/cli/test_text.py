"""What others wrote cannot command the terminal."""

import json

import pytest

from octarm.cli.text import clean, shorten, to_json

HOSTILE = "a\x1b[31mred\x07 \u202eevil\u202c zero\u200bwidth \x9b2J \r\n\t\x7f"


class TestClean:
    def test_leaves_ordinary_text_of_any_script_alone(self) -> None:
        assert clean("Grüße, 世界! Ελλάδα 🐙") == "Grüße, 世界! Ελλάδα 🐙"

    @pytest.mark.bad_input(20)
    def test_shows_escape_sequences_and_direction_marks(self) -> None:
        shown = clean(HOSTILE)

        assert "\\x1b[31m" in shown
        assert "\\u202e" in shown
        assert "\\u200b" in shown
        assert "\\x9b2J" in shown
        assert shown.endswith("\\r\\n\\t\\x7f")
        assert shown.isprintable()

    def test_keeps_line_breaks_when_asked_but_no_carriage_return(self) -> None:
        assert clean("one\ntwo\r\tthree\x00", lines=True) == "one\ntwo\\r\tthree\\x00"

    def test_survives_half_a_surrogate_pair_and_astral_characters(self) -> None:
        assert clean("\ud800 \U000e0041") == "\\ud800 \\U000e0041"


class TestToJson:
    @pytest.mark.parametrize("text", [HOSTILE, "\U000e0041", "世界", '"\\'])
    def test_is_the_same_value_and_holds_nothing_unsafe(self, text: str) -> None:
        encoded = to_json({"text": text})

        assert json.loads(encoded) == {"text": text}
        assert encoded.isprintable()


def test_shorten_gives_one_line_of_bounded_width() -> None:
    assert shorten("a\nb   c", 10) == "a b c"
    assert shorten("x" * 20, 5) == "xxxx…"
