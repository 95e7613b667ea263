"""Manifests, tags, referrers and the catalog over HTTP (OCI distribution-spec 1.1, end-3, 7, 8, 9, 12).

A push by digest may name tags in the same request, as in the specification after version 1.1.
"""

import bisect
import json
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import structlog

from tagferry import bounds
from tagferry.digits import whole_number
from tagferry.errors import Corrupt, Invalid, InvalidName, NotFound
from tagferry.names import Digest, Reference, Tag, parse_reference
from tagferry.oci.model import OCI_INDEX, parse_manifest
from tagferry.registry.api.asgi import Response
from tagferry.registry.api.exchange import Exchange
from tagferry.registry.errors import Damaged, InvalidPage, TooManyTags

_MAX_TAGS = 100
"""The most tags in one push; the specification requires ten."""

log = structlog.get_logger(__name__)


async def get_manifest(exchange: Exchange) -> Response:
    """Send a manifest as stored; it is never converted, whatever the Accept header says."""
    reference = _existing_reference(exchange)
    try:
        manifest = await exchange.store.get_stored_manifest(exchange.repository, reference)
    except Corrupt:
        raise Damaged(reference) from None
    etag = f'"{manifest.digest}"'
    headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest, "ETag": etag}
    if exchange.matches(etag):
        return Response(304, headers)
    if exchange.on_pull is not None and exchange.request.method == "GET":
        with suppress(Invalid):
            exchange.on_pull(exchange.repository, manifest)
    return Response(200, headers, manifest.raw)


async def put_manifest(exchange: Exchange) -> Response:
    """Store a manifest, and point the tag in the path, or the tags in the query, to it."""
    reference = parse_reference(exchange.reference)
    named = [] if isinstance(reference, Tag) else _named_tags(exchange)
    raw = await exchange.request.body("manifest", limit=bounds.MANIFEST_BYTES)
    media_type = exchange.request.headers.get("content-type")
    digest = None if isinstance(reference, Tag) else reference
    manifest = await parse_manifest(raw, media_type, digest=digest, is_pushed=True)
    tags: list[Tag | None] = [reference] if isinstance(reference, Tag) else [*named] or [None]
    for tag in tags:
        await exchange.store.put_manifest(exchange.repository, manifest, tag)
        if exchange.on_push is not None:
            await _notify(exchange.on_push(exchange.repository, tag, manifest.digest, exchange.caller), exchange)
    headers = {
        "Docker-Content-Digest": manifest.digest,
        "Location": f"/v2/{exchange.repository}/manifests/{manifest.digest}",
    }
    if manifest.subject is not None:
        headers["OCI-Subject"] = manifest.subject.digest
    if named:
        headers["OCI-Tag"] = ", ".join(named)
    return Response(201, headers)


async def delete_manifest(exchange: Exchange) -> Response:
    """Delete a tag, or a manifest with its tags."""
    reference = _existing_reference(exchange)
    await exchange.store.delete_manifest(exchange.repository, reference)
    if exchange.on_delete is not None:
        await _notify(exchange.on_delete(exchange.repository, reference), exchange)
    return Response(202)


async def list_tags(exchange: Exchange) -> Response:
    """List tags in lexical order, in pages of `n`."""
    page, headers = _page(exchange, await exchange.store.tag_names(exchange.repository))
    return _json({"name": exchange.repository, "tags": page}, headers)


async def list_referrers(exchange: Exchange) -> Response:
    """List the referrers of a digest, as an index, in pages limited by bytes.

    An unknown digest has no referrers; that is no error.
    """
    query = exchange.request.query
    artifact_type, last = query.get("artifactType"), query.get("last")
    found, has_more = await exchange.store.list_referrers_page(
        exchange.repository,
        Digest(exchange.reference),
        artifact_type,
        after=Digest(last, field="last") if last is not None else None,
        limit=bounds.REFERRER_PAGE_BYTES,
    )
    headers = {"Content-Type": OCI_INDEX}
    if has_more:
        headers |= _next_page(exchange, {**query, "last": found[-1].digest})
    if artifact_type is not None:
        headers["OCI-Filters-Applied"] = "artifactType"
    manifests = [descriptor.to_json() for descriptor in found]
    return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, headers)


async def list_catalog(exchange: Exchange) -> Response:
    """List the repositories that the caller may pull, in lexical order, in pages of `n` (Docker's registry API)."""
    names = [name async for name in exchange.store.list_repositories()]
    visible = await exchange.authorizer.visible(exchange.request.login, names)
    page, headers = _page(exchange, visible)
    return _json({"repositories": page}, headers)


def _named_tags(exchange: Exchange) -> list[Tag]:
    """Return the distinct tags in the query."""
    texts = [value for name, value in exchange.request.parameters if name == "tag"]
    if len(texts) > _MAX_TAGS:
        raise TooManyTags("tag", f"must be given at most {_MAX_TAGS} times", len(texts))
    return list(dict.fromkeys(map(Tag, texts)))


def _existing_reference(exchange: Exchange) -> Reference:
    """Return the reference in the path; raises NotFound for a name that no tag can have."""
    try:
        return parse_reference(exchange.reference)
    except InvalidName:
        if ":" in exchange.reference:
            raise
        raise NotFound("tag", exchange.reference) from None


async def _notify(callback: Awaitable[None], exchange: Exchange) -> None:
    """Await a callback; the operation itself succeeded, so a failure is only logged."""
    try:
        await callback
    except Exception:
        log.exception(
            "the callback of a manifest failed",
            method=exchange.request.method,
            repository=exchange.repository,
            reference=exchange.reference,
        )


def _page(exchange: Exchange, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return at most `n` names after `last`, and the Link header of the next page, if any."""
    query = exchange.request.query
    start = bisect.bisect_right(names, query["last"]) if "last" in query else 0
    count = bounds.LISTED_NAMES
    if "n" in query:
        requested = whole_number(query["n"])
        if requested is None:
            raise InvalidPage("n", "must be a number, 0 or more", query["n"])
        count = min(requested, count)
    page = list(names[start : start + count])
    if not page or start + count >= len(names):
        return page, {}
    return page, _next_page(exchange, {"n": str(count), "last": page[-1]})


def _next_page(exchange: Exchange, query: Mapping[str, str]) -> dict[str, str]:
    return {"Link": f'<{exchange.request.path}?{urlencode(query)}>; rel="next"'}


def _json(document: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(200, {"Content-Type": "application/json"} | headers, json.dumps(document).encode())
