"""Where blobs were seen, on record: it outlives a restart, and all processes on one database share it."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
from sqlalchemy import bindparam, delete, func, select, text, tuple_
from sqlalchemy.exc import SQLAlchemyError

from tagferry.db.batches import error_summary, write_bisecting
from tagferry.db.columns import UtcDateTime
from tagferry.db.engine import Database
from tagferry.db.tables import BlobLocationRow
from tagferry.names import Digest, RepositoryName

LIMIT = 1_000_000
"""Locations that are kept; in SQLite that many take about 350 MB."""
LONGEST = timedelta(days=90)
"""How long a location is kept after the blob was last seen there."""

_PAUSE_SECONDS = 2.0
_WRITTEN_AT_ONCE = 500
_ASKED_AT_ONCE = 10_000
_PENDING_LIMIT = 100_000
_PRUNING_INTERVAL = 1000
"""Locations written between two rounds of pruning, each of which deletes more than that."""
_PRUNED_AT_ONCE = 2000

Place = tuple[str, str, str]
"""A registry's address, a digest and a repository: what makes a location, in the order of the table's key."""

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

log = structlog.get_logger(__name__)


class DatabaseBlobLocations:
    """The `BlobLocationStore` of `tagferry.copy.mount_sources` in the database; written behind, in batches.

    Args:
        database: where they are kept.
        addresses: each store's registry by the store's name. Locations are kept under the address, so that a region
            which is pointed elsewhere does not inherit; about a store that is not here, nothing is kept.
        limit: how many are kept, the latest ones.
    """

    def __init__(self, database: Database, addresses: Mapping[str, str], *, limit: int = LIMIT) -> None:
        self._database = database
        self._addresses = addresses
        self._limit = limit
        self._pending: dict[Place, datetime | None] = {}
        self._writer: asyncio.Task[None] | None = None
        self._until_pruning = 0

    async def find(self, store: str, digests: Collection[Digest]) -> dict[Digest, list[RepositoryName]]:
        """See `BlobLocationStore.find`; one query, and one more for every ten thousand blobs."""
        address = self._addresses.get(store)
        found: dict[Digest, list[RepositoryName]] = {}
        if address is None:
            return found
        wanted = list(digests)
        try:
            for start in range(0, len(wanted), _ASKED_AT_ONCE):
                asked = wanted[start : start + _ASKED_AT_ONCE]
                for digest, repository in await self._database.rows(_FIND, {"address": address, "digests": asked}):
                    if self._pending.get((address, digest, repository), ...) is not None:
                        found.setdefault(Digest(digest), []).append(RepositoryName(repository))
        except SQLAlchemyError as error:
            log.warning("the locations of blobs could not be read", reason=str(error))
        return found

    def add(self, store: str, repository: RepositoryName, digest: Digest) -> None:
        """See `BlobLocationStore.add`."""
        self._change(store, repository, digest, seen_at=datetime.now(UTC))

    def remove(self, store: str, repository: RepositoryName, digest: Digest) -> None:
        """See `BlobLocationStore.remove`."""
        self._change(store, repository, digest, seen_at=None)

    async def close(self) -> None:
        """Write what has not been written yet."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._write_pending()

    def _change(self, store: str, repository: RepositoryName, digest: Digest, *, seen_at: datetime | None) -> None:
        address = self._addresses.get(store)
        if address is None or len(self._pending) >= _PENDING_LIMIT:
            return
        self._pending[address, digest, repository] = seen_at
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        while self._pending:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._write_pending()

    async def _write_pending(self) -> None:
        """Write in short transactions, so that nobody who writes something of worth waits for long."""
        try:
            while self._pending:
                wanted = dict(islice(self._pending.items(), _WRITTEN_AT_ONCE))
                batch = await write_bisecting(wanted.items(), self._write, kind="blob location")
                for place, seen_at in (*batch.written, *(one for one, _ in batch.refused)):
                    if self._pending.get(place, ...) is seen_at:
                        del self._pending[place]
                if batch.refused:
                    log.warning(
                        "locations of blobs cannot be kept", lost=len(batch.refused), reason=batch.refused[0][1]
                    )
                if batch.error is not None:
                    raise batch.error
                self._until_pruning -= len(wanted)
                if self._until_pruning <= 0:
                    self._until_pruning = _PRUNING_INTERVAL
                    await self._prune()
        except Exception as error:
            log.warning(
                "the locations of blobs could not be kept", lost=len(self._pending), reason=error_summary(error)
            )
            self._pending.clear()

    async def _write(self, changes: Iterable[tuple[Place, datetime | None]]) -> None:
        # In the key's order: two processes that write the same rows must not wait for each other in a circle.
        batch = dict(changes)
        places = sorted(batch)
        seen = [_row(place, seen_at) for place in places if (seen_at := batch[place]) is not None]
        gone = [place for place in places if batch[place] is None]
        key = tuple_(BlobLocationRow.address, BlobLocationRow.digest, BlobLocationRow.repository)
        async with self._database.write() as session:
            if seen:
                await session.execute(_UPSERT, seen)
            if gone:
                await session.execute(delete(BlobLocationRow).where(key.in_(gone)))

    async def _prune(self) -> None:
        """Delete the oldest of what is too much or too old; what is left of that is for the next round."""
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(BlobLocationRow)) or 0
            oldest = await session.execute(
                select(BlobLocationRow.id, BlobLocationRow.seen_at)
                .order_by(BlobLocationRow.seen_at)
                .limit(_PRUNED_AT_ONCE)
            )
            cutoff = datetime.now(UTC) - LONGEST
            doomed = [
                row_id
                for place, (row_id, seen_at) in enumerate(oldest)
                if place < total - self._limit or seen_at < cutoff
            ]
        if doomed:
            async with self._database.write() as session:
                await session.execute(delete(BlobLocationRow).where(BlobLocationRow.id.in_(doomed)))


def _row(place: Place, seen_at: datetime) -> dict[str, object]:
    address, digest, repository = place
    return {"address": address, "digest": digest, "repository": repository, "seen_at": seen_at}
