"""The counts of metrics while a test runs: other tests of the same process have counted before."""

from collections.abc import Callable

from tagferry.metrics import METRICS
from tagferry.metrics.instruments import Counter, Gauge, Histogram, Labels


def growth(metric: Counter | Histogram) -> Callable[[], dict[Labels, float]]:
    """Return a function that returns how much each series has grown since this call, without those that have not."""
    before = _values(metric)

    def grown() -> dict[Labels, float]:
        changes = {labels: value - before.get(labels, 0.0) for labels, value in _values(metric).items()}
        return {labels: change for labels, change in changes.items() if change}

    return grown


def sample(name: str, **labels: str) -> float | None:
    """Return the value of a counter or gauge as it is exported now, by its name there; None if it is not exported."""
    (metric,) = (one for one in METRICS if name in (one.name, f"{one.name}_total"))
    return _values(metric).get(tuple(str(labels[one]) for one in metric.label_names))


def _values(metric: Counter | Gauge | Histogram) -> dict[Labels, float]:
    if isinstance(metric, Histogram):
        return {labels: float(sum(series.counts)) for labels, series in metric.series()}
    if isinstance(metric, Gauge):
        return dict(metric.read())
    return {labels: series.value for labels, series in metric.series()}
