import pytest

from tagferry import bounds
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

    with pytest.raises(Throttled, match='"carol" is locked after 3 failed authentications; try again in 40 s') as told:
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


def test_made_up_names_from_other_addresses_open_no_lock(lockout: Lockout):
    fail(lockout, 3)
    for host in range(5):
        for number in range(bounds.LOCKED_NAMES + 5):
            lockout.failed(f"made-up-{number}", f"203.0.113.{host}")

    with pytest.raises(Throttled):
        lockout.check("carol", HOME)


def test_made_up_names_from_the_same_address_open_no_lock(lockout: Lockout):
    fail(lockout, 3)
    for number in range(1000):
        lockout.failed(f"made-up-{number}", HOME)

    with pytest.raises(Throttled):
        lockout.check("carol", HOME)
    assert len(lockout._sources[HOME, False]) == bounds.LOCKED_NAMES


def test_an_address_for_which_all_names_that_fit_are_locked_is_refused_further_ones_until_a_lock_ends(
    lockout: Lockout, clock: Clock
):
    for number in range(bounds.LOCKED_NAMES):
        lockout.check(f"name-{number}", HOME)
        fail(lockout, 3, f"name-{number}")
        clock.now += 1

    with pytest.raises(Throttled, match=f"20 names are locked for {HOME} .* try again in 40 s") as refused:
        lockout.check("carol", HOME)
    assert refused.value.retry_after == pytest.approx(40)
    lockout.check("carol", AWAY)
    clock.now += 40
    lockout.check("carol", HOME)
    fail(lockout, 3)
    with pytest.raises(Throttled):
        lockout.check("name-1", HOME)


def test_access_keys_do_not_use_up_the_room_for_names_and_a_further_one_is_always_taken(lockout: Lockout):
    for number in range(bounds.LOCKED_NAMES + 1):
        for _ in range(3):
            lockout.check(f"AK{number}", HOME, is_key=True)
            lockout.failed(f"AK{number}", HOME, is_key=True)

    lockout.check("AK0", HOME, is_key=True)
    lockout.check("AKNEW", HOME, is_key=True)
    lockout.check("carol", HOME)
    with pytest.raises(Throttled):
        lockout.check("AK1", HOME, is_key=True)


def test_only_so_many_addresses_are_remembered_and_those_with_a_lock_the_longest(
    lockout: Lockout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.bounds.LOCKOUT_ADDRESSES", 3)
    fail(lockout, 3, address=HOME)
    for host in range(10):
        fail(lockout, 2, address=f"203.0.113.{host}")

    assert len(lockout._sources) == 3
    with pytest.raises(Throttled):
        lockout.check("carol", HOME)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth0"),
    ],
)
def test_addresses_of_one_machine_count_as_one(lockout: Lockout, first: str, second: str):
    fail(lockout, 3, address=first)

    with pytest.raises(Throttled):
        lockout.check("carol", second)
    lockout.check("carol", "2001:db8:1:3::1")
    lockout.check("carol", "192.0.2.2")


def test_an_address_is_suspect_while_a_failure_counts(lockout: Lockout, clock: Clock):
    assert not lockout.is_suspect(HOME)
    fail(lockout, 1)

    assert lockout.is_suspect(HOME)
    assert not lockout.is_suspect(AWAY)
    clock.now += 60
    assert not lockout.is_suspect(HOME)


def test_of_what_is_longer_than_any_name_the_beginning_is_kept(clock: Clock):
    lockout = Lockout(attempts=1, seconds=60, clock=clock)

    lockout.failed("x" * 1_000_000, HOME)

    with pytest.raises(Throttled) as locked:
        lockout.check("x" * 1_000_000, HOME)
    assert len(locked.value.message) < 200
    assert list(lockout._sources[HOME, False]) == ["x" * 64]


def test_failures_reported_by_another_process_do_not_add_to_expired_ones(lockout: Lockout, clock: Clock):
    for _ in range(3):
        lockout.count_failure("carol", HOME)
        lockout.count_failure("dave", HOME)
        clock.now += 61

    lockout.check("carol", HOME)


def test_a_name_reported_by_another_process_evicts_no_lock(lockout: Lockout):
    names = [f"name {number}" for number in range(bounds.LOCKED_NAMES)]
    for name in names:
        fail(lockout, 3, name)
    lockout.count_failure("another", HOME)

    for name in names:
        with pytest.raises(Throttled, match=f'"{name}" is locked'):
            lockout.check(name, HOME)
