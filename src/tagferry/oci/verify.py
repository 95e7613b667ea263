"""Digest and size, checked while bytes stream by."""

import hashlib
from collections.abc import AsyncIterator

from tagferry.errors import Corrupt
from tagferry.oci.model import Descriptor


class Verifier:
    """Counts and hashes bytes against a descriptor.

    Args:
        descriptor: what is expected.
        begun_at: bytes that another process has passed on before this one. Where there are any, only the size is
            checked here; whoever has the whole must check its digest.
    """

    def __init__(self, descriptor: Descriptor, *, begun_at: int = 0) -> None:
        self._descriptor = descriptor
        self._hash = None if begun_at else hashlib.new(descriptor.digest.algorithm)
        self.received = begun_at

    def update(self, chunk: bytes) -> None:
        """Take the next bytes; raises Corrupt as soon as there are more than the descriptor says."""
        self.received += len(chunk)
        if self.received > self._descriptor.size:
            raise Corrupt(f"{self._descriptor.digest} is longer than its {self._descriptor.size} bytes")
        if self._hash is not None:
            self._hash.update(chunk)

    def finish(self) -> None:
        """Check what has come in; raises Corrupt where the size or the digest differs."""
        if self.received != self._descriptor.size:
            raise Corrupt(f"{self._descriptor.digest} ended after {self.received} of its {self._descriptor.size} bytes")
        if self._hash is not None and self._hash.hexdigest() != self._descriptor.digest.encoded:
            actual = f"{self._descriptor.digest.algorithm}:{self._hash.hexdigest()}"
            raise Corrupt(f"{self._descriptor.digest} arrived with the digest {actual}")

    async def verify(self, chunks: AsyncIterator[bytes], *, offset: int = 0) -> AsyncIterator[bytes]:
        """Pass chunks through and verify them.

        The last chunk is held back until everything is verified, so that who consumes this never sees the whole of
        a blob that does not match: a target that counts bytes is left with an upload that it cannot commit.

        Args:
            chunks: the blob's content from the offset on.
            offset: where the chunks begin; what was passed through before is not hashed again.

        Raises:
            Corrupt: the size or the digest differs.
        """
        known = self.received - offset
        held: bytes | None = None
        async for chunk in chunks:
            if not chunk:
                continue  # held back in place of the last bytes, it would let all of them through
            if known < len(chunk):
                self.update(chunk[known:] if known else chunk)
            known = max(0, known - len(chunk))
            if held is not None:
                yield held
            held = chunk
        self.finish()
        if held is not None:
            yield held


def verified(chunks: AsyncIterator[bytes], descriptor: Descriptor) -> AsyncIterator[bytes]:
    """Pass chunks through and verify them, from the blob's first byte to its last; see `Verifier.passing`."""
    return Verifier(descriptor).verify(chunks)
