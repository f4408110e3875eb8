"""The generated documents are what the models say, and only grow."""

import json
import runpy
import sys
from datetime import date
from pathlib import Path

import pytest
from pydantic import BaseModel

from octarm.models import schemas
from octarm.models.schemas import proto
from octarm.models.schemas.__main__ import main
from octarm.models.schemas.documents import differences, write
from octarm.models.schemas.proto import ProtoField
from octarm.models.schemas.proto_files import grown, proto_files
from octarm.models.subjects import QUERIES, SUBJECTS

SHARED = Path(__file__).parents[2] / "shared"


class TestDocuments:
    def test_are_committed_as_the_models_say(self) -> None:
        assert differences(SHARED) == [], "run `make schemas`"

    def test_are_written_once_and_then_left_alone(self, tmp_path: Path) -> None:
        first = write(tmp_path)
        second = write(tmp_path)

        assert "proto/octarm/v1/contracts.proto" in first
        assert second == []

    def test_are_checked_without_being_changed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([str(tmp_path)]) == 0
        stray = tmp_path / "schemas" / "Gone.schema.json"
        stray.write_text("{}")

        assert main(["--check", str(tmp_path)]) == 1
        assert capsys.readouterr().err == "schemas/Gone.schema.json: run `make schemas`\n"
        assert stray.exists()

    def test_that_are_generated_no_more_are_removed(self, tmp_path: Path) -> None:
        write(tmp_path)
        stray = tmp_path / "proto" / "octarm" / "v1" / "gone.proto"
        stray.write_text("")

        assert write(tmp_path) == ["proto/octarm/v1/gone.proto"]
        assert main(["--check", str(tmp_path)]) == 0

    def test_are_written_and_checked_by_a_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["schemas", "--check", str(tmp_path)])

        with pytest.raises(SystemExit, match="1"):
            runpy.run_path(
                str(Path(schemas.__file__).with_name("__main__.py")), run_name="__main__"
            )


class TestProtocolBuffers:
    def test_have_no_counterpart_for_what_is_not_a_message(self) -> None:
        class Odd(BaseModel):
            day: date

        with pytest.raises(TypeError, match="no counterpart"):
            proto.message_of(Odd)


class TestFieldNumbers:
    def test_stay_when_fields_come_and_go(self) -> None:
        known = {"FieldError": {"string gone": 1, "string message": 7}}

        numbers = grown(known)["FieldError"]
        text = proto_files(grown(known))["octarm/v1/errors.proto"]

        assert numbers == {"string gone": 1, "string message": 7, "string field": 8}
        assert "string message = 7;" in text
        assert "reserved 1;" in text

    def test_belong_to_a_type_and_a_name(self) -> None:
        one = ProtoField("arms", "string", "optional")
        many = ProtoField("arms", "string", "repeated")

        assert (one.signature, many.signature) == ("string arms", "repeated string arms")


class TestAsyncapi:
    def test_has_a_channel_for_every_subject_and_query(self) -> None:
        document = json.loads((SHARED / "asyncapi.json").read_text())

        addresses = {channel["address"] for channel in document["channels"].values()}

        assert {subject.template for subject in SUBJECTS} <= addresses
        assert {query.template for query in QUERIES} <= addresses

    def test_refers_only_to_what_there_is(self) -> None:
        text = (SHARED / "asyncapi.json").read_text()
        document = json.loads(text)

        for reference in set(json.loads(text, object_hook=_references)[0]):
            file, _, path = reference.partition("#/")
            if file:
                assert (SHARED / file).is_file(), reference
                continue
            place = document
            for part in path.split("/"):
                place = place[part]


def _references(found: dict[str, object]) -> tuple[list[str], ...]:
    """Fold an object into the references below it."""
    references = [str(found["$ref"])] if "$ref" in found else []
    for value in found.values():
        if isinstance(value, tuple):
            references += value[0]
    return (references,)
