"""Draw what growth costs: `bench/plots/growth.png` (needs the group `bench`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

PLOT = Path(__file__).parents[1] / "plots" / "growth.png"
PARTS = {
    "ledger-size": ("tasks_in_ledger", "tasks in the ledger"),
    "arms": ("arms", "arms"),
}
# Each has its own reason to grow; an arm has none as the ledger grows, and shows what the machine
# did meanwhile.
ROLES = {"postgres": "Postgres", "nats": "nats-server", "noop": "arm", "arms": "arms"}


def draw(found: dict[str, Sequence[dict[str, Any]]], to: Path = PLOT) -> None:
    """Draw CPU a task, of all and of some, and tasks a second over each measured growth."""
    from matplotlib.figure import Figure

    parts = [name for name in PARTS if found.get(name)]
    figure = Figure(figsize=(6.2 * len(parts), 4.2), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for panel, name in zip(panels, parts, strict=True):
        key, label = PARTS[name]
        points = found[name]
        sizes = [point[key] for point in points]
        panel.plot(sizes, [p["cpu_us_a_task"] for p in points], "o-", label="all processes")
        beyond = [p["cpu_us_a_task_beyond_idle"] for p in points]
        panel.plot(sizes, beyond, "o-", label="without what they take at rest")
        for role in [role for role in ROLES if role in points[0]["cpu_us_by_role"]]:
            own = [p["cpu_us_by_role"][role] for p in points]
            panel.plot(sizes, own, ".-", label=ROLES[role])
        panel.set_xscale("log")
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
        panel.set_ylim(0, 1.2 * max(point["cpu_us_a_task"] for point in points))
        panel.set_xlabel(label)
        panel.set_ylabel("µs of CPU a task")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
        rates = panel.twinx()
        rates.plot(sizes, [p["tasks_per_s"] for p in points], "s--", color="tab:gray")
        rates.set_ylim(0, 1.2 * max(point["tasks_per_s"] for point in points))
        rates.set_ylabel("tasks/s (dashed)")
        panel.set_title(f"Cost over {label}")
    to.parent.mkdir(exist_ok=True)
    figure.savefig(to, dpi=110)
