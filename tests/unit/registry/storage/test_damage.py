"""Damaged content is never served, counts as missing, and is repaired when it is sent again."""

import asyncio
import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Verdict
from tagferry.copy.rewrite import Acceptance
from tagferry.copy.route import Route
from tagferry.errors import Corrupt, NotFound, Unavailable
from tagferry.metrics import DAMAGED_CONTENT
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import BlobOutcome
from tagferry.oci.model import OCI_MANIFEST, Descriptor
from tagferry.registry.storage import integrity
from tagferry.registry.storage.integrity import is_marked
from tagferry.registry.storage.store import DiskStore
from tests.support.images import SampleImage, artifact, blob, image, index, layer, opening, push, read
from tests.support.metrics import growth
from tests.unit.registry.conftest import Registry

APP, OTHER = RepositoryName("org/app"), RepositoryName("org/other")
SMALL = b"a small blob " * 100
Damaging = Callable[[Path], None]
LARGE = bytes(range(256)) * 12_000  # more than a small blob, three chunks


def flip(path: Path, position: int = -1) -> None:
    """Flip a bit as a faulty disk does, keeping the size and modification time of the file."""
    before = path.stat()
    clock = path.with_name("clock")
    while not clock.exists() or clock.stat().st_ctime_ns <= before.st_ctime_ns:
        # The kernel's clock may tick more slowly than the test runs.
        clock.write_bytes(b"")
    clock.unlink()
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def drop(path: Path) -> None:
    """Empty the file, as a file system that lost its content does."""
    os.truncate(path, 0)


def pooled(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.encoded[:2] / digest.encoded


def manifest_file(root: Path, digest: Digest, repository: str = APP) -> Path:
    return root / "repositories" / repository / "_manifests" / digest.algorithm / digest.encoded


async def restarted(store: DiskStore, root: Path) -> DiskStore:
    await store.close()
    return await DiskStore.open(root)


@pytest.mark.parametrize("damage", [flip, cut, drop])
async def test_a_damaged_small_blob_is_missing_in_every_interface(registry: Registry, damage: Damaging) -> None:
    digest = await registry.push_blob(SMALL)
    await registry.push_blob(SMALL, "org/other")
    damage(pooled(registry.root, digest))
    found = growth(DAMAGED_CONTENT)

    for repository in (APP, OTHER):
        async with registry.http.head(f"/v2/{repository}/blobs/{digest}") as response:
            assert response.status == 404
        assert (await registry.get(f"/v2/{repository}/blobs/{digest}"))[0].status == 404
        assert (await registry.get(f"/v2/{repository}/blobs/{digest}", Range="bytes=0-0"))[0].status == 404
    async with registry.http.post(f"/v2/org/third/blobs/uploads/?mount={digest}&from={APP}") as response:
        assert response.status == 202
    assert set(found()) == {("blob",)}


@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize("damage", [flip, cut, drop])
async def test_pushing_the_content_again_repairs_every_repository(
    registry: Registry, damage: Damaging, content: bytes
) -> None:
    digest = await registry.push_blob(content)
    await registry.push_blob(content, "org/other")
    damage(pooled(registry.root, digest))

    await registry.push_blob(content)

    for repository in (APP, OTHER):
        response, body = await registry.get(f"/v2/{repository}/blobs/{digest}")
        assert (response.status, body) == (200, content)
    members = [registry.root / "repositories" / name / "_blobs/sha256" / digest.encoded for name in (APP, OTHER)]
    assert {path.stat().st_ino for path in members} == {pooled(registry.root, digest).stat().st_ino}


async def test_a_damaged_large_blob_is_never_sent_whole_and_then_missing(registry: Registry) -> None:
    digest = await registry.push_blob(LARGE)
    flip(pooled(registry.root, digest), 0)

    with pytest.raises(aiohttp.ClientError):
        await registry.get(f"/v2/org/app/blobs/{digest}")

    async with registry.http.head(f"/v2/org/app/blobs/{digest}") as response:
        assert response.status == 404


@pytest.mark.parametrize("damage", [cut, drop])
async def test_a_large_blob_of_another_size_is_missing(registry: Registry, damage: Damaging) -> None:
    digest = await registry.push_blob(LARGE)
    damage(pooled(registry.root, digest))
    async with registry.http.head(f"/v2/org/app/blobs/{digest}") as response:
        assert response.status == 404


@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize("damage", [flip, cut, drop])
async def test_a_synchronization_sends_damaged_content_again(
    store: DiskStore, tmp_path: Path, damage: Damaging, content: bytes
) -> None:
    root, wanted = tmp_path / "region", blob(content)
    await store.write_blob(APP, wanted, opening(content))
    damage(pooled(root, wanted.digest))
    store = await restarted(store, root)

    assert await store.write_blob(APP, wanted, opening(content)) is BlobOutcome.UPLOADED
    assert await read(store, APP, wanted) == content
    assert await store.write_blob(APP, wanted, opening(content)) is BlobOutcome.PRESENT
    await store.close()


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_a_synchronization_does_not_mount_damaged_blobs(store: DiskStore, tmp_path: Path, content: bytes) -> None:
    wanted = blob(content)
    await store.write_blob(APP, wanted, opening(content))
    flip(pooled(tmp_path / "region", wanted.digest))

    outcome = await store.write_blob(OTHER, wanted, opening(content), mount_from=APP)

    assert outcome is BlobOutcome.UPLOADED
    assert await read(store, OTHER, wanted) == content
    assert await read(store, APP, wanted) == content


async def test_a_mark_survives_the_process_and_is_visible_to_others(store: DiskStore, tmp_path: Path) -> None:
    root, wanted = tmp_path / "region", blob(LARGE)
    await store.write_blob(APP, wanted, opening(LARGE))
    other = await DiskStore.open(root)
    assert await other.stat_blob(APP, wanted.digest) == len(LARGE)
    flip(pooled(root, wanted.digest))
    with pytest.raises(Exception, match="digest"):
        await read(store, APP, wanted)

    assert is_marked(pooled(root, wanted.digest).stat())
    assert await other.stat_blob(APP, wanted.digest) is None
    assert await other.write_blob(OTHER, wanted, opening(LARGE)) is BlobOutcome.UPLOADED
    assert await store.stat_blob(APP, wanted.digest) == len(LARGE)
    await other.close()


async def test_a_manifest_with_a_damaged_blob_is_refused_until_the_blob_is_sent_again(registry: Registry) -> None:
    sample = image(LARGE)
    for content in sample.blobs.values():
        await registry.push_blob(content)
    cut(pooled(registry.root, Digest.of(LARGE)))

    response, body = await registry.put_manifest(sample.manifest.raw, OCI_MANIFEST, "v1")
    assert (response.status, b"MANIFEST_BLOB_UNKNOWN" in body) == (404, True)

    await registry.push_blob(LARGE)
    assert (await registry.push_manifest(sample.manifest.raw, OCI_MANIFEST, "v1")).status == 201


async def test_a_manifest_with_a_wrong_size_does_not_affect_the_blob(registry: Registry) -> None:
    digest = await registry.push_blob(LARGE)
    lying = Descriptor(media_type="application/octet-stream", digest=digest, size=5)
    await registry.store.mount_blob(OTHER, digest, APP)
    assert await registry.store.stat_blob(APP, digest) == len(LARGE)
    with pytest.raises(Exception, match="bytes"):
        await registry.store.write_blob(APP, lying, opening(LARGE))
    assert await registry.store.stat_blob(APP, digest) == len(LARGE)


async def test_the_end_of_a_damaged_large_blob_is_withheld_and_logged_once(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    await registry.push_blob(LARGE)
    flip(pooled(registry.root, Digest.of(LARGE)), 0)

    with capture_logs() as logged:
        with pytest.raises(aiohttp.ClientPayloadError):
            await registry.get(f"/v2/org/app/blobs/{Digest.of(LARGE)}")
        assert (await registry.get(f"/v2/org/app/blobs/{Digest.of(LARGE)}"))[0].status == 404

    assert [entry["event"] for entry in logged].count("aborted a response") == 1
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("damage", [flip, cut, drop])
async def test_a_damaged_manifest_is_missing_until_it_is_pushed_again(registry: Registry, damage: Damaging) -> None:
    sample = image()
    await push(registry.store, APP, sample, Tag("v1"))
    await push(registry.store, APP, image(seed="other"), Tag("v2"))
    damage(manifest_file(registry.root, sample.digest))

    for reference in ("v1", sample.digest):
        response, body = await registry.get(f"/v2/org/app/manifests/{reference}")
        assert (response.status, b"MANIFEST_UNKNOWN" in body) == (404, True)
        async with registry.http.head(f"/v2/org/app/manifests/{reference}") as response:
            assert response.status == 404
    assert await registry.store.head_manifest(APP, Tag("v1")) is None
    assert (await registry.get("/v2/org/app/manifests/v2"))[0].status == 200
    assert await registry.store.garbage.collect(grace_seconds=0) == 0

    assert (await registry.push_manifest(sample.manifest.raw, OCI_MANIFEST, "v1")).status == 201
    response, body = await registry.get("/v2/org/app/manifests/v1")
    assert (response.status, body) == (200, sample.manifest.raw)


async def test_a_manifest_with_a_damaged_media_type_is_missing(registry: Registry) -> None:
    sample = image()
    await push(registry.store, APP, sample, Tag("v1"))
    flip(manifest_file(registry.root, sample.digest), 0)
    assert (await registry.get("/v2/org/app/manifests/v1"))[0].status == 404
    await push(registry.store, APP, sample, Tag("v1"))
    assert (await registry.get("/v2/org/app/manifests/v1"))[0].status == 200


async def test_a_damaged_manifest_can_be_deleted(registry: Registry) -> None:
    subject, signature = image(), artifact(subject=image().manifest)
    await push(registry.store, APP, subject, Tag("v1"))
    await push(registry.store, APP, signature)
    drop(manifest_file(registry.root, signature.digest))
    async with registry.http.delete(f"/v2/org/app/manifests/{signature.digest}") as response:
        assert response.status == 202
    assert await registry.store.list_referrers(APP, subject.digest) == []


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe\x00", b"sha256:12"])
async def test_a_damaged_tag_is_missing_until_it_is_written_again(registry: Registry, content: bytes) -> None:
    sample = image()
    for tag in ("v1", "v2"):
        await push(registry.store, APP, sample, Tag(tag))
    (registry.root / "repositories/org/app/_tags/v1").write_bytes(content)

    assert (await registry.get("/v2/org/app/manifests/v1"))[0].status == 404
    assert [record.tag for record in await registry.store.describe_tags(APP)] == ["v2"]
    assert (await registry.get("/v2/org/app/tags/list"))[0].status == 200
    assert await registry.store.garbage.collect(grace_seconds=0) == 0

    await push(registry.store, APP, sample, Tag("v1"))
    assert (await registry.get("/v2/org/app/manifests/v1"))[0].status == 200


def tear(tag: Path) -> None:
    tag.parent.mkdir(parents=True, exist_ok=True)
    tag.write_bytes(b"nonsense")


@pytest.fixture(params=["only its tag is damaged", "its content is lost, too"])
async def torn(request: pytest.FixtureRequest, registry: Registry) -> Path:
    """The damaged file of the only tag of a repository."""
    await push(registry.store, APP, image(), Tag("v1"))
    repository = registry.root / "repositories/org/app"
    tear(repository / "_tags/v1")
    if request.param == "its content is lost, too":
        for kind in ("_manifests", "_blobs"):
            shutil.rmtree(repository / kind)
    return repository / "_tags/v1"


async def test_a_repository_whose_only_tag_is_damaged_exists_and_reports_it(registry: Registry, torn: Path) -> None:
    for method in ("GET", "HEAD"):
        async with registry.http.request(method, "/v2/org/app/manifests/v1") as response:
            assert response.status == 404
            if method == "GET":
                (error,) = (await response.json())["errors"]
                assert error["code"] == "MANIFEST_UNKNOWN"
                assert error["message"].startswith("v1 is damaged in this registry's storage")
    assert [damage[:2] for damage in registry.store.repair.reported()] == [("tag", "v1")]
    assert json.loads((await registry.get("/v2/_catalog"))[1]) == {"repositories": [APP]}
    assert json.loads((await registry.get("/v2/org/app/tags/list"))[1])["tags"] == ["v1"]
    assert await registry.store.describe_tags(APP) == []
    with pytest.raises(Corrupt, match='tag "v1" of "org/app" is damaged'):
        await registry.store.get_manifest(APP, Tag("v1"))
    with pytest.raises(NotFound, match='tag "v2"'):
        await registry.store.get_manifest(APP, Tag("v2"))


async def test_deleting_or_pushing_a_damaged_tag_repairs_it(registry: Registry, torn: Path) -> None:
    for repair in (
        lambda: registry.store.delete_manifest(APP, Tag("v1")),
        lambda: push(registry.store, APP, image(), Tag("v1")),
        lambda: registry.store.delete_repository(APP),
    ):
        tear(torn)
        assert (await registry.get("/v2/org/app/manifests/v1"))[0].status == 404
        assert registry.store.repair.reported() != []
        await repair()
        assert registry.store.repair.reported() == []
    assert json.loads((await registry.get("/v2/_catalog"))[1]) == {"repositories": []}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"mediaType": 1}', b"\xff"])
async def test_a_damaged_referrer_entry_is_restored_from_its_manifest(registry: Registry, content: bytes) -> None:
    subject = image()
    signatures = [artifact(subject=subject.manifest, payload=payload) for payload in (b"one", b"two")]
    for sample in (subject, *signatures):
        await push(registry.store, APP, sample)
    before = await registry.store.list_referrers(APP, subject.digest)
    entry = registry.root / "repositories/org/app/_referrers/sha256" / subject.digest.encoded
    (entry / f"sha256-{signatures[0].digest.encoded}").write_bytes(content)

    for _ in range(2):
        assert await registry.store.list_referrers(APP, subject.digest) == before


async def test_foreign_files_are_ignored(registry: Registry) -> None:
    sample, subject = image(), image(seed="subject")
    await push(registry.store, APP, subject)
    await push(registry.store, APP, sample, Tag("v1"))
    await push(registry.store, APP, artifact(subject=subject.manifest))
    repository = registry.root / "repositories/org/app"
    for folder in (
        registry.root,
        registry.root / "blobs",
        registry.root / "blobs/sha256",
        registry.root / "repositories",
        *(repository / name for name in ("", "_blobs", "_manifests", "_tags", "_referrers")),
        *(repository / name / "sha256" for name in ("_blobs", "_manifests", "_referrers")),
        repository / "_referrers/sha256" / subject.digest.encoded,
    ):
        (folder / "lost+found").mkdir()
        (folder / ".DS_Store").write_bytes(b"\x00")
        (folder / "v1~").write_bytes(b"backup")
        (folder / "a-directory").mkdir()
    old = registry.root / "blobs/sha256/lost+found/#1234"
    old.write_bytes(b"what fsck found")
    os.utime(old, (1, 1))

    assert [name async for name in registry.store.list_repositories()] == [APP]
    assert [tag async for tag in registry.store.list_tags(APP)] == ["v1"]
    assert [record.tag for record in await registry.store.describe_tags(APP)] == ["v1"]
    assert len(await registry.store.list_referrers(APP, subject.digest)) == 1
    assert await registry.store.garbage.collect(grace_seconds=0) == 0
    assert old.exists()
    assert (await registry.get("/v2/org/app/manifests/v1"))[0].status == 200
    await registry.store.delete_repository(APP)
    assert [name async for name in registry.store.list_repositories()] == []


async def test_a_directory_in_place_of_a_tag_is_ignored(registry: Registry) -> None:
    sample = image()
    await push(registry.store, APP, sample, Tag("v1"))
    (registry.root / "repositories/org/app/_tags/dir").mkdir()
    assert (await registry.get("/v2/org/app/manifests/dir"))[0].status == 404
    assert [tag async for tag in registry.store.list_tags(APP)] == ["v1"]


async def test_concurrent_pushes_of_a_damaged_blob_leave_one_intact_file(registry: Registry) -> None:
    digest = await registry.push_blob(LARGE)
    names = [f"org/r{number}" for number in range(8)]
    for name in names:
        await registry.push_blob(LARGE, name)
    flip(pooled(registry.root, digest))

    async def pull(name: str) -> bytes | None:
        try:
            response, body = await registry.get(f"/v2/{name}/blobs/{digest}")
        except aiohttp.ClientError:
            return None
        return body if response.status == 200 else None

    pulled = await asyncio.gather(*(registry.push_blob(LARGE, name) for name in names), *(pull(name) for name in names))
    assert set(pulled[len(names) :]) <= {LARGE, None}
    for name in names:
        assert (await registry.get(f"/v2/{name}/blobs/{digest}"))[1] == LARGE


async def test_verified_unchanged_content_is_not_read_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [await registry.push_blob(content) for content in (SMALL, LARGE)]
    read_again: list[object] = []
    monkeypatch.setattr(integrity, "_hash", lambda file, *_: read_again.append(file))
    for digest, content in zip(digests, (SMALL, LARGE), strict=True):
        async with registry.http.head(f"/v2/org/app/blobs/{digest}") as response:
            assert response.status == 200
        await registry.push_blob(content)
        await registry.push_blob(content, "org/other")
    assert read_again == []


async def test_an_aborted_read_does_not_verify_a_blob(store: DiskStore, tmp_path: Path) -> None:
    wanted = blob(LARGE)
    await store.write_blob(APP, wanted, opening(LARGE))
    flip(pooled(tmp_path / "region", wanted.digest), 0)
    async with store.read_blob(APP, wanted) as chunks:
        await anext(aiter(chunks))
    with pytest.raises(Corrupt):
        await read(store, APP, wanted)


async def test_sha512_is_verified_too(registry: Registry) -> None:
    digest = Digest.of(LARGE, "sha512")
    url = f"/v2/org/app/blobs/uploads/?digest={digest}"
    async with registry.http.post(url, data=io.BytesIO(LARGE)) as response:
        assert response.status == 201
    flip(pooled(registry.root, digest))
    with pytest.raises(aiohttp.ClientError):
        await registry.get(f"/v2/org/app/blobs/{digest}")
    async with registry.http.post(url, data=io.BytesIO(LARGE)) as response:
        assert response.status == 201
    assert (await registry.get(f"/v2/org/app/blobs/{digest}"))[1] == LARGE


async def test_a_referrer_of_a_damaged_manifest_is_not_listed(store: DiskStore, tmp_path: Path) -> None:
    subject = image()
    signature = artifact(subject=subject.manifest)
    await push(store, APP, subject)
    await push(store, APP, signature)
    flip(manifest_file(tmp_path / "region", signature.digest))
    assert await store.head_manifest(APP, signature.digest) is None
    assert await store.list_referrers(APP, subject.digest) == []


async def test_a_layer_can_be_pushed_beside_a_damaged_one(registry: Registry) -> None:
    first, second = layer("first"), layer("second")
    digest = await registry.push_blob(first)
    drop(pooled(registry.root, digest))
    await registry.push_blob(second)
    assert (await registry.get(f"/v2/org/app/blobs/{Digest.of(second)}"))[1] == second


async def test_an_unreadable_repository_does_not_affect_others(store: DiskStore, tmp_path: Path) -> None:
    await push(store, APP, image(), Tag("v1"))
    waste = blob(SMALL)
    await store.write_blob(APP, waste, opening(SMALL))
    unreadable = tmp_path / "region/repositories/org/another"
    await asyncio.to_thread(unreadable.mkdir)
    for name in ("_blobs", "_manifests"):
        await asyncio.to_thread((unreadable / name).symlink_to, unreadable / name)
    # A walk does not follow links, so the repository needs a directory of its own, too.
    await asyncio.to_thread((unreadable / "_tags").mkdir)

    assert [name async for name in store.list_repositories()] == [APP]
    assert await store.garbage.collect(grace_seconds=0) == len(SMALL)


async def test_no_range_of_a_damaged_large_blob_is_sent(registry: Registry) -> None:
    digest = await registry.push_blob(LARGE)
    await registry.push_blob(LARGE, "org/other")
    flip(pooled(registry.root, digest))
    answers = await asyncio.gather(
        *(
            registry.get(f"/v2/{name}/blobs/{digest}", Range=span)
            for name in (APP, OTHER)
            for span in ("bytes=0-9", "bytes=-1", "bytes=1-", "bytes=1000-2000")
        )
    )
    assert {response.status for response, _ in answers} == {404}


async def test_a_large_blob_is_read_once_before_its_ranges_are_sent(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(store, APP, image(LARGE), Tag("v1"))
    again = await restarted(store, tmp_path / "region")
    reads: list[object] = []
    hashed = integrity._hash

    def counted(*given: Any) -> str | None:
        reads.append(given)
        return hashed(*given)

    monkeypatch.setattr(integrity, "_hash", counted)
    parts = await asyncio.gather(*(read(again, APP, blob(LARGE), offset=offset) for offset in range(1, 50)))
    assert parts == [LARGE[offset:] for offset in range(1, 50)]
    assert await read(again, APP, blob(LARGE), offset=1000) == LARGE[1000:]
    assert len(reads) == 1
    await again.close()


async def test_no_range_of_a_damaged_copy_is_sent_while_an_intact_one_is_verified(
    store: DiskStore, tmp_path: Path
) -> None:
    wanted = blob(LARGE)
    for name in (APP, OTHER):
        await store.write_blob(name, wanted, opening(LARGE))
    copied = tmp_path / "region/repositories" / OTHER / "_blobs/sha256" / wanted.digest.encoded
    copied.unlink()
    copied.write_bytes(b"?" + LARGE[1:])
    again = await restarted(store, tmp_path / "region")

    parts = await asyncio.gather(*(read(again, name, wanted, offset=1) for name in (APP, OTHER)))

    # The damaged copy is replaced by the intact file of the pool.
    assert parts == [LARGE[1:], LARGE[1:]]
    assert await read(again, OTHER, wanted) == LARGE
    await again.close()


@pytest.mark.parametrize("changes", [1, 100])
async def test_a_range_is_sent_only_of_a_file_that_stays_as_it_was_verified(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    wanted = blob(LARGE)
    await store.write_blob(APP, wanted, opening(LARGE))
    again = await restarted(store, tmp_path / "region")
    hashed, reads = integrity._hash, 0

    def changing(*given: Any) -> str | None:
        nonlocal reads
        found = hashed(*given)
        reads += 1
        if reads <= changes:
            os.utime(pooled(tmp_path / "region", wanted.digest), ns=(reads, reads))
        return found

    monkeypatch.setattr(integrity, "_hash", changing)
    if changes == 1:
        assert await read(again, APP, wanted, offset=1) == LARGE[1:]
        assert reads == 2
    else:
        with pytest.raises(Unavailable, match="changed while it was verified"):
            await read(again, APP, wanted, offset=1)
    await again.close()


@pytest.mark.parametrize("override", [True, False])
@pytest.mark.parametrize("sample", [image(SMALL), image(LARGE), index(image(SMALL), image(LARGE, seed="other"))])
async def test_a_synchronization_repairs_an_existing_damaged_image(
    store: DiskStore, tmp_path: Path, sample: SampleImage, override: bool
) -> None:
    source = await DiskStore.open(tmp_path / "source")
    way = Route(source=source, source_repository=APP, target=store, target_repository=OTHER, accepts=Acceptance())
    await push(source, APP, sample, Tag("v1"))
    await push(store, OTHER, sample, Tag("v1"))
    engine = CopyEngine()
    assert (await engine.copy(way, Tag("v1"), override=override)).verdict is Verdict.UP_TO_DATE
    for content in (SMALL, LARGE):
        if (digest := Digest.of(content)) in sample.all_blobs:
            flip(pooled(tmp_path / "region", digest))
    scrub = store.repair.scrub()
    for section in await scrub.sections():
        await scrub.check(section)
    scrub.close()
    await engine.copy(way, Tag("v1"), override=override)
    for content in (SMALL, LARGE):
        if Digest.of(content) in sample.all_blobs:
            assert await read(store, OTHER, blob(content)) == content
    assert (await engine.copy(way, Tag("v1"), override=override)).verdict is Verdict.UP_TO_DATE
    await source.close()


@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize("number", [errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EMFILE])
async def test_content_is_not_damaged_because_its_file_system_is_absent(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, number: int
) -> None:
    await store.write_blob(APP, blob(content), opening(content))
    await push(store, APP, sample := image(), Tag("v1"))
    store = await restarted(store, store._layout.root)

    class Absent(io.FileIO):
        def read(self, *_: object) -> bytes:
            raise OSError(number, os.strerror(number))

        def readinto(self, *_: object) -> int:
            raise OSError(number, os.strerror(number))

    def absent(path: Path) -> Absent:
        return Absent(path)

    with monkeypatch.context() as failing:
        for module in ("blobs", "integrity", "files"):
            failing.setattr(f"tagferry.registry.storage.{module}.open_file", absent)
        with pytest.raises(Unavailable):
            await store.is_damaged(APP, sample.digest)
        with pytest.raises(Unavailable):
            await read(store, APP, blob(content), offset=1)

    assert await read(store, APP, blob(content)) == content
    assert (await store.get_manifest(APP, Tag("v1"))).digest == sample.digest
    assert store._integrity.reported() == []
    await store.close()
