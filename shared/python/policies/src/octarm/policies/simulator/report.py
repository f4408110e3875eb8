"""Outcomes as a table of text."""

from collections.abc import Iterable, Sequence

from octarm.policies.simulator.outcome import Outcome, Waits

_POLICIES = (
    "policy",
    "done",
    "failed",
    "refused",
    "overdue",
    "left",
    "p50 s",
    "p95 s",
    "max s",
    "starved",
    "in time",
    "use",
    "cost $",
    "fairness",
)
_PARTS = ("policy", "of", "arrived", "done", "p50 s", "p95 s", "max s", "starved", "in time")


def tables(outcomes: Sequence[Outcome]) -> str:
    """Give one table that compares policies, and one by tier and tenant."""
    parts = [
        _part(it, name, waits)
        for it in outcomes
        for name, waits in (*it.by_tier.items(), *it.by_tenant.items())
    ]
    notes = [note for it in outcomes if (note := _note(it))]
    return "\n".join(
        (
            *_lines(_POLICIES, [_policy(it) for it in outcomes]),
            "",
            *_lines(_PARTS, parts),
            *(["", *notes] if notes else []),
            "",
        )
    )


def _policy(it: Outcome) -> list[str]:
    total = it.total
    return [
        it.policy,
        f"{total.completed:,}",
        f"{total.failed:,}",
        f"{total.rejected:,}",
        f"{total.overdue:,}",
        f"{it.left:,}",
        _seconds(total.wait_p50_s),
        _seconds(total.wait_p95_s),
        _seconds(total.wait_max_s),
        f"{total.starved:,}",
        _rate(total.deadline_hit_rate),
        _rate(it.utilisation),
        f"{it.cost / 1e6:,.2f}",
        f"{it.fairness:.3f}",
    ]


def _part(it: Outcome, name: str, waits: Waits) -> list[str]:
    return [
        it.policy,
        name,
        f"{waits.arrived:,}",
        f"{waits.completed:,}",
        _seconds(waits.wait_p50_s),
        _seconds(waits.wait_p95_s),
        _seconds(waits.wait_max_s),
        f"{waits.starved:,}",
        _rate(waits.deadline_hit_rate),
    ]


def _note(it: Outcome) -> str:
    """Say what went wrong with a script."""
    said = [f"{count} actions dropped: {kind}" for kind, count in it.dropped_actions.items()]
    if it.script_errors:
        first = next((line for line in it.first_error.splitlines() if "error:" in line), "")
        said.append(f"{it.script_errors} calls failed, the first with: {first.strip()}")
    return f"{it.policy}: {'; '.join(said)}" if said else ""


def _seconds(value: float) -> str:
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, numbers to the right."""
    table = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
