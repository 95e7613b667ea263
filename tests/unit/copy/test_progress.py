"""The rate and remaining time of a copy, by a fake clock."""

import pytest

from tagferry.copy.progress import Progress, ProgressSnapshot, Transfer
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blob() -> Transfer:
    return Transfer(size=100_000)


@pytest.fixture
def progress(clock: Clock, blob: Transfer) -> Progress:
    progress = Progress(clock=clock)
    progress.begin([blob])
    return progress


def test_without_a_plan_the_rate_and_the_rest_are_unknown(clock: Clock):
    assert Progress(clock=clock).snapshot() == ProgressSnapshot(0, 0, bytes_per_second=None, seconds_left=None)


def test_a_rate_takes_half_a_second(progress: Progress, blob: Transfer, clock: Clock):
    blob.count(500)
    clock.now += 0.25
    assert progress.snapshot().bytes_per_second is None
    clock.now += 0.25
    assert progress.snapshot().bytes_per_second == 1000


def test_the_first_snapshot_has_the_rate_since_the_start(progress: Progress, blob: Transfer, clock: Clock):
    blob.count(20_000)
    clock.now += 20
    assert progress.snapshot() == ProgressSnapshot(1, 0, bytes_per_second=1000, seconds_left=80)


def test_later_snapshots_have_the_rate_of_the_last_seconds(progress: Progress, blob: Transfer, clock: Clock):
    for _ in range(20):
        blob.count(500)
        clock.now += 0.5
        progress.snapshot()
    for _ in range(10):
        blob.count(50)
        clock.now += 0.5
        progress.snapshot()

    assert progress.snapshot().bytes_per_second == pytest.approx(100)


def test_bytes_before_an_old_snapshot_do_not_count(progress: Progress, blob: Transfer, clock: Clock):
    blob.count(60_000)
    clock.now += 60
    progress.snapshot()
    blob.count(30)
    clock.now += 1
    assert progress.snapshot().bytes_per_second == 30


@pytest.mark.parametrize("pause", [0.01, 0.1, 0.49, 2.0, 7.0])
def test_a_steady_rate_does_not_depend_on_the_snapshot_interval(
    progress: Progress, blob: Transfer, clock: Clock, pause: float
):
    for _ in range(int(20 / pause) + 1):
        clock.now += pause
        blob.read += 1
        progress.snapshot()

    assert progress.snapshot().bytes_per_second == pytest.approx(1 / pause, rel=0.2)


def test_a_stalled_copy_has_no_remaining_time(progress: Progress, blob: Transfer, clock: Clock):
    blob.count(1000)
    clock.now += 1
    progress.snapshot()
    clock.now += 6
    assert progress.snapshot() == ProgressSnapshot(1, 0, bytes_per_second=0, seconds_left=None)


def test_a_restarted_transfer_raises_the_remaining_time_and_not_the_rate(
    progress: Progress, blob: Transfer, clock: Clock
):
    blob.count(10_000)
    clock.now += 10
    assert progress.snapshot().seconds_left == 90
    blob.position = 0
    blob.count(1000)
    clock.now += 1
    assert progress.snapshot() == ProgressSnapshot(1, 0, bytes_per_second=1000, seconds_left=99)


def test_mounted_blobs_are_done_and_do_not_count_for_the_rate(progress: Progress, blob: Transfer, clock: Clock):
    mounted = Transfer(size=900_000, is_held=True)
    progress.begin([blob, mounted])
    blob.count(1000)
    clock.now += 1
    assert progress.snapshot() == ProgressSnapshot(2, 1, bytes_per_second=1000, seconds_left=99)


def test_a_copy_that_joins_a_running_transfer_counts_the_rate_from_then_on(blob: Transfer, clock: Clock):
    blob.count(50_000)
    joined = Progress(clock=clock)
    joined.begin([blob])
    blob.count(1000)
    clock.now += 1
    assert joined.snapshot() == ProgressSnapshot(1, 0, bytes_per_second=1000, seconds_left=49)


def test_a_copy_with_all_its_blobs_has_no_seconds_left(progress: Progress, blob: Transfer, clock: Clock):
    blob.count(blob.size)
    blob.is_held = True
    clock.now += 1
    assert progress.snapshot() == ProgressSnapshot(1, 1, bytes_per_second=100_000, seconds_left=0)
