"""Files and directories that other programs leave in a registry's directory are ignored at every level."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tagferry.names import Digest, Namespace, RepositoryName, Tag
from tagferry.registry.storage.integrity import Damage
from tagferry.registry.storage.store import DiskStore
from tests.support.disks import IS_ROOT, NOBODY
from tests.support.images import SampleImage, artifact, image, push

ORG, APP, OTHER = Namespace("org"), RepositoryName("org/app"), RepositoryName("other/app")
GARBAGE = b"no manifest refers to it"


def nfs_file(directory: Path) -> Path:
    path = directory / ".nfs000000000012d68700000001"
    path.write_bytes(b"deleted while open")
    return path


def backup(directory: Path) -> Path:
    path = directory / "v1~"
    path.write_bytes(b"backup")
    return path


def undecodable_name(directory: Path) -> Path:
    path = directory / os.fsdecode(b"\xff\n")
    path.write_bytes(b"?")
    return path


def lost_and_found(directory: Path) -> Path:
    path = directory / "lost+found"
    path.mkdir()
    (path / "#1234").write_bytes(b"found by fsck")
    return path


def nested_directories(directory: Path) -> Path:
    path = directory / "lost+found"
    (path / "_tags/sha256").mkdir(parents=True)
    (path / "_tags/v1").write_bytes(b"found by fsck")
    return path


def unreadable_directory(directory: Path) -> Path:
    path = lost_and_found(directory)
    path.chmod(0)
    return path


def dangling_link(directory: Path) -> Path:
    path = directory / "@link"
    path.symlink_to("nothing")
    return path


def looping_link(directory: Path) -> Path:
    path = directory / "@link"
    path.symlink_to(path.name)
    return path


FOREIGN = [
    nfs_file,
    backup,
    undecodable_name,
    lost_and_found,
    nested_directories,
    unreadable_directory,
    dangling_link,
    looping_link,
]


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory in which permissions hold, also if root runs the tests."""
    with tempfile.TemporaryDirectory() as folder:
        if IS_ROOT:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder) / "region"
        finally:
            if IS_ROOT:
                os.seteuid(0)
            for path in Path(folder).rglob("*"):
                with contextlib.suppress(OSError):
                    path.chmod(0o700)


@pytest.fixture
async def store(root: Path) -> AsyncIterator[DiskStore]:
    opened = await DiskStore.open(root)
    yield opened
    await opened.close()


@pytest.fixture
async def sample(store: DiskStore) -> SampleImage:
    """A tagged image with a referrer, and a blob that is garbage, in two repositories."""
    tagged = image()
    for repository in (APP, OTHER):
        await push(store, repository, tagged, Tag("v1"))
        await push(store, repository, artifact(subject=tagged.manifest))
        identifier = await store.uploads.start(repository)
        await store.uploads.finish(repository, identifier, Digest.of(GARBAGE), _chunks(GARBAGE))
        await store.uploads.start(repository)
    return tagged


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


def levels(root: Path) -> list[str]:
    """Every directory of the layout, relative to the root."""
    return [".", *(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir())]


async def scrub(store: DiskStore) -> list[Damage]:
    found = store.repair.scrub()
    try:
        return [damage for section in await found.sections() for damage in await found.check(section)]
    finally:
        found.close()


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_foreign_entry_at_every_level_is_ignored(
    store: DiskStore, sample: SampleImage, root: Path, foreign: Callable[[Path], Path]
) -> None:
    digests = {one.digest for one in await store.list_referrers(APP, sample.digest)}
    usage = await store.quotas.usage(ORG)
    directories = levels(root)
    assert len([path for path in directories if path.startswith("repositories/org/app/")]) == 9
    left = [foreign(root / directory) for directory in directories]

    assert [name async for name in store.list_repositories()] == [APP, OTHER]
    assert [tag async for tag in store.list_tags(APP)] == ["v1"]
    assert [record.tag for record in await store.describe_tags(APP)] == ["v1"]
    assert {one.digest for one in await store.list_referrers(APP, sample.digest)} == digests
    store.quotas.record_deletion()
    counted = await store.quotas.usage(ORG)
    assert (counted.stored, counted.repositories, counted.uploads) == (usage.stored, usage.repositories, usage.uploads)
    assert await scrub(store) == []
    assert await store.garbage.collect(grace_seconds=-1) == len(GARBAGE)
    assert await store.stat_blob(APP, Digest.of(GARBAGE)) is None
    assert await store.head_manifest(APP, Tag("v1")) is not None
    assert await store.health_error() is None
    assert store.repair.reported() == []
    assert all(map(os.path.lexists, left))

    await store.delete_manifest(OTHER, Tag("v1"))
    await store.delete_repository(OTHER)
    assert [name async for name in store.list_repositories()] == [APP]
    await store.delete_repository(APP)
    assert await store.clear_organization(ORG) == []


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_foreign_entry_does_not_keep_an_organization_from_being_cleared(
    store: DiskStore, sample: SampleImage, root: Path, foreign: Callable[[Path], Path]
) -> None:
    for directory in levels(root):
        foreign(root / directory)
    assert await store.clear_organization(ORG) == [APP]
    assert (await store.quotas.usage(ORG)).uploads != {}
    await store.delete_manifest(APP, Tag("v1"))
    assert await store.clear_organization(ORG) == []
    assert (await store.quotas.usage(ORG)).uploads == {}
    assert [name async for name in store.list_repositories()] == [OTHER]


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_registry_opens_with_foreign_entries(
    sample: SampleImage, store: DiskStore, root: Path, foreign: Callable[[Path], Path]
) -> None:
    for directory in levels(root):
        foreign(root / directory)
    again = await DiskStore.open(root)
    try:
        assert [name async for name in again.list_repositories()] == [APP, OTHER]
    finally:
        await again.close()


def first(root: Path, pattern: str) -> Path:
    return min(root.glob(pattern))


OWN = [
    "blobs",
    "blobs/sha256",
    "blobs/sha256/??",
    "temporary",
    "repositories/org",
    "repositories/org/app",
    "repositories/org/app/_blobs",
    "repositories/org/app/_blobs/sha256",
    "repositories/org/app/_manifests",
    "repositories/org/app/_manifests/sha256",
    "repositories/org/app/_tags",
    "repositories/org/app/_referrers",
    "repositories/org/app/_referrers/sha256",
    "repositories/org/app/_referrers/sha256/*",
    "repositories/org/app/_uploads",
]


@pytest.mark.parametrize("mode", [0, 0o400], ids=["unreadable", "only listed"])
@pytest.mark.parametrize("directory", OWN)
async def test_an_unreadable_directory_of_the_registry_affects_only_what_it_holds(
    store: DiskStore, sample: SampleImage, root: Path, directory: str, mode: int
) -> None:
    path = first(root, directory)
    path.chmod(mode)
    try:
        assert OTHER in [name async for name in store.list_repositories()]
        assert [tag async for tag in store.list_tags(OTHER)] == ["v1"]
        assert len(await store.list_referrers(OTHER, sample.digest)) == 1
        store.quotas.record_deletion()
        assert (await store.quotas.usage("other")).repositories == {OTHER}
        await store.quotas.usage(ORG)
        await store.garbage.collect(grace_seconds=-1)
        assert await store.head_manifest(OTHER, Tag("v1")) is not None
        if not directory.startswith("blobs"):
            assert await store.stat_blob(OTHER, Digest.of(GARBAGE)) is None
    finally:
        path.chmod(0o700)
    await store.garbage.collect(grace_seconds=-1)
    assert await store.stat_blob(APP, Digest.of(GARBAGE)) is None
    assert await scrub(store) == []
    assert await store.head_manifest(APP, Tag("v1")) is not None
