"""The records of sync jobs: the only place that reads and writes their table."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, insert, select, update

from tagferry.copy.rewrite import Rewrite
from tagferry.db.engine import Database
from tagferry.db.tables import SyncJobRow
from tagferry.names import Digest, Namespace, RegionId, Repository, Tag
from tagferry.sync.model import FOLLOWING, JobChange, JobStart, JobStatus, SyncJob, SyncRequest


class Jobs:
    """Sync jobs on record. Changes that come at the same time share one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: list[JobChange] = []
        self._writing = asyncio.Lock()

    async def create(self, request: SyncRequest, starts: Sequence[JobStart]) -> dict[Tag, int]:
        """Record a job for each tag; returns their ids."""
        if not starts:
            return {}
        now = datetime.now(UTC)
        shared = {
            "request_id": request.id,
            "created_at": now,
            "updated_at": now,
            "domain_id": request.caller.domain_id,
            "domain_name": request.caller.domain_name,
            "operator_id": request.caller.user_id,
            "operator_name": request.caller.name,
            "source_region": request.source_region,
            "namespace": request.namespace,
            "repository": request.repository,
            "target_region": request.target_region,
            "target_namespace": request.target_namespace,
            "override": request.override,
        }
        rows = [
            shared
            | {
                "tag": start.tag,
                "status": start.status.value,
                "reason": start.reason,
                "digest": start.digest,
                "rewritten": _document(start.rewritten),
            }
            for start in starts
        ]
        async with self._database.write() as session:
            created = await session.execute(
                insert(SyncJobRow).returning(SyncJobRow.id, SyncJobRow.tag, sort_by_parameter_order=True), rows
            )
            return {Tag(tag): job_id for job_id, tag in created}

    async def change(self, change: JobChange) -> None:
        """Record a change; it is on disk when this returns. One that may not follow the job's state is dropped."""
        self._pending.append(change)
        async with self._writing:
            if change in self._pending:
                await self._write_pending()

    async def change_all(self, changes: Sequence[JobChange]) -> None:
        """Record several changes in one transaction."""
        async with self._writing:
            self._pending.extend(changes)
            await self._write_pending()

    async def _write_pending(self) -> None:
        batch, self._pending = self._pending, []
        try:
            async with self._database.write() as session:
                for change in batch:
                    await session.execute(
                        update(SyncJobRow)
                        .where(SyncJobRow.id == change.job_id, SyncJobRow.status.in_(_before(change.status)))
                        .values(updated_at=datetime.now(UTC), **_values(change))
                    )
        except BaseException:
            self._pending = batch + self._pending
            raise

    async def unfinished(self) -> list[SyncJob]:
        """The jobs that have not ended, oldest first."""
        open_states = [status.value for status in JobStatus if not status.has_ended]
        async with self._database.read() as session:
            rows = await session.scalars(
                select(SyncJobRow).where(SyncJobRow.status.in_(open_states)).order_by(SyncJobRow.id)
            )
            return [_job(row) for row in rows]

    async def of_repository(
        self,
        region: RegionId,
        namespace: Namespace,
        repository: Repository,
        *,
        limit: int,
        offset: int = 0,
        descending: bool = True,
        only: Collection[int] = (),
    ) -> tuple[list[SyncJob], int]:
        """A page of a repository's jobs, and how many there are in all.

        Args:
            region: the region that the images come from.
            namespace: the organization.
            repository: the repository.
            limit: jobs on the page.
            offset: jobs to skip.
            descending: newest first.
            only: ids to restrict the jobs to; empty means all.
        """
        conditions = [
            SyncJobRow.source_region == region,
            SyncJobRow.namespace == namespace,
            SyncJobRow.repository == repository,
        ]
        if only:
            conditions.append(SyncJobRow.id.in_(only))
        order = SyncJobRow.id.desc() if descending else SyncJobRow.id.asc()
        async with self._database.read() as session:
            total = await session.scalar(select(func.count()).select_from(SyncJobRow).where(*conditions))
            rows = await session.scalars(
                select(SyncJobRow).where(*conditions).order_by(order).limit(limit).offset(offset)
            )
            return [_job(row) for row in rows], total or 0


def _before(status: JobStatus) -> list[str]:
    stays = [] if status.has_ended else [status.value]
    return stays + [state.value for state, following in FOLLOWING.items() if status in following]


def _values(change: JobChange) -> dict[str, object]:
    values: dict[str, object] = {"status": change.status.value}
    for name in ("reason", "digest", "bytes_total", "bytes_done"):
        if (value := getattr(change, name)) is not None:
            values[name] = value
    if change.rewritten is not None:
        values["rewritten"] = _document(change.rewritten)
    return values


def _document(rewritten: Rewrite | None) -> dict[str, Any] | None:
    if rewritten is None:
        return None
    return {"digests": dict(rewritten.digests), "left_behind": list(rewritten.left_behind)}


def _rewritten(document: dict[str, Any] | None) -> Rewrite | None:
    if document is None:
        return None
    digests = {Digest(old): Digest(new) for old, new in document["digests"].items()}
    return Rewrite(digests=digests, left_behind=tuple(document["left_behind"]))


def _job(row: SyncJobRow) -> SyncJob:
    return SyncJob(
        id=row.id,
        request_id=row.request_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
        domain_id=row.domain_id,
        domain_name=row.domain_name,
        operator_id=row.operator_id,
        operator_name=row.operator_name,
        source_region=RegionId(row.source_region),
        namespace=Namespace(row.namespace),
        repository=Repository(row.repository),
        tag=Tag(row.tag),
        target_region=RegionId(row.target_region),
        target_namespace=Namespace(row.target_namespace),
        override=row.override,
        status=JobStatus(row.status),
        reason=row.reason,
        digest=Digest(row.digest) if row.digest else None,
        bytes_total=row.bytes_total,
        bytes_done=row.bytes_done,
        rewritten=_rewritten(row.rewritten),
    )
