"""Connections to PostgreSQL: when both sides give each other up, and those of one's own, past the pool."""

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import InvalidatePoolError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

try:
    from psycopg import Error as PostgresError
except ImportError:  # pragma: no cover - the extra `postgres` is not installed
    PostgresError = OSError  # type: ignore[assignment,misc]

__all__ = ["PostgresError", "connect", "connect_arguments", "prepare"]

_LOST_AFTER = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "11000",
    "idle_in_transaction_session_timeout": "10000",
}
"""The server ends a session whose machine has not been heard of for 11 seconds, and one that stands still for 10 within
a transaction: else what it has locked would stay locked for all others."""
_GIVEN_UP_AFTER = {
    "connect_timeout": 4,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11000,
}
"""The same from this side: a statement to a server that cannot be reached fails after 11 seconds."""

_TRUSTED_SECONDS = 1.0
"""How long a connection may have rested in the pool and be used again without a question whether it still lives."""


def prepare(engine: Engine) -> None:
    """Have an engine's connections be as tagferry needs them.

    A question before every use would be as long on its way as most statements. Where the server goes away, what is
    under way fails, and so may what begins within the next second; all connections are made anew then.
    """

    @event.listens_for(engine, "checkin")
    def _checkin(_connection: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("rests_since", time.monotonic()) > _TRUSTED_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError(str(error)) from error


def connect_arguments(url: URL) -> dict[str, Any]:
    """What to connect with besides what the URL says, so that neither side holds on to the other when it is gone."""
    given = url.normalized_query
    options = " ".join(f"-c {name}={value}" for name, value in _LOST_AFTER.items())
    # What the URL asks for comes later, and so it wins.
    options = " ".join((options, *given.get("options", ())))
    return {name: value for name, value in _GIVEN_UP_AFTER.items() if name not in given} | {"options": options}


async def connect(url: URL) -> "AsyncConnection":
    """Connect for one statement at a time, each its own transaction; raises PostgresError."""
    from psycopg import AsyncConnection

    _, arguments = PGDialect_psycopg().create_connect_args(url)  # type: ignore[no-untyped-call]
    return await AsyncConnection.connect(**arguments | connect_arguments(url), autocommit=True)
