"""Blobs over HTTP (OCI distribution-spec 1.1, end-2 and end-10)."""

import re
from functools import partial

from tagferry.errors import NotFound
from tagferry.names import Digest
from tagferry.oci.model import Descriptor
from tagferry.registry.api.asgi import Response
from tagferry.registry.api.exchange import Exchange
from tagferry.registry.errors import RangeNotSatisfiable

_MEDIA_TYPE = "application/octet-stream"
_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


async def get_blob(exchange: Exchange) -> Response:
    """Send a blob, or one range of it; a request for several ranges gets the whole blob."""
    digest = Digest(exchange.reference)
    size = await exchange.store.stat_blob(exchange.repository, digest)
    if size is None:
        raise NotFound("blob", digest)
    etag = f'"{digest}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": _MEDIA_TYPE,
        "Docker-Content-Digest": digest,
        "ETag": etag,
    }
    if exchange.matches(etag):
        return Response(304, headers)
    descriptor = Descriptor(media_type=_MEDIA_TYPE, digest=digest, size=size)
    read = partial(exchange.store.read_blob, exchange.repository, descriptor)
    wanted = _wanted_range(exchange, etag, size)
    if wanted is None:
        return Response(200, headers | {"Content-Length": str(size)}, stream=read)
    first, last = wanted
    length = last - first + 1
    headers |= {"Content-Length": str(length), "Content-Range": f"bytes {first}-{last}/{size}"}
    return Response(206, headers, stream=partial(read, offset=first, length=length))


async def delete_blob(exchange: Exchange) -> Response:
    """Remove a blob from the repository."""
    digest = Digest(exchange.reference)
    await exchange.store.delete_blob(exchange.repository, digest)
    return Response(202, {"Docker-Content-Digest": digest})


def _wanted_range(exchange: Exchange, etag: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte to send; None for the whole blob (RFC 9110, section 14)."""
    headers = exchange.request.headers
    text = headers.get("range")
    if text is None or exchange.request.method != "GET" or headers.get("if-range", etag) != etag:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(text, size)
    return start, end
