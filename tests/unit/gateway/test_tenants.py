"""Which tenant a credential stands for."""

import pytest
from pydantic import ValidationError

from octarm.gateway.domain.tenants import Tenants
from octarm.gateway.settings import Settings

KEYS = '{"key-of-acme": "acme", "key-of-zeta": "zeta"}'


class TestTenants:
    def test_everybody_is_the_default_tenant_without_keys(self) -> None:
        tenants = Tenants.parse("  ")

        assert not tenants.keys_needed
        assert tenants.of(None) == tenants.of("anything") == "default"

    def test_a_key_gives_its_tenant(self) -> None:
        tenants = Tenants.parse(KEYS)

        assert tenants.keys_needed
        assert tenants.of("key-of-acme") == "acme"
        assert tenants.of("key-of-zeta") == "zeta"

    @pytest.mark.parametrize("key", [None, "", "key-of-acm", "key-of-acme ", "é", "x" * 10_000])
    def test_nothing_else_gives_one(self, key: str | None) -> None:
        assert Tenants.parse(KEYS).of(key) is None

    def test_keeps_no_key_in_memory(self) -> None:
        assert "key-of-acme" not in repr(vars(Tenants.parse(KEYS)))

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            "{}",
            '{"short": "acme"}',
            '{"long-enough-key": "Acme!"}',
            '{"long-enough-key": 7}',
            '{"long-enough-key": "' + "x" * 64 + '"}',
        ],
    )
    def test_refuses_what_is_no_list_of_keys_without_repeating_it(self, text: str) -> None:
        with pytest.raises(ValueError, match="api_keys") as refused:
            Tenants.parse(text)

        assert "long-enough-key" not in str(refused.value)


class TestSettings:
    def test_never_shows_the_keys(self) -> None:
        assert "key-of-acme" not in repr(Settings(api_keys=KEYS))

    def test_refuses_bad_keys_without_showing_them(self) -> None:
        with pytest.raises(ValidationError) as refused:
            Settings(api_keys='{"my-secret-key": "NOT A TENANT"}')

        assert "my-secret-key" not in refused.value.errors()[0]["msg"]
