"""The alerts and the dashboard use metrics and labels that exist, and every alert is tested and has a runbook."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tagferry.metrics import METRICS
from tools import dashboard

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
LABELS = {metric.name: {label.name for label in metric.label_set} for metric in METRICS}
OF_PROMETHEUS = {"job", "instance", "le", "__name__"}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts())
    yield from dashboard.queries()


def run(*arguments: str | Path) -> str:
    ran = subprocess.run(
        [*map(str, arguments)], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_names_metrics_that_exist_with_labels_that_they_have(query: str):
    used = re.findall(r"\b(tagferry_\w+)(?:\{([^}]*)\})?", query)
    assert used or re.search(r"\b(process_\w+|up)\{", query) or "__name__" in query
    for series, selector in used:
        name = re.sub(r"_(total|bucket|sum|count)$", "", series)
        assert name in LABELS, f"{series} is no metric"
        selected = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selector))
        assert selected <= LABELS[name] | OF_PROMETHEUS


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_groups_by_labels_of_its_metrics(query: str):
    names = [re.sub(r"_(total|bucket|sum|count)$", "", one) for one in re.findall(r"\b(tagferry_\w+)", query)]
    known = set().union(*(LABELS.get(name, set()) for name in names)) | OF_PROMETHEUS
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
        assert {label.strip() for label in group.split(",")} <= known


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_has_a_runbook_of_its_severity(rule: dict[str, Any]):
    page = (ROOT / "docs" / "alerts.md").read_text()
    name, severity = rule["alert"], rule["labels"]["severity"]
    assert f"\n## {name}\n\n*{severity}* · " in page
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"


def test_every_alert_is_tested():
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    tested = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert tested == {rule["alert"] for rule in alerts()}


def test_the_alerts_fire_and_end_as_tested(program: Callable[[str], str]):
    run(program("promtool"), "check", "rules", "alerts.yml")
    assert "SUCCESS" in run(program("promtool"), "test", "rules", "alerts_test.yml")


def test_the_dashboard_is_the_one_that_the_script_writes():
    written = json.loads(dashboard.FILE.read_text())
    assert written == dashboard.dashboard(), "write it again: python tools/dashboard.py"


def test_panels_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells


def test_prometheus_understands_the_queries_of_the_dashboard(program: Callable[[str], str], tmp_path: Path):
    rules = [
        {"record": f"panel:query{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(dashboard.queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(program("promtool"), "check", "rules", file)
