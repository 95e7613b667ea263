"""Deletions that a store accepted and did not do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tagferry.errors import NotDeleted
from tagferry.names import Digest, Reference, RepositoryName

Item = TypeVar("Item")

_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds before each further look for what was deleted."""
_NAMED = 5


async def wait_until_deleted(
    look: Callable[[], Awaitable[list[Item]]], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> list[Item]:
    """Return what is still there some seconds after its deletion, for a store that deletes a moment later.

    Args:
        look: looks for what is still there.
        sleep: waits for seconds.
    """
    left = await look()
    for pause in _PAUSES:
        if not left:
            break
        await sleep(pause)
        left = await look()
    return left


def not_deleted(store: str, repository: RepositoryName, left: Sequence[Reference], why: str) -> NotDeleted:
    """The error of a store that still has something that it was asked to delete.

    Args:
        store: its name.
        repository: where that is.
        left: the tags and digests.
        why: what it answered.
    """
    them = "it" if len(left) == 1 else "them"
    names = sorted(left, key=lambda one: (isinstance(one, Digest), one))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return NotDeleted(
        f"registry {store} still has {', '.join(names[:_NAMED])}{more} of {repository}: {why}; "
        f"try again later, or delete {them} at the registry itself"
    )
