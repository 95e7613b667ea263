"""The metrics of this process, for Prometheus.

The client library is imported on first use, since commands that need no metrics should start at once.
"""

from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge

M = TypeVar("M", bound="Counter | Gauge")

_METRICS: "list[Metric[Any]]" = []


@cache
def registry() -> "CollectorRegistry":
    """Return the registry of these metrics. The library's default registry, with metrics of Python, is not used."""
    from prometheus_client import CollectorRegistry

    found = CollectorRegistry()
    for metric in _METRICS:
        found.register(metric.loaded)
    return found


class Metric(Generic[M]):
    """A metric that is created on first use."""

    def __init__(self, make: Callable[[], M]) -> None:
        self._make = make
        _METRICS.append(self)

    @cached_property
    def loaded(self) -> M:
        """The client library's metric."""
        return self._make()

    def labels(self, **labels: str) -> M:
        """Return the metric with these labels."""
        # The library returns a metric of the same type.
        return cast("M", self.loaded.labels(**labels))


def _counter(name: str, documentation: str, labels: list[str]) -> "Metric[Counter]":
    def make() -> "Counter":
        from prometheus_client import Counter

        return Counter(name, documentation, labels, registry=None)

    return Metric(make)


def _gauge(name: str, documentation: str, labels: list[str]) -> "Metric[Gauge]":
    def make() -> "Gauge":
        from prometheus_client import Gauge

        return Gauge(name, documentation, labels, registry=None)

    return Metric(make)


BOUND_REACHED = _counter(
    "tagferry_bound_reached",
    "Requests, connections and content refused or ended because a limit was reached.",
    ["bound"],
)
"""The label is one of a fixed set of names, listed in `docs/limits.md`."""

AUDIT_RECORDS_LOST = _counter(
    "tagferry_audit_records_lost",
    "Audit records that were not written to the database. The audit log has them.",
    ["reason"],
)
"""The label is one of two sentences: too many records waited, or the process ended before they were written."""

DAMAGED_CONTENT = _counter(
    "tagferry_damaged_content",
    "Damaged content found in embedded registries.",
    ["kind"],
)
"""The label is the kind of content: `blob`, `manifest`, `tag` or `referrer`."""

RECORDS_REFUSED = _counter(
    "tagferry_records_refused",
    "Records that the database rejected or that could not be read, and that were skipped or marked as failed.",
    ["kind"],
)
"""The label is the kind of record: `job`, `job end`, `job progress`, `blob location`, `download count` or `audit
record`."""

TASK_FAILURES = _counter(
    "tagferry_background_task_failures",
    "Failures of a background task, after each of which it is restarted.",
    ["task"],
)
"""The label is the task's name, as in `/readyz`."""

TASK_RUNNING = _gauge(
    "tagferry_background_task_running",
    "1 while a background task runs, 0 while it waits for its restart.",
    ["task"],
)
"""The label is the task's name, as in `/readyz`."""

REGION_CERTIFICATE_EXPIRY = _gauge(
    "tagferry_region_certificate_expiry_timestamp_seconds",
    "When the TLS certificate of a region's registry expires, as Unix time, if this process checks the region.",
    ["region"],
)
"""The label is the id of a configured region."""

REGION_DISK_FREE = _gauge(
    "tagferry_region_disk_free_bytes",
    "Free bytes on the disk of an embedded registry of this process.",
    ["region"],
)
"""The label is the id of a configured region."""

REGION_LATENCY = _gauge(
    "tagferry_region_latency_seconds",
    "Seconds to the first byte of the last response of a region's registry, if this process checks the region.",
    ["region"],
)
"""The label is the id of a configured region."""

REGION_UP = _gauge(
    "tagferry_region_up",
    "1 if the last check of a region's registry succeeded, 0 if it failed, if this process checks the region.",
    ["region"],
)
"""The label is the id of a configured region."""

REGIONS_PAUSED = _gauge(
    "tagferry_region_paused",
    "1 while this process has paused the synchronizations of a region that does not answer.",
    ["region"],
)
"""The label is the id of a configured region."""
