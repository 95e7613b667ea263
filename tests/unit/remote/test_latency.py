"""Only the registry itself determines the latency, not the hosts that it redirects to."""

import pytest

from tagferry.names import RepositoryName
from tagferry.remote import Credentials
from tests.support.images import blob, read
from tests.support.scripted_registry import Reply, ScriptedRegistry, said, scripted_registry
from tests.unit.remote.conftest import Opening

APP = RepositoryName("team/app")
CONTENT = b"layer"
LATENCY = 0.05
TAGS = "/v2/team/app/tags/list"


@pytest.fixture(autouse=True)
def near_registries() -> None:
    """Let registries have the latency that they have."""


async def test_a_fast_storage_host_does_not_lower_the_registry_s_latency(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as storage:
        led_on = Reply(status=307, headers={"Location": f"{storage.url}/data"}, delay=LATENCY)
        script.always("GET", f"/v2/team/app/blobs/{blob(CONTENT).digest}", led_on)
        storage.always("GET", "/data", Reply(body=CONTENT))
        store = opened()

        assert await read(store, APP, blob(CONTENT)) == CONTENT

    assert len(storage.asked) == 1
    assert store.high_latency


async def test_a_fast_token_server_does_not_lower_the_registry_s_latency(script: ScriptedRegistry, opened: Opening):
    async with scripted_registry() as tokens:
        challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token",service="script"'}
        script.always("GET", "/v2/", Reply(status=401, headers=challenge, delay=LATENCY))
        script.on("GET", TAGS, said({"tags": ["a"]}, delay=LATENCY))
        tokens.always("GET", "/token", said({"token": "t", "expires_in": 300}))
        store = opened(credentials=Credentials(username="carol", password="secret"))

        assert [tag async for tag in store.list_tags(APP)] == ["a"]

    assert len(tokens.asked) == 1
    assert store.high_latency
