"""`POST /notifications`: events from a region's registry about pushes, in the format of CNCF distribution.

An event only causes tagferry to query the registry, so a lost, unknown or forged event costs at most a few requests.
"""

import hmac
import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from tagferry.automation.watch.watcher import TagWatcher
from tagferry.errors import Denied, InvalidName, Unauthenticated, WrongType
from tagferry.names import Digest, Reference, RepositoryName, Tag
from tagferry.web.context import Context
from tagferry.web.json_response import JSONResponse

router = APIRouter(tags=["notifications"])


# A coroutine, because FastAPI runs other dependencies in a thread, which takes longer.
async def _context(request: Request, response: Response) -> Context[TagWatcher]:
    return Context.of(request, response, request.app.state.watch)


@router.post("/notifications", operation_id="Notify", status_code=202)
async def notify(context: Annotated[Context[TagWatcher], Depends(_context)]) -> Response:
    """Process events of pushes and deletions; others are ignored.

    Source: CNCF distribution, "Work with notifications".
    """
    _authenticate(context)
    watch, region = context.services, context.region.id
    events = _events(await context.request.body())
    for repository, references in _deletions(events).items():
        await watch.forget(region, repository, *references)
    for repository, tag, digest in _pushes(events):
        watch.tag_changed(region, repository, tag, digest)
    return JSONResponse({}, status_code=202)


def _authenticate(context: Context[TagWatcher]) -> None:
    token = context.settings.regions[context.region.id].notifications_token
    if token is None:
        raise Denied(
            f"region {context.region.id} accepts no notifications; set its notifications_token in the configuration"
        )
    scheme, _, given = context.request.headers.get("authorization", "").partition(" ")
    expected = token.get_secret_value().encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected):
        raise Unauthenticated(
            "notifications require the header Authorization: Bearer with the region's notifications_token"
        )


def _events(body: bytes) -> list[dict[str, Any]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise WrongType("body", "must be JSON") from None
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise WrongType("events", "must be an array")
    return [event for event in events if isinstance(event, dict) and isinstance(event.get("target"), dict)]


def _pushes(events: list[dict[str, Any]]) -> Iterator[tuple[RepositoryName, Tag, Digest | None]]:
    """Yield the pushed tags, with their digests if known. Blobs and untagged manifests do not concern rules."""
    for event in events:
        if event.get("action") == "push" and isinstance(tag := event["target"].get("tag"), str):
            try:
                yield _repository(event), Tag(tag), _digest(event)
            except InvalidName:
                continue


def _digest(event: dict[str, Any]) -> Digest | None:
    try:
        return Digest(str(event["target"].get("digest")))
    except InvalidName:
        return None


def _deletions(events: list[dict[str, Any]]) -> dict[RepositoryName, list[Reference]]:
    found: dict[RepositoryName, list[Reference]] = {}
    for event in events:
        if event.get("action") != "delete":
            continue
        tag, digest = event["target"].get("tag"), event["target"].get("digest")
        try:
            reference = Tag(tag) if isinstance(tag, str) and tag else Digest(str(digest))
            found.setdefault(_repository(event), []).append(reference)
        except InvalidName:
            continue
    return found


def _repository(event: dict[str, Any]) -> RepositoryName:
    return RepositoryName(str(event["target"].get("repository", "")))
