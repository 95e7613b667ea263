"""A registry in a temporary directory, served over HTTP."""

import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tagferry.errors import Denied, NotFound, Unauthenticated
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.registry.api.access import Action, Login, Scope
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.support.serving import serving


@dataclass
class ScriptedAuthorizer:
    """Authorizes the caller `me`, unless a test denies it."""

    denied: set[tuple[Action, str]] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    failure: Exception | None = None

    def challenge(self, login: Login, scopes: Sequence[Scope], error: Unauthenticated) -> str:
        return f'Bearer realm="{login.origin}/token",scope="{" ".join(map(str, scopes))}"'

    async def authorize(
        self, login: Login, actions: frozenset[Action], repository: RepositoryName | None
    ) -> str | None:
        if login.authorization != "me":
            raise Unauthenticated("log in first")
        if self.failure is not None:
            raise self.failure
        if repository is None:
            return "me"
        if repository.partition("/")[0] in self.absent:
            raise NotFound("organization", repository.partition("/")[0])
        if any((action, repository) in self.denied for action in actions):
            raise Denied(f"you may not do this to {repository}")
        return "me"

    async def visible(self, login: Login, repositories: Sequence[RepositoryName]) -> Sequence[RepositoryName]:
        return [name for name in repositories if name not in self.hidden]


@dataclass
class Registry:
    """A running registry and its client."""

    url: str
    root: Path
    store: DiskStore
    authorizer: ScriptedAuthorizer
    http: aiohttp.ClientSession
    pushes: list[tuple[RepositoryName, Tag | None, Digest, str | None]]
    deletions: list[tuple[RepositoryName, Reference]]

    async def push_blob(self, content: bytes, repository: str = "org/app") -> Digest:
        digest = Digest.of(content)
        async with self.http.post(
            f"/v2/{repository}/blobs/uploads/?digest={digest}", data=io.BytesIO(content)
        ) as response:
            assert response.status == 201, await response.text()
        return digest

    async def start_upload(self, repository: str = "org/app") -> str:
        async with self.http.post(f"/v2/{repository}/blobs/uploads/") as response:
            assert response.status == 202
            return response.headers["Location"]

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, repository: str = "org/app"
    ) -> aiohttp.ClientResponse:
        return (await self.put_manifest(raw, media_type, reference, repository))[0]

    async def put_manifest(
        self, raw: bytes, media_type: str, reference: str, repository: str = "org/app"
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        headers = {"Content-Type": media_type}
        url = f"/v2/{repository}/manifests/{reference}"
        async with self.http.put(url, data=raw, headers=headers) as response:
            return response, await response.read()

    async def get(self, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(path, headers=named) as response:
            return response, await response.read()


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    authorizer = ScriptedAuthorizer()
    pushes: list[tuple[RepositoryName, Tag | None, Digest, str | None]] = []
    deletions: list[tuple[RepositoryName, Reference]] = []

    async def on_delete(repository: RepositoryName, reference: Reference) -> None:
        deletions.append((repository, reference))

    async def on_push(repository: RepositoryName, tag: Tag | None, digest: Digest, by: str | None) -> None:
        pushes.append((repository, tag, digest, by))

    root = tmp_path / "region"
    store = await DiskStore.open(root)
    async with (
        serving(RegistryApp(store, authorizer, on_push=on_push, on_delete=on_delete, idle_seconds=5)) as url,
        aiohttp.ClientSession(url, headers={"Authorization": "me"}) as http,
    ):
        yield Registry(
            url=url, root=root, store=store, authorizer=authorizer, http=http, pushes=pushes, deletions=deletions
        )
    await store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    opened = await DiskStore.open(tmp_path / "region")
    yield opened
    await opened.close()
