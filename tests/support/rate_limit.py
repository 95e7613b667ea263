"""A limit on requests per second, like those of registries."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass
class Bucket:
    """A token bucket.

    Attributes:
        rate: tokens per second.
        most: capacity and initial number of tokens.
    """

    rate: float
    most: float
    clock: Callable[[], float] = time.monotonic
    left: float = field(init=False)
    counted_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.counted_at = self.most, self.clock()

    def take(self) -> bool:
        now = self.clock()
        self.left = min(self.most, self.left + (now - self.counted_at) * self.rate)
        self.counted_at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class RateLimited:
    """An application that refuses excess requests without reading them, and asks clients to retry after a second.

    Attributes:
        granted: forwarded requests.
        refused: refused requests.
    """

    app: ASGIApp
    bucket: Bucket
    granted: int = 0
    refused: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.bucket.take():
            self.granted += scope["type"] == "http"
            await self.app(scope, receive, send)
            return
        self.refused += 1
        body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}).encode()
        headers = [(b"retry-after", b"1"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})
