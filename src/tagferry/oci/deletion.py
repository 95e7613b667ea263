"""Deletes a repository where the store has no operation of its own for that, as no registry's API has."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import TypeVar

from tagferry.errors import Corrupt, Invalid, NotFound, Unsupported
from tagferry.names import Digest, RepositoryName, Tag
from tagferry.oci.images import ImageStore

Result = TypeVar("Result")

_AT_ONCE = 8


async def delete_images(store: ImageStore, repository: RepositoryName) -> None:
    """Delete what a repository's tags lead to: their manifests, what these list, and what is attached to any of them.

    What refers to something is deleted before it, so that whoever looks meanwhile finds nothing incomplete. An error
    leaves the rest for another attempt.

    Raises:
        NotFound: of the kind `repository`.
        Unsupported: the store does not delete; then nothing was.
    """
    records = await store.describe_tags(repository)
    tags = frozenset(record.tag for record in records)
    levels = [list(dict.fromkeys(record.digest for record in records))]
    seen = set(levels[0])

    async def below(digest: Digest) -> list[Digest]:
        return await _below(store, repository, digest, tags)

    while levels[-1]:
        found = dict.fromkeys(digest for digests in await _each(levels[-1], below) for digest in digests)
        levels.append([digest for digest in found if digest not in seen])
        seen.update(levels[-1])

    async def delete(digest: Digest) -> None:
        # Some stores take what is attached along, and somebody else may delete too.
        with suppress(NotFound):
            await store.delete_manifest(repository, digest)

    for level in levels:
        await _each(level, delete)


async def _below(store: ImageStore, repository: RepositoryName, digest: Digest, tags: Collection[Tag]) -> list[Digest]:
    """What a manifest lists, and what is attached to it; a manifest that cannot be read lists nothing."""
    children: list[Digest] = []
    with suppress(NotFound, Unsupported, Invalid, Corrupt):
        children = [child.digest for child in (await store.get_manifest(repository, digest)).children]
    referrers = await store.list_referrers(repository, digest, tags=tags)
    return [*children, *(referrer.digest for referrer in referrers)]


async def _each(digests: Iterable[Digest], work: Callable[[Digest], Awaitable[Result]]) -> list[Result]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(digest: Digest) -> Result:
        async with gate:
            return await work(digest)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(digest)) for digest in digests]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
