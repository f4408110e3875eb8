"""What the scheduler refuses to start with, and what it makes of the rest."""

import pytest
from pydantic import ValidationError

from octarm.policies.queue.governors import ProviderLimits
from octarm.policies.queue.limits import LimitRule
from octarm.scheduler.settings import Settings

NATS = "nats://localhost:4222"


def test_limits_and_providers_are_those_of_the_queue() -> None:
    settings = Settings(
        nats_url=NATS,
        policy="fair_share",
        limits=[{"name": "repo", "key": "task.labels.repo", "concurrency": 1}],
        providers=[{"key": "openai//small", "requests_per_minute": 60}],
    )

    assert settings.builtin().fair
    assert settings.limit_rules() == [LimitRule("repo", "task.labels.repo", 1)]
    assert settings.provider_limits() == [ProviderLimits("openai//small", 60)]


def test_a_script_is_told_the_full_policy() -> None:
    assert Settings(nats_url=NATS).config().full_policy == "reject"
    assert Settings(nats_url=NATS, full_policy="drop_lru").config().full_policy == "drop_lru"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"policy": "best"}, "not one of affinity"),
        ({"full_policy": "drop"}, "full_policy"),
        ({"limits": [{"name": "a", "key": "task.", "concurrency": 1}]}, "limits"),
        ({"limits": [{"name": "a", "key": "other", "concurrency": 1}]}, "only `task` is known"),
        ({"limits": [{"name": "a", "key": "task.tenant"}]}, "concurrency or rate_per_s"),
        ({"limits": [{"name": "a", "key": "'x'", "rate_per_s": 1}] * 2}, "stand there once"),
        ({"providers": [{"key": "p"}, {"key": "p"}]}, "stand there once"),
        ({"weights": {"acme": 0}}, "weights.acme"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"nats_url": NATS, **wrong})

    assert why in str(refused.value)
