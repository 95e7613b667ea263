"""Deletions at a registry, which are verified afterwards.

A registry may accept a deletion and keep the manifest, or delete it a moment later. Some delete a manifest and keep the
tags that point to it; others delete no manifest while a tag points to it. So deleted references are looked up
afterwards, several times within some seconds.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress

from tagferry import bounds
from tagferry.concurrency import bounded_gather
from tagferry.errors import Corrupt, Incomplete, Invalid, NotFound, Refused, Unavailable, Unsupported
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.oci.deletion import not_deleted, wait_until_deleted
from tagferry.oci.images import ImageStore
from tagferry.remote.lookup import ManifestLookup
from tagferry.remote.manifests import not_found
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer
from tagferry.remote.transport.scopes import delete_scope

_CONCURRENCY = 8
_MAX_LEVELS = 2 * bounds.INDEX_DEPTH
"""Maximum nesting of indexes within indexes and of referrers of referrers."""


class Deletions:
    """The deletions of tags and manifests at one registry (distribution-spec 1.1, "Content Management").

    Args:
        transport: sends the requests.
        lookup: looks up deleted references.
        sleep: waits for seconds.
    """

    def __init__(self, transport: Transport, lookup: ManifestLookup, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._transport = transport
        self._lookup = lookup
        self._sleep = sleep

    async def delete(self, repository: RepositoryName, reference: Reference) -> None:
        """Delete a tag or a manifest; raises as `ImageStore.delete_manifest`."""
        status = await self._delete(repository, reference)
        await self._await_deletion(repository, [reference], _accepted(status))

    async def delete_repository(self, store: ImageStore, repository: RepositoryName) -> None:
        """Delete a repository's tags, and the manifests, children and referrers that they lead to.

        Tags are deleted first, if the registry deletes them by name, and manifests before those that they refer to, so
        that readers never find an incomplete image. After an error, the rest is left for another attempt.

        Args:
            store: this registry.
            repository: the repository.

        Raises:
            NotFound: of the kind `repository`; it has no tag.
            NotDeleted: some of it still exists.
            Unsupported: the registry does not support deletion; nothing was deleted.
        """
        records = await store.describe_tags(repository)
        if not records:
            raise NotFound("repository", repository)
        tags = [record.tag for record in records]
        levels = await _levels(store, repository, list(dict.fromkeys(record.digest for record in records)), tags)
        untagged = await self._delete_all(repository, tags)
        statuses, refusal = list(untagged.statuses), None
        for level in levels:
            results = await self._delete_all(repository, level)
            statuses += results.statuses
            refusal = refusal or results.refusal
        if refusal is not None and not statuses:
            raise refusal
        why = str(refusal) if refusal is not None else _accepted(statuses[-1] if statuses else "404")
        await self._await_deletion(repository, [*tags, *(digest for level in levels for digest in level)], why)

    async def _delete_all(self, repository: RepositoryName, references: Iterable[Reference]) -> "_DeleteResults":
        """Request the deletion of each reference, until the registry refuses this kind of reference."""
        results = _DeleteResults()

        async def ask(reference: Reference) -> None:
            # Some registries delete referrers with their subject, and other clients may delete them, too.
            with suppress(NotFound):
                if results.refusal is None:
                    try:
                        results.statuses.append(await self._delete(repository, reference))
                    except Unsupported as refusal:
                        results.refusal = refusal

        await bounded_gather(references, ask, limit=_CONCURRENCY)
        return results

    async def _delete(self, repository: RepositoryName, reference: Reference) -> str:
        """Request a deletion without verifying it.

        Returns:
            The status of the response.

        Raises:
            NotFound: the tag or manifest does not exist.
            Unsupported: the registry does not delete this kind of reference.
        """
        call = Call(
            method="DELETE",
            task=f"delete manifest {repository}:{reference}",
            url=f"/v2/{repository}/manifests/{reference}",
            scopes=(delete_scope(repository),),
            accept=frozenset({200, 202, 204, 400, 404, 405}),
        )
        lost = False

        async def attempt() -> Answer:
            nonlocal lost
            try:
                return await self._transport.fetch(call, once=True)
            except Unavailable as failure:
                # A registry that asks for a pause has not deleted anything.
                lost = lost or failure.retry_after is None
                raise

        try:
            answer = await self._transport.retry.run(attempt)
        except Unavailable:
            if lost and await self._lookup.find(repository, reference) is None:
                return "nothing"
            raise
        if answer.status == 404:
            # An earlier attempt whose response was lost has deleted it.
            if lost:
                return "404"
            if await self._lookup.find(repository, reference) is None:
                raise not_found(repository, reference, answer)
        # Distribution before 3.0 parses a tag as a digest, and reports it as invalid.
        no_tags = answer.status == 400 and isinstance(reference, Tag)
        if no_tags or answer.status in (404, 405) or answer.code == "UNSUPPORTED":
            what = "a tag" if isinstance(reference, Tag) else "a manifest"
            raise Unsupported(f"registry {self._transport.name} does not delete {what}: {answer.explanation}")
        if answer.status == 400:
            raise self._transport.failure(call, answer)
        return str(answer.status)

    async def _await_deletion(self, repository: RepositoryName, references: Sequence[Reference], why: str) -> None:
        """Wait until none of these references exists; raise NotDeleted with the reason if that takes too long."""
        remaining = list(references)

        async def look(reference: Reference) -> Reference | None:
            return None if await self._lookup.find(repository, reference) is None else reference

        async def present() -> list[Reference]:
            nonlocal remaining
            remaining = [one for one in await bounded_gather(remaining, look, limit=_CONCURRENCY) if one is not None]
            return remaining

        if left := await wait_until_deleted(present, sleep=self._sleep):
            raise not_deleted(self._transport.name, repository, left, why)


class _DeleteResults:
    """The results of several deletions."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.refusal: Unsupported | None = None


def _accepted(status: str) -> str:
    return f"it answered {status} when asked to delete"


async def _levels(
    store: ImageStore, repository: RepositoryName, roots: list[Digest], tags: Collection[Tag]
) -> list[list[Digest]]:
    """Return manifests, their children and referrers level by level, each once."""
    levels, seen = [roots], set(roots)

    async def below(digest: Digest) -> list[Digest]:
        return await _below(store, repository, digest, tags)

    while levels[-1]:
        found = dict.fromkeys(
            digest for digests in await bounded_gather(levels[-1], below, limit=_CONCURRENCY) for digest in digests
        )
        levels.append([digest for digest in found if digest not in seen])
        seen.update(levels[-1])
        if len(levels) > _MAX_LEVELS or len(seen) > bounds.TAG_LIST_NAMES:
            raise Refused(
                f"repository {repository} of registry {store.name} refers to more than {bounds.TAG_LIST_NAMES} "
                f"manifests, or nests them deeper than {_MAX_LEVELS} levels; delete its tags one by one"
            )
    return levels


async def _below(store: ImageStore, repository: RepositoryName, digest: Digest, tags: Collection[Tag]) -> list[Digest]:
    """Return a manifest's children and referrers; an unreadable manifest has no children."""
    children: list[Digest] = []
    with suppress(NotFound, Unsupported, Invalid, Corrupt):
        children = [child.digest for child in (await store.get_manifest(repository, digest)).children]
    try:
        referrers = await store.list_referrers(repository, digest, tags=tags)
    except Incomplete as error:
        # Referrers that cannot be listed do not prevent the deletion of the image.
        referrers = list(error.found)
    return [*children, *(referrer.digest for referrer in referrers)]
