"""What this process counts, by the names and in the form of Prometheus.

The library is loaded with the first use, since a copy from the command line counts nothing and should begin at once.
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
    """Return everything that is counted here; the library's own default, which tells about Python, is left alone."""
    from prometheus_client import CollectorRegistry

    found = CollectorRegistry()
    for metric in _METRICS:
        found.register(metric.loaded)
    return found


class Metric(Generic[M]):
    """A metric of the library, which is made with its first use."""

    def __init__(self, make: Callable[[], M]) -> None:
        self._make = make
        _METRICS.append(self)

    @cached_property
    def loaded(self) -> M:
        """The library's metric."""
        return self._make()

    def labels(self, **labels: str) -> M:
        """The metric with these labels."""
        # The library gives a metric of the same kind.
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
    "How often a request, a connection or content was refused or ended because a bound was reached.",
    ["bound"],
)
"""Its label is one of a fixed set of names; `docs/limits.md` has them."""

DAMAGED_CONTENT = _counter(
    "tagferry_damaged_content",
    "How often stored content of an embedded registry was found damaged.",
    ["kind"],
)
"""By what it was: `blob`, `manifest`, `tag`, `referrer`."""

RECORDS_REFUSED = _counter(
    "tagferry_records_refused",
    "Records that the database could not take, or that could not be read, and that were left out or marked as failed.",
    ["kind"],
)
"""Its label is what the record is about: `job`, `job end`, `job progress`, `blob location`, `download count`."""

TASK_FAILURES = _counter(
    "tagferry_background_task_failures",
    "How often a background task failed; it is restarted.",
    ["task"],
)
"""Its label is the task's name, as `/readyz` shows it."""

TASK_RUNNING = _gauge(
    "tagferry_background_task_running",
    "Whether a background task runs now; 0 while it waits to be restarted.",
    ["task"],
)
"""Its label is the task's name, as `/readyz` shows it."""

REGIONS_PAUSED = _gauge(
    "tagferry_region_paused",
    "Whether this process lets the synchronizations of a region wait because the region does not answer.",
    ["region"],
)
"""Its label is a region of the configuration."""
