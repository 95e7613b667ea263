"""The console of two servers behind a balancer without sticky sessions, while a worker copies."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from tests.faults.killing.cluster import Program
from tests.support.balanced_servers import NAME, NORTH, SOUTH, Halting, balanced_servers
from tests.support.balancer import Balancer, balancing
from tests.support.browser import Browser
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port

pytestmark = [pytest.mark.operations, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

MOVING = r'<progress max="\d+" value="[1-9]'
LOSE_MESSAGES = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
SYNCHRONIZE = "/console/synchronize"
CHOICE = {"region": NORTH, "repository": NAME, "to": f"{SOUTH}/team"}


@dataclass
class Installation:
    """Two servers that copy nothing, and a worker.

    Attributes:
        balancer: in front of the servers.
        servers: the programs by their addresses.
        source: the registry that is copied from.
        password: that of the administrator.
    """

    balancer: Balancer
    servers: dict[str, Program]
    source: Halting
    password: str

    async def signed_in(self) -> Browser:
        """Return a browser with a new session, at the address of the balancer."""
        browser = Browser(self.balancer.url)
        page = await browser.sign_in("admin", self.password)
        assert page.status == 200, page.text
        return browser

    async def started(self, browser: Browser, tag: str) -> int:
        """Plan and start a synchronization by the pages; returns its job."""
        plan = await browser.complete(f"{SYNCHRONIZE}?region={NORTH}&repository={NAME}&to={SOUTH}/team&tag={tag}")
        assert "will be copied" in plan.text
        started = await browser.post(SYNCHRONIZE, {**CHOICE, "tag": tag})
        assert started.status == 303, started.text
        return int(started.location.rpartition("/")[2])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer
) -> AsyncIterator[Installation]:
    folder, database_url = tmp_path_factory.mktemp("balanced"), postgres.url(postgres.new_database())
    address = f"127.0.0.1:{free_port()}"
    async with (
        balanced_servers(folder, database_url, address) as servers,
        balancing(address, list(servers.programs)) as balancer,
    ):
        yield Installation(balancer, servers.programs, servers.source, servers.password)


class Stream:
    """An open stream of changes, read as a browser does."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def until(self, pattern: str) -> str:
        """Return the first event in which the pattern is found."""
        async with asyncio.timeout(60):
            event = ""
            async for line in self._answer.content:
                event += line.decode()
                if line != b"\n":
                    continue
                if re.search(pattern, event, re.DOTALL):
                    return event
                event = ""
        raise AssertionError(f"the stream ended before {pattern!r}")

    async def ended(self) -> None:
        """Wait until the stream ends, however it does."""
        with suppress(aiohttp.ClientError):
            async with asyncio.timeout(60):
                await self._answer.content.read()


@asynccontextmanager
async def streaming(browser: Browser, url: str, path: str, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream of changes at a server, or through the balancer."""
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as http,
        http.get(URL(f"{url}{path}", encoded=True), headers={"Cookie": cookie, **headers}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        yield Stream(answer)


async def test_a_session_is_valid_at_each_server_and_ends_at_all(installation: Installation):
    browser = await installation.signed_in()
    installation.balancer.used.clear()

    pages = [await browser.get(path) for path in ("/console/", "/console/regions", "/console/jobs", "/console/images")]

    assert {page.status for page in pages} == {200}
    assert set(installation.balancer.used) == set(installation.servers)
    stolen = dict(browser.cookies)
    assert (await browser.post("/console/sign-out")).status == 303
    for address in installation.servers:
        thief = Browser(f"http://{address}")
        thief.cookies = stolen
        page = await thief.get("/console/jobs")
        assert (page.status, page.location.startswith("/console/sign-in")) == (303, True)


async def test_pages_of_both_servers_show_what_a_worker_copies(installation: Installation):
    browser = await installation.signed_in()
    first, second = (f"http://{address}" for address in installation.servers)

    job = await installation.started(browser, "v1")
    events = f"/console/events?jobs={job}&details=1"
    async with streaming(browser, first, events) as stream:
        await stream.until(MOVING)
    # The browser opens the stream again, and the balancer leads it to the other server.
    async with streaming(browser, second, events, **{"Last-Event-ID": "17"}) as stream:
        await stream.until(MOVING)
        installation.source.released.set()
        await stream.until("Tag written")
    installation.source.released.clear()

    page = await browser.get(f"/console/jobs/{job}")
    assert "synchronized" in page.text or "success" in page.text
    assert "data-live=" not in page.html


async def test_new_jobs_are_announced_by_the_other_server(installation: Installation):
    installation.source.released.set()
    browser = await installation.signed_in()
    _, second = (f"http://{address}" for address in installation.servers)
    newest = (await browser.get("/console/jobs")).one("div[@data-live]").attrib["data-live"]

    async with streaming(browser, second, newest) as stream:
        await installation.started(browser, "v2")
        await stream.until('id="jobs-new"')
    installation.source.released.clear()


async def test_pages_catch_up_after_messages_of_the_database_were_lost(
    installation: Installation, postgres: PostgresServer
):
    browser = await installation.signed_in()
    job = await installation.started(browser, "v3")

    async with streaming(browser, installation.balancer.url, f"/console/events?jobs={job}&details=1") as stream:
        await stream.until(MOVING)
        # Both servers lose their connections for messages just when the job continues to its end.
        lost = await asyncio.to_thread(postgres.run, LOSE_MESSAGES, database="postgres")
        installation.source.released.set()
        await stream.until("Tag written")
    installation.source.released.clear()

    assert "t" in lost


async def test_when_a_server_is_killed_pages_go_on_at_the_other(installation: Installation):
    browser = await installation.signed_in()
    job = await installation.started(browser, "v4")
    events = f"/console/events?jobs={job}&details=1"
    address = next(iter(installation.servers))
    async with streaming(browser, f"http://{address}", events) as stream:
        await stream.until("job-")
        installation.servers[address].kill()
        await stream.ended()

    # Every request finds the server that is left, also the one whose turn would have been the other's.
    async with streaming(browser, installation.balancer.url, events) as stream:
        await stream.until(MOVING)
        installation.source.released.set()
        await stream.until("Tag written")
    pages = [await browser.get(f"/console/jobs/{job}") for _ in range(3)]
    assert {page.status for page in pages} == {200}
