"""What is told to others, and when."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tagferry.coordination.pubsub import MessageBus, message_bus_of
from tagferry.db.engine import Database
from tests.support.deployment import eventually


@dataclass
class Ear:
    """Somebody who listens to a topic."""

    heard: list[str] = field(default_factory=list)

    async def hears(self, *messages: str) -> None:
        async def has_heard() -> bool:
            return [message for payload in self.heard if payload for message in payload.split(",")] == list(messages)

        await eventually(has_heard, seconds=5)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'tagferry.db'}"
    server = request.getfixturevalue("postgres")
    found: str = server.url(server.new_database())
    return found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url)
    yield opened
    await opened.close()


@pytest.fixture
async def bus(database: Database) -> AsyncIterator[MessageBus]:
    opened = message_bus_of(database)
    await opened.open()
    yield opened
    await opened.close()


async def test_messages_arrive_when_the_session_commits(database: Database, bus: MessageBus):
    ear, elsewhere = Ear(), Ear()
    bus.subscribe("ended", ear.heard.append)
    bus.subscribe("work", elsewhere.heard.append)

    async with database.write() as session:
        await bus.publish(session, "ended", ["1", "2"])
        await asyncio.sleep(0.05)
        await ear.hears()

    await ear.hears("1", "2")
    await elsewhere.hears()


async def test_messages_of_a_session_that_fails_are_not_sent(database: Database, bus: MessageBus):
    ear = Ear()
    bus.subscribe("ended", ear.heard.append)

    async def send(message: str, *, fails: bool) -> None:
        async with database.write() as session:
            await bus.publish(session, "ended", [message])
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        await send("1", fails=True)
    await send("2", fails=False)

    await ear.hears("2")


async def test_more_messages_than_fit_at_once_all_arrive(database: Database, bus: MessageBus):
    ear = Ear()
    bus.subscribe("ended", ear.heard.append)
    messages = [str(number) for number in range(10_000)]

    async with database.write() as session:
        await bus.publish(session, "ended", messages)

    await ear.hears(*messages)


async def test_who_may_have_missed_something_is_told_so(postgres, postgres_template, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.coordination.pubsub._RECONNECT_SECONDS", 0.02)
    name = postgres.new_database(like=postgres_template)
    database = Database(postgres.url(name))
    bus, ear = message_bus_of(database), Ear()
    bus.subscribe("ended", ear.heard.append)
    await bus.open()
    gaps = len(ear.heard)
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'", database=name)

    async def is_told() -> bool:
        return len(ear.heard) > gaps

    await eventually(is_told, seconds=5)
    async with database.write() as session:
        await bus.publish(session, "ended", ["1"])
    await ear.hears("1")
    await bus.close()
    await database.close()
