"""Metrics follow Prometheus's conventions, are documented, and are counted somewhere."""

import re
from functools import cache
from pathlib import Path

import pytest

import tagferry
from tagferry import metrics
from tagferry.metrics import METRICS
from tagferry.metrics.instruments import Counter, Gauge, Histogram
from tagferry.sync.jobs.model import EndReason, JobStatus
from tests.metrics_page import PAGE, written

SOURCE = Path(tagferry.__file__).parent
TESTS = Path(__file__).parents[2]
_FORBIDDEN = {"tag", "digest", "user", "name", "address", "path", "url", "error", "message"}


@cache
def texts(folder: Path, without: Path) -> list[str]:
    """Return the content of the Python files in a folder."""
    return [file.read_text("utf-8") for file in folder.rglob("*.py") if without not in file.parents]


def label_values(metric: Counter | Gauge | Histogram, name: str) -> tuple[str, ...]:
    (found,) = (label.values for label in metric.label_set if label.name == name)
    return found


def test_the_page_of_metrics_lists_every_metric_as_it_is():
    page = PAGE.read_text("utf-8")
    assert page == written(page), "docs/metrics.md is out of date; write it with: python -m tests.metrics_page"


def test_names_are_unique():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_follows_the_conventions(metric: Counter | Gauge | Histogram):
    assert re.fullmatch(r"tagferry(_[a-z]+)+", metric.name)
    assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket", "_created"))
    assert not re.search(r"_(milliseconds|ms|kb|mb|percent)\b", metric.name)
    if isinstance(metric, Histogram):
        assert metric.name.endswith(("_seconds", "_bytes"))
    assert metric.text.endswith(".")
    assert not re.search(r'[\\\n"]', metric.text), "it would have to be escaped"
    assert not _FORBIDDEN & set(metric.label_names)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_used_where_its_event_happens(metric: Counter | Gauge | Histogram):
    name = next(name for name, found in vars(metrics).items() if found is metric)
    # A line with nothing else is part of an import.
    use = re.compile(rf"\b{name}\b(?!,?$)", re.MULTILINE)

    users = [text for text in texts(SOURCE, SOURCE / "metrics") if use.search(text)]

    assert users, f"{name} is declared, but nothing counts it"


def test_the_reasons_of_jobs_are_those_of_the_metric_and_of_the_documentation():
    assert label_values(metrics.JOBS_ENDED, "reason") == tuple(EndReason)
    section = PAGE.read_text("utf-8").partition("## Reasons of jobs")[2]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(EndReason)


def test_the_final_states_of_jobs_are_those_of_the_metric():
    assert set(label_values(metrics.JOBS_ENDED, "status")) == {one for one in JobStatus if one.has_ended}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_has_a_test_in_which_it_changes(metric: Counter | Gauge | Histogram):
    name = next(name for name, found in vars(metrics).items() if found is metric)
    mention = re.compile(rf"\b({name}|{metric.name})(_total|_bucket|_count)?\b")

    assert any(map(mention.search, texts(TESTS, Path(__file__).parent))), f"no test mentions {metric.name}"
