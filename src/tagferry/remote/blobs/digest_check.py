"""Tests whether a registry verifies digests, so that copies need not do so in transit (docs/decisions/0011)."""

import asyncio
import os
from contextlib import suppress

from tagferry.concurrency import BackgroundWork
from tagferry.errors import TagferryError
from tagferry.names import Digest, RepositoryName
from tagferry.oci.model import Descriptor
from tagferry.remote.blobs.session import Session, cancel, commit_url, open_call
from tagferry.remote.blobs.stagger import LARGE
from tagferry.remote.capabilities import LearnedCapabilities
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.scopes import push_scope

SMALLEST = 256 * 1024
"""Bytes of the smallest blob that a registry with a low latency verifies alone: less arrives with a response's head."""
WORTHWHILE = 8 * 1024 * 1024
"""Bytes that take as long to hash here as the registry takes for the test."""

_STORED = frozenset({200, 201, 202, 204})
_REFUSED = frozenset(range(400, 500)) - {401, 403, 408, 429}


class DigestCheck:
    """Tests a registry by sending a few bytes under a wrong digest, which it has to refuse."""

    def __init__(self, transport: Transport, learned: LearnedCapabilities, background: BackgroundWork) -> None:
        self._transport = transport
        self._learned = learned
        self._background = background
        self._probing = asyncio.Lock()
        self._expected = 0

    def expect(self, blob: Descriptor) -> None:
        """Record that a blob may have to be sent, so that several blobs together can be worth the test."""
        if self._is_suitable(blob):
            self._expected += blob.size

    def no_longer_expect(self, blob: Descriptor) -> None:
        """Record that an expected blob need not be sent."""
        if self._is_suitable(blob):
            self._expected -= blob.size

    async def passes(self, repository: RepositoryName, blob: Descriptor) -> bool:
        """Return whether the registry can be trusted to refuse wrong content for this blob; False if it is not known.

        The caller holds an upload slot, under which the registry is tested if the answer is unknown and the expected
        blobs are worth it. If the registry has a high latency, it is tested in the background: three round trips take
        longer than to verify the blob here.
        """
        if not self._is_suitable(blob):
            return False
        refuses = (await self._learned.known()).refuses_wrong_bytes
        if refuses is None and self._expected >= WORTHWHILE:
            if not self._transport.high_latency:
                return await self._tested(repository, holds_slot=True)
            if not self._probing.locked():
                self._background.start(self._test(repository))
        return bool(refuses)

    def _is_suitable(self, blob: Descriptor) -> bool:
        smallest = LARGE if self._transport.high_latency else SMALLEST
        return blob.size >= smallest and blob.digest.algorithm == "sha256"

    async def _test(self, repository: RepositoryName) -> None:
        with suppress(TagferryError):
            await self._tested(repository, holds_slot=False)

    async def _tested(self, repository: RepositoryName, *, holds_slot: bool) -> bool:
        async with self._probing:
            refuses = (await self._learned.known()).refuses_wrong_bytes
            if refuses is None:
                try:
                    refuses = await self._probe(repository, holds_slot=holds_slot)
                except TagferryError:
                    return False
                await self._learned.learn(refuses_wrong_bytes=refuses)
            return refuses

    async def record_failure(self) -> None:
        """Record that the registry accepted wrong content."""
        await self._learned.learn(refuses_wrong_bytes=False)

    async def _probe(self, repository: RepositoryName, *, holds_slot: bool) -> bool:
        call = open_call(repository)
        answer = await self._transport.fetch(call, once=True, holds_slot=holds_slot)
        session = Session.opened(self._transport, call, answer)
        content = os.urandom(16)
        digest = Digest.of(content * 2)
        wrong = Call(
            method="PUT",
            task=f"verify the digest of blob {digest} in {repository}",
            url=commit_url(session.location, digest),
            scopes=(push_scope(repository),),
            headers={"Content-Type": "application/octet-stream"},
            body=content,
            accept=_STORED | _REFUSED,
        )
        try:
            return (await self._transport.fetch(wrong, once=True, holds_slot=holds_slot)).code == "DIGEST_INVALID"
        finally:
            task = f"cancel the upload of blob {digest} in {repository}"
            await cancel(self._transport, repository, session.location, task=task, holds_slot=holds_slot)
