"""Reads of an embedded registry that memory can answer need no query and no thread, from the socket to the file."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event

from tagferry.names import RepositoryName, Tag
from tagferry.registry.storage.page_cache import PageCache
from tagferry.registry.storage.store import DiskStore
from tests.support.deployment import NORTH, Deployment
from tests.support.images import image, push
from tests.support.raw_client import connected
from tests.unit.registry.storage.test_long_lists import settle

APP = RepositoryName("team/app")
ROUNDS = 200


@dataclass
class Waits:
    """The waits of the process.

    Attributes:
        statements: those that the database has executed.
        threads: the results that threads have returned.
    """

    statements: int = 0
    threads: int = 0


@pytest.fixture
async def waits(ferry: Deployment, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Waits]:
    counted, loop = Waits(), asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe

    def waking(*arguments: Any, **options: Any) -> Any:
        counted.threads += 1
        return wake(*arguments, **options)

    def executed(*_: object) -> None:
        counted.statements += 1

    # Every result of a thread comes back through this.
    monkeypatch.setattr(loop, "call_soon_threadsafe", waking)
    engine = ferry.app.accounts.database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", executed)
    yield counted
    event.remove(engine, "before_cursor_execute", executed)


@pytest.mark.skipif(not PageCache().is_usable, reason="this system cannot be asked for what is cached")
async def test_reads_that_hit_memory_take_no_query_and_no_thread(ferry: Deployment, waits: Waits):
    store = ferry.store(NORTH)
    assert isinstance(store, DiskStore)
    await push(store, APP, sample := image(), Tag("v1"))
    settle(store._layout.tags(APP))
    login = base64.b64encode(f"{ferry.admin.name}:{ferry.admin.password}".encode()).decode()
    small = sample.manifest.blobs[0].digest
    paths = [f"/v2/{APP}/manifests/v1", f"/v2/{APP}/manifests/{sample.digest}", f"/v2/{APP}/blobs/{small}"]
    paths += [f"/v2/{APP}/tags/list", "/v2/"]
    async with connected(ferry.urls[NORTH]) as client:
        for method in ("GET", "HEAD"):
            for path in paths:
                if (method, path) == ("HEAD", f"/v2/{APP}/tags/list"):
                    continue
                request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n\r\n".encode()
                # The first one reads; later ones may meet work in the background, which waits, too.
                for _ in range(ROUNDS):
                    before = Waits(waits.statements, waits.threads)
                    await client.send(request)
                    answer = await client.answer(has_body=method == "GET")
                    assert answer.status == 200, (method, path, answer)
                    if waits == before:
                        break
                assert waits == before, (method, path)
