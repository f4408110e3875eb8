"""Alerts and dashboards name what is really measured, and every alert says what to do."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from octarm.common.telemetry.metrics import METRICS
from tests.support.sources import ROOT

FOLDER = ROOT / "deploy/observability"
# Where `make promtool` puts it.
UNPACKED = ROOT / ".tools/prometheus/usr/bin"
RUNBOOKS = ROOT / "docs/runbooks"
KNOWN = {metric.name: metric for metric in METRICS}
SERIES = re.compile(r"\b(octarm_\w+?)(_bucket|_sum|_count)?(?:\{([^}]*)\})?(?=[\[)\s]|$)")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
# From the scrape and from histograms, not from us.
OTHERS = {"le", "service"}

ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    f"{path.stem}: {panel['title']}": panel["targets"][0]["expr"]
    for path in DASHBOARDS
    for panel in json.loads(path.read_text())["panels"]
}


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_that_is_named_is_measured_with_these_labels(where: str) -> None:
    expression = EXPRESSIONS[where]
    found = SERIES.findall(expression)

    assert found
    labels: set[str] = set()
    for name, suffix, matchers in found:
        metric = KNOWN[name]
        assert bool(suffix) == (metric.kind == "histogram"), name
        assert set(re.findall(r"(\w+)[=!]", matchers)) <= set(metric.labels), name
        if metric.kind == "counter":
            assert re.search(rf"(rate|increase)\({name}", expression), f"{name} only grows"
        labels |= set(metric.labels)
    for group in GROUPED.findall(expression):
        assert set(re.split(r",\s*", group)) <= labels | OTHERS


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_a_page_and_cases_on_both_sides(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    cases = [
        case["exp_alerts"]
        for test in yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == name
    ]
    page = ROOT / rule["annotations"]["runbook"]

    assert rule["labels"]["severity"] in ("page", "ticket")
    assert page == RUNBOOKS / f"{name}.md"
    text = page.read_text()
    assert all(part in text for part in (f"# {name}", "**What it means.**", "**Look**", "**Do**"))
    assert sorted(bool(expected) for expected in cases) == [False, True]


def test_no_page_is_for_an_alert_that_is_not_there() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("Octarm*.md")}

    assert pages == {rule["alert"] for rule in ALERTS}
    index = (RUNBOOKS / "README.md").read_text()
    assert all(f"[{page}]({page}.md)" in index for page in pages)


def test_the_commands_of_the_pages_are_there() -> None:
    said = {
        tuple(words.split())
        for path in RUNBOOKS.glob("Octarm*.md")
        for words in re.findall(r"`octarm ([a-z]+(?: [a-z]+)?)", path.read_text())
    }
    known = commands()

    assert said
    assert {words for words in said if words[:1] not in known and words not in known} == set()


def commands() -> set[tuple[str, ...]]:
    """Give every command as its words, groups among them with their commands only."""
    from typer.main import get_command

    from octarm.cli.__main__ import make_app

    found: set[tuple[str, ...]] = set()
    top: Any = get_command(make_app())
    for name, command in top.commands.items():
        below = getattr(command, "commands", {})
        found |= {(name, one) for one in below} or {(name,)}
    return found


def test_dashboards_are_of_one_kind() -> None:
    assert {path.stem for path in DASHBOARDS} == {
        "bus",
        "fleet",
        "memory",
        "scheduler",
        "task-flow",
    }
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        assert board["uid"] == f"octarm-{path.stem}"
        assert all(panel["datasource"]["uid"] == "prometheus" for panel in board["panels"])


@pytest.mark.parametrize("command", [("check", "alerts.yaml"), ("test", "alerts_test.yaml")])
def test_promtool_agrees(command: tuple[str, str]) -> None:
    promtool = shutil.which("promtool", path=f"{os.environ['PATH']}:{UNPACKED}")
    if promtool is None:
        pytest.skip("promtool is missing: run `make promtool`")
    done = subprocess.run(
        [promtool, command[0], "rules", command[1]],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
