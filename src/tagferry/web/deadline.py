"""A deadline for requests that wait for registries."""

import asyncio
from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry import bounds
from tagferry.errors import Expired, Overloaded, TagferryError
from tagferry.metrics import BOUND_REACHED
from tagferry.web.errors import respond

log = structlog.get_logger(__name__)

_READS = frozenset({"GET", "HEAD"})
_PLANS = ("/sync_plan", "/retentions/plan")
"""Paths of POST requests that change nothing."""
_STREAMS = frozenset({"/console/events"})
"""Paths whose responses last as long as a page is open."""
_OWN_WAITS = ("/sync_images", "/sync_job/retry")


class Deadline:
    """Middleware that answers 504 when a request takes too long.

    A request that only reads is cancelled. A change is not interrupted: it continues, and the 504 says so.
    `sync_images` has its own wait.

    Args:
        app: the application behind it.
        seconds: the deadline, in seconds from the start of the request.
        has_remote_registry: whether the region's registry is remote; otherwise changes never wait for a registry.
        respond: returns the response for an error.
    """

    def __init__(
        self,
        app: ASGIApp,
        seconds: float,
        *,
        has_remote_registry: bool,
        respond: Callable[[TagferryError, Scope], ASGIApp] = respond,
    ) -> None:
        self._app = app
        self._seconds = seconds
        self._has_remote_registry = has_remote_registry
        self._respond = respond
        self._going_on = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _STREAMS:
            await self._app(scope, receive, send)
        elif scope["method"] in _READS or scope["path"].endswith(_PLANS):
            await self._read(scope, receive, send)
        elif self._has_remote_registry and not scope["path"].endswith(_OWN_WAITS):
            await self._change(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            await self._time_out("check them with: tagferry region check", scope, receive, send)

    async def _change(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._going_on >= bounds.BACKGROUND_CHANGES:
            BOUND_REACHED.labels(bound="background_changes").inc()
            message = "too many changes wait for the region's registry; check it with: tagferry region check"
            await self._respond(Overloaded(message, retry_after=5.0), scope)(scope, receive, send)
            return
        has_begun = is_late = False

        async def sent(message: Message) -> None:
            nonlocal has_begun
            if is_late:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    log.info("a change ended after its deadline", path=scope["path"], status=status)
                return
            has_begun = True
            await send(message)

        async def answer_late() -> None:
            nonlocal is_late
            await asyncio.sleep(self._seconds)
            if not has_begun:
                is_late = True
                self._going_on += 1
                advice = "the change continues; check its outcome before you repeat it"
                await self._time_out(advice, scope, receive, send)

        late = asyncio.create_task(answer_late())
        try:
            await self._app(scope, receive, sent)
        finally:
            if is_late:
                self._going_on -= 1
                await asyncio.wait([late])
            else:
                late.cancel()

    async def _time_out(self, advice: str, scope: Scope, receive: Receive, send: Send) -> None:
        BOUND_REACHED.labels(bound="response_timeout_seconds").inc()
        message = f"the registries did not answer within {self._seconds:g} s; {advice}"
        await self._respond(Expired(message), scope)(scope, receive, send)
