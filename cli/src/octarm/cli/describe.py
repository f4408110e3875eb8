"""Say events, results and times in a few words."""

from datetime import UTC, datetime
from typing import Any, Final

from octarm.cli.events import StreamEvent
from octarm.cli.text import clean, to_json


def event_line(event: StreamEvent) -> str:
    """One event in one line."""
    data = event.data
    attempt = data.get("attempt", 0)
    match event.kind.removeprefix("task."):
        case "placed":
            # Without a reason when a fast arm's report overtook the scheduler's.
            return _because(f"placed on {data.get('arm_id')}", data)
        case "started":
            return f"started by {data.get('instance_id')} (attempt {attempt})"
        case "progress":
            return f"{percent(data)} {data.get('message', '')}".rstrip()
        case "retried":
            return f"trying again as attempt {attempt}: {_detail(data)}"
        case "failed" | "timed_out" | "rejected" as verb:
            return f"{verb.replace('_', ' ')}: {_detail(data)}"
        case "cancelled":
            proof = str(data.get("proof") or "").replace("_", " ")
            return _because("cancelled", data) + (f" ({proof})" if proof else "")
        case verb:
            return verb.replace("_", " ")


def _because(what: str, data: dict[str, Any]) -> str:
    return f"{what}: {data['reason']}" if data.get("reason") else what


def percent(data: dict[str, Any]) -> str:
    """The progress of a progress event."""
    return f"{100 * float(data.get('fraction') or 0):.0f} %"


def ahead(position: int | None) -> str | None:
    """How many tasks stand before one."""
    if not position:
        return None if position is None else "nothing"
    return "1 task" if position == 1 else f"{position} tasks"


def guess(starts_in_s: float | None) -> str | None:
    """When a task may start, by the pace of late."""
    return None if starts_in_s is None else f"in about {starts_in_s:.1f} s"


def score_lines(attempts: list[dict[str, Any]]) -> list[str]:
    """How much the best arms were liked when the last attempt was placed, a line each."""
    decision = (attempts[-1].get("decision") if attempts else None) or {}
    return [
        f"  {it['arm_id']}: {it.get('score', 0):g}" + (f" ({it['note']})" if it.get("note") else "")
        for it in decision.get("scores") or []
    ]


def output_text(output: Any) -> str:
    """An output as a person reads it: its text when it is one, else JSON."""
    if isinstance(output, str):
        return output
    if isinstance(output, dict):
        for key in ("text", "stdout", "summary", "answer"):
            if isinstance(output.get(key), str):
                return str(output[key])
    return to_json(output, indent=2)


def result_line(result: dict[str, Any]) -> str:
    """What a result cost, in one line."""
    seconds = int(result.get("execution_time_ms") or 0) / 1000
    parts = [
        f"arm {result.get('arm_id')}",
        f"attempt {result.get('attempt')}",
        f"{seconds:.2f} s",
    ]
    if tokens := result.get("tokens_used"):
        parts.append(f"{tokens} tokens")
    if cost := result.get("cost_dollars"):
        parts.append(f"${cost:.4f}")
    return " · ".join(clean(part) for part in parts)


BUDGET_UNITS: Final = {
    "tokens": ("tokens", 1.0),
    "cost_dollars": ("dollars", 1.0),
    "llm_calls": ("calls", 1.0),
    "time_ms": ("seconds", 1000.0),
}


def budget_pairs(budget: dict[str, Any] | None) -> list[tuple[str, str]]:
    """A budget in one line for each dimension that is limited or used."""
    lines = []
    for name, (unit, size) in BUDGET_UNITS.items() if budget else ():
        granted, reserved, spent, over = (
            (budget or {}).get(kind, {}).get(name)
            for kind in ("granted", "reserved", "spent", "overspent")
        )
        if granted is None and not (reserved or spent):
            continue
        parts = [f"{_amount(spent, size)} spent"]
        if granted is not None:
            parts[0] += f" of {_amount(granted, size)}"
        if reserved:
            parts.append(f"{_amount(reserved, size)} held by its children")
        if over:
            parts.append(f"{_amount(over, size)} over")
        lines.append((f"budget {unit}", ", ".join(parts)))
    return lines


def _amount(number: Any, size: float) -> str:
    return f"{(number or 0) / size:,.6f}".rstrip("0").rstrip(".")


def age(when: Any, now: datetime | None = None) -> str:
    """How long ago an ISO time was, roughly."""
    try:
        past = datetime.fromisoformat(str(when))
    except ValueError:
        return ""
    seconds = ((now or datetime.now(UTC)) - past).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def short_time(when: Any) -> str:
    """An ISO time as the time of day in UTC, to the second."""
    try:
        return datetime.fromisoformat(str(when)).astimezone(UTC).strftime("%H:%M:%S")
    except ValueError:
        return ""


def lasted(start: Any, end: Any) -> str:
    """How long it was from one ISO time to another, in seconds."""
    try:
        seconds = datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))
    except ValueError:
        return ""
    return f"{max(0.0, seconds.total_seconds()):.1f}s"


def _detail(data: dict[str, Any]) -> str:
    error = data.get("error")
    if not isinstance(error, dict):
        return ""
    return str(error.get("detail") or error.get("title") or error.get("code") or "")
