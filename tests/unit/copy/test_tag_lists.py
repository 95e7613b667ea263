"""Lists of tags that a copy shares between its tags."""

from tagferry.copy.tag_lists import TagLists
from tagferry.names import RepositoryName, Tag
from tests.support.images import image, push
from tests.support.memory_store import MemoryStore

APP, V1, V2 = RepositoryName("team/app"), Tag("v1"), Tag("v2")


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_list_of_the_caller_is_used_while_it_is_fresh():
    clock, store = Clock(), MemoryStore("source")
    await push(store, APP, image(), V1)
    store.counts.clear()
    lists = TagLists(clock=clock)

    clock.now = 5.0
    lists.add(store, APP, [V1, V2], asked_at=0.0)
    clock.now = 10.0
    assert await lists.of(store, APP, holding=V1) == frozenset({V1, V2})
    assert store.counts["list_tags_within"] == 0
    clock.now = 10.1
    assert await lists.of(store, APP, holding=V1) == frozenset({V1})
    assert store.counts["list_tags_within"] == 1


def test_lists_of_many_repositories_are_forgotten():
    clock, store = Clock(), MemoryStore("source")
    lists = TagLists(clock=clock)
    for number in range(100):
        clock.now = number * 6.0
        lists.add(store, RepositoryName(f"team/app{number}"), [V1], asked_at=clock.now)
    assert len(lists._lists) == 2
