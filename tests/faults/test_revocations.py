"""A thousand revocations by another process, on both databases: each next request is refused."""

from itertools import cycle, islice
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tagferry.db.engine import Database
from tests.support.access_server import AccessServer
from tests.support.postgres import PostgresServer
from tests.support.revocations import KINDS, OtherProcess
from tests.support.schemas import sqlite_in

CHECKS = 1000
SECRET_KEY = Fernet.generate_key().decode()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.new_database(like=request.getfixturevalue("postgres_template")))


@pytest.mark.timeout(1200)
async def test_none_of_a_thousand_revoked_requests_is_let_in(url: str, monkeypatch: pytest.MonkeyPatch):
    database = Database(url)
    served = AccessServer(database, SECRET_KEY, monkeypatch)
    let_in, remembered = [], 0
    with OtherProcess.started(url, SECRET_KEY) as other:
        for number, kind in enumerate(islice(cycle(KINDS), CHECKS)):
            shown = await other.prepare(kind, number)
            assert await served.lets_in(shown), kind
            served.statements = 0
            assert await served.lets_in(shown), kind
            remembered += served.statements == 0
            await other.revoke(kind, number)
            if await served.lets_in(shown):
                let_in.append(kind)
    assert let_in == []
    # In the other cases, the recorded use of an access key came in between.
    assert remembered > CHECKS / 2
    await served.keys.close()
    await database.close()
