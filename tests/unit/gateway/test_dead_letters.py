"""Dead letters over HTTP: who may see them, what is shown, what is done."""

import json
from typing import Any

import httpx
import pytest

from octarm.gateway.domain.tenants import Tenants
from tests.support.fleet import FakeFleet
from tests.support.gateway import a_client
from tests.support.letters import FakeLetters, a_stored_letter

KEYS = Tenants({"operator-key": "ops", "acme-key-1": "acme"})


def _box(count: int = 3) -> FakeFleet:
    reasons = ("not a submission", "the handler failed six times")
    letters = [a_stored_letter(seq=seq, reason=reasons[seq % 2]) for seq in range(1, count + 1)]
    return FakeFleet(letters=FakeLetters(*letters))


async def _post(client: httpx.AsyncClient, path: str, body: Any) -> tuple[int, Any]:
    response = await client.post(f"/v1/dlq/{path}", json=body)
    return response.status_code, response.json()


class TestWhoMay:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/dlq"),
            ("GET", "/v1/dlq/1"),
            ("POST", "/v1/dlq/redrive"),
            ("POST", "/v1/dlq/drop"),
        ],
    )
    async def test_only_an_operator(self, method: str, path: str) -> None:
        fake = _box()
        async with a_client(fake, tenants=KEYS, operators=frozenset({"ops"})) as client:
            answers = [
                await client.request(method, path, headers=headers, json={"all": True})
                for headers in ({"X-API-Key": "acme-key-1"}, {}, {"X-API-Key": "operator-key"})
            ]

        assert [answer.status_code for answer in answers] == [403, 401, 200]
        assert answers[0].json()["code"] == "FORBIDDEN"
        assert "OCTARM_OPERATORS" in answers[0].json()["recovery_hint"]

    async def test_everybody_where_there_are_no_keys(self) -> None:
        async with a_client(_box()) as client:
            assert (await client.get("/v1/dlq")).status_code == 200


class TestLooking:
    @pytest.mark.parametrize("origin", ["*", ">", "a.b", "a b", "a\r\n", "\0", "x" * 65])
    async def test_takes_only_a_plain_word_for_an_origin(self, origin: str) -> None:
        async with a_client(_box()) as client:
            answer = await client.get("/v1/dlq", params={"origin": origin})

        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "query.origin")

    async def test_lists_oldest_first_page_by_page(self) -> None:
        async with a_client(_box(5)) as client:
            first = (await client.get("/v1/dlq", params={"limit": 3})).json()
            place = {"after": first["after"], "until": first["until"]}
            rest = (await client.get("/v1/dlq", params=place)).json()

        assert [one["seq"] for one in first["letters"] + rest["letters"]] == [1, 2, 3, 4, 5]
        assert (first["more"], rest["more"]) == (True, False)

    @pytest.mark.parametrize(
        ("query", "seqs"),
        [
            ({"reason": "SIX times"}, [1, 3]),
            ({"origin": "memory-remember-task"}, []),
            ({"tenant": "acme"}, [1, 2, 3]),
            ({"tenant": "other"}, []),
            ({"since": "2026-11-21T12:02:00Z"}, [2, 3]),
        ],
    )
    async def test_filters(self, query: dict[str, str], seqs: list[int]) -> None:
        async with a_client(_box()) as client:
            found = (await client.get("/v1/dlq", params=query)).json()

        assert [one["seq"] for one in found["letters"]] == seqs

    @pytest.mark.bad_input(25)
    async def test_shows_one_without_its_secrets(self) -> None:
        body = b'{"goal": "x", "api_key": "abcd-1234-efgh"} \xff'
        secret = "Bearer abcdefghijkl"
        stored = a_stored_letter(body, headers={"Nats-Msg-Id": "m", "authorization": secret})
        async with a_client(FakeFleet(letters=FakeLetters(stored))) as client:
            shown = (await client.get("/v1/dlq/1")).json()
            listed = (await client.get("/v1/dlq")).text

        assert shown["payload"] == '{"goal": "x", "api_key": "<PASSWORD>"} \ufffd'
        assert shown["headers"]["authorization"] == "<PASSWORD>"
        assert (shown["redrivable"], shown["not_redrivable_because"]) == (True, "")
        assert "abcd-1234" not in listed

    async def test_says_why_one_cannot_go_back(self) -> None:
        cut = a_stored_letter(b"ab", max_payload=0)
        async with a_client(FakeFleet(letters=FakeLetters(cut))) as client:
            shown = (await client.get("/v1/dlq/1")).json()

        assert shown["payload"] is None
        assert shown["first_bytes"] == "ab"
        assert shown["not_redrivable_because"].startswith("its payload")

    async def test_knows_no_other(self) -> None:
        async with a_client(_box()) as client:
            missing = await client.get("/v1/dlq/9")
            nonsense = await client.get("/v1/dlq/x")

        assert (missing.status_code, missing.json()["code"]) == (404, "DEAD_LETTER_NOT_FOUND")
        assert nonsense.status_code == 422


class TestActing:
    async def test_redrives_by_sequence_and_says_what_was_gone(self) -> None:
        fake = _box()
        async with a_client(fake) as client:
            status, answer = await _post(client, "redrive", {"seqs": [3, 1, 3, 77]})

        assert (status, answer["matched"], answer["done"], answer["gone"]) == (200, 3, 2, 1)
        assert fake.letters.redriven == [3, 1]

    async def test_goes_through_a_filter_in_rounds(self) -> None:
        fake = _box(7)
        place: dict[str, int] = {}
        async with a_client(fake) as client:
            for _ in range(2):
                wish = {"reason": "six", "limit": 2} | place
                _, answer = await _post(client, "drop", wish)
                place = {"after": answer["after"], "until": answer["until"]}

        assert fake.letters.dropped == [1, 3, 5, 7]
        assert answer["more"] is False

    async def test_a_dry_run_only_counts(self) -> None:
        fake = _box()
        async with a_client(fake) as client:
            _, answer = await _post(client, "redrive", {"all": True, "dry_run": True, "limit": 1})

        assert (answer["matched"], answer["done"], answer["more"]) == (3, 0, False)
        assert len(fake.letters.stored) == 3

    async def test_names_what_failed(self) -> None:
        fake = _box()
        fake.letters.refused[2] = "the stream is full"
        async with a_client(fake) as client:
            _, answer = await _post(client, "redrive", {"all": True})

        assert answer["failed"] == [{"seq": 2, "reason": "the stream is full"}]
        assert answer["done"] == 2

    @pytest.mark.parametrize(
        "wish",
        [
            {},
            {"all": False},
            {"seqs": []},
            {"seqs": [0]},
            {"seqs": ["1"] * 501},
            {"seqs": [1], "all": True},
            {"origin": "x", "all": True},
            {"since": "yesterday"},
            {"al": True},
        ],
    )
    async def test_refuses_a_selection_that_selects_nothing_or_twice(self, wish: Any) -> None:
        fake = _box()
        async with a_client(fake) as client:
            status, problem = await _post(client, "drop", wish)

        assert (status, problem["code"]) == (422, "INVALID_REQUEST"), json.dumps(problem)
        assert len(fake.letters.stored) == 3
