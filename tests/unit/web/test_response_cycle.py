"""Responses take as few writes as possible, and are checked before they are written."""

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from tagferry.registry.api.asgi import SEND_FILE
from tagferry.web.server.response_cycle import ResponseCycle

DATE = b"HTTP/1.1 200 OK\r\ndate: now\r\n"


class Transport:
    """Keeps what is written.

    Attributes:
        written: the content of each write.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, content: bytes) -> None:
        self.written.append(content)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def resume_reading(self) -> None:
        pass


class Cycle:
    """A cycle with its transport; `ended` counts complete responses."""

    def __init__(self, method: str = "GET", *, keep_alive: bool = True) -> None:
        self.transport = Transport()
        self.ended = 0
        logger = logging.getLogger("nothing")
        transport: Any = self.transport
        self.cycle = ResponseCycle(
            None,
            scope={"type": "http", "method": method},
            transport=transport,
            flow=FlowControl(transport),
            logger=logger,
            access_logger=logger,
            access_log=False,
            default_headers=[(b"date", b"now")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self._end,
        )

    def _end(self) -> None:
        self.ended += 1

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        await self.cycle.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def body(self, content: bytes = b"", *, more: bool = False) -> None:
        await self.cycle.send({"type": "http.response.body", "body": content, "more_body": more})


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", str(size).encode()


async def test_a_response_is_written_at_once():
    at = Cycle()
    await at.start(length(5))
    await at.body(b"hello")

    assert at.transport.written == [DATE + b"content-length: 5\r\n\r\nhello"]
    assert at.ended == 1
    assert not at.transport.is_closed


async def test_a_head_whose_body_comes_later_does_not_wait_for_it():
    at = Cycle()
    await at.start(length(5))
    await asyncio.sleep(0)

    assert at.transport.written == [DATE + b"content-length: 5\r\n\r\n"]
    await at.body(b"hello")
    assert at.transport.written[1:] == [b"hello"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_response_without_body_is_written_when_it_is_complete(method: str, status: int):
    at = Cycle(method)
    await at.start(status=status)
    await at.body(b"")

    (written,) = at.transport.written
    assert written.endswith(b"date: now\r\n\r\n")
    assert at.ended == 1


async def test_the_body_of_a_response_to_head_is_not_written():
    at = Cycle("HEAD")
    await at.start(length(5))
    await at.body(b"hello")

    assert at.transport.written == [DATE + b"content-length: 5\r\n\r\n"]


async def test_a_response_without_length_is_chunked():
    at = Cycle()
    await at.start()
    await at.body(b"hello", more=True)
    await at.body(b"", more=True)
    await at.body()

    head = DATE + b"transfer-encoding: chunked\r\n\r\n"
    assert at.transport.written == [head + b"5\r\nhello\r\n", b"0\r\n\r\n"]


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_the_connection_is_closed_after_the_response_if_either_side_wants_it(*, keep_alive: bool):
    at = Cycle(keep_alive=keep_alive)
    closing = ((b"connection", b"close"),) if keep_alive else ()
    await at.start(length(0), *closing)
    await at.body()

    assert at.transport.written[0].count(b"connection: close\r\n") == 1
    assert at.transport.is_closed


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nset-cookie: b"), (b"x\r\ny", b"a"), (b"x y", b"a"), (b"x", b"\0")], ids=repr
)
async def test_a_header_that_would_be_several_is_not_written(header: tuple[bytes, bytes]):
    at = Cycle()
    with pytest.raises(RuntimeError, match="invalid header"):
        await at.start(header)
    await asyncio.sleep(0)

    assert not at.transport.written


@pytest.mark.parametrize(("size", "problem"), [(4, "longer"), (6, "shorter")])
async def test_a_body_of_another_length_is_an_error(size: int, problem: str):
    at = Cycle()
    await at.start(length(size))
    with pytest.raises(RuntimeError, match=problem):
        await at.body(b"hello")
    assert at.ended == 0


async def test_messages_out_of_order_are_errors():
    at = Cycle()
    with pytest.raises(RuntimeError, match="out of order"):
        await at.body(b"hello")
    await at.start(length(0))
    with pytest.raises(RuntimeError, match="out of order"):
        await at.start(length(0))
    with pytest.raises(RuntimeError, match="not supported"):
        await at.cycle.send({"type": SEND_FILE, "file": 1, "offset": 0, "count": 1})
    await at.body()
    with pytest.raises(RuntimeError, match="out of order"):
        await at.body()


async def test_nothing_is_written_after_the_client_has_disconnected():
    at = Cycle()
    await at.start(length(5))
    at.cycle.disconnected = at.transport.is_closed = True
    await asyncio.sleep(0)
    await at.body(b"hello")

    assert not at.transport.written
