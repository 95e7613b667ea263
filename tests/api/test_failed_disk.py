"""A region in whose directory something is no directory any more: requests fail, and the probe says so until it is."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from huaweicloudsdkswr.v2 import DeleteNamespacesRequest

from tagferry.names import Digest, RepositoryName, Tag
from tagferry.registry.storage import directory_faults as faults
from tagferry.registry.storage.layout import Layout
from tests.support.deployment import NORTH, TEAM, Answer, Deployment, deployed
from tests.support.images import image, push
from tests.support.sdk_calls import refused

APP = RepositoryName(f"{TEAM}/app")
CONTENT = b"one more blob"
DIGEST = Digest.of(CONTENT)
FAILED = (503, "the registry's disk failed; its operator has to check it, and the log names the directory")

PLACES: dict[str, Callable[[Layout], Path]] = {
    "a shard of the pool": lambda layout: layout.pooled(DIGEST).parent,
    "the pool": lambda layout: layout.pool,
    "temporary files": lambda layout: layout.temporary,
    "the blobs of a repository": lambda layout: layout.blob(APP, DIGEST).parent,
    "the uploads of a repository": lambda layout: layout.repository(APP) / "_uploads",
    "a repository": lambda layout: layout.repository(APP),
    "all repositories": lambda layout: layout.repositories,
}


@pytest.fixture(autouse=True)
def _always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_FRESH_SECONDS", 0)


def layout_of(directory: Path) -> Layout:
    return Layout(directory / "registries" / NORTH)


async def readiness(ferry: Deployment, query: str = "") -> tuple[int, str]:
    answer = await ferry.http("GET", f"/readyz{query}")
    failed = [state for state in answer.document["components"].values() if state != "ok"]
    return answer.status, "; ".join(failed) or "ok"


async def pushed(ferry: Deployment) -> Answer:
    """The answer to the push of a blob and, where that was taken, of an image."""
    login = {"Authorization": aiohttp.encode_basic_auth(ferry.admin.name, ferry.admin.password)}
    answer = await ferry.http("POST", f"/v2/{APP}/blobs/uploads/?digest={DIGEST}", body=CONTENT, headers=login)
    if answer.status == 201:
        manifest = image().manifest
        headers = login | {"Content-Type": manifest.media_type}
        return await ferry.http("PUT", f"/v2/{APP}/manifests/v1", body=manifest.raw + b" ", headers=headers)
    return answer


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("spoil", [lambda path: path.write_text("no directory"), lambda path: path.mkdir(mode=0)])
async def test_a_directory_that_failed_is_not_ready_until_it_can_be_used(
    tmp_path: Path, place: str, spoil: Callable[[Path], object]
) -> None:
    async with deployed(tmp_path) as ferry:
        await push(ferry.store(NORTH), APP, image(), Tag("v1"))
        path = PLACES[place](layout_of(tmp_path))
        path.mkdir(parents=True, exist_ok=True)
        path.rename(path.with_name("aside"))
        spoil(path)
        if path.is_dir() and os.access(path, os.R_OK):
            pytest.skip("root may read and write everything")

        assert (await pushed(ferry)).status == 503
        for _ in range(2):
            assert await readiness(ferry) == FAILED
        assert await readiness(ferry, "?exclude=disk") == (200, "ok")

        path.rmdir() if path.is_dir() else path.unlink()
        path.with_name("aside").rename(path)
        assert await readiness(ferry) == (200, "ok")
        assert (await pushed(ferry)).status == 201
        assert list(layout_of(tmp_path).temporary.iterdir()) == []


async def test_a_disk_that_failed_is_ready_once_it_takes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with deployed(tmp_path) as ferry:
        with monkeypatch.context() as failing:
            failing.setattr(os, "fsync", fail)
            assert (await pushed(ferry)).status == 503
            assert await readiness(ferry) == FAILED
        assert await readiness(ferry) == (200, "ok")


async def test_a_disk_that_failed_is_written_to_once_however_many_probes_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_FRESH_SECONDS", 1000)
    written: list[Path] = []

    def write(path: Path, *_: object, **__: object) -> None:
        written.append(path)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with deployed(tmp_path) as ferry:
        monkeypatch.setattr(faults, "replace_file", write)
        shard = layout_of(tmp_path).pooled(DIGEST).parent
        shard.parent.mkdir(parents=True, exist_ok=True)
        shard.write_text("no directory")
        assert (await pushed(ferry)).status == 503
        assert {await readiness(ferry) for _ in range(20)} == {FAILED}
        assert len(written) == 1


@pytest.mark.parametrize("place", PLACES)
async def test_a_directory_that_vanished_is_made_again(tmp_path: Path, place: str) -> None:
    async with deployed(tmp_path) as ferry:
        await push(ferry.store(NORTH), APP, image(), Tag("v1"))
        shutil.rmtree(PLACES[place](layout_of(tmp_path)), ignore_errors=True)
        answer = await pushed(ferry)
        assert answer.status in (201, 404), answer.content
        assert await readiness(ferry) == (200, "ok")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
async def test_an_organization_whose_directory_cannot_be_read_is_not_deleted_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    scandir = os.scandir

    def fail(path: Any) -> AbstractContextManager[Any]:
        if str(path).endswith(f"/repositories/{TEAM}"):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    delete = DeleteNamespacesRequest(namespace=TEAM)
    async with deployed(tmp_path) as ferry:
        await push(ferry.store(NORTH), APP, image(), Tag("v1"))
        with monkeypatch.context() as failing:
            failing.setattr(os, "scandir", fail)
            assert (await refused(ferry, "delete_namespaces", delete))[0] == 503
        status, _, message = await refused(ferry, "delete_namespaces", delete)
        assert (status, "still has repositories" in message) == (409, True)


async def test_what_clients_get_wrong_is_no_fault(tmp_path: Path) -> None:
    async with deployed(tmp_path) as ferry:
        login = {"Authorization": aiohttp.encode_basic_auth(ferry.admin.name, ferry.admin.password)}
        for method, path in (
            ("GET", f"/v2/{TEAM}/{'a' * 100}/manifests/{'b' * 128}"),
            ("GET", f"/v2/{TEAM}/{'a/' * 50}a/tags/list"),
            ("GET", f"/v2/{'a' * 255}/manifests/v1"),
            ("GET", f"/v2/{APP}/blobs/{DIGEST}"),
            ("PUT", f"/v2/{APP}/blobs/uploads/{'0' * 32}?digest={DIGEST}"),
            ("POST", f"/v2/{APP}/blobs/uploads/?digest=sha256:{'0' * 64}"),
            ("DELETE", f"/v2/{APP}/manifests/v1"),
        ):
            answer = await ferry.http(method, path, body=CONTENT if method != "GET" else None, headers=login)
            assert answer.status in (400, 404), (path, answer.content)
        store = ferry.store(NORTH)
        assert store._faults._directories == {}  # type: ignore[attr-defined]
        assert await readiness(ferry) == (200, "ok")
