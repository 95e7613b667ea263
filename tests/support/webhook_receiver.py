"""A receiver of webhook calls: it records them, and answers as configured by a test."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.serving import serving


@dataclass(frozen=True)
class ReceivedCall:
    """A call as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Return whether the signature of the body is valid."""
        digest = hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return self.headers.get("x-tagferry-signature-256") == f"sha256={digest}"


@dataclass
class Receiver:
    """Keeps the calls it gets.

    Attributes:
        url: where it is.
        calls: what came, in that order.
        statuses: what it answers next; after that 200.
        answering: set unless a test lets everybody wait.
        headers: of every answer.
    """

    url: str = ""
    calls: list[ReceivedCall] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.calls.append(ReceivedCall(scope["path"], headers, body, status))
        await self.answering.wait()
        await send({"type": "http.response.start", "status": status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"thank you"})

    async def has(self, count: int) -> bool:
        """Return whether this many calls have arrived."""
        return len(self.calls) >= count

    def tags(self) -> list[str]:
        """Return the tags of the calls, in order."""
        return [call.document["tag"] for call in self.calls]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    receiver.answering.set()
    async with serving(receiver) as url:
        receiver.url = f"{url}/hook"
        yield receiver
