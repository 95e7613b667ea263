"""A connection that changes nothing: no rows, no schema, and for SQLite no files, also if it opens a database first."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, NullPool, create_engine, text
from sqlalchemy.exc import ArgumentError, InvalidRequestError

from tagferry.db import postgres
from tagferry.db.url import URL_RULE
from tagferry.errors import Invalid, NotFound

_BUSY_SECONDS = 2.0


@contextmanager
def read_only(url: URL) -> Iterator[Connection]:
    """Connect to a database for reading. It blocks, so call it in a thread.

    Raises:
        NotFound: there is no such file.
        Invalid: the URL cannot be used.
        SQLAlchemyError: the driver's error; see `tagferry.db.faults.fault_of`.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        if is_sqlite:
            file = Path(url.database or "")
            engine = create_engine(url.set(drivername="sqlite"), creator=lambda: _open(file), poolclass=NullPool)
        else:
            arguments = postgres.connect_arguments(url)
            engine = create_engine(url, connect_args=arguments, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    except (ArgumentError, InvalidRequestError, ImportError) as error:
        raise Invalid("database_url", f"{URL_RULE} ({error})") from None
    if is_sqlite and not Path(url.database or "").is_file():
        raise NotFound("database", url.database or "")
    with engine.connect() as connection:
        if not is_sqlite:
            connection.execute(text("SET default_transaction_read_only = on"))
        yield connection


def _open(path: Path) -> sqlite3.Connection:
    """Open a file for reading.

    Readers of a write-ahead log create its index if it is missing. Without a log no process has the database open, so
    nothing changes it meanwhile, and it can be read as it is.
    """
    options = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
