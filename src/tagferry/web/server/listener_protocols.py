"""The protocols of one listener's connections."""

import asyncio
from email.utils import formatdate

import structlog
from starlette.types import ASGIApp

from tagferry.settings import LimitSettings
from tagferry.web.server.connections import Slot
from tagferry.web.server.http_protocol import BoundedProtocol, listener_state
from tagferry.web.server.refusals import BROWSER_HEADERS

_faults = structlog.get_logger(__name__)


class ListenerProtocols:
    """Creates the protocols of one listener's connections, and keeps what they share. A reload changes `limits`.

    Args:
        app: the application that answers the requests.
        limits: the limits of each connection.
    """

    def __init__(self, app: ASGIApp, limits: LimitSettings) -> None:
        self._config, self._state = listener_state(app)
        self.limits = limits
        self.tick()

    def new(self, slot: Slot) -> BoundedProtocol:
        """Return the protocol of a new connection."""
        return BoundedProtocol(self._config, self._state, slot, self.limits)

    @property
    def is_idle(self) -> bool:
        """True if no connection is open and no request is being answered."""
        return not self._state.connections and not self._state.tasks

    def tick(self) -> None:
        """Renew the `Date` of responses, and enforce deadlines and minimum rates; call this once a second."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode()), *BROWSER_HEADERS]
        now = asyncio.get_running_loop().time()
        for protocol in self._open():
            try:
                protocol.check(now)
            except Exception:
                # The deadlines of the other connections must be enforced nevertheless.
                _faults.exception("closed a connection: its check failed")
                protocol.transport.abort()

    def finish(self) -> None:
        """Close idle connections now, and each other one after the request that it answers."""
        for protocol in self._open():
            protocol.shutdown()

    def abort_streams(self) -> None:
        """Close the connections of streams that have not ended by themselves: their clients do not read them."""
        for protocol in self._open():
            if protocol.has_stream:
                protocol.transport.abort()

    def cancel(self) -> int:
        """Cancel the requests that are being answered; returns their number."""
        for task in self._state.tasks:
            task.cancel()
        return len(self._state.tasks)

    def abort(self) -> None:
        """Close all connections now, also those whose clients do not read what was sent."""
        for protocol in self._open():
            protocol.transport.abort()

    def _open(self) -> list[BoundedProtocol]:
        return [protocol for protocol in self._state.connections if isinstance(protocol, BoundedProtocol)]
