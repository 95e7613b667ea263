"""Check the database without upgrading it."""

import socket
from pathlib import Path

from tagferry.app.accounts import require_content
from tagferry.app.startup.problem import Problem, problem_of
from tagferry.app.startup.secrets import check_secrets, key_file
from tagferry.db.engine import Database
from tagferry.errors import TagferryError
from tagferry.settings import Settings
from tagferry.workers import process_names


async def check_database(settings: Settings, *, serves: bool) -> tuple[list[Problem], set[int]]:
    """Check the database and the secrets in it.

    Args:
        settings: the configuration.
        serves: whether this process is to serve regions.

    Returns:
        The problems, and the ids of the processes of this kind that run on this machine by the database's records.
    """
    try:
        require_content(settings)
        database = Database(settings.effective_database_url)
    except TagferryError as error:
        return [problem_of("database", error)], set()
    try:
        if not _exists(database):
            sentence = f'the database "{database.url.database}" does not exist'
            remedy = "the first start creates it, and an administrator"
            if not settings.database_url and key_file(settings).exists():
                sentence = f"{sentence}, although there is data beside it"
                remedy = f"restore it from a backup; otherwise {remedy}, without users and organizations"
                return [Problem("database", sentence, remedy, "warning")], set()
            return [Problem("database", sentence, remedy, "note")], set()
        if not await database.check(thoroughly=True):
            sentence = "the database is of an older version, and is upgraded at the next start"
            return [Problem("database", sentence, "stop all processes and back it up before", "note")], set()
        return await check_secrets(settings, database), await _local_processes(database, serves=serves)
    except TagferryError as error:
        return [problem_of("database", error)], set()
    finally:
        await database.close()


def _exists(database: Database) -> bool:
    """Return whether there is a database to open; SQLite would create it."""
    return database.is_shared or Path(database.url.database or "").exists()


async def _local_processes(database: Database, *, serves: bool) -> set[int]:
    """Return the ids of the recorded processes of this machine, which may have ended."""
    found = (name.rpartition(":") for name in await process_names(database, serves=serves))
    return {int(number) for host, _, number in found if host == socket.gethostname() and number.isdecimal()}
