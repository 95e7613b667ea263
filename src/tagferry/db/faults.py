"""Translate database errors into one sentence with advice for operators.

Other callers learn only that the database cannot be used or is damaged.
"""

import re
import sqlite3
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from tagferry.errors import DatabaseUnavailable

_CODE = 0xFF
"""The primary part of SQLite's extended error codes."""
_SQLITE = {
    5: 'the database "{name}" is locked by another process; stop that one, or try again later',
    6: 'the database "{name}" is locked by another process; stop that one, or try again later',
    8: 'the database "{name}" cannot be written; give the user who runs tagferry write access to it and to its folder',
    10: 'the disk of the database "{name}" failed ({text}); check it, and restore the database from a backup if needed',
    11: 'the database "{name}" is damaged; stop tagferry and restore it from a backup',
    13: 'the disk of the database "{name}" is full; free some space',
    14: 'the database "{name}" cannot be opened; give the user who runs tagferry access to it and to its folder',
    26: '"{name}" is damaged or not an SQLite database; restore it from a backup, or name another file in database_url',
}
_SQLITE_MOVED = (
    '"{text}", a file of the database, was replaced or deleted while tagferry uses it; stop tagferry, put the file '
    "back or restore a backup, and start tagferry again"
)
_DAMAGES = frozenset({11, 26})
_POSTGRES = {
    "28": "PostgreSQL refused the login ({text}); check the user and the password in database_url",
    "3D000": "PostgreSQL has no such database ({text}); create it with: createdb, or change database_url",
    "42501": "PostgreSQL refused access ({text}); make the user in database_url the owner of the database",
    "53300": "PostgreSQL accepts no more connections ({text}); raise its max_connections, or run fewer processes",
    "53100": "the disk of the database is full; free some space",
    "25006": "PostgreSQL accepts no writes ({text}); name the primary server in database_url, not a standby",
    "XX001": "the database is damaged ({text}); stop tagferry and restore it from a backup",
    "XX002": "an index of the database is damaged ({text}); repair it with REINDEX, or restore the database",
    "42P01": "the database lacks a table ({text}); restore it from a backup",
}
# A refused login has no code, only a text.
_POSTGRES_TEXTS = {
    "too many clients": "53300",
    "too many connections": "53300",
    "remaining connection slots": "53300",
    "read-only transaction": "25006",
    "password authentication failed": "28",
    "no password supplied": "28",
    "no pg_hba.conf entry": "28",
    'role "': "28",
    'database "': "3D000",
    "permission denied": "42501",
}
OLDEST_POSTGRES = 120000
"""The oldest supported `server_version_num`."""


class DatabaseFault(DatabaseUnavailable, SQLAlchemyError):
    """A translated driver error; also an SQLAlchemy error, for code that expects one."""


def fault_of(error: BaseException, url: URL) -> DatabaseFault | None:
    """Translate a driver's error; None if the statement is at fault rather than the database."""
    if isinstance(error, DBAPIError):
        error = error.orig or error
    text = error_line(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        if code == sqlite3.SQLITE_READONLY_DBMOVED:
            return DatabaseFault("the file of the database was replaced", detail=_SQLITE_MOVED.format(text=text))
        return _sqlite_fault(code & _CODE, text, url)
    if "sqlstate" in dir(error):
        return _postgres_fault(error, text)
    return None


def foreign_tables(url: URL, table: str) -> DatabaseFault:
    """Return the error for a database of another program."""
    detail = (
        f'{_shown(url)} contains tables of another program, such as "{table}"; name another database in database_url'
    )
    return DatabaseFault("the database cannot be used", detail=detail)


def too_old(version: int) -> DatabaseFault:
    """Return the error for a PostgreSQL server that is too old."""
    detail = f"PostgreSQL {version // 10000} is too old; tagferry needs version {OLDEST_POSTGRES // 10000} or later"
    return DatabaseFault("the database cannot be used", detail=detail)


def missing_table(url: URL, table: str) -> DatabaseFault:
    """Return the error for a database that has lost a table."""
    detail = f'the database "{url.database}" lacks the table {table}; stop tagferry and restore it from a backup'
    return DatabaseFault("the database is damaged", detail=detail, is_damaged=True)


def unsound(url: URL) -> DatabaseFault:
    """Return the error for an SQLite file that does not pass SQLite's own check."""
    return DatabaseFault("the database is damaged", detail=_SQLITE[11].format(name=url.database), is_damaged=True)


def denied_access(kind: str, name: str) -> DatabaseFault:
    """Return the error for a table or a sequence of PostgreSQL that its user may not change."""
    use = "read and change the table" if kind == "table" else "take numbers from the sequence"
    detail = f"PostgreSQL does not permit the user in database_url to {use} {name}; make that user its owner"
    return DatabaseFault("the database cannot be used", detail=detail)


def standby() -> DatabaseFault:
    """Return the error for a PostgreSQL server that accepts no writes."""
    text = "it is a standby, or its transactions are read-only"
    return DatabaseFault("the database cannot be used", detail=_POSTGRES["25006"].format(text=text))


def empty_file(file: Path) -> DatabaseFault:
    """Return the error for a file that used to hold a database."""
    detail = (
        f'the database "{file}" is empty, although there is data beside it; restore it from a backup, or delete the '
        "file to start without users and organizations"
    )
    return DatabaseFault("the database is damaged", detail=detail, is_damaged=True)


def _sqlite_fault(code: int, text: str, url: URL) -> DatabaseFault | None:
    name = url.database or ""
    if code == 1 and (missing := re.match(r"no such (table|column): (\S+)", text)):
        detail = f'the database "{name}" lacks the {missing[1]} {missing[2]}; restore it from a backup'
        return DatabaseFault("the database is damaged", detail=detail, is_damaged=True)
    if code not in _SQLITE:
        return None
    if code == 14 and Path(name).is_dir():
        detail = f'the database "{name}" is a directory; name a file in database_url'
    else:
        detail = _SQLITE[code].format(name=name, text=text)
    is_damaged = code in _DAMAGES
    message = "the database is damaged" if is_damaged else "the database cannot be used"
    return DatabaseFault(message, detail=detail, is_damaged=is_damaged)


def _postgres_fault(error: BaseException, text: str) -> DatabaseFault | None:
    if isinstance(error, IntegrityError):
        return None
    state = getattr(error, "sqlstate", None) or next(
        (state for part, state in _POSTGRES_TEXTS.items() if part in text), ""
    )
    template = _POSTGRES.get(state) or _POSTGRES.get(state[:2])
    if template is not None:
        is_damaged = state in ("XX001", "XX002", "42P01")
        message = "the database is damaged" if is_damaged else "the database cannot be used"
        return DatabaseFault(message, detail=template.format(text=text), is_damaged=is_damaged)
    if type(error).__name__ in ("OperationalError", "ConnectionTimeout") or state[:2] in ("08", "57"):
        advice = "check that PostgreSQL runs, and the host and the port in database_url"
        return DatabaseFault("the database does not answer", detail=f"the database does not answer: {text}; {advice}")
    return None


def error_line(error: BaseException) -> str:
    """Return the first line of a driver's message, which contains no password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = (lines[0] if lines else type(error).__name__).removeprefix("connection failed: ")
    return re.sub(r"\[Errno -?\d+\] ", "", line)


def _shown(url: URL) -> str:
    return f'"{url.database}"' if url.get_backend_name() == "sqlite" else f"the database {url.database}"
