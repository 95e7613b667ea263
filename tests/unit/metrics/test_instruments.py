"""Instruments count by addition, keep their series bounded, and are exported as the client library does it."""

import threading

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tagferry import metrics
from tagferry.metrics import instruments
from tagferry.metrics.exposition import OPEN_METRICS, TEXT, lines, page
from tagferry.metrics.instruments import OTHER, Counter, Gauge, Histogram, Label, Scope

KIND = Label("kind", "", values=("a", "b"))
NAME = Label("name", "", limit=2)


def test_a_counter_whose_labels_have_fixed_sets_starts_with_all_series():
    counter = Counter("things", "Things.", KIND)

    counter.labels(kind="a").inc(2)

    assert {labels: series.value for labels, series in counter.series()} == {("a",): 2, ("b",): 0}


def test_a_value_outside_of_a_fixed_set_counts_as_other():
    counter = Counter("things", "Things.", KIND)

    for _ in range(3):
        counter.labels(kind="PROPFIND").inc()

    assert dict(counter.series())[(OTHER,)].value == 3
    assert len(counter.series()) == 3


def test_values_beyond_the_limit_count_as_other():
    counter = Counter("things", "Things.", NAME)

    for name in ("one", "two", "three", "four", "one"):
        counter.labels(name=name).inc()

    assert {labels: series.value for labels, series in counter.series()} == {("one",): 2, ("two",): 1, (OTHER,): 2}


def test_a_metric_has_no_more_series_than_its_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(instruments, "MOST_SERIES", 4)
    counter = Counter("things", "Things.", Label("source", ""), Label("target", ""), KIND)

    for number in range(100):
        counter.labels(source=f"s{number}", target=f"t{number}", kind="ab"[number % 2]).inc()

    counts = {labels: series.value for labels, series in counter.series()}
    assert sum(counts.values()) == 100
    assert (counts[OTHER, OTHER, "a"], counts[OTHER, OTHER, "b"]) == (48, 48)
    assert len(counts) == 6


def test_a_gauge_shows_nothing_before_its_value_is_known():
    gauge = Gauge("level", "Level.")
    assert gauge.read() == []

    gauge.set(3)
    assert gauge.read() == [((), 3)]


def test_a_gauge_reads_its_source_only_while_it_is_open():
    gauge = Gauge("level", "Level.", KIND)

    with gauge.reading(lambda: [(("a",), 1.0)]):
        assert gauge.read() == [(("a",), 1.0)]
    assert gauge.read() == []


def test_replacing_a_gauge_removes_what_is_no_longer_there():
    gauge = Gauge("level", "Level.", KIND, scope=Scope.LEADER)
    gauge.replace({("a",): 1, ("b",): 2})

    gauge.replace({("b",): 3})

    assert gauge.read() == [(("b",), 3)]


@pytest.mark.parametrize(("amount", "bucket"), [(0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (2.1, 2), (float("inf"), 2)])
def test_a_histogram_counts_an_amount_in_the_first_bucket_that_holds_it(amount: float, bucket: int):
    histogram = Histogram("sizes", "Sizes.", bounds=(1.0, 2.0))

    histogram.observe(amount)

    [(_, series)] = histogram.series()
    assert series.counts.index(1) == bucket
    assert series.total == amount


def test_additions_of_several_threads_are_all_counted():
    counter = Counter("things", "Things.")

    def count() -> None:
        for _ in range(20_000):
            counter.inc()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [(_, series)] = counter.series()
    assert series.value == 80_000


@pytest.mark.parametrize(("kind", "parse"), [(TEXT, parse_text), (OPEN_METRICS, parse_open_metrics)])
def test_both_formats_have_every_metric(kind: str, parse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics.REPOSITORY_JOBS_ENDED, "is_enabled", True)
    metrics.DATABASE_SECONDS.observe(0.002)

    families = {family.name: family for family in parse(page(kind).decode())}

    assert {metric.name for metric in metrics.METRICS} <= set(families)
    assert "process_cpu_seconds" in families
    buckets = [one for one in families["tagferry_database_query_seconds"].samples if one.name.endswith("_bucket")]
    counts = [one.value for one in buckets]
    assert counts == sorted(counts)
    assert buckets[-1].labels["le"] == "+Inf"


STRANGE = 'a "quoted" value, with \\ and\na line break'


@pytest.mark.parametrize(
    ("is_open_metrics", "generate"),
    [(False, generate_latest), (True, openmetrics.generate_latest)],
    ids=["text", "open"],
)
def test_metrics_are_written_as_the_client_library_writes_them(is_open_metrics: bool, generate):
    free, kind = Label("free", ""), Label("kind", "", values=("a",))
    own = (
        Counter("t_things", "Things.", free, kind),
        Gauge("t_level", "Level.", free),
        Histogram("t_seconds", "Seconds.", kind, bounds=(0.1, 1, 2.5)),
    )
    theirs = CollectorRegistry()
    things = prometheus_client.Counter("t_things", "Things.", ["free", "kind"], registry=theirs)
    level = prometheus_client.Gauge("t_level", "Level.", ["free"], registry=theirs)
    seconds = prometheus_client.Histogram("t_seconds", "Seconds.", ["kind"], buckets=(0.1, 1, 2.5), registry=theirs)
    for value in (1, 2.5e17, 0.1):
        own[0].labels(free=STRANGE, kind="a").inc(value)
        things.labels(STRANGE, "a").inc(value)
    for value in (-1.5, float("inf")):
        own[1].labels(free=str(value)).set(value)
        level.labels(str(value)).set(value)
    for value in (0.1, 0.5, 99):
        own[2].labels(kind="a").observe(value)
        seconds.labels("a").observe(value)

    written = "".join(line for metric in own for line in lines(metric, is_open_metrics))

    expected = generate(theirs).decode().splitlines()
    assert written.splitlines() == [line for line in expected if "_created" not in line and line != "# EOF"]


def test_what_is_not_enabled_is_not_exported():
    assert "tagferry_repository_jobs_ended" not in page(TEXT).decode()
