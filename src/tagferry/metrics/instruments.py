"""Counters, gauges and histograms whose use costs an addition; `exposition` reads them when Prometheus asks.

The client library's own instruments take a lock and import much, so they suit neither hot paths nor short commands. An
addition is not interrupted by another thread here: the interpreter switches threads at calls and jumps only.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import product
from typing import Generic, NamedTuple, TypeVar

MOST_SERIES = 10_000
"""The number of series of a metric after which further values, such as pairs of regions, count as one."""
OTHER = "other"
"""The value of a label for everything beyond its limit, or outside its set."""
_PREPARED = 64
"""The largest number of series that exist from the start, if all their labels have fixed sets."""

Labels = tuple[str, ...]
"""The values of a metric's labels, in their order."""
Source = Callable[[], Iterable[tuple[Labels, float]]]
"""Returns the current values of a gauge. It is called in a thread, so it must not change anything."""


class Scope(Enum):
    """Which processes export a metric, as the documentation says it."""

    PROCESS = "each process, for itself"
    LEADER = "the leader, for the database"
    CHECKER = "the process that checks the region"


class Label(NamedTuple):
    """A label of a metric.

    Attributes:
        name: its name.
        text: what its value is.
        values: the set of its values; empty if it is bounded otherwise.
        limit: the maximum number of distinct values; None if the configuration or the code bounds them.
    """

    name: str
    text: str
    values: tuple[str, ...] = ()
    limit: int | None = None


class CounterSeries:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add to it."""
        self.value += amount


class GaugeSeries:
    """A number that can go up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Replace it."""
        self.value = value


class HistogramSeries:
    """The distribution of some amounts.

    Attributes:
        counts: the number of amounts in each bucket, the last one without an upper bound.
        total: the sum of the amounts.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, amount: float) -> None:
        """Count an amount."""
        self.counts[bisect_left(self._bounds, amount)] += 1
        self.total += amount


Series = TypeVar("Series", CounterSeries, GaugeSeries, HistogramSeries)


class Instrument(Generic[Series]):
    """A metric with one series for each combination of its labels' values.

    Hot paths look their series up once, and keep it.

    Args:
        name: the name in the exposition.
        text: what it measures, in one sentence.
        labels: its labels.
        scope: which processes export it.

    Attributes:
        is_enabled: whether it is counted and exported; False only for what the configuration has to enable.
    """

    def __init__(self, name: str, text: str, *labels: Label, scope: Scope = Scope.PROCESS) -> None:
        self.name = name
        self.text = text
        self.label_set = labels
        self.scope = scope
        self.is_enabled = True
        self._series: dict[Labels, Series] = {}
        self._seen: dict[str, set[str]] = {label.name: set() for label in labels if label.limit is not None}
        combinations = list(product(*(label.values for label in labels)))
        if len(combinations) <= _PREPARED and scope is Scope.PROCESS:
            for values in combinations:
                self._series[values] = self._new()

    @property
    def label_names(self) -> Labels:
        """The names of its labels."""
        return tuple(label.name for label in self.label_set)

    def labels(self, **labels: str) -> Series:
        """Return the series with these labels' values."""
        return self.at(tuple(str(labels[name]) for name in self.label_names))

    def at(self, values: Labels) -> Series:
        """Return the series with these labels' values, in their order."""
        found = self._series.get(values)
        if found is None:
            allowed = tuple(map(self._allowed, self.label_set, values))
            if len(self._series) >= MOST_SERIES and allowed not in self._series:
                allowed = tuple(
                    value if label.values else OTHER for label, value in zip(self.label_set, allowed, strict=True)
                )
            found = self._series.get(allowed)
            if found is None:
                found = self._series[allowed] = self._new()
        return found

    def remove(self, **labels: str) -> None:
        """Export a series no longer."""
        self._series.pop(tuple(str(labels[name]) for name in self.label_names), None)

    def clear(self) -> None:
        """Export no series any longer."""
        self._series = {}

    def series(self) -> list[tuple[Labels, Series]]:
        """Return all series; safe in any thread."""
        return list(self._series.items())

    def _new(self) -> Series:
        raise NotImplementedError

    def _allowed(self, label: Label, value: str) -> str:
        """Return the value under which an unknown one is counted."""
        if label.values:
            return value if value in label.values else OTHER
        if label.limit is None:
            return value
        seen = self._seen[label.name]
        if value not in seen and len(seen) >= label.limit:
            return OTHER
        seen.add(value)
        return value


class Counter(Instrument[CounterSeries]):
    """A metric of numbers that only grow. The exposition adds `_total` to its name."""

    def inc(self, amount: float = 1) -> None:
        """Add to the only series of a counter without labels."""
        self._series[()].value += amount

    def _new(self) -> CounterSeries:
        return CounterSeries()


class Gauge(Instrument[GaugeSeries]):
    """A metric of numbers that go up and down."""

    def __init__(self, name: str, text: str, *labels: Label, scope: Scope = Scope.PROCESS) -> None:
        super().__init__(name, text, *labels, scope=scope)
        # A gauge is exported once its value is known.
        self._series = {}
        self._source: Source | None = None

    def set(self, value: float) -> None:
        """Replace the number of a gauge without labels."""
        self.at(()).value = value

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Replace all series at once."""
        series = {}
        for labels, value in values.items():
            series[labels] = GaugeSeries()
            series[labels].value = value
        self._series = series

    @contextmanager
    def reading(self, source: Source) -> Iterator[None]:
        """Export the values of a source while the context is open."""
        self._source = source
        try:
            yield
        finally:
            if self._source is source:
                self._source = None

    def read(self) -> list[tuple[Labels, float]]:
        """Return the current values of all series, in any thread."""
        values = [(labels, series.value) for labels, series in self.series()]
        return values if self._source is None else [*values, *self._source()]

    def _new(self) -> GaugeSeries:
        return GaugeSeries()


class Histogram(Instrument[HistogramSeries]):
    """A metric of distributions.

    Args:
        bounds: the upper bounds of its buckets, ascending, without infinity.
    """

    def __init__(
        self, name: str, text: str, *labels: Label, bounds: Sequence[float], scope: Scope = Scope.PROCESS
    ) -> None:
        self.bounds = tuple(bounds)
        super().__init__(name, text, *labels, scope=scope)

    def observe(self, amount: float) -> None:
        """Count an amount in the only series of a histogram without labels."""
        self._series[()].observe(amount)

    def _new(self) -> HistogramSeries:
        return HistogramSeries(self.bounds)
