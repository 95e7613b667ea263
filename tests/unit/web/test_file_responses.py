"""Large blobs are sent from their files by the kernel, with the same bytes, limits and cleanup as others."""

import asyncio
import errno
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.types import Receive, Scope, Send

from tagferry import bounds
from tagferry.names import Digest, RepositoryName
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.api.asgi import SEND_FILE
from tagferry.registry.storage.layout import Layout
from tagferry.registry.storage.store import DiskStore
from tagferry.settings import LimitSettings
from tagferry.web.server import file_transfer
from tagferry.web.server.file_transfer import FileTransfer
from tagferry.web.server.serve import Listener, listening
from tests.support.certificates import Authority
from tests.support.images import blob, opening
from tests.support.metrics import sample
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.processes import free_port
from tests.support.raw_client import connected

from .front import until

pytestmark = pytest.mark.skipif(not file_transfer.IS_AVAILABLE, reason="this system lacks sendfile")

APP = RepositoryName("org/app")
CONTENT = os.urandom(1024 * 1024) * 24
DIGEST = Digest.of(CONTENT)
SHORT = 1.0
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test in either event loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that each call of sendfile has sent."""
    counts: list[int] = []
    sendfile = os.sendfile

    def counted(*args: Any) -> int:
        counts.append(0)
        counts[-1] = sendfile(*args)
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", counted)
    return counts


@asynccontextmanager
async def served(root: Path, *, certificate: Path | None = None, **limits: Any) -> AsyncIterator[str]:
    """Serve a registry that has verified a large blob; yield its URL."""
    store = await DiskStore.open(root)
    await store.write_blob(APP, blob(CONTENT), opening(CONTENT))
    address = f"127.0.0.1:{free_port()}"
    app = RegistryApp(store, OpenAuthorizer())
    listener = Listener(app, address, tls_certificate=certificate, tls_key=certificate)
    try:
        async with listening([listener], LimitSettings(**limits)):
            yield f"{'https' if certificate else 'http'}://{address}"
    finally:
        await store.close()


def request(method: str = "GET", *fields: str) -> bytes:
    return "\r\n".join([f"{method} /v2/{APP}/blobs/{DIGEST} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def descriptors() -> list[str]:
    """Return what this process has open, except for what the event loop needs."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return sorted(name for name in found if "socket" in name or DIGEST.encoded in name)


def test_a_verified_blob_is_sent_by_the_kernel(run: Run, tmp_path: Path, sent: list[int]):
    async def scenario() -> None:
        async with served(tmp_path) as url, connected(url) as client:
            await client.send(request())
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, CONTENT)

    run(scenario())
    assert sum(sent) == len(CONTENT)


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-", slice(5, None)),
        ("bytes=1000000-9999999", slice(1_000_000, 10_000_000)),
        ("bytes=-7", slice(-7, None)),
    ],
)
def test_a_range_is_sent_by_the_kernel(run: Run, tmp_path: Path, sent: list[int], field: str, part: slice):
    async def scenario() -> None:
        async with served(tmp_path) as url, connected(url) as client:
            await client.send(request("GET", f"Range: {field}"))
            answer = await client.answer()
            assert (answer.status, answer.body) == (206, CONTENT[part])

    run(scenario())
    assert sum(sent) == len(CONTENT[part])


def test_a_connection_serves_further_requests(run: Run, tmp_path: Path):
    async def scenario() -> None:
        async with served(tmp_path) as url, connected(url) as client:
            for _ in range(2):
                await client.send(request())
                assert (await client.answer()).body == CONTENT
                await client.send(request("HEAD"))
                head = await client.answer(has_body=False)
                assert (head.status, head.headers["content-length"]) == (200, str(len(CONTENT)))
            ping = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
            await client.send(ping + request() + ping + request("GET", "Range: bytes=3-9") + request() + ping)
            bodies = [(await client.answer()).body for _ in range(6)]
            assert bodies == [b"{}", CONTENT, b"{}", CONTENT[3:10], CONTENT, b"{}"]
            await client.send(request("GET", "Connection: close"))
            assert (await client.answer()).body == CONTENT
            assert await client.rest() == b""

    run(scenario())


def test_an_unverified_blob_is_verified_while_it_is_sent(run: Run, tmp_path: Path, sent: list[int]):
    async def scenario() -> None:
        async with served(tmp_path):
            pass
        path = Layout(tmp_path).pooled(DIGEST)
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(bytes((CONTENT[-1] ^ 1,)))
        async with served_again(tmp_path) as url, connected(url) as client:
            await client.send(request())
            body = await client.rest()
            assert not body.endswith(CONTENT[-1000:])
            assert sent == []
            async with connected(url) as other:
                await other.send(request())
                assert (await other.answer()).status == 404

    @asynccontextmanager
    async def served_again(root: Path) -> AsyncIterator[str]:
        store = await DiskStore.open(root)
        address = f"127.0.0.1:{free_port()}"
        async with listening([Listener(RegistryApp(store, OpenAuthorizer()), address)], LimitSettings()):
            yield f"http://{address}"
        await store.close()

    run(scenario())


def test_with_tls_the_kernel_sends_nothing(run: Run, tmp_path: Path, sent: list[int]):
    async def scenario() -> None:
        authority = Authority()
        certificate = authority.issue(tmp_path / "pair.pem", "127.0.0.1", name="server")
        tls = ssl.create_default_context(cafile=authority.write(tmp_path / "ca.pem"))
        async with served(tmp_path / "root", certificate=certificate) as url, connected(url, tls=tls) as client:
            await client.send(request())
            assert (await client.answer()).body == CONTENT

    run(scenario())
    assert sent == []


@pytest.mark.long
def test_more_transfers_than_threads_to_slow_clients_are_complete(run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(file_transfer, "_THREADS", 2)

    async def scenario() -> None:
        async def pull(url: str) -> None:
            async with connected(url, buffer=65536) as client:
                await client.send(request())
                assert (await client.answer()).body == CONTENT

        async with served(tmp_path) as url:
            await asyncio.gather(*(pull(url) for _ in range(12)))

    run(scenario())


def test_a_client_that_disconnects_leaves_nothing_open(run: Run, tmp_path: Path):
    async def scenario() -> None:
        async with served(tmp_path) as url:
            before = descriptors()
            for _ in range(4):
                async with connected(url, buffer=4096) as client:
                    await client.send(request())
                    await client.answer_begins()
                    client.abort()
            await until(lambda: descriptors() == before)

    run(scenario())


def test_a_client_that_never_reads_is_cut_off(run: Run, tmp_path: Path):
    def counted() -> float:
        return sample("tagferry_bound_reached_total", bound="stall_timeout_seconds") or 0

    async def scenario() -> None:
        async with served(tmp_path, stall_timeout_seconds=SHORT) as url:
            before, opened = counted(), descriptors()
            async with connected(url, buffer=4096) as client:
                await client.send(request() + request())
                await until(lambda: counted() == before + 1)
            await until(lambda: descriptors() == opened)

    run(scenario())


@pytest.mark.long
def test_a_slow_reader_that_goes_on_is_served(run: Run, tmp_path: Path):
    async def scenario() -> None:
        async with (
            served(tmp_path, stall_timeout_seconds=SHORT) as url,
            connected(url, buffer=4096) as client,
        ):
            await client.send(request())
            await client.answer_begins()
            read = 0
            for _ in range(40):
                read += len(await client.reader.readexactly(2 * bounds.TRANSFER_RATE))
                await asyncio.sleep(0.1)
            assert read == 80 * bounds.TRANSFER_RATE

    run(scenario())


@pytest.mark.parametrize("number", [errno.EIO, 0])
def test_a_failing_disk_or_a_shorter_file_ends_the_connection(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    sendfile = os.sendfile

    def fail(connection: int, file: int, offset: int, count: int) -> int:
        if offset < 1_000_000:
            return sendfile(connection, file, offset, min(count, 1_000_000))
        if number:
            raise OSError(number, os.strerror(number))
        return 0

    monkeypatch.setattr(os, "sendfile", fail)

    async def scenario() -> None:
        async with served(tmp_path) as url, connected(url) as client:
            await client.send(request())
            await client.answer_begins()
            body = await client.rest()
            assert CONTENT.startswith(body)
            assert len(body) < len(CONTENT)

    run(scenario())


def test_a_transfer_does_not_delay_the_end_of_the_server(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.web.server.serve._DRAIN_SECONDS", 0.1)

    async def scenario() -> None:
        async with AsyncExitStack() as clients:
            async with served(tmp_path) as url:
                client = await clients.enter_async_context(connected(url, buffer=4096))
                await client.send(request())
                await client.answer_begins()
            assert not any(DIGEST.encoded in name for name in descriptors())

    run(scenario())


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_sendfile_is_copied_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def fail(*_: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sendfile", fail)

    async def scenario() -> None:
        async with served(tmp_path) as url, connected(url, buffer=65536) as client:
            for _ in range(2):
                await client.send(request())
                assert (await client.answer()).body == CONTENT

    run(scenario())


def ends_of_failing_transfers(run: Run, path: Path) -> list[BaseException | None]:
    """Request a file that an application sends; return the error that the application got, if any."""
    path.write_bytes(CONTENT)
    ends: list[BaseException | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with path.open("rb") as file:
                length = str(len(CONTENT)).encode()
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
                part = {"file": file.fileno(), "offset": 0, "count": len(CONTENT)}
                await send({"type": SEND_FILE, **part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except BaseException as error:
            ends.append(error)
            raise
        ends.append(None)

    async def scenario() -> None:
        address = f"127.0.0.1:{free_port()}"
        async with listening([Listener(app, address)], LimitSettings()), connected(f"http://{address}") as client:
            await client.send(request())
            await client.answer_begins()
            assert await client.rest() == b""

    run(scenario())
    return ends


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH])
def test_a_connection_that_fails_is_no_error_of_the_application(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    monkeypatch.setattr(os, "sendfile", failing(number))
    assert ends_of_failing_transfers(run, tmp_path / "file") == [None]


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.EBADMSG, errno.EUCLEAN, errno.ENXIO, errno.ENODATA, errno.ENOMEM]
)
def test_a_disk_that_fails_is_an_error_of_the_application(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    monkeypatch.setattr(os, "sendfile", failing(number))
    (error,) = ends_of_failing_transfers(run, tmp_path / "file")
    assert isinstance(error, OSError)
    assert error.errno == number


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN])
def test_a_network_file_system_that_fails_like_a_connection_is_an_error_of_the_application(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    monkeypatch.setattr(os, "sendfile", failing(number))
    monkeypatch.setattr(os, "pread", failing(number))
    (error,) = ends_of_failing_transfers(run, tmp_path / "file")
    assert isinstance(error, OSError)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EBADF])
def test_a_connection_that_fails_without_sendfile_is_no_error_of_the_application(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    monkeypatch.setattr(os, "sendfile", failing(errno.EINVAL))
    monkeypatch.setattr(os, "write", failing(number))
    assert ends_of_failing_transfers(run, tmp_path / "file") == [None]


class _CountedThreads(ThreadPoolExecutor):
    submitted = 0

    def submit(self, *given: Any, **named: Any) -> Future[Any]:
        self.submitted += 1
        return super().submit(*given, **named)


@pytest.mark.parametrize("burst", [1000, 100_000_000])
def test_a_client_is_not_waited_for_while_a_transfer_waits_for_a_thread(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, burst: int
):
    """After a burst, and once a client has read what was sent to it."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    is_free = threading.Event()
    monkeypatch.setattr(file_transfer, "_BURST_BYTES", burst)

    async def scenario() -> None:
        here, there = socket.socketpair()
        with _CountedThreads(1) as threads, here, there, path.open("rb") as file:
            monkeypatch.setattr(file_transfer, "_threads", threads)
            here.setblocking(False)
            there.setblocking(False)
            transfer = FileTransfer(here.fileno(), file.fileno(), offset=0, count=len(CONTENT))
            running = asyncio.create_task(transfer.run())
            try:
                if burst < len(CONTENT):
                    await asyncio.sleep(0)
                else:
                    await until(lambda: transfer._writable is not None)
                    assert transfer.waits_for_client
                threads.submit(is_free.wait)
                with suppress(BlockingIOError):
                    while there.recv(1_000_000):
                        pass
                await until(lambda: threads.submitted == 3)
                assert not transfer.waits_for_client
            finally:
                is_free.set()
                transfer.stop()
                await running

    run(scenario())
