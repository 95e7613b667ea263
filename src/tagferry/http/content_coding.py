"""Undoes the content codings of a body (RFC 9110, section 8.4), which some servers apply without being asked."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping

from tagferry.http.faults import ConnectionFailed, ConnectionRejected
from tagferry.http.headers import Headers

_STEP = 256 * 1024
"""Bytes of decoded content that are handed out at once, however much a few coded bytes decode to."""
_MOST = 4
"""Codings that one body may have."""
_NOTHING = frozenset({"", "identity", "chunked", "aws-chunked"})
"""Codings that leave the content unchanged; S3 reports the last one, which was that of the upload."""
_EXPANSION = 4
"""By how much content that is coded once more may grow where a coding is undone: what is compressed hardly shrinks."""
_GZIP, _DEFLATE = frozenset({"gzip", "x-gzip"}), frozenset({"deflate"})


def codings(headers: Mapping[str, str]) -> list[str]:
    """The codings of a body in the order in which they were applied, those of its transfer last; no `identity`."""
    if "Content-Encoding" not in headers and "Transfer-Encoding" not in headers:
        return []
    lines = [line for name in ("Content-Encoding", "Transfer-Encoding") for line in _lines(headers, name)]
    named = (one.strip().lower() for one in ",".join(lines).split(","))
    return [one for one in named if one not in _NOTHING]


def _lines(headers: Mapping[str, str], name: str) -> list[str]:
    return headers.every(name) if isinstance(headers, Headers) else [headers.get(name, "")]


def blob_codings(status: int, headers: Headers, whole: int | None) -> list[str]:
    """The same for a blob of so many bytes, if that is known.

    A blob that is compressed itself may be stored with a label that says so: where as many bytes come as the blob
    has, they are the blob.
    """
    applied = codings(headers)
    if applied and whole is not None:
        reported = (
            headers.get("Content-Range", "").rpartition("/")[2] if status == 206 else headers.get("Content-Length")
        )
        if reported == str(whole):
            return []
    return applied


async def decoded(chunks: AsyncIterator[bytes], applied: list[str]) -> AsyncIterator[bytes]:
    """A body without its codings, in chunks of bounded size; who reads it bounds the whole.

    A body that is labelled with a coding that it does not have is passed on as it is: a server may label what it
    stores so, such as a manifest that is in clear.

    Raises:
        ConnectionRejected: a coding is unknown, or there are too many.
        ConnectionFailed: the coded bytes are damaged, end early, or decode to far too many that are coded themselves.
    """
    if len(applied) > _MOST:
        raise ConnectionRejected(f"the answer has more than {_MOST} content codings")
    for place, coding in reversed(list(enumerate(applied))):
        if coding not in _GZIP | _DEFLATE:
            raise ConnectionRejected(f'the answer has the content coding "{coding[:40]}", which is not supported')
        chunks = _inflated(chunks, is_gzip=coding in _GZIP, is_last=place == 0)
    async for chunk in chunks:
        yield chunk


async def _inflated(chunks: AsyncIterator[bytes], *, is_gzip: bool, is_last: bool) -> AsyncIterator[bytes]:
    inflater: _Inflater | None = None
    taken = given = 0
    beginning = b""
    async for chunk in chunks:
        taken += len(chunk)
        if inflater is None:
            beginning += chunk
            if len(beginning) < 2:
                continue
            window = _window(beginning, is_gzip=is_gzip)
            if window is None:
                yield beginning
                async for rest in chunks:
                    yield rest
                return
            inflater, chunk = _Inflater(window), beginning
        for piece in inflater.feed(chunk):
            given += len(piece)
            if not is_last and given > _STEP + _EXPANSION * taken:
                raise ConnectionFailed("the answer is encoded several times and decodes to far more than is plausible")
            yield piece
            # A few bytes may decode to many pieces, and others have their turn in between.
            await asyncio.sleep(0)
    if inflater is None:
        yield beginning
    else:
        inflater.end()


def _window(beginning: bytes, *, is_gzip: bool) -> int | None:
    """Return what zlib has to expect (`wbits`); None if this is not coded at all."""
    if is_gzip:
        return 16 + zlib.MAX_WBITS if beginning.startswith(b"\x1f\x8b") else None
    has_header = beginning[0] & 0x0F == 8 and int.from_bytes(beginning[:2], "big") % 31 == 0
    if has_header:
        return zlib.MAX_WBITS
    # Servers send raw DEFLATE too under this name; JSON begins with a byte that no such stream begins with sensibly.
    return None if beginning[:1] in (b"{", b"[") else -zlib.MAX_WBITS


class _Inflater:
    """Undoes one coding; a gzip body may have several members."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._stream = zlib.decompressobj(window)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode some more, in pieces of bounded size; raises ConnectionFailed where the bytes are damaged."""
        while data:
            if self._stream.eof:
                # Zeros may pad a gzip file; any other member follows at once.
                data = data.lstrip(b"\0") if self._window > zlib.MAX_WBITS else b""
                if not data:
                    return
                self._stream = zlib.decompressobj(self._window)
            try:
                piece = self._stream.decompress(data, _STEP)
            except zlib.error as error:
                raise ConnectionFailed(f"the coded answer is damaged: {error}") from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                yield piece

    def end(self) -> None:
        """Note that nothing more comes; raises ConnectionFailed where something is missing."""
        if not self._stream.eof:
            raise ConnectionFailed("the coded answer ended early")
