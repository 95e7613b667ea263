"""Sends a blob to one upload session of a registry (distribution-spec 1.1, "Pushing blobs")."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from tagferry.errors import Corrupt, TagferryError, Unavailable
from tagferry.http.connection import Stream
from tagferry.names import RepositoryName
from tagferry.oci.images import OpenBlob
from tagferry.oci.model import Descriptor
from tagferry.oci.verify import Verifier
from tagferry.remote.blobs.checkpoint import UploadCheckpoint
from tagferry.remote.blobs.digest_check import DigestCheck
from tagferry.remote.blobs.session import Session, cancel, commit_url, session_location
from tagferry.remote.blobs.stagger import UploadStagger
from tagferry.remote.transport.authorization import MAX_REDIRECTS
from tagferry.remote.transport.exchange import StreamRedirected
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer, RateLimited
from tagferry.remote.transport.scopes import push_scope
from tagferry.streams import Flow, Spliceable

T = TypeVar("T")

_REFUSED_WHOLE = frozenset({405, 411, 413, 415, 501})
_STORED = frozenset({200, 201, 204})
_BYTES = {"Content-Type": "application/octet-stream"}


class Upload:
    """One upload session, which is committed, cancelled, or left for a later attempt to resume.

    Args:
        transport: the registry.
        repository: the target repository.
        descriptor: the blob.
        session: the session.
        checkpoint: the session's checkpoint.
        digest_check: if given, the registry alone may verify the blob, provided it passes this check.

    Attributes:
        is_unverified: whether some bytes were sent without being verified here.
    """

    def __init__(
        self,
        transport: Transport,
        repository: RepositoryName,
        descriptor: Descriptor,
        session: Session,
        checkpoint: UploadCheckpoint,
        digest_check: DigestCheck | None = None,
    ) -> None:
        self._transport = transport
        self._repository = repository
        self._descriptor = descriptor
        self._session = session
        self._location = session.location
        self._checkpoint = checkpoint
        self._digest_check = digest_check
        self._initial_offset = self._offset = session.offset
        self._commit_url = ""
        self._redirects = 0
        self.is_unverified = False

    async def send_whole(self, source: OpenBlob, stagger: UploadStagger) -> bool:
        """Send the blob in the closing PUT; return False if the registry does not accept whole blobs.

        If the connection breaks and the registry has kept the received bytes, the rest is sent to the same session.
        """
        verifier = Verifier(self._descriptor, start=self._initial_offset)
        async with self._finishing():
            answer = await self._resumed(lambda: self._put(source, verifier, self._offset, stagger))
            if answer.status not in _REFUSED_WHOLE:
                await self._check(answer)
                return True
        await self._abandon()
        return False

    async def _put(self, source: OpenBlob, verifier: Verifier, offset: int, stagger: UploadStagger) -> Answer:
        """Commit the session with the bytes from the offset on."""
        size = self._descriptor.size
        if offset == size:
            return await self._commit(b"")
        headers = {"Content-Range": f"{offset}-{size - 1}"} if offset else {}
        async with (
            stagger.permit(size - offset, high_latency=self._transport.high_latency) as throttle,
            self._transport.upload_slot(),
            source(offset) as chunks,
        ):
            pieces = await self._checked(chunks, verifier, offset)
            return await self._commit(self._stream(throttle.released_after(pieces), size - offset), headers)

    async def _checked(
        self, chunks: AsyncIterator[bytes], verifier: Verifier, offset: int
    ) -> AsyncIterator[bytes | Flow]:
        """Return the content to send: verified in transit, or unverified if the registry verifies it reliably."""
        if not self.is_unverified and not await self._may_skip_verification(chunks, verifier):
            return verifier.verify(chunks, offset=offset)
        self.is_unverified = True
        return chunks.pieces() if isinstance(chunks, Spliceable) else chunks

    async def _may_skip_verification(self, chunks: AsyncIterator[bytes], verifier: Verifier) -> bool:
        return (
            self._digest_check is not None
            and isinstance(chunks, Spliceable)
            and verifier.received == self._initial_offset
            and self._location.startswith("http://")
            and await self._digest_check.passes(self._repository, self._descriptor)
        )

    async def resumable(self) -> Session | None:
        """Return the session in its current state, or None if it holds nothing that is worth resuming."""
        try:
            received = await self._received()
        except Unavailable:
            return None
        return self._session._replace(location=self._location, offset=received) if received else None

    async def _resumed(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send the missing bytes; after a failure, continue at the session's new offset."""
        with self._transport.retry.operation() as attempts:
            while True:
                begun_at = self._offset
                try:
                    return await send()
                except StreamRedirected as redirect:
                    self._record_redirect(redirect)
                except RateLimited as failure:
                    # A rate-limited request was not processed, so the session is unchanged.
                    await attempts.pause(failure)
                except Unavailable as failure:
                    # The redirect may be valid for one request only, like a signed URL.
                    self._commit_url, self._redirects = "", 0
                    self._offset = await self._received_after(failure)
                    if self._offset > begun_at:
                        attempts.record_progress(self._offset - begun_at)
                    elif self._offset == self._initial_offset > 0 and attempts.left <= 2:
                        # The session of an earlier process may be the cause: make the last attempt without it.
                        raise
                    await attempts.pause(failure)

    async def _received_after(self, failure: Unavailable) -> int:
        """Return how many bytes the session holds; raise the failure if a new session is as good."""
        if failure.is_final:
            raise failure
        try:
            received = await self._received()
        except Unavailable as unanswered:
            failure.is_final = unanswered.is_final
            raise failure from None
        # A registry that asked for a pause keeps the session until then, even an empty one.
        if received or (received == 0 and failure.retry_after):
            return received
        raise failure

    async def _received(self) -> int | None:
        """Return how many bytes the session holds (distribution-spec 1.1, "Pushing a blob in chunks").

        Returns:
            None if the session no longer exists, or cannot belong to this blob.

        Raises:
            Unavailable: the registry does not report it.
        """
        call = Call(
            method="GET",
            task=f"report what it has received of {self._named()}",
            url=self._location,
            scopes=(push_scope(self._repository),),
            accept=frozenset({200, 202, 204, 400, 404, 405, 416}),
            redirects=True,
        )
        try:
            answer = await self._transport.fetch(call)
        except Unavailable:
            raise
        except TagferryError:
            return None
        match = re.fullmatch(r"(?:bytes[= ])?0-(\d{1,18})", answer.headers.get("Range", ""))
        received = int(match[1]) + 1 if match else 0
        if answer.status not in (200, 202, 204) or received > self._descriptor.size:
            return None
        if "Location" in answer.headers:
            self._location, self._commit_url = session_location(self._transport, call, answer), ""
        # For an empty session, some registries report 0-0, which others report for one byte.
        return received if received > 1 else 0

    async def send_parts(self, source: OpenBlob, step: int) -> None:
        """Send parts of `step` bytes by PATCH, and commit with an empty PUT; raise TooLarge if a part is too large."""
        verifier = Verifier(self._descriptor, start=self._initial_offset)
        async with self._finishing():
            await self._resumed(lambda: self._patch_rest(source, verifier, step))
            # Without the slot and the source, since other sources may wait for the slot.
            answer = await self._commit(b"")
            await self._check(answer)

    async def _patch_rest(self, source: OpenBlob, verifier: Verifier, step: int) -> None:
        """Send parts from the session's offset to the blob's end."""
        size, offset = self._descriptor.size, self._offset
        if offset == size:
            return
        async with self._transport.upload_slot(), source(offset) as chunks:
            parts = _Parts(verifier.verify(chunks, offset=offset))
            for start in range(offset, size, step):
                if start > offset:
                    await self._transport.wait_for_rate()
                await self._patch(parts, start, min(step, size - start))

    async def _patch(self, parts: "_Parts", start: int, length: int) -> None:
        call = Call(
            method="PATCH",
            task=f"store bytes {start} to {start + length - 1} of {self._named()}",
            url=self._location,
            scopes=(push_scope(self._repository),),
            headers={**_BYTES, "Content-Range": f"{start}-{start + length - 1}"},
            body=self._stream(parts.take(length), length),
            accept=frozenset({202, 204}),
        )
        self._location = session_location(self._transport, call, await self._transport.fetch(call))
        self._offset, self._redirects = start + length, 0

    def _record_redirect(self, redirect: StreamRedirected) -> None:
        """Send to the target of a redirect from now on; limit the redirects, since each costs the whole body."""
        self._redirects += 1
        if self._redirects > MAX_REDIRECTS:
            message = f"redirected {self._named()} more than {MAX_REDIRECTS} times, each time after it was sent"
            failure = Unavailable(f"registry {self._transport.name} {message}", is_retryable=False)
            failure.is_final = True
            raise failure from redirect
        if redirect.method == "PUT":
            self._commit_url = redirect.url
        else:
            self._location = redirect.url

    async def _commit(self, body: bytes | Stream, headers: Mapping[str, str] | None = None) -> Answer:
        call = Call(
            method="PUT",
            task=f"store {self._named()}",
            url=self._commit_url or commit_url(self._location, self._descriptor.digest),
            scopes=(push_scope(self._repository),),
            headers={**_BYTES, **(headers or {})},
            body=body,
            bytes_to_verify=self._descriptor.size,
            accept=_STORED | _REFUSED_WHOLE | {400, 404, 416},
        )
        answer = await self._transport.fetch(call)
        return self._judge(call, answer)

    def _judge(self, call: Call, answer: Answer) -> Answer:
        if answer.status in _STORED or answer.status in _REFUSED_WHOLE:
            return answer
        if answer.code in ("DIGEST_INVALID", "SIZE_INVALID"):
            raise Corrupt(str(self._transport.failure(call, answer)))
        failure = self._transport.failure(call, answer)
        # If the registry has forgotten the session, or has another offset, ask for its state again.
        raise Unavailable(str(failure)) if answer.status in (404, 416) else failure

    async def _check(self, answer: Answer) -> None:
        if answer.status not in _STORED:
            raise Unavailable(
                f"registry {self._transport.name} answered {answer.status} when asked to store {self._named()}"
            )
        stored, expected = answer.digest, self._descriptor.digest
        if stored and stored.algorithm == expected.algorithm and stored != expected:
            if self._digest_check is not None:
                await self._digest_check.record_failure()
            raise Corrupt(f"registry {self._transport.name} stored {stored} when asked to store {self._named()}")

    def _stream(self, pieces: AsyncIterator[bytes | Flow], size: int) -> Stream:
        endpoint = self._transport.endpoint
        return Stream(pieces, size, idle_timeout=endpoint.read_timeout, min_rate=endpoint.min_bytes_per_second)

    @asynccontextmanager
    async def _finishing(self) -> AsyncIterator[None]:
        """Run an upload; if it fails, cancel the session unless a later attempt can resume it."""
        try:
            async with self._checkpoint.saving(lambda: self._location):
                yield
        except asyncio.CancelledError:
            if not self._checkpoint.is_handed_over:
                await self._abandon()
            raise
        except Unavailable:
            if not (self._checkpoint.is_saved and await self._has_progressed()):
                await self._abandon()
            raise
        except BaseException:
            await self._abandon()
            raise
        await self._checkpoint.clear()

    async def _has_progressed(self) -> bool:
        """Return whether the session has grown, or may have; a session that does not grow is stuck."""
        if self._offset > self._initial_offset:
            return True
        try:
            return (await self._received() or 0) > self._initial_offset
        except Unavailable:
            return True

    async def _abandon(self) -> None:
        await self._checkpoint.clear()
        await self.cancel()

    async def cancel(self) -> None:
        """Ask the registry to drop the session; if that fails, the registry cleans it up."""
        task = f"cancel the upload of {self._named()}"
        await cancel(self._transport, self._repository, self._location, task=task)

    def _named(self) -> str:
        return f"blob {self._descriptor.digest} in {self._repository}"


class _Parts:
    """Cuts a stream of chunks into parts of given lengths."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    async def take(self, length: int) -> AsyncIterator[bytes]:
        while length:
            chunk = self._rest or await anext(self._chunks, b"")
            if not chunk:
                return
            piece, self._rest = chunk[:length], chunk[length:]
            length -= len(piece)
            yield piece
