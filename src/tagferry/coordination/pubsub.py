"""Messages between those who work on one database: within this process, or through PostgreSQL between all of them.

A message only saves waiting. It may be lost while a connection is down, and then everybody is told so by an empty
one: whoever gets that looks for themselves.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, Protocol

import structlog
from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.db.engine import Database
from tagferry.db.postgres import PostgresError, connect
from tagferry.supervision import Supervisor

CHANNEL = "tagferry"
"""PostgreSQL's name for where all messages go."""
_PAYLOAD_LIMIT = 7000
"""Characters; PostgreSQL takes less than 8,000 bytes."""
_RECONNECT_SECONDS = 1.0

Receiver = Callable[[str], None]

log = structlog.get_logger(__name__)


class MessageBus(Protocol):
    """Sends a message to everybody who subscribed to its topic, here and in other processes."""

    def subscribe(self, topic: str, receiver: Receiver) -> None:
        """Call the receiver with every message of this topic, and with an empty one where some may have been lost."""
        ...

    async def publish(self, session: AsyncSession, topic: str, messages: Iterable[str]) -> None:
        """Send these when the session commits. They may arrive together, joined by commas."""
        ...

    async def open(self) -> None:
        """Begin to receive."""
        ...

    async def close(self) -> None:
        """Stop receiving."""
        ...


class _Subscriptions:
    def __init__(self) -> None:
        self._receivers: dict[str, list[Receiver]] = defaultdict(list)

    def subscribe(self, topic: str, receiver: Receiver) -> None:
        self._receivers[topic].append(receiver)

    def deliver(self, topic: str, payload: str) -> None:
        for receiver in self._receivers[topic]:
            receiver(payload)

    def report_gap(self) -> None:
        for topic in list(self._receivers):
            self.deliver(topic, "")


class LocalMessageBus(_Subscriptions):
    """MessageBus within one process."""

    async def publish(self, session: AsyncSession, topic: str, messages: Iterable[str]) -> None:
        """See `MessageBus.publish`."""
        payloads = list(_joined(messages))

        def deliver(_session: object) -> None:
            for payload in payloads:
                self.deliver(topic, payload)

        event.listen(session.sync_session, "after_commit", deliver, once=True)

    async def open(self) -> None:
        """See `MessageBus.open`."""

    async def close(self) -> None:
        """See `MessageBus.close`."""


class PostgresMessageBus(_Subscriptions):
    """MessageBus through PostgreSQL's NOTIFY, on one connection that listens."""

    def __init__(self, database: Database, supervisor: Supervisor) -> None:
        super().__init__()
        self._supervisor = supervisor
        self._database = database
        self._listener: asyncio.Task[NoReturn] | None = None

    async def publish(self, session: AsyncSession, topic: str, messages: Iterable[str]) -> None:
        """See `MessageBus.publish`."""
        for payload in _joined(messages):
            await session.execute(select(func.pg_notify(CHANNEL, on_channel(topic, payload))))

    async def open(self) -> None:
        """See `MessageBus.open`; returns when messages arrive, or when the first attempt has failed."""
        attempted = asyncio.Event()
        self._listener = self._supervisor.start(
            "receiving messages", lambda: self._listen(attempted), is_essential=True
        )
        await attempted.wait()

    async def close(self) -> None:
        """See `MessageBus.close`."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    async def _listen(self, attempted: asyncio.Event) -> None:
        while True:
            try:
                async with await connect(self._database.url) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    attempted.set()
                    self.report_gap()
                    async for notification in connection.notifies():
                        topic, _, payload = notification.payload.partition(" ")
                        self.deliver(topic, payload)
            except PostgresError as error:
                log.warning("the database sends no signals for now", reason=str(error))
            attempted.set()
            await asyncio.sleep(_RECONNECT_SECONDS)


def message_bus_of(database: Database, supervisor: Supervisor | None = None) -> MessageBus:
    """Return the message bus for this kind of database."""
    return PostgresMessageBus(database, supervisor or Supervisor()) if database.is_shared else LocalMessageBus()


def on_channel(topic: str, payload: str) -> str:
    """A message as it goes over PostgreSQL's channel."""
    return f"{topic} {payload}"


def _joined(messages: Iterable[str]) -> Iterator[str]:
    """The messages in few payloads."""
    payload = ""
    for message in messages:
        if payload and len(payload) + len(message) >= _PAYLOAD_LIMIT:
            yield payload
            payload = ""
        payload = f"{payload},{message}" if payload else message
    if payload:
        yield payload
