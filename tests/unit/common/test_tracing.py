"""Tracing: only what is sampled costs something, and what is sampled hangs together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    gen_ai_attributes,
    http_attributes,
    messaging_attributes,
)
from opentelemetry.semconv.schemas import Schemas

from octarm.common.telemetry import conventions, tracing
from octarm.models.errors import InvalidRequest, OctarmError, Unavailable
from tests.support.spans import spans_in

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tracing.setup_tracing("test", f"file:{tmp_path}", sample=0.0)
    yield tmp_path
    tracing.shutdown()


def test_how_many_traces_are_recorded_may_change_while_it_runs(folder: Path) -> None:
    before = tracing.root()
    tracing.sample(1.0)

    assert (before[-2:], tracing.root()[-2:]) == ("00", "01")


def test_a_span_hangs_below_the_hop_before(folder: Path) -> None:
    with tracing.span("one.step", PARENT, task_id="t") as span:
        pass

    (row,) = spans_in(folder)
    assert row["trace_id"] == PARENT[3:35]
    assert row["parent_id"] == PARENT[36:52]
    assert row["span_id"] == span.traceparent[36:52]
    assert row["attributes"] == {"octarm.task.id": "t"}


def test_a_failed_block_is_an_error_and_still_raises(folder: Path) -> None:
    with pytest.raises(KeyError), tracing.span("one.step", PARENT):
        raise KeyError

    (row,) = spans_in(folder)
    assert row["status"] == "ERROR"


def test_what_is_not_sampled_leaves_no_span_and_travels_on(folder: Path) -> None:
    with tracing.span("one.step", UNSAMPLED) as span:
        assert span.traceparent == UNSAMPLED
    assert tracing.record("another", UNSAMPLED, 1, 2) == UNSAMPLED

    assert spans_in(folder) == []


def test_a_process_that_exports_nothing_passes_the_trace_on() -> None:
    tracing.setup_tracing("test", "none", sample=1.0)

    with tracing.span("one.step", PARENT) as span:
        assert span.traceparent == PARENT


def test_a_finished_span_has_the_times_that_were_measured(folder: Path) -> None:
    own = tracing.record("one.step", PARENT, 1_000, 5_000, error="late", arm_id="a")

    (row,) = spans_in(folder)
    assert (row["start_ns"], row["end_ns"], row["status"]) == (1_000, 5_000, "ERROR")
    assert own[36:52] == row["span_id"]


class TestErrors:
    """An error is told of whether its trace is sampled or not."""

    def test_of_an_unsampled_trace_an_error_is_exported_and_nothing_else(
        self, folder: Path
    ) -> None:
        with tracing.span("one.step", UNSAMPLED, task_id="t"):
            pass
        with pytest.raises(KeyError), tracing.span("one.step", UNSAMPLED, task_id="t") as span:
            raise KeyError
        assert tracing.record("another", UNSAMPLED, 1, 2, error="LOST") == UNSAMPLED

        assert span.traceparent == UNSAMPLED
        found = spans_in(folder)
        assert [(row["name"], row["status"]) for row in found] == [
            ("one.step", "ERROR"),
            ("another", "ERROR"),
        ]
        assert {row["trace_id"] for row in found} == {PARENT[3:35]}
        assert found[0]["attributes"] == {
            "octarm.task.id": "t",
            "octarm.trace.sampled": False,
            "error.type": "KeyError",
        }

    def test_a_flood_of_them_is_cut_off_until_the_next_second(self) -> None:
        allowance = tracing.Allowance(2)

        assert [allowance.take(7.0 + tenth / 10) for tenth in range(4)] == [
            True,
            True,
            False,
            False,
        ]
        assert allowance.take(8.0)

    def test_what_is_no_traceparent_leaves_none(self, folder: Path) -> None:
        tracing.record("one.step", "", 1, 2, error="LOST")

        assert spans_in(folder) == []

    @pytest.mark.parametrize(
        ("error", "status"), [(InvalidRequest("no"), "UNSET"), (Unavailable("no"), "ERROR")]
    )
    def test_a_servers_span_is_not_in_error_for_its_clients_mistakes(
        self, folder: Path, error: OctarmError, status: str
    ) -> None:
        with pytest.raises(OctarmError), tracing.span("gateway.submit", PARENT):
            raise error

        (row,) = spans_in(folder)
        assert row["status"] == status
        assert row["attributes"]["http.response.status_code"] == error.status


class TestConventions:
    """Names are OpenTelemetry's, in the version that is pinned."""

    def test_every_name_of_theirs_is_in_the_conventions(self) -> None:
        theirs = {*conventions.NAMES.values(), conventions.ERROR_TYPE}
        theirs |= {name for step in conventions.STEPS.values() for name in step.attributes}
        theirs = {name for name in theirs if not name.startswith("octarm.")}

        assert len(theirs) > 12
        assert theirs <= _known_names()

    def test_the_version_is_one_that_there_is(self) -> None:
        assert conventions.SCHEMA_URL in {schema.value for schema in Schemas}

    def test_a_consumer_is_linked_to_where_its_message_was_made(self, folder: Path) -> None:
        tracing.record("arm.run", PARENT, 1, 2, arm_id="llm", agent="llm")

        (row,) = spans_in(folder)
        assert (row["kind"], row["links"]) == ("consumer", [PARENT[36:52]])
        assert row["attributes"] == {
            "messaging.system": "nats",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": "OCTARM_DISPATCH",
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.id": "llm",
            "octarm.arm.id": "llm",
        }

    @pytest.mark.parametrize("name", ["reason", "of_the_arms_own"])
    def test_text_of_people_is_shown_without_secrets(self, folder: Path, name: str) -> None:
        text = "as ann@example.org said: sk-live-" + "a1b2c3d4" * 4
        about: dict[str, Any] = {name: text}
        tracing.record("one.step", PARENT, 1, 2, **about)

        (shown,) = spans_in(folder)[0]["attributes"].values()
        assert shown == "as <EMAIL> said: <API_KEY>"


def _known_names() -> set[str]:
    modules = (
        error_attributes,
        gen_ai_attributes,
        http_attributes,
        messaging_attributes,
    )
    return {value for module in modules for value in vars(module).values() if type(value) is str}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_root_is_sampled_by_the_share_given(share: float) -> None:
    made = tracing.root(share)

    assert tracing.valid(made)
    assert tracing.is_sampled(made) is bool(share)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        PARENT.upper(),
        PARENT + "0",
        PARENT.replace("00-", "01-", 1),
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
        PARENT + "\n",
    ],
)
def test_refuses_what_is_no_traceparent(text: str) -> None:
    assert not tracing.valid(text)


@pytest.mark.parametrize("export", ["", "file:", "otlp", "somewhere"])
def test_refuses_an_unknown_export(export: str) -> None:
    with pytest.raises(ValueError, match="trace_export"):
        tracing.setup_tracing("test", export, sample=0)
