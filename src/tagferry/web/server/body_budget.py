"""A memory budget for the bodies of callers that are not authenticated yet.

A signature covers the body, and a login is in the body, so the body must be read before the caller is authenticated.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry import bounds
from tagferry.addresses import client_source
from tagferry.errors import Overloaded, Stalled
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.web.authentication import client_address
from tagferry.web.server.refusals import RETRY_SECONDS

log = SparseEvents(__name__)


class BodyBudget:
    """The memory for bodies of callers that are not authenticated.

    Args:
        limit: the total number of bytes.
        per_address: the maximum number of bytes of one address.
    """

    def __init__(
        self, limit: int = bounds.ANONYMOUS_BODIES_BYTES, per_address: int = bounds.ANONYMOUS_BODIES_BYTES // 4
    ) -> None:
        self._limit = limit
        self._per_address = per_address
        self._held = 0
        self._by_address: defaultdict[str, int] = defaultdict(int)

    def reserve(self, address: str, size: int) -> None:
        """Reserve memory; raises Overloaded if a limit would be exceeded."""
        self.check(address, size)
        self._held += size
        self._by_address[address] += size

    def check(self, address: str, size: int) -> None:
        """Raise Overloaded if reserving `size` bytes would exceed a limit."""
        if self._held + size <= self._limit and self._by_address.get(address, 0) + size <= self._per_address:
            return
        BOUND_REACHED.labels(bound="anonymous_bodies_bytes").inc()
        log.warning("refused a body before authentication", address=address, held=self._held)
        raise Overloaded("too many request bodies at once; try again later", retry_after=RETRY_SECONDS)

    def release(self, address: str, size: int) -> None:
        """Release reserved memory."""
        self._held -= size
        self._by_address[address] -= size
        if not self._by_address[address]:
            del self._by_address[address]


class _Body:
    """The memory reserved for the body of one request."""

    def __init__(self, held: BodyBudget, scope: Scope, receive: Receive) -> None:
        self._held = held
        self._receive = receive
        self._scope = scope
        self._address = client_source(client_address(scope))
        self._size = 0
        self._deadline: float | None = None

    async def receive(self) -> Message:
        """Receive a part of the body; raises Overloaded if a limit is exceeded, and Stalled if it is late."""
        if "caller" in self._scope["state"]:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + bounds.ANONYMOUS_BODY_SECONDS
            self._held.check(self._address, 1)
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            BOUND_REACHED.labels(bound="anonymous_body_seconds").inc()
            message_text = f"the body did not arrive within {bounds.ANONYMOUS_BODY_SECONDS:g} s; send it without pauses"
            raise Stalled(message_text) from None
        size = len(message.get("body", b""))
        self._held.reserve(self._address, size)
        self._size += size
        return message

    def release(self) -> None:
        """Release the memory, since the caller is authenticated or the request has ended."""
        if self._size:
            self._held.release(self._address, self._size)
            self._size = 0


class AnonymousBodies:
    """Middleware outside the authentication: it reserves memory for bodies."""

    def __init__(self, app: ASGIApp, held: BodyBudget) -> None:
        self._app = app
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = scope["state"]["held_body"] = _Body(self._held, scope, receive)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()


class AuthenticatedBodies:
    """Middleware inside the authentication: it releases the memory of authenticated callers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    # Not a coroutine: one more would cost time in each step of every request.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and "caller" in scope["state"]:
            scope["state"]["held_body"].release()
        return self._app(scope, receive, send)
