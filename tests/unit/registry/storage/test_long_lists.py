"""Long lists: pages are complete, cost what they show, and are current."""

import json
import os
import re
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tagferry import bounds
from tagferry.errors import Incomplete
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage.files import file_names
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.tag_names import TagNames
from tests.support.images import artifact, image, push
from tests.unit.registry.conftest import Registry

APP = RepositoryName("org/app")
LINK = re.compile(r'<(.*)>; rel="next"')


async def paged(registry: Registry, path: str, key: str) -> list[list[Any]]:
    """Return the pages of a list by following its links."""
    pages: list[list[Any]] = []
    following = path
    while following:
        response, body = await registry.get(following)
        assert response.status == 200, body
        pages.append(json.loads(body)[key])
        link = response.headers.get("Link")
        match = LINK.fullmatch(link) if link else None
        following = match[1] if match else ""
    return pages


def tagged(registry: Registry, count: int) -> list[str]:
    """Add tags to the repository's image directly on disk; return the names of all tags."""
    folder = registry.root / "repositories" / APP / "_tags"
    names = [f"t{number:06}" for number in range(count)]
    for name in names:
        os.link(folder / "v1", folder / name)
    return [*names, "v1"]


def settle(folder: Path) -> None:
    """Set the modification time of a directory to some time ago."""
    past = time.time() - 60
    os.utime(folder, (past, past))


async def test_pages_of_tags_are_limited_without_n_and_with_a_larger_n(registry, monkeypatch):
    await push(registry.store, APP, image(), Tag("v1"))
    names = tagged(registry, 24)
    monkeypatch.setattr(bounds, "LISTED_NAMES", 10)
    for query, sizes in (("", [10, 10, 5]), ("?n=1000", [10, 10, 5]), ("?n=7", [7, 7, 7, 4])):
        pages = await paged(registry, f"/v2/{APP}/tags/list{query}", "tags")
        assert ([len(page) for page in pages], list(chain(*pages))) == (sizes, names)


async def test_pages_of_repositories_are_limited(registry, monkeypatch):
    names = [f"org/app{number}" for number in range(5)]
    for name in names:
        await push(registry.store, RepositoryName(name), image(), Tag("v1"))
    monkeypatch.setattr(bounds, "LISTED_NAMES", 2)
    assert await paged(registry, "/v2/_catalog", "repositories") == [names[:2], names[2:4], names[4:]]


async def test_pages_of_many_tags_read_the_directory_once(registry, monkeypatch):
    await push(registry.store, APP, image(), Tag("v1"))
    names = tagged(registry, 300)
    settle(registry.root / "repositories" / APP / "_tags")
    reads: list[Path] = []

    def counted(folder: Path) -> list[str]:
        reads.append(folder)
        return file_names(folder)

    monkeypatch.setattr("tagferry.registry.storage.tag_names.file_names", counted)

    assert list(chain(*await paged(registry, f"/v2/{APP}/tags/list?n=10", "tags"))) == names
    assert len(reads) == 1


async def test_lists_show_a_tag_that_was_just_written_or_deleted(store: DiskStore):
    folder = store._layout.tags(APP)
    await push(store, APP, image(), Tag("v1"))
    for number in range(300):
        os.link(folder / "v1", folder / f"t{number}")
    for round_ in range(20):
        if round_ % 2:
            settle(folder)
            assert len(await store.tag_names(APP)) == 301
        await push(store, APP, image(), Tag("new"))
        assert Tag("new") in await store.tag_names(APP)
        await store.delete_manifest(APP, Tag("new"))
        assert Tag("new") not in await store.tag_names(APP)


def test_cached_names_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "REMEMBERED_TAGS", 500)
    names = TagNames()
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        for tag in range(200):
            (folder / f"t{tag}").touch()
        settle(folder)
        assert len(names.inside(str(folder))) == 200
    assert len(names._kept) == 2


async def test_pages_of_referrers_are_limited_by_bytes_and_complete(registry, monkeypatch):
    await push(registry.store, APP, subject := image(), Tag("v1"))
    wanted = []
    for number in range(9):
        kind = "application/vnd.example.even" if number % 2 == 0 else "application/vnd.example.odd"
        sample = artifact(subject=subject.manifest, artifact_type=kind, payload=str(number).encode())
        await push(registry.store, APP, sample)
        wanted.append(sample.digest)
    monkeypatch.setattr(bounds, "REFERRER_PAGE_BYTES", 500)
    path = f"/v2/{APP}/referrers/{subject.digest}"
    pages = await paged(registry, path, "manifests")
    assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
    assert [one["digest"] for page in pages for one in page] == sorted(wanted)
    even = await paged(registry, f"{path}?artifactType=application/vnd.example.even", "manifests")
    assert sorted(one["digest"] for page in even for one in page) == sorted(wanted[::2])
    assert (await registry.get(f"{path}?last=nothing"))[0].status == 400


async def test_too_many_referrers_for_one_list_are_returned_as_incomplete(store, monkeypatch):
    await push(store, APP, subject := image(), Tag("v1"))
    for number in range(5):
        await push(store, APP, artifact(subject=subject.manifest, payload=str(number).encode()))
    monkeypatch.setattr(bounds, "REFERRERS_READ_BYTES", 500)
    with pytest.raises(Incomplete) as cut:
        await store.list_referrers(APP, subject.digest)
    assert len(cut.value.found) == 2
    assert await store.list_referrers(APP, Digest.of(b"missing")) == []
