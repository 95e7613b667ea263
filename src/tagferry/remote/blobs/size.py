"""Finds out whether a registry holds a blob, and its size (distribution-spec 1.1, "Pulling blobs")."""

from tagferry.digits import whole_number
from tagferry.errors import Unavailable
from tagferry.names import Digest, RepositoryName
from tagferry.remote.capabilities import HEAD_BLOBS, LearnedCapabilities
from tagferry.remote.transport.requests import Call, Transport

NO_HEAD = frozenset({400, 403, 405, 406, 501})
"""Statuses with which a registry, or a proxy before it, may refuse HEAD as a method; GET decides."""


class BlobSizes:
    """The sizes of one registry's blobs, from HEAD, or from a GET of one byte if HEAD does not report them."""

    def __init__(self, transport: Transport, learned: LearnedCapabilities) -> None:
        self._transport = transport
        self._learned = learned

    async def exists(self, repository: RepositoryName, digest: Digest, *, scope: str, once: bool = False) -> bool:
        """Return whether a repository holds a blob; `once` does not retry."""
        return await self._find(repository, digest, scope=scope, once=once) is not None

    async def size(self, repository: RepositoryName, digest: Digest, *, scope: str, once: bool = False) -> int | None:
        """Return a blob's size in bytes, or None if the repository does not hold it; `once` does not retry.

        Raises:
            Unavailable: the registry holds the blob and does not report its size.
        """
        found = await self._find(repository, digest, scope=scope, once=once)
        if found is None or found > 0 or digest == Digest.of(b"", digest.algorithm):
            return found
        # HEAD omits the size, or reports 0 for an unknown one.
        return await self._by_get(repository, digest, scope=scope, once=once)

    async def _find(self, repository: RepositoryName, digest: Digest, *, scope: str, once: bool) -> int | None:
        """Return the size that HEAD reports, 0 if it reports none; None if the blob does not exist."""
        if HEAD_BLOBS in (await self._learned.known()).unavailable:
            return await self._by_get(repository, digest, scope=scope, once=once)
        call = Call(
            method="HEAD",
            task=f"find blob {digest} in {repository}",
            url=f"/v2/{repository}/blobs/{digest}",
            scopes=(scope,),
            accept=NO_HEAD | {200, 404},
            redirects=True,
            is_content=True,
        )
        answer = await self._transport.fetch(call, once=once)
        if answer.status == 404:
            return None
        if answer.status == 200:
            await self._learned.mark_available(HEAD_BLOBS)
            return answer.length or 0
        found = await self._by_get(repository, digest, scope=scope, once=once)
        if found is not None or answer.status in (405, 501):
            await self._learned.mark_unavailable(HEAD_BLOBS, str(self._transport.failure(call, answer)))
        return found

    async def _by_get(self, repository: RepositoryName, digest: Digest, *, scope: str, once: bool) -> int | None:
        call = Call(
            method="GET",
            task=f"report the size of blob {digest} in {repository}",
            url=f"/v2/{repository}/blobs/{digest}",
            scopes=(scope,),
            headers={"Range": "bytes=0-0"},
            accept=frozenset({200, 206, 404, 416}),
            redirects=True,
            is_content=True,
        )
        # The body is not read: the connection is closed if it is longer than one byte.
        async with self._transport.open(call, once=once) as (answer, _):
            if answer.status == 404:
                return None
            total = whole_number(answer.headers.get("Content-Range", "").rpartition("/")[2])
            if answer.status != 200 and total is not None:
                return total
            if answer.status == 200 and answer.length is not None:
                return answer.length
        raise Unavailable(f"registry {self._transport.name} reported no size when asked to {call.task}")
