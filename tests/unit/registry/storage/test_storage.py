"""Storage on disk: crashes, garbage collection, races."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tagferry.errors import Conflict, Corrupt, NotFound
from tagferry.metrics import GARBAGE_BLOBS, GARBAGE_BYTES
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage.store import DiskStore
from tests.support.images import blob, image, layer, listing_blobs, opening, push, read
from tests.support.metrics import growth

APP, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
DAY = 24 * 3600


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def make_old(path: Path, seconds: float = DAY + 60) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


async def repositories(store: DiskStore) -> list[str]:
    return [name async for name in store.list_repositories()]


async def test_unfinished_files_of_a_crash_are_invisible(store: DiskStore, tmp_path: Path) -> None:
    await push(store, APP, image(), Tag("v1"))
    draft = tmp_path / "region/temporary/half-written"
    draft.write_bytes(b"half a mani")
    upload = await store.uploads.start(OTHER)
    assert await repositories(store) == [APP]
    assert [tag async for tag in store.list_tags(APP)] == ["v1"]
    again = await DiskStore.open(tmp_path / "region")
    assert draft.exists()
    assert await again.uploads.size(OTHER, upload) == 0
    await again.close()


async def test_day_old_leftovers_are_removed_when_a_store_opens(store: DiskStore, tmp_path: Path) -> None:
    draft = tmp_path / "region/temporary/half-written"
    draft.write_bytes(b"half a mani")
    upload = await store.uploads.start(APP)
    make_old(draft)
    make_old(tmp_path / "region/repositories/org/app/_uploads" / upload)
    again = await DiskStore.open(tmp_path / "region")
    assert files(tmp_path / "region") == []
    with pytest.raises(NotFound):
        await again.uploads.size(APP, upload)
    await again.close()


async def test_a_referrer_whose_manifest_was_never_written_is_not_listed(store: DiskStore, tmp_path: Path) -> None:
    subject = image()
    orphan = image(seed="orphan", subject=subject.manifest)
    await push(store, APP, orphan)
    (tmp_path / "region/repositories/org/app/_manifests/sha256" / orphan.digest.encoded).unlink()
    assert await store.list_referrers(APP, subject.digest) == []


async def test_garbage_collection_deletes_the_entry_of_a_lost_referrer(store: DiskStore, tmp_path: Path) -> None:
    subject = image(seed="subject")
    vanished, present = image(seed="vanished", subject=subject.manifest), image(seed="p", subject=subject.manifest)
    for sample in (subject, vanished, present):
        await push(store, APP, sample)
    repository = tmp_path / "region/repositories/org/app"
    (repository / "_manifests/sha256" / vanished.digest.encoded).unlink()

    await store.garbage.collect(grace_seconds=0)

    assert [path.name for path in files(repository / "_referrers")] == [f"sha256-{present.digest.encoded}"]
    assert [one.digest for one in await store.list_referrers(APP, subject.digest)] == [present.digest]


async def test_a_failed_write_leaves_no_file(store: DiskStore, tmp_path: Path) -> None:
    content = layer("content")
    for wrong in (content[:-1], content + b"x", b"y" * len(content)):
        with pytest.raises(Corrupt):
            await store.write_blob(APP, blob(content), opening(wrong))
    assert files(tmp_path / "region") == []


async def test_garbage_collection_keeps_referenced_blobs(store: DiskStore, tmp_path: Path) -> None:
    sample = image(layer("needed"))
    await push(store, APP, sample, Tag("v1"))
    waste = layer("waste", 1000)
    await store.write_blob(APP, blob(waste), opening(waste))
    blobs, freed = growth(GARBAGE_BLOBS), growth(GARBAGE_BYTES)
    assert await store.garbage.collect(grace_seconds=0) == len(waste)
    assert (blobs(), freed()) == ({(store.name,): 1}, {(store.name,): len(waste)})
    assert await store.stat_blob(APP, blob(waste).digest) is None
    for digest, content in sample.all_blobs.items():
        assert await store.stat_blob(APP, digest) == len(content)


@pytest.mark.parametrize(
    "media_type", ["application/vnd.buildkit.cacheconfig.v0", "application/vnd.example.thing+json"]
)
async def test_garbage_collection_keeps_blobs_that_an_index_lists(store: DiskStore, media_type: str) -> None:
    sample = listing_blobs(b"listed", media_types=(media_type,))
    await push(store, APP, sample, Tag("v1"))
    assert await store.garbage.collect(grace_seconds=0) == 0
    assert await store.stat_blob(APP, Digest.of(b"listed")) == len(b"listed")
    await store.delete_manifest(APP, sample.digest)
    assert await store.garbage.collect(grace_seconds=0) == len(b"listed")


async def test_garbage_collection_spares_a_push_in_progress(store: DiskStore) -> None:
    content = layer("just arrived")
    await store.write_blob(APP, blob(content), opening(content))
    assert await store.garbage.collect(grace_seconds=60) == 0
    assert await store.stat_blob(APP, blob(content).digest) == len(content)


async def test_a_request_for_a_blob_restarts_its_grace_period(store: DiskStore, tmp_path: Path) -> None:
    content = layer("old")
    digest = blob(content).digest
    await store.write_blob(APP, blob(content), opening(content))
    make_old(tmp_path / "region/repositories/org/app/_blobs/sha256" / digest.encoded)
    assert await store.stat_blob(APP, digest) == len(content)
    assert await store.garbage.collect(grace_seconds=3600) == 0


async def test_bytes_are_freed_with_the_last_repository(store: DiskStore) -> None:
    content = layer("shared")
    await store.write_blob(APP, blob(content), opening(content))
    await store.write_blob(OTHER, blob(content), opening(content), mount_from=APP)
    await store.delete_blob(APP, blob(content).digest)
    assert await read(store, OTHER, blob(content)) == content
    assert await store.garbage.collect(grace_seconds=0) == len(content)


async def test_garbage_collection_clears_the_pool(store: DiskStore, tmp_path: Path) -> None:
    content = layer("shared")
    await store.write_blob(APP, blob(content), opening(content))
    (tmp_path / "region/repositories/org/app/_blobs/sha256" / blob(content).digest.encoded).unlink()
    assert await store.garbage.collect(grace_seconds=0) == len(content)
    assert files(tmp_path / "region") == []


async def test_a_damaged_manifest_stops_the_collection_of_its_repository(store: DiskStore, tmp_path: Path) -> None:
    sample = image()
    await push(store, APP, sample, Tag("v1"))
    (tmp_path / "region/repositories/org/app/_manifests/sha256" / sample.digest.encoded).write_bytes(b"x\ny")
    assert await store.garbage.collect(grace_seconds=0) == 0


async def test_an_emptied_repository_is_no_longer_listed(store: DiskStore, tmp_path: Path) -> None:
    inner = RepositoryName("org/app/inner")
    for repository in (APP, inner):
        sample = image(seed=repository)
        await push(store, repository, sample, Tag("v1"))
        await store.delete_manifest(repository, sample.digest)
    assert await repositories(store) == [APP, inner]
    await store.garbage.collect(grace_seconds=0)
    assert await repositories(store) == []
    assert list((tmp_path / "region/repositories").iterdir()) == []


async def test_concurrent_pushes_and_deletions_lose_no_blob(store: DiskStore) -> None:
    names = [RepositoryName(f"org/deep/{number}") for number in range(4)]

    async def churn(repository: RepositoryName) -> None:
        content = layer(f"of {repository}")
        for _ in range(15):
            await store.write_blob(repository, blob(content), opening(content))
            assert await read(store, repository, blob(content)) == content
            await store.delete_blob(repository, blob(content).digest)

    await asyncio.gather(*(churn(name) for name in names))
    assert await repositories(store) == []


async def test_of_concurrent_writes_without_override_the_first_one_wins(store: DiskStore) -> None:
    samples = [image(seed=str(number)) for number in range(8)]
    for sample in samples:
        await push(store, APP, sample)

    results = await asyncio.gather(
        *(store.put_manifest(APP, sample.manifest, Tag("v1"), override=False) for sample in samples),
        return_exceptions=True,
    )

    (winner,) = [sample for sample, result in zip(samples, results, strict=True) if result is None]
    assert [type(result) for result in results if result is not None] == [Conflict] * 7
    assert (await store.get_manifest(APP, Tag("v1"))).digest == winner.digest


async def test_concurrent_pushes_and_deletions_of_a_blob_keep_it_whole(store: DiskStore) -> None:
    content = layer("shared", 10_000)

    async def churn(repository: RepositoryName) -> None:
        for _ in range(15):
            await store.write_blob(repository, blob(content), opening(content))
            assert await read(store, repository, blob(content)) == content
            await store.delete_blob(repository, blob(content).digest)

    await asyncio.gather(*(churn(RepositoryName(f"org/r{number}")) for number in range(4)))


async def test_a_tag_has_the_time_of_its_last_write(store: DiskStore) -> None:
    before = time.time()
    await push(store, APP, image(), Tag("v1"))
    (record,) = await store.describe_tags(APP)
    assert record.updated is not None
    assert before - 1 <= record.updated.timestamp() <= time.time() + 1


async def test_two_cancelled_appends_do_not_disturb_an_upload(store: DiskStore) -> None:
    first = b"first" * 100_000
    upload = await store.uploads.start(APP)

    async def endless(taken: asyncio.Event) -> AsyncIterator[bytes]:
        yield first
        taken.set()
        await asyncio.Event().wait()

    for count in (1, 2):
        taken = asyncio.Event()
        task = asyncio.create_task(store.uploads.append(APP, upload, endless(taken)))
        await taken.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.uploads.size(APP, upload) == count * len(first)
    content = first * 2

    async def nothing() -> AsyncIterator[bytes]:
        for piece in list[bytes]():
            yield piece

    await store.uploads.finish(APP, upload, blob(content).digest, nothing())
    assert await read(store, APP, blob(content)) == content
