"""Of the requests to a registry that answers none, one at a time is waited for, so that jobs give their slots back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tagferry.errors import Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote import Credentials, RemoteStore
from tests.support.deployment import eventually
from tests.support.scripted_registry import Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import Opening

APP = RepositoryName("team/app")
TAGS = "/v2/team/app/tags/list"
LISTED = said({"name": APP, "tags": ["v1"]})
SILENT = Reply(body=b"{}", delay=5.0)
SILENCE = {"read_timeout": 0.2, "attempts": 1}


async def listed(store: RemoteStore) -> list[str]:
    return [tag async for tag in store.list_tags(APP)]


async def failures(store: RemoteStore, count: int) -> list[str]:
    """Why requests fail that are made at once."""
    ended = await asyncio.gather(*(listed(store) for _ in range(count)), return_exceptions=True)
    assert all(isinstance(one, Unavailable) and one.is_retryable for one in ended), ended
    return [str(one) for one in ended]


def asked(script: ScriptedRegistry, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether so many requests have come in."""

    async def have_come() -> bool:
        return len(script.asked) >= count

    return have_come


@pytest.fixture
async def silent(script: ScriptedRegistry, opened: Opening) -> RemoteStore:
    """A registry that has not answered two requests."""
    store = opened(**SILENCE)
    script.on("GET", TAGS, *[SILENT] * 2)
    for _ in range(2):
        assert "did not answer in time" in (await failures(store, 1))[0]
    return store


async def test_one_request_at_a_time_finds_out_whether_a_silent_registry_answers_again(
    script: ScriptedRegistry, silent: RemoteStore
):
    script.on("GET", TAGS, SILENT)

    told = await failures(silent, 5)

    assert len(script.asked) == 3
    assert "did not answer in time" in told[0]
    assert all("registry script was not asked to" in one and "answers nothing at present" in one for one in told[1:])


async def test_a_registry_that_answers_again_is_asked_by_everyone(script: ScriptedRegistry, silent: RemoteStore):
    script.on("GET", TAGS, *[LISTED] * 6)

    assert await listed(silent) == ["v1"]

    assert await asyncio.gather(*(listed(silent) for _ in range(5))) == [["v1"]] * 5


@pytest.mark.parametrize("answer", [Reply(drop=True), error(503, "UNAVAILABLE")], ids=["a reset", "an error"])
async def test_a_registry_that_fails_quickly_is_not_silent_any_more(
    script: ScriptedRegistry, silent: RemoteStore, answer: Reply
):
    script.always("GET", TAGS, answer)

    await failures(silent, 1)
    told = await failures(silent, 5)

    assert not [one for one in told if "was not asked" in one]
    assert len(script.asked) == 2 + 1 + 5


async def test_a_slow_answer_among_others_is_no_silence(script: ScriptedRegistry, opened: Opening):
    store = opened(**SILENCE)
    for _ in range(3):
        script.on("GET", TAGS, SILENT, LISTED)
        await failures(store, 1)
        assert await listed(store) == ["v1"]


async def test_an_operation_waits_for_a_silent_registry_twice_and_not_as_often_as_it_has_attempts(
    script: ScriptedRegistry, opened: Opening
):
    store = opened(read_timeout=0.2, attempts=5)
    script.on("GET", TAGS, SILENT, LISTED, *[SILENT] * 3)
    assert await listed(store) == ["v1"]

    assert "did not answer in time" in (await failures(store, 1))[0]

    assert len(script.asked) == 4


async def test_who_waits_for_the_first_look_at_a_repository_does_not_fail_one_after_another(
    script: ScriptedRegistry, opened: Opening
):
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


async def test_whoever_is_cancelled_finding_out_leaves_it_to_the_next(script: ScriptedRegistry, silent: RemoteStore):
    script.on("GET", TAGS, SILENT, LISTED)
    probing = asyncio.create_task(listed(silent))
    await eventually(asked(script, 3))
    probing.cancel()
    await asyncio.wait([probing])

    assert await listed(silent) == ["v1"]


async def test_nobody_waits_for_a_token_of_a_silent_token_server(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as tokens:
        challenge = f'Bearer realm="{tokens.url}/token",service="s"'
        script.always("GET", "*", Reply(status=401, headers={"WWW-Authenticate": challenge}))
        tokens.always("GET", "/token", SILENT)
        store = opened(credentials=Credentials(username="robot", password="secret"), **SILENCE)
        for _ in range(2):
            await failures(store, 1)

        told = await failures(store, 5)

    assert len(tokens.asked) == 3
    assert len([one for one in told if "was not asked to" in one]) == 4
