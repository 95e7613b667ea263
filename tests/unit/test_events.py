import pytest
from structlog.testing import capture_logs

from tagferry import events
from tagferry.events import SparseEvents, kind_of, report_repeated


def test_what_happens_often_is_logged_once_an_interval_with_a_count():
    sparse = SparseEvents("test", seconds=1000)
    with capture_logs() as logs:
        for number in range(100):
            sparse.warning("a connection was refused", address=number)
        sparse.warning("a head was too long")
    assert [(entry["event"], entry["times"]) for entry in logs] == [
        ("a connection was refused", 1),
        ("a head was too long", 1),
    ]
    assert logs[0]["address"] == 0


def test_the_next_line_counts_what_had_none():
    sparse = SparseEvents("test", seconds=1000)
    with capture_logs() as logs:
        for _ in range(42):
            sparse.warning("a connection was refused")
        events._logged["test", "a connection was refused", None].seconds = 0
        sparse.warning("a connection was refused")
    assert [entry["times"] for entry in logs] == [1, 42]


def test_what_had_no_line_is_counted_at_the_end_of_the_interval():
    sparse = SparseEvents("test", seconds=1000)
    with capture_logs() as logs:
        for number in range(5):
            sparse.warning("a connection was refused", address=number)
        report_repeated()
        assert len(logs) == 1
        events._logged["test", "a connection was refused", None].seconds = 0
        report_repeated()
        report_repeated()
    assert [(entry["times"], entry["address"], entry["log_level"]) for entry in logs] == [
        (1, 0, "warning"),
        (4, 4, "warning"),
    ]


def test_an_event_that_stopped_is_forgotten():
    sparse = SparseEvents("test", seconds=0)
    with capture_logs() as logs:
        sparse.warning("a connection was refused")
        report_repeated()
    assert (len(logs), events._logged) == (1, {})


def test_the_end_of_the_process_reports_the_rest():
    sparse = SparseEvents("test", seconds=1000)
    with capture_logs() as logs:
        for _ in range(3):
            sparse.info("a connection was refused")
        report_repeated(at_once=True)
    assert [entry["times"] for entry in logs] == [1, 2]


def test_events_of_different_regions_do_not_hide_each_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "_KEYS", 3)
    sparse = SparseEvents("test", seconds=1000)
    with capture_logs() as logs:
        for region in ("north", "south", "north", "east", "west", "center"):
            sparse.error("a region failed", key=region, region=region)
    assert [entry["region"] for entry in logs] == ["north", "south", "east", "west"]


def test_keys_are_forgotten_after_an_interval(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(events, "_KEYS", 2)
    monkeypatch.setattr("tagferry.events.time.monotonic", lambda: now)
    sparse = SparseEvents("test", seconds=60)
    with capture_logs() as logs:
        for region in ("north", "south", "east", "west"):
            sparse.error("a region failed", key=region, region=region)
        now += 60
        for region in ("west", "east", "north", "west"):
            sparse.error("a region failed", key=region, region=region)
    assert [(entry["region"], entry["times"]) for entry in logs] == [
        ("north", 1),
        ("south", 1),
        ("east", 1),
        ("west", 1),
        ("east", 1),
        ("north", 2),
    ]


def failure(kind: type[Exception]) -> Exception:
    try:
        raise kind("message")
    except Exception as error:
        return error


def test_errors_of_the_same_kind_come_from_the_same_line():
    assert kind_of(failure(ValueError)) == kind_of(failure(ValueError))
    assert kind_of(failure(ValueError)) != kind_of(failure(KeyError))
    assert kind_of(ValueError()) == kind_of(ValueError())
