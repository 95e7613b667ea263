import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import AsyncAdaptedQueuePool

from tagferry.db import sqlite
from tagferry.db.engine import Database
from tagferry.db.tables import DomainRow, TokenRow, UserRow
from tagferry.errors import DatabaseUnavailable, Invalid, Unavailable
from tests.support.postgres import PostgresServer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tagferry.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{file}")
    await opened.migrate()
    yield opened
    await opened.close()


async def names(database: Database) -> list[str]:
    async with database.read() as session:
        return sorted(await session.scalars(select(DomainRow.name)))


async def test_the_next_session_sees_what_was_written(database: Database):
    async with database.write() as session:
        session.add(DomainRow(id="1", name="acme"))

    assert await names(database) == ["acme"]


async def test_an_error_rolls_the_session_back(database: Database):
    async def write() -> None:
        async with database.write() as session:
            session.add(DomainRow(id="1", name="acme"))
            await session.flush()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await write()

    assert await names(database) == []


async def test_a_cancelled_session_is_rolled_back_and_does_not_block_the_next(database: Database):
    written = asyncio.Event()

    async def write() -> None:
        async with database.write() as session:
            session.add(DomainRow(id="1", name="acme"))
            await session.flush()
            written.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await written.wait()
    writing.cancel()
    await asyncio.wait([writing])

    async with database.write() as session:
        session.add(DomainRow(id="2", name="other"))
    assert await names(database) == ["other"]


async def test_a_writer_that_is_cancelled_at_any_moment_does_not_block_the_next(database: Database):
    async def write(name: str) -> None:
        async with database.write() as session:
            session.add(DomainRow(id=name, name=name))
            await session.flush()
            await session.execute(select(DomainRow.name))
            await session.run_sync(lambda sync: sync.connection().execute(select(DomainRow.name)))

    for attempt in range(60):
        writing = asyncio.create_task(write(f"cancelled-{attempt}"))
        await asyncio.sleep(attempt * 0.0001)
        writing.cancel()
        await asyncio.wait([writing])
        async with asyncio.timeout(60):
            await write(f"next-{attempt}")

    assert len([name for name in await names(database) if name.startswith("next")]) == 60


async def test_a_writer_that_is_cancelled_again_and_again_leaves_no_transaction_behind(database: Database, file: Path):
    async with database.read() as session:
        await session.execute(text("PRAGMA busy_timeout=60000"))
    begins = asyncio.Event()

    async def write() -> None:
        async with database.write() as session:
            begins.set()
            await session.execute(text("INSERT INTO domains (id, name) VALUES ('1', 'acme')"))

    with closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(write())
        await begins.wait()
        for _ in range(3):
            await turns_of_the_loop()
            writing.cancel()
        await turns_of_the_loop()
        assert not writing.done()

        other.execute("ROLLBACK")
        await asyncio.wait([writing])
        assert writing.cancelled()
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    assert await names(database) == []


async def turns_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_concurrent_writers_wait_for_each_other_instead_of_failing(database: Database):
    async with database.write() as session:
        session.add(DomainRow(id="counter", name="0"))

    async def add_one() -> None:
        async with database.write() as session:
            row = await session.get_one(DomainRow, "counter")
            await asyncio.sleep(0.001)
            row.name = str(int(row.name) + 1)

    await asyncio.gather(*(add_one() for _ in range(12)))

    assert await names(database) == ["12"]


async def test_readers_are_not_blocked_by_a_writer(database: Database):
    async with database.write() as session:
        session.add(DomainRow(id="1", name="acme"))
        await session.flush()
        async with asyncio.timeout(60):
            assert await names(database) == []

    assert await names(database) == ["acme"]


async def test_two_processes_can_write_to_one_file(database: Database, file: Path):
    other = Database(f"sqlite:///{file}")

    async def add(writer: Database, number: int) -> None:
        async with writer.write() as session:
            await session.scalars(select(DomainRow.id))
            session.add(DomainRow(id=str(number), name=str(number)))

    await asyncio.gather(*(add(writer, number) for number, writer in enumerate([database, other] * 5)))
    await other.close()

    assert len(await names(database)) == 10


async def test_foreign_keys_are_enforced(database: Database):
    row = UserRow(
        id="1", domain_id="none", name="carol", password_hash="", is_admin=False, created_at=datetime.now(UTC)
    )

    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(row)


async def test_times_are_read_in_utc_whatever_their_zone(database: Database):
    moment = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=8)))
    async with database.write() as session:
        session.add(DomainRow(id="1", name="acme"))
        await session.flush()
        session.add(UserRow(id="1", domain_id="1", name="carol", password_hash="", is_admin=False, created_at=moment))
        await session.flush()
        session.add(TokenRow(token_hash="t", user_id="1", issued_at=moment, expires_at=moment))

    async with database.read() as session:
        (token,) = await session.scalars(select(TokenRow))
        later = await session.scalars(select(TokenRow).where(TokenRow.expires_at > moment + timedelta(seconds=1)))
        assert later.all() == []
    assert token.expires_at == moment
    assert token.expires_at.tzinfo is UTC


async def test_the_file_survives_a_power_loss_and_allows_readers_beside_a_writer(database: Database):
    async with database.read() as session:
        pragmas = {
            name: (await session.execute(text(f"PRAGMA {name}"))).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_a_database_that_responds_is_available(database: Database):
    await database.ping()


async def test_a_database_that_does_not_respond_is_unavailable(tmp_path: Path):
    nowhere = Database(f"sqlite:///{tmp_path / 'none' / 'tagferry.db'}")

    with pytest.raises(Unavailable, match="the database cannot be used"):
        await nowhere.ping()
    await nowhere.close()


async def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    broken = Database(f"sqlite:///{tmp_path / 'folder'}")

    with pytest.raises(Unavailable, match='folder" is a directory; name a file in database_url'):
        await broken.migrate()
    await broken.close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "nosuch://host/name", "sqlite+nosuch:///file", "sqlite+pysqlite:///file"]
)
def test_a_url_that_cannot_be_used_is_refused(url: str):
    with pytest.raises(Invalid, match="database_url must be a SQLAlchemy URL, as sqlite"):
        Database(url)


@pytest.mark.parametrize("driver", ["mysql", "mysql+aiomysql", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_a_database_or_a_driver_that_tagferry_does_not_use_is_named(driver: str):
    with pytest.raises(Invalid) as refused:
        Database(f"{driver}://me:hunter2@host/name")

    assert refused.value.message.endswith(f': got "{driver}"')


@pytest.mark.parametrize("url", ["sqlite://", "sqlite+aiosqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str):
    with pytest.raises(Invalid, match="database_url must name a file"):
        Database(url)


@pytest.mark.parametrize(
    "url", ["nosuch://me:hunter2@host/name", "me:hunter2@host", "postgresql+psycopg://me:p@ss:hunter2@host/name"]
)
def test_the_error_for_an_unusable_url_does_not_contain_its_password(url: str):
    with pytest.raises(Invalid) as refused:
        Database(url)

    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("tcp_keepalives_idle", "5"),
        ("tcp_keepalives_interval", "2"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "11000"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("statement_timeout", "0"),
        ("jit", "off"),
        ("random_page_cost", "1.1"),
    ],
)
async def test_the_settings_of_sessions_on_the_server(setting: str, value: str, postgres: PostgresServer):
    database = Database(postgres.url("postgres"))
    async with database.read() as session:
        assert await session.scalar(text(f"SHOW {setting}")) == value
    await database.close()


async def test_a_process_suspended_in_a_transaction_does_not_block_others(postgres: PostgresServer):
    shortly = "?options=-c%20idle_in_transaction_session_timeout%3D200"
    standing, other = Database(postgres.url("postgres") + shortly), Database(postgres.url("postgres"))
    lock = text("SELECT pg_advisory_xact_lock(1)")

    async def stand_still() -> None:
        async with standing.write() as session:
            await session.execute(lock)
            async with asyncio.timeout(60), other.write() as another:
                await another.execute(lock)
            await session.execute(lock)

    with pytest.raises(DBAPIError, match="idle-in-transaction timeout"):
        await stand_still()
    await standing.close()
    await other.close()


async def processes(database: Database, number: int) -> list[int]:
    """Return the server processes of that many concurrent connections."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(database.read()) for _ in range(number)]
        return [await session.scalar(text("SELECT pg_backend_pid()")) or 0 for session in sessions]


async def test_idle_connections_that_the_server_closed_are_replaced(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.db.postgres._UNCHECKED_SECONDS", 0.0)
    database = Database(postgres.url(postgres.new_database()))
    before = await processes(database, 3)
    await shut(postgres, before)

    async with database.write() as session:
        await session.execute(text("CREATE TABLE written (id int)"))
    after = await processes(database, 3)

    assert not set(before) & set(after)
    await database.close()


async def test_all_connections_are_replaced_if_a_recently_used_one_fails(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tagferry.db.postgres._UNCHECKED_SECONDS", 60.0)
    database = Database(postgres.url(postgres.new_database()))
    before = await processes(database, 3)
    await shut(postgres, before)

    with pytest.raises(DatabaseUnavailable, match="the database does not answer"):
        await processes(database, 1)
    after = await processes(database, 3)

    assert not set(before) & set(after)
    await database.close()


async def shut(postgres: PostgresServer, numbers: list[int]) -> None:
    """Terminate these processes of the server, and wait until they have ended."""
    for number in numbers:
        end = f"SELECT pg_terminate_backend({number}, 10000)"
        await asyncio.to_thread(postgres.run, end, database="postgres")


async def test_writes_of_one_process_wait_for_each_other_without_a_limit(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.0)
    database = Database(f"sqlite:///{file}")
    await database.migrate()

    async def write(number: int) -> None:
        async with database.write() as session:
            session.add(DomainRow(id=str(number), name=f"domain {number}"))

    async with database.write() as session:
        session.add(DomainRow(id="first", name="a first one"))
        await session.flush()
        others = [asyncio.create_task(write(number)) for number in range(20)]
        done, _ = await asyncio.wait(others, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        assert not done
    await asyncio.gather(*others)

    assert len(await names(database)) == 21
    await database.close()


async def test_a_reader_that_is_cancelled_at_any_moment_returns_its_connection(postgres: PostgresServer):
    database = Database(postgres.url("postgres"))

    async def read() -> None:
        async with database.read() as session:
            await session.scalar(text("SELECT 1"))

    # A connection that is being opened or configured for reading must not leak either.
    for pause in (0.0, 0.0002, 0.0005) * 3:
        for turns in range(20):
            reading = asyncio.create_task(read())
            for _ in range(turns):
                await asyncio.sleep(pause)
            reading.cancel()
            await asyncio.wait([reading])
            pool = database._engine.pool
            assert isinstance(pool, AsyncAdaptedQueuePool)
            assert pool.checkedout() == 0
    await database.close()


async def test_connections_to_sqlite_stay_open_for_the_next_burst(database: Database, monkeypatch: pytest.MonkeyPatch):
    opened = 0
    connect = sqlite3.connect

    def counted(*arguments: object, **options: object) -> sqlite3.Connection:
        nonlocal opened
        opened += 1
        return connect(*arguments, **options)  # type: ignore[call-overload,no-any-return]

    async def read() -> None:
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.05)

    monkeypatch.setattr(sqlite3, "connect", counted)
    for _ in range(3):
        await asyncio.gather(*(read() for _ in range(12)))
    assert 0 < opened <= 12
