"""A deadline for requests that only read, after which registries count as too slow."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry.errors import Expired
from tagferry.metrics import BOUND_REACHED
from tagferry.web.errors import respond

_READS = frozenset({"GET", "HEAD"})
_PLANS = ("/sync_plan", "/retentions/plan")
"""What changes nothing either, although it is asked for with POST."""


class Deadline:
    """Ends requests that change nothing after a time, with 504.

    What changes something goes on to its end, and `sync_images` has a wait of its own.

    Args:
        app: what answers.
        seconds: the time.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (scope["method"] in _READS or scope["path"].endswith(_PLANS)):
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def sent(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        deadline = asyncio.timeout(self._seconds)
        try:
            async with deadline:
                await self._app(scope, receive, sent)
        except TimeoutError:
            if has_begun or not deadline.expired():
                raise
            BOUND_REACHED.labels(bound="answer_seconds").inc()
            told = f"the registries did not answer within {self._seconds:g} s; check them with: tagferry region check"
            await respond(Expired(told), scope)(scope, receive, send)
