"""Lists that come in pages (distribution-spec 1.1, "Listing Tags" and "Listing Referrers"; `_catalog` likewise)."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace

from tagferry.errors import Unavailable
from tagferry.remote.answer import Answer
from tagferry.remote.transport import Call, Transport

PAGE_SIZE = 1000
MAX_PAGES = 10_000
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*?\brel="?next\b"?', re.IGNORECASE)


async def pages(transport: Transport, first: Call) -> AsyncIterator[Answer]:
    """The answers to a request and to those that its Link headers lead to.

    A link to another host is not followed, nor one that was followed before.

    Raises:
        Unavailable: the links lead astray, so the list would not be complete.
    """
    seen = {first.url}
    call = first
    for _ in range(MAX_PAGES):
        answer = await transport.fetch(call)
        yield answer
        link = _NEXT.search(answer.headers.get("Link", ""))
        if link is None:
            return
        url = transport.resolve(link[1], transport.resolve(call.url))
        if not transport.is_own(url) or url in seen:
            raise Unavailable(f"registry {transport.name} named a next page that leads astray: asked to {call.task}")
        seen.add(url)
        call = replace(call, url=url)
    raise Unavailable(f"registry {transport.name} named more than {MAX_PAGES} pages when asked to {call.task}")
