"""Lists of a store's content: repositories with sizes, tags with digests and dates."""

import contextlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from tagferry.catalog.contents import BoundedReader
from tagferry.catalog.repositories import (
    RepositoryDetails,
    describe_repositories,
    describe_repository,
    list_repositories,
    repositories_with_tags,
)
from tagferry.catalog.tags import TagDetails, choose_by_name, choose_tags, describe_tags, has_tags
from tagferry.errors import Conflict, Incomplete, NotDeleted, NotFound, Unsupported
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.deletion import not_deleted, wait_until_deleted
from tagferry.oci.images import ImageStore, TagRecord, tag_changed
from tagferry.oci.referrer_tags import cosign_kind, cosign_tags

__all__ = [
    "RepositoryDetails",
    "TagDetails",
    "choose_by_name",
    "choose_tags",
    "delete_tag",
    "describe_referrer",
    "describe_repositories",
    "describe_repository",
    "describe_tag",
    "describe_tags",
    "find_tag",
    "has_tags",
    "list_referrers",
    "list_repositories",
    "list_subject_tags",
    "repositories_with_tags",
    "require_deletion",
]

_NAMES_IN_ERROR = 5


@dataclass(frozen=True, slots=True)
class Referrer:
    """A signature or another referrer of a manifest.

    Attributes:
        subject: the manifest that it refers to.
        kind: its artifact type; `signature.cosign` and the like for artifacts under cosign's tags.
        tag: the cosign tag.
        updated: when that tag was written; None if the store does not know.
    """

    subject: Digest
    digest: Digest
    kind: str
    tag: Tag | None = None
    updated: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReferrerDetails:
    """A referrer with its size, and dates like those of a tag."""

    referrer: Referrer
    size: int
    created: datetime | None
    updated: datetime | None


async def describe_tag(store: ImageStore, name: RepositoryName, tag: Tag) -> TagDetails:
    """Return a tag with its manifest; raises NotFound of the kind `tag` or `repository`."""
    reader = BoundedReader(store, with_texts=True)
    details = await describe_tags(store, name, await store.describe_tags(name, only=[tag]), reader=reader)
    if details:
        return details[0]
    raise await _missing(store, name, tag)


async def find_tag(store: ImageStore, name: RepositoryName, tag: Tag) -> Digest:
    """Return the digest that a tag points to; raises NotFound of the kind `tag` or `repository`."""
    found = await store.head_manifest(name, tag, confirm_missing=True)
    if found is None:
        raise await _missing(store, name, tag)
    return found.digest


async def _missing(store: ImageStore, name: RepositoryName, tag: Tag) -> NotFound:
    """Return the error for a missing tag, or for its repository if that has no tag at all."""
    return NotFound("tag", f"{name}:{tag}") if await has_tags(store, name) else NotFound("repository", name)


async def list_referrers(store: ImageStore, name: RepositoryName, subject: Digest) -> list[Referrer]:
    """Return the direct referrers of a manifest and its cosign artifacts, by digest."""
    records = await store.describe_tags(name, only=cosign_tags(subject))
    tagged = [
        Referrer(subject, record.digest, f"{cosign_kind(record.tag)}.cosign", record.tag, record.updated)
        for record in records
    ]
    try:
        referrers = await store.list_referrers(name, subject)
    except Incomplete as error:
        referrers = list(error.found)
    found = {one.digest: Referrer(subject, one.digest, one.artifact_type or one.media_type) for one in referrers}
    return sorted([*found.values(), *tagged], key=lambda one: (one.digest, one.tag or ""))


async def describe_referrer(
    store: ImageStore, name: RepositoryName, referrer: Referrer, reader: BoundedReader | None = None
) -> ReferrerDetails | None:
    """Return a referrer with its size and dates, as far as it can be read; None if it no longer exists."""
    try:
        image = await (reader or BoundedReader(store)).image(name, referrer.digest)
    except (NotFound, Unsupported):
        return None
    built = image.built if image else None
    return ReferrerDetails(
        referrer=referrer,
        size=image.size if image else 0,
        created=built or referrer.updated,
        updated=referrer.updated or built,
    )


async def list_subject_tags(store: ImageStore, name: RepositoryName, tag: Tag) -> list[Tag]:
    """Return the tags of a referrer's subject in lexical order; raises NotFound if that tag does not exist."""
    manifest = await store.get_manifest(name, tag)
    subject = manifest.subject.digest if manifest.subject else None
    records = await store.describe_tags(name)
    return [record.tag for record in records if record.digest == subject or tag in cosign_tags(record.digest)]


async def delete_tag(
    store: ImageStore,
    name: RepositoryName,
    tag: Tag,
    *,
    seen: TagRecord | None = None,
    deleting: Collection[TagRecord] = (),
    listed: dict[Digest, frozenset[Digest]] | None = None,
) -> list[Tag]:
    """Delete a tag; if the registry cannot delete single tags, delete its manifest, unless other tags reference it.

    Args:
        store: the store.
        name: the repository.
        tag: the tag.
        seen: as in `ImageStore.delete_manifest`.
        deleting: tags to be deleted too, which may be deleted with the manifest if they are unchanged.
        listed: if given, filled with the entries of indexes, so that they are read once for several tags.

    Returns:
        The tags that were deleted: this one, and those deleted with the manifest.

    Raises:
        NotFound: of the kind `tag` or `repository`.
        Conflict: other tags reference the same manifest, and the registry would delete it; or the tag has changed.
        NotDeleted: the registry still has it.
        Unsupported: the registry does not support deletion.
    """
    is_accepted = False
    try:
        await store.delete_manifest(name, tag, seen=seen)
    except (Unsupported, NotDeleted) as error:
        is_accepted = isinstance(error, NotDeleted)
        records = await store.describe_tags(name)
    else:
        return [tag]
    digest = next((record.digest for record in records if record.tag == tag), None)
    if digest is None and is_accepted:
        # The deletion took effect while the tags were listed.
        return [tag]
    if digest is None:
        raise NotFound("tag", f"{name}:{tag}") if records else NotFound("repository", name)
    if seen is not None and digest != seen.digest:
        raise tag_changed(name, tag)
    together = {one.tag for one in deleting if one.digest == digest} | {tag}
    same = [record.tag for record in records if record.digest == digest]
    others = [record for record in records if record.digest != digest or record.tag not in together]
    known = {} if listed is None else listed
    if referencing := [other.tag for other in others if await _references(store, name, other.digest, digest, known)]:
        raise Conflict(
            "tag",
            f"registry {store.name} cannot delete {name}:{tag} alone, and {', '.join(referencing[:_NAMES_IN_ERROR])} "
            "would lose its image; delete the whole repository, or point the other tags to other images first",
        )
    await store.delete_manifest(name, digest)

    async def left() -> list[Tag]:
        return [record.tag for record in await store.describe_tags(name, only=same) if record.digest == digest]

    if tags := await wait_until_deleted(left):
        raise not_deleted(store.name, name, tags, "it deleted the manifest that they point to")
    return same


async def require_deletion(store: ImageStore, name: RepositoryName) -> None:
    """Check that a registry supports deletion, by deleting a nonexistent manifest; raises Unsupported if not."""
    with contextlib.suppress(NotFound):
        await store.delete_manifest(name, Digest.of(secrets.token_bytes(32)))


async def _references(
    store: ImageStore, name: RepositoryName, root: Digest, digest: Digest, listed: dict[Digest, frozenset[Digest]]
) -> bool:
    if root == digest:
        return True
    if root not in listed:
        found = await BoundedReader(store).manifests(name, root)
        if found is None:
            return True
        listed[root] = found
    return digest in listed[root]
