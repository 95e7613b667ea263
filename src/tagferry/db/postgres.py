"""Connections to PostgreSQL of one's own, past the pool: for what lives as long as its connection does."""

from typing import TYPE_CHECKING

from sqlalchemy import URL
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

if TYPE_CHECKING:
    from psycopg import AsyncConnection

try:
    from psycopg import Error as PostgresError
except ImportError:  # pragma: no cover - the extra `postgres` is not installed
    PostgresError = OSError  # type: ignore[assignment,misc]

__all__ = ["PostgresError", "connect"]

_LOST_AFTER = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "11000",
}
"""The server ends a session whose machine has not been heard of for 11 seconds, and frees its locks."""


async def connect(url: URL) -> "AsyncConnection":
    """Connect for one statement at a time, each its own transaction; raises PostgresError."""
    from psycopg import AsyncConnection

    _, arguments = PGDialect_psycopg().create_connect_args(url)  # type: ignore[no-untyped-call]
    options = " ".join(f"-c {name}={value}" for name, value in _LOST_AFTER.items())
    given = arguments.pop("options", "")
    defaults = {"connect_timeout": 4, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    return await AsyncConnection.connect(**defaults | arguments, options=f"{given} {options}".strip(), autocommit=True)
