"""Paginated lists (distribution-spec 1.1, "Listing Tags" and "Listing Referrers"; also `_catalog`)."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

from tagferry import bounds
from tagferry.errors import Unavailable
from tagferry.http.explanation import one_line
from tagferry.http.urls import origin_of
from tagferry.metrics import BOUND_REACHED
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.response import Answer

PAGE_SIZE = 1000
_NEXT = r'<([^<>]*)>\s*;[^,<]*?\brel="?next\b"?'

Fetch = Callable[[Call], Awaitable[Answer]]


class EndlessList(Unavailable):
    """The pages of a list do not end."""


class ListTooLong(EndlessList):
    """A list is too long to be read."""


class NotAList(Unavailable):
    """A response is not the requested list, despite its status."""


async def pages(
    transport: Transport,
    first: Call,
    *,
    fetch: Fetch | None = None,
    max_pages: int = bounds.TAG_LIST_PAGES,
    max_bytes: int = bounds.TAG_LIST_BYTES,
    bound: str = "tag_list_bytes",
) -> AsyncIterator[Answer]:
    """Yield the response to a request and to the requests for its next pages.

    All pages are requested from the host of the first response: if a link names another host, as registries behind a
    proxy do, only its path and query are used. No link is followed twice.

    Args:
        transport: the registry.
        first: the request for the first page.
        fetch: sends one request; `transport.fetch` by default.
        max_pages: maximum number of pages.
        max_bytes: maximum size of all pages together.
        bound: the name of that bound in the metrics.

    Raises:
        EndlessList: the links do not end, so the list would be incomplete.
        ListTooLong: the pages are too large.
    """
    fetch = fetch or transport.fetch
    seen = {first.url, transport.resolve(first.url)}
    call = first
    left = max_bytes
    for _ in range(max_pages):
        answer = await fetch(call)
        left -= len(answer.body)
        if left < 0:
            raise list_too_long(transport, call, f"more than {max_bytes} bytes", bound=bound)
        # Before the yield, since the consumer may be cancelled there.
        answer.release()
        yield answer
        link = _next(answer)
        if link is None:
            return
        url = _at_same_host(transport, link, answer.url or transport.resolve(call.url))
        if url in seen:
            raise EndlessList(f"registry {transport.name} returned an invalid next-page link when asked to {call.task}")
        seen.add(url)
        call = call._replace(url=url)
    raise EndlessList(f"registry {transport.name} returned more than {max_pages} pages when asked to {call.task}")


def has_next_page(page: Answer) -> bool:
    """Return whether a page links to a next one."""
    return _next(page) is not None


def list_too_long(transport: Transport, call: Call, what: str, *, bound: str) -> ListTooLong:
    """Return the error for a list that is too long, and count it under the name of the bound."""
    BOUND_REACHED.labels(bound=bound).inc()
    return ListTooLong(f"registry {transport.name} answered {what} when asked to {call.task}", is_retryable=False)


def too_many_names(transport: Transport, call: Call) -> ListTooLong:
    """Return the error for a list of too many names."""
    return list_too_long(transport, call, f"more than {bounds.TAG_LIST_NAMES} names", bound="tag_list_names")


def require_bounded(transport: Transport, call: Call, page: Answer) -> None:
    """Check the number of names on a page before it is parsed, since parsed names take much more memory.

    Raises:
        ListTooLong: there are too many names.
    """
    if page.body.count(b",") > bounds.TAG_LIST_NAMES:
        raise too_many_names(transport, call)


def not_a_list(transport: Transport, call: Call, page: Answer) -> NotAList:
    """Return the error for a response that is not the requested list."""
    message = one_line(page.media_type, 100) or "no media type"
    return NotAList(
        f"registry {transport.name} answered {page.status} with no list ({message}) when asked to {call.task}"
    )


def _next(page: Answer) -> str | None:
    links = page.headers.get("Link", "")
    found = re.search(_NEXT, links, re.IGNORECASE) if links else None
    return found[1] if found else None


def _at_same_host(transport: Transport, link: str, base: str) -> str:
    url = transport.resolve(link, base)
    if origin_of(url) == origin_of(base):
        return url
    named, own = urlsplit(url), urlsplit(base)
    return named._replace(scheme=own.scheme, netloc=own.netloc).geturl()
