"""The access log: one event at the end of each request.

By default it has the requests to the management API, to IAM and to the console. Requests to an embedded registry,
probes and the console's files are too many and too fast: of these, only those that failed in the server are logged.
"""

import logging
import time
from typing import Literal

import structlog
from starlette.types import Message, Receive, Scope

from tagferry import bounds
from tagferry.events import SparseEvents
from tagferry.names import RegionId
from tagferry.printable import printable

Mode = Literal["off", "api", "all"]

LOGGER = "tagferry.access"
EVENT = "request ended"
_FAST = ("/healthz", "/readyz", "/console/static/")
_REGISTRY = "/v2/"
_MANAGED = "/v2/manage/"
_UNSUPPORTED = 501

log = structlog.get_logger(LOGGER)
sparse = SparseEvents(LOGGER)


class RequestTraffic:
    """The counts of one request for the access log.

    Args:
        receive: the request's ASGI `receive`.

    Attributes:
        received: bytes of the request's body that were read.
        sent: bytes of the response's body.
        begun_at: when it began, in seconds of the monotonic clock.
        is_answered: whether the response has begun.
        is_abandoned: whether the client left before that.
    """

    __slots__ = ("_receive", "begun_at", "is_abandoned", "is_answered", "received", "sent")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.begun_at = time.monotonic()
        self.received = self.sent = 0
        self.is_answered = self.is_abandoned = False

    async def receive(self) -> Message:
        """Receive a message from the client, and count its bytes."""
        message = await self._receive()
        self.received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" and not self.is_answered:
            self.is_abandoned = True
        return message


class AccessLog:
    """The access log of one region.

    Args:
        mode: which requests have an event: those to the APIs and the console, all, or none.
        region: the region whose address received the requests.
    """

    def __init__(self, mode: Mode, region: RegionId) -> None:
        self._mode = mode
        self._region = region

    def begin(self, scope: Scope, receive: Receive) -> RequestTraffic | None:
        """Return what counts the traffic of a request; None if it will have no event."""
        if self._includes(scope["path"]) or _shows_all():
            return RequestTraffic(receive)
        return None

    def end(self, scope: Scope, traffic: RequestTraffic | None, *, status: int, user: str, address: str) -> None:
        """Log the end of a request.

        Args:
            scope: the request.
            traffic: its traffic, if it was counted.
            status: the status of the response; 0 if the client left before it began.
            user: the caller's name; empty if unknown.
            address: the client's address.
        """
        if traffic is not None and traffic.is_abandoned:
            # A response to it was not read by the client.
            status = 0
        is_failure = status >= 500 and status != _UNSUPPORTED
        if traffic is None and not is_failure:
            return
        fields: dict[str, object] = {
            "method": scope["method"],
            "path": printable(scope["path"], bounds.AUDITED_PATH_CHARACTERS),
            "status": status or None,
            "region": self._region,
            "address": address,
        }
        if user:
            fields["user"] = user
        if traffic is None:
            # Clients can cause these at any rate.
            sparse.warning(EVENT, key=status, **fields)
            return
        fields["bytes_in"], fields["bytes_out"] = traffic.received, traffic.sent
        fields["seconds"] = round(time.monotonic() - traffic.begun_at, 6)
        if is_failure:
            log.warning(EVENT, **fields)
        elif self._includes(scope["path"]):
            log.info(EVENT, **fields)
        else:
            log.debug(EVENT, **fields)

    def _includes(self, path: str) -> bool:
        return self._mode == "all" or (self._mode == "api" and not _is_fast(path))


def _is_fast(path: str) -> bool:
    return (path.startswith(_REGISTRY) and not path.startswith(_MANAGED)) or path.startswith(_FAST)


def _shows_all() -> bool:
    return logging.getLogger(LOGGER).isEnabledFor(logging.DEBUG)
