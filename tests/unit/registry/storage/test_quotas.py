"""The bytes of an organization are counted again only before a refusal."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tagferry.errors import QuotaExceeded
from tagferry.names import RepositoryName
from tagferry.quotas import Limits
from tagferry.registry.storage import quotas
from tagferry.registry.storage.quotas import Usage
from tagferry.registry.storage.store import DiskStore
from tests.support.images import blob, opening

APP = RepositoryName("org/app")
NEVER = 3600.0


class Allowed:
    """A quota of ten bytes for every organization."""

    async def limits(self, namespace: str) -> Limits:
        return Limits(bytes=10)

    async def recorded(self, namespace: str) -> Set[str]:
        return set()


@pytest.fixture
async def limited(store: DiskStore) -> DiskStore:
    """A store in which an organization has used its ten bytes, just counted."""
    store.quotas.source = Allowed()
    await write(store, b"1234567890")
    return store


@pytest.fixture
def counts(limited: DiskStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The organizations that were counted, in order."""
    counted: list[str] = []
    look: Callable[[str], Usage] = limited.quotas._measure

    def noted(namespace: str) -> Usage:
        counted.append(namespace)
        return look(namespace)

    monkeypatch.setattr(limited.quotas, "_measure", noted)
    return counted


async def write(store: DiskStore, content: bytes) -> None:
    await store.write_blob(APP, blob(content), opening(content))


async def refused(store: DiskStore) -> None:
    async with asyncio.timeout(60):
        with pytest.raises(QuotaExceeded, match="uses 10 B of 10 B"):
            await store.quotas.require(APP, 1)


def pausing(monkeypatch: pytest.MonkeyPatch, *, longest: float, factor: float) -> None:
    monkeypatch.setattr(quotas, "_LONGEST_PAUSE", longest)
    monkeypatch.setattr(quotas, "_PAUSE", factor)


async def test_the_first_refusal_is_counted_at_once_and_the_next_needs_no_count(
    limited: DiskStore, counts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing(monkeypatch, longest=NEVER, factor=1e12)
    for _ in range(3):
        await refused(limited)
    assert counts == ["org"]


async def test_the_pause_between_counts_depends_on_their_duration(
    limited: DiskStore, counts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing(monkeypatch, longest=NEVER, factor=9)
    for _ in range(20):
        limited.quotas.record_deletion()
        await refused(limited)
    assert len(counts) == 20


async def test_counts_are_not_repeated_within_the_pause(
    limited: DiskStore, counts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing(monkeypatch, longest=NEVER, factor=1e12)
    await refused(limited)
    limited.quotas.record_deletion()
    waiting = [asyncio.create_task(limited.quotas.require(APP, 1)) for _ in range(10)]
    _, pending = await asyncio.wait(waiting, timeout=0.2)
    assert len(pending) == 10
    assert counts == ["org"]
    for task in waiting:
        task.cancel()


async def test_waiting_requests_share_a_count(limited: DiskStore, counts: list[str]) -> None:
    limited.quotas.record_deletion()
    answers = await asyncio.gather(*(limited.quotas.require(APP, 1) for _ in range(50)), return_exceptions=True)
    assert {type(one) for one in answers} == {QuotaExceeded}
    assert counts == ["org"]


async def test_freed_space_is_available_at_once(limited: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pausing(monkeypatch, longest=NEVER, factor=1e12)
    await limited.delete_repository(APP)
    async with asyncio.timeout(60):
        await write(limited, b"0987654321")


@contextmanager
def unreadable(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Let a directory fail to be read."""
    scandir = os.scandir

    def fail(path: Any) -> AbstractContextManager[Any]:
        if Path(path).name == name:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    with monkeypatch.context() as failing:
        failing.setattr(os, "scandir", fail)
        yield


@pytest.mark.parametrize("name", ["app", "sha256", "org"])
async def test_what_cannot_be_read_is_logged_and_keeps_its_last_size(
    limited: DiskStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pausing(monkeypatch, longest=0.0, factor=0.0)
    with unreadable(monkeypatch, name), capture_logs() as logs:
        await refused(limited)
        usage = await limited.quotas.usage("org")
        assert usage.bytes == 10
        assert usage.unknown

    event = "an organization's quotas are checked without what could not be read"
    assert "org" in [entry["organization"] for entry in logs if entry["event"] == event]


async def test_what_could_not_be_read_at_first_is_counted_once_it_can(
    limited: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing(monkeypatch, longest=0.0, factor=0.0)
    limited.quotas._usages.clear()
    with unreadable(monkeypatch, "sha256"):
        await limited.quotas.require(APP, 1)

    await refused(limited)
    assert (await limited.quotas.usage("org")).unknown == 0


async def test_requests_that_wait_share_a_count_that_stays_inexact(
    limited: DiskStore, counts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing(monkeypatch, longest=0.0, factor=0.0)
    with unreadable(monkeypatch, "sha256"):
        await asyncio.gather(*(refused(limited) for _ in range(20)))

    assert len(counts) <= 2
