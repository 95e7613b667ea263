"""A revocation by another process counts at the next request, also if the last answer came from memory."""

from collections.abc import AsyncIterator

import pytest
from cryptography.fernet import Fernet

from tagferry.db.engine import Database
from tests.support.access_server import AccessServer
from tests.support.revocations import KINDS, OtherProcess

SECRET_KEY = Fernet.generate_key().decode()


@pytest.fixture
async def server(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AccessServer]:
    opened = AccessServer(database, SECRET_KEY, monkeypatch)
    yield opened
    await opened.keys.close()


async def test_a_revocation_by_another_process_holds_for_the_next_request(
    database: Database, database_url: str, server: AccessServer
):
    with OtherProcess.started(database_url, SECRET_KEY) as other:
        for number, kind in enumerate(KINDS):
            shown = await other.prepare(kind, number)
            assert await server.lets_in(shown), kind
            assert await server.lets_in(shown), kind

            await other.revoke(kind, number)

            assert not await server.lets_in(shown), kind


async def test_a_request_that_is_answered_from_memory_executes_no_statement_and_waits_for_no_thread(
    database: Database, database_url: str, server: AccessServer
):
    with OtherProcess.started(database_url, SECRET_KEY) as other:
        for number, kind in enumerate(KINDS):
            shown = await other.prepare(kind, number)
            # The first request verifies a password, and the second one reads the user.
            assert await server.lets_in(shown)
            assert await server.lets_in(shown)
            await server.keys.close()
            server.statements = server.thread_calls = 0

            for _ in range(5):
                assert await server.lets_in(shown)

            assert (server.statements, server.thread_calls) == (0, 0), kind
