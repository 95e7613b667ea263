"""The streamed body of a response."""

from collections.abc import AsyncIterator, Callable

from tagferry.errors import TagferryError
from tagferry.http.content_coding import blob_codings, decoded
from tagferry.http.faults import ConnectionFailed
from tagferry.http.response import Response
from tagferry.streams import Flow, Piece


class Body:
    """The body of a response as it arrives.

    Args:
        response: the response.
        error: returns the error for a connection failure.
        whole: as in `Call`.
    """

    def __init__(
        self, response: Response, error: Callable[[ConnectionFailed], TagferryError], whole: int | None = None
    ) -> None:
        self._response = response
        self._error = error
        self._codings = blob_codings(response.status, response.headers, whole)

    @property
    def is_coded(self) -> bool:
        """Return whether it is compressed in transit, so that its ranges are not ranges of the content."""
        return bool(self._codings)

    @property
    def can_flow(self) -> bool:
        """Return whether its pieces may include flows."""
        return not self.is_coded and self._response.can_flow

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in chunks; raise Unavailable if it is incomplete."""
        chunks = self._response.chunks()
        return self._passed(decoded(chunks, self._codings) if self._codings else chunks)

    def pieces(self) -> AsyncIterator[bytes | Flow]:
        """Yield the body in chunks and, if possible, a flow; raise as `chunks`."""
        return self._passed(self._response.pieces()) if self.can_flow else self.chunks()

    async def _passed(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
        try:
            async for piece in pieces:
                yield piece
        except ConnectionFailed as fault:
            raise self._error(fault) from fault
