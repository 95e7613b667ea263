"""Deletions that a store accepted and did not carry out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tagferry.errors import NotDeleted
from tagferry.names import Digest, Reference, RepositoryName

Item = TypeVar("Item")

_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds before each further check of the deleted content."""
_NAMES_IN_ERROR = 5


async def wait_until_deleted(
    remaining: Callable[[], Awaitable[list[Item]]], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> list[Item]:
    """Return the items that still exist some seconds after their deletion, for stores that delete asynchronously.

    Args:
        remaining: returns the items that still exist.
        sleep: waits a number of seconds.
    """
    left = await remaining()
    for pause in _PAUSES:
        if not left:
            break
        await sleep(pause)
        left = await remaining()
    return left


def not_deleted(store: str, repository: RepositoryName, left: Sequence[Reference], why: str) -> NotDeleted:
    """Return the error for a store that still has content whose deletion it accepted.

    Args:
        store: the store's name.
        repository: the repository.
        left: the tags and digests that still exist.
        why: the store's answer.
    """
    them = "it" if len(left) == 1 else "them"
    names = sorted(left, key=lambda one: (isinstance(one, Digest), one))
    more = f" and {len(names) - _NAMES_IN_ERROR} more" if len(names) > _NAMES_IN_ERROR else ""
    return NotDeleted(
        f"registry {store} still has {', '.join(names[:_NAMES_IN_ERROR])}{more} of {repository}: {why}; "
        f"try again later, or delete {them} at the registry itself"
    )
