"""Connections to PostgreSQL: their timeouts on both sides, and connections outside the pool."""

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, event, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection as Connection

from tagferry.db.faults import denied_access, standby

if TYPE_CHECKING:
    from psycopg import AsyncConnection

try:
    from psycopg import Error as PostgresError
except ImportError:  # pragma: no cover - the extra `postgres` is not installed
    PostgresError = OSError  # type: ignore[assignment,misc]

__all__ = ["DENIED", "PostgresError", "connect", "connect_arguments", "prepare", "require_writable"]

DENIED = text("""
SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, relname AS name
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = current_schema() AND relkind IN ('r', 'p', 'S') AND NOT CASE relkind
    WHEN 'S' THEN has_sequence_privilege(pg_class.oid, 'USAGE, UPDATE')
    ELSE has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT')
        AND has_table_privilege(pg_class.oid, 'UPDATE') AND has_table_privilege(pg_class.oid, 'DELETE') END
ORDER BY kind DESC, name LIMIT 1
""")
"""Selects a table that the user may not read and change, or a sequence that the user may not take numbers from."""

_SERVER_SETTINGS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "11000",
    "idle_in_transaction_session_timeout": "10000",
    "jit": "off",
    "random_page_cost": "1.1",
}
"""The server ends a session whose machine does not respond for 11 seconds, or that is idle in a transaction for 10;
otherwise its locks would block all others. It compiles no statement: all of them read few rows, and compiling takes
several times as long as that, each time. A page costs nearly the same wherever it is, as in memory and on SSDs: with
PostgreSQL's default for hard disks, jobs of a repository are counted by reading the whole table."""
_CLIENT_TIMEOUTS = {
    "connect_timeout": 4,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11000,
}
"""The same on the client: a statement to an unreachable server fails after 11 seconds."""

_UNCHECKED_SECONDS = 1.0
"""Seconds that a connection may be idle in the pool and be used again without a check."""


def prepare(engine: Engine) -> None:
    """Configure the connections of an engine.

    A check before every use would take as long as most statements. If the server goes away, running statements fail,
    and so may statements of the next second; then all connections are replaced.
    """

    @event.listens_for(engine, "checkin")
    def _checkin(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("idle_since", time.monotonic()) > _UNCHECKED_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError(str(error)) from error


def connect_arguments(url: URL) -> dict[str, Any]:
    """Return the connection arguments in addition to the URL: the timeouts of both sides, and no compilation."""
    given = url.normalized_query
    options = " ".join(f"-c {name}={value}" for name, value in _SERVER_SETTINGS.items())
    # Options of the URL come last, so they take precedence.
    options = " ".join((options, *given.get("options", ())))
    return {name: value for name, value in _CLIENT_TIMEOUTS.items() if name not in given} | {"options": options}


async def connect(url: URL) -> "AsyncConnection":
    """Connect in autocommit mode, for one statement at a time; raises PostgresError."""
    from psycopg import AsyncConnection

    _, arguments = PGDialect_psycopg().create_connect_args(url)  # type: ignore[no-untyped-call]
    return await AsyncConnection.connect(**arguments | connect_arguments(url), autocommit=True)


async def require_writable(connection: Connection) -> None:
    """Check that the server accepts writes, and lets its user read and change all content; raises DatabaseFault."""
    is_read_only = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
    if await connection.scalar(text(is_read_only)):
        raise standby()
    if (denied := (await connection.execute(DENIED)).first()) is not None:
        raise denied_access(denied.kind, denied.name)
