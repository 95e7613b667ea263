"""`python -m bench.metrics`: what metrics cost.

- SAME and MANY, of the same server with metrics and without: each pair of runs has a server of its own, in turn. With
  metrics, `/metrics` is scraped every second, more often than anyone does. CPU is that of the server.
- The page of 200 regions whose every series exists: its bytes, its memory and the time to make it.
- What the counting of one request adds, in a loop of a process.
"""

import argparse
import gzip
import http.client
import os
import sys
import tempfile
import threading
import time
import timeit
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.client import RegistryClient
from bench.content import KIB, many_tags
from bench.cost.table import Sample, Table
from bench.measure import cpu_of
from bench.registries import docker_registry, free_address
from bench.served import ORGANIZATION, served
from tagferry import metrics
from tagferry.metrics.exposition import OPEN_METRICS, TEXT, page
from tagferry.metrics.instruments import Label
from tagferry.registry.api.counts import RegistryCounts as EmbeddedCounts
from tagferry.remote.transport.counts import RegistryCounts
from tests.support.processes import exit_on_signals

_TAGS = 100
_MANY, _SAME = f"MANY, {_TAGS} tags", f"SAME, {_TAGS} tags in place"
_SAME_RUNS = 10
_REGIONS = 200
_ROUTES = 150
_SCRAPE_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.metrics", description=__doc__)
    parser.add_argument("--pairs", type=int, default=9, help="samples of each (9)")
    parser.add_argument("--only", choices=("copies", "page", "counting"), help="measure only this")
    options = parser.parse_args(arguments)
    exit_on_signals()
    os.chdir(Path(__file__).parents[1])
    if options.only in (None, "copies"):
        print("before: without metrics; after: with metrics, scraped every second")
        _copies(options.pairs)
    if options.only in (None, "counting"):
        _counting()
    if options.only in (None, "page"):
        _page()
    return 0


def _copies(pairs: int) -> None:
    table = Table(pairs, ())
    with tempfile.TemporaryDirectory(prefix="tagferry-metrics-") as name:
        folder = Path(name)
        with docker_registry(folder / "source") as source:
            with RegistryClient(source.address) as client:
                images = many_tags(client, f"{ORGANIZATION}/many", tags=_TAGS, layer_size=500 * KIB)

            def once(metrics_listen: str) -> list[Sample]:
                with (
                    docker_registry(folder / "target") as target,
                    served(
                        folder / "server", (source.address, target.address), metrics_listen=metrics_listen
                    ) as server,
                    _scraping(metrics_listen),
                ):
                    samples = []
                    for times in (1, _SAME_RUNS):
                        used, begun = cpu_of(server.process_id), time.perf_counter()
                        for _ in range(times):
                            server.sync_images("many", images.tags)
                        cpu, wall = cpu_of(server.process_id) - used, time.perf_counter() - begun
                        samples.append((cpu / times, wall / times))
                    return samples

            table.measure((_MANY, _SAME), lambda: once(""), lambda: once(free_address()))


@contextmanager
def _scraping(address: str) -> Iterator[None]:
    """Scrape as Prometheus does while the context is open; the address is empty for none."""
    is_over = threading.Event()

    def scrape() -> None:
        headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
        connection = http.client.HTTPConnection(address, timeout=30)
        while not is_over.wait(_SCRAPE_SECONDS):
            connection.request("GET", "/metrics", headers=headers)
            response = connection.getresponse()
            if response.status != 200 or not response.read():
                raise RuntimeError(f"/metrics was answered {response.status}")
        connection.close()

    thread = threading.Thread(target=scrape, daemon=True) if address else None
    if thread is not None:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        if thread is not None:
            thread.join(30)


def _page() -> None:
    tracemalloc.start()
    series = fill(_REGIONS)
    held, _ = tracemalloc.get_traced_memory()
    print(f"\n{_REGIONS} regions, each with every series: {series:,} series, {held / 1e6:.1f} MB")
    for name, kind in (("text", TEXT), ("OpenMetrics", OPEN_METRICS)):
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        made = page(kind)
        _, peak = tracemalloc.get_traced_memory()
        print(
            f"  {name:12} {len(made) / 1e6:.2f} MB, compressed {len(gzip.compress(made, 1)) / 1e6:.2f} MB, "
            f"{(peak - before) / 1e6:.1f} MB of memory while it is made"
        )
    tracemalloc.stop()
    for name, kind in (("text", TEXT), ("OpenMetrics", OPEN_METRICS)):
        begun = time.process_time()
        page(kind)
        print(f"  {name:12} {time.process_time() - begun:.3f} s of CPU")


def fill(regions: int) -> int:
    """Create every series that this many regions can have; returns the number of samples' series."""
    names = [f"region-{number:03}" for number in range(regions)]
    for metric in metrics.METRICS:
        if metric.is_enabled:
            for values in _combinations(metric.label_set, names):
                metric.at(values)
    return sum(len(metric.series()) for metric in metrics.METRICS)


def _combinations(labels: Sequence[Label], regions: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the values of labels as they can occur: each region copies to the next one, and answers every method."""
    for index, region in enumerate(regions):
        combinations: list[tuple[str, ...]] = [()]
        for label in labels:
            if label.name in ("region", "target_region"):
                values = [region]
            elif label.name == "source_region":
                values = [regions[index - 1]]
            elif label.values:
                values = [value for value in label.values if value not in ("1xx", "OPTIONS")]
            elif label.name == "route":
                values = [f"/a/route/with/{{number}}/{index % _ROUTES}"]
            else:
                values = [str(index)]
            combinations = [(*before, value) for before in combinations for value in values]
        yield from combinations


def _counting() -> None:
    embedded, remote = EmbeddedCounts("region"), RegistryCounts("region")
    times = 200_000

    def served_once() -> None:
        embedded.answered(("GET", "manifest"), 200)
        embedded.sent.value += 1000

    print()
    for name, work in (
        ("request to an embedded registry", served_once),
        ("request to a registry", lambda: remote.answered("GET", 200, 0.01)),
        ("statement in the database", lambda: metrics.DATABASE_SECONDS.observe(0.002)),
    ):
        seconds = min(timeit.repeat(work, number=times, repeat=5)) / times
        print(f"counting a {name}: {seconds * 1e6:.2f} µs")


if __name__ == "__main__":
    sys.exit(main())
