"""The contract of whatever keeps images: a registry over HTTP, a directory on disk, memory.

One suite, `tests/contract/`, holds every implementation to it.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Protocol

from tagferry.errors import Conflict
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.model import Descriptor, Manifest


class BlobOutcome(Enum):
    """How a blob came to be in a repository."""

    PRESENT = "present"
    """It stood there already."""
    MOUNTED = "mounted"
    """The store took it from another of its repositories, without moving bytes."""
    UPLOADED = "uploaded"
    """Its bytes were sent."""


OpenBlob = Callable[[int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens a blob's content from an offset in bytes on; called only by a store that needs the bytes.

What it gives may be `Spliceable`.
"""


class TagRecord(NamedTuple):
    """A tag and what it points to.

    Attributes:
        updated: when the tag was last written, where the store knows.
    """

    tag: Tag
    digest: Digest
    updated: datetime | None = None


class ImageStore(Protocol):
    """Where repositories with their tags, manifests and blobs live.

    Every method may raise `Unavailable` (try again later) and `Refused` (the store does not let tagferry do it).
    Content that does not match its digest raises `Corrupt`, whether it is read or written.
    """

    @property
    def name(self) -> str:
        """What to call this store to a person; unique in the process, so it also keys caches."""
        ...

    @property
    def high_latency(self) -> bool | None:
        """Whether an answer takes noticeably long to come back from there; None while that is not known."""
        ...

    @property
    def identity(self) -> int:
        """A number that changes with the user as whom the store is asked; what it reported before may look different.

        A registry may report as missing what it hides from the previous user.
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
        """What a tag or digest points to, or None where there is no such manifest or repository.

        Args:
            repository: where to look.
            reference: the tag or digest.
            known: what it points to as far as the caller knows. The answer is the same with it and without; where it
                is right, a store may have less work to say so, and need not look whether it can still give the
                manifest itself.
            for_write: whether the caller is about to write to the repository, so that permission for that is asked
                for from now on.
            confirm_missing: whether to report a manifest as missing only after a GET has confirmed it; not with
                `known`.
        """
        ...

    async def get_manifest(self, repository: RepositoryName, reference: Reference) -> Manifest:
        """The manifest, verified against the digest where the reference is one.

        Raises:
            NotFound: of the kind `tag`, `manifest` or `repository`.
            Unsupported: the manifest is of a type that is not understood.
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
            repository: where to store it.
            manifest: the manifest.
            tag: the tag.
            override: whether the tag may point to any other image. If not, the caller has looked at it. A store that
                others write to cannot compare and write at once, but looks again before it sends the manifest a second
                time.
            seen: what the tag pointed to when the caller looked, which may be replaced; None if it did not exist.

        Raises:
            Conflict: of the kind `tag`; without `override`, it points to another image by now. Of the kind
                `referrers tag`; the manifest is stored, but cannot be listed as a referrer of its subject.
            NotFound: the store refuses it because something that it refers to is missing.
            Unsupported: the store does not take manifests of this kind.
            Invalid: the store does not take this manifest.
        """
        ...

    async def is_damaged(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether this store knows that a manifest, or content below it, is damaged and has to be sent again."""
        ...

    async def refuses(self, manifest: Manifest) -> bool:
        """Return whether this store is known to refuse such manifests at present, so that nothing is moved in vain."""
        ...

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, *, seen: TagRecord | None = None
    ) -> None:
        """Delete a tag, or a manifest with all the tags that point to it; what is deleted cannot be had any more.

        Args:
            repository: where it is.
            reference: the tag or digest.
            seen: the tag as `describe_tags` told of it; it is deleted only while that is still so. A store that others
                write to as well can ask just before, and no more.

        Raises:
            NotFound: there is none.
            Conflict: of the kind `tag`; it was written since it was seen.
            NotDeleted: the store said that it deletes it, and still has it.
            Unsupported: the store does not delete.
        """
        ...

    async def delete_repository(self, repository: RepositoryName) -> None:
        """Delete all the tags and manifests of a repository that the store can tell of.

        What no tag leads to may stay where the store does not list it, and so may the repository's name, as that of an
        empty one. An error may leave a part deleted; another attempt goes on.

        Raises:
            NotFound: of the kind `repository`.
            NotDeleted: the store said that it deletes all of it, and still has some.
            Unsupported: the store does not delete.
        """
        ...

    async def stat_blob(self, repository: RepositoryName, digest: Digest) -> int | None:
        """A blob's size in bytes, or None where the repository does not hold it."""
        ...

    def read_blob(
        self, repository: RepositoryName, descriptor: Descriptor, *, offset: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob's content from `offset` (bytes) on, in chunks; the bytes are not verified yet.

        What is given may be `Spliceable`.

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
        """Make the repository hold a blob, by the cheapest way: it is there, it is mounted, it is uploaded.

        Args:
            repository: where the blob shall be.
            descriptor: its digest and size, which the store verifies before it commits.
            source: opened only if bytes must move; it may be opened anew to go on, or for another attempt.
            mount_from: another repository of this store that is believed to hold the blob.
            force: the bytes are sent whatever the store says, for a blob that it told of and then did not have.
        """
        ...

    def list_tags(self, repository: RepositoryName) -> AsyncIterator[Tag]:
        """The repository's tags in lexical order.

        Raises:
            NotFound: of the kind `repository`.
        """
        ...

    async def list_tags_within(self, repository: RepositoryName, requests: int) -> frozenset[Tag] | None:
        """All tags of a repository if at most this many requests list them; else None, and also if that is refused.

        For callers that can also ask for single tags: a tag that is not among them does not exist, None says nothing.
        """
        ...

    async def describe_tags(self, repository: RepositoryName, only: Collection[Tag] | None = None) -> list[TagRecord]:
        """The repository's tags in lexical order with what they point to; raises NotFound as `list_tags`.

        With `only`, just those of them that exist; a repository that does not exist has none.
        """
        ...

    def list_repositories(self) -> AsyncIterator[RepositoryName]:
        """Every repository that can be seen, in lexical order; raises Unsupported where the store does not tell."""
        ...

    async def list_referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        artifact_type: str | None = None,
        *,
        tags: Collection[Tag] | None = None,
    ) -> list[Descriptor]:
        """The manifests whose subject is this digest, by the referrers API or by the tag schema it falls back to.

        Args:
            repository: where the subject is.
            digest: the subject's; it need not exist.
            artifact_type: restricts what is listed to this type.
            tags: the repository's tags, where they are known, so that the tag schema is not asked in vain.

        Raises:
            Incomplete: there may be more than its `found`, which are descriptors.
        """
        ...

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Take a blob out of the repository; raises NotFound, or Unsupported where the store does not delete."""
        ...

    async def close(self) -> None:
        """Give back connections and files."""
        ...


def may_be_replaced(standing: Digest | None, manifest: Manifest, seen: Digest | None) -> bool:
    """Return whether a tag that points to `standing` may be moved to a manifest without `override`."""
    return standing is None or standing == seen or manifest.hashes_to(standing)


def tag_changed(repository: RepositoryName, tag: Tag) -> Conflict:
    """The error of a tag that is no longer as it was seen."""
    return Conflict("tag", f"the tag {repository}:{tag} was written since it was looked at")
