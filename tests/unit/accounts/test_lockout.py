import pytest

from tagferry.accounts.lockout import Lockout
from tagferry.errors import Throttled
from tests.support.clock import Clock

HOME, AWAY = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def lockout(clock: Clock) -> Lockout:
    return Lockout(attempts=3, seconds=60, clock=clock)


def fail(lockout: Lockout, times: int, name: str = "carol", address: str = HOME) -> None:
    for _ in range(times):
        lockout.check(name, address)
        lockout.failed(name, address)


def test_one_failure_less_than_allowed_locks_nothing(lockout: Lockout):
    fail(lockout, 2)

    lockout.check("carol", HOME)


def test_too_many_failures_lock_and_tell_for_how_long(lockout: Lockout, clock: Clock):
    fail(lockout, 3)
    clock.now += 20

    with pytest.raises(Throttled, match="carol is locked after 3 failed authentications; try again in 40 s") as told:
        lockout.check("carol", HOME)

    assert told.value.retry_after == pytest.approx(40)


def test_the_lock_opens_when_its_time_has_passed_and_counting_begins_anew(lockout: Lockout, clock: Clock):
    fail(lockout, 3)
    clock.now += 59.9
    with pytest.raises(Throttled):
        lockout.check("carol", HOME)

    clock.now += 0.1
    lockout.check("carol", HOME)
    fail(lockout, 2)
    lockout.check("carol", HOME)


def test_failures_that_lie_far_apart_lock_nothing(lockout: Lockout, clock: Clock):
    for _ in range(10):
        fail(lockout, 1)
        clock.now += 60

    lockout.check("carol", HOME)


def test_each_failure_counts_for_the_whole_time_from_the_last(lockout: Lockout, clock: Clock):
    fail(lockout, 1)
    clock.now += 59
    fail(lockout, 1)
    clock.now += 59
    fail(lockout, 1)

    with pytest.raises(Throttled):
        lockout.check("carol", HOME)


def test_a_success_makes_up_for_the_failures(lockout: Lockout):
    fail(lockout, 2)
    lockout.succeeded("carol", HOME)
    fail(lockout, 2)

    lockout.check("carol", HOME)


def test_another_name_or_another_address_is_not_locked(lockout: Lockout):
    fail(lockout, 3)

    lockout.check("dave", HOME)
    lockout.check("carol", AWAY)


def test_a_lock_of_no_time_never_locks(clock: Clock):
    fail(Lockout(attempts=1, seconds=0, clock=clock), 5)


def test_a_single_attempt_can_be_all_there_is(clock: Clock):
    lockout = Lockout(attempts=1, seconds=60, clock=clock)
    fail(lockout, 1)

    with pytest.raises(Throttled):
        lockout.check("carol", HOME)


def test_only_so_many_names_are_remembered(lockout: Lockout, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.accounts.lockout._LIMIT", 2)
    fail(lockout, 3, "carol")
    fail(lockout, 3, "dave")
    fail(lockout, 3, "erin")

    lockout.check("carol", HOME)
    for name in ("dave", "erin"):
        with pytest.raises(Throttled):
            lockout.check(name, HOME)


def test_of_what_is_longer_than_any_name_the_beginning_is_kept(clock: Clock):
    lockout = Lockout(attempts=1, seconds=60, clock=clock)

    lockout.failed("x" * 1_000_000, HOME)

    with pytest.raises(Throttled) as locked:
        lockout.check("x" * 1_000_000, HOME)
    assert len(locked.value.message) < 200
    assert sum(len(claimed) for claimed, _ in lockout._failures) == 64
