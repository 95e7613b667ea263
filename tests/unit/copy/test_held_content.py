from tagferry.copy.held_content import HeldContent
from tagferry.names import Digest
from tests.support.clock import Clock
from tests.support.memory_store import MemoryStore
from tests.unit.copy.stores import APP, COPY

HERE, THERE = MemoryStore("here"), MemoryStore("there")
FIRST, SECOND, THIRD = (Digest.of(content) for content in (b"1", b"2", b"3"))


def test_an_entry_applies_to_its_store_and_repository_only():
    held = HeldContent()
    held.add(HERE, APP, FIRST, 10)

    assert held.holds(HERE, APP, FIRST)
    assert not held.holds(THERE, APP, FIRST)
    assert not held.holds(HERE, COPY, FIRST)
    assert not held.holds(HERE, APP, SECOND)


def test_an_entry_is_valid_for_a_minute_and_can_be_renewed():
    clock = Clock()
    held = HeldContent(clock=clock)
    held.add(HERE, APP, FIRST, 10)

    clock.now += 60
    assert held.holds(HERE, APP, FIRST)
    clock.now += 1
    assert not held.holds(HERE, APP, FIRST)

    held.add(HERE, APP, FIRST, 10)
    assert held.holds(HERE, APP, FIRST)


def test_the_oldest_entry_is_evicted_first():
    held = HeldContent(limit=2)
    held.add(HERE, APP, FIRST, 10)
    held.add(HERE, APP, SECOND, 10)
    held.add(HERE, APP, FIRST, 10)
    held.add(HERE, APP, THIRD, 10)

    assert [held.holds(HERE, APP, digest) for digest in (FIRST, SECOND, THIRD)] == [True, False, True]


def test_forgetting_a_repository_leaves_other_repositories_and_stores():
    held = HeldContent()
    held.add(HERE, APP, FIRST, 10)
    held.add(HERE, APP, SECOND, 10)
    held.add(HERE, COPY, FIRST, 10)
    held.add(THERE, APP, FIRST, 10)

    held.forget(HERE, APP)

    assert not held.holds(HERE, APP, FIRST)
    assert not held.holds(HERE, APP, SECOND)
    assert held.holds(HERE, COPY, FIRST)
    assert held.holds(THERE, APP, FIRST)
    held.forget(HERE, APP)


def test_an_unverified_entry_saves_the_transfer_and_not_the_verification():
    clock = Clock()
    held = HeldContent(clock=clock)

    held.add(HERE, APP, FIRST, 10, verified=False)
    assert held.holds(HERE, APP, FIRST)
    assert not held.is_verified(HERE, APP, FIRST, 10)

    held.add(HERE, APP, FIRST, 10)
    assert held.is_verified(HERE, APP, FIRST, 10)
    clock.now += 61
    assert not held.is_verified(HERE, APP, FIRST, 10)


def test_single_content_of_a_repository_can_be_forgotten():
    held = HeldContent()
    held.add(HERE, APP, FIRST, 10)
    held.add(HERE, APP, SECOND, 10)

    held.forget(HERE, APP, FIRST)
    held.forget(HERE, APP, THIRD)

    assert [held.holds(HERE, APP, digest) for digest in (FIRST, SECOND)] == [False, True]
