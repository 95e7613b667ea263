"""A database of each kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tagferry.db.engine import Database
from tagferry.db.tables import Base
from tests.support.postgres import PostgresServer
from tests.support.schemas import inspected, sqlite_in


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    name: str = request.getfixturevalue("postgres_shared")
    # A database of its own for each test would take most of the time, and gigabytes.
    tables, url = ", ".join(Base.metadata.tables), server.url(name)
    inspected(url, lambda connection: connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY")))
    return url


@pytest.fixture(scope="session")
def postgres_shared(postgres: PostgresServer, postgres_template: str) -> str:
    """The name of the PostgreSQL database that these tests use one after the other."""
    return postgres.new_database(like=postgres_template)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()
