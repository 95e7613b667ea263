"""An answer's body, for who reads it as it comes in."""

from collections.abc import AsyncIterator, Callable

from tagferry.errors import TagferryError
from tagferry.http.content_coding import blob_codings, decoded
from tagferry.http.faults import ConnectionFailed
from tagferry.http.response import Response
from tagferry.streams import Flow, Piece


class Body:
    """An answer's body as it comes in.

    Args:
        response: the answer.
        error: the error that a fault of its connection means.
        whole: as a call has it.
    """

    def __init__(
        self, response: Response, error: Callable[[ConnectionFailed], TagferryError], whole: int | None = None
    ) -> None:
        self._response = response
        self._error = error
        self._codings = blob_codings(response.status, response.headers, whole)

    @property
    def is_coded(self) -> bool:
        """Return whether it comes compressed, so that a range of it is not a range of the content."""
        return bool(self._codings)

    @property
    def can_flow(self) -> bool:
        """Return whether there are flows among its pieces."""
        return not self.is_coded and self._response.can_flow

    def chunks(self) -> AsyncIterator[bytes]:
        """It in chunks; raises Unavailable where they do not come to their end."""
        chunks = self._response.chunks()
        return self._passed(decoded(chunks, self._codings) if self._codings else chunks)

    def pieces(self) -> AsyncIterator[bytes | Flow]:
        """It in chunks and, where it can flow, a flow; raises as `chunks`."""
        return self._passed(self._response.pieces()) if self.can_flow else self.chunks()

    async def _passed(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
        try:
            async for piece in pieces:
                yield piece
        except ConnectionFailed as fault:
            raise self._error(fault) from fault
