"""Which of several clocks is wrong."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tagferry.diagnosis.clock import check_clock
from tagferry.diagnosis.model import Level

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def minutes(**differences: float) -> dict[str, timedelta]:
    return {name: timedelta(minutes=count) for name, count in differences.items()}


@pytest.mark.parametrize(
    ("differences", "level", "message"),
    [
        ({}, Level.OK, "the clock shows 2026-05-01 12:00 UTC; there is no other to compare with"),
        (minutes(a=0.2, b=-0.2), Level.OK, "the clock shows 2026-05-01 12:00 UTC, compared with a, b"),
        (minutes(a=20), Level.PROBLEM, "the clock of a is 20 minutes ahead of that of this machine"),
        (minutes(a=-3), Level.WARNING, "the clock of a is 3 minutes behind that of this machine"),
        (
            minutes(a=20, b=20.1, c=0),
            Level.PROBLEM,
            "the clock of this machine is 20 minutes slow, compared with a, b",
        ),
        (minutes(a=-20, b=-20), Level.PROBLEM, "the clock of this machine is 20 minutes fast, compared with a, b"),
        (minutes(a=20, b=0, c=0), Level.PROBLEM, "the clock of a is 20 minutes ahead of that of this machine"),
        (minutes(a=48 * 60), Level.PROBLEM, "the clock of a is 2 days ahead of that of this machine"),
    ],
)
def test_the_clock_that_differs_from_most_others_is_wrong(
    differences: dict[str, timedelta], level: Level, message: str
):
    (found,) = check_clock(differences, [], now=NOW)

    assert (found.level, found.message) == (level, message)
    assert bool(found.fix) is (level is not Level.OK)


def test_if_two_clocks_are_wrong_in_different_ways_each_is_named():
    found = check_clock(minutes(a=20, b=-20), [], now=NOW)

    assert [one.message for one in found] == [
        "the clock of a is 20 minutes ahead of that of this machine",
        "the clock of b is 20 minutes behind that of this machine",
    ]


def test_a_file_of_the_future_shows_that_the_clock_was_set_back(tmp_path: Path):
    file = tmp_path / "tagferry.db"
    file.touch()
    ahead = (NOW + timedelta(hours=5)).timestamp()
    os.utime(file, (ahead, ahead))

    (found,) = check_clock({}, [file, tmp_path / "missing"], now=NOW)

    assert found.level is Level.PROBLEM
    assert f'"{file}" was changed 5 hours in the future' in found.message


def test_a_recorded_time_of_the_future_shows_that_a_clock_is_wrong():
    (wrong,) = check_clock({}, [], recorded_at=NOW + timedelta(minutes=20), now=NOW)
    (right,) = check_clock({}, [], recorded_at=NOW - timedelta(minutes=20), now=NOW)

    assert (wrong.level, right.level) == (Level.PROBLEM, Level.OK)
    assert "20 minutes in the future" in wrong.message
