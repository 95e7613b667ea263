"""Decodes the content codings of a body (RFC 9110, section 8.4), which some servers apply unasked."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping

from tagferry.http.faults import ConnectionFailed, ConnectionRejected
from tagferry.http.headers import Headers

_CHUNK = 256 * 1024
"""Maximum size of a decoded chunk, however few coded bytes produce it."""
_MAX_CODINGS = 4
"""Maximum number of codings of a body."""
_NEUTRAL = frozenset({"", "identity", "chunked", "aws-chunked"})
"""Codings that leave the content unchanged; S3 reports the last one if the upload had it."""
_EXPANSION = 4
"""Maximum expansion of content that is itself coded, since compressed content hardly shrinks."""
_GZIP, _DEFLATE = frozenset({"gzip", "x-gzip"}), frozenset({"deflate"})


def codings(headers: Mapping[str, str]) -> list[str]:
    """Return the codings of a body in the order of their application, transfer codings last, without `identity`."""
    if "Content-Encoding" not in headers and "Transfer-Encoding" not in headers:
        return []
    lines = [line for name in ("Content-Encoding", "Transfer-Encoding") for line in _lines(headers, name)]
    named = (one.strip().lower() for one in ",".join(lines).split(","))
    return [one for one in named if one not in _NEUTRAL]


def _lines(headers: Mapping[str, str], name: str) -> list[str]:
    return headers.every(name) if isinstance(headers, Headers) else [headers.get(name, "")]


def blob_codings(status: int, headers: Headers, whole: int | None) -> list[str]:
    """Return the codings of a blob whose size is known, or None.

    A compressed blob may be stored with a Content-Encoding that describes the blob itself. If the body has as many
    bytes as the blob, it is the blob.
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
    """Decode a body into chunks of bounded size; the caller bounds the total.

    A body that does not have the coding of its label is passed through: servers may mislabel stored content, such as a
    plain manifest.

    Raises:
        ConnectionRejected: a coding is unknown, or there are too many codings.
        ConnectionFailed: the coded bytes are damaged or truncated, or expand implausibly.
    """
    if len(applied) > _MAX_CODINGS:
        raise ConnectionRejected(f"the response has more than {_MAX_CODINGS} content codings")
    for index, coding in reversed(list(enumerate(applied))):
        if coding not in _GZIP | _DEFLATE:
            raise ConnectionRejected(f'the response has the content coding "{coding[:40]}", which is not supported')
        chunks = _inflated(chunks, is_gzip=coding in _GZIP, is_last=index == 0)
    async for chunk in chunks:
        yield chunk


async def _inflated(chunks: AsyncIterator[bytes], *, is_gzip: bool, is_last: bool) -> AsyncIterator[bytes]:
    inflater: _Inflater | None = None
    received = decoded_size = 0
    prefix = b""
    async for chunk in chunks:
        received += len(chunk)
        if inflater is None:
            prefix += chunk
            if len(prefix) < 2:
                continue
            window = _window(prefix, is_gzip=is_gzip)
            if window is None:
                yield prefix
                async for rest in chunks:
                    yield rest
                return
            inflater, chunk = _Inflater(window), prefix
        for piece in inflater.feed(chunk):
            decoded_size += len(piece)
            if not is_last and decoded_size > _CHUNK + _EXPANSION * received:
                raise ConnectionFailed("the response is encoded several times, and decodes to implausibly much")
            yield piece
            # A few bytes may decode to many chunks; let other tasks run in between.
            await asyncio.sleep(0)
    if inflater is None:
        yield prefix
    else:
        inflater.end()


def _window(prefix: bytes, *, is_gzip: bool) -> int | None:
    """Return the `wbits` argument of zlib; None if the body is not coded."""
    if is_gzip:
        return 16 + zlib.MAX_WBITS if prefix.startswith(b"\x1f\x8b") else None
    has_header = prefix[0] & 0x0F == 8 and int.from_bytes(prefix[:2], "big") % 31 == 0
    if has_header:
        return zlib.MAX_WBITS
    # Servers also send raw DEFLATE under this name; no plausible DEFLATE stream begins with the first byte of JSON.
    return None if prefix[:1] in (b"{", b"[") else -zlib.MAX_WBITS


class _Inflater:
    """Decodes one coding; a gzip body may have several members."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._stream = zlib.decompressobj(window)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode more data into chunks of bounded size; raise ConnectionFailed if it is damaged."""
        while data:
            if self._stream.eof:
                # A gzip file may be padded with zeros; another member follows immediately.
                data = data.lstrip(b"\0") if self._window > zlib.MAX_WBITS else b""
                if not data:
                    return
                self._stream = zlib.decompressobj(self._window)
            try:
                piece = self._stream.decompress(data, _CHUNK)
            except zlib.error as error:
                raise ConnectionFailed(f"the encoded response is damaged: {error}") from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                yield piece

    def end(self) -> None:
        """Finish decoding; raise ConnectionFailed if the data is truncated."""
        if not self._stream.eof:
            raise ConnectionFailed("the encoded response ended early")
