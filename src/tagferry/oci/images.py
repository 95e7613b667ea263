"""The contract of image stores: a registry over HTTP, a directory on disk, memory.

One suite, `tests/contract/`, tests every implementation.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from tagferry.errors import Conflict
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import Descriptor, Manifest


class BlobOutcome(Enum):
    """The method by which a repository obtained a blob."""

    PRESENT = "present"
    """The repository already held it."""
    MOUNTED = "mounted"
    """The store mounted it from another of its repositories, without a transfer."""
    UPLOADED = "uploaded"
    """It was uploaded."""


OpenBlob = Callable[[int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens a blob's content from an offset in bytes; called only by a store that needs the bytes.

The iterator may be `Spliceable`.
"""


class TagRecord(NamedTuple):
    """A tag and the digest that it points to.

    Attributes:
        updated: when the tag was last written; None if the store does not know.
    """

    tag: Tag
    digest: Digest
    updated: datetime | None = None


class ImageStore(Protocol):
    """A store of repositories with their tags, manifests and blobs.

    Every method may raise `Unavailable` (retry later) and `Refused` (the store denied the operation). Content that does
    not match its digest raises `Corrupt`, when it is read and when it is written.
    """

    @property
    def name(self) -> str:
        """The store's name in messages; unique in the process, so it also serves as a key of caches."""
        ...

    @property
    def address(self) -> str:
        """The address of the registry: the same in all processes, and after a restart.

        What is remembered about the registry's content belongs to it. Stores of one registry have the same address.
        """
        ...

    @property
    def identity(self) -> int:
        """A number that changes with the user as whom the store is queried; another user may see other content.

        A registry may report content as missing that it hides from a user.
        """
        ...

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        """Return the descriptor of a tag's or digest's manifest, or None if the manifest or repository does not exist.

        Args:
            repository: the repository.
            reference: the tag or digest.
            known: the descriptor that the caller expects. It does not change the result, but a store may confirm it at
                lower cost, without checking that the manifest can still be read.
            for_write: whether the caller is about to write to the repository, so that credentials are requested for
                that from now on.
            confirm_missing: whether to report a manifest as missing only after a GET has confirmed it; not with
                `known`.
        """
        ...

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """Return a manifest, verified against the digest if the reference is one.

        Raises:
            NotFound: of the kind `tag`, `manifest` or `repository`.
            Unsupported: the manifest has an unsupported type.
        """
        ...

    async def put_manifest(
        self,
        repository: RepositoryName,
        manifest: Manifest,
        tag: Tag | None = None,
        *,
        override: bool = True,
        seen: Digest | None = None,
    ) -> None:
        """Store the manifest's raw bytes under its digest and, if given, point the tag to it, atomically.

        Args:
            repository: the repository.
            manifest: the manifest.
            tag: the tag.
            override: whether the tag may currently point to any image. If not, the caller has read it before. A store
                with other writers cannot compare and write atomically, but reads the tag again before it sends the
                manifest a second time.
            seen: the digest that the caller read, which may be replaced; None if the tag did not exist.

        Raises:
            Conflict: of the kind `tag`: without `override`, the tag now points to another image. Of the kind `referrers
                tag`: the manifest is stored, but cannot be listed as a referrer of its subject.
            NotFound: the store rejected the manifest because something it references is missing.
            Unsupported: the store does not accept manifests of this kind.
            Invalid: the store does not accept this manifest.
        """
        ...

    async def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a manifest, or content below it, is known to be damaged and has to be sent again."""
        ...

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        """Delete a tag, or a manifest with all the tags that point to it; it can then no longer be read.

        Args:
            repository: the repository.
            reference: the tag or digest.
            seen: the tag as `describe_tags` returned it; the tag is deleted only if it is unchanged. A store with other
                writers checks this just before the deletion, not atomically.

        Raises:
            NotFound: the tag or manifest does not exist.
            Conflict: of the kind `tag`: it was written since it was read.
            NotDeleted: the store accepted the deletion and still has it.
            Unsupported: the store does not support deletion.
        """
        ...

    async def delete_repository(self, repository: RepositoryName) -> None:
        """Delete all the tags and manifests of a repository that the store lists.

        Manifests that no tag references may remain if the store does not list them, and so may the name of the empty
        repository. An error may leave a part deleted; another call continues.

        Raises:
            NotFound: of the kind `repository`.
            NotDeleted: the store accepted the deletions and still has some content.
            Unsupported: the store does not support deletion.
        """
        ...

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int | None:
        """Return a blob's size in bytes, or None if the repository does not hold it."""
        ...

    def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob's content from `offset` (bytes), in chunks that are not verified yet.

        The iterator may be `Spliceable`.

        Raises:
            NotFound: of the kind `blob`.
        """
        ...

    async def write_blob(
        self,
        repository: RepositoryName,
        descriptor: Descriptor,
        source: OpenBlob,
        *,
        mount_from: RepositoryName | None = None,
        force: bool = False,
    ) -> BlobOutcome:
        """Make the repository hold a blob by the cheapest method: it exists, is mounted, or is uploaded.

        Args:
            repository: the repository.
            descriptor: the blob's digest and size, which the store verifies before it commits.
            source: opened only if the blob is uploaded; opened again to resume, or for another attempt.
            mount_from: another repository of this store that is assumed to hold the blob.
            force: whether to upload even if the store reports that it has the blob, after such a report was wrong.
        """
        ...

    def list_tags(self, repository: RepositoryName) -> AsyncIterator[Tag]:
        """Yield the repository's tags in lexical order.

        Raises:
            NotFound: of the kind `repository`.
        """
        ...

    async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        """Return all tags of a repository if at most this many requests list them; None if not, or if it is refused.

        For callers that can also request single tags: a tag not in the list does not exist; None means unknown. The
        list of a repository that certainly does not exist is empty.
        """
        ...

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        """Return the repository's tags in lexical order with their digests; raises NotFound as `list_tags`.

        With `only`, return those of these tags that exist; none if the repository does not exist.
        """
        ...

    def list_repositories(self) -> AsyncIterator[RepositoryName]:
        """Yield every visible repository in lexical order; raises Unsupported if the store does not list them."""
        ...

    async def list_referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        tags: Collection[Tag] | None = None,
    ) -> list[Descriptor]:
        """Return the manifests whose subject is this digest, by the referrers API or its fallback, the tag schema.

        Args:
            repository: the subject's repository.
            digest: the subject's digest; it need not exist.
            artifact_type: restricts the list to this type.
            tags: the repository's tags, if known, which may save the request of the tag schema.

        Raises:
            Incomplete: there may be more referrers than the descriptors in its `found`.
        """
        ...

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Delete a blob from the repository; raises NotFound, or Unsupported if the store does not support it."""
        ...

    async def close(self) -> None:
        """Close connections and files."""
        ...


def high_latency(store: ImageStore) -> bool | None:
    """Return whether requests to a store have a high latency; None until it is measured, False without a network.

    A store that measures it has an attribute of this name. `isinstance` would take longer than a read from memory.
    """
    found: bool | None = getattr(store, "high_latency", False)
    return found


def free_requests(store: ImageStore) -> int | None:
    """Return the number of reads that the store can begin at once; None without a limit.

    A store with a limit has an attribute of this name.
    """
    found: int | None = getattr(store, "free_requests", None)
    return found


@runtime_checkable
class RemembersRefusals(Protocol):
    """A store that remembers which types of manifests it has refused."""

    async def refuses(self, manifest: Manifest) -> bool:
        """Return whether this store is known to refuse such manifests now."""
        ...


async def is_known_to_refuse(store: ImageStore, manifest: Manifest) -> bool:
    """Return whether a store is known to refuse such manifests now, so that their blobs need no transfer."""
    return isinstance(store, RemembersRefusals) and await store.refuses(manifest)


def may_be_replaced(current: Digest | None, manifest: Manifest, seen: Digest | None) -> bool:
    """Return whether a tag that points to `current` may be moved to a manifest without `override`."""
    return current is None or current == seen or manifest.hashes_to(current)


def tag_changed(repository: RepositoryName, tag: Tag) -> Conflict:
    """Return the error for a tag that was written since it was read."""
    return Conflict("tag", f'the tag "{repository}:{tag}" was changed by another client')
