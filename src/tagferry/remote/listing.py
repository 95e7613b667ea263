"""Lists that come in pages (distribution-spec 1.1, "Listing Tags" and "Listing Referrers"; `_catalog` likewise)."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

from tagferry import bounds
from tagferry.errors import Unavailable
from tagferry.remote.answer import Answer
from tagferry.remote.transport import Call, Transport
from tagferry.remote.urls import origin_of

PAGE_SIZE = 1000
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*?\brel="?next\b"?', re.IGNORECASE)

Fetch = Callable[[Call], Awaitable[Answer]]


class Astray(Unavailable):
    """Pages of a list that name each other without an end."""


class NotAList(Unavailable):
    """An answer that is not the list that was asked for, though its status says so."""


async def pages(
    transport: Transport, first: Call, *, fetch: Fetch | None = None, most: int = bounds.TAG_LIST_PAGES
) -> AsyncIterator[Answer]:
    """The answers to a request and to those that its Link headers lead to.

    Every page is asked of the host that answered before: of a link that names another one, which is how registries
    behind a proxy name themselves, only path and query count. No link is followed twice.

    Args:
        transport: the registry.
        first: the request for the first page.
        fetch: sends one request; `transport.fetch` by default.
        most: how many pages there may be.

    Raises:
        Astray: the links have no end, so the list would not be complete.
    """
    fetch = fetch or transport.fetch
    seen = {first.url, transport.resolve(first.url)}
    call = first
    for _ in range(most):
        answer = await fetch(call)
        yield answer
        link = _next(answer)
        if link is None:
            return
        url = _at_same_host(transport, link, answer.url or transport.resolve(call.url))
        if url in seen:
            raise Astray(f"registry {transport.name} named a next page that leads astray: asked to {call.task}")
        seen.add(url)
        call = replace(call, url=url)
    raise Astray(f"registry {transport.name} named more than {most} pages when asked to {call.task}")


def goes_on(page: Answer) -> bool:
    """Return whether a page has a link to a next one."""
    return _next(page) is not None


def not_a_list(transport: Transport, call: Call, page: Answer) -> NotAList:
    """The error of an answer that is not the list that was asked for."""
    told = page.media_type or "no media type"
    return NotAList(f"registry {transport.name} answered {page.status} with no list ({told}) when asked to {call.task}")


def _next(page: Answer) -> str | None:
    link = _NEXT.search(page.headers.get("Link", ""))
    return link[1] if link else None


def _at_same_host(transport: Transport, link: str, base: str) -> str:
    url = transport.resolve(link, base)
    if origin_of(url) == origin_of(base):
        return url
    named, own = urlsplit(url), urlsplit(base)
    return named._replace(scheme=own.scheme, netloc=own.netloc).geturl()
