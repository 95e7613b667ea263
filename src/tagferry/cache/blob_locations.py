"""Blob locations in the database: they survive restarts, and all processes of the database share them."""

import asyncio
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import bindparam, delete, func, select, text, tuple_
from sqlalchemy.exc import SQLAlchemyError

from tagferry.db.batches import error_summary, write_bisecting
from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import BlobLocationRow
from tagferry.events import SparseEvents
from tagferry.names import Digest, RepositoryName

LIMIT = 1_000_000
"""Locations that are kept; they take about 350 MB in SQLite."""
MAX_AGE = timedelta(days=90)
"""Age at which a location is deleted, since the blob was last seen there."""

_PAUSE_SECONDS = 2.0
_WRITTEN_PER_TRANSACTION = 500
_DIGESTS_PER_QUERY = 10_000
_PENDING_LIMIT = 100_000
_PRUNING_INTERVAL = 1000
"""Locations written between two rounds of pruning; each round deletes more than that."""
_PRUNED_PER_ROUND = 2000

Location = tuple[str, str, str]
"""A registry's address, a digest and a repository, in the order of the table's key."""

_FIND = (
    select(BlobLocationRow.digest, BlobLocationRow.repository)
    .where(BlobLocationRow.address == bindparam("address"))
    .where(BlobLocationRow.digest.in_(bindparam("digests", expanding=True)))
    .order_by(BlobLocationRow.seen_at.desc())
)
_UPSERT = text(
    "INSERT INTO blob_locations (address, digest, repository, seen_at) "
    "VALUES (:address, :digest, :repository, :seen_at) "
    "ON CONFLICT (address, digest, repository) DO UPDATE SET seen_at = excluded.seen_at"
).bindparams(bindparam("seen_at", type_=UtcDateTime))

log = SparseEvents(__name__)


class DatabaseBlobLocations:
    """The `BlobLocationStore` of `tagferry.copy.mount_sources` in the database, written in batches with a delay.

    Args:
        database: stores the locations.
        limit: the number of locations that are kept; the oldest are deleted first.
    """

    def __init__(self, database: Database, *, limit: int = LIMIT) -> None:
        self._database = database
        self._limit = limit
        self._pending: dict[Location, datetime | None] = {}
        self._writer: asyncio.Task[None] | None = None
        self._until_pruning = 0

    async def find(self, address: str, digests: Collection[Digest]) -> dict[Digest, list[RepositoryName]]:
        """Implement `BlobLocationStore.find`; one query, and one more for every ten thousand blobs."""
        found: dict[Digest, list[RepositoryName]] = {}
        wanted = list(digests)
        try:
            for start in range(0, len(wanted), _DIGESTS_PER_QUERY):
                chunk = wanted[start : start + _DIGESTS_PER_QUERY]
                for digest, repository in await self._database.rows(_FIND, {"address": address, "digests": chunk}):
                    if self._pending.get((address, digest, repository), ...) is not None:
                        found.setdefault(Digest(digest), []).append(RepositoryName(repository))
        except SQLAlchemyError as error:
            log.warning("could not read blob locations", reason=str(error))
        return found

    def add(self, address: str, repository: RepositoryName, digest: Digest) -> None:
        """Implement `BlobLocationStore.add`."""
        self._change(address, repository, digest, seen_at=datetime.now(UTC))

    def remove(self, address: str, repository: RepositoryName, digest: Digest) -> None:
        """Implement `BlobLocationStore.remove`."""
        self._change(address, repository, digest, seen_at=None)

    async def close(self) -> None:
        """Write the pending changes."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._write_pending()

    def _change(self, address: str, repository: RepositoryName, digest: Digest, *, seen_at: datetime | None) -> None:
        if len(self._pending) >= _PENDING_LIMIT:
            return
        self._pending[address, digest, repository] = seen_at
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        while self._pending:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._write_pending()

    async def _write_pending(self) -> None:
        """Write in short transactions, so that more important writers do not wait long."""
        try:
            while self._pending:
                wanted = dict(islice(self._pending.items(), _WRITTEN_PER_TRANSACTION))
                batch = await write_bisecting(wanted.items(), self._write, kind="blob location")
                for location, seen_at in (*batch.written, *(one for one, _ in batch.refused)):
                    if self._pending.get(location, ...) is seen_at:
                        del self._pending[location]
                if batch.refused:
                    log.warning(
                        "the database refused blob locations", lost=len(batch.refused), reason=batch.refused[0][1]
                    )
                if batch.error is not None:
                    raise batch.error
                self._until_pruning -= len(wanted)
                if self._until_pruning <= 0:
                    self._until_pruning = _PRUNING_INTERVAL
                    await self._prune()
        except Exception as error:
            log.warning("could not write blob locations", lost=len(self._pending), reason=error_summary(error))
            self._pending.clear()

    async def _write(self, changes: Iterable[tuple[Location, datetime | None]]) -> None:
        # Sort by the key: two processes that write the same rows must not deadlock.
        batch = dict(changes)
        locations = sorted(batch)
        seen = [_row(location, seen_at) for location in locations if (seen_at := batch[location]) is not None]
        removed = [location for location in locations if batch[location] is None]
        key = tuple_(BlobLocationRow.address, BlobLocationRow.digest, BlobLocationRow.repository)
        async with self._database.write() as session:
            if seen:
                await session.execute(_UPSERT, seen)
            if removed:
                await session.execute(delete(BlobLocationRow).where(key.in_(removed)))

    async def _prune(self) -> None:
        """Delete some of the oldest locations above the limit or the age; the next round deletes more."""
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(BlobLocationRow)) or 0
            oldest = await session.execute(
                select(BlobLocationRow.id, BlobLocationRow.seen_at)
                .order_by(BlobLocationRow.seen_at)
                .limit(_PRUNED_PER_ROUND)
            )
            cutoff = datetime.now(UTC) - MAX_AGE
            doomed = [
                row_id
                for position, (row_id, seen_at) in enumerate(oldest)
                if position < total - self._limit or seen_at < cutoff
            ]
        if doomed:
            async with self._database.write() as session:
                await session.execute(delete(BlobLocationRow).where(BlobLocationRow.id.in_(doomed)))


def _row(location: Location, seen_at: datetime) -> dict[str, object]:
    address, digest, repository = location
    return {"address": address, "digest": digest, "repository": repository, "seen_at": seen_at}
