"""A registry that is unavailable for a while fails no job: the job waits, gives the reason, and continues."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tagferry.names import Tag
from tagferry.registry.api.app import RegistryApp
from tagferry.registry.storage.store import DiskStore
from tests.support.deployment import NORTH, RELEASE, SOUTH, Deployment, deployed, eventually, name_in
from tests.support.images import image, push
from tests.support.open_authorizer import OpenAuthorizer
from tests.support.serving import serving

MIB = 1024 * 1024
SIZE = 24 * MIB
V1 = Tag("v1")
APP = name_in("team")


class GoneAway(Exception):
    """The registry's process has ended."""


@dataclass
class Away:
    """An application that can be unavailable, also from a given byte of a body on.

    Attributes:
        is_away: whether every request is answered 503, as by a proxy in front.
        leaves_at: bytes of bodies after which it becomes unavailable in the middle of one.
        received: received bytes of bodies.
    """

    app: ASGIApp
    is_away: bool = False
    leaves_at: int | None = None
    received: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Any:
            message = await receive()
            self.received += len(message.get("body", b""))
            if self.leaves_at is not None and self.received > self.leaves_at:
                self.leaves_at, self.is_away = None, True
                raise GoneAway
            return message

        if scope["type"] == "http" and self.is_away:
            await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        await self.app(scope, counted if scope["type"] == "http" else receive, send)


@dataclass(frozen=True)
class Ferry:
    """A running tagferry with a region whose registry can be unavailable."""

    deployment: Deployment
    registry: Away
    disk: DiskStore

    async def started(self) -> int:
        (job_id,) = await self.deployment.start_sync(APP, [V1], RELEASE)
        return job_id

    async def waits_again(self, job_id: int) -> dict[str, Any]:
        """Return the job once an attempt has failed."""

        async def job() -> dict[str, Any]:
            async with self.deployment.client() as client:
                found = (await client.sync_jobs(APP.namespace, APP.repository, [job_id]))[job_id]
            return found if found["failures"] and found["status"] == "waiting" else {}

        return await eventually(job, seconds=60)


@asynccontextmanager
async def ferry_with(folder: Path, region: str) -> AsyncIterator[Ferry]:
    disk = await DiskStore.open(folder / "registry")
    registry = Away(RegistryApp(disk, OpenAuthorizer()))
    async with serving(registry) as url:
        regions: dict[str, dict[str, Any]] = {
            NORTH: {"listen": ""},
            SOUTH: {"listen": ""},
            region: {"listen": "", "registry": url},
        }
        async with deployed(folder / "data", regions=regions) as deployment:
            yield Ferry(deployment, registry, disk)
    await disk.close()


@pytest.mark.parametrize("region", [NORTH, SOUTH], ids=["the source", "the target"])
async def test_a_registry_that_comes_back_gets_the_tag(tmp_path: Path, region: str):
    async with ferry_with(tmp_path, region) as ferry:
        await push(ferry.deployment.store(NORTH), APP, image(), V1)
        ferry.registry.is_away = True

        job_id = await ferry.started()
        waiting = await ferry.waits_again(job_id)

        assert f"registry {region} answered 503" in waiting["lastError"]
        assert waiting["nextAttemptAt"] is None or waiting["nextAttemptAt"] > waiting["createdAt"]
        assert waiting["endedAt"] is None
        ferry.registry.is_away = False
        (ended,) = await ferry.deployment.ended_jobs(APP, [job_id])
        assert ended["status"] == "success"
        assert ended["attempts"] == ended["failures"] + 1


async def test_bytes_sent_before_an_outage_of_the_target_are_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.remote.blobs.checkpoint.SAVE_SECONDS", 0.001)
    layer = random.Random(3).randbytes(SIZE)
    async with ferry_with(tmp_path, SOUTH) as ferry:
        await push(ferry.deployment.store(NORTH), APP, image(layer), V1)
        ferry.registry.leaves_at = SIZE // 2

        job_id = await ferry.started()
        await ferry.waits_again(job_id)
        ferry.registry.is_away = False
        (ended,) = await ferry.deployment.ended_jobs(APP, [job_id])

        assert ended["status"] == "success"
        assert ferry.registry.received < SIZE + 4 * MIB
