"""Build the regions with their image stores."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tagferry.cache.capabilities import DatabaseCapabilities
from tagferry.cache.upload_sessions import DatabaseUploadCheckpoints
from tagferry.copy.rewrite import Acceptance
from tagferry.db.engine import Database
from tagferry.errors import Invalid
from tagferry.http.urls import PORTS
from tagferry.names import RegionId
from tagferry.oci.images import ImageStore
from tagferry.regions import Region, Regions
from tagferry.registry.storage.lock import RootLock
from tagferry.registry.storage.store import DiskStore
from tagferry.remote import Credentials, Endpoint, RemoteStore
from tagferry.remote.transport.docker_config import DockerCredentials
from tagferry.remote.transport.endpoint import CredentialSource
from tagferry.settings import RegionSettings, Settings
from tagferry.settings.sources import setting_label


@dataclass(frozen=True, slots=True)
class StorePersistence:
    """The state of stores that outlives this process.

    Attributes:
        leaving: set during shutdown, when uploads that are cancelled here continue in another process.
    """

    database: Database
    leaving: asyncio.Event


@asynccontextmanager
async def open_regions(settings: Settings, persistence: StorePersistence | None = None) -> AsyncIterator[Regions]:
    """Open all regions with their stores. The network is not used until a store is used.

    Without `persistence`, nothing about remote registries is loaded or stored, and embedded registries are not locked
    for this process; then it is only safe to read them, and to do what `verify` does.

    Raises:
        Unavailable: another process serves an embedded registry of the same directory.
    """
    async with AsyncExitStack() as stack:
        regions = []
        for name, region in settings.regions.items():
            if region.is_embedded and persistence is not None:
                lock = await asyncio.to_thread(RootLock.take, registry_root(settings, name))
                stack.callback(lock.release)
            store = await _store(RegionId(name), region, settings, persistence)
            stack.push_async_callback(store.close)
            accepts = Acceptance(**region.accepts.model_dump())
            regions.append(Region(id=RegionId(name), url=region.url, store=store, accepts=accepts))
        yield Regions(regions)


async def _store(
    name: RegionId, region: RegionSettings, settings: Settings, persistence: StorePersistence | None
) -> ImageStore:
    if region.is_embedded:
        # Leftovers of earlier processes are removed later, by age, once the clock is known to be plausible.
        return DiskStore(
            registry_root(settings, name), name=name, address=region.url, reserve=settings.limits.disk_reserve_bytes
        )
    return RemoteStore(
        endpoint_of(name, region),
        capabilities=DatabaseCapabilities(persistence.database, region.url) if persistence is not None else None,
        checkpoints=DatabaseUploadCheckpoints(persistence.database, region.url, leaving=persistence.leaving)
        if persistence is not None
        else None,
    )


def registry_root(settings: Settings, name: str) -> Path:
    """Return the directory of an embedded registry."""
    return settings.data_dir / "registries" / name


def endpoint_of(name: str, region: RegionSettings) -> Endpoint:
    """Return the address and connection settings of a region's remote registry.

    Raises:
        Invalid: a file or proxy cannot be used; names the setting or the environment variable.
    """
    try:
        endpoint = Endpoint(
            name=name,
            url=region.registry,
            credentials=_credentials(region),
            ca_file=region.ca_file,
            ca_only=region.ca_only,
            insecure_skip_verify=region.insecure_skip_verify,
            client_certificate=region.client_certificate,
            client_key=region.client_key,
            proxy=region.proxy,
            token_hosts=region.token_hosts,
            redirect_hosts=region.redirect_hosts,
            max_connections=region.max_connections,
            request_timeout=region.request_timeout_seconds,
            read_timeout=region.stall_timeout_seconds,
            min_bytes_per_second=region.min_bytes_per_second,
        )
        endpoint.check()
    except Invalid as error:
        # Other fields are environment variables.
        is_setting = error.field in RegionSettings.model_fields
        field = setting_label(("regions", name, error.field)) if is_setting else error.field
        raise Invalid(field, error.rule, error.value) from None
    return endpoint


def _credentials(region: RegionSettings) -> Credentials | CredentialSource | None:
    """Return the credentials for a region's registry. Credential helpers run at its first request."""
    if region.username is not None and region.password is not None:
        return Credentials(username=region.username, password=region.password.get_secret_value())
    if region.docker_config is None:
        return None
    scheme, _, host = region.registry.partition("://")
    return DockerCredentials(region.docker_config, host, default_port=PORTS[scheme])
