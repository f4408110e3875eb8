"""Which tenant a credential stands for."""

import hashlib
import json
import os
import re
from typing import Final, Self

from octarm.models.ids import NAME_PATTERN

DEFAULT_TENANT: Final = "default"
MIN_KEY_CHARS: Final = 8
MAX_KEY_CHARS: Final = 4096
_TENANT: Final = re.compile(NAME_PATTERN)


class Tenants:
    """Holds the API keys as keyed digests only.

    A lookup compares digests under a key that nobody outside this process knows, so its
    time tells nothing about how much of a guess was right.
    """

    def __init__(self, keys: dict[str, str]) -> None:
        self._secret = os.urandom(32)
        self._by_digest = {self._digest(key): tenant for key, tenant in keys.items()}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a JSON object of API key → tenant; empty text means that no key is needed.

        Raises:
            ValueError: it is no such object. The message repeats nothing of it.
        """
        if not text.strip():
            return cls({})
        try:
            keys = json.loads(text)
        except ValueError:
            raise ValueError("api_keys is not a JSON object of key → tenant") from None
        if not isinstance(keys, dict) or not keys:
            raise ValueError("api_keys is not a JSON object of key → tenant")
        for key, tenant in keys.items():
            if not MIN_KEY_CHARS <= len(key) <= MAX_KEY_CHARS:
                raise ValueError(f"api_keys: a key needs {MIN_KEY_CHARS} – {MAX_KEY_CHARS} chars")
            if not isinstance(tenant, str) or len(tenant) > 63 or not _TENANT.fullmatch(tenant):
                raise ValueError("api_keys: a tenant is lower-case letters, digits and hyphens")
        return cls(keys)

    @property
    def keys_needed(self) -> bool:
        """Whether a request must bring a key."""
        return bool(self._by_digest)

    def of(self, key: str | None) -> str | None:
        """Give the tenant of a key, None when it is not accepted."""
        if not self._by_digest:
            return DEFAULT_TENANT
        if key is None or len(key) > MAX_KEY_CHARS:
            return None
        return self._by_digest.get(self._digest(key))

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._secret, digest_size=32).digest()
