"""Draw a dashboard: its panels in its grid, with its units and legends."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.panels.prometheus import SCRAPE_S, Series

UNITS: Final = {"s": "s", "ops": "each second", "reqps": "each second", "short": ""}
COLUMNS: Final = 2
MOST_IN_A_LEGEND: Final = 8


def draw(
    board: Mapping[str, Any],
    found: Mapping[int, Sequence[Series]],
    *,
    span: tuple[float, float],
    fault: tuple[float, float],
    to: Path,
) -> None:
    """Write the picture of a dashboard; times are Unix seconds, shown as seconds from `span`."""
    panels = board["panels"]
    rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(10, 2.3 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    begin, end = span
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, panel, found[panel["id"]], begin)
        axes.set_xlim(0, end - begin)
        axes.axvspan(fault[0] - begin, fault[1] - begin, color="tab:red", alpha=0.10, lw=0)
    figure.suptitle(f"{board['title']} (red: the arm stands still)", fontsize=11)
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=75)


def _panel(axes: Axes, panel: Mapping[str, Any], found: Sequence[Series], begin: float) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    legend = panel["targets"][0]["legendFormat"]
    unit = defaults["unit"]
    title = panel["title"]
    axes.set_title(f"{title} [{unit}]" if unit == "s" else title, fontsize=9, loc="left")
    for labels, points in found:
        if shown := list(_unjoined(points)):
            seconds, values = zip(*shown, strict=True)
            since = [at - begin for at in seconds]
            axes.plot(since, values, lw=1.3, label=_legend(legend, labels))
    if not axes.lines:
        axes.text(0.5, 0.5, "no such event in this run", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    else:
        axes.legend(fontsize=7, loc="upper left", ncols=2, framealpha=0.6)
        axes.yaxis.set_major_formatter(FuncFormatter(_number))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylim(bottom=0, top=max(1.25 * axes.get_ylim()[1], 1e-3) if axes.lines else 1)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g} s"))


def _unjoined(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Give what is a number, and a gap where nothing was measured: no line goes across it."""
    last = math.inf
    for at, value in points:
        if math.isfinite(value):
            if at - last > 1.5 * SCRAPE_S:
                yield at, math.nan
            yield at, value
            last = at


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], "–"), template)


def _number(value: float, _: int) -> str:
    return f"{value:,.4g}"
