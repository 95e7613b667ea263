"""A whole server under attacks without a login: it stays small, and answers others meanwhile."""

import asyncio
import itertools
import resource
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.served import Served, serving, tagferry
from tests.support.processes import free_port
from tests.support.raw_client import connected, holding

pytestmark = pytest.mark.long

MIB = 1 << 20
GET = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LINES = b"X-Header: value\r\n" * 4000
ATTACKERS = 20
GROWTH = 64 * MIB


@dataclass(frozen=True)
class Victim:
    """A served installation of two regions."""

    served: Served
    urls: tuple[str, str]

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.served.process.pid}/fd").iterdir()))


@contextmanager
def installed(folder: Path, *, files: int | None = None, **limits: float) -> Iterator[Victim]:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    regions = [f"--region=cn-{name}-4={address}" for name, address in zip(("north", "south"), addresses, strict=True)]
    assert tagferry(folder, "init", *regions).returncode == 0
    environment = {f"TAGFERRY_LIMITS__{name.upper()}": str(value) for name, value in limits.items()}
    first, second = (f"http://{address}" for address in addresses)
    with serving(folder, first, environment, files=files) as served:
        yield Victim(served, (first, second))


async def answers(url: str) -> bool:
    async with connected(url) as client:
        await client.send(GET)
        return (await client.answer()).status == 401


async def attack(url: str, first: bytes, part: bytes, mib: int) -> None:
    """Send this many bytes, over as many connections as necessary."""
    left = mib * MIB
    while left > 0:
        try:
            async with connected(url) as client:
                await client.send(first)
                left -= len(first) + await client.send_all(cut(part, left))
        except ConnectionError:
            continue


def cut(part: bytes, size: int) -> Iterable[bytes]:
    return itertools.repeat(part, size // len(part) + 1)


@pytest.mark.parametrize(
    ("first", "part"),
    [
        (b"GET /", b"a" * 65536),
        (HEAD + b"X: ", b"a" * 65536),
        (HEAD, LINES),
        (CHUNKED + b"1;", b"a" * 65536),
        (CHUNKED + b"0\r\n", LINES),
        (CHUNKED + b"0\r\nX: ", b"a" * 65536),
        (CHUNKED, b"1\r\na\r\n" * 10_000),
        (CHUNKED, b"10000\r\n" + b"a" * 65536 + b"\r\n"),
        (b"", GET.replace(b"Connection: close\r\n", b"") * 2000),
    ],
    ids=["url", "header", "headers", "extension", "trailer", "trailer's field", "tiny chunks", "body", "pipeline"],
)
async def test_endless_requests_are_not_kept_in_memory(tmp_path: Path, first: bytes, part: bytes):
    with installed(tmp_path) as victim:
        assert await answers(victim.urls[0])
        before = victim.served.peak_memory
        attackers = [asyncio.create_task(attack(victim.urls[0], first, part, 6)) for _ in range(ATTACKERS)]
        while not all(attacker.done() for attacker in attackers):
            assert await answers(victim.urls[0])
            await asyncio.wait(attackers, timeout=0.1)
        await asyncio.gather(*attackers)
        assert victim.served.peak_memory - before < GROWTH


async def test_with_few_descriptors_idle_connections_block_no_others(tmp_path: Path):
    with installed(tmp_path, files=256) as victim:
        async with holding(victim.urls[0], 400, b"GET / HT") as opened:
            assert opened > 200
            assert victim.descriptors < 200
            for url in victim.urls * 3:
                assert await answers(url)
        assert "closed an idle connection to make room" in victim.served.log.read_text()


async def test_a_server_that_runs_out_of_descriptors_says_so_and_recovers(tmp_path: Path):
    with installed(tmp_path) as victim:
        pid = victim.served.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        async with AsyncExitStack() as stack:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (victim.descriptors + 4, before[1]))
            for _ in range(20):
                await stack.enter_async_context(connected(victim.urls[0]))
            async with asyncio.timeout(60):
                while "could not accept a connection" not in victim.served.log.read_text():  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for url in victim.urls:
            assert await answers(url)


async def test_connections_that_do_nothing_are_closed(tmp_path: Path):
    with installed(tmp_path, header_timeout_seconds=1) as victim:
        before = victim.descriptors
        async with holding(victim.urls[0], 200, b"GET / HT") as opened, asyncio.timeout(60):
            assert opened == 200
            while victim.descriptors > before + 5:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
