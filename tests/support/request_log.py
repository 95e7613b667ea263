"""A log of the requests to an ASGI application, and of its responses."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from tagferry.web.authorizer import TOKEN_PATH
from tests.support.serving import serving

_SESSION = re.compile(r"/blobs/uploads/[^/?]+")


@dataclass(frozen=True)
class Asked:
    """A request with the status of its answer; an upload session's name is left out of the path."""

    method: str
    path: str
    query: str
    status: int


@dataclass
class RequestLog:
    """An application that keeps what passes through it.

    Attributes:
        challenge: the WWW-Authenticate header that is sent instead of the application's own.
    """

    app: ASGIApp
    challenge: str | None = None
    requests: list[Asked] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                path = _SESSION.sub("/blobs/uploads/…", scope["path"])
                self.requests.append(Asked(scope["method"], path, scope["query_string"].decode(), message["status"]))
                headers = MutableHeaders(scope=message)
                if self.challenge is not None and "WWW-Authenticate" in headers:
                    headers["WWW-Authenticate"] = self.challenge
            await send(message)

        await self.app(scope, receive, noting if scope["type"] == "http" else send)

    @property
    def tokens(self) -> list[Asked]:
        """The requests for tokens."""
        return [one for one in self.requests if one.path == TOKEN_PATH]

    @property
    def answered(self) -> Counter[tuple[str, str, int]]:
        """Return all other requests, except those that were answered with a challenge."""
        return _counted(one for one in self.requests if one.path != TOKEN_PATH and one.status != 401)


@asynccontextmanager
async def logged(app: ASGIApp, challenge: str | None = None) -> AsyncIterator[tuple[str, RequestLog]]:
    """Serve an application at one more address, where it is listened to."""
    log = RequestLog(app, challenge)
    async with serving(log) as url:
        yield url, log


def _counted(requests: Iterable[Asked]) -> Counter[tuple[str, str, int]]:
    return Counter((one.method, one.path, one.status) for one in requests)
