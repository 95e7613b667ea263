"""The implementations of `ImageStore` that the contract suite runs over.

To add one: write an async context manager that yields an empty-enough store, and enter it in IMPLEMENTATIONS with
what it cannot do, if anything.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tagferry.layout import ArchiveFiles, DirectoryFiles, LayoutStore
from tagferry.names import RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.oci.model import Manifest
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Endpoint, RemoteStore
from tests.interop.programs import DISTRIBUTION, INTEROP, built, crane_registry
from tests.support.bare_registry import BareRegistry
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.memory_store import MemoryStore
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.serving import serving

Requesting = Callable[[str], object]
"""Returns a fixture by its name, so that a server is started only for the implementation that needs it."""


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """An image store, and the limitations of its registry.

    Attributes:
        open: makes the store; its arguments are a folder of its own and what gives fixtures.
        marks: which of the make targets runs its tests.
        keeps_sha512: whether content can be addressed by sha512.
        deletes_tags: whether one tag can be deleted and its manifest stay.
        differs: parts of the names of tests that it fails, each with the reason.
    """

    open: Callable[[Path, Requesting], AbstractAsyncContextManager[ImageStore]]
    marks: Sequence[pytest.MarkDecorator] = ()
    keeps_sha512: bool = True
    deletes_tags: bool = True
    differs: Mapping[str, str] = field(default_factory=dict)


@asynccontextmanager
async def _memory(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    yield MemoryStore()


@asynccontextmanager
async def _running(registry: object) -> AsyncIterator[ImageStore]:
    assert isinstance(registry, DockerRegistry)
    store = RemoteStore(Endpoint(name="docker-registry", url=registry.url))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _docker_registry(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    async with _running(fixture("running_docker_registry")) as store:
        yield store


@asynccontextmanager
async def _distribution(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    async with _running(fixture("running_distribution")) as store:
        yield store


@asynccontextmanager
async def _crane_registry(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    store = RemoteStore(Endpoint(name="crane's registry", url=str(fixture("running_crane_registry"))))
    yield store
    await store.close()


@asynccontextmanager
async def _disk(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    store = await DiskStore.open(folder / "region")
    yield store
    await store.close()


@asynccontextmanager
async def _writable(store: LayoutStore) -> AsyncIterator[ImageStore]:
    store.allow_writes()
    yield store
    await store.close()


def _layout(folder: Path, fixture: Requesting) -> AbstractAsyncContextManager[ImageStore]:
    return _writable(LayoutStore(DirectoryFiles(folder / "layout"), name="layout"))


def _archive(folder: Path, fixture: Requesting) -> AbstractAsyncContextManager[ImageStore]:
    return _writable(LayoutStore(ArchiveFiles(folder / "images.tar"), name="archive"))


class _CommittingStore(LayoutStore):
    """A layout that writes its archive after every tag."""

    async def put_manifest(
        self, repository: RepositoryName, manifest: Manifest, tag: Tag | None = None, **terms: Any
    ) -> None:
        await super().put_manifest(repository, manifest, tag, **terms)
        if tag is not None:
            await self.commit()


def _committed_archive(folder: Path, fixture: Requesting) -> AbstractAsyncContextManager[ImageStore]:
    return _writable(_CommittingStore(ArchiveFiles(folder / "images.tar"), name="archive"))


@asynccontextmanager
async def _embedded_registry(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    served = await DiskStore.open(folder / "region")
    async with serving(RegistryApp(served, OpenAuthorizer())) as url:
        store = RemoteStore(Endpoint(name="embedded", url=url))
        yield store
        await store.close()
    await served.close()


@asynccontextmanager
async def _bare_registry(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    served = await DiskStore.open(folder / "region")
    async with serving(BareRegistry(RegistryApp(served, OpenAuthorizer()))) as url:
        store = RemoteStore(Endpoint(name="bare", url=url))
        yield store
        await store.close()
    await served.close()


_ONE_POOL = "all its repositories have one pool of blobs"
_ONE_REPOSITORY = "a layout is one repository"
_ONLY_GROWS = "nothing is deleted from a layout"
_CRANE_DIFFERS = {
    "test_an_existing_blob_is_not_sent_again": "it opens an upload for every mount, and a small blob is sent again",
    "test_a_blob_of_another_repository_is_mounted": _ONE_POOL,
    "test_a_blob_of_another_repository_is_not_found": _ONE_POOL,
    "test_a_manifest_is_refused_while_a_blob_is_missing": "it does not look whether a manifest's blobs are there",
    "test_deleting_a_manifest_deletes_its_tags": "a tag keeps the manifest, and is deleted by its name",
    "test_a_deleted_blob_is_not_found": "it answers 500 where there is no blob to delete",
}
"""The deviations of go-containerregistry 0.22's registry from the specification, or from the requests of a copy."""
_ONLY_MANIFESTS = "it takes no index that lists anything but manifests"
_DISTRIBUTION_DIFFERS = {
    "index of blobs": _ONLY_MANIFESTS,
    "test_a_blob_that_an_index_lists_by_an_unknown_type": _ONLY_MANIFESTS,
}

_LAYOUT_DIFFERS = {
    "test_a_blob_of_another_repository_is_mounted": _ONE_REPOSITORY,
    "test_a_blob_of_another_repository_is_not_found": _ONE_REPOSITORY,
    "test_selected_tags_are_described": _ONE_REPOSITORY,
    "test_repositories_are_listed": _ONE_REPOSITORY,
    "test_deleting": _ONLY_GROWS,
    "test_a_tag_that_changed_since_it_was_read_is_not_deleted": _ONLY_GROWS,
    "test_a_deleted": _ONLY_GROWS,
    "test_a_missing_repository_is_not_deleted": _ONLY_GROWS,
}

_UNUSED = "what no image needs is left out when an archive is written"
_COMMITTED_DIFFERS = _LAYOUT_DIFFERS | {
    "test_a_tag_moves_and_the_old_manifest_stays": _UNUSED,
    "test_without_override_a_tag_replaces_only_itself": _UNUSED,
}
_BARE_DIFFERS = {"test_a_blob_of_another_repository_is_mounted": "it mounts nothing"}

IMPLEMENTATIONS: dict[str, Implementation] = {
    "memory": Implementation(open=_memory),
    "disk": Implementation(open=_disk),
    "OCI layout": Implementation(open=_layout, differs=_LAYOUT_DIFFERS),
    "archive": Implementation(open=_archive, differs=_LAYOUT_DIFFERS),
    "archive after a commit": Implementation(open=_committed_archive, differs=_COMMITTED_DIFFERS),
    "remote to the embedded registry": Implementation(open=_embedded_registry),
    "remote to a registry without HEAD, mounts and ranges": Implementation(open=_bare_registry, differs=_BARE_DIFFERS),
    "remote to docker-registry": Implementation(open=_docker_registry, keeps_sha512=False, deletes_tags=False),
    "remote to crane's registry": Implementation(
        open=_crane_registry, keeps_sha512=False, marks=INTEROP, differs=_CRANE_DIFFERS
    ),
    "remote to distribution 3": Implementation(
        open=_distribution, keeps_sha512=False, marks=INTEROP, differs=_DISTRIBUTION_DIFFERS
    ),
}


@pytest.fixture(scope="session")
def running_docker_registry(tmp_path_factory: pytest.TempPathFactory):
    with docker_registry(tmp_path_factory.mktemp("docker-registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def running_distribution(tmp_path_factory: pytest.TempPathFactory):
    with docker_registry(tmp_path_factory.mktemp("distribution"), program=built(DISTRIBUTION)) as registry:
        yield registry


@pytest.fixture(scope="session")
def running_crane_registry():
    with crane_registry() as url:
        yield url


@pytest.fixture(params=[pytest.param(name, marks=one.marks) for name, one in IMPLEMENTATIONS.items()])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    implementation = IMPLEMENTATIONS[request.param]
    for part, reason in implementation.differs.items():
        if part in request.node.name:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    return implementation


@pytest.fixture
async def store(
    implementation: Implementation, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[ImageStore]:
    async with implementation.open(tmp_path, request.getfixturevalue) as opened:
        yield opened


@pytest.fixture
def repository() -> RepositoryName:
    """A repository that no other test uses."""
    return RepositoryName(f"contract/{secrets.token_hex(6)}")
