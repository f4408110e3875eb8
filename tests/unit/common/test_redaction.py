"""Personal data and secrets are found in their usual shapes, and nothing else is touched."""

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from octarm.common.redaction import DEFAULT_KINDS, Finding, redact, redact_json
from octarm.common.redaction.personal import IBAN_LENGTHS, passes_luhn, passes_mod_97
from octarm.models.ids import new_id

PLANTED = [
    ("alice.o+tag@mail.example.co.uk", "EMAIL"),
    ("jörg@exämple.de", "EMAIL"),
    ("4111 1111 1111 1111", "CREDIT_CARD"),
    ("4111-1111-1111-1111", "CREDIT_CARD"),
    ("5555555555554444", "CREDIT_CARD"),
    ("3782 822463 10005", "CREDIT_CARD"),
    ("6011000990139424", "CREDIT_CARD"),
    ("DE89 3704 0044 0532 0130 00", "IBAN"),
    ("GB82WEST12345698765432", "IBAN"),
    ("fr1420041010050500013m02606", "IBAN"),
    ("+49 30 901820", "PHONE"),
    ("+14155552671", "PHONE"),
    ("+1 (415) 555-2671", "PHONE"),
    ("(415) 555-2671", "PHONE"),
    ("415-555-2671", "PHONE"),
    ("030 90182000", "PHONE"),
    ("0171/1234567", "PHONE"),
    ("sk-ant-api03-abcDEF123456-ghiJKL7890", "API_KEY"),
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "API_KEY"),
    ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "API_KEY"),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnop", "API_KEY"),
    ("glpat-abcdEFGH1234ijklMNOP", "API_KEY"),
    ("xoxb-123456789012-abcdefABCDEF", "API_KEY"),
    ("AKIAIOSFODNN7EXAMPLE", "API_KEY"),
    ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "API_KEY"),
    ("hf_abcdefghijklmnopqrstuvwxyz", "API_KEY"),
    ("SG.abcdefghij1234567890.ABCDEFGHIJ1234567890", "API_KEY"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "TOKEN"),
    ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "TOKEN"),
]
NAMED = [
    ("password=hunter2", "password=<PASSWORD>"),
    ("PASSWORD: correcthorse", "PASSWORD: <PASSWORD>"),
    ('"password": "correct horse battery"', '"password": "<PASSWORD>"'),
    ('\\"api_key\\":\\"abcd1234\\"', '\\"api_key\\":\\"<PASSWORD>\\"'),
    ("export OPENAI_API_KEY=abcdefgh", "export OPENAI_API_KEY=<PASSWORD>"),
    ("dbPassword = 'swordfish'", "dbPassword = '<PASSWORD>'"),
    ("token: a1b2c3d4", "token: <PASSWORD>"),
    ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer <TOKEN>"),
    ("Authorization: Basic dXNlcjpwYXNz=", "Authorization: Basic <TOKEN>"),
    ("postgres://me:hunter2@db/x", "postgres://me:<PASSWORD>@db/x"),
    ("https://me:p@ss@host/", "https://me:<PASSWORD>@host/"),
    ("mysql --password hunter2 -u me", "mysql --password <PASSWORD> -u me"),
    ("the password is swordfish7, remember", "the password is <PASSWORD>, remember"),
]
ORDINARY = [
    "",
    "The password is required; a token: what names one. secret: see below",
    "password=$PASSWORD, --token <TOKEN>, api_key=None, token=get_token(), secret={secret}",
    '{"tokens_used": 12, "max_tokens": 4000, "a": "b: c"}',
    "at 2026-11-22 05:36:57.123456+00:00 for 1700000000 s, 1700000000123 ms, v1.22.333-4",
    "10.0.0.1:4222, ::1, 127.0.0.1",
    "scikit: sk-learn-contrib-is-a-word, Basic authentication, bearer of good news",
    "4111 1111 1111 1112 fails its check; so does GB82WEST12345698765431",
    "1234567890123456 is no card, 0000000000000000 neither; 3.4111111111111111 is a number",
    "@decorator, a@b, user@localhost, p90=12.5, +5 %, 100-200-300",
    "traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
]
HOSTILE = [
    "a" * 200_000,
    "a." * 100_000 + "@",
    "a@" * 100_000,
    "a@" + "a." * 100_000,
    "1 " * 100_000,
    "4111 " * 40_000,
    "+1 " * 60_000,
    "+" + "1" * 200_000,
    "(0" * 100_000,
    "DE89 " * 40_000,
    "eyJaaaaaaaa." * 16_000,
    "sk-" * 60_000,
    "sk-" + "a-" * 100_000,
    "SG." * 60_000 + "a" * 20_000,
    "a_" * 100_000 + "=",
    "token:" * 30_000,
    "token=" * 30_000 + "(",
    "token: '" + "token: " * 30_000,
    "password" * 24_000,
    "a://" * 50_000,
    "a://b:" + "c" * 200_000,
    "-----BEGIN PRIVATE KEY-----" * 8_000,
    "-----BEGIN PRIVATE KEY-----" + "-" * 200_000,
    "password is " * 16_000,
    "::" * 100_000,
    "1.1.1." * 32_000,
]


@pytest.mark.parametrize(("secret", "kind"), PLANTED)
def test_finds_what_has_the_shape(secret: str, kind: str) -> None:
    for before, after in (("call ", " today"), ("(", ")"), ('"', '"'), ("is: ", "."), ("", "")):
        redacted = redact(f"{before}{secret}{after}")

        assert redacted.text == f"{before}<{kind}>{after}"
        assert redacted.findings == (Finding(kind, len(before), len(before + secret)),)  # type: ignore[arg-type]


@pytest.mark.bad_input(25)
@pytest.mark.parametrize(("text", "shown"), NAMED)
def test_finds_what_a_name_gives_away_and_leaves_the_name(text: str, shown: str) -> None:
    assert redact(text).text == shown


@pytest.mark.parametrize("text", ORDINARY)
def test_leaves_ordinary_text_alone(text: str) -> None:
    assert redact(text).text == text


@pytest.mark.parametrize("text", [shown for _, shown in NAMED])
def test_what_is_redacted_stays_as_it_is(text: str) -> None:
    assert redact(text).text == text


def test_takes_a_private_key_whole() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+a/b=\nc2Vj\n-----END RSA PRIVATE KEY-----"

    assert redact(f"see {key} there").text == "see <PRIVATE_KEY> there"


def test_takes_a_private_key_that_was_cut_off() -> None:
    assert redact("-----BEGIN PRIVATE KEY-----\nMIIEvQ").text == "<PRIVATE_KEY>"


def test_a_number_after_others_is_found() -> None:
    assert redact("1234 4111 1111 1111 1111 12/29").text == "1234 <CREDIT_CARD> 12/29"
    assert redact("+49 30 901820 2026 11 22").text == "<PHONE> 11 22"
    assert redact("+49 30 9018204567 2026 11 22").text == "<PHONE> 2026 11 22"


def test_addresses_of_machines_are_found_on_request() -> None:
    redacted = redact("from 10.0.0.1 and fe80::1, at 05:36:57", kinds={"IP_ADDRESS"})

    assert redacted.text == "from <IP_ADDRESS> and <IP_ADDRESS>, at 05:36:57"


def test_what_overlaps_is_replaced_once_with_nothing_left() -> None:
    redacted = redact("https://me:alice@example.com@host.org/")

    assert redacted.text == "https://me:<PASSWORD>@host.org/"


@given(st.binary(max_size=64))
def test_digests_and_ids_survive(data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    text = f"command_hash={digest} sha256:{digest} {digest} {uuid.UUID(digest[:32])}"

    assert redact(text).text == text


def test_ids_of_the_fleet_survive() -> None:
    text = " ".join(new_id(prefix) for prefix in ("tsk", "mem", "epi") for _ in range(200))

    assert redact(text).text == text


@given(st.text(max_size=300))
def test_only_what_was_found_is_replaced(text: str) -> None:
    redacted = redact(text)

    place, pieces = 0, []
    for kind, start, end in redacted.findings:
        assert place <= start < end <= len(text)
        pieces += [text[place:start], f"<{kind}>"]
        place = end
    assert redacted.text == "".join([*pieces, text[place:]])


@given(
    st.sampled_from([secret for secret, _ in PLANTED]),
    st.text(alphabet=" \n.,;abcäあ'\"|", max_size=20),
    st.text(alphabet=" \n.,;abcäあ'\"|", max_size=20),
)
def test_nothing_planted_remains_between_words(secret: str, before: str, after: str) -> None:
    assert secret not in redact(f"{before} {secret} {after}").text


@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_hostile_text_takes_no_longer_than_its_length(place: int) -> None:
    # What backtracks takes longer than anybody waits.
    redact(HOSTILE[place], kinds={"IP_ADDRESS", *DEFAULT_KINDS})


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_exactly_one_check_digit_passes(digits: str) -> None:
    assert sum(passes_luhn(digits + check) for check in "0123456789") == 1


@given(st.sampled_from(sorted(IBAN_LENGTHS)), st.data())
def test_an_account_with_its_check_digits_is_found(country: str, data: st.DataObject) -> None:
    length = IBAN_LENGTHS[country] - 4
    account = data.draw(st.text(alphabet="0123456789", min_size=length, max_size=length))
    check = next(f"{n:02}" for n in range(2, 99) if passes_mod_97(f"{country}{n:02}{account}"))

    assert redact(f"to {country}{check}{account}.").text == "to <IBAN>."


class TestJson:
    def test_redacts_texts_at_every_depth_and_under_names_of_secrets(self) -> None:
        value: JsonValue = {
            "to": ["a@example.com", 7, None],
            "dbPassword": "swordfish",
            "n": {"token": 5},
        }

        assert redact_json(value) == (
            {"to": ["<EMAIL>", 7, None], "dbPassword": "<PASSWORD>", "n": {"token": 5}},
            ("EMAIL", "PASSWORD"),
        )

    def test_keeps_both_of_two_keys_that_become_alike(self) -> None:
        clean, found = redact_json({"a@example.com": 1, "b@example.com": 2})

        assert clean == {"<EMAIL>": 1, "<EMAIL> 2": 2}
        assert found == ("EMAIL", "EMAIL")
