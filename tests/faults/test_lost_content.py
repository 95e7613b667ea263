"""Content that a registry loses, as by its garbage collection or a failing disk, is copied again."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Verdict
from tagferry.copy.route import Route
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.model import Manifest
from tagferry.remote import Endpoint, RemoteStore
from tests.support.clock import Clock
from tests.support.deployment import NORTH, SOUTH, TEAM, deployed, name_in
from tests.support.docker_registry import docker_registry
from tests.support.images import SampleImage, blob, image, index, layer, push, read

APP, COPY, V1, V2 = RepositoryName("team/app"), RepositoryName("release/app"), Tag("v1"), Tag("v2")
SHARED = layer("shared")
FIRST, SECOND = image(SHARED, seed="first"), image(SHARED, seed="second")


@dataclass
class Registry:
    """CNCF's docker-registry with a source and a target repository."""

    url: str
    data: Path

    def lose(self, repository: RepositoryName, digest: Digest) -> None:
        """Remove the link to a layer or manifest from a repository; fails if there is none."""
        own = self.data / "docker/registry/v2/repositories" / repository
        _, _, encoded = digest.partition(":")
        links = [own / kind / "sha256" / encoded / "link" for kind in ("_layers", "_manifests/revisions")]
        (held,) = [link for link in links if link.exists()]
        held.unlink()

    def store(self, name: str) -> RemoteStore:
        return RemoteStore(Endpoint(name=name, url=self.url))


@pytest.fixture
def registries(tmp_path: Path):
    with docker_registry(_made(tmp_path / "source")) as source, docker_registry(_made(tmp_path / "target")) as target:
        yield tuple(
            Registry(own.url, tmp_path / name / "data") for name, own in (("source", source), ("target", target))
        )


@pytest.fixture
async def way(registries: tuple[Registry, Registry]) -> AsyncIterator[Route]:
    source, target = (registry.store(name) for name, registry in zip(("source", "target"), registries, strict=True))
    yield Route(source, APP, target, COPY)
    await source.close()
    await target.close()


async def assert_whole(way: Route, tag: Tag, sample: SampleImage) -> None:
    assert (await way.target.get_manifest(COPY, tag)).raw == sample.manifest.raw
    for manifest in sample.all_manifests:
        assert (await way.target.get_manifest(COPY, manifest.digest)).raw == manifest.raw
    for content in sample.all_blobs.values():
        assert await read(way.target, COPY, blob(content)) == content


@pytest.mark.parametrize("seconds", [1, 61])
async def test_a_layer_that_is_lost_between_two_tags_that_share_it_is_copied_for_the_second(
    registries: tuple[Registry, Registry], way: Route, seconds: float
):
    for tag, sample in ((V1, FIRST), (V2, SECOND)):
        await push(way.source, APP, sample, tag)
    engine = CopyEngine(clock=(clock := Clock()))
    await engine.copy(way, V1, override=False)

    registries[1].lose(COPY, Digest.of(SHARED))
    clock.now += seconds
    await engine.copy(way, V2, override=False)

    await assert_whole(way, V1, FIRST)
    await assert_whole(way, V2, SECOND)


@pytest.mark.parametrize("seconds", [1, 61])
async def test_a_platform_that_is_lost_between_two_tags_that_share_it_is_copied_for_the_second(
    registries: tuple[Registry, Registry], way: Route, seconds: float
):
    first, second = index(FIRST), index(FIRST, SECOND)
    for tag, sample in ((V1, first), (V2, second)):
        await push(way.source, APP, sample, tag)
    engine = CopyEngine(clock=(clock := Clock()))
    await engine.copy(way, V1, override=False)

    registries[1].lose(COPY, FIRST.digest)
    clock.now += seconds
    await engine.copy(way, V2, override=False)

    await assert_whole(way, V2, second)


class LosingStore(RemoteStore):
    """A registry that loses a layer just after it accepted the manifest that refers to it."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(Endpoint(name="target", url=registry.url))
        self.registry = registry
        self.has_lost = False

    async def put_manifest(
        self, repository: RepositoryName, manifest: Manifest, tag: Tag | None = None, **terms: Any
    ) -> None:
        await super().put_manifest(repository, manifest, tag, **terms)
        if manifest.digest == FIRST.digest and not self.has_lost:
            self.registry.lose(repository, Digest.of(SHARED))
            self.has_lost = True


async def test_a_layer_that_is_lost_during_the_copy_is_copied_again_before_the_tag(
    registries: tuple[Registry, Registry], way: Route
):
    sample = index(FIRST, image(seed="another"))
    await push(way.source, APP, sample, V1)
    await push(way.target, COPY, image(SHARED, seed="there before"), V2)
    losing = LosingStore(registries[1])

    outcome = await CopyEngine().copy(Route(way.source, APP, losing, COPY), V1, override=False)
    await losing.close()

    assert losing.has_lost
    assert outcome.verdict is Verdict.COPY
    await assert_whole(way, V1, sample)


@pytest.mark.parametrize("verify", ["copied", "all"])
async def test_a_lost_layer_of_an_up_to_date_tag_is_restored_with_verify_all(
    registries: tuple[Registry, Registry], tmp_path: Path, verify: str
):
    regions: dict[str, dict[str, Any]] = {
        name: {"listen": "", "registry": registry.url}
        for name, registry in zip((NORTH, SOUTH), registries, strict=True)
    }
    async with deployed(tmp_path / "data", regions=regions, sync={"verify": verify}) as ferry:
        await push(ferry.store(NORTH), name_in(TEAM), FIRST, V1)
        await push(ferry.store(SOUTH), name_in(TEAM), FIRST, V1)
        registries[1].lose(name_in(TEAM), Digest.of(SHARED))

        started = await ferry.start_sync(name_in(TEAM), [V1], TEAM)
        (job,) = await ferry.ended_jobs(name_in(TEAM), started)

        assert job["status"] == "success"
        is_back = await ferry.store(SOUTH).stat_blob(name_in(TEAM), Digest.of(SHARED)) is not None
        assert is_back is (verify == "all")
        assert ("up to date" in job["reason"]) is (verify == "copied")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
