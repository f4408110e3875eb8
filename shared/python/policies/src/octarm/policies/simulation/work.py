"""What a simulating child is given, and what it gives back."""

from typing import Literal

from msgspec import Struct

from octarm.policies.sandbox.limits import Limits
from octarm.policies.versions import Kind


class Candidate(Struct, frozen=True):
    """A policy to simulate: a built-in one by its name, or a source that is listed as `name`."""

    name: str
    kind: Kind = "starlark"
    source: str | None = None


class Work(Struct, frozen=True):
    """Policies, and what to run them on: a load as TOML, recorded decisions, or both."""

    candidates: tuple[Candidate, ...]
    load: str = ""
    records: str = ""
    seed: int = 1
    call_ms: int = 50


class Refused(Struct, frozen=True):
    """Why there is nothing to simulate: the `load` is wrong, or a `policy`."""

    what: Literal["load", "policy"]
    why: str


# A million tasks of a built-in policy take a minute, and half a gigabyte.
LIMITS = Limits(memory_mib=1_024, process_mib=1_536)
CPU_S = 80
MAX_RESULT = 8 * 1_048_576
