from tagferry.copy.held_content import HeldContent
from tagferry.names import Digest
from tests.support.clock import Clock
from tests.support.memory_store import MemoryStore
from tests.unit.copy.stores import APP, COPY

HERE, THERE = MemoryStore("here"), MemoryStore("there")
FIRST, SECOND, THIRD = (Digest.of(content) for content in (b"1", b"2", b"3"))


def test_a_sighting_counts_for_its_store_and_repository_alone():
    known = HeldContent()
    known.add(HERE, APP, FIRST, 10)

    assert known.holds(HERE, APP, FIRST)
    assert not known.holds(THERE, APP, FIRST)
    assert not known.holds(HERE, COPY, FIRST)
    assert not known.holds(HERE, APP, SECOND)


def test_a_sighting_counts_for_a_minute_and_a_new_one_counts_anew():
    clock = Clock()
    known = HeldContent(clock=clock)
    known.add(HERE, APP, FIRST, 10)

    clock.now += 60
    assert known.holds(HERE, APP, FIRST)
    clock.now += 1
    assert not known.holds(HERE, APP, FIRST)

    known.add(HERE, APP, FIRST, 10)
    assert known.holds(HERE, APP, FIRST)


def test_the_oldest_sighting_makes_room_for_the_newest():
    known = HeldContent(limit=2)
    known.add(HERE, APP, FIRST, 10)
    known.add(HERE, APP, SECOND, 10)
    known.add(HERE, APP, FIRST, 10)
    known.add(HERE, APP, THIRD, 10)

    assert [known.holds(HERE, APP, digest) for digest in (FIRST, SECOND, THIRD)] == [True, False, True]


def test_a_repository_that_is_forgotten_takes_nothing_else_with_it():
    known = HeldContent()
    known.add(HERE, APP, FIRST, 10)
    known.add(HERE, APP, SECOND, 10)
    known.add(HERE, COPY, FIRST, 10)
    known.add(THERE, APP, FIRST, 10)

    known.forget(HERE, APP)

    assert not known.holds(HERE, APP, FIRST)
    assert not known.holds(HERE, APP, SECOND)
    assert known.holds(HERE, COPY, FIRST)
    assert known.holds(THERE, APP, FIRST)
    known.forget(HERE, APP)


def test_a_sighting_that_proves_nothing_saves_the_transfer_and_not_the_question():
    clock = Clock()
    known = HeldContent(clock=clock)

    known.add(HERE, APP, FIRST, 10, verified=False)
    assert known.holds(HERE, APP, FIRST)
    assert not known.is_verified(HERE, APP, FIRST, 10)

    known.add(HERE, APP, FIRST, 10)
    assert known.is_verified(HERE, APP, FIRST, 10)
    clock.now += 61
    assert not known.is_verified(HERE, APP, FIRST, 10)


def test_one_content_of_a_repository_can_be_forgotten():
    known = HeldContent()
    known.add(HERE, APP, FIRST, 10)
    known.add(HERE, APP, SECOND, 10)

    known.forget(HERE, APP, FIRST)
    known.forget(HERE, APP, THIRD)

    assert [known.holds(HERE, APP, digest) for digest in (FIRST, SECOND)] == [False, True]
