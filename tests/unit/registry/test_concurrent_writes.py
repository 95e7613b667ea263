"""Pushes, deletions and garbage collections of a repository, while the names that a push has placed become durable."""

import asyncio
import threading
from collections.abc import Callable, Iterable
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

        def sync(path: Path, **options: Any) -> None:
            if self.directory not in path.parts or self.begun.is_set():
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

    def found(self: UndurableNames, paths: Iterable[Path]) -> list[Placed]:
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
    collected = partial(store._garbage.collect, APP, 0)
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
    FirstSync(directory, meanwhile=partial(store._garbage.delete_repository, APP)).install(monkeypatch)
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
