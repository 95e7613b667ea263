"""The implementations of `ImageStore` that the contract suite runs over.

To add one: write an async context manager that yields an empty-enough store, and enter it in IMPLEMENTATIONS with
what it cannot do, if anything.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tagferry.names import RepositoryName
from tagferry.oci.images import ImageStore
from tagferry.registry.server import RegistryApp
from tagferry.registry.storage import DiskStore
from tagferry.remote import Endpoint, RemoteStore
from tests.interop.programs import DISTRIBUTION, INTEROP, built
from tests.support.docker_registry import DockerRegistry, docker_registry
from tests.support.memory_store import MemoryStore
from tests.support.open_gate import OpenGate
from tests.support.serving import serving

Requesting = Callable[[str], object]
"""Gives a fixture by its name, so that a server is started only for the implementation that needs it."""


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """One way to keep images.

    Attributes:
        open: makes the store; its arguments are a folder of its own and what gives fixtures.
        marks: which of the make targets runs its tests.
        keeps_sha512: whether content can be addressed by sha512.
        deletes_tags: whether one tag can be deleted and its manifest stay.
    """

    open: Callable[[Path, Requesting], AbstractAsyncContextManager[ImageStore]]
    marks: Sequence[pytest.MarkDecorator] = ()
    keeps_sha512: bool = True
    deletes_tags: bool = True


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
async def _disk(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    store = await DiskStore.open(folder / "region")
    yield store
    await store.close()


@asynccontextmanager
async def _embedded_registry(folder: Path, fixture: Requesting) -> AsyncIterator[ImageStore]:
    served = await DiskStore.open(folder / "region")
    async with serving(RegistryApp(served, OpenGate())) as url:
        store = RemoteStore(Endpoint(name="embedded", url=url))
        yield store
        await store.close()
    await served.close()


IMPLEMENTATIONS: dict[str, Implementation] = {
    "memory": Implementation(open=_memory),
    "disk": Implementation(open=_disk),
    "remote to the embedded registry": Implementation(open=_embedded_registry),
    "remote to docker-registry": Implementation(open=_docker_registry, keeps_sha512=False, deletes_tags=False),
    "remote to distribution 3": Implementation(open=_distribution, keeps_sha512=False, marks=INTEROP),
}


@pytest.fixture(scope="session")
def running_docker_registry(tmp_path_factory: pytest.TempPathFactory):
    with docker_registry(tmp_path_factory.mktemp("docker-registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def running_distribution(tmp_path_factory: pytest.TempPathFactory):
    with docker_registry(tmp_path_factory.mktemp("distribution"), program=built(DISTRIBUTION)) as registry:
        yield registry


@pytest.fixture(params=[pytest.param(name, marks=one.marks) for name, one in IMPLEMENTATIONS.items()])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    return IMPLEMENTATIONS[request.param]


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
