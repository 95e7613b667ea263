"""Find damaged content of embedded registries in the background, and restore it from other regions."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from tagferry.errors import TagferryError
from tagferry.names import Digest, RepositoryName
from tagferry.oci.images import ImageStore, OpenBlob
from tagferry.oci.model import Descriptor
from tagferry.regions import Region, Regions
from tagferry.registry.storage.integrity import Damage
from tagferry.registry.storage.scrub import Progress, Scrub
from tagferry.registry.storage.store import DiskStore
from tagferry.registry.storage.threads import DiskFailed

SCRUB_BYTES_PER_SECOND = 16 * 1024 * 1024
"""The maximum rate of reading; 40 TB take 30 days."""
_PAUSE_SECONDS = 60.0
_BEHIND_SECONDS = 1.0
_RETRY_SECONDS = 3600.0
_DAY_SECONDS = 24 * 3600.0
_BLOB = "application/octet-stream"

log = structlog.get_logger(__name__)


class Locations(Protocol):
    """Looks up the known locations of blobs."""

    async def find(self, store: str, digests: list[Digest]) -> dict[Digest, list[RepositoryName]]:
        """Return the repositories of a store that held these blobs."""
        ...


class Restorer:
    """Restores damaged content from other regions, by its digest.

    Args:
        regions: the regions to search.
        locations: the known locations of blobs.
    """

    def __init__(self, regions: Regions, locations: Locations) -> None:
        self._regions = regions
        self._locations = locations

    async def restore(self, region: Region, damages: Iterable[Damage]) -> dict[Damage, str]:
        """Restore blobs and manifests, not tags; return the source region of each that was restored."""
        # A manifest can be stored only after the content that it refers to, and an index after its images.
        wanted = {damage for damage in damages if damage.kind in ("blob", "manifest")}
        remaining = sorted(wanted, key=str)
        restored: dict[Damage, str] = {}
        while remaining:
            copied = {damage: source for damage in remaining if (source := await self._restore(region, damage, wanted))}
            if not copied:
                break
            restored |= copied
            remaining = [damage for damage in remaining if damage not in copied]
        return restored

    async def _restore(self, region: Region, damage: Damage, damages: Iterable[Damage]) -> str | None:
        assert isinstance(region.store, DiskStore)  # noqa: S101
        digest = Digest(damage.name)
        # Other regions may hold the content in any of the repositories in which it is damaged here.
        same = [one.repository for one in damages if one.name == damage.name and one.repository is not None]
        for other in self._regions:
            if other.id == region.id or damage.repository is None:
                continue
            try:
                seen = await self._locations.find(other.store.address, [digest])
                for repository in dict.fromkeys([damage.repository, *sorted(same), *seen.get(digest, [])]):
                    if await _copy(damage, damage.repository, region.store, other.store, repository):
                        log.info("restored damaged content", region=region.id, source=other.id, **damage._asdict())
                        return other.id
            except (TagferryError, OSError) as error:
                reason = str(error)
                log.info("failed to restore content", region=region.id, source=other.id, reason=reason)
        return None


async def _copy(
    damage: Damage, to: RepositoryName, target: DiskStore, source: ImageStore, repository: RepositoryName
) -> bool:
    """Copy a blob, or a manifest with its blobs, from another store; return False if that does not hold it."""
    digest = Digest(damage.name)
    if damage.kind == "blob":
        size = await source.stat_blob(repository, digest)
        if size is None:
            return False
        blob = Descriptor(media_type=_BLOB, digest=digest, size=size)
        await target.repair.restore_blob(to, blob, _opener(source, repository, blob))
        return True
    if await source.head_manifest(repository, digest) is None:
        return False
    manifest = await source.get_manifest(repository, digest)
    for blob in manifest.blobs:
        if not blob.is_external:
            await target.repair.restore_blob(to, blob, _opener(source, repository, blob), needed_by=digest)
    await target.repair.restore_manifest(to, manifest)
    return True


def _opener(source: ImageStore, repository: RepositoryName, blob: Descriptor) -> OpenBlob:
    def open_blob(offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return source.read_blob(repository, blob, offset=offset)

    return open_blob


class Scrubber:
    """Verifies all content of an embedded registry periodically, and restores damaged content. A reload changes `days`.

    Args:
        region: the region of the registry.
        restorer: restores damaged content.
        days: the period; 0 restores only damage that requests find.
    """

    def __init__(self, region: Region, restorer: Restorer, *, days: float) -> None:
        assert isinstance(region.store, DiskStore)  # noqa: S101
        self._region = region
        self._store = region.store
        self._restorer = restorer
        self.days = days
        self._scrub = region.store.repair.scrub(bytes_per_second=SCRUB_BYTES_PER_SECOND)
        self._tried_at: dict[Damage, float] = {}

    async def run(self) -> None:
        """Scrub until cancelled."""
        pause = _PAUSE_SECONDS
        try:
            while True:
                await asyncio.sleep(pause)
                pause = _PAUSE_SECONDS
                # A disk that cannot be written can neither be marked nor restored to.
                if await self._store.write_error() is not None:
                    continue
                try:
                    await self._restore_reported()
                    if self.days and await self.advance(time.time()):
                        pause = _BEHIND_SECONDS
                except (OSError, TagferryError) as error:
                    log.warning("failed to verify stored content", region=self._region.id, reason=str(error))
        finally:
            self._scrub.close()

    async def advance(self, now: float) -> bool:
        """Verify the next section if it is due at `now`, in seconds since 1970; return whether it was."""
        begun_at, done = await self._scrub.progress()
        sections = await self._scrub.sections()
        period = self.days * _DAY_SECONDS
        is_over = begun_at <= now - period and not any(one > done for one in sections)
        if not begun_at or begun_at > now or is_over:
            begun_at, done = now, ""
        remaining = [section for section in sections if section > done]
        if not remaining:
            return False
        if now < begun_at + period * (len(sections) - len(remaining)) / len(sections):
            return False
        try:
            damages = await self._scrub.check(remaining[0])
        except DiskFailed as error:
            # Every attempt would fail again, and later sections would never be read.
            log.warning("skipped unreadable content", region=self._region.id, section=remaining[0], reason=str(error))
            damages = []
        await self._scrub.save(Progress(begun_at, remaining[0]))
        await self._restorer.restore(self._region, damages)
        if len(remaining) == 1:
            log.info("verified all stored content", region=self._region.id, bytes=self._scrub.bytes_read)
        return True

    async def _restore_reported(self) -> None:
        """Restore damage that requests have found."""
        now = time.monotonic()
        reported = [damage for damage in self._store.repair.reported() if damage.kind in ("blob", "manifest")]
        self._tried_at = {damage: self._tried_at[damage] for damage in reported if damage in self._tried_at}
        for damage in reported:
            if now - self._tried_at.get(damage, -_RETRY_SECONDS) >= _RETRY_SECONDS:
                self._tried_at[damage] = now
                await self._restorer.restore(self._region, await self._scrub.holders(damage))


async def verify(region: Region, scrub: Scrub, restorer: Restorer | None) -> dict[Damage, str | None]:
    """Verify all content at once; return the damage, each with the region that it was restored from, if any."""
    damages: dict[Damage, str | None] = {}
    for section in await scrub.sections():
        for damage in await scrub.check(section):
            damages[damage] = None
    if restorer is not None:
        damages |= await restorer.restore(region, damages)
    return damages
