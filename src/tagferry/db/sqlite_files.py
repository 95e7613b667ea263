"""The files of an SQLite database, which must stay the same while it is open.

SQLite continues with files that were renamed or deleted, so what it writes is lost when the process ends. It notices
this only without a write-ahead log.
"""

import errno
import os
import sqlite3

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})

Identity = tuple[int, int]


class SqliteFiles:
    """The file of a database, and its write-ahead log.

    Args:
        database: the path of the file.
    """

    def __init__(self, database: str) -> None:
        self._database = os.path.abspath(database)  # noqa: PTH100 - checked for each statement
        self._log = f"{self._database}-wal"
        self._identity: Identity | None = None

    def opened(self) -> None:
        """Remember the file that the first connection has opened; the others must open the same."""
        if self._identity is None:
            self._identity = _identity(self._database)

    def log(self) -> Identity | None:
        """Return the identity of the log, which is kept while any connection is open; None if there is none."""
        return _identity(self._log)

    def check(self, log: Identity | None = None) -> None:
        """Raise sqlite3.OperationalError, with SQLite's own code for this, if a file is no longer the same.

        Args:
            log: the log that the connection has opened, if any.
        """
        for path, expected in ((self._database, self._identity), (self._log, log)):
            if expected is not None and _is_other(path, expected):
                error = sqlite3.OperationalError(path)
                error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
                raise error


def _identity(path: str) -> Identity | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_other(path: str, expected: Identity) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        # Of other errors, SQLite itself reports those that matter to it.
        return error.errno in _MISSING
    return (status.st_dev, status.st_ino) != expected
