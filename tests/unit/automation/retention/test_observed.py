"""The tags of a repository are observed, in an embedded registry many at once."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tagferry import bounds
from tagferry.automation.retention.observed import observe
from tagferry.eventual import Progress
from tagferry.names import RepositoryName, Tag
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskThreads
from tests.support.images import artifact, image, index, push
from tests.support.memory_store import MemoryStore

APP = RepositoryName("team/app")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
MANY = 300


@pytest.fixture
async def disk(tmp_path: Path):
    store = await DiskStore.open(tmp_path)
    yield store
    await store.close()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The work that was given to the disk's threads."""
    given: list[object] = []
    run = DiskThreads.run

    def counted(self: DiskThreads, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        given.append(work)
        return run(self, work, *args, **options)

    monkeypatch.setattr(DiskThreads, "run", counted)
    return given


async def test_many_tags_of_an_embedded_registry_are_read_in_few_turns_of_a_thread(
    disk: DiskStore, turns: list[object]
):
    for number in range(MANY):
        await push(disk, APP, image(seed=f"{number}"), Tag(f"v{number}"))
    turns.clear()
    progress = Progress()

    seen = await observe(disk, APP, {}, now=NOW, progress=progress)

    assert len(seen) == MANY
    assert progress == Progress(MANY, MANY)
    # The tags, and for each part of 128 their manifests and their configs.
    assert len(turns) <= 1 + 2 * (MANY // 128 + 1)


async def test_what_exceeds_the_limits_of_one_read_is_read_alone(disk: DiskStore, monkeypatch: pytest.MonkeyPatch):
    for number in range(4):
        children = (image(seed=f"{number} {child}") for child in range(3))
        await push(disk, APP, index(*children), Tag(f"v{number}"))
    subject = await disk.get_manifest(APP, Tag("v0"))
    await push(disk, APP, artifact(subject=subject), Tag("signature"))
    monkeypatch.setattr(bounds, "LIST_REQUEST_MANIFESTS", 5)

    seen = await observe(disk, APP, {}, now=NOW)

    assert {record.tag: one.is_attached_artifact for record, one in seen.items()} == {
        **{Tag(f"v{number}"): False for number in range(4)},
        Tag("signature"): True,
    }


async def test_progress_is_counted_tag_by_tag_for_other_registries():
    store, progress = MemoryStore(), Progress()
    for number in range(3):
        await push(store, APP, image(seed=f"{number}"), Tag(f"v{number}"))
    first = await observe(store, APP, {}, now=NOW)
    await push(store, APP, image(seed="new"), Tag("new"))

    seen = await observe(store, APP, {record.tag: one for record, one in first.items()}, now=NOW, progress=progress)

    assert len(seen) == 4
    assert progress == Progress(4, 4)
