"""Lists that come in pages (distribution-spec 1.1, "Listing Tags" and "Listing Referrers"; `_catalog` likewise)."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

from tagferry import bounds
from tagferry.errors import Unavailable
from tagferry.http.explanation import one_line
from tagferry.http.urls import origin_of
from tagferry.metrics import BOUND_REACHED
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer

PAGE_SIZE = 1000
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*?\brel="?next\b"?', re.IGNORECASE)

Fetch = Callable[[Call], Awaitable[Answer]]


class EndlessList(Unavailable):
    """Pages of a list that name each other without an end."""


class ListTooLong(EndlessList):
    """A list that is longer than any that is read."""


class NotAList(Unavailable):
    """An answer that is not the list that was asked for, though its status says so."""


async def pages(
    transport: Transport,
    first: Call,
    *,
    fetch: Fetch | None = None,
    most: int = bounds.TAG_LIST_PAGES,
    most_bytes: int = bounds.TAG_LIST_BYTES,
    bound: str = "tag_list_bytes",
) -> AsyncIterator[Answer]:
    """The answers to a request and to those that its Link headers lead to.

    Every page is asked of the host that answered before: of a link that names another one, which is how registries
    behind a proxy name themselves, only path and query count. No link is followed twice.

    Args:
        transport: the registry.
        first: the request for the first page.
        fetch: sends one request; `transport.fetch` by default.
        most: how many pages there may be.
        most_bytes: how many bytes all pages may have together.
        bound: the name of that bound.

    Raises:
        EndlessList: the links have no end, so the list would not be complete.
        ListTooLong: the pages have too many bytes.
    """
    fetch = fetch or transport.fetch
    seen = {first.url, transport.resolve(first.url)}
    call = first
    left = most_bytes
    for _ in range(most):
        answer = await fetch(call)
        left -= len(answer.body)
        if left < 0:
            raise list_too_long(transport, call, f"more than {most_bytes} bytes", bound=bound)
        # Not after it: who reads the pages may be cancelled in between.
        answer.release()
        yield answer
        link = _next(answer)
        if link is None:
            return
        url = _at_same_host(transport, link, answer.url or transport.resolve(call.url))
        if url in seen:
            raise EndlessList(f"registry {transport.name} named a next page that leads astray: asked to {call.task}")
        seen.add(url)
        call = replace(call, url=url)
    raise EndlessList(f"registry {transport.name} named more than {most} pages when asked to {call.task}")


def has_next_page(page: Answer) -> bool:
    """Return whether a page has a link to a next one."""
    return _next(page) is not None


def list_too_long(transport: Transport, call: Call, what: str, *, bound: str) -> ListTooLong:
    """The error of a list that is too long, with what there is too much of, and the name of the bound."""
    BOUND_REACHED.labels(bound=bound).inc()
    return ListTooLong(f"registry {transport.name} answered {what} when asked to {call.task}", is_retryable=False)


def too_many_names(transport: Transport, call: Call) -> ListTooLong:
    """The error of a list of too many names."""
    return list_too_long(transport, call, f"more than {bounds.TAG_LIST_NAMES} names", bound="tag_list_names")


def require_bounded(transport: Transport, call: Call, page: Answer) -> None:
    """Make sure that a page has not too many names, before it is parsed: each takes much more memory then.

    Raises:
        ListTooLong: it has more.
    """
    if page.body.count(b",") > bounds.TAG_LIST_NAMES:
        raise too_many_names(transport, call)


def not_a_list(transport: Transport, call: Call, page: Answer) -> NotAList:
    """The error of an answer that is not the list that was asked for."""
    message = one_line(page.media_type, 100) or "no media type"
    return NotAList(
        f"registry {transport.name} answered {page.status} with no list ({message}) when asked to {call.task}"
    )


def _next(page: Answer) -> str | None:
    link = _NEXT.search(page.headers.get("Link", ""))
    return link[1] if link else None


def _at_same_host(transport: Transport, link: str, base: str) -> str:
    url = transport.resolve(link, base)
    if origin_of(url) == origin_of(base):
        return url
    named, own = urlsplit(url), urlsplit(base)
    return named._replace(scheme=own.scheme, netloc=own.netloc).geturl()
