from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tagferry.remote import CapabilityStore, Endpoint, RemoteStore, Retry, UploadCheckpointStore
from tests.support.scripted_registry import ScriptedRegistry, scripted_registry

Opening = Callable[..., RemoteStore]

IMPATIENCE = 1.0
"""Seconds without an answer after which a request fails, where other requests of the test succeed: on a busy machine,
this process may stand still for a fraction of a second."""


class Pauses(list[float]):
    """A sleep that returns at once and records the seconds."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture(autouse=True)
def near_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no registry seem far away, however slow this machine is: for that, blobs are sent and read in other ways."""
    monkeypatch.setattr("tagferry.remote.transport.requests.HIGH_LATENCY_SECONDS", 60.0)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def script() -> AsyncIterator[ScriptedRegistry]:
    async with scripted_registry() as running:
        yield running


@pytest.fixture
async def opened(script: ScriptedRegistry, pauses: Pauses) -> AsyncIterator[Opening]:
    """Opens stores at the scripted registry that retry without waiting; they are closed at the end."""
    stores: list[RemoteStore] = []

    def open_store(
        *,
        attempts: int = 3,
        capabilities: CapabilityStore | None = None,
        checkpoints: UploadCheckpointStore | None = None,
        sleep: Callable[[float], Awaitable[None]] = pauses,
        **terms: Any,
    ) -> RemoteStore:
        retry = Retry(attempts=attempts, sleep=sleep, jitter=lambda: 0.0)
        endpoint = Endpoint(**{"name": "script", "url": script.url, **terms})
        stores.append(RemoteStore(endpoint, retry=retry, capabilities=capabilities, checkpoints=checkpoints))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture
def store(opened: Opening) -> RemoteStore:
    return opened()
