"""Outcomes as a picture; needs matplotlib, which the group `bench` brings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octarm.policies.simulator.outcome import Outcome


class NoPlot(RuntimeError):
    """There is nothing to draw with."""


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw waits by tier and tenant, use, cost, fairness and the queue over time into a file.

    Raises:
        NoPlot: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise NoPlot("a plot needs matplotlib: uv sync --group bench") from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8), layout="constrained")
    try:
        _waits(axes[0][0], outcomes, "wait by tier, p50 and p95", "by_tier")
        _waits(axes[0][1], outcomes, "wait by tenant, p50 and p95", "by_tenant")
        _queued(axes[0][2], outcomes)
        _bars(axes[1][0], "cost, $", [(it.policy, it.cost / 1e6) for it in outcomes])
        met = [it.total.deadline_hit_rate or 0.0 for it in outcomes]
        starved = [it.total.starved / max(it.total.arrived, 1) for it in outcomes]
        _pairs(axes[1][1], outcomes, ("deadlines met", met), ("starved", starved))
        use, fairness = (
            [getattr(it, name) for it in outcomes] for name in ("utilisation", "fairness")
        )
        _pairs(axes[1][2], outcomes, ("slots in use", use), ("Jain's fairness", fairness))
        figure.suptitle(f"{outcomes[0].load}, seed {outcomes[0].seed}")
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)


def _waits(axis: Any, outcomes: Sequence[Outcome], title: str, part: str) -> None:
    names = sorted({name for it in outcomes for name in getattr(it, part)})[:12]
    width = 0.8 / len(outcomes)
    for number, it in enumerate(outcomes):
        found = [getattr(it, part).get(name) for name in names]
        places = [at + number * width for at in range(len(names))]
        p95 = [waits.wait_p95_s if waits else 0.0 for waits in found]
        p50 = [waits.wait_p50_s if waits else 0.0 for waits in found]
        axis.bar(places, p95, width, label=it.policy, color=f"C{number}", alpha=0.5)
        axis.bar(places, p50, width, color=f"C{number}")
    axis.set_xticks([at + 0.4 - width / 2 for at in range(len(names))], names, rotation=20)
    axis.set_title(title)
    axis.set_ylabel("seconds")
    axis.legend(fontsize="small")


def _queued(axis: Any, outcomes: Sequence[Outcome]) -> None:
    for it in outcomes:
        axis.plot(it.samples["time_s"], it.samples["queued"], label=it.policy)
    axis.set_title("waiting tasks")
    axis.set_xlabel("seconds")
    axis.legend(fontsize="small")


def _bars(axis: Any, title: str, values: Sequence[tuple[str, float]]) -> None:
    colours = [f"C{number}" for number in range(len(values))]
    axis.bar([name for name, _ in values], [value for _, value in values], color=colours)
    axis.set_title(title)
    axis.tick_params(axis="x", rotation=20)


def _pairs(
    axis: Any,
    outcomes: Sequence[Outcome],
    left: tuple[str, list[float]],
    right: tuple[str, list[float]],
) -> None:
    names = [it.policy for it in outcomes]
    places = range(len(names))
    for by, (label, values) in ((-0.2, left), (0.2, right)):
        axis.bar([at + by for at in places], values, 0.4, label=label)
    axis.set_xticks(list(places), names, rotation=20)
    axis.set_ylim(0, 1.05)
    axis.set_title(f"{left[0]}; {right[0]}")
    axis.legend(fontsize="small")
