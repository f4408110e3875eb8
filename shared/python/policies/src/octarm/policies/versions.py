"""What a version of a policy is named by: its content."""

from hashlib import sha256
from typing import Literal

Kind = Literal["starlark", "yaml"]


def digest(source: str, kind: Kind = "starlark") -> str:
    """Give the SHA-256 (hex) of kind and source: the same content is the same version."""
    return sha256(f"{kind}\n{source}".encode(errors="surrogatepass")).hexdigest()
