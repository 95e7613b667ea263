"""A large body arrives in large pieces, and everything else about its connection stays as it is."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from starlette.types import Receive, Scope, Send

from tagferry.web.server.large_bodies import LARGE_BYTES, PIECE_BYTES, LargeBody
from tests.support.raw_client import connected
from tests.unit.web.front import GET, fronted, until

SIZE = 3 * LARGE_BYTES + 7
BODY = b"".join(number.to_bytes(4, "big") for number in range(SIZE // 4 + 1))[:SIZE]
HEAD = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % SIZE


class Receiver:
    """Answers with the number of bytes of the body, which it keeps, once it may read.

    Attributes:
        may_read: set until a test clears it.
        bodies: what has arrived of each request.
        is_gone: whether a client has disconnected.
    """

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.bodies: list[bytearray] = []
        self.is_gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        self.bodies.append(body)
        more = True
        while more:
            await self.may_read.wait()
            message = await receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                return
            body += message["body"]
            more = message["more_body"]
        content = str(len(body)).encode()
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def has_arrived(app: Receiver, size: int) -> bool:
    return bool(app.bodies) and len(app.bodies[0]) == size


@pytest.fixture
def app() -> Receiver:
    return Receiver()


@pytest.fixture
async def url(app: Receiver) -> AsyncIterator[str]:
    async with fronted(app) as url:  # type: ignore[arg-type]  # any application
        yield url


@pytest.mark.parametrize("first", [0, 1, 100_000, SIZE - 1])
async def test_it_arrives_whole_and_further_requests_follow_on_its_connection(url: str, app: Receiver, first: int):
    async with connected(url) as client:
        await client.send(HEAD + b"\r\n" + BODY[:first])
        await client.send(BODY[first:] + GET + HEAD + b"\r\n" + BODY)
        assert [(await client.answer()).body for _ in range(3)] == [b"%d" % SIZE, b"0", b"%d" % SIZE]
    assert app.bodies == [BODY, b"", BODY]


async def test_a_request_that_waits_behind_another_one_may_have_one(url: str, app: Receiver):
    app.may_read.clear()
    async with connected(url) as client:
        await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + HEAD + b"\r\n")
        await until(lambda: len(app.bodies) == 1)
        sending = asyncio.create_task(client.send(BODY))
        app.may_read.set()
        assert [(await client.answer()).body for _ in range(2)] == [b"3", b"%d" % SIZE]
        await sending
    assert app.bodies == [b"abc", BODY]


async def test_a_part_does_not_wait_for_the_rest(url: str, app: Receiver):
    async with connected(url) as client:
        await client.send(HEAD + b"\r\n")
        for end in (10, 1000):
            await client.send(BODY[len(app.bodies[0]) if app.bodies else 0 : end])
            await until(partial(has_arrived, app, end))
        await client.send(BODY[1000:])
        assert (await client.answer()).body == b"%d" % SIZE


async def test_it_is_announced_by_a_client_that_waits_for_permission(url: str, app: Receiver):
    async with connected(url) as client:
        await client.send(HEAD + b"Expect: 100-continue\r\n\r\n")
        assert (await client.answer(has_body=False)).status == 100
        await client.send(BODY)
        assert (await client.answer()).body == b"%d" % SIZE
    assert app.bodies == [BODY]


async def test_what_arrived_before_the_client_disconnected_is_received(url: str, app: Receiver):
    async with connected(url) as client:
        await client.send(HEAD + b"\r\n" + BODY[: PIECE_BYTES + 5])
        client.writer.close()
        await until(lambda: app.is_gone)
    assert app.bodies == [BODY[: PIECE_BYTES + 5]]


class Flow:
    """Records whether the connection is read."""

    is_reading = True

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


def receive_into(body: LargeBody, content: bytes) -> int:
    """Receive what fits into the buffer; return its size."""
    buffer = body.get_buffer(-1)
    size = min(len(buffer), len(content))
    buffer[:size] = content[:size]
    body.buffer_updated(size)
    return size


async def test_two_pieces_are_held_and_no_byte_of_the_next_request_is_read():
    flow, ends = Flow(), []
    body = LargeBody(
        asyncio.Protocol(),
        flow,
        2 * PIECE_BYTES + 3,
        received=lambda size: True,
        arrived=lambda: None,
        ended=lambda: ends.append("ended"),
    )
    content = b"a" * PIECE_BYTES
    assert receive_into(body, content) == PIECE_BYTES
    assert (flow.is_reading, body.has_piece) == (True, True)
    assert receive_into(body, content) == PIECE_BYTES
    assert not flow.is_reading
    assert [len(body.take()), flow.is_reading, body.has_piece] == [PIECE_BYTES, True, True]
    assert receive_into(body, content) == 3
    assert ends == ["ended"]
    assert [len(body.take()), len(body.take()), body.is_complete] == [PIECE_BYTES, 3, True]
