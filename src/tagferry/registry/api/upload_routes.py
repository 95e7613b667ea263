"""Uploads over HTTP: whole, streamed, in chunks, resumed or mounted (OCI distribution-spec 1.1, end-4 to 6, 11, 13)."""

import contextlib
import re

from tagferry.errors import InvalidName, NotFound
from tagferry.names import Digest, RepositoryName
from tagferry.registry.api.access import Action
from tagferry.registry.api.asgi import Response
from tagferry.registry.api.errors import uploaded_range
from tagferry.registry.api.exchange import Exchange
from tagferry.registry.errors import InvalidUpload, SizeMismatch

_CONTENT_RANGE = re.compile(r"(?:bytes\s+)?(\d{1,18})-(\d{1,18})(?:/(?:\d+|\*))?")


async def start_upload(exchange: Exchange) -> Response:
    """Start an upload; with `digest`, receive the whole blob; with `mount`, mount it from another repository."""
    query = exchange.request.query
    if "mount" in query and await _mount(exchange, Digest(query["mount"])):
        return _created(exchange, Digest(query["mount"]))
    if "digest" in query:
        return await _upload_at_once(exchange, Digest(query["digest"]))
    identifier = await exchange.store.uploads.start(exchange.repository)
    return _progress(exchange, 202, identifier, 0)


async def append_to_upload(exchange: Exchange) -> Response:
    """Receive a chunk; without Content-Range, append it."""
    offset, length = _content_range(exchange)
    received = await exchange.store.uploads.append(
        exchange.repository,
        exchange.reference,
        exchange.request.chunks(),
        offset=offset,
        length=length,
        announced=exchange.request.content_length,
    )
    return _progress(exchange, 202, exchange.reference, received)


async def finish_upload(exchange: Exchange) -> Response:
    """Receive the last bytes, if any, verify the upload, and store it as a blob."""
    if "digest" not in exchange.request.query:
        raise InvalidName("digest", "is required; add it to the query")
    digest = Digest(exchange.request.query["digest"])
    offset, length = _content_range(exchange)
    await exchange.store.uploads.finish(
        exchange.repository,
        exchange.reference,
        digest,
        exchange.request.chunks(),
        offset=offset,
        length=length,
        announced=exchange.request.content_length,
    )
    return _created(exchange, digest)


async def get_upload(exchange: Exchange) -> Response:
    """Report how many bytes an upload has received."""
    received = await exchange.store.uploads.size(exchange.repository, exchange.reference)
    return _progress(exchange, 204, exchange.reference, received)


async def cancel_upload(exchange: Exchange) -> Response:
    """Cancel an upload."""
    await exchange.store.uploads.cancel(exchange.repository, exchange.reference)
    return Response(204)


async def _mount(exchange: Exchange, digest: Digest) -> bool:
    try:
        source = RepositoryName(exchange.request.query["from"])
    except (KeyError, InvalidName):
        return False
    # Denied and missing look the same, so that the contents of unreadable repositories are not disclosed.
    if not await exchange.permits(Action.PULL, source):
        return False
    return await exchange.store.mount_blob(exchange.repository, digest, source)


async def _upload_at_once(exchange: Exchange, digest: Digest) -> Response:
    uploads = exchange.store.uploads
    identifier = await uploads.start(exchange.repository)
    try:
        chunks, announced = exchange.request.chunks(), exchange.request.content_length
        await uploads.finish(exchange.repository, identifier, digest, chunks, announced=announced)
    except Exception:
        # The client does not know the identifier of this upload, so it cannot resume it.
        with contextlib.suppress(NotFound):
            await uploads.cancel(exchange.repository, identifier)
        raise
    return _created(exchange, digest)


def _content_range(exchange: Exchange) -> tuple[int | None, int | None]:
    text = exchange.request.headers.get("content-range")
    if text is None:
        return None, None
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise InvalidUpload("Content-Range", "must have the form first-last", text)
    first, last = int(match[1]), int(match[2])
    length = last - first + 1
    declared = exchange.request.content_length
    if length < 1 or declared not in (None, length):
        raise SizeMismatch("Content-Range", f"must cover the {declared} bytes of the body", text)
    return first, length


def _progress(exchange: Exchange, status: int, identifier: str, received: int) -> Response:
    headers = {
        "Docker-Upload-UUID": identifier,
        "Location": f"/v2/{exchange.repository}/blobs/uploads/{identifier}",
        "Range": uploaded_range(received),
    }
    return Response(status, headers)


def _created(exchange: Exchange, digest: Digest) -> Response:
    headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{exchange.repository}/blobs/{digest}"}
    return Response(201, headers)
