"""Content streamed between two stores: chunks of bytes, or flows that stay in the kernel."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar


class Flow(Protocol):
    """Bytes of a blob in the kernel, which can pass them to a target without copying them into this process."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        ...

    def watch(self, count: Callable[[int], None]) -> None:
        """Call `count` with the number of bytes whenever some have been passed to the target."""
        ...


Piece = TypeVar("Piece", bound=bytes | Flow)
"""A part of a blob's content: a chunk or a flow."""


class Spliceable(AsyncIterator[bytes]):
    """A blob's chunks, which a target may instead read as a mix of chunks and flows.

    A target passes a flow on before it requests the next piece, or leaves it; then its bytes follow as chunks.

    Args:
        chunks: the whole content as chunks.
        pieces: returns the content as chunks and flows; only one of the two is read.
    """

    def __init__(self, chunks: AsyncIterator[bytes], pieces: Callable[[], AsyncIterator[bytes | Flow]]) -> None:
        self._chunks = chunks
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    def pieces(self) -> AsyncIterator[bytes | Flow]:
        """Return the same content as chunks and flows; only the target verifies the bytes of flows."""
        return self._pieces()


class FileContent(AsyncIterator[bytes]):
    """A part of a file that needs no verification, which a reader may instead take from the file itself.

    Args:
        chunks: the same bytes as chunks.
        file: the descriptor of the file, which stays open while this is read.
        offset: the first byte.
        count: the number of bytes.
    """

    def __init__(self, chunks: AsyncIterator[bytes], file: int, *, offset: int, count: int) -> None:
        self._chunks = chunks
        self.file = file
        self.offset = offset
        self.count = count

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)
