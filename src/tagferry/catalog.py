"""What a store holds, told as people ask for it: repositories with sizes, tags with digests and dates."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tagferry.errors import NotFound, TagferryError, Unsupported
from tagferry.names import Digest, Namespace, RepositoryName, Tag
from tagferry.oci.images import ImageStore, TagRecord
from tagferry.oci.model import MANIFEST_SIZE_LIMIT, Descriptor, Manifest

_AT_ONCE = 8
_UNKNOWN = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class TagDetails:
    """A tag and its image.

    Attributes:
        size: bytes of every distinct blob of the image, over all its platforms.
        created: when the image was built, by its config; for other artifacts as `updated`.
        updated: when the tag was written, where the store knows; otherwise as `created`.
    """

    tag: Tag
    manifest: Manifest
    size: int
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class RepositoryDetails:
    """A repository with all its tags.

    Attributes:
        size: bytes of every distinct blob.
    """

    name: RepositoryName
    tags: tuple[Tag, ...]
    size: int
    created: datetime
    updated: datetime


async def list_repositories(store: ImageStore, namespaces: Sequence[Namespace]) -> list[RepositoryName]:
    """The store's repositories in these organizations, in lexical order.

    Raises:
        Unsupported: the store does not list its repositories.
    """
    prefixes = tuple(f"{namespace}/" for namespace in namespaces)
    if not prefixes:
        return []
    return [name async for name in store.list_repositories() if name.startswith(prefixes)]


async def describe_repository(store: ImageStore, name: RepositoryName) -> RepositoryDetails:
    """A repository's tags, size and dates; raises NotFound."""
    records = await store.describe_tags(name)
    blobs: dict[Digest, int] = {}
    details = await describe_tags(store, name, records, blobs)
    moments = [moment for detail in details for moment in (detail.created, detail.updated)]
    return RepositoryDetails(
        name=name,
        tags=tuple(record.tag for record in records),
        size=sum(blobs.values()),
        created=min(moments, default=_UNKNOWN),
        updated=max((detail.updated for detail in details), default=_UNKNOWN),
    )


async def describe_tag(store: ImageStore, name: RepositoryName, tag: Tag) -> TagDetails:
    """One tag; raises NotFound of the kind `tag` or `repository`."""
    details = await describe_tags(store, name, await store.describe_tags(name, only=[tag]))
    if details:
        return details[0]
    async for _ in store.list_tags(name):
        break
    raise NotFound("tag", f"{name}:{tag}")


async def describe_tags(
    store: ImageStore,
    name: RepositoryName,
    records: Sequence[TagRecord],
    blobs: dict[Digest, int] | None = None,
) -> list[TagDetails]:
    """Describe these tags; one that vanishes meanwhile, or is of a type that is not understood, is left out.

    Args:
        store: where the repository is.
        name: the repository.
        records: the tags.
        blobs: filled with the size of every distinct blob, where given.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(record: TagRecord) -> TagDetails | None:
        async with gate:
            try:
                return await _describe(store, name, record, blobs if blobs is not None else {})
            except (NotFound, Unsupported):
                return None

    found = await asyncio.gather(*(one(record) for record in records))
    return [details for details in found if details is not None]


async def _describe(
    store: ImageStore, name: RepositoryName, record: TagRecord, all_blobs: dict[Digest, int]
) -> TagDetails:
    manifest = await store.get_manifest(name, record.digest)
    images = await _images(store, name, manifest)
    blobs = {blob.digest: blob.size for image in images for blob in image.blobs}
    all_blobs.update(blobs)
    config = next((image.config for image in images if image.config), None)
    created = await _created(store, name, config) if config else None
    return TagDetails(
        tag=record.tag,
        manifest=manifest,
        size=sum(blobs.values()),
        created=created or record.updated or _UNKNOWN,
        updated=record.updated or created or _UNKNOWN,
    )


async def _images(store: ImageStore, name: RepositoryName, manifest: Manifest) -> list[Manifest]:
    """The image itself, or those that an index lists over all its levels; what the store lacks is left out."""
    found: dict[Digest, Manifest] = {manifest.digest: manifest}
    waiting = [manifest]
    while waiting:
        for child in waiting.pop().children:
            if child.digest not in found:
                with contextlib.suppress(NotFound):
                    found[child.digest] = await store.get_manifest(name, child.digest)
                    waiting.append(found[child.digest])
    return [image for image in found.values() if not image.is_index]


async def _created(store: ImageStore, name: RepositoryName, config: Descriptor) -> datetime | None:
    if config.size > MANIFEST_SIZE_LIMIT:
        return None
    try:
        async with store.read_blob(name, config) as chunks:
            raw = b"".join([chunk async for chunk in chunks])
        created = datetime.fromisoformat(json.loads(raw)["created"])
    except (TagferryError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return created if created.tzinfo else created.replace(tzinfo=UTC)
