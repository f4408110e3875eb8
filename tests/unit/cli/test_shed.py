"""`octarm shed`, and where else it shows."""

import pytest

from tests.support.cli import Cli
from tests.support.fake_gateway import NOON, FakeGateway, Reply

PATH = "/v1/shedding"
SHED = {
    "tenant": "acme",
    "mode": "shed-batch",
    "reason": "a flood",
    "by": "ops",
    "at": NOON,
    "until": "2026-11-21T12:30:00Z",
}
FOUND = {"now": [SHED], "past": [SHED, SHED | {"tenant": None, "mode": "open", "reason": ""}]}


@pytest.fixture(autouse=True)
def _known(cli: Cli, gateway: FakeGateway) -> None:
    cli.env(OCTARM_URL=gateway.url)


LINE = "shed-batch for tenant acme, put by ops"


def test_puts_the_switch_and_says_how_it_stands(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on(f"PUT {PATH}", Reply(body=FOUND))

    ran = cli(
        "shed", "set", "shed-batch", "--tenant", "acme", "--for", "30m", "--reason", "a flood"
    )

    assert ran.code == 0, ran.err
    assert ran.out.startswith(LINE)
    (sent,) = gateway.sent(f"PUT {PATH}")
    assert sent.body == {
        "mode": "shed-batch",
        "tenant": "acme",
        "reason": "a flood",
        "seconds": 1800,
    }


def test_opens_it_for_everybody(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on(f"PUT {PATH}", Reply(body={"now": [], "past": []}))

    ran = cli("shed", "set", "open")

    assert ran.out == "open: nothing is shed\n"
    (sent,) = gateway.sent(f"PUT {PATH}")
    assert (sent.body["tenant"], sent.body["seconds"]) == (None, None)


@pytest.mark.parametrize("span", ["soon", "0m", "8d"])
def test_a_time_is_written_plainly(cli: Cli, gateway: FakeGateway, span: str) -> None:
    ran = cli("shed", "set", "shed-batch", "--for", span)

    assert (ran.code, "Write 90s" in ran.err) == (3, True)
    assert gateway.requests == []


def test_shows_what_is_shed_and_who_has_put_it_how(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on(f"GET {PATH}", Reply(body=FOUND))

    ran = cli("shed", "show")
    as_json = cli("shed", "show", "--json")

    assert LINE in ran.out
    assert "until 2026-11-21T12:30:00Z: a flood" in ran.out
    assert ran.out.count("ops") == 3
    assert as_json.json == FOUND


def test_the_queue_shows_it_too(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on("GET /v1/queue", Reply(body={"queued": 0, "oldest_wait_s": 0.0}))
    gateway.on(f"GET {PATH}", Reply(body=FOUND))

    ran = cli("queue")
    as_json = cli("queue", "--json")

    assert LINE in ran.err
    assert as_json.json["shedding"][0].startswith(LINE)


def test_a_gateway_of_before_has_no_switch(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on("GET /v1/queue", Reply(body={"queued": 0, "oldest_wait_s": 0.0}))

    assert cli("queue", "--json").json["shedding"] == []
