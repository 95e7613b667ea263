"""Verify digest and size while content streams."""

import hashlib
from collections.abc import AsyncIterator

from tagferry.errors import Corrupt, WrongContent
from tagferry.oci.model import Descriptor


class Verifier:
    """Counts and hashes bytes against a descriptor.

    Args:
        descriptor: the expected content.
        start: bytes that another process has already passed on. If it is not zero, only the size is verified here, and
            the receiver must verify the digest.
    """

    def __init__(self, descriptor: Descriptor, *, start: int = 0) -> None:
        self._descriptor = descriptor
        self._hash = None if start else hashlib.new(descriptor.digest.algorithm)
        self.received = start

    def update(self, chunk: bytes) -> None:
        """Count and hash the next bytes; raises WrongContent if there are more than the descriptor's size."""
        self.received += len(chunk)
        if self.received > self._descriptor.size:
            raise WrongContent(f"{self._descriptor.digest} is longer than its {self._descriptor.size} bytes")
        if self._hash is not None:
            self._hash.update(chunk)

    def finish(self) -> None:
        """Check all received bytes; raises WrongContent if the size or the digest differs."""
        if self.received != self._descriptor.size:
            raise WrongContent(
                f"{self._descriptor.digest} ended after {self.received} of its {self._descriptor.size} bytes"
            )
        if self._hash is not None and self._hash.hexdigest() != self._descriptor.digest.encoded:
            actual = f"{self._descriptor.digest.algorithm}:{self._hash.hexdigest()}"
            raise WrongContent(f"{self._descriptor.digest} has content with the digest {actual}")

    async def verify(self, chunks: AsyncIterator[bytes], *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield chunks and verify them.

        The last chunk is yielded only after verification, so the consumer never receives all of a blob that does not
        match: a target that counts bytes cannot commit such an upload.

        Args:
            chunks: the blob's content from the offset.
            offset: the position of the first chunk; bytes that were verified before are not hashed again.

        Raises:
            WrongContent: the size or the digest differs.
            Corrupt: the receiver claims to have bytes that it was never sent.
        """
        hashed = self.received - offset
        if hashed < 0:
            raise Corrupt(f"the target reports {offset} bytes of {self._descriptor.digest}, but got {self.received}")
        held: bytes | None = None
        async for chunk in chunks:
            if not chunk:
                continue  # held back instead of the last bytes, it would release all of them
            if hashed < len(chunk):
                self.update(chunk[hashed:] if hashed else chunk)
            hashed = max(0, hashed - len(chunk))
            if held is not None:
                yield held
            held = chunk
        self.finish()
        if held is not None:
            yield held


def verified(chunks: AsyncIterator[bytes], descriptor: Descriptor) -> AsyncIterator[bytes]:
    """Yield all chunks of a blob and verify them, as `Verifier.verify` does."""
    return Verifier(descriptor).verify(chunks)
