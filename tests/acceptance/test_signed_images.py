"""A signed image with an SBOM and an attestation is copied with both, whatever the registries support."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.route import Route
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.oci.referrer_tags import cosign_tags, referrers_tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Endpoint, RemoteStore
from tests.support.docker_registry import docker_registry
from tests.support.images import artifact, image, index, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.serving import serving

APP, COPY, V1 = RepositoryName("team/app"), RepositoryName("release/app"), Tag("v1")
IMAGE = index()
ATTACHED = [
    artifact(subject=IMAGE.manifest, artifact_type=f"application/vnd.example.{kind}", payload=kind.encode())
    for kind in ("signature", "sbom", "attestation")
]


@asynccontextmanager
async def _with_api(folder: Path) -> AsyncIterator[ImageStore]:
    """The embedded registry, which lists referrers."""
    disk = await DiskStore.open(folder)
    async with serving(RegistryApp(disk, OpenAuthorizer())) as url:
        store = RemoteStore(Endpoint(name=str(folder), url=url))
        yield store
        await store.close()
    await disk.close()


@asynccontextmanager
async def _without_api(folder: Path) -> AsyncIterator[ImageStore]:
    """CNCF distribution 2.8, which does not."""
    with docker_registry(folder) as registry:
        store = RemoteStore(Endpoint(name=str(folder), url=registry.url))
        yield store
        await store.close()


Opening = Callable[[Path], AbstractAsyncContextManager[ImageStore]]
KINDS: dict[str, Opening] = {"with the API": _with_api, "without": _without_api}


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
async def test_everything_attached_is_found_again_at_the_target(tmp_path: Path, source_kind: str, target_kind: str):
    folders = tmp_path / "source", tmp_path / "target"
    for folder in folders:
        folder.mkdir()
    async with KINDS[source_kind](folders[0]) as source, KINDS[target_kind](folders[1]) as target:
        await push(source, APP, IMAGE, V1)
        for attached in ATTACHED:
            await push(source, APP, attached)
        signature = image(seed="cosign")
        await push(source, APP, signature, cosign_tags(IMAGE.digest)[0])

        await CopyEngine().copy(Route(source, APP, target, COPY), V1, override=False)

        found = await target.list_referrers(COPY, IMAGE.digest)
        assert {one.digest for one in found} == {one.digest for one in ATTACHED}
        assert {one.artifact_type for one in found} == {one.manifest.artifact_type for one in ATTACHED}
        for attached in ATTACHED:
            assert (await target.get_manifest(COPY, attached.digest)).raw == attached.manifest.raw
        assert (await target.get_manifest(COPY, cosign_tags(IMAGE.digest)[0])).raw == signature.manifest.raw
        has_fallback = await target.head_manifest(COPY, referrers_tag(IMAGE.digest)) is not None
        assert has_fallback is (target_kind == "without")
