"""The requests of an upload session (distribution-spec 1.1, "Pushing blobs")."""

import asyncio
from typing import NamedTuple, Self
from urllib.parse import quote

from tagferry.digits import whole_number
from tagferry.errors import TagferryError, Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer
from tagferry.remote.transport.scopes import push_scope

ABANDON_TIMEOUT = 1.0
"""Seconds that cancelling an upload session may take; the registry cleans up the sessions that remain."""


class Session(NamedTuple):
    """An upload session.

    Attributes:
        shortest_chunk: minimum size of all parts but the last (`OCI-Chunk-Min-Length`).
        offset: bytes that an earlier attempt or process has uploaded.
    """

    location: str
    shortest_chunk: int
    offset: int = 0

    @classmethod
    def opened(cls, transport: Transport, call: Call, answer: Answer) -> Self:
        """Return the session opened by a response; raise Unavailable if it has no Location."""
        return cls(
            location=session_location(transport, call, answer),
            shortest_chunk=whole_number(answer.headers.get("OCI-Chunk-Min-Length", "")) or 0,
        )


def open_call(repository: RepositoryName) -> Call:
    """Return the request that opens a session: 202."""
    return Call(
        method="POST",
        task=f"start an upload to {repository}",
        url=f"/v2/{repository}/blobs/uploads/",
        scopes=(push_scope(repository),),
        accept=frozenset({202}),
    )


def session_location(transport: Transport, call: Call, answer: Answer) -> str:
    """Return the session's current location; raise Unavailable if the response does not state it."""
    location = answer.headers.get("Location")
    if not location:
        raise Unavailable(f"registry {transport.name} returned no Location when asked to {call.task}")
    return transport.resolve(location, answer.url or call.url)


def commit_url(location: str, digest: Digest) -> str:
    """Return the URL that commits the session's content under this digest."""
    separator = "&" if "?" in location else "?"
    return f"{location}{separator}digest={quote(digest, safe='')}"


async def cancel(transport: Transport, repository: RepositoryName, location: str, *, task: str) -> None:
    """Ask the registry to drop a session; if that fails, the registry cleans it up.

    Args:
        transport: the registry.
        repository: the session's repository.
        location: the session's URL.
        task: as in `Call`.
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
            await transport.fetch(call, once=True)
    except (TagferryError, TimeoutError):
        return
