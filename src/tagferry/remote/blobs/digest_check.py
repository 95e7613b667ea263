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
"""Bytes of the smallest blob that a registry with a low latency verifies alone. The first 128 kB arrive with the head
of the source's response, so smaller blobs would gain little."""
WORTHWHILE = 8 * 1024 * 1024
"""Bytes that take as long to hash here as the registry takes for the test."""
MAX_WAIT_SECONDS = 1.0
"""Maximum time from the start of the test for which blobs wait for its result. Later ones are verified here."""
RETRY_SECONDS = 300.0
"""Seconds from a test without a result, such as one that fails, to the next one."""

_STORED = frozenset({200, 201, 202, 204})
_REFUSED = frozenset(range(400, 500)) - {401, 403, 408, 429}


class DigestCheck:
    """Tests a registry by sending a few bytes under a wrong digest, which it has to refuse."""

    def __init__(self, transport: Transport, learned: LearnedCapabilities, background: BackgroundWork) -> None:
        self._transport = transport
        self._learned = learned
        self._background = background
        self._expected = 0
        self._has_ended = asyncio.Event()
        self._has_ended.set()
        self._wait_until = 0.0
        self._next_at = 0.0

    def expect(self, blob: Descriptor) -> int:
        """Count a blob that may have to be sent, since several blobs together can be worth the test.

        Returns:
            The bytes that were counted, for `withdraw`.
        """
        counted = blob.size if self._is_suitable(blob) else 0
        self._expected += counted
        return counted

    def withdraw(self, counted: int) -> None:
        """Take back the count of a blob that was not sent."""
        self._expected = max(0, self._expected - counted)

    async def passes(self, repository: RepositoryName, blob: Descriptor) -> bool:
        """Return whether the registry can be trusted to refuse wrong content for this blob; False if it is not known.

        If that is unknown, and the expected blobs are worth it, the registry is tested. If it has a high latency, no
        blob waits for the result: three round trips take longer than to verify the blob here.
        """
        if not self._is_suitable(blob):
            return False
        if (await self._learned.known()).refuses_wrong_bytes is None:
            self._begin_test(repository)
            if not self._transport.high_latency:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._wait_until):
                        await self._has_ended.wait()
        return bool((await self._learned.known()).refuses_wrong_bytes)

    def _is_suitable(self, blob: Descriptor) -> bool:
        smallest = LARGE if self._transport.high_latency else SMALLEST
        return blob.size >= smallest and blob.digest.algorithm == "sha256"

    def _begin_test(self, repository: RepositoryName) -> None:
        now = asyncio.get_running_loop().time()
        if self._expected >= WORTHWHILE and self._has_ended.is_set() and now >= self._next_at:
            self._expected = 0
            self._has_ended.clear()
            self._wait_until = now + MAX_WAIT_SECONDS
            self._background.start(self._test(repository))

    async def _test(self, repository: RepositoryName) -> None:
        try:
            await self._learned.learn(refuses_wrong_bytes=await self._probe(repository))
        except TagferryError:
            self._next_at = asyncio.get_running_loop().time() + RETRY_SECONDS
        finally:
            self._has_ended.set()

    async def record_failure(self) -> None:
        """Record that the registry accepted wrong content."""
        await self._learned.learn(refuses_wrong_bytes=False)

    async def _probe(self, repository: RepositoryName) -> bool:
        call = open_call(repository)
        answer = await self._transport.fetch(call, once=True)
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
            return (await self._transport.fetch(wrong, once=True)).code == "DIGEST_INVALID"
        finally:
            task = f"cancel the upload of blob {digest} in {repository}"
            await cancel(self._transport, repository, session.location, task=task)
