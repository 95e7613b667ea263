"""Write the dashboard for Grafana: `python tools/dashboard.py` writes `monitoring/dashboard.json`.

Change the panels here, not in Grafana. Queries select one installation by its job in Prometheus.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "monitoring" / "dashboard.json"

_WIDTH, _HEIGHT = 24, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_JOB, _REGION = 'job="$job"', 'job="$job",region=~"$region"'
_TARGET = 'job="$job",target_region=~"$region"'
_FAILED = 'status=~"failed|timeout"'


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: its title.
        queries: PromQL by the text of its legend.
        unit: Grafana's name of the unit.
        kind: `timeseries`, or `stat` for the newest value alone.
        width: of 24 columns.
        limits: the values from which on a `stat` is yellow and red; the smaller one is red if it comes last.
        says: what to look for.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    limits: tuple[float, float] | None = None
    says: str = ""


def _rate(metric: str, by: str, selected: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{selected}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, selected: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'{by},le', selected)})"


_FREE, _USED = (f"tagferry_region_disk_{kind}_bytes{{{_REGION}}}" for kind in ("free", "used"))

ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        Panel(
            "Open jobs",
            {"jobs": f"sum(tagferry_jobs{{{_TARGET}}})"},
            kind="stat",
            width=4,
        ),
        Panel(
            "Oldest waiting job",
            {"age": f"max(tagferry_oldest_waiting_job_seconds{{{_TARGET}}})"},
            unit="s",
            kind="stat",
            width=4,
            limits=(300, 900),
        ),
        Panel(
            "Failed in the last hour",
            {"jobs": f"sum(increase(tagferry_jobs_ended_total{{{_TARGET},{_FAILED}}}[1h]))"},
            kind="stat",
            width=4,
            limits=(1, 10),
        ),
        Panel(
            "Regions that answer",
            {"regions": f"min by (region) (tagferry_region_up{{{_REGION}}})"},
            kind="stat",
            width=4,
            limits=(1, 0.5),
            says="1: the last check succeeded; 0: it failed.",
        ),
        Panel(
            "Workers",
            {"{{state}}": f"sum by (state) (tagferry_workers{{{_JOB}}})"},
            kind="stat",
            width=4,
        ),
        Panel(
            "Versions",
            {"{{version}}": f"count by (version) (tagferry_build_info{{{_JOB}}})"},
            kind="stat",
            width=4,
        ),
    ],
    "Synchronization": [
        Panel(
            "Open jobs by state",
            {"{{target_region}} {{state}}": f"sum by (target_region, state) (tagferry_jobs{{{_TARGET}}})"},
        ),
        Panel(
            "Oldest waiting job",
            {"{{target_region}}": f"max by (target_region) (tagferry_oldest_waiting_job_seconds{{{_TARGET}}})"},
            unit="s",
        ),
        Panel(
            "Jobs ended",
            {"{{target_region}} {{status}}": _rate("tagferry_jobs_ended_total", "target_region, status", _TARGET)},
            unit="ops",
        ),
        Panel(
            "Failures by reason",
            {
                "{{target_region}} {{reason}}": _rate(
                    "tagferry_jobs_ended_total", "target_region, reason", f"{_TARGET},{_FAILED}"
                )
            },
            unit="ops",
        ),
        Panel(
            "Time in the queue, and of a copy (p95)",
            {
                "queue {{target_region}}": _quantile(0.95, "tagferry_job_queue_seconds", "target_region", _TARGET),
                "copy {{target_region}}": _quantile(
                    0.95, "tagferry_job_duration_seconds", "target_region", f'{_TARGET},status="success"'
                ),
            },
            unit="s",
        ),
        Panel(
            "Slots",
            {
                "used": f"sum(tagferry_worker_slots_used{{{_JOB}}})",
                "all": f"sum(tagferry_worker_slots{{{_JOB}}})",
            },
        ),
        Panel(
            "Bytes",
            {"{{region}} {{direction}}": _rate("tagferry_bytes_total", "region, direction", _REGION)},
            unit="Bps",
            width=12,
        ),
        Panel(
            "Blobs",
            {"{{target_region}} {{outcome}}": _rate("tagferry_blobs_total", "target_region, outcome", _TARGET)},
            unit="ops",
            width=12,
            says="Mounted and present blobs cost no transfer.",
        ),
    ],
    "Rules, triggers and retention": [
        Panel(
            "Open jobs of rules",
            {"rule {{rule}}": f"sum by (rule) (tagferry_rule_jobs{{{_JOB}}})"},
        ),
        Panel(
            "Since the last success of rules",
            {"rule {{rule}}": f"time() - max by (rule) (tagferry_rule_last_success_timestamp_seconds{{{_JOB}}})"},
            unit="s",
        ),
        Panel(
            "Webhooks and retention",
            {
                "webhook {{status}}": _rate("tagferry_webhook_deliveries_total", "status", _JOB),
                "pending webhooks": f"max(tagferry_webhook_deliveries_pending{{{_JOB}}})",
                "retention {{status}}": _rate("tagferry_retention_runs_total", "status", _JOB),
            },
        ),
    ],
    "Registries": [
        Panel(
            "Requests",
            {"{{region}} {{status}}": _rate("tagferry_registry_requests_total", "region, status", _REGION)},
            unit="reqps",
        ),
        Panel(
            "Time to the response (p95)",
            {"{{region}} {{method}}": _quantile(0.95, "tagferry_registry_request_seconds", "region, method", _REGION)},
            unit="s",
        ),
        Panel(
            "Throttling and retries",
            {
                "{{region}} waits": _rate("tagferry_registry_throttled_seconds_total", "region", _REGION),
                "{{region}} {{reason}}": _rate("tagferry_registry_retries_total", "region, reason", _REGION),
            },
        ),
        Panel(
            "Checks",
            {"{{region}}": f"max by (region) (tagferry_region_latency_seconds{{{_REGION}}})"},
            unit="s",
            says="The latency of the last check; nothing while it fails.",
        ),
        Panel(
            "Connections",
            {"{{region}} {{state}}": f"sum by (region, state) (tagferry_registry_connections{{{_REGION}}})"},
        ),
        Panel(
            "Certificates expire in",
            {
                "{{region}}": "min by (region) "
                f"(tagferry_region_certificate_expiry_timestamp_seconds{{{_REGION}}}) - time()"
            },
            unit="s",
        ),
    ],
    "Embedded registries": [
        Panel(
            "Requests",
            {"{{region}} {{operation}}": _rate("tagferry_embedded_requests_total", "region, operation", _REGION)},
            unit="reqps",
        ),
        Panel(
            "Bytes",
            {"{{region}} {{direction}}": _rate("tagferry_embedded_bytes_total", "region, direction", _REGION)},
            unit="Bps",
        ),
        Panel(
            "Free space",
            {"{{region}}": f"min by (region) ({_FREE} / ({_FREE} + {_USED}))"},
            unit="percentunit",
        ),
        Panel(
            "Upload sessions",
            {"{{region}}": f"sum by (region) (tagferry_embedded_upload_sessions{{{_REGION}}})"},
        ),
        Panel(
            "Collected garbage",
            {"{{region}}": _rate("tagferry_garbage_collected_bytes_total", "region", _REGION)},
            unit="Bps",
        ),
        Panel(
            "Damaged content",
            {"{{kind}}": f"sum by (kind) (increase(tagferry_damaged_content_total{{{_JOB}}}[1h]))"},
        ),
    ],
    "API, console and processes": [
        Panel(
            "Requests",
            {"{{route}} {{status}}": f"topk(12, {_rate('tagferry_http_requests_total', 'route, status', _JOB)})"},
            unit="reqps",
        ),
        Panel(
            "Time to the response (p95)",
            {"{{method}}": _quantile(0.95, "tagferry_http_request_seconds", "method", _JOB)},
            unit="s",
        ),
        Panel(
            "Failed logins and limits",
            {
                "failed logins": _rate("tagferry_login_failures_total", "job", _JOB),
                "locked": _rate("tagferry_lockouts_total", "job", _JOB),
                "limit {{bound}}": _rate("tagferry_bound_reached_total", "bound", _JOB),
            },
            unit="ops",
        ),
        Panel(
            "Database (p99), event loop",
            {
                "statement {{instance}}": _quantile(0.99, "tagferry_database_query_seconds", "instance", _JOB),
                "event loop {{instance}}": f"tagferry_event_loop_lag_seconds{{{_JOB}}}",
            },
            unit="s",
        ),
        Panel(
            "CPU",
            {"{{instance}}": f"rate(process_cpu_seconds_total{{{_JOB}}}[$__rate_interval])"},
            unit="percentunit",
        ),
        Panel("Memory", {"{{instance}}": f"process_resident_memory_bytes{{{_JOB}}}"}, unit="bytes"),
        Panel(
            "Background tasks that do not run",
            {"{{instance}} {{task}}": f"tagferry_background_task_running{{{_JOB}}} == 0"},
            width=12,
        ),
        Panel(
            "Database connections",
            {"{{instance}} {{state}}": f"tagferry_database_connections{{{_JOB}}}"},
            width=12,
        ),
    ],
}


def queries() -> Iterator[str]:
    """Yield all queries."""
    for panels in ROWS.values():
        for panel in panels:
            yield from panel.queries.values()


def dashboard() -> dict[str, Any]:
    """Return the document that Grafana imports."""
    return {
        "title": "tagferry",
        "uid": "tagferry",
        "schemaVersion": 39,
        "tags": ["tagferry"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "editable": True,
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("job", "Installation", "label_values(tagferry_build_info, job)"),
                _variable("region", "Region", f"label_values(tagferry_region_up{{{_JOB}}}, region)", includes_all=True),
            ]
        },
        "panels": _panels(),
    }


def _variable(name: str, label: str, query: str, *, includes_all: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": includes_all,
        "includeAll": includes_all,
        "allValue": ".*" if includes_all else None,
        "current": {"text": "All", "value": "$__all"} if includes_all else {},
    }


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    top = 0
    for title, panels in ROWS.items():
        made.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1}, "panels": []})
        top, left = top + 1, 0
        for panel in panels:
            height = _HEIGHT // 2 if panel.kind == "stat" else _HEIGHT
            if left + panel.width > _WIDTH:
                left, top = 0, top + height
            made.append(_panel(panel, {"x": left, "y": top, "w": panel.width, "h": height}))
            left += panel.width
        top += height
    return [{"id": number, **panel} for number, panel in enumerate(made, start=1)]


def _panel(panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    newest, all_at_once = {"reduceOptions": {"calcs": ["lastNotNull"]}}, {"tooltip": {"mode": "multi"}}
    if panel.limits is not None:
        defaults |= {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": _steps(panel.limits)}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": newest if panel.kind == "stat" else all_at_once,
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _steps(limits: tuple[float, float]) -> list[dict[str, Any]]:
    yellow, red = limits
    if red > yellow:
        return [_step(None, "green"), _step(yellow, "yellow"), _step(red, "red")]
    return [_step(None, "red"), _step(red, "yellow"), _step(yellow, "green")]


def _step(value: float | None, color: str) -> dict[str, Any]:
    return {"value": value, "color": color}


def main() -> None:
    """Write the file."""
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")


if __name__ == "__main__":
    main()
