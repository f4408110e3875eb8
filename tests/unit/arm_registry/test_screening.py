"""What an arm may declare."""

import pytest

from octarm.arm_registry.domain.screening import may_change, owner_of, screen
from octarm.models.errors import InvalidRequest
from tests.support.arms import an_arm


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "https://arms.example.com/run",
            "https://8.8.8.8/run",
            "https://[2606:4700::1111]/",
            "http://writer:8080/run",
            "http://writer.arms.svc/run",
            "http://writer.arms.svc.cluster.local/",
        ],
    )
    def test_accepts_https_and_hosts_in_the_cluster(self, url: str) -> None:
        screen(an_arm(endpoint=url, health_check_url=url))

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1",
            "https://127.0.0.1",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://169.254.169.254/latest/meta-data",
            "https://[fe80::1]/",
            "https://[::]/",
            "https://0.0.0.0/",
            "https://10.0.0.7/",
            "http://10.0.0.7/",
            "https://localhost/",
            "https://localhost./",
            "https://LOCALHOST/",
            "https://a.localhost/",
            "https://metadata.google.internal/",
            "http://metadata/",
            "https://user@example.com/",
            "https://:secret@example.com/",
            "https://exаmple.com/",
            "https://xn--exmple-4nf.com/",
            "http://example.com/",
            "http://8.8.8.8/",
        ],
    )
    def test_refuses_what_could_reach_inside(self, url: str) -> None:
        with pytest.raises(InvalidRequest) as refused:
            screen(an_arm(endpoint=url))

        assert refused.value.errors is not None
        assert [error.field for error in refused.value.errors] == ["arm.endpoint"]


class TestSchemas:
    @pytest.mark.parametrize(
        "schema",
        [
            {},
            {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {}}},
            {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "string"},
            {"pattern": "(a+)+$"},
        ],
    )
    def test_accepts_json_schema_2020_12(self, schema: dict[str, object]) -> None:
        screen(an_arm(input_schema=schema, output_schema=schema))

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "nope"},
            {"properties": 7},
            {"pattern": "["},
            {"pattern": "(?=a)b"},
            {"$ref": "#/nowhere"},
            {"$ref": "http://127.0.0.1:1/schema"},
            {"$ref": "file:///etc/passwd"},
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            {"description": "x" * 70_000},
        ],
    )
    def test_refuses_the_rest_by_name(self, schema: dict[str, object]) -> None:
        with pytest.raises(InvalidRequest) as refused:
            screen(an_arm(output_schema=schema))

        assert refused.value.errors is not None
        assert [error.field for error in refused.value.errors] == ["arm.output_schema"]


class TestOwnership:
    def test_a_key_owns_what_it_registered(self) -> None:
        assert may_change(owner_of("mine"), "mine")
        assert not may_change(owner_of("mine"), "theirs")
        assert not may_change(owner_of("mine"), "")

    def test_what_has_no_owner_anybody_may_change(self) -> None:
        assert owner_of("") == ""
        assert may_change("", "")
        assert may_change("", "anybody")

    def test_an_owner_does_not_show_the_key(self) -> None:
        assert "mine" not in owner_of("mine")
        assert len(owner_of("mine")) == 64
