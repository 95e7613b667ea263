"""An overloaded process answers 503 at once, and keeps admitted requests fast."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from tagferry import bounds
from tagferry.addresses import client_source
from tagferry.errors import LoginThrottled, Throttled
from tagferry.registry.api.app import error_response
from tagferry.settings import LimitSettings
from tagferry.web.errors import respond
from tagferry.web.server.admission import Admission, AdmittedRequest, Load
from tagferry.web.server.serve import Listener, listening
from tests.support.metrics import sample
from tests.support.processes import free_port
from tests.support.raw_client import connected
from tests.unit.web.front import GET, Application, until

HELD = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "path": "/", "headers": list(headers), "client": ("10.0.0.1", 1), "state": {}}


def admits(load: Load, request: dict[str, Any]) -> bool:
    return load.admits(request, client_source(request["client"][0]))


async def nothing(*_: Any) -> Any:
    return {"type": "http.disconnect"}


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture
def load() -> Load:
    return Load(2)


@pytest.fixture
async def url(app: Application, load: Load) -> AsyncIterator[str]:
    address = f"127.0.0.1:{free_port()}"
    async with listening([Listener(Admission(app, load), address)], LimitSettings()):
        yield f"http://{address}"


async def test_above_the_limit_a_request_is_refused_at_once(url: str, app: Application, load: Load):
    before = sample("tagferry_bound_reached_total", bound="concurrent_requests") or 0
    async with connected(url) as first, connected(url) as second, connected(url) as third:
        for client in (first, second):
            await client.send(HELD)
        await until(lambda: len(app.scopes) == 2)
        before_it = load.is_shedding
        await third.send(GET)
        answer = await third.answer()
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert (before_it, load.is_shedding) == (False, True)
        assert sample("tagferry_bound_reached_total", bound="concurrent_requests") == before + 1
        for path in (b"/healthz", b"/readyz"):
            async with connected(url) as probe:
                await probe.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await probe.answer()).status == 200
        app.released.set()
        assert (await first.answer()).status == (await second.answer()).status == 200
    async with connected(url) as client:
        await client.send(GET)
        assert (await client.answer()).status == 200
    assert load.busy == 0


async def test_a_client_that_does_not_wait_is_not_read_for_a_while(
    url: str, app: Application, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bounds, "SHED_SECONDS", 1000)
    async with connected(url) as first, connected(url) as second, connected(url) as third:
        for client in (first, second):
            await client.send(HELD)
        await until(lambda: len(app.scopes) == 2)
        await third.send(GET)
        assert (await third.answer()).status == 503
        app.released.set()
        assert (await first.answer()).status == 200
        await third.send(GET)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(third.reader.read(1), 0.5)


async def test_requests_that_wait_for_their_clients_do_not_count(url: str, app: Application, load: Load):
    slow = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345"
    unread = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(url) as first, connected(url) as second, connected(url, buffer=4096) as third:
        await first.send(slow)
        await second.send(slow)
        await third.send(unread)
        await until(lambda: len(app.scopes) == 3)
        await until(lambda: load.busy == 0)
        async with connected(url) as client:
            await client.send(GET)
            assert (await client.answer()).status == 200
    await until(lambda: app.left == 4)
    assert load.busy == 0


async def test_some_requests_are_kept_for_the_management_api(load: Load):
    signed = scope((b"authorization", b"SDK-HMAC-SHA256 Access=x"))
    source = scope()["client"][0]
    for _ in range(2):
        AdmittedRequest(load, nothing, source=source)
    assert not admits(load, scope())
    for _ in range(bounds.MANAGEMENT_RESERVE):
        assert admits(load, signed)
        AdmittedRequest(load, nothing)
    assert not admits(load, signed)


async def test_a_request_that_waits_in_several_ways_counts_once_again(load: Load):
    admitted = AdmittedRequest(load, nothing)
    assert load.busy == 1
    with admitted:
        await admitted.receive()
        assert load.busy == 0
    assert load.busy == 1
    with admitted:
        admitted.end()
        assert load.busy == 0
    assert load.busy == 0


async def test_while_the_event_loop_is_late_less_and_less_is_let_in():
    load = Load(1000)
    loop = asyncio.get_running_loop()
    for _ in range(100):
        admits(load, scope())
    for _ in range(4):
        load._sample(loop.time() - 10 * bounds.LOOP_LAG_SECONDS)
        assert sum(admits(load, scope()) for _ in range(100)) == 100
    load._sample(loop.time() - 10 * bounds.LOOP_LAG_SECONDS)
    assert sum(admits(load, scope()) for _ in range(100)) == 50
    load._sample(loop.time() - 10 * bounds.LOOP_LAG_SECONDS)
    assert sum(admits(load, scope()) for _ in range(100)) == 25
    load._sample(loop.time())
    assert sum(admits(load, scope()) for _ in range(100)) == 100


def of(host: str) -> dict[str, Any]:
    return scope() | {"client": (host, 1)}


async def test_a_late_loop_gives_each_address_its_share():
    load = Load(1000)
    load._allowed, load._addresses = 10, 2

    flood = [admits(load, of("10.0.0.1")) for _ in range(200)]
    other = [admits(load, of("10.0.0.2")) for _ in range(200)]

    share = (10 + bounds.SHARES_RESERVE) // 2
    assert (sum(flood), all(flood[:share])) == (share, True)
    assert (sum(other), all(other[:share])) == (share, True)


async def test_a_late_loop_admits_a_bounded_number_however_many_addresses_there_are():
    load = Load(1000)
    load._allowed = 10

    admitted = [admits(load, of(f"10.0.{number // 250}.{number % 250}")) for number in range(1000)]

    assert sum(admitted) == 10 + 10 + bounds.SHARES_RESERVE


async def test_where_one_address_has_all_places_others_get_their_share():
    load = Load(8)
    for _ in range(8):
        assert admits(load, of("10.0.0.1"))
        AdmittedRequest(load, nothing, source="10.0.0.1")
    assert not admits(load, of("10.0.0.1"))

    places = 0
    while admits(load, of("10.0.0.2")):
        AdmittedRequest(load, nothing, source="10.0.0.2")
        places += 1

    assert places == 4
    assert not admits(load, of("10.0.0.1"))


async def test_places_for_shares_are_bounded():
    load = Load(8)
    for number in range(8 + bounds.SHARES_RESERVE):
        assert admits(load, of(f"10.0.0.{number}"))
        AdmittedRequest(load, nothing, source=f"10.0.0.{number}")
    assert not admits(load, of("10.0.1.1"))


FOR_NOW = LoginThrottled("carol is locked", retry_after=7)
REFUSED = [(FOR_NOW, True), (Throttled('user "carol" has 4 syncs in progress', retry_after=7), False)]


@pytest.mark.parametrize(("error", "is_shed"), REFUSED)
@pytest.mark.parametrize("path", ["/v2/", "/v3/auth/tokens"])
async def test_a_login_that_is_refused_for_now_counts_as_a_refused_request(error: Throttled, is_shed: bool, path: str):
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if path == "/v2/":
            await error_response(error, scope, lambda _: "Basic").send(send, receive, method="GET")
        else:
            await respond(error, scope)(scope, receive, send)

    statuses: list[int] = []

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    request = scope() | {"path": path, "state": {"request_id": "call-1"}}
    await Admission(answer, Load(10))(request, nothing, send)

    assert statuses[0] == 429
    assert request["state"].get("is_shed", False) is is_shed
