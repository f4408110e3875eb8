"""Read exported spans and draw one trace as a tree.

The files are those of OCTARM_TRACE_EXPORT=file:<folder>: one JSON object a line.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from octarm.cli.text import clean
from octarm.common.telemetry import conventions

MAX_DEPTH = 50
BAR_CELLS = 24
SHOWN: Final = (
    (conventions.NAMES["attempt"], "attempt {}"),
    (conventions.NAMES["arm_id"], "{}"),
    (conventions.ERROR_TYPE, "{}"),
)


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a trace; times in ns since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    status: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    """Spans that led to it besides its parent: span_id, or trace_id-span_id."""

    @property
    def duration_ms(self) -> float:
        """How long it took, in ms."""
        return max(0, self.end_ns - self.start_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Frame:
    """What all spans of a tree are drawn in."""

    start_ns: int
    whole_ns: int
    spans: Mapping[str, Span]

    def befores(self, span: Span) -> Iterator[str]:
        """Name what a span came after, besides its parent: other traces, earlier attempts."""
        for link in span.links:
            if "-" in link:
                yield f"trace {link[:8]}"
            elif link != span.parent_id and (before := self.spans.get(link)):
                attempt = before.attributes.get(conventions.NAMES["attempt"])
                yield f"attempt {attempt}" if attempt else before.name


def read_spans(folder: Path, trace_id: str) -> list[Span]:
    """All spans of one trace, by start; half-written lines are left out."""
    if not trace_id:
        return []
    spans = {
        span.span_id: span
        for path in sorted(folder.glob("*.jsonl"))
        for span in _spans_in(path, trace_id)
    }
    return sorted(spans.values(), key=lambda span: (span.start_ns, span.span_id))


def _spans_in(path: Path, trace_id: str) -> Iterator[Span]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if trace_id in line and (span := _span(line)) and span.trace_id == trace_id:
                yield span


def _span(line: str) -> Span | None:
    try:
        row = json.loads(line)
        return Span(
            trace_id=str(row["trace_id"]),
            span_id=str(row["span_id"]),
            parent_id=str(row.get("parent_id") or ""),
            name=str(row["name"]),
            service=str(row.get("service", "")),
            start_ns=int(row["start_ns"]),
            end_ns=int(row["end_ns"]),
            status=str(row.get("status", "")),
            attributes=dict(row.get("attributes") or {}),
            links=tuple(str(link) for link in row.get("links") or ()),
        )
    except (ValueError, KeyError, TypeError):
        return None


def span_tree(title: str, spans: Iterable[Span]) -> Tree:
    """Draw spans below their parents; those whose parent is not there stand at the top."""
    ordered = list(spans)
    known = {span.span_id for span in ordered}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in ordered:
        children[span.parent_id if span.parent_id in known else ""].append(span)
    start = min((span.start_ns for span in ordered), default=0)
    whole = max((span.end_ns for span in ordered), default=start) - start
    tree = Tree(Text(clean(title)))
    _grow(tree, children, "", frame=Frame(start, whole, {it.span_id: it for it in ordered}))
    return tree


def _grow(
    tree: Tree,
    children: dict[str, list[Span]],
    parent: str,
    *,
    frame: Frame,
    depth: int = 0,
) -> None:
    for span in children.pop(parent, []) if depth < MAX_DEPTH else []:
        branch = tree.add(_label(span, frame))
        _grow(branch, children, span.span_id, frame=frame, depth=depth + 1)


def _label(span: Span, frame: Frame) -> Text:
    start, whole = frame.start_ns, frame.whole_ns
    # On a narrow terminal the bar is what gets cut.
    label = Text(f"{clean(span.name)}  ", no_wrap=True, overflow="crop")
    label.stylize("red" if span.status == "ERROR" else "")
    for name, words in SHOWN:
        if (value := span.attributes.get(name)) not in (None, ""):
            label.append(f"{words.format(clean(str(value)))}  ", style="dim")
    for before in frame.befores(span):
        label.append(f"after {clean(before)}  ", style="dim")
    label.append(f"{span.duration_ms:.1f} ms", style="bold")
    label.append(f"  +{(span.start_ns - start) / 1e6:.1f}  ", style="dim")
    label.append(_bar(span, start, whole), style="cyan")
    return label


def _bar(span: Span, start: int, whole: int) -> str:
    """Where in the trace the span lies, as a bar."""
    if whole <= 0:
        return ""
    first = int((span.start_ns - start) * BAR_CELLS / whole)
    last = max(first + 1, round((span.end_ns - start) * BAR_CELLS / whole))
    return ("·" * first + "█" * (last - first))[:BAR_CELLS].ljust(BAR_CELLS, "·")
