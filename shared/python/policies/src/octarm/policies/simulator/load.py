"""A load to simulate, as a TOML file says it."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octarm.policies.queue.queue import FullPolicy

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class BadLoad(ValueError):
    """A load that cannot be simulated; the text says where."""


class _Part(BaseModel):
    """Part of a load; unknown keys are refused, so that a typo is not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Poisson(_Part):
    """Independent arrivals."""

    process: Literal["poisson"]
    rate_per_s: Positive


class Bursty(_Part):
    """Phases of exponential length in which arrivals are independent at one of two rates."""

    process: Literal["bursty"]
    rate_per_s: float = Field(ge=0, description="Between bursts")
    burst_rate_per_s: Positive
    burst_s: Positive = Field(description="Mean length of a burst")
    calm_s: Positive = Field(description="Mean time between bursts")


class Trace(_Part):
    """Arrivals at given seconds after the start."""

    process: Literal["trace"]
    at_s: tuple[float, ...] = Field(min_length=1)


class Duration(_Part):
    """How long an attempt takes on an arm of speed 1, in seconds."""

    kind: Literal["constant", "exponential", "lognormal", "uniform"] = "exponential"
    mean_s: Positive
    sigma: float = Field(default=1.0, gt=0, description="Of the logarithm, for lognormal")


class Tasks(_Part):
    """A stream of similar tasks."""

    name: Name
    arrivals: Annotated[Poisson | Bursty | Trace, Field(discriminator="process")]
    duration: Duration
    tenant: Name = "default"
    tier: Literal["interactive", "batch"] = "interactive"
    priority: int = Field(default=5, ge=1, le=10)
    needs: frozenset[str] = frozenset()
    labels: dict[str, str] = {}
    sessions: int = Field(default=0, ge=0, description="Tasks are of one of so many sessions")
    slots: int = Field(default=1, ge=1)
    tokens: int = Field(default=0, ge=0)
    deadline_s: Positive | None = Field(default=None, description="After arrival")
    failure_rate: Share = 0.0
    est_cost: int = Field(default=0, ge=0, description="Micro-dollars, as policies see it")


class ArmPool(_Part):
    """`count` equal arms, named `<id>` or `<id>-1` … `<id>-n`."""

    id: Name
    count: int = Field(default=1, ge=1, le=10_000)
    slots: int = Field(default=10, ge=1)
    capabilities: frozenset[str] = frozenset()
    takes_any: bool = True
    cost_tier: int = Field(default=1, ge=1, le=5)
    labels: dict[str, str] = {}
    speed: Positive = 1.0
    failure_rate: Share = 0.0
    cost_per_task: float = Field(default=0.0, ge=0, description="Micro-dollars an attempt")
    cost_per_s: float = Field(default=0.0, ge=0, description="Micro-dollars a second of a slot")
    offline_s: tuple[tuple[float, float], ...] = Field(default=(), description="From, to")


class Tenant(_Part):
    """A tenant's weight, and how many of its tasks may run."""

    name: Name
    weight: Positive = 1.0
    running: int | None = Field(default=None, ge=1)


class Provider(_Part):
    """What a provider grants to `provider/credential/model`, the labels of arms."""

    key: Name
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None


class KeyLimit(_Part):
    """A limit by key, as the queue has them."""

    name: Name
    key: str
    concurrency: int | None = Field(default=None, ge=1)
    rate_per_s: Positive | None = None
    burst: float = Field(default=1.0, ge=1)


class QueueRules(_Part):
    """How much may wait, and for how long."""

    capacity: int = Field(default=100_000, ge=1)
    full: FullPolicy = "reject"
    promote_after_s: Positive = 300.0
    patience_s: Positive = 300.0
    keep_free: float = Field(default=0.1, ge=0, le=0.5, description="Under fair_share")
    catch_up: float = Field(default=2.0, ge=0, le=100, description="Under fair_share")


class Retries(_Part):
    """What follows a failed attempt."""

    max_attempts: int = Field(default=3, ge=1)
    backoff_s: float = Field(default=1.0, ge=0)


class Load(_Part):
    """All of it. Arrivals end after `duration_s`; the run, `drain_s` later at most."""

    name: str = "load"
    duration_s: Positive
    drain_s: float = Field(default=3600.0, ge=0)
    cycle_ms: float = Field(default=0.0, ge=0, description="Changes within it share a cycle")
    starved_after_s: Positive = Field(default=600.0, description="A longer wait is starvation")
    arms: tuple[ArmPool, ...] = Field(min_length=1)
    tasks: tuple[Tasks, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    providers: tuple[Provider, ...] = ()
    limits: tuple[KeyLimit, ...] = ()
    queue: QueueRules = QueueRules()
    retries: Retries = Retries()


def read(path: Path) -> Load:
    """Read a load from a TOML file.

    Raises:
        BadLoad: the file cannot be read, is no TOML, or says something that no load can have.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadLoad(f"{path}: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Load:
    """Take a load from TOML; `name` is where it came from.

    Raises:
        BadLoad: it is no TOML, or says something that no load can have.
    """
    try:
        return Load.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadLoad(f"{name}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadLoad(f"{name}: {where}: {first['msg']}") from error
