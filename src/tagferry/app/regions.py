"""Build the regions with their image stores."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

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
    stores = RegionStores(persistence)
    try:
        yield Regions(await stores.open(settings))
    finally:
        await stores.close()


class RegionStores:
    """Opens the stores of all regions, again for each reload, and closes them at the end.

    A store that a reload has replaced remains usable, since copies may take long. Its idle connections are closed by
    its pool. It is closed at the end, too, if it is still in use then.

    Args:
        persistence: see `open_regions`.
    """

    def __init__(self, persistence: StorePersistence | None) -> None:
        self._persistence = persistence
        self._stores: WeakSet[ImageStore] = WeakSet()
        self._locks: list[RootLock] = []

    async def open(self, settings: Settings, kept: Mapping[RegionId, ImageStore] | None = None) -> list[Region]:
        """Return all regions; those in `kept` with these stores, the others with new ones.

        Raises:
            Unavailable: another process serves an embedded registry of the same directory.
            Invalid: a file or a proxy cannot be used; nothing has changed.
        """
        regions = []
        for name, region in settings.regions.items():
            store = (kept or {}).get(RegionId(name))
            if store is None:
                if region.is_embedded and self._persistence is not None:
                    self._locks.append(await asyncio.to_thread(RootLock.take, registry_root(settings, name)))
                store = await _store(RegionId(name), region, settings, self._persistence)
                self._stores.add(store)
            accepts = Acceptance(**region.accepts.model_dump())
            regions.append(Region(id=RegionId(name), url=region.url, store=store, accepts=accepts))
        return regions

    async def close(self) -> None:
        """Close all stores that are in use, and release the directories of embedded registries."""
        async with AsyncExitStack() as stack:
            for lock in self._locks:
                stack.callback(lock.release)
            for store in list(self._stores):
                stack.push_async_callback(store.close)


_NOT_OF_STORES: set[str] = {
    "listen",
    "public_url",
    "hosts",
    "max_bytes_per_second",
    "max_concurrent_tags",
    "max_tags_per_minute",
    "accepts",
    "poll_interval_seconds",
    "notifications_token",
    "organizations",
    "placeholder_repository",
    "tls_certificate",
    "tls_key",
}
"""The settings of a region that its store does not depend on."""


def have_same_store(one: RegionSettings, other: RegionSettings) -> bool:
    """Return whether two settings of a region reach its registry in the same way."""
    return one.is_embedded == other.is_embedded and (
        one.is_embedded or one.model_dump(exclude=_NOT_OF_STORES) == other.model_dump(exclude=_NOT_OF_STORES)
    )


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
