"""Which headers are believed."""

import pytest

from octarm.gateway.domain import headers
from octarm.models.errors import InvalidRequest


class TestCorrelationId:
    @pytest.mark.parametrize("text", ["a", "A-1", "x" * 64])
    def test_takes_one_that_matches(self, text: str) -> None:
        assert headers.correlation_id([text]) == text

    @pytest.mark.parametrize(
        "values", [[], [""], ["x" * 65], ["a b"], ["a\n"], ["a_b"], ["é"], ["a", "b"]]
    )
    def test_takes_nothing_else(self, values: list[str]) -> None:
        assert headers.correlation_id(values) is None


class TestIdempotencyKey:
    def test_is_absent_when_the_header_is(self) -> None:
        assert headers.idempotency_key([]) is None

    @pytest.mark.parametrize("key", ["k", "order 17/b", "~" * 128])
    def test_takes_printable_ascii(self, key: str) -> None:
        assert headers.idempotency_key([key]) == key

    @pytest.mark.parametrize(
        "values", [[""], ["   "], ["x" * 129], ["a\x00"], ["a\tb"], ["schlüssel"], ["a", "a"]]
    )
    def test_refuses_everything_else_by_name(self, values: list[str]) -> None:
        with pytest.raises(InvalidRequest) as refused:
            headers.idempotency_key(values)

        assert refused.value.code == "INVALID_PARAMETER"
        assert refused.value.errors is not None
        assert refused.value.errors[0].field == "Idempotency-Key"


class TestLastEventId:
    @pytest.mark.parametrize(
        ("values", "seq"), [([], 0), ([""], 0), ([" 7 "], 7), (["1", "2"], 2), (["0"], 0)]
    )
    def test_is_a_stream_sequence(self, values: list[str], seq: int) -> None:
        assert headers.last_event_id(values) == seq

    @pytest.mark.parametrize("text", ["-1", "x", "1.0", "9" * 19, "9" * 400, "٣"])
    def test_refuses_what_we_never_gave(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="Last-Event-ID"):
            headers.last_event_id([text])


class TestCredential:
    @pytest.mark.parametrize("value", ["Bearer key-1", "bearer   key-1 ", "BEARER key-1"])
    def test_reads_a_bearer_token(self, value: str) -> None:
        assert headers.credential([value], []) == "key-1"

    def test_reads_an_api_key(self) -> None:
        assert headers.credential([], ["key-1"]) == "key-1"

    def test_prefers_the_bearer_token(self) -> None:
        assert headers.credential(["Bearer one"], ["two"]) == "one"

    @pytest.mark.parametrize(
        ("authorization", "api_key"),
        [
            ([], []),
            (["Basic abc"], ["key-1"]),
            (["Bearer"], []),
            (["Bearer a"] * 2, []),
            ([], ["a"] * 2),
        ],
    )
    def test_is_absent_when_in_doubt(self, authorization: list[str], api_key: list[str]) -> None:
        assert headers.credential(authorization, api_key) is None
