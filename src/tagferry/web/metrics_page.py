"""Serve the metrics of this process to Prometheus, and its probes, on a listener of its own."""

import asyncio
import gzip
import hmac
import os
from ipaddress import ip_address
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from tagferry.concurrency import SingleFlight
from tagferry.errors import Invalid
from tagferry.file_stamp import FileStamp, file_stamp
from tagferry.regular_file import open_regular
from tagferry.settings import Settings
from tagferry.web.probes import Readiness, healthz_response, readyz_response
from tagferry.web.server.admission import PROBES
from tagferry.web.server.serve import Listener

_SHORTEST_TOKEN = 16
_LONGEST_TOKEN = 4096
TOKEN_RULE = f"must have a token of {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} bytes"
_COMPRESSION_LEVEL = 1
"""Most of the gain for the least time."""

log = structlog.get_logger(__name__)


def metrics_listeners(settings: Settings, readiness: Readiness | None = None) -> tuple[Listener, ...]:
    """Return the listener for metrics and the probes of `readiness`, or none if `metrics_listen` is not set.

    Raises:
        Invalid: the file with the token cannot be used.
    """
    if settings.metrics_listen is None:
        return ()
    token = _token(settings)
    if token is None and not _is_loopback(settings.metrics_listen):
        log.warning(
            "metrics are served without a token on an address that is not loopback", address=settings.metrics_listen
        )
    return (Listener(app=MetricsPage(token, readiness), address=settings.metrics_listen),)


class MetricsToken:
    """The bearer token that scrapes need.

    Args:
        fixed: the token; if it is None, it is in the file.
        file: the file, which is read again when it changes.
    """

    def __init__(self, fixed: str | None, file: Path | None = None) -> None:
        self._token = (fixed or "").encode()
        self._file = file
        self._stamp: FileStamp | None = None
        if file is not None:
            self._token = _read_token(file)
            self._stamp = file_stamp(file)

    def is_in(self, authorization: str) -> bool:
        """Return whether an `Authorization` header has the token; takes the same time for every wrong one."""
        scheme, _, given = authorization.partition(" ")
        is_same = hmac.compare_digest(self._current(), given.strip().encode("latin-1", "replace"))
        return is_same and scheme.lower() == "bearer"

    def _current(self) -> bytes:
        if self._file is not None and (stamp := file_stamp(self._file)) not in (None, self._stamp):
            try:
                self._token = _read_token(self._file)
            except Invalid as error:
                log.warning("kept the former token for metrics", reason=error.message)
            self._stamp = stamp
        return self._token


class MetricsPage:
    """The ASGI application with the page `/metrics`, and the probes, which need no token.

    Args:
        token: what a scrape has to present; None for nothing.
        readiness: for the probes; None for none.
    """

    def __init__(self, token: MetricsToken | None, readiness: Readiness | None = None) -> None:
        self._token = token
        self._readiness = readiness
        self._pages: SingleFlight[tuple[str, bool], bytes] = SingleFlight()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"  # noqa: S101
        response = await self._answer(Request(scope))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        if path != "/metrics" and (path not in PROBES or self._readiness is None):
            paths = "metrics are at /metrics, probes at /healthz and /readyz"
            return PlainTextResponse(f"not found; {paths}\n", status_code=404)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("method not allowed; use GET\n", status_code=405, headers={"Allow": "GET, HEAD"})
        if path == "/healthz" and self._readiness is not None:
            return await healthz_response(self._readiness)
        if path == "/readyz" and self._readiness is not None:
            return await readyz_response(self._readiness, with_disk=request.query_params.get("exclude") != "disk")
        if self._token is not None and not self._token.is_in(request.headers.get("Authorization", "")):
            message = "the header Authorization: Bearer must have the metrics_token of the configuration\n"
            return PlainTextResponse(message, status_code=401, headers={"WWW-Authenticate": "Bearer"})
        # Loaded with the first scrape, and only by a process that serves metrics.
        from tagferry.metrics.exposition import OPEN_METRICS, TEXT, page

        wants_open_metrics = _prefers(request.headers.get("Accept", ""), "application/openmetrics-text", "text/plain")
        kind = OPEN_METRICS if wants_open_metrics else TEXT
        is_compressed = _quality(request.headers.get("Accept-Encoding", ""), "gzip") > 0

        def make() -> bytes:
            content = page(kind)
            return gzip.compress(content, _COMPRESSION_LEVEL, mtime=0) if is_compressed else content

        # In a thread, since it takes long with many regions; scrapes at the same time get the same page.
        content = await self._pages.run((kind, is_compressed), lambda: asyncio.to_thread(make))
        headers = {"Content-Type": kind, "Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
        if is_compressed:
            headers["Content-Encoding"] = "gzip"
        return Response(content, headers=headers)


def _token(settings: Settings) -> MetricsToken | None:
    fixed, file = settings.metrics_token, settings.metrics_token_file
    if fixed is not None and file is not None:
        raise Invalid("metrics_token", "must not be set together with metrics_token_file")
    if fixed is None and file is None:
        return None
    return MetricsToken(fixed.get_secret_value() if fixed is not None else None, file)


def token_in(content: bytes) -> bytes | None:
    """Return the token in the content of a file; None if it is too short or too long."""
    token = content.strip()
    return token if _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN else None


def _read_token(file: Path) -> bytes:
    try:
        with open(open_regular(file, follow_links=True), "rb") as opened:  # noqa: PTH123 - a descriptor, not a path
            token = token_in(opened.read(_LONGEST_TOKEN + 1))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Invalid("metrics_token_file", f"must be a file that can be read ({reason})", str(file)) from None
    if token is None:
        raise Invalid("metrics_token_file", TOKEN_RULE, str(file))
    return token


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _prefers(accepted: str, kind: str, to: str) -> bool:
    """Return whether an `Accept` header prefers a media type to another one; a type without a quality has 1."""
    return _quality(accepted, kind) > 0 and _quality(accepted, kind) >= _quality(accepted, to)


def _quality(accepted: str, kind: str) -> float:
    """Return the highest quality that a header gives to a type or coding; 0 if it does not name it."""
    qualities = [0.0]
    for one in accepted.lower().split(",")[:50]:
        name, *parameters = (part.strip() for part in one.split(";"))
        if name == kind:
            given = next((part[2:] for part in parameters if part.startswith("q=")), "1")
            try:
                qualities.append(float(given))
            except ValueError:
                continue
    return max(qualities)
