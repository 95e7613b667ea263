"""The page of the metrics of this process, in the formats that Prometheus reads.

The client library contributes the metrics of the process. The lines of all others are written here: the library took a
second of CPU and 50 MB of memory for a page with 200 busy regions, at every scrape.
"""

from collections.abc import Iterator
from functools import cache
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.utils import floatToGoString

from tagferry.metrics import METRICS
from tagferry.metrics.instruments import Counter, Gauge, Histogram, Labels

TEXT = CONTENT_TYPE_PLAIN_0_0_4
OPEN_METRICS = openmetrics.CONTENT_TYPE_LATEST
"""The content types of the two formats."""


def page(content_type: str) -> bytes:
    """Return the page of all metrics in the format of a content type; it can be called in any thread."""
    is_open_metrics = content_type == OPEN_METRICS
    own = "".join(line for metric in METRICS if metric.is_enabled for line in lines(metric, is_open_metrics))
    write = openmetrics.generate_latest if is_open_metrics else generate_latest
    process: bytes = write(_process())
    return own.encode() + process


def lines(metric: Counter | Gauge | Histogram, is_open_metrics: bool) -> Iterator[str]:
    """Yield the lines of a metric: its description, then its samples."""
    name, sampled, kind = metric.name, metric.name, type(metric).__name__.lower()
    if isinstance(metric, Counter):
        sampled = f"{name}_total"
        # OpenMetrics describes a counter without the ending of its samples.
        name = name if is_open_metrics else sampled
    yield f"# HELP {name} {metric.text}\n# TYPE {name} {kind}\n"
    if isinstance(metric, Histogram):
        yield from _of_histogram(metric)
        return
    values = metric.read() if isinstance(metric, Gauge) else [(at, series.value) for at, series in metric.series()]
    for labels, value in values:
        yield f"{sampled}{_braced(_pairs(metric.label_names, labels))} {_number(value)}\n"


def _of_histogram(metric: Histogram) -> Iterator[str]:
    bounds = [*map(_number, metric.bounds), "+Inf"]
    for labels, series in metric.series():
        pairs, total = _pairs(metric.label_names, labels), series.total
        begin = f"{metric.name}_bucket{{{pairs}{',' if pairs else ''}le="
        counts = list(accumulate(series.counts))
        for bound, count in zip(bounds, counts, strict=True):
            yield f'{begin}"{bound}"}} {count}.0\n'
        yield f"{metric.name}_count{_braced(pairs)} {counts[-1]}.0\n"
        yield f"{metric.name}_sum{_braced(pairs)} {_number(total)}\n"


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)])


def _number(value: float) -> str:
    shown: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return shown


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braced(pairs: str) -> str:
    return f"{{{pairs}}}" if pairs else ""


@cache
def _process() -> CollectorRegistry:
    """Return the registry of the metrics of the process. The library's default one is not used."""
    found = CollectorRegistry()
    ProcessCollector(registry=found)
    return found
