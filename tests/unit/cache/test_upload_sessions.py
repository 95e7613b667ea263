"""Upload sessions are kept in the database for the next process."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from tagferry.cache.upload_sessions import KEPT_FOR, DatabaseUploadCheckpoints
from tagferry.db.engine import Database
from tagferry.db.tables import UploadSessionRow
from tagferry.names import Digest, RepositoryName

TARGET, ELSEWHERE = "https://target.example", "https://elsewhere.example"
APP, SIBLING = RepositoryName("team/app"), RepositoryName("team/sibling")
FIRST, SECOND = Digest.of(b"first"), Digest.of(b"second")
LOCATION = f"{TARGET}/v2/team/app/blobs/uploads/1?_state=s3cret"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


async def rows(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(UploadSessionRow)) or 0


async def test_the_last_session_is_loaded_for_the_same_blob_repository_and_registry(
    database: Database,
):
    await DatabaseUploadCheckpoints(database, TARGET).save(APP, FIRST, "https://target.example/earlier")
    await DatabaseUploadCheckpoints(database, TARGET).save(APP, FIRST, LOCATION)
    kept = DatabaseUploadCheckpoints(database, TARGET)

    assert await kept.load(APP, FIRST) == LOCATION
    assert await kept.load(APP, SECOND) is None
    assert await kept.load(SIBLING, FIRST) is None
    assert await DatabaseUploadCheckpoints(database, ELSEWHERE).load(APP, FIRST) is None


async def test_only_the_cleared_session_is_deleted(database: Database):
    kept = DatabaseUploadCheckpoints(database, TARGET)
    for repository, digest in ((APP, FIRST), (APP, SECOND), (SIBLING, FIRST)):
        await kept.save(repository, digest, LOCATION)

    await kept.clear(APP, FIRST)
    await DatabaseUploadCheckpoints(database, ELSEWHERE).clear(APP, SECOND)

    assert await kept.load(APP, FIRST) is None
    assert await kept.load(APP, SECOND) == await kept.load(SIBLING, FIRST) == LOCATION


async def test_a_session_expires_after_a_day_and_is_deleted_when_the_next_is_saved(database: Database):
    await DatabaseUploadCheckpoints(database, ELSEWHERE, clock=at(NOON)).save(APP, FIRST, LOCATION)
    later = NOON + KEPT_FOR

    assert await DatabaseUploadCheckpoints(database, ELSEWHERE, clock=at(later)).load(APP, FIRST) == LOCATION

    later += timedelta(seconds=1)
    assert await DatabaseUploadCheckpoints(database, ELSEWHERE, clock=at(later)).load(APP, FIRST) is None
    await DatabaseUploadCheckpoints(database, TARGET, clock=at(later)).save(APP, SECOND, LOCATION)
    assert await rows(database) == 1


async def test_an_unavailable_database_raises_no_error_and_the_location_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    kept = DatabaseUploadCheckpoints(empty, TARGET)

    await kept.save(APP, FIRST, LOCATION)
    assert await kept.load(APP, FIRST) is None
    await kept.clear(APP, FIRST)

    await empty.close()
    logged = caplog.text + "".join(capfd.readouterr())
    assert "lacks the table upload_sessions" in logged
    # The same event of a registry has one line a minute.
    assert logged.count("DatabaseFault") == 1
    assert "s3cret" not in logged


async def test_a_refused_row_does_not_log_the_location_either(
    database: Database, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    # PostgreSQL appends the whole row to the error.
    refuse = (
        "ALTER TABLE upload_sessions ADD CONSTRAINT refused CHECK (location = '')"
        if database.is_shared
        else "CREATE TRIGGER t BEFORE INSERT ON upload_sessions BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    async with database.write() as session:
        await session.execute(text(refuse))

    await DatabaseUploadCheckpoints(database, TARGET).save(APP, FIRST, LOCATION)

    if database.is_shared:
        async with database.write() as session:
            await session.execute(text("ALTER TABLE upload_sessions DROP CONSTRAINT refused"))
    logged = caplog.text + "".join(capfd.readouterr())
    assert "refused" in logged
    assert "s3cret" not in logged
