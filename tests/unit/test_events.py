from structlog.testing import capture_logs

from tagferry import events
from tagferry.events import SparseEvents


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
    events._logged["test", "a connection was refused"] = (0.0, 41)
    with capture_logs() as logs:
        SparseEvents("test", seconds=0).warning("a connection was refused")
    assert logs[0]["times"] == 42
