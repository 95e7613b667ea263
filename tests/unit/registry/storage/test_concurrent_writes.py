"""Pushes, deletions and garbage collections of a repository, while the names that a push has placed become durable."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tagferry.names import RepositoryName, Tag
from tagferry.registry.errors import MissingReference
from tagferry.registry.storage import syncing
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.syncing import Placed, UndurableNames
from tagferry.registry.storage.threads import DiskFailed
from tests.support.images import artifact, image, index, push

APP = RepositoryName("org/app")
V1 = Tag("v1")


@dataclass
class FirstSync:
    """The first sync of a directory with a given name, which waits in its thread.

    Attributes:
        directory: the name of the directory or of its parent.
        begun: set when it begins.
        may_end: to be set by the test.
        error: what it raises.
        meanwhile: called before it begins, in its thread.
    """

    directory: str
    begun: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)
    error: OSError | None = None
    meanwhile: Callable[[], object] | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        synced = vars(syncing)["sync_directory"]

        def sync(path: str, **options: Any) -> None:
            if self.directory not in Path(path).parts or self.begun.is_set():
                synced(path, **options)
                return
            self.begun.set()
            if self.meanwhile is not None:
                self.meanwhile()
            else:
                assert self.may_end.wait(60)
            if self.error is not None:
                raise self.error
            synced(path, **options)

        monkeypatch.setattr(syncing, "sync_directory", sync)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a write waits until what another one has placed is durable."""
    event, find = threading.Event(), UndurableNames.waiting

    def found(self: UndurableNames, paths: Iterable[str]) -> list[Placed]:
        placed = find(self, paths)
        if placed:
            event.set()
        return placed

    monkeypatch.setattr(UndurableNames, "waiting", found)
    return event


async def done_or_set(task: asyncio.Future[Any], event: threading.Event) -> None:
    """Return once the task is done or the event is set."""
    task.add_done_callback(lambda _: event.set())
    assert await asyncio.to_thread(event.wait, 60)


async def test_a_referrer_is_listed_although_garbage_was_collected_while_it_was_pushed(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
):
    await push(store, APP, sample := image(), V1)
    await push(store, APP, signature := artifact(subject=sample.manifest))
    await store.delete_manifest(APP, signature.digest)
    collected = partial(store.garbage._collect_in, APP, 0)
    FirstSync("_referrers", meanwhile=collected).install(monkeypatch)
    await store.put_manifest(APP, signature.manifest)
    assert await store.list_referrers(APP, sample.digest) == [signature.manifest.referrer_descriptor]


async def test_a_referrer_is_listed_although_it_was_deleted_while_it_was_pushed_again(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
):
    await push(store, APP, sample := image(), V1)
    await push(store, APP, signature := artifact(subject=sample.manifest))
    store._layout.manifest(APP, signature.digest).write_bytes(b"damaged")

    def delete() -> None:
        with store._lock(APP):
            store._manifests.delete(APP, signature.digest)

    FirstSync("_referrers", meanwhile=delete).install(monkeypatch)
    await store.put_manifest(APP, signature.manifest)
    assert await store.list_referrers(APP, sample.digest) == [signature.manifest.referrer_descriptor]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("fails", [False, True])
async def test_an_index_waits_until_its_manifests_are_durable(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, waiting: threading.Event, algorithm: str, *, fails: bool
):
    child = image(algorithm=algorithm)
    listing = index(child)
    await push(store, APP, listing)
    await store.delete_manifest(APP, listing.digest)
    await store.delete_manifest(APP, child.digest)
    first = FirstSync("_manifests", error=OSError(5, "Input/output error") if fails else None)
    first.install(monkeypatch)
    pushing = asyncio.ensure_future(store.put_manifest(APP, child.manifest))
    await asyncio.to_thread(first.begun.wait, 60)
    indexing = asyncio.ensure_future(store.put_manifest(APP, listing.manifest, V1))
    await done_or_set(indexing, waiting)
    first.may_end.set()
    results = await asyncio.gather(pushing, indexing, return_exceptions=True)
    assert [type(one) for one in results] == ([DiskFailed, MissingReference] if fails else [type(None)] * 2)
    described = await store.head_manifest(APP, V1), await store.head_manifest(APP, child.digest)
    assert described == ((None, None) if fails else (listing.manifest.descriptor, child.manifest.descriptor))


async def test_a_tag_waits_until_its_manifest_that_was_deleted_and_pushed_again_is_durable(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, waiting: threading.Event
):
    await push(store, APP, sample := image(), V1)
    await store.delete_manifest(APP, sample.digest)
    outer, inner = FirstSync("_manifests"), FirstSync("_manifests", error=OSError(5, "Input/output error"))
    inner.install(monkeypatch)
    outer.install(monkeypatch)
    first = asyncio.ensure_future(store.put_manifest(APP, sample.manifest, Tag("first")))
    await asyncio.to_thread(outer.begun.wait, 60)
    with store._lock(APP):
        store._manifests.delete(APP, sample.digest)
    second = asyncio.ensure_future(store.put_manifest(APP, sample.manifest))
    await asyncio.to_thread(inner.begun.wait, 60)
    outer.may_end.set()
    await done_or_set(first, waiting)
    inner.may_end.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(one) for one in results] == [type(None), DiskFailed]
    assert await store.head_manifest(APP, Tag("first")) == sample.manifest.descriptor


@pytest.mark.parametrize("directory", ["_referrers", "_manifests", "_tags"])
async def test_a_push_to_a_repository_that_is_deleted_meanwhile_is_before_or_after_the_deletion(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, directory: str
):
    await push(store, APP, sample := image(), V1)
    await push(store, APP, signature := artifact(subject=sample.manifest))
    await store.delete_manifest(APP, signature.digest)
    FirstSync(directory, meanwhile=partial(store._deletion.delete, APP)).install(monkeypatch)
    pushing = store.put_manifest(APP, signature.manifest, Tag("v2"))
    if directory == "_tags":
        await pushing
    else:
        # Its blobs are deleted, too.
        with pytest.raises(MissingReference):
            await pushing
    assert await store.head_manifest(APP, signature.digest) is None
    await push(store, APP, signature, Tag("v2"))
    assert await store.head_manifest(APP, Tag("v2")) == signature.manifest.descriptor


def script_syncs(monkeypatch: pytest.MonkeyPatch, directory: str, *steps: Callable[[], object]) -> None:
    """Call one step before each of the first syncs of a directory, in their threads."""
    left, fsync = list(steps), os.fsync

    def sync(descriptor: int) -> None:
        if left and Path(f"/proc/self/fd/{descriptor}").readlink().name == directory:
            left.pop(0)()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)


def fail() -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("other", ["tag", "manifest", "deletion"])
async def test_a_push_fails_if_the_system_reported_the_error_to_another_change(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, other: str
):
    await push(store, APP, stored := image(), V1)
    for new in (first := image(seed="first"), second := image(seed="second")):
        await push(store, APP, new)
        await store.delete_manifest(APP, new.digest)
    placed, may_end = threading.Event(), threading.Event()

    def wait() -> None:
        placed.set()
        assert may_end.wait(60)

    script_syncs(monkeypatch, "sha256" if other == "manifest" else "_tags", wait, fail)
    pushing = asyncio.ensure_future(store.put_manifest(APP, first.manifest, Tag("first")))
    assert await asyncio.to_thread(placed.wait, 60)
    if other == "deletion":
        changing = store.delete_manifest(APP, V1)
    else:
        changing = store.put_manifest(APP, (second if other == "manifest" else stored).manifest, Tag("other"))
    with pytest.raises(DiskFailed):
        await changing
    may_end.set()
    with pytest.raises(DiskFailed):
        await pushing
    assert await store.head_manifest(APP, Tag("first")) is None
    await store.put_manifest(APP, first.manifest, Tag("first"))
    assert await store.head_manifest(APP, Tag("first")) == first.manifest.descriptor


@pytest.mark.parametrize("deleted", ["tag", "manifest", "repository"])
async def test_a_deletion_fails_if_the_system_reported_the_error_to_a_push(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, deleted: str
):
    await push(store, APP, stored := image(), V1)
    await push(store, APP, new := image(seed="new"))
    await store.delete_manifest(APP, new.digest)
    placed, may_fail, failed, deleting, removing = (threading.Event() for _ in range(5))
    locking = store._manifest_writes._lock

    def fail_later() -> None:
        placed.set()
        assert may_fail.wait(60)
        failed.set()
        fail()

    def wait() -> None:
        deleting.set()
        assert removing.wait(60)

    def lock(repository: RepositoryName) -> AbstractContextManager[None]:
        # A push that has failed takes the lock, which the deletion holds, to remove its name.
        if failed.is_set():
            removing.set()
        return locking(repository)

    monkeypatch.setattr(store._manifest_writes, "_lock", lock)
    script_syncs(monkeypatch, "sha256" if deleted == "manifest" else "_tags", fail_later, wait)
    pushing = asyncio.ensure_future(store.put_manifest(APP, new.manifest, Tag("new")))
    assert await asyncio.to_thread(placed.wait, 60)
    if deleted == "repository":
        deletion = asyncio.ensure_future(store.delete_repository(APP))
    else:
        deletion = asyncio.ensure_future(store.delete_manifest(APP, V1 if deleted == "tag" else stored.digest))
    assert await asyncio.to_thread(deleting.wait, 60)
    may_fail.set()
    results = await asyncio.gather(pushing, deletion, return_exceptions=True)
    assert [type(one) for one in results] == [DiskFailed, DiskFailed]
