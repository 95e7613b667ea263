"""HTTP/1.1 on one connection: uvicorn's protocol, with limits on all that a client can send or delay.

Only this module and `response_cycle` use uvicorn, and they rely on undocumented parts of it (docs/decisions/0028).
`tests/unit/web/test_http_protocol.py` names them, and fails if they change.
"""

import asyncio
import contextvars
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tagferry import bounds
from tagferry.events import SparseEvents
from tagferry.metrics import BOUND_REACHED
from tagferry.settings import LimitSettings
from tagferry.web.server.connections import Slot
from tagferry.web.server.file_responses import EXTENSIONS, FileResponses
from tagferry.web.server.framing import MessageLimits, RefusedMessage, head_too_long
from tagferry.web.server.large_bodies import LARGE_BYTES, LargeBody
from tagferry.web.server.lingering import LingeringClose, ResponseTransport
from tagferry.web.server.refusals import raw_refusal
from tagferry.web.server.response_cycle import ResponseCycle
from tagferry.web.server.timeouts import Timeouts

log = SparseEvents(__name__)

_LARGE_DIGITS = len(str(LARGE_BYTES))
_LINE_BYTES = 4  # the colon, a space, and the end of the line


class BoundedProtocol(HttpToolsProtocol):
    """The protocol of one connection.

    The head of a request is limited in bytes, headers and time. Request bodies and responses must make progress.
    `check` must be called about once a second.

    Args:
        config: uvicorn's configuration.
        server_state: uvicorn's state.
        slot: the connection's slot, released when the connection ends.
        limits: the limits.
    """

    def __init__(self, config: Config, server_state: ServerState, slot: Slot, limits: LimitSettings) -> None:
        super().__init__(config, server_state, app_state={}, _loop=asyncio.get_running_loop())
        self.parser = self._new_parser()
        self._slot = slot
        self._timeouts = Timeouts(limits)
        self._answering: RequestResponseCycle | None = None
        self._refused: RefusedMessage | None = None
        self._closing = LingeringClose()
        # The state of the message that is being read:
        self._messages = 0
        self._in_head = self._in_body = self._is_last = self._is_upgrade = False
        self._message = MessageLimits()
        self._is_plain, self._large_bytes = False, 0
        self._files: FileResponses | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._response_transport: Any = ResponseTransport(transport, self._close)
        self._files = FileResponses.on(transport, self.flow.drain)
        self._is_plain = transport.get_extra_info("sslcontext") is None
        self._slot.close = transport.abort
        self._timeouts.await_head(self.loop.time())
        if not self._slot.is_held:
            # The connection was closed to make room during its TLS handshake.
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._slot.release()
        super().connection_lost(exc)
        if self._answering is not None:
            # uvicorn notifies only the last request, which may be one that was pipelined behind this one.
            self._answering.disconnected = True
            self._answering.message_event.set()
        if self._files is not None:
            self._files.stop()
        self.pipeline.clear()

    @property
    def has_stream(self) -> bool:
        """True while a stream of changes is sent, or while the client has not read all of one that has ended."""
        cycle = self._answering or self.cycle
        return cycle is not None and bool(cycle.scope["state"].get("is_stream"))

    def check(self, now: float) -> None:
        """Enforce the timeouts."""
        timeouts = self._timeouts
        if timeouts.is_response_stalled(now, self.transport, self._files):
            self._count("stall_timeout_seconds", "closed a connection: the client did not read the response")
            self.transport.abort()
        elif self._closing.is_dropping or self.transport.is_closing():
            if timeouts.has_expired(now) and not self.transport.get_write_buffer_size():
                self.transport.abort()
        elif self.flow.read_paused:
            if self._in_head:
                timeouts.await_head(now)
            else:
                timeouts.restart_body()
        elif self._in_body and not self.cycle.response_complete:
            if self.cycle.waiting_for_100_continue:
                timeouts.restart_body()
            elif timeouts.is_body_stalled(now, self._message.body_bytes):
                self._refuse(
                    RefusedMessage(
                        408, "the body arrived too slowly; check the connection and try again", "stall_timeout_seconds"
                    )
                )
        elif timeouts.has_expired(now):
            self._expire()

    def _expire(self) -> None:
        if self._in_head:
            self._refuse(
                RefusedMessage(
                    408, "the head of the request was not complete in time; send it at once", "header_timeout_seconds"
                )
            )
        elif self._in_body:
            self._linger()
        else:
            if self._messages == 0:
                self._count("header_timeout_seconds", "closed a connection: the client sent no request")
            self.transport.close()

    # Requests

    def data_received(self, data: bytes) -> None:
        if self._closing.is_dropping:
            self._drop(len(data))
            return
        messages, body_bytes = self._messages, self._message.body_bytes
        is_between = not self._in_head and not self._in_body
        try:
            self._feed(data)
            if messages == self._messages:
                self._check_unparsed(len(data), self._message.body_bytes - body_bytes)
            elif is_between and messages + 1 == self._messages and self._in_head:
                self._check_unparsed(len(data), 0)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(
                cause if isinstance(cause, RefusedMessage) else RefusedMessage(400, "the request is not valid HTTP/1.1")
            )
        except RefusedMessage as error:
            self._refuse(error)
        if self._large_bytes and self._in_body:
            self._receive_large_body()

    def _drop(self, size: int) -> None:
        if not self._closing.drop(size):
            self._count("linger_bytes", "closed a connection: the client kept sending after the last response")
            self.transport.abort()

    def _receive_large_body(self) -> None:
        """Receive the rest of the body past the parser, which is replaced, since it does not see the end."""
        cycle: ResponseCycle = self.cycle  # type: ignore[assignment]  # `_begin_cycle` makes them
        self._large_bytes, left = 0, self._large_bytes - self._message.body_bytes
        if left <= 0 or self._closing.is_dropping or self.transport.is_closing():
            return

        def end() -> None:
            self._switch_protocol(self)
            self.parser = self._new_parser()
            self.on_message_complete()

        cycle.large_body = LargeBody(
            self, self.flow, left, received=self._receive_content, arrived=cycle.message_event.set, ended=end
        )
        self._switch_protocol(cycle.large_body)

    def _receive_content(self, size: int) -> bool:
        """Count bytes of a large body; return whether the application gets them."""
        if self._closing.is_dropping:
            self._drop(size)
            return False
        try:
            self._message.add_content(size)
            if self.cycle.response_complete:
                self._message.add_unread(size)
        except RefusedMessage as error:
            self._refuse(error)
            return False
        return not self.cycle.response_complete

    def _switch_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if self.transport.is_closing():
            return
        # uvloop looks at the kind of protocol when it begins to read.
        self.transport.pause_reading()
        self.transport.set_protocol(protocol)
        if not self.flow.read_paused:
            self.transport.resume_reading()

    def _feed(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while len(rest) and not self._closing.is_dropping:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser has skipped the body. Servers may ignore an upgrade, so the head is parsed again without
                # it; otherwise the body would be parsed as the next request.
                rest = memoryview(rest)[upgrade.args[0] :]
                self._is_upgrade = False
                head = self._head_without_upgrade()
                self.parser = self._new_parser()
                self.parser.feed_data(head)
            else:
                return

    def _new_parser(self) -> httptools.HttpRequestParser:
        """Return a parser with only one leniency, instead of uvicorn's set."""
        # Without it, data after a request with `Connection: close` would prevent its response. `on_message_begin`
        # refuses such data.
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        request_line = b"%s %s HTTP/%s\r\n" % (self.scope["method"].encode(), self.url, version)
        lines = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        return b"".join([request_line, *lines, b"\r\n"])

    def _check_unparsed(self, received: int, content: int) -> None:
        """Limit the bytes of a message that the parser has not reported yet."""
        if self._in_head:
            self._message.add_unparsed_head(received, self.url)
        elif self._in_body:
            self._message.add_framing(received - content)

    def on_message_begin(self) -> None:
        if self._is_last:
            raise RefusedMessage(400, "the previous request asked to close the connection")
        if len(self.pipeline) >= bounds.PIPELINED_REQUESTS:
            raise RefusedMessage(503, "too many requests at once on this connection", "pipelined_requests")
        super().on_message_begin()
        self._messages += 1
        self._message = MessageLimits()
        self._large_bytes = 0
        self._in_head = True
        self._timeouts.await_head(self.loop.time())

    def on_url(self, url: bytes) -> None:
        # The same as uvicorn's, without its call.
        self.url += url
        self._message.add_url(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # The fields of a trailer are dropped, since they are not used and must not be taken for headers.
            self._message.add_trailer()
            return
        message = self._message
        message.head_bytes += len(name) + len(value) + _LINE_BYTES
        if message.head_bytes > bounds.HEAD_BYTES:
            raise head_too_long(b"")
        if len(self.headers) >= bounds.HEADERS:
            raise RefusedMessage(431, f"the request must have at most {bounds.HEADERS} headers", "headers")
        # The same as uvicorn's, without its call, since short requests spend most of their time here.
        name = name.lower()
        if name == b"host":
            message.hosts.append(value)
        elif name == b"transfer-encoding":
            message.codings.append(value)
        elif name == b"content-length" and len(value) >= _LARGE_DIGITS:
            self._large_bytes = int(value) if self._is_plain and int(value) >= LARGE_BYTES else 0
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        self._message.check_head(version)
        self.scope["method"] = self.parser.get_method().decode("ascii")
        if self.parser.should_upgrade():
            if self.scope["method"] == "CONNECT":
                raise RefusedMessage(405, "CONNECT is not supported: this server is not a proxy")
            self._is_upgrade = True
            return
        self._in_head, self._in_body = False, True
        self._timeouts.clear_deadline()
        self._begin_cycle(version)
        self._is_last = not self.cycle.keep_alive

    def _begin_cycle(self, version: str) -> None:
        """Answer the request, or queue it behind the one that is being answered."""
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"], self.scope["query_string"] = url.path, url.query or b""
        if self._files is not None:
            self.scope["extensions"] = EXTENSIONS
        earlier = self.cycle
        self.cycle = ResponseCycle(
            self._files,
            scope=self.scope,
            transport=self._response_transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._message.add_content(len(body))
        if self.cycle.response_complete:
            self._message.add_unread(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        # The same as uvicorn's, without its call.
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        self._in_body = False
        if self._answering is None and not self._closing.is_dropping:
            # The response was complete before the end of the body.
            self._await_request()

    # Responses

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self._slot.working()
        # Context variables of the previous request, such as its caller, must not apply to this one.
        task = self.loop.create_task(cycle.run_asgi(app), context=contextvars.Context())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        is_shed = self._answering is not None and self._answering.scope["state"].get("is_shed", False)
        self._answering = None
        if is_shed:
            self._slot.shed()
        if self.transport.is_closing() or self._closing.has_begun:
            return
        if is_shed and self.pipeline:
            # The pipelined requests would be refused one by one.
            self.pipeline.clear()
            self.transport.close()
        elif self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if not self.pipeline:
                self.flow.resume_reading()
        elif self._refused is not None:
            self._answer_refused(self._refused)
        else:
            self.flow.resume_reading()
            if self._in_body and self.expect_100_continue and self._message.body_bytes == 0:
                # The client got no 100 Continue, so what it sends next could be the body or another request.
                self._linger()
            elif self._in_body:
                # Read the rest of the body, unless it is large, so that the connection can be reused.
                self._timeouts.await_end(self.loop.time())
            elif not self._in_head:
                self._await_request()
                if is_shed:
                    # Do not read from a client that ignores Retry-After, since refusing costs time too.
                    self.flow.pause_reading()
                    self.loop.call_later(bounds.SHED_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _await_request(self) -> None:
        self._slot.idle()
        self._timeouts.await_request(self.loop.time())

    def _refuse(self, refused: RefusedMessage) -> None:
        """Respond with an error after the responses to earlier requests, and close. Further input is dropped."""
        self._closing.is_dropping = True
        self._timeouts.clear_deadline()
        if refused.bound is not None:
            self._count(refused.bound, "refused a request", message=refused.message)
        if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._slot.shed()
        broken = self.cycle if self._in_body else None
        if broken is not None and broken.response_complete:
            self._linger()
        elif broken is not None and broken is self._answering:
            self._answering = None
            broken.disconnected = True
            broken.message_event.set()
            if broken.response_started:
                self.transport.abort()
            else:
                # The application only sees a disconnect; it provides the request's id.
                state = broken.scope["state"]
                state["refused"] = refused.status
                self._answer_refused(refused, state.get("request_id"))
        else:
            if broken is not None and self.pipeline:
                self.pipeline.popleft()
            if self._answering is None:
                self._answer_refused(refused)
            else:
                self._refused = refused
                self.flow.resume_reading()

    def _answer_refused(self, refused: RefusedMessage, request_id: str | None = None) -> None:
        path = self.url.decode("latin-1") if self._messages else "/"
        more = self.server_state.default_headers
        self.transport.write(raw_refusal(refused.status, refused.message, path, more, request_id=request_id))
        self._linger()

    def _close(self) -> None:
        """Close the connection after a response, as requested by the client or the application."""
        is_complete = self._answering is not None and self._answering.response_complete
        if is_complete and (self._in_body or self._in_head or self._closing.is_dropping or self.pipeline):
            self.pipeline.clear()
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Close after the last response, once the client has had time to read it."""
        self._timeouts.await_end(self.loop.time())
        self._slot.idle()
        self.flow.resume_reading()
        self._closing.begin(self.transport)

    def _count(self, bound: str, event: str, **fields: object) -> None:
        BOUND_REACHED.labels(bound=bound).inc()
        log.warning(event, limit=bound, address=self._slot.address, **fields)


def listener_state(app: ASGIApp) -> tuple[Config, ServerState]:
    """Return uvicorn's configuration and state, which the connections of one listener share."""
    # `TrustedProxies` decides which proxies are believed; uvicorn would believe every one on this machine.
    config = Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    config.load()
    return config, ServerState()
