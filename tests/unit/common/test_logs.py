"""Logs: one JSON object a line, whatever a user wrote, and no secrets."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from octarm.common.telemetry.logs import get_logger, setup_logs

NASTY = 'a\x1b[31m\n{"event": "forged"}\r\u202e\u200b\0'


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    root = logging.getLogger()
    level = root.level
    setup_logs("test", "info")
    (own,) = root.handlers
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.removeHandler(own)
    root.setLevel(level)
    structlog.reset_defaults()


def test_user_text_stays_one_escaped_value(lines, capsys) -> None:  # type: ignore[no-untyped-def]
    get_logger().info("task_seen", goal=NASTY)

    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
    assert json.loads(err)["goal"] == NASTY


def test_secrets_are_not_written(lines) -> None:  # type: ignore[no-untyped-def]
    get_logger().warning("seen", api_key="hush", Authorization="hush", tokens_used=3)

    (line,) = lines()
    assert "hush" not in json.dumps(line)
    assert line["tokens_used"] == 3


def test_a_librarys_warning_is_json_too(lines) -> None:  # type: ignore[no-untyped-def]
    logging.getLogger("some.library").warning("odd: %s", NASTY)

    (line,) = lines()
    assert line["event"].startswith("odd: a")


def test_what_is_below_the_level_is_silent(lines) -> None:  # type: ignore[no-untyped-def]
    get_logger().debug("detail")

    assert lines() == []
