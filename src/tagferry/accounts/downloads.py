"""Download counts of repositories in embedded registries."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping

from sqlalchemy import delete, select, text

from tagferry.accounts.repository_rows import rows_of
from tagferry.db.batches import error_summary, write_bisecting
from tagferry.db.engine import Database
from tagferry.db.tables import RepositoryDownloadsRow
from tagferry.events import SparseEvents
from tagferry.names import Namespace, RegionId, Repository, RepositoryName

_PAUSE_SECONDS = 2.0
_ADD = text(
    "INSERT INTO repository_downloads (region, namespace, name, downloads) "
    "VALUES (:region, :namespace, :name, :downloads) "
    "ON CONFLICT (region, namespace, name) "
    "DO UPDATE SET downloads = repository_downloads.downloads + excluded.downloads"
)

log = SparseEvents(__name__)


class Downloads:
    """Counts downloads in memory and writes the counts in the background, so that downloads do not wait.

    A killed process loses the counts of its last two seconds. Processes that share a database add up.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted: Counter[tuple[RegionId, RepositoryName]] = Counter()
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    def count(self, region: RegionId, name: RepositoryName) -> None:
        """Count a download from an existing repository; returns at once."""
        self._counted[region, name] += 1
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon())

    async def of(self, region: RegionId, name: RepositoryName) -> int:
        """Return the download count of a repository."""
        return (await self.of_some(region, [name])).get(name, 0)

    async def of_some(self, region: RegionId, names: Collection[RepositoryName]) -> Mapping[RepositoryName, int]:
        """Return the counts of those of these repositories that have downloads."""
        row = RepositoryDownloadsRow
        found: Counter[RepositoryName] = Counter()
        # The lock keeps counts that are being written from being missed or counted twice.
        async with self._writing, self._database.read() as session:
            for part, condition in rows_of(row, region, names):
                rows = await session.execute(select(row.namespace, row.name, row.downloads).where(condition))
                counts = {RepositoryName(f"{namespace}/{name}"): number for namespace, name, number in rows}
                found.update({name: number for name, number in counts.items() if name in part})
            for name in names:
                if number := self._counted.get((region, name), 0):
                    found[name] += number
        return found

    async def in_region(
        self, region: RegionId, namespaces: Collection[Namespace] | None
    ) -> Mapping[RepositoryName, int]:
        """Return the counts of repositories with downloads, in these organizations or in all."""
        row = RepositoryDownloadsRow
        wanted = select(row.namespace, row.name, row.downloads).where(row.region == region)
        if namespaces is not None:
            wanted = wanted.where(row.namespace.in_(namespaces))
        # The lock keeps counts that are being written from being missed or counted twice.
        async with self._writing, self._database.read() as session:
            rows = await session.execute(wanted)
            found = Counter({RepositoryName(f"{namespace}/{name}"): number for namespace, name, number in rows})
            for (where, name), number in self._counted.items():
                if where == region and (namespaces is None or name.namespace in namespaces):
                    found[name] += number
        return found

    async def forget(self, region: RegionId, namespace: Namespace, name: Repository | None = None) -> None:
        """Reset the count of a deleted repository, or of all repositories of an organization."""
        gone = delete(RepositoryDownloadsRow).where(
            RepositoryDownloadsRow.region == region, RepositoryDownloadsRow.namespace == namespace
        )
        if name is not None:
            gone = gone.where(RepositoryDownloadsRow.name == name)
        async with self._writing:
            async with self._database.write() as session:
                await session.execute(gone)
            for place in list(self._counted):
                if place[0] == region and place[1].namespace == namespace and name in (None, place[1].repository):
                    del self._counted[place]

    async def close(self) -> None:
        """Write the remaining counts."""
        if self._writer is not None:
            # Without the lock, a write cancelled during its commit would be repeated and counted twice.
            async with self._writing:
                self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._write()

    async def _write_soon(self) -> None:
        while self._counted:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._write()

    async def _write(self) -> None:
        async with self._writing:
            batch = await write_bisecting(self._counted.items(), self._add, kind="download count")
            if batch.refused:
                log.error("could not count downloads", repositories=len(batch.refused), reason=batch.refused[0][1])
            if batch.error is not None:
                log.warning("could not record downloads yet", reason=error_summary(batch.error))
            # More downloads may have been counted meanwhile.
            self._counted -= Counter(dict([*batch.written, *(one for one, _ in batch.refused)]))

    async def _add(self, counted: list[tuple[tuple[RegionId, RepositoryName], int]]) -> None:
        # Sorted by key, so that two processes that write the same rows do not deadlock.
        rows = [
            {"region": region, "namespace": name.namespace, "name": name.repository, "downloads": number}
            for (region, name), number in sorted(counted)
        ]
        async with self._database.write() as session:
            await session.execute(_ADD, rows)
