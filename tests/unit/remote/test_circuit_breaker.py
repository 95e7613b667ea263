"""While a registry does not respond, one request at a time waits for it, and jobs release their slots."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tagferry.errors import Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials, RemoteStore
from tests.support.deployment import eventually
from tests.support.scripted_registry import Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import IMPATIENCE, Opening

APP = RepositoryName("team/app")
TAGS = "/v2/team/app/tags/list"
LISTED = said({"name": APP, "tags": ["v1"]})
SILENT = Reply(body=b"{}", delay=5.0)
SILENCE = {"read_timeout": IMPATIENCE, "attempts": 1}


async def listed(store: RemoteStore) -> list[str]:
    return [tag async for tag in store.list_tags(APP)]


async def failures(store: RemoteStore, count: int) -> list[str]:
    """Return why concurrent requests fail."""
    ended = await asyncio.gather(*(listed(store) for _ in range(count)), return_exceptions=True)
    assert all(isinstance(one, Unavailable) and one.is_retryable for one in ended), ended
    return [str(one) for one in ended]


def asked(script: ScriptedRegistry, count: int) -> Callable[[], Awaitable[bool]]:
    """Return a condition: this many requests have arrived."""

    async def have_come() -> bool:
        return len(script.asked) >= count

    return have_come


@pytest.fixture
async def silent(script: ScriptedRegistry, opened: Opening) -> RemoteStore:
    """Open a store whose registry has not responded to two requests."""
    store = opened(**SILENCE)
    script.on("GET", TAGS, *[SILENT] * 2)
    for _ in range(2):
        assert "did not answer in time" in (await failures(store, 1))[0]
    return store


async def test_one_request_at_a_time_probes_an_unresponsive_registry(script: ScriptedRegistry, silent: RemoteStore):
    script.on("GET", TAGS, SILENT)

    messages = await failures(silent, 5)

    assert len(script.asked) == 3
    assert "did not answer in time" in messages[0]
    assert all("registry script was not asked to" in one and "it has stopped responding" in one for one in messages[1:])


async def test_a_response_closes_the_circuit_for_all_requests(script: ScriptedRegistry, silent: RemoteStore):
    script.on("GET", TAGS, *[LISTED] * 6)

    assert await listed(silent) == ["v1"]

    assert await asyncio.gather(*(listed(silent) for _ in range(5))) == [["v1"]] * 5


@pytest.mark.parametrize("answer", [Reply(drop=True), error(503, "UNAVAILABLE")], ids=["a reset", "an error"])
async def test_a_registry_that_fails_fast_closes_the_circuit(
    script: ScriptedRegistry, silent: RemoteStore, answer: Reply
):
    script.always("GET", TAGS, answer)

    await failures(silent, 1)
    messages = await failures(silent, 5)

    assert not [one for one in messages if "was not asked" in one]
    assert len(script.asked) == 2 + 1 + 5


async def test_a_single_slow_response_does_not_open_the_circuit(script: ScriptedRegistry, opened: Opening):
    store = opened(**SILENCE)
    for _ in range(3):
        script.on("GET", TAGS, SILENT, LISTED)
        await failures(store, 1)
        assert await listed(store) == ["v1"]


async def test_an_operation_waits_for_an_unresponsive_registry_only_twice(script: ScriptedRegistry, opened: Opening):
    store = opened(read_timeout=IMPATIENCE, attempts=5)
    script.on("GET", TAGS, SILENT, LISTED, *[SILENT] * 3)
    assert await listed(store) == ["v1"]

    assert "did not answer in time" in (await failures(store, 1))[0]

    assert len(script.asked) == 4


async def test_requests_that_wait_for_a_probe_do_not_fail_one_after_another(script: ScriptedRegistry, opened: Opening):
    store = opened(attempts=1)
    script.on("HEAD", "*", Reply(drop=True))
    script.always("HEAD", "*", SILENT)
    first, *others = [
        asyncio.create_task(store.head_manifest(APP, Tag(f"v{number}"), for_write=True, confirm_missing=True))
        for number in range(9)
    ]
    with pytest.raises(Unavailable):
        await first

    await eventually(asked(script, 9))
    assert not any(other.done() for other in others)

    for other in others:
        other.cancel()
    await asyncio.wait(others)


async def test_a_cancelled_probe_is_continued_by_the_next_request(script: ScriptedRegistry, silent: RemoteStore):
    script.on("GET", TAGS, SILENT, LISTED)
    probing = asyncio.create_task(listed(silent))
    await eventually(asked(script, 3))
    probing.cancel()
    await asyncio.wait([probing])

    assert await listed(silent) == ["v1"]


async def test_no_request_waits_for_an_unresponsive_token_server(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as tokens:
        challenge = f'Bearer realm="{tokens.url}/token",service="s"'
        script.always("GET", "*", Reply(status=401, headers={"WWW-Authenticate": challenge}))
        tokens.always("GET", "/token", SILENT)
        store = opened(credentials=Credentials(username="robot", password="secret"), **SILENCE)
        for _ in range(2):
            await failures(store, 1)

        messages = await failures(store, 5)

    assert len(tokens.asked) == 3
    assert len([one for one in messages if "was not asked to" in one]) == 4
