"""Logs: one JSON object a line, whatever a user wrote, and no secrets."""

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from octarm.common.telemetry.logs import get_logger, setup_logs

NASTY = 'a\x1b[31m\n{"event": "forged"}\r\u202e\u200b\0'
Capture = pytest.CaptureFixture[str]


@contextmanager
def logging_as_a_service() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    setup_logs("test", "info")
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


@pytest.mark.bad_input(20)
def test_user_text_stays_one_escaped_value(capsys: Capture) -> None:
    with logging_as_a_service():
        get_logger().info("task_seen", goal=NASTY)

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.rstrip("\n").isprintable()
    assert json.loads(error)["goal"] == NASTY


@pytest.mark.bad_input(25)
def test_secrets_are_not_written(capsys: Capture) -> None:
    with logging_as_a_service():
        get_logger().warning("seen", api_key="hush", Authorization="hush", tokens_used=3)

    error = capsys.readouterr().err
    assert "hush" not in error
    assert json.loads(error)["tokens_used"] == 3


@pytest.mark.bad_input(25)
def test_personal_data_are_not_written_wherever_they_stand(capsys: Capture) -> None:
    card, mail = "4111 1111 1111 1111", "ann@example.org"
    with logging_as_a_service():
        logging.getLogger("some.library").warning("of %s", mail)
        try:
            raise ValueError(f"{mail} paid with {card}")
        except ValueError as error:
            get_logger().error(
                "failed", error=str(error), exc_info=True, who={"to": [mail]}, raised=error
            )

    written = capsys.readouterr().err
    assert mail not in written
    assert card not in written
    assert "<EMAIL> paid with <CREDIT_CARD>" in json.loads(written.splitlines()[1])["exception"]


def test_a_line_names_the_trace_by_its_id(capsys: Capture) -> None:
    with logging_as_a_service():
        get_logger().info("seen", traceparent=f"00-{'a' * 32}-{'b' * 16}-00", task_id="tsk_1")
        get_logger().info("seen", traceparent="")

    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["trace_id"], first["task_id"]) == ("a" * 32, "tsk_1")
    assert {"trace_id", "traceparent"}.isdisjoint(second)


def test_a_librarys_warning_is_json_too(capsys: Capture) -> None:
    with logging_as_a_service():
        logging.getLogger("some.library").warning("odd: %s", NASTY)

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["message"]) == ("library_message", f"odd: {NASTY}")
    assert (line["logger"], line["service"], line["level"]) == ("some.library", "test", "warning")


def test_what_is_below_the_level_is_silent(capsys: Capture) -> None:
    with logging_as_a_service():
        get_logger().debug("detail")

    assert capsys.readouterr().err == ""


class FullDisk(io.StringIO):
    """A file on a disk without room."""

    def write(self, _: str, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", FullDisk())
    with logging_as_a_service():
        get_logger().warning("seen")
        get_logger().error("seen")
        get_logger().info("seen")
