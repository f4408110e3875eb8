"""When tasks arrive and how long they take, by a seed: the same for every policy."""

import math
from collections.abc import Callable, Iterator
from random import Random

from octarm.policies.simulator.load import Bursty, Duration, Poisson, Trace


def arrivals(process: Poisson | Bursty | Trace, random: Random, until_s: float) -> Iterator[float]:
    """Give the seconds of all arrivals before `until_s`, in order."""
    if isinstance(process, Trace):
        yield from (at_s for at_s in sorted(process.at_s) if 0 <= at_s < until_s)
    elif isinstance(process, Poisson):
        yield from _independent(process.rate_per_s, random, 0.0, until_s)
    else:
        yield from _bursts(process, random, until_s)


def _independent(rate: float, random: Random, from_s: float, until_s: float) -> Iterator[float]:
    at_s = from_s + random.expovariate(rate)
    while at_s < until_s:
        yield at_s
        at_s += random.expovariate(rate)


def _bursts(process: Bursty, random: Random, until_s: float) -> Iterator[float]:
    from_s = 0.0
    while from_s < until_s:
        to_s = min(from_s + random.expovariate(1 / process.calm_s), until_s)
        if process.rate_per_s:
            yield from _independent(process.rate_per_s, random, from_s, to_s)
        from_s, to_s = to_s, min(to_s + random.expovariate(1 / process.burst_s), until_s)
        yield from _independent(process.burst_rate_per_s, random, from_s, to_s)
        from_s = to_s


def durations(spec: Duration, random: Random) -> Callable[[], float]:
    """Give a function that draws the next duration in seconds; all kinds have the given mean."""
    mean_s = spec.mean_s
    if spec.kind == "constant":
        return lambda: mean_s
    if spec.kind == "exponential":
        return lambda: random.expovariate(1 / mean_s)
    if spec.kind == "uniform":
        return lambda: random.uniform(0, 2 * mean_s)
    # The mean of a lognormal is exp(mu + sigma² / 2).
    mu = math.log(mean_s) - spec.sigma**2 / 2
    return lambda: random.lognormvariate(mu, spec.sigma)
