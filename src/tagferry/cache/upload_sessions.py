"""The URLs of unfinished upload sessions in the database, by registry address."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, delete, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import UploadSessionRow
from tagferry.events import SparseEvents
from tagferry.names import Digest, RepositoryName

KEPT_FOR = timedelta(days=1)
"""Lifetime of a kept session; registries expire their sessions after hours or days."""

_UPSERT = text(
    "INSERT INTO upload_sessions (address, repository, digest, location, updated_at) "
    "VALUES (:address, :repository, :digest, :location, :updated_at) "
    "ON CONFLICT (address, repository, digest) "
    "DO UPDATE SET location = excluded.location, updated_at = excluded.updated_at"
).bindparams(bindparam("updated_at", type_=UtcDateTime))

log = SparseEvents(__name__)


class DatabaseUploadCheckpoints:
    """The `UploadCheckpointStore` of the registry at this address, in the database.

    Args:
        database: stores the sessions.
        address: the registry's address.
        leaving: set once this process stops.
        clock: returns the current time.
    """

    saves_at_once = False

    def __init__(
        self,
        database: Database,
        address: str,
        *,
        leaving: asyncio.Event | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._address = address
        self._leaving = leaving
        self._clock = clock

    @property
    def is_stopping(self) -> bool:
        """Implement `UploadCheckpointStore.is_stopping`."""
        return self._leaving is not None and self._leaving.is_set()

    async def load(self, repository: RepositoryName, digest: Digest) -> str | None:
        """Implement `UploadCheckpointStore.load`."""
        try:
            async with self._database.read() as session:
                row = await session.get(UploadSessionRow, (self._address, repository, digest))
        except (SQLAlchemyError, ValueError) as error:
            self._warn(error)
            return None
        return row.location if row is not None and row.updated_at >= self._clock() - KEPT_FOR else None

    async def save(self, repository: RepositoryName, digest: Digest, location: str) -> None:
        """Implement `UploadCheckpointStore.save`; also deletes expired sessions."""
        now = self._clock()
        row = {
            "address": self._address,
            "repository": repository,
            "digest": digest,
            "location": location,
            "updated_at": now,
        }
        try:
            async with self._database.write() as session:
                await session.execute(_UPSERT, row)
                await session.execute(delete(UploadSessionRow).where(UploadSessionRow.updated_at < now - KEPT_FOR))
        except (SQLAlchemyError, ValueError) as error:
            self._warn(error)

    async def clear(self, repository: RepositoryName, digest: Digest) -> None:
        """Implement `UploadCheckpointStore.clear`."""
        key = {"address": self._address, "repository": repository, "digest": digest}
        try:
            async with self._database.write() as session:
                await session.execute(delete(UploadSessionRow).filter_by(**key))
        except (SQLAlchemyError, ValueError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        # Do not log secrets: SQLAlchemy's message has the statement's parameters, and PostgreSQL's second line the row.
        reason = str(error.orig).partition("\n")[0] if isinstance(error, DBAPIError) else type(error).__name__
        log.warning("could not access an upload session", key=self._address, registry=self._address, reason=reason)
