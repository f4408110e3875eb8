"""Spans that a test has exported to files."""

import json
from pathlib import Path
from typing import Any

from octarm.common.telemetry import tracing


def spans_in(folder: Path) -> list[dict[str, Any]]:
    """End the export, and give what it has written to a folder."""
    tracing.shutdown()
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]
