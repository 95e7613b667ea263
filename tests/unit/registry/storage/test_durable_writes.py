"""Writes take few switches to threads and few waits for the disk, and are complete and in order after any of them."""

import asyncio
import io
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tagferry.errors import Conflict, NotFound
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.errors import MissingReference
from tagferry.registry.storage.blobs import BlobFiles
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.syncing import Syncing
from tagferry.registry.storage.threads import DiskFailed, DiskThreads
from tests.support.images import SampleImage, artifact, blob, image, index, opening, push
from tests.unit.registry.conftest import Registry

APP = RepositoryName("org/app")
V1 = Tag("v1")
CONTENT = b"content " * 1280


@dataclass
class Waits:
    """The calls of disk threads and the synced files and directories, in the order of their ends."""

    hops: list[str] = field(default_factory=list)
    synced: list[str] = field(default_factory=list)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    counted = Waits()
    submit, fsync = DiskThreads.submit, os.fsync

    def submitted(self: DiskThreads, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        counted.hops.append(getattr(work, "__name__", str(work)))
        return submit(self, work, *args, **kwargs)

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        counted.synced.append(f"{path.name}/" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else path.parent.name)

    monkeypatch.setattr(DiskThreads, "submit", submitted)
    monkeypatch.setattr(os, "fsync", synced)
    return counted


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Barrier]:
    """A barrier at which two syncs must meet: fails unless they run at the same time."""
    barrier = threading.Barrier(2, timeout=60)
    yield barrier
    barrier.abort()


async def pushed(registry: Registry, content: bytes) -> Digest:
    """Push a blob in two requests, as most clients do; return its digest."""
    location, digest = await registry.start_upload(), Digest.of(content)
    async with registry.http.put(f"{location}?digest={digest}", data=content) as response:
        assert response.status == 201, await response.text()
    return digest


async def test_a_small_blob_takes_a_thread_for_each_request(registry: Registry, waits: Waits):
    await pushed(registry, b"makes the directories")
    waits.hops.clear()
    await pushed(registry, CONTENT)
    assert waits.hops == ["begin", "finish"]


async def test_a_small_blob_in_three_requests_takes_a_thread_for_each(registry: Registry, waits: Waits):
    await pushed(registry, b"makes the directories")
    waits.hops.clear()
    location = await registry.start_upload()
    async with registry.http.patch(location, data=CONTENT) as response:
        assert response.status == 202
    async with registry.http.put(f"{location}?digest={Digest.of(CONTENT)}") as response:
        assert response.status == 201, await response.text()
    assert waits.hops == ["begin", "_append_body", "finish"]


async def test_a_small_blob_is_synced_before_it_is_linked(registry: Registry, waits: Waits):
    digest = Digest.of(CONTENT)
    # Another blob in the same directory of the pool makes it.
    others = (Digest.of(b"%d" % number) for number in count())
    neighbor = next(n for n, other in enumerate(others) if other.encoded[:2] == digest.encoded[:2])
    await pushed(registry, b"%d" % neighbor)
    waits.synced.clear()
    await pushed(registry, CONTENT)
    assert waits.synced[0] == "_uploads"
    assert sorted(waits.synced[1:]) == sorted([f"{digest.encoded[:2]}/", "sha256/"])


async def test_a_manifest_with_a_tag_takes_one_thread_and_four_syncs_in_order(store: DiskStore, waits: Waits):
    await push(store, APP, image(seed="makes the directories"), V1)
    await push(store, APP, sample := image(seed="other"))
    await store.delete_manifest(APP, sample.digest)
    waits.hops.clear()
    waits.synced.clear()
    await store.put_manifest(APP, sample.manifest, V1)
    assert len(waits.hops) == 1
    assert waits.synced == ["temporary", "temporary", "sha256/", "_tags/"]


async def test_a_layer_that_a_manifest_repeats_is_looked_up_as_often_as_others(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
):
    await push(store, APP, sample := image(b"other", *[b"empty"] * 9))
    await store.delete_manifest(APP, sample.digest)
    looked_up: Counter[Digest] = Counter()
    find = BlobFiles.find

    def counted(self: BlobFiles, repository: RepositoryName, digest: Digest, **options: Any) -> os.stat_result | None:
        looked_up[digest] += 1
        return find(self, repository, digest, **options)

    monkeypatch.setattr(BlobFiles, "find", counted)
    await store.put_manifest(APP, sample.manifest, V1)
    assert looked_up.keys() == sample.blobs.keys()
    assert len(set(looked_up.values())) == 1


def open_below(directory: Path) -> list[str]:
    """Return the files below a directory that this process has open."""
    opened = map(os.path.realpath, Path("/proc/self/fd").iterdir())
    return [path for path in opened if path.startswith(f"{directory}/")]


async def test_a_failed_write_leaves_no_file_open(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    await push(store, APP, sample := image())
    await store.delete_manifest(APP, sample.digest)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFailed):
        await store.put_manifest(APP, sample.manifest, V1)
    assert not open_below(store_root(store))


@pytest.mark.parametrize(
    "sample", [image(), index(), artifact(subject=image().manifest)], ids=["image", "index", "artifact"]
)
async def test_a_manifest_that_is_refused_waits_for_no_disk(store: DiskStore, waits: Waits, sample: SampleImage):
    await push(store, APP, image(seed="first"), V1)
    waits.synced.clear()
    for _ in range(10):
        with pytest.raises(MissingReference):
            await store.put_manifest(APP, sample.manifest, V1)
    await push(store, APP, sample)
    waits.synced.clear()
    with pytest.raises(Conflict):
        await store.put_manifest(APP, sample.manifest, V1, override=False)

    assert waits.synced == []


async def test_the_files_of_a_manifest_and_its_tag_are_synced_at_once(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, meeting: threading.Barrier
):
    await push(store, APP, sample := image(), V1)
    await store.delete_manifest(APP, sample.digest)
    fsync = os.fsync

    def meet(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            meeting.wait()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meet)
    await store.put_manifest(APP, sample.manifest, V1)
    assert await store.head_manifest(APP, V1) == sample.manifest.descriptor


async def test_the_links_of_a_blob_are_synced_at_once(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, meeting: threading.Barrier
):
    await store.write_blob(APP, blob(CONTENT), opening(CONTENT))
    await store.delete_blob(APP, blob(CONTENT).digest)
    await store.garbage.collect(0)
    await store.write_blob(APP, blob(b"other"), opening(b"other"))
    layout, fsync = Layout(store_root(store)), os.fsync
    met = {layout.pooled(blob(CONTENT).digest).parent, layout.blob(APP, blob(CONTENT).digest).parent}
    layout.pooled(blob(CONTENT).digest).parent.mkdir(exist_ok=True)

    def meet(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() in met:
            meeting.wait()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meet)
    await store.write_blob(APP, blob(CONTENT), opening(CONTENT))
    assert await store.stat_blob(APP, blob(CONTENT).digest) == len(CONTENT)


def store_root(store: DiskStore) -> Path:
    return store._layout.root


async def test_a_small_body_that_ends_early_is_kept_and_continued(registry: Registry, waits: Waits):
    location = await registry.start_upload()

    async def half() -> Any:
        yield CONTENT[:5000]
        raise ConnectionError

    headers = {"Content-Length": str(len(CONTENT))}
    with pytest.raises(aiohttp.ClientError):
        await registry.http.patch(location, data=half(), headers=headers)

    async with registry.http.get(location) as response:
        assert response.headers["Range"] == "0-4999"
    rest, digest = io.BytesIO(CONTENT[5000:]), Digest.of(CONTENT)
    async with registry.http.put(f"{location}?digest={digest}", data=rest) as response:
        assert response.status == 201, await response.text()
    assert (await registry.get(f"/v2/{APP}/blobs/{digest}"))[1] == CONTENT


async def test_an_upload_that_was_cancelled_meanwhile_is_not_found(store: DiskStore):
    identifier = await store.uploads.start(APP)

    async def body() -> Any:
        yield CONTENT
        await store.uploads.cancel(APP, identifier)

    with pytest.raises(NotFound):
        await store.uploads.finish(APP, identifier, Digest.of(CONTENT), body(), announced=len(CONTENT))
    assert await store.stat_blob(APP, Digest.of(CONTENT)) is None


async def test_pushes_to_a_repository_wait_for_the_disk_at_the_same_time(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, meeting: threading.Barrier
):
    images = [image(seed=str(number)) for number in range(2)]
    for sample in images:
        await push(store, APP, sample)
        await store.delete_manifest(APP, sample.digest)
    fsync = os.fsync

    def meet(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name in ("_tags", "sha256"):
            meeting.wait()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", meet)
    writes = []
    for number, sample in enumerate(images):
        writes.append(asyncio.ensure_future(store.put_manifest(APP, sample.manifest, Tag(f"v{number}"))))
        # Pushes of one turn of the event loop share their syncs instead.
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.gather(*writes)
    for number, sample in enumerate(images):
        assert await store.head_manifest(APP, Tag(f"v{number}")) == sample.manifest.descriptor


async def test_a_push_does_not_rely_on_a_manifest_that_another_has_not_made_durable(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
):
    await push(store, APP, sample := image(), V1)
    await store.delete_manifest(APP, sample.digest)
    fsync, begun, may_fail = os.fsync, threading.Event(), threading.Event()

    def fail_first(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "sha256" and not begun.is_set():
            begun.set()
            may_fail.wait(60)
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_first)
    first = asyncio.ensure_future(store.put_manifest(APP, sample.manifest, Tag("first")))
    await asyncio.to_thread(begun.wait, 60)
    await store.put_manifest(APP, sample.manifest, Tag("second"))
    may_fail.set()
    with pytest.raises(DiskFailed):
        await first
    # The first one has not removed what the second one has stored.
    assert await store.head_manifest(APP, Tag("second")) == sample.manifest.descriptor
    assert await store.head_manifest(APP, Tag("first")) is None


@pytest.mark.parametrize("failing", ["temporary", "sha256/", "_tags/"])
@pytest.mark.parametrize("is_moved", [False, True])
async def test_a_manifest_that_may_not_be_durable_is_not_relied_on(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, failing: str, is_moved: bool
):
    """A tag is the old one or the new one, with its manifest, and the same push repairs what a failed one left."""
    await push(store, APP, old := image(seed="old"), V1)
    await push(store, APP, new := image(seed="new"))
    await store.delete_manifest(APP, new.digest)
    tag = V1 if is_moved else Tag("v2")
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if failing in (path.parent.name, f"{path.name}/"):
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(DiskFailed):
            await store.put_manifest(APP, new.manifest, tag)

    described = await store.head_manifest(APP, tag)
    assert described in (new.manifest.descriptor, old.manifest.descriptor if is_moved else None)
    assert (await store.get_manifest(APP, V1)).raw in (old.manifest.raw, new.manifest.raw)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    await store.put_manifest(APP, new.manifest, tag)
    # The manifest was durable before the tag was written; otherwise it was written again.
    assert len(synced) == (2 if failing == "_tags/" else 4)
    assert await store.head_manifest(APP, tag) == new.manifest.descriptor


def test_all_syncs_end_before_an_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    syncing, paths = Syncing(), [tmp_path / str(number) for number in range(4)]
    for path in paths:
        path.touch()
    ended: list[str] = []

    def fail(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        ended.append(name)
        if name in "13":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        syncing.sync(paths)
    syncing.close()
    assert sorted(ended) == ["0", "1", "2", "3"]
