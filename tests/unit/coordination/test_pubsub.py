"""Messages arrive when their transaction commits, in every process of the database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tagferry.coordination.pubsub import MessageBus, Topic, message_bus_of, number_topic
from tagferry.db.engine import Database
from tagferry.supervision import Supervisor
from tests.support.deployment import eventually

ENDED, WORK = number_topic("ended"), number_topic("work")


@dataclass
class Subscriber:
    """Collects the batches of a topic."""

    batches: list[Sequence[int]] = field(default_factory=list)

    async def receives(self, *messages: int) -> None:
        async def has_received() -> bool:
            return [message for batch in self.batches for message in batch] == list(messages)

        await eventually(has_received)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tagferry.db'}"
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
    opened = message_bus_of(database, Supervisor())
    await opened.open()
    yield opened
    await opened.close()


async def test_messages_arrive_when_the_session_commits(database: Database, bus: MessageBus):
    subscriber, other = Subscriber(), Subscriber()
    bus.subscribe(ENDED, subscriber.batches.append)
    bus.subscribe(WORK, other.batches.append)

    async with database.write() as session:
        await bus.publish(session, ENDED, [1, 2])
        await asyncio.sleep(0.05)
        await subscriber.receives()

    await subscriber.receives(1, 2)
    await other.receives()


async def test_messages_of_a_session_that_fails_are_not_sent(database: Database, bus: MessageBus):
    subscriber = Subscriber()
    bus.subscribe(ENDED, subscriber.batches.append)

    async def send(message: int, *, fails: bool) -> None:
        async with database.write() as session:
            await bus.publish(session, ENDED, [message])
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        await send(1, fails=True)
    await send(2, fails=False)

    await subscriber.receives(2)


async def test_more_messages_than_fit_at_once_all_arrive(database: Database, bus: MessageBus):
    subscriber = Subscriber()
    bus.subscribe(ENDED, subscriber.batches.append)
    messages = range(10_000)

    async with database.write() as session:
        await bus.publish(session, ENDED, messages)

    await subscriber.receives(*messages)


async def test_a_subscriber_that_may_have_missed_messages_gets_an_empty_batch(
    postgres, postgres_template, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.coordination.pubsub._RECONNECT_SECONDS", 0.02)
    name = postgres.new_database(like=postgres_template)
    database = Database(postgres.url(name))
    bus, subscriber = message_bus_of(database, Supervisor()), Subscriber()
    bus.subscribe(ENDED, subscriber.batches.append)
    await bus.open()
    gaps = len(subscriber.batches)
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'", database=name)

    async def has_gap() -> bool:
        return len(subscriber.batches) > gaps

    await eventually(has_gap)
    async with database.write() as session:
        await bus.publish(session, ENDED, [1])
    await subscriber.receives(1)
    await bus.close()
    await database.close()


async def test_malformed_messages_count_as_lost_and_later_ones_arrive(database: Database, bus: MessageBus):
    subscriber = Subscriber()
    bus.subscribe(ENDED, subscriber.batches.append)
    malformed = Topic("ended", encode=str, decode=str)

    async with database.write() as session:
        await bus.publish(session, malformed, ["seven"])
    async with database.write() as session:
        await bus.publish(session, ENDED, [8])

    await subscriber.receives(8)
    assert [] in subscriber.batches
