"""Content on its way between two stores: as chunks of bytes, or as flows that stay with the kernel."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar


class Flow(Protocol):
    """Bytes of a blob that are still with the kernel, which can bring them to a target unseen by this process."""

    @property
    def size(self) -> int:
        """How many bytes."""
        ...

    def watch(self, count: Callable[[int], None]) -> None:
        """Have `count` called too with how many bytes have been brought, whenever some have."""
        ...


Piece = TypeVar("Piece", bound=bytes | Flow)
"""A part of a blob's content on its way."""


class Spliceable(AsyncIterator[bytes]):
    """A blob's chunks, for a target that knows how also to be had as flows between them.

    A flow is either brought to the target before the next piece is asked for, or left: then its bytes follow as chunks.

    Args:
        chunks: all of it as chunks.
        pieces: makes the chunks and flows; only one of the two is read.
    """

    def __init__(self, chunks: AsyncIterator[bytes], pieces: Callable[[], AsyncIterator[bytes | Flow]]) -> None:
        self._chunks = chunks
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    def pieces(self) -> AsyncIterator[bytes | Flow]:
        """The same content as chunks and flows; what flows is verified by nobody but the target."""
        return self._pieces()
