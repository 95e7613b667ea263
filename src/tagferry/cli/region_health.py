"""The health of regions, as `tagferry region` prints it."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tagferry.cli.times import show_time
from tagferry.printable import printable

_COLORS = {"ok": "green"}


def health_table(regions: list[dict[str, Any]]) -> Table:
    """Return the table of regions of a server."""
    table = Table("region", "health", "since", "latency", "certificate expires", "paused since", box=None)
    for region in regions:
        health: Mapping[str, Any] = region.get("health") or {}
        table.add_row(
            _text(region["regionID"]),
            _state(health),
            _time(health.get("since")),
            _milliseconds(health.get("averageLatencySeconds")),
            _time(health.get("certificateExpiresAt")),
            _time(region.get("pausedSince")),
        )
    return table


def health_rows(details: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    """Yield the rows about a region and its health that are known, each with its meaning."""
    health: Mapping[str, Any] = details.get("health") or {}
    load: Mapping[str, Any] = details.get("load") or {}
    yield "registry", _text("embedded" if details.get("embedded") else details.get("url"))
    yield "health", _state(health)
    for meaning, value in (
        ("reason", _text(health.get("reason"))),
        ("since", _time(health.get("since"))),
        ("checked at", _time(health.get("checkedAt"))),
        ("latency, last", _milliseconds(health.get("latencySeconds"))),
        ("latency, average", _milliseconds(health.get("averageLatencySeconds"))),
        ("certificate expires at", _time(health.get("certificateExpiresAt"))),
        ("throttled until", _time(health.get("throttledUntil"))),
        ("disk", _disk(health)),
        ("paused since", _time(details.get("pausedSince"))),
        ("requests in progress", _text(f"{load['requests']} of {load['maxRequests']}" if load else "")),
    ):
        if value.plain:
            yield meaning, value


def _state(health: Mapping[str, Any]) -> Text:
    state = str(health.get("state", "unknown"))
    return Text(printable(state), style=_COLORS.get(state, "red" if health else ""))


def _time(moment: Any) -> Text:
    return Text(show_time(moment))


def _milliseconds(seconds: Any) -> Text:
    return Text(f"{seconds * 1000:.0f} ms" if isinstance(seconds, int | float) else "")


def _disk(health: Mapping[str, Any]) -> Text:
    free, total = health.get("diskFreeBytes"), health.get("diskTotalBytes")
    return Text(f"{decimal(free)} free of {decimal(total)}" if isinstance(free, int) and isinstance(total, int) else "")


def _text(value: Any) -> Text:
    return Text(printable(str(value or "")))
