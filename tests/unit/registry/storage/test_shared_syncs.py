"""Pushes to one repository at the same time share the syncs of its directories, and nothing else."""

import asyncio
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tagferry.errors import Conflict
from tagferry.names import RepositoryName, Tag
from tagferry.registry.errors import MissingReference
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskFailed
from tests.support.images import SampleImage, image, index, push

APP = RepositoryName("org/app")
COUNT = 8


async def deleted_images(store: DiskStore, count: int = COUNT) -> list[SampleImage]:
    """Return images of which the repository has everything but the manifests."""
    await push(store, APP, image(seed="makes the directories"), Tag("kept"))
    images = [image(seed=str(number)) for number in range(count)]
    for sample in images:
        await push(store, APP, sample)
        await store.delete_manifest(APP, sample.digest)
    return images


def replace_sync(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None]) -> None:
    """Call a function before each sync, with the directory's name, or that of the file's directory and `/`."""
    fsync = os.fsync

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        before(path.name if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"{path.parent.name}/")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)


def start(store: DiskStore, images: list[SampleImage]) -> list[asyncio.Future[None]]:
    """Start a push of each image, to a tag of its own."""
    return [
        asyncio.ensure_future(store.put_manifest(APP, sample.manifest, Tag(f"v{number}")))
        for number, sample in enumerate(images)
    ]


async def tagged(store: DiskStore, images: list[SampleImage]) -> list[bool]:
    """Return for each image whether its tag exists; a tag always has its manifest."""
    found = [await store.head_manifest(APP, Tag(f"v{number}")) for number in range(len(images))]
    assert all(one in (None, sample.manifest.descriptor) for one, sample in zip(found, images, strict=True))
    return [one is not None for one in found]


async def test_pushes_of_the_same_time_sync_each_directory_once(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    images = await deleted_images(store)
    synced: Counter[str] = Counter()
    replace_sync(monkeypatch, lambda name: synced.update([name]))
    await asyncio.gather(*start(store, images))
    assert synced == {"temporary/": 2 * COUNT, "sha256": 1, "_tags": 1}
    assert all(await tagged(store, images))


async def test_pushes_that_come_during_the_syncs_of_others_share_the_next_ones(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
):
    images = await deleted_images(store)
    synced: Counter[str] = Counter()
    may_sync = threading.Event()

    def wait(name: str) -> None:
        assert may_sync.wait(60)
        synced.update([name])

    replace_sync(monkeypatch, wait)
    pushes = []
    for number in range(COUNT):
        pushes.append(asyncio.ensure_future(store.put_manifest(APP, images[number].manifest, Tag(f"v{number}"))))
        for _ in range(5):
            await asyncio.sleep(0)
    may_sync.set()
    await asyncio.gather(*pushes)
    # The first two did not wait for each other, and the other six waited for one of these.
    assert (synced["sha256"], synced["_tags"]) == (3, 3)
    assert all(await tagged(store, images))


@pytest.mark.parametrize("failing", ["sha256", "_tags"])
async def test_a_failed_sync_of_a_directory_fails_all_pushes_that_it_covers(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, failing: str
):
    images = await deleted_images(store)

    def fail(name: str) -> None:
        if name == failing:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        replace_sync(patched, fail)
        results = await asyncio.gather(*start(store, images), return_exceptions=True)
    assert [type(one) for one in results] == [DiskFailed] * COUNT
    assert not any(await tagged(store, images))
    await asyncio.gather(*start(store, images))
    assert all(await tagged(store, images))


async def test_a_failed_sync_of_a_file_fails_only_its_own_push(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    images = await deleted_images(store)
    first = threading.Lock()

    def fail(name: str) -> None:
        if name == "temporary/" and first.acquire(blocking=False):
            raise OSError(5, "Input/output error")

    replace_sync(monkeypatch, fail)
    results = await asyncio.gather(*start(store, images), return_exceptions=True)
    assert Counter(type(one) for one in results) == {DiskFailed: 1, type(None): COUNT - 1}
    assert await tagged(store, images) == [one is None for one in results]


async def test_a_refused_push_does_not_affect_the_others(store: DiskStore):
    images = await deleted_images(store)
    listing = index(image(seed="missing"))
    results = await asyncio.gather(
        *start(store, images),
        store.put_manifest(APP, listing.manifest, Tag("listing")),
        store.put_manifest(APP, images[0].manifest, Tag("kept"), override=False),
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [type(None)] * COUNT + [MissingReference, Conflict]
    assert all(await tagged(store, images))


async def test_a_cancelled_push_does_not_cancel_the_others(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    images = await deleted_images(store)
    begun, may_sync = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        begun.set()
        assert may_sync.wait(60)

    replace_sync(monkeypatch, wait)
    pushes = start(store, images)
    waiting = asyncio.ensure_future(store.put_manifest(APP, images[0].manifest, Tag("waiting")))
    assert await asyncio.to_thread(begun.wait, 60)
    for one in (pushes[0], waiting):
        one.cancel()
    may_sync.set()
    results = await asyncio.gather(*pushes, waiting, return_exceptions=True)
    assert [type(one) for one in results] == [
        asyncio.CancelledError,
        *[type(None)] * (COUNT - 1),
        asyncio.CancelledError,
    ]
    assert all((await tagged(store, images))[1:])


async def test_a_push_that_is_cancelled_before_it_begins_is_not_done(store: DiskStore):
    images = await deleted_images(store, 2)
    pushes = start(store, images)
    await asyncio.sleep(0)
    pushes[0].cancel()
    results = await asyncio.gather(*pushes, return_exceptions=True)
    assert [type(one) for one in results] == [asyncio.CancelledError, type(None)]
    assert await tagged(store, images) == [False, True]


async def test_many_pushes_at_the_same_time_are_all_done(store: DiskStore):
    images = await deleted_images(store, 50)
    await asyncio.gather(*start(store, images))
    assert all(await tagged(store, images))


async def test_pushes_of_the_same_manifest_at_the_same_time_are_all_done(store: DiskStore):
    (sample,) = await deleted_images(store, 1)
    await asyncio.gather(*(store.put_manifest(APP, sample.manifest, Tag(f"v{n}")) for n in range(COUNT)))
    found = [await store.head_manifest(APP, Tag(f"v{number}")) for number in range(COUNT)]
    assert found == [sample.manifest.descriptor] * COUNT
