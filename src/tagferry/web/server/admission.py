"""Admission control: when too many requests are in progress, new ones get 503 at once, so that the others stay fast.

A request counts while this process works on it. It does not count while it waits for its client to send the body or
read the response, for a synchronization to end, or for a remote registry.
"""

import asyncio
from collections import Counter
from types import TracebackType

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagferry import bounds
from tagferry.addresses import client_source
from tagferry.concurrency import EXTERNAL_WAIT
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.registry.api.asgi import mark_as_shed
from tagferry.web.authentication import client_address, has_management_credentials
from tagferry.web.server.refusals import refusal

log = SparseEvents(__name__)

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that are always admitted."""

_SAMPLE_SECONDS = 0.1
_SAMPLES = 5
_SHEDDING_SECONDS = 5.0
_LEAST_ADMITTED = 8


class Load:
    """The load of this process. A reload changes `limit`.

    Args:
        limit: the maximum number of requests in progress.

    Attributes:
        busy: the number of requests in progress.
    """

    def __init__(self, limit: int) -> None:
        self.busy = 0
        self._busy_of: dict[str, int] = {}
        self.limit = limit
        self._shed_at = float("-inf")
        self._lags = [0.0] * _SAMPLES
        self._is_sampling = False
        self._admitted = 0
        self._allowed: int | None = None
        self._beyond = 0
        self._sources: Counter[str] = Counter()
        self._addresses = 1

    @property
    def is_shedding(self) -> bool:
        """Return whether a request was refused within the last seconds."""
        return asyncio.get_running_loop().time() - self._shed_at < _SHEDDING_SECONDS

    def admits(self, scope: Scope, source: str) -> bool:
        """Return whether to admit a request from this address.

        Some capacity is reserved for requests with credentials of the management API, so that operators can work while
        there are too many registry clients. Each address gets a fair share of the requests in progress and, while the
        event loop is late, of each tenth of a second, so that a flood from a few addresses does not exclude others.
        """
        if not self._is_sampling:
            self._sample_later()
        has_room = self._has_slot(source) and (self._allowed is None or self._has_quota(source, self._allowed))
        if has_room or (self.busy < self.limit + bounds.MANAGEMENT_RESERVE and has_management_credentials(scope)):
            self._admitted += 1
            self._sources[source] += 1
            return True
        self._shed_at = asyncio.get_running_loop().time()
        BOUND_REACHED.labels(bound="concurrent_requests").inc()
        log.warning(
            "refused a request because of overload",
            address=client_address(scope),
            busy=self.busy,
            lag=round(min(self._lags), 3),
        )
        return False

    def begin(self, source: str) -> None:
        """Start counting a request from this address."""
        self.busy += 1
        self._busy_of[source] = self._busy_of.get(source, 0) + 1

    def end(self, source: str) -> None:
        """Stop counting a request from this address."""
        self.busy -= 1
        if self._busy_of[source] > 1:
            self._busy_of[source] -= 1
        else:
            del self._busy_of[source]

    def _has_slot(self, source: str) -> bool:
        if self.busy < self.limit:
            return True
        share = _share(self.limit, len(self._busy_of))
        return self._busy_of.get(source, 0) < share and self.busy < self.limit + bounds.SHARES_RESERVE

    def _has_quota(self, source: str, allowed: int) -> bool:
        if self._admitted < allowed:
            return True
        addresses = max(self._addresses, len(self._sources) + (source not in self._sources))
        most = allowed + bounds.SHARES_RESERVE
        if addresses == 1 or self._sources[source] >= _share(most, addresses) or self._beyond >= most:
            return False
        self._beyond += 1
        return True

    def _sample_later(self) -> None:
        """Schedule a measurement of the event loop's delay. An idle process does not measure."""
        self._is_sampling = True
        loop = asyncio.get_running_loop()
        due = loop.time() + _SAMPLE_SECONDS
        loop.call_at(due, self._sample, due)

    def _sample(self, due: float) -> None:
        self._is_sampling = False
        late = asyncio.get_running_loop().time() - due
        self._lags = [*self._lags[1:], late]
        is_late = min(self._lags) > bounds.LOOP_LAG_SECONDS
        # Even cheap requests can be too many: while the loop is late, the number of admitted requests is halved.
        self._allowed = max(self._admitted // 2, _LEAST_ADMITTED) if is_late else None
        if self.busy or self._admitted:
            self._sample_later()
        else:
            self._lags = [0.0] * _SAMPLES
        self._admitted = self._beyond = 0
        self._addresses = len(self._sources)
        self._sources.clear()


class AdmittedRequest:
    """A request in progress. While its context is entered, it waits and does not count."""

    __slots__ = ("_is_over", "_load", "_receive", "_source", "_waits")

    def __init__(self, load: Load, receive: Receive, *, source: str = "") -> None:
        self._load = load
        self._receive = receive
        self._waits = 0
        self._is_over = False
        self._source = source
        load.begin(source)

    def __enter__(self) -> None:
        if self._waits == 0 and not self._is_over:
            self._load.end(self._source)
        self._waits += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waits -= 1
        if self._waits == 0 and not self._is_over:
            self._load.begin(self._source)

    async def receive(self) -> Message:
        """Receive a message from the client. The request does not count meanwhile."""
        with self:
            return await self._receive()

    def end(self) -> None:
        """Stop counting the request."""
        if self._waits == 0 and not self._is_over:
            self._load.end(self._source)
        self._is_over = True


class Admission:
    """Middleware that admits requests up to the load limits, and refuses others in the error format of their path."""

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self._app = app
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        source = client_source(client_address(scope))
        if not self._load.admits(scope, source):
            mark_as_shed(scope)
            await _refuse(scope["path"], send)
            return
        admitted = AdmittedRequest(self._load, receive, source=source)
        scope.setdefault("state", {})["admitted"] = admitted
        elsewhere = EXTERNAL_WAIT.set(admitted)
        try:
            await self._app(scope, admitted.receive, send)
        finally:
            EXTERNAL_WAIT.reset(elsewhere)
            admitted.end()


def _share(of: int, addresses: int) -> int:
    """Return an equal share for each address, at least 1."""
    return max(1, of // max(1, addresses))


async def _refuse(path: str, send: Send) -> None:
    headers, body = refusal(503, "the server is overloaded; try again later", path)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
