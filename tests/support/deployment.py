"""A complete tagferry: regions that listen on loopback, an administrator, and clients of every kind."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkiam.v3 import IamClient
from huaweicloudsdkswr.v2 import SwrClient
from yarl import URL

from tagferry.accounts.model import AccessKey, Permission
from tagferry.app import DEFAULT_DOMAIN, App, FirstAdmin, Reloader, Serving, ensure_admin, open_app
from tagferry.cli.client import ManagementClient
from tagferry.names import Namespace, RegionId, RepositoryName, Tag
from tagferry.oci.images import ImageStore
from tagferry.oci.model import Manifest
from tagferry.settings import Settings
from tagferry.web.server.serve import listening
from tests.support.clock import Calendar
from tests.support.memory_store import MemoryStore
from tests.support.processes import free_port
from tests.support.schemas import sqlite_in

Result = TypeVar("Result")

NORTH, SOUTH = RegionId("cn-north-4"), RegionId("cn-north-208")
TEAM, RELEASE = Namespace("team"), Namespace("release")


@dataclass(frozen=True)
class Answer:
    """An HTTP response with its complete body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.content)

    def refused(self) -> tuple[int, str, str]:
        """Return the status, code and message of an error, after a check of the fields that every error has."""
        assert self.status >= 400, self.content
        assert self.headers["Content-Type"] == "application/json"
        document = self.document
        assert set(document) - {"error"} == {"error_code", "error_msg", "request_id", "errors"}
        assert document["request_id"] == self.headers["X-Request-Id"]
        assert document["errors"][0] == {
            "errorCode": document["error_code"],
            "errorMessage": document["error_msg"],
            "detail": "",
        }
        return self.status, document["error_code"], document["error_msg"]


class HeldStore(MemoryStore):
    """A target that accepts no manifest until it is released."""

    def __init__(self) -> None:
        super().__init__("held")
        self.released = asyncio.Event()

    async def put_manifest(
        self, repository: RepositoryName, manifest: Manifest, tag: Tag | None = None, **terms: Any
    ) -> None:
        await self.released.wait()
        await super().put_manifest(repository, manifest, tag, **terms)


@dataclass(frozen=True)
class Deployment:
    """A running tagferry.

    Attributes:
        urls: the address of every served region.
        reloader: reloads its configuration, which is `wanted[0]`.
    """

    app: App
    reloader: Reloader
    wanted: list[Settings]
    admin: FirstAdmin
    urls: dict[RegionId, str]

    @property
    def settings(self) -> Settings:
        """Its configuration."""
        return self.reloader.settings

    async def reload(self, **sections: Any) -> list[str]:
        """Reload the configuration with these top-level settings changed; returns the keys that have changed."""
        document = {**self.settings.model_dump(exclude_unset=True), **sections}
        self.wanted[0] = Settings.parse(document)
        return await self.reloader.reload()

    def store(self, region: RegionId) -> ImageStore:
        """Return the region's image store, without an API in between."""
        return self.app.services.swr.regions[region].store

    def hold(self, region: RegionId) -> HeldStore:
        """Replace a region's store by one that accepts no manifest until it is released."""
        held = HeldStore()
        self.replace(region, held)
        return held

    def replace(self, region: RegionId, store: ImageStore) -> None:
        """Replace a region's store."""
        regions = self.app.services.swr.regions._regions
        regions[region] = replace(regions[region], store=store)

    async def http(
        self,
        method: str,
        path: str,
        *,
        region: RegionId = NORTH,
        body: Any = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> Answer:
        """Send one request; the path and a body of bytes are sent unchanged, other bodies as JSON."""
        content = body if body is None or isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body)
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), skip_auto_headers=["Content-Type"]) as http,
            http.request(
                method,
                URL(f"{self.urls[region]}{path}", encoded=True),
                data=content.encode() if isinstance(content, str) else content,
                headers=headers if isinstance(headers, Mapping) else list(headers),
                allow_redirects=False,
            ) as response,
        ):
            return Answer(response.status, response.headers, await response.read())

    @contextmanager
    def later(self, time: timedelta) -> Iterator[None]:
        """Move the time forward for everything that expires."""
        calendar, services = Calendar(), self.app.services.iam
        calendar.ahead = time
        before = services.tokens._clock, services.temporary._clock
        services.tokens._clock = services.temporary._clock = calendar
        try:
            yield
        finally:
            services.tokens._clock, services.temporary._clock = before

    def client(self, region: RegionId = NORTH, key: AccessKey | None = None) -> ManagementClient:
        """tagferry's own client, signing as the administrator or with another key."""
        key = key or self.admin.key
        return ManagementClient(self.urls[region], key.access_key, key.secret_key)

    async def start_sync(self, repository: RepositoryName, tags: Iterable[Tag], namespace: Namespace) -> list[int]:
        """Start to synchronize tags from the north to an organization in the south; returns the ids of their jobs."""
        body = {"imageTag": list(tags), "remoteNamespace": namespace, "remoteRegionId": SOUTH}
        async with self.client() as client:
            started = await client.start_sync(repository.namespace, repository.repository, body)
        return list(started.tags)

    async def ended_jobs(self, repository: RepositoryName, job_ids: list[int]) -> list[dict[str, Any]]:
        """Wait until these jobs have ended; returns them."""
        async with self.client() as client:

            async def ended() -> list[dict[str, Any]]:
                jobs = (await client.sync_jobs(repository.namespace, repository.repository, job_ids)).values()
                return [] if any(job["status"] in ("waiting", "running") for job in jobs) else list(jobs)

            return await eventually(ended)

    def sdk(
        self,
        region: RegionId = NORTH,
        key: AccessKey | None = None,
        *,
        seconds: float = 60,
        security_token: str | None = None,
    ) -> Any:
        """Return the SWR SDK's client for a region, with this timeout; its calls block (see `calling`)."""
        key = key or self.admin.key
        config = _http_config()
        config.timeout = (5, seconds)
        builder = SwrClient.new_builder().with_http_config(config).with_endpoints([self.urls[region]])
        credentials = BasicCredentials(key.access_key, key.secret_key, "a" * 32)
        if security_token is not None:
            credentials = credentials.with_security_token(security_token)
        return builder.with_credentials(credentials).build()

    def iam(self, key: AccessKey | None = None, *, security_token: str | None = None) -> Any:
        """Return the IAM SDK's client at the north's address; its calls block (see `calling`)."""
        key = key or self.admin.key
        credentials = GlobalCredentials(key.access_key, key.secret_key, "d" * 32)
        if security_token is not None:
            credentials = credentials.with_security_token(security_token)
        config = _http_config()
        config.timeout = (5, 60)
        builder = IamClient.new_builder().with_http_config(config).with_endpoints([self.urls[NORTH]])
        return builder.with_credentials(credentials).build()

    async def token(self, region: RegionId = NORTH, user: str | None = None, password: str | None = None) -> str:
        """Return an IAM token, requested by plain HTTP."""
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user or self.admin.name, "password": password or self.admin.password}},
        }
        body = {"auth": {"identity": identity, "scope": {"project": {"name": region}}}}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.urls[region]}/v3/auth/tokens", json=body) as response,
        ):
            assert response.status == 201, await response.text()
            return response.headers["X-Subject-Token"]

    async def user(
        self, name: str, *, domain: str = DEFAULT_DOMAIN, **permissions: Permission
    ) -> tuple[str, AccessKey]:
        """Create a user with these permissions in the source region's organizations; returns its password and key."""
        password = f"password of {name}"
        await self.app.accounts.users.create(name, password, domain=domain)
        for organization, permission in permissions.items():
            await self.grant(name, NORTH, Namespace(organization), permission)
        return password, await self.key(name)

    async def key(self, name: str) -> AccessKey:
        """Create another access key for a user."""
        user = await self.app.accounts.users.find(name)
        return await self.app.accounts.keys.create(user.user_id)

    async def grant(self, name: str, region: RegionId, organization: Namespace, permission: Permission) -> None:
        await self.app.accounts.organizations.grant(region, organization, name, permission)

    async def organization(self, region: RegionId, name: Namespace) -> None:
        """Create an organization that the administrator manages."""
        admin = await self.app.accounts.users.find(self.admin.name)
        await self.app.accounts.organizations.create(admin, region, name)


@asynccontextmanager
async def deployed(
    directory: Path, *, regions: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> AsyncIterator[Deployment]:
    """Run tagferry with these regions, or with two embedded ones with the organizations `team` and `release`.

    A region is given as in the configuration; where it has `listen = ""`, a free port is filled in.
    """
    regions = regions or {NORTH: {"listen": ""}, SOUTH: {"listen": ""}}
    for region in regions.values():
        if region.get("listen") == "":
            region["listen"] = f"127.0.0.1:{free_port()}"
    parsed = Settings.parse({"data_dir": directory, "regions": regions, **settings})
    if not parsed.database_url:
        sqlite_in(directory)
    urls = {
        name: f"{'https' if region.tls_certificate else 'http'}://{region.listen}"
        for name, region in parsed.served_regions.items()
    }
    wanted = [parsed]
    async with open_app(parsed) as app, listening(app.listeners, parsed.limits) as open_listeners:
        # Pages wait for whatever takes long, as it may on a slow machine.
        app.services.console.eventual.patience = 60.0
        admin = await ensure_admin(app.accounts)
        assert admin is not None
        serving = Serving(app, open_listeners)
        reloader = Reloader(parsed, app.backend, read=lambda: wanted[0], configure_logs=lambda _: None, serving=serving)
        deployment = Deployment(app=app, reloader=reloader, wanted=wanted, admin=admin, urls=urls)
        for name in parsed.regions:
            for organization in (TEAM, RELEASE):
                await deployment.organization(RegionId(name), organization)
        yield deployment


def _http_config() -> HttpConfig:
    """Return SDK settings of a new program: otherwise equal requests of the same second get equal signatures."""
    config = HttpConfig.get_default_config()
    config.user_agent = secrets.token_hex(8)
    return config


async def calling(call: Callable[..., Result], *arguments: Any) -> Result:
    """Make a blocking call, such as those of the SDK, while the server runs in this event loop."""
    return await asyncio.to_thread(call, *arguments)


async def eventually(check: Callable[[], Awaitable[Result]], *, seconds: float = 60.0) -> Result:
    """Poll until the result is true, and return it; fails after these seconds."""
    deadline = time.monotonic() + seconds
    while not (result := await check()):
        assert time.monotonic() < deadline, f"still {result!r} after {seconds:g} s"
        await asyncio.sleep(0.05)
    return result


def name_in(namespace: str, repository: str = "app") -> RepositoryName:
    """Return a repository's full name."""
    return RepositoryName(f"{namespace}/{repository}")
