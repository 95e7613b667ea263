"""A deadline for requests that only read, after which registries count as too slow."""

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry import bounds
from tagferry.errors import Expired, Overloaded
from tagferry.metrics import BOUND_REACHED
from tagferry.web.errors import respond

log = structlog.get_logger(__name__)

_READS = frozenset({"GET", "HEAD"})
_PLANS = ("/sync_plan", "/retentions/plan")
"""What changes nothing either, although it is asked for with POST."""
_OWN_WAITS = ("/sync_images", "/sync_job/retry")


class Deadline:
    """Answers requests after a time with 504.

    One that changes nothing ends with that. One that changes something is not cut off in the middle: it goes on, and
    its caller is told so. `sync_images` has a wait of its own.

    Args:
        app: what answers.
        seconds: the time.
        asks_elsewhere: whether the region's registry is not ours; otherwise changes wait for none.
    """

    def __init__(self, app: ASGIApp, seconds: float, *, asks_elsewhere: bool) -> None:
        self._app = app
        self._seconds = seconds
        self._asks_elsewhere = asks_elsewhere
        self._going_on = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] in _READS or scope["path"].endswith(_PLANS):
            await self._read(scope, receive, send)
        elif self._asks_elsewhere and not scope["path"].endswith(_OWN_WAITS):
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
            await self._answer("check them with: tagferry region check", scope, receive, send)

    async def _change(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._going_on >= bounds.CHANGES_GOING_ON:
            BOUND_REACHED.labels(bound="changes_going_on").inc()
            told = "too many changes wait for the region's registry; check it with: tagferry region check"
            await respond(Overloaded(told, retry_after=5.0), scope)(scope, receive, send)
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
                await self._answer("the change goes on; look at its outcome before you repeat it", scope, receive, send)

        late = asyncio.create_task(answer_late())
        try:
            await self._app(scope, receive, sent)
        finally:
            if is_late:
                self._going_on -= 1
                await asyncio.wait([late])
            else:
                late.cancel()

    async def _answer(self, advice: str, scope: Scope, receive: Receive, send: Send) -> None:
        BOUND_REACHED.labels(bound="answer_seconds").inc()
        told = f"the registries did not answer within {self._seconds:g} s; {advice}"
        await respond(Expired(told), scope)(scope, receive, send)
