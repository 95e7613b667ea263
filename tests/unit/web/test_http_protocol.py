"""Limits of a connection: heads, bodies and pipelined requests are bounded, and framing is strict."""

import asyncio
import inspect
import itertools
import json
import re
import socket
import tomllib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tagferry import bounds
from tests.support.metrics import sample
from tests.support.raw_client import RawAnswer, connected
from tests.unit.web.front import GET, Application, fronted, until

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LINE = b"X-Header: value\r\n"


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture
async def url(app: Application) -> AsyncIterator[str]:
    async with fronted(app) as url:
        yield url


async def answer_to(url: str, request: bytes) -> RawAnswer:
    async with connected(url) as client:
        await client.send_all([request])
        return await client.answer()


async def refused(url: str, request: bytes) -> int:
    """Send a request that must be refused, in the documented form and with the end of the connection."""
    async with connected(url) as client:
        await client.send_all([request])
        answer = await client.answer()
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == "application/json"
        document = json.loads(answer.body)
        assert document["error_msg"] == document["errors"][0]["errorMessage"]
        assert document["request_id"] == answer.headers["x-request-id"]
        assert await client.rest() == b""
        return answer.status


def reached(bound: str) -> float:
    return sample("tagferry_bound_reached_total", bound=bound) or 0


async def test_uvicorns_protocol_has_the_parts_that_ours_relies_on():
    """Fails where another version of uvicorn has changed what `BoundedProtocol` overrides or reads."""
    config = Config(app=lambda: None, log_config=None, ws="none")
    protocol = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    protocol.on_message_begin()
    missing = {"pipeline", "tasks", "connections", "flow", "cycle", "headers", "url", "parser", "expect_100_continue"}
    assert not missing - vars(protocol).keys()
    parameters = list(inspect.signature(HttpToolsProtocol.__init__).parameters)
    assert parameters == ["self", "config", "server_state", "app_state", "_loop"]
    for method, expected in {
        "_start_asgi_task": ["self", "cycle", "app"],
        "on_response_complete": ["self"],
        "on_headers_complete": ["self"],
        "on_message_begin": ["self"],
        "on_message_complete": ["self"],
        "on_header": ["self", "name", "value"],
        "on_body": ["self", "body"],
        "on_url": ["self", "url"],
        "shutdown": ["self"],
    }.items():
        assert list(inspect.signature(getattr(HttpToolsProtocol, method)).parameters) == expected, method
    assert "cycle, app = self.pipeline.pop()" in inspect.getsource(HttpToolsProtocol.on_response_complete)
    assert list(inspect.signature(RequestResponseCycle.__init__).parameters) == [
        *("self", "scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers"),
        *("message_event", "expect_100_continue", "keep_alive", "on_response"),
    ]
    cycle = inspect.getsource(RequestResponseCycle)
    for part in ("self.receive, self.send", "def receive(self)", "await self.message_event.wait()"):
        assert part in cycle
    for attribute in (
        *("disconnected", "message_event", "response_started", "response_complete", "keep_alive", "on_response"),
        *("chunked_encoding", "expected_content_length", "default_headers", "scope", "flow", "transport"),
        "more_body",
    ):
        assert f"self.{attribute} = " in cycle
    assert set(re.findall(r"self\.transport\.(\w+)", cycle)) == {"write", "close", "is_closing"}
    assert "self.waiting_for_100_continue = expect_100_continue" in cycle
    assert inspect.iscoroutinefunction(FlowControl.drain)
    assert "self.flow = FlowControl(transport)" in inspect.getsource(HttpToolsProtocol.connection_made)
    assert vars(ServerState()).keys() == {"total_requests", "connections", "tasks", "default_headers"}
    assert "self.connections.discard(self)" in inspect.getsource(HttpToolsProtocol.connection_lost)


def test_the_version_of_uvicorn_is_exact():
    """Its undocumented parts may change with any release."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert f"uvicorn=={version('uvicorn')}" in project["project"]["dependencies"]


async def test_a_head_up_to_the_bound_is_answered(url: str):
    most = bounds.HEAD_BYTES - len(b"/Hostx: \r\n") - len(b"X: \r\n") - 4
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * most
    assert (await answer_to(url, head + b"\r\n\r\n")).status == 200
    assert await refused(url, head + b"aaaaaaaa\r\n\r\n") == 431


async def test_as_many_headers_as_allowed_are_answered_and_one_more_is_not(url: str):
    lines = LINE * (bounds.HEADERS - 1)
    assert (await answer_to(url, b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")).status == 200
    assert await refused(url, b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + LINE + b"\r\n") == 431
    assert await refused(url, b"GET / HTTP/1.1\r\nHost: x\r\n" + LINE * 10_000) == 431


@pytest.mark.parametrize("size", [bounds.HEAD_BYTES + 1, 1 << 20])
async def test_a_url_that_is_too_long_is_refused(url: str, app: Application, size: int):
    before = reached("head_bytes")
    assert await refused(url, b"GET /" + b"a" * size + b" HTTP/1.1\r\nHost: x\r\n\r\n") == 414
    assert reached("head_bytes") == before + 1
    assert not app.scopes


@pytest.mark.parametrize(
    ("start", "part", "status"),
    [
        (b"GET /", b"a" * 16384, 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 16384, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX", b"a" * 16384, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", LINE * 1000, 431),
        (CHUNKED, b"1\r\na\r\n" * 4000, 400),
        (CHUNKED + b"1;", b"a" * 16384, 400),
        (CHUNKED + b"0\r\n", LINE * 1000, 431),
        (CHUNKED + b"0\r\nX: ", b"a" * 16384, 400),
        (b"", b"a" * 16384, 400),
    ],
    ids=["url", "value", "name", "lines", "tiny chunks", "extension", "trailer", "trailer value", "garbage"],
)
async def test_what_has_no_end_is_refused_and_no_longer_read(
    url: str, app: Application, start: bytes, part: bytes, status: int
):
    async with connected(url) as client:
        await client.send(start)
        reading = asyncio.create_task(client.answer())
        sent = await client.send_all(itertools.repeat(part, 64 * 1024))
        assert sent < len(part) * 64 * 1024, "it was read for ever"
        assert (await reading).status == status
    if app.scopes:
        await until(lambda: app.left == len(app.scopes))


async def test_a_refusal_below_the_registrys_path_has_the_registrys_form(url: str):
    answer = await answer_to(url, b"GET /v2/" + b"a" * bounds.HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status == 414
    (error,) = json.loads(answer.body)["errors"]
    assert error["code"] == "UNSUPPORTED"
    assert "URL must be shorter" in error["message"]


async def test_refusals_are_logged_once_and_counted_each(url: str):
    before = reached("headers")
    with capture_logs() as logs:
        for _ in range(20):
            await refused(url, b"GET / HTTP/1.1\r\nHost: x\r\n" + LINE * 200 + b"\r\n")
    assert reached("headers") == before + 20
    assert len([entry for entry in logs if entry["event"] == "refused a request"]) <= 1


async def test_a_trailers_fields_do_not_become_headers(url: str, app: Application):
    answer = await answer_to(url, CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Basic x\r\nX-Auth-Token: t\r\n\r\n")
    assert answer.status == 200
    assert answer.body == b"1"
    assert {name for name, _ in app.scopes[0]["headers"]} == {b"host", b"transfer-encoding"}


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nhost: y\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n",
        b"GET / HTTP/1.1\r\nHost: user@x\r\n",
        b"GET / HTTP/1.1\r\nHost: x/y\r\n",
        b"GET / HTTP/1.1\r\nHost: x:y\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n",
    ],
)
async def test_a_host_that_is_missing_repeated_or_malformed_is_refused(url: str, app: Application, head: bytes):
    assert await refused(url, head + b"\r\n") == 400
    assert not app.scopes


@pytest.mark.parametrize(
    "host",
    [
        b"x",
        b"x:80",
        b"127.0.0.1:5004",
        b"[::1]:80",
        b"[fe80::1%25eth0]:80",
        b"[fe80::1%eth0]",
        b"a_b.example",
        b"X.example:",
    ],
)
async def test_a_host_of_any_valid_form_is_answered(url: str, host: bytes):
    assert (await answer_to(url, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")).status == 200


async def test_http_1_0_needs_no_host_and_closes(url: str):
    async with connected(url) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5 5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length :5\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"X: a\r\n b\r\n",
        b"X: a\r\n\tb\r\n",
        b"X: a\nY: b\r\n",
        b"X: a\rY: b\r\n",
        b"X: a\0b\r\n",
        b" X: a\r\n",
    ],
)
async def test_framing_that_could_be_read_in_two_ways_is_refused(url: str, app: Application, framing: bytes):
    request = b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\nhello"
    assert await refused(url, request) in (400, 501)
    assert not app.scopes


@pytest.mark.parametrize(
    "chunks", [b"+1\r\na\r\n", b"0x1\r\na\r\n", b"1\na\r\n", b"1 \r\na\r\n", b"1\r\nabc\r\n", b"fffffffffffffffff\r\n"]
)
async def test_chunks_that_could_be_read_in_two_ways_are_refused(url: str, chunks: bytes):
    assert await refused(url, CHUNKED + chunks) == 400


async def test_http_1_0_has_no_chunks(url: str):
    assert await refused(url, b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 400


@pytest.mark.parametrize(("version", "status"), [(b"0.9", 505), (b"2.0", 505), (b"1.2", 400), (b"3", 400)])
async def test_other_versions_are_refused(url: str, version: bytes, status: int):
    assert await refused(url, b"GET / HTTP/" + version + b"\r\nHost: x\r\n\r\n") == status


@pytest.mark.parametrize(
    "request_line",
    [b"PRI * HTTP/2.0", b"CONNECT x:443 HTTP/1.1", b"GET /\xff HTTP/1.1", b"BREW / HTTP/1.1"],
)
async def test_targets_and_methods_that_no_application_has_are_refused(url: str, request_line: bytes):
    assert await refused(url, request_line + b"\r\nHost: x\r\n\r\n") in (400, 405, 505)


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
async def test_an_upgrade_is_ignored_and_the_connection_goes_on(url: str, app: Application, upgrade: bytes):
    wanted = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade + b"\r\nHTTP2-Settings: AA\r\n"
    async with connected(url) as client:
        await client.send(b"GET / HTTP/1.1\r\n" + wanted + b"\r\n")
        assert (await client.answer()).status == 200
        await client.send(b"POST / HTTP/1.1\r\n" + wanted + b"Content-Length: 3\r\n\r\nabc" + GET)
        assert (await client.answer()).body == b"3"
        assert (await client.answer()).status == 200
    assert len(app.scopes) == 3


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    "connection", [b"Upgrade, close", b"close, Upgrade", b"Upgrade\r\nConnection: close", b"Upgrade"]
)
@pytest.mark.parametrize(("method", "length"), [(b"GET", b""), (b"POST", b"Content-Length: 3\r\n")])
async def test_an_upgrade_of_a_last_request_is_ignored_too(
    url: str, version: bytes, connection: bytes, method: bytes, length: bytes
):
    body = b"abc" if length else b""
    head = (
        method + b" / HTTP/" + version + b"\r\nHost: x\r\nConnection: " + connection + b"\r\nUpgrade: h2c\r\n" + length
    )
    async with connected(url) as client:
        await client.send(head + b"\r\n" + body)
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"%d" % len(body))
        if b"close" in connection or version == b"1.0":
            assert await client.rest() == b""


@pytest.mark.parametrize(
    "begin", [b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"GET /", b"\r\n" * 100 + b"GET / HTTP/1.1\r\nX-"]
)
@pytest.mark.parametrize("before", [b"", GET])
async def test_a_head_is_refused_at_its_limit_in_whatever_pieces_it_comes(url: str, begin: bytes, before: bytes):
    async with connected(url) as client:
        if before:
            await client.send(before)
            assert (await client.answer()).status == 200
        await client.send_all([begin + b"a" * (bounds.HEAD_BYTES + 1000)])
        assert (await client.answer()).status in (414, 431)


async def test_expect_continue_is_answered_when_the_body_is_wanted(url: str):
    async with connected(url) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.answer()).status == 100
        await client.send(b"abc")
        assert (await client.answer()).body == b"3"


async def test_a_client_that_was_not_told_to_send_its_body_is_not_misread(url: str, app: Application):
    async with connected(url) as client:
        await client.send(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.answer()).body == b"unread"
        await client.send_all([GET])
        assert await client.rest() == b""
    assert len(app.scopes) == 1


async def test_pipelined_requests_are_answered_in_order(url: str):
    count = bounds.PIPELINED_REQUESTS
    requests = [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size for size in range(count)
    ]
    async with connected(url) as client:
        await client.send(b"".join(requests))
        assert [int((await client.answer()).body) for _ in range(count)] == list(range(count))
        await client.send(GET)
        assert (await client.answer()).status == 200


async def test_pipelined_requests_beyond_the_bound_are_not_read(url: str, app: Application):
    async with connected(url) as client:
        await client.send_all([b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 5000])
        before = reached("pipelined_requests")
        await until(lambda: bool(app.scopes))
        app.released.set()
        answers = [(await client.answer()).status for _ in range(bounds.PIPELINED_REQUESTS + 2)]
        assert answers == [200] * (bounds.PIPELINED_REQUESTS + 1) + [503]
        assert await client.rest() == b""
        assert reached("pipelined_requests") <= before + 1
    assert len(app.scopes) == bounds.PIPELINED_REQUESTS + 1


async def test_an_error_waits_for_the_answers_before_it(url: str, app: Application):
    async with connected(url) as client:
        await client.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n" + CHUNKED + b"nonsense\r\n")
        await until(lambda: bool(app.scopes))
        app.released.set()
        assert (await client.answer()).body == b"unread"
        assert (await client.answer()).status == 400
        assert await client.rest() == b""
    assert len(app.scopes) == 1


async def test_what_follows_a_last_request_is_not_answered(url: str, app: Application):
    async with connected(url) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET * 3)
        assert (await client.answer()).status == 200
        await client.rest()
    assert len(app.scopes) == 1


async def test_every_request_starts_in_a_clean_context(url: str):
    request = b"GET /context HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(url) as client:
        await client.send(request * 3)
        assert [(await client.answer()).body for _ in range(3)] == [b"", b"", b""]
        await client.send(request)
        assert (await client.answer()).body == b""


async def test_a_request_behind_which_another_waits_learns_of_the_end_of_the_connection(url: str, app: Application):
    async with connected(url) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        await until(lambda: bool(app.scopes))
        client.abort()
    await until(lambda: app.left == 1)
    async with connected(url) as client:
        await client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        await client.answer_begins()
    await until(lambda: app.left == 2)


@pytest.mark.parametrize("size", [bounds.UNREAD_BODY_BYTES // 2, bounds.UNREAD_BODY_BYTES * 100])
async def test_a_body_that_was_answered_early_is_read_only_a_little(url: str, app: Application, size: int):
    part = b"a" * 65536
    async with connected(url) as client:
        await client.send(b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        assert (await client.answer()).body == b"unread"
        sent = await client.send_all(itertools.repeat(part, size // len(part)))
        if size > bounds.UNREAD_BODY_BYTES:
            assert sent < size
        else:
            await client.send(GET)
            assert (await client.answer()).status == 200


def all_sent_before_reading(url: str, request: bytes) -> tuple[bytes, bool]:
    """Send a whole request, then read to the end; gives what was read, and whether all was sent and ended cleanly."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    gathered, is_clean = bytearray(), True
    with socket.create_connection((host, int(port)), timeout=60) as client:
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                gathered += part
        except ConnectionError:
            is_clean = False
    return bytes(gathered), is_clean


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n", b"Expect: 100-continue\r\n"], ids=repr)
@pytest.mark.parametrize("path", [b"/unread", b"/unread/close"])
@pytest.mark.parametrize("size", [bounds.UNREAD_BODY_BYTES // 2, 5 * 1024 * 1024, bounds.LINGER_BYTES])
async def test_a_client_that_sends_all_before_it_reads_gets_its_early_answer(
    url: str, path: bytes, more: bytes, size: int
):
    head = b"PUT %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (path, more, size)
    answer, is_clean = await asyncio.to_thread(all_sent_before_reading, url, head + b"a" * size)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"unread")
    assert is_clean


@pytest.mark.parametrize("request_", [GET.replace(b"GET /", b"GET /" + b"a" * bounds.HEAD_BYTES), CHUNKED + b"x\r\n"])
async def test_so_does_one_whose_request_is_refused_by_the_server_itself(url: str, request_: bytes):
    answer, is_clean = await asyncio.to_thread(all_sent_before_reading, url, request_ + b"a" * 5 * 1024 * 1024)
    assert answer.startswith(b"HTTP/1.1 4")
    assert is_clean


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"], ids=repr)
async def test_more_than_the_bound_is_not_read_after_the_last_answer(url: str, more: bytes):
    before = reached("linger_bytes")
    size = 64 * bounds.LINGER_BYTES
    async with connected(url) as client:
        await client.send(b"PUT /unread HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (more, size))
        assert (await client.answer()).status == 200
        assert await client.send_all(itertools.repeat(b"a" * 65536, size // 65536)) < size
    await until(lambda: reached("linger_bytes") == before + 1)
