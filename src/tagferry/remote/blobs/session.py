"""The requests of an upload session (distribution-spec 1.1, "Pushing blobs")."""

import asyncio
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from tagferry.digits import whole_number
from tagferry.errors import TagferryError, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer
from tagferry.remote.transport.scopes import push_scope

ABANDON_TIMEOUT = 1.0
"""Seconds that cancelling an upload session may take; sessions that stay behind are the registry's to clean up."""


@dataclass(frozen=True, slots=True)
class Session:
    """An upload session.

    Attributes:
        shortest_chunk: bytes that each part but the last must have (`OCI-Chunk-Min-Length`).
        offset: bytes that an earlier process, or attempt, has left in it.
    """

    location: str
    shortest_chunk: int
    offset: int = 0

    @classmethod
    def opened(cls, transport: Transport, call: Call, answer: Answer) -> Self:
        """The session that a registry has opened with this answer; raises Unavailable where it names no Location."""
        return cls(
            location=session_location(transport, call, answer),
            shortest_chunk=whole_number(answer.headers.get("OCI-Chunk-Min-Length", "")) or 0,
        )


def open_call(repository: RepositoryName) -> Call:
    """The request that opens a session: 202."""
    return Call(
        method="POST",
        task=f"begin an upload to {repository}",
        url=f"/v2/{repository}/blobs/uploads/",
        scopes=(push_scope(repository),),
        accept=frozenset({202}),
    )


def session_location(transport: Transport, call: Call, answer: Answer) -> str:
    """Where a session goes on; raises Unavailable where the answer does not tell."""
    location = answer.headers.get("Location")
    if not location:
        raise Unavailable(f"registry {transport.name} named no Location when asked to {call.task}")
    return transport.resolve(location, answer.url or call.url)


def commit_url(location: str, digest: Digest) -> str:
    """The URL that stores what the session at this one has received, under this digest."""
    separator = "&" if "?" in location else "?"
    return f"{location}{separator}digest={quote(digest, safe='')}"


async def cancel(
    transport: Transport, repository: RepositoryName, location: str, *, task: str, holds_slot: bool = False
) -> None:
    """Ask the registry to drop a session; where it does not, it is the registry's to clean up.

    Args:
        transport: the registry.
        repository: the session's.
        location: the session's URL.
        task: as a call has it.
        holds_slot: as for `Transport.fetch`.
    """
    call = Call(
        method="DELETE",
        task=task,
        url=location,
        scopes=(push_scope(repository),),
        accept=frozenset({200, 202, 204, 404}),
    )
    try:
        async with asyncio.timeout(ABANDON_TIMEOUT):
            await transport.fetch(call, once=True, holds_slot=holds_slot)
    except (TagferryError, TimeoutError):
        return
