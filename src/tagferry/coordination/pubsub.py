"""Messages between the processes of one database: within this process, or through PostgreSQL to all of them.

A message only saves waiting. It can be lost while a connection is down; subscribers then get an empty batch, and check
the database themselves.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from sqlalchemy import bindparam, event, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tagferry.db.engine import Database
from tagferry.db.postgres import PostgresError, connect
from tagferry.events import SparseEvents
from tagferry.supervision import Supervisor

CHANNEL = "tagferry"
"""The PostgreSQL channel of all messages."""
_PAYLOAD_LIMIT = 7000
"""Characters; PostgreSQL accepts less than 8,000 bytes."""
_NOTIFY = select(func.pg_notify(CHANNEL, bindparam("payload")))
_RECONNECT_SECONDS = 1.0
_SEPARATOR = ","

Message = TypeVar("Message")
Handler = Callable[[Sequence[Message]], None]
"""Receives a batch of messages; an empty one means that messages may have been lost."""

log = SparseEvents(__name__)


@dataclass(frozen=True, slots=True)
class Topic(Generic[Message]):
    """A kind of message.

    Attributes:
        name: the name of the topic on the channel.
        encode: writes a message as text without commas.
        decode: reads a message.
    """

    name: str
    encode: Callable[[Message], str]
    decode: Callable[[str], Message]


def number_topic(name: str) -> Topic[int]:
    """Return a topic whose messages are numbers."""
    return Topic(name, encode=str, decode=int)


class MessageBus(Protocol):
    """Delivers messages to the subscribers of their topic, in this and in other processes."""

    def subscribe(self, topic: Topic[Message], handler: Handler[Message]) -> None:
        """Call the handler with the messages of this topic, and with none if some may have been lost."""
        ...

    async def publish(self, session: AsyncSession, topic: Topic[Message], messages: Iterable[Message]) -> None:
        """Send messages when the session commits. They may arrive in one batch."""
        ...

    async def open(self) -> None:
        """Start to receive."""
        ...

    async def close(self) -> None:
        """Stop receiving."""
        ...


class _Subscriptions:
    def __init__(self) -> None:
        self._handlers: dict[str, list[tuple[Topic[Any], Handler[Any]]]] = defaultdict(list)

    def subscribe(self, topic: Topic[Message], handler: Handler[Message]) -> None:
        self._handlers[topic.name].append((topic, handler))

    def deliver(self, name: str, texts: Sequence[str]) -> None:
        for topic, handler in self._handlers[name]:
            try:
                batch = [topic.decode(text) for text in texts]
            except ValueError:
                # Everyone who can connect to the database can send one. The subscriber checks the database itself.
                log.warning("ignored malformed messages", topic=name)
                batch = []
            handler(batch)

    def report_gap(self) -> None:
        for name in list(self._handlers):
            self.deliver(name, ())


class LocalMessageBus(_Subscriptions):
    """Messages within one process."""

    async def publish(self, session: AsyncSession, topic: Topic[Message], messages: Iterable[Message]) -> None:
        """Implement `MessageBus.publish`."""
        texts = [topic.encode(message) for message in messages]
        if texts:
            event.listen(
                session.sync_session, "after_commit", lambda _session: self.deliver(topic.name, texts), once=True
            )

    async def open(self) -> None:
        """Implement `MessageBus.open`."""

    async def close(self) -> None:
        """Implement `MessageBus.close`."""


class PostgresMessageBus(_Subscriptions):
    """Messages through PostgreSQL's NOTIFY, received on one connection."""

    def __init__(self, database: Database, supervisor: Supervisor) -> None:
        super().__init__()
        self._supervisor = supervisor
        self._database = database
        self._listener: asyncio.Task[NoReturn] | None = None

    async def publish(self, session: AsyncSession, topic: Topic[Message], messages: Iterable[Message]) -> None:
        """Implement `MessageBus.publish`."""
        for payload in _payloads(topic, messages):
            await session.execute(_NOTIFY, {"payload": payload})

    async def open(self) -> None:
        """Implement `MessageBus.open`; returns when messages arrive, or when the first attempt has failed."""
        attempted = asyncio.Event()
        self._listener = self._supervisor.start(
            "receiving messages", lambda: self._listen(attempted), is_essential=True
        )
        await attempted.wait()

    async def close(self) -> None:
        """Implement `MessageBus.close`."""
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
                        name, _, texts = notification.payload.partition(" ")
                        self.deliver(name, list(filter(None, texts.split(_SEPARATOR))))
            except PostgresError as error:
                log.warning("lost the connection for messages", reason=str(error))
            attempted.set()
            await asyncio.sleep(_RECONNECT_SECONDS)


def message_bus_of(database: Database, supervisor: Supervisor) -> MessageBus:
    """Return the message bus for this kind of database."""
    return PostgresMessageBus(database, supervisor) if database.is_shared else LocalMessageBus()


def payload_of(topic: Topic[Message], message: Message) -> str:
    """Return the payload of a single message on PostgreSQL's channel."""
    return f"{topic.name} {topic.encode(message)}"


def _payloads(topic: Topic[Message], messages: Iterable[Message]) -> Iterator[str]:
    """Join messages to as few payloads as possible."""
    joined = ""
    for text in map(topic.encode, messages):
        if joined and len(joined) + len(text) >= _PAYLOAD_LIMIT:
            yield f"{topic.name} {joined}"
            joined = ""
        joined = f"{joined}{_SEPARATOR}{text}" if joined else text
    if joined:
        yield f"{topic.name} {joined}"
